package host

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	destinationv1 "github.com/sluis-cdp/sluis/plugins/proto/destination/v1"
)

const (
	egressProxyEnv = destinationv1.EgressProxyEnv

	egressConnections = 256
	egressDialTimeout = 10 * time.Second
	// egressWarnings bounds the log of what was refused.
	egressWarnings = 20
)

// egress is the way out of a confined plugin: an HTTP proxy (RFC 9110, §7.3 and
// §9.3.6) that tunnels and forwards to the hosts that were approved, and to no
// other. It sees names and never resolves one that is not approved, so a query
// of the name system cannot carry anything out either.
type egress struct {
	declared []string
	logger   *slog.Logger
	server   *http.Server
	forward  *httputil.ReverseProxy
	dial     func(ctx context.Context, network, address string) (net.Conn, error)

	mu      sync.Mutex
	allowed []endpoint
	refused int
}

// endpoint is where a connection may go; without a port, to any.
type endpoint struct{ host, port string }

// newEgress allows what is declared and needs no configuration to be known.
func newEgress(declared []string, logger *slog.Logger) *egress {
	dialer := &net.Dialer{Timeout: egressDialTimeout}
	e := &egress{declared: declared, logger: logger, dial: dialer.DialContext}
	e.configure(nil)
	e.forward = &httputil.ReverseProxy{
		Rewrite:      func(*httputil.ProxyRequest) {}, // its address is absolute already
		Transport:    &http.Transport{DialContext: e.dialApproved, ResponseHeaderTimeout: 5 * time.Minute},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) { e.fail(w, err) },
		ErrorLog:     slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	e.server = &http.Server{
		Handler: e, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	return e
}

// configure puts the hosts of a configuration in for what stands for them.
func (e *egress) configure(config map[string]string) {
	var allowed []endpoint
	for _, host := range e.declared {
		if name, ok := fieldOf(host); ok {
			host = config[name]
		}
		if point, ok := parseEndpoint(host); ok {
			allowed = append(allowed, point)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.allowed = allowed
}

// fieldOf is the field whose host "${field}" stands for.
func fieldOf(host string) (name string, ok bool) {
	name, ok = strings.CutPrefix(host, "${")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(name, "}")
}

// parseEndpoint reads a URL, host:port or host.
func parseEndpoint(text string) (endpoint, bool) {
	if strings.Contains(text, "://") {
		u, err := url.Parse(text)
		if err != nil {
			return endpoint{}, false
		}
		port := u.Port()
		if port == "" {
			port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
		}
		return endpoint{canonical(u.Hostname()), port}, u.Hostname() != ""
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		host, port = text, ""
	}
	return endpoint{canonical(host), port}, host != ""
}

// canonical makes names that are the same look the same.
func canonical(host string) string {
	return strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
}

func (e *egress) approves(address string) bool {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, point := range e.allowed {
		if point.host == canonical(host) && (point.port == "" || point.port == port) {
			return true
		}
	}
	return false
}

var errNotApproved = errors.New("the plugin has not declared this host: see its egress hosts")

func (e *egress) dialApproved(ctx context.Context, network, address string) (net.Conn, error) {
	if !e.approves(address) {
		return nil, errNotApproved
	}
	return e.dial(ctx, network, address)
}

// serve answers on the listener until close.
func (e *egress) serve(listener net.Listener) {
	go func() { _ = e.server.Serve(&limited{Listener: listener, free: make(chan struct{}, egressConnections)}) }()
}

// limited lets so many connections be open at once, and the next ones wait. The
// listener of x/net hides that one side of a connection can be closed.
type limited struct {
	net.Listener
	free chan struct{}
}

// Accept implements net.Listener.
func (l *limited) Accept() (net.Conn, error) {
	l.free <- struct{}{}
	conn, err := l.Listener.Accept()
	tcp, ok := conn.(*net.TCPConn)
	if err != nil || !ok {
		<-l.free
		return conn, err
	}
	return &limitedConn{TCPConn: tcp, release: sync.OnceFunc(func() { <-l.free })}, nil
}

type limitedConn struct {
	*net.TCPConn
	release func()
}

// Close implements net.Conn.
func (c *limitedConn) Close() error {
	c.release()
	return c.TCPConn.Close()
}

// close ends what is under way but for tunnels, which end with the plugin.
func (e *egress) close() { _ = e.server.Close() }

// ServeHTTP implements http.Handler.
func (e *egress) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodConnect:
		e.tunnel(w, r)
	case r.URL.Scheme == "http" && r.URL.Host != "":
		e.forward.ServeHTTP(w, r)
	default:
		http.Error(w, "this is a proxy", http.StatusBadRequest)
	}
}

// tunnel connects, and passes on what comes from either side.
func (e *egress) tunnel(w http.ResponseWriter, r *http.Request) {
	remote, err := e.dialApproved(r.Context(), "tcp", r.Host)
	if err != nil {
		e.fail(w, err)
		return
	}
	defer remote.Close() //nolint:errcheck // nothing is left to send
	local, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, "cannot tunnel", http.StatusInternalServerError)
		return
	}
	defer local.Close() //nolint:errcheck // nothing is left to send
	if _, err := io.WriteString(local, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		pass(remote, local, buffered.Reader)
	}()
	pass(local, remote, remote)
	<-sent
}

// pass copies until the source ends, and tells the other end of that.
func pass(to, from net.Conn, source io.Reader) {
	if _, err := io.Copy(to, source); err != nil {
		_ = from.Close()
		_ = to.Close()
		return
	}
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

// fail says that there is no connection. The host's log names no host: the
// plugin chose the name, and may have written anything into it.
func (e *egress) fail(w http.ResponseWriter, err error) {
	if !errors.Is(err, errNotApproved) {
		http.Error(w, "cannot connect", http.StatusBadGateway)
		return
	}
	e.mu.Lock()
	e.refused++
	tell := e.refused <= egressWarnings
	e.mu.Unlock()
	if tell {
		e.logger.Warn("the plugin asked for a host that it has not declared, and was refused")
	}
	http.Error(w, errNotApproved.Error(), http.StatusForbidden)
}
