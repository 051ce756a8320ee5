package runner_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/sluis-cdp/sluis/sql/runner"
	"github.com/sluis-cdp/sluis/sql/runner/artifact"
)

// shop is the small project that dbt was asked about.
func shop(t *testing.T) fs.FS {
	t.Helper()
	archive, err := txtar.ParseFile("testdata/selection/project.txtar")
	if err != nil {
		t.Fatal(err)
	}
	files := fstest.MapFS{}
	for _, f := range archive.Files {
		files[f.Name] = &fstest.MapFile{Data: f.Data}
	}
	return files
}

// TestSelectionIsDbts asks what dbt was asked, and wants its answers:
// .ci/dbt_selection.py wrote them.
func TestSelectionIsDbts(t *testing.T) {
	files := shop(t)
	answers, err := os.ReadFile("testdata/selection/selected.txt")
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	for question, want := range parseAnswers(string(answers)) {
		asked++
		selector, options, _ := strings.Cut(question, " | ")
		exclude, indirect := "", runner.Eager
		words := strings.Fields(options)
		for i := 0; i < len(words); i += 2 {
			switch words[i] {
			case "--exclude":
				exclude = words[i+1]
			case "--indirect-selection":
				indirect = runner.Indirect(words[i+1])
			}
		}
		got, err := load(t, runner.Options{Dir: files, Exclude: exclude, Indirect: indirect}).Select(selector)
		if _, ok := errors.AsType[*runner.SelectionError](err); ok && len(want) == 0 {
			continue // dbt only warns that nothing matches
		}
		if err != nil {
			t.Errorf("%s: %v", question, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: (-dbt +ours)\n%s", question, diff)
		}
	}
	if asked < 80 {
		t.Errorf("only %d questions were asked", asked)
	}
}

func parseAnswers(text string) map[string][]string {
	answers := map[string][]string{}
	question := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if id, ok := strings.CutPrefix(line, "  "); ok {
			answers[question] = append(answers[question], id)
		} else {
			question = line
			answers[question] = nil
		}
	}
	return answers
}

// TestManifestIsDbts compares what has to be the same in a manifest whoever
// wrote it.
func TestManifestIsDbts(t *testing.T) {
	content, err := os.ReadFile("testdata/selection/nodes.json")
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]map[string]any
	if err := json.Unmarshal(content, &want); err != nil {
		t.Fatal(err)
	}
	manifest := load(t, runner.Options{Dir: shop(t)}).Manifest(runner.Invocation{ID: "x", Dialect: "duckdb"}, time.Now())
	text, err := json.Marshal(manifest)
	if err != nil {
		t.Fatal(err)
	}
	var ours struct {
		Nodes   map[string]map[string]any `json:"nodes"`
		Sources map[string]map[string]any `json:"sources"`
	}
	if err := json.Unmarshal(text, &ours); err != nil {
		t.Fatal(err)
	}
	maps.Copy(ours.Nodes, ours.Sources)
	got := map[string]map[string]any{}
	for id, node := range ours.Nodes {
		got[id] = map[string]any{}
		for _, key := range []string{"name", "resource_type", "fqn", "original_file_path", "package_name", "description", "test_metadata", "column_name", "attached_node", "file_key_name"} {
			if value, ok := node[key]; ok && value != "" {
				got[id][key] = value
			}
		}
		if _, ok := node["description"]; ok {
			got[id]["description"] = node["description"]
		}
		got[id]["tags"] = sortedList(node["tags"])
		columns := map[string]any{}
		for name, column := range node["columns"].(map[string]any) {
			columns[name] = column.(map[string]any)["description"]
		}
		got[id]["columns"] = columns
		on, _ := node["depends_on"].(map[string]any)
		got[id]["nodes"] = sortedList(on["nodes"])
		if node["resource_type"] == "source" {
			got[id]["freshness"] = promised(node["freshness"])
			got[id]["loaded_at_field"], got[id]["loaded_at_query"] = node["loaded_at_field"], node["loaded_at_query"]
		}
		if node["resource_type"] == "model" || node["resource_type"] == "seed" {
			got[id]["checksum"] = node["checksum"]
			got[id]["materialized"] = node["config"].(map[string]any)["materialized"]
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-dbt +ours)\n%s", diff)
	}
}

// promised leaves out bounds of freshness that are none.
func promised(freshness any) any {
	promise, _ := freshness.(map[string]any)
	maps.DeleteFunc(promise, func(_ string, age any) bool {
		bound, ok := age.(map[string]any)
		return ok && bound["count"] == nil
	})
	if promise["warn_after"] == nil && promise["error_after"] == nil {
		return nil
	}
	return promise
}

