package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/consent/record"
	"github.com/sluis-cdp/sluis/consent/seal"
)

// rotate rotates a workspace's pseudonyms.
func rotate(t *testing.T, dir string) rotated {
	t.Helper()
	var report rotated
	if err := json.Unmarshal([]byte(said(t, dir, "keys", "rotate", "pseudonym", "--json")), &report); err != nil {
		t.Fatal(err)
	}
	return report
}

// TestPseudonymsAreRotated: nothing but pseudonyms changes. Who was at a
// destination stays there under the same key, and is removed by it; who was erased
// stays so; and no file has an old pseudonym.
func TestPseudonymsAreRotated(t *testing.T) {
	s := newRightsShop(t)
	for i, name := range []string{"canary-anna", "canary-ben", "canary-carl"} {
		s.visit(name, fmt.Sprint(i+1))
	}
	s.settled("canary-anna", "canary-ben", "canary-carl")
	said(t, s.dir, "subject", "erase", "--email", "canary-carl@example.com", "--yes")
	var old []string
	for _, name := range []string{"canary-anna", "canary-ben", "canary-carl"} {
		for _, word := range s.pseudonyms(name) {
			if !strings.HasPrefix(word, "pr_") {
				old = append(old, word)
			}
		}
	}
	profiles := func() []map[string]any {
		return query(t, s.dir, "select profile_id, count(*) as n from sluis_models.profile_events group by 1 order by 1")
	}
	s.terminate(t)
	before := profiles()
	members, sent, _ := s.target.snapshot()

	said(t, s.dir, "consent", "verify")
	report := rotate(t, s.dir)
	said(t, s.dir, "consent", "verify")
	if report.From != 1 || report.To != 2 || report.Resealed == 0 || report.Lost != 0 || report.Rows["erasures"] != 4 {
		t.Errorf("reported %+v", report)
	}
	for _, word := range old {
		if files := filesWith(t, s.dir, word); len(files) > 0 {
			t.Errorf("an old pseudonym is in %v", files)
		}
	}
	if left := named(s.tables(old)); len(left) > 0 {
		t.Errorf("old pseudonyms are in %v", left)
	}
	if keys := said(t, s.dir, "keys", "ls"); regexp.MustCompile(`(?m)^pseudonym(-tokens)? `).MatchString(keys) {
		t.Errorf("the old keys are still there:\n%s", keys)
	}

	s.up()
	s.visit("canary-anna", "7")
	s.visit("canary-carl", "8")
	eventually(t, "a run over what came after", func() bool {
		rows := query(t, s.dir, "select count(*) as n from information_schema.tables where table_schema = 'sluis_models' and table_name = 'profile_events'")
		if rows[0]["n"] != 1.0 {
			return false
		}
		rows = query(t, s.dir, "select max(n) as n from (select count(*) as n from sluis_models.profile_events group by profile_id)")
		return rows[0]["n"] == 6.0
	})
	after := profiles()
	ids := func(rows []map[string]any) (list []any) {
		for _, row := range rows {
			list = append(list, row["profile_id"])
		}
		return list
	}
	if diff := cmp.Diff(ids(before), ids(after)); diff != "" {
		t.Errorf("profiles have other ids: %s", diff)
	}
	if n := query(t, s.dir, "select coalesce(sum(n), 0) as n from sluis.ledger where reason = 'erased' and outcome = 'withheld'"); n[0]["n"] != 4.0+4.0 {
		t.Errorf("of who was erased %v events are withheld", n[0]["n"])
	}
	post(t, s.url+"/v1/consent", `{"userId":"canary-anna","purposes":{"marketing":false}}`)
	eventually(t, "the withdrawal becoming a removal", func() bool {
		emails, _, _ := s.target.snapshot()
		return !emails["canary-anna@example.com"]
	})
	now, log, refused := s.target.snapshot()
	if !now["canary-ben@example.com"] || refused > 0 || !members["canary-ben@example.com"] {
		t.Errorf("the destination has %v", now)
	}
	removals := 0
	for _, line := range log[len(sent):] {
		if strings.HasPrefix(line, "remove") {
			removals++
		}
	}
	if removals != 1 {
		t.Errorf("the rotation, and one withdrawal, became\n%s", strings.Join(log[len(sent):], "\n"))
	}
	said(t, s.dir, "ledger")
	s.terminate(t)
	said(t, s.dir, "consent", "verify")
}

