package collector

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluis-cdp/sluis/consent"
	"github.com/sluis-cdp/sluis/consent/seal"
)

// types are the messages of the Segment specification.
var types = []string{"identify", "track", "page", "screen", "group", "alias"}

// Event is one message on its way through the steps.
type Event struct {
	req       *request
	raw       map[string]any
	rows      *Rows           // of the request: only steps after the gate add to it
	inRequest map[string]bool // message ids of the same request

	typ, name  string
	messageID  string
	fault      string // what validate found wrong; a faulty event is quarantined if it passes the gate
	planned    *PlannedEvent
	decision   consent.Decision
	row        EventRow
	subject    seal.Pseudonym // whom the vault files its values under
	people     map[string]any // what the message says about the person
	personal   []personalValue
	words      []string // what the event says of the person, in lower case; see ownWords
	remembered []string // keys for Collector.known, once the record is on disk
}

// personalValue is a value to seal.
type personalValue struct{ field, value string }

// choiceEvent is the event by which Segment's consent tools tell of a choice.
const choiceEvent = "Segment Consent Preference Updated"

// validate checks the message against the Segment specification. Its findings
// wait until the gate has spoken: without consent nothing is kept of a faulty
// event either.
func (c *Collector) validate(e *Event) verdict {
	e.typ, _ = e.raw["type"].(string)
	e.name, _ = e.raw["event"].(string)
	e.messageID, _ = scalar(e.raw["messageId"])
	if e.messageID == "" {
		e.messageID = newMessageID()
	}
	user, userOK := scalar(e.raw["userId"])
	anonymous, anonymousOK := scalar(e.raw["anonymousId"])
	switch {
	case !slices.Contains(types, e.typ):
		e.fault, e.typ = "unknown type", ""
	case len(e.messageID) > 100:
		e.fault = "messageId is longer than 100 characters"
	case !userOK:
		e.fault = "userId is not a text or number"
	case !anonymousOK:
		e.fault = "anonymousId is not a text or number"
	case user == "" && anonymous == "" && e.req.visitor == nil:
		e.fault = noIdentifier
	case len(user) > seal.MaxIdentifier || len(anonymous) > seal.MaxIdentifier:
		e.fault = "userId or anonymousId is too long"
	case e.typ == "track" && e.name == "":
		e.fault = "track without event"
	}
	for _, field := range []string{"properties", "traits", "context"} {
		if value := e.raw[field]; value != nil && e.fault == "" {
			if _, ok := value.(map[string]any); !ok {
				e.fault = field + " is not an object"
			}
		}
	}
	return verdict{}
}

// scalar reads an id as text: SDKs send null, "" and numbers too. ok is false
// for anything that is no scalar.
func scalar(v any) (text string, ok bool) {
	switch v := v.(type) {
	case nil:
		return "", true
	case string:
		return strings.TrimSpace(v), true
	case json.Number:
		return v.String(), true
	default:
		return "", false
	}
}

func newMessageID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return "sluis-" + hex.EncodeToString(b[:])
}

// classify finds what the tracking plan says of the event.
func (c *Collector) classify(e *Event) verdict {
	name := e.name
	if name == "" {
		name, _ = e.raw["name"].(string)
	}
	e.planned = e.req.source.Plan.find(e.typ, name)
	return verdict{}
}

// decide weighs the signals of the request and of the event itself.
func (c *Collector) decide(e *Event) verdict {
	signals := slices.Clone(e.req.signals)
	if s, ok := c.eventSignal(e); ok {
		signals = append(signals, s)
	}
	e.decision = c.Policy.Decide(signals...)
	return verdict{}
}

// eventSignal reads context.consent. Where it is there and is not what the
// specification says, it denies.
func (c *Collector) eventSignal(e *Event) (consent.Signal, bool) {
	object, ok := e.raw["context"].(map[string]any)
	if !ok {
		return consent.Signal{}, false
	}
	value, ok := object["consent"]
	if !ok || value == nil {
		return consent.Signal{}, false
	}
	unreadable := consent.Signal{Kind: consent.SegmentConsent, Unreadable: true}
	if object, ok = value.(map[string]any); !ok {
		return unreadable, true
	}
	preferences, ok := object["categoryPreferences"].(map[string]any)
	if !ok {
		return unreadable, true
	}
	return c.Policy.FromCategories(preferences), true
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
			return verdict{Counted, err.Error()}
		}
		return verdict{Withheld, err.Error()}
	}
	if e.fault != "" {
		return c.quarantine(e)
	}
	return verdict{}
}

