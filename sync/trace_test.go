package syncer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/sluis-cdp/sluis/plugins/destination"
	syncer "github.com/sluis-cdp/sluis/sync"
)

// TestSpans: which spans a call of a Syncer has, how they end, and that they repeat
// neither a key nor what a destination or an error says. The tree of a run that goes
// well, with all attributes, is in TestTraces of the program.
func TestSpans(t *testing.T) {
	const words = "k1 of gold is not welcome"
	for name, test := range map[string]struct {
		prepare func(*world)
		want    string
	}{
		"nothing to do": {
			func(w *world) { w.setModel() },
			`sync run (idle)
  plan
`,
		},
		"some rows refused": {
			func(w *world) {
				w.target.answer = func(batch destination.Batch, apply func(destination.Change)) ([]destination.Result, error) {
					results, err := deliverAll(batch, apply)
					results[0] = destination.Result{Outcome: destination.Rejected, Code: words, Message: words}
					return results, err
				}
			},
			`sync run (done)
  plan
  apply
    plugin start
    plugin open
    window (delivered 1, rejected 1)
      announce
      write
      record
    plugin close
`,
		},
		"a long pause is asked for": {
			func(w *world) {
				w.target.answer = func(batch destination.Batch, _ func(destination.Change)) ([]destination.Result, error) {
					return destination.All(len(batch.Changes), destination.Result{Outcome: destination.Retry, RetryAfter: time.Hour}), nil
				}
			},
			`sync run (done)
  plan
  apply
    plugin start
    plugin open
    window (retry 2)
      announce
      write
      record
    plugin close
`,
		},
		"taken on": {
			func(w *world) {
				w.target.answer = func(batch destination.Batch, _ func(destination.Change)) ([]destination.Result, error) {
					return destination.All(len(batch.Changes), destination.Result{Outcome: destination.Accepted, Receipt: words}), nil
				}
				w.target.poll = func([]string) ([]destination.Settlement, error) { return nil, errors.New(words) }
			},
			`sync run (done)
  plan
  apply
    plugin start
    plugin open
    window (accepted 2)
      announce
      write
      record
    receipts error=poll
    plugin close
`,
		},
		"writing fails once": {
			func(w *world) {
				w.target.answer = func(destination.Batch, func(destination.Change)) ([]destination.Result, error) {
					w.target.answer = nil
					return nil, errors.New(words)
				}
			},
			`sync run (done)
  plan
  apply
    plugin start
    plugin open
    window wait (delivered 2)
      announce
      write error=write_failed
      record
      announce
      write
      record
    plugin close
`,
		},
		"an answer of another size": {
			func(w *world) {
				w.target.answer = func(destination.Batch, func(destination.Change)) ([]destination.Result, error) {
					w.target.answer = nil
					return nil, nil
				}
			},
			`sync run (done)
  plan
  apply
    plugin start
    plugin open
    window wait (delivered 2)
      announce
      write error=bad_answer
      record
      announce
      write
      record
    plugin close
`,
		},
		"closing fails": {
			func(w *world) { w.target.closing = func() error { return errors.New(words) } },
			`sync run error=plugin_close (unfinished)
  plan
  apply error=plugin_close
    plugin start
    plugin open
    window (delivered 2)
      announce
      write
      record
    plugin close error=plugin_close
`,
		},
		"the warehouse fails": {
			func(w *world) { w.exec("DROP TABLE sluis_models.vips") },
			`sync run error=_OTHER
  plan error=_OTHER
`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := crowd(t, 2)
			test.prepare(w)
			spans := newSpans()
			ctx, root := spans.tracer.Start(t.Context(), "root")
			_, _ = w.engine().Run(ctx, vips(), syncer.Options{})
			root.End()
			if diff := cmp.Diff("root\n  "+strings.ReplaceAll(strings.TrimSuffix(test.want, "\n"), "\n", "\n  ")+"\n", spans.tree("", 0)); diff != "" {
				t.Error(diff)
			}
			for _, span := range spans.GetSpans() {
				text := fmt.Sprintf("%+v", span)
				for _, value := range []string{"k1", "gold", "welcome", "secret-token"} {
					if strings.Contains(text, value) {
						t.Errorf("%q is in %s", value, text)
					}
				}
			}
		})
	}
}

