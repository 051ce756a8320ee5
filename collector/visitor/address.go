package visitor

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Unix, in a list of proxies, is whoever connects to a Unix socket.
const Unix = "unix"

// Proxies are the peers that are believed about whom they speak for. The zero
// value trusts nobody.
type Proxies struct {
	prefixes []netip.Prefix
	unix     bool
	header   string
}

// The headers in which a proxy may tell the address. Only one of them is read:
// a proxy sets the one that it knows, and passes on what the client wrote into
// the others.
const (
	ForwardedFor = "X-Forwarded-For"
	Forwarded    = "Forwarded" // RFC 7239
	RealIP       = "X-Real-Ip"
)

// ParseProxies reads addresses, networks such as 10.0.0.0/8, and [Unix]. header
// is that in which they tell the address; empty means X-Forwarded-For.
func ParseProxies(list []string, header string) (Proxies, error) {
	p := Proxies{header: ForwardedFor}
	if header != "" {
		p.header = http.CanonicalHeaderKey(header)
	}
	if !slices.Contains([]string{ForwardedFor, Forwarded, RealIP}, p.header) {
		return Proxies{}, fmt.Errorf("%q is not one of X-Forwarded-For, Forwarded and X-Real-IP", header)
	}
	for _, text := range list {
		if text == Unix {
			p.unix = true
			continue
		}
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			var a netip.Addr
			if a, err = netip.ParseAddr(text); err != nil || a.Zone() != "" {
				return Proxies{}, fmt.Errorf("%q is not an address, a network such as 10.0.0.0/8, or unix", text)
			}
			prefix = netip.PrefixFrom(a, a.BitLen())
		}
		if prefix.Addr().Is4In6() {
			return Proxies{}, fmt.Errorf("%q must be written as the IPv4 address that it is", text)
		}
		p.prefixes = append(p.prefixes, prefix.Masked())
	}
	return p, nil
}

// Trusted tells whether connections from an address are a proxy's.
func (p Proxies) Trusted(peer net.Addr) bool {
	return p.trustsPeer(peer.String())
}

func (p Proxies) trustsPeer(peer string) bool {
	a, ok := hop(peer)
	if !ok {
		return p.unix && isUnix(peer)
	}
	return p.trusts(a)
}

// isUnix: the peer of a Unix socket has a path, or no name at all.
func isUnix(peer string) bool { return peer == "" || peer[0] == '@' || peer[0] == '/' }

func (p Proxies) trusts(a netip.Addr) bool {
	return slices.ContainsFunc(p.prefixes, func(prefix netip.Prefix) bool { return prefix.Contains(a) })
}

// client is the address of who sends a request, zero if unknown; peer tells
// whether the connection is a trusted proxy's. Each proxy appends whom it has
// the request from, so the client is the last one in the header that is not
// itself trusted: what stands before it, the client may have written. A header
// that cannot be read says nothing: the address is then the connection's.
func (p Proxies) client(r *http.Request) (address netip.Addr, peer bool) {
	address, _ = hop(r.RemoteAddr)
	if !p.trustsPeer(r.RemoteAddr) {
		return address, false
	}
	hops, ok := p.hops(r.Header)
	if !ok {
		return address, true
	}
	for _, text := range slices.Backward(hops) {
		a, ok := hop(text)
		if !ok {
			connection, _ := hop(r.RemoteAddr)
			return connection, true
		}
		if address = a; !p.trusts(a) {
			break
		}
	}
	return address, true
}

// hops are the addresses in the header, the nearest last.
func (p Proxies) hops(h http.Header) (hops []string, ok bool) {
	values := h.Values(p.header)
	switch p.header {
	case RealIP:
		return values, len(values) <= 1
	case Forwarded:
		for _, element := range elements(values) {
			from, ok := parameter(element, "for")
			if !ok {
				return nil, false
			}
			hops = append(hops, from)
		}
		return hops, true
	default:
		return split(strings.Join(values, ","), ','), true
	}
}

// secure tells what a trusted proxy says of the protocol that it was asked
// with: the last, since what stands before it the client may have written.
func (p Proxies) secure(r *http.Request) bool {
	protocols := split(strings.Join(r.Header.Values("X-Forwarded-Proto"), ","), ',')
	if p.header == Forwarded {
		protocols = nil
		for _, element := range elements(r.Header.Values(Forwarded)) {
			if protocol, ok := parameter(element, "proto"); ok {
				protocols = append(protocols, protocol)
			}
		}
	}
	return len(protocols) > 0 && strings.EqualFold(strings.TrimSpace(protocols[len(protocols)-1]), "https")
}

// elements splits a Forwarded header at commas.
func elements(values []string) []string { return split(strings.Join(values, ","), ',') }

// parameter finds a parameter of an element of a Forwarded header, unquoted.
func parameter(element, name string) (value string, ok bool) {
	for _, pair := range split(element, ';') {
		key, value, found := strings.Cut(strings.TrimSpace(pair), "=")
		if !found || !strings.EqualFold(key, name) {
			continue
		}
		if unquoted, ok := strings.CutPrefix(value, `"`); ok {
			unquoted, ok = strings.CutSuffix(unquoted, `"`)
			return unquoted, ok
		}
		return value, true
	}
	return "", false
}

// split splits at a separator that is in no quotes. Of an empty text there are
// no parts.
func split(text string, separator byte) (parts []string) {
	if text == "" {
		return nil
	}
	start, quoted := 0, false
	for i := range len(text) {
		switch {
		case text[i] == '"':
			quoted = !quoted
		case text[i] == separator && !quoted:
			parts = append(parts, text[start:i])
			start = i + 1
		}
	}
	return append(parts, text[start:])
}

// hop reads an address as it stands in headers: also with a port, also an IPv6
// one in brackets. One of IPv4 written as IPv6 becomes what it is.
func hop(text string) (netip.Addr, bool) {
	text = strings.TrimSpace(text)
	if withPort, err := netip.ParseAddrPort(text); err == nil {
		return withPort.Addr().WithZone("").Unmap(), true
	}
	if inner, ok := strings.CutPrefix(text, "["); ok {
		if text, ok = strings.CutSuffix(inner, "]"); !ok || !strings.Contains(text, ":") {
			return netip.Addr{}, false
		}
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}, false
	}
	return a.WithZone("").Unmap(), true
}
