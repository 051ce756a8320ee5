package klaviyo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/plugins/destination/destinationtest"
	"github.com/sluis-cdp/sluis/plugins/destination/normalize"
	"github.com/sluis-cdp/sluis/plugins/klaviyo/klaviyotest"
)

const list = "Y6nRLr"

func newServer(t *testing.T) *klaviyotest.Server {
	t.Helper()
	s := klaviyotest.New()
	t.Cleanup(s.Close)
	s.Polls = 2
	s.List(list)
	return s
}

func configOf(s *klaviyotest.Server, more ...string) map[string]string {
	c := map[string]string{"api_key": s.Key, "host": s.URL}
	for i := 0; i < len(more); i += 2 {
		c[more[i]] = more[i+1]
	}
	return c
}

// quick is a destination that asks about jobs without much of a pause.
func quick() *klaviyo { return &klaviyo{pause: time.Millisecond} }

func open(t *testing.T, s *klaviyotest.Server, more ...string) *klaviyo {
	t.Helper()
	d := quick()
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

// people is a batch of addresses, first names and a property of one's own;
// "-key" removes, "~" is NULL.
func people(id string, rows ...string) destination.Batch {
	b := destination.Batch{ID: id, Sync: "s", Run: "r", Columns: []destination.Column{
		{Name: "email", Type: destination.String}, {Name: "first_name", Type: destination.String}, {Name: "plan", Type: destination.String},
	}}
	for i, row := range rows {
		f := strings.Split(row, "|")
		c := destination.Change{ID: fmt.Sprintf("%s-%d", id, i), Key: f[0], Op: destination.Upsert, Values: []any{nil, nil, nil}}
		if key, ok := strings.CutPrefix(f[0], "-"); ok {
			c.Key, c.Op = key, destination.Remove
		}
		for n, v := range f[1:] {
			if v != "~" {
				c.Values[n] = v
			}
		}
		b.Changes = append(b.Changes, c)
	}
	return b
}

func write(t *testing.T, d destination.Destination, b destination.Batch, want string) []destination.Result {
	t.Helper()
	results, err := d.Write(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.CheckResults(results); err != nil {
		t.Error(err)
	}
	if got := outcomes(results); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	return results
}

func outcomes(results []destination.Result) string {
	words := make([]string, len(results))
	for i, r := range results {
		words[i] = r.Outcome.String()
		if r.Code != "" {
			words[i] += ":" + r.Code
		}
	}
	return strings.Join(words, " ")
}

func expect(t *testing.T, s *klaviyotest.Server, want map[string]map[string]any) {
	t.Helper()
	if diff := cmp.Diff(want, s.Profiles()); diff != "" {
		t.Errorf("profiles (-want +got):\n%s", diff)
	}
}

// suite is the conformance suite's batch with texts no longer than Klaviyo takes.
func suite(id string, op destination.Op) destination.Batch {
	b := destinationtest.Batch(id, op)
	for _, c := range b.Changes {
		if s, ok := c.Values[0].(string); ok && len(s) > 60_000 {
			c.Values[0] = s[:60_000]
		}
	}
	return b
}

func TestConformance(t *testing.T) {
	for name, more := range map[string][]string{"clear": nil, "list": {"list_id", list}} {
		t.Run(name, func(t *testing.T) {
			destinationtest.RunWith(t, func(t *testing.T) (destination.Destination, map[string]string) {
				return quick(), configOf(newServer(t), more...)
			}, suite)
		})
	}
}

// Klaviyo quotes what it was sent, in whole answers and for single profiles.
func TestCanary(t *testing.T) {
	for _, body := range []string{
		`{"errors":[{"code":"invalid","detail":"no ` + destinationtest.Canary + `","source":{"pointer":"/data/attributes/profiles/data/0"}}]}`,
		`{"errors":[{"code":"` + destinationtest.Canary + `","detail":"` + strings.ToUpper(destinationtest.Canary) + `"}]}`,
		destinationtest.Canary,
	} {
		for _, status := range []int{400, 401, 403, 404, 409, 418, 422, 429, 500} {
			s := newServer(t)
			d := open(t, s, "list_id", list)
			s.Fail(klaviyotest.Fault{Path: "profile-bulk-import-jobs", Status: status, Body: body})
			results, err := d.Write(t.Context(), people("b", "k|"+destinationtest.Canary+"|Ann|~"))
			said := fmt.Sprintf("%v %+v", err, results)
			if strings.Contains(strings.ToLower(said), destinationtest.Canary) || strings.Contains(said, s.Key) {
				t.Errorf("%d: %s", status, said)
			}
			if err == nil && results[0].Outcome == destination.Delivered {
				t.Errorf("%d: delivered", status)
			}
		}
	}
	s := newServer(t)
	s.Words = " " + destinationtest.Canary
	results := write(t, open(t, s), people("b", "k|not an address|Ann|~", "l|"+destinationtest.Canary+"|Bob|~"), "rejected:invalid delivered")
	if strings.Contains(fmt.Sprintf("%+v", results), destinationtest.Canary) {
		t.Errorf("a value came back: %+v", results)
	}
}

func TestUpsert(t *testing.T) {
	s := newServer(t)
	d := open(t, s, "list_id", list)
	write(t, d, people("b1", "a|ann@example.org|Ann|pro", "b|~|Bob|free"), "delivered delivered")
	expect(t, s, map[string]map[string]any{
		"a": {"external_id": "a", "email": "ann@example.org", "first_name": "Ann", "plan": "pro"},
		"b": {"external_id": "b", "first_name": "Bob", "plan": "free"},
	})
	// A new address is that of the same profile; NULL clears what is no identifier.
	write(t, d, people("b2", "a|ann@new.example|~|~", "b|~|Bobby|free"), "delivered delivered")
	expect(t, s, map[string]map[string]any{
		"a": {"external_id": "a", "email": "ann@new.example"},
		"b": {"external_id": "b", "first_name": "Bobby", "plan": "free"},
	})
	if diff := cmp.Diff([]string{"a", "b"}, s.Members(list)); diff != "" {
		t.Error(diff)
	}
}

// What is there is found by its key, or else by its address, and changed. Nothing
// is made, and what is removed is only emptied, since it was there before.
func TestUpdateOnly(t *testing.T) {
	s := newServer(t)
	s.Add(map[string]any{"external_id": "a", "email": "ann@example.org", "title": "theirs"})
	s.Add(map[string]any{"email": "bob@example.org", "title": "theirs"})
	d := quick()
	if err := destination.Open(t.Context(), d, configOf(s, "list_id", list), true); err != nil {
		t.Fatal(err)
	}
	b := people("b1", "a|ann@new.example|Ann|pro", "b|bob@example.org|Bob|free", "c|cy@example.org|Cy|~", "d|~|Dee|~")
	for range 2 {
		write(t, d, b, "delivered delivered skipped:absent skipped:absent")
		expect(t, s, map[string]map[string]any{
			"a": {"external_id": "a", "email": "ann@new.example", "first_name": "Ann", "plan": "pro", "title": "theirs"},
			"b": {"external_id": "b", "email": "bob@example.org", "first_name": "Bob", "plan": "free", "title": "theirs"},
		})
		if diff := cmp.Diff([]string{"a", "b"}, s.Members(list)); diff != "" {
			t.Error(diff)
		}
	}
	write(t, d, people("b2", "-b", "-nobody"), "delivered delivered")
	expect(t, s, map[string]map[string]any{
		"a": {"external_id": "a", "email": "ann@new.example", "first_name": "Ann", "plan": "pro", "title": "theirs"},
		"b": {"external_id": "b", "email": "bob@example.org", "title": "theirs"},
	})
	if diff := cmp.Diff([]string{"a"}, s.Members(list)); diff != "" {
		t.Error(diff)
	}
}

func TestValues(t *testing.T) {
	s := newServer(t)
	b := destination.Batch{ID: "b", Sync: "s", Run: "r", Columns: []destination.Column{
		{Name: "visits", Type: destination.Int64},
		{Name: "score", Type: destination.Float64},
		{Name: "member", Type: destination.Bool},
		{Name: "seen_at", Type: destination.Time},
		{Name: "city", Type: destination.String},
		{Name: "phone_number", Type: destination.Int64},
	}, Changes: []destination.Change{
		{ID: "1", Key: "a", Op: destination.Upsert, Values: []any{int64(-3), 0.5, true, time.Date(2026, 2, 28, 23, 59, 59, 999_000_000, time.UTC), "Zürich", int64(31612345678)}},
		{ID: "2", Key: "b", Op: destination.Upsert, Values: []any{nil, math.Inf(1), nil, nil, nil, nil}},
	}}
	d := open(t, s)
	b, _ = normalize.Batch(d.Describe().Target, b) // as the host does
	write(t, d, b, "delivered rejected:not_json")
	expect(t, s, map[string]map[string]any{"a": {
		"external_id": "a", "visits": -3.0, "score": 0.5, "member": true, "seen_at": "2026-02-28T23:59:59.999Z", "city": "Zürich", "phone_number": "+31612345678",
	}})
}

// Profiles that fail within an import are told apart, also over pages of
// errors; one that has a whole import refused is left out.
func TestRefusedRows(t *testing.T) {
	s := newServer(t)
	d := open(t, s, "list_id", list)
	var rows, want []string
	for i := range 3 * klaviyotest.PageSize {
		if i%2 == 0 {
			rows, want = append(rows, fmt.Sprintf("k%d|no address %d|P|~", i, i)), append(want, "rejected:invalid")
		} else {
			rows, want = append(rows, fmt.Sprintf("k%d|p%d@example.org|P|~", i, i)), append(want, "delivered")
		}
	}
	write(t, d, people("b1", rows...), strings.Join(want, " "))
	if n := len(s.Members(list)); n != len(rows)/2 {
		t.Errorf("%d members", n)
	}
	b := people("b2", "a|ann@example.org|Ann|~", "b|bob@example.org|Bob|~", "c|cy@example.org|Cy|~")
	b.Columns[2].Name = "phone_number"
	b.Changes[1].Values[2] = "0612"
	write(t, d, b, "delivered rejected:invalid delivered")
}

func TestRemove(t *testing.T) {
	s := newServer(t)
	d := open(t, s, "list_id", list)
	write(t, d, people("b1", "a|ann@example.org|Ann|pro", "b|bob@example.org|Bob|pro", `"c,\d|cy@example.org|Cy|pro`), "delivered delivered delivered")
	write(t, d, people("b2", "-a", "-nobody", `-"c,\d`), "delivered delivered delivered")
	if diff := cmp.Diff([]string{"b"}, s.Members(list)); diff != "" {
		t.Error(diff)
	}
	write(t, open(t, s, "list_id", list, "removes", "clear"), people("b3", "-a", "-nobody"), "delivered delivered")
	profiles := s.Profiles()
	if diff := cmp.Diff(map[string]any{"external_id": "a", "email": "ann@example.org"}, profiles["a"]); diff != "" {
		t.Error(diff)
	}
	if len(profiles) != 3 {
		t.Errorf("%d profiles", len(profiles))
	}
}

func TestOrderAndSize(t *testing.T) {
	s := newServer(t)
	d := open(t, s)
	write(t, d, people("b1", "a|ann@example.org|1|~", "a|ann@example.org|2|~", "-a", "a|ann@example.org|3|~"), "delivered delivered delivered delivered")
	if got := s.Profiles()["a"]["first_name"]; got != "3" {
		t.Errorf("first_name %q", got)
	}
	rows := make([]string, 120)
	for i := range rows {
		rows[i] = fmt.Sprintf("k%d|p%d@example.org|%s|~", i, i, strings.Repeat("x", 90_000))
	}
	rows[7] = "k7|p7@example.org|" + strings.Repeat("x", 110_000) + "|~"
	results := write(t, d, people("b2", rows...), strings.Repeat("delivered ", 7)+"rejected:too_large"+strings.Repeat(" delivered", 112))
	_ = results
	if n := len(s.Profiles()); n != 120 {
		t.Errorf("%d profiles", n)
	}
}

// A job that takes longer than one waits is accepted, and polled. What has to
// follow it waits for it.
func TestSlowJob(t *testing.T) {
	s := newServer(t)
	s.Polls = 5
	d := open(t, s, "wait", "2ms")
	results := write(t, d, people("b", "a|ann@example.org|1|~", "b|no address|B|~", "a|ann@example.org|2|~"), "accepted accepted retry:job_unfinished")
	receipt := results[0].Receipt
	if results[1].Receipt != receipt {
		t.Errorf("%+v", results)
	}
	var settled []destination.Settlement
	for range 10 {
		var err error
		if settled, err = open(t, s).Poll(t.Context(), []string{receipt, "../x"}); err != nil {
			t.Fatal(err)
		}
		if len(settled) == 2 {
			break
		}
	}
	want := []destination.Settlement{
		{Receipt: receipt, Outcome: destination.Delivered, FailedRows: 1},
		{Receipt: "../x", Outcome: destination.Unknown, Code: "not_a_receipt", Message: "the receipt is none of this destination"},
	}
	if diff := cmp.Diff(want, settled); diff != "" {
		t.Error(diff)
	}
	cancelled := newServer(t)
	cancelled.Cancel = true
	write(t, open(t, cancelled), people("b", "a|ann@example.org|1|~"), "retry:job_cancelled")
}

// An answer is lost anywhere: sent again, all is as after one sending.
func TestSentAgain(t *testing.T) {
	for _, fault := range []klaviyotest.Fault{
		{Hangup: true},
		{Hangup: true, Applied: true},
		{Status: 502, Applied: true},
		{Status: 202, Body: "{", Applied: true},
		{Status: 429, Header: map[string]string{"Retry-After": "7"}},
	} {
		s := newServer(t)
		d := open(t, s, "list_id", list)
		b := people("b", "a|ann@example.org|Ann|~", "b|no address|Bob|~")
		s.Fail(fault)
		results, err := d.Write(t.Context(), b)
		if err != nil || results[0].Outcome != destination.Retry {
			t.Errorf("%+v: %+v, %v", fault, results, err)
		}
		if fault.Status == 429 && results[0].RetryAfter != 7*time.Second {
			t.Errorf("%+v", results[0])
		}
		write(t, d, b, "delivered rejected:invalid")
		if diff := cmp.Diff([]string{"a"}, s.Members(list)); diff != "" {
			t.Errorf("%+v: %s", fault, diff)
		}
	}
	// The errors of an import cannot be read: nobody claims to know.
	s := newServer(t)
	d := open(t, s)
	s.Fail(klaviyotest.Fault{Path: "import-errors", Status: 500})
	write(t, d, people("c", "a|ann@example.org|Ann|~", "b|no address|Bob|~"), "accepted accepted")
}

func TestErrorsAndCheck(t *testing.T) {
	for status, want := range map[int]string{401: "API key", 403: "scope", 404: "list_id", 418: "418", 400: "without a reason"} {
		s := newServer(t)
		d := open(t, s)
		s.Fail(klaviyotest.Fault{Status: status})
		if results, err := d.Write(t.Context(), people("b", "k|ann@example.org|Ann|~")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d: %+v, %v", status, results, err)
		}
	}
	s := newServer(t)
	if err := open(t, s, "list_id", list).Check(t.Context()); err != nil {
		t.Error(err)
	}
	if err := open(t, s, "list_id", "other").Check(t.Context()); err == nil || !strings.Contains(err.Error(), "list_id") {
		t.Error(err)
	}
	if err := open(t, s, "api_key", "other").Check(t.Context()); err == nil || !strings.Contains(err.Error(), "API key") {
		t.Error(err)
	}
}

// The requests are those of Klaviyo's documentation, field by field.
func TestRecordedRequests(t *testing.T) {
	s := newServer(t)
	d := open(t, s, "list_id", list)
	b := people("b1", "63f64a2b-c6bf-40c7-b81f-bed08162edbe|sarah.mason@klaviyo-demo.com|Sarah|~")
	b.Columns = append(b.Columns, destination.Column{Name: "city", Type: destination.String}, destination.Column{Name: "pseudonym", Type: destination.String})
	b.Changes[0].Values = append(b.Changes[0].Values, "Boston", "Dr. Octopus")
	write(t, d, b, "delivered")
	write(t, d, people("b2", "-63f64a2b-c6bf-40c7-b81f-bed08162edbe"), "delivered")
	var got []any
	for _, body := range s.Bodies() {
		var v any
		if err := json.Unmarshal(body, &v); err != nil {
			t.Fatal(err)
		}
		got = append(got, v)
	}
	text, err := os.ReadFile("testdata/requests.json")
	if err != nil {
		t.Fatal(err)
	}
	var want []any
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestConfig(t *testing.T) {
	for _, tt := range []struct{ field, value string }{
		{"api_key", ""},
		{"api_key", "hunter2 x"},
		{"list_id", "hunter2/.."},
		{"removes", "list"},
		{"removes", "hunter2"},
		{"wait", "1h"},
		{"wait", "soon"},
		{"host", "http://a.klaviyo.com"},
	} {
		config := map[string]string{"api_key": "t"}
		maps.Copy(config, map[string]string{tt.field: tt.value})
		err := destination.Validate(New(), config)
		problem, ok := errors.AsType[*destination.ConfigError](err)
		if !ok || problem.Field != tt.field || strings.Contains(problem.Problem, "hunter2") {
			t.Errorf("%s %q: %v", tt.field, tt.value, err)
		}
	}
}
