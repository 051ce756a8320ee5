package runner

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// unitTest is what YAML declares under unit_tests, as dbt has it: the rows that
// a model is given, and those that its query must return of them. Nothing of the
// warehouse is read but the types of columns, and nothing is written.
type unitTest struct {
	model     string
	given     []unitInput
	expect    unitRows
	overrides unitOverrides
}

// unitInput are the rows of one thing that the model reads.
type unitInput struct {
	input  string // ref('…'), source('…', '…') or this
	node   string // of a ref, or the model itself; empty for a source
	of     string // of a source, as "source.table"
	stated bool   // it has rows or a fixture, which only a seed has by itself
	unitRows
}

// unitRows are rows of YAML, of CSV or of a query.
type unitRows struct {
	columns []string // of the first row, in order
	rows    []map[string]cell
	sql     string // in place of rows
	line    int
}

// cell is a value as YAML or CSV writes it.
type cell struct {
	text   string
	isText bool // and not a number or a bool
	isNull bool
	list   []cell
	fields []field // of a struct
}

type field struct {
	name  string
	value cell
}

type unitOverrides struct {
	macros, vars map[string]any
	env          map[string]string
}

// loadUnitTests reads the unit tests of a file.
func (l *loader) loadUnitTests(f *yamlFile, node *yaml.Node) {
	for _, item := range f.list(node, "unit_tests") {
		n := &Node{Kind: Test, Path: f.path, describedIn: f.path, config: config{}}
		spec := &testSpec{path: f.path, line: item.Line, unit: &unitTest{}}
		n.test = spec
		for _, e := range f.entries(item, "a unit test", "name", "description", "model", "given", "expect", "overrides", "config", "versions") {
			l.loadUnitTest(f, e, n)
		}
		n.Name = spec.name
		switch {
		case !identifier.MatchString(n.Name):
			f.report(item, "a unit test needs a name of letters, digits and _")
		case spec.unit.model == "":
			f.report(item, "the unit test %s must say of which model it is", n.Name)
		case spec.unit.expect.line == 0:
			f.report(item, "the unit test %s must say what to expect, with rows", n.Name)
		default:
			l.unitTests = append(l.unitTests, n)
		}
	}
}

func (l *loader) loadUnitTest(f *yamlFile, e entry, n *Node) {
	unit := n.test.unit
	switch e.key {
	case "name":
		n.test.name = f.text(e.node, "name")
	case "description":
		n.Description = strings.TrimSpace(f.text(e.node, "description"))
	case "model":
		unit.model = f.text(e.node, "model")
	case "given":
		for _, item := range f.list(e.node, "given") {
			if in, ok := l.unitInput(f, item, n); ok {
				unit.given = append(unit.given, in)
			}
		}
	case "expect":
		unit.expect = l.unitRows(f, e.node, "expect", f.entries(e.node, "expect", "rows", "format", "fixture"))
		first := unit.expect.columns
		for _, row := range unit.expect.rows {
			if len(row) != len(first) || slices.ContainsFunc(first, func(c string) bool { _, ok := row[c]; return !ok }) {
				f.report(e.node, "expect must have the same columns in each row, since only those of the first are compared")
				break
			}
		}
	case "overrides":
		unit.overrides = f.unitOverrides(e.node)
	case "config":
		for _, c := range f.entries(e.node, "the config of a unit test", "tags", "meta", "enabled") {
			n.config[c.key] = f.value(c.node)
		}
	case "versions":
		f.report(&yaml.Node{Line: e.line}, "versions of models are not supported: make a model of another name")
	}
}

