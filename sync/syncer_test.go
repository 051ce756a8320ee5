package syncer_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/sql/duckdb"
	"github.com/sluis-cdp/sluis/sql/warehouse"
	syncer "github.com/sluis-cdp/sluis/sync"
)

// crowd is a world with n consenting customers in the model.
func crowd(t *testing.T, n int) *world {
	w := newWorld(t)
	allowed := map[string]bool{}
	var rows []customer
	for i := 1; i <= n; i++ {
		profile := fmt.Sprintf("p%d", i)
		rows = append(rows, customer{fmt.Sprintf("k%d", i), profile, "gold", int64(i)})
		allowed[profile] = true
	}
	w.setModel(rows...)
	w.setConsent(allowed)
	return w
}

func TestOneRunOfASyncAtATime(t *testing.T) {
	w := crowd(t, 6)
	inside := false
	w.target.answer = func(batch destination.Batch, apply func(destination.Change)) ([]destination.Result, error) {
		if inside {
			return deliverAll(batch, apply)
		}
		inside = true
		var busy *syncer.BusyError
		_, err := w.engine().Run(t.Context(), vips(), syncer.Options{})
		if !errors.As(err, &busy) || busy.Holder != "first" || !strings.Contains(err.Error(), "first") {
			t.Errorf("while the sync runs, another run says %v", err)
		}
		// The process hangs until its lease has ended, and another takes over.
		w.advance(time.Hour)
		if _, err := w.engine().Run(t.Context(), vips(), syncer.Options{}); err != nil {
			t.Error("take over:", err)
		}
		return deliverAll(batch, apply)
	}
	first := w.engine(func(c *syncer.Config) { c.Holder = "first" })
	if _, err := first.Run(t.Context(), vips(), syncer.Options{}); !errors.Is(err, syncer.ErrLeaseLost) {
		t.Errorf("the first run ended with %v", err)
	}
	if w.target.sends != 1+3 {
		t.Errorf("%d batches were sent, want the one of the first run and three of the second", w.target.sends)
	}
	other := vips()
	other.Name = "other"
	w.target.answer = nil
	if _, err := w.engine().Run(t.Context(), other, syncer.Options{}); err != nil {
		t.Error("another sync is not free:", err)
	}
}

// TestTwoTakeAFreeLeaseAtOnce plays what BigQuery may do with two statements
// that run at the same time: both insert a lease. The second one to look yields.
func TestTwoTakeAFreeLeaseAtOnce(t *testing.T) {
	w := crowd(t, 1)
	other := func() {
		w.append("sluis_sync.leases", []string{"sync", "holder", "token", "fence", "expires_at"}, []any{"crm", "the other", "t", int64(1), w.clock().Add(time.Minute)})
	}
	if _, err := w.engine().Plan(t.Context(), vips()); err != nil { // makes the tables
		t.Fatal(err)
	}
	w.exec("DELETE FROM sluis_sync.leases WHERE TRUE")
	e := w.engine(func(c *syncer.Config) {
		open := c.Open
		c.Open = func(ctx context.Context) (warehouse.Driver, error) {
			d, err := open(ctx)
			return &afterLease{d, other}, err
		}
	})
	var busy *syncer.BusyError
	if _, err := e.Run(t.Context(), vips(), syncer.Options{}); !errors.As(err, &busy) || busy.Holder != "the other" {
		t.Errorf("beside another lease: %v", err)
	}
	if left := w.query("SELECT holder FROM sluis_sync.leases"); len(left) != 1 || left[0][0] != "the other" {
		t.Errorf("the leases are %v", left)
	}
	w.advance(time.Hour)
	if r, err := w.engine().Run(t.Context(), vips(), syncer.Options{}); err != nil || r.Added != 1 {
		t.Errorf("once the other's lease has ended: %+v, %v", r, err)
	}
}

// afterLease does something once a lease was taken.
type afterLease struct {
	warehouse.Driver
	then func()
}

func (d *afterLease) Exec(ctx context.Context, query string, args ...any) error {
	err := d.Driver.Exec(ctx, query, args...)
	if strings.HasPrefix(query, "MERGE INTO sluis_sync.leases") {
		d.then()
	}
	return err
}

