package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sluis-cdp/sluis/cmd/internal/subject"
	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/sql/duckdb"
	"github.com/sluis-cdp/sluis/sql/runner"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// yours is said by every command that answers for a person.
const yours = "Whether who asks is this person is for you to find out; nothing here does."

func subjectCommand() *cli.Command {
	return &cli.Command{
		Name:  "subject",
		Usage: "a person's rights: to see their data, to have it erased, to hear why they were, or were not, sent somewhere",
		Description: "Persons are named by e-mail, phone, user id or anonymous id, each of which may be given several times, or by\n" +
			"pseudonyms as they land. What the models have in one cluster with these is taken along. " + yours,
		Subcommands: []*cli.Command{
			{
				Name: "export", Usage: "everything that is held about a person, to be read and as JSON", Flags: append(subjectFlags(), jsonFlag(),
					&cli.StringFlag{Name: "out", Usage: "write person.txt and person.json into `DIR`, which nobody else may read"}),
				Description: "Events, sealed values opened, the record of their choices, models, audiences, what waits in quarantine, what was\n" +
					"sent where and under which decision, and erasures. Models are built first. It needs the private keys of the\n" +
					"purposes; where one is gone, it says so. What it prints is personal data in clear. " + yours,
				Action: subjectExport,
			},
			{
				Name: "explain", Usage: "why a person is, or is not, in an audience or at a destination",
				Flags: append(subjectFlags(), jsonFlag(), &cli.StringFlag{Name: "audience", Usage: "the `MODEL`"}, &cli.StringFlag{Name: "sync", Usage: "the `NAME` of a sync"}),
				Description: "By the models as they were built last: consent with the decisions on record, the events that may be used, membership,\n" +
					"and, of a sync, what was sent and what the last plan holds back. " + yours,
				Action: subjectExplain,
			},
			{
				Name: "erase", Usage: "erase a person everywhere, and keep them out", Flags: append(subjectFlags(), jsonFlag(),
					&cli.BoolFlag{Name: "yes", Usage: "do it; without, only what would be erased is shown"}),
				Description: "Tombstones keep the person's identifiers out from then on, whatever arrives again. What landed, the models, and\n" +
					"what syncs remember are deleted; every destination that has them is told to remove them; the file of the\n" +
					"embedded warehouse is written anew. It may be killed and run again. At its end it prints and keeps a signed\n" +
					"receipt. An identifier that was erased is taken again only after `sluis subject readmit`. " + yours,
				Action: subjectErase,
			},
			{
				Name: "verify", Usage: "verify a receipt of an erasure", ArgsUsage: "RECEIPT",
				Flags:       []cli.Flag{jsonFlag(), &cli.StringFlag{Name: "public-key", Usage: "in base64; by default that of the workspace"}},
				Description: "With --public-key no workspace is needed.",
				Action:      subjectVerify,
			},
			{
				Name: "readmit", Usage: "take an erased person's identifiers again, from now on, since they asked to be known again",
				Flags: subjectFlags(), Action: subjectReadmit,
				Description: "What happened before stays out. Name each identifier. The profile gets another id than it had. " + yours,
			},
			{
				Name: "sweep", Usage: "remove what landed of erased people since, as `sluis up` and `sluis models run` do first; the quarantine too",
				Flags: []cli.Flag{jsonFlag()}, Action: subjectSweep,
			},
			{
				Name: "suppressed", Usage: "write the list by which collectors on other machines keep erased people out",
				Flags: []cli.Flag{&cli.StringFlag{Name: "out", Usage: "the `FILE` to write; by default it is printed"}}, Action: subjectSuppressed,
				Description: "Copy it to <data>/suppressed of each collector, which takes notice within a second, and copy the key keys/suppress\n" +
					"once. The list holds no pseudonyms, and can be joined to nothing.",
			},
		},
	}
}

