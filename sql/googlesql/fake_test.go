package googlesql

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// fake is a BigQuery without rows: it refuses the statements that BigQuery
// would refuse, remembers what was created, and answers with canned numbers.
type fake struct {
	mu       sync.Mutex
	analyzer *Analyzer
	views    map[string]bool
	layouts  map[string]string // of tables: how they are partitioned and clustered
	refused  []error
	seen     []string
}

// newFake returns a warehouse in which the collector has landed its tables.
func newFake(t testing.TB) *fake {
	t.Helper()
	a, err := New()
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range warehouse.Landing() {
		a.Define(warehouse.SchemaLanding, table.Name, table.Columns)
	}
	for _, schema := range []string{warehouse.SchemaModels, warehouse.SchemaSync} {
		if err := a.Statement("create schema " + schema); err != nil {
			t.Fatal(err)
		}
	}
	return &fake{analyzer: a, views: map[string]bool{}, layouts: map[string]string{}}
}

func (f *fake) Dialect() string { return "bigquery" }

// check has a statement analyzed. The caller holds the lock.
func (f *fake) check(query string, args []any) error {
	f.seen = append(f.seen, query)
	err := f.analyzer.Statement(query, args...)
	if err != nil {
		err = fmt.Errorf("%w\nin the statement\n%s", err, query)
		f.refused = append(f.refused, err)
	}
	return err
}

var (
	created = regexp.MustCompile(`^create or replace (table|view) sluis_models\.(\w+)(.*)`)
	dropped = regexp.MustCompile(`^drop table if exists sluis_models\.(\w+)`)
)

func (f *fake) Exec(_ context.Context, query string, args ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if m := created.FindStringSubmatch(query); m != nil {
		isView := m[1] == "view"
		if _, err := f.analyzer.Columns(warehouse.SchemaModels, m[2]); err == nil && f.views[m[2]] != isView {
			return fmt.Errorf("%s exists and is not a %s", m[2], m[1])
		}
		f.views[m[2]] = isView
		layout, _, _ := strings.Cut(m[3], " as")
		if before, ok := f.layouts[m[2]]; ok && before != layout && !isView {
			return errors.New("Cannot replace a table with a different partitioning spec. Instead, DROP the table, and then recreate it.") //nolint:revive,staticcheck // BigQuery's words
		}
		if !isView {
			f.layouts[m[2]] = layout
		}
	}
	if m := dropped.FindStringSubmatch(query); m != nil {
		delete(f.layouts, m[1])
	}
	return f.check(query, args)
}

func (f *fake) Query(_ context.Context, query string, args ...any) (warehouse.Rows, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.check(query, args); err != nil {
		return nil, err
	}
	return &rows{all: f.answer(query, args)}, nil
}

func (f *fake) EstimateBytes(_ context.Context, query string, args ...any) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return 0, f.check(query, args)
}

func (f *fake) ReadOnly(ctx context.Context, query string) (warehouse.Rows, error) {
	return f.Query(ctx, query)
}

var (
	edgesLeft  = regexp.MustCompile(`^select count\(\*\) from \S+__edges(\d*)$`)
	verdicts   = regexp.MustCompile(`(?m)^select '([^']+)' as test, v\d+\.\* from \($`)
	growing    = regexp.MustCompile(`^select count\(\*\) from sluis_models\.growing(__buckets|__members)?$`)
	hooksGoing = regexp.MustCompile(`^select count\(\*\) from \S+__hooks\d+_(\d+) as p join`)
)

// answer makes up what a query returns: a graph of two rounds with two jumps
// each, and nothing that a check would find wrong.
func (f *fake) answer(query string, args []any) [][]any {
	if strings.Contains(query, "INFORMATION_SCHEMA.TABLES") { // all of the models' schema, or the one that is named
		var found [][]any
		for name := range f.analyzer.schemas[warehouse.SchemaModels] {
			kind := "BASE TABLE"
			if f.views[name] {
				kind = "VIEW"
			}
			if len(args) == 1 || args[1] == name {
				found = append(found, []any{name, kind})
			}
		}
		return found
	}
	if strings.Contains(query, "from reached) as reached") { // the days that stg_events is to be built anew on
		return [][]any{{"2026-03-01 2026-03-02,2026-03-03 2026-03-04", "2026-02-27 2026-02-28", "s-1 40,s-2 7"}}
	}
	if strings.Contains(query, "as actual_or_expected") { // a unit test, for which nothing is as expected
		return nil
	}
	if strings.Contains(query, " as should_error from (") { // tests, of which none finds anything
		var answers [][]any
		for _, m := range verdicts.FindAllStringSubmatch(query, -1) {
			answers = append(answers, []any{m[1], int64(0), false, false})
		}
		if answers == nil {
			return [][]any{{int64(0), false, false}}
		}
		return answers
	}
	if strings.HasPrefix(query, "select distinct cast(cast(") { // the days of new rows
		return [][]any{{"2026-03-01"}, {nil}}
	}
	if m := edgesLeft.FindStringSubmatch(query); m != nil {
		left := map[string]int64{"": 2, "1": 1}
		return [][]any{{left[m[1]]}}
	}
	if m := hooksGoing.FindStringSubmatch(query); m != nil && m[1] == "0" {
		return [][]any{{int64(1)}}
	}
	if m := growing.FindStringSubmatch(query); m != nil {
		return [][]any{{map[string]int64{"": 10, "__buckets": 1, "__members": 2}[m[1]]}}
	}
	return [][]any{{int64(0)}}
}

func (f *fake) Append(_ context.Context, schema, table string, columns []string, _ [][]any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.check("select "+strings.Join(columns, ", ")+" from "+schema+"."+table, nil)
}

func (f *fake) Columns(_ context.Context, schema, relation string) ([]warehouse.Column, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.analyzer.Columns(schema, relation)
}

func (f *fake) Describe(_ context.Context, query string) ([]warehouse.Column, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen = append(f.seen, query)
	columns, err := f.analyzer.Query(query)
	if err != nil {
		f.refused = append(f.refused, fmt.Errorf("%w\nin the query\n%s", err, query))
	}
	return columns, err
}

func (f *fake) Close() error { return nil }

// err returns all that was refused.
func (f *fake) err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return errors.Join(f.refused...)
}

// rows is a result in memory.
type rows struct {
	all  [][]any
	next int
}

func (r *rows) Columns() []string { return nil }
func (r *rows) Next() bool        { r.next++; return r.next <= len(r.all) }
func (r *rows) Row() []any        { return r.all[r.next-1] }
func (r *rows) Err() error        { return nil }
func (r *rows) Close() error      { return nil }

// saw tells whether a statement began so.
func (f *fake) saw(beginning string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.ContainsFunc(f.seen, func(s string) bool { return strings.HasPrefix(strings.TrimSpace(s), beginning) })
}
