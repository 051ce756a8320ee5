package collector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/sluis-cdp/sluis/consent/seal"
)

// ProfileNameRow is a row of profile_names.
type ProfileNameRow struct {
	Pseudonym  string    `parquet:"pseudonym"`
	ProfileID  string    `parquet:"profile_id"`
	ReceivedAt time.Time `parquet:"received_at,timestamp(microsecond)"`
	Origin
}

// Rotator carries landed rows over to other keys of pseudonyms; see
// [ParquetSink.Rotate].
type Rotator struct {
	Rotation *seal.Rotation
	Opener   *seal.Opener
	Sealer   *seal.Sealer
	// Tombstones is told all of them at first, and Tombstone then carries each over,
	// and returns the key that it is sealed with, if that is another. Both may be nil.
	Tombstones func(rows []ErasureRow, keys map[string]seal.DataKey) error
	Tombstone  func(row *ErasureRow) (changed bool, key *seal.DataKey, err error)
	// Consents signs the record of consent anew; see [Resign]. nil leaves its rows as
	// they are.
	Consents func(rows []ConsentRow) error
	// Orphans lets pseudonyms that have lost their element become others, which
	// their identifiers no longer lead to; else they are an [*OrphanError].
	Orphans bool
	// Progress is told how many of all files are done; it may be nil.
	Progress func(done, of int)

	fault  func() error // tests end it here, before a file is replaced
	mapped map[seal.Parsed]carried
	keys   map[string]seal.DataKey // by id
	report RotationReport
}

// carried is what a pseudonym with an element becomes.
type carried struct {
	sum     [16]byte
	element [seal.ElementSize]byte
}

// RotationReport is what a rotation did. Rows that an interrupted one had carried
// over are not in it.
type RotationReport struct {
	Elements int           // pseudonyms with an element
	Group    time.Duration // what they took, on all processors
	Rows     map[string]int64
	Resealed int64
	Lost     int64 // sealed values that nothing opens any more, whose key is destroyed
	Orphans  int64 // occurrences, not pseudonyms
}

// OrphanError says that pseudonyms cannot be carried over.
type OrphanError struct{ Pseudonyms int64 }

func (e *OrphanError) Error() string {
	return fmt.Sprintf("%d pseudonyms have no element, and would become strangers", e.Pseudonyms)
}

// PrepareRotation reads the elements, by which pseudonyms are carried over, and
// carries them over in memory: some 150 bytes for each. It changes nothing but that
// folders which were merged into others are removed. The error is an
// [*OrphanError] if some pseudonyms could not be carried over.
func (s ParquetSink) PrepareRotation(ctx context.Context, r *Rotator) error {
	r.report.Rows = make(map[string]int64)
	dirs, err := s.rotatable()
	if err != nil {
		return fmt.Errorf("rotating landed files: %w", err)
	}
	began := time.Now()
	if err := r.readElements(ctx, dirs); err != nil {
		return fmt.Errorf("rotating landed files: %w", err)
	}
	r.report.Group = time.Since(began)
	if err := r.readKeys(dirs); err != nil {
		return fmt.Errorf("rotating landed files: %w", err)
	}
	if r.Tombstones != nil {
		var all []ErasureRow
		err := readTables(dirs, "erasures", func(rows []ErasureRow) error { all = append(all, rows...); return nil })
		if err == nil {
			err = r.Tombstones(all, r.keys)
		}
		if err != nil {
			return fmt.Errorf("reading tombstones: %w", err)
		}
	}
	if r.Orphans {
		return nil
	}
	return r.findOrphans(ctx, dirs)
}

// Next is what a pseudonym becomes, once the rotation is prepared.
func (r *Rotator) Next(token string) string {
	next, _ := r.next(token)
	return next
}

