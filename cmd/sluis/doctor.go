package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/sluis-cdp/sluis/cmd/internal/edge"
	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/consent/seal"
	"github.com/sluis-cdp/sluis/sql/bigquery"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

func doctorCommand() *cli.Command {
	return &cli.Command{
		Name:  "doctor",
		Usage: "check configuration, keys, models, syncs, warehouse, and rights in BigQuery; say what to do",
		Flags: []cli.Flag{
			jsonFlag(),
			&cli.BoolFlag{Name: "fix", Usage: "make what the warehouse lacks: datasets, landing tables, columns"},
		},
		Action: func(c *cli.Context) error {
			findings := examine(c.Context, workspaceDir(c), c.Bool("fix"), c.App.ErrWriter)
			if c.Bool("json") {
				if err := printJSON(c.App.Writer, findings); err != nil {
					return err
				}
			} else {
				printTable(c.App.Writer, []string{"check", "state", "problem"}, findingRows(findings))
			}
			if slices.ContainsFunc(findings, func(f finding) bool { return f.State == stateWrong }) {
				return errReported
			}
			return nil
		},
	}
}

// The states of a finding. A warning is no reason to fail.
const (
	stateOK      = "ok"
	stateWarning = "warning"
	stateWrong   = "wrong"
)

// finding is the outcome of one check; Problem is empty if all is well, and may
// have several lines.
type finding struct {
	Check   string `json:"check"`
	State   string `json:"state"`
	Problem string `json:"problem,omitempty"`
}

// warning is what should be known, and stops nothing.
type warning struct{ error }

func newFinding(check string, err error) finding {
	var warn warning
	switch {
	case err == nil:
		return finding{check, stateOK, ""}
	case errors.As(err, &warn):
		return finding{check, stateWarning, err.Error()}
	default:
		return finding{check, stateWrong, err.Error()}
	}
}

// findingRows gives each line of a problem a row of the table.
func findingRows(findings []finding) [][]string {
	var rows [][]string
	for _, f := range findings {
		check, state := f.Check, f.State
		for line := range strings.SplitSeq(f.Problem, "\n") {
			rows = append(rows, []string{check, state, line})
			check, state = "", ""
		}
	}
	return rows
}

// examine checks each part by itself, so that one fault does not hide another.
// Only without a configuration is there nothing to check.
func examine(ctx context.Context, dir string, fix bool, stderr io.Writer) []finding {
	w, err := workspace.Open(dir)
	findings := []finding{newFinding("configuration", err)}
	if err != nil {
		return findings
	}
	add := func(check string, err error) { findings = append(findings, newFinding(check, err)) }
	add("keys", checkKeys(ctx, w))
	if w.Geo.File != "" {
		_, err = w.Visitors()
		add("regions", err)
	}
	_, err = loadProject(w, false, nil, nil)
	add("models", err)
	_, err = loadSyncs(w)
	add("syncs", err)
	if _, err := os.Stat(filepath.Join(w.Dir, workspace.LockFile)); err == nil {
		add("destinations of others", checkInstalled(ctx, w.Dir))
	}
	if fix {
		err = setUpWarehouse(ctx, w)
	}
	if !fix || err == nil {
		err = checkWarehouse(ctx, w, stderr)
	}
	add("warehouse", err)
	if b := w.Warehouse.BigQuery; b != nil {
		program := bigquery.Collector
		if len(w.LoadSources()) > 0 {
			program = bigquery.CollectorByLoad
		}
		add("rights: collector", checkRights(ctx, collectorConfig(b), program, b.Collector != nil))
		add("rights: models and syncs", checkRights(ctx, bigQueryConfig(b), bigquery.Sluis, false))
	}
	return findings
}

// checkRights compares what an identity may do in BigQuery with what a program
// does. alone tells whether the identity is the program's own, so that what it
// may do beyond that is worth a warning.
func checkRights(ctx context.Context, config bigquery.Config, program bigquery.Program, alone bool) error {
	rights, err := bigquery.CheckRights(ctx, config, program)
	if err != nil {
		return err
	}
	said := slices.Concat(rights.Missing, rights.Warnings)
	if alone {
		said = append(said, rights.Excess...)
	}
	switch err := errors.New(strings.Join(said, "\n")); {
	case len(said) == 0:
		return nil
	case len(rights.Missing) == 0:
		return warning{err}
	default:
		return err
	}
}

func checkKeys(ctx context.Context, w *workspace.Workspace) error {
	keys := w.Keyring()
	_, cookie := keys.Key(ctx, seal.KeyCookie)
	pseudonyms := checkPseudonyms(ctx, w, keys)
	_, sealer := seal.NewSealer(ctx, keys, w.Workspace, w.SealPurposes())
	_, opener := seal.NewOpener(ctx, keys, w.Workspace, w.SealPurposes())
	return errors.Join(cookie, pseudonyms, sealer, opener)
}

// checkPseudonyms makes a pseudonym of nobody, for which a service that is
// configured has to answer with the right key.
func checkPseudonyms(ctx context.Context, w *workspace.Workspace, keys seal.Keyring) error {
	p, client, err := edge.NewPseudonymizer(ctx, w, keys)
	if err != nil || client == nil {
		return err
	}
	defer client.Close()
	if _, err = p.Pseudonym(seal.UserID, "sluis doctor"); err != nil {
		return err
	}
	if _, err := keys.Key(ctx, seal.Version(seal.KeyPseudonym, p.Version())); err == nil {
		return warning{fmt.Errorf("%s is still here, so that a stolen collector can guess offline: move it to the service", filepath.Join(w.Path(w.Keys), seal.Version(seal.KeyPseudonym, p.Version())))}
	}
	return nil
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
