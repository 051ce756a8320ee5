package collector

import (
	"bytes"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/sluis-cdp/sluis/collector/jsontree"
)

// scrubber writes what may land of a JSON object, as JSON.
type scrubber struct {
	*Collector
	*Event
	out  []byte
	path []byte // of the value at hand, such as properties.cart.total
	left int    // fields that may still land

	own []string // words of the event that are in what is scrubbed
}

func (c *Collector) scrubber(e *Event, path string) scrubber {
	return scrubber{Collector: c, Event: e, out: e.scratch.out[:0], path: append(e.scratch.path[:0], path...), left: maxFields}
}

// object scrubs a JSON object; "" if nothing of it lands.
func (c *Collector) object(e *Event, path string, object jsontree.Value) string {
	if object.Empty() {
		return ""
	}
	s := c.scrubber(e, path)
	s.lookFor(object)
	s.members(object, 1, nil)
	return s.text()
}

// named scrubs the properties of a page or screen but for those to skip, with its
// name and category among them: the SDKs of browsers put both there, the others
// beside it.
func (c *Collector) named(e *Event, skip []string) string {
	s := c.scrubber(e, "properties")
	s.lookFor(e.properties)
	s.members(e.properties, 1, skip)
	s.out = s.out[:len(s.out)-len("}")]
	s.beside("name", e.title)
	s.beside("category", e.category)
	s.out = append(s.out, '}')
	return s.text()
}

// beside writes a text as a property, unless there is one of its name.
func (s *scrubber) beside(name string, v jsontree.Value) {
	if v.String() != "" && s.properties.Get(name).Kind() == jsontree.Missing {
		s.lookFor(v)
		s.member(name, v, 1, false)
	}
}

// lookFor finds out, once for all of a value, whether there are words to mask
// in it.
func (s *scrubber) lookFor(v jsontree.Value) { s.own = s.wordsOf(v) }

// wordsOf are the event's words if any of them can be in a value. Nearly always
// there are none.
func (e *Event) wordsOf(v jsontree.Value) []string {
	if len(e.words) == 0 || v.IsNull() {
		return nil
	}
	raw := v.Raw()
	if strings.IndexByte(raw, '\\') >= 0 || strings.IndexByte(raw, '%') >= 0 {
		return e.words // one may be there in other letters
	}
	folded, ok := v.Lower()
	if !ok {
		if !utf8.ValidString(raw) {
			return e.words
		}
		folded = fold(raw)
	}
	for _, word := range e.words {
		if strings.Contains(folded, word) {
			return e.words
		}
	}
	return nil
}

// text is what was written; "" for an empty object.
func (s *scrubber) text() string {
	s.scratch = scratch{s.out, s.path}
	if len(s.out) == len("{}") {
		return ""
	}
	return string(s.out)
}

// members writes an object. Names that masking made equal are written once.
func (s *scrubber) members(object jsontree.Value, depth int, skip []string) {
	traits := depth == 1 && s.typ == "identify" && string(s.path) == "traits" // seal has seen to these
	var masked []string
	s.out = append(s.out, '{')
	for key, v := range object.Members() {
		if slices.Contains(skip, key) {
			continue
		}
		name, did := s.mask("", key, s.own)
		if len(did) > 0 {
			s.report(did)
			if slices.Contains(masked, name) || object.Get(name).Kind() != jsontree.Missing {
				continue
			}
			masked = append(masked, name)
		}
		s.member(name, v, depth, traits)
	}
	s.out = append(s.out, '}')
}

// member writes one member of an object that has been begun, or nothing.
func (s *scrubber) member(name string, v jsontree.Value, depth int, own bool) {
	path, out := len(s.path), len(s.out)
	s.path = append(append(s.path, '.'), name...)
	s.comma()
	s.out = append(jsontree.AppendString(s.out, name), ':')
	if !s.lands(name, own) || !s.value(v, depth) {
		s.out = s.out[:out]
	}
	s.path = s.path[:path]
}

// comma separates from what was written before in the same object or array.
func (s *scrubber) comma() {
	if last := s.out[len(s.out)-1]; last != '{' && last != '[' {
		s.out = append(s.out, ',')
	}
}

// lands tells whether the field at the path may land at all.
func (s *scrubber) lands(name string, own bool) bool {
	switch class := s.classOf(s.Event, s.path, name, own); class {
	case Clear:
		return true
	case Drop:
		s.violate("%s: left out", s.path)
	case EmailAdr, PhoneNr, Name, Personal:
		if !own {
			s.violate("%s: left out, its name looks personal", s.path)
		}
	}
	return false
}

