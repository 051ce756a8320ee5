package googlesql

import (
	"errors"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	sqlproject "github.com/sluis-cdp/sluis/sql"
	"github.com/sluis-cdp/sluis/sql/duckdb"
	"github.com/sluis-cdp/sluis/sql/runner"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// TestModels has every model and test of the project analyzed as BigQuery gets
// it: the query by itself, to point at the line, and the statements that
// build and test it.
func TestModels(t *testing.T) {
	project := load(t, runner.Options{Dir: sqlproject.Files, Vars: examples(t)})
	d := newFake(t)
	built, err := project.Run(t.Context(), d, "")
	if err != nil {
		t.Fatal(err)
	}
	// The second run adds to what the first has built.
	again, err := project.Run(t.Context(), d, "")
	if err := errors.Join(err, again.Err()); err != nil && built.Err() == nil {
		t.Errorf("BigQuery would not build what is there already: %v", err)
	}
	compiled, err := project.Compile("bigquery", "")
	if err != nil {
		t.Fatal(err)
	}
	results := map[string]runner.NodeResult{}
	for _, result := range built {
		results[result.Name] = result
	}
	for _, c := range compiled {
		result, isModel := results[c.Name]
		if result.Status == runner.Skipped || !isModel && built.Err() != nil {
			continue // the first failure says it all
		}
		if _, err := d.analyzer.Query(c.SQL); err != nil {
			t.Errorf("BigQuery would refuse sql/%s: %v", locate(c, err.Error()), err)
		} else if result.Status == runner.Failed {
			t.Errorf("BigQuery would not build sql/%s: %s", c.Path, result.Message)
		}
	}
	if t.Failed() {
		return
	}
	for _, shape := range []string{
		"with seen as (",
		"create or replace table sluis_models.stg_events partition by timestamp_trunc(`received_at`, day) cluster by `source_id`, `type`, `event` as",
		"merge into sluis_models.stg_events as t using sluis_models.stg_events__new as s on false when not matched by source and (timestamp_trunc(t.`received_at`, day) in (timestamp '2026-03-01 00:00:00+00'",
	} {
		if !d.saw(shape) {
			t.Errorf("no statement began with %q", shape)
		}
	}
	tested, err := project.Test(t.Context(), d, "")
	if err := errors.Join(err, d.err(), built.Err(), tested.Err()); err != nil {
		t.Error(err)
	}
}

// TestSameColumns compares each model's columns on DuckDB with those on
// BigQuery. Many functions that mean something else on each of them, such as
// sha256, json_value and bare numeric, have another type there.
func TestSameColumns(t *testing.T) {
	project := load(t, runner.Options{Dir: sqlproject.Files, Vars: examples(t)})
	d := newFake(t)
	embedded, err := duckdb.Open(t.Context(), duckdb.Config{Path: filepath.Join(t.TempDir(), "w.duckdb"), Landing: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer embedded.Close()
	for _, driver := range []warehouse.Driver{d, embedded} {
		results, err := project.Run(t.Context(), driver, "")
		if err := errors.Join(err, results.Err()); err != nil {
			t.Fatal(err)
		}
	}
	nodes, err := project.List("")
	if err != nil {
		t.Fatal(err)
	}
	for _, node := range nodes {
		if node.Kind == runner.Test || node.Materialized == runner.Ephemeral {
			continue
		}
		want, err := d.Columns(t.Context(), warehouse.SchemaModels, node.Name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := embedded.Columns(t.Context(), warehouse.SchemaModels, node.Name)
		if err != nil {
			t.Fatal(err)
		}
		for i := range max(len(want), len(got)) {
			if i >= len(want) || i >= len(got) || want[i] != got[i] {
				t.Errorf("sql/%s: on BigQuery its columns are\n%v\nand on DuckDB\n%v", node.Path, want, got)
				break
			}
		}
	}
}

// examples is the vars under which all that the project has is built: audiences
// that are examples too, and a model that wants a fit.
func examples(t *testing.T) map[string]any {
	t.Helper()
	files, err := fs.Glob(sqlproject.Files, "models/audiences/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	audiences := make([]any, len(files))
	for i, file := range files {
		audiences[i] = strings.TrimSuffix(filepath.Base(file), ".sql")
	}
	return map[string]any{"audiences": audiences, "bgnbd": map[string]any{"r": 0.243, "alpha": 4.414, "a": 0.793, "b": 2.426, "unit_days": 7}}
}

func load(t testing.TB, options runner.Options) *runner.Project {
	t.Helper()
	project, err := runner.Load(options)
	if err != nil {
		t.Fatal(err)
	}
	return project
}

var position = regexp.MustCompile(`\[at (\d+):\d+\]`)

// locate tells file and line of an error in a compiled query. A line that a
// macro wrote has no number in the file, so it is shown.
func locate(c runner.Compiled, message string) string {
	m := position.FindStringSubmatch(message)
	if m == nil {
		return c.Path
	}
	number, err := strconv.Atoi(m[1])
	lines := strings.Split(c.SQL, "\n")
	if err != nil || number < 1 || number > len(lines) {
		return c.Path
	}
	text := strings.TrimSpace(lines[number-1])
	source, err := fs.ReadFile(sqlproject.Files, c.Path)
	if err != nil {
		return c.Path
	}
	found := 0
	for i, line := range strings.Split(string(source), "\n") {
		if strings.TrimSpace(line) == text {
			if found > 0 {
				found = 0
				break
			}
			found = i + 1
		}
	}
	if found > 0 {
		return c.Path + ":" + strconv.Itoa(found) + ": " + text
	}
	return c.Path + ", line " + m[1] + " of the compiled query: " + text
}

func TestLocate(t *testing.T) {
	stg := runner.Compiled{Path: "models/identity/identity_map.sql", SQL: "with ranked as (\n    select\n        c.node_key,\nwhat a macro wrote"}
	for _, test := range []struct{ message, want string }{
		{"Unrecognized name [at 3:9]", "models/identity/identity_map.sql:32: c.node_key,"},
		{"Syntax error [at 4:1]", "models/identity/identity_map.sql, line 4 of the compiled query: what a macro wrote"},
		{"no place", "models/identity/identity_map.sql"},
		{"beyond [at 9:1]", "models/identity/identity_map.sql"},
	} {
		if got := locate(stg, test.message); got != test.want {
			t.Errorf("locate(%q) = %q, want %q", test.message, got, test.want)
		}
	}
}
