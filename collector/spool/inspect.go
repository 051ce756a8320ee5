package spool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"
)

// Report is what [Inspect] found in a directory.
type Report struct {
	ID       string // empty if nothing there says it
	Bytes    int64  // of all segments, preallocated space included
	Next     uint64 // the number after the last record
	Segments []SegmentReport
	Aside    []AsideReport
}

// SegmentReport is about one segment of the log.
type SegmentReport struct {
	Name    string
	State   SegmentState
	Bytes   int64 // of the file
	Records uint64
	First   uint64 // numbers of the first and last record; 0 if there are none
	Last    uint64
	// Oldest and Newest are when those were appended; zero if there are none.
	Oldest, Newest time.Time
	Lost           uint64 // acknowledged records that cannot be read
	Damaged        bool   // records or the header cannot be read
}

// SegmentState says what a segment is waiting for.
type SegmentState string

// The states.
const (
	Complete SegmentState = "complete" // never written again
	InUse    SegmentState = "in use"   // in use, or its process ended without Close
	Rest     SegmentState = "rest"     // closed in good order; holds no records
)

// AsideReport is about a file that was set aside, or will be.
type AsideReport struct {
	Name  string
	Bytes int64
}

// Inspect reads the spool in a directory without changing anything: it takes no
// lock, so that the spool may be in use, and repairs nothing. visit is called
// with each record in order, and may be nil; an error of it ends the reading
// and is returned.
//
// Of a spool in use it sees a state of the time of the call: what is appended
// meanwhile may be missing at the end, and what is trimmed meanwhile at the
// start.
func Inspect(ctx context.Context, dir string, visit func(Record) error) (Report, error) {
	s := inspector(dir)
	report, segments, err := s.survey()
	if err != nil {
		return Report{}, fmt.Errorf("inspect the spool in %s: %w", dir, err)
	}
	for i, seg := range segments {
		r := SegmentReport{Name: segmentName(seg.first), State: InUse, Bytes: seg.size, Damaged: seg.damaged}
		stop, torn := seg.first+numbersPerSegment, true
		if i+1 < len(segments) {
			next := segments[i+1]
			r.State, stop, torn = Complete, next.after, next.first == stop
		}
		if seg.rest {
			r.State = Rest
		} else if err := s.readThrough(ctx, seg, stop, torn, &r, visit); errors.Is(err, fs.ErrNotExist) {
			continue // trimmed meanwhile
		} else if err != nil {
			return Report{}, err
		}
		report.Bytes += r.Bytes
		report.Next = max(report.Next, r.Last+1, seg.after)
		report.Segments = append(report.Segments, r)
	}
	return report, nil
}

// Identify is the id of the spool in a directory, which is read as [Inspect]
// does, but for the records; empty if nothing there says it.
func Identify(dir string) (id string, err error) {
	report, _, err := inspector(dir).survey()
	if err != nil {
		return "", fmt.Errorf("inspect the spool in %s: %w", dir, err)
	}
	return report.ID, nil
}

// inspector is a spool that only reads.
func inspector(dir string) *Spool {
	return &Spool{opts: Options{Dir: dir, FS: readOnlyFS{}, Logger: slog.New(slog.DiscardHandler)}}
}

// survey reads the names and headers, and returns the segments in order. One of
// another spool is reported as aside: the next Open puts it there.
func (s *Spool) survey() (report Report, segments []*segment, err error) {
	names, err := s.opts.FS.List(s.opts.Dir)
	if err != nil {
		return report, nil, err
	}
	slices.Sort(names) // segments in order of their first number
	for _, name := range names {
		first, isSegment := parseSegmentName(name)
		if !isSegment && !strings.HasPrefix(name, damagedPrefix) {
			continue
		}
		if !isSegment {
			if _, size, err := s.readStart(name); err == nil {
				report.Aside = append(report.Aside, AsideReport{name, size})
			}
			continue
		}
		seg, err := s.inspect(name, first)
		if errors.Is(err, fs.ErrNotExist) {
			continue // trimmed meanwhile
		}
		if err != nil {
			return report, nil, err
		}
		segments = append(segments, seg)
	}
	from, _, err := s.recognise(segments)
	if err != nil {
		return report, nil, err
	}
	if from != nowhere {
		report.ID = s.ID()
	}
	segments = slices.DeleteFunc(segments, func(seg *segment) bool {
		foreign := !seg.damaged && seg.identity != s.self
		if foreign {
			report.Aside = append(report.Aside, AsideReport{segmentName(seg.first), seg.size})
		}
		return foreign
	})
	return report, segments, nil
}

// readThrough reads the records of one segment that are numbered below stop.
func (s *Spool) readThrough(ctx context.Context, seg *segment, stop uint64, torn bool, r *SegmentReport, visit func(Record) error) (err error) {
	file, err := s.opts.FS.Open(s.path(r.Name))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	sc := &scanner{
		file: file, seed: s.self.seed(seg.first), off: headerSize, limit: seg.end, expect: seg.first, stop: stop,
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		f, err := sc.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			continue // the scanner gives up on a place by itself
		}
		if r.Records++; r.Records == 1 {
			r.First, r.Oldest = f.seq, f.time
		}
		r.Last, r.Newest = f.seq, f.time
		if visit == nil {
			continue
		}
		if err := visit(Record{Seq: f.seq, Time: f.time, Data: f.data}); err != nil {
			return err
		}
	}
	if r.State == Complete {
		sc.end(torn)
	}
	r.Lost = sc.lost
	r.Damaged = r.Damaged || sc.lost > 0
	return nil
}

// readOnlyFS is the operating system's file system, of which it changes nothing.
type readOnlyFS struct{ osFS }

var errReadOnly = errors.New("the spool is inspected, and must not be changed")

func (readOnlyFS) Open(name string) (File, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (readOnlyFS) MkdirAll(string) error          { return errReadOnly }
func (readOnlyFS) Lock(string) (io.Closer, error) { return nil, errReadOnly }
func (readOnlyFS) Create(string) (File, error)    { return nil, errReadOnly }
func (readOnlyFS) Rename(string, string) error    { return errReadOnly }
func (readOnlyFS) Remove(string) error            { return errReadOnly }
func (readOnlyFS) SyncDir(string) error           { return errReadOnly }
