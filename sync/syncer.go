package syncer

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// Config is what a [Syncer] works with. Open, Connect, Unseal and Logger are
// needed; the rest has defaults. Spans go where those of the context of a call go.
type Config struct {
	// Open opens the warehouse. It is held while a plan is computed and between
	// two windows of batches, and never while a destination is waited for.
	Open func(ctx context.Context) (warehouse.Driver, error)

	// Connect starts the destination of a sync. The Syncer opens it with the
	// sync's configuration, and closes it. It is not called for a run that has
	// nothing to send.
	Connect func(ctx context.Context, s Sync) (destination.Destination, error)

	// Unseal opens one sealed value. It is called only for rows about to be
	// sent, and only for fields that the mapping names. Its error must not
	// hold the value.
	Unseal func(ctx context.Context, sealed Sealed) (string, error)

	// Keep seals what identifies somebody at a destination that cannot be told a
	// key, and Recall opens it for the same sync and key: no other holder of a key
	// can, and nothing else. Both are needed for such destinations alone. Their
	// errors must not hold the value.
	Keep   func(ctx context.Context, sync, key, value string) (sealed string, err error)
	Recall func(ctx context.Context, sync, key, sealed string) (value string, err error)

	// Logger gets counts, keys and codes, never a value.
	Logger *slog.Logger

	// Holder names this process to others that find a sync busy, such as
	// "sluis up on web-1 (4711)".
	Holder string

	Now  func() time.Time                                 // default time.Now
	Wait func(ctx context.Context, d time.Duration) error // default: a timer; the error is ctx's

	// LeaseTTL is how long a sync stays taken after the process that ran it was
	// killed: 3 minutes by default. It must be longer than WriteTimeout, and
	// than the difference between the clocks of the machines that run syncs.
	LeaseTTL time.Duration
	// WriteTimeout bounds one call of a destination: 1 minute by default.
	WriteTimeout time.Duration
	// Attempts is how often a row is sent in one run, 5 by default, with pauses
	// that double from RetryBase (1 second) up to RetryMax (30 seconds). A
	// destination that asks for a longer pause is left for the next run.
	Attempts            int
	RetryBase, RetryMax time.Duration
	// ReceiptTTL is how long a destination that accepted a change may take to say
	// what became of it: a day by default. After that nobody knows.
	ReceiptTTL time.Duration
	// KeepRuns is how long runs and plans are on record: 90 days by default.
	KeepRuns time.Duration
	// Samples is how many changes of each kind a Plan shows: 20 by default.
	Samples int
}

// Syncer plans and applies syncs. Its methods may be called concurrently; for
// one sync, one of them runs at a time, and the others fail with [*BusyError].
type Syncer struct{ config Config }

// New returns a Syncer. It does no I/O.
func New(c Config) (*Syncer, error) {
	if c.Open == nil || c.Connect == nil || c.Unseal == nil || c.Logger == nil {
		return nil, errors.New("syncer: Open, Connect, Unseal and Logger are needed")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Wait == nil {
		c.Wait = wait
	}
	setDefault(&c.LeaseTTL, 3*time.Minute)
	setDefault(&c.WriteTimeout, time.Minute)
	setDefault(&c.Attempts, 5)
	setDefault(&c.RetryBase, time.Second)
	setDefault(&c.RetryMax, 30*time.Second)
	setDefault(&c.ReceiptTTL, 24*time.Hour)
	setDefault(&c.KeepRuns, 90*24*time.Hour)
	setDefault(&c.Samples, 20)
	if c.LeaseTTL <= c.WriteTimeout {
		return nil, fmt.Errorf("syncer: LeaseTTL (%v) must be longer than WriteTimeout (%v), or a sync could be taken over while it sends", c.LeaseTTL, c.WriteTimeout)
	}
	return &Syncer{config: c}, nil
}

func setDefault[T comparable](value *T, otherwise T) {
	var zero T
	if *value == zero {
		*value = otherwise
	}
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// newID names a plan or a run, so that a list of names is in order of time.
func newID(kind string, now time.Time) string {
	return kind + "-" + now.UTC().Format(idTime) + "-" + strings.ToLower(rand.Text()[:10])
}

const idTime = "20060102T150405"

// madeAt is when newID made a name, in seconds.
func madeAt(id string) time.Time {
	_, rest, _ := strings.Cut(id, "-")
	at, _, _ := strings.Cut(rest, "-")
	made, err := time.Parse(idTime, at)
	if err != nil {
		return time.Unix(0, 0) // of another version
	}
	return made
}

// run is one plan, apply or both, of one sync, by the holder of its lease. It
// is used by one goroutine.
type run struct {
	config Config
	sync   Sync
	log    *slog.Logger
	driver warehouse.Driver // nil while the warehouse is released
	lease

	approved string // a plan whose removals a guard held, and somebody approved; or ""
}

// begin takes the lease on a sync.
func (e *Syncer) begin(ctx context.Context, s Sync) (*run, error) {
	r := &run{config: e.config, sync: s, log: e.config.Logger.With("sync", s.Name)}
	d, err := r.warehouse(ctx)
	if err != nil {
		return nil, err
	}
	if err := createTables(ctx, d); err != nil {
		return nil, errors.Join(fmt.Errorf("sync %s: %w", s.Name, err), r.release())
	}
	if err := r.take(ctx, d); err != nil {
		return nil, errors.Join(err, r.release())
	}
	return r, nil
}

// end gives the lease back, also when ctx is done.
func (r *run) end(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	d, err := r.warehouse(ctx)
	if err != nil {
		return errors.Join(err, r.release())
	}
	return errors.Join(r.giveBack(ctx, d), r.release())
}

// warehouse returns the warehouse, which it opens if need be. Whoever held the
// lease before must then hold it still.
func (r *run) warehouse(ctx context.Context) (warehouse.Driver, error) {
	if r.driver != nil {
		return r.driver, nil
	}
	d, err := r.config.Open(ctx)
	if err != nil {
		return nil, fmt.Errorf("sync %s: %w", r.sync.Name, err)
	}
	r.driver = d
	if r.token == "" {
		return d, nil
	}
	if err := r.renew(ctx, d); err != nil {
		return nil, errors.Join(err, r.release())
	}
	return d, nil
}

// release lets others use the warehouse.
func (r *run) release() error {
	if r.driver == nil {
		return nil
	}
	d := r.driver
	r.driver = nil
	if err := d.Close(); err != nil {
		return fmt.Errorf("sync %s: close the warehouse: %w", r.sync.Name, err)
	}
	return nil
}
