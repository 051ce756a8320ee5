package collector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluis-cdp/sluis/collector/spool"
)

// Loader moves records from the spool to a [Sink], in order and exactly once:
// it goes on where the sink says that the last batch ended, and lets the spool
// forget only what has landed.
type Loader struct {
	Spool  *spool.Spool
	Sink   Sink
	Logger *slog.Logger
	// Window writes down the ids of what landed before the spool forgets them; nil
	// if nobody asks.
	Window *Window
	// Suppressed are the people who were erased: what the spool still has of them
	// does not land. nil if nobody ever was.
	Suppressed *SuppressionList
	// Every is how long the first record of a batch waits for others; the default
	// is a second.
	Every time.Duration

	landed   atomic.Uint64 // the number from which landing goes on
	mu       sync.Mutex
	progress Progress
}

// maxBatchRecords and maxBatchRows bound the memory that a batch takes.
const (
	maxBatchRecords = 20_000
	maxBatchRows    = 100_000
)

// Progress is how landing goes. The counters are of this loader's life.
type Progress struct {
	Batches, Rows int64 // landed
	Failures      int64 // attempts to land a batch that failed
	// Failing is since when each attempt has failed; zero if the last one succeeded.
	Failing time.Time
	// Oldest is when the oldest record that has not landed was appended, as far as
	// the loader has seen; zero if none waits for it.
	Oldest time.Time
	Last   time.Time // when a batch landed
}

// Progress may be called while Run runs.
func (l *Loader) Progress() Progress {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.progress
}

// note changes the progress.
func (l *Loader) note(change func(*Progress)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(&l.progress)
}

// Run lands records until the spool is closed and all of it has landed, or ctx
// is done. It is called once. A sink that fails is tried again for as long as
// it takes, while the spool fills.
func (l *Loader) Run(ctx context.Context) error {
	if l.Every <= 0 {
		l.Every = time.Second
	}
	position, until, err := l.Sink.Position(ctx, l.Spool.ID())
	if err != nil {
		return fmt.Errorf("finding where to go on landing: %w", err)
	}
	if l.Window == nil {
		l.Window = NewWindow(0)
	}
	l.forgotten(l.Window.catchUp(ctx, l.Spool, position))
	l.landed.Store(position)
	l.trim(position)
	reader := l.Spool.Reader(position)
	defer reader.Close() //nolint:errcheck // nothing depends on it
	batcher := batcher{loader: l, reader: reader, from: position, until: until}
	for {
		batch, err := batcher.next(ctx)
		if errors.Is(err, io.EOF) {
			l.trim(l.landed.Load()) // what was the last segment until the spool was closed
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the spool: %w", err)
		}
		if err := l.land(ctx, batch); err != nil {
			return err
		}
		l.forgotten(l.Window.landed(&batch))
		l.landed.Store(batch.Last)
		l.trim(batch.Last)
		l.compact(batch.Day)
	}
}

// trim lets the spool forget what has landed. Where that fails nothing is lost, and
// nothing lands twice: it is tried again after the next batch, or the next start.
func (l *Loader) trim(before uint64) {
	if err := l.Spool.Trim(before); err != nil {
		l.Logger.Warn("trimming the spool failed; it is tried again after the next batch, or at the next start", "error", err)
	}
}

// Shed lets the spool forget all that has landed, also what is in the segment that
// it is writing: somebody was erased. It may be called while Run runs.
func (l *Loader) Shed(ctx context.Context) error {
	if err := l.Spool.Cut(ctx); err != nil && !errors.Is(err, spool.ErrClosed) {
		return fmt.Errorf("beginning a segment of the spool: %w", err)
	}
	return l.Spool.Trim(l.landed.Load())
}

// forgotten logs that message ids were not written down. Landing goes on: on a
// full disk, trimming the spool is what helps, and models remove copies.
func (l *Loader) forgotten(err error) {
	if err != nil {
		l.Logger.Warn("message ids were not written down; after a restart, some that are sent again land twice", "error", err)
	}
}

// Compacter is a [Sink] that lands batches apart, and can merge those of a day.
type Compacter interface {
	Compact(day, now time.Time) error
}

// compactEvery is how many batches land between two looks at what can be merged.
const compactEvery = 16

// compact merges now and then, on the batch's day and, for what is left of it,
// the day before. Nothing depends on it: what fails is tried again.
func (l *Loader) compact(day time.Time) {
	sink, ok := l.Sink.(Compacter)
	if !ok || l.Progress().Batches%compactEvery != 1 {
		return
	}
	for _, d := range []time.Time{day.AddDate(0, 0, -1), day} {
		if err := sink.Compact(d, time.Now()); err != nil {
			l.Logger.Warn("merging landed folders failed; it is tried again later", "error", err)
		}
	}
}

// land tries until the batch has landed or ctx is done.
func (l *Loader) land(ctx context.Context, b Batch) error {
	const longest = 30 * time.Second
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, longest) {
		err := l.attempt(ctx, b)
		l.note(func(p *Progress) { p.attempted(b, err, time.Now()) })
		if err == nil {
			return nil
		}
		l.Logger.Error("landing a batch failed; it is tried again", "first", b.First, "last", b.Last-1, "retry_in", wait.String(), "error", err)
		select {
		case <-ctx.Done():
			return fmt.Errorf("landing stopped; the records stay in the spool: %w", err)
		case <-time.After(wait):
		}
	}
}

