package runner_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/sql/runner"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// priced is DuckDB as a warehouse that bills: a statement processes, for each
// time that it names a relation, the bytes of that relation's name. As
// BigQuery does, it estimates no statement that it would not run.
type priced struct {
	warehouse.Driver
	sizes map[string]int64

	// running, if set, is called before a statement runs; its error is the
	// statement's.
	running func(query string) error
	// estimating, if set, is called before an estimate; its error is the answer.
	estimating func(query string) error

	mu        sync.Mutex
	estimated []string
	ran       []string
}

var (
	named   = regexp.MustCompile(`sluis(_\w+)?\.(\w+)`)
	counted = regexp.MustCompile(`^select count\(\*\) from \S+$`)
	created = regexp.MustCompile(`^create or replace (table|view) \S+`)
)

func (p *priced) EstimateBytes(ctx context.Context, query string, args ...any) (int64, error) {
	p.mu.Lock()
	p.estimated = append(p.estimated, query)
	p.mu.Unlock()
	if p.estimating != nil {
		if err := p.estimating(query); err != nil {
			return 0, err
		}
	}
	if _, err := warehouse.Collect(ctx, p.Driver, "explain "+query, args...); err != nil {
		return 0, err
	}
	if strings.HasPrefix(query, "create or replace view") || counted.MatchString(query) {
		return 0, nil // it is stored, not run; the rows of a table are known
	}
	bytes := int64(0)
	for _, name := range named.FindAllStringSubmatch(created.ReplaceAllString(query, ""), -1) {
		bytes += p.sizes[name[2]]
	}
	return bytes, nil
}

func (p *priced) run(query string) error {
	p.mu.Lock()
	p.ran = append(p.ran, query)
	p.mu.Unlock()
	if p.running != nil {
		return p.running(query)
	}
	return nil
}

func (p *priced) Exec(ctx context.Context, query string, args ...any) error {
	if err := p.run(query); err != nil {
		return err
	}
	return p.Driver.Exec(ctx, query, args...)
}

func (p *priced) Query(ctx context.Context, query string, args ...any) (warehouse.Rows, error) {
	if err := p.run(query); err != nil {
		return nil, err
	}
	return p.Driver.Query(ctx, query, args...)
}

// openPriced returns a warehouse with the source table raw, of two rows.
func openPriced(t *testing.T, sizes map[string]int64) *priced {
	t.Helper()
	d := openEmpty(t)
	if err := d.Exec(t.Context(), "CREATE TABLE sluis_sync.raw AS SELECT 1 AS k, 'a' AS v UNION ALL SELECT 2, 'b'"); err != nil {
		t.Fatal(err)
	}
	return &priced{Driver: d, sizes: sizes}
}

const (
	source = `
-- models/s.yml --
sources: [{name: raw, schema: sluis_sync, tables: [{name: raw}]}]
`
	table       = "{{ config(materialized='table') }}select k, v from {{ source('raw', 'raw') }}\n"
	incremental = "{{ config(materialized='incremental', unique_key='k') }}select k, v from {{ source('raw', 'raw') }}{% if is_incremental() %} where k > 1{% endif %}\n"
	fixpoint    = "{{ config(materialized='fixpoint', meta={'fixpoint': {'kind': 'components'}}) }}select v as node_a, 'a' as node_b from {{ source('raw', 'raw') }}\n"
)

// audiences is the project of an audience of a materialization.
func audiences(kind string) string {
	return strings.NewReplacer("KIND", kind, "SIZE", "1", "QUERY", "select profile_id from {{ ref('consent_profile') }} where allowed and purpose = 'marketing'").Replace(audienceProject)
}

// metered is what became of a node under a budget.
type metered struct {
	Status runner.Status
	Bytes  int64
	Over   runner.BudgetKind
}

func meteredOf(results runner.Results) map[string]metered {
	all := map[string]metered{}
	for _, r := range results {
		o := metered{Status: r.Status, Bytes: r.Bytes}
		if r.OverBudget != nil {
			o.Over = r.OverBudget.Kind
		}
		all[r.Name] = o
	}
	return all
}

