package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

func inferCommand() *cli.Command {
	return &cli.Command{
		Name:  "infer",
		Usage: "propose a tracking plan from what has landed",
		Description: "The events that it was made from are valid under the plan. A name, or a value of an enum, is proposed only if\n" +
			"so many people sent it and nothing in it looks personal. With --merge, what the plan of the source has stays as it is,\n" +
			"with its comments: missing events are added, and events without a schema get one. Read it before you use it.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "source", Usage: "the `ID` of the source"},
			&cli.StringFlag{Name: "since", Usage: "only what was received since a `TIME`: a date, such as 2026-03-01, or a duration until now, such as 72h"},
			&cli.IntFlag{Name: "people", Value: 5, Usage: "how many people must have sent what is proposed"},
			&cli.BoolFlag{Name: "merge", Usage: "add to the plan of the source, instead of making a new one"},
			&cli.StringFlag{Name: "out", Usage: "`FILE` to write; by default the plan is printed"},
		},
		Action: func(c *cli.Context) error {
			w, err := openWorkspace(c)
			if err != nil {
				return err
			}
			i := slices.IndexFunc(w.Sources, func(s workspace.Source) bool { return s.ID == c.String("source") })
			if i < 0 {
				return usage("infer needs the id of a source: --source ID")
			}
			if c.Int("people") < 1 {
				return usage("--people is at least 1")
			}
			since, err := parseSince(c.String("since"), time.Now())
			if err != nil {
				return err
			}
			in, n, err := infer(c, w, w.Sources[i].ID, since)
			if err != nil {
				return err
			}
			text, err := proposal(c, w, w.Sources[i], in.Events(), n)
			if err != nil {
				return err
			}
			return write(c, text)
		},
	}
}

// parseSince reads a time; empty is the beginning.
func parseSince(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, nil
		}
	}
	return time.Time{}, usage("--since wants a date, such as 2026-03-01, or a duration, such as 72h")
}

// infer looks at all events of a source, and says how many there were.
func infer(c *cli.Context, w *workspace.Workspace, source string, since time.Time) (in *collector.Inference, n int, err error) {
	db, err := openWarehouse(c.Context, w, "sluis tracking infer", c.App.ErrWriter)
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	in = collector.NewInference(c.Int("people"), w.PhoneRegion)
	n, err = readEvents(c.Context, db, source, since, in)
	return in, n, err
}

func readEvents(ctx context.Context, db warehouse.Driver, source string, since time.Time, in *collector.Inference) (n int, err error) {
	rows, err := db.Query(ctx, `
		select type, event, anonymous_id, user_id, properties, traits, violations
		from sluis.events where source_id = ? and received_at >= ?`, source, since)
	if err != nil {
		return 0, fmt.Errorf("reading the events: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		row := rows.Row()
		text := func(i int) string { s, _ := row[i].(string); return s } // NULL is empty
		e := collector.EventRow{Type: text(0), Event: text(1), AnonymousID: text(2), UserID: text(3), Properties: text(4), Traits: text(5)}
		violations, _ := row[6].([]any)
		for _, v := range violations {
			violation, _ := v.(string)
			e.Violations = append(e.Violations, violation)
		}
		in.Add(e)
		n++
	}
	if err := rows.Err(); err != nil {
		return n, fmt.Errorf("reading the events: %w", err)
	}
	return n, nil
}

// proposal writes the plan, and says on stderr what is in it.
func proposal(c *cli.Context, w *workspace.Workspace, s workspace.Source, events []collector.PlannedEvent, n int) ([]byte, error) {
	if !c.Bool("merge") {
		fmt.Fprintf(c.App.ErrWriter, "%d events of the source %s looked at, %d kinds proposed\n", n, s.ID, len(events))
		return workspace.NewPlan(fmt.Sprintf("Proposed by `sluis tracking infer` for the source %q: read it before you use it, and add an owner.", s.ID), events)
	}
	if s.TrackingPlan == "" {
		return nil, usage("the source %s has no plan to merge with: leave out --merge", s.ID)
	}
	file := w.Path(s.TrackingPlan)
	have, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading a tracking plan: %w", err)
	}
	text, added, completed, err := workspace.MergePlan(file, have, events)
	if err == nil {
		fmt.Fprintf(c.App.ErrWriter, "%d events of the source %s looked at, %d kinds added, %d have got a schema\n", n, s.ID, added, completed)
	}
	return text, err
}

func write(c *cli.Context, text []byte) error {
	out := c.String("out")
	if out == "" {
		_, err := c.App.Writer.Write(text)
		return err
	}
	temporary := strings.TrimSuffix(out, ".yaml") + ".tmp"
	if err := os.WriteFile(temporary, text, 0o644); err != nil {
		return fmt.Errorf("writing the plan: %w", err)
	}
	if err := os.Rename(temporary, out); err != nil {
		return fmt.Errorf("writing the plan: %w", err)
	}
	return nil
}
