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
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/sluis-cdp/sluis/collector/limit"
	"github.com/sluis-cdp/sluis/collector/personal"
	"github.com/sluis-cdp/sluis/collector/spool"
	"github.com/sluis-cdp/sluis/collector/visitor"
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
	Bots    BotPolicy
	Rate    limit.Rate
	// Servers says that the source's events come from servers, whose write key no
	// page has: what they tell of their visitor's address is believed.
	Servers bool
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
	// Append returns when the record is on disk. It may be called concurrently,
	// and does not hold on to the record.
	Append(ctx context.Context, record []byte) (seq uint64, err error)
}

// Config is what a Collector is made of. All but SealAgain, OldCookieKeys, Visitors, Window, Suppressed, Recorder,
// Observer, Logger and Now are required.
type Config struct {
	Sources       []Source
	Policy        *consent.Policy
	Pseudonymizer *seal.Pseudonymizer
	Sealer        *seal.Sealer
	// SealFor are the purposes that need direct identifiers. Analytics and
	// identity do not: they work on pseudonyms.
	SealFor []consent.Purpose
	// SealAgain is after how long a value that the vault has is sealed anew, where
	// what was sealed is deleted for its age: less than that age, or values of
	// people who are still there would go too. Zero is never.
	SealAgain map[consent.Purpose]time.Duration
	CookieKey []byte
	// OldCookieKeys still verify the cookies that were signed with them.
	OldCookieKeys [][]byte
	// PhoneRegion is where phone numbers without a country prefix belong.
	PhoneRegion string
	// Visitors tells who sends; nil believes connections, and no header.
	Visitors *visitor.Observer
	// PathPrefix is a path, such as "/s", below which the API is served as well;
	// empty if there is none.
	PathPrefix string
	Spool      Spool
	// Window remembers message ids; nil is one that forgets them with the process.
	// A collector made by With keeps the one it has.
	Window *Window
	// Suppressed are the people who were erased; nil if nobody ever was.
	Suppressed *SuppressionList
	// Recorder signs the record of consent; without one its rows land unsigned.
	Recorder *Recorder
	// Observer is told what becomes of events; nil if nobody asks.
	Observer Observer
	Logger   *slog.Logger
	Now      func() time.Time
}

// Collector is the main flow. All its methods may be called concurrently.
type Collector struct {
	Config
	sources  map[string]*Source // by write key
	detector personal.Detector
	*memory
	rates *limit.Rates

	cookieKeys [][]byte // that in use, and those before

	// decisions by the signals of the request and the text of the event's own.
	decisions *lru.Cache[string, decision]
	names     nameClasses
}

// memory is what a collector learns. It outlives a change of the configuration;
// see [Collector.With].
type memory struct {
	window  *Window                           // message ids that landed
	known   *lru.Cache[knownValue, time.Time] // sealed values that the vault has, and since when
	written sync.Map                          // ids of data keys that are on disk
	// tokens of pseudonyms whose elements have landed; one that is forgotten lands
	// twice, which does no harm
	elements *lru.Cache[string, struct{}]
	// how many people were erased when that was last true: what landed of somebody
	// is gone once they are, and lands anew if they are known again
	erased atomic.Int64
}

func newMemory(window *Window) (*memory, error) {
	if window == nil {
		window = NewWindow(0)
	}
	known, err := lru.New[knownValue, time.Time](knownSecrets)
	if err != nil {
		return nil, err
	}
	elements, err := lru.New[string, struct{}](knownElements)
	return &memory{window: window, known: known, elements: elements}, err
}

// knownSecrets is how many sealed values are remembered. What is forgotten is
// written twice, which the models tolerate.
const knownSecrets = 1 << 16

// knownElements is how many pseudonyms are remembered for having landed with
// their elements.
const knownElements = 1 << 16

// How many decisions are remembered, and by how long a key at most.
const (
	knownDecisions = 1 << 10
	maxDecisionKey = 1 << 10
)

// New checks the configuration.
func New(c Config) (*Collector, error) {
	memory, err := newMemory(c.Window)
	if err != nil {
		return nil, err
	}
	return newCollector(c, memory)
}

// With is a collector of another configuration, which knows what c knows: no
// message that c kept is kept twice. Both may be used at once, so that requests
// that c has begun can end while others go to the new one.
func (c *Collector) With(config Config) (*Collector, error) { return newCollector(config, c.memory) }