func TestBudget(t *testing.T) {
	sizes := map[string]int64{
		"raw": 100, "consent_profile": 30, "a__candidate": 7,
		"m": 50, "m__new": 5, "m__graph": 9, "m__loading": 3,
	}
	own := func(value string) string {
		return "-- models/m.sql --\n{{ config(materialized='table', meta={'max_bytes': " + value + "}) }}select k, v from {{ source('raw', 'raw') }}\n"
	}
	tests := []struct {
		name    string
		project string
		before  string // a project that was built without a budget
		budget  runner.Budget
		want    map[string]metered
	}{
		{"none, no estimate", "-- models/m.sql --\n" + table, "", runner.Budget{}, map[string]metered{"m": {runner.Built, -1, ""}}},
		{"enough for the model", "-- models/m.sql --\n" + table, "", runner.Budget{Model: 100}, map[string]metered{"m": {runner.Built, 100, ""}}},
		{"too little for the query", "-- models/m.sql --\n" + table, "", runner.Budget{Model: 99}, map[string]metered{"m": {runner.Failed, 0, runner.ModelBudget}}},
		{
			"what depends on it is skipped", "-- models/m.sql --\n" + table + "-- models/n.sql --\nselect * from {{ ref('m') }}\n-- models/o.sql --\nselect 1 as i\n", "",
			runner.Budget{Model: 99},
			map[string]metered{"m": {runner.Failed, 0, runner.ModelBudget}, "n": {runner.Skipped, -1, ""}, "o": {runner.Built, 0, ""}},
		},
		{
			"enough for one, and not for the run", "-- models/m.sql --\n" + table + "-- models/n.sql --\n" + table, "",
			runner.Budget{Model: 100, Run: 199},
			map[string]metered{"m": {runner.Built, 100, ""}, "n": {runner.Failed, 0, runner.RunBudget}},
		},
		{"one of its own, larger", own("'1KiB'"), "", runner.Budget{Model: 1}, map[string]metered{"m": {runner.Built, 100, ""}}},
		{"one of its own, smaller", own("99"), "", runner.Budget{Model: 1000}, map[string]metered{"m": {runner.Failed, 0, runner.OwnBudget}}},
		{"one of its own alone", own("99"), "", runner.Budget{}, map[string]metered{"m": {runner.Failed, 0, runner.OwnBudget}}},
		{"none of its own", own("0"), "", runner.Budget{Model: 1}, map[string]metered{"m": {runner.Built, -1, ""}}},
		{"none of its own, but one of the run", own("0"), "", runner.Budget{Model: 1, Run: 99}, map[string]metered{"m": {runner.Failed, 0, runner.RunBudget}}},
		{"a view", "-- models/m.sql --\nselect * from {{ source('raw', 'raw') }}\n", "", runner.Budget{Model: 1}, map[string]metered{"m": {runner.Built, 0, ""}}},
		{"an incremental model, new", "-- models/m.sql --\n" + incremental, "", runner.Budget{Model: 100}, map[string]metered{"m": {runner.Built, 100, ""}}},
		// The query 100, the merge 50 + 5.
		{
			"an incremental model, there already", "-- models/m.sql --\n" + incremental, "-- models/m.sql --\n" + incremental,
			runner.Budget{Model: 155},
			map[string]metered{"m": {runner.Built, 155, ""}},
		},
		{
			"too little for the merge", "-- models/m.sql --\n" + incremental, "-- models/m.sql --\n" + incremental,
			runner.Budget{Model: 154},
			map[string]metered{"m": {runner.Failed, 100, runner.ModelBudget}},
		},
		{"too little for a round", "-- models/m.sql --\n" + fixpoint, "", runner.Budget{Model: 110}, map[string]metered{"m": {runner.Failed, 100, runner.ModelBudget}}},
		// The candidate 30, the check 30 + 7, the table 7.
		{
			"an audience", audiences("table"), "",
			runner.Budget{Model: 74},
			map[string]metered{"consent_profile": {runner.Built, 0, ""}, "a": {runner.Built, 74, ""}},
		},
		{
			"too little for the check", audiences("table"), "",
			runner.Budget{Model: 66},
			map[string]metered{"consent_profile": {runner.Built, 0, ""}, "a": {runner.Failed, 30, runner.ModelBudget}},
		},
		{"a seed", "-- seeds/m.csv --\nk\n1\n", "", runner.Budget{Model: 3}, map[string]metered{"m": {runner.Built, 3, ""}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := openPriced(t, sizes)
			if test.before != "" {
				build(t, load(t, runner.Options{Dir: project(source + test.before)}), d, "")
			}
			d.estimated = nil
			results, err := load(t, runner.Options{Dir: project(source + test.project), Budget: test.budget}).Run(t.Context(), d, "")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, meteredOf(results)); diff != "" {
				t.Errorf("(-want +got)\n%s\n%v", diff, results.Err())
			}
			if test.want["m"].Bytes == -1 && len(d.estimated) > 0 {
				t.Errorf("estimates were made: %q", d.estimated)
			}
			left, err := warehouse.Collect(t.Context(), d.Driver, "SELECT table_name FROM information_schema.tables WHERE table_name LIKE '%\\_\\_%' ESCAPE '\\'")
			if err != nil || len(left) > 0 {
				t.Errorf("tables left behind: %v, %v", left, err)
			}
		})
	}
}