func (l *loader) unitInput(f *yamlFile, item *yaml.Node, n *Node) (unitInput, bool) {
	entries := f.entries(item, "an input", "input", "rows", "format", "fixture")
	in := unitInput{unitRows: l.unitRows(f, item, "given", entries)}
	for _, e := range entries {
		if e.key == "input" {
			in.input = strings.TrimSpace(f.text(e.node, "input"))
		}
		in.stated = in.stated || e.key == "rows" || e.key == "fixture"
	}
	if m := refText.FindStringSubmatch(in.input); m != nil {
		in.node = m[1]
	} else if m := sourceText.FindStringSubmatch(in.input); m != nil {
		in.of = m[1] + "." + m[2]
	} else if in.input == "this" {
		in.node = "this"
	} else {
		f.report(item, "input must be ref('…'), source('…', '…') or this")
		return in, false
	}
	return in, true
}

// unitRows reads rows in one of dbt's formats: dict, csv or sql, in the file or
// in one of the folder fixtures.
func (l *loader) unitRows(f *yamlFile, node *yaml.Node, what string, entries []entry) unitRows {
	r := unitRows{line: node.Line}
	format, fixture := "dict", ""
	var rows *yaml.Node
	for _, e := range entries {
		switch e.key {
		case "format":
			format = strings.ToLower(f.text(e.node, "format"))
		case "fixture":
			fixture = f.text(e.node, "fixture")
		case "rows":
			rows = e.node
		}
	}
	text := ""
	switch {
	case format == "dict" && fixture != "":
		f.report(node, "%s: a fixture is a file of the format csv or sql: say which", what)
		return r
	case format == "dict":
		r.readRows(f, rows)
		return r
	case format != "csv" && format != "sql":
		f.report(node, "%s: the format %q is not dict, csv or sql", what, format)
		return r
	case fixture != "":
		text = l.fixture(f, node, fixture, format)
	case rows != nil:
		text = f.text(rows, "rows")
	}
	if format == "sql" {
		r.sql = strings.TrimRight(strings.TrimSpace(text), ";")
		return r
	}
	r.readCSV(f, node, text)
	return r
}

// fixture reads tests/fixtures/name.csv, or .sql.
func (l *loader) fixture(f *yamlFile, node *yaml.Node, name, format string) string {
	for _, folder := range l.testFolders("fixtures") {
		content, err := fs.ReadFile(l.options.Dir, path.Join(folder, strings.TrimSuffix(name, "."+format)+"."+format))
		if err == nil {
			return string(content)
		}
	}
	f.report(node, "there is no fixture %s.%s in %s", name, format, strings.Join(l.testFolders("fixtures"), ", "))
	return ""
}

func (r *unitRows) readRows(f *yamlFile, node *yaml.Node) {
	for i, item := range f.list(node, "rows") {
		row := map[string]cell{}
		for _, e := range f.entries(item, "a row") {
			name := strings.ToLower(e.key)
			row[name] = cellOf(e.node)
			if i == 0 {
				r.columns = append(r.columns, name)
			}
		}
		r.rows = append(r.rows, row)
	}
}

// cellOf keeps a number as it is written, so that no digit gets lost.
func cellOf(node *yaml.Node) cell {
	node = resolve(node)
	switch node.Kind { //nolint:exhaustive // all others are scalars
	case yaml.SequenceNode:
		c := cell{list: []cell{}}
		for _, item := range node.Content {
			c.list = append(c.list, cellOf(item))
		}
		return c
	case yaml.MappingNode:
		c := cell{fields: []field{}}
		for i := 0; i+1 < len(node.Content); i += 2 {
			c.fields = append(c.fields, field{node.Content[i].Value, cellOf(node.Content[i+1])})
		}
		return c
	}
	switch node.Tag {
	case "!!null":
		return cell{isNull: true}
	case "!!int", "!!float", "!!bool":
		return cell{text: strings.ToLower(node.Value)}
	}
	return cell{text: node.Value, isText: true}
}

