package bigquery

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// lineTime is how a load job reads a TIMESTAMP.
const lineTime = "2006-01-02T15:04:05.999999Z"

// appendLine adds a row as a load job reads it: one JSON object on a line, as the
// columns are called. It returns false, and adds nothing, if JSON cannot hold
// the row as it is: text that is no UTF-8, a JSON column that is none, a year
// beyond four digits.
func (t *table) appendLine(to []byte, row reflect.Value) ([]byte, bool) {
	line := append(to, '{')
	for _, c := range t.columns {
		value, ok := c.json(row.FieldByIndex(c.field).Interface())
		if !ok {
			return to, false
		}
		if value == nil {
			continue // NULL, or an empty list
		}
		if len(line) > len(to)+1 {
			line = append(line, ',')
		}
		line = append(strconv.AppendQuote(line, c.Name), ':')
		line = append(line, value...)
	}
	return append(line, "}\n"...), true
}

// json returns a value as JSON, nil for NULL, or false if JSON cannot hold it.
func (c column) json(value any) ([]byte, bool) {
	switch v := value.(type) {
	case string:
		switch {
		case v == "" && c.optional:
			return nil, true
		case c.Type == warehouse.JSON:
			var line bytes.Buffer
			err := json.Compact(&line, []byte(v))
			return line.Bytes(), err == nil && utf8.ValidString(v)
		}
		return quote(v)
	case []string:
		return list(v, quote)
	case []collector.IdentifierRow:
		return list(v, func(id collector.IdentifierRow) ([]byte, bool) {
			kind, ok := quote(id.Kind)
			pseudonym, too := quote(id.Pseudonym)
			return fmt.Appendf(nil, `{"kind":%s,"pseudonym":%s}`, kind, pseudonym), ok && too
		})
	case int64:
		return quote(strconv.FormatInt(v, 10)) // a number would be a float to some
	case time.Time:
		v = v.UTC()
		text, ok := quote(v.Format(lineTime))
		return text, ok && v.Year() >= 1 && v.Year() <= 9999
	case bool:
		return strconv.AppendBool(nil, v), true
	}
	return nil, false
}

func quote(s string) ([]byte, bool) {
	b, err := json.Marshal(s) // replaces what is no UTF-8
	return b, err == nil && utf8.ValidString(s)
}

func list[T any](values []T, encode func(T) ([]byte, bool)) ([]byte, bool) {
	if len(values) == 0 {
		return nil, true
	}
	out := []byte{'['}
	for i, v := range values {
		element, ok := encode(v)
		if !ok {
			return nil, false
		}
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, element...)
	}
	return append(out, ']'), true
}

// readLines reads rows that appendLine wrote into a slice of the table's structs.
func (t *table) readLines(from io.Reader, rows reflect.Value) error {
	decoder := json.NewDecoder(from)
	for {
		var values map[string]json.RawMessage
		if err := decoder.Decode(&values); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		row := reflect.New(rows.Type().Elem()).Elem()
		for _, c := range t.columns {
			if value, ok := values[c.Name]; ok {
				if err := c.read(value, row.FieldByIndex(c.field)); err != nil {
					return fmt.Errorf("column %s: %w", c.Name, err)
				}
			}
		}
		rows.Set(reflect.Append(rows, row))
	}
}

func (c column) read(value json.RawMessage, into reflect.Value) error {
	switch field := into.Addr().Interface().(type) {
	case *string:
		if c.Type == warehouse.JSON {
			*field = string(value)
			return nil
		}
		return json.Unmarshal(value, field)
	case *[]collector.IdentifierRow:
		var ids []struct{ Kind, Pseudonym string }
		if err := json.Unmarshal(value, &ids); err != nil {
			return err
		}
		for _, id := range ids {
			*field = append(*field, collector.IdentifierRow(id))
		}
		return nil
	case *int64:
		var text string
		if err := json.Unmarshal(value, &text); err != nil {
			return err
		}
		n, err := strconv.ParseInt(text, 10, 64)
		*field = n
		return err
	default: // []string, time.Time, bool
		return json.Unmarshal(value, field)
	}
}
