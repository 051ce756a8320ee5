package jinja

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

type filterFunc struct {
	parameters []string
	call       func(r *run, v any, args []any) (any, error)
}

// refusedFilters are Jinja's, with the reason why they are refused.
var refusedFilters = map[string]string{
	"random": "its result cannot be reproduced", "pprint": "it is for debugging: use tojson", "slice": "use batch, or a slice such as l[0:3]",
	"urlencode": "it is for web pages", "urlize": "it is for web pages", "striptags": "it is for web pages", "xmlattr": "it is for web pages",
	"wordwrap": "it is for reading: write the lines",
}

func knownFilter(name string) error {
	if why, ok := refusedFilters[name]; ok {
		return errorf("the filter %s is not supported: %s", name, why)
	}
	if _, ok := filters[name]; ok {
		return nil
	}
	if slices.Contains(variadicFilters, name) {
		return nil
	}
	return errorf("there is no filter %q", name)
}

var variadicFilters = []string{"map", "select", "reject", "selectattr", "rejectattr", "format"}

// filter applies a filter.
func (r *run) filter(name string, v any, args []any, named *Dict) (any, error) {
	switch name {
	case "map":
		return r.mapped(v, args, named)
	case "select", "reject", "selectattr", "rejectattr":
		if named.Len() > 0 {
			return nil, errorf("the filter %s takes no named arguments here", name)
		}
		return r.selected(name, v, args)
	case "format":
		return formatFilter(v, args, named)
	}
	f, ok := filters[name]
	if !ok {
		return nil, knownFilter(name)
	}
	a, err := bindArgs("the filter "+name, f.parameters, args, named)
	if err != nil {
		return nil, err
	}
	if err := r.step(weight(v)); err != nil {
		return nil, err
	}
	result, err := f.call(r, v, a)
	if err != nil {
		return nil, err
	}
	return result, r.step(weight(result) + 1)
}

func formatFilter(v any, args []any, named *Dict) (any, error) {
	if len(args) > 0 && named.Len() > 0 {
		return nil, errorf("format takes values with names or without, not both")
	}
	text, err := soft(v)
	if err != nil {
		return nil, err
	}
	if named.Len() > 0 {
		return percent(text, named)
	}
	return percent(text, Tuple(args))
}

// soft is the text of a value, which may be one already.
func soft(v any) (string, error) {
	if _, ok := v.(markup); ok {
		return "", errMarkup
	}
	return str(v)
}

// onText makes a filter of what works on a text.
func onText(f func(s string) any) filterFunc {
	return filterFunc{nil, func(_ *run, v any, _ []any) (any, error) {
		s, err := soft(v)
		return f(s), err
	}}
}

var filters map[string]filterFunc

