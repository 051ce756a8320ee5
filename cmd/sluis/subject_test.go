package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
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
	s := newClosedShop(t)
	s.up()
	return s
}

// newClosedShop is one in which nothing runs yet. What it sends goes through handlers.
func newClosedShop(t *testing.T, through ...func(http.Handler) http.Handler) *rightsShop {
	s := &rightsShop{t: t, dir: newWorkspace(t)}
	secret, err := os.ReadFile(filepath.Join(s.dir, "keys", "webhook.secret"))
	if err != nil {
		t.Fatal(err)
	}
	if s.target, err = newReceiver(strings.TrimSpace(string(secret))); err != nil {
		t.Fatal(err)
	}
	var handler http.Handler = s.target
	for _, wrap := range through {
		handler = wrap(handler)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	if err := pointWebhook(s.dir, server.URL); err != nil {
		t.Fatal(err)
	}
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
	var counts []string
	for _, row := range query(s.t, s.dir, "select table_schema || '.' || table_name as name from information_schema.tables where table_schema like 'sluis%' and table_name not like '%\\_\\_%' escape '\\'") {
		name := row["name"].(string)
		counts = append(counts, fmt.Sprintf("select '%s' as name, count(*) as n from %[1]s as of_table where regexp_matches(cast(to_json(of_table) as varchar), '%s')", name, strings.Join(words, "|")))
	}
	for _, row := range query(s.t, s.dir, strings.Join(counts, " union all ")) {
		found[row["name"].(string)] = row["n"].(float64)
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
	eventually(s.t, "people arriving in the file", func() bool {
		n := query(s.t, s.dir, "select count(distinct profile_id) as n from sluis_sync.deliveries where sync = 'profiles_file' and outcome = 'delivered'")
		return n[0]["n"] == float64(len(people))
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

	s.exports(t, anna)
	s.explains(t)
	preview := said(t, s.dir, "subject", "erase", "--email", "canary-anna@example.com")
	if !strings.Contains(preview, anna[0]) || !strings.Contains(preview, "--yes") || strings.Contains(preview, "canary") {
		t.Errorf("the preview is\n%s", preview)
	}
	var receipt subject.Receipt
	s.json(&receipt, "subject", "erase", "--email", "Canary-Anna@example.com", "--yes", "--json")
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
		said(t, s.dir, "consent", "verify") // the record of choices is whole, with husks in the place of hers
	}
	gone("after the erasure")
	_, log, _ := s.target.snapshot()
	if !strings.Contains(strings.Join(log, "\n"), "erased") {
		t.Errorf("the destination was told\n%s", strings.Join(log, "\n"))
	}

	var empty subject.Export
	s.json(&empty, "subject", "export", "--email", "canary-anna@example.com", "--json")
	if empty.Holds() || len(empty.Erasures) != 1 || empty.Erasures[0].Request != receipt.Request || !empty.Identifiers[0].Erased {
		t.Errorf("an export afterwards has %+v", empty)
	}
	path := filepath.Join(s.dir, "data", "erasures", receipt.Request+".receipt.json")
	if text := said(t, s.dir, "subject", "verify", path); !strings.Contains(text, "verifies") {
		t.Errorf("the receipt: %s", text)
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
			if text, _ := os.ReadFile(path); strings.Contains(path, "exports") && strings.Count(string(text), word) == strings.Count(string(text), "remove,"+word) {
				continue // what tells the reader of the files that she was removed
			}
			t.Errorf("%s has something of anna", path)
		}
	}
}

func (s *rightsShop) json(into any, args ...string) {
	s.t.Helper()
	printed := said(s.t, s.dir, args...)
	if err := json.Unmarshal([]byte(printed), into); err != nil {
		s.t.Fatalf("%v: %s", err, printed)
	}
}

// exports checks what anna gets to see.
func (s *rightsShop) exports(t *testing.T, anna []string) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "anna")
	said(t, s.dir, "subject", "export", "--email", "canary-anna@example.com", "--out", out)
	var e subject.Export
	text, err := os.ReadFile(filepath.Join(out, "person.json"))
	if err == nil {
		err = json.Unmarshal(text, &e)
	}
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]bool)
	for _, v := range e.Sealed {
		values[v.Field+" "+v.Value] = true
	}
	if len(e.Identifiers) != 4 || len(e.Events) != 3 || len(e.Quarantine) != 1 || len(e.Consents) == 0 || len(e.Deliveries) != 2 ||
		!values["email canary-anna@example.com"] || !values["phone +31620000001"] || !slices.Contains(e.Audiences, "pricing_and_chat") || len(e.Models["profiles"]) != 1 {
		t.Errorf("the export is %s", text)
	}
	if !strings.Contains(string(e.Quarantine[0].Message), "canary-anna") {
		t.Errorf("the event in quarantine is %s", e.Quarantine[0].Message)
	}
	page, err := os.ReadFile(filepath.Join(out, "person.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"canary-anna@example.com", "Live Chat Started", "pricing_and_chat_webhook", anna[0]} {
		if !strings.Contains(string(page), word) {
			t.Errorf("the page has no %q", word)
		}
	}
	if strings.Contains(string(page)+string(text), "canary-ben") {
		t.Error("the export has something of somebody else")
	}
}

