package edge

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
)

// TestReloadUnderLoad: while requests come in, the configuration changes again
// and again. Each request is answered with 200, and each event lands once.
func TestReloadUnderLoad(t *testing.T) {
	e := start(t, base)
	const senders, each = 8, 60
	var sending sync.WaitGroup
	for s := range senders {
		sending.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for n := range each {
				if status, answer := send(t, client, e.URL()+"/v1/track", "wk_web", track(fmt.Sprintf("m-%d-%d", s, n))); status != http.StatusOK || strings.Contains(answer, "notLanded") {
					t.Errorf("%d %s", status, answer)
				}
			}
		})
	}
	sent := make(chan struct{})
	go func() { sending.Wait(); close(sent) }()
	reloads := 0
	for done := false; !done; reloads++ {
		e.configureAs(base + fmt.Sprintf("  - {id: app, write_key: wk_%d}\n", reloads))
		if err := e.Reload(t.Context()); err != nil {
			t.Error(err)
		}
		if status, answer := e.post(fmt.Sprintf("wk_%d", reloads), track(fmt.Sprintf("r-%d", reloads))); status != http.StatusOK {
			t.Errorf("the new source: %d %s", status, answer)
		}
		if status, _ := e.post(fmt.Sprintf("wk_%d", reloads-1), track("x")); status != http.StatusUnauthorized {
			t.Errorf("the source before: %d", status)
		}
		select {
		case <-sent:
			done = true
		default:
		}
	}
	if err := e.Drain(); err != nil {
		t.Fatal(err)
	}
	ids := landed(t, e.dir)
	if len(ids) != senders*each+reloads {
		t.Errorf("%d events landed of %d, over %d reloads", len(ids), senders*each+reloads, reloads)
	}
	for id, n := range ids {
		if n != 1 {
			t.Errorf("%s landed %d times", id, n)
		}
	}
}

// TestReloadRemembers: what was kept before a reload is a duplicate after it.
func TestReloadRemembers(t *testing.T) {
	e := start(t, base)
	if status, answer := e.post("wk_web", track("m-1")); status != http.StatusOK || strings.Contains(answer, "duplicate") {
		t.Fatalf("%d %s", status, answer)
	}
	e.configureAs(base + "phone_region: NL\nconsent: {seal_for: [marketing]}\n")
	if err := e.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, answer := e.post("wk_web", track("m-1")); !strings.Contains(answer, "duplicate") {
		t.Errorf("again: %s", answer)
	}
}

// TestReloadRefuses: with a mistake, or what takes a restart, all stays as it
// was, and each reason has its line.
func TestReloadRefuses(t *testing.T) {
	e := start(t, base)
	plan := filepath.Join(e.dir, "plan.yaml")
	write(t, plan, "version: 1\nevents:\n  - {name: X, type: tracked}\n")
	change := func(from, to string) string { return strings.Replace(base, from, to, 1) }
	for name, tt := range map[string]struct {
		config string
		want   []string
	}{
		"unknown key":    {base + "sorces: []\n", []string{`sluis.yaml:7: unknown key "sorces"`}},
		"no YAML":        {base + "a: [", []string{"sluis.yaml: "}},
		"bad value":      {base + "spool: {max_bytes: 1}\n", []string{"sluis.yaml:7: spool.max_bytes: must be at least"}},
		"tracking plan":  {change("wk_web", "wk_web, tracking_plan: plan.yaml"), []string{"plan.yaml:3: events.0.type: unknown event type"}},
		"key is missing": {base + "consent: {purposes: [fun], seal_for: [fun]}\n", []string{"purpose-fun.public"}},
		"certificate":    {base + "tls: {certificate: none.pem, key: none.pem}\n", []string{"sluis.yaml:7: tls: cannot be switched on or off"}},
		"name":           {change("shop", "other"), []string{"sluis.yaml:1: workspace: cannot be changed while the collector runs"}},
		"several": {
			change("127.0.0.1:0", "127.0.0.1:1") + "data: elsewhere\nkeys: others\nspool: {max_bytes: 1073741824}\nlog: {level: debug}\n",
			[]string{"sluis.yaml:2: listen: cannot", "sluis.yaml:7: data: cannot", "sluis.yaml:8: keys: cannot", "sluis.yaml:9: spool: cannot", "sluis.yaml:10: log: cannot"},
		},
		"operations": {strings.Replace(base, "  listen: 127.0.0.1:0", "  listen: 127.0.0.1:1", 1), []string{"sluis.yaml:4: operations.listen: cannot"}},
		"removed":    {"", []string{"sluis.yaml:1: workspace: must be"}},
	} {
		t.Run(name, func(t *testing.T) {
			e.configureAs(tt.config)
			before := e.workspace.Load()
			err := e.Reload(t.Context())
			if err == nil {
				t.Fatal("it was taken")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v\nwant %s", err, want)
				}
			}
			if e.workspace.Load() != before {
				t.Error("the workspace was changed")
			}
			if status, answer := e.post("wk_web", track(name)); status != http.StatusOK {
				t.Errorf("the source as it was: %d %s", status, answer)
			}
		})
	}
	if err := os.Remove(filepath.Join(e.dir, workspace.File)); err != nil {
		t.Fatal(err)
	}
	e.reloaded(t.Context())
	if log := e.log.String(); !strings.Contains(log, "the configuration was not changed") {
		t.Errorf("the log is %s", log)
	}
	if _, text := get(t, e.OperationsURL()+"/metrics"); !strings.Contains(text, `sluis_config_reloads_total{outcome="failed"} 11`) {
		t.Error("the failed reloads are not counted")
	}
}
