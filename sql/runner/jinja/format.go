package jinja

import (
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// percent is Python's format % values.
func percent(format string, values any) (any, error) {
	args, isTuple := values.(Tuple)
	if !isTuple {
		args = Tuple{values}
	}
	named, _ := values.(*Dict)
	var b strings.Builder
	used, usesNames := 0, false
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			b.WriteByte(format[i])
			continue
		}
		s, width, err := readSpec(format[i+1:])
		if err != nil {
			return nil, err
		}
		i += width
		if s.kind == '%' {
			b.WriteByte('%')
			continue
		}
		var v any
		switch {
		case s.key != nil:
			if named == nil {
				return nil, errorf("%%(%s) takes a dict", *s.key)
			}
			found, ok := named.Get(*s.key)
			if !ok {
				return nil, errorf("there is no %s in the dict that is formatted", *s.key)
			}
			v, usesNames = found, true
		case used < len(args):
			v = args[used]
			used++
		default:
			return nil, errorf("there are fewer values than %% in the format")
		}
		text, err := s.percent(v)
		if err != nil {
			return nil, err
		}
		if b.Len()+len(text) > maxText {
			return nil, errTooLong
		}
		b.WriteString(text)
	}
	_, isList := values.(*List)
	if used < len(args) && !usesNames && (isTuple || named == nil && !isList) {
		return nil, errorf("there are more values than %% in the format")
	}
	return b.String(), nil
}

// spec is how a value is to be formatted.
type spec struct {
	key       *string
	left      bool // flags
	zero      bool
	alternate bool
	sign      byte
	fill      string // of str.format
	align     byte
	grouping  string
	width     int
	precision int // -1: none
	kind      byte
}

const maxWidth = 10_000

func readSpec(s string) (spec, int, error) {
	wrong := errorf("the format %q is not complete, or not supported", "%"+s[:min(len(s), 10)])
	found := spec{precision: -1}
	i := 0
	if strings.HasPrefix(s, "(") {
		end := strings.IndexByte(s, ')')
		if end < 0 || strings.Contains(s[1:end], "(") {
			return spec{}, 0, wrong
		}
		key := s[1:end]
		found.key, i = &key, end+1
	}
flags:
	for ; i < len(s); i++ {
		switch s[i] {
		case '-':
			found.left = true
		case '0':
			found.zero = true
		case '#':
			found.alternate = true
		case '+':
			found.sign = '+'
		case ' ':
			if found.sign == 0 {
				found.sign = ' '
			}
		default:
			break flags
		}
	}
	digits := func() int {
		n := 0
		for ; i < len(s) && s[i] >= '0' && s[i] <= '9'; i++ {
			n = min(n*10+int(s[i]-'0'), maxWidth+1)
		}
		return n
	}
	found.width = digits()
	if i < len(s) && s[i] == '.' {
		i++
		found.precision = digits()
	}
	if i < len(s) && strings.IndexByte("hlL", s[i]) >= 0 {
		i++
	}
	if i >= len(s) || strings.IndexByte("diouxXeEfFgGcrsa%", s[i]) < 0 || max(found.width, found.precision) > maxWidth {
		return spec{}, 0, wrong
	}
	found.kind = s[i]
	if found.kind == '%' && i > 0 {
		return spec{}, 0, wrong
	}
	return found, i + 1, nil
}

