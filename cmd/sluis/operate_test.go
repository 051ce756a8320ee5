package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// says waits until the program's log has a text.
func (p *program) says(t testing.TB, text string, times int) {
	t.Helper()
	eventually(t, "the log saying "+text, func() bool { return strings.Count(p.stderr.String(), text) >= times })
}

// TestHangupUnderLoad: while events come in, the process reads its configuration
// anew several times, once with a mistake, and then drains, with `sluis up` as
// with the collector alone. It ends with 0, and all that was acknowledged has
// landed once.
func TestHangupUnderLoad(t *testing.T) {
	for _, verb := range []string{"collector", "up"} {
		t.Run(verb, func(t *testing.T) {
			s := newSoak(t, newWorkspace(t), make([]int64, 4))
			p := s.start(verb, "--log-format", "json", "--log-level", "info")
			stop := s.send()
			config := filepath.Join(s.workspace.Dir, "sluis.yaml")
			hangup := func(text string, times int) {
				t.Helper()
				s.until(p, s.more(1))
				if err := p.Process.Signal(syscall.SIGHUP); err != nil {
					t.Fatal(err)
				}
				p.says(t, text, times)
			}
			for i := range 3 {
				edit(t, config, "origins: [", fmt.Sprintf("origins: [https://%d.example, ", i))
				hangup(`"msg":"the configuration was read anew"`, i+1)
			}
			edit(t, config, "denied: count", "denied: sometimes")
			hangup("sources.0.denied: must be count", 1)
			edit(t, config, "denied: sometimes", "denied: count")

			s.until(p, s.more(1))
			p.terminate(t)
			s.look(p)
			p = s.start(verb) // answers what came too late
			stop()
			p.terminate(t)
			s.reconcile()
		})
	}
}

// TestSecondSignalEnds: who does not want to wait for the drain need not.
func TestSecondSignalEnds(t *testing.T) {
	dir := newWorkspace(t)
	edit(t, filepath.Join(dir, "sluis.yaml"), "drain: 20s", "drain: 1h")
	p := start(t, "collector", "--workspace", dir, "--listen", "127.0.0.1:0")
	c, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "POST /v1/track HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n")
	if _, err := c.Read(make([]byte, 1)); err != nil { // the request is in the collector's hands
		t.Fatal(err)
	}
	for _, text := range []string{"draining", ""} {
		if err := p.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if text != "" {
			p.says(t, text, 1)
		}
	}
	err = p.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("it ended with %v:\n%s", err, p.stderr)
	}
}

