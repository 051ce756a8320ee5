// Command sluis-collector is the collector alone, for machines that face the
// public: a static binary that can append and holds nothing that opens what it
// sealed.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/sluis-cdp/sluis/cmd/internal/edge"
	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
)

func main() {
	edge.TuneMemory()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends at once
	code := run(ctx, os.Args, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stderr io.Writer) int {
	app := &cli.App{
		Name:        "sluis-collector",
		Usage:       "receive events, ask for consent, and land what may be kept",
		Description: edge.Signals,
		Flags: append(edge.Flags(),
			&cli.StringFlag{Name: "workspace", Aliases: []string{"w"}, Value: ".", EnvVars: []string{"SLUIS_WORKSPACE"}, Usage: "the folder with " + workspace.File},
		),
		HideHelpCommand: true,
		ErrWriter:       stderr,
		ExitErrHandler:  func(*cli.Context, error) {},
		Action: func(c *cli.Context) error {
			w, options, err := edge.Open(c, c.String("workspace"))
			if err != nil {
				return err
			}
			return edge.Run(c.Context, w, options, nil)
		},
	}
	if err := app.RunContext(ctx, args); err != nil {
		fmt.Fprintf(stderr, "sluis-collector: %v\n", err)
		return 1
	}
	return 0
}