// sweep keeps erased people out of the models that are about to be built. Another
// that is under way does the same.
func sweep(ctx context.Context, w *workspace.Workspace, holder string, logger *slog.Logger, stderr io.Writer) error {
	s := subject.New(subject.Config{
		Workspace: w, Logger: logger,
		Open: func(ctx context.Context) (warehouse.Driver, error) { return openWarehouse(ctx, w, holder, stderr) },
	})
	found, err := s.Sweep(ctx, false)
	if errors.Is(err, subject.ErrBusy) {
		return nil
	}
	if found > 0 {
		logger.Info("what had landed of erased people was removed", "identifiers", found)
	}
	return err
}

func subjectFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "email", Usage: "an e-mail address"},
		&cli.StringSliceFlag{Name: "phone", Usage: "a phone number"},
		&cli.StringSliceFlag{Name: "user-id", Usage: "a user id"},
		&cli.StringSliceFlag{Name: "anonymous-id", Usage: "an id of a device"},
		&cli.StringSliceFlag{Name: "pseudonym", Usage: "a pseudonym, such as em1_6f0c…"},
	}
}

func given(c *cli.Context) subject.Given {
	return subject.Given{
		Emails: c.StringSlice("email"), Phones: c.StringSlice("phone"), UserIDs: c.StringSlice("user-id"),
		AnonymousIDs: c.StringSlice("anonymous-id"), Pseudonyms: c.StringSlice("pseudonym"),
	}
}

// wrongly makes a wrong use of what was wrong with what was given.
func wrongly(err error) error {
	if errors.Is(err, subject.ErrNothingGiven) {
		return usage("name the person: --email, --phone, --user-id, --anonymous-id or --pseudonym")
	}
	if errors.Is(err, subject.ErrNotValid) {
		return usage("%v", err)
	}
	return err
}

// subjectsOf opens what the commands need.
func subjectsOf(c *cli.Context) (*subject.Subjects, *workspace.Workspace, error) {
	w, err := openWorkspace(c)
	if err != nil {
		return nil, nil, err
	}
	s, err := newSubjects(c.Context, w, "sluis subject "+c.Command.Name, newLogger(c), c.App.ErrWriter)
	return s, w, err
}

func newSubjects(ctx context.Context, w *workspace.Workspace, holder string, logger *slog.Logger, stderr io.Writer) (*subject.Subjects, error) {
	syncs, err := loadSyncs(w)
	if err != nil {
		return nil, err
	}
	e, err := newSyncer(ctx, w, holder, logger, stderr)
	if err != nil {
		return nil, err
	}
	config := subject.Config{
		Workspace: w, Syncer: e, Syncs: syncs, Logger: logger,
		Open:  func(ctx context.Context) (warehouse.Driver, error) { return openWarehouse(ctx, w, holder, stderr) },
		Build: builderOf(w, logger),
	}
	if w.Warehouse.BigQuery == nil {
		config.Rewrite = func(ctx context.Context) error { return duckdb.Rewrite(ctx, duckDBConfig(w, holder, stderr)) }
	}
	if config.Audiences, err = audiencesOf(w, logger); err != nil {
		return nil, err
	}
	return subject.New(config), nil
}

// audiencesOf lists what the project declares, but for audiences of accounts:
// nobody is a member of those.
func audiencesOf(w *workspace.Workspace, logger *slog.Logger) ([]subject.Audience, error) {
	project, err := loadProject(w, false, logger, nil)
	if err != nil {
		return nil, err
	}
	nodes, err := project.List("")
	if err != nil {
		return nil, err
	}
	var all []subject.Audience
	for _, n := range nodes {
		if n.Audience != nil && n.Audience.Entity == runner.EntityProfile {
			all = append(all, subject.Audience{Name: n.Name, Purpose: n.Audience.Purpose, MinSize: n.Audience.MinSize})
		}
	}
	return all, nil
}

