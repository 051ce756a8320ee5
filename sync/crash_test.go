package syncer_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/plugins/destination"
	syncer "github.com/sluis-cdp/sluis/sync"
)

// truth is what a test knows of the world: who is in the model with which
// values, and who consents.
type truth struct {
	*world
	model   map[string]customer
	allowed map[string]bool
	erased  map[string]bool
	copies  map[string]bool // keys that are in the model twice
	sync    syncer.Sync
}

func newTruth(w *world) *truth {
	tr := &truth{world: w, model: map[string]customer{}, allowed: map[string]bool{"p0": true}, erased: map[string]bool{}, copies: map[string]bool{}, sync: vips()}
	w.target.allowed = func(profile string) bool { return tr.allowed[profile] && !tr.erased[profile] }
	return tr
}

func (tr *truth) put(n int, visits int64) {
	key := fmt.Sprintf("k%d", n)
	tr.model[key] = customer{key, fmt.Sprintf("p%d", n), "gold", visits}
}

// store brings the warehouse to what is true now.
func (tr *truth) store() {
	tr.t.Helper()
	tr.heard()
	tr.advance(time.Minute)
	var rows []customer
	for key, c := range tr.model {
		rows = append(rows, c)
		if tr.copies[key] {
			c.visits++
			rows = append(rows, c)
		}
	}
	tr.setModel(rows...)
	tr.setConsent(tr.allowed)
	tr.advance(time.Second)
	tr.exec("DELETE FROM sluis_sync.erased WHERE TRUE")
	var erasures [][]any
	for profile, erased := range tr.erased {
		if erased {
			erasures = append(erasures, []any{profile, tr.clock()})
		}
	}
	tr.append("sluis_sync.erased", []string{"id", "erased_at"}, erasures...)
}

// want is what the destination must hold in the end: model ∧ consent.
func (tr *truth) want() map[string]string {
	want := map[string]string{}
	for key, c := range tr.model {
		if tr.target.allowed(c.profile) {
			want[key] = fmt.Sprint(tr.mapped(c))
		}
	}
	return want
}

// mapped are the values of a customer as the sync maps them.
func (tr *truth) mapped(c customer) []any {
	values := make([]any, len(tr.sync.Mapping))
	for i, f := range tr.sync.Mapping {
		switch {
		case f.Value != nil:
			values[i] = *f.Value
		case f.Column == "tier":
			values[i] = c.tier
		default:
			values[i] = c.visits
		}
	}
	return values
}

func (tr *truth) got() map[string]string {
	got := map[string]string{}
	for key, values := range tr.target.members {
		got[key] = fmt.Sprint(values)
	}
	return got
}

// settle lets healthy runs follow, the first after the lease of a process that
// died, and checks that they come to the truth and stay there.
func (tr *truth) settle() {
	tr.t.Helper()
	tr.heard()
	tr.fault, tr.target.answer = nil, nil
	tr.advance(10 * time.Minute)
	for range 2 {
		if _, err := tr.engine().Run(context.Background(), tr.sync, syncer.Options{Approve: true}); err != nil {
			tr.t.Fatal("a healthy run:", err)
		}
	}
	if diff := cmp.Diff(tr.want(), tr.got()); diff != "" {
		tr.t.Errorf("the destination differs from model and consent (-want +got):\n%s", diff)
	}
	sends := tr.target.sends
	p, err := tr.engine().Plan(context.Background(), tr.sync)
	if err != nil || p.Counts != (syncer.Counts{Unchanged: int64(len(tr.want()))}) {
		tr.t.Errorf("after it settled, the plan is %+v, %v", p.Counts, err)
	}
	if tr.target.sends != sends {
		tr.t.Error("a plan sent something")
	}
	if open := tr.target.incomplete(); len(open) > 0 {
		tr.t.Errorf("%d runs delivered something and were never completed", len(open))
	}
}

// How much of the following is played. The tests of BigQuery play less.
var (
	crashStride = 1          // calls of the warehouse between two crashes
	histories   = uint64(15) // random ones
)

