// Package spool is the crash-safe queue on the collector's disk. Records are
// opaque bytes: many goroutines append, one consumer reads in order and trims
// what has landed elsewhere.
//
// DESIGN.md gives the format, the failures that are assumed, and what is
// promised under them.
//
// The package imports no other part of the product.
package spool

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// Errors to be tested with errors.Is.
var (
	ErrFull     = errors.New("the spool is full")                   // retry when something was trimmed
	ErrTooLarge = errors.New("the record is too large")             // never retry
	ErrClosed   = errors.New("the spool is closed")                 // never retry
	ErrLocked   = errors.New("another process is using this spool") // by Open
)

// Options tell how to open a spool. Only Dir is required.
type Options struct {
	Dir          string       // made if it does not exist
	FS           FS           // nil: that of the operating system
	SegmentBytes int64        // size of a segment file; default 64 MiB
	MaxBytes     int64        // bound of the whole directory; default 4 GiB
	MaxRecord    int          // largest record; default 4 MiB, or what fits into a segment
	Logger       *slog.Logger // damage and recovery, never content; nil: silent
}

// withDefaults completes and checks the options.
func (o Options) withDefaults() (Options, error) {
	if o.FS == nil {
		o.FS = osFS{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = 64 << 20
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 4 << 30
	}
	fits := o.SegmentBytes - headerSize - frameOverhead
	if o.MaxRecord == 0 {
		o.MaxRecord = int(min(4<<20, fits))
	}
	switch {
	case o.Dir == "":
		return o, errors.New("no directory is given")
	case o.SegmentBytes > maxSegmentBytes:
		return o, fmt.Errorf("a segment of %d bytes is above the limit of %d", o.SegmentBytes, maxSegmentBytes)
	case o.MaxRecord < 0 || int64(o.MaxRecord) > fits:
		return o, fmt.Errorf("records of %d bytes do not fit into segments of %d", o.MaxRecord, o.SegmentBytes)
	case o.MaxBytes < 2*(o.SegmentBytes+headerSize):
		// One segment is being written while another cannot be removed yet.
		return o, fmt.Errorf("a bound of %d bytes is less than two segments of %d", o.MaxBytes, o.SegmentBytes)
	}
	return o, nil
}

// Spool is an open spool. Its methods may be called concurrently.
type Spool struct {
	opts Options
	self identity
	lock io.Closer
	// trimming serialises Trim, which does I/O without holding mu.
	trimming sync.Mutex
	// committed is closed when the committer has ended.
	committed chan struct{}
	closeOnce sync.Once
	closeErr  error

	committer committer // used by its goroutine only, and by Close after that
	// failing: the committer's last attempt to write failed, which was logged.
	failing atomic.Bool

	mu      sync.Mutex
	arrived *sync.Cond // waiting has grown, or closed was set
	waiting []*request
	closed  bool // no record is admitted any more
	drained bool // no record will become durable any more
	readers int
	writing bool // to the last segment

	segments []*segment // in order; the last one is never trimmed
	durable  uint64     // the log ends below this number
	advanced chan struct{}
	aside    setAside
	trimmed  uint64
}

// segment is a file of the log. Its fields are guarded by Spool.mu.
type segment struct {
	header
	size   int64 // on disk, as it counts against MaxBytes
	end    int64 // frames end here, or before
	oldest time.Time
	// torn: it was the last one when its process ended without Close, so that
	// its last group may be incomplete. The leap of the numbers tells.
	torn bool
	// damaged: acknowledged records, or the header, cannot be read.
	damaged bool
	lost    uint64 // acknowledged numbers known to be unreadable
}

// setAside counts what is renamed to damaged-….
type setAside struct {
	segments int
	bytes    int64
	lost     uint64
}

// Open opens the spool in the directory, or makes one, and recovers it from
// whatever a crash left. It may be repeated after an error. [ErrLocked] means
// that the directory is in use.
func Open(opts Options) (*Spool, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("spool options: %w", err)
	}
	if err := opts.FS.MkdirAll(opts.Dir); err != nil {
		return nil, fmt.Errorf("make the spool directory: %w", err)
	}
	lock, err := opts.FS.Lock(filepath.Join(opts.Dir, lockName))
	if err != nil {
		return nil, fmt.Errorf("lock the spool directory: %w", err)
	}
	s := &Spool{opts: opts, lock: lock, committed: make(chan struct{})}
	s.arrived = sync.NewCond(&s.mu)
	if err := s.recover(); err != nil {
		return nil, errors.Join(fmt.Errorf("recover the spool in %s: %w", opts.Dir, err), lock.Close())
	}
	go s.commitAll()
	return s, nil
}

