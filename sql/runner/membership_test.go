package runner_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluis-cdp/sluis/sql/runner"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// replay is a history of days, and what an oracle has to know of it.
type replay struct {
	t        testing.TB
	d        warehouse.Driver
	random   *rand.Rand
	n        int // events and choices so far
	events   []map[string]any
	consents []map[string]any
	reasons  map[string]int
	checked  int // members who were held against what they said
}

// live lands what happens on a day.
func (r *replay) live(at time.Time) {
	var events, consents []map[string]any
	for i := range 14 {
		r.n++
		when := at.Add(time.Duration(i) * time.Hour)
		identifiers := []any{map[string]any{"kind": "anonymous_id", "pseudonym": fmt.Sprint("device", r.random.IntN(16))}}
		if r.random.IntN(4) == 0 {
			identifiers = append(identifiers, map[string]any{"kind": "user_id", "pseudonym": fmt.Sprint("user", r.random.IntN(4))})
		}
		event := map[string]any{
			"event_id": fmt.Sprint("e", r.n), "type": "page", "occurred_at": when, "received_at": when, "identifiers": identifiers,
			"spool_id": fmt.Sprint("day", at.YearDay()), "spool_offset": i, "source_id": "web",
			"purposes":  [][]string{{"identity", "marketing"}, {"identity", "marketing"}, {"marketing"}, {"identity", "analytics"}}[r.random.IntN(4)],
			"page_path": []string{"/", "/pricing"}[r.random.IntN(2)], "group_id": fmt.Sprint("team", r.random.IntN(3)),
		}
		switch r.random.IntN(12) {
		case 0:
			event["denied"] = []string{"marketing"}
			event["purposes"] = []string{"identity"}
		case 1, 2, 3, 4:
			event["event"], event["type"] = "Live Chat Started", "track"
		}
		events = append(events, event)
		if r.random.IntN(9) == 0 {
			consents = append(consents, map[string]any{
				"decision_id": fmt.Sprint("d", r.n), "pseudonym": fmt.Sprint("device", r.random.IntN(16)), "purpose": "marketing",
				"granted": r.random.IntN(2) == 0, "decided_at": when, "received_at": when, "spool_id": event["spool_id"], "spool_offset": i,
			})
		}
	}
	appendRows(r.t, r.d, "events", events)
	appendRows(r.t, r.d, "consents", consents)
	r.events, r.consents = append(r.events, events...), append(r.consents, consents...)
}

// erase removes all events of a device.
func (r *replay) erase(device string) {
	var gone []string
	r.events = slices.DeleteFunc(r.events, func(event map[string]any) bool {
		is := slices.Contains(pseudonymsOf(event), device)
		if is {
			gone = append(gone, "'"+event["event_id"].(string)+"'")
		}
		return is
	})
	r.consents = slices.DeleteFunc(r.consents, func(choice map[string]any) bool { return choice["pseudonym"] == device })
	if len(gone) == 0 {
		return
	}
	for _, statement := range []string{
		"DELETE FROM sluis.events WHERE event_id IN (" + strings.Join(gone, ", ") + ")",
		"DELETE FROM sluis.consents WHERE pseudonym = '" + device + "'",
	} {
		if err := r.d.Exec(r.t.Context(), statement); err != nil {
			r.t.Fatal(err)
		}
	}
}

func pseudonymsOf(event map[string]any) []string {
	var all []string
	for _, identifier := range event["identifiers"].([]any) {
		all = append(all, identifier.(map[string]any)["pseudonym"].(string))
	}
	return all
}

// refusing are the identifiers whose last word on marketing is no.
func (r *replay) refusing() map[string]bool {
	type word struct {
		at time.Time
		no bool
	}
	last := map[string]word{}
	hear := func(who string, at time.Time, no bool) {
		if heard, ok := last[who]; !ok || at.After(heard.at) || at.Equal(heard.at) && no {
			last[who] = word{at, no}
		}
	}
	for _, event := range r.events {
		for _, who := range pseudonymsOf(event) {
			if slices.Contains(event["purposes"].([]string), "marketing") {
				hear(who, event["occurred_at"].(time.Time), false)
			}
			if denied, _ := event["denied"].([]string); slices.Contains(denied, "marketing") {
				hear(who, event["received_at"].(time.Time), true)
			}
		}
	}
	for _, choice := range r.consents {
		hear(choice["pseudonym"].(string), choice["decided_at"].(time.Time), !choice["granted"].(bool))
	}
	no := map[string]bool{}
	for who, said := range last {
		no[who] = said.no
	}
	return no
}

