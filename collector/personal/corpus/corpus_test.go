package corpus_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/sluis-cdp/sluis/collector/personal"
	"github.com/sluis-cdp/sluis/collector/personal/corpus"
)

// TestFloors fails if the detectors get worse than they are known to be. The
// figures themselves are in the README, which cmd/sluis holds to them.
func TestFloors(t *testing.T) {
	for name, test := range map[string]struct {
		none              bool
		recall, precision map[string]float64 // others: 0.995
	}{
		"with the region": {false, map[string]float64{"phone": 0.985, "bsn": 0.66, "ssn": 0.66}, nil},
		"without one":     {true, map[string]float64{"phone": 0.90, "bsn": 0.66, "ssn": 0.66}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			for _, s := range corpus.Measure(corpus.Generate(7, 10_000), test.none).Kinds {
				least := func(of map[string]float64) float64 {
					if floor, ok := of[s.Name]; ok {
						return floor
					}
					return 0.995
				}
				if s.There < 100 {
					t.Errorf("%s: there are only %d of them", s.Name, s.There)
				}
				if s.Recall() < least(test.recall) || s.Precision() < least(test.precision) {
					t.Errorf("%s: recall %.4f, precision %.4f", s.Name, s.Recall(), s.Precision())
				}
			}
		})
	}
}

func TestGenerateIsRepeatable(t *testing.T) {
	a, b := corpus.Generate(3, 500), corpus.Generate(3, 500)
	if !reflect.DeepEqual(a, b) {
		t.Error("the same seed gives other texts")
	}
	if reflect.DeepEqual(a, corpus.Generate(4, 500)) {
		t.Error("another seed gives the same texts")
	}
}

// TestTruth holds that what is said to be personal is a part of its text, and of
// some form that is one.
func TestTruth(t *testing.T) {
	written, err := corpus.Handwritten()
	if err != nil {
		t.Fatal(err)
	}
	if len(written) < 100 {
		t.Fatalf("only %d texts are written by hand", len(written))
	}
	for _, c := range slices.Concat(written, corpus.Generate(5, 2000)) {
		at := 0
		for _, truth := range c.Truth {
			if truth.Start < at || truth.End <= truth.Start || truth.End > len(c.Text) {
				t.Fatalf("%s: %+v is no part of %q", c.Form, truth, c.Text)
			}
			at = truth.End
			if value := c.Text[truth.Start:truth.End]; strings.ContainsAny(value, "⟦⟧{}") || value != strings.TrimSpace(value) {
				t.Errorf("%s: %q", c.Form, value)
			}
		}
	}
}

// TestMeasureCounts lets Measure judge texts of which the result is plain.
func TestMeasureCounts(t *testing.T) {
	email := func(start, end int) []personal.Finding {
		return []personal.Finding{{Start: start, End: end, Kind: personal.Email}}
	}
	r := corpus.Measure([]corpus.Case{
		{Form: "found", Text: "to jane@example.com now", Truth: email(3, 19)},
		{Form: "found in part", Text: "to jane doe@example.com now", Truth: email(3, 23)},
		{Form: "missed", Text: "to jane at example now", Truth: email(3, 18)},
		{Form: "wrong", Text: "jane@example.com"},
	}, false)
	if got := r.Kinds[0]; got.There != 3 || got.Found != 1 || got.Wrong != 1 || r.Masked != 16+15+16 || r.Personal != 16+15 {
		t.Errorf("%+v, %d bytes masked, %d of them personal", got, r.Masked, r.Personal)
	}
	if near := r.Near; len(near) != 1 || near[0].Damage != 1 {
		t.Errorf("%+v", near)
	}
}