func init() { //nolint:gochecknoinits // filters call filters by their names
	filters = map[string]filterFunc{
		"upper":      onText(func(s string) any { return upper(s) }),
		"lower":      onText(func(s string) any { return strings.ToLower(s) }),
		"capitalize": onText(func(s string) any { return capitalize(s) }),
		"title":      onText(func(s string) any { return titleFilter(s) }),
		"wordcount":  onText(func(s string) any { return wordcount(s) }),
		"string": {nil, func(_ *run, v any, _ []any) (any, error) {
			if _, ok := v.(markup); ok {
				return v, nil
			}
			return str(v)
		}},
		"trim":     {[]string{"chars?"}, trimFilter},
		"center":   {[]string{"width?"}, centerFilter},
		"indent":   {[]string{"width?", "first?", "blank?"}, indent},
		"truncate": {[]string{"length?", "killwords?", "end?", "leeway?"}, truncate},
		"replace":  {[]string{"old", "new", "count?"}, replaceFilter},
		"join":     {[]string{"d?", "attribute?"}, join},
		"abs":      {nil, absFilter},
		"round":    {[]string{"precision?", "method?"}, round},
		"int":      {[]string{"default?", "base?"}, intFilter},
		"float":    {[]string{"default?"}, floatFilter},
		"sum":      {[]string{"attribute?", "start?"}, sum},
		"min":      {[]string{"case_sensitive?", "attribute?"}, extreme(-1)},
		"max":      {[]string{"case_sensitive?", "attribute?"}, extreme(1)},
		"first":    {nil, firstFilter},
		"last":     {nil, lastFilter},
		"length":   {nil, func(_ *run, v any, _ []any) (any, error) { return length(v) }},
		"count":    {nil, func(_ *run, v any, _ []any) (any, error) { return length(v) }},
		"list":     {nil, func(_ *run, v any, _ []any) (any, error) { items, err := elements(v); return &List{items}, err }},
		"reverse":  {nil, reverse},
		"sort":     {[]string{"reverse?", "case_sensitive?", "attribute?"}, sortFilter},
		"unique":   {[]string{"case_sensitive?", "attribute?"}, unique},
		"batch":    {[]string{"linecount", "fill_with?"}, batch},
		"groupby":  {[]string{"attribute", "default?", "case_sensitive?"}, groupby},
		"dictsort": {[]string{"case_sensitive?", "by?", "reverse?"}, dictsort},
		"items":    {nil, itemsFilter},
		"attr": {[]string{"name"}, func(r *run, v any, a []any) (any, error) {
			name, err := textArg(a[0], "")
			if err != nil {
				return nil, err
			}
			if _, ok := v.(*undefined); ok {
				return v, nil
			}
			found, ok, err := r.member(v, name)
			if err != nil || ok {
				return found, err
			}
			return r.missing(v, name)
		}},
		"default":        {[]string{"default_value?", "boolean?"}, defaultFilter},
		"d":              {[]string{"default_value?", "boolean?"}, defaultFilter},
		"tojson":         {[]string{"indent?"}, tojson},
		"escape":         {nil, escape},
		"e":              {nil, escape},
		"safe":           {nil, func(_ *run, v any, _ []any) (any, error) { s, err := str(v); return markup(s), err }},
		"filesizeformat": {[]string{"binary?"}, filesizeformat},
		"as_text":        same, "as_bool": same, "as_native": same, "as_number": same,
		"is_list": {nil, func(_ *run, v any, _ []any) (any, error) { _, ok := v.(*List); return ok, nil }},
	}
}

var same = filterFunc{nil, func(_ *run, v any, _ []any) (any, error) { return v, nil }}

// titleFilter begins words at what Jinja takes for their beginning.
func titleFilter(s string) string {
	var b strings.Builder
	start := true
	for _, r := range s {
		if start {
			b.WriteString(upper(string(r)))
		} else {
			b.WriteString(strings.ToLower(string(r)))
		}
		start = r == '-' || isSpace(r) || strings.ContainsRune("({[<", r)
	}
	return b.String()
}

func wordcount(s string) int {
	return len(strings.FieldsFunc(s, func(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsNumber(r) }))
}

func trimFilter(_ *run, v any, a []any) (any, error) {
	s, err := soft(v)
	if err != nil {
		return nil, err
	}
	return stripped(strings.TrimFunc)(s, a)
}

func centerFilter(_ *run, v any, a []any) (any, error) {
	s, err := soft(v)
	if err != nil {
		return nil, err
	}
	width, err := intArg(a[0], 80)
	if err != nil {
		return nil, err
	}
	return stringMethods["center"].call(s, []any{width, missingArg{}})
}

func indent(_ *run, v any, a []any) (any, error) {
	s, isText := v.(string)
	if !isText {
		return nil, errorf("indent takes a text, and this is a %s", typeName(v))
	}
	by, ok := a[0].(string)
	if !ok {
		n, err := intArg(a[0], 4)
		if err != nil || n > maxWidth {
			return nil, errorf("indent takes a number of characters up to %d, or a text", maxWidth)
		}
		by = strings.Repeat(" ", max(n, 0))
	}
	first, blank := given(a[1]) && truth(a[1]), given(a[2]) && truth(a[2])
	all := lines(s+"\n", false)
	if (len(all)*len(by))+len(s) > maxText {
		return nil, errTooLong
	}
	if blank {
		s = strings.Join(all, "\n"+by)
	} else {
		for i, line := range all[1:] {
			if line != "" {
				all[i+1] = by + line
			}
		}
		s = strings.Join(all, "\n")
	}
	if first {
		s = by + s
	}
	return s, nil
}

