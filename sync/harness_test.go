package syncer_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/sql/duckdb"
	"github.com/sluis-cdp/sluis/sql/warehouse"
	syncer "github.com/sluis-cdp/sluis/sync"
)

// world is a warehouse, a destination and a clock, which outlive the engines
// that work with them.
type world struct {
	t      testing.TB
	db     warehouse.Driver
	target *target
	logs   *logBuffer

	mu    sync.Mutex
	now   time.Time
	open  int // engines' handles that are open
	calls int // warehouse calls of engines so far
	fault func(call int) fault

	// What changes while a window is under way: who sends it hears of it when it is
	// over, and asks.
	writer  *process
	unheard []func()
}

// heard has all know what changed while a window was under way.
func (w *world) heard() {
	for _, change := range w.unheard {
		change()
	}
	w.unheard = nil
}

// fault is what happens at a call of the warehouse.
type fault int

const (
	fine       fault = iota
	dieBefore        // the process dies and the statement has no effect
	dieAfter         // the statement takes effect and then the process dies
	failBefore       // the statement fails, and the process lives
	failAfter        // so does it, but it took effect
	stayedDead       // internal: nothing works any more
)

var (
	errDead   = errors.New("the process is dead")
	errFailed = errors.New("the warehouse failed")
)

// newWarehouse opens an empty warehouse, which the test closes. The tests of
// BigQuery put another in its place.
var newWarehouse = func(t testing.TB) warehouse.Driver {
	t.Helper()
	db, err := duckdb.Open(t.Context(), duckdb.Config{Path: filepath.Join(t.TempDir(), "w.duckdb"), Holder: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func newWorld(t testing.TB) *world {
	t.Helper()
	db := newWarehouse(t)
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &world{t: t, db: db, now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC), logs: &logBuffer{}}
	w.target = newTarget(w)
	w.createModels()
	w.createLanding()
	return w
}

// reset empties the world.
func (w *world) reset() {
	w.t.Helper()
	for _, schema := range []string{warehouse.SchemaLanding, warehouse.SchemaModels, warehouse.SchemaSync} {
		for _, table := range w.tables(schema) {
			if table != "sluis.seal_keys" {
				w.exec("DELETE FROM " + table + " WHERE TRUE")
			}
		}
	}
	w.target = newTarget(w)
	w.calls, w.fault = 0, nil
}

// tables lists the tables of a schema, without views.
func (w *world) tables(schema string) []string {
	w.t.Helper()
	catalog := "information_schema.tables"
	if w.bigQuery() {
		catalog = schema + ".INFORMATION_SCHEMA.TABLES"
	}
	var names []string
	for _, row := range w.query("SELECT table_name FROM "+catalog+" WHERE table_schema = ? AND table_type = 'BASE TABLE'", schema) {
		names = append(names, schema+"."+row[0].(string))
	}
	return names
}

func (w *world) bigQuery() bool { return w.db.Dialect() == "bigquery" }

func text(names ...string) (columns []warehouse.Column) {
	for _, name := range names {
		columns = append(columns, warehouse.Column{Name: name, Type: warehouse.String})
	}
	return columns
}

func (w *world) createModels() {
	w.t.Helper()
	if err := syncer.CreateTables(w.t.Context(), w.db); err != nil { // for tests that say who is being erased
		w.t.Fatal(err)
	}
	w.create("sluis_models.vips", append(text("customer", "profile_id", "tier"), warehouse.Column{Name: "visits", Type: warehouse.Int64})...)
	w.create("sluis_models.consent_profile", append(text("profile_id", "purpose", "decision_id", "policy_version"),
		warehouse.Column{Name: "allowed", Type: warehouse.Bool}, warehouse.Column{Name: "decided_at", Type: warehouse.Timestamp})...)
	w.create("sluis_models.account_members", text("account_id", "profile_id")...)
	w.create("sluis_models.profile_sealed", append(text("profile_id", "field", "purpose", "pseudonym", "key_id", "token", "decision_id"),
		warehouse.Column{Name: "ciphertext", Type: warehouse.Bytes}, warehouse.Column{Name: "received_at", Type: warehouse.Timestamp})...)
}

// createLanding puts tables in the place of the views over what landed.
func (w *world) createLanding() {
	w.t.Helper()
	for _, landed := range warehouse.Landing() {
		if landed.Name != "seal_keys" || w.bigQuery() {
			continue // there it is a table already
		}
		w.exec("DROP VIEW sluis." + landed.Name)
		w.create("sluis."+landed.Name, landed.Columns...)
	}
	w.append("sluis.seal_keys", []string{"key_id", "purpose", "recipient", "psk_id", "encapsulated_key"},
		[]any{"key1", "marketing", "pub1", "psk1", []byte("encapsulated")})
}

func (w *world) create(table string, columns ...warehouse.Column) {
	w.t.Helper()
	definitions := make([]string, len(columns))
	for i, c := range columns {
		definitions[i] = c.Name + " " + c.Type.In(w.db.Dialect())
	}
	w.exec("CREATE TABLE " + table + " (" + strings.Join(definitions, ", ") + ")")
}

func (w *world) append(table string, columns []string, rows ...[]any) {
	w.t.Helper()
	schema, name, _ := strings.Cut(table, ".")
	if err := w.db.Append(context.Background(), schema, name, columns, rows); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) exec(query string, args ...any) {
	w.t.Helper()
	if err := w.db.Exec(context.Background(), query, args...); err != nil {
		w.t.Fatalf("%s: %v", query, err)
	}
}

func (w *world) query(query string, args ...any) [][]any {
	w.t.Helper()
	rows, err := warehouse.Collect(context.Background(), w.db, query, args...)
	if err != nil {
		w.t.Fatalf("%s: %v", query, err)
	}
	return rows
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// customer is a row of the model: customer k1 is profile p1.
type customer struct {
	key, profile string
	tier         any
	visits       int64
}

func (w *world) setModel(rows ...customer) {
	w.t.Helper()
	w.exec("DELETE FROM sluis_models.vips WHERE TRUE")
	all := make([][]any, len(rows))
	for i, r := range rows {
		var key any
		if r.key != "" {
			key = r.key
		}
		all[i] = []any{key, r.profile, r.tier, r.visits}
	}
	w.append("sluis_models.vips", []string{"customer", "profile_id", "tier", "visits"}, all...)
}

// setConsent replaces all consents: true, false, or no entry for unknown.
func (w *world) setConsent(allowed map[string]bool) {
	w.t.Helper()
	w.exec("DELETE FROM sluis_models.consent_profile WHERE TRUE")
	// Consent for another purpose never counts.
	verdicts := [][]any{{"p1", "analytics", true, "other", w.clock()}}
	for _, profile := range slices.Sorted(maps.Keys(allowed)) {
		verdicts = append(verdicts, []any{profile, "marketing", allowed[profile], "decision-" + profile, w.clock()})
	}
	w.setVerdicts(verdicts...)
}

// setVerdicts adds consents: profile, purpose, allowed, decision and its time.
func (w *world) setVerdicts(verdicts ...[]any) {
	w.t.Helper()
	rows := make([][]any, len(verdicts))
	for i, v := range verdicts {
		rows[i] = append(slices.Clone(v), "policy1")
	}
	w.append("sluis_models.consent_profile", []string{"profile_id", "purpose", "allowed", "decision_id", "decided_at", "policy_version"}, rows...)
}

func (w *world) seal(profile, field, purpose, value string) {
	w.t.Helper()
	w.advance(time.Millisecond)
	// Sealing is not deterministic: the token says what is the same value.
	w.append("sluis_models.profile_sealed",
		[]string{"profile_id", "field", "purpose", "pseudonym", "key_id", "ciphertext", "token", "decision_id", "received_at"},
		[]any{
			profile, field, purpose, "email_" + profile, "key1", []byte(fmt.Sprintf("%s|%d", value, w.clock().UnixNano())),
			"token-of-" + value, "decision-" + profile, w.clock(),
		})
}

// engine is a new process.
func (w *world) engine(change ...func(*syncer.Config)) *syncer.Syncer {
	w.t.Helper()
	process := &process{world: w}
	w.mu.Lock()
	w.open = 0 // the former one is gone
	w.mu.Unlock()
	config := syncer.Config{
		Open: process.openWarehouse,
		Connect: func(context.Context, syncer.Sync) (destination.Destination, error) {
			return w.target.connect(process), nil
		},
		Unseal: process.unseal,
		Keep: func(_ context.Context, sync, key, value string) (string, error) {
			return sync + "|" + key + "|" + base64.StdEncoding.EncodeToString([]byte(value)), nil
		},
		Recall: func(_ context.Context, sync, key, sealed string) (string, error) {
			text, ok := strings.CutPrefix(sealed, sync+"|"+key+"|")
			if !ok {
				return "", errors.New("this was kept for another")
			}
			value, err := base64.StdEncoding.DecodeString(text)
			return string(value), err
		},
		Logger: slog.New(slog.NewTextHandler(w.logs, nil)),
		Holder: "test engine",
		Now:    w.clock,
		Wait: func(ctx context.Context, d time.Duration) error {
			w.advance(d)
			return ctx.Err()
		},
	}
	for _, f := range change {
		f(&config)
	}
	e, err := syncer.New(config)
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

// process is what an engine sees of the world, until it dies.
type process struct {
	*world
	dead bool
}

func (p *process) openWarehouse(ctx context.Context) (warehouse.Driver, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		return nil, errDead
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if p.writer == p || p.writer != nil && p.writer.dead {
		p.heard()
	}
	p.open++
	if p.open > 1 {
		p.t.Error("the warehouse was opened twice at a time")
	}
	return &handle{Driver: p.db, process: p}, nil
}

func (p *process) unseal(_ context.Context, s syncer.Sealed) (string, error) {
	if s.Purpose != "marketing" || s.Recipient != "pub1" || s.PSKID != "psk1" || string(s.EncapsulatedKey) != "encapsulated" {
		p.t.Errorf("asked to open a value with the binding %q %q %q %q", s.Purpose, s.Recipient, s.PSKID, s.EncapsulatedKey)
	}
	value, _, ok := strings.Cut(string(s.Ciphertext), "|")
	if !ok {
		return "", errors.New("this does not open")
	}
	if s.Token != "token-of-"+value || s.ReceivedAt.IsZero() {
		p.t.Errorf("asked to open a value with the record %q %v", s.Token, s.ReceivedAt)
	}
	p.target.unsealed(s)
	return value, nil
}

// step decides the fate of a call.
func (p *process) step() fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		return stayedDead
	}
	p.calls++
	f := fine
	if p.fault != nil {
		f = p.fault(p.calls)
	}
	p.dead = f == dieBefore || f == dieAfter
	return f
}

// handle is an open warehouse that can die.
type handle struct {
	warehouse.Driver
	process *process
	closed  bool
}

func (h *handle) do(f func() error) error {
	if h.closed {
		h.process.t.Error("the warehouse was used after Close")
	}
	switch h.process.step() {
	case fine:
		return f()
	case dieAfter:
		return errors.Join(f(), errDead)
	case failAfter:
		return errors.Join(f(), errFailed)
	case failBefore:
		return errFailed
	case dieBefore, stayedDead:
	}
	return errDead
}

func (h *handle) Exec(ctx context.Context, query string, args ...any) error {
	return h.do(func() error { return h.Driver.Exec(ctx, query, args...) })
}

func (h *handle) Append(ctx context.Context, schema, table string, columns []string, rows [][]any) error {
	return h.do(func() error { return h.Driver.Append(ctx, schema, table, columns, rows) })
}

func (h *handle) Query(ctx context.Context, query string, args ...any) (rows warehouse.Rows, err error) {
	err = h.do(func() error {
		rows, err = h.Driver.Query(ctx, query, args...)
		return err
	})
	return rows, err
}

func (h *handle) Close() error {
	h.closed = true
	h.process.mu.Lock()
	defer h.process.mu.Unlock()
	if !h.process.dead {
		h.process.open--
	}
	return nil
}

// target is the outside system. It checks what no destination may ever see.
type target struct {
	world   *world
	members map[string][]any
	applied map[string]bool // ids, since it is idempotent
	last    map[string]sent // what each key was sent last
	doubted map[string]bool // ids of a process that did not close
	allowed func(profile string) bool
	sends   int
	opened  []syncer.Sealed
	written []destination.Batch
	begun   map[string]bool // runs that were written to; true until they are closed

	fields        []destination.TargetField
	noUpdates     bool // it cannot update alone
	quiet         bool // for benchmarks: takes everything, checks nothing
	maxRows       int
	notIdempotent bool
	answer        func(batch destination.Batch, apply func(destination.Change)) ([]destination.Result, error)
	poll          func(receipts []string) ([]destination.Settlement, error) // nil: what is accepted is never told of
	closing       func() error
	late          func() // called when a batch is done, before it is answered
}

type sent struct {
	id, what string
}

func newTarget(w *world) *target {
	t := &target{world: w, members: map[string][]any{}, applied: map[string]bool{}, last: map[string]sent{}, doubted: map[string]bool{}, begun: map[string]bool{}, maxRows: 100}
	t.allowed = func(string) bool { return true }
	return t
}

func (t *target) unsealed(s syncer.Sealed) { t.opened = append(t.opened, s) }

func (t *target) connect(p *process) destination.Destination { return &plugin{target: t, process: p} }

// plugin is one process of the destination.
type plugin struct {
	*target
	process *process
	updates bool     // it was opened to update alone
	upserts bool     // the run has come to them
	ids     []string // of what was written
	runs    []string // that were written to, or named to be completed
}

func (p *plugin) Describe() destination.Description {
	return destination.Description{
		Name: "fake", Version: "1", Ops: []destination.Op{destination.Upsert, destination.Remove},
		Granularity: destination.PerRow, Idempotent: !p.notIdempotent, UpdateOnly: !p.noUpdates, MaxRows: p.maxRows,
		Target: destination.Target{Fields: p.fields},
	}
}

func (p *plugin) Open(_ context.Context, config map[string]string) error {
	if config["token"] != "secret-token" {
		return &destination.ConfigError{Field: "token", Problem: "is wrong"}
	}
	return nil
}

func (p *plugin) OpenToUpdate(ctx context.Context, config map[string]string) error {
	p.updates = true
	return p.Open(ctx, config)
}

func (p *plugin) Close(context.Context) error {
	if p.process.dead {
		return errDead
	}
	for _, run := range p.runs { // if it fails all is sent again, by another run
		p.begun[run] = false
	}
	if p.closing == nil {
		return nil
	}
	err := p.closing()
	for _, id := range p.ids {
		p.doubted[id] = p.doubted[id] || err != nil
	}
	return err
}

func (p *plugin) Write(_ context.Context, batch destination.Batch) ([]destination.Result, error) {
	if p.quiet {
		return destination.All(len(batch.Changes), destination.Result{Outcome: destination.Delivered}), nil
	}
	p.runs = append(p.runs, batch.Run)
	if len(batch.Changes) == 0 {
		if _, ok := p.begun[batch.Run]; !ok {
			p.world.t.Error("a run is to be completed that has sent nothing")
		}
		return nil, batch.Validate()
	}
	p.begun[batch.Run] = true
	p.process.writer = p.process
	p.sends++
	p.written = append(p.written, batch)
	p.check(batch)
	absent := map[string]bool{}
	apply := func(c destination.Change) {
		if p.applied[c.ID] && !p.notIdempotent {
			return
		}
		if _, there := p.members[c.Key]; p.updates && !there && c.Op == destination.Upsert {
			absent[c.ID] = true
			return
		}
		p.applied[c.ID] = true
		if c.Op == destination.Remove {
			delete(p.members, c.Key)
		} else {
			p.members[c.Key] = c.Values
		}
	}
	answer := deliverAll
	if p.answer != nil {
		answer = p.answer
	}
	results, err := answer(batch, apply)
	for i, c := range batch.Changes {
		if absent[c.ID] && err == nil && results[i].Outcome == destination.Delivered {
			results[i] = destination.Result{Outcome: destination.Skipped, Code: "absent", Message: "there is no such member"}
		}
		p.last[c.Key] = sent{c.ID, describe(c)}
	}
	if p.late != nil {
		p.late()
	}
	return results, err
}

// Poll implements [destination.Poller], as the host of any plugin does.
func (p *plugin) Poll(_ context.Context, receipts []string) ([]destination.Settlement, error) {
	if p.process.dead {
		p.world.t.Error("a dead process asked the destination")
	}
	p.world.mu.Lock()
	if p.world.open != 0 {
		p.world.t.Error("the warehouse is held while the destination is waited for")
	}
	p.world.mu.Unlock()
	if p.poll == nil {
		return nil, errors.ErrUnsupported
	}
	return p.poll(receipts)
}

func deliverAll(batch destination.Batch, apply func(destination.Change)) ([]destination.Result, error) {
	for _, c := range batch.Changes {
		apply(c)
	}
	return destination.All(len(batch.Changes), destination.Result{Outcome: destination.Delivered}), nil
}

func describe(c destination.Change) string { return fmt.Sprint(c.Op, c.Values) }

// check holds a batch against what may never happen.
func (p *plugin) check(batch destination.Batch) {
	t := p.world.t
	if p.process.dead {
		t.Error("a dead process wrote to the destination")
	}
	p.world.mu.Lock()
	if p.world.open != 0 {
		t.Error("the warehouse is held while the destination is waited for")
	}
	p.world.mu.Unlock()
	if err := batch.Validate(); err != nil {
		t.Error(err)
	}
	if batch.Purpose != "marketing" {
		t.Errorf("a batch of people who agreed to %q", batch.Purpose)
	}
	if p.maxRows > 0 && len(batch.Changes) > p.maxRows {
		t.Errorf("a batch of %d changes", len(batch.Changes))
	}
	for _, c := range batch.Changes {
		switch {
		case c.Op == destination.Upsert:
			p.upserts = true
			if profile := "p" + c.Key[1:]; !p.allowed(profile) {
				t.Errorf("%s was sent without consent", c.Key)
			}
		case p.upserts:
			t.Errorf("%s is removed after an addition", c.Key)
		case slices.ContainsFunc(c.Values, func(v any) bool { return v != nil }):
			t.Errorf("the removal of %s carries values", c.Key)
		}
		p.ids = append(p.ids, c.ID)
		outcomes := p.outcomes(c.ID)
		if !p.doubted[c.ID] && slices.ContainsFunc(outcomes, func(o string) bool { return o == "delivered" || o == "accepted" || o == "skipped" }) {
			t.Errorf("%s was acknowledged, and is sent again", c.Key)
		}
		before, ok := p.last[c.Key]
		if !ok || before.what != describe(c) {
			continue
		}
		settled := p.outcomes(before.id)
		unknown := len(settled) == 0 || settled[len(settled)-1] == "unknown"
		if unknown && before.id != c.ID {
			t.Errorf("%s is sent again under another id", c.Key)
		}
		if unknown && p.notIdempotent && c.Op == destination.Upsert {
			t.Errorf("%s is sent again to a destination that would do it twice", c.Key)
		}
	}
}

// outcomes lists what was recorded of a change, in order; of what was accepted,
// what came of it.
func (t *target) outcomes(id string) []string {
	var outcomes []string
	for _, row := range t.world.query(`SELECT COALESCE(r.outcome, d.outcome) FROM sluis_sync.deliveries d
		LEFT JOIN sluis_sync.receipts r ON r.sync = d.sync AND r.intent = d.intent AND r.receipt = d.receipt AND d.outcome = 'accepted'
		WHERE d.change_id = ? ORDER BY d.recorded_at, d.fence`, id) {
		outcomes = append(outcomes, row[0].(string))
	}
	return outcomes
}

// incomplete lists the runs that delivered something, and for which no process
// closed the destination.
func (t *target) incomplete() (runs []string) {
	for run, open := range t.begun {
		if open && len(t.world.query("SELECT 1 FROM sluis_sync.deliveries WHERE run_id = ? AND outcome IN ('delivered', 'accepted', 'skipped')", run)) > 0 {
			runs = append(runs, run)
		}
	}
	return runs
}

// content is the destination as text, one member a line.
func (t *target) content() string {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(t.members)) {
		fmt.Fprintln(&b, key, fmt.Sprint(t.members[key]...))
	}
	return b.String()
}

type logBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// vips is the sync that most tests use.
func vips() syncer.Sync {
	return syncer.Sync{
		Name: "crm", File: "syncs/crm.yaml", Model: "vips", Key: "customer", Profile: "profile_id", Purpose: "marketing",
		Destination: "fake", Config: syncer.Settings{"token": "secret-token"},
		Mapping: []syncer.Field{
			{Field: "tier", Column: "tier", Line: 7},
			{Field: "visits", Column: "visits", Line: 8},
		},
		Mode: syncer.ModeMirror, Guards: syncer.Guards{MaxRemovedShare: 0.5, MinRemoved: 20}, BatchRows: 2,
	}
}

// noValues looks for a value where none may be: in the log and in all that the
// syncer keeps, but for the payloads of plans that are not done.
func (w *world) noValues(value string) {
	w.t.Helper()
	if strings.Contains(w.logs.String(), value) {
		w.t.Errorf("%q is in the log", value)
	}
	for _, table := range w.tables(warehouse.SchemaSync) {
		rows, err := w.db.Query(context.Background(), "SELECT * FROM "+table)
		if err != nil {
			w.t.Fatal(err)
		}
		for rows.Next() {
			for i, name := range rows.Columns() {
				if name != "payload" && strings.Contains(fmt.Sprint(rows.Row()[i]), value) {
					w.t.Errorf("%q is in %s.%s", value, table, name)
				}
			}
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			w.t.Fatal(err)
		}
	}
	if left := w.query("SELECT count(*) FROM sluis_sync.plan_changes JOIN sluis_sync.plans USING (plan_id) WHERE payload IS NOT NULL AND status = 'applied'"); left[0][0] != int64(0) {
		w.t.Error("the payloads of an applied plan were kept")
	}
}
