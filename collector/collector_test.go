package collector

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/collector/spool"
	"github.com/sluis-cdp/sluis/collector/visitor"
	"github.com/sluis-cdp/sluis/consent"
	"github.com/sluis-cdp/sluis/consent/seal"
)

var update = flag.Bool("update", false, "write the golden files anew")

// fixedKeys makes the same pseudonyms in every run.
type fixedKeys struct{ seal.Dir }

func (k fixedKeys) Key(ctx context.Context, name string) ([]byte, error) {
	if slices.Contains([]string{seal.KeyPseudonym, seal.KeyTokens, seal.KeyIDs}, name) {
		return bytes.Repeat([]byte{1}, 32), nil
	}
	return k.Dir.Key(ctx, name)
}

// memorySpool keeps records in memory, or fails.
type memorySpool struct {
	mu      sync.Mutex
	records [][]byte
	fail    error
}

func (s *memorySpool) Append(_ context.Context, record []byte) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return 0, s.fail
	}
	s.records = append(s.records, bytes.Clone(record))
	return uint64(len(s.records)), nil
}

// rows decodes all records that were written.
func (s *memorySpool) rows(t testing.TB) Rows {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var all Rows
	for i, b := range s.records {
		r, err := ParseRecord(b)
		if err != nil {
			t.Fatal(err)
		}
		all.append(r.Rows, "0011223344556677", uint64(i+1), 1)
	}
	return all
}

type bench struct {
	*Collector
	spool  *memorySpool
	opener *seal.Opener
	cookie []byte
}

func testPlan() *TrackingPlan {
	return &TrackingPlan{
		Version: "3", Owner: "growth",
		Fields: map[string]Field{
			"traits.email": {Class: EmailAdr}, "traits.phone": {Class: PhoneNr},
			"traits.loyalty_number": {Class: Personal}, "traits.internal_note": {Class: Drop},
		},
		Events: []PlannedEvent{
			{Name: "Live Chat Started"},
			{Name: "Ad Clicked", Purposes: []consent.Purpose{consent.Analytics, consent.Advertising}},
			{Name: "Order Completed", Fields: map[string]Field{"properties.gift_email": {Class: Drop}, "properties.zip": {Class: Clear}}},
		},
	}
}

func newBench(t testing.TB, change func(*Config)) *bench {
	t.Helper()
	ctx := context.Background()
	keys := fixedKeys{seal.Dir(filepath.Join(t.TempDir(), "keys"))}
	purposes := []string{"necessary", "personalization", "marketing", "advertising"}
	if err := seal.Generate(keys.Dir, purposes); err != nil {
		t.Fatal(err)
	}
	policy, err := consent.NewPolicy(consent.PolicyConfig{Version: "1"})
	if err != nil {
		t.Fatal(err)
	}
	plan := testPlan()
	if problems := plan.Check(policy); len(problems) > 0 {
		t.Fatal(problems)
	}
	b := &bench{spool: &memorySpool{}, cookie: bytes.Repeat([]byte{3}, 32)}
	config := Config{
		Sources: []Source{
			{ID: "web", WriteKey: "wk_web", Origins: []string{"https://shop.example"}, Plan: plan, Denied: Count},
			{ID: "app", WriteKey: "wk_app", Plan: plan, Denied: Discard},
		},
		Policy: policy, CookieKey: b.cookie, PhoneRegion: "NL", Spool: b.spool, Visitors: testVisitors(t),
		SealFor: []consent.Purpose{consent.Personalization, consent.Marketing, consent.Advertising},
		Now:     func() time.Time { return time.Date(2026, 3, 1, 12, 0, 30, 0, time.UTC) },
	}
	if config.Pseudonymizer, err = seal.NewPseudonymizer(ctx, keys, "test", "NL"); err != nil {
		t.Fatal(err)
	}
	if config.Sealer, err = seal.NewSealer(ctx, keys, "test", purposes); err != nil {
		t.Fatal(err)
	}
	if b.opener, err = seal.NewOpener(ctx, keys, "test", purposes); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&config)
	}
	if b.Collector, err = New(config); err != nil {
		t.Fatal(err)
	}
	return b
}

