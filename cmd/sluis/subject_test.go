package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/cmd/internal/subject"
	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/consent/seal"
)

// rightsShop is a workspace with a running collector and a destination, in which two
// people did the same things.
type rightsShop struct {
	t      *testing.T
	dir    string
	target *receiver
	*program
}

func newRightsShop(t *testing.T) *rightsShop {
	s := &rightsShop{t: t, dir: newWorkspace(t)}
	secret, err := os.ReadFile(filepath.Join(s.dir, "keys", "webhook.secret"))
	if err != nil {
		t.Fatal(err)
	}
	if s.target, err = newReceiver(strings.TrimSpace(string(secret))); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s.target)
	t.Cleanup(server.Close)
	if err := pointWebhook(s.dir, server.URL); err != nil {
		t.Fatal(err)
	}
	s.up()
	return s
}

func (s *rightsShop) up() {
	s.program = start(s.t, "up", "--workspace", s.dir, "--listen", "127.0.0.1:0")
}

const agrees = `{"identity":true,"analytics":true,"marketing":true}`

// visit sends all that somebody does; id makes the message ids, so that the same
// can be sent again. The last event departs from the specification, and is
// quarantined.
func (s *rightsShop) visit(name, id string) {
	s.t.Helper()
	common := `"anonymousId":"` + name + `-device","userId":"` + name + `","timestamp":"2026-03-01T10:00:00Z","context":{"consent":{"categoryPreferences":` + agrees + `}}}`
	for i, body := range []string{
		`{"properties":{"path":"/pricing"},"messageId":"` + id + `-0",` + common,
		`{"event":"Live Chat Started","messageId":"` + id + `-1",` + common,
		`{"traits":{"email":"` + name + `@example.com","phone":"+3162000000` + id + `"},"messageId":"` + id + `-2",` + common,
		`{"event":"Bought","messageId":"` + id + strings.Repeat("x", 200) + `","properties":{"note":"` + name + `"},` + common,
	} {
		path := []string{"/v1/page", "/v1/track", "/v1/identify", "/v1/track"}[i]
		if response := post(s.t, s.url+path, body); response.StatusCode != http.StatusOK {
			s.t.Fatalf("status %d", response.StatusCode)
		}
	}
	post(s.t, s.url+"/v1/consent", `{"userId":"`+name+`","purposes":{"marketing":true}}`)
}

// pseudonyms are those of somebody, and the profiles that they may be known by.
func (s *rightsShop) pseudonyms(name string) []string {
	s.t.Helper()
	w, err := workspace.Open(s.dir)
	if err != nil {
		s.t.Fatal(err)
	}
	p, err := seal.NewPseudonymizer(s.t.Context(), seal.Dir(w.Path(w.Keys)), w.Workspace, w.PhoneRegion)
	if err != nil {
		s.t.Fatal(err)
	}
	var all []string
	for kind, value := range map[seal.Kind]string{seal.UserID: name, seal.AnonymousID: name + "-device", seal.Email: name + "@example.com"} {
		made, err := p.Pseudonym(kind, value)
		if err != nil {
			s.t.Fatal(err)
		}
		sum := sha256.Sum256([]byte(made.Token()))
		all = append(all, made.Token(), "pr_"+hex.EncodeToString(sum[:])[:24])
	}
	slices.Sort(all)
	return all
}

// tables are all tables of the warehouse, with how many rows of each name one of
// the words in any column.
func (s *rightsShop) tables(words []string) map[string]float64 {
	s.t.Helper()
	found := make(map[string]float64)
	for _, row := range query(s.t, s.dir, "select table_schema || '.' || table_name as name from information_schema.tables where table_schema like 'sluis%' and table_name not like '%\\_\\_%' escape '\\'") {
		name := row["name"].(string)
		n := query(s.t, s.dir, fmt.Sprintf("select count(*) as n from %s as of_table where regexp_matches(cast(to_json(of_table) as varchar), '%s')", name, strings.Join(words, "|")))
		found[name] = n[0]["n"].(float64)
	}
	return found
}

// named leaves out the tables that name nobody.
func named(tables map[string]float64) map[string]float64 {
	some := make(map[string]float64)
	for name, n := range tables {
		if n > 0 {
			some[name] = n
		}
	}
	return some
}

