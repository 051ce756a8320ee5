package runner

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// TestPortable holds dbt.* against what real dbt compiles, but for case and
// space. testdata/portable/generate.py wrote it down.
func TestPortable(t *testing.T) {
	content, err := os.ReadFile("testdata/portable/expected.json")
	if err != nil {
		t.Fatal(err)
	}
	var expected map[string]map[string]string
	if err := json.Unmarshal(content, &expected); err != nil {
		t.Fatal(err)
	}
	if len(expected) < 40 {
		t.Fatalf("only %d calls", len(expected))
	}
	for call, byDialect := range expected {
		if len(byDialect) == 0 {
			t.Errorf("%s: dbt compiled it for no warehouse", call)
		}
		for dialect, want := range byDialect {
			e := newEngine()
			parsed, problems := e.parse("m.sql", "{{ "+call+" }}")
			if len(problems) > 0 {
				t.Errorf("%s: %v", call, problems)
				continue
			}
			thirtyOne := func(string) (answer, error) { return answer{[]string{"n"}, [][]any{{int64(31)}}}, nil }
			s := scope{occasion: occasion{dialect: dialect, query: thirtyOne}, project: &Project{engine: e, name: "p"}, node: &Node{Name: "m", Kind: Model}}
			got, err := parsed.render(s.globals())
			if err != nil {
				t.Errorf("%s for %s: %v", call, dialect, err)
				continue
			}
			if packed(got) != packed(want) {
				t.Errorf("%s for %s:\n  %s\n  dbt has\n  %s", call, dialect, packed(got), packed(want))
			}
		}
	}
}

// packed is SQL in lower case, with one space where there must be one.
func packed(sql string) string {
	text := strings.Join(strings.Fields(strings.ToLower(sql)), " ")
	for _, sign := range []string{"(", ")", ",", "[", "]"} {
		text = strings.ReplaceAll(strings.ReplaceAll(text, sign+" ", sign), " "+sign, sign)
	}
	return text
}

// What a project defines of dbt's macros goes before them, as under dbt.
func TestPortableIsTheProjectsOwn(t *testing.T) {
	e := newEngine()
	if problems := e.define("macros/own.sql", "{% macro duckdb__type_float() %}double{% endmacro %}{% macro default__hash(field) %}own({{ field }}){% endmacro %}"); len(problems) > 0 {
		t.Fatal(problems)
	}
	parsed, problems := e.parse("m.sql", "{{ dbt.type_float() }} {{ dbt.hash('x') }} {{ type_float() }} {{ dbt.safe_cast('x', dbt.type_float()) }}")
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	s := scope{occasion: occasion{dialect: "duckdb"}, project: &Project{engine: e, name: "p"}, node: &Node{Name: "m", Kind: Model}}
	if got, err := parsed.render(s.globals()); err != nil || got != "double own(x) double cast(x as double)" {
		t.Errorf("%q, %v", got, err)
	}
}

