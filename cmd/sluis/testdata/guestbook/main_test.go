package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/plugins/destination/destinationtest"
)

// fake is the service in memory, with its refusals.
type fake struct {
	mu        sync.Mutex
	rows      map[string]json.RawMessage
	refused   map[string]bool
	throttled bool
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := r.PathValue("key")
	var row json.RawMessage
	switch {
	case r.Header.Get("Authorization") != "Bearer secret":
		w.WriteHeader(http.StatusUnauthorized)
	case f.throttled:
		f.throttled = false
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
	case f.refused[key]:
		w.WriteHeader(http.StatusUnprocessableEntity)
	case r.Method == http.MethodDelete:
		delete(f.rows, key)
	case json.NewDecoder(r.Body).Decode(&row) != nil:
		w.WriteHeader(http.StatusBadRequest)
	default:
		f.rows[key] = row
	}
}

// What each destination of Sluis promises.
func TestConformance(t *testing.T) {
	var outside *fake
	destinationtest.Suite{
		Open: func(t destinationtest.T) (destination.Destination, map[string]string) {
			outside = &fake{rows: map[string]json.RawMessage{}, refused: map[string]bool{}}
			mux := http.NewServeMux()
			mux.Handle("/people/{key}", outside)
			server := httptest.NewServer(mux)
			t.Cleanup(server.Close)
			return &service{}, map[string]string{"url": server.URL + "/people", "token": "secret"}
		},
		Present: func(_ destinationtest.T, key string) bool {
			outside.mu.Lock()
			defer outside.mu.Unlock()
			return outside.rows[key] != nil
		},
		Refuse: func(_ destinationtest.T, key string) {
			outside.mu.Lock()
			defer outside.mu.Unlock()
			outside.refused[key] = true
		},
		Throttle: func(destinationtest.T) {
			outside.mu.Lock()
			defer outside.mu.Unlock()
			outside.throttled = true
		},
	}.Run(t)
}
