package collector

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// do sends a request and returns the answer.
func (b *bench) do(method, target, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	b.Handler().ServeHTTP(w, r)
	return w
}

// TestPathsThatTakeEvents: each path of the SDKs, at the root and below the
// prefix, lands an event of the right type.
func TestPathsThatTakeEvents(t *testing.T) {
	single := `{"anonymousId":"a","event":"X","previousId":"b","groupId":"g",` + agreed + `}`
	batch := `{"batch":[{"type":"track","anonymousId":"a","event":"X",` + agreed + `}]}`
	paths := map[string]string{"/v1/batch": "track", "/v1/b": "track", "/v1/import": "track", "/beacon/v1/batch": "track"}
	for call, typ := range map[string]string{
		"identify": "identify", "i": "identify", "track": "track", "t": "track", "page": "page", "p": "page",
		"screen": "screen", "s": "screen", "group": "group", "g": "group", "alias": "alias", "a": "alias",
	} {
		for _, base := range []string{"/v1/", "/api/s/", "/api/s/s2s/"} {
			paths[base+call] = typ
		}
	}
	b := newBench(t, func(c *Config) { c.PathPrefix = "/in/s" })
	for path, typ := range paths {
		for _, target := range []string{path, "/in/s" + path, "/" + path, path + "/", "/in/s/" + path + "/"} {
			body := single
			if strings.Contains(path, "/b") || strings.Contains(path, "import") {
				body = batch
			}
			w := b.do(http.MethodPost, "http://collect.example"+target, body, "X-Write-Key", "wk_web")
			if w.Code != http.StatusOK || strings.TrimSpace(w.Body.String()) != `{"success":true}` {
				t.Errorf("%s: %d %s", target, w.Code, w.Body)
				continue
			}
			rows := b.spool.rows(t)
			if got := rows.Events[len(rows.Events)-1].Type; got != typ {
				t.Errorf("%s: landed as %s", target, got)
			}
		}
	}
}

// TestOtherPaths: whatever is asked, the answer is JSON that says what to do.
func TestOtherPaths(t *testing.T) {
	b := newBench(t, func(c *Config) { c.PathPrefix = "/s" })
	for _, test := range []struct {
		method, path string
		status       int
		code, allow  string
	}{
		{"GET", "/", 404, "not_found", ""},
		{"POST", "/v1/tracks", 404, "not_found", ""},
		{"POST", "/v1/tr", 404, "not_found", ""},
		{"POST", "/api/s/event", 404, "not_found", ""},
		{"POST", "/v2/track", 404, "not_found", ""},
		{"POST", "/sv1/track", 404, "not_found", ""},
		{"GET", "/v1/batch", 405, "method_not_allowed", "POST, OPTIONS"},
		{"HEAD", "/v1/track", 405, "method_not_allowed", "POST, OPTIONS"},
		{"PUT", "/s/v1/track", 405, "method_not_allowed", "POST, OPTIONS"},
		{"POST", "/v1/projects/wk_web/settings", 405, "method_not_allowed", "GET, HEAD, OPTIONS"},
		{"GET", "/v1/projects/wk_nobody/settings", 404, "unknown_write_key", ""},
		{"GET", "/sourceConfig/?writeKey=wk_nobody", 404, "unknown_write_key", ""},
		{"HEAD", "/v1/projects/wk_web/settings", 200, "", ""},
		{"POST", "/v1/m", 200, "", ""},
		{"OPTIONS", "/v1/batch", 204, "", "POST, OPTIONS"},
	} {
		w := b.do(test.method, test.path, "")
		var answer struct{ Code, Message string }
		if test.status != http.StatusNoContent {
			if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
				t.Errorf("%s %s: %q is no JSON", test.method, test.path, w.Body)
			}
		}
		if w.Code != test.status || answer.Code != test.code || w.Header().Get("Allow") != test.allow || (test.code != "") != (answer.Message != "") {
			t.Errorf("%s %s: %d %+v, Allow %q", test.method, test.path, w.Code, answer, w.Header().Get("Allow"))
		}
	}
	if len(b.spool.records) > 0 {
		t.Errorf("%d records were written", len(b.spool.records))
	}
	for _, path := range []string{"/sluis.js", "/s/sluis.js"} {
		if w := b.do(http.MethodGet, path, ""); w.Code != http.StatusOK || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/javascript") {
			t.Errorf("%s: %d %s", path, w.Code, w.Header().Get("Content-Type"))
		}
	}
}

