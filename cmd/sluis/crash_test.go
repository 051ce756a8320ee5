package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// TestKilledCollectorLosesNothing kills a collector with SIGKILL, at random
// moments under load, again and again, while senders repeat each request under
// the same message ids until it is answered with 200. Then it counts: each
// acknowledged event is in sluis.events exactly once, no other is, nothing of a
// refused one is in any file or log, and the ledger balances.
//
// SLUIS_KILLS says how often it kills, and SLUIS_SOAK_DIR where it keeps its
// workspace and how far it has come: started again with it, it goes on there.
// SLUIS_SEED repeats the choices of an earlier run, as far as they are the test's.
func TestKilledCollectorLosesNothing(t *testing.T) {
	s := openSoak(t)
	kills := number(t, "SLUIS_KILLS", 8)
	began, already := time.Now(), s.Kills
	stop := s.send()
	for s.Kills < int(kills) {
		s.live()
		if s.Kills++; s.Kills%25 == 0 {
			s.searchFiles() // also the spool, which forgets what has landed
		}
		s.save()
		if s.Kills%100 == 0 {
			t.Logf("%d of %d kills, %d of them in this run within %v; %d events acknowledged, %d of them known from a try before",
				s.Kills, kills, s.Kills-already, time.Since(began).Round(time.Second), s.acknowledged(), s.known.Load())
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	p := s.start("collector")
	stop()
	s.save()
	p.terminate(t)
	s.look(p)
	s.reconcile()
	if !t.Failed() {
		s.remove()
	}
}

func number(t *testing.T, name string, otherwise int64) int64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// soak is a workspace whose collector is killed.
type soak struct {
	t         *testing.T
	workspace *workspace.Workspace
	senders   []*sender
	url       atomic.Pointer[string] // of the collector that runs
	answers   atomic.Int64
	known     atomic.Int64 // events answered as duplicates

	soakState
	file   string // with the state
	random *rand.Rand
}

// soakState is how far a soak has come.
type soakState struct {
	Seed  int64
	Kills int
	Next  []int64 // by sender
}

func openSoak(t *testing.T) *soak {
	t.Helper()
	dir := os.Getenv("SLUIS_SOAK_DIR")
	if dir == "" {
		dir = t.TempDir()
	}
	state := soakState{Seed: number(t, "SLUIS_SEED", time.Now().UnixNano()), Next: make([]int64, 8)}
	file, shop := filepath.Join(dir, "soak.json"), filepath.Join(dir, "shop")
	text, err := os.ReadFile(file)
	switch {
	case err == nil:
		err = json.Unmarshal(text, &state)
	case errors.Is(err, fs.ErrNotExist):
		makeWorkspace(t, shop)
		err = nil
	}
	if err != nil {
		t.Fatal(err)
	}
	s := newSoak(t, shop, state.Next)
	s.file, s.soakState = file, state
	s.random = rand.New(rand.NewPCG(uint64(s.Seed), uint64(s.Kills)))
	t.Logf("SLUIS_SEED=%d, from kill %d on", s.Seed, s.Kills)
	return s
}

// newSoak has a sender for each number of a next event.
func newSoak(t *testing.T, dir string, next []int64) *soak {
	t.Helper()
	s := &soak{t: t}
	var err error
	if s.workspace, err = workspace.Open(dir); err != nil {
		t.Fatal(err)
	}
	for i := range next {
		s.senders = append(s.senders, &sender{soak: s, number: i, next: next[i]})
	}
	s.url.Store(new(string))
	return s
}

// save writes down how far it has come. What is sent after that is sent again
// under the same ids, should the test be interrupted.
func (s *soak) save() {
	s.t.Helper()
	for i, sender := range s.senders {
		s.Next[i] = atomic.LoadInt64(&sender.next)
	}
	text, err := json.Marshal(s.soakState)
	if err == nil {
		err = errors.Join(os.WriteFile(s.file+".new", text, 0o600), os.Rename(s.file+".new", s.file))
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *soak) remove() {
	if err := errors.Join(os.RemoveAll(s.workspace.Dir), os.Remove(s.file)); err != nil {
		s.t.Error(err)
	}
}

func (s *soak) acknowledged() (n int64) {
	for _, sender := range s.senders {
		n += atomic.LoadInt64(&sender.next)
	}
	return n
}

// live is the life of one collector, up to a moment that is either while it
// comes up, after some answers, or while a batch lands.
func (s *soak) live() {
	s.t.Helper()
	var p *program
	switch moment := s.random.IntN(10); {
	case moment < 1:
		p = launch(s.t, s.command("collector")...)
		s.wait(80 * time.Millisecond)
	case moment < 9:
		p = s.start("collector")
		s.until(p, s.more(1+s.random.Int64N(60)))
		s.wait(10 * time.Millisecond)
	default:
		p = s.start("collector")
		before := s.landing()
		s.until(p, func() bool { return s.landing() != before })
		s.wait(30 * time.Millisecond)
	}
	if err := p.Process.Kill(); err != nil {
		s.t.Fatal(err)
	}
	for range p.stderr.url { // until its log has ended
	}
	_ = p.Wait()
	if status := p.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGKILL {
		s.t.Fatalf("the collector ended by itself: %v\n%s", p.ProcessState, p.stderr)
	}
	s.look(p)
}

func (s *soak) command(verb string, flags ...string) []string {
	return append([]string{verb, "--workspace", s.workspace.Dir, "--listen", "127.0.0.1:0"}, flags...)
}

// start starts a program that collects, and lets the senders know.
func (s *soak) start(verb string, flags ...string) *program {
	s.t.Helper()
	p := start(s.t, s.command(verb, flags...)...)
	s.url.Store(&p.url)
	return p
}

// more tells whether so many requests have been answered from now on.
func (s *soak) more(requests int64) func() bool {
	enough := s.answers.Load() + requests
	return func() bool { return s.answers.Load() >= enough }
}

// wait waits for a random part of a time.
func (s *soak) wait(most time.Duration) { <-time.After(time.Duration(s.random.Int64N(int64(most)))) }

// until waits for something that a running collector is to do.
func (s *soak) until(p *program, yes func() bool) {
	s.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(2 * time.Minute); !yes(); {
		select {
		case <-tick.C:
		case <-deadline:
			s.t.Fatalf("the collector neither answers nor lands:\n%s", p.stderr)
		}
	}
}

// landing changes when a batch begins to land.
func (s *soak) landing() time.Time {
	info, err := os.Stat(filepath.Join(s.workspace.Landing(), "_tmp"))
	if err != nil {
		return time.Time{} // nothing has landed yet
	}
	return info.ModTime()
}

// look reads a collector's log.
func (s *soak) look(p *program) {
	s.t.Helper()
	if log := p.stderr.String(); strings.Contains(strings.ToLower(log), "canary") || strings.Contains(log, "panic:") || strings.Contains(log, "DATA RACE") {
		s.t.Errorf("the log has what it should not have:\n%s", log)
	}
}

// send starts the senders. Each ends, when it is told to, with its request
// acknowledged.
func (s *soak) send() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, sender := range s.senders {
		running.Go(func() { sender.run(ctx) })
	}
	s.t.Cleanup(cancel)
	return func() {
		cancel()
		running.Wait()
	}
}

// sender sends events, numbered; what each is follows from its number.
type sender struct {
	soak   *soak
	number int
	next   int64 // all below are acknowledged
	client http.Client
}

func (c *sender) run(ctx context.Context) {
	for ctx.Err() == nil && !c.soak.t.Failed() {
		n := 1 + rand.Int64N(5)
		known, err := c.settle(c.batch(n))
		if err != nil {
			c.soak.t.Errorf("sender %d at event %d: %v", c.number, c.next, err)
			return
		}
		atomic.AddInt64(&c.next, n)
		c.soak.answers.Add(1)
		c.soak.known.Add(known)
		<-time.After(time.Duration(rand.IntN(16)) * time.Millisecond)
	}
}

// settle sends a body until it is answered with 200, and says how many of its
// events were known.
func (c *sender) settle(body string) (known int64, err error) {
	for deadline := time.Now().Add(5 * time.Minute); ; {
		answer, status, err := c.post(body)
		switch {
		case err == nil && status == http.StatusOK:
			return int64(strings.Count(answer, `"outcome":"duplicate"`)), nil
		case err == nil && status < http.StatusInternalServerError:
			return 0, fmt.Errorf("answered with %d: %s", status, answer)
		case time.Now().After(deadline):
			return 0, errors.New("not acknowledged in five minutes")
		}
		<-time.After(time.Duration(1+rand.IntN(5)) * time.Millisecond) // the collector is down, or busy
	}
}

func (c *sender) post(body string) (answer string, status int, err error) {
	response, err := c.client.Post(*c.soak.url.Load()+"/v1/batch", "application/json", strings.NewReader(body))
	if err != nil {
		return "", 0, err
	}
	text, err := io.ReadAll(response.Body)
	return string(text), response.StatusCode, errors.Join(err, response.Body.Close())
}

func (c *sender) batch(n int64) string {
	events := make([]string, n)
	for i := range n {
		events[i] = c.event(c.next + i)
	}
	return `{"writeKey":"wk_test","batch":[` + strings.Join(events, ",") + `]}`
}

func (c *sender) id(n int64) string { return fmt.Sprintf("s%d-%d", c.number, n) }

// lands tells whether the event with that number is to land.
func lands(n int64) bool { return n%10 < 7 }

func (c *sender) event(n int64) string {
	person := fmt.Sprintf(`"messageId":%q,"anonymousId":"a-%d-%d"`, c.id(n), c.number, n%50)
	switch n % 10 {
	case 6:
		return `{"type":"identify",` + person + `,"userId":"canary-user","traits":{"email":"canary.known@example.com"},` + consented + `}`
	case 7: // quarantined, which is sealed
		return `{"type":"nonsense",` + person + `,"properties":{"note":"canary faulty"},` + consented + `}`
	case 8: // counted
		return `{"type":"track","event":"canary event","messageId":"canary-` + c.id(n) + `","anonymousId":"canary-silent","properties":{"canary-key":"canary-value"}}`
	case 9: // withheld
		return `{"type":"identify","messageId":"canary-` + c.id(n) + `","userId":"canary-refuses","traits":{"email":"canary.refused@example.com","plan":"canary-gold"},
			"context":{"consent":{"categoryPreferences":{"analytics":false}}}}`
	default:
		return `{"type":"track","event":"Load",` + person + `,` + consented + `}`
	}
}

// searchFiles looks for the canaries in every byte below the workspace.
func (s *soak) searchFiles() {
	s.t.Helper()
	err := filepath.WalkDir(s.workspace.Dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if bytes.Contains(bytes.ToLower(text), []byte("canary")) {
			s.t.Errorf("%s has what was refused", path)
		}
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// reconcile compares what was acknowledged with what landed.
func (s *soak) reconcile() {
	s.t.Helper()
	s.searchFiles()
	ctx := context.Background()
	db, err := openWarehouse(ctx, s.workspace, "test", io.Discard)
	if err != nil {
		s.t.Fatal(err)
	}
	defer db.Close()
	canaries := newSearch([]string{"canary"}) // in compressed files, too
	if err := canaries.warehouse(ctx, db); err != nil || len(canaries.hits) > 0 {
		s.t.Errorf("what was refused is in %v, %v", canaries.hits, err)
	}
	rows, err := warehouse.Collect(ctx, db, "select event_id, count(*) from sluis.events group by 1")
	if err != nil {
		s.t.Fatal(err)
	}
	landed := make(map[string]int64, len(rows))
	for _, row := range rows {
		landed[row[0].(string)] = row[1].(int64)
	}
	s.compare(landed)
	l, err := readLedger(ctx, db)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := l.check(); err != nil {
		s.t.Error(err)
	}
	s.t.Logf("%d kills, %d events acknowledged, %d landed, %d of %d received were known from a try before; searched %d rows",
		s.Kills, s.acknowledged(), len(landed), l.Duplicate, l.Received, canaries.nRows)
}

func (s *soak) compare(landed map[string]int64) {
	s.t.Helper()
	var lost, twice []string
	for id, times := range landed {
		if times > 1 {
			twice = append(twice, id)
		}
	}
	want := 0
	for _, sender := range s.senders {
		for n := range sender.next {
			if !lands(n) {
				continue
			}
			if want++; landed[sender.id(n)] == 0 {
				lost = append(lost, sender.id(n))
			}
		}
	}
	if len(lost)+len(twice) > 0 || len(landed) != want {
		s.t.Errorf("%d acknowledged events are lost, such as %v; %d landed more than once, such as %v; %d landed, want %d",
			len(lost), lost[:min(5, len(lost))], len(twice), twice[:min(5, len(twice))], len(landed), want)
	}
}
