package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const frameSize = frameOverhead + 10 // of the records of rec

// filled returns a disk with the records 1–11 in segments 1–4, 5–8, 9–11, the
// last with room for one more, and the process killed or the spool closed.
func filled(t testing.TB, closed bool) *disk {
	t.Helper()
	d := newDisk(1)
	s := mustOpen(t, small(d.process()))
	for i := 1; i <= 11; i++ {
		mustAppend(t, s, rec(i))
	}
	if !closed {
		d.process()
		s.Close()
		return d
	}
	mustClose(t, s)
	return d
}

// records lists test records, leaving out some.
func records(from, to int, without ...int) []string {
	var all []string
	for i := from; i <= to; i++ {
		if !slices.Contains(without, i) {
			all = append(all, rec(i))
		}
	}
	return all
}

var (
	firstSegment  = segmentName(1)
	middleSegment = segmentName(5)
	lastSegment   = segmentName(9)
	restSegment   = segmentName(12)
)

// at is where the n-th record of a segment begins, counted from 0.
func at(n int) int { return headerSize + n*frameSize }

func flip(i int) func([]byte) []byte {
	return func(b []byte) []byte { b[i] ^= 1 << (i % 8); return b }
}

func zero(from, to int) func([]byte) []byte {
	return func(b []byte) []byte { clear(b[from:min(to, len(b))]); return b }
}

func cut(size int) func([]byte) []byte {
	return func(b []byte) []byte { return b[:size] }
}

func TestDamage(t *testing.T) {
	const end = 1 << 20
	tests := []struct {
		name   string
		closed bool
		file   string
		change func([]byte) []byte // nil: the file is removed
		want   []string
		lost   uint64
		// damaged counts the segments that are set aside once all is trimmed.
		damaged int
	}{
		{name: "nothing", file: firstSegment, change: cut(at(4)), want: records(1, 11)},
		{name: "nothing, closed", closed: true, file: firstSegment, change: cut(at(4)), want: records(1, 11)},

		{name: "missing first segment", file: firstSegment, want: records(5, 11)},
		{name: "missing middle segment", file: middleSegment, want: append(records(1, 4), records(9, 11)...), lost: 4, damaged: 1},
		{name: "missing rest segment", closed: true, file: restSegment, want: records(1, 11)},
		{name: "missing identity", file: identityName, want: records(1, 11)},
		{name: "damaged identity", file: identityName, change: flip(20), want: records(1, 11)},
		{name: "empty identity", file: identityName, change: cut(0), want: records(1, 11)},

		{name: "first record of a segment", file: middleSegment, change: flip(at(0) + 40), want: records(1, 11, 5), lost: 1, damaged: 1},
		{name: "frame of the first record", file: middleSegment, change: flip(at(0)), want: records(1, 11, 5), lost: 1, damaged: 1},
		{name: "last record of a segment", file: middleSegment, change: flip(at(3) + 40), want: records(1, 11, 8), lost: 1, damaged: 1},
		{name: "length of a record", file: middleSegment, change: flip(at(1) + 11), want: records(1, 11, 6), lost: 1, damaged: 1},
		{name: "two records", file: middleSegment, change: zero(at(1), at(3)), want: records(1, 11, 6, 7), lost: 2, damaged: 1},
		{name: "zeros over a border", file: middleSegment, change: zero(at(1)+30, at(2)+3), want: records(1, 11, 6, 7), lost: 2, damaged: 1},
		{name: "zeros to the end", file: middleSegment, change: zero(at(2)+30, end), want: records(1, 11, 7, 8), lost: 2, damaged: 1},
		{name: "zeros only", file: middleSegment, change: zero(0, end), want: append(records(1, 4), records(9, 11)...), lost: 4, damaged: 1},
		{name: "emptied", file: middleSegment, change: cut(0), want: append(records(1, 4), records(9, 11)...), lost: 4, damaged: 1},
		{name: "cut in the header", file: middleSegment, change: cut(10), want: append(records(1, 4), records(9, 11)...), lost: 4, damaged: 1},
		{name: "cut in a record", file: middleSegment, change: cut(at(2) + 7), want: records(1, 11, 7, 8), lost: 2, damaged: 1},
		{name: "header", file: middleSegment, change: flip(33), want: records(1, 11), damaged: 1},
		{name: "header of zeros", file: middleSegment, change: zero(0, headerSize), want: records(1, 11), damaged: 1},
		{
			name: "shifted", file: middleSegment, want: records(1, 11), damaged: 1,
			change: func(b []byte) []byte { return slices.Concat(b[:7], b) },
		},

		{name: "record within the last segment", file: lastSegment, change: flip(at(1) + 40), want: records(1, 11, 10), lost: 1, damaged: 1},
		{name: "frame within the last segment", file: lastSegment, change: flip(at(1)), want: records(1, 11, 10), lost: 1, damaged: 1},
		// Not to be told from a torn write; but in a closed spool it is.
		{name: "last record", file: lastSegment, change: flip(at(2)), want: records(1, 10)},
		{name: "last record, closed", closed: true, file: lastSegment, change: flip(at(2)), want: records(1, 10), lost: 1, damaged: 1},
		{name: "zeros at the end", file: lastSegment, change: zero(at(2), end), want: records(1, 10)},
		{name: "all of the last segment", file: lastSegment, change: zero(0, end), want: records(1, 8), damaged: 1},
		{name: "header of the last segment", file: lastSegment, change: flip(0), want: records(1, 11), damaged: 1},
		{name: "header of the rest segment", closed: true, file: restSegment, change: flip(13), want: records(1, 11), damaged: 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := filled(t, tt.closed)
			if tt.change != nil {
				d.edit(t, tt.file, tt.change)
			} else if err := d.process().Remove(filepath.Join(testDir, tt.file)); err != nil {
				t.Fatal(err)
			}
			// The same is read in each life, whatever happened meanwhile.
			var last uint64
			for life := range 3 {
				s := mustOpen(t, small(d.process()))
				if life == 2 {
					seq := mustAppend(t, s, rec(99))
					if seq <= 11 {
						t.Errorf("number %d is used again", seq)
					}
					tt.want = append(tt.want, rec(99))
					last = seq
				}
				wantAll(t, s, tt.want...)
				if st := s.Stats(); st.Lost != tt.lost || st.Damaged != tt.damaged {
					t.Errorf("life %d: %d records lost, %d segments damaged; want %d and %d",
						life, st.Lost, st.Damaged, tt.lost, tt.damaged)
				}
				if life == 2 {
					wantSetAside(t, d, s, last, tt.damaged, tt.lost)
				}
				d.process()
				s.Close()
			}
		})
	}
}

