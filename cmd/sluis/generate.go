package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sluis-cdp/sluis/cmd/internal/edge"
	"github.com/sluis-cdp/sluis/cmd/internal/generate"
	"github.com/sluis-cdp/sluis/cmd/internal/subject"
	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
)

func generateCommand() *cli.Command {
	share := func(name string, value float64, of string) cli.Flag {
		return &cli.Float64Flag{Name: name, Value: value, Usage: "share of " + of}
	}
	d := generate.Defaults()
	return &cli.Command{
		Name:  "generate",
		Usage: "make up visitors, with the truth about them",
		Description: "People with devices, visits, accounts, orders and choices, as a shop has them, and the noise that there is. The events\n" +
			"go through the workspace's collector as if they had come when they say, and land at once; no collector may run\n" +
			"meanwhile. With --to they are sent to one that runs, and come now. The same flags make the same events.",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "people", Value: 1000, Usage: "how many"},
			&cli.IntFlag{Name: "events", Usage: "so many people that they make about this many events, in place of --people"},
			&cli.IntFlag{Name: "days", Value: d.Days, Usage: "of how many days"},
			&cli.TimestampFlag{Name: "from", Layout: time.DateOnly, Usage: "the first `DAY`; by default as many days ago"},
			&cli.Uint64Flag{Name: "seed", Value: d.Seed, Usage: "another one makes other people"},
			&cli.StringFlag{Name: "source", Usage: "the source that they come from; by default the first one"},
			&cli.StringFlag{Name: "to", Usage: "`URL` of a running collector to send to"},
			share("shared", d.Shared, "devices that several people use"),
			share("roles", d.Roles, "people with an account who give an address that others give too"),
			share("duplicates", d.Duplicates, "requests that are sent again"),
			share("late", d.Late, "visits that arrive hours to 40 days later"),
			share("disorder", d.Disorder, "visits of which requests arrive in the wrong order"),
			share("skew", d.Skew, "devices with a wrong clock"),
			share("withdrawals", d.Withdrawals, "people who take back what they agreed to, or some of it"),
			share("erasures", d.Erasures, "people with an account who are erased in the end, as `sluis subject erase` does, which builds the models"),
			share("bots", d.Bots, "programs that come too, for each person"),
			truthFlag(), jsonFlag(),
		},
		Action: generateAction,
		Subcommands: []*cli.Command{{
			Name: "check", Usage: "hold profiles and sessions, as they were built last, against the truth",
			Description: "Precision: of the pairs of identifiers in one profile, how many one person used. Recall: of the pairs that can be known\n" +
				"to be one person's, how many are in one profile. It can be known of those that this person alone used, and that were\n" +
				"seen together, perhaps through others, with a consent to be recognised that stands.",
			Flags: []cli.Flag{
				truthFlag(), jsonFlag(),
				&cli.Float64Flag{Name: "min-precision", Usage: "exit with 1 below it"},
				&cli.Float64Flag{Name: "min-recall", Usage: "exit with 1 below it"},
			},
			Action: generateCheck,
		}},
	}
}

func truthFlag() cli.Flag {
	return &cli.StringFlag{Name: "truth", Usage: "`DIR` of the truth; by default truth in the workspace's data folder"}
}

func truthDir(c *cli.Context, w *workspace.Workspace) string {
	if dir := c.String("truth"); dir != "" {
		return dir
	}
	return filepath.Join(w.Path(w.Data), "truth")
}

func generateConfig(c *cli.Context, now time.Time) (generate.Config, error) {
	config := generate.Config{
		People: c.Int("people"), Days: c.Int("days"), Seed: c.Uint64("seed"),
		Shared: c.Float64("shared"), Roles: c.Float64("roles"), Duplicates: c.Float64("duplicates"), Late: c.Float64("late"), Disorder: c.Float64("disorder"),
		Skew: c.Float64("skew"), Withdrawals: c.Float64("withdrawals"), Erasures: c.Float64("erasures"), Bots: c.Float64("bots"),
	}
	config.From = now.UTC().Truncate(24*time.Hour).AddDate(0, 0, -config.Days)
	if from := c.Timestamp("from"); from != nil {
		config.From = *from
	}
	if end := config.From.AddDate(0, 0, config.Days); end.After(now) {
		return config, usage("--from and --days end in the future, on %s", end.Format(time.DateOnly))
	}
	if !c.IsSet("events") {
		return config, nil
	}
	if c.IsSet("people") {
		return config, usage("--people or --events, not both")
	}
	people, err := generate.PeopleFor(config, c.Int("events"))
	if err != nil {
		return config, usage("%v", err)
	}
	config.People = people
	return config, nil
}

