package edge

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/collector/spool"
	"github.com/sluis-cdp/sluis/consent/seal/remote"
)

// TestReadyFollowsTheSink: what cannot land makes the collector not ready until
// it can, and a load balancer may choose to go on meanwhile.
func TestReadyFollowsTheSink(t *testing.T) {
	e := start(t, base)
	ready := e.OperationsURL() + "/readyz"
	if got := problems(t, ready); got != "" {
		t.Fatalf("at the start: %s", got)
	}
	mend := e.breakSink()
	if status, answer := e.post("wk_web", track("m-1")); status != http.StatusOK {
		t.Fatalf("%d %s", status, answer)
	}
	eventually(t, "the sink failing", func() bool { return problems(t, ready) == "sink" })
	if got := problems(t, ready+"?exclude=sink,lag"); got != "" {
		t.Errorf("without the sink: %s", got)
	}
	if _, text := get(t, ready); !strings.Contains(text, "landing has failed since") {
		t.Errorf("the reason is %s", text)
	}
	if status, text := get(t, e.URL()+"/readyz"); status != http.StatusServiceUnavailable || strings.Contains(text, "landing has failed") {
		t.Errorf("the public is told %d %s", status, text)
	}
	if status, _ := get(t, e.URL()+"/healthz"); status != http.StatusOK {
		t.Errorf("healthz: %d", status)
	}
	// Once more than max_lag it is late as well.
	e.configureAs(strings.Replace(base, "operations:\n", "operations:\n  max_lag: 1s\n", 1))
	if err := e.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the lag", func() bool { return problems(t, ready) == "sink lag" })
	mend()
	eventually(t, "landing again", func() bool { return problems(t, ready) == "" })
	if ids := landed(t, e.dir); ids["m-1"] != 1 {
		t.Errorf("landed: %v", ids)
	}
}

func TestReadyFollowsTheDisk(t *testing.T) {
	e := start(t, strings.Replace(base, "operations:\n", "operations:\n  min_disk: 1000000TiB\n", 1))
	if got := problems(t, e.OperationsURL()+"/readyz"); got != "disk" {
		t.Errorf("got %q", got)
	}
	if err := os.RemoveAll(filepath.Join(e.dir, "data", "spool")); err != nil {
		t.Fatal(err)
	}
	if _, text := get(t, e.OperationsURL()+"/readyz"); !strings.Contains(text, "cannot be asked") {
		t.Errorf("without the folder: %s", text)
	}
}

// TestReadyFollowsTheSpool: full or unable to write is not ready, and the spool
// is found to work again without an event.
func TestReadyFollowsTheSpool(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s, err := spool.Open(spool.Options{Dir: dir, SegmentBytes: 64 << 10, MaxBytes: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	h := &health{
		spool: s, loader: &collector.Loader{}, disk: t.TempDir(),
		limits:  func() workspace.Operations { return workspace.Operations{MaxLag: time.Hour} },
		service: func() *remote.Client { return nil },
	}
	check := func(what, want string) {
		t.Helper()
		if got := fmt.Sprint(h.problems(t.Context())); !strings.Contains(got, want) || (want == "[]" && got != want) {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	append_ := func() error {
		_, err := s.Append(t.Context(), make([]byte, 10<<10))
		return err
	}
	if err := append_(); err != nil {
		t.Fatal(err)
	}
	check("in use", "[]")

	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	for append_() == nil { // until a new segment is needed
	}
	check("without its folder", "the spool cannot write")
	if h.passed()["spool"] {
		t.Error("without its folder: passed")
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	check("with it again", "[]")

	for append_() == nil {
	}
	check("full", "the spool is nearly full")
	if err := s.Trim(s.Stats().Next); err != nil {
		t.Fatal(err)
	}
	check("trimmed", "[]")
}
