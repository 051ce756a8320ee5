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
	"github.com/sluis-cdp/sluis/consent/seal"
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

// TestReloadTakesUpKeys: keys that were rotated, or made for a new purpose, are in
// use after a reload, and not before. What an earlier cookie key signed counts.
func TestReloadTakesUpKeys(t *testing.T) {
	e := start(t, base)
	folder := seal.OpenFolder(seal.Dir(filepath.Join(e.dir, "keys")), nil)
	reload := func() {
		t.Helper()
		if err := e.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	cookie := e.consentCookie(`{"purposes":{"analytics":true},"anonymousId":"a-1"}`)
	lands := func(id, cookie string) bool {
		t.Helper()
		answer := e.postWith(cookie, `{"event":"X","anonymousId":"a-1","messageId":"`+id+`"}`)
		return !strings.Contains(answer, "notLanded")
	}
	if !lands("m-1", cookie) || lands("m-2", "sluis_consent=x.y") {
		t.Fatal("a cookie does not say what it should")
	}

	sealer := e.sealer
	reload()
	if e.sealer != sealer {
		t.Error("data keys were given up without a reason")
	}
	if _, err := folder.RotatePurpose(t.Context(), "marketing"); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{seal.KeyCookie, seal.KeyEdge} {
		if _, err := folder.RotateSecret(t.Context(), secret); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := folder.Init(t.Context(), []string{"loyalty"}, seal.Secrets{}); err != nil {
		t.Fatal(err)
	}
	before, other := sealer.Recipient("marketing"), sealer.Recipient("advertising")
	e.configureAs(base + "consent: {purposes: [loyalty], seal_for: [marketing, advertising, loyalty]}\n")
	reload()
	if e.sealer.Recipient("marketing") == before || e.sealer.Recipient("advertising") != other || e.sealer.Recipient("loyalty") == "" {
		t.Error("the keys are not those that are in the folder")
	}
	if !lands("m-3", cookie) {
		t.Error("a cookie that the earlier key signed does not count")
	}
	fresh := e.consentCookie(`{"purposes":{"analytics":true},"anonymousId":"a-1"}`)
	if err := folder.Remove(seal.KeyCookie); err != nil {
		t.Fatal(err)
	}
	reload()
	if lands("m-4", cookie) || !lands("m-5", fresh) {
		t.Error("a cookie counts by a key that was destroyed, or not by the one in use")
	}
}

// consentCookie makes a choice and returns the cookie that it is kept in.
func (e *testEdge) consentCookie(choice string) string {
	e.t.Helper()
	r, err := http.NewRequestWithContext(e.t.Context(), http.MethodPost, e.URL()+"/v1/consent", strings.NewReader(choice))
	if err != nil {
		e.t.Fatal(err)
	}
	r.SetBasicAuth("wk_web", "")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		e.t.Fatal(err)
	}
	answer := read(e.t, response)
	for _, cookie := range response.Cookies() {
		if cookie.Name == "sluis_consent" {
			return cookie.Name + "=" + cookie.Value
		}
	}
	e.t.Fatalf("no cookie: %d %s", response.StatusCode, answer)
	return ""
}

// postWith sends an event with a cookie.
func (e *testEdge) postWith(cookie, event string) (answer string) {
	e.t.Helper()
	r, err := http.NewRequestWithContext(e.t.Context(), http.MethodPost, e.URL()+"/v1/track", strings.NewReader(event))
	if err != nil {
		e.t.Fatal(err)
	}
	r.SetBasicAuth("wk_web", "")
	r.Header.Set("Cookie", cookie)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		e.t.Fatal(err)
	}
	return read(e.t, response)
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
