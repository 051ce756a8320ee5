package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Syncs are the metrics of syncs that a scheduler runs. Labels are the names of
// syncs, and what becomes of runs and rows. All methods may be called concurrently.
type Syncs struct {
	runs      *prometheus.CounterVec
	rows      *prometheus.CounterVec
	durations *prometheus.HistogramVec
	done      *prometheus.GaugeVec
	guarded   *prometheus.GaugeVec
	standing  *prometheus.GaugeVec
	turns     *prometheus.CounterVec
	waited    *prometheus.CounterVec
}

// SyncRun is what came of one run of a sync.
type SyncRun struct {
	Sync, Status string // the status is failed if the run did not come to its end
	Rows         map[string]int64
	Took         time.Duration
	Done         time.Time // when it began, if it came to its end and was more than a removal of those who withdrew
	Guarded      int64     // removals that a guard holds back
}

// NewSyncs makes the metrics of syncs.
func NewSyncs() *Syncs {
	return &Syncs{
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluis_sync_runs_total", Help: "Runs of syncs by how they ended; idle ones had nothing to do.",
		}, []string{"sync", "status"}),
		rows: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluis_sync_rows_total", Help: "Rows of runs by what became of them.",
		}, []string{"sync", "outcome"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "sluis_sync_run_duration_seconds", Help: "How long runs took that had something to do.",
			Buckets: prometheus.ExponentialBuckets(.1, 4, 9),
		}, []string{"sync"}),
		done: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "sluis_sync_last_success_timestamp_seconds", Help: "When the last run began that came to its end. What time() has more is the lag.",
		}, []string{"sync"}),
		guarded: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "sluis_sync_guarded_removals", Help: "Removals that a guard holds back, by the last run.",
		}, []string{"sync"}),
		standing: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "sluis_sync_state_rows", Help: "Rows of syncs by their state: present at the destination, rejected, failed.",
		}, []string{"sync", "state"}),
		turns: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluis_sync_requests_total", Help: "Requests of destinations that wait for their turns: went, or late if their turn would have come too late for their batch.",
		}, []string{"sync", "turn"}),
		waited: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluis_sync_requests_waited_seconds_total", Help: "How long requests waited for the limits of their accounts.",
		}, []string{"sync"}),
	}
}

func (s *Syncs) collectors() []prometheus.Collector {
	return []prometheus.Collector{s.runs, s.rows, s.durations, s.done, s.guarded, s.standing, s.turns, s.waited}
}

// Ran counts a run.
func (s *Syncs) Ran(r SyncRun) {
	s.runs.WithLabelValues(r.Sync, r.Status).Inc()
	for outcome, n := range r.Rows {
		s.rows.WithLabelValues(r.Sync, outcome).Add(float64(n))
	}
	if r.Took > 0 {
		s.durations.WithLabelValues(r.Sync).Observe(r.Took.Seconds())
	}
	if !r.Done.IsZero() {
		s.guarded.WithLabelValues(r.Sync).Set(float64(r.Guarded))
	}
	s.Succeeded(r.Sync, r.Done)
}

// Succeeded tells when the last run of a sync began that came to its end; the zero
// time says nothing.
func (s *Syncs) Succeeded(sync string, began time.Time) {
	if !began.IsZero() {
		s.done.WithLabelValues(sync).Set(float64(began.UnixMilli()) / 1000)
	}
}

// Asked counts a request that has waited for its turn, and whether it got one.
func (s *Syncs) Asked(sync string, waited time.Duration, went bool) {
	turn := "late"
	if went {
		turn = "went"
	}
	s.turns.WithLabelValues(sync, turn).Inc()
	s.waited.WithLabelValues(sync).Add(waited.Seconds())
}

// Stands tells how many rows of a sync are in which state.
func (s *Syncs) Stands(sync string, rows map[string]int64) {
	for state, n := range rows {
		s.standing.WithLabelValues(sync, state).Set(float64(n))
	}
}
