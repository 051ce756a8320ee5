package runner_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	sqlproject "github.com/sluis-cdp/sluis/sql"
	"github.com/sluis-cdp/sluis/sql/runner"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// TestAudienceEvents follows members through runs in between which Ann does
// nothing, Bob refuses, Cas is erased, who was Eve's device turns out to be Eve, and
// Dan is no longer what the audience is about. Of Cas and of the device it is no
// longer known who they were. A full refresh forgets nothing.
func TestAudienceEvents(t *testing.T) { checkAudienceEvents(t, openTables(t)) }

func checkAudienceEvents(t *testing.T, d warehouse.Driver) {
	t.Helper()
	land := func(table, data string) { appendRows(t, d, table, parseLanded(t, table, []byte(data))) }
	run := func(asOf string, full bool) {
		build(t, load(t, runner.Options{Dir: sqlproject.Files, FullRefresh: full, Vars: map[string]any{"as_of": asOf}}), d, "")
	}
	land("events", `event_id,occurred_at,received_at,identifiers,purposes,event,page_path
a1,2026-03-01 10:00,2026-03-01 10:00,user_id:ann,marketing identity,,/pricing
a2,2026-03-01 11:00,2026-03-01 11:00,user_id:ann,marketing identity,Live Chat Started,
b1,2026-03-01 10:00,2026-03-01 10:00,user_id:bob,marketing identity,,/pricing
b2,2026-03-01 11:00,2026-03-01 11:00,user_id:bob,marketing identity,Live Chat Started,
c1,2026-03-01 10:00,2026-03-01 10:00,user_id:cas,marketing identity,,/pricing
c2,2026-03-01 11:00,2026-03-01 11:00,user_id:cas,marketing identity,Live Chat Started,
e1,2026-03-01 10:00,2026-03-01 10:00,anonymous_id:eves,marketing identity,,/pricing
e2,2026-03-01 11:00,2026-03-01 11:00,anonymous_id:eves,marketing identity,Live Chat Started,
d1,2026-01-01 10:00,2026-01-01 10:00,user_id:dan,marketing identity,Order Completed,
`)
	run("2026-03-02 00:00:00", false)
	run("2026-03-03 00:00:00", false)
	land("consents", "decision_id,pseudonym,purpose,granted,decided_at\nd1,bob,marketing,false,2026-03-03 10:00\n")
	if err := d.Exec(t.Context(), "delete from sluis.events where event_id in ('c1', 'c2')"); err != nil {
		t.Fatal(err)
	}
	land("events", `event_id,occurred_at,received_at,identifiers,purposes,event,page_path
e0,2026-02-01 10:00,2026-03-03 10:00,anonymous_id:eves user_id:eve,marketing identity,,/
d2,2026-03-03 10:00,2026-03-03 10:00,user_id:dan,marketing identity,,/
`)
	if err := d.Exec(t.Context(), "update sluis.events set spool_id = 'later' where event_id in ('e0', 'd2')"); err != nil {
		t.Fatal(err)
	}
	run("2026-03-04 00:00:00", true)
	run("2026-03-05 00:00:00", true)
	_, want := parseCSV(t, []byte(strings.TrimPrefix(`
run,audience,profile_id,action,reason,noticed_at
1,asked_about_prices,,defined,definition,2026-03-02 00:00
1,asked_about_prices,,entered,criteria,2026-03-02 00:00
1,asked_about_prices,,entered,criteria,2026-03-02 00:00
1,asked_about_prices,@ann,entered,criteria,2026-03-02 00:00
1,asked_about_prices,@bob,entered,criteria,2026-03-02 00:00
1,colleagues_of_customers,,defined,definition,2026-03-02 00:00
1,good_customers,,defined,definition,2026-03-02 00:00
1,lapsed_customers,,defined,definition,2026-03-02 00:00
1,lapsed_customers,@dan,entered,criteria,2026-03-02 00:00
1,pricing_and_chat,,defined,definition,2026-03-02 00:00
1,pricing_and_chat,,entered,criteria,2026-03-02 00:00
1,pricing_and_chat,,entered,criteria,2026-03-02 00:00
1,pricing_and_chat,@ann,entered,criteria,2026-03-02 00:00
1,pricing_and_chat,@bob,entered,criteria,2026-03-02 00:00
2,asked_about_prices,,exited,erased,2026-03-04 00:00
2,asked_about_prices,,exited,merged,2026-03-04 00:00
2,asked_about_prices,@bob,exited,consent,2026-03-04 00:00
2,asked_about_prices,@eve,entered,merged,2026-03-04 00:00
2,lapsed_customers,@dan,exited,criteria,2026-03-04 00:00
2,pricing_and_chat,,exited,erased,2026-03-04 00:00
2,pricing_and_chat,,exited,merged,2026-03-04 00:00
2,pricing_and_chat,@bob,exited,consent,2026-03-04 00:00
2,pricing_and_chat,@eve,entered,merged,2026-03-04 00:00
`, "\n")))
	got := rowsOf(t, d, founders(t, d), "SELECT run, audience, profile_id, action, reason, noticed_at FROM sluis_models.audience_events")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	// Only who asks for it by name has it forget.
	p := load(t, runner.Options{Dir: sqlproject.Files, Vars: map[string]any{"as_of": "2026-03-06 00:00:00"}})
	results, err := p.RunAnew(t.Context(), d, "audience_events")
	if err := errors.Join(err, results.Err()); err != nil {
		t.Fatal(err)
	}
	want = [][]string{{"1", "2026-03-06 00:00"}}
	got = rowsOf(t, d, nil, "SELECT DISTINCT run, noticed_at FROM sluis_models.audience_events")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("built anew: (-want +got)\n%s", diff)
	}
}
