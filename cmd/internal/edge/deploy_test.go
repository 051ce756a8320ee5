//go:build nginx

package edge

import (
	"bytes"
	"context"
	"crypto/tls"
	"debug/elf"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// These tests hold deploy/ to what it says, with the real programs: nginx, caddy
// and systemd-analyze.

const deploy = "../../../deploy/"

// proxy starts one in front of an upstream, with its logs in a folder, and
// returns a client, and the address below which the collector is.
type proxy func(t *testing.T, upstream, logs string) (client *http.Client, site string)

var proxies = map[string]proxy{"nginx": startNginx, "caddy": startCaddy}

// adapted is a file of deploy with a place's own names.
func adapted(t *testing.T, name string, pairs ...string) string {
	t.Helper()
	text, err := os.ReadFile(deploy + name)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(pairs); i += 2 {
		if !bytes.Contains(text, []byte(pairs[i])) {
			t.Fatalf("%s does not have %q", name, pairs[i])
		}
		text = bytes.ReplaceAll(text, []byte(pairs[i]), []byte(pairs[i+1]))
	}
	return string(text)
}

func startNginx(t *testing.T, upstream, logs string) (*http.Client, string) {
	t.Helper()
	dir, address := t.TempDir(), freeAddress(t)
	certificate := certifyFor(t, dir)
	write(t, filepath.Join(dir, "sluis.conf"), adapted(t, "nginx.conf",
		"listen 443 ", "listen "+address+" ", "127.0.0.1:8484", upstream, "/var/log/nginx", logs,
		"/etc/ssl/shop.example/fullchain.pem", filepath.Join(dir, "cert.pem"), "/etc/ssl/shop.example/key.pem", filepath.Join(dir, "key.pem")))
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;"
	}
	// As Debian has it: whatever a server says nothing of goes to these logs.
	write(t, filepath.Join(dir, "nginx.conf"), fmt.Sprintf(`daemon off; pid %[1]s/pid; %[3]s
error_log %[2]s/error.log;
events {}
http {
	access_log %[2]s/access.log;
	client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
	include %[1]s/sluis.conf;
}`, dir, logs, user))
	startProgram(t, nil, filepath.Join(logs, "stderr.log"), "nginx", "-c", filepath.Join(dir, "nginx.conf"), "-e", filepath.Join(logs, "error.log"))
	return reaching(t, address, certificate)
}

func startCaddy(t *testing.T, upstream, logs string) (*http.Client, string) {
	t.Helper()
	dir, address := t.TempDir(), freeAddress(t)
	certificate := certifyFor(t, dir)
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "Caddyfile"), adapted(t, "Caddyfile",
		"\tlog default {", "\tadmin off\n\tauto_https disable_redirects\n\tlog default {",
		"\nshop.example {", fmt.Sprintf("\nhttps://shop.example:%s {\n\tbind 127.0.0.1\n\ttls %s/cert.pem %s/key.pem", port, dir, dir),
		"127.0.0.1:8484", upstream, "/var/log/caddy", logs))
	env := append(os.Environ(), "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir, "HOME="+dir)
	startProgram(t, env, filepath.Join(logs, "stderr.log"), "caddy", "run", "--config", filepath.Join(dir, "Caddyfile"), "--adapter", "caddyfile")
	return reaching(t, address, certificate)
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func certifyFor(t *testing.T, dir string) *tls.Config {
	t.Helper()
	return &tls.Config{RootCAs: certify(t, dir, 1), ServerName: "shop.example"}
}

// startProgram runs a program until the end of the test.
func startProgram(t *testing.T, env []string, log, name string, args ...string) {
	t.Helper()
	file, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(name, args...)
	c.Env, c.Stdout, c.Stderr = env, file, file
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Signal(os.Interrupt)
		_ = c.Wait()
		if text, err := os.ReadFile(log); t.Failed() && err == nil {
			t.Logf("%s says\n%s", name, text)
		}
		file.Close()
	})
}

