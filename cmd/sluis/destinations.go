package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/plugins/host"
	syncer "github.com/sluis-cdp/sluis/sync"
)

// destinationTimeout bounds what one sync's destination is asked.
const destinationTimeout = time.Minute

func destinationsCommand() *cli.Command {
	return &cli.Command{
		Name:  "destinations",
		Usage: "the places that syncs send to",
		Subcommands: append(append(installedCommands(), authorsCommands()...), []*cli.Command{
			{
				Name: "ls", Usage: "list the destinations, or what one takes: its configuration and its fields", ArgsUsage: "[DESTINATION]",
				Flags: []cli.Flag{jsonFlag()}, Action: destinationsLs,
			},
			{
				Name: "check", Usage: "ask the destinations of syncs whether they let us in and take the mapping; nothing is sent", ArgsUsage: "[SYNC...]",
				Flags: []cli.Flag{jsonFlag()}, Action: destinationsCheck,
			},
			{
				Name: "test", Usage: "send one row of your own to a sync's destination, and take it out again", ArgsUsage: "SYNC FIELD=VALUE...",
				Flags: []cli.Flag{jsonFlag(), &cli.BoolFlag{Name: "keep", Usage: "do not take the row out again"}}, Action: destinationsTest,
			},
		}...),
	}
}

func destinationsLs(c *cli.Context) error {
	lock, err := workspace.ReadLock(workspaceDir(c))
	if err != nil {
		return err
	}
	if !c.Args().Present() {
		descriptions, rows := []destination.Description{}, [][]string{}
		for _, name := range known(lock) {
			d, err := describe(c, name)
			if err != nil {
				return err
			}
			descriptions = append(descriptions, d)
			rows = append(rows, []string{d.Name, d.Version, d.Granularity.String(), mark(d.Idempotent), mark(d.UpdateOnly), required(d.Config)})
		}
		if c.Bool("json") {
			return printJSON(c.App.Writer, descriptions)
		}
		printTable(c.App.Writer, []string{"destination", "version", "tells of each", "again is once", "can update alone", "needs"}, rows)
		return nil
	}
	if c.NArg() != 1 {
		return usage("ls takes one DESTINATION at most")
	}
	d, err := describe(c, c.Args().First())
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, d)
	}
	rows := [][]string{}
	for _, f := range d.Config {
		rows = append(rows, []string{f.Name, mark(f.Required), f.Help})
	}
	printTable(c.App.Writer, []string{"config", "required", "help"}, rows)
	for _, l := range d.Limits {
		fmt.Fprintf(c.App.Writer, "limit: %s\n", strings.TrimSpace(fmt.Sprintf("%d requests in %v for an account %s", l.Requests, l.Per, l.Name)))
	}
	if len(d.Target.Fields) == 0 {
		fmt.Fprintf(c.App.Writer, "fields: any, or what the outside system says: sluis destinations check\n")
		return nil
	}
	rows = nil
	for _, f := range d.Target.Fields {
		rows = append(rows, []string{f.Name, mark(f.Required), f.Form, f.Help})
	}
	printTable(c.App.Writer, []string{"field", "required", "form", "help"}, rows)
	return nil
}

// describe asks a destination what it is. Those that are built in need no
// process for that.
func describe(c *cli.Context, name string) (destination.Description, error) {
	if make, ok := builtin()[name]; ok {
		return make().Describe(), nil
	}
	if err := checkKnown(workspaceDir(c), name); err != nil {
		return destination.Description{}, err
	}
	start, err := starter(workspaceDir(c), quietLogger(c))
	if err != nil {
		return destination.Description{}, err
	}
	plugin, err := start(c.Context, name)
	if err != nil {
		return destination.Description{}, err
	}
	defer plugin.Kill()
	return plugin.Describe(), nil
}

// mark is "yes" or nothing, so that a column shows what is set.
func mark(b bool) string {
	if b {
		return "yes"
	}
	return ""
}

func required(fields []destination.Field) string {
	var names []string
	for _, f := range fields {
		if f.Required {
			names = append(names, f.Name)
		}
	}
	return strings.Join(names, ", ")
}

// connected is the running plugin of a sync, whose Open also holds the mapping
// to what the outside system takes: a run fails before anything is sent. Its
// requests go out within the limits of the account.
type connected struct {
	*host.Plugin
	sync  syncer.Sync
	pacer destination.Pacer
}

// Open implements [destination.Destination].
func (d *connected) Open(ctx context.Context, config map[string]string) error {
	ctx = destination.WithPacer(ctx, d.pacer)
	if err := d.Plugin.Open(ctx, config); err != nil {
		return err
	}
	return d.takesMapping(ctx)
}

