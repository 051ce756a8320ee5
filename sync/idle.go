package syncer

import (
	"context"
	"fmt"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// A scheduler plans every sync at each tick, and mostly there is nothing to do.
// Such a run leaves no plan, and only the last one of a sync is recorded. Runs
// and plans that have grown old are deleted; the deliveries stay, as the proof.

// idle reports whether applying the plan would change nothing anywhere.
func (p storedPlan) idle() bool {
	c := p.Counts
	return c.Add+c.Update+c.Refresh+c.Remove+p.forgotten == 0 && p.Held == nil && p.Reasons[ReasonHoldout] == 0
}

// idle records a run that had nothing to do, in place of the one before. Of the
// plan the rows that are held stay, until the next one, to be asked about.
func (r *run) idle(ctx context.Context, d warehouse.Driver, p storedPlan) (Run, error) {
	now := r.config.Now().UTC()
	done := Run{
		Sync: p.Sync, ID: newID("r", now), PlanID: p.ID, Status: RunIdle,
		Started: p.Created, Held: p.Counts.Hold, Seconds: now.Sub(p.Created).Seconds(),
	}
	err := d.Exec(ctx, `MERGE INTO `+own("runs")+` t
		USING (SELECT ? AS sync, ? AS run_id, ? AS plan_id, ? AS holder, ? AS fence, ? AS held, ? AS started_at, ? AS finished_at) n
		ON t.sync = n.sync AND t.status = 'idle'
		WHEN MATCHED THEN UPDATE SET run_id = n.run_id, plan_id = n.plan_id, holder = n.holder, fence = n.fence, held = n.held,
			started_at = n.started_at, finished_at = n.finished_at
		WHEN NOT MATCHED THEN INSERT (run_id, sync, plan_id, holder, fence, planned, status, added, updated, refreshed, removed, failed, skipped, held, started_at, finished_at)
			VALUES (n.run_id, n.sync, n.plan_id, n.holder, n.fence, 0, 'idle', 0, 0, 0, 0, 0, 0, n.held, n.started_at, n.finished_at)`,
		done.Sync, done.ID, done.PlanID, r.config.Holder, r.fence, done.Held, done.Started, now)
	if err != nil {
		return Run{}, fmt.Errorf("sync %s: record the run: %w", r.sync.Name, err)
	}
	err = d.Exec(ctx, "DELETE FROM "+own("plan_changes")+" WHERE sync = ? AND plan_id <> ? AND plan_id NOT IN (SELECT plan_id FROM "+own("plans")+" WHERE status = 'ready')",
		done.Sync, done.PlanID)
	if err != nil {
		return Run{}, fmt.Errorf("sync %s: record the run: %w", r.sync.Name, err)
	}
	return done, nil
}

// retire deletes runs and plans of a time that nobody asks about any more.
func (r *run) retire(ctx context.Context, d warehouse.Driver) error {
	before := r.config.Now().UTC().Add(-r.config.KeepRuns)
	for _, old := range []struct{ table, which string }{
		{"runs", "sync = ? AND started_at < ?"},
		{"plans", "sync = ? AND created_at < ?"},
	} {
		if _, err := forget(ctx, d, old.table, old.which, []any{r.sync.Name, before}); err != nil {
			return fmt.Errorf("sync %s: delete what is old of %s: %w", r.sync.Name, own(old.table), err)
		}
	}
	return nil
}
