package edge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/consent/seal"
)

const consented = `"context":{"consent":{"categoryPreferences":{"identity":true,"analytics":true,"marketing":true}}}`

// base is the configuration of tests.
const base = `workspace: shop
listen: 127.0.0.1:0
operations:
  listen: 127.0.0.1:0
sources:
  - {id: web, write_key: wk_web}
`

// testEdge is a running collector with a workspace of its own.
type testEdge struct {
	*Edge
	t     testing.TB
	dir   string
	log   *logBuffer
	drain func() error
}

// Drain drains once; the end of the test does it else.
func (e *testEdge) Drain() error { return e.drain() }

// logBuffer is a log that may be read while it is written.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// newWorkspace makes a workspace with keys.
func newWorkspace(t testing.TB, config string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	write(t, filepath.Join(dir, workspace.File), config)
	if err := seal.Generate(seal.Dir(filepath.Join(dir, "keys")), []string{"necessary", "personalization", "marketing", "advertising"}); err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// options of a collector on a workspace.
func options(dir string, log io.Writer) Options {
	return Options{
		Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Reread: func() (*workspace.Workspace, error) { return workspace.Open(dir) },
	}
}

func start(t testing.TB, config string) *testEdge {
	t.Helper()
	return startIn(t, newWorkspace(t, config))
}

func startIn(t testing.TB, dir string) *testEdge {
	t.Helper()
	w, err := workspace.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	e := &testEdge{t: t, dir: dir, log: &logBuffer{}}
	if e.Edge, err = Start(t.Context(), w, options(dir, e.log)); err != nil {
		t.Fatal(err)
	}
	e.drain = sync.OnceValue(e.Edge.Drain)
	t.Cleanup(func() { _ = e.Drain() })
	return e
}

// configure changes the workspace's file.
func (e *testEdge) configureAs(config string) {
	e.t.Helper()
	write(e.t, filepath.Join(e.dir, workspace.File), config)
}

// post sends an event and returns status and answer.
func (e *testEdge) post(key, event string) (int, string) {
	e.t.Helper()
	return send(e.t, http.DefaultClient, e.URL()+"/v1/track", key, event)
}

func send(t testing.TB, client *http.Client, url, key, event string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, url, strings.NewReader(event))
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth(key, "")
	response, err := client.Do(r)
	if err != nil {
		t.Errorf("posting: %v", err)
		return 0, ""
	}
	return response.StatusCode, read(t, response)
}

// get returns status and answer.
func get(t testing.TB, url string) (int, string) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Errorf("getting: %v", err)
		return 0, ""
	}
	return response.StatusCode, read(t, response)
}

func read(t testing.TB, response *http.Response) string {
	t.Helper()
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Errorf("reading an answer: %v", err)
	}
	return string(text)
}

// track is an event that lands.
func track(id string) string {
	return fmt.Sprintf(`{"messageId":%q,"anonymousId":"a-1","event":"Bought",%s}`, id, consented)
}

// eventually asks until the answer is yes; the deadline is for faults alone.
func eventually(t testing.TB, what string, yes func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(time.Minute); !yes(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

// landed counts the landed events by their id.
func landed(t testing.TB, dir string) map[string]int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "data", "landing", "dt=*", "*", "events.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	ids := make(map[string]int)
	for _, file := range files {
		rows, err := parquet.ReadFile[collector.EventRow](file)
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range rows {
			ids[row.EventID]++
		}
	}
	return ids
}

// problems are the names of the checks in an answer of /readyz.
func problems(t testing.TB, url string) string {
	t.Helper()
	status, text := get(t, url)
	var body struct{ Problems []problem }
	if err := json.Unmarshal([]byte(text), &body); err != nil {
		t.Errorf("%d %s: %v", status, text, err)
	}
	if (status == http.StatusOK) != (len(body.Problems) == 0) {
		t.Errorf("%d %s", status, text)
	}
	var names []string
	for _, p := range body.Problems {
		names = append(names, p.Check)
	}
	return strings.Join(names, " ")
}

// breakSink lets landing fail until mend is called. An event has landed before:
// first-1.
func (e *testEdge) breakSink() (mend func()) {
	e.t.Helper()
	if status, answer := e.post("wk_web", track("first-1")); status != http.StatusOK {
		e.t.Fatalf("%d %s", status, answer)
	}
	eventually(e.t, "landing", func() bool { return landed(e.t, e.dir)["first-1"] == 1 })
	landing := filepath.Join(e.dir, "data", "landing")
	if err := os.Rename(landing, landing+".away"); err != nil {
		e.t.Fatal(err)
	}
	write(e.t, landing, "a file where a folder has to be")
	return func() {
		e.t.Helper()
		if err := errors.Join(os.Remove(landing), os.Rename(landing+".away", landing)); err != nil {
			e.t.Fatal(err)
		}
	}
}
