// Package emulator starts a server that speaks BigQuery's protocols, for
// tests: the Python package bqemulator, which translates GoogleSQL to DuckDB.
//
// It is not BigQuery. Where it deviates from the documentation the tests keep
// to the documentation, and what it cannot play at all is played by a small
// server in the tests of sql/bigquery. Known deviations that matter here:
//
//   - Statements run inside jobs.insert, one at a time, and cannot be
//     cancelled. launch.py ends those that take longer than five seconds, and
//     mends more, each with its reason.
//   - ALTER TABLE takes one ADD COLUMN; a change of a table's schema by the
//     REST API does not reach its data; results have no read sessions.
//   - A job id that exists is run again (BigQuery: 409).
//   - maximumBytesBilled, jobTimeoutMs and location are not heeded.
package emulator

import (
	"bufio"
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

//go:embed start.sh launch.py requirements.txt
var files embed.FS

// Server is a running emulator. It knows any project; each is empty at first.
type Server struct {
	Endpoint        string // URL of the REST server
	StorageEndpoint string // host:port of the gRPC server
}

// Start starts a server on free ports of this machine, and stops it when the
// test ends. It needs python3, and the network the first time.
func Start(t testing.TB) Server {
	t.Helper()
	server, stop, err := Launch(context.WithoutCancel(t.Context()), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return server
}

// Launch is Start outside of tests. What the server logs goes to log until
// stop, which is called once, has ended it, or ctx has.
func Launch(ctx context.Context, log io.Writer) (server Server, stop func(), err error) {
	dir, err := os.MkdirTemp("", "sluis-emulator-")
	if err != nil {
		return Server{}, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	stop = func() {
		cancel()
		<-ended
		os.RemoveAll(dir) //nolint:errcheck // a folder for temporary files
	}
	output, err := run(ctx, dir, ended)
	if err == nil {
		server, err = listen(output, log)
	}
	if err == nil {
		err = answers(ctx, server.Endpoint)
	}
	if err != nil {
		stop()
		return Server{}, nil, fmt.Errorf("start the BigQuery emulator: %w", err)
	}
	return server, stop, nil
}

// run starts the process, which ends with ctx or this process, and closes
// ended when it is gone.
func run(ctx context.Context, dir string, ended chan struct{}) (output io.Reader, err error) {
	defer func() {
		if err != nil {
			close(ended)
		}
	}()
	for _, name := range []string{"start.sh", "launch.py", "requirements.txt"} {
		content, err := files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return nil, err
		}
	}
	process := exec.CommandContext(ctx, "sh", filepath.Join(dir, "start.sh"))
	process.WaitDelay = 10 * time.Second
	output, input := io.Pipe()
	process.Stdout, process.Stderr = input, input
	// The server ends when this end of its stdin is closed, by us or by death.
	if _, err := process.StdinPipe(); err != nil {
		return nil, err
	}
	if err := process.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(ended)
		process.Wait() //nolint:errcheck // it is killed
		input.Close()  //nolint:errcheck // a pipe in memory
	}()
	return output, nil
}

// listen reads the server's log until it has said where it listens, and goes
// on reading, since nobody else does.
func listen(output io.Reader, log io.Writer) (Server, error) {
	var server Server
	var said []string
	lines := bufio.NewScanner(output)
	for server.Endpoint == "" || server.StorageEndpoint == "" {
		if !lines.Scan() {
			return server, fmt.Errorf("it ended, saying:\n%s", strings.Join(said, "\n"))
		}
		said = append(said, lines.Text())
		var line struct {
			Event, Host string
			Port        int
		}
		if json.Unmarshal(lines.Bytes(), &line) != nil {
			continue // not of the server's own
		}
		switch address := fmt.Sprintf("%s:%d", line.Host, line.Port); line.Event {
		case "rest.listen":
			server.Endpoint = "http://" + address
		case "grpc.listen":
			server.StorageEndpoint = address
		}
	}
	go io.Copy(log, output) //nolint:errcheck // ends with the server
	return server, nil
}

// answers waits for the REST server, which opens its port a little later than
// it says.
func answers(ctx context.Context, endpoint string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	client := &http.Client{Timeout: 10 * time.Second}
	retry := time.NewTicker(50 * time.Millisecond)
	defer retry.Stop()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint+"/healthz", nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			return fmt.Errorf("%w, last: %w", ctx.Err(), err)
		}
	}
}
