package jinja

import (
	"fmt"
	"iter"
	"math"
	"strconv"
	"strings"
	"unicode"
)

// The values of templates are None (nil), bool, int, float64, string, *List,
// Tuple, *Dict, *Set, *Object and what only the engine makes: undefined values,
// ranges, views of dicts, iterators, namespaces, methods and macros. They mean
// what they mean in Python. Ints are of 64 bits: more is an error, not another
// number.

// List is a list of Python's: shared by all who have it.
type List struct{ Items []any }

// Tuple is a list that does not change.
type Tuple []any

// Dict is a dict of Python's: in the order of its writing.
type Dict struct {
	keys    []any
	values  []any
	places  map[any]int
	unknown bool // its order is not known: it was a map of Go
}

// NewDict returns an empty dict.
func NewDict() *Dict { return &Dict{places: map[any]int{}} }

// Len returns the number of keys.
func (d *Dict) Len() int { return len(d.keys) }

// Get returns the value of a key.
func (d *Dict) Get(key any) (any, bool) {
	h, err := hash(key)
	if err != nil {
		return nil, false
	}
	place, ok := d.places[h]
	if !ok {
		return nil, false
	}
	return d.values[place], true
}

// All goes through keys and values, in order.
func (d *Dict) All() iter.Seq2[any, any] {
	return func(yield func(key, value any) bool) {
		for i, key := range d.keys {
			if !yield(key, d.values[i]) {
				return
			}
		}
	}
}

// Set sets the value of a key, which must be hashable.
func (d *Dict) Set(key, value any) error {
	h, err := hash(key)
	if err != nil {
		return err
	}
	if place, ok := d.places[h]; ok {
		d.values[place] = value
		return nil
	}
	d.places[h] = len(d.keys)
	d.keys, d.values = append(d.keys, key), append(d.values, value)
	return nil
}

func (d *Dict) remove(key any) (any, bool) {
	h, err := hash(key)
	if err != nil {
		return nil, false
	}
	place, ok := d.places[h]
	if !ok {
		return nil, false
	}
	value := d.values[place]
	d.keys = append(d.keys[:place], d.keys[place+1:]...)
	d.values = append(d.values[:place], d.values[place+1:]...)
	delete(d.places, h)
	for other, at := range d.places {
		if at > place {
			d.places[other] = at - 1
		}
	}
	return value, true
}

func (d *Dict) clear() { d.keys, d.values, d.places = nil, nil, map[any]int{} }

func (d *Dict) copy() *Dict {
	c := NewDict()
	c.unknown = d.unknown
	for i, key := range d.keys {
		_ = c.Set(key, d.values[i])
	}
	return c
}

func (d *Dict) update(from *Dict) {
	d.unknown = d.unknown || from.unknown && from.Len() > 1
	for i, key := range from.keys {
		_ = d.Set(key, from.values[i])
	}
}

// ordered returns an error if the order of the keys matters and is not known.
func (d *Dict) ordered() error {
	if d.unknown && d.Len() > 1 {
		return errorf("the order of this dict's keys is not known here: loop over a list of the keys")
	}
	return nil
}

// Set is a set of Python's, whose order is nobody's business.
type Set struct{ dict *Dict }

func newSet() *Set { return &Set{NewDict()} }

func (s *Set) ordered() error {
	if s.dict.Len() > 1 {
		return errorf("a set has no order, and would be written differently each time: sort it, as in s | sort")
	}
	return nil
}

// Func is a function for templates. named has the arguments with a name, in
// the order of the call.
type Func func(args []any, named *Dict) (any, error)

// Object is something of the host's: it may have attributes, be called, and
// be printed.
type Object struct {
	Attributes map[string]any
	Call       Func
	// Text is what it prints as; an object without one cannot be printed.
	Text string
	// Missing, if set, refuses attributes that are not there, with a remedy.
	Missing func(name string) error
}

// MacroName, as the result of a function, stands for the macro of that name.
type MacroName string

// markup is a text that Jinja would escape others for, were they added to it.
type markup string

// undefined is a name, attribute or element that is not there.
type undefined struct {
	what  string
	empty bool // prints as nothing: a condition without else is meant so
}

func (u *undefined) err() error { return errorf("%s", u.what) }

type rangeValue struct{ start, stop, step int }

func (v rangeValue) len() int {
	switch {
	case v.step > 0 && v.start < v.stop:
		return (v.stop-v.start-1)/v.step + 1
	case v.step < 0 && v.start > v.stop:
		return (v.start-v.stop-1)/(-v.step) + 1
	}
	return 0
}

