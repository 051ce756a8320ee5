package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sluis-cdp/sluis/cmd/internal/edge"
	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/collector/snippet"
	"github.com/sluis-cdp/sluis/sql/warehouse"
	syncer "github.com/sluis-cdp/sluis/sync"
)

func demoCommand() *cli.Command {
	return &cli.Command{
		Name:  "demo",
		Usage: "a workspace, a shop page, scripted visitors, models, syncs to local targets",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "once", Usage: "end when the visitors are through; exit 1 if a promise was broken"},
			jsonFlag(),
			&cli.StringFlag{Name: "listen", Value: "127.0.0.1:0", Usage: "address of the collector"},
			&cli.StringFlag{Name: "dir", Usage: "folder for the demo's workspace; by default a temporary one, removed at the end"},
			&cli.StringFlag{Name: "bigquery", Usage: "`PROJECT` of Google Cloud to use as the warehouse; it must have no data of Sluis yet, and what the demo made there is removed at the end"},
			&cli.StringFlag{Name: "location", Value: "EU", Usage: "where BigQuery keeps the data"},
		},
		Action: func(c *cli.Context) error {
			out := c.App.Writer
			if c.Bool("json") {
				out = io.Discard
			}
			d := &demo{out: out, stderr: c.App.ErrWriter, runs: make(map[string]*syncTotals), began: time.Now(), options: initOptions{Name: "demo"}}
			if project := c.String("bigquery"); project != "" {
				d.options.Project, d.options.Location = project, c.String("location")
			}
			err := d.live(c.Context, c.String("dir"), c.String("listen"), c.Bool("once"))
			if c.Bool("json") {
				err = errors.Join(printJSON(c.App.Writer, d.figures), err)
			}
			return err
		},
	}
}

// demo is one performance of the whole product on one machine.
type demo struct {
	out    io.Writer
	stderr io.Writer
	began  time.Time

	w         *workspace.Workspace
	edge      *edge.Edge
	scheduler *scheduler
	receiver  *receiver
	pages     struct{ shop, receiver string }
	temporary bool
	options   initOptions

	sent    int // events, by the visitors' own count
	emma    *visitor
	runs    map[string]*syncTotals
	broken  []error // promises
	figures figures
}

// figures are the demo's result for programs.
type figures struct {
	Ledger        totals                 `json:"ledger"`
	Profiles      int64                  `json:"profiles"`
	Audiences     map[string]int64       `json:"audiences"`
	Syncs         map[string]*syncTotals `json:"syncs"`
	PlaintextHits int                    `json:"plaintext_hits"`
	Seconds       float64                `json:"seconds"`
}

type syncTotals struct {
	Added   int64 `json:"added"`
	Updated int64 `json:"updated"`
	Removed int64 `json:"removed"`
	Failed  int64 `json:"failed"`
}

