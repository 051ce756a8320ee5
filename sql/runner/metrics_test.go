package runner_test

import (
	"fmt"
	"maps"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/sql/runner"
)

// act is an event of somebody, as the oracles of metrics know it.
type act struct {
	person, name string
	at           time.Time
}

// randomActs makes events of a few people over ten weeks, many of them at the
// same time and about as far apart as the funnels of usageVars look.
func randomActs(random *rand.Rand, n int) []act {
	acts := make([]act, n)
	for i := range acts {
		at := day.AddDate(0, 0, -random.IntN(70)).Add(time.Duration(random.IntN(24*4)) * 15 * time.Minute)
		if i > 0 && random.IntN(2) == 0 {
			at = acts[i-1].at.Add(time.Duration(random.IntN(9)) * time.Hour)
		}
		acts[i] = act{fmt.Sprint("user", random.IntN(9)), string("abcd"[random.IntN(4)]), at}
		if i > 0 && random.IntN(2) == 0 {
			acts[i].person = acts[i-1].person
		}
	}
	return acts
}

// usageVars has funnels of different lengths, one of which has a step that is one
// of two events and a step that comes twice.
var usageVars = map[string]any{
	"as_of": asOf, "time_zone": "America/New_York", "active_when": "event <> 'd'",
	"funnels": []any{
		map[string]any{"name": "short", "within_hours": 5, "steps": []any{
			map[string]any{"name": "a", "where": "event = 'a'"}, map[string]any{"name": "b", "where": "event = 'b'"},
		}},
		map[string]any{"name": "long", "within_hours": 30, "steps": []any{
			map[string]any{"name": "b", "where": "event = 'b'"},
			map[string]any{"name": "ac", "where": "event in ('a', 'c')"},
			map[string]any{"name": "d", "where": "event = 'd'"},
			map[string]any{"name": "b", "where": "event = 'b'"},
		}},
	},
	"features": []any{map[string]any{"name": "any", "where": "true"}, map[string]any{"name": "c", "where": "event = 'c'"}},
}

