package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/cmd/internal/tracing/tracingtest"
	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
)

// TestTraces runs a sync as the program does, with a collector of traces that works,
// is away, hangs, and that nobody asked for: each run does the same.
func TestTraces(t *testing.T) {
	s := newTracedSync(t)

	t.Run("none asked for", func(t *testing.T) {
		if log := s.run(t); strings.Contains(log, "traces") {
			t.Errorf("the log is\n%s", log)
		}
	})

	t.Run("a collector", func(t *testing.T) {
		collector := tracingtest.Start(t)
		collector.Environment(t)
		t.Setenv("OTEL_SERVICE_NAME", "shop")
		s.busy = true
		s.run(t)
		ids := regexp.MustCompile(`=([pr])-[0-9]+T[0-9]+-[a-z0-9]+`)
		want := `sluis sync run
  sync run destination.name=webhook plan.id=p run.added=3 run.failed=0 run.held=0 run.id=r run.refreshed=0 run.removed=0 run.skipped=0 run.status=done run.updated=0 sync.name=members
    plan plan.add=3 plan.held=false plan.hold=0 plan.id=p plan.refresh=0 plan.remove=0 plan.unchanged=3 plan.update=0
    apply plan.id=p
      plugin start
      plugin open
      window window.accepted=0 window.attempts=2 window.delivered=3 window.op=upsert window.rejected=0 window.retry=0 window.rows=3 window.skipped=0 window.unknown=0 [wait wait.asked=true wait.seconds=1 window.attempts=1 window.rows=3]
        announce
        write batch.rows=3
        record
        announce
        write batch.rows=3
        record
      plugin close
`
		if diff := cmp.Diff(want, ids.ReplaceAllString(collector.Tree(), "=$1")); diff != "" {
			t.Error(diff)
		}
		if name := collector.Resource()["service.name"]; name != "shop" {
			t.Errorf("the service is %q", name)
		}
	})

	t.Run("a collector that is away", func(t *testing.T) {
		free, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		free.Close()
		t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+free.Addr().String())
		if log := s.run(t); strings.Count(log, "traces cannot be sent") != 1 {
			t.Errorf("the log is\n%s", log)
		}
	})

	t.Run("a collector that hangs", func(t *testing.T) {
		over := make(chan struct{})
		hangs := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-over }))
		defer hangs.Close()
		defer close(over)
		t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", hangs.URL)
		t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
		t.Setenv("OTEL_BSP_EXPORT_TIMEOUT", "100")
		if log := s.run(t); strings.Count(log, "traces cannot be sent") != 1 {
			t.Errorf("the log is\n%s", log)
		}
	})
}

// tracedSync is a sync whose model gains three people before each run.
type tracedSync struct {
	dir     string
	people  int
	arrived int
	busy    bool // the destination lets the next request wait
}

func newTracedSync(t *testing.T) *tracedSync {
	s := &tracedSync{dir: newWorkspace(t)}
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if s.busy {
			s.busy = false
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		s.arrived += bytes.Count(body, []byte(`"op":"upsert"`))
	}))
	t.Cleanup(target.Close)
	files, err := filepath.Glob(filepath.Join(s.dir, "syncs", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	sync := fmt.Sprintf(`model: members
key: profile_id
purpose: marketing
destination: webhook
config: {url: %q, allow_private: "true", secret: {file: keys/webhook.secret}}
mapping:
  - {field: id, column: profile_id}
`, target.URL)
	if err := os.WriteFile(filepath.Join(s.dir, "syncs", "members.yaml"), []byte(sync), 0o600); err != nil {
		t.Fatal(err)
	}
	s.exec(t, `CREATE TABLE sluis_models.members (profile_id VARCHAR)`,
		`CREATE VIEW sluis_models.consent_profile AS SELECT profile_id, 'marketing' AS purpose, TRUE AS allowed, 'd' AS decision_id, '1' AS policy_version, now() AS decided_at FROM sluis_models.members`)
	return s
}

func (s *tracedSync) exec(t *testing.T, statements ...string) {
	t.Helper()
	w, err := workspace.Open(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	db, err := openWarehouse(t.Context(), w, "test", io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, statement := range statements {
		if err := db.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
}

// run is `sluis sync run`, which has to send three people. It returns the log.
func (s *tracedSync) run(t *testing.T) string {
	t.Helper()
	s.exec(t, fmt.Sprintf("INSERT INTO sluis_models.members SELECT 'pr_' || i FROM range(%d, %d) r(i)", s.people, s.people+3))
	s.people += 3
	var stdout, stderr bytes.Buffer
	if code := run(bounded(t), []string{"sluis", "--workspace", s.dir, "sync", "run"}, &stdout, &stderr); code != 0 || s.arrived != s.people {
		t.Fatalf("exit code %d, %d of %d people arrived:\n%s%s", code, s.arrived, s.people, stdout.String(), stderr.String())
	}
	return stderr.String()
}
