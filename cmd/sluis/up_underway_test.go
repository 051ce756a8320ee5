package main

import (
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
)

// gate lets the first request through, and the others once it is open.
type gate struct {
	next    http.Handler
	passed  chan struct{} // has one
	waiting chan struct{} // one comes for each that waits
	open    chan struct{}
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	select {
	case <-g.passed:
	default:
		select {
		case g.waiting <- struct{}{}:
		case <-g.open:
		}
		<-g.open
	}
	g.next.ServeHTTP(w, r)
}

// A sync that takes long keeps neither the others nor the models waiting, and who
// withdraws after it has sent them is removed before it goes on.
func TestWithdrawalDuringALongRun(t *testing.T) {
	const slow, people = "pricing_and_chat_webhook", 4
	g := &gate{passed: make(chan struct{}, 1), waiting: make(chan struct{}), open: make(chan struct{})}
	g.passed <- struct{}{}
	s := newClosedShop(t, func(next http.Handler) http.Handler {
		g.next = next
		return g
	})
	edit(t, filepath.Join(s.dir, "syncs", slow+".yaml"), "mode: mirror", "mode: mirror\nbatch_rows: 1")
	collect := func(do func()) {
		s.program = start(t, "collector", "--workspace", s.dir, "--listen", "127.0.0.1:0")
		do()
		s.terminate(t)
	}
	collect(func() {
		for i := range people {
			s.visit(fmt.Sprint("canary-", i), fmt.Sprint(i))
		}
	})
	w, err := workspace.Open(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	scheduler, err := newScheduler(t.Context(), w, slog.New(slog.NewTextHandler(t.Output(), nil)), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	defer scheduler.finish()
	scheduler.patience = 100 * time.Millisecond
	turn := func() {
		t.Helper()
		if _, err := scheduler.once(bounded(t)); err != nil {
			t.Fatal(err)
		}
	}

	turn()
	<-g.waiting
	if other := scheduler.underway["profiles_file"]; other != nil {
		<-other.ended
	}
	sent, _, _ := s.target.snapshot()
	run := scheduler.underway[slow]
	if len(sent) != 1 || run == nil {
		t.Fatalf("%d people were sent, and the run is %v", len(sent), run)
	}
	var who string
	for email := range sent {
		who, _, _ = strings.Cut(email, "@")
	}
	collect(func() { post(t, s.url+"/v1/consent", `{"userId":"`+who+`","purposes":{"marketing":false}}`) })
	scheduler.atLeast = time.Hour
	if turn(); run.cut {
		t.Error("the run is cut short when it has hardly begun")
	}
	scheduler.atLeast = 0
	if turn(); !run.cut { // also if nothing has landed since
		t.Error("the run is not cut short")
	}
	if n := query(t, s.dir, "select count(distinct key) as n from sluis_sync.deliveries where sync = 'profiles_file' and outcome = 'delivered'"); n[0]["n"] != float64(people) {
		t.Errorf("meanwhile the other sync has sent %v", n[0]["n"])
	}

	close(g.open)
	<-run.ended
	scheduler.patience = -1
	turn()
	members, log, _ := s.target.snapshot()
	if len(members) != people-1 || members[who+"@example.com"] {
		t.Errorf("in the end there are %d people, with the one who withdrew: %v", len(members), members[who+"@example.com"])
	}
	// Before the removal there are the one and who was on the way, who may have been sent
	// again since the answer was late; the others come after it.
	before := map[string]bool{}
	removal := slices.IndexFunc(log, func(line string) bool { return strings.HasPrefix(line, "remove") })
	for _, line := range log[:max(removal, 0)] {
		before[line] = true
	}
	if len(before) != 2 {
		t.Errorf("the destination saw\n%s", strings.Join(log, "\n"))
	}
}
