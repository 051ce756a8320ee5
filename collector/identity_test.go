package collector

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// client is one browser at a page of the shop, with its cookies.
type client struct {
	*bench
	cookies map[string]*http.Cookie
	headers map[string]string
}

func newBrowser(t testing.TB, change func(*Config)) *client {
	return &client{bench: newBench(t, change), cookies: map[string]*http.Cookie{}, headers: map[string]string{
		"Origin": "https://shop.example", "Sec-Fetch-Site": "same-site", "X-Forwarded-Proto": "https",
	}}
}

// send posts as the page would, and keeps what cookies the answer sets.
func (b *client) send(t testing.TB, path, body string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "text/plain;charset=UTF-8")
	for name, value := range b.headers {
		r.Header.Set(name, value)
	}
	for _, cookie := range b.cookies {
		r.AddCookie(cookie)
	}
	w := httptest.NewRecorder()
	b.Handler().ServeHTTP(w, r)
	response := w.Result()
	if response.StatusCode != http.StatusOK {
		text, err := io.ReadAll(response.Body)
		t.Fatalf("%s: %d %s %v", path, response.StatusCode, text, err)
	}
	for _, cookie := range response.Cookies() {
		if cookie.MaxAge < 0 {
			delete(b.cookies, cookie.Name)
		} else {
			b.cookies[cookie.Name] = cookie
		}
	}
	return response
}

// track sends an event with some purposes granted and others refused.
func (b *client) track(t testing.TB, granted, denied, more string) *http.Response {
	t.Helper()
	return b.send(t, "/v1/track", `{"writeKey":"wk_web","event":"Searched",`+more+`"context":{"consent":{"categoryPreferences":{`+preferences(granted, denied)+`}}}}`)
}

func preferences(granted, denied string) string {
	var list []string
	for purpose := range strings.FieldsSeq(granted) {
		list = append(list, fmt.Sprintf("%q:true", purpose))
	}
	for purpose := range strings.FieldsSeq(denied) {
		list = append(list, fmt.Sprintf("%q:false", purpose))
	}
	return strings.Join(list, ",")
}

// ids are the pseudonyms of the anonymous ids that landed, in order.
func (b *client) ids(t testing.TB) []string {
	var ids []string
	for _, e := range b.spool.rows(t).Events {
		ids = append(ids, e.AnonymousID)
	}
	return ids
}

const both = "analytics identity"

// TestIdentityCookie: who agrees to be recognised is, from the first event on.
func TestIdentityCookie(t *testing.T) {
	b := newBrowser(t, nil)
	response := b.track(t, both, "", "")
	cookie := b.cookies[IdentityCookieName]
	if cookie == nil || len(response.Cookies()) != 1 {
		t.Fatalf("the cookies are %v", response.Cookies())
	}
	if !cookie.HttpOnly || !cookie.Secure || cookie.SameSite != http.SameSiteLaxMode || cookie.Path != "/" || cookie.Domain != "" || cookie.MaxAge != 180*24*3600 {
		t.Errorf("the cookie is %v", cookie)
	}
	if again := b.track(t, both, "", ""); len(again.Cookies()) != 0 {
		t.Errorf("known already, and given %v", again.Cookies())
	}
	b.send(t, "/v1/batch", `{"writeKey":"wk_web","context":{"consent":{"categoryPreferences":{`+preferences(both, "")+`}}},
		"batch":[{"type":"page"},{"type":"track","event":"Searched"},{"type":"track","event":"Searched","anonymousId":"sent-by-the-page"}]}`)
	ids := b.ids(t)
	if len(ids) != 5 || len(slices.Compact(slices.Clone(ids))) != 2 || ids[0] == "" || ids[4] == ids[0] {
		t.Errorf("the ids are %v", ids)
	}
	other := &client{bench: b.bench, cookies: map[string]*http.Cookie{}, headers: b.headers}
	other.track(t, both, "", "")
	if ids := b.ids(t); ids[5] == ids[0] {
		t.Error("two browsers have one id")
	}
}

