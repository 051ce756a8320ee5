package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

func trackingCommand() *cli.Command {
	return &cli.Command{
		Name:  "tracking",
		Usage: "tracking plans: lint them, propose one from what arrives; the events in quarantine; what the detectors find",
		Subcommands: []*cli.Command{
			{
				Name: "check", Usage: "lint tracking plans, by default all; warnings are no failure", ArgsUsage: "[FILE...]",
				Flags:  []cli.Flag{jsonFlag()},
				Action: checkTracking,
			},
			inferCommand(),
			{
				Name: "quarantine", Usage: "the events that broke a rule",
				Subcommands: []*cli.Command{{
					Name: "ls", Usage: "count what waits, by source, event and rule; no value is shown",
					Flags:  []cli.Flag{jsonFlag()},
					Action: listQuarantine,
				}},
			},
			replayCommand(),
			detectorsCommand(),
		},
	}
}

func checkTracking(c *cli.Context) error {
	files, problems, err := workspace.CheckPlans(workspaceDir(c), c.Args().Slice())
	if err != nil {
		return err
	}
	if c.Bool("json") {
		if err := printJSON(c.App.Writer, append([]workspace.PlanProblem{}, problems...)); err != nil {
			return err
		}
	} else {
		for _, p := range problems {
			fmt.Fprintln(c.App.Writer, p)
		}
	}
	wrong := 0
	for _, p := range problems {
		if !p.Warning {
			wrong++
		}
	}
	if wrong > 0 {
		return errReported
	}
	if !c.Bool("json") {
		fmt.Fprintf(c.App.Writer, "%d plans checked, %d warnings\n", len(files), len(problems))
	}
	return nil
}

// waiting is the condition of an event that waits in quarantine, which is q.
const waiting = `q.outcome is null and q.quarantine_id not in (select quarantine_id from sluis.quarantine where outcome is not null)`

// waitingCount is how many events wait there for the same reason.
type waitingCount struct {
	Source string `json:"source"`
	Type   string `json:"type,omitempty"`
	Event  string `json:"event,omitempty"`
	Path   string `json:"path,omitempty"`
	Rule   string `json:"rule"`
	N      int64  `json:"n"`
	Since  string `json:"since"`
}

func listQuarantine(c *cli.Context) (err error) {
	w, err := openWorkspace(c)
	if err != nil {
		return err
	}
	db, err := openWarehouse(c.Context, w, "sluis tracking quarantine ls", c.App.ErrWriter)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	rows, err := warehouse.Collect(c.Context, db, `
		select q.source_id, coalesce(q.type, ''), coalesce(q.event, ''), coalesce(q.path, ''), q.reason, count(*), min(q.received_at)
		from sluis.quarantine as q where `+waiting+`
		group by 1, 2, 3, 4, 5 order by 6 desc, 1, 2, 3, 4, 5`)
	if err != nil {
		return fmt.Errorf("reading the quarantine: %w", err)
	}
	counts := make([]waitingCount, len(rows))
	lines := make([][]string, len(rows))
	for i, r := range rows {
		since := cellText(r[6])
		counts[i] = waitingCount{r[0].(string), r[1].(string), r[2].(string), r[3].(string), r[4].(string), r[5].(int64), since}
		n := counts[i]
		lines[i] = []string{n.Source, n.Type, n.Event, n.Path, n.Rule, strconv.FormatInt(n.N, 10), n.Since}
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, counts)
	}
	printTable(c.App.Writer, []string{"source", "type", "event", "path", "rule", "events", "since"}, slices.Clip(lines))
	return nil
}
