//go:build sdk

package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluis-cdp/sluis/consent/seal"
)

var onlySDK = flag.String("sdk", "", "regular expression: run only the SDKs that match")

// TestSDKs makes all calls with the unchanged SDKs, against a running
// `sluis up`, and compares what landed with what was sent. What it needs is
// installed by testdata/sdk/install.
func TestSDKs(t *testing.T) {
	calls, sdks := readMatrix(t)
	sdks = chosen(t, sdks)
	bench := newSDKBench(t, sdks)
	for i, s := range sdks {
		t.Run("send "+s.String(), func(t *testing.T) {
			mine := own(t, i, s.calls(calls))
			host := bench.url
			if s.Site {
				host = bench.pages.URL + pathPrefix
			}
			bench.send(t, i, host, mine)
			bench.awaitLedger(t, i, int64(len(mine)))
		})
	}
	bench.terminate(t)
	landed := bench.read(t)
	for i, s := range sdks {
		t.Run("compare "+s.String(), func(t *testing.T) {
			mine := own(t, i, s.calls(calls))
			want, got := expect(t, own(t, i, s), mine), landed.of(t, i, bench, mine)
			if diff := compare(lines(t, want), lines(t, got)); diff != "" {
				t.Errorf("- is missing, + is there instead\n%s", diff)
			}
		})
	}
	if bytes.Contains(bytes.ToLower(readAll(t, bench.dir)), []byte("canary")) {
		t.Error("a canary is in clear below the workspace")
	}
}

// TestSDKsTryAgain lets each SDK send one event to a collector that refuses it
// with 503, and next time keeps it but cannot say so: it arrives, and once.
func TestSDKsTryAgain(t *testing.T) {
	calls, sdks := readMatrix(t)
	sdks = slices.DeleteFunc(chosen(t, sdks), func(s sdk) bool { return s.Retries == "no" })
	call := slices.IndexFunc(calls, func(c sdkCall) bool { return c.event() == "Order Completed" })
	bench := newSDKBench(t, sdks)
	for i, s := range sdks {
		t.Run(s.String(), func(t *testing.T) {
			bench.send(t, i, failsTwice(t, bench.url, bench.pages.URL), own(t, i, calls[call:call+1]))
			bench.awaitLedger(t, i, 2)
		})
	}
	bench.terminate(t)
	for i, s := range sdks {
		want := map[string]int64{"received": 2, "landed": 1, "duplicate": 1}
		if got := bench.read(t).of(t, i, bench, nil).Ledger; !maps.Equal(got, want) {
			t.Errorf("%s: the ledger has %v, want %v", s, got, want)
		}
	}
}

