package syncer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// Options change how a plan is applied.
type Options struct {
	// Approve carries out the removals that a guard holds back.
	Approve bool
}

// Run says what came of applying a plan. Each row that was sent also left its
// own record, see [Syncer.Deliveries].
type Run struct {
	Sync      string    `json:"sync"`
	ID        string    `json:"run_id"`
	PlanID    string    `json:"plan_id"`
	Status    RunStatus `json:"status"`
	Started   time.Time `json:"started_at"`
	Added     int64     `json:"added"`
	Updated   int64     `json:"updated"`
	Refreshed int64     `json:"refreshed"`
	Removed   int64     `json:"removed"`
	Failed    int64     `json:"failed"`  // rejected, or to be tried again by the next run
	Skipped   int64     `json:"skipped"` // consent ended since the plan, or not for the destination to do
	Held      int64     `json:"held"`
	Seconds   float64   `json:"seconds"`
}

// RunStatus is how a run ended.
type RunStatus string

// The statuses.
const (
	RunUnfinished RunStatus = "unfinished" // under way, stopped, or killed; its plan can be applied again
	RunDone       RunStatus = "done"
	RunHeld       RunStatus = "held"    // done, but for what a guard holds
	RunIdle       RunStatus = "idle"    // there was nothing to do; of such runs of a sync only the last is kept
	RunAssumed    RunStatus = "assumed" // nothing was sent; see [Syncer.Rebaseline] and [Syncer.ForgetRows]
)

// StaleError says that a plan may not be applied any more.
type StaleError struct {
	Sync, PlanID, Because string

	overtaken bool // by a plan that was applied since
}

// Error tells why, and how to go on.
func (e *StaleError) Error() string {
	return fmt.Sprintf("sync %s: plan %s cannot be applied: %s: make a new plan with sluis sync plan %s", e.Sync, e.PlanID, e.Because, e.Sync)
}

// Run plans and applies. It is what a scheduler calls, at any interval.
// Whatever a run before it left undone becomes part of the new plan.
func (e *Syncer) Run(ctx context.Context, s Sync, o Options) (done Run, err error) {
	ctx, span := startSync(ctx, "sync run", s)
	defer func() { endRun(span, done, err) }()
	r, err := e.begin(ctx, s)
	if err != nil {
		return Run{}, err
	}
	if err := r.settle(ctx); err != nil {
		return Run{}, errors.Join(err, r.end(ctx))
	}
	done, err = r.planAndApply(ctx, o)
	return done, errors.Join(err, r.end(ctx))
}

func (r *run) planAndApply(ctx context.Context, o Options) (Run, error) {
	p, err := r.plan(ctx)
	if err != nil {
		return Run{}, err
	}
	d, err := r.warehouse(ctx)
	if err != nil {
		return Run{}, err
	}
	if p.idle() {
		return r.idle(ctx, d, p)
	}
	if err := r.storePlan(ctx, d, p); err != nil {
		return Run{}, err
	}
	return r.apply(ctx, p, o)
}

// Apply carries out a stored plan of s: exactly its changes, but for those
// whose consent ended since. A plan that was interrupted is resumed: what was
// acknowledged is not sent again. It fails with a [*StaleError] before anything
// is sent if something else was sent since the plan was made, and with a
// [*HeldError], after all else was sent, if a guard holds removals back.
//
// A plan of which a guard holds removals stays open for approval, whatever was sent
// since: then a new plan is made and applied, of which the guard holds nothing that the
// approved plan would have removed.
//
// When ctx ends, the batch in flight is finished, and what was sent is recorded first.
func (e *Syncer) Apply(ctx context.Context, s Sync, planID string, o Options) (done Run, err error) {
	ctx, span := startSync(ctx, "sync apply", s)
	defer func() { endRun(span, done, err) }()
	r, err := e.begin(ctx, s)
	if err != nil {
		return Run{}, err
	}
	done, err = r.applyStored(ctx, planID, o)
	return done, errors.Join(err, r.end(ctx))
}

