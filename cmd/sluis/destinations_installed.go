package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/plugins/host"
)

// system is what programs are built for, as the lock file names it.
const system = runtime.GOOS + "/" + runtime.GOARCH

// installedCommands are those about programs of others.
func installedCommands() []*cli.Command {
	return []*cli.Command{
		{
			Name: "add", Usage: "let syncs send to somebody else's program: copy it, look at it, and pin it in " + workspace.LockFile, ArgsUsage: "PROGRAM",
			Flags: []cli.Flag{
				&cli.BoolFlag{Name: "in-place", Usage: "pin the program where it is, such as where only the superuser may write; copy nothing"},
				&cli.BoolFlag{Name: "unconfined", Usage: "run it as freely as sluis itself, with any host and file in reach: for programs that you trust, or a system that cannot confine"},
			},
			Action: destinationsAdd,
		},
		{
			Name: "verify", Usage: "start each program that is pinned, and compare it with " + workspace.LockFile,
			Flags: []cli.Flag{jsonFlag()}, Action: destinationsVerify,
		},
		{
			Name: "rm", Usage: "forget somebody else's program, and remove the copy", ArgsUsage: "DESTINATION",
			Action: destinationsRm,
		},
	}
}

// startInstalled starts a program as it is pinned, and refuses one that is
// another by now or says otherwise of itself.
func startInstalled(ctx context.Context, dir, name string, locked workspace.Locked, logger *slog.Logger) (*host.Plugin, error) {
	program, ok := locked.Programs[system]
	if !ok {
		return nil, fmt.Errorf("%s has no program of the destination %s for %s: build one, and pin it too with `sluis destinations add`", workspace.LockFile, name, system)
	}
	c := host.Config{Name: name, Path: program.Path, SHA256: program.SHA256, Logger: logger}
	if !filepath.IsAbs(c.Path) {
		c.Path = filepath.Join(dir, c.Path)
	}
	if !locked.Unconfined {
		c.Confine = &host.Confinement{Egress: locked.Egress}
	}
	plugin, err := host.Start(ctx, c)
	switch {
	case errors.Is(err, host.ErrChanged):
		return nil, fmt.Errorf("%w: `sluis destinations add` does, once you know why it changed", err)
	case err != nil:
		return nil, remedy(err)
	}
	if err := asPinned(plugin.Describe(), name, locked); err != nil {
		plugin.Kill()
		return nil, err
	}
	return plugin, nil
}

// remedy says what to do where programs cannot be confined.
func remedy(err error) error {
	if errors.Is(err, host.ErrCannotConfine) {
		return fmt.Errorf("%w. Confining needs Linux, with Landlock and user namespaces for everybody (in a container, its security profile has to allow them); "+
			"if you trust the program, `sluis destinations add --unconfined` has it run without", err)
	}
	return err
}

// asPinned compares what a program says of itself with what was looked at.
func asPinned(d destination.Description, name string, locked workspace.Locked) error {
	switch {
	case d.Name != name:
		return fmt.Errorf("the program of the destination %s calls itself %s", name, d.Name)
	case d.Version != locked.Version:
		return fmt.Errorf("the program of the destination %s says it is version %s, and %s has %s", name, d.Version, workspace.LockFile, locked.Version)
	case !slices.Equal(d.EgressHosts, locked.Egress):
		return fmt.Errorf("the program of the destination %s wants to connect to %s, and %s allows %s", name, hosts(d.EgressHosts), workspace.LockFile, hosts(locked.Egress))
	}
	return nil
}

