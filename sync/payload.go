package syncer

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// A payload is what a plan keeps of a row: one entry per mapped field, "-" for
// NULL and otherwise the length in bytes, a colon and the text. A column's
// entry is its value; a sealed field's entry is the token of the value, never
// the value; a constant has none. No two rows that differ have one payload,
// so its digest is the row hash.

// column is a field of the mapping with the type that its values have.
type column struct {
	Name string         `json:"name"`
	Type warehouse.Type `json:"type"`
}

var errPayload = errors.New("a stored row cannot be read: make a new plan")

// split takes a payload apart; nil is NULL.
func split(payload string) ([]*string, error) {
	var entries []*string
	for payload != "" {
		if payload[0] == '-' {
			entries = append(entries, nil)
			payload = payload[1:]
			continue
		}
		digits, rest, ok := strings.Cut(payload, ":")
		length, err := strconv.Atoi(digits)
		if !ok || err != nil || length < 0 || length > len(rest) || strconv.Itoa(length) != digits {
			return nil, errPayload
		}
		entry := rest[:length]
		entries = append(entries, &entry)
		payload = rest[length:]
	}
	return entries, nil
}

// decode turns the entry of a column into what the destination takes.
func decode(entry string, kind warehouse.Type) (any, error) {
	var value any = entry
	var err error
	switch typeOf(kind) {
	case destination.Int64:
		value, err = strconv.ParseInt(entry, 10, 64)
	case destination.Float64:
		value, err = strconv.ParseFloat(entry, 64)
	case destination.Bool:
		value, err = strconv.ParseBool(entry)
	case destination.Time:
		var micros int64
		micros, err = strconv.ParseInt(entry, 10, 64)
		value = time.UnixMicro(micros).UTC()
	case destination.String:
	}
	if err != nil {
		return nil, fmt.Errorf("the value is out of the range of %s", kind) // without the value
	}
	return value, nil
}

// typeOf is the type at the destination of a column in the warehouse. Whatever
// has no counterpart goes as text.
func typeOf(kind warehouse.Type) destination.Type {
	switch kind {
	case warehouse.Int64:
		return destination.Int64
	case warehouse.Bool:
		return destination.Bool
	case warehouse.Timestamp:
		return destination.Time
	case "FLOAT64":
		return destination.Float64
	default:
		return destination.String
	}
}

// destinationColumns are the columns as the destination sees them.
func destinationColumns(columns []column) []destination.Column {
	out := make([]destination.Column, len(columns))
	for i, c := range columns {
		out[i] = destination.Column{Name: c.Name, Type: typeOf(c.Type)}
	}
	return out
}
