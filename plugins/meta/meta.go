// Package meta keeps Custom Audiences at Meta as a sync says, and sends it
// events through the Conversions API.
//
// A person gets into an audience with the identifiers of the mapping, each
// normalised and hashed by the host (package normalize), and with an EXTERN_ID
// that is made of the row's key. By that alone the person is removed, since a
// removal has no identifiers: consent ended, and nothing is opened any more.
//
// Meta takes a request as a whole and tells how many of its rows are invalid,
// not which. The plugin refuses whatever is not in Meta's form before sending,
// and finds the rest by sending halves.
//
// What a person must mend, such as a token that has expired or terms that were
// not accepted, is an error and no row's fault: the rows stay due.
package meta

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/plugins/destination/rest"
)

const (
	defaultHost    = "https://graph.facebook.com"
	defaultVersion = "v25.0"
	timeout        = 60 * time.Second
)

var (
	digits  = regexp.MustCompile(`^[0-9]{1,32}$`)
	version = regexp.MustCompile(`^v[0-9]{1,3}\.[0-9]$`)
	token   = regexp.MustCompile(`^[\x21-\x7e]+$`)
)

// account is what both destinations need to speak to Meta.
type account struct {
	client  *rest.Client
	version string
	query   string // with appsecret_proof, if there is a secret
}

func accountFields() []destination.Field {
	return []destination.Field{
		{Name: "access_token", Required: true, Secret: true, Account: true, Help: "the token of a system user"},
		{Name: "app_secret", Secret: true, Help: "the app's secret, if it demands a proof with each call"},
		{Name: "api_version", Help: "the version of the Graph API, " + defaultVersion + " unless given"},
		{Name: "host", Help: "where the API is, " + defaultHost + " unless given"},
	}
}

// egress are the hosts of both destinations.
func egress() []string { return []string{"graph.facebook.com", "${host}"} }

func newAccount(values map[string]string) (account, error) {
	problem := func(field, what string) (account, error) {
		return account{}, &destination.ConfigError{Field: field, Problem: what}
	}
	a := account{version: defaultVersion}
	if v := values["api_version"]; v != "" {
		a.version = v
	}
	host := defaultHost
	if v := values["host"]; v != "" {
		host = v
	}
	switch {
	case !version.MatchString(a.version):
		return problem("api_version", "want a version such as "+defaultVersion)
	case rest.CheckURL(host) != "":
		return problem("host", rest.CheckURL(host))
	case !token.MatchString(values["access_token"]):
		return problem("access_token", "want a token, without spaces")
	}
	if secret := values["app_secret"]; secret != "" {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(values["access_token"])) // a hash's Write never fails
		a.query = "appsecret_proof=" + hex.EncodeToString(mac.Sum(nil))
	}
	a.client = rest.New(host, http.Header{
		"Authorization": {"Bearer " + values["access_token"]},
		"User-Agent":    {"Sluis-Meta/1"},
	}, timeout).Reading(usage)
	return a, nil
}

// path is that of an object or of one of its edges.
func (a account) path(parts []string, query url.Values) string {
	path := "/" + a.version + "/" + strings.Join(parts, "/")
	all := query.Encode()
	if a.query != "" && all != "" {
		all += "&"
	}
	if all += a.query; all != "" {
		path += "?" + all
	}
	return path
}

// failure is an error as the Graph API answers it.
type failure struct {
	Error struct {
		Code    int `json:"code"`
		Subcode int `json:"error_subcode"`
	} `json:"error"`
}

// fatalError says what a person has to mend; none of it is Meta's words, which
// could hold anything.
type fatalError struct{ what string }

func (e *fatalError) Error() string { return "Meta refuses: " + e.what }

