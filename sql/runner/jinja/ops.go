package jinja

import (
	"math"
	"math/bits"
	"strings"
	"unicode/utf8"
)

var (
	errTooLong  = errorf("a text or list becomes too long: more than %d characters or %d elements", maxText, maxItems)
	errOverflow = errorf("a number becomes too large: ints have 64 bits here")
)

// binary computes a op b for the operators of arithmetic.
func binary(op string, a, b any) (any, error) {
	switch op {
	case "+":
		if v, ok, err := add(a, b); ok || err != nil {
			return v, err
		}
	case "*":
		if v, ok, err := multiplySequence(a, b); ok || err != nil {
			return v, err
		}
		if v, ok, err := multiplySequence(b, a); ok || err != nil {
			return v, err
		}
	case "%":
		if format, ok := a.(string); ok {
			return percent(format, b)
		}
	case "-":
		if x, ok := a.(*Set); ok {
			if y, ok := b.(*Set); ok {
				return x.without(y), nil
			}
		}
	}
	if v, ok, err := timeBinary(op, a, b); ok || err != nil {
		return v, err
	}
	ai, af, aInt, aOK := number(a)
	bi, bf, bInt, bOK := number(b)
	if !aOK || !bOK {
		for _, v := range []any{a, b} {
			if u, ok := v.(*undefined); ok {
				return nil, u.err()
			}
		}
		return nil, errorf("%s cannot be used between a %s and a %s", op, typeName(a), typeName(b))
	}
	if aInt && bInt && op != "/" && (op != "**" || bi >= 0) {
		return intBinary(op, ai, bi)
	}
	if op == "/" && aInt && bInt && (abs(ai) >= 1<<53 || abs(bi) >= 1<<53) {
		return nil, errOverflow
	}
	return floatBinary(op, af, bf)
}

func abs(i int) int {
	if i < 0 {
		return -i
	}
	return i
}

func add(a, b any) (any, bool, error) {
	switch a := a.(type) {
	case string:
		if b, ok := b.(string); ok {
			if len(a)+len(b) > maxText {
				return nil, false, errTooLong
			}
			return a + b, true, nil
		}
	case *List:
		if b, ok := b.(*List); ok {
			if len(a.Items)+len(b.Items) > maxItems {
				return nil, false, errTooLong
			}
			return &List{append(append(make([]any, 0, len(a.Items)+len(b.Items)), a.Items...), b.Items...)}, true, nil
		}
	case Tuple:
		if b, ok := b.(Tuple); ok {
			if len(a)+len(b) > maxItems {
				return nil, false, errTooLong
			}
			return append(append(make(Tuple, 0, len(a)+len(b)), a...), b...), true, nil
		}
	}
	return nil, false, nil
}

func multiplySequence(a, times any) (any, bool, error) {
	n, ok := integer(times)
	if !ok {
		return nil, false, nil
	}
	n = max(n, 0)
	switch a := a.(type) {
	case string:
		if len(a) > 0 && n > maxText/len(a) {
			return nil, false, errTooLong
		}
		return strings.Repeat(a, n), true, nil
	case *List, Tuple:
		items := sequence(a)
		if len(items) > 0 && n > maxItems/len(items) {
			return nil, false, errTooLong
		}
		all := make([]any, 0, len(items)*n)
		if len(items) > 0 {
			for range n {
				all = append(all, items...)
			}
		}
		if _, ok := a.(Tuple); ok {
			return Tuple(all), true, nil
		}
		return &List{all}, true, nil
	}
	return nil, false, nil
}

func intBinary(op string, a, b int) (any, error) {
	switch op {
	case "+":
		if sum := a + b; (sum > a) == (b > 0) {
			return sum, nil
		}
		return nil, errOverflow
	case "-":
		if difference := a - b; (difference < a) == (b > 0) {
			return difference, nil
		}
		return nil, errOverflow
	case "*":
		return multiply(a, b)
	case "//", "%":
		if b == 0 {
			return nil, errorf("a division by zero")
		}
		if a == math.MinInt && b == -1 {
			return nil, errOverflow
		}
		quotient, rest := a/b, a%b
		if rest != 0 && (rest < 0) != (b < 0) {
			quotient, rest = quotient-1, rest+b
		}
		if op == "%" {
			return rest, nil
		}
		return quotient, nil
	}
	power := any(1)
	for base := any(a); b > 0; b >>= 1 {
		var err error
		if b&1 == 1 {
			if power, err = multiply(power.(int), base.(int)); err != nil {
				return nil, err
			}
		}
		if b > 1 {
			if base, err = multiply(base.(int), base.(int)); err != nil {
				return nil, err
			}
		}
	}
	return power, nil
}

