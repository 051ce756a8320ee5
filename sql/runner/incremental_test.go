package runner_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	sqlproject "github.com/sluis-cdp/sluis/sql"
	"github.com/sluis-cdp/sluis/sql/runner"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// openTables opens a warehouse whose landing tables are tables, as BigQuery's
// are: rows can land while it is open.
func openTables(t testing.TB) warehouse.Driver {
	t.Helper()
	d := newWorld(t).open()
	t.Cleanup(func() { d.Close() })
	for _, table := range warehouse.Landing() {
		var columns []string
		for _, c := range table.Columns {
			columns = append(columns, c.Name+" "+c.Type.In("duckdb"))
		}
		for _, statement := range []string{"DROP VIEW sluis." + table.Name, "CREATE TABLE sluis." + table.Name + " (" + strings.Join(columns, ", ") + ")"} {
			if err := d.Exec(t.Context(), statement); err != nil {
				t.Fatal(err)
			}
		}
	}
	return d
}

func appendRows(t testing.TB, d warehouse.Driver, table string, rows []map[string]any) {
	t.Helper()
	names, values := tableOf(landingTable(t, table), rows)
	if err := d.Append(t.Context(), warehouse.SchemaLanding, table, names, values); err != nil {
		t.Fatal(err)
	}
}

// collectors land what they receive, each through a spool of its own: late,
// more than once, and in no order but that of the spool.
type collectors struct {
	t       testing.TB
	d       warehouse.Driver
	random  *rand.Rand
	offsets map[string]int
	landed  []map[string]any
}

func newCollectors(t testing.TB, d warehouse.Driver, random *rand.Rand) *collectors {
	return &collectors{t: t, d: d, random: random, offsets: map[string]int{}}
}

// land lands a record of a spool with up to four events.
func (c *collectors) land() {
	var rows []map[string]any
	for range 1 + c.random.IntN(4) {
		rows = append(rows, c.receive())
	}
	c.record(fmt.Sprint("spool", c.random.IntN(3)), rows)
}

// record lands rows as the next record of a spool.
func (c *collectors) record(spool string, rows []map[string]any) {
	for _, row := range rows {
		row["spool_id"], row["spool_offset"] = spool, c.offsets[spool]
	}
	c.offsets[spool]++
	appendRows(c.t, c.d, "events", rows)
	c.landed = append(c.landed, rows...)
}

// receive makes a new event or, often, another copy of one, which may differ.
func (c *collectors) receive() map[string]any {
	at := day.AddDate(0, 0, c.random.IntN(6)).Add(time.Duration(c.random.IntN(3)) * 8 * time.Hour)
	row := map[string]any{
		"event_id": fmt.Sprint("e", len(c.landed), "-", c.random.IntN(1000)), "type": "page", "occurred_at": at, "received_at": at,
		"purposes": []string{"identity", "analytics", "marketing"}, "page_path": fmt.Sprint("/", c.random.IntN(9)),
		"identifiers": []any{map[string]any{"kind": "anonymous_id", "pseudonym": fmt.Sprint("device", c.random.IntN(9))}},
	}
	if len(c.landed) > 0 && c.random.IntN(3) == 0 {
		row["event_id"] = c.landed[c.random.IntN(len(c.landed))]["event_id"]
	}
	if c.random.IntN(3) == 0 {
		row["user_id"] = fmt.Sprint("user", c.random.IntN(5))
	}
	return row
}

// erase removes all copies of the events of which one carries a pseudonym.
func (c *collectors) erase() {
	pseudonym := []string{fmt.Sprint("device", c.random.IntN(9)), fmt.Sprint("user", c.random.IntN(5))}[c.random.IntN(2)]
	carries := "user_id = ? OR EXISTS (SELECT 1 FROM UNNEST(identifiers) AS i WHERE i.pseudonym = ?)"
	if c.d.Dialect() == "duckdb" {
		carries = "user_id = ? OR list_contains(list_transform(identifiers, i -> i.pseudonym), ?)"
	}
	err := c.d.Exec(c.t.Context(), "DELETE FROM sluis.events WHERE event_id IN (SELECT event_id FROM sluis.events WHERE "+carries+")", pseudonym, pseudonym)
	if err != nil {
		c.t.Fatal(err)
	}
}

// interrupted is a warehouse whose context ends before a statement. A run has
// several under way at once.
type interrupted struct {
	warehouse.Driver
	statements atomic.Int64 // until then
	cancel     context.CancelFunc
}

func (d *interrupted) Exec(ctx context.Context, query string, args ...any) error {
	if d.statements.Add(-1) < 0 {
		d.cancel()
	}
	return d.Driver.Exec(ctx, query, args...)
}

