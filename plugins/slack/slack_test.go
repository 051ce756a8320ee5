package slack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/plugins/destination/destinationtest"
	"github.com/sluis-cdp/sluis/plugins/limits"
	"github.com/sluis-cdp/sluis/plugins/slack/slacktest"
)

func newServer(t *testing.T) *slacktest.Server {
	t.Helper()
	s := slacktest.New()
	t.Cleanup(s.Close)
	return s
}

func configOf(s *slacktest.Server, more ...string) map[string]string {
	c := map[string]string{"url": s.URL}
	for i := 0; i < len(more); i += 2 {
		c[more[i]] = more[i+1]
	}
	return c
}

func open(t *testing.T, s *slacktest.Server, more ...string) *slack {
	t.Helper()
	d := &slack{}
	if err := d.Open(t.Context(), configOf(s, more...)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return d
}

func batch(id string) destination.Batch {
	return destination.Batch{
		ID: id, Sync: "pricing", Run: "r",
		Columns: []destination.Column{{Name: "company", Type: destination.String}, {Name: "visits", Type: destination.Int64}, {Name: "at", Type: destination.Time}},
		Changes: []destination.Change{
			{ID: "1", Key: "a", Op: destination.Upsert, Values: []any{"Acme & <Sons>", int64(3), time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}},
			{ID: "2", Key: "b", Op: destination.Upsert, Values: []any{"<!channel>\n*x*", nil, nil}},
			{ID: "3", Key: "c", Op: destination.Remove, Values: []any{nil, nil, nil}},
		},
	}
}

func TestConformance(t *testing.T) {
	for name, more := range map[string][]string{"counts": nil, "lines": {"text", "{text} {count}"}} {
		t.Run(name, func(t *testing.T) {
			newIt := func(t *testing.T) (destination.Destination, map[string]string) {
				return &slack{}, configOf(newServer(t), more...)
			}
			if name == "counts" {
				destinationtest.Run(t, newIt)
				return
			}
			destinationtest.RunCanary(t, newIt)
		})
	}
}

func TestMessages(t *testing.T) {
	s := newServer(t)
	for _, more := range [][]string{nil, {"text", "{company}: {visits} at {at}", "summary", "{sync}, {changed}/{removed}"}} {
		results, err := open(t, s, more...).Write(t.Context(), batch("b"))
		if err != nil || len(results) != 3 || results[0].Outcome != destination.Delivered {
			t.Errorf("%+v, %v", results, err)
		}
	}
	want := []string{
		"*pricing*: 2 new or changed, 1 gone",
		"pricing, 2/1\n• Acme &amp; &lt;Sons&gt;: 3 at 2026-01-02 03:04 UTC\n• &lt;!channel&gt; *x*: – at –",
	}
	if diff := cmp.Diff(want, s.Messages()); diff != "" {
		t.Error(diff)
	}
	if _, err := open(t, s, "text", "{name}").Write(t.Context(), batch("c")); err == nil || !strings.Contains(err.Error(), "{name}") {
		t.Error(err)
	}
}

// The request is that of Slack's documentation of incoming webhooks, with the
// documented fields by which a message shows no previews of links.
func TestRecordedRequests(t *testing.T) {
	s := newServer(t)
	b := batch("b")
	b.Columns, b.Changes = b.Columns[:1], b.Changes[:1]
	b.Changes[0].Values = []any{"world"}
	if _, err := open(t, s, "summary", "Hello, {sync}.", "text", "Hello, {company}.").Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	var got any
	if err := json.Unmarshal(s.Bodies()[0], &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"text": "Hello, pricing.\n• Hello, world.", "unfurl_links": false, "unfurl_media": false}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-documented +sent):\n%s", diff)
	}
}

func TestLongMessageSaysSo(t *testing.T) {
	s := newServer(t)
	b := batch("b")
	b.Changes = nil
	for i := range 500 {
		b.Changes = append(b.Changes, destination.Change{ID: fmt.Sprint(i), Key: fmt.Sprint(i), Op: destination.Upsert, Values: []any{strings.Repeat("&", 300), nil, nil}})
	}
	if _, err := open(t, s, "text", "{company}").Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	text := s.Messages()[0]
	if len(text) > slacktest.MaxText || !strings.Contains(text, " more") || !strings.Contains(text, "500 new or changed") {
		t.Errorf("%d bytes, ending in %q", len(text), text[len(text)-30:])
	}
}

