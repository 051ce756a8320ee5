package jinja

import "slices"

// Table is what a query answers, as dbt's templates read it: its rows and its
// columns by place or name.
type Table struct {
	Columns []string
	Rows    [][]any
}

// mapped is a list whose elements have names, too: agate's, which dbt has
// tables from.
type mapped struct {
	keys   []string // nil if they have none
	values []any
}

func (m *mapped) item(key any) (any, bool) {
	if name, ok := key.(string); ok {
		i := slices.Index(m.keys, name)
		if i < 0 {
			return nil, false
		}
		return m.values[i], true
	}
	i, ok := integer(key)
	if i < 0 {
		i += len(m.values)
	}
	if !ok || i < 0 || i >= len(m.values) {
		return nil, false
	}
	return m.values[i], true
}

func (m *mapped) member(name string) (any, bool) {
	names := make([]any, len(m.keys))
	for i, key := range m.keys {
		names[i] = key
	}
	var call Func
	switch name {
	case "values":
		call = positional(name, 0, 0, func([]any) (any, error) { return Tuple(m.values), nil })
	case "keys":
		call = positional(name, 0, 0, func([]any) (any, error) { return Tuple(names), nil })
	case "items":
		call = positional(name, 0, 0, func([]any) (any, error) { return zip([]any{Tuple(names), Tuple(m.values)}, NewDict()) })
	case "get":
		call = positional(name, 1, 2, func(a []any) (any, error) {
			if v, ok := m.item(a[0]); ok || len(a) == 1 {
				return v, nil
			}
			return a[1], nil
		})
	default:
		return nil, false
	}
	return &method{name, call}, true
}

func (t *Table) rows() *mapped {
	rows := &mapped{}
	for _, row := range t.Rows {
		rows.values = append(rows.values, &mapped{t.Columns, row})
	}
	return rows
}

func (t *Table) member(name string) (any, bool) {
	switch name {
	case "rows":
		return t.rows(), true
	case "columns":
		columns := &mapped{keys: t.Columns}
		for i := range t.Columns {
			column := &mapped{}
			for _, row := range t.Rows {
				column.values = append(column.values, row[i])
			}
			columns.values = append(columns.values, column)
		}
		return columns, true
	case "column_names":
		names := Tuple{}
		for _, name := range t.Columns {
			names = append(names, name)
		}
		return names, true
	}
	return nil, false
}