// Rotate carries all landed files over, once it is prepared: every pseudonym, what is bound to one,
// and their elements. Each file is replaced by a rename, and rows that were
// carried over before are left as they are; so it may be killed at any point and
// repeated, prepared anew. Elements are last, since by them the others
// are. The caller is in by [ParquetSink.Alone], and sees to it that nobody reads
// meanwhile.
func (s ParquetSink) Rotate(ctx context.Context, r *Rotator) (RotationReport, error) {
	dirs, err := s.rotatable() // with what landed since it was prepared
	if err != nil {
		return r.report, fmt.Errorf("rotating landed files: %w", err)
	}
	// What ends tombstones goes by their old tokens, so it is first.
	for _, dir := range dirs {
		if err := s.rotateErasures(dir, r, func(row *ErasureRow) bool { return len(row.Ciphertext) == 0 }); err != nil {
			return r.report, fmt.Errorf("rotating %s: %w", dir, err)
		}
	}
	done, of := 0, 2*len(dirs)
	for _, step := range []func(string) error{
		func(dir string) error { return s.rotateFolder(dir, r) },
		func(dir string) error { return s.rotateElements(dir, r) },
	} {
		for _, dir := range dirs {
			if err := ctx.Err(); err != nil {
				return r.report, err
			}
			if err := errors.Join(step(dir), syncDir(dir)); err != nil {
				return r.report, fmt.Errorf("rotating %s: %w", dir, err)
			}
			if done++; r.Progress != nil {
				r.Progress(done, of)
			}
		}
		if done == len(dirs) {
			if err := s.rotateRecord(dirs, r); err != nil {
				return r.report, fmt.Errorf("rotating the record of consent: %w", err)
			}
		}
	}
	return r.report, os.RemoveAll(s.erasing())
}

// rotatable lists the folders with landed files, after what is superseded or
// unfinished was removed.
func (s ParquetSink) rotatable() ([]string, error) {
	unfinished, err := filepath.Glob(filepath.Join(s.Dir, "_tmp*"))
	if err != nil {
		return nil, err
	}
	for _, dir := range append(unfinished, s.erasing()) {
		if err := os.RemoveAll(dir); err != nil {
			return nil, err
		}
	}
	days, err := filepath.Glob(filepath.Join(s.Dir, "dt=*"))
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, day := range days {
		folders, err := readFolders(day)
		if err != nil {
			return nil, err
		}
		for _, f := range folders {
			dir := filepath.Join(day, f.name)
			if isContained(f, folders) {
				if err := os.RemoveAll(dir); err != nil {
					return nil, err
				}
				continue
			}
			if unreadable, _ := filepath.Glob(filepath.Join(dir, "unreadable-*")); len(unreadable) > 0 {
				return nil, fmt.Errorf("%s holds %d records that another version of this program wrote, with pseudonyms that cannot be carried over: let that version land them, or remove them", dir, len(unreadable))
			}
			dirs = append(dirs, dir)
		}
	}
	return dirs, nil
}

// readElements carries the pseudonyms over that have an element, on all
// processors.
func (r *Rotator) readElements(ctx context.Context, dirs []string) error {
	r.mapped = make(map[seal.Parsed]carried)
	var mu sync.Mutex
	work := make(chan ElementRow, 1024)
	failed := make(chan error, runtime.GOMAXPROCS(0)+1)
	var wait sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wait.Go(func() {
			for row := range work {
				p, ok := seal.ParseToken(row.Pseudonym)
				if !ok || p.Version == r.Rotation.To() {
					continue
				}
				mu.Lock()
				_, known := r.mapped[p]
				mu.Unlock()
				if known {
					continue
				}
				next, element, err := r.Rotation.Element(p, row.Element)
				if errors.Is(err, seal.ErrElement) {
					continue // whoever wrote it there; if there is no other it is an orphan
				}
				if err != nil {
					failed <- err
					continue
				}
				mu.Lock()
				r.mapped[p] = carried{next.Sum, [seal.ElementSize]byte(element)}
				mu.Unlock()
			}
		})
	}
	err := readTables(dirs, "elements", func(rows []ElementRow) error {
		for _, row := range rows {
			work <- row
		}
		return ctx.Err()
	})
	close(work)
	wait.Wait()
	close(failed)
	r.report.Elements = len(r.mapped)
	return errors.Join(err, <-failed)
}