// check holds a day's state to the rules of audiences.
func (r *replay) check(audiences map[string]func(event map[string]any) bool) {
	r.t.Helper()
	nodes := map[string][]string{}
	for _, row := range rowsOf(r.t, r.d, nil, "SELECT profile_id, node_key FROM sluis_models.identity_map") {
		nodes[row[0]] = append(nodes[row[0]], row[1])
	}
	refusing := r.refusing()
	for audience, evidence := range audiences {
		for _, row := range rowsOf(r.t, r.d, nil, "SELECT profile_id FROM sluis_models."+audience) {
			mine := nodes[row[0]]
			r.checked++
			if len(mine) == 0 || slices.ContainsFunc(mine, func(node string) bool { return refusing[node] }) {
				r.t.Errorf("%s has a member with the identifiers %v, who does not agree", audience, mine)
			}
			if !slices.ContainsFunc(r.events, func(event map[string]any) bool {
				return slices.Contains(event["purposes"].([]string), "marketing") && evidence(event) &&
					slices.ContainsFunc(pseudonymsOf(event), func(node string) bool { return slices.Contains(mine, node) })
			}) {
				r.t.Errorf("%s has a member with the identifiers %v by no event that may be used for marketing", audience, mine)
			}
		}
	}
	for _, row := range rowsOf(r.t, r.d, nil, `SELECT s.audience, s.n_published, coalesce(e.n, 0) FROM sluis_models.audience_sizes AS s LEFT JOIN (
		SELECT audience, sum(CASE action WHEN 'entered' THEN 1 WHEN 'exited' THEN -1 ELSE 0 END) AS n FROM sluis_models.audience_events GROUP BY audience) AS e ON e.audience = s.audience`) {
		if row[1] != row[2] {
			r.t.Errorf("%s has %s members, and %s entered and did not exit", row[0], row[1], row[2])
		}
	}
	r.checkHistory()
}

func (r *replay) checkHistory() {
	r.t.Helper()
	clear(r.reasons)
	ends := map[string]string{}
	for _, row := range rowsOf(r.t, r.d, nil, "SELECT audience, coalesce(profile_id, account_id), valid_from, valid_to, entry_reason, exit_reason FROM sluis_models.audience_membership") {
		r.reasons["in "+row[4]]++
		if (row[3] == "") != (row[5] == "") {
			r.t.Errorf("a membership of %s ended without a reason: %v", row[0], row[2:])
		}
		if row[5] != "" {
			r.reasons["out "+row[5]]++
		}
		if row[1] == "" {
			continue
		}
		key := row[0] + " " + row[1]
		end, before := ends[key]
		if before && (end == "" || end > row[2]) || row[3] != "" && row[3] <= row[2] {
			r.t.Errorf("memberships of %s overlap, or are empty: until %q and then %v", row[0], end, row[2:])
		}
		ends[key] = row[3]
	}
}

// TestMembershipOfDays replays days on which people come, agree, refuse, log in
// and are erased: whatever happens, nobody who refuses is a member, nobody by an
// event that may not be used, and each membership ends once, with a reason.
func TestMembershipOfDays(t *testing.T) {
	all := map[string]int{}
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := &replay{t: t, d: openTables(t), random: rand.New(rand.NewPCG(seed, 21)), reasons: map[string]int{}}
			for i := range 9 {
				at := day.AddDate(0, 0, i)
				r.live(at)
				if i > 1 && r.random.IntN(2) == 0 {
					r.erase(fmt.Sprint("device", r.random.IntN(16)))
				}
				page := "/"
				if i > 5 {
					page = "/pricing"
				}
				p := load(t, runner.Options{Dir: withCrowd(t, page), Threads: 2, Indirect: runner.Cautious, Vars: map[string]any{
					"as_of": at.AddDate(0, 0, 1).Format(time.DateTime), "audiences": followed("crowd", "teams"),
				}})
				ran, err := p.Run(t.Context(), r.d, "+audience_membership +audience_sizes")
				if err := errors.Join(err, ran.Err()); err != nil {
					t.Fatal(err)
				}
				if i%3 == 2 {
					tested, err := p.Test(t.Context(), r.d, "audience_events audience_membership audience_members crowd teams pricing_and_chat")
					if err := errors.Join(err, tested.Err()); err != nil {
						t.Fatal(err)
					}
				}
				r.check(map[string]func(map[string]any) bool{
					"crowd":            func(event map[string]any) bool { return event["page_path"] == page },
					"pricing_and_chat": func(event map[string]any) bool { return event["event"] == "Live Chat Started" },
				})
			}
			for reason, n := range r.reasons {
				all[reason] += n
			}
			if r.checked < 30 {
				t.Errorf("only %d members were checked", r.checked)
			}
		})
	}
	t.Log(all)
	for _, reason := range []string{"in criteria", "in consent", "in merged", "in definition", "out criteria", "out consent", "out merged", "out erased", "out limit", "out definition"} {
		if all[reason] == 0 {
			t.Errorf("nobody came %s, so this shows little of it: %v", reason, all)
		}
	}
}

