package googlesql

import (
	"errors"
	"fmt"
	"slices"
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

// learn collects where columns come from. WITH entries come before the scans
// that refer to them.
func (t *traps) learn(node engine.ResolvedNode) error {
	if with, ok := node.(*engine.ResolvedWithScan); ok {
		entries, err := with.WithEntryList()
		if err != nil {
			return err
		}
		for _, entry := range entries {
			name, err := entry.WithQueryName()
			if err != nil {
				return err
			}
			if t.entries[name], err = entry.WithSubquery(); err != nil {
				return err
			}
		}
	}
	if err := t.learnOne(node); err != nil {
		return err
	}
	return eachChild(node, t.learn)
}

func (t *traps) learnOne(node engine.ResolvedNode) error {
	switch n := node.(type) {
	case *engine.ResolvedTableScan:
		return t.learnTable(n)
	case *engine.ResolvedWithRefScan:
		name, err := n.WithQueryName()
		if err != nil {
			return err
		}
		return t.learnPairs(n, t.entries[name])
	case *engine.ResolvedSetOperationScan:
		return t.learnUnion(n)
	case *engine.ResolvedAggregateScan:
		keys, err := n.GroupByListSize()
		if err != nil {
			return err
		}
		aggregates, err := n.AggregateList()
		if err != nil {
			return err
		}
		for _, aggregate := range aggregates {
			if err := t.learnComputed(aggregate, keys > 0); err != nil {
				return err
			}
		}
	case *engine.ResolvedComputedColumn:
		return t.learnComputed(n, false)
	case *engine.ResolvedJoinScan:
		return t.learnJoin(n)
	case *engine.ResolvedFilterScan:
		condition, err := n.FilterExpr()
		if err != nil {
			return err
		}
		return t.learnFilter(condition)
	}
	return nil
}

func (t *traps) learnTable(scan *engine.ResolvedTableScan) error {
	table, err := scan.Table()
	if err != nil {
		return err
	}
	name, err := table.Name()
	if err != nil {
		return err
	}
	columns, err := scan.ColumnList()
	if err != nil {
		return err
	}
	for _, column := range columns {
		id, err := column.ColumnId()
		if err != nil {
			return err
		}
		text, err := column.Name()
		if err != nil {
			return err
		}
		t.origins[id] = []origin{{present: t.present(name, text)}}
	}
	return nil
}

// learnComputed notes a column's expression. The first who tells is right: an
// aggregate's column is met again as a mere computed one.
func (t *traps) learnComputed(computed engine.ResolvedComputedColumnBaseNode, grouped bool) error {
	column, err := computed.Column()
	if err != nil {
		return err
	}
	id, err := column.ColumnId()
	if err != nil {
		return err
	}
	expr, err := computed.Expr()
	if err != nil {
		return err
	}
	if len(t.origins[id]) == 0 {
		t.origins[id] = []origin{{expr: expr, grouped: grouped}}
	}
	return nil
}

// learnPairs notes that the columns of a scan are those of another, in order.
func (t *traps) learnPairs(scan, of engine.ResolvedScanNode) error {
	if of == nil {
		return nil
	}
	to, err := columnIDs(scan)
	if err != nil {
		return err
	}
	from, err := columnIDs(of)
	if err != nil {
		return err
	}
	for i, id := range to {
		if i < len(from) {
			t.origins[id] = append(t.origins[id], origin{column: from[i]})
		}
	}
	return nil
}

func (t *traps) learnUnion(scan *engine.ResolvedSetOperationScan) error {
	to, err := columnIDs(scan)
	if err != nil {
		return err
	}
	items, err := scan.InputItemList()
	if err != nil {
		return err
	}
	for _, item := range items {
		output, err := item.OutputColumnList()
		if err != nil {
			return err
		}
		for i, column := range output {
			from, err := column.ColumnId()
			if err != nil {
				return err
			}
			t.origins[to[i]] = append(t.origins[to[i]], origin{column: from})
		}
	}
	return nil
}

func (t *traps) learnJoin(join *engine.ResolvedJoinScan) error {
	kind, err := join.JoinType()
	if err != nil {
		return err
	}
	left, err := join.LeftScan()
	if err != nil {
		return err
	}
	right, err := join.RightScan()
	if err != nil {
		return err
	}
	var missing []engine.ResolvedScanNode
	switch kind {
	case engine.ResolvedJoinScanEnums_JoinTypeInner:
	case engine.ResolvedJoinScanEnums_JoinTypeLeft:
		missing = append(missing, right)
	case engine.ResolvedJoinScanEnums_JoinTypeRight:
		missing = append(missing, left)
	case engine.ResolvedJoinScanEnums_JoinTypeFull:
		missing = append(missing, left, right)
	}
	for _, side := range missing {
		ids, err := columnIDs(side)
		if err != nil {
			return err
		}
		for _, id := range ids {
			t.outer[id] = true
		}
	}
	return nil
}

// learnFilter notes the columns that a condition wants not to be NULL.
func (t *traps) learnFilter(condition engine.ResolvedExprNode) error {
	call, ok := condition.(*engine.ResolvedFunctionCall)
	if !ok {
		return nil
	}
	name, args, err := parts(call)
	if err != nil {
		return err
	}
	switch name {
	case "$and":
		for _, arg := range args {
			if err := t.learnFilter(arg); err != nil {
				return err
			}
		}
	case "$not":
		inner, ok := args[0].(*engine.ResolvedFunctionCall)
		if !ok {
			return nil
		}
		name, args, err := parts(inner)
		if ref, ok := args[0].(*engine.ResolvedColumnRef); ok && name == "$is_null" && err == nil {
			id, err := columnID(ref)
			t.filtered[id] = true
			return err
		}
		return err
	}
	return nil
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
	return eachChild(node, t.inspect)
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

// neverNull tells whether an expression is certainly never NULL. grouped says
// that it is an aggregate of at least one row.
func (t *traps) neverNull(expr engine.ResolvedExprNode, grouped bool) (bool, error) {
	switch e := expr.(type) {
	case *engine.ResolvedLiteral:
		value, err := e.Value()
		if err != nil {
			return false, err
		}
		null, err := value.IsNull()
		return !null, err
	case *engine.ResolvedColumnRef:
		id, err := columnID(e)
		if err != nil {
			return false, err
		}
		return t.columnNeverNull(id)
	case *engine.ResolvedCast:
		lenient, err := e.ReturnNullOnError()
		if err != nil || lenient {
			return false, err
		}
		inner, err := e.Expr()
		if err != nil {
			return false, err
		}
		return t.neverNull(inner, false)
	case *engine.ResolvedFunctionCall:
		return t.callNeverNull(e, false)
	case *engine.ResolvedAggregateFunctionCall:
		return t.callNeverNull(e, grouped)
	case *engine.ResolvedAnalyticFunctionCall:
		return t.callNeverNull(e, true) // a window has at least the row itself
	}
	return false, nil
}

func (t *traps) columnNeverNull(id int32) (bool, error) {
	if t.filtered[id] {
		return true, nil
	}
	origins := t.origins[id]
	if t.outer[id] || len(origins) == 0 {
		return false, nil
	}
	if t.asking[id] {
		return true, nil // then its other origins decide
	}
	t.asking[id] = true
	defer delete(t.asking, id)
	for _, o := range origins {
		present, err := o.present, error(nil)
		switch {
		case o.expr != nil:
			present, err = t.neverNull(o.expr, o.grouped)
		case o.column != 0:
			present, err = t.columnNeverNull(o.column)
		}
		if err != nil || !present {
			return false, err
		}
	}
	return true, nil
}

// Functions by when they are NULL. What is not here may be at any time.
var (
	never = []string{"$count_star", "count", "countif", "row_number", "rank", "dense_rank", "ntile", "$is_null", "$is_true", "$is_false", "$is_distinct_from", "$is_not_distinct_from"}
	// If an argument is.
	ifAny = []string{"concat", "$concat_op", "least", "greatest", "lower", "upper", "trim", "substr", "length", "md5", "sha256", "to_hex", "abs", "round",
		"$add", "$subtract", "$multiply", "$unary_minus", "$equal", "$not_equal", "$less", "$less_or_equal", "$greater", "$greater_or_equal", "$not", "$and", "$or",
		"timestamp_add", "timestamp_trunc", "timestamp_diff"}
	// If the argument is in all rows, or there are none.
	ifEmpty = []string{"min", "max", "sum", "any_value", "avg", "first_value", "last_value"}
)

func (t *traps) callNeverNull(c call, grouped bool) (bool, error) {
	name, args, err := parts(c)
	if err != nil {
		return false, err
	}
	switch {
	case slices.Contains(never, name):
		return true, nil
	case name == "coalesce" || name == "ifnull":
		for _, arg := range args {
			if present, err := t.neverNull(arg, false); err != nil || present {
				return present, err
			}
		}
		return false, nil
	case name == "if":
		return t.allNeverNull(args[1:])
	case name == "$case_no_value":
		return t.casesNeverNull(args, 0)
	case name == "$case_with_value":
		return t.casesNeverNull(args, 1)
	case slices.Contains(ifAny, name):
		return t.allNeverNull(args)
	case slices.Contains(ifEmpty, name):
		if !grouped {
			return false, nil
		}
		return t.allNeverNull(args[:1])
	}
	return false, nil
}

func (t *traps) allNeverNull(args []engine.ResolvedExprNode) (bool, error) {
	for _, arg := range args {
		if present, err := t.neverNull(arg, false); err != nil || !present {
			return false, err
		}
	}
	return true, nil
}

// casesNeverNull takes the arguments of a CASE: pairs of condition and result
// from the first on, and then what ELSE says.
func (t *traps) casesNeverNull(args []engine.ResolvedExprNode, first int) (bool, error) {
	if (len(args)-first)%2 == 0 {
		return false, nil // without ELSE
	}
	results := []engine.ResolvedExprNode{args[len(args)-1]}
	for i := first + 1; i < len(args); i += 2 {
		results = append(results, args[i])
	}
	return t.allNeverNull(results)
}
