// Package file writes audience changes as CSV, JSON Lines or Parquet into a
// directory, a bucket of an S3-compatible server, or a directory of an SFTP
// server, for whatever picks files up.
//
// Each batch is one file, and each run one directory:
//
//	run=<run>/part-<batch id>.csv
//	run=<run>/_manifest.json
//
// A part appears whole: in a directory it is written aside, synced and renamed,
// and in a bucket an object is put at once, with its SHA-256 for the server to
// check. The same batch sent again leaves the part that is there. The manifest is
// written last, when the destination is closed, and lists every part of the run with
// its rows and SHA-256, also those that an earlier process wrote before it
// died; a reader that waits for it never sees half a run. Of a run that died whole
// the next one of the sync has it written.
//
// A record has the columns _op (upsert or remove), _key and _id, then the
// mapped ones. Times are RFC 3339 in texts, and microseconds in UTC in Parquet.
// NULL is null in JSON Lines and Parquet, and in CSV an empty field, as is an
// empty string. JSON Lines has no NaN and no infinities; they are refused there.
//
// Of a removal because the person was erased, all records of its key that are in
// the directory are taken out first, and the manifests follow. In a bucket with
// versions the older ones of these files go, too.
//
// A text in CSV that a spreadsheet would read as a formula, because it begins
// with = + - @, a tab or a line end, gets a ' before it. That also meets
// telephone numbers such as '+31612345678. Where the reader is a program, set
// guard_formulas to "false" or take another format.
package file

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"slices"

	"github.com/sluis-cdp/sluis/plugins/destination"
)

const runPrefix = "run="

// file is the destination. Open sets its fields.
type file struct {
	store  store
	format format
	runs   map[string]*run // by directory: the runs that were written to
}

// run is a run that is being written.
type run struct {
	id    string
	parts map[string]manifestFile // by name: those that this process wrote
}

// New returns the destination.
func New() destination.Destination { return &file{} }

// Describe implements [destination.Destination].
func (*file) Describe() destination.Description {
	return destination.Description{
		Name:        "file",
		Version:     "1.1.0",
		Ops:         []destination.Op{destination.Upsert, destination.Remove},
		Granularity: destination.PerRow,
		Idempotent:  true,
		Config:      fields(),
		EgressHosts: []string{"${url}", "${endpoint}"},
	}
}

// Validate implements [destination.Validator].
func (*file) Validate(values map[string]string) error {
	_, err := parseConfig(values)
	return err
}

// Open implements [destination.Destination].
func (f *file) Open(ctx context.Context, values map[string]string) error {
	c, err := parseConfig(values)
	if err != nil {
		return err
	}
	store, err := c.open()
	if err != nil {
		return err
	}
	f.store, f.format, f.runs = store, c.format, map[string]*run{}
	if err := f.Check(ctx); err != nil {
		f.store = nil
		if problem, ok := errors.AsType[*destination.ConfigError](err); ok {
			return errors.Join(problem, store.close())
		}
		return errors.Join(&destination.ConfigError{Field: c.field, Problem: "cannot be written to: " + cause(err)}, store.close())
	}
	return nil
}

// Check implements [destination.Checker]: it writes, which is the only way to
// know that one may, and removes what it wrote.
func (f *file) Check(ctx context.Context) error {
	const name = ".sluis-check"
	err := f.store.replace(ctx, "", name, nil)
	if err == nil {
		err = f.store.remove(ctx, "", name)
	}
	if err == nil {
		err = f.store.tidy(ctx, "")
	}
	return err
}

// Write implements [destination.Destination].
func (f *file) Write(ctx context.Context, batch destination.Batch) ([]destination.Result, error) {
	if f.store == nil {
		return nil, errors.New("the destination is not open")
	}
	for _, column := range batch.Columns {
		if column.Name == opColumn || column.Name == keyColumn || column.Name == idColumn {
			return nil, fmt.Errorf("the column %s is the destination's own: map it under another name", column.Name)
		}
	}
	if len(batch.Changes) == 0 {
		return nil, f.takeUp(ctx, batch.Run)
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
		if err := f.forget(ctx, keys, f.partOf(batch)); err != nil {
			return nil, fmt.Errorf("take out whom was erased: %w", err)
		}
	}
	if err := f.writePart(ctx, kept); err != nil {
		return nil, err
	}
	return results, nil
}

// partOf is a batch's part, with its directory.
func (f *file) partOf(batch destination.Batch) string {
	return runPrefix + safe(batch.Run) + "/" + partPrefix + safe(batch.ID) + "." + f.format.name()
}

// writePart writes a batch, unless it is there: it was sent before then, and
// somebody may have been erased from it since.
func (f *file) writePart(ctx context.Context, batch destination.Batch) error {
	dir, name := path.Split(f.partOf(batch))
	dir = path.Clean(dir)
	r, err := f.begin(ctx, dir, batch.Run)
	if err != nil {
		return fmt.Errorf("begin the run's directory: %w", err)
	}
	content, err := f.format.encode(batch)
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	created, err := f.store.create(ctx, dir, name, content)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if created {
		r.parts[name], err = describe(f.format, name, content)
	}
	return err
}

// begin prepares a run's directory. If an earlier process wrote and closed it, its
// manifest no longer tells the truth, and goes; so does what one left that died.
func (f *file) begin(ctx context.Context, dir, id string) (*run, error) {
	if r := f.runs[dir]; r != nil {
		return r, nil
	}
	if err := f.store.remove(ctx, dir, manifestName); err != nil {
		return nil, err
	}
	if err := f.store.tidy(ctx, dir); err != nil {
		return nil, err
	}
	r := &run{id: id, parts: map[string]manifestFile{}}
	f.runs[dir] = r
	return r, nil
}

// takeUp goes on with a run of a process that died before it wrote the manifest,
// if it wrote a part. A manifest that is there after all stays until it is replaced.
func (f *file) takeUp(ctx context.Context, id string) error {
	dir := runPrefix + safe(id)
	names, err := f.store.names(ctx, dir)
	if err != nil {
		return fmt.Errorf("look at the run's directory: %w", err)
	}
	if f.runs[dir] == nil && slices.ContainsFunc(names, func(name string) bool { return formatOf(name) != nil }) {
		f.runs[dir] = &run{id: id, parts: map[string]manifestFile{}}
		return f.store.tidy(ctx, dir)
	}
	return nil
}

// Close implements [destination.Destination]: it writes the manifests.
func (f *file) Close(ctx context.Context) error {
	if f.store == nil {
		return nil
	}
	var errs []error
	for dir, r := range f.runs {
		if err := f.writeManifest(ctx, dir, r); err != nil {
			errs = append(errs, fmt.Errorf("write the manifest of %s: %w", dir, err))
		}
	}
	errs = append(errs, f.store.close())
	f.store = nil
	return errors.Join(errs...)
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
