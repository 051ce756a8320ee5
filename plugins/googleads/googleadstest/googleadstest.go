// Package googleadstest is a local server with the audience members of Google's
// Data Manager API (v1) and Google's server of tokens: it checks requests against
// the API's published types and rules, carries them out later, tells counts and
// never rows, and can be told to fail. What it keeps can be looked at.
package googleadstest

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	datamanager "google.golang.org/api/datamanager/v1"
)

// The bounds that Google documents.
const (
	MaxMembers     = 10_000 // of a request
	MaxIdentifiers = 10     // of a member
)

// The accounts and the list that there are.
const (
	Manager  = "1112223333" // by which the credentials have access
	Customer = "1234567890"
	List     = "987654321"
)

const scope = "https://www.googleapis.com/auth/datamanager"

// Server is a running server. Its methods may be called concurrently.
type Server struct {
	URL string

	// Polls is how often a request is asked about before it has been carried out.
	// Unfit has members counted as not taken, with that reason. Words are added to
	// each description of an error: Google might quote. Set them before the first
	// request.
	Polls int
	Unfit func(identifier string) (reason string)
	Words string

	server   *httptest.Server
	key      *rsa.PrivateKey
	mu       sync.Mutex
	tokens   map[string]bool
	requests map[string]*request
	members  map[string]bool // identifiers that are in the list
	faults   []Fault
	bodies   []json.RawMessage
	list     datamanager.UserList
}

// request is one that was taken on.
type request struct {
	verb    string
	members []*datamanager.AudienceMember
	polls   int
	done    bool
	failed  map[string]int64 // counts by reason
}

// Fault is how the server answers one request.
type Fault struct {
	Path    string // the fault waits for a request whose path contains it
	Status  int
	Body    string
	Header  map[string]string
	Applied bool // the request is taken on, and only its answer is this
	Hangup  bool // there is no answer at all
}

// key is that of the service account, the same for all servers, since to make one
// takes long.
var key = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err) // there is no randomness
	}
	return key
})

// New starts a server. Close it.
func New() *Server {
	s := &Server{
		key: key(), tokens: map[string]bool{}, requests: map[string]*request{}, members: map[string]bool{},
		list: datamanager.UserList{
			MembershipStatus:     "OPEN",
			IngestedUserListInfo: &datamanager.IngestedUserListInfo{UploadKeyTypes: []string{"CONTACT_ID"}, ContactIdInfo: &datamanager.ContactIdInfo{DataSourceType: "DATA_SOURCE_TYPE_FIRST_PARTY"}},
		},
	}
	s.server = httptest.NewServer(s)
	s.URL = s.server.URL
	return s
}

// Close ends the server.
func (s *Server) Close() { s.server.Close() }

// ServiceAccount is the key of an account that has access, as Google issues it.
func (s *Server) ServiceAccount() string {
	der, err := x509.MarshalPKCS8PrivateKey(s.key)
	if err != nil {
		panic(err) // an RSA key has a form
	}
	return encode(map[string]string{
		"type": "service_account", "client_email": "sluis@project.iam.gserviceaccount.com", "private_key_id": "k1",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), "token_uri": s.URL + "/token",
	})
}

// Login is a person's login with a refresh token, as Google issues it. It does not
// say where tokens are: that is [Server.URL] and /token here.
func (s *Server) Login() string {
	return encode(map[string]string{"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "1//refresh"})
}

func encode(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // maps of texts have a form
	}
	return string(text)
}

// Change changes the list.
func (s *Server) Change(do func(*datamanager.UserList)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do(&s.list)
}

// Expire makes the tokens invalid that were given out.
func (s *Server) Expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.tokens)
}

// Fail has the next requests answered with faults, one each.
func (s *Server) Fail(faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, faults...)
}

// Members are the identifiers that are in the list: hashes of addresses and
// numbers, and addresses with | between their parts.
func (s *Server) Members() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for id := range s.members {
		all = append(all, id)
	}
	slices.Sort(all)
	return all
}

// Finish carries out what was taken on, without being asked about it.
func (s *Server) Finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(s.requests)) {
		s.finish(s.requests[id])
	}
}

// Bodies are the bodies of all requests but those of tokens, in order.
func (s *Server) Bodies() []json.RawMessage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.bodies)
}

// apiError is an answer that is an error.
type apiError struct {
	status         int
	word, reason   string
	field, details string // of a violation
}

