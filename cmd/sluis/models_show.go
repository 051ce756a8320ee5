package main

import (
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/sql/runner"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

func modelsShowCommand() *cli.Command {
	return &cli.Command{
		Name:      "show",
		Usage:     "render a model and show the first rows of its query; nothing is written",
		ArgsUsage: "NAME",
		Description: "The query runs over what is built of the models that it reads, so that an edit can be\n" +
			"looked at before it is built. Of a test, the rows are those that are wrong.\n\n" +
			"   sluis models show lapsed_customers\n" +
			"   sluis models show sessions --built --limit 20\n" +
			"   sluis models show --inline \"select channel, count(*) from {{ ref('sessions') }} group by 1\"",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "limit", Value: 5, Usage: "how many rows at most"},
			&cli.BoolFlag{Name: "built", Usage: "the table as it was last built, in place of the query as it is now"},
			&cli.StringFlag{Name: "inline", Usage: "`SQL` with Jinja, in place of a model"},
			varsFlag(), jsonFlag(),
		},
		Action: modelsShow,
	}
}

func modelsShow(c *cli.Context) error {
	inline, limit := c.String("inline"), c.Int("limit")
	switch {
	case (inline == "") == (c.NArg() == 0):
		return usage("show needs the name of a model, or --inline and SQL")
	case c.NArg() > 1:
		return usage("show takes one model at a time")
	case limit < 1:
		return usage("--limit must be 1 or more")
	case inline != "" && c.Bool("built"):
		return usage("--built is about a model")
	}
	return withModels(c, func(_ *workspace.Workspace, project *runner.Project, db warehouse.Driver) (err error) {
		var rows warehouse.Rows
		if strings.TrimSpace(inline) != "" {
			rows, err = project.PreviewText(c.Context, db, inline, limit)
		} else {
			rows, err = project.Preview(c.Context, db, c.Args().First(), limit, c.Bool("built"))
		}
		if err != nil {
			return err
		}
		defer rows.Close() //nolint:errcheck // printRows returns what went wrong
		return printRows(c.App.Writer, rows, c.Bool("json"))
	})
}
