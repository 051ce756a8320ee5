package collector

import (
	"crypto/sha256"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/sluis-cdp/sluis/collector/jsontree"
	"github.com/sluis-cdp/sluis/consent"
	"github.com/sluis-cdp/sluis/consent/seal"
)

// decision is a consent decision, with its purposes as rows have them.
type decision struct {
	consent.Decision
	granted, denied []string
	until           time.Time // when it is to be made again; zero for never
}

func newDecision(d consent.Decision) decision {
	made := decision{Decision: d, granted: texts(d.Granted()), denied: texts(d.Denied())}
	made.until, _ = d.Until()
	return made
}

func (d *decision) holds(now time.Time) bool { return d.until.IsZero() || now.Before(d.until) }

// hear finds the signals that stand around a request's body. They are read when a
// decision is made that is not remembered.
func (req *request) hear(r *http.Request) {
	req.evidence = consent.Gather(r.Header, r.URL.RawQuery)
	if len(req.evidence) == 0 {
		return
	}
	var text []byte
	for _, e := range req.evidence {
		text = append(text, byte(e.Place))
		text = append(append(text, e.Name...), 0)
		text = append(append(text, e.Value...), 0) // neither a header nor an address has it
	}
	sum := sha256.Sum256(text)
	req.signalKey = string(sum[:])
}

// requestSignals are the signals of a request, without those of its body.
func (c *Collector) requestSignals(req *request) []consent.Signal {
	if req.again != nil {
		return slices.Clone(req.again.signals)
	}
	return c.Policy.Read(req.evidence, c.cookieKeys...)
}

// decide weighs the signals of the request and of the event itself.
func (c *Collector) decide(e *Event) verdict {
	e.region = c.regionOf(e)
	e.decision = c.decisionOf(e)
	if e.req.again != nil {
		e.decision = e.req.again.limit(e.decision)
	}
	return verdict{}
}

// decisionOf remembers decisions by the text of all that they are made of, so that
// a browser's signals are parsed once and not with each event.
func (c *Collector) decisionOf(e *Event) decision {
	said, managed := e.consent.Raw(), e.management.Raw()
	key := e.req.signalKey + "\x00" + e.req.source.ID + "\x00" + e.region + "\x00" + said + "\x00" + managed
	if e.req.again != nil {
		key = "" // its signals are not of today
	}
	if known, ok := c.decisions.Get(key); ok && known.holds(e.req.received) {
		return known
	}
	d := newDecision(c.Policy.Decide(c.situation(e.req, e.region), append(c.requestSignals(e.req), c.eventSignals(e)...)...))
	if key != "" && len(key) <= maxDecisionKey {
		c.decisions.Add(strings.Clone(key), d)
	}
	return d
}

func (c *Collector) situation(req *request, region string) consent.Situation {
	return consent.Situation{Region: region, Source: req.source.ID, Now: req.received}
}

// eventSignals reads context.consent and context.consentManagement. Where one is
// there and is not what its specification says, it denies.
func (c *Collector) eventSignals(e *Event) []consent.Signal {
	var signals []consent.Signal
	if !e.consent.IsNull() {
		signals = c.Policy.FromConsentObject(decoded(e.consent))
	}
	if !e.management.IsNull() {
		signals = append(signals, c.Policy.FromConsentManagement(decoded(e.management)))
	}
	return signals
}

// decoded is a value as encoding/json decodes it.
func decoded(v jsontree.Value) any {
	switch v.Kind() {
	case jsontree.Object:
		object := make(map[string]any)
		for name, member := range v.Members() {
			object[name] = decoded(member)
		}
		return object
	case jsontree.Array:
		list := []any{}
		for element := range v.Elements() {
			list = append(list, decoded(element))
		}
		return list
	case jsontree.String:
		return v.Text()
	case jsontree.True, jsontree.False:
		return v.Kind() == jsontree.True
	case jsontree.Number:
		return v.Raw()
	case jsontree.Missing, jsontree.Null:
	}
	return nil
}

