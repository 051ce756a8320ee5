package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	syncer "github.com/sluis-cdp/sluis/sync"
)

// syncRepairCommands are for when a destination and what is known of it differ.
func syncRepairCommands() []*cli.Command {
	keys := &cli.StringSliceFlag{Name: "key", Usage: "of this row only; repeatable, with one NAME"}
	return []*cli.Command{
		{
			Name: "errors", Usage: "show what is rejected or failed, by code", ArgsUsage: "[NAME...]",
			Flags: []cli.Flag{jsonFlag()}, Action: syncErrors,
		},
		{
			Name: "retry", Usage: "make rejected rows, and those of unknown outcome, due again with their latest values", ArgsUsage: "NAME...",
			Flags: []cli.Flag{&cli.StringFlag{Name: "code", Usage: "of this code only; sluis sync errors lists them"}}, Action: syncRetry,
		},
		{Name: "resync", Usage: "make the next run send every row again", ArgsUsage: "NAME...", Action: syncResync},
		{
			Name: "rebaseline", Usage: "take the destination to have what the model says now, and send nothing", ArgsUsage: "NAME...",
			Description: "For a destination that another tool has filled, or a row whose outcome you looked up there. Whoever withdraws or leaves the\n" +
				"model later is removed as if the row had been sent. To take it back: sluis sync resync NAME.",
			Flags: []cli.Flag{jsonFlag(), keys}, Action: syncRebaseline,
		},
		{
			Name: "forget", Usage: "forget that rows are at the destination, since it was emptied", ArgsUsage: "NAME...",
			Description: "The next run sends what is in the model as new. Rows that have to be removed, since consent has ended, are not forgotten.\n" +
				"Rows that are at the destination after all, and not in the model, would never be removed.",
			Flags: []cli.Flag{jsonFlag(), keys, &cli.BoolFlag{Name: "yes", Usage: "do it; without, it only counts"}}, Action: syncForget,
		},
	}
}

// errStillKnown asks for a confirmation.
var errStillKnown error = &refusedError{"nothing was forgotten: if these rows are not at the destination any more, do the same with --yes"}

// namedSyncs opens the syncs that a command names; it needs at least one, and exactly
// one with keys.
func namedSyncs(c *cli.Context) (*syncer.Syncer, []syncer.Sync, error) {
	if !c.Args().Present() {
		return nil, nil, usage("%s needs the names of the syncs", c.Command.Name)
	}
	if len(c.StringSlice("key")) > 0 && c.NArg() != 1 {
		return nil, nil, usage("%s --key needs the name of one sync", c.Command.Name)
	}
	return syncs(c)
}

func syncErrors(c *cli.Context) error {
	e, chosen, err := syncs(c)
	if err != nil {
		return err
	}
	failures, rows := []syncer.Failures{}, [][]string{}
	for _, s := range chosen {
		some, err := e.Failures(c.Context, s.Name)
		if err != nil {
			return err
		}
		failures = append(failures, some...)
		for _, f := range some {
			rows = append(rows, []string{f.Sync, f.Status, f.Code, fmt.Sprint(f.Rows), f.Since.Local().Format("2006-01-02 15:04:05"), f.Key, f.Message})
		}
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, failures)
	}
	if len(rows) == 0 {
		fmt.Fprintln(c.App.Writer, "nothing is rejected or failed")
		return nil
	}
	printTable(c.App.Writer, []string{"sync", "status", "code", "rows", "since", "such as", "the destination said"}, rows)
	return nil
}

func syncRetry(c *cli.Context) error {
	e, chosen, err := namedSyncs(c)
	if err != nil {
		return err
	}
	for _, s := range chosen {
		n, err := e.Retry(c.Context, s, c.String("code"))
		if err != nil {
			return err
		}
		fmt.Fprintf(c.App.Writer, "%s: %d rows are due again\n", s.Name, n)
	}
	return nil
}

func syncResync(c *cli.Context) error {
	e, chosen, err := namedSyncs(c)
	if err != nil {
		return err
	}
	for _, s := range chosen {
		if err := e.Resync(c.Context, s); err != nil {
			return err
		}
	}
	return nil
}

func syncRebaseline(c *cli.Context) error {
	e, chosen, err := namedSyncs(c)
	if err != nil {
		return err
	}
	runs := []syncer.Run{}
	for _, s := range chosen {
		run, err := e.Rebaseline(c.Context, s, c.StringSlice("key"))
		if err != nil {
			return err
		}
		runs = append(runs, run)
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, runs)
	}
	for _, r := range runs {
		fmt.Fprintf(c.App.Writer, "%s: %d rows count as being at the destination as the model has them\n", r.Sync, r.Added)
	}
	return nil
}

func syncForget(c *cli.Context) error {
	e, chosen, err := namedSyncs(c)
	if err != nil {
		return err
	}
	all := []syncer.Forgotten{}
	var unconfirmed error
	for _, s := range chosen {
		f, err := e.ForgetRows(c.Context, s, c.StringSlice("key"), c.Bool("yes"))
		if err != nil {
			return err
		}
		if !f.Done && f.Rows > 0 {
			unconfirmed = errStillKnown
		}
		all = append(all, f)
	}
	if c.Bool("json") {
		return errors.Join(printJSON(c.App.Writer, all), unconfirmed)
	}
	for _, f := range all {
		does := "would be"
		if f.Done {
			does = "are"
		}
		fmt.Fprintf(c.App.Writer, "%s: %d rows %s forgotten, of which %d are not in the model, so that nobody would remove them; %d are kept until they are removed\n",
			f.Sync, f.Rows, does, f.Gone, f.Kept)
	}
	return unconfirmed
}
