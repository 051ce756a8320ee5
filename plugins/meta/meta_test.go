package meta

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/plugins/destination/destinationtest"
	"github.com/sluis-cdp/sluis/plugins/destination/normalize"
	"github.com/sluis-cdp/sluis/plugins/meta/metatest"
)

const (
	audienceID = "23842587999990123"
	datasetID  = "1234567890"
)

func newServer(t *testing.T) *metatest.Server {
	t.Helper()
	s := metatest.New(audienceID, datasetID)
	t.Cleanup(s.Close)
	return s
}

func configOf(s *metatest.Server, id, value string, more ...string) map[string]string {
	c := map[string]string{"access_token": s.Token, "host": s.URL, id: value}
	for i := 0; i < len(more); i += 2 {
		c[more[i]] = more[i+1]
	}
	return c
}

// hosted brings values into their forms, as the host does for a plugin.
type hosted struct{ destination.Destination }

func (h hosted) Write(ctx context.Context, batch destination.Batch) ([]destination.Result, error) {
	batch, _ = normalize.Batch(h.Describe().Target, batch)
	return h.Destination.Write(ctx, batch)
}

func openAudience(t *testing.T, s *metatest.Server, more ...string) destination.Destination {
	t.Helper()
	return opened(t, NewAudience(), configOf(s, "audience_id", audienceID, more...))
}

func openConversions(t *testing.T, s *metatest.Server, more ...string) destination.Destination {
	t.Helper()
	return opened(t, NewConversions(), configOf(s, "dataset_id", datasetID, more...))
}

