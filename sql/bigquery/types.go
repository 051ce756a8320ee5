package bigquery

import (
	"strings"

	"cloud.google.com/go/bigquery"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// typeOf names a column's type in the words of GoogleSQL; the API still uses
// those of its first dialect.
func typeOf(field *bigquery.FieldSchema) warehouse.Type {
	element := elementType(field)
	if field.Repeated {
		return "ARRAY<" + element + ">"
	}
	return element
}

func elementType(field *bigquery.FieldSchema) warehouse.Type {
	switch field.Type { //nolint:exhaustive // all others have one name
	case bigquery.IntegerFieldType:
		return warehouse.Int64
	case bigquery.FloatFieldType:
		return "FLOAT64"
	case bigquery.BooleanFieldType:
		return warehouse.Bool
	case bigquery.RecordFieldType:
		var fields []string
		for _, inner := range field.Schema {
			fields = append(fields, inner.Name+" "+string(typeOf(inner)))
		}
		return warehouse.Type("STRUCT<" + strings.Join(fields, ", ") + ">")
	}
	return warehouse.Type(field.Type)
}

// fieldOf is the reverse of typeOf for the types of landing tables.
func fieldOf(column warehouse.Column) *bigquery.FieldSchema {
	field := &bigquery.FieldSchema{Name: column.Name}
	switch column.Type {
	case warehouse.String:
		field.Type = bigquery.StringFieldType
	case warehouse.Int64:
		field.Type = bigquery.IntegerFieldType
	case warehouse.Bool:
		field.Type = bigquery.BooleanFieldType
	case warehouse.Bytes:
		field.Type = bigquery.BytesFieldType
	case warehouse.Timestamp:
		field.Type = bigquery.TimestampFieldType
	case warehouse.JSON:
		field.Type = bigquery.JSONFieldType
	case warehouse.Strings:
		field.Type, field.Repeated = bigquery.StringFieldType, true
	case warehouse.Identifiers:
		field.Type, field.Repeated = bigquery.RecordFieldType, true
		field.Schema = bigquery.Schema{
			{Name: "kind", Type: bigquery.StringFieldType},
			{Name: "pseudonym", Type: bigquery.StringFieldType},
		}
	}
	return field
}
