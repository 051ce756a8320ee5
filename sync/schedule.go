package syncer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/adhocore/gronx"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// Schedule says when a sync runs by itself. The zero value is after each build
// of the models. Whatever it says, a withdrawal is not waited with; see
// [Syncer.Withdraw].
type Schedule struct {
	Every  time.Duration  // at least this long after the start of the last run
	Cron   string         // when a clock on the wall shows this: minute, hour, day of month, month, day of week
	Zone   *time.Location // of that clock; nil is UTC
	Manual bool           // never by itself
}

// Due reports whether the sync should run now, by when its last run that came to
// its end began; the zero time if there was none. A time that was missed, since
// nothing was running or the last run failed, is made up for once. Where clocks
// are put forward, what falls into the hour left out comes at its end; where they
// are put back, what falls into the hour that comes twice comes once.
func (s Schedule) Due(last, now time.Time) bool {
	switch {
	case s.Manual:
		return false
	case last.IsZero():
		return true
	case s.Cron != "":
		return !s.wall(now).Before(s.nextOnWall(last))
	}
	return !now.Before(last.Add(s.Every))
}

// String describes the schedule.
func (s Schedule) String() string {
	switch {
	case s.Manual:
		return "manual"
	case s.Cron != "":
		return fmt.Sprintf("cron %s (%s)", s.Cron, s.zone())
	case s.Every > 0:
		return "every " + s.Every.String()
	}
	return "after the models"
}

func (s Schedule) zone() *time.Location {
	if s.Zone == nil {
		return time.UTC
	}
	return s.Zone
}

// wall is what a clock on the wall shows, as a time of UTC: there no hour is
// left out and none comes twice.
func (s Schedule) wall(t time.Time) time.Time {
	t = t.In(s.zone())
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
}

// nextOnWall is the first time after another that the clock shows what the
// schedule says. Load made sure that there is one.
func (s Schedule) nextOnWall(t time.Time) time.Time {
	next, err := gronx.NextTickAfter(s.Cron, s.wall(t), false)
	if err != nil {
		return s.wall(t).AddDate(100, 0, 0)
	}
	return next
}

// check reports what is wrong with a schedule.
func (s Schedule) check() error {
	if s.Cron == "" {
		return nil
	}
	if !gronx.IsValid(s.Cron) {
		return fmt.Errorf("cron %q is not one: want five fields for minute, hour, day of month, month and day of week, such as \"0 6 * * 1-5\"", s.Cron)
	}
	if _, err := gronx.NextTickAfter(s.Cron, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), false); err != nil {
		return fmt.Errorf("cron %q never comes", s.Cron)
	}
	return nil
}

// Scheduled reports whether a run came to its end and counts for a schedule; one of
// withdrawals or erasures alone does not.
func Scheduled(r Run) bool {
	return (r.Status == RunDone || r.Status == RunHeld || r.Status == RunIdle) && strings.HasPrefix(r.PlanID, planPrefix+"-")
}

