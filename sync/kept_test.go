package syncer_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/plugins/destination"
	syncer "github.com/sluis-cdp/sluis/sync"
)

// addressBook is a destination that knows people by their tier, and never hears
// of a key.
type addressBook struct {
	*world
	tiers map[string]bool
}

func newAddressBook(t *testing.T) *addressBook {
	b := &addressBook{world: newWorld(t)}
	b.begin()
	return b
}

// begin empties the book, and has everybody agree.
func (b *addressBook) begin() {
	b.tiers = map[string]bool{}
	b.target.fields = []destination.TargetField{{Name: "tier", Identifies: true}, {Name: "visits"}}
	b.target.answer = func(batch destination.Batch, _ func(destination.Change)) ([]destination.Result, error) {
		b.write(batch)
		return destination.All(len(batch.Changes), destination.Result{Outcome: destination.Delivered}), nil
	}
	b.setConsent(map[string]bool{"p1": true, "p2": true})
}

// write does what such a destination can.
func (b *addressBook) write(batch destination.Batch) {
	b.t.Helper()
	tier := slices.IndexFunc(batch.Columns, func(c destination.Column) bool { return c.Name == "tier" })
	for _, c := range batch.Changes {
		for _, former := range c.Former {
			delete(b.tiers, former[tier].(string))
		}
		if text, ok := c.Values[tier].(string); ok && c.Op == destination.Upsert {
			b.tiers[text] = true
			if c.Decision != "decision-p"+c.Key[1:] {
				b.t.Errorf("%s was sent by the decision %q", c.Key, c.Decision)
			}
		}
	}
}

func (b *addressBook) run(s syncer.Sync) {
	b.t.Helper()
	b.advance(time.Minute)
	if _, err := b.engine().Run(b.t.Context(), s, syncer.Options{Approve: true}); err != nil {
		b.t.Fatal(err)
	}
}

func (b *addressBook) expect(tiers ...string) {
	b.t.Helper()
	if diff := cmp.Diff(tiers, slices.Sorted(maps.Keys(b.tiers)), cmp.Transformer("nil", func(s []string) []string { return append([]string{}, s...) })); diff != "" {
		b.t.Errorf("at the destination (-want +got):\n%s", diff)
	}
	for _, tier := range []string{"emerald", "sapphire"} {
		b.noValues(tier)
	}
}

func (b *addressBook) kept() int64 {
	b.t.Helper()
	return b.query("SELECT COUNT(*) FROM sluis_sync.kept")[0][0].(int64)
}

// former are the tiers that the last batch said that keys were sent with before.
func (b *addressBook) former() string {
	b.t.Helper()
	batch := b.target.written[len(b.target.written)-1]
	var all []string
	for _, c := range batch.Changes {
		all = append(all, fmt.Sprint(c.Key, c.Former))
	}
	return strings.Join(all, " ")
}

// What a key was sent with comes back when it is changed and when it is removed,
// also when nothing else may be opened; and it is kept no longer than that.
func TestFormerValues(t *testing.T) {
	b := newAddressBook(t)
	b.setModel(customer{"k1", "p1", "emerald", 1}, customer{"k2", "p2", nil, 1})
	b.run(vips())
	b.expect("emerald")
	b.setModel(customer{"k1", "p1", "emerald", 2}, customer{"k2", "p2", nil, 1})
	b.run(vips()) // the same address still
	if got := b.former(); got != "k1[]" || b.kept() != 1 {
		t.Errorf("former values %s, %d kept", got, b.kept())
	}
	for _, tier := range []string{"sapphire", "emerald", "sapphire"} {
		b.setModel(customer{"k1", "p1", tier, 2}, customer{"k2", "p2", nil, 1})
		b.run(vips())
		b.expect(tier)
	}
	if got := b.former(); got != "k1[[emerald <nil>]]" || b.kept() != 1 {
		t.Errorf("former values %s, %d kept", got, b.kept())
	}
	b.setConsent(map[string]bool{"p1": false, "p2": true})
	b.run(vips())
	b.expect()
	if got := b.former(); got != "k1[[sapphire <nil>]]" || b.kept() != 0 {
		t.Errorf("former values %s, %d kept", got, b.kept())
	}
}