func (r *Rotator) readKeys(dirs []string) error {
	r.keys = make(map[string]seal.DataKey)
	return readTables(dirs, "seal_keys", func(rows []SealKeyRow) error {
		for _, k := range rows {
			r.keys[k.KeyID] = seal.DataKey{
				ID: k.KeyID, Purpose: k.Purpose, Recipient: k.Recipient, PSKID: k.PSKID, EncapsulatedKey: k.EncapsulatedKey, CreatedAt: k.CreatedAt,
			}
		}
		return nil
	})
}

// next is what a pseudonym becomes. What is none, or was carried over before,
// stays.
func (r *Rotator) next(token string) (next string, orphan bool) {
	p, ok := seal.ParseToken(token)
	if !ok || p.Version == r.Rotation.To() {
		return token, false
	}
	if to, ok := r.mapped[p]; ok {
		return seal.Parsed{Prefix: p.Prefix, Version: r.Rotation.To(), Sum: to.sum}.String(), false
	}
	if p.IsAnonymousID() {
		return r.Rotation.RandomID(p).String(), false
	}
	return fmt.Sprintf("%s%d_%s", p.Prefix, r.Rotation.To(), r.Rotation.Digest(token)), true
}

// findOrphans looks for them before anything is changed.
func (r *Rotator) findOrphans(ctx context.Context, dirs []string) error {
	orphans := make(map[string]struct{})
	for _, dir := range dirs {
		for _, table := range rotatedByColumn {
			if err := ctx.Err(); err != nil {
				return err
			}
			err := withParquet(filepath.Join(dir, table+".parquet"), func(file *parquet.File) error {
				columns := pseudonymColumns(file.Schema())
				return eachRow(file, func(row parquet.Row) error {
					for _, value := range row {
						if columns[value.Column()] == isPseudonym && !value.IsNull() {
							if _, orphan := r.next(string(value.ByteArray())); orphan {
								orphans[string(value.ByteArray())] = struct{}{}
							}
						}
					}
					return nil
				})
			})
			if err != nil {
				return fmt.Errorf("looking for pseudonyms without an element: %w", err)
			}
		}
	}
	if len(orphans) > 0 {
		return &OrphanError{int64(len(orphans))}
	}
	return nil
}

// rotatedByColumn are the tables whose rows are carried over column by column, as
// the file has them.
var rotatedByColumn = []string{"events", "consents", "vault", "profile_names"}

// columnUse says what a column has to do with pseudonyms.
type columnUse int

const (
	isOther columnUse = iota
	isPseudonym
	isEventID
)

func pseudonymColumns(schema *parquet.Schema) map[int]columnUse {
	columns := make(map[int]columnUse)
	for _, c := range []struct {
		path []string
		use  columnUse
	}{
		{[]string{"pseudonym"}, isPseudonym},
		{[]string{"anonymous_id"}, isPseudonym},
		{[]string{"user_id"}, isPseudonym},
		{[]string{"group_id"}, isPseudonym},
		{[]string{"identifiers", "list", "element", "pseudonym"}, isPseudonym},
		{[]string{"event_id"}, isEventID},
	} {
		if leaf, ok := schema.Lookup(c.path...); ok {
			columns[leaf.ColumnIndex] = c.use
		}
	}
	return columns
}

