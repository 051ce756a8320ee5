package runner

import (
	"context"
	"fmt"
	"strings"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

const (
	severityError = "error"
	severityWarn  = "warn"
)

// testSpec is a test: a query for the rows that are wrong.
type testSpec struct {
	name     string
	generic  string // not_null, unique, …; empty for a query of the folder tests
	model    string
	column   string
	columns  []string
	values   []any
	unquoted bool
	to       string
	field    string
	parent   string // the relation that to means
	where    string
	severity string
	disabled bool

	// arguments are those of a generic test as YAML has them.
	arguments map[string]any
	tags      []string

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

// missing names an argument that the test cannot do without.
func (t *testSpec) missing() string {
	switch t.generic {
	case "not_null", "unique":
		if t.column == "" {
			return "column_name"
		}
	case "accepted_values":
		switch {
		case t.column == "":
			return "column_name"
		case len(t.values) == 0:
			return "values"
		}
	case "relationships":
		switch {
		case t.column == "":
			return "column_name"
		case t.to == "":
			return "to"
		case t.field == "":
			return "field"
		}
	case "unique_together":
		if len(t.columns) == 0 {
			return "columns"
		}
	}
	return ""
}

// query returns the test's query.
func (t *testSpec) query(dialect string) (string, error) {
	rows := relation(t.model)
	if t.where != "" {
		rows = "(select * from " + rows + " where " + t.where + ")"
	}
	switch t.generic {
	case "not_null":
		return fmt.Sprintf("select %[1]s from %[2]s as t where %[1]s is null", t.column, rows), nil
	case "unique":
		return fmt.Sprintf("select %[1]s from %[2]s as t where %[1]s is not null group by %[1]s having count(*) > 1", t.column, rows), nil
	case "unique_together":
		list := strings.Join(t.columns, ", ")
		return fmt.Sprintf("select %[1]s from %[2]s as t group by %[1]s having count(*) > 1", list, rows), nil
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

func severityOf(c config) string {
	if strings.EqualFold(c.text("severity"), severityWarn) {
		return severityWarn
	}
	return severityError
}

// Test runs the selected tests, among them those that read selected models and
// seeds, as Options.Indirect has it; and, for each selected audience, the check
// of its members, which every audience has.
func (p *Project) Test(ctx context.Context, d warehouse.Driver, selector string) (Results, error) {
	names, err := p.selected(selector, func(n *Node) bool { return n.Kind == Test || n.Audience != nil })
	if err != nil {
		return nil, err
	}
	results := p.execute(plan{names: names}, func(node *Node) NodeResult {
		if node.Kind == Test {
			return p.runTest(ctx, d, node)
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

func (p *Project) runTest(ctx context.Context, d warehouse.Driver, node *Node) NodeResult {
	found := int64(-1)
	d = discreet{d}
	result := timed(node, Passed, func() (int64, string, error) {
		query, err := p.compile(node, occasion{dialect: d.Dialect(), query: reading(ctx, d)})
		if err != nil {
			return -1, "", err
		}
		if err := p.keep(node, query); err != nil {
			return -1, "", err
		}
		found, err = builder{ctx: ctx, d: d, node: node}.number("select count(*) from (\n" + query + "\n) as wrong")
		return found, "", err
	})
	if found <= 0 {
		return result
	}
	result.Message = fmt.Sprintf("%d rows are wrong", found)
	result.Status = Failed
	if node.test.severity == severityWarn || severityOf(node.config) == severityWarn {
		result.Status = Warned
	}
	return result
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
