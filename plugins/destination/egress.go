package destination

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	destinationv1 "github.com/sluis-cdp/sluis/plugins/proto/destination/v1"
)

const (
	dialTimeout = 10 * time.Second
	// tunnelTimeout is how long the proxy may take to connect.
	tunnelTimeout = 20 * time.Second
)

// EgressProxy is for the Proxy of an [http.Transport] of the author's own. A
// plugin that the host confines reaches its EgressHosts through the host's proxy
// and has no other network; for one that is not confined it is no proxy.
// http.DefaultTransport knows of it in a plugin: see [Serve].
//
// http.ProxyFromEnvironment would do but for servers on this machine, which it
// never sends through a proxy: with those there are no tests.
func EgressProxy(*http.Request) (*url.URL, error) {
	address := os.Getenv(destinationv1.EgressProxyEnv) //nolint:forbidigo // the host says it there, as go-plugin does all else
	if address == "" {
		return nil, nil
	}
	return url.Parse(address)
}

// Dial connects to an address over TCP, for what is no HTTP. Like [EgressProxy]
// it goes the way that the plugin has.
func Dial(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: dialTimeout}
	proxy, err := EgressProxy(nil)
	if err != nil {
		return nil, fmt.Errorf("the host's proxy: %w", err)
	}
	if proxy == nil {
		return dialer.DialContext(ctx, network, address)
	}
	conn, err := dialer.DialContext(ctx, "tcp", proxy.Host)
	if err != nil {
		return nil, fmt.Errorf("the host's proxy: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	tunnel, err := openTunnel(conn, address)
	if err == nil && !stop() {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return tunnel, nil
}

// openTunnel asks a proxy to connect (RFC 9110, §9.3.6).
func openTunnel(conn net.Conn, address string) (net.Conn, error) {
	if err := conn.SetDeadline(time.Now().Add(tunnelTimeout)); err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %[1]s\r\n\r\n", address); err != nil {
		return nil, fmt.Errorf("the host's proxy: %w", err)
	}
	reader := bufio.NewReader(conn)
	answer, err := http.ReadResponse(reader, &http.Request{Method: http.MethodConnect})
	if err != nil {
		return nil, fmt.Errorf("the host's proxy: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the host does not connect this plugin to %s: %s", address, answer.Status)
	}
	return &tunnel{Conn: conn, reader: reader}, conn.SetDeadline(time.Time{})
}

// tunnel is a connection whose first bytes may have come with the proxy's answer.
type tunnel struct {
	net.Conn
	reader *bufio.Reader
}

func (t *tunnel) Read(p []byte) (int, error) { return t.reader.Read(p) }
