package runner

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const testMacros = `
{% macro shout(x, mark='!') %}{{ x | upper }}{{ mark }}{% endmacro %}
{% macro twice(x) -%} {{ shout(x) }}{{ shout(x, mark='?') }} {%- endmacro %}
{% macro listed() %}
  ignored
  {{ return(['a', 'b']) }}
  {{ exceptions.raise_compiler_error('not reached') }}
{% endmacro %}
{% macro nested_return() %}{% for x in listed() %}{% if x == 'b' %}{{ return(x ~ 1) }}{% endif %}{% endfor %}{% endmacro %}
{% macro dispatched(x) %}{{ return(adapter.dispatch('dispatched')(x)) }}{% endmacro %}
{% macro default__dispatched(x) %}default {{ x }}{% endmacro %}
{% macro duckdb__dispatched(x) %}duckdb {{ x }}{% endmacro %}
{% macro wrapped() %}<{{ caller() }}>{% endmacro %}
{% test own(model, column_name) %}select {{ column_name }} from {{ model }}{% endtest %}
{% materialization skipped, default %}{{ nothing }}{% endmaterialization %}
{% macro fails(x) %}
  {{ inner(x) }}
{% endmacro %}
{% macro inner(x) %}
  {{ exceptions.raise_compiler_error('it cannot be') }}
{% endmacro %}
{% macro forever() %}{{ forever() }}{% endmacro %}
{% macro listing(items) %}{% for i in items %}{{ caller(i) }}{{ ',' if not loop.last }}{% endfor %}{% endmacro %}
{% macro many() %}{{ varargs | join('+') }}{{ kwargs.z }}{% endmacro %}
`

func render(t *testing.T, text string) (string, error) {
	t.Helper()
	e := newEngine()
	if problems := e.define("macros/m.sql", testMacros); len(problems) > 0 {
		t.Fatal(problems)
	}
	parsed, problems := e.parse("models/m.sql", text)
	if len(problems) > 0 {
		return "", Problems(problems)
	}
	p := &Project{engine: e, name: "p", vars: map[string]any{"list": []any{"x", "y"}, "n": 3}}
	s := scope{occasion: occasion{dialect: "duckdb"}, project: p, node: &Node{Name: "m", Kind: Model, Path: "models/m.sql", config: config{"meta": map[string]any{"k": "v"}, "meta2": map[string]any{"k": "v", "j": "w"}}}, seen: &references{}}
	return parsed.render(s.globals())
}

// The expected texts are what Jinja2 with dbt's names gives.
func TestRender(t *testing.T) {
	tests := []struct{ template, want string }{
		{"select 1", "select 1"},
		{"{{ ref('a') }} {{ ref('p', 'a') }} {{ this }} {{ this.name }} {{ this.schema }}", "sluis_models.a sluis_models.a sluis_models.m m sluis_models"},
		{"a{{ ref('a') ~ '_x' }}", "asluis_models.a_x"},
		{"{{ config(materialized='table', tags=['a', 'b',],) }}x", "x"},
		{"{{ config.get('meta').k }} {{ config.get('nope', 7) }}", "v 7"},
		{"{% set l = ['a', 'b',] %}{% for x in l %}{{ x }}{% if not loop.last %}, {% endif %}{% endfor %}", "a, b"},
		{"{% for x in var('list') %}{{ loop.index }}{{ x }}{% else %}none{% endfor %}", "1x2y"},
		{"{%- for i in range(3) %} {{ i }}{% endfor -%}  \n x", " 0 1 2x"},
		{"{% if is_incremental() %}a{% elif var('n') > 2 and not false %}b{% else %}c{% endif %}", "b"},
		{"{{ shout('a') }}{{ shout(x='b', mark='.') }} {{ twice('c') }}", "A!B. C!C?"},
		{"{{ listed() | join('-') }} {{ nested_return() }} {{ listed()[1] }}", "a-b b1 b"},
		{"{{ dispatched('x') }}", "duckdb x"},
		{"{% call wrapped() %}in{% endcall %}", "<in>"},
		{"{{ dbt.dateadd('day', 7, 'x') }} {{ dbt.datediff(first_date='a', second_date='b', datepart='hour') }} {{ dbt.type_string() }}", "(x + cast(7 as bigint) * interval 1 day) (date_diff('hour', a::timestamp, b::timestamp )) text"},
		{"{% raw %}{{ x // 2 }}{% endraw %}{# {{ 1 // 2 }} #}", "{{ x // 2 }}"},
		{"{{ 'a, ]' }}{{ ['a,', ')'] | join }}", "a, ]a,)"},
		{"{% set ns = namespace(n=0) %}{% for x in [1, 2, 3] %}{% set ns.n = ns.n + x %}{% endfor %}{{ ns.n }}", "6"},
		{"{{ var('nope', 'x') }} {{ var.has_var('n') }}", "x True"},
		{"{{ 'yes' if var('n') == 3 else 'no' }} {{ nope is defined }} {{ nope | default('d') }}", "yes False d"},
		{"{{ log('x', info=true) }}{% do log('y') %}z", "z"},
		{"{{ target.type }} {{ target.schema }} {{ execute }}", "duckdb sluis_models False"},
		// What dbt's projects do daily; all of Jinja is in the package jinja's corpus.
		{"{%- set l = [] -%}{%- for x in ['a', 'b'] -%}{%- do l.append(x ~ '_id') -%}{%- endfor -%}{{ l | join(', ') }}", "a_id, b_id"},
		{"{% for k, v in {'b': 1, 'a': 2}.items() %}{{ k }}={{ v }};{% endfor %}", "b=1;a=2;"},
		{"{% call(x) listing(['a', 'b']) %}{{ x | upper }}{% endcall %}", "A,B"},
		{"{{ many(1, 2, z='!') }}", "1+2!"},
		{"{% set a, b = 'x', 'y' %}{{ '%s-%s' % (a, b) }} {{ '{}/{}'.format(a, b) }} {{ none }} {{ 7 // 2 }} {{ 2 ** 3 }}", "x-y x/y None 3 8"},
		{"{{ shout(ref('a') | string, mark='',) }}", "SLUIS_MODELS.A"},
		{"{{ test_own('t', column_name='c') }}", "select c from t"},
	}
	for _, test := range tests {
		got, err := render(t, test.template)
		if err != nil {
			t.Errorf("%s: %v", test.template, err)
			continue
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", test.template, diff)
		}
	}
}

