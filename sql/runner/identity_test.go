package runner_test

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	sqlproject "github.com/sluis-cdp/sluis/sql"
	"github.com/sluis-cdp/sluis/sql/runner"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// edited is the project with some files replaced.
func edited(t testing.TB, files map[string]string) fs.FS {
	t.Helper()
	copied := fstest.MapFS{}
	err := fs.WalkDir(sqlproject.Files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(sqlproject.Files, path)
		copied[path] = &fstest.MapFile{Data: data}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for path, text := range files {
		if copied[path] == nil {
			t.Fatalf("the project has no %s", path)
		}
		copied[path] = &fstest.MapFile{Data: []byte(text)}
	}
	return copied
}

const (
	blockedSeed = "seeds/identity_blocked.csv"
	kindsSeed   = "seeds/identifier_kinds.csv"
	pairsSeed   = "seeds/identity_pair_limits.csv"
)

// identityModels are what identity is built of, and what it comes to.
const identityModels = "+identity_map identity_aliases identity_changes identity_rejected_edges identity_shared_nodes"

// TestIdentityInTime follows one person through what takes identifiers apart and
// joins them again. Ids come back with what brings them back, a full refresh
// changes none, and the log of changes tells it all but of whom was erased.
func TestIdentityInTime(t *testing.T) {
	d := openTables(t)
	changed, spool := map[string]string{}, 0
	land := func(table, data string) {
		t.Helper()
		rows := parseLanded(t, table, []byte(data))
		for _, row := range rows {
			row["spool_id"] = fmt.Sprint("spool", spool)
		}
		spool++
		appendRows(t, d, table, rows)
	}
	day := 1
	// check runs the models, and wants the person's identifiers by profile.
	check := func(what, want string) {
		t.Helper()
		for _, full := range []bool{false, true} {
			p := load(t, runner.Options{
				Dir: edited(t, changed), FullRefresh: full, Vars: map[string]any{"as_of": fmt.Sprintf("2026-04-%02d 00:00:00", day)},
			})
			runOnly(t, p, d, identityModels)
			if got := profilesOf(t, d); got != want {
				t.Errorf("%s, full refresh %t: %s, not %s", what, full, got, want)
			}
		}
		day++
	}

	land("events", `event_id,occurred_at,identifiers,purposes
e1,2026-03-01 09:00,anonymous_id:laptop,identity
e2,2026-03-01 10:00,anonymous_id:laptop user_id:ann,identity
e3,2026-03-01 11:00,anonymous_id:phone user_id:ann,identity
e4,2026-03-01 12:00,email:home user_id:ann,identity
e5,2026-03-01 13:00,email:work user_id:ann,identity
`)
	check("seen together", "laptop(ann home laptop phone work)")
	land("consents", "decision_id,pseudonym,purpose,granted,decided_at\nd1,phone,identity,false,2026-03-02 10:00\n")
	check("the phone withdraws", "laptop(ann home laptop work) phone(phone)")
	land("consents", "decision_id,pseudonym,purpose,granted,decided_at\nd2,phone,identity,true,2026-03-03 10:00\n")
	check("the phone agrees again", "laptop(ann home laptop phone work)")
	changed[blockedSeed] = "pseudonym,reason\nann,everybody's login\n"
	check("the login is blocked", "ann(ann) home(home) laptop(laptop) phone(phone) work(work)")
	delete(changed, blockedSeed)
	check("it is blocked no longer", "laptop(ann home laptop phone work)")
	kinds, err := fs.ReadFile(sqlproject.Files, kindsSeed)
	if err != nil {
		t.Fatal(err)
	}
	changed[kindsSeed] = strings.Replace(string(kinds), "email,true,false,true,2,5", "email,true,false,true,2,1", 1)
	check("one address is the most", "home(home) laptop(ann laptop phone work)")
	delete(changed, kindsSeed)
	land("events", `event_id,occurred_at,received_at,identifiers,purposes
o1,2026-02-01 09:00,2026-03-03 09:00,anonymous_id:tablet,identity
o2,2026-02-01 10:00,2026-03-03 09:00,anonymous_id:tablet user_id:ann,identity
`)
	check("an older device turns up", "tablet(ann home laptop phone tablet work)")
	if err := d.Exec(t.Context(), "delete from sluis.events where event_id in ('o1', 'o2')"); err != nil {
		t.Fatal(err)
	}
	check("who had founded it is erased", "laptop(ann home laptop phone work)")

	_, want := parseCSV(t, []byte(strings.TrimPrefix(`
run,node_key,kind,from_founder,to_founder,noticed_at
1,ann,joined,ann,laptop,2026-04-01 00:00
1,home,joined,home,laptop,2026-04-01 00:00
1,phone,joined,phone,laptop,2026-04-01 00:00
1,work,joined,work,laptop,2026-04-01 00:00
2,phone,left,laptop,phone,2026-04-02 00:00
3,phone,joined,phone,laptop,2026-04-03 00:00
4,ann,left,laptop,ann,2026-04-04 00:00
4,home,left,laptop,home,2026-04-04 00:00
4,phone,left,laptop,phone,2026-04-04 00:00
4,work,left,laptop,work,2026-04-04 00:00
5,ann,joined,ann,laptop,2026-04-05 00:00
5,home,joined,home,laptop,2026-04-05 00:00
5,phone,joined,phone,laptop,2026-04-05 00:00
5,work,joined,work,laptop,2026-04-05 00:00
6,home,left,laptop,home,2026-04-06 00:00
7,ann,moved,laptop,,2026-04-07 00:00
7,home,joined,home,,2026-04-07 00:00
7,laptop,joined,laptop,,2026-04-07 00:00
7,phone,moved,laptop,,2026-04-07 00:00
7,work,moved,laptop,,2026-04-07 00:00
8,ann,moved,,laptop,2026-04-08 00:00
8,home,moved,,laptop,2026-04-08 00:00
8,laptop,left,,laptop,2026-04-08 00:00
8,phone,moved,,laptop,2026-04-08 00:00
8,work,moved,,laptop,2026-04-08 00:00
`, "\n")))
	got := rowsOf(t, d, nil, "SELECT run, node_key, kind, from_founder, to_founder, noticed_at FROM sluis_models.identity_changes")
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("identity_changes (-want +got)\n%s", diff)
	}
	// The ids are those of the founders, in the log as in the map.
	odd := rowsOf(t, d, nil, `SELECT * FROM sluis_models.identity_changes
		WHERE from_profile_id IS DISTINCT FROM 'pr_' || left(sha256(from_founder), 24) OR to_profile_id IS DISTINCT FROM 'pr_' || left(sha256(to_founder), 24)`)
	if len(odd) > 0 {
		t.Errorf("ids of other founders: %v", odd)
	}
}

