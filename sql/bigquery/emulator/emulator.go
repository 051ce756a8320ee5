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
	dir := t.TempDir()
	for _, name := range []string{"start.sh", "launch.py", "requirements.txt"} {
		content, err := files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	process := exec.CommandContext(ctx, "sh", filepath.Join(dir, "start.sh"))
	process.WaitDelay = 10 * time.Second
	output, input := io.Pipe()
	process.Stdout, process.Stderr = input, input
	// The server ends when this end of its stdin is closed, by us or by death.
	if _, err := process.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		process.Wait() //nolint:errcheck // it is killed
		input.Close()  //nolint:errcheck // a pipe in memory
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	server, err := listen(output)
	if err != nil {
		t.Fatalf("start the emulator: %v", err)
	}
	if err := answers(t.Context(), server.Endpoint); err != nil {
		t.Fatalf("the emulator does not answer: %v", err)
	}
	return server
}

// listen reads the server's log until it has said where it listens, and goes
// on reading, since nobody else does.
func listen(log io.Reader) (Server, error) {
	var server Server
	var said []string
	lines := bufio.NewScanner(log)
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
	go io.Copy(io.Discard, log) //nolint:errcheck // ends with the server
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
