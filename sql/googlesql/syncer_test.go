package googlesql

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/sql/duckdb"
	"github.com/sluis-cdp/sluis/sql/warehouse"
	syncer "github.com/sluis-cdp/sluis/sync"
)

// bridge is a BigQuery with rows: statements are analyzed as BigQuery's, then
// run on DuckDB, which is taught the few words that it lacks.
type bridge struct {
	*fake
	rows warehouse.Driver
	fail string // the next statement that has this in it fails, without effect
}

var errFailed = errors.New("the warehouse failed")

func newBridge(t *testing.T) *bridge {
	t.Helper()
	rows, err := duckdb.Open(t.Context(), duckdb.Config{Path: filepath.Join(t.TempDir(), "w.duckdb")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := rows.Close(); err != nil {
			t.Error(err)
		}
	})
	b := &bridge{fake: newFake(t), rows: rows}
	for _, words := range []string{
		"create macro byte_length(x) as strlen(x)",
		"create macro unix_micros(x) as epoch_us(x)",
		"create macro to_json_string(x) as cast(to_json(x) as varchar)",
		// DuckDB's md5 is in hexadecimal already.
		"create macro to_hex(x) as case when typeof(x) = 'BLOB' then lower(hex(x)) else cast(x as varchar) end",
	} {
		b.setUp(t, words)
	}
	return b
}

