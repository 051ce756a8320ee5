package file

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/sluis-cdp/sluis/plugins/destination"
)

// parquetFormat is Apache Parquet with Zstandard. Times are
// TIMESTAMP(isAdjustedToUTC, MICROS), texts STRING; the mapped columns are optional.
type parquetFormat struct{}

func (parquetFormat) name() string { return "parquet" }

func (parquetFormat) refuses([]destination.Column, destination.Change) (string, bool) {
	return "", false
}

func (parquetFormat) encode(batch destination.Batch) ([]byte, error) {
	rows := make([]parquet.Row, len(batch.Changes))
	for i, change := range batch.Changes {
		rows[i] = parquetRow(change)
	}
	return writeParquet(parquetSchema(batch.Columns), rows)
}

func writeParquet(schema *parquet.Schema, rows []parquet.Row) ([]byte, error) {
	var out bytes.Buffer
	w := parquet.NewGenericWriter[any](&out, schema, parquet.Compression(&parquet.Zstd))
	_, err := w.WriteRows(rows)
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func parquetRow(change destination.Change) parquet.Row {
	row := parquet.Row{
		parquet.ByteArrayValue([]byte(change.Op.String())).Level(0, 0, 0),
		parquet.ByteArrayValue([]byte(change.Key)).Level(0, 0, 1),
		parquet.ByteArrayValue([]byte(change.ID)).Level(0, 0, 2),
	}
	for _, v := range change.Values {
		value, defined := parquet.NullValue(), 1
		switch v := v.(type) {
		case string:
			value = parquet.ByteArrayValue([]byte(v))
		case int64:
			value = parquet.Int64Value(v)
		case float64:
			value = parquet.DoubleValue(v)
		case bool:
			value = parquet.BooleanValue(v)
		case time.Time:
			value = parquet.Int64Value(v.UnixMicro())
		default:
			defined = 0
		}
		row = append(row, value.Level(0, defined, len(row)))
	}
	return row
}

func parquetSchema(columns []destination.Column) *parquet.Schema {
	group := parquet.Group{opColumn: parquet.String(), keyColumn: parquet.String(), idColumn: parquet.String()}
	order := []string{opColumn, keyColumn, idColumn}
	for _, column := range columns {
		node := parquet.String()
		switch column.Type {
		case destination.String:
		case destination.Int64:
			node = parquet.Int(64)
		case destination.Float64:
			node = parquet.Leaf(parquet.DoubleType)
		case destination.Bool:
			node = parquet.Leaf(parquet.BooleanType)
		case destination.Time:
			node = parquet.Timestamp(parquet.Microsecond)
		}
		group[column.Name] = parquet.Optional(node)
		order = append(order, column.Name)
	}
	return parquet.NewSchema("record", ordered{group, order})
}

// ordered is a group with its fields as they are mapped; a [parquet.Group] sorts
// them by name.
type ordered struct {
	parquet.Group
	order []string
}

// Fields implements [parquet.Node].
func (o ordered) Fields() []parquet.Field {
	fields := o.Group.Fields()
	slices.SortFunc(fields, func(a, b parquet.Field) int {
		return slices.Index(o.order, a.Name()) - slices.Index(o.order, b.Name())
	})
	return fields
}

func (parquetFormat) count(content []byte) (int, error) {
	in, err := parquet.OpenFile(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		return 0, err
	}
	return int(in.NumRows()), nil
}

func (parquetFormat) without(content []byte, keys map[string]bool) (kept []byte, dropped bool, err error) {
	in, err := parquet.OpenFile(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		return nil, false, err
	}
	column, ok := in.Schema().Lookup(keyColumn)
	if !ok {
		return nil, false, fmt.Errorf("it has no column %s", keyColumn)
	}
	rows, err := readParquet(in)
	if err != nil {
		return nil, false, err
	}
	n := len(rows)
	rows = slices.DeleteFunc(rows, func(row parquet.Row) bool {
		return keys[string(row[column.ColumnIndex].ByteArray())]
	})
	if len(rows) == n {
		return nil, false, nil
	}
	kept, err = writeParquet(in.Schema(), rows)
	return kept, true, err
}

func readParquet(in *parquet.File) (all []parquet.Row, err error) {
	buffer := make([]parquet.Row, 256)
	for _, group := range in.RowGroups() {
		rows := group.Rows()
		for {
			n, err := rows.ReadRows(buffer)
			for _, row := range buffer[:n] {
				all = append(all, row.Clone())
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, errors.Join(err, rows.Close())
			}
		}
		if err := rows.Close(); err != nil {
			return nil, err
		}
	}
	return all, nil
}
