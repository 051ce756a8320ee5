package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// onDisk is a spool of real files, with four records of ten bytes in a segment.
func onDisk(t *testing.T) Options {
	t.Helper()
	opts := small(nil)
	opts.Dir = t.TempDir()
	return opts
}

// inspected returns what Inspect says, and the records that it visits, and
// fails if it changed anything.
func inspected(t *testing.T, dir string) (Report, []string) {
	t.Helper()
	before := snapshot(t, dir)
	var got []string
	r, err := Inspect(t.Context(), dir, func(rec Record) error {
		got = append(got, fmt.Sprintf("%d %s", rec.Seq, rec.Data))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, snapshot(t, dir)); diff != "" {
		t.Errorf("Inspect changed the directory:\n%s", diff)
	}
	return r, got
}

func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		text, err := os.ReadFile(filepath.Join(dir, path))
		all[path] = fmt.Sprint(info.ModTime(), info.Mode(), string(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// states is the report in short.
func states(r Report) (list []string) {
	for _, s := range r.Segments {
		list = append(list, fmt.Sprintf("%s %d: %d–%d lost %d %v", s.State, s.Records, s.First, s.Last, s.Lost, s.Damaged))
	}
	return list
}

// numbered lists test records with their numbers.
func numbered(from, to int, without ...int) (list []string) {
	for n := from; n <= to; n++ {
		if !slices.Contains(without, n) {
			list = append(list, fmt.Sprintf("%d %s", n, rec(n)))
		}
	}
	return list
}

func TestInspect(t *testing.T) {
	opts := onDisk(t)
	s := mustOpen(t, opts)
	for n := 1; n <= 6; n++ {
		mustAppend(t, s, rec(n))
	}
	check := func(what string, wantRecords []string, want ...string) Report {
		t.Helper()
		r, got := inspected(t, opts.Dir)
		if diff := cmp.Diff(wantRecords, got); diff != "" {
			t.Errorf("%s: records\n%s", what, diff)
		}
		if diff := cmp.Diff(want, states(r)); diff != "" {
			t.Errorf("%s: segments\n%s", what, diff)
		}
		if r.ID != s.ID() {
			t.Errorf("%s: the id is %s, want %s", what, r.ID, s.ID())
		}
		return r
	}
	r := check("in use", numbered(1, 6), "complete 4: 1–4 lost 0 false", "in use 2: 5–6 lost 0 false")
	if r.Next != 7 || r.Bytes != 2*opts.SegmentBytes || r.Segments[0].Oldest.IsZero() || r.Segments[1].Newest.Before(r.Segments[0].Newest) {
		t.Errorf("in use: %+v", r)
	}
	if err := s.Trim(5); err != nil {
		t.Fatal(err)
	}
	check("trimmed", numbered(5, 6), "in use 2: 5–6 lost 0 false")
	mustClose(t, s)
	if r := check("closed", numbered(5, 6), "complete 2: 5–6 lost 0 false", "rest 0: 0–0 lost 0 false"); r.Next != 7 {
		t.Errorf("closed: %+v", r)
	}
}

// TestInspectDamage: what is intact is visited, what is lost is counted, and
// nothing is repaired.
func TestInspectDamage(t *testing.T) {
	opts := onDisk(t)
	s := mustOpen(t, opts)
	for n := 1; n <= 11; n++ {
		mustAppend(t, s, rec(n))
	}
	mustClose(t, s)
	change := func(name string, change func([]byte) []byte) {
		t.Helper()
		path := filepath.Join(opts.Dir, name)
		text, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, change(text), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	change(middleSegment, flip(at(1)+frameOverhead)) // record 6
	change(firstSegment, flip(20))                   // its header
	other := header{identity: identity{id: [8]byte{1}}, first: 99, after: 99}
	if err := os.WriteFile(filepath.Join(opts.Dir, segmentName(99)), other.encode(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(opts.Dir, damagedPrefix+segmentName(50)), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, got := inspected(t, opts.Dir)
	if diff := cmp.Diff(numbered(1, 11, 6), got); diff != "" {
		t.Error(diff)
	}
	want := []string{
		"complete 4: 1–4 lost 0 true", "complete 3: 5–8 lost 1 true", "complete 3: 9–11 lost 0 false", "rest 0: 0–0 lost 0 false",
	}
	if diff := cmp.Diff(want, states(r)); diff != "" {
		t.Error(diff)
	}
	aside := []AsideReport{{damagedPrefix + segmentName(50), 1}, {segmentName(99), headerSize}}
	if diff := cmp.Diff(aside, r.Aside); diff != "" {
		t.Error(diff)
	}
	// Without the identity file the newest segment tells whose spool it is.
	for _, name := range []string{identityName, segmentName(99)} {
		if err := os.Remove(filepath.Join(opts.Dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if r, got := inspected(t, opts.Dir); r.ID != s.ID() || len(got) != 10 {
		t.Errorf("without the identity: %+v", r)
	}
}

// TestInspectKilled: after a kill, Inspect sees what Open will deliver.
func TestInspectKilled(t *testing.T) {
	opts := onDisk(t)
	s := mustOpen(t, opts)
	for n := 1; n <= 5; n++ {
		mustAppend(t, s, rec(n))
	}
	copied := t.TempDir() // as the disk is when the process is killed here
	if err := os.CopyFS(copied, os.DirFS(opts.Dir)); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	_, got := inspected(t, copied)
	if diff := cmp.Diff(numbered(1, 5), got); diff != "" {
		t.Error(diff)
	}
	opts.Dir = copied
	again := mustOpen(t, opts)
	defer again.Close()
	wantAll(t, again, records(1, 5)...)
}

func TestInspectEnds(t *testing.T) {
	opts := onDisk(t)
	s := mustOpen(t, opts)
	defer s.Close()
	mustAppend(t, s, rec(1))
	stop := errors.New("enough")
	if _, err := Inspect(t.Context(), opts.Dir, func(Record) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("the visitor's error: %v", err)
	}
	if _, err := Inspect(t.Context(), filepath.Join(opts.Dir, "none"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}

// TestStatsCount: what waits, and what still fits.
func TestStatsCount(t *testing.T) {
	opts := small(newDisk(1).process())
	opts.MaxBytes = 4*opts.SegmentBytes + 2*headerSize
	s := mustOpen(t, opts)
	defer s.Close()
	const frame = frameOverhead + 10
	for n := 1; ; n++ {
		free := s.Stats().Free
		_, err := s.Append(t.Context(), []byte(rec(n)))
		if errors.Is(err, ErrFull) {
			if free >= frame {
				t.Errorf("full after %d records, and %d bytes were free", n-1, free)
			}
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if st := s.Stats(); free < frame || st.Records != uint64(n) || st.Failing {
			t.Fatalf("after %d: %d were free; %+v", n, free, st)
		}
	}
	all := s.Stats().Records
	for _, trimmed := range []uint64{2, 6} {
		if err := s.Trim(trimmed + 1); err != nil {
			t.Fatal(err)
		}
		if got := s.Stats().Records; got != all-trimmed {
			t.Errorf("%d of %d records wait, and %d are trimmed", got, all, trimmed)
		}
	}
}

// TestCheckFindsTheDiskWorking: a spool that failed to write, and gets no
// records, still finds out when it can.
func TestCheckFindsTheDiskWorking(t *testing.T) {
	d := newDisk(1)
	s := mustOpen(t, small(d.process()))
	defer s.Close()
	mustAppend(t, s, rec(1))
	if err := s.Check(t.Context()); err != nil || s.Stats().Failing {
		t.Fatalf("nothing is wrong: %v %+v", err, s.Stats())
	}
	failing := func(f fault) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.fault = f
	}
	failing(fault{from: 1, to: math.MaxInt, kind: diskIsFull})
	if _, err := s.Append(t.Context(), []byte(rec(2))); err == nil {
		t.Fatal("the disk was full, and nothing failed")
	}
	if err := s.Check(t.Context()); !errors.Is(err, ErrFull) || !s.Stats().Failing {
		t.Errorf("while the disk is full: %v %+v", err, s.Stats())
	}
	failing(fault{})
	if !s.Stats().Failing {
		t.Error("nobody has tried, and it is said to work")
	}
	if err := s.Check(t.Context()); err != nil || s.Stats().Failing {
		t.Errorf("after that: %v %+v", err, s.Stats())
	}
	mustAppend(t, s, rec(2))
	wantAll(t, s, rec(1), rec(2))
	mustClose(t, s)
	if err := s.Check(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}
