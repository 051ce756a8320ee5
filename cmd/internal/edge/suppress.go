package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/collector/spool"
	"github.com/sluis-cdp/sluis/consent/seal"
)

// OpenSuppressed reads who was erased from a workspace.
func OpenSuppressed(ctx context.Context, w *workspace.Workspace) (*collector.SuppressionList, error) {
	ctx = context.WithoutCancel(ctx)
	return collector.OpenSuppressionList(w.Suppressed(), func() (*seal.Suppressor, error) {
		return seal.NewSuppressor(ctx, w.Keyring(), w.Workspace)
	})
}

// lookEvery is how soon a running collector knows of an erasure.
const lookEvery = time.Second

// watchSuppressed reads the list whenever it has changed, until ctx is done.
func (e *Edge) watchSuppressed(ctx context.Context) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for said := ""; ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		said = e.lookAtSuppressed(ctx, said)
	}
}

// lookAtSuppressed returns the error that it logged, or that it was said already.
func (e *Edge) lookAtSuppressed(ctx context.Context, said string) string {
	changed, err := e.suppressed.Reread()
	if err == nil && changed {
		e.logger.Info("the suppression list was read anew", "tombstones", e.suppressed.Len())
		err = e.loader.Shed(ctx)
	}
	if err == nil || ctx.Err() != nil {
		return ""
	}
	if err.Error() != said {
		e.logger.Error("the suppression list could not be followed; who was erased before stays out", "error", err)
	}
	return err.Error()
}

// LandNow lands all that waits in the spool of a workspace whose collector does
// not run, so that nothing of it stays there. It fails with [spool.ErrLocked] if
// one runs.
func LandNow(ctx context.Context, w *workspace.Workspace, logger *slog.Logger) (err error) {
	e := &Edge{logger: logger}
	if e.spool, err = spool.Open(spool.Options{Dir: w.SpoolDir(), MaxBytes: w.Spool.MaxBytes, Logger: logger}); err != nil {
		return err
	}
	if e.window, err = collector.OpenWindow(ctx, w.MessageIDs(), w.Spool.RememberIDs, e.spool); err != nil {
		return errors.Join(err, e.spool.Close())
	}
	if e.suppressed, err = OpenSuppressed(ctx, w); err != nil {
		return errors.Join(err, e.spool.Close())
	}
	sink, end, err := newSink(ctx, w, place{state: w.LoaderState()}, logger)
	if err != nil {
		return errors.Join(err, e.spool.Close())
	}
	hold := e.spool.Reader(e.spool.Stats().Next) // while it is open, nobody else gets the spool
	defer hold.Close()                           //nolint:errcheck // it was not read from
	if err := e.spool.Close(); err != nil {
		return errors.Join(err, end())
	}
	loader := &collector.Loader{Spool: e.spool, Sink: sink, Window: e.window, Suppressed: e.suppressed, Logger: logger}
	return errors.Join(loader.Run(ctx), end())
}

// errHears is what a collector of [NewReader] answers to who wants to write.
var errHears = errors.New("this collector only reads")

type noSpool struct{}

func (noSpool) Append(context.Context, []byte) (uint64, error) { return 0, errHears }

// NewReader is a collector that writes nothing: it opens events of the
// quarantine, and says whose they are.
func NewReader(ctx context.Context, w *workspace.Workspace, logger *slog.Logger) (*collector.Collector, error) {
	r := &Replayer{w: w, logger: logger}
	c, err := r.newCollector(ctx, noSpool{})
	if err != nil {
		return nil, fmt.Errorf("reading the quarantine: %w", err)
	}
	return c, nil
}
