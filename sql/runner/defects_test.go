package runner_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/sql/runner"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// Ann and Bob came by e-mail and by an affiliate, in turns, and ordered for 1 and
// for 99. Cas and Dan went the same way, by a banner to a sign-up, which is worth
// nothing. Eve's order has no visit. Fay ordered in December, and came again twice in
// the new year, for nothing, by a campaign that is called as a channel is, and by the
// bookmark; Gus came by that before he ordered.
const defectEvents = `event_id,occurred_at,identifiers,purposes,event,page_path,utm_source,utm_medium,utm_campaign,properties
a1,2026-01-05 10:00,anonymous_id:ann,analytics,,/,b,affiliate,x > y,
a2,2026-01-06 10:00,anonymous_id:ann,analytics,,/,a,email,x,
a3,2026-01-06 10:01,anonymous_id:ann,analytics,Order Completed,,,,,"{""total"":1}"
b1,2026-01-05 10:00,anonymous_id:bob,analytics,,/,a,email,x,
b2,2026-01-06 10:00,anonymous_id:bob,analytics,,/,b,affiliate,x > y,
b3,2026-01-06 10:01,anonymous_id:bob,analytics,Order Completed,,,,,"{""total"":99}"
c1,2026-01-05 10:00,anonymous_id:cas,analytics,,/,c,banner,y,
c2,2026-01-05 10:01,anonymous_id:cas,analytics,Signed Up,,,,,
d1,2026-01-05 10:00,anonymous_id:dan,analytics,,/,c,banner,y,
d2,2026-01-05 10:01,anonymous_id:dan,analytics,Signed Up,,,,,
e1,2026-01-05 10:00,user_id:eve,analytics,Order Completed,,,,,"{""total"":7}"
f1,2025-12-01 10:00,anonymous_id:fay,analytics,,/,s,paid_social,,
f2,2025-12-01 10:01,anonymous_id:fay,analytics,Order Completed,,,,,"{""total"":3}"
f3,2026-01-20 10:00,anonymous_id:fay,analytics,,/,s,paid_social,email,
f4,2026-01-21 10:00,anonymous_id:fay,analytics,,/,,,,
g1,2026-02-01 10:00,anonymous_id:gus,analytics,,/,g,cpc,x,
g2,2026-02-02 10:00,anonymous_id:gus,analytics,,/,,,,
g3,2026-02-02 10:01,anonymous_id:gus,analytics,Order Completed,,,,,"{""total"":20}"
h1,2026-02-01 10:00,anonymous_id:hal,analytics,,/,g,cpc,x,
h2,2026-02-02 10:00,anonymous_id:hal,analytics,,/,,,,
h3,2026-02-02 10:01,anonymous_id:hal,analytics,Order Completed,,,,,"{""total"":30}"
`

