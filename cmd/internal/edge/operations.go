package edge

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
)

// operations serves those who run the collector: metrics and health on an
// address of their own, and all that and the live tail on a socket in the data
// folder. Events are shown through the socket only: it is the file system that
// says who may open it, while an address on the loopback is open to every user
// and every program of the machine.
type operations struct {
	address net.Listener // nil if there is none
	servers []*http.Server
}

// startOperations serves from when it returns. A socket that cannot be made is
// logged and done without.
func (e *Edge) startOperations(ctx context.Context, w *workspace.Workspace) error {
	open := http.NewServeMux()
	open.Handle("GET /metrics", e.metrics.Handler())
	open.HandleFunc("GET /healthz", e.health.serveLive)
	open.HandleFunc("GET /readyz", e.health.serveReady(false))
	if w.Operations.Listen != "" {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", w.Operations.Listen)
		if err != nil {
			return fmt.Errorf("listening for operations: %w; choose another address with operations.listen or --operations-listen", err)
		}
		e.operations.address = listener
		e.operations.serve(listener, open)
	}
	closed := http.NewServeMux()
	closed.Handle("/", open)
	closed.Handle("GET /tail", e.tail)
	socket, err := listenSocket(ctx, w.RunDir())
	if err != nil {
		e.logger.Warn("there is no socket, so `sluis tail` cannot reach this collector", "error", err)
		return nil
	}
	e.operations.serve(socket, closed)
	return nil
}

func (o *operations) serve(l net.Listener, handler http.Handler) {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 90 * time.Second, MaxHeaderBytes: 16 << 10}
	o.servers = append(o.servers, server)
	go func() { _ = server.Serve(l) }() // it ends by close
}

// close ends all, streams too.
func (o *operations) close() (err error) {
	for _, server := range o.servers {
		err = errors.Join(err, server.Close())
	}
	return err
}

const socketName = "collector.sock"

// listenSocket makes the socket anew. It is in a folder that nobody else may
// enter, since a socket's own mode counts only once it is set.
func listenSocket(ctx context.Context, dir string) (net.Listener, error) {
	path := socketPath(dir)
	err := errors.Join(os.MkdirAll(dir, 0o700), os.Chmod(dir, 0o700))
	if err == nil {
		err = os.Remove(path) // of a collector that was killed: the spool is locked, so none is running
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return listener, nil
}

// socketPath is relative if that is shorter: systems allow about 100 bytes.
func socketPath(dir string) string {
	path := filepath.Join(dir, socketName)
	if at, err := os.Getwd(); err == nil {
		if relative, err := filepath.Rel(at, path); err == nil && len(relative) < len(path) {
			return relative
		}
	}
	return path
}

// Tail calls show with each line of the live tail of the collector that runs on
// a workspace, until ctx is done or the collector ends. source is one of its
// sources, or empty for all.
func Tail(ctx context.Context, w *workspace.Workspace, source string, show func(line []byte) error) error {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socketPath(w.RunDir()))
	}}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://collector/tail?source="+url.QueryEscape(source), nil)
	if err != nil {
		return err
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s may be opened only by the user that the collector runs as: %w", socketPath(w.RunDir()), err)
	case err != nil && ctx.Err() == nil:
		return fmt.Errorf("no collector runs on this workspace: start one with `sluis up` or `sluis collector` (%w)", err)
	case err != nil:
		return nil
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the collector answered %s; it may be of another version", response.Status)
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		if err := show(lines.Bytes()); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("the collector ended: %w", err)
	}
	return nil
}