// wantSetAside trims all and looks what is left.
func wantSetAside(t *testing.T, d *disk, s *Spool, last uint64, damaged int, lost uint64) {
	t.Helper()
	if err := s.Trim(last); err != nil {
		t.Fatal(err)
	}
	aside := 0
	for _, name := range d.files() {
		if strings.HasPrefix(name, damagedPrefix) {
			aside++
		}
	}
	if st := s.Stats(); aside != damaged || st.Aside != damaged || st.Damaged != damaged || st.Lost != lost || st.Segments != 1 {
		t.Errorf("set aside: %d files, want %d; %+v", aside, damaged, st)
	}
	var bytes int64
	for _, name := range d.files() {
		bytes += int64(len(d.names[filepath.Join(testDir, name)].data))
	}
	if st := s.Stats(); st.Bytes != bytes {
		t.Errorf("%d bytes are on disk, Stats say %d", bytes, st.Bytes)
	}
}

// TestTornAtEveryByte cuts the last record short, or leaves zeros or garbage
// in the place of its rest.
func TestTornAtEveryByte(t *testing.T) {
	whole := filled(t, false)
	tears := map[string]func(b []byte, i int) []byte{
		"cut":     func(b []byte, i int) []byte { return b[:i] },
		"zeros":   func(b []byte, i int) []byte { clear(b[i:]); return b },
		"garbage": func(b []byte, i int) []byte { b[i] ^= 0x55; clear(b[i+1:]); return b },
	}
	for name, tear := range tears {
		for i := at(2); i < at(3); i++ {
			d := whole.copy()
			d.edit(t, lastSegment, func(b []byte) []byte { return tear(b, i) })
			s := mustOpen(t, small(d.process()))
			want := records(1, 10)
			if name == "zeros" && i >= at(2)+frameOverhead+10 {
				want = records(1, 11)
			}
			wantAll(t, s, want...)
			if st := s.Stats(); st.Damaged != 0 || st.Lost != 0 {
				t.Fatalf("%s at byte %d: %+v", name, i, st)
			}
			if seq := mustAppend(t, s, rec(12)); seq <= 11 {
				t.Fatalf("%s at byte %d: number %d is used again", name, i, seq)
			}
			wantAll(t, s, append(want, rec(12))...)
			mustClose(t, s)
		}
	}
}

// TestEveryBitOfASegment flips each bit: it costs one record at most, and
// never yields one that was not appended.
func TestEveryBitOfASegment(t *testing.T) {
	for _, file := range []string{middleSegment, lastSegment} {
		whole := filled(t, false)
		size := len(whole.names[filepath.Join(testDir, file)].data)
		for bit := range size * 8 {
			d := whole.copy()
			d.edit(t, file, func(b []byte) []byte { b[bit/8] ^= 1 << (bit % 8); return b })
			s := mustOpen(t, small(d.process()))
			r := s.Reader(1)
			got := contents(readAll(t, r))
			hit := bit / 8
			want := records(1, 11)
			if hit >= headerSize && hit < at(4) {
				first, _ := parseSegmentName(file)
				want = records(1, 11, int(first)+(hit-headerSize)/frameSize)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("%s, bit %d of byte %d (-want +got):\n%s", file, bit%8, hit, diff)
			}
			mustClose(t, r)
			mustClose(t, s)
		}
	}
}

