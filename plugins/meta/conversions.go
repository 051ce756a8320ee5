package meta

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/plugins/destination/normalize"
)

const (
	maxEvents = 1000                // of one request, as Meta documents
	maxAge    = 7 * 24 * time.Hour  // an older event fails its whole request
	offline   = 62 * 24 * time.Hour // but for what happened in a store
)

// conversions is the destination for events. Open sets its fields.
type conversions struct {
	account account
	dataset string
	test    string
	limited bool
	open    bool
	now     func() time.Time
}

// NewConversions returns the destination for events.
func NewConversions() destination.Destination { return &conversions{now: time.Now} }

// Describe implements [destination.Destination].
func (*conversions) Describe() destination.Description {
	return destination.Description{
		Name:        "meta-conversions",
		Version:     "1.0.0",
		Ops:         []destination.Op{destination.Upsert, destination.Remove},
		Granularity: destination.PerRow,
		Idempotent:  true, // for 48 hours, in which Meta drops an event_id that it has seen
		MaxRows:     maxEvents,
		Paced:       true, // what Meta takes depends on the account; its answers say when it is too much
		Config: append([]destination.Field{
			{Name: "dataset_id", Required: true, Help: "the id of the dataset, or pixel"},
			{Name: "test_event_code", Help: "sends the events to Test Events in the Events Manager, where they do not count"},
			{Name: "limited_data_use", Help: `"always" marks all events for Limited Data Use (CCPA), "never" none, which is the default; a field LDU says it by row`},
		}, accountFields()...),
		EgressHosts: egress(),
		Target:      destination.Target{Closed: true, Fields: eventFields()},
	}
}

// The fields of an event, by where they go.
var (
	userFields   = []string{"em", "ph", "fn", "ln", "ge", "db", "ct", "st", "zp", "country", "external_id"}
	plainFields  = []string{"client_ip_address", "client_user_agent", "fbc", "fbp"}
	customFields = []string{"value", "currency", "order_id", "content_name", "content_category", "content_type", "num_items"}
	sources      = []string{"email", "website", "app", "phone_call", "chat", "physical_store", "system_generated", "business_messaging", "other"}
)

func eventFields() []destination.TargetField {
	text := []destination.Type{destination.String}
	fields := []destination.TargetField{
		{Name: "event_name", Required: true, Types: text, Help: "a standard event such as Purchase, or your own"},
		{Name: "event_time", Required: true, Types: []destination.Type{destination.Time, destination.Int64}, Help: "when it happened, at most seven days ago"},
		{Name: "action_source", Required: true, Types: text, Help: "where it happened: website, email, app, phone_call, chat, physical_store, …"},
		{Name: "event_id", Types: text, Help: "as the page's pixel sends it, to count both once; made of the row's key unless mapped"},
		{Name: "event_source_url", Types: text, Help: "the page's address, required for website"},
		{Name: "opt_out", Types: []destination.Type{destination.Bool}, Help: "only for attribution, not to choose who sees ads"},
		{Name: ldu, Types: []destination.Type{destination.Bool}, Help: "whether Limited Data Use holds for the event"},
	}
	forms := map[string]string{
		"em": "meta.email", "ph": "meta.phone", "fn": "meta.name", "ln": "meta.name", "ge": "meta.gender", "db": "meta.birth_date",
		"ct": "meta.city", "st": "meta.state", "zp": "meta.zip", "country": "meta.country", "external_id": "meta.external_id",
	}
	for _, name := range userFields {
		fields = append(fields, destination.TargetField{Name: name, Form: forms[name], Help: "of the person"})
	}
	for _, name := range plainFields {
		fields = append(fields, destination.TargetField{Name: name, Types: text, Help: "of the browser, not hashed"})
	}
	for _, name := range customFields {
		fields = append(fields, destination.TargetField{Name: name, Help: "of what happened"})
	}
	return fields
}

