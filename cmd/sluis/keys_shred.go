package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/consent/seal"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

func keysShredCommand() *cli.Command {
	return &cli.Command{
		Name:  "shred",
		Usage: "make what was sealed unreadable, by destroying what it is opened with",
		Description: "With --older-than or --key-id the records of data keys are deleted from sluis.seal_keys, and each takes with it\n" +
			"what it sealed: that is retention by age, which `sluis up` also does by consent.retention in " + workspace.File + ".\n" +
			"With --version the private key of a purpose is destroyed, or an earlier version of a secret, and with it all that was\n" +
			"sealed for it, also in copies of the warehouse. Without --yes it only says what would become unreadable (exit code 3).\n" +
			"Ciphertexts stay where they are, and nobody opens them. Backups of keys and warehouse are yours to destroy.",
		Flags: []cli.Flag{
			jsonFlag(), passphraseFlag(),
			&cli.StringFlag{Name: "older-than", Usage: "data keys of this `AGE`, such as 400d"},
			&cli.StringSliceFlag{Name: "key-id", Usage: "the data key with this `ID`; may be given more than once"},
			&cli.StringFlag{Name: "purpose", Usage: "only of this purpose"},
			&cli.StringFlag{Name: "key", Usage: "with --version: a secret, cookie or edge, in place of a purpose's private key"},
			&cli.IntFlag{Name: "version", Usage: "the version to destroy; never the one in use"},
			&cli.BoolFlag{Name: "yes", Usage: "do it"},
		},
		Action: func(c *cli.Context) error {
			w, folder, err := openKeys(c)
			if err != nil {
				return err
			}
			report, err := shredAs(c, w, folder)
			if report != nil {
				if err := report.print(c); err != nil {
					return err
				}
			}
			return err
		},
	}
}

// shredAs does what the flags say.
func shredAs(c *cli.Context, w *workspace.Workspace, folder *seal.Folder) (*shredReport, error) {
	s := shredder{w: w, dry: !c.Bool("yes"), stderr: c.App.ErrWriter}
	byAge, byID, byVersion := c.IsSet("older-than"), c.IsSet("key-id"), c.IsSet("version")
	if (byAge || byID) == byVersion || byAge && byID {
		return nil, usage("say what to destroy: --older-than AGE, --key-id ID, or --version N of --purpose P or --key NAME")
	}
	if byVersion {
		return s.version(c.Context, folder, c.String("purpose"), c.String("key"), c.Int("version"))
	}
	which := dataKeys{purpose: c.String("purpose"), ids: c.StringSlice("key-id"), before: time.Now().Add(-youngest)}
	if byAge {
		age, err := workspace.ParseAge(c.String("older-than"))
		if err != nil {
			return nil, usage("%v", err)
		}
		if time.Duration(age) < youngest {
			return nil, &refusedError{fmt.Sprintf("data keys younger than %s may be in use, or their records on their way to the warehouse: name a greater age", workspace.Age(youngest))}
		}
		which.before = time.Now().Add(-time.Duration(age))
	}
	return s.dataKeys(c.Context, which)
}

// youngest is the age below which no data key is destroyed: it may be in use, and
// its record may land once more.
const youngest = time.Hour

// shredReport says what became unreadable, or would.
type shredReport struct {
	Done      bool         `json:"done"`
	Destroyed []string     `json:"destroyed,omitempty"` // keys of the keyring
	DataKeys  int64        `json:"data_keys"`
	Sealed    []unreadable `json:"sealed"`
	// Recoverable is until when the warehouse itself can bring the records back.
	Recoverable *time.Time `json:"recoverable_until,omitempty"`
	// Young are data keys that were named and are too young.
	Young []string `json:"too_young,omitempty"`
}

// unreadable counts values that no longer open.
type unreadable struct {
	Purpose string `json:"purpose"`
	Table   string `json:"table"`
	Field   string `json:"field,omitempty"`
	N       int64  `json:"n"`
}

