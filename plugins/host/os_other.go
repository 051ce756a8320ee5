//go:build !linux

package host

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"syscall"
)

// Outside Linux the plugin's own watch on its standard input ends it with the
// host, and directories that killed hosts leave are not swept.

func executable(file *os.File) string { return file.Name() }

// seal can make no copy here that is safer than the file.
func seal(from *os.File) (*os.File, error) { return from, nil }

func (*confined) confine(*exec.Cmd, *os.File) (*net.UnixConn, error) {
	return nil, errors.New("only Linux has what it takes")
}

func (*confined) started(*exec.Cmd) {}

func (*confined) await(*net.UnixConn) error { return errors.ErrUnsupported }

func selfPath() (string, error) { return os.Executable() }

func sysProcAttr() *syscall.SysProcAttr { return nil }

func limit(int) {}

func (p *process) await() {
	_ = p.cmd.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.child = nil
}

func killTree(child *os.Process) { _ = child.Kill() }

func lockDir(string) (*os.File, error) { return nil, errors.ErrUnsupported }
