package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/urfave/cli/v2"

	"github.com/sluis-cdp/sluis/cmd/internal/tracing"
	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/sql/runner"
	"github.com/sluis-cdp/sluis/sql/runner/artifact"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

func modelsCommand() *cli.Command {
	return &cli.Command{
		Name:        "models",
		Usage:       "build, test, show and document the SQL models",
		Description: tracing.Environment,
		Subcommands: []*cli.Command{
			{
				Name: "build", Usage: "build and test models, each after those it depends on and after their tests",
				Description: "What is made of a model whose test fails is skipped. " + budgetsAre,
				Flags:       append(selectionFlags(), runFlags()...),
				Action:      modelsVerb("build", (*runner.Project).Build),
			},
			{
				Name: "run", Usage: "build models, each after those it depends on, without their tests",
				Description: budgetsAre,
				Flags: slices.Concat(selectionFlags(), runFlags(), []cli.Flag{
					&cli.BoolFlag{Name: "dry-run", Usage: "build nothing; tell how many bytes each model would process, and the price"},
				}),
				Action: func(c *cli.Context) error {
					if c.Bool("dry-run") {
						return modelsEstimate(c)
					}
					return modelsVerb("run", (*runner.Project).Run)(c)
				},
			},
			{
				Name: "test", Usage: "test what was built", Flags: append(selectionFlags(), runFlags()...),
				Action: modelsVerb("test", (*runner.Project).Test),
			},
			{
				Name: "seed", Usage: "load the tables of the folder seeds", Flags: append(selectionFlags(), runFlags()...),
				Action: modelsVerb("seed", (*runner.Project).Seed),
			},
			{
				Name: "retry", Usage: "do again what failed or was skipped last time, with the same options",
				Flags: []cli.Flag{jsonFlag()}, Action: traced("sluis models retry", modelsRetry),
			},
			{
				Name: "source", Usage: "look at the tables that others fill",
				Subcommands: []*cli.Command{{
					Name: "freshness", Usage: "fail if the newest rows of a source are older than it promises in a file of YAML",
					Description: "How old they are is kept in " + artifact.SourcesFile + ", which the selector source_status:fresher compares\nwith that in --state DIR.",
					Flags:       slices.Concat(selectionFlags(), []cli.Flag{threadsFlag(), jsonFlag()}),
					Action:      modelsVerb(sourceFreshness, (*runner.Project).Freshness),
				}},
			},
			modelsShowCommand(),
			{
				Name: "ls", Usage: "list models, seeds and tests in the order they run", Flags: append(selectionFlags(), jsonFlag()), Action: modelsLs,
			},
			{
				Name: "compile", Usage: "print the SQL that would run, and keep it in data/target", Flags: append(
					selectionFlags(), jsonFlag(),
					&cli.StringFlag{Name: "dialect", Value: "duckdb", Usage: "duckdb or bigquery"},
				), Action: modelsCompile,
			},
			modelsDocsCommand(),
		},
	}
}

// sourceFreshness is what artifacts call the verb.
const sourceFreshness = "source freshness"

const budgetsAre = "On BigQuery the budgets in sluis.yaml, and meta.max_bytes of a model, bound what is processed:\n" +
	"a statement that would exceed one is not run. If nothing else failed, the exit code is then 3."

// selectionFlags say which nodes a verb is about.
func selectionFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "select", Aliases: []string{"s"}, Usage: "which: names, +m, m+, 2+m, @m, tag:x, path:x, config.materialized:x, state:modified, …; spaces unite, commas intersect"},
		&cli.StringSliceFlag{Name: "exclude", Usage: "which not, written the same way"},
		&cli.StringFlag{Name: "indirect-selection", Value: string(runner.Eager), Usage: "tests of selected models that also read others: eager takes them, buildable and cautious do not, empty takes none"},
		&cli.StringFlag{Name: "state", Usage: "`DIR` with the manifest.json, run_results.json or sources.json of an earlier run, for state:, result: and source_status:"},
		varsFlag(),
	}
}

func varsFlag() cli.Flag {
	return &cli.StringFlag{Name: "vars", Usage: `values for vars of dbt_project.yml, as YAML: '{as_of: "2026-03-31 00:00:00"}'`}
}

// runFlags say how the warehouse is worked on.
func runFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "full-refresh", Usage: "rebuild incremental models from nothing"},
		&cli.BoolFlag{Name: "fail-fast", Aliases: []string{"x"}, Usage: "begin nothing more once something has failed"},
		threadsFlag(),
		jsonFlag(),
	}
}

