package spool

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
)

const testDir = "/spool"

// small holds four records of ten bytes in a segment.
func small(fsys FS) Options {
	return Options{Dir: testDir, FS: fsys, SegmentBytes: headerSize + 4*(frameOverhead+10), MaxBytes: 1 << 20}
}

func mustOpen(t testing.TB, opts Options) *Spool {
	t.Helper()
	s, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustClose(t testing.TB, c io.Closer) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

func mustAppend(t testing.TB, s *Spool, record string) uint64 {
	t.Helper()
	seq, err := s.Append(t.Context(), []byte(record))
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

// rec is the n-th test record, of ten bytes.
func rec(n int) string { return fmt.Sprintf("record-%03d", n) }

// appendGroup has the records written as one group, if they fit.
func appendGroup(s *Spool, records ...string) []*request {
	var reqs []*request
	s.mu.Lock()
	for _, r := range records {
		req := &request{data: []byte(r), done: make(chan struct{})}
		req.crc = checksum(r)
		reqs = append(reqs, req)
		s.enqueueLocked(req)
	}
	s.mu.Unlock()
	for _, req := range reqs {
		<-req.done
	}
	return reqs
}

// readAll reads what is there.
func readAll(t *testing.T, r *Reader) []Record {
	t.Helper()
	var all []Record
	for failures := 0; ; {
		rec, ok, err := r.TryNext()
		switch {
		case ok:
			all = append(all, rec)
		case err == nil || errors.Is(err, io.EOF):
			return all
		default:
			if failures++; failures > 100 {
				t.Fatalf("reading does not get on: %v", err)
			}
		}
	}
}

func contents(records []Record) []string {
	var all []string
	for _, r := range records {
		all = append(all, string(r.Data))
	}
	return all
}

// wantAll compares what a new reader reads with the records in order.
func wantAll(t *testing.T, s *Spool, want ...string) {
	t.Helper()
	r := s.Reader(1)
	defer mustClose(t, r)
	if diff := cmp.Diff(want, contents(readAll(t, r))); diff != "" {
		t.Fatalf("records read (-want +got):\n%s", diff)
	}
}

func TestAppendReadTrim(t *testing.T) {
	d := newDisk(1)
	s := mustOpen(t, small(d.process()))
	var want []string
	for i := 1; i <= 10; i++ {
		want = append(want, rec(i))
		if got := mustAppend(t, s, rec(i)); got != uint64(i) {
			t.Fatalf("record %d got number %d", i, got)
		}
	}
	wantAll(t, s, want...)

	steps := []struct {
		trim, first uint64
		segments    int
	}{
		{4, 1, 3}, // 4 is still needed
		{5, 5, 2},
		{5, 5, 2},
		{1, 5, 2},
		{100, 9, 1}, // the last segment stays
	}
	for _, step := range steps {
		if err := s.Trim(step.trim); err != nil {
			t.Fatal(err)
		}
		st := s.Stats()
		if st.First != step.first || st.Segments != step.segments || st.Next != 11 {
			t.Errorf("after Trim(%d): %+v", step.trim, st)
		}
	}
	if !s.Stats().Oldest.IsZero() {
		t.Error("all is trimmed, and yet a record waits")
	}
	wantAll(t, s, rec(9), rec(10))

	mustClose(t, s)
	if _, err := s.Append(t.Context(), nil); !errors.Is(err, ErrClosed) {
		t.Errorf("Append after Close: %v", err)
	}
	id := s.ID()
	s = mustOpen(t, small(d.process()))
	defer mustClose(t, s)
	if s.ID() != id || len(id) != 16 {
		t.Errorf("the id was %q and is %q", id, s.ID())
	}
	if got := mustAppend(t, s, rec(11)); got != 11 {
		t.Errorf("the number after a clean restart is %d", got)
	}
}

func TestReaderStartsAnywhere(t *testing.T) {
	d := newDisk(1)
	s := mustOpen(t, small(d.process()))
	defer mustClose(t, s)
	var all []string
	for i := 1; i <= 10; i++ {
		mustAppend(t, s, rec(i))
		all = append(all, rec(i))
	}
	for from := range 13 {
		r := s.Reader(uint64(from))
		want := all[min(max(from-1, 0), 10):]
		if got := contents(readAll(t, r)); len(got) != len(want) || strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("from %d: %q", from, got)
		}
		mustClose(t, r)
	}
}

func TestRecordsOfAnySize(t *testing.T) {
	d := newDisk(1)
	opts := Options{Dir: testDir, FS: d.process(), SegmentBytes: 3 << 20, MaxRecord: 1 << 20}
	s := mustOpen(t, opts)
	rng := rand.New(rand.NewPCG(1, 2))
	var want []string
	for _, size := range []int{0, 1, 2, 1 << 20, 0, readChunk - frameOverhead, readChunk, readChunk + 1, 1 << 20, 1 << 20, 5} {
		b := make([]byte, size)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		want = append(want, string(b))
		mustAppend(t, s, string(b))
	}
	if _, err := s.Append(t.Context(), make([]byte, 1<<20+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("Append of a large record: %v", err)
	}
	wantAll(t, s, want...)
	mustClose(t, s)
	opts.FS = d.process()
	s = mustOpen(t, opts)
	defer mustClose(t, s)
	wantAll(t, s, want...)
}

func TestFullSpoolRefusesAndRecovers(t *testing.T) {
	d := newDisk(1)
	opts := small(d.process())
	opts.MaxBytes = 4 * opts.SegmentBytes
	s := mustOpen(t, opts)
	defer mustClose(t, s)
	n := 0
	for {
		n++
		_, err := s.Append(t.Context(), []byte(rec(n)))
		if st := s.Stats(); st.Bytes > opts.MaxBytes {
			t.Fatalf("%d bytes are used, the bound is %d", st.Bytes, opts.MaxBytes)
		}
		if errors.Is(err, ErrFull) {
			break
		}
		if err != nil || n > 100 {
			t.Fatalf("record %d: %v", n, err)
		}
	}
	if n != 13 {
		t.Errorf("record %d was refused, want 13", n)
	}
	r := s.Reader(1)
	defer mustClose(t, r)
	if got := len(readAll(t, r)); got != 12 {
		t.Errorf("%d records in a full spool", got)
	}
	if err := s.Trim(5); err != nil {
		t.Fatal(err)
	}
	if got := mustAppend(t, s, rec(13)); got != 13 {
		t.Errorf("the number after the spool was full is %d", got)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	bad := map[string]Options{
		"no directory":        {},
		"segment too large":   {Dir: "d", SegmentBytes: 2 << 30},
		"segment too small":   {Dir: "d", SegmentBytes: 10},
		"record over segment": {Dir: "d", SegmentBytes: 1 << 10, MaxRecord: 1 << 10},
		"bound too small":     {Dir: "d", SegmentBytes: 1 << 20, MaxBytes: 1 << 20},
	}
	for name, opts := range bad {
		opts.FS = newDisk(1).process()
		if _, err := Open(opts); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestOneProcessAtATime(t *testing.T) {
	opts := Options{Dir: filepath.Join(t.TempDir(), "a", "b")}
	s := mustOpen(t, opts)
	mustAppend(t, s, "x")
	if _, err := Open(opts); !errors.Is(err, ErrLocked) {
		t.Errorf("second Open: %v", err)
	}
	// A reader that drains after Close still holds the directory.
	r := s.Reader(1)
	mustClose(t, s)
	if _, err := Open(opts); !errors.Is(err, ErrLocked) {
		t.Errorf("Open beside a reader: %v", err)
	}
	if got := contents(readAll(t, r)); len(got) != 1 {
		t.Errorf("read after Close: %q", got)
	}
	if _, err := r.Next(t.Context()); err != io.EOF {
		t.Errorf("Next at the end: %v", err)
	}
	mustClose(t, r)
	s = mustOpen(t, opts)
	defer mustClose(t, s)
	wantAll(t, s, "x")
}

func TestFilesArePrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s := mustOpen(t, Options{Dir: dir})
	mustAppend(t, s, "x")
	mustClose(t, s)
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// holdSyncs makes each File.Sync wait until the test lets it go.
func holdSyncs(d *disk) (held chan struct{}, release chan struct{}) {
	held, release = make(chan struct{}), make(chan struct{})
	d.mu.Lock()
	defer d.mu.Unlock()
	d.onSync = func() {
		held <- struct{}{}
		<-release
	}
	return held, release
}

func TestReaderSeesOnlyWhatIsDurable(t *testing.T) {
	d := newDisk(1)
	s := mustOpen(t, small(d.process()))
	mustAppend(t, s, rec(1))
	r := s.Reader(2)
	held, release := holdSyncs(d)
	appended := make(chan error)
	go func() {
		_, err := s.Append(context.Background(), []byte(rec(2)))
		appended <- err
	}()
	<-held // written, not synced
	if _, ok, err := r.TryNext(); ok || err != nil {
		t.Errorf("TryNext before the sync: %v %v", ok, err)
	}
	d.mu.Lock()
	d.onSync = nil
	d.mu.Unlock()
	close(release)
	if err := <-appended; err != nil {
		t.Fatal(err)
	}
	if got, err := r.Next(t.Context()); err != nil || string(got.Data) != rec(2) || got.Seq != 2 {
		t.Errorf("Next after the sync: %v %v", got, err)
	}
	mustClose(t, r)
	mustClose(t, s)
}

func TestContextEndsTheWaitForAdmissionOnly(t *testing.T) {
	d := newDisk(1)
	s := mustOpen(t, small(d.process()))
	mustAppend(t, s, rec(1))
	held, release := holdSyncs(d)
	type outcome struct {
		seq uint64
		err error
	}
	begin := func(ctx context.Context, n int) chan outcome {
		done := make(chan outcome, 1)
		go func() {
			seq, err := s.Append(ctx, []byte(rec(n)))
			done <- outcome{seq, err}
		}()
		return done
	}
	ctx, cancel := context.WithCancel(t.Context())
	writing := begin(ctx, 2)
	<-held
	waiting := begin(ctx, 3)
	staying := begin(t.Context(), 4)
	for queued := 0; queued < 2; {
		s.mu.Lock()
		queued = len(s.waiting)
		s.mu.Unlock()
	}
	cancel()
	if got := <-waiting; !errors.Is(got.err, context.Canceled) {
		t.Errorf("a record that waits when the context ends: %v", got.err)
	}
	if _, err := s.Append(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("a record that comes after the context's end: %v", err)
	}
	d.mu.Lock()
	d.onSync = nil
	d.mu.Unlock()
	close(release)
	if got := <-writing; got.err != nil || got.seq != 2 {
		t.Errorf("a record being written when the context ends: %+v", got)
	}
	if got := <-staying; got.err != nil || got.seq != 3 {
		t.Errorf("a record behind one that was withdrawn: %+v", got)
	}
	wantAll(t, s, rec(1), rec(2), rec(4))
	mustClose(t, s)
}

// TestWithdraw takes records back in any order; the others are written.
func TestWithdraw(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 3))
		s := &Spool{}
		s.arrived = sync.NewCond(&s.mu)
		want := map[*request]bool{}
		var reqs []*request
		for range 6 {
			req := &request{}
			s.enqueueLocked(req)
			reqs = append(reqs, req)
			want[req] = true
		}
		for _, i := range rng.Perm(6)[:rng.IntN(6)] {
			if !s.withdraw(reqs[i]) {
				t.Fatalf("seed %d: request %d is not there", seed, i)
			}
			delete(want, reqs[i])
		}
		for _, req := range s.take(nil) {
			if !want[req] {
				t.Fatalf("seed %d: a request was withdrawn or is there twice", seed)
			}
			delete(want, req)
			if s.withdraw(req) {
				t.Fatalf("seed %d: a request that is being written is withdrawn", seed)
			}
		}
		if len(want) != 0 {
			t.Fatalf("seed %d: %d requests are lost", seed, len(want))
		}
	}
}

func TestNextWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mustOpen(t, small(newDisk(1).process()))
		r := s.Reader(1)
		var got []string
		var end error
		go func() {
			for {
				rec, err := r.Next(t.Context())
				if err != nil {
					end = err
					return
				}
				got = append(got, string(rec.Data))
			}
		}()
		var want []string
		for i := range 10 {
			synctest.Wait() // the reader waits
			mustAppend(t, s, rec(i))
			want = append(want, rec(i))
			synctest.Wait()
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("after record %d (-want +got):\n%s", i, diff)
			}
		}
		mustClose(t, s)
		synctest.Wait()
		if end != io.EOF {
			t.Errorf("Next after Close: %v", end)
		}
		mustClose(t, r)

		s = mustOpen(t, small(newDisk(1).process()))
		r = s.Reader(1)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _, end = r.Next(ctx) }()
		synctest.Wait()
		cancel()
		synctest.Wait()
		if !errors.Is(end, context.Canceled) {
			t.Errorf("Next with an ended context: %v", end)
		}
		mustClose(t, r)
		mustClose(t, s)
	})
}