// Validate implements [destination.Validator].
func (*conversions) Validate(values map[string]string) error {
	_, err := parseConversions(values)
	return err
}

func parseConversions(values map[string]string) (*conversions, error) {
	account, err := newAccount(values)
	if err != nil {
		return nil, err
	}
	c := &conversions{account: account, dataset: values["dataset_id"], test: values["test_event_code"]}
	if !digits.MatchString(c.dataset) {
		return nil, &destination.ConfigError{Field: "dataset_id", Problem: "want the dataset's id, which is a number"}
	}
	if c.test != "" && (!token.MatchString(c.test) || len(c.test) > 64) {
		return nil, &destination.ConfigError{Field: "test_event_code", Problem: "want the code that Test Events shows, such as TEST12345"}
	}
	switch values["limited_data_use"] {
	case "", "never":
	case "always":
		c.limited = true
	default:
		return nil, &destination.ConfigError{Field: "limited_data_use", Problem: `want "always" or "never"`}
	}
	return c, nil
}

// Open implements [destination.Destination]. It makes no request.
func (c *conversions) Open(_ context.Context, values map[string]string) error {
	parsed, err := parseConversions(values)
	if err != nil {
		return err
	}
	parsed.now, parsed.open = c.now, true
	*c = *parsed
	return nil
}

// Close implements [destination.Destination].
func (c *conversions) Close(context.Context) error {
	if c.account.client != nil {
		c.account.client.Close()
	}
	return nil
}

// Write implements [destination.Destination].
func (c *conversions) Write(ctx context.Context, batch destination.Batch) ([]destination.Result, error) {
	if !c.open {
		return nil, errors.New("the destination is not open")
	}
	if len(batch.Changes) == 0 {
		return nil, nil
	}
	results := make([]destination.Result, len(batch.Changes))
	var events []map[string]any
	var rows []int
	for i, change := range batch.Changes {
		if change.Op == destination.Remove {
			results[i] = destination.Result{Outcome: destination.Skipped, Code: "cannot_be_removed", Message: "Meta has no way to take back an event that it has"}
			continue
		}
		event, refusal := c.event(batch, change)
		if refusal.Outcome != 0 {
			results[i] = refusal
			continue
		}
		events, rows = append(events, event), append(rows, i)
	}
	probes := maxProbes
	for len(rows) > 0 {
		n := min(len(rows), maxEvents)
		if err := c.send(ctx, events[:n], rows[:n], results, &probes); err != nil {
			return nil, err
		}
		events, rows = events[n:], rows[n:]
	}
	return results, nil
}

// event makes the event of a row, or says why there is none.
func (c *conversions) event(batch destination.Batch, change destination.Change) (map[string]any, destination.Result) {
	refuse := func(code, message string) (map[string]any, destination.Result) {
		return nil, destination.Result{Outcome: destination.Rejected, Code: code, Message: message}
	}
	values := map[string]any{}
	for col, column := range batch.Columns {
		if v := change.Values[col]; v != nil && v != "" {
			values[column.Name] = v
		}
	}
	name, _ := values["event_name"].(string)
	source, _ := values["action_source"].(string)
	at, known := unix(values["event_time"])
	age := c.now().Sub(time.Unix(at, 0))
	switch {
	case name == "":
		return refuse("no_event_name", "the row has no event_name")
	case !slices.Contains(sources, source):
		return refuse("invalid_action_source", "the row's action_source is none that Meta knows")
	case !known:
		return refuse("no_event_time", "the row has no event_time")
	case age > maxAge && source != "physical_store" || age > offline:
		return refuse("event_too_old", "the event happened more than seven days ago (in a store: 62), and Meta takes it no more")
	case age < -time.Minute:
		return refuse("event_in_future", "the event's time has not come")
	case source == "website" && (values["event_source_url"] == nil || values["client_user_agent"] == nil):
		return refuse("incomplete_website_event", "an event of a website needs event_source_url and client_user_agent")
	}
	user, refusal := userData(values)
	if refusal.Outcome != 0 {
		return nil, refusal
	}
	event := map[string]any{"event_name": name, "event_time": at, "action_source": source, "user_data": user, "event_id": opaque(c.dataset, change.Key)}
	for _, field := range []string{"event_id", "event_source_url", "opt_out"} {
		if v, ok := values[field]; ok {
			event[field] = v
		}
	}
	custom := map[string]any{}
	for _, field := range customFields {
		v, ok := values[field]
		if f, isFloat := v.(float64); isFloat && (math.IsNaN(f) || math.IsInf(f, 0)) {
			return refuse("not_json", "the column "+field+" is infinite or not a number")
		}
		if ok {
			custom[field] = v
		}
	}
	if len(custom) > 0 {
		event["custom_data"] = custom
	}
	limited := c.limited
	if v, ok := values[ldu].(bool); ok {
		limited = v
	}
	if limited { // 0 and 0: Meta finds out where the person is
		event["data_processing_options"], event["data_processing_options_country"], event["data_processing_options_state"] = []string{"LDU"}, 0, 0
	}
	return event, destination.Result{}
}

