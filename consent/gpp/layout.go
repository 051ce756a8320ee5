package gpp

import (
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// sections is the table of layouts, to be read by people too.
//
//go:embed sections.txt
var sections string

// layouts has those of each section by its id, by version ascending.
var layouts = parseLayouts(sections)

type layout struct {
	name    string
	version int
	core    []column
	gpc     bool     // may be followed by the Global Privacy Control
	extra   []column // or by these
	size    int      // values
	longest int      // characters of the core
}

// column is a field of n values of 2 bits each.
type column struct {
	field Field
	n     int
}

// parseLayouts reads the table, which is part of the program: a mistake in it
// ends it at its start, and so any test.
func parseLayouts(table string) map[int][]*layout {
	all := make(map[int][]*layout)
	for line := range strings.Lines(table) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		id, l := parseLayout(strings.Split(line, "|"))
		all[id] = append(all[id], l)
	}
	return all
}

func parseLayout(cells []string) (id int, l *layout) {
	for i := range cells {
		cells[i] = strings.TrimSpace(cells[i])
	}
	l = &layout{name: cells[1], version: number(cells[2]), core: parseColumns(cells[4])}
	switch extra := cells[3]; extra {
	case "-":
	case "gpc":
		l.gpc = true
	default:
		l.extra = parseColumns(extra)
	}
	size := 0
	for _, c := range l.core {
		size += c.n
	}
	// Writers fill bytes first, and then characters.
	l.longest = ((6+2*size+7)/8*8 + 5) / 6
	l.size = size
	for _, c := range l.extra {
		l.size += c.n
	}
	return number(cells[0]), l
}

func parseColumns(text string) (columns []column) {
	for word := range strings.FieldsSeq(text) {
		name, n, several := strings.Cut(word, "*")
		c := column{field: Field(slices.Index(fieldNames[:], name)), n: 1}
		if c.field >= fields {
			panic(fmt.Sprintf("sections.txt: no field %q", name))
		}
		if several {
			c.n = number(n)
		}
		columns = append(columns, c)
	}
	return columns
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		panic("sections.txt: " + err.Error())
	}
	return n
}
