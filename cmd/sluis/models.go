package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/sql/runner"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

func modelsCommand() *cli.Command {
	selectFlag := &cli.StringFlag{Name: "select", Aliases: []string{"s"}, Usage: "which: names, +m, m+, tag:x, path:x; several with spaces between"}
	full := &cli.BoolFlag{Name: "full-refresh", Usage: "rebuild incremental models from nothing"}
	return &cli.Command{
		Name:  "models",
		Usage: "build and test the SQL models",
		Subcommands: []*cli.Command{
			{
				Name: "run", Usage: "build models, each after those it depends on",
				Description: "On BigQuery the budgets in sluis.yaml, and meta.max_bytes of a model, bound what is processed:\n" +
					"a statement that would exceed one is not run. If nothing else failed, the exit code is then 3.",
				Flags: []cli.Flag{
					selectFlag, full, jsonFlag(),
					&cli.BoolFlag{Name: "dry-run", Usage: "build nothing; tell how many bytes each model would process, and the price"},
				},
				Action: func(c *cli.Context) error {
					if c.Bool("dry-run") {
						return modelsEstimate(c)
					}
					w, err := openWorkspace(c)
					if err != nil {
						return err
					}
					if err := sweep(c.Context, w, "sluis models run", newLogger(c), c.App.ErrWriter); err != nil {
						return err
					}
					return modelsDo(c, (*runner.Project).Run)
				},
			},
			{
				Name: "test", Usage: "test what was built", Flags: []cli.Flag{selectFlag, jsonFlag()},
				Action: func(c *cli.Context) error { return modelsDo(c, (*runner.Project).Test) },
			},
			{Name: "ls", Usage: "list models, seeds and tests in the order they run", Flags: []cli.Flag{selectFlag, jsonFlag()}, Action: modelsLs},
			{
				Name: "compile", Usage: "print the SQL that would run", Flags: []cli.Flag{
					selectFlag, jsonFlag(),
					&cli.StringFlag{Name: "dialect", Value: "duckdb", Usage: "duckdb or bigquery"},
				}, Action: modelsCompile,
			},
		},
	}
}

