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
{% test skipped(model) %}select {{ nothing }} from {{ model // 2 }}{% endtest %}
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
	s := scope{occasion: occasion{dialect: "duckdb"}, project: p, node: &Node{Name: "m", Kind: Model, Path: "models/m.sql", config: config{"meta": map[string]any{"k": "v"}}}, seen: &references{}}
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
		{"{{ dbt.dateadd('day', 7, 'x') }} {{ dbt.datediff(first_date='a', second_date='b', datepart='hour') }} {{ dbt.type_string() }}", "(x + (7) * interval 1 day) date_diff('hour', a, b) varchar"},
		{"{% raw %}{{ x // 2 }}{% endraw %}{# {{ 1 // 2 }} #}", "{{ x // 2 }}"},
		{"{{ 'a, ]' }}{{ ['a,', ')'] | join }}", "a, ]a,)"},
		{"{% set ns = namespace(n=0) %}{% for x in [1, 2, 3] %}{% set ns.n = ns.n + x %}{% endfor %}{{ ns.n }}", "6"},
		{"{{ var('nope', 'x') }} {{ var.has_var('n') }}", "x True"},
		{"{{ 'yes' if var('n') == 3 else 'no' }} {{ nope is defined }} {{ nope | default('d') }}", "yes False d"},
		{"{{ log('x', info=true) }}{% do log('y') %}z", "z"},
		{"{{ target.type }} {{ target.schema }} {{ execute }}", "duckdb sluis_models False"},
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

// Each of these the library would render otherwise than Jinja2, or crash on.
func TestRenderRefuses(t *testing.T) {
	tests := []struct{ template, want string }{
		{"\n{% do l.append(1) %}", "models/m.sql:2: a change to a list or dict would be lost"},
		{"{% set _ = d.update({'a': 1}) %}", "would be lost"},
		{"{% for k, v in d.items() %}{% endfor %}", "the order of a dict's keys would be lost"},
		{"{% for k in d | dictsort %}{% endfor %}", "order of a dict's keys"},
		{"{{ 1 < 2 < 3 }}", "chain of comparisons"},
		{"{% for x in [1] if 0 < x < 2 %}{% endfor %}", "chain of comparisons"},
		{"{{ 7 // 2 }}", "operator //"},
		{"{{ 7 % 2 }}", "operator %"},
		{"{{ '%s' % x }}", "operator %"},
		{"{{ 2 ** 3 }}", "operator **"},
		{"{{ [0] * 3 }}", "a list cannot be multiplied"},
		{"{{ f('a' if x else 'b') }}", "a condition inside brackets"},
		{"{{ ['a' if x else 'b'] }}", "a condition inside brackets"},
		{"{{ f(*args) }}", "unpacking arguments"},
		{"{{ f(**args) }}", "unpacking arguments"},
		{"{% set a, b = 1, 2 %}", "several names at once"},
		{"{{ {1: 'a'}[1] }}", "keys must be strings"},
		{"{{ varargs }}{{ kwargs }}", "varargs is not supported"},
		{"{{ none }}", "none is printed as nothing"},
		{"{{ 'a' ~ none }}", "none is joined as nothing"},
		{"{{ 'a' is sequence }}", "the test sequence"},
		{"{{ x | tojson }}", "tojson"},
		{"{% include 'x' %}", `the block "include"`},
		{"{% import 'x' as y %}", `the block "import"`},
		{"{% break %}", `the block "break"`},
		{"{% call(x) wrapped() %}{% endcall %}", "call block with arguments"},
		{"{{ 'abc'.replace('a', 'b') }}", "use the filter"},
		{"{{ {'a': 1}.nope }}", "nope"},
		{"{{ nope }}", "models/m.sql:1:"},
		{"{{ range(10000000) | length }}", "range is limited"},
		{"{{ return(1) }}", "works inside macros"},
		{"{{ adapter.dispatch('nope')() }}", "no macro duckdb__nope"},
		{"{{ (1 }}", "models/m.sql:1: the braces are not closed"},
		{"{{ 'a }}", "not closed"},
		{"{# a", "comment is not closed"},
		{"{% raw %}a", "add {% endraw %}"},
		{"{% if x %}", "models/m.sql:"},
		{"{{ ref('a', v=2) }}", "versions of models"},
		{"{{ ref('other', 'a') }}", "a model of this project"},
		{"{{ dbt.type_string(1) }}", "takes no arguments"},
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

// No template crashes the program, and linting keeps lines where they are.
func FuzzRender(f *testing.F) {
	for _, seed := range []string{
		"{{ ref('a') }}", "{% for x in [1,2,] %}{{ x }}{% endfor %}", "{{ {'a': 1,} }}", "{% raw %}{{{% endraw %}", "{%- test a(b) -%}{%- endtest -%}",
		"{{ 'x' % 1 }}", "{{ listed()[0] }}", "{{ (1,) }}", "{% set x %}a{% endset %}{{ x }}", "{{ 1.5.a }}", "{{ [][1:2:0] }}", "{{-1}}", "{{ -}}",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if linted, problems := lint("m.sql", text); len(problems) == 0 {
			if len(linted) != len(text) || strings.Count(linted, "\n") != strings.Count(text, "\n") {
				t.Errorf("linting moved lines: %q became %q", text, linted)
			}
		}
		render(t, text)
	})
}
