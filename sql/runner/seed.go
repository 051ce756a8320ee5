package runner

import (
	"encoding/csv"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// seedTypes are the names of types in column_types.
var seedTypes = map[string]warehouse.Type{
	"string": warehouse.String, "varchar": warehouse.String, "text": warehouse.String,
	"int64": warehouse.Int64, "bigint": warehouse.Int64, "integer": warehouse.Int64, "int": warehouse.Int64,
	"float64": "FLOAT64", "double": "FLOAT64", "float": "FLOAT64",
	"bool": warehouse.Bool, "boolean": warehouse.Bool,
	"timestamp": warehouse.Timestamp, "timestamptz": warehouse.Timestamp,
}

// seed loads a CSV file. Columns without a type in column_types are integers
// or texts, by what they hold; an empty field is NULL.
func (b builder) seed() (rows int64, message string, err error) {
	names, records, err := b.records()
	if err != nil {
		return -1, "", err
	}
	types, err := b.seedTypes(names, records)
	if err != nil {
		return -1, "", err
	}
	values := make([][]any, len(records))
	for i, record := range records {
		values[i] = make([]any, len(names))
		for j, field := range record {
			if values[i][j], err = seedValue(field, types[j]); err != nil {
				return -1, "", fmt.Errorf("%s:%d: column %s: %w", b.node.Path, i+2, names[j], err)
			}
		}
	}
	loading := b.scratch("loading")
	defer b.dropScratch(loading)
	definitions := make([]string, len(names))
	for i, name := range quoteAll(b.d.Dialect(), names) {
		definitions[i] = name + " " + types[i].In(b.d.Dialect())
	}
	if err := b.d.Exec(b.ctx, fmt.Sprintf("create or replace table %s (%s)", relation(loading), strings.Join(definitions, ", "))); err != nil {
		return -1, "", err
	}
	if err := b.d.Append(b.ctx, warehouse.SchemaModels, loading, names, values); err != nil {
		return -1, "", err
	}
	return b.table("select * from " + relation(loading))
}

func (b builder) records() (names []string, records [][]string, err error) {
	reader := csv.NewReader(strings.NewReader(b.node.source))
	if delimiter := b.node.config.text("delimiter"); delimiter != "" {
		reader.Comma = []rune(delimiter)[0]
	}
	all, err := reader.ReadAll()
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", b.node.Path, err)
	}
	if len(all) == 0 {
		return nil, nil, fmt.Errorf("%s: the file is empty: its first line names the columns", b.node.Path)
	}
	for _, name := range all[0] {
		if !identifier.MatchString(name) {
			return nil, nil, fmt.Errorf("%s:1: the column %q must be letters, digits and _", b.node.Path, name)
		}
	}
	return all[0], all[1:], nil
}

func (b builder) seedTypes(names []string, records [][]string) ([]warehouse.Type, error) {
	declared, _ := b.node.config["column_types"].(map[string]any)
	types := make([]warehouse.Type, len(names))
	for i, name := range names {
		types[i] = guessType(records, i)
		if value, ok := declared[name]; ok {
			known, ok := seedTypes[strings.ToLower(fmt.Sprint(value))]
			if !ok {
				return nil, fmt.Errorf("%s: column_types: unknown type %q of %s: use string, int64, float64, boolean or timestamp", b.node.Path, value, name)
			}
			types[i] = known
		}
	}
	return types, nil
}

func guessType(records [][]string, column int) warehouse.Type {
	numbers := 0
	for _, record := range records {
		if record[column] == "" {
			continue
		}
		if _, err := strconv.ParseInt(record[column], 10, 64); err != nil {
			return warehouse.String
		}
		numbers++
	}
	if numbers == 0 {
		return warehouse.String
	}
	return warehouse.Int64
}

func seedValue(field string, kind warehouse.Type) (any, error) {
	if field == "" {
		return nil, nil
	}
	switch kind { //nolint:exhaustive // the values of seedTypes
	case warehouse.Int64:
		return strconv.ParseInt(field, 10, 64)
	case warehouse.Bool:
		return strconv.ParseBool(field)
	case "FLOAT64":
		return strconv.ParseFloat(field, 64)
	case warehouse.Timestamp:
		for _, layout := range []string{time.RFC3339, time.DateTime, time.DateOnly} {
			if t, err := time.Parse(layout, field); err == nil {
				return t, nil
			}
		}
		return nil, fmt.Errorf("not a time such as 2026-11-23T10:00:00Z")
	}
	return field, nil
}
