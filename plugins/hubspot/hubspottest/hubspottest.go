// Package hubspottest is a local server with HubSpot's interfaces for contacts,
// their properties and static lists (v3), as the documentation has them in 2026:
// it checks requests as HubSpot does, refuses single rows of a batch, keeps to
// its limits, and can be told to fail. What it keeps can be looked at.
package hubspottest

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// MaxInputs is the most of one request.
const MaxInputs = 100

// maxText is the longest value of a property.
const maxText = 65_536

// Server is a running server. Its methods may be called concurrently.
type Server struct {
	URL   string
	Token string

	// Words, if set, is added to each message of an error: HubSpot quotes.
	Words string
	// Interval and Limit are how many requests it takes in what time; no limit
	// means any number.
	Interval time.Duration
	Limit    int

	server     *httptest.Server
	mu         sync.Mutex
	properties map[string]property
	contacts   map[string]map[string]string // by id
	archived   map[string]bool
	lists      map[string]map[string]bool // ids of contacts, by list
	hidden     map[string]int             // contacts that lists do not know yet, and for how many requests
	faults     []Fault
	bodies     []json.RawMessage
	nextID     int
	window     time.Time
	used       int
	refused    int
}

type property struct {
	kind   string
	unique bool
}

// Fault is how the server answers one request.
type Fault struct {
	Path    string // the fault waits for a request whose path ends so
	Status  int
	Body    string
	Header  map[string]string
	Applied bool // the request is carried out, and only its answer is this
	Hangup  bool // there is no answer at all
}

// New starts a server with the properties of contacts that every account has,
// and one for keys, sluis_key. Close it.
func New() *Server {
	s := &Server{
		Token: "pat-eu1-test",
		properties: map[string]property{
			"email": {"string", false}, "firstname": {"string", false}, "lastname": {"string", false}, "phone": {"string", false},
			"createdate": {"datetime", false}, "sluis_key": {"string", true},
		},
		contacts: map[string]map[string]string{}, archived: map[string]bool{}, lists: map[string]map[string]bool{}, hidden: map[string]int{}, nextID: 501,
	}
	s.server = httptest.NewServer(s)
	s.URL = s.server.URL
	return s
}

// Close ends the server.
func (s *Server) Close() { s.server.Close() }

// Property makes a property; kind is string, number, bool, date or datetime.
func (s *Server) Property(name, kind string, unique bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.properties[name] = property{kind, unique}
}

// List makes a static list.
func (s *Server) List(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lists[id] = map[string]bool{}
}

// Contact makes a contact, as somebody else would, and returns its id.
func (s *Server) Contact(properties map[string]string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.create(maps.Clone(properties))
}

// Contacts are those that are not archived, by e-mail address, or without one by
// id.
func (s *Server) Contacts() map[string]map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]map[string]string{}
	for id, contact := range s.contacts {
		if !s.archived[id] {
			name := contact["email"]
			if name == "" {
				name = id
			}
			all[name] = maps.Clone(contact)
		}
	}
	return all
}

// Members are the e-mail addresses of a list's contacts.
func (s *Server) Members(list string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for id := range s.lists[list] {
		all = append(all, s.contacts[id]["email"])
	}
	slices.Sort(all)
	return all
}

// Hide lets lists not know of new contacts for so many requests, as happens.
func (s *Server) Hide(email string, requests int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hidden[email] = requests
}

// Fail has the next requests answered with faults, one each.
func (s *Server) Fail(faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, faults...)
}

// Bodies are the bodies of all requests, in order.
func (s *Server) Bodies() []json.RawMessage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.bodies)
}

// RateLimited is how many requests came too early.
func (s *Server) RateLimited() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused
}

// reply is an answer.
type reply struct {
	status int
	body   any
}

