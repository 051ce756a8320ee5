// Package metatest is a local server with Meta's interfaces for Custom Audiences
// and conversions, as the documentation has them in 2026: it checks requests as
// Meta does, answers with its errors, and can be told to fail. What it keeps can
// be looked at, so that a test asks who is in the audience, and not which calls
// were made.
package metatest

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"
)

// The limits of one request.
const (
	MaxUsers  = 10_000
	MaxEvents = 1000
)

// Server is a running server. Its methods may be called concurrently.
type Server struct {
	URL   string
	Token string

	// Invalid, if set, says of a user that Meta would count it as invalid, though
	// it is well-formed. Refused, if set, says of an event that it fails its
	// request. Set them before the first request.
	Invalid func(user map[string]string) bool
	Refused func(event map[string]any) bool
	// Now is the server's clock; nil means the system's.
	Now func() time.Time

	server *httptest.Server
	mu     sync.Mutex
	users  map[string][]map[string]string // by audience
	events map[string][]map[string]any    // by dataset
	blocks map[string]bool
	faults []Fault
	bodies []json.RawMessage
}

// Fault is how the server answers one request.
type Fault struct {
	Status        int
	Code, Subcode int
	Header        map[string]string
	Words         string // of the message, which may quote anything
	Applied       bool   // the request is carried out, and only its answer is this
	Hangup        bool   // there is no answer at all
}

// New starts a server with an audience and a dataset of these ids, which need
// not differ. Close it.
func New(audience, dataset string) *Server {
	s := &Server{
		Token:  "EAAtesttoken",
		users:  map[string][]map[string]string{audience: {}},
		events: map[string][]map[string]any{dataset: {}},
		blocks: map[string]bool{},
	}
	s.server = httptest.NewServer(s)
	s.URL = s.server.URL
	return s
}

// Close ends the server.
func (s *Server) Close() { s.server.Close() }

// Fail has the next requests answered with faults, one each.
func (s *Server) Fail(faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, faults...)
}

// Block flags an audience, which then takes no changes.
func (s *Server) Block(audience string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blocks[audience] = true
}

// Users are the members of an audience, each with what it was added with.
func (s *Server) Users(audience string) []map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.users[audience])
}

// Events are those that count, without the repetitions that Meta drops.
func (s *Server) Events(dataset string) []map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events[dataset])
}

// Bodies are the bodies of all requests, in order.
func (s *Server) Bodies() []json.RawMessage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.bodies)
}

// graphError is an answer of the Graph API that is an error.
type graphError struct {
	status        int
	code, subcode int
	message       string
}

func bad(format string, args ...any) *graphError {
	return &graphError{400, 100, 0, "Invalid parameter: " + fmt.Sprintf(format, args...)}
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
	if len(s.faults) > 0 {
		fault := s.faults[0]
		s.faults = s.faults[1:]
		if fault.Applied {
			_, _ = s.handle(r, body) // the answer is lost
		}
		if fault.Hangup {
			panic(http.ErrAbortHandler)
		}
		for name, value := range fault.Header {
			w.Header().Set(name, value)
		}
		s.refuse(w, &graphError{fault.Status, fault.Code, fault.Subcode, fault.Words})
		return
	}
	answer, refusal := s.handle(r, body)
	if refusal != nil {
		s.refuse(w, refusal)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	_ = json.NewEncoder(w).Encode(answer)
}

func (s *Server) refuse(w http.ResponseWriter, e *graphError) {
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(e.status)
	if e.code == 0 {
		fmt.Fprint(w, "<html>"+e.message+"</html>")
		return
	}
	details := map[string]any{"message": e.message, "type": "OAuthException", "code": e.code, "fbtrace_id": "Atest"}
	if e.subcode != 0 {
		details["error_subcode"] = e.subcode
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"error": details})
}