// value writes a value, or nothing if there are too many.
func (s *scrubber) value(v jsontree.Value, depth int) bool {
	if s.left--; s.left < 0 || depth > maxDepth {
		s.violate("%s: too many fields or levels, cut off", rootOf(string(s.path)))
		return false
	}
	switch v.Kind() {
	case jsontree.String:
		masked, did := s.mask(s.key(), s.withoutQuery(v.Text()), s.own)
		s.report(did)
		s.out = jsontree.AppendString(s.out, masked)
	case jsontree.Number:
		masked, did := s.mask(s.key(), v.Text(), s.own)
		if s.report(did); len(did) > 0 {
			s.out = jsontree.AppendString(s.out, masked)
		} else {
			s.out = append(s.out, v.Text()...)
		}
	case jsontree.Object:
		s.members(v, depth+1, nil)
	case jsontree.Array:
		s.elements(v, depth+1)
	case jsontree.True, jsontree.False, jsontree.Null, jsontree.Missing:
		s.out = append(s.out, v.Raw()...)
	}
	return true
}

func (s *scrubber) elements(array jsontree.Value, depth int) {
	path := len(s.path)
	s.path = append(s.path, "[]"...)
	s.out = append(s.out, '[')
	for v := range array.Elements() {
		out := len(s.out)
		if s.comma(); !s.value(v, depth) {
			s.out = s.out[:out]
		}
	}
	s.out = append(s.out, ']')
	s.path = s.path[:path]
}

func (s *scrubber) report(did []string) {
	if len(did) > 0 {
		s.Event.report(string(s.path), did)
	}
}

// key is the name of the field at the path.
func (s *scrubber) key() string { return string(s.path[bytes.LastIndexByte(s.path, '.')+1:]) }

func rootOf(path string) string {
	root, _, _ := strings.Cut(path, ".")
	return root
}

// withoutQuery cuts query and fragment off a value that is an address.
func (s *scrubber) withoutQuery(value string) string {
	if !strings.HasPrefix(value, "http://") && !strings.HasPrefix(value, "https://") {
		return value
	}
	value = s.withoutWords(string(s.path), value, s.own) // or a part of a word might be left
	if i := strings.IndexAny(value, "?#"); i >= 0 {
		return value[:i]
	}
	return value
}

// contextKeys are the parts of context that land. SDKs repeat traits, page,
// address and device ids there, so that everything else is left out unsaid.
var contextKeys = [...]struct {
	part string
	keys []string // nil: the part is a text
}{
	{"locale", nil},
	{"timezone", nil},
	{"library", []string{"name", "version"}},
	{"app", []string{"name", "version", "build"}},
	{"os", []string{"name", "version"}},
	{"screen", []string{"width", "height", "density"}},
	{"network", []string{"wifi", "cellular"}},
}

// landingContext scrubs the parts of the context that land; "" if there are none.
func (c *Collector) landingContext(e *Event) string {
	if text, ok := e.kept.landed.of(e.landing); ok {
		return text
	}
	s := c.scrubber(e, "context")
	violations, words := len(e.row.Violations), false
	s.out = append(s.out, '{')
	for i, allowed := range contextKeys {
		part := e.landing[i]
		s.lookFor(part)
		words = words || s.own != nil
		switch {
		case allowed.keys != nil:
			s.group(allowed.part, part, allowed.keys)
		case part.Kind() == jsontree.String:
			s.member(allowed.part, part, 1, false)
		}
	}
	s.out = append(s.out, '}')
	text := s.text()
	if !words && violations == len(e.row.Violations) {
		e.kept.landed = contextLanded{e.landing, text, true}
	}
	return text
}

// contextLanded is what landed of a context in which nothing was to be masked.
// The messages of a request mostly have the same.
type contextLanded struct {
	parts [len(contextKeys)]jsontree.Value
	text  string
	known bool
}

// of is the text for these parts, if it is known.
func (l *contextLanded) of(parts [len(contextKeys)]jsontree.Value) (text string, ok bool) {
	for i := range parts {
		if parts[i].Raw() != l.parts[i].Raw() {
			return "", false
		}
	}
	return l.text, l.known
}

// group writes the members of an object that are listed, or nothing if it has
// none of them.
func (s *scrubber) group(name string, object jsontree.Value, keys []string) {
	if object.Kind() != jsontree.Object {
		return
	}
	path, out := len(s.path), len(s.out)
	s.path = append(append(s.path, '.'), name...)
	s.comma()
	s.out = append(jsontree.AppendString(s.out, name), ":{"...)
	for _, key := range keys {
		if v := object.Get(key); v.Kind() != jsontree.Missing {
			s.member(key, v, 2, false)
		}
	}
	if s.out[len(s.out)-1] == '{' {
		s.out = s.out[:out]
	} else {
		s.out = append(s.out, '}')
	}
	s.path = s.path[:path]
}
