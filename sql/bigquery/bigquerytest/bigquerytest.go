// Package bigquerytest gives tests a BigQuery to work with: an emulator or, for
// people who have one, a project of their own (`make test-bigquery-live`).
package bigquerytest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/sluis-cdp/sluis/sql/bigquery"
	"github.com/sluis-cdp/sluis/sql/bigquery/emulator"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// The variables that have tests run in a project instead of an emulator. Its
// datasets of Sluis are removed by every test, so tests refuse a project that has
// any, unless the third is set: then those are what an aborted run left behind.
const (
	EnvProject  = "SLUIS_TEST_BIGQUERY_PROJECT"
	EnvLocation = "SLUIS_TEST_BIGQUERY_LOCATION"
	EnvRemove   = "SLUIS_TEST_BIGQUERY_REMOVE"
)

// statementTime bounds a statement, so that a test that hangs says where.
const statementTime = 2 * time.Minute

// Projects returns a function that gives one project after the other in which
// Sluis has no dataset yet. In a project of Google's, where that is always the
// same one, the datasets are removed when the test ends that asked for it; tests
// that use it cannot run at the same time.
func Projects(t testing.TB) func(testing.TB) bigquery.Config {
	t.Helper()
	if project := os.Getenv(EnvProject); project != "" {
		return live(t, project)
	}
	server := emulator.Start(t)
	n := 0
	return func(testing.TB) bigquery.Config {
		n++
		return bigquery.Config{
			Project: fmt.Sprintf("test-%d", n), Location: "EU", Timeout: statementTime,
			Endpoint: server.Endpoint, StorageEndpoint: server.StorageEndpoint,
		}
	}
}

func live(t testing.TB, project string) func(testing.TB) bigquery.Config {
	t.Helper()
	// An emulator may stand in for the project, to try just this.
	config := bigquery.Config{
		Project: project, Location: os.Getenv(EnvLocation), Timeout: statementTime,
		Endpoint: os.Getenv("SLUIS_BIGQUERY_ENDPOINT"), StorageEndpoint: os.Getenv("SLUIS_BIGQUERY_STORAGE_ENDPOINT"),
	}
	if config.Location == "" {
		config.Location = "EU"
	}
	used, err := hasEvents(t.Context(), config)
	switch {
	case err != nil:
		t.Fatal(err)
	case used && os.Getenv(EnvRemove) == "":
		t.Fatalf("the project %s has data of Sluis, which these tests would remove: use a project that is for tests alone, or set %s=1", project, EnvRemove)
	case used:
		remove(t, config)
	}
	return func(t testing.TB) bigquery.Config {
		t.Cleanup(func() { remove(t, config) })
		return config
	}
}

func hasEvents(ctx context.Context, config bigquery.Config) (bool, error) {
	d, err := bigquery.Open(ctx, config)
	if err != nil {
		return false, err
	}
	_, err = d.Columns(ctx, warehouse.SchemaLanding, "events")
	found := err == nil
	if errors.Is(err, warehouse.ErrNoRelation) {
		err = nil
	}
	return found, errors.Join(err, d.Close())
}

func remove(t testing.TB, config bigquery.Config) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	d, err := bigquery.Open(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close() //nolint:errcheck // nothing depends on it
	for _, schema := range []string{warehouse.SchemaLanding, warehouse.SchemaModels, warehouse.SchemaSync} {
		if err := d.Exec(ctx, "DROP SCHEMA IF EXISTS "+schema+" CASCADE"); err != nil {
			t.Error(err)
		}
	}
}
