package file

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
)

const (
	partPrefix   = "part-"
	manifestName = "_manifest.json"
)

// manifest lists what a run wrote.
type manifest struct {
	Run    string         `json:"run"`
	Format string         `json:"format"`
	Rows   int            `json:"rows"`
	Files  []manifestFile `json:"files"`
}

type manifestFile struct {
	Name   string `json:"name"`
	Rows   int    `json:"rows"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// describe is a part's entry.
func describe(as format, name string, content []byte) (manifestFile, error) {
	rows, err := as.count(content)
	if err != nil {
		return manifestFile{}, fmt.Errorf("%s: %w", name, err)
	}
	sum := sha256.Sum256(content)
	return manifestFile{Name: name, Rows: rows, Bytes: int64(len(content)), SHA256: hex.EncodeToString(sum[:])}, nil
}

// manifestOf describes a run by its parts.
func manifestOf(run, format string, parts []manifestFile) manifest {
	m := manifest{Run: run, Format: format, Files: append([]manifestFile{}, parts...)}
	slices.SortFunc(m.Files, func(a, b manifestFile) int { return strings.Compare(a.Name, b.Name) })
	for _, part := range m.Files {
		m.Rows += part.Rows
	}
	return m
}

func (m manifest) encode() ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetIndent("", "  ")
	err := e.Encode(m)
	return out.Bytes(), err
}

// writeManifest describes the parts that are there, not those that this process
// remembers: another may have written some before it died. Only these it reads.
func (f *file) writeManifest(ctx context.Context, dir string, r *run) error {
	names, err := f.store.names(ctx, dir)
	if err != nil {
		return err
	}
	var parts []manifestFile
	for _, name := range names {
		as := formatOf(name)
		if as == nil || as.name() != f.format.name() {
			continue
		}
		part, known := r.parts[name]
		if !known {
			content, err := f.store.read(ctx, dir, name)
			if err == nil {
				part, err = describe(as, name, content)
			}
			if err != nil {
				return fmt.Errorf("read %s: %w", path.Join(dir, name), err)
			}
		}
		parts = append(parts, part)
	}
	text, err := manifestOf(r.id, f.format.name(), parts).encode()
	if err != nil {
		return err
	}
	return f.store.replace(ctx, dir, manifestName, text)
}
