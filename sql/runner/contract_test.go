package runner_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	sqlproject "github.com/sluis-cdp/sluis/sql"
	"github.com/sluis-cdp/sluis/sql/runner"
)

// contracted is a project of one model with a contract of the columns i and t.
func contracted(config, query string) string {
	return `-- models/m.yml --
models:
  - name: m
    config: {contract: {enforced: true}` + config + `}
    columns:
      - name: i
        data_type: int64
      - name: t
        data_type: "{{ 'timestamptz' if target.type == 'duckdb' else 'timestamp' }}"
-- models/m.sql --
` + query + "\n"
}

const kept = `select cast(1 as bigint) as i, timestamptz '2026-03-01 00:00:00+00' as t`

// A query that breaks the contract changes nothing, whatever becomes of it, and
// is told with the file and line of the contract.
func TestContract(t *testing.T) {
	for _, materialized := range []string{"table", "view", "incremental"} {
		for _, test := range []struct {
			name, query string
			want        []string
		}{
			{"whole", kept, nil},
			{"order is free", "select now() as t, cast(2 as bigint) as i", nil},
			{"type", "select sum(1) as i, now() as t", []string{"models/m.yml:5: the column i is int64 here (BIGINT) and HUGEINT in the query: cast it in models/m.sql, or change data_type"}},
			{"type of YAML's Jinja", "select cast(1 as bigint) as i, timestamp '2026-03-01 00:00:00' as t", []string{"models/m.yml:7: the column t is timestamptz here (TIMESTAMP WITH TIME ZONE) and TIMESTAMP in the query"}},
			{"missing", "select cast(1 as bigint) as i", []string{"models/m.yml:7: the query has no column t: add it to models/m.sql, or remove it here"}},
			{"more", "select cast(1 as bigint) as i, now() as t, true as b", []string{`models/m.yml:7: the query has a column more, which is not described: remove it from models/m.sql, or add  - {name: b, data_type: "bool", description: …}`}},
			{"all at once", "select 'x' as i, 1 as n", []string{"column i is", "no column t", "{name: n,"}},
		} {
			t.Run(materialized+"/"+test.name, func(t *testing.T) {
				d := openEmpty(t)
				config := ", on_schema_change: fail, materialized: " + materialized
				build(t, load(t, runner.Options{Dir: project(contracted(config, kept))}), d, "")
				results, err := load(t, runner.Options{Dir: project(contracted(config, test.query))}).Run(t.Context(), d, "")
				if err != nil {
					t.Fatal(err)
				}
				if test.want == nil {
					if err := results.Err(); err != nil {
						t.Error(err)
					}
					return
				}
				if results[0].Status != runner.Failed || !strings.Contains(results[0].Message, "nothing was changed") {
					t.Errorf("the model is %s: %s", results[0].Status, results[0].Message)
				}
				for _, want := range test.want {
					if !strings.Contains(results[0].Message, want) {
						t.Errorf("the message lacks %q:\n%s", want, results[0].Message)
					}
				}
				wantRows(t, d, "select i, t from sluis_models.m", []string{"1", "2026-03-01 00:00"})
			})
		}
	}
}

func TestContractOfUnknownType(t *testing.T) {
	text := strings.Replace(contracted("", kept), "int64", "integr", 1)
	results, err := load(t, runner.Options{Dir: project(text)}).Run(t.Context(), openEmpty(t), "")
	if err != nil || !strings.Contains(results[0].Message, `models/m.yml:5: the data_type of i: the warehouse has no type "integr"`) {
		t.Errorf("%v, %v", results, err)
	}
}

// Without enforcement columns are documentation, and a model that becomes
// nothing of its own has none to keep.
func TestContractNotEnforced(t *testing.T) {
	for _, config := range []string{"{enforced: false}", "{enforced: true}, materialized: ephemeral"} {
		text := strings.Replace(contracted("", "select 'x' as other"), "{enforced: true}", config, 1)
		results, err := load(t, runner.Options{Dir: project(text)}).Run(t.Context(), openEmpty(t), "")
		if err != nil || results.Err() != nil {
			t.Errorf("%s: %v, %v", config, results, err)
		}
	}
}

