package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/sql/runner"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// budgetOf is the workspace's budget of a run of the models.
func budgetOf(w *workspace.Workspace) runner.Budget {
	b := w.Warehouse.BigQuery
	if b == nil {
		return runner.Budget{}
	}
	return runner.Budget{Model: int64(b.Budget.Model), Run: int64(b.Budget.Run)}
}

// explained says of a node that a budget refused what it would have cost,
// where the budget stands and what to do, which the runner does not know.
func explained(w *workspace.Workspace, r runner.NodeResult) runner.NodeResult {
	over, b := r.OverBudget, w.Warehouse.BigQuery
	if over == nil || b == nil {
		return r
	}
	var where, remedy string
	switch over.Kind {
	case runner.ModelBudget:
		where = "warehouse.bigquery.budget.model in " + workspace.File
		remedy = "narrow the query, or raise the budget; for this model alone with meta.max_bytes in its config"
	case runner.OwnBudget:
		where = "meta.max_bytes in the model's config"
		remedy = "narrow the query, or raise it"
	case runner.RunBudget:
		where = "warehouse.bigquery.budget.run in " + workspace.File
		remedy = "build less at a time with --select, or raise the budget"
	}
	r.Message = fmt.Sprintf("over budget: a statement was not run that would process %d bytes (%s; price %s at %v per TiB); of the budget of %s (%s) %s are left: %s",
		over.Bytes, warehouse.FormatBytes(over.Bytes), priceText(b.Price(over.Bytes)), *b.PricePerTiB,
		warehouse.FormatBytes(over.Limit), where, warehouse.FormatBytes(over.Left), remedy)
	return r
}

// priceText writes a price, which is often small. Its currency is the reader's.
func priceText(price float64) string {
	switch {
	case price == 0:
		return "0"
	case price < 1:
		return fmt.Sprintf("%.4f", price)
	}
	return fmt.Sprintf("%.2f", price)
}

// costs is what `models run --dry-run` tells, as JSON. Bytes and prices that
// are not known are null.
type costs struct {
	Billed      bool       `json:"billed"`
	PricePerTiB *float64   `json:"price_per_tib"`
	Models      []nodeCost `json:"models"`
	Total       cost       `json:"total"`
	Unknown     int        `json:"unknown"` // how many models are not in the total
	RunBudget   int64      `json:"run_budget,omitempty"`
}

type cost struct {
	Bytes   *int64   `json:"bytes"`
	Price   *float64 `json:"price"`
	AtLeast bool     `json:"at_least"`
}

type nodeCost struct {
	Name         string `json:"name"`
	Kind         string `json:"kind"`
	Materialized string `json:"materialized"`
	Path         string `json:"path"`
	cost
	Budget  int64    `json:"budget,omitempty"`
	Stale   bool     `json:"stale,omitempty"`
	Missing []string `json:"missing,omitempty"`
	Problem string   `json:"problem,omitempty"`
}

// modelsEstimate tells what `models run` would process, and builds nothing.
func modelsEstimate(c *cli.Context) error {
	return withModels(c, func(w *workspace.Workspace, project *runner.Project, db warehouse.Driver) error {
		estimates, err := project.Estimate(c.Context, db, selector(c))
		if err != nil {
			return err
		}
		if len(estimates) == 0 {
			return usage("--select %q picks nothing", selector(c))
		}
		costs := costsOf(w.Warehouse.BigQuery, estimates)
		if c.Bool("json") {
			err = printJSON(c.App.Writer, costs)
		} else {
			printCosts(c.App.Writer, costs)
		}
		return errors.Join(err, costs.problems())
	})
}

