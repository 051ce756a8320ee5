package main

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/sluis-cdp/sluis/cmd/internal/alert"
	"github.com/sluis-cdp/sluis/collector/metrics"
	syncer "github.com/sluis-cdp/sluis/sync"
)

// expect begins a turn: nothing was seen of any sync yet but when it last ran.
func (s *scheduler) expect(syncs []syncer.Sync, last map[string]time.Time) {
	before := s.seen
	s.seen = make(map[string]*alert.Seen, len(syncs))
	for _, sync := range syncs {
		s.seen[sync.Name] = &alert.Seen{Sync: sync.Name, Manual: sync.Schedule.Manual, Done: last[sync.Name]}
		if known, ok := before[sync.Name]; ok {
			s.seen[sync.Name].Standing = known.Standing
		}
		s.metrics.Succeeded(sync.Name, last[sync.Name])
	}
}

// saw notes what came of a sync in this turn.
func (s *scheduler) saw(name string, run syncer.Run, err error) {
	seen := s.seen[name]
	if seen == nil { // it went on after it was taken out of the configuration
		return
	}
	seen.Run, seen.Err = run, err
	if run.ID == "" && err == nil {
		return
	}
	held, guarded := errors.AsType[*syncer.HeldError](err)
	r := metrics.SyncRun{Sync: name, Status: string(run.Status), Rows: map[string]int64{
		"added": run.Added, "updated": run.Updated, "refreshed": run.Refreshed, "removed": run.Removed, "failed": run.Failed, "skipped": run.Skipped,
	}}
	switch {
	case err != nil && !guarded:
		r.Status = "failed"
	case syncer.Scheduled(run):
		seen.Done, r.Done = run.Started, run.Started
	}
	if run.Status != syncer.RunIdle {
		r.Took = time.Duration(run.Seconds * float64(time.Second))
	}
	if guarded {
		r.Guarded = held.Removals
	}
	s.metrics.Ran(r)
}

// observe ends a turn: metrics and alerts are brought up to date.
func (s *scheduler) observe(ctx context.Context) {
	// Only a run that did something changed how the rows stand.
	changed := func(seen *alert.Seen) bool { return seen.Run.ID != "" && seen.Run.Status != syncer.RunIdle }
	if !s.observed || slices.ContainsFunc(slices.Collect(maps.Values(s.seen)), changed) {
		standings, err := s.syncer.Standings(ctx)
		if err != nil {
			s.logger.Error("it is not known how the rows of syncs stand", "error", err)
		}
		for name, seen := range s.seen {
			seen.Standing = standings[name]
			s.metrics.Stands(name, map[string]int64{"present": seen.Standing.Present, "rejected": seen.Standing.Rejected, "failed": seen.Standing.Failed})
		}
		s.observed = err == nil
	}
	seen := make([]alert.Seen, 0, len(s.seen))
	for _, name := range slices.Sorted(maps.Keys(s.seen)) {
		seen = append(seen, *s.seen[name])
	}
	s.alerts.Look(ctx, seen)
	for _, known := range s.seen {
		known.Run, known.Err = syncer.Run{}, nil
	}
}
