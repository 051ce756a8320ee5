package jinja

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// methodOf returns a method of a value, as Python's types have them.
func methodOf(r *run, v any, name string) (any, bool, error) {
	var call Func
	switch v := v.(type) {
	case string:
		if name == "format" {
			call = func(args []any, named *Dict) (any, error) { return braces(r, v, args, named) }
		} else if m, ok := stringMethods[name]; ok {
			call = func(args []any, named *Dict) (any, error) {
				a, err := bindArgs("the method "+name, m.parameters, args, named)
				if err != nil {
					return nil, err
				}
				return m.call(v, a)
			}
		} else if slices.Contains(otherStringMethods, name) {
			return nil, false, errorf("the method %s of texts is not supported", name)
		}
	case markup:
		return nil, false, errMarkup
	case *List:
		call = listMethod(v, name)
	case Tuple:
		switch name {
		case "count":
			call = positional(name, 1, 1, func(args []any) (any, error) { return countIn(v, args[0]) })
		case "index":
			call = positional(name, 1, 3, func(args []any) (any, error) { return indexIn(v, args) })
		}
	case *Dict:
		call = dictMethod(v, name)
	case *Set:
		call = setMethod(v, name)
	case int, bool, float64, rangeValue:
		if slices.Contains(numberMembers, name) {
			return nil, false, errorf("%s of a %s is not supported", name, typeName(v))
		}
	case view:
		if name == "mapping" || name == "isdisjoint" {
			return nil, false, errorf("%s of a %s is not supported", name, typeName(v))
		}
	}
	if call == nil {
		return nil, false, nil
	}
	return &method{name, func(args []any, named *Dict) (any, error) {
		cost := 1 + weight(v)
		for _, arg := range args {
			cost += weight(arg)
		}
		if err := r.step(cost); err != nil {
			return nil, err
		}
		return call(args, named)
	}}, true, nil
}

var (
	otherStringMethods = []string{"encode", "expandtabs", "format_map", "isidentifier", "translate", "maketrans"}
	numberMembers      = []string{
		"as_integer_ratio", "bit_count", "bit_length", "conjugate", "denominator", "from_bytes", "imag", "numerator", "real", "to_bytes",
		"fromhex", "hex", "is_integer", "count", "index", "start", "step", "stop",
	}
)

// positional makes a function that takes no named arguments.
func positional(name string, least, most int, call func([]any) (any, error)) Func {
	return func(args []any, named *Dict) (any, error) {
		if named.Len() > 0 || len(args) < least || len(args) > most {
			return nil, errorf("%s is given arguments that it does not take", name)
		}
		return call(args)
	}
}

type missingArg struct{}

// bindArgs puts arguments in the order of parameters. One that ends in ? may
// be missing; one that begins with / cannot be given by name.
func bindArgs(what string, parameters []string, args []any, named *Dict) ([]any, error) {
	bound := make([]any, len(parameters))
	taken := 0
	if len(args) > len(parameters) {
		return nil, errorf("%s takes %d arguments at most", what, len(parameters))
	}
	for i, p := range parameters {
		name := strings.TrimSuffix(strings.TrimPrefix(p, "/"), "?")
		v, ok := named.Get(name)
		ok = ok && p[0] != '/'
		switch {
		case i < len(args):
			bound[i] = args[i]
		case ok:
			bound[i] = v
			taken++
		case strings.HasSuffix(p, "?"):
			bound[i] = missingArg{}
		default:
			return nil, errorf("%s needs the argument %s", what, name)
		}
	}
	if taken < named.Len() {
		return nil, errorf("%s is given named arguments that it does not take, or twice", what)
	}
	return bound, nil
}

func given(v any) bool {
	_, missing := v.(missingArg)
	return !missing
}

func textArg(v any, otherwise string) (string, error) {
	if !given(v) {
		return otherwise, nil
	}
	text, ok := v.(string)
	if !ok {
		return "", errorf("a text is needed, and this is a %s", typeName(v))
	}
	return text, nil
}

func intArg(v any, otherwise int) (int, error) {
	if !given(v) {
		return otherwise, nil
	}
	i, ok := integer(v)
	if !ok {
		return 0, errorf("an int is needed, and this is a %s", typeName(v))
	}
	return i, nil
}

