package bigquery

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// table is a landing table: how its rows are found in a batch and encoded.
type table struct {
	name       string
	columns    []column
	descriptor *descriptorpb.DescriptorProto
	in         func(*collector.Rows) reflect.Value // the slice of its rows
}

// column is a column, the struct field it is in, and the protobuf field it goes to.
type column struct {
	warehouse.Column
	field    []int
	optional bool // empty, and a zero time, lands as NULL
	number   protowire.Number
}

// landingTables are the tables that a batch goes to, in the order in which they
// are written: keys before what they seal, elements before what has their pseudonyms; quarantine, which also gets the
// refused rows of those before it; and last the ledger, which accounts for all.
func landingTables() ([]table, error) {
	columns := make(map[string][]warehouse.Column)
	for _, t := range warehouse.Landing() {
		columns[t.Name] = t.Columns
	}
	tables := []table{
		{name: "seal_keys", in: func(r *collector.Rows) reflect.Value { return reflect.ValueOf(r.SealKeys) }},
		{name: "elements", in: func(r *collector.Rows) reflect.Value { return reflect.ValueOf(r.Elements) }},
		{name: "vault", in: func(r *collector.Rows) reflect.Value { return reflect.ValueOf(r.Vault) }},
		{name: "consents", in: func(r *collector.Rows) reflect.Value { return reflect.ValueOf(r.Consents) }},
		{name: events, in: func(r *collector.Rows) reflect.Value { return reflect.ValueOf(r.Events) }},
		{name: "counts", in: func(r *collector.Rows) reflect.Value { return reflect.ValueOf(r.Counts) }},
		{name: quarantine, in: func(r *collector.Rows) reflect.Value { return reflect.ValueOf(r.Quarantine) }},
		{name: ledger, in: func(r *collector.Rows) reflect.Value { return reflect.ValueOf(r.Ledger) }},
	}
	for i := range tables {
		if err := tables[i].describe(columns[tables[i].name]); err != nil {
			return nil, err
		}
	}
	return tables, nil
}

const (
	events     = "events"
	quarantine = "quarantine"
	ledger     = "ledger"
)

// describe matches columns and struct fields, and makes the descriptor that
// tells BigQuery which protobuf field is which column.
func (t *table) describe(columns []warehouse.Column) error {
	row := t.in(&collector.Rows{}).Type().Elem()
	fields := make(map[string]reflect.StructField)
	for _, f := range reflect.VisibleFields(row) {
		name, _, _ := strings.Cut(f.Tag.Get("parquet"), ",")
		fields[name] = f
	}
	t.descriptor = &descriptorpb.DescriptorProto{Name: new("Row")}
	for i, c := range columns {
		f, ok := fields[c.Name]
		if !ok {
			return fmt.Errorf("%s has no field for the column %s of %s", row, c.Name, t.name)
		}
		col := column{Column: c, field: f.Index, optional: strings.Contains(f.Tag.Get("parquet"), ",optional"), number: protowire.Number(i + 1)}
		field, err := col.describe(f.Type)
		if err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		t.columns = append(t.columns, col)
		t.descriptor.Field = append(t.descriptor.Field, field)
		if c.Type == warehouse.Identifiers {
			t.descriptor.NestedType = append(t.descriptor.NestedType, identifierDescriptor())
		}
	}
	return nil
}

// describe follows BigQuery's table of conversions: a TIMESTAMP is an int64 of
// microseconds, JSON is a string, an ARRAY is repeated, a STRUCT is a message.
func (c column) describe(of reflect.Type) (*descriptorpb.FieldDescriptorProto, error) {
	const (
		text, number = descriptorpb.FieldDescriptorProto_TYPE_STRING, descriptorpb.FieldDescriptorProto_TYPE_INT64
	)
	types := map[warehouse.Type]struct {
		of    reflect.Type
		proto descriptorpb.FieldDescriptorProto_Type
	}{
		warehouse.String:      {reflect.TypeFor[string](), text},
		warehouse.JSON:        {reflect.TypeFor[string](), text},
		warehouse.Strings:     {reflect.TypeFor[[]string](), text},
		warehouse.Int64:       {reflect.TypeFor[int64](), number},
		warehouse.Timestamp:   {reflect.TypeFor[time.Time](), number},
		warehouse.Bool:        {reflect.TypeFor[bool](), descriptorpb.FieldDescriptorProto_TYPE_BOOL},
		warehouse.Bytes:       {reflect.TypeFor[[]byte](), descriptorpb.FieldDescriptorProto_TYPE_BYTES},
		warehouse.Identifiers: {reflect.TypeFor[[]collector.IdentifierRow](), descriptorpb.FieldDescriptorProto_TYPE_MESSAGE},
	}
	typ, ok := types[c.Type]
	if !ok || typ.of != of {
		return nil, fmt.Errorf("the column %s has the type %s, which the sink cannot make of a Go %s", c.Name, c.Type, of)
	}
	f := &descriptorpb.FieldDescriptorProto{
		Name: new(c.Name), Number: new(int32(c.number)), Type: typ.proto.Enum(),
		Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
	}
	if c.Type == warehouse.Strings || c.Type == warehouse.Identifiers {
		f.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
	}
	if c.Type == warehouse.Identifiers {
		f.TypeName = new("Identifier") // nested in Row
	}
	return f, nil
}

func identifierDescriptor() *descriptorpb.DescriptorProto {
	text := func(name string, number int32) *descriptorpb.FieldDescriptorProto {
		return &descriptorpb.FieldDescriptorProto{
			Name: new(name), Number: new(number),
			Type:  descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum(),
			Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
		}
	}
	return &descriptorpb.DescriptorProto{
		Name:  new("Identifier"),
		Field: []*descriptorpb.FieldDescriptorProto{text("kind", 1), text("pseudonym", 2)},
	}
}

// encode encodes a row, a struct, as the message that the descriptor describes.
// The wire format is written directly: a dynamic message for each row would cost
// several times as much.
func (t *table) encode(row reflect.Value) []byte {
	var b []byte
	for _, c := range t.columns {
		switch v := row.FieldByIndex(c.field).Interface().(type) {
		case string:
			if v != "" || !c.optional {
				b = appendBytes(b, c.number, v)
			}
		case []byte:
			if v != nil {
				b = appendBytes(b, c.number, string(v))
			}
		case []string:
			for _, s := range v {
				b = appendBytes(b, c.number, s)
			}
		case []collector.IdentifierRow:
			for _, id := range v {
				b = appendBytes(b, c.number, string(appendBytes(appendBytes(nil, 1, id.Kind), 2, id.Pseudonym)))
			}
		case int64:
			b = appendVarint(b, c.number, v)
		case time.Time:
			if !v.IsZero() || !c.optional {
				b = appendVarint(b, c.number, v.UnixMicro())
			}
		case bool:
			b = appendVarint(b, c.number, int64(protowire.EncodeBool(v)))
		}
	}
	return b
}

func appendBytes(b []byte, n protowire.Number, v string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), v)
}

func appendVarint(b []byte, n protowire.Number, v int64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), uint64(v))
}

// value returns a column of a row by its name, or nil.
func (t *table) value(row reflect.Value, name string) any {
	for _, c := range t.columns {
		if c.Name == name {
			return row.FieldByIndex(c.field).Interface()
		}
	}
	return nil
}