// What was not posted may come again; of what may have been nobody claims to
// know. No answer repeats a value or the webhook's address.
func TestAnswers(t *testing.T) {
	for _, tt := range []struct {
		fault slacktest.Fault
		want  string
		after time.Duration
	}{
		{slacktest.Fault{Status: 404, Body: "no_service"}, "retry:no_service", 0},
		{slacktest.Fault{Status: 410, Body: "channel_is_archived"}, "retry:channel_is_archived", 0},
		{slacktest.Fault{Status: 403, Body: "action_prohibited"}, "retry:action_prohibited", 0},
		{slacktest.Fault{Status: 500, Body: "rollup_error"}, "retry:rollup_error", 0},
		{slacktest.Fault{Status: 429, Body: "rate_limited", Header: map[string]string{"Retry-After": "30"}}, "retry:rate_limit", 30 * time.Second},
		{slacktest.Fault{Status: 400, Body: "Acme"}, "retry:http_400", 0},
		{slacktest.Fault{Status: 302, Header: map[string]string{"Location": "/elsewhere"}}, "retry:http_302", 0},
		{slacktest.Fault{Status: 502, Body: "Acme", Posted: true}, "unknown:http_502", 0},
		{slacktest.Fault{Status: 200, Body: "<html>Acme", Posted: true}, "unknown:http_200", 0},
		{slacktest.Fault{Hangup: true, Posted: true}, "unknown:network", 0},
	} {
		s := newServer(t)
		d := open(t, s, "text", "{company}")
		s.Fail(tt.fault)
		results, err := d.Write(t.Context(), batch("b"))
		if err != nil {
			t.Fatal(err)
		}
		r := results[0]
		if got := r.Outcome.String() + ":" + r.Code; got != tt.want || r.RetryAfter != tt.after || r.Message == "" {
			t.Errorf("%+v: %+v", tt.fault, r)
		}
		if said := fmt.Sprintf("%+v", results); strings.Contains(said, "Acme") || strings.Contains(said, "T00000000") {
			t.Errorf("%+v: %s", tt.fault, said)
		}
	}
}

// One message after the other, as fast as Slack takes them. One whose turn does not come
// in time was certainly not posted.
func TestPace(t *testing.T) {
	s := newServer(t)
	s.Pace = 20 * time.Millisecond
	d := open(t, s)
	var accounts limits.Accounts
	paced := func(per time.Duration) context.Context { // of an account of its own
		return destination.WithPacer(t.Context(), accounts.Of(d.Describe(), map[string]string{"url": per.String()}, &destination.Limit{Requests: 1, Per: per}))
	}
	ctx := paced(400 * time.Millisecond) // the first of two may be late
	for i := range 4 {
		if results, err := d.Write(ctx, batch(fmt.Sprint("b", i))); err != nil || results[0].Outcome != destination.Delivered {
			t.Errorf("%+v, %v", results, err)
		}
	}
	if n := s.RateLimited(); n > 0 {
		t.Errorf("%d messages came too early", n)
	}
	ctx, cancel := context.WithTimeout(paced(time.Hour), 10*time.Minute)
	defer cancel()
	if err := destination.Await(ctx, ""); err != nil { // another's, just before
		t.Fatal(err)
	}
	if results, err := d.Write(ctx, batch("d")); err != nil || results[0].Outcome != destination.Retry || results[0].Code != "rate_limit" {
		t.Errorf("%+v, %v", results, err)
	}
}

func TestConfig(t *testing.T) {
	for _, tt := range []struct{ field, value string }{
		{"url", ""},
		{"url", "https://hooks.slack.com"},
		{"url", "http://hooks.slack.com/services/hunter2"},
		{"url", "hunter2"},
		{"summary", "{hunter2}"},
		{"text", strings.Repeat("x", 1001)},
	} {
		config := map[string]string{"url": "https://hooks.slack.com/services/T/B/x"}
		config[tt.field] = tt.value
		err := destination.Validate(New(), config)
		problem, ok := errors.AsType[*destination.ConfigError](err)
		if !ok || problem.Field != tt.field || strings.Contains(problem.Problem, "hunter2") {
			t.Errorf("%s %q: %v", tt.field, tt.value, err)
		}
	}
}
