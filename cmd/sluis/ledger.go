package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

func ledgerCommand() *cli.Command {
	return &cli.Command{
		Name:  "ledger",
		Usage: "what became of everything received; fails if it does not balance",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "source", Usage: "of this source alone"},
			&cli.DurationFlag{Name: "since", Usage: "of the last hours or minutes, such as 24h; in whole minutes"},
			&cli.BoolFlag{Name: "minutes", Usage: "minute by minute, and source by source"},
			jsonFlag(),
		},
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
			period := ledgerPeriod{source: c.String("source"), minutes: c.Bool("minutes")}
			if since := c.Duration("since"); since > 0 {
				period.since = time.Now().Add(-since)
			}
			l, err := readLedgerOf(c.Context, db, period)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				err = l.printJSON(c.App.Writer)
			} else {
				l.print(c.App.Writer)
			}
			return errors.Join(err, l.check())
		},
	}
}

// ledgerPeriod is the part of the ledger to look at; the zero value is all of it.
type ledgerPeriod struct {
	source  string
	since   time.Time
	minutes bool // lines per minute and source
}

// where is the condition on a table with that column of time.
func (p ledgerPeriod) where(column string) (condition string, args []any) {
	condition = "true"
	if p.source != "" {
		condition += " and source_id = ?"
		args = append(args, p.source)
	}
	if !p.since.IsZero() {
		condition += " and " + column + " >= ?"
		args = append(args, p.since.UTC().Truncate(time.Minute))
	}
	return condition, args
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

// ledgerLine is how often one thing became of events, for one reason.
type ledgerLine struct {
	Minute  *time.Time `json:"minute,omitempty"`
	Source  string     `json:"source,omitempty"`
	Outcome string     `json:"outcome"`
	N       int64      `json:"n"`
	Reason  string     `json:"reason,omitempty"`
}

// ledger is the landed ledger, and how many events the landing really has.
type ledger struct {
	totals
	lines  []ledgerLine
	events int64
	odd    []string // minutes of a source that do not balance by themselves
}

func readLedger(ctx context.Context, db warehouse.Driver) (ledger, error) {
	return readLedgerOf(ctx, db, ledgerPeriod{})
}

func readLedgerOf(ctx context.Context, db warehouse.Driver, p ledgerPeriod) (ledger, error) {
	var l ledger
	if err := l.readLines(ctx, db, p); err != nil {
		return l, fmt.Errorf("reading the ledger: %w", err)
	}
	if err := l.readOdd(ctx, db, p); err != nil {
		return l, fmt.Errorf("reading the ledger: %w", err)
	}
	condition, args := p.where("received_at")
	count, err := warehouse.Collect(ctx, db, `select count(*) from sluis.events where `+condition, args...)
	if err != nil {
		return l, fmt.Errorf("counting the landed events: %w", err)
	}
	l.events = count[0][0].(int64)
	return l, nil
}

func (l *ledger) readLines(ctx context.Context, db warehouse.Driver, p ledgerPeriod) error {
	keys := "cast(null as timestamp), ''"
	if p.minutes {
		keys = "minute, source_id"
	}
	condition, args := p.where("minute")
	rows, err := warehouse.Collect(ctx, db, `select `+keys+`, outcome, coalesce(reason, ''), sum(n) from sluis.ledger
		where `+condition+` group by 1, 2, 3, 4 having sum(n) <> 0 order by 1, 2, outcome = 'received' desc, outcome = 'landed' desc, outcome, 5 desc, 4`, args...)
	if err != nil {
		return err
	}
	by := map[string]*int64{
		"received": &l.Received, "landed": &l.Landed, "counted": &l.Counted,
		"withheld": &l.Withheld, "quarantined": &l.Quarantined, "duplicate": &l.Duplicate,
	}
	for _, row := range rows {
		line := ledgerLine{Source: row[1].(string), Outcome: row[2].(string), Reason: row[3].(string), N: row[4].(int64)}
		if minute, ok := row[0].(time.Time); ok {
			line.Minute = &minute
		}
		if total, ok := by[line.Outcome]; ok {
			*total += line.N
		}
		l.lines = append(l.lines, line)
	}
	return nil
}

// mostOdd bounds what an error lists.
const mostOdd = 5

// readOdd finds what sums could hide: one minute with too much, another with
// too little.
func (l *ledger) readOdd(ctx context.Context, db warehouse.Driver, p ledgerPeriod) error {
	condition, args := p.where("minute")
	rows, err := warehouse.Collect(ctx, db, `select source_id, minute, sum(case when outcome = 'received' then n else -n end) from sluis.ledger
		where `+condition+` group by 1, 2 having sum(case when outcome = 'received' then n else -n end) <> 0 order by 2, 1 limit `+strconv.Itoa(mostOdd), args...)
	for _, row := range rows {
		l.odd = append(l.odd, fmt.Sprintf("%s at %s (%+d)", row[0], row[1].(time.Time).Format("2006-01-02 15:04"), row[2]))
	}
	return err
}

func (l ledger) print(w io.Writer) {
	columns := []string{"outcome", "events", "reason"}
	rows := make([][]string, len(l.lines))
	for i, line := range l.lines {
		rows[i] = []string{line.Outcome, strconv.FormatInt(line.N, 10), line.Reason}
		if line.Minute != nil {
			rows[i] = append([]string{line.Minute.Format("2006-01-02 15:04"), line.Source}, rows[i]...)
			columns = []string{"minute", "source", "outcome", "events", "reason"}
		}
	}
	printTable(w, columns, rows)
}

func (l ledger) printJSON(w io.Writer) error {
	return printJSON(w, struct {
		totals
		Lines []ledgerLine `json:"lines"`
	}{l.totals, l.lines})
}

// check says what does not balance: received against outcomes, in all and in
// each minute of a source, and the landed of the ledger against the rows that
// are there.
func (l ledger) check() error {
	if sum := l.Landed + l.Counted + l.Withheld + l.Quarantined + l.Duplicate; sum != l.Received {
		return fmt.Errorf("the ledger does not balance: %d received, but %d landed, counted, withheld, quarantined or duplicate", l.Received, sum)
	}
	if len(l.odd) > 0 {
		return fmt.Errorf("the ledger does not balance: received and outcomes differ for source %s", strings.Join(l.odd, ", "))
	}
	if l.events != l.Landed {
		return fmt.Errorf("the ledger does not balance: it says %d landed, and sluis.events has %d rows", l.Landed, l.events)
	}
	return nil
}
