package warehouse

import "strings"

// In returns the type as a column definition or cast of the dialect writes it.
// Types that the dialect shares with GoogleSQL come back unchanged.
func (t Type) In(dialect string) string {
	if dialect != "duckdb" {
		return string(t)
	}
	if element, ok := cutAround(string(t), "ARRAY<", ">"); ok {
		return Type(element).In(dialect) + "[]"
	}
	if fields, ok := cutAround(string(t), "STRUCT<", ">"); ok {
		var translated []string
		for _, field := range splitFields(fields) {
			name, fieldType, _ := strings.Cut(field, " ")
			translated = append(translated, `"`+name+`" `+Type(fieldType).In(dialect))
		}
		return "STRUCT(" + strings.Join(translated, ", ") + ")"
	}
	switch t {
	case String:
		return "VARCHAR"
	case Int64:
		return "BIGINT"
	case Bool:
		return "BOOLEAN"
	case Bytes:
		return "BLOB"
	case Timestamp:
		// DuckDB's own TIMESTAMP has no zone and silently drops an offset.
		return "TIMESTAMPTZ"
	case "FLOAT64":
		return "DOUBLE"
	case "NUMERIC":
		return "DECIMAL(38,9)"
	case JSON, Strings, Identifiers:
		return string(t)
	}
	return string(t)
}

func cutAround(s, prefix, suffix string) (string, bool) {
	inner, ok := strings.CutPrefix(s, prefix)
	if !ok {
		return "", false
	}
	return strings.CutSuffix(inner, suffix)
}

// splitFields splits the fields of a struct at its outermost commas.
func splitFields(s string) []string {
	var fields []string
	depth, start := 0, 0
	for i, r := range s {
		switch r {
		case '<':
			depth++
		case '>':
			depth--
		case ',':
			if depth == 0 {
				fields = append(fields, strings.TrimSpace(s[start:i]))
				start = i + 1
			}
		}
	}
	return append(fields, strings.TrimSpace(s[start:]))
}
