// Package destination is what the author of a destination plugin imports, and
// all that he needs: implement [Destination], call [Serve] in main, and run
// the conformance suite in destinationtest.
//
// The types are plain Go, so a Destination works as well inside a process,
// without gRPC: that is how a test of the syncer uses a fake.
//
// It imports no other part of the product but the generated protocol.
package destination

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Destination receives the changes of one sync and applies them to one
// outside system.
//
// Calls are never concurrent. A call may follow one that failed, or whose
// context ended. No method may panic on what it is given, and no error,
// message, code or receipt may repeat a value of a column: they are stored and
// shown. Keys and ids are opaque and may be named.
//
// A destination may also be a [Validator], a [Checker], a [Poller], a
// [TargetDescriber] or an [Updater].
type Destination interface {
	// Describe says what the destination is and accepts. It does no I/O, may
	// be called at any time and always gives the same answer.
	Describe() Description

	// Open checks the configuration and connects where that makes sense. It
	// is called first, and not again after it succeeded. What is wrong with
	// the configuration is a [*ConfigError].
	Open(ctx context.Context, config map[string]string) error

	// Write applies the changes of a batch in order and reports on each, one
	// Result per Change at the same index.
	//
	// An empty batch has no results. It names a Run that wrote before, and whose
	// host was killed before it came to Close: that Close now does for this Run
	// what it would have done then.
	//
	// An error means that nothing is known of any change. The host then sends
	// the batch again, later or from another process, under the same ids; if
	// the Description says Idempotent, that must leave the outside system as
	// one sending would.
	//
	// It returns soon after ctx ends. It must not keep the batch.
	Write(ctx context.Context, batch Batch) ([]Result, error)

	// Close flushes what is buffered and releases what Open took: on return,
	// what was reported Delivered is durable. It is called once, also when
	// Open failed. No call follows.
	//
	// A host that is killed does not come to it. What is buffered longer than a
	// Write is lost then, so buffer only what an empty batch can bring about.
	Close(ctx context.Context) error
}

// Validator is a [Destination] that can say more about a configuration than
// which fields are missing or unknown, without any I/O. Validate may be called
// before Open, and returns a [*ConfigError] for what is wrong.
type Validator interface {
	Validate(config map[string]string) error
}

// Checker is a [Destination] that can ask its outside system whether it may be
// reached and lets us in, changing nothing there. Check is called after Open.
type Checker interface {
	Check(ctx context.Context) error
}

// Updater is a [Destination] that can change what is there and make nothing,
// for syncs with the mode update. Its [Description] says UpdateOnly.
//
// OpenToUpdate is called instead of Open, and is Open in all else. From then on
// an [Upsert] of a key that is not there is [Skipped], and leaves no trace, not
// even in part. A key may come to be there by what an upsert says of it, such
// as an e-mail address that a record without a key has. A [Remove] takes back
// what was written, and deletes no record unless the configuration says so.
type Updater interface {
	OpenToUpdate(ctx context.Context, config map[string]string) error
}

// Open opens d: to change only what is there, if updateOnly. The error wraps
// [errors.ErrUnsupported] if d cannot.
func Open(ctx context.Context, d Destination, config map[string]string, updateOnly bool) error {
	if !updateOnly {
		return d.Open(ctx, config)
	}
	updater, ok := d.(Updater)
	if !ok || !d.Describe().UpdateOnly {
		return fmt.Errorf("%s cannot leave alone what is not there: %w", d.Describe().Name, errors.ErrUnsupported)
	}
	return updater.OpenToUpdate(ctx, config)
}

// Poller is a [Destination] that answers [Accepted] and can say later what
// became of it. Poll is called after Open, maybe in another process than the
// Write that gave the receipts. Receipts that it leaves out are not settled yet.
type Poller interface {
	Poll(ctx context.Context, receipts []string) ([]Settlement, error)
}