// rotateFolder carries over all of a folder but its elements.
func (s ParquetSink) rotateFolder(dir string, r *Rotator) error {
	if err := s.rotateVault(dir, r); err != nil {
		return err
	}
	if err := s.rotateErasures(dir, r, func(*ErasureRow) bool { return true }); err != nil {
		return err
	}
	for _, table := range rotatedByColumn {
		if table == "vault" {
			continue // its pseudonyms are bound to what is sealed
		}
		path := filepath.Join(dir, table+".parquet")
		if err := s.rotateColumns(path, table, r); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

// rotateColumns replaces the values of a file that are to be, and leaves a file as
// it is that has none.
func (s ParquetSink) rotateColumns(path, table string, r *Rotator) error {
	return withParquet(path, func(file *parquet.File) error {
		columns := pseudonymColumns(file.Schema())
		var changed int64
		err := s.replace(r, path, func(out io.Writer) error {
			w := parquet.NewGenericWriter[any](out, file.Schema(), parquet.Compression(&parquet.Zstd))
			err := eachRow(file, func(row parquet.Row) error {
				if r.rotateRow(row, columns) {
					changed++
				}
				_, err := w.WriteRows([]parquet.Row{row})
				return err
			})
			return errors.Join(err, w.Close())
		}, func() bool { return changed > 0 })
		r.report.Rows[table] += changed
		return err
	})
}

const digestPrefix = "digest-"

func (r *Rotator) rotateRow(row parquet.Row, columns map[int]columnUse) (changed bool) {
	for i, value := range row {
		use := columns[value.Column()]
		if use == isOther || value.IsNull() {
			continue
		}
		old := string(value.ByteArray())
		next, orphan := old, false
		switch use {
		case isPseudonym:
			next, orphan = r.next(old)
		case isEventID:
			next = r.nextEventID(old)
		case isOther:
		}
		if orphan {
			r.report.Orphans++
		}
		if next == old {
			continue
		}
		changed = true
		row[i] = parquet.ByteArrayValue([]byte(next)).Level(value.RepetitionLevel(), value.DefinitionLevel(), value.Column())
	}
	return changed
}

// nextEventID replaces a digest of a message id, which has no element. Which key it
// was made with shows in its length.
func (r *Rotator) nextEventID(id string) string {
	digest, ok := strings.CutPrefix(id, digestPrefix)
	if !ok || len(digest) != 32 {
		return id
	}
	return fmt.Sprintf("%s%s-r%d", digestPrefix, r.Rotation.Digest(digest), r.Rotation.To())
}

// rotateVault opens what is sealed for a pseudonym, and seals it again for its
// next. The keys land before the values.
func (s ParquetSink) rotateVault(dir string, r *Rotator) error {
	rows, err := readTable[VaultRow](filepath.Join(dir, "vault.parquet"))
	if err != nil || len(rows) == 0 {
		return err
	}
	kept, changed := make([]VaultRow, 0, len(rows)), false
	fresh := make(map[string]SealKeyRow)
	for _, row := range rows {
		p, ok := seal.ParseToken(row.Pseudonym)
		if !ok || p.Version == r.Rotation.To() {
			kept = append(kept, row)
			continue
		}
		changed = true
		key, err := r.reseal(&row)
		switch {
		case errors.Is(err, seal.ErrNoKey), errors.Is(err, seal.ErrCannotOpen):
			r.report.Lost++
			continue
		case err != nil:
			return err
		}
		fresh[key.ID] = keyRow(*key, row.Origin)
		kept = append(kept, row)
		r.report.Resealed++
	}
	if !changed {
		return nil
	}
	if err := s.addKeys(r, dir, fresh); err != nil {
		return err
	}
	return replaceRows(s, r, filepath.Join(dir, "vault.parquet"), kept)
}

func (r *Rotator) reseal(row *VaultRow) (*seal.DataKey, error) {
	before, ok := r.keys[row.KeyID]
	if !ok {
		return nil, seal.ErrNoKey
	}
	b := seal.Binding{
		Purpose: row.Purpose, Field: row.Field, Subject: row.Pseudonym, Decision: row.DecisionID, Record: seal.VaultRecord(row.Token, row.ReceivedAt),
	}
	value, err := r.Opener.Open(seal.Sealed{KeyID: row.KeyID, Ciphertext: row.Ciphertext}, before, b)
	if err != nil {
		return nil, err
	}
	next, orphan := r.next(row.Pseudonym)
	if orphan {
		r.report.Orphans++
	}
	parsed, _ := seal.ParseToken(next)
	token, err := r.Rotation.ValueToken(parsed, row.Field, value)
	if err != nil {
		return nil, err
	}
	b.Subject, b.Record = next, seal.VaultRecord(token, row.ReceivedAt)
	sealed, key, err := r.Rotation.Reseal(r.Sealer, b, value, before)
	if err != nil {
		return nil, err
	}
	row.Pseudonym, row.Token, row.KeyID, row.Ciphertext = next, token, sealed.KeyID, sealed.Ciphertext
	return &key, nil
}

func keyRow(k seal.DataKey, origin Origin) SealKeyRow {
	return SealKeyRow{
		KeyID: k.ID, Purpose: k.Purpose, Recipient: k.Recipient, PSKID: k.PSKID, EncapsulatedKey: k.EncapsulatedKey, CreatedAt: k.CreatedAt, Origin: origin,
	}
}

// rotateErasures carries over some tombstones of a folder.
func (s ParquetSink) rotateErasures(dir string, r *Rotator, some func(*ErasureRow) bool) error {
	rows, err := readTable[ErasureRow](filepath.Join(dir, "erasures.parquet"))
	if err != nil || len(rows) == 0 || r.Tombstone == nil {
		return err
	}
	fresh := make(map[string]SealKeyRow)
	changed := false
	for i := range rows {
		if !some(&rows[i]) {
			continue
		}
		other, key, err := r.Tombstone(&rows[i])
		if err != nil {
			return err
		}
		if key != nil {
			fresh[key.ID] = keyRow(*key, rows[i].Origin)
		}
		if other {
			changed = true
			r.report.Rows["erasures"]++
		}
	}
	if !changed {
		return nil
	}
	if err := s.addKeys(r, dir, fresh); err != nil {
		return err
	}
	return replaceRows(s, r, filepath.Join(dir, "erasures.parquet"), rows)
}

// rotateElements is the last step in a folder.
func (s ParquetSink) rotateElements(dir string, r *Rotator) error {
	path := filepath.Join(dir, "elements.parquet")
	rows, err := readTable[ElementRow](path)
	if err != nil || len(rows) == 0 {
		return err
	}
	kept := make([]ElementRow, 0, len(rows))
	for _, row := range rows {
		p, ok := seal.ParseToken(row.Pseudonym)
		if ok && p.Version != r.Rotation.To() {
			to, known := r.mapped[p]
			if !known {
				continue // its element was not its own
			}
			row.Pseudonym = seal.Parsed{Prefix: p.Prefix, Version: r.Rotation.To(), Sum: to.sum}.String()
			row.Element, row.KeyVersion = to.element[:], int64(r.Rotation.To())
			r.report.Rows["elements"]++
		}
		kept = append(kept, row)
	}
	return replaceRows(s, r, path, kept)
}

// rotateRecord signs the record of consent anew.
func (s ParquetSink) rotateRecord(dirs []string, r *Rotator) error {
	if r.Consents == nil {
		return nil
	}
	var all []ConsentRow
	ends := make([]int, len(dirs))
	for i, dir := range dirs {
		rows, err := readTable[ConsentRow](filepath.Join(dir, "consents.parquet"))
		if err != nil {
			return err
		}
		all = append(all, rows...)
		ends[i] = len(all)
	}
	if err := r.Consents(all); err != nil {
		return err
	}
	begin := 0
	for i, dir := range dirs {
		if begin < ends[i] {
			if err := replaceRows(s, r, filepath.Join(dir, "consents.parquet"), all[begin:ends[i]]); err != nil {
				return err
			}
		}
		begin = ends[i]
	}
	return nil
}

// addKeys adds rows to a folder's seal_keys. Those that stay there of a rotation
// that was interrupted seal nothing, and do no harm.
func (s ParquetSink) addKeys(r *Rotator, dir string, fresh map[string]SealKeyRow) error {
	if len(fresh) == 0 {
		return nil
	}
	path := filepath.Join(dir, "seal_keys.parquet")
	rows, err := readTable[SealKeyRow](path)
	if err != nil {
		return err
	}
	for _, row := range fresh {
		rows = append(rows, row)
	}
	if err := replaceRows(s, r, path, rows); err != nil {
		return err
	}
	return syncDir(dir)
}

// ProfileNames lands what profiles are called, as a folder of its own, once: under
// one name, 16 hexadecimal digits, the second call does nothing. The caller is in
// by [ParquetSink.Alone].
func (s ParquetSink) ProfileNames(name string, at time.Time, rows []ProfileNameRow) error {
	day := s.dayDir(at)
	target := filepath.Join(day, fmt.Sprintf("n%s-%020d-%020d", name, 0, 1))
	if _, err := os.Stat(target); err == nil {
		return nil
	}
	temporary := filepath.Join(s.erasing(), name)
	err := errors.Join(os.RemoveAll(temporary), os.MkdirAll(temporary, 0o755), os.MkdirAll(day, 0o755))
	if err == nil {
		err = errors.Join(
			writeTable(temporary, "profile_names", appendRows(nil, rows, func(p *ProfileNameRow) { p.Origin = Origin{SpoolID: "n" + name} })),
			syncDir(temporary),
		)
	}
	if err == nil {
		err = os.Rename(temporary, target)
	}
	if err := errors.Join(err, syncDir(day), syncDir(s.Dir)); err != nil {
		return fmt.Errorf("landing the names of profiles: %w", err)
	}
	return nil
}

// replaceRows replaces a file by one with these rows.
func replaceRows[T any](s ParquetSink, r *Rotator, path string, rows []T) error {
	return s.replace(r, path, func(out io.Writer) error {
		w := parquet.NewGenericWriter[T](out, parquet.Compression(&parquet.Zstd))
		return errors.Join(writeRows(w, rows), w.Close())
	}, func() bool { return true })
}

// replace writes a file aside and, if it is wanted then, renames it over another.
func (s ParquetSink) replace(r *Rotator, path string, write func(io.Writer) error, wanted func() bool) error {
	if err := os.MkdirAll(s.erasing(), 0o755); err != nil {
		return err
	}
	out, err := os.CreateTemp(s.erasing(), "*.parquet")
	if err != nil {
		return err
	}
	if err := errors.Join(write(out), out.Chmod(0o644), out.Sync(), out.Close()); err != nil || !wanted() {
		return errors.Join(err, os.Remove(out.Name()))
	}
	if r.fault != nil {
		if err := r.fault(); err != nil {
			return err
		}
	}
	return os.Rename(out.Name(), path)
}

// withParquet opens a file; one that does not exist has nothing to do.
func withParquet(path string, do func(*parquet.File) error) error {
	in, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // it was read
	info, err := in.Stat()
	if err != nil {
		return err
	}
	file, err := parquet.OpenFile(in, info.Size())
	if err != nil {
		return err
	}
	return do(file)
}

// readTable reads all rows of a file; none if it does not exist.
func readTable[T any](path string) (rows []T, err error) {
	in, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer in.Close() //nolint:errcheck // it was read
	r := parquet.NewGenericReader[T](in)
	buffer := make([]T, 1024)
	for {
		clear(buffer) // the reader leaves what a row lacks as it was
		n, err := r.Read(buffer)
		rows = append(rows, buffer[:n]...)
		if errors.Is(err, io.EOF) {
			return rows, r.Close()
		}
		if err != nil {
			return nil, errors.Join(err, r.Close())
		}
	}
}

func readTables[T any](dirs []string, table string, do func([]T) error) error {
	for _, dir := range dirs {
		rows, err := readTable[T](filepath.Join(dir, table+".parquet"))
		if err == nil {
			err = do(rows)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", filepath.Join(dir, table+".parquet"), err)
		}
	}
	return nil
}
