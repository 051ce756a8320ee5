package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/sluis-cdp/sluis/cmd/internal/canary"
	"github.com/sluis-cdp/sluis/cmd/internal/tracing/tracingtest"
	"github.com/sluis-cdp/sluis/consent/seal"
	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/plugins/googleads/googleadstest"
	"github.com/sluis-cdp/sluis/plugins/host"
	"github.com/sluis-cdp/sluis/plugins/hubspot/hubspottest"
	"github.com/sluis-cdp/sluis/plugins/intercom/intercomtest"
	"github.com/sluis-cdp/sluis/plugins/klaviyo/klaviyotest"
	"github.com/sluis-cdp/sluis/plugins/limits"
	"github.com/sluis-cdp/sluis/plugins/meta/metatest"
	"github.com/sluis-cdp/sluis/plugins/postgres/postgrestest"
	"github.com/sluis-cdp/sluis/plugins/slack/slacktest"
	"github.com/sluis-cdp/sluis/sql/duckdb"
	"github.com/sluis-cdp/sluis/sql/warehouse"
	syncer "github.com/sluis-cdp/sluis/sync"
)

// TestFailuresLeakNothing has every built-in destination fail in every way while
// it holds people's addresses: what refuses a request repeats it, connections
// break, hang and are cut off, and the plugin's process panics with what it was
// given. No address is in an error, a log, the history, the state or a trace, in any
// form.
func TestFailuresLeakNothing(t *testing.T) {
	for name := range builtin() {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they wait for time limits
			f := newFailing(t, name)
			outside, ok := outsides[name]
			if !ok {
				t.Fatal("no outside system for this destination")
			}
			var happened func() map[string]int
			f.sync.Config, happened = outside(t, f)
			never := func() (kinds []string) {
				for kind, times := range happened() {
					if times == 0 {
						kinds = append(kinds, kind)
					}
				}
				return kinds
			}
			for turn := 0; turn < 6 && (turn == 0 || len(never()) > 0); turn++ {
				f.run("plugin") // one ends soon if nothing is taken at all
			}
			f.run(panics)
			if kinds := never(); len(kinds) > 0 {
				t.Errorf("it never came to %q", kinds)
			}
			if !strings.Contains(f.said.String(), "panicked with a string") || !strings.Contains(f.said.String(), "panic: […]") {
				t.Errorf("no panic was told of:\n%s", f.said.String())
			}
			f.search()
		})
	}
}