// readCSV reads rows whose first line names the columns; an empty field is NULL.
func (r *unitRows) readCSV(f *yamlFile, node *yaml.Node, text string) {
	reader := csv.NewReader(strings.NewReader(strings.TrimSpace(text)))
	reader.TrimLeadingSpace = true
	all, err := reader.ReadAll()
	if err != nil || len(all) == 0 {
		f.report(node, "the rows are not CSV with a first line that names the columns: %v", err)
		return
	}
	for _, name := range all[0] {
		r.columns = append(r.columns, strings.ToLower(strings.TrimSpace(name)))
	}
	for _, record := range all[1:] {
		row := map[string]cell{}
		for i, value := range record {
			row[r.columns[i]] = cell{text: value, isText: true, isNull: value == ""}
		}
		r.rows = append(r.rows, row)
	}
}

func (f *yamlFile) unitOverrides(node *yaml.Node) unitOverrides {
	o := unitOverrides{macros: map[string]any{}, vars: map[string]any{}, env: map[string]string{}}
	for _, e := range f.entries(node, "overrides", "macros", "vars", "env_vars") {
		for _, own := range f.entries(e.node, e.key) {
			switch e.key {
			case "macros":
				o.macros[own.key] = f.value(own.node)
			case "vars":
				o.vars[own.key] = f.value(own.node)
			case "env_vars":
				o.env[own.key] = fmt.Sprint(f.value(own.node))
			}
		}
	}
	return o
}

// attachUnitTests makes nodes of the unit tests, once all models are known.
func (l *loader) attachUnitTests() {
	for _, n := range l.unitTests {
		before := len(l.problems)
		l.checkUnitTest(n)
		if len(l.problems) > before || !n.config.enabled() {
			continue
		}
		n.DependsOn, n.Tags = []string{n.test.unit.model}, asTexts(n.config["tags"])
		n.config["severity"] = severityError
		if other, ok := l.nodes[n.Name]; ok {
			l.problem(n.Path, n.test.line, "the unit test %s: the name is taken by %s", n.Name, other.Path)
			continue
		}
		l.nodes[n.Name] = n
	}
}

func (l *loader) checkUnitTest(n *Node) {
	unit := n.test.unit
	report := func(format string, args ...any) {
		l.problem(n.Path, n.test.line, "the unit test %s: "+format, append([]any{n.Name}, args...)...)
	}
	model, ok := l.nodes[unit.model]
	switch {
	case !ok || model.Kind != Model:
		report("there is no model %q", unit.model)
		return
	case model.Materialized == Fixpoint:
		report("%s is a fixpoint, whose result is not that of its query: test it by what it builds", unit.model)
		return
	}
	given := map[string]bool{}
	for i := range unit.given {
		in := &unit.given[i]
		if in.node == "this" {
			in.node = unit.model
		}
		if given[in.node+in.of] {
			report("%s is given twice", in.input)
		}
		given[in.node+in.of] = true
		if (in.of == "" || !slices.Contains(model.sources, in.of)) && in.node != unit.model && !slices.Contains(model.DependsOn, in.node) {
			report("%s does not read %s", unit.model, in.input)
		}
		if node := l.nodes[in.node]; node != nil && node.Kind == Seed && !in.stated {
			in.readCSV(&yamlFile{path: node.Path}, &yaml.Node{}, node.source)
		}
	}
	if _, said := unit.overrides.macros["is_incremental"].(bool); model.Materialized == Incremental && !said {
		report("%s adds to a table: say under overrides, macros, whether is_incremental is true, as dbt wants it", unit.model)
	}
	if unit.overrides.macros["is_incremental"] == true && !given[unit.model] {
		report("what adds to a table reads it: give this")
	}
	for _, on := range readsOf(model) {
		if !given[on] {
			report("%s reads %s, which is not given: add it, with rows: [] if it is to be empty", unit.model, on)
		}
	}
}

// readsOf lists what the query of a model reads. An audience depends on its
// people's consent also where its query does not read that.
func readsOf(model *Node) []string {
	reads := slices.Concat(model.DependsOn, model.sources)
	if model.Audience != nil {
		i := slices.Index(reads, consentModel)
		reads = slices.Delete(reads, i, i+1)
	}
	slices.Sort(reads)
	return slices.Compact(reads)
}

