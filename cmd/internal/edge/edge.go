// Package edge runs the collector of a workspace: spool, HTTP server, loader, and
// what those who run it need: health, metrics, live tail, reload and drain. It
// serves sluis-collector and `sluis up` alike, and imports nothing that needs
// cgo.
package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/collector/bigquery"
	"github.com/sluis-cdp/sluis/collector/metrics"
	"github.com/sluis-cdp/sluis/collector/spool"
	"github.com/sluis-cdp/sluis/collector/visitor"
	"github.com/sluis-cdp/sluis/consent/record"
	"github.com/sluis-cdp/sluis/consent/seal"
	"github.com/sluis-cdp/sluis/consent/seal/remote"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// Options are what the workspace does not say.
type Options struct {
	Logger *slog.Logger
	// Reread opens the workspace again, for [Edge.Reload].
	Reread func() (*workspace.Workspace, error)
	// Syncs are metrics of syncs, to be served beside the collector's; or nil.
	Syncs *metrics.Syncs
}

// Edge is a running collector.
type Edge struct {
	options Options
	logger  *slog.Logger
	after   func(time.Duration) <-chan time.Time // tests say when

	spool      *spool.Spool
	window     *collector.Window
	suppressed *collector.SuppressionList
	recorder   *collector.Recorder
	loader     *collector.Loader
	metrics    *metrics.Metrics
	health     *health
	tail       *tail
	operations operations

	listener  net.Listener
	server    *http.Server
	encrypted bool // the server speaks TLS
	stopLoad  context.CancelFunc
	failed    chan error // the server or the loader ended by itself
	loaded    chan struct{}

	// What the configuration says. It is changed under reloading, and what is
	// read on the way of a request, by swapping a pointer.
	reloading     sync.Mutex
	collector     *collector.Collector
	sealer        *seal.Sealer
	pseudonymizer atomic.Pointer[seal.Pseudonymizer]
	service       atomic.Pointer[remote.Client] // nil in local mode
	visitors      atomic.Pointer[visitor.Observer]
	workspace     atomic.Pointer[workspace.Workspace]
	handler       atomic.Pointer[http.Handler]
	certificate   atomic.Pointer[tls.Certificate]
}

// Start opens the spool and accepts events from when it returns.
func Start(ctx context.Context, w *workspace.Workspace, options Options) (_ *Edge, err error) {
	e := &Edge{
		options: options, logger: options.Logger, after: time.After,
		failed: make(chan error, 2), loaded: make(chan struct{}),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.abandon())
		}
	}()
	if err := e.openSpool(w); err != nil {
		return nil, err
	}
	if e.window, err = collector.OpenWindow(ctx, w.MessageIDs(), w.Spool.RememberIDs, e.spool); err != nil {
		return nil, err
	}
	if e.suppressed, err = OpenSuppressed(ctx, w); err != nil {
		return nil, err
	}
	sink, closeSink, err := newSink(ctx, w, place{state: w.LoaderState()}, e.logger)
	if err != nil {
		return nil, err
	}
	e.loader = &collector.Loader{Spool: e.spool, Sink: sink, Window: e.window, Suppressed: e.suppressed, Logger: e.logger}
	e.instrument(w)
	if e.recorder, err = e.openRecorder(ctx, w); err != nil {
		return nil, errors.Join(err, closeSink())
	}
	if err := e.listen(ctx, w); err != nil {
		return nil, errors.Join(err, closeSink())
	}
	e.load(ctx, closeSink)
	go e.serve()
	return e, nil
}

func (e *Edge) openSpool(w *workspace.Workspace) (err error) {
	if err := os.MkdirAll(w.Path(w.Data), 0o700); err != nil {
		return fmt.Errorf("making the data folder: %w", err)
	}
	if err := w.Usable(); err != nil {
		return err
	}
	e.spool, err = spool.Open(spool.Options{Dir: w.SpoolDir(), MaxBytes: w.Spool.MaxBytes, Logger: e.logger})
	if errors.Is(err, spool.ErrLocked) {
		err = fmt.Errorf("%w: a collector is running on this workspace already", err)
	}
	return err
}

// openRecorder begins the chain of this start.
func (e *Edge) openRecorder(ctx context.Context, w *workspace.Workspace) (*collector.Recorder, error) {
	seeds, err := seal.Every(ctx, w.Keyring(), seal.KeyRecord)
	if err != nil {
		return nil, fmt.Errorf("loading the key of the record of consent: %w", err)
	}
	return recorderInto(e.metrics.Spool(e.spool), seeds[0], w, e.logger)
}

func recorderInto(s collector.Spool, seed []byte, w *workspace.Workspace, logger *slog.Logger) (*collector.Recorder, error) {
	key, err := record.NewKey(seed)
	if err != nil {
		return nil, err
	}
	return collector.OpenRecorder(key, w.Workspace, w.ConsentHead(), s, logger)
}

// instrument makes what looks at the rest.
func (e *Edge) instrument(w *workspace.Workspace) {
	e.tail = newTail()
	e.health = &health{
		spool: e.spool, loader: e.loader, disk: w.SpoolDir(),
		limits: func() workspace.Operations { return e.workspace.Load().Operations }, service: e.service.Load,
	}
	e.metrics = metrics.New(metrics.Sources{
		Spool: e.spool.Stats, Landing: e.loader.Progress, Ready: e.health.passed, Missed: e.tail.missed.Load, Syncs: e.options.Syncs,
		Pseudonyms: func() seal.CacheStats { return e.pseudonymizer.Load().Cache() },
	})
}

