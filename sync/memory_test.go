package syncer_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/sql/duckdb"
	"github.com/sluis-cdp/sluis/sql/warehouse"
	syncer "github.com/sluis-cdp/sluis/sync"
)

// A first plan has a wide row for everybody. It is made within warehouse.memory_limit, and
// its changes are numbered all the same: removals would be first, each with a number.
func TestAFirstPlanInLittleMemory(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "w.duckdb")
	open := func(ctx context.Context) (warehouse.Driver, error) {
		return duckdb.Open(ctx, duckdb.Config{Path: path, MemoryLimit: "160MB", Threads: 2, Holder: "test"})
	}
	run := func(statement string) [][]any {
		t.Helper()
		d, err := open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		rows, err := warehouse.Collect(t.Context(), d, statement)
		if err != nil {
			t.Fatal(err)
		}
		return rows
	}
	run(`CREATE TABLE sluis_models.people AS SELECT md5('k' || i) AS customer, md5('p' || i) AS profile_id, repeat(md5('x' || i), 3) AS about FROM range(300000) t(i)`)
	run(`CREATE TABLE sluis_models.consent_profile AS SELECT profile_id, 'marketing' AS purpose, true AS allowed, md5(profile_id) AS decision_id, 'policy1' AS policy_version,
		TIMESTAMPTZ '2026-01-01 00:00:00+00' AS decided_at FROM sluis_models.people`)
	e, err := syncer.New(syncer.Config{
		Open: open,
		Connect: func(context.Context, syncer.Sync) (destination.Destination, error) {
			return nil, errors.New("a plan needs no destination")
		},
		Unseal: func(context.Context, syncer.Sealed) (string, error) { return "", errors.New("nothing is sealed") },
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	p, err := e.Plan(t.Context(), syncer.Sync{
		Name: "all", File: "all.yaml", Model: "people", Key: "customer", Profile: "profile_id", Purpose: "marketing", Destination: "none",
		Mapping: []syncer.Field{{Field: "about", Column: "about"}}, Mode: syncer.ModeMirror, BatchRows: 1000,
	})
	if err != nil || p.Counts.Add != 300_000 {
		t.Fatalf("%+v, %v", p.Counts, err)
	}
	wrong := run(`SELECT COUNT(*) FROM (SELECT key, seq, ROW_NUMBER() OVER (ORDER BY key) AS want FROM sluis_sync.plan_changes) WHERE seq <> want`)
	if wrong[0][0] != int64(0) {
		t.Errorf("%v changes are out of order", wrong[0][0])
	}
}
