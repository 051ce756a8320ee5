//go:build fulldisk && linux

package collector

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// TestReallyFullDisk has the kernel say that a disk is full: one of 2 MiB, in
// memory, that holds spool, message ids and landing, as a small server's does. It
// is mounted where nobody else sees it, by a process of its own.
func TestReallyFullDisk(t *testing.T) {
	if dir := os.Getenv("SLUIS_TEST_DISK"); dir != "" {
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
			t.Fatalf("mounting a small disk: %v", err)
		}
		fillAndGoOn(t, dir)
		return
	}
	child := exec.Command(os.Args[0], "-test.run", "^TestReallyFullDisk$", "-test.v")
	child.Env = append(os.Environ(), "SLUIS_TEST_DISK="+t.TempDir())
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Getuid() != 0 {
		child.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		child.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		child.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	text, err := child.CombinedOutput()
	t.Logf("%s", text)
	if err != nil {
		t.Fatal(err)
	}
}

func fillAndGoOn(t *testing.T, dir string) {
	e := newEdge(t, newBench(t, nil))
	e.dir, e.sink.Dir, e.bytes = dir, filepath.Join(dir, "landing"), 1<<30 // more than there is
	e.open()
	for range 5 {
		e.send()
	}
	ballast := filepath.Join(dir, "ballast")
	fillDisk(t, ballast)
	for len(e.pending) < 10 {
		if e.send(); e.serial > 10_000 {
			t.Fatal("the disk is not full")
		}
	}
	if last := e.refused[len(e.refused)-1]; last.code != "spool_full" {
		t.Errorf("on a full disk the answer is %+v", last)
	}
	e.kill()
	more := filepath.Join(dir, "more") // in the room that a write which failed left behind
	fillDisk(t, more)
	e.open() // comes up on a full disk
	e.sendAgain()
	if err := errors.Join(os.Remove(ballast), os.Remove(more)); err != nil {
		t.Fatal(err)
	}
	e.settle()
	e.drain()
	e.check("a full disk")
	t.Logf("%d requests; %d answers were that the disk is full", e.serial, len(e.refused))
}

// fillDisk writes until there is no byte left.
func fillDisk(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	for block := make([]byte, 1<<16); len(block) > 0; {
		_, err := f.Write(block)
		switch {
		case errors.Is(err, syscall.ENOSPC):
			block = block[:len(block)/2]
		case err != nil:
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
