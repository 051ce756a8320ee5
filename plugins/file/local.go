package file

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/sluis-cdp/sluis/plugins/destination"
)

// local is a directory of this machine.
type local struct {
	root *os.Root // nothing outside it can be reached, whatever the ids are
}

func openLocal(directory string) (store, error) {
	root, err := os.OpenRoot(directory)
	if err != nil {
		return nil, &destination.ConfigError{Field: "directory", Problem: "cannot be opened: " + cause(err)}
	}
	return local{root}, nil
}

func (l local) close() error { return l.root.Close() }

func (l local) dirs(context.Context) ([]string, error) { return l.list(".", true) }

func (l local) names(_ context.Context, dir string) ([]string, error) {
	names, err := l.list(filepath.Join(".", dir), false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return names, err
}

// list names what is in a directory: directories, or all else.
func (l local) list(dir string, dirs bool) ([]string, error) {
	d, err := l.root.Open(dir)
	if err != nil {
		return nil, err
	}
	entries, err := d.ReadDir(-1)
	var names []string
	for _, entry := range entries {
		if entry.IsDir() == dirs {
			names = append(names, entry.Name())
		}
	}
	return names, errors.Join(err, d.Close())
}

func (l local) read(_ context.Context, dir, name string) ([]byte, error) {
	return l.root.ReadFile(filepath.Join(dir, name))
}

func (l local) create(ctx context.Context, dir, name string, content []byte) (bool, error) {
	if _, err := l.root.Stat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return true, l.replace(ctx, dir, name, content)
}

// replace writes aside, syncs and renames.
func (l local) replace(_ context.Context, dir, name string, content []byte) (err error) {
	if err := l.ensure(dir); err != nil {
		return err
	}
	aside := filepath.Join(dir, asideName(name))
	out, err := l.root.OpenFile(aside, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = l.root.Remove(aside)
		}
	}()
	_, err = out.Write(content)
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	if err = l.root.Rename(aside, filepath.Join(dir, name)); err != nil {
		return err
	}
	return l.sync(filepath.Join(".", dir))
}

// ensure makes a directory, such that it is still there after a power cut.
func (l local) ensure(dir string) error {
	if dir == "" {
		return nil
	}
	if err := l.root.Mkdir(dir, 0o700); errors.Is(err, fs.ErrExist) {
		return nil
	} else if err != nil {
		return err
	}
	return l.sync(".")
}

// sync makes the names in a directory durable.
func (l local) sync(dir string) error {
	d, err := l.root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (l local) remove(_ context.Context, dir, name string) error {
	if err := l.root.Remove(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (l local) tidy(ctx context.Context, dir string) error { return removeAside(ctx, l, dir) }

// asideName is what a file is called until it is whole.
func asideName(name string) string { return "." + name + ".tmp" }

// removeAside removes what a process that died was writing.
func removeAside(ctx context.Context, s store, dir string) error {
	names, err := s.names(ctx, dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, ".") && strings.HasSuffix(name, ".tmp") {
			if err := s.remove(ctx, dir, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// cause is an error without the path, which is a configuration's value.
func cause(err error) string {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return path.Err.Error()
	}
	return err.Error()
}
