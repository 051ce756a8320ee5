package destinationtest

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/sluis-cdp/sluis/plugins/destination"
)

// soon is how long a call may go on after its context has ended.
const soon = 30 * time.Second

// someone is the value of fields that an address fits.
const someone = "someone@example.test"

// manyRows is how many rows the host sends at once, unless MaxRows is less.
const manyRows = 1000

// cancelled writes when there is no time left: the answer comes soon, and what
// follows is taken as ever.
func (s Suite) cancelled(t T) {
	d := s.opened(t)
	b := s.Batch("cancelled", destination.Upsert)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	began := time.Now()
	if results, err := d.Write(ctx, b); err == nil {
		if err := b.CheckResults(results); err != nil {
			t.Error(err)
		}
	}
	if took := time.Since(began); took > soon {
		t.Errorf("Write went on for %v after its context had ended", took)
	}
	writeIt(t, d, b)
}

// receipts polls what was accepted. Nothing is said of receipts that were not
// asked for.
func (s Suite) receipts(t T) {
	d := s.opened(t)
	var receipts []string
	for _, r := range writeIt(t, d, s.Batch("receipts", destination.Upsert)) {
		if r.Outcome == destination.Accepted && !slices.Contains(receipts, r.Receipt) {
			receipts = append(receipts, r.Receipt)
		}
	}
	if len(receipts) == 0 {
		t.Skip("it gives no receipts")
	}
	poller, ok := d.(destination.Poller)
	if !ok {
		t.Fatal("it gives receipts, and cannot be asked what became of them")
	}
	settlements, err := poller.Poll(t.Context(), receipts)
	if err != nil {
		t.Fatal(err)
	}
	for _, settled := range settlements {
		i := slices.Index(receipts, settled.Receipt)
		if i < 0 {
			t.Errorf("the settlement %q was not asked for, or is there twice", settled.Receipt)
			continue
		}
		receipts = slices.Delete(receipts, i, i+1)
		if settled.Outcome < destination.Delivered || settled.Outcome > destination.Unknown || settled.Outcome == destination.Accepted {
			t.Errorf("the settlement %q has the outcome %v", settled.Receipt, settled.Outcome)
		}
	}
}

// state looks for what was delivered, and for what was removed.
func (s Suite) state(t T) {
	d := s.opened(t)
	b := s.Batch("state", destination.Upsert)
	for range 2 { // sent again, it is there still
		for i, r := range writeIt(t, d, b) {
			if r.Outcome == destination.Delivered && !s.Present(t, b.Changes[i].Key) {
				t.Errorf("change %d is delivered, and not there", i)
			}
		}
	}
	removal := s.Batch("state-removal", destination.Remove)
	for range 2 {
		for i, r := range writeIt(t, d, removal) {
			if r.Outcome == destination.Delivered && s.Present(t, removal.Changes[i].Key) {
				t.Errorf("change %d is removed, and there", i)
			}
		}
	}
}

// order has two keys come and go in one batch: the last change of each counts.
func (s Suite) order(t T) {
	d := s.opened(t)
	if !takes(d, destination.Upsert) || !takes(d, destination.Remove) {
		t.Skip("it does not take both operations")
	}
	up, down := s.Batch("order", destination.Upsert), s.Batch("order", destination.Remove)
	if len(up.Changes) < 2 || len(down.Changes) < 2 {
		t.Fatal("the suite's batches have fewer than two changes")
	}
	b := up
	b.Changes = nil
	for i, c := range []destination.Change{up.Changes[0], down.Changes[0], down.Changes[1], up.Changes[1]} {
		c.ID = "order-" + strconv.Itoa(i)
		b.Changes = append(b.Changes, c)
	}
	b.Changes[1].Key, b.Changes[2].Key = up.Changes[0].Key, up.Changes[1].Key
	writeIt(t, d, b)
	if s.Present(t, up.Changes[0].Key) {
		t.Error("a key that came and went is there: changes are to be applied in order")
	}
	if !s.Present(t, up.Changes[1].Key) {
		t.Error("a key that went and came is not there: changes are to be applied in order")
	}
}

