package duckdb

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"regexp"
	"strings"
	"time"

	"github.com/duckdb/duckdb-go/v2"
)

var (
	errNotOneStatement = errors.New("the text must hold exactly one statement")
	errTransaction     = errors.New("transactions are not offered: each statement is one of its own")
)

// prepare parses and binds one statement. The driver would run all but the
// last of several, one by one, and so break that a call is atomic.
func prepare(conn *duckdb.Conn, query string) (*duckdb.Stmt, duckdb.StmtType, error) {
	prepared, err := conn.Prepare(query)
	if err != nil && strings.Contains(err.Error(), "multi-statement") {
		return nil, 0, errNotOneStatement
	}
	if err != nil {
		return nil, 0, err
	}
	statement := prepared.(*duckdb.Stmt)
	kind, err := statement.StatementType()
	if err != nil {
		return nil, 0, errors.Join(err, statement.Close())
	}
	return statement, kind, nil
}

var firstWord = regexp.MustCompile(`(?is)^(?:\s|\(|--[^\n]*(?:\n|$)|/\*.*?\*/)*([a-z]+)`)

// startsAsQuery tells statements that read from those that DuckDB rewrites to
// a SELECT, such as PRAGMA.
func startsAsQuery(query string) bool {
	match := firstWord.FindStringSubmatch(query)
	if match == nil {
		return false
	}
	switch strings.ToLower(match[1]) {
	case "select", "with", "from", "values", "describe", "show", "summarize":
		return true
	}
	return false
}

// fetch runs a prepared statement and takes over both it and conn, except
// when it returns an error: then conn stays with the caller.
func fetch(ctx context.Context, conn *duckdb.Conn, statement *duckdb.Stmt, query string, args []any) (*rows, error) {
	statement, names, err := jsonAsText(conn, statement, query)
	if err != nil {
		return nil, err
	}
	bound := make([]driver.NamedValue, len(args))
	for i, arg := range args {
		bound[i] = driver.NamedValue{Ordinal: i + 1, Value: toBind(arg)}
	}
	if want := statement.NumInput(); want != len(args) {
		return nil, errors.Join(fmt.Errorf("the statement has %d placeholders, not %d", want, len(args)), statement.Close())
	}
	result, err := statement.QueryContext(ctx, bound)
	if err != nil {
		if ctx.Err() != nil && !errors.Is(err, ctx.Err()) {
			err = errors.Join(ctx.Err(), err)
		}
		return nil, errors.Join(err, statement.Close())
	}
	if names == nil {
		names = result.Columns()
	}
	r := &rows{conn: conn, statement: statement, result: result, names: names, kinds: make([]string, len(names))}
	if typed, ok := result.(driver.RowsColumnTypeDatabaseTypeName); ok {
		for i := range r.kinds {
			r.kinds[i] = typed.ColumnTypeDatabaseTypeName(i)
		}
	}
	return r, nil
}

// jsonAsText replaces a query whose result has columns of type JSON by one
// that casts them. The driver would decode such values, and lose the digits
// of large numbers and the order of keys. The second result is the columns'
// names, or nil if nothing was replaced.
func jsonAsText(conn *duckdb.Conn, statement *duckdb.Stmt, query string) (*duckdb.Stmt, []string, error) {
	kind, err := statement.StatementType()
	if err != nil {
		return nil, nil, errors.Join(err, statement.Close())
	}
	if kind != duckdb.STATEMENT_TYPE_SELECT {
		return statement, nil, nil
	}
	names, expressions, found, err := resultColumns(statement)
	if err != nil {
		return nil, nil, errors.Join(err, statement.Close())
	}
	if !found || !startsAsQuery(query) {
		return statement, nil, nil
	}
	aliases := make([]string, len(names))
	for i := range names {
		aliases[i] = fmt.Sprintf("c%d", i)
	}
	wrapped := fmt.Sprintf("SELECT %s FROM (\n%s\n) AS t(%s)",
		strings.Join(expressions, ", "), strings.TrimRight(strings.TrimSpace(query), "; \n\t"), strings.Join(aliases, ", "))
	replacement, _, err := prepare(conn, wrapped)
	if err != nil {
		// Not every query can stand in brackets. Then the driver's way has to do.
		return statement, nil, nil //nolint:nilerr // falls back
	}
	return replacement, names, statement.Close()
}

