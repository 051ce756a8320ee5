//go:build bigquery

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/sql/bigquery/bigquerytest"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// TestDemoOnBigQuery runs the main job whole on each warehouse: the figures are
// the same.
func TestDemoOnBigQuery(t *testing.T) {
	config := bigquerytest.Projects(t)(t)
	t.Setenv(workspace.EnvBigQueryEndpoint, config.Endpoint)
	t.Setenv(workspace.EnvBigQueryStorageEndpoint, config.StorageEndpoint)
	demo := func(flags ...string) figures {
		var stdout, stderr bytes.Buffer
		if code := run(bounded(t), append([]string{"sluis", "demo", "--once", "--json"}, flags...), &stdout, &stderr); code != 0 {
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

// TestShredOnBigQuery deletes data keys where they are rows of a table, and says
// until when BigQuery itself could bring them back.
func TestShredOnBigQuery(t *testing.T) {
	config := bigquerytest.Projects(t)(t)
	t.Setenv(workspace.EnvBigQueryEndpoint, config.Endpoint)
	t.Setenv(workspace.EnvBigQueryStorageEndpoint, config.StorageEndpoint)
	dir := filepath.Join(t.TempDir(), "shop")
	w, err := initWorkspace(dir, initOptions{Name: "shop", WriteKey: "wk_test", Project: config.Project, Location: config.Location})
	if err != nil {
		t.Fatal(err)
	}
	if err := setUpWarehouse(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	db, err := openWarehouse(t.Context(), w, "the test", os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	now := time.Now().UTC().Truncate(time.Microsecond)
	days := func(n int) time.Time { return now.Add(time.Duration(-n) * 24 * time.Hour) }
	put := func(table string, columns []string, rows ...[]any) {
		t.Helper()
		if err := db.Append(t.Context(), warehouse.SchemaLanding, table, columns, rows); err != nil {
			t.Fatal(err)
		}
	}
	put("seal_keys", []string{"key_id", "purpose", "created_at"},
		[]any{"old", "marketing", days(500)}, []any{"old", "marketing", days(500)}, []any{"old-ad", "advertising", days(500)},
		[]any{"new", "marketing", days(5)}, []any{"tombstone", "marketing", days(500)}, []any{"young", "marketing", now})
	put("vault", []string{"pseudonym", "field", "purpose", "key_id", "received_at"},
		[]any{"us1_1", "email", "marketing", "old", days(500)}, []any{"us1_2", "email", "marketing", "old", days(500)}, []any{"us1_1", "phone", "marketing", "new", days(5)})
	put("erasures", []string{"request_id", "key_id", "erased_at"}, []any{"r", "tombstone", days(500)})

	shred := func(want int, flags ...string) (r shredReport) {
		t.Helper()
		code, stdout, stderr := sluis(t, append([]string{"keys", "shred", "--json", "--yes", "--workspace", dir}, flags...)...)
		if err := json.Unmarshal([]byte(stdout), &r); code != want || err != nil {
			t.Fatalf("%v: exit %d: %s%s", flags, code, stdout, stderr)
		}
		return r
	}
	left := func() (ids []string) {
		t.Helper()
		ids, err := texts(t.Context(), db, "select distinct key_id from sluis.seal_keys order by 1")
		if err != nil {
			t.Fatal(err)
		}
		return ids
	}
	r := shred(exitDone, "--older-than", "400d", "--purpose", "marketing")
	if want := (unreadable{"marketing", "vault", "email", 2}); r.DataKeys != 1 || len(r.Sealed) != 1 || r.Sealed[0] != want {
		t.Errorf("the report is %+v", r)
	}
	if r.Recoverable == nil || r.Recoverable.Before(now.Add(9*24*time.Hour)) || r.Recoverable.After(now.Add(15*24*time.Hour)) {
		t.Errorf("BigQuery keeps it until %v", r.Recoverable)
	}
	if diff := cmp.Diff([]string{"new", "old-ad", "tombstone", "young"}, left()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if r := shred(exitRefused, "--key-id", "old-ad", "--key-id", "young"); r.DataKeys != 1 || !cmp.Equal(r.Young, []string{"young"}) {
		t.Errorf("the report is %+v", r)
	}
	if diff := cmp.Diff([]string{"new", "tombstone", "young"}, left()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
