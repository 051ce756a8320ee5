package collector

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// witness takes down what an observer is told.
type witness struct{ views []string }

func (s *witness) Accepted(a Accepted) {
	for v := range a.Views() {
		s.views = append(s.views, fmt.Sprintf("%s %s %q %s", v.Source, v.Outcome, v.Reason, v.Event))
	}
}

const mixed = `{"writeKey":"wk_web","batch":[
	{"type":"track","event":"Canary Refused","messageId":"canary","anonymousId":"canary","context":{"consent":{"categoryPreferences":{"analytics":false}}}},
	{"type":"track","event":"Live Chat Started","messageId":"m-1","anonymousId":"canary-1","userId":"canary-2","properties":{"note":"canary-3@example.com"},
	 "context":{"consent":{"categoryPreferences":{"identity":true,"analytics":true}}}},
	{"type":"canary","messageId":"canary-4","anonymousId":"canary-5","context":{"consent":{"categoryPreferences":{"analytics":true}}}}
]}`

func sendBatch(t *testing.T, c *Collector, body string) {
	t.Helper()
	w := httptest.NewRecorder()
	c.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v1/batch", strings.NewReader(body)))
	if w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
}

// TestObserverSeesWhatIsOnDisk: each event once, in order; of what did not land
// nothing but the outcome; and nothing of a request that was not written.
func TestObserverSeesWhatIsOnDisk(t *testing.T) {
	var s witness
	b := newBench(t, func(c *Config) { c.Observer = &s })
	sendBatch(t, b.Collector, mixed)
	if len(s.views) != 3 {
		t.Fatalf("seen: %q", s.views)
	}
	if want := `web counted "analytics denied by segment_consent" `; s.views[0] != want {
		t.Errorf("got  %s\nwant %s", s.views[0], want)
	}
	if want := `web quarantined "unknown type" `; s.views[2] != want {
		t.Errorf("got  %s\nwant %s", s.views[2], want)
	}
	if text := s.views[1]; !strings.HasPrefix(text, `web landed "personal data masked" {"event_id":"m-1","source_id":"web","type":"track","event":"Live Chat Started"`) {
		t.Errorf("got %s", text)
	}
	if text := strings.Join(s.views, "\n"); strings.Contains(strings.ToLower(text), "canary") {
		t.Errorf("a canary is seen: %s", text)
	}
	b.spool.fail = errors.New("full")
	w := httptest.NewRecorder()
	b.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v1/batch", strings.NewReader(mixed)))
	if w.Code != http.StatusServiceUnavailable || len(s.views) != 3 {
		t.Errorf("%d, and seen: %q", w.Code, s.views)
	}
}

// TestWith: another configuration, the same memory.
func TestWith(t *testing.T) {
	b := newBench(t, nil)
	sendBatch(t, b.Collector, mixed)
	config := b.Config
	config.Sources = []Source{{ID: "web", WriteKey: "wk_web", Plan: testPlan(), Denied: Discard}}
	next, err := b.With(config)
	if err != nil {
		t.Fatal(err)
	}
	sendBatch(t, next, mixed)
	got := make(map[string]int64)
	for _, l := range b.spool.rows(t).Ledger {
		got[l.Outcome] += l.N
	}
	want := map[string]int64{"received": 6, "counted": 1, "withheld": 1, "landed": 1, "duplicate": 1, "quarantined": 2}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	config.Sources[0].WriteKey = ""
	if _, err := b.With(config); err == nil {
		t.Error("a faulty configuration was taken")
	}
}

