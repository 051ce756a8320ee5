package collector

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/sluis-cdp/sluis/collector/spool"
)

// messageKey stands for a message id of a source: 128 bits of its SHA-256. It
// says no more than the id itself, which lands as event_id.
type messageKey [16]byte

func keyOfMessage(source, id string) messageKey {
	var few [192]byte
	sum := sha256.Sum256(append(append(append(few[:0], source...), 0), id...))
	return messageKey(sum[:])
}

// Window remembers the ids of messages that landed, so that one that is sent
// again is known to be a duplicate. It costs a request nothing on disk: the
// spool has the ids of what it holds, and before the [Loader] lets the spool
// forget a record, the window has written its ids down. So it knows after a
// crash what it knew before.
//
// claim, settle and add may be called concurrently, and beside landed, which one
// loader calls.
type Window struct {
	size int

	mu sync.Mutex
	// Two generations: when the younger has size ids, it becomes the older, and
	// what the older had is forgotten.
	younger, older map[messageKey]struct{}
	// claimed are the messages that requests are about to write.
	claimed map[messageKey]*keeping

	dir     string // "": nothing is written
	file    uint64 // the number of the newest file
	inFile  int    // ids in it
	torn    bool   // its end cannot be read, so nothing is to be appended to it
	covered uint64 // the files have the ids of the spool's records below this number
}

// defaultWindow is how many ids are remembered at least, if there were as many.
const defaultWindow = 500_000

// NewWindow makes a window that remembers the last size ids at least and twice
// as many at most; 0 is the default of 500,000. It forgets them with the process.
func NewWindow(size int) *Window {
	return &Window{
		size: cmp.Or(size, defaultWindow), younger: make(map[messageKey]struct{}), older: make(map[messageKey]struct{}),
		claimed: make(map[messageKey]*keeping),
	}
}

// OpenWindow makes a window that is kept in a directory, and reads what is
// there and what the spool holds beyond it, before anything is appended to the
// spool: when it returns, the window knows all that the one before it knew.
func OpenWindow(ctx context.Context, dir string, size int, s *spool.Spool) (*Window, error) {
	w := NewWindow(size)
	w.dir = dir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the folder of message ids: %w", err)
	}
	files, err := w.files()
	if err != nil {
		return nil, err
	}
	for _, number := range files {
		if err := w.read(number, s.ID()); err != nil {
			return nil, err
		}
	}
	return w, eachRecord(ctx, s, w.covered, s.Stats().Next, w.add)
}

// claim tells whether a message is new, and gives it to a request to write. Of
// one that another request is about to write, whose it is: until that request
// is settled, nobody knows whether the message will have been kept.
func (w *Window) claim(key messageKey, by *keeping) (isNew bool, other *keeping) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.hasLocked(key) {
		return false, nil
	}
	switch other := w.claimed[key]; other {
	case nil:
		w.claimed[key] = by
		return true, nil
	case by:
		return false, nil
	default:
		return false, other
	}
}

// settle remembers what a request has claimed, if it is on disk, and gives it
// free if not.
func (w *Window) settle(k *keeping, onDisk bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, key := range k.messages {
		delete(w.claimed, key)
		if onDisk {
			w.addLocked(key)
		}
	}
}

func (w *Window) hasLocked(key messageKey) bool {
	_, young := w.younger[key]
	if young {
		return true
	}
	_, old := w.older[key]
	return old
}

func (w *Window) add(keys []messageKey) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, key := range keys {
		w.addLocked(key)
	}
}

func (w *Window) addLocked(key messageKey) {
	if w.younger[key] = struct{}{}; len(w.younger) >= w.size {
		w.younger, w.older = make(map[messageKey]struct{}, w.size), w.younger
	}
}

// catchUp writes down the ids of what has landed without that: the process ended
// in between. Records below the number landed may be trimmed when it returns.
func (w *Window) catchUp(ctx context.Context, s *spool.Spool, landed uint64) error {
	if w.dir == "" || w.covered >= landed {
		return nil
	}
	var keys []messageKey
	err := eachRecord(ctx, s, w.covered, landed, func(more []messageKey) { keys = append(keys, more...) })
	return errors.Join(err, w.save(s.ID(), landed, keys))
}

// landed writes down the ids of a batch. Its records may be trimmed when it
// returns nil.
func (w *Window) landed(b *Batch) error {
	if w.dir == "" || b.Last <= w.covered {
		return nil
	}
	return w.save(b.SpoolID, b.Last, keysOf(b.Events))
}

func keysOf(events []EventRow) []messageKey {
	keys := make([]messageKey, len(events))
	for i := range events {
		keys[i] = keyOfMessage(events[i].SourceID, events[i].EventID)
	}
	return keys
}

