package collector

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

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

// TrackingPlan says which events a source may send, for which purposes, and
// what its fields hold. A field that it does not name is judged by its name
// and value; see [scrub].
type TrackingPlan struct {
	// Version is stored with each event.
	Version string `yaml:"version"`
	// Owner is the team to ask.
	Owner string `yaml:"owner"`
	// Fields by path, such as "traits.email" or "properties.order_id". They hold
	// for every event.
	Fields map[string]Field `yaml:"fields"`
	Events []PlannedEvent   `yaml:"events"`
}

// PlannedEvent is one event of a plan.
type PlannedEvent struct {
	Name string `yaml:"name"`
	// Type is track (the default), identify, page, screen, group or alias; for
	// other types than track and screen the name may be empty.
	Type string `yaml:"type"`
	// Purposes must all be granted for the event to be kept; the default is
	// analytics.
	Purposes    []consent.Purpose `yaml:"purposes"`
	Description string            `yaml:"description"`
	Fields      map[string]Field  `yaml:"fields"`
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
}

// Check completes the plan's defaults and returns all that is wrong with it.
func (p *TrackingPlan) Check(policy *consent.Policy) []Problem {
	var problems []Problem
	report := func(format string, args []any, path ...string) {
		problems = append(problems, Problem{path, fmt.Sprintf(format, args...)})
	}
	if p.Version == "" {
		report("a plan needs a version, such as \"1\"", nil, "version")
	}
	problems = append(problems, checkFields(p.Fields, "fields")...)
	for i := range p.Events {
		e, at := &p.Events[i], strconv.Itoa(i)
		if e.Type == "" {
			e.Type = "track"
		}
		if !slices.Contains(types, e.Type) {
			report("unknown event type %q: want one of %s", []any{e.Type, strings.Join(types, ", ")}, "events", at, "type")
		}
		if e.Name == "" && (e.Type == "track" || e.Type == "screen") {
			report("a %s event needs a name", []any{e.Type}, "events", at)
		}
		for j, purpose := range e.Purposes {
			if !policy.Knows(purpose) {
				report("unknown purpose %q: known are %v", []any{purpose, policy.Purposes()}, "events", at, "purposes", strconv.Itoa(j))
			}
		}
		problems = append(problems, checkFields(e.Fields, "events", at, "fields")...)
	}
	return problems
}

func checkFields(fields map[string]Field, at ...string) []Problem {
	var problems []Problem
	for _, path := range slices.Sorted(maps.Keys(fields)) {
		where := append(slices.Clone(at), path)
		root, _, ok := strings.Cut(path, ".")
		if !ok || root != "properties" && root != "traits" {
			problems = append(problems, Problem{where, "the path of a field begins with \"properties.\" or \"traits.\""})
		}
		if class := fields[path].Class; !slices.Contains([]Class{Clear, EmailAdr, PhoneNr, Name, Personal, Drop}, class) {
			problems = append(problems, Problem{where, fmt.Sprintf("unknown class %q: want clear, email, phone, name, personal or drop", class)})
		}
	}
	return problems
}

// find returns the planned event for a message, nil if the plan has none.
func (p *TrackingPlan) find(typ, name string) *PlannedEvent {
	for i, e := range p.Events {
		if e.Type == typ && (e.Name == name || e.Name == "") {
			return &p.Events[i]
		}
	}
	return nil
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
