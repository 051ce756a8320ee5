package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // time zones of schedules, also where the system has none

	"github.com/urfave/cli/v2"

	"github.com/sluis-cdp/sluis/cmd/internal/alert"
	"github.com/sluis-cdp/sluis/cmd/internal/edge"
	"github.com/sluis-cdp/sluis/cmd/internal/tracing"
	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/collector/metrics"
	"github.com/sluis-cdp/sluis/sql/runner"
	"github.com/sluis-cdp/sluis/sql/warehouse"
	syncer "github.com/sluis-cdp/sluis/sync"
)

func upCommand() *cli.Command {
	return &cli.Command{
		Name:        "up",
		Usage:       "collector and scheduler in one process: models and then syncs run at the interval of the configuration",
		Description: edge.Signals + "\n\n" + tracing.Environment,
		Flags:       edge.Flags(),
		Action: func(c *cli.Context) error {
			w, options, err := edge.Open(c, workspaceDir(c))
			if err != nil {
				return err
			}
			return up(c.Context, w, options, c.App.ErrWriter)
		},
	}
}

// up runs until ctx is done or a part fails, and then drains.
func up(ctx context.Context, w *workspace.Workspace, options edge.Options, stderr io.Writer) error {
	s, err := newScheduler(ctx, w, options.Logger, stderr)
	if err != nil {
		return err
	}
	if s.alerts, err = alert.Open(w, options.Logger, time.Now); err != nil {
		return err
	}
	s.traces = tracing.Open(ctx, sdkVersion(), options.Logger)
	defer s.traces.Close()
	options.Syncs = s.metrics
	if err := setUpWarehouse(ctx, w); err != nil {
		return err
	}
	s.patience, s.atLeast = defaultPatience, defaultAtLeast
	return edge.Run(ctx, w, options, func(ctx context.Context) { s.run(ctx, w.Schedule.Every) })
}

// scheduler runs models and then syncs.
type scheduler struct {
	w       *workspace.Workspace
	syncer  *syncer.Syncer
	unseal  *unsealer
	logger  *slog.Logger
	stderr  io.Writer
	alerts  *alert.Watch // nil tells nobody
	metrics *metrics.Syncs
	traces  *tracing.Sender // nil sends none
	// seen is what is known of each sync.
	seen map[string]*alert.Seen
	// observed: how the rows of syncs stand is known.
	observed bool
	// retained is when data keys were last destroyed for their age.
	retained time.Time
	// built is what the models were last built from, all of them; nil if some failed.
	built *buildInput
	// underway are the syncs that go on, by their names. patience is how long one is
	// waited for, forever if it is negative; atLeast is how long it is let go on.
	underway          map[string]*underway
	patience, atLeast time.Duration
}

func newScheduler(ctx context.Context, w *workspace.Workspace, logger *slog.Logger, stderr io.Writer) (*scheduler, error) {
	u, err := newUnsealer(ctx, w)
	if err != nil {
		return nil, err
	}
	observer := metrics.NewSyncs()
	e, err := newSyncerWith(u, w, "sluis up", logger, stderr, observer.Asked)
	if err != nil {
		return nil, err
	}
	// Mistakes in models and syncs are told at the start, when somebody looks.
	if _, err := loadProject(w, false, logger, nil); err != nil {
		return nil, err
	}
	if _, err := loadSyncs(w); err != nil {
		return nil, err
	}
	return &scheduler{
		w: w, syncer: e, unseal: u, logger: logger, stderr: stderr, metrics: observer, seen: map[string]*alert.Seen{},
		underway: map[string]*underway{}, patience: -1,
	}, nil
}

// run calls once at an interval until ctx is done. What fails is logged, and
// tried again at the next turn.
func (s *scheduler) run(ctx context.Context, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	defer s.finish()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			s.turn(ctx)
		}
	}
}

