// Package warehousetest is the suite that every [warehouse.Driver] passes.
package warehousetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// Run checks a driver against the contract of package warehouse. open returns
// a warehouse with the schemas of package warehouse in it and no tables of
// the names that start with "wt_"; it is called once for each check, and Run
// closes what it returns.
func Run(t *testing.T, open func(t *testing.T) warehouse.Driver) {
	checks := []struct {
		name  string
		check func(*testing.T, warehouse.Driver)
	}{
		{"types", checkTypes},
		{"parameters", checkParameters},
		{"append", checkAppend},
		{"append is all or none", checkAppendAtomic},
		{"read only", checkReadOnly},
		{"columns", checkColumns},
		{"describe", checkDescribe},
		{"landing tables", checkLanding},
		{"no relation", checkNoRelation},
		{"estimates", checkEstimates},
		{"one statement", checkOneStatement},
		{"statements are atomic", checkStatementAtomic},
		{"merge", checkMerge},
		{"names", checkNames},
		{"cancellation", checkCancellation},
		{"large result", checkLargeResult},
		{"concurrency", checkConcurrency},
	}
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			d := open(t)
			t.Cleanup(func() {
				if err := d.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			})
			c.check(t, d)
		})
	}
}

const models = warehouse.SchemaModels

// everything has a column of each type.
func everything() []warehouse.Column {
	return []warehouse.Column{
		{Name: "s", Type: warehouse.String},
		{Name: "i", Type: warehouse.Int64},
		{Name: "b", Type: warehouse.Bool},
		{Name: "y", Type: warehouse.Bytes},
		{Name: "t", Type: warehouse.Timestamp},
		{Name: "j", Type: warehouse.JSON},
		{Name: "l", Type: warehouse.Strings},
		{Name: "n", Type: warehouse.Identifiers},
	}
}

func create(t *testing.T, d warehouse.Driver, table string, columns ...warehouse.Column) {
	t.Helper()
	definitions := make([]string, len(columns))
	for i, c := range columns {
		definitions[i] = c.Name + " " + c.Type.In(d.Dialect())
	}
	exec(t, d, fmt.Sprintf("CREATE TABLE %s.%s (%s)", models, table, strings.Join(definitions, ", ")))
}

func exec(t *testing.T, d warehouse.Driver, query string, args ...any) {
	t.Helper()
	if err := d.Exec(t.Context(), query, args...); err != nil {
		t.Fatalf("Exec(%s): %v", query, err)
	}
}

