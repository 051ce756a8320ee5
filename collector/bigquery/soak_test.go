package bigquery

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/collector/bigquery/storagetest"
	"github.com/sluis-cdp/sluis/collector/spool"
)

// TestMain is also the processes that TestKilledProcesses kills.
func TestMain(m *testing.M) {
	var err error
	switch args := strings.Split(os.Getenv("SLUIS_TEST_ROLE"), "|"); args[0] {
	case "server":
		err = serve(args[1], args[2], args[3], args[4])
	case "collector":
		err = collect(args[1], args[2], args[3], args[4])
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serve is a server until its standard input ends. Mischief befalls its streams
// before it listens.
func serve(dir, address, rest, mischief string) error {
	server, err := storagetest.Start(context.Background(), dir, address, rest)
	if err != nil {
		return err
	}
	if err := server.CreateLanding(project, dataset); err != nil {
		return err
	}
	for _, table := range []string{"events", "ledger"} {
		for _, stream := range server.Streams(path(table)) {
			switch mischief {
			case "finalize":
				err = server.Finalize(stream)
			case "expire":
				err = server.Expire(stream)
			}
			if err != nil {
				return err
			}
		}
	}
	server.JobFault = func(p storagetest.Point, _ string) *storagetest.JobError {
		switch n := rand.IntN(10); {
		case p == storagetest.Run && n < 3:
			return storagetest.Running
		case p == storagetest.Run && n < 5:
			return &storagetest.JobError{Reason: "backendError", Message: "try again"}
		}
		return nil
	}
	fmt.Println(server.Address())
	fmt.Println(server.RESTAddress())
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// collect is a collector: what it says on standard output is in the spool. With
// the name "drain" it lands what is there, loads it, and ends. Two of its three
// sources have load jobs, the third has them now and then.
func collect(dir, address, rest, name string) error {
	s, err := spool.Open(spool.Options{Dir: dir, SegmentBytes: 1 << 20})
	if err != nil {
		return err
	}
	sink, err := open(context.Background(), Config{
		Project: project, Dataset: dataset, Location: "EU", StateFile: filepath.Join(dir, "bigquery.state"), StorageEndpoint: address, Endpoint: "http://" + rest,
		LoadSources: []string{"s0", "s1", "s2"}[:2+rand.IntN(2)], LoadEvery: 20 * time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	defer sink.Close()
	sink.requestSize, sink.jobSize, sink.pollEvery = 4000, 1000, 10*time.Millisecond
	loader := &collector.Loader{Spool: s, Sink: sink, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)), Every: 5 * time.Millisecond}
	done := make(chan error, 1)
	go func() { done <- loader.Run(context.Background()) }()
	if name == "drain" {
		if err := s.Close(); err != nil {
			return err
		}
		err := <-done
		sink.retryLoad(context.Background())
		return err
	}
	sink.startLoads(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0) // the test has ended
	}()
	for i := 0; ; i++ {
		id := fmt.Sprintf("%s-%d", name, i)
		properties := `{}`
		switch {
		case isBad(i) && i%3 == 0:
			properties = `{"n":1e999}` // the load job is to refuse it
		case isBad(i):
			properties = `{` // and this the stream
		}
		source := fmt.Sprintf("s%d", i%3)
		record := collector.Record{ReceivedAt: day, Rows: collector.Rows{
			Events: []collector.EventRow{{EventID: id, SourceID: source, ReceivedAt: day, OccurredAt: day, Properties: properties}},
			Ledger: []collector.LedgerRow{{SourceID: source, Minute: day, Outcome: string(collector.Landed), N: 1}},
		}}
		if _, err := s.Append(context.Background(), record.AppendTo(nil)); err != nil {
			return err
		}
		fmt.Println(id)
	}
}

// isBad tells whether BigQuery refuses the i-th event of a collector.
func isBad(i int) bool { return i%31 == 20 }

// child is a process of this test.
type child struct {
	cmd   *exec.Cmd
	stdin io.Closer
	lines chan string   // closed when it has ended
	ended chan struct{} // closed then, too
}

func start(t *testing.T, log io.Writer, role ...string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "SLUIS_TEST_ROLE="+strings.Join(role, "|"))
	cmd.Stderr = log
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: cmd, stdin: stdin, lines: make(chan string, 1<<20), ended: make(chan struct{})}
	go func() {
		defer close(c.ended)
		defer close(c.lines)
		for in := bufio.NewScanner(stdout); in.Scan(); {
			c.lines <- in.Text()
		}
	}()
	t.Cleanup(c.kill)
	return c
}