// Description says what a destination is and accepts.
type Description struct {
	Name        string // lower-case, such as "webhook"
	Version     string
	Ops         []Op // what Write accepts; not empty
	Granularity Granularity
	// Idempotent: a change sent again under the same ID has no further effect.
	Idempotent bool
	// UpdateOnly: it is an [Updater].
	UpdateOnly bool
	// MaxRows is the most changes of one batch; 0 leaves it to the host.
	MaxRows int
	Config  []Field
	// EgressHosts are the hosts, or host:port, that the destination connects
	// to. "${field}" stands for the host of the URL in that field. A plugin that
	// is confined has no other network.
	EgressHosts []string
	// Target is what holds whatever the configuration is.
	Target Target
	// Paced: each request to the outside system waits for its turn; see [Await].
	Paced bool
	// Limits are how many requests the outside system takes from an account: all
	// with the same values of the fields of Config that say Account, or of all
	// fields if none does. Where it has several plans, the least of them.
	Limits []Limit
}

// Granularity is how much the outside system tells about single rows, so that
// nobody claims a certainty that is not there. The zero value is invalid.
type Granularity int

// The granularities.
const (
	PerRow    Granularity = iota + 1 // each row's outcome is its own
	PerSample                        // some of the failed rows are named, not all
	PerBatch                         // all rows share one outcome
)

// Op is what to do with a change's key. The zero value is invalid.
type Op int

// The operations.
const (
	Upsert Op = iota + 1 // make the key present with these values; see [Updater]
	Remove               // make the key absent; an absent key is success
)

// Type is the type of a column. The zero value is invalid.
type Type int

// The types, with what a value that is not nil then is.
const (
	String  Type = iota + 1 // string, valid UTF-8
	Int64                   // int64
	Float64                 // float64, NaN and infinities included
	Bool                    // bool
	Time                    // time.Time in UTC, whole microseconds
)

// Column is a mapped column.
type Column struct {
	Name string
	Type Type
}

// Batch is a number of changes that are written together.
type Batch struct {
	// ID names the batch and its contents: the same ID always comes with the
	// same changes. At most 100 letters, digits, '-' and '_'.
	ID        string
	Sync, Run string
	// Purpose is what those of whom there are upserts have agreed to. It is empty
	// if the host does not say.
	Purpose string
	Columns []Column
	Changes []Change
}

// Change is what should happen to one key.
type Change struct {
	ID             string // idempotency key, the same each time the change is sent
	Key            string // what the change is about: opaque, no personal data
	Op             Op
	Values         []any  // one per column: nil, or as the column's Type says
	PriorityReason string // why it goes first, such as "consent_withdrawn"; mostly empty
	// Decision is the id of the decision that the agreement of an Upsert goes
	// back to. It is empty if none is known.
	Decision string
	// Former are the values that the key was sent with before, as far as fields
	// identify ([TargetField.Identifies]) and they are not those of this change:
	// sets as in Values, nil in all other fields. What they lead to in the outside
	// system goes with a Remove, and is replaced by an Upsert.
	Former [][]any
}

// Outcome is what became of a change. The zero value is invalid.
type Outcome int

// The outcomes.
const (
	Delivered Outcome = iota + 1 // done, as far as the outside system says
	Accepted                     // taken on; poll the receipt
	Rejected                     // refused for good: the same values would be again
	Retry                        // refused or failed for now
	Skipped                      // rightly not done, such as an update of what is absent
	Unknown                      // sent, but the answer was lost
)

// Result says what became of one change.
type Result struct {
	Outcome    Outcome
	Code       string        // for programs, in snake_case: "invalid_email"; empty when Delivered
	Message    string        // for people: one short sentence, no values
	RetryAfter time.Duration // with Retry: how long to wait; 0 leaves it to the host
	Receipt    string        // with Accepted: what Poll takes; changes may share one
}

// Settlement says what became of the changes behind a receipt.
type Settlement struct {
	Receipt       string
	Outcome       Outcome // never Accepted
	Code, Message string
	FailedRows    int // how many failed, where the outside system only counts
}

// Validate reports whether the batch keeps what [Batch] and [Change] promise.
// The host sends no other, so a destination need not ask. Whether a string is
// valid UTF-8 is left to who sends it.
func (b Batch) Validate() error {
	if err := b.validateNames(); err != nil {
		return err
	}
	for i := range b.Changes {
		if err := b.Changes[i].fits(b.Columns); err != nil {
			return fmt.Errorf("batch %s: change %d: %w", b.ID, i, err)
		}
	}
	return nil
}

