package runner_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	sqlproject "github.com/sluis-cdp/sluis/sql"
	"github.com/sluis-cdp/sluis/sql/runner"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

const overwriting = `
-- models/s.yml --
sources: [{name: raw, schema: sluis_sync, tables: [{name: raw}]}]
-- models/m.sql --
{{ config(materialized='incremental', incremental_strategy='insert_overwrite', partition_by={'field': 'on_day', 'data_type': 'date'}) }}
select on_day, v from {{ source('raw', 'raw') }}
`

// fill replaces the rows of the table raw.
func fill(t *testing.T, d warehouse.Driver, values string) {
	t.Helper()
	if err := d.Exec(t.Context(), "CREATE OR REPLACE TABLE sluis_sync.raw AS SELECT cast(d as date) AS on_day, v FROM (VALUES "+values+") AS x(d, v)"); err != nil {
		t.Fatal(err)
	}
}

// The partitions that rows fall into are replaced, and no others: also not one
// that has no rows any more, as under dbt.
func TestOverwriteByItsRows(t *testing.T) {
	d := openEmpty(t)
	p := load(t, runner.Options{Dir: project(overwriting)})
	fill(t, d, "('2026-03-01', 1), ('2026-03-01', 2), ('2026-03-02', 3), (null, 4)")
	build(t, p, d, "")
	for _, step := range []struct {
		rows string
		want [][]string
	}{
		{"('2026-03-02', 5), ('2026-03-03', 6)", [][]string{{"", "4"}, {"2026-03-01", "1"}, {"2026-03-01", "2"}, {"2026-03-02", "5"}, {"2026-03-03", "6"}}},
		{"('2026-03-02', 5), ('2026-03-03', 6)", [][]string{{"", "4"}, {"2026-03-01", "1"}, {"2026-03-01", "2"}, {"2026-03-02", "5"}, {"2026-03-03", "6"}}},
		{"(null, 7), ('2026-03-01', 8)", [][]string{{"", "7"}, {"2026-03-01", "8"}, {"2026-03-02", "5"}, {"2026-03-03", "6"}}},
	} {
		fill(t, d, step.rows)
		build(t, p, d, "")
		wantRows(t, d, "SELECT cast(on_day as string), v FROM m", step.want...)
	}
	if err := d.Exec(t.Context(), "DELETE FROM sluis_sync.raw"); err != nil {
		t.Fatal(err)
	}
	build(t, p, d, "")
	wantRows(t, d, "SELECT count(*) FROM m", []string{"4"})
}

// Listed partitions are replaced also where there are no rows for them. The
// list may be the answer to a question, as in a model that knows what changed.
func TestOverwriteByAList(t *testing.T) {
	d := openEmpty(t)
	for name, list := range map[string]string{
		"constants":  `["date '2026-03-01'", "date '2026-03-02'"]`,
		"a question": `[run_query("select string_agg(concat('date ''', d, ''''), ', ') from (values ('2026-03-01'), ('2026-03-02')) as x(d)").rows[0][0]]`,
	} {
		t.Run(name, func(t *testing.T) {
			text := overwriting + "{% if is_incremental() %}{{ config(partitions=" + list + ") }}where on_day < date '2026-03-03'{% endif %}\n"
			p := load(t, runner.Options{Dir: project(text)})
			fill(t, d, "('2026-03-01', 1), ('2026-03-02', 2), ('2026-03-03', 3)")
			build(t, load(t, runner.Options{Dir: project(text), FullRefresh: true}), d, "")
			fill(t, d, "('2026-03-02', 4), ('2026-03-03', 5)")
			build(t, p, d, "")
			wantRows(t, d, "SELECT cast(on_day as string), v FROM m", []string{"2026-03-02", "4"}, []string{"2026-03-03", "3"})
			fill(t, d, "('2026-02-01', 6)")
			results, err := p.Run(t.Context(), d, "")
			if err != nil || results[0].Status != runner.Failed || !strings.Contains(results[0].Message, "1 rows are outside of config.partitions") {
				t.Errorf("a row of another day: %v, %v", results, err)
			}
			wantRows(t, d, "SELECT count(*) FROM m", []string{"2"})
		})
	}
}

func TestRunQuery(t *testing.T) {
	d := openEmpty(t)
	p := load(t, runner.Options{Dir: project("-- models/m.sql --\n{% if execute %}{% set n = run_query('select 6 * 7').rows[0][0] %}select {{ n }} as n{% else %}select 0 as n{% endif %}\n")})
	build(t, p, d, "")
	wantRows(t, d, "SELECT n FROM m", []string{"42"})
	if _, err := p.Compile("duckdb", ""); err == nil || !strings.Contains(err.Error(), "run_query needs a warehouse") {
		t.Errorf("without a warehouse: %v", err)
	}
	for query, want := range map[string]string{
		"drop table if exists m": "only a single statement that reads",
		"select nope":            "run_query:",
	} {
		p := load(t, runner.Options{Dir: project("-- models/other.sql --\n{% if execute %}{% do run_query('" + query + "') %}{% endif %}select 1 as i\n")})
		results, err := p.Run(t.Context(), d, "")
		if err != nil || results[0].Status != runner.Failed || !strings.Contains(results[0].Message, want) {
			t.Errorf("%s: %v, %v", query, results, err)
		}
	}
}

