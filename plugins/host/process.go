package host

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"time"
)

// ErrChanged is wrapped by the error of Start if the file is not the one that
// was pinned.
var ErrChanged = errors.New("the program has changed")

// openVerified opens the executable at path and checks that it is the one that
// was pinned. What it returns nobody can change: a copy, or, if that will do, the
// running program, which the kernel keeps from being written to.
func openVerified(path, want string, copied bool) (*os.File, error) {
	if sum, err := hex.DecodeString(want); err != nil || len(sum) != sha256.Size {
		return nil, fmt.Errorf("pin %s by its digest: want 64 hexadecimal digits of SHA-256", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if self, err := selfPath(); copied || err != nil || path != self {
		if file, err = seal(file); err != nil {
			return nil, err
		}
	}
	got, err := digest(file)
	if err == nil && got != want {
		err = fmt.Errorf("%w: %s has the digest %s, not the pinned %s; if it was replaced on purpose, pin the new digest", ErrChanged, path, got, want)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

func digest(file *os.File) (string, error) {
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return "", fmt.Errorf("hash the program: %w", err)
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// drainTimeout is how long the output of an ended process may still come. Its
// own children may hold the pipes open for ever.
const drainTimeout = time.Second

// process runs a plugin's executable. It is a runner of go-plugin, instead of
// go-plugin's own, because that one
//   - gives the plugin the host's standard input, where ours gives it a pipe
//     whose end tells the plugin that the host is gone;
//   - starts it from whatever thread happens to be there, whose end would be
//     taken for the host's (see run);
//   - waits for ever for output pipes that a grandchild holds.
type process struct {
	cmd            *exec.Cmd
	program        *os.File
	confined       *confined // nil: the program is trusted
	stdout, stderr *os.File
	done           chan struct{} // closed when the process has ended, or could not be started

	mu     sync.Mutex
	child  *os.Process // nil before the start and after the end
	pid    string      // "" before the start
	killed bool        // the host wanted it to end
}

// newProcess prepares to run the open executable.
func newProcess(file *os.File, c Config) *process {
	return &process{
		cmd: &exec.Cmd{
			Path:        executable(file),
			Args:        append([]string{c.Path}, c.Args...),
			Env:         append([]string{}, c.Env...), // not nil: that would mean the host's
			SysProcAttr: sysProcAttr(),
		},
		program: file,
		done:    make(chan struct{}),
	}
}

// Start implements runner.Runner.
func (p *process) Start(context.Context) error {
	started := make(chan error, 1)
	go p.run(started)
	return <-started
}

// run starts the process and waits for its end, on one thread: Linux sends the
// parent-death signal when the thread that started the child ends, not when the
// process does, and Go ends a thread if a goroutine leaves it locked. So the
// thread is kept for as long as the child lives.
func (p *process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(p.done)

	stdin, closePipes, err := p.openPipes()
	if err != nil {
		started <- err
		return
	}
	err = p.spawn()
	closePipes()
	if p.cmd.Process == nil {
		started <- errors.Join(err, stdin.Close(), p.stdout.Close(), p.stderr.Close())
		return
	}
	started <- err

	p.await() // how it ended is in ProcessState
	_ = stdin.Close()
	deadline := time.Now().Add(drainTimeout)
	_ = p.stdout.SetReadDeadline(deadline)
	_ = p.stderr.SetReadDeadline(deadline)
}

// spawn starts the child. An error leaves one that is as good as dead, or none:
// then the command has no Process.
func (p *process) spawn() error {
	if p.confined == nil {
		if err := p.cmd.Start(); err != nil {
			return err
		}
		p.live()
		return nil
	}
	control, err := p.confined.confine(p.cmd, p.program)
	if err != nil {
		return cannotConfine(err)
	}
	defer control.Close() //nolint:errcheck // nothing is left to send
	err = p.cmd.Start()
	p.confined.started(p.cmd)
	if err != nil {
		return cannotConfine(err)
	}
	p.live()
	if err := p.confined.await(control); err != nil {
		p.kill()
		return err
	}
	return nil
}

// openPipes connects the command. The host keeps the write end of stdin and
// the read ends of the others; closePipes closes the child's copies.
func (p *process) openPipes() (stdin *os.File, closePipes func(), err error) {
	var opened []*os.File
	pipe := func() (r, w *os.File) {
		if err != nil {
			return nil, nil
		}
		if r, w, err = os.Pipe(); err == nil {
			opened = append(opened, r, w)
		}
		return r, w
	}
	in, stdin := pipe()
	stdout, out := pipe()
	stderr, errs := pipe()
	if err != nil {
		for _, f := range opened {
			_ = f.Close()
		}
		return nil, nil, fmt.Errorf("open pipes: %w", err)
	}
	p.stdout, p.stderr = stdout, stderr
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = in, out, errs
	return stdin, func() {
		for _, f := range []*os.File{in, out, errs} {
			_ = f.Close()
		}
	}, nil
}

// live makes the started child known to kill, which may have come before.
func (p *process) live() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.child, p.pid = p.cmd.Process, strconv.Itoa(p.cmd.Process.Pid)
	limit(p.child.Pid)
	if p.killed {
		killTree(p.child)
	}
}

// kill ends the process and what it started, now. It may be called at any
// time, also before the start.
func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.killed = true
	if p.child != nil {
		killTree(p.child)
	}
}

// ended waits up to patience for the process to end, and says how it did.
func (p *process) ended(patience time.Duration) (how string, ended bool) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		select {
		case <-p.done:
		default:
			return "", false
		}
	}
	if p.cmd.ProcessState == nil {
		return "never started", true
	}
	return p.cmd.ProcessState.String(), true
}

// Wait implements runner.Runner; go-plugin calls it once, when it has read the
// output. That the host killed the process is no error.
func (p *process) Wait(context.Context) error {
	<-p.done
	_ = p.stdout.Close()
	_ = p.stderr.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	if state := p.cmd.ProcessState; !p.killed && state != nil && !state.Success() {
		return errors.New(state.String())
	}
	return nil
}

// Kill implements runner.Runner.
func (p *process) Kill(context.Context) error {
	p.kill()
	return nil
}

// ID implements runner.Runner; "" means that there is no process.
func (p *process) ID() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pid
}

// Stdout implements runner.Runner.
func (p *process) Stdout() io.ReadCloser { return p.stdout }

// Stderr implements runner.Runner.
func (p *process) Stderr() io.ReadCloser { return p.stderr }

// Name implements runner.Runner.
func (p *process) Name() string { return p.cmd.Args[0] }

// Diagnose implements runner.Runner.
func (p *process) Diagnose(context.Context) string {
	return "is it a destination plugin, built for this system?"
}

// PluginToHost implements runner.Runner: both see the same files.
func (p *process) PluginToHost(network, address string) (string, string, error) {
	return network, address, nil
}

// HostToPlugin implements runner.Runner.
func (p *process) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}