func truncate(_ *run, v any, a []any) (any, error) {
	s, ok := v.(string)
	if !ok {
		return nil, errorf("truncate takes a text, and this is a %s", typeName(v))
	}
	n, err := intArg(a[0], 255)
	if err != nil {
		return nil, err
	}
	end, err := textArg(a[2], "...")
	if err != nil {
		return nil, err
	}
	leeway := 5
	if given(a[3]) && a[3] != nil {
		if leeway, err = intArg(a[3], 5); err != nil {
			return nil, err
		}
	}
	runes := []rune(s)
	keep := n - utf8.RuneCountInString(end)
	if keep < 0 || leeway < 0 {
		return nil, errorf("truncate takes a length that its end fits into")
	}
	if len(runes) <= n+leeway {
		return s, nil
	}
	short := string(runes[:keep])
	if !given(a[1]) || !truth(a[1]) {
		if i := strings.LastIndex(short, " "); i >= 0 {
			short = short[:i]
		}
	}
	return short + end, nil
}

func replaceFilter(_ *run, v any, a []any) (any, error) {
	var texts [3]string
	for i, part := range []any{v, a[0], a[1]} {
		var err error
		if texts[i], err = soft(part); err != nil {
			return nil, err
		}
	}
	n := -1
	if given(a[2]) && a[2] != nil {
		var err error
		if n, err = intArg(a[2], -1); err != nil {
			return nil, err
		}
	}
	return replaced(texts[0], texts[1], texts[2], n)
}

func join(r *run, v any, a []any) (any, error) {
	separator := ""
	if given(a[0]) {
		var err error
		if separator, err = soft(a[0]); err != nil {
			return nil, err
		}
	}
	items, err := elements(v)
	if err != nil {
		return nil, err
	}
	key := r.attributeKey(a[1], nil)
	var b strings.Builder
	for i, item := range items {
		if item, err = key(item); err != nil {
			return nil, err
		}
		text, err := str(item)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			b.WriteString(separator)
		}
		if b.Len()+len(text)+len(separator) > maxText {
			return nil, errTooLong
		}
		b.WriteString(text)
	}
	return b.String(), nil
}

// attributeKey reads an attribute such as a.b or 0 of each value.
func (r *run) attributeKey(attribute any, then func(any) any) func(any) (any, error) {
	if then == nil {
		then = func(v any) any { return v }
	}
	if !given(attribute) || attribute == nil {
		return func(v any) (any, error) { return then(v), nil }
	}
	var path []any
	if text, ok := attribute.(string); ok {
		for part := range strings.SplitSeq(text, ".") {
			if i, err := strconv.Atoi(part); err == nil && part[0] != '-' && part[0] != '+' {
				path = append(path, i)
			} else {
				path = append(path, part)
			}
		}
	} else {
		path = []any{attribute}
	}
	return func(v any) (any, error) {
		var err error
		for _, part := range path {
			if v, err = r.element(v, part); err != nil {
				return nil, err
			}
		}
		return then(v), nil
	}
}

func ignoreCase(v any) any {
	if s, ok := v.(string); ok {
		return strings.ToLower(s)
	}
	return v
}

// caseOf returns what to compare values by.
func caseOf(caseSensitive any) func(any) any {
	if given(caseSensitive) && truth(caseSensitive) {
		return nil
	}
	return ignoreCase
}

func absFilter(_ *run, v any, _ []any) (any, error) {
	i, f, isInt, ok := number(v)
	switch {
	case !ok:
		return nil, errorf("abs takes a number, and this is a %s", typeName(v))
	case isInt && i == math.MinInt:
		return nil, errOverflow
	case isInt:
		return abs(i), nil
	}
	return math.Abs(f), nil
}