// validateNames is Validate without a look at the values.
func (b Batch) validateNames() error {
	if !safeID(b.ID) {
		return fmt.Errorf("batch id %q: want letters, digits, '-' and '_'", b.ID)
	}
	names := make(map[string]bool, len(b.Columns))
	for _, c := range b.Columns {
		if c.Name == "" || names[c.Name] {
			return fmt.Errorf("batch %s: column %q is there twice or has no name", b.ID, c.Name)
		}
		if c.Type < String || c.Type > Time {
			return fmt.Errorf("batch %s: column %q has the invalid type %d", b.ID, c.Name, int(c.Type))
		}
		names[c.Name] = true
	}
	for i := range b.Changes {
		switch c := &b.Changes[i]; {
		case c.ID == "" || c.Key == "":
			return fmt.Errorf("batch %s: change %d: no id or no key", b.ID, i)
		case c.Op != Upsert && c.Op != Remove:
			return fmt.Errorf("batch %s: change %d: invalid operation %d", b.ID, i, int(c.Op))
		}
	}
	return nil
}

// fits reports values that are not of the columns' types.
func (c *Change) fits(columns []Column) error {
	if err := fit(c.Values, columns); err != nil {
		return err
	}
	for _, values := range c.Former {
		if err := fit(values, columns); err != nil {
			return err
		}
	}
	return nil
}

// fit reports values that are not one of each column's type.
func fit(values []any, columns []Column) error {
	if len(values) != len(columns) {
		return fmt.Errorf("%d values for %d columns", len(values), len(columns))
	}
	for i, v := range values {
		if v != nil && TypeOf(v) != columns[i].Type {
			return fmt.Errorf("column %q is %v, its value a %T", columns[i].Name, columns[i].Type, v)
		}
	}
	return nil
}

// safeID reports whether s can be part of a file name, a header and a URL.
func safeID(s string) bool {
	for _, r := range s {
		if (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '-' && r != '_' {
			return false
		}
	}
	return s != "" && len(s) <= 128
}

// TypeOf returns the type that a column needs to hold v, or 0 if there is none.
func TypeOf(v any) Type {
	switch v.(type) {
	case string:
		return String
	case int64:
		return Int64
	case float64:
		return Float64
	case bool:
		return Bool
	case time.Time:
		return Time
	default:
		return 0
	}
}

// CheckResults reports whether results can be the answer to the batch. Who
// calls Write trusts nothing of an answer that fails it.
func (b Batch) CheckResults(results []Result) error {
	if len(results) != len(b.Changes) {
		return fmt.Errorf("batch %s: %d results for %d changes", b.ID, len(results), len(b.Changes))
	}
	for i, r := range results {
		if r.Outcome < Delivered || r.Outcome > Unknown {
			return fmt.Errorf("batch %s: change %d has the invalid outcome %d", b.ID, i, int(r.Outcome))
		}
		if r.RetryAfter < 0 {
			return fmt.Errorf("batch %s: change %d is to be retried in the past", b.ID, i)
		}
	}
	return nil
}

// All gives each of the n changes of a batch the same result, for outside
// systems that answer a batch as a whole.
func All(n int, r Result) []Result {
	results := make([]Result, n)
	for i := range results {
		results[i] = r
	}
	return results
}

func (o Op) String() string {
	return name(int(o), "Op", "upsert", "remove")
}

func (g Granularity) String() string {
	return name(int(g), "Granularity", "row", "sample", "batch")
}

func (t Type) String() string {
	return name(int(t), "Type", "string", "int64", "float64", "bool", "time")
}

func (o Outcome) String() string {
	return name(int(o), "Outcome", "delivered", "accepted", "rejected", "retry", "skipped", "unknown")
}

// name is the nth of names, counted from 1.
func name(n int, kind string, names ...string) string {
	if n < 1 || n > len(names) {
		return fmt.Sprintf("%s(%d)", kind, n)
	}
	return names[n-1]
}
