package postgres

import (
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sluis-cdp/sluis/plugins/destination"
)

// ledgerKeeps is how long an id is remembered. A host sends a change again in
// its next run at the latest.
const ledgerKeeps = "90 days"

// makeLedger makes the table of ids unless it is there. It is asked first, so
// that a user without the right to make tables can use one that was made for him.
func makeLedger(ctx context.Context, conn *pgx.Conn, c config) error {
	var there bool
	if err := conn.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", c.ledger.Sanitize()).Scan(&there); err != nil {
		return sqlError("look for the ledger", err)
	}
	if there {
		return nil
	}
	statement := "CREATE TABLE IF NOT EXISTS " + c.ledger.Sanitize() + ` (target text COLLATE "C", id text COLLATE "C", outcome smallint NOT NULL, code text NOT NULL, ` +
		`batch text NOT NULL, recorded_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (target, id))`
	if _, err := conn.Exec(ctx, statement); err != nil {
		return &destination.ConfigError{Field: "ledger", Problem: "there is no such table, and the user may not make it (" + condition(code(err)) + "): " + statement}
	}
	return nil
}

// claim enters the ids of the batch into the ledger. Those that were there have
// their results already; it returns the other changes. A transaction that is
// busy with one of them is waited for.
func (w *writing) claim(ctx context.Context) ([]int, error) {
	ids := make([]string, len(w.batch.Changes))
	for i, c := range w.batch.Changes {
		ids[i] = c.ID
	}
	// In one order whatever the batch's, so that two never wait for each other.
	slices.Sort(ids)
	ids = slices.Compact(ids)
	ours, err := w.enter(ctx, ids)
	if err != nil {
		return nil, sqlError("enter the batch into the ledger", err)
	}
	known := map[string]destination.Result{}
	if len(ours) < len(w.batch.Changes) {
		if known, err = w.known(ctx, ids); err != nil {
			return nil, err
		}
	}
	var fresh []int
	for i, c := range w.batch.Changes {
		if ours[c.ID] {
			ours[c.ID] = false // a second change under one id is a repetition
			fresh = append(fresh, i)
			continue
		}
		w.results[i] = known[c.ID]
	}
	return fresh, nil
}

// enter makes entries for those of ids that have none, and returns them. Most often
// none has, and COPY is the fastest way to enter them. It fails otherwise; this is the
// first thing that a transaction does, so that it can begin another.
func (w *writing) enter(ctx context.Context, ids []string) (map[string]bool, error) {
	target, outcome := w.config.table.Sanitize(), int16(destination.Delivered)
	_, err := w.tx.CopyFrom(ctx, w.config.ledger, []string{"target", "id", "outcome", "code", "batch"},
		pgx.CopyFromSlice(len(ids), func(i int) ([]any, error) { return []any{target, ids[i], outcome, "", w.batch.ID}, nil }))
	if _, refused := errors.AsType[*pgconn.PgError](err); refused {
		if err := w.tx.Rollback(ctx); err != nil {
			return nil, err
		}
		if w.tx, err = w.conn.Begin(ctx); err != nil {
			return nil, err
		}
		rows, err := w.tx.Query(ctx, "INSERT INTO "+w.config.ledger.Sanitize()+" (target, id, outcome, code, batch) "+
			"SELECT $1, id, $3::smallint, '', $4 FROM unnest($2::text[]) AS u (id) ON CONFLICT DO NOTHING RETURNING id", target, ids, outcome, w.batch.ID)
		if err != nil {
			return nil, err
		}
		if ids, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	ours := make(map[string]bool, len(ids))
	for _, id := range ids {
		ours[id] = true
	}
	return ours, nil
}

// known are the results of changes that the ledger has.
func (w *writing) known(ctx context.Context, ids []string) (map[string]destination.Result, error) {
	rows, err := w.tx.Query(ctx, "SELECT id, outcome, code FROM "+w.config.ledger.Sanitize()+" WHERE target = $1 AND id = ANY ($2::text[])",
		w.config.table.Sanitize(), ids)
	if err != nil {
		return nil, sqlError("read the ledger", err)
	}
	results := map[string]destination.Result{}
	var id string
	var outcome int16
	var r destination.Result
	_, err = pgx.ForEachRow(rows, []any{&id, &outcome, &r.Code}, func() error {
		r.Outcome, r.Message = destination.Outcome(outcome), ""
		if r.Outcome == destination.Skipped {
			r.Message = "skipped when it was first sent"
		}
		results[id] = r
		return nil
	})
	if err != nil {
		return nil, sqlError("read the ledger", err)
	}
	return results, nil
}

// settle corrects the entries of changes that were not delivered: a skipped one
// is remembered as such, a rejected one may come again.
func (w *writing) settle(ctx context.Context, fresh []int) error {
	var skipped, rejected []string
	for _, i := range fresh {
		switch w.results[i].Outcome { //nolint:exhaustive // the others do not come from apply
		case destination.Skipped:
			skipped = append(skipped, w.batch.Changes[i].ID)
		case destination.Rejected:
			rejected = append(rejected, w.batch.Changes[i].ID)
		}
	}
	ledger, target := w.config.ledger.Sanitize(), w.config.table.Sanitize()
	if skipped != nil {
		if _, err := w.tx.Exec(ctx, "UPDATE "+ledger+" SET outcome = $3, code = 'absent' WHERE target = $1 AND id = ANY ($2::text[])",
			target, skipped, int16(destination.Skipped)); err != nil {
			return sqlError("correct the ledger", err)
		}
	}
	if rejected != nil {
		if _, err := w.tx.Exec(ctx, "DELETE FROM "+ledger+" WHERE target = $1 AND id = ANY ($2::text[])", target, rejected); err != nil {
			return sqlError("correct the ledger", err)
		}
	}
	return nil
}
