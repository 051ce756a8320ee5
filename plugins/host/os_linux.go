package host

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// executable names the open file for exec. The descriptor is closed by the
// exec itself, after the kernel has followed the name.
func executable(file *os.File) string {
	return "/proc/self/fd/" + strconv.FormatUint(uint64(file.Fd()), 10)
}

// seal copies a program to where nobody can change it, not even who may write
// to the file that it came from: into memory, sealed. The one returned is at its
// beginning. from is closed.
func seal(from *os.File) (*os.File, error) {
	defer from.Close() //nolint:errcheck // only read
	const name = "plugin"
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // a kernel before 6.3, where all may be executed
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, fmt.Errorf("make a copy in memory: %w", err)
	}
	memory := os.NewFile(uintptr(fd), name)
	_, err = io.Copy(memory, from)
	if err == nil {
		_, err = unix.FcntlInt(memory.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL)
	}
	if err == nil {
		_, err = memory.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a copy in memory: %w", err), memory.Close())
	}
	return memory, nil
}

func selfPath() (string, error) { return "/proc/self/exe", nil }

// sysProcAttr puts the child into a process group of its own, so that a Ctrl-C
// at the terminal is the host's to handle and killTree reaches grandchildren,
// and has the kernel kill it when the host dies.
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// limit keeps the kernel from writing the memory of a crashed plugin, which
// holds personal data, to disk.
func limit(pid int) {
	_ = unix.Prlimit(pid, unix.RLIMIT_CORE, &unix.Rlimit{}, nil)
}

// await waits until the child has ended, ends what it left running, and takes
// its exit status. Until then the child's id cannot be given to another
// process; after, nobody may kill by it.
func (p *process) await() {
	for errors.Is(unix.Waitid(unix.P_PID, p.cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil), unix.EINTR) {
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	killTree(p.child)
	_ = p.cmd.Wait()
	p.child = nil
}

// killTree kills the child and the rest of its group.
func killTree(child *os.Process) {
	_ = unix.Kill(-child.Pid, unix.SIGKILL)
	_ = child.Kill()
}

// lockDir takes the lock of a directory, or tells that another process has it.
// The lock goes with the process.
func lockDir(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	dir := os.NewFile(uintptr(fd), path)
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = dir.Close()
		return nil, &os.PathError{Op: "lock", Path: path, Err: err}
	}
	return dir, nil
}
