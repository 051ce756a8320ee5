package syncer_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/plugins/destination"
	syncer "github.com/sluis-cdp/sluis/sync"
)

// TestWindows: batches that go out well are announced and recorded together, more of
// them each time. A window ends early at rows that are to be tried again and when its
// consents are old, and what is left of it is asked for again.
func TestWindows(t *testing.T) {
	const rows = 20 // in batches of two
	tests := map[string]struct {
		change    func(w *world)
		announced []string // the numbers of the rows of each intent
		skipped   int64
	}{
		"all goes well": {
			announced: []string{"1-2", "3-6", "7-14", "15-20"},
		},
		"the destination does changes twice": {
			change:    func(w *world) { w.target.notIdempotent = true },
			announced: []string{"1-2", "3-4", "5-6", "7-8", "9-10", "11-12", "13-14", "15-16", "17-18", "19-20"},
		},
		"a row is to be tried again": {
			// Rows 9 and 10 are the second batch of the third window. The next is as large as what was sent of it.
			change: func(w *world) {
				w.target.answer = func(batch destination.Batch, apply func(destination.Change)) ([]destination.Result, error) {
					results, err := deliverAll(batch, apply)
					if w.target.sends == 5 {
						results[1] = destination.Result{Outcome: destination.Retry}
					}
					return results, err
				}
			},
			announced: []string{"1-2", "3-6", "7-14", "10", "11-18", "19-20"},
		},
		"the process of the destination fails": {
			change: func(w *world) {
				w.target.answer = func(batch destination.Batch, apply func(destination.Change)) ([]destination.Result, error) {
					results, err := deliverAll(batch, apply)
					if w.target.sends == 5 {
						err = fmt.Errorf("broken off")
					}
					return results, err
				}
			},
			announced: []string{"1-2", "3-6", "7-14", "9-10", "11-18", "19-20"},
		},
		"each batch takes long": {
			// The first two windows are done within ten seconds, the third is not; nor is it soon enough for a larger one.
			change:    func(w *world) { w.target.late = func() { w.advance(4 * time.Second) } },
			announced: []string{"1-2", "3-6", "7-10", "11-14", "15-18", "19-20"},
		},
		"a batch takes very long, and somebody withdraws": {
			change: func(w *world) {
				w.target.late = func() {
					if w.target.sends == 2 { // the first half of the second window
						w.advance(11 * time.Second)
						w.exec("UPDATE sluis_models.consent_profile SET allowed = false WHERE profile_id = ?", profileOf(w, 5))
						w.target.allowed = func(profile string) bool { return profile != profileOf(w, 5) }
					}
				}
			},
			announced: []string{"1-2", "3-6", "6", "7-10", "11-18", "19-20"},
			skipped:   1,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := crowd(t, rows)
			if test.change != nil {
				test.change(w)
			}
			var announced []string
			answer := w.target.answer
			if answer == nil {
				answer = deliverAll
			}
			w.target.answer = func(batch destination.Batch, apply func(destination.Change)) ([]destination.Result, error) {
				latest := w.query("SELECT seqs FROM sluis_sync.intents ORDER BY n DESC LIMIT 1")[0][0].(string)
				if n := len(announced); n == 0 || announced[n-1] != latest {
					announced = append(announced, latest)
				}
				return answer(batch, apply)
			}
			r, err := w.engine().Run(t.Context(), vips(), syncer.Options{})
			if err != nil || r.Added+r.Skipped != rows || r.Skipped != test.skipped {
				t.Fatalf("%+v, %v", r, err)
			}
			if diff := cmp.Diff(test.announced, announced); diff != "" {
				t.Errorf("announced (-want +got):\n%s", diff)
			}
			for _, row := range w.query("SELECT key FROM sluis_sync.deliveries GROUP BY key HAVING bool_or(present OR unsure) AND NOT bool_or(outcome = 'unknown')") {
				t.Errorf("%v was never sent before, and is said to have been there", row[0])
			}
			if left := w.query("SELECT intent FROM sluis_sync.intents"); len(left) > 0 {
				t.Errorf("after the run there are the intents %v", left)
			}
			if got := int64(len(w.target.members)); got != r.Added {
				t.Errorf("%d members, want %d", got, r.Added)
			}
		})
	}
}

// TestOpeningTakesLong: what is read, opened and announced between two sendings may take
// nearly as long as the lease lasts, and is no reason to think that it is lost.
func TestOpeningTakesLong(t *testing.T) {
	const rows = 20 // in batches of two
	w := crowd(t, rows)
	s := vips()
	s.Mapping = []syncer.Field{{Field: "mail", Sealed: "email"}}
	for i := range rows {
		profile := fmt.Sprintf("p%d", i+1)
		w.seal(profile, "email", "marketing", profile+"@example.org")
	}
	e := w.engine(func(c *syncer.Config) {
		c.LeaseTTL, c.WriteTimeout = 75*time.Second, time.Minute
		unseal := c.Unseal
		c.Unseal = func(ctx context.Context, sealed syncer.Sealed) (string, error) {
			w.advance(10 * time.Second)
			return unseal(ctx, sealed)
		}
	})
	if r, err := e.Run(t.Context(), s, syncer.Options{}); err != nil || r.Added != rows {
		t.Errorf("%+v, %v", r, err)
	}
}

// profileOf is the profile of a change of the only plan.
func profileOf(w *world, seq int) string {
	return w.query("SELECT profile_id FROM sluis_sync.plan_changes WHERE seq = ?", seq)[0][0].(string)
}

// TestIDsAreInTheOrderOfSending: an index of those that a destination remembers grows at
// its end, within a run and from run to run; and none is there twice.
func TestIDsAreInTheOrderOfSending(t *testing.T) {
	w := crowd(t, 20)
	var ids []string
	w.target.answer = func(batch destination.Batch, apply func(destination.Change)) ([]destination.Result, error) {
		for _, c := range batch.Changes {
			ids = append(ids, c.ID)
		}
		return deliverAll(batch, apply)
	}
	run := func() {
		t.Helper()
		if _, err := w.engine().Run(t.Context(), vips(), syncer.Options{}); err != nil {
			t.Fatal(err)
		}
		w.advance(time.Minute)
	}
	run()
	w.exec("DELETE FROM sluis_models.vips WHERE customer = (SELECT MIN(customer) FROM sluis_models.vips)")
	w.exec("UPDATE sluis_models.vips SET tier = 'another'")
	run()
	if len(ids) != 40 || !slices.IsSorted(ids) || len(slices.Compact(slices.Clone(ids))) != len(ids) {
		t.Errorf("%d ids: %q", len(ids), ids)
	}
	for _, id := range ids {
		if len(id) != 32 || strings.Trim(id, "0123456789abcdef") != "" {
			t.Errorf("%q is not of 32 hexadecimal digits", id)
		}
	}
}
