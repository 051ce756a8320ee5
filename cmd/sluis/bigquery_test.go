//go:build bigquery

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/sql/bigquery/bigquerytest"
)

// TestDemoOnBigQuery runs the main job whole on each warehouse: the figures are
// the same.
func TestDemoOnBigQuery(t *testing.T) {
	config := bigquerytest.Projects(t)(t)
	t.Setenv(workspace.EnvBigQueryEndpoint, config.Endpoint)
	t.Setenv(workspace.EnvBigQueryStorageEndpoint, config.StorageEndpoint)
	demo := func(flags ...string) figures {
		var stdout, stderr bytes.Buffer
		if code := run(context.Background(), append([]string{"sluis", "demo", "--once", "--json"}, flags...), &stdout, &stderr); code != 0 {
			t.Fatalf("demo %v: exit %d: %s", flags, code, stderr.String())
		}
		var f figures
		if err := json.Unmarshal(stdout.Bytes(), &f); err != nil {
			t.Fatal(err)
		}
		f.Seconds = 0
		return f
	}
	if diff := cmp.Diff(demo(), demo("--bigquery", config.Project, "--location", config.Location)); diff != "" {
		t.Errorf("(-embedded +BigQuery)\n%s", diff)
	}
}
