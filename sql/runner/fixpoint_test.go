package runner_test

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	sqlproject "github.com/sluis-cdp/sluis/sql"
	"github.com/sluis-cdp/sluis/sql/duckdb"
	"github.com/sluis-cdp/sluis/sql/runner"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// componentsProject has one model, the components of the graph in the source.
func componentsProject(t testing.TB) *runner.Project {
	return load(t, runner.Options{Dir: fstest.MapFS{
		"dbt_project.yml":   {Data: []byte("name: graphs\n")},
		"models/graph.yml":  {Data: []byte("sources: [{name: g, schema: sluis_sync, tables: [{name: edges}]}]\n")},
		"models/labels.sql": {Data: []byte("{{ config(materialized='fixpoint', meta={'fixpoint': {'kind': 'components'}}) }}\nselect node_a, node_b from {{ source('g', 'edges') }}")},
	}})
}

func openGraph(t testing.TB) warehouse.Driver {
	t.Helper()
	d, err := duckdb.Open(t.Context(), duckdb.Config{Path: filepath.Join(t.TempDir(), "graph.duckdb")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	if err := d.Exec(t.Context(), "CREATE TABLE sluis_sync.edges (node_a VARCHAR, node_b VARCHAR)"); err != nil {
		t.Fatal(err)
	}
	return d
}

// fillGraph has the source hold these edges, and no others.
func fillGraph(t testing.TB, d warehouse.Driver, edges [][2]string) {
	t.Helper()
	rows := make([][]any, len(edges))
	for i, e := range edges {
		rows[i] = []any{e[0], e[1]}
	}
	if err := d.Exec(t.Context(), "DELETE FROM sluis_sync.edges"); err != nil {
		t.Fatal(err)
	}
	if err := d.Append(t.Context(), "sluis_sync", "edges", []string{"node_a", "node_b"}, rows); err != nil {
		t.Fatal(err)
	}
}

// label runs the components over edges and returns each node's label.
func label(t testing.TB, p *runner.Project, d warehouse.Driver, edges [][2]string) map[string]string {
	t.Helper()
	fillGraph(t, d, edges)
	build(t, p, d, "labels")
	result, err := warehouse.Collect(t.Context(), d, "SELECT node_key, cluster_id FROM labels")
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string]string{}
	for _, row := range result {
		labels[row[0].(string)] = row[1].(string)
	}
	if len(labels) != len(result) {
		t.Errorf("%d rows for %d nodes", len(result), len(labels))
	}
	return labels
}

// union is the reference: labels are the smallest node, by union-find.
func union(edges [][2]string) map[string]string {
	parent := map[string]string{}
	find := func(n string) string {
		if _, ok := parent[n]; !ok {
			parent[n] = n
		}
		for parent[n] != n {
			parent[n] = parent[parent[n]]
			n = parent[n]
		}
		return n
	}
	for _, e := range edges {
		a, b := find(e[0]), find(e[1])
		parent[max(a, b)] = min(a, b)
	}
	labels := map[string]string{}
	for n := range parent {
		labels[n] = find(n)
	}
	return labels
}

func node(n int) string { return fmt.Sprintf("n%07d", n) }

func chain(n int) [][2]string {
	edges := make([][2]string, n-1)
	for i := range edges {
		edges[i] = [2]string{node(i), node(i + 1)}
	}
	return edges
}

func star(n int) [][2]string {
	edges := make([][2]string, n)
	for i := range edges {
		edges[i] = [2]string{node(n / 2), node(i)}
	}
	return edges
}

// renamed gives the nodes of a graph other names, so that their order is that
// of chance.
func renamed(random *rand.Rand, n int, edges [][2]string) [][2]string {
	names := random.Perm(n + 1)
	for i, e := range edges {
		var a, b int
		fmt.Sscanf(e[0], "n%d", &a)
		fmt.Sscanf(e[1], "n%d", &b)
		edges[i] = [2]string{node(names[a]), node(names[b])}
	}
	return edges
}

func TestComponents(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	graphs := map[string][][2]string{
		"empty":                    nil,
		"alone":                    {{"a", "a"}, {"b", "b"}},
		"both ways and twice":      {{"b", "a"}, {"a", "b"}, {"a", "b"}, {"c", "c"}},
		"chain in order":           chain(20_000),
		"chain in reverse":         reversed(chain(5_000)),
		"chain in random order":    renamed(random, 20_000, chain(20_000)),
		"star":                     star(50_000),
		"complete":                 complete(60),
		"binary tree":              tree(4095),
		"two cliques and a bridge": append(append(complete(30), shifted(100, complete(30))...), [2]string{node(3), node(104)}),
		"two chains and a bridge":  append(append(chain(500), renamed(random, 400, chain(400))...), [2]string{node(10), "z"}),
	}
	for i := range 1000 {
		n, m := 1+random.IntN(60), random.IntN(90)
		for range m {
			edge := [2]string{fmt.Sprint("g", i, node(random.IntN(n))), fmt.Sprint("g", i, node(random.IntN(n)))}
			graphs["a thousand at random"] = append(graphs["a thousand at random"], edge)
		}
	}
	p, d := componentsProject(t), openGraph(t)
	for name, edges := range graphs {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(union(edges), label(t, p, d, edges)); diff != "" {
				t.Errorf("(-want +got)\n%.2000s", diff)
			}
		})
	}
	left, err := warehouse.Collect(t.Context(), d, "SELECT table_name FROM information_schema.tables WHERE table_name LIKE 'labels%' ORDER BY 1")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([][]any{{"labels"}}, left); diff != "" {
		t.Errorf("tables left behind: (-want +got)\n%s", diff)
	}
}