// reaching is a client for which shop.example is at an address; it waits until
// somebody is there.
func reaching(t *testing.T, address string, config *tls.Config) (client *http.Client, site string) {
	t.Helper()
	eventually(t, "the proxy", func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	transport := &http.Transport{
		TLSClientConfig: config, ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Transport: transport}, "https://shop.example:" + port + "/_s"
}

// TestProxiedCollector: events and what is wrong with them go through, and what
// is not for the public does not.
func TestProxiedCollector(t *testing.T) {
	for name, start := range proxies {
		t.Run(name, func(t *testing.T) {
			e := startIn(t, newWorkspace(t, base+"path_prefix: /_s\ntrusted_proxies: [127.0.0.1]\n"))
			client, site := start(t, e.listener.Addr().String(), t.TempDir())
			if status, answer := send(t, client, site+"/v1/track", "wk_web", track("m-1")); status != http.StatusOK || !strings.Contains(answer, `"success":true`) {
				t.Errorf("an event: %d %s", status, answer)
			}
			if status, answer := send(t, client, site+"/v1/track", "wk_other", track("m-2")); status != http.StatusUnauthorized || !strings.Contains(answer, "invalid_write_key") {
				t.Errorf("a wrong key: %d %s", status, answer)
			}
			// What is too large for the collector is its own affair, up to a bound.
			if status, answer := send(t, client, site+"/v1/batch", "wk_web", `{"x":"`+strings.Repeat("x", 7<<20)+`"}`); status/100 != 4 || !strings.Contains(answer, `"code"`) {
				t.Errorf("7 MiB: %d %s", status, answer)
			}
			// Beyond that the proxy's, which may see the collector's end first.
			if status, answer := send(t, client, site+"/v1/batch", "wk_web", `{"x":"`+strings.Repeat("x", 9<<20)+`"}`); status/100 != 4 && status != http.StatusBadGateway {
				t.Errorf("9 MiB: %d %s", status, answer)
			}
			response, err := client.Get(site + "/v1/projects/wk_web/settings")
			if err != nil {
				t.Fatal(err)
			}
			if text := read(t, response); !strings.Contains(text, `/_s/v1"`) || !strings.Contains(text, `"protocol":"https"`) {
				t.Errorf("the settings send events elsewhere: %s", text)
			}
			for _, path := range []string{"/healthz", "/readyz"} {
				response, err := client.Get(site + path)
				if err != nil {
					t.Fatal(err)
				}
				if read(t, response); response.StatusCode != http.StatusNotFound {
					t.Errorf("%s: %d", path, response.StatusCode)
				}
			}
			if err := e.Drain(); err != nil {
				t.Fatal(err)
			}
			if ids := landed(t, e.dir); len(ids) != 1 || ids["m-1"] != 1 {
				t.Errorf("landed: %v", ids)
			}
		})
	}
}

// TestProxiedRequest: the collector is told whose request it is, whatever the
// client says, and few connections carry many requests.
func TestProxiedRequest(t *testing.T) {
	for name, start := range proxies {
		t.Run(name, func(t *testing.T) {
			var connections atomic.Int32
			var mu sync.Mutex
			var last *http.Request
			upstream := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				last = r
			}))
			upstream.Config.ConnState = func(_ net.Conn, s http.ConnState) {
				if s == http.StateNew {
					connections.Add(1)
				}
			}
			upstream.Start()
			defer upstream.Close()
			client, site := start(t, strings.TrimPrefix(upstream.URL, "http://"), t.TempDir())
			const requests = 50
			for range requests {
				r, err := http.NewRequest(http.MethodPost, site+"/v1/pixel/track?data=x%20y", strings.NewReader("{}"))
				if err != nil {
					t.Fatal(err)
				}
				for _, header := range []string{"X-Forwarded-For", "Forwarded", "X-Forwarded-Proto"} {
					r.Header.Set(header, "for=203.0.113.7")
				}
				response, err := client.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				if read(t, response); response.StatusCode != http.StatusOK {
					t.Fatalf("status %d", response.StatusCode)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			got := fmt.Sprintf("%s %s %s %v %v %q", last.Method, last.RequestURI, strings.Split(last.Host, ":")[0],
				last.Header.Values("X-Forwarded-For"), last.Header.Values("X-Forwarded-Proto"), strings.Join(last.Header.Values("Forwarded"), ","))
			if want := `POST /_s/v1/pixel/track?data=x%20y shop.example [127.0.0.1] [https] ""`; got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			if n := connections.Load(); n > requests/5 {
				t.Errorf("%d connections for %d requests", n, requests)
			}
		})
	}
}

