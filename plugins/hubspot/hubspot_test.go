package hubspot

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
	"github.com/sluis-cdp/sluis/plugins/hubspot/hubspottest"
	"github.com/sluis-cdp/sluis/plugins/limits"
)

const list = "77"

func newServer(t *testing.T) *hubspottest.Server {
	t.Helper()
	s := hubspottest.New()
	t.Cleanup(s.Close)
	for name, kind := range map[string]string{
		"text": "string", "count": "number", "score": "number", "member": "bool", "seen_at": "datetime", "born": "date",
	} {
		s.Property(name, kind, false)
	}
	s.List(list)
	return s
}

func configOf(s *hubspottest.Server, more ...string) map[string]string {
	c := map[string]string{"access_token": s.Token, "host": s.URL}
	for i := 0; i < len(more); i += 2 {
		c[more[i]] = more[i+1]
	}
	return c
}

func open(t *testing.T, s *hubspottest.Server, more ...string) destination.Destination {
	t.Helper()
	d := New()
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

// people is a batch of addresses and first names; "-key" removes, "~" is NULL.
func people(id string, rows ...string) destination.Batch {
	b := destination.Batch{ID: id, Sync: "s", Run: "r", Columns: []destination.Column{
		{Name: "email", Type: destination.String}, {Name: "firstname", Type: destination.String},
	}}
	for i, row := range rows {
		f := strings.Split(row, "|")
		c := destination.Change{ID: fmt.Sprintf("%s-%d", id, i), Key: f[0], Op: destination.Upsert, Values: []any{nil, nil}}
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

func expect(t *testing.T, s *hubspottest.Server, want map[string]map[string]string) {
	t.Helper()
	if diff := cmp.Diff(want, s.Contacts()); diff != "" {
		t.Errorf("contacts (-want +got):\n%s", diff)
	}
}

// suite is the conformance suite's batch with texts no longer than HubSpot takes.
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
	for name, more := range map[string][]string{"clear": nil, "list": {"list_id", list}, "archive": {"removes", "archive"}} {
		t.Run(name, func(t *testing.T) {
			destinationtest.RunWith(t, func(t *testing.T) (destination.Destination, map[string]string) {
				return New(), configOf(newServer(t), more...)
			}, suite)
		})
	}
}

// HubSpot quotes what it was sent, in whole answers and for single rows.
func TestCanary(t *testing.T) {
	for _, body := range []string{
		`{"status":"error","category":"VALIDATION_ERROR","message":"no ` + destinationtest.Canary + `"}`,
		`{"status":"error","category":"` + destinationtest.Canary + `","message":"x"}`,
		`{"status":"error","errors":[{"code":"` + destinationtest.Canary + `","message":"` + strings.ToUpper(destinationtest.Canary) + `"}]}`,
		destinationtest.Canary,
	} {
		for _, status := range []int{400, 401, 403, 404, 409, 418, 423, 429, 500} {
			for _, path := range []string{"/read", "/upsert", "/add"} {
				s := newServer(t)
				d := open(t, s, "list_id", list)
				for range 3 {
					s.Fail(hubspottest.Fault{Path: path, Status: status, Body: body})
				}
				results, err := d.Write(t.Context(), people("b", "k|"+destinationtest.Canary+"|Ann"))
				said := fmt.Sprintf("%v %+v", err, results)
				if strings.Contains(strings.ToLower(said), destinationtest.Canary) || strings.Contains(said, s.Token) {
					t.Errorf("%d at %s: %s", status, path, said)
				}
				if err == nil && results[0].Outcome == destination.Delivered {
					t.Errorf("%d at %s: delivered", status, path)
				}
			}
		}
	}
	destinationtest.RunCanaryWith(t, func(t *testing.T) (destination.Destination, map[string]string) {
		s := newServer(t)
		s.Words = " " + destinationtest.Canary
		s.Property("text", "number", false) // refuses every text, and quotes it
		return New(), configOf(s)
	}, suite)
}

// What is there is found by its key, or else by its address, and changed. Nothing
// is made, and what is removed is only emptied, since it was there before.
func TestUpdateOnly(t *testing.T) {
	s := newServer(t)
	s.Contact(map[string]string{"email": "ann@example.org", "sluis_key": "a", "lastname": "theirs"})
	s.Contact(map[string]string{"email": "bob@example.org", "firstname": "theirs", "lastname": "theirs"})
	d := New()
	if err := destination.Open(t.Context(), d, configOf(s, "list_id", list), true); err != nil {
		t.Fatal(err)
	}
	b := people("b1", "a|ann@new.example|Ann", "b|Bob@Example.org|Bob", "c|cy@example.org|Cy", "d|~|Dee", "a|~|Anna")
	want := "delivered delivered skipped:absent skipped:absent delivered"
	for range 2 {
		write(t, d, b, want)
		expect(t, s, map[string]map[string]string{
			"ann@new.example": {"email": "ann@new.example", "firstname": "Anna", "lastname": "theirs", "sluis_key": "a"},
			"bob@example.org": {"email": "bob@example.org", "firstname": "Bob", "lastname": "theirs", "sluis_key": "b"},
		})
		if diff := cmp.Diff([]string{"ann@new.example", "bob@example.org"}, s.Members(list)); diff != "" {
			t.Error(diff)
		}
	}
	// It is archived between being found and being changed.
	s.Fail(hubspottest.Fault{Path: "/update", Status: 207, Body: `{"status":"COMPLETE","results":[],"numErrors":1,"errors":[{"category":"OBJECT_NOT_FOUND","context":{"ids":["501"]}}]}`})
	write(t, d, people("b2", "a|~|Ann"), "skipped:absent")
	s.Contact(map[string]string{"email": "cy@example.org"}) // somebody makes it
	write(t, d, people("b3", "c|cy@example.org|Cy", "-b", "-nobody"), "delivered delivered delivered")
	expect(t, s, map[string]map[string]string{
		"ann@new.example": {"email": "ann@new.example", "firstname": "Anna", "lastname": "theirs", "sluis_key": "a"},
		"bob@example.org": {"email": "bob@example.org", "lastname": "theirs", "sluis_key": "b"},
		"cy@example.org":  {"email": "cy@example.org", "firstname": "Cy", "sluis_key": "c"},
	})
	if diff := cmp.Diff([]string{"ann@new.example", "cy@example.org"}, s.Members(list)); diff != "" {
		t.Error(diff)
	}
	// One that the row does not refuse goes on, and one that is refused is told apart by its id.
	write(t, d, people("b4", "a|no address|Ann", "c|~|Cyd"), "rejected:invalid_email delivered")
}

func TestUpsert(t *testing.T) {
	s := newServer(t)
	s.Contact(map[string]string{"email": "bob@example.org", "lastname": "theirs"})
	d := open(t, s)
	write(t, d, people("b1", "a|Ann@Example.org|Ann", "b|bob@example.org|Bob", "c|~|Cy"), "delivered delivered delivered")
	expect(t, s, map[string]map[string]string{
		"ann@example.org": {"email": "ann@example.org", "firstname": "Ann", "sluis_key": "a"},
		"bob@example.org": {"email": "bob@example.org", "firstname": "Bob", "lastname": "theirs", "sluis_key": "b"}, // taken over
		"502":             {"firstname": "Cy", "sluis_key": "c"},
	})
	// A new address is that of the same contact, and NULL clears what is no address.
	write(t, d, people("b2", "a|ann@new.example|~", "b|~|Bobby"), "delivered delivered")
	expect(t, s, map[string]map[string]string{
		"ann@new.example": {"email": "ann@new.example", "sluis_key": "a"},
		"bob@example.org": {"email": "bob@example.org", "firstname": "Bobby", "lastname": "theirs", "sluis_key": "b"},
		"502":             {"firstname": "Cy", "sluis_key": "c"},
	})
}

// Values are written as HubSpot reads them.
func TestValues(t *testing.T) {
	s := newServer(t)
	d := open(t, s)
	at := time.Date(2026, 2, 28, 23, 59, 59, 999_000_000, time.UTC)
	b := destination.Batch{ID: "b", Sync: "s", Run: "r", Columns: []destination.Column{
		{Name: "count", Type: destination.Int64},
		{Name: "score", Type: destination.Float64},
		{Name: "member", Type: destination.Bool},
		{Name: "seen_at", Type: destination.Time},
		{Name: "born", Type: destination.Time},
	}, Changes: []destination.Change{
		{ID: "1", Key: "a", Op: destination.Upsert, Values: []any{int64(-3), 1e21, true, at, at}},
		{ID: "2", Key: "b", Op: destination.Upsert, Values: []any{nil, math.NaN(), nil, nil, nil}},
	}}
	write(t, d, b, "delivered rejected:not_a_number")
	expect(t, s, map[string]map[string]string{"501": {
		"sluis_key": "a", "count": "-3", "score": "1000000000000000000000", "member": "true", "seen_at": "2026-02-28T23:59:59.999Z", "born": "2026-02-28",
	}})
}

// Rows that HubSpot refuses do not stop the others, and are told apart.
func TestRefusedRows(t *testing.T) {
	s := newServer(t)
	s.Contact(map[string]string{"email": "taken@example.org", "sluis_key": "other"})
	d := open(t, s, "list_id", list)
	results := write(t, d, people("b1", "a|ann@example.org|Ann", "b|no address|Bob", "c|cy@example.org|Cy"), "delivered rejected:invalid_email delivered")
	if !strings.Contains(results[1].Message, "is invalid") || strings.Contains(results[1].Message, "no address") {
		t.Errorf("message %q", results[1].Message)
	}
	if diff := cmp.Diff([]string{"ann@example.org", "cy@example.org"}, s.Members(list)); diff != "" {
		t.Error(diff)
	}
	// One key more cannot have an address that is another's.
	write(t, d, people("b2", "a|taken@example.org|Ann"), "rejected:conflicting_unique_value")
	// A request that is refused as a whole is halved.
	s.Fail(hubspottest.Fault{Path: "/upsert", Status: 400, Body: `{"category":"VALIDATION_ERROR","message":"one of them"}`},
		hubspottest.Fault{Path: "/upsert", Status: 400, Body: `{"category":"VALIDATION_ERROR","message":"this one"}`})
	write(t, d, people("b3", "d|d@example.org|D", "e|e@example.org|E"), "rejected:validation_error delivered")
}

func TestRemove(t *testing.T) {
	for _, tt := range []struct {
		more    []string
		members []string
		want    map[string]map[string]string
	}{
		{[]string{"list_id", list}, []string{"bob@example.org"}, map[string]map[string]string{
			"ann@example.org": {"email": "ann@example.org", "firstname": "Ann", "sluis_key": "a"},
			"bob@example.org": {"email": "bob@example.org", "firstname": "Bob", "sluis_key": "b"},
		}},
		{[]string{"removes", "clear"}, nil, map[string]map[string]string{
			"ann@example.org": {"email": "ann@example.org", "sluis_key": "a"},
			"bob@example.org": {"email": "bob@example.org", "firstname": "Bob", "sluis_key": "b"},
		}},
		{[]string{"list_id", list, "removes", "clear"}, []string{"bob@example.org"}, map[string]map[string]string{
			"ann@example.org": {"email": "ann@example.org", "sluis_key": "a"},
			"bob@example.org": {"email": "bob@example.org", "firstname": "Bob", "sluis_key": "b"},
		}},
		{[]string{"list_id", list, "removes", "archive"}, []string{"bob@example.org"}, map[string]map[string]string{
			"bob@example.org": {"email": "bob@example.org", "firstname": "Bob", "sluis_key": "b"},
		}},
	} {
		s := newServer(t)
		d := open(t, s, tt.more...)
		write(t, d, people("b1", "a|ann@example.org|Ann", "b|bob@example.org|Bob"), "delivered delivered")
		write(t, d, people("b2", "-a", "-nobody"), "delivered delivered")
		write(t, d, people("b3", "-a"), "delivered")
		expect(t, s, tt.want)
		if diff := cmp.Diff(tt.members, s.Members(list)); diff != "" {
			t.Errorf("%v: %s", tt.more, diff)
		}
	}
}

// One key or address twice in a batch: one after the other, since HubSpot
// refuses a request that has one twice. More than it takes at once: in parts.
func TestOrderAndSize(t *testing.T) {
	s := newServer(t)
	d := open(t, s)
	write(t, d, people("b1", "a|ann@example.org|1", "a|ann@example.org|2", "-a", "a|ann@example.org|3", "b|Bob@example.org|1"),
		"delivered delivered delivered delivered delivered")
	if got := s.Contacts()["ann@example.org"]["firstname"]; got != "3" {
		t.Errorf("firstname %q", got)
	}
	rows := make([]string, 2*hubspottest.MaxInputs+1)
	for i := range rows {
		rows[i] = fmt.Sprintf("k%d|p%d@example.org|P", i, i)
	}
	write(t, d, people("b2", rows...), strings.TrimSpace(strings.Repeat("delivered ", len(rows))))
	if n := len(s.Contacts()); n != len(rows)+2 {
		t.Errorf("%d contacts", n)
	}
}

// An answer is lost anywhere: sent again, all is as after one sending.
func TestSentAgain(t *testing.T) {
	for _, path := range []string{"/read", "/upsert", "/add"} {
		for _, fault := range []hubspottest.Fault{{Hangup: true}, {Hangup: true, Applied: true}, {Status: 502, Applied: true}, {Status: 200, Body: "{", Applied: true}} {
			s := newServer(t)
			d := open(t, s, "list_id", list)
			b := people("b", "a|ann@example.org|Ann", "b|no address|Bob")
			fault.Path = path
			s.Fail(fault)
			results, err := d.Write(t.Context(), b)
			if err == nil {
				for i, r := range results {
					if i == 0 && r.Outcome != destination.Retry {
						t.Errorf("%s %+v: %+v", path, fault, r)
					}
				}
			}
			write(t, d, b, "delivered rejected:invalid_email")
			expect(t, s, map[string]map[string]string{"ann@example.org": {"email": "ann@example.org", "firstname": "Ann", "sluis_key": "a"}})
			if diff := cmp.Diff([]string{"ann@example.org"}, s.Members(list)); diff != "" {
				t.Errorf("%s %+v: %s", path, fault, diff)
			}
		}
	}
}

// The list may not know a contact that was just made.
func TestListIsBehind(t *testing.T) {
	s := newServer(t)
	s.Hide("ann@example.org", 1)
	d := open(t, s, "list_id", list)
	b := people("b", "a|ann@example.org|Ann", "b|bob@example.org|Bob")
	write(t, d, b, "retry:not_in_list delivered")
	write(t, d, b, "delivered delivered")
}

// Groups of a large batch are under way at once, but for what is of one key or address,
// which happens in its order. If an answer is lost, the rows of its group come again.
func TestManyRows(t *testing.T) {
	s := newServer(t)
	s.List(list)
	d := open(t, s, "list_id", list)
	want := map[string]map[string]string{}
	var rows, members []string
	for i := range 450 {
		key, address := fmt.Sprint("k", i), fmt.Sprintf("p%d@example.org", i)
		rows, members = append(rows, key+"|"+address+"|P"), append(members, address)
		want[address] = map[string]string{"email": address, "firstname": "P", "sluis_key": key}
	}
	rows = append(rows, "k3|p3@example.org|Q", "k450|p4@example.org|R", "-k7")
	want["p3@example.org"]["firstname"] = "Q"
	want["p4@example.org"] = map[string]string{"email": "p4@example.org", "firstname": "R", "sluis_key": "k450"} // the address tells who it is
	b := people("b", rows...)
	s.Fail(hubspottest.Fault{Path: "/upsert", Hangup: true})
	results, err := d.Write(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	count := map[destination.Outcome]int{}
	for _, r := range results {
		count[r.Outcome]++
	}
	if lost := count[destination.Retry]; lost != 100 && lost != 50 || count[destination.Delivered] != len(rows)-lost {
		t.Errorf("outcomes: %v", count)
	}
	write(t, d, b, strings.TrimSpace(strings.Repeat("delivered ", len(rows))))
	expect(t, s, want)
	members = slices.DeleteFunc(members, func(address string) bool { return address == "p7@example.org" })
	got := s.Members(list)
	slices.Sort(got)
	slices.Sort(members)
	if !slices.Equal(got, members) {
		t.Errorf("%d members, want %d", len(got), len(members))
	}
}

// The headers tell when the limit is reached: no request comes too early, though more are
// made of the account than the description knows of.
func TestLimitIsKept(t *testing.T) {
	s := newServer(t)
	s.Limit, s.Interval = 3, 300*time.Millisecond
	d := open(t, s)
	var accounts limits.Accounts
	ctx := destination.WithPacer(t.Context(), accounts.Of(d.Describe(), nil, nil))
	for i := range 6 {
		results, err := d.Write(ctx, people(fmt.Sprint("b", i), fmt.Sprintf("k%d|p%d@example.org|P", i, i)))
		if err != nil || results[0].Outcome != destination.Delivered {
			t.Errorf("%+v, %v", results, err)
		}
	}
	if n := s.RateLimited(); n > 1 { // Open used some up without a word
		t.Errorf("%d requests came too early", n)
	}
	// The caller's time bounds the wait.
	s.Limit, s.Interval = 1, time.Minute
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	_, _ = d.Write(ctx, people("c", "k|p@example.org|P"))
	before := s.RateLimited()
	results, err := d.Write(ctx, people("d", "k|p@example.org|P"))
	if err != nil || results[0].Outcome != destination.Retry || results[0].RetryAfter < 50*time.Second {
		t.Errorf("%+v, %v", results, err)
	}
	if s.RateLimited() != before {
		t.Error("a request was made that could only be refused")
	}
}

func TestErrors(t *testing.T) {
	for _, tt := range []struct {
		fault   hubspottest.Fault
		outcome string // "" means an error
		after   time.Duration
		inError string
	}{
		{hubspottest.Fault{Status: 429, Body: `{"policyName":"TEN_SECONDLY_ROLLING"}`}, "retry:rate_limit", 10 * time.Second, ""},
		{hubspottest.Fault{Status: 429, Body: `{"policyName":"DAILY"}`}, "retry:rate_limit", time.Hour, ""},
		{hubspottest.Fault{Status: 429, Header: map[string]string{"Retry-After": "7"}}, "retry:rate_limit", 7 * time.Second, ""},
		{hubspottest.Fault{Status: 503}, "retry:http_503", 0, ""},
		{hubspottest.Fault{Status: 423, Header: map[string]string{"Retry-After": "2"}}, "retry:http_423", 2 * time.Second, ""},
		{hubspottest.Fault{Status: 401}, "", 0, "access token"},
		{hubspottest.Fault{Status: 403}, "", 0, "scope"},
		{hubspottest.Fault{Status: 404}, "", 0, "list_id"},
		{hubspottest.Fault{Status: 418}, "", 0, "418"},
	} {
		s := newServer(t)
		d := open(t, s)
		tt.fault.Path = "/upsert"
		s.Fail(tt.fault)
		results, err := d.Write(t.Context(), people("b", "k|ann@example.org|Ann"))
		if tt.outcome == "" {
			if err == nil || !strings.Contains(err.Error(), tt.inError) {
				t.Errorf("%+v: %+v, %v", tt.fault, results, err)
			}
			continue
		}
		if err != nil || outcomes(results) != tt.outcome || results[0].RetryAfter != tt.after {
			t.Errorf("%+v: %+v, %v", tt.fault, results, err)
		}
	}
}

func TestOpenAndCheck(t *testing.T) {
	s := newServer(t)
	s.Property("plain", "string", false)
	for _, tt := range []struct{ field, value, want string }{
		{"key_property", "nothing", "make it in HubSpot"},
		{"key_property", "plain", "unique"},
		{"access_token", "other", "access token"},
	} {
		d := New()
		if err := d.Open(t.Context(), configOf(s, tt.field, tt.value)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.value, err)
		}
	}
	if err := open(t, s, "list_id", list).(destination.Checker).Check(t.Context()); err != nil {
		t.Error(err)
	}
	if err := open(t, s, "list_id", "1").(destination.Checker).Check(t.Context()); err == nil || !strings.Contains(err.Error(), "list_id") {
		t.Error(err)
	}
	target, err := open(t, s).(destination.TargetDescriber).DescribeTarget(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for column, good := range map[string]bool{"email": true, "sluis_key": false, "createdate": false, "nothing": false} {
		if err := target.CheckColumns([]destination.Column{{Name: column}}); (err == nil) != good {
			t.Errorf("%s: %v", column, err)
		}
	}
	for column, want := range map[string]string{"sluis_key": "holds the key", "createdate": "cannot be written", "nothing": "no property"} {
		b := people("b", "k|ann@example.org|Ann")
		b.Columns[1].Name = column
		if _, err := open(t, s).Write(t.Context(), b); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", column, err)
		}
	}
}

// The requests are those of HubSpot's documentation, field by field.
func TestRecordedRequests(t *testing.T) {
	s := newServer(t)
	d := open(t, s, "list_id", list)
	write(t, d, people("b1", "k1|test@example.com|Brian", "k2|~|Ann"), "delivered delivered")
	write(t, d, people("b2", "-k1"), "delivered")
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
		{"access_token", ""},
		{"access_token", "hunter2 x"},
		{"key_property", "Email"},
		{"key_property", "email"},
		{"list_id", "hunter2"},
		{"removes", "list"},
		{"removes", "hunter2"},
		{"host", "http://api.hubapi.com"},
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
