// Package klaviyo keeps profiles in Klaviyo, and their membership of a list, as
// a sync says.
//
// A row's key is the profile's external_id, so that a profile is found again
// when its e-mail address has changed, and can be removed when nothing but the
// key is known.
//
// A sync that only updates finds the profiles of rows first, by key or else by
// e-mail address, and imports no others.
//
// Klaviyo imports profiles in jobs. The plugin waits for one to end, and then
// knows what became of each row; a job that takes longer is answered as
// accepted, with a receipt to poll. Membership of a list is no consent: the
// plugin neither subscribes nor unsubscribes anybody.
package klaviyo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/plugins/destination/rest"
)

const (
	defaultHost = "https://a.klaviyo.com"
	revision    = "2026-07-15"
	timeout     = 60 * time.Second

	// The bounds of a job, as Klaviyo documents them, and a margin below.
	imports         = "imports" // the limit on requests that start one
	maxProfiles     = 10_000
	maxJobBytes     = 4_500_000
	maxProfileBytes = 100_000

	// A host gives a batch a minute.
	defaultWait = 45 * time.Second
	maxWait     = 50 * time.Second
	maxPause    = 5 * time.Second
)

var (
	listID = regexp.MustCompile(`^[A-Za-z0-9]{1,32}$`)
	apiKey = regexp.MustCompile(`^[\x21-\x7e]+$`)
	code   = regexp.MustCompile(`^[a-z][a-z0-9_]{0,39}$`)
)

// klaviyo is the destination. Open sets its fields.
type klaviyo struct {
	client  *rest.Client
	list    string // "" means none
	clears  bool   // removal empties the mapped fields
	updates bool   // and makes nothing
	wait    time.Duration
	pause   time.Duration // before a job is asked about for the first time
}

// New returns the destination.
func New() destination.Destination { return &klaviyo{pause: 200 * time.Millisecond} }

// Describe implements [destination.Destination].
func (*klaviyo) Describe() destination.Description {
	return destination.Description{
		Name:        "klaviyo",
		Version:     "1.0.0",
		Ops:         []destination.Op{destination.Upsert, destination.Remove},
		Granularity: destination.PerRow,
		UpdateOnly:  true,
		Idempotent:  true, // a profile is set to values, and a list is a set
		MaxRows:     maxProfiles,
		Paced:       true,
		// Klaviyo counts each kind of request apart. All but imports are counted together
		// here, as the slowest kind of those that are made.
		Limits: []destination.Limit{
			{Name: imports, Requests: 10, Per: time.Second},
			{Name: imports, Requests: 150, Per: time.Minute, Rows: 150 * maxProfiles},
			{Requests: 10, Per: time.Second},
			{Requests: 150, Per: time.Minute},
		},
		Config: []destination.Field{
			{Name: "api_key", Required: true, Secret: true, Account: true, Help: "a private key with full access to profiles, and to lists where there is one"},
			{Name: "list_id", Help: "a list that everybody is put into"},
			{Name: "removes", Help: `what removal does: "list" takes out of the list, the default with one; "clear" does so too and empties the mapped fields but e-mail address and phone number, the default without a list and with the mode update`},
			{Name: "wait", Help: "how long a batch waits for its imports to end before their rows count as accepted, 45s unless given, at most 50s"},
			{Name: "host", Help: "where the API is, " + defaultHost + " unless given"},
		},
		EgressHosts: []string{"a.klaviyo.com", "${host}"},
		Target:      destination.Target{Fields: fields()},
	}
}

// The attributes of a profile that the API names itself.
var (
	attributes = []string{"first_name", "last_name", "organization", "locale", "title", "image"}
	location   = []string{"address1", "address2", "city", "country", "region", "zip", "timezone"}
)