// TestNoSpans: a call without a span above it makes none.
func TestNoSpans(t *testing.T) {
	w := crowd(t, 2)
	w.target.answer = func(batch destination.Batch, apply func(destination.Change)) ([]destination.Result, error) {
		return deliverAll(batch, apply)
	}
	config := func(c *syncer.Config) {
		connect := c.Connect
		c.Connect = func(ctx context.Context, s syncer.Sync) (destination.Destination, error) {
			if span := trace.SpanFromContext(ctx); span.IsRecording() || span.SpanContext().IsValid() {
				t.Error("there is a span")
			}
			return connect(ctx, s)
		}
	}
	if _, err := w.engine(config).Run(t.Context(), vips(), syncer.Options{}); err != nil {
		t.Fatal(err)
	}
}

// TestErrorType: each error of the package has a class, whatever is around it.
func TestErrorType(t *testing.T) {
	for want, err := range map[string]error{
		"":              nil,
		"busy":          &syncer.BusyError{},
		"stale_plan":    &syncer.StaleError{},
		"held":          &syncer.HeldError{},
		"lease_lost":    syncer.ErrLeaseLost,
		"cannot_remove": syncer.ErrCannotRemove,
		"unconfirmed":   syncer.ErrUnconfirmed,
		"canceled":      context.Canceled,
		"timeout":       context.DeadlineExceeded,
		"mapping":       &destination.MappingError{},
		"configuration": &destination.ConfigError{},
		"_OTHER":        errors.New("k1 is not welcome"),
	} {
		if got := syncer.ErrorType(err); got != want {
			t.Errorf("%v is %q, want %q", err, got, want)
		}
		if err == nil {
			continue
		}
		if got := syncer.ErrorType(errors.Join(errors.New("before"), fmt.Errorf("around: %w", err))); got != want {
			t.Errorf("%v, wrapped, is %q, want %q", err, got, want)
		}
	}
}

// spans keeps spans in memory.
type spans struct {
	*tracetest.InMemoryExporter
	tracer trace.Tracer
}

func newSpans() spans {
	exporter := tracetest.NewInMemoryExporter()
	return spans{exporter, sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter)).Tracer("test")}
}

// tree tells of spans below their parents: names, events, classes of errors, and of
// runs the status, of windows what came of how many rows.
func (s spans) tree(parent string, depth int) string {
	var b strings.Builder
	found := s.GetSpans()
	slices.SortStableFunc(found, func(a, b tracetest.SpanStub) int { return a.StartTime.Compare(b.StartTime) })
	for _, span := range found {
		above := ""
		if span.Parent.IsValid() {
			above = span.Parent.SpanID().String()
		}
		if above != parent {
			continue
		}
		b.WriteString(strings.Repeat("  ", depth) + span.Name)
		for _, event := range span.Events {
			b.WriteString(" " + event.Name)
		}
		if span.Status.Code == codes.Error {
			b.WriteString(" error=" + span.Status.Description)
		}
		var counts []string
		for _, a := range span.Attributes {
			outcome, ok := strings.CutPrefix(string(a.Key), "sluis.window.")
			switch {
			case a.Key == "sluis.run.status":
				counts = append(counts, a.Value.AsString())
			case ok && a.Value.AsInt64() > 0 && outcome != "rows" && outcome != "attempts":
				counts = append(counts, fmt.Sprint(outcome, " ", a.Value.AsInt64()))
			}
		}
		if len(counts) > 0 {
			b.WriteString(" (" + strings.Join(counts, ", ") + ")")
		}
		b.WriteString("\n" + s.tree(span.SpanContext.SpanID().String(), depth+1))
	}
	return b.String()
}
