package collector

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/consent/seal"
)

// landed is a landing folder that a collector filled, and its keys.
type landed struct {
	sink  ParquetSink
	keys  seal.Dir
	bench *bench
}

var rotationPurposes = []string{"necessary", "personalization", "marketing", "advertising"}

// newLanded lets events of some people land in two folders: with all kinds of
// identifiers, sealed values, choices, groups, and a personal message id.
func newLanded(t *testing.T) *landed {
	t.Helper()
	l := &landed{sink: ParquetSink{Dir: filepath.Join(t.TempDir(), "landing")}, keys: seal.Dir(filepath.Join(t.TempDir(), "keys"))}
	if err := seal.Generate(l.keys, rotationPurposes); err != nil {
		t.Fatal(err)
	}
	l.bench = l.collector(t)
	for part := range 2 {
		var events []string
		for n := range 4 {
			events = append(events, identifyOf(4*part+n),
				fmt.Sprintf(`{"type":"track","messageId":"t-%[1]d-%[2]d","event":"Live Chat Started","userId":"customer-%[1]d","anonymousId":"0b7c1f6e-6a31-4f0e-9a55-5b1b7f2c9d1%[1]d",%[3]s}`, n, part, granting),
				fmt.Sprintf(`{"type":"group","messageId":"g%[2]d-person%[1]d@example.com","groupId":"acme","userId":"customer-%[1]d","anonymousId":"visitor %[1]d",%[3]s}`, n, part, granting))
		}
		if status, answer := l.bench.post(t, "/v1/batch", `{"batch":[`+strings.Join(events, ",")+`]}`, "X-Write-Key", "wk_web"); status != 200 || answer["notLanded"] != nil {
			t.Fatal(status, answer)
		}
		l.bench.post(t, "/v1/consent", `{"userId":"customer-1","purposes":{"analytics":true,"marketing":false}}`, "X-Write-Key", "wk_web")
		rows := l.bench.spool.rows(t)
		l.bench.spool.records = nil
		err := l.sink.Land(context.Background(), Batch{
			SpoolID: "0011223344556677", First: uint64(10 * part), Last: uint64(10*part + 10), Day: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), Rows: rows,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// collector is one with the keys as they are now.
func (l *landed) collector(t *testing.T) *bench {
	t.Helper()
	return newBench(t, func(c *Config) {
		var err error
		if c.Pseudonymizer, err = seal.NewPseudonymizer(context.Background(), l.keys, "test", "NL"); err != nil {
			t.Fatal(err)
		}
		if c.Sealer, err = seal.NewSealer(context.Background(), l.keys, "test", rotationPurposes); err != nil {
			t.Fatal(err)
		}
	})
}

func (l *landed) rotator(t *testing.T, fault func() error) *Rotator {
	t.Helper()
	ctx := context.Background()
	r := &Rotator{fault: fault}
	err := seal.NextKeys(ctx, seal.OpenFolder(l.keys, nil), nil, 1, 2)
	if err == nil {
		r.Rotation, err = seal.NewRotation(ctx, l.keys, "test", "NL", 1, 2)
	}
	if err == nil {
		r.Opener, err = seal.NewOpener(ctx, l.keys, "test", rotationPurposes)
	}
	if err == nil {
		r.Sealer, err = seal.NewSealer(ctx, l.keys, "test", rotationPurposes)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (l *landed) rotate(t *testing.T, fault func() error) (RotationReport, error) {
	t.Helper()
	r := l.rotator(t, fault)
	if err := l.sink.PrepareRotation(context.Background(), r); err != nil {
		return RotationReport{}, err
	}
	return l.sink.Rotate(context.Background(), r)
}

// rows are all that landed.
func (l *landed) rows(t *testing.T) Rows {
	t.Helper()
	dirs, err := l.sink.rotatable()
	if err != nil {
		t.Fatal(err)
	}
	var all Rows
	for _, err := range []error{
		readTables(dirs, "events", func(rows []EventRow) error { all.Events = append(all.Events, rows...); return nil }),
		readTables(dirs, "vault", func(rows []VaultRow) error { all.Vault = append(all.Vault, rows...); return nil }),
		readTables(dirs, "consents", func(rows []ConsentRow) error { all.Consents = append(all.Consents, rows...); return nil }),
		readTables(dirs, "seal_keys", func(rows []SealKeyRow) error { all.SealKeys = append(all.SealKeys, rows...); return nil }),
		readTables(dirs, "elements", func(rows []ElementRow) error { all.Elements = append(all.Elements, rows...); return nil }),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// joinsOf is what landed, with each pseudonym as a number by when it is first met:
// what joins see.
func joinsOf(rows Rows) []string {
	numbers := make(map[string]string)
	number := func(token string) string {
		if token == "" {
			return ""
		}
		if _, ok := numbers[token]; !ok {
			numbers[token] = fmt.Sprint(token[:2], len(numbers))
		}
		return numbers[token]
	}
	var lines []string
	for _, e := range rows.Events {
		id := e.EventID
		if strings.HasPrefix(id, digestPrefix) {
			id = number("id" + id)
		}
		line := fmt.Sprint(id, e.Event, number(e.AnonymousID), number(e.UserID), number(e.GroupID), e.OccurredAt, e.DecisionID, e.Properties, e.Violations)
		for _, i := range e.Identifiers {
			line += " " + i.Kind + number(i.Pseudonym)
		}
		lines = append(lines, line)
	}
	for _, v := range rows.Vault {
		lines = append(lines, fmt.Sprint(number(v.Pseudonym), v.Field, v.Purpose, v.DecisionID, v.ReceivedAt, number("to"+v.Token)))
	}
	for _, c := range rows.Consents {
		lines = append(lines, fmt.Sprint(number(c.Pseudonym), c.Purpose, c.Granted, c.DecisionID))
	}
	for _, e := range rows.Elements {
		lines = append(lines, "element of "+number(e.Pseudonym))
	}
	return lines
}

// pseudonyms are all texts of a version in the files of a folder, as bytes.
func (l *landed) search(t *testing.T, texts map[string]bool) (found []string) {
	t.Helper()
	err := filepath.WalkDir(l.sink.Dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		if !strings.HasSuffix(path, ".parquet") {
			return nil
		}
		content, err := os.ReadFile(path)
		for text := range texts {
			if bytes.Contains(content, []byte(text)) {
				found = append(found, filepath.Base(path))
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// checkRotated holds what landed against what it was, and against what a collector
// with the new keys makes of the same people.
func (l *landed) checkRotated(t *testing.T, before Rows) {
	t.Helper()
	after := l.rows(t)
	if diff := cmp.Diff(joinsOf(before), joinsOf(after)); diff != "" {
		t.Fatalf("joins changed: %s", diff)
	}
	for _, e := range after.Events {
		for _, id := range e.Identifiers {
			if p, ok := seal.ParseToken(id.Pseudonym); !ok || p.Version != 2 {
				t.Fatalf("a pseudonym is still of version 1")
			}
		}
	}
	old := make(map[string]bool)
	for _, e := range before.Events {
		for _, text := range []string{e.AnonymousID, e.UserID, e.GroupID} {
			if text != "" {
				old[text] = true
			}
		}
		if strings.HasPrefix(e.EventID, digestPrefix) {
			old[e.EventID+"\""] = true
		}
	}
	if found := l.search(t, old); len(found) > 0 {
		t.Errorf("old pseudonyms are in %v", found)
	}
	if err := seal.DestroyKeys(context.Background(), 1, seal.OpenFolder(l.keys, nil)); err != nil {
		t.Fatal(err)
	}
	l.openAll(t, after)

	// The same person comes again.
	b := l.collector(t)
	b.post(t, "/v1/identify", identifyOf(1), "X-Write-Key", "wk_web")
	again := b.spool.rows(t)
	known := func(r Rows) (list []string) {
		for _, v := range r.Vault {
			list = append(list, v.Pseudonym+" "+v.Field+" "+v.Purpose+" "+v.Token)
		}
		for _, e := range r.Elements {
			list = append(list, e.Pseudonym+string(e.Element)+fmt.Sprint(e.KeyVersion))
		}
		return list
	}
	landed := known(after)
	for _, line := range known(again) {
		if !slices.Contains(landed, line) {
			t.Error("a collector with the new keys makes something else of the same person")
		}
	}
	if len(again.Vault) == 0 || len(again.Elements) == 0 {
		t.Error("nothing was compared")
	}
}

// openAll opens every sealed value with the keys of today.
func (l *landed) openAll(t *testing.T, rows Rows) {
	t.Helper()
	opener, err := seal.NewOpener(context.Background(), l.keys, "test", rotationPurposes)
	if err != nil {
		t.Fatal(err)
	}
	keys := make(map[string]seal.DataKey)
	for _, k := range rows.SealKeys {
		keys[k.KeyID] = seal.DataKey{ID: k.KeyID, Purpose: k.Purpose, Recipient: k.Recipient, PSKID: k.PSKID, EncapsulatedKey: k.EncapsulatedKey, CreatedAt: k.CreatedAt}
	}
	for _, v := range rows.Vault {
		_, err := opener.Open(seal.Sealed{KeyID: v.KeyID, Ciphertext: v.Ciphertext}, keys[v.KeyID], seal.Binding{
			Purpose: v.Purpose, Field: v.Field, Subject: v.Pseudonym, Decision: v.DecisionID, Record: seal.VaultRecord(v.Token, v.ReceivedAt),
		})
		if err != nil {
			t.Fatalf("a value does not open any more: %v", err)
		}
	}
}

func TestRotateLanded(t *testing.T) {
	l := newLanded(t)
	before := l.rows(t)
	report, err := l.rotate(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	if report.Resealed != int64(len(before.Vault)) || report.Lost != 0 || report.Orphans != 0 || report.Elements == 0 || report.Rows["events"] != int64(len(before.Events)) {
		t.Errorf("reported %+v", report)
	}
	l.checkRotated(t, before)
}

var errKilled = errors.New("killed")

// TestRotationIsKilledAnywhere ends a rotation before each file that it replaces,
// twice in a row, and lets another one go on.
func TestRotationIsKilledAnywhere(t *testing.T) {
	for kill := 0; ; kill++ {
		l := newLanded(t)
		before := l.rows(t)
		at := func(n int) func() error {
			return func() error {
				if n--; n < 0 {
					return errKilled
				}
				return nil
			}
		}
		_, err := l.rotate(t, at(kill))
		finished := err == nil
		if !finished && !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
		if !finished {
			if _, err := l.rotate(t, at(1)); err != nil && !errors.Is(err, errKilled) {
				t.Fatalf("killed before file %d, and again: %v", kill, err)
			}
			if _, err := l.rotate(t, nil); err != nil {
				t.Fatalf("killed before file %d: %v", kill, err)
			}
		}
		l.checkRotated(t, before)
		if finished {
			if kill < 8 {
				t.Errorf("there were only %d files to replace", kill)
			}
			return
		}
	}
}

// TestRotationRefusesOrphans: without its element a pseudonym cannot be carried
// over, and nothing is changed; or it becomes a stranger, the same everywhere.
func TestRotationRefusesOrphans(t *testing.T) {
	l := newLanded(t)
	dirs, err := l.sink.rotatable()
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		path := filepath.Join(dir, "elements.parquet")
		rows, err := readTable[ElementRow](path)
		if err != nil {
			t.Fatal(err)
		}
		for i := range rows {
			if strings.HasPrefix(rows[i].Pseudonym, "us") {
				rows[i].Element[3] ^= 1 // as somebody with the warehouse could
			}
		}
		if err := replaceRows(l.sink, &Rotator{}, path, rows); err != nil {
			t.Fatal(err)
		}
	}
	before := l.rows(t)
	var orphans *OrphanError
	if _, err := l.rotate(t, nil); !errors.As(err, &orphans) || orphans.Pseudonyms != 8 {
		t.Fatalf("got %v", err)
	}
	if diff := cmp.Diff(before, l.rows(t)); diff != "" {
		t.Errorf("something was changed: %s", diff)
	}
	r := l.rotator(t, nil)
	r.Orphans = true
	if err := l.sink.PrepareRotation(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	report, err := l.sink.Rotate(context.Background(), r)
	if err != nil || report.Orphans == 0 {
		t.Fatalf("%+v, %v", report, err)
	}
	withoutElements := func(r Rows) Rows { r.Elements = nil; return r }
	if diff := cmp.Diff(joinsOf(withoutElements(before)), joinsOf(withoutElements(l.rows(t)))); diff != "" {
		t.Errorf("joins changed: %s", diff)
	}
}
