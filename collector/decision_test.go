package collector

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"

	"github.com/sluis-cdp/sluis/collector/visitor"
	"github.com/sluis-cdp/sluis/consent"
)

// lastRegion is that of the event that landed last.
func (b *bench) lastRegion(t *testing.T) string {
	t.Helper()
	events := b.spool.rows(t).Events
	if len(events) == 0 {
		t.Fatal("nothing landed")
	}
	return events[len(events)-1].Region
}

// TestRegionOfAPageIsNotItsToChoose: the law that a person is under follows from an
// address in the event only where a server says it, and what sends is none of a
// page.
func TestRegionOfAPageIsNotItsToChoose(t *testing.T) {
	regions := britain(t)
	policy, err := consent.NewPolicy(consent.PolicyConfig{Version: "1", Rules: []consent.Rule{{Regions: []string{"US", "GB"}, Mode: consent.OptOut}}})
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, func(c *Config) {
		c.Policy = policy
		c.Sources = append(c.Sources, Source{ID: "backend", WriteKey: "wk_backend", Servers: true})
		c.Visitors.Regions = regions
	})
	event := func(key string) string {
		return fmt.Sprintf(`{"writeKey":%q,"type":"track","event":"X","anonymousId":"a-1","context":{"ip":"81.2.69.160"}}`, key)
	}
	for name, test := range map[string]struct {
		key     string
		headers []string
		landed  int
	}{
		"a page":                              {"wk_web", []string{"Origin", "https://shop.example", "X-Region", "NL"}, 0},
		"a program with the key of pages":     {"wk_web", []string{"X-Region", "NL"}, 0},
		"a server":                            {"wk_backend", []string{"X-Region", "NL"}, 1},
		"a page with the key of servers":      {"wk_backend", []string{"Sec-Fetch-Site", "same-origin", "X-Region", "NL"}, 0},
		"a page where the proxy says the US":  {"wk_web", []string{"Origin", "https://shop.example", "X-Region", "US-CA"}, 1},
		"a page where nobody knows the place": {"wk_web", []string{"Origin", "https://shop.example"}, 0},
	} {
		b.spool.records = nil
		if status, answer := b.post(t, "/v1/track", event(test.key), test.headers...); status != http.StatusOK {
			t.Fatalf("%s: %d %v", name, status, answer)
		}
		if got := len(b.spool.rows(t).Events); got != test.landed {
			t.Errorf("%s: %d events landed, want %d", name, got, test.landed)
		}
	}
	b.spool.records = nil
	b.post(t, "/v1/track", event("wk_backend"), "X-Region", "NL")
	if got := b.lastRegion(t); got != "GB" {
		t.Errorf("the region of the server's visitor is %q", got)
	}
}

// britain is a file of regions with one network.
func britain(t *testing.T) *visitor.Regions {
	t.Helper()
	tree, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: "Test-City"})
	if err != nil {
		t.Fatal(err)
	}
	_, network, err := net.ParseCIDR("81.2.69.0/24")
	if err != nil {
		t.Fatal(err)
	}
	if err := tree.Insert(network, mmdbtype.Map{"country": mmdbtype.Map{"iso_code": mmdbtype.String("GB")}}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "regions.mmdb")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = tree.WriteTo(file)
	if err := errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
	regions, err := visitor.OpenRegions(path)
	if err != nil {
		t.Fatal(err)
	}
	return regions
}

// TestSignalsOfARequest: what stands around an event counts for it, wherever it
// stands, and the same decision is not used for another.
func TestSignalsOfARequest(t *testing.T) {
	b := newBench(t, func(c *Config) {
		c.Sources[0].Plan.Events = append(c.Sources[0].Plan.Events, PlannedEvent{Name: "Any"})
	})
	const granted = `"consent":{"categoryPreferences":{"analytics":true,"advertising":true}}`
	for name, test := range map[string]struct {
		path, context string
		headers       []string
		want, denied  []string
	}{
		"object":                   {"", granted, nil, []string{"necessary", "analytics", "advertising"}, []string{}},
		"header":                   {"", granted, []string{"Sec-GPC", "1"}, []string{"necessary", "analytics"}, []string{"advertising", "sale"}},
		"cookie of a tool":         {"", granted, []string{"Cookie", "a=b; CookieConsent={necessary:true,marketing:false,method:'explicit'}"}, []string{"necessary", "analytics"}, []string{"advertising", "sale"}},
		"cookie with quotes":       {"", granted, []string{"Cookie", `klaro={"advertising":false}`}, []string{"necessary", "analytics"}, []string{"advertising"}},
		"query":                    {"?us_privacy=1YYN", granted, nil, []string{"necessary", "analytics"}, []string{"advertising", "sale"}},
		"consent management":       {"", `"consentManagement":{"allowedConsentIds":["analytics"],"deniedConsentIds":["marketing"]}`, nil, []string{"necessary", "analytics"}, []string{"marketing"}},
		"both objects":             {"", granted + `,"consentManagement":{"deniedConsentIds":["advertising"]}`, nil, []string{"necessary", "analytics"}, []string{"advertising"}},
		"a string beside":          {"", `"consent":{"categoryPreferences":{"analytics":true,"advertising":true},"gpp":"DBABTA~1YYN"}`, nil, []string{"necessary", "analytics"}, []string{"advertising", "sale"}},
		"a string nobody can read": {"", granted, []string{"Cookie", "euconsent-v2=x"}, nil, nil},
	} {
		for range 2 { // the second time it is remembered
			b.spool.records = nil
			status, answer := b.post(t, "/v1/track"+test.path, `{"writeKey":"wk_web","event":"Any","anonymousId":"a-1","context":{`+test.context+`}}`, test.headers...)
			rows := b.spool.rows(t)
			switch {
			case status != http.StatusOK:
				t.Fatalf("%s: %d %v", name, status, answer)
			case test.want == nil && len(rows.Events) > 0:
				t.Errorf("%s: it landed with %v", name, rows.Events[0].Purposes)
			case test.want == nil:
			case len(rows.Events) == 0:
				t.Errorf("%s: it did not land: %v", name, answer)
			case !slices.Equal(rows.Events[0].Purposes, test.want) || !slices.Equal(rows.Events[0].Denied, test.denied):
				t.Errorf("%s: granted %v and denied %v, want %v and %v", name, rows.Events[0].Purposes, rows.Events[0].Denied, test.want, test.denied)
			}
		}
	}
}

