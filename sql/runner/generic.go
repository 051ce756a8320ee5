package runner

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A generic test is a macro that returns a query for the rows that are wrong,
// given a model and arguments: {% test name(model, column_name) %}. Four the
// runner has itself, as dbt does; a project may have others, and its own of
// these names.

// builtinTests are the arguments of the tests that the runner has, beside
// column_name, and which of them there must be.
var builtinTests = map[string]struct{ may, must []string }{
	"not_null":        {nil, []string{"column_name"}},
	"unique":          {nil, []string{"column_name"}},
	"accepted_values": {[]string{"values", "quote"}, []string{"column_name", "values"}},
	"relationships":   {[]string{"to", "field"}, []string{"column_name", "to", "field"}},
}

// testMacro begins the name of the macro that a generic test is, as in dbt.
const testMacro = "test_"

// genericTest reads a test as YAML writes it: its name, or a mapping of its
// name to arguments and config.
func (f *yamlFile) genericTest(node *yaml.Node, model, column string) []*testSpec {
	spec := &testSpec{model: model, column: column, path: f.path, line: node.Line, arguments: map[string]any{}, config: config{}}
	if column != "" {
		spec.arguments["column_name"] = column
	}
	var body *yaml.Node
	if node.Kind == yaml.ScalarNode {
		spec.generic = node.Value
	} else if entries := f.entries(node, "a test"); len(entries) == 1 {
		spec.generic, body = entries[0].key, entries[0].node
	} else {
		f.report(node, "a test must be a name, or one name with its arguments")
		return nil
	}
	for _, e := range f.entries(body, "the test "+spec.generic, "arguments", "config", "name", "description") {
		switch e.key {
		case "arguments":
			for _, argument := range f.entries(e.node, "the arguments of "+spec.generic) {
				spec.arguments[argument.key] = f.value(argument.node)
			}
		case "config":
			for _, c := range f.entries(e.node, "the config of a test", testConfigKeys...) {
				spec.config[c.key] = f.value(c.node)
			}
		case "name":
			spec.name = f.text(e.node, "name")
		}
	}
	if name, ok := spec.arguments["column_name"].(string); ok {
		spec.column = name
	}
	return []*testSpec{spec}
}

// attachTests makes nodes of the tests that YAML declares.
func (l *loader) attachTests() {
	for _, p := range l.properties {
		for _, spec := range p.tests {
			if _, ok := l.nodes[spec.model]; ok {
				l.attachTest(spec)
			}
		}
	}
}

func (l *loader) attachTest(spec *testSpec) {
	if spec.name == "" {
		spec.name = spec.synthesized()
	}
	node := &Node{
		Name: spec.name, Kind: Test, Path: spec.path, describedIn: spec.path, test: spec,
		config: l.settings.folderConfig(Test, spec.path).merge(spec.config),
	}
	before := len(l.problems)
	if where := node.config.text("where"); where != "" {
		spec.where = map[string]string{}
		for _, dialect := range dialects {
			spec.where[dialect] = l.renderInline(spec.path, spec.line, where, dialect)
		}
	}
	if l.isBuiltin(spec.generic) {
		l.attachBuiltin(node)
	} else {
		l.attachMacro(node)
	}
	for _, fault := range node.readTestConfig() {
		l.problem(spec.path, spec.line, "the test %s: %s", spec.generic, fault.message)
	}
	for i := range l.problems[before:] {
		if problem := &l.problems[before+i]; problem.Path == spec.path {
			problem.Line = spec.line // the line within what the macro is called with
		}
	}
	if !node.config.enabled() {
		return
	}
	if other, ok := l.nodes[node.Name]; ok {
		l.problem(spec.path, spec.line, "the test %s is there twice, also in %s: remove one", node.Name, fmt.Sprintf("%s:%d", other.Path, other.testLine()))
		return
	}
	l.nodes[node.Name] = node
}

// isBuiltin tells a test that the runner has from those of the project, which
// go before it.
func (l *loader) isBuiltin(generic string) bool {
	_, ok := builtinTests[generic]
	return ok && !l.engine.has(testMacro+generic)
}

