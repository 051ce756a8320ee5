package runner

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// Budget bounds the bytes that builds process, by the warehouse's estimate of
// each statement right before it. Zero is no bound. A warehouse that bills
// nothing, which is one without a [warehouse.Estimator], has no budgets.
type Budget struct {
	Model int64 // of one model or seed, unless its meta.max_bytes says otherwise
	Run   int64 // of all that one call of Run builds
}

// BudgetKind tells where a budget is set.
type BudgetKind string

// The kinds of budgets.
const (
	ModelBudget BudgetKind = "model"     // Budget.Model
	OwnBudget   BudgetKind = "max_bytes" // meta.max_bytes of the node
	RunBudget   BudgetKind = "run"       // Budget.Run
)

// OverBudgetError says that a statement was not run, since a budget has less
// left than it would process.
type OverBudgetError struct {
	Kind  BudgetKind
	Bytes int64 // that the statement would process
	Limit int64 // the budget
	Left  int64 // of the budget
}

func (e *OverBudgetError) Error() string {
	return fmt.Sprintf("not run: it would process %d bytes (%s), and of the budget %q of %s only %s are left",
		e.Bytes, warehouse.FormatBytes(e.Bytes), e.Kind, warehouse.FormatBytes(e.Limit), warehouse.FormatBytes(e.Left))
}

// readMaxBytes takes over meta.max_bytes, and returns what is wrong with it.
func (n *Node) readMaxBytes() []string {
	declared, ok := n.Meta["max_bytes"]
	if !ok {
		return nil
	}
	limit, err := warehouse.ParseBytes(fmt.Sprint(declared))
	if err != nil {
		return []string{"meta.max_bytes: " + err.Error()}
	}
	n.maxBytes = &limit
	return nil
}

// budgetOf is what a node may process in a run.
func (p *Project) budgetOf(node *Node) *allowance {
	if node.maxBytes != nil {
		return &allowance{kind: OwnBudget, limit: *node.maxBytes}
	}
	return &allowance{kind: ModelBudget, limit: p.options.Budget.Model}
}

// allowance is a budget that is being used up.
type allowance struct {
	kind  BudgetKind
	limit int64 // zero is none

	mu   sync.Mutex
	used int64 // by what ran, and by what is running
}

// reserve takes bytes, or returns an OverBudgetError.
func (a *allowance) reserve(bytes int64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if left := a.limit - a.used; a.limit > 0 && bytes > left {
		return &OverBudgetError{Kind: a.kind, Bytes: bytes, Limit: a.limit, Left: left}
	}
	a.used += bytes
	return nil
}

// release gives bytes back that were reserved and not used.
func (a *allowance) release(bytes int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.used -= bytes
}

// buildWithin builds a node within its budget and that of the run. If neither
// bounds it, no estimates are made.
func (p *Project) buildWithin(ctx context.Context, d warehouse.Driver, node *Node, run *allowance, there *inventory) NodeResult {
	own := p.budgetOf(node)
	estimator, bills := d.(warehouse.Estimator)
	metered := bills && (own.limit > 0 || run.limit > 0)
	d = discreet{d}
	if metered {
		d = &meter{Driver: d, estimator: estimator, own: own, run: run}
	}
	result := timed(node, Built, func() (int64, string, error) { return p.build(ctx, d, node, there) })
	if metered {
		result.Bytes = own.used
	}
	return result
}

// meter is a driver that lets a statement through only if the budgets of its
// node and of the run have bytes left for it. All statements of a build go
// through it, but those of [unmetered]; loading rows is free.
type meter struct {
	warehouse.Driver
	estimator warehouse.Estimator
	own, run  *allowance
}

// unmetered is the driver for looking into the catalog and for dropping: a
// build that was refused must be able to clean up.
func unmetered(d warehouse.Driver) warehouse.Driver {
	if m, ok := d.(*meter); ok {
		return m.Driver
	}
	return d
}

// Exec runs a statement if the budgets allow it.
func (m *meter) Exec(ctx context.Context, query string, args ...any) error {
	return m.spend(ctx, query, args, func() error { return m.Driver.Exec(ctx, query, args...) })
}

// Query runs a query if the budgets allow it.
func (m *meter) Query(ctx context.Context, query string, args ...any) (rows warehouse.Rows, err error) {
	err = m.spend(ctx, query, args, func() (err error) {
		rows, err = m.Driver.Query(ctx, query, args...)
		return err
	})
	return rows, err
}

// ReadOnly runs a query of a template's own if the budgets allow it.
func (m *meter) ReadOnly(ctx context.Context, query string) (rows warehouse.Rows, err error) {
	err = m.spend(ctx, query, nil, func() (err error) {
		rows, err = m.Driver.ReadOnly(ctx, query)
		return err
	})
	return rows, err
}

// spend reserves what a statement would process before it runs, so that others
// that run at the same time cannot have it. A statement that fails is not
// billed, and gives it back; one that is cancelled may have been.
func (m *meter) spend(ctx context.Context, query string, args []any, run func() error) error {
	bytes, err := m.estimator.EstimateBytes(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("estimate what it would process, which a budget bounds: %w", err)
	}
	if err := m.own.reserve(bytes); err != nil {
		return err
	}
	if err := m.run.reserve(bytes); err != nil {
		m.own.release(bytes)
		return err
	}
	err = run()
	if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		m.own.release(bytes)
		m.run.release(bytes)
	}
	return err
}