// A field that is mapped no more still says who somebody was.
func TestFormerValuesOfAFieldThatIsMappedNoMore(t *testing.T) {
	b := newAddressBook(t)
	b.setModel(customer{"k1", "p1", "emerald", 1})
	b.run(vips())
	s := vips()
	s.Mapping = s.Mapping[1:]
	b.setModel()
	b.run(s)
	b.expect()
}

// Until a destination has said what became of what it took on, all is kept that
// may be there.
func TestFormerValuesWaitForReceipts(t *testing.T) {
	b := newAddressBook(t)
	done := false
	b.target.answer = func(batch destination.Batch, _ func(destination.Change)) ([]destination.Result, error) {
		b.write(batch)
		return destination.All(len(batch.Changes), destination.Result{Outcome: destination.Accepted, Receipt: "job-" + batch.ID}), nil
	}
	b.target.poll = func(receipts []string) (all []destination.Settlement, err error) {
		for _, receipt := range receipts {
			if done {
				all = append(all, destination.Settlement{Receipt: receipt, Outcome: destination.Delivered})
			}
		}
		return all, nil
	}
	for n, tier := range []string{"emerald", "sapphire"} {
		b.setModel(customer{"k1", "p1", tier, 1})
		b.run(vips())
		if got := b.kept(); got != int64(n+1) {
			t.Errorf("%d kept", got)
		}
	}
	b.setModel()
	b.run(vips())
	if got := b.former(); got != "k1[[emerald <nil>] [sapphire <nil>]]" || b.kept() != 2 {
		t.Errorf("former values %s, %d kept", got, b.kept())
	}
	done = true
	b.run(vips())
	if b.expect(); b.kept() != 0 {
		t.Errorf("%d kept", b.kept())
	}
}

// Wherever a run dies that changes an address, later ones take out of the
// destination whatever got there.
func TestFormerValuesOverCrashes(t *testing.T) {
	b := newAddressBook(t)
	for call, died := 1, true; died; call += 6 {
		b.reset()
		b.begin()
		b.setModel(customer{"k1", "p1", "emerald", 1})
		b.run(vips())
		b.setModel(customer{"k1", "p1", "sapphire", 1})
		first := b.calls
		b.fault = func(n int) fault {
			if n == first+call {
				return dieAfter
			}
			return fine
		}
		_, err := b.engine().Run(t.Context(), vips(), syncer.Options{})
		died = err != nil
		b.fault = nil
		b.setModel()
		b.advance(time.Hour)
		b.run(vips())
		if b.expect(); b.kept() != 0 || t.Failed() {
			t.Fatalf("died at call %d: %d kept", call, b.kept())
		}
	}
}

// A removal of which what it needs does not open is not done, and does not seem
// to be.
func TestFormerValuesThatDoNotOpen(t *testing.T) {
	b := newAddressBook(t)
	b.setModel(customer{"k1", "p1", "emerald", 1})
	b.run(vips())
	b.setModel()
	sends := b.target.sends
	e := b.engine(func(c *syncer.Config) {
		c.Recall = func(context.Context, string, string, string) (string, error) {
			return "", errors.New("there is no such key")
		}
	})
	run, err := e.Run(t.Context(), vips(), syncer.Options{Approve: true})
	if err != nil || run.Failed != 1 || b.target.sends != sends {
		t.Errorf("%+v, %v", run, err)
	}
	b.run(vips())
	b.expect()
	e = b.engine(func(c *syncer.Config) { c.Keep = nil })
	b.setModel(customer{"k1", "p1", "emerald", 1})
	if _, err := e.Run(t.Context(), vips(), syncer.Options{}); err == nil || !strings.Contains(err.Error(), "no key for that") {
		t.Error(err)
	}
	b.expect()
}

// Who is erased is not kept, either.
func TestForgottenIsNotKept(t *testing.T) {
	b := newAddressBook(t)
	b.setModel(customer{"k1", "p1", "emerald", 1}, customer{"k2", "p2", "sapphire", 1})
	b.run(vips())
	n, err := b.engine().Forget(t.Context(), []string{"p1"})
	if err != nil || n["kept"] != 1 || b.kept() != 1 {
		t.Errorf("%v, %v; %d kept", n, err, b.kept())
	}
}
