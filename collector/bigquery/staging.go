package bigquery

import (
	"bytes"
	"cmp"
	"compress/flate"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// staging is the folder of the events that wait for a load job: for each batch
// that has such events a file of lines, gzipped, named by its range of the spool.
// A file that is not known to count yet has a longer name. It may be used by
// several goroutines.
type staging struct {
	dir   string
	limit int64                                // bytes, beyond which no batch is begun
	save  func(path string, data []byte) error // tests crash here
	move  func(from, to string) error

	changed chan struct{} // has something when a file was added

	mu      sync.Mutex
	files   []stagedFile // by spool and range
	failure error        // why the last try to load failed
}

// stagedFile is a file that counts.
type stagedFile struct {
	spool       string
	first, last uint64 // the batch's
	size        int64  // bytes
	at          time.Time
}

const (
	stagedEnd = ".ndjson.gz"
	asideEnd  = ".aside"
)

var stagedName = regexp.MustCompile(`^(.+)-(\d{20})-(\d{20})` + regexp.QuoteMeta(stagedEnd) + `(` + regexp.QuoteMeta(asideEnd) + `)?$`)

func (f stagedFile) name() string {
	return fmt.Sprintf("%s-%020d-%020d%s", f.spool, f.first, f.last, stagedEnd)
}

func (g *staging) path(f stagedFile) string { return filepath.Join(g.dir, f.name()) }

// open finds the files of the processes before. One that is aside counts if its
// batch has landed.
func (g *staging) open(landed func(spoolID string) uint64) error {
	entries, err := os.ReadDir(g.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		path := filepath.Join(g.dir, entry.Name())
		parts := stagedName.FindStringSubmatch(entry.Name())
		if parts == nil {
			if strings.HasSuffix(entry.Name(), temporaryEnd) {
				err = errors.Join(err, os.Remove(path))
			}
			continue
		}
		f := stagedFile{spool: parts[1]}
		f.first, _ = strconv.ParseUint(parts[2], 10, 64)
		f.last, _ = strconv.ParseUint(parts[3], 10, 64)
		aside := parts[4] != ""
		switch {
		case aside && f.last > landed(f.spool):
			err = errors.Join(err, os.Remove(path))
		case aside:
			err = errors.Join(err, g.publish(f))
		default:
			err = errors.Join(err, g.add(f))
		}
	}
	return err
}

// write keeps a batch's lines aside, durably.
func (g *staging) write(f stagedFile, content []byte) error {
	if err := os.MkdirAll(g.dir, 0o700); err != nil {
		return err
	}
	return g.save(g.path(f)+asideEnd, content)
}

// publish makes what is aside count. It is no error if that was done, or if the
// batch has no such file.
func (g *staging) publish(f stagedFile) error {
	err := g.move(g.path(f)+asideEnd, g.path(f))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return g.add(f)
}

func (g *staging) add(f stagedFile) error {
	info, err := os.Stat(g.path(f))
	if err != nil {
		return err
	}
	f.size, f.at = info.Size(), info.ModTime()
	g.mu.Lock()
	defer g.mu.Unlock()
	at, found := slices.BinarySearchFunc(g.files, f, compareFiles)
	if found {
		g.files[at] = f
	} else {
		g.files = slices.Insert(g.files, at, f)
	}
	select {
	case g.changed <- struct{}{}:
	default:
	}
	return nil
}

func compareFiles(a, b stagedFile) int {
	return cmp.Or(cmp.Compare(a.spool, b.spool), cmp.Compare(a.first, b.first), cmp.Compare(a.last, b.last))
}

// waiting returns the files of a spool that end no later than last, in order.
func (g *staging) waiting(spoolID string, last uint64) []stagedFile {
	g.mu.Lock()
	defer g.mu.Unlock()
	var files []stagedFile
	for _, f := range g.files {
		if f.spool == spoolID && f.last <= last {
			files = append(files, f)
		}
	}
	return files
}

// spools returns the spools that have files.
func (g *staging) spools() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var ids []string
	for _, f := range g.files {
		if !slices.Contains(ids, f.spool) {
			ids = append(ids, f.spool)
		}
	}
	return ids
}

// drop removes the files of a spool whose rows are in the table: those that end
// no later than last.
func (g *staging) drop(spoolID string, last uint64) error {
	for _, f := range g.waiting(spoolID, last) {
		if err := os.Remove(g.path(f)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		g.forget(f)
	}
	return nil
}

func (g *staging) forget(f stagedFile) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if at, found := slices.BinarySearchFunc(g.files, f, compareFiles); found {
		g.files = slices.Delete(g.files, at, at+1)
	}
}

// size is how many bytes wait, and since when.
func (g *staging) size() (bytes int64, since time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, f := range g.files {
		if bytes += f.size; i == 0 || f.at.Before(since) {
			since = f.at
		}
	}
	return bytes, since
}

// full is an error if no more may be staged.
func (g *staging) full() error {
	bytes, _ := g.size()
	if bytes < g.limit {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	err := fmt.Errorf("%d MiB of events wait for load jobs, and no more are kept beside the spool", bytes>>20)
	if g.failure != nil {
		err = fmt.Errorf("%w. The last load failed: %w", err, g.failure)
	}
	return err
}

// failed notes how the last try to load ended.
func (g *staging) failed(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.failure = err
}

// read writes the lines of a file to w.
func (g *staging) read(w io.Writer, f stagedFile) error {
	file, err := os.Open(g.path(f))
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // only read
	lines, err := gzip.NewReader(file)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, lines)
	return err
}

// damaged tells that an error of read is about what is in the file.
func damaged(err error) bool {
	var corrupt flate.CorruptInputError
	return errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, io.EOF) || errors.As(err, &corrupt)
}

func compress(lines []byte) ([]byte, error) {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := w.Write(lines)
	if err := errors.Join(err, w.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
