package bigquery

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
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
	mustFail(t, s.Land(ctx, b), "bigquery.tables.updateData", "sluisCollector", "stay in the spool")
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
	s := openSink(t, testConfig(server.Address(), filepath.Join(t.TempDir(), "state")))
	s.config.Timeout = 50 * time.Millisecond
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

// TestRequestThatWasOnItsWay: a request of a process that crashed arrives when the
// next one has landed the batch with other offsets, since BigQuery refused a row.
func TestRequestThatWasOnItsWay(t *testing.T) {
	server := landingServer(t)
	server.Fault = func(storagetest.Point, string, int64) error { return storagetest.ErrCut }
	config := testConfig(server.Address(), filepath.Join(t.TempDir(), "state"))
	ctx := context.Background()
	b := collector.Batch{SpoolID: spoolID, First: 1, Last: 2, Day: day, Rows: collector.Rows{Events: []collector.EventRow{
		{EventID: "refused", Properties: "{", OccurredAt: day, ReceivedAt: day}, {EventID: "good", OccurredAt: day, ReceivedAt: day},
	}}}
	s := openSink(t, config)
	s.requestSize = 1
	mustFail(t, s.Land(ctx, b), "away")
	stream := server.Streams(path("events"))[0]
	s.Close()

	server.Close()
	server = startServer(t, server.Dir(), server.Address())
	t.Cleanup(func() { server.Close() })
	s = openSink(t, config)
	s.requestSize = 1
	if err := s.Land(ctx, b); err != nil {
		t.Fatal(err)
	}
	events := s.table("events")
	late, err := s.batches.connect(ctx, "late", stream)
	if err != nil {
		t.Fatal(err)
	}
	if err := late.send(*events, 1, [][]byte{events.encode(events.in(&b.Rows).Index(1))}); err != nil {
		t.Fatal(err)
	}
	if err := late.receive(0); err == nil {
		t.Error("the request that came late was taken")
	}
	if rows := server.Rows(path("events")); len(rows) != 1 || rows[0]["event_id"] != "good" {
		t.Errorf("the table has %v", rows)
	}
}

// TestStreamExpires between batches, which is common, and must not need any right
// to read; and in the middle of one, which does.
func TestStreamExpires(t *testing.T) {
	server := landingServer(t)
	cut := false // in the middle of the events, from now on
	server.Fault = func(p storagetest.Point, table string, _ int64) error {
		if cut && table == "events" && p == storagetest.AfterStore {
			return storagetest.ErrCut
		}
		return nil
	}
	config := testConfig(server.Address(), filepath.Join(t.TempDir(), "state"))
	readable := false
	config.dial = append(config.dial, grpc.WithChainUnaryInterceptor(
		func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			if strings.HasSuffix(method, "/CreateReadSession") && !readable {
				return status.Error(codes.PermissionDenied, "no")
			}
			return invoke(ctx, method, req, reply, cc, opts...)
		}))
	s := openSink(t, config)
	s.requestSize = 500 // several requests
	ctx := context.Background()
	expire := func() {
		for _, table := range []string{"events", "ledger", "vault", "seal_keys", "quarantine"} {
			for _, stream := range server.Streams(path(table)) {
				if err := server.Expire(stream); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for first := uint64(0); first < 80; first += 40 {
		if err := s.Land(ctx, batch(first, first+40)); err != nil {
			t.Fatal(err)
		}
		expire()
	}
	cut = true
	mustFail(t, s.Land(ctx, batch(80, 120)), "away")
	expire()
	cut = false
	mustFail(t, s.Land(ctx, batch(80, 120)), "roles/bigquery.dataViewer", "roles/bigquery.readSessionUser")
	readable = true
	if err := s.Land(ctx, batch(80, 120)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want(120), got(server)); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

// TestIdentities: Google is not called before there is something to land.
func TestIdentities(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key.json")
	text, err := json.Marshal(map[string]string{
		"type": "service_account", "project_id": "p", "private_key_id": "k", "client_email": "collector@p.iam.gserviceaccount.com",
		"client_id": "1", "token_uri": "https://127.0.0.1:1/token",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	config := testConfig("", filepath.Join(t.TempDir(), "state"))
	for _, impersonate := range []string{"", "landing@p.iam.gserviceaccount.com"} {
		config.CredentialsFile, config.Impersonate = file, impersonate
		s, err := Open(context.Background(), config)
		if err != nil {
			t.Errorf("with the key file, acting as %q: %v", impersonate, err)
			continue
		}
		s.Close()
	}
	workload := filepath.Join(t.TempDir(), "workload.json")
	if err := os.WriteFile(workload, []byte(`{"type": "external_account", "audience": "a", "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
		"token_url": "https://127.0.0.1:1/token", "credential_source": {"file": "token"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	config.CredentialsFile, config.Impersonate = workload, ""
	if s, err := Open(context.Background(), config); err != nil {
		t.Errorf("with workload identity: %v", err)
	} else {
		s.Close()
	}
	config.CredentialsFile = filepath.Join(t.TempDir(), "missing")
	if _, err := Open(context.Background(), config); err == nil {
		t.Error("a key file that is missing is no error")
	}
	if _, err := Open(context.Background(), Config{Project: project}); err == nil {
		t.Error("a configuration without a state file is no error")
	}
}

// TestUnknownCaller: credentials that do not count are another matter than what
// their holder may do.
func TestUnknownCaller(t *testing.T) {
	err := classify(status.Error(codes.Unauthenticated, `transport: per-RPC creds failed due to error: auth: "invalid_grant"`))
	mustFail(t, err, "does not know who the collector is", "gcloud auth application-default login", "stay in the spool")
	if strings.Contains(err.Error(), "bigquery.tables") {
		t.Errorf("permissions are beside the point: %v", err)
	}
}
