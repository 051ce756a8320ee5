package duckdb

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/duckdb/duckdb-go/v2"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// fromDuckDB names a column's type in the words of GoogleSQL. A type without
// a counterpart keeps its name.
func fromDuckDB(name string) warehouse.Type {
	if element, ok := strings.CutSuffix(name, "[]"); ok {
		return "ARRAY<" + fromDuckDB(element) + ">"
	}
	if inner, ok := strings.CutPrefix(name, "STRUCT("); ok {
		var fields []string
		for _, field := range splitFields(strings.TrimSuffix(inner, ")")) {
			fieldName, fieldType := cutName(field)
			fields = append(fields, fieldName+" "+string(fromDuckDB(fieldType)))
		}
		return warehouse.Type("STRUCT<" + strings.Join(fields, ", ") + ">")
	}
	switch name {
	case "VARCHAR", "UUID":
		return warehouse.String
	case "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT":
		return warehouse.Int64
	case "BOOLEAN":
		return warehouse.Bool
	case "BLOB":
		return warehouse.Bytes
	case "TIMESTAMP WITH TIME ZONE":
		return warehouse.Timestamp
	case "TIMESTAMP":
		return "DATETIME"
	case "FLOAT", "DOUBLE":
		return "FLOAT64"
	}
	if strings.HasPrefix(name, "DECIMAL(") {
		return "NUMERIC"
	}
	return warehouse.Type(name)
}

// splitFields splits a struct's fields at its outermost commas.
func splitFields(s string) []string {
	var fields []string
	depth, quoted, start := 0, false, 0
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '(':
			depth++
		case c == ')':
			depth--
		case c == ',' && depth == 0:
			fields = append(fields, strings.TrimSpace(s[start:i]))
			start = i + 1
		}
	}
	return append(fields, strings.TrimSpace(s[start:]))
}

var quotedName = regexp.MustCompile(`^"((?:[^"]|"")*)" (.*)$`)

func cutName(field string) (name, typ string) {
	if m := quotedName.FindStringSubmatch(field); m != nil {
		return strings.ReplaceAll(m[1], `""`, `"`), m[2]
	}
	name, typ, _ = strings.Cut(field, " ")
	return name, typ
}

// toBind prepares an argument for a placeholder.
func toBind(value any) any {
	switch v := value.(type) {
	case time.Time:
		// Where the type is not known, the driver would drop the zone.
		return duckdb.Typed(v.UTC(), duckdb.TYPE_TIMESTAMP_TZ)
	case json.RawMessage:
		if v == nil {
			return nil
		}
		return string(v)
	case []string:
		if v == nil {
			return nil
		}
	case []byte:
		if v == nil {
			return nil
		}
	}
	return value
}

var errNotJSON = errors.New("the value is not valid JSON")

// toAppend prepares a value for the appender, which takes a string in a JSON
// column for a value to be encoded, and so would encode it twice.
func toAppend(value any, kind warehouse.Type) (any, error) {
	if kind != warehouse.JSON {
		if list, ok := value.([]string); ok && list == nil {
			return nil, nil
		}
		if bytes, ok := value.([]byte); ok && bytes == nil {
			return nil, nil
		}
		return value, nil
	}
	var text []byte
	switch v := value.(type) {
	case nil:
		return nil, nil
	case string:
		text = []byte(v)
	case []byte:
		text = v
	case json.RawMessage:
		text = v
	default:
		return nil, fmt.Errorf("a JSON column takes text, not %T", value)
	}
	if text == nil {
		return nil, nil
	}
	if !json.Valid(text) {
		return nil, errNotJSON
	}
	return json.RawMessage(text), nil
}
