package collector

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/sluis-cdp/sluis/collector/spool"
	"github.com/sluis-cdp/sluis/consent/seal"
)

// Counted is how many rows there are of each table; none of 0.
func (rows *Rows) Counted() map[string]int {
	counts := make(map[string]int)
	for table, list := range rows.tables() {
		if n := list.Len(); n > 0 {
			counts[table] = n
		}
	}
	return counts
}

// tables are the lists of rows by the name of their table.
func (rows *Rows) tables() map[string]reflect.Value {
	tables := make(map[string]reflect.Value)
	for field, list := range reflect.ValueOf(rows).Elem().Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		tables[name] = list
	}
	return tables
}

// Inspection is what [Inspect] found.
type Inspection struct {
	Spool   spool.Report
	Landed  uint64 // records below this number have landed
	Waiting Waiting
}

// Waiting is what has not landed.
type Waiting struct {
	Records    int
	Bytes      int64
	Oldest     time.Time      // when the first of them was appended
	Rows       map[string]int // by table
	Unreadable int            // records of another version of this program
}

// InspectedRecord is a record for people: its rows by table, in JSON, by the
// names of their columns. Rows hold no personal value in clear.
type InspectedRecord struct {
	Seq   uint64                       `json:"number"`
	Time  time.Time                    `json:"appended_at"`
	Bytes int                          `json:"bytes"`
	Rows  map[string][]json.RawMessage `json:"rows"`
}

// InspectOptions say what else is to be shown.
type InspectOptions struct {
	// Landed finds the number from which landing goes on, for a spool id.
	Landed func(spoolID string) (uint64, error)
	// Show is called with each record that waits, in order, until it returns false;
	// it may be nil.
	Show func(InspectedRecord) bool
	// Whole shows pseudonyms as they are, which else are shortened.
	Whole bool
}

// Inspect looks at what waits in the spool of a directory. It changes nothing
// there, and may be called while a collector uses it.
func Inspect(ctx context.Context, dir string, options InspectOptions) (Inspection, error) {
	id, err := spool.Identify(dir)
	if err != nil {
		return Inspection{}, err
	}
	i := Inspection{Waiting: Waiting{Rows: make(map[string]int)}}
	w := &i.Waiting
	if i.Landed, err = options.Landed(id); err != nil {
		return Inspection{}, fmt.Errorf("finding what has landed: %w", err)
	}
	show := options.Show
	i.Spool, err = spool.Inspect(ctx, dir, func(r spool.Record) error {
		if r.Seq < i.Landed {
			return nil
		}
		if w.Records++; w.Records == 1 {
			w.Oldest = r.Time
		}
		w.Bytes += int64(len(r.Data))
		rec, err := ParseRecord(r.Data)
		if err != nil {
			w.Unreadable++
			return nil //nolint:nilerr // it is counted
		}
		for table, n := range rec.Counted() {
			w.Rows[table] += n
		}
		if show != nil && !show(inspected(r, rec.Rows, options.Whole)) {
			show = nil
		}
		return nil
	})
	return i, err
}

func inspected(r spool.Record, rows Rows, whole bool) InspectedRecord {
	shown := InspectedRecord{Seq: r.Seq, Time: r.Time, Bytes: len(r.Data), Rows: make(map[string][]json.RawMessage)}
	for table, list := range rows.tables() {
		for n := range list.Len() {
			shown.Rows[table] = append(shown.Rows[table], forPeople(list.Index(n), whole))
		}
	}
	return shown
}

// forPeople is a row in JSON, by the names of its columns and in their order,
// without those that are empty; pseudonyms are shortened unless it is whole.
func forPeople(row reflect.Value, whole bool) json.RawMessage {
	text := []byte{'{'}
	for field, value := range row.Fields() {
		column, _, _ := strings.Cut(field.Tag.Get("parquet"), ",")
		if column == "" || value.IsZero() { // the origin, which the record's number tells
			continue
		}
		if len(text) > 1 {
			text = append(text, ',')
		}
		text = append(append(append(text, '"'), column...), '"', ':')
		text = append(text, forPeopleColumn(column, value.Interface(), whole)...)
	}
	if text = append(text, '}'); whole {
		return text
	}
	return seal.MaskTokens(text)
}

func forPeopleColumn(column string, value any, whole bool) []byte {
	switch v := value.(type) {
	case []byte:
		value = fmt.Sprintf("%d bytes", len(v))
	case []IdentifierRow:
		list := make([]json.RawMessage, len(v))
		for i, id := range v {
			list[i] = forPeople(reflect.ValueOf(id), whole)
		}
		value = list
	case string:
		switch {
		case column == "token" && !whole:
			value = v[:min(4, len(v))] + "…"
		case slices.Contains([]string{"properties", "traits", "context"}, column) && json.Valid([]byte(v)):
			value = json.RawMessage(v)
		}
	}
	text, err := json.Marshal(value)
	if err != nil {
		return []byte("null") // rows are made of texts, numbers and times
	}
	return text
}
