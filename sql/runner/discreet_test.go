package runner_test

import (
	"strings"
	"testing"

	"github.com/sluis-cdp/sluis/sql/runner"
)

// TestErrorsRepeatNoValues has models and tests fail on what a seed holds, in
// the ways in which the engine quotes what it failed on.
func TestErrorsRepeatNoValues(t *testing.T) {
	const canary = "wilhelmina.canary@example.org"
	tests := []struct{ name, column, query, want string }{
		{"a number", canary, "cast(v as int64)", "Could not convert string '…' to INT64"},
		{"a time", canary, "cast(v as timestamp)", "imestamp"},
		{"a day", canary, "cast(v as date)", "date"},
		{"a format", canary, "strptime(v, '%Y')", "Could not parse"},
		{"JSON", canary, "cast(v as json)", "Malformed JSON"},
		{"too large", "1234567890123456789", "cast(cast(v as int64) * 1000 as int64)", "Overflow in multiplication of INT64"},
		{"out of range", "1234567890123", "cast(cast(v as int64) as int32)", "out of range"},
		{"raised", canary, "error('no such ' || v)", "no such"},
		{"a struct", canary, "cast(v as struct(a int64))", "Conversion"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := load(t, runner.Options{Dir: project(`
-- seeds/s.csv --
v
` + test.column + `
-- seeds/s.yml --
seeds:
  - name: s
    config: {column_types: {v: string}}
-- models/m.sql --
{{ config(materialized='table') }}select ` + test.query + ` as x from {{ ref('s') }}
-- tests/t.sql --
select ` + test.query + ` as x from {{ ref('s') }} where ` + test.query + ` is null
`)})
			d := openEmpty(t)
			results, err := p.Run(t.Context(), d, "")
			if err != nil {
				t.Fatal(err)
			}
			tested, err := p.Test(t.Context(), d, "")
			if err != nil {
				t.Fatal(err)
			}
			results = append(results, tested...)
			failed := 0
			for _, r := range results {
				if r.Status != runner.Failed {
					continue
				}
				failed++
				for _, word := range append(strings.FieldsFunc(test.column, func(r rune) bool { return strings.ContainsRune(".@", r) }), test.column) {
					if strings.Contains(r.Message, word) {
						t.Errorf("%s repeats %q: %s", r.Name, word, r.Message)
					}
				}
				if !strings.Contains(r.Message, test.want) {
					t.Errorf("%s does not say %q: %s", r.Name, test.want, r.Message)
				}
			}
			if failed != 2 {
				t.Errorf("%d failed: %+v", failed, results)
			}
		})
	}
}

// TestErrorsOfQueriesAreWhole keeps what is of the query alone.
func TestErrorsOfQueriesAreWhole(t *testing.T) {
	for query, want := range map[string]string{
		"select customr from {{ ref('s') }}":         `"customer"`,
		"select custmer_count from {{ ref('s') }} s": `Referenced column "custmer_count" not found`,
		"selec 1":                      `syntax error at or near "selec"`,
		"select * from nowhere.at_all": "at_all",
	} {
		p := load(t, runner.Options{Dir: project("-- seeds/s.csv --\ncustomer\n1\n-- models/m.sql --\n{{ config(materialized='table') }}" + query + "\n")})
		results, err := p.Run(t.Context(), openEmpty(t), "")
		if err != nil {
			t.Fatal(err)
		}
		if err := results.Err(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", query, err, want)
		}
	}
}
