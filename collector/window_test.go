package collector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/sluis-cdp/sluis/collector/spool"
)

func key(n int) messageKey { return keyOfMessage("web", fmt.Sprint("m", n)) }

func (w *Window) has(key messageKey) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hasLocked(key)
}

// missing lists those of the first n ids that the window does not know.
func missing(w *Window, n int) (list []int) {
	for i := range n {
		if !w.has(key(i)) {
			list = append(list, i)
		}
	}
	return list
}

func openWindow(t *testing.T, dir string, size int, s *spool.Spool) *Window {
	t.Helper()
	w, err := OpenWindow(t.Context(), dir, size, s)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// endless is a sink that lands everything, and tells when it has a number.
type endless struct {
	landed   uint64
	wanted   uint64
	reached  chan struct{}
	position uint64
}

func (s *endless) Position(context.Context, string) (uint64, uint64, error) {
	return s.position, 0, nil
}

func (s *endless) Land(_ context.Context, b Batch) error {
	if s.landed = b.Last; s.landed == s.wanted {
		close(s.reached)
	}
	return nil
}

// TestWindowOverRestarts: whatever became of a record before the process ended,
// its id is known afterwards.
func TestWindowOverRestarts(t *testing.T) {
	const n = 20
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for name, land := range map[string]func(t *testing.T, s *spool.Spool, w *Window){
		"nothing has landed": func(*testing.T, *spool.Spool, *Window) {},
		"some landed, and the process ended before the ids were written": func(t *testing.T, s *spool.Spool, w *Window) {
			// What the next loader does first.
			if err := w.catchUp(t.Context(), s, 8); err != nil {
				t.Fatal(err)
			}
			if err := s.Trim(8); err != nil {
				t.Fatal(err)
			}
		},
		"all landed": func(t *testing.T, s *spool.Spool, w *Window) {
			sink := &endless{wanted: s.Stats().Next, reached: make(chan struct{})}
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() {
				ended <- (&Loader{Spool: s, Sink: sink, Window: w, Logger: slog.New(slog.DiscardHandler), Every: time.Millisecond}).Run(ctx)
			}()
			<-sink.reached
			stop()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := openSpool(t, filepath.Join(dir, "spool"))
			w := openWindow(t, filepath.Join(dir, "ids"), 100, s)
			for i := range n {
				appendEvent(t, s, fmt.Sprint("m", i), at)
			}
			land(t, s, w)
			again := openWindow(t, filepath.Join(dir, "ids"), 100, s)
			if list := missing(again, n); len(list) > 0 {
				t.Errorf("forgotten: %v", list)
			}
			if again.has(key(n)) {
				t.Error("an id is known that was never there")
			}
			// Without what the spool still has, the files alone must cover what may be trimmed.
			if err := s.Trim(w.covered); err != nil {
				t.Fatal(err)
			}
			empty := openSpool(t, filepath.Join(dir, "another"))
			files := openWindow(t, filepath.Join(dir, "ids"), 100, empty)
			if list := missing(files, max(0, int(w.covered)-1)); len(list) > 0 {
				t.Errorf("covered up to %d, but not in the files: %v", w.covered, list)
			}
			if files.covered != 0 {
				t.Errorf("the numbers of another spool cover those of this one up to %d", files.covered)
			}
		})
	}
}

// TestWindowIsBounded: the last size ids are known, and no more than twice as
// many are kept, in memory and on disk.
func TestWindowIsBounded(t *testing.T) {
	const size, n = 10, 95
	dir := t.TempDir()
	s := openSpool(t, filepath.Join(dir, "spool"))
	w := openWindow(t, filepath.Join(dir, "ids"), size, s)
	for i := range n {
		w.add([]messageKey{key(i)})
		b := Batch{SpoolID: s.ID(), First: uint64(i + 1), Last: uint64(i + 2), Rows: Rows{Events: []EventRow{{SourceID: "web", EventID: fmt.Sprint("m", i)}}}}
		if err := w.landed(&b); err != nil {
			t.Fatal(err)
		}
	}
	for name, w := range map[string]*Window{"as it was": w, "opened again": openWindow(t, filepath.Join(dir, "ids"), size, s)} {
		list := missing(w, n)
		if len(list) < n-2*size || slices.Max(list) >= n-size {
			t.Errorf("%s: of %d ids these are forgotten: %v", name, n, list)
		}
	}
	if files, err := w.files(); err != nil || len(files) > 3 {
		t.Errorf("%d files, %v", len(files), err)
	}
}

// TestWindowTornAnywhere cuts the file at each length: the ids of whole blocks
// are known, and writing goes on.
func TestWindowTornAnywhere(t *testing.T) {
	dir := t.TempDir()
	s := openSpool(t, filepath.Join(dir, "spool"))
	w := openWindow(t, filepath.Join(dir, "ids"), 100, s)
	for i := range 3 {
		if err := w.save(s.ID(), uint64(2*i+3), []messageKey{key(2 * i), key(2*i + 1)}); err != nil {
			t.Fatal(err)
		}
	}
	whole, err := os.ReadFile(w.path(1))
	if err != nil {
		t.Fatal(err)
	}
	const block = blockHeader + 2*16
	for size := range len(whole) {
		for _, flip := range []bool{false, true} {
			torn := slices.Clone(whole[:size])
			known := size / block
			if flip {
				torn = slices.Clone(whole)
				torn[size] ^= 1
			}
			folder := filepath.Join(t.TempDir(), "ids")
			if err := errors.Join(os.MkdirAll(folder, 0o700), os.WriteFile(filepath.Join(folder, filepath.Base(w.path(1))), torn, 0o600)); err != nil {
				t.Fatal(err)
			}
			w := openWindow(t, folder, 100, s)
			if list := missing(w, 2*known); len(list) > 0 || w.covered > uint64(2*known+1) {
				t.Fatalf("%d bytes, flipped %v: forgotten %v, covered %d", size, flip, list, w.covered)
			}
			if err := w.save(s.ID(), 9, []messageKey{key(77)}); err != nil {
				t.Fatal(err)
			}
			if again := openWindow(t, folder, 100, s); !again.has(key(77)) || again.covered != 9 {
				t.Fatalf("%d bytes, flipped %v: what was written afterwards is lost", size, flip)
			}
		}
	}
}
