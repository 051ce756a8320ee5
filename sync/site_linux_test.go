package syncer_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sluis-cdp/sluis/plugins/postgres/postgrestest"
)

// site is the outside system of a destination, whose own process is the test. It
// outlives hosts and plugins, and can be put back to how it was.
type site interface {
	settings() map[string]string
	// befall has something happen to the nth request from now on, before it is
	// done or, if after is true, when it is and has no answer yet. do may be nil.
	befall(n int, after bool, do func() fate)
	down(bool)     // does not take connections
	stopped(bool)  // a plugin is stopped, and its connections stay
	requests() int // since befall
	save()
	restore()
	members() map[string]string
	// check tells what came since it was last asked that should not have, by who
	// allows it and which changes were acknowledged before.
	check(allowed func(key string) bool, acknowledged map[string]bool) []string
}

// fate is what becomes of a request.
type fate string

const (
	answered fate = ""
	reset    fate = "reset the connection"
	silence  fate = "no answer"
	busy     fate = "503"
	broken   fate = "500"
	garbled  fate = "an answer cut off"
)

// trap is what waits for a request.
type trap struct {
	mu     sync.Mutex
	n      int // requests so far
	at     int
	after  bool
	do     func() fate
	closed bool
	idle   bool // connections may be
}

func (t *trap) befall(n int, after bool, do func() fate) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n, t.at, t.after, t.do = 0, n, after, do
}

func (t *trap) down(yes bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = yes
}

func (t *trap) stopped(yes bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.idle = yes
}

func (t *trap) requests() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.n
}

// arrives counts a request, and says what is to become of it.
func (t *trap) arrives() (before, after func() fate, open bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	nothing := func() fate { return answered }
	if t.closed {
		return nothing, nothing, false
	}
	t.n++
	switch {
	case t.do == nil || t.n != t.at:
		return nothing, nothing, true
	case t.after:
		return nothing, t.do, true
	}
	return t.do, nothing, true
}

// webhookSite is a receiver of webhooks: it verifies signatures, and does what
// has an id once.
type webhookSite struct {
	trap
	server *httptest.Server
	state  webhookState
	saved  webhookState
	sent   []webhookRow // since the last check
	wrong  []string
}

type webhookState struct {
	members map[string]string
	batches map[string]string // their rows, by webhook-id
	changes map[string]string // what each asks for, by id
	latest  map[string]string // by key the id of the latest change
	past    map[string]bool   // ids that another of the same key has overtaken
}

func (s webhookState) clone() webhookState {
	return webhookState{
		maps.Clone(s.members), maps.Clone(s.batches), maps.Clone(s.changes), maps.Clone(s.latest), maps.Clone(s.past),
	}
}

type webhookRow struct {
	Op, ID, Key string
	Fields      map[string]any
}

const webhookKey = "0123456789abcdef0123456789abcdef"

func newWebhookSite(t *testing.T) *webhookSite {
	s := &webhookSite{state: webhookState{map[string]string{}, map[string]string{}, map[string]string{}, map[string]string{}, map[string]bool{}}}
	s.server = httptest.NewServer(s)
	t.Cleanup(s.server.Close)
	return s
}

func (s *webhookSite) settings() map[string]string {
	return map[string]string{
		"url": s.server.URL, "allow_private": "true", "timeout": "1s",
		"secret": "whsec_" + base64.StdEncoding.EncodeToString([]byte(webhookKey)),
	}
}

func (s *webhookSite) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the sender died
	}
	before, after, open := s.arrives()
	if !open || s.plays(w, r, before()) {
		hangUp(w)
		return
	}
	s.take(r.Header, body)
	if s.plays(w, r, after()) {
		hangUp(w)
	}
}

// plays acts out a fate; unless that is to be answered, it is then to hang up.
func (*webhookSite) plays(w http.ResponseWriter, r *http.Request, f fate) (over bool) {
	switch f {
	case answered:
		return false
	case reset:
	case silence:
		<-r.Context().Done()
	case busy:
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusServiceUnavailable)
		panic(http.ErrAbortHandler)
	case broken:
		w.WriteHeader(http.StatusInternalServerError)
	case garbled:
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, `{"results":[{"index":0`)
	}
	return true
}

// hangUp ends the connection with a reset, unless it has been answered.
func hangUp(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	_ = conn.(*net.TCPConn).SetLinger(0)
	_ = conn.Close()
}

