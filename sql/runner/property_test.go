package runner_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	sqlproject "github.com/sluis-cdp/sluis/sql"
	"github.com/sluis-cdp/sluis/sql/runner"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// history is what happened, in the order in which it happened.
type history struct {
	events, consents []map[string]any
}

var day = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

// randomHistory makes a few people with devices, logins, visits, chats and
// choices.
func randomHistory(random *rand.Rand) history {
	var h history
	pick := func(words ...string) string { return words[random.IntN(len(words))] }
	for i := range 25 + random.IntN(25) {
		at := day.Add(time.Duration(i) * time.Hour)
		identifiers := []any{map[string]any{"kind": "anonymous_id", "pseudonym": fmt.Sprint("device", random.IntN(8))}}
		if random.IntN(3) == 0 {
			identifiers = append(identifiers, map[string]any{"kind": "user_id", "pseudonym": fmt.Sprint("user", random.IntN(4))})
		}
		event := map[string]any{
			"event_id": fmt.Sprint("e", i), "occurred_at": at, "received_at": at, "identifiers": identifiers,
			"spool_id": "spool", "spool_offset": i,
			"purposes": [][]string{{"identity", "analytics", "marketing"}, {"analytics", "marketing"}, {"identity", "marketing"}, {}}[random.IntN(4)],
			"group_id": fmt.Sprint("team", i%3), "page_path": pick("/", "/pricing", "/blog"), "utm_source": pick("news", "ads"),
		}
		if random.IntN(2) == 0 {
			event["event"] = pick("Live Chat Started", "Live Chat Started", "Order Completed")
			event["properties"] = `{"total":` + pick("1", "2.5", "10") + `}`
		}
		if random.IntN(10) == 0 {
			event["denied"] = []string{pick("identity", "marketing", "analytics")}
		}
		h.events = append(h.events, event)
		if random.IntN(4) == 0 {
			h.consents = append(h.consents, map[string]any{
				"decision_id": fmt.Sprint("d", i), "pseudonym": fmt.Sprint("device", random.IntN(8)), "purpose": pick("identity", "marketing"),
				"granted": random.IntN(2) == 0, "decided_at": at, "received_at": at, "spool_id": "spool", "spool_offset": i,
			})
		}
	}
	return h
}

// inSpool gives rows their places in a spool, in the order in which they
// arrive.
func inSpool(rows []map[string]any) []map[string]any {
	placed := make([]map[string]any, len(rows))
	for i, row := range rows {
		placed[i] = maps.Clone(row)
		placed[i]["spool_offset"] = i
	}
	return placed
}

// outcome is everything that people and machines read of the models.
func outcome(t *testing.T, p *runner.Project, d warehouse.Driver) map[string][][]string {
	t.Helper()
	build(t, p, d, "")
	all := map[string][][]string{}
	for _, model := range []string{
		"identity_map", "consent_profile", "profiles", "pricing_and_chat", "profile_traits", "profile_traits_history",
		"sessions", "conversions", "attribution_journeys", "attribution_credits", "attribution_markov", "attribution_shapley", "attribution_report", "time_to_convert",
		"audience_members", "account_members", "account_traits",
		"funnel_daily", "retention_weekly", "product_usage",
	} {
		all[model] = rowsOf(t, d, nil, "SELECT * FROM "+model)
	}
	return all
}

// The order in which events arrive, in how many batches, how often, and
// whether there was a run before, changes nothing.
func TestAnyArrivalOrderGivesTheSame(t *testing.T) {
	p := load(t, runner.Options{Dir: sqlproject.Files, Threads: 2, Vars: map[string]any{"as_of": asOf}})
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 7))
			h := randomHistory(random)

			straight := newWorld(t)
			straight.land("events", h.events)
			straight.land("consents", h.consents)
			d := straight.open()
			want := outcome(t, p, d)
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}

			shuffled := newWorld(t)
			events, consents := slices.Clone(h.events), slices.Clone(h.consents)
			events = append(events, events...) // all of them delivered twice
			random.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
			events = inSpool(events)
			random.Shuffle(len(consents), func(i, j int) { consents[i], consents[j] = consents[j], consents[i] })
			cut := random.IntN(len(events))
			shuffled.land("events", events[:cut])
			d = shuffled.open()
			outcome(t, p, d) // a run in between
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			shuffled.land("consents", consents)
			shuffled.land("events", events[cut:])
			d = shuffled.open()
			defer d.Close()
			if diff := cmp.Diff(want, outcome(t, p, d)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// Late events, whose time of arrival differs, give the same as if they had
// come in time, as long as they say nothing else about consent.
func TestLateEventsGiveTheSame(t *testing.T) {
	p := load(t, runner.Options{Dir: sqlproject.Files, Vars: map[string]any{"as_of": asOf}})
	random := rand.New(rand.NewPCG(11, 7))
	h := randomHistory(random)
	for _, event := range h.events {
		event["purposes"], event["denied"] = []string{"identity", "analytics", "marketing"}, nil
	}
	var outcomes []map[string][][]string
	for range 2 {
		w := newWorld(t)
		w.land("events", h.events)
		d := w.open()
		all := outcome(t, p, d)
		delete(all, "consent_profile") // tells when consent was last seen
		outcomes = append(outcomes, all)
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		arrival := random.Perm(len(h.events))
		for i, event := range h.events {
			event["received_at"] = day.AddDate(0, 1, 0).Add(time.Duration(arrival[i]) * time.Hour)
		}
	}
	if len(outcomes[0]["pricing_and_chat"]) == 0 {
		t.Error("the history has nobody in the audience, so this shows little")
	}
	if diff := cmp.Diff(outcomes[0], outcomes[1]); diff != "" {
		t.Errorf("(-in time +late)\n%s", diff)
	}
}
