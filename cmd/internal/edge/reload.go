package edge

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/consent/seal"
)

// configure makes the collector that a workspace describes, and puts it in the
// place of the one before. After an error nothing has changed.
func (e *Edge) configure(ctx context.Context, w *workspace.Workspace) error {
	certificate, err := w.Certificate()
	if err != nil {
		return err
	}
	config, err := e.config(ctx, w)
	if err != nil {
		return err
	}
	var next *collector.Collector
	if e.collector == nil {
		next, err = collector.New(config)
	} else {
		next, err = e.collector.With(config)
	}
	if err != nil {
		return err
	}
	handler := next.Handler()
	e.collector, e.sealer = next, config.Sealer
	e.pseudonymizer.Store(config.Pseudonymizer)
	e.visitors.Store(config.Visitors)
	e.certificate.Store(certificate)
	e.handler.Store(&handler)
	e.workspace.Store(w)
	return nil
}

// config is that of the collector. What has no reason to change is kept, with
// what it has in memory.
func (e *Edge) config(ctx context.Context, w *workspace.Workspace) (collector.Config, error) {
	config := collector.Config{
		Sources: w.CollectorSources(), Policy: w.Policy, SealFor: w.Consent.SealFor,
		PhoneRegion: w.PhoneRegion, PathPrefix: w.PathPrefix,
		Pseudonymizer: e.pseudonymizer.Load(), Sealer: e.sealer,
		Spool: e.metrics.Spool(e.spool), Window: e.window, Suppressed: e.suppressed, Recorder: e.recorder, Observer: observers{e.metrics, e.tail}, Logger: e.logger,
	}
	keys := seal.Dir(w.Path(w.Keys))
	before := e.workspace.Load()
	var err error
	if config.Visitors, err = w.Visitors(); err != nil {
		return config, err
	}
	if before == nil || before.PhoneRegion != w.PhoneRegion {
		if config.Pseudonymizer, err = seal.NewPseudonymizer(ctx, keys, w.Workspace, w.PhoneRegion); err != nil {
			return config, err
		}
	}
	if before == nil || !slices.Equal(before.SealPurposes(), w.SealPurposes()) {
		if config.Sealer, err = seal.NewSealer(ctx, keys, w.Workspace, w.SealPurposes()); err != nil {
			return config, err
		}
	}
	if config.CookieKey, err = keys.Key(ctx, seal.KeyCookie); err != nil {
		return config, fmt.Errorf("loading the cookie key: %w", err)
	}
	return config, nil
}

// Reload reads the workspace anew, and lets all requests that begin from then on
// meet what it says. If anything is wrong with it, or would need a restart, all
// stays as it was, and the error has each reason with its line.
func (e *Edge) Reload(ctx context.Context) error {
	e.reloading.Lock()
	defer e.reloading.Unlock()
	err := e.reload(ctx)
	e.metrics.Reloaded(err)
	return err
}

func (e *Edge) reload(ctx context.Context) error {
	fresh, err := e.options.Reread()
	if err != nil {
		return err
	}
	if problems := fresh.FixedSince(e.workspace.Load()); len(problems) > 0 {
		return errors.Join(problems...)
	}
	return e.configure(ctx, fresh)
}

// reloaded is Reload for a signal: what comes of it is in the log.
func (e *Edge) reloaded(ctx context.Context) {
	notify(reloading())
	defer notify(ready)
	e.lookAtSuppressed(ctx, "")
	err := e.Reload(ctx)
	if err == nil {
		e.logger.Info("the configuration was read anew", "sources", len(e.workspace.Load().Sources))
		return
	}
	for _, problem := range each(err) {
		e.logger.Error("the configuration was not changed", "error", problem)
	}
}

// each takes joined errors apart.
func each(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}
