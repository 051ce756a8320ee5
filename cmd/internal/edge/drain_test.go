package edge

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestDrain: the end is announced, what is in flight is answered, what waits
// lands, and nothing new is begun.
func TestDrain(t *testing.T) {
	e := start(t, strings.Replace(base, "operations:\n", "operations:\n  drain_delay: 1h\n", 1))
	hour := make(chan time.Time)
	e.after = func(d time.Duration) <-chan time.Time {
		if d != time.Hour {
			t.Errorf("it waits %s", d)
		}
		return hour
	}
	// A request of which the body is still to come.
	slow, finish := begin(t, e, track("slow"))
	drained := make(chan error, 1)
	go func() { drained <- e.Drain() }()

	ready := e.OperationsURL() + "/readyz"
	eventually(t, "the announcement", func() bool { return problems(t, ready) == "drain" })
	if got := problems(t, e.URL()+"/readyz"); got != "drain" {
		t.Errorf("the public is told %q", got)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, e.URL()+"/v1/track", strings.NewReader(track("late")))
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("wk_web", "")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if text := read(t, response); response.StatusCode != http.StatusOK || !response.Close {
		t.Errorf("during the announcement: %d %s, to be closed: %v", response.StatusCode, text, response.Close)
	}
	hour <- time.Now()
	eventually(t, "the refusal", func() bool {
		c, err := net.Dial("tcp", e.listener.Addr().String())
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	if got := problems(t, ready); got != "drain" {
		t.Errorf("operations say %q", got)
	}
	finish()
	if status := answered(t, slow); status != http.StatusOK {
		t.Errorf("in flight: %d", status)
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
	if ids := landed(t, e.dir); len(ids) != 2 || ids["slow"] != 1 || ids["late"] != 1 {
		t.Errorf("landed: %v", ids)
	}
}

// TestDrainEndsInTime: neither a client that never ends its request nor a sink
// that takes nothing hold up the end, and nothing that was acknowledged is lost.
func TestDrainEndsInTime(t *testing.T) {
	e := start(t, strings.Replace(base, "operations:\n", "operations:\n  drain: 50ms\n", 1))
	mend := e.breakSink()
	if status, _ := e.post("wk_web", track("m-1")); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	begin(t, e, track("never"))
	if err := e.Drain(); err != nil {
		t.Error(err)
	}
	if log := e.log.String(); !strings.Contains(log, "not all requests could be answered") || !strings.Contains(log, "not all events could be landed") {
		t.Errorf("the log is %s", log)
	}
	mend()
	if err := startIn(t, e.dir).Drain(); err != nil {
		t.Fatal(err)
	}
	if ids := landed(t, e.dir); len(ids) != 2 || ids["m-1"] != 1 {
		t.Errorf("landed: %v", ids)
	}
}

// begin sends a request but for the end of its body, and waits until the
// collector is at it; finish sends the rest.
func begin(t *testing.T, e *testEdge, body string) (c net.Conn, finish func()) {
	t.Helper()
	c, err := net.Dial("tcp", e.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	half := len(body) / 2
	fmt.Fprintf(c, "POST /v1/track HTTP/1.1\r\nHost: x\r\nX-Write-Key: wk_web\r\nContent-Length: %d\r\n\r\n%s", len(body), body[:half])
	eventually(t, "the request being in flight", func() bool {
		_, text := get(t, e.OperationsURL()+"/metrics")
		return strings.Contains(text, "sluis_http_requests_in_flight 1\n")
	})
	return c, func() { fmt.Fprint(c, body[half:]) }
}

func answered(t *testing.T, c net.Conn) int {
	t.Helper()
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode
}

// TestRunTellsSystemd: ready, reloading upon SIGHUP, ready, stopping.
func TestRunTellsSystemd(t *testing.T) {
	name := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	t.Setenv("NOTIFY_SOCKET", name)
	told := func() string {
		t.Helper()
		b := make([]byte, 1024)
		if err := socket.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		n, err := socket.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		state, _, _ := strings.Cut(string(b[:n]), "\n")
		return state
	}
	dir := newWorkspace(t, base)
	log := &logBuffer{}
	o := options(dir, log)
	w, err := o.Reread()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	worked := false
	go func() {
		ended <- Run(ctx, w, o, func(ctx context.Context) { <-ctx.Done(); worked = true })
	}()
	if got := told(); got != "READY=1" {
		t.Fatalf("started: %s", got)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if a, b := told(), told(); a != "RELOADING=1" || b != "READY=1" {
		t.Errorf("upon SIGHUP: %s, %s", a, b)
	}
	if text := log.String(); !strings.Contains(text, "the configuration was read anew") {
		t.Errorf("the log is %s", text)
	}
	stop()
	if got := told(); got != "STOPPING=1" {
		t.Errorf("at the end: %s", got)
	}
	if err := <-ended; err != nil || !worked {
		t.Errorf("it ended with %v; the work beside it ended: %v", err, worked)
	}
}
