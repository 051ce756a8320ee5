package collector

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"

	"github.com/sluis-cdp/sluis/consent/seal"
)

// someKey is a keyring with one key.
type someKey struct{ name string }

func (k someKey) Key(_ context.Context, name string) ([]byte, error) {
	if name != k.name {
		return nil, seal.ErrNoKey
	}
	return bytes.Repeat([]byte{7}, 32), nil
}

func (k someKey) Names(context.Context) ([]string, error) { return []string{k.name}, nil }

func testSuppressor(t testing.TB) *seal.Suppressor {
	t.Helper()
	s, err := seal.NewSuppressor(context.Background(), someKey{seal.KeySuppress}, "test")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// suppressing is a list in a file, of some pseudonyms.
func suppressing(t testing.TB, stones ...Tombstone) *SuppressionList {
	t.Helper()
	path := filepath.Join(t.TempDir(), "suppressed")
	byToken := make(map[string]Tombstone)
	for _, stone := range stones {
		byToken[stone.Token] = stone
	}
	if err := WriteTombstones(path, byToken); err != nil {
		t.Fatal(err)
	}
	l, err := OpenSuppressionList(path, func() (*seal.Suppressor, error) { return testSuppressor(t), nil })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

var erasedDay = time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)

// erasedAnna are tombstones of the e-mail address of anna.
func erasedAnna(t testing.TB, readmitted time.Time) *SuppressionList {
	t.Helper()
	b := newBench(t, nil)
	p, err := b.Pseudonymizer.Pseudonym(seal.Email, "anna@example.com")
	if err != nil {
		t.Fatal(err)
	}
	return suppressing(t, Tombstone{Token: testSuppressor(t).Token(p.Token()), ErasedAt: erasedDay, Readmitted: readmitted})
}

// TestErasedPeopleStayOut: whatever comes of somebody who was erased, in whatever
// place of an event, nothing of it is kept; and others are not touched.
func TestErasedPeopleStayOut(t *testing.T) {
	const agreed = `"context":{"consent":{"categoryPreferences":{"identity":true,"analytics":true,"marketing":true}}}`
	const notLinked = `"context":{"consent":{"categoryPreferences":{"analytics":true}}}`
	tests := []struct {
		name, path, body string
		readmitted       time.Time
		want             string
	}{
		{"in traits", "/v1/identify", `{"anonymousId":"a-1","traits":{"email":"Anna@Example.com"},` + agreed, time.Time{}, "withheld/erased"},
		{"as user id", "/v1/track", `{"event":"Live Chat Started","userId":"anna@example.com",` + agreed, time.Time{}, "withheld/erased"},
		{"without consent that would link her", "/v1/identify", `{"anonymousId":"a-1","traits":{"email":"anna@example.com"},` + notLinked, time.Time{}, "withheld/erased"},
		{"in an event that would be quarantined", "/v1/track", `{"event":"Live Chat Started","userId":"anna@example.com","messageId":"` + strings.Repeat("m", 101) + `",` + agreed, time.Time{}, "withheld/erased"},
		{"with a time after the erasure", "/v1/track", `{"event":"Live Chat Started","userId":"anna@example.com","timestamp":"2026-02-28T10:00:00Z",` + agreed, time.Time{}, "withheld/erased"},
		{"somebody else", "/v1/track", `{"event":"Live Chat Started","userId":"ben@example.com",` + agreed, time.Time{}, "landed/"},
		{"readmitted, from before", "/v1/track", `{"event":"Live Chat Started","userId":"anna@example.com","timestamp":"2026-02-09T10:00:00Z",` + agreed, erasedDay.AddDate(0, 0, 10), "withheld/erased"},
		{"readmitted, since", "/v1/track", `{"event":"Live Chat Started","userId":"anna@example.com","timestamp":"2026-02-28T10:00:00Z",` + agreed, erasedDay.AddDate(0, 0, 10), "landed/"},
		{"refused", "/v1/track", `{"event":"Live Chat Started","userId":"anna@example.com","context":{"consent":{"categoryPreferences":{"analytics":false}}}`, time.Time{}, "counted/analytics denied by segment_consent"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			list := erasedAnna(t, test.readmitted)
			b := newBench(t, func(c *Config) { c.Suppressed = list })
			b.post(t, test.path, test.body+`,"writeKey":"wk_web"}`)
			rows := b.spool.rows(t)
			sums := balanced(t, b)
			if sums[test.want] != 1 {
				t.Errorf("the ledger is %v, want %s", sums, test.want)
			}
			landed := strings.HasPrefix(test.want, "landed")
			if n := len(rows.Events); (n == 1) != landed {
				t.Errorf("%d events landed", n)
			}
			if !landed && len(rows.Vault)+len(rows.Consents)+len(rows.Quarantine) > 0 {
				t.Errorf("something was kept: %+v", rows)
			}
		})
	}
}

