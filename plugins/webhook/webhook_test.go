package webhook

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/plugins/destination/destinationtest"
)

var update = flag.Bool("update", false, "rewrite golden files")

const (
	secret    = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYqr"
	oldSecret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDC2FVsBQIhrsc"
)

// receiver verifies as a customer would, with the official library, and
// answers as the test says.
type receiver struct {
	*httptest.Server
	secret string
	answer http.HandlerFunc

	mu       sync.Mutex
	bodies   [][]byte
	ids      []string
	failures []error
}

func newReceiver(t *testing.T, answer http.HandlerFunc) *receiver {
	t.Helper()
	r := &receiver{secret: secret, answer: answer}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	if err == nil {
		var verifier *standardwebhooks.Webhook
		if verifier, err = standardwebhooks.NewWebhook(r.secret); err == nil {
			err = verifier.Verify(body, request.Header)
		}
	}
	r.mu.Lock()
	r.bodies = append(r.bodies, body)
	r.ids = append(r.ids, request.Header.Get("webhook-id"))
	if err != nil {
		r.failures = append(r.failures, err)
	}
	r.mu.Unlock()
	if r.answer != nil {
		r.answer(w, request)
	}
}

func (r *receiver) config() map[string]string {
	return map[string]string{"url": r.URL + "/hook?token=t", "secret": secret, "allow_private": "true"}
}

func (r *receiver) verified(t *testing.T) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, err := range r.failures {
		t.Error(err)
	}
}

func opened(t *testing.T, config map[string]string) destination.Destination {
	t.Helper()
	d := New()
	if err := d.Open(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return d
}

func batch() destination.Batch {
	b := destination.Batch{
		ID: "batch-1", Sync: "newsletter", Run: "run-1",
		Columns: []destination.Column{
			{Name: "email", Type: destination.String},
			{Name: "visits", Type: destination.Int64},
			{Name: "score", Type: destination.Float64},
			{Name: "member", Type: destination.Bool},
			{Name: "seen_at", Type: destination.Time},
		},
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 678_000_000, time.UTC)
	b.Changes = []destination.Change{
		{ID: "id-1", Key: "k1", Op: destination.Upsert, Values: []any{"jane@example.org", int64(3), 0.5, true, at}},
		{ID: "id-2", Key: "k2", Op: destination.Upsert, Values: []any{"<tim> & \"co\"", nil, nil, false, nil}},
		{ID: "id-3", Key: "k3", Op: destination.Remove, Values: []any{"Gone Person", nil, nil, nil, nil}, PriorityReason: "consent_withdrawn"},
	}
	return b
}

func TestConformance(t *testing.T) {
	destinationtest.Run(t, func(t *testing.T) (destination.Destination, map[string]string) {
		return New(), newKeeper(t).config()
	})
}

// newKeeper is a receiver that keeps keys, and makes none for an update.
func newKeeper(t *testing.T) *receiver {
	keys := map[string]bool{}
	var r *receiver
	r = newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		var m struct {
			Data struct {
				Rows []struct{ Op, Key string }
			}
		}
		if err := json.Unmarshal(r.bodies[len(r.bodies)-1], &m); err != nil {
			t.Error(err)
		}
		skipped := []any{}
		for i, row := range m.Data.Rows {
			switch {
			case row.Op == "update" && !keys[row.Key]:
				skipped = append(skipped, map[string]any{"index": i, "skipped": true})
			default:
				keys[row.Key] = row.Op != "remove"
			}
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(map[string]any{"results": skipped}); err != nil {
			t.Error(err)
		}
	})
	return r
}

