//go:build !linux

package spool

// Allocate does nothing: the file grows as it is written.
func (osFile) Allocate(int64) error { return nil }
