package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/collector/spool"
)

// Settle lands everything that waits in the workspace's spools, of the collector
// and of replays, takes it out of their files, and keeps everybody else out of
// them until release is called. It is for the embedded warehouse, and fails if a
// collector runs.
func Settle(ctx context.Context, w *workspace.Workspace, logger *slog.Logger) (release func() error, err error) {
	var held []func() error
	release = func() (err error) {
		for _, r := range held {
			err = errors.Join(err, r())
		}
		return err
	}
	for _, of := range []struct{ dir, aside string }{
		{w.SpoolDir(), ""},
		{filepath.Join(w.ReplayDir(), "spool"), "_tmp-replay"},
	} {
		one, err := settle(ctx, w, of.dir, collector.ParquetSink{Dir: w.Landing(), Aside: of.aside}, logger)
		if err != nil {
			return nil, errors.Join(err, release())
		}
		held = append(held, one)
	}
	return release, nil
}

func settle(ctx context.Context, w *workspace.Workspace, dir string, sink collector.ParquetSink, logger *slog.Logger) (release func() error, err error) {
	s, err := spool.Open(spool.Options{Dir: dir, MaxBytes: w.Spool.MaxBytes, Logger: logger})
	if errors.Is(err, spool.ErrLocked) {
		return nil, fmt.Errorf("%w: stop the collector of this workspace first", err)
	}
	if err != nil {
		return nil, err
	}
	hold := s.Reader(s.Stats().Next) // while it is open, nobody else gets the spool
	fail := func(err error) (func() error, error) { return nil, errors.Join(err, s.Close(), hold.Close()) }
	window, err := collector.OpenWindow(ctx, w.MessageIDs(), w.Spool.RememberIDs, s)
	if err != nil {
		return fail(err)
	}
	loader := &collector.Loader{Spool: s, Sink: apart{sink}, Logger: logger}
	if dir == w.SpoolDir() {
		loader.Window = window
	}
	// A spool that is closed begins a last, empty segment; so the loader trims all.
	if err := errors.Join(s.Close(), loader.Run(ctx)); err != nil {
		return fail(fmt.Errorf("settling the spool: %w", err))
	}
	return hold.Close, nil
}