// TestCrashAtEveryStep kills the process before and after each call of the
// warehouse and of the destination, and lets another one go on: with a new
// run, or by applying the same plan again.
func TestCrashAtEveryStep(t *testing.T) {
	w := newWorld(t)
	prepare := func() *truth {
		w.reset()
		tr := newTruth(w)
		for n := 1; n <= 6; n++ {
			tr.put(n, 1)
			tr.allowed[fmt.Sprintf("p%d", n)] = true
		}
		tr.store()
		if _, err := w.engine().Run(t.Context(), vips(), syncer.Options{}); err != nil {
			t.Fatal(err)
		}
		delete(tr.model, "k1")
		tr.allowed["p2"] = false
		tr.put(3, 2)
		tr.put(7, 1)
		tr.put(8, 1)
		tr.put(9, 1)
		tr.allowed["p7"], tr.allowed["p8"], tr.allowed["p9"] = true, true, true
		tr.store()
		w.calls = 0
		return tr
	}
	for _, resume := range []bool{false, true} {
		// Dying after a call is the same as dying before the next one.
		for n := 1; ; n += crashStride {
			tr := prepare()
			p, err := w.engine().Plan(t.Context(), vips())
			if err != nil {
				t.Fatal(err)
			}
			w.calls = 0
			w.fault = func(call int) fault {
				if call == n {
					return dieBefore
				}
				return fine
			}
			if resume {
				_, err = w.engine().Apply(t.Context(), vips(), p.ID, syncer.Options{})
			} else {
				_, err = w.engine().Run(t.Context(), vips(), syncer.Options{})
			}
			if err == nil {
				if n < 20 {
					t.Fatalf("a run took no more than %d calls: nothing was tested", n)
				}
				break
			}
			if !errors.Is(err, errDead) {
				t.Fatal(err)
			}
			w.fault = nil
			w.advance(10 * time.Minute)
			// Between the crash and the next run one more withdraws.
			tr.allowed["p8"] = false
			tr.store()
			if resume {
				_, err = w.engine().Apply(t.Context(), vips(), p.ID, syncer.Options{})
				var stale *syncer.StaleError
				if err != nil && !errors.As(err, &stale) {
					t.Fatalf("call %d: resume: %v", n, err)
				}
			}
			tr.settle()
			if t.Failed() {
				t.Fatalf("that was: killed before call %d (resume %v)", n, resume)
			}
		}
	}
}

// TestRandomHistories plays random changes of model and consent against a
// destination and a process that fail at random.
func TestRandomHistories(t *testing.T) {
	w := newWorld(t)
	for seed := range histories {
		w.reset()
		h := &history{truth: newTruth(w), rand: rand.New(rand.NewPCG(seed, 1))}
		w.target.notIdempotent = seed%5 == 4
		w.target.poll = h.polled
		for range 8 {
			h.mutate()
			h.store()
			h.run()
		}
		// What was quarantined is sent again once it changes.
		for key, c := range h.model {
			c.visits += 1000
			h.model[key] = c
		}
		h.copies = map[string]bool{}
		h.store()
		h.settle()
		if t.Failed() {
			t.Fatalf("that was seed %d", seed)
		}
	}
	w.noValues("gold")
}

type history struct {
	*truth
	rand   *rand.Rand
	jobs   []*job
	others int // runs of another machine
}

// job is what the destination accepted and does later, in order.
type job struct {
	receipt string
	do      func()
	result  destination.Settlement
}

// accept takes a change on. What will come of it is decided now.
func (h *history) accept(do func()) destination.Result {
	j := &job{receipt: fmt.Sprint("receipt-", len(h.jobs)), do: func() {}}
	j.result = destination.Settlement{Receipt: j.receipt, Outcome: destination.Delivered}
	switch n := h.rand.IntN(100); {
	case n < 55:
		j.do = do
	case n < 70:
		j.result.Outcome, j.result.Code = destination.Rejected, "invalid"
	case n < 80:
		j.result.Outcome = destination.Retry
	case n < 90:
		j.result.Outcome, j.do = destination.Unknown, do
	default:
		j.result.Outcome = destination.Unknown
	}
	h.jobs = append(h.jobs, j)
	return destination.Result{Outcome: destination.Accepted, Receipt: j.receipt}
}

// work does what was accepted, before anything that comes later.
func (h *history) work() {
	for _, j := range h.jobs {
		j.do()
		j.do = func() {}
	}
}

// polled tells what came of jobs; of some it does not tell yet.
func (h *history) polled(receipts []string) ([]destination.Settlement, error) {
	h.work()
	var settlements []destination.Settlement
	for _, j := range h.jobs {
		if slices.Contains(receipts, j.receipt) && (h.target.answer == nil || h.chance(60)) {
			settlements = append(settlements, j.result)
		}
	}
	if h.target.answer != nil && h.chance(10) {
		return settlements, errors.New("connection reset")
	}
	return settlements, nil
}