func refuse(status int, category, format string, args ...any) reply {
	return reply{status, map[string]any{
		"status": "error", "message": fmt.Sprintf(format, args...), "correlationId": "aeb5f871-7f07-4993-9211-075dc63e7cbf", "category": category,
	}}
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
	if len(s.faults) > 0 && strings.HasSuffix(r.URL.Path, s.faults[0].Path) {
		fault := s.faults[0]
		s.faults = s.faults[1:]
		if fault.Applied {
			s.handle(r, body) // the answer is lost
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
	answer, limited := s.limit(w.Header())
	if !limited {
		answer = s.handle(r, body)
	}
	w.Header().Set("Content-Type", "application/json;charset=utf-8")
	w.WriteHeader(answer.status)
	if answer.body != nil {
		_ = json.NewEncoder(w).Encode(answer.body)
	}
}

// limit counts requests in windows, and tells of them in the headers.
func (s *Server) limit(header http.Header) (reply, bool) {
	if s.Limit == 0 {
		return reply{}, false
	}
	if now := time.Now(); now.Sub(s.window) >= s.Interval {
		s.window, s.used = now, 0
	}
	s.used++
	header.Set("X-HubSpot-RateLimit-Max", strconv.Itoa(s.Limit))
	header.Set("X-HubSpot-RateLimit-Remaining", strconv.Itoa(max(s.Limit-s.used, 0)))
	header.Set("X-HubSpot-RateLimit-Interval-Milliseconds", strconv.FormatInt(s.Interval.Milliseconds(), 10))
	if s.used <= s.Limit {
		return reply{}, false
	}
	s.refused++
	return reply{429, map[string]any{
		"status": "error", "message": "You have reached your ten_secondly_rolling limit.", "errorType": "RATE_LIMIT",
		"correlationId": "c033cdaa-2c40-4a64-ae48-b4cec88dad24", "policyName": "TEN_SECONDLY_ROLLING",
	}}, true
}

func (s *Server) handle(r *http.Request, body []byte) reply {
	if r.Header.Get("Authorization") != "Bearer "+s.Token {
		return refuse(401, "INVALID_AUTHENTICATION", "Authentication credentials not found.")
	}
	const batch = "/crm/v3/objects/contacts/batch/"
	switch path := r.URL.Path; {
	case r.Method == http.MethodGet && path == "/crm/v3/properties/contacts":
		return s.describe()
	case strings.HasPrefix(path, batch) && r.Method == http.MethodPost:
		return s.batch(strings.TrimPrefix(path, batch), body)
	case strings.HasPrefix(path, "/crm/v3/lists/"):
		return s.list(r.Method, strings.Split(strings.TrimPrefix(path, "/crm/v3/lists/"), "/"), body)
	}
	return refuse(404, "OBJECT_NOT_FOUND", "no such resource")
}

func (s *Server) describe() reply {
	results := []any{}
	for _, name := range slices.Sorted(maps.Keys(s.properties)) {
		p := s.properties[name]
		results = append(results, map[string]any{
			"name": name, "label": "The " + name, "type": p.kind, "fieldType": "text", "hasUniqueValue": p.unique, "calculated": false,
			"modificationMetadata": map[string]any{"archivable": true, "readOnlyDefinition": false, "readOnlyValue": name == "createdate"},
		})
	}
	return reply{200, map[string]any{"results": results}}
}

type input struct {
	ID         string            `json:"id"`
	IDProperty string            `json:"idProperty"`
	Trace      string            `json:"objectWriteTraceId"`
	Properties map[string]string `json:"properties"`
}

// batch does one of the batch calls.
func (s *Server) batch(what string, body []byte) reply {
	var request struct {
		Inputs     []input  `json:"inputs"`
		IDProperty string   `json:"idProperty"`
		Properties []string `json:"properties"`
	}
	if json.Unmarshal(body, &request) != nil {
		return refuse(400, "VALIDATION_ERROR", "Invalid input JSON")
	}
	if n := len(request.Inputs); n == 0 || n > MaxInputs {
		return refuse(400, "VALIDATION_ERROR", "The maximum number of inputs supported in a batch request for property values is %d, %d were given", MaxInputs, n)
	}
	seen := map[string]bool{}
	for _, in := range request.Inputs {
		if id := strings.ToLower(in.IDProperty + "|" + in.ID); in.ID == "" || seen[id] {
			return refuse(400, "VALIDATION_ERROR", "Duplicate or empty IDs found in batch input%s", s.Words)
		} else {
			seen[id] = true
		}
		for name := range in.Properties {
			if _, ok := s.properties[name]; !ok {
				return refuse(400, "VALIDATION_ERROR", "Property values were not valid: PROPERTY_DOESNT_EXIST %s", name)
			}
		}
	}
	switch what {
	case "read":
		return s.read(request.Inputs, request.IDProperty, request.Properties)
	case "upsert":
		return s.each(request.Inputs, true, s.upsert)
	case "update":
		return s.each(request.Inputs, false, s.update)
	case "archive":
		for _, in := range request.Inputs {
			s.archived[in.ID] = true
			for _, members := range s.lists {
				delete(members, in.ID)
			}
		}
		return reply{204, nil}
	}
	return refuse(404, "OBJECT_NOT_FOUND", "no such resource")
}

func (s *Server) read(inputs []input, by string, properties []string) reply {
	results, absent := []any{}, []string{}
	for _, in := range inputs {
		id := s.lookup(by, in.ID)
		if id == "" {
			absent = append(absent, in.ID)
			continue
		}
		shown := map[string]any{"hs_object_id": id}
		for _, name := range properties {
			shown[name] = s.contacts[id][name]
		}
		results = append(results, map[string]any{"id": id, "properties": shown, "archived": false})
	}
	answer := map[string]any{"status": "COMPLETE", "results": results}
	if len(absent) == 0 {
		return reply{200, answer}
	}
	answer["numErrors"] = 1
	answer["errors"] = []any{missing(absent...)}
	return reply{207, answer}
}

const notFound = "OBJECT_NOT_FOUND"

// missing is the error of ids that no contact has.
func missing(ids ...string) any {
	return map[string]any{
		"status": "error", "category": notFound, "message": "Could not get some CONTACT objects, they may be deleted or not exist. Check that ids are valid.",
		"context": map[string]any{"ids": ids},
	}
}

// lookup finds a contact by a property with unique values, or by its id.
func (s *Server) lookup(by, value string) string {
	if by == "" {
		if _, ok := s.contacts[value]; ok && !s.archived[value] {
			return value
		}
		return ""
	}
	for id, contact := range s.contacts {
		if !s.archived[id] && contact[by] != "" && strings.EqualFold(contact[by], value) {
			return id
		}
	}
	return ""
}

// each does a row after the other, and answers 207 if some were refused. Of those
// that were not, an update is documented to tell the contact's id alone.
func (s *Server) each(inputs []input, traced bool, do func(input) (string, string, string)) reply {
	results, errs := []any{}, []any{}
	for _, in := range inputs {
		id, code, why := do(in)
		if code == "" {
			result := map[string]any{
				"id": id, "properties": maps.Clone(s.contacts[id]), "createdAt": "2026-01-02T03:04:05Z", "updatedAt": "2026-01-02T03:04:05Z",
				"archived": false,
			}
			if traced {
				result["objectWriteTraceId"] = in.Trace
			}
			results = append(results, result)
			continue
		}
		if code == notFound {
			errs = append(errs, missing(in.ID))
			continue
		}
		errs = append(errs, map[string]any{
			"status": "error", "category": "VALIDATION_ERROR", "message": "Property values were not valid: " + why + s.Words,
			"context": map[string]any{"objectWriteTraceId": []string{in.Trace}},
			"errors":  []any{map[string]any{"message": why + s.Words, "code": code}},
		})
	}
	answer := map[string]any{"status": "COMPLETE", "results": results, "startedAt": "2026-01-02T03:04:05Z", "completedAt": "2026-01-02T03:04:05Z"}
	if len(errs) == 0 {
		return reply{200, answer}
	}
	answer["numErrors"], answer["errors"] = len(errs), errs
	return reply{207, answer}
}

// upsert returns the contact's id, or a code and why not.
func (s *Server) upsert(in input) (id, code, why string) {
	if p := s.properties[in.IDProperty]; in.IDProperty != "email" && !p.unique {
		return "", "INVALID_ID_PROPERTY", in.IDProperty + " does not have unique values"
	}
	id = s.lookup(in.IDProperty, in.ID)
	properties := maps.Clone(in.Properties)
	properties[in.IDProperty] = in.ID
	if code, why := s.valid(id, properties); code != "" {
		return "", code, why
	}
	if id == "" {
		return s.create(properties), "", ""
	}
	s.set(id, properties)
	return id, "", ""
}

func (s *Server) update(in input) (id, code, why string) {
	if id = s.lookup(in.IDProperty, in.ID); id == "" {
		return "", notFound, "no such contact"
	}
	if code, why := s.valid(id, in.Properties); code != "" {
		return "", code, why
	}
	s.set(id, in.Properties)
	return id, "", ""
}

func (s *Server) create(properties map[string]string) string {
	id := strconv.Itoa(s.nextID)
	s.nextID++
	s.contacts[id] = map[string]string{}
	s.set(id, properties)
	return id
}

// set takes values; the empty one clears.
func (s *Server) set(id string, properties map[string]string) {
	for name, value := range properties {
		if name == "email" {
			value = strings.ToLower(value)
		}
		if value == "" {
			delete(s.contacts[id], name)
		} else {
			s.contacts[id][name] = value
		}
	}
}

// valid checks values as HubSpot does, whose messages quote them.
func (s *Server) valid(id string, properties map[string]string) (code, why string) {
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		value := properties[name]
		if value == "" {
			continue
		}
		if len(value) > maxText {
			return "PROPERTY_VALUE_TOO_LONG", name + " is too long"
		}
		switch s.properties[name].kind {
		case "number":
			if _, err := strconv.ParseFloat(value, 64); err != nil {
				return "INVALID_INTEGER", value + " was not a valid number"
			}
		case "bool":
			if value != "true" && value != "false" {
				return "INVALID_OPTION", value + " was not one of the allowed options: true, false"
			}
		case "date":
			if _, err := time.Parse(time.DateOnly, value); err != nil {
				return "INVALID_DATE", value + " was not a valid date"
			}
		case "datetime":
			if _, err := time.Parse(time.RFC3339, value); err != nil {
				return "INVALID_DATE", value + " was not a valid long"
			}
		}
		if name == "email" && (strings.Count(value, "@") != 1 || strings.ContainsAny(value, " \t\n") || !strings.Contains(value, ".")) {
			return "INVALID_EMAIL", "Email address " + value + " is invalid"
		}
		if p := s.properties[name]; p.unique || name == "email" {
			if other := s.lookup(name, value); other != "" && other != id {
				return "CONFLICTING_UNIQUE_VALUE", "a contact with " + name + " " + value + " exists already"
			}
		}
	}
	return "", ""
}

// list answers for static lists.
func (s *Server) list(method string, parts []string, body []byte) reply {
	members, ok := s.lists[parts[0]]
	if !ok {
		return refuse(404, "OBJECT_NOT_FOUND", "List does not exist with ID %s.", parts[0])
	}
	if method == http.MethodGet && len(parts) == 1 {
		return reply{200, map[string]any{"list": map[string]any{"listId": parts[0], "name": "list", "processingType": "MANUAL", "objectTypeId": "0-1"}}}
	}
	var ids []string
	if method != http.MethodPut || len(parts) != 3 || parts[1] != "memberships" || json.Unmarshal(body, &ids) != nil {
		return refuse(400, "VALIDATION_ERROR", "Invalid input JSON: want an array of ids")
	}
	added, removed, missing := []string{}, []string{}, []string{}
	for _, id := range ids {
		email := s.contacts[id]["email"]
		switch {
		case s.contacts[id] == nil || s.archived[id] || s.hidden[email] > 0:
			s.hidden[email]--
			missing = append(missing, id)
		case parts[2] == "add":
			members[id] = true
			added = append(added, id)
		default:
			delete(members, id)
			removed = append(removed, id)
		}
	}
	return reply{200, map[string]any{"recordsIdsAdded": added, "recordIdsRemoved": removed, "recordIdsMissing": missing}}
}
