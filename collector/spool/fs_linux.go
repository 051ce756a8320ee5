package spool

import (
	"errors"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

func (f osFile) Allocate(size int64) error {
	err := ignoringEINTR(func() error { return unix.Fallocate(int(f.Fd()), 0, 0, size) })
	runtime.KeepAlive(f.File)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	return os.NewSyscallError("fallocate", err)
}

// Sync leaves out the times of the file, which fsync would write each time.
func (f osFile) Sync() error {
	err := ignoringEINTR(func() error { return unix.Fdatasync(int(f.Fd())) })
	runtime.KeepAlive(f.File)
	return os.NewSyscallError("fdatasync", err)
}

// ignoringEINTR repeats a call that a signal interrupted before it had an
// outcome.
func ignoringEINTR(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
