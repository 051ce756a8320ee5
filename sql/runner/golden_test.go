package runner_test

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	sqlproject "github.com/sluis-cdp/sluis/sql"
	"github.com/sluis-cdp/sluis/sql/runner"
)

var update = flag.Bool("update", false, "write the compiled SQL that tests compare with")

// TestCompiledSQL shows in review what a change of a macro does to all models,
// for both dialects.
func TestCompiledSQL(t *testing.T) {
	p := load(t, runner.Options{Dir: sqlproject.Files, Indirect: runner.Empty, Vars: map[string]any{"audiences": followed(examples...)}})
	for _, dialect := range []string{"duckdb", "bigquery"} {
		compiled, err := p.Compile(dialect, "resource_type:model")
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range compiled {
			golden(t, filepath.Join("testdata", "compiled", dialect, c.Name+".sql"), c.SQL+"\n")
		}
	}
}

// golden compares a text with a file's, or writes the file.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs; look at it, then run the test with -update: (-want +got)\n%s", file, diff)
	}
}
