package spool

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// FuzzSegment opens a spool one of whose segments is any bytes: the spool comes
// up, gives records of other segments as they were and never one that was not
// appended, and takes new ones. Inspect reads the same.
func FuzzSegment(f *testing.F) {
	whole := filled(f, false)
	for _, name := range []string{firstSegment, middleSegment, lastSegment} {
		data := whole.names[filepath.Join(testDir, name)].data
		f.Add(data, uint8(0))
		f.Add(data, uint8(1))
		f.Add(data, uint8(2))
	}
	f.Add([]byte{}, uint8(2))
	f.Add([]byte(magic), uint8(1))
	appended := make(map[string]bool)
	for _, record := range records(1, 12) {
		appended[record] = true
	}
	f.Fuzz(func(t *testing.T, data []byte, which uint8) {
		d := whole.copy()
		name := []string{firstSegment, middleSegment, lastSegment}[which%3]
		d.edit(t, name, func([]byte) []byte { return data })
		inspected, err := inspectCopy(t, d)
		if err != nil && !errors.Is(err, errVersion) {
			t.Fatal(err)
		}
		s, err := Open(small(d.process()))
		if errors.Is(err, errVersion) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		r := s.Reader(1)
		got := contents(readAll(t, r))
		mustClose(t, r)
		seen := make(map[string]bool)
		for _, record := range got {
			if !appended[record] || seen[record] {
				t.Fatalf("%q was read", record)
			}
			seen[record] = true
		}
		for first, others := range map[string][]string{firstSegment: records(1, 4), middleSegment: records(5, 8), lastSegment: records(9, 11)} {
			for _, record := range others {
				if first != name && !seen[record] {
					t.Fatalf("%q of another segment is lost", record)
				}
			}
		}
		if inspected != len(got) {
			t.Fatalf("Inspect reads %d records, and a reader %d", inspected, len(got))
		}
		if seq := mustAppend(t, s, rec(12)); seq <= 11 {
			t.Fatalf("number %d is used again", seq)
		}
	})
}

// inspectCopy counts the records that Inspect finds, on a real disk.
func inspectCopy(t *testing.T, d *disk) (records int, err error) {
	t.Helper()
	dir := t.TempDir()
	for name, ino := range d.names {
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), ino.data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err = Inspect(t.Context(), dir, func(Record) error { records++; return nil })
	return records, err
}
