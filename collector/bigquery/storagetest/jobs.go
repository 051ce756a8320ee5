package storagetest

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
)

// Job is a load job as the server knows it.
type Job struct {
	ID     string
	Done   bool
	Reason string // why it failed; empty if it did not
}

// JobError is an error of BigQuery's REST API, or of a job.
type JobError struct {
	Code            int // HTTP status
	Reason, Message string
}

// What [Server.JobFault] may return besides an error to answer.
var (
	CutJob  = &JobError{} // ends the connection without an answer
	Running = &JobError{} // at the point Run: not yet
)

// jobService is of BigQuery's REST API (cloud.google.com/bigquery/docs/reference/rest)
// what load jobs take that come with their data: jobs.insert with a multipart
// body of lines of JSON, gzipped or not, to append to a table, and jobs.get. A job
// runs when it is first asked for.
type jobService struct{ *Server }

func (s jobService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	insert, upload := strings.CutPrefix(r.URL.Path, "/upload")
	parts := strings.Split(strings.TrimPrefix(insert, "/bigquery/v2/projects/"), "/")
	s.mu.Lock()
	defer s.mu.Unlock()
	var failed *JobError
	switch {
	case upload && r.Method == http.MethodPost && len(parts) == 2 && parts[1] == "jobs" && r.URL.Query().Get("uploadType") == "multipart":
		failed = s.insert(w, r, parts[0])
	case !upload && r.Method == http.MethodGet && len(parts) == 3 && parts[1] == "jobs":
		failed = s.get(w, parts[0], r.URL.Query().Get("location"), parts[2])
	default:
		failed = &JobError{http.StatusNotImplemented, "notImplemented", "this server has no " + r.Method + " " + r.URL.Path}
	}
	switch {
	case failed == CutJob:
		panic(http.ErrAbortHandler)
	case failed != nil:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(failed.Code)
		reply(w, map[string]any{"error": map[string]any{
			"code": failed.Code, "message": failed.Message, "errors": []any{map[string]any{"reason": failed.Reason, "message": failed.Message}},
		}})
	}
}

func reply(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(body) //nolint:errcheck,errchkjson // the client has gone
}

func (s jobService) fault(p Point, id string) *JobError {
	if s.JobFault == nil {
		return nil
	}
	return s.JobFault(p, id)
}

// insertion is the part of a job that this server understands.
type insertion struct {
	JobReference struct {
		ProjectID string `json:"projectId"`
		JobID     string `json:"jobId"`
		Location  string `json:"location"`
	} `json:"jobReference"`
	Configuration struct {
		Labels map[string]string `json:"labels"`
		Load   struct {
			DestinationTable struct {
				ProjectID string `json:"projectId"`
				DatasetID string `json:"datasetId"`
				TableID   string `json:"tableId"`
			} `json:"destinationTable"`
			SourceFormat, CreateDisposition, WriteDisposition string
		} `json:"load"`
	} `json:"configuration"`
}

// insert makes a job. "If you generate the job ID yourself and it exists, the
// request fails with 409".
func (s jobService) insert(w http.ResponseWriter, r *http.Request, project string) *JobError {
	in, lines, err := readUpload(r)
	if err != nil {
		return &JobError{http.StatusBadRequest, "invalid", err.Error()}
	}
	load := in.Configuration.Load
	if load.SourceFormat != "NEWLINE_DELIMITED_JSON" || load.CreateDisposition != "CREATE_NEVER" || load.WriteDisposition != "WRITE_APPEND" {
		return &JobError{http.StatusNotImplemented, "notImplemented", fmt.Sprintf("this server does no load like %+v", load)}
	}
	ref, to := in.JobReference, load.DestinationTable
	if failed := s.fault(BeforeStore, ref.JobID); failed != nil {
		return failed
	}
	if s.store.jobs[ref.JobID] != nil {
		return &JobError{http.StatusConflict, "duplicate", fmt.Sprintf("Already Exists: Job %s:%s.%s", project, ref.Location, ref.JobID)}
	}
	table := fmt.Sprintf("projects/%s/datasets/%s/tables/%s", to.ProjectID, to.DatasetID, to.TableID)
	err = s.store.write(entry{Kind: jobMade, Name: ref.JobID, Table: table, Location: ref.Location, Lines: lines})
	if err != nil {
		return &JobError{http.StatusInternalServerError, "internalError", err.Error()}
	}
	if failed := s.fault(AfterStore, ref.JobID); failed != nil {
		return failed
	}
	s.tell(w, project, ref.JobID)
	return nil
}

// readUpload reads a multipart/related body: the job, and its lines.
func readUpload(r *http.Request) (in insertion, lines string, err error) {
	_, parameters, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return in, "", err
	}
	parts := multipart.NewReader(r.Body, parameters["boundary"])
	first, err := parts.NextPart()
	if err != nil {
		return in, "", err
	}
	if err := json.NewDecoder(first).Decode(&in); err != nil {
		return in, "", err
	}
	media, err := parts.NextPart()
	if err != nil {
		return in, "", err
	}
	content := bufio.NewReader(media)
	var from io.Reader = content
	if magic, _ := content.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		if from, err = gzip.NewReader(content); err != nil {
			return in, "", err
		}
	}
	text, err := io.ReadAll(from)
	return in, string(text), err
}

