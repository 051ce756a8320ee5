//go:build bigquery

package bigquery_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/sql/bigquery"
	"github.com/sluis-cdp/sluis/sql/bigquery/bigquerytest"
	"github.com/sluis-cdp/sluis/sql/warehouse"
	"github.com/sluis-cdp/sluis/sql/warehouse/warehousetest"
)

// projects returns a function that sets up one new project after the other.
func projects(t *testing.T) func(*testing.T) bigquery.Config {
	next := bigquerytest.Projects(t)
	return func(t *testing.T) bigquery.Config {
		t.Helper()
		config := next(t)
		if err := bigquery.Setup(t.Context(), config); err != nil {
			t.Fatal(err)
		}
		return config
	}
}

func TestDriver(t *testing.T) {
	newProject := projects(t)
	warehousetest.Run(t, func(t *testing.T) warehouse.Driver {
		d, err := bigquery.Open(t.Context(), newProject(t))
		if err != nil {
			t.Fatal(err)
		}
		return d
	})
}

func TestValues(t *testing.T) {
	d, err := bigquery.Open(t.Context(), projects(t)(t))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	tests := []struct {
		expression string
		want       any
	}{
		{"CAST('1.50' AS NUMERIC)", "1.5"},
		{"CAST('-12' AS NUMERIC)", "-12"},
		{"TIMESTAMP '2026-11-23 10:00:00+02'", time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)},
		{"DATE '2026-11-23'", time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)},
		{"DATETIME '2026-11-23 01:02:03'", time.Date(2026, 11, 23, 1, 2, 3, 0, time.UTC)},
		{"FROM_HEX('78ff')", []byte("x\xff")},
		{"STRUCT(1 AS a, [true] AS b)", map[string]any{"a": int64(1), "b": []any{true}}},
		{"[STRUCT('x' AS k)]", []any{map[string]any{"k": "x"}}},
		{"CAST(NULL AS STRING)", nil},
	}
	for _, test := range tests {
		rows, err := warehouse.Collect(t.Context(), d, "SELECT "+test.expression+" AS v")
		if diff := cmp.Diff([][]any{{test.want}}, rows); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got)\n%s", test.expression, err, diff)
		}
	}
}

// Setup can be repeated, adds what is missing, and loses nothing. One column is
// missing here: the emulator refuses an ALTER TABLE that adds several, which
// GoogleSQL allows; TestMissingColumns has that.
func TestSetupAddsColumns(t *testing.T) {
	config := projects(t)(t)
	d, err := bigquery.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, statement := range []string{
		"DROP TABLE sluis.erasures",
		"CREATE TABLE sluis.erasures (of_a_later_version STRING, spool_offset INT64, spool_id STRING, scope STRING, erased_at TIMESTAMP, token STRING, key_id STRING, ciphertext BYTES)",
		"INSERT INTO sluis.erasures (token) VALUES ('p')",
	} {
		if err := d.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := bigquery.Setup(t.Context(), config); err != nil {
			t.Fatal(err)
		}
	}
	rows, err := warehouse.Collect(t.Context(), d, "SELECT token, request_id, erased_at, ciphertext, spool_offset FROM sluis.erasures")
	if diff := cmp.Diff([][]any{{"p", nil, nil, nil, nil}}, rows); diff != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}

	for _, statement := range []string{"DROP TABLE sluis.erasures", "CREATE TABLE sluis.erasures (token INT64)"} {
		if err := d.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	if err := bigquery.Setup(t.Context(), config); err == nil || !strings.Contains(err.Error(), "token is of type INT64, not STRING") {
		t.Errorf("a column of another type: %v", err)
	}
	config.Location = "US"
	if err := bigquery.Setup(t.Context(), config); err == nil || !strings.Contains(err.Error(), "it is in EU, not in US") {
		t.Errorf("another location: %v", err)
	}
}

// TestLargeResult reads a large result complete and in order: from a read
// session, or page by page where none can be had, for want of the right to make
// one or because the emulator, unlike BigQuery, offers results of queries by the
// Storage Read API only in part.
func TestLargeResult(t *testing.T) {
	d, err := bigquery.Open(t.Context(), projects(t)(t))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	rows, err := d.Query(t.Context(), "SELECT n, CAST(n AS STRING) AS s, [n] AS l, STRUCT(n AS a) AS r FROM UNNEST(GENERATE_ARRAY(1, 60000)) AS n ORDER BY n")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	n := int64(0)
	for rows.Next() {
		n++
		want := []any{n, fmt.Sprint(n), []any{n}, map[string]any{"a": n}}
		if diff := cmp.Diff(want, rows.Row()); diff != "" {
			t.Fatalf("row %d: (-want +got)\n%s", n, diff)
		}
	}
	if n != 60000 || rows.Err() != nil {
		t.Errorf("%d rows, %v", n, rows.Err())
	}
}
