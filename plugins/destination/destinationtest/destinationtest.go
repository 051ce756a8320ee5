// Package destinationtest is the conformance suite of destinations: what every
// [destination.Destination] promises, whatever is behind it. The authors of a
// plugin run it against a fake of their outside system, in process or through
// a host.
package destinationtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/plugins/destination"
)

// Canary is a value that the suite writes. It must come back in no error,
// result, code or message: those are stored and shown.
const Canary = "canary.9f3a7c51@example.test"

// Run runs the suite. open returns a destination that is not open yet, and a
// configuration with which it opens; each call gives an independent one, with
// an outside system that accepts whatever is well-formed. The suite closes
// what it opens.
func Run(t *testing.T, open func(t *testing.T) (destination.Destination, map[string]string)) {
	RunWith(t, open, Batch)
}

// RunWith is Run with batches of the author's, for an outside system that does
// not take just any column or value: it gives those that are well-formed there.
// Called again with an id and an operation it gives the same batch. The first
// column is of strings; there the canary goes.
func RunWith(t *testing.T, open func(t *testing.T) (destination.Destination, map[string]string), batch func(id string, op destination.Op) destination.Batch) {
	s := suite{open: open, batch: batch}
	t.Run("describe", s.describe)
	t.Run("configuration", s.configuration)
	t.Run("close unopened", s.closeUnopened)
	t.Run("write", s.write)
	t.Run("send again", s.sendAgain)
	t.Run("empty batch", s.empty)
	t.Run("no columns", s.noColumns)
	t.Run("canary", s.canary)
}

// RunCanary runs only the part of the suite that looks for values in answers,
// for use with an outside system that quotes what it is sent.
func RunCanary(t *testing.T, open func(t *testing.T) (destination.Destination, map[string]string)) {
	RunCanaryWith(t, open, Batch)
}

// RunCanaryWith is RunCanary with batches as [RunWith] has them.
func RunCanaryWith(t *testing.T, open func(t *testing.T) (destination.Destination, map[string]string), batch func(id string, op destination.Op) destination.Batch) {
	suite{open: open, batch: batch}.canary(t)
}

type suite struct {
	open  func(*testing.T) (destination.Destination, map[string]string)
	batch func(id string, op destination.Op) destination.Batch
}

func (s suite) describe(t *testing.T) {
	d, config := s.open(t)
	defer closeIt(t, d)
	first := d.Describe()
	if err := first.Check(); err != nil {
		t.Error(err)
	}
	if err := destination.Validate(d, config); err != nil {
		t.Errorf("the suite's configuration: %v", err)
	}
	if err := d.Open(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, d.Describe()); diff != "" {
		t.Errorf("the description changed with Open:\n%s", diff)
	}
	if describer, ok := d.(destination.TargetDescriber); ok {
		target, err := describer.DescribeTarget(t.Context())
		if err == nil {
			err = target.Check()
		}
		if err == nil {
			err = target.CheckColumns(s.batch("target", destination.Upsert).Columns)
		}
		if err != nil {
			t.Errorf("target: %v", err)
		}
	}
	if c, ok := d.(destination.Checker); ok {
		if err := c.Check(t.Context()); err != nil {
			t.Errorf("check: %v", err)
		}
	}
}

// configuration spoils one field after another. The answer must be an error
// that names a field and repeats no secret, or an open destination.
func (s suite) configuration(t *testing.T) {
	d, good := s.open(t)
	fields := d.Describe().Config
	closeIt(t, d)
	for _, field := range fields {
		for name, value := range map[string]string{
			"missing": "",
			"canary":  Canary,
			"binary":  "\x00\xff\n",
			"long":    strings.Repeat("x", 1<<16),
		} {
			t.Run(field.Name+" "+name, func(t *testing.T) {
				d, config := s.open(t)
				defer closeIt(t, d)
				config[field.Name] = value
				err := destination.Validate(d, config)
				if err == nil && name != "missing" {
					return // it may be good: Open would do I/O with it
				}
				s.refused(t, err, fields)
				if name == "missing" && field.Required && err == nil {
					t.Errorf("the required field %s is missing, and no error", field.Name)
				}
			})
		}
	}
	d, _ = s.open(t)
	defer closeIt(t, d)
	good["no_such_field"] = "x"
	if destination.Validate(d, good) == nil {
		t.Error("an unknown field, and no error")
	}
}

func (s suite) refused(t *testing.T, err error, fields []destination.Field) {
	if err == nil {
		return
	}
	problem, ok := errors.AsType[*destination.ConfigError](err)
	if !ok {
		t.Fatalf("err is a %T, want a *ConfigError: %v", err, err)
	}
	known := false
	for _, f := range fields {
		known = known || f.Name == problem.Field
	}
	if !known || problem.Problem == "" {
		t.Errorf("problem %+v names no field or says nothing", problem)
	}
	if strings.Contains(err.Error(), Canary) {
		t.Errorf("the error repeats a value: %v", err)
	}
}

func (s suite) closeUnopened(t *testing.T) {
	d, _ := s.open(t)
	closeIt(t, d)
}

// write puts in and takes out all kinds of values.
func (s suite) write(t *testing.T) {
	d := s.opened(t)
	writeIt(t, d, s.batch("insert", destination.Upsert))
	writeIt(t, d, s.batch("update", destination.Upsert))
	writeIt(t, d, s.batch("remove", destination.Remove))
	writeIt(t, d, s.batch("remove-absent", destination.Remove))
}

