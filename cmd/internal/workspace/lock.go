package workspace

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"go.yaml.in/yaml/v3"
)

// LockFile is the name of the file that says which programs of others may be
// started; it belongs into git, beside [File].
const LockFile = "destinations.lock"

// Lock is destinations.lock: what syncs may name beside what is built in.
type Lock struct {
	Destinations map[string]Locked `yaml:"destinations"`
}

// Locked is a destination that somebody else wrote, as it was looked at. A
// program that is another, or says otherwise of itself, is not started.
type Locked struct {
	Version string `yaml:"version"`
	// Egress are the hosts that it may connect to.
	Egress []string `yaml:"egress,flow"`
	// Unconfined runs it as freely as the host itself: nothing then holds it to
	// Egress, nor keeps it from the workspace's files.
	Unconfined bool `yaml:"unconfined,omitempty"`
	// Programs has one for each system that it runs on, such as linux/amd64.
	Programs map[string]Program `yaml:"programs"`
}

// Program is a file, and the digest without which it is not started.
type Program struct {
	Path   string `yaml:"path"` // relative to the workspace
	SHA256 string `yaml:"sha256"`
}

var hexDigest = regexp.MustCompile(`^[0-9a-f]{64}$`)

// ReadLock reads the lock file of the workspace at dir; without one nothing is
// locked.
func ReadLock(dir string) (Lock, error) {
	path := filepath.Join(dir, LockFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Lock{}, nil
	}
	if err != nil {
		return Lock{}, fmt.Errorf("read the destinations' lock file: %w", err)
	}
	var lock Lock
	doc, err := decode(path, text, &lock)
	if err != nil {
		return Lock{}, err
	}
	for name, locked := range lock.Destinations {
		at := "destinations." + name
		if locked.Version == "" || len(locked.Programs) == 0 {
			doc.report(at, "a version and programs are needed: `sluis destinations add` writes them")
		}
		for system, program := range locked.Programs {
			if program.Path == "" || !hexDigest.MatchString(program.SHA256) {
				doc.report(at+".programs."+system, "a path, and a sha256 of 64 hexadecimal digits, are needed: `sluis destinations add` writes them")
			}
		}
	}
	return lock, errors.Join(doc.problems...)
}

// WriteLock writes the lock file of the workspace at dir, whole or not at all.
func WriteLock(dir string, lock Lock) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write the destinations' lock file: %w", err)
		}
	}()
	var text bytes.Buffer
	text.WriteString("# Programs of others that syncs may send to. Written by `sluis destinations add`; look at each change.\n")
	encoder := yaml.NewEncoder(&text)
	encoder.SetIndent(2)
	if err := errors.Join(encoder.Encode(lock), encoder.Close()); err != nil {
		return err
	}
	file, err := os.CreateTemp(dir, LockFile+".*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) //nolint:errcheck // it is gone if all went well
	_, err = file.Write(text.Bytes())
	if err := errors.Join(err, file.Chmod(0o644), file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), filepath.Join(dir, LockFile))
}
