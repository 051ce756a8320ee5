package file

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"reflect"
	"strings"

	"github.com/sluis-cdp/sluis/plugins/destination"
)

// erased is the reason of a removal of somebody of whom nothing may be left.
const erased = "erased"

// forget takes the records with these keys out of all parts that there are, and
// describes their runs anew. Each part is replaced whole. That a key was removed
// is written after it, for whoever picks the files up: it is all that stays. The
// part that says so may be there already, if this was sent before.
//
// Killed anywhere and begun again it leaves the same.
func (f *file) forget(ctx context.Context, keys map[string]bool, saysSo string) error {
	dirs, err := f.store.dirs(ctx)
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		if !strings.HasPrefix(dir, runPrefix) {
			continue
		}
		if err := f.forgetIn(ctx, dir, keys, saysSo); err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
	}
	return nil
}

func (f *file) forgetIn(ctx context.Context, dir string, keys map[string]bool, saysSo string) error {
	names, err := f.store.names(ctx, dir)
	if err != nil {
		return err
	}
	parts := map[string][]manifestFile{} // by format
	for _, name := range names {
		as := formatOf(name)
		if as == nil {
			continue
		}
		from := keys
		if path.Join(dir, name) == saysSo {
			from = nil
		}
		part, err := f.forgetPart(ctx, as, dir, name, from)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		parts[as.name()] = append(parts[as.name()], part)
		if r := f.runs[dir]; r != nil {
			r.parts[name] = part
		}
	}
	// What a process that died wrote aside, and what was replaced, has the values too.
	if err := f.store.tidy(ctx, dir); err != nil {
		return err
	}
	return f.describeAgain(ctx, dir, parts)
}

func (f *file) forgetPart(ctx context.Context, as format, dir, name string, keys map[string]bool) (manifestFile, error) {
	content, err := f.store.read(ctx, dir, name)
	if err != nil {
		return manifestFile{}, err
	}
	kept, dropped, err := as.without(content, keys)
	if err != nil {
		return manifestFile{}, err
	}
	if dropped {
		content = kept
		if err := f.store.replace(ctx, dir, name, content); err != nil {
			return manifestFile{}, err
		}
	}
	return describe(as, name, content)
}

// describeAgain replaces a manifest that no longer tells the truth.
func (f *file) describeAgain(ctx context.Context, dir string, parts map[string][]manifestFile) error {
	text, err := f.store.read(ctx, dir, manifestName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nobody reads a run without one
	}
	var before manifest
	if err == nil {
		err = json.Unmarshal(text, &before)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", manifestName, err)
	}
	now := manifestOf(before.Run, before.Format, parts[before.Format])
	if reflect.DeepEqual(before, now) {
		return nil
	}
	text, err = now.encode()
	if err != nil {
		return err
	}
	return errors.Join(f.store.replace(ctx, dir, manifestName, text), f.store.tidy(ctx, dir))
}

// erasedKeys are those of a batch's removals of which nothing may be left.
func erasedKeys(batch destination.Batch) map[string]bool {
	keys := make(map[string]bool)
	for _, change := range batch.Changes {
		if change.Op == destination.Remove && change.PriorityReason == erased {
			keys[change.Key] = true
		}
	}
	return keys
}
