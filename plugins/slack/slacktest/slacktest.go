// Package slacktest is a local server with Slack's interface for incoming
// webhooks: it checks messages as Slack does, answers with its words, keeps its
// pace, and can be told to fail.
package slacktest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"time"
)

// MaxText is where Slack cuts a message, in bytes here.
const MaxText = 40_000

// Server is a running server. Its methods may be called concurrently.
type Server struct {
	URL string // of the webhook

	// Pace is how much time there must be between messages; set it before the
	// first.
	Pace time.Duration

	server   *httptest.Server
	mu       sync.Mutex
	messages []string
	bodies   []json.RawMessage
	faults   []Fault
	last     time.Time
	limited  int
}

// Fault is how the server answers one request.
type Fault struct {
	Status int
	Body   string
	Header map[string]string
	Posted bool // the message is posted, and only the answer is this
	Hangup bool // there is no answer at all
}

const path = "/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX"

// New starts a server. Close it.
func New() *Server {
	s := &Server{}
	s.server = httptest.NewServer(s)
	s.URL = s.server.URL + path
	return s
}

// Close ends the server.
func (s *Server) Close() { s.server.Close() }

// Fail has the next requests answered with faults, one each.
func (s *Server) Fail(faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, faults...)
}

// Messages are the texts that were posted, in order.
func (s *Server) Messages() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.messages)
}

// RateLimited is how many messages came too early.
func (s *Server) RateLimited() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.limited
}

// Bodies are the bodies of all requests, in order.
func (s *Server) Bodies() []json.RawMessage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.bodies)
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bodies = append(s.bodies, body)
	if len(s.faults) > 0 {
		fault := s.faults[0]
		s.faults = s.faults[1:]
		if fault.Posted {
			s.post(r, body)
		}
		if fault.Hangup {
			panic(http.ErrAbortHandler)
		}
		for name, value := range fault.Header {
			w.Header().Set(name, value)
		}
		w.WriteHeader(fault.Status)
		fmt.Fprint(w, fault.Body)
		return
	}
	if time.Since(s.last) < s.Pace {
		s.limited++
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
		fmt.Fprint(w, "rate_limited")
		return
	}
	s.last = time.Now()
	status, word := s.post(r, body)
	w.WriteHeader(status)
	fmt.Fprint(w, word)
}

func (s *Server) post(r *http.Request, body []byte) (int, string) {
	var message struct {
		Text string `json:"text"`
	}
	switch {
	case r.URL.Path != path || r.Method != http.MethodPost:
		return http.StatusNotFound, "no_service"
	case r.Header.Get("Content-Type") != "application/json" || json.Unmarshal(body, &message) != nil:
		return http.StatusBadRequest, "invalid_payload"
	case message.Text == "":
		return http.StatusBadRequest, "no_text"
	}
	text := message.Text
	if len(text) > MaxText {
		text = text[:MaxText]
	}
	s.messages = append(s.messages, text)
	return http.StatusOK, "ok"
}
