package bigquery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/collector/bigquery/storagetest"
)

const (
	project, dataset = "p", "sluis"
	spoolID          = "00112233445566aa"
)

func path(table string) string { return "projects/p/datasets/sluis/tables/" + table }

func startServer(t testing.TB, dir, address string) *storagetest.Server {
	t.Helper()
	server, err := storagetest.Start(context.Background(), dir, address, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return server
}

// landingServer has all landing tables.
func landingServer(t testing.TB) *storagetest.Server {
	t.Helper()
	server := startServer(t, t.TempDir(), "127.0.0.1:0")
	t.Cleanup(func() { server.Close() })
	if err := server.CreateLanding(project, dataset); err != nil {
		t.Fatal(err)
	}
	return server
}

func testConfig(address, stateFile string) Config {
	return Config{
		Project: project, Dataset: dataset, Location: "EU", StateFile: stateFile, StorageEndpoint: address,
		Logger: slog.New(slog.DiscardHandler),
		dial:   waiting(),
	}
}

// waiting waits for a server that is being restarted, and not for long.
func waiting() []grpc.DialOption {
	soon := backoff.Config{BaseDelay: time.Millisecond, Multiplier: 1.5, MaxDelay: 20 * time.Millisecond}
	return []grpc.DialOption{
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: soon, MinConnectTimeout: time.Second}),
	}
}

