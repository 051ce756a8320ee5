package canary

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// Hit is a canary that was found.
type Hit struct {
	Canary int // its number in [Set.All]
	Form   string
	Offset int
}

// Search looks for many patterns at once. It is made for a set of canaries and
// does not know those made later. It may be used concurrently.
type Search struct {
	patterns []pattern
	byStart  map[uint64][]int32
	maybe    [1 << 18]uint64 // a bit for each start, by its hash
	forms    []Form
}

type pattern struct {
	text   []byte
	canary int32
	form   int32
}

// shortest is how long a pattern is at least: what is shorter is in everything.
const shortest = 8

// NewSearch prepares to look for the canaries in all forms.
func NewSearch(canaries []Canary) *Search {
	s := &Search{byStart: make(map[uint64][]int32), forms: Forms()}
	for n, c := range canaries {
		var texts []string
		for f, form := range s.forms {
			for _, value := range append([]string{c.Value}, c.needles...) {
				for _, text := range form.of(value) {
					if text = string(lower([]byte(text))); len(text) >= shortest && !slices.Contains(texts, text) {
						texts = append(texts, text)
						s.add(pattern{[]byte(text), int32(n), int32(f)})
					}
				}
			}
		}
	}
	return s
}

func (s *Search) add(p pattern) {
	start := binary.LittleEndian.Uint64(p.text)
	s.byStart[start] = append(s.byStart[start], int32(len(s.patterns)))
	s.patterns = append(s.patterns, p)
	h := hash(start)
	s.maybe[h>>6] |= 1 << (h & 63)
}

// hash has as many bits as maybe.
func hash(start uint64) uint64 { return start * 0x9e3779b97f4a7c15 >> 40 }

// Patterns is how many texts are looked for.
func (s *Search) Patterns() int { return len(s.patterns) }

// In finds what is in some bytes, each canary once.
func (s *Search) In(text []byte) []Hit {
	text = lower(text)
	var hits []Hit
	for i := 0; i+shortest <= len(text); i++ {
		start := binary.LittleEndian.Uint64(text[i:])
		if h := hash(start); s.maybe[h>>6]&(1<<(h&63)) == 0 {
			continue
		}
		for _, n := range s.byStart[start] {
			p := s.patterns[n]
			if !bytes.HasPrefix(text[i:], p.text) || slices.ContainsFunc(hits, func(h Hit) bool { return h.Canary == int(p.canary) }) {
				continue
			}
			hits = append(hits, Hit{int(p.canary), s.forms[p.form].Name, i})
		}
	}
	return hits
}

// lower is a copy in which the letters of ASCII are small. Unlike that of package
// bytes it leaves everything else where it is.
func lower(text []byte) []byte {
	small := bytes.Clone(text)
	for i, c := range small {
		if c >= 'A' && c <= 'Z' {
			small[i] = c | 0x20
		}
	}
	return small
}
