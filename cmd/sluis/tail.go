package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/sluis-cdp/sluis/cmd/internal/edge"
	"github.com/sluis-cdp/sluis/collector"
)

func tailCommand() *cli.Command {
	return &cli.Command{
		Name:  "tail",
		Usage: "events as the running collector accepts them: what lands of each, masked, and of the others the outcome alone",
		Flags: []cli.Flag{
			jsonFlag(),
			&cli.StringFlag{Name: "source", Usage: "events of the source `ID` alone"},
		},
		Action: func(c *cli.Context) error {
			w, err := openWorkspace(c)
			if err != nil {
				return err
			}
			show := func(line []byte) error { return showEvent(c.App.Writer, line) }
			if c.Bool("json") {
				show = func(line []byte) error {
					_, err := fmt.Fprintf(c.App.Writer, "%s\n", line)
					return err
				}
			}
			return edge.Tail(c.Context, w, c.String("source"), show)
		},
	}
}

// tailed is a line of the tail, of either kind.
type tailed struct {
	collector.View
	edge.Missed
}

// showEvent prints a line of the tail for people:
//
//	12:00:30  web  landed  track  Order Completed  {"zip":"1011","…":…}
func showEvent(w io.Writer, line []byte) error {
	var t tailed
	if err := json.Unmarshal(line, &t); err != nil {
		return fmt.Errorf("reading the tail: %w", err)
	}
	if t.Missed.Missed > 0 {
		_, err := fmt.Fprintf(w, "… %d events were not shown: they came faster than they could be printed\n", t.Missed.Missed)
		return err
	}
	what := t.Reason
	if t.Event != nil {
		var e struct {
			Type       string          `json:"type"`
			Event      string          `json:"event"`
			Properties json.RawMessage `json:"properties"`
		}
		if err := json.Unmarshal(t.Event, &e); err != nil {
			return fmt.Errorf("reading the tail: %w", err)
		}
		what = fmt.Sprintf("%-8s  %s  %s", e.Type, e.Event, e.Properties)
	}
	_, err := fmt.Fprintf(w, "%s  %s  %-11s  %s\n", t.At.UTC().Format("15:04:05"), t.Source, t.Outcome, printable(what))
	return err
}