func generateAction(c *cli.Context) error {
	if c.NArg() > 0 {
		return usage("generate takes no arguments")
	}
	config, err := generateConfig(c, time.Now())
	if err != nil {
		return err
	}
	world, err := generate.New(config)
	if err != nil {
		return usage("%v", err)
	}
	w, err := openWorkspace(c)
	if err != nil {
		return err
	}
	writeKey, err := writeKeyOf(w, c.String("source"))
	if err != nil {
		return err
	}
	total, err := generateInto(c, w, world, writeKey)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, total)
	}
	fmt.Fprintf(c.App.Writer, "%d people and %d bots made %d events in %d requests, from %s on, for %d days. The truth about them is in %s.\n",
		total.People, total.Bots, total.Events, total.Requests, config.From.Format(time.DateOnly), config.Days, truthDir(c, w))
	return nil
}

// generateInto makes everything, and then erases those who are to be.
func generateInto(c *cli.Context, w *workspace.Workspace, world *generate.World, writeKey string) (total generate.Total, err error) {
	ctx, dir := c.Context, truthDir(c, w)
	truth, err := generate.CreateTruth(dir)
	if err != nil {
		return total, err
	}
	way := generate.Way{WriteKey: writeKey, Truth: truth}
	if to := c.String("to"); to != "" {
		total, err = world.SendTo(ctx, to, way)
	} else {
		total, err = generateStraight(ctx, w, world, way, newLogger(c))
	}
	if err := errors.Join(err, truth.Close()); err != nil {
		return total, err
	}
	erased, err := generate.Erasures(dir)
	if err != nil || len(erased.People) == 0 {
		return total, err
	}
	if c.String("to") != "" {
		fmt.Fprintf(c.App.ErrWriter, "%d people ask to be erased, which is for you to do; see %s.\n", len(erased.People), filepath.Join(dir, generate.ErasureFile))
		return total, nil
	}
	s, err := newSubjects(ctx, w, "sluis generate", newLogger(c), c.App.ErrWriter)
	if err != nil {
		return total, err
	}
	_, err = s.Erase(ctx, subject.Given{Emails: erased.IDs["email"], UserIDs: erased.IDs["user_id"], AnonymousIDs: erased.IDs["anonymous_id"]})
	return total, err
}

// writeKeyOf is that of a source by its id; of the first one for none.
func writeKeyOf(w *workspace.Workspace, source string) (string, error) {
	for _, s := range w.Sources {
		if source == "" || s.ID == source {
			return s.WriteKey, nil
		}
	}
	return "", usage("sluis.yaml has no source %q", source)
}

// generateStraight lets a collector take everything, at the time it comes.
func generateStraight(ctx context.Context, w *workspace.Workspace, world *generate.World, way generate.Way, logger *slog.Logger) (total generate.Total, err error) {
	var now time.Time
	s, err := edge.OpenStraight(ctx, w, fmt.Sprintf("generated%d", world.Seed), func() time.Time { return now }, logger)
	if errors.Is(err, edge.ErrLandedBefore) {
		return total, &refusedError{fmt.Sprintf("people of the seed %d have landed in this workspace already: choose another with --seed", world.Seed)}
	}
	if err != nil {
		return total, err
	}
	defer func() { err = errors.Join(err, s.Close(ctx)) }()
	// What lives is little, and what is made is much: memory for time.
	defer debug.SetGCPercent(debug.SetGCPercent(200))
	return world.Send(ctx, way, func(r generate.Request) error {
		now = r.At
		return pass(ctx, s, r)
	})
}

// pass gives a request to a handler as a server would.
func pass(ctx context.Context, h http.Handler, r generate.Request) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.Path, bytes.NewReader(r.Body))
	if err != nil {
		return err
	}
	req.RemoteAddr = r.Address + ":443"
	req.Header.Set("User-Agent", r.Agent)
	a := reply{header: make(http.Header)}
	h.ServeHTTP(&a, req)
	if a.status != http.StatusOK {
		return fmt.Errorf("the collector answered %d: %s", a.status, bytes.TrimSpace(a.body.Bytes()))
	}
	return nil
}

// reply is an answer in memory.
type reply struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *reply) Header() http.Header { return a.header }

func (a *reply) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

func (a *reply) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(b)
}
