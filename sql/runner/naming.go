package runner

import (
	"crypto/md5" // as in dbt's names of tests; it protects nothing
	"encoding/hex"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// fqn is a node's name with the project and the folders that it is in, as
// selectors and dbt's tools have it.
func (p *Project) fqn(n *Node) []string {
	parts := strings.Split(path.Dir(n.Path), "/")
	return append(append([]string{p.name}, parts[1:]...), n.Name)
}

func (p *Project) sourceFQN(name string) []string {
	parts := strings.Split(path.Dir(p.sources[name].path), "/")
	of, table, _ := strings.Cut(name, ".")
	return append(append([]string{p.name}, parts[1:]...), of, table)
}

// UniqueID is what artifacts call a node.
func (p *Project) UniqueID(n Node) string { return p.uniqueID(&n) }

// uniqueID is what dbt calls a node.
func (p *Project) uniqueID(n *Node) string {
	if n.isUnitTest() {
		return "unit_test." + p.name + "." + n.test.unit.model + "." + n.Name
	}
	id := string(n.Kind) + "." + p.name + "." + n.Name
	if n.Kind == Test && n.test.generic != "" {
		id += "." + n.test.hash()
	}
	return id
}

func (p *Project) sourceID(name string) string { return "source." + p.name + "." + name }

// unfit is what names of tests have no room for.
var unfit = regexp.MustCompile(`[^0-9a-zA-Z_]+`)

// synthesized is the name that dbt gives a generic test without one: what it
// tests, and its arguments.
func (t *testSpec) synthesized() string {
	var parts []string
	for _, key := range sortedKeys(t.arguments) {
		values := []any{t.arguments[key]}
		switch v := values[0].(type) {
		case []any:
			values = v
		case map[string]any:
			values = nil
			for _, key := range sortedKeys(v) {
				values = append(values, v[key])
			}
		}
		for _, value := range values {
			parts = append(parts, unfit.ReplaceAllString(pythonText(value), "_"))
		}
	}
	return t.generic + "_" + t.model + "_" + strings.Join(parts, "__")
}

// hash is what tells generic tests of one name apart, as dbt computes it.
func (t *testSpec) hash() string {
	kwargs := map[string]any{"model": modelArgument(t.model)}
	maps.Copy(kwargs, t.arguments)
	sum := md5.Sum([]byte(t.name + pythonRepr(map[string]any{"name": t.generic, "namespace": nil, "kwargs": kwargs})))
	return hex.EncodeToString(sum[:])[22:]
}

// modelArgument is how dbt writes what a generic test is about.
func modelArgument(model string) string { return "{{ get_where_subquery(ref('" + model + "')) }}" }

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }

// pythonText is str(value) in Python.
func pythonText(value any) string {
	switch v := value.(type) {
	case nil:
		return "None"
	case bool:
		if v {
			return "True"
		}
		return "False"
	case float64:
		text := strconv.FormatFloat(v, 'g', -1, 64)
		if !strings.ContainsAny(text, ".e") {
			text += ".0"
		}
		return text
	}
	return fmt.Sprint(value)
}

// pythonRepr is repr(value) in Python, with all but lists and mappings as texts.
func pythonRepr(value any) string {
	var parts []string
	switch v := value.(type) {
	case map[string]any:
		for _, key := range sortedKeys(v) {
			parts = append(parts, pythonRepr(key)+": "+pythonRepr(v[key]))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case []any:
		for _, element := range v {
			parts = append(parts, pythonRepr(element))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	text := pythonText(value)
	quote := "'"
	if strings.Contains(text, "'") && !strings.Contains(text, `"`) {
		quote = `"`
	}
	return quote + strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\t", `\t`, "\r", `\r`, quote, `\`+quote).Replace(text) + quote
}
