package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sluis-cdp/sluis/cmd/internal/tracing"
	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/consent/seal"
	"github.com/sluis-cdp/sluis/sql/warehouse"
	syncer "github.com/sluis-cdp/sluis/sync"
)

func syncCommand() *cli.Command {
	approve := &cli.BoolFlag{Name: "approve", Usage: "carry out the removals that a guard holds back"}
	return &cli.Command{
		Name:        "sync",
		Usage:       "bring audiences and profiles to where they are used",
		Description: tracing.Environment,
		Subcommands: append([]*cli.Command{
			{Name: "ls", Usage: "list the syncs", Flags: []cli.Flag{jsonFlag()}, Action: syncLs},
			{
				Name: "plan", Usage: "show what a run would do, and why; nothing is sent", ArgsUsage: "[NAME...]",
				Flags: []cli.Flag{jsonFlag()}, Action: traced("sluis sync plan", syncPlan),
			},
			{
				Name: "apply", Usage: "carry out a plan: a stored one, or the one made now", ArgsUsage: "[NAME...]",
				Flags:  []cli.Flag{jsonFlag(), approve, &cli.StringFlag{Name: "plan", Usage: "id of a stored plan; then one NAME is needed"}},
				Action: traced("sluis sync apply", syncApply),
			},
			{
				Name: "run", Usage: "plan and apply in one", ArgsUsage: "[NAME...]",
				Flags: []cli.Flag{jsonFlag(), approve}, Action: traced("sluis sync run", syncApply),
			},
			{
				Name: "history", Usage: "show the last runs", ArgsUsage: "[NAME...]",
				Flags: []cli.Flag{jsonFlag(), &cli.IntFlag{Name: "n", Value: 10, Usage: "how many runs of each sync"}}, Action: syncHistory,
			},
			{
				Name: "rows", Usage: "show what was sent: the last deliveries, row by row, with the consent decision of each", ArgsUsage: "NAME",
				Flags: []cli.Flag{
					jsonFlag(), &cli.IntFlag{Name: "n", Value: 20, Usage: "how many"},
					&cli.StringFlag{Name: "key", Usage: "of one key only"},
				}, Action: syncRows,
			},
			syncNewCommand(),
		}, syncRepairCommands()...),
	}
}

