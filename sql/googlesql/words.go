package googlesql

import (
	"regexp"
	"strings"
)

// Finding is a place in the source of a model, test or macro.
type Finding struct {
	Line    int
	Message string
}

// trap is a word that both warehouses know and that differs in what it does.
type trap struct {
	pattern *regexp.Regexp
	message string
}

// called is a pattern for functions, but not for what belongs to something, as
// in dbt.current_timestamp().
func called(names string) *regexp.Regexp {
	return regexp.MustCompile(`(?i)(?:^|[^.\w])(?:` + names + `)\s*\(`)
}

// words are what the resolved query does not tell.
func words() []trap {
	return []trap{
		{called("json_value|json_query|json_extract|json_extract_scalar"), "it keeps a text's quotes on DuckDB: use {{ json_text(…) }}"},
		{called("md5|sha1|sha256|sha512|to_hex"), "it is in hexadecimal already on DuckDB, and bytes on BigQuery: use {{ sha256_hex(…) }}"},
		{called("regexp_extract"), "it answers with the whole match on DuckDB, and with the group on BigQuery: write a macro with adapter.dispatch"},
		{called("regexp_replace"), "it replaces the first match on DuckDB, and all on BigQuery: write a macro with adapter.dispatch"},
		{called("unnest"), "the rows are structs on DuckDB, and elements on BigQuery: use {{ unnest(…) }}"},
		{called("array_agg"), "it keeps NULL on DuckDB, and fails on BigQuery: use string_agg, or filter and write a macro"},
		{called("log"), "it is of base 10 on DuckDB, and natural on BigQuery: use ln or log10"},
		{regexp.MustCompile(`(?i)\bsubstr(?:ing)?\s*\([^()]*,\s*0\s*[,)]`), "position 0 is before the first on DuckDB, and the first on BigQuery: count from 1"},
		{regexp.MustCompile(`(?i)(?:^|[^.\w])(?:current_timestamp|current_date|current_datetime|current_time)\b|(?:^|[^.\w])now\s*\(`), "its type or zone differs: use {{ dbt.current_timestamp() }}"},
		{regexp.MustCompile(`(?i)\btimestamp\s*'|\bas\s+timestamp\b`), "it has no zone on DuckDB, and drops an offset: cast to {{ dbt.type_timestamp() }}"},
		{regexp.MustCompile(`(?i)\bas\s+(?:numeric|decimal)\b\s*(?:[^(\s]|$)`), "it has 3 decimal places on DuckDB, and 9 on BigQuery: say numeric(38, 9)"},
		{regexp.MustCompile(`(?i)\bas\s+(?:float|real)\b`), "it has 32 bits on DuckDB, and BigQuery has none: cast to {{ dbt.type_float() }}"},
		{regexp.MustCompile(`//`), "it divides integers on DuckDB, and BigQuery has it not: use floor(a / b)"},
		{called("div"), "it divides integers on BigQuery, and DuckDB has it not: use floor(a / b)"},
		{regexp.MustCompile(`(?i)\bextract\s*\(\s*(?:dayofweek|week)\b|'week'|,\s*week\s*\)`), "weeks begin on Monday on DuckDB, and on Sunday on BigQuery: write a macro with adapter.dispatch"},
		{regexp.MustCompile(`\\`), "a backslash is one on DuckDB, and an escape on BigQuery: do without"},
	}
}

var (
	comments = regexp.MustCompile(`(?s)\{#.*?#\}|--[^\n]*`)
	// What one warehouse gets and the other does not.
	dispatched = regexp.MustCompile(`(?s)\{%-?\s*macro\s+(?:default|duckdb|bigquery)__.*?endmacro`)
	// Names of macros, as in {% macro unnest(…) %} and {{ unnest(…) }}.
	macroNames = regexp.MustCompile(`\{%-?\s*macro\s+\w+|\{\{-?\s*\w+\s*\(`)
)

// Words looks through a source for what both warehouses understand, each in
// its own way. Macros for one of them may use it.
func Words(source string) []Finding {
	for _, ignored := range []*regexp.Regexp{comments, dispatched, macroNames} {
		source = ignored.ReplaceAllStringFunc(source, blank)
	}
	var findings []Finding
	for i, line := range strings.Split(source, "\n") {
		for _, t := range words() {
			if found := t.pattern.FindString(line); found != "" {
				findings = append(findings, Finding{i + 1, strings.Trim(found, " (,") + ": " + t.message})
			}
		}
	}
	return findings
}

// blank leaves the lines of a text, so that others keep their numbers.
func blank(text string) string { return strings.Repeat("\n", strings.Count(text, "\n")) }
