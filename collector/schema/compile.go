package schema

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Problem is something wrong with a schema: where, as the keys that lead to it
// (an element of a list by its index), and what.
type Problem struct {
	Path    []string
	Message string
}

// Bounds of a schema.
const (
	maxSize     = 2000   // subschemas, each counted as often as it is referred to
	maxInSchema = 20_000 // values of any kind
	maxNesting  = 32
	maxPattern  = 1000 // instructions of a compiled pattern
)

// Compile compiles the schema of an object, as a decoder of JSON or YAML gives
// it. It returns all that is wrong with it, and no schema if anything is.
func Compile(document map[string]any) (*Schema, []Problem) {
	s := &Schema{words: make(map[string]bool), members: make(map[string]bool)}
	w := walker{schema: s, sizes: make(map[string]int)}
	copied, _ := w.copy(document, nil).(map[string]any)
	w.definitions, _ = copied["$defs"].(map[string]any)
	if size := w.walk(copied, nil, true); size > maxSize {
		w.report(nil, "the schema is too large: %d subschemas are allowed, each counted as often as it is referred to", maxSize)
	}
	compiled, err := compiled(copied)
	for _, problem := range problemsOf(err) {
		told := func(p Problem) bool { return slices.Equal(p.Path, problem.Path) }
		if len(w.problems) == 0 || problem.Path != nil && !slices.ContainsFunc(w.problems, told) {
			w.problems = append(w.problems, problem)
		}
	}
	if len(w.problems) > 0 {
		return nil, w.problems
	}
	s.compiled, s.quick = compiled, newQuick(compiled, make(map[*jsonschema.Schema]*quick))
	return s, nil
}

func compiled(document map[string]any) (*jsonschema.Schema, error) {
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	compiler.AssertFormat()
	compiler.UseLoader(nowhere{})
	const name = "plan:schema"
	if err := compiler.AddResource(name, document); err != nil {
		return nil, err
	}
	return compiler.Compile(name)
}

// nowhere loads nothing: a schema is whole by itself.
type nowhere struct{}

func (nowhere) Load(string) (any, error) {
	return nil, errors.New("a schema may refer to nothing outside of itself")
}

// problemsOf reads the library's error about a schema.
func problemsOf(err error) []Problem {
	if err == nil {
		return nil
	}
	var wrong *jsonschema.SchemaValidationError
	var broken *jsonschema.ValidationError
	if !errors.As(err, &wrong) || !errors.As(wrong.Err, &broken) {
		return []Problem{{nil, "not a JSON Schema: " + err.Error()}}
	}
	var problems []Problem
	var leaves func(*jsonschema.ValidationError)
	leaves = func(e *jsonschema.ValidationError) {
		for _, cause := range e.Causes {
			leaves(cause)
		}
		if len(e.Causes) == 0 && len(problems) < maxViolations {
			_, said, _ := strings.Cut(e.Error(), ": ")
			if _, last, ok := strings.Cut(e.Error(), "\n- at "); ok {
				_, said, _ = strings.Cut(last, ": ")
			}
			problems = append(problems, Problem{e.InstanceLocation, "not a JSON Schema: " + said})
		}
	}
	leaves(broken)
	return problems
}

// walker looks at each subschema before the library does, for what the library
// allows and a plan does not.
type walker struct {
	schema      *Schema
	problems    []Problem
	definitions map[string]any
	sizes       map[string]int // of definitions; 0 while being found
	copied      int
}

func (w *walker) report(at []string, format string, args ...any) {
	if len(w.problems) < 100 {
		w.problems = append(w.problems, Problem{slices.Clone(at), fmt.Sprintf(format, args...)})
	}
}

