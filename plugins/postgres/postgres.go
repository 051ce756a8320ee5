// Package postgres keeps a table of a PostgreSQL database as a sync says. It
// alone imports pgx.
//
// A batch is one transaction, and so are the ids of its changes, which go into
// a ledger beside the table: a batch that is sent again, because its answer was
// lost or its host died, finds them there and changes nothing, even if other
// batches have been written since. Effects are exactly once.
//
// A row that PostgreSQL refuses, because a value does not fit or a constraint
// says so, is rejected alone: its batch is halved around it until all others
// are in. A deadlock, a serialization failure, a server that is shutting down:
// the batch is to be tried again as a whole.
//
// The table and its columns must exist. A row's key is the text that the model
// has, cast to the type of the key's column.
//
// Of PostgreSQL's own words none is repeated: they hold values. Codes are the
// names of its conditions, such as "not_null_violation".
package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/sluis-cdp/sluis/plugins/destination"
)

const maxRows = 10_000

// postgres is the destination. Open sets its fields.
type postgres struct {
	config  config
	conn    *pgx.Conn // nil after it broke, until the next call
	table   table
	loading loading
}

// New returns the destination.
func New() destination.Destination { return &postgres{} }

// Describe implements [destination.Destination].
func (*postgres) Describe() destination.Description {
	return destination.Description{
		Name:        "postgres",
		Version:     "1.0.0",
		Ops:         []destination.Op{destination.Upsert, destination.Remove},
		Granularity: destination.PerRow,
		Idempotent:  true,
		UpdateOnly:  true,
		MaxRows:     maxRows,
		Config:      fields(),
		EgressHosts: []string{"${url}"},
	}
}

// Validate implements [destination.Validator].
func (*postgres) Validate(values map[string]string) error {
	_, err := parseConfig(values, false)
	return err
}

// Open implements [destination.Destination]. It connects, reads the table's
// definition, and makes the ledger if there is none.
func (p *postgres) Open(ctx context.Context, values map[string]string) error {
	return p.open(ctx, values, false)
}

// OpenToUpdate implements [destination.Updater]: a row is found by its key alone,
// which then needs no unique index.
func (p *postgres) OpenToUpdate(ctx context.Context, values map[string]string) error {
	return p.open(ctx, values, true)
}

func (p *postgres) open(ctx context.Context, values map[string]string, updateOnly bool) error {
	c, err := parseConfig(values, updateOnly)
	if err != nil {
		return err
	}
	p.config, p.loading = c, sampled
	if err := p.connect(ctx); err != nil {
		return err
	}
	if p.table, err = inspect(ctx, p.conn, c); err == nil {
		err = makeLedger(ctx, p.conn, c)
	}
	if err != nil {
		p.drop()
	}
	return err
}

// connect makes sure that there is a connection.
func (p *postgres) connect(ctx context.Context) error {
	if p.config.connection == nil {
		return errors.New("the destination is not open")
	}
	if p.conn != nil && !p.conn.IsClosed() {
		return nil
	}
	conn, err := pgx.ConnectConfig(ctx, p.config.connection)
	if err != nil {
		return connectError(p.config, err)
	}
	p.conn = conn
	return nil
}

// drop gives the connection up: after an error nobody knows what is under way
// on it, and the server ends its transaction when it goes.
func (p *postgres) drop() {
	if p.conn != nil {
		ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
		defer cancel()
		_ = p.conn.Close(ctx)
		p.conn = nil
	}
}

// Check implements [destination.Checker]: may we do what writing needs?
func (p *postgres) Check(ctx context.Context) error {
	if err := p.connect(ctx); err != nil {
		return err
	}
	needs := []string{"SELECT", "INSERT", "UPDATE", "DELETE"}
	for _, t := range []struct {
		name  pgx.Identifier
		needs []string
	}{{p.config.table, p.needs()}, {p.config.ledger, needs}} {
		for _, right := range t.needs {
			var has bool
			if err := p.conn.QueryRow(ctx, "SELECT has_table_privilege($1::text::regclass, $2)", t.name.Sanitize(), right).Scan(&has); err != nil {
				return sqlError("ask for rights on "+t.name.Sanitize(), err)
			}
			if !has {
				return fmt.Errorf("the user may not %s: GRANT %s ON %s TO %s", right, right, t.name.Sanitize(), pgx.Identifier{p.config.connection.User}.Sanitize())
			}
		}
	}
	return nil
}

// needs lists the rights on the table that the configuration asks for.
func (p *postgres) needs() []string {
	rights := []string{"SELECT"}
	if !p.config.updateOnly {
		rights = append(rights, "INSERT")
	}
	rights = append(rights, "UPDATE")
	if !p.config.clears {
		rights = append(rights, "DELETE")
	}
	return rights
}

// DescribeTarget implements [destination.TargetDescriber]: the table's columns.
func (p *postgres) DescribeTarget(ctx context.Context) (destination.Target, error) {
	if err := p.connect(ctx); err != nil {
		return destination.Target{}, err
	}
	table, err := inspect(ctx, p.conn, p.config)
	if err != nil {
		return destination.Target{}, err
	}
	return table.target(p.config), nil
}

// Close implements [destination.Destination]. It forgets what the ledger need
// not remember any more.
func (p *postgres) Close(ctx context.Context) error {
	if p.conn == nil || p.conn.IsClosed() {
		p.conn = nil
		return nil
	}
	defer p.drop()
	_, err := p.conn.Exec(ctx, "DELETE FROM "+p.config.ledger.Sanitize()+" WHERE recorded_at < now() - $1::interval", ledgerKeeps)
	if err != nil {
		return sqlError("forget old entries of the ledger", err)
	}
	return nil
}

// Write implements [destination.Destination].
func (p *postgres) Write(ctx context.Context, batch destination.Batch) ([]destination.Result, error) {
	if len(batch.Changes) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, p.config.timeout)
	defer cancel()
	if err := p.connect(ctx); err != nil {
		return nil, err
	}
	if err := p.table.takes(batch.Columns, p.config); err != nil {
		return nil, err
	}
	w := &writing{conn: p.conn, config: p.config, table: p.table, loading: &p.loading, batch: batch, results: make([]destination.Result, len(batch.Changes))}
	err := w.run(ctx)
	if err == nil {
		return w.results, nil
	}
	p.drop()
	if code, ok := transient(err); ok && !w.committing {
		return destination.All(len(batch.Changes), destination.Result{
			Outcome: destination.Retry, Code: code, Message: "PostgreSQL rolled the batch back and may take it later",
		}), nil
	}
	return nil, err
}
