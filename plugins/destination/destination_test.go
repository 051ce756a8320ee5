package destination_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/plugins/destination/destinationtest"
	destinationv1 "github.com/sluis-cdp/sluis/plugins/proto/destination/v1"
)

// The test binary is also a plugin, if it is started with that argument.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "plugin" {
		destination.Serve(newMemory())
		return
	}
	m.Run()
}

// memory keeps rows in a map: the smallest destination there is.
type memory struct {
	rows map[string][]any
}

func newMemory() *memory { return &memory{rows: map[string][]any{}} }

func (m *memory) Describe() destination.Description {
	return destination.Description{
		Name: "memory", Version: "1.0.0", Ops: []destination.Op{destination.Upsert, destination.Remove},
		Granularity: destination.PerRow, Idempotent: true,
	}
}

func (m *memory) Open(context.Context, map[string]string) error { return nil }

func (m *memory) Write(_ context.Context, batch destination.Batch) ([]destination.Result, error) {
	for _, change := range batch.Changes {
		switch change.Op {
		case destination.Upsert:
			m.rows[change.Key] = change.Values
		case destination.Remove:
			delete(m.rows, change.Key)
		}
	}
	return destination.All(len(batch.Changes), destination.Result{Outcome: destination.Delivered}), nil
}

func (m *memory) Close(context.Context) error { return nil }

// In process and without gRPC, as the syncer's tests use it.
func TestConformance(t *testing.T) {
	destinationtest.Run(t, func(*testing.T) (destination.Destination, map[string]string) {
		return newMemory(), map[string]string{}
	})
}

// crm is an outside system, and a destination of it that can update alone, or says
// so.
type crm struct {
	*memory
	systems map[string]*memory // of which the configuration names one
	updates bool
	kind    string
}

func (c *crm) Describe() destination.Description {
	d := c.memory.Describe()
	d.UpdateOnly = true
	return d
}

func (c *crm) Open(_ context.Context, config map[string]string) error {
	c.memory = c.systems[config["system"]]
	return nil
}

func (c *crm) OpenToUpdate(ctx context.Context, config map[string]string) error {
	c.updates = true
	return c.Open(ctx, config)
}

func (c *crm) Write(ctx context.Context, batch destination.Batch) ([]destination.Result, error) {
	absent := destination.Result{Outcome: destination.Skipped, Code: "absent", Message: "there is no such row"}
	results := make([]destination.Result, len(batch.Changes))
	for i, change := range batch.Changes {
		_, there := c.rows[change.Key]
		skips := c.updates && change.Op == destination.Upsert && (!there || c.kind == "skips all")
		if !skips || c.kind == "makes" || c.kind == "makes and tells" {
			if _, err := c.memory.Write(ctx, destination.Batch{Changes: []destination.Change{change}}); err != nil {
				return nil, err
			}
		}
		if results[i].Outcome = destination.Delivered; skips && c.kind != "makes and tells" {
			results[i] = absent
		}
	}
	return results, nil
}

// deaf is one that says so, and has no way to be told.
type deaf struct{ destination.Destination }

// trial is a test that may fail.
type trial struct {
	*testing.T
	failed bool
}

func (t *trial) Error(...any)          { t.failed = true }
func (t *trial) Errorf(string, ...any) { t.failed = true }
func (t *trial) Fatal(...any)          { t.failed = true; runtime.Goexit() }
func (t *trial) Fatalf(string, ...any) { t.failed = true; runtime.Goexit() }

// The suite finds out who says that it can update alone, and cannot.
func TestUpdateOnlyIsTried(t *testing.T) {
	for kind, fails := range map[string]bool{"": false, "makes": true, "makes and tells": true, "skips all": true, "deaf": true} {
		systems := map[string]*memory{}
		latest := ""
		suite := destinationtest.Suite{
			Open: func(destinationtest.T) (destination.Destination, map[string]string) {
				latest = strconv.Itoa(len(systems))
				systems[latest] = newMemory()
				var d destination.Destination = &crm{memory: newMemory(), systems: systems, kind: kind}
				if kind == "deaf" {
					d = deaf{d}
				}
				return d, map[string]string{"system": latest}
			},
			Present: func(_ destinationtest.T, key string) bool {
				_, ok := systems[latest].rows[key]
				return ok
			},
		}
		for _, check := range suite.Checks() {
			if check.Name != "update only" {
				continue
			}
			tried := &trial{T: t}
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				check.Run(tried)
			}()
			<-ended
			if tried.failed != fails {
				t.Errorf("%q: failed is %v", kind, tried.failed)
			}
		}
	}
}