// outsides are what destinations send to. Each tells how often it has failed in
// which way.
var outsides = map[string]func(*testing.T, *failing) (syncer.Settings, func() map[string]int){
	"webhook": func(t *testing.T, f *failing) (syncer.Settings, func() map[string]int) {
		p := f.before(t, "http://127.0.0.1:9") // nothing gets that far: all that it sends has addresses
		return syncer.Settings{"url": p.URL, "allow_private": "true", "secret": "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "timeout": "1s"}, p.times
	},
	"slack": func(t *testing.T, f *failing) (syncer.Settings, func() map[string]int) {
		server := slacktest.New()
		t.Cleanup(server.Close)
		u, _ := url.Parse(server.URL)
		p := f.before(t, "http://"+u.Host)
		return syncer.Settings{"url": p.URL + u.Path, "text": "{email} came"}, p.times
	},
	"hubspot": func(t *testing.T, f *failing) (syncer.Settings, func() map[string]int) {
		server := hubspottest.New()
		t.Cleanup(server.Close)
		p := f.before(t, server.URL)
		return syncer.Settings{"access_token": server.Token, "host": p.URL}, p.times
	},
	"klaviyo": func(t *testing.T, f *failing) (syncer.Settings, func() map[string]int) {
		server := klaviyotest.New()
		t.Cleanup(server.Close)
		p := f.before(t, server.URL)
		return syncer.Settings{"api_key": server.Key, "host": p.URL, "wait": "0s"}, p.times
	},
	"meta-audience": func(t *testing.T, f *failing) (syncer.Settings, func() map[string]int) {
		server := metatest.New("23842587999990123", "1")
		t.Cleanup(server.Close)
		p := f.before(t, server.URL)
		f.sync.Mapping[0].Field = "EMAIL"
		return syncer.Settings{"access_token": server.Token, "audience_id": "23842587999990123", "host": p.URL}, p.times
	},
	"meta-conversions": func(t *testing.T, f *failing) (syncer.Settings, func() map[string]int) {
		server := metatest.New("23842587999990123", "1")
		t.Cleanup(server.Close)
		p := f.before(t, server.URL)
		purchase, email := "Purchase", "email"
		f.sync.Mode = syncer.ModeUpsert
		f.sync.Mapping[0].Field = "em"
		f.sync.Mapping = append(f.sync.Mapping, syncer.Field{Field: "event_name", Value: &purchase},
			syncer.Field{Field: "event_time", Column: "at"}, syncer.Field{Field: "action_source", Value: &email})
		return syncer.Settings{"access_token": server.Token, "dataset_id": "1", "host": p.URL}, p.times
	},
	"googleads": func(t *testing.T, f *failing) (syncer.Settings, func() map[string]int) {
		server := googleadstest.New()
		t.Cleanup(server.Close)
		p := f.before(t, server.URL)
		f.sync.Mapping[0].Field = "email_address"
		return syncer.Settings{
			"credentials": server.ServiceAccount(), "customer_id": googleadstest.Customer, "login_customer_id": googleadstest.Manager,
			"user_list_id": googleadstest.List, "customer_match_terms": "accepted", "consent_purpose": "marketing", "host": p.URL,
		}, p.times
	},
	"intercom": func(t *testing.T, f *failing) (syncer.Settings, func() map[string]int) {
		server := intercomtest.New()
		t.Cleanup(server.Close)
		p := f.before(t, server.URL)
		return syncer.Settings{"access_token": server.Token, "host": p.URL}, p.times
	},
	"postgres": failingTable,
	"file": func(t *testing.T, f *failing) (syncer.Settings, func() map[string]int) {
		dir, gone := filepath.Join(t.TempDir(), "out"), 0
		f.beforeRun = func() { _ = os.MkdirAll(dir, 0o700) }
		f.beforeWrite = func() {
			_ = os.RemoveAll(dir)
			gone++
		}
		return syncer.Settings{"directory": dir}, func() map[string]int { return map[string]int{"a directory that is gone": gone} }
	},
}

// failing is a syncer whose people's addresses are canaries.
type failing struct {
	t           *testing.T
	engine      *syncer.Syncer
	sync        syncer.Sync
	path        string
	canaries    canary.Set
	said        lockedBuffer // logs, errors and results
	as          string       // what plugins are started as
	traces      *tracingtest.Collector
	tracer      trace.Tracer
	beforeRun   func()
	beforeWrite func()
}

// run sends every row, and keeps what is said of it.
func (f *failing) run(as string) {
	f.t.Helper()
	f.as = as
	if f.beforeRun != nil {
		f.beforeRun()
	}
	ctx, span := f.tracer.Start(f.t.Context(), "test")
	run, err := f.engine.Run(ctx, f.sync, syncer.Options{})
	span.End()
	fmt.Fprintln(&f.said, run, err)
	if err := f.engine.Resync(f.t.Context(), f.sync); err != nil {
		f.t.Fatal(err)
	}
}

const panics = "plugin-that-panics"

func newFailing(t *testing.T, name string) *failing {
	f := &failing{t: t, path: filepath.Join(t.TempDir(), "w.duckdb"), traces: tracingtest.Start(t)}
	exporter, err := otlptracehttp.New(t.Context(), otlptracehttp.WithEndpointURL(f.traces.URL+"/v1/traces"))
	if err != nil {
		t.Fatal(err)
	}
	f.tracer = sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter)).Tracer("test")
	f.sync = syncer.Sync{
		Name: "members", File: "syncs/members.yaml", Model: "members", Key: "profile_id", Profile: "profile_id", Purpose: "marketing",
		Destination: name, Mapping: []syncer.Field{{Field: "email", Sealed: "email"}}, Mode: syncer.ModeMirror, BatchRows: 1,
	}
	addresses := map[string]string{} // by token
	db, err := f.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	statements := []string{
		`CREATE TABLE sluis_models.members AS SELECT 'pr_' || i AS profile_id, now() AS at FROM range(8) r(i)`,
		`CREATE TABLE sluis_models.consent_profile AS SELECT profile_id, 'marketing' AS purpose, TRUE AS allowed, 'd' AS decision_id, '1' AS policy_version, now() AS decided_at FROM sluis_models.members`,
		`CREATE TABLE sluis_models.profile_sealed AS SELECT profile_id, 'email' AS field, 'marketing' AS purpose, 'ps_' || profile_id AS pseudonym, 'k' AS key_id,
			'\x01'::BLOB AS ciphertext, 't_' || profile_id AS token, 'd' AS decision_id, now() AS received_at FROM sluis_models.members`,
	}
	for _, statement := range statements {
		if err := db.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		addresses[fmt.Sprint("t_pr_", i)] = f.canaries.Email("a member", i)
	}
	keys := seal.Dir(t.TempDir())
	if _, err := seal.OpenFolder(keys, nil).Init(t.Context(), []string{"marketing"}, seal.Secrets{Make: []string{seal.KeyRemovals}}); err != nil {
		t.Fatal(err)
	}
	keeper, err := seal.NewKeeper(t.Context(), keys, "shop")
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.NewTextHandler(&f.said, &slog.HandlerOptions{Level: slog.LevelDebug}))
	path, digest, err := host.Self()
	if err != nil {
		t.Fatal(err)
	}
	var accounts limits.Accounts
	f.engine, err = syncer.New(syncer.Config{
		Open: f.open,
		Connect: func(ctx context.Context, s syncer.Sync) (destination.Destination, error) {
			plugin, err := host.Start(ctx, host.Config{Name: name, Path: path, Args: []string{f.as, s.Destination}, SHA256: digest, StartTimeout: time.Minute, Logger: logger})
			if err != nil {
				return nil, err
			}
			return &watched{&connected{Plugin: plugin, sync: s, pacer: accounts.Of(plugin.Describe(), s.Config, nil)}, f}, nil
		},
		Unseal: func(_ context.Context, s syncer.Sealed) (string, error) { return addresses[s.Token], nil },
		Keep: func(_ context.Context, sync, key, value string) (string, error) {
			return keeper.Seal(sync, key, value), nil
		},
		Recall: func(_ context.Context, sync, key, sealed string) (string, error) {
			return keeper.Open(sync, key, sealed)
		},
		Logger:       logger,
		WriteTimeout: 10 * time.Second,
		Wait:         func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
		Attempts:     4,
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// open opens the warehouse, with the record of a key as if it had landed.
func (f *failing) open(ctx context.Context) (warehouse.Driver, error) {
	db, err := duckdb.Open(ctx, duckdb.Config{Path: f.path, Holder: "test"})
	if err != nil {
		return nil, err
	}
	return db, db.Exec(ctx, `CREATE OR REPLACE VIEW sluis.seal_keys AS
		SELECT 'k' AS key_id, 'marketing' AS purpose, 'r' AS recipient, 'p' AS psk_id, '\x01'::BLOB AS encapsulated_key`)
}

// watched is a destination that a test looks over the shoulder of.
type watched struct {
	*connected
	f *failing
}

func (w *watched) Write(ctx context.Context, batch destination.Batch) ([]destination.Result, error) {
	if w.f.beforeWrite != nil {
		w.f.beforeWrite()
	}
	return w.connected.Write(ctx, batch)
}

// panicking panics with what it is given: first where the SDK can catch it, then
// where nobody can.
type panicking struct {
	destination.Destination
	writes int
}

func (p *panicking) Write(_ context.Context, batch destination.Batch) ([]destination.Result, error) {
	words := fmt.Sprintf("cannot write\n%v", batch.Changes)
	if p.writes++; p.writes > 1 {
		go panic(words)
		select {}
	}
	panic(words)
}

// search looks for the addresses wherever something was written.
func (f *failing) search() {
	f.t.Helper()
	ctx := context.Background()
	runs, err := f.engine.History(ctx, f.sync.Name, 10)
	deliveries, failed := f.engine.Deliveries(ctx, f.sync.Name, "", 1000)
	text, unreadable := json.Marshal([]any{runs, deliveries})
	db, closed := f.open(ctx)
	if err := errors.Join(err, failed, unreadable, closed); err != nil {
		f.t.Fatal(err)
	}
	if len(runs) == 0 || len(deliveries) < 3 {
		f.t.Fatalf("%d runs and %d deliveries: nothing was tested", len(runs), len(deliveries))
	}
	s := newProveSearch(f.canaries.All(), nil)
	s.in(s.place("what was said"), "", []byte(f.said.String()), nil)
	s.in(s.place("history"), "", text, nil)
	s.in(s.place("traces"), "", bytes.Join(f.traces.Bodies(), nil), nil)
	if tree := f.traces.Tree(); strings.Count(tree, "window ") < 3 || !strings.Contains(tree, "write error=write_failed") {
		f.t.Errorf("the traces tell of no failure:\n%s", tree)
	}
	err = errors.Join(s.warehouse(ctx, db), db.Close())
	file, unreadable := os.ReadFile(f.path)
	if err := errors.Join(err, unreadable); err != nil {
		f.t.Fatal(err)
	}
	s.in(s.place("warehouse, as bytes"), "", file, nil)
	for _, place := range s.places {
		for _, hit := range place.Hits {
			f.t.Errorf("%s: %+v", place.Name, hit)
		}
	}
	if f.t.Failed() {
		f.t.Log(f.said.String())
	}
}

// hostile is a proxy that answers requests with an address in them in bad ways,
// by turns.
type hostile struct {
	URL    string
	search *canary.Search
	mu     sync.Mutex
	n      int
	kinds  map[string]int
}

func (h *hostile) times() map[string]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.kinds)
}

