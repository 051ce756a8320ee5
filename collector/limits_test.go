package collector

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/sluis-cdp/sluis/collector/limit"
	"github.com/sluis-cdp/sluis/collector/visitor"
)

const agreed = `"context":{"consent":{"categoryPreferences":{"analytics":true}}}`

// TestHostileBodies sends over a real socket what would take memory out of
// proportion. Each is refused with a reason, and takes little.
func TestHostileBodies(t *testing.T) {
	b := newBench(t, nil)
	server := httptest.NewUnstartedServer(b.Handler())
	limit.Config{}.Apply(server.Config)
	server.Start()
	t.Cleanup(server.Close)
	for _, test := range []struct {
		name, path, body string
		status           int
		code             string
	}{
		{"100,000 levels of arrays", "/v1/batch", `{"batch":` + strings.Repeat("[", 100_000), 400, "invalid_json"},
		{"80,000 levels of objects", "/v1/batch", strings.Repeat(`{"a":`, 80_000), 400, "invalid_json"},
		{"100,000 levels of arrays, closed", "/v1/batch", `{"batch":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + "}", 200, ""},
		{"70,000 levels in an event", "/v1/batch", `{"batch":[{"type":"track","anonymousId":"a","event":"X",` + agreed + `,"properties":` + strings.Repeat(`{"a":`, 70_000) + "1" + strings.Repeat("}", 70_000) + "}]}", 200, ""},
		{"250,000 values", "/v1/batch", `{"batch":[{"type":"track","anonymousId":"a","event":"X",` + agreed + `,"properties":{"a":[` + strings.Repeat("1,", 240_000) + `1]}}]}`, 200, ""},
		{"160,000 objects", "/v1/batch", `{"batch":[{"a":[` + strings.Repeat("{},", 160_000) + `{}]}]}`, 200, ""},
		{"2,501 events", "/v1/batch", `{"batch":[` + strings.Repeat("{},", maxEvents) + "{}]}", 400, "invalid_batch"},
		{"2,500 events that share what is too much", "/v1/batch", `{"context":{"a":"` + strings.Repeat("a", 4000) + `"},"batch":[` + strings.Repeat("{},", maxEvents-1) + "{}]}", 400, "invalid_batch"},
		{"one event with as much", "/v1/batch", `{"context":{"a":"` + strings.Repeat("a", 4000) + `"},"batch":[{}]}`, 200, ""},
		{"2,500 events", "/v1/batch", `{"batch":[` + strings.Repeat("{},", maxEvents-1) + "{}]}", 200, ""},
		{"200 levels", "/v1/track", `{"anonymousId":"a","event":"X",` + agreed + `,"properties":{"a":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + "}}", 200, ""},
		{"a number of 30,000 digits", "/v1/track", `{"anonymousId":"a","event":"X",` + agreed + `,"properties":{"n":` + strings.Repeat("9", 30_000) + "}}", 200, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, err := http.NewRequest(http.MethodPost, server.URL+test.path, strings.NewReader(test.body))
			if err != nil {
				t.Fatal(err)
			}
			r.SetBasicAuth("wk_web", "")
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			answer, err := server.Client().Do(r)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(answer.Body)
			runtime.ReadMemStats(&after)
			if err != nil {
				t.Fatal(err)
			}
			if answer.StatusCode != test.status || !strings.Contains(string(text), `"code":"`+test.code+`"`) && test.code != "" {
				t.Errorf("%d %s, want %d %s", answer.StatusCode, text[:min(len(text), 200)], test.status, test.code)
			}
			if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 48<<20 { // a tree is 24 times its text at most, and grows by copying
				t.Errorf("%d bytes were allocated", allocated)
			}
		})
	}
}

// TestRateLimits: more than an address may send is answered so that an SDK
// tries again, and nothing of it is kept; the sources beside are free.
func TestRateLimits(t *testing.T) {
	b := newBench(t, func(c *Config) {
		c.Sources[0].Rate = limit.Rate{Address: 1}
		c.Visitors = nil
	})
	batch := func(n int) string {
		return `{"batch":[` + strings.TrimSuffix(strings.Repeat(`{"type":"track","anonymousId":"a","event":"X",`+agreed+"},", n), ",") + "]}"
	}
	post := func(path, key, peer, body string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
		r.SetBasicAuth(key, "")
		r.RemoteAddr = net.JoinHostPort(peer, "4711")
		r.Header.Set("X-Forwarded-For", fmt.Sprintf("203.0.113.%d", len(b.spool.records))) // nobody believes it
		w := httptest.NewRecorder()
		b.Handler().ServeHTTP(w, r)
		return w
	}
	if w := post("/v1/batch", "wk_web", "198.51.100.1", batch(2000)); w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	kept := len(b.spool.rows(t).Ledger)
	w := post("/v1/batch", "wk_web", "198.51.100.1", batch(560))
	const want = `{"code":"rate_limited","message":"this address sends more events than sluis.yaml allows; send again later","success":false}`
	if w.Code != 429 || w.Header().Get("Retry-After") != "60" || strings.TrimSpace(w.Body.String()) != want {
		t.Errorf("%d, again after %s: %s", w.Code, w.Header().Get("Retry-After"), w.Body)
	}
	if n := len(b.spool.rows(t).Ledger); n != kept {
		t.Error("of what was refused something is kept")
	}
	if w := post("/v1/batch", "wk_web", "198.51.100.1", batch(500)); w.Code != 200 {
		t.Errorf("what may still be sent: %d %s", w.Code, w.Body)
	}
	if w := post("/v1/consent", "wk_web", "198.51.100.1", `{"purposes":{"analytics":true}}`); w.Code != 429 {
		t.Errorf("a choice: %d", w.Code)
	}
	for _, other := range []struct{ name, key, peer string }{
		{"another address", "wk_web", "198.51.100.2"}, {"another source", "wk_app", "198.51.100.1"}, {"this machine", "wk_web", "127.0.0.1"},
	} {
		for range 3 {
			if w := post("/v1/batch", other.key, other.peer, batch(800)); w.Code != 200 {
				t.Errorf("%s: %d %s", other.name, w.Code, w.Body)
			}
		}
	}
}

// TestBotPolicies: bots land marked, or only the ledger knows of them; without
// consent nothing is kept of them either.
func TestBotPolicies(t *testing.T) {
	const googlebot = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
	body := `{"anonymousId":"a","event":"X",` + agreed + `}`
	for _, test := range []struct {
		policy  BotPolicy
		body    string
		headers []string
		landed  int
		marked  string
		reason  string
	}{
		{FlagBots, body, []string{"User-Agent", googlebot}, 1, "crawler: googlebot", ""},
		{"", body, []string{"User-Agent", googlebot}, 1, "crawler: googlebot", ""},
		{DropBots, body, []string{"User-Agent", googlebot}, 0, "", "bot: crawler: googlebot"},
		{DropBots, body, []string{"Sec-Purpose", "prefetch;prerender"}, 0, "", "bot: prerender"},
		{DropBots, body, []string{"User-Agent", "Go-http-client/1.1"}, 1, "", ""},
		{DropBots, strings.Replace(body, `{"consent"`, `{"userAgent":"GPTBot/1.2","consent"`, 1), []string{"User-Agent", "Go-http-client/1.1"}, 0, "", "bot: ai agent: gptbot"},
		{FlagBots, strings.Replace(body, "true", "false", 1), []string{"User-Agent", googlebot}, 0, "", "analytics denied by segment_consent"},
	} {
		b := newBench(t, func(c *Config) { c.Sources[0].Bots = test.policy })
		status, answer := b.post(t, "/v1/track", test.body, append(test.headers, "X-Write-Key", "wk_web")...)
		if status != 200 {
			t.Fatalf("%d %v", status, answer)
		}
		rows := b.spool.rows(t)
		if len(rows.Events) != test.landed || test.landed == 1 && (rows.Events[0].BotReason != test.marked || rows.Events[0].IsBot != (test.marked != "")) {
			t.Errorf("%s, %v: %+v", test.policy, test.headers, rows.Events)
		}
		reason := ""
		for _, row := range rows.Ledger {
			if row.Outcome != string(Received) {
				reason = row.Reason
			}
		}
		if reason != test.reason {
			t.Errorf("%s, %v: the ledger says %q, want %q", test.policy, test.headers, reason, test.reason)
		}
	}
}

// TestNoAddressIsKept: an address is nowhere in what is written, whichever way
// it comes, and neither is its network.
func TestNoAddressIsKept(t *testing.T) {
	proxies, err := visitor.ParseProxies([]string{"10.0.0.0/8"}, "")
	if err != nil {
		t.Fatal(err)
	}
	observer, err := visitor.New(visitor.Config{Proxies: proxies})
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, func(c *Config) { c.Visitors = observer })
	r := httptest.NewRequest(http.MethodPost, "/v1/track", strings.NewReader(
		`{"anonymousId":"a","event":"X","context":{"ip":"203.0.113.77","consent":{"categoryPreferences":{"analytics":true,"identity":true,"marketing":true}}}}`))
	r.RemoteAddr = "10.9.8.7:1234"
	r.Header.Set("X-Forwarded-For", "198.51.100.78")
	r.SetBasicAuth("wk_web", "")
	w := httptest.NewRecorder()
	b.Handler().ServeHTTP(w, r)
	if w.Code != 200 || len(b.spool.rows(t).Events) != 1 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	rows, err := json.Marshal(b.spool.rows(t))
	if err != nil {
		t.Fatal(err)
	}
	written := string(rows) + w.Body.String() + string(bytes.Join(b.spool.records, nil))
	for _, part := range []string{"203.0.113", "198.51.100", "10.9.8"} {
		if strings.Contains(written, part) {
			t.Errorf("%s is kept", part)
		}
	}
}

// TestSecureCookie: the word that the visitor's connection is encrypted counts
// from a trusted proxy alone.
func TestSecureCookie(t *testing.T) {
	for _, test := range []struct {
		peer   string
		secure bool
	}{{"192.0.2.1:1", true}, {"198.51.100.1:1", false}} {
		b := newBench(t, nil) // which trusts 192.0.2.1
		r := httptest.NewRequest(http.MethodPost, "/v1/consent", strings.NewReader(`{"purposes":{"analytics":true}}`))
		r.RemoteAddr = test.peer
		r.Header.Set("X-Forwarded-Proto", "https")
		r.SetBasicAuth("wk_web", "")
		w := httptest.NewRecorder()
		b.Handler().ServeHTTP(w, r)
		cookies := w.Result().Cookies()
		if len(cookies) != 1 || cookies[0].Secure != test.secure {
			t.Errorf("%s: %v", test.peer, cookies)
		}
	}
}
