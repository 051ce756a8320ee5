package duckdb_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/sql/duckdb"
	"github.com/sluis-cdp/sluis/sql/warehouse"
	"github.com/sluis-cdp/sluis/sql/warehouse/warehousetest"
)

func open(t *testing.T, config duckdb.Config) warehouse.Driver {
	t.Helper()
	d, err := duckdb.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDriver(t *testing.T) {
	warehousetest.Run(t, func(t *testing.T) warehouse.Driver {
		dir := t.TempDir()
		return open(t, duckdb.Config{Path: filepath.Join(dir, "data", "warehouse.duckdb"), Landing: filepath.Join(dir, "landed")})
	})
}

func TestOpenWaitsAndTellsForWhom(t *testing.T) {
	path := filepath.Join(t.TempDir(), "w.duckdb")
	first := open(t, duckdb.Config{Path: path, Holder: "sluis models run"})

	ctx, cancel := context.WithCancel(t.Context())
	var told string
	_, err := duckdb.Open(ctx, duckdb.Config{Path: path, OnWait: func(holder string) { told = holder; cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Open while another has it: %v, want Canceled", err)
	}
	if !strings.HasPrefix(told, "sluis models run (process ") {
		t.Errorf("waited for %q", told)
	}

	waiting, opened := make(chan struct{}), make(chan error)
	go func() {
		d, err := duckdb.Open(t.Context(), duckdb.Config{Path: path, OnWait: func(string) { close(waiting) }})
		if err == nil {
			err = d.Close()
		}
		opened <- err
	}()
	<-waiting
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-opened; err != nil {
		t.Errorf("Open after the other closed: %v", err)
	}
}

// A failed Open must not keep others out.
func TestOpenReleasesAfterFailure(t *testing.T) {
	path := filepath.Join(t.TempDir(), "w.duckdb")
	if _, err := duckdb.Open(t.Context(), duckdb.Config{Path: path, MemoryLimit: "a lot"}); err == nil {
		t.Fatal("a memory limit that is none was accepted")
	}
	if err := open(t, duckdb.Config{Path: path, MemoryLimit: "1GB", Threads: 1}).Close(); err != nil {
		t.Error(err)
	}
}

func TestOpenRefusesPath(t *testing.T) {
	for _, path := range []string{"", "w.duckdb?access_mode=read_only", "100%.duckdb"} {
		if _, err := duckdb.Open(t.Context(), duckdb.Config{Path: path}); err == nil {
			t.Errorf("Open(%q) succeeded", path)
		}
	}
}

func TestNothingOutsideIsReachable(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret.csv")
	if err := os.WriteFile(secret, []byte("a\n1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := open(t, duckdb.Config{Path: filepath.Join(dir, "w.duckdb"), Landing: filepath.Join(dir, "landed")})
	defer d.Close()
	for _, query := range []string{
		"SELECT * FROM read_csv('" + secret + "')",
		"SELECT * FROM read_text('" + dir + "/landed/../secret.csv')",
		"SELECT * FROM '" + secret + "'",
		"SELECT * FROM glob('" + dir + "/*')",
		"COPY (SELECT 1) TO '" + dir + "/out.csv'",
		"ATTACH '" + dir + "/other.duckdb' AS other",
		"INSTALL httpfs",
		"LOAD httpfs",
		"SET enable_external_access = true",
		"SET allowed_directories = ['/']",
		"SET lock_configuration = false",
		"SET TimeZone = 'Asia/Tokyo'",
		"RESET ALL",
	} {
		rows, err := d.Query(t.Context(), query)
		if err != nil {
			continue
		}
		if rows.Next() {
			t.Errorf("%s: succeeded", query)
		}
		rows.Close()
		if !strings.HasPrefix(query, "SELECT") {
			t.Errorf("%s: succeeded", query)
		}
	}
	for _, file := range []string{"out.csv", "other.duckdb"} {
		if _, err := os.Stat(filepath.Join(dir, file)); err == nil {
			t.Errorf("%s was written", file)
		}
	}
}

func TestValues(t *testing.T) {
	d := open(t, duckdb.Config{Path: filepath.Join(t.TempDir(), "w.duckdb")})
	defer d.Close()
	tests := []struct {
		expression string
		want       any
	}{
		{"1::HUGEINT", int64(1)},
		{"170141183460469231731687303715884105727::HUGEINT", "170141183460469231731687303715884105727"},
		{"18446744073709551615::UBIGINT", "18446744073709551615"},
		{"7::TINYINT", int64(7)},
		{"1.5::FLOAT", 1.5},
		{"1.50::DECIMAL(10, 2)", "1.50"},
		{"-0.05::DECIMAL(38, 2)", "-0.05"},
		{"'0190a1b2-0000-7000-8000-000000000001'::UUID", "0190a1b2-0000-7000-8000-000000000001"},
		{`'{"z": 1.10, "a": [12345678901234567890]}'::JSON`, `{"z": 1.10, "a": [12345678901234567890]}`},
		{"NULL::JSON", nil},
		{"TIMESTAMPTZ '2026-11-23 10:00:00+02'", time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)},
		{"DATE '2026-11-23'", time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)},
		{"12::DECIMAL(10, 0)", "12"},
		{"'x'::BLOB", []byte("x")},
		{"[1::HUGEINT, NULL]", []any{int64(1), nil}},
		{"{'a': 1::SMALLINT, 'b': [true]}", map[string]any{"a": int64(1), "b": []any{true}}},
		{"'b'::ENUM('a', 'b')", "b"},
		{"MAP {'a': 1}", `{"a":1}`},
	}
	for _, test := range tests {
		rows, err := warehouse.Collect(t.Context(), d, "SELECT "+test.expression+" AS v, v")
		if err != nil {
			t.Errorf("%s: %v", test.expression, err)
			continue
		}
		if diff := cmp.Diff([][]any{{test.want, test.want}}, rows); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", test.expression, diff)
		}
	}
}

// The cast that keeps JSON as text must not lose the order or the names.
func TestJSONKeepsOrder(t *testing.T) {
	d := open(t, duckdb.Config{Path: filepath.Join(t.TempDir(), "w.duckdb")})
	defer d.Close()
	rows, err := d.Query(t.Context(), `SELECT i, to_json(i) AS "j ""q""", i AS i FROM range(?) t(i) ORDER BY hash(i);`, 5000)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	if diff := cmp.Diff([]string{"i", `j "q"`, "i"}, rows.Columns()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	want := query(t, d, "SELECT i FROM range(5000) t(i) ORDER BY hash(i)")
	n := 0
	for ; rows.Next(); n++ {
		if rows.Row()[0] != want[n][0] || rows.Row()[1] != fmt.Sprint(want[n][0]) {
			t.Fatalf("row %d is %v, want %v", n, rows.Row(), want[n])
		}
	}
	if n != 5000 || rows.Err() != nil {
		t.Errorf("%d rows, %v", n, rows.Err())
	}
}

// Where the cast cannot be added, JSON is text all the same.
func TestJSONWithoutCast(t *testing.T) {
	d := open(t, duckdb.Config{Path: filepath.Join(t.TempDir(), "w.duckdb")})
	defer d.Close()
	got := query(t, d, `SELECT '{"a": [1, "x"]}'::JSON AS j; -- the end`)
	if diff := cmp.Diff([][]any{{`{"a":[1,"x"]}`}}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// A query larger than the memory it may use goes to disk, beside the database.
func TestSpillsToDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "w.duckdb")
	d := open(t, duckdb.Config{Path: path, MemoryLimit: "60MB", Threads: 1})
	defer d.Close()
	if err := d.Exec(t.Context(), "CREATE TABLE big AS SELECT md5(CAST(i AS VARCHAR)) AS k, i FROM range(1500000) t(i)"); err != nil {
		t.Fatal(err)
	}
	got := query(t, d, "SELECT count(*), max(n) FROM (SELECT k, row_number() OVER (ORDER BY k, i) AS n FROM big)")
	if diff := cmp.Diff([][]any{{int64(1500000), int64(1500000)}}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if _, err := os.Stat(path + ".tmp"); err != nil {
		t.Errorf("nothing was written beside the database: %v", err)
	}
}
