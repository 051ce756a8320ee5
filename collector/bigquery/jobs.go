package bigquery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/googleapis/gax-go/v2"
	"google.golang.org/api/bigquery/v2"
	"google.golang.org/api/googleapi"
)

// endedJob is what became of a job.
type endedJob struct {
	failed *bigquery.ErrorProto // and had no effect; nil if it succeeded
	rows   int64                // written
}

// ended waits for the end of the load job with an id, and inserts it if BigQuery
// does not know it. After an error the job may exist or not, or come to exist:
// the same id is to be asked for again.
func (s *Sink) ended(ctx context.Context, id string, content func() ([]byte, error)) (endedJob, error) {
	j, err := s.getJob(ctx, id)
	if isStatus(err, http.StatusNotFound) {
		if j, err = s.insertJob(ctx, id, content); isStatus(err, http.StatusConflict) {
			j, err = s.getJob(ctx, id) // an earlier request that was on its way still
		}
	}
	pause := gax.Backoff{Initial: s.pollEvery / 10, Max: s.pollEvery, Multiplier: 2}
	for err == nil && j.Status.State != "DONE" {
		if err := gax.Sleep(ctx, pause.Pause()); err != nil {
			return endedJob{}, err
		}
		j, err = s.getJob(ctx, id)
	}
	if err != nil {
		return endedJob{}, explained(err)
	}
	ended := endedJob{failed: j.Status.ErrorResult}
	if j.Statistics != nil && j.Statistics.Load != nil {
		ended.rows = j.Statistics.Load.OutputRows
	}
	return ended, nil
}

func (s *Sink) getJob(ctx context.Context, id string) (*bigquery.Job, error) {
	ctx, cancel := context.WithTimeout(ctx, s.config.Timeout)
	defer cancel()
	j, err := s.jobs.Get(s.config.Project, id).Location(s.config.Location).Context(ctx).Do()
	if err != nil {
		return nil, fmt.Errorf("asking for job %s: %w", id, err)
	}
	return j, withStatus(j)
}

// insertJob sends the job with all of its rows. Without a schema the table's own
// is used, and a column that it lacks is an error.
func (s *Sink) insertJob(ctx context.Context, id string, content func() ([]byte, error)) (*bigquery.Job, error) {
	body, err := content()
	if err != nil {
		return nil, err
	}
	const slowest = 256 << 10 // bytes a second
	ctx, cancel := context.WithTimeout(ctx, s.config.Timeout+time.Duration(len(body)/slowest)*time.Second)
	defer cancel()
	j, err := s.jobs.Insert(s.config.Project, &bigquery.Job{
		JobReference: &bigquery.JobReference{ProjectId: s.config.Project, JobId: id, Location: s.config.Location},
		Configuration: &bigquery.JobConfiguration{
			Labels: s.config.Labels,
			Load: &bigquery.JobConfigurationLoad{
				DestinationTable:  &bigquery.TableReference{ProjectId: s.config.Project, DatasetId: s.config.Dataset, TableId: events},
				SourceFormat:      "NEWLINE_DELIMITED_JSON",
				CreateDisposition: "CREATE_NEVER",
				WriteDisposition:  "WRITE_APPEND",
			},
		},
	}).Media(bytes.NewReader(body), googleapi.ContentType("application/octet-stream")).Context(ctx).Do()
	if err != nil {
		return nil, fmt.Errorf("inserting job %s: %w", id, err)
	}
	return j, withStatus(j)
}

func withStatus(j *bigquery.Job) error {
	if j.Status == nil {
		return errors.New("BigQuery tells of a job without its status")
	}
	return nil
}

func isStatus(err error, code int) bool {
	var answer *googleapi.Error
	return errors.As(err, &answer) && answer.Code == code
}

// explained adds what to do about an answer of BigQuery.
func explained(err error) error {
	var answer *googleapi.Error
	if !errors.As(err, &answer) || len(answer.Errors) == 0 {
		return err
	}
	return fmt.Errorf("%w%s", err, remedy(answer.Errors[0].Reason))
}

// remedy says what to do about one of BigQuery's reasons; nothing if it passes.
func remedy(reason string) string {
	switch reason {
	case "accessDenied":
		return ": the collector's account needs roles/bigquery.jobUser on the project, for load jobs, and roles/bigquery.dataEditor on the landing tables"
	case "notFound":
		return ": create the table with 'sluis doctor --fix', and see whether the data set is in the configured location"
	case "quotaExceeded":
		return ": raise warehouse.bigquery.load_every; BigQuery allows 1,500 load jobs of a table a day"
	}
	return ""
}
