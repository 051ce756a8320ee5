package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sluis-cdp/sluis/cmd/internal/edge"
	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/collector/bigquery"
	"github.com/sluis-cdp/sluis/collector/spool"
)

func collectorCommand() *cli.Command {
	return &cli.Command{
		Name:        "collector",
		Usage:       "the collector alone (the same as the program sluis-collector)",
		Description: edge.Signals,
		Flags:       edge.Flags(),
		Subcommands: []*cli.Command{inspectCommand()},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usage("there is no command %q here", c.Args().First())
			}
			w, options, err := edge.Open(c, workspaceDir(c))
			if err != nil {
				return err
			}
			return edge.Run(c.Context, w, options, nil)
		},
	}
}

func inspectCommand() *cli.Command {
	return &cli.Command{
		Name:  "inspect",
		Usage: "what is in the spool: segments, what waits to be landed, damage; changes nothing, and the collector may run",
		Flags: []cli.Flag{
			jsonFlag(),
			&cli.IntFlag{Name: "records", Usage: "also show the first `N` records that wait; they hold no personal value in clear"},
			&cli.BoolFlag{Name: "pseudonyms", Usage: "show pseudonyms in full, which are shortened otherwise"},
		},
		Action: func(c *cli.Context) error {
			w, err := openWorkspace(c)
			if err != nil {
				return err
			}
			i, err := inspect(c.Context, w, c.Int("records"), c.Bool("pseudonyms"))
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(c.App.Writer, i)
			}
			i.print(c.App.Writer)
			return nil
		},
	}
}

// inspection is what `sluis collector inspect` shows.
type inspection struct {
	SpoolID  string             `json:"spool_id"`
	Bytes    int64              `json:"bytes"`
	MaxBytes int64              `json:"max_bytes"`
	Next     uint64             `json:"next"`
	Landed   uint64             `json:"landed_below"`
	Segments []inspectedSegment `json:"segments"`
	Aside    []inspectedAside   `json:"set_aside"`
	Waiting  inspectedWaiting   `json:"waiting"`

	Records []collector.InspectedRecord `json:"records,omitempty"`
}

type inspectedSegment struct {
	Name    string             `json:"name"`
	State   spool.SegmentState `json:"state"`
	Bytes   int64              `json:"bytes"`
	Records uint64             `json:"records"`
	First   uint64             `json:"first"`
	Last    uint64             `json:"last"`
	Oldest  time.Time          `json:"oldest,omitzero"`
	Newest  time.Time          `json:"newest,omitzero"`
	Lost    uint64             `json:"lost"`
	Damaged bool               `json:"damaged"`
}

type inspectedAside struct {
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
}

type inspectedWaiting struct {
	Records    int            `json:"records"`
	Bytes      int64          `json:"bytes"`
	Oldest     time.Time      `json:"oldest,omitzero"`
	Rows       map[string]int `json:"rows"`
	Unreadable int            `json:"unreadable"`
}

func inspect(ctx context.Context, w *workspace.Workspace, records int, whole bool) (*inspection, error) {
	out := &inspection{MaxBytes: w.Spool.MaxBytes, Segments: []inspectedSegment{}, Aside: []inspectedAside{}}
	found, err := collector.Inspect(ctx, w.SpoolDir(), collector.InspectOptions{
		Whole: whole,
		Landed: func(id string) (uint64, error) {
			if w.Warehouse.BigQuery != nil {
				return bigquery.Landed(w.LoaderState(), id)
			}
			return collector.ParquetSink{Dir: w.Landing()}.Landed(id)
		},
		Show: func(r collector.InspectedRecord) bool {
			if len(out.Records) == records {
				return false
			}
			out.Records = append(out.Records, r)
			return true
		},
	})
	if err != nil {
		return nil, err
	}
	out.SpoolID, out.Bytes, out.Next, out.Landed = found.Spool.ID, found.Spool.Bytes, found.Spool.Next, found.Landed
	for _, s := range found.Spool.Segments {
		out.Segments = append(out.Segments, inspectedSegment(s))
	}
	for _, a := range found.Spool.Aside {
		out.Aside = append(out.Aside, inspectedAside(a))
	}
	out.Waiting = inspectedWaiting(found.Waiting)
	return out, nil
}

func (i *inspection) print(w io.Writer) {
	fmt.Fprintf(w, "spool %s: %s of %s on disk, records below %d have landed\n\n", i.SpoolID, size(i.Bytes), size(i.MaxBytes), i.Landed)
	now := time.Now()
	var rows [][]string
	for _, s := range i.Segments {
		state := string(s.State)
		if s.Damaged {
			state += ", damaged"
		}
		rows = append(rows, []string{
			s.Name, state, size(s.Bytes), strconv.FormatUint(s.Records, 10), span(s.First, s.Last), age(now, s.Oldest), age(now, s.Newest), strconv.FormatUint(s.Lost, 10),
		})
	}
	for _, a := range i.Aside {
		rows = append(rows, []string{a.Name, "set aside", size(a.Bytes), "", "", "", "", ""})
	}
	printTable(w, []string{"segment", "state", "size", "records", "numbers", "oldest", "newest", "lost"}, rows)

	waiting := i.Waiting
	if waiting.Records == 0 {
		fmt.Fprintln(w, "\nNothing waits to be landed.")
		return
	}
	fmt.Fprintf(w, "\n%d records of %s wait to be landed, the oldest for %s; %d of them are of another version\n\n",
		waiting.Records, size(waiting.Bytes), age(now, waiting.Oldest), waiting.Unreadable)
	rows = nil
	for _, table := range slices.Sorted(maps.Keys(waiting.Rows)) {
		rows = append(rows, []string{table, strconv.Itoa(waiting.Rows[table])})
	}
	printTable(w, []string{"table", "rows"}, rows)
	for _, r := range i.Records {
		fmt.Fprintf(w, "\nrecord %d, %s, %s\n", r.Seq, r.Time.UTC().Format(time.RFC3339), size(int64(r.Bytes)))
		for _, table := range slices.Sorted(maps.Keys(r.Rows)) {
			for _, row := range r.Rows[table] {
				fmt.Fprintf(w, "  %s %s\n", table, printable(string(row)))
			}
		}
	}
}

// size is a number of bytes for people.
func size(bytes int64) string {
	const units = "KMGT"
	if bytes < 1<<10 {
		return fmt.Sprintf("%d B", bytes)
	}
	value, unit := float64(bytes)/(1<<10), 0
	for value >= 1<<10 && unit < len(units)-1 {
		value, unit = value/(1<<10), unit+1
	}
	return fmt.Sprintf("%.1f %ciB", value, units[unit])
}

func span(first, last uint64) string {
	if first == 0 {
		return ""
	}
	return fmt.Sprintf("%d–%d", first, last)
}

func age(now, at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return now.Sub(at).Round(time.Second).String()
}

// printable replaces what a terminal could take for a command: names and values
// come from whoever sends events.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '·'
		}
		return r
	}, text)
}