// recordDenials writes the proof of what the event's signals refuse (and, for
// a choice, of what they grant). A refusal is kept only where it can withdraw
// something: an explicit choice, or the word of a customer who is signed in.
// Of a passing visitor who refuses no identifier is kept at all.
func (c *Collector) recordDenials(e *Event, choice bool) {
	user, _ := scalar(e.raw["userId"])
	if user == "" && !choice {
		return
	}
	subjects := []seal.Pseudonym{}
	if p, err := c.Pseudonymizer.Pseudonym(seal.UserID, user); err == nil {
		subjects = append(subjects, p)
	}
	if anonymous, _ := scalar(e.raw["anonymousId"]); choice && anonymous != "" {
		if p, err := c.Pseudonymizer.Pseudonym(seal.AnonymousID, anonymous); err == nil {
			subjects = append(subjects, p)
		}
	}
	signal := consent.Signal{Kind: consent.SegmentConsent}
	if s, ok := c.eventSignal(e); ok {
		signal = s
	} else if len(e.req.signals) > 0 {
		signal = e.req.signals[0]
	}
	granted := e.decision.Granted()
	if !choice {
		granted = nil
	}
	e.rows.Consents = append(e.rows.Consents, c.consentRows(e.req, e.decision, signal, subjects, granted)...)
}

// consentRows is the proof of a decision about some subjects.
func (c *Collector) consentRows(req *request, d consent.Decision, s consent.Signal, subjects []seal.Pseudonym, granted []consent.Purpose) []ConsentRow {
	var rows []ConsentRow
	add := func(purposes []consent.Purpose, ok bool) {
		for _, purpose := range purposes {
			for _, subject := range subjects {
				if purpose == consent.Necessary {
					continue
				}
				rows = append(rows, ConsentRow{
					DecisionID: d.ID(), Pseudonym: subject.Token(), Purpose: string(purpose), Granted: ok,
					Signal: string(s.Kind), SignalDigest: s.Digest(), PolicyVersion: c.Policy.Version(),
					Region: req.region, SourceID: req.source.ID, DecidedAt: req.received, ReceivedAt: req.received,
				})
			}
		}
	}
	add(granted, true)
	add(d.Denied(), false)
	return rows
}

// quarantine seals a faulty event whole, to be looked at and replayed.
func (c *Collector) quarantine(e *Event) verdict {
	v := verdict{Quarantined, e.fault}
	body, err := json.Marshal(e.raw)
	if err != nil {
		return verdict{Withheld, "cannot be encoded"}
	}
	id := newMessageID()
	s, key, err := c.Sealer.Seal(seal.Binding{Purpose: string(consent.Necessary), Field: "quarantine", Subject: id}, string(body))
	if err != nil {
		c.Logger.Error("sealing an event for quarantine failed; it is withheld", "error", err)
		return verdict{Withheld, "cannot be sealed"}
	}
	e.addKey(c, key)
	e.rows.Quarantine = append(e.rows.Quarantine, QuarantineRow{
		QuarantineID: id, SourceID: e.req.source.ID, Type: e.typ, Reason: e.fault,
		KeyID: s.KeyID, Ciphertext: s.Ciphertext, ReceivedAt: e.req.received,
	})
	return v
}

// deduplicate ends the way of a message that was kept before. Only messages
// that are on disk count: a retry may overtake its first try, and must not be
// answered as a duplicate of something that then fails.
func (c *Collector) deduplicate(e *Event) verdict {
	if masked, kinds := c.detector.mask(e.messageID); len(kinds) > 0 || masked != e.messageID {
		e.messageID = "digest-" + c.Pseudonymizer.Digest("message_id", e.messageID)
	}
	key := e.seenKey()
	if c.seen.Contains(key) || e.inRequest[key] {
		return verdict{outcome: Duplicate}
	}
	e.inRequest[key] = true
	return verdict{}
}

func (e *Event) seenKey() string { return e.req.source.ID + "\x00" + e.messageID }