// A sync that only updates tells the receiver, which says what it does not have.
func TestUpdateOnly(t *testing.T) {
	r := newKeeper(t)
	if _, err := opened(t, r.config()).Write(t.Context(), batch()); err != nil {
		t.Fatal(err)
	}
	d := New()
	if err := destination.Open(t.Context(), d, r.config(), true); err != nil {
		t.Fatal(err)
	}
	b := batch()
	b.Changes[1].Key = "k4"
	results, err := d.Write(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []destination.Outcome{destination.Delivered, destination.Skipped, destination.Delivered} {
		if results[i].Outcome != want {
			t.Errorf("row %d: %+v, want %v", i, results[i], want)
		}
	}
	if body := string(r.bodies[1]); strings.Count(body, `"op":"update"`) != 2 || !strings.Contains(body, `"op":"remove"`) {
		t.Error(body)
	}
	r.verified(t)
}

// A receiver that quotes what it got must not bring a value back.
func TestConformanceWithEcho(t *testing.T) {
	destinationtest.RunCanary(t, func(t *testing.T) (destination.Destination, map[string]string) {
		r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, `{"results":[{"index":0,"code":"`+destinationtest.Canary+`","error":"bad: `+strings.ToUpper(destinationtest.Canary)+`"}]}`)
		})
		return New(), r.config()
	})
}

func TestBody(t *testing.T) {
	r := newReceiver(t, nil)
	d := opened(t, r.config())
	now := time.Now()
	d.(*webhook).now = func() time.Time { return now }
	for range 2 {
		results, err := d.Write(t.Context(), batch())
		if err != nil {
			t.Fatal(err)
		}
		for i, got := range results {
			if got != (destination.Result{Outcome: destination.Delivered}) {
				t.Errorf("change %d: %+v", i, got)
			}
		}
	}
	r.verified(t)
	if !bytes.Equal(r.bodies[0], r.bodies[1]) || r.ids[0] != "batch-1" || r.ids[1] != "batch-1" {
		t.Errorf("sent again, the batch differs: ids %v", r.ids)
	}
	body := strings.Replace(string(r.bodies[0]), now.UTC().Format(time.RFC3339), "2026-01-01T00:00:00Z", 1)
	golden(t, "testdata/body.json", []byte(body+"\n"))
}

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func TestRotation(t *testing.T) {
	for _, known := range []string{secret, oldSecret} {
		r := newReceiver(t, nil)
		r.secret = known
		config := r.config()
		config["secret"] = oldSecret + " " + secret
		if _, err := opened(t, config).Write(t.Context(), batch()); err != nil {
			t.Fatal(err)
		}
		r.verified(t)
	}
}

// The example of the Standard Webhooks specification.
func TestSignatureVector(t *testing.T) {
	key, ok := ParseSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if !ok {
		t.Fatal("the secret of the example is none")
	}
	got := http.Header{}
	Sign(got, [][]byte{key}, "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	want := http.Header{}
	want.Set("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek")
	want.Set("webhook-timestamp", "1614265330")
	want.Set("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestStatus(t *testing.T) {
	date := time.Now().Add(90 * time.Second).UTC().Format(http.TimeFormat)
	tests := []struct {
		status     int
		retryAfter string
		outcome    destination.Outcome
		wait       time.Duration
	}{
		{200, "", destination.Delivered, 0},
		{204, "", destination.Delivered, 0},
		{301, "", destination.Rejected, 0},
		{307, "", destination.Rejected, 0},
		{400, "", destination.Rejected, 0},
		{401, "", destination.Rejected, 0},
		{410, "5", destination.Rejected, 0},
		{408, "", destination.Retry, 0},
		{429, "7", destination.Retry, 7 * time.Second},
		{429, date, destination.Retry, 90 * time.Second},
		{429, "-7", destination.Retry, 0},
		{429, "soon", destination.Retry, 0},
		{429, "99999999999999", destination.Retry, maxRetryWait},
		{429, "Mon, 01 Jan 2001 00:00:00 GMT", destination.Retry, 0},
		{500, "", destination.Retry, 0},
		{502, "", destination.Retry, 0},
		{503, "3", destination.Retry, 3 * time.Second},
		{504, "", destination.Retry, 0},
	}
	for _, tt := range tests {
		followed := false
		target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed = true }))
		defer target.Close()
		r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", tt.retryAfter)
			w.Header().Set("Location", target.URL)
			w.WriteHeader(tt.status)
			if tt.status != http.StatusNoContent {
				io.WriteString(w, "we know jane@example.org")
			}
		})
		results, err := opened(t, r.config()).Write(t.Context(), batch())
		if err != nil {
			t.Fatal(err)
		}
		for _, got := range results {
			if got.Outcome != tt.outcome || math.Abs((got.RetryAfter-tt.wait).Seconds()) > 2 {
				t.Errorf("%d %q: %+v", tt.status, tt.retryAfter, got)
			}
			if (got.Code == "") != (tt.outcome == destination.Delivered) || strings.Contains(got.Message, "jane") {
				t.Errorf("%d: %+v", tt.status, got)
			}
		}
		if followed {
			t.Errorf("%d: a redirect was followed", tt.status)
		}
	}
}

