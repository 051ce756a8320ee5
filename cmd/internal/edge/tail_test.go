package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluis-cdp/sluis/collector"
)

var errEnough = errors.New("enough")

// watch runs the client of the tail until enough says so, and returns its lines.
// It calls back when the collector knows of the watcher.
func (e *testEdge) watch(source string, watched func(), enough func(lines []string) bool) []string {
	e.t.Helper()
	var lines []string
	ended := make(chan error, 1)
	go func() {
		ended <- Tail(e.t.Context(), e.workspace.Load(), source, func(line []byte) error {
			lines = append(lines, string(line))
			if enough(lines) {
				return errEnough
			}
			return nil
		})
	}()
	eventually(e.t, "being watched", func() bool { return e.tail.watching.Load() == 1 })
	watched()
	if err := <-ended; !errors.Is(err, errEnough) {
		e.t.Fatalf("the tail ended with %v after %q", err, lines)
	}
	eventually(e.t, "being left", func() bool { return e.tail.watching.Load() == 0 })
	return lines
}

const refused = `"context":{"consent":{"categoryPreferences":{"analytics":false}}}`

// TestTail: what lands is shown masked, and of what does not only what became
// of it.
func TestTail(t *testing.T) {
	e := start(t, base+"  - {id: app, write_key: wk_app, denied: drop}\n")
	lines := e.watch("", func() {
		for _, event := range []string{
			`{"messageId":"m-1","anonymousId":"canary-1","userId":"canary-2","event":"Bought","properties":{"sku":"S-1","email":"canary-3@example.com","note":"to canary-4@example.com"},` + consented + `}`,
			`{"messageId":"canary-5","anonymousId":"canary-6","event":"canary-7","properties":{"canary-8":1},` + refused + `}`,
			`{"messageId":"m-1","anonymousId":"a-1","event":"Bought",` + consented + `}`,
			`{"messageId":"canary-9","userId":{"canary":1},"event":"canary-10",` + consented + `}`,
		} {
			if status, answer := e.post("wk_web", event); status != http.StatusOK {
				t.Errorf("%d %s", status, answer)
			}
		}
		e.post("wk_app", `{"anonymousId":"canary-11","event":"canary-12",`+refused+`}`)
	}, func(lines []string) bool { return len(lines) == 5 })

	all := strings.Join(lines, "\n")
	if strings.Contains(all, "canary") {
		t.Errorf("a canary is shown:\n%s", all)
	}
	var got []string
	var views []collector.View
	for _, line := range lines {
		var v collector.View
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatal(err)
		}
		views = append(views, v)
		got = append(got, fmt.Sprintf("%s %s %s %t", v.Source, v.Outcome, v.Reason, v.Event != nil))
	}
	want := []string{
		"web landed personal data masked true", "web counted analytics denied by segment_consent false", "web duplicate  false",
		"web quarantined userId is not a text or number false", "app withheld analytics denied by segment_consent false",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	var event struct {
		Event       string            `json:"event"`
		AnonymousID string            `json:"anonymous_id"`
		Properties  map[string]string `json:"properties"`
	}
	if err := json.Unmarshal(views[0].Event, &event); err != nil {
		t.Fatal(err)
	}
	if event.Event != "Bought" || event.Properties["sku"] != "S-1" || len(event.AnonymousID) != len("an1_0000…") || !strings.HasPrefix(event.AnonymousID, "an1_") {
		t.Errorf("the event is %+v", event)
	}
}

func TestTailOfASource(t *testing.T) {
	e := start(t, base+"  - {id: app, write_key: wk_app}\n")
	lines := e.watch("app", func() {
		e.post("wk_web", track("m-1"))
		e.post("wk_app", track("m-2"))
	}, func(lines []string) bool { return len(lines) == 1 })
	if !strings.Contains(lines[0], `"source":"app"`) {
		t.Errorf("got %s", lines[0])
	}
}

// TestSlowTailSlowsNothing: somebody who reads nothing holds up no request; what
// does not fit is counted, and told when reading goes on.
func TestSlowTailSlowsNothing(t *testing.T) {
	e := start(t, base)
	c, err := net.Dial("unix", filepath.Join(e.workspace.Load().RunDir(), socketName))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET /tail HTTP/1.0\r\n\r\n") // 1.0: the body is not in chunks
	eventually(t, "being watched", func() bool { return e.tail.watching.Load() == 1 })

	event := fmt.Sprintf(`{"type":"track","event":"Bought","anonymousId":"a-1","properties":{"text":%q},%s}`, strings.Repeat("words ", 500), consented)
	batch := `{"batch":[` + strings.Repeat(event+",", 49) + event + `]}`
	sent := int64(0)
	for ; e.tail.missed.Load() == 0; sent += 50 {
		if status, answer := send(t, http.DefaultClient, e.URL()+"/v1/batch", "wk_web", batch); status != http.StatusOK {
			t.Fatalf("%d %s", status, answer)
		}
	}
	decoder := json.NewDecoder(afterHeader(t, c))
	shown, missed := int64(0), int64(0)
	for shown+missed < sent {
		var line struct {
			Missed
			collector.View
		}
		if err := decoder.Decode(&line); err != nil {
			t.Fatalf("after %d shown and %d missed of %d: %v", shown, missed, sent, err)
		}
		if line.Missed.Missed > 0 {
			missed += line.Missed.Missed
		} else {
			shown++
		}
	}
	if missed == 0 || missed != e.tail.missed.Load() || shown+missed != sent {
		t.Errorf("%d shown, %d told to be missed, %d missed, %d sent", shown, missed, e.tail.missed.Load(), sent)
	}
	if _, text := get(t, e.OperationsURL()+"/metrics"); !strings.Contains(text, fmt.Sprintf("sluis_tail_missed_total %d\n", missed)) {
		t.Error("the metrics do not say so")
	}
}

// afterHeader reads the header of an answer.
func afterHeader(t *testing.T, c net.Conn) net.Conn {
	t.Helper()
	var header []byte
	for b := make([]byte, 1); !strings.HasSuffix(string(header), "\r\n\r\n"); header = append(header, b...) {
		if _, err := c.Read(b); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// TestWhoMayTail: the socket is for the user that the collector runs as, and no
// address shows events.
func TestWhoMayTail(t *testing.T) {
	dir := newWorkspace(t, base)
	run := filepath.Join(dir, "data", "run")
	if err := os.MkdirAll(run, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(run, socketName), "of a collector that was killed")
	e := startIn(t, dir)
	for path, want := range map[string]os.FileMode{run: 0o700 | os.ModeDir, filepath.Join(run, socketName): 0o600 | os.ModeSocket} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s has mode %v %v", path, info.Mode(), err)
		}
	}
	for _, url := range []string{e.URL(), e.OperationsURL()} {
		if status, _ := get(t, url+"/tail"); status != http.StatusNotFound {
			t.Errorf("%s/tail: %d", url, status)
		}
	}
	if status, _ := get(t, e.URL()+"/metrics"); status != http.StatusNotFound {
		t.Errorf("the public gets metrics: %d", status)
	}
	if err := e.Drain(); err != nil {
		t.Fatal(err)
	}
	err := Tail(context.Background(), e.workspace.Load(), "", func([]byte) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "no collector runs on this workspace") {
		t.Errorf("without a collector: %v", err)
	}
}
