//go:build bigquery

package runner_test

import (
	"fmt"
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
			config := bigquery.Config{Project: fmt.Sprintf("models-%d", i), Location: "EU", Endpoint: server.Endpoint, Timeout: time.Minute}
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