func TestReply(t *testing.T) {
	type result struct {
		Outcome destination.Outcome
		Code    string
		Message string
	}
	ok := result{Outcome: destination.Delivered}
	unknown := func(code string) []result {
		r := result{Outcome: destination.Unknown, Code: code}
		return []result{r, r, r}
	}
	refused := func(code, words string) result {
		return result{destination.Rejected, code, "the endpoint refused the row: " + words}
	}
	tests := []struct {
		name, contentType, body string
		want                    []result
	}{
		{"empty", "application/json", "", []result{ok, ok, ok}},
		{"text", "text/plain", `{"results":[{"index":0}]}`, []result{ok, ok, ok}},
		{"other JSON", "application/json", `["ok"]`, []result{ok, ok, ok}},
		{
			"one row", "application/json; charset=utf-8", `{"results":[{"index":1,"code":"no_country","error":"No such\ncountry"}]}`,
			[]result{ok, refused("no_country", "no such country"), ok},
		},
		{"no words", "application/json", `{"results":[{"index":2}]}`, []result{ok, ok, refused("refused", "no reason given")}},
		{
			"quoted", "application/json", `{"results":[{"index":0,"code":"jane","error":"JANE@example.org (Gone) is at 06-12345678, person"}]}`,
			[]result{refused("refused", "[redacted] [redacted] is at [redacted] [redacted]"), ok, ok},
		},
		{"beyond", "application/json", `{"results":[{"index":3}]}`, unknown("reply_invalid")},
		{"before", "application/json", `{"results":[{"index":-1}]}`, unknown("reply_invalid")},
		{"no index", "application/json", `{"results":[{"error":"x"}]}`, unknown("reply_invalid")},
		{"endless", "application/json", `{"results":[` + strings.Repeat(" ", maxReply), unknown("reply_too_large")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", tt.contentType)
				io.WriteString(w, tt.body)
			})
			results, err := opened(t, r.config()).Write(t.Context(), batch())
			if err != nil {
				t.Fatal(err)
			}
			for i, got := range results {
				if tt.want[i].Outcome == destination.Unknown {
					got.Message = ""
				}
				if diff := cmp.Diff(tt.want[i], result{got.Outcome, got.Code, got.Message}); diff != "" {
					t.Errorf("row %d (-want +got):\n%s", i, diff)
				}
			}
		})
	}
	t.Run("lost", func(t *testing.T) {
		r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", "1000")
			io.WriteString(w, `{"results":[`)
		})
		results, err := opened(t, r.config()).Write(t.Context(), batch())
		if err != nil || results[0].Outcome != destination.Unknown || results[0].Code != "reply_lost" {
			t.Errorf("%+v, %v", results, err)
		}
	})
}

func TestNetwork(t *testing.T) {
	hang := newReceiver(t, func(_ http.ResponseWriter, request *http.Request) { <-request.Context().Done() })
	gone := newReceiver(t, nil)
	gone.Close()
	untrusted := httptest.NewUnstartedServer(nil)
	untrusted.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // of the handshake that fails
	untrusted.StartTLS()
	t.Cleanup(untrusted.Close)
	hasty := hang.config()
	hasty["timeout"] = "50ms"
	strange := gone.config()
	strange["url"] = untrusted.URL
	for code, config := range map[string]map[string]string{"timeout": hasty, "network": gone.config(), "tls": strange} {
		results, err := opened(t, config).Write(t.Context(), batch())
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range results {
			if r.Outcome != destination.Retry || r.Code != code || strings.Contains(r.Message, "127.0.0.1") {
				t.Errorf("%s: %+v", code, r)
			}
		}
	}
}

