package limit

import (
	"net/http"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// Rate bounds the events of a source; zero is no bound.
type Rate struct {
	// Source is how many events a second come from all together, and Address from
	// one sender.
	Source, Address float64
}

// most is how many events one request can have.
const most = 2500

// burst is what may come at once after a time of silence: of ten seconds, and at
// least one request.
func burst(perSecond float64) int { return int(max(10*perSecond, most)) }

// senders is how many addresses are remembered, of all sources. Who is
// forgotten may send a burst again.
const senders = 1 << 15

// Rates counts events. All its methods may be called concurrently.
type Rates struct {
	rates   map[string]Rate
	sources map[string]*rate.Limiter
	senders *lru.Cache[sender, *rate.Limiter]
}

type sender struct {
	source string
	digest uint64
}

// NewRates bounds sources by their ids.
func NewRates(rates map[string]Rate) (*Rates, error) {
	l := &Rates{rates: rates, sources: make(map[string]*rate.Limiter)}
	for id, r := range rates {
		if r.Source > 0 {
			l.sources[id] = rate.NewLimiter(rate.Limit(r.Source), burst(r.Source))
		}
	}
	var err error
	l.senders, err = lru.New[sender, *rate.Limiter](senders)
	return l, err
}

// Take counts n events of a source that somebody sends, all or none: what it
// refuses by a [Refusal] costs nothing. The digest tells senders apart; zero is
// one that is not known, and bounded by the source alone.
func (l *Rates) Take(source string, digest uint64, n int, now time.Time) error {
	own := l.sender(source, digest)
	taken := own.take(n, now)
	if taken.wait > 0 {
		return tooMany("this address sends", taken.wait)
	}
	if wait := (bucket{l.sources[source]}).take(n, now).wait; wait > 0 {
		taken.giveBack(now)
		return tooMany("this source sends", wait)
	}
	return nil
}

func (l *Rates) sender(source string, digest uint64) bucket {
	perSecond := l.rates[source].Address
	if digest == 0 || perSecond <= 0 {
		return bucket{}
	}
	key := sender{source, digest}
	if known, ok := l.senders.Get(key); ok {
		return bucket{known}
	}
	made := rate.NewLimiter(rate.Limit(perSecond), burst(perSecond))
	if known, ok, _ := l.senders.PeekOrAdd(key, made); ok {
		return bucket{known}
	}
	return bucket{made}
}

// bucket takes from a limiter, or without one anything.
type bucket struct{ *rate.Limiter }

// taken is what was taken, or else how long to wait until it can be.
type taken struct {
	reservation *rate.Reservation
	wait        time.Duration
}

func (b bucket) take(n int, now time.Time) taken {
	if b.Limiter == nil {
		return taken{}
	}
	r := b.ReserveN(now, min(n, b.Burst()))
	if wait := r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
		return taken{wait: wait}
	}
	return taken{reservation: r}
}

func (t taken) giveBack(now time.Time) {
	if t.reservation != nil {
		t.reservation.CancelAt(now)
	}
}

func tooMany(who string, wait time.Duration) error {
	return &Refusal{http.StatusTooManyRequests, "rate_limited", who + " more events than sluis.yaml allows; send again later", wait}
}