// TestWriteKeyForms: each way in which SDKs say the write key, and which of two
// counts.
func TestWriteKeyForms(t *testing.T) {
	basic := func(text string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(text)) }
	keys := map[string]string{"web": "wk_web", "app": "wk_app", "jitsu": "id:secret"}
	b := newBench(t, func(c *Config) {
		c.Sources = nil
		for id, key := range keys {
			c.Sources = append(c.Sources, Source{ID: id, WriteKey: key, Denied: Count})
		}
	})
	for _, test := range []struct {
		name, query, inBody string
		headers             []string
		source              string
	}{
		{"basic", "", "", []string{"Authorization", basic("wk_web:")}, "web"},
		{"basic with a password", "", "", []string{"Authorization", basic("wk_web:x")}, "web"},
		{"basic without a colon", "", "", []string{"Authorization", basic("wk_web")}, "web"},
		{"basic without padding", "", "", []string{"Authorization", strings.TrimRight(basic("wk_web:"), "=")}, "web"},
		{"basic in lower case", "", "", []string{"Authorization", strings.Replace(basic("wk_web:"), "Basic", "basic", 1)}, "web"},
		{"basic that is no base64", "", "", []string{"Authorization", "Basic %%%"}, ""},
		{"basic before the body", "", "wk_app", []string{"Authorization", basic("wk_web:")}, "web"},
		{"wrong basic, though the body is right", "", "wk_app", []string{"Authorization", basic("wk_nobody:")}, ""},
		{"bearer", "", "", []string{"Authorization", "Bearer wk_web"}, "web"},
		{"OAuth token, key in the body", "", "wk_app", []string{"Authorization", "Bearer eyJhbGciOi"}, "app"},
		{"OAuth token alone", "", "", []string{"Authorization", "Bearer eyJhbGciOi"}, ""},
		{"header", "", "", []string{"X-Write-Key", "wk_web"}, "web"},
		{"Jitsu's key whole", "", "", []string{"X-Write-Key", "id:secret"}, "jitsu"},
		{"Jitsu's key with a wrong secret", "", "", []string{"X-Write-Key", "id:wrong"}, ""},
		{"Jitsu's key without its secret", "", "", []string{"X-Write-Key", "id"}, ""},
		{"Jitsu's key by basic", "", "", []string{"Authorization", basic("id:secret")}, "jitsu"},
		{"id alone is the key", "", "", []string{"X-Write-Key", "wk_web:anything"}, "web"},
		{"body", "", "wk_app", nil, "app"},
		{"query", "?writeKey=wk_web", "", nil, "web"},
		{"body before query", "?writeKey=wk_web", "wk_app", nil, "app"},
		{"none", "", "", nil, ""},
		{"empty", "?writeKey=", "", []string{"X-Write-Key", "", "Authorization", "Basic "}, ""},
	} {
		body := `{"writeKey":"` + test.inBody + `","anonymousId":"a","event":"X",` + agreed + `}`
		before := len(b.spool.records)
		w := b.do(http.MethodPost, "/v1/track"+test.query, body, test.headers...)
		source := ""
		if len(b.spool.records) > before {
			rows := b.spool.rows(t)
			source = rows.Events[len(rows.Events)-1].SourceID
		}
		if source != test.source || (w.Code == http.StatusOK) != (source != "") || w.Code != http.StatusOK && w.Code != http.StatusUnauthorized {
			t.Errorf("%s: %d, source %q, want %q", test.name, w.Code, source, test.source)
		}
	}
}