func TestForeignSegmentIsSetAside(t *testing.T) {
	d := filled(t, true)
	other := filled(t, true)
	foreign := other.names[filepath.Join(testDir, middleSegment)].data
	d.edit(t, middleSegment, func([]byte) []byte { return foreign })
	var log logged
	opts := small(d.process())
	opts.Logger = log.logger()
	s := mustOpen(t, opts)
	defer mustClose(t, s)
	if !slices.Contains(d.files(), damagedPrefix+middleSegment) {
		t.Errorf("not set aside: %q", d.files())
	}
	wantAll(t, s, append(records(1, 4), records(9, 11)...)...)
	if !strings.Contains(log.String(), "another spool") {
		t.Errorf("log: %s", log.String())
	}
	if st := s.Stats(); st.Aside != 1 || st.Lost != 4 {
		t.Errorf("%+v", st)
	}
}

func TestSetAsideKeepsEarlierEvidence(t *testing.T) {
	d := filled(t, true)
	file, err := d.process().Create(filepath.Join(testDir, damagedPrefix+middleSegment))
	if err != nil {
		t.Fatal(err)
	}
	mustClose(t, file)
	d.edit(t, middleSegment, flip(at(0)))
	s := mustOpen(t, small(d.process()))
	defer mustClose(t, s)
	wantAll(t, s, records(1, 11, 5)...)
	if err := s.Trim(12); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{damagedPrefix + middleSegment, damagedPrefix + middleSegment + ".2"} {
		if !slices.Contains(d.files(), want) {
			t.Errorf("%s is not among %q", want, d.files())
		}
	}
}

func TestNewerVersionIsLeftAlone(t *testing.T) {
	d := filled(t, true)
	d.edit(t, middleSegment, func(b []byte) []byte {
		b[8]++
		sum := checksum(string(b[:60]))
		b[60], b[61], b[62], b[63] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
		return b
	})
	before := d.files()
	if _, err := Open(small(d.process())); !errors.Is(err, errVersion) {
		t.Errorf("Open: %v", err)
	}
	if diff := cmp.Diff(before, d.files()); diff != "" {
		t.Errorf("files (-before +after):\n%s", diff)
	}
}

func TestLostSegmentsMakeANewSpool(t *testing.T) {
	d := filled(t, true)
	s := mustOpen(t, small(d.process()))
	id := s.ID()
	mustClose(t, s)
	for _, name := range d.segments() {
		if err := (memFS{d, d.epoch}).Remove(filepath.Join(testDir, name)); err != nil {
			t.Fatal(err)
		}
	}
	s = mustOpen(t, small(d.process()))
	defer mustClose(t, s)
	if s.ID() == id {
		t.Error("the numbers start again under the same id")
	}
}

