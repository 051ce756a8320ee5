package bigquery

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/googleapis/gax-go/v2"

	"github.com/sluis-cdp/sluis/collector"
)

const (
	// maxStagedBytes bounds what waits for load jobs: some ten million events.
	maxStagedBytes = 1 << 30
	// maxJobBytes bounds the files of a job, before which it does not wait any
	// longer. A job is in memory while it is sent, in one request.
	maxJobBytes = 15 << 20
	// maxAttempts is how often a job is tried before its rows go by a stream.
	maxAttempts = 5
)

// openStaging finds what waits, according to the state.
func (s *Sink) openStaging() error {
	if err := s.staging.open(func(spoolID string) uint64 { return s.spool(spoolID).Next }); err != nil {
		return fmt.Errorf("looking through %s: %w", s.staging.dir, err)
	}
	return nil
}

// startLoads loads what is staged, in the background, until Close.
func (s *Sink) startLoads(ctx context.Context) {
	ctx, s.stopLoads = context.WithCancel(context.WithoutCancel(ctx))
	s.loaded = make(chan struct{})
	go func() {
		defer close(s.loaded)
		for s.awaitLoad(ctx) {
			s.retryLoad(ctx)
		}
	}()
}

// awaitLoad waits until a load is due. It returns false when ctx is done.
func (s *Sink) awaitLoad(ctx context.Context) bool {
	for {
		var due <-chan time.Time
		if wait, some := s.nextLoad(); some {
			due = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return false
		case <-due:
			return ctx.Err() == nil
		case <-s.staging.changed:
		}
	}
}

// nextLoad tells how long to wait for the next load, and whether there is any:
// not for one that was begun, or is as large as it may be. Others wait for more
// events, the oldest no longer than LoadEvery, over restarts too: BigQuery
// allows 1,500 load jobs of a table a day.
func (s *Sink) nextLoad() (wait time.Duration, some bool) {
	if s.loadBegun() {
		return 0, true
	}
	size, since := s.staging.size()
	switch {
	case size == 0:
		return 0, false
	case size >= s.jobSize:
		return 0, true
	}
	return min(max(0, time.Until(since.Add(s.config.LoadEvery))), s.config.LoadEvery), true
}

func (s *Sink) loadBegun() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, spool := range s.state.Spools {
		if spool.Job != nil && spool.Halted == "" {
			return true
		}
	}
	return false
}

// retryLoad loads all that is staged, trying again for as long as it takes.
func (s *Sink) retryLoad(ctx context.Context) {
	pause := gax.Backoff{Initial: min(time.Second, s.config.LoadEvery), Max: s.config.LoadEvery, Multiplier: 2}
	for {
		err := s.loadStaged(ctx)
		s.staging.failed(err)
		if err == nil || ctx.Err() != nil {
			return
		}
		wait := pause.Pause()
		s.logger.Error("loading events failed; it is tried again", "retry_in", wait.String(), "error", err)
		if gax.Sleep(ctx, wait) != nil {
			return
		}
	}
}

// loadStaged loads what is staged now, spool by spool, in order.
func (s *Sink) loadStaged(ctx context.Context) error {
	var errs []error
	for _, spoolID := range s.spoolsToLoad() {
		more, err := true, error(nil)
		for more && err == nil {
			if more, err = s.load(ctx, spoolID); err != nil {
				errs = append(errs, fmt.Errorf("loading events: %w", err))
			}
		}
	}
	return errors.Join(errs...)
}

