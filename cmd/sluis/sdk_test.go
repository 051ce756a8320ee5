//go:build sdk

package main

import (
	"bytes"
	"os/exec"
	"testing"
	"time"
)

// TestSegmentSDK sends with the unchanged @segment/analytics-node. It needs
// Node.js and `npm ci` in testdata/sdk; the wider checks do both.
func TestSegmentSDK(t *testing.T) {
	dir := newWorkspace(t)
	p := start(t, "up", "--workspace", dir, "--listen", "127.0.0.1:0")
	send := exec.Command("node", "send.mjs", p.url, "wk_test")
	send.Dir = "testdata/sdk"
	if out, err := send.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	took := eventually(t, "seeing the SDK's events", func() bool {
		rows := query(t, dir, "select event, count(*) as n from sluis.events group by 1 order by 1")
		return len(rows) == 3 && rows[0]["event"] == "Sent by SDK" && rows[0]["n"] == 10.0 &&
			rows[1]["event"] == "identify" && rows[2]["event"] == "page"
	})
	t.Logf("visible after %v", took.Round(time.Millisecond))
	p.terminate(t)
	if bytes.Contains(bytes.ToLower(readAll(t, dir)), []byte("sdk-canary")) {
		t.Error("a canary is in clear below the workspace")
	}
	rows := query(t, dir, "select outcome, sum(n) as n from sluis.ledger group by 1 order by 1")
	want := map[string]float64{"counted": 2, "landed": 12, "received": 14}
	if len(rows) != len(want) {
		t.Errorf("the ledger has %v", rows)
	}
	for _, row := range rows {
		if row["n"] != want[row["outcome"].(string)] {
			t.Errorf("the ledger has %v, want %v", row, want)
		}
	}
}
