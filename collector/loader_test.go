package collector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/sluis-cdp/sluis/collector/spool"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

func openSpool(t testing.TB, dir string) *spool.Spool {
	t.Helper()
	s, err := spool.Open(spool.Options{Dir: dir, SegmentBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func appendEvent(t testing.TB, s *spool.Spool, id string, at time.Time) {
	t.Helper()
	b := (&Record{ReceivedAt: at, Rows: Rows{
		Events: []EventRow{{EventID: id, SourceID: "web", Type: "track", Event: "X", OccurredAt: at, ReceivedAt: at}},
		Ledger: []LedgerRow{{SourceID: "web", Minute: at.Truncate(time.Minute), Outcome: "landed", N: 1}},
	}}).AppendTo(nil)
	if _, err := s.Append(context.Background(), b); err != nil {
		t.Fatal(err)
	}
}

// landedIDs reads back every event file.
func landedIDs(t testing.TB, dir string) map[string]int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "dt=*", "*", "events.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	ids := make(map[string]int)
	for _, file := range files {
		rows, err := parquet.ReadFile[EventRow](file)
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range rows {
			ids[row.EventID]++
		}
	}
	return ids
}

// TestRowsMatchLandingTables holds the rows to the columns that warehouse.Landing
// promises to models, in their order.
func TestRowsMatchLandingTables(t *testing.T) {
	types := map[string]reflect.Type{
		"events": reflect.TypeFor[EventRow](), "vault": reflect.TypeFor[VaultRow](), "consents": reflect.TypeFor[ConsentRow](),
		"quarantine": reflect.TypeFor[QuarantineRow](), "ledger": reflect.TypeFor[LedgerRow](), "counts": reflect.TypeFor[CountRow](),
		"seal_keys": reflect.TypeFor[SealKeyRow](), "elements": reflect.TypeFor[ElementRow](), "profile_names": reflect.TypeFor[ProfileNameRow](),
	}
	for _, table := range warehouse.Landing() {
		typ, ok := types[table.Name]
		if !ok {
			if table.Name != "erasures" { // written by people's requests, not by events
				t.Errorf("nothing writes %s", table.Name)
			}
			continue
		}
		var got, want []string
		for _, field := range reflect.VisibleFields(typ) {
			if !field.Anonymous {
				name, _, _ := strings.Cut(field.Tag.Get("parquet"), ",")
				got = append(got, name)
			}
		}
		for _, column := range table.Columns {
			want = append(want, column.Name)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s\n has %v\nwant %v", table.Name, got, want)
		}
	}
}

// failingSink fails, before or after the landing, as often as it is told to.
type failingSink struct {
	ParquetSink
	mu            sync.Mutex
	before, after int
	landed        chan Batch
}

func (s *failingSink) Land(ctx context.Context, b Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.before > 0 {
		s.before--
		return errors.New("the warehouse is away")
	}
	if err := s.ParquetSink.Land(ctx, b); err != nil {
		return err
	}
	if s.after > 0 {
		s.after--
		return errors.New("the answer was lost")
	}
	s.landed <- b
	return nil
}

// TestLoaderLandsOnce lands over failures before and after the landing itself,
// over days, over an unreadable record and over restarts of the loader.
func TestLoaderLandsOnce(t *testing.T) {
	dir := t.TempDir()
	s := openSpool(t, filepath.Join(dir, "spool"))
	day := time.Date(2026, 3, 1, 23, 59, 0, 0, time.UTC)
	sink := &failingSink{ParquetSink: ParquetSink{Dir: filepath.Join(dir, "landing")}, landed: make(chan Batch, 100)}
	const rounds, perRound = 4, 25
	for round := range rounds {
		sink.before, sink.after = round%2, round/2
		for i := range perRound {
			appendEvent(t, s, fmt.Sprintf("e-%d-%d", round, i), day.Add(time.Duration(i)*10*time.Second))
		}
		if round == 1 {
			if _, err := s.Append(context.Background(), []byte(`{"v":99}`)); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		loader := &Loader{Spool: s, Sink: sink, Logger: slog.New(slog.DiscardHandler), Every: time.Millisecond}
		go func() { done <- loader.Run(ctx) }()
		for last := uint64(0); last < s.Stats().Next; {
			last = (<-sink.landed).Last
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	ids := landedIDs(t, sink.Dir)
	if len(ids) != rounds*perRound {
		t.Errorf("%d events landed, want %d", len(ids), rounds*perRound)
	}
	for id, n := range ids {
		if n != 1 {
			t.Errorf("%s landed %d times", id, n)
		}
	}
	days := make(map[string]bool) // the unreadable record may have landed alone, under the day it was appended
	files, _ := filepath.Glob(filepath.Join(sink.Dir, "dt=*", "*", "events.parquet"))
	for _, file := range files {
		days[filepath.Base(filepath.Dir(filepath.Dir(file)))] = true
	}
	if len(days) != 2 || !days["dt=2026-03-01"] || !days["dt=2026-03-02"] {
		t.Errorf("events landed under %v, want two days", days)
	}
	if kept, _ := filepath.Glob(filepath.Join(sink.Dir, "dt=*", "*", "unreadable-*")); len(kept) != 1 {
		t.Errorf("the record of another version was not kept: %v", kept)
	}
}

// TestCrashBeforeTheRename leaves a half-written batch behind.
func TestCrashBeforeTheRename(t *testing.T) {
	sink := ParquetSink{Dir: t.TempDir()}
	half := filepath.Join(sink.aside(), "0011223344556677-00000000000000000001-00000000000000000009")
	if err := os.MkdirAll(half, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(half, "events.parquet"), []byte("PAR1"), 0o644); err != nil {
		t.Fatal(err)
	}
	if position, _, err := sink.Position(context.Background(), "0011223344556677"); err != nil || position != 0 {
		t.Errorf("position %d, %v", position, err)
	}
	b := Batch{SpoolID: "0011223344556677", First: 1, Last: 5, Day: time.Unix(1_800_000_000, 0), Rows: Rows{Events: []EventRow{{EventID: "x"}}}}
	for range 2 { // landing again what has landed is no error
		if err := sink.Land(context.Background(), b); err != nil {
			t.Fatal(err)
		}
	}
	if position, _, err := sink.Position(context.Background(), b.SpoolID); err != nil || position != 5 {
		t.Errorf("position %d, %v", position, err)
	}
	if position, _, err := sink.Position(context.Background(), "ffffffffffffffff"); err != nil || position != 0 {
		t.Errorf("another spool's position %d, %v", position, err)
	}
	if ids := landedIDs(t, sink.Dir); ids["x"] != 1 || len(ids) != 1 {
		t.Errorf("landed %v", ids)
	}
}

// begunSink says that a batch was begun, and takes what it is given.
type begunSink struct {
	next, until uint64
	landed      chan Batch
}

func (s *begunSink) Position(context.Context, string) (next, until uint64, err error) {
	return s.next, s.until, nil
}

func (s *begunSink) Land(_ context.Context, b Batch) error {
	s.landed <- b
	return nil
}

// TestLoaderCutsABegunBatchAsItWas: over a midnight, and with a deadline so short
// that batches made anew hold few records.
func TestLoaderCutsABegunBatchAsItWas(t *testing.T) {
	s := openSpool(t, t.TempDir())
	first := s.Stats().Next
	day := time.Date(2026, 3, 1, 23, 59, 0, 0, time.UTC)
	const records, begin, end = 40, 3, 31
	for i := range records {
		appendEvent(t, s, fmt.Sprint("e-", i), day.Add(time.Duration(i)*10*time.Second))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	sink := &begunSink{next: first + begin, until: first + end, landed: make(chan Batch, records)}
	loader := &Loader{Spool: s, Sink: sink, Logger: slog.New(slog.DiscardHandler), Every: time.Nanosecond}
	if err := loader.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	close(sink.landed)
	got := <-sink.landed
	if got.First != first+begin || got.Last != first+end || len(got.Events) != end-begin {
		t.Errorf("the begun batch came back as [%d, %d) with %d events, want [%d, %d) with %d",
			got.First, got.Last, len(got.Events), first+begin, first+end, end-begin)
	}
	next := got.Last
	for b := range sink.landed {
		if b.First != next || uint64(len(b.Events)) != b.Last-b.First {
			t.Errorf("after %d came [%d, %d) with %d events", next, b.First, b.Last, len(b.Events))
		}
		next = b.Last
	}
	if next != first+records {
		t.Errorf("landed up to %d, want %d", next, first+records)
	}
}

// TestLoaderReadsOn: a place that cannot be read, for a while or for good, does not
// end the loader.
func TestLoaderReadsOn(t *testing.T) {
	for name, failures := range map[string]int{"for a while": 3, "for good": 1 << 30} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			disk := &unreadable{FS: spool.OS()}
			s, err := spool.Open(spool.Options{Dir: filepath.Join(dir, "spool"), FS: disk, SegmentBytes: 4 << 10})
			if err != nil {
				t.Fatal(err)
			}
			const events = 60 // over several segments
			for i := range events {
				appendEvent(t, s, fmt.Sprint("e-", i), time.Unix(1_800_000_000, 0))
			}
			disk.failures.Store(int64(failures))
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			sink := ParquetSink{Dir: filepath.Join(dir, "landing")}
			if err := (&Loader{Spool: s, Sink: sink, Logger: slog.New(slog.DiscardHandler)}).Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			landed, lost := len(landedIDs(t, sink.Dir)), int(s.Stats().Lost)
			if landed+lost != events || landed == 0 || (lost > 0) != (failures > 1<<20) {
				t.Errorf("%d events landed, %d are lost", landed, lost)
			}
		})
	}
}

// unreadable is a disk whose first segment cannot be read some times.
type unreadable struct {
	spool.FS
	failures atomic.Int64
}

func (u *unreadable) Open(name string) (spool.File, error) {
	file, err := u.FS.Open(name)
	if strings.HasSuffix(name, "00001.seg") {
		return unreadableFile{file, u}, err
	}
	return file, err
}

type unreadableFile struct {
	spool.File
	disk *unreadable
}

func (f unreadableFile) ReadAt(p []byte, off int64) (int, error) {
	if f.disk.failures.Add(-1) >= 0 {
		return 0, syscall.EIO
	}
	return f.File.ReadAt(p, off)
}

// TestLoaderEndsWhenTheSpoolIsClosedAndEmpty is the graceful end of a collector.
func TestLoaderEndsWhenTheSpoolIsClosedAndEmpty(t *testing.T) {
	dir := t.TempDir()
	s := openSpool(t, filepath.Join(dir, "spool"))
	loader := &Loader{Spool: s, Sink: ParquetSink{Dir: filepath.Join(dir, "landing")}, Logger: slog.New(slog.DiscardHandler), Every: time.Hour}
	done := make(chan error, 1)
	go func() { done <- loader.Run(context.Background()) }()
	for i := range 10 {
		appendEvent(t, s, fmt.Sprint("e-", i), time.Unix(1_800_000_000, 0))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if ids := landedIDs(t, loader.Sink.(ParquetSink).Dir); len(ids) != 10 {
		t.Errorf("%d events landed", len(ids))
	}
}
