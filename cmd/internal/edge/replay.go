package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/collector/spool"
	"github.com/sluis-cdp/sluis/consent/seal"
)

// Replayer is a collector that hears nobody. It has a spool of its own, by which
// what it writes lands exactly once, also while the workspace's collector runs;
// while it is open there is no other.
type Replayer struct {
	*collector.Collector
	w      *workspace.Workspace
	logger *slog.Logger
	spool  *spool.Spool

	suppressed *collector.SuppressionList
}

// OpenReplayer opens the spool, and first lands what an earlier one has left there:
// when it returns, the warehouse knows of everything that was replayed.
func OpenReplayer(ctx context.Context, w *workspace.Workspace, logger *slog.Logger) (*Replayer, error) {
	r := &Replayer{w: w, logger: logger}
	if err := w.Usable(); err != nil {
		return nil, err
	}
	var err error
	if r.suppressed, err = OpenSuppressed(ctx, w); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(w.ReplayDir(), 0o700); err != nil {
		return nil, fmt.Errorf("making the folder of the replay: %w", err)
	}
	if err := r.openSpool(); err != nil {
		return nil, err
	}
	if err := r.Land(ctx); err != nil {
		return nil, err
	}
	if err := r.openSpool(); err != nil {
		return nil, err
	}
	if r.Collector, err = r.newCollector(ctx, r.spool); err != nil {
		return nil, errors.Join(err, r.spool.Close())
	}
	return r, nil
}

func (r *Replayer) openSpool() (err error) {
	r.spool, err = spool.Open(spool.Options{Dir: filepath.Join(r.w.ReplayDir(), "spool"), MaxBytes: r.w.Spool.MaxBytes, Logger: r.logger})
	if errors.Is(err, spool.ErrLocked) {
		err = fmt.Errorf("%w: another replay is running on this workspace; wait for its end", err)
	}
	return err
}

func (r *Replayer) newCollector(ctx context.Context, into collector.Spool) (*collector.Collector, error) {
	keys, w := r.w.Keyring(), r.w
	pseudonymizer, _, err := NewPseudonymizer(ctx, w, keys)
	if err != nil {
		return nil, err
	}
	sealer, err := seal.NewSealer(ctx, keys, w.Workspace, w.SealPurposes())
	if err != nil {
		return nil, err
	}
	cookieKeys, err := seal.Every(ctx, keys, seal.KeyCookie)
	if err != nil {
		return nil, fmt.Errorf("loading the cookie key: %w", err)
	}
	visitors, err := w.Visitors()
	if err != nil {
		return nil, err
	}
	return collector.New(collector.Config{
		Sources: w.CollectorSources(), Policy: w.Policy, SealFor: w.Consent.SealFor, PhoneRegion: w.PhoneRegion, Visitors: visitors,
		Pseudonymizer: pseudonymizer, Sealer: sealer, CookieKey: cookieKeys[0], OldCookieKeys: cookieKeys[1:], Spool: into, Suppressed: r.suppressed, Logger: r.logger,
	})
}

// Land closes the spool and lands all that is in it. If it fails, the rest lands
// when the next Replayer is opened.
func (r *Replayer) Land(ctx context.Context) error {
	sink, end, err := newSink(ctx, r.w, place{state: filepath.Join(r.w.ReplayDir(), "bigquery.state"), aside: "_tmp-replay"}, r.logger)
	if err != nil {
		return errors.Join(err, r.spool.Close())
	}
	loader := &collector.Loader{Spool: r.spool, Sink: apart{sink}, Logger: r.logger}
	if place, ok := sink.(collector.Entrance); ok {
		loader.Sink, loader.Suppressed = entered{apart{sink}, place}, r.suppressed
	}
	hold := r.spool.Reader(r.spool.Stats().Next) // while it is open, nobody else gets the spool
	defer hold.Close()                           //nolint:errcheck // it was not read from
	if err := r.spool.Close(); err != nil {
		return errors.Join(err, end())
	}
	return errors.Join(loader.Run(ctx), end())
}

// apart is a sink that merges nothing: in one place one process does, the one
// that lands there all the time.
type apart struct{ collector.Sink }

// entered is such a sink with an entrance.
type entered struct {
	apart
	collector.Entrance
}
