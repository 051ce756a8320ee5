// Package klaviyotest is a local server with Klaviyo's interfaces for bulk
// imports of profiles, their errors, and lists (revision 2026-07-15): it checks
// requests as Klaviyo does, takes imports as jobs that end later, fails single
// profiles of them, and can be told to fail. What it keeps can be looked at.
package klaviyotest

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// The bounds of a job, and how many errors are on a page.
const (
	MaxProfiles     = 10_000
	MaxJobBytes     = 5 << 20
	MaxProfileBytes = 100 << 10
	PageSize        = 20
)

// Server is a running server. Its methods may be called concurrently.
type Server struct {
	URL string
	Key string

	// Polls is how often a job is asked about before it has ended; Cancel lets it
	// end without having done anything. Words are added to each detail of an
	// error: Klaviyo quotes. Set them before the first request.
	Polls  int
	Cancel bool
	Words  string

	server   *httptest.Server
	mu       sync.Mutex
	profiles map[string]map[string]any // attributes, by id
	lists    map[string]map[string]bool
	jobs     map[string]*job
	faults   []Fault
	bodies   []json.RawMessage
	next     int
}

type job struct {
	profiles []json.RawMessage
	lists    []string
	polls    int
	status   string
	errors   []any
	done     int
}

// Fault is how the server answers one request.
type Fault struct {
	Path    string // the fault waits for a request whose path contains it
	Status  int
	Body    string
	Header  map[string]string
	Applied bool // the request is carried out, and only its answer is this
	Hangup  bool // there is no answer at all
}

// New starts a server. Close it.
func New() *Server {
	s := &Server{
		Key: "pk_test", profiles: map[string]map[string]any{}, lists: map[string]map[string]bool{}, jobs: map[string]*job{}, next: 1,
	}
	s.server = httptest.NewServer(s)
	s.URL = s.server.URL
	return s
}

// Close ends the server.
func (s *Server) Close() { s.server.Close() }

// List makes a list.
func (s *Server) List(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lists[id] = map[string]bool{}
}

// Add makes a profile beside those that are sent.
func (s *Server) Add(attributes map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.profiles[fmt.Sprintf("01PROFILE%04d", s.next)] = maps.Clone(attributes)
	s.next++
}

// Fail has the next requests answered with faults, one each.
func (s *Server) Fail(faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, faults...)
}

// Profiles are all there are, by external_id.
func (s *Server) Profiles() map[string]map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]map[string]any{}
	for _, p := range s.profiles {
		key, _ := p["external_id"].(string)
		all[key] = maps.Clone(p)
	}
	return all
}

// Members are the external_ids of a list's profiles.
func (s *Server) Members(list string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for id := range s.lists[list] {
		key, _ := s.profiles[id]["external_id"].(string)
		all = append(all, key)
	}
	slices.Sort(all)
	return all
}

// Bodies are the bodies of all requests, in order.
func (s *Server) Bodies() []json.RawMessage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.bodies)
}

// apiError is an answer that is an error.
type apiError struct {
	status                int
	code, detail, pointer string
}

func invalid(pointer, format string, args ...any) *apiError {
	return &apiError{400, "invalid", fmt.Sprintf(format, args...), pointer}
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(body) > 0 {
		s.bodies = append(s.bodies, body)
	}
	if len(s.faults) > 0 && strings.Contains(r.URL.Path, s.faults[0].Path) {
		fault := s.faults[0]
		s.faults = s.faults[1:]
		if fault.Applied {
			_, _, _ = s.handle(r, body) // the answer is lost
		}
		if fault.Hangup {
			panic(http.ErrAbortHandler)
		}
		for name, value := range fault.Header {
			w.Header().Set(name, value)
		}
		w.WriteHeader(fault.Status)
		fmt.Fprint(w, fault.Body)
		return
	}
	status, answer, refusal := s.handle(r, body)
	w.Header().Set("Content-Type", "application/vnd.api+json")
	if refusal != nil {
		w.WriteHeader(refusal.status)
		answer = map[string]any{"errors": []any{map[string]any{
			"id": "2a7b0f4c", "status": refusal.status, "code": refusal.code, "title": "Invalid input.",
			"detail": refusal.detail + s.Words, "source": map[string]any{"pointer": refusal.pointer},
		}}}
	} else {
		w.WriteHeader(status)
	}
	if answer != nil {
		_ = json.NewEncoder(w).Encode(answer)
	}
}