func resultColumns(statement *duckdb.Stmt) (names, expressions []string, hasJSON bool, err error) {
	count, err := statement.ColumnCount()
	if err != nil {
		return nil, nil, false, err
	}
	for i := range count {
		name, err := statement.ColumnName(i)
		if err != nil {
			return nil, nil, false, err
		}
		info, err := statement.ColumnTypeInfo(i)
		if err != nil {
			// A type that depends on an argument, known only when bound.
			return nil, nil, false, nil //nolint:nilerr // nothing to replace
		}
		expression := fmt.Sprintf("c%d", i)
		if info.Alias() == "JSON" {
			expression, hasJSON = "CAST("+expression+" AS VARCHAR)", true
		}
		names, expressions = append(names, name), append(expressions, expression)
	}
	return names, expressions, hasJSON, nil
}

// rows is a result, complete in DuckDB's memory.
type rows struct {
	conn      *duckdb.Conn
	statement *duckdb.Stmt
	result    driver.Rows
	names     []string
	kinds     []string // DuckDB's types
	row       []any
	err       error
	closed    bool
}

func (r *rows) Columns() []string { return r.names }
func (r *rows) Row() []any        { return r.row }
func (r *rows) Err() error        { return r.err }

func (r *rows) Next() bool {
	if r.err != nil || r.closed {
		return false
	}
	values := make([]driver.Value, len(r.names))
	if err := r.result.Next(values); err != nil {
		if !errors.Is(err, io.EOF) {
			r.err = fmt.Errorf("read row: %w", err)
		}
		return false
	}
	r.row = make([]any, len(values))
	for i, value := range values {
		if r.row[i], r.err = fromResult(value, r.kinds[i]); r.err != nil {
			return false
		}
	}
	return true
}

func (r *rows) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	return errors.Join(r.result.Close(), r.statement.Close(), r.conn.Close())
}

// fromResult turns a value of the driver into one that warehouse.Rows promises.
func fromResult(value any, kind string) (any, error) {
	if kind == "JSON" && value != nil {
		return asJSON(value)
	}
	switch v := value.(type) {
	case nil, bool, int64, float64, string:
		return v, nil
	case int8:
		return int64(v), nil
	case int16:
		return int64(v), nil
	case int32:
		return int64(v), nil
	case uint8:
		return int64(v), nil
	case uint16:
		return int64(v), nil
	case uint32:
		return int64(v), nil
	case uint64:
		return fromBig(new(big.Int).SetUint64(v))
	case *big.Int:
		return fromBig(v)
	case float32:
		return float64(v), nil
	case time.Time:
		return v.UTC(), nil
	case []byte:
		if kind == "UUID" {
			var id duckdb.UUID
			err := id.Scan(v)
			return id.String(), err
		}
		return v, nil
	case duckdb.Decimal:
		return formatDecimal(v), nil
	case duckdb.Interval:
		return fmt.Sprintf("%d months %d days %d microseconds", v.Months, v.Days, v.Micros), nil
	case duckdb.Union:
		return fromResult(v.Value, "")
	case []any:
		list := make([]any, len(v))
		for i, element := range v {
			var err error
			if list[i], err = fromResult(element, ""); err != nil {
				return nil, err
			}
		}
		return list, nil
	case map[string]any:
		fields := make(map[string]any, len(v))
		for name, field := range v {
			var err error
			if fields[name], err = fromResult(field, ""); err != nil {
				return nil, err
			}
		}
		return fields, nil
	}
	// What no table of ours has, such as a MAP, is legible at least.
	return asJSON(value)
}

func asJSON(value any) (any, error) {
	text, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("read a value of type %T: %w", value, err)
	}
	return string(text), nil
}

// formatDecimal writes all digits that the type has, as SQL does.
func formatDecimal(d duckdb.Decimal) string {
	digits, sign := d.Value.String(), ""
	if d.Value.Sign() < 0 {
		digits, sign = digits[1:], "-"
	}
	scale := int(d.Scale)
	if scale == 0 {
		return sign + digits
	}
	if len(digits) <= scale {
		digits = strings.Repeat("0", scale-len(digits)+1) + digits
	}
	point := len(digits) - scale
	return sign + digits[:point] + "." + digits[point:]
}

// fromBig keeps sums and counts, which DuckDB makes 128 bits wide, as int64.
func fromBig(n *big.Int) (any, error) {
	if n.IsInt64() {
		return n.Int64(), nil
	}
	return n.String(), nil
}
