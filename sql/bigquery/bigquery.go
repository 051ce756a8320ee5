// Package bigquery is the warehouse in production: three datasets of one
// Google Cloud project, reached through the official client.
//
// Every statement is a job whose id is made here, so that sending it again
// after a lost answer finds the job instead of running it twice, and so that
// it can be cancelled at the server when its context ends. Jobs carry labels,
// the location and a ceiling of billed bytes.
//
// Statements name relations as schema.relation, as on every other warehouse;
// names without a schema are models. There is no prefix for the datasets'
// names: it would have to be woven into all SQL, and two workspaces are better
// kept apart by two projects, which have separate rights and bills as well.
package bigquery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"cloud.google.com/go/bigquery"
	"google.golang.org/api/googleapi"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// Config says which project to use, as whom, and within which bounds.
type Config struct {
	// Project pays for the jobs and holds the datasets.
	Project string

	// Location is where the datasets are, such as "EU" or "europe-west4". It has
	// no default, since BigQuery's own is the United States.
	Location string

	// Endpoint is the URL of an emulator's REST server. With it there is no
	// authentication. Empty means Google.
	Endpoint string

	// StorageEndpoint is the address (host:port) of an emulator's gRPC server,
	// for reading large results. Without it an emulator is read page by page.
	StorageEndpoint string

	// CredentialsFile and Impersonate say as whom; see package identity.
	CredentialsFile string
	Impersonate     string

	// Labels are on every job: lower-case letters, digits, _ and -.
	Labels map[string]string

	// MaxBytesBilled is the ceiling of each query: BigQuery refuses, free of
	// charge, one that would bill more. Zero leaves the project's own. Estimates
	// are made of any query.
	MaxBytesBilled int64

	// Timeout bounds each statement, also at the server should this process be
	// gone. Zero leaves BigQuery's own limit of six hours.
	Timeout time.Duration

	// Logger is told of each job at level debug; never its SQL or values. Nil
	// means silence.
	Logger *slog.Logger
}

// Open returns a driver for a project that [Setup] has prepared. It makes no
// call yet: what is wrong with the rights, or missing, the first statement
// tells.
func Open(ctx context.Context, config Config) (warehouse.Driver, error) {
	d, err := open(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open BigQuery: %w", err)
	}
	return d, nil
}

// db is an open warehouse. It keeps no state of its own between calls.
type db struct {
	config Config
	client *bigquery.Client

	// storage is a second client, whose results come from the Storage Read API:
	// faster by far for many rows, slower for few. Nil where there is none.
	storage *bigquery.Client

	log *slog.Logger
}

var (
	_ warehouse.Driver    = (*db)(nil)
	_ warehouse.Estimator = (*db)(nil)
)

func (*db) Dialect() string { return "bigquery" }

func (d *db) Exec(ctx context.Context, query string, args ...any) error {
	statement, err := prepare(query, args)
	if err != nil {
		return err
	}
	ctx, cancel := d.bound(ctx)
	defer cancel()
	_, err = d.run(ctx, "exec", d.queryJob(statement))
	return err
}

func (d *db) Query(ctx context.Context, query string, args ...any) (warehouse.Rows, error) {
	statement, err := prepare(query, args)
	if err != nil {
		return nil, err
	}
	return d.query(ctx, statement)
}

// ReadOnly has two guards. BigQuery's own word on what kind of statement it is
// comes from a dry run. Before that the text itself is looked at, since an
// emulator's word is worth less. Rights are the third, and not ours to give.
func (d *db) ReadOnly(ctx context.Context, query string) (warehouse.Rows, error) {
	if err := checkReads(query); err != nil {
		return nil, fmt.Errorf("%w: %w", warehouse.ErrNotReadOnly, err)
	}
	statement, err := prepare(query, nil)
	if err != nil {
		return nil, err
	}
	statistics, err := d.dryRun(ctx, statement)
	if err != nil {
		return nil, err
	}
	if statistics.kind != "SELECT" {
		return nil, fmt.Errorf("%w: this is %s", warehouse.ErrNotReadOnly, statistics.kind)
	}
	return d.query(ctx, statement)
}

// largeResult is the number of rows from which a Storage Read session, which
// takes about half a second to make, is worth it.
const largeResult = 50_000