func opened(t *testing.T, d destination.Destination, config map[string]string) destination.Destination {
	t.Helper()
	if err := d.Open(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return hosted{d}
}

// people is a batch of e-mail addresses and phone numbers; a key of "-" removes.
func people(id string, rows ...string) destination.Batch {
	b := destination.Batch{ID: id, Sync: "s", Run: "r", Columns: []destination.Column{
		{Name: "EMAIL", Type: destination.String}, {Name: "PHONE", Type: destination.String},
	}}
	for _, row := range rows {
		f := strings.Split(row+"||", "|")
		c := destination.Change{ID: id + "-" + f[0], Key: f[0], Op: destination.Upsert, Values: []any{nil, nil}}
		if key, ok := strings.CutPrefix(f[0], "-"); ok {
			c.Key, c.Op = key, destination.Remove
		}
		for i, v := range f[1:3] {
			if v != "" {
				c.Values[i] = v
			}
		}
		b.Changes = append(b.Changes, c)
	}
	return b
}

func many(id string, n int) destination.Batch {
	rows := make([]string, n)
	for i := range rows {
		rows[i] = fmt.Sprintf("k%d|p%d@example.org", i, i)
	}
	return people(id, rows...)
}

// outcomes counts results: "delivered 3, rejected:invalid_entry 1".
func outcomes(results []destination.Result) map[string]int {
	counts := map[string]int{}
	for _, r := range results {
		key := r.Outcome.String()
		if r.Code != "" {
			key += ":" + r.Code
		}
		counts[key]++
	}
	return counts
}

func write(t *testing.T, d destination.Destination, b destination.Batch, want map[string]int) []destination.Result {
	t.Helper()
	results, err := d.Write(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.CheckResults(results); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(want, outcomes(results)); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
	return results
}

// suite makes batches of the conformance suite's size for a destination's fields.
func suite(columns []destination.Column, values func(i int) []any) func(string, destination.Op) destination.Batch {
	return func(id string, op destination.Op) destination.Batch {
		b := destination.Batch{ID: id, Sync: "conformance", Run: "run-1", Columns: columns}
		for i := range 10 {
			c := destination.Change{ID: fmt.Sprintf("%s-%d", id, i), Key: fmt.Sprintf("key-%d", i), Op: op, Values: values(i)}
			if op == destination.Remove {
				c.Values = make([]any, len(columns))
			}
			b.Changes = append(b.Changes, c)
		}
		return b
	}
}

func hash(form, value string) string {
	h, err := normalize.Apply(form, value)
	if err != nil {
		panic(err)
	}
	return h
}

func audienceSuite() func(string, destination.Op) destination.Batch {
	return suite([]destination.Column{
		{Name: "EMAIL", Type: destination.String}, {Name: "FN", Type: destination.String}, {Name: "MADID", Type: destination.String}, {Name: ldu, Type: destination.Bool},
	}, func(i int) []any {
		v := []any{hash("meta.email", fmt.Sprintf("p%d@example.org", i)), hash("meta.name", "정"), nil, i%2 == 0}
		if i == 3 {
			v[0], v[1], v[2], v[3] = nil, nil, "ab1234cd", nil
		}
		return v
	})
}

func eventSuite() func(string, destination.Op) destination.Batch {
	return suite([]destination.Column{
		{Name: "em", Type: destination.String},
		{Name: "event_name", Type: destination.String},
		{Name: "event_time", Type: destination.Time},
		{Name: "action_source", Type: destination.String},
		{Name: "value", Type: destination.Float64},
	}, func(i int) []any {
		return []any{hash("meta.email", fmt.Sprintf("p%d@example.org", i)), "Purchase", time.Now().UTC().Truncate(time.Second).Add(-time.Hour), "email", float64(i) / 3}
	})
}

func TestConformance(t *testing.T) {
	t.Run("audience", func(t *testing.T) {
		destinationtest.RunWith(t, func(t *testing.T) (destination.Destination, map[string]string) {
			return NewAudience(), configOf(newServer(t), "audience_id", audienceID)
		}, audienceSuite())
	})
	t.Run("conversions", func(t *testing.T) {
		// An event without columns is none, so what the suite does without is TestEvents'.
		destinationtest.RunWith(t, func(t *testing.T) (destination.Destination, map[string]string) {
			return NewConversions(), configOf(newServer(t), "dataset_id", datasetID)
		}, eventSuite())
	})
}

// Whatever Meta says in whatever error, no value and no secret comes back.
func TestCanary(t *testing.T) {
	words := destinationtest.Canary + " EAAtesttoken hunter2"
	var faults []metatest.Fault
	for _, code := range []int{0, 1, 4, 100, 190, 200, 613, 2650, 12345} {
		for _, status := range []int{400, 500} {
			faults = append(faults, metatest.Fault{Status: status, Code: code, Words: words})
		}
	}
	for _, fault := range faults {
		for name, d := range map[string]func(*testing.T, *metatest.Server) (destination.Destination, destination.Batch){
			"audience": func(t *testing.T, s *metatest.Server) (destination.Destination, destination.Batch) {
				return openAudience(t, s, "app_secret", "hunter2"), people("b", "k|"+destinationtest.Canary)
			},
			"conversions": func(t *testing.T, s *metatest.Server) (destination.Destination, destination.Batch) {
				b := events("b", "k|Purchase|"+destinationtest.Canary)
				return openConversions(t, s, "app_secret", "hunter2"), b
			},
		} {
			s := newServer(t)
			d, b := d(t, s)
			s.Fail(fault)
			results, err := d.Write(t.Context(), b)
			said := fmt.Sprintf("%v %+v", err, results)
			for _, secret := range []string{destinationtest.Canary, s.Token, "hunter2"} {
				if strings.Contains(said, secret) {
					t.Errorf("%s, %+v: %s", name, fault, said)
				}
			}
			if err == nil && results[0].Outcome == destination.Delivered {
				t.Errorf("%s, %+v: delivered", name, fault)
			}
			for _, body := range s.Bodies() {
				if strings.Contains(string(body), destinationtest.Canary) {
					t.Errorf("%s: an address in clear was sent", name)
				}
			}
		}
	}
}

func TestAudience(t *testing.T) {
	s := newServer(t)
	d := openAudience(t, s)
	write(t, d, people("b1", "a|Ann@Example.org|+31612345678", "b|bob@example.org|nonsense", "c|no address|+1 650 555 1212"), map[string]int{"delivered": 3})
	write(t, d, people("b2", "d|nothing", "e||"), map[string]int{"rejected:no_identifier": 2})
	want := []map[string]string{
		{"EXTERN_ID": opaque(audienceID, "a"), "EMAIL": hash("meta.email", "ann@example.org"), "PHONE": hash("meta.phone", "31612345678")},
		{"EXTERN_ID": opaque(audienceID, "b"), "EMAIL": hash("meta.email", "bob@example.org")},
		{"EXTERN_ID": opaque(audienceID, "c"), "PHONE": "e323ec626319ca94ee8bff2e4c87cf613be6ea19919ed1364124e16807ab3176"},
	}
	if diff := cmp.Diff(want, s.Users(audienceID)); diff != "" {
		t.Error(diff)
	}
	// By the key alone, as the host removes; who is not there is removed too.
	write(t, d, people("b3", "-a", "-nobody"), map[string]int{"delivered": 2})
	if diff := cmp.Diff(want[1:], s.Users(audienceID)); diff != "" {
		t.Error(diff)
	}
	// A batch may have both, in order.
	write(t, d, people("b4", "-b", "b|bob@example.org", "-c"), map[string]int{"delivered": 3})
	if diff := cmp.Diff(want[1:2], s.Users(audienceID)); diff != "" {
		t.Error(diff)
	}
	if strings.Contains(fmt.Sprintf("%s", s.Bodies()), `"a"`) {
		t.Error("Meta was told a key")
	}
}

// What reaches the plugin without its form does not leave it.
func TestClearValuesAreNotSent(t *testing.T) {
	s := newServer(t)
	d := openAudience(t, s).(hosted).Destination // not through the host
	write(t, d, people("b1", "a|ann@example.org"), map[string]int{"rejected:not_hashed": 1})
	e := openConversions(t, s).(hosted).Destination
	write(t, e, events("b2", "a|Purchase|ann@example.org"), map[string]int{"rejected:not_hashed": 1})
	if len(s.Bodies()) > 0 {
		t.Error("something was sent")
	}
}

// The requests are those of Meta's documentation, field by field.
func TestRecordedRequests(t *testing.T) {
	s := newServer(t)
	d := openAudience(t, s)
	b := people("doc", "k1|john_smith@gmail.com|+1 650 555 1212", "k2|alexz@example.com")
	b.Columns = append(b.Columns, destination.Column{Name: ldu, Type: destination.Bool})
	b.Changes[0].Values = append(b.Changes[0].Values, true)
	b.Changes[1].Values = append(b.Changes[1].Values, false)
	write(t, d, b, map[string]int{"delivered": 2})
	write(t, d, people("doc2", "-k1"), map[string]int{"delivered": 1})

	e := openConversions(t, s, "limited_data_use", "always")
	at := time.Now().Add(-time.Hour).Unix()
	event := destination.Batch{
		ID: "doc3", Sync: "s", Run: "r",
		Columns: []destination.Column{
			{Name: "event_name", Type: destination.String},
			{Name: "event_time", Type: destination.Int64},
			{Name: "action_source", Type: destination.String},
			{Name: "event_source_url", Type: destination.String},
			{Name: "em", Type: destination.String},
			{Name: "client_ip_address", Type: destination.String},
			{Name: "client_user_agent", Type: destination.String},
			{Name: "fbc", Type: destination.String},
			{Name: "currency", Type: destination.String},
			{Name: "value", Type: destination.Float64},
		},
		Changes: []destination.Change{{ID: "1", Key: "order-1", Op: destination.Upsert, Values: []any{
			"Purchase", at, "website", "http://jaspers-market.com/product/123", "John_Smith@gmail.com", "192.19.9.9", "test ua", "fb.1.1554763741205.AbCdEf", "USD", 123.45,
		}}},
	}
	write(t, e, event, map[string]int{"delivered": 1})
	for i, name := range []string{"users_add", "users_remove", "events"} {
		got := strings.ReplaceAll(string(s.Bodies()[i]), fmt.Sprint(at), "1633552688")
		text, err := os.ReadFile("testdata/" + name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		var want, have any
		if err := errors.Join(json.Unmarshal(text, &want), json.Unmarshal([]byte(got), &have)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, have); diff != "" {
			t.Errorf("%s (-documented +sent):\n%s\n%s", name, diff, got)
		}
	}
}

// Meta says how many rows are invalid and not which: they are found.
func TestInvalidEntriesAreFound(t *testing.T) {
	s := newServer(t)
	bad := map[string]bool{}
	for _, i := range []int{0, 41, 99} {
		bad[hash("meta.email", fmt.Sprintf("p%d@example.org", i))] = true
	}
	s.Invalid = func(user map[string]string) bool { return bad[user["EMAIL"]] }
	d := openAudience(t, s)
	results := write(t, d, many("b", 100), map[string]int{"delivered": 97, "rejected:invalid_entry": 3})
	for _, i := range []int{0, 41, 99} {
		if results[i].Outcome != destination.Rejected {
			t.Errorf("row %d is %v", i, results[i].Outcome)
		}
	}
	if n := len(s.Users(audienceID)); n != 97 {
		t.Errorf("%d members", n)
	}
	// With so many that to find them all would take a request each, some stay open, and say so.
	s.Invalid = func(user map[string]string) bool { return user["EMAIL"] < "8" }
	results, err := d.Write(t.Context(), many("c", 2000))
	if err != nil {
		t.Fatal(err)
	}
	open := 0
	for _, r := range results {
		if r.Outcome == destination.Delivered && strings.Contains(r.Message, "does not say which") {
			open++
		}
	}
	if open == 0 || len(s.Bodies()) > 100 {
		t.Errorf("%d rows open after %d requests", open, len(s.Bodies()))
	}
}

func TestManyUsers(t *testing.T) {
	s := newServer(t)
	d := openAudience(t, s)
	write(t, d, many("b", metatest.MaxUsers+1), map[string]int{"delivered": metatest.MaxUsers + 1})
	if n := len(s.Bodies()); n != 2 {
		t.Errorf("%d requests", n)
	}
}

// A batch whose answer was lost is sent again, and leaves the audience as one
// sending would.
func TestSentAgain(t *testing.T) {
	s := newServer(t)
	d := openAudience(t, s)
	b := many("b", 5)
	for _, fault := range []metatest.Fault{{Hangup: true}, {Hangup: true, Applied: true}, {Status: 500, Code: 2, Applied: true}, {Status: 502, Applied: true}} {
		s.Fail(fault)
		results, err := d.Write(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range results {
			if r.Outcome != destination.Retry {
				t.Errorf("%+v: %+v", fault, r)
			}
		}
		write(t, d, b, map[string]int{"delivered": 5})
		if n := len(s.Users(audienceID)); n != 5 {
			t.Errorf("%+v: %d members", fault, n)
		}
	}
	bodies := s.Bodies()
	if string(bodies[0]) != string(bodies[1]) {
		t.Error("sent again, the request differs")
	}
}

func TestErrors(t *testing.T) {
	usage := `{"1234":[{"type":"custom_audience","call_count":100,"estimated_time_to_regain_access":7}]}`
	for _, tt := range []struct {
		fault   metatest.Fault
		outcome string // "" means an error
		after   time.Duration
		inError string
	}{
		{metatest.Fault{Status: 400, Code: 613, Subcode: 1487742, Header: map[string]string{"X-Business-Use-Case-Usage": usage}}, "retry:meta_613_1487742", 7 * time.Minute, ""},
		{metatest.Fault{Status: 400, Code: 17, Header: map[string]string{"Retry-After": "3"}}, "retry:meta_17", 3 * time.Second, ""},
		{metatest.Fault{Status: 400, Code: 80003}, "retry:meta_80003", 0, ""},
		{metatest.Fault{Status: 500, Code: 1}, "retry:meta_1", 0, ""},
		{metatest.Fault{Status: 503, Header: map[string]string{"Retry-After": "60"}}, "retry:http_503", time.Minute, ""},
		{metatest.Fault{Status: 400, Code: 100}, "rejected:meta_100", 0, ""},
		{metatest.Fault{Status: 400, Code: 100, Subcode: 33}, "", 0, "nothing with the configured id"},
		{metatest.Fault{Status: 400, Code: 100, Subcode: 1713230}, "", 0, "blocked"},
		{metatest.Fault{Status: 401, Code: 190, Subcode: 463}, "", 0, "access token"},
		{metatest.Fault{Status: 403, Code: 200}, "", 0, "ads_management"},
		{metatest.Fault{Status: 400, Code: 2650}, "", 0, "terms"},
		{metatest.Fault{Status: 404}, "", 0, "404"},
		{metatest.Fault{Status: 400, Code: 999}, "", 0, "meta_999"},
	} {
		s := newServer(t)
		d := openAudience(t, s)
		s.Fail(tt.fault)
		results, err := d.Write(t.Context(), people("b", "k|ann@example.org"))
		if tt.outcome == "" {
			if err == nil || !strings.Contains(err.Error(), tt.inError) {
				t.Errorf("%+v: %+v, %v", tt.fault, results, err)
			}
			continue
		}
		if err != nil || outcomes(results)[tt.outcome] != 1 || results[0].RetryAfter != tt.after {
			t.Errorf("%+v: %+v, %v", tt.fault, results, err)
		}
	}
}

func TestCheck(t *testing.T) {
	s := newServer(t)
	check := func(more ...string) error {
		return openAudience(t, s, more...).(hosted).Destination.(destination.Checker).Check(t.Context())
	}
	if err := check(); err != nil {
		t.Error(err)
	}
	for want, err := range map[string]error{
		"nothing with": check("audience_id", "42"), "access token": check("access_token", "other"), "customer list": check("audience_id", datasetID),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	s.Block(audienceID)
	if err := check(); err == nil || !strings.Contains(err.Error(), "flagged") {
		t.Error(err)
	}
	if _, err := openAudience(t, s).Write(t.Context(), people("b", "k|ann@example.org")); err == nil || !strings.Contains(err.Error(), "blocked") {
		t.Error(err)
	}
}

// events is a batch of them: key, name and e-mail address.
func events(id string, rows ...string) destination.Batch {
	b := destination.Batch{ID: id, Sync: "s", Run: "r", Columns: []destination.Column{
		{Name: "event_name", Type: destination.String},
		{Name: "em", Type: destination.String},
		{Name: "event_time", Type: destination.Time},
		{Name: "action_source", Type: destination.String},
	}}
	for _, row := range rows {
		f := strings.Split(row, "|")
		b.Changes = append(b.Changes, destination.Change{
			ID: id + "-" + f[0], Key: f[0], Op: destination.Upsert,
			Values: []any{f[1], f[2], time.Now().Add(-time.Hour).UTC().Truncate(time.Second), "email"},
		})
	}
	return b
}

func TestEvents(t *testing.T) {
	s := newServer(t)
	d := openConversions(t, s)
	b := events("b", "o1|Purchase|ann@example.org", "o2|Purchase|bob@example.org")
	s.Fail(metatest.Fault{Hangup: true, Applied: true})
	write(t, d, b, map[string]int{"retry:network": 2})
	write(t, d, b, map[string]int{"delivered": 2})
	b.ID = "another"
	write(t, openConversions(t, s), b, map[string]int{"delivered": 2})
	if n := len(s.Events(datasetID)); n != 2 {
		t.Errorf("%d events count", n)
	}
	b.Changes[0].Op, b.Changes[0].Values = destination.Remove, make([]any, 4)
	write(t, d, b, map[string]int{"delivered": 1, "skipped:cannot_be_removed": 1})
	write(t, openConversions(t, s, "test_event_code", "TEST123"), events("t", "o3|Purchase|cy@example.org"), map[string]int{"delivered": 1})
	if n := len(s.Events(datasetID)); n != 2 {
		t.Errorf("with a test: %d events count", n)
	}
}

// One event that Meta would refuse would fail all: it is not sent, or found.
func TestEventsThatAreRefused(t *testing.T) {
	s := newServer(t)
	s.Refused = func(event map[string]any) bool { return event["event_name"] == "Bad" }
	d := openConversions(t, s)
	rows := make([]string, 100)
	for i := range rows {
		rows[i] = fmt.Sprintf("o%d|Purchase|p%d@example.org", i, i)
	}
	rows[17], rows[90] = "o17|Bad|x@example.org", "o90|Bad|x@example.org"
	write(t, d, events("b", rows...), map[string]int{"delivered": 98, "rejected:meta_100_2804003": 2})

	for want, spoil := range map[string]func(v []any){
		"no_event_name":            func(v []any) { v[0] = nil },
		"no_identifier":            func(v []any) { v[1] = nil },
		"no_event_time":            func(v []any) { v[2] = nil },
		"event_too_old":            func(v []any) { v[2] = time.Now().Add(-8 * 24 * time.Hour).UTC() },
		"event_in_future":          func(v []any) { v[2] = time.Now().Add(time.Hour).UTC() },
		"invalid_action_source":    func(v []any) { v[3] = "teleport" },
		"incomplete_website_event": func(v []any) { v[3] = "website" },
	} {
		b := events("c"+want, "a|Purchase|ann@example.org", "b|Purchase|bob@example.org")
		spoil(b.Changes[1].Values)
		write(t, d, b, map[string]int{"delivered": 1, "rejected:" + want: 1})
	}
	store := events("store", "a|Purchase|ann@example.org")
	store.Changes[0].Values[2], store.Changes[0].Values[3] = time.Now().Add(-30*24*time.Hour).UTC(), "physical_store"
	write(t, d, store, map[string]int{"delivered": 1})

	// A request of which nothing is taken does not become a thousand.
	before := len(s.Bodies())
	s.Refused = func(map[string]any) bool { return true }
	if _, err := d.Write(t.Context(), events("all", rows...)); err != nil {
		t.Fatal(err)
	}
	if n := len(s.Bodies()) - before; n > maxProbes+1 {
		t.Errorf("%d requests", n)
	}
}

func TestConfig(t *testing.T) {
	for _, tt := range []struct{ field, value string }{
		{"access_token", ""},
		{"access_token", "hunter2 x"},
		{"audience_id", ""},
		{"audience_id", "act_1"},
		{"audience_id", "1/../me"},
		{"api_version", "25"},
		{"host", "http://graph.facebook.com"},
		{"host", "https://hunter2@x"},
		{"limited_data_use", "true"},
	} {
		config := map[string]string{"access_token": "t", "audience_id": "1"}
		maps.Copy(config, map[string]string{tt.field: tt.value})
		err := destination.Validate(NewAudience(), config)
		problem, ok := errors.AsType[*destination.ConfigError](err)
		if !ok || problem.Field != tt.field || strings.Contains(problem.Problem, "hunter2") {
			t.Errorf("%s %q: %v", tt.field, tt.value, err)
		}
	}
	if err := destination.Validate(NewConversions(), map[string]string{"access_token": "t", "dataset_id": "1", "test_event_code": "a b"}); err == nil {
		t.Error("no error")
	}
}

func TestMappingIsChecked(t *testing.T) {
	d := openAudience(t, newServer(t))
	b := people("b", "k|ann@example.org")
	b.Columns[0].Name = "email"
	if _, err := d.Write(t.Context(), b); err == nil || !strings.Contains(err.Error(), "there are EMAIL, PHONE") {
		t.Error(err)
	}
}
