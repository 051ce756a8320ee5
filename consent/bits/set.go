package bits

import "iter"

// MaxID is the largest id that a set can hold.
const MaxID = 1<<16 - 1

// Set is a set of ids from 1 to [MaxID], such as of vendors. It is a view of the
// text it was read from, immutable, and safe for concurrent use. The zero Set is
// empty.
type Set struct {
	text  string
	at    int // the first bit of the bitfield, or of the first range
	n     int // bits of the bitfield, or ranges
	kind  kind
	limit int
}

type kind uint8

const (
	bitfield  kind = iota
	fixed          // ranges of ids of 16 bits
	fibonacci      // ranges of distances in Fibonacci coding
)

// Set reads a set as the TCF writes it for vendors: the largest id, then
// a bitfield or ranges of 16-bit ids. Ranges must ascend without overlap, up to
// that largest id.
func (r *Reader) Set() Set { return r.set(fixed) }

// FibonacciSet is Set with ranges in Fibonacci coding, as GPP's OptimizedRange.
func (r *Reader) FibonacciSet() Set { return r.set(fibonacci) }

func (r *Reader) set(ranges kind) Set {
	limit := r.Uint(16)
	if r.Bool() {
		return r.ranges(ranges, limit)
	}
	if limit > r.Left() {
		r.Fail(ErrShort)
	}
	if r.err != nil {
		return Set{}
	}
	s := Set{text: r.text, at: r.at, n: limit, limit: limit}
	r.at += limit
	return s
}

// Ranges reads ranges of 16-bit ids alone, as the TCF writes those of publisher
// restrictions.
func (r *Reader) Ranges() Set { return r.ranges(fixed, MaxID) }

// FibonacciRanges reads ranges in Fibonacci coding alone, as the header of GPP.
func (r *Reader) FibonacciRanges() Set { return r.ranges(fibonacci, MaxID) }

func (r *Reader) ranges(k kind, limit int) Set {
	s := Set{text: r.text, n: r.Uint(12), kind: k, limit: limit}
	s.at = r.at
	last := 0
	for range s.n {
		first, end := r.span(k, last)
		if first <= last || end < first || end > limit {
			r.Fail(ErrRange)
		}
		if r.err != nil {
			return Set{}
		}
		last = end
	}
	return s
}

// span reads one range, behind the id that the one before ended with.
func (r *Reader) span(k kind, last int) (first, end int) {
	several := r.Bool()
	if k == fixed {
		first = r.Uint(16)
		if end = first; several {
			end = r.Uint(16)
		}
		return first, end
	}
	first = last + r.Fibonacci()
	if end = first; several {
		end += r.Fibonacci()
	}
	return first, end
}

// Limit is the largest id that the set speaks of, granted or not; [MaxID] where
// the text does not say.
func (s Set) Limit() int { return s.limit }

// Has tells whether an id is in the set. It takes time in proportion to the
// number of ranges.
func (s Set) Has(id int) bool {
	if s.kind == bitfield {
		return id >= 1 && id <= s.n && peek(s.text, s.at+id-1, 1) == 1
	}
	for first, end := range s.Spans() {
		if id <= end {
			return id >= first
		}
	}
	return false
}

// Empty tells whether no id is in the set.
func (s Set) Empty() bool {
	for range s.Spans() {
		return false
	}
	return true
}

// Spans are the ids in the set as ranges, both ends included, ascending and
// without overlap.
func (s Set) Spans() iter.Seq2[int, int] {
	if s.kind == bitfield {
		return s.runs
	}
	return func(yield func(int, int) bool) {
		r := Reader{text: s.text, at: s.at}
		last := 0
		for range s.n {
			first, end := r.span(s.kind, last)
			if !yield(first, end) {
				return
			}
			last = end
		}
	}
}

// runs are the runs of ones of a bitfield.
func (s Set) runs(yield func(int, int) bool) {
	first := 0
	for id := 1; id <= s.n; id++ {
		switch one := peek(s.text, s.at+id-1, 1) == 1; {
		case one && first == 0:
			first = id
		case !one && first > 0:
			if !yield(first, id-1) {
				return
			}
			first = 0
		}
	}
	if first > 0 {
		yield(first, s.n)
	}
}

// All are the ids in the set, ascending.
func (s Set) All() iter.Seq[int] {
	return func(yield func(int) bool) {
		for first, end := range s.Spans() {
			for id := first; id <= end; id++ {
				if !yield(id) {
					return
				}
			}
		}
	}
}

// Field is a bitfield of a fixed length of at most 32, such as of purposes: the
// lowest bit is of id 1.
type Field uint32

// Field reads a bitfield of n bits, at most 32.
func (r *Reader) Field(n int) Field {
	var f Field
	for id := range n {
		if r.Bool() {
			f |= 1 << id
		}
	}
	return f
}

// Has tells whether an id is in the field.
func (f Field) Has(id int) bool { return id >= 1 && id <= 32 && f>>(id-1)&1 == 1 }

// All are the ids in the field, ascending.
func (f Field) All() iter.Seq[int] {
	return func(yield func(int) bool) {
		for id := 1; id <= 32; id++ {
			if f.Has(id) && !yield(id) {
				return
			}
		}
	}
}