// runInterrupted runs a model, and gives up before a statement.
func runInterrupted(t testing.TB, p *runner.Project, d warehouse.Driver, statements int, model string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	breaks := &interrupted{Driver: d, cancel: cancel}
	breaks.statements.Store(int64(statements))
	if _, err := p.Run(ctx, breaks, model); err == nil && ctx.Err() != nil {
		t.Error("a run that was interrupted reported no error")
	}
}

func runOnly(t testing.TB, p *runner.Project, d warehouse.Driver, model string) {
	t.Helper()
	results, err := p.Run(t.Context(), d, model)
	if err != nil {
		t.Fatal(err)
	}
	if err := results.Err(); err != nil {
		t.Fatal(err)
	}
}

// full is what a full refresh of stg_events would give.
func full(t testing.TB, p *runner.Project, d warehouse.Driver) [][]string {
	t.Helper()
	compiled, err := p.Compile(d.Dialect(), "stg_events")
	if err != nil {
		t.Fatal(err)
	}
	return rowsOf(t, d, nil, compiled[0].SQL)
}

const allStaged = "SELECT * FROM sluis_models.stg_events"

// seen counts what histories came to, since a test of nothing passes too.
type seen struct{ emptied, untouched, shared, interrupted int }

// checkIncremental lets a history happen, with runs in between, and compares
// after each run with a full refresh.
func checkIncremental(t *testing.T, d warehouse.Driver, random *rand.Rand, steps int, s *seen) {
	target := t.TempDir()
	p := load(t, runner.Options{Dir: sqlproject.Files, Target: target})
	c := newCollectors(t, d, random)
	for step := range steps {
		for range random.IntN(3) {
			c.land()
		}
		if random.IntN(3) == 0 {
			c.erase()
		}
		if step > 0 && random.IntN(4) == 0 {
			runInterrupted(t, p, d, random.IntN(3), "stg_events")
			s.interrupted++
			continue
		}
		var before map[string]bool
		if step > 0 {
			before = daysStaged(t, d)
		}
		runOnly(t, p, d, "stg_events")
		if diff := cmp.Diff(full(t, p, d), rowsOf(t, d, nil, allStaged)); diff != "" {
			t.Fatalf("step %d: (-full refresh +incremental)\n%s", step, diff)
		}
		s.count(t, target, before, daysStaged(t, d))
	}
}

func daysStaged(t testing.TB, d warehouse.Driver) map[string]bool {
	t.Helper()
	days := map[string]bool{}
	for _, row := range rowsOf(t, d, nil, "SELECT DISTINCT cast(cast(received_at as date) as string) FROM sluis_models.stg_events") {
		days[row[0]] = true
	}
	return days
}

func (s *seen) count(t testing.TB, target string, before, after map[string]bool) {
	t.Helper()
	compiled, err := os.ReadFile(filepath.Join(target, "compiled/models/staging/stg_events.sql"))
	if err != nil {
		t.Fatal(err)
	}
	untouched := false
	for day := range before {
		if !after[day] {
			s.emptied++
		}
		untouched = untouched || !strings.Contains(string(compiled), day)
	}
	if untouched {
		s.untouched++
	}
	if strings.Contains(string(compiled), "union all") {
		s.shared++
	}
}

// Whatever lands when, however often and on which day, whoever is erased, and
// wherever a run is interrupted: a run gives the rows of a full refresh.
func TestIncrementalIsFullRefresh(t *testing.T) {
	var s seen
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			checkIncremental(t, openTables(t), rand.New(rand.NewPCG(seed, 3)), 10, &s)
		})
	}
	t.Logf("%+v", s)
	if s.emptied == 0 || s.untouched == 0 || s.shared == 0 || s.interrupted == 0 {
		t.Errorf("the histories had too little in them: %+v", s)
	}
}

// All models, and not only the first, come out the same.
func TestIncrementalModelsAreThoseOfAFullRefresh(t *testing.T) {
	d := openTables(t)
	p := load(t, runner.Options{Dir: sqlproject.Files, Threads: 2})
	c := newCollectors(t, d, rand.New(rand.NewPCG(1, 4)))
	for range 4 {
		for range 8 {
			c.land()
		}
		outcome(t, p, d)
		c.erase()
	}
	got := outcome(t, p, d)
	if len(got["profiles"]) == 0 {
		t.Error("there are no profiles, so this shows little")
	}
	want := outcome(t, load(t, runner.Options{Dir: sqlproject.Files, FullRefresh: true}), d)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-full refresh +incremental)\n%s", diff)
	}
}

// meanwhile is a warehouse where something happens after the first query of a
// template, and before what was rendered with it runs.
type meanwhile struct {
	warehouse.Driver
	happens func()
}

