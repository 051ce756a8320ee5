// Package tracing sends OpenTelemetry spans of what the program does to a collector
// of traces, by OTLP over HTTP, if the environment asks for it. It alone imports the
// SDK.
//
// There is no global provider: a span is of the provider of the span above it, so
// that all begins with [Sender.Root]. Libraries of others, which would put URLs and
// queries into spans, find none.
package tracing

import (
	"context"
	"log/slog"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// Environment is what a command that sends spans says of the variables.
const Environment = `OpenTelemetry spans are sent by OTLP over HTTP if OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT
is set, or OTEL_TRACES_EXPORTER is otlp; OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER and the other
variables of the OpenTelemetry SDK count, and OTEL_TRACES_EXPORTER=none or OTEL_SDK_DISABLED=true ends it.`

// scope names this program's own spans to those who look at them.
const scope = "github.com/sluis-cdp/sluis/cmd/sluis"

// Sender sends spans in the background. What cannot be sent is lost: nothing waits
// for it but Close, and that not for long. A nil Sender sends nothing.
type Sender struct {
	provider *sdktrace.TracerProvider
	logger   *slog.Logger
	patience time.Duration // of Close
}

// Open returns a Sender if the environment asks for traces; nil if not, or if what it
// asks for is not to be had, which is logged. The version is the program's, or empty.
func Open(ctx context.Context, version string, logger *slog.Logger) *Sender {
	wanted, problem := asked(os.Getenv)
	if problem != "" {
		logger.WarnContext(ctx, "no traces are sent", "because", problem)
	}
	if !wanted {
		return nil
	}
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		logger.WarnContext(ctx, "no traces are sent", "because", words(err))
		return nil
	}
	return &Sender{
		provider: sdktrace.NewTracerProvider(
			sdktrace.WithBatcher(&told{SpanExporter: exporter, logger: logger}),
			sdktrace.WithResource(describe(ctx, version)),
			sdktrace.WithoutPanicRecording(), // a panic may say what was being sent
		),
		logger: logger, patience: 5 * time.Second,
	}
}

// asked reads whether traces are wanted, and if they cannot be had, why. No value is
// repeated: the URL may hold a password.
func asked(env func(string) string) (wanted bool, problem string) {
	// As the specification has it: exporters are a list, and "true" is any case of it.
	exporters := strings.FieldsFunc(env("OTEL_TRACES_EXPORTER"), func(r rune) bool { return r == ',' || r == ' ' })
	name, endpoint := "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
	if endpoint == "" {
		name, endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT", env("OTEL_EXPORTER_OTLP_ENDPOINT")
	}
	protocol := env("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
	if protocol == "" {
		protocol = env("OTEL_EXPORTER_OTLP_PROTOCOL")
	}
	at, err := url.Parse(endpoint)
	switch {
	case strings.EqualFold(env("OTEL_SDK_DISABLED"), "true"), slices.Contains(exporters, "none"), endpoint == "" && len(exporters) == 0:
		return false, ""
	case len(exporters) > 0 && !slices.Contains(exporters, "otlp"):
		return false, "OTEL_TRACES_EXPORTER has to be otlp or none"
	case protocol != "" && protocol != "http/protobuf" && protocol != "http/json":
		return false, "OTEL_EXPORTER_OTLP_PROTOCOL has to be http/protobuf or http/json"
	case endpoint != "" && (err != nil || at.Scheme != "http" && at.Scheme != "https" || at.Host == ""):
		return false, name + " has to be a URL of http or https, such as http://127.0.0.1:4318"
	}
	return true, ""
}

// describe is what all spans say of the program. The environment has the last word;
// the command line, which may name a person, is not in it.
func describe(ctx context.Context, version string) *resource.Resource {
	attributes := []attribute.KeyValue{attribute.String("service.name", "sluis")}
	if version != "" {
		attributes = append(attributes, attribute.String("service.version", version))
	}
	// What cannot be read of the environment is left out.
	described, _ := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(attributes...), resource.WithFromEnv())
	return described
}

// Root begins a trace.
func (s *Sender) Root(ctx context.Context, name string) (context.Context, trace.Span) {
	if s == nil {
		return ctx, noop.Span{}
	}
	return s.provider.Tracer(scope).Start(ctx, name, trace.WithNewRoot())
}

// Close sends what is left, and gives up soon if that does not work.
func (s *Sender) Close() {
	if s == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.patience)
	defer cancel()
	if err := s.provider.Shutdown(ctx); err != nil {
		s.logger.WarnContext(ctx, "the last traces were not sent in time, and are lost")
	}
}

// Begin begins a span below the one that ctx has; if it has none, none is made.
func Begin(ctx context.Context, name string, options ...trace.SpanStartOption) (context.Context, trace.Span) {
	return trace.SpanFromContext(ctx).TracerProvider().Tracer(scope).Start(ctx, name, options...)
}

// End ends a span, as failed if there is a class of error: a word of this program's,
// and nothing that an error says.
func End(span trace.Span, class string, options ...trace.SpanEndOption) {
	if class != "" {
		span.SetStatus(codes.Error, class)
		span.SetAttributes(attribute.String("error.type", class))
	}
	span.End(options...)
}

// told is an exporter whose failure is told once, until it works again.
type told struct {
	sdktrace.SpanExporter
	logger  *slog.Logger
	failing atomic.Bool
}

// ExportSpans implements [sdktrace.SpanExporter]. It never fails, since the SDK would
// tell of each failure.
func (e *told) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	failed := e.failing.Swap(err != nil)
	switch {
	case err != nil && !failed:
		e.logger.WarnContext(ctx, "traces cannot be sent and are lost, until it works again", "error", words(err))
	case err == nil && failed:
		e.logger.InfoContext(ctx, "traces are sent again")
	}
	return nil
}

// maxWords is how many characters of an error are logged.
const maxWords = 300

// address is that of a collector. Its path may hold a secret.
var address = regexp.MustCompile(`https?://[^\s"]+`)

// words are what an error says, without the collector's address, and not at length: a
// collector may answer with a page.
func words(err error) string {
	said := []rune(strings.ToValidUTF8(address.ReplaceAllString(err.Error(), "the collector"), ""))
	if len(said) > maxWords {
		return string(said[:maxWords]) + "…"
	}
	return string(said)
}