func multiply(a, b int) (any, error) {
	if a == math.MinInt || b == math.MinInt {
		if a == 0 || b == 0 {
			return 0, nil
		}
		return nil, errOverflow
	}
	high, low := bits.Mul64(uint64(abs(a)), uint64(abs(b)))
	if high != 0 || low > math.MaxInt64 {
		return nil, errOverflow
	}
	return a * b, nil
}

func floatBinary(op string, a, b float64) (any, error) {
	switch op {
	case "+":
		return a + b, nil
	case "-":
		return a - b, nil
	case "*":
		return a * b, nil
	case "**":
		if a < 0 && b != math.Trunc(b) {
			return nil, errorf("a root of a negative number")
		}
		if a == 0 && b < 0 {
			return nil, errorf("a division by zero")
		}
		result := math.Pow(a, b)
		if math.IsInf(result, 0) && !math.IsInf(a, 0) && !math.IsInf(b, 0) {
			return nil, errOverflow
		}
		return result, nil
	}
	if b == 0 {
		return nil, errorf("a division by zero")
	}
	if op == "/" {
		return a / b, nil
	}
	rest := math.Mod(a, b)
	quotient := (a - rest) / b
	if rest != 0 {
		if (b < 0) != (rest < 0) {
			rest += b
			quotient--
		}
	} else {
		rest = math.Copysign(0, b)
	}
	if op == "%" {
		return rest, nil
	}
	if quotient == 0 {
		return math.Copysign(0, a/b), nil
	}
	floor := math.Floor(quotient)
	if quotient-floor > 0.5 {
		floor++
	}
	return floor, nil
}

func unary(op string, v any) (any, error) {
	i, f, isInt, ok := number(v)
	if !ok {
		if u, ok := v.(*undefined); ok {
			return nil, u.err()
		}
		return nil, errorf("%s cannot be used before a %s", op, typeName(v))
	}
	switch {
	case op == "+" && isInt:
		return i, nil
	case op == "+":
		return f, nil
	case isInt && i == math.MinInt:
		return nil, errOverflow
	case isInt:
		return -i, nil
	}
	return -f, nil
}

// related computes a op b for the operators that compare.
func related(op string, a, b any) (bool, error) {
	switch op {
	case "==", "!=":
		same, err := equal(a, b, new(walk))
		return same == (op == "=="), err
	case "in", "not in":
		in, err := contains(b, a)
		return in == (op == "in"), err
	}
	if u, ok := a.(*undefined); ok {
		return false, u.err()
	}
	if u, ok := b.(*undefined); ok {
		return false, u.err()
	}
	if f, ok := a.(float64); ok && math.IsNaN(f) {
		return false, errorf("nan has no order")
	}
	c, err := compare(a, b, new(walk))
	if err != nil {
		return false, err
	}
	switch op {
	case "<":
		return c < 0, nil
	case "<=":
		return c <= 0, nil
	case ">":
		return c > 0, nil
	}
	return c >= 0, nil
}

func contains(container, v any) (bool, error) {
	switch c := container.(type) {
	case string, markup:
		whole, _ := textOf(c)
		part, ok := textOf(v)
		if !ok {
			return false, errorf("only a text can be in a text, and this is a %s", typeName(v))
		}
		return strings.Contains(whole, part), nil
	case *Dict:
		return hasKey(c, v)
	case *Set:
		return hasKey(c.dict, v)
	case view:
		if c.kind == "keys" {
			return hasKey(c.dict, v)
		}
	case *namespace, *Object, *method, *macroValue, nil, bool, int, float64:
		return false, errorf("nothing can be in a %s", typeName(container))
	}
	next, err := each(container, false)
	if err != nil {
		return false, err
	}
	for {
		element, ok, err := next()
		if err != nil || !ok {
			return false, err
		}
		if same, err := equal(element, v, new(walk)); err != nil || same {
			return same, err
		}
	}
}