// LastRuns tells of each sync when its last run that came to its end began.
func (e *Syncer) LastRuns(ctx context.Context) (map[string]time.Time, error) {
	last := map[string]time.Time{}
	err := e.query(ctx, "SELECT sync, MAX(started_at) FROM "+own("runs")+" WHERE status IN ('done', 'held', 'idle') AND plan_id LIKE '"+planPrefix+"-%' GROUP BY sync", nil, func(row []any) error {
		var name string
		var at time.Time
		err := scan(row, &name, &at)
		last[name] = at
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look for the last runs: %w", err)
	}
	return last, nil
}

// Withdraw removes from the destination of s whoever may not be there any more:
// who withdrew, whom nothing is known of, who is being erased. It needs no model
// but consent_profile, and no guard holds it, so that a scheduler calls it for
// syncs that are not due. A run that has nothing to remove has no id.
func (e *Syncer) Withdraw(ctx context.Context, s Sync) (done Run, err error) {
	ctx, span := startSync(ctx, "sync withdraw", s)
	defer func() { endRun(span, done, err) }()
	r, err := e.begin(ctx, s)
	if err != nil {
		return Run{}, err
	}
	done, err = r.withdraw(ctx)
	return done, errors.Join(err, r.end(ctx))
}

func (r *run) withdraw(ctx context.Context) (Run, error) {
	if err := r.settle(ctx); err != nil {
		return Run{}, err
	}
	d, err := r.warehouse(ctx)
	if err != nil {
		return Run{}, err
	}
	src, err := inspectConsent(ctx, d, r.sync)
	if err != nil {
		return Run{}, err
	}
	if src.erasures, err = r.believeConsents(ctx, d); err != nil {
		return Run{}, err
	}
	p, err := r.planRemovals(ctx, "w", func(planID string) string { return src.withdrawals(r.sync, planID, r.config.Now()) })
	if err != nil || p.Counts.Remove == 0 {
		return Run{}, err
	}
	return r.apply(ctx, p, Options{})
}

// Withdrawn tells how many rows [Syncer.Withdraw] would remove from the destination of
// s, without those that it, or a run, has tried to remove before. It may be called while
// a run of s goes on, which has sent some of them perhaps.
func (e *Syncer) Withdrawn(ctx context.Context, s Sync) (n int64, err error) {
	d, err := e.config.Open(ctx)
	if err != nil {
		return 0, fmt.Errorf("sync %s: %w", s.Name, err)
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := createTables(ctx, d); err != nil {
		return 0, fmt.Errorf("sync %s: %w", s.Name, err)
	}
	src, err := inspectConsent(ctx, d, s)
	if err != nil {
		return 0, err
	}
	rows, err := warehouse.Collect(ctx, d, src.judgedState(s, e.config.Now(), " AND present AND NOT (op = 'remove' AND status IN ('accepted', 'failed'))")+
		" SELECT COUNT(*) FROM judged WHERE erased OR NOT allowed")
	if err != nil {
		return 0, fmt.Errorf("sync %s: count withdrawals: %w", s.Name, err)
	}
	return n, scan(rows[0], &n)
}

// withdrawals is the statement that stores the changes of such a plan, from the
// state and what is known of consent alone.
func (src sources) withdrawals(s Sync, planID string, now time.Time) string {
	d := src.dialect
	return `INSERT INTO ` + own("plan_changes") + ` (plan_id, sync, seq, key, profile_id, kind, op, reason, row_hash, change_id, decision_id, policy_version, payload, known)
` + src.judgedState(s, now, " AND present AND NOT (status = 'accepted' AND op = 'remove')") + `
SELECT ` + literal(planID) + `, ` + literal(s.Name) + `, ROW_NUMBER() OVER (ORDER BY key), key, profile_id, 'remove', 'remove',
	CASE WHEN erased THEN 'erased' WHEN asked THEN 'consent_withdrawn' ELSE 'consent_missing' END, ` + d.nothing() + `,
	COALESCE(CASE WHEN unsure AND op = 'remove' THEN change_id END, ` + d.ofChange(planID, "'remove'", "''", "key") + `),
	COALESCE(c_decision_id, decision_id), COALESCE(c_policy_version, policy_version), ` + d.nothing() + `, TRUE
FROM judged WHERE erased OR NOT allowed`
}

// judgedState begins a query with the rows of the state, and what is known of
// consent for each, as the table judged.
func (src sources) judgedState(s Sync, now time.Time, only string) string {
	return `WITH here AS (SELECT * FROM ` + own("state") + ` WHERE sync = ` + literal(s.Name) + only + `),
erased AS (` + erased + `),
judged AS (
	SELECT k.key, k.profile_id, k.op, k.status, k.present, k.unsure, k.change_id, k.decision_id, k.policy_version, ` + src.verdict() + `
	FROM here k
	LEFT JOIN (` + src.consent(s, now, "here") + `) c ON c.profile_id = k.profile_id` + src.joinErased("k") + `
)`
}