// judge says what an answer other than 200 means for the rows of a request: they
// are to be tried again, or the request itself is at fault, which is for the
// caller to look into; or it is an error for a person.
func judge(r rest.Response) (result destination.Result, badRequest bool, err error) {
	var f failure
	_ = r.Read(&f) // then its code is 0, and the status counts
	code, subcode := f.Error.Code, f.Error.Subcode
	name := fmt.Sprintf("meta_%d", code)
	if subcode != 0 {
		name = fmt.Sprintf("meta_%d_%d", code, subcode)
	}
	fatal := func(what string) (destination.Result, bool, error) {
		return destination.Result{}, false, &fatalError{what: what + " (" + name + ")"}
	}
	switch code {
	case 4, 17, 32, 613, 80000, 80003, 80004, 80014:
		return destination.Result{Outcome: destination.Retry, Code: name, Message: "Meta's limit on calls is reached", RetryAfter: regain(r)}, false, nil
	case 1, 2, 341, 368, 5000, 21009:
		return destination.Result{Outcome: destination.Retry, Code: name, Message: "Meta could not do it for the moment", RetryAfter: r.RetryAfter()}, false, nil
	case 190, 102, 463, 467:
		return fatal("the access token is not valid, or not any more: make a new one for the system user")
	case 3, 10, 200, 294, 299:
		return fatal("the token lacks a permission: audiences need ads_management, and the system user a role in the ad account")
	case 2650, 2655, 1870034:
		return fatal("the terms of Custom Audiences are not accepted: accept them in the Ads Manager")
	case 100:
		switch subcode {
		case 33:
			return fatal("there is nothing with the configured id, or the token may not see it")
		case 1713230:
			return fatal("the audience is blocked for what its name or contents suggest: see its restrictions in the Audience Manager")
		}
		return destination.Result{Outcome: destination.Rejected, Code: name, Message: "Meta refuses the row as invalid"}, true, nil
	case 0:
		if r.Transient() {
			return r.StatusResult(), false, nil
		}
		return fatal(fmt.Sprintf("it answered %d without a reason", r.Status))
	}
	if r.Transient() {
		return destination.Result{Outcome: destination.Retry, Code: name, Message: "Meta could not do it for the moment", RetryAfter: r.RetryAfter()}, false, nil
	}
	return fatal("see the code in its documentation of errors")
}

// usage tells how long Meta wants to be left alone, if it does.
func usage(r rest.Response) (destination.Usage, bool) {
	wait := regain(r)
	return destination.Usage{Reset: wait}, wait > 0
}

// regain reads how long Meta wants to be left alone, in minutes, from its
// header, of which there is one entry per business and kind of call.
func regain(r rest.Response) time.Duration {
	var usage map[string][]struct {
		Minutes float64 `json:"estimated_time_to_regain_access"`
	}
	longest := r.RetryAfter()
	if json.Unmarshal([]byte(r.Header.Get("X-Business-Use-Case-Usage")), &usage) != nil {
		return longest
	}
	for _, kinds := range usage {
		for _, kind := range kinds {
			longest = max(longest, time.Duration(min(max(kind.Minutes, 0), 24*60)*float64(time.Minute)))
		}
	}
	return longest
}

// get reads an object.
func (a account) get(ctx context.Context, id, fields string, into any) error {
	r, err := a.client.Do(ctx, http.MethodGet, a.path([]string{id}, url.Values{"fields": {fields}}), nil)
	if err != nil {
		return err
	}
	if r.Status == http.StatusOK {
		if !r.Read(into) {
			return &fatalError{what: "its answer is not what it documents"}
		}
		return nil
	}
	result, badRequest, err := judge(r)
	if err != nil {
		return err
	}
	if badRequest {
		return &fatalError{what: "there is nothing of the right kind with the configured id"}
	}
	return fmt.Errorf("%s (%s)", result.Message, result.Code)
}

// lost is what a request without an answer means for its rows, if the error says
// that there was none.
func lost(err error) (destination.Result, error) {
	if e, ok := errors.AsType[*rest.LostError](err); ok {
		return e.Result(), nil
	}
	return destination.Result{}, err
}

// opaque makes an id for Meta of a key: the same each time, without telling
// Meta the key, under which other systems know the person.
func opaque(scope, key string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "sluis meta 1|%d|%s|%s", len(scope), scope, key))
	return hex.EncodeToString(sum[:16])
}

// filled says which columns of a batch have a value in any of some rows.
func filled(batch destination.Batch, rows []int) []bool {
	has := make([]bool, len(batch.Columns))
	for _, i := range rows {
		for c, v := range batch.Changes[i].Values {
			has[c] = has[c] || v != nil && v != ""
		}
	}
	return has
}
