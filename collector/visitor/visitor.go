// Package visitor tells what is known of who sends a request, from what is
// around its body: the address, the region it is in, the class of the device,
// and whether a program rather than a person sends. It writes nothing, and of
// an address nothing leaves it but the network, cut short, and a digest that
// dies with the process.
package visitor

import (
	"errors"
	"fmt"
	"hash/maphash"
	"net/http"
	"net/netip"
	"strings"

	lru "github.com/hashicorp/golang-lru/v2"
)

// Config says what may be believed of a request. The zero value believes its
// connection, and no header that speaks of an address.
type Config struct {
	// Proxies may speak for others.
	Proxies Proxies
	// RegionHeader names a header in which they tell the visitor's region; empty
	// if they do not.
	RegionHeader string
	// Regions finds the region of a network that they say nothing of; may be nil.
	Regions *Regions
}

// Observer looks at requests. All its methods may be called concurrently.
type Observer struct {
	Config
	crawlers *crawlers
	seed     maphash.Seed
	agents   *lru.Cache[uint64, Agent] // by digest: the texts are not kept
}

// knownAgents is how many user agents are remembered. The most common of a
// busy site are some thousands.
const knownAgents = 1 << 13

// New returns an Observer.
func New(c Config) (*Observer, error) {
	if c.RegionHeader != "" && len(c.Proxies.prefixes) == 0 && !c.Proxies.unix {
		return nil, errors.New("visitor: a region header can only come from a trusted proxy, and there is none")
	}
	list, err := loadCrawlers()
	if err != nil {
		return nil, fmt.Errorf("visitor: reading the list of crawlers: %w", err)
	}
	agents, err := lru.New[uint64, Agent](knownAgents)
	return &Observer{Config: c, crawlers: list, seed: maphash.MakeSeed(), agents: agents}, err
}

// Visitor is what a request tells of its sender.
type Visitor struct {
	// Network is where the sender is: the address cut to 24 bits (IPv4) or 48
	// (IPv6). It is zero where the address is not known.
	Network netip.Prefix
	// Sender is a digest of what one sender can be told by, the IPv4 address or the
	// 64 bits of an IPv6 network; equal within the process and not beyond. It is
	// zero where the sender is not known: on this machine, and for a proxy that
	// does not say for whom it speaks.
	Sender uint64
	// Region is a country of ISO 3166-1, such as NL, or a part of it of ISO 3166-2,
	// such as US-CA; empty if not known.
	Region string
	// UserAgent is what the request says of the program that sends it.
	UserAgent string
	// Secure tells that the sender's own connection is encrypted.
	Secure bool

	page     bool   // the request says that a page sends it
	headless string // a reason that the headers give to take the sender for a program
}

// Observe looks at a request.
func (o *Observer) Observe(r *http.Request) Visitor {
	address, peer := o.Proxies.client(r)
	v := Visitor{
		Secure:    r.TLS != nil || peer && o.Proxies.secure(r),
		UserAgent: r.UserAgent(),
		page:      fromPage(r.Header),
		headless:  headless(r.Header),
	}
	if address.IsValid() {
		v.Network = network(address)
		if !address.IsLoopback() && !o.Proxies.trusts(address) {
			v.Sender = o.digest(address)
		}
	}
	if peer && o.RegionHeader != "" {
		v.Region = region(r.Header.Get(o.RegionHeader))
	}
	if v.Region == "" {
		v.Region = o.Regions.of(v.Network)
	}
	return v
}

// Place is the region of an address that the sender of an event tells of
// another, as a server does of its visitor; empty if it is not known. Whether the
// sender is to be believed is for the caller to know.
func (o *Observer) Place(address string) string {
	if o.Regions == nil || address == "" {
		return ""
	}
	a, err := netip.ParseAddr(address)
	if err != nil {
		return ""
	}
	return o.Regions.of(network(a.Unmap()))
}

// FromPage tells whether a browser says that a page made it send the request.
// What a page sends, its visitor can change.
func (v Visitor) FromPage() bool { return v.page }

// digest is never zero.
func (o *Observer) digest(a netip.Addr) uint64 {
	bits := 32
	if a.Is6() {
		bits = 64
	}
	one, _ := a.Prefix(bits) // never fails: the bits fit
	return maphash.Comparable(o.seed, one) | 1
}

// network is an address without what tells people in it apart. Of an
// unspecified one, which some programs write for an address that they hide,
// it is zero.
func network(a netip.Addr) netip.Prefix {
	if a.IsUnspecified() {
		return netip.Prefix{}
	}
	bits := 24
	if a.Is6() {
		bits = 48
	}
	p, _ := a.Prefix(bits) // never fails: the bits fit
	return p
}

// fromPage tells whether a browser says that a page made it send. Programs and
// servers have no reason to.
func fromPage(h http.Header) bool {
	return h.Get("Origin") != "" || h.Get("Sec-Fetch-Site") != ""
}

// headless looks for what a browser says of itself outside its user UserAgent: that
// nobody looks at the page (yet), or could.
//
// Not among it is a browser without Accept-Language, though programs that drive
// one may lack it: content delivery networks strip the header from everybody's
// requests, unless told not to.
func headless(h http.Header) string {
	for _, name := range []string{"Sec-Purpose", "Purpose", "X-Purpose", "X-Moz"} {
		purpose := strings.ToLower(h.Get(name))
		switch {
		case strings.Contains(purpose, "prerender"):
			return "prerender"
		case strings.Contains(purpose, "prefetch"), strings.Contains(purpose, "preview"):
			return "prefetch"
		}
	}
	if strings.Contains(h.Get("Sec-Ch-Ua"), "Headless") {
		return Headless + ": headlesschrome"
	}
	return ""
}