// growingProject has the components of the graph in the source, which are solved
// again only where it changed.
func growingProject(t testing.TB, fullRefresh bool) *runner.Project {
	return load(t, runner.Options{FullRefresh: fullRefresh, Dir: fstest.MapFS{
		"dbt_project.yml":  {Data: []byte("name: graphs\n")},
		"models/graph.yml": {Data: []byte("sources: [{name: g, schema: sluis_sync, tables: [{name: edges}]}]\n")},
		"models/labels.sql": {Data: []byte("{{ config(materialized='fixpoint', meta={'fixpoint': {'kind': 'components', 'incremental': true}}) }}\n" +
			"select node_a, node_b, cast(hash(node_a, node_b) >> 1 as int64) as evidence from {{ source('g', 'edges') }} -- all")},
	}})
}

// However a graph changes, what a run makes of what was there is what it makes of
// nothing, and is right: edges come, go and come again, clusters join and fall
// apart, and nodes are no more.
func TestComponentsGoOn(t *testing.T) {
	const nodes = 120
	random, d := rand.New(rand.NewPCG(4, 1)), openGraph(t)
	p, anew := growingProject(t, false), growingProject(t, true)
	edges := map[[2]string]bool{}
	messages := map[string]int{}
	for step := range 40 {
		for range []int{0, 3, 3, 3, 60}[random.IntN(5)] {
			a, b := node(random.IntN(nodes)), node(random.IntN(nodes))
			if random.IntN(2) == 0 && len(edges) > 0 {
				known := slices.SortedFunc(maps.Keys(edges), func(x, y [2]string) int { return slices.Compare(x[:], y[:]) })
				delete(edges, known[random.IntN(len(known))])
			} else if !edges[[2]string{b, a}] {
				edges[[2]string{a, b}] = true
			}
		}
		now := slices.Collect(maps.Keys(edges))
		got := label(t, p, d, now)
		if diff := cmp.Diff(union(now), got); diff != "" {
			t.Fatalf("step %d: (-want +got)\n%s", step, diff)
		}
		gone := rowsOf(t, d, nil, "SELECT * FROM labels")
		messages[outcomeOf(t, p, d, "labels")]++
		if random.IntN(3) == 0 {
			build(t, anew, d, "labels")
			if diff := cmp.Diff(rowsOf(t, d, nil, "SELECT * FROM labels"), gone); diff != "" {
				t.Fatalf("step %d: (-full refresh +incremental)\n%s", step, diff)
			}
		}
	}
	if messages["nothing changed"] != 40 {
		t.Errorf("a run after a run did something: %v", messages)
	}
}

// outcomeOf is what a run of a model says that it did.
func outcomeOf(t testing.TB, p *runner.Project, d warehouse.Driver, model string) string {
	t.Helper()
	results, err := p.Run(t.Context(), d, model)
	if err := errors.Join(err, results.Err()); err != nil {
		t.Fatal(err)
	}
	return results[0].Message
}

// Of a large graph only the clusters are solved again that something happened to.
func TestComponentsGoOnInFewClusters(t *testing.T) {
	p, d := growingProject(t, false), openGraph(t)
	var edges [][2]string
	for i := range 1000 {
		edges = append(edges, shifted(10*i, chain(4))...)
	}
	label(t, p, d, edges)
	more := append(slices.Clone(edges), [2]string{node(1), node(11)}, [2]string{"new", node(22)})
	build(t, p, d, "labels") // of the same
	for _, change := range []struct {
		edges [][2]string
		want  string
	}{
		{more, "over 13 nodes"},              // three chains, and the new one
		{more[:len(more)-1], "over 5 nodes"}, // which goes again
		{edges, "over 8 nodes"},
		{edges[1:], "over 4 nodes"},
	} {
		fillGraph(t, d, change.edges)
		if got := outcomeOf(t, p, d, "labels"); !strings.HasSuffix(got, change.want) {
			t.Errorf("%s, not %s", got, change.want)
		}
	}
}

