package spool

import (
	"bytes"
	"errors"
	"hash/crc32"
	"io"
	"syscall"
)

const (
	// readAttempts is how often reading fails at one place before what cannot
	// be read counts as damaged.
	readAttempts = 5

	readChunk = 256 << 10
	diskBlock = 4 << 10
)

// scanner yields the intact frames of a segment in order, leaving out what is
// damaged. It is used by one goroutine.
type scanner struct {
	file io.ReaderAt
	seed uint32

	off    int64  // where the next frame should be
	expect uint64 // the number it should have
	// Below these, frames are part of the log. Both may grow between calls.
	limit int64
	stop  uint64

	// lost counts the acknowledged numbers that were passed over, from the
	// number from on. doubtful counts those in the group that was read last:
	// they were acknowledged if another group follows, and otherwise may
	// belong to a torn write.
	from, lost, doubtful uint64
	group                uint64

	// skippedBytes tells whether something that is neither a frame nor zeros
	// was passed over.
	skippedBytes bool

	buf      []byte // the bytes from bufOff on
	bufOff   int64
	failures int // of reading at off
}

// next returns the next intact frame; its data stay valid. A number above
// expect means that those between are damaged, lost or were never written.
//
// io.EOF means no frame below limit and stop; scanning goes on at limit if
// that grows. After any other error next may be called again, and goes on
// behind the unreadable place in the end.
func (sc *scanner) next() (frame, error) {
	for sc.expect < sc.stop {
		b, err := sc.window(frameOverhead)
		if err != nil {
			return frame{}, err
		}
		if len(b) < frameOverhead {
			sc.skipTo(sc.limit)
			return frame{}, io.EOF
		}
		f, ok := decodeFrameHeader(b, sc.seed)
		if !ok || !sc.plausible(f.seq) || sc.off+frameOverhead+int64(f.length) > sc.limit {
			if err := sc.search(); err != nil {
				return frame{}, err
			}
			continue
		}
		size := frameOverhead + f.length
		if b, err = sc.window(size); err != nil {
			return frame{}, err
		}
		if len(b) < size {
			continue // the file proved shorter than limit, which is lower now
		}
		f.data = b[frameOverhead:size:size]
		if crc32.Checksum(f.data, castagnoli) != f.dataCRC {
			// The length is sound, so the damage is this record's alone.
			sc.skippedBytes = true
			sc.off += int64(size)
			continue
		}
		sc.account(f)
		sc.off += int64(size)
		sc.expect = f.seq + 1
		return f, nil
	}
	return frame{}, io.EOF
}

// account counts the numbers passed over before f.
func (sc *scanner) account(f frame) {
	if f.group > sc.group {
		// It was begun when all before it was durable.
		sc.lost += sc.doubtful
		sc.doubtful = 0
		sc.group = f.group
	}
	first := max(sc.expect, sc.from)
	if acknowledged := min(f.group, f.seq); acknowledged > first {
		sc.lost += acknowledged - first
		first = acknowledged
	}
	if f.seq > first {
		sc.doubtful += f.seq - first
	}
}

// end accounts for the end of the log at stop. torn says that the last group
// was perhaps never acknowledged.
func (sc *scanner) end(torn bool) {
	if first := max(sc.expect, sc.from); first < sc.stop {
		sc.lost += sc.stop - first
	}
	if !torn {
		sc.lost += sc.doubtful
	}
	sc.doubtful = 0
	sc.expect = max(sc.expect, sc.stop)
}

func (sc *scanner) plausible(seq uint64) bool { return seq >= sc.expect && seq < sc.stop }

// search moves off to the next frame header after off, or to limit.
func (sc *scanner) search() error {
	skip := int64(1) // what is at off is no frame
	for {
		b, err := sc.window(frameOverhead + 1)
		if err != nil {
			return err
		}
		i := int(skip)
		for ; i+frameOverhead <= len(b); i++ {
			// Most of a segment that was not filled is zeros. A frame is not: its
			// number, in bytes 12 to 19, is at least 1.
			if i+diskBlock <= len(b) && zeros(b[i:i+diskBlock]) {
				i += diskBlock - 20
				continue
			}
			// Nearly every other place fails the cheap test.
			if !sc.plausible(frameSeq(b[i:])) {
				continue
			}
			if _, ok := decodeFrameHeader(b[i:], sc.seed); ok {
				sc.skipTo(sc.off + int64(i))
				return nil
			}
		}
		if sc.bufOff+int64(len(sc.buf)) >= sc.limit {
			sc.skipTo(sc.limit)
			return nil
		}
		sc.skipTo(sc.off + int64(i))
		skip = 0
	}
}

// skipTo moves off, looking whether anything but zeros is left behind. The
// bytes up to off must be in buf.
func (sc *scanner) skipTo(off int64) {
	if !sc.skippedBytes {
		from := min(max(sc.off-sc.bufOff, 0), int64(len(sc.buf)))
		to := min(max(off-sc.bufOff, from), int64(len(sc.buf)))
		sc.skippedBytes = !zeros(sc.buf[from:to])
	}
	sc.off = off
}

var zeroBlock [diskBlock]byte

// zeros tells whether b holds nothing but zeros, at the speed of a comparison.
func zeros(b []byte) bool {
	for len(b) > diskBlock {
		if !bytes.Equal(b[:diskBlock], zeroBlock[:]) {
			return false
		}
		b = b[diskBlock:]
	}
	return bytes.Equal(b, zeroBlock[:len(b)])
}

// window returns the bytes from off on, at least n if limit allows it.
func (sc *scanner) window(n int) ([]byte, error) {
	have := sc.bufOff + int64(len(sc.buf)) - sc.off
	want := min(int64(n), sc.limit-sc.off)
	if sc.off < sc.bufOff || have < want {
		if err := sc.fill(int(min(int64(max(n, readChunk)), sc.limit-sc.off))); err != nil {
			return nil, err
		}
	}
	return sc.buf[min(sc.off-sc.bufOff, int64(len(sc.buf))):], nil
}

// fill reads n bytes at off into a new buffer: the old one belongs to those
// who hold its records.
func (sc *scanner) fill(n int) error {
	buf := make([]byte, n)
	got, err := sc.file.ReadAt(buf, sc.off)
	if errors.Is(err, io.EOF) {
		sc.limit = sc.off + int64(got) // a file cut short
		err = nil
	}
	if err != nil {
		if !denied(err) {
			sc.failures++
		}
		if sc.failures < readAttempts {
			return err
		}
		sc.skippedBytes = true
		got = readBlocks(sc.file, buf, sc.off)
	}
	sc.failures = 0
	sc.buf, sc.bufOff = buf[:got], sc.off
	return nil
}

// denied tells whether an error says nothing of the file: the system has no room,
// no descriptor or no leave for us at the moment. Such passes, and nothing is to be
// given up for it.
func denied(err error) bool {
	for _, passing := range []error{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.ENOSPC, syscall.EDQUOT, syscall.EACCES, syscall.EPERM, syscall.EAGAIN, syscall.EINTR,
	} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return false
}

// readBlocks reads what it can, block by block, and leaves zeros for the rest.
func readBlocks(file io.ReaderAt, buf []byte, off int64) int {
	for done := 0; done < len(buf); {
		// Up to the next boundary of a block on disk.
		size := min(diskBlock-int((off+int64(done))%diskBlock), len(buf)-done)
		if _, err := file.ReadAt(buf[done:done+size], off+int64(done)); err != nil {
			clear(buf[done : done+size])
		}
		done += size
	}
	return len(buf)
}
