package collector

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

// keptSink keeps batches, and fails from some number of them on.
type keptSink struct {
	batches []Batch
	fails   int
}

var errSink = errors.New("no room")

func (s *keptSink) Position(context.Context, string) (next, until uint64, err error) {
	if n := len(s.batches); n > 0 {
		next = s.batches[n-1].Last
	}
	return next, 0, nil
}

func (s *keptSink) Land(_ context.Context, b Batch) error {
	if s.fails > 0 && len(s.batches) >= s.fails {
		return errSink
	}
	s.batches = append(s.batches, b)
	return nil
}

// straightRecord is a record of one event, and its share of the ledger.
func straightRecord(id string, at time.Time) []byte {
	rec := Record{ReceivedAt: at, Rows: Rows{
		Events: []EventRow{{EventID: id, ReceivedAt: at}},
		Ledger: []LedgerRow{{SourceID: "web", Minute: at.Truncate(time.Minute), Outcome: string(Landed), N: 1}},
	}}
	return rec.AppendTo(nil)
}

func TestStraightLandsByDays(t *testing.T) {
	sink := &keptSink{}
	s, err := NewStraight(t.Context(), "made", sink, nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.Begun() {
		t.Error("something has landed before anything was appended")
	}
	at := time.Date(2026, 3, 1, 23, 58, 30, 0, time.UTC)
	for i := range 4 { // at 58:30, 59:00, 59:30 and, of the next day, 00:00
		seq, err := s.Append(t.Context(), straightRecord(fmt.Sprint("e", i), at.Add(time.Duration(i)*30*time.Second)))
		if err != nil || seq != uint64(i) {
			t.Fatalf("record %d has the number %d: %v", i, seq, err)
		}
	}
	if err := s.Land(t.Context()); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, b := range sink.batches {
		line := fmt.Sprint(b.SpoolID, " ", b.Day.Format(time.DateOnly), " ", b.First, "-", b.Last)
		for _, e := range b.Events {
			line += fmt.Sprint(" ", e.EventID, "@", e.SpoolOffset)
		}
		for _, l := range b.Ledger {
			line += fmt.Sprint(" ", l.Minute.Format("15:04"), "=", l.N, "@", l.SpoolOffset)
		}
		got = append(got, line)
	}
	want := []string{
		"made 2026-03-01 0-3 e0@0 e1@1 e2@2 23:58=1@0 23:59=2@0",
		"made 2026-03-02 3-4 e3@3 00:00=1@3",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if again, err := NewStraight(t.Context(), "made", sink, nil); err != nil || !again.Begun() {
		t.Errorf("what landed is not noticed: %v", err)
	}
}

// What cannot land is told, at the latest by Land.
func TestStraightTellsOfFailure(t *testing.T) {
	s, err := NewStraight(t.Context(), "made", &keptSink{fails: 1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for i := range 2 {
		if _, err := s.Append(t.Context(), straightRecord("e", at.AddDate(0, 0, i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Land(t.Context()); !errors.Is(err, errSink) {
		t.Errorf("Land: %v", err)
	}
	if _, err := s.Append(t.Context(), []byte("no record")); err == nil {
		t.Error("what is no record was taken")
	}
}
