package metrics

import (
	"strings"
	"testing"
	"time"

	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/collector/spool"
	"github.com/sluis-cdp/sluis/consent/seal"
)

// TestSyncs: the metrics of syncs are beside those of the collector.
func TestSyncs(t *testing.T) {
	s := NewSyncs()
	m := New(Sources{
		Spool: func() spool.Stats { return spool.Stats{} }, Landing: func() collector.Progress { return collector.Progress{} },
		Pseudonyms: func() seal.CacheStats { return seal.CacheStats{} }, Ready: func() map[string]bool { return nil }, Missed: func() int64 { return 0 },
		Syncs: s,
	})
	s.Succeeded("crm", time.Time{})
	if text := exposed(t, m); strings.Contains(text, "sluis_sync_last_success") {
		t.Error("a sync that never ran is said to have succeeded")
	}
	s.Ran(SyncRun{Sync: "crm", Status: "held", Rows: map[string]int64{"added": 3, "failed": 2}, Took: 2 * time.Second, Done: time.UnixMilli(1500), Guarded: 7})
	// The removal of those who withdrew tells nothing of the guard and the schedule.
	s.Ran(SyncRun{Sync: "crm", Status: "done", Rows: map[string]int64{"removed": 1}, Took: time.Second})
	s.Stands("crm", map[string]int64{"present": 5, "rejected": 2, "failed": 0})
	s.Asked("crm", 1500*time.Millisecond, true)
	s.Asked("crm", 0, true)
	s.Asked("crm", time.Second, false)
	wantLines(t, exposed(t, m),
		`sluis_sync_requests_total{sync="crm",turn="went"} 2`, `sluis_sync_requests_total{sync="crm",turn="late"} 1`,
		`sluis_sync_requests_waited_seconds_total{sync="crm"} 2.5`,
		`sluis_sync_runs_total{status="held",sync="crm"} 1`, `sluis_sync_runs_total{status="done",sync="crm"} 1`,
		`sluis_sync_rows_total{outcome="added",sync="crm"} 3`, `sluis_sync_rows_total{outcome="removed",sync="crm"} 1`,
		`sluis_sync_run_duration_seconds_count{sync="crm"} 2`, `sluis_sync_last_success_timestamp_seconds{sync="crm"} 1.5`,
		`sluis_sync_guarded_removals{sync="crm"} 7`, `sluis_sync_state_rows{state="rejected",sync="crm"} 2`,
		`sluis_sync_state_rows{state="failed",sync="crm"} 0`,
	)
}
