package googlesql

import (
	"io/fs"
	"maps"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sluis-cdp/sluis/collector"
	sqlproject "github.com/sluis-cdp/sluis/sql"
	"github.com/sluis-cdp/sluis/sql/runner"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// TestTraps makes sure that no model means one thing on DuckDB and another on
// BigQuery, as far as that can be told.
func TestTraps(t *testing.T) {
	project := load(t, runner.Options{Dir: sqlproject.Files})
	d := newFake(t)
	if _, err := project.Run(t.Context(), d, ""); err != nil {
		t.Fatal(err)
	}
	compiled, err := project.Compile("bigquery", "")
	if err != nil {
		t.Fatal(err)
	}
	present := landed()
	maps.Copy(present, tested(compiled))
	for _, c := range compiled {
		sure, err := d.analyzer.Traps(c.SQL, func(table, column string) bool { return present[table+"."+column] })
		for _, column := range sure {
			present[warehouse.SchemaModels+"."+c.Name+"."+column] = true
		}
		if err == nil {
			continue
		}
		for _, found := range strings.Split(err.Error(), "\n") {
			t.Errorf("sql/%s: %s", locate(c, found), found)
		}
	}
}

// landed tells which landed columns are never NULL: those that the collector
// writes as required.
func landed() map[string]bool {
	columns := map[string]bool{}
	for table := range reflect.TypeFor[collector.Rows]().Fields() {
		name, _, _ := strings.Cut(table.Tag.Get("json"), ",")
		for _, field := range reflect.VisibleFields(table.Type.Elem()) {
			column, options, _ := strings.Cut(field.Tag.Get("parquet"), ",")
			if column != "" && !slices.Contains(strings.Split(options, ","), "optional") {
				columns[warehouse.SchemaLanding+"."+name+"."+column] = true
			}
		}
	}
	return columns
}

var notNull = regexp.MustCompile(`^select (\w+) from (\S+) as t where (\w+) is null$`)

// tested tells which columns are never NULL: those that a test wants so.
func tested(compiled []runner.Compiled) map[string]bool {
	columns := map[string]bool{}
	for _, c := range compiled {
		if m := notNull.FindStringSubmatch(c.SQL); m != nil && m[1] == m[3] {
			columns[m[2]+"."+m[1]] = true
		}
	}
	return columns
}

func TestTrapsByValue(t *testing.T) {
	d := newFake(t)
	d.analyzer.Define(warehouse.SchemaModels, "m", []warehouse.Column{
		{Name: "id", Type: warehouse.String}, {Name: "n", Type: warehouse.Int64}, {Name: "maybe", Type: warehouse.String}, {Name: "maybe_n", Type: warehouse.Int64},
	})
	present := func(table, column string) bool { return table == "sluis_models.m" && (column == "id" || column == "n") }
	tests := []struct {
		query string
		want  string // empty if it is fine
	}{
		{"select concat(id, 'x') from sluis_models.m", ""},
		{"select concat(id, maybe) from sluis_models.m", "argument 2 of concat may be NULL"},
		{"select concat(id, coalesce(maybe, '')) from sluis_models.m", ""},
		{"select id || maybe from sluis_models.m", ""},
		{"select\n  greatest(n, maybe_n) from sluis_models.m", "[at 2:3]"},
		{"select greatest(n, maybe_n) from sluis_models.m where id = 'x' and maybe_n is not null", ""},
		{"select least(n, null) from sluis_models.m", "argument 2 of least"},
		{"select greatest(n, if(n > 1, 1, maybe_n)) from sluis_models.m", "argument 2 of greatest"},
		{"select greatest(n, case when n > 1 then 1 end) from sluis_models.m", "argument 2 of greatest"},
		{"select greatest(n, case when n > 1 then 1 else 2 end) from sluis_models.m", ""},
		{"select greatest(n, case n when 1 then maybe_n else 2 end) from sluis_models.m", "argument 2 of greatest"},
		{"select greatest(n, safe_cast(id as int64)) from sluis_models.m", "argument 2 of greatest"},
		{"select greatest(n, cast(id as int64)) from sluis_models.m", ""},
		{"with a as (select id, max(n) as top from sluis_models.m group by id) select greatest(top, 1) from a", ""},
		{"with a as (select max(n) as top from sluis_models.m) select greatest(top, 1) from a", "argument 1 of greatest"},
		{"select greatest(n, first_value(n) over (partition by id order by n)) from sluis_models.m", ""},
		{"select greatest(n, lag(n) over (partition by id order by n)) from sluis_models.m", "argument 2 of greatest"},
		{"select concat(a.id, b.id) from sluis_models.m as a join sluis_models.m as b on a.id = b.id", ""},
		{"select concat(a.id, b.id) from sluis_models.m as a left join sluis_models.m as b on a.id = b.id", "argument 2 of concat"},
		{"select concat(a.id, b.id) from sluis_models.m as a right join sluis_models.m as b on a.id = b.id", "argument 1 of concat"},
		{"with u as (select id from sluis_models.m union all select maybe from sluis_models.m) select concat(id, '') from u", "argument 1 of concat"},
		{"with u as (select id from sluis_models.m union all select 'x') select concat(id, '') from u", ""},
		{"select concat(kind, '') from sluis.events as e cross join unnest(e.purposes) as kind", "argument 1 of concat"},
		{"select row_number() over (order by id, n) from sluis_models.m", ""},
		{"select row_number() over (order by id, maybe) from sluis_models.m", "maybe may be NULL, which comes last"},
		{"select row_number() over (order by id, maybe desc) from sluis_models.m", ""},
		{"select row_number() over (order by maybe nulls last) from sluis_models.m", ""},
		{"select string_agg(id, ',' order by maybe) from sluis_models.m", "maybe may be NULL, which comes last"},
		{"select array_agg(distinct maybe ignore nulls order by maybe) from sluis_models.m", ""},
		{"select array_agg(maybe ignore nulls order by maybe_n) from sluis_models.m", "maybe_n may be NULL, which comes last"},
		{"select n / maybe_n from sluis_models.m", "division by zero"},
		{"select n / nullif(maybe_n, 0), n / 7 from sluis_models.m", ""},
		{"select mod(n, 0) from sluis_models.m", "division by zero"},
		{"select div(n, count(*)) from sluis_models.m group by n", "division by zero"},
	}
	for _, test := range tests {
		_, err := d.analyzer.Traps(test.query, present)
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", test.query, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: got %v, want %q", test.query, err, test.want)
		}
	}
}