// TestTailAndInspect: what people see of a running collector, and of one whose
// warehouse is away.
func TestTailAndInspect(t *testing.T) {
	dir := newWorkspace(t)
	edit(t, filepath.Join(dir, "sluis.yaml"), "drain: 20s", "drain: 100ms")
	p := start(t, "collector", "--workspace", dir, "--listen", "127.0.0.1:0")
	post(t, p.url+"/v1/track", `{"anonymousId":"canary-1","event":"First",`+consented+`}`)
	eventually(t, "landing", func() bool { return len(query(t, dir, "select 1 from sluis.events")) == 1 })
	// A file where a folder has to be keeps the sink from landing.
	aside := filepath.Join(dir, "data", "landing", "_tmp")
	if err := errors.Join(os.RemoveAll(aside), os.WriteFile(aside, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan int, 1)
	var shown, stderr lockedBuffer
	go func() { ended <- run(ctx, []string{"sluis", "tail", "-w", dir}, &shown, &stderr) }()
	// Until the tail is there its first events may be missed, so they are many.
	eventually(t, "the tail", func() bool {
		post(t, p.url+"/v1/track", `{"anonymousId":"canary-1","userId":"canary-2","event":"Bought \u001b[31m","properties":{"sku":"S-1","email":"canary-3@example.com"},`+consented+`}`)
		return strings.Contains(shown.String(), "landed")
	})
	post(t, p.url+"/v1/track", `{"anonymousId":"canary-4","event":"canary-5"}`)
	eventually(t, "the refusal", func() bool { return strings.Contains(shown.String(), "counted") })
	stop()
	if code := <-ended; code != 0 || stderr.String() != "" {
		t.Errorf("exit %d: %s", code, stderr.String())
	}
	text := shown.String()
	if strings.Contains(text, "canary") || strings.Contains(text, "\x1b") || !strings.Contains(text, "Bought ·[31m") || !strings.Contains(text, `{"sku":"S-1"}`) {
		t.Errorf("the tail shows\n%s", text)
	}

	for _, state := range []string{"in use", "complete"} {
		checkInspect(t, dir, state)
		if state == "in use" {
			p.terminate(t) // the sink is away: all stays in the spool
		}
	}
	edit(t, filepath.Join(dir, "sluis.yaml"), "drain: 100ms", "drain: 20s")
	start(t, "collector", "--workspace", dir, "--listen", "127.0.0.1:0").terminate(t)
	if i, _ := inspected(t, dir); i.Waiting.Records != 0 || i.Landed == 0 {
		t.Errorf("after all has landed: %+v", i)
	}
	var out, errs bytes.Buffer
	if code := run(bounded(t), []string{"sluis", "tail", "-w", dir}, &out, &errs); code != exitFailed || !strings.Contains(errs.String(), "no collector runs on this workspace") {
		t.Errorf("tail without a collector: exit %d: %s", code, errs.String())
	}
}

// inspected is what `sluis collector inspect` says, to programs and to people.
func inspected(t *testing.T, dir string, flags ...string) (i inspection, text string) {
	t.Helper()
	call := func(flags ...string) []byte {
		t.Helper()
		var stdout, stderr bytes.Buffer
		if code := run(bounded(t), append([]string{"sluis", "collector", "inspect", "-w", dir}, flags...), &stdout, &stderr); code != 0 {
			t.Fatalf("exit %d: %s", code, stderr.String())
		}
		return stdout.Bytes()
	}
	if err := json.Unmarshal(call(append(flags, "--json")...), &i); err != nil {
		t.Fatal(err)
	}
	return i, string(call(flags...))
}

func checkInspect(t *testing.T, dir, state string) {
	t.Helper()
	i, text := inspected(t, dir, "--records", "2")
	w := i.Waiting
	if w.Records == 0 || w.Rows["events"] == 0 || w.Rows["ledger"] == 0 || w.Oldest.IsZero() || i.Landed == 0 || len(i.Records) != 2 {
		t.Errorf("%s: %+v", state, i)
	}
	if !strings.Contains(text, state) || !strings.Contains(text, "wait to be landed") || !strings.Contains(text, "Bought") {
		t.Errorf("%s: it prints\n%s", state, text)
	}
	if strings.Contains(text, "canary") || strings.Contains(text, "\x1b") || !strings.Contains(text, "…") {
		t.Errorf("%s: it prints\n%s", state, text)
	}
	if _, text := inspected(t, dir, "--records", "1", "--pseudonyms"); strings.Contains(text, "…") || !strings.Contains(text, `"anonymous_id":"an1_`) {
		t.Errorf("with pseudonyms it prints\n%s", text)
	}
}

// lockedBuffer may be read while it is written.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// TestOperationsOfAProgram: metrics and health of a process, at the address that
// its log tells.
func TestOperationsOfAProgram(t *testing.T) {
	dir := newWorkspace(t)
	p := start(t, "collector", "--workspace", dir, "--listen", "127.0.0.1:0", "--operations-listen", "127.0.0.1:0")
	_, rest, _ := strings.Cut(p.stderr.String(), "operations=")
	url, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	post(t, p.url+"/v1/track", `{"anonymousId":"canary-1","event":"canary",`+consented+`}`)
	post(t, p.url+"/v1/track?canary=1", `{"anonymousId":"canary-2","event":"canary"}`)
	metrics := get(t, url+"/metrics")
	for _, line := range []string{
		`sluis_events_total{outcome="landed",reason="",source="web"} 1`, `sluis_events_total{outcome="received",reason="",source="web"} 2`,
		`sluis_http_requests_total{route="POST /v1/{call}",status="200"} 2`, `sluis_ready{check="sink"} 1`,
	} {
		if !strings.Contains(metrics, line+"\n") {
			t.Errorf("there is no line %s", line)
		}
	}
	if strings.Contains(metrics, "canary") {
		t.Error("a canary is in the metrics")
	}
	if text := get(t, url+"/readyz"); !strings.Contains(text, "ready") {
		t.Errorf("readyz: %s", text)
	}
	p.terminate(t)
}

func get(t testing.TB, url string) string {
	t.Helper()
	response, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(response.Body); err != nil {
		t.Fatal(err)
	}
	return text.String()
}