// TestIdentityCookieIsSet tells when an answer sets the cookie, and what
// becomes of the event.
func TestIdentityCookieIsSet(t *testing.T) {
	sources := func(identity Identity) func(*Config) {
		return func(c *Config) { c.Sources[0].Identity = identity; c.Sources[0].Origins = []string{"*"} }
	}
	const own = `"anonymousId":"page-1",`
	for name, c := range map[string]struct {
		identity        Identity
		granted, denied string
		more            string
		headers         map[string]string
		set             bool
		outcome         string
	}{
		"agreed":                             {"", both, "", "", nil, true, "landed"},
		"agreed, older browser of the host":  {"", both, "", "", map[string]string{"Sec-Fetch-Site": "", "Origin": "https://example.com"}, true, "landed"},
		"agreed, older browser of elsewhere": {"", both, "", "", map[string]string{"Sec-Fetch-Site": ""}, false, "quarantined " + noIdentifier},
		"agreed, same origin":                {"", both, "", "", map[string]string{"Sec-Fetch-Site": "same-origin"}, true, "landed"},
		"agreed, cross-site":                 {"", both, "", "", map[string]string{"Sec-Fetch-Site": "cross-site"}, false, "quarantined " + noIdentifier},
		"agreed, cross-site, own id":         {"", both, "", own, map[string]string{"Sec-Fetch-Site": "cross-site"}, false, "landed"},
		"agreed, a server":                   {"", both, "", `"userId":"u-1",`, map[string]string{"Sec-Fetch-Site": "", "Origin": ""}, false, "landed"},
		"agreed, own id":                     {"", both, "", own, nil, false, "landed"},
		"agreed, an id that is none":         {"", both, "", `"anonymousId":{},`, nil, false, "quarantined anonymousId is not a text or number"},
		"agreed, signed in":                  {"", both, "", `"userId":"u-1",`, nil, true, "landed"},
		"identity not asked":                 {"", "analytics", "", own, nil, false, "landed"},
		"identity not asked, no id":          {"", "analytics", "", "", nil, false, "quarantined " + noIdentifier},
		"identity refused":                   {"", "analytics", "identity", own, nil, false, "landed"},
		"nothing said":                       {"", "", "", "", nil, false, "withheld analytics not granted"},
		"all refused":                        {"", "", both, "", nil, false, "withheld analytics denied by segment_consent"},
		"client, agreed":                     {IdentityClient, both, "", own, nil, false, "landed"},
		"client, agreed, no id":              {IdentityClient, both, "", "", nil, false, "quarantined " + noIdentifier},
		"none, agreed":                       {IdentityNone, both, "", own, nil, false, "landed"},
		"none, agreed, no id":                {IdentityNone, both, "", "", nil, false, "quarantined " + noIdentifier},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBrowser(t, sources(c.identity))
			for key, value := range c.headers {
				b.headers[key] = value
				if value == "" {
					delete(b.headers, key)
				}
			}
			response := b.track(t, c.granted, c.denied, c.more)
			if got := len(response.Cookies()) > 0; got != c.set {
				t.Errorf("the cookies are %v", response.Cookies())
			}
			var outcome string
			for _, l := range b.spool.rows(t).Ledger {
				if l.Outcome != string(Received) {
					outcome = strings.TrimSpace(l.Outcome + " " + l.Reason)
				}
			}
			if outcome != c.outcome {
				t.Errorf("the event was %s, want %s", outcome, c.outcome)
			}
		})
	}
}

// TestIdentityIsForgotten: a refusal takes the cookie, a reset too, and what
// comes after has another id.
func TestIdentityIsForgotten(t *testing.T) {
	for name, c := range map[string]struct {
		do     func(*testing.T, *client)
		forget bool
	}{
		"refused by an event":  {func(t *testing.T, b *client) { b.track(t, "analytics", "identity", `"anonymousId":"page-1",`) }, true},
		"refused by a choice":  {func(t *testing.T, b *client) { b.choose(t, "analytics", "identity") }, true},
		"left out of a choice": {func(t *testing.T, b *client) { b.choose(t, "analytics", "") }, true},
		"reset": {func(t *testing.T, b *client) {
			b.send(t, "/v1/batch", `{"writeKey":"wk_web","batch":[],"reset":true}`)
		}, true},
		"chosen again":            {func(t *testing.T, b *client) { b.choose(t, both, "") }, false},
		"an event that is silent": {func(t *testing.T, b *client) { b.track(t, "", "", "") }, false},
		"another site asks": {func(t *testing.T, b *client) {
			b.headers["Sec-Fetch-Site"] = "cross-site"
			b.choose(t, "", both)
			b.headers["Sec-Fetch-Site"] = "same-site"
			delete(b.cookies, ConsentCookie) // a browser would not have kept it
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBrowser(t, nil)
			b.track(t, both, "", "")
			c.do(t, b)
			if got := b.cookies[IdentityCookieName] == nil; got != c.forget {
				t.Errorf("the cookies are %v", b.cookies)
			}
			delete(b.cookies, ConsentCookie)
			b.track(t, both, "", "")
			ids := b.ids(t)
			if got := ids[0] != ids[len(ids)-1]; got != c.forget {
				t.Errorf("the ids are %v", ids)
			}
		})
	}
}

