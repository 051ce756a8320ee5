// Package googleads keeps the members of a Customer Match list in Google Ads as
// a sync says, through the Data Manager API, which takes the place of the
// uploads of the Google Ads API.
//
// Google knows its members by hashed addresses and never hears of a row's key.
// So the fields are such that identify: the host gives back what a key was sent
// with before, and that is what a removal, or a changed address, takes out.
//
// Requests are taken on and carried out within hours. A request's id is the
// receipt of its rows, and its status has counts, and never says which rows.
package googleads

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	datamanager "google.golang.org/api/datamanager/v1"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/plugins/destination/rest"
)

const (
	defaultHost    = "https://datamanager.googleapis.com"
	defaultPurpose = "advertising"
	timeout        = 60 * time.Second
	maxMembers     = 10_000 // of one request, as Google documents
)

var (
	number = regexp.MustCompile(`^[0-9]{1,20}$`)
	// A customer's id is shown with dashes, and sent without.
	customer = regexp.MustCompile(`^([0-9]{10}|[0-9]{3}-[0-9]{3}-[0-9]{4})$`)
)

// googleads is the destination. Open sets its fields.
type googleads struct {
	client  *rest.Client
	tokens  tokens
	target  *datamanager.Destination
	purpose string

	// removing has the requests by which this process took identifiers out, until
	// Google has carried them out: it keeps no order between requests.
	removing map[string]string

	tokenURL string // of a login; in tests not Google's
}

// New returns the destination.
func New() destination.Destination { return &googleads{} }

// Describe implements [destination.Destination].
func (*googleads) Describe() destination.Description {
	return destination.Description{
		Name:        "googleads",
		Version:     "1.0.0",
		Ops:         []destination.Op{destination.Upsert, destination.Remove},
		Granularity: destination.PerBatch,
		Idempotent:  true, // a list is a set
		MaxRows:     maxMembers,
		Paced:       true,
		Limits: []destination.Limit{
			{Requests: 300, Per: time.Minute, Rows: 300 * maxMembers},
			{Requests: 100_000, Per: 24 * time.Hour},
		},
		Config: []destination.Field{
			{Name: "credentials", Required: true, Secret: true, Account: true, Help: "the JSON of a service account's key, or of a login (authorized_user), that may use the Data Manager API and has access to the account"},
			{Name: "customer_id", Required: true, Help: "the Google Ads account that has the list, such as 123-456-7890"},
			{Name: "login_customer_id", Help: "the manager account by which the credentials have access, if it is not the account itself"},
			{Name: "user_list_id", Required: true, Help: "the id of a Customer Match list of contact information"},
			{Name: "customer_match_terms", Required: true, Help: `"accepted": that you have accepted Google's terms of Customer Match, which each request says`},
			{Name: "consent_purpose", Help: "the purpose by which people agree that Google gets their data for ads, " + defaultPurpose + " unless given; the sync has to have it"},
			{Name: "host", Help: "where the API is, " + defaultHost + " unless given"},
		},
		EgressHosts: []string{"datamanager.googleapis.com", "oauth2.googleapis.com", "${host}"},
		Target:      destination.Target{Closed: true, Fields: fields()},
	}
}

// personalized is the field of Google's consent to personalised ads.
const personalized = "ad_personalization"

func fields() []destination.TargetField {
	f := func(name, form, help string) destination.TargetField {
		return destination.TargetField{Name: name, Form: form, Help: help, Identifies: true}
	}
	return []destination.TargetField{
		f("email_address", "google.email", "e-mail address"),
		f("phone_number", "google.phone", "phone number with its country code"),
		f("given_name", "google.given_name", "first name; an address is sent when it has all four of its fields"),
		f("family_name", "google.family_name", "last name"),
		f("region_code", "google.region", "country's code of two letters"),
		f("postal_code", "google.postal_code", "postal code"),
		{Name: personalized, Types: []destination.Type{destination.Bool}, Help: "whether the person agreed to personalised ads, where that is asked apart; what was agreed to for the purpose unless mapped"},
	}
}

// Validate implements [destination.Validator].
func (*googleads) Validate(values map[string]string) error {
	_, err := parseConfig(values, "")
	return err
}