// profilesOf writes the profiles, each as its founder and its identifiers.
func profilesOf(t testing.TB, d warehouse.Driver) string {
	t.Helper()
	nodes := map[string][]string{}
	for _, row := range rowsOf(t, d, nil, "SELECT founder_node, node_key FROM sluis_models.identity_map") {
		nodes[row[0]] = append(nodes[row[0]], row[1])
	}
	var all []string
	for _, founder := range slices.Sorted(maps.Keys(nodes)) {
		all = append(all, founder+"("+strings.Join(nodes[founder], " ")+")")
	}
	return strings.Join(all, " ")
}

// mostTogether is max_profile_nodes in the history of a crowd, as a rule.
const mostTogether = 5

// crowd is a history in which people share devices and mailboxes.
type crowd struct {
	*collectors
	blocked      []string
	kinds        string
	names        map[string]string // of pseudonyms that were given one
	mostTogether int
	mostUsers    int // of a device, within 90 days
}

func newCrowd(t testing.TB, d warehouse.Driver, random *rand.Rand) *crowd {
	return &crowd{collectors: newCollectors(t, d, random), names: map[string]string{}, mostTogether: mostTogether, mostUsers: 3}
}

// live lets something happen.
func (c *crowd) live() {
	c.t.Helper()
	at := day.AddDate(0, 0, c.random.IntN(150)).Add(time.Duration(c.random.IntN(20)) * time.Hour)
	switch c.random.IntN(14) {
	case 0:
		c.eraseOne()
	case 1:
		appendRows(c.t, c.d, "consents", []map[string]any{{
			"decision_id": fmt.Sprint("d", c.random.IntN(1e6)), "pseudonym": c.pick(), "purpose": []string{"identity", "marketing"}[c.random.IntN(2)],
			"granted": c.random.IntN(3) > 0, "decided_at": at, "received_at": at,
		}})
	case 2:
		c.blocked = nil
		for range c.random.IntN(3) {
			c.blocked = append(c.blocked, c.pick())
		}
	case 3:
		c.kinds = fmt.Sprintf("kind,joins,is_device,is_known,priority,profile_limit\nuser_id,true,false,true,1,%d\nemail,true,false,true,2,%d\nanonymous_id,true,true,false,6,%d\n",
			1+c.random.IntN(2), 1+c.random.IntN(2), 2+c.random.IntN(3))
	case 4:
		c.mostTogether, c.mostUsers = mostTogether-c.random.IntN(2), 2+c.random.IntN(2)
	case 5:
		if n := c.pick(); c.names[n] == "" {
			c.names[n] = fmt.Sprint("pr_named", len(c.names))
			appendRows(c.t, c.d, "profile_names", []map[string]any{{"pseudonym": n, "profile_id": c.names[n]}})
		}
	default:
		var rows []map[string]any
		for range 1 + c.random.IntN(6) {
			rows = append(rows, c.visit())
		}
		c.record(fmt.Sprint("spool", c.random.IntN(2)), rows)
	}
}