// TestRotationHoldsOthersBack: while a rotation is not done nothing else uses the
// workspace, and a collector that runs holds a rotation back.
func TestRotationHoldsOthersBack(t *testing.T) {
	dir := newWorkspace(t)
	w, err := workspace.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(w.Path(w.Data), 0o700); err != nil {
		t.Fatal(err)
	}
	fails := func(want string, args ...string) {
		t.Helper()
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), append([]string{"sluis", "--workspace", dir}, args...), &stdout, &stderr); code == 0 || !strings.Contains(stderr.String(), want) {
			t.Errorf("%v: exit %d: %s", args, code, stderr.String())
		}
	}
	if err := w.BeginRotation(workspace.Rotation{From: 1, To: 2, Began: time.Now()}); err != nil {
		t.Fatal(err)
	}
	const interrupted = "finish it with `sluis keys rotate pseudonym`"
	for _, args := range [][]string{{"sql", "select 1"}, {"up"}, {"collector"}, {"models", "run"}, {"tracking", "replay"}} {
		fails(interrupted, args...)
	}
	if report := rotate(t, dir); !report.Resumed || report.To != 2 {
		t.Errorf("reported %+v", report)
	}
	query(t, dir, "select 1")
	p := start(t, "up", "--workspace", dir, "--listen", "127.0.0.1:0")
	fails("stop the collector", "keys", "rotate", "pseudonym")
	p.terminate(t)
}

// people lets n/2 people land as a collector would let them: a user id, a device,
// and of some an e-mail address, a group, a sealed value and a choice.
func landPeople(t *testing.T, w *workspace.Workspace, pseudonyms int64) {
	t.Helper()
	ctx := context.Background()
	p, err := seal.NewPseudonymizer(ctx, w.Keyring(), w.Workspace, w.PhoneRegion)
	if err != nil {
		t.Fatal(err)
	}
	sealer, err := seal.NewSealer(ctx, w.Keyring(), w.Workspace, w.SealPurposes())
	if err != nil {
		t.Fatal(err)
	}
	seed, err := w.Keyring().Key(ctx, seal.KeyRecord)
	if err != nil {
		t.Fatal(err)
	}
	key, err := record.NewKey(seed)
	if err != nil {
		t.Fatal(err)
	}
	chain := record.NewChain(key, w.Workspace, record.Head{})
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	sink := collector.ParquetSink{Dir: w.Landing()}
	const batch = 20_000
	people := pseudonyms / 2
	for first := int64(0); first < people; first += batch {
		b := collector.Batch{SpoolID: "00112233445566778899aabbccddeeff", First: uint64(first), Last: uint64(first + batch), Day: at}
		keys := make(map[string]bool)
		for i := first; i < min(people, first+batch); i++ {
			landPerson(t, &b, p, sealer, i, at.Add(time.Duration(i)*time.Second/100), keys)
		}
		signConsents(chain, b.Consents)
		if err := sink.Land(ctx, b); err != nil {
			t.Fatal(err)
		}
	}
}

// signConsents makes rows the next link of a chain.
func signConsents(chain *record.Chain, rows []collector.ConsentRow) {
	entries := make([]record.Row, len(rows))
	for i := range rows {
		entries[i] = rows[i].Entry()
	}
	chain.Sign(entries)
	chain.Keep()
	for i, s := range entries {
		r := &rows[i]
		r.Chain, r.Link, r.LinkRow, r.LinkRows = s.Chain, s.Link, s.LinkRow, s.LinkRows
		r.Previous, r.Salt, r.RowDigest, r.KeyID, r.Signature = s.Previous, s.Salt, s.Digest, s.KeyID, s.Signature
	}
}

