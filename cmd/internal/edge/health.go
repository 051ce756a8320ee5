package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/collector/spool"
	"github.com/sluis-cdp/sluis/consent/seal/remote"
)

// health tells whether a collector should get events. It asks what holds the
// events, and nothing that was merely configured.
type health struct {
	spool    *spool.Spool
	loader   *collector.Loader
	disk     string // a folder on the disk to watch
	limits   func() workspace.Operations
	service  func() *remote.Client // nil if none is asked
	draining atomic.Bool
}

// problem is why a check is not passed.
type problem struct {
	Check  string `json:"check"`
	Reason string `json:"reason,omitempty"`
}

// checks are all that readiness depends on. Each returns a reason not to be
// ready, or nothing.
var checks = []struct {
	name   string
	reason func(*health, context.Context) string
}{
	{"drain", (*health).ending},
	{"spool", (*health).full},
	{"disk", (*health).diskFull},
	{"sink", (*health).sinkFailing},
	{"lag", (*health).lagging},
	{"pseudonyms", (*health).serviceAway},
}

// problems are those of the checks that are not excluded.
func (h *health) problems(ctx context.Context, excluded ...string) []problem {
	var list []problem
	for _, c := range checks {
		if slices.Contains(excluded, c.name) {
			continue
		}
		if reason := c.reason(h, ctx); reason != "" {
			list = append(list, problem{c.name, reason})
		}
	}
	return list
}

func (h *health) ending(context.Context) string {
	if h.draining.Load() {
		return "the collector is about to end"
	}
	return ""
}

// nearlyFull is the part of the spool that must be free.
const nearlyFull = 20

func (h *health) full(ctx context.Context) string {
	s := h.spool.Stats()
	if s.Failing {
		// Without events nobody else would try.
		if err := h.canWrite(ctx); err != nil {
			return fmt.Sprintf("the spool cannot write: %v", err)
		}
	}
	if s.Free < s.MaxBytes/nearlyFull {
		return fmt.Sprintf("the spool is nearly full: %d of %d bytes are free; it drains when events land", s.Free, s.MaxBytes)
	}
	return ""
}

// canWrite has the spool try, and does not wait for a disk that hangs.
func (h *health) canWrite(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	tried := make(chan error, 1)
	go func() { tried <- h.spool.Check(ctx) }()
	select {
	case err := <-tried:
		return err
	case <-ctx.Done():
		return errors.New("the disk does not answer")
	}
}

func (h *health) diskFull(context.Context) string {
	free, err := freeBytes(h.disk)
	least := int64(h.limits().MinDisk)
	switch {
	case err != nil:
		return fmt.Sprintf("the disk of the spool cannot be asked for its free space: %v", err)
	case free < least:
		return fmt.Sprintf("the disk of the spool is nearly full: %d bytes are free, operations.min_disk wants %d", free, least)
	}
	return ""
}

func (h *health) sinkFailing(context.Context) string {
	if since := h.loader.Progress().Failing; !since.IsZero() {
		return fmt.Sprintf("landing has failed since %s and is tried again; the log has the cause", since.UTC().Format(time.RFC3339))
	}
	return ""
}

func (h *health) lagging(context.Context) string {
	oldest, most := h.loader.Progress().Oldest, h.limits().MaxLag
	if age := time.Since(oldest); !oldest.IsZero() && age > most {
		return fmt.Sprintf("a record has waited %s to be landed, operations.max_lag is %s", age.Round(time.Second), most)
	}
	return ""
}

// passed tells of each check whether it is passed, without trying anything.
func (h *health) passed() map[string]bool {
	passed := make(map[string]bool, len(checks))
	done, cancel := context.WithCancel(context.Background())
	cancel() // so that a failing spool is not asked to try
	for _, c := range checks {
		passed[c.name] = c.reason(h, done) == ""
	}
	return passed
}

// serveLive answers 200 while the process runs.
func (h *health) serveLive(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]any{"status": "ok"})
}

// serveReady answers 200, or 503 with the checks that are not passed and, but
// to the public, the reasons. ?exclude=CHECK leaves checks out, as for a load
// balancer that should go on sending while only the warehouse is away.
func (h *health) serveReady(public bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var excluded []string
		for _, names := range r.URL.Query()["exclude"] {
			excluded = append(excluded, strings.Split(names, ",")...)
		}
		problems := h.problems(r.Context(), excluded...)
		if len(problems) == 0 {
			answer(w, http.StatusOK, map[string]any{"status": "ready"})
			return
		}
		if public {
			for i := range problems {
				problems[i].Reason = ""
			}
		}
		answer(w, http.StatusServiceUnavailable, map[string]any{"status": "not ready", "problems": problems})
	}
}

func answer(w http.ResponseWriter, status int, body map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // or the client is gone
}
