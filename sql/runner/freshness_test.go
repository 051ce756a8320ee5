package runner_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	sqlproject "github.com/sluis-cdp/sluis/sql"
	"github.com/sluis-cdp/sluis/sql/runner"
	"github.com/sluis-cdp/sluis/sql/runner/artifact"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// promises are sources of all kinds, over the landing table events.
const promises = `-- dbt_project.yml --
name: p
vars: {hours: 24}
-- models/_sources.yml --
sources:
  - name: s
    schema: sluis
    loaded_at_field: received_at
    config:
      freshness:
        warn_after: {count: "{{ var('hours') }}", period: hour}
        error_after: {count: 3, period: day}
    tables:
      - {name: fresh, identifier: events, freshness: {filter: "source_id = 'fresh'"}}
      - {name: late, identifier: events, freshness: {filter: "source_id = 'late'"}}
      - {name: stale, identifier: events, config: {freshness: {filter: "source_id = 'stale'"}}}
      - {name: never, identifier: events, freshness: {filter: "source_id = 'never'"}}
      - {name: patient, identifier: events, freshness: {filter: "source_id = 'stale'", error_after: {count: 900, period: minute}, warn_after: null}}
      - {name: lenient, identifier: events, freshness: {filter: "source_id = 'stale'", error_after: null}}
      - {name: unpromised, identifier: events, freshness: null}
      - {name: empty, identifier: ledger, config: {loaded_at_field: minute}}
      - {name: broken, identifier: gone}
      - {name: unreadable, identifier: events, loaded_at_field: source_id}
      - name: asked
        identifier: events
        config:
          loaded_at_query: select max(occurred_at) from {{ this }} where source_id = '{{ "late" }}'
      - name: together
        identifier: vault
        loaded_at_query: |
          select least(max(e.received_at), max(e.occurred_at))
          from {{ source('s', 'fresh') }} as e
`

// TestFreshness holds sources to what they promise.
func TestFreshness(t *testing.T) { checkFreshness(t, openTables(t)) }

