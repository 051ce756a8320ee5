package workspace

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func openText(t *testing.T, dir, text string) (*Workspace, error) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, File), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Open(dir)
}

// TestOperationsErrors: each mistake is told with file and line.
func TestOperationsErrors(t *testing.T) {
	const base = "workspace: shop\nsources: [{id: web, write_key: wk}]\n"
	for text, want := range map[string]string{
		"operations: {listen: here}":                       ":3: operations.listen: must be host:port",
		"operations:\n  max_lag: 10ms":                     ":4: operations.max_lag: must be at least 1s",
		"operations:\n  min_disk: 5GB":                     `:4: "5GB" is not a number of bytes`,
		"operations:\n  drain: 0s":                         ":4: operations.drain: drain must be longer than 0",
		"operations:\n  drain_delay: -1s\n  drain: 1s":     ":5: operations.drain: drain must be longer than 0",
		"operations:\n  drane: 1s":                         `:4: unknown key "drane"`,
		"tls:\n  certificate: c.pem":                       ":4: tls: a certificate and a key are needed",
		"log: {format: yaml}":                              ":3: log.format: must be text or json",
		"log:\n  level: loud":                              `:4: "loud" is not a level: write debug, info, warn or error`,
		"operations: {listen: ''}":                         "",
		"log: {format: json, level: warn}":                 "",
		"operations: {min_disk: 0, drain_delay: 5s}":       "",
		"tls: {certificate: not-read-here, key: nor-this}": "",
	} {
		_, err := openText(t, t.TempDir(), base+text+"\n")
		switch {
		case want == "" && err != nil:
			t.Errorf("%q: %v", text, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), File+want)):
			t.Errorf("%q\n got %v\nwant %s", text, err, want)
		}
	}
}

// TestFixedSince: whatever is not said to be fixed may change, and each path
// that is said to be fixed is one of the configuration.
func TestFixedSince(t *testing.T) {
	dir := t.TempDir()
	const base = "workspace: shop\nsources: [{id: web, write_key: wk}]\n"
	before, err := openText(t, dir, base)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		base: "",
		base + "phone_region: NL\ntrusted_proxies: [127.0.0.1]\nregion_header: X-R\nlimits: {events_per_address: 5}\nconsent: {version: '2'}\noperations: {max_lag: 1m, drain: 1s, min_disk: 0}\n": "",
		"workspace: shop\nsources: [{id: app, write_key: other, origins: ['*'], denied: drop}]\n":                                                                                                  "",
		base + "warehouse: {threads: 3}\n":                          ":3: warehouse: cannot be changed",
		base + "warehouse: {bigquery: {project: p, location: l}}\n": ":3: warehouse: cannot be changed",
		base + "schedule: {every: 31s}\n":                           ":3: schedule: cannot be changed",
		base + "models: m\nsyncs: s\n":                              ":4: syncs: cannot be changed",
		base + "tls: {certificate: c, key: k}\n":                    ":3: tls: cannot be switched on or off",
	} {
		now, err := openText(t, dir, text)
		if err != nil {
			t.Fatal(err)
		}
		err = errors.Join(now.FixedSince(before)...)
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), File+want) {
			t.Errorf("%q\n got %v\nwant %s", text, err, want)
		}
	}
	for _, key := range fixed {
		if v := value(before.Config, strings.Split(key, ".")); reflect.TypeOf(v) == reflect.TypeFor[Config]() {
			t.Errorf("there is no key %s", key)
		}
	}
}

// TestFixedLanding: by which way a source's events land is fixed when the sink
// is opened, and nothing else of a source is.
func TestFixedLanding(t *testing.T) {
	dir := t.TempDir()
	text := func(sources string) string {
		return "workspace: shop\nsources: [" + sources + "]\nwarehouse: {bigquery: {project: p, location: EU}}\n"
	}
	before, err := openText(t, dir, text("{id: a, write_key: a, landing: load}, {id: b, write_key: b}"))
	if err != nil {
		t.Fatal(err)
	}
	for sources, fixed := range map[string]bool{
		"{id: b, write_key: b2, landing: stream}, {id: a, write_key: a2, landing: load}, {id: c, write_key: c}": false,
		"{id: a, write_key: a}, {id: b, write_key: b}":                                                          true,
		"{id: a, write_key: a, landing: load}, {id: b, write_key: b, landing: load}":                            true,
	} {
		now, err := openText(t, dir, text(sources))
		if err != nil {
			t.Fatal(err)
		}
		if problems := now.FixedSince(before); (len(problems) > 0) != fixed {
			t.Errorf("%s: %v", sources, problems)
		}
	}
}
