package tracing

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel"

	"github.com/sluis-cdp/sluis/cmd/internal/tracing/tracingtest"
)

// TestAsked: traces are sent if the environment says so as the OpenTelemetry
// specification has it, and by HTTP alone.
func TestAsked(t *testing.T) {
	const at, own = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
	for name, test := range map[string]struct {
		env     map[string]string
		wanted  bool
		problem string
	}{
		"nothing is said":             {nil, false, ""},
		"a name alone":                {map[string]string{"OTEL_SERVICE_NAME": "shop"}, false, ""},
		"an endpoint":                 {map[string]string{at: "http://127.0.0.1:4318"}, true, ""},
		"an endpoint of traces":       {map[string]string{own: "https://example.com/v1/traces"}, true, ""},
		"the exporter":                {map[string]string{"OTEL_TRACES_EXPORTER": "otlp"}, true, ""},
		"no exporter":                 {map[string]string{at: "http://127.0.0.1:4318", "OTEL_TRACES_EXPORTER": "none"}, false, ""},
		"disabled":                    {map[string]string{at: "http://127.0.0.1:4318", "OTEL_SDK_DISABLED": "True"}, false, ""},
		"not disabled":                {map[string]string{at: "http://127.0.0.1:4318", "OTEL_SDK_DISABLED": "1"}, true, ""},
		"another exporter":            {map[string]string{at: "http://127.0.0.1:4318", "OTEL_TRACES_EXPORTER": "console"}, false, "OTEL_TRACES_EXPORTER"},
		"another exporter beside":     {map[string]string{"OTEL_TRACES_EXPORTER": "console, otlp"}, true, ""},
		"HTTP is said":                {map[string]string{at: "http://127.0.0.1:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, true, ""},
		"gRPC":                        {map[string]string{at: "http://127.0.0.1:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, false, "OTEL_EXPORTER_OTLP_PROTOCOL"},
		"gRPC of others alone":        {map[string]string{at: "http://127.0.0.1:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"}, true, ""},
		"an address without a scheme": {map[string]string{at: "secret-host:4318"}, false, at},
		"no URL":                      {map[string]string{own: "http://secret:%zz@x"}, false, own},
	} {
		t.Run(name, func(t *testing.T) {
			wanted, problem := asked(func(name string) string { return test.env[name] })
			if wanted != test.wanted || (problem == "") != (test.problem == "") || !strings.Contains(problem, test.problem) || strings.Contains(problem, "secret") {
				t.Errorf("wanted %t, problem %q", wanted, problem)
			}
		})
	}
}

// TestSpans sends a trace to a collector, and nothing else: no span of whoever
// takes the global provider, and nothing of a panic.
func TestSpans(t *testing.T) {
	collector := tracingtest.Start(t)
	collector.Environment(t)
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
	s := Open(t.Context(), "v1.2.3", slog.New(slog.DiscardHandler))
	ctx, root := s.Root(t.Context(), "turn")
	_, part := Begin(ctx, "part")
	End(part, "failed")
	_, foreign := otel.Tracer("somebody").Start(ctx, "foreign")
	foreign.End()
	func() {
		defer func() { _ = recover() }()
		_, panicking := Begin(ctx, "panicking")
		defer panicking.End()
		panic("a secret")
	}()
	End(root, "")
	s.Close()
	want := "turn\n  part error=failed\n  panicking\n"
	if got := collector.Tree(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	for name, value := range map[string]string{"service.name": "sluis", "service.version": "v1.2.3", "deployment.environment.name": "test"} {
		if got := collector.Resource()[name]; got != value {
			t.Errorf("%s is %q", name, got)
		}
	}
	if slices.ContainsFunc(collector.Bodies(), func(body []byte) bool { return bytes.Contains(body, []byte("secret")) }) {
		t.Error("a panic was told")
	}
}

// TestSampler: the sampler of the environment decides.
func TestSampler(t *testing.T) {
	collector := tracingtest.Start(t)
	collector.Environment(t)
	t.Setenv("OTEL_TRACES_SAMPLER", "always_off")
	s := Open(t.Context(), "", slog.New(slog.DiscardHandler))
	ctx, root := s.Root(t.Context(), "turn")
	_, part := Begin(ctx, "part")
	End(part, "")
	End(root, "")
	s.Close()
	if n := len(collector.Bodies()); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// TestNobodyAsked: without a word of the environment there is no sender and no span.
func TestNobodyAsked(t *testing.T) {
	s := Open(t.Context(), "", slog.New(slog.DiscardHandler))
	if s != nil {
		t.Error("there is a sender")
	}
	ctx, root := s.Root(t.Context(), "turn")
	_, part := Begin(ctx, "part")
	if ctx != t.Context() || root.IsRecording() || part.IsRecording() {
		t.Error("there is a span")
	}
	End(part, "failed")
	End(root, "")
	s.Close()
}

// TestFailuresAreToldOnce: a collector that refuses is told of once, without its
// address, and so is that it works again.
func TestFailuresAreToldOnce(t *testing.T) {
	refuses := true
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if refuses {
			http.Error(w, strings.Repeat("no ", 1000), http.StatusForbidden)
		}
	}))
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", collector.URL+"/secret-path")
	var log bytes.Buffer
	s := Open(t.Context(), "", slog.New(slog.NewTextHandler(&log, nil)))
	send := func() {
		_, span := s.Root(t.Context(), "turn")
		End(span, "")
		if err := s.provider.ForceFlush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	send()
	send()
	refuses = false
	send()
	send()
	s.Close()
	if n := strings.Count(log.String(), "\n"); n != 2 || !strings.Contains(log.String(), "403 Forbidden") ||
		!strings.Contains(log.String(), "sent again") || strings.Contains(log.String(), "secret-path") || log.Len() > 1000 {
		t.Errorf("the log is\n%s", log.String())
	}
}

// TestCloseGivesUp: a collector that never answers keeps the program no longer than
// a Sender has patience, and spans that are ended meanwhile wait for nothing.
func TestCloseGivesUp(t *testing.T) {
	asked, over := make(chan struct{}), make(chan struct{})
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		select {
		case <-r.Context().Done():
		case <-over:
		}
	}))
	defer collector.Close()
	defer close(over)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
	var log bytes.Buffer
	s := Open(t.Context(), "", slog.New(slog.NewTextHandler(&log, nil)))
	s.patience = 10 * time.Millisecond
	end := func() {
		_, span := s.Root(t.Context(), "turn")
		End(span, "")
	}
	end()
	<-asked
	for range 3 * 2048 { // three times what the SDK has room for
		end()
	}
	s.Close()
	if !strings.Contains(log.String(), "not sent in time") {
		t.Errorf("the log is\n%s", log.String())
	}
}

func TestWords(t *testing.T) {
	err := errors.Join(context.DeadlineExceeded, errors.New(`Post "https://user:pw@example.com/token?q=1": refused`))
	if got := words(err); strings.Contains(got, "pw") || strings.Contains(got, "token") || !strings.Contains(got, "refused") {
		t.Errorf("got %q", got)
	}
}