type stringMethod struct {
	parameters []string
	call       func(s string, args []any) (any, error)
}

func simple(f func(string) any) stringMethod {
	return stringMethod{nil, func(s string, _ []any) (any, error) { return f(s), nil }}
}

var stringMethods = map[string]stringMethod{
	"upper":      simple(func(s string) any { return upper(s) }),
	"lower":      simple(func(s string) any { return strings.ToLower(s) }),
	"casefold":   {nil, casefold},
	"capitalize": simple(func(s string) any { return capitalize(s) }),
	"title":      simple(func(s string) any { return title(s) }),
	"swapcase":   simple(func(s string) any { return swapcase(s) }),
	"isalnum": simple(func(s string) any {
		return allRunes(s, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsNumber(r) })
	}),
	"isalpha":     simple(func(s string) any { return allRunes(s, unicode.IsLetter) }),
	"isascii":     simple(func(s string) any { return isASCII(s) }),
	"isdecimal":   simple(func(s string) any { return allRunes(s, func(r rune) bool { return unicode.Is(unicode.Nd, r) }) }),
	"isdigit":     {nil, digitTest},
	"isnumeric":   {nil, digitTest},
	"isspace":     simple(func(s string) any { return allRunes(s, isSpace) }),
	"isprintable": simple(func(s string) any { return s == "" || allRunes(s, unicode.IsPrint) }),
	"isupper":     simple(func(s string) any { return isCase(s, unicode.IsUpper) }),
	"islower":     simple(func(s string) any { return isCase(s, unicode.IsLower) }),
	"istitle":     simple(func(s string) any { return title(s) == s && strings.ContainsFunc(s, unicode.IsLetter) }),

	"strip":        {[]string{"/chars?"}, stripped(strings.TrimFunc)},
	"lstrip":       {[]string{"/chars?"}, stripped(strings.TrimLeftFunc)},
	"rstrip":       {[]string{"/chars?"}, stripped(strings.TrimRightFunc)},
	"removeprefix": {[]string{"/prefix"}, textPair(func(s, t string) any { return strings.TrimPrefix(s, t) })},
	"removesuffix": {[]string{"/suffix"}, textPair(func(s, t string) any { return strings.TrimSuffix(s, t) })},
	"split":        {[]string{"sep?", "maxsplit?"}, func(s string, a []any) (any, error) { return split(s, a, false) }},
	"rsplit":       {[]string{"sep?", "maxsplit?"}, func(s string, a []any) (any, error) { return split(s, a, true) }},
	"splitlines":   {[]string{"keepends?"}, splitlines},
	"partition":    {[]string{"/sep"}, func(s string, a []any) (any, error) { return partition(s, a[0], strings.Index, false) }},
	"rpartition":   {[]string{"/sep"}, func(s string, a []any) (any, error) { return partition(s, a[0], strings.LastIndex, true) }},
	"join":         {[]string{"/iterable"}, joinMethod},
	"replace":      {[]string{"/old", "/new", "/count?"}, replaceMethod},
	"startswith":   {[]string{"/prefix", "/start?", "/end?"}, affix(strings.HasPrefix)},
	"endswith":     {[]string{"/suffix", "/start?", "/end?"}, affix(strings.HasSuffix)},
	"find":         {[]string{"/sub", "/start?", "/end?"}, find(strings.Index, false)},
	"rfind":        {[]string{"/sub", "/start?", "/end?"}, find(strings.LastIndex, false)},
	"index":        {[]string{"/sub", "/start?", "/end?"}, find(strings.Index, true)},
	"rindex":       {[]string{"/sub", "/start?", "/end?"}, find(strings.LastIndex, true)},
	"count":        {[]string{"/sub", "/start?", "/end?"}, countMethod},
	"center":       {[]string{"/width", "/fillchar?"}, padded(func(n, width int) int { return n/2 + n&width&1 })},
	"ljust":        {[]string{"/width", "/fillchar?"}, padded(func(int, int) int { return 0 })},
	"rjust":        {[]string{"/width", "/fillchar?"}, padded(func(n, _ int) int { return n })},
	"zfill":        {[]string{"/width"}, zfill},
}