func (s *Server) handle(r *http.Request, body []byte) (int, any, *apiError) {
	switch {
	case r.Header.Get("Authorization") != "Klaviyo-API-Key "+s.Key:
		return 0, nil, &apiError{401, "not_authenticated", "Missing or invalid private key.", "/data/"}
	case r.Header.Get("Revision") == "":
		return 0, nil, invalid("/data/", "a revision header is required")
	case len(body) > 0 && r.Header.Get("Content-Type") != "application/vnd.api+json":
		return 0, nil, &apiError{415, "unsupported_media_type", "wrong media type", "/data/"}
	}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case r.URL.Path == "/api/profiles" && r.Method == http.MethodGet:
		return s.find(r.URL.Query().Get("filter"))
	case r.URL.Path == "/api/profile-bulk-import-jobs" && r.Method == http.MethodPost:
		return s.start(body)
	case len(parts) >= 3 && parts[1] == "profile-bulk-import-jobs" && s.jobs[parts[2]] != nil && r.Method == http.MethodGet:
		if len(parts) == 4 && parts[3] == "import-errors" {
			return s.importErrors(parts[2], r.URL.Query().Get("page[cursor]"))
		}
		return 200, s.describe(parts[2]), nil
	case len(parts) >= 3 && parts[1] == "lists" && s.lists[parts[2]] != nil:
		if r.Method == http.MethodGet && len(parts) == 3 {
			return 200, map[string]any{"data": map[string]any{"type": "list", "id": parts[2]}}, nil
		}
		if r.Method == http.MethodDelete && strings.Join(parts[3:], "/") == "relationships/profiles" {
			return s.leave(parts[2], body)
		}
	}
	return 0, nil, &apiError{404, "not_found", "no such resource", "/data/"}
}

var filter = regexp.MustCompile(`^any\((external_id|email),(\[.*\])\)$`)

func (s *Server) find(query string) (int, any, *apiError) {
	data := []any{}
	if query == "" {
		return 200, map[string]any{"data": data}, nil
	}
	m := filter.FindStringSubmatch(query)
	var values []string
	if m == nil || json.Unmarshal([]byte(m[2]), &values) != nil || len(values) > 100 {
		return 0, nil, invalid("", "invalid filter")
	}
	for id, p := range s.profiles {
		if value, _ := p[m[1]].(string); value != "" && slices.Contains(values, value) {
			data = append(data, map[string]any{"type": "profile", "id": id, "attributes": map[string]any{m[1]: value}})
		}
	}
	return 200, map[string]any{"data": data}, nil
}

type profile struct {
	Type       string         `json:"type"`
	ID         string         `json:"id"`
	Attributes map[string]any `json:"attributes"`
	Meta       struct {
		Patch struct {
			Unset []string `json:"unset"`
		} `json:"patch_properties"`
	} `json:"meta"`
}

// start takes an import on. What is malformed fails the whole request.
func (s *Server) start(body []byte) (int, any, *apiError) {
	var request struct {
		Data struct {
			Type       string `json:"type"`
			Attributes struct {
				Profiles struct {
					Data []json.RawMessage `json:"data"`
				} `json:"profiles"`
			} `json:"attributes"`
			Relationships struct {
				Lists struct {
					Data []struct {
						Type string `json:"type"`
						ID   string `json:"id"`
					} `json:"data"`
				} `json:"lists"`
			} `json:"relationships"`
		} `json:"data"`
	}
	if json.Unmarshal(body, &request) != nil || request.Data.Type != "profile-bulk-import-job" {
		return 0, nil, invalid("/data/type", "not a profile-bulk-import-job")
	}
	profiles := request.Data.Attributes.Profiles.Data
	if n := len(profiles); n == 0 || n > MaxProfiles || len(body) > MaxJobBytes {
		return 0, nil, invalid("/data/attributes/profiles", "%d profiles in %d bytes are too many, or none", n, len(body))
	}
	for n, text := range profiles {
		at := fmt.Sprintf("/data/attributes/profiles/data/%d", n)
		var p profile
		if json.Unmarshal(text, &p) != nil || p.Type != "profile" {
			return 0, nil, invalid(at, "not a profile")
		}
		if len(text) > MaxProfileBytes {
			return 0, nil, invalid(at, "the profile is too large")
		}
		if phone, ok := p.Attributes["phone_number"].(string); ok && !regexp.MustCompile(`^\+[1-9][0-9]{6,14}$`).MatchString(phone) {
			return 0, nil, invalid(at+"/attributes/phone_number", "Invalid phone number format %s", phone)
		}
	}
	j := &job{profiles: profiles, status: "queued"}
	for _, l := range request.Data.Relationships.Lists.Data {
		if s.lists[l.ID] == nil {
			return 0, nil, &apiError{404, "not_found", "A list with id " + l.ID + " does not exist.", "/data/relationships/lists"}
		}
		j.lists = append(j.lists, l.ID)
	}
	id := "JOB" + strconv.Itoa(len(s.jobs)+1)
	s.jobs[id] = j
	if s.Polls == 0 {
		s.finish(j)
	}
	return 202, s.show(id), nil
}

