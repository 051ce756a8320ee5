package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// guestbook is a destination of a third party: a Go module of its own.
const guestbook = "testdata/guestbook"

// What `sluis destinations new` writes is that module. To renew it: make guestbook.
func TestDestinationsNew(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "guestbook")
	var out bytes.Buffer
	if code := run(t.Context(), []string{"sluis", "destinations", "new", "--sdk", "../../../..", "--dir", dir, "guestbook"}, &out, &out); code != 0 {
		t.Fatal(out.String())
	}
	for _, name := range []string{"main.go", "main_test.go", "README.md"} {
		written, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		kept, err := os.ReadFile(filepath.Join(guestbook, name))
		if diff := cmp.Diff(string(kept), string(written)); diff != "" || err != nil {
			t.Errorf("%s: %v %s", name, err, diff)
		}
	}
	for _, wrong := range []string{"webhook", "Guest Book", ""} {
		if code := run(t.Context(), []string{"sluis", "destinations", "new", "--sdk", ".", wrong}, &out, &out); code != 2 {
			t.Errorf("%q: exit %d", wrong, code)
		}
	}
}

// goIn runs the Go command in the third party's module.
func goIn(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = guestbook
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=readonly", "GOWORK=off")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("go %v: %v (after a change of go.mod: make guestbook)\n%s%s", args, err, out.String(), errs.String())
	}
	return out.String()
}

// Who writes a destination takes on few dependencies: those of go-plugin and gRPC.
func TestSDKHasFewDependencies(t *testing.T) {
	want := []string{
		"example.org/guestbook", "github.com/fatih/color", "github.com/golang/protobuf", "github.com/hashicorp/go-hclog", "github.com/hashicorp/go-plugin",
		"github.com/hashicorp/yamux", "github.com/mattn/go-colorable", "github.com/mattn/go-isatty", "github.com/oklog/run", "github.com/sluis-cdp/sluis",
		"golang.org/x/net", "golang.org/x/sys", "golang.org/x/text", "google.golang.org/genproto/googleapis/rpc", "google.golang.org/grpc", "google.golang.org/protobuf",
	}
	got := strings.Fields(goIn(t, "list", "-deps", "-test", "-f", "{{with .Module}}{{.Path}}{{end}}", "."))
	slices.Sort(got)
	if diff := cmp.Diff(want, slices.Compact(got)); diff != "" {
		t.Errorf("the modules behind the SDK: %s", diff)
	}
}

// keeper is a service that keeps a row for each key.
type keeper struct {
	mu   sync.Mutex
	rows map[string]string
}

func (p *keeper) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || r.Header.Get("Authorization") != "Bearer "+guestbookToken {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.Method == http.MethodDelete {
		delete(p.rows, r.URL.Path)
	} else {
		p.rows[r.URL.Path] = string(body)
	}
}

func (p *keeper) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.rows)
}

const guestbookToken = "guestbook-secret"

// A destination of a third party, from its source to what a sync sends: built,
// held to the promises, pinned, run. Changed, it is not started any more.
func TestThirdPartyDestination(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux confines programs")
	}
	program := filepath.Join(t.TempDir(), "guestbook")
	goIn(t, "test", "-count=1", "-vet=off", ".")
	goIn(t, "build", "-o", program, ".")
	service := &keeper{rows: map[string]string{}}
	server := httptest.NewServer(service)
	defer server.Close()
	t.Setenv("GUESTBOOK_TOKEN", guestbookToken)
	dir := newWorkspace(t)
	sluis := func(want int, arguments ...string) string {
		t.Helper()
		var out bytes.Buffer
		if code := run(bounded(t), append([]string{"sluis", "--workspace", dir}, arguments...), &out, &out); code != want {
			t.Fatalf("%v: exit %d, want %d: %s", arguments, code, want, out.String())
		}
		if strings.Contains(out.String(), guestbookToken) {
			t.Errorf("%v: a secret in %s", arguments, out.String())
		}
		return out.String()
	}
	says := func(out, want string) {
		t.Helper()
		if !strings.Contains(out, want) {
			t.Errorf("want %q in %s", want, out)
		}
	}

	says(sluis(0, "destinations", "conform", "--set", "url="+server.URL, "--set", "token=env:GUESTBOOK_TOKEN", program), "killed")
	if n := service.count(); n == 0 {
		t.Error("it conformed without a request")
	}
	service.rows = map[string]string{}

	says(sluis(2, "sync", "new", "--model", "profiles", "--purpose", "marketing", "--destination", "guestbook", "guests"), "sluis destinations add")
	says(sluis(0, "destinations", "add", program), "It may connect to ${url}, and read none of your files")
	says(sluis(0, "destinations", "verify"), "0.1.0")
	says(sluis(0, "destinations", "ls"), "guestbook")
	says(sluis(0, "destinations", "ls", "guestbook"), "sent as a bearer token")
	sluis(0, "generate", "--people", "40", "--seed", "1")
	sluis(0, "models", "run")
	sluis(0, "sync", "new", "--model", "profiles", "--purpose", "marketing", "--destination", "guestbook",
		"--set", "url="+server.URL+"/people", "--set", "token=env:GUESTBOOK_TOKEN", "--field", "id=profile_id", "guests")
	says(sluis(0, "destinations", "check", "guests"), "ok")
	sluis(0, "sync", "run", "guests")
	if service.count() == 0 {
		t.Error("nobody was delivered")
	}
	says(sluis(1, "destinations", "rm", "guestbook"), "the sync guests sends to guestbook")

	// Somebody changes the program.
	installed := filepath.Join(dir, "plugins", runtime.GOOS+"_"+runtime.GOARCH, "guestbook")
	if err := os.Chmod(installed, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(installed, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("x"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	says(sluis(1, "destinations", "verify"), "the program has changed")
	says(sluis(1, "destinations", "check", "guests"), "sluis destinations add")
	sluis(0, "destinations", "add", program)
	sluis(0, "destinations", "verify")

	// What it says of itself is held to what was looked at.
	lock := filepath.Join(dir, "destinations.lock")
	edit(t, lock, "['${url}']", "[elsewhere.example]")
	says(sluis(1, "destinations", "verify"), "wants to connect to ${url}")
	edit(t, lock, "egress: [elsewhere.example]", "egres: []")
	says(sluis(1, "destinations", "verify"), "destinations.lock:5: unknown key \"egres\"")

	edit(t, lock, "egres: []", "egress: ['${url}']")
	if err := os.Remove(filepath.Join(dir, "syncs", "guests.yaml")); err != nil {
		t.Fatal(err)
	}
	sluis(0, "destinations", "rm", "guestbook")
	if _, err := os.Stat(installed); !os.IsNotExist(err) {
		t.Errorf("the copy is there still: %v", err)
	}
}
