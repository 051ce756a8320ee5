package duckdb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/duckdb/duckdb-go/v2"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// Rewrite makes the database file anew from what is in it, so that nothing is
// left in it of rows that were deleted: DuckDB keeps their bytes until it happens
// to need the space. It waits as [Open] does, needs as much free space again as
// what is in the file, and replaces the file by a rename, so that it may be killed
// at any point and repeated. Without a file it does nothing.
func Rewrite(ctx context.Context, config Config) error {
	path, err := filepath.Abs(config.Path)
	if err != nil {
		return fmt.Errorf("rewrite warehouse: %w", err)
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	wait := waiter{onWait: config.OnWait}
	lock, err := acquire(ctx, path+".lock", config.Holder, &wait)
	if err != nil {
		return fmt.Errorf("rewrite warehouse %s: %w", path, err)
	}
	err = rewrite(ctx, path, config, &wait)
	if err := errors.Join(err, lock.release()); err != nil {
		return fmt.Errorf("rewrite warehouse %s: %w", path, err)
	}
	return nil
}

func rewrite(ctx context.Context, path string, config Config, wait *waiter) error {
	fresh := path + ".rewritten"
	if err := removeDatabase(fresh); err != nil {
		return err
	}
	if err := copyDatabase(ctx, path, fresh, config, wait); err != nil {
		return errors.Join(err, removeDatabase(fresh))
	}
	if err := syncFile(fresh); err != nil {
		return err
	}
	if err := os.Rename(fresh, path); err != nil {
		return err
	}
	return syncFile(filepath.Dir(path))
}

// copyDatabase leaves out the views of what landed, which each opening makes.
func copyDatabase(ctx context.Context, path, fresh string, config Config, wait *waiter) error {
	connector, err := connect(ctx, path, wait)
	if err != nil {
		return err
	}
	d := &db{connector: connector}
	c, err := connector.Connect(ctx)
	if err != nil {
		return errors.Join(err, connector.Close())
	}
	conn := c.(*duckdb.Conn)
	statements := []string{
		"SET autoinstall_known_extensions = false",
		"SET autoload_known_extensions = false",
		"SET temp_directory = " + quote(path+".tmp"),
	}
	if config.MemoryLimit != "" {
		statements = append(statements, "SET memory_limit = "+quote(config.MemoryLimit))
	}
	statements = append(statements,
		"DROP SCHEMA IF EXISTS "+warehouse.SchemaLanding+" CASCADE",
		"CHECKPOINT",
		"ATTACH "+quote(fresh)+" AS rewritten",
		"COPY FROM DATABASE "+quoteName(databaseName(path))+" TO rewritten",
		"CHECKPOINT rewritten",
		"DETACH rewritten")
	for _, statement := range statements {
		if err = d.run(ctx, conn, statement); err != nil {
			break
		}
	}
	return errors.Join(err, conn.Close(), connector.Close())
}

// databaseName is what DuckDB calls the database in a file.
func databaseName(path string) string {
	base := filepath.Base(path)
	return base[:len(base)-len(filepath.Ext(base))]
}

func quoteName(name string) string { return `"` + name + `"` }

// removeDatabase removes a database file and its log, if they are there.
func removeDatabase(path string) error {
	for _, name := range []string{path, path + ".wal"} {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
