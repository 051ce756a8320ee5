package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/collector/spool"
	"github.com/sluis-cdp/sluis/consent/seal"
)

// Straight is the workspace's collector without a socket, a spool and a clock of
// its own: what its handler is given lands at once, and as if it came at the time
// that it is told. While it is open, no other collector runs on the workspace.
type Straight struct {
	http.Handler
	rows     *collector.Straight
	recorder *collector.Recorder
	lock     *spool.Spool
}

// straightIDs is how many message ids are remembered: as few as a busy collector
// remembers minutes, so that some of what is sent again lands twice, as it does.
const straightIDs = 20_000

// ErrLandedBefore is returned for an id under which something has landed.
var ErrLandedBefore = errors.New("rows of the same name have landed in this workspace already")

// OpenStraight opens it. id is what its rows have for the spool they came from.
func OpenStraight(ctx context.Context, w *workspace.Workspace, id string, now func() time.Time, logger *slog.Logger) (_ *Straight, err error) {
	if w.Warehouse.BigQuery != nil {
		return nil, errors.New("the workspace's warehouse is BigQuery, where nothing lands without a running collector: start one with `sluis up`, and name its address")
	}
	e := &Edge{logger: logger}
	if err := e.openSpool(w); err != nil {
		return nil, err
	}
	s := &Straight{lock: e.spool}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.lock.Close())
		}
	}()
	suppressed, err := OpenSuppressed(ctx, w)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(w.Landing(), 0o755); err != nil {
		return nil, fmt.Errorf("making the landing folder: %w", err)
	}
	sink := collector.ParquetSink{Dir: w.Landing(), Aside: "_tmp-straight"}
	if s.rows, err = collector.NewStraight(ctx, id, sink, suppressed); err != nil {
		return nil, err
	}
	if s.rows.Begun() {
		return nil, ErrLandedBefore
	}
	c, err := s.collector(ctx, w, suppressed, now, logger)
	if err != nil {
		return nil, err
	}
	s.Handler = c.Handler()
	return s, nil
}

func (s *Straight) collector(ctx context.Context, w *workspace.Workspace, suppressed *collector.SuppressionList, now func() time.Time, logger *slog.Logger) (*collector.Collector, error) {
	r := Replayer{w: w, logger: logger, suppressed: suppressed}
	made, err := r.newCollector(ctx, s.rows)
	if err != nil {
		return nil, err
	}
	config := made.Config
	config.Window, config.Now, config.SealAgain = collector.NewWindow(straightIDs), now, w.SealAgain()
	seeds, err := seal.Every(ctx, w.Keyring(), seal.KeyRecord)
	if err != nil {
		return nil, fmt.Errorf("loading the key of the record of consent: %w", err)
	}
	if s.recorder, err = recorderInto(s.rows, seeds[0], w, logger); err != nil {
		return nil, err
	}
	s.recorder.SaveLate()
	config.Recorder = s.recorder
	return collector.New(config)
}

// Close lands the rest.
func (s *Straight) Close(ctx context.Context) error {
	return errors.Join(s.rows.Land(ctx), s.recorder.Save(), s.lock.Close())
}
