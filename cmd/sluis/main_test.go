package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sluis-cdp/sluis/plugins/destination"
)

// TestMain lets the test binary be the program: for scripts, for children that
// tests start and kill, and for the plugin processes that those start.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == panics {
		destination.Serve(&panicking{Destination: builtin()[os.Args[2]]()})
		return
	}
	if len(os.Args) > 2 && os.Args[1] == "plugin" || os.Getenv("SLUIS_TEST_AS_PROGRAM") != "" {
		main()
		return
	}
	testscript.Main(m, map[string]func(){"sluis": main})
}

// TestScripts runs testdata/*.txtar: what a user types and sees.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata", RequireExplicitExec: true})
}

// program is a running child of the test.
type program struct {
	*exec.Cmd
	url    string
	stderr *logBuffer
}

// logBuffer keeps what a child logs, and tells when a line with the address
// has come.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
	url  chan string
}

// address is where the collector is, in a log of either format.
var address = regexp.MustCompile(`[ "]url"?[=:]"?(https?://[0-9.:]+)`)

func (l *logBuffer) copy(r io.Reader) {
	scanner := bufio.NewScanner(r)
	for scanner.Scan() {
		l.mu.Lock()
		fmt.Fprintln(&l.text, scanner.Text())
		l.mu.Unlock()
		if found := address.FindStringSubmatch(scanner.Text()); found != nil {
			l.url <- found[1]
		}
	}
	close(l.url)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// start starts the program and waits until it accepts events.
func start(t testing.TB, args ...string) *program {
	t.Helper()
	p := launch(t, args...)
	url, ok := <-p.stderr.url
	if !ok {
		t.Fatalf("%v ended before it accepted events:\n%s", args, p.stderr)
	}
	p.url = url
	return p
}

// patience is how long a program or a command may run in a test. One that hangs says
// where rather than have the test wait for ever.
const patience = 15 * time.Minute

// bounded is the context of a command that a test runs in its own process.
func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// launch starts the program, which ends with the test.
func launch(t testing.TB, args ...string) *program {
	t.Helper()
	p := &program{Cmd: exec.Command(os.Args[0], args...), stderr: &logBuffer{url: make(chan string, 1)}}
	p.Env = append(os.Environ(), "SLUIS_TEST_AS_PROGRAM=1")
	pipe, err := p.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	hangs := time.AfterFunc(patience, func() { _ = p.Process.Signal(syscall.SIGQUIT) })
	t.Cleanup(func() {
		hangs.Stop()
		if p.ProcessState == nil {
			_ = p.Process.Kill()
			_ = p.Wait()
		}
	})
	go p.stderr.copy(pipe)
	return p
}

// terminate asks the program to end and expects that it does so in order.
func (p *program) terminate(t testing.TB) {
	t.Helper()
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for range p.stderr.url { // until its log has ended
	}
	if err := p.Wait(); err != nil {
		t.Errorf("the program ended with %v:\n%s", err, p.stderr)
	}
}

// newWorkspace makes one, and lets its scheduler run often.
func newWorkspace(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "shop")
	makeWorkspace(t, dir)
	return dir
}

func makeWorkspace(t testing.TB, dir string) {
	t.Helper()
	if _, err := initWorkspace(dir, initOptions{Name: "shop", WriteKey: "wk_test"}); err != nil {
		t.Fatal(err)
	}
	edit(t, filepath.Join(dir, "sluis.yaml"), "every: 30s", "every: 1s")
	edit(t, filepath.Join(dir, "sluis.yaml"), "listen: 127.0.0.1:8485", "listen: 127.0.0.1:0")
}

func edit(t testing.TB, path, from, to string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), from) {
		t.Fatalf("%s does not have %q", path, from)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), from, to, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// query runs `sluis sql --json` in a process of its own.
func query(t testing.TB, dir, sql string) []map[string]any {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if code := run(bounded(t), []string{"sluis", "sql", sql, "--json", "--workspace", dir}, &stdout, &stderr); code != 0 {
		t.Fatalf("sluis sql: exit %d: %s", code, stderr.String())
	}
	var rows []map[string]any
	if err := json.Unmarshal(stdout.Bytes(), &rows); err != nil {
		t.Fatalf("%v: %s", err, stdout.String())
	}
	return rows
}

// eventually asks until the answer is yes; the deadline is generous, since the
// machine may be busy.
func eventually(t testing.TB, what string, yes func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(2 * time.Minute); ; {
		if yes() {
			return time.Since(began)
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: not within two minutes", what)
		}
	}
}

var client = &http.Client{Timeout: patience}

func post(t testing.TB, url, body string, headers ...string) *http.Response {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("wk_test", "")
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response
}

// TestDemo runs the main job whole: the demo checks its own promises.
func TestDemo(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := run(bounded(t), []string{"sluis", "demo", "--once", "--json"}, &stdout, &stderr); code != 0 {
		t.Fatalf("exit %d: %s", code, stderr.String())
	}
	var f figures
	if err := json.Unmarshal(stdout.Bytes(), &f); err != nil {
		t.Fatal(err)
	}
	if f.Ledger.Received == 0 || f.PlaintextHits != 0 || f.Audiences["pricing_and_chat"] != 2 {
		t.Errorf("the figures are %+v", f)
	}
}

// TestSearchFinds makes sure that the demo's search for personal values could
// find one, in each disguise.
func TestSearchFinds(t *testing.T) {
	dir := t.TempDir()
	s := newSearch([]string{"anna.canary@example.com"})
	for i, text := range []string{
		"x Anna.Canary@Example.com y", "?e=anna.canary%40example.com", "616e6e612e63616e617279406578616d706c652e636f6d",
		"YW5uYS5jYW5hcnlAZXhhbXBsZS5jb20=", "harmless",
	} {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.files(dir); err != nil {
		t.Fatal(err)
	}
	if len(s.hits) != 4 || s.nFiles != 5 {
		t.Errorf("%d hits in %d files: %v", len(s.hits), s.nFiles, s.hits)
	}
}

// TestFlagsFirst: flags may stand before and after arguments.
func TestFlagsFirst(t *testing.T) {
	app := newApp(io.Discard, io.Discard)
	for given, want := range map[string]string{
		"sluis sql Q --json":                         "sluis sql --json Q",
		"sluis -w D sql Q --json":                    "sluis -w D sql --json Q",
		"sluis init D --write-key K":                 "sluis init --write-key K D",
		"sluis init D --write-key=K":                 "sluis init --write-key=K D",
		"sluis sync apply N --plan P --approve -w D": "sluis sync apply --plan P --approve -w D N",
		"sluis models run --select +a":               "sluis models run --select +a",
		"sluis sql -- --json":                        "sluis sql -- --json",
		"sluis sync --help":                          "sluis sync --help",
		"sluis nonsense --flag":                      "sluis --flag nonsense",
	} {
		if got := strings.Join(flagsFirst(app, strings.Fields(given)), " "); got != want {
			t.Errorf("%s\n got %s\nwant %s", given, got, want)
		}
	}
}

// readAll is every byte of every file below a folder.
func readAll(t testing.TB, dir string) []byte {
	t.Helper()
	var all []byte
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil // files come and go while the program runs
		}
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		all = append(all, text...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
