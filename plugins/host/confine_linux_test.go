package host_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/plugins/host"
)

// The race detector takes terabytes, none of which it uses.
const unlimited = math.MaxInt64

// spy is a plugin that tries what the keys of a batch name.
type spy struct{}

func (spy) Describe() destination.Description {
	return destination.Description{
		Name: "spy", Version: "1", Ops: []destination.Op{destination.Upsert}, Granularity: destination.PerRow,
		Config: []destination.Field{
			{Name: "url", Help: "a server that is declared"}, {Name: "other", Help: "a server that is not"}, {Name: "file", Help: "a secret of the host"},
		},
		EgressHosts: []string{"${url}"},
	}
}

var spied map[string]string

func (spy) Open(_ context.Context, config map[string]string) error {
	spied = config
	return nil
}

func (spy) Write(ctx context.Context, batch destination.Batch) ([]destination.Result, error) {
	results := destination.All(len(batch.Changes), destination.Result{Outcome: destination.Delivered})
	for i, c := range batch.Changes {
		if err := attempts[c.Key](ctx); err != nil {
			results[i] = destination.Result{Outcome: destination.Rejected, Code: "refused", Message: err.Error()}
		}
	}
	return results, nil
}

func (spy) Close(context.Context) error { return nil }

var attempts = map[string]func(context.Context) error{
	"get the declared":      func(ctx context.Context) error { return get(ctx, http.DefaultTransport, spied["url"]) },
	"get another":           func(ctx context.Context) error { return get(ctx, http.DefaultTransport, spied["other"]) },
	"get without the proxy": func(ctx context.Context) error { return get(ctx, &http.Transport{}, spied["url"]) },
	"dial the declared":     func(ctx context.Context) error { return dial(ctx, destination.Dial, spied["url"]) },
	"dial another":          func(ctx context.Context) error { return dial(ctx, destination.Dial, spied["other"]) },
	"dial without the proxy": func(ctx context.Context) error {
		return dial(ctx, new(net.Dialer).DialContext, spied["url"])
	},
	"ask the name system": func(ctx context.Context) error {
		resolver := net.Resolver{PreferGo: true}
		_, err := resolver.LookupHost(ctx, "example.org")
		return err
	},
	"read a secret":     func(context.Context) error { return readable(spied["file"]) },
	"list its folder":   func(context.Context) error { _, err := os.ReadDir(filepath.Dir(spied["file"])); return err },
	"overwrite it":      func(context.Context) error { return os.WriteFile(spied["file"], nil, 0o600) },
	"read of others":    func(context.Context) error { return readable("/proc/1/environ") },
	"read /etc/passwd":  func(context.Context) error { return readable("/etc/passwd") },
	"write to /tmp":     func(context.Context) error { return os.WriteFile("/tmp/sluis-spy", nil, 0o600) },
	"write to its own":  func(context.Context) error { return os.WriteFile(filepath.Join(os.TempDir(), "spy"), nil, 0o600) },
	"execute the shell": func(ctx context.Context) error { return exec.CommandContext(ctx, "/bin/sh", "-c", "exit 0").Run() },
	"see other processes": func(context.Context) error {
		if os.Getpid() == 1 && os.Getppid() == 0 {
			return errors.New("it is alone")
		}
		return nil
	},
	"have a capability": func(context.Context) error {
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		if err := unix.Capget(&header, &data[0]); err != nil {
			return nil
		}
		if data == [2]unix.CapUserData{} {
			return errors.New("it has none")
		}
		return nil
	},
	"mount": func(context.Context) error { return unix.Mount("none", os.TempDir(), "tmpfs", 0, "") },
	"have no file of the host open": func(context.Context) error {
		for fd := 3; fd < 1024; fd++ {
			target, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
			if err == nil && strings.HasPrefix(target, "/") && target != os.DevNull && !strings.HasPrefix(target, os.TempDir()) && !strings.HasPrefix(target, "/memfd:") {
				return errors.New(target)
			}
		}
		return nil
	},
}

