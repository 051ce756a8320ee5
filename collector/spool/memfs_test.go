package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
)

// disk is a file system in memory that can lose its power and be made to fail.
// What was not synced survives a power cut in part: each sector of each write
// may or may not, and of the names a prefix of the changes does.
type disk struct {
	mu    sync.Mutex
	rng   *rand.Rand
	names map[string]*inode
	// What a power cut leaves of names, and the changes since.
	durable map[string]*inode
	changes []func(map[string]*inode)
	locked  bool
	epoch   int // grows when the process dies

	calls  int
	fault  fault
	struck bool             // the fault happened
	onSync func()           // called before each File.Sync, without the lock
	bad    map[string]int64 // file → offset of an unreadable sector
}

// fault is what goes wrong at some calls.
type fault struct {
	from, to int // calls, counted from 1; to is exclusive
	kind     faultKind
}

type faultKind int

const (
	noEffect   faultKind = iota // an error, and nothing was done
	halfDone                    // an error, and half of a write, or all else, was done
	diskIsFull                  // noEffect for want of space
)

const sector = 16

var errInjected = errors.New("injected")

type inode struct {
	data    []byte
	durable []byte
	pending []func(b []byte, keep func() bool) []byte
}

func newDisk(seed uint64) *disk {
	return &disk{
		rng:   rand.New(rand.NewPCG(seed, 1)),
		names: map[string]*inode{}, durable: map[string]*inode{}, bad: map[string]int64{},
	}
}

// process returns the file system as one process sees it; earlier processes
// are dead and get errors only.
func (d *disk) process() FS {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.epoch++
	d.locked = false
	return memFS{d, d.epoch}
}

// cutPower ends the process and forgets a part of what was not synced.
func (d *disk) cutPower() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.epoch++
	for _, change := range d.changes[:d.rng.IntN(len(d.changes)+1)] {
		change(d.durable)
	}
	d.changes = nil
	d.names = maps.Clone(d.durable)
	for _, ino := range d.names {
		ino.settle(d.coin)
		ino.data = slices.Clone(ino.durable)
	}
}

func (d *disk) coin() bool { return d.rng.IntN(2) == 0 }

// settle makes durable what keep says, and forgets the rest.
func (ino *inode) settle(keep func() bool) {
	for _, op := range ino.pending {
		ino.durable = op(ino.durable, keep)
	}
	ino.pending = nil
}

func always() bool { return true }

func (ino *inode) do(op func(b []byte, keep func() bool) []byte) {
	ino.data = op(ino.data, always)
	ino.pending = append(ino.pending, op)
}

func opWrite(p []byte, off int64) func([]byte, func() bool) []byte {
	p = slices.Clone(p)
	return func(b []byte, keep func() bool) []byte {
		for start := 0; start < len(p); {
			at := off + int64(start)
			end := min(start+sector-int(at%sector), len(p))
			if keep() {
				b = resized(b, max(int64(len(b)), off+int64(end)))
				copy(b[at:], p[start:end])
			}
			start = end
		}
		return b
	}
}

func opResize(size int64) func([]byte, func() bool) []byte {
	return func(b []byte, keep func() bool) []byte {
		if keep() {
			return resized(b, size)
		}
		return b
	}
}

func resized(b []byte, size int64) []byte {
	if int64(len(b)) >= size {
		return b[:size:size]
	}
	return append(slices.Clip(b), make([]byte, size-int64(len(b)))...)
}

// call counts a call and says how it fails. half: do (a part of) it first.
func (d *disk) call(epoch int) (half bool, err error) {
	if epoch != d.epoch {
		return false, errors.New("the process is dead")
	}
	d.calls++
	if d.calls < d.fault.from || d.calls >= d.fault.to {
		return false, nil
	}
	d.struck = true
	switch d.fault.kind {
	case halfDone:
		return true, errInjected
	case diskIsFull:
		return false, syscall.ENOSPC
	case noEffect:
	}
	return false, errInjected
}

type memFS struct {
	d     *disk
	epoch int
}

// change does something with the names.
func (m memFS) change(do func(map[string]*inode)) error {
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	half, err := m.d.call(m.epoch)
	if err == nil || half {
		do(m.d.names)
		m.d.changes = append(m.d.changes, do)
	}
	return err
}

func (m memFS) MkdirAll(string) error { return nil }

func (m memFS) Lock(name string) (io.Closer, error) {
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	if _, err := m.d.call(m.epoch); err != nil {
		return nil, err
	}
	if m.d.locked {
		return nil, fmt.Errorf("%w: %s", ErrLocked, name)
	}
	m.d.locked = true
	return unlocker(m), nil
}

type unlocker memFS