func (c *crowd) pick() string {
	return fmt.Sprint([]string{"device", "device", "user", "mail"}[c.random.IntN(4)], c.random.IntN(20))
}

func (c *crowd) visit() map[string]any {
	at := day.AddDate(0, 0, c.random.IntN(150)).Add(time.Duration(c.random.IntN(20)) * time.Hour)
	seen := map[string]bool{c.pick(): true}
	if c.random.IntN(2) == 0 {
		seen[c.pick()] = true
	}
	var identifiers []any
	for _, n := range slices.Sorted(maps.Keys(seen)) {
		kind := map[byte]string{'d': "anonymous_id", 'u': "user_id", 'm': "email"}[n[0]]
		identifiers = append(identifiers, map[string]any{"kind": kind, "pseudonym": n})
	}
	row := map[string]any{
		"event_id": fmt.Sprint("e", len(c.landed), "-", c.random.IntN(1000)), "type": "page", "occurred_at": at, "received_at": day.AddDate(0, 5, c.random.IntN(9)),
		"purposes": []string{"identity", "marketing"}, "identifiers": identifiers,
	}
	switch c.random.IntN(9) {
	case 0:
		row["type"] = "alias"
	case 1:
		row["purposes"] = []string{"marketing"}
	}
	return row
}

func (c *crowd) eraseOne() {
	err := c.d.Exec(c.t.Context(), `DELETE FROM sluis.events WHERE event_id IN
		(SELECT event_id FROM sluis.events WHERE list_contains(list_transform(identifiers, i -> i.pseudonym), ?))`, c.pick())
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *crowd) project(full bool) *runner.Project {
	limits, err := fs.ReadFile(sqlproject.Files, pairsSeed)
	if err != nil {
		c.t.Fatal(err)
	}
	files := map[string]string{
		blockedSeed: "pseudonym,reason\n",
		pairsSeed:   strings.Replace(string(limits), "anonymous_id,user_id,3,", fmt.Sprintf("anonymous_id,user_id,%d,", c.mostUsers), 1),
	}
	for _, pseudonym := range c.blocked {
		files[blockedSeed] += pseudonym + ",\n"
	}
	if c.kinds != "" {
		files[kindsSeed] = c.kinds
	}
	return load(c.t, runner.Options{Dir: edited(c.t, files), FullRefresh: full, Threads: 2, Vars: map[string]any{"as_of": asOf, "max_profile_nodes": c.mostTogether}})
}

// TestIdentityIsAFunctionOfTheEvidence lets all kinds of things happen to people
// who share what they use. After each run, whatever was there before it and
// wherever the one before it was interrupted, profiles are those of the oracle;
// and after two that went on from what was there, all is that of a full refresh.
func TestIdentityIsAFunctionOfTheEvidence(t *testing.T) {
	reasons := map[string]int{}
	var moves moves
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			d := openTables(t)
			c := newCrowd(t, d, rand.New(rand.NewPCG(seed, 9)))
			moves.founders, moves.crowded = nil, nil
			for step := range 8 {
				for range 9 {
					c.live()
				}
				if step > 0 && c.random.IntN(4) == 0 {
					runInterrupted(t, c.project(false), d, c.random.IntN(60), identityModels)
				}
				runOnly(t, c.project(false), d, identityModels)
				got := identityOf(t, d)
				if diff := gocmp.Diff(founded(t, d, c), firstColumns(got["identity_map"], 3)); diff != "" {
					t.Fatalf("step %d: (-oracle +got)\n%s", step, diff)
				}
				moves.count(got["identity_map"], got["identity_shared_nodes"])
				if step%2 == 0 {
					continue
				}
				for _, row := range got["identity_rejected_edges"] {
					reasons[row[4]]++
				}
				runOnly(t, c.project(true), d, identityModels)
				if diff := gocmp.Diff(identityOf(t, d), got); diff != "" {
					t.Fatalf("step %d: (-full refresh +incremental)\n%s", step, diff)
				}
			}
		})
	}
	moves.founders, moves.crowded = nil, nil
	t.Logf("%v, %+v", reasons, moves)
	for _, reason := range []string{"blocked", "shared", "same_kind", "profile_limit", "profile_size"} {
		if reasons[reason] == 0 {
			t.Errorf("nothing was rejected as %s, so this shows little", reason)
		}
	}
	if moves.joined == 0 || moves.left == 0 || moves.gone == 0 || moves.shared == 0 || moves.own == 0 {
		t.Errorf("the histories had too little in them: %+v", moves)
	}
}

