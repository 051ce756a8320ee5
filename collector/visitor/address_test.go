package visitor

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

func proxies(t testing.TB, header string, list ...string) Proxies {
	t.Helper()
	p, err := ParseProxies(list, header)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestClient: the address is the last that is not a trusted proxy's, and no
// header is believed that a client could have written.
func TestClient(t *testing.T) {
	const inner, outer, client, forged = "10.0.0.7", "10.1.0.9", "203.0.113.50", "198.51.100.66"
	xff := func(values ...string) http.Header { return http.Header{"X-Forwarded-For": values} }
	for _, test := range []struct {
		name    string
		proxies Proxies
		peer    string
		header  http.Header
		want    string // empty for unknown
	}{
		{"no proxy", proxies(t, ""), client + ":4711", nil, client},
		{"a client that claims to be another", proxies(t, ""), client + ":4711", xff(forged), client},
		{"the same where there is a proxy elsewhere", proxies(t, "", "10.0.0.0/8"), client + ":4711", xff(forged), client},
		{"one proxy", proxies(t, "", "10.0.0.0/8"), inner + ":80", xff(client), client},
		{"one proxy, and a client that claims to be another", proxies(t, "", "10.0.0.0/8"), inner + ":80", xff(forged + ", " + client), client},
		{"in two header lines", proxies(t, "", "10.0.0.0/8"), inner + ":80", xff(forged, client), client},
		{"two proxies", proxies(t, "", "10.0.0.0/8"), inner + ":80", xff(forged + ", " + client + ", " + outer), client},
		{"a client that claims to be a proxy", proxies(t, "", "10.0.0.0/8"), inner + ":80", xff(forged + ", " + outer + ", " + client), client},
		{"two proxies, of which one is trusted", proxies(t, "", inner), inner + ":80", xff(client + ", " + outer), outer},
		{"only proxies", proxies(t, "", "10.0.0.0/8"), inner + ":80", xff(outer), outer},
		{"a proxy that says nothing", proxies(t, "", "10.0.0.0/8"), inner + ":80", nil, inner},
		{"a header of nothing", proxies(t, "", "10.0.0.0/8"), inner + ":80", xff(""), inner},
		{"rubbish", proxies(t, "", "10.0.0.0/8"), inner + ":80", xff("unknown"), inner},
		{"rubbish behind a proxy", proxies(t, "", "10.0.0.0/8"), inner + ":80", xff(client + ", ?, " + outer), inner},
		{"rubbish before the client", proxies(t, "", "10.0.0.0/8"), inner + ":80", xff("'; drop table, " + client), client},
		{"a comma too many", proxies(t, "", "10.0.0.0/8"), inner + ":80", xff(client + ","), inner},
		{"with a port", proxies(t, "", "10.0.0.0/8"), inner + ":80", xff(client + ":12345"), client},
		{"IPv6", proxies(t, "", "10.0.0.0/8"), inner + ":80", xff("2001:db8::1"), "2001:db8::1"},
		{"IPv6 in brackets", proxies(t, "", "10.0.0.0/8"), inner + ":80", xff("[2001:db8::1]"), "2001:db8::1"},
		{"IPv6 with a port", proxies(t, "", "10.0.0.0/8"), inner + ":80", xff("[2001:db8::1]:443"), "2001:db8::1"},
		{"IPv6 with a zone", proxies(t, "", "fe80::/10"), "[fe80::1%eth0]:80", xff(client), client},
		{"IPv4 in brackets", proxies(t, "", "10.0.0.0/8"), inner + ":80", xff("[" + client + "]"), inner},
		{"IPv4 as IPv6", proxies(t, "", "10.0.0.0/8"), "[::ffff:" + inner + "]:80", xff("::ffff:" + client), client},
		{"octal digits", proxies(t, "", "10.0.0.0/8"), inner + ":80", xff("0203.0.113.50"), inner},
		{"a name", proxies(t, "", "10.0.0.0/8"), inner + ":80", xff("localhost"), inner},
		{"this machine is not trusted by itself", proxies(t, "", "10.0.0.0/8"), "127.0.0.1:80", xff(client), "127.0.0.1"},
		{"a proxy on this machine", proxies(t, "", "127.0.0.1", "::1"), "[::1]:80", xff(client), client},
		{"a Unix socket", proxies(t, "", Unix), "@", xff(client), client},
		{"a Unix socket that says nothing", proxies(t, "", Unix), "@", nil, ""},
		{"a Unix socket that is not trusted", proxies(t, "", "10.0.0.0/8"), "@", xff(client), ""},
		{"a header that is not the proxy's", proxies(t, "", "10.0.0.0/8"), inner + ":80", http.Header{"X-Real-Ip": {forged}, "Forwarded": {"for=" + forged}, "True-Client-Ip": {forged}}, inner},
		{"X-Real-IP", proxies(t, "x-real-ip", "10.0.0.0/8"), inner + ":80", http.Header{"X-Real-Ip": {client}, "X-Forwarded-For": {forged}}, client},
		{"X-Real-IP of a client", proxies(t, "x-real-ip", "10.0.0.0/8"), client + ":80", http.Header{"X-Real-Ip": {forged}}, client},
		{"two of X-Real-IP", proxies(t, "x-real-ip", "10.0.0.0/8"), inner + ":80", http.Header{"X-Real-Ip": {forged, client}}, inner},
		{"Forwarded", proxies(t, "forwarded", "10.0.0.0/8"), inner + ":80", http.Header{"Forwarded": {"for=" + forged + ";proto=http, for=" + client + ";proto=https"}, "X-Forwarded-For": {forged}}, client},
		{"Forwarded, IPv6", proxies(t, "forwarded", "10.0.0.0/8"), inner + ":80", http.Header{"Forwarded": {`proto=https; For="[2001:db8::1]:4711"`}}, "2001:db8::1"},
		{"Forwarded with a comma in quotes", proxies(t, "forwarded", "10.0.0.0/8"), inner + ":80", http.Header{"Forwarded": {`host="a,for=` + forged + `";for=` + client}}, client},
		{"Forwarded that hides", proxies(t, "forwarded", "10.0.0.0/8"), inner + ":80", http.Header{"Forwarded": {"for=_secret"}}, inner},
		{"Forwarded without for", proxies(t, "forwarded", "10.0.0.0/8"), inner + ":80", http.Header{"Forwarded": {"for=" + forged + ", by=" + outer}}, inner},
		{"Forwarded with an open quote", proxies(t, "forwarded", "10.0.0.0/8"), inner + ":80", http.Header{"Forwarded": {`for="` + client}}, inner},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, _ := test.proxies.client(&http.Request{RemoteAddr: test.peer, Header: test.header})
			want, _ := netip.ParseAddr(test.want)
			if got != want {
				t.Errorf("%v, want %v", got, want)
			}
		})
	}
}

