// Package edge runs the collector of a workspace: spool, HTTP server and
// loader. It serves sluis-collector and `sluis up` alike, and imports nothing
// that needs cgo.
package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/collector/bigquery"
	"github.com/sluis-cdp/sluis/collector/spool"
	"github.com/sluis-cdp/sluis/collector/visitor"
	"github.com/sluis-cdp/sluis/consent/seal"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// drainTime is how long the end of the program waits for requests in flight
// and for the spool to land. What has not landed by then is landed at the next
// start.
const drainTime = 20 * time.Second

// Edge is a running collector.
type Edge struct {
	listener net.Listener
	server   *http.Server
	spool    *spool.Spool
	stopLoad context.CancelFunc
	failed   chan error // the server or the loader ended by itself
	loaded   chan struct{}
	logger   *slog.Logger
}

// Start opens the spool and accepts events from when it returns.
func Start(ctx context.Context, w *workspace.Workspace, listen string, logger *slog.Logger) (*Edge, error) {
	if err := os.MkdirAll(w.Path(w.Data), 0o700); err != nil {
		return nil, fmt.Errorf("making the data folder: %w", err)
	}
	queue, err := spool.Open(spool.Options{Dir: w.SpoolDir(), MaxBytes: w.Spool.MaxBytes, Logger: logger})
	if err != nil {
		if errors.Is(err, spool.ErrLocked) {
			err = fmt.Errorf("%w: a collector is running on this workspace already", err)
		}
		return nil, err
	}
	e := &Edge{spool: queue, failed: make(chan error, 2), loaded: make(chan struct{}), logger: logger}
	visitors, err := w.Visitors()
	if err != nil {
		return nil, errors.Join(err, queue.Close())
	}
	handler, err := newHandler(ctx, w, visitors, queue, logger)
	if err != nil {
		return nil, errors.Join(err, queue.Close())
	}
	if e.listener, err = new(net.ListenConfig).Listen(ctx, "tcp", listen); err != nil {
		return nil, errors.Join(fmt.Errorf("listening for events: %w; choose another address with --listen", err), queue.Close())
	}
	e.listener = w.Limits.Server().Listener(e.listener, visitors.Proxies.Trusted)
	e.server = &http.Server{
		Handler: handler, ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}
	w.Limits.Server().Apply(e.server)
	if err := e.load(ctx, w); err != nil {
		return nil, errors.Join(err, e.listener.Close(), queue.Close())
	}
	go func() {
		if err := e.server.Serve(e.listener); !errors.Is(err, http.ErrServerClosed) {
			e.failed <- fmt.Errorf("serving events: %w", err)
		}
	}()
	return e, nil
}

func newHandler(ctx context.Context, w *workspace.Workspace, visitors *visitor.Observer, queue *spool.Spool, logger *slog.Logger) (http.Handler, error) {
	keys := seal.Dir(w.Path(w.Keys))
	pseudonymizer, err := seal.NewPseudonymizer(ctx, keys, w.Workspace, w.PhoneRegion)
	if err != nil {
		return nil, err
	}
	sealer, err := seal.NewSealer(ctx, keys, w.Workspace, w.SealPurposes())
	if err != nil {
		return nil, err
	}
	cookieKey, err := keys.Key(ctx, seal.KeyCookie)
	if err != nil {
		return nil, fmt.Errorf("loading the cookie key: %w", err)
	}
	c, err := collector.New(collector.Config{
		Sources: w.CollectorSources(), Policy: w.Policy,
		Pseudonymizer: pseudonymizer, Sealer: sealer, SealFor: w.Consent.SealFor, CookieKey: cookieKey,
		PhoneRegion: w.PhoneRegion, Visitors: visitors,
		Spool: queue, Logger: logger,
	})
	if err != nil {
		return nil, err
	}
	return c.Handler(), nil
}

// load runs the loader until the spool is closed and has landed.
func (e *Edge) load(ctx context.Context, w *workspace.Workspace) error {
	sink, closeSink, err := newSink(ctx, w, e.logger)
	if err != nil {
		return err
	}
	ctx, e.stopLoad = context.WithCancel(context.WithoutCancel(ctx))
	loader := &collector.Loader{Spool: e.spool, Sink: sink, Logger: e.logger}
	go func() {
		defer close(e.loaded)
		err := errors.Join(loader.Run(ctx), closeSink())
		if err != nil && ctx.Err() == nil {
			e.failed <- fmt.Errorf("landing events: %w", err)
		}
	}()
	return nil
}

// newSink is where the workspace's events land.
func newSink(ctx context.Context, w *workspace.Workspace, logger *slog.Logger) (sink collector.Sink, end func() error, err error) {
	b := w.Warehouse.BigQuery
	if b == nil {
		return collector.ParquetSink{Dir: w.Landing()}, func() error { return nil }, nil
	}
	who := b.CollectorIdentity()
	s, err := bigquery.Open(context.WithoutCancel(ctx), bigquery.Config{
		Project: b.Project, Dataset: warehouse.SchemaLanding, Location: b.Location, StateFile: w.LoaderState(),
		LoadSources: w.LoadSources(), LoadEvery: b.LoadEvery, Labels: b.JobLabels(),
		CredentialsFile: who.CredentialsFile, Impersonate: who.Impersonate,
		Endpoint: b.Endpoint, StorageEndpoint: b.StorageEndpoint, Logger: logger,
	})
	if err != nil {
		return nil, nil, err
	}
	return s, s.Close, nil
}

// URL is where the collector listens.
func (e *Edge) URL() string { return "http://" + e.listener.Addr().String() }

// Failed tells of an end that nobody asked for.
func (e *Edge) Failed() <-chan error { return e.failed }

// Drain stops accepting, answers what is in flight, lands what is in the spool
// and closes it. What cannot be landed in time stays in the spool.
func (e *Edge) Drain() error {
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	err := e.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("answering requests in flight: %w", err), e.server.Close())
	}
	err = errors.Join(err, e.spool.Close())
	select {
	case <-e.loaded:
	case <-ctx.Done():
		e.logger.Warn("not all events could be landed before the deadline; they are landed at the next start")
		e.stopLoad()
		<-e.loaded
	}
	e.stopLoad()
	return err
}

// Run is the whole life of a collector that runs alone: until ctx is done.
func Run(ctx context.Context, w *workspace.Workspace, listen string, logger *slog.Logger) error {
	e, err := Start(ctx, w, listen, logger)
	if err != nil {
		return err
	}
	logger.Info("the collector accepts events", "url", e.URL())
	select {
	case <-ctx.Done():
		logger.Info("draining")
		return e.Drain()
	case err := <-e.Failed():
		return errors.Join(err, e.Drain())
	}
}
