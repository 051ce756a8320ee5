package generate

import (
	"strconv"
	"time"
)

const site = "https://shop.example"

// Request is one request to a collector.
type Request struct {
	Path    string // /v1/batch or /v1/consent
	Body    []byte // JSON; valid until the next one
	Agent   string // of the device
	Address string // of the device, from a network that is for tests (RFC 2544)
	At      time.Time
	Person  int
	NEvents int
}

// encoder writes requests as JSON.
type encoder struct {
	writeKey string
	now      func(*request) time.Time // when it is sent
	b        []byte
}

// encode writes a request into memory that the next one takes.
func (e *encoder) encode(r *request) Request {
	d := &r.person.devices[r.visit.device]
	path := "/v1/batch"
	e.b = append(e.b[:0], `{"writeKey":`...)
	e.text(e.writeKey)
	if r.choice {
		path = "/v1/consent"
		e.choice(r, d)
	} else {
		e.batch(r, d)
	}
	e.b = append(e.b, '}')
	n := r.person.n
	return Request{
		Path: path, Body: e.b, Agent: d.agent, At: r.at, Person: n, NEvents: len(r.events),
		Address: "198." + strconv.Itoa(18+n>>16&1) + "." + strconv.Itoa(n>>8&255) + "." + strconv.Itoa(n&255),
	}
}

func (e *encoder) choice(r *request, d *device) {
	e.member("anonymousId", d.id)
	if r.user {
		e.member("userId", r.person.userID)
	}
	e.b = append(e.b, `,"notice":"banner-1","purposes":`...)
	e.grants(r.visit.agrees)
}

func (e *encoder) batch(r *request, d *device) {
	if d.skew != 0 {
		e.member("sentAt", stamp(e.now(r).Add(d.skew)))
	}
	e.b = append(e.b, `,"batch":[`...)
	for i := range r.events {
		if i > 0 {
			e.b = append(e.b, ',')
		}
		e.event(r.person, d, &r.events[i])
	}
	e.b = append(e.b, ']')
}

func (e *encoder) event(p *person, d *device, v *event) {
	e.b = append(e.b, `{"type":"`...)
	e.b = append(append(e.b, v.kind...), '"')
	e.member("messageId", v.id)
	e.member("anonymousId", d.id)
	e.member("timestamp", stamp(v.at.Add(d.skew)))
	if v.user {
		e.member("userId", p.userID)
	}
	if v.name != "" {
		e.member("event", v.name)
	}
	if v.kind == "group" {
		e.member("groupId", p.group)
	}
	e.said(p, v)
	e.context(p, v)
	e.b = append(e.b, '}')
}

// said is what the event tells: properties or, of a person or a group, traits.
func (e *encoder) said(p *person, v *event) {
	switch {
	case v.email:
		e.b = append(e.b, `,"traits":{"email":`...)
		e.text(p.email)
		if v.properties != "" {
			e.b = append(append(e.b, ','), v.properties[1:]...)
			return
		}
		e.b = append(e.b, '}')
	case v.kind == "group":
		e.b = append(append(e.b, `,"traits":`...), v.properties...)
	case v.properties != "":
		e.b = append(append(e.b, `,"properties":`...), v.properties...)
	}
}

func (e *encoder) context(p *person, v *event) {
	e.b = append(e.b, `,"context":{"page":{"url":"`+site...)
	e.b = append(e.b, v.page...)
	if v.query != "" {
		e.b = append(append(e.b, '?'), v.query...)
	}
	e.b = append(e.b, `","title":"Shop"`...)
	if v.referrer != "" {
		e.member("referrer", v.referrer)
	}
	e.b = append(e.b, '}')
	if v.user && p.group != "" && v.kind != "group" {
		e.member("groupId", p.group)
	}
	if v.answered {
		e.b = append(e.b, `,"consent":{"categoryPreferences":`...)
		e.grants(v.agreed)
		e.b = append(e.b, '}')
	}
	e.b = append(e.b, '}')
}

func (e *encoder) grants(g grants) {
	for i, purpose := range purposes {
		before := byte(',')
		if i == 0 {
			before = '{'
		}
		e.b = append(append(append(e.b, before, '"'), purpose...), `":`...)
		e.b = strconv.AppendBool(e.b, g>>i&1 == 1)
	}
	e.b = append(e.b, '}')
}

func (e *encoder) member(name, value string) {
	e.b = append(append(append(e.b, `,"`...), name...), `":`...)
	e.text(value)
}

// text writes what has nothing to be escaped: all that is made up here has not.
func (e *encoder) text(s string) { e.b = append(append(append(e.b, '"'), s...), '"') }

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
