//go:build bigquery

package runner_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	sqlproject "github.com/sluis-cdp/sluis/sql"
	"github.com/sluis-cdp/sluis/sql/bigquery"
	"github.com/sluis-cdp/sluis/sql/bigquery/bigquerytest"
	"github.com/sluis-cdp/sluis/sql/runner"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// TestModelsOnBigQuery holds the models on BigQuery to the same cases, all of
// testdata/models, as TestModels does on DuckDB. An emulator takes long for each
// statement, so a case builds what it wants rows of; the demo, in which all kinds
// of things happen, is built there whole.
func TestModelsOnBigQuery(t *testing.T) {
	next := bigquerytest.Projects(t)
	project := load(t, runner.Options{Dir: sqlproject.Files, Vars: varsOfCases, Indirect: runner.Cautious})
	for _, c := range cases(t) {
		t.Run(c.name, func(t *testing.T) {
			d := openBigQuery(t, next)
			for table, data := range c.landed {
				names, rows := tableOf(landingTable(t, table), parseLanded(t, table, data))
				if err := d.Append(t.Context(), warehouse.SchemaLanding, table, names, rows); err != nil {
					t.Fatal(err)
				}
			}
			c.check(t, c.project(t, project), d, c.selector())
		})
	}
}

// openBigQuery opens the next project, set up and empty.
func openBigQuery(t *testing.T, next func(testing.TB) bigquery.Config) warehouse.Driver {
	t.Helper()
	config := next(t)
	if err := bigquery.Setup(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	d, err := bigquery.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// TestIncrementalOnBigQuery is TestIncrementalIsFullRefresh there.
func TestIncrementalOnBigQuery(t *testing.T) {
	next := bigquerytest.Projects(t)
	var s seen
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			checkIncremental(t, openBigQuery(t, next), rand.New(rand.NewPCG(seed, 3)), 8, &s)
		})
	}
	if s.emptied == 0 || s.untouched == 0 || s.shared == 0 || s.interrupted == 0 {
		t.Errorf("the histories had too little in them: %+v", s)
	}
	t.Run("meanwhile", func(t *testing.T) { checkMeanwhile(t, openBigQuery(t, next)) })
}

// TestFreshnessOnBigQuery is TestFreshness there.
func TestFreshnessOnBigQuery(t *testing.T) {
	checkFreshness(t, openBigQuery(t, bigquerytest.Projects(t)))
}

// parity has, for each macro that hides a difference, what it makes of a row of
// the landing table events.
const parity = `
select
    event_id,
    {{ json_text('properties', '$.a') }} as at_a,
    {{ json_text('properties', '$.a.b') }} as at_a_b,
    {{ json_text('properties', '$.list[1]') }} as second,
    {{ sha256_hex('page_title') }} as digest,
    {{ array_contains('purposes', "'x'") }} as has_x,
    {{ array_contains('purposes', 'page_title') }} as has_title
from {{ source('sluis', 'events') }}
`

// parityOfRows is that for macros that change how many rows there are.
const parityOfRows = `
select e.event_id, purpose, count(*) as n
from {{ source('sluis', 'events') }} as e
cross join {{ unnest('e.purposes', 'purpose') }}
group by e.event_id, purpose
union all
select e.event_id, identifier.pseudonym, count(*) as n
from {{ source('sluis', 'events') }} as e
cross join {{ unnest('e.identifiers', 'identifier') }}
group by e.event_id, identifier.pseudonym
`

// parityOfGroups is that for aggregates, and of the words that both warehouses
// take alike.
const parityOfGroups = `
select
    type,
    {{ ordered_array('page_title') }} as titles,
    {{ ordered_array('region') }} as none,
    countif(page_title is not null) as counted,
    sum(spool_offset) as summed,
    sum(spool_offset) / 2 as halved,
    min({{ dbt.date_trunc('day', 'received_at') }}) as first_day,
    max({{ dbt.dateadd('hour', 2, 'received_at') }}) as later
from {{ source('sluis', 'events') }}
group by type
`

