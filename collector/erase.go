package collector

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/parquet-go/parquet-go"
)

// ErasureRow is a row of erasures: a tombstone, or what ends one.
type ErasureRow struct {
	RequestID  string    `parquet:"request_id,dict"`
	Token      string    `parquet:"token"`
	ErasedAt   time.Time `parquet:"erased_at,timestamp(microsecond)"`
	Scope      string    `parquet:"scope,dict"`
	KeyID      string    `parquet:"key_id,optional,dict"`
	Ciphertext []byte    `parquet:"ciphertext,optional"`
	Origin
}

// Gone is what is to be erased from landed files.
type Gone struct {
	Pseudonyms map[string]bool
	Events     map[string]bool // by event_id: with one copy of an event all go
	Quarantine map[string]bool // by quarantine_id
	Keys       map[string]bool // rows of seal_keys alone, by key_id; what they sealed stays, unreadable
	// Husk makes of a choice what stays of it in the record of consent; see package
	// record. One that is in no chain goes whole.
	Husk func(ConsentRow) ConsentRow
}

func (s ParquetSink) lock() (*flock.Flock, error) {
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return nil, err
	}
	return flock.New(filepath.Join(s.Dir, ".lock"), flock.SetPermissions(0o600)), nil
}

const lockEvery = 20 * time.Millisecond

// Enter keeps an erasure out until leave is called; it waits for the end of one.
func (s ParquetSink) Enter(ctx context.Context) (leave func() error, err error) {
	return s.hold(ctx, (*flock.Flock).TryRLockContext)
}

// Alone keeps all who land or merge out until leave is called.
func (s ParquetSink) Alone(ctx context.Context) (leave func() error, err error) {
	return s.hold(ctx, (*flock.Flock).TryLockContext)
}

func (s ParquetSink) hold(ctx context.Context, how func(*flock.Flock, context.Context, time.Duration) (bool, error)) (func() error, error) {
	lock, err := s.lock()
	if err == nil {
		_, err = how(lock, ctx, lockEvery)
	}
	if err != nil {
		return nil, fmt.Errorf("locking the landing folder: %w", err)
	}
	return lock.Unlock, nil
}

// Erase rewrites all landed files that have something of what is to be gone,
// without it, and tells how many rows of each table that were. Each file is
// replaced by a rename, so that it may be killed at any point and repeated; the
// caller is in by [ParquetSink.Alone], and sees to it that nobody reads meanwhile.
// Folders that were merged into others, and what was left unfinished, are removed
// whole. Records that an unknown version wrote are removed if a pseudonym is
// in them; they count as rows of "unreadable".
func (s ParquetSink) Erase(ctx context.Context, gone Gone) (map[string]int64, error) {
	removed := make(map[string]int64)
	unfinished, err := filepath.Glob(filepath.Join(s.Dir, "_tmp*"))
	if err != nil {
		return nil, fmt.Errorf("erasing from landed files: %w", err)
	}
	for _, dir := range unfinished {
		if err := os.RemoveAll(dir); err != nil {
			return nil, fmt.Errorf("erasing from landed files: %w", err)
		}
	}
	days, err := filepath.Glob(filepath.Join(s.Dir, "dt=*"))
	if err != nil {
		return nil, fmt.Errorf("erasing from landed files: %w", err)
	}
	for _, day := range days {
		if err := s.eraseDay(ctx, day, gone, removed); err != nil {
			return nil, fmt.Errorf("erasing from landed files: %w", err)
		}
	}
	return removed, os.RemoveAll(s.erasing())
}

// erasing is where files are written aside. No loader clears it away.
func (s ParquetSink) erasing() string { return filepath.Join(s.Dir, "_erasing") }

func (s ParquetSink) eraseDay(ctx context.Context, day string, gone Gone, removed map[string]int64) error {
	folders, err := readFolders(day)
	if err != nil {
		return err
	}
	for _, f := range folders {
		if err := ctx.Err(); err != nil {
			return err
		}
		dir := filepath.Join(day, f.name)
		if isContained(f, folders) {
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
			continue
		}
		if err := s.eraseFolder(dir, gone, removed); err != nil {
			return err
		}
	}
	return nil
}