// TestUsageIsAFold holds funnels, retention and product usage to walks through the
// events of each person. Who does not consent is not in them.
func TestUsageIsAFold(t *testing.T) {
	newYork, err := time.LoadLocation("America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	p := load(t, runner.Options{Dir: workspace(t, nil), Vars: usageVars})
	random := rand.New(rand.NewPCG(3, 31))
	acts := randomActs(random, 500)
	var rows []map[string]any
	for i, a := range acts {
		row := map[string]any{
			"event_id": fmt.Sprint("e", i), "type": "track", "event": a.name, "occurred_at": a.at, "received_at": a.at, "source_id": "web", "spool_id": "spool",
			"identifiers": []any{map[string]any{"kind": "user_id", "pseudonym": a.person}}, "purposes": []string{"analytics"},
		}
		rows = append(rows, row)
		refused := maps.Clone(row)
		refused["event_id"], refused["purposes"] = fmt.Sprint("r", i), []string{"marketing"}
		rows = append(rows, refused)
	}
	w := newWorld(t)
	w.land("events", inSpool(rows))
	d := w.open()
	defer d.Close()
	runOnly(t, p, d, "+funnel_daily +retention_weekly +product_usage")
	for model, want := range map[string][][]string{
		"funnel, day, step, entered, people FROM funnel_daily":                                funnelsOf(acts, newYork),
		"cohort_week, week, cohort_size, people FROM retention_weekly":                        retentionOf(acts, newYork),
		"feature, day, dau, wau, mau, stickiness FROM product_usage":                          usageOf(acts, newYork),
		"count(*) FROM funnel_daily WHERE people > entered or step = 1 and people <> entered": {{"0"}},
	} {
		got := rowsOf(t, d, nil, "SELECT "+model)
		slices.SortFunc(want, slices.Compare)
		if len(want) > 1 && len(want) < 30 {
			t.Errorf("%s: %d rows show little", model, len(want))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", model, diff)
		}
	}
}

// dayIn is the day of a moment somewhere, at midnight in UTC.
func dayIn(zone *time.Location, at time.Time) time.Time {
	y, m, d := at.In(zone).Date()
	return time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
}

// funnelsOf tries every beginning, and from it the earliest of each next step.
func funnelsOf(acts []act, zone *time.Location) [][]string {
	type entry struct {
		funnel string
		day    time.Time
	}
	farthest := map[entry]map[string]int{}
	funnels := map[string]struct {
		hours int
		steps []string
	}{"short": {5, []string{"a", "b"}}, "long": {30, []string{"b", "ac", "d", "b"}}}
	is := func(a act, step string) bool { return slices.Contains([]rune(step), rune(a.name[0])) }
	for name, funnel := range funnels {
		for _, begin := range acts {
			if !is(begin, funnel.steps[0]) {
				continue
			}
			reached, last := 1, begin.at
			for _, step := range funnel.steps[1:] {
				var next time.Time
				for _, a := range acts {
					if a.person == begin.person && is(a, step) && a.at.After(last) && (next.IsZero() || a.at.Before(next)) {
						next = a.at
					}
				}
				if next.IsZero() || next.Sub(begin.at) > time.Duration(funnel.hours)*time.Hour {
					break
				}
				reached, last = reached+1, next
			}
			key := entry{name, dayIn(zone, begin.at)}
			if farthest[key] == nil {
				farthest[key] = map[string]int{}
			}
			farthest[key][begin.person] = max(farthest[key][begin.person], reached)
		}
	}
	var rows [][]string
	for key, people := range farthest {
		for step := range funnels[key.funnel].steps {
			n := 0
			for _, reached := range people {
				if reached > step {
					n++
				}
			}
			rows = append(rows, []string{key.funnel, key.day.Format(minute), fmt.Sprint(step + 1), fmt.Sprint(len(people)), fmt.Sprint(n)})
		}
	}
	return rows
}

func mondayOf(at time.Time) time.Time {
	return at.AddDate(0, 0, -(int(at.Weekday())+6)%7)
}

// retentionOf asks for each cohort and each week who of it was there.
func retentionOf(acts []act, zone *time.Location) [][]string {
	weeks := map[string]map[time.Time]bool{}
	for _, a := range acts {
		if a.name == "d" {
			continue
		}
		if weeks[a.person] == nil {
			weeks[a.person] = map[time.Time]bool{}
		}
		weeks[a.person][mondayOf(dayIn(zone, a.at))] = true
	}
	cohorts := map[time.Time][]string{}
	for person, there := range weeks {
		first := slices.MinFunc(slices.Collect(maps.Keys(there)), time.Time.Compare)
		cohorts[first] = append(cohorts[first], person)
	}
	end, _ := time.Parse(time.DateTime, asOf)
	var rows [][]string
	for cohort, people := range cohorts {
		for week := 0; !cohort.AddDate(0, 0, 7*week).After(dayIn(zone, end)); week++ {
			n := 0
			for _, person := range people {
				if weeks[person][cohort.AddDate(0, 0, 7*week)] {
					n++
				}
			}
			rows = append(rows, []string{cohort.Format(minute), fmt.Sprint(week), fmt.Sprint(len(people)), fmt.Sprint(n)})
		}
	}
	return rows
}

// usageOf counts, for each day, who was there within so many days before.
func usageOf(acts []act, zone *time.Location) [][]string {
	end, _ := time.Parse(time.DateTime, asOf)
	first := dayIn(zone, slices.MinFunc(acts, func(a, b act) int { return a.at.Compare(b.at) }).at)
	var rows [][]string
	for _, feature := range []string{"any", "c"} {
		for on := first; !on.After(dayIn(zone, end.AddDate(0, 0, -1))); on = on.AddDate(0, 0, 1) {
			row := []string{feature, on.Format(minute)}
			var counts []int64
			for _, days := range []int{1, 7, 30} {
				people := map[string]bool{}
				for _, a := range acts {
					if there := dayIn(zone, a.at); (feature == "any" || a.name == feature) && !there.After(on) && there.After(on.AddDate(0, 0, -days)) {
						people[a.person] = true
					}
				}
				counts = append(counts, int64(len(people)))
				row = append(row, fmt.Sprint(len(people)))
			}
			share := ""
			if counts[2] > 0 {
				share = big.NewRat(counts[0], counts[2]).FloatString(9)
			}
			rows = append(rows, append(row, share))
		}
	}
	return rows
}

// A var that makes no sense is refused, with what it should be.
func TestWrongVarsOfAttributionAndMetrics(t *testing.T) {
	step := map[string]any{"name": "a", "where": "true"}
	for want, vars := range map[string]map[string]any{
		"from 2 to 12":            {"attribution_channels": 13},
		"needs two steps or more": {"funnels": []any{map[string]any{"name": "f", "within_hours": 1, "steps": []any{step}}}},
		"needs name and where":    {"funnels": []any{map[string]any{"name": "f", "within_hours": 1, "steps": []any{step, map[string]any{"name": "b"}}}}},
		"two funnels called f": {"funnels": []any{
			map[string]any{"name": "f", "within_hours": 1, "steps": []any{step, step}}, map[string]any{"name": "f", "within_hours": 2, "steps": []any{step, step}},
		}},
	} {
		if _, err := runner.Load(runner.Options{Dir: workspace(t, nil), Vars: vars}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, want one that says %q", err, want)
		}
	}
}
