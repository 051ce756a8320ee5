// Package corpus measures what detectors of personal data find and miss. It
// has texts with ground truth: some that a generator makes, the same for the
// same seed, and some that were written by hand. Nothing in them is of a real
// person.
//
// A generated corpus is not the world: it has the forms that its author thought
// of, in the shares that he gave them. What it is good for is to see that a
// change finds less, or takes more for personal, than before.
package corpus

import (
	_ "embed"
	"fmt"
	"strings"

	"github.com/sluis-cdp/sluis/collector/personal"
)

// Case is a text and what of it is personal.
type Case struct {
	Form   string // what was put there, such as "phone, national"
	Region string // of the workspace that gets it
	Key    string // name of the field; empty for none
	Text   string
	Truth  []personal.Finding // in order; none in a near miss
}

//go:embed handwritten.txt
var handwritten string

// Handwritten are the cases written by hand, as real texts have them. Those that
// the detectors are known to get wrong are among them.
func Handwritten() ([]Case, error) {
	var cases []Case
	for n, line := range strings.Split(handwritten, "\n") {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		c, err := parse(line)
		if err != nil {
			return nil, fmt.Errorf("handwritten.txt:%d: %w", n+1, err)
		}
		cases = append(cases, c)
	}
	return cases, nil
}

// parse reads "NL key: text with <email jane@example.com> in it".
func parse(line string) (Case, error) {
	head, marked, ok := strings.Cut(line, ": ")
	if !ok {
		return Case{}, fmt.Errorf("want REGION KEY: TEXT, with - for none")
	}
	region, key, ok := strings.Cut(head, " ")
	if !ok {
		return Case{}, fmt.Errorf("want REGION KEY: TEXT, with - for none")
	}
	c := Case{Form: "nothing", Region: strings.TrimPrefix(region, "-"), Key: strings.TrimPrefix(key, "-")}
	var text strings.Builder
	for {
		before, rest, found := strings.Cut(marked, "⟦")
		text.WriteString(before)
		if !found {
			break
		}
		inside, after, closed := strings.Cut(rest, "⟧")
		kind, value, spaced := strings.Cut(inside, " ")
		if !closed || !spaced {
			return Case{}, fmt.Errorf("want ⟦kind value⟧")
		}
		c.Form = kind
		start := text.Len()
		text.WriteString(value)
		c.Truth = append(c.Truth, personal.Finding{Start: start, End: text.Len(), Kind: personal.Kind(kind)})
		marked = after
	}
	c.Text = text.String()
	return c, nil
}

// Score counts what was found of one kind or form.
type Score struct {
	Name   string `json:"name"`
	There  int    `json:"there"`  // by the truth
	Found  int    `json:"found"`  // of those, fully covered by findings
	Wrong  int    `json:"wrong"`  // findings where there is nothing personal
	Texts  int    `json:"texts"`  // with this form
	Damage int    `json:"damage"` // of those, texts in which something was wrongly found
}

// Recall is the share of what is there that was found.
func (s Score) Recall() float64 { return ratio(s.Found, s.There) }

// Precision is the share of what was found that is there.
func (s Score) Precision() float64 { return ratio(s.Found, s.Found+s.Wrong) }

func ratio(a, b int) float64 {
	if b == 0 {
		return 1
	}
	return float64(a) / float64(b)
}

// Report is what a detector made of a corpus.
type Report struct {
	Kinds []Score `json:"kinds"`
	Forms []Score `json:"forms"` // of what is personal
	Near  []Score `json:"near"`  // of what only looks like it
	Texts int     `json:"texts"`
	// Masked is how many bytes are covered by findings, and Personal how many of
	// these are personal: more than that goes where a text is encoded.
	Masked   int `json:"masked_bytes"`
	Personal int `json:"personal_bytes"`
}

// Measure lets detectors find what is personal in the cases, with the region of
// each or, if none is true, with none: as in a workspace that does not say where
// it is. A truth counts as found if findings cover all of it, by whatever kind: it
// is masked. A finding that touches no truth is wrong, and counted for its kind.
func Measure(cases []Case, none bool) Report {
	var r Report
	kinds, forms, near := scores{}, scores{}, scores{}
	for _, kind := range personal.Checked() {
		kinds.of(string(kind))
	}
	for _, c := range cases {
		region := c.Region
		if none {
			region = ""
		}
		r.Texts++
		found := personal.Detector{Region: region}.Find(c.Key, c.Text)
		form := forms.of(c.Form)
		if len(c.Truth) == 0 {
			form = near.of(c.Form)
		}
		form.Texts++
		for _, truth := range c.Truth {
			kind := kinds.of(string(truth.Kind))
			kind.There++
			form.There++
			if covered(truth, found) {
				kind.Found++
				form.Found++
			}
		}
		wrong := 0
		for _, f := range found {
			r.Masked += f.End - f.Start
			r.Personal += common(f, c.Truth)
			if !touches(f, c.Truth) {
				kinds.of(string(f.Kind)).Wrong++
				wrong++
			}
		}
		form.Wrong += wrong
		form.Damage += min(1, wrong)
	}
	r.Kinds, r.Forms, r.Near = kinds.list(), forms.list(), near.list()
	return r
}

// covered tells whether each byte of a truth is in a finding.
func covered(truth personal.Finding, found []personal.Finding) bool {
	at := truth.Start
	for _, f := range found {
		if f.Start <= at && f.End > at {
			at = f.End
		}
	}
	return at >= truth.End
}

// common is how many bytes of a finding are personal.
func common(f personal.Finding, truths []personal.Finding) (bytes int) {
	for _, truth := range truths {
		bytes += max(0, min(f.End, truth.End)-max(f.Start, truth.Start))
	}
	return bytes
}

func touches(f personal.Finding, truths []personal.Finding) bool {
	for _, truth := range truths {
		if f.Start < truth.End && truth.Start < f.End {
			return true
		}
	}
	return false
}

// scores keep the order in which names came.
type scores struct{ all []*Score }

func (s *scores) of(name string) *Score {
	for _, score := range s.all {
		if score.Name == name {
			return score
		}
	}
	score := &Score{Name: name}
	s.all = append(s.all, score)
	return score
}

func (s *scores) list() []Score {
	list := make([]Score, len(s.all))
	for i, score := range s.all {
		list[i] = *score
	}
	return list
}