func reversed(edges [][2]string) [][2]string {
	n := len(edges)
	for i, e := range edges {
		edges[i] = [2]string{node(n - mustNumber(e[0])), node(n - mustNumber(e[1]))}
	}
	return edges
}

func mustNumber(name string) int {
	var n int
	fmt.Sscanf(name, "n%d", &n)
	return n
}

func complete(n int) [][2]string {
	var edges [][2]string
	for i := range n {
		for j := range i {
			edges = append(edges, [2]string{node(i), node(j)})
		}
	}
	return edges
}

func tree(n int) [][2]string {
	var edges [][2]string
	for i := 2; i <= n; i++ {
		edges = append(edges, [2]string{node(i / 2), node(i)})
	}
	return edges
}

func shifted(by int, edges [][2]string) [][2]string {
	for i, e := range edges {
		edges[i] = [2]string{node(by + mustNumber(e[0])), node(by + mustNumber(e[1]))}
	}
	return edges
}

var people = flag.Int("people", 100_000, "people in the graphs of BenchmarkComponents; BUDGETS.md has 1,000,000, and 4,000,000 for everything")

// BenchmarkComponents solves the graphs of BUDGETS.md, with keys as pseudonyms are:
// of a shop, where each person has a login and some devices, 2.64 nodes in all; of
// that with one edge more for each hundred, which a run before had not seen; of a
// chain of a fifth as many nodes; of a star of as many; and of all of these. The
// reference solves the shop by plain contraction of texts, in the statements of
// the literature, so that a slow machine is told from slow code; so does the
// processor time, on one that others use.
func BenchmarkComponents(b *testing.B) {
	const (
		shop  = "SELECT md5('u' || i), md5('d' || i || '-' || k) FROM range(%[1]d) p(i), range(1, 4) q(k) WHERE k = 1 OR hash(i, k) %% 100 < 32"
		more  = shop + " UNION ALL SELECT md5('u' || i), md5(CASE WHEN i %% 300 < 200 THEN 'u' || i + 1 ELSE 'n' || i END) FROM range(0, %[1]d * 164 // 100, 100) p(j), LATERAL (SELECT j * 100 // 164) AS q(i)"
		chain = "SELECT md5('c' || i), md5('c' || i + 1) FROM range(%[1]d // 5) p(i)"
		star  = "SELECT md5('star'), md5('s' || i) FROM range(%[1]d) p(i)"
	)
	p, growing, anew, d := componentsProject(b), growingProject(b, false), growingProject(b, true), openGraph(b)
	fill := func(b *testing.B, query string) {
		b.Helper()
		if err := d.Exec(b.Context(), "CREATE OR REPLACE TABLE sluis_sync.edges AS SELECT * FROM ("+fmt.Sprintf(query, *people)+") AS g(node_a, node_b)"); err != nil {
			b.Fatal(err)
		}
	}
	for _, graph := range []struct {
		name, query string
		solve       func(b *testing.B)
	}{
		{"shop", shop, func(b *testing.B) { b.Helper(); runOnly(b, p, d, "labels") }},
		{"reference", shop, func(b *testing.B) { b.Helper(); contract(b, d) }},
		{"one percent more", more, func(b *testing.B) { b.Helper(); runOnly(b, growing, d, "labels") }},
		{"nothing more", more, func(b *testing.B) { b.Helper(); runOnly(b, growing, d, "labels") }},
		{"chain", chain, func(b *testing.B) { b.Helper(); runOnly(b, p, d, "labels") }},
		{"star", star, func(b *testing.B) { b.Helper(); runOnly(b, p, d, "labels") }},
		{"everything", shop + " UNION ALL " + chain + " UNION ALL " + star, func(b *testing.B) { b.Helper(); runOnly(b, p, d, "labels") }},
	} {
		b.Run(graph.name, func(b *testing.B) {
			fill(b, graph.query)
			var worked time.Duration
			for b.Loop() {
				if graph.name == "one percent more" {
					b.StopTimer()
					fill(b, shop)
					runOnly(b, anew, d, "labels")
					fill(b, graph.query)
					b.StartTimer()
				}
				before := processorTime()
				graph.solve(b)
				worked += processorTime() - before
			}
			b.ReportMetric(worked.Seconds()/float64(b.N), "processor-s/op")
		})
	}
}

