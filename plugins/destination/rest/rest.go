// Package rest is how destinations speak to the JSON interfaces of services:
// with bounds on time and size, following no redirect, and with errors that
// hold neither an address's secrets nor what was sent.
package rest

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sluis-cdp/sluis/plugins/destination"
)

const (
	maxReply     = 4 << 20
	maxRetryWait = 24 * time.Hour
)

// Client makes requests to one service, each when its turn has come; see
// [destination.Await]. Its methods may be called concurrently.
type Client struct {
	base    string
	header  http.Header
	timeout time.Duration
	limit   string
	usage   func(Response) (destination.Usage, bool)
	client  *http.Client
}

// Response is an answer, read whole.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
	At     time.Time // when it came
}

// CheckURL says what is wrong with the address of a service, without repeating
// it; "" means nothing is. Without TLS only this machine may be reached.
func CheckURL(text string) string {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Opaque != "" || u.Hostname() == "":
		return "want an absolute URL such as https://api.example.org"
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return "must have neither a user nor parameters nor a fragment"
	case u.Scheme == "https":
		return ""
	case u.Scheme != "http":
		return "must begin with https://"
	}
	if ip, err := netip.ParseAddr(u.Hostname()); (err != nil || !ip.IsLoopback()) && u.Hostname() != "localhost" {
		return "must begin with https://, since personal data is sent"
	}
	return ""
}

// New returns a client of the service at base, which [CheckURL] has found to be
// good. The header goes with each request, which may take as long as timeout.
func New(base string, header http.Header, timeout time.Duration) *Client {
	return &Client{
		base: strings.TrimSuffix(base, "/"), header: header, timeout: timeout,
		client: &http.Client{
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport: &http.Transport{
				Proxy:                  destination.EgressProxy,
				DialContext:            (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
				ForceAttemptHTTP2:      true,
				TLSHandshakeTimeout:    10 * time.Second,
				IdleConnTimeout:        time.Minute,
				MaxResponseHeaderBytes: 64 << 10,
			},
		},
	}
}

// With returns a client with one more header that shares c's connections, for
// what is not the same in each request.
func (c *Client) With(name, value string) *Client {
	clone := *c
	clone.header = c.header.Clone()
	if clone.header == nil {
		clone.header = http.Header{}
	}
	clone.header.Set(name, value)
	return &clone
}

// Under returns a client that shares c's connections, and whose requests are under the
// [destination.Limit] of that name.
func (c *Client) Under(limit string) *Client {
	clone := *c
	clone.limit = limit
	return &clone
}

// Reading returns a client that shares c's connections, and reads from each answer how
// far its limit is used up, if the answer says so. That a service that is busy says when
// to come back is read in any case.
func (c *Client) Reading(usage func(Response) (destination.Usage, bool)) *Client {
	clone := *c
	clone.usage = usage
	return &clone
}

// Close ends the idle connections.
func (c *Client) Close() { c.client.CloseIdleConnections() }

// LostError says that a request has no answer, or none that could be read. The
// service may have done what it was asked for, unless the request was not even sent.
type LostError struct {
	Code, Message string // as in a destination.Result
	RetryAfter    time.Duration
	Unsent        bool // it is certain that nothing went out
	cause         error
}

func (e *LostError) Error() string { return e.Message }
func (e *LostError) Unwrap() error { return e.cause }

// Do makes a request with body as JSON, or without one if it is nil. An answer
// of any status is no error; a [*LostError] is.
func (c *Client) Do(ctx context.Context, method, path string, body any) (Response, error) {
	if err := destination.Await(ctx, c.limit); err != nil {
		return Response{}, Unsent(err)
	}
	answer, err := c.do(ctx, method, path, body)
	if err == nil {
		c.observe(ctx, answer)
	}
	return answer, err
}

// Unsent is what an error of [destination.Await] means for the rows of a request.
func Unsent(err error) *LostError {
	e := &LostError{Code: "not_sent", Message: "the time was over before the request's turn", Unsent: true, cause: err}
	if limit, ok := errors.AsType[*destination.LimitError](err); ok {
		e.Code, e.Message, e.RetryAfter = "rate_limit", "the service's limit on requests is reached", limit.RetryAfter
	}
	return e
}

// observe tells who gives requests their turns what an answer says of the limit.
func (c *Client) observe(ctx context.Context, answer Response) {
	if wait := answer.RetryAfter(); wait > 0 && answer.Transient() {
		destination.Observe(ctx, c.limit, destination.Usage{Reset: wait})
	} else if c.usage != nil {
		if usage, ok := c.usage(answer); ok {
			destination.Observe(ctx, c.limit, usage)
		}
	}
}

func (c *Client) do(ctx context.Context, method, path string, body any) (Response, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	var sent io.Reader
	if body != nil {
		encoded, err := encode(body)
		if err != nil {
			return Response{}, fmt.Errorf("encode the request: %T", err) // its text may have values
		}
		sent = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, sent)
	if err != nil {
		return Response{}, errors.New("make the request: the address is not valid")
	}
	maps.Copy(request.Header, c.header)
	if body != nil && request.Header.Get("Content-Type") == "" {
		request.Header.Set("Content-Type", "application/json")
	}
	answer, err := c.client.Do(request)
	if err != nil {
		return Response{}, lost(err)
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(io.LimitReader(answer.Body, maxReply+1))
	switch {
	case err != nil:
		return Response{}, &LostError{Code: "reply_lost", Message: "the rest of the service's answer was lost", cause: err}
	case len(content) > maxReply:
		return Response{}, &LostError{Code: "reply_too_large", Message: fmt.Sprintf("the service's answer has more than %d bytes", maxReply)}
	}
	return Response{Status: answer.StatusCode, Header: answer.Header, Body: content, At: time.Now()}, nil
}

// encode is json.Marshal without escapes for HTML, which nothing here is.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// lost leaves out the error's own text, since it has the address.
func lost(err error) *LostError {
	e := &LostError{Code: "network", Message: "the connection to the service failed", cause: err}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		e.Code, e.Message, e.Unsent = "dns", "the service's name does not resolve", true
	} else if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		e.Code, e.Message, e.Unsent = "tls", "the service's certificate is not trusted", true
	} else if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		e.Code, e.Message = "timeout", "the service did not answer in time"
	}
	return e
}