// OpenToUpdate implements [destination.Updater].
func (d *connected) OpenToUpdate(ctx context.Context, config map[string]string) error {
	ctx = destination.WithPacer(ctx, d.pacer)
	if err := d.Plugin.OpenToUpdate(ctx, config); err != nil {
		return err
	}
	return d.takesMapping(ctx)
}

// Check implements [destination.Checker].
func (d *connected) Check(ctx context.Context) error {
	return d.Plugin.Check(destination.WithPacer(ctx, d.pacer))
}

// Write implements [destination.Destination].
func (d *connected) Write(ctx context.Context, batch destination.Batch) ([]destination.Result, error) {
	return d.Plugin.Write(destination.WithPacer(ctx, d.pacer), batch)
}

// Poll implements [destination.Poller].
func (d *connected) Poll(ctx context.Context, receipts []string) ([]destination.Settlement, error) {
	return d.Plugin.Poll(destination.WithPacer(ctx, d.pacer), receipts)
}

// Close implements [destination.Destination].
func (d *connected) Close(ctx context.Context) error {
	return d.Plugin.Close(destination.WithPacer(ctx, d.pacer))
}

func (d *connected) takesMapping(ctx context.Context) error {
	target, err := d.DescribeTarget(ctx)
	if err != nil {
		return err
	}
	return checkMapping(target, d.sync)
}

// checkMapping says with file and line which fields of a mapping the target
// does not take. What type a model's column has is not known here.
func checkMapping(target destination.Target, s syncer.Sync) error {
	columns := make([]destination.Column, len(s.Mapping))
	lines := map[string]int{}
	for i, f := range s.Mapping {
		columns[i], lines[f.Field] = destination.Column{Name: f.Field}, f.Line
		if f.Column == "" {
			columns[i].Type = destination.String
		}
	}
	err := target.CheckColumns(columns)
	if err == nil {
		return nil
	}
	problems := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		problems = joined.Unwrap()
	}
	for i, problem := range problems {
		line := 1
		if wrong, ok := errors.AsType[*destination.MappingError](problem); ok && wrong.Column != "" {
			line = lines[wrong.Column]
		}
		problems[i] = fmt.Errorf("%s:%d: mapping: %w", s.File, line, problem)
	}
	return errors.Join(problems...)
}

