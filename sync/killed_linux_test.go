package syncer_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/plugins/host"
	syncer "github.com/sluis-cdp/sluis/sync"
)

// TestKilledAnywhere is the crash matrix. A host and its plugin are processes
// that bring a real warehouse and a real destination from one state of the world
// to the next. At one of the points that such a run passes, which are found by
// having one pass them all, the host or the plugin is killed with SIGKILL, the
// connection to the warehouse is lost, or the destination is gone, hangs, breaks
// off or refuses; or host and plugin are stopped until another has taken the sync
// over, and then go on as if nothing had been. The world goes on, at times into a second misfortune, and
// one healthy run must bring the destination to model ∧ consent.
//
// SLUIS_CRASHES says how many points are tried, evenly of all actors and phases
// and in an order that SLUIS_SEED repeats; SLUIS_POINT, of those with that word in
// their description alone. A kill in the middle of a statement
// comes after a time by that seed, so it may hit another instruction each time.
func TestKilledAnywhere(t *testing.T) {
	crashes, seed := number(t, "SLUIS_CRASHES", 4), number(t, "SLUIS_SEED", time.Now().UnixNano())
	t.Logf("SLUIS_SEED=%d SLUIS_CRASHES=%d", seed, crashes)
	for name, newSite := range map[string]func(*testing.T) site{
		"webhook":  func(t *testing.T) site { return newWebhookSite(t) },
		"postgres": func(t *testing.T) site { return newPostgresSite(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newArena(t, name, newSite(t))
			a.matrix(uint64(seed), int(crashes+1)/2)
		})
	}
}

func number(t *testing.T, variable string, otherwise int64) int64 {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return n
}

// arena is a world whose warehouse, destination and clock are outside of the
// processes that work with them.
type arena struct {
	t     *testing.T
	site  site
	job   errand
	truth *truth
	base  situation     // where each crash begins
	ahead time.Duration // of this machine's clock

	// Where the warehouse is no file: makes another, and a way to one that can be cut.
	place  func() (opener, place string)
	detour func(place string) (through string, cut func())

	acknowledged map[string]bool // ids of changes, when a.look looked last
}

// situation is what can be put back, beside the site.
type situation struct {
	warehouse []byte
	model     map[string]customer
	allowed   map[string]bool

	acknowledged map[string]bool
}

func newArena(t *testing.T, destination string, s site) *arena {
	t.Helper()
	binary, digest, err := host.Self()
	if err != nil {
		t.Fatal(err)
	}
	mark := make([]byte, 8)
	for i := range mark {
		mark[i] = byte(rand.IntN(256))
	}
	sync := vips()
	sync.Destination = destination
	a := &arena{t: t, site: s, job: errand{
		Warehouse: filepath.Join(t.TempDir(), "w.duckdb"), Clock: filepath.Join(t.TempDir(), "ahead"),
		Sync: sync, Settings: s.settings(), Binary: binary, Digest: digest, Mark: hex.EncodeToString(mark),
	}}
	return a
}

// open lets the test look at the warehouse while no process has it.
func (a *arena) open(do func(w *world)) {
	a.t.Helper()
	db, err := openers[a.job.Opener](context.Background(), a.job.Warehouse)
	if err != nil {
		a.t.Fatal(err)
	}
	w := a.truth.world
	w.db = db
	do(w)
	if err := db.Close(); err != nil {
		a.t.Fatal(err)
	}
}

// begin makes the world in which each crash happens: a first run has come to its
// end, and then some left the model, some withdrew, some changed and some came.
func (a *arena) begin() {
	a.t.Helper()
	w := &world{t: a.t, now: time.Now()}
	w.target = newTarget(w)
	a.truth, a.acknowledged = newTruth(w), map[string]bool{}
	tr := a.truth
	for n := 1; n <= 6; n++ {
		tr.put(n, 1)
		tr.allowed[fmt.Sprintf("p%d", n)] = true
	}
	tr.put(10, 1)
	tr.allowed["p10"] = false
	a.open(func(w *world) {
		w.createModels()
		tr.store()
	})
	a.healthy("")
	delete(tr.model, "k1")
	tr.allowed["p2"] = false
	tr.put(3, 2)
	for n := 7; n <= 9; n++ {
		tr.put(n, 1)
		tr.allowed[fmt.Sprintf("p%d", n)] = true
	}
	a.open(func(*world) { tr.store() })
	a.keep()
}

func (a *arena) keep() {
	a.t.Helper()
	a.site.save()
	a.base = situation{model: maps.Clone(a.truth.model), allowed: maps.Clone(a.truth.allowed), acknowledged: maps.Clone(a.acknowledged)}
	if a.place != nil {
		return
	}
	var err error
	if a.base.warehouse, err = os.ReadFile(a.job.Warehouse); err != nil {
		a.t.Fatal(err)
	}
}

