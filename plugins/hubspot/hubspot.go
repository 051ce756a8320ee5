// Package hubspot keeps contacts in HubSpot, and their membership of a list, as
// a sync says.
//
// A row's key is kept in a property of the contact that has unique values, so
// that a contact is found again when its e-mail address has changed, and can be
// removed when nothing but the key is known. A new row is matched by e-mail
// address if one is mapped, and takes over the contact that is there. A sync that
// only updates matches rows in the same way, and leaves those alone that have no
// contact; what removal does then by default is to empty what was written.
//
// HubSpot refuses single rows of a batch with words that quote values; they are
// redacted. What a person must mend, such as a scope that the token lacks, is
// an error and no row's fault.
package hubspot

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/plugins/destination/rest"
)

const (
	defaultHost = "https://api.hubapi.com"
	defaultKey  = "sluis_key"
	timeout     = 60 * time.Second
	interval    = 10 * time.Second // in which requests are counted, and the account's headers may say otherwise
	maxRows     = 1000             // ten groups and more: at the limit on requests they take three seconds
	maxInputs   = 100              // of one request
	atOnce      = 4                // groups under way
	maxProbes   = 20               // requests with which a batch may look for a row that fails all
)

var (
	property = regexp.MustCompile(`^[a-z][a-z0-9_]{0,99}$`)
	listID   = regexp.MustCompile(`^[0-9]{1,18}$`)
	token    = regexp.MustCompile(`^[\x21-\x7e]+$`)
)

// What becomes of a contact that is removed.
const (
	fromList = "list"
	clears   = "clear"
	archives = "archive"
)

// hubspot is the destination. Open sets its fields.
type hubspot struct {
	client     *rest.Client
	key        string // the property with the row's key
	list       string // "" means none
	removes    string
	updateOnly bool
	properties map[string]propertyInfo
}

// New returns the destination.
func New() destination.Destination { return &hubspot{} }

// Describe implements [destination.Destination].
func (*hubspot) Describe() destination.Description {
	return destination.Description{
		Name:        "hubspot",
		Version:     "1.0.0",
		Ops:         []destination.Op{destination.Upsert, destination.Remove},
		Granularity: destination.PerRow,
		Idempotent:  true, // a contact is set to values, and a list is a set
		UpdateOnly:  true,
		MaxRows:     maxRows,
		Paced:       true,
		// Of a private app in an account without paid plan. A batch is looked up, written and
		// put into the list.
		Limits: []destination.Limit{{Requests: 100, Per: interval, Rows: 100 * maxInputs / 3}},
		Config: []destination.Field{
			{Name: "access_token", Required: true, Secret: true, Account: true, Help: "the token of a private app with crm.objects.contacts.read and .write, and for a list crm.lists.read and .write"},
			{Name: "key_property", Help: `the contacts' property that holds a row's key, "` + defaultKey + `" unless named; make it once, as single-line text that requires unique values`},
			{Name: "list_id", Help: "a static list that everybody is put into"},
			{Name: "removes", Help: `what removal does: "list" takes out of the list, the default with one; "clear" does so too and empties the mapped properties but email, the default without a list and with the mode update; "archive" deletes the contact, restorable for 90 days`},
			{Name: "host", Help: "where the API is, " + defaultHost + " unless given"},
		},
		EgressHosts: []string{"api.hubapi.com", "${host}"},
	}
}

// Validate implements [destination.Validator].
func (*hubspot) Validate(values map[string]string) error {
	_, err := parseConfig(values)
	return err
}

func parseConfig(values map[string]string) (*hubspot, error) {
	problem := func(field, what string) (*hubspot, error) {
		return nil, &destination.ConfigError{Field: field, Problem: what}
	}
	h := &hubspot{key: defaultKey, list: values["list_id"], removes: clears}
	host := defaultHost
	if v := values["host"]; v != "" {
		host = v
	}
	if v := values["key_property"]; v != "" {
		h.key = v
	}
	if h.list != "" {
		h.removes = fromList
	}
	if v := values["removes"]; v != "" {
		h.removes = v
	}
	switch {
	case !token.MatchString(values["access_token"]):
		return problem("access_token", "want a token, without spaces")
	case !property.MatchString(h.key) || h.key == "email":
		return problem("key_property", "want the internal name of a property of its own, such as "+defaultKey)
	case h.list != "" && !listID.MatchString(h.list):
		return problem("list_id", "want the list's id, which is a number")
	case h.removes != fromList && h.removes != clears && h.removes != archives:
		return problem("removes", `want "list", "clear" or "archive"`)
	case h.removes == fromList && h.list == "":
		return problem("removes", `"list" needs a list_id`)
	case rest.CheckURL(host) != "":
		return problem("host", rest.CheckURL(host))
	}
	h.client = rest.New(host, http.Header{
		"Authorization": {"Bearer " + values["access_token"]},
		"User-Agent":    {"Sluis-HubSpot/1"},
	}, timeout).Reading(usage)
	return h, nil
}

