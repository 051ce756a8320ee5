package runner_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/sql/duckdb"
	"github.com/sluis-cdp/sluis/sql/runner"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

func openEmpty(t *testing.T) warehouse.Driver {
	t.Helper()
	d, err := duckdb.Open(t.Context(), duckdb.Config{Path: filepath.Join(t.TempDir(), "w.duckdb")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func statuses(results runner.Results) map[string]runner.Status {
	all := map[string]runner.Status{}
	for _, r := range results {
		all[r.Name] = r.Status
	}
	return all
}

func wantRows(t *testing.T, d warehouse.Driver, query string, want ...[]string) {
	t.Helper()
	if want == nil {
		want = [][]string{}
	}
	if diff := cmp.Diff(want, rowsOf(t, d, nil, query)); diff != "" {
		t.Errorf("%s: (-want +got)\n%s", query, diff)
	}
}

const stages = `
-- models/m.yml --
models:
  - name: one
    config: {tags: [first], materialized: table}
    columns:
      - name: i
        data_tests: [unique, not_null]
  - name: inner
    config: {materialized: ephemeral}
-- models/one.sql --
select 1 as i
-- models/inner.sql --
select i + 1 as i from {{ ref('one') }}
-- models/deep/two.sql --
select i from {{ ref('inner') }} as x
-- models/deep/three.sql --
select i + 1 as i from {{ ref('two') }}
-- models/other.sql --
select 9 as i
-- tests/three_is_three.sql --
select i from {{ ref('three') }} where i <> 3
`

func TestRunOrderAndSelection(t *testing.T) {
	p := load(t, runner.Options{Dir: project(stages), Threads: 3})
	tests := []struct {
		selector string
		want     []string
	}{
		{"one", []string{"not_null_one_i", "one", "unique_one_i"}},
		{"+three", []string{"inner", "not_null_one_i", "one", "three", "three_is_three", "two", "unique_one_i"}},
		{"two+", []string{"three", "three_is_three", "two"}},
		{"tag:first other", []string{"not_null_one_i", "one", "other", "unique_one_i"}},
		{"path:models/deep", []string{"three", "three_is_three", "two"}},
		{"path:models/deep/two.sql", []string{"two"}},
		{"t*", []string{"three", "three_is_three", "two"}},
	}
	for _, test := range tests {
		nodes, err := p.List(test.selector)
		if err != nil {
			t.Errorf("List(%q): %v", test.selector, err)
		}
		var got []string
		for _, n := range nodes {
			got = append(got, n.Name)
		}
		slices.Sort(got)
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("List(%q): (-want +got)\n%s", test.selector, diff)
		}
	}
	for _, selector := range []string{"nope", "tag:nope", "path:nope", "one nope", "method:x"} {
		if _, err := p.List(selector); err == nil {
			t.Errorf("List(%q) found something", selector)
		}
	}
	d := openEmpty(t)
	build(t, p, d, "")
	wantRows(t, d, "SELECT i FROM three", []string{"3"})
	if _, err := d.Columns(t.Context(), "sluis_models", "inner"); !errors.Is(err, warehouse.ErrNoRelation) {
		t.Errorf("the ephemeral model was built: %v", err)
	}
}

func TestRunSkipsWhatDependsOnAFailure(t *testing.T) {
	p := load(t, runner.Options{Dir: project(`
-- models/good.sql --
select 1 as i
-- models/bad.sql --
{{ config(materialized='table') }}select cast('x' as int64) as i from {{ ref('good') }}
-- models/child.sql --
select * from {{ ref('bad') }}
-- models/grandchild.sql --
select * from {{ ref('child') }}
-- models/apart.sql --
select 2 as i
`), Threads: 2})
	results, err := p.Run(t.Context(), openEmpty(t), "")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]runner.Status{"good": runner.Built, "bad": runner.Failed, "child": runner.Skipped, "grandchild": runner.Skipped, "apart": runner.Built}
	if diff := cmp.Diff(want, statuses(results)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if err := results.Err(); err == nil || !strings.Contains(err.Error(), "models/bad.sql") {
		t.Errorf("Err: %v", err)
	}
}

// A table stays as it was if its new version cannot be computed, and may
// become a view and back.
func TestRunReplacesWhole(t *testing.T) {
	d := openEmpty(t)
	for _, step := range []struct {
		model  string
		status runner.Status
		want   string
	}{
		{"{{ config(materialized='table') }}select 'first' as s", runner.Built, "first"},
		{"{{ config(materialized='table') }}select cast(cast('x' as int64) as string) as s", runner.Failed, "first"},
		{"{{ config(materialized='view') }}select 'second' as s", runner.Built, "second"},
		{"{{ config(materialized='table') }}select 'third' as s", runner.Built, "third"},
	} {
		p := load(t, runner.Options{Dir: project("-- models/m.sql --\n" + step.model)})
		results, err := p.Run(t.Context(), d, "")
		if err != nil || results[0].Status != step.status {
			t.Fatalf("%s: %v, %v", step.model, results, err)
		}
		wantRows(t, d, "SELECT s FROM m", []string{step.want})
	}
}

func TestRunIncremental(t *testing.T) {
	d := openEmpty(t)
	if err := d.Exec(t.Context(), "CREATE TABLE sluis_sync.raw AS SELECT 1 AS k, 'a' AS v, 1 AS seq"); err != nil {
		t.Fatal(err)
	}
	const files = `
-- models/s.yml --
sources: [{name: raw, schema: sluis_sync, tables: [{name: raw}]}]
-- models/merged.sql --
{{ config(materialized='incremental', unique_key='k') }}
select k, v, seq from {{ source('raw', 'raw') }}
{% if is_incremental() %}where seq > (select max(seq) from {{ this }}){% endif %}
-- models/appended.sql --
{{ config(materialized='incremental') }}
select k, v, seq from {{ source('raw', 'raw') }}
{% if is_incremental() %}where seq > (select max(seq) from {{ this }}){% endif %}
`
	p := load(t, runner.Options{Dir: project(files)})
	build(t, p, d, "")
	if err := d.Exec(t.Context(), "INSERT INTO sluis_sync.raw VALUES (1, 'b', 2), (2, 'c', 2)"); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second run finds nothing new
		build(t, p, d, "")
		wantRows(t, d, "SELECT k, v FROM merged", []string{"1", "b"}, []string{"2", "c"})
		wantRows(t, d, "SELECT k, v FROM appended", []string{"1", "a"}, []string{"1", "b"}, []string{"2", "c"})
	}
	wider := strings.ReplaceAll(files, "select k, v, seq", "select k, v, seq, 7 as more")
	results, err := load(t, runner.Options{Dir: project(wider)}).Run(t.Context(), d, "merged")
	if err != nil || results[0].Status != runner.Failed || !strings.Contains(results[0].Message, "--full-refresh") {
		t.Errorf("a new column: %v, %v", results, err)
	}
	build(t, load(t, runner.Options{Dir: project(wider), FullRefresh: true}), d, "merged")
	wantRows(t, d, "SELECT k, more FROM merged", []string{"1", "7"}, []string{"1", "7"}, []string{"2", "7"})
}

func TestRunSeed(t *testing.T) {
	d := openEmpty(t)
	build(t, load(t, runner.Options{Dir: project(`
-- seeds/s.csv --
name,n,yes,at,code
x,1,true,2026-03-01,007
y,,false,2026-03-01T10:00:00Z,
-- seeds/s.yml --
seeds:
  - name: s
    config: {column_types: {yes: boolean, at: timestamp, code: string}}
`)}), d, "")
	wantRows(t, d, "SELECT * FROM s", []string{"x", "1", "true", "2026-03-01 00:00", "007"}, []string{"y", "", "false", "2026-03-01 10:00", ""})
	for name, seed := range map[string]string{
		"a type that is none": "-- seeds/s.csv --\nn\n1\n-- seeds/s.yml --\nseeds: [{name: s, config: {column_types: {n: money}}}]\n",
		"a wrong value":       "-- seeds/s.csv --\nn\nx\n-- seeds/s.yml --\nseeds: [{name: s, config: {column_types: {n: int64}}}]\n",
		"a field too many":    "-- seeds/s.csv --\nn\n1,2\n",
		"an empty file":       "-- seeds/s.csv --\n",
	} {
		results, err := load(t, runner.Options{Dir: project(seed)}).Run(t.Context(), d, "")
		if err != nil || results[0].Status != runner.Failed || !strings.Contains(results[0].Message, "seeds/s.csv") {
			t.Errorf("%s: %v, %v", name, results, err)
		}
	}
	wantRows(t, d, "SELECT count(*) FROM s", []string{"2"})
}

func TestTestsFindWrongRows(t *testing.T) {
	p := load(t, runner.Options{Dir: project(`
-- macros/unique_together.sql --
{% test unique_together(model, columns) %}
select {{ columns | join(', ') }} from {{ model }} group by {{ columns | join(', ') }} having count(*) > 1
{% endtest %}
-- models/parent.sql --
select 1 as id
-- models/m.sql --
select * from (values (1, 'a'), (1, 'b'), (null, 'c'), (7, 'c')) as v(id, kind)
-- models/m.yml --
models:
  - name: m
    data_tests:
      - unique_together: {arguments: {columns: [id, kind]}}
      - unique_together: {arguments: {columns: [kind]}}
    columns:
      - name: id
        data_tests:
          - unique
          - not_null: {config: {where: "kind <> 'c'"}}
          - not_null: {name: warns, config: {severity: warn}}
          - relationships: {arguments: {to: ref('parent'), field: id}}
      - name: kind
        data_tests:
          - accepted_values: {arguments: {values: [a, b]}}
          - accepted_values: {name: accepts_all, arguments: {values: [a, b, c]}}
-- tests/finds.sql --
select * from {{ ref('m') }} where id = 7
`)})
	d := openEmpty(t)
	if _, err := p.Run(t.Context(), d, ""); err != nil {
		t.Fatal(err)
	}
	results, err := p.Test(t.Context(), d, "")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]runner.Status{
		"unique_together_m_id__kind": runner.Passed, "unique_together_m_kind": runner.Failed,
		"unique_m_id": runner.Failed, "not_null_m_id": runner.Passed, "warns": runner.Warned,
		"relationships_m_id__id__ref_parent_": runner.Failed, "accepted_values_m_kind__a__b": runner.Failed, "accepts_all": runner.Passed, "finds": runner.Failed,
	}
	if diff := cmp.Diff(want, statuses(results)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

const audienceProject = `
-- dbt_project.yml --
name: p
vars: {purposes: [marketing]}
-- models/consent_profile.sql --
{{ config(materialized='table') }}
select 'yes' as profile_id, 'marketing' as purpose, true as allowed
union all select 'no', 'marketing', false
union all select 'other', 'analytics', true
-- models/audiences/a.yml --
models:
  - name: a
    config: {materialized: KIND, meta: {audience: {entity: profile, purpose: marketing, min_size: SIZE}}}
-- models/audiences/a.sql --
QUERY
`

// However an audience is written, and whatever the project says about tests,
// nobody is published without consent.
func TestAudienceIsCheckedBeforeItIsPublished(t *testing.T) {
	tests := []struct {
		query, size string
		published   bool
	}{
		{"select 'yes' as profile_id", "1", true},
		{"select 'yes' as profile_id where false", "5", true},
		{"select 'yes' as profile_id union all select 'no'", "1", false},
		{"select 'other' as profile_id", "1", false},
		{"select 'unknown' as profile_id", "1", false},
		{"select cast(null as string) as profile_id", "1", false},
		{"select 'yes' as profile_id", "2", false},
		{"select 'yes' as somebody", "1", false},
	}
	for _, kind := range []string{"table", "view"} {
		d := openEmpty(t)
		for _, test := range tests {
			text := strings.NewReplacer("KIND", kind, "SIZE", test.size, "QUERY", test.query).Replace(audienceProject)
			p := load(t, runner.Options{Dir: project(text)})
			if err := d.Exec(t.Context(), "CREATE TABLE IF NOT EXISTS before AS SELECT 1 AS i"); err != nil {
				t.Fatal(err)
			}
			results, err := p.Run(t.Context(), d, "")
			if err != nil {
				t.Fatal(err)
			}
			_, err = d.Columns(t.Context(), "sluis_models", "a")
			if published := err == nil; published != test.published {
				t.Errorf("%s of %q, min_size %s: published is %t: %v", kind, test.query, test.size, published, results)
			}
			if (results.Err() == nil) != test.published {
				t.Errorf("%s of %q: %v", kind, test.query, results.Err())
			}
			results, err = p.Test(t.Context(), d, "a")
			if err != nil || len(results) != 1 || (results.Err() == nil) != test.published {
				t.Errorf("%s of %q: the check among the tests: %v, %v", kind, test.query, results, err)
			}
			if _, err := d.Columns(t.Context(), "sluis_models", "a__candidate"); !errors.Is(err, warehouse.ErrNoRelation) {
				t.Errorf("the candidate is left: %v", err)
			}
		}
	}
}

func TestRunCancelled(t *testing.T) {
	p := load(t, runner.Options{Dir: project(stages)})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	results, err := p.Run(ctx, openEmpty(t), "")
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Run: %v", err)
	}
	if slices.ContainsFunc(results, func(r runner.NodeResult) bool { return r.Status == runner.Built }) {
		t.Errorf("something was built: %v", results)
	}
}

func TestTargetKeepsCompiledSQL(t *testing.T) {
	target := t.TempDir()
	p := load(t, runner.Options{Dir: project(stages), Target: target})
	build(t, p, openEmpty(t), "+two")
	for file, want := range map[string]string{
		"models/deep/two.sql":           "select i from (\nselect i + 1 as i from sluis_models.one\n) as x\n",
		"models/m.yml/unique_one_i.sql": "select i from sluis_models.one as t where i is not null group by i having count(*) > 1\n",
	} {
		got, err := os.ReadFile(filepath.Join(target, "compiled", file))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", file, diff)
		}
	}
}

func TestVarsAndEnvironment(t *testing.T) {
	p := load(t, runner.Options{
		Dir: project(`
-- dbt_project.yml --
name: p
vars:
  a: from file
  p: {b: own}
-- models/m.sql --
select '{{ var('a') }}' as a, '{{ var('b') }}' as b, '{{ var('c', 'default') }}' as c, '{{ env_var('DBT_D') }}' as d, '{{ env_var('SLUIS_E', 'e') }}' as e
`),
		Vars: map[string]any{"a": "given"}, Env: map[string]string{"DBT_D": "dee"},
	})
	compiled, err := p.Compile("duckdb", "m")
	if err != nil {
		t.Fatal(err)
	}
	want := "select 'given' as a, 'own' as b, 'default' as c, 'dee' as d, 'e' as e"
	if compiled[0].SQL != want {
		t.Errorf("got  %s\nwant %s", compiled[0].SQL, want)
	}
}
