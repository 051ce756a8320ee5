package main

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// TestProve runs the command as it is, on a workspace of its own.
func TestProve(t *testing.T) {
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), []string{"sluis", "prove", "--json"}, &stdout, &stderr)
	var r proveReport
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		t.Fatalf("exit %d: %v\n%s", code, err, stderr.String())
	}
	if code != exitDone || !r.Holds {
		t.Errorf("exit %d: %v", code, r.Problems)
	}
	if r.Canaries < 1000 || len(r.Places) < 20 {
		t.Errorf("%d canaries, %d places", r.Canaries, len(r.Places))
	}
	for _, d := range r.Destinations {
		if d.Expected == 0 || d.Arrived != d.Expected {
			t.Errorf("%s: %d of %d", d.Name, d.Arrived, d.Expected)
		}
	}
	for _, status := range []string{"200", "400", "401", "403", "404", "405"} {
		if r.Answers[status] == 0 {
			t.Errorf("no request was answered %s: %v", status, r.Answers)
		}
	}
	for _, p := range r.Places {
		empty := []string{"temporary files", "other files", "other tables of the warehouse"}
		if p.Bytes == 0 && !slices.Contains(empty, p.Name) {
			t.Errorf("%s: nothing was searched", p.Name)
		}
	}
}

// views are models that show landing tables as they are, and so what is planted there.
var views = map[string]string{
	"leak in quarantine":           "sluis_models.plan_violations",
	"leak in other landing tables": "sluis_models.stg_consent",
}

