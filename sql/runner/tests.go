package runner

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

const (
	severityError = "error"
	severityWarn  = "warn"
)

// testSpec is a test: a query for the rows that are wrong.
type testSpec struct {
	name    string
	generic string // not_null, unique, …; empty for a query of the folder tests
	model   string
	column  string

	// Of the runner's own tests:
	values   []any
	unquoted bool
	field    string
	parent   string // the relation that to means

	// arguments and config are those of a generic test as YAML has them, and
	// where is its filter by dialect, with its Jinja rendered.
	arguments map[string]any
	config    config
	where     map[string]string

	unit *unitTest // if it is one

	path string
	line int
}

// Generic tells which generic test a test is, such as unique, and of which model
// and column; all are empty for a query of the folder tests, and for what is no
// test. A test of a whole model has no column.
func (n *Node) Generic() (test, model, column string) {
	if n.test == nil {
		return "", "", ""
	}
	return n.test.generic, n.test.model, n.test.column
}

// testConfigKeys are what YAML may say under the config of a test.
var testConfigKeys = []string{"severity", "where", "tags", "meta", "enabled", "limit", "warn_if", "error_if", "fail_calc", "store_failures", "store_failures_as"}

// bound is a comparison with the number of wrong rows.
var bound = regexp.MustCompile(`^\s*((=|!=|<>|<=?|>=?)\s*-?\d+|(not\s+)?between\s+-?\d+\s+and\s+-?\d+)\s*$`)

// readTestConfig checks what the config says of a test, and takes it over.
func (n *Node) readTestConfig() []fault {
	var faults []fault
	report := func(key, format string, args ...any) {
		faults = append(faults, fault{key, fmt.Sprintf(format, args...)})
	}
	n.Tags = asTexts(n.config["tags"])
	severity := strings.ToLower(n.config.text("severity"))
	switch severity {
	case "":
		severity = severityError
	case severityError, severityWarn:
	default:
		report("severity", "severity must be error or warn")
	}
	n.config["severity"] = severity
	for _, key := range []string{"warn_if", "error_if"} {
		if value, ok := n.config[key]; ok && !bound.MatchString(strings.ToLower(fmt.Sprint(value))) {
			report(key, "%s must compare the number of rows with another, as in \">10\"", key)
		}
	}
	if limit, ok := n.config["limit"]; ok && limit != nil {
		if number, isInt := limit.(int); !isInt || number < 1 {
			report("limit", "limit must be a number of rows, of at least 1")
		}
	}
	if calc, ok := n.config["fail_calc"]; ok && calc != nil {
		if text, isText := calc.(string); !isText || strings.TrimSpace(text) == "" {
			report("fail_calc", "fail_calc must be an expression, such as count(*)")
		}
	}
	if n.config["store_failures"] == true || n.config["store_failures_as"] != nil {
		report("store_failures", "store_failures is not supported, since the rows would be kept where no erasure looks: run the compiled query, or make a model of it")
	}
	if _, ok := n.config["where"]; ok && n.test.generic == "" {
		report("where", "where is for generic tests: filter in the query")
	}
	return faults
}

// verdictQuery asks what dbt asks of a test's query: how many rows are wrong,
// and whether that is to be warned of or is an error.
func (n *Node) verdictQuery(query string) string {
	text := func(key, otherwise string) string {
		if value := n.config.text(key); value != "" {
			return value
		}
		return otherwise
	}
	limit := ""
	if rows, ok := n.config["limit"].(int); ok {
		limit = fmt.Sprintf("\nlimit %d", rows)
	}
	calc := text("fail_calc", "count(*)")
	return fmt.Sprintf("select cast(%[1]s as int64) as failures, %[1]s %[2]s as should_warn, %[1]s %[3]s as should_error from (\n%[4]s%[5]s\n) as wrong",
		calc, text("warn_if", "!= 0"), text("error_if", "!= 0"), query, limit)
}

