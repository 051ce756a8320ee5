package collector

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"
)

// currentRows reads the events that a reader would: those of folders whose
// range is in no other's.
func currentRows(t *testing.T, s ParquetSink, day time.Time) []EventRow {
	t.Helper()
	folders, err := readFolders(s.dayDir(day))
	if err != nil {
		t.Fatal(err)
	}
	var all []EventRow
	for _, f := range folders {
		superseded := false
		for _, g := range folders {
			superseded = superseded || g.contains(f)
		}
		if superseded {
			continue
		}
		rows, err := parquet.ReadFile[EventRow](filepath.Join(s.dayDir(day), f.name, "events.parquet"))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, rows...)
	}
	return all
}

// TestCompactKeepsEveryRow merges over and over while batches land.
func TestCompactKeepsEveryRow(t *testing.T) {
	s := ParquetSink{Dir: t.TempDir()}
	day := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	var want []EventRow
	const batches = 3*compactAfter + 5
	for i := range batches {
		at := day.Add(time.Duration(i) * time.Second)
		first := uint64(1 + 10*i)
		row := EventRow{
			EventID: fmt.Sprint("e-", i), SourceID: "web", Type: "track", Event: "X", OccurredAt: at, ReceivedAt: at,
			Purposes: []string{"necessary", "analytics"}, Denied: []string{}, Violations: []string{},
			Identifiers: []IdentifierRow{{"anonymous_id", fmt.Sprint("an1_", i)}}, DecisionID: "d", PolicyVersion: "1",
			Origin: Origin{SpoolID: "0011223344556677", SpoolOffset: int64(first)},
		}
		if i%2 == 0 {
			row.Properties = `{"n":1}` // in every other row only: what a row lacks must not come from its neighbour
		}
		want = append(want, row)
		b := Batch{SpoolID: "0011223344556677", First: first, Last: first + 5, Day: day, Rows: Rows{Events: []EventRow{row}}}
		if i == 7 {
			b.Unreadable = []Unreadable{{Seq: first, Data: []byte("odd")}}
		}
		if err := s.Land(context.Background(), b); err != nil {
			t.Fatal(err)
		}
		if err := s.Compact(day, at); err != nil {
			t.Fatal(err)
		}
	}
	got := currentRows(t, s, day)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	if err := s.Compact(day, time.Now().Add(2*supersededFor)); err != nil {
		t.Fatal(err)
	}
	folders, err := readFolders(s.dayDir(day))
	if err != nil {
		t.Fatal(err)
	}
	if len(folders) > compactAfter {
		t.Errorf("%d folders are left of %d batches", len(folders), batches)
	}
	if diff := cmp.Diff(want, currentRows(t, s, day)); diff != "" {
		t.Errorf("rows after merged folders were removed (-want +got):\n%s", diff)
	}
	if kept, _ := filepath.Glob(filepath.Join(s.dayDir(day), folders[0].name, "unreadable-*")); len(kept) != 1 {
		t.Error("the unreadable record was lost")
	}
	if position, _, err := s.Position(context.Background(), "0011223344556677"); err != nil || position != uint64(1+10*(batches-1)+5) {
		t.Errorf("position %d, %v", position, err)
	}
}

// TestCompactLeavesOthersAlone: folders of other spools and other names, and a
// half-written merge.
func TestCompactLeavesOthersAlone(t *testing.T) {
	s := ParquetSink{Dir: t.TempDir()}
	day := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for i := range compactAfter {
		b := Batch{SpoolID: fmt.Sprintf("%016x", i%2), First: uint64(i + 1), Last: uint64(i + 2), Day: day, Rows: Rows{Events: []EventRow{{EventID: fmt.Sprint(i)}}}}
		if err := s.Land(context.Background(), b); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(s.dayDir(day), "notes"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := s.Compact(day, time.Now().Add(2*supersededFor)); err != nil {
		t.Fatal(err)
	}
	folders, err := readFolders(s.dayDir(day))
	if err != nil || len(folders) != compactAfter {
		t.Errorf("%d folders, %v: two spools of %d small folders each are not enough to merge", len(folders), err, compactAfter/2)
	}
	if err := s.Compact(day.AddDate(0, 0, 1), time.Now()); err != nil {
		t.Errorf("a day without a folder: %v", err)
	}
}
