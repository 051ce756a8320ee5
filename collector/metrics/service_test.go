package metrics

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func TestService(t *testing.T) {
	s := NewService(2)
	s.Evaluated("shop-1", 3, time.Millisecond)
	s.Evaluated("shop-1", 4, time.Millisecond)
	s.Refused("shop-2", 5, "rate")
	s.Refused("", 0, "unknown_collector")
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	wantLines(t, w.Body.String(),
		`sluis_pseudonym_elements_total{collector="shop-1"} 7`,
		`sluis_pseudonym_refused_total{collector="shop-2",reason="rate"} 1`,
		`sluis_pseudonym_refused_total{collector="",reason="unknown_collector"} 1`,
		`sluis_pseudonym_request_duration_seconds_count 2`,
		`sluis_pseudonym_key_versions 2`,
	)
}
