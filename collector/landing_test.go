package collector

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
)

// TestEmptyLandsAsNull writes optional columns in each pattern of empty and
// full that eight rows can have, as they land and once more as they are merged.
// A reader cannot make JSON of an empty text.
func TestEmptyLandsAsNull(t *testing.T) {
	landed, merged := t.TempDir(), t.TempDir()
	for pattern := range 1 << 5 {
		rows := make([]EventRow, 5)
		var want strings.Builder
		for i := range rows {
			if pattern>>i&1 == 1 {
				rows[i].Properties, rows[i].Region = `{"a":1}`, "NL"
				want.WriteByte('x')
			} else {
				want.WriteByte('.')
			}
		}
		for _, dir := range []string{landed, merged} {
			if err := os.RemoveAll(filepath.Join(dir, "events.parquet")); err != nil {
				t.Fatal(err)
			}
		}
		if err := writeTable(landed, "events", rows); err != nil {
			t.Fatal(err)
		}
		if err := mergeTable[EventRow](merged, "events", []string{landed}); err != nil {
			t.Fatal(err)
		}
		for _, dir := range []string{landed, merged} {
			for _, column := range []string{"properties", "region"} {
				if got := notNull(t, filepath.Join(dir, "events.parquet"), column); got != want.String() {
					t.Errorf("%s of %s: not NULL are %s, want %s", column, filepath.Base(dir), got, want.String())
				}
			}
		}
	}
}

// notNull shows for each row of a file whether a column has a value.
func notNull(t *testing.T, file, column string) string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := parquet.NewGenericReader[EventRow](f)
	defer r.Close()
	leaf, ok := r.Schema().Lookup(column)
	if !ok {
		t.Fatalf("no column %s", column)
	}
	rows := make([]parquet.Row, r.NumRows())
	n, err := parquet.NewReader(f).ReadRows(rows)
	if n != len(rows) {
		t.Fatalf("read %d of %d rows: %v", n, len(rows), err)
	}
	var shape strings.Builder
	for _, row := range rows {
		for _, value := range row {
			if value.Column() == leaf.ColumnIndex {
				if value.IsNull() {
					shape.WriteByte('.')
				} else {
					shape.WriteByte('x')
				}
			}
		}
	}
	return shape.String()
}