// testVisitors trusts the address that httptest gives a client.
func testVisitors(t testing.TB) *visitor.Observer {
	t.Helper()
	proxies, err := visitor.ParseProxies([]string{"192.0.2.1"}, "")
	if err != nil {
		t.Fatal(err)
	}
	o, err := visitor.New(visitor.Config{Proxies: proxies, RegionHeader: "X-Region"})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// post sends a body and returns status and answer.
func (b *bench) post(t testing.TB, path, body string, headers ...string) (int, map[string]any) {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	b.Handler().ServeHTTP(w, r)
	var answer map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		t.Fatalf("the answer is no JSON: %q", w.Body.String())
	}
	return w.Code, answer
}

// TestEvents sends each testdata/events/*.json and compares what would be
// written with the golden file beside it. Ciphertexts and key ids, which are
// random, are shown as what they open to.
func TestEvents(t *testing.T) {
	files, err := filepath.Glob("testdata/events/*.json")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d cases, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var c struct {
				Source  string
				Path    string
				Headers map[string]string
				Body    json.RawMessage
			}
			if err := json.Unmarshal(text, &c); err != nil {
				t.Fatal(err)
			}
			for _, b := range []*bench{newBench(t, nil), newServedBench(t, new(evaluator))} {
				headers := []string{"X-Write-Key", "wk_" + c.Source}
				for k, v := range c.Headers {
					headers = append(headers, k, v)
				}
				status, answer := b.post(t, c.Path, string(c.Body), headers...)
				delete(answer, "decisionId")
				compareGolden(t, strings.TrimSuffix(file, ".json")+".golden", map[string]any{"status": status, "answer": answer, "rows": b.readable(t)})
			}
		})
	}
}

// compareGolden compares a value, as JSON, with a file.
func compareGolden(t *testing.T, file string, value any) {
	t.Helper()
	got, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(file, append(got, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)+"\n"); diff != "" {
		t.Errorf("(-want +got; -update writes the file anew)\n%s", diff)
	}
}