func get(ctx context.Context, transport http.RoundTripper, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	client := http.Client{Transport: transport, Timeout: 5 * time.Second}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return errors.New(answer.Status)
	}
	return nil
}

func dial(ctx context.Context, how func(context.Context, string, string) (net.Conn, error), url string) error {
	conn, err := how(ctx, "tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return err
	}
	answer, err := io.ReadAll(conn)
	if err == nil && !strings.Contains(string(answer), "200 OK") {
		err = fmt.Errorf("%q", answer)
	}
	return err
}

func readable(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return f.Close()
}

func sha(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func confinedConfig(t testing.TB, kind string, egress ...string) host.Config {
	t.Helper()
	c := config(t, kind)
	c.Confine = &host.Confinement{Egress: egress, Memory: unlimited}
	return c
}

// What a plugin of somebody else may and may not do, tried by one.
func TestConfinement(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	defer server.Close()
	asked := make(chan string, 100)
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked <- r.URL.Path }))
	defer other.Close()
	secret := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}

	var log lockedBuffer
	c := confinedConfig(t, "spy", "${url}")
	c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	p, err := host.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	if err := p.Open(t.Context(), map[string]string{"url": server.URL, "other": other.URL, "file": secret}); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"get the declared": "", "dial the declared": "", "write to its own": "", "execute the shell": "", "have no file of the host open": "",
		"get another": "403", "dial another": "403",
		"get without the proxy": "refused", "dial without the proxy": "refused", "ask the name system": "",
		"read a secret": "denied", "list its folder": "denied", "overwrite it": "denied", "read of others": "denied",
		"read /etc/passwd": "denied", "write to /tmp": "denied", "mount": "not permitted",
		"see other processes": "alone", "have a capability": "none",
	}
	b := destination.Batch{ID: "b", Sync: "s", Run: "r"}
	for key := range attempts {
		b.Changes = append(b.Changes, destination.Change{ID: "i" + strconv.Itoa(len(b.Changes)), Key: key, Op: destination.Upsert})
	}
	results, err := p.Write(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	allowed := map[string]bool{"get the declared": true, "dial the declared": true, "write to its own": true, "execute the shell": true, "have no file of the host open": true}
	for i, r := range results {
		key := b.Changes[i].Key
		if allowed[key] != (r.Outcome == destination.Delivered) || !strings.Contains(strings.ToLower(r.Message), want[key]) {
			t.Errorf("%s: %v %s, want %q", key, r.Outcome, r.Message, want[key])
		}
	}
	if len(asked) > 0 {
		t.Errorf("a server that is not declared was asked for %q", <-asked)
	}
	if n := strings.Count(log.String(), "has not declared"); n != 2 {
		t.Errorf("the log tells %d times of hosts that are not declared: %s", n, log.String())
	}
}

