package syncer

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/sluis-cdp/sluis/plugins/destination"
)

// Rate is how many requests a sync's destination may make of its account, in place of
// what the destination itself says of that. The zero value leaves that to it.
type Rate struct {
	Requests int
	Per      time.Duration
}

var rate = regexp.MustCompile(`^([0-9]{1,7})/(.+)$`)

// parseRate reads a number of requests and a time, such as 5/s, 50/10s or 300/min.
func parseRate(text string) (Rate, bool) {
	found := rate.FindStringSubmatch(text)
	if found == nil {
		return Rate{}, false
	}
	units := map[string]time.Duration{"s": time.Second, "min": time.Minute, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "day": 24 * time.Hour}
	per, ok := units[found[2]]
	if !ok {
		var err error
		if per, err = time.ParseDuration(found[2]); err != nil {
			return Rate{}, false
		}
	}
	requests, _ := strconv.Atoi(found[1])
	return Rate{Requests: requests, Per: per}, requests > 0 && requests <= 1_000_000 && per >= time.Millisecond && per <= 24*time.Hour
}

// Limit is the rate as a limit of the account, or nil.
func (r Rate) Limit() *destination.Limit {
	if r == (Rate{}) {
		return nil
	}
	return &destination.Limit{Requests: r.Requests, Per: r.Per}
}

// Estimate is about what it takes to send a number of rows.
type Estimate struct {
	// Requests is about how many the destination makes, and AtLeast how long its
	// limits on them make that: the most that holds is Allowed in Per. Requests is 0 if
	// nothing is known of them.
	Requests int64   `json:"requests,omitempty"`
	Allowed  int64   `json:"allowed,omitempty"`
	Per      float64 `json:"per_seconds,omitempty"`
	AtLeast  float64 `json:"at_least_seconds,omitempty"`
	// Before is how long it takes at the pace of the sync's last run of at least a
	// hundred rows; 0 if there was none.
	Before float64 `json:"at_the_pace_of_before_seconds,omitempty"`
}

// Sends is how many rows a plan sends.
func (c Counts) Sends() int64 { return c.Add + c.Update + c.Refresh + c.Remove }

// Estimate says about what it takes to send rows of s, by what the destination says of
// its limits, and by the runs before, latest first. It is nil if nothing is known.
func (s Sync) Estimate(rows int64, d destination.Description, before []Run) *Estimate {
	var e Estimate
	if rows == 0 {
		return nil
	}
	for _, l := range s.limits(d) {
		// As many as are allowed go out at once, and as many again after each span.
		seconds := float64((l.needs(rows)-1)/int64(l.Requests)) * l.Per.Seconds()
		if e.Requests == 0 || seconds > e.AtLeast {
			e.Requests, e.Allowed, e.Per, e.AtLeast = l.needs(rows), int64(l.Requests), l.Per.Seconds(), seconds
		}
	}
	for _, run := range before {
		if sent := run.Added + run.Updated + run.Refreshed + run.Removed; run.Status == RunDone && sent >= 100 && run.Seconds > 0 {
			e.Before = float64(rows) * run.Seconds / float64(sent)
			break
		}
	}
	if e == (Estimate{}) {
		return nil
	}
	return &e
}

// limit is one of which it is known how many rows its requests write.
type limit struct {
	destination.Limit
	rows float64 // of one request
}

// needs is how many requests some rows need.
func (l limit) needs(rows int64) int64 { return max(int64(math.Ceil(float64(rows)/l.rows)), 1) }

func (s Sync) limits(d destination.Description) (limits []limit) {
	rows := map[string]float64{}
	for _, l := range d.Limits {
		if l.Rows > 0 {
			rows[l.Name] = float64(l.Rows) / float64(l.Requests)
		}
	}
	if own := s.Rate.Limit(); own != nil {
		for _, name := range slices.Sorted(maps.Keys(rows)) {
			limits = append(limits, limit{*own, rows[name]})
		}
		return limits
	}
	for _, l := range d.Limits {
		if rows[l.Name] > 0 {
			limits = append(limits, limit{l, rows[l.Name]})
		}
	}
	return limits
}

// String tells it to people.
func (e Estimate) String() string {
	var text string
	if e.Requests > 0 {
		text = fmt.Sprintf("requests: about %d, of which the destination takes %d in %v", e.Requests, e.Allowed, seconds(e.Per))
		if e.AtLeast > 0 {
			text += fmt.Sprintf(": at least %v", seconds(e.AtLeast))
		}
	}
	if e.Before > 0 {
		if text != "" {
			text += "; "
		}
		text += fmt.Sprintf("about %v at the pace of the last run", seconds(e.Before))
	}
	return text
}

func seconds(s float64) time.Duration {
	return time.Duration(max(math.Round(s), 1)) * time.Second
}
