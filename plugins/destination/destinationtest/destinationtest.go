// Package destinationtest is the conformance suite of destinations: what every
// [destination.Destination] promises, whatever is behind it. The authors of a
// plugin run it against a fake of their outside system, in process or through
// a host.
package destinationtest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sluis-cdp/sluis/plugins/destination"
)

// Canary is a value that the suite writes. It must come back in no error,
// result, code or message: those are stored and shown.
const Canary = "canary.9f3a7c51@example.test"

// T is what a check needs of a test. A *testing.T is one.
type T interface {
	Helper()
	Context() context.Context
	Cleanup(do func())
	Error(args ...any)
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Skip(args ...any)
}

// Suite says how to try a destination. Its outside system is the author's: a
// fake, or a real one that is for tests. What the suite is told about it beside
// Open lets it look behind the answers.
type Suite struct {
	// Open returns a destination that is not open yet, and a configuration with
	// which it opens; each call gives an independent one, with an outside system
	// that accepts whatever is well-formed and is told by the configuration. The
	// suite closes what it opens.
	Open func(t T) (destination.Destination, map[string]string)
	// Batch gives the batches, for an outside system that does not take just any
	// column or value: those that are well-formed there. Called again with an id
	// and an operation it gives the same one. The first column is of strings;
	// there the canary goes. Nil means [Batch]; [BatchFor] makes others.
	Batch func(id string, op destination.Op) destination.Batch

	// Present, if not nil, reports whether the outside system of the destination
	// opened last has a key.
	Present func(t T, key string) bool
	// Refuse, if not nil, has that system refuse a key from now on, for good.
	Refuse func(t T, key string)
	// Throttle, if not nil, has that system turn away the next request for now, as
	// one too many.
	Throttle func(t T)
}

// Check is one promise of a destination, and how it is tried.
type Check struct {
	Name string
	Run  func(T)
}

// Run runs the checks as subtests.
func (s Suite) Run(t *testing.T) {
	for _, check := range s.Checks() {
		t.Run(check.Name, func(t *testing.T) { check.Run(t) })
	}
}

// Checks are those that the suite can make, for programs that are no tests.
func (s Suite) Checks() []Check {
	if s.Batch == nil {
		s.Batch = Batch
	}
	checks := []Check{
		{"describe", s.describe},
		{"configuration", s.configuration},
		{"close unopened", s.closeUnopened},
		{"write", s.write},
		{"send again", s.sendAgain},
		{"empty batch", s.empty},
		{"no columns", s.noColumns},
		{"cancelled", s.cancelled},
		{"receipts", s.receipts},
		{"canary", s.canary},
		{"update only", s.updateOnly},
		{"turns", s.turns},
	}
	if s.Present != nil {
		checks = append(checks, Check{"state", s.state}, Check{"order", s.order}, Check{"many rows", s.many})
	}
	if s.Refuse != nil {
		checks = append(checks, Check{"refused row", s.refusedRow})
	}
	if s.Throttle != nil {
		checks = append(checks, Check{"throttled", s.throttled})
	}
	return checks
}

// Run runs the suite with Open alone; see [Suite].
func Run(t *testing.T, open func(t *testing.T) (destination.Destination, map[string]string)) {
	RunWith(t, open, Batch)
}

// RunWith is Run with batches of the author's; see [Suite].
func RunWith(t *testing.T, open func(t *testing.T) (destination.Destination, map[string]string), batch func(id string, op destination.Op) destination.Batch) {
	for _, check := range (Suite{Batch: batch}).Checks() {
		t.Run(check.Name, func(t *testing.T) { only(t, open, batch, check.Name) })
	}
}

// RunCanary runs only the part of the suite that looks for values in answers,
// for use with an outside system that quotes what it is sent.
func RunCanary(t *testing.T, open func(t *testing.T) (destination.Destination, map[string]string)) {
	RunCanaryWith(t, open, Batch)
}

// RunCanaryWith is RunCanary with batches as [RunWith] has them.
func RunCanaryWith(t *testing.T, open func(t *testing.T) (destination.Destination, map[string]string), batch func(id string, op destination.Op) destination.Batch) {
	only(t, open, batch, "canary")
}

// only makes one check, with destinations that belong to this test.
func only(t *testing.T, open func(*testing.T) (destination.Destination, map[string]string), batch func(string, destination.Op) destination.Batch, name string) {
	s := Suite{Batch: batch, Open: func(T) (destination.Destination, map[string]string) { return open(t) }}
	for _, check := range s.Checks() {
		if check.Name == name {
			check.Run(t)
		}
	}
}

