package syncer_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/plugins/host"
	"github.com/sluis-cdp/sluis/plugins/postgres"
	"github.com/sluis-cdp/sluis/plugins/webhook"
	"github.com/sluis-cdp/sluis/sql/duckdb"
	"github.com/sluis-cdp/sluis/sql/warehouse"
	syncer "github.com/sluis-cdp/sluis/sync"
)

const hostVariable = "SLUIS_TEST_HOST"

// TestMain lets the test binary also be the processes that tests kill: a host,
// which gets its job in a variable, and the plugin that the host starts.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "plugin" {
		destination.Serve(map[string]func() destination.Destination{"webhook": webhook.New, "postgres": postgres.New}[os.Args[2]]())
		return
	}
	if text := os.Getenv(hostVariable); text != "" {
		if err := beHost(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// errand is what a host is to do.
type errand struct {
	Warehouse     string // a DuckDB file, unless Opener says otherwise
	Opener        string
	Sync          syncer.Sync
	Settings      map[string]string // of the sync: its own do not marshal
	Plan          string            // to be applied; none plans and applies
	Clock         string            // a file with how far this machine's clock is ahead
	Mark          string            // an argument of plugins, by which they are found
	Binary        string            // the test binary, of this digest
	Digest        string
	LeaseTTL      time.Duration
	WriteTimeout  time.Duration
	AllowWaits    bool // waits for other processes take their time
	UnderControl  bool // asks before each step
	ApproveGuards bool
}

// openers open warehouses that are no DuckDB file; the tests of BigQuery add theirs.
var openers = map[string]func(context.Context, string) (warehouse.Driver, error){
	"": func(ctx context.Context, path string) (warehouse.Driver, error) {
		return duckdb.Open(ctx, duckdb.Config{Path: path, Holder: "test", Threads: 1})
	},
}

func beHost(text string) error {
	var j errand
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return err
	}
	var c control
	if j.UnderControl {
		c = newControl(os.Stdin, os.Stdout)
	}
	return j.do(context.Background(), c, os.Stderr)
}

// do plans and applies, or applies a plan.
func (j errand) do(ctx context.Context, c control, log io.Writer) error {
	e, err := j.engine(c, log)
	if err != nil {
		return err
	}
	if j.Plan != "" {
		_, err = e.Apply(ctx, j.sync(), j.Plan, syncer.Options{Approve: j.ApproveGuards})
	} else {
		_, err = e.Run(ctx, j.sync(), syncer.Options{Approve: j.ApproveGuards})
	}
	return err
}

func (j errand) sync() syncer.Sync {
	s := j.Sync
	s.Config = j.Settings
	return s
}

// engine is the syncer with a real warehouse and a real plugin. What leaves it
// goes by way of c.
func (j errand) engine(c control, log io.Writer) (*syncer.Syncer, error) {
	logger := slog.New(slog.NewTextHandler(log, nil))
	clock := &sharedClock{file: j.Clock}
	config := syncer.Config{
		Open: func(ctx context.Context) (d warehouse.Driver, err error) {
			err = c.step("open the warehouse", func() error {
				d, err = openers[j.Opener](ctx, j.Warehouse)
				return err
			})
			if err != nil && d != nil {
				return nil, errors.Join(err, d.Close())
			}
			return &controlled{Driver: d, control: c}, err
		},
		Connect: func(ctx context.Context, s syncer.Sync) (p destination.Destination, err error) {
			err = c.step("start the plugin", func() error {
				plugin, err := host.Start(ctx, host.Config{
					Name: s.Destination, Path: j.Binary, Args: []string{"plugin", s.Destination, j.Mark}, SHA256: j.Digest, StartTimeout: time.Minute, Logger: logger,
				})
				p = &controlledPlugin{Plugin: plugin, control: c}
				return err
			})
			return p, err
		},
		Unseal: func(context.Context, syncer.Sealed) (string, error) { return "", errors.New("nothing is sealed here") },
		Logger: logger, Holder: fmt.Sprint("process ", os.Getpid()),
		Now: clock.now, LeaseTTL: j.LeaseTTL, WriteTimeout: j.WriteTimeout,
	}
	if !j.AllowWaits {
		config.Wait = func(ctx context.Context, d time.Duration) error {
			clock.pass(d)
			return ctx.Err()
		}
	}
	return syncer.New(config)
}

// sharedClock is this machine's clock, put forward by what a file says and by
// what this process has waited: so nobody has to wait for hours to pass.
type sharedClock struct {
	file   string
	mu     sync.Mutex
	waited time.Duration
}

func (c *sharedClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	var ahead int64
	if text, err := os.ReadFile(c.file); err == nil {
		ahead, _ = strconv.ParseInt(string(text), 10, 64)
	}
	return time.Now().Add(c.waited + time.Duration(ahead))
}

func (c *sharedClock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waited += d
}

// verdict is what a test has decided about a step.
type verdict byte

const (
	proceed    verdict = 'p'
	refuse     verdict = 'r' // the step fails, and has no effect
	loseAnswer verdict = 'l' // the step takes effect, and fails
)

// control asks a test before each step, which is a call that leaves the syncer,
// what is to become of it. The zero value lets all proceed.
type control struct {
	asked *bufio.Reader
	asks  io.Writer
	mu    *sync.Mutex
}

func newControl(in io.Reader, out io.Writer) control {
	return control{bufio.NewReader(in), out, &sync.Mutex{}}
}

func (c control) step(name string, do func() error) error {
	switch c.ask(name) {
	case refuse:
		return errFailed
	case loseAnswer:
		return errors.Join(do(), errFailed)
	case proceed:
	}
	return do()
}

func (c control) ask(name string) verdict {
	if c.asked == nil {
		return proceed
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprintln(c.asks, name)
	answer, err := c.asked.ReadByte()
	if err != nil {
		os.Exit(2) // the test is gone
	}
	return verdict(answer)
}

// controlled is a warehouse. A connection that failed once is gone.
type controlled struct {
	warehouse.Driver
	control control
	gone    bool
}

func (d *controlled) step(name string, do func() error) error {
	return d.control.step(name, func() error {
		if d.gone {
			return errFailed
		}
		return do()
	})
}

func (d *controlled) Exec(ctx context.Context, query string, args ...any) error {
	return d.lost(d.step(subject(query), func() error { return d.Driver.Exec(ctx, query, args...) }))
}

func (d *controlled) Query(ctx context.Context, query string, args ...any) (rows warehouse.Rows, err error) {
	err = d.lost(d.step(subject(query), func() error {
		rows, err = d.Driver.Query(ctx, query, args...)
		return err
	}))
	if err != nil && rows != nil {
		return nil, errors.Join(err, rows.Close())
	}
	return rows, err
}

func (d *controlled) Append(ctx context.Context, schema, table string, columns []string, rows [][]any) error {
	return d.lost(d.step("APPEND "+schema+"."+table, func() error { return d.Driver.Append(ctx, schema, table, columns, rows) }))
}

// Close ends the connection whatever becomes of it, as the death of a process would.
func (d *controlled) Close() error {
	return d.control.step("close the warehouse", d.Driver.Close)
}

func (d *controlled) lost(err error) error {
	d.gone = d.gone || errors.Is(err, errFailed)
	return err
}

// subject is what a statement does to which table, such as "MERGE sluis_sync.state".
func subject(query string) string {
	words := strings.Fields(query)
	for _, word := range words {
		if strings.HasPrefix(word, "sluis_") {
			return words[0] + " " + word
		}
	}
	return words[0]
}

// controlledPlugin is a running plugin.
type controlledPlugin struct {
	*host.Plugin
	control control
}

func (p *controlledPlugin) Open(ctx context.Context, config map[string]string) error {
	return p.control.step("open the destination", func() error { return p.Plugin.Open(ctx, config) })
}

func (p *controlledPlugin) Write(ctx context.Context, batch destination.Batch) (results []destination.Result, err error) {
	err = p.control.step("write", func() error {
		results, err = p.Plugin.Write(ctx, batch)
		return err
	})
	return results, err
}

func (p *controlledPlugin) Close(ctx context.Context) error {
	return p.control.step("close the destination", func() error { return p.Plugin.Close(ctx) })
}

// hostProcess is a host that a test has started, with what it asks.
type hostProcess struct {
	*exec.Cmd
	asks   *bufio.Scanner
	answer io.WriteCloser
	log    bytes.Buffer
}

func startHost(t *testing.T, j errand) *hostProcess {
	t.Helper()
	j.UnderControl = true
	text, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	p := &hostProcess{Cmd: exec.Command(j.Binary)}
	p.Env = append(os.Environ(), hostVariable+"="+string(text))
	p.Stderr = &p.log
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.asks = bufio.NewScanner(out)
	if p.answer, err = p.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.Process.Kill()
		_ = p.Wait()
	})
	return p
}

// next waits for the next step of the process; it is over when there is none.
func (p *hostProcess) next() (step string, ok bool) {
	ok = p.asks.Scan()
	return p.asks.Text(), ok
}

func (p *hostProcess) tell(v verdict) { _, _ = p.answer.Write([]byte{byte(v)}) }

// kill is a SIGKILL; that the process has ended already does not matter.
func (p *hostProcess) kill() { _ = p.Process.Kill() }

// plugins are the processes with an argument, by which tests know theirs.
func plugins(mark string) (pids []int) {
	found, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range found {
		text, err := os.ReadFile(path) // empty once the process has ended
		if err != nil || !bytes.HasSuffix(text, []byte("\x00"+mark+"\x00")) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

func killPlugins(mark string) {
	for _, pid := range plugins(mark) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}
