//go:build bigquery

package bigquery_test

import (
	"fmt"
	"testing"

	"github.com/sluis-cdp/sluis/sql/bigquery"
	"github.com/sluis-cdp/sluis/sql/bigquery/emulator"
	"github.com/sluis-cdp/sluis/sql/warehouse"
	"github.com/sluis-cdp/sluis/sql/warehouse/warehousetest"
)

// projects returns a function that sets up one new project after the other.
func projects(t *testing.T) func(*testing.T) bigquery.Config {
	server := emulator.Start(t)
	n := 0
	return func(t *testing.T) bigquery.Config {
		t.Helper()
		n++
		config := bigquery.Config{Project: fmt.Sprintf("test-%d", n), Location: "EU", Endpoint: server.Endpoint}
		if err := bigquery.Setup(t.Context(), config); err != nil {
			t.Fatal(err)
		}
		return config
	}
}

func open(t *testing.T, config bigquery.Config) warehouse.Driver {
	t.Helper()
	d, err := bigquery.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDriver(t *testing.T) {
	newProject := projects(t)
	warehousetest.Run(t, func(t *testing.T) warehouse.Driver {
		return open(t, newProject(t))
	})
}