// copy is a value as the library takes it.
func (w *walker) copy(v any, at []string) any {
	if w.copied++; len(at) > 2*maxNesting || w.copied > maxInSchema {
		w.report(at, "the schema is too large or nested too deeply")
		return nil
	}
	switch v := v.(type) {
	case nil, bool, string:
		return v
	case int:
		return json.Number(strconv.Itoa(v))
	case int64:
		return json.Number(strconv.FormatInt(v, 10))
	case uint64:
		return json.Number(strconv.FormatUint(v, 10))
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			w.report(at, "not a number of JSON")
			return nil
		}
		return json.Number(strconv.FormatFloat(v, 'g', -1, 64))
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = w.copy(v[i], join(at, strconv.Itoa(i)))
		}
		return list
	case map[string]any:
		object := make(map[string]any, len(v))
		for key, value := range v {
			object[key] = w.copy(value, join(at, key))
		}
		return object
	default:
		w.report(at, "not a value of JSON: put a key, date or time in quotes")
		return nil
	}
}

func join(at []string, keys ...string) []string { return slices.Concat(at, keys) }

// holds says what the value of a keyword is made of.
type holds int

const (
	nothing     holds = iota // no schema
	subschema                // a schema
	subschemas               // a list of them
	byName                   // schemas of members, by name
	byPattern                // schemas of members, by a pattern of their names
	definitions              // schemas to refer to
	reference
	pattern
	format
)

// keyword is one that plans may use. here tells that its schemas are about the
// same value, not about a part of it.
type keyword struct {
	holds holds
	here  bool
}

var keywords = map[string]keyword{
	"$defs": {holds: definitions}, "$ref": {holds: reference, here: true},
	"allOf": {subschemas, true}, "anyOf": {subschemas, true}, "oneOf": {subschemas, true}, "not": {holds: subschema},
	"if": {subschema, true}, "then": {subschema, true}, "else": {subschema, true},
	"properties": {holds: byName}, "patternProperties": {holds: byPattern}, "additionalProperties": {holds: subschema},
	"propertyNames": {holds: subschema}, "dependentSchemas": {holds: byName, here: true},
	"items": {holds: subschema}, "prefixItems": {holds: subschemas}, "contains": {holds: subschema},
	"pattern": {holds: pattern}, "format": {holds: format},
	"type": {}, "enum": {}, "const": {}, "required": {}, "dependentRequired": {}, "minProperties": {}, "maxProperties": {},
	"minItems": {}, "maxItems": {}, "uniqueItems": {}, "minContains": {}, "maxContains": {}, "minLength": {}, "maxLength": {},
	"minimum": {}, "maximum": {}, "exclusiveMinimum": {}, "exclusiveMaximum": {}, "multipleOf": {},
	"title": {}, "description": {}, "examples": {}, "default": {}, "deprecated": {}, "$comment": {},
}

// formats are those that a schema may ask for.
var formats = []string{"date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uri", "uuid"}

// HasFormat tells whether a text has one of the formats that a schema may ask for.
func HasFormat(format, text string) bool {
	f := formatsOf()[format]
	return f != nil && f.Validate(text) == nil
}

// formatsOf takes the formats out of schemas: the library gives them by no other
// way.
var formatsOf = sync.OnceValue(func() map[string]*jsonschema.Format {
	all := make(map[string]*jsonschema.Format)
	for _, name := range formats {
		if s, err := compiled(map[string]any{"format": name}); err == nil {
			all[name] = s.Format
		}
	}
	return all
})

// walk looks at a schema and returns its size. here tells whether it is about
// the object itself.
func (w *walker) walk(v any, at []string, here bool) (size int) {
	object, ok := v.(map[string]any)
	if !ok {
		return 1 // a boolean, or what the library refuses
	}
	if len(at) > maxNesting {
		w.report(at, "nested too deeply")
		return 1
	}
	size = 1
	for _, name := range slices.Sorted(maps.Keys(object)) {
		k, ok := keywords[name]
		if !ok {
			w.report(join(at, name), "unknown keyword %q: correct or remove it; tracking plans have those of JSON Schema 2020-12, but for references to other documents and recursion", name)
			continue
		}
		size = min(size+w.keyword(name, k, object[name], join(at, name), here), maxSize+1)
	}
	w.required(object, at, here)
	return size
}