// withCrowd is a workspace with an audience of who came to a page lately, of at
// least four, and one of the teams that chat, of which two have to agree.
func withCrowd(t *testing.T, page string) fs.FS {
	return workspace(t, map[string]string{
		"models/audiences/crowd.sql": "{{ config(contract={'enforced': false}, meta={'audience': {'entity': 'profile', 'purpose': 'marketing', 'min_size': 4}}) }}\n{{ audience_members(all_of=[did(\"page_path = '" + page + "'\", days=3)]) }}",
		"models/audiences/teams.sql": "{{ config(contract={'enforced': false}, meta={'audience': {'entity': 'account', 'purpose': 'marketing', 'min_size': 1, 'min_members_consenting': 2}}) }}\n{{ audience_members(all_of=[did(\"event = 'Live Chat Started'\", days=2)]) }}",
	})
}

// Of 49 people nobody is published where at least 50 have to be, nobody enters,
// and nothing tells how many they are; the fiftieth brings all of them.
func TestTooFewArePublishedAsNobody(t *testing.T) {
	d := openTables(t)
	p := load(t, runner.Options{Dir: workspace(t, map[string]string{
		"models/audiences/crowd.sql": "{{ config(contract={'enforced': false}, meta={'audience': {'entity': 'profile', 'purpose': 'marketing', 'min_size': 50}}) }}\n{{ audience_members(all_of=[\"type = 'page'\"]) }}",
		"models/audiences/other.sql": "{{ config(contract={'enforced': false}, meta={'audience': {'entity': 'profile', 'purpose': 'marketing', 'min_size': 1}}) }}\n{{ audience_members(all_of=[\"type = 'page'\"]) }}",
	}), Indirect: runner.Cautious, Vars: map[string]any{"as_of": asOf, "audiences": followed("crowd", "other")}})
	come := func(first, n int) {
		var rows []map[string]any
		for i := first; i < first+n; i++ {
			rows = append(rows, map[string]any{
				"event_id": fmt.Sprint("e", i), "type": "page", "occurred_at": day, "received_at": day, "spool_id": fmt.Sprint("spool", first), "spool_offset": i,
				"identifiers": []any{map[string]any{"kind": "anonymous_id", "pseudonym": fmt.Sprint("device", i)}}, "purposes": []string{"marketing"}, "source_id": "web",
			})
		}
		appendRows(t, d, "events", rows)
		build(t, p, d, "+audience_membership +audience_sizes +audience_overlap")
	}
	come(0, 49)
	wantRows(t, d, "SELECT n_published, is_suppressed FROM audience_sizes WHERE audience = 'crowd'", []string{"0", "true"})
	wantRows(t, d, "SELECT * FROM audience_membership WHERE audience = 'crowd'")
	wantRows(t, d, "SELECT n, n_both FROM audience_overlap WHERE audience = 'crowd' OR other = 'crowd'")
	come(49, 1)
	wantRows(t, d, "SELECT n_published, is_suppressed FROM audience_sizes WHERE audience = 'crowd'", []string{"50", "false"})
	wantRows(t, d, "SELECT count(*), max(entry_reason) FROM audience_membership WHERE audience = 'crowd'", []string{"50", "criteria"})
	wantRows(t, d, "SELECT n, n_both FROM audience_overlap WHERE audience = 'crowd'", []string{"50", "50"})
	come(50, 9)
	wantRows(t, d, "SELECT n, n_other, n_both FROM audience_overlap WHERE audience = 'crowd'", []string{"50", "50", "50"})
}