// Result is what a lost answer means for the rows of an idempotent destination:
// they are sent again under their ids.
func (e *LostError) Result() destination.Result {
	return destination.Result{Outcome: destination.Retry, Code: e.Code, Message: e.Message, RetryAfter: e.RetryAfter}
}

// Read takes the answer apart as JSON, and reports whether it could. An error's
// text would repeat what it holds.
func (r Response) Read(into any) bool { return json.Unmarshal(r.Body, into) == nil }

// Transient reports whether a status says that the same request may succeed
// later.
func (r Response) Transient() bool {
	switch r.Status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return r.Status/100 == 5
}

// StatusResult is what an answer means of which nothing but its status is
// understood.
func (r Response) StatusResult() destination.Result {
	result := destination.Result{
		Outcome: destination.Rejected,
		Code:    "http_" + strconv.Itoa(r.Status),
		Message: strings.TrimSpace(fmt.Sprintf("the service answered %d %s", r.Status, http.StatusText(r.Status))),
	}
	if r.Transient() {
		result.Outcome, result.RetryAfter = destination.Retry, r.RetryAfter()
	}
	return result
}

// RetryAfter reads the header of that name: seconds or a date. What makes no
// sense is 0.
func (r Response) RetryAfter() time.Duration {
	header := r.Header.Get("Retry-After")
	var wait time.Duration
	if seconds, err := strconv.ParseFloat(header, 64); err == nil && seconds >= 0 {
		wait = time.Duration(math.Min(math.Ceil(seconds), maxRetryWait.Seconds())) * time.Second
	} else if at, err := http.ParseTime(header); err == nil {
		wait = at.Sub(r.At).Round(time.Second)
	}
	return min(max(wait, 0), maxRetryWait)
}

// Remaining reads a number of requests that are left from a header, and how long it holds
// from what reset says.
func (r Response) Remaining(header string, reset time.Duration) (destination.Usage, bool) {
	remaining, err := strconv.Atoi(r.Header.Get(header))
	if err != nil || remaining < 0 || reset <= 0 {
		return destination.Usage{}, false
	}
	return destination.Usage{Remaining: remaining, Reset: min(reset, maxRetryWait)}, true
}

// Sleep waits, and reports whether it did so to the end, or ctx ended first.
func Sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