func digitTest(s string, _ []any) (any, error) {
	if !isASCII(s) {
		return nil, errorf("this is supported for ASCII alone")
	}
	return allRunes(s, unicode.IsDigit), nil
}

func casefold(s string, _ []any) (any, error) {
	if !isASCII(s) {
		return nil, errorf("casefold is supported for ASCII alone: use lower")
	}
	return strings.ToLower(s), nil
}

func allRunes(s string, is func(rune) bool) bool {
	for _, r := range s {
		if !is(r) {
			return false
		}
	}
	return s != ""
}

func isCase(s string, is func(rune) bool) bool {
	found := false
	for _, r := range s {
		if is(r) {
			found = true
		} else if unicode.IsUpper(r) || unicode.IsLower(r) || unicode.IsTitle(r) {
			return false
		}
	}
	return found
}

// upper is for whole texts, where ß becomes SS.
func upper(s string) string { return strings.ToUpper(strings.ReplaceAll(s, "ß", "SS")) }

func capitalize(s string) string {
	first, size := utf8.DecodeRuneInString(s)
	if size == 0 {
		return s
	}
	return titleRune(first) + strings.ToLower(s[size:])
}

func titleRune(r rune) string {
	if r == 'ß' {
		return "Ss"
	}
	return string(unicode.ToTitle(r))
}

func title(s string) string {
	var b strings.Builder
	inWord := false
	for _, r := range s {
		if inWord {
			b.WriteString(strings.ToLower(string(r)))
		} else {
			b.WriteString(titleRune(r))
		}
		inWord = unicode.IsUpper(r) || unicode.IsLower(r) || unicode.IsTitle(r)
	}
	return b.String()
}

func swapcase(s string) string {
	var b strings.Builder
	for _, r := range s {
		if unicode.IsUpper(r) {
			b.WriteString(strings.ToLower(string(r)))
		} else {
			b.WriteString(upper(string(r)))
		}
	}
	return b.String()
}

func stripped(trim func(string, func(rune) bool) string) func(string, []any) (any, error) {
	return func(s string, a []any) (any, error) {
		if !given(a[0]) || a[0] == nil {
			return trim(s, isSpace), nil
		}
		chars, err := textArg(a[0], "")
		return trim(s, func(r rune) bool { return strings.ContainsRune(chars, r) }), err
	}
}

func textPair(f func(s, t string) any) func(string, []any) (any, error) {
	return func(s string, a []any) (any, error) {
		t, err := textArg(a[0], "")
		return f(s, t), err
	}
}

func split(s string, a []any, fromRight bool) (any, error) {
	most, err := intArg(a[1], -1)
	if err != nil {
		return nil, err
	}
	var parts []string
	if !given(a[0]) || a[0] == nil {
		parts = splitSpace(s, most, fromRight)
	} else {
		sep, err := textArg(a[0], "")
		if err != nil {
			return nil, err
		}
		if sep == "" {
			return nil, errorf("an empty text separates nothing")
		}
		parts = strings.Split(s, sep)
		if most >= 0 && len(parts) > most+1 {
			if fromRight {
				cut := len(parts) - most
				parts = append([]string{strings.Join(parts[:cut], sep)}, parts[cut:]...)
			} else {
				parts = strings.SplitN(s, sep, most+1)
			}
		}
	}
	return listOf(parts), nil
}

func splitSpace(s string, most int, fromRight bool) []string {
	fields := strings.FieldsFunc(s, isSpace)
	if most < 0 || len(fields) <= most {
		return fields
	}
	var parts []string
	if fromRight {
		rest := strings.TrimRightFunc(s, isSpace)
		for range most {
			i := strings.LastIndexFunc(rest, isSpace)
			_, size := utf8.DecodeRuneInString(rest[i:])
			parts = append(parts, rest[i+size:])
			rest = strings.TrimRightFunc(rest[:i], isSpace)
		}
		slices.Reverse(parts)
		return append([]string{rest}, parts...)
	}
	rest := strings.TrimLeftFunc(s, isSpace)
	for range most {
		i := strings.IndexFunc(rest, isSpace)
		parts = append(parts, rest[:i])
		rest = strings.TrimLeftFunc(rest[i:], isSpace)
	}
	return append(parts, rest)
}

