package runner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// Estimate is what a build of a node would process.
type Estimate struct {
	Name         string
	Kind         Kind
	Path         string
	Materialized Materialization

	// Bytes is what the statements of a build would process, as far as that can
	// be told before it; -1 if it cannot.
	Bytes int64

	// AtLeast is set if there will be more: the build reads tables of its own
	// making, or goes in rounds.
	AtLeast bool

	// Stale is set if the node reads what the same run would build first, while
	// the estimate is about what is there now.
	Stale bool

	// Missing are the relations that the node reads and that are not there yet,
	// which is why Bytes is not known.
	Missing []string

	// Err is why else Bytes is not known.
	Err error

	// Budget is how many bytes the node may process in a run; zero is no bound.
	Budget int64
}

// Estimate tells what Run would process with the same selector, in the same
// order, by the warehouse's own estimates. All that it runs is a look into the
// catalog, if a model is incremental, and the queries that templates ask, which
// are billed: which days are affected is known only once that was asked. Tests
// are not part of Run. On a warehouse that bills nothing, which is one without a
// [warehouse.Estimator], all of it is zero.
//
// The error tells why nothing could be estimated; what is wrong with a node is
// in its Estimate.
func (p *Project) Estimate(ctx context.Context, d warehouse.Driver, selector string) ([]Estimate, error) {
	names, err := p.selected(selector, isBuilt)
	if err != nil {
		return nil, err
	}
	estimates, there := make([]Estimate, len(names)), &inventory{}
	var group errgroup.Group
	group.SetLimit(max(p.options.Threads, 1))
	for i, name := range names {
		group.Go(func() error {
			estimates[i] = p.estimate(ctx, d, p.nodes[name], there)
			estimates[i].Stale = p.readsAny(p.nodes[name], names)
			return ctx.Err()
		})
	}
	return estimates, group.Wait()
}

// estimate estimates one node.
func (p *Project) estimate(ctx context.Context, d warehouse.Driver, node *Node, there *inventory) Estimate {
	e := Estimate{Name: node.Name, Kind: node.Kind, Path: node.Path, Materialized: node.Materialized, Budget: p.budgetOf(node).limit}
	estimator, bills := d.(warehouse.Estimator)
	if !bills {
		return e
	}
	statements, more, err := p.outline(ctx, d, node, there)
	e.AtLeast = more
	for _, statement := range statements {
		if err != nil {
			break
		}
		var bytes int64
		bytes, err = estimator.EstimateBytes(ctx, statement)
		e.Bytes += bytes
	}
	if err == nil {
		return e
	}
	e.Bytes, e.AtLeast = -1, false
	if e.Missing = p.missing(ctx, d, node); len(e.Missing) == 0 {
		e.Err = err
	}
	return e
}

// outline lists what [Project.build] would run for a node and is billed for,
// as far as it can be told before. A row of NULLs stands for each table that
// the build would make for itself and read again; then more is true.
func (p *Project) outline(ctx context.Context, d warehouse.Driver, node *Node, there *inventory) (statements []string, more bool, err error) {
	switch node.Materialized { //nolint:exhaustive // all others have a query that is run
	case Ephemeral:
		return nil, false, nil
	case SeedTable:
		return nil, true, nil // its rows, once they are loaded
	}
	node = node.forRun()
	b := builder{ctx: ctx, d: d, node: node, inventory: there}
	incremental, err := p.adds(b)
	if err != nil {
		return nil, false, err
	}
	// What a template asks is known only once it was asked, and is billed as in
	// a build.
	asked := func(sql string) (answer, error) {
		statements = append(statements, sql)
		return reading(ctx, d)(sql)
	}
	query, err := p.compile(node, occasion{d.Dialect(), incremental, asked, node.config})
	if err != nil {
		return nil, false, err
	}
	statements = append(statements, query)
	switch {
	case node.Audience != nil:
		nobody := standIn(d.Dialect(), []warehouse.Column{{Name: node.Audience.key(), Type: warehouse.String}})
		return append(statements, node.Audience.consentQuery(d.Dialect(), nobody)), true, nil
	case node.Materialized == View:
		return nil, false, nil // who reads it pays for it
	case node.Materialized == Fixpoint:
		spec, err := fixpointOf(node.Meta)
		if err != nil {
			return nil, false, err
		}
		if on, err := b.goesOn(spec, p.refreshes(node)); err != nil {
			return nil, false, err
		} else if on {
			statements[len(statements)-1] = b.differing("\n" + query + "\n") // it may end in a comment
		}
		return statements, true, nil
	case incremental && node.config.text("incremental_strategy") == insertOverwrite:
		if days := asTexts(node.config["partitions"]); len(days) > 0 {
			where := replaced{constants: days}.contains(d.Dialect(), *node.partitioning, "t.")
			statements = append(statements, "select * from "+relation(node.Name)+" as t where "+where)
		}
		return statements, true, nil
	case incremental:
		columns, err := d.Columns(ctx, warehouse.SchemaModels, node.Name)
		if err != nil {
			return nil, false, err
		}
		return append(statements, b.addition(standIn(d.Dialect(), columns), namesOf(columns))), true, nil
	}
	return statements, false, nil
}

// standIn is a query of one row of NULLs, as statements name a relation.
func standIn(dialect string, columns []warehouse.Column) string {
	values := quoteAll(dialect, namesOf(columns))
	for i, column := range columns {
		values[i] = fmt.Sprintf("cast(null as %s) as %s", column.Type.In(dialect), values[i])
	}
	return "(select " + strings.Join(values, ", ") + ")"
}

// readsAny tells whether a node reads what a run of some nodes builds. Through
// an ephemeral model it reads what that reads.
func (p *Project) readsAny(node *Node, names []string) bool {
	return slices.ContainsFunc(node.DependsOn, func(on string) bool {
		if target := p.nodes[on]; target.Materialized == Ephemeral {
			return p.readsAny(target, names)
		}
		return slices.Contains(names, on)
	})
}

// missing lists the relations that a node reads and the warehouse lacks.
func (p *Project) missing(ctx context.Context, d warehouse.Driver, node *Node) []string {
	var missing []string
	look := func(schema, name string) {
		if _, err := d.Columns(ctx, schema, name); errors.Is(err, warehouse.ErrNoRelation) {
			missing = append(missing, schema+"."+name)
		}
	}
	for _, name := range node.sources {
		look(p.sources[name].schema, p.sources[name].table)
	}
	for _, on := range node.DependsOn {
		if target := p.nodes[on]; target.Materialized == Ephemeral {
			missing = append(missing, p.missing(ctx, d, target)...)
		} else {
			look(warehouse.SchemaModels, on)
		}
	}
	slices.Sort(missing)
	return slices.Compact(missing)
}
