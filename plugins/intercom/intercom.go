// Package intercom keeps contacts in Intercom, and their membership of a tag, as
// a sync says.
//
// A row's key is the contact's external_id, so that a contact is found again when
// its e-mail address has changed, and can be removed when nothing but the key is
// known. A tag is a list and no consent: whether somebody gets e-mails is left
// alone, unless that is mapped.
//
// A sync that only updates also finds the users that have a row's address and no
// external_id, and gives them the row's. Those alone are changed.
//
// Intercom takes one contact at a time, so some requests are under way at once,
// as fast as its answers say that it allows.
package intercom

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/plugins/destination/rest"
)

const (
	defaultHost = "https://api.intercom.io"
	version     = "2.15"
	timeout     = 30 * time.Second

	maxRows = 200 // a host gives a batch a minute
	atOnce  = 8   // requests under way

	// 10,000 requests a minute, which Intercom counts in spans of ten seconds.
	perSpan = 10_000 / 6
	span    = 10 * time.Second
)

// What removal does.
const (
	removeTag     = "tag"
	removeClear   = "clear"
	removeArchive = "archive"
	removeDelete  = "delete"
)

var (
	tagID = regexp.MustCompile(`^[0-9]{1,20}$`)
	token = regexp.MustCompile(`^[\x21-\x7e]+$`)
	word  = regexp.MustCompile(`^[a-z][a-z0-9_]{0,59}$`)
)

// intercom is the destination. Open sets its fields.
type intercom struct {
	client  *rest.Client
	tag     string // "" means none
	removes string
	updates bool // and makes nothing
}

// New returns the destination.
func New() destination.Destination { return &intercom{} }

// Describe implements [destination.Destination].
func (*intercom) Describe() destination.Description {
	return destination.Description{
		Name:        "intercom",
		Version:     "1.0.0",
		Ops:         []destination.Op{destination.Upsert, destination.Remove},
		Granularity: destination.PerRow,
		Idempotent:  true, // a contact is set to values, and tags are a set
		UpdateOnly:  true,
		MaxRows:     maxRows,
		Paced:       true,
		Limits:      []destination.Limit{{Requests: perSpan, Per: span, Rows: perSpan / 3}}, // a contact is looked up, written and tagged
		Config: []destination.Field{
			{Name: "access_token", Required: true, Secret: true, Account: true, Help: "of an app of your workspace, with the rights to read and write users and tags"},
			{Name: "tag_id", Help: "a tag that everybody is given"},
			{Name: "removes", Help: `what removal does: "tag" takes the tag away, the default with one; "clear" does so too and empties the mapped fields but e-mail address and phone number, the default with the mode update; "archive" archives the contact, the default without a tag; "delete" deletes it for good`},
			{Name: "host", Help: "where the API is, " + defaultHost + " unless given; https://api.eu.intercom.io and https://api.au.intercom.io for workspaces in Europe and Australia"},
		},
		EgressHosts: []string{"api.intercom.io", "${host}"},
		Target:      destination.Target{Fields: fields()},
	}
}

// fields are those of a contact. Any other name is an attribute of the
// workspace's own, which has to be there.
func fields() []destination.TargetField {
	text, at := []destination.Type{destination.String}, []destination.Type{destination.Time, destination.Int64}
	return []destination.TargetField{
		{Name: "email", Form: "email", Help: "e-mail address"},
		{Name: "phone", Form: "e164", Help: "phone number with its country code"},
		{Name: "name", Types: text, Help: "full name"},
		{Name: "avatar", Types: text, Help: "address of a picture"},
		{Name: "signed_up_at", Types: at, Help: "when the person signed up"},
		{Name: "last_seen_at", Types: at, Help: "when the person was last seen"},
		{Name: "owner_id", Types: []destination.Type{destination.Int64}, Help: "the id of the teammate who owns the contact"},
		{Name: "unsubscribed_from_emails", Types: []destination.Type{destination.Bool}, Help: "whether the person gets no e-mails; left alone unless mapped, and where it is NULL"},
	}
}

// Validate implements [destination.Validator].
func (*intercom) Validate(values map[string]string) error {
	_, err := parseConfig(values)
	return err
}

func parseConfig(values map[string]string) (*intercom, error) {
	problem := func(field, what string) (*intercom, error) {
		return nil, &destination.ConfigError{Field: field, Problem: what}
	}
	c := &intercom{tag: values["tag_id"], removes: values["removes"]}
	host := defaultHost
	if v := values["host"]; v != "" {
		host = v
	}
	if c.removes == "" {
		c.removes = removeArchive
		if c.tag != "" {
			c.removes = removeTag
		}
	}
	switch {
	case !token.MatchString(values["access_token"]):
		return problem("access_token", "want an access token, without spaces")
	case c.tag != "" && !tagID.MatchString(c.tag):
		return problem("tag_id", "want the tag's id, which is a number")
	case c.removes == removeTag && c.tag == "":
		return problem("removes", `"tag" needs a tag_id`)
	case c.removes != removeTag && c.removes != removeClear && c.removes != removeArchive && c.removes != removeDelete:
		return problem("removes", `want "tag", "clear", "archive" or "delete"`)
	case rest.CheckURL(host) != "":
		return problem("host", rest.CheckURL(host))
	}
	c.client = rest.New(host, http.Header{
		"Authorization":    {"Bearer " + values["access_token"]},
		"Intercom-Version": {version},
		"Accept":           {"application/json"},
		"User-Agent":       {"Sluis-Intercom/1"},
	}, timeout).Reading(usage)
	return c, nil
}

