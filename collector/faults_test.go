package collector

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The tests here are the table in FAULTS.md: whatever fails, what was
// acknowledged lands once, of what was refused no byte is there, and the ledger
// balances.

// thorough tells whether to leave nothing out, as make soak does.
func thorough() bool { return os.Getenv("SLUIS_THOROUGH") != "" }

// TestDiskFaultAtEveryCall lets each call that the spool makes of the disk fail,
// alone and with those after it, in each way, in a life that is killed or in the
// next, which ends in order. The client sends until it is acknowledged.
func TestDiskFaultAtEveryCall(t *testing.T) {
	t.Parallel() // it waits for the disk
	keys := newBench(t, nil)
	e := newEdge(t, keys)
	calls := e.lives()
	e.check("no fault")
	if calls < 50 {
		t.Fatalf("only %d calls", calls)
	}
	for at := 1; at <= calls; at++ {
		for i, way := range []faultWay{isFull, fails, halfDone} {
			if (at+i)%3 > 0 && !thorough() {
				continue
			}
			e := newEdge(t, keys)
			n := []int{1, 4}[(at/3)%2]
			e.disk.breakAt(at, n, way)
			e.lives()
			e.check(fmt.Sprintf("%s at call %d of %d and the %d after it", way, at, calls, n-1))
		}
	}
}

// lives are a life that is killed, and one that ends in order.
func (e *edge) lives() (calls int) {
	e.t.Helper()
	e.open()
	for range 4 {
		e.send()
	}
	e.kill()
	e.open()
	for range 3 {
		e.send()
	}
	e.settle()
	e.drain()
	return e.disk.calls
}

// TestFullDisk: a disk that is full for longer is told to the client, which
// sends again when there is room.
func TestFullDisk(t *testing.T) {
	e := newEdge(t, newBench(t, nil))
	e.open()
	e.send()
	e.disk.breakAt(1, 1<<30, isFull)
	for range 20 {
		e.send()
	}
	if len(e.pending) != 20 {
		t.Errorf("%d of 20 requests were refused on a full disk", len(e.pending))
	}
	if last := e.refused[len(e.refused)-1]; last.code != "spool_full" {
		t.Errorf("on a full disk the answer is %+v", last)
	}
	e.disk.mend()
	e.settle()
	e.kill()
	e.open()
	e.drain()
	e.check("full disk")
}

// TestSlowDisk: while the disk takes its time, the client gives up and sends
// again, on two connections. Each event lands once, and each answer is true.
func TestSlowDisk(t *testing.T) {
	for _, outcome := range []error{nil, syscall.EIO} {
		e := newEdge(t, newBench(t, nil))
		e.open()
		e.send()
		held, release := make(chan struct{}), make(chan struct{})
		var once sync.Once
		e.disk.hold(func() (err error) {
			once.Do(func() { close(held); <-release; err = outcome })
			return err
		})
		body := e.request()
		answers := make(chan bool, 3)
		impatient, giveUp := context.WithCancel(t.Context())
		post := func(ctx context.Context) {
			client := &edge{t: t, Collector: e.Collector, sent: make(map[string]bool)}
			go func() { answers <- client.post(ctx, body) }()
		}
		before := e.appends.Load()
		post(impatient)
		<-held
		giveUp()
		post(t.Context())
		post(t.Context())
		for e.appends.Load() < before+3 { // what they add to the ledger waits behind what is held
			runtime.Gosched()
		}
		close(release)
		acknowledged := 0
		for range cap(answers) {
			if <-answers {
				acknowledged++
			}
		}
		if want := map[error]int{nil: 3}[outcome]; acknowledged != want {
			t.Errorf("the sync ended with %v: %d requests were acknowledged, want %d", outcome, acknowledged, want)
		}
		e.pending = append(e.pending, body)
		e.settle()
		e.drain()
		e.check("slow disk")
	}
}

