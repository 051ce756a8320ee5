package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/consent/seal"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

func doctorCommand() *cli.Command {
	return &cli.Command{
		Name:  "doctor",
		Usage: "check configuration, keys, models, syncs and warehouse; say what to do",
		Flags: []cli.Flag{
			jsonFlag(),
			&cli.BoolFlag{Name: "fix", Usage: "make what the warehouse lacks: datasets, landing tables, columns"},
		},
		Action: func(c *cli.Context) error {
			findings := examine(c.Context, workspaceDir(c), c.Bool("fix"), c.App.ErrWriter)
			rows := make([][]string, len(findings))
			bad := false
			for i, f := range findings {
				rows[i] = []string{f.Check, "ok", ""}
				if f.Problem != "" {
					rows[i] = []string{f.Check, "wrong", f.Problem}
					bad = true
				}
			}
			if c.Bool("json") {
				if err := printJSON(c.App.Writer, findings); err != nil {
					return err
				}
			} else {
				printTable(c.App.Writer, []string{"check", "state", "problem"}, rows)
			}
			if bad {
				return errReported
			}
			return nil
		},
	}
}

// finding is the outcome of one check; Problem is empty if all is well.
type finding struct {
	Check   string `json:"check"`
	Problem string `json:"problem,omitempty"`
}

// examine checks each part by itself, so that one fault does not hide another.
// Only without a configuration is there nothing to check.
func examine(ctx context.Context, dir string, fix bool, stderr io.Writer) []finding {
	w, err := workspace.Open(dir)
	findings := []finding{{Check: "configuration", Problem: problem(err)}}
	if err != nil {
		return findings
	}
	for _, check := range []struct {
		name string
		do   func() error
	}{
		{"keys", func() error { return checkKeys(ctx, w) }},
		{"models", func() error { _, err := loadProject(w, false, nil, nil); return err }},
		{"syncs", func() error { _, err := loadSyncs(w); return err }},
		{"warehouse", func() error {
			if fix {
				if err := setUpWarehouse(ctx, w); err != nil {
					return err
				}
			}
			return checkWarehouse(ctx, w, stderr)
		}},
	} {
		findings = append(findings, finding{check.name, problem(check.do())})
	}
	return findings
}

func problem(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func checkKeys(ctx context.Context, w *workspace.Workspace) error {
	keys := seal.Dir(w.Path(w.Keys))
	_, cookie := keys.Key(ctx, seal.KeyCookie)
	_, pseudonyms := seal.NewPseudonymizer(ctx, keys, w.Workspace, w.PhoneRegion)
	_, sealer := seal.NewSealer(ctx, keys, w.Workspace, w.SealPurposes())
	_, opener := seal.NewOpener(ctx, keys, w.Workspace, w.SealPurposes())
	return errors.Join(cookie, pseudonyms, sealer, opener)
}

// checkWarehouse looks whether the landing tables are there, as they should be.
func checkWarehouse(ctx context.Context, w *workspace.Workspace, stderr io.Writer) (err error) {
	db, err := openWarehouse(ctx, w, "sluis doctor", stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var problems []error
	for _, table := range warehouse.Landing() {
		columns, err := db.Columns(ctx, warehouse.SchemaLanding, table.Name)
		if errors.Is(err, warehouse.ErrNoRelation) {
			problems = append(problems, fmt.Errorf("the table sluis.%s is missing: make it with `sluis doctor --fix`", table.Name))
			continue
		}
		if err != nil {
			return err
		}
		have := make(map[string]bool, len(columns))
		for _, column := range columns {
			have[column.Name] = true
		}
		for _, column := range table.Columns {
			if !have[column.Name] {
				problems = append(problems, fmt.Errorf("the table sluis.%s lacks the column %s: add it with `sluis doctor --fix`", table.Name, column.Name))
			}
		}
	}
	return errors.Join(problems...)
}