// TestInspect: what waits is counted by table, and shown without whom it is of.
func TestInspect(t *testing.T) {
	dir := t.TempDir()
	s := openSpool(t, dir)
	b := newBench(t, func(c *Config) { c.Spool = s })
	for n := range 3 {
		sendBatch(t, b.Collector, strings.ReplaceAll(mixed, "m-1", fmt.Sprintf("m-%d", n)))
	}
	if _, err := s.Append(t.Context(), []byte("of another version")); err != nil {
		t.Fatal(err)
	}
	look := func(landed uint64, whole bool, most int) (Inspection, []InspectedRecord) {
		t.Helper()
		var shown []InspectedRecord
		i, err := Inspect(t.Context(), dir, InspectOptions{
			Landed: func(id string) (uint64, error) {
				if id != s.ID() {
					t.Errorf("the id is %s", id)
				}
				return landed, nil
			},
			Show: func(r InspectedRecord) bool {
				if len(shown) == most {
					return false
				}
				shown = append(shown, r)
				return true
			},
			Whole: whole,
		})
		if err != nil {
			t.Fatal(err)
		}
		return i, shown
	}
	i, shown := look(0, false, 2)
	w := i.Waiting
	if w.Records != 4 || w.Unreadable != 1 || w.Oldest.IsZero() || w.Bytes == 0 || i.Spool.Segments[0].Records != 4 {
		t.Errorf("%+v", i)
	}
	if diff := cmp.Diff(map[string]int{"events": 3, "quarantine": 3, "ledger": 12, "counts": 3, "seal_keys": 1, "elements": 2}, w.Rows); diff != "" {
		t.Error(diff)
	}
	text, err := json.Marshal(shown)
	if err != nil {
		t.Fatal(err)
	}
	if len(shown) != 2 || bytes.Contains(bytes.ToLower(text), []byte("canary")) || tokens(text) != 0 {
		t.Errorf("shown: %s", text)
	}
	if _, shown := look(0, true, 1); tokens(shown[0].Rows["events"][0]) == 0 {
		t.Errorf("whole: %s", shown[0].Rows["events"])
	}
	if i, shown := look(3, false, 10); i.Waiting.Records != 2 || len(shown) != 1 || shown[0].Seq != 3 {
		t.Errorf("from 3: %+v %v", i.Waiting, shown)
	}
	if i, _ := look(5, false, 10); i.Waiting.Records != 0 || !i.Waiting.Oldest.IsZero() {
		t.Errorf("all landed: %+v", i.Waiting)
	}
}

// tokens counts whole pseudonyms.
func tokens(text []byte) (n int) {
	for _, word := range bytes.FieldsFunc(text, func(r rune) bool { return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789_", r) }) {
		if len(word) == 36 && word[3] == '_' {
			n++
		}
	}
	return n
}

// attemptedSink tells of each attempt to land.
type attemptedSink struct {
	*failingSink
	attempted func()
}

func (s *attemptedSink) Land(ctx context.Context, b Batch) error {
	s.attempted()
	return s.failingSink.Land(ctx, b)
}

// TestProgress: the loader tells what landed, what fails and what waits.
func TestProgress(t *testing.T) {
	s := openSpool(t, t.TempDir())
	sink := &attemptedSink{failingSink: &failingSink{ParquetSink: ParquetSink{Dir: t.TempDir()}, before: 2, landed: make(chan Batch, 10)}}
	l := &Loader{Spool: s, Sink: sink, Logger: slog.New(slog.DiscardHandler), Every: time.Millisecond}
	if p := l.Progress(); p != (Progress{}) {
		t.Errorf("before it runs: %+v", p)
	}
	attempts := make(chan Progress, 3)
	sink.attempted = func() { attempts <- l.Progress() }
	ended := make(chan error, 1)
	go func() { ended <- l.Run(context.Background()) }()
	appendEvent(t, s, "e-1", time.Now())
	if p := <-attempts; !p.Failing.IsZero() || p.Oldest.IsZero() {
		t.Errorf("at the first attempt: %+v", p)
	}
	if p := <-attempts; p.Failing.IsZero() || p.Failures != 1 || p.Oldest.IsZero() || p.Batches != 0 {
		t.Errorf("at the second attempt: %+v", p)
	}
	<-sink.landed
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	p := l.Progress()
	if !p.Failing.IsZero() || !p.Oldest.IsZero() || p.Last.IsZero() || p.Failures != 2 || p.Batches != 1 || p.Rows != 2 {
		t.Errorf("at the end: %+v", p)
	}
}

// TestLandedOnlyReads: to look where landing is must not disturb it.
func TestLandedOnlyReads(t *testing.T) {
	dir := t.TempDir()
	sink := ParquetSink{Dir: dir}
	if err := sink.Land(t.Context(), Batch{SpoolID: "a", First: 1, Last: 5, Day: time.Now()}); err != nil {
		t.Fatal(err)
	}
	unfinished := filepath.Join(sink.aside(), "x")
	if err := os.MkdirAll(unfinished, 0o700); err != nil {
		t.Fatal(err)
	}
	if next, err := sink.Landed("a"); next != 5 || err != nil {
		t.Errorf("%d %v", next, err)
	}
	if _, err := os.Stat(unfinished); err != nil {
		t.Error(err)
	}
	if next, _, err := sink.Position(t.Context(), "a"); next != 5 || err != nil {
		t.Errorf("%d %v", next, err)
	}
	if _, err := os.Stat(unfinished); err == nil {
		t.Error("what a crash left is still there")
	}
}
