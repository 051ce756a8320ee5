package bigquery

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"cloud.google.com/go/bigquery"
	"google.golang.org/api/googleapi"

	"github.com/sluis-cdp/sluis/sql/bigquery/identity"
)

// Error is a failure as BigQuery tells it, and what to do about it.
type Error struct {
	Reason  string // BigQuery's word, such as accessDenied
	Message string
	Link    string // the job in Google's console; empty if there was no job
	Remedy  string // empty if none is known
	cause   error
}

func (e *Error) Error() string {
	text := "BigQuery: " + strings.TrimSuffix(e.Message, ".")
	if e.Reason != "" {
		text += " (" + e.Reason + ")"
	}
	if e.Remedy != "" {
		text += ": " + e.Remedy
	}
	if e.Link != "" {
		text += "; job: " + e.Link
	}
	return text
}

func (e *Error) Unwrap() error { return e.cause }

// explain turns an error of the client into one for the user. Once ctx has
// ended, that is the reason, whatever the client says.
func (d *db) explain(ctx context.Context, err error, job string) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		if errors.Is(err, ctx.Err()) {
			return err
		}
		return fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	explained := &Error{Message: err.Error(), cause: err}
	var failed *bigquery.Error
	var answer *googleapi.Error
	switch {
	case errors.As(err, &failed):
		explained.Reason, explained.Message = failed.Reason, failed.Message
	case errors.As(err, &answer):
		if answer.Message != "" {
			explained.Message = answer.Message
		}
		if len(answer.Errors) > 0 {
			explained.Reason = answer.Errors[0].Reason
		}
	}
	if job != "" {
		explained.Link = d.link(job)
	}
	if explained.Remedy = d.remedy(explained.Reason, explained.Message); explained.Remedy == "" {
		explained.Remedy = identity.Remedy(err)
	}
	return explained
}

// link is where Google's console shows a job.
func (d *db) link(job string) string {
	return fmt.Sprintf("https://console.cloud.google.com/bigquery?project=%s&j=bq:%s:%s&page=queryresults",
		url.QueryEscape(d.config.Project), url.QueryEscape(d.config.Location), job)
}

var permission = regexp.MustCompile(`bigquery\.[a-zA-Z]+\.[a-zA-Z]+`)

// roles are the smallest of Google's roles that hold a permission.
var roles = map[string]string{
	"bigquery.jobs.create":         "roles/bigquery.jobUser on the project",
	"bigquery.jobs.get":            "roles/bigquery.jobUser on the project",
	"bigquery.readsessions.create": "roles/bigquery.readSessionUser on the project",
	"bigquery.datasets.create":     "roles/bigquery.user on the project",
	"bigquery.datasets.get":        "roles/bigquery.metadataViewer on the dataset",
	"bigquery.tables.get":          "roles/bigquery.metadataViewer on the dataset",
	"bigquery.tables.list":         "roles/bigquery.metadataViewer on the dataset",
	"bigquery.tables.getData":      "roles/bigquery.dataViewer on the dataset",
}

func (d *db) remedy(reason, message string) string {
	switch reason {
	case "notFound":
		if strings.Contains(message, "Dataset") {
			return fmt.Sprintf("set the project up, which makes the datasets; if they exist, see whether they are in %s", d.config.Location)
		}
	case "accessDenied":
		missing := permission.FindString(message)
		if role, ok := roles[missing]; ok {
			return "grant " + role
		}
		if strings.HasPrefix(missing, "bigquery.tables.") || strings.HasPrefix(missing, "bigquery.datasets.") {
			return "grant roles/bigquery.dataEditor on the dataset"
		}
		return "the account needs roles/bigquery.jobUser on the project, and roles/bigquery.dataViewer (to read) or roles/bigquery.dataEditor (to write) on the dataset"
	case "bytesBilledLimitExceeded":
		return fmt.Sprintf("the ceiling is %d bytes a query: narrow the query, by the time of the partitions for one, or raise the ceiling", d.config.MaxBytesBilled)
	case "quotaExceeded":
		return "a quota of the project is used up: wait until it renews, run less often, or ask Google to raise it"
	case "rateLimitExceeded", "jobRateLimitExceeded":
		return "too many requests at a time, also after several tries: run less at once"
	case "billingNotEnabled", "billingTierLimitExceeded":
		return "see to the project's billing"
	}
	return ""
}