// sendAgain repeats a batch, as the host does when an answer was lost.
func (s suite) sendAgain(t *testing.T) {
	d := s.opened(t)
	for _, op := range []destination.Op{destination.Upsert, destination.Remove} {
		b := s.batch("again-"+op.String(), op)
		first, second := writeIt(t, d, b), writeIt(t, d, b)
		if !d.Describe().Idempotent {
			continue
		}
		for i := range first {
			if first[i].Outcome != second[i].Outcome && second[i].Outcome != destination.Skipped {
				t.Errorf("change %d was %v, and sent again %v", i, first[i].Outcome, second[i].Outcome)
			}
		}
	}
}

func (s suite) empty(t *testing.T) {
	d := s.opened(t)
	b := s.batch("empty", destination.Upsert)
	b.Changes = nil
	writeIt(t, d, b)
}

func (s suite) noColumns(t *testing.T) {
	d := s.opened(t)
	b := s.batch("nocolumns", destination.Upsert)
	b.Columns = nil
	for i := range b.Changes {
		b.Changes[i].Values = nil
	}
	if _, err := d.Write(t.Context(), b); err != nil {
		t.Error(err)
	}
}

func (s suite) canary(t *testing.T) {
	d := s.opened(t)
	for _, op := range []destination.Op{destination.Upsert, destination.Remove} {
		b := s.batch("canary-"+op.String(), op)
		for i := range b.Changes {
			b.Changes[i].Values[0] = Canary
		}
		results, err := d.Write(t.Context(), b)
		if said := fmt.Sprintf("%v %+v", err, results); strings.Contains(said, Canary) {
			t.Errorf("a value came back: %s", said)
		}
	}
}

func (s suite) opened(t *testing.T) destination.Destination {
	t.Helper()
	d, config := s.open(t)
	t.Cleanup(func() { closeIt(t, d) })
	if err := d.Open(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	return d
}

// writeIt writes a batch of a kind that the destination takes, and checks what
// any answer must be.
func writeIt(t *testing.T, d destination.Destination, b destination.Batch) []destination.Result {
	t.Helper()
	taken := false
	for _, op := range d.Describe().Ops {
		taken = taken || len(b.Changes) == 0 || op == b.Changes[0].Op
	}
	if !taken {
		return nil
	}
	results, err := d.Write(t.Context(), b)
	if err != nil {
		t.Fatalf("batch %s: %v", b.ID, err)
	}
	if err := b.CheckResults(results); err != nil {
		t.Fatal(err)
	}
	for i, r := range results {
		switch r.Outcome {
		case destination.Delivered, destination.Skipped:
		case destination.Accepted:
			if r.Receipt == "" {
				t.Errorf("change %d is accepted without a receipt", i)
			}
		case destination.Rejected, destination.Retry, destination.Unknown:
			if r.Code == "" || r.Message == "" {
				t.Errorf("change %d is %v without a code or a message", i, r.Outcome)
			}
			t.Errorf("batch %s: change %d of an easy batch: %+v", b.ID, i, r)
		}
	}
	return results
}

// Batch is a batch with values that are easy to get wrong: NULL, scripts that
// go both ways, quotes, line ends, formulas, length, edges of numbers and
// times. Each call with the same id gives the same.
func Batch(id string, op destination.Op) destination.Batch {
	strs := []any{
		"plain", nil, "", "Zoë Müller 东京 👩‍🚒 שלום\u202e", "\"quoted\", and\r\nnew\tlines\n", "=1+1", "+31612345678",
		strings.Repeat("long ", 20_000), "\x00\x1b[31m", "<b>&amp;'%00 $1 \\n", "NULL",
	}
	ints := []any{int64(0), nil, int64(-1), int64(1<<63 - 1), int64(-1 << 63), int64(1 << 53)}
	floats := []any{0.0, nil, -0.5, 1e308, 5e-324, 0.1}
	times := []any{
		time.Unix(0, 0).UTC(), nil, time.Date(1583, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(2026, 2, 28, 23, 59, 59, 999_999_000, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
	}
	b := destination.Batch{
		ID: id, Sync: "conformance", Run: "run-1",
		Columns: []destination.Column{
			{Name: "text", Type: destination.String},
			{Name: "count", Type: destination.Int64},
			{Name: "score", Type: destination.Float64},
			{Name: "member", Type: destination.Bool},
			{Name: "seen_at", Type: destination.Time},
		},
	}
	for i, s := range strs {
		b.Changes = append(b.Changes, destination.Change{
			ID: fmt.Sprintf("%s-%d", id, i), Key: fmt.Sprintf("key-%d", i), Op: op,
			Values: []any{s, ints[i%len(ints)], floats[i%len(floats)], i%2 == 0, times[i%len(times)]},
		})
	}
	if op == destination.Remove {
		b.Changes[0].PriorityReason = "consent_withdrawn"
	}
	return b
}

func closeIt(t *testing.T, d destination.Destination) {
	t.Helper()
	// t.Context() has ended when a cleanup runs.
	if err := d.Close(context.WithoutCancel(t.Context())); err != nil {
		t.Errorf("close: %v", err)
	}
}
