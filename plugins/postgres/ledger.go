package postgres

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sluis-cdp/sluis/plugins/destination"
)

// ledgerKeeps is how long an id is remembered. A host sends a change again in
// its next run at the latest.
const ledgerKeeps = "90 days"

// entry is the id of a change in the ledger, which PostgreSQL takes for a uuid: half of
// the id, as the host's are in the order in which they come, and an index grows best at its
// end; and a digest of all of it and of the table's name.
type entry = [16]byte

func entryOf(target, id string) entry {
	sum := sha256.Sum256([]byte(target + "|" + id))
	e := entry(sum[:16])
	if digits, err := hex.DecodeString(id); err == nil && len(digits) == len(e) {
		copy(e[:8], digits)
		copy(e[8:], sum[:8])
	}
	return e
}

// formerEntry is the same in SQL, of the columns of a ledger as it was of old.
const formerEntry = `CASE WHEN id ~* '^[0-9a-f]{32}$' THEN substring(id FROM 1 FOR 16) || encode(substring(sha256(convert_to(target || '|' || id, 'UTF8')) FROM 1 FOR 8), 'hex') ` +
	`ELSE encode(substring(sha256(convert_to(target || '|' || id, 'UTF8')) FROM 1 FOR 16), 'hex') END::uuid`

// makeLedger makes the table of entries unless it is there. It is asked first, so
// that a user without the right to make tables can use one that was made for him.
func makeLedger(ctx context.Context, conn *pgx.Conn, c config) error {
	ledger := c.ledger.Sanitize()
	var there, former bool
	err := conn.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL, EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass($1) AND attname = 'batch' AND NOT attisdropped)",
		ledger).Scan(&there, &former)
	if err != nil {
		return sqlError("look for the ledger", err)
	}
	// A small index finds what is old without looking at the others.
	index := "; CREATE INDEX IF NOT EXISTS " + quote(c.ledger[len(c.ledger)-1]+"_age") + " ON " + ledger + " USING brin (recorded_at) WITH (autosummarize = on)"
	var statement, problem string
	switch {
	case former: // it had the table's name and the id of the change as they are
		statement = "ALTER TABLE " + ledger + " ALTER COLUMN id TYPE uuid USING " + formerEntry + ", DROP COLUMN target, DROP COLUMN batch, ADD PRIMARY KEY (id)" + index
		problem = "the table is as it was of old, and the user may not change it"
	case !there:
		statement = "CREATE TABLE IF NOT EXISTS " + ledger + " (id uuid PRIMARY KEY, recorded_at timestamptz NOT NULL DEFAULT now(), outcome smallint NOT NULL, code text NOT NULL)" + index
		problem = "there is no such table, and the user may not make it"
	default:
		return nil
	}
	if _, err := conn.Exec(ctx, statement); err != nil {
		return &destination.ConfigError{Field: "ledger", Problem: problem + " (" + condition(code(err)) + "): " + statement}
	}
	return nil
}

// claim enters the changes of the batch into the ledger. Those that were there have
// their results already; it returns the others. A transaction that is busy with one of
// them is waited for.
func (w *writing) claim(ctx context.Context) ([]int, error) {
	w.entries = make([]entry, len(w.batch.Changes))
	target := w.config.table.Sanitize()
	for i := range w.batch.Changes {
		w.entries[i] = entryOf(target, w.batch.Changes[i].ID)
	}
	// In one order whatever the batch's, so that two never wait for each other.
	sorted := slices.Clone(w.entries)
	slices.SortFunc(sorted, func(a, b entry) int { return bytes.Compare(a[:], b[:]) })
	sorted = slices.Compact(sorted)
	entered, err := w.enter(ctx, sorted)
	if err != nil {
		return nil, sqlError("enter the batch into the ledger", err)
	}
	ours := make(map[entry]bool, len(entered))
	for _, e := range entered {
		ours[e] = true
	}
	known := map[entry]destination.Result{}
	if len(ours) < len(w.batch.Changes) {
		if known, err = w.known(ctx, sorted); err != nil {
			return nil, err
		}
	}
	var fresh []int
	for i, e := range w.entries {
		if ours[e] {
			ours[e] = false // a second change under one id is a repetition
			fresh = append(fresh, i)
			continue
		}
		w.results[i] = known[e]
	}
	return fresh, nil
}

// enter makes those of entries that are not there, and returns them. Most often none is,
// and COPY is the fastest way to make them. It fails otherwise; this is the first thing
// that a transaction does, so that it can begin another.
func (w *writing) enter(ctx context.Context, entries []entry) ([]entry, error) {
	outcome := int16(destination.Delivered)
	_, err := w.tx.CopyFrom(ctx, w.config.ledger, []string{"id", "outcome", "code"},
		pgx.CopyFromSlice(len(entries), func(i int) ([]any, error) { return []any{entries[i], outcome, ""}, nil }))
	if _, refused := errors.AsType[*pgconn.PgError](err); !refused {
		return entries, err
	}
	if err := w.tx.Rollback(ctx); err != nil {
		return nil, err
	}
	if w.tx, err = w.conn.Begin(ctx); err != nil {
		return nil, err
	}
	rows, err := w.tx.Query(ctx, "INSERT INTO "+w.config.ledger.Sanitize()+" (id, outcome, code) SELECT id, $2::smallint, '' FROM unnest($1::uuid[]) AS u (id) "+
		"ON CONFLICT DO NOTHING RETURNING id", entries, outcome)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[entry])
}

// known are the results of changes that the ledger has.
func (w *writing) known(ctx context.Context, entries []entry) (map[entry]destination.Result, error) {
	rows, err := w.tx.Query(ctx, "SELECT id, outcome, code FROM "+w.config.ledger.Sanitize()+" WHERE id = ANY ($1::uuid[])", entries)
	if err != nil {
		return nil, sqlError("read the ledger", err)
	}
	results := map[entry]destination.Result{}
	var id entry
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
	var skipped, rejected []entry
	for _, i := range fresh {
		switch w.results[i].Outcome { //nolint:exhaustive // the others do not come from apply
		case destination.Skipped:
			skipped = append(skipped, w.entries[i])
		case destination.Rejected:
			rejected = append(rejected, w.entries[i])
		}
	}
	ledger := w.config.ledger.Sanitize()
	if skipped != nil {
		if _, err := w.tx.Exec(ctx, "UPDATE "+ledger+" SET outcome = $2, code = 'absent' WHERE id = ANY ($1::uuid[])", skipped, int16(destination.Skipped)); err != nil {
			return sqlError("correct the ledger", err)
		}
	}
	if rejected != nil {
		if _, err := w.tx.Exec(ctx, "DELETE FROM "+ledger+" WHERE id = ANY ($1::uuid[])", rejected); err != nil {
			return sqlError("correct the ledger", err)
		}
	}
	return nil
}
