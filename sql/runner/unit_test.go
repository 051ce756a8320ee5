package runner_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	sqlproject "github.com/sluis-cdp/sluis/sql"
	"github.com/sluis-cdp/sluis/sql/runner"
)

// units is a model of each kind of thing that a unit test can give, and unit
// tests of each format.
const units = `
-- dbt_project.yml --
name: p
vars: {least: 2}
-- macros/m.sql --
{% macro today() %}current_date{% endmacro %}
{% macro tomorrow() %}{{ today() }} + 1{% endmacro %}
-- seeds/kinds.csv --
kind,label
a,First
b,Second
-- models/parents.sql --
select 1 as n, 'a' as kind, cast(null as timestamptz) as at
-- models/m.sql --
{{ config(materialized='incremental', on_schema_change='fail') }}
select p.n, k.label, p.at, {{ tomorrow() }} as due, '{{ env_var("SLUIS_WHERE", "here") }}' as place
from {{ ref('parents') }} as p
join {{ ref('kinds') }} as k on k.kind = p.kind
where p.n >= {{ var('least') }}
{% if is_incremental() %}and p.n > (select max(n) from {{ this }}){% endif %}
-- models/landed.sql --
select * from {{ source('sluis', 'events') }}
-- models/m.yml --
sources: [{name: sluis, tables: [{name: events}]}]
models:
  - name: m
    config: {contract: {enforced: true}}
    columns:
      - {name: n, data_type: int64}
      - {name: label, data_type: string}
      - {name: at, data_type: timestamptz}
      - {name: due, data_type: date}
      - {name: place, data_type: string}
unit_tests:
  - name: joins
    model: m
    overrides: {macros: {is_incremental: false}}
    given:
      - input: ref('parents')
        rows:
          - {n: 1, kind: a}
          - {n: 2, kind: b}
          - {n: 3, kind: c}
          - {n: 10, kind: a, at: "2026-03-01 10:00:00+02"}
      - input: ref('kinds')
    expect:
      rows:
        - {n: 10, label: First, at: "2026-03-01 08:00:00+00"}
        - {n: 2, label: Second, at: null}
  - name: in_csv
    model: m
    overrides: {macros: {is_incremental: false}}
    given:
      - input: ref('parents')
        format: csv
        rows: |
          n,kind
          5,x
          ,x
      - input: ref('kinds')
        format: csv
        fixture: one_kind
    expect:
      format: csv
      rows: |
        n,label,at
        5,"It's, one",
  - name: in_sql
    model: m
    given:
      - input: ref('parents')
        format: sql
        rows: select 7 as n, 'z' as kind, cast(null as timestamptz) as at
      - input: ref('kinds')
        rows: [{kind: z, label: Last}]
    overrides:
      macros: {today: "date '2026-03-01'", is_incremental: false}
      env_vars: {SLUIS_WHERE: there}
    expect:
      format: sql
      rows: |
        select 7 as n, 'Last' as label, cast(null as timestamptz) as at, date '2026-03-02' as due, 'there' as place
  - name: adds
    model: m
    given:
      - {input: ref('parents'), rows: [{n: 2, kind: a}, {n: 6, kind: a}, {n: 9, kind: a}]}
      - {input: ref('kinds')}
      - {input: this, rows: [{n: 6}]}
    overrides: {macros: {is_incremental: true}, vars: {least: 1}}
    expect: {rows: [{n: 9}]}
  - name: nothing
    model: m
    overrides: {macros: {is_incremental: false}}
    given:
      - {input: ref('parents'), rows: []}
      - {input: ref('kinds'), rows: []}
    expect: {rows: []}
  - name: values
    model: landed
    given:
      - input: source('sluis', 'events')
        rows:
          - event_id: e
            spool_offset: 7
            is_bot: false
            identifiers: [{kind: user_id, pseudonym: "it's"}]
            purposes: [x, y]
            denied: []
            properties: {total: 10.50, of: [1, null, "a\"b"], yes: true}
            traits: '{"plan": "pro"}'
    expect:
      rows:
        - event_id: e
          spool_offset: 7
          is_bot: false
          identifiers: [{kind: user_id, pseudonym: "it's"}]
          purposes: [x, y]
          denied: []
          properties: '{"total": 10.50, "of": [1, null, "a\"b"], "yes": true}'
          traits: {plan: pro}
  - name: off
    model: m
    overrides: {macros: {is_incremental: false}}
    config: {enabled: false}
    given: [{input: ref('parents'), rows: []}, {input: ref('kinds')}]
    expect: {rows: [{n: 1}]}
-- tests/fixtures/one_kind.csv --
kind,label
x,"It's, one"
`

// TestUnitTests builds only what unit tests take types from, and runs them.
func TestUnitTests(t *testing.T) {
	d := openTables(t)
	p := load(t, runner.Options{Dir: project(units)})
	if results, err := p.Run(t.Context(), d, "parents kinds"); err != nil || results.Err() != nil {
		t.Fatal(err, results.Err())
	}
	results, err := p.Test(t.Context(), d, "test_type:unit")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]runner.Status{}
	for _, name := range []string{"joins", "in_csv", "in_sql", "adds", "nothing", "values"} {
		want[name] = runner.Passed
	}
	if diff := cmp.Diff(want, statuses(results)); diff != "" {
		t.Errorf("%v (-want +got)\n%s", results.Err(), diff)
	}
}

