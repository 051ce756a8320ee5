package bigquery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/collector/bigquery/storagetest"
)

// loadConfig is testConfig with load jobs for the source app.
func loadConfig(server *storagetest.Server, stateFile string) Config {
	config := testConfig(server.Address(), stateFile)
	config.Endpoint, config.LoadSources = "http://"+server.RESTAddress(), []string{"app"}
	return config
}

// openIdle opens a sink that loads only when it is told to.
func openIdle(t testing.TB, config Config) *Sink {
	t.Helper()
	s, err := open(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	s.pollEvery = time.Millisecond
	return s
}

func mustLand(t *testing.T, s *Sink, batches ...collector.Batch) {
	t.Helper()
	for _, b := range batches {
		if err := s.Land(context.Background(), b); err != nil {
			t.Fatal(err)
		}
	}
}

func mustLoad(t *testing.T, s *Sink) {
	t.Helper()
	if err := s.loadStaged(context.Background()); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(s.staging.dir, "*")); len(left) > 0 || s.loadBegun() {
		t.Errorf("after a load %v are left, and a job that was begun: %v", left, s.loadBegun())
	}
}

func mustHave(t *testing.T, server *storagetest.Server, want map[string]int) {
	t.Helper()
	if diff := cmp.Diff(want, got(server)); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

// good returns a batch without what BigQuery refuses.
func good(first, last uint64) collector.Batch {
	b := batch(first, last)
	for i := range b.Events {
		b.Events[i].Properties = `{"n":1}`
	}
	return b
}

// wantGood is want for such batches.
func wantGood(first, last uint64) map[string]int {
	counts := make(map[string]int)
	b := good(first, last)
	for _, e := range b.Events {
		counts["events "+e.EventID]++
	}
	for _, v := range b.Vault {
		counts["vault "+v.Pseudonym]++
	}
	for _, q := range b.Quarantine {
		counts["quarantine "+q.QuarantineID]++
	}
	for _, k := range b.SealKeys {
		counts["seal_keys "+k.KeyID]++
	}
	for _, l := range b.Ledger {
		counts[fmt.Sprintf("ledger %s landed 1 %d", l.SourceID, l.SpoolOffset)]++
	}
	return counts
}

// TestLoad: events of a chosen source wait in private files, and everything else
// is in its table at once; then one job brings them all.
func TestLoad(t *testing.T) {
	server := landingServer(t)
	s := openIdle(t, loadConfig(server, filepath.Join(t.TempDir(), "state")))
	mustLand(t, s, good(0, 20), good(20, 40), good(40, 60))
	first := wantGood(0, 60)
	staged := 0
	for _, e := range good(0, 60).Events {
		if e.SourceID == "app" {
			delete(first, "events "+e.EventID)
			staged++
		}
	}
	mustHave(t, server, first)
	files, _ := filepath.Glob(filepath.Join(s.staging.dir, "*"))
	if len(files) != 3 || staged == 0 {
		t.Errorf("%d events wait in %v", staged, files)
	}
	for _, file := range files {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file, info.Mode(), err)
		}
	}
	mustLoad(t, s)
	mustLoad(t, s) // nothing is left to load
	mustHave(t, server, wantGood(0, 60))
	jobs := server.Jobs()
	if len(jobs) != 1 || !regexp.MustCompile(`^sluis_load_`+spoolID+`_0_60_[0-9a-f]{16}_0$`).MatchString(jobs[0].ID) {
		t.Errorf("jobs %v", jobs)
	}
}

// TestEveryColumnIsLoaded loads a row with all fields and one with none.
func TestEveryColumnIsLoaded(t *testing.T) {
	server := landingServer(t)
	config := loadConfig(server, filepath.Join(t.TempDir(), "state"))
	config.LoadSources = []string{`"SourceID"`, ""}
	s := openIdle(t, config)
	b := collector.Batch{SpoolID: spoolID, First: 1, Last: 2, Day: day, Rows: collector.Rows{Events: make([]collector.EventRow, 2)}}
	b.Events[1].OccurredAt, b.Events[1].ReceivedAt = day, day
	fill(reflect.ValueOf(&b.Events[0]).Elem())
	mustLand(t, s, b)
	mustLoad(t, s)
	if jobs := server.Jobs(); len(jobs) != 1 || jobs[0].Reason != "" {
		t.Errorf("jobs %v", jobs)
	}
	rows := server.Rows(path(events))
	if len(rows) != 2 {
		t.Fatalf("%d rows, want 2", len(rows))
	}
	for i, row := range rows {
		b.Events[i].SpoolID = loadsOf(spoolID) // since they land in an order of their own
		if diff := cmp.Diff(plain(*s.table(events), reflect.ValueOf(b.Events[i])), row); diff != "" {
			t.Errorf("row %d (-want +got):\n%s", i, diff)
		}
	}
}

