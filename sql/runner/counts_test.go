package runner_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	sqlproject "github.com/sluis-cdp/sluis/sql"
	"github.com/sluis-cdp/sluis/sql/runner"
)

const smallest = 20 // counts_min_cell of the project

// cell is a row of counts, without its number.
type cell struct{ hour, source, typ, event, page, device string }

// level is the cell that something too small joins: 0 is the cell itself, 3 all of
// its source.
func (c cell) level(n int) cell {
	if n > 0 {
		c.device = ""
	}
	if n > 1 {
		c.page = ""
	}
	if n > 2 {
		c.typ, c.event = "", ""
	}
	return c
}

// TestSuppressedCountsLeaveNoTrace draws numbers, and finds by another way than
// the model what is published of them. Then it takes away all that is in no
// published row: the table stays as it was, to the last number, so that nobody
// can find out from it what was suppressed, or that anything was.
func TestSuppressedCountsLeaveNoTrace(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	project := load(t, runner.Options{Dir: sqlproject.Files})
	suppressed := 0
	for range 4 {
		cells := randomCells(random)
		want, left := publish(cells)
		got := publishedBy(t, project, cells)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("(-want +got)\n%s", diff)
		}
		for _, c := range left {
			delete(cells, c)
		}
		suppressed += len(left)
		if diff := cmp.Diff(got, publishedBy(t, project, cells)); diff != "" {
			t.Fatalf("without what was suppressed it differs (-with +without)\n%s", diff)
		}
	}
	if suppressed == 0 {
		t.Error("nothing was suppressed")
	}
}

func randomCells(random *rand.Rand) map[cell]int64 {
	cells := make(map[cell]int64)
	for hour := range 3 {
		for range 2 + random.IntN(20) {
			pick := func(list ...string) string { return list[random.IntN(len(list))] }
			c := cell{fmt.Sprintf("2026-03-01 0%d:00", hour), pick("web", "app"), pick("page", "track"), pick("", "A", "B"), pick("", "/", "/a"), pick("desktop", "mobile", "bot")}
			cells[c] = 1 + int64(random.IntN([]int{3, 12, 19, 30}[random.IntN(4)]))
		}
	}
	return cells
}

// publish is what is to be published, and the cells that are in none of it.
func publish(cells map[cell]int64) (rows [][]string, left []cell) {
	rows = [][]string{}
	for c := range cells {
		left = append(left, c)
	}
	for level, detail := range []string{"device", "page", "event", "source"} {
		sums := make(map[cell]int64)
		for _, c := range left {
			sums[c.level(level)] += cells[c]
		}
		for c, n := range sums {
			if n >= smallest {
				rows = append(rows, []string{c.hour, c.source, detail, c.typ, c.event, c.page, c.device, fmt.Sprint(n)})
			}
		}
		left = slices.DeleteFunc(left, func(c cell) bool { return sums[c.level(level)] >= smallest })
	}
	slices.SortFunc(rows, slices.Compare)
	return rows, left
}

func publishedBy(t *testing.T, project *runner.Project, cells map[cell]int64) [][]string {
	t.Helper()
	text := func(s string) any {
		if s == "" {
			return nil
		}
		return s
	}
	var counts []map[string]any
	for c, n := range cells {
		hour, err := time.Parse(minute, c.hour)
		if err != nil {
			t.Fatal(err)
		}
		// As the collector lands them: in parts.
		for _, part := range []int64{n / 3, n - n/3} {
			counts = append(counts, map[string]any{
				"source_id": c.source, "hour": hour, "type": c.typ, "event": text(c.event), "page": text(c.page), "device_class": text(c.device), "n": part,
				"spool_id": "spool", "spool_offset": int64(len(counts)),
			})
		}
	}
	w := newWorld(t)
	w.land("counts", counts)
	w.land("ledger", []map[string]any{{"source_id": "web", "minute": time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC), "outcome": "counted", "n": int64(1)}})
	d := w.open()
	defer d.Close()
	build(t, project, d, "counts_published")
	return rowsOf(t, d, nil, "SELECT hour, source_id, detail, type, event, page, device_class, n FROM sluis_models.counts_published")
}