// A refused statement has no effect, and what was there stays: also an
// audience, of whose members a check that is not made says nothing.
func TestRefusedLeavesWhatWasThere(t *testing.T) {
	d := openPriced(t, map[string]int64{"raw": 100, "a__candidate": 7})
	build(t, load(t, runner.Options{Dir: project(source + audiences("table"))}), d, "")
	build(t, load(t, runner.Options{Dir: project(source + "-- models/m.sql --\n{{ config(materialized='table') }}select 0 as k, 'old' as v\n")}), d, "")
	d.ran = nil
	p := load(t, runner.Options{Dir: project(source + audiences("table") + "-- models/m.sql --\n" + table), Budget: runner.Budget{Model: 6}})
	results, err := p.Run(t.Context(), d, "a m")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]metered{"a": {runner.Failed, 0, runner.ModelBudget}, "m": {runner.Failed, 0, runner.ModelBudget}}
	if diff := cmp.Diff(want, meteredOf(results)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	for _, refused := range []string{"create or replace table sluis_models.m ", "select count(*) from (select a.profile_id"} {
		if slices.ContainsFunc(d.ran, func(query string) bool { return strings.HasPrefix(query, refused) }) {
			t.Errorf("it was run: %q", d.ran)
		}
	}
	wantRows(t, d, "SELECT profile_id FROM a", []string{"yes"})
	wantRows(t, d, "SELECT v FROM m", []string{"old"})
}

// Two models that run at the same time cannot together exceed what each alone
// would not.
func TestRunBudgetIsReserved(t *testing.T) {
	d := openPriced(t, map[string]int64{"raw": 60})
	var both sync.WaitGroup // until both have been estimated, none is reserved
	both.Add(2)
	var once sync.Once
	decided := make(chan struct{}) // one runs alone, or both run
	d.estimating = func(query string) error {
		if strings.Contains(query, "raw") {
			both.Done()
			both.Wait()
		}
		return nil
	}
	running := make(chan struct{}, 2)
	d.running = func(query string) error {
		if !strings.Contains(query, "raw") {
			return nil
		}
		running <- struct{}{}
		if len(running) == 2 {
			once.Do(func() { close(decided) })
		}
		<-decided
		return nil
	}
	p := load(t, runner.Options{
		Dir:     project(source + "-- models/m.sql --\n" + table + "-- models/n.sql --\n" + table),
		Threads: 2, Budget: runner.Budget{Run: 100},
		Progress: func(r runner.NodeResult) {
			if r.OverBudget != nil {
				once.Do(func() { close(decided) })
			}
		},
	})
	results, err := p.Run(t.Context(), d, "")
	if err != nil {
		t.Fatal(err)
	}
	refused := results[0] // the other waits for it
	want := &runner.OverBudgetError{Kind: runner.RunBudget, Bytes: 60, Limit: 100, Left: 40}
	if diff := cmp.Diff(want, refused.OverBudget); diff != "" || results[1].Status != runner.Built || results[1].Bytes != 60 {
		t.Errorf("%v (-want +got)\n%s", results, diff)
	}
}

