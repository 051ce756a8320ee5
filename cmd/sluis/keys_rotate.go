package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sluis-cdp/sluis/cmd/internal/edge"
	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/consent/record"
	"github.com/sluis-cdp/sluis/consent/seal"
	"github.com/sluis-cdp/sluis/sql/duckdb"
	"github.com/sluis-cdp/sluis/sql/warehouse"
	syncer "github.com/sluis-cdp/sluis/sync"
)

const rotatePseudonymText = `Makes the next version of the keys of pseudonyms, and carries everything over that has landed: em1_… becomes em2_…, without
anybody's identifier. Joins stay, and so do the ids of profiles, by which destinations know people: no sync removes and
adds anybody. What is sealed is sealed again for the new pseudonyms, with keys as old as before; a sync sends rows with
sealed fields once more. At its end the old keys are destroyed: who has stolen them, and the warehouse as it is from then
on, can guess nobody by them. What was stolen before stays guessable, and the id of a profile that was founded by an
identifier that can be guessed can still be computed from it with the old key.

Stop the collector and the scheduler first; both must take up the new keys, collectors on other machines too. It needs
all private keys, and the whole key of pseudonyms: in remote and split mode bring the service's keyring for the time, with
--service-keys, and take its new key, and the public key that is printed, back. Models are built anew by the next run. The
record of consent is verified first and then signed anew: make new anchors of it, with sluis consent verify. It may be
killed and run again at any point; until it is done nothing else uses the workspace. The embedded warehouse only.`

func rotatePseudonymCommand() *cli.Command {
	return &cli.Command{
		Name:        "pseudonym",
		Usage:       "make the next version of the keys of pseudonyms, and carry over what has landed",
		Description: rotatePseudonymText,
		Flags: []cli.Flag{
			jsonFlag(), passphraseFlag(),
			&cli.StringFlag{Name: "service-keys", Usage: "`FOLDER` with the key that the pseudonym service has, in remote and split mode"},
			&cli.BoolFlag{Name: "orphans", Usage: "also carry over pseudonyms that have lost their element, as strangers: their identifiers lead to others"},
		},
		Action: func(c *cli.Context) error {
			w, own, err := openKeys(c)
			if err != nil {
				return err
			}
			r := &pseudonymRotation{w: w, own: own, orphans: c.Bool("orphans"), logger: newLogger(c), stderr: c.App.ErrWriter}
			if dir := c.String("service-keys"); dir != "" {
				r.service = folderAt(c, dir)
			}
			report, err := r.run(c.Context)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(c.App.Writer, report)
			}
			report.print(c.App.Writer)
			return nil
		},
	}
}

// pseudonymRotation is a run of the command.
type pseudonymRotation struct {
	w       *workspace.Workspace
	own     *seal.Folder
	service *seal.Folder // nil: the service's key is in own, or there is no service
	orphans bool
	logger  *slog.Logger
	stderr  io.Writer

	tombstones *tombstoneRotation
}

// rotated is what it did.
type rotated struct {
	From      int              `json:"from"`
	To        int              `json:"to"`
	Resumed   bool             `json:"resumed"`
	Elements  int              `json:"elements"`
	GroupTime float64          `json:"group_seconds"`
	Rows      map[string]int64 `json:"rows"`
	Resealed  int64            `json:"resealed"`
	Lost      int64            `json:"lost"`
	Orphans   int64            `json:"orphans"`
	PublicKey string           `json:"public_key,omitempty"`
}

func (r *rotated) print(w io.Writer) {
	fmt.Fprintf(w, "Pseudonyms are of version %d now; the keys of version %d are destroyed.\n", r.To, r.From)
	fmt.Fprintf(w, "%d elements in %.1f s; sealed values: %d sealed again, %d that nothing opens any more left out.\n", r.Elements, r.GroupTime, r.Resealed, r.Lost)
	if r.Orphans > 0 {
		fmt.Fprintf(w, "%d times a pseudonym without an element became a stranger.\n", r.Orphans)
	}
	if r.PublicKey != "" {
		fmt.Fprintf(w, "Bring the new key to the pseudonym service, and pin its public key: pseudonyms.public_key: %s\n", r.PublicKey)
	}
	fmt.Fprintln(w, "Back up the keys folder. Start the collector, and let models and syncs run.")
}