// again puts all back to where begin left it.
func (a *arena) again() {
	a.t.Helper()
	a.site.befall(0, false, nil)
	a.site.down(false)
	if a.place != nil { // there is nothing to copy
		a.site = newWebhookSite(a.t)
		a.job.Settings = a.site.settings()
		a.job.Opener, a.job.Warehouse = a.place()
		a.begin()
		return
	}
	a.site.restore()
	err := errors.Join(os.WriteFile(a.job.Warehouse, a.base.warehouse, 0o600), os.RemoveAll(a.job.Warehouse+".wal"))
	if err != nil {
		a.t.Fatal(err)
	}
	tr := a.truth
	a.acknowledged = maps.Clone(a.base.acknowledged)
	tr.model, tr.allowed, tr.erased = maps.Clone(a.base.model), maps.Clone(a.base.allowed), map[string]bool{}
}

// setClock has hosts see the time of the world, which goes on by itself.
func (a *arena) setClock() {
	a.t.Helper()
	tr := a.truth
	a.ahead = max(a.ahead, time.Until(tr.now))
	tr.now = time.Now().Add(a.ahead)
	if err := os.WriteFile(a.job.Clock, []byte(strconv.FormatInt(a.ahead.Nanoseconds(), 10)), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// healthy is a run, or applies a plan, and nothing befalls it. That the plan
// was overtaken is fine.
func (a *arena) healthy(plan string) {
	a.t.Helper()
	a.setClock()
	j := a.job
	j.Plan, j.ApproveGuards = plan, true
	var log bytes.Buffer
	err := j.do(context.Background(), control{}, &log)
	if _, stale := errors.AsType[*syncer.StaleError](err); err != nil && (!stale || plan == "") {
		a.t.Fatalf("a healthy run: %v\n%s", err, &log)
	}
	a.look()
	a.truth.advance(10 * time.Minute) // it may have waited
}

// look has the site tell what came that should not have.
func (a *arena) look() {
	a.t.Helper()
	for _, wrong := range a.site.check(func(key string) bool { return a.truth.target.allowed("p" + key[1:]) }, a.acknowledged) {
		a.t.Error(wrong)
	}
	a.acknowledged = map[string]bool{}
	a.open(func(w *world) {
		// What is in doubt again, since the destination did not close, is no longer acknowledged.
		for _, row := range w.query(`SELECT DISTINCT change_id FROM sluis_sync.deliveries d WHERE outcome = 'delivered'
			AND NOT EXISTS (SELECT 1 FROM sluis_sync.state t WHERE t.unsure AND t.change_id = d.change_id)`) {
			a.acknowledged[row[0].(string)] = true
		}
	})
}

// matrix tries points, until it has tried so many.
func (a *arena) matrix(seed uint64, crashes int) {
	a.begin()
	points := a.points()
	points = slices.DeleteFunc(points, func(p point) bool { return !strings.Contains(p.String(), os.Getenv("SLUIS_POINT")) })
	order := spread(points, rand.New(rand.NewPCG(seed, 0)))
	tried := map[string]int{}
	for n := range crashes {
		p := order[n%len(order)]
		a.again()
		a.crash(p, points, rand.New(rand.NewPCG(seed, uint64(n)+1)))
		tried[p.cell()]++
		if a.t.Failed() {
			a.t.Fatalf("that was crash %d of this seed: %v", n, p)
		}
	}
	var counts []string
	for _, cell := range slices.Sorted(maps.Keys(tried)) {
		counts = append(counts, fmt.Sprintf("%s %d", cell, tried[cell]))
	}
	a.t.Logf("%d crashes, %d points: %s", crashes, len(points), strings.Join(counts, ", "))
}

// point is where a misfortune can befall a run: at a step of the host, or at a
// request that comes to the destination.
type point struct {
	actor, phase  string
	step, request int
	after         bool // the request is done
	how           string
}

func (p point) cell() string { return p.actor + "/" + p.phase }

func (p point) String() string {
	where := fmt.Sprint("before step ", p.step)
	if p.request > 0 {
		where = map[bool]string{false: "before", true: "after"}[p.after] + fmt.Sprint(" request ", p.request)
	}
	return fmt.Sprintf("%s, %s, %s: %s", p.actor, p.phase, where, p.how)
}

// points lets a run pass undisturbed, and lists what can befall it.
func (a *arena) points() (points []point) {
	a.t.Helper()
	steps, requests := a.play(a.t, point{}, nil)
	a.look()
	phase, running, held := "plan", false, false
	for i, step := range steps {
		n := i + 1
		at := func(actor, how string) { points = append(points, point{actor: actor, phase: phase, step: n, how: how}) }
		at("host", "killed")
		at("destination", "gone")
		if running {
			at("plugin", "killed")
		}
		if strings.Contains(step, "sluis_") {
			at("host", "killed within")
			at("warehouse", "lost before")
			at("warehouse", "lost after")
			if a.detour != nil {
				at("warehouse", "cut off")
			}
		}
		if n > 1 && (step == "open the warehouse" || !held || a.place != nil) { // of a DuckDB file there is one holder
			at("host", "stopped")
		}
		held = (held || step == "open the warehouse") && step != "close the warehouse"
		running = (running || step == "start the plugin") && step != "close the destination"
		phase = next(phase, step)
	}
	for n := 1; n <= requests; n++ {
		for _, after := range []bool{false, true} {
			at := func(actor, how string) {
				points = append(points, point{actor: actor, phase: "send", request: n, after: after, how: how})
			}
			at("host", "killed")
			at("plugin", "killed")
			for _, f := range []fate{reset, silence, busy, broken, garbled} {
				at("destination", string(f))
			}
		}
	}
	return points
}

// next is the phase after a step: a plan is made, each batch is sent,
// acknowledged and committed to the state, and so is the end of the run.
func next(phase, step string) string {
	switch {
	case step == "APPEND sluis_sync.plans", phase == "commit" && strings.HasPrefix(step, "WITH"):
		return "send"
	case step == "write":
		return "acknowledge"
	case step == "APPEND sluis_sync.deliveries" && phase == "acknowledge":
		return "commit"
	}
	return phase
}

// spread orders points at random so that all cells come as often.
func spread(points []point, r *rand.Rand) (order []point) {
	cells := map[string][]point{}
	for _, i := range r.Perm(len(points)) {
		cells[points[i].cell()] = append(cells[points[i].cell()], points[i])
	}
	names := slices.Sorted(maps.Keys(cells))
	r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	for len(order) < len(points) {
		for _, name := range names {
			if left := cells[name]; len(left) > 0 {
				order, cells[name] = append(order, left[0]), left[1:]
			}
		}
	}
	return order
}

// play starts a host and has something befall it. It returns the steps that the
// host took, once host and plugin are gone, and how many requests came.
func (a *arena) play(t *testing.T, p point, r *rand.Rand) (steps []string, requests int) {
	t.Helper()
	a.setClock()
	j, cut := a.job, func() {}
	if p.how == "cut off" {
		j.Warehouse, cut = a.detour(j.Warehouse)
	}
	h := startHost(t, j)
	kill := func() fate {
		if p.actor == "host" {
			h.kill()
			return answered
		}
		if p.actor == "plugin" {
			killPlugins(a.job.Mark)
			return answered
		}
		return fate(p.how)
	}
	a.site.befall(p.request, p.after, kill)
	for n := 1; ; n++ {
		step, ok := h.next()
		if !ok {
			break
		}
		steps = append(steps, step)
		if n != p.step {
			h.tell(proceed)
			continue
		}
		switch {
		case p.how == "killed within":
			h.tell(proceed)
			<-time.After(time.Duration(r.Int64N(int64(5 * time.Millisecond))))
			kill()
		case p.how == "lost before":
			h.tell(refuse)
		case p.how == "lost after":
			h.tell(loseAnswer)
		case p.how == "cut off":
			cut()
			h.tell(proceed)
		case p.actor == "destination":
			a.site.down(true)
			h.tell(proceed)
		default:
			kill()
			h.tell(proceed)
		}
	}
	_ = h.Wait() // it failed, or did what it should: the state tells
	requests = a.site.requests()
	a.site.befall(0, false, nil)
	a.site.down(false)
	eventually(t, "the plugin ends with its host", func() bool { return len(plugins(a.job.Mark)) == 0 })
	if log := h.log.String(); strings.Contains(log, "panic:") || strings.Contains(log, "DATA RACE") || strings.Contains(log, "gold") {
		t.Errorf("the log of the host has what it should not have:\n%s", log)
	}
	return steps, requests
}

// eventually waits for what other processes do.
func eventually(t *testing.T, what string, yes func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(time.Minute); !yes(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

// crash is one misfortune, or two, and what comes after.
func (a *arena) crash(p point, points []point, r *rand.Rand) {
	a.t.Helper()
	if p.how == "stopped" {
		a.overtake(p, r)
		return
	}
	a.play(a.t, p, r)
	a.look()
	a.goOn(r)
	if second := points[r.IntN(len(points))]; r.IntN(4) == 0 && second.how != "stopped" {
		a.play(a.t, second, r)
		a.look()
		a.goOn(r)
	}
	if r.IntN(2) == 0 {
		if plan := a.interrupted(); plan != "" {
			a.healthy(plan)
		}
	}
	a.healthy("")
	a.settled()
}

// overtake stops a host and its plugin at a step, has another take the sync over
// and bring it to its end, and lets the first go on. Whatever that does then has
// no effect.
func (a *arena) overtake(p point, r *rand.Rand) {
	a.t.Helper()
	const writes = 2 * time.Second
	a.setClock()
	j := a.job
	j.WriteTimeout = writes
	h := startHost(a.t, j)
	var step string
	for n := 1; ; n++ {
		if step, _ = h.next(); n == p.step {
			break
		}
		h.tell(proceed)
	}
	signal := func(s syscall.Signal) {
		for _, pid := range append(plugins(a.job.Mark), h.Process.Pid) {
			if err := syscall.Kill(pid, s); err != nil {
				a.t.Fatal(err)
			}
		}
	}
	signal(syscall.SIGSTOP)
	a.site.stopped(true)
	stopped := a.job.Mark
	a.job.Mark += "0" // of the other's plugins
	if step == "write" {
		<-time.After(writes) // as long as the lease is in this test no time passes but on its clock
	}
	a.look()
	a.goOn(r)
	a.healthy("")
	a.settled()
	a.job.Mark = stopped
	signal(syscall.SIGCONT)
	a.site.stopped(false)
	var rest []string
	for ok := true; ok; step, ok = h.next() {
		rest = append(rest, step)
		h.tell(proceed)
	}
	// Where the warehouse stays open, it may have had nothing left to do but tidy
	// up its own plan and give its lease back.
	if err := h.Wait(); err == nil && slices.ContainsFunc(rest, changesState) {
		a.t.Errorf("who was overtaken does not say so: it went on with %q", rest)
	}
	a.look()
	a.settled()
}

// changesState reports whether a step changes what is known of the destination.
func changesState(step string) bool {
	verb, table, _ := strings.Cut(step, " ")
	return verb != "SELECT" && verb != "WITH" && slices.Contains([]string{"sluis_sync.state", "sluis_sync.deliveries", "sluis_sync.receipts", "sluis_sync.kept"}, table)
}

// goOn lets the lease of the dead end, and the world change.
func (a *arena) goOn(r *rand.Rand) {
	a.t.Helper()
	tr := a.truth
	tr.advance(10 * time.Minute)
	for range r.IntN(3) {
		n := 3 + r.IntN(8)
		key, profile := fmt.Sprintf("k%d", n), fmt.Sprintf("p%d", n)
		switch r.IntN(5) {
		case 0:
			tr.allowed[profile] = !tr.allowed[profile]
		case 1:
			delete(tr.allowed, profile)
		case 2:
			tr.erased[profile] = true
		case 3:
			tr.put(n, r.Int64N(1000))
		case 4:
			delete(tr.model, key)
		}
	}
	a.open(func(*world) { tr.store() })
}

// interrupted is the plan that a run has not come to the end of, if there is one.
func (a *arena) interrupted() (plan string) {
	a.t.Helper()
	a.open(func(w *world) {
		for _, row := range w.query("SELECT plan_id FROM sluis_sync.plans WHERE status = 'applying' ORDER BY created_at DESC LIMIT 1") {
			plan = row[0].(string)
		}
	})
	return plan
}

// settled holds the destination against model and consent, and the state against
// the destination.
func (a *arena) settled() {
	a.t.Helper()
	want := a.truth.want()
	if diff := cmp.Diff(want, a.site.members()); diff != "" {
		a.t.Errorf("the destination differs from model and consent (-want +got):\n%s", diff)
	}
	a.open(func(w *world) {
		keys := map[string]string{}
		for _, row := range w.query("SELECT key, status FROM sluis_sync.state WHERE present AND NOT unsure AND row_hash IS NOT NULL") {
			keys[row[0].(string)] = row[1].(string)
		}
		known := map[string]string{}
		for key := range want {
			known[key] = "delivered"
		}
		if diff := cmp.Diff(known, keys); diff != "" {
			a.t.Errorf("the state differs from the destination (-destination +state):\n%s", diff)
		}
		if rows := w.query("SELECT COUNT(*) FROM sluis_sync.state"); rows[0][0] != int64(len(known)) {
			a.t.Errorf("the state has %v rows, the destination %d", rows[0][0], len(known))
		}
	})
	a.setClock()
	e, err := a.job.engine(control{}, io.Discard)
	if err != nil {
		a.t.Fatal(err)
	}
	p, err := e.Plan(context.Background(), a.job.sync())
	if err != nil || p.Counts != (syncer.Counts{Unchanged: int64(len(want))}) {
		a.t.Errorf("after it settled, the plan is %+v, %v", p.Counts, err)
	}
}