// failsTwice is a proxy that answers the first event for the collector, and
// loses the collector's answer to the second.
func failsTwice(t *testing.T, collector, page string) string {
	t.Helper()
	proxy := proxyTo(t, collector)
	var events atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := int64(0)
		if r.Method == http.MethodPost {
			n = events.Add(1)
		}
		if n == 2 {
			proxy.ServeHTTP(httptest.NewRecorder(), r)
		}
		if n == 1 || n == 2 {
			w.Header().Set("Access-Control-Allow-Origin", page)
			w.Header().Set("Access-Control-Allow-Credentials", "true")
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, `{"success":false,"code":"unavailable","message":"the event could not be written to disk"}`)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// chosen are the SDKs that the flag -sdk asks for.
func chosen(t *testing.T, sdks []sdk) []sdk {
	t.Helper()
	sdks = slices.DeleteFunc(sdks, func(s sdk) bool { return !regexp.MustCompile(*onlySDK).MatchString(s.String()) })
	if len(sdks) == 0 {
		t.Fatalf("no SDK matches %q", *onlySDK)
	}
	return sdks
}

// own gives the ids and addresses in what concerns an SDK its number, so that
// the SDKs speak of different people.
func own[T any](t *testing.T, i int, value T) T {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	prefix := fmt.Sprintf("canary-%d-", i)
	text = bytes.ReplaceAll(text, []byte("canary-"), []byte(prefix))
	text = bytes.ReplaceAll(text, []byte(prefix+"long-id*100"), bytes.Repeat([]byte(prefix+"long-id"), 100))
	var mine T
	if err := json.Unmarshal(text, &mine); err != nil {
		t.Fatal(err)
	}
	return mine
}

// sdkBench is a running `sluis up` with a source for each SDK, and a server of
// pages on another origin.
type sdkBench struct {
	*program
	dir   string
	sdks  []sdk
	pages *pages
	began time.Time
	goSDK string
}

func newSDKBench(t *testing.T, sdks []sdk) *sdkBench {
	t.Helper()
	b := &sdkBench{dir: newWorkspace(t), sdks: sdks, pages: newPages(t), began: time.Now(), goSDK: filepath.Join(t.TempDir(), "sdk")}
	var sources strings.Builder
	for i := range sdks {
		fmt.Fprintf(&sources, "  - {id: %s, write_key: %s, origins: [%q], tracking_plan: tracking/web.yaml, denied: count}\n", sourceOf(i), keyOf(i), b.pages.URL)
	}
	file := filepath.Join(b.dir, "sluis.yaml")
	edit(t, file, "\nsources:\n", "\nsources:\n"+sources.String())
	edit(t, file, "every: 1s", "every: 24h")
	edit(t, file, `path_prefix: ""`, "path_prefix: "+pathPrefix)
	build := exec.Command("go", "build", "-o", b.goSDK, ".")
	build.Dir = "testdata/sdk/go"
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b.program = start(t, "up", "--workspace", b.dir, "--listen", "127.0.0.1:0")
	b.pages.passOn(t, b.url)
	return b
}

// pathPrefix is where the site of the pages passes on to the collector.
const pathPrefix = "/s"

func sourceOf(i int) string { return fmt.Sprintf("sdk-%d", i) }
func keyOf(i int) string    { return fmt.Sprintf("wk-sdk-%d", i) }

// send makes the calls with an SDK. In a browser they may still be on their
// way when it returns.
func (b *sdkBench) send(t *testing.T, i int, url string, calls []sdkCall) {
	t.Helper()
	text, err := json.Marshal(calls)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.ReplaceAll(text, []byte(`"Send"`), []byte(`"send"`))
	text = bytes.ReplaceAll(text, []byte(`"Call"`), []byte(`"call"`))
	file := filepath.Join(t.TempDir(), "calls.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	s := b.sdks[i]
	arguments := []string{s.SDK, url, keyOf(i), file, s.Mode}
	var command *exec.Cmd
	switch s.Runs {
	case "node":
		command = exec.Command("node", append([]string{"testdata/sdk/node/send.mjs"}, arguments...)...)
	case "python":
		command = exec.Command("testdata/sdk/python/venv/bin/python", append([]string{"testdata/sdk/python/send.py"}, arguments...)...)
	case "go":
		command = exec.Command(b.goSDK, arguments...)
	case "chromium":
		b.pages.visit(t, s, url, keyOf(i), text)
		return
	default:
		t.Fatalf("%s runs in %q", s.SDK, s.Runs)
	}
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// awaitLedger waits until so many events of an SDK have landed in the ledger.
func (b *sdkBench) awaitLedger(t *testing.T, i int, n int64) {
	t.Helper()
	eventually(t, "receiving the SDK's events", func() bool {
		rows := query(t, b.dir, "select coalesce(sum(n), 0)::bigint as n from sluis.ledger where outcome = 'received' and source_id = '"+sourceOf(i)+"'")
		return rows[0]["n"] == float64(n)
	})
}

// pages serves the page that holds an SDK, and the packages it needs.
type pages struct {
	*httptest.Server
	mux  *http.ServeMux
	run  []byte // what the page shall do
	done chan string
}

func newPages(t *testing.T) *pages {
	t.Helper()
	mux := http.NewServeMux()
	p := &pages{mux: mux, done: make(chan string, 1)}
	mux.Handle("/", http.FileServer(http.Dir("testdata/sdk/browser")))
	mux.Handle("GET /node_modules/", http.FileServer(http.Dir("testdata/sdk/node")))
	mux.HandleFunc("GET /run.json", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(p.run) })
	mux.HandleFunc("POST /done", func(_ http.ResponseWriter, r *http.Request) {
		message, _ := io.ReadAll(r.Body)
		p.done <- string(message)
	})
	p.Server = httptest.NewServer(mux)
	p.URL = strings.Replace(p.URL, "127.0.0.1", "localhost", 1) // an address would be masked
	t.Cleanup(p.Close)
	return p
}

// passOn makes the collector a part of the site, as its proxy would.
func (p *pages) passOn(t *testing.T, collector string) {
	t.Helper()
	p.mux.Handle(pathPrefix+"/", proxyTo(t, collector))
}

// proxyTo is a reverse proxy that leaves the host as it came.
func proxyTo(t *testing.T, collector string) *httputil.ReverseProxy {
	t.Helper()
	target, err := url.Parse(collector)
	if err != nil {
		t.Fatal(err)
	}
	return &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host }}
}

