package remote

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/sluis-cdp/sluis/consent/seal"
)

// Reason is why the service refused a request. It has nothing of the request.
type Reason string

// The reasons.
const (
	Unknown  Reason = "unknown_collector"
	Rate     Reason = "rate"
	Quota    Reason = "quota"
	Busy     Reason = "busy"
	Invalid  Reason = "invalid"
	NoKey    Reason = "no_such_version"
	Failed   Reason = "failed"
	TooLarge Reason = "too_large"
)

var statuses = map[Reason]int{
	Unknown: http.StatusForbidden, Rate: http.StatusTooManyRequests, Quota: http.StatusTooManyRequests, Busy: http.StatusServiceUnavailable,
	Invalid: http.StatusBadRequest, NoKey: http.StatusNotFound, Failed: http.StatusInternalServerError, TooLarge: http.StatusRequestEntityTooLarge,
}

// Observer is told what the service does. Its methods may be called
// concurrently, and must not block.
type Observer interface {
	Evaluated(collector string, elements int, took time.Duration)
	Refused(collector string, elements int, reason string)
}

// ServerConfig is what a Server is made of. Keys are required.
type ServerConfig struct {
	Keys   *seal.KeyHolder
	Limits Limits
	// Collectors are the names that may ask; none means whoever has a certificate.
	Collectors []string
	Observer   Observer // nil if nobody asks
	Logger     *slog.Logger
	Now        func() time.Time
}

// Server answers collectors. It never sees an identifier, and neither logs nor
// counts anything of what it is sent but its size.
type Server struct {
	ServerConfig
	limiter *limiter
	working chan struct{}
}

// maxWorking is how many requests are evaluated at once; each keeps a processor
// busy.
const maxWorking = 64

// NewServer makes a Server.
func NewServer(c ServerConfig) *Server {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Server{ServerConfig: c, limiter: newLimiter(c.Limits), working: make(chan struct{}, maxWorking)}
}

// HTTP is the server that Handler runs in, but for its address and TLS.
func (s *Server) HTTP() *http.Server {
	return &http.Server{
		Handler: s.Handler(), MaxHeaderBytes: 16 << 10,
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		ErrorLog: slog.NewLogLogger(s.Logger.Handler(), slog.LevelDebug),
	}
}

// Handler serves collectors over mutual TLS, and nobody else.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+path, s.serve)
	return mux
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	collector := nameOf(r.TLS)
	if collector == "" || len(s.Collectors) > 0 && !slices.Contains(s.Collectors, collector) {
		s.refuse(w, "", 0, Unknown, 0) // whose name could be anything
		return
	}
	began := s.Now()
	version, proof, elements, why := read(w, r)
	if why != "" {
		s.refuse(w, collector, len(elements), why, 0)
		return
	}
	if why, wait := s.limiter.take(collector, len(elements), began); why != "" {
		s.refuse(w, collector, len(elements), why, wait)
		return
	}
	select {
	case s.working <- struct{}{}:
		defer func() { <-s.working }()
	default:
		s.refuse(w, collector, len(elements), Busy, time.Second)
		return
	}
	answer, why := s.evaluate(r.Context(), version, elements, proof)
	if why != "" {
		s.refuse(w, collector, len(elements), why, 0)
		return
	}
	w.Header().Set("Content-Type", contentType)
	for _, element := range append(answer.Elements, answer.Proof) {
		if _, err := w.Write(element); err != nil {
			return // the collector is gone
		}
	}
	if s.Observer != nil {
		s.Observer.Evaluated(collector, len(elements), s.Now().Sub(began))
	}
}

func (s *Server) evaluate(ctx context.Context, version int, elements [][]byte, proof bool) (seal.Evaluation, Reason) {
	answer, err := s.Keys.Evaluate(ctx, version, elements, proof)
	switch {
	case err == nil:
		return answer, ""
	case errors.Is(err, seal.ErrNoVersion):
		return answer, NoKey
	case errors.Is(err, seal.ErrBadElement):
		return answer, Invalid
	default:
		return answer, Failed
	}
}

// read reads a request; why says what is wrong with it.
func read(w http.ResponseWriter, r *http.Request) (version int, proof bool, elements [][]byte, why Reason) {
	query := r.URL.Query()
	version, err := strconv.Atoi(query.Get("version"))
	if err != nil {
		return 0, false, nil, Invalid
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, seal.MaxElements*seal.ElementSize))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return 0, false, nil, TooLarge
	case err != nil:
		return 0, false, nil, Invalid
	}
	if elements = split(body); elements == nil {
		return 0, false, nil, Invalid
	}
	return version, query.Get("proof") == "1", elements, ""
}

// refuse answers without a word of the request. That a collector asks for more
// than it may is what somebody should hear of: it may be guessing.
func (s *Server) refuse(w http.ResponseWriter, collector string, elements int, why Reason, wait time.Duration) {
	if wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(wait.Seconds())))))
	}
	http.Error(w, string(why), statuses[why])
	if s.Observer != nil {
		s.Observer.Refused(collector, elements, string(why))
	}
	if (why == Rate || why == Quota) && s.limiter.alarm(collector, s.Now()) {
		s.Logger.Warn("a collector asks for more pseudonyms than it may: look whether it is guessing; if not, raise its limit",
			"collector", collector, "limit", string(why), "elements", elements)
	}
}
