// Package intercomtest is a local server with Intercom's interfaces for contacts,
// tags and attributes of contacts (version 2.15): it checks requests as Intercom
// does, keeps a limit on them, and can be told to fail. What it keeps can be
// looked at.
package intercomtest

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
	"time"
)

// MaxText is the longest value of an attribute of texts, in characters.
const MaxText = 255

// Server is a running server. Its methods may be called concurrently.
type Server struct {
	URL   string
	Token string

	// Words are added to each message of an error: Intercom quotes. Set them before
	// the first request.
	Words string

	server     *httptest.Server
	mu         sync.Mutex
	contacts   map[string]*contact // by id
	tags       map[string]string   // names by id
	attributes map[string]string   // types by name
	faults     []Fault
	requests   []Request
	next       int
	limit      int // of requests in a span; 0 means none
	span       time.Duration
	left       int
	ends       time.Time // of the span
	refused    int
}

type contact struct {
	values   map[string]any
	own      map[string]any
	tags     map[string]bool
	archived bool
}

// Request is one that was made.
type Request struct {
	Method, Path string
	Body         json.RawMessage
}

// Fault is how the server answers one request.
type Fault struct {
	Path    string // the fault waits for a request whose path contains it
	Method  string // and that has this method, if it is set
	Status  int
	Body    string
	Header  map[string]string
	Applied bool // the request is carried out, and only its answer is this
	Hangup  bool // there is no answer at all
}

// New starts a server. Close it.
func New() *Server {
	s := &Server{Token: "dG9rOnRlc3Q=", contacts: map[string]*contact{}, tags: map[string]string{}, attributes: map[string]string{}, next: 1}
	s.server = httptest.NewServer(s)
	s.URL = s.server.URL
	return s
}

// Close ends the server.
func (s *Server) Close() { s.server.Close() }

// Tag makes a tag.
func (s *Server) Tag(id, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tags[id] = name
}

// Attribute makes an attribute of contacts: string, integer, float, boolean, date.
func (s *Server) Attribute(name, kind string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attributes[name] = kind
}

// Add makes a contact beside those that are sent, and returns its id.
func (s *Server) Add(values map[string]any) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.add(maps.Clone(values))
}

func (s *Server) add(values map[string]any) string {
	id := fmt.Sprintf("63a07ddf05a32042dff%05d", s.next)
	s.next++
	s.contacts[id] = &contact{values: values, own: map[string]any{}, tags: map[string]bool{}}
	return id
}

// Limit has at most n requests answered in each span.
func (s *Server) Limit(n int, span time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit, s.span, s.ends = n, span, time.Time{}
}

// RateLimited is how many requests came too early.
func (s *Server) RateLimited() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused
}

// Fail has the next requests answered with faults, one each.
func (s *Server) Fail(faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, faults...)
}

// Contacts are those that are not archived, by external_id: their values, and
// with "tags" their tags.
func (s *Server) Contacts() map[string]map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]map[string]any{}
	for id, c := range s.contacts {
		if c.archived {
			continue
		}
		key, ok := c.values["external_id"].(string)
		if !ok {
			key = id
		}
		all[key] = maps.Clone(c.values)
		maps.Copy(all[key], c.own)
		if len(c.tags) > 0 {
			all[key]["tags"] = strings.Join(slices.Sorted(maps.Keys(c.tags)), " ")
		}
	}
	return all
}

// Archived counts the contacts that are archived.
func (s *Server) Archived() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.contacts {
		if c.archived {
			n++
		}
	}
	return n
}

// Requests are all that were made, in order.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// apiError is an answer that is an error.
type apiError struct {
	status        int
	code, message string
}

func invalid(format string, args ...any) *apiError {
	return &apiError{400, "parameter_invalid", fmt.Sprintf(format, args...)}
}

