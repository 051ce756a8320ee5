package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// printJSON prints a value for programs.
func printJSON(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// longest is how far a table's rule goes under a text that is longer than that.
const longest = 80

// printTable prints rows under their column names, aligned.
func printTable(w io.Writer, columns []string, rows [][]string) {
	width := make([]int, len(columns))
	for i, column := range columns {
		width[i] = utf8.RuneCountInString(column)
		for _, row := range rows {
			width[i] = max(width[i], utf8.RuneCountInString(row[i]))
		}
	}
	line := func(cells []string) {
		var b strings.Builder
		for i, cell := range cells {
			b.WriteString("  ")
			b.WriteString(cell)
			if i < len(cells)-1 {
				b.WriteString(strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell)))
			}
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
	line(columns)
	rule := make([]string, len(columns))
	for i := range rule {
		rule[i] = strings.Repeat("─", width[i])
	}
	if last := len(rule) - 1; last >= 0 && width[last] > longest {
		rule[last] = strings.Repeat("─", longest)
	}
	line(rule)
	for _, row := range rows {
		line(row)
	}
}

// printRows prints the result of a query, as a table or as an array of JSON
// objects. It reads rows to their end and leaves closing to the caller.
func printRows(w io.Writer, rows warehouse.Rows, asJSON bool) error {
	columns := rows.Columns()
	if asJSON {
		return printRowsJSON(w, columns, rows)
	}
	var cells [][]string
	for rows.Next() {
		row := rows.Row()
		line := make([]string, len(row))
		for i, value := range row {
			line[i] = cellText(value)
		}
		cells = append(cells, line)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	printTable(w, columns, cells)
	return nil
}

// printRowsJSON writes row by row, so that a large result takes no memory, and
// keeps the order of the columns.
func printRowsJSON(w io.Writer, columns []string, rows warehouse.Rows) error {
	separator := "["
	for rows.Next() {
		var b strings.Builder
		b.WriteString(separator + "\n  {")
		for i, value := range rows.Row() {
			if i > 0 {
				b.WriteString(", ")
			}
			key, err := json.Marshal(columns[i])
			if err != nil {
				return err
			}
			text, err := json.Marshal(value)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, "%s: %s", key, text)
		}
		b.WriteString("}")
		if _, err := io.WriteString(w, b.String()); err != nil {
			return err
		}
		separator = ","
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if separator == "[" {
		fmt.Fprintln(w, "[]")
	} else {
		fmt.Fprintln(w, "\n]")
	}
	return nil
}

func cellText(value any) string {
	switch v := value.(type) {
	case nil:
		return "NULL"
	case time.Time:
		return v.Format("2006-01-02 15:04:05.999999")
	case []byte:
		return fmt.Sprintf("<%d bytes>", len(v))
	case []any, map[string]any:
		text, err := json.Marshal(v)
		if err != nil {
			return fmt.Sprint(v)
		}
		return string(text)
	default:
		return fmt.Sprint(v)
	}
}
