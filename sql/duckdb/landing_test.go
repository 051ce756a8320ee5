package duckdb_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/sql/duckdb"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// land writes a Parquet file as the collector does. It uses a warehouse of
// its own, whose landing folder is where it writes to.
func land(t *testing.T, landing, batch, table, query string) {
	t.Helper()
	dir := filepath.Join(landing, "dt=2026-11-23", batch)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	d := open(t, duckdb.Config{Path: filepath.Join(t.TempDir(), "w.duckdb"), Landing: landing})
	defer d.Close()
	file := strings.ReplaceAll(filepath.Join(dir, table+".parquet"), "'", "''")
	if err := d.Exec(t.Context(), "COPY ("+query+") TO '"+file+"' (FORMAT parquet)"); err != nil {
		t.Fatal(err)
	}
}

func batch(spool string, first, last int) string {
	return fmt.Sprintf("%s-%020d-%020d", spool, first, last)
}

func query(t *testing.T, d warehouse.Driver, query string) [][]any {
	t.Helper()
	rows, err := warehouse.Collect(t.Context(), d, query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return rows
}

func TestLandingReadsWholeBatchesOnce(t *testing.T) {
	landing := filepath.Join(t.TempDir(), "it's [a] *landing*")
	land(t, landing, batch("s-1", 0, 10), "events", "SELECT 'contained' AS event_id")
	land(t, landing, batch("s-1", 10, 20), "events", "SELECT 'contained too' AS event_id")
	land(t, landing, batch("s-1", 0, 20), "events", "SELECT 'compacted' AS event_id")
	land(t, landing, batch("s-1", 20, 30), "events", "SELECT 'next' AS event_id")
	land(t, landing, batch("s-2", 0, 10), "events", "SELECT 'other spool' AS event_id")
	land(t, landing, batch("s-2", 10, 20), "ledger", "SELECT 3 AS n")
	land(t, landing, "_"+batch("s-3", 0, 10), "events", "SELECT 'being written' AS event_id")
	land(t, landing, "."+batch("s-3", 0, 10), "events", "SELECT 'hidden' AS event_id")
	land(t, landing, "notes", "events", "SELECT 'not a batch' AS event_id")

	d := open(t, duckdb.Config{Path: filepath.Join(t.TempDir(), "w.duckdb"), Landing: landing})
	defer d.Close()
	want := [][]any{{"compacted"}, {"next"}, {"other spool"}}
	if diff := cmp.Diff(want, query(t, d, "SELECT event_id FROM sluis.events ORDER BY 1")); diff != "" {
		t.Errorf("events: (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff([][]any{{int64(3)}}, query(t, d, "SELECT n FROM sluis.ledger")); diff != "" {
		t.Errorf("ledger: (-want +got)\n%s", diff)
	}
	if got := query(t, d, "SELECT * FROM sluis.vault"); got != nil {
		t.Errorf("vault: %v", got)
	}
}

func TestLandingRefusesOverlap(t *testing.T) {
	landing := t.TempDir()
	land(t, landing, batch("s", 0, 10), "events", "SELECT 'a' AS event_id")
	if err := os.MkdirAll(filepath.Join(landing, "dt=2026-11-24", batch("s", 5, 15)), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := duckdb.Open(t.Context(), duckdb.Config{Path: filepath.Join(t.TempDir(), "w.duckdb"), Landing: landing})
	if err == nil || !strings.Contains(err.Error(), "overlap") {
		t.Errorf("Open: %v", err)
	}
}

// One file must not change what the columns of all others are.
func TestLandingKeepsItsTypes(t *testing.T) {
	landing := t.TempDir()
	land(t, landing, batch("s", 0, 10), "events", `SELECT 'a' AS event_id, '{"big": 12345678901234567890}' AS properties,
		TIMESTAMPTZ '2026-11-23 10:00:00+02' AS received_at, ['marketing'] AS purposes, [{'kind': 'email', 'pseudonym': 'e1'}] AS identifiers, 1::BIGINT AS spool_offset`)
	land(t, landing, batch("s", 10, 20), "events", `SELECT 'b' AS event_id, 2::INTEGER AS spool_offset, 1 AS of_a_later_version, '7' AS utm_source, true AS is_bot`)
	land(t, landing, batch("s", 20, 30), "events", `SELECT 3 AS event_id, '3' AS spool_offset, 7 AS utm_source`)

	d := open(t, duckdb.Config{Path: filepath.Join(t.TempDir(), "w.duckdb"), Landing: landing})
	defer d.Close()
	columns, err := d.Columns(t.Context(), warehouse.SchemaLanding, "events")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(warehouse.Landing()[0].Columns, columns); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	want := [][]any{
		{"3", int64(3), "7", nil, nil, nil, nil},
		{"a", int64(1), nil, `{"big": 12345678901234567890}`, "2026-11-23 08:00:00+00", []any{"marketing"}, []any{map[string]any{"kind": "email", "pseudonym": "e1"}}},
		{"b", int64(2), "7", nil, nil, nil, nil},
	}
	got := query(t, d, `SELECT event_id, spool_offset, utm_source, properties, CAST(received_at AS VARCHAR), purposes, identifiers FROM sluis.events ORDER BY 1`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// The version of what landed changes when a batch comes, goes, or has a file
// replaced, and only then; each opening has its own.
func TestLandingVersion(t *testing.T) {
	landing := t.TempDir()
	version := func() string {
		t.Helper()
		d := open(t, duckdb.Config{Path: filepath.Join(t.TempDir(), "w.duckdb"), Landing: landing})
		defer d.Close()
		v, err := d.(warehouse.Versioner).LandingVersion(t.Context())
		if err != nil || v == "" {
			t.Fatalf("version %q, %v", v, err)
		}
		return v
	}
	seen := map[string]string{}
	for _, step := range []struct {
		what string
		do   func()
	}{
		{"empty", func() {}},
		{"a batch", func() { land(t, landing, batch("s", 0, 10), "events", "SELECT 'a' AS event_id") }},
		{"another", func() { land(t, landing, batch("s", 10, 20), "events", "SELECT 'b' AS event_id") }},
		{"another table", func() { land(t, landing, batch("s", 10, 20), "vault", "SELECT 'b' AS token") }},
		{"a file replaced by one of its size", func() { land(t, landing, batch("s", 10, 20), "events", "SELECT 'c' AS event_id") }},
		{"a compaction", func() { land(t, landing, batch("s", 0, 20), "events", "SELECT 'd' AS event_id") }},
		{"a batch gone", func() {
			if err := os.RemoveAll(filepath.Join(landing, "dt=2026-11-23", batch("s", 0, 20))); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		step.do()
		v := version()
		if before, ok := seen[v]; ok && step.what != "a batch gone" {
			t.Errorf("%s: the version is that of %s", step.what, before)
		}
		seen[v] = step.what
		if version() != v {
			t.Errorf("%s: another version although nothing changed", step.what)
		}
	}
	if len(seen) != 6 {
		t.Errorf("%d versions: once a compaction is gone, all is as before it", len(seen))
	}
}

// What lands later is there at the next opening, with the models' tables.
func TestLandingAtEachOpen(t *testing.T) {
	landing, path := t.TempDir(), filepath.Join(t.TempDir(), "w.duckdb")
	land(t, landing, batch("s", 0, 10), "events", "SELECT 'a' AS event_id")
	d := open(t, duckdb.Config{Path: path, Landing: landing})
	if err := d.Exec(t.Context(), "CREATE TABLE kept AS SELECT event_id FROM events"); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	land(t, landing, batch("s", 10, 20), "events", "SELECT 'b' AS event_id")
	d = open(t, duckdb.Config{Path: path, Landing: landing})
	defer d.Close()
	if diff := cmp.Diff([][]any{{int64(2), int64(1)}}, query(t, d, "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM sluis_models.kept)")); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