// readable is what was written, with sealed values opened.
func (b *bench) readable(t *testing.T) map[string]any {
	t.Helper()
	rows := b.spool.rows(t)
	open := func(purpose, field, subject, decision, record, keyID string, ciphertext []byte) string {
		i := slices.IndexFunc(rows.SealKeys, func(k SealKeyRow) bool { return k.KeyID == keyID })
		if i < 0 {
			t.Fatal("a sealed value was written without its key")
		}
		k := rows.SealKeys[i]
		value, err := b.opener.Open(seal.Sealed{KeyID: keyID, Ciphertext: ciphertext},
			seal.DataKey{ID: k.KeyID, Purpose: k.Purpose, Recipient: k.Recipient, PSKID: k.PSKID, EncapsulatedKey: k.EncapsulatedKey},
			seal.Binding{Purpose: purpose, Field: field, Subject: subject, Decision: decision, Record: record})
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	slices.SortFunc(rows.Counts, func(a, b CountRow) int { return strings.Compare(a.Type+a.Event, b.Type+b.Event) })
	show := map[string]any{"events": rows.Events, "consents": rows.Consents, "counts": rows.Counts}
	slices.SortFunc(rows.Ledger, func(a, b LedgerRow) int { return strings.Compare(a.Outcome+a.Reason, b.Outcome+b.Reason) })
	show["ledger"] = rows.Ledger
	vault := []string{}
	for _, v := range rows.Vault {
		vault = append(vault, fmt.Sprintf("%s %s for %s: %s", v.Pseudonym, v.Field, v.Purpose,
			open(v.Purpose, v.Field, v.Pseudonym, v.DecisionID, seal.VaultRecord(v.Token, v.ReceivedAt), v.KeyID, v.Ciphertext)))
	}
	show["vault"] = vault
	quarantine := []string{}
	for _, q := range rows.Quarantine {
		quarantine = append(quarantine, q.Reason+": "+open("necessary", "quarantine", q.QuarantineID, "", q.SourceID, q.KeyID, q.Ciphertext))
	}
	show["quarantine"] = quarantine
	return show
}

func TestAnswers(t *testing.T) {
	const consented = `"context":{"consent":{"categoryPreferences":{"analytics":true}}}`
	event := `{"anonymousId":"a","event":"X",` + consented + `}`
	big := `{"anonymousId":"a","event":"` + strings.Repeat("x", maxCall) + `"}`
	basic := func(key string) string {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.SetBasicAuth(key, "")
		return r.Header.Get("Authorization")
	}
	for _, test := range []struct {
		name, path, body string
		headers          []string
		status           int
		code             string
	}{
		{"basic authorization", "/v1/track", event, []string{"Authorization", basic("wk_web")}, 200, ""},
		{"bearer", "/v1/track", event, []string{"Authorization", "Bearer wk_web"}, 200, ""},
		{"write key in the body", "/v1/track", `{"writeKey":"wk_web","anonymousId":"a","event":"X"}`, nil, 200, ""},
		{"header", "/v1/track", event, []string{"X-Write-Key", "wk_web"}, 200, ""},
		{"no key", "/v1/track", event, nil, 401, "invalid_write_key"},
		{"wrong key", "/v1/track", event, []string{"X-Write-Key", "wk_nobody"}, 401, "invalid_write_key"},
		{"not JSON", "/v1/track", `{`, []string{"X-Write-Key", "wk_web"}, 400, "invalid_json"},
		{"an array", "/v1/track", `[]`, []string{"X-Write-Key", "wk_web"}, 400, "invalid_json"},
		{"null", "/v1/track", `null`, []string{"X-Write-Key", "wk_web"}, 400, "invalid_json"},
		{"two objects", "/v1/track", `{}{}`, []string{"X-Write-Key", "wk_web"}, 400, "invalid_json"},
		{"too large", "/v1/track", big, []string{"X-Write-Key", "wk_web"}, 400, "too_large"},
		{"batch of nothing", "/v1/batch", `{"batch":[]}`, []string{"X-Write-Key", "wk_web"}, 200, ""},
		{"batch is no array", "/v1/batch", `{"batch":{}}`, []string{"X-Write-Key", "wk_web"}, 400, "invalid_batch"},
		{"batch with odd elements", "/v1/batch", `{"batch":[1,null,{}]}`, []string{"X-Write-Key", "wk_web"}, 200, ""},
		{"other page", "/v1/track", event, []string{"X-Write-Key", "wk_web", "Origin", "https://evil.example"}, 403, "origin_not_allowed"},
		{"the shop's page", "/v1/track", event, []string{"X-Write-Key", "wk_web", "Origin", "https://shop.example"}, 200, ""},
		{"gzip that is none", "/v1/track", event, []string{"X-Write-Key", "wk_web", "Content-Encoding", "gzip"}, 400, "invalid_gzip"},
		{"an encoding that is not read", "/v1/track", event, []string{"X-Write-Key", "wk_web", "Content-Encoding", "br"}, 415, "unsupported_encoding"},
		{"no encoding, said so", "/v1/track", event, []string{"X-Write-Key", "wk_web", "Content-Encoding", "identity"}, 200, ""},
		{"JSON as text", "/v1/track", event, []string{"X-Write-Key", "wk_web", "Content-Type", "text/plain"}, 200, ""},
		{"JSON as a form", "/v1/track", event, []string{"X-Write-Key", "wk_web", "Content-Type", "application/x-www-form-urlencoded"}, 200, ""},
		{"choice of nothing", "/v1/consent", `{}`, []string{"X-Write-Key", "wk_web"}, 400, "invalid_choice"},
		{"choice of an unknown purpose", "/v1/consent", `{"purposes":{"fun":true}}`, []string{"X-Write-Key", "wk_web"}, 400, "unknown_purpose"},
		{"choice that is no boolean", "/v1/consent", `{"purposes":{"analytics":"yes"}}`, []string{"X-Write-Key", "wk_web"}, 400, "invalid_choice"},
		{"choice for no address", "/v1/consent", `{"purposes":{"analytics":true},"email":"x"}`, []string{"X-Write-Key", "wk_web"}, 400, "invalid_id"},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, answer := newBench(t, nil).post(t, test.path, test.body, test.headers...)
			code, _ := answer["code"].(string)
			if status != test.status || code != test.code {
				t.Errorf("%d %q, want %d %q", status, code, test.status, test.code)
			}
		})
	}
}