// runUnitTest compares what a model makes of the given rows with what is
// expected. The order of rows is of no meaning.
func (p *Project) runUnitTest(ctx context.Context, d warehouse.Driver, node *Node) NodeResult {
	var diff string
	result := timed(node, Passed, func() (int64, string, error) {
		query, columns, err := p.unitQuery(ctx, d, node)
		if err != nil {
			return -1, "", err
		}
		if err := p.keep(node, query); err != nil {
			return -1, "", err
		}
		rows, err := warehouse.Collect(ctx, d, query)
		if err != nil {
			return -1, "", err
		}
		var wrong int64
		diff, wrong = unitDiff(columns, rows)
		return wrong, "", nil
	})
	if result.Status == Passed && result.Rows > 0 {
		result.Status, result.Message = Failed, diff
	}
	return result
}

// typed is a column with its type in the words of a warehouse.
type typed struct{ name, kind string }

// unitQuery is the query of all rows that the model makes of what is given, and
// of all that are expected, and the columns that are compared.
func (p *Project) unitQuery(ctx context.Context, d warehouse.Driver, node *Node) (string, []string, error) {
	unit := node.test.unit
	var with []string
	names := map[string]string{}
	for i, in := range unit.given {
		columns, err := p.typesOfInput(ctx, d, in)
		if err != nil {
			return "", nil, fmt.Errorf("%s: %w", in.input, err)
		}
		rows, err := in.query(d.Dialect(), columns, columnNames(columns))
		if err != nil {
			return "", nil, Problem{Path: node.Path, Line: in.line, Message: in.input + " " + err.Error()}
		}
		name := fmt.Sprintf("given_%d", i+1)
		names[in.node+in.of] = name
		with = append(with, name+" as (\n"+rows+"\n)")
	}
	query, err := p.unitModel(ctx, d, unit, names)
	if err != nil {
		return "", nil, err
	}
	prefix := ""
	if len(with) > 0 {
		prefix = "with " + strings.Join(with, ",\n") + "\n"
	}
	columns, err := p.typesOfModel(ctx, d, p.nodes[unit.model], prefix+"select * from (\n"+query+"\n) as m")
	if err != nil {
		return "", nil, err
	}
	compared := unit.expect.columns
	if len(compared) == 0 {
		compared = columnNames(columns)
	}
	expected, err := unit.expect.query(d.Dialect(), columns, compared)
	if err != nil {
		return "", nil, Problem{Path: node.Path, Line: unit.expect.line, Message: unit.model + " " + err.Error()}
	}
	list := strings.Join(quoteAll(d.Dialect(), compared), ", ")
	return fmt.Sprintf("%sselect 'actual' as actual_or_expected, %s from (\n%s\n) as actual\nunion all\nselect 'expected' as actual_or_expected, %s from (\n%s\n) as expected",
		prefix, list, query, list, expected), compared, nil
}

// typesOfInput are the columns of what a model reads: by its contract, or as it
// is in the warehouse.
func (p *Project) typesOfInput(ctx context.Context, d warehouse.Driver, in unitInput) ([]typed, error) {
	from := relation(in.node)
	if in.of != "" {
		from = p.sources[in.of].schema + "." + p.sources[in.of].table
	}
	return p.typesOfModel(ctx, d, p.nodes[in.node], "select * from "+from)
}

func (p *Project) typesOfModel(ctx context.Context, d warehouse.Driver, node *Node, query string) ([]typed, error) {
	var columns []typed
	if node != nil && node.EnforcesContract() {
		for _, c := range node.Columns {
			columns = append(columns, typed{strings.ToLower(c.Name), c.TypeIn(d.Dialect())})
		}
		return columns, nil
	}
	described, err := d.Describe(ctx, query)
	if err != nil {
		return nil, err
	}
	for _, c := range described {
		columns = append(columns, typed{strings.ToLower(c.Name), string(c.Type)})
	}
	return columns, nil
}

