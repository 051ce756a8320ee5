package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sluis-cdp/sluis/plugins/destination"
)

// COPY takes rows twice as fast as INSERT … ON CONFLICT, but knows no conflict: it
// is for rows of whose keys the table has none, such as those of a first run. The
// outcome is the same either way.

// loading is how much is known of what COPY would meet.
type loading int

const (
	sampled  loading = iota // some of the keys of a group tell whether the table has any
	verified                // a sample missed one before: all of them do
	never                   // COPY does not take rows for this table
)

// sampleKeys are enough to find a group of which a twentieth is there already, 99 times
// out of 100.
const sampleKeys = 100

// loadable reports whether COPY writes the columns as INSERT would. INSERT casts values
// to the types of the table; COPY does not.
func (w *writing) loadable() bool {
	key, _ := w.table.column(w.config.key)
	if *w.loading == never || w.config.updateOnly || key.kind != "text" {
		return false
	}
	for _, col := range w.batch.Columns {
		found, _ := w.table.column(col.Name)
		if found.kind != sqlType(col.Type) {
			return false
		}
	}
	return true
}

// load writes upserts of a group by COPY if the table seems to have none of their
// keys, and reports whether it did. If it did not, nothing has changed.
func (w *writing) load(ctx context.Context, group []int) (bool, error) {
	if w.batch.Changes[group[0]].Op != destination.Upsert || !w.loadable() {
		return false, nil
	}
	if there, err := w.there(ctx, group); there || err != nil {
		return false, err
	}
	names := []string{w.config.key}
	for _, col := range w.batch.Columns {
		names = append(names, col.Name)
	}
	values := make([]any, len(names))
	rows := pgx.CopyFromSlice(len(group), func(n int) ([]any, error) {
		change := &w.batch.Changes[group[n]]
		values[0] = change.Key
		copy(values[1:], change.Values)
		return values, nil
	})
	sub, err := w.tx.Begin(ctx) // a savepoint
	if err != nil {
		return false, sqlError("set a savepoint", err)
	}
	_, err = sub.CopyFrom(ctx, w.config.table, names, rows)
	if refusal, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch refusal.Code {
		case "23505": // unique_violation: the sample was too small, or another client was faster, or it is of another index
			*w.loading = max(*w.loading, verified)
		case "0A000": // feature_not_supported: the table has row-level security
			*w.loading = never
		}
		if err := sub.Rollback(ctx); err != nil {
			return false, sqlError("return to a savepoint", err)
		}
		return false, nil // INSERT finds the row that is refused
	}
	if err == nil {
		err = sub.Commit(ctx)
	}
	if err != nil {
		return false, sqlError("write", err)
	}
	for _, i := range group {
		w.results[i] = destination.Result{Outcome: destination.Delivered}
	}
	return true, nil
}

// there reports whether the table has any of the keys of a group, as far as a look at
// some of them tells.
func (w *writing) there(ctx context.Context, group []int) (there bool, err error) {
	step := 1
	if *w.loading == sampled {
		step = max(1, len(group)/sampleKeys)
	}
	var keys []string
	for n := 0; n < len(group); n += step {
		keys = append(keys, w.batch.Changes[group[n]].Key)
	}
	err = w.tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM "+w.config.table.Sanitize()+" WHERE "+quote(w.config.key)+" = ANY ($1::text[]))", keys).Scan(&there)
	if err != nil {
		return false, sqlError("look for keys", err)
	}
	return there, nil
}
