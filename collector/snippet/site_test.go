//go:build browser

package snippet_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/collector/snippet"
	"github.com/sluis-cdp/sluis/collector/snippet/browsertest"
	"github.com/sluis-cdp/sluis/collector/spool"
	"github.com/sluis-cdp/sluis/consent"
	"github.com/sluis-cdp/sluis/consent/seal"
)

// patience is how long to wait for what must come; the machine may be busy.
const patience = time.Minute

// site is a shop with a real collector below the path /s/ of its origin: handler, spool and loader, landing in memory.
type site struct {
	url       string
	elsewhere string // another origin that pages may have
	tag       snippet.Tag

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced whenever something below changes
	requests []request     // to the collector, but for the scripts
	rows     collector.Rows
	pages    map[string]string // HTML by path; any other path has the usual page
	policy   string            // Content-Security-Policy of every page
	gate     chan struct{}     // the script is served when it is closed
	failing  bool              // the collector answers 503
}

// request is one that the collector got.
type request struct {
	Path    string
	Status  int
	Cookies map[string]string
	Body    body
}

type body struct {
	WriteKey    string
	SentAt      time.Time
	Reset       bool
	Purposes    map[string]bool
	UserID      string
	AnonymousID string
	Context     struct {
		Consent struct{ CategoryPreferences map[string]bool }
		Library struct{ Name, Version string }
	}
	Batch []message
}

type message struct {
	Type, Event, Name, UserID, AnonymousID, MessageID, GroupID, PreviousID, Category string
	OriginalTimestamp                                                                time.Time
	Properties, Traits, Integrations                                                 map[string]any
	Context                                                                          struct {
		Page map[string]string
		IP   string
	}
}

// sink keeps what lands.
type sink struct{ *site }

func (sink) Position(context.Context, string) (next, until uint64, err error) { return 0, 0, nil }

func (s sink) Land(_ context.Context, b collector.Batch) error {
	s.change(func() {
		s.rows.Events = append(s.rows.Events, b.Events...)
		s.rows.Consents = append(s.rows.Consents, b.Consents...)
		s.rows.Ledger = append(s.rows.Ledger, b.Ledger...)
	})
	return nil
}

func (s *site) change(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do()
	close(s.changed)
	s.changed = make(chan struct{})
}

// until waits for a condition on what the collector got.
func (s *site) until(t testing.TB, what string, yes func() bool) {
	t.Helper()
	deadline := time.After(patience)
	for {
		s.mu.Lock()
		ok, changed := yes(), s.changed
		s.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			s.mu.Lock()
			defer s.mu.Unlock()
			t.Fatalf("%s: not within %s; the collector got %+v", what, patience, s.requests)
		}
	}
}

// untilEvent waits for a track event to land.
func (s *site) untilEvent(t testing.TB, name string) {
	t.Helper()
	s.until(t, name+" landing", func() bool {
		return slices.ContainsFunc(s.rows.Events, func(e collector.EventRow) bool { return e.Event == name })
	})
}

// got are the requests so far.
func (s *site) got() []request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// landed are the rows so far.
func (s *site) landed() collector.Rows {
	s.mu.Lock()
	defer s.mu.Unlock()
	return collector.Rows{Events: slices.Clone(s.rows.Events), Consents: slices.Clone(s.rows.Consents), Ledger: slices.Clone(s.rows.Ledger)}
}

// messages are all that the collector got, in order.
func (s *site) messages() []message {
	var all []message
	for _, r := range s.got() {
		all = append(all, r.Body.Batch...)
	}
	return all
}

// names are the messages as words: the event of a track, the type and path of
// a page view, the type of anything else. One that came again is there once: a
// page that ends before it has its answer cannot know that it came.
func (s *site) names() []string {
	var names []string
	known := make(map[string]bool)
	for _, m := range s.messages() {
		if known[m.MessageID] {
			continue
		}
		known[m.MessageID] = true
		switch m.Type {
		case "track":
			names = append(names, m.Event)
		case "page":
			names = append(names, "page "+m.Context.Page["path"])
		default:
			names = append(names, m.Type)
		}
	}
	return names
}

// newSite starts a shop with an identity mode, for pages of its own origin and,
// if need be, of others.
func newSite(t testing.TB, identity collector.Identity, origins ...string) *site {
	t.Helper()
	s := &site{changed: make(chan struct{}), pages: make(map[string]string), gate: make(chan struct{})}
	close(s.gate)
	server := httptest.NewServer(s.handler(newCollector(t, s, identity, origins)))
	t.Cleanup(server.Close)
	s.url = server.URL
	s.tag = snippet.Tag{Collector: server.URL + "/s", WriteKey: "wk_web", Identity: string(identity), MaxAge: 180 * 24 * time.Hour}
	return s
}

