package collector

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/sluis-cdp/sluis/collector/schema"
	"github.com/sluis-cdp/sluis/consent"
)

// linter looks at a plan and completes it.
type linter struct {
	plan     *TrackingPlan
	policy   *consent.Policy
	problems []Problem
}

func (l *linter) wrong(at []string, format string, args ...any) {
	l.problems = append(l.problems, Problem{Path: at, Message: fmt.Sprintf(format, args...)})
}

func (l *linter) warn(at []string, format string, args ...any) {
	l.problems = append(l.problems, Problem{Path: at, Message: fmt.Sprintf(format, args...), Warning: true})
}

// below is the path of a part.
func below(at []string, keys ...string) []string { return slices.Concat(at, keys) }

func (l *linter) lint() {
	p := l.plan
	if p.Version == "" {
		l.wrong([]string{"version"}, "a plan needs a version, such as \"1\"")
	}
	if p.Owner == "" && slices.ContainsFunc(p.Events, func(e PlannedEvent) bool { return e.Owner == "" }) {
		l.warn([]string{"owner"}, "nobody is named to ask about this plan: add an owner, such as a team")
	}
	l.mode(&p.Modes.UnknownEvent, ModeAllow, "modes", "unknown_event")
	l.mode(&p.Modes.Invalid, ModeFlag, "modes", "invalid_properties")
	l.mode(&p.Modes.Unknown, ModeAllow, "modes", "unknown_properties")
	l.fields(p.Fields, "fields")
	l.pages()
	p.index = make(map[eventKey]*PlannedEvent, len(p.Events))
	for i := range p.Events {
		l.event(&p.Events[i], []string{"events", strconv.Itoa(i)})
	}
}

// pages parses the patterns of pages.
func (l *linter) pages() {
	l.plan.pages = nil
	if n := len(l.plan.Pages); n > maxPages {
		l.wrong([]string{"pages"}, "%d pages, and %d are allowed: with so many few people share one; let * stand for segments", n, maxPages)
	}
	for i, text := range l.plan.Pages {
		at := []string{"pages", strconv.Itoa(i)}
		page, err := parsePage(text)
		if err != nil {
			l.wrong(at, "%v: write it such as /products/*", err)
			continue
		}
		for _, earlier := range l.plan.pages {
			if earlier.covers(page) {
				l.warn(at, "what fits this page fits %s above, which is told instead: put the more exact one first", earlier.text)
				break
			}
		}
		l.plan.pages = append(l.plan.pages, page)
	}
}

// mode checks a mode, and gives an empty one its default.
func (l *linter) mode(m *Mode, otherwise Mode, at ...string) {
	*m = cmp.Or(*m, otherwise)
	if !slices.Contains(modes, *m) {
		l.wrong(at, "unknown mode %q: want allow, flag, quarantine or block", *m)
	}
}

func (l *linter) event(e *PlannedEvent, at []string) {
	e.Type, e.Version, e.Owner = cmp.Or(e.Type, "track"), cmp.Or(e.Version, l.plan.Version), cmp.Or(e.Owner, l.plan.Owner)
	switch {
	case !slices.Contains(types, e.Type):
		l.wrong(below(at, "type"), "unknown event type %q: want one of %s", e.Type, strings.Join(types, ", "))
	case e.Name == "" && (e.Type == "track" || e.Type == "screen"):
		l.wrong(at, "a %s event needs a name", e.Type)
	case e.Name != "" && brings(e.Type) != "properties":
		l.warn(below(at, "name"), "no SDK sends a name with %s: nothing is found by this entry; remove the name", e.Type)
	}
	key := eventKey{e.Type, e.Name}
	if l.plan.index[key] != nil {
		l.wrong(at, "the plan has this event already, above: make one entry of the two")
	} else {
		l.plan.index[key] = e
	}
	for j, purpose := range e.Purposes {
		if !l.policy.Knows(purpose) {
			l.wrong(below(at, "purposes", strconv.Itoa(j)), "unknown purpose %q: known are %v", purpose, l.policy.Purposes())
		}
	}
	l.fields(e.Fields, below(at, "fields")...)
	l.mode(&e.Modes.Invalid, l.plan.Modes.Invalid, below(at, "modes", "invalid_properties")...)
	l.mode(&e.Modes.Unknown, l.plan.Modes.Unknown, below(at, "modes", "unknown_properties")...)
	if e.Schema != nil {
		l.schema(e, below(at, "schema"))
	}
}

func (l *linter) fields(fields map[string]Field, at ...string) {
	for _, path := range slices.Sorted(maps.Keys(fields)) {
		root, _, ok := strings.Cut(path, ".")
		if !ok || root != "properties" && root != "traits" {
			l.wrong(below(at, path), "the path of a field begins with \"properties.\" or \"traits.\"")
		}
		if class := fields[path].Class; !slices.Contains([]Class{Clear, EmailAdr, PhoneNr, Name, Personal, Drop}, class) {
			l.wrong(below(at, path), "unknown class %q: want clear, email, phone, name, personal or drop", class)
		}
	}
}

// schema compiles an event's schema, and looks whether what it says of a
// property goes with the class that it has.
func (l *linter) schema(e *PlannedEvent, at []string) {
	part := brings(e.Type)
	if part == "" {
		l.wrong(at, "an alias event brings nothing that a schema could be about: remove it")
		return
	}
	var problems []schema.Problem
	e.compiled, problems = schema.Compile(e.Schema)
	for _, problem := range problems {
		l.wrong(below(at, problem.Path...), "%s", problem.Message)
	}
	properties, _ := e.Schema["properties"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		sub, _ := properties[name].(map[string]any)
		l.classified(e, part, name, sub, below(at, "properties", name))
	}
}

// classified warns of a property that looks personal and would land in clear.
func (l *linter) classified(e *PlannedEvent, part, name string, sub map[string]any, at []string) {
	path := part + "." + name
	class, declared := l.plan.class(e, []byte(path))
	judged := classByName(name, part == "traits")
	switch format := sub["format"]; {
	case declared && class == Clear && judged != Clear:
		l.warn(at, "the name of this property looks personal, and %s has the class clear: it lands as it is, unless a detector finds something in it; give it another class if it is about a person", path)
	case declared && class != Clear:
	case format == "email" || format == "ipv4" || format == "ipv6":
		if judged == Clear {
			l.warn(at, "a value of the format %v is personal, and the property has the class clear: add %s to fields with the class %s", format, path, formatClass(format))
		}
	case !declared && judged == Drop:
		l.warn(at, "the name of this property looks personal, so that its values never land: add %s to fields with a class, such as drop, or clear if it is not about a person", path)
	}
}

func formatClass(format any) Class {
	if format == "email" {
		return EmailAdr
	}
	return Drop
}