// TestCORS: a preflight passes for the pages that some source allows, with all
// headers that the SDKs send; an event for those that its own source allows.
func TestCORS(t *testing.T) {
	b := newBench(t, func(c *Config) {
		c.Sources = []Source{
			{ID: "web", WriteKey: "wk_web", Origins: []string{"https://shop.example"}},
			{ID: "blog", WriteKey: "wk_blog", Origins: []string{"https://blog.example"}},
		}
	})
	const headers = "authorization,content-type,content-encoding,anonymousid,sentat,x-retry-count,x-write-key,rsa-retry-attempt"
	for origin, known := range map[string]bool{
		"https://shop.example": true, "https://blog.example": true, "http://collect.example": true, // its own page
		"https://evil.example": false, "http://shop.example": false, "https://shop.example.evil.example": false, "null": false,
	} {
		w := b.do(http.MethodOptions, "http://collect.example/v1/t", "", "Origin", origin,
			"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", headers)
		want := map[string]string{"Origin": origin, "Credentials": "true", "Methods": "GET, POST", "Headers": headers}
		for name, value := range want {
			if !known {
				value = ""
			}
			if got := w.Header().Get("Access-Control-Allow-" + name); w.Code != http.StatusNoContent || got != value {
				t.Errorf("preflight of %s: %d, Access-Control-Allow-%s %q, want %q", origin, w.Code, name, got, value)
			}
		}
		if (w.Header().Get("Access-Control-Max-Age") != "") != known || !slices.Contains(w.Header().Values("Vary"), "Origin") {
			t.Errorf("preflight of %s: %v", origin, w.Header())
		}
	}
	for _, test := range []struct {
		key, origin string
		status      int
	}{
		{"wk_web", "https://shop.example", 200},
		{"wk_web", "https://blog.example", 403}, // another source's
		{"wk_blog", "https://blog.example", 200},
		{"wk_web", "", 200}, // a server
		{"wk_web", "https://evil.example", 403},
	} {
		headers := []string{"X-Write-Key", test.key}
		if test.origin != "" {
			headers = append(headers, "Origin", test.origin)
		}
		w := b.do(http.MethodPost, "/v1/track", `{"anonymousId":"a","event":"X",`+agreed+`}`, headers...)
		if w.Code != test.status {
			t.Errorf("an event of %s from %q: %d", test.key, test.origin, w.Code)
		}
		if allowed := w.Header().Get("Access-Control-Allow-Origin"); allowed == "*" || test.status == 200 && allowed != test.origin {
			t.Errorf("an event of %s from %q: allows %q", test.key, test.origin, allowed)
		}
	}
	if w := b.do(http.MethodOptions, "/v1/t", "", "Origin", "https://shop.example", "Access-Control-Request-Method", "POST",
		"Access-Control-Request-Headers", "x\r\nset-cookie: a"); w.Header().Get("Access-Control-Allow-Headers") != "" {
		t.Errorf("headers that are none were allowed: %q", w.Header())
	}
}

// TestPixel: whatever came of the event, the answer is the image.
func TestPixel(t *testing.T) {
	message := `{"writeKey":"wk_web","userId":"u>?~","event":"Opened","properties":{"n":1},` + agreed + `}`
	std, raw := base64.StdEncoding.EncodeToString([]byte(message)), base64.RawURLEncoding.EncodeToString([]byte(message))
	dotted := "writeKey=wk_web&userId=u&event=Opened&properties.n=1&properties.a.b=x&context.consent.categoryPreferences.analytics=true"
	for _, test := range []struct {
		name, target string
		code         string // of the error
		properties   string
	}{
		{"base64", "/v1/pixel/track?data=" + url.QueryEscape(std), "", `{"n":1}`},
		{"base64, nothing escaped", "/v1/pixel/track?data=" + std, "", `{"n":1}`},
		{"base64 for URLs", "/v1/pixel/t?data=" + raw, "", `{"n":1}`},
		{"RudderStack's path", "/pixel/v1/track?data=" + raw, "", `{"n":1}`},
		{"field by field", "/v1/pixel/track?" + dotted, "", `{"a":{"b":"x"},"n":"1"}`},
		{"below the prefix", "/s/v1/pixel/track?" + dotted, "", `{"a":{"b":"x"},"n":"1"}`},
		{"a field that is a value and an object", "/v1/pixel/track?" + dotted + "&properties.a=z", "", `{"a":"z","n":"1"}`},
		{"refused", "/v1/pixel/track?writeKey=wk_web&userId=u&event=Opened&context.consent.categoryPreferences.analytics=false", "", ""},
		{"no key", "/v1/pixel/track?event=Opened", "invalid_write_key", ""},
		{"wrong key", "/v1/pixel/track?writeKey=wk_nobody", "invalid_write_key", ""},
		{"no base64", "/v1/pixel/track?data=%25%25", "invalid_base64", ""},
		{"no JSON", "/v1/pixel/track?data=AAAA", "invalid_json", ""},
		{"no such call", "/v1/pixel/tracks?data=" + raw, "not_found", ""},
		{"very deep", "/v1/pixel/track?writeKey=wk_web&" + strings.Repeat("a.", 5000) + "a=1", "", ""},
	} {
		b := newBench(t, func(c *Config) { c.PathPrefix = "/s" })
		w := b.do(http.MethodGet, test.target, "")
		if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "image/gif" || !bytes.Equal(w.Body.Bytes(), gif) {
			t.Errorf("%s: %d %s %q", test.name, w.Code, w.Header().Get("Content-Type"), w.Body)
		}
		if got := w.Header().Get("Sluis-Error"); got != test.code {
			t.Errorf("%s: error %q, want %q", test.name, got, test.code)
		}
		properties := ""
		for _, e := range b.spool.rows(t).Events {
			properties = e.Properties
		}
		if properties != test.properties {
			t.Errorf("%s: landed %q, want %q", test.name, properties, test.properties)
		}
	}
}

