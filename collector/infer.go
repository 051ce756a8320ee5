package collector

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/sluis-cdp/sluis/collector/jsontree"
	"github.com/sluis-cdp/sluis/collector/personal"
	"github.com/sluis-cdp/sluis/collector/schema"
)

// Inference proposes a plan from events that landed. Whatever it proposes, those
// events are valid under it. A name or value gets into the plan only if several
// people sent it and no detector finds anything personal in it: so the plan, which
// goes into git, says nothing about any one person.
type Inference struct {
	detector personal.Detector
	people   int // who must have sent something
	events   map[eventKey]*seen
}

// Bounds of what is collected. What exceeds them is not proposed.
const (
	inferEvents = 1000 // names of events
	inferNames  = 200  // members of one object
	inferTexts  = 12   // different texts of one property, to be an enum
	inferDepth  = 4
	inferText   = 40 // bytes of a text in an enum
)

// seen is what is known of an event.
type seen struct {
	whole   *shape
	unfit   bool // one of them is valid under no schema
	leftOut map[string]crowd
}

// shape is what is known of a value.
type shape struct {
	n       int // times that it was there
	kinds   map[string]bool
	texts   map[string]crowd // nil if there are too many, or one that may not be told
	formats []string         // that all texts have
	members map[string]*shape
	objects int
	many    bool // members: more than are collected
	items   *shape
	crowd   crowd
}

// crowd are some of those who sent something, as many as it takes.
type crowd map[string]struct{}

// NewInference makes one that proposes what that many people sent, and only that;
// phoneRegion is as in [Config].
func NewInference(people int, phoneRegion string) *Inference {
	return &Inference{detector: personal.Detector{Region: phoneRegion}, people: max(1, people), events: make(map[eventKey]*seen)}
}

// Add takes an event that landed into account.
func (i *Inference) Add(e EventRow) {
	key := eventKey{typ: e.Type}
	if e.Type == "track" || e.Type == "screen" {
		key.name = e.Event
	}
	s := i.events[key]
	if s == nil {
		if len(i.events) >= inferEvents {
			return
		}
		s = &seen{whole: newShape(), leftOut: make(map[string]crowd)}
		i.events[key] = s
	}
	text := e.Properties
	if brings(e.Type) == "traits" {
		text = e.Traits
	}
	person := e.UserID
	if person == "" {
		person = e.AnonymousID
	}
	var tree jsontree.Tree
	object := jsontree.Value{}
	if err := tree.Parse(text); err == nil && tree.Root().Kind() == jsontree.Object {
		object = tree.Root()
	} else if err := tree.Parse("{}"); err == nil {
		object = tree.Root()
	}
	s.unfit = s.unfit || schema.TooLarge(object)
	i.see(s.whole, object, person, 1)
	for _, violation := range e.Violations {
		if path, what, _ := strings.Cut(violation, ": "); strings.HasPrefix(what, "left out") && strings.Count(path, ".") == 1 && strings.HasPrefix(path, brings(e.Type)+".") {
			i.join(s.leftOut, path, person)
		}
	}
}

func newShape() *shape {
	return &shape{
		kinds: make(map[string]bool), texts: make(map[string]crowd), members: make(map[string]*shape), crowd: make(crowd),
		formats: []string{"date", "date-time", "uri", "uuid"},
	}
}

func (i *Inference) join(to map[string]crowd, name, person string) {
	if to[name] == nil {
		if len(to) >= inferNames {
			return
		}
		to[name] = make(crowd)
	}
	i.add(to[name], person)
}

func (i *Inference) add(to crowd, person string) {
	if len(to) < i.people {
		to[person] = struct{}{}
	}
}

func (i *Inference) see(s *shape, v jsontree.Value, person string, depth int) {
	s.n++
	i.add(s.crowd, person)
	switch v.Kind() {
	case jsontree.String:
		s.kinds["string"] = true
		i.seeText(s, v.Text(), person)
	case jsontree.Number:
		if strings.ContainsAny(v.Text(), ".eE") {
			s.kinds["number"] = true
		} else {
			s.kinds["integer"] = true
		}
	case jsontree.True, jsontree.False:
		s.kinds["boolean"] = true
	case jsontree.Null, jsontree.Missing:
		s.kinds["null"] = true
	case jsontree.Array:
		s.kinds["array"] = true
		if s.items == nil {
			s.items = newShape()
		}
		for element := range v.Elements() {
			if depth < inferDepth {
				i.see(s.items, element, person, depth+1)
			}
		}
	case jsontree.Object:
		s.kinds["object"] = true
		s.objects++
		for name, member := range v.Members() {
			i.seeMember(s, name, member, person, depth)
		}
	}
}