// TestWords reads the project as its authors write it.
func TestWords(t *testing.T) {
	err := fs.WalkDir(sqlproject.Files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".sql" {
			return err
		}
		source, err := fs.ReadFile(sqlproject.Files, path)
		for _, found := range Words(string(source)) {
			t.Errorf("sql/%s:%d: %s", path, found.Line, found.Message)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestWordsByWord(t *testing.T) {
	bad := []string{
		"select json_value(properties, '$.a')", "select x, JSON_EXTRACT (p, '$.a')", "to_hex(md5(x))", "(sha256(x))",
		"cross join unnest(purposes) as purpose", "regexp_extract(x, 'a(b)')", "regexp_replace(x, 'a', 'b')", "array_agg(x)", "log(x)",
		"substr(x, 0, 2)", "where at < current_timestamp", "now()", "current_date", "timestamp '2026-03-01'", "cast(x as timestamp)",
		"cast(x as float)", "cast(x as real)", "x // 2", "div(x, 2)", "count(*), array_agg(distinct x)", "unnest([1, 2]) as x",
		"cast(x as numeric)", "cast(x as decimal), y", "extract(week from x)", "{{ dbt.date_trunc('week', 'x') }}", `'a\n'`,
	}
	for _, source := range bad {
		if found := Words("\n" + source); len(found) == 0 || found[0].Line != 2 {
			t.Errorf("%s: found %v", source, found)
		}
	}
	good := `
-- json_value(x) and now()
{# unnest(x) #}{% macro unnest(array, column) %}{{ return(adapter.dispatch('unnest')(array, column)) }}{% endmacro %}
{% macro default__unnest(array, column) -%}
unnest({{ array }}) as {{ column }}
{%- endmacro %}
select {{ json_text('p', '$.a') }}, {{ sha256_hex('x') }}, {{ dbt.hash('x') }}, {{ dbt.current_timestamp() }}, {{ log('x') }},
    substr(x, 1, 10), cast(x as numeric(38, 9)), cast(x as {{ dbt.type_timestamp() }}), known(x), week, my_md5(x), x / 2, cast(x as {{ dbt.type_float() }}), floor(x)
from t cross join {{ unnest('t.purposes', 'purpose') }}`
	if found := Words(good); len(found) > 0 {
		t.Errorf("found %v", found)
	}
}
