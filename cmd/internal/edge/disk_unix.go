//go:build linux || darwin || freebsd

package edge

import "golang.org/x/sys/unix"

// freeBytes is the space that is left to us on the disk of a folder.
func freeBytes(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * int64(s.Bsize), nil //nolint:unconvert // the types differ between systems
}
