package syncer

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/sluis-cdp/sluis/plugins/destination"
)

// Whoever calls a Syncer with an OpenTelemetry span in the context gets spans below
// it, from the provider of that span; without one none is made. DESIGN.md lists them.
// They tell how much, how long and how it ended, never of whom: no key, no value, no
// error's text, and no words of a destination, which may repeat what it was sent.

// traceScope names this package to those who look at spans.
const traceScope = "github.com/sluis-cdp/sluis/sync"

func startSpan(ctx context.Context, name string, options ...trace.SpanStartOption) (context.Context, trace.Span) {
	return trace.SpanFromContext(ctx).TracerProvider().Tracer(traceScope).Start(ctx, name, options...)
}

// startSync begins the span of one call of a Syncer.
func startSync(ctx context.Context, name string, s Sync) (context.Context, trace.Span) {
	return startSpan(ctx, name, trace.WithAttributes(
		attribute.String("sluis.sync.name", s.Name), attribute.String("sluis.destination.name", s.Destination)))
}

// endSpan ends a span, as failed if there is an error. It is called by a deferred
// function rather than deferred itself: End, deferred, would look for a panic.
func endSpan(span trace.Span, err error) { endSpanAs(span, ErrorType(err)) }

// endSpanAs ends a span, as failed if there is a class of error.
func endSpanAs(span trace.Span, class string) {
	if class != "" {
		span.SetStatus(codes.Error, class)
		span.SetAttributes(attribute.String("error.type", class))
	}
	span.End()
}

// endRun ends the span of a call that came to a run, or to none.
func endRun(span trace.Span, r Run, err error) {
	if r.ID != "" {
		span.SetAttributes(
			attribute.String("sluis.plan.id", r.PlanID), attribute.String("sluis.run.id", r.ID), attribute.String("sluis.run.status", string(r.Status)),
			attribute.Int64("sluis.run.added", r.Added), attribute.Int64("sluis.run.updated", r.Updated), attribute.Int64("sluis.run.refreshed", r.Refreshed),
			attribute.Int64("sluis.run.removed", r.Removed), attribute.Int64("sluis.run.failed", r.Failed), attribute.Int64("sluis.run.skipped", r.Skipped),
			attribute.Int64("sluis.run.held", r.Held),
		)
	}
	endSpan(span, err)
}

// endPlan ends the span in which a plan was computed.
func endPlan(span trace.Span, p Plan, err error) {
	if err == nil {
		span.SetAttributes(
			attribute.String("sluis.plan.id", p.ID), attribute.Int64("sluis.plan.add", p.Counts.Add), attribute.Int64("sluis.plan.update", p.Counts.Update),
			attribute.Int64("sluis.plan.refresh", p.Counts.Refresh), attribute.Int64("sluis.plan.remove", p.Counts.Remove),
			attribute.Int64("sluis.plan.hold", p.Counts.Hold), attribute.Int64("sluis.plan.unchanged", p.Counts.Unchanged),
			attribute.Bool("sluis.plan.held", p.Held != nil),
		)
	}
	endSpan(span, err)
}

// windowSpan is the span of a window with all its attempts.
type windowSpan struct {
	trace.Span
	attempts int
	removes  bool
	last     map[int64]destination.Outcome // of each row, by its number in the plan
}

func startWindow(ctx context.Context) (context.Context, *windowSpan) {
	ctx, span := startSpan(ctx, "window")
	return ctx, &windowSpan{Span: span, last: map[int64]destination.Outcome{}}
}

// sent notes what came of an attempt.
func (w *windowSpan) sent(rows []*row) {
	if !w.IsRecording() {
		return
	}
	w.attempts++
	for _, r := range rows {
		w.removes, w.last[r.seq] = r.op == opRemove, r.outcome
	}
}

// waits notes that rows wait for another attempt, and whether the destination
// asked for it to be so late.
func (w *windowSpan) waits(pause time.Duration, asked bool, rows int) {
	w.AddEvent("wait", trace.WithAttributes(
		attribute.Int("sluis.window.attempts", w.attempts), attribute.Int("sluis.window.rows", rows),
		attribute.Float64("sluis.wait.seconds", pause.Seconds()), attribute.Bool("sluis.wait.asked", asked)))
}

// end tells what came of the rows by their last attempt. What is to be tried again
// is left for the next run.
func (w *windowSpan) end(err error) {
	if w.IsRecording() {
		op := opUpsert
		if w.removes {
			op = opRemove
		}
		counts := map[destination.Outcome]int{}
		for _, outcome := range w.last {
			counts[outcome]++
		}
		w.SetAttributes(attribute.String("sluis.window.op", op), attribute.Int("sluis.window.attempts", w.attempts), attribute.Int("sluis.window.rows", len(w.last)))
		for outcome := destination.Delivered; outcome <= destination.Unknown; outcome++ {
			w.SetAttributes(attribute.Int("sluis.window."+outcome.String(), counts[outcome]))
		}
	}
	endSpan(w.Span, err)
}

// classified is an error with a class that its text does not show.
type classified struct {
	error
	class string
}

// Unwrap returns the error itself.
func (c *classified) Unwrap() error { return c.error }

// classify gives an error a class.
func classify(class string, err error) error {
	if err == nil {
		return nil
	}
	return &classified{err, class}
}

// ErrorType is the class of an error of a [Syncer]: one of few words, for where its
// text may not go. It is empty for nil, and "_OTHER", as the semantic conventions of
// OpenTelemetry have it, for what is in no class.
func ErrorType(err error) string {
	if err == nil {
		return ""
	}
	for _, known := range []struct {
		err   error
		class string
	}{
		{ErrLeaseLost, "lease_lost"},
		{ErrCannotRemove, "cannot_remove"},
		{ErrUnconfirmed, "unconfirmed"},
		{context.Canceled, "canceled"},
		{context.DeadlineExceeded, "timeout"},
	} {
		if errors.Is(err, known.err) {
			return known.class
		}
	}
	if _, ok := errors.AsType[*BusyError](err); ok {
		return "busy"
	}
	if _, ok := errors.AsType[*StaleError](err); ok {
		return "stale_plan"
	}
	if _, ok := errors.AsType[*destination.MappingError](err); ok {
		return "mapping"
	}
	if _, ok := errors.AsType[*destination.ConfigError](err); ok {
		return "configuration"
	}
	if c, ok := errors.AsType[*classified](err); ok {
		return c.class
	}
	if _, ok := errors.AsType[*HeldError](err); ok {
		return "held"
	}
	return "_OTHER"
}
