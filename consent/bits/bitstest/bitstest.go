// Package bitstest writes what package bits reads, so that tests can make strings
// that no encoder makes.
package bitstest

import "strings"

// Text is bits, written as base64url.
type Text struct{ bits []bool }

// Uint appends an unsigned integer of n bits.
func (t *Text) Uint(n, v int) *Text {
	for i := n - 1; i >= 0; i-- {
		t.bits = append(t.bits, v>>i&1 == 1)
	}
	return t
}

// Ones appends n ones.
func (t *Text) Ones(n int) *Text {
	for range n {
		t.bits = append(t.bits, true)
	}
	return t
}

// Fibonacci appends a positive integer in Fibonacci coding.
func (t *Text) Fibonacci(v int) *Text {
	series := []int{1, 2}
	for series[len(series)-1] <= v {
		series = append(series, series[len(series)-1]+series[len(series)-2])
	}
	code := make([]bool, len(series)-1)
	for i := len(code) - 1; i >= 0; i-- {
		if series[i] <= v {
			v -= series[i]
			code[i] = true
		}
	}
	t.bits = append(append(t.bits, code...), true)
	return t
}

// Len is how many bits there are.
func (t *Text) Len() int { return len(t.bits) }

// String is the bits, filled up to whole characters with zeros.
func (t *Text) String() string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	var b strings.Builder
	for i := 0; i < len(t.bits); i += 6 {
		six := 0
		for j := range 6 {
			six <<= 1
			if i+j < len(t.bits) && t.bits[i+j] {
				six |= 1
			}
		}
		b.WriteByte(alphabet[six])
	}
	return b.String()
}
