package schema

import (
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/sluis-cdp/sluis/collector/jsontree"
)

// quick accepts most valid values straight from the tree, at a twentieth of
// what the library costs, for which a value must be copied first. It knows the
// common keywords, and never accepts what the library would not; what it is not
// sure of, and what is wrong, is for the library to say.
type quick struct {
	unsure     bool // there is a keyword that is not known here
	types      kinds
	texts      []string // of which a value must be one; nil if it may be any
	required   []string
	properties map[string]*quick
	closed     bool // no other properties
	items      *quick
	all        []*quick
	minimum    *bound
	maximum    *bound
	minLength  int
	maxLength  int
	pattern    jsonschema.Regexp
	format     *jsonschema.Format
}

// kinds is a set of kinds of values, and whether numbers must be whole.
type kinds struct {
	set   uint16
	whole bool
}

const anyKind = 1<<16 - 1

// bound is a bound of numbers.
type bound struct {
	at    float64
	exact bool // it is exactly that
}

// newQuick reads a compiled schema. known are those that were read before.
func newQuick(s *jsonschema.Schema, known map[*jsonschema.Schema]*quick) *quick {
	if s == nil {
		return nil
	}
	if q, ok := known[s]; ok {
		return q
	}
	q := &quick{
		types: kindsOf(s.Types), required: s.Required, maxLength: math.MaxInt, pattern: s.Pattern, format: s.Format,
		minimum: boundOf(s.Minimum), maximum: boundOf(s.Maximum),
	}
	known[s] = q
	q.unsure = s.Bool != nil && !*s.Bool || s.Not != nil || s.AnyOf != nil || s.OneOf != nil || s.If != nil ||
		s.MaxProperties != nil || s.MinProperties != nil || s.PropertyNames != nil || s.PatternProperties != nil ||
		s.DependentRequired != nil || s.DependentSchemas != nil ||
		s.MinItems != nil || s.MaxItems != nil || s.UniqueItems || s.Contains != nil || s.PrefixItems != nil ||
		s.ExclusiveMaximum != nil || s.ExclusiveMinimum != nil || s.MultipleOf != nil
	switch additional := s.AdditionalProperties.(type) {
	case nil:
	case bool:
		q.closed = !additional
	default:
		q.unsure = true
	}
	if s.MinLength != nil {
		q.minLength = *s.MinLength
	}
	if s.MaxLength != nil {
		q.maxLength = *s.MaxLength
	}
	q.readTexts(s)
	for _, sub := range append(slices.Clone(s.AllOf), s.Ref) {
		if sub != nil {
			q.all = append(q.all, newQuick(sub, known))
		}
	}
	q.items = newQuick(s.Items2020, known)
	if len(s.Properties) > 0 {
		q.properties = make(map[string]*quick, len(s.Properties))
		for name, sub := range s.Properties {
			q.properties[name] = newQuick(sub, known)
		}
	}
	return q
}

// readTexts reads what a value may be, if it may be texts only.
func (q *quick) readTexts(s *jsonschema.Schema) {
	var values []any
	switch {
	case s.Const != nil && s.Enum != nil:
		q.unsure = true
	case s.Const != nil:
		values = []any{*s.Const}
	case s.Enum != nil:
		values = s.Enum.Values
	}
	for _, v := range values {
		text, ok := v.(string)
		if !ok {
			q.unsure = true
		}
		q.texts = append(q.texts, text)
	}
}

func kindsOf(types *jsonschema.Types) kinds {
	if types == nil || types.IsEmpty() {
		return kinds{set: anyKind}
	}
	var k kinds
	names := types.ToStrings()
	for _, name := range names {
		switch name {
		case "null":
			k.set |= 1<<jsontree.Null | 1<<jsontree.Missing
		case "boolean":
			k.set |= 1<<jsontree.True | 1<<jsontree.False
		case "string":
			k.set |= 1 << jsontree.String
		case "array":
			k.set |= 1 << jsontree.Array
		case "object":
			k.set |= 1 << jsontree.Object
		case "number", "integer":
			k.set |= 1 << jsontree.Number
		}
	}
	k.whole = slices.Contains(names, "integer") && !slices.Contains(names, "number")
	return k
}

