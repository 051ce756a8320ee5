package main

import (
	"bytes"
	"context"
	"crypto/md5"  //nolint:gosec // looked for, not used
	"crypto/sha1" //nolint:gosec // looked for, not used
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// search looks for personal values in everything that was written: the bytes
// of all files, and, since files may be compressed, all rows of the warehouse.
type search struct {
	forms  [][]byte // in lower case
	hits   []string // places, not values
	nFiles int
	nRows  int
}

// newSearch looks for each value as it is, and as it is commonly disguised.
func newSearch(values []string) *search {
	s := &search{}
	for _, value := range values {
		forms := []string{value, strings.TrimPrefix(value, "+"), url.QueryEscape(value), hex.EncodeToString([]byte(value))}
		if len(value) > 8 { // a short value's base64 or digest says nothing more
			forms = append(forms, base64.RawStdEncoding.EncodeToString([]byte(value)), base64.RawURLEncoding.EncodeToString([]byte(value)))
		}
		sum1, sum5, sum256 := sha1.Sum([]byte(value)), md5.Sum([]byte(value)), sha256.Sum256([]byte(value)) //nolint:gosec // looked for, not used
		forms = append(forms, hex.EncodeToString(sum1[:]), hex.EncodeToString(sum5[:]), hex.EncodeToString(sum256[:]))
		for _, form := range forms {
			s.forms = append(s.forms, []byte(strings.ToLower(form)))
		}
	}
	return s
}

func (s *search) in(text []byte) bool {
	text = bytes.ToLower(text)
	return slices.ContainsFunc(s.forms, func(form []byte) bool { return bytes.Contains(text, form) })
}

// files reads every file below a folder. The warehouse must be closed.
func (s *search) files(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		s.nFiles++
		if s.in(text) {
			s.hits = append(s.hits, path)
		}
		return nil
	})
}

// warehouse reads every row of every table and view.
func (s *search) warehouse(ctx context.Context, db warehouse.Driver) error {
	names, err := relations(ctx, db)
	if err != nil {
		return fmt.Errorf("listing tables: %w", err)
	}
	for _, name := range names {
		rows, err := db.Query(ctx, "select * from "+name)
		if err != nil {
			return fmt.Errorf("reading %s: %w", name, err)
		}
		for rows.Next() {
			s.nRows++
			for _, value := range rows.Row() {
				text, ok := value.([]byte)
				if !ok {
					text = []byte(cellText(value))
				}
				if s.in(text) {
					s.hits = append(s.hits, name)
				}
			}
		}
		if err := rows.Err(); err != nil {
			return fmt.Errorf("reading %s: %w", name, err)
		}
		if err := rows.Close(); err != nil {
			return err
		}
	}
	return nil
}

// relations lists the tables and views of all schemas of ours.
func relations(ctx context.Context, db warehouse.Driver) ([]string, error) {
	var names []string
	for _, schema := range []string{warehouse.SchemaLanding, warehouse.SchemaModels, warehouse.SchemaSync} {
		catalog := "information_schema.tables"
		if db.Dialect() == "bigquery" { // each dataset has its own
			catalog = schema + ".INFORMATION_SCHEMA.TABLES"
		}
		rows, err := warehouse.Collect(ctx, db, "select table_name from "+catalog+" where table_schema = ? order by 1", schema)
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			names = append(names, schema+"."+row[0].(string))
		}
	}
	return names, nil
}
