package runner

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// dialects are those that a project can be rendered for.
var dialects = []string{"duckdb", "bigquery"}

// Column is what a project says about a column.
type Column struct {
	Name, Description string

	path  string // of the YAML
	line  int
	types map[string]string // data_type by dialect, its Jinja rendered
}

// TypeIn is the column's data_type as the YAML has it, with its Jinja rendered
// for a dialect; empty if it has none.
func (c Column) TypeIn(dialect string) string { return c.types[dialect] }

// EnforcesContract tells that a model's query must have exactly the columns
// that YAML describes, or it is not built: config.contract.
func (n *Node) EnforcesContract() bool {
	contract, _ := n.config["contract"].(map[string]any)
	return n.Kind == Model && n.Materialized != Ephemeral && contract["enforced"] == true
}

// readContract checks config.contract, and that the contract is whole.
func (n *Node) readContract() []fault {
	const key = "contract"
	declared, ok := n.config[key]
	if !ok {
		return nil
	}
	contract, ok := declared.(map[string]any)
	_, isBool := contract["enforced"].(bool)
	if !ok || !isBool || len(contract) != 1 {
		return []fault{{key, "contract must be {enforced: true} or {enforced: false}"}}
	}
	if !n.EnforcesContract() {
		return nil
	}
	if n.Materialized == Incremental && n.config.text("on_schema_change") != "fail" {
		return []fault{{"incremental", "beside a contract dbt wants config on_schema_change='fail', which is what the runner does"}}
	}
	if len(n.Columns) == 0 {
		return []fault{{key, fmt.Sprintf("the contract of %s has no columns: describe each with its data_type in a file of YAML, or set config.contract to {enforced: false}", n.Name)}}
	}
	return nil
}

// checkContracts finds columns without a type, where there must be one.
func (l *loader) checkContracts() {
	for _, name := range slices.Sorted(maps.Keys(l.nodes)) {
		node := l.nodes[name]
		if !node.EnforcesContract() {
			continue
		}
		for _, c := range node.Columns {
			if len(c.types) == 0 {
				l.problem(c.path, c.line, "the column %s of %s needs a data_type, since the contract of the model is enforced", c.Name, name)
			}
		}
	}
}

// types translates what YAML calls a type into what the warehouse itself calls
// it, by asking it. It asks once for all types of a project.
type types struct {
	mu    sync.Mutex
	names map[string]warehouse.Type // by dialect and data_type
}

