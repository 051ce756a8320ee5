package runner_test

import (
	"context"
	"encoding/csv"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"go.yaml.in/yaml/v3"

	sqlproject "github.com/sluis-cdp/sluis/sql"
	"github.com/sluis-cdp/sluis/sql/duckdb"
	"github.com/sluis-cdp/sluis/sql/runner"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

const minute = "2006-01-02 15:04"

// asOf is when the models of all cases are built: windows of time end here.
const asOf = "2026-03-31 00:00:00"

// varsOfCases are what a data team would set.
var varsOfCases = map[string]any{"as_of": asOf, "own_hosts": []any{"shop.example"}, "third_party_sources": []any{"broker"}}

// TestModels builds the models from what each file of testdata/models says
// landed, and compares with the rows that it wants. A table or column that is
// not mentioned is empty or of no interest; @x is the profile that x founded.
// What is wanted of a model may be of some rows only, as in
// "want/sessions where page_views > 1.csv". Built is what is wanted, with what it
// needs; everything, if there is a file "whole".
func TestModels(t *testing.T) {
	project := load(t, runner.Options{Dir: sqlproject.Files, Vars: varsOfCases, Indirect: runner.Cautious})
	for _, c := range cases(t) {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			for table, data := range c.landed {
				w.land(table, parseLanded(t, table, data))
			}
			d := w.open()
			defer d.Close()
			selector := c.selector()
			if c.whole {
				selector = ""
			}
			c.check(t, c.project(t, project), d, selector)
		})
	}
}

// modelCase is a file of testdata/models: CSV by landing table and by model.
type modelCase struct {
	name   string
	vars   map[string]any // besides those of all cases, by vars.yml
	landed map[string][]byte
	files  map[string]string // of the project, where a team's own differ
	whole  bool              // every model is built
	wanted []txtar.File      // by model, of which some columns may be in one and others in another
}

func cases(t testing.TB) []modelCase {
	t.Helper()
	files, err := filepath.Glob("testdata/models/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	var all []modelCase
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		c := modelCase{name: strings.TrimSuffix(filepath.Base(file), ".txtar"), landed: map[string][]byte{}, files: map[string]string{}}
		for _, f := range archive.Files {
			if f.Name == "vars.yml" {
				if err := yaml.Unmarshal(f.Data, &c.vars); err != nil {
					t.Fatalf("%s: %v", file, err)
				}
			} else if model, ok := strings.CutPrefix(f.Name, "want/"); ok {
				c.wanted = append(c.wanted, txtar.File{Name: strings.TrimSuffix(model, ".csv"), Data: f.Data})
			} else if f.Name == "whole" {
				c.whole = true
			} else if strings.HasPrefix(f.Name, "seeds/") {
				c.files[f.Name] = string(f.Data)
			} else {
				c.landed[strings.TrimSuffix(f.Name, ".csv")] = f.Data
			}
		}
		all = append(all, c)
	}
	return all
}

// project is the one that the case is about: that of all, or one with files of its
// own.
func (c modelCase) project(t *testing.T, all *runner.Project) *runner.Project {
	t.Helper()
	if len(c.files) == 0 {
		return all
	}
	return load(t, runner.Options{Dir: workspace(t, c.files), Vars: varsOfCases, Indirect: runner.Cautious})
}

// selector selects the models that the case wants rows of, and what they are built from.
func (c modelCase) selector() string {
	models := []string{"+identity_map"} // for the founders
	for _, wanted := range c.wanted {
		model, _, _ := strings.Cut(wanted.Name, " ")
		models = append(models, "+"+model)
	}
	return strings.Join(models, " ")
}

// check builds the selected models in a warehouse where the case has landed.
func (c modelCase) check(t *testing.T, project *runner.Project, d warehouse.Driver, selector string) {
	if c.vars != nil {
		vars := maps.Clone(varsOfCases)
		maps.Copy(vars, c.vars)
		project = load(t, runner.Options{Dir: sqlproject.Files, Vars: vars, Indirect: runner.Cautious})
	}
	build(t, project, d, selector)
	founders := founders(t, d)
	for _, wanted := range c.wanted {
		model := wanted.Name
		header, want := parseCSV(t, wanted.Data)
		got := rowsOf(t, d, founders, "SELECT "+strings.Join(header, ", ")+" FROM sluis_models."+model)
		table, _, _ := strings.Cut(model, " ")
		plainly(t, d, table, header, got)
		slices.SortFunc(want, slices.Compare)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (%s): (-want +got)\n%s", model, strings.Join(header, ", "), diff)
		}
	}
}