// kill ends the process at once, and waits for its end.
func (c *child) kill() {
	c.cmd.Process.Kill()
	<-c.ended // Wait would drop what is not read yet
	c.cmd.Wait()
	c.stdin.Close()
}

// TestKilledProcesses kills the collector and the server with SIGKILL at random
// moments, SLUIS_ROUNDS times. Whatever the collector acknowledged is in the
// table exactly once, and nothing is there twice.
func TestKilledProcesses(t *testing.T) {
	spoolDir, storeDir := filepath.Join(t.TempDir(), "spool"), t.TempDir()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))

	server := start(t, log, "server", storeDir, "127.0.0.1:0", "127.0.0.1:0", "")
	address, rest := <-server.lines, <-server.lines
	var acked []string
	running := start(t, log, "collector", spoolDir, address, rest, "c0")
	many := rounds(t, 5)
	for round := range many {
		for range 1 + rng.IntN(400) {
			id, ok := <-running.lines
			if !ok {
				t.Fatal(failure(log, "the collector ended by itself"))
			}
			acked = append(acked, id)
		}
		if rng.IntN(3) != 0 {
			running.kill()
			for id := range running.lines {
				acked = append(acked, id)
			}
			running = start(t, log, "collector", spoolDir, address, rest, fmt.Sprint("c", round+1))
		}
		if rng.IntN(3) != 0 {
			server.kill()
			server = start(t, log, "server", storeDir, address, rest, []string{"", "", "finalize", "expire"}[rng.IntN(4)])
			if got, too := <-server.lines, <-server.lines; got != address || too != rest {
				t.Fatal(failure(log, "the server did not start again"))
			}
		}
	}
	running.kill()
	for id := range running.lines {
		acked = append(acked, id)
	}
	drain := start(t, log, "collector", spoolDir, address, rest, "drain")
	for range drain.lines { // until it ends
	}
	if err := drain.cmd.Wait(); err != nil {
		t.Fatal(failure(log, fmt.Sprint("draining: ", err)))
	}
	server.kill()
	checkLanded(t, storeDir, acked)
	t.Logf("%d rounds, %d events acknowledged", many, len(acked))
}

func failure(log *os.File, what string) string {
	text, _ := os.ReadFile(log.Name())
	return what + "\n" + string(text[max(0, len(text)-4000):])
}

// checkLanded compares the tables with what was acknowledged.
func checkLanded(t *testing.T, storeDir string, acked []string) {
	t.Helper()
	server := startServer(t, storeDir, "127.0.0.1:0")
	defer server.Close()
	events, refused := make(map[string]int), 0
	for _, row := range server.Rows(path("events")) {
		events[row["event_id"].(string)]++
	}
	for _, row := range server.Rows(path("quarantine")) {
		if row["path"] == "events" {
			refused++
		}
	}
	var landed int64
	for _, row := range server.Rows(path("ledger")) {
		n, err := row["n"].(json.Number).Int64()
		if err != nil {
			t.Fatal(err)
		}
		if row["outcome"] == string(collector.Landed) {
			landed += n
		}
	}
	isBad := func(id string) bool {
		n, err := strconv.Atoi(id[strings.IndexByte(id, '-')+1:])
		return err == nil && isBad(n)
	}
	for _, id := range acked {
		if n := events[id]; n != 1 && !isBad(id) {
			t.Errorf("%s is there %d times", id, n)
		}
	}
	for id, n := range events {
		if n != 1 || isBad(id) {
			t.Errorf("%s is there %d times", id, n)
		}
	}
	if expected := slices.DeleteFunc(slices.Clone(acked), func(id string) bool { return !isBad(id) }); refused < len(expected) {
		t.Errorf("%d refused events are in quarantine, want %d", refused, len(expected))
	}
	loads := make(map[string]int)
	for _, j := range server.Jobs() {
		loads[j.Reason]++
	}
	t.Log("load jobs: ", loads)
	if loads[""] == 0 {
		t.Errorf("load jobs ended as %v: the test tests nothing of them", loads)
	}
	if landed != int64(len(events)) {
		t.Errorf("the ledger says that %d events landed, and %d did", landed, len(events))
	}
}
