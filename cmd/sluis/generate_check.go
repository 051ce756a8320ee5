package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sluis-cdp/sluis/cmd/internal/edge"
	"github.com/sluis-cdp/sluis/cmd/internal/generate"
	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/consent/seal"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// generateFindings is what the truth says of the models.
type generateFindings struct {
	Truth    string            `json:"truth"`
	World    generate.Config   `json:"world"`
	Identity generate.Accuracy `json:"identity"`
	Sessions generate.Sessions `json:"sessions"`
	Erased   int               `json:"erased"`       // identifiers
	Present  int               `json:"erased_found"` // of them that have a profile
}

func generateCheck(c *cli.Context) error {
	if c.NArg() > 0 {
		return usage("generate check takes no arguments")
	}
	w, err := openWorkspace(c)
	if err != nil {
		return err
	}
	pseudonym, end, err := pseudonymsFor(c.Context, w)
	if err != nil {
		return err
	}
	defer end()
	f, err := measureGenerated(c, w, pseudonym)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		err = printJSON(c.App.Writer, f)
	} else {
		f.print(c.App.Writer)
	}
	return errors.Join(err, f.verdict(c.Float64("min-precision"), c.Float64("min-recall")))
}

// pseudonymsFor makes pseudonyms as the workspace's collector does.
func pseudonymsFor(ctx context.Context, w *workspace.Workspace) (generate.Pseudonyms, func(), error) {
	p, client, err := edge.NewPseudonymizer(ctx, w, w.Keyring())
	if err != nil {
		return nil, nil, err
	}
	end := func() {}
	if client != nil {
		end = client.Close
	}
	return func(kind, id string) (string, error) {
		made, err := p.Pseudonym(seal.Kind(kind), id)
		return made.Token(), err
	}, end, nil
}

func measureGenerated(c *cli.Context, w *workspace.Workspace, pseudonym generate.Pseudonyms) (f generateFindings, err error) {
	f.Truth = truthDir(c, w)
	if f.World, err = generate.About(f.Truth); err != nil {
		return f, err
	}
	profiles, visits, err := readModels(c.Context, w, c.App.ErrWriter)
	if err != nil {
		return f, err
	}
	erased, err := generate.Erasures(f.Truth)
	if err != nil {
		return f, err
	}
	for kind, ids := range erased.IDs {
		for _, id := range ids {
			token, err := pseudonym(kind, id)
			if err != nil {
				return f, err
			}
			f.Erased++
			if _, ok := profiles[token]; ok {
				f.Present++
			}
		}
	}
	if f.Identity, err = generate.Measure(f.Truth, profiles, erased.People, pseudonym); err != nil {
		return f, err
	}
	f.Sessions, err = generate.MeasureSessions(f.Truth, visits, pseudonym)
	return f, err
}

// readModels reads who is who, and the sessions by device.
func readModels(ctx context.Context, w *workspace.Workspace, stderr io.Writer) (profiles map[string]string, visits map[string][]generate.Visit, err error) {
	db, err := openWarehouse(ctx, w, "sluis generate check", stderr)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	profiles, visits = make(map[string]string), make(map[string][]generate.Visit)
	err = eachRow(ctx, db, "select node_key, profile_id from sluis_models.identity_map", func(row []any) {
		profiles[row[0].(string)] = row[1].(string)
	})
	if err != nil {
		return nil, nil, fmt.Errorf("reading who is who: %w; `sluis models run` builds it", err)
	}
	err = eachRow(ctx, db, "select node_key, started_at, ended_at, n_events, page_views, channel from sluis_models.sessions", func(row []any) {
		node := row[0].(string)
		visits[node] = append(visits[node], generate.Visit{
			StartedAt: row[1].(time.Time), EndedAt: row[2].(time.Time), Events: row[3].(int64), PageViews: row[4].(int64), Channel: row[5].(string),
		})
	})
	if err != nil {
		return nil, nil, fmt.Errorf("reading the sessions: %w; `sluis models run` builds them", err)
	}
	return profiles, visits, nil
}

func eachRow(ctx context.Context, db warehouse.Driver, query string, do func(row []any)) (err error) {
	rows, err := db.Query(ctx, query)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		do(rows.Row())
	}
	return rows.Err()
}

func (f generateFindings) print(w io.Writer) {
	a, s := f.Identity, f.Sessions
	fmt.Fprintf(w, `Against the truth about %d people in %s:

  precision   %.5f   %d of %d pairs of identifiers in one profile are of one person
  recall      %.5f   %d of %d pairs that can be known to be one person's are in one profile
              %.5f   %d of %d of all that one person alone used: the rest was not seen together, or without the
                        consent to be recognised, and must not be joined

  %d identifiers landed, of %d people; of the others nothing was agreed to. They are in %d profiles, the largest with %d identifiers
  %.4f profiles for each person, %.4f people in each profile
  %d identifiers have no profile, %d profiles' identifiers are not of the truth, %d bots have a profile
`, f.World.People, f.Truth, a.Precision, a.Right, a.Joined, a.Recall, a.Found, a.Knowable, a.RecallOfAll, a.AllFound, a.All,
		a.Identifiers, a.People, a.Profiles, a.Largest, a.ProfilesPerPerson, a.PeoplePerProfile, a.Missing, a.Strangers, a.Bots)
	fmt.Fprintf(w, "  %d identifiers are shared: %d are with one of their people, %d alone, %d with strangers\n",
		a.Shared.Identifiers, a.Shared.WithOwner, a.Shared.Alone, a.Shared.Wrong)
	fmt.Fprintf(w, "  %d of %d erased identifiers have a profile\n", f.Present, f.Erased)
	fmt.Fprintf(w, "  %d of %d sessions are as one of the %d visits was, %d of them with its channel\n", s.Exact, s.Sessions, s.Visits, s.Channels)
}

// verdict is an error if the profiles are worse than they have to be.
func (f generateFindings) verdict(precision, recall float64) error {
	var errs []error
	if f.Identity.Precision < precision {
		errs = append(errs, fmt.Errorf("the precision is %.5f, and must be at least %g", f.Identity.Precision, precision))
	}
	if f.Identity.Recall < recall {
		errs = append(errs, fmt.Errorf("the recall is %.5f, and must be at least %g", f.Identity.Recall, recall))
	}
	if f.Present > 0 {
		errs = append(errs, fmt.Errorf("%d identifiers of erased people have a profile", f.Present))
	}
	return errors.Join(errs...)
}
