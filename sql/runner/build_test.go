package runner_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/sql/runner"
)

const gated = `
-- seeds/s.csv --
i
1
2
-- seeds/s.yml --
seeds:
  - name: s
    columns:
      - name: i
        data_tests: [unique]
-- models/m.yml --
models:
  - name: good
    columns:
      - name: i
        data_tests: [not_null]
  - name: doubled
    columns:
      - name: i
        data_tests:
          - unique
          - accepted_values:
              arguments: {values: [7], quote: false}
              config: {severity: warn}
-- models/good.sql --
select i from {{ ref('s') }}
-- models/doubled.sql --
{{ config(materialized='table') }}select 1 as i from {{ ref('s') }}
-- models/child.sql --
select * from {{ ref('doubled') }}
-- models/grandchild.sql --
select * from {{ ref('child') }}, {{ ref('good') }}
-- models/cousin.sql --
select * from {{ ref('good') }}
-- tests/good_ties.sql --
select * from {{ ref('good') }} where i > (select max(i) from {{ ref('cousin') }})
`

// TestBuildSkipsWhatIsMadeOfWrongData builds models of one whose test fails, and
// of one whose test only warns.
func TestBuildSkipsWhatIsMadeOfWrongData(t *testing.T) {
	p := load(t, runner.Options{Dir: project(gated), Threads: 4})
	d := openEmpty(t)
	results, err := p.Build(t.Context(), d, "")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]runner.Status{
		"s": runner.Built, "unique_s_i": runner.Passed, "good": runner.Built, "not_null_good_i": runner.Passed, "cousin": runner.Built, "good_ties": runner.Passed,
		"doubled": runner.Built, "unique_doubled_i": runner.Failed, "accepted_values_doubled_i__False__7": runner.Warned,
		"child": runner.Skipped, "grandchild": runner.Skipped,
	}
	if diff := cmp.Diff(want, statuses(results)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	place := func(name string) int {
		return slices.IndexFunc(results, func(r runner.NodeResult) bool { return r.Name == name })
	}
	for _, pair := range [][2]string{{"s", "unique_s_i"}, {"unique_s_i", "good"}, {"unique_s_i", "doubled"}, {"not_null_good_i", "cousin"}} {
		if place(pair[0]) > place(pair[1]) {
			t.Errorf("%s ended after %s began", pair[0], pair[1])
		}
	}
	for _, r := range results {
		if r.Status == runner.Skipped && r.Name == "child" && r.Message != "depends on unique_doubled_i" {
			t.Errorf("child: %s", r.Message)
		}
		if began := !r.Started.IsZero() && r.Thread > 0; began == (r.Status == runner.Skipped) {
			t.Errorf("%s: %s, and it began at %v on thread %d", r.Name, r.Status, r.Started, r.Thread)
		}
	}
}

// TestBuildWaitsAcrossWhatIsLeftOut selects two models of which one is made of
// the other through one that is not selected.
func TestBuildWaitsAcrossWhatIsLeftOut(t *testing.T) {
	const chain = `
-- models/a.sql --
{{ config(materialized='table') }}select sum(i) as i from range(3000000) as r(i)
-- models/b.sql --
select i from {{ ref('a') }}
-- models/c.sql --
{{ config(materialized='table') }}select i from {{ ref('b') }}
`
	d := openEmpty(t)
	build(t, load(t, runner.Options{Dir: project(chain)}), d, "")
	results, err := load(t, runner.Options{Dir: project(chain), Threads: 3}).Run(t.Context(), d, "a c")
	if err != nil {
		t.Fatal(err)
	}
	if len(results) != 2 || results[0].Name != "a" || results[1].Started.Before(results[0].Started.Add(time.Duration(results[0].Seconds*float64(time.Second)))) {
		t.Errorf("c did not wait: %+v", results)
	}
}

func TestFailFast(t *testing.T) {
	text := "-- models/a_bad.sql --\nselect cast('x' as int64) as i from range(1)\n"
	for _, name := range []string{"b", "c", "d"} {
		text += "-- models/" + name + ".sql --\nselect 1 as i\n"
	}
	text = strings.ReplaceAll(text, "select cast", "{{ config(materialized='table') }}select cast")
	for _, fast := range []bool{true, false} {
		results, err := load(t, runner.Options{Dir: project(text), FailFast: fast, Threads: 1}).Build(t.Context(), openEmpty(t), "")
		if err != nil {
			t.Fatal(err)
		}
		other := runner.Built
		if fast {
			other = runner.Skipped
		}
		want := map[string]runner.Status{"a_bad": runner.Failed, "b": other, "c": other, "d": other}
		if diff := cmp.Diff(want, statuses(results)); diff != "" {
			t.Errorf("FailFast %v: (-want +got)\n%s", fast, diff)
		}
	}
}

func TestSeedBuildsSeedsAlone(t *testing.T) {
	var mu sync.Mutex
	var begun []string
	p := load(t, runner.Options{Dir: project(gated), Begin: func(n runner.Node, of int) {
		mu.Lock()
		defer mu.Unlock()
		begun = append(begun, n.Name)
		if of != 1 {
			t.Errorf("1 of %d", of)
		}
	}})
	results, err := p.Seed(t.Context(), openEmpty(t), "")
	if diff := cmp.Diff(map[string]runner.Status{"s": runner.Built}, statuses(results)); err != nil || diff != "" {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	if diff := cmp.Diff([]string{"s"}, begun); diff != "" {
		t.Errorf("begun: (-want +got)\n%s", diff)
	}
}