// The query of a fixpoint gives a graph; the contract is about what is made of it.
func TestContractOfFixpoint(t *testing.T) {
	text := `-- models/m.yml --
models:
  - name: m
    config: {contract: {enforced: true}, materialized: fixpoint, meta: {fixpoint: {kind: components}}}
    columns:
      - {name: node_key, data_type: string}
      - {name: cluster_id, data_type: string}
-- models/m.sql --
select 'a' as node_a, 'b' as node_b
`
	d := openEmpty(t)
	build(t, load(t, runner.Options{Dir: project(text)}), d, "")
	wantRows(t, d, "select * from sluis_models.m", []string{"a", "a"}, []string{"b", "a"})
	results, err := load(t, runner.Options{Dir: project(strings.Replace(text, "cluster_id, data_type: string", "cluster_id, data_type: int64", 1))}).Run(t.Context(), d, "")
	if err != nil || !strings.Contains(results[0].Message, "models/m.yml:6: the column cluster_id is int64 here (BIGINT) and VARCHAR in the query") {
		t.Errorf("%v, %v", results, err)
	}
}

// A table that keeps its rows also keeps its types: what was cast on its way in
// would be another value, or fail at the first that cannot be.
func TestTypesOfTableThatGrows(t *testing.T) {
	grown := func(query string) *runner.Project {
		return load(t, runner.Options{Dir: project("-- models/m.sql --\n{{ config(materialized='incremental') }}" + query + "\n")})
	}
	d := openEmpty(t)
	build(t, grown("select 1 as i, 'a' as s"), d, "")
	results, err := grown("select '2' as i, 'b' as s").Run(t.Context(), d, "")
	if err != nil || !strings.Contains(results[0].Message, "the columns changed, from (i INT64) to (i STRING): build it anew with --full-refresh") {
		t.Errorf("%v, %v", results, err)
	}
	wantRows(t, d, "select * from sluis_models.m", []string{"1", "a"})
}

// TestModelsAreDescribed holds all of our models, without exception, to what
// their readers rely on: a description, columns with descriptions and types
// that are checked, and a test of the grain.
func TestModelsAreDescribed(t *testing.T) {
	p := load(t, runner.Options{Dir: sqlproject.Files, Vars: map[string]any{"audiences": followed(examples...)}})
	nodes, err := p.List("")
	if err != nil {
		t.Fatal(err)
	}
	grains := map[string]map[string][]string{} // by model and column, the names of tests
	var models []runner.Node
	for _, n := range nodes {
		switch n.Kind { //nolint:exhaustive // seeds are the data of others
		case runner.Model:
			models = append(models, n)
		case runner.Test:
			test, model, column := n.Generic()
			if grains[model] == nil {
				grains[model] = map[string][]string{}
			}
			grains[model][column] = append(grains[model][column], test)
		}
	}
	if len(models) < 30 {
		t.Fatalf("only %d models", len(models))
	}
	for _, n := range nodes {
		if n.Kind != runner.Seed {
			continue
		}
		for _, c := range n.Columns {
			if n.Description == "" || c.Description == "" {
				t.Errorf("the seed %s, column %s: no description", n.Name, c.Name)
			}
		}
	}
	for _, n := range models {
		if n.Description == "" || !n.EnforcesContract() || len(n.Columns) == 0 {
			t.Errorf("%s: described %q, contract enforced %v, %d columns", n.Name, n.Description, n.EnforcesContract(), len(n.Columns))
		}
		for _, c := range n.Columns {
			for _, dialect := range []string{"duckdb", "bigquery"} {
				if c.Description == "" || c.TypeIn(dialect) == "" {
					t.Errorf("%s.%s: described %q, type %q on %s", n.Name, c.Name, c.Description, c.TypeIn(dialect), dialect)
				}
			}
		}
		hasGrain := false
		for _, tests := range grains[n.Name] {
			hasGrain = hasGrain || slices.Contains(tests, "unique_together") || slices.Contains(tests, "unique") && slices.Contains(tests, "not_null")
		}
		if !hasGrain {
			t.Errorf("%s: no test tells what a row is: unique_together, or unique and not_null", n.Name)
		}
	}
	if diff := cmp.Diff([]string{"unique_together"}, grains["identity_links"][""]); diff != "" {
		t.Errorf("the test sees no tests: %s", diff)
	}
}