// ID tells this spool from all others: 16 hexadecimal digits, chosen when it
// was made. A pair of ID and number names a record for good.
func (s *Spool) ID() string { return s.self.String() }

// Append adds a record and returns its number. When it returns nil, the record
// is durable. The record must not change meanwhile, and is not kept.
//
// An error means that the record is not acknowledged. [ErrFull],
// [ErrTooLarge], [ErrClosed] and the error of ctx mean that nothing of it was
// written. After any other error it may still be read after a restart, if it
// is intact; see DESIGN.md. The next Append starts afresh.
//
// ctx ends the wait for admission. A record whose writing has begun is waited
// for, and reported as it turned out.
func (s *Spool) Append(ctx context.Context, record []byte) (seq uint64, err error) {
	if len(record) > s.opts.MaxRecord {
		return 0, fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, len(record), s.opts.MaxRecord)
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	req := &request{
		data: record,
		crc:  crc32.Checksum(record, castagnoli),
		done: make(chan struct{}),
	}
	return s.await(ctx, req)
}

// await hands a request to the committer and waits for the outcome.
func (s *Spool) await(ctx context.Context, req *request) (seq uint64, err error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return 0, ErrClosed
	}
	s.enqueueLocked(req)
	s.mu.Unlock()

	select {
	case <-req.done:
	case <-ctx.Done():
		if s.withdraw(req) {
			return 0, ctx.Err()
		}
		<-req.done
	}
	return req.seq, req.err
}

// Check tells whether records can be written, without writing one: after a
// failed write it makes the next segment, as the next Append would. It returns
// nil, [ErrClosed], the error of ctx, or what stands in the way. So a spool
// that gets no records while it fails still finds out when it works again.
func (s *Spool) Check(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	_, err := s.await(ctx, &request{probe: true, done: make(chan struct{})})
	return err
}

// Cut ends the segment that is being written, so that [Spool.Trim] can remove it
// once its records are needed no more. One that has no records stays. It returns
// nil, [ErrClosed], [ErrFull], the error of ctx, or what stands in the way.
func (s *Spool) Cut(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	_, err := s.await(ctx, &request{probe: true, cut: true, done: make(chan struct{})})
	return err
}

// Trim says that records below the number before are needed no more, and
// removes the segments that hold only such. It may be repeated, after an error
// too, and with lower numbers.
func (s *Spool) Trim(before uint64) error {
	s.trimming.Lock()
	defer s.trimming.Unlock()

	s.mu.Lock()
	s.trimmed = max(s.trimmed, min(before, s.durable))
	var victims []*segment
	for i := 0; i+1 < len(s.segments) && s.segments[i+1].after <= before; i++ {
		victims = append(victims, s.segments[i])
	}
	s.mu.Unlock()
	if len(victims) == 0 {
		return nil
	}
	for _, seg := range victims {
		if err := s.dispose(seg); err != nil {
			return fmt.Errorf("trim the spool: %w", err)
		}
	}
	if err := s.opts.FS.SyncDir(s.opts.Dir); err != nil {
		return fmt.Errorf("trim the spool: sync directory: %w", err)
	}
	return nil
}

