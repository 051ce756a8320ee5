package bigquery

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"cloud.google.com/go/bigquery"
)

// Append is one load job: atomic, free of charge, and, by its id, the same job
// when it is sent again. The price is a second or two, and BigQuery's quota of
// 1,500 load jobs a day for one table, one a minute. A pending stream of the
// Storage Write API has no such quota, but costs, and needs protocol buffers
// made up at run time; whoever appends more often than that should use one.
//
// Values are checked before anything is sent, so that the error names the row
// and column, and no value.
func (d *db) Append(ctx context.Context, schema, table string, columns []string, rows [][]any) error {
	if err := d.append(ctx, schema, table, columns, rows); err != nil {
		return fmt.Errorf("append to %s.%s: %w", schema, table, err)
	}
	return nil
}

func (d *db) append(ctx context.Context, schema, table string, columns []string, rows [][]any) error {
	existing, err := d.fields(ctx, schema, table)
	if err != nil {
		return err
	}
	fields, err := pick(existing, columns)
	if err != nil || len(rows) == 0 {
		return err
	}
	content, err := encodeRows(fields, rows)
	if err != nil {
		return err
	}
	ctx, cancel := d.bound(ctx)
	defer cancel()
	_, err = d.run(ctx, "append", func(ctx context.Context, id bigquery.JobIDConfig) (*bigquery.Job, error) {
		source := bigquery.NewReaderSource(bytes.NewReader(content))
		source.SourceFormat = bigquery.JSON
		loader := d.client.Dataset(schema).Table(table).LoaderFrom(source)
		loader.JobIDConfig = id
		loader.CreateDisposition = bigquery.CreateNever
		loader.WriteDisposition = bigquery.WriteAppend
		loader.Labels = d.config.Labels
		loader.JobTimeout = d.config.Timeout
		return loader.Run(ctx)
	})
	return err
}

// pick finds the named columns among those of a table.
func pick(existing bigquery.Schema, columns []string) (bigquery.Schema, error) {
	byName := make(map[string]*bigquery.FieldSchema, len(existing))
	for _, field := range existing {
		byName[strings.ToLower(field.Name)] = field
	}
	fields := make(bigquery.Schema, len(columns))
	for i, name := range columns {
		field, ok := byName[strings.ToLower(name)]
		if !ok {
			return nil, fmt.Errorf("there is no column %q", name)
		}
		fields[i] = field
	}
	return fields, nil
}

// encodeRows writes rows as one JSON object a line. NULLs are left out.
func encodeRows(fields bigquery.Schema, rows [][]any) ([]byte, error) {
	var lines []byte
	for n, row := range rows {
		if len(row) != len(fields) {
			return nil, fmt.Errorf("row %d has %d values for %d columns", n, len(row), len(fields))
		}
		var err error
		if lines, err = encodeObject(lines, fields, func(i int) any { return row[i] }); err != nil {
			return nil, fmt.Errorf("row %d, %w", n, err)
		}
		lines = append(lines, '\n')
	}
	return lines, nil
}

func encodeObject(to []byte, fields bigquery.Schema, value func(i int) any) ([]byte, error) {
	to = append(to, '{')
	empty := true
	for i, field := range fields {
		encoded, err := encodeField(field, value(i))
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", field.Name, err)
		}
		if encoded == nil {
			continue
		}
		if !empty {
			to = append(to, ',')
		}
		empty = false
		to = append(strconv.AppendQuote(to, field.Name), ':')
		to = append(to, encoded...)
	}
	return append(to, '}'), nil
}

var errNullElement = errors.New("BigQuery keeps no NULL in an array")

// encodeField returns the value as JSON, or nil for NULL.
func encodeField(field *bigquery.FieldSchema, value any) ([]byte, error) {
	if !field.Repeated {
		return encodeValue(field, value)
	}
	var elements []any
	switch v := value.(type) {
	case nil:
		return nil, nil
	case []any:
		elements = v
	case []string:
		for _, element := range v {
			elements = append(elements, element)
		}
	default:
		return nil, mismatch(field, value)
	}
	list := []byte{'['}
	for i, element := range elements {
		encoded, err := encodeValue(field, element)
		if err != nil {
			return nil, err
		}
		if encoded == nil {
			return nil, errNullElement
		}
		if i > 0 {
			list = append(list, ',')
		}
		list = append(list, encoded...)
	}
	return append(list, ']'), nil
}

func mismatch(field *bigquery.FieldSchema, value any) error {
	return fmt.Errorf("a value of type %T is not of the type %s", value, elementType(field))
}