func round(_ *run, v any, a []any) (any, error) {
	precision, err := intArg(a[0], 0)
	if err != nil {
		return nil, err
	}
	method, err := textArg(a[1], "common")
	if err != nil {
		return nil, err
	}
	i, f, isInt, ok := number(v)
	if !ok || math.IsNaN(f) || math.IsInf(f, 0) || precision > 300 || precision < 0 {
		return nil, errorf("round takes a number and a precision that is not negative")
	}
	switch method {
	case "common":
		if isInt {
			return i, nil
		}
		return strconv.ParseFloat(strconv.FormatFloat(f, 'f', precision, 64), 64)
	case "ceil", "floor":
		if precision > 22 {
			return nil, errorf("round takes a precision up to 22 here")
		}
		scale := math.Pow10(precision)
		scaled := f * scale
		if math.IsInf(scaled, 0) || math.Abs(f) >= 1<<53 {
			return nil, errOverflow
		}
		if method == "ceil" {
			scaled = math.Ceil(scaled)
		} else {
			scaled = math.Floor(scaled)
		}
		if scaled == 0 {
			scaled = 0 // Python's ceil gives an int, which has no sign
		}
		return scaled / scale, nil
	}
	return nil, errorf("round takes common, ceil or floor")
}

// pythonInt reads a text as Python's int does.
func pythonInt(s string, base int) (int, bool) {
	s = strings.TrimFunc(s, isSpace)
	digits := s
	if digits != "" && (digits[0] == '-' || digits[0] == '+') {
		digits = digits[1:]
	}
	if base == 10 && (strings.HasPrefix(digits, "_") || strings.HasSuffix(digits, "_") || strings.Contains(digits, "__")) {
		return 0, false
	}
	if base == 10 {
		s = strings.ReplaceAll(s, "_", "")
	}
	i, err := strconv.ParseInt(s, base, 64)
	return int(i), err == nil
}