var (
	userNotFound     = &apiError{404, "not_found", "User Not Found"}
	resourceNotFound = &apiError{404, "not_found", "Resource Not Found"}
)

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, Request{r.Method, r.URL.Path, body})
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	if fault, ok := s.fault(r); ok {
		if fault.Applied {
			_, _ = s.handle(r, body) // the answer is lost
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
	answer, refusal := s.limited(w)
	if refusal == nil {
		answer, refusal = s.handle(r, body)
	}
	if refusal != nil {
		w.WriteHeader(refusal.status)
		answer = map[string]any{"type": "error.list", "request_id": "b3d41080-5b35-42b8-8584-31e4660d355f", "errors": []any{
			map[string]string{"code": refusal.code, "message": refusal.message + s.Words},
		}}
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// fault takes the next fault if it is for this request.
func (s *Server) fault(r *http.Request) (f Fault, ok bool) {
	if len(s.faults) == 0 || !strings.Contains(r.URL.Path, s.faults[0].Path) || s.faults[0].Method != "" && s.faults[0].Method != r.Method {
		return f, false
	}
	f = s.faults[0]
	s.faults = s.faults[1:]
	return f, true
}

// limited counts a request, and tells how many are left for how long.
func (s *Server) limited(w http.ResponseWriter) (any, *apiError) {
	if s.limit == 0 {
		return nil, nil
	}
	if now := time.Now(); now.After(s.ends) {
		s.left, s.ends = s.limit, now.Add(s.span)
	}
	s.left--
	w.Header().Set("X-RateLimit-Limit", strconv.Itoa(s.limit))
	w.Header().Set("X-RateLimit-Remaining", strconv.Itoa(max(s.left, 0)))
	w.Header().Set("X-RateLimit-Reset", strconv.FormatInt(s.ends.Add(time.Second-1).Unix(), 10))
	if s.left < 0 {
		s.refused++
		return nil, &apiError{429, "rate_limit_exceeded", "Exceeded rate limit."}
	}
	return nil, nil
}

func (s *Server) handle(r *http.Request, body []byte) (any, *apiError) {
	switch {
	case r.Header.Get("Authorization") != "Bearer "+s.Token:
		return nil, &apiError{401, "unauthorized", "Access Token Invalid"}
	case r.Header.Get("Intercom-Version") != "2.15":
		return nil, &apiError{400, "intercom_version_invalid", "The requested version could not be found"}
	case len(body) > 0 && r.Header.Get("Content-Type") != "application/json":
		return nil, &apiError{415, "media_type_not_acceptable", "The Content-Type should be application/json"}
	}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch r.Method + " " + parts[0] {
	case "GET me":
		return map[string]string{"type": "admin", "id": "991267459"}, nil
	case "GET tags":
		if len(parts) == 2 && s.tags[parts[1]] != "" {
			return map[string]string{"type": "tag", "id": parts[1], "name": s.tags[parts[1]]}, nil
		}
	case "GET data_attributes":
		return s.described(), nil
	case "GET contacts", "POST contacts", "PUT contacts", "DELETE contacts":
		return s.contact(r.Method, parts[1:], body)
	}
	return nil, resourceNotFound
}

func (s *Server) described() any {
	data := []any{map[string]any{"type": "data_attribute", "name": "email", "data_type": "string", "custom": false, "api_writable": true}}
	for _, name := range slices.Sorted(maps.Keys(s.attributes)) {
		data = append(data, map[string]any{"type": "data_attribute", "model": "contact", "name": name, "data_type": s.attributes[name], "custom": true, "archived": false, "api_writable": true})
	}
	return map[string]any{"type": "list", "data": data}
}

// contact handles what is about contacts; parts come after /contacts.
func (s *Server) contact(method string, parts []string, body []byte) (any, *apiError) {
	if len(parts) == 0 {
		if method != http.MethodPost {
			return nil, resourceNotFound
		}
		return s.create(body)
	}
	if method == http.MethodPost && len(parts) == 1 && parts[0] == "search" {
		return s.search(body)
	}
	if method == http.MethodGet && len(parts) == 2 && parts[0] == "find_by_external_id" {
		for id, c := range s.contacts {
			if c.values["external_id"] == parts[1] && !c.archived {
				return s.show(id), nil
			}
		}
		return nil, userNotFound
	}
	c := s.contacts[parts[0]]
	if c == nil {
		return nil, userNotFound
	}
	switch method + " " + strings.Join(parts[1:], "/") {
	case "GET ":
		return s.show(parts[0]), nil
	case "PUT ":
		if refusal := s.set(parts[0], c, body); refusal != nil {
			return nil, refusal
		}
		return s.show(parts[0]), nil
	case "DELETE ":
		delete(s.contacts, parts[0])
		return map[string]any{"type": "contact", "id": parts[0], "deleted": true}, nil
	case "POST archive", "POST unarchive":
		c.archived = parts[1] == "archive"
		return map[string]any{"type": "contact", "id": parts[0], "archived": c.archived}, nil
	case "POST tags":
		var in struct{ ID string }
		if json.Unmarshal(body, &in) != nil || s.tags[in.ID] == "" {
			return nil, resourceNotFound
		}
		c.tags[in.ID] = true
		return map[string]string{"type": "tag", "id": in.ID, "name": s.tags[in.ID]}, nil
	}
	if method == http.MethodDelete && len(parts) == 3 && parts[1] == "tags" {
		if !c.tags[parts[2]] {
			return nil, resourceNotFound
		}
		delete(c.tags, parts[2])
		return map[string]string{"type": "tag", "id": parts[2], "name": s.tags[parts[2]]}, nil
	}
	return nil, resourceNotFound
}

// maxFilters is the most of one group of a search.
const maxFilters = 15

// search finds contacts by filters of which all match. Other queries than those
// it does not know.
func (s *Server) search(body []byte) (any, *apiError) {
	var in struct {
		Query struct {
			Operator string
			Value    []struct {
				Field, Operator string
				Value           any
			}
		}
	}
	if json.Unmarshal(body, &in) != nil || in.Query.Operator != "AND" || len(in.Query.Value) == 0 || len(in.Query.Value) > maxFilters {
		return nil, invalid("The query is not valid")
	}
	data := []any{}
	for _, id := range slices.Sorted(maps.Keys(s.contacts)) {
		c := s.contacts[id]
		matches := !c.archived
		for _, f := range in.Query.Value {
			if f.Operator != "=" || !slices.Contains([]string{"role", "email", "external_id", "name", "phone"}, f.Field) {
				return nil, invalid("The filter of %s is not valid", f.Field)
			}
			matches = matches && c.values[f.Field] == f.Value
		}
		if matches {
			data = append(data, s.show(id))
		}
	}
	return map[string]any{"type": "list", "data": data, "total_count": len(data), "pages": map[string]any{"type": "pages", "page": 1, "per_page": 50, "total_pages": 1}}, nil
}

func (s *Server) show(id string) any {
	c := s.contacts[id]
	out := map[string]any{"type": "contact", "id": id, "external_id": nil, "custom_attributes": c.own}
	maps.Copy(out, c.values)
	return out
}

func (s *Server) create(body []byte) (any, *apiError) {
	draft := &contact{values: map[string]any{}, own: map[string]any{}, tags: map[string]bool{}}
	if refusal := s.set("", draft, body); refusal != nil {
		return nil, refusal
	}
	if draft.values["role"] == "user" && draft.values["external_id"] == nil && draft.values["email"] == nil {
		return nil, invalid("A user needs an external_id or an email")
	}
	id := s.add(draft.values)
	s.contacts[id].own = draft.own
	return s.show(id), nil
}

var (
	email = regexp.MustCompile(`^[^@\s]+@[^@\s]+\.[^@\s]+$`)
	phone = regexp.MustCompile(`^\+[1-9][0-9]{6,14}$`)
)

// set takes a contact's values; null clears. All are looked at before any is
// taken.
func (s *Server) set(id string, c *contact, body []byte) *apiError {
	var in map[string]any
	if json.Unmarshal(body, &in) != nil {
		return &apiError{400, "bad_request", "The body is not JSON"}
	}
	own, _ := in["custom_attributes"].(map[string]any)
	delete(in, "custom_attributes")
	for name, v := range in {
		if refusal := checkValue(name, v); refusal != nil {
			return refusal
		}
	}
	for name, v := range own {
		if refusal := s.checkOwn(name, v); refusal != nil {
			return refusal
		}
	}
	if refusal := s.conflict(id, in); refusal != nil {
		return refusal
	}
	for name, v := range in {
		put(c.values, name, v)
	}
	for name, v := range own {
		put(c.own, name, v)
	}
	return nil
}

func put(m map[string]any, name string, value any) {
	if value == nil {
		delete(m, name)
		return
	}
	m[name] = value
}

func checkValue(name string, v any) *apiError {
	text, isText := v.(string)
	number, isNumber := v.(float64)
	_, isBool := v.(bool)
	good := v == nil
	switch name {
	case "role":
		good = text == "user" || text == "lead"
	case "external_id", "name", "avatar":
		good = good || isText && len([]rune(text)) <= MaxText
	case "email":
		good = good || email.MatchString(text)
	case "phone":
		good = good || phone.MatchString(text)
	case "signed_up_at", "last_seen_at", "owner_id":
		good = good || isNumber && number == float64(int64(number))
	case "unsubscribed_from_emails":
		good = isBool
	default:
		return invalid("%s is not a valid parameter", name)
	}
	if !good {
		return invalid("%s %v is invalid", name, v)
	}
	return nil
}

func (s *Server) checkOwn(name string, v any) *apiError {
	text, isText := v.(string)
	_, isNumber := v.(float64)
	_, isBool := v.(bool)
	good := v == nil
	switch s.attributes[name] {
	case "":
		return invalid("Custom attribute '%s' does not exist", name)
	case "string":
		good = good || isText && len([]rune(text)) <= MaxText
	case "integer", "float", "date":
		good = good || isNumber
	case "boolean":
		good = good || isBool
	}
	if !good {
		return invalid("Custom attribute '%s' has the invalid value %v", name, v)
	}
	return nil
}

// conflict refuses what belongs to another contact.
func (s *Server) conflict(id string, in map[string]any) *apiError {
	for _, other := range slices.Sorted(maps.Keys(s.contacts)) {
		c := s.contacts[other]
		for _, name := range []string{"external_id", "email"} {
			if other == id || in[name] == nil || c.values[name] != in[name] {
				continue
			}
			what := "A contact"
			if c.archived {
				what = "An archived contact"
			}
			return &apiError{409, "conflict", what + " matching those details already exists with id=" + other}
		}
	}
	return nil
}