func (s *Server) handle(r *http.Request, body []byte) (any, *graphError) {
	if r.Header.Get("Authorization") != "Bearer "+s.Token {
		return nil, &graphError{401, 190, 0, "Invalid OAuth access token - Cannot parse access token"}
	}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if len(parts) < 2 || !strings.HasPrefix(parts[0], "v") {
		return nil, &graphError{400, 2500, 0, "Unknown path components"}
	}
	id, edge := parts[1], strings.Join(parts[2:], "/")
	_, isAudience := s.users[id]
	_, isDataset := s.events[id]
	switch {
	case !isAudience && !isDataset:
		return nil, &graphError{400, 100, 33, "Unsupported request. Object with ID does not exist"}
	case r.Method == http.MethodGet && edge == "":
		return s.describe(id, isAudience), nil
	case isAudience && edge == "users" && (r.Method == http.MethodPost || r.Method == http.MethodDelete):
		return s.change(id, body, r.Method == http.MethodPost)
	case isDataset && edge == "events" && r.Method == http.MethodPost:
		return s.receive(id, body)
	}
	return nil, bad("unsupported %s", strings.ToLower(r.Method))
}

func (s *Server) describe(id string, audience bool) any {
	if !audience {
		return map[string]any{"id": id}
	}
	status := map[string]any{"code": 200, "description": "Normal"}
	if s.blocks[id] {
		status = map[string]any{"code": 471, "description": "Flagged"}
	}
	return map[string]any{"id": id, "subtype": "CUSTOM", "operation_status": status}
}

// keys are what a user may be identified by, and whether it has to be hashed.
var keys = map[string]bool{
	"EXTERN_ID": false, "MADID": false, "EMAIL": true, "PHONE": true, "GEN": true, "DOBY": true, "DOBM": true, "DOBD": true,
	"FN": true, "LN": true, "FI": true, "CT": true, "ST": true, "ZIP": true, "COUNTRY": true,
}

const options = "DATA_PROCESSING_OPTIONS"

// change adds or removes users.
func (s *Server) change(audience string, body []byte, add bool) (any, *graphError) {
	if s.blocks[audience] {
		return nil, &graphError{400, 100, 1713230, "Invalid parameter"}
	}
	var request struct {
		Session struct {
			ID        int64 `json:"session_id"`
			Sequence  int   `json:"batch_seq"`
			Last      *bool `json:"last_batch_flag"`
			Estimated int   `json:"estimated_num_total"`
		} `json:"session"`
		Payload struct {
			Schema []string            `json:"schema"`
			Data   [][]json.RawMessage `json:"data"`
		} `json:"payload"`
	}
	if json.Unmarshal(body, &request) != nil {
		return nil, bad("the payload is no JSON of the documented shape")
	}
	data := request.Payload.Data
	switch {
	case request.Session.ID <= 0 || request.Session.Sequence < 1 || request.Session.Last == nil:
		return nil, bad("session needs session_id, batch_seq and last_batch_flag")
	case len(data) == 0 || len(data) > MaxUsers:
		return nil, bad("data has %d users, and may have %d", len(data), MaxUsers)
	}
	for i, key := range request.Payload.Schema {
		if _, ok := keys[key]; !ok && key != options || slices.Index(request.Payload.Schema, key) != i {
			return nil, bad("schema has a key that is unknown or there twice")
		}
	}
	invalid := 0
	samples := map[string]string{}
	for i, row := range data {
		user, why := s.user(request.Payload.Schema, row)
		switch {
		case why != "":
			invalid++
			samples[fmt.Sprint(i)] = why
		case add:
			s.add(audience, user)
		default:
			s.remove(audience, user)
		}
	}
	return map[string]any{
		"audience_id": audience, "session_id": fmt.Sprint(request.Session.ID),
		"num_received": len(data), "num_invalid_entries": invalid, "invalid_entry_samples": samples,
	}, nil
}

// user reads a row; why says what is invalid about it.
func (s *Server) user(schema []string, row []json.RawMessage) (user map[string]string, why string) {
	if len(row) != len(schema) {
		return nil, "the row is not as wide as the schema"
	}
	user = map[string]string{}
	for i, key := range schema {
		if key == options {
			var list []string
			if json.Unmarshal(row[i], &list) != nil || len(list) > 1 || len(list) == 1 && list[0] != "LDU" {
				return nil, "invalid data processing options"
			}
			if len(list) == 1 {
				user[options] = list[0]
			}
			continue
		}
		var value string
		if json.Unmarshal(row[i], &value) != nil {
			return nil, key + " is no text"
		}
		if value == "" {
			continue // unknown
		}
		if keys[key] && !isHash(value) {
			return nil, key + " is not hashed"
		}
		user[key] = value
	}
	if len(user) == 0 || s.Invalid != nil && s.Invalid(user) {
		return nil, "no valid key"
	}
	return user, ""
}

