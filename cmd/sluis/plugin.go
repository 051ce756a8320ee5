package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/plugins/file"
	"github.com/sluis-cdp/sluis/plugins/googleads"
	"github.com/sluis-cdp/sluis/plugins/host"
	"github.com/sluis-cdp/sluis/plugins/hubspot"
	"github.com/sluis-cdp/sluis/plugins/intercom"
	"github.com/sluis-cdp/sluis/plugins/klaviyo"
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

// connector starts the process of a sync's destination: this program again,
// pinned to the digest that it had when it started.
func connector(logger *slog.Logger) (func(context.Context, syncer.Sync) (destination.Destination, error), error) {
	path, digest, err := host.Self()
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, s syncer.Sync) (destination.Destination, error) {
		if _, ok := builtin()[s.Destination]; !ok {
			known := slices.Sorted(maps.Keys(builtin()))
			return nil, fmt.Errorf("%s: there is no destination %q; there are %s", s.File, s.Destination, strings.Join(known, ", "))
		}
		plugin, err := host.Start(ctx, host.Config{
			Name: s.Destination, Path: path, Args: []string{"plugin", s.Destination}, SHA256: digest,
			Logger: logger,
		})
		if err != nil {
			return nil, err
		}
		return &connected{Plugin: plugin, sync: s}, nil
	}, nil
}