// builderOf builds the models. Those that grow, and are not ours to know that
// they notice who is gone, are built from nothing if anew.
func builderOf(w *workspace.Workspace, logger *slog.Logger) func(context.Context, warehouse.Driver, bool) ([]string, error) {
	return func(ctx context.Context, d warehouse.Driver, anew bool) (failed []string, err error) {
		project, err := loadProject(w, false, logger, nil)
		if err != nil {
			return nil, err
		}
		results, err := project.Run(ctx, d, "")
		if err != nil || !anew {
			return notDone(results), err
		}
		nodes, err := project.List("")
		if err != nil {
			return nil, err
		}
		var growing []string
		for _, n := range nodes {
			if n.Materialized == runner.Incremental && !slices.Contains([]string{"stg_events", "audience_events", "identity_changes"}, n.Name) {
				growing = append(growing, "path:"+n.Path)
			}
		}
		if len(growing) == 0 {
			return notDone(results), nil
		}
		again, err := project.RunAnew(ctx, d, strings.Join(growing, " "))
		if err != nil {
			return append(notDone(results), notDone(again)...), err
		}
		after, err := project.Run(ctx, d, strings.Join(growing, "+ ")+"+")
		return slices.Concat(notDone(results), notDone(again), notDone(after)), err
	}
}

func notDone(results runner.Results) []string {
	var names []string
	for _, r := range results {
		if !done(r) {
			names = append(names, r.Name)
		}
	}
	return names
}

func subjectErase(c *cli.Context) error {
	s, _, err := subjectsOf(c)
	if err != nil {
		return err
	}
	if !c.Bool("yes") {
		return previewErasure(c, s)
	}
	s.Progress = func(step string) { fmt.Fprintf(c.App.ErrWriter, "%s …\n", step) }
	fmt.Fprintln(c.App.ErrWriter, yours)
	e, err := s.Erase(c.Context, given(c))
	if err != nil {
		return wrongly(err)
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, e.Receipt)
	}
	printErased(c.App.Writer, s, e)
	return nil
}

// previewErasure shows whom it would be about.
func previewErasure(c *cli.Context, s *subject.Subjects) error {
	p, err := s.Find(c.Context, given(c))
	if err != nil {
		return wrongly(err)
	}
	fmt.Fprintf(c.App.Writer, "These %d identifiers belong together and would be erased, with all that is held under them:\n", len(p.Pseudonyms))
	for _, pseudonym := range p.Pseudonyms {
		fmt.Fprintf(c.App.Writer, "  %s\n", pseudonym)
	}
	printSeen(c.App.Writer, p.Seen)
	fmt.Fprintf(c.App.Writer, "%s\nIt cannot be undone. To do it, add --yes.\n", yours)
	return nil
}

func printSeen(w io.Writer, seen []subject.Seen) {
	if len(seen) == 0 {
		return
	}
	fmt.Fprintln(w, "These were seen in the same events, but consent does not link them: they may be somebody else's, such as of a\n"+
		"device that two people share. To take one along, name it with --pseudonym.")
	for _, other := range seen {
		fmt.Fprintf(w, "  %s (%s, in %d events)\n", other.Pseudonym, other.Kind, other.Events)
	}
}

func printErased(w io.Writer, s *subject.Subjects, e subject.Erased) {
	r := e.Receipt
	fmt.Fprintf(w, "Erased, request %s: %d identifiers, which are kept out from now on.\n", r.Request, r.Identifiers)
	for _, table := range slices.Sorted(maps.Keys(r.Deleted)) {
		fmt.Fprintf(w, "  %6d rows of %s\n", r.Deleted[table], table)
	}
	for _, d := range r.Destinations {
		fmt.Fprintf(w, "  sync %s: %s\n", d.Sync, d.Outcome)
	}
	fmt.Fprintf(w, "Nobody can bring it back after %s: %s.\n", r.IrrecoverableAt.Format(time.RFC3339), r.Because)
	for _, b := range e.ByHand {
		fmt.Fprintf(w, "Remove by hand at %s, since %s: %s\n", b.Sync, b.Why, strings.Join(b.Keys, ", "))
	}
	printSeen(w, e.Seen)
	for _, sentence := range r.Remains {
		fmt.Fprintln(w, sentence)
	}
	for _, name := range e.NewKeys {
		fmt.Fprintf(w, "The key %s was made: back it up with the others.\n", name)
	}
	fmt.Fprintf(w, "The receipt: %s\n", s.ReceiptPath(r.Request))
}