// pythonFloat reads a text as Python's float does.
func pythonFloat(s string) (float64, bool) {
	s = strings.TrimFunc(s, isSpace)
	if strings.ContainsAny(s, "_xXpP") {
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil
}

func intFilter(_ *run, v any, a []any) (any, error) {
	otherwise := any(0)
	if given(a[0]) {
		otherwise = a[0]
	}
	base, err := intArg(a[1], 10)
	if err != nil {
		return nil, err
	}
	switch v := v.(type) {
	case bool, int:
		i, _ := integer(v)
		return i, nil
	case float64:
		return truncated(v, otherwise)
	case string:
		if !isASCII(v) || base != 10 && (strings.ContainsAny(v, "_") || base < 2 || base > 36) || len(v) > 18 && !strings.ContainsAny(v, " \n\t.") {
			return nil, errorf("int of this text is not supported")
		}
		if base == 16 {
			v = strings.Replace(strings.Replace(v, "0x", "", 1), "0X", "", 1)
		}
		if i, ok := pythonInt(v, base); ok {
			return i, nil
		}
		if f, ok := pythonFloat(v); ok {
			return truncated(f, otherwise)
		}
		if strings.Contains(v, "_") {
			return nil, errorf("int of a text with _ is not supported")
		}
	case *undefined:
		return nil, v.err()
	}
	return otherwise, nil
}

func truncated(f float64, otherwise any) (any, error) {
	switch {
	case math.IsNaN(f):
		return otherwise, nil
	case math.IsInf(f, 0) || math.Abs(f) >= 1<<62:
		return nil, errOverflow
	}
	return int(f), nil
}

func floatFilter(_ *run, v any, a []any) (any, error) {
	if _, f, _, ok := number(v); ok {
		return f, nil
	}
	switch v := v.(type) {
	case string:
		if strings.Contains(v, "_") || !isASCII(v) {
			return nil, errorf("float of this text is not supported")
		}
		if f, ok := pythonFloat(v); ok {
			return f, nil
		}
	case *undefined:
		return nil, v.err()
	}
	if given(a[0]) {
		return a[0], nil
	}
	return 0.0, nil
}

func sum(r *run, v any, a []any) (any, error) {
	items, err := elements(v)
	if err != nil {
		return nil, err
	}
	total := any(0)
	if given(a[1]) {
		total = a[1]
	}
	if _, ok := total.(string); ok {
		return nil, errorf("texts cannot be summed: use join")
	}
	key := r.attributeKey(a[0], nil)
	for _, item := range items {
		if item, err = key(item); err != nil {
			return nil, err
		}
		if total, err = binary("+", total, item); err != nil {
			return nil, err
		}
		if err := r.step(1 + weight(total)); err != nil {
			return nil, err
		}
	}
	return total, nil
}

func extreme(sign int) func(*run, any, []any) (any, error) {
	return func(r *run, v any, a []any) (any, error) {
		items, err := elements(v)
		if err != nil {
			return nil, err
		}
		if len(items) == 0 {
			return &undefined{what: "there is no smallest or largest of nothing"}, nil
		}
		key := r.attributeKey(a[1], caseOf(a[0]))
		best, bestKey := items[0], any(nil)
		if bestKey, err = key(items[0]); err != nil {
			return nil, err
		}
		for _, item := range items[1:] {
			k, err := key(item)
			if err != nil {
				return nil, err
			}
			c, err := compare(k, bestKey, new(walk))
			if err != nil {
				return nil, err
			}
			if c*sign > 0 {
				best, bestKey = item, k
			}
		}
		return best, nil
	}
}

func firstFilter(_ *run, v any, _ []any) (any, error) {
	next, err := each(v, true)
	if err != nil {
		return nil, err
	}
	first, ok, err := next()
	if err == nil && !ok {
		return &undefined{what: "there is no first of nothing"}, nil
	}
	return first, err
}

func lastFilter(_ *run, v any, _ []any) (any, error) {
	if _, ok := v.(*iterator); ok {
		return nil, errorf("last needs a list: use list before it")
	}
	if _, ok := v.(*Set); ok {
		return nil, errorf("a set has no last: use sort before it")
	}
	items, err := elements(v)
	if err != nil {
		return nil, err
	}
	if len(items) == 0 {
		return &undefined{what: "there is no last of nothing"}, nil
	}
	return items[len(items)-1], nil
}

func reverse(_ *run, v any, _ []any) (any, error) {
	if s, ok := v.(string); ok {
		runes := []rune(s)
		slices.Reverse(runes)
		return string(runes), nil
	}
	if _, ok := v.(markup); ok {
		return nil, errMarkup
	}
	if _, ok := v.(*undefined); ok {
		return &iterator{"reversed", nil}, nil
	}
	items, err := elements(v)
	if err != nil {
		return nil, err
	}
	items = slices.Clone(items)
	slices.Reverse(items)
	return &iterator{"list_reverseiterator", items}, nil
}

func sortFilter(r *run, v any, a []any) (any, error) {
	var items []any
	var err error
	_, isSet := v.(*Set)
	// A generator can be gone through only once.
	if d, isDict := v.(*Dict); isSet || isDict && d.unknown {
		items, err = collect(v, false)
	} else {
		items, err = elements(v)
	}
	if err != nil {
		return nil, err
	}
	items = slices.Clone(items)
	then := caseOf(a[1])
	keys := []func(any) (any, error){r.attributeKey(a[2], then)}
	if text, ok := a[2].(string); ok && strings.Contains(text, ",") {
		keys = nil
		for part := range strings.SplitSeq(text, ",") {
			keys = append(keys, r.attributeKey(part, then))
		}
	}
	err = sortBy(items, func(v any) (any, error) {
		all := &List{}
		for _, key := range keys {
			k, err := key(v)
			if err != nil {
				return nil, err
			}
			all.Items = append(all.Items, k)
		}
		if len(keys) == 1 {
			return all.Items[0], nil
		}
		return all, nil
	}, given(a[0]) && truth(a[0]))
	if err == nil && !isOrdered(v) && (then != nil || given(a[2])) {
		err = tied(items, keys[0])
	}
	return &List{items}, err
}

// isOrdered tells whether the order of a value's elements is known.
func isOrdered(v any) bool {
	switch v := v.(type) {
	case *Set:
		return v.dict.Len() < 2
	case *Dict:
		return v.ordered() == nil
	case view:
		return v.dict.ordered() == nil
	}
	return true
}

// tied refuses a sorted set if two of it are alike, since which came first is chance.
func tied(items []any, key func(any) (any, error)) error {
	for i := range max(len(items)-1, 0) {
		a, err := key(items[i])
		if err != nil {
			return err
		}
		b, err := key(items[i+1])
		if err != nil {
			return err
		}
		if alike, err := equal(a, b, new(walk)); err != nil || alike {
			return errorf("two of the set are alike for the filter sort, so that their order is chance: use sort(case_sensitive=true)")
		}
	}
	return nil
}

func unique(r *run, v any, a []any) (any, error) {
	items, err := elements(v)
	if err != nil {
		return nil, err
	}
	key := r.attributeKey(a[1], caseOf(a[0]))
	seen := newSet()
	kept := []any{}
	for _, item := range items {
		k, err := key(item)
		if err != nil {
			return nil, err
		}
		if _, err := hashArg(k); err != nil {
			return nil, err
		}
		if _, ok := seen.dict.Get(k); !ok {
			_ = seen.add(k)
			kept = append(kept, item)
		}
	}
	return &iterator{"generator", kept}, nil
}

func batch(_ *run, v any, a []any) (any, error) {
	n, err := intArg(a[0], 0)
	if err != nil || n < 1 {
		return nil, errorf("batch takes how many go into one, at least 1")
	}
	items, err := elements(v)
	if err != nil {
		return nil, err
	}
	var batches []any
	for chunk := range slices.Chunk(items, n) {
		one := slices.Clone(chunk)
		if given(a[1]) && a[1] != nil {
			if n > maxItems {
				return nil, errTooLong
			}
			for len(one) < n {
				one = append(one, a[1])
			}
		}
		batches = append(batches, &List{one})
	}
	return &iterator{"generator", batches}, nil
}

func groupby(r *run, v any, a []any) (any, error) {
	items, err := elements(v)
	if err != nil {
		return nil, err
	}
	raw := r.attributeKey(a[0], nil)
	then := caseOf(a[2])
	if then == nil {
		then = func(v any) any { return v }
	}
	key := func(v any) (any, error) {
		k, err := raw(v)
		if u, ok := k.(*undefined); ok && err == nil {
			if !given(a[1]) || a[1] == nil {
				return nil, u.err()
			}
			k = a[1]
		}
		return then(k), err
	}
	items = slices.Clone(items)
	if err := sortBy(items, key, false); err != nil {
		return nil, err
	}
	groups := []any{}
	var last any
	for i, item := range items {
		k, err := key(item)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			alike, err := equal(k, last, new(walk))
			if err != nil {
				return nil, err
			}
			if alike {
				list := groups[len(groups)-1].(Tuple)[1].(*List)
				list.Items = append(list.Items, item)
				continue
			}
		}
		// A group is called what its first element says, in its case.
		last = k
		called, err := raw(item)
		if err != nil {
			return nil, err
		}
		if IsUndefined(called) {
			called = a[1]
		}
		groups = append(groups, Tuple{called, &List{[]any{item}}})
	}
	return &List{groups}, nil
}