// moves counts what happened from one run to the next: identifiers that joined
// another profile, or left theirs to be one, or were no more; and those that
// became shared, or ceased to be.
type moves struct {
	joined, left, gone, shared, own int
	founders                        map[string]string
	crowded                         map[string]bool
}

func (m *moves) count(identityMap, sharedNodes [][]string) {
	founders, crowded := map[string]string{}, map[string]bool{}
	for _, row := range identityMap {
		founders[row[0]] = row[2]
	}
	for _, row := range sharedNodes {
		crowded[row[0]] = true
	}
	for node, founder := range m.founders {
		now, ok := founders[node]
		switch {
		case !ok:
			m.gone++
		case now != founder && founder == node:
			m.joined++
		case now != founder && now == node:
			m.left++
		}
		if ok && crowded[node] && !m.crowded[node] {
			m.shared++
		}
		if ok && !crowded[node] && m.crowded[node] {
			m.own++
		}
	}
	m.founders, m.crowded = founders, crowded
}

func firstColumns(rows [][]string, n int) [][]string {
	cut := make([][]string, len(rows))
	for i, row := range rows {
		cut[i] = row[:n]
	}
	return cut
}

func identityOf(t testing.TB, d warehouse.Driver) map[string][][]string {
	t.Helper()
	all := map[string][][]string{}
	for _, model := range []string{
		"identity_nodes", "identity_links", "identity_edges", "identity_shared_nodes", "identity_rejected_edges", "identity_map", "identity_aliases",
		"int_identity_clusters", "int_identity_sizes", "int_identity_parts",
	} {
		all[model] = rowsOf(t, d, nil, "SELECT * FROM sluis_models."+model)
	}
	return all
}

// person is an identifier in the oracle.
type person struct {
	kind  string
	first string
	part  map[string]bool
}

// founded is the oracle: it reads the links that may be used, and works out by
// itself which of them join whom, one after the other. It returns the map.
func founded(t testing.TB, d warehouse.Driver, c *crowd) [][]string {
	t.Helper()
	people := map[string]*person{}
	for _, row := range rowsOf(t, d, nil, "SELECT node_key, id_type, first_seen_at FROM sluis_models.identity_nodes") {
		people[row[0]] = &person{row[1], row[2], map[string]bool{row[0]: true}}
	}
	limits, priority := map[string]int{}, map[string]int{}
	for _, row := range rowsOf(t, d, nil, "SELECT kind, profile_limit, priority FROM sluis_models.identifier_kinds") {
		var most, place int
		_, _ = fmt.Sscan(row[1], &most)
		_, _ = fmt.Sscan(row[2], &place)
		limits[row[0]], priority[row[0]] = most, place
	}
	edges := usable(t, d, c, people)
	join := func(a, b string) {
		both := maps.Clone(people[a].part)
		maps.Copy(both, people[b].part)
		for n := range both {
			people[n].part = both
		}
	}
	for _, e := range edges {
		if e.declared {
			join(e.a, e.b)
		}
	}
	entity := map[string]string{}
	for n, p := range people {
		entity[n] = slices.Min(slices.Collect(maps.Keys(p.part)))
	}
	slices.SortFunc(edges, func(x, y used) int {
		return cmp.Or(
			cmp.Compare(priority[people[x.a].kind]+priority[people[x.b].kind], priority[people[y.a].kind]+priority[people[y.b].kind]),
			y.last.Compare(x.last), strings.Compare(x.a, y.a), strings.Compare(x.b, y.b),
		)
	})
	for _, e := range edges {
		both := maps.Clone(people[e.a].part)
		maps.Copy(both, people[e.b].part)
		entities, counts := map[string]bool{}, map[string]int{}
		for n := range both {
			entities[entity[n]] = true
		}
		for n := range entities {
			counts[people[n].kind]++
		}
		fits := len(both) <= c.mostTogether
		for kind, n := range counts {
			fits = fits && n <= limits[kind]
		}
		if fits {
			join(e.a, e.b)
		}
	}
	rows := [][]string{}
	for n, p := range people {
		founder := slices.MinFunc(slices.Collect(maps.Keys(p.part)), func(a, b string) int {
			named := strings.Compare(c.names[b], c.names[a]) // who has a name comes first
			if c.names[a] != "" && c.names[b] != "" {
				named = 0
			}
			return cmp.Or(strings.Compare(people[a].first, people[b].first), named, strings.Compare(a, b))
		})
		rows = append(rows, []string{n, cmp.Or(c.names[founder], fmt.Sprintf("pr_%x", sha256.Sum256([]byte(founder)))[:27]), founder})
	}
	slices.SortFunc(rows, slices.Compare)
	return rows
}