func columnNames(columns []typed) []string {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.name
	}
	return names
}

// query writes rows as a query of the wanted columns. What a row does not say
// is NULL.
func (r unitRows) query(dialect string, columns []typed, wanted []string) (string, error) {
	if r.sql != "" {
		return r.sql, nil
	}
	kinds := map[string]string{}
	for _, c := range columns {
		kinds[c.name] = c.kind
	}
	for _, name := range r.columns {
		if kinds[name] == "" {
			return "", fmt.Errorf("has no column %s: it has %s", name, strings.Join(columnNames(columns), ", "))
		}
	}
	line := func(row map[string]cell) (string, error) {
		values := quoteAll(dialect, wanted)
		for name := range row {
			if kinds[name] == "" {
				return "", fmt.Errorf("has no column %s: it has %s", name, strings.Join(columnNames(columns), ", "))
			}
		}
		for i, name := range wanted {
			value, ok := row[name]
			if !ok {
				value = cell{isNull: true}
			}
			values[i] = value.as(dialect, kinds[name]) + " as " + values[i]
		}
		return "select " + strings.Join(values, ", "), nil
	}
	if len(r.rows) == 0 {
		nothing, err := line(nil)
		return nothing + " limit 0", err
	}
	lines := make([]string, len(r.rows))
	for i, row := range r.rows {
		var err error
		if lines[i], err = line(row); err != nil {
			return "", err
		}
	}
	return strings.Join(lines, "\nunion all\n"), nil
}

// as writes a value as a constant of a type.
func (c cell) as(dialect, kind string) string {
	isJSON := strings.EqualFold(kind, "json")
	switch {
	case isJSON && !c.isNull && dialect == "bigquery":
		return "parse_json(" + literal(dialect, c.json()) + ")"
	case isJSON && !c.isNull:
		return "cast(" + literal(dialect, c.json()) + " as json)"
	case c.list != nil && dialect == "bigquery":
		return kind + c.sql(dialect) // an array's own type, which an empty one does not have
	}
	return "cast(" + c.sql(dialect) + " as " + kind + ")"
}

