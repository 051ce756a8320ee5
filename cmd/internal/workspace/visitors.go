package workspace

import (
	"fmt"
	"time"

	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/collector/limit"
	"github.com/sluis-cdp/sluis/collector/visitor"
)

// Geo names a file that tells where addresses are.
type Geo struct {
	File string `yaml:"file"`
}

// Limits bounds what clients can make the collector spend; zero is the default,
// where it says nothing else.
type Limits struct {
	// EventsPerAddress are those that one address may send to a source in a second;
	// -1 is no bound.
	EventsPerAddress float64       `yaml:"events_per_address"`
	Requests         int           `yaml:"requests"`
	BodyBytes        Bytes         `yaml:"body_bytes"`
	Connections      int           `yaml:"connections"`
	Time             time.Duration `yaml:"time"`
}

// defaultPerAddress is far above what people behind one address send, also
// where a mobile network puts thousands behind it.
const defaultPerAddress = 2000

// Server bounds the collector's server.
func (l Limits) Server() limit.Config {
	return limit.Config{Requests: l.Requests, Bytes: int64(l.BodyBytes), Connections: l.Connections, Time: l.Time}
}

// SourceLimits bounds the events of one source.
type SourceLimits struct {
	// Events are those of a second from all together; 0 is no bound.
	Events float64 `yaml:"events"`
	// EventsPerAddress stands before that of all sources: 0 takes it from there.
	EventsPerAddress float64 `yaml:"events_per_address"`
}

// rate is what bounds a source.
func (w *Workspace) rate(s SourceLimits) limit.Rate {
	r := limit.Rate{Source: s.Events, Address: defaultPerAddress}
	for _, of := range []float64{w.Limits.EventsPerAddress, s.EventsPerAddress} {
		if of != 0 {
			r.Address = max(of, 0)
		}
	}
	return r
}

// checkVisitors looks at what is said of who sends, and how much.
func (w *Workspace) checkVisitors(doc *document) {
	if w.Geo.File != "" {
		w.Geo.File = w.Path(w.Geo.File)
	}
	if w.RegionHeader != "" && len(w.TrustedProxies) == 0 {
		doc.report("region_header", "is only believed from a proxy: name it in trusted_proxies, or remove this")
	}
	if _, err := visitor.ParseProxies(nil, w.ForwardedHeader); err != nil {
		doc.report("forwarded_header", "%v", err)
	}
	for i, proxy := range w.TrustedProxies {
		if _, err := visitor.ParseProxies([]string{proxy}, ""); err != nil {
			doc.report(fmt.Sprintf("trusted_proxies.%d", i), "%v", err)
		}
	}
	l := w.Limits
	switch {
	case !perSecond(l.EventsPerAddress):
		doc.report("limits.events_per_address", perSecondRule)
	case l.Requests < 0 || l.Requests > 0 && l.Requests < 16:
		doc.report("limits.requests", "must be at least 16")
	case l.BodyBytes < 0 || l.BodyBytes > 0 && l.BodyBytes < 4<<20:
		doc.report("limits.body_bytes", "must be at least 4MiB: a batch may have 500 KB, sent and once more decompressed")
	case l.Connections < 0 || l.Connections > 0 && l.Connections < 64:
		doc.report("limits.connections", "must be at least 64")
	case l.Time < 0 || l.Time > 0 && l.Time < time.Second:
		doc.report("limits.time", "must be at least 1s")
	}
	for i, s := range w.Sources {
		at := fmt.Sprintf("sources.%d", i)
		if s.Bots != "" && s.Bots != collector.FlagBots && s.Bots != collector.DropBots {
			doc.report(at+".bots", "must be flag (they land, marked) or drop (only the ledger knows)")
		}
		if s.Limits.Events != 0 && s.Limits.Events < 1 {
			doc.report(at+".limits.events", "must be at least 1 event a second, or 0 for no bound")
		}
		if !perSecond(s.Limits.EventsPerAddress) {
			doc.report(at+".limits.events_per_address", perSecondRule)
		}
	}
}

const perSecondRule = "must be at least 1 event a second, 0 for what is usual, or -1 for no bound"

func perSecond(n float64) bool { return n == 0 || n == -1 || n >= 1 }

// Visitors tells the collector who sends.
func (w *Workspace) Visitors() (*visitor.Observer, error) {
	proxies, err := visitor.ParseProxies(w.TrustedProxies, w.ForwardedHeader)
	if err != nil {
		return nil, err
	}
	config := visitor.Config{Proxies: proxies, RegionHeader: w.RegionHeader}
	if w.Geo.File != "" {
		if config.Regions, err = visitor.OpenRegions(w.Geo.File); err != nil {
			return nil, fmt.Errorf("%w: correct geo.file in %s", err, File)
		}
	}
	return visitor.New(config)
}
