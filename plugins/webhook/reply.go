package webhook

import (
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sluis-cdp/sluis/plugins/destination"
)

// reply is the optional body of a 2xx answer.
type reply struct {
	Results []struct {
		Index *int   `json:"index"`
		Code  string `json:"code"`
		Error string `json:"error"`
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
	redact := redactor(batch)
	for _, refused := range r.Results {
		if refused.Index == nil || *refused.Index < 0 || *refused.Index >= len(sent) {
			return unknown("reply_invalid", "the endpoint's answer names a row that was not sent")
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

const (
	// maxWords bounds what is kept of the receiver's own words, in characters.
	maxWords = 160
	// minValue is the shortest value, in bytes, that is looked for: shorter
	// ones are in any sentence, and tell nothing.
	minValue = 3
	redacted = "[redacted]"
)

// redactor returns a function that makes the receiver's words fit to be kept:
// one short line without any value of the batch, whatever row it belongs to,
// without any word of a value, since receivers quote in part, and without
// whatever looks like an address or a number of a person. Case is folded on
// both sides, since receivers also normalise what they quote.
func redactor(batch destination.Batch) func(string) string {
	var pairs []string
	known := map[string]bool{}
	for _, change := range batch.Changes {
		for _, v := range change.Values {
			s := spelling(v)
			if len(s) < minValue {
				continue
			}
			pairs = append(pairs, s, redacted)
			for _, word := range strings.FieldsFunc(s, notWord) {
				known[word] = len(word) >= minValue
			}
		}
	}
	values := strings.NewReplacer(pairs...)
	identifying := func(field string) bool {
		for _, word := range strings.FieldsFunc(field, notWord) {
			if known[word] {
				return true
			}
		}
		return strings.Contains(field, "@") || digits(field) >= 5
	}
	return func(words string) string {
		words = values.Replace(strings.ToLower(strings.ToValidUTF8(words, "")))
		fields := strings.FieldsFunc(words, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) })
		for i, field := range fields {
			if identifying(field) {
				fields[i] = redacted
			}
		}
		words = strings.Join(fields, " ")
		if utf8.RuneCountInString(words) > maxWords {
			words = string([]rune(words)[:maxWords]) + "…"
		}
		if words == "" {
			return "no reason given"
		}
		return words
	}
}

// spelling is how a value stands in JSON, in lower case; "" for those that
// tell nothing.
func spelling(v any) string {
	switch v := v.(type) {
	case string:
		return strings.ToLower(strings.TrimSpace(v))
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case time.Time:
		return v.Format(time.DateOnly)
	default:
		return ""
	}
}

func notWord(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }

func digits(s string) (n int) {
	for _, r := range s {
		if unicode.IsDigit(r) {
			n++
		}
	}
	return n
}