func threadsFlag() cli.Flag {
	return &cli.IntFlag{Name: "threads", Usage: "how many nodes at once; by default as in sluis.yaml"}
}

// loadProject reads the workspace's models.
func loadProject(w *workspace.Workspace, fullRefresh bool, logger *slog.Logger, progress func(runner.NodeResult)) (*runner.Project, error) {
	return loadProjectWith(w, logger, runner.Options{FullRefresh: fullRefresh, Progress: progress})
}

// loadProjectWith reads the workspace's models, to do with them what options
// say; all that the workspace says is filled in.
func loadProjectWith(w *workspace.Workspace, logger *slog.Logger, options runner.Options) (*runner.Project, error) {
	options.Env = make(map[string]string)
	for _, pair := range os.Environ() {
		name, value, _ := strings.Cut(pair, "=")
		options.Env[name] = value // the runner lets templates see names that begin with DBT_ or SLUIS_
	}
	if options.Threads == 0 {
		options.Threads = max(1, w.Warehouse.Threads)
	}
	options.Dir, options.Target = os.DirFS(w.Path(w.Models)), targetOf(w)
	options.Budget, options.Logger = budgetOf(w), logger
	project, err := runner.Load(options)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", w.Path(w.Models), err)
	}
	return project, nil
}

// targetOf is where runs leave compiled SQL and artifacts.
func targetOf(w *workspace.Workspace) string { return filepath.Join(w.Path(w.Data), "target") }

// argsOf reads the flags of a verb, as run_results.json keeps them.
func argsOf(c *cli.Context, which string) (artifact.Args, error) {
	vars, err := runner.ParseVars(c.String("vars"))
	if err != nil {
		return artifact.Args{}, usage("--vars: %v", err)
	}
	indirect := c.String("indirect-selection")
	if indirect != "" && !slices.Contains(runner.Indirects(), runner.Indirect(indirect)) {
		return artifact.Args{}, usage("--indirect-selection may be %v", runner.Indirects())
	}
	if c.Int("threads") < 0 {
		return artifact.Args{}, usage("--threads must be 1 or more")
	}
	return artifact.Args{
		Which: which, Select: orNone(c.StringSlice("select")), Exclude: orNone(c.StringSlice("exclude")), IndirectSelection: indirect,
		FullRefresh: c.Bool("full-refresh"), FailFast: c.Bool("fail-fast"), Threads: c.Int("threads"), Vars: vars, State: c.String("state"),
	}, nil
}

func orNone(words []string) []string { return append([]string{}, words...) }

// optionsOf are the options of a project that args ask for.
func optionsOf(args artifact.Args) (runner.Options, error) {
	options := runner.Options{
		Exclude: strings.Join(args.Exclude, " "), Indirect: runner.Indirect(args.IndirectSelection),
		FullRefresh: args.FullRefresh, FailFast: args.FailFast, Threads: args.Threads, Vars: args.Vars,
	}
	if args.State == "" {
		return options, nil
	}
	state, err := runner.ReadState(args.State)
	if err != nil {
		return options, usage("--state: %v", err)
	}
	options.State = state
	return options, nil
}

// openProject opens the workspace and its models as a verb's flags have them.
func openProject(c *cli.Context) (*workspace.Workspace, *runner.Project, error) {
	w, err := openWorkspace(c)
	if err != nil {
		return nil, nil, err
	}
	args, err := argsOf(c, c.Command.Name)
	if err != nil {
		return nil, nil, err
	}
	options, err := optionsOf(args)
	if err != nil {
		return nil, nil, err
	}
	project, err := loadProjectWith(w, newLogger(c), options)
	return w, project, err
}

