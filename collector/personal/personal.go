// Package personal finds personal data where it should not be: e-mail
// addresses, phone numbers, payment cards, bank accounts, national numbers,
// network addresses, tokens and secrets, in any text and under any name.
//
// It works in two stages. One pass over the bytes finds where something could
// be; only there it is checked, by a check digit, a registry or a numbering
// plan where there is one. So nearly all text costs a look at each byte. The
// time is linear in the length of the text, whoever wrote it.
//
// What it finds and what it misses is measured: see package corpus.
package personal

import (
	"cmp"
	"slices"
	"strings"
	"sync"
)

// Kind is what a finding is. It is fit for logs and tables: it says nothing of
// the value.
type Kind string

// The kinds. Those of the second group are found by a name alone, such as that
// of a query parameter.
const (
	Email Kind = "email"
	Phone Kind = "phone"
	Card  Kind = "card"
	IBAN  Kind = "iban"
	BSN   Kind = "bsn" // Dutch burgerservicenummer
	SSN   Kind = "ssn" // United States social security number
	IP    Kind = "ip"
	Token Kind = "token" // JSON Web Token (RFC 7519)

	Secret   Kind = "secret" // passwords, keys, session ids
	Name     Kind = "name"
	Address  Kind = "address"
	Location Kind = "location"
	Birth    Kind = "birth"
	ID       Kind = "id" // of a person or device
	Trait    Kind = "trait"
)

// Checked are the kinds that are found by their value.
func Checked() []Kind { return []Kind{Email, Phone, Card, IBAN, BSN, SSN, IP, Token, Secret} }

// A Finding is personal data in a text: its bytes [Start, End).
type Finding struct {
	Start, End int
	Kind       Kind
}

// Detector finds personal data. It may be used concurrently.
type Detector struct {
	// Region is the country of phone numbers without a prefix, such as NL; empty if
	// unknown.
	Region string
}

// Mask replaces what looks personal by its kind in brackets, and lists the
// kinds found.
func (d Detector) Mask(text string) (masked string, kinds []Kind) {
	return Replace(text, d.Find("", text))
}

// Find returns what looks personal in a text, in order and without overlap. The
// key is the name of the field that holds the text, if it has one: some numbers
// are known by it alone. In a text that is percent-encoded the finding is the
// whole text.
func (d Detector) Find(key, text string) []Finding {
	found, encoded := d.look(key, text, false)
	if encoded {
		for decoded := range Decodings(text) {
			if inner, _ := d.look(key, decoded, true); len(inner) > 0 {
				return []Finding{{0, len(text), Join(inner)[0].Kind}}
			}
		}
	}
	return Join(found)
}

// look finds what is in a text as it is and as it reads, and tells whether there
// may be more in what it encodes. What was encoded itself is not looked for
// base64.
func (d Detector) look(key, text string, inner bool) (found []Finding, encoded bool) {
	found, encoded, folds := d.run(key, text, inner)
	if !folds {
		return found, encoded
	}
	folded, places, changed := fold(text)
	if !changed {
		return found, encoded
	}
	inFolded, more, _ := d.run(key, folded, inner)
	return restored(inFolded, places), more || encoded
}

// scans are looks at texts that are over. There is one for each text of each
// event, and making them anew would cost as much as looking.
var scans = sync.Pool{New: func() any { return new(scan) }}

// run looks at a text as it is.
func (d Detector) run(key, text string, inner bool) (found []Finding, encoded, folds bool) {
	s := scans.Get().(*scan)
	s.detector, s.key, s.text, s.inner = d, key, text, inner
	s.found, s.encoded, s.folds, s.word, s.checks = nil, false, false, 0, 0
	s.run()
	found, encoded, folds = s.found, s.encoded, s.folds
	s.key, s.text, s.found = "", "", nil // it keeps no text alive
	scans.Put(s)
	return found, encoded, folds
}

// Replace puts the kinds of findings, which are in order, in their place, and
// lists them.
func Replace(text string, found []Finding) (masked string, kinds []Kind) {
	if len(found) == 0 {
		return text, nil
	}
	var b strings.Builder
	at := 0
	for _, f := range found {
		b.WriteString(text[at:f.Start])
		b.WriteString("[" + string(f.Kind) + "]")
		at = f.End
		if !slices.Contains(kinds, f.Kind) {
			kinds = append(kinds, f.Kind)
		}
	}
	b.WriteString(text[at:])
	return b.String(), kinds
}

// Join sorts findings and makes one of those that overlap, of the kind of the
// first: what one of them leaves could be a part of the other.
func Join(all []Finding) []Finding {
	if len(all) < 2 {
		return all
	}
	slices.SortStableFunc(all, func(a, b Finding) int { return cmp.Or(a.Start-b.Start, b.End-a.End) })
	kept := all[:1]
	for _, f := range all[1:] {
		if last := &kept[len(kept)-1]; f.Start < last.End {
			last.End = max(last.End, f.End)
		} else {
			kept = append(kept, f)
		}
	}
	return kept
}

// Plain tells whether a text has no byte at which anything personal could be,
// nor in any part of it. It is quicker than Find.
func Plain(text string) bool {
	run := 0
	for i := range len(text) {
		switch c := text[i]; {
		case isLetter(c) || c == '-' || c == '_':
			if run++; run >= minBase64 {
				return false
			}
		case marks[c] == none || marks[c] == end:
			run = 0
		default:
			return false
		}
	}
	return true
}