// eachRecord calls do with the ids of each record with a number in [from, until).
// What cannot be read is passed over: it does not land either.
func eachRecord(ctx context.Context, s *spool.Spool, from, until uint64, do func([]messageKey)) error {
	reader := s.Reader(from)
	defer reader.Close() //nolint:errcheck // nothing depends on it
	const patience = 100 // the reader gives a place up after fewer
	for failed := 0; failed < patience; {
		if err := ctx.Err(); err != nil {
			return err
		}
		record, ok, err := reader.TryNext()
		switch {
		case err != nil:
			failed++
			continue
		case !ok || record.Seq >= until:
			return nil
		}
		failed = 0
		if r, err := ParseRecord(record.Data); err == nil {
			do(keysOf(r.Events))
		}
	}
	return errors.New("reading message ids from the spool: it cannot be read")
}

// A file is a series of blocks. A block says up to which number it covers which
// spool; after its 32 bytes follow the ids:
//
//	0  8 bytes of the spool's id    16  the number of ids
//	8  the number up to which       24  CRC32C of all that is before and after
const blockHeader = 32

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func appendBlock(b []byte, spoolID string, last uint64, keys []messageKey) []byte {
	start := len(b)
	b = append(b, spoolDigest(spoolID)...)
	b = binary.LittleEndian.AppendUint64(b, last)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(keys)))
	b = binary.LittleEndian.AppendUint64(b, 0)
	for _, key := range keys {
		b = append(b, key[:]...)
	}
	binary.LittleEndian.PutUint64(b[start+24:], uint64(blockSum(b[start:])))
	return b
}

// spoolDigest is the spool's id in 8 bytes, whatever its form.
func spoolDigest(id string) []byte {
	sum := sha256.Sum256([]byte(id))
	return sum[:8]
}

func blockSum(block []byte) uint32 {
	return crc32.Update(crc32.Checksum(block[:24], castagnoli), castagnoli, block[blockHeader:])
}

// parseBlock reads a block; ok is false if there is none, or none that is whole.
func parseBlock(b []byte, spoolID string) (last uint64, keys []messageKey, rest []byte, ok bool) {
	if len(b) < blockHeader {
		return 0, nil, nil, false
	}
	n := binary.LittleEndian.Uint64(b[16:])
	if n > uint64(len(b)-blockHeader)/uint64(len(messageKey{})) {
		return 0, nil, nil, false
	}
	size := blockHeader + int(n)*len(messageKey{})
	if binary.LittleEndian.Uint64(b[24:]) != uint64(blockSum(b[:size])) {
		return 0, nil, nil, false
	}
	keys = make([]messageKey, n)
	for i := range keys {
		copy(keys[i][:], b[blockHeader+i*len(messageKey{}):])
	}
	if string(b[:8]) == string(spoolDigest(spoolID)) {
		last = binary.LittleEndian.Uint64(b[8:])
	}
	return last, keys, b[size:], true
}

// read remembers the ids of a file, up to what a crash left unfinished.
func (w *Window) read(number uint64, spoolID string) error {
	b, err := os.ReadFile(w.path(number))
	if err != nil {
		return fmt.Errorf("reading message ids: %w", err)
	}
	w.file, w.inFile, w.torn = number, 0, false
	for len(b) > 0 {
		last, keys, rest, ok := parseBlock(b, spoolID)
		if !ok {
			w.torn = true
			return nil
		}
		w.covered = max(w.covered, last)
		w.inFile += len(keys)
		w.add(keys)
		b = rest
	}
	return nil
}

// save appends a block, durably.
func (w *Window) save(spoolID string, last uint64, keys []messageKey) error {
	if w.file == 0 || w.torn || w.inFile >= w.size {
		if err := w.begin(); err != nil {
			return err
		}
	}
	w.torn = true // until it is known to be whole
	f, err := os.OpenFile(w.path(w.file), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("writing message ids: %w", err)
	}
	_, err = f.Write(appendBlock(nil, spoolID, last, keys))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("writing message ids: %w", err)
	}
	w.torn, w.covered = false, last
	w.inFile += len(keys)
	return nil
}

// begin goes on in a new file. The files before it are kept as long as they have
// ids that are to be remembered: with what was in memory, the last two.
func (w *Window) begin() error {
	files, err := w.files()
	if err != nil {
		return err
	}
	for _, number := range files[:max(0, len(files)-2)] {
		if err := os.Remove(w.path(number)); err != nil {
			return fmt.Errorf("removing old message ids: %w", err)
		}
	}
	w.file++
	w.inFile, w.torn = 0, false
	f, err := os.OpenFile(w.path(w.file), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("writing message ids: %w", err)
	}
	return errors.Join(f.Close(), syncDir(w.dir))
}

// files lists the numbers of the files, the oldest first.
func (w *Window) files() ([]uint64, error) {
	names, err := filepath.Glob(filepath.Join(w.dir, "*.ids"))
	if err != nil {
		return nil, fmt.Errorf("listing the files of message ids: %w", err)
	}
	numbers := make([]uint64, len(names))
	for i, name := range names {
		if numbers[i], err = strconv.ParseUint(strings.TrimSuffix(filepath.Base(name), ".ids"), 10, 64); err != nil {
			return nil, fmt.Errorf("%s: the name is not a number; move the file out of its folder", name)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

func (w *Window) path(number uint64) string {
	return filepath.Join(w.dir, fmt.Sprintf("%020d.ids", number))
}