// TestAttributionDefects has a case for each defect that was found in packages that
// others publish; the ninth has another in TestChannelModelsKnownAnswers.
func TestAttributionDefects(t *testing.T) {
	w := newWorld(t)
	w.land("events", parseLanded(t, "events", []byte(defectEvents)))
	d := w.open()
	defer d.Close()
	project := func(conversions ...any) *runner.Project {
		return load(t, runner.Options{
			Dir: workspace(t, map[string]string{
				"seeds/channel_spend.csv": "day,channel,campaign,currency,spend\n2025-12-15,affiliate,,EUR,40\n2026-01-15,affiliate,,EUR,10\n2026-01-15,tv,,EUR,500\n",
			}),
			Vars: map[string]any{"as_of": asOf, "conversions": conversions},
		})
	}
	buildAttribution(t, project("Order Completed", "Signed Up"), d)
	for _, defect := range []struct {
		name, query string
		want        [][]string
	}{
		{
			"1: conversions weighted by their value",
			"SELECT channel, conversions, value FROM attribution_report WHERE kind = 'Order Completed' AND model = 'first' AND month = '2026-01-01' AND conversions > 0",
			[][]string{{"affiliate", "1.000000000", "1.000000000"}, {"email", "1.000000000", "99.000000000"}, {"unattributed", "1.000000000", "7.000000000"}},
		},
		{
			"2: spend and revenue of different days, and spend without a conversion lost",
			"SELECT month, channel, conversions, spend, roas, cost_per_conversion FROM attribution_report WHERE kind = 'Order Completed' AND model = 'last' AND spend > 0",
			[][]string{
				{"2025-12-01 00:00", "affiliate", "0.000000000", "40.000000000", "0.000000000", ""},
				{"2026-01-01 00:00", "affiliate", "1.000000000", "10.000000000", "9.900000000", "10.000000000"},
				{"2026-01-01 00:00", "tv", "0.000000000", "500.000000000", "0.000000000", ""},
			},
		},
		{
			"3: conversions worth nothing ignored",
			"SELECT channel, sum(conversions), sum(value) FROM attribution_report WHERE kind = 'Signed Up' AND model = 'linear' AND conversions > 0 GROUP BY channel",
			[][]string{{"display", "2.000000000", "0.000000000"}},
		},
		{
			"4: conversions without a visit lost",
			"SELECT DISTINCT conversion_id, credit, value FROM attribution_credits WHERE channel = 'unattributed'",
			[][]string{{"e1", "1.000000000", "7.000000000"}},
		},
		{
			"5: paths that are texts",
			"SELECT place, channel, campaign FROM attribution_journeys WHERE conversion_id = 'a3'",
			[][]string{{"1", "affiliate", "x > y"}, {"2", "email", "x"}},
		},
		{
			"7: campaigns taken for channels",
			"SELECT kind, channel, campaign, outcome FROM attribution_journeys WHERE kind = 'Order Completed' AND campaign = 'email'",
			[][]string{{"Order Completed", "paid social", "email", "lost"}},
		},
		{
			"8: no journeys without a conversion of those who ever converted",
			"SELECT outcome, place, visits, channel FROM attribution_journeys j JOIN identity_map m USING (profile_id) WHERE founder_node = 'fay' AND kind = 'Order Completed'",
			[][]string{{"converted", "1", "1", "paid social"}, {"lost", "1", "2", "paid social"}, {"lost", "2", "2", "direct"}},
		},
		{
			"9: the value of like paths not added up",
			"SELECT channel, sum(conversions), sum(value) FROM attribution_report WHERE kind = 'Order Completed' AND model = 'linear' AND month = '2026-02-01' GROUP BY channel",
			[][]string{{"direct", "1.000000000", "25.000000000"}, {"paid search", "1.000000000", "25.000000000"}},
		},
		{
			"10: the last visit by the bookmark taken for what brought somebody",
			"SELECT model, channel, credit FROM attribution_credits WHERE conversion_id = 'g3' AND model IN ('last', 'last_non_direct')",
			[][]string{{"last", "direct", "1.000000000"}, {"last_non_direct", "paid search", "1.000000000"}},
		},
	} {
		t.Run(defect.name, func(t *testing.T) {
			if diff := cmp.Diff(defect.want, rowsOf(t, d, nil, defect.query)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
	t.Run("6: other settings not noticed", func(t *testing.T) {
		tables := []string{"attribution_journeys", "attribution_credits", "attribution_markov", "attribution_shapley", "attribution_report"}
		read := func(d warehouse.Driver) (all [][][]string) {
			for _, table := range tables {
				all = append(all, rowsOf(t, d, nil, "SELECT * FROM "+table))
			}
			return all
		}
		p := project("Signed Up")
		buildAttribution(t, p, d)
		w := newWorld(t)
		w.land("events", parseLanded(t, "events", []byte(defectEvents)))
		anew := w.open()
		defer anew.Close()
		buildAttribution(t, p, anew)
		if diff := cmp.Diff(read(anew), read(d)); diff != "" {
			t.Errorf("(-built anew +built again)\n%s", diff)
		}
	})
}

// buildAttribution runs the models of attribution and what they read, and tests
// them.
func buildAttribution(t *testing.T, p *runner.Project, d warehouse.Driver) {
	t.Helper()
	results, err := p.Run(t.Context(), d, "+path:models/attribution")
	if err := errors.Join(err, results.Err()); err != nil {
		t.Fatal(err)
	}
	results, err = p.Test(t.Context(), d, "path:models/attribution attribution_ties")
	if err := errors.Join(err, results.Err()); err != nil {
		t.Fatal(err)
	}
}
