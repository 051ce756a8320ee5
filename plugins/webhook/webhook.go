// Package webhook sends audience changes to an HTTP endpoint, signed as
// Standard Webhooks 1.0.0 says, so that a receiver can verify them with any of
// that project's libraries.
//
// A batch is one request:
//
//	POST /your/path
//	webhook-id: <the batch's id, the same when it is sent again>
//	webhook-timestamp: <Unix seconds of this attempt>
//	webhook-signature: v1,<base64> [v1,<base64> while secrets rotate]
//
//	{"type":"audience.delta","timestamp":"2026-01-02T03:04:05Z","data":{
//	  "sync":"newsletter","run":"…","rows":[
//	    {"op":"upsert","id":"…","key":"…","fields":{"email":"…"}},
//	    {"op":"remove","id":"…","key":"…","reason":"consent_withdrawn","fields":{"email":"…"}}]}}
//
// Only a 2xx answer is success. It may refuse single rows with a JSON body
//
//	{"results":[{"index":3,"code":"unknown_country","error":"no such country"}]}
//
// which are then not sent again until they change; rows not listed succeeded.
// A sync with the mode update says "op":"update" of rows that are to be changed
// where they are there and not made where they are not. Of those that are not
// it says {"index":3,"skipped":true}, and gets them again later.
// 408, 425, 429 and 5xx are tried again, after the time in Retry-After;
// everything else, 410 and redirects included, refuses the batch for good.
package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/plugins/destination/rest"
)

const (
	maxRows      = 1000
	maxReply     = 1 << 20
	maxRetryWait = 24 * time.Hour
	userAgent    = "Sluis-Webhook/1"
)

// webhook is the destination. Open sets its fields.
type webhook struct {
	config  config
	updates bool // and makes nothing
	client  *http.Client
	now     func() time.Time
}

// New returns the destination.
func New() destination.Destination {
	return &webhook{now: time.Now}
}

// Describe implements [destination.Destination].
func (*webhook) Describe() destination.Description {
	return destination.Description{
		Name:        "webhook",
		Version:     "1.0.0",
		Ops:         []destination.Op{destination.Upsert, destination.Remove},
		Granularity: destination.PerRow,
		UpdateOnly:  true, // which the receiver is told
		Idempotent:  true, // the receiver drops a webhook-id that it has seen
		MaxRows:     maxRows,
		Paced:       true, // what the receiver takes it says itself, by Retry-After
		Config:      fields(),
		EgressHosts: []string{"${url}"},
	}
}

// Validate implements [destination.Validator].
func (*webhook) Validate(values map[string]string) error {
	_, err := parseConfig(values)
	return err
}

// Open implements [destination.Destination]. It connects to nothing: there is
// no request that a receiver of webhooks takes for a test.
func (w *webhook) Open(_ context.Context, values map[string]string) error {
	c, err := parseConfig(values)
	if err != nil {
		return err
	}
	w.config, w.client = c, newClient(c)
	return nil
}

// OpenToUpdate implements [destination.Updater].
func (w *webhook) OpenToUpdate(ctx context.Context, values map[string]string) error {
	if err := w.Open(ctx, values); err != nil {
		return err
	}
	w.updates = true
	return nil
}

// Close implements [destination.Destination].
func (w *webhook) Close(context.Context) error {
	if w.client != nil {
		w.client.CloseIdleConnections()
	}
	return nil
}

// Write implements [destination.Destination].
func (w *webhook) Write(ctx context.Context, batch destination.Batch) ([]destination.Result, error) {
	results := make([]destination.Result, len(batch.Changes))
	body, sent, err := w.encode(batch, results)
	if err != nil {
		return nil, err
	}
	if len(sent) == 0 {
		return results, nil
	}
	answers, err := w.send(ctx, batch, body, sent)
	if err != nil {
		return nil, err
	}
	for i, row := range sent {
		results[row] = answers[i]
	}
	return results, nil
}

// message is the body of a request.
type message struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Data      delta     `json:"data"`
}

type delta struct {
	Sync string            `json:"sync"`
	Run  string            `json:"run"`
	Rows []json.RawMessage `json:"rows"`
}

type row struct {
	Op     string         `json:"op"`
	ID     string         `json:"id"`
	Key    string         `json:"key"`
	Reason string         `json:"reason,omitempty"`
	Fields map[string]any `json:"fields"`
}