// used is a link that joins, unless a profile would be too large.
type used struct {
	a, b     string
	last     time.Time
	declared bool
}

// usable leaves out links of what is blocked or shared.
func usable(t testing.TB, d warehouse.Driver, c *crowd, people map[string]*person) []used {
	t.Helper()
	type pair struct{ node, kind string }
	seen := map[pair][]time.Time{}
	var all, kept []used
	rows, err := warehouse.Collect(t.Context(), d, "SELECT node_a, node_b, last_seen_at, is_declared FROM sluis_models.identity_edges")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		e := used{row[0].(string), row[1].(string), row[2].(time.Time), row[3].(bool)}
		all = append(all, e)
		if !slices.Contains(c.blocked, e.a) && !slices.Contains(c.blocked, e.b) {
			seen[pair{e.a, people[e.b].kind}] = append(seen[pair{e.a, people[e.b].kind}], e.last)
			seen[pair{e.b, people[e.a].kind}] = append(seen[pair{e.b, people[e.a].kind}], e.last)
		}
	}
	shared := map[string]bool{}
	for at, times := range seen {
		most, days := 1000, 90
		switch kind := people[at.node].kind; {
		case kind == "anonymous_id" && at.kind == "user_id":
			most = c.mostUsers
		case kind == "anonymous_id" && at.kind != "anonymous_id":
			most = 3
		case kind == "email" && at.kind == "user_id":
			most, days = 2, 100_000
		}
		newest, n := slices.MaxFunc(times, time.Time.Compare), 0
		for _, last := range times {
			if newest.Sub(last) < time.Duration(days)*24*time.Hour {
				n++
			}
		}
		shared[at.node] = shared[at.node] || n > most
	}
	for _, e := range all {
		apart := people[e.a].kind == people[e.b].kind && !e.declared
		if !apart && !shared[e.a] && !shared[e.b] && !slices.Contains(c.blocked, e.a) && !slices.Contains(c.blocked, e.b) {
			kept = append(kept, e)
		}
	}
	return kept
}

// Of a kind that joins only its newest, the others are not shared: what came
// before is told apart from what is there now.
func TestLastAuth(t *testing.T) {
	d := openTables(t)
	appendRows(t, d, "events", parseLanded(t, "events", []byte(`event_id,occurred_at,identifiers,purposes
e1,2026-03-01 09:00,anonymous_id:desk,identity
e2,2026-03-01 10:00,anonymous_id:desk user_id:ann,identity
e3,2026-03-01 10:00,email:ann_mail user_id:ann,identity
e4,2026-03-02 10:00,anonymous_id:desk user_id:bob,identity
e5,2026-03-03 10:00,anonymous_id:desk user_id:cas,identity
`)))
	limits := "kind,neighbour_kind,max_neighbours,window_days,policy\nanonymous_id,user_id,1,,last_auth\n"
	runOnly(t, load(t, runner.Options{Dir: edited(t, map[string]string{"seeds/identity_pair_limits.csv": limits})}), d, identityModels)
	if got := profilesOf(t, d); got != "ann(ann ann_mail) bob(bob) desk(cas desk)" {
		t.Error(got)
	}
	want := [][]string{{"ann", "desk", "superseded"}, {"bob", "desk", "superseded"}}
	if diff := gocmp.Diff(want, rowsOf(t, d, nil, "SELECT node_a, node_b, reason FROM sluis_models.identity_rejected_edges")); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
