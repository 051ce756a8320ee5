package runner

import (
	"slices"
	"sync/atomic"
)

// plan is what a run does: nodes in an order in which they can be done, and for
// each the others of them that it waits for.
type plan struct {
	names []string
	after map[string][]string
}

// planOf plans nodes by what they read, also through nodes that are not in it.
func (p *Project) planOf(names []string) plan {
	included := selection{}
	for _, name := range names {
		included[name] = true
	}
	pl := plan{names: names, after: map[string][]string{}}
	for _, name := range names {
		if p.nodes[name].isUnitTest() {
			continue
		}
		seen := selection{}
		var look func(string)
		look = func(at string) {
			for _, on := range p.nodes[at].DependsOn {
				if seen[on] {
					continue
				}
				seen[on] = true
				if included[on] {
					pl.after[name] = append(pl.after[name], on)
				} else {
					look(on)
				}
			}
		}
		look(name)
	}
	p.planUnitTests(pl, included)
	return pl
}

// planUnitTests puts unit tests before the models that they test, and after what
// these read, which may tell them the types of columns.
func (p *Project) planUnitTests(pl plan, included selection) {
	for _, name := range pl.names {
		if node := p.nodes[name]; node.isUnitTest() {
			model := node.test.unit.model
			pl.after[name] = slices.Clone(pl.after[model])
			if !included[model] {
				for _, on := range p.nodes[model].DependsOn {
					if included[on] {
						pl.after[name] = append(pl.after[name], on)
					}
				}
			}
		}
	}
	for _, name := range pl.names {
		if node := p.nodes[name]; node.isUnitTest() && included[node.test.unit.model] {
			pl.after[node.test.unit.model] = append(pl.after[node.test.unit.model], name)
		}
	}
}

// gate has nodes wait for the tests of what they depend on: for those that read
// nothing else, as in dbt.
func (p *Project) gate(pl plan) {
	tests := slices.DeleteFunc(slices.Clone(pl.names), func(name string) bool {
		node := p.nodes[name]
		return node.Kind != Test || len(node.DependsOn) == 0 || node.isUnitTest()
	})
	for _, name := range pl.names {
		if p.nodes[name].Kind == Test {
			continue
		}
		above := selection{}
		p.above(name, above)
		for _, test := range tests {
			if !slices.ContainsFunc(p.nodes[test].DependsOn, func(on string) bool { return !above[on] }) {
				pl.after[name] = append(pl.after[name], test)
			}
		}
	}
}

// above adds all that a node depends on.
func (p *Project) above(name string, into selection) {
	for _, on := range p.nodes[name].DependsOn {
		if !into[on] {
			into[on] = true
			p.above(on, into)
		}
	}
}

// execute does a plan, at most Threads nodes at once. What waits for one that
// failed is skipped; with FailFast, all that was not begun is.
func (p *Project) execute(pl plan, do func(*Node) NodeResult) Results {
	e := execution{Project: p, plan: pl, waiting: map[string]int{}, children: map[string][]string{}, blocked: map[string]string{}}
	ready := make(chan string, len(pl.names))
	for _, name := range pl.names {
		e.waiting[name] = len(pl.after[name])
		for _, on := range pl.after[name] {
			e.children[on] = append(e.children[on], name)
		}
		if e.waiting[name] == 0 {
			ready <- name
		}
	}
	done := make(chan NodeResult)
	for thread := range max(p.options.Threads, 1) {
		go func() {
			for name := range ready {
				result := e.do(name, do)
				result.Thread = thread + 1
				done <- result
			}
		}()
	}
	defer close(ready)
	for len(e.results) < len(pl.names) {
		e.record(<-done, ready)
	}
	return e.results
}

// execution is a plan being done.
type execution struct {
	*Project
	plan     plan
	waiting  map[string]int // how many of those that it waits for are not done
	children map[string][]string
	blocked  map[string]string // name to what failed
	results  Results
	ended    atomic.Bool // nothing more is begun
}

func (e *execution) do(name string, do func(*Node) NodeResult) NodeResult {
	node := e.nodes[name]
	if e.ended.Load() {
		return skipped(node, "not begun, since another failed")
	}
	if e.options.Begin != nil {
		e.options.Begin(*node, len(e.plan.names))
	}
	result := do(node)
	if result.Status == Failed && e.options.FailFast {
		e.ended.Store(true)
	}
	return result
}

func skipped(node *Node, why string) NodeResult {
	return NodeResult{Name: node.Name, Kind: node.Kind, Path: node.Path, Status: Skipped, Rows: -1, Bytes: -1, Message: why}
}

// record takes a result, and lets nodes go whose turn it is.
func (e *execution) record(result NodeResult, ready chan<- string) {
	e.results = append(e.results, e.report(result))
	for _, child := range e.children[result.Name] {
		if result.Status == Failed || result.Status == Skipped {
			e.blocked[child] = result.Name
		}
		e.waiting[child]--
		if e.waiting[child] > 0 {
			continue
		}
		if cause, ok := e.blocked[child]; ok {
			e.record(skipped(e.nodes[child], "depends on "+cause), ready)
			continue
		}
		ready <- child
	}
}
