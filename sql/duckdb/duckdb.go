// Package duckdb is the embedded warehouse: one DuckDB file for what the
// models and the syncer keep, and views over the Parquet files that the
// collector landed.
//
// DuckDB lets one process at a time write to a file, and its own lock is a
// POSIX lock, which the kernel drops as soon as the holder closes any other
// descriptor of the file. So the package guards the file with a lock of its
// own, beside it, and nothing in the holding process may open the file by
// other means.
package duckdb

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/duckdb/duckdb-go/v2"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// Config says which warehouse to open, and within which bounds.
type Config struct {
	// Path is the database file. It and its folder are created as needed.
	Path string

	// Landing is the folder of landed Parquet files,
	//
	//	<Landing>/dt=YYYY-MM-DD/<spool_id>-<first>-<last>/<table>.parquet
	//
	// with first and last (exclusive) the range of the spool's sequence
	// numbers that the files hold, as 20 decimal digits. Empty means none.
	Landing string

	// MemoryLimit bounds DuckDB's memory, such as "2GB"; empty leaves its
	// default of 80 % of the machine. Beyond it, queries spill to disk.
	MemoryLimit string

	// Threads bounds DuckDB's threads; zero means one per processor.
	Threads int

	// Holder is what this process is doing, such as "sluis models run". Others
	// who have to wait are told.
	Holder string

	// OnWait, if set, is called once if Open has to wait for another process.
	OnWait func(holder string)
}

// searchPath resolves unqualified names: models first, so that a new table
// lands there.
const searchPath = warehouse.SchemaModels + "," + warehouse.SchemaLanding + "," + warehouse.SchemaSync

// Open opens the warehouse. It waits until no other process has it open, or
// ctx ends. Files that land after Open are not seen until the next one.
func Open(ctx context.Context, config Config) (warehouse.Driver, error) {
	path, err := filepath.Abs(config.Path)
	if err != nil {
		return nil, fmt.Errorf("open warehouse: %w", err)
	}
	if config.Path == "" || strings.ContainsAny(path, "?%") {
		return nil, fmt.Errorf("open warehouse: the path %q cannot hold a database: choose one without ? and %%", config.Path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("open warehouse: %w", err)
	}
	wait := waiter{onWait: config.OnWait}
	lock, err := acquire(ctx, path+".lock", config.Holder, &wait)
	if err != nil {
		return nil, fmt.Errorf("open warehouse %s: %w", path, err)
	}
	d, err := open(ctx, path, config, &wait)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open warehouse %s: %w", path, err), lock.release())
	}
	d.lock = lock
	return d, nil
}

func open(ctx context.Context, path string, config Config, wait *waiter) (*db, error) {
	landed, err := findLanded(config.Landing)
	if err != nil {
		return nil, err
	}
	connector, err := connect(ctx, path, wait)
	if err != nil {
		return nil, err
	}
	d := &db{connector: connector, writing: make(chan struct{}, 1), version: landed.version}
	if err := d.setUp(ctx, path, config, landed); err != nil {
		return nil, errors.Join(err, connector.Close())
	}
	return d, nil
}

// connect opens the file, and retries while a program that does not know our
// lock, such as DuckDB's shell, has it open.
func connect(ctx context.Context, path string, wait *waiter) (*duckdb.Connector, error) {
	for {
		connector, err := duckdb.NewConnector(path, nil)
		var refused *duckdb.Error
		if err == nil || !errors.As(err, &refused) || !strings.Contains(refused.Msg, "Could not set lock on file") {
			return connector, err
		}
		if err := wait.retry(ctx, "another program, which has the database file open"); err != nil {
			return nil, err
		}
	}
}

// setUp brings a just opened database into the state that everybody relies on.
// Order matters: the files to be read are named before access to others ends.
func (d *db) setUp(ctx context.Context, path string, config Config, landed landedFiles) error {
	settings := []string{
		"SET GLOBAL TimeZone = 'UTC'",
		"SET autoinstall_known_extensions = false",
		"SET autoload_known_extensions = false",
		// No model depends on the order of rows, and keeping it costs memory.
		"SET preserve_insertion_order = false",
		"SET temp_directory = " + quote(path+".tmp"),
	}
	if config.MemoryLimit != "" {
		settings = append(settings, "SET memory_limit = "+quote(config.MemoryLimit))
	}
	if config.Threads > 0 {
		settings = append(settings, fmt.Sprintf("SET threads = %d", config.Threads))
	}
	for _, schema := range []string{warehouse.SchemaLanding, warehouse.SchemaModels, warehouse.SchemaSync} {
		settings = append(settings, "CREATE SCHEMA IF NOT EXISTS "+schema)
	}
	if landed.root != "" {
		settings = append(settings, "SET allowed_directories = ["+quote(landed.root+string(filepath.Separator))+"]")
	}
	settings = append(settings,
		"SET enable_external_access = false",
		"SET lock_configuration = true")

	conn, err := d.connector.Connect(ctx)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close() //nolint:errcheck // in memory
	for _, statement := range settings {
		if err := d.run(ctx, conn.(*duckdb.Conn), statement); err != nil {
			return fmt.Errorf("set up: %w", err)
		}
	}
	for _, table := range warehouse.Landing() {
		if err := d.createView(ctx, conn.(*duckdb.Conn), table, landed.files[table.Name]); err != nil {
			return fmt.Errorf("read what landed in %s: %w", table.Name, err)
		}
	}
	return nil
}

