package runner_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/sql/runner"
	"github.com/sluis-cdp/sluis/sql/runner/artifact"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

const shown = `
-- seeds/s.csv --
i
1
2
3
-- models/doubled.sql --
{{ config(materialized='table') }}select i * 2 as i from {{ ref('s') }}
-- models/inner.sql --
{{ config(materialized='ephemeral') }}select i from {{ ref('doubled') }}
-- models/top.sql --
select i from {{ ref('inner') }} as x order by i -- the smallest first
-- tests/none_is_four.sql --
select i from {{ ref('doubled') }} where i = 4
-- macros/m.sql --
{% macro half(x) %}{{ x }} / 2{% endmacro %}
`

// TestPreview looks at an edit before it is built, and at what was built before it.
func TestPreview(t *testing.T) {
	d := openEmpty(t)
	build(t, load(t, runner.Options{Dir: project(strings.ReplaceAll(shown, "where i = 4", "where i = 5"))}), d, "")
	edited := load(t, runner.Options{Dir: project(strings.Replace(shown, "i * 2", "i * 4", 1))})
	tests := []struct {
		name, model string
		limit       int
		built       bool
		want        [][]any
	}{
		{"as it is now", "doubled", 10, false, [][]any{{int64(4)}, {int64(8)}, {int64(12)}}},
		{"as it was built", "doubled", 10, true, [][]any{{int64(2)}, {int64(4)}, {int64(6)}}},
		{"a few", "top", 2, false, [][]any{{int64(2)}, {int64(4)}}},
		{"a seed", "s", 1, false, [][]any{{int64(1)}}},
		{"nothing is built of it", "inner", 10, false, [][]any{{int64(2)}, {int64(4)}, {int64(6)}}},
		{"what a test finds wrong", "none_is_four", 10, false, [][]any{{int64(4)}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := warehouse.All(edited.Preview(t.Context(), d, test.model, test.limit, test.built))
			if diff := cmp.Diff(test.want, got); err != nil || diff != "" {
				t.Errorf("%v (-want +got)\n%s", err, diff)
			}
		})
	}
	wantRows(t, d, "SELECT i FROM doubled", []string{"2"}, []string{"4"}, []string{"6"})
	for name, built := range map[string]bool{"nope": false, "inner": true, "none_is_four": true} {
		_, err := edited.Preview(t.Context(), d, name, 1, built)
		if _, ok := errors.AsType[*runner.SelectionError](err); !ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPreviewText(t *testing.T) {
	d := openEmpty(t)
	p := load(t, runner.Options{Dir: project(strings.ReplaceAll(shown, "where i = 4", "where i = 5"))})
	_, err := p.PreviewText(t.Context(), d, "select * from {{ ref('top') }}", 1)
	if err == nil || !strings.Contains(err.Error(), "sluis_models.top is not built yet: build it first, as with `sluis models build --select +top`") {
		t.Errorf("before it is built: %v", err)
	}
	build(t, p, d, "")
	got, err := warehouse.All(p.PreviewText(t.Context(), d, "select {{ half('i') }} as h from {{ ref('top') }} order by i desc;\n", 2))
	if diff := cmp.Diff([][]any{{float64(3)}, {float64(2)}}, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	for text, want := range map[string]string{
		"select * from {{ ref('nope') }}":   `there is no model or seed "nope"`,
		"select {{ 1":                       "the query:1",
		"drop table {{ ref('doubled') }}":   "only a single statement that reads",
		"select * from {{ source('a') }}":   "source takes the names",
		"select nope from {{ ref('top') }}": "nope",
	} {
		if _, err := p.PreviewText(t.Context(), d, text, 2); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// TestRetry mends a model, and does what failed and what was skipped again, and
// nothing else.
func TestRetry(t *testing.T) {
	const text = `
-- models/fine.sql --
{{ config(materialized='table') }}select 1 as i
-- models/broken.sql --
{{ config(materialized='table') }}select cast('x' as int64) as i from {{ ref('fine') }}
-- models/child.sql --
select i from {{ ref('broken') }}
-- models/other.sql --
select i from {{ ref('fine') }}
-- tests/broken_is_one.sql --
select i from {{ ref('broken') }} where i <> 1
`
	d := openEmpty(t)
	p := load(t, runner.Options{Dir: project(text)})
	results, err := p.Build(t.Context(), d, "")
	if err != nil {
		t.Fatal(err)
	}
	of := runner.Invocation{ID: "i", Started: time.Now(), Dialect: "duckdb"}
	earlier := p.RunResults(of, results, artifact.Args{Which: "build"}, time.Now())
	want := map[string]string{"model.p.fine": "success", "model.p.other": "success", "model.p.broken": "error", "model.p.child": "skipped", "test.p.broken_is_one": "skipped"}
	if diff := cmp.Diff(want, resultsOf(earlier)); diff != "" {
		t.Errorf("run_results: (-want +got)\n%s", diff)
	}
	mended := load(t, runner.Options{Dir: project(strings.Replace(text, "'x'", "'1'", 1))})
	again, err := mended.Retry(t.Context(), d, earlier)
	if diff := cmp.Diff(map[string]runner.Status{"broken": runner.Built, "child": runner.Built, "broken_is_one": runner.Passed}, statuses(again)); err != nil || diff != "" {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	if nothing, err := mended.Retry(t.Context(), d, mended.RunResults(of, again, artifact.Args{Which: "build"}, time.Now())); err != nil || len(nothing) != 0 {
		t.Errorf("after that: %v, %v", nothing, err)
	}
	if _, err := mended.Retry(t.Context(), d, artifact.RunResults{Args: artifact.Args{Which: "compile"}}); err == nil {
		t.Error("compile was tried again")
	}
}

func resultsOf(r artifact.RunResults) map[string]string {
	all := map[string]string{}
	for _, result := range r.Results {
		all[result.UniqueID] = result.Status
	}
	return all
}

// TestSelectionByResult picks what became so in an earlier run.
func TestSelectionByResult(t *testing.T) {
	dir := t.TempDir()
	p := load(t, runner.Options{Dir: project(gated)})
	results, err := p.Build(t.Context(), openEmpty(t), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := artifact.Write(dir, artifact.RunResultsFile, p.RunResults(runner.Invocation{Started: time.Now()}, results, artifact.Args{Which: "build"}, time.Now())); err != nil {
		t.Fatal(err)
	}
	state, err := runner.ReadState(dir)
	if err != nil {
		t.Fatal(err)
	}
	for selector, want := range map[string][]string{
		"result:fail":    {"test.p.unique_doubled_i"},
		"result:warn":    {"test.p.accepted_values_doubled_i__False__7"},
		"result:skipped": {"model.p.child", "model.p.grandchild"},
		"result:error":   nil,
	} {
		got, err := load(t, runner.Options{Dir: project(gated), State: state, Indirect: runner.Empty}).Select(selector)
		for i, id := range got {
			if parts := strings.Split(id, "."); len(parts) > 3 {
				got[i] = strings.Join(parts[:3], ".") // without the hash
			}
		}
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got)\n%s", selector, err, diff)
		}
	}
}

// TestCatalog tells types and rows of what is there, and leaves out what is not.
func TestCatalog(t *testing.T) {
	d := openEmpty(t)
	p := load(t, runner.Options{Dir: project(shown)})
	if _, err := p.Run(t.Context(), d, "s doubled"); err != nil {
		t.Fatal(err)
	}
	c, err := p.Catalog(t.Context(), d, runner.Invocation{Dialect: "duckdb"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Nodes) != 2 {
		t.Errorf("%d nodes", len(c.Nodes))
	}
	doubled := c.Nodes["model.p.doubled"]
	if doubled.Columns["i"].Type != "BIGINT" || doubled.Stats[artifact.RowCount].Value != int64(3) || doubled.Metadata.Type != "TABLE" {
		t.Errorf("%+v", doubled)
	}
}
