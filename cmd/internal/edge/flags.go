package edge

import (
	"io"
	"log/slog"

	"github.com/urfave/cli/v2"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
)

// Flags are those of every command that runs a collector. They win over the
// environment, which wins over the configuration.
func Flags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "listen", EnvVars: []string{"SLUIS_LISTEN"}, Usage: "`ADDRESS` to accept events on"},
		&cli.StringFlag{Name: "operations-listen", EnvVars: []string{"SLUIS_OPERATIONS_LISTEN"}, Usage: "`ADDRESS` of metrics and health; empty for none"},
		&cli.StringFlag{Name: "log-format", EnvVars: []string{"SLUIS_LOG_FORMAT"}, Usage: "text or json"},
		&cli.StringFlag{Name: "log-level", EnvVars: []string{"SLUIS_LOG_LEVEL"}, Usage: "debug, info, warn or error"},
	}
}

// Signals is what a command that runs a collector says of signals.
const Signals = `SIGTERM and SIGINT drain: no more connections, answers to what is in flight, landing of what waits; a second one
ends at once. SIGHUP reads the configuration, tracking plans and certificates anew.`

// Open opens a workspace as the flags of a command would have it, to run its
// collector.
func Open(c *cli.Context, dir string) (*workspace.Workspace, Options, error) {
	reread := func() (*workspace.Workspace, error) { return open(c, dir) }
	w, err := reread()
	if err != nil {
		return nil, Options{}, err
	}
	return w, Options{Logger: newLogger(w, c.App.ErrWriter), Reread: reread}, nil
}

func open(c *cli.Context, dir string) (*workspace.Workspace, error) {
	return workspace.OpenWith(dir, func(config *workspace.Config) error {
		if c.IsSet("listen") {
			config.Listen = c.String("listen")
		}
		if c.IsSet("operations-listen") {
			config.Operations.Listen = c.String("operations-listen")
		}
		if c.IsSet("log-format") {
			config.Log.Format = workspace.LogFormat(c.String("log-format"))
		}
		if c.IsSet("log-level") {
			return config.Log.Level.UnmarshalText([]byte(c.String("log-level")))
		}
		return nil
	})
}

// newLogger logs as the workspace says.
func newLogger(w *workspace.Workspace, to io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: slog.Level(w.Log.Level)}
	if w.Log.Format == workspace.LogJSON {
		return slog.New(slog.NewJSONHandler(to, options))
	}
	return slog.New(slog.NewTextHandler(to, options))
}
