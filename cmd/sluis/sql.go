package main

import (
	"errors"
	"strings"

	"github.com/urfave/cli/v2"
)

func sqlCommand() *cli.Command {
	return &cli.Command{
		Name:      "sql",
		Usage:     "query the warehouse (read only)",
		ArgsUsage: "QUERY",
		Description: "Landed tables are in the schema sluis (sluis.events, sluis.ledger, …), models in\n" +
			"sluis_models (profiles, pricing_and_chat, …), syncs in sluis_sync.\n\n" +
			"   sluis sql \"select event, count(*) from sluis.events group by 1\"",
		Flags: []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) (err error) {
			query := strings.Join(c.Args().Slice(), " ")
			if strings.TrimSpace(query) == "" {
				return usage("sql needs a query, such as \"select event, count(*) from sluis.events group by 1\"")
			}
			w, err := openWorkspace(c)
			if err != nil {
				return err
			}
			db, err := openWarehouse(c.Context, w, "sluis sql", c.App.ErrWriter)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, db.Close()) }()
			rows, err := db.ReadOnly(c.Context, query)
			if err != nil {
				return err
			}
			defer rows.Close() //nolint:errcheck // printRows returns what went wrong
			return printRows(c.App.Writer, rows, c.Bool("json"))
		},
	}
}
