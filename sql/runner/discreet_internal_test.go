package runner

import "testing"

// TestBigQuerysErrorsRepeatNoValues has messages as BigQuery writes them.
func TestBigQuerysErrorsRepeatNoValues(t *testing.T) {
	const query = "select cast(v as int64) from sluis_models.s"
	for message, want := range map[string]string{
		"Bad int64 value: wilhelmina":                                              "Bad int64 value: …",
		"Invalid timestamp: 'wilhelmina van oranje'":                               "Invalid timestamp: '…'",
		`Failed to parse input string "wilhelmina"`:                                `Failed to parse input string "…"`,
		"Could not convert wilhelmina to type INT64":                               "Could not convert … to type INT64",
		"int64 overflow: 9223372036854775807 + 12345678":                           "int64 overflow: … + …",
		"Scalar subquery produced more than one element":                           "Scalar subquery produced more than one element",
		"Unrecognized name: custmer; Did you mean customer? at [1:8]":              "Unrecognized name: custmer; Did you mean customer? at [1:8]",
		"Not found: Table p:sluis_models.s was not found in location EU":           "Not found: Table p:sluis_models.s was not found in location EU",
		"Error in sluis_models.s: wilhelmina@example.org wilhelmina@example.org !": "Error in sluis_models.s: … !",
	} {
		if got := withoutValues(message, query); got != want {
			t.Errorf("%s: got %q, want %q", message, got, want)
		}
	}
}