// userData is whom the event is about.
func userData(values map[string]any) (map[string]any, destination.Result) {
	user := map[string]any{}
	for _, field := range userFields {
		v, ok := values[field].(string)
		if !ok {
			continue
		}
		if !normalize.IsHash(v) {
			return nil, destination.Result{Outcome: destination.Rejected, Code: "not_hashed", Message: "the column " + field + " is not hashed, so it was not sent"}
		}
		user[field] = []string{v}
	}
	for _, field := range plainFields {
		if v, ok := values[field]; ok {
			user[field] = v
		}
	}
	if len(user) == 0 {
		return nil, destination.Result{Outcome: destination.Rejected, Code: "no_identifier", Message: "none of the mapped columns identifies the person"}
	}
	return user, destination.Result{}
}

// unix is a time in seconds.
func unix(v any) (int64, bool) {
	switch v := v.(type) {
	case time.Time:
		return v.Unix(), true
	case int64:
		return v, true
	}
	return 0, false
}

// send makes one request. Meta takes all of its events or none, so if one is
// refused it is found by sending halves.
func (c *conversions) send(ctx context.Context, events []map[string]any, rows []int, results []destination.Result, probes *int) error {
	settle := func(r destination.Result) {
		for _, row := range rows {
			results[row] = r
		}
	}
	body := map[string]any{"data": events}
	if c.test != "" {
		body["test_event_code"] = c.test
	}
	answer, err := c.account.client.Do(ctx, http.MethodPost, c.account.path([]string{c.dataset, "events"}, nil), body)
	if err != nil {
		result, err := lost(err)
		settle(result)
		return err
	}
	if answer.Status == http.StatusOK {
		var got struct {
			Received int `json:"events_received"`
		}
		if !answer.Read(&got) || got.Received != len(events) {
			settle(destination.Result{Outcome: destination.Unknown, Code: "reply_invalid", Message: fmt.Sprintf("Meta says that it received %d events of %d", got.Received, len(events))})
			return nil
		}
		settle(destination.Result{Outcome: destination.Delivered})
		return nil
	}
	result, badRequest, err := judge(answer)
	if err != nil {
		return err
	}
	if !badRequest || len(events) == 1 {
		settle(result)
		return nil
	}
	if *probes < 2 {
		settle(destination.Result{Outcome: destination.Retry, Code: result.Code, Message: "Meta refused the request for one of its rows, which was not found yet"})
		return nil
	}
	*probes -= 2
	half := len(events) / 2
	if err := c.send(ctx, events[:half], rows[:half], results, probes); err != nil {
		return err
	}
	return c.send(ctx, events[half:], rows[half:], results, probes)
}
