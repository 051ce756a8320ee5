package record

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is something that the record should not have.
type Problem struct {
	Place
	// Text says what it is, in words. It has nothing of a row's content.
	Text string
}

func (p Problem) String() string {
	switch {
	case p.Chain == "":
		return p.Text
	case p.Link == 0:
		return fmt.Sprintf("chain %s: %s", p.Chain, p.Text)
	case p.LinkRow < 0:
		return fmt.Sprintf("chain %s, link %d: %s", p.Chain, p.Link, p.Text)
	default:
		return fmt.Sprintf("chain %s, link %d, row %d: %s", p.Chain, p.Link, p.LinkRow, p.Text)
	}
}

// Report is what a verification found.
type Report struct {
	Rows   int64 // all, husks too
	Erased int64 // husks
	Links  int64
	Chains int64
	// Heads are the last links of all chains: an anchor for later.
	Heads []Head
	// Problems are the first [MaxProblems]; More is how many there are beside them.
	Problems []Problem
	More     int64
}

// MaxProblems is how many problems a report lists.
const MaxProblems = 1000

// Verifier looks through the record, row by row, in memory that does not grow
// with it but for a head per chain.
type Verifier struct {
	workspace      string
	record, rights Keys

	report   Report
	chain    string
	link     []Row // the rows of the link that is being read
	expected int64 // the next number
	before   string
	wanted   map[Place]want // by chain and link
}

// want is a link that must be there.
type want struct {
	digest string
	who    string
}

// NewVerifier verifies the record of a workspace. record are the keys of
// collectors, rights those by which people are erased.
func NewVerifier(workspace string, record, rights Keys) *Verifier {
	return &Verifier{workspace: workspace, record: record, rights: rights, wanted: make(map[Place]want)}
}

// Expect makes it a problem if a link is not there, or is another one. who says
// who has seen it, such as "the anchor". All calls come before [Verifier.Add].
func (v *Verifier) Expect(head Head, who string) {
	if head == (Head{}) {
		return
	}
	at := Place{Chain: head.Chain, Link: head.Link}
	if other, ok := v.wanted[at]; ok && other.digest != head.Digest {
		v.problem(at.whole(), "%s and %s have seen different links", other.who, who)
	}
	v.wanted[at] = want{head.Digest, who}
}

// ExpectPrevious expects the link that the first one of a chain names.
func (v *Verifier) ExpectPrevious(chain, previous string) {
	head, err := ParseHead(previous)
	if err != nil {
		v.problem(Place{Chain: chain}, "its first link names no other chain's head: %v", err)
		return
	}
	v.Expect(head, "chain "+chain)
}

// whole is the place of a link, not of a row of it.
func (p Place) whole() Place { return Place{p.Chain, p.Link, -1} }

func (v *Verifier) problem(at Place, format string, args ...any) {
	if len(v.report.Problems) >= MaxProblems {
		v.report.More++
		return
	}
	v.report.Problems = append(v.report.Problems, Problem{at, fmt.Sprintf(format, args...)})
}

// Add takes the next row. Rows come by chain, link and place in the link.
func (v *Verifier) Add(r Row) {
	v.report.Rows++
	if r.Husk() {
		v.report.Erased++
	}
	if r.Chain == "" || r.Link < 1 {
		v.problem(Place{}, "a row of source %q received at %s is not signed", r.SourceID, r.ReceivedAt.UTC().Format("2006-01-02 15:04:05.000000"))
		return
	}
	if len(v.link) > 0 && (r.Chain != v.chain || r.Link != v.link[0].Link) {
		v.endLink()
	}
	if r.Chain != v.chain {
		v.endChain()
		v.chain, v.expected = r.Chain, 1
		v.report.Chains++
	}
	v.link = append(v.link, r)
}

// Finish ends the verification.
func (v *Verifier) Finish() Report {
	v.endLink()
	v.endChain()
	missing := make([]Place, 0, len(v.wanted))
	for at := range v.wanted {
		missing = append(missing, at)
	}
	slices.SortFunc(missing, func(a, b Place) int {
		return cmp.Or(cmp.Compare(a.Chain, b.Chain), cmp.Compare(a.Link, b.Link))
	})
	for _, at := range missing {
		v.problem(at.whole(), "is missing; %s has seen it", v.wanted[at].who)
	}
	return v.report
}

