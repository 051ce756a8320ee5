package runner

import (
	_ "embed"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
)

// levelOfTemplates is the level of what templates log.
const levelOfTemplates = slog.LevelInfo

func templateAttrs(node *Node, message any) []slog.Attr {
	return []slog.Attr{slog.String("node", node.Name), slog.Any("text", message)}
}

// portableMacros are the macros of dbt that hide what dialects write differently.
//
//go:embed portable.sql
var portableMacros string

// portableNames are their names, without the dialect.
var portableNames = func() []string {
	var names []string
	for _, m := range regexp.MustCompile(`macro (?:duckdb|bigquery|default)__(\w+)`).FindAllStringSubmatch(portableMacros, -1) {
		names = append(names, m[1])
	}
	slices.Sort(names)
	return slices.Compact(names)
}()

// portable finds the macros of dbt for a dialect. As under dbt, a project's own
// goes before them.
func (s scope) portable() map[string]any {
	found := make(map[string]any, len(portableNames))
	for _, name := range portableNames {
		for _, candidate := range []string{s.dialect + "__" + name, "default__" + name, "dbt." + s.dialect + "__" + name, "dbt.default__" + name} {
			if s.project.engine.has(candidate) {
				found[name] = macroName(candidate)
				break
			}
		}
	}
	return found
}

func noPortable(name string) error {
	return fmt.Errorf("dbt.%s is not supported: write it in the folder macros, as in {%% macro duckdb__%[1]s(…) %%}, and call it by adapter.dispatch", name)
}