// What a statement reserved is there for others if it failed, which is not
// billed, and is not if it was cancelled, which may be.
func TestFailedStatementIsNotCounted(t *testing.T) {
	for _, test := range []struct {
		failure error
		want    map[string]metered
	}{
		{errors.New("out of memory"), map[string]metered{"m": {runner.Failed, 0, ""}, "n": {runner.Built, 60, ""}}},
		{context.DeadlineExceeded, map[string]metered{"m": {runner.Failed, 60, ""}, "n": {runner.Failed, 0, runner.RunBudget}}},
	} {
		d := openPriced(t, map[string]int64{"raw": 60})
		d.running = func(query string) error {
			if strings.HasPrefix(query, "create or replace table sluis_models.m ") {
				return test.failure
			}
			return nil
		}
		p := load(t, runner.Options{Dir: project(source + "-- models/m.sql --\n" + table + "-- models/n.sql --\n" + table), Budget: runner.Budget{Run: 100}})
		results, err := p.Run(t.Context(), d, "")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, meteredOf(results)); diff != "" {
			t.Errorf("%v: (-want +got)\n%s", test.failure, diff)
		}
	}
}

// What cannot be estimated is not run under a budget, and is no refusal.
func TestEstimatorFails(t *testing.T) {
	d := openPriced(t, nil)
	d.estimating = func(string) error { return errors.New("no route to host") }
	p := load(t, runner.Options{Dir: project(source + "-- models/m.sql --\n" + table), Budget: runner.Budget{Model: 1000}})
	results, err := p.Run(t.Context(), d, "")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]metered{"m": {runner.Failed, 0, ""}}, meteredOf(results)); diff != "" || !strings.Contains(results[0].Message, "no route to host") {
		t.Errorf("%v (-want +got)\n%s", results, diff)
	}
	if _, err := d.Columns(t.Context(), "sluis_models", "m"); !errors.Is(err, warehouse.ErrNoRelation) {
		t.Errorf("it was run: %v", err)
	}
}

// A warehouse that bills nothing has no budgets.
func TestNoBudgetWithoutEstimates(t *testing.T) {
	d := openPriced(t, nil).Driver
	p := load(t, runner.Options{Dir: project(source + "-- models/m.sql --\n{{ config(meta={'max_bytes': 1}) }}" + table), Budget: runner.Budget{Model: 1, Run: 1}})
	build(t, p, d, "")
	estimates, err := p.Estimate(t.Context(), d, "")
	want := []runner.Estimate{{Name: "m", Kind: runner.Model, Path: "models/m.sql", Materialized: runner.Table, Budget: 1}}
	if diff := cmp.Diff(want, estimates); diff != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
}

func TestMaxBytesIsANumberOfBytes(t *testing.T) {
	for _, value := range []string{"'a lot'", "-1", "1.5", "true", "'10GB'"} {
		_, err := runner.Load(runner.Options{Dir: project("-- models/m.sql --\n{{ config(meta={'max_bytes': " + value + "}) }}select 1 as i\n")})
		if err == nil || !strings.Contains(err.Error(), "models/m.sql:1: meta.max_bytes: ") || !strings.Contains(err.Error(), "write a whole number") {
			t.Errorf("%s: %v", value, err)
		}
	}
}

// estimate returns the estimates of a project by name, without what names them.
func estimate(t *testing.T, files fs.FS, full bool, d warehouse.Driver, selector string) map[string]runner.Estimate {
	t.Helper()
	estimates, err := load(t, runner.Options{Dir: files, FullRefresh: full, Threads: 2, Budget: runner.Budget{Model: 1000}}).Estimate(t.Context(), d, selector)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]runner.Estimate{}
	for _, e := range estimates {
		all[e.Name] = runner.Estimate{Bytes: e.Bytes, AtLeast: e.AtLeast, Stale: e.Stale, Missing: e.Missing, Err: e.Err, Budget: e.Budget}
	}
	return all
}

