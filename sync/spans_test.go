package syncer

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestSpansAsText(t *testing.T) {
	for _, test := range []struct{ text, condition string }{
		{"5", "(n IN (5))"},
		{"1-3,7", "(n IN (1, 2, 3, 7))"},
		{"1-20", "(n BETWEEN 1 AND 20)"},
		{"1-20,30-31", "(n BETWEEN 1 AND 20 OR n IN (30, 31))"},
	} {
		s, err := parseSpans(test.text)
		if err != nil || s.String() != test.text || s.contain("n") != test.condition {
			t.Errorf("%q: %q, %q, %v", test.text, s, s.contain("n"), err)
		}
	}
	for _, text := range []string{"", "a", "1-", "-1", "3-1", "1,,2", "1; DROP TABLE x", "1-2-3"} {
		if s, err := parseSpans(text); err == nil {
			t.Errorf("%q is %v", text, s)
		}
	}
}

func TestSpansHoldAllNumbers(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var numbers []int64
		var rows []*row
		for n := int64(1); n < 60; n++ {
			if random.IntN(3) > 0 || n == 59 && len(rows) == 0 {
				numbers, rows = append(numbers, n), append(rows, &row{storedChange: storedChange{seq: n}})
			}
		}
		s, err := parseSpans(spansOf(rows).String())
		if err != nil {
			t.Fatal(err)
		}
		var got []int64
		for _, run := range s {
			for n := run[0]; n <= run[1]; n++ {
				got = append(got, n)
			}
		}
		if !slices.Equal(got, numbers) {
			t.Fatalf("%v became %v", numbers, got)
		}
	}
}