// TestParityOnBigQuery has macros work on awkward values on both warehouses.
func TestParityOnBigQuery(t *testing.T) {
	var rows []map[string]any
	for i, text := range []any{nil, "", "x", "it's", `say "x"`, "Zoë 🦆", "%_?", "a,b c", "0", "null", "x"} {
		rows = append(rows, map[string]any{"event_id": fmt.Sprint("text", i), "type": "text", "page_title": text, "spool_offset": i})
	}
	for i, properties := range []any{
		nil, `{}`, `{"a":null}`, `{"a":"x"}`, `{"a":"it's"}`, `{"a":"say \"x\""}`, `{"a":"Zoë 🦆"}`, `{"a":""}`, `{"a":"null"}`, `{"a":1}`, `{"a":-1.5}`,
		`{"a":true}`, `{"a":false}`, `{"a":{"b":"deep"}}`, `{"a":{"b":{"c":1}}}`, `{"a":[1,"x"]}`, `{"a":[]}`, `{"list":["x","y"]}`, `{"list":[null,{"b":1}]}`, `[]`, `"a"`, `12345678901234567`,
	} {
		rows = append(rows, map[string]any{"event_id": fmt.Sprint("json", i), "type": "json", "properties": properties, "spool_offset": i})
	}
	for i, purposes := range [][]string{nil, {}, {"x"}, {"y", "x", "x"}, {"X"}, {""}, {"it's", "Zoë 🦆"}} {
		rows = append(rows, map[string]any{"event_id": fmt.Sprint("array", i), "type": "array", "purposes": purposes, "page_title": "Zoë 🦆", "spool_offset": i})
	}
	rows = append(rows,
		map[string]any{"event_id": "structs", "type": "array", "identifiers": []any{map[string]any{"kind": "email", "pseudonym": "it's"}, map[string]any{"kind": "phone", "pseudonym": "it's"}}, "spool_offset": 9},
		map[string]any{"event_id": "no structs", "type": "array", "identifiers": []any{}, "spool_offset": 9},
	)
	for _, row := range rows {
		row["received_at"] = day.Add(90 * time.Minute)
	}
	const loose = "{{ config(contract={'enforced': false}) }}"
	p := load(t, runner.Options{Dir: workspace(t, map[string]string{
		"models/parity.sql": loose + parity, "models/parity_of_rows.sql": loose + parityOfRows, "models/parity_of_groups.sql": loose + parityOfGroups,
	})})
	var got []map[string][][]string
	for _, d := range []warehouse.Driver{openTables(t), openBigQuery(t, bigquerytest.Projects(t))} {
		appendRows(t, d, "events", rows)
		runOnly(t, p, d, "parity*")
		all := map[string][][]string{}
		for _, model := range []string{"parity", "parity_of_rows", "parity_of_groups"} {
			all[model] = rowsOf(t, d, nil, "SELECT * FROM sluis_models."+model)
		}
		got = append(got, all)
	}
	if len(got[0]["parity"]) != len(rows) || len(got[0]["parity_of_rows"]) == 0 || len(got[0]["parity_of_groups"]) != 3 {
		t.Errorf("too little was compared: %v", got[0])
	}
	if diff := cmp.Diff(got[0], got[1]); diff != "" {
		t.Errorf("(-DuckDB +BigQuery)\n%s", diff)
	}
}

// TestEstimatesOnBigQuery asks a warehouse that has the dialect of BigQuery
// for estimates of all models, before and after they are built.
//
// The emulator has no cost model: the bytes of a dry run are always 0, where
// BigQuery documents what the statement would process; and it looks for the
// relations of a SELECT only, not of statements that change something. So what
// this holds is that every statement of an estimate is accepted, that nothing
// is built, and that a missing relation is never 0 bytes. TestEstimate holds
// the numbers.
func TestEstimatesOnBigQuery(t *testing.T) {
	d := openBigQuery(t, bigquerytest.Projects(t))
	project := load(t, runner.Options{Dir: workspace(t, map[string]string{
		"models/more.sql": "{{ config(materialized='incremental', contract={'enforced': false}, unique_key='profile_id') }}select * from {{ ref('profiles') }}",
	}), Budget: runner.Budget{Model: 1 << 30, Run: 1 << 30}})
	for _, built := range []bool{false, true} {
		estimates, err := project.Estimate(t.Context(), d, "")
		if err != nil {
			t.Fatal(err)
		}
		unknown := 0
		for _, e := range estimates {
			if e.Bytes < 0 {
				unknown++
			}
			if e.Err != nil || (e.Bytes < 0) != (len(e.Missing) > 0) || built && e.Bytes < 0 {
				t.Errorf("built is %t: %+v", built, e)
			}
			if _, err := d.Columns(t.Context(), warehouse.SchemaModels, e.Name); (err == nil) != built {
				t.Errorf("built is %t: %s: %v", built, e.Name, err)
			}
		}
		if !built {
			if unknown == 0 {
				t.Error("nothing is there yet, and all is known")
			}
			build(t, project, d, "")
		}
	}
}
