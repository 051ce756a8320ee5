package edge

import (
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluis-cdp/sluis/collector"
)

// tail shows events as they are accepted to whoever watches. It costs one look
// at a counter while nobody does, and never waits for a watcher.
type tail struct {
	watching atomic.Int32
	missed   atomic.Int64 // of all watchers, ever

	mu       sync.RWMutex
	watchers map[*watcher]struct{}
}

// watcher is somebody who watches.
type watcher struct {
	source string // empty for all
	lines  chan []byte
	missed atomic.Int64 // not told yet
}

// tailBuffer is how many events a watcher may be behind.
const tailBuffer = 512

func newTail() *tail { return &tail{watchers: make(map[*watcher]struct{})} }

func (t *tail) add(source string) *watcher {
	w := &watcher{source: source, lines: make(chan []byte, tailBuffer)}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.watchers[w] = struct{}{}
	t.watching.Store(int32(len(t.watchers)))
	return w
}

func (t *tail) remove(w *watcher) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.watchers, w)
	t.watching.Store(int32(len(t.watchers)))
}

// Accepted implements collector.Observer.
func (t *tail) Accepted(a collector.Accepted) {
	if t.watching.Load() == 0 {
		return
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	for v := range a.Views() {
		var line []byte // made if there is room for it somewhere
		for w := range t.watchers {
			if w.source != "" && w.source != v.Source {
				continue
			}
			if len(w.lines) == cap(w.lines) {
				t.miss(w)
				continue
			}
			if line == nil {
				line, _ = json.Marshal(v) // made of texts and times
			}
			select {
			case w.lines <- line:
			default:
				t.miss(w)
			}
		}
	}
}

func (t *tail) miss(w *watcher) {
	w.missed.Add(1)
	t.missed.Add(1)
}

// Missed is the line that tells a watcher how many events it was too slow for.
type Missed struct {
	Missed int64 `json:"missed"`
}

// ServeHTTP writes events as lines of JSON until the client or the collector
// ends: collector.View, or [Missed].
func (t *tail) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	watching := t.add(r.URL.Query().Get("source"))
	defer t.remove(watching)
	w.Header().Set("Content-Type", "application/x-ndjson")
	stream := lineWriter{w, http.NewResponseController(w)}
	if stream.flush() != nil {
		return
	}
	for {
		select {
		case <-r.Context().Done():
			return
		case line := <-watching.lines:
			if stream.write(line) != nil {
				return
			}
		}
		if n := watching.missed.Swap(0); n > 0 {
			line, _ := json.Marshal(Missed{n}) // a number
			if stream.write(line) != nil {
				return
			}
		}
		if len(watching.lines) == 0 && stream.flush() != nil {
			return
		}
	}
}

// lineWriter gives up on a client that takes nothing for long.
type lineWriter struct {
	http.ResponseWriter
	control *http.ResponseController
}

const patience = 30 * time.Second

func (w lineWriter) write(line []byte) error {
	if err := w.control.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	_, err := w.Write(append(slices.Clip(line), '\n'))
	return err
}

func (w lineWriter) flush() error {
	if err := w.control.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	return w.control.Flush()
}

// observers tells each of several.
type observers []collector.Observer

// Accepted implements collector.Observer.
func (all observers) Accepted(a collector.Accepted) {
	for _, o := range all {
		o.Accepted(a)
	}
}
