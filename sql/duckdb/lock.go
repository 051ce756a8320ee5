package duckdb

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/gofrs/flock"
)

// fileLock makes one process at a time the owner of a warehouse. The file's
// content tells others who that is; the file stays when the lock goes, since
// removing it would let two processes lock two files of one name.
type fileLock struct{ flock *flock.Flock }

func acquire(ctx context.Context, path, holder string, wait *waiter) (*fileLock, error) {
	lock := flock.New(path)
	for {
		locked, err := lock.TryLock()
		if err != nil {
			return nil, fmt.Errorf("lock: %w", err)
		}
		if locked {
			break
		}
		if err := wait.retry(ctx, readHolder(path)); err != nil {
			return nil, err
		}
	}
	if holder == "" {
		holder = "sluis"
	}
	// flock, unlike the POSIX locks, is not lost by closing this descriptor.
	content := fmt.Sprintf("%s (process %d)\n", holder, os.Getpid())
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	return &fileLock{lock}, nil
}

// readHolder tells who holds the lock; for a moment after locking, nobody
// may have written it yet.
func readHolder(path string) string {
	content, err := os.ReadFile(path)
	if holder := strings.TrimSpace(string(content)); err == nil && holder != "" {
		return holder
	}
	return "another process"
}

func (l *fileLock) release() error {
	if err := l.flock.Unlock(); err != nil {
		return fmt.Errorf("unlock warehouse: %w", err)
	}
	return nil
}
