package bigquery

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/collector/bigquery/storagetest"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

func mustFail(t *testing.T, err error, want ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", want)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the error %q does not say %q", err, w)
		}
	}
}

// TestHalts: what cannot be put right without guessing stops landing, also after
// a restart, and nothing is written from then on.
func TestHalts(t *testing.T) {
	tests := map[string]struct {
		do   func(t *testing.T, server *storagetest.Server, stateFile string, before []byte)
		want string
	}{
		"rows of a landed batch are lost": {
			do: func(t *testing.T, server *storagetest.Server, _ string, _ []byte) {
				if err := server.Forget(server.Streams(path("ledger"))[0], 1); err != nil {
					t.Fatal(err)
				}
			},
			want: "1 rows of batches that had landed in ledger are no longer",
		},
		"an old state file is restored": {
			do: func(t *testing.T, _ *storagetest.Server, stateFile string, before []byte) {
				if err := os.WriteFile(stateFile, before, 0o600); err != nil {
					t.Fatal(err)
				}
			},
			want: "rows that this collector did not write",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			server := landingServer(t)
			stateFile := filepath.Join(t.TempDir(), "state")
			config := testConfig(server.Address(), stateFile)
			ctx := context.Background()
			var before []byte
			for first := uint64(1); first < 21; first += 10 {
				s := openSink(t, config)
				if err := s.Land(ctx, batch(first, first+10)); err != nil {
					t.Fatal(err)
				}
				s.Close()
				if first == 1 {
					before, _ = os.ReadFile(stateFile)
				}
			}
			test.do(t, server, stateFile, before)
			left := got(server)
			s := openSink(t, config)
			next, _, err := s.Position(ctx, spoolID)
			if err != nil {
				t.Fatal(err)
			}
			b := batch(next, next+5)
			b.SealKeys, b.Events, b.Vault, b.Quarantine = nil, nil, nil, nil
			for range 3 {
				mustFail(t, s.Land(ctx, b), test.want, stateFile, "To go on")
				s.Close()
				s = openSink(t, config)
			}
			if diff := cmp.Diff(left, got(server)); diff != "" {
				t.Errorf("rows were written (-before +after):\n%s", diff)
			}
			if _, _, err := s.Position(ctx, spoolID); err != nil {
				t.Errorf("the collector cannot start: %v", err)
			}
		})
	}
}

// TestLostRowsAreSentAgain: BigQuery takes back rows of the batch that is landing.
func TestLostRowsAreSentAgain(t *testing.T) {
	server := landingServer(t)
	asked := 0
	server.Fault = func(p storagetest.Point, table string, _ int64) error {
		if asked++; table == "ledger" && p == storagetest.BeforeStore && asked > 4 {
			return status.Error(codes.PermissionDenied, "not now")
		}
		return nil
	}
	s := openSink(t, testConfig(server.Address(), filepath.Join(t.TempDir(), "state")))
	s.requestSize = 150
	ctx := context.Background()
	b := batch(1, 41)
	b.Events, b.Vault, b.Quarantine, b.SealKeys = nil, nil, nil, nil
	mustFail(t, s.Land(ctx, b), "roles/bigquery.dataEditor", "stay in the spool")
	rows := len(server.Rows(path("ledger")))
	if rows == 0 {
		t.Fatal("nothing was stored before the failure")
	}
	if err := server.Forget(server.Streams(path("ledger"))[0], 1); err != nil {
		t.Fatal(err)
	}
	asked = -1000
	if err := s.Land(ctx, b); err != nil {
		t.Fatal(err)
	}
	if rows := len(server.Rows(path("ledger"))); rows != 40 {
		t.Errorf("%d rows, want 40", rows)
	}
}

