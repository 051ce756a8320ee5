package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/sql/runner"
	syncer "github.com/sluis-cdp/sluis/sync"
)

func syncNewCommand() *cli.Command {
	return &cli.Command{
		Name: "new", Usage: "write the file of a sync", ArgsUsage: "NAME",
		Description: "A setting or a secret is --set key=value, --set key=env:NAME or --set key=file:PATH.\n" +
			"A field is --field name=COLUMN, name=sealed:FIELD or name=value:TEXT; without any, the profile's id is sent, or the e-mail\n" +
			"address to destinations that match by it.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "audience", Usage: "the audience to send; its purpose is the sync's"},
			&cli.StringFlag{Name: "model", Usage: "a model to send, if it is no audience; with --purpose"},
			&cli.StringFlag{Name: "purpose", Usage: "what for, with --model"},
			&cli.StringFlag{Name: "key", Value: "profile_id", Usage: "the column that identifies a row"},
			&cli.StringFlag{Name: "destination", Usage: "where to; sluis destinations ls lists them", Required: true},
			&cli.StringSliceFlag{Name: "set", Usage: "a setting of the destination; repeatable"},
			&cli.StringSliceFlag{Name: "field", Usage: "a field of the destination, and what it gets; repeatable"},
			&cli.StringFlag{Name: "mode", Value: string(syncer.ModeMirror), Usage: "mirror removes who left the audience, upsert keeps them, update changes only who is there already; also create, append and full"},
			&cli.Int64Flag{Name: "min-size", Usage: "nobody is added while there would be fewer people than this at the destination"},
			&cli.BoolFlag{Name: "print", Usage: "print the file, write nothing"},
		},
		Action: syncNew,
	}
}

func syncNew(c *cli.Context) error {
	name := c.Args().First()
	if c.NArg() != 1 {
		return usage("new needs one NAME, and flags before it: sluis sync new --audience pricing_and_chat --destination webhook NAME")
	}
	if filepath.Base(name) != name {
		return usage("%s: the file's name is the sync's name: use lower-case letters, digits, - and _", name)
	}
	w, err := openWorkspace(c)
	if err != nil {
		return err
	}
	if err := checkKnown(w.Dir, c.String("destination")); err != nil {
		return err
	}
	start, err := starter(w.Dir, quietLogger(c))
	if err != nil {
		return err
	}
	plugin, err := start(c.Context, c.String("destination"))
	if err != nil {
		return err
	}
	defer plugin.Kill()
	description := plugin.Describe()
	draft := syncer.Draft{
		Key: c.String("key"), Destination: c.String("destination"), Mode: syncer.Mode(c.String("mode")), MinSize: c.Int64("min-size"),
	}
	if err := chooseModel(c, w, &draft); err != nil {
		return err
	}
	if draft.Settings, err = settingsOf(c.StringSlice("set"), description.Config); err != nil {
		return err
	}
	if draft.Mapping, err = fieldsOf(c.StringSlice("field"), draft.Key, description.Target); err != nil {
		return err
	}
	text, err := draft.Encode()
	if err != nil {
		return err
	}
	if err := checkNewSync(name+".yaml", text, plugin); err != nil {
		return usage("%v", err)
	}
	if c.Bool("print") {
		_, err := c.App.Writer.Write(text)
		return err
	}
	return writeSync(c, w, name, text)
}

// chooseModel gives a new sync its model and its purpose, which an audience
// declares; and whether it lists accounts.
func chooseModel(c *cli.Context, w *workspace.Workspace, draft *syncer.Draft) error {
	audience := c.String("audience")
	switch {
	case (audience == "") == (c.String("model") == ""):
		return usage("say what to send: --audience NAME, or --model NAME --purpose PURPOSE")
	case audience == "" && c.String("purpose") == "":
		return usage("say what for: --purpose marketing, for instance; without a purpose nobody has agreed to it")
	case audience == "":
		draft.Model, draft.Purpose = c.String("model"), c.String("purpose")
		return nil
	}
	project, err := loadProject(w, false, newLogger(c), nil)
	if err != nil {
		return err
	}
	nodes, err := project.List("")
	if err != nil {
		return err
	}
	var known []string
	for _, n := range nodes {
		if n.Audience == nil {
			continue
		}
		if n.Name == audience {
			if p := c.String("purpose"); p != "" && p != n.Audience.Purpose {
				return usage("the audience %s is for %s, so it cannot be sent for %s", audience, n.Audience.Purpose, p)
			}
			draft.Model, draft.Purpose = audience, n.Audience.Purpose
			if n.Audience.Entity == runner.EntityAccount {
				draft.Accounts, draft.Consenting = true, int64(n.Audience.MinMembersConsenting)
				if !c.IsSet("key") {
					draft.Key = "account_id"
				}
			}
			return nil
		}
		known = append(known, n.Name)
	}
	return usage("there is no audience %q; there are %s", audience, strings.Join(known, ", "))
}