func TestConcurrentAppendReadTrim(t *testing.T) {
	opts := Options{Dir: t.TempDir(), SegmentBytes: 16 << 10, MaxBytes: 64 << 10}
	s := mustOpen(t, opts)
	const appenders, each = 8, 200
	var acked sync.Map
	var group sync.WaitGroup
	for a := range appenders {
		group.Go(func() {
			for i := 0; i < each; {
				data := fmt.Sprintf("%d/%d %s", a, i, strings.Repeat("x", i))
				seq, err := s.Append(t.Context(), []byte(data))
				switch {
				case err == nil:
					acked.Store(seq, data)
					i++
				case !errors.Is(err, ErrFull):
					t.Error(err)
					return
				}
			}
		})
	}
	read := make(chan map[uint64]string)
	go func() {
		defer close(read)
		got, r := map[uint64]string{}, s.Reader(1)
		defer r.Close()
		for last := uint64(0); ; {
			rec, err := r.Next(t.Context())
			if err == io.EOF {
				break
			}
			if err != nil || rec.Seq <= last {
				t.Errorf("after %d: %d, %v", last, rec.Seq, err)
				break
			}
			last = rec.Seq
			got[rec.Seq] = string(rec.Data)
			if err := s.Trim(rec.Seq + 1); err != nil {
				t.Error(err)
			}
			s.Stats()
		}
		read <- got
	}()
	group.Wait()
	mustClose(t, s)
	got := <-read
	if len(got) != appenders*each {
		t.Errorf("%d records were read", len(got))
	}
	acked.Range(func(seq, data any) bool {
		if got[seq.(uint64)] != data {
			t.Errorf("record %d differs", seq)
		}
		delete(got, seq.(uint64))
		return true
	})
	if len(got) != 0 {
		t.Errorf("%d records were read that nobody appended", len(got))
	}
}

