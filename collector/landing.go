package collector

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"
)

// Batch is a range of the spool to land: the records numbered [First, Last)
// of one spool, all received on one day (UTC).
type Batch struct {
	SpoolID     string
	First, Last uint64
	Day         time.Time
	Rows
	// Unreadable are records that passed their checksums and still could not be
	// decoded: another version wrote them. They are kept for it.
	Unreadable []Unreadable
}

// Unreadable is a spool record as it was found.
type Unreadable struct {
	Seq  uint64
	Data []byte
}

// Sink is where batches land. It is used by one loader, one call at a time.
type Sink interface {
	// Position returns the number from which landing a spool goes on; 0 if none of
	// its records has landed. If a batch was begun and may have landed in part,
	// that is its first number, and until its Last: the next batch must be made of
	// exactly the records in [next, until). Otherwise until is 0, and the next
	// batch may end anywhere.
	Position(ctx context.Context, spoolID string) (next, until uint64, err error)
	// Land makes a batch visible and durable, each row once. After an error the
	// same batch is landed again: by the same process as it is, by the next one
	// as Position says.
	Land(ctx context.Context, b Batch) error
}

// ParquetSink lands batches as folders of Parquet files:
//
//	<Dir>/dt=2026-03-01/<spool id>-<first>-<last>/<table>.parquet
//
// with 20-digit numbers. A folder is written aside and renamed, so that a
// batch is there whole or not at all. The names are the only record of what
// has landed: there is nothing beside them that a crash could leave out of step.
type ParquetSink struct {
	Dir string
	// Aside is the folder in Dir to write in, for a sink that lands beside another
	// one in the same place; empty means _tmp.
	Aside string
}

func (s ParquetSink) aside() string { return filepath.Join(s.Dir, cmp.Or(s.Aside, "_tmp")) }

// Position reads the names of the landed folders, and clears away what a crash
// left unfinished. So no batch is ever begun.
func (s ParquetSink) Position(_ context.Context, spoolID string) (next, until uint64, err error) {
	if err := os.RemoveAll(s.aside()); err != nil {
		return 0, 0, fmt.Errorf("clearing unfinished files: %w", err)
	}
	next, err = s.Landed(spoolID)
	return next, 0, err
}

// Landed is the number from which landing a spool goes on. It only reads, and
// may be called while the sink is in use.
func (s ParquetSink) Landed(spoolID string) (next uint64, err error) {
	folders, err := filepath.Glob(filepath.Join(s.Dir, "dt=*", spoolID+"-*-*"))
	if err != nil {
		return 0, fmt.Errorf("listing landed files: %w", err)
	}
	for _, folder := range folders {
		name := filepath.Base(folder)
		last, err := strconv.ParseUint(name[strings.LastIndexByte(name, '-')+1:], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: the name does not end in a number; move the folder out of %s", folder, s.Dir)
		}
		next = max(next, last)
	}
	return next, nil
}

// Land writes the batch. Landing the same range again replaces nothing and is
// no error.
func (s ParquetSink) Land(_ context.Context, b Batch) error {
	name := fmt.Sprintf("%s-%020d-%020d", b.SpoolID, b.First, b.Last)
	day := s.dayDir(b.Day)
	target := filepath.Join(day, name)
	if _, err := os.Stat(target); err == nil {
		return nil
	}
	temporary := filepath.Join(s.aside(), name)
	if err := errors.Join(os.RemoveAll(temporary), os.MkdirAll(temporary, 0o755), os.MkdirAll(day, 0o755)); err != nil {
		return fmt.Errorf("making folders to land in: %w", err)
	}
	err := errors.Join(
		writeTable(temporary, "events", b.Events),
		writeTable(temporary, "vault", b.Vault),
		writeTable(temporary, "consents", b.Consents),
		writeTable(temporary, "quarantine", b.Quarantine),
		writeTable(temporary, "ledger", b.Ledger),
		writeTable(temporary, "counts", b.Counts),
		writeTable(temporary, "seal_keys", b.SealKeys),
		writeTable(temporary, "elements", b.Elements),
		writeUnreadable(temporary, b.Unreadable),
		syncDir(temporary),
	)
	if err != nil {
		return fmt.Errorf("landing records %d to %d: %w", b.First, b.Last-1, err)
	}
	if err := os.Rename(temporary, target); err != nil {
		return fmt.Errorf("landing records %d to %d: %w", b.First, b.Last-1, err)
	}
	if err := errors.Join(syncDir(day), syncDir(s.Dir)); err != nil {
		return fmt.Errorf("landing records %d to %d: %w", b.First, b.Last-1, err)
	}
	return nil
}

// writeTable writes and syncs one file; no file for no rows.
func writeTable[T any](dir, table string, rows []T) error {
	if len(rows) == 0 {
		return nil
	}
	f, err := os.OpenFile(filepath.Join(dir, table+".parquet"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	w := parquet.NewGenericWriter[T](f, parquet.Compression(&parquet.Snappy))
	return errors.Join(writeRows(w, rows), w.Close(), f.Sync(), f.Close())
}

// writeRows gives the writer one row at a time: of several, parquet-go up to
// v0.32 writes some NULLs as empty values, such as the last of NULL, value, NULL.
func writeRows[T any](w *parquet.GenericWriter[T], rows []T) error {
	for i := range rows {
		if _, err := w.Write(rows[i : i+1]); err != nil {
			return err
		}
	}
	return nil
}

// writeUnreadable keeps records beside the tables, as they are.
func writeUnreadable(dir string, records []Unreadable) error {
	for _, r := range records {
		f, err := os.OpenFile(filepath.Join(dir, fmt.Sprintf("unreadable-%020d", r.Seq)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = f.Write(r.Data)
		if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// syncDir makes the names in a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, fs.ErrInvalid) {
		err = nil // a file system without it
	}
	return errors.Join(err, d.Close())
}