func newCollector(c Config, memory *memory) (*Collector, error) {
	if c.Policy == nil || c.Pseudonymizer == nil || c.Sealer == nil || c.Spool == nil {
		return nil, errors.New("collector: policy, pseudonymizer, sealer and spool are required")
	}
	cookieKeys := append([][]byte{c.CookieKey}, c.OldCookieKeys...)
	for _, key := range cookieKeys {
		if len(key) < minCookieKey {
			return nil, fmt.Errorf("collector: the cookie key has %d bytes, %d are needed", len(key), minCookieKey)
		}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	col := &Collector{Config: c, sources: make(map[string]*Source), detector: personal.Detector{Region: c.PhoneRegion}, memory: memory, cookieKeys: cookieKeys}
	if err := CheckPathPrefix(c.PathPrefix); err != nil {
		return nil, fmt.Errorf("collector: path prefix: %w", err)
	}
	rates := make(map[string]limit.Rate)
	for i, s := range c.Sources {
		rates[s.ID] = s.Rate
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
	if col.Visitors == nil {
		if col.Visitors, err = visitor.New(visitor.Config{}); err != nil {
			return nil, err
		}
	}
	if col.rates, err = limit.NewRates(rates); err != nil {
		return nil, err
	}
	col.decisions, err = lru.New[string, decision](knownDecisions)
	return col, err
}

// request is what all events of one HTTP request share.
type request struct {
	source    *Source
	received  time.Time
	sentAt    time.Time          // zero if the client did not say
	evidence  []consent.Evidence // the signals around the body, unread
	signalKey string             // the same for the same evidence; empty for none
	visitor   visitor.Visitor
	browser   *browser // nil unless the server keeps the visitor's id
	again     *again   // nil unless the event was in quarantine
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
	{"bots", (*Collector).bots},
	{"gather", (*Collector).gather},
	{"suppress", (*Collector).suppress},
	{"conform", (*Collector).conform},
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
// may be kept to the spool. When it returns nil, that is on disk.
func (c *Collector) accept(ctx context.Context, req *request, messages []message) ([]result, error) {
	if err := c.rates.Take(req.source.ID, req.visitor.Sender, len(messages), c.Now()); err != nil {
		return nil, err
	}
	return c.keep(ctx, req, messages)
}

// keep lets messages become one record; or, where that is larger than the
// spool takes, each half of them one.
func (c *Collector) keep(ctx context.Context, req *request, messages []message) ([]result, error) {
	if n := int64(c.Suppressed.Len()); c.erased.Swap(n) != n {
		c.known.Purge()
		c.elements.Purge()
	}
	half := len(messages) / 2
	batch := c.Pseudonymizer.Batch()
	a := c.attempt(req, messages, batch)
	for batch.Lacks() {
		c.settle(a.kept)
		if half > 0 && batch.Missing() > maxFetch {
			return c.keepHalves(ctx, req, messages[:half], messages[half:])
		}
		if err := batch.Fetch(ctx); err != nil {
			return nil, fmt.Errorf("making pseudonyms: %w", err)
		}
		a = c.attempt(req, messages, batch)
	}
	defer c.settle(a.kept)
	if err := c.record(req.received, &a.rec.Rows); err != nil {
		return nil, err
	}
	err := c.write(ctx, a.rec)
	if half > 0 && errors.Is(err, spool.ErrTooLarge) {
		c.settle(a.kept) // or the halves would wait for it
		return c.keepHalves(ctx, req, messages[:half], messages[half:])
	}
	if err != nil {
		return nil, err
	}
	a.kept.onDisk = true
	c.settle(a.kept)
	c.observe(req, a.results, &a.rec.Rows)
	return a.results, a.kept.wait()
}

// maxFetch is how many pseudonyms are asked of the service for one request, if it
// can be halved.
const maxFetch = 4096

// attempt is a request that went through the steps, and is not written yet.
type attempt struct {
	rec     Record
	results []result
	kept    *keeping
}

// attempt takes messages through the steps. If the batch then lacks pseudonyms
// that a service has to make, it stands for nothing, and was made to find out
// which: they are those of what passes the gate alone.
func (c *Collector) attempt(req *request, messages []message, batch *seal.Batch) *attempt {
	a := &attempt{
		rec: Record{ReceivedAt: req.received}, results: make([]result, 0, len(messages)),
		kept: &keeping{few: len(messages), settled: make(chan struct{}), batch: batch},
	}
	tally := tally{req: req, rows: &a.rec.Rows}
	if len(messages) > 0 {
		a.kept.shared.read(messages[0].shared) // the same for all
	}
	e := new(Event)
	for i, m := range messages {
		*e = Event{message: m, req: req, rows: &a.rec.Rows, kept: a.kept, scratch: e.scratch}
		v := c.walk(e)
		tally.end(v, e)
		a.results = append(a.results, result{i, v.outcome, v.reason})
	}
	return a
}

// keepHalves fails if one half does. Of the other the client's next try finds
// duplicates.
func (c *Collector) keepHalves(ctx context.Context, req *request, first, second []message) ([]result, error) {
	results, err := c.keep(ctx, req, first)
	if err != nil {
		return nil, err
	}
	rest, err := c.keep(ctx, req, second)
	for _, r := range rest {
		r.Index += len(first)
		results = append(results, r)
	}
	return results, err
}

func (c *Collector) walk(e *Event) verdict {
	for _, step := range steps {
		if v := step.do(c, e); v.outcome != "" {
			return v
		}
	}
	return verdict{outcome: Landed}
}

// records are buffers to encode in.
var records = sync.Pool{New: func() any { return new([]byte) }}

// write appends a record and, once it is on disk, remembers that its data keys
// are.
func (c *Collector) write(ctx context.Context, rec Record) error {
	buffer := records.Get().(*[]byte)
	defer records.Put(buffer)
	*buffer = rec.AppendTo((*buffer)[:0])
	if _, err := c.Spool.Append(ctx, *buffer); err != nil {
		return fmt.Errorf("appending to the spool: %w", err)
	}
	for _, key := range rec.SealKeys {
		c.written.Store(key.KeyID, struct{}{})
	}
	return nil
}

// tally counts what became of the events of one request. There are few kinds
// of it in one, so that it looks through what it has.
type tally struct {
	req  *request
	rows *Rows
}

// end counts an event that was received, and what became of it.
func (t *tally) end(v verdict, e *Event) {
	t.add(verdict{outcome: Received}, 1)
	t.add(v, 1)
	if v.outcome == Counted {
		t.counted(e)
	}
}

// counted grows the counter of what a refused event was.
func (t *tally) counted(e *Event) {
	t.rows.Counts = addUp(t.rows.Counts, e.counter, (*CountRow).same, (*CountRow).add)
}

func (t *tally) add(v verdict, n int64) {
	row := LedgerRow{SourceID: t.req.source.ID, Minute: t.req.received.Truncate(time.Minute), Outcome: string(v.outcome), Reason: v.reason, N: n}
	t.rows.Ledger = addUp(t.rows.Ledger, row, (*LedgerRow).same, (*LedgerRow).add)
}