// A choice of somebody who was erased is not recorded either: it would be a row
// with the pseudonym.
func TestChoiceOfTheErasedIsNotKept(t *testing.T) {
	list := erasedAnna(t, time.Time{})
	b := newBench(t, func(c *Config) { c.Suppressed = list })
	b.post(t, "/v1/consent", `{"writeKey":"wk_web","email":"anna@example.com","userId":"u-1","purposes":{"marketing":true}}`)
	rows := b.spool.rows(t)
	if len(rows.Consents) == 0 {
		t.Fatal("the choice of the other identifier is missing, so this shows nothing")
	}
	for _, c := range rows.Consents {
		if list.Holds(c.Pseudonym, c.ReceivedAt) {
			t.Error("a row has the pseudonym")
		}
	}
}

// What the spool still had of a person does not land, and the ledger says so.
func TestLoaderLeavesOutTheErased(t *testing.T) {
	dir := t.TempDir()
	s := openSpool(t, filepath.Join(dir, "spool"))
	at := time.Date(2026, 3, 1, 10, 0, 30, 0, time.UTC)
	event := func(id string, row EventRow) EventRow {
		row.EventID, row.SourceID, row.OccurredAt, row.ReceivedAt = id, "web", at, at
		return row
	}
	rec := Record{ReceivedAt: at, Rows: Rows{
		Events: []EventRow{
			event("user", EventRow{UserID: "us1_anna"}), event("device", EventRow{AnonymousID: "us1_anna"}),
			event("listed", EventRow{Identifiers: []IdentifierRow{{"email", "em1_x"}, {"user_id", "us1_anna"}}}), event("other", EventRow{UserID: "us1_ben"}),
		},
		Vault:  []VaultRow{{Pseudonym: "us1_anna", ReceivedAt: at}, {Pseudonym: "us1_ben", ReceivedAt: at}},
		Ledger: []LedgerRow{{SourceID: "web", Minute: at.Truncate(time.Minute), Outcome: "received", N: 4}, {SourceID: "web", Minute: at.Truncate(time.Minute), Outcome: "landed", N: 4}},
	}}
	if _, err := s.Append(t.Context(), rec.AppendTo(nil)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	list := suppressing(t, Tombstone{Token: testSuppressor(t).Token("us1_anna"), ErasedAt: erasedDay})
	sink := ParquetSink{Dir: filepath.Join(dir, "landing")}
	loader := &Loader{Spool: s, Sink: sink, Suppressed: list, Logger: slog.New(slog.DiscardHandler)}
	if err := loader.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int{"other": 1}, landedIDs(t, sink.Dir)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if vault := landedRows[VaultRow](t, sink.Dir, "vault"); len(vault) != 1 || vault[0].Pseudonym != "us1_ben" {
		t.Errorf("the vault has %d rows", len(vault))
	}
	got := make(map[string]int64)
	for _, l := range landedRows[LedgerRow](t, sink.Dir, "ledger") {
		got[l.Outcome+"/"+l.Reason] += l.N
	}
	if diff := cmp.Diff(map[string]int64{"received/": 4, "landed/": 1, "withheld/erased": 3}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if text := everyByte(t, filepath.Join(dir, "spool")); bytes.Contains(text, []byte("us1_anna")) {
		t.Error("the spool still has her, after its records landed")
	}
}

// Shed lets go of the segment that is being written, too.
func TestShedForgetsWhatLanded(t *testing.T) {
	dir := t.TempDir()
	s := openSpool(t, dir)
	loader := &Loader{Spool: s, Sink: ParquetSink{Dir: filepath.Join(t.TempDir(), "landing")}, Logger: slog.New(slog.DiscardHandler)}
	appendEvent(t, s, "canary-event", erasedDay)
	if err := loader.Shed(t.Context()); err != nil { // nothing has landed yet
		t.Fatal(err)
	}
	if !bytes.Contains(everyByte(t, dir), []byte("canary-event")) {
		t.Fatal("what had not landed is gone")
	}
	loader.landed.Store(s.Stats().Next)
	appendEvent(t, s, "later-event", erasedDay)
	if err := loader.Shed(t.Context()); err != nil {
		t.Fatal(err)
	}
	if text := everyByte(t, dir); bytes.Contains(text, []byte("canary-event")) || !bytes.Contains(text, []byte("later-event")) {
		t.Error("the spool has what landed, or not what did not")
	}
}

// The list follows its file, and stays what it was while the file cannot be read.
func TestSuppressionListIsReread(t *testing.T) {
	path := filepath.Join(t.TempDir(), "suppressed")
	suppressor := testSuppressor(t)
	keyed := 0
	l, err := OpenSuppressionList(path, func() (*seal.Suppressor, error) { keyed++; return suppressor, nil })
	if err != nil || l.Len() != 0 || l.Holds("us1_anna", erasedDay) || keyed != 0 {
		t.Fatalf("without a file: %v, %d tombstones, the key was asked for %d times", err, l.Len(), keyed)
	}
	stone := Tombstone{Token: suppressor.Token("us1_anna"), ErasedAt: erasedDay}
	if err := WriteTombstones(path, map[string]Tombstone{stone.Token: stone}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []bool{true, false} {
		if changed, err := l.Reread(); changed != want || err != nil {
			t.Errorf("Reread: %v, %v, want %v", changed, err, want)
		}
	}
	if !l.Holds("us1_anna", erasedDay) || l.Holds("us1_ben", erasedDay) || keyed != 1 {
		t.Error("the list does not hold whom it should")
	}
	if err := os.WriteFile(path, []byte("su1_x not-a-time\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Reread(); err == nil || !strings.Contains(err.Error(), ":1:") {
		t.Errorf("a damaged file: %v", err)
	}
	if !l.Holds("us1_anna", erasedDay) {
		t.Error("a damaged file let her in")
	}
	var none *SuppressionList
	if _, err := none.Reread(); err != nil || none.Len() != 0 || none.Holds("us1_anna", erasedDay) {
		t.Error("no list is not an empty one")
	}
}

func TestListWithoutItsKeyIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "suppressed")
	if err := WriteTombstones(path, map[string]Tombstone{"su1_x": {Token: "su1_x", ErasedAt: erasedDay}}); err != nil {
		t.Fatal(err)
	}
	_, err := OpenSuppressionList(path, func() (*seal.Suppressor, error) { return nil, seal.ErrNoKey })
	if !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("Open: %v", err)
	}
}

func FuzzReadTombstones(f *testing.F) {
	f.Add([]byte(suppressionHeader + "\nsu1_00 2026-01-01T00:00:00Z\nsu1_01 2026-01-01T00:00:00Z 2026-02-01T00:00:00.5Z\n"))
	f.Add([]byte("su1_00"))
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(t.TempDir(), "suppressed")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		stones, err := ReadTombstones(path)
		if err != nil {
			return
		}
		if err := WriteTombstones(path, stones); err != nil {
			t.Fatal(err)
		}
		again, err := ReadTombstones(path)
		if diff := cmp.Diff(stones, again, cmp.Comparer(time.Time.Equal)); diff != "" || err != nil {
			t.Errorf("%v (-written +read)\n%s", err, diff)
		}
	})
}

