package runner_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/sql/runner"
)

// numbers is a model of the numbers 1 to 5 with tests of the project's own.
const numbers = `
-- dbt_project.yml --
name: p
vars: {least: 2}
data_tests:
  p:
    lenient:
      +severity: warn
-- macros/tests.sql --
{# A comment with {% test nothing() %} in it. #}
{% test above(model, column_name, least, but=[]) -%}
{{ config(error_if='>1') }}
select {{ column_name }} from {{ model }} where {{ column_name }} < {{ least }}
{%- for n in but %} and {{ column_name }} <> {{ n }}{% endfor %}
{%- endtest %}
-- tests/generic/in_other.sql --
{%- data_test in_other(model, column_name, other, field='n') -%}
select m.n from {{ model }} as m left join {{ other }} as o on o.{{ field }} = m.{{ column_name }} where o.{{ field }} is null
{%- enddata_test -%}
-- models/numbers.sql --
select * from (values (1), (2), (3), (4), (5)) as v(n)
-- models/few.sql --
select * from (values (1), (2)) as v(n)
-- models/numbers.yml --
models:
  - name: numbers
    data_tests:
      - above: {name: of_the_model, arguments: {column_name: n, least: 1}}
    columns:
      - name: n
        data_tests:
          - above: {name: one_is_allowed, arguments: {least: 2}}
          - above: {name: two_are_not, arguments: {least: 3}}
          - above: {name: yaml_goes_first, arguments: {least: 3}, config: {error_if: ">2"}}
          - above: {name: but_two, arguments: {least: 5, but: [1, 2, 3]}}
          - above: {name: by_var, arguments: {least: "{{ var('least') }}"}}
          - above: {name: filtered, arguments: {least: 5}, config: {where: "n >= {{ var('least') }} + 2"}}
          - above: {name: off, arguments: {least: 5}, config: {enabled: false}}
          - in_other: {name: looked_up, arguments: {other: ref('few')}}
          - in_other: {name: looked_up_elsewhere, arguments: {other: ref('numbers')}}
          - unique
-- models/lenient/m.sql --
select 1 as n union all select 1
-- models/lenient/m.yml --
models:
  - name: m
    columns:
      - name: n
        data_tests:
          - unique: {name: warned_of}
          - unique: {name: strict, config: {severity: error}}
          - unique: {name: warned_from_three, config: {severity: error, warn_if: ">=3", error_if: ">=5"}}
-- tests/limited.sql --
{{ config(limit=2, error_if='>2', warn_if='=2') }}
select n from {{ ref('numbers') }}
-- tests/calculated.sql --
{{ config(fail_calc='coalesce(sum(n), 0)', error_if='> 15') }}
select n from {{ ref('numbers') }}
`

// TestGenericTests runs tests that a project defines, with what config says of
// them; and those of queries.
func TestGenericTests(t *testing.T) {
	p := load(t, runner.Options{Dir: project(numbers)})
	d := openEmpty(t)
	if results, err := p.Run(t.Context(), d, ""); err != nil || results.Err() != nil {
		t.Fatal(err, results.Err())
	}
	results, err := p.Test(t.Context(), d, "")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, r := range results {
		got[r.Name] = string(r.Status) + " " + r.Message
	}
	want := map[string]string{
		"of_the_model":        "passed ",
		"one_is_allowed":      "warned 1 rows are wrong",
		"two_are_not":         "failed 2 rows are wrong (error_if: >1)",
		"yaml_goes_first":     "warned 2 rows are wrong",
		"but_two":             "warned 1 rows are wrong",
		"by_var":              "warned 1 rows are wrong",
		"filtered":            "warned 1 rows are wrong",
		"looked_up":           "failed 3 rows are wrong",
		"looked_up_elsewhere": "passed ",
		"unique_numbers_n":    "passed ",
		"warned_of":           "warned 1 rows are wrong",
		"strict":              "failed 1 rows are wrong",
		"warned_from_three":   "passed ",
		"limited":             "warned 2 rows are wrong (warn_if: =2)",
		"calculated":          "warned 15 rows are wrong",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// A test of the project's own is built after all that it reads, and found by
// what it is.
func TestGenericTestsAreSelected(t *testing.T) {
	p := load(t, runner.Options{Dir: project(numbers), Indirect: runner.Cautious})
	for selector, want := range map[string][]string{
		"test_name:in_other":   {"looked_up", "looked_up_elsewhere"},
		"config.severity:warn": {"warned_of"},
	} {
		nodes, err := p.List(selector)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, n := range nodes {
			got = append(got, n.Name)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", selector, diff)
		}
	}
	nodes, err := p.List("looked_up")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"few", "numbers"}, nodes[0].DependsOn); diff != "" {
		t.Errorf("it depends on: (-want +got)\n%s", diff)
	}
}

// A project's own test goes before that of the runner.
func TestGenericTestOverridesOurs(t *testing.T) {
	p := load(t, runner.Options{Dir: project(`
-- macros/tests.sql --
{% test unique(model, column_name) %}select 1 as wrong{% endtest %}
-- models/m.sql --
select 1 as n
-- models/m.yml --
models: [{name: m, columns: [{name: n, data_tests: [unique]}]}]
`)})
	d := openEmpty(t)
	if _, err := p.Run(t.Context(), d, ""); err != nil {
		t.Fatal(err)
	}
	if results, err := p.Test(t.Context(), d, ""); err != nil || results[0].Status != runner.Failed {
		t.Errorf("%v, %v", results, err)
	}
}