// fields are those of the API. Any other name is a property of the account's
// own.
func fields() []destination.TargetField {
	all := []destination.TargetField{
		{Name: "email", Form: "email", Help: "e-mail address"},
		{Name: "phone_number", Form: "e164", Help: "phone number with its country code"},
	}
	for _, name := range append(append([]string(nil), attributes...), location...) {
		all = append(all, destination.TargetField{Name: name, Types: []destination.Type{destination.String}, Help: "of the profile"})
	}
	return all
}

// Validate implements [destination.Validator].
func (*klaviyo) Validate(values map[string]string) error {
	_, err := parseConfig(values)
	return err
}

func parseConfig(values map[string]string) (*klaviyo, error) {
	problem := func(field, what string) (*klaviyo, error) {
		return nil, &destination.ConfigError{Field: field, Problem: what}
	}
	k := &klaviyo{list: values["list_id"], wait: defaultWait}
	host := defaultHost
	if v := values["host"]; v != "" {
		host = v
	}
	switch {
	case !apiKey.MatchString(values["api_key"]):
		return problem("api_key", "want a private key, without spaces")
	case k.list != "" && !listID.MatchString(k.list):
		return problem("list_id", "want the list's id, which is in its address")
	case rest.CheckURL(host) != "":
		return problem("host", rest.CheckURL(host))
	}
	switch values["removes"] {
	case "":
		k.clears = k.list == ""
	case "clear":
		k.clears = true
	case "list":
		if k.list == "" {
			return problem("removes", `"list" needs a list_id`)
		}
	default:
		return problem("removes", `want "list" or "clear"`)
	}
	if text := values["wait"]; text != "" {
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 || d > maxWait {
			return problem("wait", fmt.Sprintf("want a duration such as 45s, at most %v", maxWait))
		}
		k.wait = d
	}
	k.client = rest.New(host, http.Header{
		"Authorization": {"Klaviyo-API-Key " + values["api_key"]},
		"Revision":      {revision},
		"Content-Type":  {"application/vnd.api+json"},
		"Accept":        {"application/vnd.api+json"},
		"User-Agent":    {"Sluis-Klaviyo/1"},
	}, timeout).Reading(usage)
	return k, nil
}

// usage reads how many requests are left, and for how many seconds.
func usage(r rest.Response) (destination.Usage, bool) {
	seconds, err := strconv.Atoi(r.Header.Get("RateLimit-Reset"))
	if err != nil || seconds > 3600 {
		return destination.Usage{}, false
	}
	return r.Remaining("RateLimit-Remaining", time.Duration(seconds)*time.Second)
}

// Open implements [destination.Destination]. It makes no request.
func (k *klaviyo) Open(_ context.Context, values map[string]string) error {
	parsed, err := parseConfig(values)
	if err != nil {
		return err
	}
	parsed.pause = k.pause
	*k = *parsed
	return nil
}

// OpenToUpdate implements [destination.Updater].
func (k *klaviyo) OpenToUpdate(ctx context.Context, values map[string]string) error {
	if err := k.Open(ctx, values); err != nil {
		return err
	}
	k.updates = true
	k.clears = k.clears || values["removes"] == ""
	return nil
}

// Check implements [destination.Checker].
func (k *klaviyo) Check(ctx context.Context) error {
	if k.client == nil {
		return errors.New("the destination is not open")
	}
	if err := k.must(ctx, "/api/profiles?"+url.Values{"page[size]": {"1"}, "fields[profile]": {"external_id"}}.Encode(), nil); err != nil {
		return err
	}
	if k.list == "" {
		return nil
	}
	return k.must(ctx, "/api/lists/"+k.list, nil)
}

// Close implements [destination.Destination].
func (k *klaviyo) Close(context.Context) error {
	if k.client != nil {
		k.client.Close()
	}
	return nil
}

