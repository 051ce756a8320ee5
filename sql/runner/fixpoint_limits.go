package runner

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// limits cuts clusters into parts that have of no kind of node more than it may
// be. The query gives the edges of these clusters:
//
//	node_a, node_b  the ends
//	kind_a, kind_b  their kinds
//	limit_a, limit_b  how many of the kind a part has at most; NULL for any number
//	max_nodes       how many nodes of all kinds
//	is_declared     whether both ends are one and the same, however many there may be
//	place           the order of the edges within a cluster, the first first
//
// The table gets node_key, part_id, the smallest node of its part, and entity_id,
// the smallest of the nodes that it was declared to be the same as; these count
// as one.
//
// Edges are followed in their order. One that would make a part larger than it
// may be is left out, and so are, by that, all others between the two parts. What
// comes out depends on the edges alone, and not on how they were found.
//
// It is done here and not by statements, since an edge may depend on each one
// before it: as many rounds as edges, in the worst case. Only clusters that are
// too large come here.
func (b builder) limits(query string) (rows int64, message string, err error) {
	graph, solved := b.scratch("graph"), b.scratch("solved")
	defer b.dropScratch(graph, solved)
	if err := b.create(graph, query); err != nil {
		return -1, "", err
	}
	empty := fmt.Sprintf("select node_a as node_key, node_a as part_id, node_a as entity_id from %s where false", relation(graph))
	if edges, err := b.count(graph); err != nil {
		return -1, "", err
	} else if edges == 0 { // as is usual
		rows, _, err = b.table(empty)
		return rows, "nothing is too large", err
	}
	g, err := b.readLimited(relation(graph))
	if err != nil {
		return -1, "", err
	}
	rejected := g.solve()
	if err := b.create(solved, empty); err != nil {
		return -1, "", err
	}
	for chunk := range slices.Chunk(g.rows(), 500_000) {
		if err := b.d.Append(b.ctx, warehouse.SchemaModels, solved, []string{"node_key", "part_id", "entity_id"}, chunk); err != nil {
			return -1, "", err
		}
	}
	rows, _, err = b.table("select node_key, part_id, entity_id from " + relation(solved))
	return rows, fmt.Sprintf("%d edges left out", rejected), err
}

// limited is a graph whose parts are limited.
type limited struct {
	keys     []string // by node
	numbers  map[string]int32
	kinds    map[string]int32
	kind     []int32 // by node
	limit    []int64 // by kind; -1 for any number
	maxNodes int64
	edges    []limitedEdge

	parent []int32
	entity []int32
	size   []int32
	counts []int32 // of a root and a kind, at root × kinds + kind
}

type limitedEdge struct {
	a, b     int32
	declared bool
	place    int64
}

func (b builder) readLimited(graph string) (*limited, error) {
	rows, err := b.d.Query(b.ctx, "select node_a, node_b, kind_a, kind_b, limit_a, limit_b, max_nodes, is_declared, place from "+graph)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // reading: Err has the verdict
	g := &limited{numbers: map[string]int32{}, kinds: map[string]int32{}}
	for rows.Next() {
		if err := g.add(rows.Row()); err != nil {
			return nil, err
		}
	}
	return g, rows.Err()
}

// add takes a row of the query.
func (g *limited) add(row []any) error {
	a, okA := row[0].(string)
	b, okB := row[1].(string)
	kindA, okKindA := row[2].(string)
	kindB, okKindB := row[3].(string)
	declared, okDeclared := row[7].(bool)
	place, okPlace := row[8].(int64)
	var okMax bool
	g.maxNodes, okMax = row[6].(int64)
	if !okA || !okB || !okKindA || !okKindB || !okDeclared || !okPlace || !okMax {
		return errors.New("limits needs node_a, node_b, kind_a and kind_b as texts, max_nodes and place as integers, and is_declared, none of them NULL")
	}
	g.edges = append(g.edges, limitedEdge{g.number(a, kindA, row[4]), g.number(b, kindB, row[5]), declared, place})
	return nil
}

// number is the number of a node, which is new or not.
func (g *limited) number(key, kind string, limit any) int32 {
	if n, ok := g.numbers[key]; ok {
		return n
	}
	k, ok := g.kinds[kind]
	if !ok {
		k = int32(len(g.kinds)) //nolint:gosec // there are a handful
		g.kinds[kind] = k
		most, ok := limit.(int64)
		if !ok {
			most = -1
		}
		g.limit = append(g.limit, most)
	}
	n := int32(len(g.keys)) //nolint:gosec // 2^31 nodes would not fit into memory
	g.numbers[key] = n
	g.keys, g.kind = append(g.keys, key), append(g.kind, k)
	return n
}

// solve joins what may be joined, and tells how many edges it left out.
func (g *limited) solve() (rejected int) {
	g.parent, g.size = make([]int32, len(g.keys)), make([]int32, len(g.keys))
	for n := range g.parent {
		g.parent[n], g.size[n] = int32(n), 1 //nolint:gosec // see number
	}
	for _, e := range g.edges {
		if e.declared {
			g.join(g.find(e.a), g.find(e.b))
		}
	}
	g.entity = make([]int32, len(g.keys))
	g.counts = make([]int32, len(g.keys)*len(g.limit))
	for n := range g.keys {
		root := g.find(int32(n)) //nolint:gosec // see number
		g.entity[n] = root
		g.counts[int(root)*len(g.limit)+int(g.kind[root])] = 1
	}
	slices.SortFunc(g.edges, func(x, y limitedEdge) int { return cmp.Compare(x.place, y.place) })
	for _, e := range g.edges {
		a, b := g.find(e.a), g.find(e.b)
		if a == b {
			continue
		}
		if !g.fits(a, b) {
			rejected++
			continue
		}
		for k := range g.limit {
			total := g.counts[int(a)*len(g.limit)+k] + g.counts[int(b)*len(g.limit)+k]
			g.counts[int(a)*len(g.limit)+k], g.counts[int(b)*len(g.limit)+k] = total, total // whichever is the root
		}
		g.join(a, b)
	}
	return rejected
}

func (g *limited) find(n int32) int32 {
	for g.parent[n] != n {
		g.parent[n] = g.parent[g.parent[n]]
		n = g.parent[n]
	}
	return n
}

func (g *limited) join(a, b int32) {
	if a == b {
		return
	}
	if g.size[a] < g.size[b] {
		a, b = b, a
	}
	g.parent[b] = a
	g.size[a] += g.size[b]
}

// fits tells whether two parts may be one.
func (g *limited) fits(a, b int32) bool {
	if int64(g.size[a])+int64(g.size[b]) > g.maxNodes {
		return false
	}
	for k, limit := range g.limit {
		total := g.counts[int(a)*len(g.limit)+k] + g.counts[int(b)*len(g.limit)+k]
		if limit >= 0 && int64(total) > limit {
			return false
		}
	}
	return true
}

// rows are those of the table.
func (g *limited) rows() [][]any {
	part, entity := make(map[int32]string), make(map[int32]string)
	smallest := func(of map[int32]string, root int32, key string) {
		if known, ok := of[root]; !ok || key < known {
			of[root] = key
		}
	}
	for n, key := range g.keys {
		smallest(part, g.find(int32(n)), key) //nolint:gosec // see number
		smallest(entity, g.entity[n], key)
	}
	rows := make([][]any, len(g.keys))
	for n, key := range g.keys {
		rows[n] = []any{key, part[g.find(int32(n))], entity[g.entity[n]]} //nolint:gosec // see number
	}
	return rows
}
