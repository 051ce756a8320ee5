package runner

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// loadProperties reads a file of YAML about models, seeds and sources.
func (l *loader) loadProperties(file string) {
	f, root := readYAML(l.options.Dir, file)
	defer func() { l.problems = append(l.problems, f.problems...) }()
	if root == nil {
		return
	}
	for _, e := range f.entries(root, "the file", "version", "models", "seeds", "sources", "macros", "data_tests", "exposures", "groups", "unit_tests") {
		switch e.key {
		case "models":
			l.loadNodes(f, Model, e.node)
		case "seeds":
			l.loadNodes(f, Seed, e.node)
		case "data_tests":
			l.loadNodes(f, Test, e.node)
		case "sources":
			l.loadSources(f, e.node)
		case "unit_tests":
			l.options.Logger.Warn("unit tests run under dbt only", "path", file)
		}
	}
}

func (l *loader) loadNodes(f *yamlFile, kind Kind, node *yaml.Node) {
	for _, item := range f.list(node, string(kind)+"s") {
		p := properties{path: f.path, line: item.Line, config: config{}, configLines: map[string]int{}}
		name := ""
		entries := f.entries(item, "a "+string(kind), "name", "description", "config", "columns", "data_tests", "tests", "docs", "meta", "tags", "access", "group", "constraints", "latest_version", "versions", "deprecation_date")
		for _, e := range entries {
			if e.key == "name" {
				name = f.text(e.node, "name")
			}
		}
		for _, e := range entries {
			l.loadProperty(f, e, kind, name, &p)
		}
		key := string(kind) + " " + name
		if other, ok := l.properties[key]; ok {
			f.report(item, "the %s is described twice, also in %s:%d: remove one", key, other.path, other.line)
			continue
		}
		l.properties[key] = p
	}
}

func (l *loader) loadProperty(f *yamlFile, e entry, kind Kind, name string, p *properties) {
	switch e.key {
	case "description":
		p.description = strings.TrimSpace(f.text(e.node, "description"))
	case "config":
		for _, c := range f.entries(e.node, "config") {
			if wrong := checkConfigKey(c.key); wrong != "" {
				f.report(&yaml.Node{Line: c.line}, "%s", wrong)
				continue
			}
			p.config[c.key], p.configLines[c.key] = f.value(c.node), c.line
		}
	case "columns":
		for _, item := range f.list(e.node, "columns") {
			l.loadColumn(f, item, kind, name, p)
		}
	case "data_tests", "tests":
		for _, item := range f.list(e.node, e.key) {
			p.tests = append(p.tests, f.genericTest(item, name, "")...)
		}
	case "meta", "tags", "access", "group", "docs":
		f.report(&yaml.Node{Line: e.line}, "%q goes under config", e.key)
	case "constraints":
		f.report(&yaml.Node{Line: e.line}, noConstraints)
	case "versions", "latest_version":
		f.report(&yaml.Node{Line: e.line}, "versions of models are not supported: make a model of another name")
	}
}

// noConstraints is why a table has none: not every warehouse that takes them
// holds a table to them, so that a model would promise what only a test checks.
const noConstraints = "constraints are not supported, since BigQuery does not enforce them: use data_tests"

// dataType renders a data_type for each dialect.
func (l *loader) dataType(f *yamlFile, node *yaml.Node) map[string]string {
	types := map[string]string{}
	for _, dialect := range dialects {
		types[dialect] = strings.TrimSpace(l.renderText(f, node, dialect))
		if types[dialect] == "" || strings.ContainsAny(types[dialect], ";\n") {
			f.report(node, "data_type must be the name of a type, such as string or int64")
			return nil
		}
	}
	return types
}