// Poll implements [destination.Poller].
func (k *klaviyo) Poll(ctx context.Context, receipts []string) ([]destination.Settlement, error) {
	if k.client == nil {
		return nil, errors.New("the destination is not open")
	}
	var settled []destination.Settlement
	for _, receipt := range receipts {
		if !listID.MatchString(receipt) {
			settled = append(settled, destination.Settlement{Receipt: receipt, Outcome: destination.Unknown, Code: "not_a_receipt", Message: "the receipt is none of this destination"})
			continue
		}
		state, err := k.job(ctx, receipt)
		if err != nil {
			return settled, err
		}
		switch state.Status {
		case "complete":
			settled = append(settled, destination.Settlement{Receipt: receipt, Outcome: destination.Delivered, FailedRows: state.Failed})
		case "cancelled":
			settled = append(settled, destination.Settlement{Receipt: receipt, Outcome: destination.Retry, Code: "job_cancelled", Message: "Klaviyo cancelled the import"})
		}
	}
	return settled, nil
}

// jobState is how far an import is.
type jobState struct {
	Status string `json:"status"`
	Failed int    `json:"failed_count"`
}

func (s jobState) ended() bool { return s.Status == "complete" || s.Status == "cancelled" }

// job asks how far an import is.
func (k *klaviyo) job(ctx context.Context, id string) (jobState, error) {
	var got struct {
		Data struct {
			Attributes jobState `json:"attributes"`
		} `json:"data"`
	}
	err := k.must(ctx, "/api/profile-bulk-import-jobs/"+id, &got)
	return got.Data.Attributes, err
}

// fatalError says what a person has to mend, not in Klaviyo's words.
type fatalError struct{ what string }

func (e *fatalError) Error() string { return "Klaviyo refuses: " + e.what }

// waitError is an answer that says to come back later.
type waitError struct{ result destination.Result }

func (e *waitError) Error() string { return e.result.Message }

// must reads a resource, and its answer into what is given.
func (k *klaviyo) must(ctx context.Context, path string, into any) error {
	r, err := k.client.Do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	if r.Status != http.StatusOK {
		_, err := judge(r)
		if err == nil {
			err = &fatalError{fmt.Sprintf("it answered %d", r.Status)}
		}
		return err
	}
	if into != nil && !r.Read(into) {
		return &fatalError{"its answer is not what it documents"}
	}
	return nil
}

// problem is an error as Klaviyo writes it, of a request or of a profile.
type problem struct {
	Code   string `json:"code"`
	Detail string `json:"detail"`
	Source struct {
		Pointer string `json:"pointer"`
	} `json:"source"`
}

// name is Klaviyo's code of a problem, if it looks like one.
func (p problem) name() string {
	if name := strings.ToLower(p.Code); code.MatchString(name) {
		return name
	}
	return "refused"
}

// judge says what an answer means that is no success: what about the request is
// wrong, or that it is to be made later, or what a person must mend.
func judge(r rest.Response) ([]problem, error) {
	switch {
	case r.Transient():
		result := r.StatusResult()
		if r.Status == http.StatusTooManyRequests {
			result.Code, result.Message = "rate_limit", "Klaviyo's limit on requests is reached"
		}
		return nil, &waitError{result}
	case r.Status == http.StatusUnauthorized:
		return nil, &fatalError{"the API key is not valid, or not any more"}
	case r.Status == http.StatusForbidden:
		return nil, &fatalError{"the API key lacks a scope: it needs profiles:read and :write, and for a list lists:read and :write"}
	case r.Status == http.StatusNotFound:
		return nil, &fatalError{"there is nothing at that address: check list_id"}
	case r.Status != http.StatusBadRequest && r.Status != http.StatusConflict && r.Status != http.StatusUnprocessableEntity:
		return nil, &fatalError{fmt.Sprintf("it answered %d", r.Status)}
	}
	var body struct {
		Errors []problem `json:"errors"`
	}
	if !r.Read(&body) || len(body.Errors) == 0 {
		return nil, &fatalError{fmt.Sprintf("it answered %d without a reason", r.Status)}
	}
	return body.Errors, nil
}