// TestHostileHeaders: any header is read in time and memory that its length
// bounds.
func TestHostileHeaders(t *testing.T) {
	for _, value := range []string{strings.Repeat(",", 30_000), strings.Repeat("10.0.0.1,", 3_000), strings.Repeat(`"`, 30_001), strings.Repeat("for=\"", 6_000), "\x00\xff"} {
		for _, header := range []string{ForwardedFor, Forwarded, RealIP} {
			p := proxies(t, header, "10.0.0.0/8")
			p.client(&http.Request{RemoteAddr: "10.0.0.1:1", Header: http.Header{header: {value}}})
		}
	}
}

func TestSecure(t *testing.T) {
	trusting := proxies(t, "", "10.0.0.0/8")
	for _, test := range []struct {
		name    string
		proxies Proxies
		request http.Request
		want    bool
	}{
		{"plain", Proxies{}, http.Request{RemoteAddr: "10.0.0.1:1"}, false},
		{"TLS", Proxies{}, http.Request{RemoteAddr: "192.0.2.1:1", TLS: &tls.ConnectionState{}}, true},
		{"a client's word", trusting, http.Request{RemoteAddr: "192.0.2.1:1", Header: http.Header{"X-Forwarded-Proto": {"https"}}}, false},
		{"a proxy's word", trusting, http.Request{RemoteAddr: "10.0.0.1:1", Header: http.Header{"X-Forwarded-Proto": {"HTTPS"}}}, true},
		{"a proxy's word after a client's", trusting, http.Request{RemoteAddr: "10.0.0.1:1", Header: http.Header{"X-Forwarded-Proto": {"https, http"}}}, false},
		{"Forwarded", proxies(t, "forwarded", "10.0.0.0/8"), http.Request{RemoteAddr: "10.0.0.1:1", Header: http.Header{"Forwarded": {"for=192.0.2.1;proto=https"}}}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			o, err := New(Config{Proxies: test.proxies})
			if err != nil {
				t.Fatal(err)
			}
			if test.request.Header == nil {
				test.request.Header = http.Header{}
			}
			if got := o.Observe(&test.request).Secure; got != test.want {
				t.Error(got)
			}
		})
	}
}

