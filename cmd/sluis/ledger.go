package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

func ledgerCommand() *cli.Command {
	return &cli.Command{
		Name:  "ledger",
		Usage: "what became of everything received; fails if it does not balance",
		Flags: []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) (err error) {
			w, err := openWorkspace(c)
			if err != nil {
				return err
			}
			db, err := openWarehouse(c.Context, w, "sluis ledger", c.App.ErrWriter)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, db.Close()) }()
			l, err := readLedger(c.Context, db)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				err = printJSON(c.App.Writer, l.totals)
			} else {
				l.print(c.App.Writer)
			}
			return errors.Join(err, l.check())
		},
	}
}

// totals are the ledger's sums per outcome.
type totals struct {
	Received    int64 `json:"received"`
	Landed      int64 `json:"landed"`
	Counted     int64 `json:"counted"`
	Withheld    int64 `json:"withheld"`
	Quarantined int64 `json:"quarantined"`
	Duplicate   int64 `json:"duplicate"`
}

// ledger is the landed ledger, and how many events the landing really has.
type ledger struct {
	totals
	lines  [][]string // outcome, n, reason
	events int64
}

func readLedger(ctx context.Context, db warehouse.Driver) (ledger, error) {
	var l ledger
	rows, err := warehouse.Collect(ctx, db, `select outcome, coalesce(reason, ''), sum(n) from sluis.ledger
		group by 1, 2 having sum(n) <> 0 order by outcome = 'received' desc, outcome = 'landed' desc, outcome, 3 desc, 2`)
	if err != nil {
		return l, fmt.Errorf("reading the ledger: %w", err)
	}
	by := map[string]*int64{
		"received": &l.Received, "landed": &l.Landed, "counted": &l.Counted,
		"withheld": &l.Withheld, "quarantined": &l.Quarantined, "duplicate": &l.Duplicate,
	}
	for _, row := range rows {
		outcome, reason, n := row[0].(string), row[1].(string), row[2].(int64)
		if total, ok := by[outcome]; ok {
			*total += n
		}
		l.lines = append(l.lines, []string{outcome, strconv.FormatInt(n, 10), reason})
	}
	count, err := warehouse.Collect(ctx, db, `select count(*) from sluis.events`)
	if err != nil {
		return l, fmt.Errorf("counting the landed events: %w", err)
	}
	l.events = count[0][0].(int64)
	return l, nil
}

func (l ledger) print(w io.Writer) {
	printTable(w, []string{"outcome", "events", "reason"}, l.lines)
}

// check says what does not balance: received against outcomes, and the landed
// of the ledger against the rows that are there.
func (l ledger) check() error {
	if sum := l.Landed + l.Counted + l.Withheld + l.Quarantined + l.Duplicate; sum != l.Received {
		return fmt.Errorf("the ledger does not balance: %d received, but %d landed, counted, withheld, quarantined or duplicate", l.Received, sum)
	}
	if l.events != l.Landed {
		return fmt.Errorf("the ledger does not balance: it says %d landed, and sluis.events has %d rows", l.Landed, l.events)
	}
	return nil
}
