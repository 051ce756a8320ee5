package collector

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/sluis-cdp/sluis/collector/limit"
	"github.com/sluis-cdp/sluis/collector/spool"
	"github.com/sluis-cdp/sluis/consent/seal"
)

// edge is a collector as a program runs it, with its spool, message ids, loader
// and landing in one folder, over several lives, and all that surrounds it under
// the test's hand: disk, clock, warehouse and client.
type edge struct {
	t     testing.TB
	dir   string
	keys  *bench
	disk  *faultDisk
	sink  *faultSink
	log   logged
	now   time.Time
	bytes int64 // of the spool at most

	// Of the life at hand.
	*Collector
	spool   *spool.Spool
	appends atomic.Int64 // begun
	loaded  chan error
	stop    context.CancelFunc

	serial  int
	pending []string        // requests that were not acknowledged
	sent    map[string]bool // ids of events that may land; true: acknowledged
	refused []refused
}

// refused is an answer other than 200.
type refused struct {
	status     int
	code       string
	retryAfter string
}

// newEdge makes one with the keys and the configuration of a bench.
func newEdge(t testing.TB, keys *bench) *edge {
	t.Helper()
	e := &edge{
		t: t, dir: t.TempDir(), keys: keys, now: time.Date(2026, 3, 1, 23, 59, 58, 0, time.UTC),
		disk: &faultDisk{FS: spool.OS()}, bytes: 64 << 10, sent: make(map[string]bool),
	}
	e.sink = &faultSink{ParquetSink: ParquetSink{Dir: filepath.Join(e.dir, "landing")}}
	return e
}

// open starts a life, as often as it takes.
func (e *edge) open() {
	e.t.Helper()
	var err error
	for range 10 {
		if err = e.tryOpen(); err == nil {
			return
		}
	}
	e.t.Fatalf("the collector does not come up: %v", err)
}

func (e *edge) tryOpen() (err error) {
	logger := slog.New(slog.NewTextHandler(&e.log, nil))
	e.spool, err = spool.Open(spool.Options{Dir: filepath.Join(e.dir, "spool"), FS: e.disk.process(), SegmentBytes: 8 << 10, MaxBytes: e.bytes, Logger: logger})
	if err != nil {
		return err
	}
	window, err := OpenWindow(e.t.Context(), filepath.Join(e.dir, "ids"), 0, e.spool)
	if err != nil {
		return errors.Join(err, e.spool.Close())
	}
	config := e.keys.Config
	config.Spool, config.Window, config.Logger = countedSpool{e.spool, &e.appends}, window, logger
	config.Now = func() time.Time { return e.now }
	for i := range config.Sources {
		config.Sources[i].Rate = limit.Rate{Source: 1000}
	}
	if e.Collector, err = New(config); err != nil {
		return errors.Join(err, e.spool.Close())
	}
	ctx, stop := context.WithCancel(context.Background())
	loader := &Loader{Spool: e.spool, Sink: e.sink, Window: window, Logger: logger, Every: time.Millisecond}
	e.loaded, e.stop = make(chan error, 1), stop
	go func() { e.loaded <- loader.Run(ctx) }()
	return nil
}

// countedSpool counts what is to be appended.
type countedSpool struct {
	*spool.Spool
	begun *atomic.Int64
}

func (s countedSpool) Append(ctx context.Context, record []byte) (uint64, error) {
	s.begun.Add(1)
	return s.Spool.Append(ctx, record)
}

// kill ends a life at once: nothing that it would still do reaches the disk.
func (e *edge) kill() {
	e.disk.process()
	e.stop()
	<-e.loaded
	_ = e.spool.Close() // ends its goroutine, and gives the lock free
}

// drain ends a life in order: all that was acknowledged has landed.
func (e *edge) drain() {
	e.t.Helper()
	_ = e.spool.Close() // what that means is looked at afterwards
	if err := <-e.loaded; err != nil {
		e.t.Fatalf("the loader ended with %v", err)
	}
	e.stop()
}

