package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sluis-cdp/sluis/cmd/internal/edge"
	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/collector/spool"
	"github.com/sluis-cdp/sluis/consent"
	"github.com/sluis-cdp/sluis/consent/seal"
)

// server is a program that can be loaded.
type server struct {
	name    string
	command func(dir string) (program string, args []string, err error)
}

func servers(sluis, program, profile string) []server {
	own := func(name string, args ...string) server {
		return server{name, func(string) (string, []string, error) {
			self, err := os.Executable()
			return self, append([]string{"-serve", name}, args...), err
		}}
	}
	return []server{
		own("decode"), own("decode+fsync"), own("ingest", "-profile", profile),
		{"collector", func(dir string) (string, []string, error) {
			workspace := filepath.Join(dir, "shop")
			out, err := exec.CommandContext(context.Background(), sluis, "init", workspace, "--write-key", writeKey).CombinedOutput()
			if err != nil {
				return "", nil, fmt.Errorf("%w: %s", err, out)
			}
			program, err := filepath.Abs(program)
			return program, []string{"--workspace", workspace, "--listen", "127.0.0.1:0"}, err
		}},
	}
}

// process is a server that runs.
type process struct {
	address string
	cmd     *exec.Cmd
	dir     string
}

// address finds where a server says that it listens.
var address = regexp.MustCompile(`http://(127\.0\.0\.1:\d+)`)

// start runs the server in a folder of its own, below the working directory:
// the temporary one may be in memory.
func (s server) start(ctx context.Context) (_ *process, err error) {
	dir, err := os.MkdirTemp(".", ".bench-")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	program, args, err := s.command(dir)
	if err != nil {
		return nil, err
	}
	p := &process{dir: dir, cmd: exec.CommandContext(ctx, program, args...)}
	p.cmd.Dir = dir
	if s.name == "collector" {
		p.cmd.Dir = ""
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.cmd.Stdout, p.cmd.Stderr = write, write
	if err := errors.Join(p.cmd.Start(), write.Close()); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(read)
	for lines.Scan() {
		if found := address.FindStringSubmatch(lines.Text()); found != nil {
			p.address = found[1]
			go io.Copy(io.Discard, read) //nolint:errcheck // until the process ends
			return p, nil
		}
	}
	return nil, errors.Join(errors.New("the server ended before it listened"), p.cmd.Wait())
}

// usage reads the processor time and the highest memory of the process (proc(5)).
func (p *process) usage() (usage, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return usage{}, err
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	var ticks int64
	for _, field := range fields[11:13] { // utime and stime, in hundredths of a second
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return usage{}, err
		}
		ticks += n
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return usage{}, err
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	var kib int64
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		return usage{}, fmt.Errorf("reading the memory of a process: %w", err)
	}
	return usage{time.Duration(ticks) * 10 * time.Millisecond, kib << 10}, nil
}

func (p *process) end() error {
	err := p.cmd.Process.Signal(syscall.SIGTERM)
	wait := p.cmd.Wait()
	var exit *exec.ExitError
	if errors.As(wait, &exit) && !exit.Exited() {
		wait = nil // by our signal
	}
	return errors.Join(err, wait, os.RemoveAll(p.dir))
}

// serveUntilKilled is one of the servers that this program is itself.
func serveUntilKilled(name, profile string) error {
	handler, err := map[string]func() (http.Handler, error){
		"decode": decodeOnly, "decode+fsync": decodeAndAppend, "ingest": ingest,
	}[name]()
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if profile != "" {
		f, err := os.Create(profile)
		if err != nil {
			return err
		}
		time.AfterFunc(2*time.Second, func() { // when the customers are known
			if err := pprof.StartCPUProfile(f); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
			time.AfterFunc(2*time.Second, pprof.StopCPUProfile)
		})
	}
	fmt.Fprintln(os.Stderr, "http://"+listener.Addr().String())
	return (&http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}).Serve(listener)
}

const success = `{"success":true}`

func decodeOnly() (http.Handler, error) {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, ok := decode(w, r); ok {
			_, _ = io.WriteString(w, success)
		}
	}), nil
}

func decode(w http.ResponseWriter, r *http.Request) (body []byte, ok bool) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, "unreadable", http.StatusBadRequest)
		return nil, false
	}
	var message map[string]any
	if err := json.Unmarshal(body, &message); err != nil {
		http.Error(w, "not JSON", http.StatusBadRequest)
		return nil, false
	}
	return body, true
}

// decodeAndAppend is the least that an honest 200 costs.
func decodeAndAppend() (http.Handler, error) {
	f, err := os.Create("log")
	if err != nil {
		return nil, err
	}
	log := &groupLog{file: f}
	log.more = sync.NewCond(&log.mu)
	go log.run()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := decode(w, r)
		if !ok {
			return
		}
		if err := <-log.append(body); err != nil {
			http.Error(w, "not stored", http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, success)
	}), nil
}

// groupLog appends to one file: one write and one fsync for all that wait.
type groupLog struct {
	file    *os.File
	mu      sync.Mutex
	more    *sync.Cond
	waiting []byte
	done    []chan error
}

func (l *groupLog) append(body []byte) <-chan error {
	done := make(chan error, 1)
	l.mu.Lock()
	l.waiting = append(l.waiting, body...)
	l.done = append(l.done, done)
	l.mu.Unlock()
	l.more.Signal()
	return done
}

func (l *groupLog) run() {
	var body []byte
	var done []chan error
	for {
		l.mu.Lock()
		for len(l.done) == 0 {
			l.more.Wait()
		}
		l.waiting, body = body[:0], l.waiting
		l.done, done = done[:0], l.done
		l.mu.Unlock()
		_, err := l.file.Write(body)
		err = errors.Join(err, l.file.Sync())
		for _, d := range done {
			d <- err
		}
	}
}

// ingest is the collector as sluis-collector runs it, without the loader.
func ingest() (http.Handler, error) {
	edge.TuneMemory()
	ctx := context.Background()
	keys, purposes := seal.Dir("keys"), []consent.Purpose{consent.Personalization, consent.Marketing, consent.Advertising}
	names := []string{string(consent.Necessary)}
	for _, p := range purposes {
		names = append(names, string(p))
	}
	if err := seal.Generate(keys, names); err != nil {
		return nil, err
	}
	policy, err := consent.NewPolicy(consent.PolicyConfig{Version: "1"})
	if err != nil {
		return nil, err
	}
	pseudonymizer, err := seal.NewPseudonymizer(ctx, keys, "bench", "")
	if err != nil {
		return nil, err
	}
	sealer, err := seal.NewSealer(ctx, keys, "bench", names)
	if err != nil {
		return nil, err
	}
	queue, err := spool.Open(spool.Options{Dir: "spool", MaxBytes: 16 << 30})
	if err != nil {
		return nil, err
	}
	cookieKey := make([]byte, 32)
	_, _ = rand.Read(cookieKey) // never fails
	c, err := collector.New(collector.Config{
		Sources: []collector.Source{{ID: "bench", WriteKey: writeKey, Denied: collector.Count}},
		Policy:  policy, Pseudonymizer: pseudonymizer, Sealer: sealer, SealFor: purposes, CookieKey: cookieKey,
		Spool: queue, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return nil, err
	}
	return c.Handler(), nil
}
