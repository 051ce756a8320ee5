package collector

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/sluis-cdp/sluis/collector/jsontree"
	"github.com/sluis-cdp/sluis/consent"
	"github.com/sluis-cdp/sluis/consent/seal"
)

// choiceEvent is the event by which Segment's consent tools tell of a choice.
const choiceEvent = "Segment Consent Preference Updated"

// validate checks the message against the Segment specification. Its findings
// wait until the gate has spoken: without consent nothing is kept of a faulty
// event either.
func (c *Collector) validate(e *Event) verdict {
	e.read()
	messageID, messageOK := scalar(e.messageID)
	if e.id = messageID; e.id == "" {
		e.id = e.req.again.messageID()
	}
	var userOK, anonymousOK bool
	e.user, userOK = scalar(e.userID)
	e.anonymous, anonymousOK = scalar(e.anonymousID)
	switch {
	case len(e.body.Raw()) > maxCall:
		e.fault = "larger than 32 KB"
	case !slices.Contains(types, e.typ):
		e.fault, e.typ = "unknown type", ""
	case !messageOK:
		e.fault = "messageId is not a text or number"
	case len(e.id) > 100:
		e.fault = "messageId is longer than 100 characters"
	case !userOK:
		e.fault = "userId is not a text or number"
	case !anonymousOK:
		e.fault = "anonymousId is not a text or number"
	case e.user == "" && e.anonymous == "" && e.req.browser == nil:
		e.fault = noIdentifier
	case len(e.user) > seal.MaxIdentifier || len(e.anonymous) > seal.MaxIdentifier:
		e.fault = "userId or anonymousId is too long"
	case e.typ == "track" && e.name == "":
		e.fault = "track without event"
	case !objectOrNull(e.properties):
		e.fault = "properties is not an object"
	case !objectOrNull(e.traits):
		e.fault = "traits is not an object"
	case !objectOrNull(e.context):
		e.fault = "context is not an object"
	}
	return verdict{}
}

// objectOrNull: an empty array is what PHP makes of an empty object.
func objectOrNull(v jsontree.Value) bool {
	return v.IsNull() || v.Kind() == jsontree.Object || v.Kind() == jsontree.Array && v.Empty()
}

// classify finds what the tracking plan says of the event.
func (c *Collector) classify(e *Event) verdict {
	name := e.name
	if name == "" {
		name = e.title.String()
	}
	e.planned = e.req.source.Plan.find(e.typ, name)
	return verdict{}
}

// decide weighs the signals of the request and of the event itself.
func (c *Collector) decide(e *Event) verdict {
	e.decision = c.decisionOf(e)
	if e.req.again != nil {
		e.decision = e.req.again.limit(e.decision)
	}
	return verdict{}
}

func (c *Collector) decisionOf(e *Event) decision {
	said := e.consent
	key := e.req.signalKey + said.Raw()
	if known, ok := c.decisions.Get(key); ok {
		return known
	}
	signals := slices.Clone(e.req.signals)
	if s, ok := c.eventSignal(e); ok {
		signals = append(signals, s)
	}
	d := newDecision(c.Policy.Decide(signals...))
	if len(key) <= maxDecisionKey {
		c.decisions.Add(strings.Clone(key), d)
	}
	return d
}

func newDecision(d consent.Decision) decision {
	return decision{Decision: d, granted: texts(d.Granted()), denied: texts(d.Denied())}
}