// attachBuiltin checks what a test of the runner's own is given.
func (l *loader) attachBuiltin(node *Node) {
	spec := node.test
	known := builtinTests[spec.generic]
	for _, name := range slices.Sorted(maps.Keys(spec.arguments)) {
		if name != "column_name" && !slices.Contains(known.may, name) {
			l.problem(spec.path, spec.line, "the test %s has no argument %q: it may have %s", spec.generic, name, strings.Join(slices.Concat(known.must, known.may), ", "))
		}
	}
	for _, name := range known.must {
		if value, ok := spec.arguments[name]; !ok || value == nil || value == "" {
			l.problem(spec.path, spec.line, "the test %s needs %s, under arguments", spec.generic, name)
			return
		}
	}
	node.DependsOn = []string{spec.model}
	switch spec.generic {
	case "accepted_values":
		values, ok := spec.arguments["values"].([]any)
		if !ok || len(values) == 0 {
			l.problem(spec.path, spec.line, "the test accepted_values needs a list of values")
		}
		spec.values, spec.unquoted = values, spec.arguments["quote"] == false
	case "relationships":
		spec.field = fmt.Sprint(spec.arguments["field"])
		l.attachParent(node, fmt.Sprint(spec.arguments["to"]))
	}
}

var (
	refText    = regexp.MustCompile(`^\s*ref\(\s*['"](\w+)['"]\s*\)\s*$`)
	sourceText = regexp.MustCompile(`^\s*source\(\s*['"](\w+)['"]\s*,\s*['"](\w+)['"]\s*\)\s*$`)
)

// attachParent finds the relation that a test of relationships looks things up in.
func (l *loader) attachParent(node *Node, to string) {
	spec := node.test
	if m := refText.FindStringSubmatch(to); m != nil {
		if _, ok := l.nodes[m[1]]; !ok {
			l.problem(spec.path, spec.line, "there is no model %q to refer to", m[1])
		}
		spec.parent = relation(m[1])
		node.DependsOn = append(node.DependsOn, m[1])
	} else if m := sourceText.FindStringSubmatch(to); m != nil {
		s, ok := l.sources[m[1]+"."+m[2]]
		if !ok {
			l.problem(spec.path, spec.line, "there is no source %s.%s", m[1], m[2])
		}
		spec.parent = s.schema + "." + s.table
		node.sources = []string{m[1] + "." + m[2]}
	} else {
		l.problem(spec.path, spec.line, "to must be ref('…') or source('…', '…')")
	}
}

// attachMacro makes a template of a call of the macro that a test is, and
// renders it once to learn its config and what it refers to.
func (l *loader) attachMacro(node *Node) {
	spec := node.test
	if !l.engine.has(testMacro + spec.generic) {
		l.problem(spec.path, spec.line, "unknown test %q: write it as {%% test %[1]s(model) %%} in the folder macros, or as a query in the folder tests, which returns the rows that are wrong", spec.generic)
		return
	}
	call := testCall{values: map[string]any{}, where: spec.where}
	var problems []Problem
	if call.template, problems = l.engine.parse(spec.path, call.text(spec)); len(problems) > 0 {
		l.problems = append(l.problems, problems...)
		return
	}
	given := node.config
	node.template, node.config = call, config{}
	l.inspect(node)
	node.config = node.config.merge(given) // what YAML says goes before what the macro says
	node.DependsOn = append(node.DependsOn, spec.model)
}

// testCall is the template of a generic test: a call of its macro, and the
// values of what it is given.
type testCall struct {
	template
	values map[string]any
	where  map[string]string
}

func (c testCall) render(globals map[string]any) (string, error) {
	all := maps.Clone(globals)
	maps.Copy(all, c.values)
	if target, ok := globals["target"].(object); ok {
		all["_where"] = c.where[target.text]
	}
	return c.template.render(all)
}

var (
	// looksCalled is a text that dbt takes for Jinja without its braces.
	looksCalled = regexp.MustCompile(`^\s*(env_var|ref|var|source|doc)\s*\(.+\)\s*$`)
	// wholeJinja is a text that is one expression.
	wholeJinja = regexp.MustCompile(`(?s)^\s*\{\{(.*)\}\}\s*$`)
)

// text writes the call. Values are named, since not all can be written; what is
// an expression is written.
func (c testCall) text(spec *testSpec) string {
	var b strings.Builder
	model := "ref('" + spec.model + "')"
	if spec.where != nil {
		model = "'(select * from ' ~ " + model + " ~ ' where ' ~ _where ~ ') dbt_subquery'"
	}
	fmt.Fprintf(&b, "{{ %s%s(model=%s", testMacro, spec.generic, model)
	for _, name := range sortedKeys(spec.arguments) {
		value := spec.arguments[name]
		text, isText := value.(string)
		whole := wholeJinja.FindStringSubmatch(text)
		switch {
		case isText && name != "column_name" && looksCalled.MatchString(text):
			fmt.Fprintf(&b, ", %s=%s", name, strings.TrimSpace(text))
		case isText && whole != nil && !strings.Contains(whole[1], "{{"):
			fmt.Fprintf(&b, ", %s=%s", name, strings.TrimSpace(whole[1]))
		default:
			c.values["_"+name] = value
			fmt.Fprintf(&b, ", %s=_%s", name, name)
		}
	}
	return b.String() + ") }}"
}
