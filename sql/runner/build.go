package runner

import (
	"context"
	"slices"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// Build runs and tests the selected nodes in one order: each model and seed
// after those it depends on and after their tests. A test that fails, unless it
// only warns, has all that is made of what it read skipped, so that nothing is
// built of data that is known to be wrong.
//
// The members of an audience are checked as it is built. All else is as in
// [Project.Run].
func (p *Project) Build(ctx context.Context, d warehouse.Driver, selector string) (Results, error) {
	names, err := p.selected(selector, func(*Node) bool { return true })
	if err != nil {
		return nil, err
	}
	pl := p.planOf(names)
	p.gate(pl)
	return p.executeAll(ctx, d, pl)
}

// Seed builds the selected seeds.
func (p *Project) Seed(ctx context.Context, d warehouse.Driver, selector string) (Results, error) {
	names, err := p.selected(selector, func(n *Node) bool { return n.Kind == Seed })
	if err != nil {
		return nil, err
	}
	return p.executeAll(ctx, d, p.planOf(names))
}

// executeAll does a plan within the run's budget.
func (p *Project) executeAll(ctx context.Context, d warehouse.Driver, pl plan) (Results, error) {
	run, there := &allowance{kind: RunBudget, limit: p.options.Budget.Run}, &inventory{}
	batches := p.batchTests(pl.names)
	results := p.execute(pl, func(node *Node) NodeResult {
		if node.Kind == Test {
			return p.runTest(ctx, d, node, batches)
		}
		return p.buildWithin(ctx, d, node, run, there)
	})
	return results, ctx.Err()
}

// selected lists the nodes that a selector picks of those wanted, in their order.
func (p *Project) selected(selector string, wanted func(*Node) bool) ([]string, error) {
	picked, err := p.pick(selector)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(p.order), func(name string) bool { return !picked[name] || !wanted(p.nodes[name]) }), nil
}