// TestSinkFaults: a warehouse that is away, in whatever way, delays events and
// loses none.
func TestSinkFaults(t *testing.T) {
	away := errors.New("the warehouse is away")
	for name, fault := range map[string]func(e *edge, n int, b Batch, land func() error) error{
		"dead": func(_ *edge, n int, _ Batch, land func() error) error {
			if n <= 3 {
				return away
			}
			return land()
		},
		"fails in the middle of a batch": func(e *edge, n int, b Batch, land func() error) error {
			if n%2 == 1 {
				half := filepath.Join(e.sink.Dir, filepath.Base(e.sink.aside()), fmt.Sprintf("%s-%020d-%020d", b.SpoolID, b.First, b.Last))
				return errors.Join(away, os.MkdirAll(half, 0o755), os.WriteFile(filepath.Join(half, "events.parquet"), []byte("PAR1"), 0o600))
			}
			return land()
		},
		"lands and does not say so": func(_ *edge, n int, _ Batch, land func() error) error {
			if err := land(); err != nil || n%2 == 0 {
				return err
			}
			return away
		},
		"slow": func(_ *edge, _ int, _ Batch, land func() error) error {
			<-time.After(20 * time.Millisecond)
			return land()
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEdge(t, newBench(t, nil))
			n := 0
			e.sink.fail(func(b Batch, land func() error) error { n++; return fault(e, n, b, land) })
			for life := range 2 {
				e.open()
				for range 6 {
					e.send()
				}
				e.settle()
				if life == 0 {
					e.kill()
				}
			}
			e.drain()
			e.check(name)
		})
	}
}

// TestDeadSinkForLong: the spool fills to its bound, clients are told to come
// back, and when the warehouse does, all lands in order. Over two restarts.
func TestDeadSinkForLong(t *testing.T) {
	e := newEdge(t, newBench(t, nil))
	hang := func() (release func()) {
		hung := make(chan struct{})
		e.sink.fail(func(_ Batch, land func() error) error { <-hung; return land() })
		return func() { close(hung) }
	}
	release := hang()
	e.open()
	const many = 1000
	for len(e.pending) == 0 {
		if e.send(); e.serial > many {
			t.Fatal("the spool has no bound")
		}
	}
	if r := e.refused[0]; r.status != 503 || r.code != "spool_full" || r.retryAfter == "" {
		t.Errorf("the spool is full: %+v", r)
	}
	if used := e.spool.Stats().Bytes; used > e.bytes {
		t.Errorf("the spool has %d bytes, its bound is %d", used, e.bytes)
	}
	accepted := e.serial - len(e.pending)
	for range 2 {
		e.sink.fail(func(Batch, func() error) error { return errors.New("away") })
		release() // what hung comes through at the last moment
		e.kill()
		release = hang()
		e.open()
		e.sendAgain()
	}
	release()
	e.settle()
	e.drain()
	e.check("the warehouse was away for long")
	if !slices.IsSorted(e.sink.order) {
		t.Errorf("landed in the order %v", e.sink.order)
	}
	t.Logf("%d of %d requests waited", accepted, e.serial)
}

// TestClockJumps: forward and back, over midnights and years, between requests
// and between lives.
func TestClockJumps(t *testing.T) {
	const day = 24 * time.Hour
	for name, jumps := range map[string][]time.Duration{
		"over midnight":          {time.Second, 2 * time.Second, -4 * time.Second, 4 * time.Second},
		"a day forward and back": {day, -day, day, -2 * day},
		"years":                  {10 * 365 * day, -30 * 365 * day, 20 * 365 * day},
		"before 1970":            {-100 * 365 * day, 200 * 365 * day},
		"back and forth":         {-time.Millisecond, time.Hour, -time.Hour, 2 * day, -time.Minute, -2 * day},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEdge(t, newBench(t, nil))
			for life := range 2 {
				e.open()
				e.send()
				for i, jump := range jumps {
					e.now = e.now.Add(jump)
					e.send()
					if i == len(jumps)/2 && life == 0 {
						e.kill()
						e.open()
					}
				}
				if len(e.refused) > 0 {
					t.Errorf("refused for the clock: %+v", e.refused)
				}
				e.drain()
			}
			e.check(name)
			// What was acknowledged is known, whatever the clock says.
			e.open()
			if answer := e.answer(t.Context(), `{"batch":[{"type":"track","event":"X","messageId":"e-1","anonymousId":"a-1",
				"context":{"consent":{"categoryPreferences":{"analytics":true}}}}]}`).Body.String(); !strings.Contains(answer, `"duplicate"`) {
				t.Errorf("the first event, sent once more, is answered with %s", answer)
			}
			e.drain()
			e.check(name)
		})
	}
}

