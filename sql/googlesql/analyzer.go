// Package googlesql holds SQL against BigQuery without BigQuery: it has the
// parser and analyzer that BigQuery itself is made with, switched to what
// BigQuery accepts, and a catalog of the tables that statements may name.
//
// It is a module of its own, since the analyzer takes minutes to build.
package googlesql

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	engine "github.com/goccy/go-googlesql"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// Analyzer checks statements as BigQuery does before it runs them, and keeps
// the catalog that they define. It is used by one goroutine.
type Analyzer struct {
	language  *engine.LanguageOptions
	functions *engine.SimpleCatalog
	types     *engine.TypeFactory
	schemas   map[string]map[string][]warehouse.Column // by schema and lower-case name

	catalog engine.CatalogNode // of schemas; nil after they changed
	parts   []any              // what catalog refers to, since the engine's memory is not Go's
}

// New returns an Analyzer whose catalog is empty.
func New() (*Analyzer, error) {
	if err := engine.Init(); err != nil {
		return nil, fmt.Errorf("start GoogleSQL: %w", err)
	}
	a := &Analyzer{schemas: map[string]map[string][]warehouse.Column{}}
	var err error
	if a.language, err = language(); err != nil {
		return nil, fmt.Errorf("choose BigQuery's features: %w", err)
	}
	if a.types, err = engine.NewTypeFactory(); err != nil {
		return nil, fmt.Errorf("start GoogleSQL: %w", err)
	}
	if a.functions, err = engine.NewSimpleCatalog("functions", a.types); err != nil {
		return nil, fmt.Errorf("start GoogleSQL: %w", err)
	}
	if err := a.functions.AddBuiltinFunctionsAndTypes(&engine.BuiltinFunctionOptions{LanguageOptions: a.language}); err != nil {
		return nil, fmt.Errorf("load GoogleSQL's functions: %w", err)
	}
	return a, nil
}

// Define adds a table or view to the catalog, in place of what had its name.
func (a *Analyzer) Define(schema, name string, columns []warehouse.Column) {
	if a.schemas[schema] == nil {
		a.schemas[schema] = map[string][]warehouse.Column{}
	}
	a.schemas[schema][strings.ToLower(name)] = columns
	a.catalog = nil
}

// Columns lists the columns of a table or view, or [warehouse.ErrNoRelation].
func (a *Analyzer) Columns(schema, name string) ([]warehouse.Column, error) {
	columns, ok := a.schemas[schema][strings.ToLower(name)]
	if !ok {
		return nil, fmt.Errorf("%s.%s: %w", schema, name, warehouse.ErrNoRelation)
	}
	return slices.Clone(columns), nil
}

// Query checks a query and returns the columns of its result.
func (a *Analyzer) Query(sql string) ([]warehouse.Column, error) {
	resolved, err := a.resolve(sql, nil)
	if err != nil {
		return nil, err
	}
	query, ok := resolved.(*engine.ResolvedQueryStmt)
	if !ok {
		return nil, fmt.Errorf("not a query but a %T", resolved)
	}
	output, err := query.OutputColumnList()
	if err != nil {
		return nil, err
	}
	return outputColumns(output)
}

// Statement checks a statement with arguments for its placeholders. If it
// creates or drops something, the catalog follows.
func (a *Analyzer) Statement(sql string, args ...any) error {
	resolved, err := a.resolve(sql, args)
	if err != nil {
		return err
	}
	switch s := resolved.(type) {
	case *engine.ResolvedQueryStmt, *engine.ResolvedInsertStmt, *engine.ResolvedUpdateStmt, *engine.ResolvedDeleteStmt,
		*engine.ResolvedMergeStmt, *engine.ResolvedTruncateStmt:
		return nil
	case *engine.ResolvedCreateSchemaStmt:
		path, err := s.NamePath()
		if err == nil && a.schemas[path[0]] == nil {
			a.schemas[path[0]], a.catalog = map[string][]warehouse.Column{}, nil
		}
		return err
	case *engine.ResolvedCreateTableAsSelectStmt:
		output, err := s.OutputColumnList()
		return a.created(s, output, err)
	case *engine.ResolvedCreateViewStmt:
		output, err := s.OutputColumnList()
		return a.created(s, output, err)
	case *engine.ResolvedCreateTableStmt:
		return a.createdEmpty(s)
	case *engine.ResolvedDropStmt:
		return a.dropped(s)
	}
	return fmt.Errorf("a %T is no statement that Sluis issues: teach the analyzer what it does", resolved)
}

