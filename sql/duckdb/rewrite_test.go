package duckdb_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/sql/duckdb"
)

// What was deleted is in the file until it is rewritten; what was not stays.
func TestRewriteLeavesNothingOfWhatWasDeleted(t *testing.T) {
	landing, path := t.TempDir(), filepath.Join(t.TempDir(), "w.duckdb")
	land(t, landing, batch("s", 0, 10), "events", "SELECT 'a' AS event_id")
	config := duckdb.Config{Path: path, Landing: landing}
	const canary = "canary-0123456789abcdef"
	d := open(t, config)
	for _, statement := range []string{
		"CREATE TABLE people AS SELECT '" + canary + "' AS name, 1 AS n UNION ALL SELECT 'other', 2",
		"CREATE TABLE sluis_sync.state AS SELECT 'k' AS key",
		"CREATE VIEW v AS SELECT * FROM sluis_models.people",
		"CREATE VIEW landed AS SELECT * FROM sluis.events",
	} {
		if err := d.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = open(t, config)
	if err := d.Exec(t.Context(), "DELETE FROM people WHERE name LIKE 'canary%'"); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	holds := func() bool {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Contains(text, []byte(canary))
	}
	if !holds() {
		t.Error("what was deleted is not in the file, so this test shows nothing")
	}
	for range 2 {
		if err := duckdb.Rewrite(t.Context(), config); err != nil {
			t.Fatal(err)
		}
	}
	if holds() {
		t.Error("what was deleted is in the file")
	}
	left, err := filepath.Glob(path + "*")
	if diff := cmp.Diff([]string{path, path + ".lock"}, left); diff != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	d = open(t, config)
	defer d.Close()
	want := [][]any{{"other", int64(2), "k", "a"}}
	got := query(t, d, "SELECT v.name, v.n, s.key, e.event_id FROM v, sluis_sync.state AS s, landed AS e")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestRewriteOfNothing(t *testing.T) {
	if err := duckdb.Rewrite(t.Context(), duckdb.Config{Path: filepath.Join(t.TempDir(), "w.duckdb")}); err != nil {
		t.Error(err)
	}
}
