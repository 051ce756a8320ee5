package googlesql

import (
	"errors"
	"fmt"
	"strings"

	engine "github.com/goccy/go-googlesql"
)

// Traps analyzes a query for what BigQuery takes and DuckDB answers otherwise,
// as far as it is a matter of values: the text does not tell, the resolved tree
// does. The error joins one error for each place. present tells whether a
// column of a table is never NULL; Traps tells which columns of the result are.
func (a *Analyzer) Traps(sql string, present func(table, column string) bool) ([]string, error) {
	resolved, err := a.resolve(sql, nil)
	if err != nil {
		return nil, err
	}
	t := &traps{sql: sql, present: present, origins: map[int32][]origin{}, entries: map[string]engine.ResolvedScanNode{},
		outer: map[int32]bool{}, filtered: map[int32]bool{}, asking: map[int32]bool{}}
	if err := t.learn(resolved); err != nil {
		return nil, err
	}
	if err := t.inspect(resolved); err != nil {
		return nil, err
	}
	columns, err := t.result(resolved)
	return columns, errors.Join(append(t.found, err)...)
}

// result names the columns of a query that are never NULL.
func (t *traps) result(statement engine.ResolvedStatementNode) ([]string, error) {
	query, ok := statement.(*engine.ResolvedQueryStmt)
	if !ok {
		return nil, fmt.Errorf("not a query but a %T", statement)
	}
	output, err := query.OutputColumnList()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, o := range output {
		name, err := o.Name()
		if err != nil {
			return nil, err
		}
		column, err := o.Column()
		if err != nil {
			return nil, err
		}
		id, err := column.ColumnId()
		if err != nil {
			return nil, err
		}
		present, err := t.columnNeverNull(id)
		if err != nil {
			return nil, err
		}
		if present {
			names = append(names, name)
		}
	}
	return names, nil
}

// traps is one query under inspection.
type traps struct {
	sql     string
	present func(table, column string) bool
	found   []error

	origins  map[int32][]origin                 // by column: NULL only if one of these is
	entries  map[string]engine.ResolvedScanNode // the queries of WITH
	outer    map[int32]bool                     // columns of the side of an outer join that may be missing
	filtered map[int32]bool                     // columns of which a WHERE keeps no NULL
	asking   map[int32]bool                     // columns being asked for, since WITH may be recursive
}

// origin is what a column is made of: another column or an expression.
type origin struct {
	column  int32
	expr    engine.ResolvedExprNode
	grouped bool // the expression is an aggregate of at least one row
	present bool // never NULL
}

// inspect looks for traps.
func (t *traps) inspect(node engine.ResolvedNode) error {
	var err error
	switch n := node.(type) {
	case *engine.ResolvedFunctionCall:
		err = t.inspectCall(n)
	case *engine.ResolvedOrderByItem:
		err = t.inspectOrder(n)
	}
	if err != nil {
		return err
	}
	skip, err := ordersNoNull(node)
	if err != nil {
		return err
	}
	return eachChild(node, func(child engine.ResolvedNode) error {
		if _, order := child.(*engine.ResolvedOrderByItem); order && skip {
			return nil
		}
		return t.inspect(child)
	})
}

// ordersNoNull tells whether a node is an aggregate of distinct values without
// NULL. It can be ordered by nothing but these values.
func ordersNoNull(node engine.ResolvedNode) (bool, error) {
	aggregate, ok := node.(*engine.ResolvedAggregateFunctionCall)
	if !ok {
		return false, nil
	}
	distinct, err := aggregate.Distinct()
	if err != nil {
		return false, err
	}
	nulls, err := aggregate.NullHandlingModifier()
	return distinct && nulls == engine.ResolvedNonScalarFunctionCallBaseEnums_NullHandlingModifierIgnoreNulls, err
}

// inspectOrder looks at an item of an ORDER BY. DuckDB has NULL last, both
// ways; BigQuery has it before all else, so that descending it is last.
func (t *traps) inspectOrder(item *engine.ResolvedOrderByItem) error {
	descending, err := item.IsDescending()
	if err != nil {
		return err
	}
	nulls, err := item.NullOrder()
	if err != nil || descending || nulls != engine.ResolvedOrderByItemEnums_NullOrderModeOrderUnspecified {
		return err
	}
	ref, err := item.ColumnRef()
	if err != nil {
		return err
	}
	present, err := t.neverNull(ref, false)
	if err != nil || present {
		return err
	}
	column, err := ref.Column()
	if err != nil {
		return err
	}
	name, err := column.Name()
	if err != nil {
		return err
	}
	text, err := t.text(item)
	if err != nil {
		return err
	}
	t.report(text, "%s may be NULL, which comes last on DuckDB and first on BigQuery: say nulls last, or test the column to be not_null", name)
	return nil
}

