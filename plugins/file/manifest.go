package file

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
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

// writeManifest describes the parts as they are on disk, not as this process
// remembers them: another may have written some before it died.
func (f *file) writeManifest(dir, run string) error {
	names, err := f.parts(dir)
	if err != nil {
		return err
	}
	m := manifest{Run: run, Format: f.format.name(), Files: []manifestFile{}}
	for _, name := range names {
		part, err := f.describe(dir, name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		m.Rows += part.Rows
		m.Files = append(m.Files, part)
	}
	return f.replace(dir, manifestName, func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(m)
	})
}

func (f *file) parts(dir string) ([]string, error) {
	d, err := f.root.Open(dir)
	if err != nil {
		return nil, err
	}
	all, err := d.Readdirnames(-1)
	if err = errors.Join(err, d.Close()); err != nil {
		return nil, err
	}
	parts := slices.DeleteFunc(all, func(name string) bool {
		return !strings.HasPrefix(name, partPrefix) || filepath.Ext(name) != "."+f.format.name()
	})
	slices.Sort(parts)
	return parts, nil
}

func (f *file) describe(dir, name string) (manifestFile, error) {
	in, err := f.root.Open(filepath.Join(dir, name))
	if err != nil {
		return manifestFile{}, err
	}
	defer in.Close() //nolint:errcheck // only read
	hash := sha256.New()
	size := &counter{}
	rows, err := f.format.count(io.TeeReader(in, io.MultiWriter(hash, size)))
	if err != nil {
		return manifestFile{}, err
	}
	return manifestFile{Name: name, Rows: rows, Bytes: size.n, SHA256: hex.EncodeToString(hash.Sum(nil))}, nil
}

// counter is an io.Writer that counts.
type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}