// costsOf puts prices to estimates. b is nil if the warehouse is not BigQuery,
// and bills nothing.
func costsOf(b *workspace.BigQuery, estimates []runner.Estimate) costs {
	all := costs{Billed: b != nil}
	price := func(bytes int64, atLeast bool) cost {
		if b == nil {
			return cost{}
		}
		return cost{Bytes: &bytes, Price: new(b.Price(bytes)), AtLeast: atLeast}
	}
	total, atLeast := int64(0), false
	for _, e := range estimates {
		n := nodeCost{
			Name: e.Name, Kind: string(e.Kind), Materialized: string(e.Materialized), Path: e.Path,
			Budget: e.Budget, Stale: e.Stale, Missing: e.Missing,
		}
		if e.Err != nil {
			n.Problem = e.Err.Error()
		}
		if e.Bytes < 0 {
			all.Unknown++
		} else {
			n.cost = price(e.Bytes, e.AtLeast)
			total += e.Bytes
		}
		atLeast = atLeast || e.AtLeast || e.Bytes < 0
		all.Models = append(all.Models, n)
	}
	all.Total = price(total, atLeast)
	if b != nil {
		all.PricePerTiB, all.RunBudget = b.PricePerTiB, int64(b.Budget.Run)
	}
	return all
}

// problems is an error if an estimate failed. That a relation is not there yet
// is an answer, and no failure.
func (c costs) problems() error {
	failed := 0
	for _, n := range c.Models {
		if n.Problem != "" {
			failed++
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d could not be estimated", failed, len(c.Models))
	}
	return nil
}

func printCosts(w io.Writer, c costs) {
	var rows [][]string
	for _, n := range c.Models {
		bytes, price := c.text(n.cost)
		rows = append(rows, []string{n.Name, n.Materialized, bytes, price, n.remark()})
	}
	bytes, price := c.text(c.Total)
	var remarks []string
	if c.Unknown > 0 {
		remarks = append(remarks, fmt.Sprintf("without %d unknown", c.Unknown))
	}
	if over := overText("the run's budget", c.Total, c.RunBudget); over != "" {
		remarks = append(remarks, over)
	}
	rows = append(rows, []string{"total", "", bytes, price, strings.Join(remarks, "; ")})
	printTable(w, []string{"model", "materialized", "bytes", "price", "remark"}, rows)
	fmt.Fprintln(w, "Nothing was built.")
	for _, note := range c.notes() {
		fmt.Fprintln(w, "- "+note)
	}
}

// text writes bytes and price as the table has them.
func (c costs) text(of cost) (bytes, price string) {
	switch {
	case !c.Billed:
		return "not billed", "0"
	case of.Bytes == nil:
		return "unknown", "unknown"
	}
	bytes, price = warehouse.FormatBytes(*of.Bytes), priceText(*of.Price)
	if of.AtLeast {
		return "at least " + bytes, "at least " + price
	}
	return bytes, price
}

// remark says why a model's cost is not known, or that it is over its budget.
func (n nodeCost) remark() string {
	switch {
	case n.Problem != "":
		return strings.ReplaceAll(n.Problem, "\n", " ")
	case len(n.Missing) > 0:
		return strings.Join(n.Missing, ", ") + " not there yet"
	}
	return overText("its budget", n.cost, n.Budget)
}

// overText says that a cost is over a budget, if it is.
func overText(whose string, of cost, budget int64) string {
	if of.Bytes == nil || budget == 0 || *of.Bytes <= budget {
		return ""
	}
	return "over " + whose + " of " + warehouse.FormatBytes(budget)
}

// notes says, once, what the numbers mean.
func (c costs) notes() []string {
	if !c.Billed {
		return []string{"The embedded warehouse bills nothing."}
	}
	notes := []string{fmt.Sprintf("Prices are at %v per TiB (warehouse.bigquery.price_per_tib), in the currency of your bill.", *c.PricePerTiB)}
	has := func(is func(nodeCost) bool) bool { return slices.ContainsFunc(c.Models, is) }
	if has(func(n nodeCost) bool { return n.Stale && n.Bytes != nil }) {
		notes = append(notes, "Models that read what the same run builds first are estimated over what is there now.")
	}
	if has(func(n nodeCost) bool { return n.AtLeast }) {
		notes = append(notes, "At least: the build also reads tables that it makes itself, or goes in rounds, and how much that is shows only then.")
	}
	if has(func(n nodeCost) bool { return len(n.Missing) > 0 }) {
		notes = append(notes, "Unknown: build what is not there yet first, with `sluis models run --select`, or land events; then estimate again.")
	}
	return append(notes,
		"For clustered tables the numbers are upper bounds.",
		"BigQuery bills at least 10 MB for each table that a statement reads, which is not in the numbers; nor are tests and syncs.")
}
