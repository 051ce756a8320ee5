package spool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"
)

// Record is what was appended.
type Record struct {
	Seq  uint64
	Time time.Time // of the append, by the clock of the machine
	Data []byte    // the caller's to keep, not to change
}

// Reader reads the spool in order. It is used by one goroutine.
type Reader struct {
	s      *Spool
	next   uint64 // lower records are not wanted
	closed bool

	seg      *segment // being read; nil before the first and after a skipped one
	file     File
	sc       *scanner
	reported uint64 // of sc.lost

	failures int // of opening one segment
}

// Reader starts to read at the first record with a number of from or more. It
// must be closed. There may be several, but one consumer is what the spool is
// made for: Trim knows but one mark.
func (s *Spool) Reader(from uint64) *Reader {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readers++
	return &Reader{s: s, next: max(from, 1)}
}

// Next returns the next durable record, waiting for it if need be. It returns
// io.EOF, as it is, when the spool is closed and all of it was read.
//
// After another error Next may be called again, and should be, after a pause:
// a place that cannot be read is tried a few times, then reported as damaged
// and passed over.
func (r *Reader) Next(ctx context.Context) (Record, error) {
	for {
		if err := ctx.Err(); err != nil {
			return Record{}, err
		}
		rec, ok, err := r.TryNext()
		if ok || err != nil {
			return rec, err
		}
		select {
		case <-r.s.reaches(r.next):
		case <-ctx.Done():
		}
	}
}

// TryNext is Next without waiting: it reports false if no record is there yet.
func (r *Reader) TryNext() (Record, bool, error) {
	if r.closed {
		return Record{}, false, errors.New("read the spool: the reader is closed")
	}
	for {
		if r.seg != nil {
			f, err := r.sc.next()
			if errors.Is(err, io.EOF) {
				r.sc.end(r.seg.torn)
				r.next = max(r.next, r.sc.stop)
			}
			r.report()
			switch {
			case err == nil && f.seq < r.next:
				continue
			case err == nil:
				r.next = f.seq + 1
				return Record{Seq: f.seq, Time: f.time, Data: f.data}, true, nil
			case !errors.Is(err, io.EOF):
				return Record{}, false, fmt.Errorf("read segment %s of the spool: %w", segmentName(r.seg.first), err)
			}
		}
		if more, err := r.proceed(); !more {
			return Record{}, false, err
		}
	}
}

// report takes down what the scanner found to be lost.
func (r *Reader) report() {
	if r.sc.lost == r.reported {
		return
	}
	if r.reported == 0 {
		r.s.opts.Logger.Error("a segment is damaged; records are lost, and reading goes on behind them",
			"segment", segmentName(r.seg.first), "next", r.sc.expect)
	}
	r.reported = r.sc.lost
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	r.seg.damaged = true
	// Not added up: another reader may have found the same.
	r.seg.lost = max(r.seg.lost, r.sc.lost)
}

// proceed makes ready to read on at next: further in the same segment, or in
// another one. It reports false if there is nothing yet.
func (r *Reader) proceed() (bool, error) {
	seg, limit, stop, err := r.s.locate(r.next)
	if seg == nil {
		return false, err
	}
	if seg == r.seg {
		r.sc.limit, r.sc.stop = limit, stop
		return true, nil
	}
	if err := r.release(); err != nil {
		return false, err
	}
	file, err := r.s.opts.FS.Open(r.s.path(segmentName(seg.first)))
	if err != nil {
		return r.unopened(seg, stop, err)
	}
	r.failures = 0
	r.read(seg, file, limit, stop)
	return true, nil
}

// read begins to read a segment.
func (r *Reader) read(seg *segment, file File, limit int64, stop uint64) {
	r.seg, r.file, r.reported = seg, file, 0
	r.sc = &scanner{
		file: file, seed: seg.seed(seg.first),
		off: headerSize, limit: limit,
		expect: seg.first, stop: stop, from: r.next,
	}
}

// unopened decides what a segment that cannot be opened means.
func (r *Reader) unopened(seg *segment, stop uint64, err error) (bool, error) {
	if !denied(err) {
		r.failures++
	}
	gone := errors.Is(err, fs.ErrNotExist)
	if now, _, _, _ := r.s.locate(r.next); gone && now != seg {
		return true, nil // trimmed meanwhile
	}
	if !gone && r.failures < readAttempts {
		return false, fmt.Errorf("open segment %s of the spool: %w", segmentName(seg.first), err)
	}
	// All of its records are lost.
	r.failures = 0
	r.read(seg, nil, headerSize, stop)
	r.sc.end(false)
	r.report()
	r.next = max(r.next, stop)
	return true, r.release()
}

// release lets go of the segment that was read.
func (r *Reader) release() error {
	file := r.file
	r.seg, r.sc, r.file = nil, nil, nil
	if file == nil {
		return nil
	}
	return file.Close()
}

// Close ends the reading. It may be repeated.
func (r *Reader) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	err := r.release()
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	r.s.readers--
	return errors.Join(err, r.s.unlockLocked())
}

// locate returns the segment that may hold the first record with a number of
// next or more, and where that segment ends. Without one it returns nil, and
// io.EOF if there never will be.
func (s *Spool) locate(next uint64) (_ *segment, limit int64, stop uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, seg := range s.segments {
		stop := s.durable
		if i+1 < len(s.segments) {
			stop = s.segments[i+1].after
		}
		if next < stop {
			return seg, seg.end, stop, nil
		}
	}
	if s.drained {
		return nil, 0, 0, io.EOF
	}
	return nil, 0, 0, nil
}

// reaches returns a channel that is closed when the log may hold a record with
// a number of next or more, or never will.
func (s *Spool) reaches(next uint64) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.advanced == nil {
		s.advanced = make(chan struct{})
	}
	advanced := s.advanced
	if next < s.durable || s.drained {
		s.announceLocked() // it has happened since the caller looked
	}
	return advanced
}