// run takes the rotation from wherever it stands to its end.
func (r *pseudonymRotation) run(ctx context.Context) (_ *rotated, err error) {
	if r.w.Warehouse.BigQuery != nil {
		return nil, &refusedError{"rotating pseudonyms: what has landed in BigQuery cannot be carried over yet; only the embedded warehouse can"}
	}
	if r.w.KeyVault() != nil {
		return nil, &refusedError{"rotating pseudonyms: the keys are in Vault, where this command makes and destroys none: take keyring.vault out of sluis.yaml for the time, " +
			"with the keys in the folder, and push the new ones afterwards"}
	}
	release, err := edge.Settle(ctx, r.w, r.logger)
	if err != nil {
		return nil, fmt.Errorf("rotating pseudonyms: %w", err)
	}
	defer func() { err = errors.Join(err, release()) }()
	plan, resumed, err := r.begin(ctx)
	if err != nil {
		return nil, err
	}
	report := &rotated{From: plan.From, To: plan.To, Resumed: resumed}
	if err := r.carry(ctx, plan, report); err != nil {
		return nil, fmt.Errorf("rotating pseudonyms (run it again to go on): %w", err)
	}
	if err := r.finish(ctx, plan, report); err != nil {
		return nil, fmt.Errorf("rotating pseudonyms (run it again to go on): %w", err)
	}
	return report, nil
}

func (r *pseudonymRotation) keys() seal.Keyring {
	if r.service == nil {
		return r.own
	}
	return seal.Overlay{r.own, r.service}
}

// begin finds what was begun, or looks whether all is there and begins.
func (r *pseudonymRotation) begin(ctx context.Context) (*workspace.Rotation, bool, error) {
	plan, err := r.w.Rotation()
	if err != nil || plan != nil {
		return plan, true, err
	}
	versions, err := seal.Versions(ctx, r.own, seal.KeyTokens)
	if err != nil {
		return nil, false, err
	}
	if len(versions) == 0 {
		_, err := r.own.Key(ctx, seal.KeyTokens) // says where it was looked for
		return nil, false, fmt.Errorf("rotating pseudonyms: %w", err)
	}
	from := versions[len(versions)-1]
	if err := r.check(ctx, from); err != nil {
		return nil, false, err
	}
	plan = &workspace.Rotation{From: from, To: from + 1, Began: time.Now().UTC()}
	return plan, false, r.w.BeginRotation(*plan)
}

// check refuses before anything was changed what could not be finished, or would
// do harm.
func (r *pseudonymRotation) check(ctx context.Context, from int) error {
	if _, err := seal.NewRotation(ctx, r.keys(), r.w.Workspace, r.w.PhoneRegion, from, from); err != nil {
		return fmt.Errorf("rotating pseudonyms: %w; the whole key is needed: in remote or split mode name the service's keyring with --service-keys", err)
	}
	if _, err := seal.NewOpener(ctx, r.own, r.w.Workspace, r.w.SealPurposes()); err != nil {
		return fmt.Errorf("rotating pseudonyms: what is sealed has to be sealed again: %w", err)
	}
	db, err := r.openDatabase(ctx)
	if err != nil {
		return err
	}
	keyed, err := syncer.KeyedByPseudonym(ctx, db, from)
	if err := errors.Join(err, r.checkRecord(ctx, db), db.Close()); err != nil {
		return err
	}
	if len(keyed) > 0 {
		return &refusedError{fmt.Sprintf("rotating pseudonyms: the destinations of %s know their rows by pseudonyms, and would keep the old ones: "+
			"let those syncs have profile_id for a key", strings.Join(keyed, ", "))}
	}
	model := filepath.Join(r.w.Path(r.w.Models), "models", "identity", "identity_map.sql")
	text, err := os.ReadFile(model)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("rotating pseudonyms: %w", err)
	}
	if err == nil && !strings.Contains(string(text), "profile_names") {
		return &refusedError{model + ": it is of an earlier version, and would give every profile another id: take the model that `sluis init` writes"}
	}
	return nil
}

// openDatabase opens the embedded warehouse, whether or not a rotation was begun.
func (r *pseudonymRotation) openDatabase(ctx context.Context) (warehouse.Driver, error) {
	return duckdb.Open(ctx, r.database())
}

