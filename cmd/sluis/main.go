// Command sluis is the whole product: collector, models, syncs, and the demo.
// This package reads configuration, wires the parts and prints; each verb has
// a file of its own.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/sql/runner"
	syncer "github.com/sluis-cdp/sluis/sync"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends at once
	code := run(ctx, os.Args, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// The exit codes. They are part of the interface; the README lists them.
const (
	exitDone    = 0
	exitFailed  = 1
	exitUsage   = 2
	exitRefused = 3 // a guard holds something back
)

// usageError is a wrong use of a command.
type usageError struct{ message string }

func (e *usageError) Error() string { return e.message }

func usage(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// refusedError is what a guard holds back.
type refusedError struct{ message string }

func (e *refusedError) Error() string { return e.message }

// errReported ends a command whose output has said already what is wrong.
var errReported = errors.New("failed")

// run is the program but for the process: what it prints goes to the writers,
// and the return value is the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	app := newApp(stdout, stderr)
	err := app.RunContext(ctx, flagsFirst(app, args))
	var wrong *usageError
	var held *syncer.HeldError
	var refused *refusedError
	var selection *runner.SelectionError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &selection):
		fmt.Fprintf(stderr, "sluis: %v\n", err)
		return exitUsage
	case errors.As(err, &wrong):
		fmt.Fprintf(stderr, "sluis: %v\nTry `sluis help`.\n", wrong)
		return exitUsage
	case errors.As(err, &held), errors.As(err, &refused):
		fmt.Fprintf(stderr, "sluis: %v\n", err)
		return exitRefused
	case errors.Is(err, errReported):
		return exitFailed
	default:
		fmt.Fprintf(stderr, "sluis: %v\n", err)
		return exitFailed
	}
}

func newApp(stdout, stderr io.Writer) *cli.App {
	wrongUse := func(_ *cli.Context, err error, _ bool) error { return usage("%v", err) }
	app := &cli.App{
		Name:  "sluis",
		Usage: "a customer data platform that you run yourself",
		Flags: []cli.Flag{workspaceFlag()},
		Commands: []*cli.Command{
			initCommand(), upCommand(), demoCommand(), collectorCommand(), tailCommand(), snippetCommand(),
			trackingCommand(), consentCommand(), generateCommand(), modelsCommand(), syncCommand(), destinationsCommand(), subjectCommand(),
			explainCommand(), sqlCommand(),
			ledgerCommand(), keysCommand(), doctorCommand(), proveCommand(), pseudonymServiceCommand(), pluginCommand(),
		},
		Writer:         stdout,
		ErrWriter:      stderr,
		ExitErrHandler: func(*cli.Context, error) {},

		DisableSliceFlagSeparator: true, // headers and cookies have commas
		OnUsageError:              wrongUse,
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usage("there is no command %q", c.Args().First())
			}
			return cli.ShowAppHelp(c)
		},
	}
	each(app.Commands, func(c *cli.Command) {
		c.OnUsageError = wrongUse
		if c.Action == nil {
			c.Action = func(c *cli.Context) error {
				if c.Args().Present() {
					return usage("there is no command %q here", c.Args().First())
				}
				return cli.ShowSubcommandHelp(c)
			}
			return
		}
		c.Flags = append(c.Flags, workspaceFlag())
	})
	return app
}

func each(commands []*cli.Command, do func(*cli.Command)) {
	for _, c := range commands {
		do(c)
		each(c.Subcommands, do)
	}
}

func workspaceFlag() cli.Flag {
	return &cli.StringFlag{Name: "workspace", Aliases: []string{"w"}, Value: ".", EnvVars: []string{"SLUIS_WORKSPACE"}, Usage: "the folder with " + workspace.File}
}

func jsonFlag() cli.Flag { return &cli.BoolFlag{Name: "json", Usage: "print JSON for programs"} }

// workspaceDir is the workspace named closest to the verb: after it, or before.
func workspaceDir(c *cli.Context) string {
	for _, at := range c.Lineage() {
		if at.Command != nil && slices.Contains(at.LocalFlagNames(), "workspace") {
			return at.String("workspace")
		}
	}
	return c.String("workspace")
}

func openWorkspace(c *cli.Context) (*workspace.Workspace, error) {
	return workspace.Open(workspaceDir(c))
}

func newLogger(c *cli.Context) *slog.Logger {
	return slog.New(slog.NewTextHandler(c.App.ErrWriter, nil))
}

// quietLogger is for commands that start processes only to ask them something.
func quietLogger(c *cli.Context) *slog.Logger {
	return slog.New(slog.NewTextHandler(c.App.ErrWriter, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// flagsFirst moves the flags of a verb before its arguments, where package
// flag wants them: `sluis sql QUERY --json` is how people write it.
func flagsFirst(app *cli.App, args []string) []string {
	if len(args) == 0 {
		return args
	}
	ordered := []string{args[0]}
	commands, flags, rest := app.Commands, app.Flags, args[1:]
	for len(rest) > 0 {
		n := flagLength(flags, rest)
		if n == 0 {
			i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(rest[0]) })
			if i < 0 {
				break
			}
			n, flags, commands = 1, commands[i].Flags, commands[i].Subcommands
		}
		ordered, rest = append(ordered, rest[:n]...), rest[n:]
	}
	var words []string
	for len(rest) > 0 {
		if rest[0] == "--" {
			words = append(words, rest...)
			break
		}
		n := flagLength(flags, rest)
		if n == 0 {
			words, rest = append(words, rest[0]), rest[1:]
			continue
		}
		ordered, rest = append(ordered, rest[:n]...), rest[n:]
	}
	return append(ordered, words...)
}

// flagLength is how many of the words are a flag with its value; 0 if the
// first is no flag.
func flagLength(flags []cli.Flag, words []string) int {
	name := strings.TrimLeft(words[0], "-")
	if name == words[0] || name == "" {
		return 0
	}
	if strings.Contains(name, "=") || len(words) == 1 {
		return 1
	}
	for _, flag := range flags {
		if slices.Contains(flag.Names(), name) {
			if _, ok := flag.(*cli.BoolFlag); ok {
				return 1
			}
			return 2
		}
	}
	return 1
}