// plainly writes days without a time, and decimals without the zeros at their
// ends, of which one warehouse returns as many as the type has places.
func plainly(t *testing.T, d warehouse.Driver, model string, header []string, rows [][]string) {
	t.Helper()
	columns, err := d.Columns(t.Context(), warehouse.SchemaModels, model)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range columns {
		i := slices.Index(header, c.Name)
		if i < 0 {
			continue
		}
		for _, row := range rows {
			switch {
			case c.Type == "DATE":
				row[i], _, _ = strings.Cut(row[i], " ")
			case c.Type == "NUMERIC" && strings.Contains(row[i], "."):
				row[i] = strings.TrimRight(strings.TrimRight(row[i], "0"), ".")
			}
		}
	}
	slices.SortFunc(rows, slices.Compare)
}

func load(t testing.TB, options runner.Options) *runner.Project {
	t.Helper()
	p, err := runner.Load(options)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// build runs and tests a project, all of which must succeed.
func build(t testing.TB, p *runner.Project, d warehouse.Driver, selector string) {
	t.Helper()
	for _, step := range []func(context.Context, warehouse.Driver, string) (runner.Results, error){p.Run, p.Test} {
		results, err := step(t.Context(), d, selector)
		if err != nil {
			t.Fatal(err)
		}
		if err := results.Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// world is a folder with what landed and a warehouse.
type world struct {
	t       testing.TB
	dir     string
	batches int
}

func newWorld(t testing.TB) *world { return &world{t: t, dir: t.TempDir()} }

func (w *world) landing() string { return filepath.Join(w.dir, "landed") }

func (w *world) open() warehouse.Driver {
	w.t.Helper()
	d, err := duckdb.Open(w.t.Context(), duckdb.Config{Path: filepath.Join(w.dir, "warehouse.duckdb"), Landing: w.landing()})
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

// land writes rows as a Parquet file of one batch.
func (w *world) land(table string, rows []map[string]any) {
	w.t.Helper()
	definition := landingTable(w.t, table)
	names, values := tableOf(definition, rows)
	var types []string
	for _, c := range definition.Columns {
		types = append(types, c.Name+" "+c.Type.In("duckdb"))
	}
	dir := filepath.Join(w.landing(), "dt=2026-03-01", fmt.Sprintf("spool-%020d-%020d", w.batches, w.batches+1))
	w.batches++
	if err := os.MkdirAll(dir, 0o750); err != nil {
		w.t.Fatal(err)
	}
	scratch, err := duckdb.Open(w.t.Context(), duckdb.Config{Path: filepath.Join(w.t.TempDir(), "scratch.duckdb"), Landing: w.landing()})
	if err != nil {
		w.t.Fatal(err)
	}
	defer scratch.Close()
	ctx := w.t.Context()
	for _, step := range []func() error{
		func() error {
			return scratch.Exec(ctx, "CREATE TABLE sluis_models.landed ("+strings.Join(types, ", ")+")")
		},
		func() error { return scratch.Append(ctx, "sluis_models", "landed", names, values) },
		func() error {
			return scratch.Exec(ctx, "COPY sluis_models.landed TO '"+filepath.Join(dir, table+".parquet")+"' (FORMAT parquet)")
		},
	} {
		if err := step(); err != nil {
			w.t.Fatalf("land %s: %v", table, err)
		}
	}
}

// tableOf gives rows the order of a table's columns.
func tableOf(definition warehouse.Table, rows []map[string]any) (names []string, values [][]any) {
	for _, c := range definition.Columns {
		names = append(names, c.Name)
	}
	values = make([][]any, len(rows))
	for i, row := range rows {
		for _, name := range names {
			values[i] = append(values[i], row[name])
		}
	}
	return names, values
}

func landingTable(t testing.TB, name string) warehouse.Table {
	t.Helper()
	for _, table := range warehouse.Landing() {
		if table.Name == name {
			return table
		}
	}
	t.Fatalf("there is no landing table %q", name)
	return warehouse.Table{}
}

func parseCSV(t testing.TB, data []byte) (header []string, rows [][]string) {
	t.Helper()
	all, err := csv.NewReader(strings.NewReader(string(data))).ReadAll()
	if err != nil || len(all) == 0 {
		t.Fatalf("not CSV with a header: %v", err)
	}
	return all[0], all[1:]
}

// parseLanded reads rows of a landing table and fills in what a collector
// always knows.
func parseLanded(t testing.TB, table string, data []byte) []map[string]any {
	t.Helper()
	types := map[string]warehouse.Type{}
	for _, c := range landingTable(t, table).Columns {
		types[c.Name] = c.Type
	}
	header, records := parseCSV(t, data)
	var rows []map[string]any
	for i, record := range records {
		row := map[string]any{"spool_id": "spool", "spool_offset": i}
		for j, field := range record {
			kind, ok := types[header[j]]
			if !ok {
				t.Fatalf("%s has no column %q", table, header[j])
			}
			row[header[j]] = parseField(t, field, kind)
		}
		if table == "events" {
			completeEvent(row)
		}
		rows = append(rows, row)
	}
	return rows
}

func completeEvent(row map[string]any) {
	if row["source_id"] == nil {
		row["source_id"] = "web"
	}
	if row["type"] == nil && row["event"] == nil {
		row["type"] = "page"
	} else if row["type"] == nil {
		row["type"] = "track"
	}
	if row["received_at"] == nil {
		row["received_at"] = row["occurred_at"]
	}
}

func parseField(t testing.TB, field string, kind warehouse.Type) any {
	t.Helper()
	switch kind { //nolint:exhaustive // all others are texts
	case warehouse.Strings:
		return strings.Fields(field)
	case warehouse.Identifiers:
		identifiers := []any{}
		for word := range strings.FieldsSeq(field) {
			kind, pseudonym, _ := strings.Cut(word, ":")
			identifiers = append(identifiers, map[string]any{"kind": kind, "pseudonym": pseudonym})
		}
		return identifiers
	}
	if field == "" {
		return nil
	}
	switch kind { //nolint:exhaustive // all others are texts
	case warehouse.Timestamp:
		for _, layout := range []string{minute, time.DateTime} {
			if at, err := time.Parse(layout, field); err == nil {
				return at
			}
		}
		t.Fatalf("%q is no time", field)
	case warehouse.Bool:
		return field == "true"
	case warehouse.Int64:
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	case warehouse.Bytes:
		return []byte(field)
	}
	return field
}

// founders maps the ids of profiles to names that a reader can follow.
func founders(t testing.TB, d warehouse.Driver) map[string]string {
	t.Helper()
	rows, err := warehouse.Collect(t.Context(), d, "SELECT DISTINCT profile_id, founder_node FROM sluis_models.identity_map")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{}
	for _, row := range rows {
		names[row[0].(string)] = "@" + row[1].(string)
	}
	return names
}

// rowsOf returns a query's rows as texts, in order.
func rowsOf(t testing.TB, d warehouse.Driver, founders map[string]string, query string) [][]string {
	t.Helper()
	rows, err := warehouse.Collect(t.Context(), d, query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	texts := [][]string{}
	for _, row := range rows {
		line := make([]string, len(row))
		for i, value := range row {
			line[i] = asText(value)
			if founder, ok := founders[line[i]]; ok {
				line[i] = founder
			}
		}
		texts = append(texts, line)
	}
	slices.SortFunc(texts, slices.Compare)
	return texts
}

func asText(value any) string {
	switch v := value.(type) {
	case nil:
		return ""
	case time.Time:
		return v.Format(minute)
	case []byte:
		return string(v)
	case []any:
		var words []string
		for _, element := range v {
			words = append(words, asText(element))
		}
		return strings.Join(words, " ")
	}
	return fmt.Sprint(value)
}
