package runner_test

import (
	"cmp"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	sqlproject "github.com/sluis-cdp/sluis/sql"
	"github.com/sluis-cdp/sluis/sql/runner"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// visit is an event as the oracles of traits and attribution know it.
type visit struct {
	id, user  string
	at        time.Time
	analytics bool
	event     string // empty for a page
	page      string
	source    string
	plan      string
	total     string // as JSON has it
}

// randomVisits makes visits around asOf of a few people who each have one
// identifier, with many ties.
func randomVisits(random *rand.Rand, n int) []visit {
	end, err := time.Parse(time.DateTime, asOf)
	if err != nil {
		panic(err)
	}
	pick := func(words ...string) string { return words[random.IntN(len(words))] }
	visits := make([]visit, n)
	for i := range visits {
		v := visit{
			id: fmt.Sprintf("e%03d", random.IntN(1000)*1000+i), user: fmt.Sprint("user", random.IntN(5)), analytics: random.IntN(6) > 0,
			at: end.Add(-24 * time.Hour * time.Duration(random.IntN(110)-1)).Add(-time.Duration(random.IntN(3)) * time.Minute),
		}
		switch random.IntN(3) {
		case 0:
			v.event, v.total = "Order Completed", pick("", "10.10", `"20.05"`, `"much"`, "0", "-3.333333333")
		case 1:
			v.event, v.plan = "Searched", pick("", "free", "pro")
		default:
			v.page, v.source = pick("/a", "/b", "/B", "/é"), pick("", "news", "ads")
		}
		visits[i] = v
	}
	return visits
}

// row is the visit as the collector lands it.
func (v visit) row() map[string]any {
	row := map[string]any{
		"event_id": v.id, "type": "page", "occurred_at": v.at, "received_at": v.at, "source_id": "web",
		"identifiers": []any{map[string]any{"kind": "user_id", "pseudonym": v.user}}, "spool_id": "spool",
		"purposes": []string{"marketing"},
	}
	if v.analytics {
		row["purposes"] = []string{"marketing", "analytics"}
	}
	for column, value := range map[string]string{"event": v.event, "page_path": v.page, "utm_source": v.source} {
		if value != "" {
			row[column] = value
		}
	}
	if v.event != "" {
		row["type"] = "track"
	}
	if v.total != "" {
		row["properties"] = `{"total":` + v.total + `}`
	}
	if v.plan != "" {
		row["traits"] = `{"plan":"` + v.plan + `"}`
	}
	return row
}

// foldTraits is the naive way to the traits of one person.
func foldTraits(visits []visit, end time.Time) map[string]string {
	slices.SortFunc(visits, func(a, b visit) int { return cmp.Or(a.at.Compare(b.at), strings.Compare(a.id, b.id)) })
	t := map[string]string{"favourite_page": "", "first_source": "", "last_source": "", "last_page": "", "plan": "", "smallest_order": "", "largest_order": "", "average_order": "", "last_order_at": ""}
	pages, sources := map[string]int{}, map[string]int{}
	views, recent, orders := 0, 0, 0
	var totals []*big.Rat
	sum, sumRecent := new(big.Rat), new(big.Rat)
	for _, v := range visits {
		if v.event == "" {
			views++
			if !v.at.Before(end.AddDate(0, 0, -30)) {
				recent++
			}
		}
		if v.page != "" {
			pages[v.page]++
			t["last_page"] = v.page
		}
		if v.source != "" {
			sources[v.source]++
			t["last_source"] = v.source
			if t["first_source"] == "" {
				t["first_source"] = v.source
			}
		}
		if v.plan != "" {
			t["plan"] = v.plan
		}
		if v.event == "Order Completed" {
			orders++
			t["last_order_at"] = v.at.Format(minute)
			if total, ok := new(big.Rat).SetString(strings.Trim(v.total, `"`)); ok {
				totals = append(totals, total)
				sum.Add(sum, total)
				if !v.at.Before(end.AddDate(0, 0, -90)) {
					sumRecent.Add(sumRecent, total)
				}
			}
		}
	}
	t["page_views"], t["page_views_30d"], t["orders"] = fmt.Sprint(views), fmt.Sprint(recent), fmt.Sprint(orders)
	t["pages"] = fmt.Sprint(len(pages))
	var names []string
	for name := range sources {
		names = append(names, name)
	}
	slices.Sort(names)
	t["sources"] = strings.Join(names, " ")
	most := 1
	for page, n := range pages {
		if n > most || n == most && n > 1 && page < t["favourite_page"] {
			most, t["favourite_page"] = n, page
		}
	}
	t["revenue"], t["revenue_90d"] = sum.FloatString(9), sumRecent.FloatString(9)
	if len(totals) > 0 {
		t["smallest_order"] = slices.MinFunc(totals, (*big.Rat).Cmp).FloatString(9)
		t["largest_order"] = slices.MaxFunc(totals, (*big.Rat).Cmp).FloatString(9)
		t["average_order"] = new(big.Rat).Quo(sum, big.NewRat(int64(len(totals)), 1)).FloatString(9)
	}
	return t
}

// TestTraitsAreAFold holds the one pass of SQL to a naive fold, and so the
// history at its last moment, and shows that doubling all events, in any order,
// changes neither.
func TestTraitsAreAFold(t *testing.T) {
	end, err := time.Parse(time.DateTime, asOf)
	if err != nil {
		t.Fatal(err)
	}
	p := load(t, runner.Options{Dir: sqlproject.Files, Vars: map[string]any{"as_of": asOf}})
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 5))
			visits := randomVisits(random, 150)
			var rows []map[string]any
			counted := map[string][]visit{}
			for _, v := range visits {
				rows = append(rows, v.row())
				if v.analytics && v.at.Before(end) {
					counted[v.user] = append(counted[v.user], v)
				}
			}
			rows = append(rows, rows...)
			random.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
			w := newWorld(t)
			w.land("events", inSpool(rows))
			d := w.open()
			defer d.Close()
			build(t, p, d, "")

			names := []string{
				"page_views", "page_views_30d", "pages", "sources", "favourite_page", "first_source", "last_source", "last_page", "plan",
				"orders", "revenue", "revenue_90d", "average_order", "smallest_order", "largest_order", "last_order_at",
			}
			var want [][]string
			for user, mine := range counted {
				traits := foldTraits(mine, end)
				line := []string{"@" + user}
				for _, name := range names {
					line = append(line, traits[name])
				}
				want = append(want, line)
			}
			slices.SortFunc(want, slices.Compare)
			got := rowsOf(t, d, founders(t, d), "SELECT profile_id, "+strings.Join(names, ", ")+" FROM sluis_models.profile_traits")
			if diff := gocmp.Diff(want, got); diff != "" {
				t.Errorf("(-fold +SQL)\n%s", diff)
			}
			compareHistory(t, d, counted, end)
		})
	}
}

