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

// A payload is what a plan keeps of a row: one entry per mapped field that is
// not a constant. Numbers, booleans and instants are "=" text ";", or "=;" for
// NULL; anything else is its length in bytes, ":" and the text, or "-:" for
// NULL. The entry of a sealed field is the token of the value, never the value.
// No two rows that differ have one payload, so its digest is the row hash.

// column is a field of the mapping with the type that its values have.
type column struct {
	Name string         `json:"name"`
	Type warehouse.Type `json:"type"`
	From string         `json:"from,omitempty"` // see [Field.origin]
}

var errPayload = errors.New("a stored row cannot be read: make a new plan")

// split takes a payload apart; nil is NULL.
func split(payload string) ([]*string, error) {
	var entries []*string
	for payload != "" {
		head, rest, isText := strings.Cut(payload, ":")
		if payload[0] == '=' {
			text, rest, ok := strings.Cut(payload[1:], ";")
			if !ok {
				return nil, errPayload
			}
			entries, payload = append(entries, orNil(text)), rest
			continue
		}
		if head == "-" && isText {
			entries, payload = append(entries, nil), rest
			continue
		}
		length, err := strconv.Atoi(head)
		if !isText || err != nil || length < 0 || length > len(rest) || strconv.Itoa(length) != head {
			return nil, errPayload
		}
		text := rest[:length]
		entries, payload = append(entries, &text), rest[length:]
	}
	return entries, nil
}

func orNil(text string) *string {
	if text == "" {
		return nil
	}
	return &text
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
	if t, ok := counterparts[kind]; ok {
		return t
	}
	return destination.String
}

var counterparts = map[warehouse.Type]destination.Type{
	warehouse.Int64:     destination.Int64,
	warehouse.Bool:      destination.Bool,
	warehouse.Timestamp: destination.Time,
	"FLOAT64":           destination.Float64,
}

// destinationColumns are the columns as the destination sees them.
func destinationColumns(columns []column) []destination.Column {
	out := make([]destination.Column, len(columns))
	for i, c := range columns {
		out[i] = destination.Column{Name: c.Name, Type: typeOf(c.Type)}
	}
	return out
}
