package runner_test

import (
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	sqlproject "github.com/sluis-cdp/sluis/sql"
	"github.com/sluis-cdp/sluis/sql/runner"
)

// workspace is the project with files of a team's own.
func workspace(t *testing.T, own map[string]string) fs.FS {
	t.Helper()
	files := fstest.MapFS{}
	err := fs.WalkDir(sqlproject.Files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := sqlproject.Files.ReadFile(path)
		files[path] = &fstest.MapFile{Data: data}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for path, text := range own {
		files[path] = &fstest.MapFile{Data: []byte(text)}
	}
	return files
}

// followed is the var audiences, with more than the project lists.
func followed(more ...string) []any {
	names := []any{"asked_about_prices", "colleagues_of_customers", "good_customers", "lapsed_customers", "pricing_and_chat"}
	for _, name := range more {
		names = append(names, name)
	}
	return names
}

// examples are the audiences that are built once they are listed.
var examples = []string{"abandoned_carts", "active_accounts", "churn_risk", "high_intent", "lookalike_seed", "new_customers"}

// An audience of a team's own: with an exception, a purpose of their own, and
// a size below which nobody is listed.
func TestAudienceOfOnesOwn(t *testing.T) {
	w := newWorld(t)
	w.land("events", parseLanded(t, "events", []byte(`event_id,occurred_at,identifiers,purposes,event,page_path
e1,2026-03-01 10:00,anonymous_id:a,loyalty,,/pricing
e2,2026-03-01 11:00,anonymous_id:b,loyalty,,/pricing
e3,2026-03-01 12:00,anonymous_id:b,loyalty,Order Completed,
e4,2026-03-01 10:00,anonymous_id:c,loyalty,,/pricing
e5,2026-03-01 12:00,anonymous_id:c,analytics,Order Completed,
e6,2026-03-01 10:00,anonymous_id:d,analytics,,/pricing
`)))
	d := w.open()
	defer d.Close()
	// The purposes are columns of profiles, so that its contract names them.
	described, err := sqlproject.Files.ReadFile("models/profiles/_profiles.yml")
	if err != nil {
		t.Fatal(err)
	}
	var profiles strings.Builder
	for column := range strings.SplitAfterSeq(string(described), "      - name: ") {
		name, _, _ := strings.Cut(column, "\n")
		if !slices.Contains([]string{"consent_necessary", "consent_personalization", "consent_advertising"}, name) {
			profiles.WriteString(strings.Replace(column, "consent_sale", "consent_loyalty", 1))
		}
	}
	audience := func(size string) map[string]string {
		return map[string]string{
			"models/audiences/undecided.sql": `{{ audience_members(all_of=["page_path = '/pricing'"], none_of=["event = 'Order Completed'"]) }}`,
			"models/audiences/undecided.yml": "models: [{name: undecided, config: {meta: {audience: {entity: profile, purpose: loyalty, min_size: " + size + "}}}, columns: [" +
				"{name: profile_id, data_type: string}, {name: entered_at, data_type: \"{{ 'timestamptz' if target.type == 'duckdb' else 'timestamp' }}\"}]}]\n",
			"models/profiles/_profiles.yml": profiles.String(),
		}
	}
	vars := map[string]any{"purposes": []any{"identity", "analytics", "marketing", "loyalty"}, "audiences": followed("undecided")}

	build(t, load(t, runner.Options{Dir: workspace(t, audience("2")), Vars: vars, Indirect: runner.Buildable}), d, "+undecided profiles")
	got := rowsOf(t, d, founders(t, d), "SELECT profile_id FROM undecided")
	// c's order was not collected for loyalty, so it cannot count against c.
	if len(got) != 2 || got[0][0] != "@a" || got[1][0] != "@c" {
		t.Errorf("members: %v, want @a and @c", got)
	}
	build(t, load(t, runner.Options{Dir: workspace(t, audience("3")), Vars: vars, Indirect: runner.Buildable}), d, "undecided")
	wantRows(t, d, "SELECT profile_id FROM undecided")
}

// A model of a team's own, cut by day as the README shows.
func TestModelByDayOfOnesOwn(t *testing.T) {
	d := openTables(t)
	p := load(t, runner.Options{Dir: workspace(t, map[string]string{
		"models/recent.sql": `{{ config(
    materialized='incremental', incremental_strategy=insert_overwrite(), on_schema_change='fail',
    partition_by=by_day('received_at'), cluster_by=['event'],
    unique_key='cast(received_at as date)'
) }}
select event, received_at from {{ ref('stg_events') }}
{% if is_incremental() %}where received_at >= {{ midnight('2026-03-02') }}{% endif %}`,
		"models/recent.yml": `models:
  - name: recent
    columns:
      - {name: event, data_type: string}
      - {name: received_at, data_type: "{{ 'timestamptz' if target.type == 'duckdb' else 'timestamp' }}"}
`,
	})})
	for i, landed := range []string{"e1,2026-03-01 10:00,First", "e2,2026-03-02 10:00,Second", "e3,2026-03-01 11:00,Too late"} {
		rows := parseLanded(t, "events", []byte("event_id,received_at,event\n"+landed+"\n"))
		rows[0]["spool_offset"] = i
		appendRows(t, d, "events", rows)
		build(t, p, d, "stg_events recent")
	}
	wantRows(t, d, "SELECT event FROM recent", []string{"First"}, []string{"Second"})
	build(t, load(t, runner.Options{Dir: workspace(t, nil), FullRefresh: true}), d, "stg_events")
}
