package collector

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"
)

// Every query opens every file, so that a day of small folders is merged as it
// grows: compactAfter neighbours of less than smallFolder each become one. What
// was merged stays for supersededFor, since a run that began before may still
// read it; readers that begin later pass it over, its range being contained in
// another's.
const (
	compactAfter  = 32
	smallFolder   = 8 << 20
	largestMerge  = 64 << 20
	supersededFor = time.Hour
)

// folder is a landed range.
type folder struct {
	name        string
	spool       string
	first, last uint64
	bytes       int64
	modified    time.Time
}

func (f folder) contains(g folder) bool {
	return f.name != g.name && f.spool == g.spool && f.first <= g.first && g.last <= f.last
}

// Compact merges small folders of one day, and removes those that were merged
// long enough ago. It may be interrupted at any point and repeated; one process
// at a time calls it, the one that lands.
func (s ParquetSink) Compact(day time.Time, now time.Time) (err error) {
	lock, err := s.lock()
	if err != nil {
		return fmt.Errorf("compacting: %w", err)
	}
	if free, err := lock.TryRLock(); err != nil || !free {
		return err // somebody erases; another time will do
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	dir := s.dayDir(day)
	folders, err := readFolders(dir)
	if err != nil {
		return fmt.Errorf("compacting %s: %w", dir, err)
	}
	var current []folder
	for _, f := range folders {
		i := slices.IndexFunc(folders, func(g folder) bool { return g.contains(f) })
		switch {
		case i < 0:
			current = append(current, f)
		case now.Sub(folders[i].modified) > supersededFor:
			if err := os.RemoveAll(filepath.Join(dir, f.name)); err != nil {
				return fmt.Errorf("removing a merged folder: %w", err)
			}
		}
	}
	for _, run := range smallRuns(current) {
		if err := s.merge(dir, run); err != nil {
			return fmt.Errorf("compacting %s: %w", dir, err)
		}
	}
	return nil
}

// dayDir is the folder of a day.
func (s ParquetSink) dayDir(day time.Time) string {
	return filepath.Join(s.Dir, "dt="+day.UTC().Format(time.DateOnly))
}

// readFolders lists a day's folders by spool and range. Names that are no
// ranges are left alone.
func readFolders(dir string) ([]folder, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var folders []folder
	for _, entry := range entries {
		parts := strings.Split(entry.Name(), "-")
		if !entry.IsDir() || len(parts) != 3 {
			continue
		}
		first, err1 := strconv.ParseUint(parts[1], 10, 64)
		last, err2 := strconv.ParseUint(parts[2], 10, 64)
		if err1 != nil || err2 != nil {
			continue
		}
		f := folder{name: entry.Name(), spool: parts[0], first: first, last: last}
		if f.bytes, f.modified, err = measure(filepath.Join(dir, f.name)); err != nil {
			return nil, err
		}
		folders = append(folders, f)
	}
	slices.SortFunc(folders, func(a, b folder) int {
		return cmp.Or(cmp.Compare(a.spool, b.spool), cmp.Compare(a.first, b.first), cmp.Compare(b.last, a.last))
	})
	return folders, nil
}

func measure(dir string) (bytes int64, modified time.Time, err error) {
	info, err := os.Stat(dir)
	if err != nil {
		return 0, time.Time{}, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, time.Time{}, err
	}
	for _, entry := range entries {
		file, err := entry.Info()
		if err != nil {
			return 0, time.Time{}, err
		}
		bytes += file.Size()
	}
	return bytes, info.ModTime(), nil
}

// smallRuns finds neighbours that are worth merging.
func smallRuns(folders []folder) [][]folder {
	var runs [][]folder
	var run []folder
	var bytes int64
	end := func() {
		if len(run) >= compactAfter {
			runs = append(runs, run)
		}
		run, bytes = nil, 0
	}
	for _, f := range folders {
		if f.bytes >= smallFolder {
			end()
			continue
		}
		if len(run) > 0 && run[0].spool != f.spool || bytes+f.bytes > largestMerge {
			end()
		}
		run, bytes = append(run, f), bytes+f.bytes
	}
	end()
	return runs
}

// merge writes one folder of the rows of many, aside, and renames it.
func (s ParquetSink) merge(dir string, run []folder) error {
	name := fmt.Sprintf("%s-%020d-%020d", run[0].spool, run[0].first, run[len(run)-1].last)
	sources := make([]string, len(run))
	for i, f := range run {
		sources[i] = filepath.Join(dir, f.name)
	}
	temporary := filepath.Join(s.aside(), name)
	if err := errors.Join(os.RemoveAll(temporary), os.MkdirAll(temporary, 0o755)); err != nil {
		return err
	}
	err := errors.Join(
		mergeTable[EventRow](temporary, "events", sources),
		mergeTable[VaultRow](temporary, "vault", sources),
		mergeTable[ConsentRow](temporary, "consents", sources),
		mergeTable[QuarantineRow](temporary, "quarantine", sources),
		mergeTable[LedgerRow](temporary, "ledger", sources),
		mergeTable[CountRow](temporary, "counts", sources),
		mergeTable[SealKeyRow](temporary, "seal_keys", sources),
		mergeTable[ElementRow](temporary, "elements", sources),
		mergeTable[ProfileNameRow](temporary, "profile_names", sources),
		linkUnreadable(temporary, sources),
		syncDir(temporary),
	)
	if err != nil {
		return errors.Join(err, os.RemoveAll(temporary))
	}
	if err := os.Rename(temporary, filepath.Join(dir, name)); err != nil {
		return err
	}
	return syncDir(dir)
}

// mergeTable copies the rows of one table, a part at a time. There is no file
// where there are no rows.
func mergeTable[T any](dir, table string, sources []string) (err error) {
	var out *os.File
	var w *parquet.GenericWriter[T]
	rows := make([]T, 4096)
	for _, source := range sources {
		in, err := os.Open(filepath.Join(source, table+".parquet"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if w == nil {
			if out, err = os.OpenFile(filepath.Join(dir, table+".parquet"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644); err != nil {
				return errors.Join(err, in.Close())
			}
			w = parquet.NewGenericWriter[T](out, parquet.Compression(&parquet.Zstd))
		}
		err = errors.Join(copyRows(w, in, rows), in.Close())
		if err != nil {
			return errors.Join(fmt.Errorf("merging %s of %s: %w", table, source, err), out.Close())
		}
	}
	if w == nil {
		return nil
	}
	return errors.Join(w.Close(), out.Sync(), out.Close())
}

func copyRows[T any](w *parquet.GenericWriter[T], in *os.File, rows []T) error {
	r := parquet.NewGenericReader[T](in)
	for {
		clear(rows) // the reader leaves what a row lacks as it was
		n, err := r.Read(rows)
		if err := writeRows(w, rows[:n]); err != nil {
			return errors.Join(err, r.Close())
		}
		if errors.Is(err, io.EOF) {
			return r.Close()
		}
		if err != nil {
			return errors.Join(err, r.Close())
		}
	}
}

// linkUnreadable takes along the records that another version wrote.
func linkUnreadable(dir string, sources []string) error {
	for _, source := range sources {
		files, err := filepath.Glob(filepath.Join(source, "unreadable-*"))
		if err != nil {
			return err
		}
		for _, file := range files {
			if err := os.Link(file, filepath.Join(dir, filepath.Base(file))); err != nil {
				return err
			}
		}
	}
	return nil
}
