package syncer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// erasedTable lists who is being erased, for as long as that takes: nobody on it
// is sent anywhere, whatever models that were not built since still say. It ends
// empty, since it names the people by what destinations know them by.
const erasedTable = "erased"

// ErrCannotRemove says that a destination has no way to remove rows.
var ErrCannotRemove = errors.New("the destination cannot remove rows")

// ErrUnconfirmed says that a destination accepted a removal and has not said
// yet that it is done.
var ErrUnconfirmed = errors.New("the destination accepted them, and has not confirmed them yet")

// Holding is what the syncer has of some people in one sync.
type Holding struct {
	Sync       string `json:"sync"`
	Present    int64  `json:"present"`    // rows that are at the destination, or may be
	Deliveries int64  `json:"deliveries"` // rows on record that were sent, or not although planned
}

// placesFor are placeholders for profile ids and keys, which are opaque: any text.
func placesFor(ids []string) (places string, args []any) {
	for _, id := range ids {
		args = append(args, id)
	}
	return strings.TrimSuffix(strings.Repeat("?, ", len(ids)), ", "), args
}

// Holdings tells which syncs have something of the people with these profile
// ids or keys, by their names; also syncs that are no longer declared.
func (e *Syncer) Holdings(ctx context.Context, ids []string) ([]Holding, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	places, args := placesFor(ids)
	var holdings []Holding
	err := e.query(ctx, `SELECT sync, SUM(present), SUM(deliveries) FROM (
			SELECT sync, CASE WHEN present OR unsure THEN 1 ELSE 0 END AS present, 0 AS deliveries FROM `+own("state")+` WHERE key IN (`+places+`) OR profile_id IN (`+places+`)
			UNION ALL SELECT sync, 0, 1 FROM `+own("deliveries")+` WHERE key IN (`+places+`) OR profile_id IN (`+places+`)
			UNION ALL SELECT sync, 0, 0 FROM `+own("plan_changes")+` WHERE key IN (`+places+`) OR profile_id IN (`+places+`)
			UNION ALL SELECT sync, 0, 0 FROM `+own("holdouts")+` WHERE key IN (`+places+`) OR profile_id IN (`+places+`)
		) h GROUP BY sync ORDER BY sync`, repeat(args, 8), func(row []any) error {
		var h Holding
		err := scan(row, &h.Sync, &h.Present, &h.Deliveries)
		holdings = append(holdings, h)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look for what syncs have of a person: %w", err)
	}
	return holdings, nil
}

func repeat(args []any, n int) []any {
	var all []any
	for range n {
		all = append(all, args...)
	}
	return all
}

// Erasing notes that the people with these profile ids or keys are being
// erased. No run asks for consent after that and sends them; what is announced
// already goes out, is in [Syncer.Holdings], and [Syncer.Erase] waits for it by
// failing with a [*BusyError]. It may be repeated.
func (e *Syncer) Erasing(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	err := e.change(ctx, func(d warehouse.Driver) error {
		if err := createTables(ctx, d); err != nil {
			return err
		}
		now := e.config.Now().UTC().Truncate(time.Microsecond)
		rows := make([][]any, len(ids))
		for i, id := range ids {
			rows[i] = []any{id, now}
		}
		return d.Append(ctx, warehouse.SchemaSync, erasedTable, []string{"id", "erased_at"}, rows)
	})
	if err != nil {
		return fmt.Errorf("note who is being erased: %w", err)
	}
	return nil
}

// Announced waits until no run can send anybody by what consent it asked for before
// the call, unless [Syncer.Holdings] has them: until each run that is under way has
// renewed its lease, which it does before it asks again, or has ended, or is taken
// for dead. Whoever called [Syncer.Erasing] looks for holdings after that, where
// several programs use a warehouse at once. Where it is one at a time, what was asked
// was announced too once another one can get in.
func (e *Syncer) Announced(ctx context.Context) error {
	before, err := e.leases(ctx)
	for pending := before; err == nil && len(pending) > 0; {
		if err = e.config.Wait(ctx, time.Second); err == nil {
			pending, err = e.leases(ctx)
			maps.DeleteFunc(pending, func(sync string, until time.Time) bool { return !until.Equal(before[sync]) })
		}
	}
	if err != nil {
		return fmt.Errorf("wait for syncs that asked for consent before: %w", err)
	}
	return nil
}

// Erase removes those noted by [Syncer.Erasing] from the destination of s, as a
// run that does nothing else: no model is needed, and no guard holds it. Each
// removal has the reason [ReasonErased]. A run that has nothing to remove has no
// id. It fails with [ErrCannotRemove] where the destination has no way to, with
// [ErrUnconfirmed] where it accepted the removal and does not say yet that it is
// done, with a [*BusyError] while s runs; rows that failed are tried again by the
// next call.
func (e *Syncer) Erase(ctx context.Context, s Sync) (done Run, err error) {
	ctx, span := startSync(ctx, "sync erase", s)
	defer func() { endRun(span, done, err) }()
	r, err := e.begin(ctx, s)
	if err != nil {
		return Run{}, err
	}
	done, err = r.erase(ctx)
	return done, errors.Join(err, r.end(ctx))
}

func (r *run) erase(ctx context.Context) (Run, error) {
	if err := r.settle(ctx); err != nil {
		return Run{}, err
	}
	d, err := r.warehouse(ctx)
	if err != nil {
		return Run{}, err
	}
	p, err := r.planRemovals(ctx, "e", func(planID string) string { return erasureDiff(dialect(d.Dialect()), r.sync.Name, planID) })
	if err != nil {
		return Run{}, err
	}
	var done Run
	if p.Counts.Remove > 0 {
		if done, err = r.apply(ctx, p, Options{}); err != nil {
			return done, err
		}
	}
	return done, r.confirm(ctx)
}

// confirm waits until no removal of those who are being erased waits for a
// receipt, as long as a run would wait for a row.
func (r *run) confirm(ctx context.Context) error {
	for attempt := 1; ; attempt++ {
		d, err := r.warehouse(ctx)
		if err != nil {
			return err
		}
		waiting, err := r.countAccepted(ctx, d, " AND op = 'remove' AND "+erasedHere)
		switch {
		case err != nil || waiting == 0:
			return err
		case attempt == r.config.Attempts:
			return fmt.Errorf("sync %s: %d removals at the destination %s: %w: do the same again later", r.sync.Name, waiting, r.sync.Destination, ErrUnconfirmed)
		}
		if err := r.release(); err != nil {
			return err
		}
		if err := r.config.Wait(ctx, r.backoff(attempt)); err != nil {
			return fmt.Errorf("sync %s: stopped: %w", r.sync.Name, err)
		}
		if err := r.settle(ctx); err != nil {
			return err
		}
	}
}

// erasedHere are the rows of the state of those who are being erased.
var erasedHere = "(key IN (SELECT id FROM " + own(erasedTable) + ") OR profile_id IN (SELECT id FROM " + own(erasedTable) + "))"

// planRemovals stores a plan of removals alone, which a statement finds from the
// state alone. One of nothing is not stored.
func (r *run) planRemovals(ctx context.Context, prefix string, find func(planID string) string) (p storedPlan, err error) {
	ctx, span := startSpan(ctx, "plan")
	defer func() { endPlan(span, p.Plan, err) }()
	d, err := r.warehouse(ctx)
	if err != nil {
		return storedPlan{}, err
	}
	if err := r.recover(ctx, d); err != nil {
		return storedPlan{}, err
	}
	columns := r.blank()
	now := r.config.Now()
	p = storedPlan{
		Plan:  Plan{Sync: r.sync.Name, ID: newID(prefix, now), Created: now.UTC().Truncate(time.Microsecond)},
		fence: r.fence, status: planReady, columns: columns,
		definition: r.sync.definition(columns), mappingVersion: r.sync.mappingVersion(columns),
	}
	if err := d.Exec(ctx, find(p.ID)); err != nil {
		return storedPlan{}, fmt.Errorf("sync %s: plan removals: %w", r.sync.Name, err)
	}
	rows, err := warehouse.Collect(ctx, d, "SELECT COUNT(*) FROM "+own("state")+" WHERE sync = ?", r.sync.Name)
	if err != nil {
		return storedPlan{}, fmt.Errorf("sync %s: count what was sent: %w", r.sync.Name, err)
	}
	var known int64
	if err := scan(rows[0], &known); err != nil {
		return storedPlan{}, err
	}
	if err := r.summarize(ctx, d, &p, known); err != nil || p.Counts.Remove == 0 {
		return p, err
	}
	return p, r.storePlan(ctx, d, p)
}

// erasureDiff is the statement that stores the changes of such a plan.
func erasureDiff(d dialect, sync, planID string) string {
	return `INSERT INTO ` + own("plan_changes") + ` (plan_id, sync, seq, key, profile_id, kind, op, reason, row_hash, change_id, decision_id, policy_version, payload, known)
SELECT ` + literal(planID) + `, sync, ROW_NUMBER() OVER (ORDER BY CASE WHEN present THEN 0 ELSE 1 END, key), key, profile_id,
	CASE WHEN present THEN 'remove' ELSE 'forget' END, 'remove', 'erased', ` + d.nothing() + `,
	COALESCE(CASE WHEN unsure AND op = 'remove' THEN change_id END, ` + d.ofChange(planID, "'remove'", "''", "key") + `),
	decision_id, policy_version, ` + d.nothing() + `, TRUE
FROM ` + own("state") + ` WHERE sync = ` + literal(sync) + ` AND NOT (status = 'accepted' AND op = 'remove') AND ` + erasedHere
}

// Forget deletes all that the syncer has of the people with these profile ids or
// keys: state, deliveries, and changes of plans, which makes those plans stale.
// It returns how many rows there were in each table. It is called when they are
// gone from all destinations, and may be repeated.
func (e *Syncer) Forget(ctx context.Context, ids []string) (map[string]int64, error) {
	forgotten := make(map[string]int64)
	if len(ids) == 0 {
		return forgotten, nil
	}
	places, args := placesFor(ids)
	err := e.change(ctx, func(d warehouse.Driver) error {
		for _, table := range []struct{ name, which string }{
			{"plan_changes", "key IN (" + places + ") OR profile_id IN (" + places + ")"},
			{"deliveries", "key IN (" + places + ") OR profile_id IN (" + places + ")"},
			{"holdouts", "key IN (" + places + ") OR profile_id IN (" + places + ")"},
			{"state", "key IN (" + places + ") OR profile_id IN (" + places + ")"},
			{keptTable, "key IN (" + places + ") OR profile_id IN (" + places + ")"},
			{erasedTable, "id IN (" + places + ") OR id IN (" + places + ")"},
		} {
			n, err := forget(ctx, d, table.name, table.which, repeat(args, 2))
			if err != nil {
				return err
			}
			if table.name != erasedTable && n > 0 {
				forgotten[table.name] = n
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("forget a person in the syncer's tables: %w", err)
	}
	return forgotten, nil
}

// forget deletes rows, and says how many there were; none of a table that is
// not there.
func forget(ctx context.Context, d warehouse.Driver, table, which string, args []any) (n int64, err error) {
	if _, err := d.Columns(ctx, warehouse.SchemaSync, table); errors.Is(err, warehouse.ErrNoRelation) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	rows, err := warehouse.Collect(ctx, d, "SELECT COUNT(*) FROM "+own(table)+" WHERE "+which, args...)
	if err != nil {
		return 0, err
	}
	if err := scan(rows[0], &n); err != nil || n == 0 {
		return 0, err
	}
	return n, d.Exec(ctx, "DELETE FROM "+own(table)+" WHERE "+which, args...)
}

// change opens the warehouse for something.
func (e *Syncer) change(ctx context.Context, do func(warehouse.Driver) error) error {
	d, err := e.config.Open(ctx)
	if err != nil {
		return err
	}
	return errors.Join(do(d), d.Close())
}