// view is what a dict's keys, values and items return.
type view struct {
	kind string
	dict *Dict
}

func (v view) at(i int) any {
	switch v.kind {
	case "keys":
		return v.dict.keys[i]
	case "values":
		return v.dict.values[i]
	}
	return Tuple{v.dict.keys[i], v.dict.values[i]}
}

// iterator is what generators of Python are: it can be gone through once.
type iterator struct {
	kind  string
	items []any
}

type namespace struct{ dict *Dict }

// method is a method of a value.
type method struct {
	name string
	call Func
}

// typeName is what Python calls the type.
func typeName(v any) string {
	switch v := v.(type) {
	case nil:
		return "NoneType"
	case bool:
		return "bool"
	case int:
		return "int"
	case float64:
		return "float"
	case string:
		return "str"
	case markup:
		return "Markup"
	case *List:
		return "list"
	case Tuple:
		return "tuple"
	case *Dict:
		return "dict"
	case *Set:
		return "set"
	case *undefined:
		return "undefined value"
	case rangeValue:
		return "range"
	case view:
		return "dict_" + v.kind
	case *iterator:
		return v.kind
	case *namespace:
		return "namespace"
	case *method:
		return "method"
	case *macroValue:
		return "macro"
	case *Object:
		return "object"
	case *Table, *mapped:
		return "table"
	case moment:
		return "date"
	case span:
		return "timedelta"
	case *loopValue:
		return "loop"
	}
	return fmt.Sprintf("%T", v)
}

// number reads an int or float; a bool is an int, too.
func number(v any) (i int, f float64, isInt, ok bool) {
	switch v := v.(type) {
	case bool:
		if v {
			return 1, 1, true, true
		}
		return 0, 0, true, true
	case int:
		return v, float64(v), true, true
	case float64:
		return 0, v, false, true
	}
	return 0, 0, false, false
}

func integer(v any) (int, bool) {
	i, _, isInt, ok := number(v)
	return i, ok && isInt
}

// hash returns what stands for a key in a map of Go: equal for equal values.
func hash(v any) (any, error) { return hashed(v, new(walk)) }

func hashed(v any, w *walk) (any, error) {
	if err := w.enter(); err != nil || w.visits > maxHashed {
		return nil, errNesting
	}
	defer w.leave()
	switch v := v.(type) {
	case nil, string, int, *namespace, *macroValue, *Object, *method:
		return v, nil
	case bool:
		i, _ := integer(v)
		return i, nil
	case markup:
		return string(v), nil
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return int(v), nil
		}
		if math.IsNaN(v) {
			return nil, errorf("nan cannot be a key here")
		}
		return v, nil
	case Tuple:
		var b strings.Builder
		for _, element := range v {
			h, err := hashed(element, w)
			if err != nil {
				return nil, err
			}
			fmt.Fprintf(&b, "%T:%d:%v,", h, len(fmt.Sprint(h)), h)
		}
		return tupleKey(b.String()), nil
	}
	return nil, errorf("a %s cannot be a key or in a set", typeName(v))
}

type tupleKey string

// maxHashed is how many elements a key may be made of.
const maxHashed = 1000

func truth(v any) bool {
	switch v := v.(type) {
	case nil, *undefined:
		return false
	case bool:
		return v
	case int:
		return v != 0
	case float64:
		return v != 0
	case string:
		return v != ""
	case markup:
		return v != ""
	case *List:
		return len(v.Items) > 0
	case Tuple:
		return len(v) > 0
	case *Dict:
		return v.Len() > 0
	case *Set:
		return v.dict.Len() > 0
	case rangeValue:
		return v.len() > 0
	case view:
		return v.dict.Len() > 0
	case *mapped:
		return len(v.values) > 0
	case *Table:
		return len(v.Rows) > 0
	case span:
		return v.length != 0
	}
	return true
}

// A list may hold itself, or the same one often: these bound how deep values are
// gone through when they are printed or compared, and how many are looked at.
const (
	maxNesting = 100
	maxVisits  = 200_000
)

// walk is the way through a value, and all that it holds.
type walk struct{ depth, visits int }

func (w *walk) enter() error {
	w.depth++
	if w.visits++; w.depth > maxNesting || w.visits > maxVisits {
		return errNesting
	}
	return nil
}

func (w *walk) leave() { w.depth-- }

