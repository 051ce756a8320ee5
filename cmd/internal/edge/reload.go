package edge

import (
	"context"
	"errors"
	"fmt"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/consent/seal"
	"github.com/sluis-cdp/sluis/consent/seal/remote"
)

// configure makes the collector that a workspace describes, and puts it in the
// place of the one before. After an error nothing has changed.
func (e *Edge) configure(ctx context.Context, w *workspace.Workspace) error {
	certificate, err := w.Certificate()
	if err != nil {
		return err
	}
	config, service, err := e.config(ctx, w)
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
	e.service.Store(service)
	e.visitors.Store(config.Visitors)
	e.certificate.Store(certificate)
	e.handler.Store(&handler)
	e.workspace.Store(w)
	return nil
}

// config is that of the collector. What has no reason to change is kept, with
// what it has in memory.
func (e *Edge) config(ctx context.Context, w *workspace.Workspace) (config collector.Config, service *remote.Client, err error) {
	config = collector.Config{
		Sources: w.CollectorSources(), Policy: w.Policy, SealFor: w.Consent.SealFor, SealAgain: w.SealAgain(),
		PhoneRegion: w.PhoneRegion, PathPrefix: w.PathPrefix,
		Pseudonymizer: e.pseudonymizer.Load(), Sealer: e.sealer,
		Spool: e.metrics.Spool(e.spool), Window: e.window, Suppressed: e.suppressed, Recorder: e.recorder, Observer: observers{e.metrics, e.tail}, Logger: e.logger,
	}
	keys := w.Keyring()
	before := e.workspace.Load()
	if config.Visitors, err = w.Visitors(); err != nil {
		return config, nil, err
	}
	// A service's certificates may have been renewed, whatever the configuration says.
	if before == nil || before.PhoneRegion != w.PhoneRegion || before.Pseudonyms != w.Pseudonyms || !w.Pseudonyms.IsLocal() {
		if config.Pseudonymizer, service, err = NewPseudonymizer(ctx, w, keys); err != nil {
			return config, nil, err
		}
	}
	// The keys are read anew, since a rotation changes them and nothing else.
	sealer, err := seal.NewSealer(ctx, keys, w.Workspace, w.SealPurposes())
	if err != nil {
		return config, nil, err
	}
	if e.sealer == nil || !e.sealer.Same(sealer) {
		config.Sealer = sealer
	}
	cookies, err := seal.Every(ctx, keys, seal.KeyCookie)
	if err != nil {
		return config, nil, fmt.Errorf("loading the cookie key: %w", err)
	}
	config.CookieKey, config.OldCookieKeys = cookies[0], cookies[1:]
	return config, service, nil
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