func (b *client) choose(t *testing.T, granted, denied string) *http.Response {
	return b.send(t, "/v1/consent", `{"writeKey":"wk_web","purposes":{`+preferences(granted, denied)+`}}`)
}

// TestChoiceNamesTheCookie: the proof of a choice is about the id of the
// cookie, of the first consent as of the withdrawal.
func TestChoiceNamesTheCookie(t *testing.T) {
	b := newBrowser(t, nil)
	b.choose(t, both, "")
	b.track(t, both, "", "")
	b.choose(t, "", both)
	var got []string
	for _, row := range b.spool.rows(t).Consents {
		if row.Pseudonym != b.ids(t)[0] {
			t.Errorf("%s is of %s", row.Purpose, row.Pseudonym)
		}
		got = append(got, fmt.Sprint(row.Purpose, row.Granted))
	}
	if want := "[identitytrue analyticstrue identityfalse analyticsfalse]"; fmt.Sprint(got) != want {
		t.Errorf("the proof is %v, want %s", got, want)
	}
	if b.choose(t, "", both); len(b.spool.rows(t).Consents) != 4 {
		t.Error("whoever refuses and was never known is named")
	}
}

// TestForgedIdentity: only what this server made counts, for as long as it may.
func TestForgedIdentity(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 30, 0, time.UTC)
	const id = "0b8f1c3e-5d7a-4f6b-9c2d-1e3f5a7b9c0d"
	b := newBrowser(t, nil)
	strange := newBench(t, func(c *Config) { c.CookieKey = []byte(strings.Repeat("x", 32)) })
	good := b.sealID(id, now)
	text, mac := good[:strings.LastIndexByte(good, '.')], good[strings.LastIndexByte(good, '.'):]
	for value, want := range map[string]bool{
		good:                                     true,
		b.sealID(id, now.Add(-179*24*time.Hour)): true,
		b.sealID(id, now.Add(-181*24*time.Hour)): false,
		b.sealID(id, now.Add(2*time.Hour)):       false,
		strange.sealID(id, now):                  false,
		"a" + good:                               false,
		good + "A":                               false,
		text:                                     false,
		text + ".":                               false,
		text + "0" + mac:                         false,
		id:                                       false,
		"." + mac:                                false,
		"":                                       false,
	} {
		if got, ok := b.openID(value, now); ok != want || ok && got != id {
			t.Errorf("%q: %q %t", value, got, ok)
		}
	}
	// Planted before the real one, a forgery changes nothing; alone, it is replaced.
	b.cookies["forged"] = &http.Cookie{Name: IdentityCookieName, Value: id}
	b.track(t, both, "", "")
	if b.cookies[IdentityCookieName] == nil {
		t.Error("the forgery was not replaced")
	}
	b.track(t, both, "", "")
	ids := b.ids(t)
	b.post(t, "/v1/track", `{"writeKey":"wk_app","anonymousId":"`+id+`","event":"X","context":{"consent":{"categoryPreferences":{"analytics":true}}}}`)
	if ids[0] != ids[1] || b.ids(t)[2] == ids[0] {
		t.Errorf("the ids are %v", b.ids(t))
	}
}

// TestCookieless: in this mode no answer sets any cookie.
func TestCookieless(t *testing.T) {
	b := newBrowser(t, func(c *Config) { c.Sources[0].Identity = IdentityNone })
	b.cookies["earlier"] = &http.Cookie{Name: IdentityCookieName, Value: b.sealID("0b8f1c3e-5d7a-4f6b-9c2d-1e3f5a7b9c0d", b.Now())}
	for _, response := range []*http.Response{
		b.track(t, both, "", `"anonymousId":"page-1",`), b.choose(t, both, ""), b.choose(t, "", both),
		b.send(t, "/v1/batch", `{"writeKey":"wk_web","batch":[],"reset":true}`),
	} {
		if cookies := response.Cookies(); len(cookies) > 0 {
			t.Errorf("%v", cookies)
		}
	}
	ids := b.ids(t)
	b.headers["Sec-Fetch-Site"] = "cross-site"
	if b.track(t, both, "", `"anonymousId":"page-1",`); b.ids(t)[1] != ids[0] {
		t.Error("the id is another than the page's")
	}
}

// TestPlainHTTP: without TLS, as on a developer's machine, the cookie is not
// Secure, or it would not be kept.
func TestPlainHTTP(t *testing.T) {
	b := newBrowser(t, nil)
	delete(b.headers, "X-Forwarded-Proto")
	if b.track(t, both, "", ""); b.cookies[IdentityCookieName].Secure {
		t.Error("the cookie is Secure")
	}
}
