// Package bits reads the fields of IAB consent strings: bits that are written as
// base64url text (RFC 4648 section 5, without padding), most significant first.
//
// Nothing is decoded into memory. A [Reader] takes its bits from the text itself,
// and a [Set] of ids is a view of the part of the text that writes it, checked
// once. So a string costs time in proportion to its length and no memory,
// whatever sizes it claims.
//
// The package imports no other part of the product.
package bits

import (
	"errors"
	"strings"
)

// What is wrong with a text. They name no part of it.
var (
	ErrAlphabet = errors.New("not base64url")
	ErrShort    = errors.New("ends within a field")
	ErrRange    = errors.New("ids are not ascending, or out of range")
	ErrTrailing = errors.New("goes on behind the last field")
)

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// value has the six bits of each character; 64 of what is none.
var value = func() (v [256]byte) {
	for i := range v {
		v[i] = 64
	}
	for i := range len(alphabet) {
		v[alphabet[i]] = byte(i)
	}
	return v
}()

// Reader reads one field after the other. After an error all fields are zero,
// so that a layout can be read to its end before asking [Reader.Close]. It is
// not safe for concurrent use.
type Reader struct {
	text string
	at   int // the next bit
	err  error
}

// NewReader reads a text from its first bit.
func NewReader(text string) *Reader {
	r := &Reader{text: text}
	for i := range len(text) {
		if value[text[i]] > 63 {
			r.Fail(ErrAlphabet)
			break
		}
	}
	return r
}

// ReaderAt reads on from a bit of a text that a Reader has read before.
func ReaderAt(text string, at int) *Reader { return &Reader{text: text, at: at} }

// Fail makes an error of what the caller finds wrong with a field, unless there
// is one already.
func (r *Reader) Fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// Text is the whole text.
func (r *Reader) Text() string { return r.text }

// At is the bit that comes next.
func (r *Reader) At() int { return r.at }

// Left is how many bits are left, padding included; 0 after an error.
func (r *Reader) Left() int {
	if r.err != nil {
		return 0
	}
	return len(r.text)*6 - r.at
}

// Uint reads an unsigned integer of n bits, at most 36.
func (r *Reader) Uint(n int) int {
	if n > r.Left() {
		r.Fail(ErrShort)
		return 0
	}
	v := peek(r.text, r.at, n)
	r.at += n
	return v
}

// peek is the integer of n bits, at most 36, at a bit of a text that has them.
func peek(text string, at, n int) int {
	v, i := 0, at/6
	over := at%6 + n // the bits of whole characters up to the last one wanted
	for ; over > 0; over -= 6 {
		v = v<<6 | int(value[text[i]])
		i++
	}
	return v >> -over & (1<<n - 1)
}

// Bool reads one bit.
func (r *Reader) Bool() bool { return r.Uint(1) == 1 }

// Letters reads n letters of six bits each, A being 0. Other values are an error.
func (r *Reader) Letters(n int) string {
	var b strings.Builder
	for range n {
		c := r.Uint(6)
		if c > 'Z'-'A' {
			r.Fail(ErrRange)
			return ""
		}
		b.WriteByte('A' + byte(c))
	}
	return b.String()
}

// series are the Fibonacci numbers up to [MaxID].
var series = func() (all []int) {
	for a, b := 1, 2; a <= MaxID; a, b = b, a+b {
		all = append(all, a)
	}
	return all
}()

// Fibonacci reads a positive integer in Fibonacci coding, which ends with two
// ones. One beyond [MaxID] is an error.
func (r *Reader) Fibonacci() int {
	n := min(len(series)+1, r.Left())
	code := peek(r.text, r.at, n)
	v, last := 0, false
	for i := range n {
		bit := code>>(n-1-i)&1 == 1
		switch {
		case bit && last && v <= MaxID:
			r.at += i + 1
			return v
		case bit && (last || i == len(series)):
			r.Fail(ErrRange)
			return 0
		case bit:
			v += series[i]
		}
		last = bit
	}
	if n > len(series) {
		r.Fail(ErrRange)
	}
	r.Fail(ErrShort)
	return 0
}

// Close tells what went wrong, or that something other than zeros is left: the
// text then has another layout than the one it was read by.
func (r *Reader) Close() error {
	if part := (6 - r.at%6) % 6; r.err == nil && r.Uint(part) != 0 {
		r.Fail(ErrTrailing)
	}
	if r.err == nil && strings.TrimLeft(r.text[r.at/6:], alphabet[:1]) != "" {
		r.Fail(ErrTrailing)
	}
	return r.err
}

// Err tells what went wrong so far.
func (r *Reader) Err() error { return r.err }