// application is the state of applying one plan.
type application struct {
	*run
	Run
	plan    storedPlan
	src     sources
	options Options
	resumed bool
	planned int64 // how many changes are to be sent

	target      destination.Destination
	description destination.Description
	batchRows   int64          // at most
	windowRows  int64          // of the next window
	announced   time.Time      // when this window was
	slow        bool           // it took long to announce
	intents     int64          // counts the windows, each attempt apart
	unsent      map[int64]bool // announced as absent, and left for the next window
	refused     int            // batches in a row of which nothing was taken
	accepted    bool           // something was accepted, so that there is a receipt to ask about
}

func (r *run) applyStored(ctx context.Context, planID string, o Options) (Run, error) {
	d, err := r.warehouse(ctx)
	if err != nil {
		return Run{}, err
	}
	p, err := r.loadPlan(ctx, d, planID)
	if err != nil {
		return Run{}, err
	}
	if p.status == planHeld {
		return r.applyHeld(ctx, p, o)
	}
	done, err := r.apply(ctx, p, o)
	if s, ok := errors.AsType[*StaleError](err); ok && s.overtaken && o.Approve && p.Held != nil {
		return r.applyHeld(ctx, p, o)
	}
	return done, err
}

// applyHeld carries out, once they are approved, the removals that a plan was held for,
// and what else there is to do by now.
func (r *run) applyHeld(ctx context.Context, p storedPlan, o Options) (Run, error) {
	d, err := r.warehouse(ctx)
	if err != nil {
		return Run{}, err
	}
	if r.edited(p) {
		return Run{}, stale(p, edited)
	}
	digest, guarded := newPlanDigest(p.Sync, p.ID), 0
	if err := eachStored(ctx, d, p.ID, func(c storedChange) {
		if c.guarded() {
			digest.add(c)
			guarded++
		}
	}); err != nil {
		return Run{}, fmt.Errorf("sync %s: read plan %s: %w", p.Sync, p.ID, err)
	}
	if guarded == 0 {
		return Run{}, stale(p, "its removals were carried out, or are not held any more")
	}
	if digest.sum() != p.Held.Digest {
		return Run{}, stale(p, tampered)
	}
	if !o.Approve {
		return Run{}, p.Held
	}
	if err := r.settle(ctx); err != nil {
		return Run{}, err
	}
	r.approved = p.ID
	return r.planAndApply(ctx, Options{})
}

func (r *run) apply(ctx context.Context, p storedPlan, o Options) (_ Run, err error) {
	ctx, span := startSpan(ctx, "apply", trace.WithAttributes(attribute.String("sluis.plan.id", p.ID)))
	defer func() { endSpan(span, err) }()
	a := &application{run: r, plan: p, options: o}
	if err := a.prepare(ctx); err != nil {
		return Run{}, err
	}
	err = a.start(ctx)
	if err == nil && a.planned > 0 {
		err = a.deliver(ctx)
	}
	a.Seconds = r.config.Now().Sub(a.Started).Seconds()
	if err != nil {
		return a.Run, errors.Join(err, a.stop(ctx))
	}
	if err := a.finish(ctx); err != nil {
		return a.Run, err
	}
	if a.Status == RunHeld {
		return a.Run, a.plan.Held
	}
	return a.Run, nil
}

// prepare makes sure that the plan may be applied.
func (a *application) prepare(ctx context.Context) error {
	d, err := a.warehouse(ctx)
	if err != nil {
		return err
	}
	if err := a.fresh(ctx, d); err != nil {
		return err
	}
	if a.src, err = inspectConsent(ctx, d, a.sync); err != nil {
		return err
	}
	if err := a.recover(ctx, d); err != nil {
		return err
	}
	if a.plan.extent == nil { // another process may have made it
		if err := a.verify(ctx, d); err != nil {
			return err
		}
	}
	a.planned, a.Held = a.plan.extent.sent, a.plan.extent.held
	if a.options.Approve {
		a.planned += a.plan.extent.guarded
	} else {
		a.Held += a.plan.extent.guarded
	}
	return nil
}

