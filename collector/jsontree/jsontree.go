// Package jsontree reads a JSON text (RFC 8259) once, into a flat tree in
// memory that is used again for the next text. Strings without escapes are
// pieces of the text, so that a document costs few allocations, whatever its
// size.
//
// The grammar is strict. Three things that it allows and that readers differ
// about are settled here, once for all who look at a value: of members with the
// same name the last one counts; invalid UTF-8 and lone surrogates are U+FFFD;
// a number stays the text that was sent. Depth costs no stack: a text of n
// bytes takes at most 24 n bytes of tree.
//
// The package imports no other part of the product.
package jsontree

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
	"unicode/utf8"
	"unsafe"
)

// Kind is the kind of a value. The zero Kind is that of a value that is not
// there.
type Kind uint8

// The kinds.
const (
	Missing Kind = iota
	Null
	False
	True
	Number
	String
	Array
	Object
)

// Tree is a parsed text. It must not be parsed anew while values of it are in
// use; the strings that it gave out stay valid. The zero Tree is ready to parse.
type Tree struct {
	text    string
	nodes   []node
	decoded []string // of strings that are not a piece of the text
	open    []int32  // containers not closed yet, while parsing

	lower   string // the text in lower case, if it is ASCII; see Lower
	lowered bool
}

// node is one value. A container is followed by its members, each a name and a
// value, or its elements.
type node struct {
	kind       Kind
	dead       bool  // a name that a later member has too
	next       int32 // index behind the node and all below it
	start, end int32 // in the text; of strings without the quotes
	decoded    int32 // 1 + index in Tree.decoded, 0 if the piece of the text will do
}

// ErrSyntax is wrapped by all errors of Parse.
var ErrSyntax = errors.New("not a JSON text")

// Parse replaces the tree by that of a text, which must be one JSON value with
// nothing behind it. After an error the tree has no values. The error names the
// place, and no part of the text.
func (t *Tree) Parse(text string) error {
	t.text, t.nodes, t.decoded, t.open = text, t.nodes[:0], t.decoded[:0], t.open[:0]
	t.lower, t.lowered = "", false
	if len(text) > math.MaxInt32 {
		return fmt.Errorf("%w: longer than 2 GiB", ErrSyntax)
	}
	p := parser{Tree: t}
	if !p.parse() {
		t.nodes = t.nodes[:0]
		return fmt.Errorf("%w: unexpected byte or end at %d", ErrSyntax, p.at)
	}
	return nil
}

// Cap is how many bytes the tree has reserved for itself, without the text.
func (t *Tree) Cap() int { return cap(t.nodes) * int(unsafe.Sizeof(node{})) }

// Root is the value of the text; missing if nothing was parsed.
func (t *Tree) Root() Value {
	if len(t.nodes) == 0 {
		return Value{}
	}
	return Value{t, 0}
}

// Value is a value of a tree. The zero Value is missing; so is what is asked of
// a value that has no such part, so that a path can be followed without
// looking at each step.
type Value struct {
	tree *Tree
	at   int32
}

func (v Value) node() *node {
	if v.tree == nil {
		return &node{}
	}
	return &v.tree.nodes[v.at]
}

// Kind is the kind of the value.
func (v Value) Kind() Kind { return v.node().kind }

// IsNull tells whether there is nothing: a null, or no value at all.
func (v Value) IsNull() bool { return v.Kind() <= Null }

// Text is the content of a string, and the text of a number; "" of anything else.
func (v Value) Text() string {
	if n := v.node(); n.kind == String || n.kind == Number {
		return v.tree.content(n)
	}
	return ""
}

// String is the content of a string; "" of anything else. It makes no other
// value printable, since it might be logged.
func (v Value) String() string {
	if n := v.node(); n.kind == String {
		return v.tree.content(n)
	}
	return ""
}

func (t *Tree) content(n *node) string {
	if n.decoded > 0 {
		return t.decoded[n.decoded-1]
	}
	return t.text[n.start:n.end]
}

// Raw is the JSON text of the value as it was sent; "" if it is missing. It may
// hold invalid UTF-8, and members that do not count.
func (v Value) Raw() string {
	n := v.node()
	if n.kind == Missing {
		return ""
	}
	if n.kind == String {
		return v.tree.text[n.start-1 : n.end+1]
	}
	return v.tree.text[n.start:n.end]
}

// Lower is Raw in lower case. ok is false unless the tree's whole text is ASCII.
// The first call makes it for all of the tree; it may not be called concurrently.
func (v Value) Lower() (raw string, ok bool) {
	t, n := v.tree, v.node()
	if t == nil || n.kind == Missing {
		return "", true
	}
	if !t.lowered {
		t.lowered = true
		t.lower = lowerASCII(t.text)
	}
	if t.lower == "" {
		return "", false
	}
	if n.kind == String {
		return t.lower[n.start-1 : n.end+1], true
	}
	return t.lower[n.start:n.end], true
}

// lowerASCII is a text in lower case; "" unless it is ASCII. It takes eight bytes
// at once: of each, adding so much that the top bit tells whether it is at least
// "A", or beyond "Z".
func lowerASCII(text string) string {
	const ones = 0x0101010101010101
	b := make([]byte, (len(text)+7)&^7)
	copy(b, text)
	for i := 0; i < len(b); i += 8 {
		x := binary.LittleEndian.Uint64(b[i:])
		if x&(0x80*ones) != 0 {
			return ""
		}
		upper := (x + (0x80-'A')*ones) &^ (x + (0x7f-'Z')*ones) & (0x80 * ones)
		binary.LittleEndian.PutUint64(b[i:], x|upper>>2) // 0x80 becomes 0x20, which is what differs
	}
	return unsafe.String(unsafe.SliceData(b), len(text))
}

// Get is the member of an object that has a name; missing if there is none.
func (v Value) Get(name string) Value {
	for key, value := range v.Members() {
		if key == name {
			return value
		}
	}
	return Value{}
}

// Members are the members of an object in the order they were sent; none of
// anything else.
func (v Value) Members() iter.Seq2[string, Value] {
	return func(yield func(string, Value) bool) {
		n := v.node()
		if n.kind != Object {
			return
		}
		for at := v.at + 1; at < n.next; {
			key := &v.tree.nodes[at]
			if !key.dead && !yield(v.tree.content(key), Value{v.tree, at + 1}) {
				return
			}
			at = v.tree.nodes[at+1].next
		}
	}
}

// Elements are the elements of an array; none of anything else.
func (v Value) Elements() iter.Seq[Value] {
	return func(yield func(Value) bool) {
		n := v.node()
		if n.kind != Array {
			return
		}
		for at := v.at + 1; at < n.next; at = v.tree.nodes[at].next {
			if !yield(Value{v.tree, at}) {
				return
			}
		}
	}
}

// Empty tells whether there is nothing in the value: no member or element, or
// it is neither object nor array.
func (v Value) Empty() bool {
	n := v.node()
	return n.kind < Array || n.next == v.at+1
}

// Len is the number of elements of an array; 0 of anything else.
func (v Value) Len() int {
	n := 0
	for range v.Elements() {
		n++
	}
	return n
}

// AppendString appends a string as JSON.
func AppendString(b []byte, s string) []byte {
	b = append(b, '"')
	done := 0
	for i := range len(s) {
		c := s[i]
		if plain[c] || c >= utf8.RuneSelf {
			continue
		}
		b = append(b, s[done:i]...)
		if done = i + 1; c < ' ' {
			b = fmt.Appendf(b, `\u%04x`, c)
		} else {
			b = append(b, '\\', c)
		}
	}
	b = append(b, s[done:]...)
	return append(b, '"')
}
