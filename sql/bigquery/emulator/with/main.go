// Command with runs a command with a BigQuery emulator, which ends with it:
//
//	go run ./sql/bigquery/emulator/with bin/sluis demo --bigquery my-project --once
//
// The command finds the emulator by SLUIS_BIGQUERY_ENDPOINT and
// SLUIS_BIGQUERY_STORAGE_ENDPOINT. It needs python3, and the network the first time.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/sluis-cdp/sluis/sql/bigquery/emulator"
)

func main() {
	code, err := with(os.Args[1:])
	if err != nil {
		fmt.Fprintf(os.Stderr, "with: %v\n", err)
	}
	os.Exit(code)
}

// with returns the command's exit code.
func with(command []string) (int, error) {
	if len(command) == 0 {
		return 2, errors.New("name a command to run")
	}
	// Ctrl-C goes to the command as well, SIGTERM is passed on, and it is the
	// command that decides when to end.
	signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	ctx, done := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer done()
	server, stop, err := emulator.Launch(context.Background(), io.Discard)
	if err != nil {
		return 1, err
	}
	defer stop()
	c := exec.CommandContext(ctx, command[0], command[1:]...) //nolint:gosec // that is what it is for
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.Env = append(os.Environ(), "SLUIS_BIGQUERY_ENDPOINT="+server.Endpoint, "SLUIS_BIGQUERY_STORAGE_ENDPOINT="+server.StorageEndpoint)
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	err = c.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil
	}
	if err != nil {
		return 1, err
	}
	return 0, nil
}
