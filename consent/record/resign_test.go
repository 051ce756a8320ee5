package record

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestResign exchanges the pseudonyms of a table with erased rows, out of order,
// and holds it to a verification; so also the second time, and after a change.
func TestResign(t *testing.T) {
	table := newTable(t)
	table[3] = Erase(newKey(t, rightsKey), workspace, table[3], "request-1")
	heads := verify(t, table).Heads
	for i := range table {
		if table[i].Pseudonym != "" {
			table[i].Pseudonym = "rotated-" + table[i].Pseudonym
		}
	}
	if report := verify(t, table); len(report.Problems) == 0 {
		t.Fatal("a change of all pseudonyms does not show")
	}
	rand.Shuffle(len(table), func(i, j int) { table[i], table[j] = table[j], table[i] })
	now := Resign(newKey(t, recordKey), workspace, table)
	var anchors []Head
	for _, head := range heads {
		next := now(head)
		if next.Chain != head.Chain || next.Link != head.Link || next.Digest == head.Digest {
			t.Errorf("the head %v became %v", head, next)
		}
		anchors = append(anchors, next)
	}
	if report := verify(t, table, anchors...); len(report.Problems) > 0 || report.Erased != 1 || report.Rows != int64(len(table)) {
		t.Errorf("after it: %s", problems(report))
	}
	again := slices.Clone(table)
	Resign(newKey(t, recordKey), workspace, again)
	if !slices.Equal(again, table) {
		t.Error("the second time something changed")
	}
	table[5].Pseudonym = strings.ToUpper(table[5].Pseudonym)
	if report := verify(t, table); len(report.Problems) != 1 {
		t.Errorf("a change afterwards: %s", problems(report))
	}
	if stranger := (Head{Chain: "none", Link: 1, Digest: strings.Repeat("0", 64)}); now(stranger) != stranger {
		t.Error("the head of no chain changed")
	}
}
