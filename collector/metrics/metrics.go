// Package metrics measures a collector for Prometheus. It alone knows Prometheus:
// the collector tells it what happens as an Observer, and is otherwise wrapped
// or asked from outside.
//
// Labels are source ids, outcomes, reasons, routes and status codes: all of
// them of a bounded number, and none of them a word of the people who send.
package metrics

import (
	"context"
	"errors"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/collector/spool"
	"github.com/sluis-cdp/sluis/consent/seal"
)

// Sources are what is asked at each scrape. None of them may block.
type Sources struct {
	Spool      func() spool.Stats
	Landing    func() collector.Progress
	Pseudonyms func() seal.CacheStats
	// Ready tells for each check of the readiness whether it is passed.
	Ready func() map[string]bool
	// Missed counts events that a live tail could not take.
	Missed func() int64
	// Syncs are the metrics of syncs that run beside the collector; nil if none do.
	Syncs *Syncs
}

// Metrics are those of one collector. All methods may be called concurrently.
type Metrics struct {
	registry *prometheus.Registry
	events   *prometheus.CounterVec
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	inFlight prometheus.Gauge
	panics   prometheus.Counter
	appends  prometheus.Histogram
	refused  *prometheus.CounterVec
	reloads  *prometheus.CounterVec

	mu      sync.Mutex
	reasons map[string]struct{}
}

// maxReasons bounds the reasons that become labels, whatever a step may come to
// say. What is beyond them is counted as "other".
const maxReasons = 256

// buckets go from the time of one fsync to that of a client that gave up.
var buckets = []float64{.00025, .0005, .001, .002, .004, .008, .016, .032, .064, .128, .256, .512, 1, 2, 4, 8}

// New makes the metrics of a collector.
func New(s Sources) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		reasons:  make(map[string]struct{}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluis_events_total", Help: "Events by what became of them, as the ledger has it; outcome received is their sum.",
		}, []string{"source", "outcome", "reason"}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluis_http_requests_total", Help: "Answered requests by route and status.",
		}, []string{"route", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "sluis_http_request_duration_seconds", Help: "From the header of a request to its answer.", Buckets: buckets,
		}, []string{"route"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{Name: "sluis_http_requests_in_flight", Help: "Requests being answered."}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sluis_http_panics_total", Help: "Requests that met a fault of the program, and were answered with 503.",
		}),
		appends: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "sluis_spool_append_duration_seconds", Help: "From handing a record to the spool until it was on disk.", Buckets: buckets,
		}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluis_spool_append_errors_total", Help: "Records that the spool did not take.",
		}, []string{"reason"}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluis_config_reloads_total", Help: "Times that the configuration was read anew.",
		}, []string{"outcome"}),
	}
	for _, outcome := range []string{"done", "failed"} {
		m.reloads.WithLabelValues(outcome)
	}
	m.registry.MustRegister(
		m.events, m.requests, m.duration, m.inFlight, m.panics, m.appends, m.refused, m.reloads,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		buildInfo(), &asked{s},
	)
	if s.Syncs != nil {
		m.registry.MustRegister(s.Syncs.collectors()...)
	}
	return m
}

func buildInfo() prometheus.Collector {
	version := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		version = info.Main.Version
	}
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sluis_build_info", Help: "1, with the version of the program.", ConstLabels: prometheus.Labels{"version": version},
	}, func() float64 { return 1 })
}

// Handler serves the metrics in Prometheus' formats.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// Accepted implements collector.Observer.
func (m *Metrics) Accepted(a collector.Accepted) {
	for _, l := range a.Rows.Ledger {
		m.events.WithLabelValues(l.SourceID, l.Outcome, m.reason(l.Reason)).Add(float64(l.N))
	}
}

// reason is the label of a reason.
func (m *Metrics) reason(text string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.reasons[text]; ok {
		return text
	}
	if len(m.reasons) >= maxReasons {
		return "other"
	}
	m.reasons[strings.Clone(text)] = struct{}{}
	return text
}

// Reloaded counts a reload.
func (m *Metrics) Reloaded(err error) {
	outcome := "done"
	if err != nil {
		outcome = "failed"
	}
	m.reloads.WithLabelValues(outcome).Inc()
}

// Panicked counts a fault of the program.
func (m *Metrics) Panicked() { m.panics.Inc() }

// Measured measures the requests that a handler answers. Their route is the
// pattern of the ServeMux that took them, so that no path becomes a label.
func (m *Metrics) Measured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		m.inFlight.Inc()
		counted := &statusWriter{ResponseWriter: w}
		defer func() {
			m.inFlight.Dec()
			route := r.Pattern
			if route == "" || route == "/" { // what no route took
				route = "other"
			}
			m.requests.WithLabelValues(route, strconv.Itoa(counted.code())).Inc()
			m.duration.WithLabelValues(route).Observe(time.Since(began).Seconds())
		}()
		next.ServeHTTP(counted, r)
	})
}

// statusWriter remembers the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *statusWriter) code() int {
	if w.status == 0 {
		return http.StatusOK
	}
	return w.status
}

// Spool measures the appends to a spool.
func (m *Metrics) Spool(s collector.Spool) collector.Spool { return measuredSpool{s, m} }

type measuredSpool struct {
	collector.Spool
	m *Metrics
}

func (s measuredSpool) Append(ctx context.Context, record []byte) (uint64, error) {
	began := time.Now()
	seq, err := s.Spool.Append(ctx, record)
	if err != nil {
		s.m.refused.WithLabelValues(refusal(err)).Inc()
		return seq, err
	}
	s.m.appends.Observe(time.Since(began).Seconds())
	return seq, nil
}

func refusal(err error) string {
	switch {
	case errors.Is(err, spool.ErrFull):
		return "full"
	case errors.Is(err, spool.ErrTooLarge):
		return "too_large"
	case errors.Is(err, spool.ErrClosed):
		return "closed"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "client_gone"
	default:
		return "write_failed"
	}
}
