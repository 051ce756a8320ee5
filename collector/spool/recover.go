package spool

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"
)

// recover brings the directory into order and sets up everything that the
// committer and readers start from. DESIGN.md section 5 lists the cases.
func (s *Spool) recover() error {
	names, err := s.opts.FS.List(s.opts.Dir)
	if err != nil {
		return err
	}
	slices.Sort(names) // segments in order of their first number
	var found []*segment
	for _, name := range names {
		switch first, isSegment := parseSegmentName(name); {
		case isSegment:
			seg, err := s.inspect(name, first)
			if err != nil {
				return err
			}
			found = append(found, seg)
		case strings.HasSuffix(name, tmpSuffix):
			if err := s.opts.FS.Remove(s.path(name)); !isGone(err) {
				return err
			}
		case strings.HasPrefix(name, damagedPrefix):
			_, size, err := s.readStart(name)
			if err != nil {
				return err
			}
			s.aside.segments++
			s.aside.bytes += size
		}
	}
	if err := s.identify(found); err != nil {
		return err
	}
	if err := s.adopt(found); err != nil {
		return err
	}
	if len(s.segments) == 0 {
		return s.begin()
	}
	return s.recoverTail()
}

// inspect reads the start of a segment. A header that cannot be trusted is
// left zero but for what the name tells.
func (s *Spool) inspect(name string, first uint64) (*segment, error) {
	start, size, err := s.readStart(name)
	if err != nil {
		return nil, err
	}
	seg := &segment{size: size, end: max(size, headerSize)}
	h, err := decodeHeader(start)
	switch {
	case errors.Is(err, errVersion):
		return nil, fmt.Errorf("segment %s was %w: start that version, or move the file away", name, err)
	case err == nil && h.first == first:
		seg.header = h
	default:
		seg.header = header{first: first, after: first}
		seg.damaged = true
	}
	if !seg.damaged && len(start) == headerSize+frameOverhead {
		if f, ok := decodeFrameHeader(start[headerSize:], seg.seed(first)); ok {
			seg.oldest = f.time
		}
	}
	return seg, nil
}

// readStart returns the header of a file and that of its first frame, as far
// as they exist, and the size of the file.
func (s *Spool) readStart(name string) (start []byte, size int64, err error) {
	file, err := s.opts.FS.Open(s.path(name))
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if size, err = file.Size(); err != nil {
		return nil, 0, err
	}
	start = make([]byte, min(size, headerSize+frameOverhead))
	for range readAttempts {
		if _, err := file.ReadAt(start, 0); err == nil {
			return start, size, nil
		}
	}
	readBlocks(file, start, 0)
	return start, size, nil
}

// origin is where the identity of a spool is known from.
type origin int

const (
	nowhere origin = iota
	identityFile
	segmentHeader
)

// recognise reads which spool this is: from the identity file, or else from the
// newest sound segment. exists tells of the file, sound or not.
func (s *Spool) recognise(found []*segment) (from origin, exists bool, err error) {
	start, _, err := s.readStart(identityName)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nowhere, false, err
	}
	exists = err == nil
	if exists {
		switch h, err := decodeHeader(start); {
		case errors.Is(err, errVersion):
			return nowhere, true, fmt.Errorf("%s was %w: start that version", identityName, err)
		case err == nil:
			s.self = h.identity
			return identityFile, true, nil
		}
	}
	for _, seg := range slices.Backward(found) {
		if !seg.damaged {
			s.self = seg.identity
			return segmentHeader, exists, nil
		}
	}
	return nowhere, exists, nil
}

// identify makes sure that the spool has an identity, on disk too. A spool that
// lost all of its segments is another one, since its numbers start again.
func (s *Spool) identify(found []*segment) error {
	from, exists, err := s.recognise(found)
	switch {
	case err != nil:
		return err
	case from == identityFile && len(found) > 0:
		return nil
	case from == segmentHeader:
		s.opts.Logger.Warn("the spool's identity file was missing or damaged and is restored", "spool_id", s.ID())
		return s.writeIdentity()
	}
	if exists || len(found) > 0 {
		s.opts.Logger.Error("no usable segment of the spool is left; starting a new one", "old_spool_id", s.ID())
	}
	if _, err := rand.Read(s.self.id[:]); err != nil {
		return err
	}
	_, err = rand.Read(s.self.salt[:])
	return err
}

func (s *Spool) writeIdentity() error {
	file, err := s.create(identityName, header{identity: s.self, made: time.Now()}, 0)
	if err != nil {
		return fmt.Errorf("write the identity: %w", err)
	}
	return file.Close()
}