func (r *pseudonymRotation) database() duckdb.Config {
	return duckdb.Config{
		Path: r.w.Database(), Landing: r.w.Landing(), MemoryLimit: r.w.Warehouse.MemoryLimit, Threads: r.w.Warehouse.Threads,
		Holder: "sluis keys rotate pseudonym",
		OnWait: func(other string) { fmt.Fprintf(r.stderr, "waiting for the warehouse: in use by %s\n", other) },
	}
}

// carry carries the landed files over, while nobody reads or lands.
func (r *pseudonymRotation) carry(ctx context.Context, plan *workspace.Rotation, report *rotated) (err error) {
	if done, err := r.destroyed(ctx, plan.From); err != nil || done {
		return err // it was killed while it destroyed the old keys
	}
	if err := seal.NextKeys(ctx, r.own, r.service, plan.From, plan.To); err != nil {
		return err
	}
	rotator, err := r.rotator(ctx, plan)
	if err != nil {
		return err
	}
	db, err := r.openDatabase(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	sink := collector.ParquetSink{Dir: r.w.Landing()}
	leave, err := sink.Alone(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, leave()) }()
	if err := sink.PrepareRotation(ctx, rotator); err != nil {
		if orphans, ok := errors.AsType[*collector.OrphanError](err); ok {
			return errors.Join(&refusedError{orphans.Error() + "; they are not of this version's collectors: with --orphans they become so"}, r.undo(ctx, plan))
		}
		return err
	}
	if err := r.nameProfiles(ctx, db, sink, rotator, plan); err != nil {
		return err
	}
	if err := r.tombstones.list(r.w.Suppressed(), false); err != nil {
		return err
	}
	did, err := sink.Rotate(ctx, rotator)
	report.Elements, report.GroupTime, report.Rows = did.Elements, did.Group.Seconds(), did.Rows
	report.Resealed, report.Lost, report.Orphans = did.Resealed, did.Lost, did.Orphans
	if err != nil {
		return err
	}
	return errors.Join(r.tombstones.list(r.w.Suppressed(), true), dropModels(ctx, db), syncer.Outdate(ctx, db))
}

// undo ends a rotation that has changed nothing yet.
func (r *pseudonymRotation) undo(ctx context.Context, plan *workspace.Rotation) error {
	folders := []*seal.Folder{r.own}
	if r.service != nil {
		folders = append(folders, r.service)
	}
	return errors.Join(seal.DestroyKeys(ctx, plan.To, folders...), r.w.EndRotation())
}

// destroyed tells whether any of the old keys is gone already.
func (r *pseudonymRotation) destroyed(ctx context.Context, version int) (bool, error) {
	_, err := seal.NewRotation(ctx, r.keys(), r.w.Workspace, r.w.PhoneRegion, version, version)
	if errors.Is(err, seal.ErrNoKey) {
		return true, nil
	}
	return false, err
}

func (r *pseudonymRotation) rotator(ctx context.Context, plan *workspace.Rotation) (*collector.Rotator, error) {
	rotation, err := seal.NewRotation(ctx, r.keys(), r.w.Workspace, r.w.PhoneRegion, plan.From, plan.To)
	if err != nil {
		return nil, err
	}
	opener, err := seal.NewOpener(ctx, r.own, r.w.Workspace, r.w.SealPurposes())
	if err != nil {
		return nil, err
	}
	sealer, err := seal.NewSealer(ctx, r.own, r.w.Workspace, r.w.SealPurposes())
	if err != nil {
		return nil, err
	}
	rotator := &collector.Rotator{Rotation: rotation, Opener: opener, Sealer: sealer, Orphans: r.orphans, Progress: r.progress}
	if rotator.Consents, err = r.consents(ctx); err != nil {
		return nil, err
	}
	r.tombstones, err = newTombstoneRotation(ctx, r.own, r.w.Workspace, rotator)
	return rotator, err
}

