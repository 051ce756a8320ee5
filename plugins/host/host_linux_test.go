package host_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/plugins/destination/destinationtest"
	"github.com/sluis-cdp/sluis/plugins/host"
	destinationv1 "github.com/sluis-cdp/sluis/plugins/proto/destination/v1"
)

// The test binary is also the plugin and the host that is killed: it is
// started again with an argument that says as what.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 2 && os.Args[1] == "plugin":
		servePlugin(os.Args[2])
	case len(os.Args) > 3 && os.Args[1] == "host":
		runHost(os.Args[2], os.Args[3])
	default:
		m.Run()
	}
}

func servePlugin(kind string) {
	switch kind {
	case "spy":
		destination.Serve(spy{})
	case "silent": // never shakes hands
		select {}
	case "garbage":
		fmt.Fprintln(os.Stdout, "hello from a plugin that prints")
		select {}
	case "exits":
		return
	case "unwatching":
		r, w, err := os.Pipe()
		if err != nil {
			return
		}
		defer w.Close()
		os.Stdin = r
	case "lingers":
		<-time.After(10 * time.Second)
		return
	}
	destination.Serve(&scripted{kind: kind})
}

// scripted behaves, or misbehaves, as its kind says.
type scripted struct {
	kind    string
	calls   int
	updates bool
}

func (s *scripted) Describe() destination.Description {
	d := destination.Description{
		Name: "scripted", Version: "1", Ops: []destination.Op{destination.Upsert, destination.Remove},
		Granularity: destination.PerRow, Idempotent: true,
		Config:      []destination.Field{{Name: "token", Required: true, Secret: true, Help: "anything but bad"}},
		EgressHosts: []string{"example.org"},
		Target: destination.Target{Fields: []destination.TargetField{
			{Name: "text", Types: []destination.Type{destination.String, destination.Int64}, Required: true, Help: "what it says"},
		}},
	}
	switch s.kind {
	case "hangdescribe":
		select {}
	case "baddescription":
		d.Granularity = 17
	case "forms":
		d.Target.Fields[0].Form = "meta.email"
	case "newforms":
		d.Target.Fields[0].Form = "meta.shoe_size"
	case "smallrows":
		d.MaxRows = 3
	case "updates":
		d.UpdateOnly = true
	case "asks", "floodasks":
		d.Paced, d.Limits = true, []destination.Limit{{Name: "rows", Requests: 2, Per: time.Second, Rows: 200}}
		d.Config[0].Account = true
	}
	return d
}

func (s *scripted) OpenToUpdate(ctx context.Context, config map[string]string) error {
	s.updates = true
	return s.Open(ctx, config)
}

func (s *scripted) Open(_ context.Context, config map[string]string) error {
	if config["token"] == "bad" {
		return &destination.ConfigError{Field: "token", Problem: "is not accepted"}
	}
	if s.kind == "offline" {
		return errors.New("connection refused by the outside system")
	}
	return nil
}

func (s *scripted) DescribeTarget(context.Context) (destination.Target, error) {
	t := s.Describe().Target
	switch s.kind {
	case "columns":
		t.Fields, t.Closed = append(t.Fields, destination.TargetField{Name: "found"}), true
	case "badtarget":
		t.Fields = append(t.Fields, t.Fields...)
	}
	return t, nil
}