var errNesting = errorf("a value holds itself, or too many others")

// str is what a value prints as.
func str(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case markup:
		return string(v), nil
	case *undefined:
		if v.empty {
			return "", nil
		}
		return "", v.err()
	case moment:
		return v.String(), nil
	case *Object:
		if v.Text == "" {
			return "", errorf("this cannot be printed: name what of it you mean")
		}
		return v.Text, nil
	}
	return repr(v, new(walk))
}

// repr is what a value prints as inside of another.
func repr(v any, w *walk) (string, error) {
	if err := w.enter(); err != nil {
		return "", err
	}
	defer w.leave()
	switch v := v.(type) {
	case nil:
		return "None", nil
	case bool:
		if v {
			return "True", nil
		}
		return "False", nil
	case int:
		return strconv.Itoa(v), nil
	case float64:
		return floatText(v), nil
	case string:
		return quoted(v), nil
	case *List:
		return reprAll("[", v.Items, "]", w)
	case Tuple:
		if len(v) == 1 {
			return reprAll("(", v, ",)", w)
		}
		return reprAll("(", v, ")", w)
	case *Dict:
		return reprDict(v, w)
	case *Set:
		if err := v.ordered(); err != nil {
			return "", err
		}
		if v.dict.Len() == 0 {
			return "set()", nil
		}
		return reprAll("{", v.dict.keys, "}", w)
	case rangeValue:
		if v.step == 1 {
			return fmt.Sprintf("range(%d, %d)", v.start, v.stop), nil
		}
		return fmt.Sprintf("range(%d, %d, %d)", v.start, v.stop, v.step), nil
	case view:
		if err := v.dict.ordered(); err != nil {
			return "", err
		}
		items := make([]any, v.dict.Len())
		for i := range items {
			items[i] = v.at(i)
		}
		return reprAll("dict_"+v.kind+"([", items, "])", w)
	case *namespace:
		inner, err := reprDict(v.dict, w)
		return "<Namespace " + inner + ">", err
	case *undefined:
		return "", v.err()
	}
	return "", errorf("a %s cannot be printed: make a list of it, or call it", typeName(v))
}

func reprAll(open string, items []any, closer string, w *walk) (string, error) {
	var b strings.Builder
	b.WriteString(open)
	for i, item := range items {
		if i > 0 {
			b.WriteString(", ")
		}
		text, err := repr(item, w)
		if err != nil {
			return "", err
		}
		if b.Len()+len(text) > maxText {
			return "", errTooLong
		}
		b.WriteString(text)
	}
	b.WriteString(closer)
	return b.String(), nil
}

func reprDict(d *Dict, w *walk) (string, error) {
	if err := d.ordered(); err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteByte('{')
	for i, key := range d.keys {
		if i > 0 {
			b.WriteString(", ")
		}
		k, err := repr(key, w)
		if err != nil {
			return "", err
		}
		v, err := repr(d.values[i], w)
		if err != nil {
			return "", err
		}
		if b.Len()+len(k)+len(v) > maxText {
			return "", errTooLong
		}
		b.WriteString(k + ": " + v)
	}
	b.WriteByte('}')
	return b.String(), nil
}