func listOf(texts []string) *List {
	items := make([]any, len(texts))
	for i, text := range texts {
		items[i] = text
	}
	return &List{items}
}

// lines splits at the ends of lines as Python has them.
func lines(s string, keep bool) []string {
	var all []string
	start := 0
	for i, r := range s {
		if i < start || !strings.ContainsRune("\n\r\v\f\x1c\x1d\x1e\u0085\u2028\u2029", r) {
			continue
		}
		end := i + utf8.RuneLen(r)
		if r == '\r' && strings.HasPrefix(s[end:], "\n") {
			end++
		}
		if keep {
			all = append(all, s[start:end])
		} else {
			all = append(all, s[start:i])
		}
		start = end
	}
	if start < len(s) {
		all = append(all, s[start:])
	}
	return all
}

func splitlines(s string, a []any) (any, error) {
	return listOf(lines(s, given(a[0]) && truth(a[0]))), nil
}

func partition(s string, sep any, index func(string, string) int, fromRight bool) (any, error) {
	separator, err := textArg(sep, "")
	if err != nil {
		return nil, err
	}
	if separator == "" {
		return nil, errorf("an empty text separates nothing")
	}
	i := index(s, separator)
	switch {
	case i >= 0:
		return Tuple{s[:i], separator, s[i+len(separator):]}, nil
	case fromRight:
		return Tuple{"", "", s}, nil
	}
	return Tuple{s, "", ""}, nil
}

func joinMethod(s string, a []any) (any, error) {
	items, err := elements(a[0])
	if err != nil {
		return nil, err
	}
	parts := make([]string, len(items))
	total := 0
	for i, item := range items {
		part, ok := item.(string)
		if !ok {
			return nil, errorf("join takes texts, and element %d is a %s", i, typeName(item))
		}
		if total += len(part) + len(s); total > maxText {
			return nil, errTooLong
		}
		parts[i] = part
	}
	return strings.Join(parts, s), nil
}

func replaceMethod(s string, a []any) (any, error) {
	from, err := textArg(a[0], "")
	if err != nil {
		return nil, err
	}
	to, err := textArg(a[1], "")
	if err != nil {
		return nil, err
	}
	n, err := intArg(a[2], -1)
	if err != nil {
		return nil, err
	}
	return replaced(s, from, to, n)
}

func replaced(s, from, to string, n int) (any, error) {
	if n < 0 {
		n = -1
	}
	if strings.Count(s, from)*max(len(to)-len(from), 0)+len(s) > maxText {
		return nil, errTooLong
	}
	return strings.Replace(s, from, to, n), nil
}

// part is s[start:end], and where it begins, in characters.
func part(s string, start, end any) (string, int, error) {
	for _, bound := range []any{start, end} {
		if _, ok := integer(bound); given(bound) && bound != nil && !ok {
			return "", 0, errorf("a bound must be an int")
		}
	}
	if !given(start) && !given(end) {
		return s, 0, nil
	}
	runes := []rune(s)
	bound := func(v any, otherwise int) int {
		if !given(v) || v == nil {
			return otherwise
		}
		i, _ := integer(v)
		if i < 0 {
			i = max(i+len(runes), 0)
		}
		return i
	}
	first, last := bound(start, 0), min(bound(end, len(runes)), len(runes))
	if first > last {
		return "", -1, nil
	}
	return string(runes[first:last]), first, nil
}

func affix(has func(s, affix string) bool) func(string, []any) (any, error) {
	return func(s string, a []any) (any, error) {
		within, first, err := part(s, a[1], a[2])
		if err != nil {
			return nil, err
		}
		candidates, ok := a[0].(Tuple)
		if !ok {
			candidates = Tuple{a[0]}
		}
		for _, c := range candidates {
			text, err := textArg(c, "")
			if err != nil {
				return nil, err
			}
			if first >= 0 && has(within, text) {
				return true, nil
			}
		}
		return false, nil
	}
}

