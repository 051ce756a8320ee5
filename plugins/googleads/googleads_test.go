package googleads

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	datamanager "google.golang.org/api/datamanager/v1"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/plugins/destination/destinationtest"
	"github.com/sluis-cdp/sluis/plugins/destination/normalize"
	"github.com/sluis-cdp/sluis/plugins/googleads/googleadstest"
)

func newServer(t *testing.T) *googleadstest.Server {
	t.Helper()
	s := googleadstest.New()
	t.Cleanup(s.Close)
	return s
}

func configOf(s *googleadstest.Server, more ...string) map[string]string {
	c := map[string]string{
		"credentials": s.ServiceAccount(), "customer_id": "123-456-7890", "login_customer_id": googleadstest.Manager,
		"user_list_id": googleadstest.List, "customer_match_terms": "accepted", "host": s.URL,
	}
	for i := 0; i < len(more); i += 2 {
		c[more[i]] = more[i+1]
	}
	return c
}

// hosted brings values into their forms, as the host does for a plugin.
type hosted struct{ *googleads }

func (h hosted) Write(ctx context.Context, batch destination.Batch) ([]destination.Result, error) {
	batch, _ = normalize.Batch(h.Describe().Target, batch)
	return h.googleads.Write(ctx, batch)
}

func open(t *testing.T, s *googleadstest.Server, more ...string) hosted {
	t.Helper()
	d := &googleads{tokenURL: s.URL + "/token"}
	if err := d.Open(t.Context(), configOf(s, more...)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return hosted{d}
}

// people is a batch of "key|address|number"; "-key" removes. What follows two
// more bars was sent for the key before.
func people(id string, rows ...string) destination.Batch {
	b := destination.Batch{ID: id, Sync: "s", Run: "r", Purpose: "advertising", Columns: []destination.Column{
		{Name: "email_address", Type: destination.String}, {Name: "phone_number", Type: destination.String},
	}}
	values := func(text string) []any {
		v := []any{nil, nil}
		for n, s := range strings.SplitN(text, "|", 2) {
			if s != "" {
				v[n] = s
			}
		}
		return v
	}
	for i, row := range rows {
		sets := strings.Split(row, "||")
		key, now, _ := strings.Cut(sets[0], "|")
		c := destination.Change{ID: fmt.Sprintf("%s-%d", id, i), Key: key, Op: destination.Upsert, Values: values(now), Decision: "d-" + key}
		if bare, ok := strings.CutPrefix(key, "-"); ok {
			c.Key, c.Op, c.Decision = bare, destination.Remove, ""
		}
		for _, former := range sets[1:] {
			c.Former = append(c.Former, values(former))
		}
		b.Changes = append(b.Changes, c)
	}
	return b
}

func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
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

// expect holds the list to have the hashes of texts.
func expect(t *testing.T, s *googleadstest.Server, texts ...string) {
	t.Helper()
	s.Finish()
	want := map[string]bool{}
	for _, text := range texts {
		want[hash(text)] = true
	}
	got := map[string]bool{}
	for _, id := range s.Members() {
		got[id] = true
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the list (-want +got):\n%s", diff)
	}
}

// suite is the conformance suite's batch with its texts as e-mail addresses.
func suite(id string, op destination.Op) destination.Batch {
	b := people(id)
	b.Columns = b.Columns[:1]
	for i, c := range destinationtest.Batch(id, op).Changes {
		c.Values, c.Decision = []any{fmt.Sprintf("p%d@example.org", i)}, "d"
		if op == destination.Remove {
			c.Former, c.Values = [][]any{c.Values}, []any{nil}
		}
		b.Changes = append(b.Changes, c)
	}
	return b
}

func TestConformance(t *testing.T) {
	destinationtest.RunWith(t, func(t *testing.T) (destination.Destination, map[string]string) {
		return hosted{&googleads{}}, configOf(newServer(t))
	}, suite)
}

func TestMembers(t *testing.T) {
	s := newServer(t)
	d := open(t, s)
	write(t, d, people("b1", "a|Ann@Example.org|+31 6 12345678", "b|B.o.b+x@gmail.com", "c", "d|no address"), "accepted accepted rejected:no_identifier rejected:no_identifier")
	expect(t, s, "ann@example.org", "+31612345678", "bob@gmail.com")
	// A changed address takes the place of the former one; what stays, stays.
	write(t, d, people("b2", "a|anna@example.org|+31612345678||ann@example.org|+31612345678"), "accepted")
	expect(t, s, "anna@example.org", "+31612345678", "bob@gmail.com")
	// A removal takes out whatever was sent for the key, whenever.
	write(t, d, people("b3", "-a||anna@example.org|+31612345678||ann@example.org", "-nobody"), "accepted skipped:never_sent")
	expect(t, s, "bob@gmail.com")
}

func TestAddress(t *testing.T) {
	s := newServer(t)
	b := people("b", "a", "b")
	b.Columns = nil
	for _, name := range []string{"given_name", "family_name", "region_code", "postal_code"} {
		b.Columns = append(b.Columns, destination.Column{Name: name, Type: destination.String})
	}
	b.Changes[0].Values = []any{" John ", "Doe", "us", "94045"}
	b.Changes[1].Values = []any{"John", "Doe", "us", nil}
	write(t, open(t, s), b, "accepted rejected:no_identifier")
	if diff := cmp.Diff([]string{hash("john") + "|" + hash("doe") + "|US|94045"}, s.Members()); diff != "" {
		t.Error(diff)
	}
}

// Google is told of consent only what there is evidence of, member by member.
func TestConsent(t *testing.T) {
	s := newServer(t)
	d := open(t, s)
	b := people("b", "a|a@example.org", "b|b@example.org", "c|c@example.org", "d|d@example.org")
	b.Columns = append(b.Columns, destination.Column{Name: personalized, Type: destination.Bool})
	for i, v := range []any{true, false, nil, true} {
		b.Changes[i].Values = append(b.Changes[i].Values, v)
	}
	b.Changes[3].Decision = ""
	write(t, d, b, "accepted accepted accepted retry:no_evidence")
	var got datamanager.IngestAudienceMembersRequest
	if err := json.Unmarshal(s.Bodies()[0], &got); err != nil {
		t.Fatal(err)
	}
	var said []string
	for _, m := range got.AudienceMembers {
		said = append(said, m.Consent.AdUserData+" "+m.Consent.AdPersonalization)
	}
	want := []string{"CONSENT_GRANTED CONSENT_GRANTED", "CONSENT_GRANTED CONSENT_DENIED", "CONSENT_GRANTED CONSENT_DENIED"}
	if diff := cmp.Diff(want, said); diff != "" || got.Consent != nil {
		t.Errorf("%s and for all %+v", diff, got.Consent)
	}
	// Another purpose is no consent to ads.
	b = people("c", "e|e@example.org")
	b.Purpose = "marketing"
	write(t, d, b, "rejected:wrong_purpose")
	write(t, open(t, s, "consent_purpose", "marketing"), b, "accepted")
	expect(t, s, "a@example.org", "b@example.org", "c@example.org", "e@example.org")
}

// What was taken on is polled to the end, and tells counts and reasons.
func TestReceipts(t *testing.T) {
	s := newServer(t)
	s.Polls = 2
	bad := hash("bad@example.org")
	s.Unfit = func(id string) string {
		switch id {
		case bad:
			return "INVALID_FORMAT"
		case hash("broken@example.org"):
			return "INTERNAL_ERROR"
		}
		return ""
	}
	d := open(t, s)
	receipt := func(rows ...string) string {
		results, err := d.Write(t.Context(), people("b", rows...))
		if err != nil || results[0].Outcome != destination.Accepted {
			t.Fatalf("%+v, %v", results, err)
		}
		return results[0].Receipt
	}
	good := receipt("a|a@example.org")
	partial := receipt("b|b@example.org", "c|bad@example.org", "d|d@example.org")
	failed, broken := receipt("e|bad@example.org"), receipt("f|broken@example.org")
	changed := receipt("g|bad@example.org||g@example.org")
	asked := []string{good, partial, failed, broken, changed, "no such request", ""}
	poller := open(t, s) // another process
	settled, err := poller.Poll(t.Context(), asked)
	if err != nil || len(settled) != 2 { // the others are PROCESSING
		t.Fatalf("%+v, %v", settled, err)
	}
	for range 5 {
		if settled, err = poller.Poll(t.Context(), asked); err != nil {
			t.Fatal(err)
		}
		if len(settled) == len(asked) {
			break
		}
	}
	want := []destination.Settlement{
		{Receipt: good, Outcome: destination.Delivered},
		{Receipt: partial, Outcome: destination.Delivered, Code: "invalid_format", Message: "Google did not take 1 of the request's members, and does not say which; most for the reason invalid_format", FailedRows: 1},
		{Receipt: failed, Outcome: destination.Rejected, Code: "invalid_format", Message: "Google did not take 1 of the request's members, and does not say which; most for the reason invalid_format", FailedRows: 1},
		{Receipt: broken, Outcome: destination.Retry, Code: "internal_error", Message: "Google did not take 1 of the request's members, and does not say which; most for the reason internal_error", FailedRows: 1},
		{Receipt: changed, Outcome: destination.Rejected, Code: "invalid_format", Message: "Google did not take 1 of the request's members, and does not say which; most for the reason invalid_format", FailedRows: 1},
		{Receipt: "no such request", Outcome: destination.Unknown, Code: "not_a_receipt", Message: "Google knows of no such request"},
		{Receipt: "", Outcome: destination.Unknown, Code: "not_a_receipt", Message: "Google knows of no such request"},
	}
	if diff := cmp.Diff(want, settled); diff != "" {
		t.Error(diff)
	}
}

// Google keeps no order between requests: who is put in by an address that is
// being taken out for another key waits until that is done.
func TestRemovalComesFirst(t *testing.T) {
	s := newServer(t)
	s.Polls = 3
	d := open(t, s)
	b := people("b", "-a||ann@example.org", "b|ann@example.org", "c|cy@example.org")
	write(t, d, b, "accepted retry:removal_unfinished accepted")
	s.Finish()
	write(t, d, people("c", "b|ann@example.org"), "accepted")
	expect(t, s, "ann@example.org", "cy@example.org")
}

// Members that Google refuses a request for are left out of it.
func TestRefusedMembers(t *testing.T) {
	s := newServer(t)
	d := open(t, s)
	fault := func(n int) googleadstest.Fault {
		return googleadstest.Fault{Path: "ingest", Status: 400, Body: fmt.Sprintf(`{"error":{"code":400,"status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.BadRequest",
			"fieldViolations":[{"field":"audience_members.audience_members[%d].user_data.user_identifiers","description":"Email is not hex encoded.","reason":"INVALID_HEX_ENCODING"}]}]}}`, n)}
	}
	s.Fail(fault(1), fault(1))
	write(t, d, people("b", "a|a@example.org", "b|b@example.org", "c|c@example.org", "d|d@example.org"),
		"accepted rejected:invalid_hex_encoding rejected:invalid_hex_encoding accepted")
	expect(t, s, "a@example.org", "d@example.org")
	var refusals []googleadstest.Fault
	for range maxRetries {
		refusals = append(refusals, fault(0))
	}
	s.Fail(refusals...)
	var rows []string
	for i := range maxRetries + 1 {
		rows = append(rows, fmt.Sprintf("k%d|k%d@example.org", i, i))
	}
	write(t, d, people("c", rows...), strings.Repeat("rejected:invalid_hex_encoding ", maxRetries)+"retry:not_sent")
}

// What reaches the plugin without its form does not leave it.
func TestClearValuesAreNotSent(t *testing.T) {
	s := newServer(t)
	d := open(t, s).googleads // not through the host
	write(t, d, people("b1", "a|ann@example.org", "-b||ann@example.org", "c|"+hash("x")+"||ann@example.org"), "rejected:not_hashed rejected:not_hashed rejected:not_hashed")
	if len(s.Bodies()) > 0 {
		t.Error("something was sent")
	}
}

func TestManyMembers(t *testing.T) {
	s := newServer(t)
	rows := make([]string, googleadstest.MaxMembers+1)
	for i := range rows {
		rows[i] = fmt.Sprintf("k%d|p%d@example.org", i, i)
	}
	write(t, open(t, s), people("b", rows...), strings.TrimSuffix(strings.Repeat("accepted ", len(rows)), " "))
	if n := len(s.Bodies()); n != 2 {
		t.Errorf("%d requests", n)
	}
	if n := len(s.Members()); n != len(rows) {
		t.Errorf("%d members", n)
	}
}

// A batch whose answer was lost is sent again, and leaves the list as one
// sending would.
func TestSentAgain(t *testing.T) {
	delay := `{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"34.5s"}]}}`
	for _, tt := range []struct {
		fault googleadstest.Fault
		want  string
		after time.Duration
	}{
		{googleadstest.Fault{Hangup: true, Path: "audienceMembers"}, "retry:network", 0},
		{googleadstest.Fault{Hangup: true, Path: "audienceMembers", Applied: true}, "retry:network", 0},
		{googleadstest.Fault{Hangup: true, Path: "token"}, "retry:token_network", 0},
		{googleadstest.Fault{Status: 503, Path: "token"}, "retry:token_unavailable", 0},
		{googleadstest.Fault{Status: 502, Path: "audienceMembers", Applied: true}, "retry:http_502", 0},
		{googleadstest.Fault{Status: 200, Path: "audienceMembers", Body: "{", Applied: true}, "retry:reply_invalid", 0},
		{googleadstest.Fault{Status: 429, Path: "audienceMembers", Body: delay}, "retry:rate_limit", 34500 * time.Millisecond},
		{googleadstest.Fault{Status: 429, Path: "audienceMembers", Header: map[string]string{"Retry-After": "7"}}, "retry:rate_limit", 7 * time.Second},
	} {
		s := newServer(t)
		d := open(t, s)
		s.Fail(tt.fault)
		b := people("b", "a|a@example.org", "b|b@example.org")
		if results := write(t, d, b, tt.want+" "+tt.want); results[0].RetryAfter != tt.after {
			t.Errorf("%+v: %+v", tt.fault, results[0])
		}
		write(t, d, b, "accepted accepted")
		expect(t, s, "a@example.org", "b@example.org")
	}
}

func TestErrors(t *testing.T) {
	reason := func(word string) string {
		return `{"error":{"code":400,"status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"` + word + `"}]}}`
	}
	for want, fault := range map[string]googleadstest.Fault{
		"access token is not valid": {Status: 401},
		"have no access":            {Status: 403},
		"check customer_id":         {Status: 404},
		"terms of Customer Match":   {Status: 400, Body: reason("TERMS_AND_CONDITIONS_NOT_SIGNED")},
		"400 (invalid_argument)":    {Status: 400, Body: reason("INVALID_ARGUMENT")},
		"400 (without a reason)":    {Status: 400, Body: "<html>"},
		"418":                       {Status: 418},
		"(invalid_user_list_id)":    {Status: 400, Body: `{"error":{"details":[{"fieldViolations":[{"field":"destinations[0]","reason":"INVALID_USER_LIST_ID"}]}]}}`},
		"does not count any more":   {Status: 400, Path: "token", Body: `{"error":"invalid_grant"}`},
		"gives no token":            {Status: 400, Path: "token", Body: `{"error":"invalid_scope"}`},
	} {
		s := newServer(t)
		d := open(t, s)
		if fault.Path == "" {
			fault.Path = "audienceMembers"
		}
		s.Fail(fault)
		if results, err := d.Write(t.Context(), people("b", "k|ann@example.org")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %+v, %v", want, results, err)
		}
	}
}

// Both kinds of credentials get tokens; one that does not count any more is not
// used for ever.
func TestTokens(t *testing.T) {
	s := newServer(t)
	for name, credentials := range map[string]string{"service account": s.ServiceAccount(), "login": s.Login()} {
		d := open(t, s, "credentials", credentials)
		write(t, d, people("b", "a|a@example.org"), "accepted")
		s.Expire()
		if _, err := d.Write(t.Context(), people("c", "b|b@example.org")); err == nil || !strings.Contains(err.Error(), "access token") {
			t.Errorf("%s: %v", name, err)
		}
		write(t, open(t, s, "credentials", credentials), people("d", "b|b@example.org"), "accepted")
	}
	if _, err := open(t, s, "credentials", strings.ReplaceAll(s.Login(), "1//refresh", "1//other")).Write(t.Context(), people("e", "a|a@example.org")); err == nil || !strings.Contains(err.Error(), "does not count any more") {
		t.Error(err)
	}
	if _, err := open(t, s, "credentials", strings.ReplaceAll(s.ServiceAccount(), "MII", "xxx")).Write(t.Context(), people("e", "a|a@example.org")); err == nil || !strings.Contains(err.Error(), "no token can be asked for") {
		t.Error(err)
	}
}

func TestCheck(t *testing.T) {
	s := newServer(t)
	check := func(more ...string) error { return open(t, s, more...).Check(t.Context()) }
	if err := check(); err != nil {
		t.Error(err)
	}
	for want, err := range map[string]error{
		"check customer_id": check("user_list_id", "42"), "have no access": check("login_customer_id", "9999999999"), "does not count": check("credentials", strings.ReplaceAll(s.Login(), "1//", "")),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	for want, change := range map[string]func(*datamanager.UserList){
		"may only be read":       func(l *datamanager.UserList) { l.ReadOnly = true },
		"closed":                 func(l *datamanager.UserList) { l.ReadOnly, l.MembershipStatus = false, "CLOSED" },
		"of contact information": func(l *datamanager.UserList) { l.IngestedUserListInfo = nil },
	} {
		s := newServer(t)
		s.Change(change)
		if err := open(t, s).Check(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// Google might quote what it was sent; nothing of it is repeated, and no secret.
func TestCanary(t *testing.T) {
	quoted := destinationtest.Canary + " " + hash(destinationtest.Canary)
	bodies := []string{
		quoted,
		`{"error":{"message":"` + quoted + `","status":"` + quoted + `","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"` + quoted + `"}]}}`,
		`{"error":{"details":[{"fieldViolations":[{"field":"audience_members[0]","description":"` + quoted + `","reason":"` + quoted + `"}]}]}}`,
		`{"error":{"details":[{"fieldViolations":[{"field":"` + quoted + `","description":"` + strings.ToUpper(quoted) + `","reason":"` + quoted + `"}]}]}}`,
	}
	for _, body := range bodies {
		for _, status := range []int{400, 401, 403, 404, 409, 429, 500} {
			s := newServer(t)
			d := open(t, s)
			s.Fail(googleadstest.Fault{Path: "audienceMembers", Status: status, Body: body})
			results, err := d.Write(t.Context(), people("b", "k|"+destinationtest.Canary))
			said := strings.ToLower(fmt.Sprintf("%v %+v", err, results))
			for _, secret := range []string{destinationtest.Canary, hash(destinationtest.Canary), "private key"} {
				if strings.Contains(said, secret) {
					t.Errorf("%d %s: %s", status, body, said)
				}
			}
			if err == nil && results[0].Outcome == destination.Accepted {
				t.Errorf("%d: accepted", status)
			}
			for _, body := range s.Bodies() {
				if strings.Contains(string(body), destinationtest.Canary) {
					t.Error("an address in clear was sent")
				}
			}
		}
	}
}

// The requests are those of Google's documentation, field by field: the first
// member is that of its guide to sending audience members, and the hashes are
// those that it publishes.
func TestRecordedRequests(t *testing.T) {
	s := newServer(t)
	d := open(t, s)
	b := people("b1", "k1| Dana@Example.com", "k2|alexz@example.com|+1 800-555-0100")
	for _, name := range []string{"given_name", "family_name", "region_code", "postal_code"} {
		b.Columns = append(b.Columns, destination.Column{Name: name, Type: destination.String})
	}
	b.Columns = append(b.Columns, destination.Column{Name: personalized, Type: destination.Bool})
	b.Changes[0].Values = append(b.Changes[0].Values, nil, nil, nil, nil, true)
	b.Changes[1].Values = append(b.Changes[1].Values, "John", "Doe", "us", "94045", false)
	write(t, d, b, "accepted accepted")
	write(t, d, people("b2", "-k1||dana@example.com"), "accepted")
	for i, name := range []string{"ingest", "remove"} {
		text, err := os.ReadFile("testdata/" + name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		var want, got any
		if err := errors.Join(json.Unmarshal(text, &want), json.Unmarshal(s.Bodies()[i], &got)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-documented +sent):\n%s", name, diff)
		}
	}
}

func TestConfig(t *testing.T) {
	s := newServer(t)
	for _, tt := range []struct{ field, value string }{
		{"credentials", ""},
		{"credentials", "hunter2"},
		{"credentials", `{"type":"external_account","token_url":"https://hunter2"}`},
		{"credentials", `{"type":"service_account","token_uri":"http://hunter2.example"}`},
		{"customer_id", "12"},
		{"customer_id", "hunter2"},
		{"login_customer_id", "hunter2"},
		{"user_list_id", "hunter2/.."},
		{"customer_match_terms", "yes"},
		{"host", "http://datamanager.googleapis.com"},
	} {
		config := configOf(s)
		maps.Copy(config, map[string]string{tt.field: tt.value})
		err := destination.Validate(New(), config)
		problem, ok := errors.AsType[*destination.ConfigError](err)
		if !ok || problem.Field != tt.field || strings.Contains(problem.Problem, "hunter2") {
			t.Errorf("%s %q: %v", tt.field, tt.value, err)
		}
	}
}