// What templates ask of dbt beyond SQL.
func TestContext(t *testing.T) {
	tests := []struct{ template, want string }{
		{"{{ tojson({'b': [1, 2.5, none], 'a': 'é'}) }} {{ tojson({'b': 1, 'a': 2}, sort_keys=true) }}", `{"b": [1, 2.5, null], "a": "\u00e9"} {"a": 2, "b": 1}`},
		{"{% for k, v in fromjson('{\"z\": 1, \"a\": [true]}').items() %}{{ k }}={{ v }} {% endfor %}{{ fromjson('{', 'none') }}", "z=1 a=[True] none"},
		{"{{ fromyaml('{z: 1, a: x}') }}", "{'z': 1, 'a': 'x'}"},
		{"{{ local_md5('hello world') }}", "5eb63bbbe01eeed093cb22bb8f5acdc3"},
		{"{% for a, b in zip([1, 2], ['x', 'y']) %}{{ a }}{{ b }}{% endfor %} {{ set(['b', 'a', 'b']) | sort | join }}", "1x2y ab"},
		{"{{ adapter.quote('a b') }} {{ api.Relation.create(schema='s', identifier='t') }} {{ adapter.type() }}", `"a b" s.t duckdb`},
		{"{{ config.get('meta').k }} {{ config.require('meta')['k'] }} {{ config.meta_get('k') }} {{ config.meta_get('q', 'd') }}", "v v v d"},
		{"{{ modules.datetime.date(2026, 3, 31) + modules.datetime.timedelta(days=1) }} {{ modules.datetime.datetime(2026, 3, 31, 12).strftime('%Y%m%d %H:%M') }}", "2026-04-01 20260331 12:00"},
		{"{{ (modules.datetime.date(2026, 3, 1) - modules.datetime.date(2026, 2, 1)).days }} {{ modules.datetime.datetime.strptime('2026-01-02', '%Y-%m-%d').isoformat() }}", "28 2026-01-02T00:00:00"},
		{"{{ run_started_at.strftime('%Y') | length }} {{ invocation_id | length }} {{ flags.FULL_REFRESH }}", "4 36 False"},
		{"{% set r = run_query('select') %}{{ r.rows[0][0] }} {{ r.columns[1].values() }} {{ r[1]['name'] }} {{ r | length }} {% for row in r %}{{ row.id }}{{ row[1] }};{% endfor %}{{ r.column_names | join(',') }}", "1 ('x', 'y') y 2 1x;2y;id,name"},
		{"{% call statement('q', fetch_result=True) %}select {{ 1 }}{% endcall %}{{ load_result('q').data[0] }} {{ load_result('q')['table'].rows | length }} {{ load_result('none') }}", "(1, 'x') 2 None"},
		{"{{ adapter.get_relation(this.database, this.schema, this.identifier) }} {{ this.render() }} {{ this.include(database=false) }} {{ adapter.get_columns_in_relation(this) | map(attribute='name') | join(',') }}", "sluis_models.m sluis_models.m sluis_models.m 1,2"},
		{"{{ model.name }} {{ model.resource_type }} {{ target.name }} {{ project_name }}", "m model duckdb p"},
	}
	refusals := []struct{ template, want string }{
		{"{{ adapter.drop_relation(this) }}", "m.sql:1: adapter.drop_relation is not supported: what a run does to tables is the runner's"},
		{"{{ dbt.no_such('x') }}", "dbt.no_such is not supported: write it in the folder macros"},
		{"{{ modules.re.match('a', 'b') }}", "modules.re is not supported"},
		{"{{ exceptions.raise_not_implemented('x') }}", "exceptions.raise_not_implemented is not supported"},
		{"{{ config.require('nope') }}", `the model has no config "nope"`},
		{"{{ this.database }}", "this cannot be printed"},
		{"{{ toyaml({}) }}", "use tojson"},
		{"{{ flags.NOPE }}", "flags.NOPE is not supported"},
		{"{{ fromyaml('a: yes').a }}", "yes is true or false to dbt"},
		{"{% call statement('q') %}drop table x{% endcall %}", "what changes tables is the runner's"},
	}
	e := newEngine()
	two := func(string) (answer, error) {
		return answer{[]string{"id", "name"}, [][]any{{int64(1), "x"}, {int64(2), "y"}}}, nil
	}
	s := scope{occasion: occasion{dialect: "duckdb", query: two}, project: &Project{engine: e, name: "p", invocation: newInvocation()}, node: &Node{Name: "m", Kind: Model, config: config{"meta": map[string]any{"k": "v"}}}}
	render := func(text string) (string, error) {
		parsed, problems := e.parse("m.sql", text)
		if len(problems) > 0 {
			return "", Problems(problems)
		}
		return parsed.render(s.globals())
	}
	for _, test := range tests {
		if got, err := render(test.template); err != nil || got != test.want {
			t.Errorf("%s:\n  %q\n  not %q (%v)", test.template, got, test.want, err)
		}
	}
	for _, test := range refusals {
		if got, err := render(test.template); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %q, %v lacks %q", test.template, got, err, test.want)
		}
	}
}