func hasKey(d *Dict, key any) (bool, error) {
	if _, ok := key.(*undefined); ok {
		return false, key.(*undefined).err()
	}
	if _, err := hash(key); err != nil {
		return false, err
	}
	_, ok := d.Get(key)
	return ok, nil
}

// each goes through the elements of a value. A list may change meanwhile, as in
// Python. Where the order matters, it must be known.
func each(v any, ordered bool) (func() (any, bool, error), error) {
	i := -1
	length := func() int { return 0 }
	element := func(int) any { return nil }
	switch v := v.(type) {
	case string, markup:
		text, _ := textOf(v)
		return func() (any, bool, error) {
			if text == "" {
				return nil, false, nil
			}
			r, size := utf8.DecodeRuneInString(text)
			text = text[size:]
			return string(r), true, nil
		}, nil
	case *List:
		length, element = func() int { return len(v.Items) }, func(i int) any { return v.Items[i] }
	case Tuple:
		length, element = func() int { return len(v) }, func(i int) any { return v[i] }
	case rangeValue:
		length, element = v.len, func(i int) any { return v.start + i*v.step }
	case *iterator:
		return func() (any, bool, error) {
			if len(v.items) == 0 {
				return nil, false, nil
			}
			first := v.items[0]
			v.items = v.items[1:]
			return first, true, nil
		}, nil
	case *Dict:
		return eachKey(v, ordered, func(i int) any { return v.keys[i] })
	case view:
		return eachKey(v.dict, ordered, v.at)
	case *Set:
		if ordered {
			if err := v.ordered(); err != nil {
				return nil, err
			}
		}
		return eachKey(v.dict, false, func(i int) any { return v.dict.keys[i] })
	case *mapped:
		return each(Tuple(v.values), ordered)
	case *Table:
		return each(v.rows(), ordered)
	case *undefined:
	default:
		return nil, errorf("a %s has no elements to go through", typeName(v))
	}
	return func() (any, bool, error) {
		if i++; i >= length() {
			return nil, false, nil
		}
		return element(i), true, nil
	}, nil
}

func eachKey(d *Dict, ordered bool, element func(int) any) (func() (any, bool, error), error) {
	if ordered {
		if err := d.ordered(); err != nil {
			return nil, err
		}
	}
	i, size := -1, d.Len()
	return func() (any, bool, error) {
		if d.Len() != size {
			return nil, false, errorf("a dict or set changed its size while it was gone through")
		}
		if i++; i >= size {
			return nil, false, nil
		}
		return element(i), true, nil
	}, nil
}

// elements returns all elements of a value, in order.
func elements(v any) ([]any, error) { return collect(v, true) }

func collect(v any, ordered bool) ([]any, error) {
	next, err := each(v, ordered)
	if err != nil {
		return nil, err
	}
	all := []any{}
	for {
		element, ok, err := next()
		if err != nil || !ok {
			return all, err
		}
		if all = append(all, element); len(all) > maxItems {
			return nil, errTooLong
		}
	}
}

// length is Python's len.
func length(v any) (int, error) {
	switch v := v.(type) {
	case string:
		return utf8.RuneCountInString(v), nil
	case markup:
		return utf8.RuneCountInString(string(v)), nil
	case *List:
		return len(v.Items), nil
	case Tuple:
		return len(v), nil
	case *Dict:
		return v.Len(), nil
	case *Set:
		return v.dict.Len(), nil
	case rangeValue:
		return v.len(), nil
	case view:
		return v.dict.Len(), nil
	case *undefined:
		return 0, nil
	case *mapped:
		return len(v.values), nil
	case *Table:
		return len(v.Rows), nil
	}
	return 0, errorf("a %s has no length: make a list of it", typeName(v))
}

