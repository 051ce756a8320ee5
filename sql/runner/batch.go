package runner

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// testBatches asks the generic tests of a model in one statement, all of which
// read that model and nothing else: a statement has a price of its own, in time
// and, where bytes are billed, in money.
type testBatches struct {
	*Project
	of map[string]*testBatch // by the name of each test that has company
}

// testBatch is the tests of one model. The first that is run asks for all, so
// that its time is theirs, too.
type testBatch struct {
	tests    []*Node
	once     sync.Once
	verdicts map[string]verdict // without those that must be asked by themselves
}

// batchTests puts those of some tests together that can be asked at once.
func (p *Project) batchTests(names []string) *testBatches {
	byModel := map[string]*testBatch{}
	batches := &testBatches{Project: p, of: map[string]*testBatch{}}
	for _, name := range names {
		node := p.nodes[name]
		if node.Kind != Test || node.test == nil || node.test.generic == "" || len(node.DependsOn) != 1 {
			continue
		}
		model := node.DependsOn[0]
		if byModel[model] == nil {
			byModel[model] = &testBatch{}
		}
		byModel[model].tests = append(byModel[model].tests, node)
	}
	for _, batch := range byModel {
		for _, node := range batch.tests {
			if len(batch.tests) > 1 {
				batches.of[node.Name] = batch
			}
		}
	}
	return batches
}

// verdict asks a test whose query is given, unless that was done.
func (b *testBatches) verdict(ctx context.Context, d warehouse.Driver, node *Node, query string) (verdict, error) {
	if batch := b.of[node.Name]; batch != nil {
		batch.once.Do(func() { batch.verdicts = b.askAll(ctx, d, batch.tests) })
		if v, ok := batch.verdicts[node.Name]; ok {
			return v, nil
		}
	}
	return ask(ctx, d, node.verdictQuery(query))
}

// askAll returns the verdicts of tests; none if something is wrong with one of
// them, which is told when it is asked by itself.
func (b *testBatches) askAll(ctx context.Context, d warehouse.Driver, tests []*Node) map[string]verdict {
	var parts []string
	for i, node := range tests {
		query, err := b.compile(node, occasion{dialect: d.Dialect(), query: reading(ctx, d)})
		if err != nil {
			return nil
		}
		parts = append(parts, fmt.Sprintf("select %s as test, v%d.* from (\n%s\n) as v%d", literal(d.Dialect(), node.Name), i, node.verdictQuery(query), i))
	}
	rows, err := warehouse.Collect(ctx, d, strings.Join(parts, "\nunion all\n"))
	if err != nil {
		return nil
	}
	verdicts := map[string]verdict{}
	for _, row := range rows {
		if name, ok := row[0].(string); ok {
			if v, err := verdictOf(row[1:]); err == nil {
				verdicts[name] = v
			}
		}
	}
	return verdicts
}