func isContained(f folder, folders []folder) bool {
	for _, g := range folders {
		if g.contains(f) {
			return true
		}
	}
	return false
}

func (s ParquetSink) eraseFolder(dir string, gone Gone, removed map[string]int64) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		table, isTable := strings.CutSuffix(entry.Name(), ".parquet")
		var n int64
		switch {
		case table == "consents" && isTable:
			n, err = s.eraseChoices(path, gone)
		case isTable:
			n, err = s.eraseFile(path, gone)
		case strings.HasPrefix(entry.Name(), "unreadable-"):
			table = "unreadable"
			n, err = eraseRecord(path, gone.Pseudonyms)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if n > 0 {
			removed[table] += n
		}
	}
	return syncDir(dir)
}

// eraseRecord removes a record that cannot be decoded if it names one of them.
func eraseRecord(path string, pseudonyms map[string]bool) (int64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for p := range pseudonyms {
		if bytes.Contains(text, []byte(p)) {
			return 1, os.Remove(path)
		}
	}
	return 0, nil
}

// eraseFile leaves a file as it is if nothing of it is to be gone. It works on
// rows as the file has them: columns of other versions stay. A file whose rows
// are all gone stays as one without, for who has its name.
func (s ParquetSink) eraseFile(path string, gone Gone) (removed int64, err error) {
	in, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer in.Close() //nolint:errcheck // it was read
	info, err := in.Stat()
	if err != nil {
		return 0, err
	}
	file, err := parquet.OpenFile(in, info.Size())
	if err != nil {
		return 0, err
	}
	condition := conditionOf(file.Schema(), gone)
	if len(condition) == 0 {
		return 0, nil
	}
	err = eachRow(file, func(row parquet.Row) error {
		if condition.holds(row) {
			removed++
		}
		return nil
	})
	if err != nil || removed == 0 {
		return 0, err
	}
	return removed, s.rewrite(file, path, condition)
}

func (s ParquetSink) rewrite(file *parquet.File, path string, condition rowCondition) error {
	return s.replaceBy(path, func(out *os.File) error {
		w := parquet.NewGenericWriter[any](out, file.Schema(), parquet.Compression(&parquet.Zstd))
		err := eachRow(file, func(row parquet.Row) error {
			if condition.holds(row) {
				return nil
			}
			_, err := w.WriteRows([]parquet.Row{row})
			return err
		})
		return errors.Join(err, w.Close())
	})
}

// replaceBy replaces a file, durably and at once.
func (s ParquetSink) replaceBy(path string, write func(*os.File) error) error {
	if err := os.MkdirAll(s.erasing(), 0o755); err != nil {
		return err
	}
	out, err := os.CreateTemp(s.erasing(), "*.parquet")
	if err != nil {
		return err
	}
	if err := errors.Join(write(out), out.Chmod(0o644), out.Sync(), out.Close()); err != nil {
		return errors.Join(err, os.Remove(out.Name()))
	}
	return os.Rename(out.Name(), path)
}

// eraseChoices replaces the rows of a file of choices by their husks.
func (s ParquetSink) eraseChoices(path string, gone Gone) (erased int64, err error) {
	in, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer in.Close() //nolint:errcheck // it was read
	r := parquet.NewGenericReader[ConsentRow](in)
	defer r.Close() //nolint:errcheck // it was read
	rows := make([]ConsentRow, r.NumRows())
	for n := 0; n < len(rows); {
		read, err := r.Read(rows[n:])
		if n += read; err != nil && !errors.Is(err, io.EOF) || read == 0 && n < len(rows) {
			return 0, errors.Join(err, io.ErrUnexpectedEOF)
		}
	}
	left := rows[:0]
	for _, row := range rows {
		if !gone.Pseudonyms[row.Pseudonym] {
			left = append(left, row)
			continue
		}
		erased++
		if row.Chain != "" && gone.Husk != nil {
			left = append(left, gone.Husk(row))
		}
	}
	if erased == 0 {
		return 0, nil
	}
	return erased, s.replaceBy(path, func(out *os.File) error {
		w := parquet.NewGenericWriter[ConsentRow](out, parquet.Compression(&parquet.Zstd))
		return errors.Join(writeRows(w, left), w.Close())
	})
}

