// Command benchsync measures the syncer on the embedded warehouse, through real
// plugin processes: the boundary to them, PostgreSQL behind it, a first run to files and
// to PostgreSQL, then plans of one change in a thousand and what it takes to apply them.
// Beside each figure is a reference of the same run: what the disk, DuckDB and
// PostgreSQL's COPY need for the least of the same work.
//
// The figures are this machine's. Compare those of one run with each other.
package main

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/plugins/file"
	"github.com/sluis-cdp/sluis/plugins/host"
	"github.com/sluis-cdp/sluis/plugins/postgres"
	"github.com/sluis-cdp/sluis/plugins/postgres/postgrestest"
	"github.com/sluis-cdp/sluis/sql/duckdb"
	"github.com/sluis-cdp/sluis/sql/warehouse"
	syncer "github.com/sluis-cdp/sluis/sync"
)

// plugins are what this program is when it is started as one.
var plugins = map[string]func() destination.Destination{
	"discard":  func() destination.Destination { return discard{} },
	"file":     file.New,
	"postgres": postgres.New,
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "plugin" {
		destination.Serve(plugins[os.Args[2]]())
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "benchsync:", err)
		os.Exit(1)
	}
}

// all are the parts of a run: the boundary to a plugin; PostgreSQL, alone and in a first
// run; files, in a first run; changes of what was sent before.
var all = []string{"boundary", "files", "postgres", "changes"}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("benchsync", flag.ContinueOnError)
	b := bench{}
	flags.IntVar(&b.rows, "rows", 1_000_000, "how many rows first runs send")
	known := flags.String("known", "1000000,10000000", "how many rows are at the destination when a thousandth of them changes: some numbers")
	flags.StringVar(&b.memory, "memory", "4GB", "warehouse.memory_limit, beyond which queries spill to disk")
	only := flags.String("only", strings.Join(all, ","), "what is measured")
	if err := flags.Parse(args); err != nil {
		return err
	}
	b.parts = strings.Split(*only, ",")
	if i := slices.IndexFunc(b.parts, func(part string) bool { return !slices.Contains(all, part) }); i >= 0 {
		return fmt.Errorf("-only: there is no %q, but %s", b.parts[i], strings.Join(all, ", "))
	}
	for text := range strings.SplitSeq(*known, ",") {
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("-known: %w", err)
		}
		b.known = append(b.known, n)
	}
	if b.dir, err = os.MkdirTemp("", "benchsync"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if err := b.run(ctx); err != nil {
		return err
	}
	return b.print(out)
}

type bench struct {
	parts  []string
	rows   int
	known  []int
	memory string
	dir    string
	file   string // of the warehouse
	path   string // of this program, and its digest
	digest string
	lines  []line
	steps  steps
}

// steps are when the last batch of a run was answered, and when its destination was
// closed. In between it was recorded.
type steps struct{ answered, closed time.Time }

// watched is a plugin whose steps are noted.
type watched struct {
	*host.Plugin
	steps *steps
}

// Write implements [destination.Destination].
func (w watched) Write(ctx context.Context, batch destination.Batch) ([]destination.Result, error) {
	results, err := w.Plugin.Write(ctx, batch)
	w.steps.answered = time.Now()
	return results, err
}

// Close implements [destination.Destination].
func (w watched) Close(ctx context.Context) error {
	w.steps.closed = time.Now()
	return w.Plugin.Close(ctx)
}

// line is one thing that was measured.
type line struct {
	name            string
	rows            int
	took, reference time.Duration
	against         string // what the reference is
}

// measure times do.
func (b *bench) measure(name string, do func() error) (time.Duration, error) {
	started := time.Now()
	if err := do(); err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	took := time.Since(started)
	fmt.Fprintf(os.Stderr, "%s: %.2f s\n", name, took.Seconds())
	return took, nil
}

