package runner

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// discreet is a driver whose errors repeat nothing of what the warehouse holds:
// they end in logs, on terminals and in run_results.json, and engines like to
// quote the value that they could not convert.
type discreet struct{ warehouse.Driver }

// Exec runs a statement.
func (d discreet) Exec(ctx context.Context, query string, args ...any) error {
	return discreetly(d.Driver.Exec(ctx, query, args...), query)
}

// Query runs a query.
func (d discreet) Query(ctx context.Context, query string, args ...any) (warehouse.Rows, error) {
	return d.rows(query)(d.Driver.Query(ctx, query, args...))
}

// ReadOnly runs a query that only reads.
func (d discreet) ReadOnly(ctx context.Context, query string) (warehouse.Rows, error) {
	return d.rows(query)(d.Driver.ReadOnly(ctx, query))
}

func (discreet) rows(query string) func(warehouse.Rows, error) (warehouse.Rows, error) {
	return func(rows warehouse.Rows, err error) (warehouse.Rows, error) {
		if err != nil {
			return nil, discreetly(err, query)
		}
		return discreetRows{rows, query}, nil
	}
}

type discreetRows struct {
	warehouse.Rows
	query string
}

func (r discreetRows) Err() error { return discreetly(r.Rows.Err(), r.query) }

// discreetError says what is known not to be of the data.
type discreetError struct {
	text string
	err  error
}

func (e *discreetError) Error() string { return e.text }
func (e *discreetError) Unwrap() error { return e.err }

// inTheirWords is what the warehouse said, to be compared and never shown.
func inTheirWords(err error) string {
	if e, ok := errors.AsType[*discreetError](err); ok {
		return e.err.Error()
	}
	return err.Error()
}

func discreetly(err error, query string) error {
	if err == nil {
		return nil
	}
	return &discreetError{withoutValues(err.Error(), query), err}
}

var (
	// ofAnalysis are errors that come before a row is read. What they quote is of
	// the query, or a name of the catalog that it may have meant.
	ofAnalysis = regexp.MustCompile(`(Binder|Catalog|Parser|Syntax|Permission|Not implemented) Error: |Syntax error: |Unrecognized name: |Not found: |No matching signature|only a single statement that reads`)

	// pieces are what a message is made of: what is quoted, and words.
	pieces = regexp.MustCompile("LINE \\d+:|\"[^\"\\n]*\"|'[^'\\n]*'|`[^`\\n]*`|[^\\s]+|\\s+")
	quoted = regexp.MustCompile("^[\"'`].*[\"'`]$")
	words  = regexp.MustCompile(`[\pL\pN_]+`)
	masks  = regexp.MustCompile(`…(\s*…)+`)
)

// withoutValues writes an engine's message without what may be of the data:
// all that is neither in the query nor what engines say of themselves.
func withoutValues(message, query string) string {
	if ofAnalysis.MatchString(message) {
		return message
	}
	lower := strings.ToLower(query)
	inQuery := map[string]bool{}
	for _, w := range words.FindAllString(lower, -1) {
		inQuery[w] = true
	}
	masked := pieces.ReplaceAllStringFunc(message, func(piece string) string {
		if strings.HasPrefix(piece, "LINE ") {
			return piece // of the query
		}
		if quoted.MatchString(piece) {
			if strings.Contains(lower, strings.ToLower(piece[1:len(piece)-1])) {
				return piece
			}
			return piece[:1] + "…" + piece[:1]
		}
		for _, w := range words.FindAllString(strings.ToLower(piece), -1) {
			if !inQuery[w] && !slices.Contains(vocabulary, w) {
				return "…"
			}
		}
		return piece
	})
	return masks.ReplaceAllString(masked, "…")
}

// vocabulary is what engines, drivers and this package say, in lower case.
var vocabulary = strings.Fields(`
	a aborted according access all an and any are argument arguments array as at attempt attempted be been before being bigquery byte billed
	bool boolean budget by bytes can cancelled canceled cannot cast casting character closed column columns connection constraint context conversion
	convert converted could data database date deadline decimal destination different disk division does double duckdb duplicate element error exceeded
	execute exceed exist exists expected expression external failed failure field file first float float64 for format from function group had
	has have https in index input insufficient int int32 int64 integer interrupt interrupted into interval invalid io is it its job json
	key length limit line literal lock malformed memory merge message more multiple multiplication must no non not null number numeric of on one only operation or
	out overflow parse parsing query quota range read reading refused request resource resources result returned row rows run running
	schema scalar server size source space statement string struct subquery such syntax table target than that the there this time timed timeout timestamp to too transaction
	try_cast type types unable unexpected unique updated use used using utf utf8 value values varchar violated violates warehouse was when where which while with within would write zero
	bigint smallint tinyint hugeint ubigint uinteger usmallint utinyint uhugeint timestamptz date32 bignumeric runtime math string_agg
	addition subtraction negation t produced sum accepted bad day month year hour minute second last left right instead consider changing row's your you
`)
