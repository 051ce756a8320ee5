package spool

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"time"
)

// The format is described in DESIGN.md, section 3.
const (
	magic         = "SLUISSPL"
	version       = 1
	headerSize    = 64
	frameOverhead = 36

	flagRest = 1 << 0

	// A segment may use this many numbers, and cannot hold more frames.
	numbersPerSegment = 1 << 25
	maxSegmentBytes   = 1 << 30

	// Far from overflow, and within BigQuery's INT64.
	maxNumber = 1 << 62
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// identity tells one spool from another.
type identity struct {
	id, salt [8]byte
}

func (i identity) String() string { return hex.EncodeToString(i.id[:]) }

// seed starts the checksum of each frame in the segment that begins with
// first, so that bytes from elsewhere are not taken for a frame.
func (i identity) seed(first uint64) uint32 {
	return crc32.Checksum(binary.LittleEndian.AppendUint64(i.salt[:len(i.salt):len(i.salt)], first), castagnoli)
}

// header is the start of a segment file, and the whole of the identity file.
type header struct {
	identity
	rest         bool
	first, after uint64
	made         time.Time
}

var (
	errHeader  = errors.New("damaged header")
	errVersion = errors.New("written by a newer version of this program")
)

func (h header) encode() []byte {
	b := make([]byte, 0, headerSize)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint32(b, version)
	var flags uint32
	if h.rest {
		flags |= flagRest
	}
	b = binary.LittleEndian.AppendUint32(b, flags)
	b = append(b, h.id[:]...)
	b = append(b, h.salt[:]...)
	b = binary.LittleEndian.AppendUint64(b, h.first)
	b = binary.LittleEndian.AppendUint64(b, h.after)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.made.UnixNano()))
	b = append(b, 0, 0, 0, 0)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// decodeHeader returns errHeader or errVersion for what it cannot read.
func decodeHeader(b []byte) (header, error) {
	if len(b) < headerSize || string(b[:8]) != magic ||
		binary.LittleEndian.Uint32(b[60:]) != crc32.Checksum(b[:60], castagnoli) {
		return header{}, errHeader
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != version {
		return header{}, fmt.Errorf("%w: format %d, this one reads %d", errVersion, v, version)
	}
	h := header{
		rest:  binary.LittleEndian.Uint32(b[12:])&flagRest != 0,
		first: binary.LittleEndian.Uint64(b[32:]),
		after: binary.LittleEndian.Uint64(b[40:]),
		made:  time.Unix(0, int64(binary.LittleEndian.Uint64(b[48:]))),
	}
	copy(h.id[:], b[16:])
	copy(h.salt[:], b[24:])
	if h.first > maxNumber || h.after > h.first {
		return header{}, errHeader
	}
	return h, nil
}

// frame is a record with what the spool adds to it.
type frame struct {
	dataCRC uint32
	length  int
	seq     uint64
	group   uint64 // the first number that was written together with seq
	time    time.Time
	data    []byte
}

// appendFrame encodes f; its length is that of its data.
func appendFrame(b []byte, seed uint32, f frame) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, f.dataCRC)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(f.data)))
	b = binary.LittleEndian.AppendUint64(b, f.seq)
	b = binary.LittleEndian.AppendUint64(b, f.group)
	b = binary.LittleEndian.AppendUint64(b, uint64(f.time.UnixNano()))
	binary.LittleEndian.PutUint32(b[start:], crc32.Update(seed, castagnoli, b[start+4:]))
	return append(b, f.data...)
}

// decodeFrameHeader reads the first frameOverhead bytes of b. It reports
// whether their checksum is right, so that length and seq can be believed.
func decodeFrameHeader(b []byte, seed uint32) (frame, bool) {
	if binary.LittleEndian.Uint32(b) != crc32.Update(seed, castagnoli, b[4:frameOverhead]) {
		return frame{}, false
	}
	return frame{
		dataCRC: binary.LittleEndian.Uint32(b[4:]),
		length:  int(binary.LittleEndian.Uint32(b[8:])),
		seq:     frameSeq(b),
		group:   binary.LittleEndian.Uint64(b[20:]),
		time:    time.Unix(0, int64(binary.LittleEndian.Uint64(b[28:]))),
	}, true
}

// frameSeq is the number in a frame header that may not be one.
func frameSeq(b []byte) uint64 { return binary.LittleEndian.Uint64(b[12:]) }

const (
	segmentSuffix = ".seg"
	tmpSuffix     = ".tmp"
	damagedPrefix = "damaged-"
	identityName  = "identity"
	lockName      = "lock"
)

func segmentName(first uint64) string { return fmt.Sprintf("%020d", first) + segmentSuffix }

// parseSegmentName returns the first number of the segment with that name.
func parseSegmentName(name string) (first uint64, ok bool) {
	digits, found := strings.CutSuffix(name, segmentSuffix)
	if !found || len(digits) != 20 {
		return 0, false
	}
	first, err := strconv.ParseUint(digits, 10, 64)
	return first, err == nil && first > 0 && first <= maxNumber
}