// request is one of three events: one that lands, one that lands with a value
// that is sealed, and one that is refused.
func (e *edge) request() string {
	e.serial++
	const yes = `"context":{"consent":{"categoryPreferences":{"identity":true,"analytics":true,"marketing":true}}}`
	e.sent[fmt.Sprintf("e-%d", e.serial)], e.sent[fmt.Sprintf("i-%d", e.serial)] = false, false
	return fmt.Sprintf(`{"batch":[{"type":"track","event":"X","messageId":"e-%[1]d","anonymousId":"a-%[1]d",%[2]s},
		{"type":"identify","messageId":"i-%[1]d","anonymousId":"a-%[1]d","traits":{"email":"canary.%[1]d@example.com"},%[2]s},
		{"type":"track","event":"canary","messageId":"canary-%[1]d","anonymousId":"canary","properties":{"x":"canary"}}]}`, e.serial, yes)
}

// send sends a request once, after those that were not acknowledged.
func (e *edge) send() {
	e.pending = append(e.pending, e.request())
	e.sendAgain()
}

// sendAgain sends what was not acknowledged, each request once.
func (e *edge) sendAgain() {
	rest := e.pending[:0]
	for _, body := range e.pending {
		if !e.post(context.Background(), body) {
			rest = append(rest, body)
		}
	}
	e.pending = rest
}

// settle sends until all is acknowledged.
func (e *edge) settle() {
	e.t.Helper()
	const patience = 10_000
	for range patience {
		if e.sendAgain(); len(e.pending) == 0 {
			return
		}
		<-time.After(time.Millisecond) // as Retry-After asks, in short
	}
	e.t.Fatalf("%d requests are not acknowledged; the last answer is %+v\n%s", len(e.pending), e.refused[len(e.refused)-1], &e.log)
}

// post tells whether a request was acknowledged.
func (e *edge) post(ctx context.Context, body string) bool {
	w := e.answer(ctx, body)
	var answer struct{ Code string }
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		e.t.Errorf("the answer is no JSON: %v", err)
	}
	if w.Code != http.StatusOK {
		e.refused = append(e.refused, refused{w.Code, answer.Code, w.Header().Get("Retry-After")})
		if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
			e.t.Errorf("%d %s without Retry-After: the client would not send again", w.Code, answer.Code)
		}
		return false
	}
	var events struct{ Batch []struct{ MessageID string } }
	if err := json.Unmarshal([]byte(body), &events); err != nil {
		e.t.Fatal(err)
	}
	for _, event := range events.Batch[:2] {
		e.sent[event.MessageID] = true
	}
	return true
}

func (e *edge) answer(ctx context.Context, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/v1/batch", strings.NewReader(body))
	r.Header.Set("X-Write-Key", "wk_web")
	w := httptest.NewRecorder()
	e.Handler().ServeHTTP(w, r)
	return w
}

// check compares what landed with what was acknowledged, when all has landed.
func (e *edge) check(what string) {
	e.t.Helper()
	landed := make(map[string]int)
	for _, row := range landedRows[EventRow](e.t, e.sink.Dir, "events") {
		landed[row.EventID]++
	}
	for id := range landed {
		if _, ok := e.sent[id]; !ok {
			e.t.Errorf("%s: what landed has an event that was not sent", what)
		}
	}
	for id, acknowledged := range e.sent {
		if n := landed[id]; n > 1 || acknowledged && n == 0 {
			e.t.Errorf("%s: %s landed %d times, acknowledged %v", what, id, n, acknowledged)
		}
	}
	ledger := landedRows[LedgerRow](e.t, e.sink.Dir, "ledger")
	if problem := unbalanced(ledger, len(landed)); problem != "" {
		e.t.Errorf("%s: %s", what, problem)
	}
	e.checkSealed(what)
	if bytes.Contains(bytes.ToLower(everyByte(e.t, e.dir)), []byte("canary")) || strings.Contains(strings.ToLower(e.log.String()), "canary") {
		e.t.Errorf("%s: what was refused or is personal is in a file or in the log", what)
	}
	if e.t.Failed() {
		e.t.Fatalf("%s: the log is\n%s", what, &e.log)
	}
}