func (s Suite) describe(t T) {
	d, config := s.Open(t)
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
	if second := d.Describe(); !reflect.DeepEqual(first, second) {
		t.Errorf("the description changed with Open, from %+v to %+v", first, second)
	}
	if describer, ok := d.(destination.TargetDescriber); ok {
		target, err := describer.DescribeTarget(t.Context())
		if err == nil {
			err = target.Check()
		}
		if err == nil {
			err = target.CheckColumns(s.Batch("target", destination.Upsert).Columns)
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
func (s Suite) configuration(t T) {
	d, good := s.Open(t)
	fields := d.Describe().Config
	closeIt(t, d)
	for _, field := range fields {
		for name, value := range map[string]string{
			"missing": "",
			"canary":  Canary,
			"binary":  "\x00\xff\n",
			"long":    strings.Repeat("x", 1<<16),
		} {
			s.spoiled(t, fields, field, name, value)
		}
	}
	d, _ = s.Open(t)
	defer closeIt(t, d)
	good["no_such_field"] = "x"
	if destination.Validate(d, good) == nil {
		t.Error("an unknown field, and no error")
	}
}

// spoiled tries one value of a field.
func (s Suite) spoiled(t T, fields []destination.Field, field destination.Field, name, value string) {
	t.Helper()
	d, config := s.Open(t)
	defer closeIt(t, d)
	config[field.Name] = value
	err := destination.Validate(d, config)
	if err == nil && name != "missing" {
		return // it may be good: Open would do I/O with it
	}
	s.refused(t, field.Name+" "+name, err, fields)
	if name == "missing" && field.Required && err == nil {
		t.Errorf("the required field %s is missing, and no error", field.Name)
	}
}

func (s Suite) refused(t T, what string, err error, fields []destination.Field) {
	if err == nil {
		return
	}
	problem, ok := errors.AsType[*destination.ConfigError](err)
	if !ok {
		t.Errorf("%s: err is a %T, want a *ConfigError: %v", what, err, err)
		return
	}
	known := false
	for _, f := range fields {
		known = known || f.Name == problem.Field
	}
	if !known || problem.Problem == "" {
		t.Errorf("%s: problem %+v names no field or says nothing", what, problem)
	}
	if strings.Contains(err.Error(), Canary) {
		t.Errorf("%s: the error repeats a value: %v", what, err)
	}
}

func (s Suite) closeUnopened(t T) {
	d, _ := s.Open(t)
	closeIt(t, d)
}

// write puts in and takes out all kinds of values.
func (s Suite) write(t T) {
	d := s.opened(t)
	writeIt(t, d, s.Batch("insert", destination.Upsert))
	writeIt(t, d, s.Batch("update", destination.Upsert))
	writeIt(t, d, s.Batch("remove", destination.Remove))
	writeIt(t, d, s.Batch("remove-absent", destination.Remove))
}

// sendAgain repeats a batch, as the host does when an answer was lost.
func (s Suite) sendAgain(t T) {
	d := s.opened(t)
	for _, op := range []destination.Op{destination.Upsert, destination.Remove} {
		b := s.Batch("again-"+op.String(), op)
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

func (s Suite) empty(t T) {
	d := s.opened(t)
	b := s.Batch("empty", destination.Upsert)
	b.Changes = nil
	writeIt(t, d, b)
}

func (s Suite) noColumns(t T) {
	d := s.opened(t)
	b := s.Batch("nocolumns", destination.Upsert)
	b.Columns = nil
	for i := range b.Changes {
		b.Changes[i].Values = nil
	}
	if _, err := d.Write(t.Context(), b); err != nil {
		t.Error(err)
	}
}

func (s Suite) canary(t T) {
	d := s.opened(t)
	for _, op := range []destination.Op{destination.Upsert, destination.Remove} {
		b := s.Batch("canary-"+op.String(), op)
		for i := range b.Changes {
			b.Changes[i].Values[0] = Canary
		}
		results, err := d.Write(t.Context(), b)
		if said := fmt.Sprintf("%v %+v", err, results); strings.Contains(said, Canary) {
			t.Errorf("a value came back: %s", said)
		}
	}
}

func (s Suite) opened(t T) destination.Destination {
	t.Helper()
	d, config := s.Open(t)
	t.Cleanup(func() { closeIt(t, d) })
	if err := d.Open(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	return d
}

// writeIt writes a batch of a kind that the destination takes, and checks what
// any answer must be.
func writeIt(t T, d destination.Destination, b destination.Batch) []destination.Result {
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

func closeIt(t T, d destination.Destination) {
	t.Helper()
	// t.Context() has ended when a cleanup runs.
	if err := d.Close(context.WithoutCancel(t.Context())); err != nil {
		t.Errorf("close: %v", err)
	}
}
