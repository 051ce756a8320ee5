package main

import (
	"context"
	"fmt"
	"io"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/sql/duckdb"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// openWarehouse opens the workspace's warehouse for one run. holder says what
// for, to those who have to wait; that this one waits is said on stderr.
func openWarehouse(ctx context.Context, w *workspace.Workspace, holder string, stderr io.Writer) (warehouse.Driver, error) {
	return duckdb.Open(ctx, duckdb.Config{
		Path: w.Database(), Landing: w.Landing(),
		MemoryLimit: w.Warehouse.MemoryLimit, Threads: w.Warehouse.Threads,
		Holder: holder,
		OnWait: func(other string) { fmt.Fprintf(stderr, "waiting for the warehouse: in use by %s\n", other) },
	})
}