// Nothing that a confined plugin started outlives it, wherever it has moved.
func TestConfinedGrandchildren(t *testing.T) {
	p, err := host.Start(t.Context(), confinedConfig(t, "escapee"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	if err := p.Open(t.Context(), map[string]string{"token": "good"}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Write(t.Context(), batch(1, "v")); err != nil {
		t.Fatal(err)
	}
	pids := namespaceOf(t, childOf(t, os.Getpid()))
	if len(pids) != 2 {
		t.Fatalf("in the plugin's namespace are %v, want it and what it started", pids)
	}
	p.Kill()
	for _, pid := range pids {
		awaitDeath(t, pid, 5*time.Second)
	}
}

// namespaceOf lists who is in the process namespace of a process.
func namespaceOf(t *testing.T, pid int) []int {
	t.Helper()
	own, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
	if err != nil {
		t.Fatal(err)
	}
	links, err := filepath.Glob("/proc/[0-9]*/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, link := range links {
		if ns, err := os.Readlink(link); err == nil && ns == own {
			n, err := strconv.Atoi(strings.Split(link, "/")[2])
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, n)
		}
	}
	return pids
}

// A plugin that takes more memory than it may ends, and takes nobody along.
func TestLeakIsBounded(t *testing.T) {
	c := config(t, "leaky")
	c.Path, c.Args = filepath.Join(c.TempDir, "leaky"), nil
	// The race detector's memory would not fit, so this one is built without it.
	build := exec.CommandContext(t.Context(), "go", "build", "-o", c.Path, "./testdata/leaky")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	program, err := os.ReadFile(c.Path)
	if err != nil {
		t.Fatal(err)
	}
	c.SHA256, c.Confine = sha(program), &host.Confinement{Memory: 256 << 20}
	p, err := host.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	if err := p.Open(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Write(t.Context(), batch(1, "v")); !errors.Is(err, host.ErrEnded) {
		t.Errorf("err = %v, want that it ended", err)
	}
}

// What does not start is told of, and leaves nothing behind.
func TestConfinedStartFails(t *testing.T) {
	for kind, want := range map[string]string{"silent": "in time", "garbage": "Unrecognized", "exits": "Unrecognized"} {
		t.Run(kind, func(t *testing.T) {
			c := confinedConfig(t, kind)
			if want == "in time" {
				c.StartTimeout = time.Second
			}
			_, err := host.Start(t.Context(), c)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("err = %v, want one with %q", err, want)
			}
			if left, _ := os.ReadDir(c.TempDir); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
	t.Run("no program", func(t *testing.T) {
		c := confinedConfig(t, "good")
		c.Path = filepath.Join(c.TempDir, "script")
		text := []byte("not a program")
		if err := os.WriteFile(c.Path, text, 0o700); err != nil {
			t.Fatal(err)
		}
		c.SHA256 = sha(text)
		if _, err := host.Start(t.Context(), c); err == nil || !strings.Contains(err.Error(), "exec format error") {
			t.Errorf("err = %v", err)
		}
	})
}

// A file that changes while it runs, or between check and start, changes
// nothing: what runs is a copy that nobody can write to.
func TestWhatRunsCannotBeWrittenTo(t *testing.T) {
	c := config(t, "good")
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	c.Path = filepath.Join(c.TempDir, "plugin")
	if err := os.WriteFile(c.Path, program, 0o700); err != nil {
		t.Fatal(err)
	}
	p, err := host.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	// A running file could not be opened for writing ("text file busy"): this is no
	// file that runs.
	if err := os.WriteFile(c.Path, []byte("another"), 0o700); err != nil {
		t.Fatal(err)
	}
	running, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", childOf(t, os.Getpid())))
	if err != nil || !strings.HasPrefix(running, "/memfd:") {
		t.Errorf("%q runs, %v", running, err)
	}
	if err := p.Open(t.Context(), map[string]string{"token": "good"}); err != nil {
		t.Error(err)
	}
	if _, err := host.Start(t.Context(), c); !errors.Is(err, host.ErrChanged) {
		t.Errorf("the file that changed: %v", err)
	}
}

// The hosts of a description, and what they let through.
func TestEgressHosts(t *testing.T) {
	for declared, tests := range map[string]map[string]bool{
		"api.example.org":     {"api.example.org:443": true, "API.example.org.:80": true, "example.org:443": false, "api.example.org": false},
		"api.example.org:443": {"api.example.org:443": true, "api.example.org:80": false},
		"${url}":              {"hooks.example.com:8443": true, "hooks.example.com:443": false},
		"${plain}":            {"db.example.com:5432": true, "db.example.com:1": false},
		"${https}":            {"a.example:443": true, "a.example:80": false},
		"${missing}":          {":443": false, "missing:443": false},
		"${broken":            {"broken:443": false},
		"[::1]:80":            {"[::1]:80": true, "[::1]:81": false},
	} {
		got := host.Approves([]string{declared}, map[string]string{
			"url": "https://user@hooks.example.com:8443/path", "plain": "db.example.com:5432", "https": "https://a.example/",
		}, tests)
		if diff := cmp.Diff(tests, got); diff != "" {
			t.Errorf("%s: %s", declared, diff)
		}
	}
}
