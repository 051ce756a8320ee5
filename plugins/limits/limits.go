// Package limits says when requests to outside systems may go out, such that no account
// makes more of them than the outside system allows, whichever syncs they are for.
//
// It knows of the requests of this process, and of what answers say of others.
package limits

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluis-cdp/sluis/plugins/destination"
)

// Accounts are all accounts that requests are made for. The zero value has none yet. Its
// methods may be called concurrently.
type Accounts struct {
	mu    sync.Mutex
	known map[[sha256.Size]byte]*ledger
}

// Account is an account, with the limits that hold for one sync. It is a
// [destination.Pacer].
type Account struct {
	limits []destination.Limit
	ledger *ledger
}

// Of returns the account that a destination uses with a configuration. It has the limits
// of the description, or in place of all of them own, if that is not nil. Those with the
// same account share what they have of equal limits.
func (a *Accounts) Of(d destination.Description, config map[string]string, own *destination.Limit) *Account {
	limits := d.Limits
	if own != nil {
		limits = []destination.Limit{*own}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	id := identify(d, config)
	if a.known[id] == nil {
		if a.known == nil {
			a.known = map[[sha256.Size]byte]*ledger{}
		}
		a.known[id] = &ledger{began: time.Now(), windows: map[destination.Limit]*window{}, usage: map[string]usage{}}
	}
	return &Account{limits: limits, ledger: a.known[id]}
}

// identify is a digest of what tells an account apart, which may be a secret.
func identify(d destination.Description, config map[string]string) (id [sha256.Size]byte) {
	marked := slices.ContainsFunc(d.Config, func(f destination.Field) bool { return f.Account })
	var text strings.Builder
	fmt.Fprintf(&text, "%q", d.Name)
	for _, name := range slices.Sorted(maps.Keys(config)) {
		if !marked || slices.ContainsFunc(d.Config, func(f destination.Field) bool { return f.Name == name && f.Account }) {
			fmt.Fprintf(&text, " %q=%q", name, config[name])
		}
	}
	return sha256.Sum256([]byte(text.String()))
}

// ledger is what is known of the requests of an account. Times are since it began.
type ledger struct {
	began time.Time

	mu      sync.Mutex // guards all below
	windows map[destination.Limit]*window
	usage   map[string]usage // by the name that limits have
}

// usage is what answers said.
type usage struct {
	closed    time.Duration // until then nothing is taken
	remaining int           // so many more, until a time
	until     time.Duration
}

// Reserve gives a request its turn, after wait. If that is longer than patience it gets
// none, and ok is false.
func (a *Account) Reserve(limit string, patience time.Duration) (wait time.Duration, ok bool) {
	name, limits := a.of(limit)
	l := a.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Since(l.began)
	at := now
	windows := make([]*window, len(limits))
	for i, limit := range limits {
		windows[i] = l.window(limit)
		at = max(at, windows[i].opens())
	}
	said := l.usage[name]
	if at = max(at, said.closed); said.remaining == 0 {
		at = max(at, said.until)
	}
	if at-now > patience {
		return at - now, false
	}
	for _, w := range windows {
		w.take(at)
	}
	if at < said.until {
		said.remaining--
		l.usage[name] = said
	}
	return at - now, true
}

// of are the limits that requests under a name count for, and the name that those have:
// none, if there are none of that name.
func (a *Account) of(name string) (string, []destination.Limit) {
	named := func(name string) []destination.Limit {
		return slices.DeleteFunc(slices.Clone(a.limits), func(l destination.Limit) bool { return l.Name != name })
	}
	if limits := named(name); len(limits) > 0 {
		return name, limits
	}
	return "", named("")
}

// Await implements [destination.Pacer].
func (a *Account) Await(ctx context.Context, limit string) error {
	wait, ok := a.Reserve(limit, patience(ctx))
	if !ok {
		return &destination.LimitError{RetryAfter: wait}
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// patience is the longest that a request of a call may wait for its turn: half of the
// time that the call has left, since the request takes time as well, and so may others
// after it.
func patience(ctx context.Context) time.Duration {
	const without = 30 * time.Second
	if deadline, ok := ctx.Deadline(); ok {
		return max(time.Until(deadline)/2, 0)
	}
	return without
}

// Observe implements [destination.Pacer]. Answers may come in another order than they
// were given: what was said before holds on if it is stricter.
func (a *Account) Observe(limit string, said destination.Usage) {
	name, _ := a.of(limit)
	l := a.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Since(l.began)
	u := l.usage[name]
	switch {
	case said.Remaining <= 0:
		u.closed = max(u.closed, now+said.Reset)
	case u.until <= now || said.Remaining < u.remaining:
		u.remaining, u.until = said.Remaining, now+said.Reset
	}
	l.usage[name] = u
}

func (l *ledger) window(of destination.Limit) *window {
	of.Rows = 0
	if l.windows[of] == nil {
		l.windows[of] = &window{requests: of.Requests, per: of.Per}
	}
	return l.windows[of]
}

// window is when the latest requests under a limit were made: as many as it allows. So
// there are never more in any span of its length, wherever the outside system begins its
// own spans.
type window struct {
	requests int
	per      time.Duration
	times    []time.Duration // a ring, once it is full
	oldest   int
}

// opens is when there is room for one more.
func (w *window) opens() time.Duration {
	if len(w.times) < w.requests {
		return 0
	}
	return w.times[w.oldest] + w.per
}

func (w *window) take(at time.Duration) {
	if len(w.times) < w.requests {
		w.times = append(w.times, at)
		return
	}
	w.times[w.oldest] = at
	w.oldest = (w.oldest + 1) % w.requests
}