// floatText writes a float as Python does: as short as it can be read back.
func floatText(f float64) string {
	switch {
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	case math.IsNaN(f):
		return "nan"
	}
	exponent := 0
	if f != 0 {
		e := strconv.FormatFloat(f, 'e', -1, 64)
		exponent, _ = strconv.Atoi(e[strings.IndexByte(e, 'e')+1:])
	}
	if exponent < -4 || exponent >= 16 {
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	text := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	return text
}

// quoted writes a string as Python's repr does.
func quoted(s string) string {
	quote := byte('\'')
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		quote = '"'
	}
	var b strings.Builder
	b.WriteByte(quote)
	for _, r := range s {
		switch {
		case r == rune(quote) || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == ' ' || unicode.IsPrint(r):
			b.WriteRune(r)
		case r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	b.WriteByte(quote)
	return b.String()
}

func equal(a, b any, w *walk) (bool, error) {
	if err := w.enter(); err != nil {
		return false, err
	}
	defer w.leave()
	if ai, af, aInt, ok := number(a); ok {
		bi, bf, bInt, ok := number(b)
		switch {
		case !ok:
			return false, nil
		case aInt && bInt:
			return ai == bi, nil
		case aInt != bInt && (math.Abs(af) >= 1<<53 || math.Abs(bf) >= 1<<53):
			return false, errorf("numbers this large cannot be compared exactly here")
		}
		return af == bf, nil
	}
	switch a := a.(type) {
	case string:
		b, ok := textOf(b)
		return ok && a == b, nil
	case markup:
		b, ok := textOf(b)
		return ok && string(a) == b, nil
	case *List:
		b, ok := b.(*List)
		if !ok || a == b {
			return ok, nil
		}
		return equalAll(a.Items, b.Items, w)
	case Tuple:
		b, ok := b.(Tuple)
		if !ok {
			return false, nil
		}
		return equalAll(a, b, w)
	}
	return equalOther(a, b, w)
}

func textOf(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case markup:
		return string(v), true
	}
	return "", false
}

func equalAll(a, b []any, w *walk) (bool, error) {
	if len(a) != len(b) {
		return false, nil
	}
	for i := range a {
		if same, err := equal(a[i], b[i], w); err != nil || !same {
			return false, err
		}
	}
	return true, nil
}

func equalOther(a, b any, w *walk) (bool, error) {
	switch a := a.(type) {
	case nil:
		return b == nil, nil
	case *undefined:
		_, ok := b.(*undefined)
		return ok, nil
	case *Dict:
		b, ok := b.(*Dict)
		if !ok || a.Len() != b.Len() {
			return false, nil
		}
		for i, key := range a.keys {
			other, ok := b.Get(key)
			if !ok {
				return false, nil
			}
			if same, err := equal(a.values[i], other, w); err != nil || !same {
				return false, err
			}
		}
		return true, nil
	case *Set:
		b, ok := b.(*Set)
		if !ok || a.dict.Len() != b.dict.Len() {
			return false, nil
		}
		for _, key := range a.dict.keys {
			if _, ok := b.dict.Get(key); !ok {
				return false, nil
			}
		}
		return true, nil
	case rangeValue:
		if b, ok := b.(rangeValue); ok {
			return a.len() == b.len() && (a.len() == 0 || a.start == b.start && (a.len() == 1 || a.step == b.step)), nil
		}
		return false, nil
	case view:
		if _, ok := b.(view); ok {
			return false, errorf("the keys, values or items of two dicts cannot be compared here: make lists of them")
		}
		return false, nil
	case *Object:
		// dbt's relations are compared by what they name.
		if b, ok := b.(*Object); ok {
			return a == b || a.Text != "" && a.Text == b.Text, nil
		}
		return false, nil
	case *namespace, *iterator, *macroValue, *method:
		return a == b, nil
	case moment, span:
		c, ok := timeOrder(a, b)
		return ok && c == 0, nil
	}
	return false, errorf("a %s cannot be compared", typeName(a))
}

// compare orders two values: negative, zero or positive.
func compare(a, b any, w *walk) (int, error) {
	if err := w.enter(); err != nil {
		return 0, err
	}
	defer w.leave()
	ai, af, aInt, aOK := number(a)
	bi, bf, bInt, bOK := number(b)
	switch {
	case aOK && bOK && aInt && bInt:
		return order(ai, bi), nil
	case aOK && bOK:
		if math.IsNaN(af) || math.IsNaN(bf) {
			return 0, errorf("nan has no order")
		}
		if aInt != bInt && (math.Abs(af) >= 1<<53 || math.Abs(bf) >= 1<<53) {
			return 0, errorf("numbers this large cannot be compared exactly here")
		}
		return order(af, bf), nil
	}
	if at, ok := textOf(a); ok {
		if bt, ok := textOf(b); ok {
			return strings.Compare(at, bt), nil
		}
	}
	if c, ok := timeOrder(a, b); ok {
		return c, nil
	}
	as, bs := sequence(a), sequence(b)
	if as == nil || bs == nil || fmt.Sprintf("%T", a) != fmt.Sprintf("%T", b) {
		return 0, errorf("a %s and a %s have no order", typeName(a), typeName(b))
	}
	for i := range min(len(as), len(bs)) {
		same, err := equal(as[i], bs[i], w)
		if err != nil {
			return 0, err
		}
		if !same {
			return compare(as[i], bs[i], w)
		}
	}
	return order(len(as), len(bs)), nil
}

func sequence(v any) []any {
	switch v := v.(type) {
	case *List:
		if v.Items == nil {
			return []any{}
		}
		return v.Items
	case Tuple:
		if v == nil {
			return []any{}
		}
		return v
	}
	return nil
}

func order[T int | float64](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