// remember is called when the request's record is on disk.
func (e *Event) remember(c *Collector) {
	if e.row.EventID != "" {
		c.seen.Add(e.seenKey(), struct{}{})
	}
	for _, key := range e.remembered {
		c.known.Add(key, struct{}{})
	}
}

// pseudonymize turns the identifiers into pseudonyms. Without the purpose
// identity an event keeps one of them only: two in one row would be the link
// that the person has not agreed to.
func (c *Collector) pseudonymize(e *Event) verdict {
	e.people = traitsOf(e)
	linked := e.decision.Allows(consent.Identity) == nil
	add := func(kind seal.Kind, value any) string {
		text, ok := scalar(value)
		if !ok || text == "" || !linked && len(e.row.Identifiers) > 0 {
			return ""
		}
		p, err := c.Pseudonymizer.Pseudonym(kind, text)
		switch {
		case errors.Is(err, seal.ErrNotAnIdentifier):
			e.violate("%s: not a valid %s", kind, kind)
			return ""
		case err != nil:
			c.Logger.Error("making a pseudonym failed; the identifier is left out", "kind", kind, "error", err)
			return ""
		}
		id := IdentifierRow{string(kind), p.Token()}
		if !slices.Contains(e.row.Identifiers, id) {
			e.row.Identifiers = append(e.row.Identifiers, id)
		}
		if e.subject.IsZero() || kind == seal.UserID {
			e.subject = p
		}
		return p.Token()
	}
	e.row.AnonymousID = add(seal.AnonymousID, e.raw["anonymousId"])
	e.row.UserID = add(seal.UserID, e.raw["userId"])
	if user, _ := scalar(e.raw["userId"]); strings.Contains(user, "@") {
		if _, err := seal.Normalize(seal.Email, user, ""); err == nil {
			add(seal.Email, user)
		}
	}
	if e.typ == "alias" {
		if previous, _ := scalar(e.raw["previousId"]); previous != "" {
			add(previousKind(previous), previous)
		}
	}
	c.personalTraits(e, add)
	if group := groupOf(e); group != "" {
		if p, err := c.Pseudonymizer.Pseudonym(seal.GroupID, group); err == nil {
			e.row.GroupID = p.Token()
		}
	}
	return verdict{}
}

// previousKind: alias joins a visitor's id or an older user id to a user id.
func previousKind(id string) seal.Kind {
	if len(id) == 36 && strings.Count(id, "-") == 4 {
		return seal.AnonymousID
	}
	return seal.UserID
}

func groupOf(e *Event) string {
	if group, _ := scalar(e.raw["groupId"]); group != "" {
		return group
	}
	object, _ := e.raw["context"].(map[string]any)
	group, _ := scalar(object["groupId"])
	return group
}

// traitsOf returns what the message says about the person: the traits of an
// identify, or what SDKs repeat in context.traits. A group's traits are about
// the group.
func traitsOf(e *Event) map[string]any {
	if traits, ok := e.raw["traits"].(map[string]any); ok && e.typ == "identify" {
		return traits
	}
	object, _ := e.raw["context"].(map[string]any)
	traits, _ := object["traits"].(map[string]any)
	return traits
}

// personalTraits takes the person's own e-mail address, phone number, name and
// what else the plan calls personal out of the message: they become
// identifiers where they are such, and wait to be sealed.
func (c *Collector) personalTraits(e *Event, add func(seal.Kind, any) string) {
	for _, key := range sortedKeys(e.people) {
		class := c.classOf(e, "traits."+key, key, true)
		if class == Clear || class == Drop {
			continue
		}
		value, ok := scalar(e.people[key])
		if !ok || value == "" {
			continue
		}
		kind := map[Class]seal.Kind{EmailAdr: seal.Email, PhoneNr: seal.Phone}[class]
		if kind != "" {
			add(kind, value)
			if normal, err := seal.Normalize(kind, value, c.PhoneRegion); err == nil {
				value = normal
			}
		}
		e.personal = append(e.personal, personalValue{fieldName(class, key), value})
	}
}

// fieldName is the vault's name for a field: e-mail addresses and phone
// numbers under one name, however the site spells it.
func fieldName(class Class, key string) string {
	switch class {
	case EmailAdr:
		return "email"
	case PhoneNr:
		return "phone"
	case Name, Personal, Clear, Drop:
		return snakeCase(key)
	default:
		return snakeCase(key)
	}
}

