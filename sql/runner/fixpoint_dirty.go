package runner

import (
	"fmt"
	"slices"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// solvedColumns are those of a table of components that a build can go on from.
var solvedColumns = []string{"node_key", "cluster_id", "fingerprint"}

// goesOn tells whether a build goes on from the table: whether it may, and the
// table is there and says what it was made of.
func (b builder) goesOn(spec fixpointSpec, anew bool) (bool, error) {
	if !spec.incremental || anew {
		return false, nil
	}
	existing, err := b.before()
	if err != nil || existing != isTable {
		return false, err
	}
	columns, err := b.d.Columns(b.ctx, warehouse.SchemaModels, b.node.Name)
	return slices.Equal(namesOf(columns), solvedColumns), err
}

// goOn computes again the components in which something changed, and leaves the
// others as they are. What the table was made of is compared with what the query
// gives now, so that it does not matter what happened in between, nor when.
//
// A node's fingerprint is the evidence of the edges whose node_a it is, combined
// by XOR. Nodes in which it is another than the table's changed, and so did what
// they have an edge to. The components that these were in, and they themselves,
// are all that there is to solve: an edge that leads out of them would have had
// both ends in one component before.
//
// Few nodes change, so that only few are told apart: fingerprints are first
// compared by bucket of nodes, which reads all of them but keeps little.
func (c *components) goOn(query string) (rows int64, message string, err error) {
	query = "\n" + query + "\n" // it may end in a comment
	members, n, err := c.dirty(query)
	if err != nil {
		return -1, "", err
	}
	if rows, err = c.count(c.node.Name); err != nil || n == 0 {
		return rows, "nothing changed", err
	}
	if n > rows/2 {
		return c.whole(query)
	}
	graph, err := c.make("graph", fmt.Sprintf("select g.* from (%s) as g join %s as m on m.node_key = g.node_a", query, members))
	if err != nil {
		return -1, "", err
	}
	result, rounds, err := c.solve(graph)
	if err != nil {
		return -1, "", err
	}
	// A node that is no more has no cluster, which deletes it.
	solved, err := c.make("solved", fmt.Sprintf(`
		select m.node_key, s.cluster_id, s.fingerprint from %s as m left join (%s) as s on s.node_key = m.node_key`, members, result))
	if err != nil {
		return -1, "", err
	}
	merge := replaceStatement(c.d.Dialect(), relation(c.node.Name), solved, solvedColumns, solvedColumns[:1], solvedColumns[1])
	if err := c.d.Exec(c.ctx, merge); err != nil {
		return -1, "", err
	}
	rows, err = c.count(c.node.Name)
	return rows, fmt.Sprintf("%d rounds over %d nodes", rounds, n), err
}

// dirty finds the nodes to be solved again, those that are no more among them,
// and how many they are.
func (c *components) dirty(query string) (members string, n int64, err error) {
	table := relation(c.node.Name)
	buckets, err := c.make("buckets", c.differing(query))
	if err != nil {
		return "", 0, err
	}
	if n, err = c.number("select count(*) from " + buckets); err != nil || n == 0 {
		return "", 0, err
	}
	candidates, err := c.make("candidates", fmt.Sprintf(`
		select g.node_a, g.node_b, g.evidence from (%s) as g join %s as b on b.bucket = %s`, query, buckets, c.bucket("g.node_a")))
	if err != nil {
		return "", 0, err
	}
	touched, err := c.make("touched", fmt.Sprintf(`
		with changed as (
			select node_key
			from (
				select node_a as node_key, evidence as fingerprint from %[1]s
				union all
				select t.node_key, t.fingerprint from %[2]s as t join %[3]s as b on b.bucket = %[4]s
			) as f
			group by node_key
			having bit_xor(fingerprint) <> 0
		)
		select node_key from changed
		union distinct
		select e.node_b from %[1]s as e join changed as h on h.node_key = e.node_a`, candidates, table, buckets, c.bucket("t.node_key")))
	if err != nil {
		return "", 0, err
	}
	members, err = c.make("members", fmt.Sprintf(`
		with clusters as (
			select distinct t.cluster_id from %[1]s as t join %[2]s as h on h.node_key = t.node_key
		)
		select t.node_key from %[1]s as t join clusters as s on s.cluster_id = t.cluster_id
		union distinct
		select node_key from %[2]s`, table, touched))
	if err != nil {
		return "", 0, err
	}
	n, err = c.number("select count(*) from " + members)
	return members, n, err
}

// differing is the query for the buckets in which what a query gives is not what
// the table was made of.
func (b builder) differing(query string) string {
	return fmt.Sprintf(`
		select bucket
		from (
			select %s as bucket, g.evidence as fingerprint from (%s) as g
			union all
			select %s, t.fingerprint from %s as t
		) as f
		group by bucket
		having bit_xor(fingerprint) <> 0`, b.bucket("g.node_a"), query, b.bucket("t.node_key"), relation(b.node.Name))
}

// bucket is one of a million numbers, by the hash of a text.
func (b builder) bucket(text string) string {
	if b.d.Dialect() == "bigquery" {
		return "farm_fingerprint(" + text + ") & 1048575"
	}
	return "cast(hash(" + text + ") >> 44 as bigint)"
}
