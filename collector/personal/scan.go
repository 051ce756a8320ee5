package personal

import (
	"encoding/base64"
	"strings"
	"unicode/utf8"
)

// mark says what a byte could be the sign of.
type mark uint8

const (
	none    mark = iota
	end          // ends a word
	at           // of an e-mail address
	digit        // of a number, or of an IBAN
	sign         // '+' or '(', with which a number may begin
	colon        // of an IPv6 address, or of a header or a member in JSON
	equals       // of a parameter
	jay          // the third letter of a JSON Web Token
	hundred      // '%', of an encoded text
	odd          // of a letter that stands for another, or of an escape
)

var marks = func() (table [256]mark) {
	for c := range 256 {
		b := byte(c)
		switch {
		case isDigit(b):
			table[c] = digit
		case b >= utf8.RuneSelf:
			table[c] = odd
		case !isLetter(b) && b != '/' && b != '-' && b != '_':
			table[c] = end
		}
	}
	for c, m := range map[byte]mark{
		'@': at, '+': sign, '(': sign, ':': colon, '=': equals, 'J': jay, '%': hundred, '\\': odd, '&': odd,
	} {
		table[c] = m
	}
	return table
}()

// scan is one look at a text.
type scan struct {
	detector Detector
	key      string
	text     string
	inner    bool // the text was encoded in another
	found    []Finding
	encoded  bool // there may be more in what the text stands for
	folds    bool // there may be more once it is folded
	word     int  // where the bytes began that could be base64
	checks   int  // how often the numbering plans were asked

	groups [maxGroups]group // memory for the number at hand
	digits [maxDigits]byte
}

// minBase64 is how long base64 of anything personal is at least.
const minBase64 = 12

// run looks once at each byte.
func (s *scan) run() {
	text := s.text
	for i := 0; i < len(text); i++ {
		m := marks[text[i]]
		if m == none {
			continue
		}
		next := s.look(i, m)
		if next > i+1 {
			i, s.word = next-1, next
		}
	}
	s.endWord(len(text))
}

// look checks what could be at i, and returns where to go on; i or less is the
// next byte.
func (s *scan) look(i int, m mark) int {
	switch m {
	case end:
		s.endWord(i)
	case at:
		s.endWord(i)
		return s.email(i)
	case digit:
		if next := s.iban(i); next > i {
			return next
		}
		return s.number(i)
	case sign:
		if s.text[i] == '(' {
			s.endWord(i)
		}
		return s.number(i)
	case colon:
		s.endWord(i)
		if next := s.ipv6(i); next > i {
			return next
		}
		return s.header(i)
	case equals:
		s.endWord(i)
		return s.parameter(i)
	case jay:
		return s.token(i)
	case hundred:
		s.endWord(i)
		s.encoded = s.encoded || i+2 < len(s.text) && isHex(s.text[i+1]) && isHex(s.text[i+2])
	case odd:
		s.endWord(i)
		if to, size := foldAt(s.text[i:]); to != s.text[i:i+size] {
			s.folds = true
		}
	case none:
	}
	return i
}

func (s *scan) add(start, end int, kind Kind) { s.found = append(s.found, Finding{start, end, kind}) }

// endWord looks whether the bytes before i are base64 of something personal.
func (s *scan) endWord(i int) {
	start := s.word
	s.word = i + 1
	if i-start < minBase64 || s.inner {
		return
	}
	if s.base64(start, i) {
		return
	}
	for j := start; j <= i; j++ { // a segment of a path may be it
		if j == i || s.text[j] == '/' {
			if j-start >= minBase64 {
				s.base64(start, j)
			}
			start = j + 1
		}
	}
}

// base64 decodes once.
func (s *scan) base64(start, end int) bool {
	word := s.text[start:end]
	if !printable(word[:8]) {
		return false
	}
	decoded, ok := decodeBase64(word)
	if !ok {
		return false
	}
	found, _ := s.detector.look(s.key, decoded, true)
	if len(found) == 0 {
		return false
	}
	for end < len(s.text) && s.text[end] == '=' {
		end++
	}
	s.add(start, end, found[0].Kind)
	return true
}

// printable tells whether eight letters of base64 are text. Nearly no words are.
func printable(word string) bool {
	var from [8]byte
	var to [6]byte
	copy(from[:], word)
	for i, c := range from {
		switch c {
		case '-':
			from[i] = '+'
		case '_':
			from[i] = '/'
		}
	}
	n, err := base64.RawStdEncoding.Decode(to[:], from[:])
	if err != nil {
		return false
	}
	for at := 0; at < n; {
		r, size := utf8.DecodeRune(to[at:n])
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f || r == utf8.RuneError && utf8.FullRune(to[at:n]) {
			return false
		}
		at += size
	}
	return true
}

func decodeBase64(word string) (string, bool) {
	if len(word)%4 == 1 { // a letter alone stands for no byte
		word = word[:len(word)-1]
	}
	var small [256]byte
	encoding, decoded := base64.RawStdEncoding, small[:]
	if strings.ContainsAny(word, "-_") {
		encoding = base64.RawURLEncoding
	}
	if len(word) > len(small) {
		decoded = make([]byte, len(word))
	}
	n, err := encoding.Decode(decoded, []byte(word))
	if err != nil || !utf8.Valid(decoded[:n]) {
		return "", false
	}
	return string(decoded[:n]), true
}

func isDigit(c byte) bool     { return c >= '0' && c <= '9' }
func isLetter(c byte) bool    { return c|0x20 >= 'a' && c|0x20 <= 'z' }
func isAlnum(c byte) bool     { return isDigit(c) || isLetter(c) }
func isHex(c byte) bool       { return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'f' }
func isSpace(c byte) bool     { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }
func isBase64URL(c byte) bool { return isAlnum(c) || c == '-' || c == '_' || c == '=' }