// visit opens the page in Chromium and waits until it has made the calls. The
// browser stays until the test ends.
func (p *pages) visit(t *testing.T, s sdk, host, key string, calls []byte) {
	t.Helper()
	var err error
	p.run, err = json.Marshal(map[string]any{"sdk": s.SDK, "mode": s.Mode, "host": host, "writeKey": key, "calls": json.RawMessage(calls)})
	if err != nil {
		t.Fatal(err)
	}
	browser := exec.Command("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
		"--remote-debugging-port=0", "--accept-lang=nl-NL", "--user-data-dir="+t.TempDir(), "--user-agent="+userAgent, p.URL+"/send.html")
	browser.Env = append(os.Environ(), "TZ=Europe/Amsterdam")
	var log bytes.Buffer
	browser.Stderr = &log
	if err := browser.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = browser.Process.Kill()
		_ = browser.Wait()
	})
	select {
	case message := <-p.done:
		if message != "" {
			t.Fatalf("the page says %s", message)
		}
	case <-time.After(2 * time.Minute):
		t.Fatalf("the page did not make its calls within two minutes")
	}
}

const userAgent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36"

// came is what came of an SDK's calls, in clear and comparable.
type came struct {
	Events   map[string]map[string]any // by event
	Ledger   map[string]int64
	Vault    []string
	Consents []string
}

// expect is what calls.yaml and sdks.yaml say.
func expect(t *testing.T, s sdk, calls []sdkCall) came {
	t.Helper()
	want := came{Events: map[string]map[string]any{}, Ledger: map[string]int64{"received": int64(len(calls))}}
	for _, c := range calls {
		want.Ledger[c.Outcome]++
		want.Consents = append(want.Consents, c.Consents...)
		for name, value := range c.Vault {
			want.Vault = append(want.Vault, name+" "+value)
		}
		if c.Outcome != "landed" {
			continue
		}
		row := map[string]any{"type": c.Call, "occurred_at": "as sent", "plan_version": "1", "policy_version": "1", "source_id": "its own"}
		if s.Clock != "" {
			row["occurred_at"] = "when made"
		}
		library := map[string]any{"library": map[string]any{"name": s.Library.Name, "version": cmp.Or(s.Library.Version, s.version(t))}}
		for _, part := range []map[string]any{c.Lands, s.Lands["*"], s.Lands[c.event()], {"context": library}} {
			merge(row, part)
		}
		want.Events[c.event()] = row
	}
	slices.Sort(want.Vault)
	slices.Sort(want.Consents)
	return want
}

// merge overwrites columns; null removes one. Of objects it overwrites fields.
func merge(row, with map[string]any) {
	for key, value := range with {
		object, ok := value.(map[string]any)
		old, had := row[key].(map[string]any)
		switch {
		case value == nil:
			delete(row, key)
		case ok && had:
			old = maps.Clone(old)
			merge(old, object)
			row[key] = old
		default:
			row[key] = value
		}
	}
}

