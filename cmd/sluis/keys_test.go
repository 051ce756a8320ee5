package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/consent/seal"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// aged is a workspace with values that were sealed at different times, landed in
// several folders, of which some were merged.
type aged struct {
	*testing.T
	dir    string
	w      *workspace.Workspace
	sealed []agedValue
	keys   map[string]seal.DataKey
	age    map[string]time.Duration // of the data keys
}

type agedValue struct {
	seal.Sealed
	binding seal.Binding
	value   string
}

var agedPurposes = []string{"marketing", "advertising"}

// newAged makes forty data keys, a quarter of them of each age.
func newAged(t *testing.T) *aged {
	dir := newWorkspace(t)
	w, err := workspace.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	a := &aged{T: t, dir: dir, w: w, keys: make(map[string]seal.DataKey), age: make(map[string]time.Duration)}
	now := time.Now().UTC().Truncate(time.Microsecond)
	ages := []time.Duration{time.Minute, 20 * 24 * time.Hour, 40 * 24 * time.Hour, 500 * 24 * time.Hour}
	sink := collector.ParquetSink{Dir: w.Landing()}
	for i := range uint64(40) {
		at := now.Add(-ages[i%4])
		batch := collector.Batch{SpoolID: "aa", First: i, Last: i + 1, Day: now, Rows: a.rows(int(i), at)}
		if i%10 > 0 { // a key's record may land more than once
			batch.SealKeys = append(batch.SealKeys, keyRow(a.keys[a.sealed[0].KeyID]))
		}
		if err := sink.Land(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	if err := sink.Compact(now, now); err != nil {
		t.Fatal(err)
	}
	return a
}

// rows are those of one person whose address is sealed for each purpose.
func (a *aged) rows(i int, at time.Time) (rows collector.Rows) {
	a.Helper()
	sealer, err := seal.NewSealer(a.Context(), a.w.Keyring(), a.w.Workspace, agedPurposes)
	if err != nil {
		a.Fatal(err)
	}
	token := fmt.Sprintf("us1_%032d", i)
	purposes := append([]string{"identity", "analytics"}, agedPurposes...)
	rows.Events = []collector.EventRow{{
		EventID: fmt.Sprint("event-", i), SourceID: "web", Type: "identify", OccurredAt: at, ReceivedAt: at, UserID: token,
		Identifiers: []collector.IdentifierRow{{Kind: "user_id", Pseudonym: token}}, Purposes: purposes, DecisionID: "d", PolicyVersion: "1",
	}}
	for _, purpose := range agedPurposes {
		v := agedValue{value: fmt.Sprintf("%d-%s@example.com", i, purpose), binding: seal.Binding{
			Purpose: purpose, Field: "email", Subject: token, Decision: "d", Record: seal.VaultRecord("t", at),
		}}
		var key seal.DataKey
		if v.Sealed, key, err = sealer.Seal(v.binding, v.value); err != nil {
			a.Fatal(err)
		}
		key.CreatedAt = at
		a.keys[key.ID], a.age[key.ID] = key, time.Since(at)
		a.sealed = append(a.sealed, v)
		rows.SealKeys = append(rows.SealKeys, keyRow(key))
		rows.Vault = append(rows.Vault, collector.VaultRow{
			Pseudonym: token, Field: "email", Purpose: purpose, KeyID: v.KeyID, Ciphertext: v.Ciphertext, Token: "t", DecisionID: "d", ReceivedAt: at,
		})
	}
	return rows
}

func keyRow(k seal.DataKey) collector.SealKeyRow {
	return collector.SealKeyRow{KeyID: k.ID, Purpose: k.Purpose, Recipient: k.Recipient, PSKID: k.PSKID, EncapsulatedKey: k.EncapsulatedKey, CreatedAt: k.CreatedAt}
}

// readable is what opens of table, with all private keys and the rows of
// sluis.seal_keys that there are, by purpose.
func (a *aged) readable(table string) map[string]int {
	a.Helper()
	opener, err := seal.NewOpener(a.Context(), a.w.Keyring(), a.w.Workspace, agedPurposes)
	if err != nil {
		a.Fatal(err)
	}
	db, err := openWarehouse(a.Context(), a.w, "the test", os.Stderr)
	if err != nil {
		a.Fatal(err)
	}
	defer db.Close()
	rows, err := warehouse.Collect(a.Context(), db, `select v.pseudonym, v.purpose, v.key_id, v.ciphertext, v.received_at, k.recipient, k.psk_id, k.encapsulated_key
		from `+table+` as v left join (select distinct key_id, recipient, psk_id, encapsulated_key from sluis.seal_keys) as k on k.key_id = v.key_id`)
	if err != nil {
		a.Fatal(err)
	}
	if len(rows) != len(a.sealed) {
		a.Fatalf("%s has %d rows", table, len(rows))
	}
	opened := make(map[string]int)
	for _, row := range rows {
		text := func(i int) string { s, _ := row[i].(string); return s }
		enc, _ := row[7].([]byte)
		at, _ := row[4].(time.Time)
		_, err := opener.Open(seal.Sealed{KeyID: text(2), Ciphertext: row[3].([]byte)},
			seal.DataKey{ID: text(2), Purpose: text(1), Recipient: text(5), PSKID: text(6), EncapsulatedKey: enc},
			seal.Binding{Purpose: text(1), Field: "email", Subject: text(0), Decision: "d", Record: seal.VaultRecord("t", at)})
		if err == nil {
			opened[text(1)]++
		}
	}
	return opened
}

// remain counts the data keys that have a record. Of the others nothing may be in
// any file below the data folder.
func (a *aged) remain() int {
	a.Helper()
	there := make(map[string]bool)
	for _, row := range query(a.T, a.dir, "select distinct key_id from sluis.seal_keys") {
		there[row["key_id"].(string)] = true
	}
	onDisk, found := readAll(a.T, a.w.Path(a.w.Data)), 0
	for id, key := range a.keys {
		switch is := bytes.Contains(onDisk, key.EncapsulatedKey); {
		case is && !there[id]:
			a.Errorf("a data key without a record is still on disk")
		case is:
			found++
		}
	}
	if found < len(there)*9/10 { // compression may hide one that was written twice
		a.Errorf("only %d of %d data keys were found on disk: the search does not work", found, len(there))
	}
	return len(there)
}

func (a *aged) expect(when string, remain int, readable map[string]int) {
	a.Helper()
	for _, table := range []string{"sluis.vault", "sluis_models.profile_sealed"} {
		if diff := cmp.Diff(readable, a.readable(table)); diff != "" {
			a.Errorf("%s, what opens of %s: (-want +got)\n%s", when, table, diff)
		}
	}
	if n := a.remain(); n != remain {
		a.Errorf("%s, %d data keys have a record, want %d", when, n, remain)
	}
}

// TestShreddedDataKeys deletes rows of seal_keys by age, purpose and id: exactly
// what they sealed no longer opens, also not with what the models keep, and
// nothing of them is left in any file.
func TestShreddedDataKeys(t *testing.T) {
	a := newAged(t)
	said(t, a.dir, "models", "run", "--select", "+profile_sealed")
	a.expect("before", 80, map[string]int{"marketing": 40, "advertising": 40})

	shred := func(want int, flags ...string) (r shredReport) {
		t.Helper()
		code, stdout, stderr := sluis(t, append([]string{"keys", "shred", "--json", "--workspace", a.dir}, flags...)...)
		if code != want {
			t.Fatalf("%v: exit %d: %s%s", flags, code, stdout, stderr)
		}
		if stdout != "" {
			if err := json.Unmarshal([]byte(stdout), &r); err != nil {
				t.Fatal(err)
			}
		}
		return r
	}
	shred(exitUsage)
	shred(exitUsage, "--older-than", "30d", "--key-id", "x")
	shred(exitUsage, "--older-than", "soon")
	shred(exitRefused, "--older-than", "1m", "--yes")

	report := shred(exitRefused, "--older-than", "400d", "--purpose", "marketing")
	want := shredReport{DataKeys: 10, Sealed: []unreadable{{"marketing", "vault", "email", 10}}}
	if diff := cmp.Diff(want, report); diff != "" {
		t.Errorf("without --yes: (-want +got)\n%s", diff)
	}
	a.expect("without --yes", 80, map[string]int{"marketing": 40, "advertising": 40})

	report = shred(exitDone, "--older-than", "400d", "--purpose", "marketing", "--yes")
	want.Done = true
	if diff := cmp.Diff(want, report); diff != "" {
		t.Errorf("with --yes: (-want +got)\n%s", diff)
	}
	a.expect("after 400 days", 70, map[string]int{"marketing": 30, "advertising": 40})

	var old, young string
	for id, age := range a.age {
		if a.keys[id].Purpose == "advertising" && age > 30*24*time.Hour && age < 100*24*time.Hour {
			old = id
		}
		if a.keys[id].Purpose == "advertising" && age < time.Hour {
			young = id
		}
	}
	report = shred(exitRefused, "--key-id", old, "--key-id", young, "--yes")
	if !report.Done || report.DataKeys != 1 || !cmp.Equal(report.Young, []string{young}) {
		t.Errorf("by id: %+v", report)
	}
	a.expect("by id", 69, map[string]int{"marketing": 30, "advertising": 39})

	// The same by the schedule, of what the configuration says.
	edit(t, filepath.Join(a.dir, "sluis.yaml"), "retention: {}", "retention: {advertising: 30d}")
	w, err := workspace.Open(a.dir)
	if err != nil {
		t.Fatal(err)
	}
	s := scheduler{w: w, logger: slog.New(slog.DiscardHandler), stderr: os.Stderr}
	now := time.Now()
	if err := s.retain(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	a.expect("by the schedule", 50, map[string]int{"marketing": 30, "advertising": 20})
	if err := s.retain(t.Context(), now.Add(25*24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	a.expect("25 days later", 40, map[string]int{"marketing": 30, "advertising": 10})
	said(t, a.dir, "models", "run", "--select", "+profile_sealed")
	a.expect("after the models", 40, map[string]int{"marketing": 30, "advertising": 10})
}

// TestShreddedVersions destroys versions of keys in the keyring: each takes with it
// what was sealed for it, and the one in use is not destroyed.
func TestShreddedVersions(t *testing.T) {
	a := newAged(t)
	said(t, a.dir, "models", "run", "--select", "+profile_sealed")
	refused := func(flags ...string) {
		t.Helper()
		if code, stdout, stderr := sluis(t, append([]string{"keys", "shred", "--workspace", a.dir}, flags...)...); code != exitRefused {
			t.Errorf("%v: exit %d: %s%s", flags, code, stdout, stderr)
		}
	}
	refused("--purpose", "marketing", "--version", "1", "--yes") // in use
	said(t, a.dir, "keys", "rotate", "--purpose", "marketing")
	refused("--purpose", "marketing", "--version", "1")
	a.expect("without --yes", 80, map[string]int{"marketing": 40, "advertising": 40})
	said(t, a.dir, "keys", "shred", "--purpose", "marketing", "--version", "1", "--yes")
	a.expect("without the private key", 80, map[string]int{"advertising": 40})
	if list := said(t, a.dir, "keys", "ls"); !strings.Contains(list, "destroyed") {
		t.Errorf("the keys are\n%s", list)
	}
	said(t, a.dir, "keys", "rotate", "edge")
	a.expect("with a new edge key", 80, map[string]int{"advertising": 40})
	said(t, a.dir, "keys", "shred", "--key", "edge", "--version", "1", "--yes")
	a.expect("without the edge key", 80, map[string]int{})
}