func (s jobService) get(w http.ResponseWriter, project, location, id string) *JobError {
	j := s.store.jobs[id]
	if j == nil || j.location != location {
		return &JobError{http.StatusNotFound, "notFound", fmt.Sprintf("Not found: Job %s:%s.%s", project, location, id)}
	}
	if !j.Done {
		failed := s.fault(Run, id)
		if failed == CutJob {
			return failed
		}
		if failed != Running {
			if err := s.run(j, failed); err != nil {
				return &JobError{http.StatusInternalServerError, "internalError", err.Error()}
			}
		}
	}
	s.tell(w, project, id)
	return nil
}

// run ends a job: "load jobs are atomic"; all rows are appended, or none.
func (s jobService) run(j *jobState, failed *JobError) error {
	table := s.store.tables[j.table]
	if table == nil && failed == nil {
		failed = &JobError{Reason: "notFound", Message: "Not found: Table " + j.table}
	}
	var rows []map[string]any
	if failed == nil {
		var err error
		if rows, err = parseLines(j.lines, table.schema); err != nil {
			failed = &JobError{Reason: "invalid", Message: "Error while reading data, error message: " + err.Error()}
		}
	}
	if failed != nil {
		return s.store.write(entry{Kind: jobEnded, Name: j.ID, Reason: failed.Reason, Message: failed.Message})
	}
	return s.store.write(entry{Kind: jobEnded, Name: j.ID, Rows: rows})
}

func (s jobService) tell(w http.ResponseWriter, project, id string) {
	j := s.store.jobs[id]
	status := map[string]any{"state": "RUNNING"}
	if j.Done {
		status["state"] = "DONE"
	}
	if j.Reason != "" {
		status["errorResult"] = map[string]any{"reason": j.Reason, "message": j.message}
		status["errors"] = []any{status["errorResult"]}
	}
	reply(w, map[string]any{
		"jobReference": map[string]any{"projectId": project, "jobId": id, "location": j.location},
		"status":       status, "statistics": map[string]any{"load": map[string]any{"outputRows": fmt.Sprint(j.rows)}},
	})
}

// Jobs returns the load jobs, oldest first.
func (s *Server) Jobs() []Job {
	s.mu.Lock()
	defer s.mu.Unlock()
	var jobs []Job
	for _, id := range s.store.jobOrder {
		jobs = append(jobs, s.store.jobs[id].Job)
	}
	return jobs
}

// parseLines reads rows as a load job does, by the table's schema.
func parseLines(lines string, schema *storagepb.TableSchema) ([]map[string]any, error) {
	var rows []map[string]any
	for n, line := range strings.Split(strings.TrimSuffix(lines, "\n"), "\n") {
		values, err := parseObject([]byte(line), schema.GetFields())
		if err == nil {
			if reason := misfit(values, schema); reason != "" {
				err = errors.New(reason)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("JSON parsing error in row %d: %w", n, err)
		}
		rows = append(rows, values)
	}
	return rows, nil
}

func parseObject(text []byte, fields []*storagepb.TableFieldSchema) (map[string]any, error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(text, &raw); err != nil {
		return nil, errors.New("parser terminated before end of string")
	}
	values := make(map[string]any)
	for _, f := range fields {
		value, ok := raw[f.GetName()]
		delete(raw, f.GetName())
		if !ok || string(value) == "null" {
			continue
		}
		elements := []json.RawMessage{value}
		repeated := f.GetMode() == storagepb.TableFieldSchema_REPEATED
		if repeated {
			if err := json.Unmarshal(value, &elements); err != nil {
				return nil, fmt.Errorf("array specified for non-repeated field: %s", f.GetName())
			}
		}
		var list []any
		for _, element := range elements {
			parsed, err := parseValue(element, f)
			if err != nil {
				return nil, fmt.Errorf("could not parse the value of field %s: %w", f.GetName(), err)
			}
			list = append(list, parsed)
		}
		if repeated {
			values[f.GetName()] = list
		} else {
			values[f.GetName()] = list[0]
		}
	}
	for name := range raw {
		return nil, fmt.Errorf("no such field: %s", name)
	}
	return values, nil
}

func parseValue(text json.RawMessage, f *storagepb.TableFieldSchema) (any, error) {
	switch f.GetType() { //nolint:exhaustive // the rest is refused
	case storagepb.TableFieldSchema_STRING:
		var s string
		err := json.Unmarshal(text, &s)
		return s, err
	case storagepb.TableFieldSchema_BOOL:
		var b bool
		err := json.Unmarshal(text, &b)
		return b, err
	case storagepb.TableFieldSchema_INT64:
		n := json.Number(strings.Trim(string(text), `"`))
		_, err := n.Int64()
		return n, err
	case storagepb.TableFieldSchema_TIMESTAMP:
		var at time.Time
		err := json.Unmarshal(text, &at)
		return json.Number(fmt.Sprint(at.UnixMicro())), err
	case storagepb.TableFieldSchema_JSON:
		return string(text), nil
	case storagepb.TableFieldSchema_STRUCT:
		return parseObject(text, f.GetFields())
	default:
		return nil, fmt.Errorf("this server loads no %s", f.GetType())
	}
}