func (s *Server) describe(id string) any {
	j := s.jobs[id]
	if j.polls++; j.status == "queued" || j.status == "processing" {
		j.status = "processing"
		if j.polls >= s.Polls {
			s.finish(j)
		}
	}
	return s.show(id)
}

func (s *Server) show(id string) any {
	j := s.jobs[id]
	return map[string]any{"data": map[string]any{"type": "profile-bulk-import-job", "id": id, "attributes": map[string]any{
		"status": j.status, "created_at": "2026-01-02T03:04:05+00:00", "total_count": len(j.profiles), "completed_count": j.done, "failed_count": len(j.errors),
	}}}
}

// finish does the job.
func (s *Server) finish(j *job) {
	if s.Cancel {
		j.status = "cancelled"
		return
	}
	j.status = "complete"
	for n, text := range j.profiles {
		var p profile
		_ = json.Unmarshal(text, &p) // start has
		id, why := s.identify(p)
		if why != "" {
			j.errors = append(j.errors, map[string]any{"type": "import-error", "id": strconv.Itoa(n), "attributes": map[string]any{
				"code": "invalid", "title": "Invalid input.", "detail": why + s.Words,
				"source": map[string]any{"pointer": fmt.Sprintf("/data/attributes/profiles/data/%d/attributes/email", n)}, "original_payload": p.Attributes,
			}})
			continue
		}
		s.set(id, p)
		j.done++
		for _, list := range j.lists {
			s.lists[list][id] = true
		}
	}
}

// identify finds the profile that is meant, or makes one; why says what is
// wrong with it.
func (s *Server) identify(p profile) (id, why string) {
	email, _ := p.Attributes["email"].(string)
	if email != "" && (strings.Count(email, "@") != 1 || !strings.Contains(email, ".")) {
		return "", email + " is not a valid email"
	}
	if p.ID != "" {
		if s.profiles[p.ID] == nil {
			return "", "no profile has this id"
		}
		return p.ID, ""
	}
	for _, name := range []string{"external_id", "email", "phone_number"} {
		value, _ := p.Attributes[name].(string)
		if value == "" {
			continue
		}
		for id, known := range s.profiles {
			if known[name] == value {
				return id, ""
			}
		}
	}
	id = fmt.Sprintf("01PROFILE%04d", s.next)
	s.next++
	s.profiles[id] = map[string]any{}
	return id, ""
}

// set takes attributes; null clears.
func (s *Server) set(id string, p profile) {
	known := s.profiles[id]
	for name, value := range p.Attributes {
		switch name {
		case "properties", "location":
			for inner, v := range value.(map[string]any) {
				put(known, inner, v)
			}
		default:
			put(known, name, value)
		}
	}
	for _, name := range p.Meta.Patch.Unset {
		delete(known, name)
	}
}

func put(m map[string]any, name string, value any) {
	if value == nil {
		delete(m, name)
		return
	}
	m[name] = value
}

func (s *Server) importErrors(id, cursor string) (int, any, *apiError) {
	all := s.jobs[id].errors
	from, _ := strconv.Atoi(cursor)
	to := min(from+PageSize, len(all))
	links := map[string]any{"next": nil}
	if to < len(all) {
		links["next"] = fmt.Sprintf("https://a.klaviyo.com/api/profile-bulk-import-jobs/%s/import-errors?page%%5Bcursor%%5D=%d", id, to)
	}
	return 200, map[string]any{"data": append([]any{}, all[from:to]...), "links": links}, nil
}

func (s *Server) leave(list string, body []byte) (int, any, *apiError) {
	var request struct {
		Data []struct {
			Type string `json:"type"`
			ID   string `json:"id"`
		} `json:"data"`
	}
	if json.Unmarshal(body, &request) != nil || len(request.Data) == 0 || len(request.Data) > 1000 {
		return 0, nil, invalid("/data", "want up to 1000 profiles")
	}
	for _, p := range request.Data {
		delete(s.lists[list], p.ID)
	}
	return 204, nil, nil
}