// consents signs the record of consent anew. A workspace of before there was one
// has no key for it.
func (r *pseudonymRotation) consents(ctx context.Context) (func([]collector.ConsentRow) error, error) {
	seeds, err := seal.Every(ctx, r.own, seal.KeyRecord)
	if errors.Is(err, seal.ErrNoKey) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	key, err := record.NewKey(seeds[0])
	if err != nil {
		return nil, err
	}
	return func(rows []collector.ConsentRow) error {
		return collector.Resign(key, r.w.Workspace, r.w.ConsentHead(), rows)
	}, nil
}

// checkRecord verifies the record of consent, which is signed anew: what somebody
// changed in it would no longer show.
func (r *pseudonymRotation) checkRecord(ctx context.Context, db warehouse.Driver) error {
	verifier, err := newVerifier(ctx, r.w)
	if errors.Is(err, seal.ErrNoKey) {
		return nil
	}
	if err != nil {
		return err
	}
	report, err := verifyTable(ctx, db, verifier, anchor{})
	if err != nil {
		return fmt.Errorf("verifying the record of consent: %w", err)
	}
	if len(report.Problems) > 0 {
		return &refusedError{"rotating pseudonyms: the record of consent does not verify, and would be signed anew: see `sluis consent verify`"}
	}
	return nil
}

func (r *pseudonymRotation) progress(done, of int) {
	if done == of || done%100 == 0 {
		r.logger.Info("rotating landed files", "done", done, "of", of)
	}
}

// nameProfiles lands what profiles are called by now, by the next pseudonyms of
// their founders.
func (r *pseudonymRotation) nameProfiles(ctx context.Context, db warehouse.Driver, sink collector.ParquetSink, rotator *collector.Rotator, plan *workspace.Rotation) error {
	if _, err := db.Columns(ctx, warehouse.SchemaModels, "identity_map"); errors.Is(err, warehouse.ErrNoRelation) {
		return nil
	} else if err != nil {
		return err
	}
	rows, err := warehouse.Collect(ctx, db, `SELECT DISTINCT founder_node, profile_id FROM `+warehouse.SchemaModels+`.identity_map
		WHERE founder_node NOT IN (SELECT pseudonym FROM `+warehouse.SchemaLanding+`.profile_names)`)
	if err != nil {
		return fmt.Errorf("reading the ids of profiles: %w", err)
	}
	names := make([]collector.ProfileNameRow, 0, len(rows))
	for _, row := range rows {
		founder, _ := row[0].(string)
		profile, _ := row[1].(string)
		names = append(names, collector.ProfileNameRow{Pseudonym: rotator.Next(founder), ProfileID: profile, ReceivedAt: plan.Began.Truncate(time.Microsecond)})
	}
	if len(names) == 0 {
		return nil
	}
	return sink.ProfileNames(fmt.Sprintf("%016x", plan.Began.UnixMicro()), plan.Began, names)
}

// dropModels removes what was built of old pseudonyms. It is all made anew by the
// next run.
func dropModels(ctx context.Context, db warehouse.Driver) error {
	rows, err := warehouse.Collect(ctx, db, "SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = ?", warehouse.SchemaModels)
	if err != nil {
		return fmt.Errorf("listing the models: %w", err)
	}
	for _, row := range rows {
		name, _ := row[0].(string)
		what := "TABLE"
		if row[1] == "VIEW" {
			what = "VIEW"
		}
		if err := db.Exec(ctx, "DROP "+what+" "+warehouse.SchemaModels+`."`+strings.ReplaceAll(name, `"`, `""`)+`"`); err != nil {
			return fmt.Errorf("removing the model %s: %w", name, err)
		}
	}
	return nil
}

// finish leaves no trace of the old pseudonyms, and destroys their keys.
func (r *pseudonymRotation) finish(ctx context.Context, plan *workspace.Rotation, report *rotated) error {
	if err := duckdb.Rewrite(ctx, r.database()); err != nil {
		return err
	}
	if !r.w.Pseudonyms.IsLocal() {
		holder, err := seal.NewKeyHolder(ctx, r.keys())
		if err != nil {
			return err
		}
		report.PublicKey = publicKey(holder, plan.To)
	}
	folders := []*seal.Folder{r.own}
	if r.service != nil {
		folders = append(folders, r.service)
	}
	if err := seal.DestroyKeys(ctx, plan.From, folders...); err != nil {
		return err
	}
	return r.w.EndRotation()
}
