// Package schema validates what events carry against JSON Schema (draft
// 2020-12), as tracking plans have it.
//
// A schema comes from people who may be trusted, and meets values from anybody.
// So whatever a value holds, validating it takes bounded time and memory:
// schemas do not recurse, patterns are RE2, and values are bounded before they
// are looked at. Nothing is fetched or read: a schema is whole by itself. What
// is reported of a value holds nothing of it.
package schema

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"

	"github.com/sluis-cdp/sluis/collector/jsontree"
)

// Schema is a compiled schema of an object. It may be used concurrently.
type Schema struct {
	compiled *jsonschema.Schema
	quick    *quick
	words    map[string]bool  // all names of properties that the schema has
	members  map[string]bool  // those of the object itself
	patterns []*regexp.Regexp // of names of its members
}

// Violation is a rule that a value breaks. Both texts are of the schema, not of
// the value.
type Violation struct {
	// Path leads from the object to what is wrong, such as "items[].price"; empty
	// for the object itself. A name that the schema does not have is "*".
	Path string
	// Rule is the keyword that is broken, such as "required".
	Rule string
}

// maxViolations is how many are told of one value.
const maxViolations = 10

// maxPath bounds a path, in bytes.
const maxPath = 160

// Validate returns what is wrong with an object, in order; nil if nothing. What
// is missing counts as an empty object.
func (s *Schema) Validate(object jsontree.Value) []Violation {
	if s.quick.accepts(object) {
		return nil
	}
	return s.validate(object)
}

// validate asks the library.
func (s *Schema) validate(object jsontree.Value) []Violation {
	value, rule := plain(object)
	if rule != "" {
		return []Violation{{Rule: rule}}
	}
	err := s.compiled.Validate(value)
	if err == nil {
		return nil
	}
	broken, ok := err.(*jsonschema.ValidationError) //nolint:errorlint // the library returns no other
	if !ok {
		return []Violation{{Rule: "schema"}}
	}
	found := s.collect(nil, broken)
	// The library walks over maps, in any order.
	slices.SortFunc(found, func(a, b Violation) int { return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Rule, b.Rule)) })
	found = slices.Compact(found)
	return found[:min(len(found), maxViolations)]
}

// Names tells whether the schema says anything about a member of the object.
func (s *Schema) Names(member string) bool {
	return s.members[member] || slices.ContainsFunc(s.patterns, func(p *regexp.Regexp) bool { return p.MatchString(member) })
}

// collect adds the rules at the leaves of an error. What several schemas of a
// choice say is no use: of a choice, the choice is what is broken.
func (s *Schema) collect(to []Violation, err *jsonschema.ValidationError) []Violation {
	switch k := err.ErrorKind.(type) {
	case *kind.Schema, *kind.Group, *kind.Reference, *kind.AllOf:
		for _, cause := range err.Causes {
			to = s.collect(to, cause)
		}
		return to
	case *kind.Required:
		return s.missing(to, err.InstanceLocation, k.Missing, "required")
	case *kind.DependentRequired:
		return s.missing(to, err.InstanceLocation, k.Missing, "dependentRequired")
	case *kind.AdditionalProperties:
		return append(to, Violation{s.path(slices.Concat(err.InstanceLocation, []string{""})), "additionalProperties"})
	default:
		rule := "schema" // such as: false
		if keywords := k.KeywordPath(); len(keywords) > 0 {
			rule = keywords[0]
		}
		return append(to, Violation{s.path(err.InstanceLocation), rule})
	}
}

func (s *Schema) missing(to []Violation, at, names []string, rule string) []Violation {
	for _, name := range names {
		to = append(to, Violation{s.path(slices.Concat(at, []string{name})), rule})
	}
	return to
}

// path writes a place in a value with the schema's own words.
func (s *Schema) path(location []string) string {
	var b strings.Builder
	for _, part := range location {
		switch {
		case s.words[part]:
		case part != "" && strings.Trim(part, "0123456789") == "":
			b.WriteString("[]")
			continue
		default:
			part = "*"
		}
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		b.WriteString(part)
	}
	return cut(b.String(), maxPath)
}

func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most]
}