// db is an open warehouse. Each call has a connection of its own, which costs
// microseconds, and keeps calls apart without a pool.
type db struct {
	connector *duckdb.Connector
	lock      *fileLock

	// writing holds a token while a statement writes. DuckDB's concurrency is
	// optimistic: of two writers to one table the second would fail.
	writing chan struct{}

	version string // of what had landed when it was opened
}

func (*db) Dialect() string { return "duckdb" }

// LandingVersion implements [warehouse.Versioner]: the files that Open found.
func (d *db) LandingVersion(context.Context) (string, error) { return d.version, nil }

func (d *db) Exec(ctx context.Context, query string, args ...any) error {
	rows, err := d.Query(ctx, query, args...)
	if err != nil {
		return err
	}
	return rows.Close()
}

func (d *db) Query(ctx context.Context, query string, args ...any) (warehouse.Rows, error) {
	conn, err := d.conn(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := d.query(ctx, conn, query, args)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return rows, nil
}

func (d *db) query(ctx context.Context, conn *duckdb.Conn, query string, args []any) (warehouse.Rows, error) {
	statement, kind, err := prepare(conn, query)
	if err != nil {
		return nil, err
	}
	switch kind { //nolint:exhaustive // every other kind stands alone
	case duckdb.STATEMENT_TYPE_TRANSACTION:
		return nil, errors.Join(errTransaction, statement.Close())
	case duckdb.STATEMENT_TYPE_SELECT:
		return fetch(ctx, conn, statement, query, args)
	}
	if err := d.lockWriting(ctx); err != nil {
		return nil, errors.Join(err, statement.Close())
	}
	defer d.unlockWriting() // the result is complete when fetch returns
	return fetch(ctx, conn, statement, query, args)
}

func (d *db) ReadOnly(ctx context.Context, query string) (warehouse.Rows, error) {
	conn, err := d.conn(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := d.readOnly(ctx, conn, query)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return rows, nil
}

// readOnly has two guards: the kind of statement, which keeps out those that
// change something other than the database, and a transaction that cannot
// write. Closing conn ends the transaction.
func (d *db) readOnly(ctx context.Context, conn *duckdb.Conn, query string) (warehouse.Rows, error) {
	if err := d.run(ctx, conn, "BEGIN TRANSACTION READ ONLY"); err != nil {
		return nil, err
	}
	if !startsAsQuery(query) {
		return nil, warehouse.ErrNotReadOnly
	}
	statement, kind, err := prepare(conn, query)
	if errors.Is(err, errNotOneStatement) {
		return nil, fmt.Errorf("%w: %w", warehouse.ErrNotReadOnly, err)
	}
	if err != nil {
		return nil, err
	}
	if kind != duckdb.STATEMENT_TYPE_SELECT {
		return nil, errors.Join(warehouse.ErrNotReadOnly, statement.Close())
	}
	rows, err := fetch(ctx, conn, statement, query, nil)
	if err != nil && strings.Contains(err.Error(), "read-only mode") {
		return nil, fmt.Errorf("%w: %w", warehouse.ErrNotReadOnly, err)
	}
	return rows, err
}

func (d *db) Append(ctx context.Context, schema, table string, columns []string, rows [][]any) error {
	kinds, err := d.kinds(ctx, schema, table, columns)
	if err != nil {
		return fmt.Errorf("append to %s.%s: %w", schema, table, err)
	}
	if err := d.lockWriting(ctx); err != nil {
		return err
	}
	defer d.unlockWriting()
	conn, err := d.conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // ends a transaction that did not commit
	if err := d.run(ctx, conn, "BEGIN TRANSACTION"); err != nil {
		return err
	}
	if err := appendRows(ctx, conn, schema, table, columns, kinds, rows); err != nil {
		return fmt.Errorf("append to %s.%s: %w", schema, table, err)
	}
	return d.run(ctx, conn, "COMMIT")
}

// kinds looks up the types of the columns to be appended to.
func (d *db) kinds(ctx context.Context, schema, table string, columns []string) ([]warehouse.Type, error) {
	existing, err := d.Columns(ctx, schema, table)
	if err != nil {
		return nil, err
	}
	byName := make(map[string]warehouse.Type, len(existing))
	for _, column := range existing {
		byName[strings.ToLower(column.Name)] = column.Type
	}
	kinds := make([]warehouse.Type, len(columns))
	for i, name := range columns {
		kind, ok := byName[strings.ToLower(name)]
		if !ok {
			return nil, fmt.Errorf("there is no column %q", name)
		}
		kinds[i] = kind
	}
	return kinds, nil
}

func appendRows(ctx context.Context, conn *duckdb.Conn, schema, table string, columns []string, kinds []warehouse.Type, rows [][]any) error {
	appender, err := duckdb.NewAppenderWithColumns(conn, "", schema, table, columns)
	if err != nil {
		return err
	}
	values := make([]driver.Value, len(columns))
	for n, row := range rows {
		if n%1024 == 0 && ctx.Err() != nil {
			return abandon(appender, ctx.Err())
		}
		if len(row) != len(columns) {
			return abandon(appender, fmt.Errorf("row %d has %d values for %d columns", n, len(row), len(columns)))
		}
		for i, value := range row {
			values[i], err = toAppend(value, kinds[i])
			if err != nil {
				return abandon(appender, fmt.Errorf("row %d, column %s: %w", n, columns[i], err))
			}
		}
		if err := appender.AppendRow(values...); err != nil {
			return abandon(appender, fmt.Errorf("row %d: %w", n, err))
		}
	}
	return appender.Close()
}

// abandon releases an appender whose rows the caller rolls back.
func abandon(appender *duckdb.Appender, cause error) error {
	appender.Close() //nolint:errcheck // cause is what went wrong
	return cause
}

func (d *db) Columns(ctx context.Context, schema, relation string) ([]warehouse.Column, error) {
	rows, err := warehouse.Collect(ctx, d, `
		SELECT column_name, data_type FROM duckdb_columns()
		WHERE database_name = current_database() AND schema_name = lower(?) AND lower(table_name) = lower(?)
		ORDER BY column_index`, schema, relation)
	if err != nil {
		return nil, fmt.Errorf("columns of %s.%s: %w", schema, relation, err)
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("%s.%s: %w", schema, relation, warehouse.ErrNoRelation)
	}
	columns := make([]warehouse.Column, len(rows))
	for i, row := range rows {
		columns[i] = warehouse.Column{Name: row[0].(string), Type: fromDuckDB(row[1].(string))}
	}
	return columns, nil
}

func (d *db) Describe(ctx context.Context, query string) ([]warehouse.Column, error) {
	if !startsAsQuery(query) {
		return nil, warehouse.ErrNotReadOnly
	}
	rows, err := warehouse.Collect(ctx, d, "SELECT column_name, column_type FROM (DESCRIBE\n"+query+"\n)")
	if err != nil {
		return nil, fmt.Errorf("describe a query: %w", err)
	}
	columns := make([]warehouse.Column, len(rows))
	for i, row := range rows {
		columns[i] = warehouse.Column{Name: row[0].(string), Type: warehouse.Type(row[1].(string))}
	}
	return columns, nil
}

func (d *db) Close() error {
	return errors.Join(d.connector.Close(), d.lock.release())
}

func (d *db) lockWriting(ctx context.Context) error {
	select {
	case d.writing <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d *db) unlockWriting() { <-d.writing }

// conn opens a connection. The search path belongs to the connection, unlike
// all other settings.
func (d *db) conn(ctx context.Context) (*duckdb.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c, err := d.connector.Connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to the warehouse: %w", err)
	}
	conn := c.(*duckdb.Conn)
	if err := d.run(ctx, conn, "SET search_path = '"+searchPath+"'"); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// run executes a statement of this package's own.
func (*db) run(ctx context.Context, conn *duckdb.Conn, statement string) error {
	_, err := conn.ExecContext(ctx, statement, nil)
	return err
}

// waiter paces retries and reports the first one.
type waiter struct {
	onWait func(holder string)
	told   bool
}

const retryEvery = 50 * time.Millisecond

func (w *waiter) retry(ctx context.Context, holder string) error {
	if !w.told && w.onWait != nil {
		w.onWait(holder)
	}
	w.told = true
	timer := time.NewTimer(retryEvery)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waited for %s: %w", holder, ctx.Err())
	}
}

// quote writes a string literal.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
