package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/collector/spool"
	"github.com/sluis-cdp/sluis/consent"
	"github.com/sluis-cdp/sluis/consent/seal"
	"github.com/sluis-cdp/sluis/plugins/destination"
	sqlproject "github.com/sluis-cdp/sluis/sql"
	"github.com/sluis-cdp/sluis/sql/duckdb"
	"github.com/sluis-cdp/sluis/sql/runner"
	"github.com/sluis-cdp/sluis/sql/warehouse"
	syncer "github.com/sluis-cdp/sluis/sync"
)

// TestInputsAreTrueToTheCode takes a visit through collector, models and sync,
// and holds the inputs to what it finds. Where this fails after a change of
// the code, put the new figure into inputs.go or rows.go and run make scale.
func TestInputsAreTrueToTheCode(t *testing.T) {
	r := newReality(t)
	var perMessage float64
	for visitor := range 3 {
		perMessage = float64(r.landVisit(t, visitor)) / float64(len(r.messages))
	}
	r.buildModels(t)
	r.landVisit(t, 3) // the second build finds all that there is, and one more who came
	jobs, rounds := r.buildModels(t)
	r.sync(t, 1) // makes the syncer's tables
	one, other := r.sync(t, 100), r.sync(t, 2)

	check := func(name string, got, want, tolerance float64) {
		if math.Abs(got-want) > tolerance*want {
			t.Errorf("%s: the code says %.4g, the calculation %.4g", name, got, want)
		}
	}
	check("spoolEventBytes", perMessage, spoolEventBytes, 0.01)
	check("buildJobs and roundJobs", float64(jobs), buildJobs+float64(rounds-1)*roundJobs, 0)
	check("windowJobs", float64(other.jobs-one.jobs)/float64(other.windows-one.windows), windowJobs, 0)
	check("syncJobs", float64(one.jobs)-float64(one.windows)*windowJobs, syncJobs, 0)
	parsed := value(syncer.Load(fstest.MapFS{"a.yaml": {Data: []byte("{model: m, key: k, purpose: p, destination: d, mapping: [{field: f, column: c}]}")}}, nil))(t)
	check("batchRows", float64(parsed[0].BatchRows), batchRows, 0)
	d := r.open(t)
	defer d.Close()
	for _, relation := range relations {
		if relation.name != "consents" { // the visit makes no choice
			check("bytes of a row of "+relation.name, r.rowBytes(t, d, relation), bytesOf(relation.columns), 0.1)
		}
	}
	for _, column := range relationNamed("events").columns {
		check("events."+column, r.rowBytes(t, d, relation{name: "events", columns: []string{column}}), columnBytes[column], 0.02)
	}
}

// TestReadsAreTrueToTheModels compares what each model is said to read with the
// dbt project: the relations, and that its SQL, or that of a view it reads, names the columns.
func TestReadsAreTrueToTheModels(t *testing.T) {
	project := value(runner.Load(runner.Options{Dir: sqlproject.Files}))(t)
	sql := map[string]string{}
	for _, c := range value(project.Compile("bigquery", ""))(t) {
		sql[c.Name] = c.SQL
	}
	nodes := map[string]runner.Node{}
	for _, node := range value(project.List(""))(t) {
		nodes[node.Name] = node
	}
	// Few rows, or none for this shop, which sells to no companies.
	small := []string{
		"identifier_kinds", "identity_pair_limits", "identity_blocked", "identity_shared_nodes", "int_identity_weak_edges", "int_identity_parts",
		"identity_rejected_edges", "data_quality", "metrics_daily", "account_members", "audience_events", "score_churn", "channel_spend",
		"channel_spend_daily", "attribution_markov", "attribution_shapley",
	}
	said := map[string]bool{}
	for _, m := range models {
		said[m.name] = true
		node, ok := nodes[m.name]
		if !ok {
			t.Errorf("there is no model %s any more", m.name)
			continue
		}
		if m.view != (node.Materialized == runner.View) {
			t.Errorf("%s is a %s", m.name, node.Materialized)
		}
		var want, got []string
		text := sql[m.name]
		for _, on := range node.DependsOn {
			if nodes[on].Materialized == runner.View {
				want = append(want, nodes[on].DependsOn...)
				text += sql[on]
				continue
			}
			want = append(want, on)
		}
		for _, read := range m.reads {
			for _, column := range read.columns {
				if !regexp.MustCompile(`\b`+column+`\b`).MatchString(text) && !strings.Contains(text, "select *") {
					t.Errorf("%s does not read the column %s of %s", m.name, column, read.relation)
				}
			}
			if _, built := nodes[read.relation]; built {
				got = append(got, read.relation)
			}
		}
		want = slices.DeleteFunc(want, func(name string) bool { return slices.Contains(small, name) || nodes[name].Audience != nil })
		slices.Sort(want)
		slices.Sort(got)
		if diff := cmp.Diff(slices.Compact(want), slices.Compact(got)); diff != "" && len(want)+len(got) > 0 {
			t.Errorf("%s reads other relations (-dbt +calculation):\n%s", m.name, diff)
		}
	}
	for name, node := range nodes {
		if node.Kind == runner.Model && !said[name] && node.Audience == nil { // one stands for all audiences
			t.Errorf("the calculation lacks the model %s", name)
		}
	}
}

