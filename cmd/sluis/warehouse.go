package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/sql/bigquery"
	"github.com/sluis-cdp/sluis/sql/duckdb"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// openWarehouse opens the workspace's warehouse for one run. holder says what
// for, to those who have to wait; that this one waits is said on stderr.
func openWarehouse(ctx context.Context, w *workspace.Workspace, holder string, stderr io.Writer) (warehouse.Driver, error) {
	if err := w.Usable(); err != nil {
		return nil, err
	}
	if w.Warehouse.BigQuery != nil {
		return bigquery.Open(ctx, bigQueryConfig(w.Warehouse.BigQuery))
	}
	return duckdb.Open(ctx, duckDBConfig(w, holder, stderr))
}

func duckDBConfig(w *workspace.Workspace, holder string, stderr io.Writer) duckdb.Config {
	return duckdb.Config{
		Path: w.Database(), Landing: w.Landing(),
		MemoryLimit: w.Warehouse.MemoryLimit, Threads: w.Warehouse.Threads,
		Holder: holder,
		OnWait: func(other string) {
			if !strings.HasSuffix(other, fmt.Sprintf("(process %d)", os.Getpid())) { // of a sync beside others nobody need be told
				fmt.Fprintf(stderr, "waiting for the warehouse: in use by %s\n", other)
			}
		},
	}
}

// setUpWarehouse makes what a warehouse must have before anything lands in it.
func setUpWarehouse(ctx context.Context, w *workspace.Workspace) error {
	if w.Warehouse.BigQuery == nil {
		return nil // made whenever it is opened
	}
	return bigquery.Setup(ctx, bigQueryConfig(w.Warehouse.BigQuery))
}

// collectorConfig is bigQueryConfig as whom events land.
func collectorConfig(b *workspace.BigQuery) bigquery.Config {
	config, who := bigQueryConfig(b), b.CollectorIdentity()
	config.CredentialsFile, config.Impersonate = who.CredentialsFile, who.Impersonate
	return config
}

func bigQueryConfig(b *workspace.BigQuery) bigquery.Config {
	return bigquery.Config{
		Project: b.Project, Location: b.Location, CredentialsFile: b.CredentialsFile, Impersonate: b.Impersonate,
		Endpoint: b.Endpoint, StorageEndpoint: b.StorageEndpoint, Labels: b.JobLabels(), MaxBytesBilled: b.MaxBytesBilled,
	}
}
