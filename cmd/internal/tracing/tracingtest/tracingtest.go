// Package tracingtest gives tests a collector of traces, which listens for OTLP over
// HTTP and keeps what it gets.
package tracingtest

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Collector is a running collector.
type Collector struct {
	URL string

	mu       sync.Mutex
	bodies   [][]byte
	spans    []*tracepb.Span
	resource map[string]string
}

// Start starts a collector, which ends with the test.
func Start(t testing.TB) *Collector {
	t.Helper()
	c := &Collector{resource: map[string]string{}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := c.take(r); err != nil {
			t.Error(err)
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	}))
	t.Cleanup(server.Close)
	c.URL = server.URL
	return c
}

// Environment has this process send its traces here.
func (c *Collector) Environment(t testing.TB) {
	t.Helper()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", c.URL)
}

func (c *Collector) take(r *http.Request) error {
	if r.Method != http.MethodPost || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" {
		return fmt.Errorf("%s %s with %q is no OTLP", r.Method, r.URL, r.Header.Get("Content-Type"))
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	var request coltracepb.ExportTraceServiceRequest
	if err := proto.Unmarshal(body, &request); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bodies = append(c.bodies, body)
	for _, of := range request.GetResourceSpans() {
		for _, a := range of.GetResource().GetAttributes() {
			c.resource[a.GetKey()] = text(a.GetValue())
		}
		for _, in := range of.GetScopeSpans() {
			c.spans = append(c.spans, in.GetSpans()...)
		}
	}
	return nil
}

// Bodies are the requests that came, as bytes.
func (c *Collector) Bodies() [][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.bodies)
}

// Resource is what was said of the program that sent.
func (c *Collector) Resource() map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.resource)
}

// Tree tells of all spans, each below its parent and after those that began before
// it: its name, the class of its error, and its attributes by name. Events are in
// brackets.
func (c *Collector) Tree() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	children := map[string][]*tracepb.Span{}
	known := map[string]bool{"": true}
	for _, s := range c.spans {
		known[string(s.GetSpanId())] = true
	}
	for _, s := range c.spans {
		parent := string(s.GetParentSpanId())
		if !known[parent] {
			parent = ""
		}
		children[parent] = append(children[parent], s)
	}
	var b strings.Builder
	write(&b, children, "", 0)
	return b.String()
}

func write(b *strings.Builder, children map[string][]*tracepb.Span, parent string, depth int) {
	slices.SortStableFunc(children[parent], func(a, b *tracepb.Span) int {
		return int(int64(a.GetStartTimeUnixNano()) - int64(b.GetStartTimeUnixNano()))
	})
	for _, s := range children[parent] {
		b.WriteString(strings.Repeat("  ", depth) + s.GetName())
		if s.GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR {
			b.WriteString(" error=" + s.GetStatus().GetMessage())
		}
		b.WriteString(told(s.GetAttributes()))
		for _, e := range s.GetEvents() {
			b.WriteString(" [" + e.GetName() + told(e.GetAttributes()) + "]")
		}
		b.WriteString("\n")
		write(b, children, string(s.GetSpanId()), depth+1)
	}
}

// told are attributes as text. That of the error's class is told already.
func told(attributes []*commonpb.KeyValue) string {
	var all []string
	for _, a := range attributes {
		if a.GetKey() != "error.type" {
			all = append(all, " "+strings.TrimPrefix(a.GetKey(), "sluis.")+"="+text(a.GetValue()))
		}
	}
	slices.Sort(all)
	return strings.Join(all, "")
}

func text(v *commonpb.AnyValue) string {
	switch v := v.GetValue().(type) {
	case *commonpb.AnyValue_StringValue:
		return v.StringValue
	case *commonpb.AnyValue_IntValue:
		return fmt.Sprint(v.IntValue)
	case *commonpb.AnyValue_BoolValue:
		return fmt.Sprint(v.BoolValue)
	case *commonpb.AnyValue_DoubleValue:
		return fmt.Sprint(v.DoubleValue)
	}
	return fmt.Sprintf("%T", v.GetValue())
}
