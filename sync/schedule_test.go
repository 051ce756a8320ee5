package syncer_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sluis-cdp/sluis/plugins/destination"
	syncer "github.com/sluis-cdp/sluis/sync"
)

// When a sync is due, by the clock on the wall where it is.
func TestScheduleDue(t *testing.T) {
	amsterdam, err := time.LoadLocation("Europe/Amsterdam")
	if err != nil {
		t.Fatal(err)
	}
	cron := func(spec string) syncer.Schedule { return syncer.Schedule{Cron: spec, Zone: amsterdam} }
	tests := []struct {
		name      string
		schedule  syncer.Schedule
		last, now string // RFC 3339; empty is never
		want      bool
	}{
		{"after the models", syncer.Schedule{}, "2026-11-27T12:00:00Z", "2026-11-27T12:00:01Z", true},
		{"by hand", syncer.Schedule{Manual: true}, "", "2026-11-27T12:00:00Z", false},
		{"every hour, too soon", syncer.Schedule{Every: time.Hour}, "2026-11-27T12:00:00Z", "2026-11-27T12:59:59Z", false},
		{"every hour", syncer.Schedule{Every: time.Hour}, "2026-11-27T12:00:00Z", "2026-11-27T13:00:00Z", true},
		{"never ran", cron("0 6 * * *"), "", "2026-11-27T12:00:00Z", true},
		{"before six", cron("0 6 * * *"), "2026-11-26T06:00:05+01:00", "2026-11-27T05:59:59+01:00", false},
		{"at six", cron("0 6 * * *"), "2026-11-26T06:00:05+01:00", "2026-11-27T06:00:00+01:00", true},
		{"ran at six", cron("0 6 * * *"), "2026-11-27T06:00:00+01:00", "2026-11-27T23:00:00+01:00", false},
		{"was away for a week", cron("0 6 * * *"), "2026-11-20T06:00:00+01:00", "2026-11-27T04:00:00+01:00", true},
		{"then not again before the next", cron("0 6 * * *"), "2026-11-27T04:00:00+01:00", "2026-11-27T05:00:00+01:00", false},
		{"not on Saturday", cron("0 6 * * 1-5"), "2026-11-27T06:00:00+01:00", "2026-11-28T12:00:00+01:00", false},
		{"but on Monday", cron("0 6 * * 1-5"), "2026-11-27T06:00:00+01:00", "2026-11-30T06:00:00+01:00", true},
		{"the hour left out in March: before", cron("30 2 * * *"), "2026-03-28T02:30:00+01:00", "2026-03-29T01:59:59+01:00", false},
		{"the hour left out in March: at its end", cron("30 2 * * *"), "2026-03-28T02:30:00+01:00", "2026-03-29T03:00:00+02:00", true},
		{"and the day after at its time", cron("30 2 * * *"), "2026-03-29T03:00:00+02:00", "2026-03-30T02:29:00+02:00", false},
		{"the hour that comes twice in October: first", cron("30 2 * * *"), "2026-10-24T02:30:00+02:00", "2026-10-25T02:30:00+02:00", true},
		{"the hour that comes twice in October: again", cron("30 2 * * *"), "2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00", false},
		{"a quarter of an hour, over that hour", cron("*/15 * * * *"), "2026-10-25T02:45:00+02:00", "2026-10-25T03:00:00+01:00", true},
		{"elsewhere", syncer.Schedule{Cron: "0 6 * * *"}, "2026-11-27T05:59:00Z", "2026-11-27T06:00:00Z", true},
	}
	at := func(text string) (t time.Time) {
		if text != "" {
			t, err = time.Parse(time.RFC3339, text)
		}
		return t
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := test.schedule.Due(at(test.last), at(test.now)); got != test.want || err != nil {
				t.Errorf("due: %v, want %v (%v)", got, test.want, err)
			}
		})
	}
}