func (h *history) chance(percent int) bool { return h.rand.IntN(100) < percent }

func (h *history) mutate() {
	for n := 1; n <= 8; n++ {
		key, profile := fmt.Sprintf("k%d", n), fmt.Sprintf("p%d", n)
		if h.chance(30) {
			h.put(n, h.rand.Int64N(3))
		}
		if h.chance(15) {
			delete(h.model, key)
		}
		if h.chance(10) {
			h.copies[key] = !h.copies[key]
		}
		if h.chance(40) {
			h.allowed[profile] = h.chance(70)
		}
		if h.chance(10) {
			delete(h.allowed, profile)
		}
		if h.chance(10) {
			h.erased[profile] = !h.erased[profile]
		}
	}
	if h.chance(15) {
		h.remap()
	}
}

// remap edits the mapping: other fields, in another order.
func (h *history) remap() {
	s, text := vips(), fmt.Sprint("text ", h.rand.IntN(2))
	switch h.rand.IntN(3) {
	case 0:
	case 1:
		s.Mapping = append(s.Mapping, syncer.Field{Field: "note", Value: &text, Line: 9})
	case 2:
		slices.Reverse(s.Mapping)
	}
	if h.chance(30) {
		s.Refresh = time.Duration(1+h.rand.IntN(30)) * time.Minute
	}
	h.sync = s
}

// run is a process with some misfortune.
func (h *history) run() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	h.misfortune(cancel)
	e := h.engine()
	var err error
	switch n := h.rand.IntN(100); {
	case n < 45:
		_, err = e.Run(ctx, h.sync, syncer.Options{Approve: true})
	case n < 55:
		err = h.withdraw(ctx, e)
	case n < 59: // whoever asks for this wants what may have arrived to be sent again
		clear(h.target.last)
		err = e.Resync(ctx, h.sync)
	case n < 63:
		clear(h.target.last)
		_, err = e.Retry(ctx, h.sync, "invalid")
	default:
		err = h.planThenApply(ctx, e)
	}
	h.target.closing, h.target.late = nil, nil
	h.tolerate(err)
	if h.chance(50) {
		h.advance(10 * time.Minute)
	}
}

// tolerate knows the errors of misfortune.
func (h *history) tolerate(err error) {
	h.t.Helper()
	var busy *syncer.BusyError
	switch {
	case err == nil, errors.Is(err, errDead), errors.Is(err, errFailed), errors.Is(err, errFlush), errors.Is(err, context.Canceled),
		errors.Is(err, syncer.ErrLeaseLost), errors.As(err, &busy):
	case strings.Contains(err.Error(), "took nothing"):
	default:
		h.t.Fatal(err)
	}
}

var errFlush = errors.New("the destination could not flush")

// misfortune is what may befall a process: a call of the warehouse fails or is its
// last, somebody stops it, the destination misbehaves, or does not close, or
// another machine comes while it waits for an answer.
func (h *history) misfortune(stop func()) {
	h.calls, h.fault = 0, nil
	if h.chance(40) {
		at, kind := 1+h.rand.IntN(60), fault(1+h.rand.IntN(4))
		h.fault = func(call int) fault {
			if call == at {
				return kind
			}
			return fine
		}
	}
	stopAfter := -1
	if h.chance(20) {
		stopAfter = h.rand.IntN(5)
	}
	h.target.answer = func(batch destination.Batch, apply func(destination.Change)) ([]destination.Result, error) {
		if stopAfter--; stopAfter == 0 {
			stop()
		}
		return h.misbehave(batch, apply)
	}
	if h.chance(10) {
		h.target.closing = func() error { return errFlush }
	}
	if h.chance(25) {
		h.target.late = h.otherMachine
	}
}

// otherMachine runs the same sync while the first waits for an answer: it is told
// that the sync is busy, or takes it over, if the answer was so late that the
// lease has ended.
func (h *history) otherMachine() {
	h.target.late = nil
	h.others++
	late := h.chance(50)
	if late {
		h.advance(10 * time.Minute)
	}
	sends := h.target.sends
	_, err := h.engine().Run(context.Background(), h.sync, syncer.Options{Approve: true})
	h.mu.Lock()
	h.open = 0 // it is gone, and may have died with the warehouse in its hands
	h.mu.Unlock()
	_, busy := errors.AsType[*syncer.BusyError](err)
	if busy == late || !late && h.target.sends != sends {
		if !errors.Is(err, errDead) && !errors.Is(err, errFailed) {
			h.t.Errorf("another machine, after the end of the lease %v: %v, %d batches", late, err, h.target.sends-sends)
		}
	}
	if !busy {
		h.tolerate(err)
	}
}

