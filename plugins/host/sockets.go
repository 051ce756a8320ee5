package host

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	socketPrefix = "sluis-plugin-"
	// sweepAge keeps the sweep away from a directory that another host has made
	// and not yet locked.
	sweepAge = time.Minute
	// maxSocketDir leaves room for what go-plugin adds in the 104 bytes that
	// the strictest system has for a socket's path.
	maxSocketDir = 104 - len("/plugin-dir1234567890/plugin1234567890") - 1
)

// socketDir is a directory for one plugin's socket, locked while the host
// lives.
type socketDir struct {
	path string
	lock *os.File // nil where directories cannot be locked
}

// newSocketDir makes a directory, and removes those that killed hosts left.
func newSocketDir(base string, logger *slog.Logger) (*socketDir, error) {
	if base == "" {
		base = os.TempDir()
	}
	sweep(base, logger)
	path, err := os.MkdirTemp(base, socketPrefix)
	if err != nil {
		return nil, fmt.Errorf("make a directory for the plugin's socket: %w", err)
	}
	dir := &socketDir{path: path}
	if len(path) > maxSocketDir {
		dir.remove()
		return nil, fmt.Errorf("the path of the temporary directory %s is too long for a socket: choose one of at most %d bytes",
			base, maxSocketDir-len(socketPrefix)-10)
	}
	dir.lock, err = lockDir(path)
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		dir.remove()
		return nil, err
	}
	return dir, nil
}

// remove may be called again.
func (d *socketDir) remove() {
	_ = os.RemoveAll(d.path)
	if d.lock != nil {
		_ = d.lock.Close()
	}
}

// sweep removes the directories of hosts that are gone: old ones that nobody
// has locked. Locks, unlike process ids, hold across containers that share the
// directory.
func sweep(base string, logger *slog.Logger) {
	entries, err := os.ReadDir(base)
	if err != nil {
		return // making the directory will say what is wrong
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil || !entry.IsDir() || !strings.HasPrefix(entry.Name(), socketPrefix) || time.Since(info.ModTime()) < sweepAge {
			continue
		}
		path := filepath.Join(base, entry.Name())
		lock, err := lockDir(path)
		if err != nil {
			continue // in use, or another's
		}
		if err := os.RemoveAll(path); err != nil {
			logger.Warn("cannot remove the socket directory of a host that is gone", "dir", path, "error", err)
		}
		_ = lock.Close()
	}
}