func checkFreshness(t *testing.T, d warehouse.Driver) {
	t.Helper()
	now := time.Now()
	var rows []map[string]any
	for source, hours := range map[string]int{"fresh": 0, "late": 30, "stale": 80} {
		for i := range 2 {
			at := now.Add(-time.Duration(hours+100*i) * time.Hour)
			rows = append(rows, map[string]any{"event_id": fmt.Sprint(source, i), "source_id": source, "received_at": at, "occurred_at": at, "spool_offset": len(rows)})
		}
	}
	appendRows(t, d, "events", rows)
	var told []string
	p := load(t, runner.Options{Dir: project(promises), Threads: 3, Progress: func(r runner.NodeResult) { told = append(told, r.Name) }})
	invocation := runner.Invocation{ID: "i", Started: now, Dialect: d.Dialect()}
	results, err := p.Freshness(t.Context(), d, "")
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(results, func(a, b runner.NodeResult) int { return strings.Compare(a.Name, b.Name) })
	var got []string
	for i, r := range p.SourceResults(invocation, results, now).Results {
		line := r.UniqueID + " " + r.Status
		if r.Measured != nil {
			line += fmt.Sprintf(" %.0f, %s, %s", r.Age/3600, r.Criteria.WarnAfter, r.Criteria.ErrorAfter)
		}
		if (r.Measured == nil) != (r.Status == "runtime error") || (r.Error == nil) == (r.Measured == nil) || (results[i].Freshness == nil) != (r.Measured == nil) {
			t.Errorf("%s is told of in both ways, or in neither", line)
		}
		got = append(got, line)
	}
	never := fmt.Sprintf("%.0f", float64(now.Unix()-time.Time{}.Unix())/3600)
	want := []string{
		"source.p.s.asked warn 30, 24 hours, 3 days",
		"source.p.s.broken runtime error",
		"source.p.s.empty error " + never + ", 24 hours, 3 days",
		"source.p.s.fresh pass 0, 24 hours, 3 days",
		"source.p.s.late warn 30, 24 hours, 3 days",
		"source.p.s.lenient warn 80, 24 hours, ",
		"source.p.s.never error " + never + ", 24 hours, 3 days",
		"source.p.s.patient error 80, , 900 minutes",
		"source.p.s.stale error 80, 24 hours, 3 days",
		"source.p.s.together pass 0, 24 hours, 3 days",
		"source.p.s.unreadable runtime error",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if len(told) != len(want) {
		t.Errorf("progress was told of %v", told)
	}
	for name, message := range map[string]string{
		"s.empty": "there is no row (error_after: 3 days)", "s.never": "there is no row that the filter leaves",
		"s.late": "30.0 hours ago (warn_after: 24 hours)", "s.unreadable": "gives no timestamp: cast it",
	} {
		i := slices.IndexFunc(results, func(r runner.NodeResult) bool { return r.Name == name })
		if i < 0 || !strings.Contains(results[i].Message, message) {
			t.Errorf("%s: %+v, want %q", name, results[i], message)
		}
	}
	some, err := p.Freshness(t.Context(), d, "source:s.fresh source:s.unpromised")
	if err != nil || len(some) != 1 || some[0].Status != runner.Passed {
		t.Errorf("of two, one of which promises nothing: %+v, %v", some, err)
	}
}

// TestSourceStatus selects by what has come since an earlier state, as artifacts
// that were written and read again tell it.
func TestSourceStatus(t *testing.T) {
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	results := func(loaded map[string]int) runner.Results {
		var all runner.Results
		for name, hours := range loaded {
			r := runner.NodeResult{Name: "s." + name, Kind: runner.Source, Status: runner.Failed}
			if hours > 0 {
				r.Status, r.Freshness = runner.Passed, &runner.Freshness{LoadedAt: at.Add(time.Duration(hours) * time.Hour), AskedAt: at}
			}
			all = append(all, r)
		}
		return all
	}
	p := load(t, runner.Options{Dir: project(promises)})
	before, now := t.TempDir(), t.TempDir()
	invocation := runner.Invocation{ID: "i", Started: at, Dialect: "duckdb"}
	for dir, loaded := range map[string]map[string]int{
		before: {"fresh": 1, "late": 2, "stale": 3, "never": 0},
		now:    {"fresh": 2, "late": 2, "stale": 0, "never": 1, "asked": 1},
	} {
		if err := artifact.Write(dir, artifact.SourcesFile, p.SourceResults(invocation, results(loaded), at)); err != nil {
			t.Fatal(err)
		}
	}
	state, err := runner.ReadState(before)
	if err != nil {
		t.Fatal(err)
	}
	p = load(t, runner.Options{Dir: project(promises), State: state, Target: now})
	got, err := p.Select("source_status:fresher")
	if diff := cmp.Diff([]string{"source.p.s.asked", "source.p.s.fresh", "source.p.s.never"}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	for selector, want := range map[string]string{"source_status:staler": "the status of a source is fresher"} {
		if _, err := p.Select(selector); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", selector, err)
		}
	}
	if _, err := load(t, runner.Options{Dir: project(promises)}).Select("source_status:fresher"); err == nil || !strings.Contains(err.Error(), "--state") {
		t.Errorf("without a state: %v", err)
	}
	p = load(t, runner.Options{Dir: project(promises), State: state, Target: t.TempDir()})
	if _, err := p.Select("source_status:fresher"); err == nil || !strings.Contains(err.Error(), "sluis models source freshness") {
		t.Errorf("without having asked: %v", err)
	}
}

// TestPromisesAreInTheManifest looks at what is told of sources: their promises,
// and that another promise is a change.
func TestPromisesAreInTheManifest(t *testing.T) {
	invocation := runner.Invocation{ID: "i", Dialect: "duckdb"}
	manifest := load(t, runner.Options{Dir: project(promises)}).Manifest(invocation, time.Now())
	text, err := json.Marshal(manifest.Sources["source.p.s.patient"].Freshness)
	if want := `{"warn_after":{"count":null,"period":null},"error_after":{"count":900,"period":"minute"},"filter":"source_id = 'stale'"}`; string(text) != want || err != nil {
		t.Errorf("got %s, %v", text, err)
	}
	if asked := manifest.Sources["source.p.s.asked"]; asked.LoadedAtQuery == nil || !strings.Contains(*asked.LoadedAtQuery, "{{ this }}") || asked.LoadedAtField == nil {
		t.Errorf("a query, and the field that it goes before: %+v", asked)
	}
	if together := manifest.Sources["source.p.s.unpromised"]; together.Freshness != nil {
		t.Errorf("%+v", together)
	}
	dir := t.TempDir()
	if err := artifact.Write(dir, artifact.ManifestFile, manifest); err != nil {
		t.Fatal(err)
	}
	state, err := runner.ReadState(dir)
	if err != nil {
		t.Fatal(err)
	}
	changed := load(t, runner.Options{Dir: project(strings.ReplaceAll(promises, "count: 900", "count: 901")), State: state})
	got, err := changed.Select("state:modified")
	if diff := cmp.Diff([]string{"source.p.s.patient"}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
}

// TestLandingIsFresh holds what the project promises of its own sources to what
// has just landed, and to a day without any.
func TestLandingIsFresh(t *testing.T) {
	d := openTables(t)
	p := load(t, runner.Options{Dir: sqlproject.Files})
	for hours, want := range map[int]runner.Status{100: runner.Failed, 30: runner.Warned, 0: runner.Passed} {
		t.Run(fmt.Sprint(hours), func(t *testing.T) {
			for _, table := range []string{"events", "ledger"} {
				if err := d.Exec(t.Context(), "delete from sluis."+table); err != nil {
					t.Fatal(err)
				}
			}
			at := time.Now().Add(-time.Duration(hours) * time.Hour)
			appendRows(t, d, "events", []map[string]any{{"event_id": "e", "received_at": at, "spool_offset": 1}})
			appendRows(t, d, "ledger", []map[string]any{{"source_id": "web", "minute": at, "outcome": "accepted", "n": int64(1), "spool_offset": 1}})
			results, err := p.Freshness(t.Context(), d, "")
			if err != nil || len(results) != 2 {
				t.Fatalf("%+v, %v", results, err)
			}
			for _, r := range results {
				if r.Status != want {
					t.Errorf("%s is %s (%s), want %s", r.Name, r.Status, r.Message, want)
				}
			}
		})
	}
}