func (b *bench) run(ctx context.Context) (err error) {
	if b.path, b.digest, err = host.Self(); err != nil {
		return err
	}
	if b.measures("boundary") {
		if err := b.boundary(ctx); err != nil {
			return err
		}
	}
	if b.measures("files") || b.measures("postgres") {
		if err := b.firstRuns(ctx); err != nil {
			return err
		}
	}
	if !b.measures("changes") {
		return nil
	}
	for _, rows := range b.known {
		if err := b.populate(ctx, rows); err != nil {
			return err
		}
		if err := b.changes(ctx, rows); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) measures(part string) bool { return slices.Contains(b.parts, part) }

func (b *bench) firstRuns(ctx context.Context) error {
	if err := b.populate(ctx, b.rows); err != nil {
		return err
	}
	formats := []string{"csv", "jsonl", "parquet"}
	if !b.measures("files") {
		formats = formats[:1] // from which the reference of PostgreSQL copies
	}
	if err := b.files(ctx, formats); err != nil {
		return err
	}
	if b.measures("postgres") {
		return b.postgres(ctx)
	}
	return nil
}

func (b *bench) open(ctx context.Context) (warehouse.Driver, error) {
	return duckdb.Open(ctx, duckdb.Config{Path: b.file, MemoryLimit: b.memory, Threads: 2, Holder: "benchsync"})
}

// exec runs statements in the warehouse, and tells what they took without opening it.
func (b *bench) exec(ctx context.Context, statements ...string) (took time.Duration, err error) {
	d, err := b.open(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	started := time.Now()
	for _, statement := range statements {
		if err := d.Exec(ctx, statement); err != nil {
			return 0, err
		}
	}
	return time.Since(started), nil
}

// populate begins a warehouse with a model of eight columns and everybody's consent.
func (b *bench) populate(ctx context.Context, rows int) error {
	if b.file != "" {
		if err := os.Remove(b.file); err != nil {
			return err
		}
	}
	b.file = filepath.Join(b.dir, strconv.Itoa(rows)+".duckdb")
	_, err := b.exec(ctx,
		`CREATE TABLE sluis_models.people AS SELECT md5('k' || i) AS customer, md5('p' || i) AS profile_id, 'tier' || i % 5 AS tier, i AS visits,
			i % 2 = 0 AS active, i / 7 AS score, TIMESTAMPTZ '2026-01-01 00:00:00+00' + to_seconds(i) AS seen, 'city' || i % 1000 AS city FROM range(`+strconv.Itoa(rows)+`) t(i)`,
		`CREATE TABLE sluis_models.consent_profile AS SELECT profile_id, 'marketing' AS purpose, true AS allowed, md5(profile_id) AS decision_id, 'policy1' AS policy_version,
			TIMESTAMPTZ '2026-01-01 00:00:00+00' AS decided_at FROM sluis_models.people`)
	if err != nil {
		return fmt.Errorf("populate: %w", err)
	}
	return nil
}

// sync is the model for a destination. Its name is of what it measures.
func (b *bench) sync(name, kind string, config syncer.Settings) syncer.Sync {
	s := syncer.Sync{
		Name: name, File: name + ".yaml", Model: "people", Key: "customer", Profile: "profile_id", Purpose: "marketing",
		Destination: kind, Config: config, Mode: syncer.ModeMirror, BatchRows: 10_000,
	}
	for _, column := range []string{"tier", "visits", "active", "score", "seen", "city"} {
		s.Mapping = append(s.Mapping, syncer.Field{Field: column, Column: column})
	}
	return s
}

func (b *bench) engine() (*syncer.Syncer, error) {
	return syncer.New(syncer.Config{
		Open: b.open,
		Connect: func(ctx context.Context, s syncer.Sync) (destination.Destination, error) {
			plugin, err := b.start(ctx, s.Destination)
			return watched{plugin, &b.steps}, err
		},
		Unseal: func(context.Context, syncer.Sealed) (string, error) { return "", errors.New("nothing is sealed") },
		Logger: slog.New(slog.DiscardHandler),
	})
}

func (b *bench) start(ctx context.Context, kind string) (*host.Plugin, error) {
	return host.Start(ctx, host.Config{Name: kind, Path: b.path, Args: []string{"plugin", kind}, SHA256: b.digest, Logger: slog.New(slog.DiscardHandler)})
}

// first runs a sync of which nothing was sent before.
func (b *bench) first(ctx context.Context, s syncer.Sync) (time.Duration, error) {
	engine, err := b.engine()
	if err != nil {
		return 0, err
	}
	return b.measure("first run to "+s.Name, func() error {
		r, err := engine.Run(ctx, s, syncer.Options{})
		if err == nil && r.Added != int64(b.rows) {
			err = fmt.Errorf("%d rows were added, want %d", r.Added, b.rows)
		}
		return err
	})
}

// boundary sends batches of 1,000 rows to a process that does nothing with them.
func (b *bench) boundary(ctx context.Context) error {
	var columns []destination.Column
	row := []any{"someone@example.org", "0612345678", "Someone", "Else", "Amsterdam", "NL", int64(42), 1.5, true, time.Unix(1e9, 0).UTC()}
	for i, v := range row {
		columns = append(columns, destination.Column{Name: "c" + strconv.Itoa(i), Type: destination.TypeOf(v)})
	}
	const rows = 400_000
	took, err := b.write(ctx, "plugin boundary", "discard", nil, columns, 1000, rows, func(int) []any { return row })
	b.lines = append(b.lines, line{name: "plugin boundary", rows: rows, took: took})
	return err
}

// write sends rows to a destination as the syncer does: in the order of their keys, and
// one batch is made ready while the one before is written. Nothing else is measured.
func (b *bench) write(ctx context.Context, name, kind string, config syncer.Settings, columns []destination.Column, batchRows, rows int, row func(i int) []any) (took time.Duration, err error) {
	p, err := b.start(ctx, kind)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, p.Close(context.WithoutCancel(ctx))) }()
	if err := p.Open(ctx, config); err != nil {
		return 0, err
	}
	keys := make([][md5.Size]byte, rows) // without a pointer, or to look for garbage would take as long as all else
	for i := range keys {
		keys[i] = md5.Sum([]byte(strconv.Itoa(i)))
	}
	slices.SortFunc(keys, func(a, b [md5.Size]byte) int { return bytes.Compare(a[:], b[:]) })
	var batches [2]destination.Batch // this one and the next; used again, since what makes rows is not measured
	fill := func(first int) *destination.Batch {
		batch := &batches[first/batchRows%2]
		*batch = destination.Batch{ID: fmt.Sprintf("%032d", first), Sync: "s", Run: "r", Columns: columns, Changes: batch.Changes[:0]}
		for i := first; i < min(first+batchRows, rows); i++ {
			id := fmt.Sprintf("%016x%x", i, keys[i][:8])
			batch.Changes = append(batch.Changes, destination.Change{ID: id, Key: hex.EncodeToString(keys[i][:]), Op: destination.Upsert, Values: row(i)})
		}
		return batch
	}
	next := fill(0)
	for first := 0; first < rows; first += batchRows {
		batch := next
		if next = nil; first+batchRows < rows {
			next = fill(first + batchRows)
		}
		started := time.Now()
		prepared := make(chan struct{})
		go func() {
			defer close(prepared)
			if next != nil {
				p.Prepare(*next)
			}
		}()
		results, err := p.Write(ctx, *batch)
		<-prepared
		took += time.Since(started)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		if last := results[len(results)-1]; last.Outcome != destination.Delivered {
			return 0, fmt.Errorf("%s: a row is %v: %s", name, last.Outcome, last.Message)
		}
	}
	return took, nil
}

