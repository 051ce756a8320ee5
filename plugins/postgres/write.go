package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sluis-cdp/sluis/plugins/destination"
)

// writing is the state of writing one batch.
type writing struct {
	conn       *pgx.Conn
	config     config
	table      table
	batch      destination.Batch
	results    []destination.Result
	entries    []entry // in the ledger, one for each change
	tx         pgx.Tx
	loading    *loading
	committing bool // from here on an error says nothing about the outcome
}

// run writes the batch in one transaction. If it returns an error, nothing was
// written, unless it failed while committing.
func (w *writing) run(ctx context.Context) error {
	var err error
	if w.tx, err = w.conn.Begin(ctx); err != nil {
		return sqlError("begin a transaction", err)
	}
	fresh, err := w.claim(ctx)
	if err != nil {
		return err
	}
	for _, group := range w.groups(fresh) {
		loaded, err := w.load(ctx, group)
		if err == nil && !loaded {
			err = w.apply(ctx, group)
		}
		if err != nil {
			return err
		}
	}
	if err := w.settle(ctx, fresh); err != nil {
		return err
	}
	w.committing = true
	if err := w.tx.Commit(ctx); err != nil {
		return sqlError("commit", err)
	}
	return nil
}

// groups cuts changes into lists that one statement can do each: of one
// operation, and no key twice, since a statement sees none of its own effects. Each
// is in the order of its keys, which an index takes faster, and in which two
// transactions never wait for each other.
func (w *writing) groups(changes []int) [][]int {
	var groups [][]int
	var keys map[string]bool
	var op destination.Op
	for _, i := range changes {
		c := w.batch.Changes[i]
		if c.Op != op || keys[c.Key] {
			groups, keys, op = append(groups, nil), map[string]bool{}, c.Op
		}
		last := len(groups) - 1
		groups[last], keys[c.Key] = append(groups[last], i), true
	}
	for _, group := range groups {
		slices.SortFunc(group, func(i, j int) int { return strings.Compare(w.batch.Changes[i].Key, w.batch.Changes[j].Key) })
	}
	return groups
}

// apply does a group of changes, or finds those that PostgreSQL refuses by
// halving it, and does the others.
func (w *writing) apply(ctx context.Context, group []int) error {
	sub, err := w.tx.Begin(ctx) // a savepoint
	if err != nil {
		return sqlError("set a savepoint", err)
	}
	done, err := w.execute(ctx, sub, group)
	if err == nil {
		if err := sub.Commit(ctx); err != nil {
			return sqlError("release a savepoint", err)
		}
		for n, i := range group {
			w.results[i] = destination.Result{Outcome: destination.Delivered}
			if !done[n] {
				w.results[i] = destination.Result{Outcome: destination.Skipped, Code: "absent", Message: "the table has no row with this key, and rows are only updated"}
			}
		}
		return nil
	}
	refusal, ok := refused(err)
	if !ok {
		return sqlError("write", err)
	}
	if err := sub.Rollback(ctx); err != nil {
		return sqlError("return to a savepoint", err)
	}
	if len(group) == 1 {
		w.results[group[0]] = refusal
		return nil
	}
	half := len(group) / 2
	if err := w.apply(ctx, group[:half]); err != nil {
		return err
	}
	return w.apply(ctx, group[half:])
}

// execute runs one statement for a group. It tells which of the changes had a
// row to change, where that matters.
func (w *writing) execute(ctx context.Context, tx pgx.Tx, group []int) ([]bool, error) {
	op := w.batch.Changes[group[0]].Op
	query, args := w.statement(op, group)
	done := make([]bool, len(group))
	if op == destination.Remove || !w.config.updateOnly {
		if query != "" {
			if _, err := tx.Exec(ctx, query, args...); err != nil {
				return nil, err
			}
		}
		for n := range done {
			done[n] = true
		}
		return done, nil
	}
	rows, err := tx.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	for _, n := range found {
		done[n-1] = true
	}
	return done, err
}