// spoolsToLoad are those with staged files, or with a job that was begun.
func (s *Sink) spoolsToLoad() []string {
	ids := s.staging.spools()
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, spool := range s.state.Spools {
		if id = strings.TrimSuffix(id, loadsEnd); spool.Job != nil && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// load takes the next step for a spool: it begins a job, runs the one that was
// begun, or lands through a stream what a job did not take. It returns false
// when nothing is left to do.
func (s *Sink) load(ctx context.Context, spoolID string) (more bool, err error) {
	loads := s.spool(loadsOf(spoolID))
	switch {
	case loads.Halted != "":
		return false, s.haltedError(loads.Halted)
	case loads.Job == nil:
		return s.beginJob(spoolID, loads.Next)
	case loads.Job.Refused == "":
		return true, s.runJob(ctx, spoolID, *loads.Job)
	default:
		return true, s.landReturned(ctx, spoolID, *loads.Job)
	}
}

// beginJob makes durable which files are going to be loaded, and as what.
func (s *Sink) beginJob(spoolID string, loaded uint64) (begun bool, err error) {
	if err := s.staging.drop(spoolID, loaded); err != nil {
		return false, fmt.Errorf("removing what is loaded: %w", err)
	}
	var files []stagedFile
	var size int64
	for _, f := range s.staging.waiting(spoolID, math.MaxUint64) {
		if size += f.size; size > s.jobSize && len(files) > 0 {
			break
		}
		files = append(files, f)
	}
	if files, err = s.sound(files); err != nil || len(files) == 0 {
		return false, err
	}
	lines, err := s.lines(files)
	if err != nil {
		return false, err
	}
	j := job{First: files[0].first, Last: files[len(files)-1].last, Rows: int64(bytes.Count(lines, []byte{'\n'})), Digest: digest(lines)}
	err = s.update(loadsOf(spoolID), func(loads *spoolState) { loads.Job = &j })
	return err == nil, err
}

// sound returns the files that can be read. Others are moved away: they do not
// block the rest.
func (s *Sink) sound(files []stagedFile) ([]stagedFile, error) {
	var sound []stagedFile
	for _, f := range files {
		err := s.staging.read(io.Discard, f)
		switch {
		case err == nil:
			sound = append(sound, f)
		case !damaged(err):
			return nil, fmt.Errorf("reading events that wait for a load job: %w", err)
		default:
			s.logger.Error("events that wait for a load job are damaged on disk; they are kept aside, and are in no table",
				"file", f.name(), "folder", s.refusedDir(), "error", err)
			if err := os.MkdirAll(s.refusedDir(), 0o700); err != nil {
				return nil, err
			}
			if err := s.staging.move(s.staging.path(f), filepath.Join(s.refusedDir(), f.name())); err != nil {
				return nil, err
			}
			s.staging.forget(f)
		}
	}
	return sound, nil
}

// lines returns what is in files.
func (s *Sink) lines(files []stagedFile) ([]byte, error) {
	var lines bytes.Buffer
	for _, f := range files {
		if err := s.staging.read(&lines, f); err != nil {
			return nil, fmt.Errorf("reading events that wait for a load job: %w", err)
		}
	}
	return lines.Bytes(), nil
}

func digest(lines []byte) string {
	sum := sha256.Sum256(lines)
	return fmt.Sprintf("%x", sum[:8])
}

// runJob runs the job that was begun to its end, and records what came of it.
func (s *Sink) runJob(ctx context.Context, spoolID string, j job) error {
	done, err := s.ended(ctx, j.id(spoolID), func() ([]byte, error) { return s.content(spoolID, j) })
	if err != nil {
		return err // what became of it is found out under the same id
	}
	failed := done.failed
	switch {
	case failed == nil && done.rows != j.Rows:
		return s.halt(loadsOf(spoolID), fmt.Sprintf("job %s loaded %d rows of %d", j.id(spoolID), done.rows, j.Rows))
	case failed == nil:
		s.logger.Info("events are loaded", "job", j.id(spoolID), "rows", j.Rows)
		return s.update(loadsOf(spoolID), func(loads *spoolState) { loads.Next, loads.Job = j.Last, nil })
	case failed.Reason == "invalid", j.Attempt+1 >= maxAttempts:
		s.logger.Warn("a load job failed; its events go by a stream, which tells more", "job", j.id(spoolID), "error", failed.Message)
		return s.update(loadsOf(spoolID), func(loads *spoolState) { loads.Job.Refused = failed.Reason + ": " + clip(failed.Message) })
	}
	err = fmt.Errorf("job %s failed: %s (%s)%s", j.id(spoolID), failed.Message, failed.Reason, remedy(failed.Reason))
	return errors.Join(err, s.update(loadsOf(spoolID), func(loads *spoolState) { loads.Job.Attempt++ }))
}

// content is what a job is to load, compressed.
func (s *Sink) content(spoolID string, j job) ([]byte, error) {
	lines, err := s.lines(s.staging.waiting(spoolID, j.Last))
	if err != nil {
		return nil, err
	}
	if digest(lines) != j.Digest {
		return nil, fmt.Errorf("files in %s are not those that a load of records %d to %d was begun with: put them back; or stop the collector and move %s "+
			"away, whereupon what is there, and what the spool still holds, lands again, and the models drop events that are there twice",
			s.staging.dir, j.First, j.Last-1, s.config.StateFile)
	}
	return compress(lines)
}

// landReturned lands the events of a job that failed as batches of their own:
// the stream names the rows that BigQuery does not take, and those go the way
// of all refused rows.
func (s *Sink) landReturned(ctx context.Context, spoolID string, j job) error {
	for _, f := range s.staging.waiting(spoolID, j.Last) {
		if f.last <= s.spool(loadsOf(spoolID)).Next {
			continue // left over
		}
		b := collector.Batch{SpoolID: loadsOf(spoolID), First: f.first, Last: f.last}
		var lines bytes.Buffer
		err := s.staging.read(&lines, f)
		if err == nil {
			err = s.table(events).readLines(&lines, reflect.ValueOf(&b.Events).Elem())
		}
		if err != nil {
			return fmt.Errorf("reading events that a load job did not take: %w", err)
		}
		if err := s.returned.land(ctx, b); err != nil {
			return err
		}
	}
	return s.update(loadsOf(spoolID), func(loads *spoolState) { loads.Next, loads.Job = j.Last, nil })
}
