package syncer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// What a person knows of a destination and the state does not: that rows are
// there which were never sent, or are no longer there. Nothing is sent for it,
// but what has to be removed is removed as ever.

// outcomeAssumed is of deliveries that nobody made: see [Syncer.Rebaseline].
const outcomeAssumed = "assumed"

// Rebaseline takes the destination to have what the model says now of all who may
// be sent, or of the rows with these keys, and sends nothing. Rows that are held
// since their outcome is unknown, or they were rejected, are settled by it as
// well. Whoever is to be removed still is by the next run: so are those who
// withdraw later, since from now on the rows count as being there.
// It fails with a [*BusyError] while s runs.
func (e *Syncer) Rebaseline(ctx context.Context, s Sync, keys []string) (Run, error) {
	r, err := e.begin(ctx, s)
	if err != nil {
		return Run{}, err
	}
	done, err := r.rebaseline(ctx, keys)
	return done, errors.Join(err, r.end(ctx))
}

func (r *run) rebaseline(ctx context.Context, keys []string) (Run, error) {
	d, err := r.warehouse(ctx)
	if err != nil {
		return Run{}, err
	}
	src, err := inspect(ctx, d, r.sync)
	if err != nil {
		return Run{}, err
	}
	if err := r.recover(ctx, d); err != nil {
		return Run{}, err
	}
	before, err := r.look(ctx, d)
	if err != nil {
		return Run{}, err
	}
	src.erasures, src.fingerprints = before.erasures, before.lacksFingerprints()
	now := r.config.Now()
	planID := newID("b", now)
	if err := r.compare(ctx, d, src, planID, now); err != nil {
		return Run{}, err
	}
	which, args := "plan_id = ? AND (kind IN ('add', 'update', 'refresh') OR kind = 'hold' AND reason IN ('outcome_unknown', 'quarantined'))", []any{planID}
	if len(keys) > 0 {
		places, more := placesFor(keys)
		which, args = which+" AND key IN ("+places+")", append(args, more...)
	}
	done, err := r.assume(ctx, d, planID, which, args)
	if err != nil || done.Added == 0 {
		return done, errors.Join(err, r.discard(ctx, d, planID))
	}
	version, at := r.sync.mappingVersion(src.columns), done.Started
	changes := []any{r.sync.Name, done.ID, planID, r.fence, version, at}
	err = d.Exec(ctx, `INSERT INTO `+own("deliveries")+` (sync, run_id, plan_id, seq, fence, change_id, key, profile_id, op, reason, outcome, row_hash, mapping_version,
			decision_id, policy_version, present, unsure, recorded_at)
		SELECT ?, ?, ?, seq, ?, `+src.dialect.changeID(planID, "p")+`, key, profile_id, 'upsert', 'rebaseline', '`+outcomeAssumed+`', row_hash, ?, decision_id, policy_version, known, FALSE, ?
		FROM `+own("plan_changes")+` p WHERE `+which, append(changes, args...)...)
	if err == nil {
		err = d.Exec(ctx, `MERGE INTO `+own("state")+` t
			USING (SELECT key, profile_id, row_hash, fingerprint, fingerprint_by, `+src.dialect.changeID(planID, "p")+` AS change_id, decision_id, policy_version FROM `+own("plan_changes")+` p WHERE `+which+`) n
			ON t.sync = ? AND t.key = n.key
			WHEN MATCHED THEN UPDATE SET profile_id = n.profile_id, row_hash = n.row_hash, fingerprint = n.fingerprint, fingerprint_by = n.fingerprint_by, mapping_version = ?, present = TRUE, unsure = FALSE, resend = FALSE,
				status = 'delivered', op = 'upsert', pending_hash = NULL, change_id = n.change_id, intent = NULL, decision_id = n.decision_id, policy_version = n.policy_version,
				acked_at = ?, attempts = 0, first_failed_at = NULL, last_error_code = NULL
			WHEN NOT MATCHED THEN INSERT (sync, key, profile_id, row_hash, fingerprint, fingerprint_by, mapping_version, present, unsure, resend, status, op, change_id, decision_id, policy_version, acked_at, attempts)
				VALUES (?, n.key, n.profile_id, n.row_hash, n.fingerprint, n.fingerprint_by, ?, TRUE, FALSE, FALSE, 'delivered', 'upsert', n.change_id, n.decision_id, n.policy_version, ?, 0)`,
			append(args, r.sync.Name, version, at, r.sync.Name, version, at)...)
	}
	if err != nil {
		return Run{}, fmt.Errorf("sync %s: note what the destination has: %w", r.sync.Name, err)
	}
	return done, r.discard(ctx, d, planID)
}

// assume records a run that sends nothing and changes the state of the rows of
// plan_changes: from then on, older plans are stale. One of no rows is not recorded.
func (r *run) assume(ctx context.Context, d warehouse.Driver, planID, which string, args []any) (Run, error) {
	rows, err := warehouse.Collect(ctx, d, "SELECT COUNT(*) FROM "+own("plan_changes")+" WHERE "+which, args...)
	if err != nil {
		return Run{}, fmt.Errorf("sync %s: count the rows: %w", r.sync.Name, err)
	}
	now := r.config.Now().UTC().Truncate(time.Microsecond)
	done := Run{Sync: r.sync.Name, PlanID: planID, Status: RunAssumed, Started: now}
	if err := scan(rows[0], &done.Added); err != nil || done.Added == 0 {
		return done, err
	}
	done.ID = newID("r", now)
	err = d.Append(ctx, warehouse.SchemaSync, "runs",
		[]string{"run_id", "sync", "plan_id", "holder", "fence", "planned", "status", "added", "started_at", "finished_at"},
		[][]any{{done.ID, done.Sync, planID, r.config.Holder, r.fence, done.Added, string(done.Status), done.Added, now, now}})
	if err != nil {
		return Run{}, fmt.Errorf("sync %s: record the run: %w", r.sync.Name, err)
	}
	return done, nil
}