func (w *walker) keyword(name string, k keyword, v any, at []string, here bool) (size int) {
	object := here // whether members are those of the object itself
	here = here && k.here
	switch k.holds {
	case subschema:
		return w.walk(v, at, here)
	case subschemas:
		list, _ := v.([]any)
		for i, each := range list {
			size = min(size+w.walk(each, join(at, strconv.Itoa(i)), here), maxSize+1)
		}
	case byName, byPattern:
		members, _ := v.(map[string]any)
		for _, member := range slices.Sorted(maps.Keys(members)) {
			w.member(name, member, join(at, member), object)
			size = min(size+w.walk(members[member], join(at, member), here), maxSize+1)
		}
	case definitions:
		if len(at) > 1 {
			w.report(at, "$defs are known at the top of a schema only")
		}
		for _, definition := range slices.Sorted(maps.Keys(w.definitions)) {
			w.definition(definition, at, false)
		}
	case reference:
		return w.reference(v, at, here)
	case pattern:
		text, _ := v.(string)
		w.pattern(text, at)
	case format:
		if text, ok := v.(string); ok && !slices.Contains(formats, text) {
			w.report(at, "unknown format %q: want one of %s", text, strings.Join(formats, ", "))
		}
	case nothing:
	}
	return size
}

// member notes a name, or a pattern of names.
func (w *walker) member(keyword, name string, at []string, object bool) {
	switch keyword {
	case "properties":
		w.name(name, object)
	case "patternProperties":
		if p := w.pattern(name, at); p != nil && object {
			w.schema.patterns = append(w.schema.patterns, p)
		}
	}
}

func (w *walker) name(name string, object bool) {
	w.schema.words[name] = true
	if object {
		w.schema.members[name] = true
	}
}

func (w *walker) pattern(text string, at []string) *regexp.Regexp {
	compiled, err := regexp.Compile(text)
	if err != nil {
		w.report(at, "not a regular expression of RE2, which has no look-around and no back-references: %v", err)
		return nil
	}
	if parsed, err := syntax.Parse(text, syntax.Perl); err == nil {
		if program, err := syntax.Compile(parsed.Simplify()); err == nil && len(program.Inst) > maxPattern {
			w.report(at, "the pattern is too large: %d steps, and %d are allowed; lower its {counts}", len(program.Inst), maxPattern)
			return nil
		}
	}
	return compiled
}

func (w *walker) reference(v any, at []string, here bool) (size int) {
	text, _ := v.(string)
	name, ok := strings.CutPrefix(text, "#/$defs/")
	if !ok || name == "" || strings.ContainsAny(name, "/~%") {
		w.report(at, "a reference must be to #/$defs/NAME of the same schema: nothing else is fetched or read")
		return 1
	}
	if _, ok := w.definitions[name]; !ok {
		w.report(at, "there is no %q in $defs", name)
		return 1
	}
	return w.definition(name, at, here)
}

// definition walks what is referred to. Each definition is looked at once for
// each of its two meanings.
func (w *walker) definition(name string, at []string, here bool) (size int) {
	key := name
	if here {
		key += " here"
	}
	size, known := w.sizes[key]
	switch {
	case known && size == 0:
		w.report(at, "%q refers to itself: a schema may not recurse, so that each event is validated in bounded time; write the levels out", name)
		return 1
	case known:
		return size
	}
	w.sizes[key] = 0
	size = w.walk(w.definitions[name], []string{"$defs", name}, here)
	w.sizes[key] = size
	return size
}

// required notes the names that are required, and tells of those that cannot be
// there.
func (w *walker) required(object map[string]any, at []string, here bool) {
	properties, _ := object["properties"].(map[string]any)
	_, byPattern := object["patternProperties"]
	for i, name := range names(object["required"]) {
		w.name(name, here)
		sub, named := properties[name]
		if sub == false || !named && !byPattern && object["additionalProperties"] == false {
			w.report(join(at, "required", strconv.Itoa(i)), "%q is required and not allowed: no event can be valid", name)
		}
	}
	dependent, _ := object["dependentRequired"].(map[string]any)
	for _, list := range dependent {
		for _, name := range names(list) {
			w.name(name, here)
		}
	}
}

// names are the texts of a list.
func names(v any) []string {
	list, _ := v.([]any)
	texts := make([]string, len(list))
	for i := range list {
		texts[i], _ = list[i].(string)
	}
	return texts
}