// encode makes the body, and tells which changes are in it. One that JSON
// cannot hold gets its result here.
func (w *webhook) encode(batch destination.Batch, results []destination.Result) (body []byte, sent []int, err error) {
	m := message{
		Type:      "audience.delta",
		Timestamp: w.now().UTC().Truncate(time.Second),
		Data:      delta{Sync: batch.Sync, Run: batch.Run},
	}
	for i, change := range batch.Changes {
		r := row{
			Op: change.Op.String(), ID: change.ID, Key: change.Key, Reason: change.PriorityReason,
			Fields: make(map[string]any, len(batch.Columns)),
		}
		if w.updates && change.Op == destination.Upsert {
			r.Op = "update"
		}
		for c, column := range batch.Columns {
			r.Fields[column.Name] = change.Values[c]
		}
		if name, bad := notJSON(r.Fields); bad {
			results[i] = destination.Result{
				Outcome: destination.Rejected, Code: "not_json",
				Message: "column " + name + " is infinite, not a number, or outside the years that JSON times have",
			}
			continue
		}
		encoded, err := marshal(r)
		if err != nil {
			return nil, nil, fmt.Errorf("change %d: encode: %T", i, err) // its text would have the value
		}
		m.Data.Rows = append(m.Data.Rows, encoded)
		sent = append(sent, i)
	}
	body, err = marshal(m)
	return body, sent, err
}

func notJSON(fields map[string]any) (name string, bad bool) {
	for name, v := range fields {
		switch v := v.(type) {
		case float64:
			bad = math.IsNaN(v) || math.IsInf(v, 0)
		case time.Time:
			bad = v.Year() < 0 || v.Year() > 9999
		}
		if bad {
			return name, true
		}
	}
	return "", false
}

// marshal is json.Marshal without escapes for HTML, which nothing here is.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// send makes the request and gives one result per row sent.
func (w *webhook) send(ctx context.Context, batch destination.Batch, body []byte, sent []int) ([]destination.Result, error) {
	if err := destination.Await(ctx, ""); err != nil {
		return destination.All(len(sent), rest.Unsent(err).Result()), nil
	}
	ctx, cancel := context.WithTimeout(ctx, w.config.timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.config.url, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("make the request: the URL is not valid")
	}
	at := w.now()
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", userAgent)
	Sign(request.Header, w.config.secrets, batch.ID, at, body)

	response, err := w.client.Do(request)
	if err != nil {
		if refused, ok := errors.AsType[*refusedAddressError](err); ok {
			return nil, refused
		}
		return destination.All(len(sent), networkResult(err)), nil
	}
	defer response.Body.Close()
	if response.StatusCode/100 != 2 {
		_, _ = io.CopyN(io.Discard, response.Body, maxReply) // so that the connection can be used again
		result := statusResult(response, at)
		if result.RetryAfter > 0 {
			destination.Observe(ctx, "", destination.Usage{Reset: result.RetryAfter})
		}
		return destination.All(len(sent), result), nil
	}
	return w.readReply(response, batch, sent), nil
}

// networkResult is the result of a request without an answer. The receiver may
// have had it, but knows it by its id when it comes again. The error's own text
// is left out, since it has the URL.
func networkResult(err error) destination.Result {
	r := destination.Result{Outcome: destination.Retry, Code: "network", Message: "the connection to the endpoint failed"}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		r.Code, r.Message = "dns", "the endpoint's name does not resolve"
	} else if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		r.Code, r.Message = "tls", "the endpoint's certificate is not trusted"
	} else if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		r.Code, r.Message = "timeout", "the endpoint did not answer in time"
	}
	return r
}

// statusResult is the result of an answer that is not 2xx. What the receiver
// says about a whole batch is not repeated: it could hold anybody's values.
func statusResult(response *http.Response, now time.Time) destination.Result {
	status := response.StatusCode
	r := destination.Result{
		Outcome: destination.Rejected,
		Code:    "http_" + strconv.Itoa(status),
		Message: strings.TrimSpace(fmt.Sprintf("the endpoint answered %d %s", status, http.StatusText(status))),
	}
	switch {
	case status == http.StatusGone:
		r.Message += ": it wants no more; disable this sync"
	case status/100 == 3:
		r.Message += ": redirects are not followed; configure the final address"
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusTooManyRequests, status/100 == 5:
		r.Outcome = destination.Retry
		r.RetryAfter = retryAfter(response.Header.Get("Retry-After"), now)
	}
	return r
}

// retryAfter reads the header: seconds or a date. What makes no sense is 0.
func retryAfter(header string, now time.Time) time.Duration {
	var wait time.Duration
	if seconds, err := strconv.ParseUint(header, 10, 64); err == nil {
		wait = time.Duration(min(seconds, uint64(maxRetryWait/time.Second))) * time.Second
	} else if at, err := http.ParseTime(header); err == nil {
		wait = at.Sub(now).Round(time.Second)
	}
	return min(max(wait, 0), maxRetryWait)
}
