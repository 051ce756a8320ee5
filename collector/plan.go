package collector

import (
	"github.com/sluis-cdp/sluis/collector/schema"
	"github.com/sluis-cdp/sluis/consent"
)

// Class says what becomes of a field.
type Class string

// The classes.
const (
	Clear    Class = "clear"    // lands as it is, after the detectors; a person has looked at it
	EmailAdr Class = "email"    // becomes a pseudonym, and is sealed
	PhoneNr  Class = "phone"    // becomes a pseudonym, and is sealed
	Name     Class = "name"     // sealed
	Personal Class = "personal" // sealed
	Drop     Class = "drop"     // never written
)

// Mode says what becomes of an event that departs from its plan. The stricter
// of two counts.
type Mode string

// The modes, the strictest last.
const (
	ModeAllow      Mode = "allow"      // it lands
	ModeFlag       Mode = "flag"       // it lands, and its violations say so
	ModeQuarantine Mode = "quarantine" // it is sealed whole, to be replayed when the plan or the sender is mended
	ModeBlock      Mode = "block"      // it is withheld; only the ledger knows
)

var modes = []Mode{ModeAllow, ModeFlag, ModeQuarantine, ModeBlock}

// PropertyModes are the modes of what an event may set by itself. An empty one
// is that of the plan, and of the plan the default.
type PropertyModes struct {
	// Invalid is for what breaks the event's schema; the default is flag.
	Invalid Mode `yaml:"invalid_properties"`
	// Unknown is for properties that neither schema nor fields name; the default
	// is allow.
	Unknown Mode `yaml:"unknown_properties"`
}

// PlanModes are the modes of a plan.
type PlanModes struct {
	// UnknownEvent is for events that the plan does not name; the default is allow.
	UnknownEvent  Mode `yaml:"unknown_event"`
	PropertyModes `yaml:",inline"`
}

// TrackingPlan says which events a source may send, for which purposes, and
// what their properties hold. A field that it does not name is judged by its
// name and value; see [scrub]. It is of use once [TrackingPlan.Check] has
// completed it, and may then be used concurrently.
type TrackingPlan struct {
	// Version is stored with each event.
	Version string `yaml:"version"`
	// Owner is the team to ask.
	Owner string    `yaml:"owner"`
	Modes PlanModes `yaml:"modes"`
	// Fields by path, such as "traits.email" or "properties.order_id". They hold
	// for every event.
	Fields map[string]Field `yaml:"fields"`
	Events []PlannedEvent   `yaml:"events"`
	// Pages are the paths that may be told of events which are counted without
	// consent, such as "/products/*": the first that fits, as it is written here. A
	// page that none fits is not told.
	Pages []string `yaml:"pages"`

	index map[eventKey]*PlannedEvent
	pages []pagePattern
}

// eventKey is what an event is found by. The name is empty for all of a type.
type eventKey struct{ typ, name string }

// PlannedEvent is one event of a plan.
type PlannedEvent struct {
	Name string `yaml:"name"`
	// Type is track (the default), identify, page, screen, group or alias; for
	// other types than track and screen the name may be empty, which means all of
	// the type that are not named.
	Type        string `yaml:"type"`
	Description string `yaml:"description"`
	// Version and Owner are those of the plan if they are empty.
	Version string `yaml:"version"`
	Owner   string `yaml:"owner"`
	// Purposes must all be granted for the event to be kept; the default is
	// analytics.
	Purposes []consent.Purpose `yaml:"purposes"`
	Fields   map[string]Field  `yaml:"fields"`
	// Schema is a JSON Schema of the object that the event brings: its traits if it
	// is an identify or group, else its properties.
	Schema map[string]any `yaml:"schema"`
	Modes  PropertyModes  `yaml:"modes"`

	compiled *schema.Schema
}

// brings is the member of a message of a type that its schema is about.
func brings(typ string) string {
	switch typ {
	case "identify", "group":
		return "traits"
	case "alias":
		return ""
	default:
		return "properties"
	}
}

// Field is what a plan says of one field.
type Field struct {
	Class       Class  `yaml:"class"`
	Description string `yaml:"description"`
}

// Problem is something wrong with a plan: where, as the keys that lead to it
// (an element of a list by its index), and what.
type Problem struct {
	Path    []string
	Message string
	// Warning says that the plan does what it says in spite of it.
	Warning bool
}

// Check completes the plan's defaults, compiles its schemas, and returns all
// that is wrong with it. After an error, which is any problem but a warning, the
// plan is of no use.
func (p *TrackingPlan) Check(policy *consent.Policy) []Problem {
	l := &linter{plan: p, policy: policy}
	l.lint()
	return l.problems
}

// find returns the planned event for a message, nil if the plan has none. One
// with the message's name comes before one without any.
func (p *TrackingPlan) find(typ, name string) *PlannedEvent {
	if e, ok := p.index[eventKey{typ, name}]; ok {
		return e
	}
	return p.index[eventKey{typ, ""}]
}

// class says what the plan decided for a path; ok is false if nothing.
func (p *TrackingPlan) class(e *PlannedEvent, path []byte) (Class, bool) {
	if e != nil {
		if f, ok := e.Fields[string(path)]; ok {
			return f.Class, true
		}
	}
	f, ok := p.Fields[string(path)]
	return f.Class, ok
}
