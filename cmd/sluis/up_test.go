package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sluis-cdp/sluis/cmd/internal/tracing/tracingtest"
	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
)

const consented = `"context":{"consent":{"categoryPreferences":{"identity":true,"analytics":true,"marketing":true}}}`

// TestUp sends events to a running `sluis up`, sees them with `sluis sql`, and
// greps every byte of the workspace for what must not be there.
func TestUp(t *testing.T) {
	dir := newWorkspace(t)
	p := start(t, "up", "--workspace", dir, "--listen", "127.0.0.1:0")

	health, err := client.Get(p.url + "/healthz")
	if err != nil || health.StatusCode != http.StatusOK {
		t.Fatalf("healthz: %v %v", health, err)
	}
	health.Body.Close()
	for _, body := range []string{
		`{"anonymousId":"canary-visitor","userId":"canary-user-1","event":"Bought",` + consented + `}`,
		`{"anonymousId":"canary-visitor","event":"Bought","properties":{"email":"canary-1@example.com","note":"mail canary-2@example.com"},` + consented + `}`,
		`{"anonymousId":"canary-refuses","event":"canary-event","properties":{"canary-key":"canary-value"},"context":{"consent":{"categoryPreferences":{"analytics":false}}}}`,
		`{"anonymousId":"canary-silent","event":"canary-event","properties":{"x":"canary-value"}}`,
	} {
		if response := post(t, p.url+"/v1/track", body); response.StatusCode != http.StatusOK {
			t.Fatalf("status %d", response.StatusCode)
		}
	}
	took := eventually(t, "seeing the events", func() bool {
		rows := query(t, dir, "select event, count(*) as n from sluis.events group by 1")
		return len(rows) == 1 && rows[0]["event"] == "Bought" && rows[0]["n"] == 2.0
	})
	t.Logf("visible after %v", took.Round(time.Millisecond))

	eventually(t, "building the profiles", func() bool {
		rows := query(t, dir, "select count(*) as n from information_schema.tables where table_name = 'profiles'")
		return rows[0]["n"] == 1.0
	})
	p.terminate(t)
	if bytes.Contains(bytes.ToLower(readAll(t, dir)), []byte("canary")) {
		t.Error("a canary is in clear below the workspace")
	}
	for _, row := range query(t, dir, "select anonymous_id, user_id, properties from sluis.events") {
		text, err := json.Marshal(row)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(text, []byte("canary")) || !strings.HasPrefix(row["anonymous_id"].(string), "an1_") {
			t.Errorf("the row is %s", text)
		}
	}
	if strings.Contains(p.stderr.String(), "canary") {
		t.Error("a canary is in the log")
	}
}

