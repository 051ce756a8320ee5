package main

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"go/format"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"text/template"

	"github.com/urfave/cli/v2"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/plugins/destination/destinationtest"
	"github.com/sluis-cdp/sluis/plugins/host"
)

const sdkModule = "github.com/sluis-cdp/sluis"

// newDestination is the Go module that a new destination begins as.
//
//go:embed newdestination
var newDestination embed.FS

// authorsCommands are for those who write destinations.
func authorsCommands() []*cli.Command {
	return []*cli.Command{
		{
			Name: "new", Usage: "write a Go module with a destination of your own, and its conformance test", ArgsUsage: "NAME",
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "module", Usage: "path of the Go module; by default example.org/NAME"},
				&cli.StringFlag{Name: "sdk", Usage: "`DIR` with the source of Sluis, in place of a released version"},
				&cli.StringFlag{Name: "dir", Usage: "where to write it; by default NAME"},
			},
			Action: destinationsNew,
		},
		{
			Name: "conform", Usage: "hold a destination's program to what all of them promise; it writes to the service that is configured, so take one for tests", ArgsUsage: "PROGRAM",
			Flags: []cli.Flag{
				&cli.StringSliceFlag{Name: "set", Usage: "a setting: key=value, key=env:NAME or key=file:PATH; repeatable"},
				&cli.BoolFlag{Name: "unconfined", Usage: "where the system cannot confine programs"},
				jsonFlag(),
			},
			Action: destinationsConform,
		},
	}
}

