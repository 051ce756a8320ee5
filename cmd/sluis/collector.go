package main

import (
	"github.com/urfave/cli/v2"

	"github.com/sluis-cdp/sluis/cmd/internal/edge"
	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
)

func listenFlag() cli.Flag {
	return &cli.StringFlag{Name: "listen", EnvVars: []string{"SLUIS_LISTEN"}, Usage: "address to accept events on; overrides the configuration"}
}

func listenAddress(c *cli.Context, w *workspace.Workspace) string {
	if c.IsSet("listen") {
		return c.String("listen")
	}
	return w.Listen
}

func collectorCommand() *cli.Command {
	return &cli.Command{
		Name:  "collector",
		Usage: "the collector alone (the same as the program sluis-collector)",
		Flags: []cli.Flag{listenFlag()},
		Action: func(c *cli.Context) error {
			w, err := openWorkspace(c)
			if err != nil {
				return err
			}
			return edge.Run(c.Context, w, listenAddress(c, w), newLogger(c))
		},
	}
}
