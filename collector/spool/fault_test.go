package spool

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// history is what the outside world knows of a spool, over all its lives.
type history struct {
	t         *testing.T
	what      string // for messages
	serial    int
	attempted map[string]bool
	acked     map[uint64]string
	delivered map[uint64]string
	last      uint64 // the highest number acknowledged or delivered
	trimmed   uint64 // lower numbers are not needed
	id        string
}

func (h *history) fatalf(format string, args ...any) {
	h.t.Helper()
	h.t.Fatalf("%s: %s", h.what, fmt.Sprintf(format, args...))
}

// append writes a group and takes down what was acknowledged.
func (h *history) append(s *Spool, n int) {
	h.t.Helper()
	var group []string
	for range n {
		h.serial++
		data := fmt.Sprintf("%d:%0*d", h.serial, h.serial%40, h.serial)
		group = append(group, data)
		h.attempted[data] = true
	}
	before := h.last
	for i, req := range appendGroup(s, group...) {
		if req.err != nil {
			continue
		}
		if req.seq <= before {
			h.fatalf("number %d is given after %d", req.seq, before)
		}
		h.acked[req.seq] = group[i]
		h.last = max(h.last, req.seq)
	}
}

// read reads all that is needed and compares it with what is known.
func (h *history) read(s *Spool) {
	h.t.Helper()
	r := s.Reader(h.trimmed)
	defer r.Close()
	got, last := map[uint64]string{}, uint64(0)
	seen := map[string]bool{}
	for _, rec := range readAll(h.t, r) {
		data := string(rec.Data)
		switch {
		case rec.Seq <= last:
			h.fatalf("number %d is read after %d", rec.Seq, last)
		case !h.attempted[data]:
			h.fatalf("number %d was never appended: %q", rec.Seq, data)
		case seen[data]:
			h.fatalf("%q is read twice", data)
		case h.delivered[rec.Seq] == "" && rec.Seq < h.lastDelivered():
			h.fatalf("number %d turns up when %d was delivered before", rec.Seq, h.lastDelivered())
		}
		got[rec.Seq], last, seen[data] = data, rec.Seq, true
	}
	for kind, known := range map[string]map[uint64]string{"acknowledged": h.acked, "delivered": h.delivered} {
		for seq, data := range known {
			if seq >= h.trimmed && got[seq] != data {
				h.fatalf("%d was %s as %q and is read as %q", seq, kind, data, got[seq])
			}
		}
	}
	for seq, data := range got {
		h.delivered[seq] = data
		h.last = max(h.last, seq)
	}
}

func (h *history) lastDelivered() uint64 {
	var last uint64
	for seq := range h.delivered {
		last = max(last, seq)
	}
	return last
}

// trim gives up the older half of what was delivered.
func (h *history) trim(s *Spool) {
	var seqs []uint64
	for seq := range h.delivered {
		seqs = append(seqs, seq)
	}
	if len(seqs) == 0 {
		return
	}
	slices.Sort(seqs)
	h.trimmed = max(h.trimmed, seqs[len(seqs)/2])
	// Errors are for the next call to mend.
	_ = s.Trim(h.trimmed)
}

// live opens the spool and uses it. It reports whether it came up.
func (h *history) live(opts Options) (*Spool, bool) {
	h.t.Helper()
	var s *Spool
	for attempt := 0; ; attempt++ {
		var err error
		if s, err = Open(opts); err == nil {
			break
		}
		if attempt == 10 {
			return nil, false
		}
	}
	if h.id != "" && h.id != s.ID() {
		h.fatalf("the id changed from %s to %s", h.id, s.ID())
	}
	h.read(s)
	h.append(s, 1)
	h.append(s, 3)
	h.read(s)
	if len(h.acked) > 0 || len(h.delivered) > 0 {
		h.id = s.ID()
	}
	h.append(s, 2)
	h.trim(s)
	h.append(s, 5)
	h.append(s, 1)
	h.read(s)
	return s, true
}

// lives runs through several lives that end in different ways, with a fault at
// the given calls. It returns the number of calls.
func lives(t *testing.T, seed uint64, f fault) (calls int, struck bool) {
	t.Helper()
	d := newDisk(seed)
	d.fault = f
	h := &history{
		t: t, what: fmt.Sprintf("seed %d, fault %+v", seed, f),
		attempted: map[string]bool{}, acked: map[uint64]string{}, delivered: map[uint64]string{},
	}
	opts := Options{Dir: testDir, SegmentBytes: 400, MaxRecord: 100, MaxBytes: 8000}
	for life := range 4 {
		opts.FS = d.process()
		s, ok := h.live(opts)
		switch end := (life + int(seed)) % 3; {
		case !ok:
			h.fatalf("the spool does not come up")
		case end == 0:
			_ = s.Close() // an error here is one of comfort
		case end == 1:
			d.cutPower()
			_ = s.Close() // ends the goroutine; the disk is out of its reach
		case end == 2:
			d.process()
			_ = s.Close()
		}
	}
	calls, struck = d.calls, d.struck
	d.fault = fault{}
	d.cutPower()
	opts.FS = d.process()
	s, ok := h.live(opts) // all is well again, without a human
	if !ok {
		h.fatalf("the spool does not come up after the fault")
	}
	if err := s.Close(); err != nil {
		h.fatalf("Close: %v", err)
	}
	if st := s.Stats(); st.Damaged != 0 || st.Lost != 0 {
		h.fatalf("what was no damage is reported as such: %+v", st)
	}
	return calls, struck
}

