package runner

import (
	"errors"
	"fmt"
	"slices"
)

// fixpointSpec is config.meta.fixpoint.
type fixpointSpec struct {
	kind        string
	maxRounds   int
	incremental bool // of components: solve again what changed, and nothing else
}

// The kinds of fixpoints.
const (
	kindComponents = "components"
	kindLimits     = "limits"
)

const defaultRounds = 64

func fixpointOf(meta map[string]any) (fixpointSpec, error) {
	declared, _ := meta["fixpoint"].(map[string]any)
	spec := fixpointSpec{maxRounds: defaultRounds}
	spec.kind, _ = declared["kind"].(string)
	if spec.kind != kindComponents && spec.kind != kindLimits {
		return spec, errors.New("a fixpoint needs meta.fixpoint.kind: components or limits")
	}
	if rounds, ok := declared["max_rounds"]; ok {
		spec.maxRounds, ok = rounds.(int)
		if !ok || spec.maxRounds < 1 {
			return spec, errors.New("meta.fixpoint.max_rounds must be a number of at least 1")
		}
	}
	if incremental, ok := declared["incremental"]; ok {
		spec.incremental, ok = incremental.(bool)
		if !ok || (spec.incremental && spec.kind != kindComponents) {
			return spec, errors.New("meta.fixpoint.incremental must be true or false, and is of components alone")
		}
	}
	return spec, nil
}

// fixpoint computes what no single query can: from nothing, or from what is
// there if that is known to be of use.
func (b builder) fixpoint(query string, anew bool) (rows int64, message string, err error) {
	spec, err := fixpointOf(b.node.Meta)
	if err != nil {
		return -1, "", err
	}
	if spec.kind == kindLimits {
		return b.limits(query)
	}
	c := components{builder: b, fixpointSpec: spec}
	defer func() { b.dropScratch(c.tables...) }()
	switch on, err := b.goesOn(spec, anew); {
	case err != nil:
		return -1, "", err
	case on:
		return c.goOn(query)
	}
	return c.whole(query)
}

// components computes connected components. The query gives the edges, node_a
// and node_b; the table gets node_key and cluster_id, the smallest node of the
// component. If it is incremental, the query gives each edge once, with its
// evidence, a number that is another one if something else is to be known of the
// edge; and the table gets the fingerprint of each node, too (see goOn).
//
// Each round hooks every node to its smallest neighbour, if that is smaller;
// follows the hooks to their ends by doubling; and keeps the edges between the
// ends. Ends are local minima, so edges shrink geometrically, and a long chain
// costs doublings, not rounds. The hooks of all rounds together lead each node
// to its component, since a node that was hooked never returns.
//
// Nodes are numbered first, in their order: comparing numbers is much cheaper
// than texts.
type components struct {
	builder
	fixpointSpec
	nodes, edges string   // relations (node_key, id, fingerprint if incremental) and (u, v) with u < v
	hooks        []string // relations (node, parent), one for each round
	tables       []string // names of all tables, to be dropped
}

// whole computes the components of all that the query gives.
func (c *components) whole(query string) (rows int64, message string, err error) {
	graph, err := c.make("graph", query)
	if err != nil {
		return -1, "", err
	}
	result, rounds, err := c.solve(graph)
	if err != nil {
		return -1, "", err
	}
	rows, _, err = c.table(result)
	return rows, fmt.Sprintf("%d rounds", rounds), err
}

// solve computes the components of a graph, and returns the query that gives them.
func (c *components) solve(graph string) (result string, rounds int, err error) {
	if err := c.numberNodes(graph); err != nil {
		return "", 0, err
	}
	for ; ; rounds++ {
		edges, err := c.number("select count(*) from " + c.edges)
		if err != nil {
			return "", 0, err
		}
		if edges == 0 {
			break
		}
		if rounds == c.maxRounds {
			return "", 0, fmt.Errorf("no fixpoint after %d rounds: raise meta.fixpoint.max_rounds", rounds)
		}
		if err := c.round(rounds); err != nil {
			return "", 0, err
		}
	}
	result, err = c.result()
	return result, rounds, err
}

