package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// bigQueryFor plays a project that is set up, for somebody who may run jobs and
// holds some permissions on the landing tables. With permissions nil it does not
// say which.
func bigQueryFor(t *testing.T, permissions []string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		table, tests := strings.CutSuffix(r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:], ":testIamPermissions")
		var answer any
		switch {
		case tests && permissions == nil:
			http.NotFound(w, r)
			return
		case tests:
			var asked struct{ Permissions []string }
			if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
				t.Error(err)
			}
			answer = map[string]any{"permissions": slices.DeleteFunc(asked.Permissions, func(p string) bool { return !slices.Contains(permissions, p) })}
		case r.Method == http.MethodGet:
			var fields []any
			for _, made := range warehouse.Landing() {
				for _, column := range made.Columns {
					if made.Name == table {
						fields = append(fields, map[string]any{"name": column.Name, "type": "STRING"})
					}
				}
			}
			answer = map[string]any{"schema": map[string]any{"fields": fields}}
		default:
			answer = map[string]any{
				"jobReference": map[string]any{"projectId": "p"}, "status": map[string]any{"state": "DONE"},
				"configuration": map[string]any{"query": map[string]any{}},
			}
		}
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	t.Setenv(workspace.EnvBigQueryEndpoint, server.URL)
}

// TestDoctorChecksRights: each program has a line of its own. What a collector
// may do too much is a warning if its identity is its own, and no reason to fail.
func TestDoctorChecksRights(t *testing.T) {
	const get, read, appends = "bigquery.tables.get", "bigquery.tables.getData", "bigquery.tables.updateData"
	own := "    collector: {impersonate: landing@p.iam.gserviceaccount.com}\n"
	for name, test := range map[string]struct {
		collector   string
		permissions []string
		code        int
		states      [3]string // of the warehouse, the collector, models and syncs
		says        []string
	}{
		"one identity for all": {"", []string{get, read, appends}, exitDone, [3]string{"ok", "ok", "ok"}, nil},
		"its own, that reads": {
			own,
			[]string{get, read, appends},
			exitDone,
			[3]string{"ok", "warning", "ok"},
			[]string{"it may read the tables of sluis", "it may run jobs", "bindings.members:serviceAccount:landing@p.iam.gserviceaccount.com"},
		},
		"its own, that may not append": {
			own,
			[]string{get, read},
			exitFailed,
			[3]string{"ok", "wrong", "ok"},
			[]string{"it may not append to the tables of sluis", "gcloud iam roles create sluisCollector --project=p", "TO 'serviceAccount:landing@p.iam.gserviceaccount.com'"},
		},
		"nobody may read": {
			"",
			[]string{get, appends},
			exitFailed,
			[3]string{"ok", "ok", "wrong"},
			[]string{"roles/bigquery.dataViewer", "TO 'serviceAccount:work@p.iam.gserviceaccount.com'"},
		},
		"an emulator": {
			"", nil, exitDone,
			[3]string{"ok", "warning", "warning"},
			[]string{"could not be checked: this server does not offer tables.testIamPermissions"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "shop")
			if _, err := initWorkspace(dir, initOptions{Project: "p", Location: "EU"}); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, workspace.File)
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			configured := strings.Replace(string(text), "    impersonate: \"\"", "    impersonate: work@p.iam.gserviceaccount.com", 1)
			configured = strings.Replace(configured, "    location: EU\n", "    location: EU\n"+test.collector, 1)
			if err := os.WriteFile(path, []byte(configured), 0o600); err != nil {
				t.Fatal(err)
			}
			bigQueryFor(t, test.permissions)

			var stdout, stderr bytes.Buffer
			if code := run(t.Context(), []string{"sluis", "doctor", "-w", dir, "--json"}, &stdout, &stderr); code != test.code {
				t.Errorf("exit code %d, want %d; %s", code, test.code, stderr.String())
			}
			var found []finding
			if err := json.Unmarshal(stdout.Bytes(), &found); err != nil {
				t.Fatalf("%v: %s", err, stdout.String())
			}
			got := map[string]string{}
			for _, f := range found {
				got[f.Check] = f.State
			}
			want := map[string]string{
				"configuration": "ok", "keys": "ok", "models": "ok", "syncs": "ok",
				"warehouse": test.states[0], "rights: collector": test.states[1], "rights: models and syncs": test.states[2],
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("states (-want +got)\n%s%s", diff, stdout.String())
			}

			stdout.Reset()
			run(t.Context(), []string{"sluis", "doctor", "-w", dir}, &stdout, &stderr)
			for _, says := range test.says {
				if !strings.Contains(stdout.String(), says) {
					t.Errorf("not said: %s\n%s", says, stdout.String())
				}
			}
		})
	}
}

// TestFindingRows: the lines of one problem stand below each other.
func TestFindingRows(t *testing.T) {
	got := findingRows([]finding{{"keys", "ok", ""}, {"syncs", "wrong", "one\ntwo"}})
	want := [][]string{{"keys", "ok", ""}, {"syncs", "wrong", "one"}, {"", "", "two"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
