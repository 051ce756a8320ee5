package edge

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// certify writes a certificate of its own, for 127.0.0.1 and shop.example, and
// its key, and returns what trusts it.
func certify(t *testing.T, dir string, serial int64) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"shop.example"}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "cert.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, filepath.Join(dir, "key.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	pool := x509.NewCertPool()
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(certificate)
	return pool
}

// TestTLS: events come encrypted, by HTTP/2 too; a reload takes the new
// certificate, and one that does not fit its key changes nothing.
func TestTLS(t *testing.T) {
	const config = base + "tls: {certificate: cert.pem, key: key.pem}\n"
	dir := newWorkspace(t, config)
	pool := certify(t, dir, 1)
	e := startIn(t, dir)
	if !strings.HasPrefix(e.URL(), "https://") {
		t.Fatalf("the URL is %s", e.URL())
	}
	client := func(pool *x509.CertPool) *http.Client {
		return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true, DisableKeepAlives: true}}
	}
	if status, answer := send(t, client(pool), e.URL()+"/v1/track", "wk_web", track("m-1")); status != http.StatusOK {
		t.Errorf("%d %s", status, answer)
	}
	serial := func() (int64, string) {
		t.Helper()
		c, err := tls.Dial("tcp", e.listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64(), c.ConnectionState().NegotiatedProtocol
	}
	if n, protocol := serial(); n != 1 || protocol != "h2" {
		t.Errorf("certificate %d, protocol %s", n, protocol)
	}
	if c, err := tls.Dial("tcp", e.listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11}); err == nil {
		c.Close()
		t.Error("TLS 1.1 is spoken")
	}
	pool = certify(t, dir, 2)
	if err := e.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, _ := serial(); n != 2 {
		t.Errorf("after the reload: certificate %d", n)
	}
	if status, answer := send(t, client(pool), e.URL()+"/v1/track", "wk_web", track("m-2")); status != http.StatusOK {
		t.Errorf("after the reload: %d %s", status, answer)
	}
	write(t, filepath.Join(dir, "key.pem"), "no key")
	if err := e.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "sluis.yaml:7: tls: ") {
		t.Errorf("a key that is none: %v", err)
	}
	if n, _ := serial(); n != 2 {
		t.Errorf("after the failed reload: certificate %d", n)
	}
	if strings.Contains(e.log.String(), "127.0.0.1") {
		t.Errorf("the log has an address: %s", e.log)
	}
}

// TestStartFails undoes what it has done, so that the next start succeeds.
func TestStartFails(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, tt := range map[string]struct{ from, to, want string }{
		"address":     {"listen: 127.0.0.1:0\nop", "listen: " + taken.Addr().String() + "\nop", "choose another address with --listen"},
		"operations":  {"  listen: 127.0.0.1:0", "  listen: " + taken.Addr().String(), "operations.listen or --operations-listen"},
		"certificate": {"sources", "tls: {certificate: a, key: b}\nsources", "sluis.yaml:5: tls: open"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := newWorkspace(t, strings.Replace(base, tt.from, tt.to, 1))
			o := options(dir, io.Discard)
			w, err := o.Reread()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Start(t.Context(), w, o); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v", err)
			}
			write(t, filepath.Join(dir, "sluis.yaml"), base)
			startIn(t, dir)
		})
	}
}

// TestFaultIsAnswered: clients try again, and the log does not have what could
// be of the event.
func TestFaultIsAnswered(t *testing.T) {
	e := start(t, base)
	var broken http.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("canary") })
	e.handler.Store(&broken)
	status, text := e.post("wk_web", track("m-1"))
	if status != http.StatusServiceUnavailable || strings.Contains(text, "canary") {
		t.Errorf("%d %s", status, text)
	}
	if log := e.log.String(); strings.Contains(log, "canary") || !strings.Contains(log, "server_test.go") {
		t.Errorf("the log is %s", log)
	}
	if _, text := get(t, e.OperationsURL()+"/metrics"); !strings.Contains(text, "sluis_http_panics_total 1") {
		t.Error("the fault is not counted")
	}
}

func TestErrorLogIsNameless(t *testing.T) {
	for line, want := range map[string]string{
		"http: TLS handshake error from 203.0.113.7:5000: EOF\n":                "",
		"http2: server connection error from [2001:db8::1]:443: bad preface":    "from a client: bad preface",
		"http: Accept error: accept tcp 10.0.0.1: too many open files; retry":   "tcp a client: too many",
		"http: superfluous response.WriteHeader call from x.F (file.go:12)":     "(file.go:12)",
		"http: something about ::ffff:203.0.113.7, and 203.0.113.7:80; no more": "about a client, and a client; no more",
	} {
		var log strings.Builder
		slog.NewLogLogger(errorLog{slog.NewTextHandler(&log, nil)}, slog.LevelWarn).Print(line)
		if got := log.String(); !strings.Contains(got, want) || (want == "") != (got == "") || strings.Contains(got, "203.0.113") {
			t.Errorf("%q becomes %q", line, got)
		}
	}
}