// chosenSyncs are the syncs that the arguments name, all if they name none.
func chosenSyncs(w *workspace.Workspace, names []string) ([]syncer.Sync, error) {
	all, err := loadSyncs(w)
	if err != nil || len(names) == 0 {
		return all, err
	}
	var chosen []syncer.Sync
	for _, name := range names {
		i := slices.IndexFunc(all, func(s syncer.Sync) bool { return s.Name == name })
		if i < 0 {
			return nil, usage("there is no sync %q; `sluis sync ls` lists them", name)
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// withDestination starts the destination of a sync, opens it, and closes it
// after do.
func withDestination(c *cli.Context, connect connect, s syncer.Sync, do func(ctx context.Context, d destination.Destination) error) (err error) {
	ctx, cancel := context.WithTimeout(c.Context, destinationTimeout)
	defer cancel()
	d, err := connect(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close(context.WithoutCancel(ctx))) }()
	if err := s.Fits(d.Describe()); err != nil {
		return err
	}
	if err := destination.Open(ctx, d, s.Config, s.Mode == syncer.ModeUpdate); err != nil {
		return fmt.Errorf("%s: open the destination %s: %w", s.File, s.Destination, err)
	}
	return do(ctx, d)
}

func destinationsCheck(c *cli.Context) error {
	w, err := openWorkspace(c)
	if err != nil {
		return err
	}
	chosen, err := chosenSyncs(w, c.Args().Slice())
	if err != nil {
		return err
	}
	type line struct {
		Sync        string `json:"sync"`
		Destination string `json:"destination"`
		OK          bool   `json:"ok"`
		Problem     string `json:"problem,omitempty"`
	}
	connect, err := connector(w, newLogger(c), nil)
	if err != nil {
		return err
	}
	lines, rows, failed := []line{}, [][]string{}, 0
	for _, s := range chosen {
		s.File = filepath.Join(w.Syncs, s.File)
		err := withDestination(c, connect, s, func(ctx context.Context, d destination.Destination) error {
			if checker, ok := d.(destination.Checker); ok {
				return checker.Check(ctx)
			}
			return nil
		})
		l, verdict := line{Sync: s.Name, Destination: s.Destination, OK: err == nil}, "ok"
		if err != nil {
			failed++
			l.Problem, verdict = err.Error(), err.Error()
		}
		lines, rows = append(lines, l), append(rows, []string{s.Name, s.Destination, verdict})
	}
	if c.Bool("json") {
		err = printJSON(c.App.Writer, lines)
	} else {
		printTable(c.App.Writer, []string{"sync", "destination", "answer"}, rows)
	}
	if failed > 0 {
		return errors.Join(err, fmt.Errorf("%d of %d destinations cannot be used as their syncs say", failed, len(chosen)))
	}
	return err
}

func destinationsTest(c *cli.Context) error {
	if c.NArg() < 1 {
		return usage("test needs the name of a sync, and values: sluis destinations test NAME email=me@example.org")
	}
	w, err := openWorkspace(c)
	if err != nil {
		return err
	}
	chosen, err := chosenSyncs(w, c.Args().Slice()[:1])
	if err != nil {
		return err
	}
	s := chosen[0]
	batch, err := testBatch(s, c.Args().Tail())
	if err != nil {
		return err
	}
	connect, err := connector(w, newLogger(c), nil)
	if err != nil {
		return err
	}
	var answers []testAnswer
	err = withDestination(c, connect, s, func(ctx context.Context, d destination.Destination) error {
		answer, err := sendTest(ctx, d, batch)
		answers = append(answers, answer)
		if err != nil || c.Bool("keep") || !slices.Contains(d.Describe().Ops, destination.Remove) {
			return err
		}
		removal := batch
		change := batch.Changes[0]
		change.Former, change.Decision = identifying(d.Describe().Target, batch), ""
		change.ID, change.Op, change.Values = change.ID+"-removed", destination.Remove, make([]any, len(batch.Columns))
		removal.ID, removal.Changes = batch.ID+"-removed", []destination.Change{change}
		answer, err = sendTest(ctx, d, removal)
		answers = append(answers, answer)
		return err
	})
	if err != nil {
		return err
	}
	return printTest(c, answers)
}

// identifying are the test's values as a host keeps them for a removal.
func identifying(target destination.Target, batch destination.Batch) (former [][]any) {
	values := make([]any, len(batch.Columns))
	for i, c := range batch.Columns {
		if slices.ContainsFunc(target.Fields, func(f destination.TargetField) bool { return f.Identifies && f.Name == c.Name }) {
			values[i] = batch.Changes[0].Values[i]
			former = [][]any{values}
		}
	}
	return former
}

// testAnswer is what a destination said of the test's row.
type testAnswer struct {
	Op      string `json:"op"`
	Outcome string `json:"outcome"`
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
}

func sendTest(ctx context.Context, d destination.Destination, batch destination.Batch) (testAnswer, error) {
	results, err := d.Write(ctx, batch)
	if err == nil {
		err = batch.CheckResults(results)
	}
	if err != nil {
		return testAnswer{}, err
	}
	r := results[0]
	return testAnswer{Op: batch.Changes[0].Op.String(), Outcome: r.Outcome.String(), Code: r.Code, Message: r.Message}, nil
}

// testBatch makes a batch of one row with the fields of a sync's mapping: its
// constants, and what the arguments say. All others are NULL.
func testBatch(s syncer.Sync, arguments []string) (destination.Batch, error) {
	random := make([]byte, 6)
	if _, err := rand.Read(random); err != nil {
		return destination.Batch{}, err
	}
	id := "sluis-test-" + hex.EncodeToString(random)
	batch := destination.Batch{ID: id, Sync: s.Name, Run: id, Purpose: s.Purpose}
	change := destination.Change{ID: id, Key: id, Op: destination.Upsert, Decision: id}
	for _, f := range s.Mapping {
		batch.Columns = append(batch.Columns, destination.Column{Name: f.Field, Type: destination.String})
		var value any
		if f.Value != nil {
			value = *f.Value
		}
		change.Values = append(change.Values, value)
	}
	for _, argument := range arguments {
		name, value, ok := strings.Cut(argument, "=")
		i := slices.IndexFunc(batch.Columns, func(c destination.Column) bool { return c.Name == name })
		if !ok || i < 0 {
			return destination.Batch{}, usage("%s: want FIELD=VALUE with a field of the mapping of %s", name, s.File)
		}
		change.Values[i] = value
	}
	batch.Changes = []destination.Change{change}
	return batch, nil
}

func printTest(c *cli.Context, answers []testAnswer) error {
	rows := [][]string{}
	var failed error
	for _, a := range answers {
		rows = append(rows, []string{a.Op, a.Outcome, a.Code, a.Message})
		switch a.Outcome {
		case destination.Delivered.String(), destination.Accepted.String(), destination.Skipped.String():
		default:
			failed = errors.New("the destination did not take the row")
		}
	}
	if c.Bool("json") {
		return errors.Join(printJSON(c.App.Writer, answers), failed)
	}
	printTable(c.App.Writer, []string{"op", "outcome", "code", "message"}, rows)
	return failed
}
