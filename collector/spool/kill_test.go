package spool

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
)

var childDir = flag.String("spool.child", "", "be the process that TestSIGKILL kills, with its spool in this directory")

func TestMain(m *testing.M) {
	flag.Parse()
	if *childDir == "" {
		m.Run()
		return
	}
	if err := child(*childDir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

func childOptions(dir string) Options {
	return Options{Dir: dir, SegmentBytes: 64 << 10, MaxBytes: 64 << 20}
}

// child appends until it is killed, and tells which records were acknowledged.
func child(dir string) error {
	s, err := Open(childOptions(dir))
	if err != nil {
		return err
	}
	failed := make(chan error)
	for a := range 8 {
		go func() {
			for i := 0; ; i++ {
				data := fmt.Sprintf("%d/%d/%d/%s", os.Getpid(), a, i, strings.Repeat("x", rand.IntN(500)))
				seq, err := s.Append(context.Background(), []byte(data))
				if err == nil {
					// One write, so a line is whole or not there.
					_, err = fmt.Fprintf(os.Stdout, "%d %s\n", seq, data)
				}
				if err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	return <-failed
}

// TestSIGKILL kills a process at random moments: what it acknowledged is
// there, once, in all lives after.
func TestSIGKILL(t *testing.T) {
	dir := t.TempDir()
	acked := map[uint64]string{}
	last := uint64(0)
	for life := range 8 {
		lines := killedChild(t, dir, 200+rand.IntN(800))
		for seq, data := range lines {
			if seq <= last {
				t.Fatalf("life %d: number %d is given after %d", life, seq, last)
			}
			acked[seq] = data
		}
		s := mustOpen(t, childOptions(dir))
		r := s.Reader(1)
		got := readAll(t, r)
		mustClose(t, r)
		if life%2 == 0 {
			mustClose(t, s)
		} else if err := s.lock.Close(); err != nil { // as if killed again
			t.Fatal(err)
		}
		read, seen := map[uint64]string{}, map[string]bool{}
		last = 0
		for _, rec := range got {
			if rec.Seq <= last || seen[string(rec.Data)] {
				t.Fatalf("life %d: %d after %d, or twice", life, rec.Seq, last)
			}
			last = rec.Seq
			read[rec.Seq], seen[string(rec.Data)] = string(rec.Data), true
		}
		for seq, data := range acked {
			if read[seq] != data {
				t.Fatalf("life %d: record %d was acknowledged and is not there", life, seq)
			}
		}
		// Unacknowledged ones are those that were in flight.
		if extra := len(read) - len(acked); extra > 2*8*(life+1) {
			t.Errorf("life %d: %d records are there that were not acknowledged", life, extra)
		}
		if st := s.Stats(); st.Damaged != 0 || st.Lost != 0 {
			t.Errorf("life %d: %+v", life, st)
		}
	}
}

// killedChild starts a child, kills it after n acknowledgements, and returns
// all it made.
func killedChild(t *testing.T, dir string, n int) map[uint64]string {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-spool.child", dir)
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := map[uint64]string{}
	in := bufio.NewReader(out)
	for {
		line, err := in.ReadString('\n')
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		var seq uint64
		var data string
		if _, err := fmt.Sscanf(line, "%d %s\n", &seq, &data); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		lines[seq] = data
		if len(lines) == n {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || complaint.Len() > 0 {
		t.Fatalf("the child ended by itself: %v %s", err, complaint.String())
	}
	return lines
}