func (i *Inference) seeMember(s *shape, name string, v jsontree.Value, person string, depth int) {
	member := s.members[name]
	switch {
	case depth >= inferDepth:
		return
	case member == nil && len(s.members) >= inferNames:
		s.many = true
		return
	case member == nil:
		member = newShape()
		s.members[name] = member
	}
	i.see(member, v, person, depth+1)
}

// enumText is a text that names one of few things, such as a currency or a state.
var enumText = regexp.MustCompile(`^[\pL\pN_. +-]+$`)

func (i *Inference) seeText(s *shape, text, person string) {
	s.formats = slices.DeleteFunc(s.formats, func(format string) bool { return !schema.HasFormat(format, text) })
	if s.texts == nil {
		return
	}
	if _, known := s.texts[text]; !known && (len(s.texts) >= inferTexts || len(text) > inferText || !enumText.MatchString(text) || i.personal(text)) {
		s.texts = nil
		return
	}
	i.join(s.texts, text, person)
}

func (i *Inference) personal(text string) bool {
	return len(i.detector.Find("", text)) > 0
}

// planName is a text that may name an event or a property in a plan.
var planName = regexp.MustCompile(`^[\pL_$][\pL\pN_$ .:/-]{0,99}$`)

func (i *Inference) fit(text string, c crowd) bool {
	return len(c) >= i.people && planName.MatchString(text) && !i.personal(text)
}

// Events are the events to propose, by type and name: those that enough people
// sent.
func (i *Inference) Events() []PlannedEvent {
	var events []PlannedEvent
	keys := slices.SortedFunc(maps.Keys(i.events), func(a, b eventKey) int {
		return strings.Compare(a.typ+"\x00"+a.name, b.typ+"\x00"+b.name)
	})
	for _, key := range keys {
		s := i.events[key]
		named := key.typ == "track" || key.typ == "screen"
		if !slices.Contains(types, key.typ) || len(s.whole.crowd) < i.people || named && (!i.fit(key.name, s.whole.crowd) || key.name == "screen") {
			continue
		}
		e := PlannedEvent{Name: key.name, Type: key.typ}
		for _, path := range slices.Sorted(maps.Keys(s.leftOut)) {
			_, member, _ := strings.Cut(path, ".")
			if i.fit(member, s.leftOut[path]) {
				if e.Fields == nil {
					e.Fields = make(map[string]Field)
				}
				e.Fields[path] = Field{Class: Drop}
			}
		}
		part := brings(key.typ)
		if proposed := i.object(s.whole, part == "traits"); !s.unfit && part != "" && len(proposed) > 0 {
			e.Schema = proposed
			e.Schema["type"] = "object"
		}
		events = append(events, e)
	}
	return events
}

// object proposes what holds of the members of an object; nothing if there are
// too many, so that their names are data.
func (i *Inference) object(s *shape, person bool) map[string]any {
	proposed := make(map[string]any)
	if s.many {
		return proposed
	}
	properties := make(map[string]any)
	var required []any
	for _, member := range slices.Sorted(maps.Keys(s.members)) {
		m := s.members[member]
		class := classByName(member, person)
		if !i.fit(member, m.crowd) || class != Clear && person {
			continue
		}
		properties[member] = i.value(m, class == Clear)
		if m.n == s.objects {
			required = append(required, member)
		}
	}
	if len(properties) > 0 {
		proposed["properties"] = properties
	}
	if len(required) > 0 {
		proposed["required"] = required
	}
	return proposed
}

// value proposes what holds of a value; clear tells whether texts may be told.
func (i *Inference) value(s *shape, clear bool) map[string]any {
	proposed := make(map[string]any)
	kinds := slices.Sorted(maps.Keys(s.kinds))
	if s.kinds["number"] {
		kinds = slices.DeleteFunc(kinds, func(kind string) bool { return kind == "integer" })
	}
	switch len(kinds) {
	case 0:
		return proposed
	case 1:
		proposed["type"] = kinds[0]
	default:
		list := make([]any, len(kinds))
		for n, kind := range kinds {
			list[n] = kind
		}
		proposed["type"] = list
	}
	if s.kinds["string"] {
		if len(s.formats) > 0 {
			proposed["format"] = s.formats[0]
		} else if enum := i.enum(s); clear && len(kinds) == 1 && enum != nil {
			proposed["enum"] = enum
		}
	}
	if s.kinds["object"] {
		maps.Copy(proposed, i.object(s, false))
	}
	if s.items != nil {
		if items := i.value(s.items, clear); len(items) > 0 {
			proposed["items"] = items
		}
	}
	return proposed
}

// enum are the texts that a property has, if enough people sent each.
func (i *Inference) enum(s *shape) []any {
	var list []any
	for _, text := range slices.Sorted(maps.Keys(s.texts)) {
		if len(s.texts[text]) < i.people || s.n < 3*len(s.texts) {
			return nil
		}
		list = append(list, text)
	}
	return list
}