// A unit test that fails shows the rows, and the model that it is of is not
// built, nor what is made of it.
func TestUnitTestFails(t *testing.T) {
	d := openEmpty(t)
	text := `
-- models/a.sql --
select 1 as n, 'x' as s
-- models/b.sql --
select n * 2 as n, s from {{ ref('a') }}
-- models/c.sql --
select * from {{ ref('b') }}
-- models/b.yml --
unit_tests:
  - name: doubles
    model: b
    given:
      - input: ref('a')
        rows: [{n: 1, s: one}, {n: 2, s: two}, {n: 2, s: two}, {n: 4}]
    expect:
      rows: [{s: one, n: 2}, {s: two, n: 5}, {s: two, n: 4}, {s: null, n: 8}]
`
	p := load(t, runner.Options{Dir: project(text)})
	results, err := p.Build(t.Context(), d, "")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]runner.Status{"a": runner.Built, "doubles": runner.Failed, "b": runner.Skipped, "c": runner.Skipped}, statuses(results)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	i := slices.IndexFunc(results, func(r runner.NodeResult) bool { return r.Name == "doubles" })
	want := `3 rows are as expected; of the others - are expected and + are there:
  | s   | n
+ | two | 4
- | two | 5`
	if diff := cmp.Diff(want, results[i].Message); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	fixed := load(t, runner.Options{Dir: project(strings.Replace(text, "n: 5", "n: 4", 1))})
	build(t, fixed, d, "")
	if results, err := fixed.Build(t.Context(), d, "unit_test:doubles"); err != nil || len(results) != 1 || results[0].Status != runner.Passed {
		t.Errorf("by its name: %v, %v", results, err)
	}
	if results, err := fixed.Test(t.Context(), d, "b"); err != nil || len(results) != 1 {
		t.Errorf("by its model: %v, %v", results, err)
	}
}

func TestUnitTestsRefused(t *testing.T) {
	base := "-- seeds/s.csv --\nx\n1\n-- models/a.sql --\nselect 1 as n\n-- models/b.sql --\n{{ config(materialized='incremental') }}select n from {{ ref('a') }}\n-- models/b.yml --\nunit_tests:\n  - name: u\n    model: b\n"
	base = strings.Replace(base, "{{ config(materialized='incremental') }}", "", 1)
	for _, test := range []struct{ name, yaml, want string }{
		{"no model", "    model: c\n", `models/b.yml:4: the key "model" is there twice`},
		{"not given", "    given: []\n    expect: {rows: []}\n", "models/b.yml:2: the unit test u: b reads a, which is not given: add it, with rows: [] if it is to be empty"},
		{"not read", "    given: [{input: ref('a'), rows: []}, {input: ref('s')}]\n    expect: {rows: []}\n", "the unit test u: b does not read ref('s')"},
		{"twice", "    given: [{input: ref('a'), rows: []}, {input: ref('a'), rows: []}]\n    expect: {rows: []}\n", "ref('a') is given twice"},
		{"no expectation", "    given: [{input: ref('a'), rows: []}]\n", "the unit test u must say what to expect"},
		{"rows that differ", "    given: [{input: ref('a'), rows: []}]\n    expect: {rows: [{n: 1}, {m: 2}]}\n", "models/b.yml:5: expect must have the same columns in each row"},
		{"format", "    given: [{input: ref('a'), format: xml, rows: x}]\n    expect: {rows: []}\n", `given: the format "xml" is not dict, csv or sql`},
		{"fixture", "    given: [{input: ref('a'), format: csv, fixture: f}]\n    expect: {rows: []}\n", "there is no fixture f.csv in tests/fixtures"},
		{"input", "    given: [{input: a, rows: []}]\n    expect: {rows: []}\n", "input must be ref('…'), source('…', '…') or this"},
		{"unsaid", "    given: [{input: ref('a'), rows: []}]\n    expect: {rows: []}\n-- models/b.sql --\n{{ config(materialized='incremental') }}select n from {{ ref('a') }}\n", "b adds to a table: say under overrides, macros, whether is_incremental is true"},
		{"what adds", "    given: [{input: ref('a'), rows: []}]\n    overrides: {macros: {is_incremental: true}}\n    expect: {rows: []}\n", "what adds to a table reads it: give this"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := runner.Load(runner.Options{Dir: project(base + test.yaml)})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v", err)
			}
		})
	}
	d := openEmpty(t)
	for yaml, want := range map[string]string{
		"    given: [{input: ref('a'), rows: [{x: 1}]}]\n    expect: {rows: []}\n":       "models/b.yml:4: ref('a') has no column x: it has n",
		"    given: [{input: ref('a'), rows: [{n: 1}]}]\n    expect: {rows: [{x: 1}]}\n": "models/b.yml:5: b has no column x: it has n",
	} {
		p := load(t, runner.Options{Dir: project(base + yaml)})
		if _, err := p.Run(t.Context(), d, "a"); err != nil {
			t.Fatal(err)
		}
		if results, err := p.Test(t.Context(), d, "u"); err != nil || !strings.Contains(results[0].Message, want) {
			t.Errorf("%v, %v", results, err)
		}
	}
}

// Those of our own models pass once seeds are there, of which the types are not
// told by YAML.
func TestUnitTestsOfModels(t *testing.T) {
	d := openTables(t)
	p := load(t, runner.Options{Dir: sqlproject.Files})
	runOnly(t, p, d, "resource_type:seed")
	results, err := p.Test(t.Context(), d, "test_type:unit")
	if err != nil || results.Err() != nil {
		t.Error(err, results.Err())
	}
	if len(results) < 6 {
		t.Errorf("only %d unit tests", len(results))
	}
}