// seal seals the person's values, once for each purpose that is granted and
// needs them. What the vault is known to have is not sealed again.
func (c *Collector) seal(e *Event) verdict {
	if e.subject.IsZero() {
		return verdict{}
	}
	for _, p := range e.personal {
		token := c.Pseudonymizer.ValueToken(e.subject, p.field, p.value)
		for _, purpose := range c.SealFor {
			if e.decision.Allows(purpose) != nil {
				continue
			}
			known := strings.Join([]string{e.subject.Token(), p.field, string(purpose), token}, "\x00")
			if c.known.Contains(known) {
				continue
			}
			s, key, err := c.Sealer.Seal(seal.Binding{
				Purpose: string(purpose), Field: p.field, Subject: e.subject.Token(), Decision: e.decision.ID(),
			}, p.value)
			if err != nil {
				c.Logger.Error("sealing a value failed; it is left out", "field", p.field, "error", err)
				e.violate("%s: could not be sealed", p.field)
				continue
			}
			e.addKey(c, key)
			e.rows.Vault = append(e.rows.Vault, VaultRow{
				Pseudonym: e.subject.Token(), Field: p.field, Purpose: string(purpose),
				KeyID: s.KeyID, Ciphertext: s.Ciphertext, Token: token,
				DecisionID: e.decision.ID(), ReceivedAt: e.req.received,
			})
			e.remembered = append(e.remembered, known)
		}
	}
	return verdict{}
}

// addKey lands the record of a data key with the first values it sealed. Until
// an append with it has succeeded, every record brings it along.
func (e *Event) addKey(c *Collector, key seal.DataKey) {
	if _, ok := c.written.Load(key.ID); ok {
		return
	}
	if slices.ContainsFunc(e.rows.SealKeys, func(k SealKeyRow) bool { return k.KeyID == key.ID }) {
		return
	}
	e.rows.SealKeys = append(e.rows.SealKeys, SealKeyRow{
		KeyID: key.ID, Purpose: key.Purpose, Recipient: key.Recipient, PSKID: key.PSKID,
		EncapsulatedKey: key.EncapsulatedKey, CreatedAt: key.CreatedAt,
	})
}

// land adds the event's row to the record.
func (c *Collector) land(e *Event) verdict {
	e.row.EventID = e.messageID
	e.row.SourceID = e.req.source.ID
	e.row.Type = e.typ
	e.row.OccurredAt = occurredAt(e)
	e.row.ReceivedAt = e.req.received
	e.row.Purposes = texts(e.decision.Granted())
	e.row.Denied = texts(e.decision.Denied())
	e.row.DecisionID = e.decision.ID()
	e.row.PolicyVersion = c.Policy.Version()
	e.row.Region = e.req.region
	e.row.PlanVersion = e.req.source.Plan.Version
	e.rows.Events = append(e.rows.Events, e.row)
	return verdict{outcome: Landed}
}

func texts(purposes []consent.Purpose) []string {
	list := make([]string, len(purposes))
	for i, p := range purposes {
		list[i] = string(p)
	}
	return list
}

// occurredAt corrects the client's clock by what it was when the request was
// sent (Segment: timestamp = receivedAt - (sentAt - originalTimestamp)). Nothing
// has happened later than it was received.
func occurredAt(e *Event) time.Time {
	at := clientTime(e.raw["originalTimestamp"])
	if at.IsZero() {
		at = clientTime(e.raw["timestamp"])
	}
	sent := clientTime(e.raw["sentAt"])
	if sent.IsZero() {
		sent = e.req.sentAt
	}
	received := e.req.received
	if at.IsZero() {
		return received
	}
	if !sent.IsZero() {
		at = at.Add(received.Sub(sent))
	}
	if at.After(received) || at.Year() < 2000 {
		return received
	}
	return at.UTC().Truncate(time.Microsecond)
}

func clientTime(v any) time.Time {
	text, _ := v.(string)
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}
	}
	return at
}

func (e *Event) violate(format string, args ...any) {
	const most = 20 // a hostile event could have thousands
	if text := fmt.Sprintf(format, args...); len(e.row.Violations) < most && !slices.Contains(e.row.Violations, text) {
		e.row.Violations = append(e.row.Violations, text)
	}
}