// TestTableIsNotReady: no table, then one that lacks a column, with and without
// a stream. Rows wait, and land when it is.
func TestTableIsNotReady(t *testing.T) {
	server := startServer(t, t.TempDir(), "127.0.0.1:0")
	t.Cleanup(func() { server.Close() })
	s := openSink(t, testConfig(server.Address(), filepath.Join(t.TempDir(), "state")))
	ctx := context.Background()
	mustFail(t, s.Land(ctx, batch(0, 10)), "does not exist", "sluis doctor --fix")
	var events warehouse.Table
	for _, table := range warehouse.Landing() {
		if table.Name == "events" {
			events = table
		}
	}
	if err := server.CreateLanding(project, dataset); err != nil {
		t.Fatal(err)
	}
	narrow := &storagepb.TableSchema{}
	for _, f := range storagetest.Schema(events).Fields {
		if f.Name != "plan_version" {
			narrow.Fields = append(narrow.Fields, f)
		}
	}
	if err := server.CreateTable(path("events"), narrow); err != nil {
		t.Fatal(err)
	}
	mustFail(t, s.Land(ctx, batch(0, 10)), "lacks columns", "plan_version", "sluis doctor --fix")
	if err := server.CreateTable(path("events"), storagetest.Schema(events)); err != nil {
		t.Fatal(err)
	}
	if err := s.Land(ctx, batch(0, 10)); err != nil {
		t.Fatal(err)
	}
	if err := server.CreateTable(path("events"), narrow); err != nil {
		t.Fatal(err)
	}
	mustFail(t, s.Land(ctx, batch(10, 20)), "lacks columns", "plan_version", "sluis doctor --fix")
	if err := server.CreateTable(path("events"), storagetest.Schema(events)); err != nil {
		t.Fatal(err)
	}
	if err := s.Land(ctx, batch(10, 20)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want(20), got(server)); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

// TestAnswerThatNeverComes: the connection is cut, and what was sent is sent again.
func TestAnswerThatNeverComes(t *testing.T) {
	server := landingServer(t)
	release := make(chan struct{})
	first := true
	server.Fault = func(p storagetest.Point, _ string, _ int64) error {
		if p == storagetest.AfterStore && first {
			first = false
			<-release
		}
		return nil
	}
	config := testConfig(server.Address(), filepath.Join(t.TempDir(), "state"))
	config.Timeout = 50 * time.Millisecond
	s := openSink(t, config)
	ctx := context.Background()
	err := s.Land(ctx, batch(0, 10))
	if !errors.Is(err, errTransient) {
		t.Fatalf("without an answer: %v", err)
	}
	close(release)
	s.config.Timeout = time.Minute
	if err := s.Land(ctx, batch(0, 10)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want(10), got(server)); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

// TestCancel: a loader that ends does not wait for BigQuery.
func TestCancel(t *testing.T) {
	server := landingServer(t)
	ctx, cancel := context.WithCancel(context.Background())
	release := make(chan struct{})
	defer close(release)
	server.Fault = func(storagetest.Point, string, int64) error {
		cancel()
		<-release
		return nil
	}
	s := openSink(t, testConfig(server.Address(), filepath.Join(t.TempDir(), "state")))
	if err := s.Land(ctx, batch(0, 10)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestLargeBatch needs several requests of the real size.
func TestLargeBatch(t *testing.T) {
	server := landingServer(t)
	s := openSink(t, testConfig(server.Address(), filepath.Join(t.TempDir(), "state")))
	b := collector.Batch{SpoolID: spoolID, First: 1, Last: 2, Day: day}
	long := `"` + strings.Repeat("x", 400_000) + `"`
	for range 60 {
		b.Events = append(b.Events, collector.EventRow{EventID: "e", Properties: long, OccurredAt: day, ReceivedAt: day})
	}
	if err := s.Land(context.Background(), b); err != nil {
		t.Fatal(err)
	}
	if n := len(server.Rows(path("events"))); n != 60 {
		t.Errorf("%d rows, want 60", n)
	}
}

// TestAnotherBatch: a begun batch must be finished with the same records.
func TestAnotherBatch(t *testing.T) {
	server := landingServer(t)
	server.Fault = func(storagetest.Point, string, int64) error { return storagetest.ErrCut }
	config := testConfig(server.Address(), filepath.Join(t.TempDir(), "state"))
	ctx := context.Background()
	s := openSink(t, config)
	mustFail(t, s.Land(ctx, batch(5, 15)), "away")
	if next, until, err := s.Position(ctx, spoolID); next != 5 || until != 15 || err != nil {
		t.Errorf("the position is %d, %d, %v", next, until, err)
	}
	if next, until, err := s.Position(ctx, "another spool"); next != 0 || until != 0 || err != nil {
		t.Errorf("another spool's position is %d, %d, %v", next, until, err)
	}
	mustFail(t, s.Land(ctx, batch(5, 16)), "must be finished first")
	s.Close()
	s = openSink(t, config)
	fewer := batch(5, 15)
	fewer.Ledger = fewer.Ledger[1:]
	mustFail(t, s.Land(ctx, fewer), "ledger", "but had")
}

func TestStateFile(t *testing.T) {
	stateFile := filepath.Join(t.TempDir(), "state")
	config := testConfig("127.0.0.1:1", stateFile)
	s := openSink(t, config)
	if _, err := Open(context.Background(), config); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a second sink with the same state file: %v", err)
	}
	change := func(spool *spoolState) { spool.Next = 7 }
	if err := s.update(spoolID, change); err != nil {
		t.Fatal(err)
	}
	s.Close()
	data, err := os.ReadFile(stateFile)
	if err != nil {
		t.Fatal(err)
	}
	for i := range data[:len(data)-1] { // the last is a newline
		damaged := append([]byte(nil), data...)
		damaged[i] ^= 1
		if err := os.WriteFile(stateFile, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if st, err := loadState(stateFile); err == nil {
			t.Errorf("damage at byte %d is not noticed: %s gives %+v", i, damaged, st.Spools)
		}
	}
	if err := os.WriteFile(stateFile, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if st, err := loadState(stateFile); err != nil || st.spool(spoolID).Next != 7 {
		t.Errorf("the whole file: %+v, %v", st, err)
	}
}
