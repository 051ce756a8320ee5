package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sluis-cdp/sluis/sql/duckdb"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// days are how long events happen, evenly. The models are built at the end of
// them, as of asOf.
const (
	days = 90
	asOf = "2026-04-01 00:00:00"
)

var begin = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// world is a folder of what landed, which the warehouse itself writes, from
// numbers alone. A visit is ten events. There is a device for each 25 events;
// some come much more often than others. A third of the devices have a user, and
// a user has two of them. One event of a hundred lands late, by up to three days,
// and one lands twice. A twentieth of the devices agrees to analytics only, as
// many refuse it and marketing some day, and one of two hundred refuses to be
// recognised. The last events are the increment.
type world struct {
	dir          string
	events, more int
}

//go:embed world.sql
var tables string

func (w world) landing() string { return filepath.Join(w.dir, "landing") }

// aside is where the increment waits until it is to be seen.
func (w world) aside() string { return filepath.Join(w.dir, "aside") }

// land writes the files, unless they are there.
func (w world) land(ctx context.Context) (err error) {
	label := filepath.Join(w.dir, "landed.txt")
	content := fmt.Sprintf("%d events and %d more\n%s", w.events, w.more, tables)
	if there, err := os.ReadFile(label); err == nil && string(there) == content {
		return nil
	}
	for _, dir := range []string{w.landing(), w.aside()} {
		if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o750)); err != nil {
			return err
		}
	}
	scratch := filepath.Join(w.dir, "scratch.duckdb")
	d, err := duckdb.Open(ctx, duckdb.Config{Path: scratch, Landing: w.landing(), MemoryLimit: "2GB"})
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, d.Close(), os.RemoveAll(scratch), os.RemoveAll(scratch+".lock"))
	}()
	for _, b := range w.batches() {
		if err := w.landBatch(ctx, d, b); err != nil {
			return err
		}
	}
	return os.WriteFile(label, []byte(content), 0o600)
}

// batch is what lands from one moment to another, in events, which happen evenly.
type batch struct{ number, from, until int }

// batches are a day each; the last is the increment.
func (w world) batches() []batch {
	all := w.events + w.more
	var batches []batch
	for day := 0; day*all < w.events*days; day++ {
		batches = append(batches, batch{day, day * all / days, min((day+1)*all/days, w.events)})
	}
	return append(batches, batch{len(batches), w.events, all})
}

// rowsOfBatch is more than lands in a batch of any table.
const rowsOfBatch = 100_000_000

// folder is where a batch lands.
func (w world) folder(b batch) string {
	day := begin.AddDate(0, 0, b.from*days/(w.events+w.more)).Format("2006-01-02")
	return filepath.Join(w.landing(), "dt="+day, fmt.Sprintf("bench-%020d-%020d", b.number*rowsOfBatch, (b.number+1)*rowsOfBatch))
}

// landBatch writes the tables of world.sql.
func (w world) landBatch(ctx context.Context, d warehouse.Driver, b batch) error {
	if err := os.MkdirAll(w.folder(b), 0o750); err != nil {
		return err
	}
	filled := strings.NewReplacer(
		"{from}", fmt.Sprint(b.from), "{until}", fmt.Sprint(b.until), "{all}", fmt.Sprint(w.events+w.more), "{devices}", fmt.Sprint(w.events/25+1),
		"{begin}", begin.Format("2006-01-02 15:04:05"), "{days}", fmt.Sprint(days), "{offset}", fmt.Sprint(b.number*rowsOfBatch),
	).Replace(tables)
	for _, part := range strings.Split(filled, "-- table ")[1:] {
		name, query, _ := strings.Cut(part, "\n")
		file := filepath.Join(w.folder(b), name+".parquet")
		if err := d.Exec(ctx, fmt.Sprintf("COPY (%s) TO '%s' (FORMAT parquet, COMPRESSION zstd)", query, file)); err != nil {
			return fmt.Errorf("%s, batch %d: %w", name, b.number, err)
		}
	}
	return nil
}

// show lets the increment be seen, or hides it.
func (w world) show(increment bool) error {
	batches := w.batches()
	shown := w.folder(batches[len(batches)-1])
	hidden := filepath.Join(w.aside(), filepath.Base(shown))
	from, to := shown, hidden
	if increment {
		from, to = hidden, shown
	}
	if _, err := os.Stat(from); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return os.Rename(from, to)
}