// eachRow reads a file; a row is the callee's until it returns.
func eachRow(file *parquet.File, do func(parquet.Row) error) error {
	buffer := make([]parquet.Row, 256)
	for _, group := range file.RowGroups() {
		rows := group.Rows()
		for {
			n, err := rows.ReadRows(buffer)
			for _, row := range buffer[:n] {
				if err := do(row); err != nil {
					return errors.Join(err, rows.Close())
				}
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return errors.Join(err, rows.Close())
			}
		}
		if err := rows.Close(); err != nil {
			return err
		}
	}
	return nil
}

// rowCondition has the values that a row is gone with, by the number of the column.
type rowCondition map[int]map[string]bool

// conditionOf goes by the names of the columns, which mean the same in each table.
func conditionOf(schema *parquet.Schema, gone Gone) rowCondition {
	condition := make(rowCondition)
	for _, c := range []struct {
		path   []string
		values map[string]bool
	}{
		{[]string{"pseudonym"}, gone.Pseudonyms},
		{[]string{"anonymous_id"}, gone.Pseudonyms},
		{[]string{"user_id"}, gone.Pseudonyms},
		{[]string{"identifiers", "list", "element", "pseudonym"}, gone.Pseudonyms},
		{[]string{"event_id"}, gone.Events},
		{[]string{"quarantine_id"}, gone.Quarantine},
	} {
		if leaf, ok := schema.Lookup(c.path...); ok && len(c.values) > 0 {
			condition[leaf.ColumnIndex] = c.values
		}
	}
	if _, ok := schema.Lookup("encapsulated_key"); ok && len(gone.Keys) > 0 { // seal_keys
		if leaf, ok := schema.Lookup("key_id"); ok {
			condition[leaf.ColumnIndex] = gone.Keys
		}
	}
	return condition
}

func (c rowCondition) holds(row parquet.Row) bool {
	for _, value := range row {
		if values, ok := c[value.Column()]; ok && !value.IsNull() && values[string(value.ByteArray())] {
			return true
		}
	}
	return false
}

// Tombstones lands rows of erasures, with the keys that they are sealed with or
// the rows by which the ledger follows, as a folder of their own, once: under one
// name, 16 hexadecimal digits and a letter, the second call does nothing. The
// caller is in by [ParquetSink.Alone].
func (s ParquetSink) Tombstones(name string, at time.Time, erasures []ErasureRow, with Rows) error {
	day := s.dayDir(at)
	target := filepath.Join(day, fmt.Sprintf("e%s-%020d-%020d", name, 0, 1))
	if _, err := os.Stat(target); err == nil {
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("landing an erasure: %w", err)
	}
	origin := Origin{SpoolID: "e" + name}
	temporary := filepath.Join(s.erasing(), name)
	if err := errors.Join(os.RemoveAll(temporary), os.MkdirAll(temporary, 0o755), os.MkdirAll(day, 0o755)); err != nil {
		return fmt.Errorf("landing an erasure: %w", err)
	}
	err := errors.Join(
		writeTable(temporary, "erasures", appendRows(nil, erasures, func(e *ErasureRow) { e.Origin = origin })),
		writeTable(temporary, "ledger", appendRows(nil, with.Ledger, func(l *LedgerRow) { l.Origin = origin })),
		writeTable(temporary, "seal_keys", appendRows(nil, with.SealKeys, func(k *SealKeyRow) { k.Origin = origin })),
		syncDir(temporary),
	)
	if err == nil {
		err = os.Rename(temporary, target)
	}
	if err := errors.Join(err, syncDir(day), syncDir(s.Dir)); err != nil {
		return fmt.Errorf("landing an erasure: %w", err)
	}
	return nil
}
