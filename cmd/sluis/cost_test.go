package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
)

// fakeBigQuery answers dry runs and jobs as BigQuery does, over relations of
// which it knows only the size. A statement processes the bytes of what it
// names.
type fakeBigQuery struct {
	sizes map[string]int64 // by schema.name; others do not exist

	mu   sync.Mutex
	ran  []string
	jobs map[string]string // queries by id
}

var (
	created  = regexp.MustCompile(`^create or replace (table|view) (\S+) as`)
	relation = regexp.MustCompile(`\bsluis\w*\.\w+`)
)

func (f *fakeBigQuery) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	_, path, _ := strings.Cut(r.URL.Path, "/projects/p/")
	switch parts := strings.Split(path, "/"); parts[0] {
	case "jobs":
		f.insert(w, r)
	case "queries":
		rows := []any{map[string]any{"f": []any{map[string]any{"v": "0"}}}} // so many rows there are
		if query := f.jobs[parts[1]]; strings.Contains(query, "INFORMATION_SCHEMA") || strings.Contains(query, "sluis.erasures") {
			rows = nil // of what kind a relation is; and nobody was erased
		}
		json.NewEncoder(w).Encode(map[string]any{
			"jobComplete": true, "totalRows": strconv.Itoa(len(rows)), "rows": rows,
			"schema": map[string]any{"fields": []any{map[string]any{"name": "n", "type": "INTEGER"}}},
		})
	case "datasets":
		if _, ok := f.sizes[parts[1]+"."+parts[3]]; !ok {
			f.missing(w, parts[1]+"."+parts[3])
			return
		}
		json.NewEncoder(w).Encode(map[string]any{"schema": map[string]any{"fields": []any{map[string]any{"name": "n", "type": "INTEGER"}}}})
	}
}

func (f *fakeBigQuery) insert(w http.ResponseWriter, r *http.Request) {
	var body struct {
		JobReference  struct{ JobID string }
		Configuration map[string]any
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	query := body.Configuration["query"].(map[string]any)["query"].(string)
	bytes := int64(0)
	if body.Configuration["dryRun"] == true {
		for _, name := range relation.FindAllString(created.ReplaceAllString(query, ""), -1) {
			size, ok := f.sizes[name]
			if !ok {
				f.missing(w, name)
				return
			}
			bytes += size
		}
	} else {
		f.ran = append(f.ran, query)
		f.jobs[body.JobReference.JobID] = query
		if target := created.FindStringSubmatch(query); target != nil {
			f.sizes[target[2]] = 1
		}
	}
	json.NewEncoder(w).Encode(map[string]any{
		"jobReference":  map[string]any{"projectId": "p", "jobId": body.JobReference.JobID, "location": "EU"},
		"configuration": body.Configuration, "status": map[string]any{"state": "DONE"},
		"statistics": map[string]any{"totalBytesProcessed": strconv.FormatInt(bytes, 10), "query": map[string]any{"statementType": "SELECT"}},
	})
}

func (*fakeBigQuery) missing(w http.ResponseWriter, name string) {
	w.WriteHeader(http.StatusNotFound)
	json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{
		"code": 404, "message": "Not found: Table p:" + name,
		"errors": []any{map[string]any{"reason": "notFound", "message": "Not found: Table p:" + name}},
	}})
}

// costWorkspace is a workspace with few models. BIGQUERY is more of its
// warehouse's configuration.
const costWorkspace = `
-- sluis.yaml --
workspace: shop
sources: [{id: web, write_key: wk}]
warehouse:
  bigquery: {project: p, location: EUBIGQUERY}
-- sql/dbt_project.yml --
name: p
-- sql/models/sources.yml --
sources: [{name: sluis, tables: [{name: events}, {name: consents}]}]
-- sql/models/big.sql --
{{ config(materialized='table') }}select n from {{ source('sluis', 'events') }}
-- sql/models/components.sql --
{{ config(materialized='fixpoint', meta={'fixpoint': {'kind': 'components'}}) }}select n as node_a, n as node_b from {{ source('sluis', 'consents') }}
-- sql/models/on_big.sql --
{{ config(materialized='table') }}select n from {{ ref('big') }}
-- sql/models/own.sql --
{{ config(materialized='table', meta={'max_bytes': '1KiB'}) }}select n from {{ source('sluis', 'consents') }}
-- sql/models/seen.sql --
select n from {{ ref('on_big') }}
`