func (d *meanwhile) ReadOnly(ctx context.Context, query string) (warehouse.Rows, error) {
	rows, err := d.Driver.ReadOnly(ctx, query)
	if d.happens != nil {
		d.happens()
		d.happens = nil
	}
	return rows, err
}

// What lands while a run goes on is for the next run, whole: an event of it may
// have copies on days that the run does not look at.
func TestRowsThatLandMeanwhile(t *testing.T) { checkMeanwhile(t, openTables(t)) }

func checkMeanwhile(t *testing.T, d warehouse.Driver) {
	p := load(t, runner.Options{Dir: sqlproject.Files})
	c := newCollectors(t, d, rand.New(rand.NewPCG(0, 5)))
	event := func(id string, days int) map[string]any {
		at := day.AddDate(0, 0, days)
		return map[string]any{"event_id": id, "type": "page", "received_at": at, "occurred_at": at}
	}
	c.record("a", []map[string]any{event("old", 0)})
	runOnly(t, p, d, "stg_events")
	c.record("a", []map[string]any{event("new", 5)})
	want := full(t, p, d)
	runOnly(t, p, &meanwhile{d, func() {
		c.record("a", []map[string]any{event("old", 5), event("more", 5)})
		c.record("b", []map[string]any{event("other", 5), event("old", 5)})
	}}, "stg_events")
	if diff := cmp.Diff(want, rowsOf(t, d, nil, allStaged)); diff != "" {
		t.Errorf("(-full refresh before +incremental)\n%s", diff)
	}
	runOnly(t, p, d, "stg_events")
	if diff := cmp.Diff(full(t, p, d), rowsOf(t, d, nil, allStaged)); diff != "" {
		t.Errorf("the run after: (-full refresh +incremental)\n%s", diff)
	}
}

