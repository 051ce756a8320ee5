package syncer_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/plugins/destination"
	syncer "github.com/sluis-cdp/sluis/sync"
)

// An erasure removes whom it is about and does nothing else, whatever the model
// says and a guard would hold; then nothing in the syncer's tables names them.
func TestErasureIsARunOfItsOwn(t *testing.T) {
	w := crowd(t, 6)
	e := w.engine()
	if _, err := e.Run(t.Context(), vips(), syncer.Options{}); err != nil {
		t.Fatal(err)
	}
	w.setModel(customer{"k7", "p7", "gold", 7}, customer{"k2", "p2", "gold", 2}) // the others left, and somebody is new
	ids := []string{"p2", "k5", "p-of-nobody"}
	holdings, err := e.Holdings(t.Context(), ids)
	want := []syncer.Holding{{Sync: vips().Name, Present: 2, Deliveries: 2}}
	if diff := cmp.Diff(want, holdings); diff != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	if err := e.Erasing(t.Context(), ids); err != nil {
		t.Fatal(err)
	}
	run, err := e.Erase(t.Context(), vips())
	if err != nil || run.Removed != 2 || run.Added != 0 || run.Status != syncer.RunDone {
		t.Errorf("Erase: %+v, %v", run, err)
	}
	if content := w.target.content(); strings.Contains(content, "k2") || strings.Contains(content, "k5") || strings.Contains(content, "k7") || !strings.Contains(content, "k1") {
		t.Errorf("the destination has\n%s", content)
	}
	if rows := w.query("SELECT DISTINCT reason, outcome FROM sluis_sync.deliveries WHERE op = 'remove'"); len(rows) != 1 || rows[0][0] != "erased" || rows[0][1] != "delivered" {
		t.Errorf("the removals are on record as %v", rows)
	}
	if run, err = e.Erase(t.Context(), vips()); err != nil || run.ID != "" {
		t.Errorf("a second time: %+v, %v", run, err)
	}
	// The model still has k2: it may not come back while the erasure goes on.
	if _, err := e.Run(t.Context(), vips(), syncer.Options{Approve: true}); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(w.target.content(), "k2") {
		t.Error("somebody who is being erased was sent again")
	}
	forgotten, err := e.Forget(t.Context(), ids)
	if err != nil || forgotten["deliveries"] == 0 {
		t.Errorf("Forget: %v, %v", forgotten, err)
	}
	for _, table := range w.tables("sluis_sync") {
		for _, row := range w.query("SELECT * FROM " + table) {
			for _, value := range row {
				if value == "k2" || value == "p2" || value == "k5" || value == "p5" {
					t.Errorf("%s has %v", table, row)
				}
			}
		}
	}
	if forgotten, err = e.Forget(t.Context(), ids); err != nil || len(forgotten) != 0 {
		t.Errorf("Forget again: %v, %v", forgotten, err)
	}
}

// What a destination did not take is tried again by the next erasure.
func TestErasureIsTriedAgain(t *testing.T) {
	w := crowd(t, 3)
	e := w.engine(func(c *syncer.Config) { c.Attempts = 1 })
	if _, err := e.Run(t.Context(), vips(), syncer.Options{}); err != nil {
		t.Fatal(err)
	}
	if err := e.Erasing(t.Context(), []string{"p2"}); err != nil {
		t.Fatal(err)
	}
	w.target.answer = func(b destination.Batch, _ func(destination.Change)) ([]destination.Result, error) {
		return destination.All(len(b.Changes), destination.Result{Outcome: destination.Retry, Code: "busy"}), nil
	}
	if run, err := e.Erase(t.Context(), vips()); err != nil || run.Failed != 1 || run.Removed != 0 {
		t.Errorf("while the destination is away: %+v, %v", run, err)
	}
	w.target.answer = nil
	if run, err := e.Erase(t.Context(), vips()); err != nil || run.Removed != 1 {
		t.Errorf("when it is back: %+v, %v", run, err)
	}
	if strings.Contains(w.target.content(), "k2") {
		t.Error("somebody who was erased is there")
	}
}

