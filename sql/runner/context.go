package runner

import (
	"crypto/md5" //nolint:gosec // dbt's local_md5 is that, and no secret depends on it
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sluis-cdp/sluis/sql/runner/jinja"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// answer is what the warehouse answers to a query.
type answer struct {
	columns []string
	rows    [][]any
}

// context are dbt's names that are the same for all nodes, or of the adapter.
func (s scope) context() map[string]any {
	portable := s.portable()
	all := map[string]any{
		"adapter": object{
			attributes: map[string]any{
				"dispatch":                function(s.dispatch),
				"get_relation":            function(s.getRelation),
				"get_columns_in_relation": function(s.getColumns),
				"quote":                   function(s.quote),
				"type":                    function(func([]any, map[string]any) (any, error) { return s.dialect, nil }),
			},
			missing: refuse("adapter.%s is not supported: what a run does to tables is the runner's; ask the warehouse by run_query"),
		},
		"api": object{attributes: map[string]any{
			"Relation": object{attributes: map[string]any{"create": function(s.createRelation)}, missing: refuse("api.Relation.%s is not supported: use api.Relation.create, or ref")},
			"Column":   object{attributes: map[string]any{"translate_type": function(s.translateType)}, missing: refuse("api.Column.%s is not supported: write the type")},
		}},
		"exceptions": object{
			attributes: map[string]any{"raise_compiler_error": function(raise), "warn": function(s.log)},
			missing:    refuse("exceptions.%s is not supported: use exceptions.raise_compiler_error or exceptions.warn"),
		},
		"flags": object{
			attributes: map[string]any{"FULL_REFRESH": s.project.options.FullRefresh, "STORE_FAILURES": false, "WHICH": "run"},
			missing:    refuse("flags.%s is not supported: use a var"),
		},
		"dbt":            object{attributes: portable, missing: noPortable},
		"modules":        object{attributes: map[string]any{"datetime": jinja.Datetime(time.Now)}, missing: refuse("modules.%s is not supported: compute it in SQL, or use modules.datetime")},
		"statement":      jinja.Func(s.statement),
		"load_result":    function(s.loadResult),
		"tojson":         jinja.Func(toJSON),
		"fromjson":       jinja.Func(fromJSON),
		"fromyaml":       jinja.Func(fromYAML),
		"local_md5":      function(localMD5),
		"project_name":   s.project.name,
		"schema":         warehouse.SchemaModels,
		"invocation_id":  s.project.invocation,
		"run_started_at": jinja.Moment(s.project.started),
		"toyaml": function(func([]any, map[string]any) (any, error) {
			return nil, errors.New("toyaml is not supported: use tojson, which is YAML, too")
		}),
	}
	maps.Copy(all, portable)
	return all
}

func refuse(format string) func(string) error {
	return func(name string) error { return fmt.Errorf(format, name) }
}

// unprintable stands for what a warehouse here has no name for: it may be handed on.
var unprintable = object{missing: func(string) error { return errDatabase }}

var errDatabase = errors.New("a warehouse is one database here, which has no name: leave it out")

func relationObject(schema, name string) object {
	relation := object{
		attributes: map[string]any{"schema": schema, "name": name, "identifier": name, "table": name, "database": unprintable},
		text:       schema + "." + name,
		missing:    refuse("a relation has no %s here: it has schema, identifier, name, render() and include()"),
	}
	relation.attributes["render"] = function(func([]any, map[string]any) (any, error) { return relation.text, nil })
	relation.attributes["include"] = function(func(_ []any, named map[string]any) (any, error) {
		if named["schema"] == false {
			return object{text: name}, nil
		}
		return relation, nil
	})
	return relation
}

// getRelation finds a table or view, or none, as adapter.get_relation does.
func (s scope) getRelation(args []any, named map[string]any) (any, error) {
	schema, name, err := schemaAndName(args, named)
	if err != nil || s.seen != nil {
		return nil, err
	}
	found, err := s.ask(fmt.Sprintf("select table_type from %s where table_schema = %s and table_name = %s", catalogTable(s.dialect, schema, "tables"), literal(s.dialect, schema), literal(s.dialect, name)))
	if err != nil || len(found.rows) == 0 {
		return nil, err
	}
	return relationObject(schema, name), nil
}

func schemaAndName(args []any, named map[string]any) (schema, name string, err error) {
	if len(args) > 1 {
		schema, _ = args[1].(string)
	}
	if len(args) > 2 {
		name, _ = args[2].(string)
	}
	if text, ok := named["schema"].(string); ok {
		schema = text
	}
	if text, ok := named["identifier"].(string); ok {
		name = text
	}
	if !identifier.MatchString(schema) || !identifier.MatchString(name) {
		return "", "", errors.New("a relation is named by database, schema and identifier, of letters, digits and _")
	}
	return schema, name, nil
}

// catalogTable is a table of the warehouse's catalog, with what it has of a schema.
func catalogTable(dialect, schema, table string) string {
	if dialect == "bigquery" {
		return schema + ".INFORMATION_SCHEMA." + strings.ToUpper(table)
	}
	return "information_schema." + table
}

// getColumns lists the columns of a relation, none while a project is read.
func (s scope) getColumns(args []any, _ map[string]any) (any, error) {
	text, _ := firstText(args)
	schema, name, ok := strings.Cut(text, ".")
	if !ok || !identifier.MatchString(schema) || !identifier.MatchString(name) {
		return nil, errors.New("adapter.get_columns_in_relation takes a relation, such as ref('…') or this")
	}
	if s.seen != nil {
		return []any{}, nil
	}
	found, err := s.ask(fmt.Sprintf("select column_name, data_type from %s where table_schema = %s and table_name = %s order by ordinal_position",
		catalogTable(s.dialect, schema, "columns"), literal(s.dialect, schema), literal(s.dialect, name)))
	if err != nil {
		return nil, err
	}
	columns := []any{}
	for _, row := range found.rows {
		column := fmt.Sprint(row[0])
		columns = append(columns, &jinja.Object{
			Attributes: map[string]any{"name": column, "column": column, "quoted": quotedName(s.dialect, column), "dtype": row[1], "data_type": row[1]},
			Text:       fmt.Sprintf("<Column %s (%v)>", column, row[1]),
			Missing:    refuse("a column has no %s here: it has name, column, quoted, dtype and data_type"),
		})
	}
	return &jinja.List{Items: columns}, nil
}

func quotedName(dialect, name string) string {
	if dialect == "bigquery" {
		return "`" + name + "`"
	}
	return `"` + name + `"`
}

func (s scope) quote(args []any, _ map[string]any) (any, error) {
	name, ok := firstText(args)
	if !ok || len(args) != 1 {
		return nil, errors.New("adapter.quote takes a name")
	}
	return quotedName(s.dialect, name), nil
}

func (s scope) createRelation(args []any, named map[string]any) (any, error) {
	schema, name, err := schemaAndName(args, named)
	if err != nil {
		return nil, err
	}
	return relationObject(schema, name), nil
}

// translateType names a type of dbt's own for the dialect.
func (s scope) translateType(args []any, _ map[string]any) (any, error) {
	name, _ := firstText(args)
	types := map[string]string{"string": "type_string", "timestamp": "type_timestamp", "float": "type_float", "integer": "type_int", "boolean": "type_boolean", "bigint": "type_bigint"}
	macro, ok := types[strings.ToLower(name)]
	if !ok {
		return name, nil
	}
	return nil, fmt.Errorf("api.Column.translate_type is not supported: use dbt.%s()", macro)
}

// ask runs a query that a template needs to be rendered.
func (s scope) ask(sql string) (answer, error) {
	if s.query == nil {
		return answer{}, errors.New("run_query needs a warehouse, and none is open: ask only in a run, as in {% if is_incremental() %}")
	}
	found, err := s.query(sql)
	if err != nil {
		// Lines that the warehouse tells are those of the query, not of the file.
		message, _, _ := strings.Cut(err.Error(), "\n")
		return answer{}, errors.New("run_query: " + message)
	}
	return found, nil
}

// runQuery asks the warehouse while a model is rendered for a run. As under
// dbt, there is no answer while the project is read.
func (s scope) runQuery(args []any, _ map[string]any) (any, error) {
	sql, ok := firstText(args)
	switch {
	case !ok || len(args) != 1:
		return nil, errors.New("run_query takes a query")
	case s.seen != nil:
		return nil, nil
	}
	found, err := s.ask(sql)
	if err != nil {
		return nil, err
	}
	return found.table(), nil
}

// table is an answer as dbt's templates read it.
func (a answer) table() *jinja.Table {
	t := &jinja.Table{Columns: a.columns}
	for _, row := range a.rows {
		values := make([]any, len(row))
		for i, value := range row {
			values[i] = jinja.Value(value)
		}
		t.Rows = append(t.Rows, values)
	}
	return t
}

// statement is the block {% call statement('name', fetch_result=true) %}: what
// it answers is for load_result.
func (s scope) statement(args []any, named *jinja.Dict) (any, error) {
	name, _ := named.Get("name")
	if len(args) > 0 {
		name = args[0]
	}
	fetch, _ := named.Get("fetch_result")
	if len(args) > 1 {
		fetch = args[1]
	}
	body, _ := named.Get("caller")
	caller, ok := body.(*jinja.Object)
	key, isText := name.(string)
	if !ok || !isText || fetch != true {
		return nil, errors.New("statement is a block that asks for something, as in {% call statement('name', fetch_result=true) %}: what changes tables is the runner's")
	}
	sql, err := caller.Call(nil, jinja.NewDict())
	if err != nil || s.seen != nil {
		return "", err
	}
	text, err := jinja.Text(sql)
	if err != nil {
		return nil, err
	}
	found, err := s.ask(text)
	if err == nil {
		s.results[key] = found
	}
	return "", err
}

func (s scope) loadResult(args []any, _ map[string]any) (any, error) {
	name, _ := firstText(args)
	found, ok := s.results[name]
	if !ok {
		return nil, nil
	}
	table := found.table()
	data := &jinja.List{}
	for _, row := range table.Rows {
		data.Items = append(data.Items, jinja.Tuple(row))
	}
	return &jinja.Object{
		Attributes: map[string]any{"data": data, "table": table},
		Missing:    refuse("a result has no %s here: it has data and table"),
	}, nil
}

// toJSON and fromJSON are dbt's functions; the filter tojson is Jinja's.
func toJSON(args []any, named *jinja.Dict) (any, error) {
	sorted, _ := named.Get("sort_keys")
	if len(args) == 0 || len(args) > 2 {
		return nil, errors.New("tojson takes a value, a default and sort_keys")
	}
	text, err := jinja.JSON(args[0], sorted == true)
	if err == nil {
		return text, nil
	}
	if otherwise, ok := second(args, named, "default"); ok {
		return otherwise, nil
	}
	return nil, err
}

func fromJSON(args []any, named *jinja.Dict) (any, error) {
	text, ok := firstText(args)
	if !ok {
		return nil, errors.New("fromjson takes a text and a default")
	}
	value, err := jinja.ParseJSON(text)
	if otherwise, ok := second(args, named, "default"); ok && err != nil {
		return otherwise, nil //nolint:nilerr // that is what the default is for
	}
	return value, err
}

func second(args []any, named *jinja.Dict, name string) (any, bool) {
	if len(args) > 1 {
		return args[1], true
	}
	return named.Get(name)
}

func fromYAML(args []any, named *jinja.Dict) (any, error) {
	text, ok := firstText(args)
	if !ok {
		return nil, errors.New("fromyaml takes a text and a default")
	}
	var document yaml.Node
	err := yaml.Unmarshal([]byte(text), &document)
	if err == nil && len(document.Content) > 0 {
		var value any
		if value, err = ordered(document.Content[0], 0); err == nil {
			return value, nil
		}
	}
	if otherwise, ok := second(args, named, "default"); ok {
		return otherwise, nil
	}
	return nil, err
}

// ordered is YAML as templates see it: with the keys of mappings in their order.
func ordered(node *yaml.Node, depth int) (any, error) {
	if depth > 100 {
		return nil, errors.New("the YAML is nested too deeply")
	}
	switch node = resolve(node); node.Kind {
	case yaml.SequenceNode:
		list := &jinja.List{}
		for _, item := range node.Content {
			value, err := ordered(item, depth+1)
			if err != nil {
				return nil, err
			}
			list.Items = append(list.Items, value)
		}
		return list, nil
	case yaml.MappingNode:
		d := jinja.NewDict()
		for i := 0; i+1 < len(node.Content); i += 2 {
			if node.Content[i].Tag == "!!merge" {
				return nil, fmt.Errorf("line %d: << is not supported where templates read it: write the keys", node.Content[i].Line)
			}
			value, err := ordered(node.Content[i+1], depth+1)
			if err != nil {
				return nil, err
			}
			var key any
			if err := node.Content[i].Decode(&key); err != nil {
				return nil, err
			}
			if err := d.Set(key, value); err != nil {
				return nil, err
			}
		}
		return d, nil
	case yaml.ScalarNode, yaml.AliasNode, yaml.DocumentNode:
	}
	if why := otherInDbt(node); why != "" {
		return nil, fmt.Errorf("line %d: %s is %s to dbt: quote it, or write what is meant", node.Line, node.Value, why)
	}
	var value any
	err := node.Decode(&value)
	if t, ok := value.(time.Time); ok {
		return jinja.Date(t), err
	}
	return jinja.Value(value), err
}

var (
	yamlBools   = []string{"yes", "no", "on", "off"}
	sexagesimal = regexp.MustCompile(`^[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?$`)
)

// otherInDbt tells what dbt, whose YAML is of version 1.1, takes a scalar for
// that is something else here.
func otherInDbt(node *yaml.Node) string {
	if node.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		return ""
	}
	switch {
	case slices.Contains(yamlBools, strings.ToLower(node.Value)):
		return "true or false"
	case sexagesimal.MatchString(node.Value):
		return "a number of base 60"
	case node.Tag == "!!float" && !strings.ContainsAny(node.Value, "."):
		return "a text"
	case node.Tag == "!!timestamp" && len(node.Value) != len("2006-01-02"):
		return "a time"
	}
	return ""
}

// newInvocation makes the id of a use of a project: a random UUID.
func newInvocation() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // it never fails
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

func localMD5(args []any, _ map[string]any) (any, error) {
	text, ok := firstText(args)
	if !ok || len(args) != 1 {
		return nil, errors.New("local_md5 takes a text")
	}
	sum := md5.Sum([]byte(text)) //nolint:gosec // see above
	return hex.EncodeToString(sum[:]), nil
}

// nodeFacts are what templates may ask of a model: the names are dbt's.
func (p *Project) nodeFacts(n *Node) map[string]any {
	facts := map[string]any{
		"name": n.Name, "alias": n.Name, "identifier": n.Name, "resource_type": string(n.Kind), "schema": warehouse.SchemaModels, "package_name": p.name,
		"original_file_path": n.Path, "tags": n.Tags, "description": n.Description,
	}
	settings := maps.Clone(map[string]any(n.config))
	if settings == nil {
		settings = map[string]any{}
	}
	settings["materialized"], settings["meta"] = string(n.Materialized), n.Meta
	facts["config"] = settings
	return facts
}
