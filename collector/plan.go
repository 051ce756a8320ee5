package collector

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

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

// ParsePlan reads a plan. All that is wrong with it is in the error, each with
// file and line.
func ParsePlan(file string, text []byte, policy *consent.Policy) (*TrackingPlan, error) {
	var plan TrackingPlan
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&plan); err != nil && !errors.Is(err, io.EOF) {
		return nil, planError(file, err)
	}
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		return nil, planError(file, err)
	}
	var problems []error
	report := func(text, format string, args ...any) {
		problems = append(problems, fmt.Errorf("%s:%d: %s", file, lineOf(&root, text), fmt.Sprintf(format, args...)))
	}
	if plan.Version == "" {
		report("", "version is missing: give the plan a version, such as version: \"1\"")
	}
	checkFields(plan.Fields, report)
	for i, e := range plan.Events {
		if e.Type == "" {
			plan.Events[i].Type = "track"
			e.Type = "track"
		}
		if !slices.Contains(types, e.Type) {
			report(e.Type, "unknown event type %q: want one of %s", e.Type, strings.Join(types, ", "))
		}
		if e.Name == "" && (e.Type == "track" || e.Type == "screen") {
			report("events", "event number %d has no name: a %s event needs one", i+1, e.Type)
		}
		for _, purpose := range e.Purposes {
			if !policy.Knows(purpose) {
				report(string(purpose), "unknown purpose %q: known are %v", purpose, policy.Purposes())
			}
		}
		checkFields(e.Fields, report)
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return &plan, nil
}

func checkFields(fields map[string]Field, report func(text, format string, args ...any)) {
	for path, field := range fields {
		root, _, ok := strings.Cut(path, ".")
		if !ok || root != "properties" && root != "traits" {
			report(path, "field %q: a path begins with \"properties.\" or \"traits.\"", path)
		}
		if !slices.Contains([]Class{Clear, EmailAdr, PhoneNr, Name, Personal, Drop}, field.Class) {
			report(path, "field %q has class %q: want clear, email, phone, name, personal or drop", path, field.Class)
		}
	}
}

var unknownKey = regexp.MustCompile(`line (\d+): field (\S+) not found in type \S+`)

// planError puts the file in front of each line number that the YAML reader
// gives, and drops the names of Go types.
func planError(file string, err error) error {
	text := unknownKey.ReplaceAllString(err.Error(), file+":$1: unknown key \"$2\"")
	text = regexp.MustCompile(`line (\d+): `).ReplaceAllString(text, file+":$1: ")
	text = strings.TrimPrefix(strings.ReplaceAll(text, "yaml: ", ""), "unmarshal errors:\n  ")
	if !strings.Contains(text, file) {
		text = file + ": " + text
	}
	return errors.New(text)
}

// lineOf finds the line of the first scalar with that text; 1 if there is none.
func lineOf(n *yaml.Node, text string) int {
	if n.Kind == yaml.ScalarNode && n.Value == text && text != "" {
		return n.Line
	}
	for _, child := range n.Content {
		if line := lineOf(child, text); line > 1 {
			return line
		}
	}
	return 1
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
func (p *TrackingPlan) class(e *PlannedEvent, path string) (Class, bool) {
	if e != nil {
		if f, ok := e.Fields[path]; ok {
			return f.Class, true
		}
	}
	f, ok := p.Fields[path]
	return f.Class, ok
}