// created takes over what a query created.
func (a *Analyzer) created(s interface{ NamePath() ([]string, error) }, output []*engine.ResolvedOutputColumn, err error) error {
	if err != nil {
		return err
	}
	columns, err := outputColumns(output)
	if err != nil {
		return err
	}
	schema, name, err := a.target(s)
	if err != nil {
		return err
	}
	a.Define(schema, name, columns)
	return nil
}

func (a *Analyzer) createdEmpty(s *engine.ResolvedCreateTableStmt) error {
	definitions, err := s.ColumnDefinitionList()
	if err != nil {
		return err
	}
	columns := make([]warehouse.Column, len(definitions))
	for i, definition := range definitions {
		name, err := definition.Name()
		if err != nil {
			return err
		}
		kind, err := definition.Type()
		if err != nil {
			return err
		}
		if columns[i], err = column(name, kind); err != nil {
			return err
		}
	}
	schema, name, err := a.target(s)
	if err != nil {
		return err
	}
	a.Define(schema, name, columns)
	return nil
}

func (a *Analyzer) dropped(s *engine.ResolvedDropStmt) error {
	schema, name, err := a.target(s)
	if err != nil {
		return err
	}
	lenient, err := s.IsIfExists()
	if err != nil {
		return err
	}
	if _, err := a.Columns(schema, name); err != nil && !lenient {
		return err
	}
	delete(a.schemas[schema], strings.ToLower(name))
	a.catalog = nil
	return nil
}

// target is what a statement names, whose schema must exist.
func (a *Analyzer) target(s interface{ NamePath() ([]string, error) }) (schema, name string, err error) {
	path, err := s.NamePath()
	if err != nil {
		return "", "", err
	}
	if len(path) != 2 {
		return "", "", fmt.Errorf("%q must be named with its schema", strings.Join(path, "."))
	}
	if a.schemas[path[0]] == nil {
		return "", "", fmt.Errorf("there is no schema %s", path[0])
	}
	return path[0], path[1], nil
}

// resolve parses and analyzes. What it returns refers to the engine's memory,
// and is to be used before the catalog changes.
func (a *Analyzer) resolve(sql string, args []any) (engine.ResolvedStatementNode, error) {
	options, err := a.options(args)
	if err != nil {
		return nil, err
	}
	if a.catalog == nil {
		if err := a.buildCatalog(); err != nil {
			return nil, fmt.Errorf("build the catalog: %w", err)
		}
	}
	output, err := engine.AnalyzeStatement(sql, options, a.catalog, a.types)
	if err != nil {
		return nil, err
	}
	statement, err := output.ResolvedStatement()
	if err != nil {
		return nil, err
	}
	return statement, checkJoins(statement)
}

// options makes the options of one statement, with the types of its arguments.
func (a *Analyzer) options(args []any) (*engine.AnalyzerOptions, error) {
	options, err := engine.NewAnalyzerOptions(a.language)
	if err != nil {
		return nil, err
	}
	mode := engine.ParameterModeParameterNone
	if len(args) > 0 {
		mode = engine.ParameterModeParameterPositional
	}
	if err := errors.Join(
		options.SetErrorMessageMode(engine.ErrorMessageModeErrorMessageOneLine),
		options.SetParseLocationRecordType(engine.ParseLocationRecordTypeParseLocationRecordFullNodeScope),
		options.SetParameterMode(mode),
	); err != nil {
		return nil, err
	}
	for i, arg := range args {
		name, err := typeOf(arg)
		if err != nil {
			return nil, fmt.Errorf("argument %d: %w", i+1, err)
		}
		kind, err := a.typeNamed(name)
		if err != nil {
			return nil, err
		}
		if err := options.AddPositionalQueryParameter(kind); err != nil {
			return nil, err
		}
	}
	return options, nil
}

// typeOf is the type that BigQuery's client gives an argument.
func typeOf(arg any) (warehouse.Type, error) {
	switch arg.(type) {
	case string:
		return warehouse.String, nil
	case int, int64:
		return warehouse.Int64, nil
	case bool:
		return warehouse.Bool, nil
	case []byte:
		return warehouse.Bytes, nil
	case time.Time:
		return warehouse.Timestamp, nil
	case float64:
		return "FLOAT64", nil
	case []string:
		return warehouse.Strings, nil
	}
	return "", fmt.Errorf("a %T has no type of BigQuery's: pass a typed value", arg)
}

