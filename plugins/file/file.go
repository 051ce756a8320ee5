// Package file writes audience changes as CSV or JSON Lines into a directory,
// for whatever picks files up.
//
// Each batch is one file, and each run one directory:
//
//	run=<run>/part-<batch id>.csv
//	run=<run>/_manifest.json
//
// A part appears whole: it is written aside, synced and renamed. The same batch
// sent again replaces its file with the same bytes. The manifest is written
// last, when the destination is closed, and lists every part of the run with
// its rows and SHA-256, also those that an earlier process wrote before it
// died; a reader that waits for it never sees half a run.
//
// A record has the columns _op (upsert or remove), _key and _id, then the
// mapped ones. Times are RFC 3339. NULL is null in JSON Lines, and in CSV an
// empty field, as is an empty string. JSON Lines has no NaN and no infinities;
// they are refused there.
//
// Of a removal because the person was erased, all records of its key that are in
// the directory are taken out first, and the manifests follow.
//
// A text in CSV that a spreadsheet would read as a formula, because it begins
// with = + - @, a tab or a line end, gets a ' before it. That also meets
// telephone numbers such as '+31612345678. Where the reader is a program, set
// guard_formulas to "false" or take JSON Lines.
package file

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/sluis-cdp/sluis/plugins/destination"
)

// file is the destination. Open sets its fields.
type file struct {
	root   *os.Root // nothing outside it can be reached, whatever the ids are
	format format
	runs   map[string]string // by directory: the runs that were written to
}

// New returns the destination.
func New() destination.Destination { return &file{} }

// Describe implements [destination.Destination].
func (*file) Describe() destination.Description {
	return destination.Description{
		Name:        "file",
		Version:     "1.0.0",
		Ops:         []destination.Op{destination.Upsert, destination.Remove},
		Granularity: destination.PerRow,
		Idempotent:  true,
		Config: []destination.Field{
			{Name: "directory", Required: true, Help: "an existing directory to write to"},
			{Name: "format", Help: `"csv", which is the default, or "jsonl"`},
			{Name: "guard_formulas", Help: `"false" leaves CSV texts that begin with = + - @ as they are, for readers that are no spreadsheet`},
		},
	}
}

// Validate implements [destination.Validator].
func (*file) Validate(config map[string]string) error {
	_, err := parseFormat(config)
	return err
}

func parseFormat(config map[string]string) (format, error) {
	if config["directory"] == "" || strings.ContainsRune(config["directory"], 0) {
		return nil, &destination.ConfigError{Field: "directory", Problem: "want an existing directory"}
	}
	guard := true
	switch config["guard_formulas"] {
	case "", "true":
	case "false":
		guard = false
	default:
		return nil, &destination.ConfigError{Field: "guard_formulas", Problem: `want "true" or "false"`}
	}
	switch config["format"] {
	case "", "csv":
		return csvFormat{guard: guard}, nil
	case "jsonl":
		return jsonFormat{}, nil
	}
	return nil, &destination.ConfigError{Field: "format", Problem: `want "csv" or "jsonl"`}
}

// Open implements [destination.Destination].
func (f *file) Open(_ context.Context, config map[string]string) error {
	format, err := parseFormat(config)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(config["directory"])
	if err != nil {
		return &destination.ConfigError{Field: "directory", Problem: "cannot be opened: " + cause(err)}
	}
	f.root, f.format, f.runs = root, format, map[string]string{}
	if err := f.Check(context.Background()); err != nil {
		f.root = nil
		return errors.Join(&destination.ConfigError{Field: "directory", Problem: "cannot be written to: " + cause(err)}, root.Close())
	}
	return nil
}

// Check implements [destination.Checker]: it writes, which is the only way to
// know that one may, and removes what it wrote.
func (f *file) Check(context.Context) error {
	const name = ".sluis-check"
	if err := f.replace(".", name, func(io.Writer) error { return nil }); err != nil {
		return fmt.Errorf("write to the directory: %w", err)
	}
	return f.root.Remove(name)
}

