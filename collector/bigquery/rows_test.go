package bigquery

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/collector"
)

// fill gives each field of a row a value that tells which it is.
func fill(row reflect.Value) {
	for _, f := range reflect.VisibleFields(row.Type()) {
		v := row.FieldByIndex(f.Index)
		switch p := v.Addr().Interface().(type) {
		case *string:
			*p = `"` + f.Name + `"` // a string, and JSON too
		case *[]byte:
			*p = []byte{0, 0xff}
		case *[]string:
			*p = []string{f.Name, ""}
		case *[]collector.IdentifierRow:
			*p = []collector.IdentifierRow{{Kind: "email", Pseudonym: "em_1"}, {Kind: "phone", Pseudonym: "ph_2"}}
		case *int64:
			*p = -1
		case *bool:
			*p = true
		case *time.Time:
			*p = time.Date(1969, 12, 31, 23, 59, 59, 999_999_000, time.UTC)
		}
	}
}

// TestEveryColumnArrives lands, in every table, a row with all fields and one
// with none.
func TestEveryColumnArrives(t *testing.T) {
	server := landingServer(t)
	s := openSink(t, testConfig(server.Address(), filepath.Join(t.TempDir(), "state")))
	b := collector.Batch{SpoolID: spoolID, First: 1, Last: 2, Day: day, Rows: collector.Rows{
		Events: make([]collector.EventRow, 2), Vault: make([]collector.VaultRow, 2), Consents: make([]collector.ConsentRow, 2),
		Quarantine: make([]collector.QuarantineRow, 2), Ledger: make([]collector.LedgerRow, 2), Counts: make([]collector.CountRow, 2),
		SealKeys: make([]collector.SealKeyRow, 2), Elements: make([]collector.ElementRow, 2),
	}}
	for _, table := range s.tables {
		fill(table.in(&b.Rows).Index(0))
	}
	if err := s.Land(context.Background(), b); err != nil {
		t.Fatal(err)
	}
	for _, table := range s.tables {
		rows := server.Rows(path(table.name))
		if len(rows) != 2 {
			t.Errorf("%s has %d rows, want 2", table.name, len(rows))
			continue
		}
		for i, got := range rows {
			if diff := cmp.Diff(plain(table, table.in(&b.Rows).Index(i)), got); diff != "" {
				t.Errorf("%s, row %d (-want +got):\n%s", table.name, i, diff)
			}
		}
	}
}

// plain is a row as the server must have it: empty optional strings, bytes and
// lists are NULL.
func plain(t table, row reflect.Value) map[string]any {
	values := make(map[string]any)
	for _, c := range t.columns {
		switch v := t.value(row, c.Name).(type) {
		case string:
			if v != "" || !c.optional {
				values[c.Name] = v
			}
		case []byte:
			if v != nil {
				values[c.Name] = v
			}
		case []string:
			for _, s := range v {
				list, _ := values[c.Name].([]any)
				values[c.Name] = append(list, s)
			}
		case []collector.IdentifierRow:
			for _, id := range v {
				list, _ := values[c.Name].([]any)
				values[c.Name] = append(list, map[string]any{"kind": id.Kind, "pseudonym": id.Pseudonym})
			}
		case int64:
			values[c.Name] = json.Number(fmt.Sprint(v))
		case bool:
			values[c.Name] = v
		case time.Time:
			if !v.IsZero() || !c.optional {
				values[c.Name] = json.Number(fmt.Sprint(v.UnixMicro()))
			}
		}
	}
	return values
}

// TestRequestsEndWithRecords cuts rows of records of several events.
func TestRequestsEndWithRecords(t *testing.T) {
	tables, err := landingTables()
	if err != nil {
		t.Fatal(err)
	}
	events := tables[slices.IndexFunc(tables, func(t table) bool { return t.name == "events" })]
	tests := []struct {
		records []int // events in each
		size    int   // of a request, in events
		want    []int
	}{
		{[]int{1, 1, 1, 1, 1}, 2, []int{2, 2, 1}},
		{[]int{1, 3, 1, 2}, 4, []int{4, 3}},
		{[]int{2, 3, 3}, 4, []int{2, 3, 3}},
		{[]int{1, 5, 1}, 3, []int{1, 3, 3}}, // the second is larger than a request
		{[]int{7}, 3, []int{3, 3, 1}},
		{nil, 3, nil},
	}
	for _, test := range tests {
		var rows [][]byte
		for seq, n := range test.records {
			for range n {
				// Offsets from 128 on take two bytes each.
				row := collector.EventRow{Origin: collector.Origin{SpoolID: spoolID, SpoolOffset: int64(128 + seq)}}
				rows = append(rows, events.encode(reflect.ValueOf(row)))
			}
		}
		s := &Sink{requestSize: 1}
		if len(rows) > 0 {
			s.requestSize = test.size * (len(rows[0]) + 8)
		}
		if diff := cmp.Diff(test.want, s.split(rows)); diff != "" {
			t.Errorf("records of %v events, %d a request: (-want +got)\n%s", test.records, test.size, diff)
		}
	}
}
