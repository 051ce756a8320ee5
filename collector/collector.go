// Package collector receives events, and decides before it writes a first
// byte what may be kept of each: the gate asks for consent, identifiers become
// pseudonyms, personal data is sealed for the purposes agreed to, and the rest
// is masked. What remains is appended to a crash-safe spool, and answered only
// when it is on disk; the [Loader] lands it in the warehouse.
package collector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/sluis-cdp/sluis/consent"
	"github.com/sluis-cdp/sluis/consent/seal"
)

// Source is where events come from.
type Source struct {
	ID       string
	WriteKey string
	// Origins are the origins of pages that may send from a browser, such as
	// "https://shop.example"; "*" allows any.
	Origins []string
	Plan    *TrackingPlan
	Denied  DeniedPolicy
	// Identity is where browsers keep the visitor's anonymous id; the default is
	// [IdentityCookie].
	Identity Identity
}

// DeniedPolicy says what becomes of an event whose purpose was not granted.
type DeniedPolicy string

// The policies. Under neither is anything written that came with the event.
const (
	Count   DeniedPolicy = "count" // page, screen and track events grow a counter
	Discard DeniedPolicy = "drop"  // only the ledger knows that there was one
)

// Spool is where accepted events wait to be landed; see collector/spool.
type Spool interface {
	// Append returns when the record is on disk. It may be called concurrently.
	Append(ctx context.Context, record []byte) (seq uint64, err error)
}

// Config is what a Collector is made of. All but Logger and Now are required.
type Config struct {
	Sources       []Source
	Policy        *consent.Policy
	Pseudonymizer *seal.Pseudonymizer
	Sealer        *seal.Sealer
	// SealFor are the purposes that need direct identifiers. Analytics and
	// identity do not: they work on pseudonyms.
	SealFor   []consent.Purpose
	CookieKey []byte
	// PhoneRegion is where phone numbers without a country prefix belong.
	PhoneRegion string
	// RegionHeader names a header, set by a proxy that is trusted, with the region
	// of the visitor; empty if there is none.
	RegionHeader string
	Spool        Spool
	Logger       *slog.Logger
	Now          func() time.Time
}

// Collector is the main flow. All its methods may be called concurrently.
type Collector struct {
	Config
	sources  map[string]*Source // by write key
	detector detector

	seen    *lru.Cache[string, struct{}] // message ids that were kept lately
	known   *lru.Cache[string, struct{}] // sealed values that the vault has
	written sync.Map                     // ids of data keys that are on disk
}

// How many message ids and sealed values are remembered. What is forgotten is
// written twice, which the models tolerate.
const (
	seenIDs      = 1 << 17
	knownSecrets = 1 << 16
)

