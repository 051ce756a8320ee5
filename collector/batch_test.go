package collector

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/collector/spool"
)

// smallSpool takes records up to a size.
type smallSpool struct {
	*memorySpool
	most int
}

func (s smallSpool) Append(ctx context.Context, record []byte) (uint64, error) {
	if len(record) > s.most {
		return 0, fmt.Errorf("%w: %d bytes", spool.ErrTooLarge, len(record))
	}
	return s.memorySpool.Append(ctx, record)
}

// outcomes shows what became of a batch, in order.
func outcomes(t *testing.T, n int, answer map[string]any) []string {
	t.Helper()
	list := make([]string, n)
	for i := range list {
		list[i] = "landed"
	}
	rest, _ := answer["notLanded"].([]any)
	for _, element := range rest {
		r := element.(map[string]any)
		reason, _ := r["reason"].(string)
		list[int(r["index"].(float64))] = strings.TrimSpace(fmt.Sprint(r["outcome"], " ", reason))
	}
	return list
}

// TestOneEventCostsOne: whatever is wrong with an event of a batch, those
// beside it land.
func TestOneEventCostsOne(t *testing.T) {
	event := func(id, more string) string {
		return `{"type":"track","messageId":"` + id + `","anonymousId":"a","event":"X",` + agreed + more + `}`
	}
	text := func(n int) string { return `,"properties":{"text":"` + strings.Repeat("x", n) + `"}` }
	batch := []struct{ event, outcome string }{
		{event("1", ""), "landed"},
		{event("2", text(maxCall)), "quarantined larger than 32 KB"},
		{event("3", text(2<<20)), "withheld larger than 1 MB"},
		{`{"type":"track","event":"` + strings.Repeat("x", maxCall) + `"}`, "withheld analytics not granted"},
		{`[1]`, "withheld analytics not granted"},
		{`null`, "withheld analytics not granted"},
		{event(strings.Repeat("4", 101), ""), "quarantined messageId is longer than 100 characters"},
		{`{"type":"buy","anonymousId":"a",` + agreed + `}`, "quarantined unknown type"},
		{event("1", ""), "duplicate"},
		{event("5", text(maxCall-200)), "landed"},
		{event("6", `,"properties":[]`), "landed"}, // so PHP encodes an empty object
		{event("7", `,"properties":[1]`), "quarantined properties is not an object"},
	}
	events, want := make([]string, len(batch)), make([]string, len(batch))
	for i, b := range batch {
		events[i], want[i] = b.event, b.outcome
	}
	b := newBench(t, nil)
	status, answer := b.post(t, "/v1/batch", `{"batch":[`+strings.Join(events, ",")+`]}`, "X-Write-Key", "wk_web")
	if diff := cmp.Diff(want, outcomes(t, len(batch), answer)); status != http.StatusOK || diff != "" {
		t.Errorf("%d (-want +got)\n%s", status, diff)
	}
	rows := b.spool.rows(t)
	if len(rows.Events) != 3 || len(rows.Quarantine) != 4 {
		t.Errorf("%d events and %d in quarantine", len(rows.Events), len(rows.Quarantine))
	}
	balance(t, rows, int64(len(batch)))
}

// TestBatchLargerThanARecord is written as several, and each event once.
func TestBatchLargerThanARecord(t *testing.T) {
	for _, most := range []int{1 << 10, 4 << 10, 64 << 10} {
		memory := &memorySpool{}
		b := newBench(t, func(c *Config) { c.Spool = smallSpool{memory, most} })
		b.spool = memory
		const n = 100
		events := make([]string, n)
		want := make([]string, n)
		for i := range events {
			events[i] = fmt.Sprintf(`{"type":"track","messageId":"m%d","anonymousId":"a","event":"X","properties":{"n":%d},%s}`, i, i, agreed)
			if want[i] = "landed"; i%10 == 7 {
				events[i], want[i] = `{"type":"track","event":"X"}`, "withheld analytics not granted"
			}
		}
		status, answer := b.post(t, "/v1/batch", `{"batch":[`+strings.Join(events, ",")+`]}`, "X-Write-Key", "wk_web")
		if diff := cmp.Diff(want, outcomes(t, n, answer)); status != http.StatusOK || diff != "" {
			t.Errorf("records of %d bytes: %d (-want +got)\n%s", most, status, diff)
		}
		rows := memory.rows(t)
		if len(rows.Events) != n*9/10 || (most < 64<<10) != (len(memory.records) > 1) {
			t.Errorf("records of %d bytes: %d events in %d records", most, len(rows.Events), len(memory.records))
		}
		balance(t, rows, n)
	}
}

// TestLargestBatch: SDKs measure a batch without what is around its events.
func TestLargestBatch(t *testing.T) {
	event := `{"type":"track","anonymousId":"a","event":"X","properties":{"text":"` + strings.Repeat("x ", 15<<10) + `"},` + agreed + `},`
	for n, want := range map[int]int{16: http.StatusOK, 100: http.StatusOK, 140: http.StatusBadRequest} {
		body := `{"batch":[` + strings.TrimSuffix(strings.Repeat(event, n), ",") + `]}`
		if status, answer := newBench(t, nil).post(t, "/v1/batch", body, "X-Write-Key", "wk_web"); status != want {
			t.Errorf("%d events of 30 KB: %d %v", n, status, answer)
		}
	}
}