// listen makes all that accepts connections.
func (e *Edge) listen(ctx context.Context, w *workspace.Workspace) (err error) {
	if err := e.configure(ctx, w); err != nil {
		return err
	}
	if e.listener, err = new(net.ListenConfig).Listen(ctx, "tcp", w.Listen); err != nil {
		return fmt.Errorf("listening for events: %w; choose another address with --listen", err)
	}
	e.listener = w.Limits.Server().Listener(e.listener, func(peer net.Addr) bool { return e.visitors.Load().Proxies.Trusted(peer) })
	e.server = e.newServer()
	return e.startOperations(ctx, w)
}

// abandon undoes what a failed start has made.
func (e *Edge) abandon() (err error) {
	err = e.operations.close()
	if e.listener != nil {
		err = errors.Join(err, e.listener.Close())
	}
	if e.spool != nil {
		err = errors.Join(err, e.spool.Close())
	}
	return err
}

func (e *Edge) serve() {
	serve := e.server.Serve
	if e.encrypted {
		serve = func(l net.Listener) error { return e.server.ServeTLS(l, "", "") }
	}
	if err := serve(e.listener); !errors.Is(err, http.ErrServerClosed) {
		e.failed <- fmt.Errorf("serving events: %w", err)
	}
}

// load runs the loader until the spool is closed and has landed.
func (e *Edge) load(ctx context.Context, closeSink func() error) {
	ctx, e.stopLoad = context.WithCancel(context.WithoutCancel(ctx))
	go e.watchSuppressed(ctx)
	go func() {
		defer close(e.loaded)
		err := errors.Join(e.loader.Run(ctx), closeSink())
		if err != nil && ctx.Err() == nil {
			e.failed <- fmt.Errorf("landing events: %w", err)
		}
	}()
}

// place is what two that land in one warehouse may not share.
type place struct {
	state string // the file of what a loader into BigQuery remembers
	aside string // see collector.ParquetSink
}

// newSink is where the workspace's events land.
func newSink(ctx context.Context, w *workspace.Workspace, p place, logger *slog.Logger) (sink collector.Sink, end func() error, err error) {
	b := w.Warehouse.BigQuery
	if b == nil {
		return collector.ParquetSink{Dir: w.Landing(), Aside: p.aside}, func() error { return nil }, nil
	}
	who := b.CollectorIdentity()
	s, err := bigquery.Open(context.WithoutCancel(ctx), bigquery.Config{
		Project: b.Project, Dataset: warehouse.SchemaLanding, Location: b.Location, StateFile: p.state,
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
func (e *Edge) URL() string {
	if e.encrypted {
		return "https://" + e.listener.Addr().String()
	}
	return "http://" + e.listener.Addr().String()
}

// OperationsURL is where metrics and health are; empty if nowhere.
func (e *Edge) OperationsURL() string {
	if e.operations.address == nil {
		return ""
	}
	return "http://" + e.operations.address.Addr().String()
}

// Failed tells of an end that nobody asked for.
func (e *Edge) Failed() <-chan error { return e.failed }

// Drain says that the end is near, so that load balancers go elsewhere, then
// stops accepting, answers what is in flight, lands what is in the spool and
// closes it. What cannot be landed in time stays in the spool.
func (e *Edge) Drain() error {
	notify(stopping)
	e.health.draining.Store(true)
	settings := e.workspace.Load().Operations
	<-e.after(settings.DrainDelay)

	ctx, cancel := context.WithTimeout(context.Background(), settings.Drain)
	defer cancel()
	if e.server.Shutdown(ctx) != nil {
		e.logger.Warn("not all requests could be answered before the deadline; their clients try again elsewhere")
		_ = e.server.Close() // of connections that are given up
	}
	err := e.spool.Close()
	select {
	case <-e.loaded:
	case <-ctx.Done():
		e.logger.Warn("not all events could be landed before the deadline; they are landed at the next start")
		e.stopLoad()
		<-e.loaded
	}
	e.stopLoad()
	return errors.Join(err, e.operations.close())
}

// Run is the whole life of a collector, and of some work beside it, which may be
// nil: until ctx is done, or a part fails. SIGHUP reads the configuration anew.
func Run(ctx context.Context, w *workspace.Workspace, options Options, work func(context.Context)) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	e, err := Start(ctx, w, options)
	if err != nil {
		return err
	}
	e.logger.Info("the collector accepts events", "url", e.URL(), "operations", e.OperationsURL())
	notify(ready)

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var working sync.WaitGroup
	if work != nil {
		working.Go(func() { work(ctx) })
	}
	err = e.attend(ctx, hangup)
	stop()
	err = errors.Join(err, e.Drain())
	working.Wait()
	return err
}

// attend reloads when it is told to, until the collector is to end.
func (e *Edge) attend(ctx context.Context, hangup <-chan os.Signal) error {
	for {
		select {
		case <-hangup:
			e.reloaded(ctx)
		case <-ctx.Done():
			e.logger.Info("draining")
			return nil
		case err := <-e.Failed():
			return err
		}
	}
}