// usage tells that no request is left, and for how long at most: when the interval began
// is not said, so that what is left before its end says little.
func usage(r rest.Response) (destination.Usage, bool) {
	if r.Status == http.StatusTooManyRequests {
		return destination.Usage{Reset: judge(r).result.RetryAfter}, true
	}
	return destination.Usage{Reset: lasts(r)}, r.Header.Get("X-HubSpot-RateLimit-Remaining") == "0"
}

// lasts is how long the interval is in which HubSpot counts requests.
func lasts(r rest.Response) time.Duration {
	if ms, err := strconv.Atoi(r.Header.Get("X-HubSpot-RateLimit-Interval-Milliseconds")); err == nil {
		return time.Duration(min(max(ms, 0), 60_000)) * time.Millisecond
	}
	return interval
}

// Open implements [destination.Destination]. It reads which properties contacts
// have.
func (h *hubspot) Open(ctx context.Context, values map[string]string) error {
	parsed, err := parseConfig(values)
	if err != nil {
		return err
	}
	*h = *parsed
	if h.properties, err = h.readProperties(ctx); err != nil {
		return err
	}
	switch key, ok := h.properties[h.key]; {
	case !ok:
		err = &destination.ConfigError{Field: "key_property", Problem: "contacts have no such property: make it in HubSpot under Settings, Properties, as single-line text, and require unique values"}
	case !key.Unique:
		err = &destination.ConfigError{Field: "key_property", Problem: "the property does not require unique values, which can only be chosen when a property is made"}
	}
	if err != nil {
		h.properties = nil
	}
	return err
}

// OpenToUpdate implements [destination.Updater].
func (h *hubspot) OpenToUpdate(ctx context.Context, values map[string]string) error {
	if err := h.Open(ctx, values); err != nil {
		return err
	}
	h.updateOnly = true
	if values["removes"] == "" {
		h.removes = clears
	}
	return nil
}

// Check implements [destination.Checker].
func (h *hubspot) Check(ctx context.Context) error {
	if h.properties == nil {
		return errors.New("the destination is not open")
	}
	if h.list == "" {
		return nil
	}
	var got struct {
		List struct {
			Kind   string `json:"processingType"`
			Object string `json:"objectTypeId"`
		} `json:"list"`
	}
	if err := h.must(ctx, http.MethodGet, "/crm/v3/lists/"+h.list, nil, &got); err != nil {
		return err
	}
	if got.List.Kind == "DYNAMIC" || got.List.Object != "0-1" {
		return &fatalError{"the list is not a static list of contacts: only those take members"}
	}
	return nil
}

// propertyInfo is what HubSpot says of a property.
type propertyInfo struct {
	Name     string `json:"name"`
	Label    string `json:"label"`
	Type     string `json:"type"`
	Unique   bool   `json:"hasUniqueValue"`
	Computed bool   `json:"calculated"`
	Rules    struct {
		ReadOnly bool `json:"readOnlyValue"`
	} `json:"modificationMetadata"`
}

func (h *hubspot) readProperties(ctx context.Context) (map[string]propertyInfo, error) {
	var got struct {
		Results []propertyInfo `json:"results"`
	}
	if err := h.must(ctx, http.MethodGet, "/crm/v3/properties/contacts", nil, &got); err != nil {
		return nil, err
	}
	properties := map[string]propertyInfo{}
	for _, p := range got.Results {
		properties[p.Name] = p
	}
	return properties, nil
}