func landPerson(t *testing.T, b *collector.Batch, p *seal.Pseudonymizer, sealer *seal.Sealer, i int64, at time.Time, keys map[string]bool) {
	t.Helper()
	of := func(kind seal.Kind, value string) string {
		made, err := p.Pseudonym(kind, value)
		if err != nil {
			t.Fatal(err)
		}
		if made.Element() != nil {
			b.Elements = append(b.Elements, collector.ElementRow{Pseudonym: made.Token(), Element: made.Element(), KeyVersion: 1, ReceivedAt: at})
		}
		return made.Token()
	}
	user, device := of(seal.UserID, fmt.Sprint("customer-", i)), of(seal.AnonymousID, uuid.NewString())
	e := collector.EventRow{
		EventID: fmt.Sprint("e", i), SourceID: "web", Type: "track", Event: fmt.Sprint("Event ", i%7), OccurredAt: at, ReceivedAt: at, AnonymousID: device, UserID: user,
		Identifiers: []collector.IdentifierRow{{Kind: "anonymous_id", Pseudonym: device}, {Kind: "user_id", Pseudonym: user}},
		Purposes:    []string{"analytics", "identity", "marketing", "necessary"}, DecisionID: "d1", PolicyVersion: "1", PagePath: fmt.Sprint("/", i%5),
	}
	if i%10 == 0 {
		email := of(seal.Email, fmt.Sprintf("person%d@example.com", i))
		e.Identifiers = append(e.Identifiers, collector.IdentifierRow{Kind: "email", Pseudonym: email})
		e.GroupID = of(seal.GroupID, fmt.Sprint("group-", i%100))
		token := fmt.Sprintf("%032d", i)
		s, key, err := sealer.Seal(seal.Binding{Purpose: "marketing", Field: "email", Subject: user, Decision: "d1", Record: seal.VaultRecord(token, at)}, fmt.Sprintf("person%d@example.com", i))
		if err != nil {
			t.Fatal(err)
		}
		b.Vault = append(b.Vault, collector.VaultRow{Pseudonym: user, Field: "email", Purpose: "marketing", KeyID: s.KeyID, Ciphertext: s.Ciphertext, Token: token, DecisionID: "d1", ReceivedAt: at})
		if !keys[key.ID] {
			keys[key.ID] = true
			b.SealKeys = append(b.SealKeys, collector.SealKeyRow{KeyID: key.ID, Purpose: key.Purpose, Recipient: key.Recipient, PSKID: key.PSKID, EncapsulatedKey: key.EncapsulatedKey, CreatedAt: key.CreatedAt})
		}
		b.Consents = append(b.Consents, collector.ConsentRow{DecisionID: "d1", Pseudonym: user, Purpose: "marketing", Granted: i%20 == 0, Signal: "choice", SignalDigest: "x", PolicyVersion: "1", SourceID: "web", DecidedAt: at, ReceivedAt: at})
	}
	b.Events = append(b.Events, e)
	if i%3 == 0 { // another device, later
		e.EventID, e.AnonymousID, e.OccurredAt = e.EventID+"b", of(seal.AnonymousID, uuid.NewString()), at.Add(time.Hour)
		e.Identifiers = []collector.IdentifierRow{{Kind: "anonymous_id", Pseudonym: e.AnonymousID}, {Kind: "user_id", Pseudonym: user}}
		b.Events = append(b.Events, e)
	}
}

// savedJoins are what people ask of a warehouse, by pseudonyms and without showing
// any. Their answers must outlive a rotation.
var savedJoins = []string{
	"select n, count(*) from (select user_id, count(*) as n from sluis.events group by 1) group by 1 order by 1",
	"select count(distinct user_id), count(distinct anonymous_id), count(distinct group_id) from sluis.events",
	"select n, count(*) from (select user_id, count(distinct anonymous_id) as n from sluis.events group by 1) group by 1 order by 1",
	"select c.granted, e.event, count(*) from sluis.events e join sluis.consents c on c.pseudonym = e.user_id group by 1, 2 order by 1, 2",
	"select v.field, v.purpose, count(*), count(distinct e.anonymous_id) from sluis.events e join sluis.vault v on v.pseudonym = e.user_id group by 1, 2 order by 1, 2",
	"select c.granted, count(*) from sluis.vault v join sluis.consents c on c.pseudonym = v.pseudonym and c.purpose = v.purpose group by 1 order by 1",
	"select i.kind, count(*), count(distinct i.pseudonym) from (select unnest(identifiers) as i from sluis.events) group by 1 order by 1",
	"select count(*) from sluis.events a join sluis.events b on a.user_id = b.user_id and a.event_id < b.event_id",
	"select n, count(*) from (select group_id, count(distinct user_id) as n from sluis.events where group_id is not null group by 1) group by 1 order by 1",
	"select count(*) from sluis.events e where not exists (select 1 from sluis.elements l where l.pseudonym = e.user_id)",
	"select count(*) from sluis.elements l where not exists (select 1 from (select unnest(identifiers).pseudonym as p from sluis.events union all select group_id from sluis.events) where p = l.pseudonym)",
	"select e.page_path, count(distinct e.user_id) from sluis.events e left join sluis.vault v on v.pseudonym = e.user_id where v.pseudonym is null group by 1 order by 1",
	"select sum(epoch(last_at) - epoch(first_at)) from (select user_id, min(occurred_at) as first_at, max(occurred_at) as last_at from sluis.events group by 1)",
	"select hour(first_at), count(*) from (select anonymous_id, min(occurred_at) as first_at from sluis.events group by 1) group by 1 order by 1",
	"select count(*) from sluis.consents c where not exists (select 1 from sluis.events e where e.user_id = c.pseudonym)",
	"select count(*), count(distinct v.pseudonym) from sluis.vault v join sluis.seal_keys k on k.key_id = v.key_id",
	"select a.event, b.event, count(*) from sluis.events a join sluis.events b on a.group_id = b.group_id and a.user_id <> b.user_id and a.page_path = '/0' where a.spool_offset < 3 and b.page_path = '/0' group by 1, 2 order by 1, 2",
	"select n, count(*) from (select user_id, count(distinct event) as n from sluis.events group by 1) group by 1 order by 1",
	"select count(*) from sluis.events e join sluis.consents c on c.pseudonym = e.user_id join sluis.vault v on v.pseudonym = e.user_id where not c.granted",
	"select list_contains([x.pseudonym for x in identifiers], user_id) as named, list_contains([x.pseudonym for x in identifiers], anonymous_id) as device, count(*) from sluis.events group by 1, 2 order by 1, 2",
}