func (s *scripted) Write(ctx context.Context, batch destination.Batch) ([]destination.Result, error) {
	s.calls++
	results := destination.All(len(batch.Changes), destination.Result{Outcome: destination.Delivered, Message: batch.ID})
	switch s.kind {
	case "environment": // the names of what it sees, as messages
		for i := range results {
			if env := syscall.Environ(); i < len(env) {
				results[i].Message, _, _ = strings.Cut(env[i], "=")
			} else {
				results[i].Message = ""
			}
		}
	case "updates":
		results[0].Message = fmt.Sprint(s.updates)
	case "crash":
		crash()
	case "panics": // the second time where the SDK cannot catch it
		words := fmt.Sprintf("cannot write\n%v\npanic: %[1]v", batch.Changes[0].Values)
		if s.calls == 1 {
			panic(words)
		}
		go panic(words)
		select {}
	case "crashlater":
		if s.calls == 2 {
			crash()
		}
	case "grandchild", "escapee":
		child := exec.Command("/proc/self/exe", "plugin", "lingers")
		child.Stdout, child.Stderr = os.NewFile(1, "stdout"), os.NewFile(2, "stderr") // go-plugin has replaced os.Stdout
		child.SysProcAttr = &syscall.SysProcAttr{Setpgid: s.kind == "escapee"}
		if err := child.Start(); err != nil {
			return nil, err
		}
		results[0].Message = strconv.Itoa(child.Process.Pid)
	case "hang":
		<-ctx.Done()
	case "deaf": // not even the end of the call stops it
		select {}
	case "asks":
		ask(ctx, results)
	case "floodasks":
		flood(ctx, 50_000, 1000)
	case "toofew":
		return results[1:], nil
	case "toomany":
		return append(results, results[0]), nil
	case "badoutcome":
		results[0].Outcome = 0
	case "newoutcome":
		results[0].Outcome = 99
	case "late":
		if s.calls == 1 {
			<-ctx.Done()
			results[0].Message = "too late"
		}
	case "floodstdout":
		for range 20_000 {
			os.NewFile(1, "stdout").WriteString("noise\n") // go-plugin has replaced os.Stdout
		}
	case "huge":
		results[0].Message = strings.Repeat("x", 12<<20)
	case "flood":
		for range 20_000 {
			os.NewFile(2, "stderr").WriteString("flood\n")
		}
	case "forms":
		for i, c := range batch.Changes {
			results[i].Code, results[i].Message = fmt.Sprint(c.Values), ""
		}
	case "echo":
		for i, c := range batch.Changes {
			results[i].Message = said(batch, c)
		}
	}
	return results, nil
}

// ask asks for a request for each of some results, all at once, and tells of an answer.
func ask(ctx context.Context, results []destination.Result) {
	var all sync.WaitGroup
	for i := range results {
		all.Go(func() {
			err := destination.Await(ctx, "rows")
			if limit, ok := errors.AsType[*destination.LimitError](err); ok {
				results[i] = destination.Result{Outcome: destination.Retry, Code: "rate_limit", RetryAfter: limit.RetryAfter}
			} else if err != nil {
				results[i] = destination.Result{Outcome: destination.Unknown, Code: "ended"}
			}
		})
	}
	all.Wait()
	destination.Observe(ctx, "rows", destination.Usage{Remaining: 7, Reset: 1500 * time.Millisecond})
}

// flood asks for some requests at once, and returns when all but a few have been answered.
func flood(ctx context.Context, requests, few int) {
	answered := make(chan struct{})
	for range requests {
		go func() {
			_ = destination.Await(ctx, "rows")
			answered <- struct{}{}
		}()
	}
	for range requests - few {
		<-answered
	}
}

func crash() {
	_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	select {}
}

func (s *scripted) Close(context.Context) error {
	switch s.kind {
	case "badclose":
		return errors.New("the disk is full")
	case "hangclose":
		select {}
	}
	return nil
}

func config(t testing.TB, kind string) host.Config {
	t.Helper()
	path, sum, err := host.Self()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "h") //nolint:usetesting // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return host.Config{
		Name: kind, Path: path, Args: []string{"plugin", kind}, SHA256: sum,
		Env:     []string{"GORACE=atexit_sleep_ms=0"}, // the race detector would have each plugin take a second to end
		TempDir: dir, Logger: slog.New(slog.DiscardHandler),
	}
}