// query runs a statement and opens its result. The rows live as long as its
// context, which their Close ends.
func (d *db) query(ctx context.Context, statement statement) (_ warehouse.Rows, err error) {
	ctx, cancel := d.bound(ctx)
	defer func() {
		if err != nil {
			cancel()
		}
	}()
	job, err := d.run(ctx, "query", d.queryJob(statement))
	if err != nil {
		return nil, err
	}
	result, err := job.Read(ctx)
	if err != nil {
		return nil, d.explain(ctx, err, job.ID())
	}
	if d.storage != nil && result.TotalRows >= largeResult {
		same, err := d.storage.JobFromIDLocation(ctx, job.ID(), job.Location())
		if err != nil {
			return nil, d.explain(ctx, err, job.ID())
		}
		// Without the right to make read sessions the client falls back to pages.
		if result, err = same.Read(ctx); err != nil {
			return nil, d.explain(ctx, err, job.ID())
		}
	}
	d.log.DebugContext(ctx, "bigquery result", "job_id", job.ID(), "rows", result.TotalRows, "storage_read", result.IsAccelerated())
	return &rows{
		result: result,
		names:  columnNames(result.Schema),
		cancel: cancel,
		explain: func(err error) error {
			return d.explain(ctx, err, job.ID())
		},
	}, nil
}

func (d *db) EstimateBytes(ctx context.Context, query string, args ...any) (int64, error) {
	statement, err := prepare(query, args)
	if err != nil {
		return 0, err
	}
	statistics, err := d.dryRun(ctx, statement)
	return statistics.bytes, err
}

// dryRunResult is what BigQuery says about a query that it did not run.
type dryRunResult struct {
	kind   string // such as SELECT, INSERT, SCRIPT
	bytes  int64
	schema bigquery.Schema // of a query's rows
}

func (d *db) dryRun(ctx context.Context, statement statement) (dryRunResult, error) {
	ctx, cancel := d.bound(ctx)
	defer cancel()
	query := d.newQuery(statement)
	query.DryRun = true
	query.MaxBytesBilled = 0 // what is above the ceiling is to be told, not refused
	job, err := query.Run(ctx)
	if err != nil {
		return dryRunResult{}, d.explain(ctx, err, "")
	}
	status := job.LastStatus()
	if status == nil || status.Statistics == nil {
		return dryRunResult{}, errors.New("BigQuery answered a dry run without statistics")
	}
	result := dryRunResult{bytes: status.Statistics.TotalBytesProcessed}
	if details, ok := status.Statistics.Details.(*bigquery.QueryStatistics); ok {
		result.kind, result.schema = details.StatementType, details.Schema
	}
	return result, nil
}

func (d *db) Columns(ctx context.Context, schema, relation string) ([]warehouse.Column, error) {
	fields, err := d.fields(ctx, schema, relation)
	if err != nil {
		return nil, fmt.Errorf("%s.%s: %w", schema, relation, err)
	}
	return columnsOf(fields), nil
}

func columnsOf(fields bigquery.Schema) []warehouse.Column {
	columns := make([]warehouse.Column, len(fields))
	for i, field := range fields {
		columns[i] = warehouse.Column{Name: field.Name, Type: typeOf(field)}
	}
	return columns
}

func (d *db) Describe(ctx context.Context, query string) ([]warehouse.Column, error) {
	if err := checkReads(query); err != nil {
		return nil, fmt.Errorf("%w: %w", warehouse.ErrNotReadOnly, err)
	}
	statement, err := prepare(query, nil)
	if err != nil {
		return nil, err
	}
	result, err := d.dryRun(ctx, statement)
	if err != nil {
		return nil, err
	}
	if len(result.schema) == 0 {
		return nil, errors.New("BigQuery answered a dry run without a schema")
	}
	return columnsOf(result.schema), nil
}

func (d *db) fields(ctx context.Context, schema, relation string) (bigquery.Schema, error) {
	ctx, cancel := d.bound(ctx)
	defer cancel()
	metadata, err := d.client.Dataset(schema).Table(relation).Metadata(ctx, bigquery.WithMetadataView(bigquery.BasicMetadataView))
	if isStatus(err, http.StatusNotFound) {
		return nil, warehouse.ErrNoRelation
	}
	if err != nil {
		return nil, d.explain(ctx, err, "")
	}
	return metadata.Schema, nil
}

func (d *db) Close() error {
	err := d.client.Close()
	if d.storage != nil {
		err = errors.Join(err, d.storage.Close())
	}
	return err
}

// bound gives a call its time.
func (d *db) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if d.config.Timeout > 0 {
		return context.WithTimeout(ctx, d.config.Timeout)
	}
	return context.WithCancel(ctx)
}

func isStatus(err error, code int) bool {
	var answer *googleapi.Error
	return errors.As(err, &answer) && answer.Code == code
}