// bigQuery plays what the runner sees of BigQuery when it creates tables.
type bigQuery struct {
	warehouse.Driver // none: nothing else is asked for
	statements       []string
	refuse           map[string]error // by the beginning of a statement, once
	partitions       [][]any
	columns          []warehouse.Column
	asked            []string // by templates
}

func (*bigQuery) Dialect() string { return "bigquery" }

func (d *bigQuery) Exec(_ context.Context, query string, _ ...any) error {
	d.statements = append(d.statements, strings.Join(strings.Fields(query), " "))
	for beginning, err := range d.refuse {
		if strings.HasPrefix(query, beginning) {
			delete(d.refuse, beginning)
			return err
		}
	}
	return nil
}

func (d *bigQuery) Query(_ context.Context, query string, _ ...any) (warehouse.Rows, error) {
	switch {
	case strings.Contains(query, "INFORMATION_SCHEMA"):
		return &answer{rows: [][]any{{"m", "BASE TABLE"}, {"stg_events", "BASE TABLE"}}}, nil
	case strings.Contains(query, "distinct"):
		return &answer{rows: d.partitions}, nil
	}
	return &answer{rows: [][]any{{int64(0)}}}, nil
}

func (d *bigQuery) Columns(context.Context, string, string) ([]warehouse.Column, error) {
	if d.columns != nil {
		return d.columns, nil
	}
	return []warehouse.Column{{Name: "at", Type: warehouse.Timestamp}, {Name: "v", Type: warehouse.String}}, nil
}

// Describe takes each query for one of what Columns lists, but for the one that
// asks for the names of types.
func (d *bigQuery) Describe(ctx context.Context, query string) ([]warehouse.Column, error) {
	var columns []warehouse.Column
	for _, cast := range regexp.MustCompile(`cast\(null as (.+?)\) as c\d+`).FindAllStringSubmatch(query, -1) {
		columns = append(columns, warehouse.Column{Type: warehouse.Type(strings.ToUpper(cast[1]))})
	}
	if columns != nil {
		return columns, nil
	}
	return d.Columns(ctx, "", "")
}

type answer struct {
	warehouse.Rows
	rows [][]any
	next int
}

func (a *answer) Columns() []string { return nil }
func (a *answer) Next() bool        { a.next++; return a.next <= len(a.rows) }
func (a *answer) Row() []any        { return a.rows[a.next-1] }
func (a *answer) Err() error        { return nil }
func (a *answer) Close() error      { return nil }

const laidOut = `
-- models/m.sql --
{{ config(materialized='incremental', incremental_strategy='insert_overwrite',
    partition_by={'field': 'at', 'data_type': 'timestamp', 'granularity': 'day'}, cluster_by=['v', 'at']) }}
select at, v from x
`

const makesM = "create or replace table sluis_models.m partition by timestamp_trunc(`at`, day) cluster by `v`, `at` as "

func TestLayoutOnBigQuery(t *testing.T) {
	for kind, want := range map[string]string{
		"incremental": makesM + "select at, v from x",
		"table":       makesM + "select at, v from x",
		"view":        "create or replace view sluis_models.m as select at, v from x",
	} {
		text := strings.Replace(laidOut, "materialized='incremental', incremental_strategy='insert_overwrite'", "materialized='"+kind+"'", 1)
		d := &bigQuery{}
		if _, err := load(t, runner.Options{Dir: project(text), FullRefresh: true}).Run(t.Context(), d, ""); err != nil {
			t.Fatal(err)
		}
		if got := d.statements[len(d.statements)-1]; got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", kind, got, want)
		}
	}
}

