package syncer_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	syncer "github.com/sluis-cdp/sluis/sync"
)

// departures is a world in which thirty people were sent, and twenty-five of them have
// left the model: more than the guard lets go.
type departures struct {
	*world
	people map[int]bool
}

func newDepartures(t *testing.T) departures {
	t.Helper()
	d := departures{newWorld(t), map[int]bool{}}
	allowed := map[string]bool{}
	for i := range 100 {
		allowed[fmt.Sprintf("p%d", i)] = true
	}
	d.setConsent(allowed)
	for i := range 30 {
		d.people[i] = true
	}
	d.store()
	if _, err := d.engine().Run(t.Context(), vips(), syncer.Options{}); err != nil {
		t.Fatal(err)
	}
	d.leave(0, 25)
	return d
}

func (d departures) store() {
	var rows []customer
	for i := range d.people {
		rows = append(rows, customer{fmt.Sprintf("k%d", i), fmt.Sprintf("p%d", i), "gold", int64(i)})
	}
	d.setModel(rows...)
}

func (d departures) join(from, to int) {
	for i := from; i < to; i++ {
		d.people[i] = true
	}
	d.store()
}

func (d departures) leave(from, to int) {
	for i := from; i < to; i++ {
		delete(d.people, i)
	}
	d.store()
}

// held runs the sync, and returns the plan of which a guard holds removals.
func (d departures) held(t *testing.T, added, removals int64) string {
	t.Helper()
	d.advance(time.Minute)
	run, err := d.engine().Run(t.Context(), vips(), syncer.Options{})
	held, ok := errors.AsType[*syncer.HeldError](err)
	if !ok || held.Removals != removals || run.Added != added || run.Removed != 0 {
		t.Fatalf("%+v, %v, want %d added, and %d removals held", run, err, added, removals)
	}
	if n := d.query("SELECT count(payload) FROM sluis_sync.plan_changes WHERE plan_id = ?", held.PlanID)[0][0]; n != int64(0) {
		t.Errorf("the values of %v rows that were sent are kept with the plan", n)
	}
	return held.PlanID
}

// approve returns the plan of what is still held.
func (d departures) approve(t *testing.T, plan string, removed, held int64) (next string) {
	t.Helper()
	d.advance(time.Minute)
	run, err := d.engine().Apply(t.Context(), vips(), plan, syncer.Options{Approve: true})
	if h, ok := errors.AsType[*syncer.HeldError](err); ok && h.Removals == held {
		held, err, next = 0, nil, h.PlanID
	}
	if err != nil || held != 0 || run.Removed != removed {
		t.Errorf("%+v, %v, want %d removed, and %d still held", run, err, removed, held)
	}
	return next
}

// stale checks that a plan can be applied no more, approved or not.
func (d departures) stale(t *testing.T, plan string) {
	t.Helper()
	for _, approve := range []bool{true, false} {
		var stale *syncer.StaleError
		if _, err := d.engine().Apply(t.Context(), vips(), plan, syncer.Options{Approve: approve}); !errors.As(err, &stale) {
			t.Errorf("approved: %v: %v", approve, err)
		}
	}
}

// A guard tells people of a plan once, and they look at the model first. Meanwhile the
// scheduler makes other plans, and what it may it does.
func TestAHeldPlanStaysOpenForApproval(t *testing.T) {
	t.Run("nothing else happens", func(t *testing.T) {
		d := newDepartures(t)
		plan := d.held(t, 0, 25)
		d.held(t, 0, 25)
		d.held(t, 0, 25)
		var held *syncer.HeldError
		if _, err := d.engine().Apply(t.Context(), vips(), plan, syncer.Options{}); !errors.As(err, &held) || held.PlanID != plan {
			t.Errorf("without approval: %v", err)
		}
		d.approve(t, plan, 25, 0)
		d.plans(t, vips(), syncer.Counts{Unchanged: 5})
	})
	t.Run("others are added, and one more leaves", func(t *testing.T) {
		d := newDepartures(t)
		plan := d.held(t, 0, 25)
		d.join(40, 50)
		d.held(t, 10, 25)
		d.leave(25, 26)
		d.held(t, 0, 26)
		d.approve(t, plan, 26, 0)
		d.plans(t, vips(), syncer.Counts{Unchanged: 14})
	})
	t.Run("some come back", func(t *testing.T) {
		d := newDepartures(t)
		plan := d.held(t, 0, 25)
		d.join(0, 2)
		d.join(40, 41)
		d.held(t, 1, 23)
		d.approve(t, plan, 23, 0)
		d.plans(t, vips(), syncer.Counts{Unchanged: 8})
	})
	t.Run("somebody makes a plan", func(t *testing.T) {
		d := newDepartures(t)
		d.held(t, 0, 25)
		var plan syncer.Plan
		for range 2 {
			var err error
			if plan, err = d.engine().Plan(t.Context(), vips()); err != nil || plan.Held == nil {
				t.Fatal(plan.Held, err)
			}
			d.advance(time.Minute)
		}
		d.join(40, 50)
		d.held(t, 10, 25)
		d.held(t, 0, 25)
		if n := d.query("SELECT count(DISTINCT plan_id) FROM sluis_sync.plan_changes")[0][0]; n != int64(3) {
			t.Errorf("%v plans have kept their changes", n)
		}
		d.approve(t, plan.ID, 25, 0)
		d.plans(t, vips(), syncer.Counts{Unchanged: 15})
	})
	t.Run("many more leave", func(t *testing.T) {
		d := newDepartures(t)
		plan := d.held(t, 0, 25)
		d.join(40, 90)
		d.held(t, 50, 25)
		d.leave(40, 90)
		d.held(t, 0, 75)
		rest := d.approve(t, plan, 25, 50)
		d.held(t, 0, 50)
		d.approve(t, rest, 50, 0)
		d.plans(t, vips(), syncer.Counts{Unchanged: 5})
	})
	t.Run("the model comes back, and breaks again", func(t *testing.T) {
		d := newDepartures(t)
		plan := d.held(t, 0, 25)
		d.join(0, 25)
		if r, err := d.engine().Run(t.Context(), vips(), syncer.Options{}); err != nil || r.Status != syncer.RunIdle {
			t.Fatalf("%+v, %v", r, err)
		}
		d.leave(0, 25)
		d.held(t, 0, 25)
		d.stale(t, plan)
	})
	t.Run("its rows were changed by somebody", func(t *testing.T) {
		d := newDepartures(t)
		plan := d.held(t, 0, 25)
		d.join(40, 41)
		d.held(t, 1, 25)
		d.exec("UPDATE sluis_sync.plan_changes SET key = 'k25' WHERE plan_id = ? AND key = 'k24'", plan)
		d.stale(t, plan)
	})
}
