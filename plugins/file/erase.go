package file

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/sluis-cdp/sluis/plugins/destination"
)

// erased is the reason of a removal of somebody of whom nothing may be left.
const erased = "erased"

// forget takes the records with these keys out of all parts that there are, and
// describes their runs anew. Each part is replaced whole. That a key was removed
// is written after it, for whoever picks the files up: it is all that stays.
func (f *file) forget(keys map[string]bool) error {
	top, err := f.root.Open(".")
	if err != nil {
		return err
	}
	names, err := top.Readdirnames(-1)
	if err := errors.Join(err, top.Close()); err != nil {
		return err
	}
	for _, dir := range names {
		if !strings.HasPrefix(dir, "run=") {
			continue
		}
		if err := f.forgetIn(dir, keys); err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
	}
	return nil
}

func (f *file) forgetIn(dir string, keys map[string]bool) error {
	changed := false
	for _, as := range []format{csvFormat{}, jsonFormat{}} {
		names, err := (&file{root: f.root, format: as}).parts(dir)
		if err != nil {
			return err
		}
		for _, name := range names {
			dropped, err := f.forgetPart(as, dir, name, keys)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			changed = changed || dropped
		}
	}
	if !changed {
		return nil
	}
	text, err := f.root.ReadFile(filepath.Join(dir, manifestName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nobody reads a run without one
	}
	var m manifest
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", manifestName, err)
	}
	described := &file{root: f.root, format: csvFormat{}}
	if m.Format == (jsonFormat{}).name() {
		described.format = jsonFormat{}
	}
	return described.writeManifest(dir, m.Run)
}

func (f *file) forgetPart(as format, dir, name string, keys map[string]bool) (dropped bool, err error) {
	text, err := f.root.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return false, err
	}
	var kept bytes.Buffer
	if dropped, err = as.without(bytes.NewReader(text), &kept, keys); err != nil || !dropped {
		return false, err
	}
	return true, f.replace(dir, name, func(w io.Writer) error {
		_, err := w.Write(kept.Bytes())
		return err
	})
}

func (csvFormat) without(r io.Reader, w io.Writer, keys map[string]bool) (dropped bool, err error) {
	in, out := csv.NewReader(r), csv.NewWriter(w)
	for first := true; ; first = false {
		record, err := in.Read()
		if errors.Is(err, io.EOF) {
			out.Flush()
			return dropped, out.Error()
		}
		if err != nil {
			return false, err
		}
		// Whether formulas were guarded when it was written is not known.
		if !first && len(record) > 1 && (keys[record[1]] || keys[strings.TrimPrefix(record[1], "'")]) {
			dropped = true
			continue
		}
		_ = out.Write(record) // its error stays, for Error
	}
}

func (jsonFormat) without(r io.Reader, w io.Writer, keys map[string]bool) (dropped bool, err error) {
	in, out := bufio.NewReader(r), bufio.NewWriter(w)
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			var record struct {
				Key string `json:"_key"`
			}
			if wrong := json.Unmarshal(line, &record); wrong != nil {
				return false, errors.New("a line is not JSON")
			}
			if keys[record.Key] {
				dropped = true
			} else {
				_, _ = out.Write(line) // its error stays, for Flush
			}
		}
		if errors.Is(err, io.EOF) {
			return dropped, out.Flush()
		}
		if err != nil {
			return false, err
		}
	}
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