func TestTooManyEvents(t *testing.T) {
	body := `{"batch":[` + strings.TrimSuffix(strings.Repeat("{},", maxEvents+1), ",") + `]}`
	if status, answer := newBench(t, nil).post(t, "/v1/batch", body, "X-Write-Key", "wk_web"); status != 400 || answer["code"] != "invalid_batch" {
		t.Errorf("%d %v", status, answer)
	}
}

func TestGzipBody(t *testing.T) {
	zip := func(text string) string {
		var buffer bytes.Buffer
		w := gzip.NewWriter(&buffer)
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return buffer.String()
	}
	b := newBench(t, nil)
	headers := []string{"X-Write-Key", "wk_web", "Content-Encoding", "gzip"}
	if status, _ := b.post(t, "/v1/page", zip(`{"anonymousId":"a"}`), headers...); status != 200 {
		t.Errorf("gzip: %d", status)
	}
	if status, answer := b.post(t, "/v1/page", zip(`{"x":"`+strings.Repeat("0", 50<<20)+`"}`), headers...); status != 400 || answer["code"] != "too_large" {
		t.Errorf("a small body that unpacks to 50 MiB: %d %v", status, answer)
	}
}

// TestNoConsentNoByte fills every place of refused events with canaries. No
// byte of them may reach the spool, in whichever form the refusal comes.
func TestNoConsentNoByte(t *testing.T) {
	refusals := map[string]struct {
		context string
		headers []string
	}{
		"nothing said":         {`{}`, nil},
		"refused":              {`{"consent":{"categoryPreferences":{"analytics":false,"marketing":false}}}`, nil},
		"unreadable":           {`{"consent":{"categoryPreferences":{"analytics":"yes"}}}`, nil},
		"malformed":            {`{"consent":[true]}`, nil},
		"other purpose":        {`{"consent":{"categoryPreferences":{"marketing":true}}}`, nil},
		"forged cookie":        {`{}`, []string{"Cookie", ConsentCookie + "=eyJ2IjoiMSJ9.AAAA"}},
		"cookie against claim": {`{"consent":{"categoryPreferences":{"analytics":true}}}`, []string{"Cookie", ConsentCookie + "=broken"}},
	}
	for name, refusal := range refusals {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, nil)
			for _, typ := range append(slices.Clone(types), "nonsense") {
				body := fmt.Sprintf(`{"batch":[{"type":%q,"event":"canary-event","messageId":"canary-message","anonymousId":"canary-anonymous",
					"userId":"canary-user@example.com","groupId":"canary-group","previousId":"canary-previous","name":"canary-name",
					"properties":{"canary-key":"canary-value","email":"canary-mail@example.com"},"traits":{"email":"canary-trait@example.com"},
					"context":%s,"userId2":"canary"}]}`, typ, refusal.context)
				if status, _ := b.post(t, "/v1/batch", body, append([]string{"X-Write-Key", "wk_web"}, refusal.headers...)...); status != 200 {
					t.Errorf("%s: %d", typ, status)
				}
			}
			for _, record := range b.spool.records {
				if bytes.Contains(bytes.ToLower(record), []byte("canary")) {
					t.Errorf("written: %s", record)
				}
			}
			rows := b.spool.rows(t)
			if len(rows.Events)+len(rows.Vault)+len(rows.Quarantine) > 0 {
				t.Errorf("rows were written: %+v", rows)
			}
			balance(t, rows, 7)
		})
	}
}