// The watch alone, without the kernel's help: a plugin whose standard input
// ends, ends.
func TestPluginEndsWithItsInput(t *testing.T) {
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, "plugin")
	cmd.Env = []string{
		destinationv1.HandshakeKey + "=" + destinationv1.HandshakeValue,
		"PLUGIN_PROTOCOL_VERSIONS=1", "PLUGIN_UNIX_SOCKET_DIR=" + os.TempDir(),
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "1|1|unix|") {
		t.Fatalf("handshake %q, %v", line, err)
	}
	timer := time.AfterFunc(5*time.Second, func() {
		t.Error("the plugin lives on without its host")
		_ = cmd.Process.Kill()
	})
	defer timer.Stop()
	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, stdout)
	_ = cmd.Wait()
}

// By hand it says what it is and ends, whatever its input.
func TestPluginIsNotStartedByHand(t *testing.T) {
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, "plugin")
	cmd.Env = []string{}
	in, err := cmd.StdinPipe() // held open
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "plugin") {
		t.Errorf("%q, %v", out, err)
	}
}

func TestBatchValidate(t *testing.T) {
	tests := map[string]func(*destination.Batch){
		"batch id":       func(b *destination.Batch) { b.ID = "" },
		"a/b":            func(b *destination.Batch) { b.ID = "a/b" },
		"twice":          func(b *destination.Batch) { b.Columns[1].Name = b.Columns[0].Name },
		"no name":        func(b *destination.Batch) { b.Columns[0].Name = "" },
		"invalid type 6": func(b *destination.Batch) { b.Columns[0].Type = 6 },
		"no id":          func(b *destination.Batch) { b.Changes[0].ID = "" },
		"no key":         func(b *destination.Batch) { b.Changes[0].Key = "" },
		"operation 0":    func(b *destination.Batch) { b.Changes[0].Op = 0 },
		"4 values for 5": func(b *destination.Batch) { b.Changes[0].Values = b.Changes[0].Values[:4] },
		"a []string":     func(b *destination.Batch) { b.Changes[0].Values[0] = []string{destinationtest.Canary} },
		"is string":      func(b *destination.Batch) { b.Changes[0].Values[0] = int64(41) },
	}
	for want, spoil := range tests {
		b := destinationtest.Batch("b", destination.Upsert)
		if err := b.Validate(); err != nil {
			t.Fatal(err)
		}
		spoil(&b)
		err := b.Validate()
		if err == nil {
			t.Errorf("%s: no error", want)
			continue
		}
		if want = strings.Replace(want, "invalid type 6", "invalid type", 1); !strings.Contains(err.Error(), want) {
			t.Errorf("err = %v, want one with %q", err, want)
		}
		if strings.Contains(err.Error(), destinationtest.Canary) || strings.Contains(err.Error(), "41") {
			t.Errorf("a value in %v", err)
		}
	}
}

func TestCheckResults(t *testing.T) {
	b := destinationtest.Batch("b", destination.Upsert)
	good := destination.All(len(b.Changes), destination.Result{Outcome: destination.Delivered})
	if err := b.CheckResults(good); err != nil {
		t.Error(err)
	}
	for name, bad := range map[string][]destination.Result{
		"none":    nil,
		"one":     good[:1],
		"zero":    destination.All(len(b.Changes), destination.Result{}),
		"seven":   destination.All(len(b.Changes), destination.Result{Outcome: 7}),
		"in past": destination.All(len(b.Changes), destination.Result{Outcome: destination.Retry, RetryAfter: -1}),
	} {
		if b.CheckResults(bad) == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestDescriptionCheck(t *testing.T) {
	for name, spoil := range map[string]func(*destination.Description){
		"name":        func(d *destination.Description) { d.Name = "Mem ory" },
		"version":     func(d *destination.Description) { d.Version = "" },
		"operations":  func(d *destination.Description) { d.Ops = nil },
		"operation":   func(d *destination.Description) { d.Ops[0] = 3 },
		"granularity": func(d *destination.Description) { d.Granularity = 0 },
		"rows":        func(d *destination.Description) { d.MaxRows = -1 },
		"field":       func(d *destination.Description) { d.Config = []destination.Field{{}} },
		"fields":      func(d *destination.Description) { d.Config = []destination.Field{{Name: "a"}, {Name: "a"}} },
	} {
		d := newMemory().Describe()
		if err := d.Check(); err != nil {
			t.Fatal(err)
		}
		spoil(&d)
		if d.Check() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestValidateConfig(t *testing.T) {
	d := destination.Description{Name: "d", Config: []destination.Field{{Name: "url", Required: true, Help: "where"}, {Name: "mode"}}}
	for _, tt := range []struct {
		config map[string]string
		field  string
	}{
		{map[string]string{"url": "u"}, ""},
		{map[string]string{"url": "u", "mode": ""}, ""},
		{map[string]string{"url": ""}, "url"},
		{nil, "url"},
		{map[string]string{"url": "u", "zz": "x", "aa": "x"}, "aa"},
	} {
		err := d.Validate(tt.config)
		problem, _ := errors.AsType[*destination.ConfigError](err)
		if (problem == nil) != (tt.field == "") || problem != nil && problem.Field != tt.field {
			t.Errorf("%v: %v", tt.config, err)
		}
	}
}
