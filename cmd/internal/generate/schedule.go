package generate

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// entry is a request of the schedule: the person, the visit, its number and
// whether it is the copy, in one number, so that millions fit into memory.
type entry uint64

func entryOf(r *request) entry {
	e := entry(r.person.n)<<32 | entry(r.visit.n)<<16 | entry(r.n)<<1
	if r.copy {
		e |= 1
	}
	return e
}

func (e entry) person() int { return int(e >> 32) }
func (e entry) visit() int  { return int(e>>16) & 0xffff }

// slotEvents is how many events are worked out at once, about.
const slotEvents = 20_000

// schedule are all requests, by spans of the time in which they arrive.
type schedule struct {
	slots [][]entry
	span  time.Duration
}

// schedule goes through everybody once. truth, if not nil, hears of each.
func (w *World) schedule(ctx context.Context, expected int, truth *Truth) (*schedule, error) {
	n := max(w.Days, expected/slotEvents+1)
	span := w.end.Sub(w.From)/time.Duration(n) + 1
	s := &schedule{slots: make([][]entry, n), span: span}
	if truth != nil {
		truth.about(w.Config)
	}
	for person := range w.everybody() {
		if person%1024 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		p := w.person(person)
		var arrived []request
		w.requests(p, func(r *request) {
			i := int(r.at.Sub(w.From) / span)
			s.slots[i] = append(s.slots[i], entryOf(r))
			if truth != nil {
				arrived = append(arrived, *r)
			}
		})
		if truth != nil {
			truth.tell(p, arrived)
		}
	}
	return s, nil
}

// slot works out the requests of a slot, in the order in which they arrive.
func (w *World) slot(entries []entry) []request {
	slices.Sort(entries)
	wanted := make(map[entry]struct{}, len(entries))
	for _, e := range entries {
		wanted[e] = struct{}{}
	}
	requests := make([]request, 0, len(entries))
	var p *person
	for i, e := range entries {
		if i > 0 && e>>16 == entries[i-1]>>16 {
			continue // of the same visit
		}
		if p == nil || p.n != e.person() {
			p = w.person(e.person())
		}
		for _, r := range w.visit(p, &p.visits[e.visit()]) {
			if _, ok := wanted[entryOf(&r)]; ok {
				requests = append(requests, r)
			}
		}
	}
	slices.SortFunc(requests, func(a, b request) int {
		return cmp.Or(a.at.Compare(b.at), cmp.Compare(entryOf(&a), entryOf(&b)))
	})
	return requests
}

// Total is what was made up.
type Total struct {
	People   int `json:"people"`
	Bots     int `json:"bots"`
	Requests int `json:"requests"`
	Events   int `json:"events"` // with the copies that were sent again
}

// Way is how requests are sent.
type Way struct {
	WriteKey string
	// Now, if not nil, is when a request is sent, whatever its own time says: of a
	// device whose clock is wrong, it is wrong by as much.
	Now func() time.Time
	// Truth, if not nil, is told everything first.
	Truth *Truth
}

// Send gives all requests to do, in the order in which they arrive.
func (w *World) Send(ctx context.Context, way Way, do func(Request) error) (Total, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	total := Total{People: w.People, Bots: w.everybody() - w.People}
	s, err := w.schedule(ctx, 30*w.People, way.Truth)
	if err != nil {
		return total, err
	}
	e := encoder{writeKey: way.WriteKey, now: func(r *request) time.Time { return r.at }}
	if way.Now != nil {
		e.now = func(*request) time.Time { return way.Now() }
	}
	for requests := range w.ahead(ctx, s) {
		for i := range requests {
			if err := do(e.encode(&requests[i])); err != nil {
				return total, err
			}
			total.Requests++
			total.Events += len(requests[i].events)
		}
	}
	return total, ctx.Err()
}

// ahead works slots out while the one before is being sent.
func (w *World) ahead(ctx context.Context, s *schedule) <-chan []request {
	slots := make(chan []request, 1)
	go func() {
		defer close(slots)
		for i, entries := range s.slots {
			s.slots[i] = nil
			select {
			case slots <- w.slot(entries):
			case <-ctx.Done():
				return
			}
		}
	}()
	return slots
}