func invalid(field, reason, details string) *apiError {
	return &apiError{400, "INVALID_ARGUMENT", reason, field, details}
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(body) > 0 && r.URL.Path != "/token" {
		s.bodies = append(s.bodies, body)
	}
	if len(s.faults) > 0 && strings.Contains(r.URL.Path, s.faults[0].Path) {
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
		w.WriteHeader(fault.Status)
		fmt.Fprint(w, fault.Body)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if r.URL.Path == "/token" {
		s.token(w, r, string(body))
		return
	}
	answer, refusal := s.handle(r, body)
	if refusal != nil {
		w.WriteHeader(refusal.status)
		answer = s.describe(refusal)
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// describe writes an error as google.rpc.Status is written.
func (s *Server) describe(e *apiError) any {
	details := []any{map[string]any{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": e.word, "domain": "datamanager.googleapis.com"}}
	if e.field != "" {
		details = append(details, map[string]any{"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": []any{
			map[string]string{"field": e.field, "description": e.details + s.Words, "reason": e.reason},
		}})
	}
	return map[string]any{"error": map[string]any{"code": e.status, "message": "There was a problem with the request." + s.Words, "status": e.word, "details": details}}
}

// token gives out a token to who proves to be the account (RFC 7523) or has the
// refresh token (RFC 6749).
func (s *Server) token(w http.ResponseWriter, r *http.Request, body string) {
	r.Body = io.NopCloser(strings.NewReader(body))
	good := false
	switch r.FormValue("grant_type") {
	case "urn:ietf:params:oauth:grant-type:jwt-bearer":
		good = s.signed(r.FormValue("assertion"))
	case "refresh_token":
		good = r.FormValue("refresh_token") == "1//refresh" && r.FormValue("client_id") == "c" && r.FormValue("client_secret") == "s"
	}
	if !good {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"error":"invalid_grant","error_description":"Bad Request"}`)
		return
	}
	token := "ya29." + rand.Text()
	s.tokens[token] = true
	_ = json.NewEncoder(w).Encode(map[string]any{"access_token": token, "expires_in": 3599, "token_type": "Bearer"})
}

func (s *Server) signed(assertion string) bool {
	parts := strings.Split(assertion, ".")
	if len(parts) != 3 {
		return false
	}
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || rsa.VerifyPKCS1v15(&s.key.PublicKey, crypto.SHA256, digest[:], signature) != nil {
		return false
	}
	var claims struct {
		Iss, Scope, Aud string
		Iat, Exp        int64
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	now := time.Now().Unix()
	return err == nil && json.Unmarshal(text, &claims) == nil && claims.Iss == "sluis@project.iam.gserviceaccount.com" &&
		claims.Scope == scope && claims.Aud == s.URL+"/token" && claims.Iat <= now+60 && claims.Exp > now
}

func (s *Server) handle(r *http.Request, body []byte) (any, *apiError) {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !s.tokens[token] {
		return nil, &apiError{status: 401, word: "UNAUTHENTICATED"}
	}
	list := "/v1/accountTypes/GOOGLE_ADS/accounts/" + Customer + "/userLists/" + List
	switch {
	case r.Method == http.MethodPost && r.URL.Path == "/v1/audienceMembers:ingest":
		var in datamanager.IngestAudienceMembersRequest
		if err := strict(body, &in); err != nil {
			return nil, err
		}
		if refusal := s.checkIngest(&in); refusal != nil {
			return nil, refusal
		}
		return s.take("ingest", in.AudienceMembers, in.ValidateOnly), nil
	case r.Method == http.MethodPost && r.URL.Path == "/v1/audienceMembers:remove":
		var in datamanager.RemoveAudienceMembersRequest
		if err := strict(body, &in); err != nil {
			return nil, err
		}
		if refusal := check(in.Destinations, in.AudienceMembers, in.Encoding); refusal != nil {
			return nil, refusal
		}
		return s.take("remove", in.AudienceMembers, in.ValidateOnly), nil
	case r.Method == http.MethodGet && r.URL.Path == "/v1/requestStatus:retrieve":
		return s.status(r.URL.Query().Get("requestId"))
	case r.Method == http.MethodGet && r.URL.Path == list:
		if login := r.Header.Get("login-account"); login != "accountTypes/GOOGLE_ADS/accounts/"+Manager {
			return nil, &apiError{status: 403, word: "PERMISSION_DENIED"}
		}
		return &s.list, nil
	}
	return nil, &apiError{status: 404, word: "NOT_FOUND"}
}

// strict reads a body as the API's types have it, and refuses what they have not.
func strict(body []byte, into any) *apiError {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if d.Decode(into) != nil || d.More() {
		return invalid("", "", "")
	}
	return nil
}

func (s *Server) checkIngest(in *datamanager.IngestAudienceMembersRequest) *apiError {
	if in.TermsOfService == nil || in.TermsOfService.CustomerMatchTermsOfServiceStatus != "ACCEPTED" {
		return &apiError{status: 400, word: "TERMS_AND_CONDITIONS_NOT_SIGNED", reason: "TERMS_AND_CONDITIONS_NOT_SIGNED", field: "terms_of_service", details: "Terms are not accepted."}
	}
	if refusal := check(in.Destinations, in.AudienceMembers, in.Encoding); refusal != nil {
		return refusal
	}
	for n, m := range in.AudienceMembers {
		for _, c := range []*datamanager.Consent{in.Consent, m.Consent} {
			if c != nil && (!consents[c.AdUserData] || !consents[c.AdPersonalization]) {
				return invalid(fmt.Sprintf("audience_members.audience_members[%d].consent", n), "INVALID_ENUM_VALUE", "Enum value cannot be used.")
			}
		}
	}
	return nil
}

var consents = map[string]bool{"": true, "CONSENT_STATUS_UNSPECIFIED": true, "CONSENT_GRANTED": true, "CONSENT_DENIED": true}

// check looks at what requests of both kinds have.
func check(targets []*datamanager.Destination, members []*datamanager.AudienceMember, encoding string) *apiError {
	if len(targets) != 1 || len(members) == 0 {
		return invalid("destinations", "REQUIRED_FIELD_MISSING", "Want one destination and members.")
	}
	t := targets[0]
	if t.OperatingAccount == nil || t.OperatingAccount.AccountType != "GOOGLE_ADS" || t.OperatingAccount.AccountId != Customer ||
		t.LoginAccount != nil && (t.LoginAccount.AccountType != "GOOGLE_ADS" || t.LoginAccount.AccountId != Customer && t.LoginAccount.AccountId != Manager) {
		return &apiError{status: 403, word: "PERMISSION_DENIED"}
	}
	if t.ProductDestinationId != List {
		return invalid("destinations[0].product_destination_id", "INVALID_USER_LIST_ID", "User list is not valid.")
	}
	if len(members) > MaxMembers {
		return invalid("audience_members", "TOO_MANY_AUDIENCE_MEMBERS", "Maximum number of audience members allowed per request is 10,000.")
	}
	if encoding != "HEX" {
		return invalid("encoding", "REQUIRED_FIELD_MISSING", "Encoding is required.")
	}
	for n, m := range members {
		if refusal := checkMember(fmt.Sprintf("audience_members.audience_members[%d]", n), m); refusal != nil {
			return refusal
		}
	}
	return nil
}

func checkMember(at string, m *datamanager.AudienceMember) *apiError {
	if m.UserData == nil || m.MobileData != nil || m.UserIdData != nil || m.PairData != nil || m.PpidData != nil || m.CompositeData != nil {
		return invalid(at, "INVALID_AUDIENCE_MEMBER", "Want user data and no other.")
	}
	ids := m.UserData.UserIdentifiers
	at += ".user_data.user_identifiers"
	if len(ids) == 0 {
		return invalid(at, "REQUIRED_FIELD_MISSING", "Want identifiers.")
	}
	if len(ids) > MaxIdentifiers {
		return invalid(at, "TOO_MANY_USER_IDENTIFIERS", "Maximum number of user identifiers allowed per audience member is 10.")
	}
	for _, id := range ids {
		if refusal := checkIdentifier(at, id); refusal != nil {
			return refusal
		}
	}
	return nil
}

var country = regexp.MustCompile(`^[A-Z]{2}$`)

func checkIdentifier(at string, id *datamanager.UserIdentifier) *apiError {
	kinds := 0
	for name, value := range map[string]string{"Email": id.EmailAddress, "Phone number": id.PhoneNumber} {
		if value != "" {
			kinds++
			if refusal := checkHash(at, name, value); refusal != nil {
				return refusal
			}
		}
	}
	if a := id.Address; a != nil {
		kinds++
		for name, value := range map[string]string{"Given name": a.GivenName, "Family name": a.FamilyName} {
			if refusal := checkHash(at, name, value); refusal != nil {
				return refusal
			}
		}
		if !country.MatchString(a.RegionCode) {
			return invalid(at, "INVALID_COUNTRY_CODE", "Country code is not valid.")
		}
		if a.PostalCode == "" {
			return invalid(at, "INVALID_POSTAL_CODE", "Postal code is not valid.")
		}
	}
	if kinds != 1 {
		return invalid(at, "INVALID_ARGUMENT", "Want one kind of identifier.")
	}
	return nil
}

func checkHash(at, name, value string) *apiError {
	decoded, err := hex.DecodeString(value)
	if err != nil {
		return invalid(at, "INVALID_HEX_ENCODING", name+" is not hex encoded.")
	}
	if len(decoded) != sha256.Size {
		return invalid(at, "INVALID_SHA256_FORMAT", "")
	}
	return nil
}

// take takes a request on.
func (s *Server) take(verb string, members []*datamanager.AudienceMember, validateOnly bool) any {
	id := fmt.Sprintf("126365e1-16d0-4c81-9de9-%012d", len(s.requests)+1)
	if !validateOnly {
		s.requests[id] = &request{verb: verb, members: members, failed: map[string]int64{}}
		if s.Polls == 0 {
			s.finish(s.requests[id])
		}
	}
	return map[string]string{"requestId": id}
}

// finish carries a request out.
func (s *Server) finish(q *request) {
	if q.done {
		return
	}
	q.done = true
	for _, m := range q.members {
		if reason := s.unfit(q.verb, m); reason != "" {
			q.failed["PROCESSING_ERROR_REASON_"+reason]++
			continue
		}
		for _, id := range m.UserData.UserIdentifiers {
			if q.verb == "ingest" {
				s.members[spell(id)] = true
			} else {
				delete(s.members, spell(id))
			}
		}
	}
}

func spell(id *datamanager.UserIdentifier) string {
	if a := id.Address; a != nil {
		return strings.Join([]string{a.GivenName, a.FamilyName, a.RegionCode, a.PostalCode}, "|")
	}
	return id.EmailAddress + id.PhoneNumber
}

// unfit is why a member is not taken. Who did not agree that Google gets his data
// is not, as for people in Europe.
func (s *Server) unfit(verb string, m *datamanager.AudienceMember) string {
	if verb == "ingest" {
		switch {
		case m.Consent == nil || m.Consent.AdUserData == "":
			return "NO_CONSENT"
		case m.Consent.AdUserData != "CONSENT_GRANTED":
			return "DENIED_CONSENT"
		}
	}
	for _, id := range m.UserData.UserIdentifiers {
		if s.Unfit != nil && s.Unfit(spell(id)) != "" {
			return s.Unfit(spell(id))
		}
	}
	return ""
}

// status tells how far a request is.
func (s *Server) status(id string) (any, *apiError) {
	q := s.requests[id]
	if q == nil {
		return nil, invalid("request_id", "INVALID_ARGUMENT", "There was a problem with the request.")
	}
	if q.polls++; q.polls >= s.Polls {
		s.finish(q)
	}
	out := &datamanager.RequestStatusPerDestination{
		Destination: &datamanager.Destination{
			OperatingAccount:     &datamanager.ProductAccount{AccountType: "GOOGLE_ADS", AccountId: Customer},
			ProductDestinationId: List,
		},
		RequestStatus: "PROCESSING",
	}
	total := int64(len(q.members))
	if q.verb == "ingest" {
		out.AudienceMembersIngestionStatus = &datamanager.IngestAudienceMembersStatus{UserDataIngestionStatus: &datamanager.IngestUserDataStatus{RecordCount: total}}
	} else {
		out.AudienceMembersRemovalStatus = &datamanager.RemoveAudienceMembersStatus{UserDataRemovalStatus: &datamanager.RemoveUserDataStatus{RecordCount: total}}
	}
	if q.done {
		out.RequestStatus = "SUCCESS"
		var failed int64
		for reason, n := range q.failed {
			if out.ErrorInfo == nil {
				out.ErrorInfo = &datamanager.ErrorInfo{}
			}
			out.ErrorInfo.ErrorCounts = append(out.ErrorInfo.ErrorCounts, &datamanager.ErrorCount{Reason: reason, RecordCount: n})
			failed += n
		}
		switch {
		case failed == total:
			out.RequestStatus = "FAILED"
		case failed > 0:
			out.RequestStatus = "PARTIAL_SUCCESS"
		}
	}
	return &datamanager.RetrieveRequestStatusResponse{RequestStatusPerDestination: []*datamanager.RequestStatusPerDestination{out}}, nil
}
