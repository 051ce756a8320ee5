package runner

import (
	"context"
	"fmt"
	"strings"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// Preview runs what a model or a test asks and returns its first rows, over
// what is built of that which it reads. A seed, and what has no query of its
// own, is read as it is built; with built set, everything is. Nothing is written.
func (p *Project) Preview(ctx context.Context, d warehouse.Driver, name string, limit int, built bool) (warehouse.Rows, error) {
	node, ok := p.nodes[name]
	if !ok {
		return nil, &SelectionError{name, "there is no model, seed or test of this name: `sluis models ls` lists them"}
	}
	if built && (node.Kind == Test || node.Materialized == Ephemeral) {
		return nil, &SelectionError{name, "nothing is built of it: look at its query"}
	}
	if built || node.Kind == Seed || node.Materialized == Fixpoint {
		rows, err := discreet{d}.ReadOnly(ctx, fmt.Sprintf("select * from %s limit %d", relation(name), limit))
		return rows, p.toBuildFirst(ctx, d, node, relation(name), err)
	}
	query, err := p.compile(node, occasion{dialect: d.Dialect(), query: reading(ctx, discreet{d})})
	if err != nil {
		return nil, err
	}
	rows, err := discreet{d}.ReadOnly(ctx, fmt.Sprintf("select * from (\n%s\n) as shown limit %d", query, limit))
	return rows, p.toBuildFirst(ctx, d, node, "", err)
}

// PreviewText renders a query that is in no file, in which every model, seed,
// source and macro may be used, and returns its first rows.
func (p *Project) PreviewText(ctx context.Context, d warehouse.Driver, text string, limit int) (warehouse.Rows, error) {
	const file = "the query"
	node := &Node{Name: "inline", Kind: Model, Path: file, Materialized: Ephemeral, source: text, config: config{}}
	var problems []Problem
	if node.template, problems = p.engine.parse(file, text); len(problems) > 0 {
		return nil, Problems(problems).err()
	}
	seen := &references{}
	if _, err := node.template.render(scope{occasion: occasion{dialect: d.Dialect()}, project: p, node: node, seen: seen}.globals()); err != nil {
		return nil, err
	}
	node.DependsOn, node.sources = seen.nodes, seen.sources
	for _, on := range node.DependsOn {
		if target, ok := p.nodes[on]; !ok || target.Kind == Test {
			return nil, fmt.Errorf("%s: there is no model or seed %q to refer to", file, on)
		}
	}
	query, err := p.compile(node, occasion{dialect: d.Dialect(), query: reading(ctx, discreet{d})})
	if err != nil {
		return nil, err
	}
	// It stands alone, since what is around a query need not keep its order.
	rows, err := discreet{d}.ReadOnly(ctx, strings.TrimRight(query, "; \n\t"))
	if err != nil {
		return nil, p.toBuildFirst(ctx, d, node, "", err)
	}
	return &firstRows{rows, limit}, nil
}

// toBuildFirst says what is to be built before a query can be run that failed.
func (p *Project) toBuildFirst(ctx context.Context, d warehouse.Driver, node *Node, itself string, err error) error {
	if err == nil {
		return nil
	}
	missing := p.missing(ctx, d, node)
	if itself != "" {
		missing = []string{itself}
		if _, there := d.Columns(ctx, warehouse.SchemaModels, node.Name); there == nil {
			missing = nil
		}
	}
	if len(missing) == 0 {
		return err
	}
	return fmt.Errorf("%s is not built yet: build it first, as with `sluis models build --select +%s`", strings.Join(missing, ", "), strings.TrimPrefix(missing[0], warehouse.SchemaModels+"."))
}

// firstRows ends after so many rows.
type firstRows struct {
	warehouse.Rows
	left int
}

func (r *firstRows) Next() bool {
	r.left--
	return r.left >= 0 && r.Rows.Next()
}
