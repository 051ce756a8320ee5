package collector

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluis-cdp/sluis/collector/jsontree"
	"github.com/sluis-cdp/sluis/consent"
	"github.com/sluis-cdp/sluis/consent/seal"
)

// types are the messages of the Segment specification.
var types = []string{"identify", "track", "page", "screen", "group", "alias"}

// message is an event as it was sent.
type message struct {
	typ    string         // said by the request's path; "" leaves it to the body
	body   jsontree.Value // an object; anything else is no event
	shared jsontree.Value // the context that it shares with its batch
}

// Event is one message on its way through the steps.
type Event struct {
	message
	fields
	contextFields

	req     *request
	rows    *Rows    // of the request: only steps after the gate add to it
	kept    *keeping // of the request
	scratch scratch

	name      string
	id        string // the message's own, or one made for it
	user      string // its userId
	anonymous string // its anonymousId, or that of the browser
	fault     string // what validate found wrong; a faulty event is quarantined if it passes the gate
	planned   *PlannedEvent
	region    string // of the visitor; see regionOf
	decision  decision
	row       EventRow
	counter   CountRow       // what it grows if it is refused and counted
	subject   seal.Pseudonym // whom the vault files its values under
	people    jsontree.Value // what the message says about the person
	personal  []personalValue
	masked    bool     // something in it looked personal, and was masked or left out
	words     []string // what the event says of the person, in lower case; see ownWords
}

// keeping is what is remembered of a request once its record is on disk.
type keeping struct {
	messages []messageKey // claimed from the window
	values   []knownValue
	elements map[string]struct{} // tokens of pseudonyms whose elements the record has
	few      int                 // how many messages the request has
	batch    *seal.Batch

	shared contextFields // of the context that the messages share
	landed contextLanded // what lands of the last message's context

	settled chan struct{} // closed when it is known whether the record is on disk
	onDisk  bool
	others  []*keeping // of requests that are writing messages that this one has too
}

// scratch is memory that one event after the other writes in.
type scratch struct{ out, path []byte }

// fields are the members of a message that steps look at.
type fields struct {
	messageID, userID, anonymousID, previousID, groupID jsontree.Value
	properties, traits, context                         jsontree.Value
	timestamp, originalTimestamp, sentAt                jsontree.Value
	title, category                                     jsontree.Value // of a page or screen; the title is its member "name"
}

// personalValue is a value to seal, as it came.
type personalValue struct {
	field, value string
	kind         seal.Kind // of the identifier that it is; "" if it is none
}

// knownValue is a value of a person that the vault has, for a purpose.
type knownValue struct {
	digest    [32]byte
	purpose   consent.Purpose
	recipient string // the key it was sealed to: after a rotation it is sealed anew
}

// read finds the fields in one pass.
func (e *Event) read() {
	typ := ""
	for name, v := range e.body.Members() {
		switch name {
		case "type":
			typ = v.String()
		case "event":
			e.name = v.String()
		case "name":
			e.title = v
		case "category":
			e.category = v
		case "messageId":
			e.messageID = v
		case "userId":
			e.userID = v
		case "anonymousId":
			e.anonymousID = v
		case "previousId":
			e.previousID = v
		case "groupId":
			e.groupID = v
		case "properties":
			e.properties = v
		case "traits":
			e.traits = v
		case "context":
			e.context = v
		case "timestamp":
			e.timestamp = v
		case "originalTimestamp":
			e.originalTimestamp = v
		case "sentAt":
			e.sentAt = v
		}
	}
	if e.typ == "" {
		e.typ = typ
	}
	e.readContext()
}

// contextFields are the members of a message's context that steps look at.
type contextFields struct {
	consent, management, page, contextTraits, contextGroup, campaign, ip, userAgent jsontree.Value

	landing [len(contextKeys)]jsontree.Value // those that land, as contextKeys lists them
}

// read finds the fields that an object has in one pass, and leaves the others.
func (f *contextFields) read(object jsontree.Value) {
	for name, v := range object.Members() {
		switch name {
		case "consent":
			f.consent = v
		case "consentManagement":
			f.management = v
		case "page":
			f.page = v
		case "traits":
			f.contextTraits = v
		case "groupId":
			f.contextGroup = v
		case "campaign":
			f.campaign = v
		case "ip":
			f.ip = v
		case "userAgent":
			f.userAgent = v
		default:
			for i := range contextKeys {
				if contextKeys[i].part == name {
					f.landing[i] = v
				}
			}
		}
	}
}

// readContext finds what the message's context has, and else that of its batch.
// One that is neither an object nor null has nothing.
func (e *Event) readContext() {
	switch {
	case e.context.IsNull():
		e.contextFields = e.kept.shared
	case e.context.Kind() == jsontree.Object:
		e.contextFields = e.kept.shared
		e.contextFields.read(e.context)
	}
}

// scalar reads an id as text: SDKs send null, "" and numbers too. ok is false
// for anything that is no scalar.
func scalar(v jsontree.Value) (text string, ok bool) {
	switch kind := v.Kind(); {
	case v.IsNull():
		return "", true
	case kind == jsontree.String || kind == jsontree.Number:
		return strings.TrimSpace(v.Text()), true
	default:
		return "", false
	}
}

func newMessageID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return "sluis-" + hex.EncodeToString(b[:])
}

// eventName is what the column event shows: the name of a track or screen,
// the type of anything else.
func (e *Event) eventName() string {
	switch {
	case e.name != "":
		return e.name
	case e.typ == "screen" && e.title.String() != "":
		return e.title.String()
	}
	return e.typ
}

func groupOf(e *Event) string {
	if group, _ := scalar(e.groupID); group != "" {
		return group
	}
	group, _ := scalar(e.contextGroup)
	return group
}

// traitsOf returns what the message says about the person: the traits of an
// identify, or what SDKs repeat in context.traits, where some of RudderStack's
// have the traits of an identify too. A group's traits are about the group.
func traitsOf(e *Event) jsontree.Value {
	if e.typ == "identify" && !e.traits.Empty() {
		return e.traits
	}
	return e.contextTraits
}

// occurredAt corrects the client's clock by what it was when the request was
// sent (Segment: timestamp = receivedAt - (sentAt - originalTimestamp)). Nothing
// has happened later than it was received. Of two times timestamp is the one that
// the caller gave: RudderStack's SDKs add the time of the call.
func occurredAt(e *Event) time.Time {
	at := clientTime(e.timestamp)
	if at.IsZero() {
		at = clientTime(e.originalTimestamp)
	}
	sent := clientTime(e.sentAt)
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

// clientTimes are the forms of ISO 8601 that SDKs send. Where there is no zone it
// is UTC, as it is for Segment; with a sentAt of the same kind that is corrected.
var clientTimes = []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04:05.999999999Z0700"}

func clientTime(v jsontree.Value) time.Time {
	text := v.String()
	if text == "" {
		return time.Time{}
	}
	for _, form := range clientTimes {
		if at, err := time.Parse(form, text); err == nil {
			return at
		}
	}
	return time.Time{}
}

func (e *Event) violate(format string, args ...any) {
	const most = 20 // a hostile event could have thousands
	if len(e.row.Violations) >= most {
		return
	}
	if text := fmt.Sprintf(format, args...); !slices.Contains(e.row.Violations, text) {
		e.row.Violations = append(e.row.Violations, text)
	}
}