func (v *Verifier) endChain() {
	if v.chain != "" && v.before != "" {
		v.report.Heads = append(v.report.Heads, Head{v.chain, v.expected - 1, v.before})
	}
	v.chain, v.before = "", ""
}

// endLink judges the link that was read.
func (v *Verifier) endLink() {
	if len(v.link) == 0 {
		return
	}
	rows := v.link
	v.link = v.link[:0]
	v.report.Links++
	first := rows[0]
	switch gap := first.Link - v.expected; {
	case gap == 1:
		v.problem(Place{v.chain, v.expected, -1}, "is missing")
	case gap > 1:
		v.problem(Place{v.chain, v.expected, -1}, "is missing, and all links up to %d", first.Link-1)
	}
	contiguous := first.Link == v.expected
	digest, whole := v.judge(rows)
	if contiguous && first.Link > 1 && v.before != "" && first.Previous != v.before {
		v.problem(first.whole(), "does not follow from the link before it")
	}
	at := Place{Chain: v.chain, Link: first.Link}
	if want, ok := v.wanted[at]; ok {
		delete(v.wanted, at)
		if whole && want.digest != digest {
			v.problem(at.whole(), "is not the one that %s has seen", want.who)
		}
	}
	v.expected, v.before = first.Link+1, digest
}

// judge looks at the rows of one link. digest is the link's, and empty if rows are
// missing, since nobody then knows it.
func (v *Verifier) judge(rows []Row) (digest string, whole bool) {
	first := rows[0]
	digests := make([]string, 0, len(rows))
	intact := true
	next := int64(0)
	for i := range rows {
		r := &rows[i]
		switch {
		case r.LinkRow < next:
			v.problem(r.Place, "is there more than once, or is none of the rows that the link has")
			intact = false
			continue
		case r.LinkRow > next:
			v.problem(Place{v.chain, r.Link, next}, "is missing%s", upTo(next, r.LinkRow-1))
			intact = false
		}
		next = r.LinkRow + 1
		if r.LinkRows != first.LinkRows || r.Previous != first.Previous || r.KeyID != first.KeyID || r.Signature != first.Signature {
			v.problem(r.Place, "was changed: it says something else of its link than its neighbours")
			intact = false
		}
		intact = v.judgeRow(r) && intact
		digests = append(digests, r.Digest)
	}
	if next < first.LinkRows {
		v.problem(Place{v.chain, first.Link, next}, "is missing%s", upTo(next, first.LinkRows-1))
		intact = false
	}
	if int64(len(digests)) != first.LinkRows {
		return "", false
	}
	digest = linkDigest(v.workspace, v.chain, first.Link, first.Previous, digests)
	if err := v.record.verify(first.KeyID, digest, first.Signature); err != nil && intact {
		v.problem(first.whole(), "%v", err)
	}
	return digest, true
}

func upTo(from, to int64) string {
	if from == to {
		return ""
	}
	return fmt.Sprintf(", and all rows up to %d", to)
}

// judgeRow looks whether a row is what its digest says, or was erased by who may.
func (v *Verifier) judgeRow(r *Row) bool {
	if !r.Husk() {
		if r.Digest != r.digest() {
			v.problem(r.Place, "was changed")
			return false
		}
		return true
	}
	rest := *r
	rest.Place, rest.LinkRows, rest.Previous, rest.Digest, rest.KeyID, rest.Signature = Place{}, 0, "", "", "", ""
	rest.ErasureID, rest.ErasureSignature, rest.ReceivedAt = "", "", r.DecidedAt
	if rest != (Row{}) {
		v.problem(r.Place, "says that it was erased, and still has something of a person")
		return false
	}
	id, signature, _ := strings.Cut(r.ErasureSignature, ":")
	if err := v.rights.verify(id, erasureDigest(v.workspace, r.Place, r.Digest, r.ErasureID), signature); err != nil {
		v.problem(r.Place, "says that it was erased, which nobody who may has signed: %v", err)
		return false
	}
	return true
}
