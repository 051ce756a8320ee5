package collector

import (
	"slices"

	"github.com/sluis-cdp/sluis/collector/jsontree"
)

// departure is how an event departs from what is asked of it. Its texts are the
// plan's or this program's, never the event's.
type departure struct {
	mode Mode
	path string // such as properties.total; empty for the event itself
	rule string // such as "plan: required"
}

// reason is fit for the ledger.
func (d departure) reason() string {
	if d.path == "" {
		return d.rule
	}
	return d.rule + " at " + d.path
}

// conform quarantines a faulty event, and holds any other against the tracking
// plan. It stands behind the gate: without consent nothing is kept of an event
// that departs from the plan either. The strictest mode of what is found counts.
func (c *Collector) conform(e *Event) verdict {
	if e.fault != "" {
		return c.quarantine(e, departure{ModeQuarantine, "", e.fault})
	}
	found := e.departures()
	if len(found) == 0 {
		return verdict{}
	}
	worst := slices.MaxFunc(found, func(a, b departure) int { return slices.Index(modes, a.mode) - slices.Index(modes, b.mode) })
	switch worst.mode {
	case ModeBlock:
		return verdict{Withheld, worst.reason()}
	case ModeQuarantine:
		return c.quarantine(e, worst)
	case ModeFlag, ModeAllow:
	}
	for _, d := range found {
		if d.mode == ModeFlag && d.rule != unknownProperty { // of these scrub tells the names
			e.violate("%s: %s", orEvent(d.path), d.rule)
		}
	}
	return verdict{}
}

func orEvent(path string) string {
	if path == "" {
		return "event"
	}
	return path
}

const unknownProperty = "plan: unknown property"

// departures are those of an event from its plan that a mode does not allow.
func (e *Event) departures() []departure {
	if e.planned == nil {
		mode := e.req.source.Plan.Modes.UnknownEvent
		if mode == "" || mode == ModeAllow || e.typ == "track" && e.name == choiceEvent { // which is the protocol's own
			return nil
		}
		return []departure{{mode, "", "plan: unknown event"}}
	}
	var found []departure
	part, object := e.brought()
	if mode := e.planned.Modes.Invalid; e.planned.compiled != nil && mode != ModeAllow {
		for _, v := range e.planned.compiled.Validate(object) {
			path := part
			if v.Path != "" {
				path += "." + v.Path
			}
			found = append(found, departure{mode, path, "plan: " + v.Rule})
		}
	}
	if mode := e.planned.Modes.Unknown; mode != ModeAllow && mode != "" {
		for name := range object.Members() {
			if !e.names(part, name) {
				return append(found, departure{mode, part + ".*", unknownProperty})
			}
		}
	}
	return found
}

// brought is the object that the event's schema is about, and its name.
func (e *Event) brought() (part string, object jsontree.Value) {
	switch part = brings(e.typ); part {
	case "properties":
		return part, e.properties
	case "traits":
		return part, e.traits
	default:
		return part, jsontree.Value{}
	}
}

// names tells whether the plan says anything about a member of what the event
// brings.
func (e *Event) names(part, member string) bool {
	if e.planned.compiled != nil && e.planned.compiled.Names(member) {
		return true
	}
	_, ok := e.req.source.Plan.class(e.planned, []byte(part+"."+member))
	return ok
}

// flagUnknown notes the names of members that the plan does not know, masked as
// they land.
func (c *Collector) flagUnknown(e *Event) {
	if e.planned == nil || e.planned.Modes.Unknown != ModeFlag {
		return
	}
	part, object := e.brought()
	for name := range object.Members() {
		if !e.names(part, name) {
			masked, _ := c.mask("", name, e.words)
			e.violate("%s.%s: %s", part, masked, unknownProperty)
		}
	}
}
