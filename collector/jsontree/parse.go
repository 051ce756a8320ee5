package jsontree

import (
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// parser walks the text once, without recursion.
type parser struct {
	*Tree
	at int // in the text; where it stopped, if it failed
}

// parse tells whether the text is JSON.
func (p *parser) parse() bool {
	if !p.value() {
		return false
	}
	for len(p.open) > 0 {
		if !p.member() {
			return false
		}
	}
	p.space()
	return p.at == len(p.text)
}

// value reads a scalar, or the bracket that opens a container.
func (p *parser) value() bool {
	p.space()
	switch c := p.peek(); c {
	case '"':
		return p.str()
	case '{':
		return p.begin(Object)
	case '[':
		return p.begin(Array)
	case 't':
		return p.literal("true", True)
	case 'f':
		return p.literal("false", False)
	case 'n':
		return p.literal("null", Null)
	default:
		return (c == '-' || isDigit(c)) && p.number()
	}
}

// member reads what is next in the innermost container: the bracket that closes
// it, or a member or element, which may open another.
func (p *parser) member() bool {
	top := p.open[len(p.open)-1]
	object, first := p.nodes[top].kind == Object, len(p.nodes) == int(top)+1
	p.space()
	switch c := p.peek(); {
	case c == '}' && object, c == ']' && !object:
		p.at++
		p.end(top)
		return true
	case c == ',' && !first:
		p.at++
		p.space()
	case !first:
		return false
	}
	if object {
		if p.peek() != '"' || !p.str() {
			return false
		}
		p.space()
		if p.peek() != ':' {
			return false
		}
		p.at++
	}
	return p.value()
}

func (p *parser) begin(kind Kind) bool {
	p.open = append(p.open, int32(len(p.nodes)))
	p.nodes = append(p.nodes, node{kind: kind, start: int32(p.at)})
	p.at++
	return true
}

func (p *parser) end(top int32) {
	p.open = p.open[:len(p.open)-1]
	n := &p.nodes[top]
	n.end, n.next = int32(p.at), int32(len(p.nodes))
	if n.kind == Object {
		p.shadow(top)
	}
}

// manyMembers is the number from which a map finds equal names faster than
// comparing each with each.
const manyMembers = 24

// shadow marks the members of an object that a later one of the same name
// takes the place of.
func (p *parser) shadow(object int32) {
	var few [manyMembers]int32
	names := few[:0]
	for at := object + 1; at < p.nodes[object].next; at = p.nodes[at+1].next {
		names = append(names, at)
	}
	if len(names) > manyMembers {
		last := make(map[string]int32, len(names))
		for _, at := range names {
			name := p.content(&p.nodes[at])
			if earlier, ok := last[name]; ok {
				p.nodes[earlier].dead = true
			}
			last[name] = at
		}
		return
	}
	for i, later := range names {
		for _, earlier := range names[:i] {
			if p.content(&p.nodes[earlier]) == p.content(&p.nodes[later]) {
				p.nodes[earlier].dead = true
			}
		}
	}
}

func (p *parser) scalar(n node) bool {
	n.next = int32(len(p.nodes)) + 1
	p.nodes = append(p.nodes, n)
	return true
}

func (p *parser) literal(word string, kind Kind) bool {
	start := p.at
	if !strings.HasPrefix(p.text[start:], word) {
		return false
	}
	p.at += len(word)
	return p.scalar(node{kind: kind, start: int32(start), end: int32(p.at)})
}

// number reads: an optional minus, 0 or digits that do not begin with 0, an
// optional fraction, an optional exponent.
func (p *parser) number() bool {
	start := p.at
	if p.peek() == '-' {
		p.at++
	}
	if p.peek() == '0' {
		p.at++
	} else if !p.digits() {
		return false
	}
	if p.peek() == '.' {
		if p.at++; !p.digits() {
			return false
		}
	}
	if p.peek()|0x20 == 'e' {
		if p.at++; p.peek() == '+' || p.peek() == '-' {
			p.at++
		}
		if !p.digits() {
			return false
		}
	}
	return p.scalar(node{kind: Number, start: int32(start), end: int32(p.at)})
}

// digits reads one or more.
func (p *parser) digits() bool {
	start := p.at
	for isDigit(p.peek()) {
		p.at++
	}
	return p.at > start
}

// str reads a string, which begins at p.at.
func (p *parser) str() bool {
	p.at++
	start := p.at
	escaped, ascii := false, true
	for ; p.at < len(p.text); p.at++ {
		switch c := p.text[p.at]; {
		case plain[c]:
		case c == '"':
			n := node{kind: String, start: int32(start), end: int32(p.at)}
			piece := p.text[start:p.at]
			p.at++
			if escaped || !ascii && !utf8.ValidString(piece) {
				decoded, ok := decode(piece)
				if !ok {
					return false
				}
				p.decoded = append(p.decoded, decoded)
				n.decoded = int32(len(p.decoded))
			}
			return p.scalar(n)
		case c == '\\':
			escaped = true
			p.at++ // whatever it escapes does not end the string
		case c < ' ':
			return false
		default:
			ascii = false
		}
	}
	return false
}

// plain are the bytes that stand for themselves in a string.
var plain = func() (table [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		table[c] = c != '"' && c != '\\'
	}
	return table
}()

// decode resolves the escapes of a string and replaces what is not UTF-8. It
// fails on an escape that there is not.
func decode(piece string) (string, bool) {
	var b strings.Builder
	b.Grow(len(piece))
	for piece != "" {
		plain := strings.IndexByte(piece, '\\')
		if plain < 0 {
			plain = len(piece)
		}
		for _, r := range piece[:plain] { // a byte that is not UTF-8 comes out as U+FFFD
			b.WriteRune(r)
		}
		if piece = piece[plain:]; piece == "" {
			break
		}
		var r rune
		var ok bool
		if r, piece, ok = escape(piece); !ok {
			return "", false
		}
		b.WriteRune(r)
	}
	return b.String(), true
}

// escape reads the escape that a text begins with: a backslash and a letter, or
// one or two (a surrogate pair) of \uXXXX.
func escape(text string) (r rune, rest string, ok bool) {
	if len(text) < 2 {
		return 0, "", false
	}
	if i := strings.IndexByte(`"\/bfnrt`, text[1]); i >= 0 {
		return rune("\"\\/\b\f\n\r\t"[i]), text[2:], true
	}
	if r, ok = unit(text); !ok {
		return 0, "", false
	}
	text = text[6:]
	if utf16.IsSurrogate(r) {
		if low, ok := unit(text); ok {
			if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
				return pair, text[6:], true
			}
		}
		return utf8.RuneError, text, true
	}
	return r, text, true
}

// unit reads \uXXXX.
func unit(text string) (r rune, ok bool) {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0, false
	}
	for _, c := range []byte(text[2:6]) {
		r <<= 4
		switch {
		case isDigit(c):
			r |= rune(c - '0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			r |= rune(c|0x20-'a') + 10
		default:
			return 0, false
		}
	}
	return r, true
}

func (p *parser) space() {
	for p.at < len(p.text) {
		switch p.text[p.at] {
		case ' ', '\t', '\n', '\r':
			p.at++
		default:
			return
		}
	}
}

// peek is the next byte; 0, which begins nothing, at the end.
func (p *parser) peek() byte {
	if p.at < len(p.text) {
		return p.text[p.at]
	}
	return 0
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
