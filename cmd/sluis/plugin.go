package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/plugins/file"
	"github.com/sluis-cdp/sluis/plugins/googleads"
	"github.com/sluis-cdp/sluis/plugins/host"
	"github.com/sluis-cdp/sluis/plugins/hubspot"
	"github.com/sluis-cdp/sluis/plugins/intercom"
	"github.com/sluis-cdp/sluis/plugins/klaviyo"
	"github.com/sluis-cdp/sluis/plugins/limits"
	"github.com/sluis-cdp/sluis/plugins/meta"
	"github.com/sluis-cdp/sluis/plugins/postgres"
	"github.com/sluis-cdp/sluis/plugins/slack"
	"github.com/sluis-cdp/sluis/plugins/webhook"
	syncer "github.com/sluis-cdp/sluis/sync"
)

// builtin are the destinations that this program is when it is started as a
// plugin.
func builtin() map[string]func() destination.Destination {
	return map[string]func() destination.Destination{
		"file":             file.New,
		"googleads":        googleads.New,
		"hubspot":          hubspot.New,
		"intercom":         intercom.New,
		"klaviyo":          klaviyo.New,
		"meta-audience":    meta.NewAudience,
		"meta-conversions": meta.NewConversions,
		"postgres":         postgres.New,
		"slack":            slack.New,
		"webhook":          webhook.New,
	}
}

// pluginCommand is how the program starts itself as a destination's process.
func pluginCommand() *cli.Command {
	return &cli.Command{
		Name: "plugin", Hidden: true, ArgsUsage: "NAME",
		Action: func(c *cli.Context) error {
			make, ok := builtin()[c.Args().First()]
			if !ok {
				return usage("there is no built-in destination %q", c.Args().First())
			}
			destination.Serve(make())
			return nil
		},
	}
}

// connect starts the process of a sync's destination.
type connect = func(context.Context, syncer.Sync) (destination.Destination, error)

// connector returns what does so. Processes that one connector has started share the
// limits of their accounts.
//
// asked, if not nil, is told how long each request of a sync has waited for its turn, and
// whether it got one.
func connector(w *workspace.Workspace, logger *slog.Logger, asked func(sync string, waited time.Duration, went bool)) (connect, error) {
	start, err := starter(w.Dir, logger)
	if err != nil {
		return nil, err
	}
	var accounts limits.Accounts
	return func(ctx context.Context, s syncer.Sync) (destination.Destination, error) {
		plugin, err := start(ctx, s.Destination)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.File, err)
		}
		var pacer destination.Pacer = accounts.Of(plugin.Describe(), s.Config, s.Rate.Limit())
		if asked != nil {
			pacer = &counted{Pacer: pacer, sync: s.Name, asked: asked}
		}
		return &connected{Plugin: plugin, sync: s, pacer: pacer}, nil
	}, nil
}

// counted tells what becomes of requests that wait.
type counted struct {
	destination.Pacer
	sync  string
	asked func(sync string, waited time.Duration, went bool)
}

// Await implements [destination.Pacer].
func (p *counted) Await(ctx context.Context, limit string) error {
	began := time.Now()
	err := p.Pacer.Await(ctx, limit)
	p.asked(p.sync, time.Since(began), err == nil)
	return err
}

// starter starts destinations by their names: this program again, pinned to the
// digest that it had when it started, or one of those that the workspace at dir
// has locked. What is locked is read at each start.
func starter(dir string, logger *slog.Logger) (func(ctx context.Context, name string) (*host.Plugin, error), error) {
	path, digest, err := host.Self()
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, name string) (*host.Plugin, error) {
		if _, ok := builtin()[name]; ok {
			return host.Start(ctx, host.Config{
				Name: name, Path: path, Args: []string{"plugin", name}, SHA256: digest, Logger: logger,
			})
		}
		lock, err := workspace.ReadLock(dir)
		if err != nil {
			return nil, err
		}
		locked, ok := lock.Destinations[name]
		if !ok {
			return nil, noDestination(name, lock)
		}
		return startInstalled(ctx, dir, name, locked, logger)
	}, nil
}

func noDestination(name string, lock workspace.Lock) error {
	return fmt.Errorf("there is no destination %q; there are %s; `sluis destinations add` adds others", name, strings.Join(known(lock), ", "))
}

// checkKnown finds fault with the use if there is no destination of that name.
func checkKnown(dir, name string) error {
	lock, err := workspace.ReadLock(dir)
	if err == nil && !slices.Contains(known(lock), name) {
		err = usage("%v", noDestination(name, lock))
	}
	return err
}

// known are the names of all destinations.
func known(lock workspace.Lock) []string {
	names := slices.AppendSeq(slices.Collect(maps.Keys(builtin())), maps.Keys(lock.Destinations))
	slices.Sort(names)
	return names
}