// TestProveFindsLeaks plants a value in each place, each in another form, and
// sees each found there and nowhere else.
func TestProveFindsLeaks(t *testing.T) {
	planted := make(map[string]string) // place: where the canary was sent
	p := &proof{stderr: t.Output()}
	p.plant = func(p *proof) error { return plantEverywhere(p, planted) }
	r, err := p.run(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	if r.Holds {
		t.Error("it says that it holds")
	}
	for _, place := range r.Places {
		where, ok := planted[place.Name]
		delete(planted, place.Name)
		if !ok {
			t.Errorf("%s: nothing was planted there", place.Name)
		}
		if !slices.ContainsFunc(place.Hits, func(h proveHit) bool { return h.Where == where }) {
			t.Errorf("%s: what was planted is not found: %+v", place.Name, place.Hits)
		}
		for _, h := range place.Hits {
			if view, ok := views[h.Where]; ok && strings.HasPrefix(h.At, view+",") {
				continue
			}
			if h.Where != where && !strings.HasPrefix(place.Name, "landed Parquet") && place.Name != "file of the warehouse" { // which hold the tables
				t.Errorf("%s: the leak of another place is found, %+v", place.Name, h)
			}
		}
	}
	for _, d := range r.Destinations {
		if len(d.Others) != 1 || d.Others[0].Where != planted[d.Name] {
			t.Errorf("%s: %+v", d.Name, d.Others)
		}
		delete(planted, d.Name)
	}
	if len(planted) > 0 {
		t.Errorf("not looked at: %v", planted)
	}
	var out bytes.Buffer
	if r.print(&out); strings.Contains(out.String(), "@mail.example") {
		t.Error("the report tells a value")
	}
}

// plantEverywhere leaks a value of its own in each place.
func plantEverywhere(p *proof, planted map[string]string) error {
	forms := []func(string) string{
		func(v string) string { return v },
		strings.ToUpper,
		url.QueryEscape,
		func(v string) string { return base64.StdEncoding.EncodeToString([]byte("xy" + v)) },
		func(v string) string { return hex.EncodeToString([]byte(v)) },
		func(v string) string { sum := md5.Sum([]byte(v)); return hex.EncodeToString(sum[:]) },
		func(v string) string { return strings.Replace(v, "@", `\u0040`, 1) },
	}
	leak := func(place string) string {
		planted[place] = "leak in " + place
		return forms[len(planted)%len(forms)](p.set.Email(planted[place], -1))
	}
	var errs []error
	for _, place := range provePlaces {
		for _, prefix := range place.path[:min(1, len(place.path))] {
			path := filepath.Join(p.root, prefix)
			if strings.HasSuffix(prefix, "/") || prefix == "" || prefix == "command-" {
				path = filepath.Join(p.root, prefix+"leak")
			}
			if prefix == "w/data/warehouse.duckdb" {
				path += ".leak"
			}
			errs = append(errs, appendTo(path, "before "+leak(place.name)+" after"))
		}
	}
	p.receiver.body = append(p.receiver.body, p.set.Email("leak in webhook", -1)...)
	planted["webhook"] = "leak in webhook"
	errs = append(errs, appendTo(filepath.Join(p.root, "exports", "leak"), p.set.Email("leak in file", -1)))
	planted["file"] = "leak in file"
	return errors.Join(append(errs, plantTables(p, leak))...)
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// plantTables leaks into the tables: into what landed by files that stand behind
// those of the collector.
func plantTables(p *proof, leak func(string) string) (err error) {
	ctx := context.Background()
	db, err := openWarehouse(ctx, p.w, "test", p.stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	folders, err := filepath.Glob(filepath.Join(p.w.Landing(), "dt=*", "*-*-*"))
	if err != nil || len(folders) == 0 {
		return fmt.Errorf("no landed folders: %w", err)
	}
	day := filepath.Dir(folders[0])
	for i, table := range []struct{ place, name, column string }{
		{"table of events", "events", "page_title"}, {"quarantine", "quarantine", "path"}, {"ledger", "ledger", "reason"}, {"other landing tables", "consents", "signal"},
	} {
		folder := filepath.Join(day, fmt.Sprintf("planted%09d-%020d-%020d", i, 1, 2))
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
		query := fmt.Sprintf("copy (select * replace ('%s' as %s) from sluis.%s limit 1) to '%s' (format parquet)",
			leak(table.place), table.column, table.name, filepath.Join(folder, table.name+".parquet"))
		if err := db.Exec(ctx, query); err != nil {
			return fmt.Errorf("planting in %s: %w", table.name, err)
		}
	}
	planted := leak("landed Parquet, decoded")
	alone := filepath.Join(p.w.Landing(), "elsewhere.parquet") // of no table
	for _, statement := range []string{
		"copy (select '" + planted + "' as note) to '" + alone + "' (format parquet)",
		"create table " + warehouse.SchemaModels + ".leak as select [{'a': '" + leak("models") + "'}] as nested",
		"create table " + warehouse.SchemaSync + ".leak as select '" + leak("state of the syncs") + "'::blob as note",
		"create schema elsewhere",
		"create table elsewhere.leak as select '" + leak("other tables of the warehouse") + "' as note",
	} {
		if err := db.Exec(ctx, statement); err != nil {
			return fmt.Errorf("planting: %w", err)
		}
	}
	return nil
}

// TestProveOfNothing: where nothing came, nothing is proven.
func TestProveOfNothing(t *testing.T) {
	p := &proof{traffic: &proveTraffic{markers: []string{"markerthatnobodyfinds"}}, deliveries: []*proveDelivery{{Name: "webhook"}}}
	p.search = newProveSearch(nil, p.traffic.markers)
	r := p.report()
	if r.Holds {
		t.Error("it says that it holds")
	}
	for _, problem := range []string{"spool: nothing that was sent is there", "live tail: nothing that was sent is there", "webhook: 0 of 0 values arrived"} {
		if !slices.ContainsFunc(r.Problems, func(p string) bool { return strings.HasPrefix(p, problem) }) {
			t.Errorf("no problem %q in %q", problem, r.Problems)
		}
	}
}

// TestProveConfiguration: of somebody's configuration a copy is tried, with other
// keys and without the data, the syncs and the warehouse; the original is as it
// was.
func TestProveConfiguration(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "mine")
	if _, err := initWorkspace(dir, initOptions{Name: "mine", Project: "my-project", Location: "EU"}); err != nil {
		t.Fatal(err)
	}
	elsewhere := t.TempDir()
	if err := replace(filepath.Join(dir, workspace.File), "\ndata: data\n", "\ndata: "+elsewhere+"\n"); err != nil {
		t.Fatal(err)
	}
	mine, err := workspace.Open(dir)
	if err != nil || mine.Data != elsewhere {
		t.Fatal(err)
	}
	if err := errors.Join(os.MkdirAll(mine.SpoolDir(), 0o700), os.WriteFile(filepath.Join(mine.SpoolDir(), "mine"), []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	before := tree(t, dir)
	p := &proof{configuration: dir, root: t.TempDir()}
	if err := p.makeWorkspace(); err != nil {
		t.Fatal(err)
	}
	if after := tree(t, dir); !slices.Equal(before, after) {
		t.Errorf("the workspace is not as it was: %v, %v", before, after)
	}
	w := p.w
	for what, path := range map[string]string{"data": w.Path(w.Data), "keys": w.Path(w.Keys), "syncs": w.Path(w.Syncs)} {
		if !strings.HasPrefix(path, p.root) {
			t.Errorf("%s would be in %s", what, path)
		}
	}
	if w.Workspace != "mine" || w.Warehouse.BigQuery != nil || w.Listen != "127.0.0.1:0" {
		t.Errorf("%+v", w.Config)
	}
	for _, path := range []string{filepath.Join(w.SpoolDir(), "mine"), w.Path(w.Syncs)} {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", path, err)
		}
	}
	keys, err := filepath.Glob(filepath.Join(mine.Path(mine.Keys), "*"))
	if err != nil || len(keys) == 0 {
		t.Fatal(len(keys), err)
	}
	for _, key := range keys {
		a, err := os.ReadFile(key)
		if err != nil {
			continue // a folder
		}
		if b, err := os.ReadFile(filepath.Join(w.Path(w.Keys), filepath.Base(key))); err == nil && bytes.Equal(a, b) && len(a) >= 32 {
			t.Errorf("%s is the one in use", filepath.Base(key))
		}
	}
}

func tree(t *testing.T, dir string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		files = append(files, fmt.Sprintf("%s %x", path, md5.Sum(text)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