func (l *loader) loadColumn(f *yamlFile, item *yaml.Node, kind Kind, model string, p *properties) {
	column := Column{path: f.path, line: item.Line}
	var tests []*yaml.Node
	for _, e := range f.entries(item, "a column", "name", "description", "data_type", "data_tests", "tests", "config", "quote", "constraints") {
		switch e.key {
		case "name":
			column.Name = f.text(e.node, "name")
		case "description":
			column.Description = strings.TrimSpace(f.text(e.node, "description"))
		case "data_type":
			column.types = l.dataType(f, e.node)
		case "constraints":
			f.report(&yaml.Node{Line: e.line}, noConstraints)
		case "data_tests", "tests":
			tests = f.list(e.node, e.key)
		}
	}
	if slices.ContainsFunc(p.columns, func(c Column) bool { return c.Name == column.Name }) {
		f.report(item, "the column %s of the %s %s is described twice: remove one", column.Name, kind, model)
		return
	}
	if !identifier.MatchString(column.Name) {
		f.report(item, "a column of the %s %s needs a name of letters, digits and _", kind, model)
		return
	}
	for _, test := range tests {
		p.tests = append(p.tests, f.genericTest(test, model, column.Name)...)
	}
	p.columns = append(p.columns, column)
}

// testArguments are the arguments of the tests that the runner has.
var testArguments = map[string][]string{
	"not_null":        nil,
	"unique":          nil,
	"accepted_values": {"values", "quote"},
	"relationships":   {"to", "field"},
	"unique_together": {"columns"},
}

// genericTest reads a test as YAML writes it: its name, or a mapping of its
// name to arguments and config.
func (f *yamlFile) genericTest(node *yaml.Node, model, column string) []*testSpec {
	spec := &testSpec{model: model, column: column, severity: severityError, path: f.path, line: node.Line, arguments: map[string]any{}}
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
	allowed, ok := testArguments[spec.generic]
	if !ok {
		f.report(node, "unknown test %q: write it as a query in the folder tests, which returns the rows that are wrong", spec.generic)
		return nil
	}
	for _, e := range f.entries(body, "the test "+spec.generic, "arguments", "config", "name", "description") {
		switch e.key {
		case "arguments":
			for _, argument := range f.entries(e.node, "the arguments of "+spec.generic, slices.Concat(allowed, []string{"column_name"})...) {
				spec.arguments[argument.key] = f.value(argument.node)
				f.testArgument(spec, argument)
			}
		case "config":
			f.testConfig(spec, e.node)
		case "name":
			spec.name = f.text(e.node, "name")
		}
	}
	if missing := spec.missing(); missing != "" {
		f.report(node, "the test %s needs %s, under arguments", spec.generic, missing)
		return nil
	}
	return []*testSpec{spec}
}

func (f *yamlFile) testArgument(spec *testSpec, e entry) {
	switch e.key {
	case "values":
		for _, item := range f.list(e.node, "values") {
			spec.values = append(spec.values, f.value(item))
		}
	case "quote":
		spec.unquoted = f.value(e.node) == false
	case "to":
		spec.to = f.text(e.node, "to")
	case "field":
		spec.field = f.text(e.node, "field")
	case "columns":
		spec.columns = f.texts(e.node, "columns")
	case "column_name":
		spec.column = f.text(e.node, "column_name")
	}
}

func (f *yamlFile) testConfig(spec *testSpec, node *yaml.Node) {
	for _, e := range f.entries(node, "the config of a test", "severity", "where", "tags", "meta", "enabled", "limit", "store_failures") {
		switch e.key {
		case "severity":
			spec.severity = strings.ToLower(f.text(e.node, "severity"))
			if spec.severity != severityError && spec.severity != severityWarn {
				f.report(e.node, "severity must be error or warn")
			}
		case "where":
			spec.where = f.text(e.node, "where")
		case "tags":
			spec.tags = f.texts(e.node, "tags")
		case "enabled":
			spec.disabled = f.value(e.node) == false
		}
	}
}

func (l *loader) loadSources(f *yamlFile, node *yaml.Node) {
	for _, item := range f.list(node, "sources") {
		var name, schema, description string
		var tables []*yaml.Node
		for _, e := range f.entries(item, "a source", "name", "description", "schema", "database", "tables", "config", "loader", "loaded_at_field", "freshness", "quoting", "data_tests") {
			switch e.key {
			case "name":
				name = f.text(e.node, "name")
			case "description":
				description = strings.TrimSpace(f.text(e.node, "description"))
			case "schema":
				schema = l.renderText(f, e.node, "duckdb")
			case "tables":
				tables = f.list(e.node, "tables")
			}
		}
		if schema == "" {
			schema = name
		}
		if !identifier.MatchString(schema) {
			f.report(item, "the schema %q of the source %s must be letters, digits and _", schema, name)
			continue
		}
		for _, table := range tables {
			l.loadSourceTable(f, table, name, source{schema: schema, path: f.path, of: description})
		}
	}
}