// Entrance is that of a [Sink] that lands a batch at once or not at all, in a place that
// others change too, one at a time: between Enter and leave nobody else does.
type Entrance interface {
	Enter(ctx context.Context) (leave func() error, err error)
}

// attempt lands a batch, through an entrance less what it has of people who were
// erased: what is known of them inside is all that there is to be known. A sink
// that lands a batch in parts, as BigQuery's, needs it to be each time what it was
// the first time. There all of it lands, and the next sweep of the warehouse takes
// them out, before models are built.
func (l *Loader) attempt(ctx context.Context, b Batch) (err error) {
	place, ok := l.Sink.(Entrance)
	if !ok {
		return l.Sink.Land(ctx, b)
	}
	leave, err := place.Enter(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, leave()) }()
	if _, err := l.Suppressed.Reread(); err != nil {
		return err
	}
	return l.Sink.Land(ctx, b.withoutErased(l.Suppressed))
}

// attempted takes down how an attempt to land a batch ended.
func (p *Progress) attempted(b Batch, err error, now time.Time) {
	if err != nil {
		p.Failures++
		if p.Failing.IsZero() {
			p.Failing = now
		}
		return
	}
	p.Batches++
	for _, n := range b.Counted() {
		p.Rows += int64(n)
	}
	p.Failing, p.Oldest, p.Last = time.Time{}, time.Time{}, now
}

// batcher cuts the spool into batches.
type batcher struct {
	loader *Loader
	reader *spool.Reader
	ahead  *spool.Record // read, but of the next batch

	from, until uint64 // the batch that the sink has begun; until is 0 if there is none
}

// next returns the next batch of at least one record, or io.EOF when the spool
// is closed and read to its end.
func (b *batcher) next(ctx context.Context) (Batch, error) {
	if b.until > 0 {
		return b.begun(ctx)
	}
	first, err := b.take(ctx)
	if err != nil {
		return Batch{}, err
	}
	b.loader.note(func(p *Progress) { p.Oldest = first.Time })
	batch := Batch{SpoolID: b.loader.Spool.ID(), First: first.Seq, Last: first.Seq + 1}
	b.add(&batch, first, false)

	deadline, cancel := context.WithTimeout(ctx, b.loader.Every)
	defer cancel()
	for n := 1; n < maxBatchRecords && len(batch.Events) < maxBatchRows; n++ {
		r, err := b.take(deadline)
		if err != nil {
			break // time is up, or the end: what there is lands now
		}
		if !b.add(&batch, r, true) {
			b.ahead = &r
			break
		}
		batch.Last = r.Seq + 1
	}
	return dated(batch), nil
}

// begun returns the batch that the sink has begun, cut exactly where it was cut
// then, whatever clock and limits would say now.
func (b *batcher) begun(ctx context.Context) (Batch, error) {
	batch := Batch{SpoolID: b.loader.Spool.ID(), First: b.from, Last: b.until}
	b.until = 0
	for next := b.from; next < batch.Last; {
		r, err := b.take(ctx)
		if errors.Is(err, io.EOF) {
			break // records were lost; the sink will see it
		}
		if err != nil {
			return Batch{}, err
		}
		if r.Seq >= batch.Last {
			b.ahead = &r
			break
		}
		if next == b.from {
			b.loader.note(func(p *Progress) { p.Oldest = r.Time })
		}
		b.add(&batch, r, false)
		next = r.Seq + 1
	}
	return dated(batch), nil
}

// dated gives a batch of nothing but unreadable records a day.
func dated(batch Batch) Batch {
	if batch.Day.IsZero() {
		batch.Day = time.Now()
	}
	return batch
}

// take is the next record. A place that cannot be read is tried again until the
// reader gives it up: an error that ended the program would come again after each
// start.
func (b *batcher) take(ctx context.Context) (spool.Record, error) {
	if r := b.ahead; r != nil {
		b.ahead = nil
		return *r, nil
	}
	const pause = 100 * time.Millisecond
	for {
		r, err := b.reader.Next(ctx)
		if err == nil || errors.Is(err, io.EOF) || ctx.Err() != nil {
			return r, err
		}
		b.loader.Logger.Error("reading the spool failed; it is tried again", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// add adds a record's rows. It returns false, and adds nothing, if the record
// belongs to another day and sameDay is asked for. A record that cannot be
// decoded does not block the rest: it is kept aside.
func (b *batcher) add(batch *Batch, r spool.Record, sameDay bool) bool {
	rec, err := ParseRecord(r.Data)
	if err != nil {
		b.loader.Logger.Error("a spool record cannot be read by this version and is kept aside", "seq", r.Seq, "error", err)
		batch.Unreadable = append(batch.Unreadable, Unreadable{r.Seq, r.Data})
		return true
	}
	day := rec.ReceivedAt.UTC().Truncate(24 * time.Hour)
	if batch.Day.IsZero() {
		batch.Day = day
	}
	if sameDay && !day.Equal(batch.Day) {
		return false
	}
	batch.append(rec.Rows, batch.SpoolID, r.Seq, batch.First)
	return true
}
