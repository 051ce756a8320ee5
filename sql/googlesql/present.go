package googlesql

import (
	"slices"

	engine "github.com/goccy/go-googlesql"
)

// Which columns of a query are never NULL.

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