// setUp runs a statement of DuckDB's.
func (b *bridge) setUp(t *testing.T, statement string, args ...any) {
	t.Helper()
	if err := b.rows.Exec(t.Context(), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// define makes a table on both sides.
func (b *bridge) define(t *testing.T, schema, name string, columns []warehouse.Column) {
	t.Helper()
	b.analyzer.Define(schema, name, columns)
	definitions := make([]string, len(columns))
	for i, c := range columns {
		definitions[i] = c.Name + " " + c.Type.In("duckdb")
	}
	b.setUp(t, "create or replace table "+schema+"."+name+" ("+strings.Join(definitions, ", ")+")")
}

var instant = regexp.MustCompile(`\bTIMESTAMP\b`)

func toDuckDB(query string) string {
	return instant.ReplaceAllString(strings.ReplaceAll(query, "`", `"`), "TIMESTAMPTZ")
}

func (b *bridge) Exec(ctx context.Context, query string, args ...any) error {
	if err := b.fake.Exec(ctx, query, args...); err != nil {
		return err
	}
	if b.fail != "" && strings.Contains(query, b.fail) {
		b.fail = ""
		return errFailed
	}
	return b.rows.Exec(ctx, toDuckDB(query), args...)
}

func (b *bridge) Query(ctx context.Context, query string, args ...any) (warehouse.Rows, error) {
	if _, err := b.fake.Query(ctx, query, args...); err != nil {
		return nil, err
	}
	return b.rows.Query(ctx, toDuckDB(query), args...)
}

func (b *bridge) Append(ctx context.Context, schema, table string, columns []string, rows [][]any) error {
	if err := b.fake.Append(ctx, schema, table, columns, rows); err != nil {
		return err
	}
	return b.rows.Append(ctx, schema, table, columns, rows)
}

// target is a destination that does with a key what it is told.
type target struct {
	outcomes map[string]destination.Outcome
	during   func() // called while it writes
	closing  error
}

func (d *target) Describe() destination.Description {
	return destination.Description{
		Name: "target", Version: "1", Ops: []destination.Op{destination.Upsert, destination.Remove},
		Granularity: destination.PerRow, MaxRows: 100,
	}
}

func (d *target) Open(context.Context, map[string]string) error { return nil }
func (d *target) Close(context.Context) error                   { return d.closing }

func (d *target) Write(_ context.Context, batch destination.Batch) ([]destination.Result, error) {
	if d.during != nil {
		d.during()
	}
	results := make([]destination.Result, len(batch.Changes))
	for i, c := range batch.Changes {
		results[i] = destination.Result{Outcome: destination.Delivered}
		if outcome, ok := d.outcomes[c.Key]; ok {
			results[i] = destination.Result{Outcome: outcome, Code: "as_told"}
		}
	}
	return results, nil
}

// wide is a model with a column of each type that a sync may map.
func wide() []warehouse.Column {
	return []warehouse.Column{
		{Name: "customer", Type: warehouse.String}, {Name: "profile_id", Type: warehouse.String},
		{Name: "a_text", Type: warehouse.String}, {Name: "a_number", Type: warehouse.Int64},
		{Name: "a_truth", Type: warehouse.Bool}, {Name: "an_instant", Type: warehouse.Timestamp},
		{Name: "some_bytes", Type: warehouse.Bytes}, {Name: "a_float", Type: "FLOAT64"},
		{Name: "a_decimal", Type: "NUMERIC"}, {Name: "a_date", Type: "DATE"},
		{Name: "a_json", Type: warehouse.JSON}, {Name: "a_list", Type: warehouse.Strings}, {Name: "records", Type: warehouse.Identifiers},
	}
}

func declared(mode syncer.Mode) syncer.Sync {
	s := syncer.Sync{
		Name: "all-" + string(mode), File: "syncs/all.yaml", Model: "wide", Key: "customer", Profile: "profile_id", Purpose: "marketing",
		Destination: "target", Mode: mode, Guards: syncer.Guards{MaxRemovedShare: 0.5, MinRemoved: 2}, BatchRows: 2,
	}
	for _, c := range wide() {
		s.Mapping = append(s.Mapping, syncer.Field{Field: c.Name, Column: c.Name})
	}
	constant := "web"
	s.Mapping = append(s.Mapping,
		syncer.Field{Field: "email", Sealed: "email"}, syncer.Field{Field: "phone", Sealed: "phone", Required: true},
		syncer.Field{Field: "source", Value: &constant})
	return s
}

// scene is a warehouse and what is done with it.
type scene struct {
	t      *testing.T
	b      *bridge
	engine *syncer.Syncer
	target *target
	sync   syncer.Sync
	now    time.Time
}

func newScene(t *testing.T, mode syncer.Mode, consent ...warehouse.Column) *scene {
	t.Helper()
	s := &scene{t: t, b: newBridge(t), target: &target{}, sync: declared(mode), now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}
	s.b.define(t, warehouse.SchemaModels, "wide", wide())
	s.b.define(t, warehouse.SchemaModels, "consent_profile", append([]warehouse.Column{
		{Name: "profile_id", Type: warehouse.String}, {Name: "purpose", Type: warehouse.String}, {Name: "allowed", Type: warehouse.Bool},
		{Name: "decision_id", Type: warehouse.String}, {Name: "policy_version", Type: warehouse.String}, {Name: "decided_at", Type: warehouse.Timestamp},
	}, consent...))
	s.b.define(t, warehouse.SchemaModels, "profile_sealed", []warehouse.Column{
		{Name: "profile_id", Type: warehouse.String}, {Name: "field", Type: warehouse.String}, {Name: "purpose", Type: warehouse.String},
		{Name: "pseudonym", Type: warehouse.String}, {Name: "key_id", Type: warehouse.String}, {Name: "ciphertext", Type: warehouse.Bytes},
		{Name: "token", Type: warehouse.String}, {Name: "decision_id", Type: warehouse.String}, {Name: "received_at", Type: warehouse.Timestamp},
	})
	for _, landed := range warehouse.Landing() {
		if landed.Name == "seal_keys" {
			s.b.setUp(t, "drop view if exists sluis."+landed.Name)
			s.b.define(t, warehouse.SchemaLanding, landed.Name, landed.Columns)
		}
	}
	s.b.setUp(t, "insert into sluis.seal_keys (key_id, purpose, recipient, psk_id, encapsulated_key) values ('key', 'marketing', 'pub', 'psk', 'e'::blob)")
	var err error
	s.engine, err = syncer.New(syncer.Config{
		Open:     func(context.Context) (warehouse.Driver, error) { return s.b, nil },
		Connect:  func(context.Context, syncer.Sync) (destination.Destination, error) { return s.target, nil },
		Unseal:   func(context.Context, syncer.Sealed) (string, error) { return "opened", nil },
		Logger:   slog.New(slog.DiscardHandler),
		Holder:   "test",
		Now:      func() time.Time { s.now = s.now.Add(time.Second); return s.now },
		Wait:     func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
		Attempts: 2,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// person adds a row of the model, for somebody who agrees.
func (s *scene) person(name string) {
	s.t.Helper()
	s.b.setUp(s.t, `insert into sluis_models.wide values (?, ?, 'it''s', 1, true, '2026-03-01 10:00:00+00', 'x'::blob, 1.5, 2.25, '2026-03-01',
		'{"a":1}', ['a'], [{kind: 'email', pseudonym: 'e'}])`, name, "p_"+name)
	s.b.setUp(s.t, `insert into sluis_models.consent_profile by name select ? as profile_id, 'marketing' as purpose, true as allowed,
		'd' as decision_id, 'v' as policy_version, cast('2026-03-01 10:00:00+00' as timestamptz) as decided_at`, "p_"+name)
	for _, field := range []string{"email", "phone"} {
		s.b.setUp(s.t, "insert into sluis_models.profile_sealed values (?, ?, 'marketing', 'e', 'key', 'c'::blob, 'token', 'd', '2026-03-01 10:00:00+00')", "p_"+name, field)
	}
}

// run runs the sync and wants these numbers.
func (s *scene) run(added, updated, removed, failed int64) {
	s.t.Helper()
	got, err := s.engine.Run(s.t.Context(), s.sync, syncer.Options{})
	if err := errors.Join(err, s.b.err()); err != nil {
		s.t.Fatal(err)
	}
	if got.Added != added || got.Updated != updated || got.Removed != removed || got.Failed != failed {
		s.t.Fatalf("the run added %d, updated %d, removed %d, failed %d; want %d, %d, %d, %d",
			got.Added, got.Updated, got.Removed, got.Failed, added, updated, removed, failed)
	}
}

// TestSyncerStatements has all statements of the syncer analyzed, in runs that
// meet everything that may happen to a row.
func TestSyncerStatements(t *testing.T) {
	for _, mode := range []syncer.Mode{syncer.ModeMirror, syncer.ModeUpsert} {
		t.Run(string(mode), func(t *testing.T) {
			s := newScene(t, mode, warehouse.Column{Name: "expires_at", Type: warehouse.Timestamp})
			for _, name := range []string{"ann", "ben", "cas", "dan", "eve"} {
				s.person(name)
			}
			s.target.outcomes = map[string]destination.Outcome{
				"ben": destination.Rejected, "cas": destination.Retry, "dan": destination.Unknown, "eve": destination.Skipped,
			}
			s.run(1, 0, 0, 3)
			s.target.outcomes = nil
			s.b.setUp(t, "update sluis_models.wide set a_number = 2")
			s.run(3, 2, 0, 0)
			s.b.setUp(t, "update sluis_models.consent_profile set allowed = false where profile_id = 'p_ann'")
			if err := s.engine.Erasing(t.Context(), []string{"p_ben"}); err != nil {
				t.Fatal(err)
			}
			if done, err := s.engine.Erase(t.Context(), s.sync); err != nil || done.Removed != 1 {
				t.Fatalf("Erase: %+v, %v", done, err)
			}
			s.run(0, 0, 1, 0)
			if err := s.engine.Resync(t.Context(), s.sync); err != nil {
				t.Fatal(err)
			}
			s.run(0, 3, 0, 0)
			s.read()
		})
	}
}

// read asks for what was done.
func (s *scene) read() {
	s.t.Helper()
	runs, err := s.engine.History(s.t.Context(), s.sync.Name, 9)
	if err != nil || len(runs) != 5 {
		s.t.Errorf("History: %d runs, %v", len(runs), err)
	}
	for _, key := range []string{"", "ann"} {
		deliveries, err := s.engine.Deliveries(s.t.Context(), s.sync.Name, key, 99)
		if err != nil || len(deliveries) == 0 {
			s.t.Errorf("Deliveries(%q): %d, %v", key, len(deliveries), err)
		}
	}
	if err := s.b.err(); err != nil {
		s.t.Error(err)
	}
}

// TestSyncerRecovers has the statements analyzed that follow on guards, stops
// and failures.
func TestSyncerRecovers(t *testing.T) {
	s := newScene(t, syncer.ModeMirror)
	for _, name := range []string{"ann", "ben", "cas"} {
		s.person(name)
	}
	// Stopped after its first batch, and resumed.
	plan, err := s.engine.Plan(t.Context(), s.sync)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	s.target.during = stop
	if _, err := s.engine.Apply(ctx, s.sync, plan.ID, syncer.Options{}); !errors.Is(err, context.Canceled) {
		t.Fatalf("a stopped run: %v", err)
	}
	s.target.during = nil
	if _, err := s.engine.Apply(t.Context(), s.sync, plan.ID, syncer.Options{}); err != nil {
		t.Fatal(err)
	}
	// Failed between the record of deliveries and the state.
	s.b.setUp(t, "update sluis_models.wide set a_text = 'b'")
	s.b.fail = "d.intent ="
	if _, err := s.engine.Run(t.Context(), s.sync, syncer.Options{}); !errors.Is(err, errFailed) {
		t.Fatalf("a failed run: %v", err)
	}
	s.run(0, 1, 0, 0)
	// The destination does not confirm.
	s.b.setUp(t, "update sluis_models.wide set a_text = 'c' where customer = 'ann'")
	s.target.closing = errors.New("the destination failed")
	if _, err := s.engine.Run(t.Context(), s.sync, syncer.Options{}); !errors.Is(err, s.target.closing) {
		t.Fatalf("an unconfirmed run: %v", err)
	}
	s.target.closing = nil
	s.run(0, 1, 0, 0)
	// All left the model, which nobody believes.
	s.b.setUp(t, "delete from sluis_models.wide")
	_, err = s.engine.Run(t.Context(), s.sync, syncer.Options{})
	held, ok := errors.AsType[*syncer.HeldError](err)
	if !ok {
		t.Fatalf("an empty model: %v", err)
	}
	removed, err := s.engine.Apply(t.Context(), s.sync, held.PlanID, syncer.Options{Approve: true})
	if err := errors.Join(err, s.b.err()); err != nil || removed.Removed != 3 {
		t.Errorf("approved: %d removed, %v", removed.Removed, err)
	}
}
