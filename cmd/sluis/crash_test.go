package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
)

// TestKilledCollectorLosesNothing kills a collector under load, at random
// moments, again and again, and then counts: each event that was answered with
// 200 is in sluis.events exactly once, and no event is there twice. SLUIS_KILLS
// says how often; the wider checks kill 200 times.
func TestKilledCollectorLosesNothing(t *testing.T) {
	kills := 8
	if text := os.Getenv("SLUIS_KILLS"); text != "" {
		var err error
		if kills, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	dir := newWorkspace(t)
	var (
		acked sync.Map
		n     atomic.Int64
		sent  atomic.Int64
	)
	for range kills {
		p := start(t, "collector", "--workspace", dir, "--listen", "127.0.0.1:0")
		// The moment is a number of answers from now, and a little more: between
		// two answers there are a write, an fsync, a landing and a rename.
		enough := n.Load() + 1 + rand.Int64N(400)
		stop := make(chan struct{})
		var senders sync.WaitGroup
		reached := make(chan struct{})
		var once sync.Once
		for range 8 {
			senders.Go(func() {
				load(p.url, stop, &sent, func(ids []string) {
					for _, id := range ids {
						acked.Store(id, true)
					}
					if n.Add(int64(len(ids))) >= enough {
						once.Do(func() { close(reached) })
					}
				})
			})
		}
		<-reached
		<-time.After(time.Duration(rand.IntN(30)) * time.Millisecond)
		if err := p.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = p.Wait() // killed
		close(stop)
		senders.Wait()
	}
	start(t, "collector", "--workspace", dir, "--listen", "127.0.0.1:0").terminate(t)
	reconcile(t, dir, &acked, n.Load(), sent.Load())
}

// load sends batches until the server is gone. Each event is sent once: a retry
// would be a second landing that nobody could tell from a fault.
func load(url string, stop <-chan struct{}, sent *atomic.Int64, ack func(ids []string)) {
	client := &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	for {
		select {
		case <-stop:
			return
		default:
		}
		ids := make([]string, 1+rand.IntN(5))
		events := make([]string, len(ids))
		for i := range ids {
			ids[i] = fmt.Sprintf("event-%d", sent.Add(1))
			events[i] = fmt.Sprintf(`{"type":"track","event":"Load","messageId":%q,"anonymousId":"a-%d",%s}`, ids[i], rand.IntN(50), consented)
		}
		r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, url+"/v1/batch",
			strings.NewReader(`{"writeKey":"wk_test","batch":[`+strings.Join(events, ",")+`]}`))
		if err != nil {
			return
		}
		response, err := client.Do(r)
		if err != nil {
			return
		}
		_, err = io.Copy(io.Discard, response.Body)
		response.Body.Close()
		if response.StatusCode == http.StatusOK {
			ack(ids)
		}
		if err != nil {
			return
		}
	}
}

// reconcile compares what was acknowledged with what landed.
func reconcile(t *testing.T, dir string, acked *sync.Map, n, sent int64) {
	t.Helper()
	w, err := workspace.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	db, err := openWarehouse(ctx, w, "test", io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query(ctx, "select event_id, count(*) from sluis.events group by 1")
	if err != nil {
		t.Fatal(err)
	}
	landed := make(map[string]int64)
	for rows.Next() {
		row := rows.Row()
		landed[row[0].(string)] = row[1].(int64)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		t.Fatal(err)
	}
	twice, lost := 0, 0
	for _, times := range landed {
		if times > 1 {
			twice++
		}
	}
	acked.Range(func(id, _ any) bool {
		if landed[id.(string)] == 0 {
			lost++
		}
		return true
	})
	t.Logf("%d events sent, %d acknowledged, %d landed", sent, n, len(landed))
	if lost > 0 || twice > 0 {
		t.Errorf("%d acknowledged events are lost, %d events landed more than once", lost, twice)
	}
	l, err := readLedger(ctx, db)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.check(); err != nil {
		t.Error(err)
	}
}
