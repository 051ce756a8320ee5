// Package slack tells a channel about an audience, through an incoming webhook.
//
// A batch is one message: how many people are new or changed and how many are
// gone, and, if a text for rows is configured, a line for each that is new or
// changed. Without such a text no personal data goes to Slack.
//
// Slack cannot tell that it has had a message before, and takes none back. So
// the destination is not idempotent: a message whose answer was lost is
// reported as unknown, and not sent twice unless a person decides so.
package slack

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
	defaultSummary = "*{sync}*: {changed} new or changed, {removed} gone"
	timeout        = 30 * time.Second
	maxRows        = 50
	maxText        = 40_000 // Slack cuts what is longer
)

// slack is the destination. Open sets its fields.
type slack struct {
	client        *rest.Client
	path          string
	summary, text string
}

// New returns the destination.
func New() destination.Destination { return &slack{} }

// Describe implements [destination.Destination].
func (*slack) Describe() destination.Description {
	return destination.Description{
		Name:        "slack",
		Version:     "1.0.0",
		Ops:         []destination.Op{destination.Upsert, destination.Remove},
		Granularity: destination.PerBatch,
		MaxRows:     maxRows,
		Paced:       true,
		Limits:      []destination.Limit{{Requests: 1, Per: time.Second, Rows: maxRows}},
		Config: []destination.Field{
			{Name: "url", Required: true, Secret: true, Account: true, Help: "the incoming webhook, https://hooks.slack.com/services/…"},
			{Name: "summary", Help: "the message's first line, with {sync}, {changed} and {removed}; " + defaultSummary + " unless given"},
			{Name: "text", Help: "a line for each row that is new or changed, with the mapping's fields, such as {company} looked at prices; none unless given"},
		},
		EgressHosts: []string{"${url}"},
	}
}

var placeholder = regexp.MustCompile(`\{([^{}]*)\}`)

// Validate implements [destination.Validator].
func (*slack) Validate(values map[string]string) error {
	_, err := parseConfig(values)
	return err
}

func parseConfig(values map[string]string) (*slack, error) {
	u, err := url.Parse(values["url"])
	if err != nil || rest.CheckURL(values["url"]) != "" || strings.Trim(u.Path, "/") == "" {
		return nil, &destination.ConfigError{Field: "url", Problem: "want the address of an incoming webhook, https://hooks.slack.com/services/…"}
	}
	s := &slack{path: u.EscapedPath(), summary: values["summary"], text: values["text"]}
	if s.summary == "" {
		s.summary = defaultSummary
	}
	for _, m := range placeholder.FindAllStringSubmatch(s.summary, -1) {
		if m[1] != "sync" && m[1] != "changed" && m[1] != "removed" {
			return nil, &destination.ConfigError{Field: "summary", Problem: "takes {sync}, {changed} and {removed}, and no other"}
		}
	}
	if len(s.summary) > 1000 || len(s.text) > 1000 {
		return nil, &destination.ConfigError{Field: "text", Problem: "want at most 1000 bytes each of summary and text"}
	}
	u.Path, u.RawPath = "", ""
	s.client = rest.New(u.String(), http.Header{"User-Agent": {"Sluis-Slack/1"}}, timeout)
	return s, nil
}

// Open implements [destination.Destination]. It makes no request: each would be
// a message.
func (s *slack) Open(_ context.Context, values map[string]string) error {
	parsed, err := parseConfig(values)
	if err != nil {
		return err
	}
	*s = *parsed
	return nil
}

// Close implements [destination.Destination].
func (s *slack) Close(context.Context) error {
	if s.client != nil {
		s.client.Close()
	}
	return nil
}

// Write implements [destination.Destination].
func (s *slack) Write(ctx context.Context, batch destination.Batch) ([]destination.Result, error) {
	if s.client == nil {
		return nil, errors.New("the destination is not open")
	}
	if len(batch.Changes) == 0 {
		return nil, nil
	}
	message, err := s.message(batch)
	if err != nil {
		return nil, err
	}
	return destination.All(len(batch.Changes), s.send(ctx, message)), nil
}

