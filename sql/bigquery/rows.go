package bigquery

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"cloud.google.com/go/bigquery"
	"cloud.google.com/go/civil"
	"google.golang.org/api/iterator"
)

// rows is a result, fetched page by page or stream by stream.
type rows struct {
	result  *bigquery.RowIterator
	names   []string
	row     []any
	err     error
	closed  bool
	cancel  context.CancelFunc
	explain func(error) error
}

func (r *rows) Columns() []string { return r.names }
func (r *rows) Row() []any        { return r.row }
func (r *rows) Err() error        { return r.err }

func (r *rows) Next() bool {
	if r.err != nil || r.closed {
		return false
	}
	var loaded record
	err := r.result.Next(&loaded)
	if errors.Is(err, iterator.Done) {
		return false
	}
	if err != nil {
		r.err = fmt.Errorf("read row: %w", r.explain(err))
		return false
	}
	r.row = loaded
	return true
}

// Close ends the streams of an unfinished result.
func (r *rows) Close() error {
	r.closed = true
	r.cancel()
	return nil
}

func columnNames(schema bigquery.Schema) []string {
	names := make([]string, len(schema))
	for i, field := range schema {
		names[i] = field.Name
	}
	return names
}

// record is a row that knows its schema when it is filled, which names the
// fields of structs.
type record []any

func (r *record) Load(values []bigquery.Value, schema bigquery.Schema) error {
	*r = make([]any, len(values))
	for i, value := range values {
		var err error
		if (*r)[i], err = fromField(value, schema[i]); err != nil {
			return fmt.Errorf("column %s: %w", schema[i].Name, err)
		}
	}
	return nil
}

// fromField turns a value of the client into one that warehouse.Rows promises.
func fromField(value bigquery.Value, field *bigquery.FieldSchema) (any, error) {
	if !field.Repeated {
		return fromValue(value, field)
	}
	elements, ok := value.([]bigquery.Value)
	if !ok && value != nil {
		return nil, fmt.Errorf("an array is of type %T", value)
	}
	// BigQuery does not keep NULL arrays: they are empty.
	list := make([]any, len(elements))
	for i, element := range elements {
		var err error
		if list[i], err = fromValue(element, field); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func fromValue(value bigquery.Value, field *bigquery.FieldSchema) (any, error) {
	switch v := value.(type) {
	case nil, bool, int64, float64, string, []byte:
		return v, nil
	case time.Time:
		return v.UTC(), nil
	case civil.Date:
		return v.In(time.UTC), nil
	case civil.DateTime:
		return v.In(time.UTC), nil
	case civil.Time:
		return v.String(), nil
	case *big.Rat:
		return decimal(v), nil
	case *bigquery.IntervalValue:
		return v.String(), nil
	case *bigquery.RangeValue:
		return fromRange(v, field)
	case []bigquery.Value:
		return fromStruct(v, field)
	}
	return nil, fmt.Errorf("there is no reading of a value of type %T", value)
}

func fromStruct(values []bigquery.Value, field *bigquery.FieldSchema) (any, error) {
	if len(values) != len(field.Schema) {
		return nil, fmt.Errorf("a struct of %d fields has %d values", len(field.Schema), len(values))
	}
	fields := make(map[string]any, len(values))
	for i, value := range values {
		inner := field.Schema[i]
		var err error
		if fields[inner.Name], err = fromField(value, inner); err != nil {
			return nil, err
		}
	}
	return fields, nil
}

func fromRange(r *bigquery.RangeValue, field *bigquery.FieldSchema) (any, error) {
	start, err := fromValue(r.Start, field)
	if err != nil {
		return nil, err
	}
	end, err := fromValue(r.End, field)
	if err != nil {
		return nil, err
	}
	return map[string]any{"start": start, "end": end}, nil
}

// decimal writes a NUMERIC or BIGNUMERIC, which has at most 38 decimals, with
// as many as it needs.
func decimal(r *big.Rat) string {
	if r.IsInt() {
		return r.Num().String()
	}
	return strings.TrimRight(r.FloatString(38), "0")
}