func find(index func(s, sub string) int, must bool) func(string, []any) (any, error) {
	return func(s string, a []any) (any, error) {
		sub, err := textArg(a[0], "")
		if err != nil {
			return nil, err
		}
		within, first, err := part(s, a[1], a[2])
		if err != nil {
			return nil, err
		}
		i := -1
		if first >= 0 {
			i = index(within, sub)
		}
		switch {
		case i >= 0:
			return first + utf8.RuneCountInString(within[:i]), nil
		case must:
			return nil, errorf("%s is not in the text", quoted(sub))
		}
		return -1, nil
	}
}

func countMethod(s string, a []any) (any, error) {
	sub, err := textArg(a[0], "")
	if err != nil {
		return nil, err
	}
	within, first, err := part(s, a[1], a[2])
	if first < 0 {
		return 0, err
	}
	return strings.Count(within, sub), err
}

func padded(left func(missing, width int) int) func(string, []any) (any, error) {
	return func(s string, a []any) (any, error) {
		width, err := intArg(a[0], 0)
		if err != nil {
			return nil, err
		}
		fill, err := textArg(a[1], " ")
		if err != nil {
			return nil, err
		}
		if utf8.RuneCountInString(fill) != 1 || width > maxWidth {
			return nil, errorf("a text is filled up with one character, up to %d of them", maxWidth)
		}
		missing := width - utf8.RuneCountInString(s)
		if missing <= 0 {
			return s, nil
		}
		before := left(missing, width)
		return strings.Repeat(fill, before) + s + strings.Repeat(fill, missing-before), nil
	}
}

func zfill(s string, a []any) (any, error) {
	width, err := intArg(a[0], 0)
	if err != nil || width > maxWidth {
		return nil, errorf("zfill takes an int up to %d", maxWidth)
	}
	missing := width - utf8.RuneCountInString(s)
	if missing <= 0 {
		return s, nil
	}
	sign := ""
	if s != "" && (s[0] == '-' || s[0] == '+') {
		sign, s = s[:1], s[1:]
	}
	return sign + strings.Repeat("0", missing) + s, nil
}

func countIn(items []any, v any) (any, error) {
	n := 0
	for _, item := range items {
		same, err := equal(item, v, new(walk))
		if err != nil {
			return nil, err
		}
		if same {
			n++
		}
	}
	return n, nil
}

func indexIn(items []any, args []any) (any, error) {
	bounds := [3]any{nil, nil, nil}
	copy(bounds[:], args[1:])
	places, err := slicePlaces(len(items), bounds)
	if err != nil {
		return nil, err
	}
	for _, i := range places {
		same, err := equal(items[i], args[0], new(walk))
		if err != nil {
			return nil, err
		}
		if same {
			return i, nil
		}
	}
	return nil, errorf("the value is not in the list")
}