// What a project cannot do is refused with file and line, and what to do.
func TestRenderRefuses(t *testing.T) {
	tests := []struct{ template, want string }{
		{"{% include 'x' %}", `models/m.sql:1: the block "include" is not supported`},
		{"{% import 'x' as y %}", `the block "import" is not supported`},
		{"{% block x %}{% endblock %}", `the block "block" is not supported`},
		{"{% break %}", "break works inside of a for"},
		{"{% macro x() %}{% endmacro %}", "move the macro x there"},
		{"\n{{ {'a': 1}.nope }}", "models/m.sql:2: the dict has no nope"},
		{"{{ nope }}", "models/m.sql:1: nope is undefined"},
		{"{{ ref(nope) }}", "models/m.sql:1: nope is undefined"},
		{"{{ range(10000000) | length }}", "a range has 100000 elements at most"},
		{"{{ return(1) }}", "return works inside of macros"},
		{"{{ adapter.dispatch('nope')() }}", "no macro duckdb__nope"},
		{"{{ (1 }}", "models/m.sql:1: the bracket ( is not closed before }"},
		{"{{ 'a }}", "not closed"},
		{"{# a", "comment is not closed"},
		{"{% raw %}a", "add {% endraw %}"},
		{"{% if x %}", "models/m.sql:1: the block is not closed: add {% endif %}"},
		{"{{ ref('a', v=2) }}", "versions of models"},
		{"{{ ref('other', 'a') }}", "a model of this project"},
		{"{{ dbt.type_string(1) }}", "takes 0 arguments"},
		{"{{ dbt.dateadd(nope, 1, 'x') }}", "models/m.sql:1: nope is undefined"},
		{"\n\n{{ fails(1) }}", "models/m.sql:3: it cannot be (in the macro inner, macros/m.sql:"},
		{"{{ forever() }}", "macros call each other without end"},
		{"{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}", "takes too long"},
		{"{% set ns = namespace(x='x' * 1000) %}{% for a in range(100) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}", "too long"},
		{"{% for k in config.get('meta2') %}{{ k }}{% endfor %}", "the order of this dict's keys is not known"},
	}
	for _, test := range tests {
		got, err := render(t, test.template)
		if err == nil {
			t.Errorf("%s: rendered %q", test.template, got)
			continue
		}
		if !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: the error lacks %q: %v", test.template, test.want, err)
		}
	}
}

// Macros may not see what another call returned.
func TestReturnIsPerCall(t *testing.T) {
	got, err := render(t, "{{ nested_return() }}{{ shout('x') }}{{ nested_return() }}")
	if err != nil || got != "b1X!b1" {
		t.Errorf("%q, %v", got, err)
	}
}
