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

// TestRestatements follows what an order is owed to: to the bookmark, until a login
// shows that Ann came by an ad on her phone; then half of its value is paid back, and
// at last Ann refuses. A run that finds nothing new adds nothing, nor does a full
// refresh forget.
func TestRestatements(t *testing.T) { checkRestatements(t, openTables(t)) }

func checkRestatements(t *testing.T, d warehouse.Driver) {
	t.Helper()
	landed := 0
	land := func(table, data string) {
		rows := parseLanded(t, table, []byte(data))
		for _, row := range rows {
			row["spool_offset"] = landed
			landed++
		}
		appendRows(t, d, table, rows)
	}
	run := func(asOf string, full bool) {
		p := load(t, runner.Options{Dir: sqlproject.Files, FullRefresh: full, Vars: map[string]any{"as_of": asOf}})
		results, err := p.Run(t.Context(), d, "+attribution_restatements")
		if err := errors.Join(err, results.Err()); err != nil {
			t.Fatal(err)
		}
	}
	land("events", `event_id,occurred_at,received_at,identifiers,purposes,event,page_path,utm_medium,properties
a1,2026-03-01 10:00,2026-03-01 10:00,anonymous_id:phone,analytics identity,,/,cpc,
a2,2026-03-02 10:00,2026-03-02 10:00,anonymous_id:laptop user_id:ann,analytics identity,,/,,
a3,2026-03-02 10:01,2026-03-02 10:01,anonymous_id:laptop user_id:ann,analytics identity,Order Completed,,,"{""order_id"":""o1"",""total"":10}"
`)
	run("2026-03-02 12:00:00", false)
	land("events", `event_id,occurred_at,received_at,identifiers,purposes,event,page_path,utm_medium,properties
b1,2026-03-02 13:00,2026-03-02 13:00,user_id:bob,analytics,Order Completed,,,"{""order_id"":""o2"",""total"":1}"
`)
	run("2026-03-04 12:00:00", false)
	run("2026-03-05 12:00:00", true)
	land("events", `event_id,occurred_at,received_at,identifiers,purposes,event,page_path,utm_medium,properties
a4,2026-03-05 13:00,2026-03-05 13:00,anonymous_id:phone user_id:ann,analytics identity,,/,,
`)
	run("2026-03-06 12:00:00", false)
	land("events", `event_id,occurred_at,received_at,identifiers,purposes,event,page_path,utm_medium,properties
a5,2026-03-06 13:00,2026-03-06 13:00,user_id:ann,analytics identity,Order Refunded,,,"{""order_id"":""o1"",""total"":5}"
`)
	run("2026-03-07 12:00:00", true)
	land("consents", "decision_id,pseudonym,purpose,granted,decided_at\nd1,ann,analytics,false,2026-03-07 13:00\n")
	run("2026-03-08 12:00:00", false)
	_, want := parseCSV(t, []byte(strings.TrimPrefix(`
run,noticed_at,day,channel,conversions,value,is_restated
1,2026-03-02 12:00,2026-03-02 00:00,direct,1.000000000,10.000000000,false
2,2026-03-04 12:00,2026-03-02 00:00,unattributed,1.000000000,1.000000000,false
3,2026-03-06 12:00,2026-03-02 00:00,direct,-1.000000000,-10.000000000,true
3,2026-03-06 12:00,2026-03-02 00:00,paid search,1.000000000,10.000000000,true
4,2026-03-07 12:00,2026-03-02 00:00,paid search,0.000000000,-5.000000000,true
5,2026-03-08 12:00,2026-03-02 00:00,paid search,-1.000000000,-5.000000000,true
`, "\n")))
	got := rowsOf(t, d, nil, "SELECT run, noticed_at, day, channel, conversions, value, is_restated FROM sluis_models.attribution_restatements WHERE model = 'last_non_direct'")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	wantRows(t, d, `SELECT 1 FROM sluis_models.attribution_restatements AS r
		LEFT JOIN (
			SELECT model, channel, sum(credit) AS credit, sum(value) AS value
			FROM sluis_models.attribution_credits GROUP BY model, channel
		) AS a ON a.model = r.model AND a.channel = r.channel
		GROUP BY r.model, r.channel, a.credit, a.value
		HAVING sum(r.conversions) <> coalesce(a.credit, 0) OR sum(r.value) <> coalesce(a.value, 0)`)
}