// explains checks the answers about anna.
func (s *rightsShop) explains(t *testing.T) {
	t.Helper()
	for _, ask := range [][]string{{"--audience", "pricing_and_chat"}, {"--sync", "pricing_and_chat_webhook"}} {
		text := said(t, s.dir, append([]string{"subject", "explain", "--user-id", "canary-anna"}, ask...)...)
		for _, want := range []string{"is in pricing_and_chat, for the purpose marketing", "agree to marketing now: decision ", "by the signal choice", "3 were collected with marketing granted"} {
			if !strings.Contains(text, want) {
				t.Errorf("%v: there is no %q in\n%s", ask, want, text)
			}
		}
		if sent := strings.Contains(text, "upsert, because of new: delivered"); sent != (ask[0] == "--sync") {
			t.Errorf("%v:\n%s", ask, text)
		}
	}
	if text := said(t, s.dir, "subject", "explain", "--user-id", "nobody", "--audience", "pricing_and_chat"); !strings.Contains(text, "Nothing is known") || !strings.Contains(text, "which means no") {
		t.Errorf("of nobody:\n%s", text)
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

// TestErasureOfWhoIsSentMeanwhile: the scheduler sends somebody for the first time
// when an erasure has begun and has not said so yet.
func TestErasureOfWhoIsSentMeanwhile(t *testing.T) {
	s := newClosedShop(t)
	s.program = start(t, "collector", "--workspace", s.dir, "--listen", "127.0.0.1:0")
	s.visit("canary-anna", "1")
	s.terminate(t)
	there := func() bool {
		emails, _, _ := s.target.snapshot()
		return emails["canary-anna@example.com"]
	}
	sent := false
	var stdout bytes.Buffer
	stderr := writerFunc(func(text []byte) (int, error) {
		if bytes.HasPrefix(text, []byte("keep out what arrives")) {
			said(t, s.dir, "sync", "run")
			sent = there()
		}
		return len(text), nil
	})
	code := run(bounded(t), []string{"sluis", "subject", "erase", "--user-id", "canary-anna", "--yes", "--json", "--workspace", s.dir}, &stdout, stderr)
	if code != 0 || !sent {
		t.Fatalf("exit %d, sent meanwhile: %v", code, sent)
	}
	var receipt subject.Receipt
	if err := json.Unmarshal(stdout.Bytes(), &receipt); err != nil {
		t.Fatal(err)
	}
	if there() || len(receipt.Destinations) != 2 || receipt.Destinations[0].Removed != 1 {
		t.Errorf("at the destination still: %v; the receipt is %+v", there(), receipt.Destinations)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(text []byte) (int, error) { return f(text) }

// TestErasureIsKilled kills the program as each of its steps begins, and once
// nothing kills it, all is as if nothing ever had.
func TestErasureIsKilled(t *testing.T) {
	s := newRightsShop(t)
	s.visit("canary-anna", "1")
	s.visit("canary-ben", "2")
	s.settled("canary-anna", "canary-ben")
	s.terminate(t)
	anna := s.pseudonyms("canary-anna")
	erase := []string{"subject", "erase", "--user-id", "canary-anna", "--yes", "--json", "--workspace", s.dir}
	killed := 0
	for round := 1; ; round++ {
		code, stdout, stderr := erasedUntil(t, round, erase)
		if code < 0 {
			killed++
			continue
		}
		if code != 0 {
			t.Fatalf("exit %d: %s", code, stderr)
		}
		var receipt subject.Receipt
		if err := json.Unmarshal([]byte(stdout), &receipt); err != nil {
			t.Fatal(err)
		}
		if receipt.Identifiers != 4 || receipt.Deleted["sluis.events"] != 3 || receipt.Deleted["sluis.quarantine"] != 1 || len(receipt.Destinations) != 2 {
			t.Errorf("the receipt is %+v", receipt)
		}
		break
	}
	if killed < 7 {
		t.Errorf("it was killed %d times only", killed)
	}
	if left := named(s.tables(anna)); len(left) > 0 {
		t.Errorf("anna is in %v", left)
	}
	emails, _, _ := s.target.snapshot()
	if emails["canary-anna@example.com"] || !emails["canary-ben@example.com"] {
		t.Errorf("the destination has %v", emails)
	}
	said(t, s.dir, "ledger")
	left, err := filepath.Glob(filepath.Join(s.dir, "data", "erasures", "*"))
	if err != nil || len(left) != 2 { // the lock and the receipt
		t.Errorf("what is left of it is %v, %v", left, err)
	}
	s.readmits(t)
}

// readmits takes one identifier of anna's again, once; the others stay out. Her
// profile will have another id.
func (s *rightsShop) readmits(t *testing.T) {
	t.Helper()
	for _, want := range []string{"1 identifiers", "0 identifiers"} {
		if text := said(t, s.dir, "subject", "readmit", "--user-id", "canary-anna"); !strings.HasPrefix(text, want) {
			t.Errorf("readmit: %s", text)
		}
	}
	again := `select count(*) as n from sluis.profile_names where pseudonym like 'us1_%' and profile_id like 'pr_%'
		and profile_id <> concat('pr_', left(sha256(pseudonym), 24))`
	if names := said(t, s.dir, "sql", again); !strings.Contains(names, "1") {
		t.Errorf("what profiles are called: %s", names)
	}
	list, err := os.ReadFile(filepath.Join(s.dir, "data", "suppressed"))
	if err != nil {
		t.Fatal(err)
	}
	fields := make(map[int]int)
	for _, line := range strings.Split(strings.TrimSpace(string(list)), "\n")[1:] {
		fields[len(strings.Fields(line))]++
	}
	if diff := cmp.Diff(map[int]int{2: 3, 3: 1}, fields); diff != "" {
		t.Errorf("tombstones by their number of fields (-want +got)\n%s", diff)
	}
	if printed := said(t, s.dir, "subject", "suppressed"); printed != string(list) {
		t.Errorf("the list is\n%sand the file\n%s", printed, list)
	}
}

// erasedUntil runs the command and kills it when it begins its second step, in the
// first run its first, so that each run gets one step further; code is -1 then.
func erasedUntil(t *testing.T, round int, args []string) (code int, stdout, stderr string) {
	t.Helper()
	c := exec.Command(os.Args[0], args...)
	c.Env = append(os.Environ(), "SLUIS_TEST_AS_PROGRAM=1")
	var out, said bytes.Buffer
	c.Stdout = &out
	pipe, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	begun := 0
	for lines := bufio.NewScanner(pipe); lines.Scan(); {
		fmt.Fprintln(&said, lines.Text())
		if !strings.HasSuffix(lines.Text(), " …") {
			continue
		}
		if begun++; begun == 2 || round == 1 {
			if err := c.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = c.Wait() // the exit code says it
	return c.ProcessState.ExitCode(), out.String(), said.String()
}