// make creates a table of the computation and returns how queries name it.
func (c *components) make(suffix, query string) (string, error) {
	name := c.scratch(suffix)
	c.tables = append(c.tables, name)
	return relation(name), c.create(name, query)
}

// numberNodes gives each node a number and translates the edges.
func (c *components) numberNodes(graph string) (err error) {
	nodes := fmt.Sprintf(`
		select node_key, row_number() over (order by node_key) as id
		from (select node_a as node_key from %[1]s union distinct select node_b from %[1]s) as n`, graph)
	if c.incremental {
		nodes = fmt.Sprintf(`
			select node_key, bit_xor(evidence) as fingerprint, row_number() over (order by node_key) as id
			from (select node_a as node_key, evidence from %[1]s union all select node_b, 0 from %[1]s where node_a <> node_b) as n
			group by node_key`, graph)
	}
	if c.nodes, err = c.make("nodes", nodes); err != nil {
		return err
	}
	c.edges, err = c.make("edges", fmt.Sprintf(`
		select distinct least(a.id, b.id) as u, greatest(a.id, b.id) as v
		from %[1]s as g
		join %[2]s as a on a.node_key = g.node_a
		join %[2]s as b on b.node_key = g.node_b
		where g.node_a <> g.node_b`, graph, c.nodes))
	return err
}

// round hooks, follows the hooks to their ends, and contracts the edges.
func (c *components) round(n int) error {
	hooks, err := c.make(fmt.Sprintf("hooks%d", n), "select v as node, min(u) as parent from "+c.edges+" group by v")
	if err != nil {
		return err
	}
	for jump := 0; ; jump++ {
		farther, err := c.make(fmt.Sprintf("hooks%d_%d", n, jump), fmt.Sprintf(`
			select p.node, coalesce(g.parent, p.parent) as parent
			from %[1]s as p left join %[1]s as g on g.node = p.parent`, hooks))
		if err != nil {
			return err
		}
		hooks = farther
		unfinished, err := c.builder.number(fmt.Sprintf("select count(*) from %[1]s as p join %[1]s as g on g.node = p.parent", hooks))
		if err != nil {
			return err
		}
		if unfinished == 0 {
			break
		}
	}
	c.hooks = append(c.hooks, hooks)
	c.edges, err = c.make(fmt.Sprintf("edges%d", n+1), fmt.Sprintf(`
		select distinct least(x, y) as u, greatest(x, y) as v
		from (
			select coalesce(a.parent, e.u) as x, coalesce(b.parent, e.v) as y
			from %[1]s as e left join %[2]s as a on a.node = e.u left join %[2]s as b on b.node = e.v
		) as r
		where x <> y`, c.edges, hooks))
	return err
}

// result is the query of the answer. It leads the hooks of each round through
// those of the rounds after it, from the last, which are few, to the first.
func (c *components) result() (string, error) {
	roots := ""
	for n, v := range slices.Backward(c.hooks) {
		if roots == "" {
			roots = v
			continue
		}
		var err error
		roots, err = c.make(fmt.Sprintf("roots%d", n), fmt.Sprintf(`
			select h.node, coalesce(r.parent, h.parent) as parent
			from %[1]s as h left join %[2]s as r on r.node = h.parent
			union all
			select node, parent from %[2]s`, v, roots))
		if err != nil {
			return "", err
		}
	}
	fingerprint := ""
	if c.incremental {
		fingerprint = ", n.fingerprint"
	}
	if roots == "" {
		return fmt.Sprintf("select n.node_key, n.node_key as cluster_id%s from %s as n", fingerprint, c.nodes), nil
	}
	return fmt.Sprintf(`
		select n.node_key, s.node_key as cluster_id%[3]s
		from %[1]s as n
		left join %[2]s as r on r.node = n.id
		join %[1]s as s on s.id = coalesce(r.parent, n.id)`, c.nodes, roots, fingerprint), nil
}