// eventSignal reads context.consent. Where it is there and is not what the
// specification says, it denies.
func (c *Collector) eventSignal(e *Event) (consent.Signal, bool) {
	said := e.consent
	if said.IsNull() {
		return consent.Signal{}, false
	}
	preferences := said.Get("categoryPreferences")
	if preferences.Kind() != jsontree.Object {
		return consent.Signal{Kind: consent.SegmentConsent, Unreadable: true}, true
	}
	categories := make(map[string]any)
	for name, value := range preferences.Members() {
		categories[name] = nil // no boolean: the policy will not read it
		if yes := value.Kind() == jsontree.True; yes || value.Kind() == jsontree.False {
			categories[name] = yes
		}
	}
	return c.Policy.FromCategories(categories), true
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
	subjects := []seal.Pseudonym{}
	if p, err := e.kept.batch.Pseudonym(seal.UserID, e.user); err == nil {
		subjects = append(subjects, p)
	}
	if choice && e.anonymous != "" {
		if p, err := e.kept.batch.Pseudonym(seal.AnonymousID, e.anonymous); err == nil {
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
	rows := c.consentRows(e.req, e.decision.Decision, signal, subjects, granted)
	if len(rows) == 0 {
		return // nothing is refused: of the person there is to be no trace
	}
	for _, p := range subjects {
		c.keepElement(e.rows, e.kept, p, e.req.received)
	}
	e.rows.Consents = append(e.rows.Consents, rows...)
}

// consentRows is the proof of a decision about some subjects.
func (c *Collector) consentRows(req *request, d consent.Decision, s consent.Signal, subjects []seal.Pseudonym, granted []consent.Purpose) []ConsentRow {
	var rows []ConsentRow
	add := func(purposes []consent.Purpose, ok bool) {
		for _, purpose := range purposes {
			for _, subject := range subjects {
				if purpose == consent.Necessary || c.Suppressed.Holds(subject.Token(), req.received) {
					continue
				}
				rows = append(rows, ConsentRow{
					DecisionID: d.ID(), Pseudonym: subject.Token(), Purpose: string(purpose), Granted: ok,
					Signal: string(s.Kind), SignalDigest: s.Digest(), PolicyVersion: c.Policy.Version(),
					Region: req.visitor.Region, SourceID: req.source.ID, DecidedAt: req.received, ReceivedAt: req.received,
				})
			}
		}
	}
	add(granted, true)
	add(d.Denied(), false)
	return rows
}

// deduplicate ends the way of a message that was kept before, or that another
// request is about to keep: a client that lost patience sends again what is still
// being written.
func (c *Collector) deduplicate(e *Event) verdict {
	var err error
	if e.id, err = c.landingID(e); err != nil {
		c.Logger.Error("making a digest of a message id failed; the event is withheld", "error", err)
		return verdict{Withheld, "its message id cannot be made a digest"}
	}
	key := keyOfMessage(e.req.source.ID, e.id)
	isNew, other := c.window.claim(key, e.kept)
	if other != nil && !slices.Contains(e.kept.others, other) {
		e.kept.others = append(e.kept.others, other)
	}
	if !isNew || e.req.again.hasLanded() {
		return verdict{outcome: Duplicate}
	}
	if e.kept.messages == nil {
		e.kept.messages = make([]messageKey, 0, e.kept.few)
	}
	e.kept.messages = append(e.kept.messages, key)
	return verdict{}
}

// landingID is the message's id as it lands: one that looks personal, or that the
// event itself says to be, is a digest.
func (c *Collector) landingID(e *Event) (string, error) {
	personal := len(wordsIn(e.id, e.wordsOf(e.messageID))) > 0
	if !personal && !seal.IsUUID(e.id) {
		personal = len(c.detector.Find("", e.id)) > 0
	}
	if !personal {
		return e.id, nil
	}
	digest, err := e.kept.batch.Digest("message_id", e.id)
	return "digest-" + digest, err
}

// settle says what became of a request: what it keeps is remembered only if it
// is on disk. Further calls do nothing.
func (c *Collector) settle(kept *keeping) {
	select {
	case <-kept.settled:
		return
	default:
	}
	c.window.settle(kept, kept.onDisk)
	close(kept.settled)
	if kept.onDisk {
		for _, value := range kept.values {
			c.known.Add(value, c.Now())
		}
		for token := range kept.elements {
			c.elements.Add(token, struct{}{})
		}
	}
}

// errNotKept is what becomes of a request whose duplicate turned out to be the
// only one.
var errNotKept = errors.New("another request had the same message, and could not be written")

// wait waits for the requests whose messages this one has too, after its own is
// on disk, so that two never wait for each other. What was answered as a duplicate
// of nothing is to be sent again.
func (k *keeping) wait() error {
	for _, other := range k.others {
		if <-other.settled; !other.onDisk {
			return errNotKept
		}
	}
	return nil
}

// pseudonymize turns the identifiers into pseudonyms. Without the purpose
// identity an event keeps one of them only: two in one row would be the link
// that the person has not agreed to.
func (c *Collector) pseudonymize(e *Event) verdict {
	linked := e.decision.Allows(consent.Identity) == nil
	add := func(kind seal.Kind, text string) string {
		if text == "" || !linked && len(e.row.Identifiers) > 0 {
			return ""
		}
		p, err := e.kept.batch.Pseudonym(kind, text)
		switch {
		case errors.Is(err, seal.ErrNotAnIdentifier):
			e.violate("%s: not a valid %s", kind, kind)
			return ""
		case err != nil:
			c.Logger.Error("making a pseudonym failed; the identifier is left out", "kind", kind, "error", err)
			return ""
		}
		c.keepElement(e.rows, e.kept, p, e.req.received)
		id := IdentifierRow{string(kind), p.Token()}
		if !slices.Contains(e.row.Identifiers, id) {
			e.row.Identifiers = append(e.row.Identifiers, id)
		}
		if e.subject.IsZero() || kind == seal.UserID {
			e.subject = p
		}
		return p.Token()
	}
	e.row.AnonymousID = add(seal.AnonymousID, e.anonymous)
	e.row.UserID = add(seal.UserID, e.user)
	if strings.Contains(e.user, "@") {
		if _, err := seal.Normalize(seal.Email, e.user, ""); err == nil {
			add(seal.Email, e.user)
		}
	}
	if e.typ == "alias" {
		if previous, _ := scalar(e.previousID); previous != "" {
			add(previousKind(previous), previous)
		}
	}
	for _, p := range e.personal {
		if p.kind != "" {
			add(p.kind, p.value)
		}
	}
	if group := groupOf(e); group != "" {
		if p, err := e.kept.batch.Pseudonym(seal.GroupID, group); err == nil {
			c.keepElement(e.rows, e.kept, p, e.req.received)
			e.row.GroupID = p.Token()
		}
	}
	return verdict{}
}

// keepElement lands the element of a pseudonym with the first rows that have it.
func (c *Collector) keepElement(rows *Rows, kept *keeping, p seal.Pseudonym, received time.Time) {
	element, token := p.Element(), p.Token()
	if _, ok := kept.elements[token]; ok || element == nil || c.elements.Contains(token) || c.Suppressed.Holds(token, received) {
		return
	}
	if kept.elements == nil {
		kept.elements = make(map[string]struct{})
	}
	kept.elements[token] = struct{}{}
	rows.Elements = append(rows.Elements, ElementRow{
		Pseudonym: token, Element: element, KeyVersion: int64(c.Pseudonymizer.Version()), ReceivedAt: received,
	})
}

// previousKind: alias joins a visitor's id or an older user id to a user id.
func previousKind(id string) seal.Kind {
	if seal.IsUUID(id) {
		return seal.AnonymousID
	}
	return seal.UserID
}

// personalTraits takes the person's own e-mail address, phone number, name and
// what else the plan calls personal out of the message: they become
// identifiers where they are such, and are sealed.
func (c *Collector) personalTraits(e *Event) {
	for key, v := range e.people.Members() {
		class := c.classOf(e, []byte("traits."+key), key, true)
		if class == Clear || class == Drop {
			continue
		}
		value, ok := scalar(v)
		if !ok || value == "" {
			continue
		}
		e.personal = append(e.personal, personalValue{fieldName(class, key), value, identifierKind[class]})
	}
}

// identifierKind tells which classes are identifiers.
var identifierKind = map[Class]seal.Kind{EmailAdr: seal.Email, PhoneNr: seal.Phone}

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
		digest := c.Pseudonymizer.Lookup("vault", e.subject.Token(), p.field, p.value)
		for _, purpose := range c.SealFor {
			known := knownValue{digest, purpose, c.Sealer.Recipient(string(purpose))}
			if e.decision.Allows(purpose) != nil || c.knows(known) {
				continue
			}
			if err := c.sealFor(e, purpose, p); err != nil {
				c.Logger.Error("sealing a value failed; it is left out", "field", p.field, "error", err)
				e.violate("%s: could not be sealed", p.field)
				continue
			}
			e.kept.values = append(e.kept.values, known)
		}
	}
	return verdict{}
}

