package limits_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/plugins/limits"
)

// service is described with ten requests a second, and of exports two a minute and three
// in five.
func service() destination.Description {
	return destination.Description{
		Name:   "service",
		Config: []destination.Field{{Name: "token", Account: true}, {Name: "list"}},
		Limits: []destination.Limit{
			{Requests: 10, Per: time.Second},
			{Name: "exports", Requests: 2, Per: time.Minute},
			{Name: "exports", Requests: 3, Per: 5 * time.Minute},
		},
	}
}

// turns are when so many requests that are asked for now get their turns.
func turns(t *testing.T, a *limits.Account, name string, n int) []time.Duration {
	t.Helper()
	var all []time.Duration
	for range n {
		wait, ok := a.Reserve(name, time.Hour)
		if !ok {
			t.Fatalf("refused for %v", wait)
		}
		all = append(all, wait)
	}
	return all
}

func expect(t *testing.T, got []time.Duration, want ...time.Duration) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("turns after %v, want %v", got, want)
	}
}

func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var accounts limits.Accounts
		a := accounts.Of(service(), map[string]string{"token": "t", "list": "1"}, nil)
		expect(t, turns(t, a, "", 12), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, time.Second, time.Second)
		expect(t, turns(t, a, "exports", 4), 0, 0, time.Minute, 5*time.Minute)
		expect(t, turns(t, a, "of no limit of its own", 1), time.Second)

		same := accounts.Of(service(), map[string]string{"token": "t", "list": "2"}, nil)
		expect(t, turns(t, same, "", 1), time.Second)
		other := accounts.Of(service(), map[string]string{"token": "u", "list": "1"}, nil)
		expect(t, turns(t, other, "", 1), 0)

		time.Sleep(1500 * time.Millisecond)
		expect(t, turns(t, a, "", 7), 0, 0, 0, 0, 0, 0, 500*time.Millisecond)
	})
}

func TestOwnLimitReplacesAll(t *testing.T) {
	synctest.Test(t, func(*testing.T) {
		var accounts limits.Accounts
		config := map[string]string{"token": "t"}
		slow := destination.Limit{Requests: 1, Per: time.Second}
		a, same := accounts.Of(service(), config, &slow), accounts.Of(service(), config, &destination.Limit{Requests: 1, Per: time.Second, Rows: 5})
		expect(t, turns(t, a, "", 2), 0, time.Second)
		expect(t, turns(t, same, "exports", 1), 2*time.Second)
		expect(t, turns(t, accounts.Of(service(), config, nil), "", 1), 0) // its limits have seen none of these
	})
}

func TestWithoutMarkedFieldsAllTellAccountsApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var accounts limits.Accounts
		d := destination.Description{Name: "service", Limits: []destination.Limit{{Requests: 1, Per: time.Second}}}
		expect(t, turns(t, accounts.Of(d, map[string]string{"url": "a"}, nil), "", 1), 0)
		expect(t, turns(t, accounts.Of(d, map[string]string{"url": "b"}, nil), "", 1), 0)
		expect(t, turns(t, accounts.Of(d, map[string]string{"url": "a"}, nil), "", 1), time.Second)
	})
}

func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var accounts limits.Accounts
		a := accounts.Of(service(), nil, nil)
		turns(t, a, "", 10)
		if wait, ok := a.Reserve("", time.Second-1); ok || wait != time.Second {
			t.Errorf("got %v and %v, want to be refused for a second", wait, ok)
		}
		expect(t, turns(t, a, "", 1), time.Second) // what was refused took no turn
	})
}

func TestAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var accounts limits.Accounts
		a := accounts.Of(service(), nil, nil)
		a.Observe("", destination.Usage{Remaining: 2, Reset: 7 * time.Second}) // others use the account too
		expect(t, turns(t, a, "", 3), 0, 0, 7*time.Second)
		a.Observe("", destination.Usage{Remaining: 9, Reset: 8 * time.Second}) // late: it is of before
		expect(t, turns(t, a, "", 1), 7*time.Second)

		a.Observe("", destination.Usage{Reset: 20 * time.Second}) // come back in 20 seconds
		a.Observe("", destination.Usage{Remaining: 1, Reset: 30 * time.Second})
		a.Observe("", destination.Usage{Reset: time.Second})
		expect(t, turns(t, a, "", 1), 20*time.Second)
		expect(t, turns(t, a, "exports", 1), 0) // which has limits of its own

		a.Observe("exports", destination.Usage{Reset: time.Minute})
		other := accounts.Of(service(), nil, nil)
		expect(t, turns(t, other, "exports", 1), time.Minute)
		time.Sleep(10 * time.Minute)
		expect(t, turns(t, other, "exports", 1), 0)
	})
}

func TestAwait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var accounts limits.Accounts
		a := accounts.Of(service(), nil, nil)
		turns(t, a, "", 10)
		began := time.Now()
		if err := a.Await(t.Context(), ""); err != nil || time.Since(began) != time.Second {
			t.Errorf("waited %v, want a second (%v)", time.Since(began), err)
		}
		a.Observe("", destination.Usage{Reset: 10 * time.Second})
		ctx, cancel := context.WithTimeout(t.Context(), 16*time.Second)
		defer cancel()
		limit, ok := errors.AsType[*destination.LimitError](a.Await(ctx, ""))
		if !ok || limit.RetryAfter != 10*time.Second {
			t.Errorf("got %v, want to be refused for 10 s: less than half of the time is left for it", limit)
		}
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if err := a.Await(ctx, ""); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want it cancelled", err)
		}
	})
}

// TestNeverMoreThanAllowed has many ask at random times, and looks at every span.
func TestNeverMoreThanAllowed(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			var accounts limits.Accounts
			declared := []destination.Limit{{Requests: 1 + random.IntN(10), Per: time.Second}, {Requests: 20 + random.IntN(20), Per: 7 * time.Second}}
			d := destination.Description{Name: "service", Limits: declared}
			var mu sync.Mutex
			var went []time.Time
			var wait sync.WaitGroup
			for range 5 {
				pauses := make([]time.Duration, 40)
				for i := range pauses {
					pauses[i] = time.Duration(random.IntN(1000)) * time.Millisecond
				}
				a := accounts.Of(d, nil, nil)
				wait.Go(func() {
					for _, pause := range pauses {
						time.Sleep(pause)
						if a.Await(t.Context(), "") == nil {
							mu.Lock()
							went = append(went, time.Now())
							mu.Unlock()
						}
					}
				})
			}
			wait.Wait()
			slices.SortFunc(went, time.Time.Compare)
			for _, l := range declared {
				for i := l.Requests; i < len(went); i++ {
					if span := went[i].Sub(went[i-l.Requests]); span < l.Per {
						t.Fatalf("seed %d: %d requests in %v, of %d in %v", seed, l.Requests+1, span, l.Requests, l.Per)
					}
				}
			}
			if len(went) < 150 {
				t.Errorf("seed %d: %d of 200 requests went out", seed, len(went))
			}
		})
	}
}