func (l *loader) loadSourceTable(f *yamlFile, node *yaml.Node, of string, s source) {
	name := ""
	for _, e := range f.entries(node, "a table of a source", "name", "description", "identifier", "columns", "config", "loaded_at_field", "freshness", "data_tests", "tests", "quoting") {
		switch e.key {
		case "name":
			name = f.text(e.node, "name")
		case "description":
			s.description = strings.TrimSpace(f.text(e.node, "description"))
		case "identifier":
			s.table = f.text(e.node, "identifier")
		case "columns":
			s.columns = l.sourceColumns(f, e.node)
		}
	}
	if s.table == "" {
		s.table = name
	}
	if !identifier.MatchString(s.table) {
		f.report(node, "the name of a table of the source %s must be letters, digits and _", of)
		return
	}
	l.sources[of+"."+name] = s
}

// sourceColumns reads what is said of the columns of a source's table.
func (l *loader) sourceColumns(f *yamlFile, node *yaml.Node) []Column {
	var columns []Column
	for _, item := range f.list(node, "columns") {
		var c Column
		for _, e := range f.entries(item, "a column") {
			switch e.key {
			case "name":
				c.Name = f.text(e.node, "name")
			case "description":
				c.Description = strings.TrimSpace(f.text(e.node, "description"))
			case "data_type":
				c.types = l.dataType(f, e.node)
			}
		}
		columns = append(columns, c)
	}
	return columns
}

// renderText renders a text of YAML for a dialect. It may use vars and target.
func (l *loader) renderText(f *yamlFile, node *yaml.Node, dialect string) string {
	text := f.text(node, "the text")
	if !strings.Contains(text, "{{") {
		return text
	}
	parsed, problems := l.engine.parse(f.path, text)
	if len(problems) > 0 {
		f.report(node, "%s", problems[0].Message)
		return ""
	}
	scope := scope{project: l.Project, node: &Node{Path: f.path}, occasion: occasion{dialect: dialect}, seen: &references{}}
	rendered, err := parsed.render(scope.globals())
	if err != nil {
		f.report(node, "%s", asProblem(f.path, err).Message)
	}
	return rendered
}

var (
	refText    = regexp.MustCompile(`^\s*ref\(\s*['"](\w+)['"]\s*\)\s*$`)
	sourceText = regexp.MustCompile(`^\s*source\(\s*['"](\w+)['"]\s*,\s*['"](\w+)['"]\s*\)\s*$`)
)

// attachTests makes nodes of the tests that YAML declares.
func (l *loader) attachTests() {
	for _, p := range l.properties {
		for _, spec := range p.tests {
			if _, ok := l.nodes[spec.model]; ok && !spec.disabled {
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
		Name: spec.name, Kind: Test, Path: spec.path, DependsOn: []string{spec.model}, describedIn: spec.path,
		config: config{"severity": spec.severity, "tags": spec.tags}, test: spec, Tags: spec.tags,
	}
	if spec.to != "" {
		if m := refText.FindStringSubmatch(spec.to); m != nil {
			if _, ok := l.nodes[m[1]]; !ok {
				l.problem(spec.path, spec.line, "there is no model %q to refer to", m[1])
			}
			spec.parent = relation(m[1])
			node.DependsOn = append(node.DependsOn, m[1])
		} else if m := sourceText.FindStringSubmatch(spec.to); m != nil {
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
	if other, ok := l.nodes[node.Name]; ok {
		l.problem(spec.path, spec.line, "the test %s is there twice, also in %s: remove one", node.Name, fmt.Sprintf("%s:%d", other.Path, other.testLine()))
		return
	}
	l.nodes[node.Name] = node
}

func (n *Node) testLine() int {
	if n.test == nil {
		return 0
	}
	return n.test.line
}