var destinationName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`)

func destinationsNew(c *cli.Context) error {
	name := c.Args().First()
	if c.NArg() != 1 || !destinationName.MatchString(name) {
		return usage("new needs one NAME, of lower-case letters, digits, - and _")
	}
	if _, ok := builtin()[name]; ok {
		return usage("the destination %s is built in: choose another name", name)
	}
	values := struct{ Name, Module, SDK, Version, Go string }{
		Name: name, Module: c.String("module"), SDK: c.String("sdk"), Version: sdkVersion(),
		Go: strings.Join(strings.SplitN(strings.TrimPrefix(runtime.Version(), "go"), ".", 3)[:2], ".") + ".0",
	}
	if values.Module == "" {
		values.Module = "example.org/" + name
	}
	if values.Version == "" && values.SDK == "" {
		return usage("this sluis is not of a released version, so it knows none of the SDK: name the folder with its source by --sdk DIR")
	}
	if values.Version == "" {
		values.Version = "v0.0.0"
	}
	dir := c.String("dir")
	if dir == "" {
		dir = name
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("write the module: %w", err)
	}
	templates, err := template.ParseFS(newDestination, "newdestination/*.tmpl")
	if err != nil {
		return err
	}
	for _, t := range templates.Templates() {
		if err := writeTemplate(filepath.Join(dir, strings.TrimSuffix(path.Base(t.Name()), ".tmpl")), t, values); err != nil {
			return fmt.Errorf("write the module: %w", err)
		}
	}
	fmt.Fprintf(c.App.Writer, "A destination is in %s. Next:\n  cd %[1]s && go mod tidy && go test ./...\nThe README there has the rest.\n", dir)
	return nil
}

// sdkVersion is the version of the SDK that this program was built with; "" if
// none was released.
func sdkVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Path != sdkModule || !strings.HasPrefix(info.Main.Version, "v") || strings.Contains(info.Main.Version, "+dirty") {
		return ""
	}
	return info.Main.Version
}

func writeTemplate(file string, t *template.Template, values any) error {
	var text bytes.Buffer
	if err := t.Execute(&text, values); err != nil {
		return err
	}
	out := text.Bytes()
	if strings.HasSuffix(file, ".go") {
		formatted, err := format.Source(out)
		if err != nil {
			return err
		}
		out = formatted
	}
	return os.WriteFile(file, out, 0o644)
}

func destinationsConform(c *cli.Context) error {
	if c.NArg() != 1 {
		return usage("conform needs one PROGRAM: sluis destinations conform --set url=… ./my-destination")
	}
	settings, err := settingValues(c.StringSlice("set"))
	if err != nil {
		return err
	}
	program, file, err := takeIn("", c.Args().First(), true)
	if err != nil {
		return err
	}
	d, err := lookAt(c, file, program.SHA256)
	if err != nil {
		return err
	}
	config := host.Config{Name: d.Name, Path: file, SHA256: program.SHA256, Logger: quietLogger(c)}
	if !c.Bool("unconfined") {
		config.Confine = &host.Confinement{Egress: d.EgressHosts}
	}
	suite := destinationtest.Suite{
		Batch: destinationtest.BatchFor(d.Target),
		Open: func(t destinationtest.T) (destination.Destination, map[string]string) {
			plugin, err := host.Start(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(plugin.Kill)
			return plugin, maps.Clone(settings) // the suite changes them
		},
	}
	return report(c, append(suite.Checks(), destinationtest.Check{Name: "killed", Run: killed(suite)}))
}

// killed sends a batch, kills the process, and sends it again from another one.
func killed(suite destinationtest.Suite) func(t destinationtest.T) {
	return func(t destinationtest.T) {
		var before []destination.Result
		for range 2 {
			d, config := suite.Open(t)
			if err := d.Open(t.Context(), config); err != nil {
				t.Fatal(err)
			}
			batch := suite.Batch("killed", destination.Upsert)
			results, err := d.Write(t.Context(), batch)
			if err == nil {
				err = batch.CheckResults(results)
			}
			if err != nil {
				t.Fatal(err)
			}
			for i, r := range before {
				if d.Describe().Idempotent && results[i].Outcome != r.Outcome && results[i].Outcome != destination.Skipped {
					t.Errorf("change %d was %v, and sent again by another process %v", i, r.Outcome, results[i].Outcome)
				}
			}
			before = results
			if plugin, ok := d.(*host.Plugin); ok {
				plugin.Kill()
			}
		}
	}
}

// settingValues reads settings as the flag --set has them.
func settingValues(arguments []string) (map[string]string, error) {
	config := map[string]string{}
	for _, argument := range arguments {
		name, value, ok := strings.Cut(argument, "=")
		if !ok || name == "" {
			return nil, usage("--set %s: want key=value, key=env:NAME or key=file:PATH", name)
		}
		switch kind, where, _ := strings.Cut(value, ":"); kind {
		case "env":
			if value, ok = os.LookupEnv(where); !ok {
				return nil, usage("--set %s: the environment variable %s is not set", name, where)
			}
		case "file":
			text, err := os.ReadFile(where)
			if err != nil {
				return nil, usage("--set %s: %v", name, err)
			}
			value = strings.TrimSpace(string(text))
		}
		config[name] = value
	}
	return config, nil
}

// report makes the checks, and says of each what came of it.
func report(c *cli.Context, checks []destinationtest.Check) error {
	type line struct {
		Check    string   `json:"check"`
		OK       bool     `json:"ok"`
		Skipped  string   `json:"skipped,omitempty"`
		Problems []string `json:"problems,omitempty"`
	}
	lines, rows, failed := []line{}, [][]string{}, 0
	for _, check := range checks {
		trial := &trial{ctx: c.Context}
		trial.run(check.Run)
		l, verdict := line{Check: check.Name, OK: len(trial.problems) == 0, Skipped: trial.skipped, Problems: trial.problems}, "ok"
		switch {
		case !l.OK:
			failed++
			verdict = strings.Join(l.Problems, "; ")
		case l.Skipped != "":
			verdict = "not tried: " + l.Skipped
		}
		lines, rows = append(lines, l), append(rows, []string{l.Check, verdict})
	}
	var err error
	if c.Bool("json") {
		err = printJSON(c.App.Writer, lines)
	} else {
		printTable(c.App.Writer, []string{"check", "outcome"}, rows)
	}
	if failed > 0 {
		return errors.Join(err, fmt.Errorf("%d of %d checks failed", failed, len(checks)))
	}
	return err
}

// trial is a destinationtest.T outside a test.
type trial struct {
	ctx      context.Context
	problems []string
	skipped  string
	cleanups []func()
}

// run ends when the check does, also by Fatal, and what it left is cleaned up.
func (t *trial) run(check func(destinationtest.T)) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			for _, cleanup := range slices.Backward(t.cleanups) {
				cleanup()
			}
		}()
		check(t)
	}()
	<-done
}

func (t *trial) Helper()                  {}
func (t *trial) Context() context.Context { return t.ctx }
func (t *trial) Cleanup(do func())        { t.cleanups = append(t.cleanups, do) }
func (t *trial) Error(args ...any)        { t.problems = append(t.problems, fmt.Sprint(args...)) }
func (t *trial) Errorf(format string, args ...any) {
	t.problems = append(t.problems, fmt.Sprintf(format, args...))
}

func (t *trial) Fatal(args ...any) {
	t.Error(args...)
	runtime.Goexit()
}

func (t *trial) Fatalf(format string, args ...any) {
	t.Errorf(format, args...)
	runtime.Goexit()
}

func (t *trial) Skip(args ...any) {
	t.skipped = fmt.Sprint(args...)
	runtime.Goexit()
}
