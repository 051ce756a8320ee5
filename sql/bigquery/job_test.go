package bigquery_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/sql/bigquery"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

func open(t *testing.T, config bigquery.Config) warehouse.Driver {
	t.Helper()
	d, err := bigquery.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestJobConfiguration(t *testing.T) {
	f := newFake(t)
	config := f.config()
	config.Labels = map[string]string{"program": "sluis", "node": "profiles"}
	config.MaxBytesBilled = 1 << 30
	config.Timeout = 90 * time.Second
	d := open(t, config)
	if err := d.Exec(t.Context(), "DELETE FROM x WHERE a = ? AND b IS NOT DISTINCT FROM ?", "v", nil); err != nil {
		t.Fatal(err)
	}
	if err := d.Append(t.Context(), "sluis_models", "x", []string{"n"}, [][]any{{1}}); err != nil {
		t.Fatal(err)
	}
	labels := map[string]any{"program": "sluis", "node": "profiles"}
	want := []map[string]any{
		{
			"labels": labels, "jobTimeoutMs": "90000",
			"query": map[string]any{
				"query":              "DELETE FROM x WHERE a = ? AND b IS NOT DISTINCT FROM NULL",
				"defaultDataset":     map[string]any{"datasetId": "sluis_models"},
				"maximumBytesBilled": "1073741824", "useLegacySql": false,
				"queryParameters": []any{map[string]any{
					"parameterType": map[string]any{"type": "STRING"}, "parameterValue": map[string]any{"value": "v"},
				}},
			},
		},
		{
			"labels": labels, "jobTimeoutMs": "90000",
			"load": map[string]any{
				"createDisposition": "CREATE_NEVER", "writeDisposition": "WRITE_APPEND", "sourceFormat": "NEWLINE_DELIMITED_JSON",
				"destinationTable": map[string]any{"projectId": "p", "datasetId": "sluis_models", "tableId": "x"},
			},
		},
	}
	for i, id := range f.order {
		if diff := cmp.Diff(want[i], f.jobs[id].configuration); diff != "" {
			t.Errorf("job %d: (-want +got)\n%s", i, diff)
		}
	}
	if len(f.order) != 2 || f.order[0] == f.order[1] {
		t.Errorf("the jobs are %v", f.order)
	}
}

// What was sent twice, because an answer got lost, is one job.
func TestJobSentTwiceRunsOnce(t *testing.T) {
	calls := map[string]func(context.Context, warehouse.Driver) error{
		"exec": func(ctx context.Context, d warehouse.Driver) error { return d.Exec(ctx, "DELETE FROM x WHERE true") },
		"append": func(ctx context.Context, d warehouse.Driver) error {
			return d.Append(ctx, "sluis_models", "x", []string{"n"}, [][]any{{1}})
		},
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.accepts = true
			f.inserted = func(int) *apiError { return &apiError{503, "backendError", "try again"} }
			if err := call(t.Context(), open(t, f.config())); err != nil {
				t.Fatal(err)
			}
			if len(f.jobs) != 1 || f.inserts[f.order[0]] != 2 {
				t.Errorf("%d jobs, sent %v", len(f.jobs), f.inserts)
			}
		})
	}
}

