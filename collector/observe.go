package collector

import (
	"encoding/json"
	"iter"
	"reflect"
	"time"
)

// Observer is told what became of events, to be measured and shown. It is
// called on the way of a request, by many goroutines at once: it must not
// block, and keeps nothing that it is given.
type Observer interface {
	// Accepted is called when the record of a request is on disk.
	Accepted(a Accepted)
}

// Accepted is a request of which a record is on disk.
type Accepted struct {
	Source string
	At     time.Time
	Rows   *Rows // of the record; its ledger counts the events by outcome and reason

	results []result
}

func (c *Collector) observe(req *request, results []result, rows *Rows) {
	if c.Observer != nil {
		c.Observer.Accepted(Accepted{Source: req.source.ID, At: req.received, Rows: rows, results: results})
	}
}

// View is an event as it may be shown to people who run the collector.
type View struct {
	At      time.Time `json:"at"`
	Source  string    `json:"source"`
	Outcome Outcome   `json:"outcome"`
	Reason  string    `json:"reason,omitempty"`
	// Event is what lands of it, with shortened pseudonyms; empty unless it does:
	// of any other event nothing may be shown.
	Event json.RawMessage `json:"event,omitempty"`
}

// Views are the events in the order in which they came.
func (a Accepted) Views() iter.Seq[View] {
	return func(yield func(View) bool) {
		landed := a.Rows.Events
		for _, r := range a.results {
			v := View{At: a.At, Source: a.Source, Outcome: r.Outcome, Reason: r.Reason}
			if r.Outcome == Landed && len(landed) > 0 {
				v.Event = forPeople(reflect.ValueOf(landed[0]), false)
				landed = landed[1:]
			}
			if !yield(v) {
				return
			}
		}
	}
}
