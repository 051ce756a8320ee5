package runner

import (
	"fmt"
	"log/slog"
	"strings"
)

// levelOfTemplates is the level of what templates log.
const levelOfTemplates = slog.LevelInfo

func templateAttrs(node *Node, message any) []slog.Attr {
	return []slog.Attr{slog.String("node", node.Name), slog.Any("text", message)}
}

// portable are the macros of dbt that hide what dialects write differently,
// as far as they are plain text.
func portable(dialect string) map[string]any {
	bigquery := dialect == "bigquery"
	choose := func(duckdb, other string) string {
		if bigquery {
			return other
		}
		return duckdb
	}
	return map[string]any{
		"type_string":       text("type_string", choose("varchar", "string")),
		"type_int":          text("type_int", choose("bigint", "int64")),
		"type_bigint":       text("type_bigint", choose("bigint", "int64")),
		"type_float":        text("type_float", choose("double", "float64")),
		"type_boolean":      text("type_boolean", choose("boolean", "bool")),
		"type_timestamp":    text("type_timestamp", choose("timestamptz", "timestamp")),
		"current_timestamp": text("current_timestamp", choose("now()", "current_timestamp()")),
		"concat":            function(concat),
		"safe_cast":         pattern("safe_cast", choose("try_cast(%[1]s as %[2]s)", "safe_cast(%[1]s as %[2]s)"), "field", "type"),
		"hash":              pattern("hash", choose("md5(cast(%[1]s as varchar))", "to_hex(md5(cast(%[1]s as string)))"), "field"),
		"date_trunc":        pattern("date_trunc", choose("date_trunc('%[1]s', %[2]s)", "timestamp_trunc(cast(%[2]s as timestamp), %[1]s)"), "datepart", "date"),
		"dateadd": pattern("dateadd", choose("(%[3]s + (%[2]s) * interval 1 %[1]s)", "timestamp_add(cast(%[3]s as timestamp), interval %[2]s %[1]s)"),
			"datepart", "interval", "from_date_or_timestamp"),
		"datediff": pattern("datediff", choose("date_diff('%[3]s', %[1]s, %[2]s)", "timestamp_diff(cast(%[2]s as timestamp), cast(%[1]s as timestamp), %[3]s)"),
			"first_date", "second_date", "datepart"),
	}
}

func text(name, sql string) function {
	return func(args []any, named map[string]any) (any, error) {
		if len(args)+len(named) > 0 {
			return nil, fmt.Errorf("dbt.%s takes no arguments", name)
		}
		return sql, nil
	}
}

// pattern makes a function of a format with a verb for each parameter.
func pattern(name, format string, parameters ...string) function {
	return func(args []any, named map[string]any) (any, error) {
		values := make([]any, len(parameters))
		for i, parameter := range parameters {
			value, given := named[parameter]
			switch {
			case i < len(args):
				values[i] = fmt.Sprint(args[i])
			case given:
				values[i] = fmt.Sprint(value)
			default:
				return nil, fmt.Errorf("dbt.%s takes %s", name, strings.Join(parameters, ", "))
			}
		}
		if len(args)+len(named) != len(parameters) {
			return nil, fmt.Errorf("dbt.%s takes %s", name, strings.Join(parameters, ", "))
		}
		return fmt.Sprintf(format, values...), nil
	}
}

func concat(args []any, _ map[string]any) (any, error) {
	if len(args) != 1 {
		return nil, fmt.Errorf("dbt.concat takes a list")
	}
	return strings.Join(asTexts(args[0]), " || "), nil
}