// lines is what came, one line for each value: its path and itself.
func lines(t *testing.T, c came) []string {
	t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var plain any
	if err := json.Unmarshal(text, &plain); err != nil {
		t.Fatal(err)
	}
	var list []string
	var walk func(path string, value any)
	walk = func(path string, value any) {
		switch v := value.(type) {
		case map[string]any:
			for key, inner := range v {
				walk(path+" · "+key, inner)
			}
		case []any:
			for i, inner := range v {
				walk(fmt.Sprintf("%s · %d", path, i), inner)
			}
		case nil:
		default:
			list = append(list, fmt.Sprintf("%s: %v", strings.TrimPrefix(path, " · "), v))
		}
	}
	walk("", plain)
	slices.Sort(list)
	return list
}

// compare lists the lines that are only in one of two lists.
func compare(want, got []string) string {
	var diff []string
	for _, line := range want {
		if !slices.Contains(got, line) {
			diff = append(diff, line+"  -")
		}
	}
	for _, line := range got {
		if !slices.Contains(want, line) {
			diff = append(diff, line+"  +")
		}
	}
	slices.Sort(diff)
	return strings.Join(diff, "\n")
}

// tables are all rows that landed.
type tables struct {
	events, ledger, vault, consents []map[string]any
}

func (b *sdkBench) read(t *testing.T) tables {
	t.Helper()
	return tables{
		events:   query(t, b.dir, "select * from sluis.events"),
		ledger:   query(t, b.dir, "select source_id, outcome, sum(n) as n from sluis.ledger group by all"),
		vault:    query(t, b.dir, "select v.*, k.recipient, k.psk_id, k.encapsulated_key from sluis.vault v join sluis.seal_keys k using (key_id)"),
		consents: query(t, b.dir, "select * from sluis.consents"),
	}
}

// of picks what came of an SDK's calls and gives pseudonyms their names back.
func (all tables) of(t *testing.T, i int, b *sdkBench, calls []sdkCall) came {
	t.Helper()
	got := came{Events: map[string]map[string]any{}, Ledger: map[string]int64{}}
	names := newNames(t, b.dir, calls)
	for _, row := range all.ledger {
		if row["source_id"] == sourceOf(i) {
			got.Ledger[row["outcome"].(string)] = int64(row["n"].(float64))
		}
	}
	for _, row := range all.events {
		if row["source_id"] == sourceOf(i) {
			event := row["type"].(string)
			if event == "track" {
				event = row["event"].(string)
			}
			for got.Events[event] != nil {
				event += " again"
			}
			got.Events[event] = b.readable(t, row, names, calls)
		}
	}
	for _, row := range all.vault {
		if names.has(row["pseudonym"]) {
			got.Vault = append(got.Vault, fmt.Sprintf("%s %s %s", row["purpose"], row["field"], open(t, b.dir, row)))
		}
	}
	for _, row := range all.consents {
		if names.has(row["pseudonym"]) {
			word := "refuses"
			if row["granted"] == true {
				word = "agrees to"
			}
			got.Consents = append(got.Consents, fmt.Sprintf("%s %s %s", names.of(row["pseudonym"]), word, row["purpose"]))
		}
	}
	slices.Sort(got.Vault)
	slices.Sort(got.Consents)
	got.Vault = slices.Compact(got.Vault) // the same value may be sealed twice
	return got
}

// readable is a row with what differs from run to run checked and taken out.
func (b *sdkBench) readable(t *testing.T, row map[string]any, names names, calls []sdkCall) map[string]any {
	t.Helper()
	clear := map[string]any{"source_id": "its own"}
	for column, value := range row {
		switch column {
		case "source_id", "spool_id", "spool_offset", "received_at":
		case "event_id", "decision_id":
			if value == nil || value == "" {
				t.Errorf("an event without %s", column)
			}
		case "occurred_at":
			clear[column] = b.when(t, row, calls)
		case "anonymous_id", "user_id", "group_id":
			if value != nil {
				clear[column] = strings.TrimPrefix(names.of(value), column+" ")
			}
		case "identifiers":
			var list []string
			for _, id := range value.([]any) {
				list = append(list, names.of(id.(map[string]any)["pseudonym"]))
			}
			clear[column] = list
		case "properties", "traits", "context":
			value = object(t, value, b.pages.URL)
			fallthrough
		default:
			if text, ok := value.(string); ok {
				value = strings.ReplaceAll(text, b.pages.URL, pageName)
			}
			list, isList := value.([]any)
			if empty := value == nil || value == "" || value == false || isList && len(list) == 0; !empty {
				clear[column] = value
			}
		}
	}
	return clear
}

