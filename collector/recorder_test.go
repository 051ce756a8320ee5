package collector

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluis-cdp/sluis/consent/record"
)

var recorderSeed = bytes.Repeat([]byte{5}, 32)

func newRecorder(t testing.TB, state string, spool Spool) *Recorder {
	t.Helper()
	key, err := record.NewKey(recorderSeed)
	if err != nil {
		t.Fatal(err)
	}
	r, err := OpenRecorder(key, "test", state, spool, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// verifyRecord verifies rows as `sluis consent verify` does.
func verifyRecord(t testing.TB, rows []ConsentRow) record.Report {
	t.Helper()
	keys, err := record.KeysOf(recorderSeed)
	if err != nil {
		t.Fatal(err)
	}
	v := record.NewVerifier("test", keys, nil)
	rows = slices.SortedFunc(slices.Values(rows), func(a, b ConsentRow) int {
		return cmp.Or(cmp.Compare(a.Chain, b.Chain), cmp.Compare(a.Link, b.Link), cmp.Compare(a.LinkRow, b.LinkRow))
	})
	for _, r := range rows {
		if r.Link == 1 && r.LinkRow == 0 {
			v.ExpectPrevious(r.Chain, r.Previous)
		}
	}
	for _, r := range rows {
		v.Add(r.Entry())
	}
	return v.Finish()
}

func consentsOf(n int, at time.Time) []ConsentRow {
	rows := make([]ConsentRow, n)
	for i := range rows {
		rows[i] = ConsentRow{DecisionID: "d", Pseudonym: fmt.Sprint("u1_", i), Purpose: "analytics", Signal: "choice", SourceID: "web", DecidedAt: at, ReceivedAt: at}
	}
	return rows
}

// TestRecorderMakesOneChain: what many requests record at once is one chain, with
// no more links than records.
func TestRecorderMakesOneChain(t *testing.T) {
	spool := &memorySpool{}
	r := newRecorder(t, filepath.Join(t.TempDir(), "head"), spool)
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	var group sync.WaitGroup
	for range 200 {
		group.Go(func() {
			if err := r.append(at, consentsOf(3, at), nil); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	report := verifyRecord(t, spool.rows(t).Consents)
	if len(report.Problems) > 0 || report.Rows != 600 || report.Chains != 1 || report.Links != int64(len(spool.records)) {
		t.Errorf("%+v", report)
	}
}

// TestRecorderSurvivesFailures: a link that could not be written ends its chain,
// whoever waited for it is told, and the next chain names the last one that was
// certain; so does that of the next start.
func TestRecorderSurvivesFailures(t *testing.T) {
	spool, state := &memorySpool{}, filepath.Join(t.TempDir(), "head")
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	broken := errors.New("broken")
	r := newRecorder(t, state, spool)
	for i, fail := range []error{nil, broken, broken, nil, nil, broken, nil} {
		spool.fail = fail
		if err := r.append(at, consentsOf(1, at), nil); !errors.Is(err, fail) {
			t.Errorf("append %d: %v", i, err)
		}
		if i == 4 {
			r = newRecorder(t, state, spool)
		}
	}
	report := verifyRecord(t, spool.rows(t).Consents)
	if len(report.Problems) > 0 || report.Rows != 4 || report.Chains != 3 {
		t.Errorf("%+v", report)
	}
	first := spool.rows(t).Consents[0]
	left := slices.DeleteFunc(spool.rows(t).Consents, func(row ConsentRow) bool { return row.Chain == first.Chain })
	if report := verifyRecord(t, left); len(report.Problems) == 0 {
		t.Error("the first chain is gone, and nothing shows")
	}
	if err := os.WriteFile(state, []byte("nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := record.NewKey(recorderSeed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenRecorder(key, "test", state, spool, nil); err == nil || !strings.Contains(err.Error(), "restore the file") {
		t.Errorf("a head that is none: %v", err)
	}
}

// TestLinksFitARecord: what one request brings is cut into links that a record can
// hold, and a record has rows of one day.
func TestLinksFitARecord(t *testing.T) {
	spool := &memorySpool{}
	r := newRecorder(t, filepath.Join(t.TempDir(), "head"), spool)
	night := time.Date(2026, 3, 1, 23, 59, 59, 0, time.UTC)
	if err := r.append(night, consentsOf(maxLinkRows*2+1, night), nil); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for i := range 50 {
		at := night.Add(time.Duration(i%2) * time.Minute)
		group.Go(func() {
			if err := r.append(at, consentsOf(1, at), nil); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if report := verifyRecord(t, spool.rows(t).Consents); len(report.Problems) > 0 || report.Rows != maxLinkRows*2+51 {
		t.Errorf("%+v", report)
	}
	for _, b := range spool.records {
		rec, err := ParseRecord(b)
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range rec.Consents {
			if !sameDay(row.ReceivedAt, rec.ReceivedAt) || len(rec.Consents) > maxLinkRows {
				t.Fatalf("a record of %s with %d rows has one of %s", rec.ReceivedAt, len(rec.Consents), row.ReceivedAt)
			}
		}
	}
}

// TestRefusalIsRecordedBeforeTheEvent: the consents of a request are on disk before
// anything else of it, and if they cannot be written it is not acknowledged.
func TestRefusalIsRecordedBeforeTheEvent(t *testing.T) {
	spool := &memorySpool{}
	b := newBench(t, func(c *Config) {
		c.Spool = spool
		c.Recorder = newRecorder(t, filepath.Join(t.TempDir(), "head"), spool)
	})
	b.spool = spool
	const refusal = `{"writeKey":"wk_web","event":"Live Chat Started","userId":"u-1","context":{"consent":{"categoryPreferences":{"analytics":false}}}}`
	if status, _ := b.post(t, "/v1/track", refusal); status != http.StatusOK {
		t.Fatal(status)
	}
	if len(spool.records) != 2 {
		t.Fatalf("%d records, want that of the refusal and that of the ledger", len(spool.records))
	}
	first, err := ParseRecord(spool.records[0])
	if err != nil || len(first.Consents) != 1 || len(first.Ledger) != 0 || first.Consents[0].Signature == "" {
		t.Errorf("%v %+v", err, first)
	}
	if report := verifyRecord(t, spool.rows(t).Consents); len(report.Problems) > 0 {
		t.Errorf("%+v", report)
	}
	spool.fail = errors.New("broken")
	if status, _ := b.post(t, "/v1/track", refusal); status != http.StatusServiceUnavailable {
		t.Errorf("a refusal that could not be written was answered %d", status)
	}
	if status, _ := b.post(t, "/v1/consent", `{"writeKey":"wk_web","userId":"u-1","purposes":{"analytics":true}}`); status != http.StatusServiceUnavailable {
		t.Errorf("a choice that could not be written was answered %d", status)
	}
}
