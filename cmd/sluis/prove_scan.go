package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/sluis-cdp/sluis/cmd/internal/canary"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// proveSearch looks for canaries in everything that was written, and keeps
// account of where it has looked.
type proveSearch struct {
	canaries []canary.Canary
	values   *canary.Search
	markers  *canary.Search // what lands by right, to show that a place was written to
	places   []*provePlace
}

// provePlace is a kind of place, such as the spool.
type provePlace struct {
	Name  string `json:"place"`
	Files int    `json:"files,omitempty"`
	Rows  int    `json:"rows,omitempty"`
	Bytes int64  `json:"bytes"`
	// Markers are the words found that may be there. Where events in clear have to
	// have passed, there must be some.
	Markers int        `json:"markers"`
	Hits    []proveHit `json:"hits,omitempty"`

	must bool // have markers
	seen map[int]bool
}

// proveHit is a canary where it should not be. It says of which kind and from
// where it is, and never what.
type proveHit struct {
	At    string `json:"at"`
	Kind  string `json:"kind"`
	Where string `json:"sent_in"`
	Form  string `json:"form"`
}

func newProveSearch(canaries []canary.Canary, markers []string) *proveSearch {
	var words canary.Set
	for _, m := range markers {
		words.Mark("", 0, m)
	}
	s := &proveSearch{canaries: canaries, values: canary.NewSearch(canaries), markers: canary.NewSearch(words.All())}
	for _, place := range provePlaces {
		s.place(place.name).must = place.must
	}
	return s
}

func (s *proveSearch) place(name string) *provePlace {
	for _, p := range s.places {
		if p.Name == name {
			return p
		}
	}
	p := &provePlace{Name: name, seen: make(map[int]bool)}
	s.places = append(s.places, p)
	return p
}

// in looks through some bytes. What may be there says allowed, which may be nil;
// it is called with each canary found.
func (s *proveSearch) in(p *provePlace, at string, text []byte, allowed func(canary.Canary) bool) {
	p.Bytes += int64(len(text))
	for _, h := range s.markers.In(text) {
		if !p.seen[h.Canary] {
			p.seen[h.Canary] = true
			p.Markers++
		}
	}
	for _, h := range s.values.In(text) {
		c := s.canaries[h.Canary]
		if allowed != nil && allowed(c) {
			continue
		}
		p.Hits = append(p.Hits, proveHit{at, c.Kind, c.Where, h.Form})
	}
}

// files looks through every file below root that of names a place for; "" is
// none.
func (s *proveSearch) files(root string, of func(path string) string) error {
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		place := of(filepath.ToSlash(name))
		if place == "" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		p := s.place(place)
		p.Files++
		s.in(p, name, append(append([]byte(filepath.ToSlash(name)), '\n'), text...), nil) // names of files as well
		return nil
	})
}

// rows looks through each column of each row of a relation.
func (s *proveSearch) rows(ctx context.Context, db warehouse.Driver, p *provePlace, at, query string) error {
	rows, err := db.Query(ctx, query)
	if err != nil {
		return fmt.Errorf("reading %s: %w", at, err)
	}
	defer rows.Close() //nolint:errcheck // its errors are those of Err
	columns := rows.Columns()
	for _, column := range columns {
		s.in(p, at, []byte(column), nil)
	}
	for rows.Next() {
		p.Rows++
		for i, value := range rows.Row() {
			text, ok := value.([]byte)
			if !ok {
				text = []byte(cellText(value))
			}
			s.in(p, at+", column "+columns[i], text, nil)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("reading %s: %w", at, err)
	}
	return nil
}

// warehouse looks through every relation of every schema, whoever made it.
func (s *proveSearch) warehouse(ctx context.Context, db warehouse.Driver) error {
	names, err := warehouse.Collect(ctx, db, `select table_schema, table_name from information_schema.tables
		where table_schema not in ('information_schema', 'pg_catalog') order by 1, 2`)
	if err != nil {
		return fmt.Errorf("listing the tables: %w", err)
	}
	for _, row := range names {
		schema, table := row[0].(string), row[1].(string)
		if err := s.rows(ctx, db, s.place(placeOfTable(schema, table)), schema+"."+table, `select * from "`+schema+`"."`+table+`"`); err != nil {
			return err
		}
	}
	return nil
}

func placeOfTable(schema, table string) string {
	switch {
	case schema == warehouse.SchemaSync:
		return "state of the syncs"
	case schema == warehouse.SchemaLanding && table == "events":
		return "table of events"
	case schema == warehouse.SchemaLanding && table == "quarantine":
		return "quarantine"
	case schema == warehouse.SchemaLanding && table == "ledger":
		return "ledger"
	case schema == warehouse.SchemaLanding:
		return "other landing tables"
	case schema == warehouse.SchemaModels:
		return "models"
	default:
		return "other tables of the warehouse"
	}
}

// parquet looks through landed files as the rows that they are, since their
// bytes are compressed.
func (s *proveSearch) parquet(ctx context.Context, db warehouse.Driver, root, landing string) error {
	return filepath.WalkDir(landing, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".parquet" {
			return err
		}
		at, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		p := s.place("landed Parquet, decoded")
		p.Files++
		return s.rows(ctx, db, p, at, "select * from read_parquet('"+strings.ReplaceAll(path, "'", "''")+"')")
	})
}
