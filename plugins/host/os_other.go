//go:build !linux

package host

import (
	"errors"
	"os"
	"syscall"
)

// Outside Linux the plugin's own watch on its standard input ends it with the
// host, and directories that killed hosts leave are not swept.

func executable(file *os.File) string { return file.Name() }

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