func dictsort(_ *run, v any, a []any) (any, error) {
	d, ok := v.(*Dict)
	if !ok {
		return nil, errorf("dictsort takes a dict, and this is a %s", typeName(v))
	}
	by, err := textArg(a[1], "key")
	if err != nil || by != "key" && by != "value" {
		return nil, errorf("dictsort sorts by key or value")
	}
	if by == "value" {
		if err := d.ordered(); err != nil {
			return nil, err
		}
	}
	place := 0
	if by == "value" {
		place = 1
	}
	then := caseOf(a[0])
	items := make([]any, d.Len())
	for i := range items {
		items[i] = Tuple{d.keys[i], d.values[i]}
	}
	err = sortBy(items, func(v any) (any, error) {
		k := v.(Tuple)[place]
		if then != nil {
			k = then(k)
		}
		return k, nil
	}, given(a[2]) && truth(a[2]))
	return &List{items}, err
}

func itemsFilter(_ *run, v any, _ []any) (any, error) {
	switch v := v.(type) {
	case *undefined:
		return &iterator{"generator", nil}, nil
	case *Dict:
		items, err := elements(view{"items", v})
		return &iterator{"generator", items}, err
	}
	return nil, errorf("items takes a dict, and this is a %s", typeName(v))
}

func defaultFilter(_ *run, v any, a []any) (any, error) {
	_, isUndefined := v.(*undefined)
	if isUndefined || given(a[1]) && truth(a[1]) && !truth(v) {
		if !given(a[0]) {
			return "", nil
		}
		return a[0], nil
	}
	return v, nil
}