func subjectExport(c *cli.Context) error {
	s, _, err := subjectsOf(c)
	if err != nil {
		return err
	}
	fmt.Fprintln(c.App.ErrWriter, yours)
	e, err := s.Export(c.Context, given(c))
	if err != nil {
		return wrongly(err)
	}
	if dir := c.String("out"); dir != "" {
		return writeExport(c.App.Writer, dir, e)
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, e)
	}
	return e.WritePage(c.App.Writer)
}

// writeExport writes both forms, and overwrites none.
func writeExport(w io.Writer, dir string, e subject.Export) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the folder of the export: %w", err)
	}
	for name, write := range map[string]func(io.Writer) error{
		"person.txt":  e.WritePage,
		"person.json": func(w io.Writer) error { return printJSON(w, e) },
	} {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return fmt.Errorf("writing the export: %w", err)
		}
		if err := errors.Join(write(f), f.Close()); err != nil {
			return fmt.Errorf("writing the export: %w", err)
		}
		fmt.Fprintln(w, f.Name())
	}
	return nil
}

func subjectExplain(c *cli.Context) error {
	if (c.String("audience") == "") == (c.String("sync") == "") {
		return usage("explain needs one of --audience MODEL and --sync NAME")
	}
	s, _, err := subjectsOf(c)
	if err != nil {
		return err
	}
	e, err := s.Explain(c.Context, given(c), c.String("audience"), c.String("sync"))
	if errors.Is(err, subject.ErrUnknown) {
		return usage("%v", err)
	}
	if err != nil {
		return wrongly(err)
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, e)
	}
	return e.WritePage(c.App.Writer)
}

func subjectVerify(c *cli.Context) error {
	if c.NArg() != 1 {
		return usage("verify needs a receipt: sluis subject verify RECEIPT")
	}
	text, err := os.ReadFile(c.Args().First())
	if err != nil {
		return fmt.Errorf("reading the receipt: %w", err)
	}
	key, err := base64.StdEncoding.DecodeString(c.String("public-key"))
	if err != nil {
		return usage("--public-key is not base64")
	}
	if len(key) == 0 {
		w, err := openWorkspace(c)
		if err != nil {
			return err
		}
		if key, err = subject.New(subject.Config{Workspace: w}).PublicKey(c.Context); err != nil {
			return err
		}
	}
	r, err := subject.Verify(text, key)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, r)
	}
	fmt.Fprintf(c.App.Writer, "The receipt verifies: request %s of workspace %s was completed at %s.\n", r.Request, r.Workspace, r.CompletedAt.Format(time.RFC3339))
	return nil
}

func subjectReadmit(c *cli.Context) error {
	s, _, err := subjectsOf(c)
	if err != nil {
		return err
	}
	n, err := s.Readmit(c.Context, given(c))
	if err != nil {
		return wrongly(err)
	}
	fmt.Fprintf(c.App.Writer, "%d identifiers that had been erased are taken again, of what happens from now on. %s\n", n, yours)
	return nil
}

func subjectSweep(c *cli.Context) error {
	s, _, err := subjectsOf(c)
	if err != nil {
		return err
	}
	found, err := s.Sweep(c.Context, true)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, map[string]int{"identifiers": found})
	}
	fmt.Fprintf(c.App.Writer, "%d identifiers of erased people had come back, and are gone.\n", found)
	return nil
}

func subjectSuppressed(c *cli.Context) (err error) {
	w, err := openWorkspace(c)
	if err != nil {
		return err
	}
	db, err := openWarehouse(c.Context, w, "sluis subject suppressed", c.App.ErrWriter)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	stones, err := subject.Tombstones(c.Context, db)
	if err != nil {
		return err
	}
	if path := c.String("out"); path != "" {
		return collector.WriteTombstones(path, stones)
	}
	_, err = c.App.Writer.Write(collector.FormatTombstones(stones))
	return err
}