// TestRememberedDecisionExpires: a decision is made again when a grant in it ends.
func TestRememberedDecisionExpires(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	b := newBench(t, func(c *Config) { c.Now = func() time.Time { return now } })
	choice, err := b.Policy.FromChoice(map[string]bool{"analytics": true})
	if err != nil {
		t.Fatal(err)
	}
	cookie, err := b.Policy.Store(b.cookie, choice, now)
	if err != nil {
		t.Fatal(err)
	}
	lands := func() int {
		b.spool.records = nil
		b.post(t, "/v1/track", `{"writeKey":"wk_web","event":"Live Chat Started","anonymousId":"a-1"}`, "Cookie", ConsentCookie+"="+cookie)
		return len(b.spool.rows(t).Events)
	}
	for range 2 { // the second time it is remembered
		if lands() != 1 {
			t.Fatal("the choice does not count")
		}
	}
	now = now.Add(180*24*time.Hour - time.Second)
	if lands() != 1 {
		t.Error("the choice does not count on its last day")
	}
	now = now.Add(time.Second)
	if lands() != 0 {
		t.Error("the choice counts after it has expired")
	}
}

// TestNoticeIsAVersion: the notice that a choice names lands, and nothing else that
// a client may write there.
func TestNoticeIsAVersion(t *testing.T) {
	b := newBench(t, nil)
	for notice, status := range map[string]int{
		`"banner-2026-03"`: http.StatusOK, `null`: http.StatusOK, `7`: http.StatusBadRequest, `"a text with spaces"`: http.StatusBadRequest,
		`"anna.canary@example.com"`: http.StatusBadRequest, `"` + strings.Repeat("x", 101) + `"`: http.StatusBadRequest, `""`: http.StatusBadRequest,
	} {
		b.spool.records = nil
		got, _ := b.post(t, "/v1/consent", `{"writeKey":"wk_web","userId":"u-1","purposes":{"analytics":true},"notice":`+notice+`}`)
		if got != status {
			t.Errorf("%s: %d, want %d", notice, got, status)
		}
		rows := b.spool.rows(t).Consents
		if status == http.StatusOK && notice != "null" && (len(rows) != 1 || `"`+rows[0].Notice+`"` != notice) {
			t.Errorf("%s: %+v", notice, rows)
		}
	}
}

// TestConsentRowsNameTheirSignal: each row has the signal that decided about its
// purpose, and how long that lasts.
func TestConsentRowsNameTheirSignal(t *testing.T) {
	b := newBench(t, nil)
	b.post(t, "/v1/consent", `{"writeKey":"wk_web","userId":"u-1","purposes":{"analytics":true,"advertising":true,"marketing":false}}`, "Sec-GPC", "1")
	got := make(map[string]string)
	for _, r := range b.spool.rows(t).Consents {
		until := ""
		if !r.ExpiresAt.IsZero() {
			until = r.ExpiresAt.Format(time.DateOnly)
		}
		got[r.Purpose] = fmt.Sprintf("%t by %s %s", r.Granted, r.Signal, until)
		if r.SignalDigest == "" {
			t.Errorf("%s has no digest", r.Purpose)
		}
	}
	want := map[string]string{
		"analytics": "true by choice 2026-08-28", "marketing": "false by choice ", "advertising": "false by gpc ", "sale": "false by gpc ",
	}
	for purpose, text := range want {
		if got[purpose] != text {
			t.Errorf("%s: %q, want %q", purpose, got[purpose], text)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%v", got)
	}
}

func BenchmarkDecisionOf(b *testing.B) {
	c := newBench(b, nil)
	r, err := http.NewRequest(http.MethodPost, "/v1/track", nil)
	if err != nil {
		b.Fatal(err)
	}
	r.Header.Set("Sec-GPC", "1")
	r.Header.Set("Cookie", "session=123; euconsent-v2=CRCA_IAQqHsIA4qobmENmTFZAArEswAhAAoAAOL_-7vAAFACFgAwAGgAPACGQADQABADiAHQA5QB0AIiARQBPwChAKiAVQBagAAA.IAAA.YCFCIQYQFQDFDioUgAAABAAA; other=x")
	tree := trees.Get()
	if err := tree.Parse(`{"context":{"consent":{"categoryPreferences":{"identity":true,"analytics":true,"marketing":true}}}}`); err != nil {
		b.Fatal(err)
	}
	req := &request{source: c.sources["wk_web"], received: c.Now()}
	event := func() *Event {
		e := &Event{message: message{body: tree.Root()}, req: req, kept: new(keeping)}
		e.read()
		e.region = "NL"
		return e
	}
	b.Run("gather a request's signals", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			req.hear(r)
		}
	})
	req.hear(r)
	b.Run("remembered", func(b *testing.B) {
		e := event()
		b.ReportAllocs()
		for b.Loop() {
			c.decisionOf(e)
		}
	})
	b.Run("made", func(b *testing.B) {
		e := event()
		b.ReportAllocs()
		for b.Loop() {
			c.decisions.Purge()
			c.decisionOf(e)
		}
	})
}