// before starts one before a server.
func (f *failing) before(t *testing.T, server string) *hostile {
	t.Helper()
	to, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	h := &hostile{search: canary.NewSearch(f.canaries.All()), kinds: map[string]int{}}
	for kind := range hostilities {
		h.kinds[kind] = 0
	}
	forward := &httputil.ReverseProxy{
		Rewrite:  func(r *httputil.ProxyRequest) { r.SetURL(to) },
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if len(h.search.In(append([]byte(r.URL.String()), body...))) == 0 {
			forward.ServeHTTP(w, r)
			return
		}
		h.mu.Lock()
		kind := slices.Sorted(maps.Keys(hostilities))[h.n%len(hostilities)]
		h.n++
		h.kinds[kind]++
		h.mu.Unlock()
		hostilities[kind](w, r, append([]byte(r.URL.String()+" "), body...))
	}))
	t.Cleanup(front.Close)
	h.URL = front.URL
	return h
}

var hostilities = map[string]func(http.ResponseWriter, *http.Request, []byte){
	"1 a refusal that repeats it": func(w http.ResponseWriter, _ *http.Request, body []byte) { repeat(w, http.StatusBadRequest, body) },
	"2 a reset": func(w http.ResponseWriter, _ *http.Request, _ []byte) {
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_ = conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
		}
	},
	"3 a failure that repeats it": func(w http.ResponseWriter, _ *http.Request, body []byte) {
		repeat(w, http.StatusInternalServerError, body)
	},
	"4 success that repeats it": func(w http.ResponseWriter, _ *http.Request, body []byte) { repeat(w, http.StatusOK, body) },
	"5 an answer cut off": func(w http.ResponseWriter, _ *http.Request, body []byte) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", "100000")
		fmt.Fprintf(w, `{"results":[{"index":0,"code":%q,"error":%[1]q`, body)
	},
	"6 an answer that is no JSON": func(w http.ResponseWriter, _ *http.Request, body []byte) {
		w.Header().Set("Content-Type", "application/json")
		w.Write(body[:len(body)-1])
	},
	"7 no answer": func(_ http.ResponseWriter, r *http.Request, _ []byte) { <-r.Context().Done() },
}