// withModels opens the workspace, its models and its warehouse.
func withModels(c *cli.Context, do func(*workspace.Workspace, *runner.Project, warehouse.Driver) error) (err error) {
	w, project, err := openProject(c)
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

// selector is what --select names.
func selector(c *cli.Context) string { return strings.Join(c.StringSlice("select"), " ") }

// verb is what is done with models in the warehouse.
type verb func(p *runner.Project, ctx context.Context, d warehouse.Driver, selector string) (runner.Results, error)

func modelsVerb(which string, do verb) cli.ActionFunc {
	return traced("sluis models "+which, func(c *cli.Context) error {
		w, err := openWorkspace(c)
		if err != nil {
			return err
		}
		args, err := argsOf(c, which)
		if err != nil {
			return err
		}
		return modelsDo(c, w, args, do)
	})
}

// modelsDo does what args ask for, tells how it went, and leaves the artifacts
// of it.
func modelsDo(c *cli.Context, w *workspace.Workspace, args artifact.Args, do verb) (err error) {
	shown := newProgress(c, w)
	options, err := optionsOf(args)
	if err != nil {
		return err
	}
	options.Begin, options.Progress = shown.begin, shown.end
	project, err := loadProjectWith(w, newLogger(c), options)
	if err != nil {
		return err
	}
	if args.Which == "build" || args.Which == "run" { // those that read what landed
		if err := sweep(c.Context, w, "sluis models "+args.Which, newLogger(c), c.App.ErrWriter); err != nil {
			return err
		}
	}
	db, err := openWarehouse(c.Context, w, "sluis models "+args.Which, c.App.ErrWriter)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	invocation := runner.Invocation{ID: uuid.NewString(), Started: time.Now(), Dialect: db.Dialect()}
	results, err := do(project, c.Context, db, strings.Join(args.Select, " "))
	shown.clear()
	traceNodes(c.Context, results)
	if err != nil {
		return errors.Join(err, keepResults(w, project, invocation, results, args))
	}
	if c.Bool("json") {
		if err := printJSON(c.App.Writer, nodesJSON(w, results)); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(c.App.Writer, summary(results, time.Since(invocation.Started)))
	}
	if len(results) == 0 {
		return nil
	}
	return errors.Join(failures(results), keepResults(w, project, invocation, results, args))
}

// keepResults writes manifest.json, and run_results.json or sources.json, unless
// nothing was done.
func keepResults(w *workspace.Workspace, project *runner.Project, of runner.Invocation, results runner.Results, args artifact.Args) error {
	if len(results) == 0 {
		return nil
	}
	now := time.Now()
	for i := range results {
		results[i] = explained(w, results[i])
	}
	file, told := artifact.RunResultsFile, any(project.RunResults(of, results, args, now))
	if args.Which == sourceFreshness {
		file, told = artifact.SourcesFile, project.SourceResults(of, results, now)
	}
	return errors.Join(
		artifact.Write(targetOf(w), artifact.ManifestFile, project.Manifest(of, now)),
		artifact.Write(targetOf(w), file, told),
	)
}

// modelsRetry does the last run again for what went wrong in it.
func modelsRetry(c *cli.Context) error {
	w, err := openWorkspace(c)
	if err != nil {
		return err
	}
	earlier, err := artifact.Read[artifact.RunResults](targetOf(w), artifact.RunResultsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no earlier run in %s: `sluis models build` is one", targetOf(w))
	} else if err != nil {
		return err
	}
	return modelsDo(c, w, earlier.Args, func(p *runner.Project, ctx context.Context, d warehouse.Driver, _ string) (runner.Results, error) {
		return p.Retry(ctx, d, earlier)
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
	// Age of the newest row, in seconds, of a source that could be asked.
	Age *float64 `json:"age_seconds,omitempty"`
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
		if r.Freshness != nil {
			list[i].Age = &r.Freshness.Seconds
		}
	}
	return list
}

func modelsLs(c *cli.Context) error {
	_, project, err := openProject(c)
	if err != nil {
		return err
	}
	nodes, err := project.List(selector(c))
	if err != nil {
		return err
	}
	type line struct {
		Name         string   `json:"name"`
		UniqueID     string   `json:"unique_id"`
		Kind         string   `json:"kind"`
		Materialized string   `json:"materialized,omitempty"`
		Path         string   `json:"path"`
		Description  string   `json:"description,omitempty"`
		Tags         []string `json:"tags,omitempty"`
		DependsOn    []string `json:"depends_on"`
	}
	lines, rows := []line{}, [][]string{}
	for _, n := range nodes {
		lines = append(lines, line{n.Name, project.UniqueID(n), string(n.Kind), string(n.Materialized), n.Path, n.Description, n.Tags, n.DependsOn})
		rows = append(rows, []string{n.Name, string(n.Kind), string(n.Materialized), n.Path})
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, lines)
	}
	printTable(c.App.Writer, []string{"name", "kind", "materialized", "path"}, rows)
	return nil
}

func modelsCompile(c *cli.Context) error {
	w, project, err := openProject(c)
	if err != nil {
		return err
	}
	dialect := c.String("dialect")
	if dialect != "duckdb" && dialect != "bigquery" {
		return usage("--dialect may be duckdb or bigquery")
	}
	compiled, err := project.Compile(dialect, selector(c))
	if err != nil {
		return err
	}
	manifest := project.Manifest(runner.Invocation{ID: uuid.NewString(), Started: time.Now(), Dialect: dialect}, time.Now())
	if err := errors.Join(project.Keep(compiled), artifact.Write(targetOf(w), artifact.ManifestFile, manifest)); err != nil {
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
