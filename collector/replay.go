package collector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sluis-cdp/sluis/collector/jsontree"
	"github.com/sluis-cdp/sluis/collector/visitor"
	"github.com/sluis-cdp/sluis/consent"
	"github.com/sluis-cdp/sluis/consent/seal"
)

// Sealed is an event in quarantine, with the record of the key it is sealed with.
type Sealed struct {
	QuarantineRow
	Key seal.DataKey
}

// Opened is an event of the quarantine in clear, in memory alone.
type Opened struct {
	// EventID is the id that it lands with.
	EventID string
	// Pseudonyms are all identifiers that the event has of the person.
	Pseudonyms []string
	// OccurredAt is when it happened, as it would land.
	OccurredAt time.Time

	row    QuarantineRow
	req    request
	event  message
	tree   jsontree.Tree
	sealed quarantined
}

// Message is the event as it was sent, in JSON, with all that it says of the
// person.
func (o *Opened) Message() string { return o.event.body.Raw() }

// Today is what the warehouse knows by now.
type Today struct {
	// Landed says that an event with this id has landed.
	Landed bool
	// Erased says that one of the pseudonyms was erased.
	Erased bool
	// Refused are the purposes that one of the person's identifiers refuses.
	Refused []consent.Purpose
}

// again is what a request of the quarantine has beside those of today.
type again struct {
	id      string // of the quarantine
	landed  bool
	signals []consent.Signal // of the request, when the event came
	granted []string         // then
	refused []consent.Purpose
}

// limit takes away what was not granted when the event came, and what is refused
// today.
func (a *again) limit(d decision) decision {
	return newDecision(d.Only(func(p consent.Purpose) bool {
		return slices.Contains(a.granted, string(p)) && !slices.Contains(a.refused, p)
	}))
}

func (a *again) hasLanded() bool { return a != nil && a.landed }

// messageID is the id of a message that has none: for one of the quarantine the
// same each time.
func (a *again) messageID() string {
	if a == nil {
		return newMessageID()
	}
	return a.id
}

// Errors of Open, for [errors.Is].
var (
	ErrNoSource = errors.New("its source is no longer configured")
	ErrNotWhole = errors.New("what was sealed of it is not enough for a replay")
)

// Open opens an event of the quarantine. The error says why it has to stay there,
// and repeats nothing of it.
func (c *Collector) Open(ctx context.Context, opener *seal.Opener, s Sealed) (*Opened, error) {
	o := &Opened{row: s.QuarantineRow}
	source := c.source(s.SourceID)
	if source == nil {
		return nil, fmt.Errorf("opening %s of the quarantine: %w", s.QuarantineID, ErrNoSource)
	}
	text, err := opener.Open(seal.Sealed{KeyID: s.KeyID, Ciphertext: s.Ciphertext}, s.Key, quarantineBinding(s.QuarantineID, s.SourceID))
	if err != nil {
		return nil, fmt.Errorf("opening %s of the quarantine: %w", s.QuarantineID, err)
	}
	if err := o.read(text); err != nil {
		return nil, fmt.Errorf("opening %s of the quarantine: %w", s.QuarantineID, err)
	}
	o.req.source = source
	o.req.again = &again{id: s.QuarantineID, signals: o.sealed.Signals, granted: o.sealed.Granted}
	if err := c.identify(ctx, o); err != nil {
		return nil, fmt.Errorf("opening %s of the quarantine: %w", s.QuarantineID, err)
	}
	return o, nil
}

// source is the one with an id; nil if there is none.
func (c *Collector) source(id string) *Source {
	for _, source := range c.sources {
		if source.ID == id {
			return source
		}
	}
	return nil
}

// read reads what was sealed.
func (o *Opened) read(text string) error {
	if err := json.Unmarshal([]byte(text), &o.sealed); err != nil {
		return ErrNotWhole // the error would quote it
	}
	if err := o.tree.Parse(text); err != nil {
		return ErrNotWhole
	}
	q, root := &o.sealed, o.tree.Root()
	if q.Received.IsZero() || q.Granted == nil {
		return ErrNotWhole
	}
	o.event = message{typ: q.Type, body: root.Get("message"), shared: root.Get("context")}
	o.req = request{
		received: q.Received, sentAt: q.Sent, visitor: visitor.Visitor{UserAgent: q.UserAgent, Region: q.Region},
	}
	if q.AnonymousID != "" {
		o.req.browser = &browser{id: q.AnonymousID}
	}
	return nil
}