func TestRateLimitIsWaitedFor(t *testing.T) {
	f := newFake(t)
	f.inserted = func(n int) *apiError {
		if n == 0 {
			return &apiError{403, "rateLimitExceeded", "Exceeded rate limits"}
		}
		return nil
	}
	d := open(t, f.config())
	got, err := warehouse.Collect(t.Context(), d, "SELECT 7 AS n")
	if diff := cmp.Diff([][]any{{int64(7)}}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	if err := d.Append(t.Context(), "sluis_models", "x", []string{"n"}, [][]any{{1}}); err != nil {
		t.Error(err)
	}
}

// A job that failed for a reason that passes did nothing, and is run again as
// a job of another id; one that failed for good is not.
func TestFailedJobIsRunAgain(t *testing.T) {
	tests := []struct {
		reason, message string
		jobs            int
	}{
		{"backendError", "Retry later", 2},
		{"invalidQuery", "Could not serialize access to table p:sluis_models.x due to concurrent update", 2},
		{"invalidQuery", "Division by zero", 1},
		{"quotaExceeded", "Quota exceeded", 1},
	}
	for _, test := range tests {
		f := newFake(t)
		f.result = func(n int) *apiError {
			if n == 0 {
				return &apiError{0, test.reason, test.message}
			}
			return nil
		}
		err := open(t, f.config()).Exec(t.Context(), "DELETE FROM x WHERE true")
		if (err == nil) != (test.jobs == 2) || len(f.jobs) != test.jobs {
			t.Errorf("%s, %s: %d jobs, %v", test.reason, test.message, len(f.jobs), err)
		}
	}
}

func TestCancelReachesTheServer(t *testing.T) {
	f := newFake(t)
	f.running = true
	d := open(t, f.config())
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := d.Exec(ctx, "DELETE FROM x WHERE true"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want DeadlineExceeded", err)
	}
	select {
	case id := <-f.cancelled:
		if id != f.order[0] {
			t.Errorf("%s was cancelled, not %s", id, f.order[0])
		}
	default:
		t.Error("the job was not cancelled")
	}
}

// A job that ended before its cancellation got there has had its effect, and
// the call says so.
func TestCancelledTooLate(t *testing.T) {
	f := newFake(t)
	ctx, cancel := context.WithCancel(t.Context())
	f.accepts = true
	f.inserted = func(int) *apiError { cancel(); return &apiError{503, "backendError", "try again"} }
	if err := open(t, f.config()).Exec(ctx, "DELETE FROM x WHERE true"); err != nil {
		t.Error(err)
	}
}

func TestErrorsHaveReasonLinkAndRemedy(t *testing.T) {
	tests := []struct{ reason, message, remedy string }{
		{"accessDenied", "Access Denied: Table p:sluis.events: User does not have permission bigquery.tables.getData", "roles/bigquery.dataViewer"},
		{"accessDenied", "Access Denied: Project p: User does not have bigquery.jobs.create permission in project p.", "roles/bigquery.jobUser"},
		{"accessDenied", "Access Denied: bigquery.tables.updateData", "roles/bigquery.dataEditor"},
		{"accessDenied", "Access Denied", "roles/bigquery.jobUser"},
		{"notFound", "Not found: Dataset p:sluis was not found in location EU", "whether they are in EU"},
		{"bytesBilledLimitExceeded", "Query exceeded limit for bytes billed: 1000. 10485760 or higher required.", "the ceiling is 1000 bytes"},
		{"quotaExceeded", "Quota exceeded", "wait until it renews"},
	}
	for _, test := range tests {
		f := newFake(t)
		f.result = func(int) *apiError { return &apiError{0, test.reason, test.message} }
		config := f.config()
		config.MaxBytesBilled = 1000
		_, err := open(t, config).Query(t.Context(), "SELECT 1")
		var failed *bigquery.Error
		if !errors.As(err, &failed) || failed.Reason != test.reason || !strings.Contains(failed.Remedy, test.remedy) {
			t.Errorf("%s: %v", test.message, err)
			continue
		}
		if !strings.Contains(err.Error(), "https://console.cloud.google.com/bigquery?project=p&j=bq:EU:"+f.order[0]) {
			t.Errorf("no link to the job: %v", err)
		}
	}
}

// BigQuery's word on what kind of statement it is decides.
func TestReadOnlyAsksBigQuery(t *testing.T) {
	f := newFake(t)
	d := open(t, f.config())
	if _, err := d.ReadOnly(t.Context(), "FROM x |> INSERT INTO y"); !errors.Is(err, warehouse.ErrNotReadOnly) {
		t.Errorf("%v, want ErrNotReadOnly", err)
	}
	if len(f.jobs) != 0 {
		t.Errorf("%d jobs", len(f.jobs))
	}
}

// An estimate is a dry run: no job, and no ceiling, since what is above it is
// what the caller wants to know. The fake checks the location.
func TestEstimateBytes(t *testing.T) {
	f := newFake(t)
	config := f.config()
	config.Labels = map[string]string{"program": "sluis"}
	config.MaxBytesBilled = 1
	d := open(t, config).(warehouse.Estimator)
	bytes, err := d.EstimateBytes(t.Context(), "CREATE OR REPLACE TABLE y AS SELECT n FROM x WHERE n = ?", 1)
	if bytes != 4096 || err != nil || len(f.jobs) != 0 {
		t.Errorf("%d, %v, %d jobs", bytes, err, len(f.jobs))
	}
	want := []map[string]any{{
		"dryRun": true, "labels": map[string]any{"program": "sluis"},
		"query": map[string]any{
			"query":          "CREATE OR REPLACE TABLE y AS SELECT n FROM x WHERE n = ?",
			"defaultDataset": map[string]any{"datasetId": "sluis_models"}, "useLegacySql": false,
			"queryParameters": []any{map[string]any{
				"parameterType": map[string]any{"type": "INT64"}, "parameterValue": map[string]any{"value": "1"},
			}},
		},
	}}
	if diff := cmp.Diff(want, f.dryRuns); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}

	f.refused = &apiError{404, "notFound", "Not found: Table p:sluis_models.x was not found in location EU"}
	var failed *bigquery.Error
	if bytes, err := d.EstimateBytes(t.Context(), "SELECT n FROM x"); !errors.As(err, &failed) || failed.Reason != "notFound" || bytes != 0 {
		t.Errorf("of a table that is not there: %d, %v", bytes, err)
	}
}

// What columns a query has is told by a dry run, too.
func TestDescribe(t *testing.T) {
	f := newFake(t)
	d := open(t, f.config())
	columns, err := d.Describe(t.Context(), "SELECT n, l FROM x")
	want := []warehouse.Column{{Name: "n", Type: warehouse.Int64}, {Name: "l", Type: "ARRAY<STRUCT<x NUMERIC>>"}}
	if diff := cmp.Diff(want, columns); diff != "" || err != nil || len(f.jobs) != 0 {
		t.Errorf("%v, %d jobs (-want +got)\n%s", err, len(f.jobs), diff)
	}
	if _, err := d.Describe(t.Context(), "DELETE FROM x WHERE true"); !errors.Is(err, warehouse.ErrNotReadOnly) || len(f.dryRuns) != 1 {
		t.Errorf("of a statement that writes: %v, %d dry runs", err, len(f.dryRuns))
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, config := range []bigquery.Config{
		{Location: "EU"},
		{Project: "p"},
		{Project: "p", Location: "EU", StorageEndpoint: "127.0.0.1:1"},
		{Project: "p", Location: "EU", CredentialsFile: "testdata/there-is-none.json"},
	} {
		if d, err := bigquery.Open(t.Context(), config); err == nil {
			d.Close()
			t.Errorf("Open(%+v) succeeded", config)
		}
	}
}