// turn is what run does each time, with a trace of its own.
func (s *scheduler) turn(ctx context.Context) {
	ctx, span := s.traces.Root(ctx, "turn")
	_, err := s.once(ctx)
	if err != nil && ctx.Err() == nil {
		s.logger.Error("a scheduled run failed; the next one tries again", "error", err)
	}
	s.observe(ctx)
	tracing.End(span, errorType(err))
}

// once sweeps, builds the models and runs every sync whose models were built. It
// returns the runs that ended, also with an error.
func (s *scheduler) once(ctx context.Context) ([]syncer.Run, error) {
	ended := s.ended() // before it is asked when they ran last
	// Both are read anew, so that an edit counts from the next run on. One that is
	// made while the project is read counts as made after the version.
	version, err := filesVersion(s.w.Path(s.w.Models))
	if err != nil {
		return nil, err
	}
	project, err := loadProject(s.w, false, s.logger, nil)
	if err != nil {
		return nil, err
	}
	syncs, err := loadSyncs(s.w)
	if err != nil {
		return nil, err
	}
	last, err := s.syncer.LastRuns(ctx)
	if err != nil {
		return nil, err
	}
	s.expect(syncs, last)
	if err := sweep(ctx, s.w, "sluis up (sweep)", s.logger, s.stderr); err != nil {
		return nil, err
	}
	if err := s.retain(ctx, time.Now()); err != nil {
		s.logger.Error("data keys could not be destroyed at their age; it is tried again", "error", err)
	}
	// After that, so that no destroyed key is remembered.
	if err := s.unseal.renew(ctx); err != nil {
		s.logger.Error("the keys could not be read anew; those of before are used", "error", err)
	}
	failed, err := s.buildModels(ctx, project, version)
	if err != nil {
		return nil, err
	}
	for _, u := range ended {
		delete(s.underway, u.sync.Name)
	}
	var problems []error
	for _, sync := range syncs {
		if u := s.underway[sync.Name]; u != nil {
			over, err := s.yield(ctx, u)
			if err != nil {
				problems = append(problems, err)
			}
			if !over {
				continue
			}
			ended = append(ended, u)
			delete(s.underway, sync.Name)
		}
		u := begin(ctx, sync, func(ctx context.Context) (syncer.Run, error) {
			return s.sync(ctx, project, failed, sync, sync.Schedule.Due(last[sync.Name], time.Now()))
		})
		u.looked = s.built
		if u.within(s.patience) {
			ended = append(ended, u)
			continue
		}
		s.logger.Info("a sync takes long, and goes on beside the others", "name", sync.Name)
		s.underway[sync.Name] = u
	}
	runs, err := s.account(ended)
	return runs, errors.Join(append(problems, err)...)
}

// account notes what came of syncs that ended.
func (s *scheduler) account(ended []*underway) (runs []syncer.Run, err error) {
	for _, u := range ended {
		run, failure := u.outcome()
		s.saw(u.sync.Name, run, failure)
		err = errors.Join(err, failure)
		if run.ID != "" {
			runs = append(runs, run)
		}
		if run.ID != "" && run.Status != syncer.RunIdle {
			s.logger.Info("sync", "name", run.Sync, "added", run.Added, "updated", run.Updated, "refreshed", run.Refreshed, "removed", run.Removed, "failed", run.Failed, "held", run.Held)
		}
	}
	return runs, err
}

// sync runs a sync that is due. Of one that is not only the withdrawals go out:
// they wait for nobody's schedule.
func (s *scheduler) sync(ctx context.Context, project *runner.Project, failed map[string]bool, sync syncer.Sync, due bool) (syncer.Run, error) {
	reads := []string{"consent_profile"}
	if sync.Members.Model != "" {
		reads = append(reads, sync.Members.Model)
	}
	if !due {
		if err := readyFor(project, failed, sync, reads...); err != nil {
			return syncer.Run{}, err
		}
		return s.syncer.Withdraw(ctx, sync)
	}
	if err := readyFor(project, failed, sync, append(reads, "profile_sealed", sync.Model)...); err != nil {
		return syncer.Run{}, err
	}
	return s.syncer.Run(ctx, sync, syncer.Options{})
}

