//go:build bigquery

package runner_test

import (
	"testing"

	sqlproject "github.com/sluis-cdp/sluis/sql"
	"github.com/sluis-cdp/sluis/sql/bigquery"
	"github.com/sluis-cdp/sluis/sql/bigquery/bigquerytest"
	"github.com/sluis-cdp/sluis/sql/runner"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// TestModelsOnBigQuery holds the models on BigQuery to the same cases, all of
// testdata/models, as TestModels does on DuckDB.
func TestModelsOnBigQuery(t *testing.T) {
	next := bigquerytest.Projects(t)
	project := load(t, runner.Options{Dir: sqlproject.Files})
	for _, c := range cases(t) {
		t.Run(c.name, func(t *testing.T) {
			config := next(t)
			if err := bigquery.Setup(t.Context(), config); err != nil {
				t.Fatal(err)
			}
			d, err := bigquery.Open(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			for table, data := range c.landed {
				names, rows := tableOf(landingTable(t, table), parseLanded(t, table, data))
				if err := d.Append(t.Context(), warehouse.SchemaLanding, table, names, rows); err != nil {
					t.Fatal(err)
				}
			}
			c.check(t, project, d)
		})
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
	config := bigquerytest.Projects(t)(t)
	if err := bigquery.Setup(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	d, err := bigquery.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	project := load(t, runner.Options{Dir: workspace(t, map[string]string{
		"models/more.sql": "{{ config(materialized='incremental', unique_key='profile_id') }}select * from {{ ref('profiles') }}",
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