func (c cell) sql(dialect string) string {
	var parts []string
	switch {
	case c.isNull:
		return "null"
	case c.list != nil:
		for _, element := range c.list {
			parts = append(parts, element.sql(dialect))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case c.fields != nil && dialect == "bigquery":
		for _, f := range c.fields {
			parts = append(parts, f.value.sql(dialect)+" as "+f.name)
		}
		return "struct(" + strings.Join(parts, ", ") + ")"
	case c.fields != nil:
		for _, f := range c.fields {
			parts = append(parts, literal(dialect, f.name)+": "+f.value.sql(dialect))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case c.isText:
		return literal(dialect, c.text)
	}
	return c.text
}

// json is a value of a column of type JSON: a text is JSON already.
func (c cell) json() string {
	if c.isText {
		return c.text
	}
	return c.inJSON()
}

func (c cell) inJSON() string {
	var parts []string
	switch {
	case c.isNull:
		return "null"
	case c.list != nil:
		for _, element := range c.list {
			parts = append(parts, element.inJSON())
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case c.fields != nil:
		for _, f := range c.fields {
			parts = append(parts, jsonText(f.name)+": "+f.value.inJSON())
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case c.isText:
		return jsonText(c.text)
	}
	return c.text
}

func jsonText(text string) string {
	quoted, err := json.Marshal(text)
	if err != nil {
		return `""` // not of a string
	}
	return string(quoted)
}

// unitModel renders the model with the names of what it is given, in place of
// what it reads, and with what the test overrides.
func (p *Project) unitModel(ctx context.Context, d warehouse.Driver, unit *unitTest, names map[string]string) (string, error) {
	own := *p
	own.vars = maps.Clone(p.vars)
	maps.Copy(own.vars, unit.overrides.vars)
	own.options.Env = maps.Clone(p.options.Env)
	if own.options.Env == nil {
		own.options.Env = map[string]string{}
	}
	maps.Copy(own.options.Env, unit.overrides.env)
	node := p.nodes[unit.model].forRun()
	s := scope{project: &own, node: node, given: names, overrides: map[string]any{}, occasion: occasion{dialect: d.Dialect(), query: reading(ctx, d), config: node.config}}
	s.incremental = unit.overrides.macros["is_incremental"] == true
	var renamed []string
	for name, value := range unit.overrides.macros {
		if name == "is_incremental" {
			continue
		}
		if _, ok := p.macros[name]; ok {
			renamed = append(renamed, name)
		}
		s.overrides[name] = value
	}
	if len(renamed) > 0 {
		var err error
		if own.engine, node.template, err = p.engineWithout(renamed, node); err != nil {
			return "", err
		}
	}
	return s.compile()
}

// engineWithout is an engine that lacks some macros of the project, so that
// their names mean what overrides say, and the node's template for it.
func (p *Project) engineWithout(names []string, node *Node) (engine, template, error) {
	e := newEngine()
	pattern := regexp.MustCompile(`(\{%[-+]?\s*macro\s+)(` + strings.Join(names, "|") + `)(\s*\()`)
	for _, file := range slices.Sorted(maps.Keys(p.macroFiles)) {
		if problems := e.define(file, pattern.ReplaceAllString(p.macroFiles[file], "${1}${2}__overridden${3}")); len(problems) > 0 {
			return nil, nil, problems[0]
		}
	}
	parsed, problems := e.parse(node.Path, node.source)
	if len(problems) > 0 {
		return nil, nil, problems[0]
	}
	return e, parsed, nil
}

// unitDiff is a table of the rows that are only expected (-) and of those that
// are only there (+), and how many they are.
func unitDiff(columns []string, rows [][]any) (table string, wrong int64) {
	count := map[string]int{} // by row as text: how many more there are than expected
	cells := map[string][]string{}
	same := 0
	for _, row := range rows {
		texts := make([]string, len(columns))
		for i, value := range row[1:] {
			texts[i] = unitText(value)
		}
		key := strings.Join(texts, "\x00")
		cells[key] = texts
		if row[0] == "actual" {
			count[key]++
		} else {
			count[key]--
			same++
		}
	}
	lines := [][]string{append([]string{" "}, columns...)}
	for _, key := range slices.Sorted(maps.Keys(cells)) {
		n, sign := count[key], "+"
		if n < 0 {
			n, sign = -n, "-"
			same -= n
		}
		for range n {
			lines = append(lines, append([]string{sign}, cells[key]...))
			wrong++
		}
	}
	return fmt.Sprintf("%d rows are as expected; of the others - are expected and + are there:\n%s", same, aligned(lines)), wrong
}

// aligned writes cells in columns.
func aligned(lines [][]string) string {
	widths := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, text := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(text))
		}
	}
	var b strings.Builder
	for _, line := range lines {
		for i, text := range line {
			if i > 0 {
				b.WriteString(" | ")
			}
			b.WriteString(text)
			if i < len(line)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(text)))
			}
		}
		b.WriteString("\n")
	}
	return strings.TrimRight(b.String(), "\n")
}

func unitText(value any) string {
	switch v := value.(type) {
	case nil:
		return "NULL"
	case time.Time:
		return v.UTC().Format("2006-01-02 15:04:05.999999")
	case []byte:
		return fmt.Sprintf("%x", v)
	case []any:
		parts := make([]string, len(v))
		for i, element := range v {
			parts[i] = unitText(element)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case map[string]any:
		var parts []string
		for _, name := range sortedKeys(v) {
			parts = append(parts, name+": "+unitText(v[name]))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return fmt.Sprint(value)
}