func escape(_ *run, v any, _ []any) (any, error) {
	if m, ok := v.(markup); ok {
		return m, nil
	}
	s, err := str(v)
	return markup(strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "'", "&#39;", `"`, "&#34;").Replace(s)), err
}

func filesizeformat(_ *run, v any, a []any) (any, error) {
	_, f, _, ok := number(v)
	if s, isText := v.(string); isText {
		f, ok = pythonFloat(s)
	}
	if !ok {
		return nil, errorf("filesizeformat takes a number, and this is a %s", typeName(v))
	}
	base, infix := 1000.0, ""
	if given(a[0]) && truth(a[0]) {
		base, infix = 1024, "i"
	}
	if f == 1 {
		return "1 Byte", nil
	}
	if f < base {
		return strconv.Itoa(int(f)) + " Bytes", nil
	}
	for i, prefix := range "kMGTPEZY" {
		unit := math.Pow(base, float64(i+2))
		if f < unit || prefix == 'Y' {
			text := strconv.FormatFloat(base*f/unit, 'f', 1, 64) + " " + string(prefix) + infix + "B"
			if infix != "" && prefix == 'k' {
				text = strings.Replace(text, "k", "K", 1)
			}
			return text, nil
		}
	}
	return nil, errOverflow
}

// mapped is the filter map: a filter on each, or an attribute of each.
func (r *run) mapped(v any, args []any, named *Dict) (any, error) {
	one := func(v any) (any, error) { return nil, errorf("map takes a filter, or attribute=") }
	if attribute, ok := named.Get("attribute"); ok && len(args) == 0 {
		otherwise, hasDefault := named.Get("default")
		if named.Len() > 1 && !hasDefault || named.Len() > 2 {
			return nil, errorf("map takes attribute and default, or a filter")
		}
		key := r.attributeKey(attribute, nil)
		one = func(v any) (any, error) {
			found, err := key(v)
			if _, missing := found.(*undefined); missing && hasDefault && err == nil {
				found = otherwise
			}
			return found, err
		}
	} else if len(args) > 0 {
		name, err := textArg(args[0], "")
		if err != nil {
			return nil, err
		}
		if err := knownFilter(name); err != nil {
			return nil, err
		}
		one = func(v any) (any, error) { return r.filter(name, v, args[1:], named) }
	} else {
		_, err := one(nil)
		return nil, err
	}
	return r.generated(v, func(item any) (any, bool, error) {
		result, err := one(item)
		return result, true, err
	})
}

// generated makes what Python makes lazily. If making it fails there may be
// elements before, which a template might have used: here all of it fails.
func (r *run) generated(v any, one func(any) (any, bool, error)) (any, error) {
	items, err := elements(v)
	if err != nil {
		return nil, err
	}
	results := []any{}
	for _, item := range items {
		if err := r.step(1); err != nil {
			return nil, err
		}
		result, keep, err := one(item)
		if err != nil {
			return nil, err
		}
		if keep {
			results = append(results, result)
		}
	}
	return &iterator{"generator", results}, nil
}

func (r *run) selected(name string, v any, args []any) (any, error) {
	keep := strings.HasPrefix(name, "select")
	key := func(v any) (any, error) { return v, nil }
	if strings.HasSuffix(name, "attr") {
		if len(args) == 0 {
			return nil, errorf("%s takes the name of an attribute", name)
		}
		key = r.attributeKey(args[0], nil)
		args = args[1:]
	}
	passes := func(v any) (bool, error) { return truth(v), nil }
	if len(args) > 0 {
		testName, err := textArg(args[0], "")
		if err != nil {
			return nil, err
		}
		if err := knownTest(testName); err != nil {
			return nil, err
		}
		passes = func(v any) (bool, error) {
			result, err := r.test(testName, v, args[1:])
			return truth(result), err
		}
	}
	return r.generated(v, func(item any) (any, bool, error) {
		k, err := key(item)
		if err != nil {
			return nil, false, err
		}
		pass, err := passes(k)
		return item, pass == keep, err
	})
}