// DescribeTarget implements [destination.TargetDescriber]: the properties that
// may be written.
func (h *hubspot) DescribeTarget(ctx context.Context) (destination.Target, error) {
	if h.client == nil {
		return destination.Target{}, errors.New("the destination is not open")
	}
	properties, err := h.readProperties(ctx)
	if err != nil {
		return destination.Target{}, err
	}
	target := destination.Target{Closed: true}
	names := sortedKeys(properties)
	for _, name := range names {
		if p := properties[name]; name != h.key && !p.Computed && !p.Rules.ReadOnly {
			target.Fields = append(target.Fields, destination.TargetField{Name: name, Types: types(p.Type), Help: p.Label})
		}
	}
	return target, nil
}

// types are those that a property takes; nil means any.
func types(kind string) []destination.Type {
	switch kind {
	case "number":
		return []destination.Type{destination.Int64, destination.Float64, destination.String}
	case "bool":
		return []destination.Type{destination.Bool, destination.String}
	case "date", "datetime":
		return []destination.Type{destination.Time, destination.String}
	}
	return nil
}

// Close implements [destination.Destination].
func (h *hubspot) Close(context.Context) error {
	if h.client != nil {
		h.client.Close()
	}
	return nil
}

// fatalError says what a person has to mend, not in HubSpot's words.
type fatalError struct{ what string }

func (e *fatalError) Error() string { return "HubSpot refuses: " + e.what }

// must makes a request that is to succeed, and reads its answer.
func (h *hubspot) must(ctx context.Context, method, path string, body, into any) error {
	r, err := h.client.Do(ctx, method, path, body)
	if err != nil {
		return err
	}
	if r.Status/100 == 2 {
		if !r.Read(into) {
			return &fatalError{"its answer is not what it documents"}
		}
		return nil
	}
	f := judge(r)
	if f.err != nil {
		return f.err
	}
	return fmt.Errorf("%s (%s)", f.result.Message, f.result.Code)
}

// failure is what an answer that is no success means.
type failure struct {
	result     destination.Result // for the rows of the request
	badRequest bool               // one of its rows may be why
	words      string             // HubSpot's own, not redacted yet
	err        error              // what a person has to mend
}

// problem is an error as HubSpot writes it, of a request or of a row.
type problem struct {
	Message  string `json:"message"`
	Category string `json:"category"`
	Policy   string `json:"policyName"`
	Context  struct {
		Trace []string `json:"objectWriteTraceId"`
		IDs   []string `json:"ids"`
	} `json:"context"`
	Errors []struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"errors"`
}

func judge(r rest.Response) failure {
	var p problem
	_ = r.Read(&p) // then it is empty, and the status counts
	fatal := func(what string) failure { return failure{err: &fatalError{what}} }
	switch {
	case r.Status == http.StatusTooManyRequests:
		wait := r.RetryAfter()
		if wait == 0 && strings.HasPrefix(p.Policy, "DAILY") {
			wait = time.Hour
		} else if wait == 0 {
			wait = lasts(r)
		}
		return failure{result: destination.Result{Outcome: destination.Retry, Code: "rate_limit", Message: "HubSpot's limit on requests is reached", RetryAfter: wait}}
	case r.Status == 423 || r.Status == 477 || r.Transient(): // locked; being moved between data centres
		result := r.StatusResult()
		result.Outcome, result.RetryAfter = destination.Retry, r.RetryAfter()
		return failure{result: result}
	case r.Status == http.StatusUnauthorized:
		return fatal("the access token is not valid, or not any more")
	case r.Status == http.StatusForbidden:
		return fatal("the token lacks a scope: it needs crm.objects.contacts.read and .write, and for a list crm.lists.read and .write")
	case r.Status == http.StatusNotFound:
		return fatal("there is nothing at that address: check list_id")
	case r.Status == http.StatusBadRequest || r.Status == http.StatusConflict:
		return failure{badRequest: true, words: p.words(), result: destination.Result{Outcome: destination.Rejected, Code: p.code()}}
	}
	return fatal(fmt.Sprintf("it answered %d", r.Status))
}

// code is HubSpot's code of a problem, if it looks like one.
func (p problem) code() string {
	code := p.Category
	if len(p.Errors) > 0 && p.Errors[0].Code != "" {
		code = p.Errors[0].Code
	}
	code = strings.ToLower(code)
	if !property.MatchString(code) || len(code) > 40 {
		return "refused"
	}
	return code
}

// gone says that there is no contact with the ids of the context.
func (p problem) gone() bool { return p.Category == "OBJECT_NOT_FOUND" }

func (p problem) words() string {
	if len(p.Errors) > 0 && p.Errors[0].Message != "" {
		return p.Errors[0].Message
	}
	return p.Message
}