// loadProject reads the workspace's models.
func loadProject(w *workspace.Workspace, fullRefresh bool, logger *slog.Logger, progress func(runner.NodeResult)) (*runner.Project, error) {
	env := make(map[string]string)
	for _, pair := range os.Environ() {
		name, value, _ := strings.Cut(pair, "=")
		env[name] = value // the runner lets templates see names that begin with DBT_ or SLUIS_
	}
	project, err := runner.Load(runner.Options{
		Dir: os.DirFS(w.Path(w.Models)), Env: env, FullRefresh: fullRefresh,
		Threads: max(1, w.Warehouse.Threads), Target: filepath.Join(w.Path(w.Data), "target"),
		Budget: budgetOf(w), Logger: logger, Progress: progress,
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", w.Path(w.Models), err)
	}
	return project, nil
}

// withModels opens the workspace, its models and its warehouse. progress, if
// not nil, is called after each node.
func withModels(c *cli.Context, progress func(*workspace.Workspace, runner.NodeResult), do func(*workspace.Workspace, *runner.Project, warehouse.Driver) error) (err error) {
	w, err := openWorkspace(c)
	if err != nil {
		return err
	}
	project, err := loadProject(w, c.Bool("full-refresh"), newLogger(c), func(r runner.NodeResult) {
		if progress != nil {
			progress(w, r)
		}
	})
	if err != nil {
		return err
	}
	db, err := openWarehouse(c.Context, w, "sluis models "+c.Command.Name, c.App.ErrWriter)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return do(w, project, db)
}

func modelsDo(c *cli.Context, do func(*runner.Project, context.Context, warehouse.Driver, string) (runner.Results, error)) error {
	progress := func(w *workspace.Workspace, r runner.NodeResult) { printNode(c.App.Writer, explained(w, r)) }
	if c.Bool("json") {
		progress = nil
	}
	return withModels(c, progress, func(w *workspace.Workspace, project *runner.Project, db warehouse.Driver) error {
		results, err := do(project, c.Context, db, c.String("select"))
		if err != nil {
			return err
		}
		if c.Bool("json") {
			if err := printJSON(c.App.Writer, nodesJSON(w, results)); err != nil {
				return err
			}
		}
		if len(results) == 0 {
			return usage("--select %q picks nothing", c.String("select"))
		}
		return failures(results)
	})
}

// failures is nil if all went well, and a refusal if only budgets were in the
// way. What went wrong was printed, node by node.
func failures(results runner.Results) error {
	bad, refused := 0, true
	for _, r := range results {
		if !done(r) {
			bad++
		}
		refused = refused && (r.Status != runner.Failed || r.OverBudget != nil)
	}
	switch {
	case bad == 0:
		return nil
	case refused:
		return &refusedError{fmt.Sprintf("%d of %d were refused, being over budget, or skipped", bad, len(results))}
	}
	return fmt.Errorf("%d of %d failed or were skipped", bad, len(results))
}

// done tells whether a node is as it should be; a warning is not in the way.
func done(r runner.NodeResult) bool {
	return r.Status != runner.Failed && r.Status != runner.Skipped
}

func printNode(w io.Writer, r runner.NodeResult) {
	rows := ""
	if r.Rows >= 0 {
		rows = fmt.Sprintf("%d rows", r.Rows)
	}
	fmt.Fprintf(w, "  %-8s %-40s %12s %7.2fs\n", r.Status, r.Name, rows, r.Seconds)
	if r.Message != "" && !done(r) {
		fmt.Fprintf(w, "           %s: %s\n", r.Path, strings.ReplaceAll(r.Message, "\n", "\n           "))
	}
}

type nodeJSON struct {
	Name    string  `json:"name"`
	Kind    string  `json:"kind"`
	Path    string  `json:"path"`
	Status  string  `json:"status"`
	Rows    int64   `json:"rows"`
	Seconds float64 `json:"seconds"`
	Message string  `json:"message,omitempty"`
	// Bytes were processed, by estimates, which are made where budgets bound them.
	Bytes      *int64 `json:"bytes,omitempty"`
	OverBudget bool   `json:"over_budget,omitempty"`
}

func nodesJSON(w *workspace.Workspace, results runner.Results) []nodeJSON {
	list := make([]nodeJSON, len(results))
	for i, r := range results {
		r = explained(w, r)
		list[i] = nodeJSON{
			Name: r.Name, Kind: string(r.Kind), Path: r.Path, Status: string(r.Status),
			Rows: r.Rows, Seconds: r.Seconds, Message: r.Message, OverBudget: r.OverBudget != nil,
		}
		if r.Bytes >= 0 {
			list[i].Bytes = &r.Bytes
		}
	}
	return list
}

func modelsLs(c *cli.Context) error {
	w, err := openWorkspace(c)
	if err != nil {
		return err
	}
	project, err := loadProject(w, false, newLogger(c), nil)
	if err != nil {
		return err
	}
	nodes, err := project.List(c.String("select"))
	if err != nil {
		return err
	}
	type line struct {
		Name         string   `json:"name"`
		Kind         string   `json:"kind"`
		Materialized string   `json:"materialized,omitempty"`
		Path         string   `json:"path"`
		Description  string   `json:"description,omitempty"`
		DependsOn    []string `json:"depends_on"`
	}
	lines, rows := []line{}, [][]string{}
	for _, n := range nodes {
		lines = append(lines, line{n.Name, string(n.Kind), string(n.Materialized), n.Path, n.Description, n.DependsOn})
		rows = append(rows, []string{n.Name, string(n.Kind), string(n.Materialized), n.Path})
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, lines)
	}
	printTable(c.App.Writer, []string{"name", "kind", "materialized", "path"}, rows)
	return nil
}

func modelsCompile(c *cli.Context) error {
	w, err := openWorkspace(c)
	if err != nil {
		return err
	}
	project, err := loadProject(w, false, newLogger(c), nil)
	if err != nil {
		return err
	}
	compiled, err := project.Compile(c.String("dialect"), c.String("select"))
	if err != nil {
		return err
	}
	if c.Bool("json") {
		queries := make(map[string]string, len(compiled))
		for _, q := range compiled {
			queries[q.Name] = q.SQL
		}
		return printJSON(c.App.Writer, queries)
	}
	for _, q := range compiled {
		fmt.Fprintf(c.App.Writer, "-- %s (%s)\n%s\n\n", q.Name, q.Path, strings.TrimSpace(q.SQL))
	}
	return nil
}
