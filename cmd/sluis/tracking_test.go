package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/cmd/internal/edge"
	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/consent/seal"
)

const strictPlan = `version: "1"
owner: growth
modes: {unknown_event: quarantine, invalid_properties: quarantine}
events:
  - name: Bought
    schema:
      required: [total]
      properties:
        total: {type: integer}
  - type: identify
`

// mendedPlan is what the plan should have been.
var mendedPlan = strings.ReplaceAll(strictPlan, "integer", "number")

func writePlan(t testing.TB, dir, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "tracking", "web.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// said is what a command prints that succeeds.
func said(t *testing.T, dir string, args ...string) string {
	t.Helper()
	code, stdout, stderr := sluis(t, append(args, "--workspace", dir)...)
	if code != 0 {
		t.Fatalf("%v: exit %d: %s%s", args, code, stdout, stderr)
	}
	return stdout
}

// ends are the outcomes that `sluis tracking replay` prints.
func ends(t *testing.T, dir string) map[string]int64 {
	t.Helper()
	var counts []replayCount
	if err := json.Unmarshal([]byte(said(t, dir, "tracking", "replay", "--json")), &counts); err != nil {
		t.Fatal(err)
	}
	got := make(map[string]int64)
	for _, c := range counts {
		got[strings.TrimSuffix(c.Outcome+": "+c.Reason, ": ")] += c.N
	}
	return got
}

// TestQuarantineIsReplayed is a plan that was too strict, end to end: what it kept
// out lands after it was mended, once, while the collector runs; but for those who
// have withdrawn meanwhile or whom nothing may be kept of.
func TestQuarantineIsReplayed(t *testing.T) {
	dir := newWorkspace(t)
	writePlan(t, dir, strictPlan)
	p := start(t, "up", "--workspace", dir, "--listen", "127.0.0.1:0")
	sent := 0
	bought := func(person, total string) {
		t.Helper()
		sent++
		body := fmt.Sprintf(`{"event":"Bought","userId":%q,"anonymousId":"%[1]s-device","messageId":"m-%d","properties":{"total":%s,"note":"canary"},%s}`, person, sent, total, consented)
		if response := post(t, p.url+"/v1/track", body); response.StatusCode != http.StatusOK {
			t.Fatalf("status %d", response.StatusCode)
		}
	}
	bought("canary-anna", "2.5")
	bought("canary-ben", "2.5")
	bought("canary-carl", "3")
	bought("canary-dora", `"much"`)
	eventually(t, "landing", func() bool {
		rows := query(t, dir, "select count(*) as n from sluis.quarantine")
		return rows[0]["n"] == 3.0
	})
	list := said(t, dir, "tracking", "quarantine", "ls")
	if !strings.Contains(list, "Bought") || !strings.Contains(list, "properties.total") || !strings.Contains(list, "plan: type") || strings.Contains(list, "canary") {
		t.Errorf("the list is\n%s", list)
	}
	if diff := cmp.Diff(map[string]int64{"quarantined: plan: type at properties.total": 3}, ends(t, dir)); diff != "" {
		t.Errorf("before the plan was mended: %s", diff)
	}
	// Ben withdraws on the device that he bought on, so under another identifier.
	post(t, p.url+"/v1/consent", `{"anonymousId":"canary-ben-device","purposes":{"analytics":false}}`)
	eventually(t, "the withdrawal landing", func() bool {
		rows := query(t, dir, "select count(*) as n from sluis.consents where not granted")
		return rows[0]["n"] == 1.0
	})
	writePlan(t, dir, mendedPlan)
	want := map[string]int64{
		"landed: replayed from quarantine": 1, "counted: analytics not granted": 1, "quarantined: plan: type at properties.total": 1,
	}
	if diff := cmp.Diff(want, ends(t, dir)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if diff := cmp.Diff(map[string]int64{"quarantined: plan: type at properties.total": 1}, ends(t, dir)); diff != "" {
		t.Errorf("the second time: %s", diff)
	}
	rows := query(t, dir, "select event_id, properties from sluis.events where event = 'Bought' order by 1")
	if len(rows) != 2 || rows[0]["event_id"] != "m-1" || rows[1]["event_id"] != "m-3" {
		t.Errorf("the events are %v", rows)
	}
	said(t, dir, "ledger")
	var totals totals
	if err := json.Unmarshal([]byte(said(t, dir, "ledger", "--json")), &totals); err != nil {
		t.Fatal(err)
	}
	if totals.Received != 4 || totals.Landed != 2 || totals.Counted != 1 || totals.Quarantined != 1 {
		t.Errorf("the ledger is %+v", totals)
	}
	p.terminate(t)
	if bytes.Contains(readAll(t, dir), []byte("canary-")) {
		t.Error("a person is in clear")
	}
}

// TestReplayIsInterrupted: what was replayed and has not landed when the program
// ends lands at the next replay, and is not replayed again.
func TestReplayIsInterrupted(t *testing.T) {
	dir := newWorkspace(t)
	writePlan(t, dir, strictPlan)
	p := start(t, "collector", "--workspace", dir, "--listen", "127.0.0.1:0")
	for i := range 3 { // without message ids
		post(t, p.url+"/v1/track", fmt.Sprintf(`{"event":"Bought","anonymousId":"a-%d","properties":{"total":0.5},%s}`, i, consented))
	}
	p.terminate(t)
	writePlan(t, dir, mendedPlan)

	w, err := workspace.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	r, err := edge.OpenReplayer(t.Context(), w, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := edge.OpenReplayer(t.Context(), w, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "another replay is running") {
		t.Errorf("beside another: %v", err)
	}
	opener, err := seal.NewOpener(t.Context(), seal.Dir(w.Path(w.Keys)), w.Workspace, []string{"necessary"})
	if err != nil {
		t.Fatal(err)
	}
	db, err := openWarehouse(t.Context(), w, "the test", os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	run := replayRun{db: db, replayer: r, opener: opener, counts: make(map[replayCount]int64)}
	rows, err := db.Query(t.Context(), replayQuery, "", "")
	if err != nil {
		t.Fatal(err)
	}
	if !rows.Next() {
		t.Fatal("nothing waits")
	}
	o := run.open(t.Context(), sealedEvent(rows.Row()))
	if outcome, _, err := r.Replay(t.Context(), o, collector.Today{}); err != nil || outcome != collector.Landed {
		t.Fatal(outcome, err)
	}
	if err := rows.Close(); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := r.Land(ended); err == nil {
		t.Fatal("it landed in spite of its end")
	}
	if diff := cmp.Diff(map[string]int64{"landed: replayed from quarantine": 2}, ends(t, dir)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if got := query(t, dir, "select count(*) as n, count(distinct event_id) as ids from sluis.events"); got[0]["n"] != 3.0 || got[0]["ids"] != 3.0 {
		t.Errorf("the events are %v", got)
	}
	said(t, dir, "ledger")
	if got := said(t, dir, "tracking", "quarantine", "ls"); strings.Contains(got, "Bought") {
		t.Errorf("there waits\n%s", got)
	}
}

// TestInferFromWhatLanded: the plan that is proposed says nothing of any one
// person, passes the check, and merges with the one that is there.
func TestInferFromWhatLanded(t *testing.T) {
	dir := newWorkspace(t)
	p := start(t, "collector", "--workspace", dir, "--listen", "127.0.0.1:0")
	for i := range 6 {
		post(t, p.url+"/v1/track", fmt.Sprintf(`{"event":"Order Completed","anonymousId":"a-%d","properties":{"order_id":"o-%d","total":%d.5,"state":"paid","email":"canary@example.com"},%s}`, i, i, i, consented))
		post(t, p.url+"/v1/track", fmt.Sprintf(`{"event":"Chair Moved","anonymousId":"a-%d","properties":{"room":"blue","by":"canary-%d"},%s}`, i, i, consented))
	}
	post(t, p.url+"/v1/track", `{"event":"Canary once","anonymousId":"a-9","properties":{"canary":1},`+consented+`}`)
	p.terminate(t)

	fresh := filepath.Join(dir, "tracking", "fresh.yaml")
	said(t, dir, "tracking", "infer", "--source", "web", "--out", fresh)
	text, err := os.ReadFile(fresh)
	if err != nil {
		t.Fatal(err)
	}
	const want = `version: "1"
events:
  - name: Chair Moved
    schema:
      type: object
      required: [by, room]
      properties:
        by: {type: string}
        room: {type: string, enum: [blue]}
  - name: Order Completed
    fields:
      properties.email: {class: drop}
    schema:
      type: object
      required: [order_id, state, total]
      properties:
        order_id: {type: string}
        state: {type: string, enum: [paid]}
        total: {type: number}
`
	_, plan, _ := strings.Cut(string(text), "\n")
	if diff := cmp.Diff(want, plan); diff != "" {
		t.Error(diff)
	}
	if got := said(t, dir, "tracking", "check", fresh); strings.Contains(got, fresh+":4") {
		t.Errorf("the check says\n%s", got)
	}
	web := filepath.Join(dir, "tracking", "web.yaml")
	said(t, dir, "tracking", "infer", "--source", "web", "--merge", "--out", web)
	merged, err := os.ReadFile(web)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(merged, []byte("# stored with each event")) || !bytes.Contains(merged, []byte("Chair Moved")) || bytes.Contains(merged, []byte("anary")) {
		t.Errorf("merged into\n%s", merged)
	}
	said(t, dir, "tracking", "check", web)
	if got := said(t, dir, "tracking", "infer", "--source", "web", "--since", "2999-01-01"); strings.Contains(got, "name:") {
		t.Errorf("of later events it proposes\n%s", got)
	}
	for _, args := range [][]string{{"infer"}, {"infer", "--source", "nosuch"}, {"infer", "--source", "web", "--since", "yesterday"}, {"infer", "--source", "web", "--people", "0"}} {
		if code, _, _ := sluis(t, append(append([]string{"tracking"}, args...), "--workspace", dir)...); code != exitUsage {
			t.Errorf("%v: exit %d", args, code)
		}
	}
}