// checkSealed opens all that was sealed, with the keys that landed.
func (e *edge) checkSealed(what string) {
	e.t.Helper()
	keys := make(map[string]seal.DataKey)
	for _, k := range landedRows[SealKeyRow](e.t, e.sink.Dir, "seal_keys") {
		keys[k.KeyID] = seal.DataKey{ID: k.KeyID, Purpose: k.Purpose, Recipient: k.Recipient, PSKID: k.PSKID, EncapsulatedKey: k.EncapsulatedKey}
	}
	for _, v := range landedRows[VaultRow](e.t, e.sink.Dir, "vault") {
		_, err := e.keys.opener.Open(seal.Sealed{KeyID: v.KeyID, Ciphertext: v.Ciphertext}, keys[v.KeyID],
			seal.Binding{Purpose: v.Purpose, Field: v.Field, Subject: v.Pseudonym, Decision: v.DecisionID, Record: seal.VaultRecord(v.Token, v.ReceivedAt)})
		if err != nil {
			e.t.Errorf("%s: a sealed value cannot be opened: %v", what, err)
		}
	}
}

// unbalanced says what is wrong with a ledger, by minute and source; "" if nothing.
func unbalanced(ledger []LedgerRow, events int) string {
	type minute struct {
		source string
		at     time.Time
	}
	open := make(map[minute]int64)
	var landed int64
	for _, row := range ledger {
		at := minute{row.SourceID, row.Minute}
		switch Outcome(row.Outcome) {
		case Received:
			open[at] += row.N
		case Landed:
			landed += row.N
			open[at] -= row.N
		case Counted, Withheld, Quarantined, Duplicate:
			open[at] -= row.N
		}
	}
	for at, n := range open {
		if n != 0 {
			return fmt.Sprintf("%s of %s: received and outcomes differ by %d", at.at.Format(time.DateTime), at.source, n)
		}
	}
	if landed != int64(events) {
		return fmt.Sprintf("the ledger says that %d events landed, and %d did", landed, events)
	}
	return ""
}