func TestUnreadableBlock(t *testing.T) {
	for _, file := range []string{middleSegment, lastSegment} {
		d := filled(t, false)
		d.bad[file] = int64(at(1) + 3)
		s := mustOpen(t, small(d.process()))
		r := s.Reader(1)
		got := contents(readAll(t, r)) // gives up after a hundred errors
		// The whole segment is within one block of the disk.
		var want []string
		switch file {
		case middleSegment:
			want = append(records(1, 4), records(9, 11)...)
		case lastSegment:
			want = records(1, 8)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
		mustClose(t, r)
		if seq := mustAppend(t, s, rec(12)); seq <= 11 {
			t.Errorf("%s: number %d is used again", file, seq)
		}
		mustClose(t, s)
	}
}

func TestSegmentUnderAnotherName(t *testing.T) {
	d := filled(t, true)
	other := d.names[filepath.Join(testDir, firstSegment)].data
	d.edit(t, middleSegment, func([]byte) []byte { return other })
	s := mustOpen(t, small(d.process()))
	defer mustClose(t, s)
	wantAll(t, s, append(records(1, 4), records(9, 11)...)...)
	if st := s.Stats(); st.Lost != 4 || st.Damaged != 1 {
		t.Errorf("%+v", st)
	}
}

func TestSegmentThatCannotBeOpened(t *testing.T) {
	fsys := &denying{FS: filled(t, true).process()}
	s := mustOpen(t, small(fsys))
	defer mustClose(t, s)
	fsys.name = middleSegment
	wantAll(t, s, append(records(1, 4), records(9, 11)...)...)
	if st := s.Stats(); st.Lost != 4 || st.Damaged != 1 {
		t.Errorf("%+v", st)
	}
}

// denying refuses to open a file.
type denying struct {
	FS
	name string
}

func (f *denying) Open(name string) (File, error) {
	if filepath.Base(name) == f.name {
		return nil, fs.ErrPermission
	}
	return f.FS.Open(name)
}

// TestTornGroup leaves each subset of the sectors of an unacknowledged group:
// no damage is reported, and what is delivered was appended.
func TestTornGroup(t *testing.T) {
	group := records(4, 6)
	torn := 0
	for seed := range uint64(300) {
		d := newDisk(seed)
		opts := small(d.process())
		opts.SegmentBytes = headerSize + 8*frameSize
		s := mustOpen(t, opts)
		for i := 1; i <= 3; i++ {
			mustAppend(t, s, rec(i))
		}
		held, release := holdSyncs(d)
		done := make(chan struct{})
		go func() {
			appendGroup(s, group...)
			close(done)
		}()
		<-held
		d.cutPower()
		d.mu.Lock()
		d.onSync = nil
		d.mu.Unlock()
		close(release)
		<-done
		s.Close()

		opts.FS = d.process()
		for range 2 {
			s = mustOpen(t, opts)
			r := s.Reader(1)
			got := contents(readAll(t, r))
			if len(got) < 6 {
				torn++
			}
			if diff := cmp.Diff(records(1, 3), got[:3]); diff != "" {
				t.Fatalf("seed %d (-want +got):\n%s", seed, diff)
			}
			for i, data := range got[3:] {
				if !slices.Contains(group[i:], data) {
					t.Fatalf("seed %d: %q", seed, got)
				}
			}
			if st := s.Stats(); st.Damaged != 0 || st.Lost != 0 {
				t.Fatalf("seed %d: a torn write is taken for damage: %+v, %q", seed, st, got)
			}
			mustClose(t, r)
			mustAppend(t, s, fmt.Sprint("life of ", seed))
			mustClose(t, s)
			opts.FS = d.process()
			group = append(group, fmt.Sprint("life of ", seed), fmt.Sprint("life of ", seed))
		}
		group = group[:3]
	}
	if torn < 300 {
		t.Errorf("only %d of 600 groups were torn", torn)
	}
}

// TestDamageWithinAGroup counts what was lost of a group as soon as a later
// one shows that it was acknowledged, also in the segment of a crash.
func TestDamageWithinAGroup(t *testing.T) {
	for _, later := range []bool{false, true} {
		d := newDisk(1)
		opts := small(d.process())
		opts.SegmentBytes = headerSize + 8*frameSize
		s := mustOpen(t, opts)
		appendGroup(s, rec(1), rec(2), rec(3))
		wantLost := uint64(0) // it may have been torn
		want := []string{rec(1), rec(3)}
		if later {
			mustAppend(t, s, rec(4))
			wantLost, want = 1, append(want, rec(4))
		}
		d.process()
		s.Close()
		d.edit(t, firstSegment, flip(at(1)))
		opts.FS = d.process()
		s = mustOpen(t, opts)
		if st := s.Stats(); st.Lost != wantLost {
			t.Errorf("later group %v: Open finds %d records lost", later, st.Lost)
		}
		wantAll(t, s, want...)
		if st := s.Stats(); st.Lost != wantLost {
			t.Errorf("later group %v: reading finds %d records lost", later, st.Lost)
		}
		mustClose(t, s)
	}
}

// TestRecordCannotPoseAsAFrame damages the frame around a record that holds
// the image of one.
func TestRecordCannotPoseAsAFrame(t *testing.T) {
	d := newDisk(1)
	s := mustOpen(t, Options{Dir: testDir, FS: d.process(), SegmentBytes: 1 << 10})
	// All may be known to a sender, but for the salt.
	guess := s.self
	clear(guess.salt[:])
	forged := frame{dataCRC: checksum("forged"), seq: 2, group: 1, data: []byte("forged")}
	var image []byte
	for _, seed := range []uint32{0, guess.seed(1)} {
		image = appendFrame(image, seed, forged)
	}
	genuine := appendFrame(nil, s.self.seed(1), forged) // shows that the test would notice

	mustAppend(t, s, string(image))
	mustAppend(t, s, rec(2))
	mustAppend(t, s, rec(3))
	mustClose(t, s)
	d.edit(t, firstSegment, flip(headerSize))
	s = mustOpen(t, Options{Dir: testDir, FS: d.process(), SegmentBytes: 1 << 10})
	wantAll(t, s, rec(2), rec(3))
	mustClose(t, s)

	d.edit(t, firstSegment, func(b []byte) []byte { copy(b[headerSize+frameOverhead:], genuine); return b })
	s = mustOpen(t, Options{Dir: testDir, FS: d.process(), SegmentBytes: 1 << 10})
	wantAll(t, s, "forged", rec(3))
	mustClose(t, s)
}
