package host

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// A plugin may log logBurst lines, and logPerSecond on average. The rest is
// counted and dropped: it must not fill the host's log.
const (
	logBurst     = 200
	logPerSecond = 20
)

// newLogger passes on what go-plugin and the plugin log.
func newLogger(to *slog.Logger) hclog.Logger {
	logger := hclog.NewInterceptLogger(&hclog.LoggerOptions{Output: io.Discard, Level: hclog.Debug})
	logger.RegisterSink(&sink{to: to, tokens: logBurst, last: time.Now()})
	return logger
}

// sink is an hclog.SinkAdapter. A plugin's words are an attribute of the
// host's line and never the line itself, so they cannot pass for the host's.
type sink struct {
	to *slog.Logger

	mu       sync.Mutex
	tokens   float64
	last     time.Time
	dropped  int
	panicked bool // in the words of a panic
}

// Accept implements hclog.SinkAdapter. The fields of a line are not passed on
// but for an error: they are as many and as large as the plugin likes.
func (s *sink) Accept(_ string, level hclog.Level, message string, args ...any) {
	message, ok := s.withoutPanic(message)
	if !ok {
		return
	}
	dropped, ok := s.take()
	if !ok {
		return
	}
	attrs := []slog.Attr{slog.String("message", shorten(message, maxWords))}
	for i := 0; i+1 < len(args); i += 2 {
		if args[i] == "error" || args[i] == "err" {
			attrs = append(attrs, slog.String("error", shorten(text(args[i+1]), maxWords)))
		}
	}
	if dropped > 0 {
		attrs = append(attrs, slog.Int("dropped_lines", dropped))
	}
	s.to.LogAttrs(context.Background(), slogLevel(level), "plugin log", attrs...)
}

// withoutPanic takes out what a panic says, which may hold values and may be
// several lines. The stack, which comes after it, holds none.
func (s *sink) withoutPanic(message string) (words string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.HasPrefix(message, "panic: ") {
		s.panicked = true
		return "panic: […]", true
	}
	if strings.HasPrefix(message, "goroutine ") {
		s.panicked = false
	}
	return message, !s.panicked
}

// take asks whether a line may pass, and how many did not before it.
func (s *sink) take() (dropped int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.tokens = min(logBurst, s.tokens+now.Sub(s.last).Seconds()*logPerSecond)
	s.last = now
	if s.tokens < 1 {
		s.dropped++
		return 0, false
	}
	s.tokens--
	dropped, s.dropped = s.dropped, 0
	return dropped, true
}

func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case error:
		return v.Error()
	default:
		return ""
	}
}

func slogLevel(level hclog.Level) slog.Level {
	switch level {
	case hclog.NoLevel, hclog.Trace, hclog.Debug, hclog.Off:
		return slog.LevelDebug
	case hclog.Info:
		return slog.LevelInfo
	case hclog.Warn:
		return slog.LevelWarn
	case hclog.Error:
		return slog.LevelError
	}
	return slog.LevelDebug
}