func TestEstimate(t *testing.T) {
	sizes := map[string]int64{"raw": 100, "consent_profile": 30, "m": 50, "v": 1, "e": 1, "a": 1}
	tests := []struct {
		name     string
		project  string
		before   string // what is there
		full     bool
		selector string
		want     map[string]runner.Estimate
	}{
		{"a table", "-- models/m.sql --\n" + table, "", false, "", map[string]runner.Estimate{"m": {Bytes: 100, Budget: 1000}}},
		{"a view", "-- models/m.sql --\nselect * from {{ source('raw', 'raw') }}\n", "", false, "", map[string]runner.Estimate{"m": {Budget: 1000}}},
		{"an incremental model, new", "-- models/m.sql --\n" + incremental, "", false, "", map[string]runner.Estimate{"m": {Bytes: 100, Budget: 1000}}},
		{
			"an incremental model, there already", "-- models/m.sql --\n" + incremental, "-- models/m.sql --\n" + incremental, false, "",
			map[string]runner.Estimate{"m": {Bytes: 150, AtLeast: true, Budget: 1000}},
		},
		{
			"an incremental model, from nothing", "-- models/m.sql --\n" + incremental, "-- models/m.sql --\n" + incremental, true, "",
			map[string]runner.Estimate{"m": {Bytes: 100, Budget: 1000}},
		},
		{
			"an incremental model, where a view is", "-- models/m.sql --\n" + incremental, "-- models/m.sql --\nselect 1 as k, 'x' as v", false, "",
			map[string]runner.Estimate{"m": {Bytes: 100, Budget: 1000}},
		},
		{"a fixpoint", "-- models/m.sql --\n" + fixpoint, "", false, "", map[string]runner.Estimate{"m": {Bytes: 100, AtLeast: true, Budget: 1000}}},
		{
			"an audience", audiences("table"), audiences("table"), false, "a",
			map[string]runner.Estimate{"a": {Bytes: 60, AtLeast: true, Budget: 1000}},
		},
		{
			"an audience that is a view", audiences("view"), audiences("view"), false, "",
			map[string]runner.Estimate{"consent_profile": {Budget: 1000}, "a": {Bytes: 60, AtLeast: true, Stale: true, Budget: 1000}},
		},
		{
			"an audience before its consent", audiences("table"), "", false, "",
			map[string]runner.Estimate{"consent_profile": {Budget: 1000}, "a": {Bytes: -1, Stale: true, Missing: []string{"sluis_models.consent_profile"}, Budget: 1000}},
		},
		{"a seed", "-- seeds/m.csv --\nk\n1\n", "", false, "", map[string]runner.Estimate{"m": {AtLeast: true, Budget: 1000}}},
		{
			"a budget of its own", "-- models/m.sql --\n{{ config(meta={'max_bytes': '2KiB'}) }}select 1 as i\n", "", false, "",
			map[string]runner.Estimate{"m": {Budget: 2048}},
		},
		{
			"what is missing, also through an ephemeral model",
			"-- models/m.sql --\n" + table + "-- models/e.sql --\n{{ config(materialized='ephemeral') }}select * from {{ ref('m') }}\n" +
				"-- models/x.sql --\n{{ config(materialized='table') }}select e.k from {{ ref('e') }} as e join {{ source('raw', 'raw') }} as r on r.k = e.k\n" +
				"-- models/y.sql --\n{{ config(materialized='table') }}select * from {{ ref('x') }}\n", "", false, "x y",
			map[string]runner.Estimate{
				"x": {Bytes: -1, Missing: []string{"sluis_models.m"}, Budget: 1000},
				"y": {Bytes: -1, Stale: true, Missing: []string{"sluis_models.x"}, Budget: 1000},
			},
		},
		{
			"what the run would build first", "-- models/m.sql --\n" + table + "-- models/e.sql --\n{{ config(materialized='ephemeral') }}select * from {{ ref('m') }}\n" +
				"-- models/x.sql --\n{{ config(materialized='table') }}select * from {{ ref('e') }}\n", "-- models/m.sql --\n" + table, false, "",
			map[string]runner.Estimate{"m": {Bytes: 100, Budget: 1000}, "e": {Stale: true, Budget: 1000}, "x": {Bytes: 50, Stale: true, Budget: 1000}},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := openPriced(t, sizes)
			build(t, load(t, runner.Options{Dir: project(source + test.before)}), d, "")
			before := rowsOf(t, d.Driver, nil, "SELECT table_name, table_type FROM information_schema.tables")
			d.ran = nil
			if diff := cmp.Diff(test.want, estimate(t, project(source+test.project), test.full, d, test.selector)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			for _, query := range d.ran {
				if !strings.HasPrefix(query, "select table_name, table_type from information_schema") {
					t.Errorf("it ran %s", query)
				}
			}
			wantRows(t, d.Driver, "SELECT table_name, table_type FROM information_schema.tables", before...)
		})
	}
}

