package intercom

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/plugins/destination/destinationtest"
	"github.com/sluis-cdp/sluis/plugins/intercom/intercomtest"
	"github.com/sluis-cdp/sluis/plugins/limits"
)

const tag = "7522907"

func newServer(t *testing.T) *intercomtest.Server {
	t.Helper()
	s := intercomtest.New()
	t.Cleanup(s.Close)
	s.Tag(tag, "Customers")
	s.Attribute("plan", "string")
	return s
}

func configOf(s *intercomtest.Server, more ...string) map[string]string {
	c := map[string]string{"access_token": s.Token, "host": s.URL}
	for i := 0; i < len(more); i += 2 {
		c[more[i]] = more[i+1]
	}
	return c
}

func open(t *testing.T, s *intercomtest.Server, more ...string) *intercom {
	t.Helper()
	d := New().(*intercom)
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

// people is a batch of "key|address|name|plan"; "-key" removes, "~" is NULL.
func people(id string, rows ...string) destination.Batch {
	b := destination.Batch{ID: id, Sync: "s", Run: "r", Columns: []destination.Column{
		{Name: "email", Type: destination.String}, {Name: "name", Type: destination.String}, {Name: "plan", Type: destination.String},
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
	words := make([]string, len(results))
	for i, r := range results {
		words[i] = r.Outcome.String()
		if r.Code != "" {
			words[i] += ":" + r.Code
		}
	}
	if got := strings.Join(words, " "); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	return results
}

func expect(t *testing.T, s *intercomtest.Server, want map[string]map[string]any) {
	t.Helper()
	for key, values := range want {
		values["role"], values["external_id"] = "user", key
	}
	if diff := cmp.Diff(want, s.Contacts()); diff != "" {
		t.Errorf("contacts (-want +got):\n%s", diff)
	}
}

// suite is the conformance suite's batch with texts no longer than Intercom takes.
func suite(id string, op destination.Op) destination.Batch {
	b := destinationtest.Batch(id, op)
	for _, c := range b.Changes {
		if s, ok := c.Values[0].(string); ok && len(s) > intercomtest.MaxText {
			c.Values[0] = s[:intercomtest.MaxText]
		}
	}
	return b
}

func TestConformance(t *testing.T) {
	for name, more := range map[string][]string{"archive": nil, "tag": {"tag_id", tag}, "delete": {"removes", "delete"}} {
		t.Run(name, func(t *testing.T) {
			destinationtest.RunWith(t, func(t *testing.T) (destination.Destination, map[string]string) {
				s := newServer(t)
				for attribute, kind := range map[string]string{"text": "string", "count": "integer", "score": "float", "member": "boolean", "seen_at": "date"} {
					s.Attribute(attribute, kind)
				}
				return New(), configOf(s, more...)
			}, suite)
		})
	}
}

func TestUpsert(t *testing.T) {
	s := newServer(t)
	d := open(t, s, "tag_id", tag)
	write(t, d, people("b1", "a|ann@example.org|Ann|pro", "b/c|~|Bob|free", "d|dee@example.org|Dee|~"), "delivered delivered delivered")
	expect(t, s, map[string]map[string]any{
		"a":   {"email": "ann@example.org", "name": "Ann", "plan": "pro", "tags": tag},
		"b/c": {"name": "Bob", "plan": "free", "tags": tag},
		"d":   {"email": "dee@example.org", "name": "Dee", "tags": tag},
	})
	// A new address is that of the same contact; NULL clears what is no identifier.
	write(t, d, people("b2", "a|ann@new.example|~|~", "a|~|Anna|pro", "b/c|~|Bobby|~"), "delivered delivered delivered")
	expect(t, s, map[string]map[string]any{
		"a":   {"email": "ann@new.example", "name": "Anna", "plan": "pro", "tags": tag},
		"b/c": {"name": "Bobby", "tags": tag},
		"d":   {"email": "dee@example.org", "name": "Dee", "tags": tag},
	})
}

// What is there is found by its key, or else by the address of a user without
// one, and changed. Nothing is made, and what is removed is only emptied.
func TestUpdateOnly(t *testing.T) {
	s := newServer(t)
	s.Add(map[string]any{"role": "user", "external_id": "a", "email": "ann@example.org", "phone": "+31612345678"})
	s.Add(map[string]any{"role": "user", "email": "bob@example.org", "avatar": "theirs"})
	s.Add(map[string]any{"role": "lead", "email": "lee@example.org", "external_id": "lead"})
	d := New()
	if err := destination.Open(t.Context(), d, configOf(s, "tag_id", tag), true); err != nil {
		t.Fatal(err)
	}
	b := people("b1", "a|ann@new.example|Ann|pro", "b|bob@example.org|Bob|free", "c|lee@example.org|Lee|~", "d|~|Dee|~", "e|ann@new.example|Eve|~")
	for range 2 {
		write(t, d, b, "delivered delivered skipped:absent skipped:absent skipped:absent")
	}
	lead := map[string]any{"role": "lead", "email": "lee@example.org", "external_id": "lead"}
	check := func(want map[string]map[string]any) {
		t.Helper()
		for key, values := range want {
			values["role"], values["external_id"] = "user", key
		}
		want["lead"] = lead
		if diff := cmp.Diff(want, s.Contacts()); diff != "" {
			t.Errorf("contacts (-want +got):\n%s", diff)
		}
	}
	check(map[string]map[string]any{
		"a": {"email": "ann@new.example", "name": "Ann", "plan": "pro", "phone": "+31612345678", "tags": tag},
		"b": {"email": "bob@example.org", "name": "Bob", "plan": "free", "avatar": "theirs", "tags": tag},
	})
	// It is deleted between being found and being changed.
	s.Fail(intercomtest.Fault{Method: "PUT", Status: 404, Body: `{"errors":[{"code":"not_found","message":"User Not Found"}]}`})
	write(t, d, people("b2", "a|~|Anna|~"), "skipped:absent")
	write(t, d, people("b3", "-b", "-nobody"), "delivered delivered")
	write(t, d, people("b4", "-b"), "delivered")
	check(map[string]map[string]any{
		"a": {"email": "ann@new.example", "name": "Ann", "plan": "pro", "phone": "+31612345678", "tags": tag},
		"b": {"email": "bob@example.org", "avatar": "theirs"},
	})
}

// To be in an audience is no subscription: whether somebody gets e-mails is
// written where it is mapped and known, and nowhere else.
func TestSubscriptionsAreLeftAlone(t *testing.T) {
	s := newServer(t)
	s.Add(map[string]any{"role": "user", "external_id": "a", "unsubscribed_from_emails": true})
	d := open(t, s, "tag_id", tag)
	write(t, d, people("b1", "a|ann@example.org|Ann|pro"), "delivered")
	b := people("b2", "a|ann@example.org|Ann|pro")
	b.Columns = append(b.Columns, destination.Column{Name: "unsubscribed_from_emails", Type: destination.Bool})
	b.Changes[0].Values = append(b.Changes[0].Values, nil)
	write(t, d, b, "delivered")
	want := map[string]map[string]any{"a": {"email": "ann@example.org", "name": "Ann", "plan": "pro", "unsubscribed_from_emails": true, "tags": tag}}
	expect(t, s, want)
	b.Changes[0].Values[3] = false
	write(t, d, b, "delivered")
	want["a"]["unsubscribed_from_emails"] = false
	expect(t, s, want)
	for _, r := range s.Requests() {
		if strings.Contains(r.Path, "subscription") {
			t.Errorf("%s %s", r.Method, r.Path)
		}
	}
}

// A contact that is in the way becomes the key's if it is nobody's, and comes
// back if it was archived; another key's stays another's.
func TestConflicts(t *testing.T) {
	s := newServer(t)
	s.Add(map[string]any{"role": "user", "email": "ann@example.org"})
	d := open(t, s)
	write(t, d, people("b1", "a|ann@example.org|Ann|~", "b|bob@example.org|Bob|~"), "delivered delivered")
	write(t, d, people("b2", "c|bob@example.org|Cy|~"), "rejected:conflict")
	write(t, d, people("b3", "a|bob@example.org|Ann|~"), "rejected:conflict")
	write(t, d, people("b4", "-b"), "delivered")
	if s.Archived() != 1 {
		t.Errorf("%d archived", s.Archived())
	}
	write(t, d, people("b5", "b|bob@example.org|Bob|pro"), "delivered")
	expect(t, s, map[string]map[string]any{
		"a": {"email": "ann@example.org", "name": "Ann"},
		"b": {"email": "bob@example.org", "name": "Bob", "plan": "pro"},
	})
	if s.Archived() != 0 {
		t.Errorf("%d archived", s.Archived())
	}
}

func TestRemove(t *testing.T) {
	for removes, want := range map[string]map[string]map[string]any{
		"clear":   {"a": {}, "b": {"name": "Bob", "tags": tag}},
		"tag":     {"a": {"name": "Ann"}, "b": {"name": "Bob", "tags": tag}},
		"archive": {"b": {"name": "Bob", "tags": tag}},
		"delete":  {"b": {"name": "Bob", "tags": tag}},
	} {
		s := newServer(t)
		d := open(t, s, "tag_id", tag, "removes", removes)
		write(t, d, people("b1", "a|~|Ann|~", "b|~|Bob|~"), "delivered delivered")
		write(t, d, people("b2", "-a", "-nobody"), "delivered delivered")
		write(t, d, people("b3", "-a"), "delivered")
		expect(t, s, want)
		if archived := s.Archived(); (archived == 1) != (removes == "archive") {
			t.Errorf("%s: %d archived", removes, archived)
		}
	}
}

func TestValues(t *testing.T) {
	s := newServer(t)
	for name, kind := range map[string]string{"visits": "integer", "score": "float", "member": "boolean", "seen": "date"} {
		s.Attribute(name, kind)
	}
	at := time.Date(2026, 2, 28, 23, 59, 59, 999_000_000, time.UTC)
	b := destination.Batch{ID: "b", Sync: "s", Run: "r", Columns: []destination.Column{
		{Name: "visits", Type: destination.Int64},
		{Name: "score", Type: destination.Float64},
		{Name: "member", Type: destination.Bool},
		{Name: "seen", Type: destination.Time},
		{Name: "signed_up_at", Type: destination.Time},
	}, Changes: []destination.Change{
		{ID: "1", Key: "a", Op: destination.Upsert, Values: []any{int64(-3), 0.5, true, at, at}},
		{ID: "2", Key: "b", Op: destination.Upsert, Values: []any{nil, math.NaN(), nil, nil, nil}},
	}}
	d := open(t, s)
	write(t, d, b, "delivered rejected:not_json")
	expect(t, s, map[string]map[string]any{"a": {"visits": -3.0, "score": 0.5, "member": true, "seen": float64(at.Unix()), "signed_up_at": float64(at.Unix())}})
	b.Columns[0].Name = "shoes"
	if results := write(t, d, b, "rejected:parameter_invalid rejected:not_json"); !strings.Contains(results[0].Message, "shoes") {
		t.Errorf("%+v", results[0])
	}
	target, err := d.DescribeTarget(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := target.CheckColumns(b.Columns); err == nil || !strings.Contains(err.Error(), "shoes: there is no such field") {
		t.Error(err)
	}
}

// Requests wait for their turns, of which the answers tell too. Rows whose turn does not
// come in time are sent again.
func TestLimit(t *testing.T) {
	rows := make([]string, 30)
	for i := range rows {
		rows[i] = fmt.Sprintf("k%d|p%d@example.org|P|~", i, i)
	}
	// Some that got their turn may be late, and arrive with the next. nil: others use the account up.
	for _, own := range []*destination.Limit{{Requests: 15, Per: 400 * time.Millisecond}, nil} {
		s := newServer(t)
		d := open(t, s)
		s.Limit(25, 200*time.Millisecond)
		var accounts limits.Accounts
		ctx := destination.WithPacer(t.Context(), accounts.Of(d.Describe(), nil, own))
		left := people("b1", rows...)
		for n := 0; len(left.Changes) > 0; n++ {
			results, err := d.Write(ctx, left)
			if err != nil || n == 20 {
				t.Fatal(n, err)
			}
			for i, r := range slices.Backward(results) {
				if r.Outcome == destination.Delivered {
					left.Changes = slices.Delete(left.Changes, i, i+1)
				} else if r.Outcome != destination.Retry || r.Code != "rate_limit_exceeded" || own != nil {
					t.Fatalf("%+v", r)
				}
			}
		}
		if n := s.RateLimited(); own != nil && n > 0 {
			t.Errorf("%d requests came too early", n)
		}
	}
	s := newServer(t)
	s.Limit(1, time.Minute)
	d := open(t, s)
	var accounts limits.Accounts
	ctx, cancel := context.WithTimeout(destination.WithPacer(t.Context(), accounts.Of(d.Describe(), nil, nil)), time.Minute)
	defer cancel()
	for range 2 { // the first uses up what there is
		results, err := d.Write(ctx, people("b2", "k1|p1@example.org|P|~"))
		if err != nil || results[0].Outcome != destination.Retry || results[0].RetryAfter < 50*time.Second || results[0].RetryAfter > 62*time.Second {
			t.Errorf("%+v, %v", results, err)
		}
	}
	if n := s.RateLimited(); n > 1 {
		t.Errorf("%d requests were made that could only be refused", n)
	}
}

// One request too many, and an answer that tells nothing but how long: no other is made
// before that.
func TestLimitOfAnAnswerAlone(t *testing.T) {
	s := newServer(t)
	s.Fail(intercomtest.Fault{Status: 429, Header: map[string]string{"X-RateLimit-Reset": fmt.Sprint(time.Now().Add(time.Minute).Unix())}})
	d := open(t, s)
	var accounts limits.Accounts
	ctx := destination.WithPacer(t.Context(), accounts.Of(d.Describe(), nil, nil))
	for range 2 {
		results, err := d.Write(ctx, people("b", "k1|p1@example.org|P|~"))
		if err != nil || results[0].Outcome != destination.Retry || results[0].RetryAfter < 50*time.Second {
			t.Errorf("%+v, %v", results, err)
		}
	}
	if n := len(s.Requests()); n != 1 {
		t.Errorf("%d requests, want one", n)
	}
}

// An answer is lost anywhere: sent again, all is as after one sending.
func TestSentAgain(t *testing.T) {
	for _, fault := range []intercomtest.Fault{
		{Hangup: true, Path: "find_by"},
		{Hangup: true, Path: "/contacts", Method: "POST", Applied: true},
		{Status: 502, Path: "/contacts", Method: "POST", Applied: true},
		{Status: 200, Body: "{", Path: "/contacts", Method: "POST", Applied: true},
		{Hangup: true, Path: "/tags", Applied: true},
		{Status: 503, Path: "/tags", Header: map[string]string{"Retry-After": "7"}},
	} {
		s := newServer(t)
		d := open(t, s, "tag_id", tag)
		b := people("b", "a|ann@example.org|Ann|~")
		s.Fail(fault)
		results, err := d.Write(t.Context(), b)
		if err != nil || results[0].Outcome != destination.Retry || results[0].Code == "" {
			t.Errorf("%+v: %+v, %v", fault, results, err)
		}
		if fault.Status == 503 && results[0].RetryAfter != 7*time.Second {
			t.Errorf("%+v", results[0])
		}
		write(t, d, b, "delivered")
		expect(t, s, map[string]map[string]any{"a": {"email": "ann@example.org", "name": "Ann", "tags": tag}})
	}
}

func TestErrorsAndCheck(t *testing.T) {
	for status, want := range map[int]string{401: "access token", 403: "lacks a right", 418: "418", 400: "without a reason"} {
		s := newServer(t)
		d := open(t, s)
		s.Fail(intercomtest.Fault{Status: status})
		if results, err := d.Write(t.Context(), people("b", "k|ann@example.org|Ann|~", "l|bob@example.org|Bob|~")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d: %+v, %v", status, results, err)
		}
	}
	s := newServer(t)
	if err := open(t, s, "tag_id", tag).Check(t.Context()); err != nil {
		t.Error(err)
	}
	if err := open(t, s, "tag_id", "1").Check(t.Context()); err == nil || !strings.Contains(err.Error(), "404 (not_found)") {
		t.Error(err)
	}
	if _, err := open(t, s, "tag_id", "1").Write(t.Context(), people("b", "k|ann@example.org|Ann|~")); err == nil || !strings.Contains(err.Error(), "tag_id") {
		t.Error(err)
	}
	if err := open(t, s, "access_token", "other").Check(t.Context()); err == nil || !strings.Contains(err.Error(), "access token") {
		t.Error(err)
	}
}

// Intercom quotes what it was sent.
func TestCanary(t *testing.T) {
	for _, body := range []string{
		destinationtest.Canary,
		`{"errors":[{"code":"` + destinationtest.Canary + `","message":"no ` + strings.ToUpper(destinationtest.Canary) + `"}]}`,
		`{"errors":[{"code":"parameter_invalid","message":"email ` + destinationtest.Canary + ` is invalid"}]}`,
	} {
		for _, status := range []int{400, 401, 403, 404, 409, 418, 422, 429, 500} {
			s := newServer(t)
			d := open(t, s)
			s.Fail(intercomtest.Fault{Path: "/contacts", Method: "POST", Status: status, Body: body})
			results, err := d.Write(t.Context(), people("b", "k|"+destinationtest.Canary+"|Ann|~"))
			said := fmt.Sprintf("%v %+v", err, results)
			if strings.Contains(strings.ToLower(said), destinationtest.Canary) || strings.Contains(said, s.Token) {
				t.Errorf("%d: %s", status, said)
			}
			if err == nil && results[0].Outcome == destination.Delivered {
				t.Errorf("%d: delivered", status)
			}
		}
	}
	s := newServer(t)
	s.Words = " " + destinationtest.Canary
	results := write(t, open(t, s), people("b", "k|no address|Ann|~", "l|"+destinationtest.Canary+"|Bob|~"), "rejected:parameter_invalid delivered")
	if strings.Contains(fmt.Sprintf("%+v", results), destinationtest.Canary) {
		t.Errorf("a value came back: %+v", results)
	}
}

// The requests are those of Intercom's documentation, field by field.
func TestRecordedRequests(t *testing.T) {
	s := newServer(t)
	for name, kind := range map[string]string{"paid_subscriber": "boolean", "monthly_spend": "float", "team_mates": "integer"} {
		s.Attribute(name, kind)
	}
	at := time.Unix(1571069751, 0).UTC()
	b := destination.Batch{ID: "doc", Sync: "s", Run: "r", Columns: []destination.Column{
		{Name: "email", Type: destination.String},
		{Name: "phone", Type: destination.String},
		{Name: "name", Type: destination.String},
		{Name: "avatar", Type: destination.String},
		{Name: "last_seen_at", Type: destination.Time},
		{Name: "signed_up_at", Type: destination.Int64},
		{Name: "owner_id", Type: destination.Int64},
		{Name: "unsubscribed_from_emails", Type: destination.Bool},
		{Name: "paid_subscriber", Type: destination.Bool},
		{Name: "monthly_spend", Type: destination.Float64},
		{Name: "team_mates", Type: destination.Int64},
	}, Changes: []destination.Change{{ID: "1", Key: "25", Op: destination.Upsert, Values: []any{
		"wash@serenity.io", "+1123456789", "Hoban Washburn", "https://example.org/128Wash.jpg", at, at.Unix(), int64(127), false, true, 155.5, int64(1),
	}}}}
	write(t, open(t, s, "tag_id", tag), b, "delivered")
	write(t, open(t, s, "tag_id", tag), people("doc2", "-25"), "delivered")
	var got []any
	var paths []string
	for _, r := range s.Requests() {
		paths = append(paths, r.Method+" "+r.Path)
		if len(r.Body) > 0 {
			var v any
			if err := json.Unmarshal(r.Body, &v); err != nil {
				t.Fatal(err)
			}
			got = append(got, v)
		}
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
		t.Errorf("(-documented +sent):\n%s", diff)
	}
	const id = "63a07ddf05a32042dff00001"
	wantPaths := []string{
		"GET /contacts/find_by_external_id/25", "POST /contacts", "POST /contacts/" + id + "/tags",
		"GET /contacts/find_by_external_id/25", "DELETE /contacts/" + id + "/tags/" + tag,
	}
	if diff := cmp.Diff(wantPaths, paths); diff != "" {
		t.Error(diff)
	}
}

func TestConfig(t *testing.T) {
	for _, tt := range []struct{ field, value string }{
		{"access_token", ""},
		{"access_token", "hunter2 x"},
		{"tag_id", "hunter2/.."},
		{"removes", "tag"},
		{"removes", "hunter2"},
		{"host", "http://api.intercom.io"},
	} {
		config := map[string]string{"access_token": "t"}
		maps.Copy(config, map[string]string{tt.field: tt.value})
		err := destination.Validate(New(), config)
		problem, ok := errors.AsType[*destination.ConfigError](err)
		if !ok || problem.Field != tt.field || strings.Contains(problem.Problem, "hunter2") {
			t.Errorf("%s %q: %v", tt.field, tt.value, err)
		}
	}
}
