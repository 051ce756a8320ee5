// Package warehouse is the seam between Sluis and the database that holds its
// data. [Driver] is what a database must offer; sql/duckdb implements it, and
// every driver passes the suite in warehousetest. The package also fixes the
// landing tables, which the collector writes and the models read.
//
// It imports no other part of the product.
package warehouse

import (
	"context"
	"errors"
	"time"
)

// The schemas (BigQuery: datasets) that Sluis uses. Who opens a warehouse finds
// them there: making one takes rights that daily work should not need.
const (
	SchemaLanding = "sluis"        // what the collector landed; see [Landing]
	SchemaModels  = "sluis_models" // what the models built
	SchemaSync    = "sluis_sync"   // the syncer's state, plans and deliveries
)

// Driver is an open warehouse. It is held for one run and closed, since an
// embedded warehouse can be open in one process at a time.
//
// All methods may be called concurrently, except Close.
type Driver interface {
	// Dialect names the SQL dialect as dbt's adapters do: "duckdb" or
	// "bigquery".
	Dialect() string

	// Exec runs one statement. Its effect is durable when it returns nil, and
	// absent when it returns an error: a statement is atomic. args are bound
	// to the placeholders "?" in order: nil, bool, integers, floats, string,
	// []byte, time.Time, []string, and json.RawMessage for what is compared
	// with or written to a JSON column.
	Exec(ctx context.Context, query string, args ...any) error

	// Query runs one statement that returns rows. The caller closes the Rows.
	Query(ctx context.Context, query string, args ...any) (Rows, error)

	// ReadOnly is Query for statements of unknown origin: anything but a
	// single statement that only reads is refused with [ErrNotReadOnly].
	ReadOnly(ctx context.Context, query string) (Rows, error)

	// Append adds rows to an existing table of the schema, all or none; each row
	// has a value for each named column, in that order. Durable on return.
	// It is for bulk: one call with many rows, not many calls with one.
	Append(ctx context.Context, schema, table string, columns []string, rows [][]any) error

	// Columns lists the columns of a table or view, in order, or
	// [ErrNoRelation].
	Columns(ctx context.Context, schema, relation string) ([]Column, error)

	// Describe lists the columns that a query would have, in order, without
	// running it; asking is free. Unlike those of Columns, the types are in the
	// warehouse's own words and exact: DuckDB tells HUGEINT from BIGINT, and
	// BigQuery, whose results have no parameters, says NUMERIC.
	Describe(ctx context.Context, query string) ([]Column, error)

	// Close releases the warehouse for other processes. No call follows it.
	Close() error
}

// Estimator tells what a statement would cost. It is optional: drivers of
// warehouses that bill by the byte offer it beside [Driver], as sql/bigquery
// does; one that does not, such as sql/duckdb, bills nothing.
//
// It may be called concurrently.
type Estimator interface {
	// EstimateBytes returns how many bytes one statement would process, over
	// what is there now. Nothing is run, and asking is free. args are those of
	// [Driver].Exec. A statement that the warehouse would refuse, such as one
	// about a relation that does not exist, is an error.
	//
	// The number is BigQuery's own, which it bills by: exact, but for clustered
	// tables, where it is an upper bound. What BigQuery bills at least, 10 MB for
	// each table that a statement reads, is not in it.
	EstimateBytes(ctx context.Context, query string, args ...any) (int64, error)
}

// Retainer tells what a warehouse itself keeps of deleted rows. It is optional,
// as [Estimator] is; a driver without keeps nothing once its file is rewritten.
type Retainer interface {
	// KeepsDeleted is for how long at most anybody, the warehouse's operator
	// included, can still bring back what is deleted now.
	KeepsDeleted(ctx context.Context) (time.Duration, error)
}

// Versioner tells whether anything landed. It is optional, as [Estimator] is; of a
// driver without, nobody can tell.
//
// It may be called concurrently.
type Versioner interface {
	// LandingVersion names what is in the landing tables, as this driver sees
	// them: while the name is the same, so are their rows. It is empty where that
	// cannot be told. Asking is free.
	LandingVersion(ctx context.Context) (string, error)
}

// Rows is the result of a query. It is used by one goroutine.
//
// Values are nil, bool, int64, float64, string, []byte, time.Time (UTC),
// []any for arrays and map[string]any for structs; decimals and JSON are
// strings. An array that is NULL may be an empty one: BigQuery keeps no other.
type Rows interface {
	Columns() []string
	// Next makes the next row current; false at the end or on an error.
	Next() bool
	// Row returns the current row. The slice is the caller's to keep.
	Row() []any
	// Err tells why Next ended early, if it did.
	Err() error
	Close() error
}

// Errors that drivers return, to be tested with errors.Is.
var (
	ErrNotReadOnly = errors.New("only a single statement that reads is allowed here")
	ErrNoRelation  = errors.New("no such table or view")
)

// Collect reads all rows of a query into memory. For results that are known
// to be small.
func Collect(ctx context.Context, d Driver, query string, args ...any) ([][]any, error) {
	return All(d.Query(ctx, query, args...))
}

// All reads all rows of a result, if there is no error yet, and closes it.
func All(rows Rows, err error) ([][]any, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // reading: Err has the verdict
	var all [][]any
	for rows.Next() {
		all = append(all, rows.Row())
	}
	return all, rows.Err()
}