// loadSyncs reads the workspace's syncs. Secrets come from files below the
// workspace and from the environment.
func loadSyncs(w *workspace.Workspace) ([]syncer.Sync, error) {
	dir := w.Path(w.Syncs)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	all, err := syncer.Load(os.DirFS(dir), func(ref syncer.SecretRef) (string, error) {
		if ref.Env != "" {
			value, ok := os.LookupEnv(ref.Env)
			if !ok {
				return "", fmt.Errorf("the environment variable %s is not set", ref.Env)
			}
			return value, nil
		}
		text, err := os.ReadFile(w.Path(ref.File))
		if err != nil {
			return "", err
		}
		return strings.TrimSpace(string(text)), nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	for _, s := range all {
		// A path in a configuration is relative to the workspace, wherever the
		// plugin's process runs.
		if path := s.Config["directory"]; s.Destination == "file" && path != "" && !filepath.IsAbs(path) {
			s.Config["directory"] = w.Path(path)
			if err := os.MkdirAll(w.Path(path), 0o700); err != nil {
				return nil, fmt.Errorf("%s: %w", s.File, err)
			}
		}
	}
	return all, nil
}

// unsealer opens sealed values with the keys that a workspace had when it was last
// renewed.
type unsealer struct {
	w      *workspace.Workspace
	opener atomic.Pointer[seal.Opener]
	keeper atomic.Pointer[seal.Keeper] // nil until it is needed
}

func newUnsealer(ctx context.Context, w *workspace.Workspace) (*unsealer, error) {
	u := &unsealer{w: w}
	return u, u.renew(ctx)
}

// renew reads the keys anew: what was rotated opens, what was destroyed is
// forgotten. After an error it goes on with those it has.
func (u *unsealer) renew(ctx context.Context) error {
	opener, err := seal.NewOpener(ctx, u.w.Keyring(), u.w.Workspace, u.w.SealPurposes())
	if err != nil {
		return err
	}
	u.opener.Store(opener)
	u.keeper.Store(nil)
	return nil
}

// removals seals and opens what removals need. The key is made when it is first
// needed.
func (u *unsealer) removals(ctx context.Context) (*seal.Keeper, error) {
	if k := u.keeper.Load(); k != nil {
		return k, nil
	}
	if _, err := u.w.EnsureKey(ctx, seal.KeyRemovals); err != nil {
		return nil, err
	}
	k, err := seal.NewKeeper(ctx, u.w.Keyring(), u.w.Workspace)
	if err != nil {
		return nil, err
	}
	u.keeper.Store(k)
	return k, nil
}

// leaseTTL is how long a sync stays taken after the process that ran it was killed:
// withdrawals wait that long at most. In the embedded warehouse nobody else gets in
// while a plan is made, and the clocks of one machine do not differ. BigQuery takes
// seconds for each statement, and lets another machine take a lease that has ended.
func leaseTTL(w *workspace.Workspace) time.Duration {
	if w.Warehouse.BigQuery == nil {
		return 75 * time.Second
	}
	return 5 * time.Minute
}

// newSyncer wires the syncer of a workspace.
func newSyncer(ctx context.Context, w *workspace.Workspace, holder string, logger *slog.Logger, stderr io.Writer) (*syncer.Syncer, error) {
	u, err := newUnsealer(ctx, w)
	if err != nil {
		return nil, err
	}
	return newSyncerWith(u, w, holder, logger, stderr, nil)
}

// newSyncerWith also tells asked what [connector] does.
func newSyncerWith(u *unsealer, w *workspace.Workspace, holder string, logger *slog.Logger, stderr io.Writer,
	asked func(sync string, waited time.Duration, went bool),
) (*syncer.Syncer, error) {
	connect, err := connector(w, logger, asked)
	if err != nil {
		return nil, err
	}
	return syncer.New(syncer.Config{
		Open: func(ctx context.Context) (warehouse.Driver, error) {
			return openWarehouse(ctx, w, holder, stderr)
		},
		Connect: connect,
		Unseal: func(_ context.Context, s syncer.Sealed) (string, error) {
			return u.opener.Load().Open(
				seal.Sealed{KeyID: s.KeyID, Ciphertext: s.Ciphertext},
				seal.DataKey{ID: s.KeyID, Purpose: s.Purpose, Recipient: s.Recipient, PSKID: s.PSKID, EncapsulatedKey: s.EncapsulatedKey},
				seal.Binding{
					Purpose: s.Purpose, Field: s.Field, Subject: s.Pseudonym, Decision: s.DecisionID,
					Record: seal.VaultRecord(s.Token, s.ReceivedAt),
				})
		},
		Keep: func(ctx context.Context, sync, key, value string) (string, error) {
			k, err := u.removals(ctx)
			if err != nil {
				return "", err
			}
			return k.Seal(sync, key, value), nil
		},
		Recall: func(ctx context.Context, sync, key, sealed string) (string, error) {
			k, err := u.removals(ctx)
			if err != nil {
				return "", err
			}
			return k.Open(sync, key, sealed)
		},
		Logger:   logger,
		LeaseTTL: leaseTTL(w),
		Holder:   fmt.Sprintf("%s (process %d)", holder, os.Getpid()),
	})
}

// syncs opens what every sync command needs: the syncs named, all if none is.
func syncs(c *cli.Context) (*syncer.Syncer, []syncer.Sync, error) {
	w, err := openWorkspace(c)
	if err != nil {
		return nil, nil, err
	}
	all, err := loadSyncs(w)
	if err != nil {
		return nil, nil, err
	}
	chosen := all
	if c.Args().Present() {
		chosen = nil
		for _, name := range c.Args().Slice() {
			i := slices.IndexFunc(all, func(s syncer.Sync) bool { return s.Name == name })
			if i < 0 {
				return nil, nil, usage("there is no sync %q; `sluis sync ls` lists them", name)
			}
			chosen = append(chosen, all[i])
		}
	}
	e, err := newSyncer(c.Context, w, "sluis sync "+c.Command.Name, newLogger(c), c.App.ErrWriter)
	return e, chosen, err
}

func syncLs(c *cli.Context) error {
	w, err := openWorkspace(c)
	if err != nil {
		return err
	}
	all, err := loadSyncs(w)
	if err != nil {
		return err
	}
	type line struct {
		Name        string `json:"name"`
		Model       string `json:"model"`
		Purpose     string `json:"purpose"`
		Destination string `json:"destination"`
		Mode        string `json:"mode"`
		Schedule    string `json:"schedule"`
	}
	lines, rows := []line{}, [][]string{}
	for _, s := range all {
		lines = append(lines, line{s.Name, s.Model, s.Purpose, s.Destination, string(s.Mode), s.Schedule.String()})
		rows = append(rows, []string{s.Name, s.Model, s.Purpose, s.Destination, string(s.Mode), s.Schedule.String()})
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, lines)
	}
	printTable(c.App.Writer, []string{"name", "model", "purpose", "destination", "mode", "schedule"}, rows)
	return nil
}

func syncPlan(c *cli.Context) error {
	e, chosen, err := syncs(c)
	if err != nil {
		return err
	}
	plans := []shownPlan{}
	var held error
	for _, s := range chosen {
		d, err := describe(c, s.Destination) // a plan needs it for nothing else
		if err != nil {
			return fmt.Errorf("%s: %w", s.File, err)
		}
		if err := s.Fits(d); err != nil {
			return err
		}
		before, err := e.History(c.Context, s.Name, 20)
		if err != nil {
			return err
		}
		p, err := e.Plan(c.Context, s)
		if err != nil {
			return err
		}
		if p.Held != nil {
			held = p.Held
		}
		plans = append(plans, shownPlan{p, s.Estimate(p.Counts.Sends(), d, before)})
	}
	if c.Bool("json") {
		return errors.Join(printJSON(c.App.Writer, plans), held)
	}
	for _, p := range plans {
		printPlan(c.App.Writer, p)
	}
	return held
}

// shownPlan is a plan and what it would take.
type shownPlan struct {
	syncer.Plan
	Estimate *syncer.Estimate `json:"estimate,omitempty"`
}

func printPlan(w io.Writer, p shownPlan) {
	fmt.Fprintf(w, "%s: %d to add, %d to update, %d to refresh, %d to remove, %d held, %d unchanged\n",
		p.Sync, p.Counts.Add, p.Counts.Update, p.Counts.Refresh, p.Counts.Remove, p.Counts.Hold, p.Counts.Unchanged)
	if m := p.Mapping; m != nil {
		fmt.Fprintf(w, "  the mapping was edited, so %d rows are sent again (%s)\n", m.Rows, cmp.Or(strings.Join(m.Fields, "; "), "what it was is not known any more"))
	}
	for _, reason := range slices.Sorted(maps.Keys(p.Reasons)) {
		fmt.Fprintf(w, "  %d %s\n", p.Reasons[reason], reason)
	}
	if p.Estimate != nil {
		fmt.Fprintf(w, "  %v\n", p.Estimate)
	}
	if len(p.Changes) > 0 {
		rows := make([][]string, len(p.Changes))
		for i, change := range p.Changes {
			rows[i] = []string{string(change.Op), change.Key, string(change.Reason)}
		}
		printTable(w, []string{"change", "key", "reason"}, rows)
		fmt.Fprintf(w, "  to do exactly this: sluis sync apply --plan %s %s\n", p.ID, p.Sync)
	}
}

func syncApply(c *cli.Context) error {
	e, chosen, err := syncs(c)
	if err != nil {
		return err
	}
	planID := c.String("plan")
	if planID != "" && (len(chosen) != 1 || c.NArg() != 1) {
		return usage("apply --plan needs the name of the plan's sync: sluis sync apply --plan ID NAME")
	}
	options := syncer.Options{Approve: c.Bool("approve")}
	runs := []syncer.Run{}
	var failures []error
	for _, s := range chosen {
		var run syncer.Run
		if planID != "" {
			run, err = e.Apply(c.Context, s, planID, options)
		} else {
			run, err = e.Run(c.Context, s, options)
		}
		if err != nil {
			failures = append(failures, err)
		}
		if run.ID != "" {
			runs = append(runs, run)
		}
	}
	return errors.Join(printRuns(c, runs), errors.Join(failures...))
}

func printRuns(c *cli.Context, runs []syncer.Run) error {
	if c.Bool("json") {
		return printJSON(c.App.Writer, runs)
	}
	if len(runs) == 0 {
		return nil
	}
	n := func(v int64) string { return strconv.FormatInt(v, 10) }
	rows := make([][]string, len(runs))
	for i, r := range runs {
		rows[i] = []string{
			r.Sync, r.Started.Local().Format("2006-01-02 15:04:05"), string(r.Status),
			n(r.Added), n(r.Updated), n(r.Refreshed), n(r.Removed), n(r.Failed), n(r.Skipped), n(r.Held), fmt.Sprintf("%.1f", r.Seconds),
		}
	}
	printTable(c.App.Writer, []string{"sync", "started", "status", "added", "updated", "refreshed", "removed", "failed", "skipped", "held", "seconds"}, rows)
	return nil
}

func syncHistory(c *cli.Context) error {
	e, chosen, err := syncs(c)
	if err != nil {
		return err
	}
	runs := []syncer.Run{}
	for _, s := range chosen {
		some, err := e.History(c.Context, s.Name, c.Int("n"))
		if err != nil {
			return err
		}
		runs = append(runs, some...)
	}
	return printRuns(c, runs)
}

func syncRows(c *cli.Context) error {
	if c.NArg() != 1 {
		return usage("rows needs the name of one sync")
	}
	e, chosen, err := syncs(c)
	if err != nil {
		return err
	}
	deliveries, err := e.Deliveries(c.Context, chosen[0].Name, c.String("key"), c.Int("n"))
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, deliveries)
	}
	rows := make([][]string, len(deliveries))
	for i, d := range deliveries {
		outcome := d.Outcome
		if d.Settled != "" {
			outcome += ", then " + d.Settled
		}
		rows[i] = []string{d.At.Local().Format("2006-01-02 15:04:05"), d.Op, d.Key, string(d.Reason), outcome, d.DecisionID, d.Code, d.Message}
	}
	printTable(c.App.Writer, []string{"at", "op", "key", "reason", "outcome", "decision", "code", "message"}, rows)
	return nil
}