func openSink(t testing.TB, config Config) *Sink {
	t.Helper()
	s, err := Open(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

var day = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// bad tells whether BigQuery refuses an event of a record: about one in thirteen.
func bad(seq uint64, i int) bool { return (seq*7+uint64(i)*3)%13 == 0 }

// source is where an event of a record comes from.
func source(seq uint64, i int) string { return []string{"web", "app"}[(seq+uint64(i))%2] }

// record returns the rows of a record: always the same, each with a name of its own.
func record(seq uint64) collector.Rows {
	origin := collector.Origin{SpoolID: spoolID, SpoolOffset: int64(seq)}
	var rows collector.Rows
	for i := range int(seq % 4) {
		id := fmt.Sprintf("e-%d-%d", seq, i)
		properties := `{"n":1}`
		if bad(seq, i) {
			properties = []string{`{"n":`, `{"n":1e999}`}[seq/2%2] // no JSON; a number that cannot be stored
		}
		rows.Events = append(rows.Events, collector.EventRow{
			EventID: id, SourceID: source(seq, i), Type: "track", OccurredAt: day, ReceivedAt: day, Properties: properties,
			Identifiers: []collector.IdentifierRow{{Kind: "email", Pseudonym: "em_" + id}}, Purposes: []string{"analytics"}, Origin: origin,
		})
		rows.Vault = append(rows.Vault, collector.VaultRow{Pseudonym: id, Field: "email", Ciphertext: []byte{1, 2, 3}, ReceivedAt: day, Origin: origin})
	}
	if seq%5 == 0 {
		rows.Quarantine = []collector.QuarantineRow{{QuarantineID: fmt.Sprint("q-", seq), SourceID: "web", ReceivedAt: day, Origin: origin}}
		rows.SealKeys = []collector.SealKeyRow{{KeyID: fmt.Sprint("k-", seq), CreatedAt: day, Origin: origin}}
	}
	rows.Ledger = []collector.LedgerRow{{SourceID: fmt.Sprint("s-", seq), Minute: day, Outcome: "landed", N: 1, Origin: origin}}
	return rows
}

// batch returns the batch [first, last).
func batch(first, last uint64) collector.Batch {
	b := collector.Batch{SpoolID: spoolID, First: first, Last: last, Day: day}
	for seq := first; seq < last; seq++ {
		r := record(seq)
		b.Events, b.Vault = append(b.Events, r.Events...), append(b.Vault, r.Vault...)
		b.Quarantine, b.SealKeys = append(b.Quarantine, r.Quarantine...), append(b.SealKeys, r.SealKeys...)
		b.Ledger = append(b.Ledger, r.Ledger...)
	}
	return b
}

// want returns how often each row of the records [0, end) must be in its table.
func want(end uint64) map[string]int {
	counts := make(map[string]int)
	for seq := range end {
		r := record(seq)
		for i, e := range r.Events {
			if bad(seq, i) {
				counts[fmt.Sprintf("quarantine refused %d", seq)]++
				counts[fmt.Sprintf("ledger %s landed -1 %d", source(seq, i), seq)]++
				counts[fmt.Sprintf("ledger %s quarantined 1 %d", source(seq, i), seq)]++
			} else {
				counts["events "+e.EventID]++
			}
			counts["vault "+e.EventID]++
		}
		for _, q := range r.Quarantine {
			counts["quarantine "+q.QuarantineID]++
		}
		for _, k := range r.SealKeys {
			counts["seal_keys "+k.KeyID]++
		}
		counts[fmt.Sprintf("ledger s-%d landed 1 %d", seq, seq)]++
	}
	return counts
}

// got counts the rows that are in the tables.
func got(server *storagetest.Server) map[string]int {
	counts := make(map[string]int)
	for _, row := range server.Rows(path("events")) {
		counts[fmt.Sprint("events ", row["event_id"])]++
	}
	for _, row := range server.Rows(path("vault")) {
		counts[fmt.Sprint("vault ", row["pseudonym"])]++
	}
	for _, row := range server.Rows(path("seal_keys")) {
		counts[fmt.Sprint("seal_keys ", row["key_id"])]++
	}
	for _, row := range server.Rows(path("quarantine")) {
		if row["path"] == "events" && strings.HasPrefix(fmt.Sprint(row["reason"]), "bigquery: Field properties") {
			counts[fmt.Sprint("quarantine refused ", row["spool_offset"])]++
		} else {
			counts[fmt.Sprint("quarantine ", row["quarantine_id"])]++
		}
	}
	for _, row := range server.Rows(path("ledger")) {
		counts[fmt.Sprint("ledger ", row["source_id"], " ", row["outcome"], " ", row["n"], " ", row["spool_offset"])]++
	}
	return counts
}

func TestLand(t *testing.T) {
	server := landingServer(t)
	dir := t.TempDir()
	s := openSink(t, testConfig(server.Address(), filepath.Join(dir, "state")))
	s.requestSize = 500
	ctx := context.Background()
	if next, until, err := s.Position(ctx, spoolID); next != 0 || until != 0 || err != nil {
		t.Errorf("at first the position is %d, %d, %v", next, until, err)
	}
	for first := uint64(0); first < 200; first += 50 {
		b := batch(first, first+50)
		b.Unreadable = []collector.Unreadable{{Seq: first, Data: []byte("?")}}
		for range 2 { // the second time it has landed
			if err := s.Land(ctx, b); err != nil {
				t.Fatal(err)
			}
		}
	}
	if next, until, err := s.Position(ctx, spoolID); next != 200 || until != 0 || err != nil {
		t.Errorf("at last the position is %d, %d, %v", next, until, err)
	}
	if diff := cmp.Diff(want(200), got(server)); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	refused := 0
	for seq := range uint64(200) { // events of one record are one name
		for i := range record(seq).Events {
			if bad(seq, i) {
				refused++
			}
		}
	}
	kept, _ := filepath.Glob(filepath.Join(dir, "refused", "*.json"))
	unreadable, _ := filepath.Glob(filepath.Join(dir, "refused", "*-unreadable"))
	if refused == 0 || len(kept) != refused || len(unreadable) != 4 {
		t.Errorf("%d of %d refused rows and %d of 4 unreadable records are kept", len(kept), refused, len(unreadable))
	}
	for _, file := range kept {
		info, err := os.Stat(file)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file, info.Mode(), err)
		}
	}
	for table, most := range map[string]int{"events": 1, "vault": 1, "ledger": 1} {
		if streams := server.Streams(path(table)); len(streams) > most {
			t.Errorf("%s got %d streams, want one for all batches", table, len(streams))
		}
	}
}

// errDead is what everything returns to a sink whose process has crashed.
var errDead = errors.New("the process is dead")

// world is what goes wrong around a sink: at each step of it, whatever chance wants.
type world struct {
	t       *testing.T
	rng     *rand.Rand
	server  *storagetest.Server
	store   string
	address string
	rest    string
	dead    bool // until the next sink is opened
	calm    bool // nothing goes wrong any more, but
	crashIn int  // if positive, so many steps until a crash
	seen    map[string]int
}

// step is called before and after each send, receipt, call and write of the state.
func (w *world) step() error {
	if w.dead {
		return errDead
	}
	if w.crashIn > 0 {
		if w.crashIn--; w.crashIn == 0 {
			w.dead = true
			return errDead
		}
	}
	if w.calm {
		return nil
	}
	switch n := w.rng.IntN(400); {
	case n < 8:
		w.seen["crash"]++
		w.dead = true
		return errDead
	case n < 10:
		w.seen["restart"]++
		w.restart()
	case n < 16:
		w.stream("finalize", (*storagetest.Server).Finalize)
	case n < 22:
		w.stream("expire", (*storagetest.Server).Expire)
	}
	return nil
}