func listMethod(l *List, name string) Func {
	switch name {
	case "append":
		return positional(name, 1, 1, func(a []any) (any, error) { return nil, l.grow(len(l.Items), a) })
	case "extend":
		return positional(name, 1, 1, func(a []any) (any, error) {
			more, err := elements(a[0])
			if err != nil {
				return nil, err
			}
			return nil, l.grow(len(l.Items), more)
		})
	case "insert":
		return positional(name, 2, 2, func(a []any) (any, error) {
			i, err := intArg(a[0], 0)
			if i < 0 {
				i += len(l.Items)
			}
			if err != nil {
				return nil, err
			}
			return nil, l.grow(min(max(i, 0), len(l.Items)), a[1:])
		})
	case "pop":
		return positional(name, 0, 1, func(a []any) (any, error) {
			i := len(l.Items) - 1
			if len(a) > 0 {
				var err error
				if i, err = intArg(a[0], 0); err != nil {
					return nil, err
				}
				if i < 0 {
					i += len(l.Items)
				}
			}
			if i < 0 || i >= len(l.Items) {
				return nil, errorf("the list has no such element to take out")
			}
			v := l.Items[i]
			l.Items = slices.Delete(l.Items, i, i+1)
			return v, nil
		})
	case "remove":
		return positional(name, 1, 1, func(a []any) (any, error) {
			i, err := indexIn(l.Items, a)
			if err == nil {
				l.Items = slices.Delete(l.Items, i.(int), i.(int)+1)
			}
			return nil, err
		})
	case "clear":
		return positional(name, 0, 0, func([]any) (any, error) { l.Items = nil; return nil, nil })
	case "copy":
		return positional(name, 0, 0, func([]any) (any, error) { return &List{slices.Clone(l.Items)}, nil })
	case "reverse":
		return positional(name, 0, 0, func([]any) (any, error) { slices.Reverse(l.Items); return nil, nil })
	case "count":
		return positional(name, 1, 1, func(a []any) (any, error) { return countIn(l.Items, a[0]) })
	case "index":
		return positional(name, 1, 3, func(a []any) (any, error) { return indexIn(l.Items, a) })
	case "sort":
		return func(args []any, named *Dict) (any, error) {
			reverse, _ := named.Get("reverse")
			if len(args) > 0 || named.Len() > 1 || named.Len() == 1 && named.keys[0] != "reverse" {
				return nil, errorf("sort takes reverse alone: use the filter sort")
			}
			return nil, sortBy(l.Items, func(v any) (any, error) { return v, nil }, truth(reverse))
		}
	}
	return nil
}

func (l *List) grow(at int, more []any) error {
	if len(l.Items)+len(more) > maxItems {
		return errTooLong
	}
	l.Items = slices.Insert(l.Items, at, more...)
	return nil
}

// sortBy sorts by a key, and keeps the order of equals, also if it is reversed.
func sortBy(items []any, key func(any) (any, error), reverse bool) error {
	type keyed struct{ key, item any }
	all := make([]keyed, len(items))
	for i, item := range items {
		k, err := key(item)
		if err != nil {
			return err
		}
		if u, ok := k.(*undefined); ok && len(items) > 1 {
			return u.err()
		}
		all[i] = keyed{k, item}
	}
	var failed error
	slices.SortStableFunc(all, func(a, b keyed) int {
		c, err := compare(a.key, b.key, new(walk))
		if err != nil {
			failed = err
		}
		if reverse {
			return -c
		}
		return c
	})
	if failed != nil {
		return failed
	}
	for i := range all {
		items[i] = all[i].item
	}
	return nil
}

func dictMethod(d *Dict, name string) Func {
	switch name {
	case "get":
		return positional(name, 1, 2, func(a []any) (any, error) {
			if _, err := hashArg(a[0]); err != nil {
				return nil, err
			}
			if v, ok := d.Get(a[0]); ok {
				return v, nil
			}
			if len(a) > 1 {
				return a[1], nil
			}
			return nil, nil
		})
	case "keys", "values", "items":
		return positional(name, 0, 0, func([]any) (any, error) { return view{name, d}, nil })
	case "copy":
		return positional(name, 0, 0, func([]any) (any, error) { return d.copy(), nil })
	case "clear":
		return positional(name, 0, 0, func([]any) (any, error) { d.clear(); return nil, nil })
	case "pop":
		return positional(name, 1, 2, func(a []any) (any, error) {
			if _, err := hashArg(a[0]); err != nil {
				return nil, err
			}
			if v, ok := d.remove(a[0]); ok {
				return v, nil
			}
			if len(a) > 1 {
				return a[1], nil
			}
			return nil, errorf("the dict has no such key to take out")
		})
	case "popitem":
		return positional(name, 0, 0, func([]any) (any, error) {
			if err := d.ordered(); err != nil {
				return nil, err
			}
			if d.Len() == 0 {
				return nil, errorf("the dict is empty")
			}
			key := d.keys[d.Len()-1]
			v, _ := d.remove(key)
			return Tuple{key, v}, nil
		})
	case "setdefault":
		return positional(name, 1, 2, func(a []any) (any, error) {
			if v, ok := d.Get(a[0]); ok {
				return v, nil
			}
			var v any
			if len(a) > 1 {
				v = a[1]
			}
			return v, d.Set(a[0], v)
		})
	case "update":
		return func(args []any, named *Dict) (any, error) {
			more, err := dictOf(args, named)
			if err == nil {
				d.update(more)
			}
			return nil, err
		}
	}
	return nil
}

