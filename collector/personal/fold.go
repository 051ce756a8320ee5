package personal

import (
	"iter"
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// fold writes a text with the letters that its letters stand for: full-width
// forms, digits of other scripts, spaces and dashes of any width, and what HTML
// and JSON escape; without letters that nobody sees. places has the place in the
// text of each byte of it, and of its end.
func fold(text string) (folded string, places []int, changed bool) {
	b := make([]byte, 0, len(text))
	places = make([]int, 0, len(text)+1)
	for i := 0; i < len(text); {
		to, size := foldAt(text[i:])
		if to != text[i:i+size] {
			changed = true
		}
		for j := range len(to) {
			b = append(b, to[j])
			places = append(places, i+min(j, size-1))
		}
		i += size
	}
	return string(b), append(places, len(text)), changed
}

// restored are findings in a folded text, as of the text.
func restored(found []Finding, places []int) []Finding {
	for i, f := range found {
		found[i].Start, found[i].End = places[f.Start], places[f.End]
	}
	return found
}

// foldAt is what the first letter of a text stands for, and how many bytes it has.
func foldAt(text string) (to string, size int) {
	switch c := text[0]; {
	case c == '&':
		return foldEntity(text)
	case c == '\\':
		return foldEscape(text)
	case c < utf8.RuneSelf:
		return text[:1], 1
	}
	r, size := utf8.DecodeRuneInString(text)
	if unicode.IsLetter(r) && r < '！' {
		return text[:size], size // most of what is not ASCII
	}
	return foldRune(r, text[:size]), size
}

func foldRune(r rune, as string) string {
	switch {
	case r >= '！' && r <= '～': // the full-width forms of ! to ~
		return string(r - '！' + '!')
	case r == '。' || r == '｡':
		return "."
	case r == '﹫':
		return "@"
	case unicode.Is(unicode.Nd, r):
		return string('0' + digitOf(r))
	case unicode.Is(unicode.Zs, r):
		return " "
	case unicode.Is(unicode.Pd, r) || r == '\u2212':
		return "-"
	case unicode.Is(unicode.Cf, r): // joiners, marks of direction, soft hyphens
		return ""
	}
	return as
}

// digitOf is the value of a decimal digit: their blocks of ten begin with zero.
func digitOf(r rune) rune {
	for _, block := range unicode.Nd.R16 {
		if lo := rune(block.Lo); r >= lo && r <= rune(block.Hi) {
			return (r - lo) % 10
		}
	}
	for _, block := range unicode.Nd.R32 {
		if lo := rune(block.Lo); r >= lo && r <= rune(block.Hi) {
			return (r - lo) % 10
		}
	}
	return 0
}

// foldEntity reads &#64; &#x40; and &commat;.
func foldEntity(text string) (to string, size int) {
	const longest = 10
	semicolon := strings.IndexByte(text[:min(len(text), longest)], ';')
	if semicolon < 3 {
		return text[:1], 1
	}
	name := text[1:semicolon]
	for entity, letter := range map[string]string{"commat": "@", "plus": "+", "period": ".", "nbsp": " "} {
		if name == entity {
			return letter, semicolon + 1
		}
	}
	number, base := strings.CutPrefix(name, "#")
	if !base {
		return text[:1], 1
	}
	radix := 10
	if hex, ok := strings.CutPrefix(strings.ToLower(number), "x"); ok {
		number, radix = hex, 16
	}
	if code, err := strconv.ParseUint(number, radix, 8); err == nil && code >= ' ' && code < utf8.RuneSelf {
		return string(rune(code)), semicolon + 1
	}
	return text[:1], 1
}

// foldEscape reads a letter written as in JSON, which a text within a text may
// be.
func foldEscape(text string) (to string, size int) {
	if len(text) >= 6 && text[1] == 'u' {
		if code, err := strconv.ParseUint(text[2:6], 16, 16); err == nil && code >= ' ' && code < utf8.RuneSelf {
			return string(rune(code)), 6
		}
	}
	return text[:1], 1
}

// Decodings are what a percent-encoded text stands for, and what that does, some
// times over. What is no encoding is taken as it is.
func Decodings(text string) iter.Seq[string] {
	return func(yield func(string) bool) {
		const most = 3
		for range most {
			decoded := decode(text)
			if decoded == text || !yield(decoded) {
				return
			}
			text = decoded
		}
	}
}

func decode(text string) string {
	if decoded, err := url.QueryUnescape(text); err == nil {
		return decoded
	}
	b := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '+':
			b = append(b, ' ')
		case c == '%' && i+2 < len(text) && isHex(text[i+1]) && isHex(text[i+2]):
			n, _ := strconv.ParseUint(text[i+1:i+3], 16, 8) // two hexadecimal digits
			b = append(b, byte(n))
			i += 2
		default:
			b = append(b, c)
		}
	}
	return string(b)
}