// query returns the test's query.
func (t *testSpec) query(dialect string) (string, error) {
	rows := relation(t.model)
	if where := t.where[dialect]; where != "" {
		rows = "(select * from " + rows + " where " + where + ")"
	}
	switch t.generic {
	case "not_null":
		return fmt.Sprintf("select %[1]s from %[2]s as t where %[1]s is null", t.column, rows), nil
	case "unique":
		return fmt.Sprintf("select %[1]s from %[2]s as t where %[1]s is not null group by %[1]s having count(*) > 1", t.column, rows), nil
	case "accepted_values":
		values := make([]string, len(t.values))
		for i, value := range t.values {
			values[i] = fmt.Sprint(value)
			if !t.unquoted {
				values[i] = literal(dialect, values[i])
			}
		}
		return fmt.Sprintf("select %[1]s from %[2]s as t where %[1]s not in (%[3]s)", t.column, rows, strings.Join(values, ", ")), nil
	case "relationships":
		return fmt.Sprintf("select c.%[1]s from %[2]s as c left join %[3]s as p on p.%[4]s = c.%[1]s where c.%[1]s is not null and p.%[4]s is null",
			t.column, rows, t.parent, t.field), nil
	}
	return "", fmt.Errorf("unknown test %q", t.generic)
}

// Test runs the selected tests, among them those that read selected models and
// seeds, as Options.Indirect has it; and, for each selected audience, the check
// of its members, which every audience has.
func (p *Project) Test(ctx context.Context, d warehouse.Driver, selector string) (Results, error) {
	names, err := p.selected(selector, func(n *Node) bool { return n.Kind == Test || n.Audience != nil })
	if err != nil {
		return nil, err
	}
	batches := p.batchTests(names)
	results := p.execute(plan{names: names}, func(node *Node) NodeResult {
		if node.Kind == Test {
			return p.runTest(ctx, d, node, batches)
		}
		return runConsentTest(ctx, d, node)
	})
	return results, ctx.Err()
}

func (p *Project) report(result NodeResult) NodeResult {
	if p.options.Progress != nil {
		p.options.Progress(result)
	}
	return result
}

// isUnitTest tells a test of a model's query from those of what is built.
func (n *Node) isUnitTest() bool { return n.test != nil && n.test.unit != nil }

// runTest runs a test. Its result has the number of wrong rows also where that
// many are allowed.
func (p *Project) runTest(ctx context.Context, d warehouse.Driver, node *Node, batches *testBatches) NodeResult {
	if node.isUnitTest() {
		return p.runUnitTest(ctx, discreet{d}, node)
	}
	var v verdict
	d = discreet{d}
	result := timed(node, Passed, func() (int64, string, error) {
		query, err := p.compile(node, occasion{dialect: d.Dialect(), query: reading(ctx, d)})
		if err != nil {
			return -1, "", err
		}
		if err := p.keep(node, query); err != nil {
			return -1, "", err
		}
		v, err = batches.verdict(ctx, d, node, query)
		return v.failures, "", err
	})
	if result.Status == Failed {
		return result
	}
	result.Status, result.Message = v.of(node)
	return result
}

// verdict is the answer to a verdictQuery.
type verdict struct {
	failures    int64
	warn, error bool
}

func ask(ctx context.Context, d warehouse.Driver, query string) (verdict, error) {
	rows, err := warehouse.Collect(ctx, d, query)
	if err != nil {
		return verdict{failures: -1}, err
	}
	if len(rows) != 1 {
		return verdictOf(nil)
	}
	return verdictOf(rows[0])
}

// verdictOf reads a row of a verdictQuery.
func verdictOf(row []any) (verdict, error) {
	if len(row) == 3 {
		failures, counted := row[0].(int64)
		warn, warned := row[1].(bool)
		wrong, judged := row[2].(bool)
		if counted && warned && judged {
			return verdict{failures, warn, wrong}, nil
		}
	}
	return verdict{failures: -1}, errors.New("the test's fail_calc gives no number")
}

// of is the status of a test that came to a verdict, and what to say of it.
func (v verdict) of(node *Node) (Status, string) {
	because := func(key string) string {
		if bound := node.config.text(key); bound != "" {
			return fmt.Sprintf("%d rows are wrong (%s: %s)", v.failures, key, bound)
		}
		return fmt.Sprintf("%d rows are wrong", v.failures)
	}
	switch {
	case v.error && node.config.text("severity") != severityWarn:
		return Failed, because("error_if")
	case v.warn:
		return Warned, because("warn_if")
	}
	return Passed, ""
}

// consentTest begins the name of the check that an audience's members consent.
const consentTest = "audience_consent_"

func runConsentTest(ctx context.Context, d warehouse.Driver, node *Node) NodeResult {
	check := *node
	check.Kind, check.Name = Test, consentTest+node.Name
	return timed(&check, Passed, func() (int64, string, error) {
		return -1, "", builder{ctx: ctx, d: discreet{d}, node: node}.checkAudience(node.Name)
	})
}