// withdraw sends removals alone, of those who may not be there.
func (h *history) withdraw(ctx context.Context, e *syncer.Syncer) error {
	written := len(h.target.written)
	h.target.late = nil // it would send more
	_, err := e.Withdraw(ctx, h.sync)
	for _, batch := range h.target.written[written:] {
		for _, c := range batch.Changes {
			if c.Op != destination.Remove || h.target.allowed("p"+c.Key[1:]) {
				h.t.Errorf("a withdrawal sent %v of %s", c.Op, c.Key)
			}
		}
	}
	return err
}

func (h *history) planThenApply(ctx context.Context, e *syncer.Syncer) error {
	p, err := e.Plan(ctx, h.sync)
	if err != nil {
		return err
	}
	planned, written, others := h.sync, len(h.target.written), h.others
	h.mutate()
	h.store()
	_, err = e.Apply(ctx, planned, p.ID, syncer.Options{Approve: true})
	if h.others == others {
		h.sentAsPlanned(p, h.target.written[written:], err)
	}
	if err == nil || !h.chance(50) {
		return err
	}
	h.fault = nil
	h.advance(10 * time.Minute)
	h.mutate()
	h.store()
	_, err = h.engine().Apply(ctx, h.sync, p.ID, syncer.Options{Approve: true})
	if _, ok := errors.AsType[*syncer.StaleError](err); ok {
		return nil
	}
	return err
}

// sentAsPlanned holds what apply sent against the plan: nothing else, and if it
// came to its end all, less those whose consent ended since.
func (h *history) sentAsPlanned(p syncer.Plan, batches []destination.Batch, err error) {
	h.t.Helper()
	planned := map[string]destination.Op{}
	for _, c := range p.Changes {
		switch {
		case c.Op == syncer.KindRemove || c.Reason == syncer.ReasonGuard:
			planned[c.Key] = destination.Remove
		case c.Op != syncer.KindHold:
			planned[c.Key] = destination.Upsert
		}
	}
	sent := map[string]bool{}
	for _, batch := range batches {
		for _, c := range batch.Changes {
			sent[c.Key] = true
			if planned[c.Key] != c.Op {
				h.t.Errorf("%v of %s was sent, and planned was %v", c.Op, c.Key, planned[c.Key])
			}
		}
	}
	for key, op := range planned {
		if err == nil && !sent[key] && (op == destination.Remove || h.target.allowed("p"+key[1:])) {
			h.t.Errorf("%v of %s was planned, and not sent", op, key)
		}
	}
}

// misbehave answers a batch with any outcome, honestly.
func (h *history) misbehave(batch destination.Batch, apply func(destination.Change)) ([]destination.Result, error) {
	h.work()
	lost := h.chance(10)
	results := make([]destination.Result, len(batch.Changes))
	for i, c := range batch.Changes {
		switch n := h.rand.IntN(100); {
		case lost && n < 50, n < 62:
			apply(c)
			results[i] = destination.Result{Outcome: destination.Delivered}
		case n < 68:
			results[i] = destination.Result{Outcome: destination.Rejected, Code: "invalid", Message: fmt.Sprintf("the value %v is invalid", c.Values[0])}
		case n < 75:
			results[i] = destination.Result{Outcome: destination.Retry, RetryAfter: time.Duration(h.rand.IntN(40)) * time.Second}
		case n < 80:
			apply(c)
			results[i] = destination.Result{Outcome: destination.Unknown}
		case n < 85:
			results[i] = destination.Result{Outcome: destination.Unknown}
		default:
			results[i] = h.accept(func() { apply(c) })
		}
	}
	if h.chance(10) { // somebody withdraws while a batch is under way
		profile := fmt.Sprintf("p%d", 1+h.rand.IntN(8))
		h.unheard = append(h.unheard, func() { h.allowed[profile] = false })
		h.exec("UPDATE sluis_models.consent_profile SET allowed = false WHERE profile_id = ?", profile)
	}
	if lost {
		return nil, fmt.Errorf("connection reset after %v", batch.Changes[0].Values[0])
	}
	return results, nil
}