// reality is a workspace's folders, and what runs in it.
type reality struct {
	messages []string
	landing  string
	path     string
}

// newReality reads a visit to a shop by somebody who agrees to all but
// advertising, and signs in: ten messages, as a browser's SDK sends them.
func newReality(t *testing.T) *reality {
	t.Helper()
	r := &reality{landing: t.TempDir(), path: filepath.Join(t.TempDir(), "warehouse.duckdb")}
	file := value(os.Open("testdata/visit.jsonl"))(t)
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		r.messages = append(r.messages, lines.Text())
	}
	return r
}

// landVisit sends the visit of a visitor, a message in a request, and lands it.
// It returns the bytes that it took in the spool.
func (r *reality) landVisit(t *testing.T, visitor int) int {
	t.Helper()
	queue := value(spool.Open(spool.Options{Dir: filepath.Join(t.TempDir(), "spool")}))(t)
	counted := &countedSpool{Spool: queue}
	c := newCollector(t, counted)
	for _, message := range r.messages {
		message = strings.NewReplacer(`"ajs-next-1`, fmt.Sprintf(`"ajs-next-%d`, visitor+1), `"50314b`, fmt.Sprintf(`"50314%d`, visitor)).Replace(message)
		var head struct{ Type string }
		must(t, json.Unmarshal([]byte(message), &head))
		request := httptest.NewRequest(http.MethodPost, "/v1/"+head.Type, strings.NewReader(message))
		request.SetBasicAuth("wk", "")
		w := httptest.NewRecorder()
		if c.Handler().ServeHTTP(w, request); w.Code != http.StatusOK || strings.Contains(w.Body.String(), "notLanded") {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	}
	must(t, queue.Close())
	loader := collector.Loader{Spool: queue, Sink: collector.ParquetSink{Dir: r.landing}, Logger: slog.New(slog.DiscardHandler)}
	must(t, loader.Run(t.Context()))
	return counted.bytes
}

func newCollector(t *testing.T, queue collector.Spool) *collector.Collector {
	t.Helper()
	keys := seal.Dir(filepath.Join(t.TempDir(), "keys"))
	purposes := []string{"necessary", "personalization", "marketing", "advertising"}
	must(t, seal.Generate(keys, purposes))
	plan := &collector.TrackingPlan{Version: "1", Fields: map[string]collector.Field{
		"traits.email": {Class: collector.EmailAdr}, "traits.phone": {Class: collector.PhoneNr}, "traits.firstName": {Class: collector.Name},
	}}
	return value(collector.New(collector.Config{
		Sources:       []collector.Source{{ID: "web", WriteKey: "wk", Origins: []string{"*"}, Plan: plan, Denied: collector.Count}},
		Policy:        value(consent.NewPolicy(consent.PolicyConfig{Version: "1"}))(t),
		Pseudonymizer: value(seal.NewPseudonymizer(t.Context(), keys, "scale", "NL"))(t),
		Sealer:        value(seal.NewSealer(t.Context(), keys, "scale", purposes))(t),
		SealFor:       []consent.Purpose{consent.Personalization, consent.Marketing, consent.Advertising},
		CookieKey:     bytes.Repeat([]byte{1}, 32), PhoneRegion: "NL", Spool: queue,
		Now: func() time.Time { return time.Date(2026, 3, 1, 12, 30, 0, 0, time.UTC) },
	}))(t)
}

// countedSpool adds up the records and what the spool writes before each.
type countedSpool struct {
	*spool.Spool
	bytes int
}

const spoolFrame = 36 // collector/spool/DESIGN.md, "Frame"

func (s *countedSpool) Append(ctx context.Context, record []byte) (uint64, error) {
	s.bytes += spoolFrame + len(record)
	return s.Spool.Append(ctx, record)
}

func (r *reality) open(t *testing.T) warehouse.Driver {
	t.Helper()
	return value(duckdb.Open(t.Context(), duckdb.Config{Path: r.path, Landing: r.landing}))(t)
}

// buildModels returns how many jobs the build was, and how many rounds the
// components took.
func (r *reality) buildModels(t *testing.T) (jobs, rounds int) {
	t.Helper()
	project := value(runner.Load(runner.Options{Dir: sqlproject.Files}))(t)
	d := &counter{Driver: r.open(t), jobs: &jobs}
	results, err := project.Run(t.Context(), d, "")
	must(t, errors.Join(err, results.Err(), d.Close()))
	for _, result := range results {
		if result.Name == "int_identity_clusters" {
			_ = value(fmt.Sscanf(result.Message, "%d rounds", &rounds))(t)
		}
	}
	return jobs, rounds
}

// synced is what a run of a sync was.
type synced struct{ jobs, windows int }

// sync sends the identifiers, in batches of so many, to a destination that has
// none of them.
func (r *reality) sync(t *testing.T, rows int) (s synced) {
	t.Helper()
	e := value(syncer.New(syncer.Config{
		Open: func(context.Context) (warehouse.Driver, error) {
			return &counter{Driver: r.open(t), jobs: &s.jobs, intents: &s.windows}, nil
		},
		Connect: func(context.Context, syncer.Sync) (destination.Destination, error) { return nowhere{}, nil },
		Unseal:  func(context.Context, syncer.Sealed) (string, error) { return "value", nil },
		Logger:  slog.New(slog.DiscardHandler), Holder: "test",
	}))(t)
	_ = value(e.Run(t.Context(), syncer.Sync{
		Name: fmt.Sprintf("in-batches-of-%d", rows), File: "test", Model: "identity_map", Key: "node_key", Profile: "profile_id",
		Purpose: "marketing", Destination: "nowhere", Mode: syncer.ModeMirror, BatchRows: rows,
		Mapping: []syncer.Field{{Field: "profile", Column: "profile_id"}, {Field: "email", Sealed: "email"}},
	}, syncer.Options{}))(t)
	return s
}

// rowBytes is the average size of a row in the warehouse by BigQuery's sizes of
// types; 0 if there is none.
func (r *reality) rowBytes(t *testing.T, d warehouse.Driver, table relation) float64 {
	t.Helper()
	schema := warehouse.SchemaModels
	switch {
	case slices.ContainsFunc(warehouse.Landing(), func(l warehouse.Table) bool { return l.Name == table.name }):
		schema = warehouse.SchemaLanding
	case table.name == "state" || table.name == "deliveries":
		schema = warehouse.SchemaSync
	}
	rows := value(warehouse.Collect(t.Context(), d, "select "+strings.Join(table.columns, ", ")+" from "+schema+"."+table.name))(t)
	json := map[int]bool{}
	for _, c := range value(d.Columns(t.Context(), schema, table.name))(t) {
		if i := slices.Index(table.columns, c.Name); i >= 0 {
			json[i] = c.Type == warehouse.JSON
		}
	}
	total := 0
	for _, row := range rows {
		for i, v := range row {
			if total += logicalBytes(t, v); json[i] && v != nil {
				total -= 2 // JSON is its text and no more
			}
		}
	}
	return float64(total) / math.Max(float64(len(rows)), 1)
}

// logicalBytes is the size of a value, as BigQuery's page "Data types" has it.
func logicalBytes(t *testing.T, v any) (total int) {
	t.Helper()
	switch v := v.(type) {
	case nil:
		return 0
	case bool:
		return 1
	case int64, float64, time.Time:
		return 8
	case string:
		return 2 + len(v)
	case []byte:
		return 2 + len(v)
	case []any:
		for _, element := range v {
			total += logicalBytes(t, element)
		}
	case map[string]any:
		for _, field := range v {
			total += logicalBytes(t, field)
		}
	default:
		t.Fatalf("no size for %T", v)
	}
	return total
}

// counter counts what BigQuery would get as jobs: statements and appends, but
// not Columns, which is a plain request, nor what only DuckDB is told, which has
// to number the changes of a plan in a statement of its own.
type counter struct {
	warehouse.Driver
	jobs, intents *int
}

func (c *counter) Exec(ctx context.Context, query string, args ...any) error {
	if !strings.Contains(query, "plan_changes.rowid") {
		*c.jobs++
	}
	return c.Driver.Exec(ctx, query, args...)
}

func (c *counter) Query(ctx context.Context, query string, args ...any) (warehouse.Rows, error) {
	*c.jobs++
	return c.Driver.Query(ctx, query, args...)
}

func (c *counter) Append(ctx context.Context, schema, table string, columns []string, rows [][]any) error {
	*c.jobs++
	if table == "intents" && c.intents != nil {
		*c.intents++
	}
	return c.Driver.Append(ctx, schema, table, columns, rows)
}

// nowhere takes everything.
type nowhere struct{}

func (nowhere) Describe() destination.Description {
	return destination.Description{
		Name: "nowhere", Version: "1", Granularity: destination.PerRow, Idempotent: true,
		Ops: []destination.Op{destination.Upsert, destination.Remove},
	}
}

func (nowhere) Open(context.Context, map[string]string) error { return nil }
func (nowhere) Close(context.Context) error                   { return nil }

func (nowhere) Write(_ context.Context, b destination.Batch) ([]destination.Result, error) {
	return slices.Repeat([]destination.Result{{Outcome: destination.Delivered}}, len(b.Changes)), nil
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// value returns the first of two results, or ends the test at the error.
func value[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		must(t, err)
		return v
	}
}
