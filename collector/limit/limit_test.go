package limit

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"
)

// TestHeaderTime: a header has less time than a whole request.
func TestHeaderTime(t *testing.T) {
	for config, want := range map[Config]time.Duration{{}: 5 * time.Second, {Time: time.Minute}: 5 * time.Second, {Time: time.Second}: time.Second} {
		server := &http.Server{}
		config.Apply(server)
		if server.ReadHeaderTimeout != want {
			t.Errorf("%+v: %v, want %v", config, server.ReadHeaderTimeout, want)
		}
	}
}

func wait(t testing.TB, err error) time.Duration {
	t.Helper()
	var r *Refusal
	if !errors.As(err, &r) || r.Status != http.StatusTooManyRequests || r.Code != "rate_limited" || r.RetryAfter <= 0 {
		t.Fatalf("%v is not a refusal for now", err)
	}
	return r.RetryAfter
}

func TestRates(t *testing.T) {
	l, err := NewRates(map[string]Rate{"web": {Source: 1000, Address: 300}, "server": {Source: 1000}, "free": {}})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	take := func(source string, sender uint64, n int) error { return l.Take(source, sender, n, now) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// Ten seconds' worth at once, counted by events and not by requests.
	must(take("web", 1, 2500))
	must(take("web", 1, 500))
	if w := wait(t, take("web", 1, 300)); w != time.Second {
		t.Errorf("wait %v for a second's worth", w)
	}
	must(take("web", 2, 2500)) // another address
	now = now.Add(time.Second)
	must(take("web", 1, 300)) // as was told
	// The source as a whole: 10,000, of which 5,800 went, and 1,000 came.
	must(take("web", 3, 2500))
	must(take("web", 4, 2500))
	if w := wait(t, take("web", 5, 2500)); w > 3*time.Second {
		t.Errorf("wait %v", w)
	}
	// What the source refuses is not counted against the address.
	if left := l.sender("web", 5).TokensAt(now); left != 3000 {
		t.Errorf("%v are left of 3,000 of which none went", left)
	}
	now = now.Add(10 * time.Second)
	must(take("web", 5, 2500))
	must(take("web", 5, 500))
	// A source that servers send to knows no addresses, and one without bounds nothing.
	for range 4 {
		must(take("server", 1, 2500))
	}
	wait(t, take("server", 1, 1))
	for range 1000 {
		must(take("free", 1, 2500))
		must(take("nobody", 1, 2500))
	}
	// Who is not known is bounded by the source alone.
	now = now.Add(10 * time.Second)
	for range 4 {
		must(take("web", 0, 2500))
	}
	wait(t, take("web", 0, 1))
}

// TestRateHolds: whatever comes, not more passes than the burst and the rate
// allow; and what was refused passes at the time that it was told.
func TestRateHolds(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 1))
		perSecond := float64(1 + random.IntN(2000))
		l, err := NewRates(map[string]Rate{"web": {Address: perSecond}})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		now, passed := start, 0
		for range 500 {
			n := 1 + random.IntN(2500)
			err := l.Take("web", 7, n, now)
			if err != nil && random.IntN(4) == 0 {
				now = now.Add(wait(t, err) + time.Microsecond)
				err = l.Take("web", 7, n, now)
				if err != nil {
					t.Fatalf("seed %d: refused at the time that was told: %v", seed, err)
				}
			}
			if err == nil {
				passed += n
			}
			now = now.Add(time.Duration(random.Int64N(int64(time.Second))))
			if most := float64(burst(perSecond)) + perSecond*now.Sub(start).Seconds() + 1; float64(passed) > most {
				t.Fatalf("seed %d: %d events passed in %v at %v a second", seed, passed, now.Sub(start), perSecond)
			}
		}
	}
}

// TestSendersAreForgotten: memory is bounded however many addresses come.
func TestSendersAreForgotten(t *testing.T) {
	l, err := NewRates(map[string]Rate{"web": {Address: 1}})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for i := range uint64(3 * senders) {
		if err := l.Take("web", i+1, 1, now); err != nil {
			t.Fatal(err)
		}
	}
	if n := l.senders.Len(); n != senders {
		t.Errorf("%d are remembered", n)
	}
}

// crowd is a listener to which given addresses connect.
type crowd struct{ conns chan net.Conn }

func (c crowd) Accept() (net.Conn, error) { return <-c.conns, nil }
func (c crowd) Close() error              { return nil }
func (c crowd) Addr() net.Addr            { return &net.TCPAddr{} }

type guest struct {
	net.Conn
	from   string
	closed chan struct{}
}

func (g guest) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(g.from)) }
func (g guest) Close() error         { close(g.closed); return nil }

// TestShareOfAnAddress: one address has a quarter of the connections; a proxy
// and this machine have all.
func TestShareOfAnAddress(t *testing.T) {
	all := crowd{make(chan net.Conn, 100)}
	proxy := netip.MustParseAddr("10.0.0.1")
	l := Config{Connections: 16}.Listener(all, func(peer net.Addr) bool {
		return peer.(*net.TCPAddr).AddrPort().Addr().Unmap() == proxy
	})
	come := func(from string) guest {
		g := guest{from: from, closed: make(chan struct{})}
		all.conns <- g
		return g
	}
	accept := func(from string) net.Conn {
		t.Helper()
		conn, err := l.Accept()
		if err != nil || conn.RemoteAddr().String() != from {
			t.Fatalf("%v, %v, want %s", conn, err, from)
		}
		return conn
	}
	var open []net.Conn
	for i := range 4 {
		from := fmt.Sprintf("[2001:db8::%d]:1", i+1) // all of one network
		come(from)
		open = append(open, accept(from))
	}
	refused := come("[2001:db8::ffff]:1")
	come("[2001:db8:0:1::1]:1")
	open = append(open, accept("[2001:db8:0:1::1]:1"))
	<-refused.closed
	for range 6 {
		come("10.0.0.1:1")
		open = append(open, accept("10.0.0.1:1"))
	}
	for range 5 {
		come("127.0.0.1:1")
		open = append(open, accept("127.0.0.1:1"))
	}
	// There are 16 now. One that ends makes place, also for its own address.
	if err := open[0].Close(); err != nil {
		t.Fatal(err)
	}
	come("[2001:db8::5]:1")
	open[0] = accept("[2001:db8::5]:1")
	for _, conn := range open {
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
	}
	inner := l.(*listener)
	if len(inner.of) != 0 || len(inner.places) != 0 {
		t.Errorf("%d addresses and %d places are still counted", len(inner.of), len(inner.places))
	}
}