// TestNoIdentifierInClear grants everything: still nothing personal is in clear.
func TestNoIdentifierInClear(t *testing.T) {
	b := newBench(t, nil)
	body := `{"type":"identify","messageId":"canary-5@example.com","anonymousId":"canary-anonymous","userId":"canary-user",
		"traits":{"email":"canary-1@example.com","phone":"+31612345678","name":"Canary Bird","firstName":"Canary","loyalty_number":"canary-77",
			"internal_note":"canary","plan":"gold","address":{"street":"canary street"},"canary-2@example.com":"x","nested":{"deep":["see canary-3@example.com"]}},
		"context":{"ip":"192.0.2.1","consent":{"categoryPreferences":{"identity":true,"analytics":true,"marketing":true,"advertising":true}},
			"page":{"url":"https://shop.example/u/canary-4@example.com?email=canary-6%40example.com&token=canary","title":"Hello canary-8@example.com",
				"referrer":"https://mail.example/?q=canary","search":"?email=canary-7@example.com"}}}`
	if status, answer := b.post(t, "/v1/identify", body, "X-Write-Key", "wk_web"); status != 200 || answer["notLanded"] != nil {
		t.Fatalf("%d %v", status, answer)
	}
	for _, record := range b.spool.records {
		for _, secret := range []string{"canary", "bird", "31612345678", "612345678", "192.0.2.1"} {
			if bytes.Contains(bytes.ToLower(record), []byte(secret)) {
				t.Errorf("%q was written: %s", secret, record)
			}
		}
	}
	rows := b.spool.rows(t)
	if len(rows.Events) != 1 || !strings.Contains(rows.Events[0].Traits, "gold") {
		t.Errorf("the clear trait did not land: %+v", rows.Events)
	}
}

// TestWithoutIdentityNothingIsLinked: an event keeps one identifier only.
func TestWithoutIdentityNothingIsLinked(t *testing.T) {
	b := newBench(t, nil)
	b.post(t, "/v1/identify", `{"anonymousId":"a-1","userId":"u-1","traits":{"email":"jane@example.com"},
		"context":{"consent":{"categoryPreferences":{"analytics":true,"marketing":true}}}}`, "X-Write-Key", "wk_web")
	e := b.spool.rows(t).Events[0]
	if len(e.Identifiers) != 1 || e.UserID != "" || e.AnonymousID == "" {
		t.Errorf("identifiers %+v", e.Identifiers)
	}
}

func TestWriteFailuresAreNotAcknowledged(t *testing.T) {
	event := `{"messageId":"m1","anonymousId":"a","event":"X","context":{"consent":{"categoryPreferences":{"analytics":true}}}}`
	b := newBench(t, nil)
	for _, err := range []error{spool.ErrFull, errors.New("disk on fire")} {
		b.spool.fail = err
		r := httptest.NewRequest(http.MethodPost, "/v1/track", strings.NewReader(event))
		r.Header.Set("X-Write-Key", "wk_web")
		w := httptest.NewRecorder()
		b.Handler().ServeHTTP(w, r)
		if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
			t.Errorf("%v: %d, Retry-After %q", err, w.Code, w.Header().Get("Retry-After"))
		}
	}
	b.spool.fail = nil
	if _, answer := b.post(t, "/v1/track", event, "X-Write-Key", "wk_web"); answer["notLanded"] != nil {
		t.Errorf("the retry of an event that was not written is not landed: %v", answer)
	}
	if _, answer := b.post(t, "/v1/track", event, "X-Write-Key", "wk_web"); !strings.Contains(fmt.Sprint(answer), "duplicate") {
		t.Errorf("a repeated event is no duplicate: %v", answer)
	}
	balance(t, b.spool.rows(t), 2)
}