// Write implements [destination.Destination].
func (f *file) Write(_ context.Context, batch destination.Batch) ([]destination.Result, error) {
	if f.root == nil {
		return nil, errors.New("the destination is not open")
	}
	for _, column := range batch.Columns {
		if column.Name == opColumn || column.Name == keyColumn || column.Name == idColumn {
			return nil, fmt.Errorf("the column %s is the destination's own: map it under another name", column.Name)
		}
	}
	if len(batch.Changes) == 0 {
		return nil, nil
	}
	results := destination.All(len(batch.Changes), destination.Result{Outcome: destination.Delivered})
	kept := batch
	kept.Changes = nil
	for i, change := range batch.Changes {
		if column, bad := f.format.refuses(batch.Columns, change); bad {
			results[i] = destination.Result{
				Outcome: destination.Rejected, Code: "not_json",
				Message: "column " + column + " is infinite or not a number, which JSON does not have",
			}
			continue
		}
		kept.Changes = append(kept.Changes, change)
	}
	if keys := erasedKeys(batch); len(keys) > 0 {
		if err := f.forget(keys); err != nil {
			return nil, fmt.Errorf("take out whom was erased: %w", err)
		}
	}
	dir, err := f.runDir(batch.Run)
	if err != nil {
		return nil, fmt.Errorf("make the run's directory: %w", err)
	}
	name := partPrefix + safe(batch.ID) + "." + f.format.name()
	if err := f.replace(dir, name, func(w io.Writer) error { return f.format.write(w, kept) }); err != nil {
		return nil, fmt.Errorf("write %s: %w", name, err)
	}
	return results, nil
}

// Close implements [destination.Destination]: it writes the manifests.
func (f *file) Close(context.Context) error {
	if f.root == nil {
		return nil
	}
	var errs []error
	for dir, run := range f.runs {
		if err := f.writeManifest(dir, run); err != nil {
			errs = append(errs, fmt.Errorf("write the manifest of %s: %w", dir, err))
		}
	}
	errs = append(errs, f.root.Close())
	f.root = nil
	return errors.Join(errs...)
}

// runDir makes a run's directory, such that it is still there after a power
// cut. If an earlier process wrote and closed it, its manifest no longer tells
// the truth, and goes.
func (f *file) runDir(run string) (string, error) {
	dir := "run=" + safe(run)
	if _, ok := f.runs[dir]; ok {
		return dir, nil
	}
	if err := f.root.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	if err := f.syncDir("."); err != nil {
		return "", err
	}
	if err := f.root.Remove(filepath.Join(dir, manifestName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	f.runs[dir] = run
	return dir, nil
}

// replace makes a file with what write writes: at any moment, also after a
// power cut, there is the file before, or the new one, whole.
func (f *file) replace(dir, name string, write func(io.Writer) error) (err error) {
	aside := filepath.Join(dir, "."+name+".tmp")
	out, err := f.root.OpenFile(aside, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.root.Remove(aside)
		}
	}()
	err = write(out)
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	if err := f.root.Rename(aside, filepath.Join(dir, name)); err != nil {
		return err
	}
	return f.syncDir(dir)
}

// syncDir makes the names in a directory durable.
func (f *file) syncDir(dir string) error {
	d, err := f.root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// safe is the id if it can be part of a file's name, and else a digest of it.
func safe(id string) string {
	for _, r := range id {
		if (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '-' && r != '_' {
			return digest(id)
		}
	}
	if id == "" || len(id) > 128 {
		return digest(id)
	}
	return id
}

func digest(id string) string {
	sum := sha256.Sum256([]byte(id))
	return "sha256-" + hex.EncodeToString(sum[:16])
}

// cause is an error without the path, which is a configuration's value.
func cause(err error) string {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return path.Err.Error()
	}
	return err.Error()
}
