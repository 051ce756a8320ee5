//go:build bigquery

package runner_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	sqlproject "github.com/sluis-cdp/sluis/sql"
	"github.com/sluis-cdp/sluis/sql/bigquery"
	"github.com/sluis-cdp/sluis/sql/bigquery/emulator"
	"github.com/sluis-cdp/sluis/sql/runner"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// TestModelsOnBigQuery holds the models on BigQuery to the same cases, all of
// testdata/models, as TestModels does on DuckDB.
func TestModelsOnBigQuery(t *testing.T) {
	server := emulator.Start(t)
	project := load(t, runner.Options{Dir: sqlproject.Files})
	for i, c := range cases(t) {
		t.Run(c.name, func(t *testing.T) {
			d := openBigQuery(t, server, fmt.Sprintf("models-%d", i))
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

// openBigQuery opens a project of its own, set up and empty.
func openBigQuery(t *testing.T, server emulator.Server, project string) warehouse.Driver {
	t.Helper()
	config := bigquery.Config{Project: project, Location: "EU", Endpoint: server.Endpoint, Timeout: time.Minute}
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
	server := emulator.Start(t)
	var s seen
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			checkIncremental(t, openBigQuery(t, server, fmt.Sprintf("incremental-%d", seed)), rand.New(rand.NewPCG(seed, 3)), 8, &s)
		})
	}
	if s.emptied == 0 || s.untouched == 0 || s.shared == 0 || s.interrupted == 0 {
		t.Errorf("the histories had too little in them: %+v", s)
	}
	t.Run("meanwhile", func(t *testing.T) { checkMeanwhile(t, openBigQuery(t, server, "meanwhile")) })
}