// many writes as many rows as the host may send at once.
func (s Suite) many(t T) {
	d := s.opened(t)
	n := manyRows
	if most := d.Describe().MaxRows; most > 0 {
		n = min(n, most)
	}
	b := s.Batch("many", destination.Upsert)
	few := b.Changes
	b.Changes = make([]destination.Change, n)
	for i := range b.Changes {
		c := few[i%len(few)]
		c.ID, c.Key = fmt.Sprintf("many-%d", i), fmt.Sprintf("many-%d", i)
		b.Changes[i] = c
	}
	results := writeIt(t, d, b)
	for i := range results {
		if results[i].Outcome == destination.Delivered && !s.Present(t, b.Changes[i].Key) {
			t.Fatalf("change %d of %d is delivered, and not there", i, n)
		}
	}
}

// refusedRow has one row of a batch refused: that one is rejected, and, as far as
// the outside system tells, no other.
func (s Suite) refusedRow(t T) {
	d := s.opened(t)
	b := s.Batch("refused", destination.Upsert)
	if !takes(d, destination.Upsert) || len(b.Changes) < 2 {
		t.Skip("it takes no rows, or the suite's batch has one alone")
	}
	s.Refuse(t, b.Changes[1].Key)
	results, err := d.Write(t.Context(), b)
	if err == nil {
		err = b.CheckResults(results)
	}
	if err != nil {
		t.Fatalf("one row is refused: %v", err)
	}
	if r := results[1]; r.Outcome != destination.Rejected || r.Code == "" || r.Message == "" {
		t.Errorf("the refused row: %+v, want it rejected, with a code and a message", r)
	}
	if d.Describe().Granularity != destination.PerRow {
		return
	}
	for i, r := range results {
		if i != 1 && r.Outcome != destination.Delivered && r.Outcome != destination.Accepted {
			t.Errorf("change %d was not refused, and is %+v", i, r)
		}
	}
}

// throttled has a request turned away for now: nothing is rejected for that, and
// all is taken when it is sent again.
func (s Suite) throttled(t T) {
	d := s.opened(t)
	b := s.Batch("throttled", destination.Upsert)
	s.Throttle(t)
	results, err := d.Write(t.Context(), b)
	if err == nil {
		if err := b.CheckResults(results); err != nil {
			t.Fatal(err)
		}
		for i, r := range results {
			if r.Outcome == destination.Rejected {
				t.Errorf("change %d is rejected for good, and was turned away for now: %+v", i, r)
			}
		}
	}
	writeIt(t, d, b)
}

// noTurn lets no request go out.
type noTurn struct{}

func (noTurn) Await(context.Context, string) error {
	return &destination.LimitError{RetryAfter: time.Minute}
}

func (noTurn) Observe(string, destination.Usage) {}

// turns lets no request go out: all rows are to be sent again then, and say when. With
// their turns they are taken.
func (s Suite) turns(t T) {
	d := s.opened(t)
	if !d.Describe().Paced {
		t.Skip("it does not say that its requests wait for their turns")
	}
	b := s.Batch("turns", destination.Upsert)
	results, err := d.Write(destination.WithPacer(t.Context(), noTurn{}), b)
	if err == nil {
		err = b.CheckResults(results)
	}
	if err != nil {
		t.Fatalf("the limit on requests is reached, which is no error: %v", err)
	}
	for i, r := range results {
		if r.Outcome != destination.Retry || r.RetryAfter != time.Minute {
			t.Errorf("change %d: %+v, want it to be sent again after the minute that destination.Await said", i, r)
		}
		if s.Present != nil && s.Present(t, b.Changes[i].Key) {
			t.Errorf("change %d was written by a request that had no turn", i)
		}
	}
	writeIt(t, d, b)
}