func TestScheduleOfAFile(t *testing.T) {
	file := func(schedule string) map[string]string {
		return map[string]string{"a.yaml": "model: m\nkey: k\npurpose: marketing\ndestination: file\nmapping: [{field: f, column: c}]\nschedule: " + schedule + "\n"}
	}
	for text, want := range map[string]string{
		"after_models":        "after the models",
		"manual":              "manual",
		"{every: 6h}":         "every 6h0m0s",
		"{cron: '0 6 * * *'}": "cron 0 6 * * * (UTC)",
		"{cron: '0 6 * * 1-5', time_zone: America/New_York}": "cron 0 6 * * 1-5 (America/New_York)",
	} {
		syncs, err := load(file(text))
		if err != nil || syncs[0].Schedule.String() != want {
			t.Errorf("%s: %v, %v", text, syncs, err)
		}
	}
	for text, want := range map[string]string{
		"daily":                          "schedule must be",
		"{}":                             "schedule must be",
		"{every: 6h, cron: '0 6 * * *'}": "schedule must be",
		"{every: 6h, time_zone: UTC}":    "schedule must be",
		"{every: soon}":                  "every must be a time",
		"{every: -1h}":                   "every must be a time",
		"{cron: '0 25 * * *'}":           "is not one",
		"{cron: '0 0 30 2 *'}":           "never comes",
		"{cron: '0 6 * * *', time_zone: Mars/Olympus}": "time_zone must be a name",
	} {
		if _, err := load(file(text)); err == nil || !strings.Contains(err.Error(), "a.yaml:6: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// Between runs withdrawals go out alone, whatever became of the model.
func TestWithdrawnLeavesOutWhatWasTried(t *testing.T) {
	w := crowd(t, 3)
	e := w.engine(func(c *syncer.Config) { c.Attempts = 1 })
	if _, err := e.Run(t.Context(), vips(), syncer.Options{}); err != nil {
		t.Fatal(err)
	}
	w.setConsent(map[string]bool{"p1": false, "p2": true, "p3": true})
	w.target.answer = func(b destination.Batch, _ func(destination.Change)) ([]destination.Result, error) {
		return destination.All(len(b.Changes), destination.Result{Outcome: destination.Retry, Code: "busy"}), nil
	}
	for _, want := range []int64{1, 0} {
		if n, err := e.Withdrawn(t.Context(), vips()); err != nil || n != want {
			t.Errorf("%d rows, want %d: %v", n, want, err)
		}
		if run, err := e.Withdraw(t.Context(), vips()); err != nil || run.Failed != 1 {
			t.Errorf("%+v, %v", run, err)
		}
	}
}

func TestWithdrawBetweenRuns(t *testing.T) {
	w := crowd(t, 5)
	e := w.engine()
	if _, err := e.Run(t.Context(), vips(), syncer.Options{}); err != nil {
		t.Fatal(err)
	}
	last, err := e.LastRuns(t.Context())
	if err != nil || last["crm"].IsZero() {
		t.Fatalf("%v, %v", last, err)
	}
	w.setModel(customer{"k9", "p9", "gold", 9}) // many left and somebody is new: that is for a run
	if run, err := e.Withdraw(t.Context(), vips()); err != nil || run.ID != "" {
		t.Errorf("nobody withdrew: %+v, %v", run, err)
	}
	w.advance(time.Hour)
	w.setConsent(map[string]bool{"p1": false, "p2": true, "p4": true, "p5": true, "p9": true})
	if err := e.Erasing(t.Context(), []string{"p4"}); err != nil {
		t.Fatal(err)
	}
	w.advance(time.Minute)
	withdrawn := func(want int64) {
		t.Helper()
		if n, err := e.Withdrawn(t.Context(), vips()); err != nil || n != want {
			t.Errorf("%d rows are said to be withdrawn, want %d: %v", n, want, err)
		}
	}
	withdrawn(3)
	run, err := e.Withdraw(t.Context(), vips())
	if err != nil || run.Removed != 3 || run.Added != 0 {
		t.Errorf("%+v, %v", run, err)
	}
	withdrawn(0)
	if got := w.target.content(); got != "k2 gold2\nk5 gold5\n" {
		t.Errorf("the destination has\n%s", got)
	}
	reasons := map[string]string{}
	for _, row := range w.query("SELECT key, reason FROM sluis_sync.deliveries WHERE op = 'remove'") {
		reasons[row[0].(string)] = row[1].(string)
	}
	if reasons["k1"] != "consent_withdrawn" || reasons["k3"] != "consent_missing" || reasons["k4"] != "erased" {
		t.Errorf("the reasons are %v", reasons)
	}
	if after, err := e.LastRuns(t.Context()); err != nil || !after["crm"].Equal(last["crm"]) {
		t.Errorf("that counts as a run: %v, %v", after, err)
	}
	w.setConsent(nil)
	if _, err := e.Withdraw(t.Context(), vips()); err == nil || !strings.Contains(err.Error(), "broken model") {
		t.Errorf("an empty table of consents was taken for a withdrawal by everybody: %v", err)
	}
}