func hashArg(v any) (any, error) {
	if u, ok := v.(*undefined); ok {
		return nil, u.err()
	}
	return hash(v)
}

// dictOf is Python's dict(…).
func dictOf(args []any, named *Dict) (*Dict, error) {
	d := NewDict()
	if len(args) > 1 {
		return nil, errorf("a dict is made of one value at most, and of named ones")
	}
	if len(args) == 1 {
		switch v := args[0].(type) {
		case *Dict:
			d.update(v)
		case *namespace:
			return nil, errorf("a dict cannot be made of a namespace")
		default:
			pairs, err := elements(v)
			if err != nil {
				return nil, err
			}
			for _, pair := range pairs {
				two, err := elements(pair)
				if err != nil {
					return nil, err
				}
				if len(two) != 2 {
					return nil, errorf("a dict is made of pairs")
				}
				if err := d.Set(two[0], two[1]); err != nil {
					return nil, err
				}
			}
		}
	}
	d.update(named)
	return d, nil
}

func setMethod(s *Set, name string) Func {
	others := func(combine func(all *Set, other []any) error) Func {
		return positional(name, 0, 100, func(args []any) (any, error) {
			result := &Set{s.dict.copy()}
			for _, arg := range args {
				items, err := collect(arg, false)
				if err != nil {
					return nil, err
				}
				if err := combine(result, items); err != nil {
					return nil, err
				}
			}
			return result, nil
		})
	}
	switch name {
	case "add":
		return positional(name, 1, 1, func(a []any) (any, error) { return nil, s.add(a[0]) })
	case "discard", "remove":
		return positional(name, 1, 1, func(a []any) (any, error) {
			if _, err := hashArg(a[0]); err != nil {
				return nil, err
			}
			if _, ok := s.dict.remove(a[0]); !ok && name == "remove" {
				return nil, errorf("the set has no such element")
			}
			return nil, nil
		})
	case "copy":
		return positional(name, 0, 0, func([]any) (any, error) { return &Set{s.dict.copy()}, nil })
	case "clear":
		return positional(name, 0, 0, func([]any) (any, error) { s.dict.clear(); return nil, nil })
	case "update":
		return positional(name, 0, 100, func(args []any) (any, error) {
			for _, arg := range args {
				items, err := collect(arg, false)
				if err != nil {
					return nil, err
				}
				if err := s.addAll(items); err != nil {
					return nil, err
				}
			}
			return nil, nil
		})
	case "union":
		return others((*Set).addAll)
	case "difference":
		return others(func(all *Set, other []any) error {
			for _, v := range other {
				if _, err := hashArg(v); err != nil {
					return err
				}
				all.dict.remove(v)
			}
			return nil
		})
	case "intersection":
		return others(func(all *Set, other []any) error {
			kept := newSet()
			for _, v := range other {
				if _, err := hashArg(v); err != nil {
					return err
				}
				if _, ok := all.dict.Get(v); ok {
					_ = kept.add(v)
				}
			}
			*all = *kept
			return nil
		})
	case "issubset", "issuperset", "isdisjoint":
		return positional(name, 1, 1, func(a []any) (any, error) {
			other := newSet()
			items, err := collect(a[0], false)
			if err == nil {
				err = other.addAll(items)
			}
			if err != nil {
				return nil, err
			}
			switch name {
			case "issubset":
				return s.without(other).dict.Len() == 0, nil
			case "issuperset":
				return other.without(s).dict.Len() == 0, nil
			}
			return s.without(other).dict.Len() == s.dict.Len(), nil
		})
	}
	return nil
}

func (s *Set) add(v any) error {
	if _, ok := s.dict.Get(v); ok {
		return nil
	}
	if _, err := hashArg(v); err != nil {
		return err
	}
	return s.dict.Set(v, nil)
}

func (s *Set) addAll(items []any) error {
	for _, v := range items {
		if err := s.add(v); err != nil {
			return err
		}
	}
	return nil
}
