package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// asked are the metrics that are read at each scrape from what keeps them anyway.
type asked struct{ Sources }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	spoolBytes    = desc("sluis_spool_bytes", "Size of all files of the spool, preallocated space included.")
	spoolMax      = desc("sluis_spool_max_bytes", "The bound of sluis_spool_bytes.")
	spoolFree     = desc("sluis_spool_free_bytes", "Records that still fit before events are refused.")
	spoolRecords  = desc("sluis_spool_records", "Records that wait to be landed.")
	spoolSegments = desc("sluis_spool_segments", "Files of the log.")
	spoolDamaged  = desc("sluis_spool_damaged_segments", "Files found damaged, those set aside included.")
	spoolLost     = desc("sluis_spool_lost_records_total", "Acknowledged records that could not be read.")
	spoolFailing  = desc("sluis_spool_failing", "1 if the last attempt to write failed.")

	landingBatches  = desc("sluis_landing_batches_total", "Batches landed.")
	landingRows     = desc("sluis_landing_rows_total", "Rows landed, of all tables.")
	landingFailures = desc("sluis_landing_failures_total", "Attempts to land a batch that failed.")
	landingFailing  = desc("sluis_landing_failing", "1 if the last attempt to land failed.")
	landingLag      = desc("sluis_landing_lag_seconds", "Age of the oldest record that waits to be landed; 0 if none does.")
	landingLast     = desc("sluis_landing_last_success_timestamp_seconds", "When a batch landed; 0 if none has.")

	pseudonymLookups = desc("sluis_pseudonym_cache_lookups_total", "Pseudonyms by whether the cache had them.", "result")
	pseudonymEntries = desc("sluis_pseudonym_cache_entries", "Pseudonyms in the cache.")

	readyChecks = desc("sluis_ready", "1 for each check of /readyz that is passed.", "check")
	tailMissed  = desc("sluis_tail_missed_total", "Events that a live tail was too slow to be shown.")
)

// Describe implements prometheus.Collector.
func (*asked) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		spoolBytes, spoolMax, spoolFree, spoolRecords, spoolSegments, spoolDamaged, spoolLost, spoolFailing,
		landingBatches, landingRows, landingFailures, landingFailing, landingLag, landingLast,
		pseudonymLookups, pseudonymEntries, readyChecks, tailMissed,
	} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (a *asked) Collect(to chan<- prometheus.Metric) {
	send := func(d *prometheus.Desc, typ prometheus.ValueType, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, typ, value, labels...)
	}
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		send(d, prometheus.GaugeValue, value, labels...)
	}
	counter := func(d *prometheus.Desc, value int64, labels ...string) {
		send(d, prometheus.CounterValue, float64(value), labels...)
	}
	s := a.Spool()
	gauge(spoolBytes, float64(s.Bytes))
	gauge(spoolMax, float64(s.MaxBytes))
	gauge(spoolFree, float64(s.Free))
	gauge(spoolRecords, float64(s.Records))
	gauge(spoolSegments, float64(s.Segments))
	gauge(spoolDamaged, float64(s.Damaged))
	counter(spoolLost, int64(s.Lost))
	gauge(spoolFailing, boolean(s.Failing))

	p := a.Landing()
	counter(landingBatches, p.Batches)
	counter(landingRows, p.Rows)
	counter(landingFailures, p.Failures)
	gauge(landingFailing, boolean(!p.Failing.IsZero()))
	lag, last := 0.0, 0.0
	if !p.Oldest.IsZero() {
		lag = max(time.Since(p.Oldest).Seconds(), 0)
	}
	if !p.Last.IsZero() {
		last = float64(p.Last.UnixMilli()) / 1000
	}
	gauge(landingLag, lag)
	gauge(landingLast, last)

	c := a.Pseudonyms()
	counter(pseudonymLookups, c.Hits, "hit")
	counter(pseudonymLookups, c.Misses, "miss")
	gauge(pseudonymEntries, float64(c.Entries))

	for check, passed := range a.Ready() {
		gauge(readyChecks, boolean(passed), check)
	}
	counter(tailMissed, a.Missed())
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