func (w *world) stream(name string, do func(*storagetest.Server, string) error) {
	tables := []string{"events", "vault", "quarantine", "ledger", "seal_keys"}
	streams := w.server.Streams(path(tables[w.rng.IntN(len(tables))]))
	if len(streams) == 0 {
		return
	}
	w.seen[name]++
	if err := do(w.server, streams[w.rng.IntN(len(streams))]); err != nil {
		w.t.Error(err)
	}
}

func (w *world) restart() {
	if w.server != nil {
		w.server.Close()
	}
	server, err := storagetest.Start(context.Background(), w.store, w.address, w.rest)
	if err != nil {
		w.t.Fatal(err)
	}
	w.address, w.rest = server.Address(), server.RESTAddress()
	w.server = server
	faults := rand.New(rand.NewPCG(w.rng.Uint64(), 1)) // asked under the server's lock
	calm := w.calm
	server.Fault = func(p storagetest.Point, _ string, _ int64) error {
		if calm {
			return nil
		}
		switch n := faults.IntN(100); {
		case n < 3:
			return storagetest.ErrCut
		case n < 4 && p == storagetest.BeforeStore:
			return status.Error(codes.Aborted, "try again")
		case n < 5:
			return status.Error(codes.Internal, "nobody knows what happened")
		}
		return nil
	}
	server.JobFault = func(p storagetest.Point, _ string) *storagetest.JobError {
		switch n := faults.IntN(100); {
		case calm:
		case n < 5:
			return storagetest.CutJob
		case n < 10 && p == storagetest.Run:
			return &storagetest.JobError{Reason: "backendError", Message: "try again"}
		case n < 20 && p == storagetest.Run:
			return storagetest.Running
		case n < 10:
			return &storagetest.JobError{Code: 503, Reason: "backendError", Message: "nobody knows what happened"}
		}
		return nil
	}
}

// brittleTransport lets the world have its say around each request about jobs.
type brittleTransport struct{ w *world }

func (b brittleTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := b.w.step(); err != nil {
		return nil, err
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if err := b.w.step(); err != nil {
		resp.Body.Close()
		return nil, err
	}
	return resp, nil
}

// dial lets the world have its say around everything that goes to the server.
func (w *world) dial() []grpc.DialOption {
	around := func(do func() error) error {
		if err := w.step(); err != nil {
			return err
		}
		if err := do(); err != nil {
			return err
		}
		return w.step()
	}
	return append(waiting(),
		grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return around(func() error { return invoke(ctx, method, req, reply, cc, opts...) })
		}),
		grpc.WithChainStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			if err := w.step(); err != nil {
				return nil, err
			}
			stream, err := streamer(ctx, desc, cc, method, opts...)
			return brittleStream{stream, around}, err
		}),
	)
}

type brittleStream struct {
	grpc.ClientStream
	around func(func() error) error
}

func (s brittleStream) SendMsg(m any) error {
	err := s.around(func() error { return s.ClientStream.SendMsg(m) })
	if errors.Is(err, errDead) {
		return io.EOF // as the contract of SendMsg has it; receiving says why
	}
	return err
}

func (s brittleStream) RecvMsg(m any) error {
	return s.around(func() error { return s.ClientStream.RecvMsg(m) })
}

func (w *world) open(stateFile string) *Sink {
	w.dead = false
	config := testConfig(w.address, stateFile)
	config.Endpoint, config.dial, config.http = "http://"+w.rest, w.dial(), brittleTransport{w}
	config.LoadSources = [][]string{{"app"}, {"app"}, {"web", "app"}, nil}[w.rng.IntN(4)] // and so may this
	s, err := open(context.Background(), config)
	if err != nil {
		w.t.Fatal(err)
	}
	s.requestSize = 100 + w.rng.IntN(600) // may differ from that of the process before
	s.jobSize = int64(w.rng.IntN(2000))
	s.pollEvery = time.Millisecond
	s.save = func(path string, data []byte) error {
		if err := w.step(); err != nil {
			return err
		}
		if err := os.WriteFile(path+".tmp", data, 0o600); err != nil { // the kernel survives, so no fsync
			return err
		}
		if err := w.step(); err != nil {
			return err
		}
		if err := os.Rename(path+".tmp", path); err != nil {
			return err
		}
		return w.step()
	}
	s.staging.save = s.save
	s.staging.move = func(from, to string) error {
		if err := w.step(); err != nil {
			return err
		}
		if err := os.Rename(from, to); err != nil {
			return err
		}
		return w.step()
	}
	return s
}

