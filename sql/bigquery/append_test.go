package bigquery

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/bigquery"
	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

func field(kind bigquery.FieldType) *bigquery.FieldSchema {
	return &bigquery.FieldSchema{Name: "c", Type: kind}
}

func TestEncode(t *testing.T) {
	at := time.Date(2026, 11, 23, 1, 30, 0, 123456000, time.FixedZone("", 3600))
	identifiers := fieldOf(warehouse.Column{Name: "c", Type: warehouse.Identifiers})
	texts := fieldOf(warehouse.Column{Name: "c", Type: warehouse.Strings})
	tests := []struct {
		field *bigquery.FieldSchema
		value any
		want  string
	}{
		{field(bigquery.StringFieldType), "é\"\x00\n", `{"c":"é\"\u0000\n"}`},
		{field(bigquery.StringFieldType), nil, `{}`},
		{field(bigquery.IntegerFieldType), 7, `{"c":"7"}`},
		{field(bigquery.IntegerFieldType), int64(math.MinInt64), `{"c":"-9223372036854775808"}`},
		{field(bigquery.IntegerFieldType), "12", `{"c":"12"}`},
		{field(bigquery.FloatFieldType), 1.5, `{"c":1.5}`},
		{field(bigquery.FloatFieldType), math.Inf(-1), `{"c":"-Inf"}`},
		{field(bigquery.FloatFieldType), math.NaN(), `{"c":"NaN"}`},
		{field(bigquery.BooleanFieldType), false, `{"c":false}`},
		{field(bigquery.BytesFieldType), []byte{0, 0xff}, `{"c":"AP8="}`},
		{field(bigquery.BytesFieldType), []byte(nil), `{}`},
		{field(bigquery.TimestampFieldType), at, `{"c":"2026-11-23T00:30:00.123456Z"}`},
		{field(bigquery.DateFieldType), at, `{"c":"2026-11-23"}`},
		{field(bigquery.NumericFieldType), "-0.10", `{"c":"-0.10"}`},
		{field(bigquery.JSONFieldType), "{\n\"a\": 12345678901234567890}", `{"c":{"a":12345678901234567890}}`},
		{field(bigquery.JSONFieldType), json.RawMessage(nil), `{}`},
		{texts, []string{"a", "b"}, `{"c":["a","b"]}`},
		{texts, []string{}, `{"c":[]}`},
		{identifiers, []any{map[string]any{"kind": "email", "pseudonym": "e1"}}, `{"c":[{"kind":"email","pseudonym":"e1"}]}`},
	}
	for _, test := range tests {
		got, err := encodeRows(bigquery.Schema{test.field}, [][]any{{test.value}})
		if err != nil || string(got) != test.want+"\n" {
			t.Errorf("%s of %v: %s, %v; want %s", test.field.Type, test.value, got, err, test.want)
		}
	}
}

// A value that does not fit is refused before anything is sent, by an error
// that does not repeat it.
func TestEncodeRefuses(t *testing.T) {
	identifiers := fieldOf(warehouse.Column{Name: "c", Type: warehouse.Identifiers})
	tests := []struct {
		field *bigquery.FieldSchema
		value any
	}{
		{field(bigquery.StringFieldType), 7},
		{field(bigquery.StringFieldType), "canary\xff"},
		{field(bigquery.IntegerFieldType), "canary"},
		{field(bigquery.IntegerFieldType), uint64(math.MaxUint64)},
		{field(bigquery.IntegerFieldType), 1.5},
		{field(bigquery.BooleanFieldType), "canary"},
		{field(bigquery.BytesFieldType), "canary"},
		{field(bigquery.TimestampFieldType), "canary"},
		{field(bigquery.NumericFieldType), "canary"},
		{field(bigquery.NumericFieldType), "1/3"},
		{field(bigquery.JSONFieldType), `{"canary"`},
		{&bigquery.FieldSchema{Name: "c", Type: bigquery.StringFieldType, Repeated: true}, []any{nil}},
		{&bigquery.FieldSchema{Name: "c", Type: bigquery.StringFieldType, Repeated: true}, "canary"},
		{identifiers, []any{map[string]any{"canary": "x"}}},
	}
	for _, test := range tests {
		got, err := encodeRows(bigquery.Schema{test.field}, [][]any{{test.value}})
		if err == nil {
			t.Errorf("%s of %v was encoded: %s", test.field.Type, test.value, got)
			continue
		}
		if !strings.Contains(err.Error(), "row 0, column c") || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s of %v: %v", test.field.Type, test.value, err)
		}
	}
}

func TestTypesComeBack(t *testing.T) {
	for _, table := range warehouse.Landing() {
		layout, ok := layouts[table.Name]
		if !ok {
			t.Errorf("%s has no layout: say by what it is partitioned and clustered", table.Name)
		}
		kinds := map[string]warehouse.Type{}
		for _, column := range table.Columns {
			kinds[column.Name] = column.Type
			if got := typeOf(fieldOf(column)); got != column.Type {
				t.Errorf("%s.%s is of type %s, not %s", table.Name, column.Name, got, column.Type)
			}
		}
		if kinds[layout.by] != warehouse.Timestamp {
			t.Errorf("%s is partitioned by %s, which is no time of it", table.Name, layout.by)
		}
		for _, name := range layout.cluster {
			if kinds[name] != warehouse.String {
				t.Errorf("%s is clustered by %s, which is no text of it", table.Name, name)
			}
		}
	}
}

func TestMissingColumns(t *testing.T) {
	want := []warehouse.Column{{Name: "a", Type: warehouse.String}, {Name: "b", Type: warehouse.Strings}, {Name: "c", Type: warehouse.Identifiers}}
	got, err := missingColumns(bigquery.Schema{fieldOf(want[0])}, want)
	clauses := []string{
		"ADD COLUMN IF NOT EXISTS b ARRAY<STRING>",
		"ADD COLUMN IF NOT EXISTS c ARRAY<STRUCT<kind STRING, pseudonym STRING>>",
	}
	if diff := cmp.Diff(clauses, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	if got, err := missingColumns(bigquery.Schema{field(bigquery.DateFieldType)}, want); err == nil {
		t.Errorf("c is a DATE, and is to be changed by %v", got)
	}
}
