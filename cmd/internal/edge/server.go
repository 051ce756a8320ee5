package edge

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/sluis-cdp/sluis/collector"
)

// newServer is the server of events.
func (e *Edge) newServer() *http.Server {
	s := &http.Server{
		Handler:  e.metrics.Measured(e.recovered(e.public())),
		ErrorLog: slog.NewLogLogger(errorLog{e.logger.Handler()}, slog.LevelWarn),
	}
	e.workspace.Load().Limits.Server().Apply(s)
	if e.encrypted = e.certificate.Load() != nil; e.encrypted {
		s.TLSConfig = &tls.Config{
			MinVersion:     tls.VersionTLS12,
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return e.certificate.Load(), nil },
		}
	}
	return s
}

// public is all that the public may reach. The collector behind it changes when
// the configuration does; a request stays with the one that it began with.
func (e *Edge) public() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", e.health.serveLive)
	mux.HandleFunc("GET /readyz", e.health.serveReady(true))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if e.health.draining.Load() {
			w.Header().Set("Connection", "close") // the next request had better go elsewhere
		}
		(*e.handler.Load()).ServeHTTP(w, r)
	})
	return collector.CleanPath(mux)
}

// recovered answers 503 where a fault of the program ends a request, so that
// clients try again. The log has where it was, and not the value, which could
// be of the event.
func (e *Edge) recovered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			fault := recover()
			if fault == nil {
				return
			}
			if fault == http.ErrAbortHandler {
				panic(fault)
			}
			what := fmt.Sprintf("%T", fault)
			if err, ok := fault.(runtime.Error); ok {
				what = err.Error()
			}
			e.metrics.Panicked()
			e.logger.Error("a request met a fault of the program; please report it", "fault", what, "stack", string(debug.Stack()))
			w.Header().Set("Retry-After", "2")
			answer(w, http.StatusServiceUnavailable, map[string]any{"success": false, "code": "fault", "message": "the collector met a fault of its own"})
		}()
		next.ServeHTTP(w, r)
	})
}

// errorLog is the log of net/http, without the addresses of clients; and that a
// handshake failed is of interest only to who looks for it.
type errorLog struct{ slog.Handler }

// Handle implements slog.Handler.
func (l errorLog) Handle(ctx context.Context, r slog.Record) error {
	r.Message = withoutAddresses(r.Message)
	if strings.Contains(r.Message, "TLS handshake error") {
		r.Level = slog.LevelDebug
	}
	if !l.Enabled(ctx, r.Level) {
		return nil
	}
	return l.Handler.Handle(ctx, r)
}

func withoutAddresses(text string) string {
	words := strings.Split(text, " ")
	for i, word := range words {
		bare := strings.TrimRight(word, ":,;")
		if isAddress(bare) {
			words[i] = "a client" + word[len(bare):]
		}
	}
	return strings.Join(words, " ")
}

func isAddress(text string) bool {
	if _, err := netip.ParseAddrPort(text); err == nil {
		return true
	}
	_, err := netip.ParseAddr(text)
	return err == nil
}
