package googlesql

import (
	"errors"
	"fmt"
	"slices"

	engine "github.com/goccy/go-googlesql"
)

// checkJoins refuses the joins that GoogleSQL can analyze and BigQuery cannot
// run: outer ones without an equality between the sides.
func checkJoins(node engine.ResolvedNode) error {
	if join, ok := node.(*engine.ResolvedJoinScan); ok {
		if err := checkJoin(join); err != nil {
			return err
		}
	}
	return eachChild(node, checkJoins)
}

func checkJoin(join *engine.ResolvedJoinScan) error {
	kind, err := join.JoinType()
	if err != nil || kind == engine.ResolvedJoinScanEnums_JoinTypeInner {
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
	condition, err := join.JoinExpr()
	if err != nil {
		return err
	}
	leftColumns, err := columnIDs(left)
	if err != nil {
		return err
	}
	rightColumns, err := columnIDs(right)
	if err != nil {
		return err
	}
	found, err := equates(condition, leftColumns, rightColumns)
	if err == nil && !found {
		err = errors.New("an outer join cannot be used without a condition that is an equality of fields from both sides of the join")
	}
	return err
}

// equates tells whether a condition has an equality between two sides, which
// all rows that it takes have to keep.
func equates(condition engine.ResolvedExprNode, left, right []int32) (bool, error) {
	call, ok := condition.(*engine.ResolvedFunctionCall)
	if !ok {
		return false, nil
	}
	name, args, err := parts(call)
	if err != nil {
		return false, fmt.Errorf("read a join's condition: %w", err)
	}
	switch name {
	case "$and":
		for _, arg := range args {
			if found, err := equates(arg, left, right); err != nil || found {
				return found, err
			}
		}
	case "$equal":
		first, err := readsOnly(args[0], left, right)
		if err != nil {
			return false, err
		}
		second, err := readsOnly(args[1], left, right)
		return first*second == -1, err
	}
	return false, nil
}

// readsOnly returns -1 if an expression reads columns of the left side only, 1
// if of the right side only, and 0 otherwise.
func readsOnly(expr engine.ResolvedNode, left, right []int32) (int, error) {
	var columns []int32
	var collect func(engine.ResolvedNode) error
	collect = func(node engine.ResolvedNode) error {
		if ref, ok := node.(*engine.ResolvedColumnRef); ok {
			id, err := columnID(ref)
			columns = append(columns, id)
			return err
		}
		return eachChild(node, collect)
	}
	if err := collect(expr); err != nil || len(columns) == 0 {
		return 0, err
	}
	outside := func(side []int32) bool {
		return slices.ContainsFunc(columns, func(id int32) bool { return !slices.Contains(side, id) })
	}
	switch {
	case !outside(left):
		return -1, nil
	case !outside(right):
		return 1, nil
	}
	return 0, nil
}
