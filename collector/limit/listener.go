package limit

import (
	"net"
	"net/netip"
	"sync"
)

// Listener bounds the connections that a listener has open at once. What is
// more than all waits; what is more than one address's share is closed, so that
// one cannot keep out all others. shared tells peers through which many come, as
// a proxy does: they have no share, and neither has this machine.
func (c Config) Listener(l net.Listener, shared func(peer net.Addr) bool) net.Listener {
	c = c.withDefaults()
	return &listener{
		Listener: l, shared: shared, share: max(1, c.Connections/4),
		places: make(chan struct{}, c.Connections), closed: make(chan struct{}), of: make(map[netip.Prefix]int),
	}
}

type listener struct {
	net.Listener
	shared func(net.Addr) bool
	share  int
	places chan struct{} // one for each connection
	closed chan struct{}
	close  sync.Once

	mu sync.Mutex
	of map[netip.Prefix]int // connections by address
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for {
		select {
		case l.places <- struct{}{}:
		case <-l.closed:
			return nil, net.ErrClosed
		}
		conn, err := l.Listener.Accept()
		if err != nil {
			<-l.places
			return nil, err
		}
		from := l.from(conn.RemoteAddr())
		if l.enter(from) {
			return &connection{Conn: conn, left: sync.OnceFunc(func() { l.leave(from); <-l.places })}, nil
		}
		_ = conn.Close() // its peer has enough others
		<-l.places
	}
}

// Close implements net.Listener.
func (l *listener) Close() error {
	l.close.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// from is what connections are counted by: an IPv4 address or 64 bits of an IPv6
// one, or zero for those that are not.
func (l *listener) from(peer net.Addr) netip.Prefix {
	p, err := netip.ParseAddrPort(peer.String())
	if err != nil || l.shared(peer) {
		return netip.Prefix{}
	}
	a := p.Addr().Unmap().WithZone("")
	if a.IsLoopback() {
		return netip.Prefix{}
	}
	bits := 32
	if a.Is6() {
		bits = 64
	}
	prefix, _ := a.Prefix(bits) // never fails: the bits fit
	return prefix
}

func (l *listener) enter(from netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !from.IsValid() {
		return true
	}
	if l.of[from] >= l.share {
		return false
	}
	l.of[from]++
	return true
}

func (l *listener) leave(from netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of[from]--; l.of[from] <= 0 {
		delete(l.of, from)
	}
}

// connection gives its place back when it is closed.
type connection struct {
	net.Conn
	left func()
}

// Close implements net.Conn.
func (c *connection) Close() error {
	defer c.left()
	return c.Conn.Close()
}
