package collector

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sluis-cdp/sluis/collector/jsontree"
	"github.com/sluis-cdp/sluis/consent"
	"github.com/sluis-cdp/sluis/consent/seal"
)

func TestPages(t *testing.T) {
	file, err := os.Open("testdata/pages.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	n := 0
	for lines := bufio.NewScanner(file); lines.Scan(); {
		line := lines.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		cells := strings.Split(line, " | ")
		plan := &TrackingPlan{Version: "1", Owner: "growth", Pages: strings.Fields(cells[0])}
		plan.lintPages(t)
		var tree jsontree.Tree
		if err := tree.Parse(cells[1]); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		e := &Event{message: message{typ: "track"}}
		e.page = tree.Root()
		want := strings.TrimSpace(cells[2])
		if got := plan.pageOf(e); got != want && (got != "" || want != "-") {
			t.Errorf("%s: counted as %q", strings.TrimSpace(line), got)
		}
		n++
	}
	if n < 30 {
		t.Errorf("%d cases", n)
	}
}

func (p *TrackingPlan) lintPages(t *testing.T) []Problem {
	t.Helper()
	policy, err := consent.NewPolicy(consent.PolicyConfig{Version: "1"})
	if err != nil {
		t.Fatal(err)
	}
	problems := p.Check(policy)
	for _, problem := range problems {
		if !problem.Warning {
			t.Fatal(problem)
		}
	}
	return problems
}

func TestPagesThatAreNone(t *testing.T) {
	policy, err := consent.NewPolicy(consent.PolicyConfig{Version: "1"})
	if err != nil {
		t.Fatal(err)
	}
	for page, want := range map[string]string{
		"pricing": "begins with /", "": "begins with /", "https://shop.example/": "begins with /", "/a?b": "queries", "/a#b": "queries",
		"/a/*.html": "whole segment", "/**/a": "at the end", "/a//b": "empty", "//": "empty", "/a/b**": "whole segment",
	} {
		problems := (&TrackingPlan{Version: "1", Owner: "growth", Pages: []string{"/", page}}).Check(policy)
		if len(problems) != 1 || problems[0].Warning || !strings.Contains(problems[0].Message, want) || !slices.Equal(problems[0].Path, []string{"pages", "1"}) {
			t.Errorf("%q: %v, want %s", page, problems, want)
		}
	}
	many := make([]string, maxPages+1)
	for i := range many {
		many[i] = fmt.Sprintf("/p%d", i)
	}
	if problems := (&TrackingPlan{Version: "1", Owner: "growth", Pages: many}).Check(policy); len(problems) != 1 {
		t.Errorf("%d pages: %v", len(many), problems)
	}
	hidden := &TrackingPlan{Version: "1", Owner: "growth", Pages: []string{"/a/*", "/a/b", "/a/**", "/c/**", "/c/*/d"}}
	warned := ""
	for _, problem := range hidden.lintPages(t) {
		warned += problem.Path[1] + " "
	}
	if warned != "1 4 " {
		t.Errorf("pages hidden by others: %s", warned)
	}
}

// refusedEvent is what may be known of an event that is counted: nothing else of
// it may make a difference to a single byte that is written.
type refusedEvent struct {
	typ, event, page, device string
	refusal                  string // the event's consent object; "" is silence
}

var devices = map[string][]string{
	"desktop": {"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/126.0 Safari/537.36", "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Firefox/127.0"},
	"mobile":  {"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) Mobile/15E148 Safari/604.1", "Mozilla/5.0 (Linux; Android 14; Pixel 8) Chrome/126.0 Mobile Safari/537.36"},
	"tablet":  {"Mozilla/5.0 (iPad; CPU OS 17_5 like Mac OS X) Safari/604.1", "Mozilla/5.0 (Linux; Android 14; SM-X710) Chrome/126.0 Safari/537.36"},
	"other":   {"", "Something/1.0"},
	"bot":     {"Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)"},
}

// TestNothingElseOfARefusedEventIsWritten sends pairs of events that agree in what
// is counted and in nothing else, and compares the records byte for byte.
func TestNothingElseOfARefusedEventIsWritten(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	b := newBench(t, func(c *Config) {
		plan := testPlan()
		plan.Pages = []string{"/", "/pricing", "/users/*"}
		plan.Check(c.Policy)
		c.Sources[0].Plan = plan
	})
	allowed := []string{
		"web", "page", "screen", "track", "Live Chat Started", "Ad Clicked", "Order Completed", "/", "/pricing", "/users/*", "",
		"received", "counted", "analytics denied by segment_consent", "analytics not granted",
	}
	for device := range devices {
		allowed = append(allowed, device)
	}
	pick := func(list ...string) string { return list[random.IntN(len(list))] }
	for range 400 {
		one := refusedEvent{
			typ: pick("page", "screen", "track"), event: pick("Live Chat Started", "Ad Clicked", "Order Completed", ""), page: pick("/", "/pricing", "/users/*", ""),
			device: pick("desktop", "mobile", "tablet", "other", "bot"), refusal: pick("", `{"categoryPreferences":{"analytics":false}}`, `{"categoryPreferences":{}}`),
		}
		if one.typ != "track" {
			one.event = ""
		}
		first, second := b.send(t, one, random), b.send(t, one, random)
		if !bytes.Equal(first, second) {
			t.Fatalf("%+v: what is written differs:\n%q\n%q", one, first, second)
		}
		record, err := ParseRecord(first)
		if err != nil {
			t.Fatal(err)
		}
		want := CountRow{SourceID: "web", Hour: record.Counts[0].Hour, Type: one.typ, Event: one.event, N: 1, Page: one.page, DeviceClass: one.device}
		if len(record.Counts) != 1 || record.Counts[0] != want {
			t.Fatalf("%+v: counted as %+v", one, record.Counts)
		}
		if len(record.Ledger) != 2 || len(record.Events)+len(record.Vault)+len(record.Consents)+len(record.Quarantine)+len(record.SealKeys)+len(record.Elements) > 0 {
			t.Fatalf("%+v: %+v", one, record.Rows)
		}
		for _, text := range []string{
			want.SourceID, want.Type, want.Event, want.Page, want.DeviceClass,
			record.Ledger[0].Outcome, record.Ledger[0].Reason, record.Ledger[1].Outcome, record.Ledger[1].Reason,
		} {
			if !slices.Contains(allowed, text) {
				t.Fatalf("%+v: %q is written", one, text)
			}
		}
	}
}

// send posts an event with all else at random, and returns the record.
func (b *bench) send(t *testing.T, one refusedEvent, random *rand.Rand) []byte {
	t.Helper()
	word := func() string { return fmt.Sprintf("canary-%d", random.Uint64()) }
	mail := func() string { return word() + "@example.com" }
	object := func() map[string]any {
		return map[string]any{word(): word(), "email": mail(), "path": word(), "title": word(), "n": random.Int(), "list": []any{word(), map[string]any{word(): mail()}}}
	}
	page := map[string]any{"title": word(), "referrer": "https://" + word() + ".example/" + word(), "search": "?q=" + mail(), "url": "https://shop.example/" + word() + "/x/y"}
	switch path := strings.Replace(one.page, "*", word(), 1); {
	case path == "":
		page["path"] = "/" + word() + "/" + mail()
	case random.IntN(2) == 0:
		page["path"] = path + "?" + word()
	default:
		page["url"] = "https://" + word() + ".example" + path + "?" + word() + "#" + word()
	}
	context := object()
	context["page"] = page
	context["campaign"] = map[string]any{"source": word(), "name": mail()}
	context["ip"] = fmt.Sprintf("203.0.113.%d", random.IntN(256))
	context["locale"], context["timezone"] = word(), word()
	if one.refusal != "" {
		context["consent"] = json.RawMessage(one.refusal)
	}
	body := map[string]any{
		"messageId": word(), "anonymousId": word(), "traits": object(), "context": context, "integrations": object(), word(): word(),
		"timestamp": fmt.Sprintf("2026-0%d-11T0%d:11:12Z", 1+random.IntN(9), random.IntN(10)),
	}
	if properties := object(); one.typ != "page" {
		body["properties"] = properties
	}
	if one.refusal != `{"categoryPreferences":{"analytics":false}}` && random.IntN(2) == 0 {
		body["userId"] = mail() // nothing is refused that it could withdraw
	}
	switch one.typ {
	case "track":
		if body["event"] = one.event; one.event == "" {
			body["event"] = word()
		}
	case "screen":
		body["name"] = word()
	}
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	agents := devices[one.device]
	before := len(b.spool.records)
	status, answer := b.post(t, "/v1/"+one.typ, string(text), "X-Write-Key", "wk_web", "User-Agent", agents[random.IntN(len(agents))],
		"X-Forwarded-For", fmt.Sprintf("198.51.100.%d", random.IntN(256)), "X-Region", []string{"NL", "US-CA"}[random.IntN(2)],
		"Referer", "https://"+word()+".example/", "Cookie", word()+"="+word(), "Accept-Language", word())
	if status != 200 || len(b.spool.records) != before+1 {
		t.Fatalf("%+v: %d %v", one, status, answer)
	}
	return b.spool.records[before]
}

// TestRefusalOfACustomerKeepsTheRefusalAlone: a customer who is signed in can
// withdraw what was agreed to elsewhere, so the proof of that is written, for the
// pseudonym; the event is a number like any other.
func TestRefusalOfACustomerKeepsTheRefusalAlone(t *testing.T) {
	b := newBench(t, nil)
	status, _ := b.post(t, "/v1/track", `{"userId":"canary-user","event":"Live Chat Started","properties":{"x":"canary-1"},"context":{"locale":"canary-2",
		"page":{"path":"/canary-3"},"consent":{"categoryPreferences":{"analytics":false,"canary-4":true}}}}`, "X-Write-Key", "wk_web")
	if status != 200 {
		t.Fatal(status)
	}
	rows := b.spool.rows(t)
	user, err := b.Pseudonymizer.Pseudonym(seal.UserID, "canary-user")
	if err != nil {
		t.Fatal(err)
	}
	if len(rows.Consents) != 1 || rows.Consents[0].Pseudonym != user.Token() || rows.Consents[0].Granted || rows.Consents[0].Purpose != "analytics" {
		t.Errorf("%+v", rows.Consents)
	}
	if len(rows.Counts) != 1 || rows.Counts[0].N != 1 || len(rows.Events)+len(rows.Vault)+len(rows.Quarantine)+len(rows.SealKeys) > 0 {
		t.Errorf("%+v", rows)
	}
	if bytes.Contains(bytes.Join(b.spool.records, nil), []byte("canary")) {
		t.Error("something of the event is written")
	}
}

// TestNumbersAreNotBesideWhoCameWithThem: what was counted and what landed of one
// request have no place in common, unless the request landed alone.
func TestNumbersAreNotBesideWhoCameWithThem(t *testing.T) {
	b := newBench(t, nil)
	for _, user := range []string{"anna", "bob", "carol"} {
		body := `{"batch":[
			{"type":"track","userId":"` + user + `","event":"Live Chat Started","context":{"consent":{"categoryPreferences":{"analytics":true,"identity":true}}}},
			{"type":"track","userId":"` + user + `","event":"Ad Clicked","context":{"consent":{"categoryPreferences":{"analytics":true,"advertising":false}}}}]}`
		if status, answer := b.post(t, "/v1/batch", body, "X-Write-Key", "wk_web"); status != 200 {
			t.Fatal(status, answer)
		}
	}
	var rows Rows
	for i, text := range b.spool.records {
		r, err := ParseRecord(text)
		if err != nil {
			t.Fatal(err)
		}
		rows.append(r.Rows, "0011223344556677", uint64(17+i), 17)
	}
	if len(rows.Events) != 3 || rows.Events[2].SpoolOffset != 19 {
		t.Errorf("%+v", rows.Events)
	}
	if len(rows.Counts) != 1 || rows.Counts[0].N != 3 || rows.Counts[0].SpoolOffset != 17 {
		t.Errorf("%+v", rows.Counts)
	}
	for _, l := range rows.Ledger {
		if l.SpoolOffset != 17 {
			t.Errorf("%+v", l)
		}
	}
	// Whichever request a counter came first in, it has the place of the range.
	rows = Rows{}
	r, err := ParseRecord(b.spool.records[2])
	if err != nil {
		t.Fatal(err)
	}
	rows.append(r.Rows, "0011223344556677", 19, 17)
	if rows.Counts[0].SpoolOffset != 17 || rows.Events[0].SpoolOffset != 19 {
		t.Errorf("%+v, %+v", rows.Counts, rows.Events)
	}
}