// dispose removes the first segment, or sets it aside if it is damaged.
func (s *Spool) dispose(seg *segment) error {
	name := segmentName(seg.first)
	s.mu.Lock()
	damaged := seg.damaged
	s.mu.Unlock()
	if damaged {
		if err := s.putAside(name); err != nil {
			return err
		}
	} else if err := s.opts.FS.Remove(s.path(name)); !isGone(err) {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.segments = s.segments[1:]
	if damaged {
		s.aside.segments++
		s.aside.bytes += seg.size
	}
	s.aside.lost += seg.lost
	return nil
}

// Stats describe a spool at one moment.
type Stats struct {
	Bytes    int64 // of all files, preallocated space included
	MaxBytes int64 // the bound for Bytes
	Free     int64 // of records that are sure to fit before ErrFull, frames included
	Segments int   // in the log

	First   uint64 // no lower number is on disk
	Next    uint64 // the log ends below this number; what is to come is not lower
	Records uint64 // in the log and not trimmed; those that were lost included

	// Failing: the last attempt to write failed, for another reason than
	// MaxBytes. The next Append or Check tries again.
	Failing bool

	// Oldest is when the oldest record on disk was appended; zero if all
	// have been trimmed. Landed records stay until their segment is full, so
	// this bounds the age of what waits, from above.
	Oldest time.Time

	// Damaged counts segments found damaged or foreign, Aside those of them
	// that were renamed to damaged-…, where they count in Bytes until removed
	// by hand. Lost counts acknowledged records that could not be read.
	Damaged, Aside int
	Lost           uint64
}

// Stats tells how the spool is doing. It does no I/O.
func (s *Spool) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Stats{
		Bytes:    s.usedLocked(),
		MaxBytes: s.opts.MaxBytes,
		Free:     s.freeLocked(),
		Segments: len(s.segments),
		Failing:  s.failing.Load(),
		First:    s.segments[0].first,
		Next:     s.durable,
		Damaged:  s.aside.segments,
		Aside:    s.aside.segments,
		Lost:     s.aside.lost,
	}
	for i, seg := range s.segments {
		end := s.durable
		if i+1 < len(s.segments) {
			end = s.segments[i+1].after
		}
		if from := max(seg.first, s.trimmed); end > from {
			st.Records += end - from
		}
		if seg.damaged {
			st.Damaged++
		}
		st.Lost += seg.lost
		if st.Oldest.IsZero() && s.trimmed < s.durable {
			st.Oldest = seg.oldest
		}
	}
	return st
}

// usedLocked is the size of all files.
func (s *Spool) usedLocked() int64 {
	used := s.aside.bytes + headerSize // identity
	for _, seg := range s.segments {
		used += seg.size
	}
	return used
}

// freeLocked counts the rest of the segment that is being written, and the
// segments that may still be begun.
func (s *Spool) freeLocked() int64 {
	used, free := s.usedLocked()+headerSize, int64(0) // with room for the rest segment
	if s.writing {
		last := s.segments[len(s.segments)-1]
		free = max(s.opts.SegmentBytes-last.end, 0)
	}
	more := max(s.opts.MaxBytes-used, 0) / s.opts.SegmentBytes
	return free + more*(s.opts.SegmentBytes-headerSize)
}

// Close admits no more records, waits until those that wait are durable, and
// ends the spool. Readers read on to the end of the log, and the directory
// stays locked until they are closed too.
//
// An error means only that the next Open has more to do: nothing acknowledged
// depends on it. Further calls return the same.
func (s *Spool) Close() error {
	s.closeOnce.Do(func() {
		s.mu.Lock()
		s.closed = true
		s.arrived.Signal()
		s.mu.Unlock()
		<-s.committed

		err := s.rest()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.drained = true
		s.announceLocked()
		s.closeErr = errors.Join(err, s.unlockLocked())
	})
	return s.closeErr
}

// unlockLocked lets other processes in when nobody here uses the files.
func (s *Spool) unlockLocked() error {
	if !s.drained || s.readers > 0 || s.lock == nil {
		return nil
	}
	err := s.lock.Close()
	s.lock = nil
	if err != nil {
		return fmt.Errorf("unlock the spool directory: %w", err)
	}
	return nil
}

// announceLocked wakes readers: the log has grown, or has ended.
func (s *Spool) announceLocked() {
	if s.advanced != nil {
		close(s.advanced)
		s.advanced = nil
	}
}

func (s *Spool) path(name string) string { return filepath.Join(s.opts.Dir, name) }
