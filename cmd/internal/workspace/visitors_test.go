package workspace

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/collector/limit"
)

// TestVisitors: who is believed and what may be spent are checked, and a mistake
// is told with file and line.
func TestVisitors(t *testing.T) {
	const base = "workspace: shop\nsources:\n  - id: web\n    write_key: wk\n"
	for text, want := range map[string]string{
		"trusted_proxies: [10.0.0.0/8, 127.0.0.1, '::1', unix]":               "",
		"trusted_proxies:\n  - 10.0.0.0/8\n  - nginx":                         `:7: trusted_proxies.1: "nginx" is not an address`,
		"trusted_proxies: ['']":                                               ":5: trusted_proxies.0: ",
		"forwarded_header: forwarded":                                         "",
		"forwarded_header: True-Client-IP":                                    `:5: forwarded_header: "True-Client-IP" is not one of`,
		"region_header: X-Region":                                             ":5: region_header: is only believed from a proxy",
		"region_header: X-Region\ntrusted_proxies: [unix]":                    "",
		"geo: {file: a.mmdb}":                                                 "",
		"geo: {fiel: a.mmdb}":                                                 `:5: unknown key "fiel"`,
		"limits: {events_per_address: 0.5}":                                   ":5: limits.events_per_address: must be at least 1 event a second",
		"limits: {events_per_address: -2}":                                    ":5: limits.events_per_address: must be",
		"limits:\n  requests: 1":                                              ":6: limits.requests: must be at least 16",
		"limits: {body_bytes: 1MiB}":                                          ":5: limits.body_bytes: must be at least 4MiB",
		"limits: {connections: 1}":                                            ":5: limits.connections: must be at least 64",
		"limits: {time: 10ms}":                                                ":5: limits.time: must be at least 1s",
		"limits: {time: 1s, requests: 16, connections: 64, body_bytes: 4MiB}": "",
		"    bots: block":                                                     ":5: sources.0.bots: must be flag",
		"    bots: drop":                                                      "",
		"    limits: {events: -1}":                                            ":5: sources.0.limits.events: must be at least 1",
		"    limits: {events_per_address: -2}":                                ":5: sources.0.limits.events_per_address: must be at least 1",
		"    limits: {per_address: 2}":                                        `:5: unknown key "per_address"`,
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, File), []byte(base+text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(dir)
		switch {
		case want != "" && (err == nil || !strings.Contains(err.Error(), File+want)):
			t.Errorf("%q\n got %v\nwant %s", text, err, want)
		case want == "" && err != nil:
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestRates: a source has its own bounds, or those of all.
func TestRates(t *testing.T) {
	for text, want := range map[string]limit.Rate{
		"": {Address: 2000},
		"    limits: {events: 500, events_per_address: 7}":                       {Source: 500, Address: 7},
		"    limits: {events_per_address: -1}":                                   {},
		"limits: {events_per_address: 30}":                                       {Address: 30},
		"limits: {events_per_address: -1}":                                       {},
		"    limits: {events_per_address: -1}\nlimits: {events_per_address: 30}": {},
		"    limits: {events_per_address: 7}\nlimits: {events_per_address: -1}":  {Address: 7},
		"    limits: {events: 5}\nlimits: {events_per_address: 30}":              {Source: 5, Address: 30},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, File), []byte("workspace: shop\nsources:\n  - id: web\n    write_key: wk\n    bots: drop\n"+text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		w, err := Open(dir)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if s := w.CollectorSources()[0]; s.Rate != want || s.Bots != collector.DropBots {
			t.Errorf("%q: %+v, want %+v", text, s, want)
		}
	}
}

// TestVisitorsOfAWorkspace: what the file says reaches those that go by it.
func TestVisitorsOfAWorkspace(t *testing.T) {
	dir := t.TempDir()
	write := func(text string) *Workspace {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, File), []byte("workspace: shop\nsources: [{id: web, write_key: wk}]\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
		w, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	w := write("trusted_proxies: [10.0.0.0/8]\nforwarded_header: X-Real-IP\nregion_header: X-Region\nlimits: {requests: 20, body_bytes: 5MiB, connections: 70, time: 3s}\n")
	if got, want := w.Limits.Server(), (limit.Config{Requests: 20, Bytes: 5 << 20, Connections: 70, Time: 3 * time.Second}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	o, err := w.Visitors()
	if err != nil {
		t.Fatal(err)
	}
	v := o.Observe(&http.Request{RemoteAddr: "10.0.0.1:1", Header: http.Header{"X-Real-Ip": {"203.0.113.9"}, "X-Region": {"us-ca"}}})
	if v.Network.String() != "203.0.113.0/24" || v.Region != "US-CA" {
		t.Errorf("%+v", v)
	}
	if _, err := write("geo: {file: none.mmdb}\n").Visitors(); err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "none.mmdb")) || !strings.Contains(err.Error(), "correct geo.file in sluis.yaml") {
		t.Errorf("a file that is not there: %v", err)
	}
}