// gate lets an event pass whose purposes are all granted. Of any other event
// nothing is kept, but for a refusal that may withdraw an earlier consent.
func (c *Collector) gate(e *Event) verdict {
	if e.typ == "track" && e.name == choiceEvent && e.fault == "" {
		c.recordDenials(e, true)
	}
	purposes := []consent.Purpose{consent.Analytics}
	if e.planned != nil && len(e.planned.Purposes) > 0 {
		purposes = e.planned.Purposes
	}
	if err := e.decision.Allows(purposes...); err != nil {
		c.recordDenials(e, false)
		counts := e.fault == "" && (e.typ == "page" || e.typ == "screen" || e.typ == "track")
		if e.req.source.Denied == Count && counts {
			e.counter = c.counter(e)
			return verdict{Counted, err.Error()}
		}
		return verdict{Withheld, err.Error()}
	}
	return verdict{}
}

// recordDenials writes the proof of what the event's signals refuse (and, for
// a choice, of what they grant). A refusal is kept only where it can withdraw
// something: an explicit choice, or the word of a customer who is signed in.
// Of a passing visitor who refuses no identifier is kept at all.
func (c *Collector) recordDenials(e *Event, choice bool) {
	if e.user == "" && !choice || e.req.again != nil { // its choice was recorded when it came
		return
	}
	if c.isErased(e) {
		return
	}
	subjects := []seal.Pseudonym{}
	if p, err := e.kept.batch.Pseudonym(seal.UserID, e.user); err == nil {
		subjects = append(subjects, p)
	}
	if choice && e.anonymous != "" {
		if p, err := e.kept.batch.Pseudonym(seal.AnonymousID, e.anonymous); err == nil {
			subjects = append(subjects, p)
		}
	}
	purposes, notice := e.decision.Denied(), ""
	if choice {
		purposes = append(purposes, e.decision.Granted()...)
		notice = c.noticeOf(e.consent.Get("notice"))
	}
	said := c.consentRows(e.req, e.region, e.decision.Decision, subjects, purposes, notice)
	if len(said) == 0 {
		return
	}
	for _, p := range subjects {
		c.keepElement(e.rows, e.kept, p, e.req.received)
	}
	e.rows.Consents = append(e.rows.Consents, said...)
}

// consentRows is the proof of a decision about some subjects: for each purpose
// what was decided, by which signal, and how long it lasts.
func (c *Collector) consentRows(req *request, region string, d consent.Decision, subjects []seal.Pseudonym, purposes []consent.Purpose, notice string) []ConsentRow {
	var rows []ConsentRow
	for _, purpose := range purposes {
		if purpose == consent.Necessary {
			continue
		}
		why := d.Explain(purpose)
		for _, subject := range subjects {
			if c.Suppressed.Holds(subject.Token(), req.received) {
				continue
			}
			rows = append(rows, ConsentRow{
				DecisionID: d.ID(), Pseudonym: subject.Token(), Purpose: string(purpose), Granted: why.Granted,
				Signal: string(why.By), SignalDigest: why.SignalDigest, PolicyVersion: c.Policy.Version(),
				Region: region, SourceID: req.source.ID, DecidedAt: req.received, ReceivedAt: req.received,
				Notice: notice, ExpiresAt: why.ExpiresAt.Truncate(time.Microsecond),
			})
		}
	}
	return rows
}

// noticeForm is what the version of a notice may look like: a name and no text.
var noticeForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/-]{0,99}$`)

// noticeOf is the version of the notice that a person was shown; empty if the
// client does not tell, or tells something that is no version.
func (c *Collector) noticeOf(v jsontree.Value) string {
	notice := v.String()
	if !noticeForm.MatchString(notice) || len(c.detector.Find("notice", notice)) > 0 {
		return ""
	}
	return notice
}
