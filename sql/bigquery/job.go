package bigquery

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"cloud.google.com/go/bigquery"
	"github.com/googleapis/gax-go/v2"
	"google.golang.org/api/googleapi"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

const (
	// maxAttempts is how often a job is tried that failed for reasons that pass.
	maxAttempts = 5

	// inserting is how long a query is sent again and again. The client alone
	// would do so for ever.
	inserting = 2 * time.Minute

	// settling is how long a cancelled job is waited for.
	settling = 20 * time.Second
)

// start sends a job to BigQuery under an id.
type start func(ctx context.Context, id bigquery.JobIDConfig) (*bigquery.Job, error)

func (d *db) newQuery(statement statement) *bigquery.Query {
	query := d.client.Query(statement.text)
	query.Parameters = statement.parameters
	query.DefaultDatasetID = warehouse.SchemaModels
	query.Location = d.config.Location
	query.Labels = d.config.Labels
	query.MaxBytesBilled = d.config.MaxBytesBilled
	query.JobTimeout = d.config.Timeout
	return query
}

func (d *db) queryJob(statement statement) start {
	return func(ctx context.Context, id bigquery.JobIDConfig) (*bigquery.Job, error) {
		query := d.newQuery(statement)
		query.JobIDConfig = id
		bounded, cancel := context.WithTimeout(ctx, inserting)
		defer cancel()
		return query.Run(bounded)
	}
}

// run runs a job to its successful end. A job is atomic, so one that failed
// for a reason that passes has done nothing and is run again, as a new job.
func (d *db) run(ctx context.Context, kind string, start start) (*bigquery.Job, error) {
	var pause gax.Backoff // from 1 to 30 seconds, with jitter
	for attempt := 1; ; attempt++ {
		began := time.Now()
		id := bigquery.JobIDConfig{JobID: "sluis_" + kind + "_" + strings.ToLower(rand.Text()), Location: d.config.Location}
		job, err := d.once(ctx, id, start)
		d.log.DebugContext(ctx, "bigquery job", "job_id", id.JobID, "attempt", attempt, "took", time.Since(began), "failed", err != nil)
		if err == nil || attempt == maxAttempts || !passes(err) {
			return job, err
		}
		if err := gax.Sleep(ctx, pause.Pause()); err != nil {
			return nil, err
		}
	}
}

// once runs a job under one id. When ctx ends first, the job is cancelled; if
// it turns out to have succeeded all the same, so has the call.
func (d *db) once(ctx context.Context, id bigquery.JobIDConfig, start start) (*bigquery.Job, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	job, err := d.insert(ctx, id, start)
	if err == nil {
		err = wait(ctx, job)
	}
	if err != nil && ctx.Err() != nil {
		job, err = d.cancel(ctx, id, err)
	}
	if err != nil {
		return nil, d.explain(ctx, err, id.JobID)
	}
	if failed := job.LastStatus().Err(); failed != nil {
		return nil, d.explain(ctx, failed, id.JobID)
	}
	return job, nil
}

// insert sends a job, again if need be. Under the same id it is the same job:
// that the id exists already is the answer to an earlier try that got through.
func (d *db) insert(ctx context.Context, id bigquery.JobIDConfig, start start) (*bigquery.Job, error) {
	var pause gax.Backoff
	for attempt := 1; ; attempt++ {
		job, err := start(ctx, id)
		switch {
		case err == nil:
			return job, nil
		case isStatus(err, http.StatusConflict):
			return d.client.JobFromIDLocation(ctx, id.JobID, id.Location)
		case !lost(err):
			return nil, err
		case attempt == maxAttempts || errors.Is(err, context.DeadlineExceeded):
			// One of the answers may have been lost, and not the request.
			if job, notFound := d.client.JobFromIDLocation(ctx, id.JobID, id.Location); notFound == nil {
				return job, nil
			}
			return nil, err
		}
		if err := gax.Sleep(ctx, pause.Pause()); err != nil {
			return nil, err
		}
	}
}

// wait polls until a job is done. It does not use the client's own Wait, which
// takes the reason of a job that failed for a failure to ask, and asks for ever.
func wait(ctx context.Context, job *bigquery.Job) error {
	pause := gax.Backoff{Initial: 100 * time.Millisecond, Max: 2 * time.Second, Multiplier: 1.5}
	for status := job.LastStatus(); status == nil || !status.Done(); status = job.LastStatus() {
		if err := gax.Sleep(ctx, pause.Pause()); err != nil {
			return err
		}
		if _, err := job.Status(ctx); err != nil {
			return err
		}
	}
	return nil
}

// cancel cancels a job of a context that has ended, and waits until it is known
// what became of it. cause is what the client made of the end.
func (d *db) cancel(ctx context.Context, id bigquery.JobIDConfig, cause error) (*bigquery.Job, error) {
	ended := cause
	if !errors.Is(cause, ctx.Err()) {
		ended = fmt.Errorf("%w: %w", ctx.Err(), cause)
	}
	ctx, done := context.WithTimeout(context.WithoutCancel(ctx), settling)
	defer done()
	job, err := d.find(ctx, id)
	if isStatus(err, http.StatusNotFound) {
		return nil, ended // it never began
	}
	if err == nil {
		// Of a job that is done already nothing is cancelled, and nothing refused.
		if err = job.Cancel(ctx); err == nil {
			err = wait(ctx, job)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w; whether job %s had an effect is not known, see %s", ended, id.JobID, d.link(id.JobID))
	}
	if job.LastStatus().Err() != nil {
		return nil, ended
	}
	return job, nil
}

// find looks a job up whose request was abandoned, and may be under way still.
func (d *db) find(ctx context.Context, id bigquery.JobIDConfig) (*bigquery.Job, error) {
	const patience = 4
	pause := gax.Backoff{Initial: 500 * time.Millisecond}
	for attempt := 1; ; attempt++ {
		job, err := d.client.JobFromIDLocation(ctx, id.JobID, id.Location)
		if err == nil || attempt == patience || !isStatus(err, http.StatusNotFound) {
			return job, err
		}
		if err := gax.Sleep(ctx, pause.Pause()); err != nil {
			return nil, err
		}
	}
}

// passes tells whether a job failed for a reason that passes.
func passes(err error) bool {
	var failed *Error
	if !errors.As(err, &failed) {
		return false
	}
	switch failed.Reason {
	case "backendError", "internalError", "rateLimitExceeded", "jobBackendError", "jobInternalError", "jobRateLimitExceeded":
		return true
	case "invalidQuery":
		// Two statements changed one table at the same time, and this one lost.
		return strings.Contains(failed.Message, "Could not serialize access")
	}
	return false
}

// lost tells whether a request may have got lost, or come at a bad moment. For
// queries the client has retried by itself; it does not for load jobs, whose
// content it cannot read twice.
func lost(err error) bool {
	var answer *googleapi.Error
	if !errors.As(err, &answer) {
		return true
	}
	if answer.Code >= http.StatusInternalServerError || answer.Code == http.StatusTooManyRequests {
		return true
	}
	return slices.ContainsFunc(answer.Errors, func(item googleapi.ErrorItem) bool {
		return item.Reason == "rateLimitExceeded" || item.Reason == "jobRateLimitExceeded" || item.Reason == "backendError"
	})
}
