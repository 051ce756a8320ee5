package main

import (
	"context"
	"errors"
	"time"

	"github.com/urfave/cli/v2"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/sluis-cdp/sluis/cmd/internal/tracing"
	"github.com/sluis-cdp/sluis/sql/runner"
	syncer "github.com/sluis-cdp/sluis/sync"
)

// traced makes a trace of what a command does, if the environment asks for it.
func traced(name string, do cli.ActionFunc) cli.ActionFunc {
	return func(c *cli.Context) error {
		traces := tracing.Open(c.Context, sdkVersion(), newLogger(c))
		defer traces.Close()
		ctx, span := traces.Root(c.Context, name)
		c.Context = ctx
		err := do(c)
		tracing.End(span, errorType(err))
		return err
	}
}

// errorType is the class of an error of a command, without its words.
func errorType(err error) string {
	if _, ok := errors.AsType[*usageError](err); ok {
		return "usage"
	}
	if _, ok := errors.AsType[*refusedError](err); ok {
		return "refused"
	}
	return syncer.ErrorType(err)
}

// traceNodes makes a span of each node that was built or tested, once it is.
func traceNodes(ctx context.Context, results runner.Results) {
	for _, r := range results {
		if r.Started.IsZero() {
			continue // it was skipped
		}
		_, span := tracing.Begin(ctx, string(r.Kind), trace.WithTimestamp(r.Started), trace.WithAttributes(
			attribute.String("sluis.node.name", r.Name), attribute.String("sluis.node.status", string(r.Status)), attribute.Int64("sluis.node.rows", r.Rows)))
		class := ""
		switch {
		case r.OverBudget != nil:
			class = "over_budget"
		case r.Status == runner.Failed:
			class = "failed"
		}
		tracing.End(span, class, trace.WithTimestamp(r.Started.Add(time.Duration(r.Seconds*float64(time.Second)))))
	}
}