// item is v[key] by place or key alone.
func item(v, key any) (any, bool, error) {
	if d, ok := v.(*Dict); ok {
		value, ok := d.Get(key)
		return value, ok, nil
	}
	if t, ok := v.(*Table); ok {
		v = t.rows()
	}
	if m, ok := v.(*mapped); ok {
		value, ok := m.item(key)
		return value, ok, nil
	}
	i, ok := integer(key)
	if !ok {
		return nil, false, nil
	}
	at := func(n int) (int, bool) {
		if i < 0 {
			i += n
		}
		return i, i >= 0 && i < n
	}
	switch v := v.(type) {
	case string:
		runes := []rune(v)
		if i, ok := at(len(runes)); ok {
			return string(runes[i]), true, nil
		}
	case markup:
		return nil, false, errMarkup
	case *List:
		if i, ok := at(len(v.Items)); ok {
			return v.Items[i], true, nil
		}
	case Tuple:
		if i, ok := at(len(v)); ok {
			return v[i], true, nil
		}
	case rangeValue:
		if i, ok := at(v.len()); ok {
			return v.start + i*v.step, true, nil
		}
	}
	return nil, false, nil
}

var errMarkup = errorf("the result of tojson, escape or safe can be printed and joined with ~, and no more: Jinja would escape what is added to it")

// slice is v[start:stop:step], each of which may be nil.
func slice(v any, bounds [3]any) (any, error) {
	n, err := length(v)
	if err != nil {
		return nil, err
	}
	places, err := slicePlaces(n, bounds)
	if err != nil {
		return nil, err
	}
	switch v := v.(type) {
	case string:
		runes := []rune(v)
		picked := make([]rune, len(places))
		for i, place := range places {
			picked[i] = runes[place]
		}
		return string(picked), nil
	case *List:
		return &List{pick(v.Items, places)}, nil
	case Tuple:
		return Tuple(pick(v, places)), nil
	case rangeValue:
		return v.slice(bounds), nil
	}
	return nil, errorf("a %s cannot be sliced: make a list of it", typeName(v))
}

// slice returns the range of some of its places, whose bounds print as Python's do.
func (v rangeValue) slice(bounds [3]any) rangeValue {
	step := 1
	if s, ok := integer(bounds[2]); ok {
		step = s
	}
	start, stop := sliceBounds(v.len(), bounds, step)
	return rangeValue{v.start + start*v.step, v.start + stop*v.step, v.step * step}
}

func pick(items []any, places []int) []any {
	picked := make([]any, len(places))
	for i, place := range places {
		picked[i] = items[place]
	}
	return picked
}

func slicePlaces(n int, bounds [3]any) ([]int, error) {
	step := 1
	if bounds[2] != nil {
		s, ok := integer(bounds[2])
		if !ok || s == 0 {
			return nil, errorf("the step of a slice must be an int, and not zero")
		}
		step = s
	}
	for _, bound := range bounds[:2] {
		if _, ok := integer(bound); !ok && bound != nil {
			return nil, errorf("the bounds of a slice must be ints")
		}
	}
	start, stop := sliceBounds(n, bounds, step)
	var places []int
	if step > 0 {
		for i := start; i < stop; i += step {
			places = append(places, i)
			if step > n {
				break
			}
		}
		return places, nil
	}
	for i := start; i > stop; i += step {
		places = append(places, i)
		if step < -n {
			break
		}
	}
	return places, nil
}

// sliceBounds returns where a slice begins and ends among n elements.
func sliceBounds(n int, bounds [3]any, step int) (start, stop int) {
	low, high := 0, n
	if step < 0 {
		low, high = -1, n-1
	}
	bound := func(v any, without int) int {
		if v == nil {
			return without
		}
		i, _ := integer(v)
		if i < 0 {
			i += n
		}
		return min(max(i, low), high)
	}
	if step < 0 {
		return bound(bounds[0], high), bound(bounds[1], low)
	}
	return bound(bounds[0], low), bound(bounds[1], high)
}

func (s *Set) without(other *Set) *Set {
	result := newSet()
	for _, key := range s.dict.keys {
		if _, ok := other.dict.Get(key); !ok {
			_ = result.dict.Set(key, nil)
		}
	}
	return result
}