// Nothing new means nothing to read.
func TestNothingNew(t *testing.T) {
	d, target := openTables(t), t.TempDir()
	p := load(t, runner.Options{Dir: sqlproject.Files, Target: target})
	newCollectors(t, d, rand.New(rand.NewPCG(0, 6))).record("a", []map[string]any{{"event_id": "e", "type": "page", "received_at": day, "occurred_at": day}})
	for range 2 {
		runOnly(t, p, d, "stg_events")
	}
	compiled, err := os.ReadFile(filepath.Join(target, "compiled/models/staging/stg_events.sql"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(compiled), "and false\n") {
		t.Errorf("the second run reads something:\n%s", compiled)
	}
	if rows := rowsOf(t, d, nil, allStaged); len(rows) != 1 || !slices.Contains(rows[0], "e") {
		t.Errorf("the table has %v", rows)
	}
}

// All that is left of a day may go, and nothing else happen.
func TestADayIsEmptied(t *testing.T) {
	d := openTables(t)
	p := load(t, runner.Options{Dir: sqlproject.Files})
	newCollectors(t, d, rand.New(rand.NewPCG(0, 6))).record("a", []map[string]any{{"event_id": "e", "type": "page", "received_at": day, "occurred_at": day}})
	runOnly(t, p, d, "stg_events")
	if err := d.Exec(t.Context(), "DELETE FROM sluis.events"); err != nil {
		t.Fatal(err)
	}
	runOnly(t, p, d, "stg_events")
	if rows := rowsOf(t, d, nil, allStaged); len(rows) != 0 {
		t.Errorf("the table has %v", rows)
	}
}

// visitors land what people do on their devices within some days: visits, which a
// late event may join or split, sign-ins, bots, choices and erasures.
type visitors struct{ *collectors }

func (v visitors) land() {
	var rows []map[string]any
	for range 1 + v.random.IntN(6) {
		rows = append(rows, v.event())
	}
	v.record(fmt.Sprint("spool", v.random.IntN(2)), rows)
	if v.random.IntN(3) == 0 {
		at := day.Add(time.Duration(v.random.IntN(5*24)) * time.Hour)
		appendRows(v.t, v.d, "consents", []map[string]any{{
			"decision_id": fmt.Sprint("d", len(v.landed)), "pseudonym": v.device(),
			"purpose": []string{"analytics", "identity"}[v.random.IntN(2)], "granted": v.random.IntN(3) == 0,
			"decided_at": at, "received_at": at, "spool_id": "spool0", "spool_offset": len(v.landed),
		}})
	}
}

func (v visitors) device() string { return fmt.Sprint("device", v.random.IntN(5)) }

func (v visitors) event() map[string]any {
	// Of few moments, so that there are ties, pauses just long enough, and visits over midnight and of more than a day.
	at := day.Add(time.Duration(v.random.IntN(4))*24*time.Hour + 22*time.Hour + time.Duration(v.random.IntN(30))*10*time.Minute)
	device := v.device()
	row := map[string]any{
		"event_id": fmt.Sprint("e", len(v.landed), "-", v.random.IntN(1000)), "type": []string{"page", "track", "alias"}[v.random.IntN(3)],
		"occurred_at": at, "received_at": at.Add(time.Duration(v.random.IntN(3)) * 20 * time.Hour), "page_path": fmt.Sprint("/", v.random.IntN(3)),
		"purposes":      [][]string{{"identity", "analytics"}, {"identity", "analytics"}, {"identity"}, {"analytics"}}[v.random.IntN(4)],
		"anonymous_id":  device,
		"identifiers":   []any{map[string]any{"kind": "anonymous_id", "pseudonym": device}},
		"is_bot":        v.random.IntN(12) == 0,
		"referrer_host": []any{nil, "a.example", "b.example"}[v.random.IntN(3)], "utm_medium": []any{nil, nil, "CPC"}[v.random.IntN(3)],
		"event": []any{nil, "Product Viewed", "Order Completed"}[len(v.landed)%3], "properties": fmt.Sprintf(`{"total":%d}`, len(v.landed)),
		"utm_source": []any{nil, "news", "ads", nil}[len(v.landed)%4],
	}
	if v.random.IntN(4) == 0 {
		row["user_id"] = fmt.Sprint("user", v.random.IntN(3))
		row["identifiers"] = append(row["identifiers"].([]any), map[string]any{"kind": "user_id", "pseudonym": row["user_id"]})
	}
	if v.random.IntN(10) == 0 {
		row["identifiers"] = nil
	}
	if v.random.IntN(12) == 0 {
		row["denied"] = []string{"analytics"}
	}
	if len(v.landed) > 0 && v.random.IntN(6) == 0 {
		row["event_id"] = v.landed[v.random.IntN(len(v.landed))]["event_id"]
	}
	return row
}

// grow are the models that a run adds to, but those that remember, each with the
// columns that are to be those of a full refresh: that one part was made as of
// another moment than others is as it should be.
var grow = []struct{ model, columns string }{
	{"stg_events", "*"},
	{"stg_identifier_days", "*"},
	{"consent_node_state", "*"},
	{"consent_profile", "*"},
	{"int_behaviour_days", "*"},
	{"int_funnel_days", "*"},
	{"int_profile_traits", "* EXCLUDE (made_as_of)"},
	{"int_sessions", "*"},
	{"int_attribution_journeys", "*"},
	{"attribution_credits", "*"},
}

// Models by day, by device and by person are what a full refresh would make of the same, in
// every step of a history: whatever comes late or twice, whoever is erased,
// withdraws or is recognised, wherever a run is interrupted, and as of whatever
// moment.
func TestModelsThatGrowAreThoseOfAFullRefresh(t *testing.T) {
	var projects []*runner.Project
	for _, asOf := range []string{"", "2026-03-03 12:00:00", "2026-04-02 23:10:00", "2026-03-05 00:10:00"} {
		projects = append(projects, load(t, runner.Options{Dir: sqlproject.Files, Vars: map[string]any{"as_of": asOf}}))
	}
	var all []string
	for _, g := range grow {
		all = append(all, "+"+g.model)
	}
	changed := map[string]int{}
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			d, random := openTables(t), rand.New(rand.NewPCG(seed, 9))
			v := visitors{newCollectors(t, d, random)}
			before := map[string][][]string{}
			for step := range 6 {
				for range random.IntN(4) {
					v.land()
				}
				if random.IntN(3) == 0 {
					v.erase()
				}
				p := projects[min(random.IntN(6), len(projects)-1)%len(projects)]
				if step > 0 && random.IntN(4) == 0 {
					runInterrupted(t, p, d, random.IntN(60), strings.Join(all, " "))
				}
				runOnly(t, p, d, strings.Join(all, " "))
				for _, g := range grow {
					compiled, err := p.Compile(d.Dialect(), g.model)
					if err != nil {
						t.Fatal(err)
					}
					got := rowsOf(t, d, nil, "SELECT "+g.columns+" FROM sluis_models."+g.model)
					if diff := cmp.Diff(rowsOf(t, d, nil, "SELECT "+g.columns+" FROM ("+compiled[0].SQL+"\n)"), got); diff != "" {
						t.Fatalf("step %d, %s: (-full refresh +incremental)\n%s", step, g.model, diff)
					}
					if !cmp.Equal(before[g.model], got) {
						changed[g.model]++
					}
					before[g.model] = got
				}
			}
		})
	}
	for _, g := range grow {
		if changed[g.model] < 8 {
			t.Errorf("%s changed %d times only, so this shows little", g.model, changed[g.model])
		}
	}
}