func wantRows(t *testing.T, d warehouse.Driver, want [][]any, query string, args ...any) {
	t.Helper()
	got, err := warehouse.Collect(t.Context(), d, query, args...)
	if err != nil {
		t.Fatalf("Query(%s): %v", query, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Query(%s): (-want +got)\n%s", query, diff)
	}
}

var instant = time.Date(2026, 11, 23, 10, 30, 0, 123456000, time.UTC)

func names(columns []warehouse.Column) []string {
	var all []string
	for _, c := range columns {
		all = append(all, c.Name)
	}
	return all
}

func checkTypes(t *testing.T, d warehouse.Driver) {
	create(t, d, "wt_types", everything()...)
	row := []any{
		"é'\"\\\x00", int64(-1 << 62), true,
		[]byte{0, 0xff},
		instant.In(time.FixedZone("", 3600)), `{"b": 12345678901234567890, "a": null}`,
		[]string{"x", "y"},
		[]any{map[string]any{"kind": "email", "pseudonym": "em1"}},
	}
	null := make([]any, len(row))
	empty := []any{"", int64(0), false, []byte{}, instant, `[]`, []string{}, []any{}}
	if err := d.Append(t.Context(), models, "wt_types", names(everything()), [][]any{row, null, empty}); err != nil {
		t.Fatal(err)
	}
	rows, err := warehouse.Collect(t.Context(), d, "SELECT * FROM "+models+".wt_types ORDER BY i")
	if err != nil {
		t.Fatal(err)
	}
	// Where NULL sorts is the dialect's affair, and how JSON is spaced, and
	// whether an array that is NULL is kept apart from an empty one.
	want := map[string][]any{
		"row":   {row[0], row[1], true, row[3], instant, `{"b":12345678901234567890,"a":null}`, []any{"x", "y"}, row[7]},
		"null":  null,
		"empty": {"", int64(0), false, []byte{}, instant, `[]`, []any{}, []any{}},
	}
	got := map[string][]any{}
	for _, row := range rows {
		if text, ok := row[5].(string); ok {
			row[5] = strings.ReplaceAll(text, " ", "")
		}
		switch row[1] {
		case nil:
			for i, value := range row {
				if list, ok := value.([]any); ok && len(list) == 0 {
					row[i] = nil
				}
			}
			got["null"] = row
		case int64(0):
			got["empty"] = row
		default:
			got["row"] = row
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	wantRows(t, d, [][]any{{int64(2), int64(-1 << 62), 1.5}},
		"SELECT count(i), sum(i), 1.5e0 FROM "+models+".wt_types")
}

func checkParameters(t *testing.T, d warehouse.Driver) {
	create(t, d, "wt_parameters", everything()...)
	args := []any{"'; DROP TABLE x --", int64(7), false, []byte("z"), instant, json.RawMessage(`{"a": 1}`), []string{"p"}}
	exec(t, d, "INSERT INTO "+models+".wt_parameters (s, i, b, y, t, j, l) VALUES (?, ?, ?, ?, ?, ?, ?)", args...)
	wantRows(t, d, [][]any{{args[0], int64(7), false, []byte("z"), instant, []any{"p"}}},
		"SELECT s, i, b, y, t, l FROM "+models+".wt_parameters WHERE s = ? AND i = ? AND t = ? AND t >= ?", args[0], 7, instant, instant)
	exec(t, d, "UPDATE "+models+".wt_parameters SET s = ?, t = ? WHERE i = ?", nil, nil, 7)
	wantRows(t, d, [][]any{{nil, nil}}, "SELECT s, t FROM "+models+".wt_parameters")
	if err := d.Exec(t.Context(), "DELETE FROM "+models+".wt_parameters WHERE i = ?"); err == nil {
		t.Error("a missing argument was accepted")
	}
}

func checkAppend(t *testing.T, d warehouse.Driver) {
	create(t, d, "wt_append", everything()...)
	rows := make([][]any, 10_000)
	for i := range rows {
		rows[i] = []any{i, fmt.Sprint(i)}
	}
	if err := d.Append(t.Context(), models, "wt_append", []string{"i", "s"}, rows); err != nil {
		t.Fatal(err)
	}
	if err := d.Append(t.Context(), models, "wt_append", []string{"i", "s"}, nil); err != nil {
		t.Errorf("no rows: %v", err)
	}
	wantRows(t, d, [][]any{{int64(10_000), int64(49_995_000), int64(0), "9999"}},
		"SELECT count(*), sum(i), count(t), max(s) FROM "+models+".wt_append")
}

func checkAppendAtomic(t *testing.T, d warehouse.Driver) {
	create(t, d, "wt_atomic", everything()...)
	many := make([][]any, 5_000)
	for i := range many {
		many[i] = []any{i, `{}`}
	}
	tests := []struct {
		name    string
		columns []string
		last    []any
	}{
		{"a value too few", []string{"i", "j"}, []any{1}},
		{"not of the type", []string{"i", "j"}, []any{"one", `{}`}},
		{"not JSON", []string{"i", "j"}, []any{1, `{`}},
		{"no such column", []string{"i", "nope"}, []any{1, `{}`}},
	}
	for _, test := range tests {
		rows := append(slices.Clip(many), test.last)
		if err := d.Append(t.Context(), models, "wt_atomic", test.columns, rows); err == nil {
			t.Errorf("%s: no error", test.name)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Append(ctx, models, "wt_atomic", []string{"i", "j"}, many); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := d.Append(t.Context(), models, "wt_nowhere", []string{"i"}, nil); !errors.Is(err, warehouse.ErrNoRelation) {
		t.Errorf("no table: %v, want ErrNoRelation", err)
	}
	wantRows(t, d, [][]any{{int64(0)}}, "SELECT count(*) FROM "+models+".wt_atomic")
}

func checkReadOnly(t *testing.T, d warehouse.Driver) {
	create(t, d, "wt_ro", warehouse.Column{Name: "i", Type: warehouse.Int64})
	exec(t, d, "INSERT INTO "+models+".wt_ro VALUES (1)")
	for _, query := range []string{
		"SELECT i FROM " + models + ".wt_ro",
		"  -- why\n SELECT i FROM " + models + ".wt_ro;",
		"/* why */ WITH x AS (SELECT i FROM " + models + ".wt_ro) SELECT * FROM x",
		"(SELECT i FROM " + models + ".wt_ro)",
	} {
		rows, err := d.ReadOnly(t.Context(), query)
		if err != nil {
			t.Errorf("ReadOnly(%q): %v", query, err)
			continue
		}
		if !rows.Next() || rows.Row()[0] != int64(1) || rows.Next() || rows.Err() != nil {
			t.Errorf("ReadOnly(%q): wrong rows: %v %v", query, rows.Row(), rows.Err())
		}
		if err := rows.Close(); err != nil {
			t.Errorf("ReadOnly(%q): Close: %v", query, err)
		}
	}
	const table = models + ".wt_ro"
	for _, query := range []string{
		"INSERT INTO " + table + " VALUES (2)",
		"UPDATE " + table + " SET i = 2 WHERE true",
		"DELETE FROM " + table + " WHERE true",
		"MERGE INTO " + table + " t USING (SELECT 5 AS i) s ON t.i = s.i WHEN NOT MATCHED THEN INSERT (i) VALUES (s.i)",
		"DROP TABLE " + table,
		"CREATE TABLE " + models + ".wt_ro2 AS SELECT 1 AS i",
		"CREATE TEMP TABLE wt_ro3 AS SELECT 1 AS i",
		"CREATE OR REPLACE VIEW " + models + ".wt_ro4 AS SELECT 1 AS i",
		"ALTER TABLE " + table + " ADD COLUMN k INT64",
		"TRUNCATE TABLE " + table,
		"SELECT 1; SELECT 2",
		"SELECT 1; DROP TABLE " + table,
		"BEGIN TRANSACTION",
		"COMMIT",
		"COMMIT; DROP TABLE " + table,
		"COPY " + table + " TO 'wt_ro.csv'",
		"EXPORT DATABASE 'wt_ro'",
		"ATTACH 'wt_ro.db' AS other",
		"PRAGMA database_list",
		"PRAGMA enable_profiling",
		"SET threads = 1",
		"CALL pragma_version()",
		"CHECKPOINT",
		"EXPLAIN ANALYZE INSERT INTO " + table + " VALUES (3)",
		"PREPARE p AS SELECT 1",
		"",
		";",
		"-- SELECT 1",
	} {
		rows, err := d.ReadOnly(t.Context(), query)
		if !errors.Is(err, warehouse.ErrNotReadOnly) {
			t.Errorf("ReadOnly(%q): %v, want ErrNotReadOnly", query, err)
		}
		if err == nil {
			_ = rows.Close() // the test has failed already
		}
	}
	wantRows(t, d, [][]any{{int64(1)}}, "SELECT i FROM "+table)
}

func checkColumns(t *testing.T, d warehouse.Driver) {
	create(t, d, "wt_columns", everything()...)
	exec(t, d, "CREATE VIEW "+models+".wt_view AS SELECT * FROM "+models+".wt_columns")
	for _, relation := range []string{"wt_columns", "wt_view"} {
		got, err := d.Columns(t.Context(), models, relation)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(everything(), got); diff != "" {
			t.Errorf("Columns(%s): (-want +got)\n%s", relation, diff)
		}
	}
}

// checkDescribe compares the types of a query with those of constants, since
// their names are the warehouse's own.
func checkDescribe(t *testing.T, d warehouse.Driver) {
	create(t, d, "wt_described", everything()...)
	var nulls []string
	for _, c := range everything() {
		nulls = append(nulls, fmt.Sprintf("cast(null as %s) as %s", c.Type.In(d.Dialect()), c.Name))
	}
	want, err := d.Describe(t.Context(), "select "+strings.Join(nulls, ", "))
	if err != nil {
		t.Fatal(err)
	}
	got, err := d.Describe(t.Context(), "-- a comment\nwith w as (select * from "+models+".wt_described)\nselect * from w -- the end")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-constants +table)\n%s", diff)
	}
	for i, c := range everything() {
		if got[i].Name != c.Name {
			t.Errorf("column %d is %s, not %s", i, got[i].Name, c.Name)
		}
	}
	if columns, err := d.Describe(t.Context(), "select * from "+models+".wt_nothing"); err == nil {
		t.Errorf("of a table that is not there: %v", columns)
	}
	if _, err := d.Describe(t.Context(), "create table "+models+".wt_made as select 1 as i"); !errors.Is(err, warehouse.ErrNotReadOnly) {
		t.Errorf("of a statement that writes: %v", err)
	}
	if _, err := d.Columns(t.Context(), models, "wt_made"); !errors.Is(err, warehouse.ErrNoRelation) {
		t.Errorf("describing made a table: %v", err)
	}
}

func checkLanding(t *testing.T, d warehouse.Driver) {
	for _, table := range warehouse.Landing() {
		got, err := d.Columns(t.Context(), warehouse.SchemaLanding, table.Name)
		if err != nil {
			t.Errorf("Columns(%s): %v", table.Name, err)
		}
		if diff := cmp.Diff(table.Columns, got); diff != "" {
			t.Errorf("Columns(%s): (-want +got)\n%s", table.Name, diff)
		}
	}
}

// checkEstimates holds for drivers that have estimates: nothing is run, and
// what could not be run is no zero.
func checkEstimates(t *testing.T, d warehouse.Driver) {
	estimator, ok := d.(warehouse.Estimator)
	if !ok {
		t.Skip("the warehouse bills nothing")
	}
	create(t, d, "wt_billed", warehouse.Column{Name: "i", Type: warehouse.Int64})
	for _, query := range []string{
		"SELECT i FROM sluis_models.wt_billed WHERE i > ?",
		"INSERT INTO sluis_models.wt_billed (i) SELECT i + ? FROM sluis_models.wt_billed",
		"INSERT INTO sluis_models.wt_billed (i) VALUES (?)",
		"CREATE OR REPLACE TABLE sluis_models.wt_other AS SELECT i FROM sluis_models.wt_billed WHERE i > ?",
	} {
		if bytes, err := estimator.EstimateBytes(t.Context(), query, 1); err != nil || bytes < 0 {
			t.Errorf("%s: %d bytes, %v", query, bytes, err)
		}
	}
	if rows, err := warehouse.Collect(t.Context(), d, "SELECT i FROM sluis_models.wt_billed"); err != nil || len(rows) != 0 {
		t.Errorf("an estimate wrote rows: %v, %v", rows, err)
	}
	if _, err := d.Columns(t.Context(), models, "wt_other"); !errors.Is(err, warehouse.ErrNoRelation) {
		t.Errorf("an estimate made a table: %v", err)
	}
	if bytes, err := estimator.EstimateBytes(t.Context(), "SELECT i FROM sluis_models.wt_missing"); err == nil {
		t.Errorf("of a table that is not there: %d bytes", bytes)
	}
}

func checkNoRelation(t *testing.T, d warehouse.Driver) {
	for _, schema := range []string{models, "wt_nowhere"} {
		if _, err := d.Columns(t.Context(), schema, "wt_nothing"); !errors.Is(err, warehouse.ErrNoRelation) {
			t.Errorf("Columns(%s): %v, want ErrNoRelation", schema, err)
		}
	}
	if _, err := d.Query(t.Context(), "SELECT * FROM "+models+".wt_nothing"); err == nil {
		t.Error("a query of a missing table succeeded")
	}
}

func checkOneStatement(t *testing.T, d warehouse.Driver) {
	for _, query := range []string{
		"CREATE TABLE " + models + ".wt_one AS SELECT 1 AS i; CREATE TABLE " + models + ".wt_two AS SELECT 1 AS i",
		"BEGIN TRANSACTION",
		"",
	} {
		if err := d.Exec(t.Context(), query); err == nil {
			t.Errorf("Exec(%q) succeeded", query)
		}
	}
	if _, err := d.Columns(t.Context(), models, "wt_one"); !errors.Is(err, warehouse.ErrNoRelation) {
		t.Errorf("the first of two statements took effect: %v", err)
	}
}

func checkStatementAtomic(t *testing.T, d warehouse.Driver) {
	create(t, d, "wt_whole", warehouse.Column{Name: "i", Type: warehouse.Int64})
	exec(t, d, "INSERT INTO "+models+".wt_whole VALUES (1), (2)")
	if err := d.Exec(t.Context(), "INSERT INTO "+models+".wt_whole SELECT CAST(s AS INT64) FROM (SELECT '3' AS s UNION ALL SELECT 'x') q"); err == nil {
		t.Error("a row that cannot be cast was inserted")
	}
	if err := d.Exec(t.Context(), "CREATE OR REPLACE TABLE "+models+".wt_whole AS SELECT CAST('x' AS INT64) AS i"); err == nil {
		t.Error("a table was made of a value that cannot be cast")
	}
	wantRows(t, d, [][]any{{int64(2), int64(3)}}, "SELECT count(*), sum(i) FROM "+models+".wt_whole")
	exec(t, d, "CREATE OR REPLACE TABLE "+models+".wt_whole AS SELECT 9 AS i")
	wantRows(t, d, [][]any{{int64(9)}}, "SELECT i FROM "+models+".wt_whole")
}

func checkMerge(t *testing.T, d warehouse.Driver) {
	create(t, d, "wt_merge", warehouse.Column{Name: "k", Type: warehouse.String}, warehouse.Column{Name: "v", Type: warehouse.Int64})
	exec(t, d, "INSERT INTO "+models+".wt_merge VALUES ('a', 1), ('b', 2), ('c', 3)")
	exec(t, d, `MERGE INTO `+models+`.wt_merge AS t
		USING (SELECT 'b' AS k, 20 AS v UNION ALL SELECT 'c', NULL UNION ALL SELECT 'd', ?) AS s ON t.k = s.k
		WHEN MATCHED AND s.v IS NULL THEN DELETE
		WHEN MATCHED THEN UPDATE SET v = s.v
		WHEN NOT MATCHED THEN INSERT (k, v) VALUES (s.k, s.v)`, 40)
	wantRows(t, d, [][]any{{"a", int64(1)}, {"b", int64(20)}, {"d", int64(40)}}, "SELECT k, v FROM "+models+".wt_merge ORDER BY k")
}

func checkNames(t *testing.T, d warehouse.Driver) {
	exec(t, d, "CREATE TABLE "+models+".wt_named AS SELECT 1 AS First, 'x' AS second")
	rows, err := d.Query(t.Context(), "SELECT * FROM wt_named")
	if err != nil {
		t.Fatalf("a model's name without its schema: %v", err)
	}
	defer rows.Close() //nolint:errcheck // nothing was written
	if diff := cmp.Diff([]string{"First", "second"}, rows.Columns()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func checkCancellation(t *testing.T, d warehouse.Driver) {
	create(t, d, "wt_big", warehouse.Column{Name: "i", Type: warehouse.Int64})
	big := make([][]any, 20_000)
	for i := range big {
		big[i] = []any{i}
	}
	if err := d.Append(t.Context(), models, "wt_big", []string{"i"}, big); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	started := time.Now()
	err := d.Exec(ctx, "CREATE TABLE "+models+".wt_never AS SELECT a.i FROM "+models+".wt_big a, "+models+".wt_big b, "+models+".wt_big c WHERE (a.i * b.i + c.i) % 1000003 = 5")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Exec: %v, want DeadlineExceeded", err)
	}
	if took := time.Since(started); took > 30*time.Second {
		t.Errorf("Exec took %v to notice its cancellation", took)
	}
	if _, err := d.Columns(t.Context(), models, "wt_never"); !errors.Is(err, warehouse.ErrNoRelation) {
		t.Errorf("a cancelled statement took effect: %v", err)
	}
	if _, err := d.Query(ctx, "SELECT 1"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Query after the deadline: %v", err)
	}
	wantRows(t, d, [][]any{{int64(1)}}, "SELECT 1")
}

func checkLargeResult(t *testing.T, d warehouse.Driver) {
	create(t, d, "wt_large", warehouse.Column{Name: "i", Type: warehouse.Int64}, warehouse.Column{Name: "s", Type: warehouse.String})
	large := make([][]any, 100_000)
	for i := range large {
		large[i] = []any{i, strings.Repeat("x", i%50)}
	}
	if err := d.Append(t.Context(), models, "wt_large", []string{"i", "s"}, large); err != nil {
		t.Fatal(err)
	}
	rows, err := d.Query(t.Context(), "SELECT i, s FROM "+models+".wt_large ORDER BY i")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close() //nolint:errcheck // nothing was written
	var kept []any
	n := 0
	for rows.Next() {
		row := rows.Row()
		if row[0] != int64(n) || len(row[1].(string)) != n%50 {
			t.Fatalf("row %d is %v", n, row)
		}
		if n == 0 {
			kept = row
		}
		n++
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if n != len(large) || kept[0] != int64(0) {
		t.Errorf("%d rows, the first %v; want %d, and the first unchanged", n, kept, len(large))
	}
}

func checkConcurrency(t *testing.T, d warehouse.Driver) {
	create(t, d, "wt_many", warehouse.Column{Name: "k", Type: warehouse.Int64}, warehouse.Column{Name: "v", Type: warehouse.Int64})
	exec(t, d, "INSERT INTO "+models+".wt_many VALUES (0, 0)")
	g, ctx := errgroup.WithContext(t.Context())
	const workers, each = 4, 5
	for worker := range workers {
		g.Go(func() error {
			for i := range each {
				if err := d.Exec(ctx, "UPDATE "+models+".wt_many SET v = v + 1 WHERE k = 0"); err != nil {
					return err
				}
				if err := d.Append(ctx, models, "wt_many", []string{"k", "v"}, [][]any{{1 + worker, i}}); err != nil {
					return err
				}
				if _, err := warehouse.Collect(ctx, d, "SELECT count(*) FROM "+models+".wt_many"); err != nil {
					return err
				}
				rows, err := d.ReadOnly(ctx, "SELECT * FROM "+models+".wt_many")
				if err != nil {
					return err
				}
				if err := rows.Close(); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	wantRows(t, d, [][]any{{int64(1 + workers*each), int64(workers * each)}},
		"SELECT count(*), max(CASE WHEN k = 0 THEN v END) FROM "+models+".wt_many")
}