// processorTime is what this process has had.
func processorTime() time.Duration {
	var usage syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &usage) // it cannot fail for the process itself
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// contract finds components by contracting each node to its smallest neighbour
// and following that twice, until no edge is left.
func contract(b *testing.B, d warehouse.Driver) {
	b.Helper()
	run := func(statement string) {
		if err := d.Exec(b.Context(), "CREATE OR REPLACE TABLE sluis_sync."+statement); err != nil {
			b.Fatal(err)
		}
	}
	run("lab AS SELECT node_key v, node_key l FROM (SELECT node_a node_key FROM sluis_sync.edges UNION SELECT node_b FROM sluis_sync.edges)")
	run("e AS SELECT DISTINCT a, b FROM (SELECT node_a a, node_b b FROM sluis_sync.edges UNION ALL SELECT node_b, node_a FROM sluis_sync.edges) WHERE a <> b")
	for rowsOf(b, d, nil, "SELECT count(*) FROM sluis_sync.e")[0][0] != "0" {
		run("rep0 AS SELECT a AS v, least(a, min(b)) AS r FROM sluis_sync.e GROUP BY a")
		run("rep1 AS SELECT x.v, y.r FROM sluis_sync.rep0 x JOIN sluis_sync.rep0 y ON y.v = x.r")
		run("rep2 AS SELECT x.v, y.r FROM sluis_sync.rep1 x JOIN sluis_sync.rep1 y ON y.v = x.r")
		run("lab AS SELECT lab.v, coalesce(rep2.r, lab.l) AS l FROM sluis_sync.lab LEFT JOIN sluis_sync.rep2 ON rep2.v = lab.l")
		run("e AS SELECT DISTINCT p.r AS a, q.r AS b FROM sluis_sync.e e JOIN sluis_sync.rep2 p ON p.v = e.a JOIN sluis_sync.rep2 q ON q.v = e.b WHERE p.r <> q.r")
	}
}

var events = flag.Int("events", 100_000, "events in BenchmarkFullBuild; BUDGETS.md has 10,000,000")

// BenchmarkFullBuild builds all models from nothing: as many visitors as a
// tenth of the events, each third logged in, all having agreed to three things.
func BenchmarkFullBuild(b *testing.B) {
	w := newWorld(b)
	dir := filepath.Join(w.landing(), "dt=2026-03-01", fmt.Sprintf("spool-%020d-%020d", 0, *events))
	if err := os.MkdirAll(dir, 0o750); err != nil {
		b.Fatal(err)
	}
	d := w.open()
	if err := d.Exec(b.Context(), fmt.Sprintf(`COPY (
		SELECT md5('e' || i) AS event_id, 'web' AS source_id, CASE WHEN i %% 10 = 0 THEN 'track' ELSE 'page' END AS type,
			CASE WHEN i %% 10 = 0 THEN 'Live Chat Started' END AS event,
			TIMESTAMPTZ '2026-03-01 00:00:00+00' + i * INTERVAL 1 SECOND AS occurred_at, occurred_at AS received_at,
			CASE WHEN v %% 3 = 0 THEN [{'kind': 'anonymous_id', 'pseudonym': 'a' || md5('a' || v)}, {'kind': 'user_id', 'pseudonym': 'u' || md5('u' || v // 6)}]
				ELSE [{'kind': 'anonymous_id', 'pseudonym': 'a' || md5('a' || v)}] END AS identifiers,
			['identity', 'analytics', 'marketing'] AS purposes, 'd' || v AS decision_id, '/page/' || i %% 100 AS page_path,
			'{"plan": "pro", "value": 12.5}' AS properties, 'spool' AS spool_id, i AS spool_offset
		FROM (SELECT i, hash(i) %% (%[1]d // 10 + 1) AS v FROM range(%[1]d) t(i))
	) TO '%[2]s' (FORMAT parquet)`, *events, filepath.Join(dir, "events.parquet"))); err != nil {
		b.Fatal(err)
	}
	if err := d.Close(); err != nil {
		b.Fatal(err)
	}
	d = w.open()
	defer d.Close()
	p := load(b, runner.Options{Dir: sqlproject.Files, Progress: func(r runner.NodeResult) {
		if r.Seconds > 0.5 {
			b.Logf("%s: %.1f s", r.Name, r.Seconds)
		}
	}})
	for b.Loop() {
		results, err := p.Run(b.Context(), d, "")
		if err := errors.Join(err, results.Err()); err != nil {
			b.Fatal(err)
		}
	}
}
