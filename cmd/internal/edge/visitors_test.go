package edge

import (
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// TestReloadTrusts: a proxy that the configuration comes to name is believed
// from then on, and a file of regions that is not there changes nothing.
func TestReloadTrusts(t *testing.T) {
	e := start(t, base)
	secure := func() bool {
		t.Helper()
		r, err := http.NewRequest(http.MethodPost, e.URL()+"/v1/consent", strings.NewReader(`{"purposes":{"analytics":true}}`))
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("wk_web", "")
		r.Header.Set("X-Forwarded-Proto", "https")
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		cookies := answer.Cookies()
		if answer.StatusCode != http.StatusOK || len(cookies) != 1 {
			t.Fatalf("%d %v", answer.StatusCode, cookies)
		}
		return cookies[0].Secure
	}
	if secure() {
		t.Error("a client is believed")
	}
	e.configureAs(base + "trusted_proxies: [127.0.0.1]\n")
	if err := e.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !secure() {
		t.Error("the proxy is not believed")
	}
	if !e.visitors.Load().Proxies.Trusted(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}) {
		t.Error("the listener counts the proxy's connections as one client's")
	}
	e.configureAs(base + "geo: {file: none.mmdb}\n")
	if err := e.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), filepath.Join(e.dir, "none.mmdb")) {
		t.Errorf("a file that is not there: %v", err)
	}
	if !secure() {
		t.Error("a reload that failed changed what is believed")
	}
	e.configureAs(base + "limits: {requests: 100}\n")
	if err := e.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "limits.requests: cannot be changed") {
		t.Errorf("a limit of the server: %v", err)
	}
}

// TestLimitsAreApplied: the server that a workspace gets is a bounded one.
func TestLimitsAreApplied(t *testing.T) {
	e := start(t, base+"limits: {time: 1s, connections: 64}\n")
	address := e.listener.Addr().String()
	ask := func(text string) string {
		t.Helper()
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
		said, _ := io.ReadAll(conn) // a connection that is reset has said what it has
		return string(said)
	}
	if said := ask("POST /v1/track HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{"); !strings.HasPrefix(said, "HTTP/1.1 408 ") || !strings.Contains(said, `"code":"too_slow"`) {
		t.Errorf("a body that does not come: %q", said)
	}
	if said := ask("POST /v1/track HTTP/1.1\r\nHost: x\r\n"); strings.Contains(said, " 200 ") {
		t.Errorf("a header that does not end: %q", said)
	}
	if said := ask("POST /v1/track HTTP/1.1\r\nX: " + strings.Repeat("a", 40<<10) + "\r\n\r\n"); said != "" && !strings.HasPrefix(said, "HTTP/1.1 431 ") {
		t.Errorf("a large header: %q", said)
	}
}