// TestAddressIsCut: what leaves is a network, and a digest that tells senders
// apart and is another in each process.
func TestAddressIsCut(t *testing.T) {
	observe := func(o *Observer, peer string) Visitor {
		return o.Observe(&http.Request{RemoteAddr: net.JoinHostPort(peer, "1"), Header: http.Header{}})
	}
	o := newObserver(t)
	for peer, want := range map[string]string{
		"203.0.113.50": "203.0.113.0/24", "2001:db8:1:2:3:4:5:6": "2001:db8:1::/48", "::ffff:203.0.113.50": "203.0.113.0/24",
	} {
		if got := observe(o, peer).Network.String(); got != want {
			t.Errorf("%s: %s, want %s", peer, got, want)
		}
	}
	sender := func(peer string) uint64 { return observe(o, peer).Sender }
	if sender("203.0.113.50") != sender("::ffff:203.0.113.50") || sender("203.0.113.50") == sender("203.0.113.51") {
		t.Error("IPv4 addresses are not told apart")
	}
	if sender("2001:db8::1") != sender("2001:db8::ffff:1") || sender("2001:db8::1") == sender("2001:db8:0:1::1") {
		t.Error("IPv6 networks of 64 bits are not told apart")
	}
	if sender("203.0.113.50") == observe(newObserver(t), "203.0.113.50").Sender {
		t.Error("the digest is the same in another process")
	}
	if sender("127.0.0.1") != 0 || sender("::1") != 0 {
		t.Error("this machine counts as one sender")
	}
}

// TestSilentProxy: a trusted proxy that does not say for whom it speaks is not
// one sender, or all of its visitors would be.
func TestSilentProxy(t *testing.T) {
	o, err := New(Config{Proxies: proxies(t, "", "10.0.0.0/8", Unix)})
	if err != nil {
		t.Fatal(err)
	}
	for _, peer := range []string{"10.0.0.1:1", "@"} {
		if v := o.Observe(&http.Request{RemoteAddr: peer, Header: http.Header{}}); v.Sender != 0 {
			t.Errorf("%s: %+v", peer, v)
		}
	}
}

func TestParseProxies(t *testing.T) {
	for _, bad := range []string{"", "10.0.0.0/33", "nginx", "10.0.0.0/8,", "fe80::1%eth0", "::ffff:10.0.0.0/104"} {
		if _, err := ParseProxies([]string{bad}, ""); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
	if _, err := ParseProxies(nil, "True-Client-IP"); err == nil {
		t.Error("an unknown header is accepted")
	}
	if _, err := New(Config{RegionHeader: "X-Region"}); err == nil {
		t.Error("a region header without a proxy is accepted")
	}
}