// TestEveryByteOfASegment cuts the spool's file off at each byte, flips each, and
// clears some from each on, of a spool that was killed or closed, and lets the
// whole collector go on with it. What can be read lands once; a request that cannot
// is lost whole, and lands when it is sent again. Of a spool that was closed the
// number of lost records is known; that of a torn write is not, see the spool's
// DESIGN.md.
func TestEveryByteOfASegment(t *testing.T) {
	t.Parallel() // it waits for the disk
	keys := newBench(t, nil)
	for name, end := range map[string]func(*edge){"killed": (*edge).kill, "closed": (*edge).abandon} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			whole := newEdge(t, keys)
			whole.sink.fail(func(Batch, func() error) error { return errors.New("away") })
			whole.open()
			whole.sendSmall()
			end(whole)
			text, err := os.ReadFile(firstSegment(t, whole))
			if err != nil {
				t.Fatal(err)
			}
			used := len(bytes.TrimRight(text, "\x00"))
			step, cost := 101, 0
			if thorough() {
				step = 1
			}
			for at := 0; at < used; at += step {
				for what, damage := range map[string]func(b []byte) []byte{
					"cut":     func(b []byte) []byte { return b[:at] },
					"flipped": func(b []byte) []byte { b[at] ^= 1 << (at % 8); return b },
					"cleared": func(b []byte) []byte { clear(b[at:min(at+9, len(b))]); return b },
				} {
					e := newEdge(t, keys)
					if err := os.CopyFS(e.dir, os.DirFS(whole.dir)); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(firstSegment(t, e), damage(bytes.Clone(text)), 0o600); err != nil {
						t.Fatal(err)
					}
					cost += e.goOnDamaged(fmt.Sprintf("%s at byte %d of %d", what, at, used), name == "closed", what == "flipped")
				}
			}
			if cost == 0 {
				t.Error("no damage cost anything: the test tests nothing")
			}
		})
	}
}

// smallRequests is how many requests sendSmall sends, of two events each.
const smallRequests = 3

// goOnDamaged lands what is in the spool, sends all of it again, and returns how
// many requests were lost.
func (e *edge) goOnDamaged(what string, counted, one bool) (lost int) {
	e.t.Helper()
	for n := range smallRequests {
		e.sent[fmt.Sprintf("e-%d-a", n)], e.sent[fmt.Sprintf("e-%d-b", n)] = false, false
	}
	e.open()
	e.drain()
	e.check(what)
	events := landedRows[EventRow](e.t, e.sink.Dir, "events")
	lost = smallRequests - len(events)/2
	halves := make(map[string]int)
	for _, event := range events {
		halves[event.EventID[:len("e-0")]]++
	}
	for request, n := range halves {
		if n != 2 {
			e.t.Errorf("%s: of request %s %d events landed", what, request, n)
		}
	}
	switch stats := e.spool.Stats(); {
	case counted && stats.Lost != uint64(lost), !counted && stats.Lost > uint64(lost):
		e.t.Errorf("%s: %d requests are lost, and %d records are said to be", what, lost, stats.Lost)
	case one && lost > 1:
		e.t.Errorf("%s: one byte cost %d requests", what, lost)
	case one && !e.says("damaged", "torn"):
		e.t.Errorf("%s: the log does not say so:\n%s", what, &e.log)
	}
	e.open()
	e.sendSmall()
	e.drain()
	e.check(what + ", sent again")
	return lost
}

// sendSmall sends requests of few bytes, the same each time.
func (e *edge) sendSmall() {
	e.t.Helper()
	const yes = `"anonymousId":"a","event":"X","type":"track","context":{"consent":{"categoryPreferences":{"analytics":true}}}`
	for n := range smallRequests {
		a, b := fmt.Sprintf("e-%d-a", n), fmt.Sprintf("e-%d-b", n)
		if !e.post(e.t.Context(), fmt.Sprintf(`{"batch":[{"messageId":%q,%s},{"messageId":%q,%s}]}`, a, yes, b, yes)) {
			e.t.Fatal("refused")
		}
	}
}

// abandon ends a life in order, but for what has not landed.
func (e *edge) abandon() {
	e.t.Helper()
	if err := e.spool.Close(); err != nil {
		e.t.Fatal(err)
	}
	e.stop()
	<-e.loaded
}

func (e *edge) says(texts ...string) bool {
	return slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(e.log.String(), text) })
}

// firstSegment is the file of a spool with its first records.
func firstSegment(t *testing.T, e *edge) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(e.dir, "spool", "0*.seg"))
	if err != nil || len(files) == 0 {
		t.Fatalf("segments %v, %v", files, err)
	}
	return files[0]
}
