package bigquery_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/sluis-cdp/sluis/sql/bigquery"
)

// fake plays the answers that BigQuery documents for jobs, where an emulator
// has others or none. All of its jobs run the same script.
type fake struct {
	*httptest.Server
	t *testing.T

	// inserted answers the n-th jobs.insert of a job, from 0; nil accepts it.
	inserted func(n int) *apiError
	// result is what the n-th job ends with, from 0; nil means success.
	result func(n int) *apiError
	// refused is the answer to dry runs; nil estimates them.
	refused *apiError
	// running keeps jobs from ending until they are cancelled.
	running bool
	// accepts makes a refused insertion take place all the same.
	accepts bool

	mu        sync.Mutex
	requests  []string
	jobs      map[string]*fakeJob
	order     []string // ids, as first seen
	inserts   map[string]int
	dryRuns   []map[string]any // their configurations
	cancelled chan string
}

type fakeJob struct {
	configuration map[string]any
	n             int
	cancelled     bool
}

// apiError is an error as the API writes it.
type apiError struct {
	code            int
	reason, message string
}

func newFake(t *testing.T) *fake {
	f := &fake{t: t, jobs: map[string]*fakeJob{}, inserts: map[string]int{}, cancelled: make(chan string, 10)}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

func (f *fake) config() bigquery.Config {
	return bigquery.Config{Project: "p", Location: "EU", Endpoint: f.URL}
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	path := r.URL.Path[strings.Index(r.URL.Path, "/projects/p")+len("/projects/p"):]
	f.requests = append(f.requests, r.Method+" "+path)
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	switch {
	case r.Method == http.MethodPost && path == "/jobs":
		f.insert(w, r)
	case parts[0] == "jobs" && len(parts) == 3 && parts[2] == "cancel":
		if job := f.jobs[parts[1]]; job != nil {
			job.cancelled = f.running // of one that is done nothing is left to cancel
		}
		f.cancelled <- parts[1]
		reply(w, map[string]any{})
	case parts[0] == "jobs":
		f.get(w, parts[1])
	case parts[0] == "queries":
		reply(w, map[string]any{
			"jobComplete": true, "totalRows": "1",
			"schema": map[string]any{"fields": []any{map[string]any{"name": "n", "type": "INTEGER"}}},
			"rows":   []any{map[string]any{"f": []any{map[string]any{"v": "7"}}}},
		})
	case parts[0] == "datasets":
		reply(w, map[string]any{"schema": map[string]any{"fields": []any{map[string]any{"name": "n", "type": "INTEGER"}}}})
	default:
		fail(w, apiError{http.StatusNotFound, "notFound", "Not found: " + path})
	}
}

func (f *fake) insert(w http.ResponseWriter, r *http.Request) {
	var body struct {
		JobReference  struct{ JobID, Location string }
		Configuration map[string]any
	}
	content, err := io.ReadAll(r.Body)
	if err != nil {
		f.t.Error(err)
	}
	// A load job is a multipart message; its first JSON object is the job.
	start := strings.IndexByte(string(content), '{')
	if err := json.NewDecoder(strings.NewReader(string(content[start:]))).Decode(&body); err != nil {
		f.t.Errorf("jobs.insert: %v", err)
	}
	id := body.JobReference.JobID
	if body.JobReference.Location != "EU" {
		f.t.Errorf("the job is to run in %q", body.JobReference.Location)
	}
	if body.Configuration["dryRun"] == true {
		f.dryRuns = append(f.dryRuns, body.Configuration)
		if f.refused != nil {
			fail(w, *f.refused)
			return
		}
		reply(w, map[string]any{
			"jobReference": map[string]any{"projectId": "p", "jobId": id, "location": "EU"}, "configuration": body.Configuration,
			"status": map[string]any{"state": "DONE"},
			"statistics": map[string]any{"totalBytesProcessed": "4096", "query": map[string]any{
				"statementType": f.kind(body.Configuration),
				"schema": map[string]any{"fields": []any{
					map[string]any{"name": "n", "type": "INTEGER"},
					map[string]any{"name": "l", "type": "RECORD", "mode": "REPEATED", "fields": []any{map[string]any{"name": "x", "type": "NUMERIC"}}},
				}},
			}},
		})
		return
	}
	n := f.inserts[id]
	f.inserts[id]++
	if n == 0 {
		f.order = append(f.order, id)
	}
	_, exists := f.jobs[id]
	refusal := (*apiError)(nil)
	if f.inserted != nil {
		refusal = f.inserted(n)
	}
	if !exists && (refusal == nil || f.accepts) {
		f.jobs[id] = &fakeJob{configuration: body.Configuration, n: len(f.jobs)}
	}
	switch {
	case exists:
		fail(w, apiError{http.StatusConflict, "duplicate", "Already Exists: Job p:EU." + id})
	case refusal != nil:
		fail(w, *refusal)
	default:
		f.get(w, id)
	}
}

func (*fake) kind(configuration map[string]any) string {
	text := fmt.Sprint(configuration["query"].(map[string]any)["query"])
	if strings.Contains(text, "|> INSERT") {
		return "INSERT"
	}
	return "SELECT"
}

func (f *fake) get(w http.ResponseWriter, id string) {
	job, ok := f.jobs[id]
	if !ok {
		fail(w, apiError{http.StatusNotFound, "notFound", "Not found: Job p:" + id})
		return
	}
	status := map[string]any{"state": "DONE"}
	var failure *apiError
	switch {
	case job.cancelled:
		failure = &apiError{0, "stopped", "Job execution was cancelled: User requested cancellation"}
	case f.running:
		status["state"] = "RUNNING"
	case f.result != nil:
		failure = f.result(job.n)
	}
	if failure != nil {
		status["errorResult"] = map[string]any{"reason": failure.reason, "message": failure.message}
	}
	reply(w, map[string]any{
		"jobReference":  map[string]any{"projectId": "p", "jobId": id, "location": "EU"},
		"configuration": job.configuration, "status": status,
	})
}

func reply(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(body)
}

func fail(w http.ResponseWriter, e apiError) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.code)
	json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{
		"code": e.code, "message": e.message, "errors": []any{map[string]any{"reason": e.reason, "message": e.message}},
	}})
}