// knows tells whether the vault has a value, sealed not too long ago to outlive
// what is deleted for its age.
func (c *Collector) knows(v knownValue) bool {
	since, ok := c.known.Get(v)
	again := c.SealAgain[v.purpose]
	return ok && (again <= 0 || c.Now().Sub(since) < again)
}

// sealFor adds a value to the vault, sealed for one purpose.
func (c *Collector) sealFor(e *Event, purpose consent.Purpose, p personalValue) error {
	value := p.value
	if p.kind != "" {
		if normal, err := seal.Normalize(p.kind, value, c.PhoneRegion); err == nil {
			value = normal
		}
	}
	token, err := e.kept.batch.ValueToken(e.subject, p.field, p.kind, p.value) // as it came: so it is known
	if err != nil {
		return err
	}
	s, key, err := c.Sealer.Seal(seal.Binding{
		Purpose: string(purpose), Field: p.field, Subject: e.subject.Token(), Decision: e.decision.ID(),
		Record: seal.VaultRecord(token, e.req.received),
	}, value)
	if err != nil {
		return err
	}
	e.addKey(c, key)
	e.rows.Vault = append(e.rows.Vault, VaultRow{
		Pseudonym: e.subject.Token(), Field: p.field, Purpose: string(purpose),
		KeyID: s.KeyID, Ciphertext: s.Ciphertext, Token: token,
		DecisionID: e.decision.ID(), ReceivedAt: e.req.received,
	})
	return nil
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
	e.row.EventID = e.id
	e.row.SourceID = e.req.source.ID
	e.row.Type = e.typ
	e.row.OccurredAt = occurredAt(e)
	e.row.ReceivedAt = e.req.received
	e.row.Purposes = e.decision.granted
	e.row.Denied = e.decision.denied
	e.row.DecisionID = e.decision.ID()
	e.row.PolicyVersion = c.Policy.Version()
	e.row.Region = c.regionOf(e)
	e.row.PlanVersion = e.req.source.Plan.Version
	if e.planned != nil {
		e.row.PlanVersion = e.planned.Version
	}
	if e.rows.Events == nil {
		e.rows.Events = make([]EventRow, 0, e.kept.few)
	}
	e.rows.Events = append(e.rows.Events, e.row)
	if e.masked {
		return verdict{Landed, reasonMasked}
	}
	return verdict{outcome: Landed}
}

// reasonMasked is the ledger's reason for an event in which something looked personal.
// The column violations says of which kind it was, and where.
const reasonMasked = "personal data masked"

func texts(purposes []consent.Purpose) []string {
	list := make([]string, len(purposes))
	for i, p := range purposes {
		list[i] = string(p)
	}
	return list
}