// repeat answers with what was sent, where interfaces have their words.
func repeat(w http.ResponseWriter, status int, body []byte) {
	text := string(body)
	answer := map[string]any{
		"message": text, "category": text, "detail": text, "error": map[string]any{"message": text, "error_user_msg": text, "type": text, "code": 100},
		"errors":  []any{map[string]any{"message": text, "detail": text, "code": text, "title": text}},
		"results": []any{map[string]any{"index": 0, "code": text, "error": text}},
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Echo", url.QueryEscape(text))
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer)
}

// failingTable is a table whose trigger fails with the row's address.
func failingTable(t *testing.T, _ *failing) (syncer.Settings, func() map[string]int) {
	server, err := postgrestest.Start(context.WithoutCancel(t.Context()))
	if errors.Is(err, postgrestest.ErrNotInstalled) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	conn, err := pgx.Connect(t.Context(), server.SocketURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	_, err = conn.Exec(t.Context(), `CREATE SEQUENCE turn; CREATE TABLE members (key text PRIMARY KEY, email text);
		CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			CASE nextval('turn') % 6
				WHEN 0 THEN RAISE EXCEPTION '%', NEW.email;
				WHEN 1 THEN RAISE EXCEPTION USING MESSAGE = NEW.email, DETAIL = NEW.email, HINT = NEW.email, ERRCODE = '40001';
				WHEN 2 THEN PERFORM pg_terminate_backend(pg_backend_pid());
				WHEN 3 THEN EXECUTE NEW.email;
				WHEN 4 THEN PERFORM pg_sleep(60);
				ELSE NULL;
			END CASE;
			RETURN NEW; END $$;
		CREATE TRIGGER fail BEFORE INSERT OR UPDATE ON members FOR EACH ROW EXECUTE FUNCTION fail()`)
	if err != nil {
		t.Fatal(err)
	}
	return syncer.Settings{"url": server.SocketURL(), "table": "members", "key": "key", "timeout": "2s"}, func() map[string]int {
		var n int
		if err := conn.QueryRow(context.Background(), "SELECT last_value FROM turn").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return map[string]int{"all six": max(0, n-5)}
	}
}