// TestRotationKeepsJoins rotates SLUIS_ROTATE pseudonyms, by default few: 1000000
// takes some minutes, most of them to make those pseudonyms at first.
func TestRotationKeepsJoins(t *testing.T) {
	dir := newWorkspace(t)
	w, err := workspace.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	n := number(t, "SLUIS_ROTATE", 1000)
	landPeople(t, w, n)
	if len(savedJoins) != 20 {
		t.Fatalf("%d joins", len(savedJoins))
	}
	answers := func() (all []string) {
		for _, sql := range savedJoins {
			text, err := json.Marshal(query(t, dir, sql))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, sql+"\n"+string(text))
		}
		return all
	}
	before := answers()
	samples := query(t, dir, "select user_id, anonymous_id from sluis.events using sample 20 rows (reservoir, 1)")
	began := time.Now()
	report := rotate(t, dir)
	t.Logf("%d pseudonyms with an element: the group part took %.1f s on all processors, all %.1f s", report.Elements, report.GroupTime, time.Since(began).Seconds())
	if diff := cmp.Diff(before, answers()); diff != "" {
		t.Errorf("joins changed: %s", diff)
	}
	if old := query(t, dir, `select count(*) as n from (select unnest(identifiers).pseudonym as p from sluis.events union all select user_id from sluis.events
		union all select anonymous_id from sluis.events union all select group_id from sluis.events union all select pseudonym from sluis.elements
		union all select pseudonym from sluis.vault union all select pseudonym from sluis.consents) where p not like '__2#_%' escape '#'`); old[0]["n"] != 0.0 {
		t.Errorf("%v pseudonyms are not of version 2", old[0]["n"])
	}
	for _, row := range samples {
		for _, token := range row {
			if files := filesWith(t, dir, token.(string)); len(files) > 0 {
				t.Errorf("an old pseudonym is in %v", files)
			}
		}
	}
}

// TestRotationIsRefused: where it could do harm it does nothing, and says why.
func TestRotationIsRefused(t *testing.T) {
	dir := newWorkspace(t)
	w, err := workspace.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	names := func() []string {
		names, err := w.Keyring().Names(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(names)
		return names
	}
	before := names()
	refused := func(code int, want string) {
		t.Helper()
		var stdout, stderr bytes.Buffer
		if got := run(t.Context(), []string{"sluis", "keys", "rotate", "pseudonym", "--workspace", dir}, &stdout, &stderr); got != code || !strings.Contains(stderr.String(), want) {
			t.Errorf("exit %d, want %d and %q: %s", got, code, want, stderr.String())
		}
		if diff := cmp.Diff(before, names()); diff != "" {
			t.Errorf("keys were changed: %s", diff)
		}
		if err := w.Usable(); err != nil {
			t.Error(err)
		}
	}
	landPeople(t, w, 20)
	elements, err := filepath.Glob(filepath.Join(w.Landing(), "dt=*", "*", "elements.parquet"))
	if err != nil || len(elements) != 1 {
		t.Fatal(elements, err)
	}
	if err := os.Rename(elements[0], elements[0]+".away"); err != nil {
		t.Fatal(err)
	}
	refused(exitRefused, "pseudonyms have no element")
	if err := os.Rename(elements[0]+".away", elements[0]); err != nil {
		t.Fatal(err)
	}
	model := filepath.Join(w.Path(w.Models), "models", "identity", "identity_map.sql")
	text, err := os.ReadFile(model)
	if err := errors.Join(err, os.WriteFile(model, bytes.ReplaceAll(text, []byte("profile_names"), []byte("none")), 0o644)); err != nil {
		t.Fatal(err)
	}
	refused(exitRefused, "would give every profile another id")
	if err := os.WriteFile(model, text, 0o644); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(w.Path(w.Keys), "purpose-marketing.private")
	if err := os.Rename(key, key+".away"); err != nil {
		t.Fatal(err)
	}
	before = names()
	refused(exitFailed, "has to be sealed again")
}