// TestProxyLogsNobody: neither what goes well nor what fails leaves anything of
// the person in a log.
func TestProxyLogsNobody(t *testing.T) {
	for name, start := range proxies {
		t.Run(name, func(t *testing.T) {
			logs := t.TempDir()
			upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			client, site := start(t, strings.TrimPrefix(upstream.URL, "http://"), logs)
			call := func(body string) (statuses []int) {
				for _, path := range []string{"/v1/track?data=canary", "/v1/canary@example.com", "/canary/v1/track?x=canary"} {
					r, err := http.NewRequest(http.MethodPost, site+path, strings.NewReader(body))
					if err != nil {
						t.Fatal(err)
					}
					r.Header.Set("User-Agent", "canary")
					r.Header.Set("Referer", "https://shop.example/?e=canary")
					r.Header.Set("X-Forwarded-For", "203.0.113.7")
					r.Header.Set("Cookie", "id=canary")
					r.SetBasicAuth("canary", "")
					response, err := client.Do(r)
					if err != nil {
						t.Fatal(err)
					}
					read(t, response)
					statuses = append(statuses, response.StatusCode)
				}
				return statuses
			}
			got := fmt.Sprint(call(`{"e":"canary"}`))
			if name == "nginx" { // Caddy notices while it sends, and answers when the collector would
				got += fmt.Sprint(call(strings.Repeat("canary ", 2<<20)))
			}
			upstream.Close()
			got += fmt.Sprint(call(`{"e":"canary"}`))
			want := map[string]string{"nginx": "[200 200 200][413 413 413][502 502 502]", "caddy": "[200 200 200][502 502 502]"}[name]
			if got != want {
				t.Errorf("statuses %s, want %s", got, want)
			}
			all := func() (text string) {
				files, err := filepath.Glob(filepath.Join(logs, "*"))
				if err != nil {
					t.Fatal(err)
				}
				for _, file := range files {
					b, err := os.ReadFile(file)
					if err != nil {
						t.Fatal(err)
					}
					text += string(b)
				}
				return text
			}
			eventually(t, "the log", func() bool { return strings.Count(all(), "502") >= 3 })
			text := all()
			if !strings.Contains(text, "/v1/track") {
				t.Errorf("the log does not say what was asked for:\n%s", text)
			}
			for _, secret := range []string{"canary", "203.0.113.7", "remote_ip", " 127.0.0.1 ", "client: "} {
				if strings.Contains(text, secret) {
					t.Errorf("the logs have %q:\n%s", secret, text)
				}
			}
		})
	}
}

// TestUnit has systemd read the unit, and rate what it leaves open.
func TestUnit(t *testing.T) {
	dir := t.TempDir()
	unit := filepath.Join(dir, "sluis-collector.service")
	program := filepath.Join(dir, "sluis-collector")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, unit, adapted(t, "sluis-collector.service", "/usr/local/bin/sluis-collector", program))
	if out, err := exec.Command("systemd-analyze", "verify", "--man=no", unit).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("verify: %v\n%s", err, out)
	}
	// 20 of 100 is what systemd calls OK; most services are above 90.
	if out, err := exec.Command("systemd-analyze", "security", "--offline=yes", "--threshold=20", unit).CombinedOutput(); err != nil {
		t.Errorf("security: %v\n%s", err, out)
	}
}

// TestImage runs the command by which the image builds the program, and looks
// whether that can run where there is nothing else.
func TestImage(t *testing.T) {
	dir := t.TempDir()
	text := adapted(t, "Dockerfile", "/out/", dir+"/")
	_, command, found := strings.Cut(text, "\nRUN CGO_ENABLED=0 ")
	command, _, _ = strings.Cut(command, "\n")
	if !found {
		t.Fatal("the Dockerfile builds nothing")
	}
	c := exec.Command("sh", "-c", "CGO_ENABLED=0 "+command)
	c.Dir = "../../.."
	c.Env = append(os.Environ(), "TARGETOS=linux", "TARGETARCH=amd64")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	program, err := elf.Open(filepath.Join(dir, "sluis-collector"))
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	if libraries, err := program.ImportedLibraries(); err != nil || len(libraries) > 0 {
		t.Errorf("it needs %v %v", libraries, err)
	}
	for _, p := range program.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("it needs a dynamic loader")
		}
	}
}
