package file

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/plugins/destination/destinationtest"
)

var update = flag.Bool("update", false, "rewrite golden files")

func opened(t *testing.T, config map[string]string) destination.Destination {
	t.Helper()
	d := New()
	if err := d.Open(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	return d
}

func mustWrite(t *testing.T, d destination.Destination, b destination.Batch) []destination.Result {
	t.Helper()
	results, err := d.Write(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.CheckResults(results); err != nil {
		t.Fatal(err)
	}
	return results
}

func mustClose(t *testing.T, d destination.Destination) {
	t.Helper()
	if err := d.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// tree reads all files below a directory.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		files[filepath.ToSlash(name)] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func batch(id, email string) destination.Batch {
	return destination.Batch{
		ID: id, Sync: "s", Run: "r1",
		Columns: []destination.Column{{Name: "email", Type: destination.String}},
		Changes: []destination.Change{{ID: "i", Key: "k", Op: destination.Upsert, Values: []any{email}}},
	}
}

// The whole output of a run, byte for byte; and the same after the run was
// sent again, half by a process that died and half by its successor.
func TestGolden(t *testing.T) {
	eachTarget(t, func(t *testing.T, config map[string]string, dir string) {
		first := destinationtest.Batch("b1", destination.Upsert)
		first.Changes = append(first.Changes[:7:7], first.Changes[8:]...) // without the very long text
		second := destinationtest.Batch("b2", destination.Remove)
		second.Changes = second.Changes[:2]

		died := opened(t, config)
		mustWrite(t, died, first)
		if _, ok := tree(t, dir)["run=run-1/_manifest.json"]; ok {
			t.Error("a manifest before the end of the run")
		}
		successor := opened(t, config)
		mustWrite(t, successor, first)
		mustWrite(t, successor, second)
		mustClose(t, successor)
		got := tree(t, dir)
		if config["format"] == "parquet" {
			delete(got, "run=run-1/_manifest.json") // what a version of the library writes has no bytes to hold
			got = legible(t, got)
		}

		golden := filepath.Join("testdata", config["format"])
		if *update {
			for name, content := range got {
				path := filepath.Join(golden, name)
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if diff := cmp.Diff(tree(t, golden), got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		mustClose(t, died)
	})
}

func TestManifestCountsWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	config := map[string]string{"directory": dir}
	d := opened(t, config)
	mustWrite(t, d, batch("b1", "one\nwith, \"all\"\r\n"))
	mustClose(t, d)

	// The run is taken up again: until it is closed, it has no manifest.
	d = opened(t, config)
	mustWrite(t, d, batch("b2", "two"))
	if _, ok := tree(t, dir)["run=r1/_manifest.json"]; ok {
		t.Error("the manifest of half a run")
	}
	mustClose(t, d)
	var m manifest
	if err := json.Unmarshal([]byte(tree(t, dir)["run=r1/_manifest.json"]), &m); err != nil {
		t.Fatal(err)
	}
	if m.Rows != 2 || len(m.Files) != 2 || m.Run != "r1" || m.Format != "csv" {
		t.Errorf("%+v", m)
	}
}

// A run that was killed gets its manifest when the next process names it; one that is
// not there is not made, and a manifest that is there stays until then.
func TestKilledRunIsCompleted(t *testing.T) {
	eachTarget(t, func(t *testing.T, config map[string]string, dir string) {
		name := func(run string) destination.Batch {
			b := batch("end", "")
			b.Run, b.Changes = run, nil
			return b
		}
		mustWrite(t, opened(t, config), batch("b1", "one")) // and nobody closes it
		for range 2 {
			d := opened(t, config)
			before := tree(t, dir)
			mustWrite(t, d, name("r1"))
			mustWrite(t, d, name("r2"))
			if diff := cmp.Diff(before, tree(t, dir)); diff != "" {
				t.Errorf("before it is closed (-before +after):\n%s", diff)
			}
			mustClose(t, d)
			files := tree(t, dir)
			var m manifest
			if err := json.Unmarshal([]byte(files["run=r1/_manifest.json"]), &m); err != nil || m.Rows != 1 || len(m.Files) != 1 {
				t.Errorf("%+v, %v", m, err)
			}
			if len(files) != 2 {
				t.Errorf("%d files, want a part and its manifest", len(files))
			}
		}
	})
}

func TestFormulas(t *testing.T) {
	for _, text := range []string{"=1+1", "+31612345678", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"} {
		for guard, want := range map[string]string{"": "'" + text, "false": text} {
			dir := t.TempDir()
			d := opened(t, map[string]string{"directory": dir, "guard_formulas": guard})
			b := batch("b", text)
			b.Columns[0].Name = text
			mustWrite(t, d, b)
			mustClose(t, d)
			records, err := csv.NewReader(strings.NewReader(tree(t, dir)["run=r1/part-b.csv"])).ReadAll()
			if err != nil {
				t.Fatal(err)
			}
			for _, record := range records {
				if record[3] != want {
					t.Errorf("guard %q: %q became %q", guard, text, record[3])
				}
			}
		}
	}
	// Numbers are not text: they stay numbers.
	if got := (csvFormat{guard: true}).cell(int64(-5)); got != "-5" {
		t.Errorf("-5 became %q", got)
	}
}

func TestNotJSON(t *testing.T) {
	dir := t.TempDir()
	d := opened(t, map[string]string{"directory": dir, "format": "jsonl"})
	b := destination.Batch{
		ID: "b", Sync: "s", Run: "r1",
		Columns: []destination.Column{{Name: "score", Type: destination.Float64}, {Name: "at", Type: destination.Time}},
		Changes: []destination.Change{
			{ID: "1", Key: "1", Op: destination.Upsert, Values: []any{math.NaN(), nil}},
			{ID: "2", Key: "2", Op: destination.Upsert, Values: []any{math.Inf(-1), nil}},
			{ID: "3", Key: "3", Op: destination.Upsert, Values: []any{1.0, time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC)}},
		},
	}
	results := mustWrite(t, d, b)
	for i, want := range []destination.Outcome{destination.Rejected, destination.Rejected, destination.Delivered} {
		if results[i].Outcome != want {
			t.Errorf("change %d: %+v", i, results[i])
		}
	}
	mustClose(t, d)
	want := `{"_op":"upsert","_key":"3","_id":"3","score":1,"at":"12026-01-01T00:00:00Z"}` + "\n"
	if got := tree(t, dir)["run=r1/part-b.jsonl"]; got != want {
		t.Errorf("%s", got)
	}
}

func TestOwnColumns(t *testing.T) {
	for _, name := range []string{"_op", "_key", "_id"} {
		b := batch("b", "x")
		b.Columns[0].Name = name
		if _, err := opened(t, map[string]string{"directory": t.TempDir()}).Write(t.Context(), b); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// Whatever the ids are and whatever stands in the directory, nothing outside
// it changes.
func TestStaysInside(t *testing.T) {
	for _, id := range []string{"../x", "/etc/x", "..", ".", "a/b", "a\x00b", "", strings.Repeat("x", 300), "é"} {
		parent := t.TempDir()
		dir := filepath.Join(parent, "out")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		d := opened(t, map[string]string{"directory": dir})
		b := batch(id, "x")
		b.Run = id
		mustWrite(t, d, b)
		mustClose(t, d)
		if n := len(tree(t, dir)); n != 2 {
			t.Errorf("%q: %d files inside", id, n)
		}
		if n := len(tree(t, parent)); n != 2 {
			t.Errorf("%q: %d files inside and outside", id, n)
		}
	}
	t.Run("symbolic link", func(t *testing.T) {
		dir, outside := t.TempDir(), t.TempDir()
		if err := os.Symlink(outside, filepath.Join(dir, "run=r1")); err != nil {
			t.Fatal(err)
		}
		d := opened(t, map[string]string{"directory": dir})
		if _, err := d.Write(t.Context(), batch("b", "x")); err == nil {
			t.Error("no error")
		}
		mustClose(t, d)
		if n := len(tree(t, outside)); n != 0 {
			t.Errorf("%d files outside", n)
		}
	})
}

// A write that fails leaves the part as it was.
func TestReplaceFails(t *testing.T) {
	dir := t.TempDir()
	d := opened(t, map[string]string{"directory": dir})
	mustWrite(t, d, batch("b", "x"))
	before := tree(t, dir)
	f := d.(*file)
	if err := os.Mkdir(filepath.Join(dir, "run=r1", asideName("part-b.csv")), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := f.store.replace(t.Context(), "run=r1", "part-b.csv", []byte("boom")); err == nil {
		t.Error("no error")
	}
	if diff := cmp.Diff(before, tree(t, dir)); diff != "" {
		t.Error(diff)
	}
}

// A part that is there stays: it was sent before, and somebody may have been taken
// out of it.
func TestSentAgainAfterErasure(t *testing.T) {
	eachTarget(t, func(t *testing.T, config map[string]string, dir string) {
		d := opened(t, config)
		mustWrite(t, d, batch("b", "anna@example.com"))
		gone := batch("c", "")
		gone.Changes[0] = destination.Change{ID: "x", Key: "k", Op: destination.Remove, PriorityReason: erased, Values: []any{nil}}
		mustWrite(t, d, gone)
		mustWrite(t, d, batch("b", "anna@example.com"))
		mustClose(t, d)
		files := legible(t, tree(t, dir))
		for name, content := range files {
			if strings.Contains(content, "anna@example.com") {
				t.Errorf("%s has\n%s", name, content)
			}
		}
		if len(files) != 3 {
			t.Errorf("%d files, want two parts and a manifest", len(files))
		}
	})
}

func TestOpen(t *testing.T) {
	for _, tt := range []struct{ field, value string }{
		{"directory", ""},
		{"directory", filepath.Join(t.TempDir(), "hunter2")},
		{"directory", "/dev/null"},
		{"directory", "\x00"},
		{"format", "xlsx"},
		{"guard_formulas", "no"},
		{"url", "s3://bucket"},
		{"endpoint", "https://s3.example.test"},
		{"password", "hunter2"},
	} {
		config := map[string]string{"directory": t.TempDir()}
		config[tt.field] = tt.value
		err := New().Open(context.Background(), config)
		problem, ok := errors.AsType[*destination.ConfigError](err)
		if tt.field == "url" {
			tt.field = "directory" // one of both is too many
		}
		if !ok || problem.Field != tt.field || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s %q: %v", tt.field, tt.value, err)
		}
	}
}