// TestLines: what is written as a line is read back as it was, or is not written.
func TestLines(t *testing.T) {
	tables, err := landingTables()
	if err != nil {
		t.Fatal(err)
	}
	table := (&Sink{tables: tables}).table(events)
	var full collector.EventRow
	fill(reflect.ValueOf(&full).Elem())
	rows := []collector.EventRow{full}
	for _, text := range []string{"", "a", `"`, `\`, "\n", "\x00", "<&>\u2028", "é\U0001F980", strings.Repeat("x", 100_000)} {
		rows = append(rows, collector.EventRow{
			EventID: text, UserID: text, Purposes: []string{text, text}, Identifiers: []collector.IdentifierRow{{Kind: text, Pseudonym: text}},
			Properties: `{"n":12345678901234567890.5,"s":"\u00e9 <"}`, OccurredAt: day.Add(time.Microsecond), Origin: collector.Origin{SpoolOffset: 1<<63 - 1},
		})
	}
	var lines []byte
	for i := range rows {
		var ok bool
		if lines, ok = table.appendLine(lines, reflect.ValueOf(rows[i])); !ok {
			t.Errorf("row %d cannot be written", i)
		}
	}
	if n := bytes.Count(lines, []byte{'\n'}); n != len(rows) {
		t.Errorf("%d lines, want %d", n, len(rows))
	}
	var read []collector.EventRow
	if err := table.readLines(bytes.NewReader(lines), reflect.ValueOf(&read).Elem()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(rows, read, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("rows (-written +read):\n%s", diff)
	}
	for name, row := range map[string]collector.EventRow{
		"text":       {EventID: "\xff"},
		"list":       {Purposes: []string{"a", "\xff"}},
		"kind":       {Identifiers: []collector.IdentifierRow{{Kind: "\xff"}}},
		"pseudonym":  {Identifiers: []collector.IdentifierRow{{Pseudonym: "\xff"}}},
		"no JSON":    {Properties: "{"},
		"not UTF-8":  {Properties: "\"\xff\""},
		"year 10000": {OccurredAt: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		if after, ok := table.appendLine(lines, reflect.ValueOf(row)); ok || len(after) != len(lines) {
			t.Errorf("%s is written: %s", name, after[len(lines):])
		}
	}
}

// transport changes what goes to and comes from the server of jobs.
type transport func(r *http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestJobFates: whatever becomes of a job, each event is in the table once.
func TestJobFates(t *testing.T) {
	once := func(at storagetest.Point, failed *storagetest.JobError) func() func(storagetest.Point, string) *storagetest.JobError {
		return func() func(storagetest.Point, string) *storagetest.JobError {
			done := false
			return func(p storagetest.Point, _ string) *storagetest.JobError {
				if p != at || done {
					return nil
				}
				done = true
				return failed
			}
		}
	}
	always := func(at storagetest.Point, failed *storagetest.JobError) func() func(storagetest.Point, string) *storagetest.JobError {
		return func() func(storagetest.Point, string) *storagetest.JobError {
			return func(p storagetest.Point, _ string) *storagetest.JobError {
				if p == at {
					return failed
				}
				return nil
			}
		}
	}
	passing := &storagetest.JobError{Reason: "backendError", Message: "try again"}
	tests := map[string]struct {
		fault   func() func(storagetest.Point, string) *storagetest.JobError
		errors  []string // what the tries before the one that succeeds say
		reasons []string // how the jobs end
		streams int      // of events that a job did not take
	}{
		"all is well":              {once("", nil), nil, []string{""}, 0},
		"the request is lost":      {once(storagetest.BeforeStore, storagetest.CutJob), []string{"inserting job"}, []string{""}, 0},
		"the answer is lost":       {once(storagetest.AfterStore, storagetest.CutJob), []string{"inserting job"}, []string{""}, 0},
		"the job takes long":       {once(storagetest.Run, storagetest.Running), nil, []string{""}, 0},
		"the job fails":            {once(storagetest.Run, passing), []string{"try again"}, []string{"backendError", ""}, 0},
		"every job fails":          {always(storagetest.Run, passing), repeated("try again", 4), repeated("backendError", 5), 1},
		"the rows are not taken":   {once(storagetest.Run, &storagetest.JobError{Reason: "invalid"}), nil, []string{"invalid"}, 1},
		"the account may not load": {once(storagetest.BeforeStore, &storagetest.JobError{Code: 403, Reason: "accessDenied"}), []string{"roles/bigquery.jobUser"}, []string{""}, 0},
		"the quota is used up":     {once(storagetest.Run, &storagetest.JobError{Reason: "quotaExceeded"}), []string{"load_every"}, []string{"quotaExceeded", ""}, 0},
		"the server is ill":        {once(storagetest.AfterStore, &storagetest.JobError{Code: 503}), []string{"inserting job"}, []string{""}, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			server := landingServer(t)
			server.JobFault = test.fault()
			config := loadConfig(server, filepath.Join(t.TempDir(), "state"))
			s := openIdle(t, config)
			mustLand(t, s, good(0, 20))
			for _, want := range test.errors {
				mustFail(t, s.loadStaged(context.Background()), want)
				s.Close() // what is begun is in the state
				s = openIdle(t, config)
			}
			mustLoad(t, s)
			mustHave(t, server, wantGood(0, 20))
			var reasons []string
			for _, j := range server.Jobs() {
				reasons = append(reasons, j.Reason)
			}
			if diff := cmp.Diff(test.reasons, reasons); diff != "" {
				t.Errorf("ends of jobs (-want +got):\n%s", diff)
			}
			if n := len(server.Streams(path(events))); n != 1+test.streams {
				t.Errorf("%d streams of events", n)
			}
		})
	}
}

func repeated(s string, n int) []string {
	return slices.Repeat([]string{s}, n)
}

// TestJobThatWasOnItsWay: the request of a process that crashed arrives between
// the question whether the job exists and the request of the next one.
func TestJobThatWasOnItsWay(t *testing.T) {
	server := landingServer(t)
	config := loadConfig(server, filepath.Join(t.TempDir(), "state"))
	conflicts := 0
	config.http = transport(func(r *http.Request) (*http.Response, error) {
		if r.Method != http.MethodPost {
			return http.DefaultTransport.RoundTrip(r)
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		earlier := r.Clone(r.Context())
		earlier.Body = io.NopCloser(bytes.NewReader(body))
		resp, err := http.DefaultTransport.RoundTrip(earlier)
		if err != nil {
			return nil, err
		}
		resp.Body.Close()
		r.Body = io.NopCloser(bytes.NewReader(body))
		resp, err = http.DefaultTransport.RoundTrip(r)
		if err == nil && resp.StatusCode == http.StatusConflict {
			conflicts++
		}
		return resp, err
	})
	s := openIdle(t, config)
	mustLand(t, s, good(0, 20))
	mustLoad(t, s)
	mustHave(t, server, wantGood(0, 20))
	if len(server.Jobs()) != 1 || conflicts != 1 {
		t.Errorf("%d jobs, %d conflicts", len(server.Jobs()), conflicts)
	}
}

// TestJobLoadsFewer: BigQuery says that a job succeeded, and not with all rows.
// Loading stops, and landing goes on.
func TestJobLoadsFewer(t *testing.T) {
	server := landingServer(t)
	config := loadConfig(server, filepath.Join(t.TempDir(), "state"))
	config.http = transport(func(r *http.Request) (*http.Response, error) {
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		body = regexp.MustCompile(`"outputRows":"\d+"`).ReplaceAll(body, []byte(`"outputRows":"1"`))
		resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		return resp, err
	})
	s := openIdle(t, config)
	mustLand(t, s, good(0, 20))
	for range 2 {
		mustFail(t, s.loadStaged(context.Background()), "loaded 1 rows of", "landing has stopped", "To go on")
		s.Close()
		s = openIdle(t, config)
	}
	mustLand(t, s, good(20, 40))
	if n := len(server.Jobs()); n != 1 {
		t.Errorf("%d jobs", n)
	}
}

// TestStagingIsFull: beyond the bound what is to be staged stays in the spool,
// and nothing else does.
func TestStagingIsFull(t *testing.T) {
	server := landingServer(t)
	config := loadConfig(server, filepath.Join(t.TempDir(), "state"))
	s := openIdle(t, config)
	s.staging.limit = 1
	mustLand(t, s, good(0, 20))
	s.staging.failed(errors.New("nobody is there"))
	left := got(server)
	for range 2 {
		mustFail(t, s.Land(context.Background(), good(20, 40)), "wait for load jobs", "nobody is there")
		s.Close()
		s = openIdle(t, config)
		s.staging.limit = 1
		s.staging.failed(errors.New("nobody is there"))
	}
	if diff := cmp.Diff(left, got(server)); diff != "" {
		t.Errorf("rows were written (-before +after):\n%s", diff)
	}
	mustLoad(t, s)
	mustLand(t, s, good(20, 40))
	others := good(40, 60)
	others.Events = nil
	mustLand(t, s, others)
	mustLoad(t, s)
	want := wantGood(0, 60)
	for _, e := range good(40, 60).Events {
		delete(want, "events "+e.EventID)
	}
	mustHave(t, server, want)
}

// TestSourcesChange in the middle of a batch: it goes on as it was begun.
func TestSourcesChange(t *testing.T) {
	for _, sources := range [][][]string{{{"app"}, nil}, {nil, {"app"}}, {{"app"}, {"web"}}, {{"web"}, {"app", "web"}}} {
		t.Run(fmt.Sprint(sources), func(t *testing.T) {
			server := landingServer(t)
			cut := true
			server.Fault = func(p storagetest.Point, table string, _ int64) error {
				if cut && p == storagetest.BeforeStore && table == ledger { // the events are there
					return storagetest.ErrCut
				}
				return nil
			}
			config := loadConfig(server, filepath.Join(t.TempDir(), "state"))
			config.LoadSources = sources[0]
			s := openIdle(t, config)
			mustFail(t, s.Land(context.Background(), batch(0, 30)), "away")
			s.Close()
			cut = false
			config.LoadSources = sources[1]
			s = openIdle(t, config)
			mustLand(t, s, batch(0, 30), batch(30, 60))
			mustLoad(t, s)
			mustHave(t, server, want(60))
		})
	}
}

// TestStagedEventsDiffer: the spool does not give the staged events again.
func TestStagedEventsDiffer(t *testing.T) {
	server := landingServer(t)
	server.Fault = func(storagetest.Point, string, int64) error { return storagetest.ErrCut }
	config := loadConfig(server, filepath.Join(t.TempDir(), "state"))
	s := openIdle(t, config)
	mustFail(t, s.Land(context.Background(), good(0, 30)), "away")
	s.Close()
	s = openIdle(t, config)
	fewer := good(0, 30)
	for i, e := range fewer.Events {
		if e.SourceID == "app" {
			fewer.Events = append(fewer.Events[:i], fewer.Events[i+1:]...)
			break
		}
	}
	mustFail(t, s.Land(context.Background(), fewer), "load jobs", "but had")
}

// TestDamagedFile: a staged file that cannot be read is kept aside, and does not
// block the others.
func TestDamagedFile(t *testing.T) {
	server := landingServer(t)
	s := openIdle(t, loadConfig(server, filepath.Join(t.TempDir(), "state")))
	mustLand(t, s, good(0, 20), good(20, 40), good(40, 60), good(60, 80))
	files := s.staging.waiting(spoolID, 80)
	for i, damage := range []func([]byte) []byte{
		func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		func(b []byte) []byte { return b[:len(b)-1] },
		func([]byte) []byte { return nil },
	} {
		content, err := os.ReadFile(s.staging.path(files[i]))
		if err == nil {
			err = os.WriteFile(s.staging.path(files[i]), damage(content), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	mustLoad(t, s)
	want := wantGood(0, 80)
	for _, e := range good(0, 60).Events {
		if e.SourceID == "app" {
			delete(want, "events "+e.EventID)
		}
	}
	mustHave(t, server, want)
	if kept, _ := filepath.Glob(filepath.Join(s.refusedDir(), "*"+stagedEnd)); len(kept) != 3 {
		t.Errorf("kept aside: %v", kept)
	}
}

// TestStateFileIsMovedAway: what is staged is no longer in the spool, and is
// loaded all the same.
func TestStateFileIsMovedAway(t *testing.T) {
	server := landingServer(t)
	config := loadConfig(server, filepath.Join(t.TempDir(), "state"))
	s := openIdle(t, config)
	mustLand(t, s, good(0, 20), good(20, 40))
	s.Close()
	if err := os.Remove(config.StateFile); err != nil {
		t.Fatal(err)
	}
	s = openIdle(t, config)
	mustLand(t, s, good(40, 60)) // the spool has no other records
	mustLoad(t, s)
	mustHave(t, server, wantGood(0, 60))
}

// TestReturnedEventsAreCounted: a stream expires while events that a job did not
// take land, so that the table must tell how many arrived: of them, and not of
// what else came from the same records.
func TestReturnedEventsAreCounted(t *testing.T) {
	for _, table := range []string{events, quarantine, ledger} {
		t.Run(table, func(t *testing.T) {
			server := landingServer(t)
			cut, stored := false, false
			server.Fault = func(p storagetest.Point, at string, _ int64) error {
				if cut && at == table && (stored || p == storagetest.AfterStore) {
					stored = true // some of the rows, and no more
					return storagetest.ErrCut
				}
				return nil
			}
			config := loadConfig(server, filepath.Join(t.TempDir(), "state"))
			s := openIdle(t, config)
			s.requestSize = 500
			mustLand(t, s, batch(0, 60))
			cut = true
			mustFail(t, s.loadStaged(context.Background()), "away")
			for _, stream := range server.Streams(path(table)) {
				if err := server.Expire(stream); err != nil {
					t.Fatal(err)
				}
			}
			cut = false
			s.Close()
			s = openIdle(t, config)
			mustLoad(t, s)
			mustHave(t, server, want(60))
		})
	}
}

// TestNextLoad: a load waits for more events, the oldest no longer than is
// configured, also over a restart.
func TestNextLoad(t *testing.T) {
	server := landingServer(t)
	config := loadConfig(server, filepath.Join(t.TempDir(), "state"))
	config.LoadEvery = time.Hour
	s := openIdle(t, config)
	next := func(want time.Duration, some bool) {
		t.Helper()
		got, due := s.nextLoad()
		if due != some || got > want || want-got > time.Minute {
			t.Errorf("the next load is in %s, %v; want %s, %v", got, due, want, some)
		}
	}
	next(0, false)
	mustLand(t, s, good(0, 20))
	next(time.Hour, true)
	file := s.staging.path(s.staging.waiting(spoolID, 20)[0])
	for _, ago := range []time.Duration{20 * time.Minute, 2 * time.Hour, -2 * time.Hour} {
		if err := os.Chtimes(file, time.Time{}, time.Now().Add(-ago)); err != nil {
			t.Fatal(err)
		}
		s.Close()
		s = openIdle(t, config)
		next(min(max(0, time.Hour-ago), time.Hour), true)
	}
	s.jobSize = 1
	next(0, true)
	s.jobSize = maxJobBytes
	if _, err := s.beginJob(spoolID, 0); err != nil {
		t.Fatal(err)
	}
	next(0, true)
}

// TestLoadsWhileLanding loads in the background, as it is meant to be.
func TestLoadsWhileLanding(t *testing.T) {
	server := landingServer(t)
	config := loadConfig(server, filepath.Join(t.TempDir(), "state"))
	config.LoadEvery = time.Millisecond
	s := openSink(t, config)
	for first := uint64(0); first < 400; first += 10 {
		mustLand(t, s, batch(first, first+10))
	}
	s.Close()
	s = openIdle(t, config)
	if err := s.loadStaged(context.Background()); err != nil {
		t.Fatal(err)
	}
	mustHave(t, server, want(400))
}
