package main

import (
	"math"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestDocument fails if SCALE.md is not what the calculation says.
func TestDocument(t *testing.T) {
	document, err := os.ReadFile("../../../SCALE.md")
	if err != nil {
		t.Fatal(err)
	}
	updated, err := update(string(document))
	if err != nil {
		t.Fatal(err)
	}
	if updated != string(document) {
		t.Error("SCALE.md differs from the calculation: run make scale, and read the difference")
	}
}

func TestUpdate(t *testing.T) {
	var document strings.Builder
	for _, table := range tables() {
		document.WriteString("before\n<!-- " + table.name + " -->\nstale row\n<!-- end -->\nafter\n")
	}
	updated, err := update(document.String())
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(updated, "stale row") || strings.Count(updated, "before\n") != len(tables()) || strings.Count(updated, "after\n") != len(tables()) {
		t.Errorf("the document became\n%s", updated)
	}
	if again, err := update(updated); err != nil || again != updated {
		t.Errorf("a second time it changed: %v", err)
	}
	for _, broken := range []string{"", strings.ReplaceAll(updated, "<!-- end -->", "")} {
		if _, err := update(broken); err == nil {
			t.Error("a document without markers was accepted")
		}
	}
}

// TestByHand holds the arithmetic to cases that were worked out by hand.
func TestByHand(t *testing.T) {
	ten, thousand := at(10), at(1000)
	for _, c := range []struct {
		name      string
		got, want float64
	}{
		{"events kept: 10 × 86,400 × 365", ten.events, 315_360_000},
		{"people: those / 200", ten.persons, 1_576_800},
		{"people are not more than there are", at(1e6).persons, 3e9},
		{"millions a day", thousand.millionsPerDay(), 86.4},
		{"a machine: 4 cores / 170 µs / 2", eventsPerMachine(), 11_764.7},
		{"peak of 10,000/s: 30,000 / 11,765, rounded up", machines(at(10_000)), 3},
		{"a spool at 1,000/s: 4 GiB / 1,074,000 bytes/s / 3,600", outageHours(thousand, 1), 1.11084},
		{"… shared by ten", outageHours(thousand, 10), 11.1084},
		{"5 collectors load every 5 minutes", shortestLoadInterval(5), 300},
		{"25 collectors: 25 × 86,400 / 1,500", shortestLoadInterval(25), 1440},
		{"embedded: 16,000 × 1,800 s", embeddedEvents(), 28_800_000},
		{"event_id and is_bot", bytesOf([]string{"event_id", "is_bot"}), 62},
		{"a relation: (2 × 315,360,000 + 3 × 1,576,800) × 62", relation{"", 2, 3, nil}.bytes(ten, []string{"event_id", "is_bot"}), 39_397_924_800},
		{"identity_map reads 473,040,000 × (38 + 38 + 8 + 38 + 8)", modelNamed(t, "identity_map").scanned(thousand, wholeBuild), 61_495_200_000},
		{"… whatever is by day", modelNamed(t, "identity_map").scanned(thousand, everyEventsByDay), 61_495_200_000},
		{"a view reads nothing itself", modelNamed(t, "profile_events").scanned(thousand, wholeBuild), 0},
		{"staging reads 523.8 bytes of each event: all 633.8 but 110 of context", modelNamed(t, "stg_events").scanned(ten, wholeBuild), 315_360_000 * 523.8},
		{"… by day 2 / 365 of that, and 95 and 109 to find the days", modelNamed(t, "stg_events").scanned(ten, stagingByDay), 315_360_000 * (523.8*2/365.0 + 95 + 109.1)},
		{"… and no other model", modelNamed(t, "profiles").scanned(ten, stagingByDay), modelNamed(t, "profiles").scanned(ten, wholeBuild)},
		{"slots: 18 GB in half an hour at 10 MB/s", slots(18e9), 1},
		{"rows of syncs: 86.4 × 20,000", syncsOf(thousand).rows, 1_728_000},
		{"… in windows: 24 × 5 runs of 14,400 rows: 1,000, 2,000, 4,000 and 7,400", syncsOf(thousand).windows, 480},
		{"… jobs: 24 × 5 × 28 + 480 × 9", syncsOf(thousand).jobs, 7_680},
		{"… read by a window: 236.52 M × 4 × 279, 788.4 M × 127, 946.08 M × 222.7 and 630.72 M × 2 × 349 bytes", syncsOf(thousand).perWindow, 1_015_017_696_000},
		{"windows of 250,000 rows: 1,000 to 64,000, then 100,000 and 23,000", windowsOf(250_000), 9},
		{"windows of a hundredth of a row", windowsOf(0.01), 0.01},
		{"rows one sync sends: 86,400 / 28 × 100,000", rowsPerDay(), 308_571_429},
		{"deliveries of a year: 630,720,000 × 349 bytes", wholeBytes(thousand, "deliveries"), 630_720_000 * 349},
		{"a TiB: 6.25 × 0.9", scanPrice(tib), 5.625},
		{"36 GB by slots: one hour × 0.06 × 0.9", slotPrice(36e9), 0.054},
		{"a GiB written: 0.025 × 0.9", writePrice(gib), 0.0225},
		{"where 86,400 × rate is 864,000", rateWhere(864_000, func(w workload) float64 { return w.rate * day }), 10},
	} {
		if math.Abs(c.got-c.want) > 1e-4*c.want {
			t.Errorf("%s: %v, not %v", c.name, c.got, c.want)
		}
	}
}

// TestStoragePrice: of the landed events three quarters are older than 90 days.
func TestStoragePrice(t *testing.T) {
	w := at(100)
	events, all := wholeBytes(w, "events"), stored(w)
	old := 1 - 90.0/365
	want := (all - events*old + events*old/2) / gib * 0.02 * 0.9
	if got := storagePrice(w); math.Abs(got-want) > 1e-6*want {
		t.Errorf("%v, not %v", got, want)
	}
}

// TestColumns: what a model reads, the relation has, and each column has a size.
func TestColumns(t *testing.T) {
	for _, m := range models {
		for _, read := range m.reads {
			for _, column := range read.columns {
				if !slices.Contains(relationNamed(read.relation).columns, column) {
					t.Errorf("%s reads %s.%s, which is not in the relation", m.name, read.relation, column)
				}
			}
		}
	}
	for _, r := range relations {
		for _, column := range r.columns {
			if _, ok := columnBytes[column]; !ok {
				t.Errorf("the column %s of %s has no size", column, r.name)
			}
		}
	}
}

func TestInputsHaveASource(t *testing.T) {
	for _, i := range inputs {
		if i.value <= 0 || !slices.Contains(sources, i.source) {
			t.Errorf("%s is %v, from %q", i.name, i.value, i.source)
		}
	}
}

func TestNumbers(t *testing.T) {
	for x, want := range map[float64]string{
		0: "0", 7: "7", 255: "255", 1556: "1,600", 21_600: "22,000", 0.01337: "0.013", 62.9: "63", 3921.5: "3,900", 157_390: "160,000",
		1_234_567: "1.2 M", 3e9: "3 bn", 6.09e13: "61 tn",
	} {
		if got := number(x); got != want {
			t.Errorf("%v is written %q, not %q", x, got, want)
		}
	}
	for x, want := range map[float64]string{90: "90 s", 300: "5 min", 2 * 3600: "2 h", 3 * day: "3 days"} {
		if got := duration(x); got != want {
			t.Errorf("%v s is written %q, not %q", x, got, want)
		}
	}
	for x, want := range map[float64]string{1 << 20: "1 MiB", 1.5 * gib: "1.5 GiB", 40.9 * tib: "41 TiB", 1 << 50: "1 PiB"} {
		if got := size(x); got != want {
			t.Errorf("%v bytes are written %q, not %q", x, got, want)
		}
	}
}

func modelNamed(t *testing.T, name string) model {
	t.Helper()
	i := slices.IndexFunc(models, func(m model) bool { return m.name == name })
	if i < 0 {
		t.Fatalf("there is no model %s", name)
	}
	return models[i]
}