func (a *Analyzer) typeNamed(name warehouse.Type) (engine.Googlesql_TypeNode, error) {
	options, err := engine.NewAnalyzerOptions(a.language)
	if err != nil {
		return nil, err
	}
	kind, err := engine.AnalyzeType(string(name), options, a.functions, a.types)
	if err != nil {
		return nil, fmt.Errorf("the type %s: %w", name, err)
	}
	return kind, nil
}

// buildCatalog writes the tables down anew, since the engine's catalogs can
// grow but not change.
func (a *Analyzer) buildCatalog() error {
	a.parts = nil
	tables, err := a.newCatalog("tables", nil)
	if err != nil {
		return err
	}
	for _, schema := range slices.Sorted(maps.Keys(a.schemas)) {
		inner, err := a.newCatalog(schema, tables)
		if err != nil {
			return err
		}
		for _, name := range slices.Sorted(maps.Keys(a.schemas[schema])) {
			if err := a.addTable(inner, schema, name, a.schemas[schema][name]); err != nil {
				return fmt.Errorf("%s.%s: %w", schema, name, err)
			}
		}
		information, err := a.newCatalog("INFORMATION_SCHEMA", inner)
		if err != nil {
			return err
		}
		if err := a.addTable(information, "INFORMATION_SCHEMA", "TABLES", informationTables()); err != nil {
			return err
		}
	}
	a.catalog, err = engine.NewMultiCatalogCreate("project", []engine.CatalogNode{tables, a.functions})
	return err
}

// informationTables is the part of INFORMATION_SCHEMA.TABLES that Sluis reads.
func informationTables() []warehouse.Column {
	return []warehouse.Column{
		{Name: "table_catalog", Type: warehouse.String},
		{Name: "table_schema", Type: warehouse.String},
		{Name: "table_name", Type: warehouse.String},
		{Name: "table_type", Type: warehouse.String},
	}
}

// newCatalog makes a catalog, in another if one is given.
func (a *Analyzer) newCatalog(name string, in *engine.SimpleCatalog) (*engine.SimpleCatalog, error) {
	catalog, err := engine.NewSimpleCatalog(name, a.types)
	if err != nil {
		return nil, err
	}
	a.parts = append(a.parts, catalog)
	if in == nil {
		return catalog, nil
	}
	return catalog, in.AddCatalog(catalog)
}

// addTable adds a table, which knows itself by its schema too.
func (a *Analyzer) addTable(catalog *engine.SimpleCatalog, schema, name string, columns []warehouse.Column) error {
	full := schema + "." + name
	table, err := engine.NewSimpleTable(full, 0)
	if err != nil {
		return err
	}
	a.parts = append(a.parts, table)
	for _, c := range columns {
		kind, err := a.typeNamed(c.Type)
		if err != nil {
			return err
		}
		made, err := engine.NewSimpleColumn(full, c.Name, kind, false, true)
		if err != nil {
			return err
		}
		a.parts = append(a.parts, made)
		if err := table.AddColumn2(made, false); err != nil {
			return err
		}
	}
	return catalog.AddTable2(name, table)
}

func outputColumns(output []*engine.ResolvedOutputColumn) ([]warehouse.Column, error) {
	columns := make([]warehouse.Column, len(output))
	for i, o := range output {
		name, err := o.Name()
		if err != nil {
			return nil, err
		}
		from, err := o.Column()
		if err != nil {
			return nil, err
		}
		kind, err := from.Type()
		if err != nil {
			return nil, err
		}
		if columns[i], err = column(name, kind); err != nil {
			return nil, err
		}
	}
	return columns, nil
}

func column(name string, kind engine.Googlesql_TypeNode) (warehouse.Column, error) {
	named, ok := kind.(interface {
		TypeName(mode engine.ProductMode) (string, error)
	})
	if !ok {
		return warehouse.Column{}, fmt.Errorf("column %s: a %T has no name", name, kind)
	}
	text, err := named.TypeName(engine.ProductModeProductExternal)
	return warehouse.Column{Name: name, Type: warehouse.Type(text)}, err
}