// settled waits until what was sent has landed and gone where it goes.
func (s *rightsShop) settled(people ...string) {
	s.t.Helper()
	eventually(s.t, "people arriving at the destination", func() bool {
		emails, _, _ := s.target.snapshot()
		for _, name := range people {
			if !emails[name+"@example.com"] {
				return false
			}
		}
		return true
	})
	eventually(s.t, "the quarantine and the choices landing", func() bool {
		n := query(s.t, s.dir, "select (select count(*) from sluis.quarantine) as q, (select count(*) from sluis.consents where signal = 'choice') as c")
		return n[0]["q"] == float64(len(people)) && n[0]["c"] == float64(len(people))
	})
}

// TestErasure is the whole of it: after an erasure nothing anywhere holds the
// person, what they sent lands nothing when it comes again, and somebody else is
// as before.
func TestErasure(t *testing.T) {
	s := newRightsShop(t)
	s.visit("canary-anna", "1")
	s.visit("canary-ben", "2")
	s.settled("canary-anna", "canary-ben")
	anna, ben := s.pseudonyms("canary-anna"), s.pseudonyms("canary-ben")
	if before := named(s.tables(anna)); len(before) < 10 {
		t.Errorf("anna is in too few tables for this to show much: %v", before)
	}
	of := func(tables map[string]float64) map[string]float64 { // without history, which goes on
		for name := range tables {
			if strings.HasPrefix(name, "sluis_sync.") {
				delete(tables, name)
			}
		}
		return tables
	}
	bensBefore := of(named(s.tables(ben)))

	preview := said(t, s.dir, "subject", "erase", "--email", "canary-anna@example.com")
	if !strings.Contains(preview, anna[0]) || !strings.Contains(preview, "--yes") || strings.Contains(preview, "canary") {
		t.Errorf("the preview is\n%s", preview)
	}
	var receipt subject.Receipt
	printed := said(t, s.dir, "subject", "erase", "--email", "Canary-Anna@example.com", "--yes", "--json")
	if err := json.Unmarshal([]byte(printed), &receipt); err != nil {
		t.Fatalf("%v: %s", err, printed)
	}
	if receipt.Identifiers != 4 || receipt.Deleted["sluis.events"] != 3 || receipt.Deleted["sluis.quarantine"] != 1 || receipt.Deleted["sluis.vault"] == 0 {
		t.Errorf("the receipt is %+v", receipt)
	}
	gone := func(when string) {
		t.Helper()
		if left := named(s.tables(anna)); len(left) > 0 {
			t.Errorf("%s: anna is in %v", when, left)
		}
		if emails, _, refused := s.target.snapshot(); emails["canary-anna@example.com"] || !emails["canary-ben@example.com"] || refused > 0 {
			t.Errorf("%s: the destination has %v", when, emails)
		}
		if diff := cmp.Diff(bensBefore, of(named(s.tables(ben)))); diff != "" {
			t.Errorf("%s: ben is not as before (-before +after)\n%s", when, diff)
		}
		said(t, s.dir, "ledger")
	}
	gone("after the erasure")
	_, log, _ := s.target.snapshot()
	if !strings.Contains(strings.Join(log, "\n"), "erased") {
		t.Errorf("the destination was told\n%s", strings.Join(log, "\n"))
	}

	s.visit("canary-anna", "1") // again, as an SDK would
	s.visit("canary-anna", "3") // and anew
	eventually(t, "the ledger having what was withheld", func() bool {
		n := query(t, s.dir, "select coalesce(sum(n), 0) as n from sluis.ledger where reason = 'erased' and outcome = 'withheld'")
		return n[0]["n"] == 4.0+8.0
	})
	gone("after a replay")
	s.terminate(t)
	gone("after the collector's end")
	for _, word := range slices.Concat(anna, []string{"canary"}) {
		for _, path := range filesWith(t, s.dir, word) {
			t.Errorf("%s has something of anna", path)
		}
	}
}

// filesWith are the files below a folder that have a word.
func filesWith(t *testing.T, dir, word string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if bytes.Contains(text, []byte(word)) {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