// discard deletes the changes of a plan that is none.
func (r *run) discard(ctx context.Context, d warehouse.Driver, planID string) error {
	if err := d.Exec(ctx, "DELETE FROM "+own("plan_changes")+" WHERE plan_id = ?", planID); err != nil {
		return fmt.Errorf("sync %s: delete what was compared: %w", r.sync.Name, err)
	}
	return nil
}

// Forgotten says what [Syncer.ForgetRows] forgets.
type Forgotten struct {
	Sync string `json:"sync"`
	Rows int64  `json:"rows"` // forgotten, or to be
	Gone int64  `json:"gone"` // of them, no longer in the model: if they are at the destination after all, nobody will remove them
	Kept int64  `json:"kept"` // not forgotten: their consent has ended, and they have to be removed first
	Done bool   `json:"done"`
}

// ForgetRows forgets that rows are at the destination, all or those with these
// keys: for when they are not, since it was emptied. The next run sends those that
// are in the model as new. Rows of people who may not be there are kept until they
// are removed. What was sent stays on record.
// Unless it is confirmed, it only counts. It fails with a [*BusyError] while s runs.
func (e *Syncer) ForgetRows(ctx context.Context, s Sync, keys []string, confirmed bool) (Forgotten, error) {
	r, err := e.begin(ctx, s)
	if err != nil {
		return Forgotten{}, err
	}
	f, err := r.forgetRows(ctx, keys, confirmed)
	return f, errors.Join(err, r.end(ctx))
}

func (r *run) forgetRows(ctx context.Context, keys []string, confirmed bool) (Forgotten, error) {
	d, err := r.warehouse(ctx)
	if err != nil {
		return Forgotten{}, err
	}
	src, err := inspect(ctx, d, r.sync)
	if err != nil {
		return Forgotten{}, err
	}
	if err := r.recover(ctx, d); err != nil {
		return Forgotten{}, err
	}
	if src.erasures, err = r.believeConsents(ctx, d); err != nil {
		return Forgotten{}, err
	}
	now := r.config.Now()
	planID := newID("f", now)
	only, args := "", []any(nil)
	if len(keys) > 0 {
		places, more := placesFor(keys)
		only, args = " WHERE key IN ("+places+")", more
	}
	if err := d.Exec(ctx, src.forgettable(r.sync, planID, now)+only, args...); err != nil {
		return Forgotten{}, fmt.Errorf("sync %s: look for rows to forget: %w", r.sync.Name, err)
	}
	f, err := r.countForgotten(ctx, d, src, planID)
	if err == nil && confirmed {
		err = r.forgetThem(ctx, d, planID)
		f.Done = err == nil
	}
	return f, errors.Join(err, r.discard(ctx, d, planID))
}

func (r *run) countForgotten(ctx context.Context, d warehouse.Driver, src sources, planID string) (Forgotten, error) {
	key := src.dialect.quote(r.sync.Key)
	rows, err := warehouse.Collect(ctx, d, `SELECT COUNT(CASE WHEN kind = 'forget' THEN 1 END), COUNT(CASE WHEN kind = 'forget' AND m.key IS NULL THEN 1 END), COUNT(CASE WHEN kind = 'remove' THEN 1 END)
		FROM `+own("plan_changes")+` c
		LEFT JOIN (SELECT DISTINCT `+src.dialect.text(key)+` AS key FROM `+models(src.dialect.quote(r.sync.Model))+`) m ON m.key = c.key WHERE plan_id = ?`, planID)
	if err != nil {
		return Forgotten{}, fmt.Errorf("sync %s: count the rows: %w", r.sync.Name, err)
	}
	f := Forgotten{Sync: r.sync.Name}
	return f, scan(rows[0], &f.Rows, &f.Gone, &f.Kept)
}

func (r *run) forgetThem(ctx context.Context, d warehouse.Driver, planID string) error {
	done, err := r.assume(ctx, d, planID, "plan_id = ? AND kind = 'forget'", []any{planID})
	if err != nil || done.Added == 0 {
		return err
	}
	err = d.Exec(ctx, "DELETE FROM "+own("state")+" WHERE sync = ? AND key IN (SELECT key FROM "+own("plan_changes")+" WHERE plan_id = ? AND kind = 'forget')", r.sync.Name, planID)
	if err != nil {
		return fmt.Errorf("sync %s: forget rows: %w", r.sync.Name, err)
	}
	return nil
}

// forgettable is the statement that stores which rows of the state may be forgotten,
// and which have to be removed first; a condition can follow it.
func (src sources) forgettable(s Sync, planID string, now time.Time) string {
	return `INSERT INTO ` + own("plan_changes") + ` (plan_id, sync, key, kind)
` + src.judgedState(s, now, "") + `
SELECT ` + literal(planID) + `, ` + literal(s.Name) + `, key, CASE WHEN present AND (erased OR NOT allowed OR status = 'accepted' AND op = 'remove') THEN 'remove' ELSE 'forget' END
FROM judged`
}