func boundOf(r *big.Rat) *bound {
	if r == nil {
		return nil
	}
	f, exact := r.Float64()
	return &bound{f, exact}
}

// accepts tells whether an object is sure to be valid, and within bounds.
func (q *quick) accepts(object jsontree.Value) bool {
	left := maxValues
	return object.Kind() == jsontree.Object && bounded(object, 1, &left) && q.valid(object)
}

// bounded tells whether a container is sure to be what plain would copy whole.
func bounded(container jsontree.Value, depth int, left *int) bool {
	within := func(v jsontree.Value) bool {
		if *left--; *left < 0 || depth > maxDepth {
			return false
		}
		switch v.Kind() {
		case jsontree.Object, jsontree.Array:
			return bounded(v, depth+1, left)
		case jsontree.String:
			return len(v.Text()) <= maxText
		case jsontree.Number:
			return len(v.Text()) < 300 && !strings.ContainsAny(v.Text(), "eE") // no larger than a float64 may be
		case jsontree.Missing, jsontree.Null, jsontree.False, jsontree.True:
		}
		return true
	}
	for _, v := range container.Members() {
		if !within(v) {
			return false
		}
	}
	for v := range container.Elements() {
		if !within(v) {
			return false
		}
	}
	return true
}

// valid tells whether a value is sure to be valid.
func (q *quick) valid(v jsontree.Value) bool {
	kind := v.Kind()
	if q.unsure || q.types.set&(1<<kind) == 0 || q.texts != nil && (kind != jsontree.String || !slices.Contains(q.texts, v.Text())) {
		return false
	}
	for _, other := range q.all {
		if !other.valid(v) {
			return false
		}
	}
	switch kind {
	case jsontree.Object:
		return q.object(v)
	case jsontree.Array:
		for element := range v.Elements() {
			if q.items != nil && !q.items.valid(element) {
				return false
			}
		}
	case jsontree.String:
		return q.text(v.Text())
	case jsontree.Number:
		return q.number(v.Text())
	case jsontree.Missing, jsontree.Null, jsontree.False, jsontree.True:
	}
	return true
}

func (q *quick) object(v jsontree.Value) bool {
	for _, name := range q.required {
		if v.Get(name).Kind() == jsontree.Missing {
			return false
		}
	}
	if q.properties == nil && !q.closed {
		return true
	}
	for name, member := range v.Members() {
		sub, named := q.properties[name]
		if named && !sub.valid(member) || !named && q.closed {
			return false
		}
	}
	return true
}

func (q *quick) text(text string) bool {
	if q.minLength > 0 || q.maxLength < math.MaxInt {
		if !isASCII(text) || len(text) < q.minLength || len(text) > q.maxLength {
			return false
		}
	}
	return (q.pattern == nil || q.pattern.MatchString(text)) && (q.format == nil || q.format.Validate(text) == nil)
}

func isASCII(text string) bool {
	for i := range len(text) {
		if text[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// number compares with what is nearest to a bound as a float64. Only at it are
// the two not sure to be in the same order as what they stand for.
func (q *quick) number(text string) bool {
	if q.types.whole && strings.ContainsAny(text, ".eE") {
		return false
	}
	if q.minimum == nil && q.maximum == nil {
		return true
	}
	const exact = 15 // digits that a float64 has for sure
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || len(text) > exact {
		return false
	}
	above := q.minimum == nil || n > q.minimum.at || n == q.minimum.at && q.minimum.exact
	below := q.maximum == nil || n < q.maximum.at || n == q.maximum.at && q.maximum.exact
	return above && below
}
