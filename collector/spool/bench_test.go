package spool

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

// BenchmarkAppend compares the spool with the least that group commit can do:
// one growing file, one write and one sync for all who wait, no framing.
func BenchmarkAppend(b *testing.B) {
	record := make([]byte, 1<<10)
	for _, callers := range []int{1, 16, 64, 256} {
		b.Run(fmt.Sprintf("reference/%d", callers), func(b *testing.B) {
			f, err := os.Create(filepath.Join(b.TempDir(), "log"))
			if err != nil {
				b.Fatal(err)
			}
			g := &groupFile{f: f}
			g.arrived = sync.NewCond(&g.mu)
			ended := make(chan struct{})
			go func() { g.run(); close(ended) }()
			measure(b, callers, func() error { return g.append(record) })
			g.close()
			<-ended
			if err := f.Close(); err != nil {
				b.Fatal(err)
			}
		})
		b.Run(fmt.Sprintf("spool/%d", callers), func(b *testing.B) {
			s, err := Open(Options{Dir: b.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			measure(b, callers, func() error {
				seq, err := s.Append(b.Context(), record)
				if err == nil && seq%(1<<17) == 0 {
					err = s.Trim(seq)
				}
				return err
			})
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkRead reads records of 1 KiB from the cache of the system.
func BenchmarkRead(b *testing.B) {
	s, err := Open(Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	record := make([]byte, 1<<10)
	var group sync.WaitGroup
	for range 64 {
		group.Go(func() {
			for range 500 {
				if _, err := s.Append(b.Context(), record); err != nil {
					b.Error(err)
				}
			}
		})
	}
	group.Wait()
	b.SetBytes(1 << 10)
	b.ResetTimer()
	r := s.Reader(1)
	for range b.N {
		switch _, ok, err := r.TryNext(); {
		case err != nil:
			b.Fatal(err)
		case !ok:
			r.Close()
			r = s.Reader(1)
		}
	}
	r.Close()
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}

// measure calls do b.N times from so many goroutines.
func measure(b *testing.B, callers int, do func() error) {
	b.ReportAllocs()
	b.ResetTimer()
	var begun atomic.Int64
	var group sync.WaitGroup
	for range callers {
		group.Go(func() {
			for begun.Add(1) <= int64(b.N) {
				if err := do(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

// groupFile is the reference.
type groupFile struct {
	f       *os.File
	mu      sync.Mutex
	arrived *sync.Cond
	buf     []byte
	waiting []chan error
	closed  bool
}

func (g *groupFile) append(record []byte) error {
	done := make(chan error, 1)
	g.mu.Lock()
	g.buf = append(g.buf, record...)
	g.waiting = append(g.waiting, done)
	g.arrived.Signal()
	g.mu.Unlock()
	return <-done
}

func (g *groupFile) run() {
	var buf []byte
	var waiting []chan error
	for {
		g.mu.Lock()
		for len(g.waiting) == 0 && !g.closed {
			g.arrived.Wait()
		}
		buf, g.buf = g.buf, buf[:0]
		waiting, g.waiting = g.waiting, waiting[:0]
		g.mu.Unlock()
		if len(waiting) == 0 {
			return
		}
		_, err := g.f.Write(buf)
		if err == nil {
			err = g.f.Sync()
		}
		for _, done := range waiting {
			done <- err
		}
	}
}

func (g *groupFile) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	g.arrived.Signal()
}
