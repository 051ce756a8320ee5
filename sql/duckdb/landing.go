package duckdb

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/duckdb/duckdb-go/v2"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// landedFiles lists what the collector has landed.
type landedFiles struct {
	root  string              // absolute; empty if there is none
	files map[string][]string // by table

	version string // of what is in the files; see [warehouse.Versioner]
}

// batch is a folder with what one range of a spool became.
type batch struct {
	dir         string
	spool       string
	first, last uint64 // last is exclusive
}

var (
	dayName   = regexp.MustCompile(`^dt=\d{4}-\d{2}-\d{2}$`)
	batchName = regexp.MustCompile(`^([A-Za-z0-9].*)-(\d{20})-(\d{20})$`)
)

// findLanded lists the files to read, once: a view over a pattern would change
// under a running query, and fail when compaction removes a file.
func findLanded(root string) (landedFiles, error) {
	landed := landedFiles{files: map[string][]string{}}
	if root == "" {
		return landed, nil
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return landed, fmt.Errorf("find what landed: %w", err)
	}
	landed.root = root
	batches, err := settled(func() ([]batch, error) { return findBatches(root) })
	if err != nil {
		return landed, fmt.Errorf("find what landed: %w", err)
	}
	batches, err = withoutContained(batches)
	if err != nil {
		return landed, err
	}
	version := sha256.New()
	for _, b := range batches {
		for _, table := range warehouse.Landing() {
			file := filepath.Join(b.dir, table.Name+".parquet")
			if info, err := os.Stat(file); err == nil {
				landed.files[table.Name] = append(landed.files[table.Name], file)
				// A file is never appended to: it is new, or put in the place of one
				// that had more rows.
				fmt.Fprintf(version, "%s\x00%d %d\n", file, info.Size(), info.ModTime().UnixNano())
			} else if !errors.Is(err, fs.ErrNotExist) {
				return landed, fmt.Errorf("find what landed: %w", err)
			}
		}
	}
	landed.version = hex.EncodeToString(version.Sum(nil))
	return landed, nil
}

// settled lists until it finds the same twice: what was there in between. A
// single list of several folders may have a batch, and not the one that landed
// before it, in a folder that had been read already.
func settled(list func() ([]batch, error)) ([]batch, error) {
	const tries = 100
	before, err := list()
	for range tries {
		if err != nil {
			return nil, err
		}
		var now []batch
		if now, err = list(); slices.Equal(before, now) {
			return now, err
		}
		before = now
	}
	return nil, errors.New("the landing folder changes each time it is read: is more than one collector landing there?")
}

func findBatches(root string) ([]batch, error) {
	var batches []batch
	days, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, day := range days {
		if !day.IsDir() || !dayName.MatchString(day.Name()) {
			continue
		}
		entries, err := os.ReadDir(filepath.Join(root, day.Name()))
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			if b, ok := parseBatch(filepath.Join(root, day.Name()), entry); ok {
				batches = append(batches, b)
			}
		}
	}
	return batches, nil
}

// parseBatch reads the range from a folder's name. Anything else in the place,
// such as a folder still being written, is not ours to read.
func parseBatch(day string, entry fs.DirEntry) (batch, bool) {
	parts := batchName.FindStringSubmatch(entry.Name())
	if parts == nil || !entry.IsDir() {
		return batch{}, false
	}
	first, err1 := strconv.ParseUint(parts[2], 10, 64)
	last, err2 := strconv.ParseUint(parts[3], 10, 64)
	if err1 != nil || err2 != nil || last <= first {
		return batch{}, false
	}
	return batch{dir: filepath.Join(day, entry.Name()), spool: parts[1], first: first, last: last}, true
}

// withoutContained drops each batch whose range another one contains. So a
// compaction takes effect by one rename, before its inputs are removed.
func withoutContained(batches []batch) ([]batch, error) {
	slices.SortFunc(batches, func(a, b batch) int {
		return cmp.Or(cmp.Compare(a.spool, b.spool), cmp.Compare(a.first, b.first), cmp.Compare(b.last, a.last), cmp.Compare(a.dir, b.dir))
	})
	var kept []batch
	for _, b := range batches {
		if len(kept) > 0 {
			widest := kept[len(kept)-1]
			switch {
			case b.spool != widest.spool || b.first >= widest.last:
			case b.last <= widest.last:
				continue
			default:
				return nil, fmt.Errorf("landed folders %s and %s overlap, so rows would count twice: move one of them out of the landing folder", widest.dir, b.dir)
			}
		}
		kept = append(kept, b)
	}
	return kept, nil
}

// createView defines a landing table over its files. Each column is cast to
// the type that warehouse.Landing promises, whatever the files hold.
func (d *db) createView(ctx context.Context, conn *duckdb.Conn, table warehouse.Table, files []string) error {
	from, present := "", map[string]bool{}
	if len(files) > 0 {
		// By name, since files written by different versions differ in columns.
		from = " FROM read_parquet([" + strings.Join(quoteAll(files), ", ") + "], union_by_name = true, hive_partitioning = false)"
		var err error
		if present, err = describe(conn, "SELECT *"+from); err != nil {
			return err
		}
	}
	expressions := make([]string, len(table.Columns))
	for i, column := range table.Columns {
		source := "NULL"
		if present[column.Name] {
			source = `"` + column.Name + `"`
		}
		expressions[i] = fmt.Sprintf(`CAST(%s AS %s) AS "%s"`, source, column.Type.In("duckdb"), column.Name)
	}
	if from == "" {
		from = " WHERE false"
	}
	return d.run(ctx, conn, fmt.Sprintf("CREATE OR REPLACE VIEW %s.%s AS SELECT %s%s",
		warehouse.SchemaLanding, table.Name, strings.Join(expressions, ", "), from))
}

// describe returns the names of a query's columns without running it.
func describe(conn *duckdb.Conn, query string) (map[string]bool, error) {
	statement, _, err := prepare(conn, query)
	if err != nil {
		return nil, err
	}
	defer statement.Close() //nolint:errcheck // in memory
	count, err := statement.ColumnCount()
	if err != nil {
		return nil, err
	}
	names := make(map[string]bool, count)
	for i := range count {
		name, err := statement.ColumnName(i)
		if err != nil {
			return nil, err
		}
		names[name] = true
	}
	return names, nil
}

func quoteAll(files []string) []string {
	quoted := make([]string, len(files))
	for i, file := range files {
		quoted[i] = quote(file)
	}
	return quoted
}
