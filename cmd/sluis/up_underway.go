package main

import (
	"context"
	"errors"
	"time"

	syncer "github.com/sluis-cdp/sluis/sync"
)

// Syncs run one after the other as long as each is soon done. One that takes longer,
// such as a first run to a service with a low limit, goes on by itself: the others are
// not kept waiting, and models go on being built, which tell it who has withdrawn
// meanwhile. Who withdraws after it has sent them is removed by cutting it short,
// since only one run of a sync goes on at a time: the next one removes them first, and
// sends what this one did not.

const (
	defaultPatience = 10 * time.Second // how long the others wait for a sync
	defaultAtLeast  = 20 * time.Second // how long it goes on before it is cut short
)

// underway is a sync that runs.
type underway struct {
	sync  syncer.Sync
	since time.Time
	stop  context.CancelFunc
	cut   bool
	// looked is the build of the models in which nobody had withdrawn whom it has sent.
	looked *buildInput

	ended chan struct{}
	run   syncer.Run // when it has ended
	err   error
}

func begin(ctx context.Context, sync syncer.Sync, run func(context.Context) (syncer.Run, error)) *underway {
	ctx, stop := context.WithCancel(ctx)
	u := &underway{sync: sync, since: time.Now(), stop: stop, ended: make(chan struct{})}
	go func() {
		defer close(u.ended)
		defer stop()
		u.run, u.err = run(ctx)
	}()
	return u
}

// within waits for it to end, and reports whether it did. A negative time is forever.
func (u *underway) within(d time.Duration) bool {
	if d < 0 {
		<-u.ended
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-u.ended:
		return true
	case <-timer.C:
		return false
	}
}

// outcome is what came of it. That it was cut short is no error; another one, if there
// was any, comes again in the next run.
func (u *underway) outcome() (syncer.Run, error) {
	if u.cut {
		return u.run, nil
	}
	return u.run, u.err
}

// ended are those that are under way no more.
func (s *scheduler) ended() (ended []*underway) {
	for _, u := range s.underway {
		select {
		case <-u.ended:
			ended = append(ended, u)
		default:
		}
	}
	return ended
}

// yield cuts u short if somebody withdrew whom it, or a run before it, has sent, and
// reports whether it has ended.
func (s *scheduler) yield(ctx context.Context, u *underway) (bool, error) {
	// One that sends all rows each time would never be done.
	if u.cut || u.sync.Mode == syncer.ModeFull || time.Since(u.since) < s.atLeast {
		return false, nil
	}
	if s.built != nil && s.built == u.looked {
		return false, nil
	}
	n, err := s.syncer.Withdrawn(ctx, u.sync)
	if err != nil {
		return false, err
	}
	if n == 0 {
		u.looked = s.built
		return false, nil
	}
	s.logger.Info("a run is cut short, since people withdrew whom it has sent", "sync", u.sync.Name, "rows", n)
	u.cut = true
	u.stop() // the batch in flight is finished first
	return u.within(s.patience), nil
}

// finish waits for what is under way when the program ends.
func (s *scheduler) finish() {
	for _, u := range s.underway {
		<-u.ended
		if _, err := u.outcome(); err != nil && !errors.Is(err, context.Canceled) {
			s.logger.Error("a scheduled run failed", "sync", u.sync.Name, "error", err)
		}
	}
}
