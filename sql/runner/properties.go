package runner

import (
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
			l.loadUnitTests(f, e.node)
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

func (l *loader) loadSources(f *yamlFile, node *yaml.Node) {
	for _, item := range f.list(node, "sources") {
		var name, schema, description string
		var tables []*yaml.Node
		var said [2]loading // of the source as such, and in its config
		for _, e := range f.entries(item, "a source", "name", "description", "schema", "database", "tables", "config", "loader", "loaded_at_field", "loaded_at_query", "freshness", "quoting", "data_tests") {
			switch e.key {
			case "name":
				name = f.text(e.node, "name")
			case "description":
				description = strings.TrimSpace(f.text(e.node, "description"))
			case "schema":
				schema = l.renderText(f, e.node, "duckdb")
			case "tables":
				tables = f.list(e.node, "tables")
			case "freshness", "loaded_at_field", "loaded_at_query":
				l.loadLoading(f, e, &said[0])
			case "config":
				l.loadSourceConfig(f, e.node, &said[1])
			case "data_tests":
				f.report(&yaml.Node{Line: e.line}, noSourceTests, e.key)
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
			l.loadSourceTable(f, table, name, source{schema: schema, path: f.path, of: description}, said)
		}
	}
}

func (l *loader) loadSourceTable(f *yamlFile, node *yaml.Node, of string, s source, said [2]loading) {
	name := ""
	var own [2]loading // of the table as such, and in its config
	for _, e := range f.entries(node, "a table of a source", "name", "description", "identifier", "columns", "config", "loaded_at_field", "loaded_at_query", "freshness", "data_tests", "tests", "quoting") {
		switch e.key {
		case "name":
			name = f.text(e.node, "name")
		case "description":
			s.description = strings.TrimSpace(f.text(e.node, "description"))
		case "identifier":
			s.table = f.text(e.node, "identifier")
		case "columns":
			s.columns = l.sourceColumns(f, e.node)
		case "freshness", "loaded_at_field", "loaded_at_query":
			l.loadLoading(f, e, &own[0])
		case "config":
			l.loadSourceConfig(f, e.node, &own[1])
		case "data_tests", "tests":
			f.report(&yaml.Node{Line: e.line}, noSourceTests, e.key)
		}
	}
	s.freshness = l.freshnessOf(f, node, said, own)
	if s.table == "" {
		s.table = name
	}
	if !identifier.MatchString(s.table) {
		f.report(node, "the name of a table of the source %s must be letters, digits and _", of)
		return
	}
	l.sources[of+"."+name] = s
}

// noSourceTests is why sources have none: one that is not run would be taken for
// one that passed.
const noSourceTests = "%s of a source is not looked at: test the model that reads it, or write a query in the folder tests"

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
			case "data_tests", "tests":
				f.report(&yaml.Node{Line: e.line}, noSourceTests, e.key)
			}
		}
		columns = append(columns, c)
	}
	return columns
}

// renderText renders a text of YAML for a dialect. It may use vars and target.
func (l *loader) renderText(f *yamlFile, node *yaml.Node, dialect string) string {
	return l.renderInline(f.path, node.Line, f.text(node, "the text"), dialect)
}

func (l *loader) renderInline(path string, line int, text, dialect string) string {
	if !strings.Contains(text, "{{") {
		return text
	}
	this := inline{path, text, dialect}
	if rendered, ok := l.rendered[this]; ok { // types of columns are often the same
		return rendered
	}
	parsed, problems := l.engine.parse(path, text)
	if len(problems) > 0 {
		l.problem(path, line, "%s", problems[0].Message)
		return ""
	}
	scope := scope{project: l.Project, node: &Node{Path: path}, occasion: occasion{dialect: dialect}, seen: &references{}}
	rendered, err := parsed.render(scope.globals())
	if err != nil {
		l.problem(path, line, "%s", asProblem(path, err).Message)
		return ""
	}
	l.rendered[this] = rendered
	return rendered
}

func (n *Node) testLine() int {
	if n.test == nil {
		return 0
	}
	return n.test.line
}