// TestIdsDoNotReturnByOtherFields: what identifies the person is masked
// wherever the event repeats it.
func TestIdsDoNotReturnByOtherFields(t *testing.T) {
	b := newBench(t, nil)
	b.post(t, "/v1/identify", `{"anonymousId":"visitor-77","userId":"Cust-1001","traits":{"name":"Canary Bird","id":"cust-1001","motto":"Ask canary bird"},
		"context":{"consent":{"categoryPreferences":{"identity":true,"analytics":true,"marketing":true}},
			"page":{"path":"/account/CUST-1001/orders","title":"Welcome, Canary Bird!","url":"https://shop.example/account/cust-1001?x=visitor-77"}}}`,
		"X-Write-Key", "wk_web")
	b.post(t, "/v1/track", `{"userId":100234,"event":"Order of 100234","properties":{"user_id":"u-9","total":1002345,"by":100234,"note":"x100234"},
		"context":{"consent":{"categoryPreferences":{"analytics":true}}}}`, "X-Write-Key", "wk_web")
	rows := b.spool.rows(t)
	first, second := rows.Events[0], rows.Events[1]
	if got := first.PagePath + " " + first.PageTitle + " " + first.PageURL; got != "/account/[identifier]/orders Welcome, [identifier]! https://shop.example/account/[identifier]" {
		t.Errorf("page: %s", got)
	}
	if first.Traits != `{"id":"[identifier]","motto":"Ask [identifier]"}` {
		t.Errorf("traits: %s", first.Traits)
	}
	if second.Event != "Order of [identifier]" || second.Properties != `{"total":1002345,"by":"[identifier]","note":"x100234"}` {
		t.Errorf("%s %s", second.Event, second.Properties)
	}
}

func balance(t *testing.T, rows Rows, want int64) {
	t.Helper()
	var received, rest int64
	for _, l := range rows.Ledger {
		if l.Outcome == string(Received) {
			received += l.N
		} else {
			rest += l.N
		}
	}
	if received != rest || received != want {
		t.Errorf("the ledger has %d received and %d outcomes, want %d", received, rest, want)
	}
}

// TestConsentCookie makes a choice and lets the cookie speak for the events
// that follow.
func TestConsentCookie(t *testing.T) {
	b := newBench(t, nil)
	choose := func(body string) *http.Cookie {
		t.Helper()
		r := httptest.NewRequest(http.MethodPost, "/v1/consent", strings.NewReader(body))
		r.Header.Set("X-Write-Key", "wk_web")
		w := httptest.NewRecorder()
		b.Handler().ServeHTTP(w, r)
		if w.Code != 200 || len(w.Result().Cookies()) != 1 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		return w.Result().Cookies()[0]
	}
	landed := func(cookie *http.Cookie) bool {
		t.Helper()
		_, answer := b.post(t, "/v1/track", `{"anonymousId":"a","event":"X"}`, "X-Write-Key", "wk_web", "Cookie", cookie.String())
		return answer["notLanded"] == nil
	}
	granted := choose(`{"anonymousId":"a","purposes":{"analytics":true,"marketing":true}}`)
	if !landed(granted) {
		t.Error("a granted choice does not let events pass")
	}
	if landed(choose(`{"anonymousId":"a","purposes":{"analytics":false}}`)) {
		t.Error("a refusal lets events pass")
	}
	rows := b.spool.rows(t)
	if len(rows.Consents) != 3 || !rows.Consents[0].Granted || rows.Consents[2].Granted {
		t.Errorf("the proof is %+v", rows.Consents)
	}
}

func FuzzBatch(f *testing.F) {
	f.Add(`{"batch":[{"type":"track","event":"X","anonymousId":"a","properties":{"a":[1,{"b":null}]},"context":{"consent":{"categoryPreferences":{"analytics":true}}}}]}`)
	f.Add(`{"batch":[{"type":"page","userId":1e400,"properties":{"url":"::"},"context":{"page":[]}}]}`)
	b := newBench(f, nil)
	f.Fuzz(func(t *testing.T, body string) {
		b.spool.records = nil
		status, _ := b.post(t, "/v1/batch", body, "X-Write-Key", "wk_web")
		if status != 200 && status != 400 {
			t.Errorf("%q: status %d", body, status)
		}
	})
}