// fresh refuses a plan that was overtaken.
func (a *application) fresh(ctx context.Context, d warehouse.Driver) error {
	switch a.plan.status {
	case planReady:
	case planApplying:
		a.resumed = true
	case planApplied, planHeld:
		return stale(a.plan, "it was applied already")
	case planOutdated:
		return stale(a.plan, "pseudonyms were rotated since it was made")
	default:
		return stale(a.plan, "its status is unknown")
	}
	if a.edited(a.plan) {
		return stale(a.plan, edited)
	}
	rows, err := warehouse.Collect(ctx, d, "SELECT COUNT(*) FROM "+own("runs")+" WHERE sync = ? AND fence > ? AND plan_id <> ? AND planned > 0",
		a.sync.Name, a.plan.fence, a.plan.ID)
	if err != nil {
		return fmt.Errorf("sync %s: look for newer runs: %w", a.sync.Name, err)
	}
	var newer int64
	if err := scan(rows[0], &newer); err != nil {
		return err
	}
	if newer > 0 {
		err := stale(a.plan, "another plan was applied since it was made")
		err.overtaken = true
		return err
	}
	return nil
}

// Some reasons why a plan is stale.
const (
	edited   = "the sync was edited since"
	tampered = "its stored changes do not match its digest"
)

func stale(p storedPlan, because string) *StaleError {
	return &StaleError{Sync: p.Sync, PlanID: p.ID, Because: because}
}

// edited reports whether the sync is not what a plan was made of.
func (r *run) edited(p storedPlan) bool {
	return len(p.columns) != len(r.sync.Mapping) || r.sync.definition(p.columns) != p.definition
}

// verify reads the plan's changes and compares their digest.
func (a *application) verify(ctx context.Context, d warehouse.Driver) error {
	digest := newPlanDigest(a.plan.Sync, a.plan.ID, a.plan.definition)
	a.plan.extent = &extent{}
	err := eachStored(ctx, d, a.plan.ID, func(c storedChange) {
		digest.add(c)
		a.plan.extent.add(c)
	})
	if err != nil {
		return fmt.Errorf("sync %s: read plan %s: %w", a.sync.Name, a.plan.ID, err)
	}
	if digest.sum() != a.plan.Digest {
		return stale(a.plan, tampered)
	}
	return nil
}

// start records the run, from which moment older plans are stale.
func (a *application) start(ctx context.Context) error {
	d, err := a.warehouse(ctx)
	if err != nil {
		return err
	}
	now := a.config.Now()
	a.Sync, a.PlanID, a.ID, a.Status, a.Started = a.sync.Name, a.plan.ID, newID("r", now), RunUnfinished, now.UTC()
	err = d.Append(ctx, warehouse.SchemaSync, "runs",
		[]string{"run_id", "sync", "plan_id", "holder", "fence", "planned", "status", "held", "started_at"},
		[][]any{{a.ID, a.Sync, a.PlanID, a.config.Holder, a.fence, a.planned, string(a.Status), a.Held, a.Started}})
	if err != nil {
		return fmt.Errorf("sync %s: record the run: %w", a.Sync, err)
	}
	if err := d.Exec(ctx, "UPDATE "+own("plans")+" SET status = ? WHERE plan_id = ?", string(planApplying), a.PlanID); err != nil {
		return fmt.Errorf("sync %s: record the run: %w", a.Sync, err)
	}
	// What never reached the destination and is no longer wanted there.
	err = d.Exec(ctx, "DELETE FROM "+own("state")+" WHERE sync = ? AND NOT present AND NOT unsure AND key IN (SELECT key FROM "+
		own("plan_changes")+" WHERE plan_id = ? AND kind = 'forget')", a.Sync, a.PlanID)
	if err != nil {
		return fmt.Errorf("sync %s: forget what is no longer wanted: %w", a.Sync, err)
	}
	return a.assign(ctx, d)
}

