package remote

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluis-cdp/sluis/consent/seal"
)

// service is a pseudonym service and what its collectors need.
type service struct {
	server   *Server
	http     *http.Server
	url      string
	certs    string
	keys     seal.Dir // of collector and service alike
	observed observed
	log      bytes.Buffer
	clock    clock
}

// clock moves when it is told to.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

type observed struct {
	mu        sync.Mutex
	evaluated map[string]int
	refused   map[string]int
}

func (o *observed) Evaluated(collector string, elements int, _ time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.evaluated[collector] += elements
}

func (o *observed) Refused(collector string, _ int, reason string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.refused[collector+"/"+reason]++
}

func (o *observed) count(of map[string]int, key string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return of[key]
}

func start(t testing.TB, limits Limits, collectors ...string) *service {
	t.Helper()
	s := &service{
		certs: filepath.Join(t.TempDir(), "certs"), keys: seal.Dir(filepath.Join(t.TempDir(), "keys")),
		observed: observed{evaluated: map[string]int{}, refused: map[string]int{}},
		clock:    clock{now: time.Date(2026, 3, 1, 23, 0, 0, 0, time.UTC)},
	}
	if _, err := MakeCertificates(s.certs, []string{"127.0.0.1", "localhost"}, []string{"shop-1", "shop-2"}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := seal.Generate(s.keys, nil); err != nil {
		t.Fatal(err)
	}
	holder, err := seal.NewKeyHolder(context.Background(), s.keys)
	if err != nil {
		t.Fatal(err)
	}
	s.server = NewServer(ServerConfig{
		Keys: holder, Limits: limits, Collectors: collectors, Observer: &s.observed, Now: s.clock.Now,
		Logger: slog.New(slog.NewTextHandler(&s.log, nil)),
	})
	s.listen(t, "127.0.0.1:0")
	return s
}

func (s *service) listen(t testing.TB, address string) {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s.http = s.server.HTTP()
	if s.http.TLSConfig, err = s.files("service").ServerTLS(); err != nil {
		t.Fatal(err)
	}
	go s.http.ServeTLS(listener, "", "")
	t.Cleanup(func() { s.http.Close() })
	s.url = "https://" + listener.Addr().String()
}

func (s *service) files(name string) Files {
	return Files{filepath.Join(s.certs, "ca.pem"), filepath.Join(s.certs, name+".pem"), filepath.Join(s.certs, name+".key")}
}

func (s *service) client(t testing.TB, name string) *Client {
	t.Helper()
	config, err := s.files(name).ClientTLS()
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewClient(ClientConfig{URL: s.url, TLS: config, Timeout: 20 * time.Second, Now: s.clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func (s *service) pseudonymizer(t testing.TB, c seal.Evaluator) *seal.Pseudonymizer {
	t.Helper()
	p, err := seal.NewServedPseudonymizer(context.Background(), s.keys, "shop", "", seal.Service{
		Mode: seal.Remote, Evaluator: c, PublicKey: s.server.Keys.PublicKey(1),
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestCollectorAsksService(t *testing.T) {
	s := start(t, Limits{})
	local, err := seal.NewPseudonymizer(context.Background(), s.keys, "shop", "")
	if err != nil {
		t.Fatal(err)
	}
	remote := s.pseudonymizer(t, s.client(t, "shop-1"))
	batch := remote.Batch()
	ask := func() (made []seal.Pseudonym) {
		for i := range 100 {
			p, err := batch.Pseudonym(seal.UserID, fmt.Sprint("customer-", i))
			if err != nil {
				t.Fatal(err)
			}
			made = append(made, p)
		}
		return made
	}
	if ask(); !batch.Lacks() {
		t.Fatal("a remote pseudonymizer lacks nothing")
	}
	if err := batch.Fetch(context.Background()); err != nil {
		t.Fatal(err)
	}
	for i, p := range ask() {
		if want, err := local.Pseudonym(seal.UserID, fmt.Sprint("customer-", i)); err != nil || p != want {
			t.Fatalf("number %d differs from local: %v", i, err)
		}
	}
	if n := s.observed.count(s.observed.evaluated, "shop-1"); n != 100 {
		t.Errorf("%d elements were counted for the collector, want 100", n)
	}
}

// TestWhoIsHeard tries every kind of certificate on either side.
func TestWhoIsHeard(t *testing.T) {
	s := start(t, Limits{}, "shop-1")
	other := start(t, Limits{})
	ask := func(c *Client) error {
		_, err := s.pseudonymizer(t, c).Pseudonym(seal.UserID, "customer-1")
		return err
	}
	if err := ask(s.client(t, "shop-1")); err != nil {
		t.Errorf("a collector that is allowed: %v", err)
	}
	var away *seal.UnavailableError
	if err := ask(s.client(t, "shop-2")); !errors.As(err, &away) || !strings.Contains(err.Error(), "--collector") {
		t.Errorf("a collector that is not allowed: %v", err)
	}
	if err := ask(s.client(t, "service")); !errors.As(err, &away) {
		t.Errorf("the certificate of a server was heard: %v", err)
	}
	foreign, err := other.files("shop-1").ClientTLS()
	if err != nil {
		t.Fatal(err)
	}
	foreign.RootCAs = x509.NewCertPool()
	ca, _ := os.ReadFile(filepath.Join(s.certs, "ca.pem"))
	foreign.RootCAs.AppendCertsFromPEM(ca)
	for name, config := range map[string]*tls.Config{
		"another authority": foreign, "no certificate": {RootCAs: foreign.RootCAs, MinVersion: tls.VersionTLS13},
	} {
		c, err := NewClient(ClientConfig{URL: s.url, TLS: config})
		if err != nil {
			t.Fatal(err)
		}
		if err := ask(c); !errors.As(err, &away) {
			t.Errorf("%s was heard: %v", name, err)
		}
		c.Close()
	}
	// A collector's certificate, stolen, cannot stand in for the service.
	impostor := &service{server: s.server, certs: s.certs, keys: s.keys}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := s.server.HTTP()
	if server.TLSConfig, err = s.files("shop-1").ServerTLS(); err != nil {
		t.Fatal(err)
	}
	go server.ServeTLS(listener, "", "")
	defer server.Close()
	impostor.url = "https://" + listener.Addr().String()
	impostor.clock.now = time.Now()
	if err := ask(impostor.client(t, "shop-1")); !errors.As(err, &away) {
		t.Errorf("a service with a collector's certificate was believed: %v", err)
	}
}

func TestLimits(t *testing.T) {
	s := start(t, Limits{Rate: 100, Burst: 1, Daily: 10_000})
	take := func(collector string, n int, why Reason, wait time.Duration) {
		t.Helper()
		if gotWhy, gotWait := s.server.limiter.take(collector, n, s.clock.Now()); gotWhy != why || gotWait.Round(time.Millisecond) != wait {
			t.Errorf("%d elements: %q, wait %v; want %q, %v", n, gotWhy, gotWait, why, wait)
		}
	}
	take("shop-1", seal.MaxElements, "", 0) // one full request always goes
	take("shop-1", 50, Rate, time.Second/2)

	// The same, asked.
	p := s.pseudonymizer(t, s.client(t, "shop-1"))
	var away *seal.UnavailableError
	for range 2 {
		if _, err := p.Pseudonym(seal.UserID, "customer-1"); !errors.As(err, &away) || away.RetryAfter != time.Second {
			t.Fatalf("more than the rate: %v", err)
		}
	}
	if _, err := s.pseudonymizer(t, s.client(t, "shop-2")).Pseudonym(seal.UserID, "customer-1"); err != nil {
		t.Errorf("another collector pays for the first: %v", err)
	}
	if n := s.observed.count(s.observed.refused, "shop-1/rate"); n != 2 {
		t.Errorf("%d refusals were counted, want 2", n)
	}
	if n := strings.Count(s.log.String(), "asks for more"); n != 1 {
		t.Errorf("the log says it %d times, want once a minute:\n%s", n, s.log.String())
	}

	s.clock.pass(time.Second / 2)
	take("shop-1", 50, "", 0)
	s.clock.pass(41 * time.Second)
	take("shop-1", 4000, "", 0)
	s.clock.pass(41 * time.Second)
	take("shop-1", 4000, Quota, time.Hour-82*time.Second-time.Second/2)
	take("shop-1", 10_000-seal.MaxElements-4050, "", 0)
	s.clock.pass(time.Hour)
	take("shop-1", 4000, "", 0)
}

// TestServiceGoesAway ends the service, and lets it come back at its address.
func TestServiceGoesAway(t *testing.T) {
	s := start(t, Limits{})
	c := s.client(t, "shop-1")
	p := s.pseudonymizer(t, c)
	n := 0
	ask := func() error {
		n++
		_, err := p.Pseudonym(seal.UserID, fmt.Sprint("customer-", n))
		return err
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	s.http.Close()
	var away *seal.UnavailableError
	for range tolerated {
		if err := ask(); !errors.As(err, &away) || errors.Is(err, errOpen) || strings.Contains(err.Error(), "customer") {
			t.Fatalf("without the service: %v", err)
		}
	}
	if err := ask(); !errors.Is(err, errOpen) || c.Down().IsZero() {
		t.Errorf("after %d failures the service is asked still: %v", tolerated, err)
	}
	if _, err := p.Pseudonym(seal.UserID, "customer-1"); err != nil {
		t.Errorf("what is known needs no service: %v", err)
	}
	if _, err := p.Pseudonym(seal.AnonymousID, "0b7c1f6e-6a31-4f0e-9a55-5b1b7f2c9d10"); err != nil {
		t.Errorf("a random id needs no service: %v", err)
	}
	s.listen(t, strings.TrimPrefix(s.url, "https://"))
	if err := ask(); !errors.Is(err, errOpen) {
		t.Errorf("the service is asked before its time: %v", err)
	}
	s.clock.pass(shortest)
	if err := ask(); err != nil || !c.Down().IsZero() {
		t.Errorf("the service is back, and not used: %v", err)
	}
}

func TestCircuitOpensForLonger(t *testing.T) {
	var c circuit
	now := time.Unix(1_800_000_000, 0)
	for i, seconds := range []int{0, 0, 1, 2, 4, 8, 16, 30, 30} {
		wait := time.Duration(seconds) * time.Second
		if c.wait(now) != 0 {
			t.Fatalf("failure %d: the circuit is open", i)
		}
		if i >= tolerated && c.wait(now) != shortest {
			t.Errorf("failure %d: two find out at once whether it is back", i)
		}
		c.failed(now)
		if got := c.wait(now); got != wait {
			t.Errorf("after failure %d it waits %v, want %v", i+1, got, wait)
		} else if got == 0 {
			continue
		}
		now = now.Add(wait)
	}
}

// TestBadRequests sends what no collector does.
func TestBadRequests(t *testing.T) {
	s := start(t, Limits{})
	config, err := s.files("shop-1").ClientTLS()
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}}
	t.Cleanup(client.CloseIdleConnections)
	for name, test := range map[string]struct {
		query string
		body  []byte
		want  int
	}{
		"nothing":         {"version=1", nil, 400},
		"half an element": {"version=1", make([]byte, 16), 400},
		"the identity":    {"version=1", make([]byte, 32), 400},
		"no element":      {"version=1", bytes.Repeat([]byte{0xff}, 32), 400},
		"no version":      {"", make([]byte, 32), 400},
		"another version": {"version=2", make([]byte, 32), 404},
		"too many":        {"version=1", make([]byte, 32*seal.MaxElements+1), 413},
	} {
		response, err := client.Post(s.url+path+"?"+test.query, contentType, bytes.NewReader(test.body))
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if response.StatusCode != test.want || response.ProtoMajor != 2 || len(text) > 64 {
			t.Errorf("%s: %s %d, want %d", name, response.Proto, response.StatusCode, test.want)
		}
	}
	response, err := client.Get(s.url + path)
	if err != nil || response.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET: %v", err)
	}
}

func TestCertificatesAreNotOverwritten(t *testing.T) {
	dir, now := filepath.Join(t.TempDir(), "certs"), time.Now()
	if made, err := MakeCertificates(dir, []string{"pseudonyms.internal"}, []string{"shop-1"}, now); err != nil || len(made) != 6 {
		t.Fatalf("made %v, %v", made, err)
	}
	before, _ := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if made, err := MakeCertificates(dir, nil, []string{"shop-2"}, now); err != nil || len(made) != 2 {
		t.Errorf("a further collector: %v, %v", made, err)
	}
	if _, err := MakeCertificates(dir, nil, []string{"shop-1"}, now); err == nil {
		t.Error("a certificate was overwritten")
	}
	for _, name := range []string{"ca", "service", "../x", "A", ""} {
		if _, err := MakeCertificates(dir, nil, []string{name}, now); err == nil {
			t.Errorf("the name %q was taken", name)
		}
	}
	after, _ := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if !bytes.Equal(before, after) {
		t.Error("the authority changed")
	}
	for _, name := range []string{"ca.key", "service.key", "shop-1.key"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzServe sends the service anything, and expects an answer of those that are
// documented.
func FuzzServe(f *testing.F) {
	s := start(f, Limits{})
	f.Add("version=1&proof=1", []byte{1, 2, 3})
	f.Add("version=1", make([]byte, 64))
	f.Fuzz(func(t *testing.T, query string, body []byte) {
		r := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body))
		r.URL.RawQuery = query
		r.TLS = &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{DNSNames: []string{"shop-1"}}}}}
		w := httptest.NewRecorder()
		s.server.Handler().ServeHTTP(w, r)
		switch w.Code {
		case http.StatusOK:
			if n := w.Body.Len(); n != len(body) && n != len(body)+seal.ProofSize {
				t.Errorf("%d bytes for %d", n, len(body))
			}
		case http.StatusBadRequest, http.StatusNotFound, http.StatusRequestEntityTooLarge:
		default:
			t.Errorf("status %d", w.Code)
		}
	})
}

// BenchmarkService asks over mutual TLS on this machine.
func BenchmarkService(b *testing.B) {
	s := start(b, Limits{})
	p := s.pseudonymizer(b, s.client(b, "shop-1"))
	for _, size := range []int{1, 64} {
		b.Run(fmt.Sprintf("verified/batch of %d", size), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				batch := p.Batch()
				for j := range size {
					_, _ = batch.Pseudonym(seal.UserID, fmt.Sprint(size, " ", i, " ", j))
				}
				if err := batch.Fetch(context.Background()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/float64(size), "µs/id")
		})
	}
}