// of returns the warehouse's names of types.
func (t *types) of(ctx context.Context, d warehouse.Driver, wanted []string) (map[string]warehouse.Type, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	found := map[string]warehouse.Type{}
	var unknown []string
	for _, name := range wanted {
		if known, ok := t.names[d.Dialect()+" "+name]; ok {
			found[name] = known
		} else if !slices.Contains(unknown, name) {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) == 0 {
		return found, nil
	}
	described, err := d.Describe(ctx, nullsOf(unknown))
	if err != nil {
		return nil, whichType(ctx, d, unknown, err)
	}
	if t.names == nil {
		t.names = map[string]warehouse.Type{}
	}
	for i, name := range unknown {
		t.names[d.Dialect()+" "+name] = described[i].Type
		found[name] = described[i].Type
	}
	return found, nil
}

// nullsOf is a query of one NULL of each type.
func nullsOf(types []string) string {
	columns := make([]string, len(types))
	for i, name := range types {
		columns[i] = fmt.Sprintf("cast(null as %s) as c%d", name, i)
	}
	return "select " + strings.Join(columns, ", ")
}

// typeError says that the warehouse does not know a type.
type typeError struct {
	name  string
	cause error
}

func (e *typeError) Error() string {
	message, _, _ := strings.Cut(e.cause.Error(), "\n")
	return fmt.Sprintf("the warehouse has no type %q: %s", e.name, message)
}

// whichType finds the type that is to blame for an error about several.
func whichType(ctx context.Context, d warehouse.Driver, types []string, cause error) error {
	for _, name := range types {
		if _, err := d.Describe(ctx, nullsOf([]string{name})); err != nil {
			return &typeError{name, err}
		}
	}
	return fmt.Errorf("look up the types of a contract: %w", cause)
}

// checkContract compares the columns of the query that is to become the node's
// table or view with those that YAML describes, if the contract is enforced.
// Their order is free, as under dbt.
func (b builder) checkContract(query string) error {
	if !b.node.EnforcesContract() {
		return nil
	}
	wanted := make([]string, len(b.node.Columns))
	for i, c := range b.node.Columns {
		wanted[i] = c.TypeIn(b.d.Dialect())
	}
	names, err := b.types.of(b.ctx, b.d, wanted)
	if unknown, ok := errors.AsType[*typeError](err); ok {
		c := b.node.Columns[slices.Index(wanted, unknown.name)]
		return Problem{Path: c.path, Line: c.line, Message: fmt.Sprintf("the data_type of %s: %v", c.Name, err)}
	}
	if err != nil {
		return err
	}
	has, err := b.d.Describe(b.ctx, query)
	if err != nil {
		return err
	}
	if broken := breaches(b.node, b.d.Dialect(), names, has); len(broken) > 0 {
		return fmt.Errorf("the query breaks the model's contract, so nothing was changed:\n%w", broken)
	}
	return nil
}

// breaches lists in what a query deviates from a node's contract.
func breaches(node *Node, dialect string, names map[string]warehouse.Type, has []warehouse.Column) Problems {
	var broken Problems
	described := map[string]bool{}
	for _, c := range node.Columns {
		described[c.Name] = true
		report := func(format string, args ...any) {
			broken = append(broken, Problem{Path: c.path, Line: c.line, Message: fmt.Sprintf(format, args...)})
		}
		i := slices.IndexFunc(has, func(got warehouse.Column) bool { return got.Name == c.Name })
		declared := c.TypeIn(dialect)
		switch {
		case i < 0:
			report("the query has no column %s: add it to %s, or remove it here", c.Name, node.Path)
		case has[i].Type != names[declared]:
			report("the column %s is %s here (%s) and %s in the query: cast it in %s, or change data_type", c.Name, declared, names[declared], has[i].Type, node.Path)
		}
	}
	last := node.Columns[len(node.Columns)-1]
	for _, got := range has {
		if !described[got.Name] {
			broken = append(broken, Problem{Path: last.path, Line: last.line, Message: fmt.Sprintf(
				"the query has a column more, which is not described: remove it from %s, or add  - {name: %s, data_type: %q, description: …}", node.Path, got.Name, portableType(got.Type))})
		}
	}
	return broken
}

// portableType names a type as YAML for both warehouses does, if there is one
// name for both.
func portableType(t warehouse.Type) string {
	switch t { //nolint:exhaustive // all others have no other name
	case "VARCHAR":
		return "string"
	case "BIGINT":
		return "int64"
	case "BOOLEAN":
		return "bool"
	case "DECIMAL(38,9)", "NUMERIC":
		return "numeric(38, 9)"
	}
	return strings.ToLower(string(t))
}

// sameTypes returns an error if the columns of a table that grows are no longer
// those of the rows to be added: an insert would cast them, without a word.
func sameTypes(have, got []warehouse.Column) error {
	listed := func(columns []warehouse.Column) []string {
		texts := make([]string, len(columns))
		for i, c := range columns {
			texts[i] = c.Name + " " + string(c.Type)
		}
		slices.Sort(texts)
		return texts
	}
	before, after := listed(have), listed(got)
	if slices.Equal(before, after) {
		return nil
	}
	without := func(a, b []string) string {
		return strings.Join(slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) }), ", ")
	}
	return fmt.Errorf("the columns changed, from (%s) to (%s): build it anew with --full-refresh", without(before, after), without(after, before))
}
