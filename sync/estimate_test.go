package syncer_test

import (
	"testing"
	"time"

	"github.com/sluis-cdp/sluis/plugins/destination"
	syncer "github.com/sluis-cdp/sluis/sync"
)

func TestEstimate(t *testing.T) {
	crm := destination.Description{Limits: []destination.Limit{{Requests: 100, Per: 10 * time.Second, Rows: 3333}}}
	ads := destination.Description{Limits: []destination.Limit{
		{Name: "writes", Requests: 300, Per: time.Minute, Rows: 3_000_000},
		{Name: "writes", Requests: 100_000, Per: 24 * time.Hour},
		{Name: "reads", Requests: 1, Per: time.Minute},
	}}
	before := []syncer.Run{
		{Status: syncer.RunIdle},
		{Status: syncer.RunDone, Added: 5, Seconds: 4},
		{Status: syncer.RunUnfinished, Added: 5000, Seconds: 1},
		{Status: syncer.RunDone, Added: 100, Updated: 50, Refreshed: 30, Removed: 20, Seconds: 4},
		{Status: syncer.RunDone, Added: 9000, Seconds: 1},
	}
	for _, tt := range []struct {
		rows   int64
		d      destination.Description
		rate   syncer.Rate
		before []syncer.Run
		want   string
	}{
		{0, crm, syncer.Rate{}, before, ""},
		{5, destination.Description{}, syncer.Rate{}, nil, ""},
		{1, crm, syncer.Rate{}, nil, "requests: about 1, of which the destination takes 100 in 10s"},
		{3333, crm, syncer.Rate{}, nil, "requests: about 100, of which the destination takes 100 in 10s"},
		{3334, crm, syncer.Rate{}, nil, "requests: about 101, of which the destination takes 100 in 10s: at least 10s"},
		{1_000_000, crm, syncer.Rate{}, nil, "requests: about 30004, of which the destination takes 100 in 10s: at least 50m0s"},
		{1_000_000, crm, syncer.Rate{Requests: 190, Per: 10 * time.Second}, nil, "requests: about 30004, of which the destination takes 190 in 10s: at least 26m10s"},
		{10_000_000, ads, syncer.Rate{}, nil, "requests: about 1000, of which the destination takes 300 in 1m0s: at least 3m0s"},
		{2_000_000_000, ads, syncer.Rate{}, nil, "requests: about 200000, of which the destination takes 100000 in 24h0m0s: at least 24h0m0s"},
		{1000, destination.Description{}, syncer.Rate{}, before, "about 20s at the pace of the last run"},
		{1000, destination.Description{}, syncer.Rate{Requests: 1, Per: time.Second}, before[:3], ""},
		{1000, crm, syncer.Rate{}, before, "requests: about 31, of which the destination takes 100 in 10s; about 20s at the pace of the last run"},
	} {
		got := ""
		if e := (syncer.Sync{Rate: tt.rate}).Estimate(tt.rows, tt.d, tt.before); e != nil {
			got = e.String()
		}
		if got != tt.want {
			t.Errorf("%d rows: %q, want %q", tt.rows, got, tt.want)
		}
	}
}
