package spool

import "io"

// FS is what the spool needs of a file system. It is a parameter so that
// tests can inject errors and cut the power. Names are paths.
//
// All methods may be called concurrently.
type FS interface {
	// MkdirAll makes the directory, durably, unless it exists.
	MkdirAll(dir string) error

	// Lock takes an exclusive lock on the file, which it makes if need be,
	// or returns an error that wraps [ErrLocked]. Closing releases it, and so
	// does the end of the process.
	Lock(name string) (io.Closer, error)

	// Create opens a file for reading and writing. One that exists is emptied.
	Create(name string) (File, error)

	// Open opens an existing file for reading and writing, or returns an error
	// that wraps fs.ErrNotExist.
	Open(name string) (File, error)

	// Rename replaces newName atomically. It is durable after SyncDir.
	Rename(oldName, newName string) error

	// Remove removes a file, durably after SyncDir. An open one stays usable.
	Remove(name string) error

	// List returns the names, without the directory, of the files in it.
	List(dir string) ([]string, error)

	// SyncDir makes the names in the directory durable.
	SyncDir(dir string) error
}

// File is an open file. Reads may be concurrent with everything else; other
// methods are called by one goroutine at a time.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer

	Size() (int64, error)
	Truncate(size int64) error

	// Allocate reserves space for size bytes, which read as zeros, so that
	// writing them later neither fails for want of space nor changes the
	// size. A file system that cannot do so does nothing.
	Allocate(size int64) error

	// Sync makes the content durable, and the size as far as reading needs it.
	// Not called again on a file for which it failed.
	Sync() error
}