// adopt takes over the segments of this spool and sets foreign ones aside.
func (s *Spool) adopt(found []*segment) error {
	for _, seg := range found {
		name := segmentName(seg.first)
		if !seg.damaged && seg.identity != s.self {
			s.opts.Logger.Error("a segment belongs to another spool and is set aside",
				"segment", name, "spool_id", seg.identity.String())
			if err := s.putAside(name); err != nil {
				return err
			}
			s.aside.segments++
			s.aside.bytes += seg.size
			continue
		}
		if seg.damaged {
			seg.identity = s.self
			s.opts.Logger.Error("a segment's header is damaged; its records are read nevertheless", "segment", name)
		}
		if n := len(s.segments); n > 0 {
			s.segments[n-1].torn = seg.first == s.segments[n-1].first+numbersPerSegment
		}
		s.segments = append(s.segments, seg)
	}
	if s.aside.segments == 0 {
		return nil
	}
	return s.opts.FS.SyncDir(s.opts.Dir)
}

// putAside renames a file to damaged-…, to a name not in use.
func (s *Spool) putAside(name string) error {
	names, err := s.opts.FS.List(s.opts.Dir)
	if err != nil {
		return fmt.Errorf("set %s aside: %w", name, err)
	}
	target := damagedPrefix + name
	for n := 2; slices.Contains(names, target); n++ {
		target = fmt.Sprintf("%s%s.%d", damagedPrefix, name, n)
	}
	if err := s.opts.FS.Rename(s.path(name), s.path(target)); !isGone(err) {
		return fmt.Errorf("set %s aside: %w", name, err)
	}
	return nil
}

// begin makes a spool without records. The segment comes before the identity:
// an identity without segments means that they were lost.
func (s *Spool) begin() error {
	h := header{identity: s.self, rest: true, first: 1, after: 1, made: time.Now()}
	file, err := s.create(segmentName(h.first), h, 0)
	if err != nil {
		return err
	}
	s.segments = []*segment{{header: h, size: headerSize, end: headerSize}}
	s.committer.next, s.durable = h.first, h.after
	return errors.Join(file.Close(), s.writeIdentity())
}

// recoverTail finds where the log ends.
func (s *Spool) recoverTail() (err error) {
	last := s.segments[len(s.segments)-1]
	s.durable = last.after
	if last.rest {
		s.committer.next = last.first
		return nil
	}
	last.torn = true
	s.committer.next = last.first + numbersPerSegment
	if s.committer.next > maxNumber {
		return fmt.Errorf("the numbers are used up at segment %s", segmentName(last.first))
	}
	file, err := s.opts.FS.Open(s.path(segmentName(last.first)))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()

	group := s.scanTail(last, file)
	seed := s.self.seed(last.first)
	for _, p := range group {
		if _, err := file.WriteAt(appendFrame(nil, seed, p.frame), p.off); err != nil {
			return fmt.Errorf("write the last records again: %w", err)
		}
	}
	if !last.damaged && last.size > last.end {
		if err := file.Truncate(last.end); err != nil {
			return fmt.Errorf("cut off what follows the last record: %w", err)
		}
		last.size = last.end
	}
	if err := file.Sync(); err != nil {
		return fmt.Errorf("sync the last records: %w", err)
	}
	return nil
}

// placed is a frame and where it is.
type placed struct {
	frame
	off int64
}

// scanTail reads the last segment to its end, and returns the intact frames of
// its last group: those that may not be durable yet.
func (s *Spool) scanTail(last *segment, file io.ReaderAt) (group []placed) {
	sc := &scanner{
		file: file, seed: s.self.seed(last.first),
		off: headerSize, limit: last.end,
		expect: last.first, stop: last.first + numbersPerSegment,
	}
	last.end = headerSize
	for {
		f, err := sc.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			continue // the scanner gives up on a place by itself
		}
		if len(group) > 0 && group[0].group != f.group {
			group = group[:0]
		}
		group = append(group, placed{f, sc.off - int64(frameOverhead+len(f.data))})
		last.end = sc.off
		s.durable = f.seq + 1
	}
	last.lost = sc.lost
	last.damaged = last.damaged || sc.lost > 0
	switch {
	case last.damaged:
		s.opts.Logger.Error("the newest segment is damaged; what is intact is kept",
			"segment", segmentName(last.first), "lost", last.lost)
	case sc.skippedBytes:
		s.opts.Logger.Warn("the newest segment ends in a torn write, which was not acknowledged unless the disk is at fault",
			"segment", segmentName(last.first), "next", s.durable)
	}
	return group
}