// TestSettings: what the browser SDKs are told sends them to the host that they
// asked, and nowhere else.
func TestSettings(t *testing.T) {
	b := newBench(t, func(c *Config) { c.PathPrefix = "/s" })
	for _, protocol := range []string{"http", "https"} {
		w := b.do(http.MethodGet, protocol+"://collect.example/s/v1/projects/wk_web/settings", "")
		var settings struct {
			Integrations map[string]struct{ APIKey, APIHost, Protocol string }
			Metrics      struct{ SampleRate *float64 }
		}
		if err := json.Unmarshal(w.Body.Bytes(), &settings); err != nil || w.Code != http.StatusOK {
			t.Fatalf("%d %s: %v", w.Code, w.Body, err)
		}
		if s := settings.Integrations["Segment.io"]; len(settings.Integrations) != 1 || s.APIKey != "wk_web" || s.APIHost != "collect.example/s/v1" || s.Protocol != protocol {
			t.Errorf("integrations %+v", settings.Integrations)
		}
		if settings.Metrics.SampleRate == nil || *settings.Metrics.SampleRate != 0 {
			t.Error("the SDK would send figures of itself")
		}
	}
	for _, target := range []string{"/sourceConfig/?p=npm&writeKey=wk_web", "/sourceConfig", "/s/sourceConfig/"} {
		w := b.do(http.MethodGet, target, "", "Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("wk_web:")))
		var config struct {
			Source struct {
				ID           string
				Enabled      bool
				Config       map[string]any
				Destinations []any
			}
		}
		if err := json.Unmarshal(w.Body.Bytes(), &config); err != nil || config.Source.ID != "web" || !config.Source.Enabled || config.Source.Config == nil || config.Source.Destinations == nil {
			t.Errorf("%s: %d %s %v", target, w.Code, w.Body, err)
		}
	}
}

func TestCheckOrigin(t *testing.T) {
	for origin, ok := range map[string]bool{
		"*": true, "https://shop.example": true, "http://localhost:3000": true, "http://[::1]:3000": true, "app://localhost": true,
		"": false, "shop.example": false, "https://shop.example/": false, "https://shop.example/x": false, "https://Shop.example": false,
		"https://*": false, "https://*.shop.example": false, "https://u@shop.example": false, "//shop.example": false, "null": false,
	} {
		if err := CheckOrigin(origin); (err == nil) != ok {
			t.Errorf("%q: %v", origin, err)
		}
	}
	for prefix, ok := range map[string]bool{"": true, "/s": true, "/a/b": true, "/": false, "s": false, "/s/": false, "/a//b": false, "/a?b": false, "/a b": false, "/../a": false} {
		if err := CheckPathPrefix(prefix); (err == nil) != ok {
			t.Errorf("%q: %v", prefix, err)
		}
	}
}