// Open implements [destination.Destination]. It makes no request.
func (c *intercom) Open(_ context.Context, values map[string]string) error {
	parsed, err := parseConfig(values)
	if err != nil {
		return err
	}
	*c = *parsed
	return nil
}

// OpenToUpdate implements [destination.Updater].
func (c *intercom) OpenToUpdate(ctx context.Context, values map[string]string) error {
	if err := c.Open(ctx, values); err != nil {
		return err
	}
	c.updates = true
	if values["removes"] == "" {
		c.removes = removeClear // what was there before is not ours to archive
	}
	return nil
}

// Check implements [destination.Checker].
func (c *intercom) Check(ctx context.Context) error {
	if c.client == nil {
		return errors.New("the destination is not open")
	}
	if err := c.must(ctx, "/me", nil); err != nil {
		return err
	}
	if c.tag == "" {
		return nil
	}
	return c.must(ctx, "/tags/"+c.tag, nil)
}

// DescribeTarget implements [destination.TargetDescriber]: the workspace's own
// attributes of contacts beside those that all have.
func (c *intercom) DescribeTarget(ctx context.Context) (destination.Target, error) {
	if c.client == nil {
		return destination.Target{}, errors.New("the destination is not open")
	}
	var got struct {
		Data []struct {
			Name     string
			DataType string `json:"data_type"`
			Custom   bool
			Archived bool
			Writable bool `json:"api_writable"`
		}
	}
	if err := c.must(ctx, "/data_attributes?model=contact", &got); err != nil {
		return destination.Target{}, err
	}
	types := map[string][]destination.Type{
		"string": {destination.String}, "integer": {destination.Int64}, "float": {destination.Float64, destination.Int64},
		"boolean": {destination.Bool}, "date": {destination.Time, destination.Int64},
	}
	target := destination.Target{Closed: true, Fields: fields()}
	for _, a := range got.Data {
		if a.Custom && !a.Archived && a.Writable {
			target.Fields = append(target.Fields, destination.TargetField{Name: a.Name, Types: types[a.DataType], Help: "of your own"})
		}
	}
	return target, nil
}

// Close implements [destination.Destination].
func (c *intercom) Close(context.Context) error {
	if c.client != nil {
		c.client.Close()
	}
	return nil
}

// must reads a resource, and its answer into what is given.
func (c *intercom) must(ctx context.Context, path string, into any) error {
	r, err := c.client.Do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	if r.Status != http.StatusOK {
		p, err := judge(r)
		if err == nil {
			err = &fatalError{fmt.Sprintf("it answered %d (%s)", r.Status, p.name())}
		}
		return err
	}
	if into != nil && !r.Read(into) {
		return &fatalError{"its answer is not what it documents"}
	}
	return nil
}

// fatalError says what a person has to mend, not in Intercom's words.
type fatalError struct{ what string }

func (e *fatalError) Error() string { return "Intercom refuses: " + e.what }

// waitError is an answer that says to come back later.
type waitError struct{ result destination.Result }

func (e *waitError) Error() string { return e.result.Message }

// problem is an error as Intercom writes it.
type problem struct{ Code, Message string }

// name is Intercom's code of a problem, if it looks like one.
func (p problem) name() string {
	if name := strings.ToLower(p.Code); word.MatchString(name) {
		return name
	}
	return "refused"
}

// judge says what an answer means that is no success: what about the request is
// wrong, or that it is to be made later, or what a person must mend.
func judge(r rest.Response) (problem, error) {
	switch {
	case r.Transient():
		result := r.StatusResult()
		if r.Status == http.StatusTooManyRequests {
			result.Code, result.Message = "rate_limit_exceeded", "Intercom's limit on requests is reached"
			result.RetryAfter = max(result.RetryAfter, untilReset(r))
		}
		return problem{}, &waitError{result}
	case r.Status == http.StatusUnauthorized:
		return problem{}, &fatalError{"the access token is not valid, or not any more; or the workspace is in another region: check host"}
	case r.Status == http.StatusForbidden:
		return problem{}, &fatalError{"the access token lacks a right, or the plan does not have this: it has to read and write users, and tags where there is one"}
	}
	var body struct{ Errors []problem }
	if !r.Read(&body) || len(body.Errors) == 0 {
		return problem{}, &fatalError{fmt.Sprintf("it answered %d without a reason", r.Status)}
	}
	return body.Errors[0], nil
}
