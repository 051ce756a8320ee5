package syncer_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/plugins/destination"
	syncer "github.com/sluis-cdp/sluis/sync"
)

// TestTicksWithoutWorkLeaveOneRun: a scheduler runs a sync all the time, and what it
// leaves does not grow with it.
func TestTicksWithoutWorkLeaveOneRun(t *testing.T) {
	w := crowd(t, 3)
	w.target.answer = func(batch destination.Batch, apply func(destination.Change)) ([]destination.Result, error) {
		results, err := deliverAll(batch, apply)
		for i, c := range batch.Changes {
			if c.Key == "k2" {
				results[i] = destination.Result{Outcome: destination.Rejected, Code: "invalid"}
			}
		}
		return results, err
	}
	run := func(status syncer.RunStatus) {
		t.Helper()
		w.advance(time.Minute)
		if r, err := w.engine().Run(t.Context(), vips(), syncer.Options{}); err != nil || r.Status != status || r.ID == "" {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	rows := func() string {
		return fmt.Sprint(w.query("SELECT (SELECT count(*) FROM sluis_sync.runs), (SELECT count(*) FROM sluis_sync.plans), (SELECT count(*) FROM sluis_sync.plan_changes)")[0])
	}
	run(syncer.RunDone)
	for range 3 {
		run(syncer.RunIdle)
	}
	// The run that did something and the last that did not; a plan of the first; of
	// the last why k2 is held.
	if got := rows(); got != "[2 1 1]" {
		t.Errorf("after ticks without work there are %s runs, plans and changes of plans", got)
	}
	history, err := w.engine().History(t.Context(), "crm", 10)
	if err != nil || len(history) != 2 || history[0].Status != syncer.RunIdle || history[0].Held != 1 || history[1].Added != 2 {
		t.Errorf("history: %+v, %v", history, err)
	}
	// A schedule counts from the last run, whatever there was to do.
	if last, err := w.engine().LastRuns(t.Context()); err != nil || !last["crm"].Equal(w.clock()) {
		t.Errorf("the last run was at %v, want %v; %v", last["crm"], w.clock(), err)
	}
	// A plan that nobody applied yet stays good.
	w.setModel(customer{"k1", "p1", "gold", 10}, customer{"k2", "p2", "gold", 2}, customer{"k3", "p3", "gold", 3})
	p, err := w.engine().Plan(t.Context(), vips())
	if err != nil {
		t.Fatal(err)
	}
	w.setModel(customer{"k1", "p1", "gold", 1}, customer{"k2", "p2", "gold", 2}, customer{"k3", "p3", "gold", 3})
	run(syncer.RunIdle)
	if r, err := w.engine().Apply(t.Context(), vips(), p.ID, syncer.Options{}); err != nil || r.Updated != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	// Runs and plans grow old; what was sent stays on record.
	w.advance(100 * 24 * time.Hour)
	run(syncer.RunDone)
	if got := w.query("SELECT (SELECT count(*) FROM sluis_sync.runs), (SELECT count(*) FROM sluis_sync.plans), (SELECT count(*) FROM sluis_sync.deliveries)")[0]; fmt.Sprint(got) != "[1 1 5]" {
		t.Errorf("after 100 days there are %v runs, plans and deliveries", got)
	}
}

// TestTablesOfAnEarlierVersionAreCompleted: what lacks is added, and what is there stays.
func TestTablesOfAnEarlierVersionAreCompleted(t *testing.T) {
	w := crowd(t, 2)
	if _, err := w.engine().Run(t.Context(), vips(), syncer.Options{}); err != nil {
		t.Fatal(err)
	}
	w.exec("DROP TABLE sluis_sync.holdouts")
	w.exec("DROP TABLE sluis_sync.kept")
	w.exec("DROP TABLE sluis_sync.intents")
	w.exec("ALTER TABLE sluis_sync.runs DROP COLUMN refreshed")
	for _, column := range []string{"fingerprint", "fingerprint_by"} {
		w.exec("ALTER TABLE sluis_sync.plan_changes DROP COLUMN " + column)
		w.exec("ALTER TABLE sluis_sync.state DROP COLUMN " + column)
	}
	w.advance(time.Minute)
	s := vips()
	s.Refresh = time.Second
	if r, err := w.engine().Run(t.Context(), s, syncer.Options{}); err != nil || r.Refreshed != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	history, err := w.engine().History(t.Context(), "crm", 10)
	if err != nil || len(history) != 2 {
		t.Fatalf("%+v, %v", history, err)
	}
	if diff := cmp.Diff([]int64{2, 0, 0, 2}, []int64{history[0].Refreshed, history[0].Added, history[1].Refreshed, history[1].Added}); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestAHoldoutIsItsShareAndNested: of many, the share is held out, and a larger one
// contains a smaller.
func TestAHoldoutIsItsShareAndNested(t *testing.T) {
	w := newWorld(t)
	const n = 2000
	allowed, rows := map[string]bool{}, make([]customer, n)
	for i := range n {
		profile := fmt.Sprintf("p%d", i)
		rows[i] = customer{fmt.Sprintf("k%d", i), profile, "gold", 1}
		allowed[profile] = true
	}
	w.setModel(rows...)
	w.setConsent(allowed)
	held := func(share float64, seed string) map[string]bool {
		s := vips()
		s.Name, s.Holdout = fmt.Sprintf("s%.0f-%s", share*100, seed), syncer.Holdout{Share: share, Seed: seed, Column: "customer"}
		if _, err := w.engine(func(c *syncer.Config) { c.Samples = 2 * n }).Plan(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		keys := map[string]bool{}
		for _, row := range w.query("SELECT key FROM sluis_sync.plan_changes WHERE sync = ? AND kind = 'hold' AND reason = 'holdout'", s.Name) {
			keys[row[0].(string)] = true
		}
		return keys
	}
	few, many, others := held(0.1, "a"), held(0.3, "a"), held(0.1, "b")
	// Six standard deviations of a binomial distribution.
	if len(few) < 120 || len(few) > 280 || len(many) < 477 || len(many) > 723 {
		t.Errorf("of %d are held out %d for 10%% and %d for 30%%", n, len(few), len(many))
	}
	both := 0
	for key := range few {
		if !many[key] {
			t.Errorf("%s is held out for 10%% and not for 30%%", key)
		}
		if others[key] {
			both++
		}
	}
	if both > len(few)/2 {
		t.Errorf("%d of %d are held out with another seed, too", both, len(few))
	}
}
