package runner

import (
	"regexp"
	"slices"
)

// macro is a macro of the project, as the manifest has it.
type macro struct {
	name, path, sql string
	calls           []string // names of what it calls, which may be macros
}

var (
	macroText = regexp.MustCompile(`(?s)\{%-?\s*(macro|test|materialization)\s+(\w+)(.*?)\{%-?\s*end(macro|test|materialization)\s*-?%\}`)
	called    = regexp.MustCompile(`dispatch\(\s*['"](\w+)['"]|(\w+)\s*\(`)
	jinjaText = regexp.MustCompile(`(?s)\{\{.*?\}\}|\{%.*?%\}`)
)

// macrosIn finds the macros of a file.
func macrosIn(file, source string) map[string]macro {
	found := map[string]macro{}
	for _, m := range macroText.FindAllStringSubmatch(source, -1) {
		name := m[2]
		switch m[1] {
		case "test":
			name = "test_" + name
		case "materialization":
			name = "materialization_" + name
		}
		found[name] = macro{name: name, path: file, sql: m[0], calls: callsIn(m[0])}
	}
	return found
}

// callsIn lists what the Jinja of a template calls, or has adapter.dispatch choose.
func callsIn(source string) []string {
	var calls []string
	for _, jinja := range jinjaText.FindAllString(source, -1) {
		for _, m := range called.FindAllStringSubmatch(jinja, -1) {
			calls = append(calls, m[1]+m[2])
		}
	}
	slices.Sort(calls)
	return slices.Compact(calls)
}

// macrosOf lists the macros that calls are of, with those of each dialect that
// adapter.dispatch may choose. It names one too many rather than one too few:
// what may have changed counts as changed.
func (p *Project) macrosOf(calls []string, but string) []string {
	var names []string
	for _, w := range calls {
		for _, name := range []string{w, "default__" + w, "duckdb__" + w, "bigquery__" + w} {
			if _, ok := p.macros[name]; ok && name != but {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