func (r *shredReport) print(c *cli.Context) error {
	if c.Bool("json") {
		return printJSON(c.App.Writer, r)
	}
	out, verb := c.App.Writer, "would become"
	if r.Done {
		verb = "became"
	}
	for _, name := range r.Destroyed {
		fmt.Fprintf(out, "destroyed %s\n", name)
	}
	fmt.Fprintf(out, "data keys that %s unrecoverable: %d\n", verb, r.DataKeys)
	if len(r.Sealed) > 0 {
		rows := make([][]string, len(r.Sealed))
		for i, u := range r.Sealed {
			rows[i] = []string{u.Purpose, u.Table, u.Field, strconv.FormatInt(u.N, 10)}
		}
		fmt.Fprintf(out, "values that %s unreadable:\n", verb)
		printTable(out, []string{"purpose", "table", "field", "values"}, rows)
	}
	for _, id := range r.Young {
		fmt.Fprintf(out, "left: %s is younger than %s, and may be in use\n", id, workspace.Age(youngest))
	}
	if r.Recoverable != nil {
		fmt.Fprintf(out, "BigQuery's time travel and fail-safe end on %s. Until then the project's owners, and after that Google's support, could bring the records back.\n", r.Recoverable.UTC().Format(time.DateTime))
	}
	return nil
}

// shredder destroys keys of a workspace.
type shredder struct {
	w      *workspace.Workspace
	dry    bool
	stderr io.Writer
}

// dataKeys says which data keys to destroy: those named, or all, of one purpose
// or of any, that were made before a time.
type dataKeys struct {
	purpose string
	ids     []string
	before  time.Time
}

// where is a condition on seal_keys.
func (k dataKeys) where() (condition string, args []any) {
	// What tombstones of erased people are sealed with stays: by them people are
	// kept out.
	condition, args = "created_at < ? and key_id not in (select key_id from sluis.erasures where key_id is not null)", []any{k.before}
	if k.purpose != "" {
		condition, args = condition+" and purpose = ?", append(args, k.purpose)
	}
	if len(k.ids) > 0 {
		condition += " and key_id in (" + strings.TrimSuffix(strings.Repeat("?, ", len(k.ids)), ", ") + ")"
		for _, id := range k.ids {
			args = append(args, id)
		}
	}
	return condition, args
}

var errUnconfirmed = &refusedError{"nothing was destroyed: add --yes to do it"}

// dataKeys deletes records of data keys. It holds the warehouse meanwhile, so that
// nobody reads what is being rewritten.
func (s shredder) dataKeys(ctx context.Context, which dataKeys) (_ *shredReport, err error) {
	db, err := openWarehouse(ctx, s.w, "sluis keys shred", s.stderr)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	condition, args := which.where()
	ids, err := texts(ctx, db, "select distinct key_id from sluis.seal_keys where "+condition, args...)
	if err != nil {
		return nil, fmt.Errorf("looking for data keys: %w", err)
	}
	report, err := reportOn(ctx, db, condition, args)
	if err != nil {
		return nil, err
	}
	report.DataKeys = int64(len(ids))
	if report.Young, err = missingFrom(ctx, db, which.ids, ids); err != nil {
		return nil, err
	}
	if s.dry {
		return report, errUnconfirmed
	}
	if len(ids) > 0 {
		if err := s.delete(ctx, db, condition, args, ids); err != nil {
			return report, err
		}
	}
	report.Done = true
	if keeps, ok := db.(warehouse.Retainer); ok {
		kept, err := keeps.KeepsDeleted(ctx)
		if err != nil {
			return report, err
		}
		until := time.Now().Add(kept)
		report.Recoverable = &until
	}
	if len(report.Young) > 0 {
		return report, &refusedError{"some data keys were left, since they may be in use"}
	}
	return report, nil
}

// delete deletes records of data keys, from the landed files of the embedded
// warehouse or the table in BigQuery.
func (s shredder) delete(ctx context.Context, db warehouse.Driver, condition string, args []any, ids []string) (err error) {
	if s.w.Warehouse.BigQuery != nil {
		if err := db.Exec(ctx, "delete from sluis.seal_keys where "+condition, args...); err != nil {
			return fmt.Errorf("deleting data keys: %w", err)
		}
		return nil
	}
	gone := collector.Gone{Keys: make(map[string]bool)}
	for _, id := range ids {
		gone.Keys[id] = true
	}
	sink := collector.ParquetSink{Dir: s.w.Landing()}
	leave, err := sink.Alone(ctx) // nobody lands or merges
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, leave()) }()
	if _, err := sink.Erase(ctx, gone); err != nil {
		return fmt.Errorf("deleting data keys: %w; it goes on where it stopped when it is run again", err)
	}
	return nil
}