// uselessTarget takes everything and removes nothing.
type uselessTarget struct{ destination.Destination }

func (d uselessTarget) Describe() destination.Description {
	description := d.Destination.Describe()
	description.Ops = []destination.Op{destination.Upsert}
	return description
}

func TestErasureWhereNothingCanBeRemoved(t *testing.T) {
	w := crowd(t, 3)
	if _, err := w.engine().Run(t.Context(), vips(), syncer.Options{}); err != nil {
		t.Fatal(err)
	}
	e := w.engine(func(c *syncer.Config) {
		connect := c.Connect
		c.Connect = func(ctx context.Context, s syncer.Sync) (destination.Destination, error) {
			d, err := connect(ctx, s)
			return uselessTarget{d}, err
		}
	})
	if err := e.Erasing(t.Context(), []string{"p2"}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Erase(t.Context(), vips()); !errors.Is(err, syncer.ErrCannotRemove) {
		t.Errorf("Erase: %v", err)
	}
	if holdings, err := e.Holdings(t.Context(), []string{"p2"}); err != nil || len(holdings) != 1 || holdings[0].Present != 1 {
		t.Errorf("then the syncer has %v, %v", holdings, err)
	}
}

// Announced waits for the window that was announced before it was called, not for the
// run; for a holder that is dead until its lease has ended; and for nothing else.
func TestAnnounced(t *testing.T) {
	const waits = "waits"
	w := crowd(t, 6)
	said := make(chan string)
	goOn := make(chan bool)
	watcher := w.engine(func(c *syncer.Config) {
		c.Wait = func(context.Context, time.Duration) error {
			said <- waits
			<-goOn
			return nil
		}
	})
	announced := func() { said <- fmt.Sprint(watcher.Announced(t.Context())) }
	go announced()
	if end := <-said; end != "<nil>" {
		t.Fatalf("while nothing runs: %s", end)
	}

	w.target.late = func() {
		switch w.advance(time.Second); w.target.sends {
		case 1: // the first window
			go announced()
			if got := <-said; got != waits {
				t.Errorf("while a window is being sent: %s", got)
			}
		case 2: // the second
			goOn <- true
			if end := <-said; end != "<nil>" {
				t.Errorf("when the window is recorded: %s", end)
			}
		}
	}
	if _, err := w.engine().Run(t.Context(), vips(), syncer.Options{}); err != nil || w.target.sends < 2 {
		t.Fatalf("%d sendings, %v", w.target.sends, err)
	}

	w.exec("UPDATE sluis_sync.leases SET token = 'of a process that was killed', expires_at = ?", w.clock().Add(time.Minute))
	go announced()
	for range 3 {
		if got := <-said; got != waits {
			t.Fatalf("while a lease goes on: %s", got)
		}
		w.advance(20 * time.Second)
		goOn <- true
	}
	if end := <-said; end != "<nil>" {
		t.Errorf("when it has ended: %s", end)
	}
}

// Somebody whose erasure begins while a run goes on, the first one that there ever was,
// is not sent by it any more.
func TestErasureBeginsWhileARunGoesOn(t *testing.T) {
	w := crowd(t, 6)
	w.exec("DROP TABLE sluis_sync.erased")
	w.exec("ALTER TABLE sluis_sync.state DROP COLUMN fingerprint_by")
	e := w.engine()
	w.target.late = func() {
		if w.target.sends == 1 { // of the first window
			if err := w.engine().Erasing(t.Context(), []string{"k5", "p6"}); err != nil {
				t.Error(err)
			}
		}
	}
	run, err := e.Run(t.Context(), vips(), syncer.Options{})
	if err != nil || run.Added != 4 || run.Skipped != 2 {
		t.Errorf("Run: %+v, %v", run, err)
	}
	if content := w.target.content(); strings.Contains(content, "k5") || strings.Contains(content, "k6") {
		t.Errorf("who is being erased was sent:\n%s", content)
	}
}
