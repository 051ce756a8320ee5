package runner_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/sql/runner"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// limitsProject has one model, the parts of the clusters in the source.
func limitsProject(t testing.TB) *runner.Project {
	return load(t, runner.Options{Dir: fstest.MapFS{
		"dbt_project.yml":  {Data: []byte("name: graphs\n")},
		"models/graph.yml": {Data: []byte("sources: [{name: g, schema: sluis_sync, tables: [{name: limited}]}]\n")},
		"models/parts.sql": {Data: []byte("{{ config(materialized='fixpoint', meta={'fixpoint': {'kind': 'limits'}}) }}\nselect * from {{ source('g', 'limited') }}")},
	}})
}

// limitedEdge is an edge between nodes whose kinds are their first letters.
type limitedEdge struct {
	a, b     string
	declared bool
	place    int
}

// kindLimits are how many of a kind a part has at most; c is not limited.
var kindLimits = map[byte]int{'a': 1, 'b': 2}

const mostNodes = 9

// parts runs the limits over edges and returns each node's part and entity.
func parts(t testing.TB, p *runner.Project, d warehouse.Driver, edges []limitedEdge) map[string][2]string {
	t.Helper()
	limit := func(n string) any {
		if most, ok := kindLimits[n[0]]; ok {
			return most
		}
		return nil
	}
	rows := make([][]any, len(edges))
	for i, e := range edges {
		rows[i] = []any{e.a, e.b, e.a[:1], e.b[:1], limit(e.a), limit(e.b), mostNodes, e.declared, e.place}
	}
	columns := []string{"node_a", "node_b", "kind_a", "kind_b", "limit_a", "limit_b", "max_nodes", "is_declared", "place"}
	if err := d.Exec(t.Context(), `CREATE OR REPLACE TABLE sluis_sync.limited (node_a VARCHAR, node_b VARCHAR, kind_a VARCHAR, kind_b VARCHAR,
		limit_a BIGINT, limit_b BIGINT, max_nodes BIGINT, is_declared BOOLEAN, place BIGINT)`); err != nil {
		t.Fatal(err)
	}
	if err := d.Append(t.Context(), "sluis_sync", "limited", columns, rows); err != nil {
		t.Fatal(err)
	}
	build(t, p, d, "parts")
	got := map[string][2]string{}
	for _, row := range rowsOf(t, d, nil, "SELECT node_key, part_id, entity_id FROM parts") {
		got[row[0]] = [2]string{row[1], row[2]}
	}
	return got
}

// greedy is the reference: one edge after the other, and everything counted anew
// each time.
func greedy(edges []limitedEdge) map[string][2]string {
	of := map[string]map[string]bool{} // the nodes of a node's part
	for _, e := range edges {
		of[e.a], of[e.b] = map[string]bool{e.a: true}, map[string]bool{e.b: true}
	}
	join := func(a, b string) {
		both := maps.Clone(of[a])
		maps.Copy(both, of[b])
		for n := range both {
			of[n] = both
		}
	}
	for _, e := range edges {
		if e.declared {
			join(e.a, e.b)
		}
	}
	entity := map[string]string{}
	for n, part := range of {
		entity[n] = slices.Min(slices.Collect(maps.Keys(part)))
	}
	sorted := slices.SortedFunc(slices.Values(edges), func(x, y limitedEdge) int { return x.place - y.place })
	for _, e := range sorted {
		entities, nodes := map[string]bool{}, map[string]bool{}
		for _, part := range []map[string]bool{of[e.a], of[e.b]} {
			for n := range part {
				nodes[n], entities[entity[n]] = true, true
			}
		}
		counts := map[byte]int{}
		for n := range entities {
			counts[n[0]]++
		}
		fits := len(nodes) <= mostNodes
		for kind, most := range kindLimits {
			fits = fits && counts[kind] <= most
		}
		if fits {
			join(e.a, e.b)
		}
	}
	want := map[string][2]string{}
	for n, part := range of {
		want[n] = [2]string{slices.Min(slices.Collect(maps.Keys(part))), entity[n]}
	}
	return want
}

// randomLimited adds a cluster of nodes with a name of its own.
func randomLimited(random *rand.Rand, name string, edges []limitedEdge) []limitedEdge {
	n := 2 + random.IntN(20)
	pick := func() string { i := random.IntN(n); return fmt.Sprintf("%c-%s-%02d", "aabcc"[i%5], name, i) }
	places := random.Perm(3 * n)
	for i := range random.IntN(3 * n) {
		a, b := pick(), pick()
		if a != b {
			edges = append(edges, limitedEdge{min(a, b), max(a, b), a[0] == b[0] && random.IntN(3) == 0, places[i]})
		}
	}
	return edges
}

// A thousand clusters are cut as by following their edges one after the other,
// in whatever order they are found.
func TestLimits(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 1))
	var edges []limitedEdge
	for i := range 1000 {
		edges = randomLimited(random, fmt.Sprint(i), edges)
	}
	p, d := limitsProject(t), openGraph(t)
	want := greedy(edges)
	for range 2 {
		if diff := cmp.Diff(want, parts(t, p, d, edges)); diff != "" {
			t.Errorf("(-want +got)\n%.2000s", diff)
		}
		random.Shuffle(len(edges), func(i, j int) { edges[i], edges[j] = edges[j], edges[i] })
	}
	cut := 0
	for _, e := range edges {
		if want[e.a][0] != want[e.b][0] {
			cut++
		}
	}
	if cut < 500 {
		t.Errorf("only %d edges of %d were left out, so this shows little", cut, len(edges))
	}
	if got := parts(t, p, d, nil); len(got) != 0 {
		t.Errorf("of nothing: %v", got)
	}
}

// A long chain whose edges have to be followed one after the other.
func TestLimitsOfAChain(t *testing.T) {
	var edges []limitedEdge
	for i := range 50_000 {
		edges = append(edges, limitedEdge{fmt.Sprintf("c%06d", i), fmt.Sprintf("c%06d", i+1), false, i})
	}
	got := parts(t, limitsProject(t), openGraph(t), edges)
	if len(got) != 50_001 || got["c000008"][0] != "c000000" || got["c000009"][0] != "c000009" {
		t.Errorf("%d nodes; the ninth is in %v and the tenth in %v", len(got), got["c000008"], got["c000009"])
	}
}
