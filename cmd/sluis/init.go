package main

import (
	"bytes"
	"crypto/rand"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"text/template"

	"github.com/urfave/cli/v2"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/consent/seal"
	sqlproject "github.com/sluis-cdp/sluis/sql"
)

// skeleton is what a new workspace holds, beside the models and the keys.
//
//go:embed all:skeleton
var skeleton embed.FS

func initCommand() *cli.Command {
	return &cli.Command{
		Name:      "init",
		Usage:     "make a workspace: configuration, keys, tracking plan, models, example syncs",
		ArgsUsage: "DIR",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "write-key", Usage: "write key of the source \"web\"; made at random if not given"},
			&cli.StringFlag{Name: "name", Usage: "name of the workspace; by default that of the folder"},
			&cli.StringFlag{Name: "bigquery", Usage: "`PROJECT` of Google Cloud to be the warehouse, in place of the embedded one"},
			&cli.StringFlag{Name: "location", Usage: "where that warehouse is, such as EU or europe-west4; it cannot be changed later"},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usage("init needs a folder: sluis init DIR")
			}
			dir := c.Args().First()
			w, err := initWorkspace(dir, initOptions{
				Name: c.String("name"), WriteKey: c.String("write-key"), Project: c.String("bigquery"), Location: c.String("location"),
			})
			if err != nil {
				return err
			}
			setUp := ""
			if w.Warehouse.BigQuery != nil {
				setUp = "  sluis doctor --fix --workspace " + dir + "\n"
			}
			fmt.Fprintf(c.App.Writer, `A workspace is in %[1]s. Keep it in git; keys/ and data/ stay out of it (back up keys/ apart).

%[4]s  sluis up --workspace %[1]s
  curl -u %[2]s: http://%[3]s/v1/track -d '{"anonymousId":"a-1","event":"Hello",
    "context":{"consent":{"categoryPreferences":{"analytics":true}}}}'
  sluis snippet --workspace %[1]s        # what goes into your pages
  sluis sql --workspace %[1]s "select event, count(*) from sluis.events group by 1"
`, dir, w.Sources[0].WriteKey, w.Listen, setUp)
			return nil
		},
	}
}

// initOptions are what the files of a new workspace are filled in with.
type initOptions struct {
	Name, WriteKey    string // made up if empty
	Project, Location string // of the warehouse in BigQuery; both or none
}

// check refuses what would not be one word of YAML.
func (o initOptions) check() error {
	word := regexp.MustCompile(`^[A-Za-z0-9_.-]*$`)
	switch {
	case !word.MatchString(o.WriteKey):
		return usage("a write key is made of letters, digits, _ . and -")
	case (o.Project == "") != (o.Location == ""):
		return usage("a warehouse in BigQuery needs both: --bigquery PROJECT --location EU")
	case !regexp.MustCompile(`^[a-z0-9:.-]*$`).MatchString(o.Project):
		return usage("--bigquery wants the id of a project, such as my-project: lower-case letters, digits and -")
	case !word.MatchString(o.Location):
		return usage("--location wants a location of BigQuery, such as EU or europe-west4")
	}
	return nil
}

// initWorkspace makes a workspace in a folder that does not have one.
func initWorkspace(dir string, options initOptions) (*workspace.Workspace, error) {
	if _, err := os.Stat(filepath.Join(dir, workspace.File)); err == nil {
		return nil, fmt.Errorf("%s: there is a workspace already; nothing was changed", dir)
	}
	if options.Name == "" {
		options.Name = nameOf(dir)
	}
	if options.WriteKey == "" {
		var b [12]byte
		_, _ = rand.Read(b[:]) // never fails
		options.WriteKey = "wk_" + hex.EncodeToString(b[:])
	}
	if err := options.check(); err != nil {
		return nil, err
	}
	files, err := fs.Sub(skeleton, "skeleton")
	if err != nil {
		return nil, err
	}
	if err := copyTree(files, dir, options); err != nil {
		return nil, fmt.Errorf("making the workspace: %w", err)
	}
	if err := copyTree(sqlproject.Files, filepath.Join(dir, "sql"), nil); err != nil {
		return nil, fmt.Errorf("copying the models: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, ".gitignore"), []byte("/keys/\n/data/\n"), 0o644); err != nil {
		return nil, fmt.Errorf("making the workspace: %w", err)
	}
	if err := makeKeys(dir); err != nil {
		return nil, err
	}
	return workspace.Open(dir)
}

// nameOf makes a workspace's name of the name of its folder.
func nameOf(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	name := strings.Trim(regexp.MustCompile(`[^a-z0-9_-]+`).ReplaceAllString(strings.ToLower(filepath.Base(dir)), "-"), "-_0123456789")
	if name == "" || len(name) > 63 {
		return "sluis"
	}
	return name
}

// copyTree writes files, each a template where there are values to fill in.
// It overwrites none.
func copyTree(from fs.FS, to string, values any) error {
	return fs.WalkDir(from, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(to, path)
		if entry.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		text, err := fs.ReadFile(from, path)
		if err != nil {
			return err
		}
		if values != nil {
			t, err := template.New(path).Option("missingkey=error").Parse(string(text))
			if err != nil {
				return err
			}
			var b bytes.Buffer
			if err := t.Execute(&b, values); err != nil {
				return err
			}
			text = b.Bytes()
		}
		f, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return err
		}
		_, err = f.Write(text)
		return errors.Join(err, f.Close())
	})
}

// makeKeys makes the keyring, and the secret with which the example webhook
// signs.
func makeKeys(dir string) error {
	w, err := workspace.Open(dir)
	if err != nil {
		return err
	}
	if err := seal.Generate(seal.Dir(w.Path(w.Keys)), w.SealPurposes()); err != nil {
		return err
	}
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	secret := "whsec_" + base64.StdEncoding.EncodeToString(b[:])
	if err := os.WriteFile(filepath.Join(w.Path(w.Keys), "webhook.secret"), []byte(secret+"\n"), 0o600); err != nil {
		return fmt.Errorf("writing the secret of the example webhook: %w", err)
	}
	return nil
}
