package runner_test

import (
	"context"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/sql/runner"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// statements counts what reads a warehouse.
type statements struct {
	warehouse.Driver
	queries []string
}

func (s *statements) Query(ctx context.Context, query string, args ...any) (warehouse.Rows, error) {
	s.queries = append(s.queries, query)
	return s.Driver.Query(ctx, query, args...)
}

const manyTests = `
-- models/m.sql --
select 1 as k, cast(null as string) as v union all select 1 as k, 'b' as v
-- models/n.sql --
select k from {{ ref('m') }}
-- models/m.yml --
models:
  - name: m
    columns:
      - name: k
        data_tests: [not_null, unique]
      - name: v
        data_tests:
          - not_null: {config: {severity: warn}}
          - accepted_values: {arguments: {values: [b]}}
  - name: n
    columns:
      - name: k
        data_tests:
          - relationships: {arguments: {to: ref('m'), field: k}}
-- tests/alone.sql --
select * from {{ ref('m') }} where k > 5
`

// The tests of one model are one statement, and each has its own result; what
// reads another model, too, or is a query of its own, is not among them.
func TestTestsOfAModelAreOneStatement(t *testing.T) {
	tests := []struct {
		name, more string
		statements int
		want       map[string]string
	}{
		{"all at once", "", 3, nil},
		{"one has an error", "      - name: gone\n        data_tests: [not_null]\n", 8, map[string]string{"not_null_m_gone": "failed -1"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := load(t, runner.Options{Dir: project(strings.Replace(manyTests, "  - name: n\n", test.more+"  - name: n\n", 1))})
			d := &statements{Driver: openEmpty(t)}
			if results, err := p.Run(t.Context(), d, ""); err != nil || results.Err() != nil {
				t.Fatal(err, results.Err())
			}
			want := map[string]string{
				"not_null_m_k": "passed 0", "unique_m_k": "failed 1", "not_null_m_v": "warned 1", "accepted_values_m_v__b": "passed 0",
				"relationships_n_k__k__ref_m_": "passed 0", "alone": "passed 0",
			}
			maps.Copy(want, test.want)
			d.queries = nil
			results, err := p.Test(t.Context(), d, "")
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for _, r := range results {
				got[r.Name] = strings.TrimSpace(string(r.Status) + " " + rowsText(r.Rows))
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if len(d.queries) != test.statements {
				t.Errorf("%d statements, not %d:\n%s", len(d.queries), test.statements, strings.Join(d.queries, "\n\n"))
			}
		})
	}
}

func rowsText(rows int64) string {
	if rows < 0 {
		return "-1"
	}
	return string(rune('0' + rows))
}
