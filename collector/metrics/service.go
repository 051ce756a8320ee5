package metrics

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Service are the metrics of a pseudonym service. Labels are the names of
// collectors, as certificates have them, and reasons. All methods may be called
// concurrently.
type Service struct {
	registry *prometheus.Registry
	elements *prometheus.CounterVec
	refused  *prometheus.CounterVec
	duration prometheus.Histogram
}

// NewService makes the metrics of a pseudonym service that has some versions of
// its key.
func NewService(versions int) *Service {
	s := &Service{
		registry: prometheus.NewRegistry(),
		elements: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluis_pseudonym_elements_total", Help: "Blinded elements that were evaluated, by collector.",
		}, []string{"collector"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluis_pseudonym_refused_total", Help: "Requests that were refused, by collector and reason; rate and quota are what to be alarmed of.",
		}, []string{"collector", "reason"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "sluis_pseudonym_request_duration_seconds", Help: "From the header of a request to its answer.", Buckets: buckets,
		}),
	}
	s.registry.MustRegister(
		s.elements, s.refused, s.duration,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sluis_pseudonym_key_versions", Help: "Versions of the key that are held."},
			func() float64 { return float64(versions) }),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), buildInfo(),
	)
	return s
}

// Evaluated counts elements that a collector had evaluated.
func (s *Service) Evaluated(collector string, elements int, took time.Duration) {
	s.elements.WithLabelValues(collector).Add(float64(elements))
	s.duration.Observe(took.Seconds())
}

// Refused counts a request that was refused; the collector is empty if it is not
// known.
func (s *Service) Refused(collector string, _ int, reason string) {
	s.refused.WithLabelValues(collector, reason).Inc()
}

// Handler serves the metrics in Prometheus' formats.
func (s *Service) Handler() http.Handler {
	return promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{})
}