func parseConfig(values map[string]string, tokenURL string) (*googleads, error) {
	problem := func(field, what string) (*googleads, error) {
		return nil, &destination.ConfigError{Field: field, Problem: what}
	}
	or := func(field, otherwise string) string {
		if values[field] != "" {
			return values[field]
		}
		return otherwise
	}
	g := &googleads{purpose: or("consent_purpose", defaultPurpose), removing: map[string]string{}, tokenURL: tokenURL}
	login := or("login_customer_id", values["customer_id"])
	host := or("host", defaultHost)
	switch {
	case !customer.MatchString(values["customer_id"]):
		return problem("customer_id", "want the account's id, such as 123-456-7890")
	case !customer.MatchString(login):
		return problem("login_customer_id", "want the account's id, such as 123-456-7890")
	case !number.MatchString(values["user_list_id"]):
		return problem("user_list_id", "want the list's id, which is a number")
	case values["customer_match_terms"] != "accepted":
		return problem("customer_match_terms", `want "accepted", when you have read and accepted https://support.google.com/adspolicy/answer/6299717`)
	case rest.CheckURL(host) != "":
		return problem("host", rest.CheckURL(host))
	}
	tokens, what := newTokens(values["credentials"], tokenURL)
	if what != "" {
		return problem("credentials", what)
	}
	g.tokens = tokens
	g.target = &datamanager.Destination{
		OperatingAccount:     account(values["customer_id"]),
		LoginAccount:         account(login),
		ProductDestinationId: values["user_list_id"],
	}
	g.client = rest.New(host, http.Header{"User-Agent": {"Sluis-GoogleAds/1"}}, timeout)
	return g, nil
}

// account names an account of Google Ads.
func account(id string) *datamanager.ProductAccount {
	return &datamanager.ProductAccount{AccountType: "GOOGLE_ADS", AccountId: strings.ReplaceAll(id, "-", "")}
}

// Open implements [destination.Destination]. It makes no request.
func (g *googleads) Open(_ context.Context, values map[string]string) error {
	parsed, err := parseConfig(values, g.tokenURL)
	if err != nil {
		return err
	}
	*g = *parsed
	return nil
}

// Check implements [destination.Checker]: it looks at the list.
func (g *googleads) Check(ctx context.Context) error {
	if g.client == nil {
		return errors.New("the destination is not open")
	}
	name := func(a *datamanager.ProductAccount) string { return "accountTypes/GOOGLE_ADS/accounts/" + a.AccountId }
	client := *g
	client.client = g.client.With("login-account", name(g.target.LoginAccount))
	var list datamanager.UserList
	if err := client.must(ctx, "/v1/"+name(g.target.OperatingAccount)+"/userLists/"+g.target.ProductDestinationId, &list); err != nil {
		return err
	}
	switch info := list.IngestedUserListInfo; {
	case info == nil || info.ContactIdInfo == nil:
		return &fatalError{"the list is not one of contact information: make a Customer Match list that takes e-mail addresses and phone numbers"}
	case list.ReadOnly:
		return &fatalError{"the list may only be read by this account"}
	case list.MembershipStatus == "CLOSED":
		return &fatalError{"the list is closed to new members: open it in Google Ads"}
	}
	return nil
}

// Close implements [destination.Destination].
func (g *googleads) Close(context.Context) error {
	if g.client != nil {
		g.client.Close()
	}
	return nil
}

// call makes a request with a token, and returns what was answered.
func (g *googleads) call(ctx context.Context, method, path string, body any) (rest.Response, error) {
	token, err := g.tokens.token(ctx)
	if err != nil {
		return rest.Response{}, err
	}
	return g.client.With("Authorization", "Bearer "+token).Do(ctx, method, path, body)
}

// must reads a resource.
func (g *googleads) must(ctx context.Context, path string, into any) error {
	r, err := g.call(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	if r.Status != http.StatusOK {
		violations, err := judge(r)
		if err == nil {
			err = &fatalError{fmt.Sprintf("it answered %d (%s)", r.Status, violations[0].code())}
		}
		return err
	}
	if !r.Read(into) {
		return &fatalError{"its answer is not what it documents"}
	}
	return nil
}