func newCollector(t testing.TB, s *site, identity collector.Identity, origins []string) http.Handler {
	t.Helper()
	ctx := context.Background()
	keys := seal.Dir(filepath.Join(t.TempDir(), "keys"))
	purposes := []string{"necessary", "marketing"}
	policy, err := consent.NewPolicy(consent.PolicyConfig{Version: "1"})
	must(t, err, seal.Generate(keys, purposes))
	pseudonymizer, err := seal.NewPseudonymizer(ctx, keys, "test", "NL")
	must(t, err)
	sealer, err := seal.NewSealer(ctx, keys, "test", purposes)
	must(t, err)
	queue, err := spool.Open(spool.Options{Dir: filepath.Join(t.TempDir(), "spool"), SegmentBytes: 1 << 20})
	must(t, err)
	c, err := collector.New(collector.Config{
		Sources: []collector.Source{{ID: "web", WriteKey: "wk_web", Origins: origins, Identity: identity, Denied: collector.Count}},
		Policy:  policy, Pseudonymizer: pseudonymizer, Sealer: sealer, SealFor: []consent.Purpose{consent.Marketing},
		CookieKey: bytes.Repeat([]byte{3}, 32), Spool: queue, PathPrefix: "/s",
	})
	must(t, err)
	loader := collector.Loader{Spool: queue, Sink: sink{s}, Logger: slog.New(slog.DiscardHandler), Every: time.Millisecond}
	ended := make(chan error, 1)
	go func() { ended <- loader.Run(ctx) }()
	t.Cleanup(func() { must(t, queue.Close(), <-ended) })
	return c.Handler()
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// handler serves the shop, and what browsers ask of the collector.
func (s *site) handler(collector http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /s/", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		gate := s.gate
		s.mu.Unlock()
		select {
		case <-gate:
			collector.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("POST /s/", func(w http.ResponseWriter, r *http.Request) { s.record(w, r, collector) })
	mux.HandleFunc("OPTIONS /s/", func(w http.ResponseWriter, r *http.Request) { s.record(w, r, collector) }) // there should be none
	mux.HandleFunc("GET /open", func(http.ResponseWriter, *http.Request) { close(s.gate) })
	mux.HandleFunc("GET /favicon.ico", http.NotFound)
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		html, ok := s.pages[r.URL.Path]
		policy := s.policy
		s.mu.Unlock()
		if !ok {
			html = s.usual("", "")
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		if policy != "" {
			w.Header().Set("Content-Security-Policy", policy)
		}
		fmt.Fprint(w, html)
	})
	return mux
}

// usual is the page of a shop, with scripts before and after the snippet.
func (s *site) usual(before, after string) string {
	return "<!doctype html><meta charset=utf-8><title>Shop</title>" + before + s.tag.InlineStub() + s.tag.Script() + after + "<h1>Shop</h1>"
}

func (s *site) record(w http.ResponseWriter, r *http.Request, next http.Handler) {
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return // the page is gone
	}
	got := request{Path: strings.TrimPrefix(r.URL.Path, "/s/"), Cookies: make(map[string]string)}
	if r.Method != http.MethodPost {
		got.Path = r.Method + " " + got.Path
	} else if err := json.Unmarshal(text, &got.Body); err != nil {
		got.Path = err.Error()
	}
	for _, cookie := range r.Cookies() {
		got.Cookies[cookie.Name] = cookie.Value
	}
	// The request is noted before the collector has it: what landed was asked for.
	var n int
	var failing bool
	s.change(func() {
		if failing = s.failing; failing {
			got.Body.Batch = nil
		}
		n = len(s.requests)
		s.requests = append(s.requests, got)
	})
	answer := httptest.NewRecorder()
	if failing {
		answer.Header().Set("Retry-After", "3")
		answer.Code = http.StatusServiceUnavailable
	} else {
		r.Body = io.NopCloser(bytes.NewReader(text))
		next.ServeHTTP(answer, r)
	}
	maps.Copy(w.Header(), answer.Header())
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes()) // the page may be gone
	s.change(func() { s.requests[n].Status = answer.Code })
}

// chromium is the browser that all tests share, each with a context of its own,
// which is as a person: storage, cookies and cache.
var chromium context.Context

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) (code int) {
	browser, stop, err := browsertest.Start()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() {
		if err := stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}()
	chromium = browser //nolint:fatcontext // set once, before the tests
	return m.Run()
}