// object is a JSON column, in whichever form the query gave it; the page's own
// address has a name.
func object(t *testing.T, value any, page string) any {
	t.Helper()
	text, ok := value.(string)
	if !ok {
		b, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		text = string(b)
	}
	var object any
	if err := json.Unmarshal([]byte(strings.ReplaceAll(text, page, pageName)), &object); err != nil {
		t.Fatal(err)
	}
	return object
}

// pageName stands for the address of the page server.
const pageName = "https://page.example"

// when tells whether an event is dated as it was sent. What may be added is the
// time that it took to arrive, by which the client's clock is corrected.
func (b *sdkBench) when(t *testing.T, row map[string]any, calls []sdkCall) string {
	t.Helper()
	parse := func(value any) time.Time {
		at, err := time.Parse(time.RFC3339Nano, fmt.Sprint(value))
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	occurred, received := parse(row["occurred_at"]), parse(row["received_at"])
	took := received.Sub(b.began)
	for _, c := range calls {
		sent := parse(c.Send["timestamp"])
		if c.event() == row["event"] || c.Call != "track" && c.Call == row["type"] {
			if d := occurred.Sub(sent); d >= -time.Millisecond && d <= took {
				return "as sent"
			}
		}
	}
	if !occurred.Before(b.began.Truncate(time.Millisecond)) && !occurred.After(received) {
		return "when made"
	}
	return occurred.String()
}

// names gives pseudonyms back what they are made of.
type names map[string]string

func newNames(t *testing.T, dir string, calls []sdkCall) names {
	t.Helper()
	p, err := seal.NewPseudonymizer(context.Background(), seal.Dir(filepath.Join(dir, "keys")), "shop", "")
	if err != nil {
		t.Fatal(err)
	}
	n := names{}
	add := func(kind seal.Kind, value any) {
		text, ok := value.(string)
		if pseudonym, err := p.Pseudonym(kind, text); ok && err == nil {
			n[pseudonym.Token()] = string(kind) + " " + strings.ToLower(text)
		}
	}
	for _, c := range calls {
		add(seal.AnonymousID, c.Send["anonymousId"])
		add(seal.UserID, c.Send["userId"])
		add(seal.GroupID, c.Send["groupId"])
		if traits, ok := c.Send["traits"].(map[string]any); ok {
			add(seal.Email, traits["email"])
			add(seal.Phone, traits["phone"])
		}
	}
	return n
}

func (n names) has(token any) bool { _, ok := n[fmt.Sprint(token)]; return ok }

func (n names) of(token any) string {
	if name, ok := n[fmt.Sprint(token)]; ok {
		return name
	}
	return "unknown " + fmt.Sprint(token)
}

// open opens a sealed value with the private key of its purpose.
func open(t *testing.T, dir string, row map[string]any) string {
	t.Helper()
	text := func(column string) string { return fmt.Sprint(row[column]) }
	bytesOf := func(column string) []byte {
		b, err := base64.StdEncoding.DecodeString(text(column))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	opener, err := seal.NewOpener(context.Background(), seal.Dir(filepath.Join(dir, "keys")), "shop", []string{text("purpose")})
	if err != nil {
		t.Fatal(err)
	}
	received, err := time.Parse(time.RFC3339Nano, text("received_at"))
	if err != nil {
		t.Fatal(err)
	}
	value, err := opener.Open(seal.Sealed{KeyID: text("key_id"), Ciphertext: bytesOf("ciphertext")},
		seal.DataKey{ID: text("key_id"), Purpose: text("purpose"), Recipient: text("recipient"), PSKID: text("psk_id"), EncapsulatedKey: bytesOf("encapsulated_key")},
		seal.Binding{Purpose: text("purpose"), Field: text("field"), Subject: text("pseudonym"), Decision: text("decision_id"), Record: seal.VaultRecord(text("token"), received)})
	if err != nil {
		t.Fatal(err)
	}
	return value
}