// slowPlan is a warehouse in which comparing takes until then returns.
type slowPlan struct {
	warehouse.Driver
	renewed chan struct{} // once for each time that the lease was renewed meanwhile
	then    func(ctx context.Context)
}

func (d *slowPlan) Exec(ctx context.Context, query string, args ...any) error {
	switch {
	case strings.HasPrefix(query, "INSERT INTO sluis_sync.plan_changes"):
		d.then(ctx)
		if err := ctx.Err(); err != nil {
			return err
		}
	case strings.HasPrefix(query, "UPDATE sluis_sync.leases SET expires_at = ? WHERE"):
		select {
		case d.renewed <- struct{}{}:
		default:
		}
	}
	return d.Driver.Exec(ctx, query, args...)
}

// A plan that takes longer than the lease keeps it, so that with two machines one of them
// comes to an end. If it is lost all the same, the plan ends.
func TestAPlanLongerThanTheLease(t *testing.T) {
	w := crowd(t, 3)
	engine := func(then func(ctx context.Context, d *slowPlan)) *syncer.Syncer {
		return w.engine(func(c *syncer.Config) {
			open := c.Open
			c.LeaseTTL, c.WriteTimeout = 300*time.Millisecond, 100*time.Millisecond
			c.Open = func(ctx context.Context) (warehouse.Driver, error) {
				d, err := open(ctx)
				slow := &slowPlan{Driver: d, renewed: make(chan struct{})}
				slow.then = func(ctx context.Context) { then(ctx, slow) }
				return slow, err
			}
		})
	}
	e := engine(func(_ context.Context, d *slowPlan) {
		for range 5 {
			w.advance(200 * time.Millisecond)
			<-d.renewed
		}
	})
	if p, err := e.Plan(t.Context(), vips()); err != nil || p.Counts.Add != 3 {
		t.Errorf("%+v, %v", p.Counts, err)
	}
	e = engine(func(ctx context.Context, _ *slowPlan) {
		w.exec("UPDATE sluis_sync.leases SET holder = 'another', token = 'theirs', fence = fence + 1")
		<-ctx.Done()
	})
	if _, err := e.Plan(t.Context(), vips()); !errors.Is(err, syncer.ErrLeaseLost) {
		t.Errorf("the lease is another's: %v", err)
	}
}

func TestATamperedPlanIsRefused(t *testing.T) {
	w := crowd(t, 3)
	for _, change := range []string{
		"UPDATE sluis_sync.plan_changes SET payload = replace(payload, 'gold', 'lead') WHERE seq = 2",
		"UPDATE sluis_sync.plan_changes SET kind = 'hold' WHERE seq = 1",
		"DELETE FROM sluis_sync.plan_changes WHERE seq = 3",
	} {
		p, err := w.engine().Plan(t.Context(), vips())
		if err != nil {
			t.Fatal(err)
		}
		w.exec(change)
		var stale *syncer.StaleError
		if _, err := w.engine().Apply(t.Context(), vips(), p.ID, syncer.Options{}); !errors.As(err, &stale) {
			t.Errorf("after %s: %v", change, err)
		}
	}
	if w.target.sends != 0 {
		t.Error("something was sent")
	}
}

func TestRetriesPauseAsTheDestinationAsks(t *testing.T) {
	for _, test := range []struct {
		name             string
		after            []time.Duration
		least            time.Duration
		sends, wantAdded int
	}{
		{"once", []time.Duration{7 * time.Second}, 7 * time.Second, 2, 1},
		{"thrice", []time.Duration{time.Second, 2 * time.Second, 30 * time.Second}, 33 * time.Second, 4, 1},
		{"its own pace", []time.Duration{0, 0, 0, 0}, (1 + 2 + 4 + 8) * time.Second / 2, 5, 1},
		{"never", []time.Duration{0, 0, 0, 0, 0}, 0, 5, 0},
		{"too long", []time.Duration{31 * time.Second}, 0, 1, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := crowd(t, 1)
			w.target.answer = func(batch destination.Batch, apply func(destination.Change)) ([]destination.Result, error) {
				if n := w.target.sends - 1; n < len(test.after) {
					return destination.All(1, destination.Result{Outcome: destination.Retry, RetryAfter: test.after[n]}), nil
				}
				return deliverAll(batch, apply)
			}
			begin := w.clock()
			run, err := w.engine().Run(t.Context(), vips(), syncer.Options{})
			if err != nil || run.Added != int64(test.wantAdded) || run.Failed != int64(1-test.wantAdded) || w.target.sends != test.sends {
				t.Errorf("%d sends, %+v, %v", w.target.sends, run, err)
			}
			if pause := w.clock().Sub(begin); pause < test.least {
				t.Errorf("paused for %v, want at least %v", pause, test.least)
			}
		})
	}
}