// landedSome lands two folders with rows that differ in what is NULL.
func landedSome(t *testing.T, sink ParquetSink) (before map[string]EventRow) {
	t.Helper()
	at := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	for first := range uint64(2) {
		b := Batch{SpoolID: "0011223344556677", First: first, Last: first + 1, Day: at}
		name := string(rune('a' + first))
		b.Events = []EventRow{
			{EventID: name + "1", SourceID: "web", OccurredAt: at, ReceivedAt: at, Region: "NL", Purposes: []string{"analytics"}, Properties: `{"n":1}`},
			{EventID: name + "2", SourceID: "web", OccurredAt: at, ReceivedAt: at, UserID: "us1_anna"},
			{EventID: name + "3", SourceID: "web", OccurredAt: at, ReceivedAt: at, UserID: "us1_ben", Identifiers: []IdentifierRow{{"user_id", "us1_ben"}, {"email", "em1_ben"}}},
			{EventID: name + "4", SourceID: "web", OccurredAt: at, ReceivedAt: at, Identifiers: []IdentifierRow{{"user_id", "us1_x"}, {"email", "em1_anna"}}},
			{EventID: name + "5", SourceID: "web", OccurredAt: at, ReceivedAt: at, PageTitle: "T", Violations: []string{"v", "w"}},
			{EventID: "copy", SourceID: "web", OccurredAt: at, ReceivedAt: at},
		}
		b.Vault = []VaultRow{{Pseudonym: "em1_anna", Ciphertext: []byte{1}, ReceivedAt: at}}
		b.Quarantine = []QuarantineRow{{QuarantineID: name + "-q", Reason: "r", ReceivedAt: at}, {QuarantineID: name + "-r", Reason: "r", ReceivedAt: at}}
		b.Ledger = []LedgerRow{{SourceID: "web", Minute: at, Outcome: "landed", N: 6}}
		b.Unreadable = []Unreadable{{Seq: first, Data: []byte("of another version: " + []string{"em1_anna", "em1_ben"}[first])}}
		if err := sink.Land(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	before = make(map[string]EventRow)
	for _, e := range landedRows[EventRow](t, sink.Dir, "events") {
		before[e.EventID] = e
	}
	return before
}

// TestErase takes out what is to go, leaves every other row as it was, to the last
// NULL, and does nothing when it is done again.
func TestErase(t *testing.T) {
	sink := ParquetSink{Dir: t.TempDir()}
	before := landedSome(t, sink)
	gone := Gone{
		Pseudonyms: map[string]bool{"us1_anna": true, "em1_anna": true}, Events: map[string]bool{"copy": true}, Quarantine: map[string]bool{"a-q": true},
	}
	if err := os.MkdirAll(filepath.Join(sink.Dir, "_tmp", "half"), 0o755); err != nil {
		t.Fatal(err)
	}
	removed, err := sink.Erase(t.Context(), gone)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int64{"events": 6, "vault": 2, "quarantine": 1, "unreadable": 1}
	if diff := cmp.Diff(want, removed); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	var left []string
	for _, e := range landedRows[EventRow](t, sink.Dir, "events") {
		left = append(left, e.EventID)
		if diff := cmp.Diff(before[e.EventID], e); diff != "" {
			t.Errorf("%s is not as it was\n%s", e.EventID, diff)
		}
	}
	slices.Sort(left)
	if diff := cmp.Diff([]string{"a1", "a3", "a5", "b1", "b3", "b5"}, left); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	file, _ := filepath.Glob(filepath.Join(sink.Dir, "dt=*", "*-00000000000000000001", "events.parquet"))
	if shape := notNull(t, file[0], "region"); len(file) != 1 || shape != "x.." {
		t.Errorf("region is not NULL in rows %s, want x..", shape)
	}
	if removed, err = sink.Erase(t.Context(), gone); err != nil || len(removed) != 0 {
		t.Errorf("the second time: %v, %v", removed, err)
	}
	aside, _ := filepath.Glob(filepath.Join(sink.Dir, "_*"))
	if len(aside) != 0 {
		t.Errorf("%v are left", aside)
	}
}

// A choice becomes a husk, which lands as NULL what it does not have; one that is
// in no chain, as those of an earlier version, goes; others stay.
func TestEraseLeavesHusksOfChoices(t *testing.T) {
	sink := ParquetSink{Dir: t.TempDir()}
	at := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	choice := func(pseudonym, chain string) ConsentRow {
		return ConsentRow{DecisionID: "d", Pseudonym: pseudonym, Purpose: "marketing", Granted: true, Signal: "choice", SignalDigest: "s", PolicyVersion: "1", SourceID: "web", DecidedAt: at, ReceivedAt: at, Chain: chain, Link: 1, LinkRows: 2, RowDigest: "digest", Salt: "salt"}
	}
	b := Batch{SpoolID: "0011223344556677", First: 1, Last: 2, Day: at, Rows: Rows{Consents: []ConsentRow{choice("us1_anna", "c"), choice("us1_ben", "c"), choice("us1_anna", "")}}}
	if err := sink.Land(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	gone := Gone{Pseudonyms: map[string]bool{"us1_anna": true}, Husk: func(r ConsentRow) ConsentRow {
		return ConsentRow{ReceivedAt: r.ReceivedAt, Chain: r.Chain, Link: r.Link, LinkRows: r.LinkRows, RowDigest: r.RowDigest, ErasureID: "request"}
	}}
	for _, want := range []int64{2, 0} {
		if removed, err := sink.Erase(t.Context(), gone); err != nil || removed["consents"] != want {
			t.Errorf("%v, %v, want %d", removed, err, want)
		}
	}
	rows := landedRows[ConsentRow](t, sink.Dir, "consents")
	if len(rows) != 2 || rows[0].ErasureID != "request" || rows[0].Salt != "" || !rows[0].DecidedAt.IsZero() || rows[1].Pseudonym != "us1_ben" || rows[1].Salt != "salt" {
		t.Errorf("left are %+v", rows)
	}
	files, _ := filepath.Glob(filepath.Join(sink.Dir, "dt=*", "*", "consents.parquet"))
	f, err := os.Open(files[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	file := parquet.NewReader(f)
	some := make([]parquet.Row, 1)
	if _, err := file.ReadRows(some); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	for _, column := range []string{"pseudonym", "purpose", "decision_id", "decided_at", "salt"} {
		leaf, _ := file.Schema().Lookup(column)
		if !some[0][leaf.ColumnIndex].IsNull() {
			t.Errorf("%s of a husk is not NULL", column)
		}
	}
}

// Files that an earlier version wrote have no chain, and columns that are never
// NULL.
func TestEraseReadsChoicesOfAnEarlierVersion(t *testing.T) {
	type earlier struct {
		DecisionID string    `parquet:"decision_id"`
		Pseudonym  string    `parquet:"pseudonym"`
		Purpose    string    `parquet:"purpose,dict"`
		Granted    bool      `parquet:"granted"`
		DecidedAt  time.Time `parquet:"decided_at,timestamp(microsecond)"`
		Origin
	}
	dir := filepath.Join(t.TempDir(), "dt=2026-03-01", "0011223344556677-00000000000000000001-00000000000000000002")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	if err := writeTable(dir, "consents", []earlier{{"d1", "us1_anna", "marketing", true, at, Origin{}}, {"d2", "us1_ben", "marketing", true, at, Origin{SpoolOffset: 7}}}); err != nil {
		t.Fatal(err)
	}
	sink := ParquetSink{Dir: filepath.Dir(filepath.Dir(dir))}
	removed, err := sink.Erase(t.Context(), Gone{Pseudonyms: map[string]bool{"us1_anna": true}})
	if err != nil || removed["consents"] != 1 {
		t.Fatalf("%v, %v", removed, err)
	}
	want := []ConsentRow{{DecisionID: "d2", Pseudonym: "us1_ben", Purpose: "marketing", Granted: true, DecidedAt: at, Origin: Origin{SpoolOffset: 7}}}
	got := landedRows[ConsentRow](t, sink.Dir, "consents")
	if len(got) == 1 {
		got[0].ReceivedAt = time.Time{} // the table had it always; this test does not
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// Folders that were merged into another are not read any more, and still on disk.
func TestEraseReachesMergedFolders(t *testing.T) {
	sink := ParquetSink{Dir: t.TempDir()}
	at := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	for first := range uint64(compactAfter) {
		b := Batch{SpoolID: "0011223344556677", First: first, Last: first + 1, Day: at, Rows: Rows{Events: []EventRow{{EventID: "e", UserID: "us1_anna"}, {EventID: "f"}}}}
		if err := sink.Land(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	if err := sink.Compact(at, at); err != nil {
		t.Fatal(err)
	}
	removed, err := sink.Erase(t.Context(), Gone{Pseudonyms: map[string]bool{"us1_anna": true}})
	if err != nil || removed["events"] != compactAfter {
		t.Errorf("removed %v, %v", removed, err)
	}
	folders, _ := filepath.Glob(filepath.Join(sink.Dir, "dt=*", "*"))
	if len(folders) != 1 {
		t.Errorf("%d folders are left", len(folders))
	}
	if ids := landedIDs(t, sink.Dir); ids["e"] != 0 || ids["f"] != compactAfter {
		t.Errorf("left are %v", ids)
	}
}

// Who lands waits for an erasure, and who merges leaves it for another time.
func TestErasingIsAlone(t *testing.T) {
	sink := ParquetSink{Dir: t.TempDir()}
	leave, err := sink.Alone(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := sink.Compact(erasedDay, erasedDay); err != nil {
		t.Errorf("Compact: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := sink.Enter(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Enter during an erasure: %v", err)
	}
	entered := make(chan error)
	go func() {
		out, err := sink.Enter(t.Context())
		if err == nil {
			err = out()
		}
		entered <- err
	}()
	if err := leave(); err != nil {
		t.Fatal(err)
	}
	if err := <-entered; err != nil {
		t.Errorf("Enter after an erasure: %v", err)
	}
}

// A request's tombstones land once.
func TestTombstonesLandOnce(t *testing.T) {
	sink := ParquetSink{Dir: t.TempDir()}
	for range 2 {
		err := sink.Tombstones("0123456789abcdeft", erasedDay, []ErasureRow{{RequestID: "0123456789abcdef", Token: "su1_x", ErasedAt: erasedDay, Scope: "all"}},
			Rows{Ledger: []LedgerRow{{SourceID: "web", Minute: erasedDay, Outcome: "landed", N: -1}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	if rows := landedRows[ErasureRow](t, sink.Dir, "erasures"); len(rows) != 1 || rows[0].SpoolID != "e0123456789abcdeft" {
		t.Errorf("%d rows", len(rows))
	}
	if rows := landedRows[LedgerRow](t, sink.Dir, "ledger"); len(rows) != 1 {
		t.Errorf("%d rows of the ledger", len(rows))
	}
}

// What a list costs an event: one HMAC for each identifier, and nothing if it is
// empty.
func BenchmarkSuppressionListHolds(b *testing.B) {
	list := suppressing(b, Tombstone{Token: testSuppressor(b).Token("us1_anna"), ErasedAt: erasedDay})
	for b.Loop() {
		list.Holds("em1_0123456789abcdef0123456789abcdef", erasedDay)
	}
}