func sortedList(value any) []any {
	list, _ := value.([]any)
	sorted := append([]any{}, list...)
	slices.SortFunc(sorted, func(a, b any) int { return strings.Compare(a.(string), b.(string)) })
	return sorted
}

func TestSelectionRefuses(t *testing.T) {
	p := load(t, runner.Options{Dir: shop(t)})
	for selector, want := range map[string]string{
		"visit":               "nothing matches",
		"tag:nope":            "nothing matches",
		"visits nope":         `select "nope": nothing matches`,
		"tags:nightly":        `unknown method "tags": use access, config, file, fqn`,
		"+":                   "there is no name in it",
		"tag:":                "there is no name in it",
		"visits,":             "there is no name in it",
		"@visits+":            "leave out the + after it",
		"config:view":         "say which config",
		"resource_type:macro": "it may be model, seed, test, unit_test, source",
		"test_type:odd":       "generic, singular, data or unit",
		"source:a.b.c.d":      "source:NAME.TABLE",
		"state:modified":      "name its folder with --state",
		"result:error":        "name their folder with --state",
	} {
		_, err := p.List(selector)
		if _, ok := errors.AsType[*runner.SelectionError](err); !ok || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", selector, err, want)
		}
	}
}

// TestSelectionByState changes one thing at a time and looks what is selected.
func TestSelectionByState(t *testing.T) {
	before := t.TempDir()
	old := load(t, runner.Options{Dir: shop(t)})
	if err := artifact.Write(before, artifact.ManifestFile, old.Manifest(runner.Invocation{Dialect: "duckdb"}, time.Now())); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, file, from, to, selector string
		want                           []string
	}{
		{"nothing", "dbt_project.yml", "", "", "state:modified", nil},
		{"a body", "models/marts/visits.sql", "select *", "select event_id", "state:modified.body", []string{"model.shop.visits"}},
		{"a layout", "models/marts/visits.sql", "select *", "select\n  *", "state:modified", nil},
		{"a config in YAML", "models/staging/_staging.yml", "steps: 3", "steps: 4", "state:modified.configs", []string{"model.shop.stg_orders"}},
		{"a folder's config", "dbt_project.yml", "+tags: [finance]", "+tags: [money]", "state:modified", []string{
			"model.shop.a_model_with_a_name_that_is_so_long_that_tests_of_it_are_shortened", "model.shop.revenue",
		}},
		{"a seed", "seeds/currencies.csv", "usd,2", "usd,3", "state:modified", []string{"seed.shop.currencies"}},
		{"an unused macro", "macros/other.sql", "", "{% macro other() %}1{% endmacro %}", "state:modified", nil},
		{"a description", "models/staging/_staging.yml", "Events.", "All events.", "state:modified", nil},
		{"a new model", "models/fresh.sql", "", "select 1 as i", "state:new", []string{"model.shop.fresh"}},
		{"a new model is modified", "models/fresh.sql", "", "select 1 as i", "state:modified", []string{"model.shop.fresh"}},
		{"a model and what reads it", "models/overview.sql", "1 as n", "2 as n", "state:modified+,resource_type:model", []string{"model.shop.overview"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			files := shop(t).(fstest.MapFS)
			text := ""
			if f, ok := files[test.file]; ok {
				text = string(f.Data)
				if !strings.Contains(text, test.from) {
					t.Fatalf("%s has no %q", test.file, test.from)
				}
			}
			files[test.file] = &fstest.MapFile{Data: []byte(strings.Replace(text, test.from, test.to, 1))}
			state, err := runner.ReadState(before)
			if err != nil {
				t.Fatal(err)
			}
			got, err := load(t, runner.Options{Dir: files, State: state, Indirect: runner.Empty}).Select(test.selector)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("%s: (-want +got)\n%s", test.selector, diff)
			}
		})
	}
}

// A macro that was changed is a change of all that call it, through others and
// by the dialect.
func TestSelectionByStateOfMacros(t *testing.T) {
	const text = `
-- models/direct.sql --
select {{ day() }} as i
-- models/other.sql --
select 1 as i
-- macros/m.sql --
{% macro day() %}{{ adapter.dispatch('moment')() }}{% endmacro %}
{% macro duckdb__moment() %}1{% endmacro %}
{% macro default__moment() %}2{% endmacro %}
`
	before := t.TempDir()
	if err := artifact.Write(before, artifact.ManifestFile, load(t, runner.Options{Dir: project(text)}).Manifest(runner.Invocation{Dialect: "duckdb"}, time.Now())); err != nil {
		t.Fatal(err)
	}
	state, err := runner.ReadState(before)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(text, "duckdb__moment() %}1", "duckdb__moment() %}3", 1)
	got, err := load(t, runner.Options{Dir: project(changed), State: state}).Select("state:modified")
	if diff := cmp.Diff([]string{"model.p.direct"}, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
}