// tab is one of a person's browser.
type tab struct {
	ctx   context.Context
	site  *site
	mu    sync.Mutex
	hosts map[string]bool // that it asked for something
}

// visit opens the first tab of a new person; scripts run before those of each
// page.
func (s *site) visit(t testing.TB, scripts ...string) *tab {
	t.Helper()
	return s.newTab(t, chromium, scripts, chromedp.WithNewBrowserContext())
}

// another opens a tab of the same person.
func (b *tab) another(t testing.TB, scripts ...string) *tab {
	t.Helper()
	return b.site.newTab(t, b.ctx, scripts)
}

func (s *site) newTab(t testing.TB, parent context.Context, scripts []string, options ...chromedp.ContextOption) *tab {
	t.Helper()
	b := &tab{site: s, hosts: make(map[string]bool)}
	ctx, cancel := chromedp.NewContext(parent, append(options, chromedp.WithListener(b.hear))...)
	t.Cleanup(cancel)
	b.ctx = ctx
	must(t, chromedp.Do(b.ctx))
	call(t, b, network.Enable, network.EnableParams{})
	call(t, b, page.Enable, page.EnableParams{})
	for _, script := range append(scripts, "addEventListener('securitypolicyviolation', e => (window.violations ||= []).push(e.violatedDirective))") {
		call(t, b, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: script})
	}
	// Whatever a test does, the pages ask nobody but the shop.
	t.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.hosts) == 0 {
			t.Error("no request was seen at all")
		}
		for host := range b.hosts {
			if host != s.url && host != s.elsewhere {
				t.Errorf("a request went to %s", host)
			}
		}
	})
	return b
}

// hear notes whom the tab asks for anything.
func (b *tab) hear(event any) {
	e, ok := event.(*network.EventRequestWillBeSent)
	if !ok {
		return
	}
	if u, err := url.Parse(e.Request.URL); err == nil && u.Host != "" {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.hosts[u.Scheme+"://"+u.Host] = true
	}
}

// close closes the tab, as a person does. Its context lives on: the first one is
// the person.
func (b *tab) close(t testing.TB) {
	t.Helper()
	call(t, b, page.Close, cdp.Empty{})
}

// call sends a command of the browser's protocol.
func call[P, R any](t testing.TB, b *tab, command cdp.Command[P, R], params P) R {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	result, err := chromedp.Call(ctx, command, params)
	must(t, err)
	return result
}

// open goes to a page, and returns when the snippet is there.
func (b *tab) open(t testing.TB, path string) {
	t.Helper()
	b.navigate(t, chromedp.Navigate(b.site.url+path))
	b.ready(t)
}

func (b *tab) navigate(t testing.TB, how chromedp.Action[chromedp.Void]) {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	must(t, chromedp.Do(ctx, how))
}

func (b *tab) ready(t testing.TB) {
	t.Helper()
	b.do(t, "await new Promise(done => sluis.ready(() => done()))")
}

// do runs a script in the page, and waits for its promise.
func (b *tab) do(t testing.TB, script string) {
	t.Helper()
	value[chromedp.Void](t, b, "(async () => { "+script+" })()")
}

func value[T any](t testing.TB, b *tab, script string) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
	must(t, err)
	return v
}

// stored is what is on the device: the entries of localStorage and
// sessionStorage, the cookies that scripts see, databases and caches.
func (b *tab) stored(t testing.TB) []string {
	t.Helper()
	return value[[]string](t, b, `(async () => [...Object.keys(localStorage), ...Object.keys(sessionStorage),
		...document.cookie.split('; ').filter(Boolean), ...(await indexedDB.databases()).map(d => d.name), ...await caches.keys()].sort())()`)
}

// cookies are all, also those that scripts do not see.
func (b *tab) cookies(t testing.TB) map[string]string {
	t.Helper()
	cookies := make(map[string]string)
	for _, cookie := range call(t, b, network.GetCookies, network.GetCookiesParams{}).Cookies {
		cookies[cookie.Name] = cookie.Value
	}
	return cookies
}

// until waits for a condition in the page.
func (b *tab) until(t testing.TB, condition string) {
	t.Helper()
	b.do(t, "await new Promise(done => { const look = () => ("+condition+") ? done() : setTimeout(look, 20); look() })")
}

// eventually asks until the answer is yes.
func eventually(t testing.TB, what string, yes func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(patience); !yes(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}