// newCostWorkspace returns a workspace with that configuration, and the
// BigQuery that it has.
func newCostWorkspace(t *testing.T, config string) (dir string, f *fakeBigQuery) {
	t.Helper()
	f = &fakeBigQuery{jobs: map[string]string{}, sizes: map[string]int64{"sluis.events": 3 << 38, "sluis.consents": 5 << 20}}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	t.Setenv(workspace.EnvBigQueryEndpoint, server.URL)
	dir = t.TempDir()
	for _, file := range txtar.Parse([]byte(strings.Replace(costWorkspace, "BIGQUERY", config, 1))).Files {
		path := filepath.Join(dir, file.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, file.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir, f
}

// sluis runs the program.
func sluis(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, failed bytes.Buffer
	code = run(bounded(t), append([]string{"sluis"}, args...), &out, &failed)
	return code, out.String(), failed.String()
}

func TestModelsDryRun(t *testing.T) {
	dir, f := newCostWorkspace(t, ", budget: {run: 1GiB}")
	code, stdout, stderr := sluis(t, "models", "run", "--dry-run", "-w", dir)
	want := `  model       materialized  bytes             price            remark
  ──────────  ────────────  ────────────────  ───────────────  ─────────────────────────────────────────────────
  big         table         768 GiB           4.69
  components  fixpoint      at least 5 MiB    at least 0.0000
  on_big      table         unknown           unknown          sluis_models.big not there yet
  own         table         5 MiB             0.0000           over its budget of 1 KiB
  seen        view          0 B               0
  total                     at least 768 GiB  at least 4.69    without 1 unknown; over the run's budget of 1 GiB
Nothing was built.
- Prices are at 6.25 per TiB (warehouse.bigquery.price_per_tib), in the currency of your bill.
- Models that read what the same run builds first are estimated over what is there now.
- At least: the build also reads tables that it makes itself, or goes in rounds, and how much that is shows only then.
- Unknown: build what is not there yet first, with ` + "`sluis models run --select`" + `, or land events; then estimate again.
- For clustered tables the numbers are upper bounds.
- BigQuery bills at least 10 MB for each table that a statement reads, which is not in the numbers; nor are tests and syncs.
`
	if diff := cmp.Diff(want, stdout); diff != "" || code != exitDone || stderr != "" {
		t.Errorf("exit %d: %s (-want +got)\n%s", code, stderr, diff)
	}
	if len(f.ran) > 0 {
		t.Errorf("it ran %q", f.ran)
	}
}

func TestModelsDryRunJSON(t *testing.T) {
	dir, f := newCostWorkspace(t, ", price_per_tib: 8")
	f.sizes["sluis_models.big"] = 1 << 40
	code, stdout, stderr := sluis(t, "models", "run", "--dry-run", "--json", "--select", "on_big components", "-w", dir)
	want := `{
  "billed": true,
  "price_per_tib": 8,
  "models": [
    {
      "name": "components",
      "kind": "model",
      "materialized": "fixpoint",
      "path": "models/components.sql",
      "bytes": 5242880,
      "price": 0.00003814697265625,
      "at_least": true
    },
    {
      "name": "on_big",
      "kind": "model",
      "materialized": "table",
      "path": "models/on_big.sql",
      "bytes": 1099511627776,
      "price": 8,
      "at_least": false
    }
  ],
  "total": {
    "bytes": 1099516870656,
    "price": 8.000038146972656,
    "at_least": true
  },
  "unknown": 0
}
`
	if diff := cmp.Diff(want, stdout); diff != "" || code != exitDone || stderr != "" {
		t.Errorf("exit %d: %s (-want +got)\n%s", code, stderr, diff)
	}
	delete(f.sizes, "sluis_models.big")
	_, stdout, _ = sluis(t, "models", "run", "--dry-run", "--json", "--select", "on_big", "-w", dir)
	for _, want := range []string{`"bytes": null`, `"price": null`, `"missing": [`, `"sluis_models.big"`, `"unknown": 1`} {
		if !strings.Contains(stdout, want) {
			t.Errorf("an unknown model: no %s in\n%s", want, stdout)
		}
	}
}

// What cannot be estimated for another reason than a missing relation is a
// failure.
func TestModelsDryRunFails(t *testing.T) {
	dir, f := newCostWorkspace(t, "")
	edit(t, filepath.Join(dir, "sql", "models", "own.sql"), "select n from {{ source('sluis', 'consents') }}", "select n from sluis.typo")
	code, stdout, stderr := sluis(t, "models", "run", "--dry-run", "--select", "own", "-w", dir)
	if code != exitFailed || !strings.Contains(stdout, "BigQuery: Not found: Table p:sluis.typo") || !strings.Contains(stderr, "1 of 1 could not be estimated") {
		t.Errorf("exit %d: %s\n%s", code, stderr, stdout)
	}
	if code, _, stderr := sluis(t, "models", "run", "--dry-run", "--select", "tag:nope", "-w", dir); code != exitUsage {
		t.Errorf("nothing selected: exit %d: %s", code, stderr)
	}
	if len(f.ran) > 0 {
		t.Errorf("it ran %q", f.ran)
	}
}

func TestModelsOverBudget(t *testing.T) {
	tests := []struct {
		name, config, selector string
		code                   int
		want                   []string // in what is printed
		never                  string   // a statement that was not run
	}{
		{
			"of each model", ", budget: {model: 100GiB}", "big+", exitRefused,
			[]string{
				"failed   big", "models/big.sql: over budget: a statement was not run that would process 824633720832 bytes (768 GiB; price 4.69 at 6.25 per TiB); " +
					"of the budget of 100 GiB (warehouse.bigquery.budget.model in sluis.yaml) 100 GiB are left: narrow the query",
				"skipped  on_big", "skipped  seen", "sluis: 3 of 3 were refused, being over budget, or skipped",
			},
			"create or replace table sluis_models.big ",
		},
		{
			"of its own", ", budget: {model: 100GiB}, price_per_tib: 5", "own", exitRefused,
			[]string{"5242880 bytes (5 MiB; price 0.0000 at 5 per TiB); of the budget of 1 KiB (meta.max_bytes in the model's config) 1 KiB are left"},
			"create or replace table sluis_models.own ",
		},
		{
			"of the run", ", budget: {run: 1MiB}", "components", exitRefused,
			[]string{"of the budget of 1 MiB (warehouse.bigquery.budget.run in sluis.yaml) 1 MiB are left: build less at a time with --select"},
			"create or replace table sluis_models.components",
		},
		{"enough", ", budget: {model: 1TiB, run: 2TiB}", "big", exitDone, []string{"built    big"}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir, f := newCostWorkspace(t, test.config)
			code, stdout, stderr := sluis(t, "models", "run", "--select", test.selector, "-w", dir)
			for _, want := range test.want {
				if !strings.Contains(stdout+stderr, want) {
					t.Errorf("no %q in\n%s%s", want, stdout, stderr)
				}
			}
			if code != test.code {
				t.Errorf("exit %d, want %d", code, test.code)
			}
			if ran := strings.Join(f.ran, "\n"); test.never != "" && strings.Contains(ran, test.never) {
				t.Errorf("it was run: %s", ran)
			}
		})
	}
}

// If something else failed as well, that is the verdict.
func TestModelsOverBudgetAndBroken(t *testing.T) {
	dir, _ := newCostWorkspace(t, ", budget: {model: 100GiB}")
	edit(t, filepath.Join(dir, "sql", "models", "seen.sql"), "select n from {{ ref('on_big') }}", "{{ config(materialized='table') }}select n from sluis.typo")
	code, stdout, stderr := sluis(t, "models", "run", "--json", "-w", dir)
	if code != exitFailed || !strings.Contains(stderr, "failed or were skipped") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	var nodes []nodeJSON
	if err := json.Unmarshal([]byte(stdout), &nodes); err != nil {
		t.Fatal(err)
	}
	over := map[string]bool{}
	for _, n := range nodes {
		if n.OverBudget {
			over[n.Name] = true
			if n.Bytes == nil || *n.Bytes != 0 || !strings.Contains(n.Message, "budget") {
				t.Errorf("%+v", n)
			}
		}
	}
	if diff := cmp.Diff(map[string]bool{"big": true, "own": true}, over); diff != "" {
		t.Errorf("over budget: (-want +got)\n%s", diff)
	}
}

// TestUpOverBudget: the scheduler logs what a budget refused, and counts it and
// what depends on it as not built, which keeps their syncs from running.
func TestUpOverBudget(t *testing.T) {
	dir, _ := newCostWorkspace(t, ", budget: {model: 100GiB}")
	w, err := workspace.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	var log, stderr bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	project, err := loadProject(w, false, logger, nil)
	if err != nil {
		t.Fatal(err)
	}
	failed, err := (&scheduler{w: w, logger: logger, stderr: &stderr}).buildModels(t.Context(), project, "")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]bool{"big": true, "on_big": true, "seen": true, "own": true}, failed); diff != "" {
		t.Errorf("not built: (-want +got)\n%s", diff)
	}
	for _, want := range []string{"model=big status=failed", "warehouse.bigquery.budget.model in sluis.yaml", "model=own", "model=seen status=skipped"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %q in the log:\n%s", want, log.String())
		}
	}
}