// landedRows reads a table as queries do: a folder whose range is contained in
// another's is passed over.
func landedRows[T any](t testing.TB, dir, table string) (rows []T) {
	t.Helper()
	days, err := filepath.Glob(filepath.Join(dir, "dt=*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, day := range days {
		folders, err := readFolders(day)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range folders {
			if containedIn(f, folders) {
				continue
			}
			more, err := parquet.ReadFile[T](filepath.Join(day, f.name, table+".parquet"))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			rows = append(rows, more...)
		}
	}
	return rows
}

func containedIn(f folder, folders []folder) bool {
	for _, g := range folders {
		if g.contains(f) {
			return true
		}
	}
	return false
}

// everyByte is what is in all files below a folder.
func everyByte(t testing.TB, dir string) (all []byte) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		all = append(append(all, path...), text...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// logged is a log that may be read while it is written.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// faultSink lands as it is told to.
type faultSink struct {
	ParquetSink
	mu    sync.Mutex
	do    func(b Batch, land func() error) error // nil: lands
	order []uint64                               // first numbers of what landed
}

func (s *faultSink) fail(do func(b Batch, land func() error) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.do = do
}

func (s *faultSink) Land(ctx context.Context, b Batch) error {
	land := func() error {
		if err := s.ParquetSink.Land(ctx, b); err != nil {
			return err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.order = append(s.order, b.First)
		return nil
	}
	s.mu.Lock()
	do := s.do
	s.mu.Unlock()
	if do == nil {
		return land()
	}
	return do(b, land)
}

// faultDisk is the real file system, some of whose calls fail.
type faultDisk struct {
	spool.FS
	mu       sync.Mutex
	epoch    int // grows when the process dies
	calls    int
	from, to int // the calls that fail, counted from 1; to is exclusive
	way      faultWay
	onSync   func() error // called before each File.Sync, which fails if it does
}

// faultWay is how calls fail.
type faultWay int

const (
	isFull   faultWay = iota // ENOSPC, and nothing was done
	fails                    // EIO, and nothing was done
	halfDone                 // EIO, and half of a write, or all else, was done
)

func (w faultWay) String() string {
	return [...]string{"disk full", "I/O error", "I/O error halfway"}[w]
}

var errDead = errors.New("the process is dead")

// process is the file system of a new life; what is left of the one before gets
// nothing done any more.
func (d *faultDisk) process() spool.FS {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.epoch++
	return &faultFS{d.FS, d, d.epoch}
}

// breakAt lets some of the next calls fail.
func (d *faultDisk) breakAt(from, n int, way faultWay) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.from, d.to, d.way = d.calls+from, d.calls+from+n, way
}

func (d *faultDisk) mend() { d.breakAt(0, 0, fails) }

// hold lets Sync wait.
func (d *faultDisk) hold(onSync func() error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.onSync = onSync
}

// call counts a call and does it, a half of it, or nothing.
func (f *faultFS) call(do func() error, half func() error) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.epoch != f.d.epoch {
		return errDead
	}
	f.d.calls++
	if f.d.calls < f.d.from || f.d.calls >= f.d.to {
		return do()
	}
	switch f.d.way {
	case isFull:
		return syscall.ENOSPC
	case halfDone:
		return errors.Join(half(), syscall.EIO)
	case fails:
	}
	return syscall.EIO
}

type faultFS struct {
	spool.FS
	d     *faultDisk
	epoch int
}

func (f *faultFS) all(do func() error) error { return f.call(do, do) }

func (f *faultFS) MkdirAll(dir string) error {
	return f.all(func() error { return f.FS.MkdirAll(dir) })
}

func (f *faultFS) Lock(name string) (lock io.Closer, err error) {
	err = f.call(func() (err error) { lock, err = f.FS.Lock(name); return err }, func() error { return nil })
	return lock, err
}

func (f *faultFS) open(open func(string) (spool.File, error), name string) (spool.File, error) {
	var file spool.File
	err := f.all(func() (err error) { file, err = open(name); return err })
	if err != nil && file != nil {
		err = errors.Join(err, file.Close())
	}
	if err != nil {
		return nil, err
	}
	return &faultFile{file, f}, nil
}

func (f *faultFS) Create(name string) (spool.File, error) { return f.open(f.FS.Create, name) }
func (f *faultFS) Open(name string) (spool.File, error)   { return f.open(f.FS.Open, name) }

func (f *faultFS) Rename(from, to string) error {
	return f.all(func() error { return f.FS.Rename(from, to) })
}

func (f *faultFS) Remove(name string) error { return f.all(func() error { return f.FS.Remove(name) }) }

func (f *faultFS) List(dir string) (names []string, err error) {
	err = f.all(func() (err error) { names, err = f.FS.List(dir); return err })
	return names, err
}

func (f *faultFS) SyncDir(dir string) error { return f.all(func() error { return f.FS.SyncDir(dir) }) }

type faultFile struct {
	spool.File
	fs *faultFS
}

func (f *faultFile) ReadAt(p []byte, off int64) (n int, err error) {
	err = f.fs.all(func() (err error) { n, err = f.File.ReadAt(p, off); return err })
	if err != nil && !errors.Is(err, io.EOF) {
		n = 0
	}
	return n, err
}

func (f *faultFile) WriteAt(p []byte, off int64) (n int, err error) {
	write := func(p []byte) func() error {
		return func() (err error) { n, err = f.File.WriteAt(p, off); return err }
	}
	err = f.fs.call(write(p), write(p[:len(p)/2]))
	return n, err
}

func (f *faultFile) Size() (size int64, err error) {
	err = f.fs.all(func() (err error) { size, err = f.File.Size(); return err })
	return size, err
}

func (f *faultFile) Truncate(size int64) error {
	return f.fs.all(func() error { return f.File.Truncate(size) })
}

func (f *faultFile) Allocate(size int64) error {
	return f.fs.all(func() error { return f.File.Allocate(size) })
}

func (f *faultFile) Sync() error {
	f.fs.d.mu.Lock()
	onSync := f.fs.d.onSync
	f.fs.d.mu.Unlock()
	if onSync != nil {
		if err := onSync(); err != nil {
			return err
		}
	}
	return f.fs.all(f.File.Sync)
}

func (f *faultFile) Close() error {
	return errors.Join(f.fs.all(func() error { return nil }), f.File.Close())
}
