package bits_test

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/sluis-cdp/sluis/consent/bits"
	"github.com/sluis-cdp/sluis/consent/bits/bitstest"
)

// TestReaderReadsWhatWasWritten draws fields of all widths.
func TestReaderReadsWhatWasWritten(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 2000 {
		var text bitstest.Text
		type field struct{ n, v int }
		var fields []field
		for range 1 + random.IntN(20) {
			f := field{n: random.IntN(37)} // 0 stands for one in Fibonacci coding
			if f.n == 0 {
				f.v = 1 + random.IntN(bits.MaxID)
				text.Fibonacci(f.v)
			} else {
				f.v = random.IntN(1 << f.n)
				text.Uint(f.n, f.v)
			}
			fields = append(fields, f)
		}
		r := bits.NewReader(text.String())
		for i, f := range fields {
			got := 0
			if f.n == 0 {
				got = r.Fibonacci()
			} else {
				got = r.Uint(f.n)
			}
			if got != f.v {
				t.Fatalf("field %d of %v is %d", i, fields, got)
			}
		}
		if r.At() != text.Len() || r.Close() != nil {
			t.Fatalf("after %v at bit %d of %d: %v", fields, r.At(), text.Len(), r.Close())
		}
	}
}

// TestSetsAgree writes one random set in all ways.
func TestSetsAgree(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 100 {
		limit := random.IntN(3000)
		in := make([]bool, limit+1)
		for first := 1; first <= limit; first += 1 + random.IntN(40) {
			for id := first; id <= min(limit, first+random.IntN(30)); id++ {
				in[id] = true
			}
		}
		for name, set := range written(t, in) {
			if set.Limit() != limit {
				t.Fatalf("%s: limit is %d, not %d", name, set.Limit(), limit)
			}
			count, last := 0, 0
			for id := range set.All() {
				if id <= last || id > limit || !in[id] {
					t.Fatalf("%s: %d behind %d", name, id, last)
				}
				count, last = count+1, id
			}
			members := 0
			for _, member := range in {
				if member {
					members++
				}
			}
			if count != members || set.Empty() != (members == 0) {
				t.Fatalf("%s: %d of %d ids; Empty is %t", name, count, members, set.Empty())
			}
			for range 50 {
				id := random.IntN(limit+3) - 1
				if member := id > 0 && id <= limit && in[id]; set.Has(id) != member {
					t.Fatalf("%s: Has(%d) is %t", name, id, !member)
				}
			}
		}
	}
}

