package webhook

import (
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"

	"github.com/sluis-cdp/sluis/plugins/destination"
)

// reply is the optional body of a 2xx answer.
type reply struct {
	Results []struct {
		Index   *int   `json:"index"`
		Skipped bool   `json:"skipped"`
		Code    string `json:"code"`
		Error   string `json:"error"`
	} `json:"results"`
}

// readReply gives the rows of a batch that the receiver took their results.
// The body is only looked at if it claims to be JSON; a receiver may as well
// say "ok". One that claims to be and cannot be read leaves the rows Unknown,
// for it may have refused some.
func (w *webhook) readReply(response *http.Response, batch destination.Batch, sent []int) []destination.Result {
	results := destination.All(len(sent), destination.Result{Outcome: destination.Delivered})
	body, err := io.ReadAll(io.LimitReader(response.Body, maxReply+1))
	kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if kind != "application/json" {
		return results
	}
	unknown := func(code, message string) []destination.Result {
		return destination.All(len(sent), destination.Result{Outcome: destination.Unknown, Code: code, Message: message})
	}
	if err != nil {
		return unknown("reply_lost", "the endpoint accepted the batch, but the rest of its answer was lost")
	}
	if len(body) > maxReply {
		return unknown("reply_too_large", fmt.Sprintf("the endpoint accepted the batch with an answer of more than %d bytes", maxReply))
	}
	var r reply
	if json.Unmarshal(body, &r) != nil {
		return results // JSON of another shape says nothing about rows
	}
	redact := destination.Redactor(batch)
	for _, refused := range r.Results {
		if refused.Index == nil || *refused.Index < 0 || *refused.Index >= len(sent) {
			return unknown("reply_invalid", "the endpoint's answer names a row that was not sent")
		}
		if refused.Skipped {
			results[*refused.Index] = destination.Result{Outcome: destination.Skipped, Code: "absent", Message: "the endpoint has no such row, and makes none"}
			continue
		}
		results[*refused.Index] = destination.Result{
			Outcome: destination.Rejected,
			Code:    code(refused.Code, redact),
			Message: "the endpoint refused the row: " + redact(refused.Error),
		}
	}
	return results
}

// code is the receiver's code if it looks like one, and not like a value.
func code(s string, redact func(string) string) string {
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '_' && r != '.' && r != '-' {
			return "refused"
		}
	}
	if len(s) > 40 || redact(s) != s {
		return "refused"
	}
	return s
}