// TestFaultAtEveryCall lets each call fail in each way, alone and as the first
// of a few, and cuts the power in between.
func TestFaultAtEveryCall(t *testing.T) {
	var ways []fault
	for _, kind := range []faultKind{noEffect, halfDone, diskIsFull} {
		ways = append(ways, fault{to: 1, kind: kind}, fault{to: 4, kind: kind})
	}
	for seed := range len(ways) {
		calls, _ := lives(t, uint64(seed), fault{})
		if calls < 100 {
			t.Fatalf("the workload makes %d calls only", calls)
		}
		for at := 1; at <= calls; at++ {
			// Over the seeds, each call fails in each way.
			way := ways[(at+seed)%len(ways)]
			way.from, way.to = at, at+way.to
			if _, struck := lives(t, uint64(seed), way); !struck {
				t.Fatalf("seed %d: no call %d was made", seed, at)
			}
		}
	}
}

func TestFailedSyncPoisonsTheSegment(t *testing.T) {
	d := newDisk(1)
	s := mustOpen(t, small(d.process()))
	mustAppend(t, s, rec(1))
	d.mu.Lock()
	d.fault = fault{from: d.calls + 2, to: d.calls + 3} // write, sync
	d.mu.Unlock()
	for i, req := range appendGroup(s, rec(2), rec(3)) {
		if !errors.Is(req.err, errInjected) || req.seq != 0 {
			t.Errorf("record %d of the failed group: %d, %v", i, req.seq, req.err)
		}
	}
	wantAll(t, s, rec(1))
	if seq := mustAppend(t, s, rec(4)); seq != 4 {
		t.Errorf("the number after a failed group of two is %d", seq)
	}
	if got := d.segments(); len(got) != 2 || got[1] != segmentName(4) {
		t.Errorf("no new segment was begun: %q", got)
	}
	wantAll(t, s, rec(1), rec(4))
	d.process()
	s.Close()
	// The bytes of the failed group may be there, but are void.
	s = mustOpen(t, small(d.process()))
	wantAll(t, s, rec(1), rec(4))
	mustClose(t, s)
}

func TestIntactRecordsOfAFailedGroupAreMadeDurable(t *testing.T) {
	d := newDisk(3)
	s := mustOpen(t, small(d.process()))
	mustAppend(t, s, rec(1))
	d.mu.Lock()
	// All fails from the sync on: no cut, no new segment.
	d.fault = fault{from: d.calls + 2, to: 1 << 30}
	d.mu.Unlock()
	if _, err := s.Append(t.Context(), []byte(rec(2))); !errors.Is(err, errInjected) {
		t.Fatal(err)
	}
	d.fault = fault{}
	fsys := d.process() // the process dies, its page cache stays
	s.Close()

	s = mustOpen(t, small(fsys))
	wantAll(t, s, rec(1), rec(2))
	d.cutPower() // which shows whether it was made durable before it was read
	s.Close()
	s = mustOpen(t, small(d.process()))
	wantAll(t, s, rec(1), rec(2))
	mustClose(t, s)
}

func TestDiskFullIsErrFull(t *testing.T) {
	d := newDisk(1)
	var log logged
	opts := small(d.process())
	opts.Logger = log.logger()
	s := mustOpen(t, opts)
	d.mu.Lock()
	d.fault = fault{from: d.calls + 1, to: 1 << 30, kind: diskIsFull}
	d.mu.Unlock()
	for range 5 {
		if _, err := s.Append(t.Context(), []byte(rec(1))); !errors.Is(err, ErrFull) {
			t.Errorf("Append on a full disk: %v", err)
		}
	}
	d.mu.Lock()
	d.fault = fault{}
	d.mu.Unlock()
	mustAppend(t, s, rec(1))
	mustAppend(t, s, rec(2))
	mustClose(t, s)
	if got := strings.Count(log.String(), "\n"); got != 2 {
		t.Errorf("want two lines, that it fails and that it works again:\n%s", log.String())
	}
	if strings.Contains(log.String(), rec(1)) {
		t.Error("a record is in the log")
	}
}
