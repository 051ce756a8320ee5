package spool

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestHeaderRoundTrip(t *testing.T) {
	want := header{
		identity: identity{id: [8]byte{1, 2, 3}, salt: [8]byte{9}},
		rest:     true, first: 17, after: 12, made: time.Unix(1_700_000_000, 5),
	}
	b := want.encode()
	if len(b) != headerSize {
		t.Fatalf("%d bytes", len(b))
	}
	got, err := decodeHeader(b)
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(header{}, identity{})); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for bit := range len(b) * 8 {
		b[bit/8] ^= 1 << (bit % 8)
		if _, err := decodeHeader(b); !errors.Is(err, errHeader) {
			t.Errorf("bit %d: %v", bit, err)
		}
		b[bit/8] ^= 1 << (bit % 8)
	}
	for n := range len(b) {
		if _, err := decodeHeader(b[:n]); !errors.Is(err, errHeader) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestSegmentNames(t *testing.T) {
	for _, first := range []uint64{1, 99, maxNumber} {
		if got, ok := parseSegmentName(segmentName(first)); !ok || got != first {
			t.Errorf("%d: %d %v", first, got, ok)
		}
	}
	for _, name := range []string{
		"", ".seg", "1.seg", "00000000000000000000.seg", "18446744073709551615.seg", "99999999999999999999.seg",
		"0000000000000000000x.seg", "-0000000000000000001.seg", "00000000000000000001.seg.tmp", "damaged-00000000000000000001.seg",
	} {
		if _, ok := parseSegmentName(name); ok {
			t.Errorf("%q is taken for a segment", name)
		}
	}
}

// FuzzScanner reads a segment with arbitrary bytes over a sound one.
// What it yields are bytes that are there, in rising numbers, and encode again
// to the same.
func FuzzScanner(f *testing.F) {
	seed := identity{salt: [8]byte{1}}.seed(1)
	var sound []byte
	for i, data := range []string{"", "a", "some more bytes", "x"} {
		sound = appendFrame(sound, seed, frame{
			dataCRC: checksum(data), seq: uint64(i + 1), group: uint64(i&^1 + 1), time: time.Unix(1, 2), data: []byte(data),
		})
	}
	f.Add(sound, uint16(0), []byte{}, uint8(0))
	f.Add(sound, uint16(40), []byte("noise"), uint8(1))
	f.Add(bytes.Repeat(sound, 2), uint16(70), []byte{0, 0, 0, 0}, uint8(200))
	f.Fuzz(func(t *testing.T, segment []byte, at uint16, noise []byte, failing uint8) {
		b := append(make([]byte, headerSize), segment...)
		if int(at) < len(b) {
			copy(b[at:], noise)
		}
		file := &flaky{Reader: bytes.NewReader(b), failures: int(failing)}
		sc := &scanner{file: file, seed: seed, off: headerSize, limit: int64(len(b)), expect: 1, stop: numbersPerSegment}
		var last uint64
		for {
			fr, err := sc.next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				continue
			}
			encoded := appendFrame(nil, seed, fr)
			start := sc.off - int64(len(encoded))
			if start < headerSize || !bytes.Equal(encoded, b[start:sc.off]) {
				t.Fatalf("frame %d at %d is not what is there", fr.seq, start)
			}
			if fr.seq <= last || checksum(string(fr.data)) != fr.dataCRC {
				t.Fatalf("frame %d after %d", fr.seq, last)
			}
			last = fr.seq
		}
		sc.stop = sc.expect
		sc.end(false)
		if sc.lost > last {
			t.Fatalf("%d of %d records are lost", sc.lost, last)
		}
	})
}

// FuzzHeader checks that what is decoded encodes to the same.
func FuzzHeader(f *testing.F) {
	f.Add(header{first: 3, after: 2, made: time.Unix(0, 0)}.encode())
	f.Add(header{rest: true, first: 1, after: 1, made: time.Unix(0, 1)}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= headerSize {
			// Let the fuzzer past the checksum.
			sum := checksum(string(b[:60]))
			b[60], b[61], b[62], b[63] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
		}
		h, err := decodeHeader(b)
		if err != nil {
			return
		}
		again, err := decodeHeader(h.encode())
		if diff := cmp.Diff(h, again, cmp.AllowUnexported(header{}, identity{})); err != nil || diff != "" {
			t.Fatalf("%v %s", err, diff)
		}
	})
}

// flaky fails at first.
type flaky struct {
	*bytes.Reader
	failures int
}

func (f *flaky) ReadAt(p []byte, off int64) (int, error) {
	if f.failures > 0 {
		f.failures--
		return 0, errInjected
	}
	return f.Reader.ReadAt(p, off)
}