// A source that is missing is told like a model, and what is wrong otherwise
// as it is.
func TestEstimateTellsWhatIsWrong(t *testing.T) {
	d := openPriced(t, nil)
	got := estimate(t, project(`
-- models/s.yml --
sources: [{name: s, schema: sluis, tables: [{name: nothing}]}]
-- models/m.sql --
{{ config(materialized='table') }}select * from {{ source('s', 'nothing') }}
-- models/n.sql --
{{ config(materialized='table') }}select no_such_function(1) as i
`), false, d, "")
	if diff := cmp.Diff([]string{"sluis.nothing"}, got["m"].Missing); diff != "" || got["m"].Bytes != -1 {
		t.Errorf("m: %+v", got["m"])
	}
	if n := got["n"]; n.Bytes != -1 || n.Err == nil || !strings.Contains(n.Err.Error(), "no_such_function") {
		t.Errorf("n: %+v", n)
	}
	d.estimating = func(string) error { return errors.New("no route to host") }
	got = estimate(t, project(source+"-- models/m.sql --\n"+table), false, d, "")
	if m := got["m"]; m.Bytes != -1 || m.Missing != nil || m.Err == nil || m.Err.Error() != "no route to host" {
		t.Errorf("without a connection: %+v", m)
	}
}

// An estimate is what the build is then counted with, but for the tables that
// a build makes for itself, which are free here: so no statement of a build is
// forgotten.
func TestEstimateAgreesWithTheBuild(t *testing.T) {
	d := &priced{Driver: newWorld(t).open(), sizes: map[string]int64{}}
	defer d.Close()
	for i, table := range warehouse.Landing() {
		d.sizes[table.Name] = int64(1000 + i)
	}
	p := load(t, runner.Options{Dir: workspace(t, map[string]string{
		"models/more.sql": "{{ config(materialized='incremental', contract={'enforced': false}, unique_key='profile_id') }}select profile_id from {{ ref('profiles') }}",
		"models/more.yml": "models: [{name: more}]",
	}), Budget: runner.Budget{Run: 1 << 40}})
	build(t, p, d, "")
	nodes, err := p.List("")
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range nodes {
		d.sizes[n.Name] = int64(1 + i)
	}
	estimates, err := p.Estimate(t.Context(), d, "")
	if err != nil {
		t.Fatal(err)
	}
	estimated, counted := map[string]int64{}, map[string]int64{}
	for _, e := range estimates {
		if estimated[e.Name] = e.Bytes; e.Err != nil || e.Missing != nil {
			t.Errorf("%+v", e)
		}
	}
	results, err := p.Run(t.Context(), d, "")
	if err := errors.Join(err, results.Err()); err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		counted[r.Name] = r.Bytes
	}
	if diff := cmp.Diff(counted, estimated); diff != "" || counted["more"] == 0 {
		t.Errorf("(-counted +estimated)\n%s", diff)
	}
}

// TestARunAsksOnceWhatThereIs: each question is a job, so one is for all models; and
// what became of the other kind since the last run is still found.
func TestARunAsksOnceWhatThereIs(t *testing.T) {
	d := openPriced(t, nil)
	view := strings.Replace(table, "'table'", "'view'", 1)
	for _, models := range [][3]string{{table, view, incremental}, {view, incremental, table}, {incremental, table, view}} {
		text := source
		for i, model := range models {
			text += fmt.Sprintf("-- models/m%d.sql --\n%s", i, model)
		}
		d.ran = nil
		results, err := load(t, runner.Options{Dir: project(text), Threads: 2}).Run(t.Context(), d, "")
		if err := errors.Join(err, results.Err()); err != nil {
			t.Fatal(err)
		}
		asked := 0
		for _, query := range d.ran {
			if strings.Contains(query, "information_schema.tables") {
				asked++
			}
		}
		if asked != 1 {
			t.Errorf("it asked %d times what there is", asked)
		}
		var want [][]string
		for i, model := range models {
			kind := "BASE TABLE"
			if model == view {
				kind = "VIEW"
			}
			want = append(want, []string{fmt.Sprintf("m%d", i), kind})
		}
		wantRows(t, d.Driver, "SELECT table_name, table_type FROM information_schema.tables WHERE table_name LIKE 'm_' ORDER BY 1", want...)
	}
}
