package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"syscall"
	"time"
)

// maxGroup bounds what is written at once, unless one record is larger.
const maxGroup = 4 << 20

// request is a record on its way to the disk.
type request struct {
	data []byte
	crc  uint32
	// probe is a request of [Spool.Check]: it writes no record.
	probe bool
	// cut is a probe that wants a new segment, if the last one has records.
	cut bool
	// index is the place in Spool.waiting, guarded by Spool.mu; negative once
	// writing may have begun.
	index int

	// Set before done is closed.
	seq  uint64
	err  error
	done chan struct{}
}

func (r *request) finish(seq uint64, err error) {
	r.seq, r.err = seq, err
	close(r.done)
}

// committer is the state of the goroutine that alone writes to segments.
type committer struct {
	next   uint64   // the number that is given next
	active *segment // nil: the next group begins a new one
	file   File     // of active
	seed   uint32   // of active
	buf    []byte
}

func (s *Spool) enqueueLocked(req *request) {
	req.index = len(s.waiting)
	s.waiting = append(s.waiting, req)
	s.arrived.Signal()
}

// withdraw takes back a request. It reports whether it was in time.
func (s *Spool) withdraw(req *request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if req.index < 0 {
		return false
	}
	last := len(s.waiting) - 1
	s.waiting[req.index] = s.waiting[last]
	s.waiting[req.index].index = req.index
	s.waiting[last] = nil
	s.waiting = s.waiting[:last]
	return true
}

// commitAll writes what arrives, in groups, until the spool is closed and
// nothing waits.
func (s *Spool) commitAll() {
	defer close(s.committed)
	var batch []*request
	for {
		batch = s.take(batch)
		if len(batch) == 0 {
			return
		}
		s.commit(s.answerProbes(batch))
		clear(batch)
		// Those who were just answered often have the next record at hand. Let
		// them join, or groups settle at half of the callers.
		runtime.Gosched()
	}
}

// take waits for requests and returns all there are; none after the last.
// spare is reused.
func (s *Spool) take(spare []*request) []*request {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.waiting) == 0 && !s.closed {
		s.arrived.Wait()
	}
	batch := s.waiting
	s.waiting = spare[:0]
	for _, req := range batch {
		req.index = -1
	}
	return batch
}

// answerProbes takes the probes out of the batch, in place, and tells each
// whether a segment can be written.
func (s *Spool) answerProbes(batch []*request) []*request {
	rest := batch[:0]
	for _, req := range batch {
		if !req.probe {
			rest = append(rest, req)
			continue
		}
		var err error
		full := req.cut && s.committer.active != nil && s.committer.active.end > headerSize
		if full || !req.cut && s.committer.active == nil || s.failing.Load() {
			if err = s.rotate(); err == nil {
				s.logFailing(nil)
			}
		}
		req.finish(0, err)
	}
	return rest
}

// commit writes the requests and finishes each.
func (s *Spool) commit(batch []*request) {
	for len(batch) > 0 {
		n := s.fitting(batch)
		if n == 0 {
			if err := s.rotate(); err != nil {
				for _, req := range batch {
					req.finish(0, err)
				}
				return
			}
			continue
		}
		group := batch[:n]
		batch = batch[n:]
		first := s.committer.next
		err := s.write(group)
		for i, req := range group {
			if err != nil {
				req.finish(0, err)
			} else {
				req.finish(first+uint64(i), nil)
			}
		}
	}
}

// fitting counts the requests that may be written as one group into the
// active segment.
func (s *Spool) fitting(batch []*request) int {
	c := &s.committer
	if c.active == nil {
		return 0
	}
	room := s.opts.SegmentBytes - c.active.end
	var size int64
	for i, req := range batch {
		size += int64(frameOverhead + len(req.data))
		if size > room || (size > maxGroup && i > 0) {
			return i
		}
	}
	return len(batch)
}