// files writes all rows in each of the formats.
func (b *bench) files(ctx context.Context, formats []string) error {
	for _, format := range formats {
		dir := filepath.Join(b.dir, format)
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		took, err := b.first(ctx, b.sync("file_"+format, "file", syncer.Settings{"directory": dir, "format": format}))
		if err != nil {
			return err
		}
		reference, err := b.measure("the same bytes", func() error { return again(dir) })
		if err != nil {
			return err
		}
		b.lines = append(b.lines, line{"first run to file, " + format, b.rows, took, reference, "the same files, written and synced"})
	}
	return nil
}

// again writes the files of a directory once more, each with a sync.
func again(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		out, err := os.Create(path + ".again")
		if err != nil {
			return err
		}
		_, err = out.Write(content)
		return errors.Join(err, out.Sync(), out.Close())
	})
}

// postgres writes all rows to a table, by the destination alone and by a first run;
// COPY brings the same to an unlogged one.
func (b *bench) postgres(ctx context.Context) (err error) {
	server, err := postgrestest.Start(ctx)
	if errors.Is(err, postgrestest.ErrNotInstalled) {
		fmt.Fprintln(os.Stderr, "without PostgreSQL:", err)
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	const columns = "tier text, visits bigint, active boolean, score double precision, seen timestamptz, city text)"
	for _, table := range []string{"alone (customer", "people (customer"} {
		if err := psql(ctx, server, "CREATE TABLE "+table+" text PRIMARY KEY, "+columns); err != nil {
			return err
		}
	}
	config := func(table string) syncer.Settings {
		return syncer.Settings{"url": server.SocketURL(), "table": "public." + table, "key": "customer"}
	}
	alone, err := b.write(ctx, "PostgreSQL", "postgres", config("alone"), []destination.Column{
		{Name: "tier", Type: destination.String},
		{Name: "visits", Type: destination.Int64},
		{Name: "active", Type: destination.Bool},
		{Name: "score", Type: destination.Float64},
		{Name: "seen", Type: destination.Time},
		{Name: "city", Type: destination.String},
	}, 10_000, b.rows, func(i int) []any {
		return []any{"tier" + strconv.Itoa(i%5), int64(i), i%2 == 0, float64(i) / 7, time.Unix(1767225600+int64(i), 0).UTC(), "city" + strconv.Itoa(i%1000)}
	})
	if err != nil {
		return err
	}
	took, err := b.first(ctx, b.sync("postgres", "postgres", config("people")))
	if err != nil {
		return err
	}
	if err := psql(ctx, server, "CREATE UNLOGGED TABLE copied (op text, key text PRIMARY KEY, id text, "+columns); err != nil {
		return err
	}
	reference, err := b.measure("COPY", func() error {
		return psql(ctx, server, `\copy copied FROM PROGRAM 'tail -q -n +2 `+b.dir+`/csv/run=*/part-*.csv' (FORMAT csv)`)
	})
	b.lines = append(b.lines,
		line{"postgres, the destination alone", b.rows, alone, reference, "COPY into an unlogged table"},
		line{"first run to postgres", b.rows, took, reference, "COPY into an unlogged table"})
	return err
}

func psql(ctx context.Context, server *postgrestest.Server, command string) error {
	out, err := exec.CommandContext(ctx, "psql", "-qX", "-v", "ON_ERROR_STOP=1", "-h", server.Socket, "-p", strconv.Itoa(server.Port), "-U", postgrestest.User, "-c", command).CombinedOutput()
	if err != nil {
		return fmt.Errorf("psql: %w\n%s", err, out)
	}
	return nil
}

// changes plans and applies one change in a thousand of rows that are known to be at
// the destination.
func (b *bench) changes(ctx context.Context, rows int) error {
	s := b.sync("discard", "discard", nil)
	engine, err := b.engine()
	if err != nil {
		return err
	}
	if _, err := b.measure("rebaseline", func() error {
		_, err := engine.Rebaseline(ctx, s, nil)
		return err
	}); err != nil {
		return err
	}
	if _, err := b.exec(ctx, "UPDATE sluis_models.people SET score = score + 1 WHERE visits % 1000 = 0"); err != nil {
		return err
	}
	changed := (rows + 999) / 1000
	var id string
	planned, err := b.measure("plan", func() error {
		p, err := engine.Plan(ctx, s)
		if err == nil && p.Counts.Update != int64(changed) {
			err = fmt.Errorf("%d updates", p.Counts.Update)
		}
		id = p.ID
		return err
	})
	if err != nil {
		return err
	}
	// The least that finds them: a hash of each row against the stored one.
	reference, err := b.exec(ctx, `CREATE TEMP TABLE least AS SELECT key FROM (
			SELECT customer AS key, md5(CONCAT(tier, visits, active, score, epoch_us(seen), city)) AS row_hash FROM sluis_models.people
		) m FULL OUTER JOIN (SELECT key, row_hash FROM sluis_sync.state WHERE sync = 'discard') k USING (key) WHERE m.row_hash = k.row_hash`)
	if err != nil {
		return err
	}
	b.lines = append(b.lines, line{"plan, 0.1 % changed", rows, planned, reference, "hash and outer join in DuckDB"})
	applied, err := b.measure("apply", func() error {
		_, err := engine.Apply(ctx, s, id, syncer.Options{})
		return err
	})
	if err != nil {
		return err
	}
	// The least that notes them: their new hashes in a table of keys and hashes.
	if _, err = b.exec(ctx,
		"CREATE TABLE sluis_sync.bare AS SELECT key, row_hash FROM sluis_sync.state WHERE sync = 'discard'",
		"CHECKPOINT"); err != nil {
		return err
	}
	reference, err = b.exec(ctx, `MERGE INTO sluis_sync.bare t USING (SELECT key, row_hash FROM sluis_sync.deliveries WHERE plan_id = '`+id+`') n ON t.key = n.key
		WHEN MATCHED THEN UPDATE SET row_hash = n.row_hash || '.'`)
	b.lines = append(b.lines,
		line{name: "apply of that", rows: changed, took: applied},
		line{"of which the commit", changed, b.steps.closed.Sub(b.steps.answered), reference, "MERGE of their hashes in DuckDB"})
	return err
}

func (b *bench) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, err := fmt.Fprintln(w, "what\trows\tseconds\trows/s\treference\tseconds\tof its speed")
	for _, l := range b.lines {
		reference := "\t\t"
		if l.reference > 0 {
			reference = fmt.Sprintf("%s\t%.2f\t%.2f", l.against, l.reference.Seconds(), l.reference.Seconds()/l.took.Seconds())
		}
		_, e := fmt.Fprintf(w, "%s\t%d\t%.2f\t%.0f\t%s\n", l.name, l.rows, l.took.Seconds(), float64(l.rows)/l.took.Seconds(), reference)
		err = errors.Join(err, e)
	}
	return errors.Join(err, w.Flush())
}

// discard takes everything and keeps nothing.
type discard struct{}

func (discard) Describe() destination.Description {
	return destination.Description{Name: "discard", Version: "1", Ops: []destination.Op{destination.Upsert, destination.Remove}, Granularity: destination.PerRow, Idempotent: true}
}

func (discard) Open(context.Context, map[string]string) error { return nil }

func (discard) Write(_ context.Context, batch destination.Batch) ([]destination.Result, error) {
	return destination.All(len(batch.Changes), destination.Result{Outcome: destination.Delivered}), nil
}

func (discard) Close(context.Context) error { return nil }