func (s *Server) add(audience string, user map[string]string) {
	if id := user["EXTERN_ID"]; id != "" { // what it is known by is added to
		for _, known := range s.users[audience] {
			if known["EXTERN_ID"] == id {
				maps.Copy(known, user)
				return
			}
		}
	}
	s.users[audience] = append(s.users[audience], user)
}

// remove takes out who has any of the keys.
func (s *Server) remove(audience string, user map[string]string) {
	s.users[audience] = slices.DeleteFunc(s.users[audience], func(known map[string]string) bool {
		for key, value := range user {
			if known[key] == value {
				return true
			}
		}
		return false
	})
}

// receive takes events, all or none.
func (s *Server) receive(dataset string, body []byte) (any, *graphError) {
	var request struct {
		Data []map[string]any `json:"data"`
		Test string           `json:"test_event_code"`
	}
	if json.Unmarshal(body, &request) != nil {
		return nil, bad("data must be an array of events")
	}
	if len(request.Data) == 0 || len(request.Data) > MaxEvents {
		return nil, bad("data has %d events, and may have %d", len(request.Data), MaxEvents)
	}
	for i, event := range request.Data {
		if why := s.checkEvent(event); why != "" {
			return nil, &graphError{400, 100, 2804003, fmt.Sprintf("Invalid parameter: data[%d]: %s", i, why)}
		}
	}
	for _, event := range request.Data {
		if request.Test != "" {
			continue // shown under Test Events, and not counted
		}
		again := slices.ContainsFunc(s.events[dataset], func(known map[string]any) bool {
			return event["event_id"] != nil && known["event_id"] == event["event_id"] && known["event_name"] == event["event_name"]
		})
		if !again {
			s.events[dataset] = append(s.events[dataset], event)
		}
	}
	return map[string]any{"events_received": len(request.Data), "messages": []string{}, "fbtrace_id": "Atest"}, nil
}

// sources are where an event may happen.
var sources = []string{"email", "website", "app", "phone_call", "chat", "physical_store", "system_generated", "business_messaging", "other"}

func (s *Server) checkEvent(event map[string]any) string {
	now := time.Now
	if s.Now != nil {
		now = s.Now
	}
	name, _ := event["event_name"].(string)
	source, _ := event["action_source"].(string)
	at, isNumber := event["event_time"].(float64)
	user, _ := event["user_data"].(map[string]any)
	age := now().Sub(time.Unix(int64(at), 0))
	switch {
	case name == "":
		return "event_name is required"
	case !slices.Contains(sources, source):
		return "action_source is invalid"
	case !isNumber:
		return "event_time is no number"
	case age > 7*24*time.Hour && (source != "physical_store" || age > 62*24*time.Hour):
		return "event_time is too old"
	case age < -time.Minute:
		return "event_time is in the future"
	case len(user) == 0:
		return "user_data is empty"
	case source == "website" && (event["event_source_url"] == nil || user["client_user_agent"] == nil):
		return "a website event needs event_source_url and client_user_agent"
	case s.Refused != nil && s.Refused(event):
		return "refused"
	}
	for key, value := range user {
		if !slices.Contains([]string{"em", "ph", "fn", "ln", "ge", "db", "ct", "st", "zp", "country"}, key) {
			continue
		}
		list, ok := value.([]any)
		if !ok {
			list = []any{value}
		}
		for _, v := range list {
			if text, ok := v.(string); !ok || !isHash(text) {
				return key + " is not hashed"
			}
		}
	}
	return ""
}

func isHash(s string) bool {
	for _, r := range s {
		if (r < '0' || r > '9') && (r < 'a' || r > 'f') {
			return false
		}
	}
	return len(s) == 64
}