// write makes the group durable in the active segment, or gives the segment
// and the group's numbers up.
func (s *Spool) write(group []*request) error {
	c := &s.committer
	first, now := c.next, time.Now()
	c.buf = c.buf[:0]
	for _, req := range group {
		c.buf = appendFrame(c.buf, c.seed, frame{dataCRC: req.crc, seq: c.next, group: first, time: now, data: req.data})
		c.next++
	}
	if err := writeSync(c.file, c.buf, c.active.end); err != nil {
		err = fmt.Errorf("append to segment %s of the spool: %w", segmentName(c.active.first), err)
		s.logFailing(err)
		s.retire()
		return err
	}
	s.logFailing(nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.active.oldest.IsZero() {
		c.active.oldest = now
	}
	c.active.end += int64(len(c.buf))
	c.active.size = max(c.active.size, c.active.end)
	s.durable = c.next
	s.announceLocked()
	if cap(c.buf) > 2*maxGroup {
		c.buf = nil // one huge record should not hold its memory for good
	}
	return nil
}

// logFailing logs when writing begins to fail and when it works again, and not
// each of the thousand attempts between.
func (s *Spool) logFailing(err error) {
	failing := err != nil
	switch {
	case failing && !s.failing.Load():
		s.opts.Logger.Error("the spool cannot write; each append tries again", "error", err)
	case !failing && s.failing.Load():
		s.opts.Logger.Info("the spool can write again", "next", s.committer.next)
	}
	s.failing.Store(failing)
}

// writeSync puts b at off, durably. After an error the file must not be synced
// again.
func writeSync(f File, b []byte, off int64) error {
	if _, err := f.WriteAt(b, off); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	return nil
}

// rotate begins a new segment. The old one, if any, stays in use when that
// fails.
func (s *Spool) rotate() error {
	c := &s.committer
	s.mu.Lock()
	used, after := s.usedLocked(), s.durable
	last := s.segments[len(s.segments)-1]
	s.mu.Unlock()
	if c.active != nil {
		used -= c.active.size - c.active.end // what retire will cut off
	}
	if used+s.opts.SegmentBytes+headerSize > s.opts.MaxBytes { // room for the rest segment too
		return fmt.Errorf("%w: %d of %d bytes; it drains when the loader lands records", ErrFull, used, s.opts.MaxBytes)
	}
	h := header{identity: s.self, first: c.next, after: after, made: time.Now()}
	file, err := s.create(segmentName(h.first), h, s.opts.SegmentBytes)
	if err != nil {
		err = fmt.Errorf("begin a segment of the spool: %w", asFull(err))
		s.logFailing(err)
		return err
	}
	s.retire()
	seg := &segment{header: h, size: s.opts.SegmentBytes, end: headerSize}
	c.active, c.file, c.seed = seg, file, s.self.seed(h.first)

	s.mu.Lock()
	defer s.mu.Unlock()
	if last.first == h.first { // a rest segment, just replaced
		s.segments = s.segments[:len(s.segments)-1]
	}
	s.segments = append(s.segments, seg)
	s.writing = true
	return nil
}

// retire ends the writing to the active segment, for good or for bad.
func (s *Spool) retire() {
	c := &s.committer
	if c.active == nil {
		return
	}
	// Cutting off the unused rest only saves space; where the segment ends is
	// for the next one to say. So errors do no harm.
	cut := c.file.Truncate(c.active.end) == nil
	if err := c.file.Close(); err != nil {
		s.opts.Logger.Warn("closing a spool segment failed", "segment", segmentName(c.active.first), "error", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if cut {
		c.active.size = c.active.end
	}
	c.active, c.file = nil, nil
	s.writing = false
}

// rest marks the end of the log, so that the next Open need not look for it.
func (s *Spool) rest() error {
	s.retire()
	s.mu.Lock()
	last, after := s.segments[len(s.segments)-1], s.durable
	s.mu.Unlock()
	if last.rest {
		return nil
	}
	h := header{identity: s.self, rest: true, first: s.committer.next, after: after, made: time.Now()}
	file, err := s.create(segmentName(h.first), h, 0)
	if err != nil {
		return fmt.Errorf("close the spool in good order: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.segments = append(s.segments, &segment{header: h, size: headerSize, end: headerSize})
	return file.Close()
}

// create makes a file that begins with the header, durably and under its name
// at once. One of that name is replaced: it holds no record.
func (s *Spool) create(name string, h header, allocate int64) (_ File, err error) {
	fsys, tmp := s.opts.FS, s.path(name+tmpSuffix)
	file, err := fsys.Create(tmp)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			// Open removes what stays behind.
			_ = file.Close()
			_ = fsys.Remove(tmp)
		}
	}()
	if allocate > 0 {
		if err := file.Allocate(allocate); err != nil {
			return nil, err
		}
	}
	if err := writeSync(file, h.encode(), 0); err != nil {
		return nil, err
	}
	if err := fsys.Rename(tmp, s.path(name)); err != nil {
		return nil, err
	}
	if err := fsys.SyncDir(s.opts.Dir); err != nil {
		return nil, fmt.Errorf("sync directory: %w", err)
	}
	return file, nil
}

// asFull marks the errors of a full disk as ErrFull. Not for errors of writing
// records: ErrFull says that nothing was written.
func asFull(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

// isGone reports that a removal succeeded, now or before.
func isGone(err error) bool { return err == nil || errors.Is(err, fs.ErrNotExist) }