// retainEvery is how often data keys are looked at for their age.
const retainEvery = time.Hour

// retain destroys data keys older than consent.retention has it.
func (s *scheduler) retain(ctx context.Context, now time.Time) error {
	if len(s.w.Consent.Retention) == 0 || now.Sub(s.retained) < retainEvery {
		return nil
	}
	for _, purpose := range slices.Sorted(maps.Keys(s.w.Consent.Retention)) {
		age := s.w.Consent.Retention[purpose]
		report, err := shredder{w: s.w, stderr: s.stderr}.dataKeys(ctx, dataKeys{purpose: string(purpose), before: now.Add(-time.Duration(age))})
		if err != nil {
			return err
		}
		if report.DataKeys > 0 {
			var values int64
			for _, u := range report.Sealed {
				values += u.N
			}
			s.logger.Info("data keys were destroyed at their age", "purpose", string(purpose), "age", age.String(), "data_keys", report.DataKeys, "values", values)
		}
	}
	s.retained = now
	return nil
}

// buildModels builds the models of a project, whose files had this version, unless
// they would come out the same. It holds the warehouse only meanwhile, and returns
// the names of the models that were not built.
func (s *scheduler) buildModels(ctx context.Context, project *runner.Project, version string) (failed map[string]bool, err error) {
	db, err := openWarehouse(ctx, s.w, "sluis up (models)", s.stderr)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	input := buildInput{models: version, at: time.Now()}
	if versioner, ok := db.(warehouse.Versioner); ok {
		if input.landing, err = versioner.LandingVersion(ctx); err != nil {
			return nil, err
		}
	}
	if input.sameAs(s.built, s.w.Schedule.Idle) {
		s.logger.Debug("nothing landed and no model was edited: the models stay as they are")
		return nil, nil
	}
	s.built = nil
	ctx, span := tracing.Begin(ctx, "models build")
	results, err := project.Run(ctx, db, "")
	traceNodes(ctx, results)
	tracing.End(span, errorType(errors.Join(err, results.Err())))
	if err != nil {
		return nil, err
	}
	failed = make(map[string]bool)
	for _, r := range results {
		if r = explained(s.w, r); !done(r) {
			failed[r.Name] = true
			s.logger.Error("a model was not built", "model", r.Name, "status", string(r.Status), "message", r.Message)
		}
	}
	if len(failed) == 0 {
		s.built = &input
	}
	return failed, nil
}

// buildInput is what the models of a workspace are made from.
type buildInput struct {
	landing string // see [warehouse.Versioner]; empty if it is not known
	models  string // see filesVersion
	at      time.Time
}

// sameAs tells whether a build from input would give what one from before gave, but
// for the time that has passed, which is less than idle.
func (input buildInput) sameAs(before *buildInput, idle time.Duration) bool {
	return before != nil && input.landing != "" && input.landing == before.landing && input.models == before.models &&
		input.at.Sub(before.at) < idle
}

// filesVersion changes when a file below a folder comes, goes or is written.
func filesVersion(dir string) (string, error) {
	version := sha256.New()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			fmt.Fprintf(version, "%s\x00%d %d\n", path, info.Size(), info.ModTime().UnixNano())
		}
		return err
	})
	if err != nil {
		return "", fmt.Errorf("look whether models were edited: %w", err)
	}
	return hex.EncodeToString(version.Sum(nil)), nil
}

// readyFor refuses a sync while anything that it reads is out of date: a
// stale consent table would hide withdrawals.
func readyFor(project *runner.Project, failed map[string]bool, sync syncer.Sync, reads ...string) error {
	nodes, err := project.List("+" + strings.Join(reads, " +"))
	if err != nil {
		return fmt.Errorf("sync %s: %w", sync.Name, err)
	}
	for _, n := range nodes {
		if failed[n.Name] {
			return fmt.Errorf("sync %s was not run: the model %s was not built, and nothing is sent from data that may be out of date", sync.Name, n.Name)
		}
	}
	return nil
}
