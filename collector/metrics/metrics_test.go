package metrics

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/collector/spool"
	"github.com/sluis-cdp/sluis/consent/seal"
)

func newTest() *Metrics {
	return New(Sources{
		Spool: func() spool.Stats {
			return spool.Stats{Bytes: 1, MaxBytes: 2, Free: 3, Records: 4, Segments: 5, Damaged: 6, Lost: 7, Failing: true}
		},
		Landing: func() collector.Progress {
			return collector.Progress{Batches: 8, Rows: 9, Failures: 10, Failing: time.Now(), Oldest: time.Now().Add(-time.Hour), Last: time.UnixMilli(1500)}
		},
		Pseudonyms: func() seal.CacheStats { return seal.CacheStats{Hits: 11, Misses: 12, Entries: 13} },
		Ready:      func() map[string]bool { return map[string]bool{"sink": false, "spool": true} },
		Missed:     func() int64 { return 14 },
	})
}

// exposed is what Prometheus reads.
func exposed(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func wantLines(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("there is no line %q", line)
		}
	}
}

// TestAsked: what is asked at each scrape is what it says it is.
func TestAsked(t *testing.T) {
	text := exposed(t, newTest())
	wantLines(t, text,
		"sluis_spool_bytes 1", "sluis_spool_max_bytes 2", "sluis_spool_free_bytes 3", "sluis_spool_records 4", "sluis_spool_segments 5",
		"sluis_spool_damaged_segments 6", "sluis_spool_lost_records_total 7", "sluis_spool_failing 1",
		"sluis_landing_batches_total 8", "sluis_landing_rows_total 9", "sluis_landing_failures_total 10", "sluis_landing_failing 1",
		"sluis_landing_last_success_timestamp_seconds 1.5",
		`sluis_pseudonym_cache_lookups_total{result="hit"} 11`, `sluis_pseudonym_cache_lookups_total{result="miss"} 12`, "sluis_pseudonym_cache_entries 13",
		`sluis_ready{check="sink"} 0`, `sluis_ready{check="spool"} 1`, "sluis_tail_missed_total 14",
		`sluis_config_reloads_total{outcome="failed"} 0`,
	)
	if !strings.Contains(text, "sluis_landing_lag_seconds 3600") || !strings.Contains(text, "go_goroutines") {
		t.Errorf("the lag or the runtime is missing in\n%s", text)
	}
}

// TestNames holds the metrics to Prometheus' own rules.
func TestNames(t *testing.T) {
	m := newTest()
	m.Accepted(accepted("web", "landed", "", 1))
	problems, err := testutil.GatherAndLint(m.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "sluis_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

func accepted(source, outcome, reason string, n int64) collector.Accepted {
	return collector.Accepted{Source: source, Rows: &collector.Rows{Ledger: []collector.LedgerRow{
		{SourceID: source, Outcome: "received", N: n}, {SourceID: source, Outcome: outcome, Reason: reason, N: n},
	}}}
}

// TestEvents: counted as in the ledger, with a bound for reasons.
func TestEvents(t *testing.T) {
	m := newTest()
	m.Accepted(accepted("web", "landed", "", 20))
	m.Accepted(accepted("web", "landed", "", 3))
	m.Accepted(accepted("app", "withheld", "analytics denied by gpc", 1))
	wantLines(t, exposed(t, m),
		`sluis_events_total{outcome="landed",reason="",source="web"} 23`,
		`sluis_events_total{outcome="received",reason="",source="web"} 23`,
		`sluis_events_total{outcome="withheld",reason="analytics denied by gpc",source="app"} 1`,
	)
	for n := range 3 * maxReasons {
		m.Accepted(accepted("web", "quarantined", fmt.Sprintf("reason %d", n), 1))
	}
	if n := testutil.CollectAndCount(m.events); n > maxReasons+4 {
		t.Errorf("there are %d series", n)
	}
	text := exposed(t, m)
	wantLines(t, text, `sluis_events_total{outcome="quarantined",reason="reason 0",source="web"} 1`)
	if !strings.Contains(text, `reason="other"`) {
		t.Error("what is too much is not counted")
	}
}

// TestRequests: by the pattern that took them, never by their path.
func TestRequests(t *testing.T) {
	m := newTest()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/{call}", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	mux.HandleFunc("GET /ok", func(http.ResponseWriter, *http.Request) {})
	rest := http.NewServeMux()
	rest.Handle("/v1/", mux)
	rest.Handle("GET /ok", mux)
	rest.Handle("/", http.NotFoundHandler())
	handler := m.Measured(rest)
	for _, target := range []string{"POST /v1/canary", "POST /v1/canary-2", "GET /ok?canary", "GET /canary"} {
		method, path, _ := strings.Cut(target, " ")
		handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(method, path, nil))
	}
	text := exposed(t, m)
	wantLines(t, text,
		`sluis_http_requests_total{route="POST /v1/{call}",status="503"} 2`, `sluis_http_requests_total{route="GET /ok",status="200"} 1`,
		`sluis_http_requests_total{route="other",status="404"} 1`, `sluis_http_request_duration_seconds_count{route="GET /ok"} 1`,
		"sluis_http_requests_in_flight 0",
	)
	if strings.Contains(text, "canary") {
		t.Error("a path became a label")
	}
}

type fakeSpool struct{ err error }

func (s fakeSpool) Append(context.Context, []byte) (uint64, error) { return 7, s.err }

func TestAppends(t *testing.T) {
	m := newTest()
	for err, label := range map[error]string{
		nil: "", fmt.Errorf("x: %w", spool.ErrFull): "full", spool.ErrTooLarge: "too_large", spool.ErrClosed: "closed",
		context.Canceled: "client_gone", errors.New("canary"): "write_failed",
	} {
		if seq, got := m.Spool(fakeSpool{err}).Append(t.Context(), nil); seq != 7 || !errors.Is(got, err) {
			t.Errorf("%d %v", seq, got)
		}
		if label != "" {
			wantLines(t, exposed(t, m), fmt.Sprintf(`sluis_spool_append_errors_total{reason=%q} 1`, label))
		}
	}
	wantLines(t, exposed(t, m), "sluis_spool_append_duration_seconds_count 1")
	if strings.Contains(exposed(t, m), "canary") {
		t.Error("an error became a label")
	}
}