// checkInstalled starts each program that is pinned.
func checkInstalled(ctx context.Context, dir string) error {
	lock, err := workspace.ReadLock(dir)
	problems := []error{err}
	for _, name := range slices.Sorted(maps.Keys(lock.Destinations)) {
		plugin, err := startInstalled(ctx, dir, name, lock.Destinations[name], slog.New(slog.DiscardHandler))
		if err == nil {
			plugin.Kill()
		}
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

func hosts(names []string) string {
	if len(names) == 0 {
		return "no host"
	}
	return strings.Join(names, ", ")
}

func destinationsAdd(c *cli.Context) (err error) {
	if c.NArg() != 1 {
		return usage("add needs one PROGRAM: sluis destinations add ./my-destination")
	}
	dir := workspaceDir(c)
	lock, err := workspace.ReadLock(dir)
	if err != nil {
		return err
	}
	program, path, err := takeIn(dir, c.Args().First(), c.Bool("in-place"))
	if err != nil {
		return err
	}
	copied := !c.Bool("in-place")
	defer func() {
		if copied {
			_ = os.Remove(path) // it has its name by now, or was not wanted
		}
	}()
	d, err := lookAt(c, path, program.SHA256)
	if err != nil {
		return err
	}
	if _, ok := builtin()[d.Name]; ok {
		return fmt.Errorf("the program calls itself %s, and that destination is built in: it needs another name", d.Name)
	}
	if copied {
		program.Path = filepath.Join("plugins", runtime.GOOS+"_"+runtime.GOARCH, d.Name)
		if err := os.Rename(path, filepath.Join(dir, program.Path)); err != nil {
			return fmt.Errorf("install the program: %w", err)
		}
	}
	locked, before := lock.Destinations[d.Name]
	if !before || locked.Version != d.Version {
		locked.Programs = nil // those of other systems are of another version
	}
	locked.Version, locked.Egress, locked.Unconfined = d.Version, d.EgressHosts, c.Bool("unconfined")
	locked.Programs = maps.Clone(locked.Programs)
	if locked.Programs == nil {
		locked.Programs = map[string]workspace.Program{}
	}
	locked.Programs[system] = program
	if lock.Destinations == nil {
		lock.Destinations = map[string]workspace.Locked{}
	}
	lock.Destinations[d.Name] = locked
	if err := workspace.WriteLock(dir, lock); err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "%s %s is pinned in %s for %s.\nIt may connect to %s%s.\nIts configuration and fields: sluis destinations ls %s\n",
		d.Name, d.Version, workspace.LockFile, system, hosts(d.EgressHosts), freedom(locked), d.Name)
	return nil
}

func freedom(locked workspace.Locked) string {
	if locked.Unconfined {
		return ", it says; nothing holds it to that, nor keeps it from any file of yours"
	}
	return ", and read none of your files"
}

// takeIn copies a program into the workspace under a name of its own for now, or
// leaves it where it is. It returns where the program is.
func takeIn(dir, from string, inPlace bool) (program workspace.Program, path string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("take in the program: %w", err)
		}
	}()
	source, err := os.Open(from)
	if err != nil {
		return program, "", err
	}
	defer source.Close() //nolint:errcheck // only read
	sum := sha256.New()
	if inPlace {
		if _, err := io.Copy(sum, source); err != nil {
			return program, "", err
		}
		if path, err = filepath.Abs(from); err != nil {
			return program, "", err
		}
		return workspace.Program{Path: path, SHA256: hex.EncodeToString(sum.Sum(nil))}, path, nil
	}
	folder := filepath.Join(dir, "plugins", runtime.GOOS+"_"+runtime.GOARCH)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return program, "", err
	}
	file, err := os.CreateTemp(folder, ".new-*")
	if err != nil {
		return program, "", err
	}
	_, err = io.Copy(io.MultiWriter(file, sum), source)
	if err := errors.Join(err, file.Chmod(0o555), file.Sync(), file.Close()); err != nil {
		return program, "", errors.Join(err, os.Remove(file.Name()))
	}
	return workspace.Program{SHA256: hex.EncodeToString(sum.Sum(nil))}, file.Name(), nil
}

// lookAt starts a program that nothing is known of yet, and asks what it is. It
// may connect to nothing.
func lookAt(c *cli.Context, path, digest string) (destination.Description, error) {
	config := host.Config{Name: filepath.Base(c.Args().First()), Path: path, SHA256: digest, Logger: quietLogger(c)}
	if !c.Bool("unconfined") {
		config.Confine = &host.Confinement{}
	}
	plugin, err := host.Start(c.Context, config)
	if err != nil {
		return destination.Description{}, remedy(err)
	}
	defer plugin.Kill()
	return plugin.Describe(), nil
}

func destinationsVerify(c *cli.Context) error {
	dir := workspaceDir(c)
	lock, err := workspace.ReadLock(dir)
	if err != nil {
		return err
	}
	type line struct {
		Destination string   `json:"destination"`
		Version     string   `json:"version"`
		Egress      []string `json:"egress"`
		Confined    bool     `json:"confined"`
		OK          bool     `json:"ok"`
		Problem     string   `json:"problem,omitempty"`
	}
	lines, rows, failed := []line{}, [][]string{}, 0
	for _, name := range slices.Sorted(maps.Keys(lock.Destinations)) {
		locked := lock.Destinations[name]
		l, verdict := line{Destination: name, Version: locked.Version, Egress: locked.Egress, Confined: !locked.Unconfined, OK: true}, "ok"
		if plugin, err := startInstalled(c.Context, dir, name, locked, quietLogger(c)); err != nil {
			failed++
			l.OK, l.Problem, verdict = false, err.Error(), err.Error()
		} else {
			plugin.Kill()
		}
		lines, rows = append(lines, l), append(rows, []string{name, locked.Version, hosts(locked.Egress), mark(!locked.Unconfined), verdict})
	}
	if c.Bool("json") {
		err = printJSON(c.App.Writer, lines)
	} else {
		printTable(c.App.Writer, []string{"destination", "version", "connects to", "confined", "state"}, rows)
	}
	if failed > 0 {
		return errors.Join(err, fmt.Errorf("%d of %d programs are not what %s says", failed, len(lines), workspace.LockFile))
	}
	return err
}

func destinationsRm(c *cli.Context) error {
	name, dir := c.Args().First(), workspaceDir(c)
	lock, err := workspace.ReadLock(dir)
	if err != nil {
		return err
	}
	locked, ok := lock.Destinations[name]
	if !ok || c.NArg() != 1 {
		return usage("%s has no destination %q", workspace.LockFile, name)
	}
	w, err := openWorkspace(c)
	if err != nil {
		return err
	}
	syncs, err := loadSyncs(w)
	if err != nil {
		return err
	}
	for _, s := range syncs {
		if s.Destination == name {
			return fmt.Errorf("the sync %s sends to %s: who was sent there could not be removed any more; take its people out first, then its file", s.Name, name)
		}
	}
	delete(lock.Destinations, name)
	if err := workspace.WriteLock(dir, lock); err != nil {
		return err
	}
	for _, program := range locked.Programs {
		if filepath.IsLocal(program.Path) { // others were there before
			if err := os.Remove(filepath.Join(dir, program.Path)); err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("remove the program: %w", err)
			}
		}
	}
	return nil
}