// statement makes the SQL of a group and its arguments: the keys, and one array
// for each column that is written.
func (w *writing) statement(op destination.Op, group []int) (string, []any) {
	key, _ := w.table.column(w.config.key)
	keys := make([]string, len(group))
	for n, i := range group {
		keys[n] = w.batch.Changes[i].Key
	}
	args := []any{keys}
	target := w.config.table.Sanitize()
	if op == destination.Remove && !w.config.clears {
		return "DELETE FROM " + target + " AS t USING unnest($1::text[]) AS u (k) WHERE t." + quote(key.name) + " = u.k::" + key.kind, args
	}
	if op == destination.Remove {
		return w.clear(target, key), args
	}

	arrays, names := []string{"$1::text[]"}, []string{"k"}
	inserted, values := []string{quote(key.name)}, []string{"u.k::" + key.kind}
	var set, before, after []string
	for c, col := range w.batch.Columns {
		found, _ := w.table.column(col.Name)
		arrays = append(arrays, fmt.Sprintf("$%d::%s[]", len(args)+1, sqlType(col.Type)))
		name, value := fmt.Sprintf("c%d", c), fmt.Sprintf("u.c%d::%s", c, found.kind)
		names, values, inserted = append(names, name), append(values, value), append(inserted, quote(col.Name))
		args = append(args, array(w.batch, group, c))
		before = append(before, "t."+quote(col.Name)+found.compared)
		if w.config.updateOnly {
			set = append(set, quote(col.Name)+" = "+value)
		} else {
			set = append(set, quote(col.Name)+" = excluded."+quote(col.Name))
			after = append(after, "excluded."+quote(col.Name)+found.compared)
		}
	}
	from := "unnest(" + strings.Join(arrays, ", ") + ") WITH ORDINALITY AS u (" + strings.Join(names, ", ") + ", n)"
	if w.config.updateOnly {
		if len(set) == 0 {
			set = []string{quote(key.name) + " = t." + quote(key.name)}
		}
		return "UPDATE " + target + " AS t SET " + strings.Join(set, ", ") + " FROM " + from +
			" WHERE t." + quote(key.name) + " = u.k::" + key.kind + " RETURNING u.n", args
	}
	conflict := "NOTHING"
	if len(set) > 0 { // a row that is there already as it should be is not written anew
		conflict = "UPDATE SET " + strings.Join(set, ", ") +
			" WHERE (" + strings.Join(before, ", ") + ") IS DISTINCT FROM (" + strings.Join(after, ", ") + ")"
	}
	return "INSERT INTO " + target + " AS t (" + strings.Join(inserted, ", ") + ") SELECT " + strings.Join(values, ", ") + " FROM " + from +
		" ON CONFLICT (" + quote(key.name) + ") DO " + conflict, args
}

// clear empties the mapped columns, of whom is removed.
func (w *writing) clear(target string, key column) string {
	var set []string
	for _, col := range w.batch.Columns {
		set = append(set, quote(col.Name)+" = NULL")
	}
	if set == nil {
		return ""
	}
	return "UPDATE " + target + " AS t SET " + strings.Join(set, ", ") +
		" FROM unnest($1::text[]) AS u (k) WHERE t." + quote(key.name) + " = u.k::" + key.kind
}

func sqlType(t destination.Type) string {
	switch t {
	case destination.Int64:
		return "bigint"
	case destination.Float64:
		return "double precision"
	case destination.Bool:
		return "boolean"
	case destination.Time:
		return "timestamp with time zone"
	case destination.String:
	}
	return "text"
}

// array is a column of a group as pgx takes it: with pointers, nil for NULL.
func array(b destination.Batch, group []int, c int) any {
	switch b.Columns[c].Type {
	case destination.Int64:
		return pointers[int64](b, group, c)
	case destination.Float64:
		return pointers[float64](b, group, c)
	case destination.Bool:
		return pointers[bool](b, group, c)
	case destination.Time:
		return pointers[time.Time](b, group, c)
	case destination.String:
	}
	return pointers[string](b, group, c)
}

func pointers[T any](b destination.Batch, group []int, c int) []*T {
	out := make([]*T, len(group))
	for n, i := range group {
		if v, ok := b.Changes[i].Values[c].(T); ok {
			out[n] = &v
		}
	}
	return out
}

// refused is the result of a change that PostgreSQL refuses for what it is:
// classes 22 (a value does not fit), 23 (a constraint) and 44 (a view's check),
// and what a trigger raises. Not all of what it says: that may hold values.
func refused(err error) (destination.Result, bool) {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || !slices.Contains([]string{"22", "23", "44", "P0"}, pg.Code[:min(2, len(pg.Code))]) {
		return destination.Result{}, false
	}
	message := "PostgreSQL refused the row: " + strings.ReplaceAll(condition(pg.Code), "_", " ")
	if pg.ColumnName != "" {
		message += " in the column " + pg.ColumnName
	}
	if pg.ConstraintName != "" {
		message += " by the constraint " + pg.ConstraintName
	}
	return destination.Result{Outcome: destination.Rejected, Code: condition(pg.Code), Message: message}, true
}