// compareHistory holds the history of some traits, at the end of each day, to
// the fold of the events before.
func compareHistory(t *testing.T, d warehouse.Driver, counted map[string][]visit, end time.Time) {
	t.Helper()
	history := rowsOf(t, d, founders(t, d), `SELECT profile_id, trait, value_text, value_number, valid_from, valid_to FROM sluis_models.profile_traits_history
		WHERE trait IN ('last_page', 'page_views_30d', 'revenue_90d')`)
	compared := 0
	for user, mine := range counted {
		for at := end.AddDate(0, 0, -115); !at.After(end); at = at.AddDate(0, 0, 1) {
			var before []visit
			for _, v := range mine {
				if v.at.Before(at) {
					before = append(before, v)
				}
			}
			if len(before) == 0 {
				continue
			}
			compared++
			traits := foldTraits(before, at)
			want := [][]string{{"last_page", traits["last_page"], ""}, {"page_views_30d", "", traits["page_views_30d"] + ".000000000"}, {"revenue_90d", "", traits["revenue_90d"]}}
			if traits["last_page"] == "" {
				want = want[1:]
			}
			var got [][]string
			for _, row := range history {
				if row[0] == "@"+user && row[4] <= at.Format(minute) && (row[5] == "" || row[5] > at.Format(minute)) {
					got = append(got, row[1:4])
				}
			}
			if diff := gocmp.Diff(want, got); diff != "" {
				t.Errorf("%s at %s: (-fold +SQL)\n%s", user, at.Format(time.DateOnly), diff)
				return
			}
		}
	}
	if compared < 200 {
		t.Errorf("only %d states were compared", compared)
	}
}

// TestSourcesThatDisagree has three sources name a plan and a number of seats of
// Ann's, on two devices before she logged in, and lets rules of traits decide.
func TestSourcesThatDisagree(t *testing.T) {
	w := newWorld(t)
	w.land("events", parseLanded(t, "events", []byte(`event_id,source_id,occurred_at,identifiers,purposes,event,traits
e1,crm,2026-03-01 10:00,user_id:ann,analytics identity,Synced,"{""plan"":""pro"",""seats"":5}"
e2,crm,2026-03-02 10:00,user_id:ann,analytics identity,Synced,"{""plan"":""team""}"
e3,web,2026-02-01 10:00,anonymous_id:phone,analytics identity,Seen,"{""plan"":""free"",""seats"":1}"
e4,app,2026-03-20 10:00,anonymous_id:phone user_id:ann,analytics identity,Seen,"{""plan"":""trial"",""seats"":3}"
e5,app,2026-03-20 10:00,anonymous_id:tv,analytics identity,Seen,"{""plan"":""trial""}"
e6,billing,2026-03-25 10:00,user_id:ann,marketing identity,Synced,"{""plan"":""secret""}"
`)))
	d := w.open()
	defer d.Close()
	p := load(t, runner.Options{Dir: workspace(t, map[string]string{"models/rules.sql": `{{ config(contract={'enforced': false}) }}
with events as (
    select e.*, {{ as_of() }} as as_of from {{ consented_events('analytics') }} as e
)

{{ select_traits([
    trait_last('latest', json_text('traits', '$.plan')),
    trait_first('earliest', json_text('traits', '$.plan')),
    trait_max('seats', json_number('traits', '$.seats')),
    trait_preferred('believed', json_text('traits', '$.plan'), ['billing', 'crm']),
    trait_preferred('recently_believed', json_text('traits', '$.plan'), ['billing', 'crm'], days=20),
], 'events', 'profile_id') }}`}), Indirect: runner.Empty, Vars: varsOfCases})
	build(t, p, d, "+rules")
	got := rowsOf(t, d, founders(t, d), "SELECT profile_id, latest, earliest, cast(seats as int64), believed, recently_believed FROM rules")
	want := [][]string{{"@phone", "trial", "free", "5", "team", "trial"}, {"@tv", "trial", "trial", "", "trial", "trial"}}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