func TestNotJSON(t *testing.T) {
	r := newReceiver(t, nil)
	b := batch()
	b.Changes[0].Values[2] = math.NaN()
	b.Changes[1].Values[4] = time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC)
	results, err := opened(t, r.config()).Write(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []destination.Outcome{destination.Rejected, destination.Rejected, destination.Delivered} {
		if results[i].Outcome != want {
			t.Errorf("change %d: %+v", i, results[i])
		}
	}
	var m struct {
		Data struct{ Rows []struct{ ID string } }
	}
	if err := json.Unmarshal(r.bodies[0], &m); err != nil || len(m.Data.Rows) != 1 || m.Data.Rows[0].ID != "id-3" {
		t.Errorf("%s, %v", r.bodies[0], err)
	}
}

// Without allow_private nothing is sent to an address inside, under whatever
// name; the https server proves that it is the address that is refused.
func TestPrivateAddress(t *testing.T) {
	reached := false
	inside := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	t.Cleanup(inside.Close)
	for _, host := range []string{"127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]"} {
		config := map[string]string{"url": strings.Replace(inside.URL, "127.0.0.1", host, 1), "secret": secret}
		results, err := opened(t, config).Write(t.Context(), batch())
		if err == nil && results[0].Outcome == destination.Delivered || reached {
			t.Errorf("%s: was reached", host)
		}
		if host != "2130706433" { // a name to Go, which may not resolve
			if _, ok := errors.AsType[*refusedAddressError](err); !ok {
				t.Errorf("%s: %+v, %v", host, results, err)
			}
		}
	}
}

func TestPublic(t *testing.T) {
	for _, s := range []string{
		"0.0.0.0", "0.1.2.3", "10.1.2.3", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.16.0.1", "192.0.0.8", "192.168.1.1",
		"198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::1", "::7f00:1", "::ffff:10.0.0.1", "64:ff9b::a00:1",
		"2001:0:1::1", "2001:db8::1", "2002:a00:1::", "fc00::1", "fd12::1", "fe80::1", "fec0::1", "ff02::1",
	} {
		if public(netip.MustParseAddr(s).Unmap()) {
			t.Errorf("%s is taken for a public address", s)
		}
	}
	for _, s := range []string{"1.1.1.1", "8.8.8.8", "100.63.255.255", "172.32.0.1", "193.0.0.1", "2606:4700::1111", "2a00:1450::1"} {
		if !public(netip.MustParseAddr(s)) {
			t.Errorf("%s is not taken for a public address", s)
		}
	}
}

func TestConfig(t *testing.T) {
	good := func(change ...string) map[string]string {
		c := map[string]string{"url": "https://example.org/h", "secret": secret}
		for i := 0; i < len(change); i += 2 {
			c[change[i]] = change[i+1]
		}
		return c
	}
	if _, err := parseConfig(good("timeout", "30s", "allow_private", "false")); err != nil {
		t.Error(err)
	}
	short := "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 23))
	for _, tt := range []struct{ field, value string }{
		{"url", "http://example.org"},
		{"url", "ftp://example.org"},
		{"url", "example.org"},
		{"url", "https://"},
		{"url", "https:example.org"},
		{"url", "https://user:hunter2@example.org"},
		{"url", "https://example.org/#hunter2"},
		{"url", "https://hunter2\x7f"},
		{"secret", ""},
		{"secret", " "},
		{"secret", "hunter2"},
		{"secret", "whsec_hunter2!"},
		{"secret", short},
		{"secret", secret + " " + short},
		{"timeout", "fast"},
		{"timeout", "-1s"},
		{"timeout", "1h"},
		{"allow_private", "yes"},
	} {
		_, err := parseConfig(good(tt.field, tt.value))
		problem, ok := errors.AsType[*destination.ConfigError](err)
		if !ok || problem.Field != tt.field || strings.Contains(problem.Problem, "hunter2") {
			t.Errorf("%s %q: %v", tt.field, tt.value, err)
		}
	}
}