// take does what a request asks for.
func (s *webhookSite) take(header http.Header, body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := header.Get("webhook-id")
	mac := hmac.New(sha256.New, []byte(webhookKey))
	fmt.Fprintf(mac, "%s.%s.%s", id, header.Get("webhook-timestamp"), body)
	if "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)) != header.Get("webhook-signature") {
		s.wrong = append(s.wrong, "a signature is wrong")
	}
	var message struct{ Data struct{ Rows []webhookRow } }
	if err := json.Unmarshal(body, &message); err != nil {
		s.wrong = append(s.wrong, err.Error())
	}
	s.once("batch "+id, s.state.batches, id, fmt.Sprint(message.Data.Rows))
	for _, row := range message.Data.Rows {
		s.sent = append(s.sent, row)
		if s.state.past[row.ID] {
			s.wrong = append(s.wrong, row.Key+" is sent as it was, after it was sent as it is")
		}
		if before := s.state.latest[row.Key]; before != "" && before != row.ID {
			s.state.past[before] = true
		}
		s.state.latest[row.Key] = row.ID
		if !s.once("change "+row.ID, s.state.changes, row.ID, fmt.Sprint(row)) {
			continue
		}
		if row.Op == "remove" {
			delete(s.state.members, row.Key)
		} else {
			s.state.members[row.Key] = fmt.Sprint([]any{row.Fields["tier"], row.Fields["visits"]})
		}
	}
}

// once reports whether an id is new. It always has to come with the same.
func (s *webhookSite) once(what string, known map[string]string, id, content string) bool {
	before, ok := known[id]
	if ok && before != content {
		s.wrong = append(s.wrong, what+" came with other contents")
	}
	known[id] = content
	return !ok
}

func (s *webhookSite) save()    { s.saved = s.state.clone() }
func (s *webhookSite) restore() { s.state, s.sent = s.saved.clone(), nil }

func (s *webhookSite) members() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.state.members)
}

func (s *webhookSite) check(allowed func(string) bool, acknowledged map[string]bool) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	wrong := s.wrong
	for _, row := range s.sent {
		if row.Op == "upsert" && !allowed(row.Key) {
			wrong = append(wrong, row.Key+" was sent without consent")
		}
		if acknowledged[row.ID] {
			wrong = append(wrong, row.Key+" was acknowledged, and is sent again")
		}
	}
	s.sent, s.wrong = nil, nil
	return wrong
}

// postgresSite is a table in a real PostgreSQL, which a trigger watches, and a
// proxy before it. A request is what the client sends at a time.
type postgresSite struct {
	trap
	t        *testing.T
	server   *postgrestest.Server
	conn     *pgx.Conn
	listener net.Listener
}

func newPostgresSite(t *testing.T) *postgresSite {
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
	s := &postgresSite{t: t, server: server, conn: conn}
	s.exec(`CREATE TABLE vips (key text PRIMARY KEY, tier text, visits bigint);
		CREATE TABLE sluis_ledger (id uuid PRIMARY KEY, recorded_at timestamptz NOT NULL DEFAULT now(), outcome smallint NOT NULL, code text NOT NULL);
		CREATE TABLE seen (n bigserial, tx xid8 DEFAULT pg_current_xact_id(), op text, key text);
		CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			INSERT INTO seen (op, key) VALUES (TG_OP, COALESCE(NEW.key, OLD.key)); RETURN NULL; END $$;
		CREATE TRIGGER watch AFTER INSERT OR UPDATE OR DELETE ON vips FOR EACH ROW EXECUTE FUNCTION watch()`)
	if s.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.listener.Close() })
	go s.proxy()
	return s
}

func (s *postgresSite) settings() map[string]string {
	return map[string]string{
		"url": fmt.Sprintf("postgres://%s@%s/postgres", postgrestest.User, s.listener.Addr()), "password": postgrestest.Password,
		"tls": "off", "table": "public.vips", "key": "key", "timeout": "1s",
	}
}

func (s *postgresSite) proxy() {
	for {
		client, err := s.listener.Accept()
		if err != nil {
			return
		}
		go s.carry(client.(*net.TCPConn))
	}
}

