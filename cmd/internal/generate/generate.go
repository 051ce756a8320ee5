// Package generate makes up visitors of a shop, and tells the truth about them:
// who is behind which identifier, which visits there were, where they came from,
// and what was agreed to. What it makes are requests to a collector, as browsers
// and apps send them, so that what lands has gone through all that events go
// through.
//
// All of it is a function of a [Config]: the same one gives the same requests,
// byte for byte, at any time. Nothing in it is of a person.
package generate

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Config says what to make up. A share is from 0 to 1.
type Config struct {
	People int       `json:"people"`
	From   time.Time `json:"from"` // midnight, UTC
	Days   int       `json:"days"` // what would be received after them has not arrived yet
	Seed   uint64    `json:"seed"`

	Shared      float64 `json:"shared"`      // of devices: used by more people than one
	Roles       float64 `json:"roles"`       // of people with an account: who give an address that others give too
	Duplicates  float64 `json:"duplicates"`  // of requests: sent again
	Late        float64 `json:"late"`        // of visits: arrive hours to 40 days later
	Disorder    float64 `json:"disorder"`    // of visits: their last two requests arrive the wrong way round
	Skew        float64 `json:"skew"`        // of devices: with a wrong clock
	Withdrawals float64 `json:"withdrawals"` // of people who agreed: who take some or all of it back
	Erasures    float64 `json:"erasures"`    // of people with an account: who ask to be erased
	Bots        float64 `json:"bots"`        // programs, for each person
}

// Defaults is the noise of an ordinary site. Nobody is erased, since it takes
// more than events.
func Defaults() Config {
	return Config{
		Days: 90, Seed: 1,
		Shared: 0.01, Roles: 0.002, Duplicates: 0.01, Late: 0.03, Disorder: 0.02, Skew: 0.02, Withdrawals: 0.03, Bots: 0.02,
	}
}

// longestLate is how much later a visit of an app arrives that was offline.
const longestLate = 40 * 24 * time.Hour

// World is what a Config makes. It holds nobody: people are made when they are
// asked for. Its methods may be called concurrently.
type World struct {
	Config
	end time.Time
}

// New checks the configuration.
func New(c Config) (*World, error) {
	const most = 50_000_000
	switch {
	case c.People < 1 || c.People > most:
		return nil, fmt.Errorf("the number of people must be from 1 to %d", most)
	case c.Days < 1 || c.Days > 3660:
		return nil, errors.New("the number of days must be from 1 to 3660")
	case !c.From.Equal(c.From.UTC().Truncate(24*time.Hour)) || c.From.Year() < 2000:
		return nil, errors.New("the first day must be a day, by UTC, since 2000")
	}
	for _, share := range []float64{c.Shared, c.Roles, c.Duplicates, c.Late, c.Disorder, c.Skew, c.Withdrawals, c.Erasures, c.Bots} {
		if !(share >= 0 && share <= 1) {
			return nil, errors.New("a share must be from 0 to 1")
		}
	}
	return &World{Config: c, end: c.From.AddDate(0, 0, c.Days)}, nil
}

// PeopleFor is how many people make about so many events, by what the first ones
// do.
func PeopleFor(c Config, events int) (int, error) {
	const sample = 2000
	c.People = sample
	w, err := New(c)
	if err != nil {
		return 0, err
	}
	n := 0
	for person := range w.everybody() {
		w.requests(w.person(person), func(r *request) { n += len(r.events) })
	}
	return max(1, int(float64(events)*sample/float64(max(1, n)))), nil
}

// everybody is the number of people and bots.
func (w *World) everybody() int { return w.People + int(float64(w.People)*w.Bots+0.5) }

// Topics of randomness: what one is used for does not change another.
const (
	ofPerson = iota + 1
	ofVisit
	ofDevice
	ofHousehold
	ofOffice
	ofCompany
	ofCopies
)

// random is the source for one topic of one thing.
func (w *World) random(topic, a, b uint64) *rand.Rand {
	return rand.New(rand.NewPCG(mixed(w.Seed^mixed(topic)), mixed(a*0x9e3779b97f4a7c15^mixed(b))))
}

// mixed is the finalizer of SplitMix64.
func mixed(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func chance(r *rand.Rand, share float64) bool { return r.Float64() < share }

// uuid is a random one, as SDKs make them for devices and messages.
func uuid(r *rand.Rand) string {
	const digits = "0123456789abcdef"
	var b [36]byte
	bits, left := uint64(0), 0
	for i := range b {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			b[i] = '-'
			continue
		}
		if left == 0 {
			bits, left = r.Uint64(), 16
		}
		b[i], bits, left = digits[bits&15], bits>>4, left-1
	}
	b[14], b[19] = '4', "89ab"[b[19]&3]
	return string(b[:])
}