func (u unlocker) Close() error {
	u.d.mu.Lock()
	defer u.d.mu.Unlock()
	if u.epoch == u.d.epoch {
		u.d.locked = false
	}
	return nil
}

func (m memFS) Create(name string) (File, error) {
	ino := &inode{}
	if err := m.change(func(names map[string]*inode) { names[name] = ino }); err != nil {
		return nil, err
	}
	return &memFile{m, filepath.Base(name), ino}, nil
}

func (m memFS) Open(name string) (File, error) {
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	if _, err := m.d.call(m.epoch); err != nil {
		return nil, err
	}
	ino := m.d.names[name]
	if ino == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &memFile{m, filepath.Base(name), ino}, nil
}

func (m memFS) Rename(oldName, newName string) error {
	return m.change(func(names map[string]*inode) {
		names[newName] = names[oldName]
		delete(names, oldName)
	})
}

func (m memFS) Remove(name string) error {
	return m.change(func(names map[string]*inode) { delete(names, name) })
}

func (m memFS) List(string) ([]string, error) {
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	if _, err := m.d.call(m.epoch); err != nil {
		return nil, err
	}
	var names []string
	for name := range m.d.names {
		names = append(names, filepath.Base(name))
	}
	return names, nil
}

func (m memFS) SyncDir(string) error {
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	half, err := m.d.call(m.epoch)
	if err == nil || half {
		m.d.durable = maps.Clone(m.d.names)
		m.d.changes = nil
	}
	return err
}

type memFile struct {
	fs   memFS
	name string
	*inode
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.fs.d.mu.Lock()
	defer f.fs.d.mu.Unlock()
	if _, err := f.fs.d.call(f.fs.epoch); err != nil {
		return 0, err
	}
	if bad, ok := f.fs.d.bad[f.name]; ok && off <= bad && bad < off+int64(len(p)) {
		return 0, syscall.EIO
	}
	if off >= int64(len(f.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	f.fs.d.mu.Lock()
	defer f.fs.d.mu.Unlock()
	half, err := f.fs.d.call(f.fs.epoch)
	if half {
		p = p[:len(p)/2]
	}
	if err == nil || half {
		f.do(opWrite(p, off))
		return len(p), err
	}
	return 0, err
}

func (f *memFile) resize(size int64) error {
	f.fs.d.mu.Lock()
	defer f.fs.d.mu.Unlock()
	half, err := f.fs.d.call(f.fs.epoch)
	if err == nil || half {
		f.do(opResize(size))
	}
	return err
}

func (f *memFile) Truncate(size int64) error { return f.resize(size) }
func (f *memFile) Allocate(size int64) error { return f.resize(size) }

// Sync that fails loses writes for good, though they can still be read: the
// kernel marks such pages clean.
func (f *memFile) Sync() error {
	f.fs.d.mu.Lock()
	onSync := f.fs.d.onSync
	f.fs.d.mu.Unlock()
	if onSync != nil {
		onSync()
	}
	f.fs.d.mu.Lock()
	defer f.fs.d.mu.Unlock()
	_, err := f.fs.d.call(f.fs.epoch)
	if err != nil {
		f.settle(f.fs.d.coin)
		return err
	}
	f.settle(always)
	return nil
}

func (f *memFile) Size() (int64, error) {
	f.fs.d.mu.Lock()
	defer f.fs.d.mu.Unlock()
	_, err := f.fs.d.call(f.fs.epoch)
	return int64(len(f.data)), err
}

func (f *memFile) Close() error {
	f.fs.d.mu.Lock()
	defer f.fs.d.mu.Unlock()
	_, err := f.fs.d.call(f.fs.epoch)
	return err
}

// edit changes a file behind the spool's back.
func (d *disk) edit(t testing.TB, name string, change func([]byte) []byte) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	ino := d.names[filepath.Join(testDir, name)]
	if ino == nil {
		t.Fatalf("no file %s among %v", name, slices.Sorted(maps.Keys(d.names)))
	}
	ino.data = change(slices.Clone(ino.data))
	ino.durable, ino.pending = slices.Clone(ino.data), nil
}

// files lists the names, sorted.
func (d *disk) files() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var names []string
	for name := range d.names {
		names = append(names, filepath.Base(name))
	}
	slices.Sort(names)
	return names
}

// segments lists the segments of the log in order.
func (d *disk) segments() []string {
	return slices.DeleteFunc(d.files(), func(name string) bool {
		_, ok := parseSegmentName(name)
		return !ok
	})
}

// copy returns a disk with the same visible content, all of it durable.
func (d *disk) copy() *disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := newDisk(1)
	for name, ino := range d.names {
		c.names[name] = &inode{data: slices.Clone(ino.data), durable: slices.Clone(ino.data)}
	}
	c.durable = maps.Clone(c.names)
	return c
}