func (s spec) percent(v any) (string, error) {
	var text string
	var err error
	switch s.kind {
	case 's', 'r', 'a':
		if s.kind == 's' {
			text, err = str(v)
		} else if _, ok := v.(*Object); ok {
			err = errorf("%%r of this is not supported: use %%s")
		} else if text, err = repr(v, new(walk)); s.kind == 'a' && !isASCII(text) {
			err = errorf("%%a of a text that is not ASCII is not supported: use %%r")
		}
		if err != nil {
			return "", err
		}
		if runes := []rune(text); s.precision >= 0 && s.precision < len(runes) {
			text = string(runes[:s.precision])
		}
		return s.pad(text), nil
	case 'c':
		if one, ok := v.(string); ok && utf8.RuneCountInString(one) == 1 {
			return s.pad(one), nil
		}
		if i, ok := v.(int); ok && i >= 0 && i <= utf8.MaxRune && utf8.ValidRune(rune(i)) {
			return s.pad(string(rune(i))), nil
		}
		return "", errorf("%%c takes one character")
	case 'd', 'i', 'u', 'o', 'x', 'X':
		return s.integer(v)
	}
	_, f, _, ok := number(v)
	if !ok {
		return "", errorf("%%%c takes a number, and this is a %s", s.kind, typeName(v))
	}
	return s.float(f), nil
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func (s spec) integer(v any) (string, error) {
	i, f, isInt, ok := number(v)
	if !ok || !isInt && (s.kind != 'd' && s.kind != 'i' && s.kind != 'u' || math.Abs(f) >= 1<<53 || math.IsNaN(f)) {
		return "", errorf("%%%c takes an int, and this is a %s", s.kind, typeName(v))
	}
	if !isInt {
		i = int(f)
	}
	if i == math.MinInt {
		return "", errOverflow
	}
	base, prefix := 10, ""
	switch s.kind {
	case 'o':
		base, prefix = 8, "0o"
	case 'x':
		base, prefix = 16, "0x"
	case 'X':
		base, prefix = 16, "0X"
	}
	digits := strconv.FormatInt(int64(abs(i)), base)
	if s.kind == 'X' {
		digits = strings.ToUpper(digits)
	}
	if s.precision > len(digits) {
		digits = strings.Repeat("0", s.precision-len(digits)) + digits
	}
	if !s.alternate {
		prefix = ""
	}
	return s.padNumber(i < 0, prefix, digits), nil
}

func (s spec) float(f float64) string {
	negative := math.Signbit(f) && !math.IsNaN(f)
	if math.IsInf(f, 0) || math.IsNaN(f) {
		s.zero = false
		text := strings.TrimPrefix(floatText(f), "-")
		if s.kind < 'a' {
			text = strings.ToUpper(text)
		}
		return s.padNumber(negative, "", text)
	}
	precision := s.precision
	if precision < 0 {
		precision = 6
	}
	return s.padNumber(negative, "", floatDigits(math.Abs(f), s.kind, precision, s.alternate))
}

// floatDigits writes a float that is not negative as C does.
func floatDigits(f float64, kind byte, precision int, alternate bool) string {
	upper := kind < 'a'
	var text string
	switch kind | 0x20 {
	case 'f':
		text = strconv.FormatFloat(f, 'f', precision, 64)
		if alternate && precision == 0 {
			text += "."
		}
	case 'e':
		text = strconv.FormatFloat(f, 'e', precision, 64)
		if alternate && precision == 0 {
			text = strings.Replace(text, "e", ".e", 1)
		}
	default: // g
		precision = max(precision, 1)
		e := strconv.FormatFloat(f, 'e', precision-1, 64)
		exponent, _ := strconv.Atoi(e[strings.IndexByte(e, 'e')+1:])
		mantissa, tail := e[:strings.IndexByte(e, 'e')], e[strings.IndexByte(e, 'e'):]
		if exponent >= -4 && exponent < precision {
			mantissa, tail = strconv.FormatFloat(f, 'f', max(precision-1-exponent, 0), 64), ""
		}
		if !alternate && strings.Contains(mantissa, ".") {
			mantissa = strings.TrimRight(strings.TrimRight(mantissa, "0"), ".")
		} else if alternate && !strings.Contains(mantissa, ".") {
			mantissa += "."
		}
		text = mantissa + tail
	}
	if upper {
		text = strings.ToUpper(text)
	}
	return text
}

func (s spec) pad(text string) string {
	missing := s.width - utf8.RuneCountInString(text)
	if missing <= 0 {
		return text
	}
	if s.left {
		return text + strings.Repeat(" ", missing)
	}
	return strings.Repeat(" ", missing) + text
}

func (s spec) padNumber(negative bool, prefix, digits string) string {
	sign := ""
	switch {
	case negative:
		sign = "-"
	case s.sign == '+' || s.sign == ' ':
		sign = string(s.sign)
	}
	if missing := s.width - len(sign+prefix+digits); s.zero && !s.left && missing > 0 {
		digits = strings.Repeat("0", missing) + digits
	}
	return s.pad(sign + prefix + digits)
}

// braces is Python's format.format(…).
func braces(r *run, format string, args []any, named *Dict) (any, error) {
	f := &braceFormat{r: r, args: args, named: named, next: 0}
	text, err := f.render(format, 0)
	return text, err
}

type braceFormat struct {
	r      *run
	args   []any
	named  *Dict
	next   int
	manual bool
}

func (f *braceFormat) render(format string, depth int) (string, error) {
	wrong := errorf("the format %s is not complete", quoted(format[:min(len(format), 60)]))
	if depth > 1 {
		return "", wrong
	}
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		switch c := format[i]; {
		case (c == '{' || c == '}') && i+1 < len(format) && format[i+1] == c && depth == 0:
			b.WriteByte(c)
			i++
		case c == '{':
			end := closingBrace(format[i+1:])
			if end < 0 {
				return "", wrong
			}
			text, err := f.field(format[i+1:i+1+end], depth)
			if err != nil {
				return "", err
			}
			if b.Len()+len(text) > maxText {
				return "", errTooLong
			}
			b.WriteString(text)
			i += 1 + end
		case c == '}':
			return "", wrong
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), nil
}

func closingBrace(s string) int {
	depth := 0
	for i := range len(s) {
		switch s[i] {
		case '{':
			depth++
		case '}':
			if depth == 0 {
				return i
			}
			depth--
		}
	}
	return -1
}

func (f *braceFormat) field(field string, depth int) (string, error) {
	name, format, _ := strings.Cut(field, ":")
	name, conversion, _ := strings.Cut(name, "!")
	if strings.ContainsAny(name, "{}") {
		return "", errorf("the format {%s} is not supported", field)
	}
	v, err := f.lookup(name)
	if err != nil {
		return "", err
	}
	switch conversion {
	case "":
		if strings.Contains(field, "!") && !strings.Contains(format, "!") {
			return "", errorf("the format {%s} is not complete", field)
		}
	case "r":
		v, err = repr(v, new(walk))
	case "s":
		v, err = str(v)
	default:
		err = errorf("the conversion !%s is not supported", conversion)
	}
	if err != nil {
		return "", err
	}
	if strings.ContainsAny(format, "{}") {
		if format, err = f.render(format, depth+1); err != nil {
			return "", err
		}
	}
	return formatted(v, format)
}

func (f *braceFormat) lookup(name string) (any, error) {
	first := name
	if i := strings.IndexAny(name, ".["); i >= 0 {
		first = name[:i]
	}
	v, err := f.root(first)
	for rest := name[len(first):]; rest != "" && err == nil; {
		if rest[0] == '.' {
			end := strings.IndexAny(rest[1:], ".[")
			if end < 0 {
				end = len(rest) - 1
			}
			var ok bool
			if v, ok, err = f.r.member(v, rest[1:1+end]); err == nil && !ok {
				err = errorf("there is no attribute %s", rest[1:1+end])
			}
			rest = rest[1+end:]
			continue
		}
		end := strings.IndexByte(rest, ']')
		if end < 0 {
			return nil, errorf("the format {%s} is not complete", name)
		}
		var key any = rest[1:end]
		if i, err := strconv.Atoi(rest[1:end]); err == nil && rest[1] != '-' && rest[1] != '+' {
			key = i
		}
		var ok bool
		if v, ok, err = item(v, key); err == nil && !ok {
			err = errorf("there is no element %s", rest[1:end])
		}
		if rest = rest[end+1:]; rest != "" && rest[0] != '.' && rest[0] != '[' {
			return nil, errorf("the format {%s} is not complete", name)
		}
	}
	return v, err
}

func (f *braceFormat) root(name string) (any, error) {
	i, err := strconv.Atoi(name)
	switch {
	case name == "":
		if f.manual {
			return nil, errorf("{} and {0} cannot be used in one format")
		}
		i = f.next
		f.next++
	case err == nil && name[0] != '-' && name[0] != '+':
		if f.next > 0 {
			return nil, errorf("{} and {0} cannot be used in one format")
		}
		f.manual = true
	default:
		v, ok := f.named.Get(name)
		if !ok {
			return nil, errorf("the format names %s, which is not given", name)
		}
		return v, nil
	}
	if i >= len(f.args) {
		return nil, errorf("the format takes more values than are given")
	}
	return f.args[i], nil
}

// formatted writes a value by a specification of str.format.
func formatted(v any, format string) (string, error) {
	if format == "" {
		return str(v)
	}
	s, err := readFormat(format)
	if err != nil {
		return "", err
	}
	unknown := errorf("the format %q is not supported for a %s", format, typeName(v))
	switch v := v.(type) {
	case string:
		if s.kind != 0 && s.kind != 's' || s.sign != 0 || s.alternate || s.grouping != "" || s.align == '=' {
			return "", unknown
		}
		if runes := []rune(v); s.precision >= 0 && s.precision < len(runes) {
			v = string(runes[:s.precision])
		}
		return s.aligned("", v, '<'), nil
	case bool:
		i, _ := integer(v)
		return s.formatInt(i, unknown)
	case int:
		return s.formatInt(v, unknown)
	case float64:
		return s.formatFloat(v, unknown)
	}
	return "", unknown
}

func readFormat(format string) (spec, error) {
	s := spec{precision: -1, fill: " "}
	wrong := errorf("the format %q is not supported", format)
	rest := []rune(format)
	filled := len(rest) > 1 && strings.ContainsRune("<>=^", rest[1])
	switch {
	case filled:
		s.fill, s.align, rest = string(rest[0]), byte(rest[1]), rest[2:]
	case strings.ContainsRune("<>=^", rest[0]):
		s.align, rest = byte(rest[0]), rest[1:]
	}
	take := func(chars string) byte {
		if len(rest) > 0 && rest[0] < utf8.RuneSelf && strings.ContainsRune(chars, rest[0]) {
			c := byte(rest[0])
			rest = rest[1:]
			return c
		}
		return 0
	}
	number := func() int {
		n := -1
		for c := take("0123456789"); c != 0; c = take("0123456789") {
			n = min(max(n, 0)*10+int(c-'0'), maxWidth+1)
		}
		return n
	}
	s.sign = take("+- ")
	s.alternate = take("#") != 0
	if take("0") != 0 {
		s.zero = true
		if s.align == 0 {
			s.align = '='
		}
		if s.fill == " " && !filled {
			s.fill = "0"
		}
	}
	s.width = max(number(), 0)
	if c := take(",_"); c != 0 {
		s.grouping = string(c)
	}
	if take(".") != 0 {
		if s.precision = number(); s.precision < 0 {
			return s, wrong
		}
	}
	s.kind = take("bcdeEfFgGnosxX%")
	if len(rest) > 0 || s.kind == 'n' || s.kind == 'c' || max(s.width, s.precision) > maxWidth {
		return s, wrong
	}
	if s.align == '=' && s.grouping != "" && s.width > 0 && s.fill == "0" {
		return s, wrong // the zeros would be grouped, too
	}
	return s, nil
}

func (s spec) formatInt(v int, unknown error) (string, error) {
	base := map[byte]int{0: 10, 'd': 10, 'b': 2, 'o': 8, 'x': 16, 'X': 16}[s.kind]
	if base == 0 {
		if s.kind == 's' {
			return "", unknown
		}
		return s.formatFloat(float64(v), unknown)
	}
	if s.precision >= 0 || v == math.MinInt || s.grouping != "" && base != 10 {
		return "", unknown
	}
	digits := group(strconv.FormatInt(int64(abs(v)), base), s.grouping)
	prefix := ""
	if s.alternate && base != 10 {
		prefix = "0" + string(s.kind)
	}
	if s.kind == 'X' {
		digits = strings.ToUpper(digits)
	}
	return s.aligned(s.signOf(v < 0)+prefix, digits, '>'), nil
}

func (s spec) signOf(negative bool) string {
	switch {
	case negative:
		return "-"
	case s.sign == '+' || s.sign == ' ':
		return string(s.sign)
	}
	return ""
}

func (s spec) formatFloat(f float64, unknown error) (string, error) {
	if math.IsInf(f, 0) || math.IsNaN(f) || s.alternate {
		return "", unknown
	}
	negative, suffix := math.Signbit(f), ""
	f = math.Abs(f)
	precision := s.precision
	var digits string
	switch s.kind {
	case 0:
		if precision >= 0 {
			return "", unknown
		}
		digits = floatText(f)
	case '%':
		if f *= 100; math.IsInf(f, 0) {
			return "", errOverflow
		}
		s.kind, suffix = 'f', "%"
		fallthrough
	case 'e', 'E', 'f', 'F', 'g', 'G':
		if precision < 0 {
			precision = 6
		}
		digits = floatDigits(f, s.kind, precision, false)
	default:
		return "", unknown
	}
	if s.grouping != "" {
		whole, tail := digits, ""
		if i := strings.IndexAny(digits, ".eE"); i >= 0 {
			whole, tail = digits[:i], digits[i:]
		}
		digits = group(whole, s.grouping) + tail
	}
	return s.aligned(s.signOf(negative), digits+suffix, '>'), nil
}

func group(digits, separator string) string {
	if separator == "" {
		return digits
	}
	var b strings.Builder
	for i := range len(digits) {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteString(separator)
		}
		b.WriteByte(digits[i])
	}
	return b.String()
}

func (s spec) aligned(sign, text string, otherwise byte) string {
	missing := s.width - utf8.RuneCountInString(sign+text)
	if missing <= 0 {
		return sign + text
	}
	align := s.align
	if align == 0 {
		align = otherwise
	}
	switch align {
	case '<':
		return sign + text + strings.Repeat(s.fill, missing)
	case '=':
		return sign + strings.Repeat(s.fill, missing) + text
	case '^':
		return strings.Repeat(s.fill, missing/2) + sign + text + strings.Repeat(s.fill, missing-missing/2)
	}
	return strings.Repeat(s.fill, missing) + sign + text
}
