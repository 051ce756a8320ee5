package syncer_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sluis-cdp/sluis/plugins/destination"
	syncer "github.com/sluis-cdp/sluis/sync"
)

// office is a destination that takes every change on and does it later, if it
// does it at all.
type office struct {
	*world
	waiting []func()
	answer  *destination.Settlement // nil: it does not say yet
	asked   int
}

func newOffice(t *testing.T, people int) *office {
	o := &office{world: crowd(t, people)}
	o.target.answer = func(batch destination.Batch, apply func(destination.Change)) ([]destination.Result, error) {
		for _, c := range batch.Changes {
			o.waiting = append(o.waiting, func() { apply(c) })
		}
		return destination.All(len(batch.Changes), destination.Result{Outcome: destination.Accepted, Receipt: "job-" + batch.ID}), nil
	}
	o.target.poll = func(receipts []string) ([]destination.Settlement, error) {
		o.asked++
		if o.answer == nil {
			return nil, nil
		}
		if o.answer.Outcome == destination.Delivered {
			o.work()
		}
		var all []destination.Settlement
		for _, receipt := range receipts {
			s := *o.answer
			s.Receipt = receipt
			all = append(all, s)
		}
		return all, nil
	}
	return o
}

func (o *office) work() {
	for _, do := range o.waiting {
		do()
	}
	o.waiting = nil
}

func (o *office) run(t *testing.T) syncer.Run {
	t.Helper()
	run, err := o.engine().Run(t.Context(), vips(), syncer.Options{Approve: true})
	if err != nil {
		t.Fatal(err)
	}
	return run
}

func (o *office) plan(t *testing.T) string {
	t.Helper()
	return showPlan(o.engine().Plan(t.Context(), vips()))
}

// What a destination says of a receipt decides what the next plan does with the
// row that it accepted.
func TestReceipts(t *testing.T) {
	tests := []struct {
		name   string
		answer *destination.Settlement
		after  time.Duration
		want   string // the plan once the receipt was asked about
	}{
		{"not settled yet", nil, time.Hour, "add=0 update=0 remove=0 hold=0 unchanged=1\n"},
		{"done", &destination.Settlement{Outcome: destination.Delivered}, 0, "add=0 update=0 remove=0 hold=0 unchanged=1\n"},
		{"done, but for rows that are not named", &destination.Settlement{Outcome: destination.Delivered, FailedRows: 1}, 0, "add=0 update=0 remove=0 hold=0 unchanged=1\n"},
		{"refused for good", &destination.Settlement{Outcome: destination.Rejected, Code: "invalid"}, 0, "hold k1 quarantined\nadd=0 update=0 remove=0 hold=1 unchanged=0\n"},
		{"refused for now", &destination.Settlement{Outcome: destination.Retry, Code: "job_cancelled"}, 0, "add k1 retry\nadd=1 update=0 remove=0 hold=0 unchanged=0\n"},
		{"lost", &destination.Settlement{Outcome: destination.Unknown}, 0, "add k1 unacknowledged\nadd=1 update=0 remove=0 hold=0 unchanged=0\n"},
		{"never told", nil, 25 * time.Hour, "add k1 unacknowledged\nadd=1 update=0 remove=0 hold=0 unchanged=0\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o := newOffice(t, 1)
			if run := o.run(t); run.Added != 1 {
				t.Fatalf("the first run: %+v", run)
			}
			sends := o.target.sends
			o.advance(test.after)
			o.answer = test.answer
			// The run that hears the answer is stopped before it acts on it.
			settled := o.engine(func(c *syncer.Config) {
				connect := c.Connect
				c.Connect = func(ctx context.Context, s syncer.Sync) (destination.Destination, error) {
					if o.asked > 1 {
						return nil, errors.New("the destination is away")
					}
					return connect(ctx, s)
				}
			})
			_, _ = settled.Run(t.Context(), vips(), syncer.Options{}) // fails where there is something to send
			if o.target.sends != sends {
				t.Fatal("the row was sent again")
			}
			if got := o.plan(t); got != test.want {
				t.Errorf("the plan is\n%swant\n%s", got, test.want)
			}
		})
	}
}

// A removal that was accepted is not sent again while it is under way, is tried
// again if it failed, and is forgotten only when it is done.
func TestReceiptsOfRemovals(t *testing.T) {
	o := newOffice(t, 2)
	done := &destination.Settlement{Outcome: destination.Delivered}
	o.answer = done
	o.run(t)
	o.run(t)
	if got := o.target.content(); got != "k1 gold1\nk2 gold2\n" {
		t.Fatalf("the destination has %q", got)
	}
	o.answer = nil
	o.setConsent(map[string]bool{"p1": false, "p2": true})
	if run := o.run(t); run.Removed != 1 {
		t.Fatalf("%+v", run)
	}
	sends := o.target.sends
	if run := o.run(t); run.Removed != 0 || o.target.sends != sends {
		t.Errorf("a removal that is under way was sent again: %+v", run)
	}
	o.answer = &destination.Settlement{Outcome: destination.Retry, Code: "job_cancelled"}
	o.waiting = nil
	if run := o.run(t); run.Removed != 1 {
		t.Errorf("a removal that failed was not sent again: %+v", run)
	}
	o.answer = nil
	o.setConsent(map[string]bool{"p1": true, "p2": true}) // who comes back meanwhile is added
	if run := o.run(t); run.Added != 1 {
		t.Errorf("%+v", run)
	}
	o.setConsent(map[string]bool{"p1": false, "p2": true})
	o.answer = done
	o.run(t)
	o.run(t)
	if got := o.target.content(); got != "k2 gold2\n" {
		t.Errorf("the destination has %q", got)
	}
	if rows := o.query("SELECT COUNT(*) FROM sluis_sync.state WHERE key = 'k1'"); rows[0][0] != int64(0) {
		t.Error("the state still has who is gone")
	}
}

// An erasure is done when the destination says so, and not before.
func TestErasureWaitsForTheReceipt(t *testing.T) {
	o := newOffice(t, 2)
	o.run(t)
	o.work()
	e := o.engine()
	if err := e.Erasing(t.Context(), []string{"p1"}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Erase(t.Context(), vips()); !errors.Is(err, syncer.ErrUnconfirmed) {
		t.Fatalf("an erasure that nobody confirmed: %v", err)
	}
	sends := o.target.sends
	o.answer = &destination.Settlement{Outcome: destination.Delivered}
	if _, err := e.Erase(t.Context(), vips()); err != nil || o.target.sends != sends {
		t.Errorf("%v, and %d batches more", err, o.target.sends-sends)
	}
	if got := o.target.content(); got != "k2 gold2\n" {
		t.Errorf("the destination has %q", got)
	}
}