// BigQuery prunes partitions by constants only, and one MERGE is atomic.
func TestOverwriteOnBigQuery(t *testing.T) {
	d := &bigQuery{partitions: [][]any{{"2026-03-02"}, {"2026-03-01"}}}
	runOnly(t, load(t, runner.Options{Dir: project(laidOut)}), d, "")
	want := []string{
		"create or replace table sluis_models.m__new as select at, v from x",
		"merge into sluis_models.m as t using sluis_models.m__new as s on false" +
			" when not matched by source and (timestamp_trunc(t.`at`, day) in (timestamp '2026-03-01 00:00:00+00', timestamp '2026-03-02 00:00:00+00')) then delete" +
			" when not matched then insert (`at`, `v`) values (s.`at`, s.`v`)",
		"drop table if exists sluis_models.m__new",
	}
	if diff := cmp.Diff(want, d.statements); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// BigQuery replaces no table by one with other partitions or clusters. The rows
// are computed before what is there is dropped.
func TestLayoutThatChanged(t *testing.T) {
	refused := errors.New("invalid: Cannot replace a table with a different partitioning spec. Instead, DROP the table, and then recreate it.")
	p := load(t, runner.Options{Dir: project(laidOut), FullRefresh: true})
	d := &bigQuery{refuse: map[string]error{"create or replace table sluis_models.m ": refused}}
	runOnly(t, p, d, "")
	want := []string{
		makesM + "select at, v from x",
		"create or replace table sluis_models.m__relaid as select at, v from x",
		"drop table if exists sluis_models.m",
		makesM + "select * from sluis_models.m__relaid",
		"drop table if exists sluis_models.m__relaid",
	}
	if diff := cmp.Diff(want, d.statements); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	for name, test := range map[string]struct {
		refuse  map[string]error
		dropped bool
		want    string
	}{
		"another error":           {map[string]error{"create or replace table sluis_models.m ": errors.New("quota")}, false, "quota"},
		"rows cannot be computed": {map[string]error{"create or replace table sluis_models.m ": refused, "create or replace table sluis_models.m__relaid": errors.New("quota")}, false, "quota"},
		"it cannot be dropped":    {map[string]error{"create or replace table sluis_models.m ": refused, "drop table if exists sluis_models.m": errors.New("no right")}, true, "drop the table, whose partitions or clusters changed: no right"},
	} {
		d := &bigQuery{refuse: test.refuse}
		results, err := p.Run(t.Context(), d, "")
		if err != nil || results[0].Status != runner.Failed || !strings.Contains(results[0].Message, test.want) {
			t.Errorf("%s: %v, %v", name, results, err)
		}
		dropped := strings.Contains(strings.Join(d.statements, "\n")+"\n", "drop table if exists sluis_models.m\n")
		if dropped != test.dropped {
			t.Errorf("%s: the table was dropped: %t", name, dropped)
		}
	}
}

func (d *bigQuery) ReadOnly(_ context.Context, query string) (warehouse.Rows, error) {
	d.asked = append(d.asked, query)
	return &answer{rows: [][]any{{"2026-03-01 2026-03-02,2026-03-03 2026-03-04", "2026-02-27 2026-02-28", "s-1 40,s-2 7"}}}, nil
}

// TestAffectedDaysAreConstants reads what BigQuery gets to build stg_events: all
// of it that scans the landing table or the model itself does so on the affected
// days, as constants. The text in full is there to be read in review.
func TestAffectedDaysAreConstants(t *testing.T) {
	d := &bigQuery{}
	target := t.TempDir()
	p := load(t, runner.Options{Dir: sqlproject.Files, Target: target})
	nodes, err := p.List("stg_events")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range nodes[0].Columns {
		d.columns = append(d.columns, warehouse.Column{Name: c.Name, Type: warehouse.Type(strings.ToUpper(c.TypeIn("bigquery")))})
	}
	runOnly(t, p, d, "stg_events")
	if len(d.asked) != 1 {
		t.Errorf("a run asks %d times for the affected days", len(d.asked))
	}
	compiled, err := os.ReadFile(filepath.Join(target, "compiled/models/staging/stg_events.sql"))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/compiled/bigquery_incremental/stg_events.sql", string(compiled))

	const on = "received_at >= timestamp '%s 00:00:00+00' and received_at < timestamp '%s 00:00:00+00'"
	first, third, before := fmt.Sprintf(on, "2026-03-01", "2026-03-02"), fmt.Sprintf(on, "2026-03-03", "2026-03-04"), fmt.Sprintf(on, "2026-02-27", "2026-02-28")
	// Of several days, what lies before the first and after the last is said first.
	changed, all := fmt.Sprintf(on, "2026-03-01", "2026-03-04")+" and ", fmt.Sprintf(on, "2026-02-27", "2026-03-04")+" and "
	text := strings.Join(strings.Fields(string(compiled)), " ")
	for table, scan := range map[string]string{
		"sluis.events":            "from sluis.events where event_id is not null and " + all + "(" + before + " or " + first + " or " + third + ") and case spool_id ",
		"sluis_models.stg_events": "from sluis_models.stg_events where (" + before + ") and event_id not in (select event_id from landed where " + changed + "(" + first + " or " + third + "))",
	} {
		if strings.Count(text, table) != 1 || !strings.Contains(text, scan) {
			t.Errorf("not the one scan of %s, on constant days:\n%s\nin\n%s", table, scan, text)
		}
	}
	days := "in (timestamp '2026-03-01 00:00:00+00', timestamp '2026-03-03 00:00:00+00', timestamp '2026-02-27 00:00:00+00')) then delete"
	if !strings.Contains(strings.Join(d.statements, "\n"), days) {
		t.Errorf("these days are not what is replaced:\n%s", d.statements)
	}
}