func written(t *testing.T, in []bool) map[string]bits.Set {
	t.Helper()
	var spans [][2]int
	for id := 1; id < len(in); id++ {
		switch {
		case !in[id]:
		case len(spans) > 0 && spans[len(spans)-1][1] == id-1:
			spans[len(spans)-1][1] = id
		default:
			spans = append(spans, [2]int{id, id})
		}
	}
	limit := len(in) - 1
	var field, fixed, fibonacci bitstest.Text
	field.Uint(16, limit).Uint(1, 0)
	for _, one := range in[1:] {
		field.Uint(1, map[bool]int{true: 1}[one])
	}
	fixed.Uint(16, limit).Uint(1, 1).Uint(12, len(spans))
	fibonacci.Uint(16, limit).Uint(1, 1).Uint(12, len(spans))
	last := 0
	for _, s := range spans {
		if s[0] == s[1] {
			fixed.Uint(1, 0).Uint(16, s[0])
			fibonacci.Uint(1, 0).Fibonacci(s[0] - last)
		} else {
			fixed.Uint(1, 1).Uint(16, s[0]).Uint(16, s[1])
			fibonacci.Uint(1, 1).Fibonacci(s[0] - last).Fibonacci(s[1] - s[0])
		}
		last = s[1]
	}
	sets := map[string]bits.Set{}
	for name, text := range map[string]*bitstest.Text{"bitfield": &field, "ranges": &fixed, "Fibonacci ranges": &fibonacci} {
		r := bits.NewReader(text.String())
		if name == "Fibonacci ranges" {
			sets[name] = r.FibonacciSet()
		} else {
			sets[name] = r.Set()
		}
		if err := r.Close(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	return sets
}

func TestWhatIsRefused(t *testing.T) {
	w := func() *bitstest.Text { return new(bitstest.Text) }
	set := func(r *bits.Reader) { r.Set() }
	fibonacciSet := func(r *bits.Reader) { r.FibonacciSet() }
	for _, c := range []struct {
		name string
		text string
		read func(*bits.Reader)
		want error
	}{
		{"a character of standard base64", "AA+A", func(r *bits.Reader) { r.Uint(6) }, bits.ErrAlphabet},
		{"padding", "AAA=", func(r *bits.Reader) { r.Uint(6) }, bits.ErrAlphabet},
		{"beyond ASCII", "A\xc3\xa9", func(r *bits.Reader) { r.Uint(6) }, bits.ErrAlphabet},
		{"too few bits", "AA", func(r *bits.Reader) { r.Uint(13) }, bits.ErrShort},
		{"nothing", "", func(r *bits.Reader) { r.Bool() }, bits.ErrShort},
		{"a one behind the end", "AB", func(r *bits.Reader) { r.Uint(6) }, bits.ErrTrailing},
		{"a one far behind the end", "AAAAAAAAAAAAAAAAAAAAAAAB", func(r *bits.Reader) { r.Uint(6) }, bits.ErrTrailing},
		{"a letter behind Z", w().Uint(6, 26).String(), func(r *bits.Reader) { r.Letters(1) }, bits.ErrRange},
		{"a bitfield larger than the text", w().Uint(16, 65535).Uint(1, 0).Ones(60).String(), set, bits.ErrShort},
		{"more ranges than the text has", w().Uint(16, 65535).Uint(1, 1).Uint(12, 4095).Uint(1, 0).Uint(16, 1).String(), set, bits.ErrShort},
		{"a range from 0", w().Uint(16, 10).Uint(1, 1).Uint(12, 1).Uint(1, 1).Uint(16, 0).Uint(16, 3).String(), set, bits.ErrRange},
		{"a single 0", w().Uint(16, 10).Uint(1, 1).Uint(12, 1).Uint(1, 0).Uint(16, 0).String(), set, bits.ErrRange},
		{"a range backwards", w().Uint(16, 10).Uint(1, 1).Uint(12, 1).Uint(1, 1).Uint(16, 5).Uint(16, 4).String(), set, bits.ErrRange},
		{"a range beyond the limit", w().Uint(16, 10).Uint(1, 1).Uint(12, 1).Uint(1, 1).Uint(16, 5).Uint(16, 11).String(), set, bits.ErrRange},
		{"ranges that overlap", w().Uint(16, 10).Uint(1, 1).Uint(12, 2).Uint(1, 1).Uint(16, 2).Uint(16, 5).Uint(1, 0).Uint(16, 5).String(), set, bits.ErrRange},
		{"ranges out of order", w().Uint(16, 10).Uint(1, 1).Uint(12, 2).Uint(1, 0).Uint(16, 5).Uint(1, 0).Uint(16, 2).String(), set, bits.ErrRange},
		{"a Fibonacci range beyond the limit", w().Uint(16, 10).Uint(1, 1).Uint(12, 1).Uint(1, 1).Fibonacci(5).Fibonacci(6).String(), fibonacciSet, bits.ErrRange},
		{"Fibonacci ranges that add up beyond 65535", w().Uint(12, 2).Uint(1, 0).Fibonacci(65535).Uint(1, 0).Fibonacci(1).String(), func(r *bits.Reader) { r.FibonacciRanges() }, bits.ErrRange},
		{"a Fibonacci number beyond 65535", w().Fibonacci(65536).String(), func(r *bits.Reader) { r.Fibonacci() }, bits.ErrRange},
		{"a Fibonacci number without an end", w().Uint(36, 0).Uint(36, 0).Ones(2).String(), func(r *bits.Reader) { r.Fibonacci() }, bits.ErrRange},
		{"a Fibonacci number cut off", w().Uint(6, 0b010101).String(), func(r *bits.Reader) { r.Fibonacci() }, bits.ErrShort},
	} {
		r := bits.NewReader(c.text)
		c.read(r)
		if err := r.Close(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if r.Uint(6) != 0 || r.Left() != 0 {
			t.Errorf("%s: fields can be read behind the error", c.name)
		}
	}
}

// TestLargestSet has an end: its last id is the largest that there is.
func TestLargestSet(t *testing.T) {
	for _, text := range []string{
		new(bitstest.Text).Uint(16, 65535).Uint(1, 1).Uint(12, 1).Uint(1, 1).Uint(16, 1).Uint(16, 65535).String(),
		new(bitstest.Text).Uint(16, 65535).Uint(1, 0).Ones(65535).String(),
	} {
		r := bits.NewReader(text)
		set := r.Set()
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		n := 0
		for range set.All() {
			n++
		}
		if n != 65535 || !set.Has(65535) || set.Has(65536) || set.Has(0) {
			t.Errorf("%d ids", n)
		}
	}
}
