package webhook

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

// refusedAddressError says that the endpoint's name stands for an address that
// a webhook must not reach. It is an error of the whole batch, not a result:
// the rows are not to blame, and a person has to decide.
type refusedAddressError struct {
	address netip.Addr
}

func (e *refusedAddressError) Error() string {
	return fmt.Sprintf("the endpoint's address %s is not a public one; if it is meant to be inside the network, set allow_private to \"true\"", e.address)
}

// newClient returns a client that follows no redirect, uses no proxy and
// connects to public addresses only, unless the configuration says otherwise.
//
// The address is checked in the dialer's Control, that is after the name has
// been resolved and for the very address that is connected to, so a name that
// resolves differently the second time gains nothing.
func newClient(c config) *http.Client {
	dialer := &net.Dialer{
		Timeout: 10 * time.Second,
		Control: func(_, address string, _ syscall.RawConn) error {
			if c.allowPrivate {
				return nil
			}
			return checkAddress(address)
		},
	}
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext:            dialer.DialContext,
			ForceAttemptHTTP2:      true,
			TLSHandshakeTimeout:    10 * time.Second,
			IdleConnTimeout:        time.Minute,
			MaxResponseHeaderBytes: 64 << 10,
		},
	}
}

func checkAddress(address string) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("an address without a port: %w", err)
	}
	if ip := at.Addr().Unmap().WithZone(""); !public(ip) {
		return &refusedAddressError{address: ip}
	}
	return nil
}

func public(ip netip.Addr) bool {
	if !ip.IsGlobalUnicast() || ip.IsPrivate() {
		return false // also loopback, link-local, multicast, unspecified
	}
	for _, prefix := range reserved() {
		if prefix.Contains(ip) {
			return false
		}
	}
	return true
}

// reserved are the blocks, beside those that netip knows, that the IANA
// special-purpose registries set aside, and those that embed an IPv4 address
// that could be any.
func reserved() []netip.Prefix {
	const blocks = `
		0.0.0.0/8 100.64.0.0/10 192.0.0.0/24 192.0.2.0/24 192.88.99.0/24 198.18.0.0/15
		198.51.100.0/24 203.0.113.0/24 240.0.0.0/4
		::/96 64:ff9b::/96 64:ff9b:1::/48 100::/64 2001::/23 2001:db8::/32 2002::/16 3fff::/20
		5f00::/16 fec0::/10`
	var prefixes []netip.Prefix
	for block := range strings.FieldsSeq(blocks) {
		prefixes = append(prefixes, netip.MustParsePrefix(block))
	}
	return prefixes
}