func TestCancelFinishesTheBatchInFlight(t *testing.T) {
	w := crowd(t, 6)
	ctx, cancel := context.WithCancel(t.Context())
	w.target.answer = func(batch destination.Batch, apply func(destination.Change)) ([]destination.Result, error) {
		cancel()
		return deliverAll(batch, apply)
	}
	run, err := w.engine().Run(ctx, vips(), syncer.Options{})
	if !errors.Is(err, context.Canceled) || run.Added != 2 || run.Status != syncer.RunUnfinished {
		t.Fatalf("%+v, %v", run, err)
	}
	// The lease was given back, so it can go on at once.
	resumed, err := w.engine().Apply(t.Context(), vips(), run.PlanID, syncer.Options{})
	if err != nil || resumed.Added != 4 || w.target.sends != 3 {
		t.Errorf("%+v, %v, %d sends", resumed, err, w.target.sends)
	}
	history, err := w.engine().History(t.Context(), "crm", 10)
	if err != nil || len(history) != 2 || history[1].Added != 2 || history[1].Status != syncer.RunUnfinished || history[0].Status != syncer.RunDone {
		t.Errorf("history: %+v, %v", history, err)
	}
}

func TestRowsAreSentAgainIfTheDestinationDoesNotClose(t *testing.T) {
	w := crowd(t, 2)
	w.target.closing = func() error { return errors.New("flush failed") }
	if _, err := w.engine().Run(t.Context(), vips(), syncer.Options{}); err == nil {
		t.Fatal("no error")
	}
	w.target.closing = nil
	p, err := w.engine().Plan(t.Context(), vips())
	if err != nil || p.Counts.Update != 2 || p.Reasons[syncer.ReasonUnacknowledged] != 2 {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestARunEndsIfNothingIsTaken(t *testing.T) {
	w := crowd(t, 20)
	w.target.answer = func(destination.Batch, func(destination.Change)) ([]destination.Result, error) {
		return nil, errors.New("gold is down")
	}
	run, err := w.engine().Run(t.Context(), vips(), syncer.Options{})
	if err == nil || run.Failed != 6 || w.target.sends != 15 {
		t.Errorf("%+v, %v, %d sends", run, err, w.target.sends)
	}
	if strings.Contains(fmt.Sprint(err), "gold") {
		t.Errorf("the error holds a value: %v", err)
	}
	w.noValues("gold")
}

func TestADestinationThatLiesIsNotBelieved(t *testing.T) {
	for name, results := range map[string][]destination.Result{
		"too few":         destination.All(1, destination.Result{Outcome: destination.Delivered}),
		"too many":        destination.All(3, destination.Result{Outcome: destination.Delivered}),
		"no outcome":      destination.All(2, destination.Result{}),
		"unknown outcome": destination.All(2, destination.Result{Outcome: 99}),
	} {
		w := crowd(t, 2)
		w.target.answer = func(destination.Batch, func(destination.Change)) ([]destination.Result, error) { return results, nil }
		run, err := w.engine().Run(t.Context(), vips(), syncer.Options{})
		if err != nil || run.Added != 0 || run.Failed != 2 {
			t.Errorf("%s: %+v, %v", name, run, err)
		}
	}
}

func TestNothingIsSentIf(t *testing.T) {
	connected := 0
	connect := func(d destination.Destination, err error) func(*syncer.Config) {
		return func(c *syncer.Config) {
			c.Connect = func(context.Context, syncer.Sync) (destination.Destination, error) {
				connected++
				return d, err
			}
		}
	}
	w := crowd(t, 2)

	wrong := vips()
	wrong.Config = syncer.Settings{"token": "another-secret"}
	if _, err := w.engine().Run(t.Context(), wrong, syncer.Options{}); err == nil || strings.Contains(err.Error(), "another-secret") {
		t.Errorf("wrong configuration: %v", err)
	}
	if _, err := w.engine(connect(nil, errors.New("no such program"))).Run(t.Context(), vips(), syncer.Options{}); err == nil {
		t.Error("no destination, no error")
	}
	if len(w.target.members) != 0 {
		t.Fatal("something was sent")
	}
	if _, err := w.engine().Run(t.Context(), vips(), syncer.Options{}); err != nil {
		t.Fatal(err)
	}
	sends := w.target.sends

	connected = 0
	if _, err := w.engine(connect(nil, errors.New("unneeded"))).Run(t.Context(), vips(), syncer.Options{}); err != nil || connected != 0 {
		t.Errorf("without changes, the destination was started %d times: %v", connected, err)
	}
	w.setModel(customer{"k1", "p1", "gold", 1})
	if _, err := w.engine(connect(addOnly{}, nil)).Run(t.Context(), vips(), syncer.Options{}); err == nil || !strings.Contains(err.Error(), "cannot remove") {
		t.Errorf("a destination that cannot remove: %v", err)
	}
	if w.target.sends != sends {
		t.Error("something was sent")
	}
}

// addOnly is a destination that cannot remove.
type addOnly struct{ destination.Destination }

func (addOnly) Describe() destination.Description {
	return destination.Description{Ops: []destination.Op{destination.Upsert}}
}

func (addOnly) Close(context.Context) error { return nil }

func TestEveryTypeArrives(t *testing.T) {
	w := newWorld(t)
	at := time.Date(2026, 3, 1, 4, 5, 6, 789000, time.UTC)
	decimal := "1.50"
	if w.bigQuery() {
		decimal = "1.5" // a NUMERIC has no scale of its own there
		w.exec(`CREATE TABLE sluis_models.all_types AS SELECT 'k1' AS customer, 'p1' AS profile_id, 'Ünï:-|' AS s, 9007199254740993 AS i, 0.1 AS f,
			true AS b, TIMESTAMP '2026-03-01 04:05:06.000789+00' AS ts, DATE '2026-03-01' AS d, FROM_HEX('00ff') AS bytes, JSON '{"a": [1]}' AS j,
			['x', 'y'] AS arr, NUMERIC '1.50' AS dec, CAST(NULL AS INT64) AS n`)
	} else {
		w.exec(`CREATE TABLE sluis_models.all_types AS SELECT 'k1' AS customer, 'p1' AS profile_id, 'Ünï:-|' AS s, 9007199254740993::BIGINT AS i, 0.1::DOUBLE AS f,
			true AS b, TIMESTAMPTZ '2026-03-01 04:05:06.000789+00' AS ts, DATE '2026-03-01' AS d, '\x00\xFF'::BLOB AS bytes, '{"a": [1]}'::JSON AS j,
			['x', 'y'] AS arr, 1.50::DECIMAL(9,2) AS dec, NULL::BIGINT AS n`)
	}
	w.setConsent(map[string]bool{"p1": true})
	s := vips()
	s.Model, s.Mapping = "all_types", nil
	for _, name := range []string{"s", "i", "f", "b", "ts", "d", "bytes", "j", "arr", "dec", "n"} {
		s.Mapping = append(s.Mapping, syncer.Field{Field: "to_" + name, Column: name})
	}
	if _, err := w.engine().Run(t.Context(), s, syncer.Options{}); err != nil {
		t.Fatal(err)
	}
	want := []any{"Ünï:-|", int64(9007199254740993), 0.1, true, at, "2026-03-01", "00ff", `{"a":[1]}`, `["x","y"]`, decimal, nil}
	got := w.target.members["k1"]
	if w.bigQuery() { // whose emulator keeps zeros at the end of a NUMERIC
		got[9] = strings.TrimRight(got[9].(string), "0")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	// What was sent is also what is compared: nothing changed.
	if p, err := w.engine().Plan(t.Context(), s); err != nil || p.Counts != (syncer.Counts{Unchanged: 1}) {
		t.Errorf("%+v, %v", p.Counts, err)
	}
}

func TestOnlyWhatIsSentIsOpened(t *testing.T) {
	w := crowd(t, 3)
	s := vips()
	s.Mapping = []syncer.Field{{Field: "mail", Sealed: "email"}}
	for _, profile := range []string{"p1", "p2", "p3"} {
		w.seal(profile, "email", "marketing", profile+"@example.org")
		w.seal(profile, "email", "advertising", "never-"+profile)
		w.seal(profile, "phone", "marketing", "never-"+profile)
	}
	p, err := w.engine().Plan(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	w.exec("UPDATE sluis_models.consent_profile SET allowed = false WHERE profile_id = 'p2'")
	if _, err := w.engine().Apply(t.Context(), s, p.ID, syncer.Options{}); err != nil {
		t.Fatal(err)
	}
	var opened []string
	for _, sealed := range w.target.opened {
		opened = append(opened, sealed.Pseudonym+" "+sealed.Field+" "+sealed.Purpose+" "+sealed.DecisionID)
	}
	want := []string{"email_p1 email marketing decision-p1", "email_p3 email marketing decision-p3"}
	if diff := cmp.Diff(want, opened); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	w.noValues("@example.org")
	w.target.opened = nil
	if _, err := w.engine().Run(t.Context(), s, syncer.Options{}); err != nil || len(w.target.opened) != 0 {
		t.Errorf("without a change %d values were opened: %v", len(w.target.opened), err)
	}
}

func TestPlansAndRunsAsJSON(t *testing.T) {
	w := crowd(t, 3)
	p, err := w.engine(func(c *syncer.Config) { c.Samples = 1 }).Plan(t.Context(), vips())
	if err != nil {
		t.Fatal(err)
	}
	p.ID, p.Digest = "PLAN", "DIGEST"
	got, err := json.Marshal(p)
	want := `{"sync":"crm","plan_id":"PLAN","digest":"DIGEST","created_at":"2026-11-23T12:00:00Z","counts":{"add":3,"update":0,"refresh":0,"remove":0,"hold":0,"unchanged":0},"reasons":{"new":3},"changes":[{"key":"k1","op":"add","reason":"new"}]}`
	if string(got) != want || err != nil {
		t.Errorf("%s, %v", got, err)
	}
	r, err := w.engine().Run(t.Context(), vips(), syncer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r.ID, r.PlanID = "RUN", "PLAN"
	got, err = json.Marshal(r)
	want = `{"sync":"crm","run_id":"RUN","plan_id":"PLAN","status":"done","started_at":"2026-11-23T12:00:00Z","added":3,"updated":0,"refreshed":0,"removed":0,"failed":0,"skipped":0,"held":0,"seconds":0}`
	if string(got) != want || err != nil {
		t.Errorf("%s, %v", got, err)
	}
	deliveries, err := w.engine().Deliveries(t.Context(), "crm", "k2", 10)
	if err != nil || len(deliveries) != 1 || deliveries[0].DecisionID != "decision-p2" || deliveries[0].PolicyVersion != "policy1" || deliveries[0].Outcome != "delivered" {
		t.Errorf("the proof: %+v, %v", deliveries, err)
	}
}

// TestWithAWarehouseThatIsOpenedAndClosed has no shared handle as the other
// tests do, so that what is not durable on Close is missed.
func TestWithAWarehouseThatIsOpenedAndClosed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "w.duckdb")
	open := func(ctx context.Context) (warehouse.Driver, error) {
		return duckdb.Open(ctx, duckdb.Config{Path: file, Holder: "test"})
	}
	d, err := open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{
		`CREATE TABLE sluis_models.vips AS SELECT 'k1' AS customer, 'p1' AS profile_id, 'gold' AS tier, 1::BIGINT AS visits`,
		`CREATE TABLE sluis_models.consent_profile AS SELECT 'p1' AS profile_id, 'marketing' AS purpose, true AS allowed, 'd1' AS decision_id, '1' AS policy_version, now() AS decided_at, now() + INTERVAL 1 DAY AS expires_at`,
	} {
		if err := d.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	target := &recorder{}
	now := time.Now()
	engine := func() *syncer.Syncer {
		e, err := syncer.New(syncer.Config{
			Open:    open,
			Connect: func(context.Context, syncer.Sync) (destination.Destination, error) { return target, nil },
			Unseal:  func(context.Context, syncer.Sealed) (string, error) { return "", errors.New("no key") },
			Logger:  slog.New(slog.DiscardHandler),
			Now:     func() time.Time { return now },
		})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	if history, err := engine().History(t.Context(), "crm", 1); err != nil || history != nil {
		t.Errorf("history before the first run: %v, %v", history, err)
	}
	for range 2 {
		if _, err := engine().Run(t.Context(), vips(), syncer.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	now = now.Add(48 * time.Hour) // the consent has ended
	if _, err := engine().Run(t.Context(), vips(), syncer.Options{}); err != nil {
		t.Fatal(err)
	}
	want := []string{"k1 upsert ", "k1 remove consent_withdrawn"}
	if diff := cmp.Diff(want, target.got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// recorder is a destination that takes everything.
type recorder struct{ got []string }

func (*recorder) Describe() destination.Description {
	return destination.Description{Ops: []destination.Op{destination.Upsert, destination.Remove}, Idempotent: true}
}

func (*recorder) Open(context.Context, map[string]string) error { return nil }

func (r *recorder) Write(_ context.Context, batch destination.Batch) ([]destination.Result, error) {
	for _, c := range batch.Changes {
		r.got = append(r.got, fmt.Sprint(c.Key, " ", c.Op, " ", c.PriorityReason))
	}
	return destination.All(len(batch.Changes), destination.Result{Outcome: destination.Delivered}), nil
}

func (*recorder) Close(context.Context) error { return nil }

func TestEachOfSeveralVerdictsMustAllow(t *testing.T) {
	w := crowd(t, 2)
	w.setVerdicts([]any{"p1", "marketing", false, "d2", w.clock()}, []any{"p2", "marketing", nil, "d3", w.clock()})
	if p, err := w.engine().Plan(t.Context(), vips()); err != nil || p.Counts != (syncer.Counts{}) {
		t.Errorf("%+v, %v", p.Counts, err)
	}
	w.exec("DELETE FROM sluis_models.consent_profile WHERE decision_id IN ('d2', 'd3')")
	if r, err := w.engine().Run(t.Context(), vips(), syncer.Options{}); err != nil || r.Added != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	w.setVerdicts([]any{"p1", "marketing", false, "d2", w.clock()})
	if p, err := w.engine().Plan(t.Context(), vips()); err != nil || p.Counts != (syncer.Counts{Remove: 1, Unchanged: 1}) {
		t.Errorf("%+v, %v", p.Counts, err)
	}
}

// A change that is in doubt because the destination did not close is sent again
// under its id, whichever way, so that an idempotent destination does it once.
func TestWhatIsInDoubtKeepsItsID(t *testing.T) {
	for name, again := range map[string]func(*syncer.Syncer) (syncer.Run, error){
		"run":      func(e *syncer.Syncer) (syncer.Run, error) { return e.Run(t.Context(), vips(), syncer.Options{}) },
		"withdraw": func(e *syncer.Syncer) (syncer.Run, error) { return e.Withdraw(t.Context(), vips()) },
		"erase":    func(e *syncer.Syncer) (syncer.Run, error) { return e.Erase(t.Context(), vips()) },
	} {
		t.Run(name, func(t *testing.T) {
			w := crowd(t, 2)
			if _, err := w.engine().Run(t.Context(), vips(), syncer.Options{}); err != nil {
				t.Fatal(err)
			}
			w.advance(time.Minute)
			w.setConsent(map[string]bool{"p0": true, "p1": false})
			w.append("sluis_sync.erased", []string{"id", "erased_at"}, []any{"p1", w.clock()})
			w.target.closing = func() error { return errors.New("flush failed") }
			if _, err := w.engine().Run(t.Context(), vips(), syncer.Options{}); err == nil {
				t.Fatal("no error")
			}
			w.target.closing = nil
			sent := w.target.written[len(w.target.written)-1].Changes
			run, err := again(w.engine())
			if err != nil || run.Removed == 0 {
				t.Fatalf("%+v, %v", run, err)
			}
			for i, c := range w.target.written[len(w.target.written)-1].Changes {
				if c.ID != sent[i].ID || c.Op != destination.Remove {
					t.Errorf("%v of %s was sent as %s, and is sent again as %s", c.Op, c.Key, sent[i].ID, c.ID)
				}
			}
			if left := w.query("SELECT key FROM sluis_sync.state WHERE key = 'k1'"); len(left) > 0 {
				t.Errorf("the state still has %v", left)
			}
		})
	}
}