func (t *traps) inspectCall(call *engine.ResolvedFunctionCall) error {
	name, args, err := parts(call)
	if err != nil {
		return err
	}
	text, err := t.text(call)
	if err != nil {
		return err
	}
	switch name {
	case "least", "greatest", "concat":
		if !strings.HasPrefix(strings.ToLower(text), name) {
			return nil // the operator ||, which is NULL on both
		}
		for i, arg := range args {
			present, err := t.neverNull(arg, false)
			if err != nil {
				return err
			}
			if !present {
				t.report(text, "argument %d of %s may be NULL, which it ignores on DuckDB and answers with NULL on BigQuery: use coalesce, or test the column to be not_null", i+1, name)
				return nil
			}
		}
	case "$divide", "div", "mod":
		zero, err := mayBeZero(args[1])
		if err != nil || !zero {
			return err
		}
		t.report(text, "division by zero is an error on BigQuery and none on DuckDB: divide by nullif(…, 0)")
	}
	return nil
}

// text returns the query from the place of a node on; all of it, if the node
// has no place.
func (t *traps) text(node engine.ResolvedNode) (string, error) {
	place, err := node.GetParseLocationRangeOrNULL()
	if err != nil || place == nil {
		return t.sql, err
	}
	start, err := place.Start()
	if err != nil {
		return "", err
	}
	offset, err := start.GetByteOffset()
	if err != nil {
		return "", err
	}
	return t.sql[min(int(offset), len(t.sql)):], nil
}

// report notes a trap, with the place of the text that is left from there on.
func (t *traps) report(text, format string, args ...any) {
	before := strings.TrimSuffix(t.sql, text)
	line, column := 1+strings.Count(before, "\n"), len(before)-strings.LastIndex(before, "\n")
	t.found = append(t.found, fmt.Errorf(format+" [at %d:%d]", append(args, line, column)...))
}

func mayBeZero(divisor engine.ResolvedExprNode) (bool, error) {
	switch e := divisor.(type) {
	case *engine.ResolvedLiteral:
		value, err := e.Value()
		if err != nil {
			return false, err
		}
		text, err := value.GetSQLLiteral()
		return strings.Trim(text, "-0.eE+") == "", err
	case *engine.ResolvedCast:
		inner, err := e.Expr()
		if err != nil {
			return false, err
		}
		return mayBeZero(inner)
	case *engine.ResolvedFunctionCall:
		name, args, err := parts(e)
		if err != nil || name != "nullif" {
			return true, err
		}
		zero, err := mayBeZero(args[1])
		return !zero, err
	}
	return true, nil
}

func eachChild(node engine.ResolvedNode, visit func(engine.ResolvedNode) error) error {
	children, err := node.GetChildNodes()
	if err != nil {
		return err
	}
	for _, child := range children {
		if err := visit(child); err != nil {
			return err
		}
	}
	return nil
}

// call is what all calls of functions have.
type call interface {
	Function() (*engine.Function, error)
	ArgumentList() ([]engine.ResolvedExprNode, error)
}

func parts(c call) (name string, args []engine.ResolvedExprNode, err error) {
	function, err := c.Function()
	if err != nil {
		return "", nil, err
	}
	if name, err = function.Name(); err != nil {
		return "", nil, err
	}
	args, err = c.ArgumentList()
	return name, args, err
}

func columnID(ref *engine.ResolvedColumnRef) (int32, error) {
	column, err := ref.Column()
	if err != nil {
		return 0, err
	}
	return column.ColumnId()
}

func columnIDs(scan engine.ResolvedScanNode) ([]int32, error) {
	lister, ok := scan.(interface {
		ColumnList() ([]*engine.ResolvedColumn, error)
	})
	if !ok {
		return nil, fmt.Errorf("a %T has no columns", scan)
	}
	columns, err := lister.ColumnList()
	if err != nil {
		return nil, err
	}
	ids := make([]int32, len(columns))
	for i, column := range columns {
		if ids[i], err = column.ColumnId(); err != nil {
			return nil, err
		}
	}
	return ids, nil
}