// TestNumbersAreNeverReused opens, appends, trims, damages and ends in all
// ways, in random order.
func TestNumbersAreNeverReused(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 7))
		d := newDisk(seed)
		var last uint64
		id := ""
		for range 8 {
			s := mustOpen(t, small(d.process()))
			if id != "" && id != s.ID() {
				t.Fatalf("seed %d: the id changed", seed)
			}
			id = s.ID()
			for range rng.IntN(7) {
				seq := mustAppend(t, s, rec(1))
				if seq <= last {
					t.Fatalf("seed %d: number %d after %d", seed, seq, last)
				}
				last = seq
			}
			if rng.IntN(3) == 0 {
				if err := s.Trim(last + 1); err != nil {
					t.Fatal(err)
				}
			}
			switch rng.IntN(3) {
			case 0:
				mustClose(t, s)
			case 1:
				d.cutPower()
				s.Close()
			case 2:
				d.process()
				s.Close()
			}
			if rng.IntN(2) == 0 {
				segments := d.segments()
				d.edit(t, segments[len(segments)-1], func(b []byte) []byte {
					if len(b) == 0 {
						return nil
					}
					switch at := rng.IntN(len(b)); rng.IntN(3) {
					case 0:
						b[at] ^= 1 << rng.IntN(8)
					case 1:
						clear(b[at:])
					case 2:
						b = b[:at]
					}
					return b
				})
			}
		}
	}
}

// logged collects what is logged, one line each.
type logged struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logged) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func checksum(record string) uint32 { return crc32.Checksum([]byte(record), castagnoli) }