// New checks the configuration.
func New(c Config) (*Collector, error) {
	if c.Policy == nil || c.Pseudonymizer == nil || c.Sealer == nil || c.Spool == nil {
		return nil, errors.New("collector: policy, pseudonymizer, sealer and spool are required")
	}
	if len(c.CookieKey) < minCookieKey {
		return nil, fmt.Errorf("collector: the cookie key has %d bytes, %d are needed", len(c.CookieKey), minCookieKey)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	col := &Collector{Config: c, sources: make(map[string]*Source), detector: detector{region: c.PhoneRegion}}
	for i, s := range c.Sources {
		switch {
		case s.ID == "" || s.WriteKey == "":
			return nil, fmt.Errorf("collector: source number %d needs an id and a write key", i+1)
		case col.sources[s.WriteKey] != nil:
			return nil, fmt.Errorf("collector: sources %s and %s have the same write key", col.sources[s.WriteKey].ID, s.ID)
		}
		if s.Plan == nil {
			s.Plan = &TrackingPlan{}
		}
		if s.Identity == "" {
			s.Identity = IdentityCookie
		}
		col.sources[s.WriteKey] = &s
	}
	var err error
	if col.seen, err = lru.New[string, struct{}](seenIDs); err != nil {
		return nil, err
	}
	col.known, err = lru.New[string, struct{}](knownSecrets)
	return col, err
}

// request is what all events of one HTTP request share.
type request struct {
	source    *Source
	received  time.Time
	sentAt    time.Time // zero if the client did not say
	signals   []consent.Signal
	userAgent string
	region    string
	visitor   *visitor // nil unless the server keeps the visitor's id
}

// Outcome is what became of a received event.
type Outcome string

// The outcomes. Received is the sum of the others; the ledger records both
// sides, so that it can be seen to balance.
const (
	Received    Outcome = "received"
	Landed      Outcome = "landed"
	Counted     Outcome = "counted"
	Withheld    Outcome = "withheld"
	Quarantined Outcome = "quarantined"
	Duplicate   Outcome = "duplicate"
)

// verdict is how a step ends the way of an event; the zero value lets it go on.
// The reason is fit for the ledger: it holds nothing of the event.
type verdict struct {
	outcome Outcome
	reason  string
}

// steps is the way of each event. A step before gate keeps nothing; only the
// steps after it add to the rows that are written.
var steps = []struct {
	name string
	do   func(*Collector, *Event) verdict
}{
	{"validate", (*Collector).validate},
	{"classify", (*Collector).classify},
	{"decide", (*Collector).decide},
	{"recognise", (*Collector).recognise},
	{"gate", (*Collector).gate},
	{"deduplicate", (*Collector).deduplicate},
	{"pseudonymize", (*Collector).pseudonymize},
	{"seal", (*Collector).seal},
	{"scrub", (*Collector).scrub},
	{"land", (*Collector).land},
}

// result is the outcome of one event, told to the client.
type result struct {
	Index   int     `json:"index"`
	Outcome Outcome `json:"outcome"`
	Reason  string  `json:"reason,omitempty"`
}

// accept takes the messages of one request through the steps and appends what
// may be kept to the spool as one record. When it returns nil, the record is on
// disk.
func (c *Collector) accept(ctx context.Context, req *request, messages []map[string]any) ([]result, error) {
	rec := record{ReceivedAt: req.received}
	tally := newTally(req)
	results := make([]result, 0, len(messages))
	events := make([]*Event, 0, len(messages))
	inRequest := make(map[string]bool, len(messages))
	for i, message := range messages {
		e := &Event{req: req, raw: message, rows: &rec.Rows, inRequest: inRequest}
		v := c.walk(e)
		tally.add(v, e)
		results = append(results, result{i, v.outcome, v.reason})
		events = append(events, e)
	}
	tally.into(&rec.Rows)
	if err := c.write(ctx, rec); err != nil {
		return nil, err
	}
	for _, e := range events {
		e.remember(c)
	}
	return results, nil
}

func (c *Collector) walk(e *Event) verdict {
	for _, step := range steps {
		if v := step.do(c, e); v.outcome != "" {
			return v
		}
	}
	return verdict{outcome: Landed}
}

// write appends a record and, once it is on disk, remembers that its data keys
// are.
func (c *Collector) write(ctx context.Context, rec record) error {
	b, err := encodeRecord(rec)
	if err != nil {
		return err
	}
	if _, err := c.Spool.Append(ctx, b); err != nil {
		return fmt.Errorf("appending to the spool: %w", err)
	}
	for _, key := range rec.SealKeys {
		c.written.Store(key.KeyID, struct{}{})
	}
	return nil
}

// tally counts what became of the events of one request.
type tally struct {
	req    *request
	ledger map[verdict]int64
	counts map[[2]string]int64
}

func newTally(req *request) *tally {
	return &tally{req: req, ledger: make(map[verdict]int64), counts: make(map[[2]string]int64)}
}

func (t *tally) add(v verdict, e *Event) {
	t.ledger[verdict{outcome: Received}]++
	t.ledger[v]++
	if v.outcome == Counted {
		name := "" // a name that the plan does not have could be anything
		if e.planned != nil {
			name = e.planned.Name
		}
		t.counts[[2]string{e.typ, name}]++
	}
}

func (t *tally) into(rows *Rows) {
	for v, n := range t.ledger {
		rows.Ledger = append(rows.Ledger, LedgerRow{
			SourceID: t.req.source.ID, Minute: t.req.received.Truncate(time.Minute),
			Outcome: string(v.outcome), Reason: v.reason, N: n,
		})
	}
	for key, n := range t.counts {
		rows.Counts = append(rows.Counts, CountRow{
			SourceID: t.req.source.ID, Hour: t.req.received.Truncate(time.Hour),
			Type: key[0], Event: key[1], N: n,
		})
	}
}