// assign notes who is in which group of a holdout from now on: those who are
// held out, those who are added, and those who were there before.
func (a *application) assign(ctx context.Context, d warehouse.Driver) error {
	if a.sync.Holdout.Share == 0 {
		return nil
	}
	err := d.Exec(ctx, `MERGE INTO `+own("holdouts")+` t
		USING (
			SELECT key, MIN(profile_id) AS profile_id, MAX(CASE WHEN held_out THEN 1 ELSE 0 END) = 1 AS held_out FROM (
				SELECT key, profile_id, reason = 'holdout' AS held_out FROM `+own("plan_changes")+` WHERE plan_id = ? AND (kind = 'add' OR reason IN ('new', 'holdout'))
				UNION ALL SELECT key, profile_id, FALSE FROM `+own("state")+`
				WHERE sync = ? AND present AND key NOT IN (SELECT key FROM `+own("holdouts")+` WHERE sync = ?)
			) GROUP BY key
		) n ON t.sync = ? AND t.key = n.key
		WHEN MATCHED AND t.held_out <> n.held_out THEN UPDATE SET held_out = n.held_out, since = ?
		WHEN NOT MATCHED THEN INSERT (sync, key, profile_id, held_out, since) VALUES (?, n.key, n.profile_id, n.held_out, ?)`,
		a.PlanID, a.Sync, a.Sync, a.Sync, a.Started, a.Sync, a.Started)
	if err != nil {
		return fmt.Errorf("sync %s: note who is held out: %w", a.Sync, err)
	}
	return nil
}

// deliver sends the plan: all removals first, then updates and additions.
func (a *application) deliver(ctx context.Context) (err error) {
	if err := a.release(); err != nil {
		return err
	}
	if a.target, err = a.connect(ctx); err != nil {
		return fmt.Errorf("sync %s: start the destination %s: %w", a.Sync, a.sync.Destination, err)
	}
	defer func() { err = errors.Join(err, a.closeTarget(ctx)) }()
	a.description = a.target.Describe()
	if a.plan.extent.removals > 0 && !slices.Contains(a.description.Ops, destination.Remove) {
		return fmt.Errorf("sync %s: %w: %s has %d removals to do: nothing was sent; choose a destination that can, or remove them there by hand",
			a.Sync, ErrCannotRemove, a.sync.Destination, a.plan.extent.removals)
	}
	if a.plan.extent.last > a.plan.extent.removals { // they go out whatever the mode
		if err := a.sync.Fits(a.description); err != nil {
			return err
		}
	}
	if err := a.openTarget(ctx, a.target); err != nil {
		return err
	}
	a.batchRows = int64(a.sync.BatchRows)
	if most := int64(a.description.MaxRows); most > 0 {
		a.batchRows = min(a.batchRows, most)
	}
	a.windowRows = a.batchRows
	for first := int64(1); first <= a.plan.extent.last; {
		end := min(first+a.windowRows-1, a.plan.extent.last)
		if first <= a.plan.extent.removals {
			end = min(end, a.plan.extent.removals) // no batch has both
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("sync %s: stopped; plan %s can be applied again: %w", a.Sync, a.PlanID, err)
		}
		last, err := a.window(ctx, first, end)
		if err != nil {
			return err
		}
		first = last + 1
	}
	return a.settleNow(ctx)
}

// connect starts the destination.
func (r *run) connect(ctx context.Context) (_ destination.Destination, err error) {
	ctx, span := startSpan(ctx, "plugin start")
	defer func() { endSpan(span, err) }()
	target, err := r.config.Connect(ctx, r.sync)
	return target, classify("plugin_start", err)
}

// openTarget opens a destination as the sync's mode says, as far as it can.
func (r *run) openTarget(ctx context.Context, target destination.Destination) (err error) {
	ctx, span := startSpan(ctx, "plugin open")
	defer func() { endSpan(span, err) }()
	ctx, cancel := context.WithTimeout(ctx, r.config.WriteTimeout)
	defer cancel()
	updateOnly := r.sync.Mode == ModeUpdate && target.Describe().UpdateOnly
	if err := destination.Open(ctx, target, r.sync.Config, updateOnly); err != nil {
		return fmt.Errorf("%s: open the destination %s: %w", r.sync.File, r.sync.Destination, classify("plugin_open", err))
	}
	return nil
}