// identify finds out whose the event is, as if all had been agreed to. Nothing of
// it is kept.
func (c *Collector) identify(ctx context.Context, o *Opened) error {
	all := make(map[string]bool)
	for _, purpose := range c.Policy.Purposes() {
		all[string(purpose)] = true
	}
	signal, err := c.Policy.FromChoice(all)
	if err != nil {
		return err
	}
	batch := c.Pseudonymizer.Batch()
	for {
		kept := &keeping{batch: batch}
		kept.shared.read(o.event.shared)
		e := &Event{message: o.event, req: &o.req, rows: new(Rows), kept: kept}
		c.validate(e)
		c.classify(e)
		e.decision = newDecision(c.Policy.Decide(c.situation(&o.req, ""), signal))
		c.recognise(e)
		c.gather(e)
		c.pseudonymize(e)
		if o.EventID, err = c.landingID(e); err != nil {
			return err
		}
		o.OccurredAt = occurredAt(e)
		if batch.Lacks() {
			if err := batch.Fetch(ctx); err != nil {
				return err
			}
			continue
		}
		for _, id := range e.row.Identifiers {
			o.Pseudonyms = append(o.Pseudonyms, id.Pseudonym)
		}
		return nil
	}
}

// Replay takes an event through the steps as if it came when it did, under the
// plan of today, with what was agreed to then and is not refused today. One that
// departs from the plan still stays where it is: the outcome is Quarantined, and
// nothing is written. Any other ends its time there: what lands of it, the row
// that says so, and the rows by which the ledger moves it from quarantined to its
// outcome are one record, so that a crash leaves all or nothing. The caller sees
// to it that no event is replayed whose record may be on its way already.
func (c *Collector) Replay(ctx context.Context, o *Opened, today Today) (Outcome, string, error) {
	again := *o.req.again
	again.landed, again.refused = today.Landed, today.Refused
	o.req.again = &again
	batch := c.Pseudonymizer.Batch()
	rec, e, v := c.replay(o, today, batch)
	for batch.Lacks() {
		c.settle(e.kept)
		if err := batch.Fetch(ctx); err != nil {
			return "", "", fmt.Errorf("making pseudonyms: %w", err)
		}
		rec, e, v = c.replay(o, today, batch)
	}
	kept := e.kept
	defer c.settle(kept)
	if v.outcome == Quarantined {
		return v.outcome, v.reason, nil
	}
	if v.outcome == Landed {
		v.reason = replayed
	}
	t := tally{req: &o.req, rows: &rec.Rows}
	t.move(o.row, v, e)
	if err := c.write(ctx, *rec); err != nil {
		return "", "", err
	}
	kept.onDisk = true
	c.settle(kept)
	return v.outcome, v.reason, kept.wait()
}

// replay is an attempt at one event; see [Collector.attempt].
func (c *Collector) replay(o *Opened, today Today, batch *seal.Batch) (*Record, *Event, verdict) {
	rec := &Record{ReceivedAt: o.req.received}
	kept := &keeping{settled: make(chan struct{}), batch: batch}
	kept.shared.read(o.event.shared)
	e := &Event{message: o.event, req: &o.req, rows: &rec.Rows, kept: kept}
	if today.Erased {
		return rec, e, verdict{Withheld, erasedReason}
	}
	return rec, e, c.walk(e)
}

// replayed is the ledger's reason for an event that landed after all.
const replayed = "replayed from quarantine"

// move says of a quarantined event what became of it.
func (t *tally) move(row QuarantineRow, v verdict, e *Event) {
	was := departure{path: row.Path, rule: row.Reason}
	t.add(verdict{Quarantined, was.reason()}, -1)
	t.add(v, 1)
	if v.outcome == Counted {
		t.counted(e)
	}
	row.Outcome, row.Reason = string(v.outcome), v.reason
	row.Path, row.KeyID, row.Ciphertext, row.Origin = "", "", nil, Origin{}
	t.rows.Quarantine = append(t.rows.Quarantine, row)
}