func encodeValue(field *bigquery.FieldSchema, value any) ([]byte, error) {
	if value == nil {
		return nil, nil
	}
	switch field.Type { //nolint:exhaustive // the others are texts
	case bigquery.IntegerFieldType:
		return encodeInteger(field, value)
	case bigquery.FloatFieldType:
		return encodeFloat(field, value)
	case bigquery.BooleanFieldType:
		if v, ok := value.(bool); ok {
			return strconv.AppendBool(nil, v), nil
		}
	case bigquery.BytesFieldType:
		if v, ok := value.([]byte); ok {
			if v == nil {
				return nil, nil
			}
			return quoted(base64.StdEncoding.EncodeToString(v))
		}
	case bigquery.TimestampFieldType:
		if v, ok := value.(time.Time); ok {
			return quoted(v.UTC().Format("2006-01-02T15:04:05.999999Z"))
		}
	case bigquery.DateFieldType:
		if v, ok := value.(time.Time); ok {
			return quoted(v.UTC().Format(time.DateOnly))
		}
	case bigquery.DateTimeFieldType:
		if v, ok := value.(time.Time); ok {
			return quoted(v.UTC().Format("2006-01-02T15:04:05.999999"))
		}
	case bigquery.NumericFieldType, bigquery.BigNumericFieldType:
		return encodeDecimal(field, value)
	case bigquery.JSONFieldType:
		return encodeJSON(field, value)
	case bigquery.RecordFieldType:
		return encodeStruct(field, value)
	default:
		if v, ok := value.(string); ok {
			return quoted(v)
		}
	}
	return nil, mismatch(field, value)
}

// encodeInteger writes an integer as a string: a JSON number beyond 2^53 would
// lose its last digits.
func encodeInteger(field *bigquery.FieldSchema, value any) ([]byte, error) {
	var n int64
	switch v := value.(type) {
	case int:
		n = int64(v)
	case int64:
		n = v
	case int32:
		n = int64(v)
	case uint32:
		n = int64(v)
	case uint64:
		if v > math.MaxInt64 {
			return nil, mismatch(field, value)
		}
		n = int64(v)
	case string:
		parsed, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return nil, mismatch(field, value)
		}
		n = parsed
	default:
		return nil, mismatch(field, value)
	}
	return quoted(strconv.FormatInt(n, 10))
}

func encodeFloat(field *bigquery.FieldSchema, value any) ([]byte, error) {
	var f float64
	switch v := value.(type) {
	case float64:
		f = v
	case float32:
		f = float64(v)
	case int:
		f = float64(v)
	case int64:
		f = float64(v)
	default:
		return nil, mismatch(field, value)
	}
	switch {
	case math.IsNaN(f):
		return quoted("NaN")
	case math.IsInf(f, 0):
		return quoted(strconv.FormatFloat(f, 'g', -1, 64))
	}
	return strconv.AppendFloat(nil, f, 'g', -1, 64), nil
}

func encodeDecimal(field *bigquery.FieldSchema, value any) ([]byte, error) {
	switch v := value.(type) {
	case int, int64:
		return encodeInteger(field, v)
	case float64:
		return encodeFloat(field, v)
	case string:
		if _, ok := new(big.Rat).SetString(v); ok && !strings.Contains(v, "/") {
			return quoted(v)
		}
	}
	return nil, mismatch(field, value)
}

var errNotJSON = errors.New("the value is not valid JSON")

// encodeJSON puts a JSON value in its place as it is, on one line.
func encodeJSON(field *bigquery.FieldSchema, value any) ([]byte, error) {
	var text []byte
	switch v := value.(type) {
	case string:
		text = []byte(v)
	case []byte:
		text = v
	case json.RawMessage:
		text = v
	default:
		return nil, mismatch(field, value)
	}
	if text == nil {
		return nil, nil
	}
	var line bytes.Buffer
	if err := json.Compact(&line, text); err != nil {
		return nil, errNotJSON
	}
	return line.Bytes(), nil
}

func encodeStruct(field *bigquery.FieldSchema, value any) ([]byte, error) {
	fields, ok := value.(map[string]any)
	if !ok {
		return nil, mismatch(field, value)
	}
	known := 0
	encoded, err := encodeObject(nil, field.Schema, func(i int) any {
		inner, ok := fields[field.Schema[i].Name]
		if ok {
			known++
		}
		return inner
	})
	if err != nil {
		return nil, err
	}
	if known != len(fields) {
		return nil, errors.New("the value has a field that the type has not")
	}
	return encoded, nil
}

var errNotUTF8 = errors.New("the text is not valid UTF-8")

// quoted writes a JSON string. Text that is not UTF-8 would silently change.
func quoted(s string) ([]byte, error) {
	if !utf8.ValidString(s) {
		return nil, errNotUTF8
	}
	return json.Marshal(s)
}
