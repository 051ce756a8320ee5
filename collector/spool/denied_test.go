package spool

import (
	"errors"
	"io/fs"
	"syscall"
	"testing"
)

// denyingFS lets no file be opened to be read for some times.
type denyingFS struct {
	FS
	times int
	err   error
}

func (d *denyingFS) Open(name string) (File, error) {
	if d.times > 0 {
		d.times--
		return nil, &fs.PathError{Op: "open", Path: name, Err: d.err}
	}
	return d.FS.Open(name)
}

// TestDenied: a reader that gets no descriptor for a while gives nothing up,
// while one whose file is broken does, and goes on behind it.
func TestDenied(t *testing.T) {
	for err, lost := range map[error]bool{syscall.EMFILE: false, syscall.ENOSPC: false, syscall.EACCES: false, syscall.EIO: true} {
		denying := &denyingFS{FS: OS(), err: err}
		s, openErr := Open(Options{Dir: t.TempDir(), SegmentBytes: 1 << 20, FS: denying})
		if openErr != nil {
			t.Fatal(openErr)
		}
		if _, err := s.Append(t.Context(), []byte("kept")); err != nil {
			t.Fatal(err)
		}
		r := s.Reader(0)
		denying.times = 4 * readAttempts
		var got string
		failed := 0
		for got == "" && failed < 5*readAttempts {
			record, ok, err := r.TryNext()
			if err != nil {
				failed++
			} else if ok {
				got = string(record.Data)
			} else {
				break
			}
		}
		if gone := got == ""; gone != lost || !lost && failed != 4*readAttempts {
			t.Errorf("%v: after %d failures the reader has %q", err, failed, got)
		}
		if err := errors.Join(r.Close(), s.Close()); err != nil {
			t.Error(err)
		}
	}
}