// live is the demo from its first to its last line.
func (d *demo) live(ctx context.Context, dir, listen string, once bool) (err error) {
	if dir == "" {
		if dir, err = os.MkdirTemp("", "sluis-demo-"); err != nil {
			return err
		}
		d.temporary = true
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	stop, err := d.start(ctx, dir, listen)
	defer func() { err = errors.Join(err, stop()) }()
	if err != nil {
		return err
	}
	if err := d.perform(ctx); err != nil {
		return err
	}
	err = d.verdict()
	if once {
		return err
	}
	if err != nil { // said now, not when somebody ends the demo
		fmt.Fprintf(d.stderr, "sluis: %v\n", err)
		err = errReported
	}
	d.stayUp(ctx)
	return err
}

// start makes the workspace and starts receiver, collector and scheduler.
// stop is never nil.
func (d *demo) start(ctx context.Context, dir, listen string) (stop func() error, err error) {
	var stops []func() error
	stop = func() error {
		var errs []error
		for _, s := range slices.Backward(stops) {
			errs = append(errs, s())
		}
		return errors.Join(errs...)
	}
	if d.w, err = initWorkspace(dir, d.options); err != nil {
		return stop, err
	}
	secret, err := os.ReadFile(filepath.Join(dir, "keys", "webhook.secret"))
	if err != nil {
		return stop, err
	}
	if d.receiver, err = newReceiver(strings.TrimSpace(string(secret))); err != nil {
		return stop, err
	}
	if err := d.startPages(ctx, &stops); err != nil {
		return stop, err
	}
	if err := d.pointAtPages(dir); err != nil {
		return stop, err
	}
	if d.w.Warehouse.BigQuery != nil {
		remove, err := d.claimBigQuery(ctx)
		if err != nil {
			return stop, err
		}
		stops = append(stops, remove)
	}
	// The log is inside the workspace, so that it is searched like all else.
	log, err := os.Create(filepath.Join(dir, "demo.log"))
	if err != nil {
		return stop, err
	}
	stops = append(stops, log.Close)
	logger := slog.New(slog.NewTextHandler(log, nil))
	if d.scheduler, err = newScheduler(ctx, d.w, logger, log); err != nil {
		return stop, err
	}
	d.w.Listen, d.w.Operations.Listen = listen, ""
	if d.edge, err = edge.Start(ctx, d.w, edge.Options{Logger: logger}); err != nil {
		return stop, err
	}
	stops = append(stops, d.edge.Drain)
	d.say("A new workspace is in %s; the collector accepts events at %s.\n", dir, d.edge.URL())
	return stop, nil
}

// startPages starts the shop and the receiver.
func (d *demo) startPages(ctx context.Context, stops *[]func() error) error {
	for _, p := range []struct {
		url     *string
		handler func() http.Handler
	}{
		{&d.pages.receiver, func() http.Handler { return d.receiver }},
		{&d.pages.shop, func() http.Handler {
			return shop(func() (snippet.Tag, error) { return tagOf(d.w, "", d.edge.URL(), "sluis") }, d.pages.receiver)
		}},
	} {
		url, stop, err := serve(ctx, p.handler())
		if err != nil {
			return err
		}
		*p.url = url
		*stops = append(*stops, stop)
	}
	return nil
}

// pointAtPages lets the shop's page send to the collector, and the example
// sync send to the receiver.
func (d *demo) pointAtPages(dir string) (err error) {
	if err := pointWebhook(dir, d.pages.receiver); err != nil {
		return err
	}
	if err := replace(filepath.Join(dir, workspace.File), "origins: []", "origins: ["+d.pages.shop+"]"); err != nil {
		return err
	}
	d.w, err = workspace.Open(dir)
	return err
}

// claimBigQuery makes the warehouse in a project that has none, and returns
// what removes it again: the keys to it end with the demo's workspace.
func (d *demo) claimBigQuery(ctx context.Context) (remove func() error, err error) {
	schemas := []string{warehouse.SchemaLanding, warehouse.SchemaModels, warehouse.SchemaSync}
	err = d.within(ctx, func(db warehouse.Driver) error {
		_, err := db.Columns(ctx, warehouse.SchemaLanding, "events")
		if errors.Is(err, warehouse.ErrNoRelation) {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("the project %s has a table sluis.events already: give the demo a project of its own", d.options.Project)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	remove = func() error {
		if !d.temporary {
			return nil
		}
		ctx := context.WithoutCancel(ctx)
		return d.within(ctx, func(db warehouse.Driver) error {
			var errs []error
			for _, schema := range schemas {
				errs = append(errs, db.Exec(ctx, "DROP SCHEMA IF EXISTS "+schema+" CASCADE"))
			}
			return errors.Join(errs...)
		})
	}
	return remove, setUpWarehouse(ctx, d.w)
}

// pointWebhook sets where the example sync sends.
func pointWebhook(dir, target string) error {
	return replace(filepath.Join(dir, "syncs", "pricing_and_chat_webhook.yaml"), "http://127.0.0.1:8485/audience", target)
}

func replace(path, from, to string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, []byte(strings.Replace(string(text), from, to, 1)), 0o644)
}

// perform is the story: visitors, models, syncs; then one withdraws.
func (d *demo) perform(ctx context.Context) error {
	if err := d.play(ctx); err != nil {
		return fmt.Errorf("playing the visitors: %w", err)
	}
	if err := d.awaitLanding(ctx); err != nil {
		return err
	}
	if err := d.activate(ctx); err != nil {
		return err
	}
	if err := d.showWarehouse(ctx); err != nil {
		return err
	}
	d.showReceiver("What went to the webhook (each message with a verified signature):", 0)
	d.expectMembers("anna.canary@example.com", "daan.canary@example.com", "emma.canary@example.com")

	d.say("\nEmma withdraws her consent. The next run:\n")
	_, before, _ := d.receiver.snapshot()
	if err := d.emma.choose(ctx, only())(); err != nil {
		return fmt.Errorf("withdrawing consent: %w", err)
	}
	if err := d.awaitWithdrawal(ctx); err != nil {
		return err
	}
	if err := d.activate(ctx); err != nil {
		return err
	}
	d.showReceiver("", len(before))
	d.expectMembers("anna.canary@example.com", "daan.canary@example.com")
	return d.measure(ctx)
}

// device is another device of a person.
func (d *demo) device(v *visitor) *visitor {
	other, err := newVisitor(v.url, v.writeKey)
	if err != nil { // cannot be: it was made like that before
		return v
	}
	other.tally = v.tally
	return other
}

func (d *demo) play(ctx context.Context) error {
	d.say("\nEight visitors come by:\n")
	var rows [][]string
	outcomes := []string{"landed", "counted", "withheld", "quarantined", "duplicate"}
	for _, p := range people() {
		v, err := newVisitor(d.edge.URL(), d.w.Sources[0].WriteKey)
		if err != nil {
			return err
		}
		if err := p.script(ctx, d, v); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		if p.name == "Emma" {
			d.emma = v
		}
		row := []string{p.name, p.agrees, p.does}
		for _, outcome := range outcomes {
			row = append(row, dash(v.tally[outcome]))
			d.sent += v.tally[outcome]
		}
		rows = append(rows, row)
	}
	printTable(d.out, append([]string{"visitor", "agrees to", "does"}, outcomes...), rows)
	d.say(`
  landed: kept, pseudonymised and sealed · counted: refused, only a number grows · withheld: refused, nothing is kept
  quarantined: broken, sealed whole for repair · duplicate: had it already
`)
	return nil
}

func dash(n int) string {
	if n == 0 {
		return "·"
	}
	return strconv.Itoa(n)
}

// within opens the warehouse for f.
func (d *demo) within(ctx context.Context, f func(warehouse.Driver) error) error {
	db, err := openWarehouse(ctx, d.w, "sluis demo", io.Discard)
	if err != nil {
		return err
	}
	return errors.Join(f(db), db.Close())
}

// await asks the warehouse until the answer is yes.
func (d *demo) await(ctx context.Context, what string, f func(warehouse.Driver) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		var yes bool
		err := d.within(ctx, func(db warehouse.Driver) (err error) {
			yes, err = f(db)
			return err
		})
		if err != nil || yes {
			return err
		}
		select {
		case <-tick.C:
		case err := <-d.edge.Failed():
			return err
		case <-ctx.Done():
			return fmt.Errorf("%s: %w; the log is %s", what, ctx.Err(), filepath.Join(d.w.Dir, "demo.log"))
		}
	}
}

func (d *demo) awaitLanding(ctx context.Context) error {
	return d.await(ctx, "waiting for the events to land", func(db warehouse.Driver) (bool, error) {
		l, err := readLedger(ctx, db)
		return l.Received == int64(d.sent), err
	})
}

func (d *demo) awaitWithdrawal(ctx context.Context) error {
	return d.await(ctx, "waiting for the withdrawal to land", func(db warehouse.Driver) (bool, error) {
		rows, err := warehouse.Collect(ctx, db, `select count(*) from sluis.consents where not granted and signal = 'choice' and purpose = 'marketing'`)
		return err == nil && rows[0][0].(int64) > 0, err
	})
}

// activate runs models and syncs once, as the scheduler does.
func (d *demo) activate(ctx context.Context) error {
	runs, err := d.scheduler.once(ctx)
	if err != nil {
		return err
	}
	for _, r := range runs {
		t := d.runs[r.Sync]
		if t == nil {
			t = &syncTotals{}
			d.runs[r.Sync] = t
		}
		t.Added, t.Updated, t.Removed, t.Failed = t.Added+r.Added, t.Updated+r.Updated, t.Removed+r.Removed, t.Failed+r.Failed
	}
	d.showRuns(runs)
	return nil
}

func (d *demo) showRuns(runs []syncer.Run) {
	d.say("\nSyncs, each by a plugin process of its own:\n")
	var rows [][]string
	for _, r := range runs {
		rows = append(rows, []string{r.Sync, fmt.Sprint(r.Added), fmt.Sprint(r.Updated), fmt.Sprint(r.Removed), fmt.Sprint(r.Failed)})
	}
	printTable(d.out, []string{"sync", "added", "updated", "removed", "failed"}, rows)
}

func (d *demo) showWarehouse(ctx context.Context) error {
	return d.within(ctx, func(db warehouse.Driver) error {
		l, err := readLedger(ctx, db)
		if err != nil {
			return err
		}
		d.say("\nThe ledger: everything received is accounted for.\n")
		l.print(d.out)
		for _, q := range []struct{ title, query string }{
			{"Profiles: devices and identifiers of one person joined, where they agreed to it.", `
				select profile_id, n_devices as devices, n_nodes as identifiers, n_events as events, is_known as known,
					consent_analytics as analytics, consent_marketing as marketing
				from profiles order by n_nodes desc, profile_id`},
			{
				"The audience pricing_and_chat: visited /pricing, used live chat, and agrees to marketing.",
				`select profile_id, entered_at from pricing_and_chat order by profile_id`,
			},
		} {
			d.say("\n%s\n", q.title)
			rows, err := db.Query(ctx, q.query)
			if err != nil {
				return err
			}
			if err := errors.Join(printRows(d.out, rows, false), rows.Close()); err != nil {
				return err
			}
		}
		return nil
	})
}

func (d *demo) showReceiver(title string, from int) {
	_, log, refused := d.receiver.snapshot()
	d.say("\n%s\n", strings.TrimSpace(title+" "))
	for _, line := range log[from:] {
		d.say("  %s\n", line)
	}
	if refused > 0 {
		d.broken = append(d.broken, fmt.Errorf("%d messages had a wrong signature", refused))
	}
}

// expectMembers compares what the receiver has with who should be there.
func (d *demo) expectMembers(emails ...string) {
	members, _, _ := d.receiver.snapshot()
	got := slices.Sorted(maps.Keys(members))
	if !slices.Equal(got, slices.Sorted(slices.Values(emails))) {
		d.broken = append(d.broken, fmt.Errorf("the webhook has %d members, expected %d others", len(got), len(emails)))
	}
}

// measure collects the figures, and searches all that was written.
func (d *demo) measure(ctx context.Context) error {
	f := &d.figures
	f.Syncs, f.Audiences = d.runs, make(map[string]int64)
	search := newSearch(canaries())
	err := d.within(ctx, func(db warehouse.Driver) error {
		l, err := readLedger(ctx, db)
		if err != nil {
			return err
		}
		f.Ledger = l.totals
		if err := l.check(); err != nil {
			d.broken = append(d.broken, err)
		}
		for name, into := range map[string]func(int64){
			"profiles":         func(n int64) { f.Profiles = n },
			"pricing_and_chat": func(n int64) { f.Audiences["pricing_and_chat"] = n },
		} {
			rows, err := warehouse.Collect(ctx, db, "select count(*) from sluis_models."+name)
			if err != nil {
				return err
			}
			into(rows[0][0].(int64))
		}
		return search.warehouse(ctx, db)
	})
	if err != nil {
		return err
	}
	if err := search.files(d.w.Dir); err != nil {
		return err
	}
	f.PlaintextHits = len(search.hits)
	for _, hit := range search.hits {
		d.broken = append(d.broken, fmt.Errorf("a personal value is in clear in %s", hit))
	}
	d.expectFigures()
	f.Seconds = time.Since(d.began).Round(time.Millisecond).Seconds()
	d.say("\nSearched %d files and %d rows for %d personal values, also encoded and hashed: %d found.\n",
		search.nFiles, search.nRows, len(canaries()), len(search.hits))
	return nil
}

// expectFigures holds the outcome against what the script must give.
func (d *demo) expectFigures() {
	f := d.figures
	for _, e := range []struct {
		what      string
		got, want int64
	}{
		{"events received", f.Ledger.Received, int64(d.sent)},
		// Emma's three identifiers are joined no longer.
		{"profiles", f.Profiles, 9},
		{"members of pricing_and_chat", f.Audiences["pricing_and_chat"], 2},
		{"rows that failed to sync", d.total(func(t *syncTotals) int64 { return t.Failed }), 0},
		{"rows added by the webhook", d.of("pricing_and_chat_webhook").Added, 3},
		{"rows removed by the webhook", d.of("pricing_and_chat_webhook").Removed, 1},
		{"rows added by the file", d.of("profiles_file").Added, 7},
		{"rows removed by the file", d.of("profiles_file").Removed, 1},
	} {
		if e.got != e.want {
			d.broken = append(d.broken, fmt.Errorf("%s: %d, expected %d", e.what, e.got, e.want))
		}
	}
}

func (d *demo) of(name string) syncTotals {
	if t := d.runs[name]; t != nil {
		return *t
	}
	return syncTotals{}
}

func (d *demo) total(f func(*syncTotals) int64) int64 {
	var sum int64
	for _, t := range d.runs {
		sum += f(t)
	}
	return sum
}

// verdict is an error that names each broken promise.
func (d *demo) verdict() error {
	if len(d.broken) == 0 {
		d.say("\nEvery promise of the demo holds (%.1f s).\n", d.figures.Seconds)
	}
	return errors.Join(d.broken...)
}

// stayUp lets a person click, and runs models and syncs often.
func (d *demo) stayUp(ctx context.Context) {
	every := 5 * time.Second
	if b := d.w.Warehouse.BigQuery; b != nil && b.Endpoint == "" {
		every = time.Minute // each run costs something there
	}
	d.say(`
It stays up, and runs models and syncs every %[6]s:

  shop page   %[1]s
  receiver    %[2]s
  collector   %[3]s
  workspace   %[4]s
  look inside sluis sql --workspace %[4]s "select * from profiles"

Ctrl-C ends it%[5]s.
`, d.pages.shop, d.pages.receiver, d.edge.URL(), d.w.Dir, map[bool]string{true: " and removes the workspace"}[d.temporary], every)
	d.scheduler.run(ctx, every)
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, format, args...) }