// message writes what a batch is about.
func (s *slack) message(batch destination.Batch) (string, error) {
	changed, removed := 0, 0
	lines := []string{""}
	for _, c := range batch.Changes {
		if c.Op == destination.Remove {
			removed++
			continue
		}
		changed++
		if s.text == "" {
			continue
		}
		line, err := fill(s.text, batch.Columns, c)
		if err != nil {
			return "", err
		}
		lines = append(lines, "• "+line)
	}
	lines[0] = strings.NewReplacer("{sync}", escape(batch.Sync), "{changed}", strconv.Itoa(changed), "{removed}", strconv.Itoa(removed)).Replace(s.summary)
	text := strings.Join(lines, "\n")
	for n := len(lines) - 1; len(text) > maxText; n-- {
		text = strings.Join(lines[:n], "\n") + fmt.Sprintf("\n… and %d more", len(lines)-n)
	}
	return text, nil
}

// fill puts the values of a row into the text for rows.
func fill(text string, columns []destination.Column, c destination.Change) (string, error) {
	var missing string
	line := placeholder.ReplaceAllStringFunc(text, func(name string) string {
		name = name[1 : len(name)-1]
		for i, column := range columns {
			if column.Name == name {
				return value(c.Values[i])
			}
		}
		missing = name
		return ""
	})
	if missing != "" {
		return "", fmt.Errorf("the text names {%s}, and the mapping has no such field: add it, or take it out of the text", missing)
	}
	return line, nil
}

// maxValue is how much of a value is shown, in characters.
const maxValue = 200

// value writes a value as text on one line that is text and nothing else: no
// mention, no link, no formatting that Slack knows by < and >.
func value(v any) string {
	text := "–"
	switch v := v.(type) {
	case nil:
	case time.Time:
		text = v.Format("2006-01-02 15:04 UTC")
	case float64:
		text = strconv.FormatFloat(v, 'g', -1, 64)
	default:
		text = strings.Join(strings.Fields(fmt.Sprint(v)), " ")
	}
	if runes := []rune(text); len(runes) > maxValue {
		text = string(runes[:maxValue]) + "…"
	}
	return escape(text)
}

func escape(text string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(text)
}

// send posts a message. What is refused was not posted, so it may come again once the reason is gone.
func (s *slack) send(ctx context.Context, text string) destination.Result {
	r, err := s.client.Do(ctx, http.MethodPost, s.path, map[string]any{"text": text, "unfurl_links": false, "unfurl_media": false})
	if lost, ok := errors.AsType[*rest.LostError](err); ok {
		result := lost.Result()
		if !lost.Unsent {
			result.Outcome = destination.Unknown
		}
		return result
	}
	if err != nil {
		return destination.Result{Outcome: destination.Retry, Code: "not_sent", Message: "the message could not be sent"}
	}
	return judge(r)
}

// reasons are Slack's words for a refusal, and what to do.
var reasons = map[string]string{
	"invalid_payload":                   "it does not understand the message",
	"no_text":                           "the message is empty",
	"user_not_found":                    "the webhook's user is gone: make a new webhook",
	"channel_not_found":                 "the channel is gone: make a new webhook",
	"channel_is_archived":               "the channel is archived: make a webhook for another",
	"action_prohibited":                 "an administrator of the workspace does not allow it",
	"posting_to_general_channel_denied": "an administrator of the workspace does not allow it there",
	"no_service":                        "the webhook is gone or disabled: make a new one",
	"no_service_id":                     "the webhook's address is not complete",
	"no_team":                           "the workspace is gone",
	"team_disabled":                     "the workspace is disabled",
	"invalid_token":                     "the webhook's address is not valid, or not any more",
	"too_many_attachments":              "it does not understand the message",
	"rollup_error":                      "it could not post the message for the moment",
}

func judge(r rest.Response) destination.Result {
	word := strings.TrimSpace(string(r.Body))
	if r.Status == http.StatusOK && word == "ok" {
		return destination.Result{Outcome: destination.Delivered}
	}
	reason, known := reasons[word]
	switch {
	case r.Status == http.StatusTooManyRequests:
		return destination.Result{Outcome: destination.Retry, Code: "rate_limit", Message: "Slack's limit on messages is reached", RetryAfter: r.RetryAfter()}
	case known:
		return destination.Result{Outcome: destination.Retry, Code: word, Message: "Slack refuses the message: " + reason}
	case r.Status/100 == 4 || r.Status/100 == 3:
		result := r.StatusResult()
		result.Outcome = destination.Retry
		return result
	}
	return destination.Result{Outcome: destination.Unknown, Code: "http_" + strconv.Itoa(r.Status), Message: "Slack does not say whether it posted the message"}
}