// carry carries a connection until one of its ends closes it, or what befalls a
// request does.
func (s *postgresSite) carry(client *net.TCPConn) {
	defer client.Close()
	opened, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.server.Port))
	if err != nil {
		return
	}
	server := opened.(*net.TCPConn)
	defer server.Close()
	answers := make(chan []byte)
	gone := make(chan struct{})
	defer close(gone)
	go func() {
		defer close(answers)
		for read(server, answers, gone) {
		}
	}()
	asks := make(chan []byte)
	go func() {
		defer close(asks)
		for read(client, asks, gone) {
		}
	}()
	after := func() fate { return answered }
	for {
		select {
		case bytes, ok := <-asks:
			if !ok {
				return
			}
			before, then, open := s.arrives()
			if !open || endsWith(before(), client, asks) {
				return
			}
			after = then
			if _, err := server.Write(bytes); err != nil {
				return
			}
		case bytes, ok := <-answers: // so the server has done it
			if !ok || endsWith(after(), client, asks) {
				return
			}
			after = func() fate { return answered }
			if _, err := client.Write(bytes); err != nil {
				return
			}
		}
	}
}

func read(from io.Reader, to chan<- []byte, gone <-chan struct{}) bool {
	buffer := make([]byte, 64<<10)
	n, err := from.Read(buffer)
	if n > 0 {
		select {
		case to <- buffer[:n]:
		case <-gone:
			return false
		}
	}
	return err == nil
}

// endsWith acts out a fate that ends a connection.
func endsWith(f fate, client *net.TCPConn, asks <-chan []byte) bool {
	switch f {
	case answered:
		return false
	case silence:
		for range asks { // until the client has had enough
		}
	case reset, busy, broken, garbled:
		_ = client.SetLinger(0)
	}
	return true
}

// quiet waits until no connection of a plugin is left, which may still commit
// when its client is gone; or until those of one that is stopped do nothing.
func (s *postgresSite) quiet() {
	s.t.Helper()
	which := "application_name = 'sluis'"
	if s.idle {
		which += " AND state <> 'idle'"
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for s.rows("SELECT count(*)::text FROM pg_stat_activity WHERE " + which)[0] != "0" {
		<-tick.C
	}
}

func (s *postgresSite) exec(sql string) {
	s.t.Helper()
	if _, err := s.conn.Exec(context.Background(), sql); err != nil {
		s.t.Fatal(err)
	}
}

func (s *postgresSite) save() {
	s.exec(`DROP TABLE IF EXISTS vips_saved, ledger_saved; CREATE TABLE vips_saved AS TABLE vips; CREATE TABLE ledger_saved AS TABLE sluis_ledger`)
}

func (s *postgresSite) restore() {
	s.quiet()
	s.exec(`TRUNCATE vips, sluis_ledger; INSERT INTO vips TABLE vips_saved; INSERT INTO sluis_ledger TABLE ledger_saved; TRUNCATE seen`)
}

func (s *postgresSite) members() map[string]string {
	s.t.Helper()
	s.quiet()
	members := map[string]string{}
	for _, row := range s.rows("SELECT concat_ws(' ', key, '[' || tier, visits || ']') FROM vips") {
		key, values, _ := strings.Cut(row, " ")
		members[key] = values
	}
	return members
}

func (s *postgresSite) rows(query string) []string {
	s.t.Helper()
	rows, err := s.conn.Query(context.Background(), query)
	if err != nil {
		s.t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		s.t.Fatal(err)
	}
	return all
}

// check holds what was written against consent, and against the ledger: each
// transaction entered as many new ids as it changed rows, at least, so that none
// had an effect twice.
func (s *postgresSite) check(allowed func(string) bool, _ map[string]bool) []string {
	s.t.Helper()
	s.quiet()
	var wrong []string
	for _, key := range s.rows("SELECT key FROM seen WHERE op <> 'DELETE'") {
		if !allowed(key) {
			wrong = append(wrong, key+" was sent without consent")
		}
	}
	for _, key := range s.rows(`SELECT DISTINCT key FROM seen s WHERE (SELECT count(*) FROM seen WHERE tx = s.tx) >
		(SELECT count(*) FROM sluis_ledger l WHERE l.xmin = s.tx::xid)`) {
		wrong = append(wrong, key+" was changed without an entry in the ledger")
	}
	s.exec("TRUNCATE seen")
	return wrong
}
