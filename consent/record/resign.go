package record

import (
	"cmp"
	"slices"
)

// Resign signs rows anew in the places where they are, after a rotation of
// pseudonyms: their digests are over other pseudonyms than when they were written.
// It is given all rows of the table, which were verified before, in any order, and
// changes their digests, what they name of the link before, and their signatures.
// Salts stay, and so does what is left of erased rows; so the second time it
// changes nothing. Rows in no chain stay as they are.
//
// The function that it returns tells what the head of a chain has become; one that
// is not among the rows stays.
func Resign(key Key, workspace string, rows []Row) func(Head) Head {
	r := resigner{key: key, workspace: workspace, links: make(map[Place][]*Row), digests: make(map[Place]string)}
	for i := range rows {
		if row := &rows[i]; row.Chain != "" {
			at := Place{Chain: row.Chain, Link: row.Link}
			r.links[at] = append(r.links[at], row)
		}
	}
	order := make([]Place, 0, len(r.links))
	for at := range r.links {
		order = append(order, at)
	}
	slices.SortFunc(order, func(a, b Place) int { return cmp.Or(cmp.Compare(a.Link, b.Link), cmp.Compare(a.Chain, b.Chain)) })
	for _, at := range order { // so that recursion goes one link deep, but from chain to chain
		r.sign(at)
	}
	return r.head
}

type resigner struct {
	key       Key
	workspace string
	links     map[Place][]*Row
	digests   map[Place]string // of links that were signed
}

// sign signs a link, and before it the one that it names.
func (r *resigner) sign(at Place) {
	if _, done := r.digests[at]; done {
		return
	}
	rows := r.links[at]
	r.digests[at] = "" // names that lead in a circle, which no collector writes, end here
	slices.SortFunc(rows, func(a, b *Row) int { return cmp.Compare(a.LinkRow, b.LinkRow) })
	previous := r.previous(at, rows[0].Previous)
	digests := make([]string, len(rows))
	for i, row := range rows {
		if !row.Husk() {
			row.Digest = row.digest()
		}
		digests[i] = row.Digest
	}
	digest := linkDigest(r.workspace, at.Chain, at.Link, previous, digests)
	signature := r.key.sign(digest)
	for _, row := range rows {
		row.Previous, row.KeyID, row.Signature = previous, r.key.id, signature
	}
	r.digests[at] = digest
}

// previous is what a link names now.
func (r *resigner) previous(at Place, old string) string {
	if at.Link > 1 {
		before := Place{Chain: at.Chain, Link: at.Link - 1}
		if len(r.links[before]) == 0 {
			return old
		}
		r.sign(before)
		return cmp.Or(r.digests[before], old)
	}
	head, err := ParseHead(old)
	if err != nil || head == (Head{}) {
		return old
	}
	return r.head(head).String()
}

func (r *resigner) head(h Head) Head {
	at := Place{Chain: h.Chain, Link: h.Link}
	if len(r.links[at]) == 0 {
		return h
	}
	r.sign(at)
	h.Digest = cmp.Or(r.digests[at], h.Digest)
	return h
}
