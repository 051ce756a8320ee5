package runner

import (
	"errors"
	"fmt"
	"time"
)

// Status is what became of a node.
type Status string

// The statuses.
const (
	Built   Status = "built"
	Passed  Status = "passed"
	Warned  Status = "warned" // a test of severity warn found rows
	Failed  Status = "failed"
	Skipped Status = "skipped" // something it depends on failed
)

// NodeResult tells what became of a node.
type NodeResult struct {
	Name    string
	Kind    Kind
	Path    string
	Status  Status
	Rows    int64 // in the table built, or found wrong by the test; -1 if not known
	Bytes   int64 // that its statements processed, by estimates; -1 if none were made
	Seconds float64
	Message string

	// OverBudget is set if it failed since a budget refused a statement.
	OverBudget *OverBudgetError
}

// Results are in the order in which nodes ended.
type Results []NodeResult

// Err returns an error that names each node that failed, or nil.
func (r Results) Err() error {
	var failed []error
	for _, result := range r {
		if result.Status == Failed {
			failed = append(failed, fmt.Errorf("%s (%s): %s", result.Name, result.Path, result.Message))
		}
	}
	return errors.Join(failed...)
}

// timed runs f and makes a result of what it returns.
func timed(node *Node, good Status, f func() (rows int64, message string, err error)) NodeResult {
	started := time.Now()
	rows, message, err := f()
	result := NodeResult{Name: node.Name, Kind: node.Kind, Path: node.Path, Status: good, Rows: rows, Bytes: -1, Message: message}
	if err != nil {
		result.Status, result.Message = Failed, err.Error()
		errors.As(err, &result.OverBudget)
	}
	result.Seconds = time.Since(started).Seconds()
	return result
}