// reportOn counts what data keys sealed.
func reportOn(ctx context.Context, db warehouse.Driver, condition string, args []any) (*shredReport, error) {
	keys := "(select distinct key_id, purpose from sluis.seal_keys where " + condition + ") as k"
	report := &shredReport{Sealed: []unreadable{}}
	for _, table := range []struct{ name, field string }{{"vault", "s.field"}, {"erasures", "cast(null as string)"}, {"quarantine", "cast(null as string)"}} {
		rows, err := warehouse.Collect(ctx, db, "select purpose, field, count(*) from (select k.purpose, "+table.field+" as field from sluis."+table.name+
			" as s join "+keys+" on k.key_id = s.key_id) as found group by purpose, field order by purpose, field", args...)
		if err != nil {
			return nil, fmt.Errorf("counting what data keys sealed: %w", err)
		}
		for _, row := range rows {
			field, _ := row[1].(string)
			report.Sealed = append(report.Sealed, unreadable{row[0].(string), table.name, field, row[2].(int64)})
		}
	}
	return report, nil
}

// missingFrom are the ids that the warehouse has, and that are not among found.
func missingFrom(ctx context.Context, db warehouse.Driver, named, found []string) ([]string, error) {
	if len(named) == 0 {
		return nil, nil
	}
	condition, args := dataKeys{ids: named, before: time.Now().Add(100 * 365 * 24 * time.Hour)}.where()
	there, err := texts(ctx, db, "select distinct key_id from sluis.seal_keys where "+condition+" order by 1", args...)
	if err != nil {
		return nil, fmt.Errorf("looking for data keys: %w", err)
	}
	var missing []string
	for _, id := range there {
		if !slices.Contains(found, id) {
			missing = append(missing, id)
		}
	}
	return missing, nil
}

// texts are the first columns of a result.
func texts(ctx context.Context, db warehouse.Driver, query string, args ...any) ([]string, error) {
	rows, err := warehouse.Collect(ctx, db, query, args...)
	list := make([]string, 0, len(rows))
	for _, row := range rows {
		list = append(list, row[0].(string))
	}
	return list, err
}

// version destroys an earlier version of a key in the keyring, which also makes
// unreadable what copies of the warehouse have.
func (s shredder) version(ctx context.Context, folder *seal.Folder, purpose, key string, version int) (_ *shredReport, err error) {
	name, column := seal.KeyPrivate(purpose), "recipient"
	switch {
	case (purpose == "") == (key == ""):
		return nil, usage("--version needs either --purpose P or --key cookie, --key edge")
	case key == seal.KeyEdge, key == seal.KeyCookie:
		name, column = key, "psk_id"
	case key != "":
		return nil, usage("--key is %s or %s", seal.KeyCookie, seal.KeyEdge)
	}
	destroyed, err := s.find(ctx, folder, name, version)
	if err != nil {
		return nil, err
	}
	report := &shredReport{Sealed: []unreadable{}}
	if name != seal.KeyCookie {
		if report, err = s.sealedTo(ctx, column, destroyed.ID); err != nil {
			return nil, err
		}
	}
	if s.dry {
		return report, errUnconfirmed
	}
	if err := folder.Remove(destroyed.Name); err != nil {
		return report, err
	}
	report.Done, report.Destroyed = true, []string{destroyed.Name}
	return report, nil
}

// find finds a version that is not the one in use.
func (s shredder) find(ctx context.Context, folder *seal.Folder, name string, version int) (seal.Info, error) {
	infos, err := folder.List(ctx)
	if err != nil {
		return seal.Info{}, err
	}
	wanted := seal.Version(name, version)
	for _, info := range infos {
		switch {
		case info.Name != wanted:
		case info.Current:
			return info, &refusedError{fmt.Sprintf("%s is in use, and what is sealed from now on could never be opened: make the next version first with `sluis keys rotate`", wanted)}
		default:
			return info, nil
		}
	}
	return seal.Info{}, fmt.Errorf("%s: %w; `sluis keys ls` lists what there is", wanted, seal.ErrNoKey)
}

// sealedTo reports on the data keys that need a key of the keyring.
func (s shredder) sealedTo(ctx context.Context, column, id string) (_ *shredReport, err error) {
	db, err := openWarehouse(ctx, s.w, "sluis keys shred", s.stderr)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	condition, args := column+" = ?", []any{id}
	ids, err := texts(ctx, db, "select distinct key_id from sluis.seal_keys where "+condition, args...)
	if err != nil {
		return nil, fmt.Errorf("looking for data keys: %w", err)
	}
	report, err := reportOn(ctx, db, condition, args)
	if err == nil {
		report.DataKeys = int64(len(ids))
	}
	return report, err
}
