package runner

import (
	"errors"
	"fmt"
	"time"

	"github.com/sluis-cdp/sluis/sql/runner/artifact"
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
	Started time.Time
	Seconds float64
	Thread  int // from 1; zero if it was not begun
	Message string

	// Freshness is set for a source that could be asked.
	Freshness *Freshness

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
	result := NodeResult{Name: node.Name, Kind: node.Kind, Path: node.Path, Status: good, Rows: rows, Bytes: -1, Started: started, Message: message}
	if err != nil {
		result.Status, result.Message = Failed, err.Error()
		errors.As(err, &result.OverBudget)
	}
	result.Seconds = time.Since(started).Seconds()
	return result
}

// RunResults tells results as dbt's run_results.json does. args are what they
// were asked for with.
func (p *Project) RunResults(of Invocation, results Results, args artifact.Args, now time.Time) artifact.RunResults {
	all := artifact.RunResults{
		Metadata: artifact.NewMetadata("run-results/v6", of.ID, of.Started, now),
		Results:  []artifact.Result{}, ElapsedTime: now.Sub(of.Started).Seconds(), Args: args,
	}
	for _, r := range results {
		all.Results = append(all.Results, p.runResult(r))
	}
	return all
}

// runResult is the result of a node. The check of an audience's members is of
// no node of its own, and is told of the audience.
func (p *Project) runResult(r NodeResult) artifact.Result {
	result := artifact.Result{
		Status: statusIn(r), Timing: []artifact.Timing{}, ThreadID: fmt.Sprintf("Thread-%d", r.Thread), ExecutionTime: r.Seconds,
		AdapterResponse: map[string]any{}, UniqueID: p.resultID(r),
	}
	if r.Message != "" {
		result.Message = &r.Message
	}
	if r.Bytes >= 0 {
		result.AdapterResponse["bytes_processed"] = r.Bytes
	}
	if r.Kind == Test && r.Rows >= 0 {
		result.Failures = &r.Rows
	} else if r.Rows >= 0 {
		result.AdapterResponse["rows_affected"] = r.Rows
	}
	if !r.Started.IsZero() {
		ended := r.Started.Add(time.Duration(r.Seconds * float64(time.Second)))
		result.Timing = []artifact.Timing{{Name: "execute", StartedAt: new(r.Started.UTC()), CompletedAt: new(ended.UTC())}}
	}
	if node, ok := p.nodes[r.Name]; ok && node.Kind == Model && node.Materialized != Ephemeral {
		result.RelationName = new(relation(node.Name))
	}
	return result
}

func (p *Project) resultID(r NodeResult) string {
	if node, ok := p.nodes[r.Name]; ok {
		return p.uniqueID(node)
	}
	if r.Kind == Source {
		return p.sourceID(r.Name)
	}
	return string(Model) + "." + p.name + "." + r.Name[len(consentTest):]
}

// statusIn is what dbt calls what became of a node.
func statusIn(r NodeResult) string {
	switch r.Status {
	case Built:
		return "success"
	case Passed:
		return "pass"
	case Warned:
		return "warn"
	case Skipped:
		return "skipped"
	case Failed:
	}
	if r.Kind == Test && r.Rows > 0 {
		return "fail"
	}
	return "error"
}