// closeTarget ends the destination. Only then is all that it reported as
// delivered durable there; if it fails, the run's rows are sent once more.
func (a *application) closeTarget(ctx context.Context) (err error) {
	ctx, span := startSpan(context.WithoutCancel(ctx), "plugin close")
	defer func() { endSpan(span, err) }()
	if err := a.release(); err != nil {
		return err
	}
	closing, cancel := context.WithTimeout(ctx, a.config.WriteTimeout)
	defer cancel()
	err = classify("plugin_close", a.target.Close(closing))
	if err == nil {
		return nil
	}
	err = fmt.Errorf("sync %s: close the destination %s: its rows will be sent again: %w", a.Sync, a.sync.Destination, err)
	d, openErr := a.warehouse(ctx)
	if openErr != nil {
		return errors.Join(err, openErr)
	}
	return errors.Join(err, a.doubt(ctx, d))
}

// stop records how far a run came that did not get to its end.
func (a *application) stop(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	d, err := a.warehouse(ctx)
	if err != nil {
		return err
	}
	return a.close(ctx, d)
}

// close records the numbers of the run.
func (a *application) close(ctx context.Context, d warehouse.Driver) error {
	err := d.Exec(ctx, "UPDATE "+own("runs")+" SET status = ?, finished_at = ?, added = ?, updated = ?, refreshed = ?, removed = ?, failed = ?, skipped = ? WHERE run_id = ?",
		string(a.Status), a.config.Now().UTC(), a.Added, a.Updated, a.Refreshed, a.Removed, a.Failed, a.Skipped, a.ID)
	if err != nil {
		return fmt.Errorf("sync %s: record the end of the run: %w", a.Sync, err)
	}
	return nil
}

// finish records how the run ended, and destroys what is no longer needed of
// its plan and of older ones.
func (a *application) finish(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	d, err := a.warehouse(ctx)
	if err != nil {
		return err
	}
	a.Status = RunDone
	status := planApplied
	if a.plan.Held != nil && !a.options.Approve {
		a.Status, status = RunHeld, planHeld
	}
	if err := a.close(ctx, d); err != nil {
		return err
	}
	if a.keeps() {
		if err := a.destroyKept(ctx, d); err != nil {
			return err
		}
	}
	if a.intents > 0 {
		if err := a.forgetIntents(ctx, d); err != nil {
			return err
		}
	}
	superseded, args := a.superseded()
	steps := []struct {
		query string
		args  []any
	}{
		{"UPDATE " + own("plans") + " SET status = ?, finished_at = ? WHERE plan_id = ?", []any{string(status), a.config.Now().UTC(), a.PlanID}},
		{"UPDATE " + own("plan_changes") + " SET payload = NULL WHERE plan_id = ? AND payload IS NOT NULL", []any{a.PlanID}},
		{"DELETE FROM " + own("plan_changes") + " WHERE " + superseded, args},
	}
	for _, step := range steps {
		if err := d.Exec(ctx, step.query, step.args...); err != nil {
			return fmt.Errorf("sync %s: record the end of the run: %w", a.Sync, err)
		}
	}
	if err := a.retire(ctx, d); err != nil {
		return err
	}
	a.log.InfoContext(ctx, "sync done", "run_id", a.ID, "plan_id", a.PlanID, "added", a.Added, "updated", a.Updated,
		"refreshed", a.Refreshed, "removed", a.Removed, "failed", a.Failed, "skipped", a.Skipped, "held", a.Held)
	return nil
}

// superseded is the condition, of a change of a plan, that nobody needs the changes of
// that plan any more, now that another was applied.
func (a *application) superseded() (where string, args []any) {
	where, args = "sync = ? AND plan_id <> ?", []any{a.Sync, a.PlanID}
	if a.planned == 0 { // then plans that nobody applied yet stay good
		where += " AND plan_id NOT IN (SELECT plan_id FROM " + own("plans") + " WHERE status = 'ready')"
	}
	if a.Status == RunHeld && a.approved == "" {
		// Those that people were told of wait for approval: the first, and the last that somebody made.
		where += " AND plan_id NOT IN (SELECT CASE status WHEN 'held' THEN MIN(plan_id) ELSE MAX(plan_id) END FROM " + own("plans") +
			" WHERE sync = ? AND status IN ('held', 'ready') AND guard <> '' AND plan_id IN (SELECT plan_id FROM " + own("plan_changes") + " WHERE sync = ?) GROUP BY status)"
		args = append(args, a.Sync, a.Sync)
	}
	return where, args
}