// settingsOf are the destination's settings. A secret has to be in a file or the
// environment: the workspace's files are shared.
func settingsOf(arguments []string, fields []destination.Field) ([]syncer.Setting, error) {
	var settings []syncer.Setting
	for _, argument := range arguments {
		name, value, ok := strings.Cut(argument, "=")
		if !ok || name == "" {
			return nil, usage("--set %s: want key=value, key=env:NAME or key=file:PATH", name)
		}
		setting := syncer.Setting{Name: name}
		switch kind, where, _ := strings.Cut(value, ":"); {
		case kind == "env":
			setting.Ref.Env = where
		case kind == "file":
			setting.Ref.File = where
		case slices.ContainsFunc(fields, func(f destination.Field) bool { return f.Name == name && f.Secret }):
			return nil, usage("--set %s: this is a secret: give it as %s=env:NAME or %s=file:PATH, so that it is in no file that is shared", name, name, name)
		default:
			setting.Value = value
		}
		settings = append(settings, setting)
	}
	return settings, nil
}

// fieldsOf is the mapping that the flags say, or else the least that is of use
// to the destination.
func fieldsOf(arguments []string, key string, target destination.Target) ([]syncer.Field, error) {
	var fields []syncer.Field
	for _, argument := range arguments {
		name, source, ok := strings.Cut(argument, "=")
		if !ok || name == "" || source == "" {
			return nil, usage("--field %s: want name=COLUMN, name=sealed:FIELD or name=value:TEXT", argument)
		}
		f := syncer.Field{Field: name, Column: source}
		switch kind, what, _ := strings.Cut(source, ":"); kind {
		case "sealed":
			f.Column, f.Sealed = "", what
		case "value":
			f.Column, f.Value = "", &what
		case "column":
			f.Column = what
		}
		fields = append(fields, f)
	}
	if len(fields) > 0 {
		return fields, nil
	}
	for _, f := range target.Fields {
		if f.Form == "email" || strings.HasSuffix(f.Form, ".email") {
			return []syncer.Field{{Field: f.Name, Sealed: "email"}}, nil
		}
	}
	return []syncer.Field{{Field: key, Column: key}}, nil
}

// checkNewSync holds a sync's file to what its destination takes, as far as
// that can be known without asking it.
func checkNewSync(file string, text []byte, d destination.Destination) error {
	elsewhere := false // some settings are
	s, err := syncer.Parse(file, text, func(syncer.SecretRef) (string, error) {
		elsewhere = true
		return "", nil
	})
	if err != nil {
		return err
	}
	var problems []error
	for _, f := range d.Describe().Config {
		if _, ok := s.Config[f.Name]; f.Required && !ok {
			problems = append(problems, fmt.Errorf("--set %s=… is missing: %s", f.Name, f.Help))
		}
	}
	for key := range s.Config {
		if !slices.ContainsFunc(d.Describe().Config, func(f destination.Field) bool { return f.Name == key }) {
			problems = append(problems, fmt.Errorf("--set %s: %s has no such setting; sluis destinations ls %s lists them", key, s.Destination, s.Destination))
		}
	}
	// What a secret is, is not known here; a destination would call it wrong.
	if !elsewhere && len(problems) == 0 {
		problems = append(problems, destination.Validate(d, s.Config))
	}
	return errors.Join(append(problems, s.Fits(d.Describe()), checkMapping(d.Describe().Target, s))...)
}

// writeSync writes the file, and none over another.
func writeSync(c *cli.Context, w *workspace.Workspace, name string, text []byte) (err error) {
	dir := w.Path(w.Syncs)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write the sync: %w", err)
	}
	path := filepath.Join(dir, name+".yaml")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, os.ErrExist) {
		return usage("%s is there already: choose another name, or edit it", path)
	}
	if err != nil {
		return fmt.Errorf("write the sync: %w", err)
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write the sync: %w", err)
	}
	fmt.Fprintf(c.App.Writer, "%s was written. Next:\n  sluis destinations check %s     # does it let us in, and take the mapping?\n  sluis sync plan %s              # what would be sent, and why\n", path, name, name)
	return nil
}