// TestRandomFaults lands records while everything fails that can fail, at every
// step. In the end each row is in its table exactly once.
func TestRandomFaults(t *testing.T) {
	schedules, records := uint64(rounds(t, 15)), uint64(60)
	kinds := []string{"crash", "restart", "finalize", "expire", "resumed", "load jobs", "failed load jobs", "returned"}
	seen, enough := make(map[string]int), int(schedules)/4
	rare := func() bool { return slices.ContainsFunc(kinds, func(k string) bool { return seen[k] < enough }) }
	// A busy machine sees some kinds of fault less often: then there are more schedules, never less to see.
	for seed := uint64(0); seed < schedules || seed < 4*schedules && rare(); seed++ {
		w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 0)), store: t.TempDir(), address: "127.0.0.1:0", rest: "127.0.0.1:0", seen: make(map[string]int)}
		w.restart()
		if err := w.server.CreateLanding(project, dataset); err != nil {
			t.Fatal(err)
		}
		w.run(filepath.Join(t.TempDir(), "state"), records)
		if diff := cmp.Diff(want(records), got(w.server)); diff != "" {
			t.Errorf("seed %d, after %v: rows (-want +got):\n%s", seed, w.seen, diff)
		}
		for k, n := range w.seen {
			seen[k] += n
		}
		for _, j := range w.server.Jobs() {
			switch {
			case !j.Done:
				t.Errorf("seed %d: nobody waited for job %s", seed, j.ID)
			case j.Reason == "":
				seen["load jobs"]++
			case j.Reason == "invalid":
				seen["returned"]++
			default:
				seen["failed load jobs"]++
			}
		}
		w.server.Close()
		if t.Failed() {
			return
		}
	}
	for _, k := range kinds {
		if seen[k] < enough {
			t.Errorf("%s happened %d times in %d schedules: the test tests nothing", k, seen[k], schedules)
		}
	}
	t.Log(seen)
}

// rounds is how often a random test is to be done: SLUIS_ROUNDS, or few.
func rounds(t *testing.T, few int) int {
	t.Helper()
	text := os.Getenv("SLUIS_ROUNDS")
	if text == "" {
		return few
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// run is a loader: it lands up to end, through sinks that crash, and loads what
// they stage.
func (w *world) run(stateFile string, end uint64) {
	ctx := context.Background()
	s := w.open(stateFile)
	for round := range 1000 {
		next, until, err := s.Position(ctx, spoolID)
		if err != nil {
			w.t.Fatal(err)
		}
		if next >= end && !s.loadBegun() && len(s.staging.spools()) == 0 {
			s.Close()
			return
		}
		if next >= end || w.rng.IntN(3) == 0 {
			if round == 500 {
				w.calm = true // chance alone would end it at last
				w.restart()
			}
			if s.loadStaged(ctx); w.dead {
				s.Close()
				s = w.open(stateFile)
			}
			continue
		}
		if until == 0 {
			until = min(end, next+1+w.rng.Uint64N(25))
		} else {
			w.seen["resumed"]++
		}
		b := batch(next, until)
		for tries := 0; ; tries++ {
			if tries == 50 {
				w.seen["calmed"]++
				w.calm = true // chance alone would end it at last
				w.restart()
			}
			if err = s.Land(ctx, b); err == nil || w.dead || tries > 60 {
				break
			}
		}
		if err != nil && !w.dead {
			w.t.Fatalf("after %v: %v", w.seen, err)
		}
		if w.dead || w.rng.IntN(5) == 0 {
			s.Close()
			s = w.open(stateFile)
		}
	}
	w.t.Fatalf("no end after %v", w.seen)
}

// TestCrashAtEveryStep crashes once, at each step in turn, and goes on.
func TestCrashAtEveryStep(t *testing.T) {
	const records = 16
	for step := 0; ; step++ {
		w := &world{t: t, rng: rand.New(rand.NewPCG(1, 1)), store: t.TempDir(), address: "127.0.0.1:0", rest: "127.0.0.1:0", calm: true, seen: make(map[string]int)}
		w.restart()
		if err := w.server.CreateLanding(project, dataset); err != nil {
			t.Fatal(err)
		}
		w.crashIn = step + 1
		w.run(filepath.Join(t.TempDir(), "state"), records)
		if diff := cmp.Diff(want(records), got(w.server)); diff != "" {
			t.Fatalf("crash at step %d: rows (-want +got):\n%s", step, diff)
		}
		w.server.Close()
		if w.crashIn > 0 { // it was not reached
			if step < 100 {
				t.Errorf("%d steps are too few to test anything", step)
			}
			return
		}
	}
}
