package remote

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/sluis-cdp/sluis/consent/seal"
)

// Limits bound what one collector may ask: they are how fast whoever has stolen
// one can guess.
type Limits struct {
	// Rate is elements a second, Burst what may come at once after a time of
	// silence; less than one request's worth counts as that. Zero is no bound.
	Rate  float64
	Burst int
	// Daily is elements a day, of UTC; zero is no bound.
	Daily int64
}

// limiter counts by collector. There are as many of them as there are
// certificates.
type limiter struct {
	limits Limits

	mu         sync.Mutex
	collectors map[string]*account
}

// account is what a collector has asked.
type account struct {
	rate    *rate.Limiter
	day     time.Time
	asked   int64 // that day
	alarmed time.Time
}

func newLimiter(limits Limits) *limiter {
	return &limiter{limits: limits, collectors: make(map[string]*account)}
}

func (l *limiter) account(collector string) *account {
	a := l.collectors[collector]
	if a == nil {
		a = &account{}
		if l.limits.Rate > 0 {
			a.rate = rate.NewLimiter(rate.Limit(l.limits.Rate), max(l.limits.Burst, seal.MaxElements))
		}
		l.collectors[collector] = a
	}
	return a
}

// take takes n elements, all or none. Where it refuses, wait is when they may be
// asked again.
func (l *limiter) take(collector string, n int, now time.Time) (why Reason, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.account(collector)
	if day := now.UTC().Truncate(24 * time.Hour); day.After(a.day) {
		a.day, a.asked = day, 0
	}
	if l.limits.Daily > 0 && a.asked+int64(n) > l.limits.Daily {
		return Quota, a.day.Add(24 * time.Hour).Sub(now)
	}
	if a.rate != nil {
		taken := a.rate.ReserveN(now, n)
		if wait := taken.DelayFrom(now); wait > 0 {
			taken.CancelAt(now)
			return Rate, wait
		}
	}
	a.asked += int64(n)
	return "", 0
}

// alarm tells whether it is time to say that a collector asks for too much.
func (l *limiter) alarm(collector string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.account(collector)
	if now.Sub(a.alarmed) < time.Minute {
		return false
	}
	a.alarmed = now
	return true
}
