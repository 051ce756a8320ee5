package runner

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// Run builds the selected models and seeds, each after those it depends on,
// and skips what depends on one that failed. A table is replaced whole or not
// at all. An audience is published only if all of its members consent. What
// would exceed a budget of the Options is refused before it is run.
//
// The error tells why nothing could be run; what failed is in the Results.
func (p *Project) Run(ctx context.Context, d warehouse.Driver, selector string) (Results, error) {
	names, err := p.selected(selector, isBuilt)
	if err != nil {
		return nil, err
	}
	return p.executeAll(ctx, d, p.planOf(names))
}

// RunAnew is Run, but builds tables from nothing that grow or keep state: what
// they remember is lost.
func (p *Project) RunAnew(ctx context.Context, d warehouse.Driver, selector string) (Results, error) {
	anew := *p
	anew.options.FullRefresh, anew.forgets = true, true
	return anew.Run(ctx, d, selector)
}

// isBuilt tells a node that a run builds from a test.
func isBuilt(n *Node) bool { return n.Kind != Test }

// build makes one node in the warehouse.
func (p *Project) build(ctx context.Context, d warehouse.Driver, node *Node, there *inventory) (rows int64, message string, err error) {
	if err := ctx.Err(); err != nil {
		return -1, "", err
	}
	node = node.forRun()
	b := builder{ctx: ctx, d: d, node: node, types: p.types, inventory: there}
	if node.Kind == Seed {
		return b.seed()
	}
	if node.Materialized == Ephemeral {
		return -1, "", nil
	}
	incremental, err := p.adds(b)
	if err != nil {
		return -1, "", err
	}
	query, err := p.compile(node, occasion{d.Dialect(), incremental, reading(ctx, d), node.config})
	switch {
	case err != nil && incremental:
		return -1, "", fmt.Errorf("%w (if what it reads of itself changed, build it anew with --full-refresh)", err)
	case err != nil:
		return -1, "", err
	}
	if err := p.keep(node, query); err != nil {
		return -1, "", err
	}
	if node.Audience != nil {
		return b.audience(query)
	}
	switch node.Materialized {
	case View:
		return -1, "", b.view(query)
	case Incremental:
		if incremental {
			return b.add(query)
		}
	case Fixpoint:
		return b.fixpoint(query, p.refreshes(node))
	case Table, Ephemeral, SeedTable:
	}
	return b.table(query)
}

// adds tells whether a build would add to a table that is there.
func (p *Project) adds(b builder) (bool, error) {
	if b.node.Materialized != Incremental || p.refreshes(b.node) {
		return false, nil
	}
	existing, err := b.before()
	return existing == isTable, err
}

// keepsState tells that a table cannot be had again from what it is built of,
// so that it is not built anew: full_refresh is false, as in dbt.
func (n *Node) keepsState() bool { return n.config["full_refresh"] == false }

// refreshes tells whether a table that grows is to be built from nothing.
func (p *Project) refreshes(n *Node) bool {
	return p.options.FullRefresh && (p.forgets || !n.keepsState())
}

// forRun is the node with a config of its own, which a template may change in a
// run: config.partitions can be the result of a query.
func (n *Node) forRun() *Node {
	copied := *n
	copied.config = n.config.merge(nil)
	return &copied
}

// reading runs the queries of templates.
func reading(ctx context.Context, d warehouse.Driver) func(sql string) (answer, error) {
	return func(sql string) (answer, error) {
		rows, err := d.ReadOnly(ctx, sql)
		if err != nil {
			return answer{}, err
		}
		found := answer{columns: rows.Columns()}
		found.rows, err = warehouse.All(rows, nil)
		return found, err
	}
}

// keep writes compiled SQL to the target folder, if there is one.
func (p *Project) keep(node *Node, query string) error {
	if p.options.Target == "" {
		return nil
	}
	file := filepath.Join(p.options.Target, "compiled", filepath.FromSlash(p.compiledFile(node)))
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		return fmt.Errorf("keep compiled SQL: %w", err)
	}
	if err := os.WriteFile(file, []byte(query+"\n"), 0o600); err != nil {
		return fmt.Errorf("keep compiled SQL: %w", err)
	}
	return nil
}