// updateOnly opens the destination to update, where it can: what is not there is
// skipped and not made, what is there is changed.
func (s Suite) updateOnly(t T) {
	before, _ := s.Open(t)
	maker, _ := s.Open(t)
	after, config := s.Open(t) // of the outside system that Present looks into
	if !after.Describe().UpdateOnly {
		for _, d := range []destination.Destination{before, maker, after} {
			closeIt(t, d)
		}
		t.Skip("it does not say that it can update alone")
	}
	absent := s.named("absent")
	for i, r := range s.during(t, before, config, true, absent) {
		if r.Outcome != destination.Skipped || r.Code == "" || r.Message == "" {
			t.Errorf("change %d is of a key that is not there: %+v, want it skipped, with a code and a message", i, r)
		}
		if s.Present != nil && s.Present(t, absent.Changes[i].Key) {
			t.Errorf("change %d was to update alone, and has made its key", i)
		}
	}
	there := s.named("there")
	s.during(t, maker, config, false, there)
	for i := range there.Changes {
		there.Changes[i].ID += "-again"
	}
	for i, r := range s.during(t, after, config, true, there) {
		if r.Outcome == destination.Skipped {
			t.Errorf("change %d is of a key that is there: %+v", i, r)
		}
	}
}

// named is a batch of upserts with keys and addresses of its own.
func (s Suite) named(id string) destination.Batch {
	b := s.Batch(id, destination.Upsert)
	b.Changes = slices.Clone(b.Changes)
	for i, c := range b.Changes {
		b.Changes[i].Key, b.Changes[i].Values = fmt.Sprintf("%s-%d", id, i), slices.Clone(c.Values)
		for j, v := range c.Values {
			if v == someone {
				b.Changes[i].Values[j] = fmt.Sprintf("%s-%d@example.test", id, i)
			}
		}
	}
	return b
}

// during writes a batch between opening a destination and closing it.
func (s Suite) during(t T, d destination.Destination, config map[string]string, updateOnly bool, b destination.Batch) []destination.Result {
	t.Helper()
	defer closeIt(t, d)
	if err := destination.Open(t.Context(), d, config, updateOnly); err != nil {
		t.Fatal(err)
	}
	return writeIt(t, d, b)
}

func takes(d destination.Destination, op destination.Op) bool {
	return slices.Contains(d.Describe().Ops, op)
}

// BatchFor gives batches as [Batch] does, with the columns that a target wants:
// those of its own if it takes no others, and those that it requires in any case.
// Fields of a form have an address that the host brings into it, if it is one for
// addresses.
func BatchFor(target destination.Target) func(id string, op destination.Op) destination.Batch {
	return func(id string, op destination.Op) destination.Batch {
		all := Batch(id, op)
		b := all
		if target.Closed {
			b.Columns = nil
		}
		for _, f := range target.Fields {
			i := slices.IndexFunc(b.Columns, func(c destination.Column) bool { return c.Name == f.Name })
			if i < 0 && (f.Required || target.Closed) {
				b.Columns = append(b.Columns, destination.Column{Name: f.Name})
				i = len(b.Columns) - 1
			}
			if i >= 0 {
				b.Columns[i].Type = destination.String
				if len(f.Types) > 0 && !slices.Contains(f.Types, destination.String) {
					b.Columns[i].Type = f.Types[0]
				}
			}
		}
		slices.SortStableFunc(b.Columns, func(x, y destination.Column) int { // the canary goes into a string
			return int(min(x.Type, 2)) - int(min(y.Type, 2))
		})
		b.Changes = slices.Clone(b.Changes)
		for i, c := range all.Changes {
			b.Changes[i].Values = make([]any, len(b.Columns))
			for j, column := range b.Columns {
				b.Changes[i].Values[j] = valueFor(target, column, all.Columns, c.Values)
			}
		}
		return b
	}
}

// valueFor is a value of a column's type out of a row of [Batch].
func valueFor(target destination.Target, column destination.Column, columns []destination.Column, row []any) any {
	for i, c := range columns {
		if c.Type != column.Type {
			continue
		}
		for _, f := range target.Fields {
			if f.Name == column.Name && (f.Form != "" || f.Required && row[i] == nil) && c.Type == destination.String {
				return someone
			}
		}
		return row[i]
	}
	return nil
}