func start(t testing.TB, kind string) *host.Plugin {
	t.Helper()
	p, err := host.Start(t.Context(), config(t, kind))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

func open(t testing.TB, kind string) *host.Plugin {
	t.Helper()
	p := start(t, kind)
	if err := p.Open(t.Context(), map[string]string{"token": "good"}); err != nil {
		t.Fatal(err)
	}
	return p
}

func batch(n int, value string) destination.Batch {
	b := destination.Batch{
		ID: "batch", Sync: "sync", Run: "run",
		Columns: []destination.Column{{Name: "email", Type: destination.String}},
	}
	for i := range n {
		b.Changes = append(b.Changes, destination.Change{
			ID: "id" + strconv.Itoa(i), Key: "key" + strconv.Itoa(i), Op: destination.Upsert, Values: []any{value},
		})
	}
	return b
}

func TestConformance(t *testing.T) {
	destinationtest.Run(t, func(t *testing.T) (destination.Destination, map[string]string) {
		return start(t, "good"), map[string]string{"token": "good"}
	})
}

// said is what the echo says of a change.
func said(b destination.Batch, c destination.Change) string {
	return fmt.Sprint(c.ID, c.Key, c.Op, c.PriorityReason, c.Values, b.Purpose, c.Decision, c.Former)
}

func TestRoundTrip(t *testing.T) {
	p := open(t, "echo")
	if got, want := p.Describe(), (&scripted{}).Describe(); !cmp.Equal(got, want) {
		t.Errorf("description: %s", cmp.Diff(want, got))
	}
	at := time.Date(2026, 2, 3, 4, 5, 6, 789_000, time.UTC)
	b := destination.Batch{
		ID: "b", Sync: "s", Run: "r", Purpose: "advertising",
		Columns: []destination.Column{
			{Name: "s", Type: destination.String},
			{Name: "i", Type: destination.Int64},
			{Name: "f", Type: destination.Float64},
			{Name: "b", Type: destination.Bool},
			{Name: "t", Type: destination.Time},
		},
		Changes: []destination.Change{
			{ID: "1", Key: "a", Op: destination.Upsert, Values: []any{"één", int64(-1), 1.5, true, at}, Decision: "d1"},
			{
				ID: "2", Key: "b", Op: destination.Remove, PriorityReason: "consent_withdrawn", Values: make([]any, 5),
				Former: [][]any{{"twee", nil, nil, nil, at}, {"drie", int64(3), nil, true, nil}},
			},
			{ID: "3", Key: "c", Op: destination.Upsert, Values: []any{"", int64(0), 0.0, false, time.Unix(0, 0).UTC()}},
		},
	}
	results, err := p.Write(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range b.Changes {
		if want := said(b, c); results[i].Message != want {
			t.Errorf("change %d arrived as %q, want %q", i, results[i].Message, want)
		}
	}
}

// TestPrepare: a batch says the same whether it was made ready, beside the write of the
// one before it or otherwise, or not; and none is taken for another.
func TestPrepare(t *testing.T) {
	p := open(t, "echo")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	next := batch(3, "first")
	for i := range 100 {
		this := next
		next = batch(random.IntN(4), "value "+strconv.Itoa(i)) // the ids are always the same
		prepared := make(chan struct{})
		go func() {
			defer close(prepared)
			for range random.IntN(4) { // not at all, or more often than is kept
				p.Prepare(next)
			}
			if random.IntN(3) == 0 {
				p.Prepare(batch(1, "never written"))
			}
		}()
		results, err := p.Write(t.Context(), this)
		<-prepared
		if err != nil || len(results) != len(this.Changes) {
			t.Fatalf("%d results of %d changes, %v", len(results), len(this.Changes), err)
		}
		for j, c := range this.Changes {
			if want := said(this, c); results[j].Message != want {
				t.Fatalf("change %d arrived as %q, want %q", j, results[j].Message, want)
			}
		}
	}
	invalid := batch(1, "x")
	invalid.Changes[0].Key = ""
	p.Prepare(invalid)
	if _, err := p.Write(t.Context(), invalid); err == nil {
		t.Error("a change without a key was sent")
	}
	forms := open(t, "forms")
	b := batch(1, "no address")
	b.Columns[0].Name = "text"
	forms.Prepare(b)
	if results, err := forms.Write(t.Context(), b); err != nil || !strings.HasPrefix(results[0].Message, "sent without") {
		t.Errorf("%v, %v", results, err)
	}
}

func TestDescribeTarget(t *testing.T) {
	got, err := open(t, "columns").DescribeTarget(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want, err := (&scripted{kind: "columns"}).DescribeTarget(t.Context())
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%s %v", diff, err)
	}
	if _, err := open(t, "badtarget").DescribeTarget(t.Context()); err == nil || !strings.Contains(err.Error(), "broke the protocol") {
		t.Errorf("err = %v", err)
	}
}

// A value that the plugin wants in a form never gets to it in clear, and one
// that has no such form does not get there at all.
func TestForms(t *testing.T) {
	p := open(t, "forms")
	b := destination.Batch{
		ID: "b", Sync: "s", Run: "r", Columns: []destination.Column{{Name: "text", Type: destination.String}},
		Changes: []destination.Change{
			{ID: "1", Key: "a", Op: destination.Upsert, Values: []any{"John_Smith@gmail.com"}},
			{ID: "2", Key: "b", Op: destination.Upsert, Values: []any{"no address"}},
			{ID: "3", Key: "c", Op: destination.Remove, Values: []any{nil}},
		},
	}
	results, err := p.Write(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	got := []string{results[0].Code, results[1].Code, results[2].Code, results[0].Message, results[1].Message, results[2].Message}
	want := []string{
		"[62a14e44f765419d10fea99367361a727c12365e2520f32218d505ed9aa0f62f]", "[<nil>]", "[<nil>]",
		"", "sent without what is not in its form: text is not an e-mail address", "",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEnvironmentIsEmpty(t *testing.T) {
	t.Setenv("SLUIS_TEST_SECRET", "canary")
	p := open(t, "environment")
	results, err := p.Write(t.Context(), batch(50, "v"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range results {
		if r.Message != "" {
			names = append(names, r.Message)
		}
	}
	slices.Sort(names)
	want := []string{
		"GORACE", // the one that is configured
		"PLUGIN_CLIENT_CERT", "PLUGIN_MAX_PORT", "PLUGIN_MIN_PORT", "PLUGIN_PROTOCOL_VERSIONS",
		"PLUGIN_UNIX_SOCKET_DIR", destinationv1.HandshakeKey,
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("the plugin's environment (-want +got):\n%s", diff)
	}
}

// rotate gives another hexadecimal digit.
func rotate(digit rune) rune {
	const digits = "0123456789abcdef0"
	return rune(digits[strings.IndexRune(digits, digit)+1])
}

func TestDigest(t *testing.T) {
	good := config(t, "good")
	for name, tt := range map[string]struct{ sum, want string }{
		"missing": {"", "pin"},
		"short":   {"abcd", "pin"},
		"wrong":   {strings.Repeat("0", 64), "not the pinned"},
		"altered": {strings.Map(rotate, good.SHA256), "not the pinned"},
	} {
		t.Run(name, func(t *testing.T) {
			c := good
			c.SHA256 = tt.sum
			_, err := host.Start(t.Context(), c)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("err = %v, want one with %q", err, tt.want)
			}
		})
	}
}

// The path may be replaced between the check and the exec: what was checked
// runs. Here it is replaced by what the first launch must not have run.
func TestVerifiedFileIsTheOneThatRuns(t *testing.T) {
	c := config(t, "good")
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	c.Path = filepath.Join(c.TempDir, "plugin")
	if err := os.WriteFile(c.Path, program, 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a second launch works as well
		p, err := host.Start(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		p.Kill()
	}
	if err := os.Remove(c.Path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.Path, append(program, '\n'), 0o700); err != nil {
		t.Fatal(err)
	}
	if p, err := host.Start(t.Context(), c); err == nil {
		p.Kill()
		t.Error("a replaced program was started")
	}
}

func TestStartFails(t *testing.T) {
	for kind, want := range map[string]string{
		"silent":         "in time",
		"hangdescribe":   "in time",
		"garbage":        "Unrecognized",
		"exits":          "Unrecognized",
		"baddescription": "invalid granularity",
		"newforms":       "upgrade Sluis",
	} {
		t.Run(kind, func(t *testing.T) {
			c := config(t, kind)
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
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := host.Start(ctx, config(t, "silent")); !errors.Is(err, context.Canceled) {
			t.Errorf("err = %v", err)
		}
	})
	t.Run("not a program", func(t *testing.T) {
		c := config(t, "good")
		c.Path = filepath.Join(c.TempDir, "nothing")
		if _, err := host.Start(t.Context(), c); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("err = %v", err)
		}
	})
}

func TestOpen(t *testing.T) {
	t.Run("configuration", func(t *testing.T) {
		p := start(t, "good")
		for field, config := range map[string]map[string]string{
			"token": {"token": "bad"},
			"tokem": {"token": "good", "tokem": "x"},
		} {
			problem, ok := errors.AsType[*destination.ConfigError](p.Open(t.Context(), config))
			if !ok || problem.Field != field || problem.Problem == "" {
				t.Errorf("%v: problem = %+v", config, problem)
			}
		}
		if err := p.Validate(map[string]string{"token": "good"}); err != nil {
			t.Error(err)
		}
		if _, ok := errors.AsType[*destination.ConfigError](p.Validate(nil)); !ok {
			t.Error("an empty configuration is valid")
		}
	})
	t.Run("outside system", func(t *testing.T) {
		err := start(t, "offline").Open(t.Context(), map[string]string{"token": "good"})
		if err == nil || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("err = %v", err)
		}
	})
	t.Run("to update", func(t *testing.T) {
		for _, updateOnly := range []bool{true, false} {
			p := start(t, "updates")
			if !p.Describe().UpdateOnly {
				t.Error("the description does not say that it can")
			}
			if err := destination.Open(t.Context(), p, map[string]string{"token": "good"}, updateOnly); err != nil {
				t.Fatal(err)
			}
			if results, err := p.Write(t.Context(), batch(1, "v")); err != nil || results[0].Message != fmt.Sprint(updateOnly) {
				t.Errorf("%+v, %v, want %v", results, err, updateOnly)
			}
		}
		// One that does not say so is not asked: it might not know, and make rows.
		p := start(t, "good")
		if err := p.OpenToUpdate(t.Context(), map[string]string{"token": "good"}); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("err = %v", err)
		}
		if err := p.Open(t.Context(), map[string]string{"token": "good"}); err != nil {
			t.Errorf("it was opened: %v", err)
		}
	})
	t.Run("write before", func(t *testing.T) {
		if _, err := start(t, "good").Write(t.Context(), batch(1, "v")); err == nil {
			t.Error("no error")
		}
	})
	t.Run("no receipts", func(t *testing.T) {
		if _, err := open(t, "good").Poll(t.Context(), []string{"r"}); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("err = %v", err)
		}
	})
}

func TestBatchIsSplit(t *testing.T) {
	parts := func(results []destination.Result) int {
		seen := map[string]bool{}
		for i, r := range results {
			if r.Outcome != destination.Delivered {
				t.Fatalf("change %d: %+v", i, r)
			}
			seen[r.Message] = true // the id of the part
		}
		return len(seen)
	}
	t.Run("bytes", func(t *testing.T) { // 10 MB
		results, err := open(t, "good").Write(t.Context(), batch(1000, strings.Repeat("x", 10_000)))
		if err != nil {
			t.Fatal(err)
		}
		if got := parts(results); got != 3 {
			t.Errorf("%d parts", got)
		}
	})
	t.Run("rows", func(t *testing.T) {
		results, err := open(t, "smallrows").Write(t.Context(), batch(10, "x"))
		if err != nil {
			t.Fatal(err)
		}
		if got := parts(results); got != 4 {
			t.Errorf("%d parts", got)
		}
	})
	t.Run("unsendable rows", func(t *testing.T) {
		b := batch(3, "x")
		b.Changes[0].Values = []any{strings.Repeat("x", 4<<20)}
		b.Changes[2].Values = []any{"\xff"}
		results, err := open(t, "good").Write(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range results {
			got = append(got, r.Outcome.String()+" "+r.Code)
		}
		want := []string{"rejected too_large", "delivered ", "rejected invalid_utf8"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

func TestWriteFails(t *testing.T) {
	for kind, want := range map[string]string{
		"crash":      "signal: killed",
		"hang":       "in time",
		"deaf":       "in time",
		"toofew":     "0 results for 1",
		"toomany":    "2 results for 1",
		"badoutcome": "invalid outcome",
		"newoutcome": "invalid outcome",
		"huge":       "larger than max",
	} {
		t.Run(kind, func(t *testing.T) {
			p := open(t, kind)
			timeout := 10 * time.Second
			if want == "in time" {
				timeout = 300 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			results, err := p.Write(ctx, batch(1, "CANARY"))
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "nothing is known") {
				t.Fatalf("results %v, err = %v, want one with %q", results, err, want)
			}
			if strings.Contains(err.Error(), "CANARY") {
				t.Errorf("a value in the error: %v", err)
			}
			if kind == "crash" {
				if _, err := p.Write(t.Context(), batch(1, "x")); !errors.Is(err, host.ErrEnded) {
					t.Errorf("the write after: %v", err)
				}
			}
		})
	}
}

// An answer that comes after its time is nobody's: not that of the next call.
func TestLateAnswer(t *testing.T) {
	p := open(t, "late")
	// Not by a deadline, which the plugin would know too: it answers when it hears that nobody waits.
	ctx, cancel := context.WithCancel(t.Context())
	defer time.AfterFunc(200*time.Millisecond, cancel).Stop()
	if _, err := p.Write(ctx, batch(1, "v")); !errors.Is(err, context.Canceled) {
		t.Fatalf("err = %v", err)
	}
	results, err := p.Write(t.Context(), batch(2, "v"))
	if err != nil || len(results) != 2 || results[0].Message != "batch" {
		t.Errorf("%v, %v", results, err)
	}
}

// What is printed after the handshake is nobody's affair, and holds up nothing.
func TestNoiseOnStandardOutput(t *testing.T) {
	p := open(t, "floodstdout")
	if _, err := p.Write(t.Context(), batch(1, "v")); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// turns lets the first requests go, refuses others, and has the rest wait for their
// call's end.
type turns struct {
	mu             sync.Mutex
	free, refused  int
	asked          int
	limits         []string
	said           []destination.Usage
	waiting, heard chan struct{}
}

func (p *turns) Await(ctx context.Context, limit string) error {
	p.mu.Lock()
	p.limits = append(p.limits, limit)
	p.asked++
	n := p.asked
	p.mu.Unlock()
	switch {
	case n <= p.free:
		return nil
	case n <= p.free+p.refused:
		return &destination.LimitError{RetryAfter: 1500 * time.Microsecond}
	}
	p.waiting <- struct{}{}
	<-ctx.Done()
	return ctx.Err()
}

func (p *turns) Observe(limit string, usage destination.Usage) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.limits, p.said = append(p.limits, limit), append(p.said, usage)
	close(p.heard)
}

// A plugin's requests go out when the pacer of the call says so.
func TestPace(t *testing.T) {
	outcomes := func(p *host.Plugin, pacer destination.Pacer, n int) map[string]int {
		t.Helper()
		ctx, cancel := context.WithTimeout(destination.WithPacer(t.Context(), pacer), time.Minute)
		defer cancel()
		results, err := p.Write(ctx, batch(n, "v"))
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]int{}
		for _, r := range results {
			got[fmt.Sprint(r.Outcome, r.RetryAfter)]++
		}
		return got
	}
	// Not the same plugin: what it observes of one call may be heard during the next.
	if got, want := outcomes(open(t, "asks"), nil, 3), map[string]int{"delivered 0s": 3}; !cmp.Equal(got, want) {
		t.Errorf("without a pacer: %v", got)
	}
	p := open(t, "asks")
	pacer := &turns{free: 2, refused: 3, heard: make(chan struct{})}
	if got, want := outcomes(p, pacer, 5), map[string]int{"delivered 0s": 2, "retry 2ms": 3}; !cmp.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	select {
	case <-pacer.heard:
	case <-time.After(10 * time.Second):
		t.Fatal("what the outside system said was not heard")
	}
	if want := []destination.Usage{{Remaining: 7, Reset: 1500 * time.Millisecond}}; !cmp.Equal(pacer.said, want) {
		t.Errorf("heard %v, want %v", pacer.said, want)
	}
	if want := slices.Repeat([]string{"rows"}, 6); !cmp.Equal(pacer.limits, want) {
		t.Errorf("under the limits %v", pacer.limits)
	}
	if err := p.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// Requests that wait end with their call, and with their plugin, and none goes out. What
// a plugin answers when its request is refused may still come before the call is given up.
func TestPaceEnds(t *testing.T) {
	for _, how := range []string{"call", "plugin"} {
		t.Run(how, func(t *testing.T) {
			p := open(t, "asks")
			pacer := &turns{waiting: make(chan struct{}), heard: make(chan struct{})}
			ctx, cancel := context.WithCancel(destination.WithPacer(t.Context(), pacer))
			defer cancel()
			go func() {
				<-pacer.waiting
				if how == "call" {
					cancel()
				} else {
					p.Kill()
				}
			}()
			results, err := p.Write(ctx, batch(1, "v"))
			refused := err == nil && results[0].Outcome == destination.Retry
			if how == "call" && !refused && !errors.Is(err, context.Canceled) || how == "plugin" && !errors.Is(err, host.ErrEnded) {
				t.Errorf("%v, err = %v", results, err)
			}
		})
	}
}

// A plugin that asks without end fills nobody's memory.
func TestAsksAreBounded(t *testing.T) {
	p := open(t, "floodasks")
	pacer := &turns{waiting: make(chan struct{}, 50_000)}
	if _, err := p.Write(destination.WithPacer(t.Context(), pacer), batch(1, "v")); err != nil {
		t.Error(err)
	}
	for range 1000 {
		<-pacer.waiting
	}
	if n := len(pacer.waiting); n > 0 {
		t.Errorf("%d requests too many waited at once", n)
	}
}

func TestCrashBetweenParts(t *testing.T) {
	results, err := open(t, "crashlater").Write(t.Context(), batch(1000, strings.Repeat("x", 10_000)))
	if err != nil {
		t.Fatal(err)
	}
	count := map[destination.Outcome]int{}
	for _, r := range results {
		count[r.Outcome]++
	}
	if count[destination.Delivered] == 0 || count[destination.Unknown] == 0 || count[destination.Retry] == 0 ||
		count[destination.Delivered]+count[destination.Unknown]+count[destination.Retry] != 1000 {
		t.Errorf("outcomes: %v", count)
	}
}

func TestClose(t *testing.T) {
	t.Run("good", func(t *testing.T) {
		if err := open(t, "good").Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("failing", func(t *testing.T) {
		if err := open(t, "badclose").Close(t.Context()); err == nil || !strings.Contains(err.Error(), "disk is full") {
			t.Errorf("err = %v", err)
		}
	})
	t.Run("hanging", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		if err := open(t, "hangclose").Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("err = %v", err)
		}
	})
}

// A stopped process answers nothing at all, not even go-plugin's own calls.
func TestKillStopped(t *testing.T) {
	c := config(t, "good")
	p, err := host.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	pid := childOf(t, os.Getpid())
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	p.Kill()
	p.Kill() // may be repeated
	awaitDeath(t, pid, 5*time.Second)
	if left, _ := os.ReadDir(c.TempDir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// What a plugin started ends with it; what has escaped cannot hold up the host.
func TestGrandchildren(t *testing.T) {
	for _, kind := range []string{"grandchild", "escapee"} {
		p := open(t, kind)
		results, err := p.Write(t.Context(), batch(1, "v"))
		if err != nil {
			t.Fatal(err)
		}
		pid, err := strconv.Atoi(results[0].Message)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		p.Kill()
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("%s: Kill took %v", kind, took)
		}
		if kind == "grandchild" {
			awaitDeath(t, pid, 3*time.Second)
		} else if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Error(err)
		}
	}
}

// The kernel watches the thread that starts a child: if that were the caller's,
// its end would take the plugin with it.
func TestPluginOutlivesTheCallersThread(t *testing.T) {
	c := config(t, "good")
	var p *host.Plugin
	var err error
	tid := make(chan int, 1)
	caller := func() {
		runtime.LockOSThread() // and not unlocked: the thread ends with the goroutine
		defer func() { tid <- unix.Gettid() }()
		if unix.Gettid() != os.Getpid() { // but not the first one, which Go keeps
			p, err = host.Start(context.Background(), c)
		}
	}
	go caller()
	thread := <-tid
	if thread == os.Getpid() {
		go caller() // that thread runs nothing any more, so this is another
		thread = <-tid
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	for end := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
		if _, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", thread)); errors.Is(err, os.ErrNotExist) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the thread does not end")
		}
	}
	if err := p.Open(t.Context(), map[string]string{"token": "good"}); err != nil {
		t.Error(err)
	}
}

// Whoever else finds the socket cannot talk to the plugin.
func TestConnectionIsAuthenticated(t *testing.T) {
	c := config(t, "good")
	p, err := host.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	sockets, err := filepath.Glob(filepath.Join(c.TempDir, "*", "*", "plugin*"))
	if err != nil || len(sockets) != 1 {
		t.Fatalf("sockets: %v, %v", sockets, err)
	}
	conn, err := grpc.NewClient("passthrough:plugin", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", sockets[0])
		}))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = destinationv1.NewDestinationServiceClient(conn).Describe(t.Context(), &destinationv1.DescribeRequest{})
	if err == nil {
		t.Error("a stranger was answered")
	}
}

func TestFloodIsBounded(t *testing.T) {
	var log lockedBuffer
	c := config(t, "flood")
	c.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	p, err := host.Start(t.Context(), c)
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
	if err := p.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(log.String(), "flood"); n < 10 || n > 2000 {
		t.Errorf("%d lines in the host's log", n)
	}
}

// What a panic says may hold values, so it is neither in an error nor in the log,
// which has the rest of the plugin's last words.
func TestPanicsSayNothing(t *testing.T) {
	var log lockedBuffer
	c := config(t, "panics")
	c.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	p, err := host.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	if err := p.Open(t.Context(), map[string]string{"token": "good"}); err != nil {
		t.Fatal(err)
	}
	_, caught := p.Write(t.Context(), batch(1, "canary"))
	if caught == nil || !strings.Contains(caught.Error(), "panicked with a string in ") || !strings.Contains(caught.Error(), "(*scripted).Write") {
		t.Errorf("the panic that is caught: %v", caught)
	}
	_, fatal := p.Write(t.Context(), batch(1, "canary"))
	if !errors.Is(fatal, host.ErrEnded) {
		t.Errorf("the panic that is not: %v", fatal)
	}
	p.Kill()
	for _, want := range []string{"panic: […]", "goroutine ", "(*scripted).Write"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, log.String())
		}
	}
	if text := fmt.Sprint(caught, fatal, log.String()); strings.Contains(text, "canary") {
		t.Errorf("a value is in\n%s", text)
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// runHost is a host that starts a plugin and is then busy for ever.
func runHost(dir, kind string) {
	path, sum, err := host.Self()
	if err == nil {
		c := host.Config{Path: path, SHA256: sum, TempDir: dir, Logger: slog.New(slog.DiscardHandler)}
		if name, ok := strings.CutPrefix(kind, "confined "); ok {
			kind, c.Confine = name, &host.Confinement{Memory: unlimited}
		}
		c.Name, c.Args = kind, []string{"plugin", kind}
		_, err = host.Start(context.Background(), c)
	}
	fmt.Fprintln(os.Stdout, "started", err)
	select {}
}

// killHost starts a host that starts a plugin, kills the host, and returns
// when the plugin has ended too.
func killHost(t *testing.T, dir, kind string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "host", dir, kind)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "started <nil>\n" {
		t.Fatalf("the host: %q, %v", line, err)
	}
	pid := childOf(t, cmd.Process.Pid)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	awaitDeath(t, pid, 5*time.Second)
}

// A plugin that does not watch its input, as one that is not built with our
// SDK may forget to: the kernel ends it.
func TestHostOfUnwatchingPluginIsKilled(t *testing.T) {
	killHost(t, config(t, "good").TempDir, "unwatching")
}

// Nor does one in namespaces of its own outlive the host.
func TestHostOfConfinedPluginIsKilled(t *testing.T) {
	for _, kind := range []string{"confined good", "confined unwatching"} {
		killHost(t, config(t, "good").TempDir, kind)
	}
}

// Three generations: the test kills a host, and the host's plugin must end.
// What the host left in the temporary directory goes at the next start.
func TestHostIsKilled(t *testing.T) {
	c := config(t, "good")
	killHost(t, c.TempDir, "good")

	left, err := filepath.Glob(filepath.Join(c.TempDir, "sluis-plugin-*"))
	if err != nil || len(left) != 1 {
		t.Fatalf("the killed host left %v, %v", left, err)
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(left[0], old, old); err != nil {
		t.Fatal(err)
	}
	first, err := host.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(first.Kill)
	if _, err := os.Stat(left[0]); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s was not swept: %v", left[0], err)
	}

	// A directory in use is left alone, however old.
	used, err := filepath.Glob(filepath.Join(c.TempDir, "sluis-plugin-*"))
	if err != nil || len(used) != 1 {
		t.Fatal(used, err)
	}
	if err := os.Chtimes(used[0], old, old); err != nil {
		t.Fatal(err)
	}
	second, err := host.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(second.Kill)
	if _, err := os.Stat(used[0]); err != nil {
		t.Errorf("a directory in use was swept: %v", err)
	}
}

// childOf returns the one child of a process.
func childOf(t *testing.T, pid int) int {
	t.Helper()
	var children []int
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		b, err := os.ReadFile(task)
		if err != nil {
			continue // the thread is gone
		}
		for field := range strings.FieldsSeq(string(b)) {
			child, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			children = append(children, child)
		}
	}
	if len(children) != 1 {
		t.Fatalf("process %d has the children %v, want one", pid, children)
	}
	return children[0]
}

// awaitDeath waits for a process that need not be our child.
func awaitDeath(t *testing.T, pid int, timeout time.Duration) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	deadline := time.Now().Add(timeout)
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(time.Until(deadline).Milliseconds()))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			t.Fatalf("process %d lives on after %v (%v)", pid, timeout, err)
		}
		return
	}
}

// The boundary: batches of 1,000 rows of 10 columns, about 250 bytes a row.
func BenchmarkWrite(b *testing.B) {
	p := open(b, "good")
	batch := destination.Batch{ID: "b", Sync: "s", Run: "r"}
	row := []any{}
	for i, v := range []any{"someone@example.org", "0612345678", "Someone", "Else", "Amsterdam", "NL", int64(42), 1.5, true, time.Unix(1e9, 0).UTC()} {
		batch.Columns = append(batch.Columns, destination.Column{Name: "c" + strconv.Itoa(i), Type: destination.TypeOf(v)})
		row = append(row, v)
	}
	for i := range 1000 {
		batch.Changes = append(batch.Changes, destination.Change{
			ID: strings.Repeat("i", 32), Key: "key" + strconv.Itoa(i), Op: destination.Upsert, Values: row,
		})
	}
	for b.Loop() {
		if _, err := p.Write(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(batch.Changes)*b.N)/b.Elapsed().Seconds(), "rows/s")
}