// TestWithdrawalBecomesARemoval is the promise about withdrawals, end to end
// with nothing but HTTP: two agree and one does not; then one withdraws. With
// SLUIS_DEFAULT_SCHEDULE the scheduler runs as often as it does by default, and
// the removal has to come within a minute.
func TestWithdrawalBecomesARemoval(t *testing.T) {
	dir := newWorkspace(t)
	byDefault := os.Getenv("SLUIS_DEFAULT_SCHEDULE") != ""
	if byDefault {
		edit(t, filepath.Join(dir, "sluis.yaml"), "every: 1s", "every: 30s")
	}
	secret, err := os.ReadFile(filepath.Join(dir, "keys", "webhook.secret"))
	if err != nil {
		t.Fatal(err)
	}
	rc, err := newReceiver(strings.TrimSpace(string(secret)))
	if err != nil {
		t.Fatal(err)
	}
	target := httptest.NewServer(rc)
	defer target.Close()
	if err := pointWebhook(dir, target.URL); err != nil {
		t.Fatal(err)
	}
	traces := tracingtest.Start(t)
	traces.Environment(t)
	p := start(t, "up", "--workspace", dir, "--listen", "127.0.0.1:0", "--operations-listen", "127.0.0.1:0")
	visit := func(name, consent string) {
		common := `"anonymousId":"` + name + `-device","userId":"` + name + `","context":{"consent":{"categoryPreferences":` + consent + `}}}`
		post(t, p.url+"/v1/page", `{"properties":{"path":"/pricing"},`+common)
		post(t, p.url+"/v1/track", `{"event":"Live Chat Started",`+common)
		post(t, p.url+"/v1/identify", `{"traits":{"email":"`+name+`@example.com"},`+common)
	}
	all := `{"identity":true,"analytics":true,"marketing":true}`
	visit("agrees", all)
	visit("withdraws", all)
	visit("refuses", `{"identity":true,"analytics":true,"marketing":false}`)

	members := func() string {
		emails, _, _ := rc.snapshot()
		var list []string
		for _, name := range []string{"agrees", "withdraws", "refuses"} {
			if emails[name+"@example.com"] {
				list = append(list, name)
			}
		}
		return strings.Join(list, " ")
	}
	eventually(t, "the audience arriving", func() bool { return members() == "agrees withdraws" })
	// From now on the sync is not due for a day: a withdrawal does not wait for it.
	path := filepath.Join(dir, "syncs", "pricing_and_chat_webhook.yaml")
	edit(t, path, "mode: mirror", "mode: mirror\nschedule: {every: 24h}")
	post(t, p.url+"/v1/consent", `{"userId":"withdraws","purposes":{"marketing":false}}`)
	took := eventually(t, "the removal arriving", func() bool { return members() == "agrees" })
	t.Logf("removed after %v", took.Round(time.Millisecond))
	if byDefault && took > time.Minute {
		t.Errorf("a withdrawal took %v to become a removal", took.Round(time.Second))
	}
	_, rest, _ := strings.Cut(p.stderr.String(), "operations=")
	operations := strings.Fields(rest)[0]
	eventually(t, "the removal in the metrics", func() bool {
		metrics := get(t, operations+"/metrics")
		return strings.Contains(metrics, `sluis_sync_rows_total{outcome="removed",sync="pricing_and_chat_webhook"} 1`+"\n") &&
			strings.Contains(metrics, `sluis_sync_state_rows{state="present",sync="pricing_and_chat_webhook"} 1`+"\n") &&
			strings.Contains(metrics, `sluis_sync_requests_total{sync="pricing_and_chat_webhook",turn="went"} `)
	})
	p.terminate(t)
	removal := regexp.MustCompile(`(?m)^turn\n(  .*\n)*  models build\n    (seed|model) node\.name=\w+ node\.rows=.*\n(  .*\n)*  sync withdraw .* run\.removed=1 .* sync\.name=pricing_and_chat_webhook\n    plan .*\n    apply .*\n      plugin start\n`)
	if tree := traces.Tree(); !removal.MatchString(tree) {
		t.Errorf("the traces are\n%s", tree)
	}
	if bytes.Contains(bytes.Join(traces.Bodies(), nil), []byte("example.com")) {
		t.Error("an address is in a trace")
	}

	_, log, refused := rc.snapshot()
	if refused > 0 || !strings.Contains(strings.Join(log, "\n"), "consent_withdrawn") {
		t.Errorf("%d signatures were wrong; the receiver saw:\n%s", refused, strings.Join(log, "\n"))
	}
	rows := query(t, dir, `select outcome, decision_id from sluis_sync.deliveries where reason = 'consent_withdrawn'`)
	if len(rows) != 1 || rows[0]["outcome"] != "delivered" {
		t.Errorf("the proof of the removal is %v", rows)
	}
}

// The models are built when something landed, when one was edited, when the last
// build had a failure, and when time has passed; else they stay as they are.
func TestUpBuildsWhatChanged(t *testing.T) {
	dir := newWorkspace(t)
	made(t, nil, "generate", "--workspace", dir, "--people", "3", "--days", "2")
	w, err := workspace.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	s := &scheduler{w: w, logger: slog.New(slog.DiscardHandler), stderr: io.Discard}
	model := filepath.Join(w.Path(w.Models), "models", "profiles", "profiles.sql")
	builds := func() *buildInput {
		t.Helper()
		version, err := filesVersion(w.Path(w.Models))
		if err != nil {
			t.Fatal(err)
		}
		project, err := loadProject(w, false, s.logger, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.buildModels(t.Context(), project, version); err != nil {
			t.Fatal(err)
		}
		return s.built
	}
	last := builds()
	if last == nil || last.landing == "" {
		t.Fatalf("the first build: %+v", last)
	}
	for _, step := range []struct {
		what string
		do   func()
		want bool
	}{
		{"nothing", func() {}, false},
		{"an edit", func() { edit(t, model, "select", "select -- all") }, true},
		{"nothing after the edit", func() {}, false},
		{"people who landed", func() { made(t, nil, "generate", "--workspace", dir, "--people", "2", "--days", "2", "--seed", "7") }, true},
		{"time", func() { last.at = last.at.Add(-w.Schedule.Idle) }, true},
	} {
		step.do()
		now := builds()
		if built := now != last; now == nil || built != step.want {
			t.Errorf("after %s: built is %t, want %t", step.what, built, step.want)
		}
		last = now
	}
	edit(t, model, "select -- all", "select no_such_column, -- all")
	if builds() != nil {
		t.Error("a build with a failure is taken for one that need not be repeated")
	}
	edit(t, model, "select no_such_column, -- all", "select")
	if builds() == nil {
		t.Error("the mended model was not built")
	}
}
