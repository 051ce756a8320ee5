package record

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

const workspace = "shop"

func newKey(t testing.TB, fill byte) Key {
	t.Helper()
	key, err := NewKey(bytes.Repeat([]byte{fill}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func keysOf(t testing.TB, fill ...byte) Keys {
	t.Helper()
	var seeds [][]byte
	for _, b := range fill {
		seeds = append(seeds, bytes.Repeat([]byte{b}, 32))
	}
	keys, err := KeysOf(seeds...)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// The keys of these tests.
const recordKey, rightsKey, otherKey = 1, 2, 3

func content(n int) Row {
	at := time.Date(2026, 3, 1, 12, 0, n, 0, time.UTC)
	return Row{
		DecisionID: fmt.Sprint("decision-", n), Pseudonym: fmt.Sprint("u1", n), Purpose: "analytics", Granted: n%2 == 0,
		Signal: "choice", SignalDigest: fmt.Sprint("signal-digest-", n), PolicyVersion: "1", Region: "NL", SourceID: "web",
		DecidedAt: at, ReceivedAt: at, Notice: "banner-1", ExpiresAt: at.AddDate(0, 6, 0),
	}
}

// newTable is what two starts of a collector write: links of one to four rows.
func newTable(t testing.TB) []Row {
	t.Helper()
	var table []Row
	n := 0
	var head Head
	for range 2 {
		chain := NewChain(newKey(t, recordKey), workspace, head)
		for link := range 6 {
			rows := make([]Row, 1+link%4)
			for i := range rows {
				rows[i] = content(n)
				n++
			}
			chain.Sign(rows)
			chain.Keep()
			table = append(table, rows...)
		}
		head = chain.Head()
	}
	return table
}

// verify takes the rows as a warehouse gives them.
func verify(t testing.TB, table []Row, anchors ...Head) Report {
	t.Helper()
	sorted := slices.SortedFunc(slices.Values(table), func(a, b Row) int {
		return cmp.Or(cmp.Compare(a.Chain, b.Chain), cmp.Compare(a.Link, b.Link), cmp.Compare(a.LinkRow, b.LinkRow))
	})
	v := NewVerifier(workspace, keysOf(t, recordKey), keysOf(t, rightsKey))
	for _, head := range anchors {
		v.Expect(head, "the anchor")
	}
	for _, r := range sorted {
		if r.Link == 1 && r.LinkRow == 0 {
			v.ExpectPrevious(r.Chain, r.Previous)
		}
	}
	for _, r := range sorted {
		v.Add(r)
	}
	return v.Finish()
}

func problems(r Report) string {
	var all []string
	for _, p := range r.Problems {
		all = append(all, p.String())
	}
	return strings.Join(all, "\n")
}

func TestUntouchedTableHolds(t *testing.T) {
	table := newTable(t)
	rand.Shuffle(len(table), func(i, j int) { table[i], table[j] = table[j], table[i] })
	report := verify(t, table)
	if len(report.Problems) > 0 || report.Rows != int64(len(table)) || report.Links != 12 || report.Chains != 2 || len(report.Heads) != 2 {
		t.Errorf("%+v", report)
	}
	if again := verify(t, table, report.Heads...); len(again.Problems) > 0 {
		t.Errorf("against its own anchor: %s", problems(again))
	}
}

// TestEveryChangeShows changes each field of each row.
func TestEveryChangeShows(t *testing.T) {
	table := newTable(t)
	for i := range table {
		for field := range reflect.TypeFor[Row]().NumField() {
			changed := slices.Clone(table)
			value := reflect.ValueOf(&changed[i]).Elem().Field(field)
			switch v := value.Addr().Interface().(type) {
			case *string:
				*v += "x"
			case *bool:
				*v = !*v
			case *int64:
				*v++
			case *time.Time:
				*v = v.Add(time.Microsecond)
			case *Place:
				v.Link += 100
			default:
				t.Fatalf("a field of type %s is not tested", value.Type())
			}
			if report := verify(t, changed); len(report.Problems) == 0 {
				t.Errorf("row %d: a change of %s does not show", i, reflect.TypeFor[Row]().Field(field).Name)
			}
		}
	}
}

// TestEveryRemovalShows takes away each row, each link, and each range of rows that
// is not the end of the last chain.
func TestEveryRemovalShows(t *testing.T) {
	table := newTable(t)
	for i := range table {
		for j := i + 1; j <= len(table); j++ {
			left := slices.Concat(table[:i], table[j:])
			whole := i == 0 || table[i-1].Place.whole() != table[i].Place.whole()
			if j == len(table) && whole {
				continue // a cut off end: see TestAnchor
			}
			if report := verify(t, left); len(report.Problems) == 0 {
				t.Errorf("without the rows %d to %d, of %d: nothing shows", i, j-1, len(table))
			}
		}
	}
}

// TestAnchor: a cut off end shows against an anchor, and so does a table set back.
func TestAnchor(t *testing.T) {
	table := newTable(t)
	anchors := verify(t, table).Heads
	for i := range table {
		if i > 0 && table[i-1].Place.whole() == table[i].Place.whole() {
			continue
		}
		if report := verify(t, table[:i], anchors...); !strings.Contains(problems(report), "is missing; the anchor has seen it") {
			t.Errorf("cut off at row %d: %q", i, problems(report))
		}
	}
	// Who has the key writes another history: it does not fit the anchor.
	forged := newTable(t)
	if report := verify(t, forged); len(report.Problems) > 0 {
		t.Fatalf("a history signed with the key is well formed: %s", problems(report))
	}
	if report := verify(t, forged, anchors...); len(report.Problems) == 0 {
		t.Error("another history passes for the one that was anchored")
	}
}

// TestErasureKeepsTheChain erases each row, and all.
func TestErasureKeepsTheChain(t *testing.T) {
	table := newTable(t)
	anchors := verify(t, table).Heads
	for i := range table {
		table[i] = Erase(newKey(t, rightsKey), workspace, table[i], "request-1")
		report := verify(t, table, anchors...)
		if len(report.Problems) > 0 || report.Erased != int64(i+1) {
			t.Fatalf("after %d erasures: %s", i+1, problems(report))
		}
	}
}

// TestHuskHasNothingOfTheRow: two rows about different people leave husks of which
// nobody can tell which is whose.
func TestHuskHasNothingOfTheRow(t *testing.T) {
	row := newTable(t)[3]
	husk := Erase(newKey(t, rightsKey), workspace, row, "request-1")
	text := fmt.Sprintf("%+v", husk)
	for _, part := range []string{row.Pseudonym, row.DecisionID, row.Purpose, row.SignalDigest, row.Salt, row.Notice, "12:00:03"} {
		if strings.Contains(text, part) {
			t.Errorf("the husk still has %q", part)
		}
	}
	guess := row // who knows all but the salt
	guess.Salt = ""
	if guess.digest() == husk.Digest {
		t.Error("the digest of a husk can be tested against a guess")
	}
}

func TestForgedErasureShows(t *testing.T) {
	table := newTable(t)
	row := table[5]
	for name, husk := range map[string]Row{
		"signed by the collector": Erase(newKey(t, recordKey), workspace, row, "request-1"),
		"signed by somebody":      Erase(newKey(t, otherKey), workspace, row, "request-1"),
		"of another workspace":    Erase(newKey(t, rightsKey), "other", row, "request-1"),
		"not signed":              func() Row { h := Erase(newKey(t, rightsKey), workspace, row, "r"); h.ErasureSignature = ""; return h }(),
		"with another request":    func() Row { h := Erase(newKey(t, rightsKey), workspace, row, "r"); h.ErasureID = "s"; return h }(),
		"with the person still there": func() Row {
			h := Erase(newKey(t, rightsKey), workspace, row, "r")
			h.Pseudonym = row.Pseudonym
			return h
		}(),
		"of another row": func() Row {
			h := Erase(newKey(t, rightsKey), workspace, table[6], "r")
			h.Place, h.Digest = row.Place, row.Digest
			return h
		}(),
	} {
		changed := slices.Clone(table)
		changed[5] = husk
		if report := verify(t, changed); len(report.Problems) == 0 {
			t.Errorf("an erasure %s does not show", name)
		}
	}
}

func TestAddedRowsShow(t *testing.T) {
	table := newTable(t)
	for name, added := range map[string]Row{
		"unsigned":          content(99),
		"a copy":            table[4],
		"in another place":  func() Row { r := table[4]; r.LinkRow = 77; return r }(),
		"in a chain of its": func() Row { r := table[4]; r.Chain = "0000"; return r }(),
	} {
		if report := verify(t, append(slices.Clone(table), added)); len(report.Problems) == 0 {
			t.Errorf("%s: does not show", name)
		}
	}
	chain := NewChain(newKey(t, otherKey), workspace, Head{})
	rows := []Row{content(1)}
	chain.Sign(rows)
	if report := verify(t, append(slices.Clone(table), rows...)); !strings.Contains(problems(report), "a key that the keyring does not have") {
		t.Errorf("a chain of another key: %q", problems(report))
	}
}

// TestLostLink: a write that may have failed begins a chain that names the last
// link that was certain, whether or not the lost one shows up.
func TestLostLink(t *testing.T) {
	for _, shows := range []bool{true, false} {
		chain := NewChain(newKey(t, recordKey), workspace, Head{})
		one, lost, two := []Row{content(1)}, []Row{content(2)}, []Row{content(2), content(3)}
		chain.Sign(one)
		chain.Keep()
		chain.Sign(lost)
		chain.Lose()
		chain.Sign(two)
		chain.Keep()
		table := append(slices.Clone(one), two...)
		if shows {
			table = append(table, lost...)
		}
		if report := verify(t, table); len(report.Problems) > 0 || report.Chains != 2 {
			t.Errorf("the lost one shows up: %t: %s", shows, problems(report))
		}
		if report := verify(t, two); len(report.Problems) == 0 {
			t.Error("the first chain is gone, and nothing shows")
		}
	}
}

func TestRotatedKey(t *testing.T) {
	chain := NewChain(newKey(t, otherKey), workspace, Head{})
	rows := []Row{content(1)}
	chain.Sign(rows)
	v := NewVerifier(workspace, keysOf(t, recordKey, otherKey), nil)
	v.Add(rows[0])
	if report := v.Finish(); len(report.Problems) > 0 {
		t.Errorf("a row of an earlier version of the key: %s", problems(report))
	}
}

func TestHeads(t *testing.T) {
	head := Head{"c1", 7, strings.Repeat("ab", 32)}
	if got, err := ParseHead(head.String()); err != nil || got != head {
		t.Errorf("%+v, %v", got, err)
	}
	for _, text := range []string{"c1", "c1:0:" + head.Digest, "c1:x:" + head.Digest, "c1:7:ab", ":7:" + head.Digest, head.String() + ":"} {
		if _, err := ParseHead(text); err == nil {
			t.Errorf("%q is read as a head", text)
		}
	}
	if _, err := NewKey(make([]byte, 31)); err == nil {
		t.Error("a seed of 31 bytes makes a key")
	}
}

// TestHostileTable: whatever is in the table, verification ends and says so.
func TestHostileTable(t *testing.T) {
	table := newTable(t)
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		hostile := slices.Clone(table)
		for range 3 {
			r := &hostile[random.IntN(len(hostile))]
			switch random.IntN(4) {
			case 0:
				r.LinkRow = []int64{-1, 0, 1 << 62, -1 << 62}[random.IntN(4)]
			case 1:
				r.Link = []int64{-1, 0, 1 << 62, 3}[random.IntN(4)]
			case 2:
				r.LinkRows = []int64{-1, 0, 1 << 62}[random.IntN(3)]
			case 3:
				r.Previous, r.Chain = "a:b:c", ""
			}
		}
		if report := verify(t, hostile); len(report.Problems) == 0 && !reflect.DeepEqual(hostile, table) {
			t.Fatal("nothing shows")
		}
	}
}

func BenchmarkSign(b *testing.B) {
	chain := NewChain(newKey(b, recordKey), workspace, Head{})
	rows := make([]Row, 12) // two identifiers, six purposes
	for i := range rows {
		rows[i] = content(i)
	}
	for b.Loop() {
		chain.Sign(rows)
		chain.Keep()
	}
}

func BenchmarkVerify(b *testing.B) {
	table := newTable(b)
	for b.Loop() {
		v := NewVerifier(workspace, keysOf(b, recordKey), keysOf(b, rightsKey))
		for _, r := range table {
			v.Add(r)
		}
		v.Finish()
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*len(table)), "µs/row")
}
