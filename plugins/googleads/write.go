package googleads

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	datamanager "google.golang.org/api/datamanager/v1"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/plugins/destination/normalize"
	"github.com/sluis-cdp/sluis/plugins/destination/rest"
)

const (
	maxIdentifiers = 10 // of one member, as Google documents
	maxRetries     = 10 // of a request of which single members were refused
)

// writing is the state of writing one batch.
type writing struct {
	*googleads
	batch   destination.Batch
	results []destination.Result
	redact  func(string) string
	// replacing has the requests that take out what a row's key was known by.
	replacing map[int]string
	// busy has the requests that were asked about and have not been carried out.
	busy map[string]bool
}

// Write implements [destination.Destination].
func (g *googleads) Write(ctx context.Context, batch destination.Batch) ([]destination.Result, error) {
	if g.client == nil {
		return nil, errors.New("the destination is not open")
	}
	if err := g.Describe().Target.CheckColumns(batch.Columns); err != nil {
		return nil, err
	}
	w := &writing{
		googleads: g, batch: batch, results: make([]destination.Result, len(batch.Changes)), redact: destination.Redactor(batch),
		replacing: map[int]string{}, busy: map[string]bool{},
	}
	for _, group := range w.groups() {
		err := w.group(ctx, group)
		if lost, ok := errors.AsType[*rest.LostError](err); ok {
			w.settle(w.open(group), lost.Result())
		} else if wait, ok := errors.AsType[*waitError](err); ok {
			w.settle(w.open(group), wait.result)
		} else if err != nil {
			return nil, err
		}
	}
	return w.results, nil
}

// groups cuts the batch by operation, such that none has a key twice.
func (w *writing) groups() [][]int {
	var groups [][]int
	var op destination.Op
	var taken map[string]bool
	for i, c := range w.batch.Changes {
		if c.Op != op || taken[c.Key] {
			groups, op, taken = append(groups, nil), c.Op, map[string]bool{}
		}
		groups[len(groups)-1] = append(groups[len(groups)-1], i)
		taken[c.Key] = true
	}
	return groups
}

func (w *writing) open(rows []int) []int {
	return slices.DeleteFunc(slices.Clone(rows), func(i int) bool { return w.results[i].Outcome != 0 })
}

func (w *writing) settle(rows []int, r destination.Result) {
	for _, i := range rows {
		w.results[i] = r
	}
}

// member is what one member of a request is made of.
type member struct {
	row         int
	identifiers []*datamanager.UserIdentifier
	consent     *datamanager.Consent // nil when it is taken out
}

// group takes out what its keys were known by before, and puts in what they are
// known by now.
func (w *writing) group(ctx context.Context, rows []int) error {
	adding := w.batch.Changes[rows[0]].Op == destination.Upsert
	var remove, ingest []member
	for _, i := range rows {
		c := w.batch.Changes[i]
		former, refusal := w.former(c)
		var now member
		if adding && refusal.Outcome == 0 {
			now, refusal = w.member(ctx, c)
		}
		switch {
		case refusal.Outcome != 0:
			w.results[i] = refusal
			continue
		case !adding && len(former) == 0:
			w.results[i] = destination.Result{Outcome: destination.Skipped, Code: "never_sent", Message: "nothing that identifies the person was sent for the key"}
			continue
		}
		for part := range slices.Chunk(former, maxIdentifiers) {
			remove = append(remove, member{row: i, identifiers: part})
		}
		if adding {
			now.row = i
			ingest = append(ingest, now)
		}
	}
	if err := w.send(ctx, remove, "remove"); err != nil {
		return err
	}
	if adding { // a row whose former identifiers could not be taken out is settled
		ingest = slices.DeleteFunc(ingest, func(m member) bool {
			outcome := w.results[m.row].Outcome
			return outcome != 0 && outcome != destination.Accepted
		})
		for _, m := range ingest {
			w.replacing[m.row], w.results[m.row] = w.results[m.row].Receipt, destination.Result{}
		}
		return w.send(ctx, ingest, "ingest")
	}
	return nil
}

func rowsOf(members []member) []int {
	rows := make([]int, len(members))
	for n, m := range members {
		rows[n] = m.row
	}
	return rows
}

// former are the identifiers that a key was sent with before, each once, but
// for those that it has still.
func (w *writing) former(c destination.Change) ([]*datamanager.UserIdentifier, destination.Result) {
	known := map[string]bool{}
	current, refusal := w.identifiers(c.Values)
	for _, id := range current {
		known[spell(id)] = c.Op == destination.Upsert
	}
	var all []*datamanager.UserIdentifier
	for _, values := range c.Former {
		if refusal.Outcome != 0 {
			break
		}
		var ids []*datamanager.UserIdentifier
		ids, refusal = w.identifiers(values)
		for _, id := range ids {
			if name := spell(id); !known[name] {
				known[name] = true
				all = append(all, id)
			}
		}
	}
	return all, refusal
}

// spell tells identifiers apart.
func spell(id *datamanager.UserIdentifier) string {
	if a := id.Address; a != nil {
		return strings.Join([]string{a.GivenName, a.FamilyName, a.RegionCode, a.PostalCode}, "|")
	}
	return id.EmailAddress + id.PhoneNumber
}

// identifiers are those that a row's values make. What is not hashed is not
// sent.
func (w *writing) identifiers(values []any) ([]*datamanager.UserIdentifier, destination.Result) {
	is := map[string]string{}
	for col, column := range w.batch.Columns {
		value, ok := values[col].(string)
		if !ok || value == "" {
			continue
		}
		if column.Name != "region_code" && column.Name != "postal_code" && !normalize.IsHash(value) {
			return nil, destination.Result{Outcome: destination.Rejected, Code: "not_hashed", Message: "the column " + column.Name + " is not hashed, so it was not sent"}
		}
		is[column.Name] = value
	}
	var ids []*datamanager.UserIdentifier
	if is["email_address"] != "" {
		ids = append(ids, &datamanager.UserIdentifier{EmailAddress: is["email_address"]})
	}
	if is["phone_number"] != "" {
		ids = append(ids, &datamanager.UserIdentifier{PhoneNumber: is["phone_number"]})
	}
	a := &datamanager.AddressInfo{GivenName: is["given_name"], FamilyName: is["family_name"], RegionCode: is["region_code"], PostalCode: is["postal_code"]}
	if a.GivenName != "" && a.FamilyName != "" && a.RegionCode != "" && a.PostalCode != "" {
		ids = append(ids, &datamanager.UserIdentifier{Address: a})
	}
	return ids, destination.Result{}
}

// member makes the member of a row, with the consent that there is evidence of:
// nobody is sent of whom none is known.
func (w *writing) member(ctx context.Context, c destination.Change) (m member, refusal destination.Result) {
	if m.identifiers, refusal = w.identifiers(c.Values); refusal.Outcome != 0 {
		return m, refusal
	}
	refuse := func(outcome destination.Outcome, code, message string) (member, destination.Result) {
		return m, destination.Result{Outcome: outcome, Code: code, Message: message}
	}
	switch {
	case len(m.identifiers) == 0:
		return refuse(destination.Rejected, "no_identifier", "none of the mapped columns identifies the person")
	case w.batch.Purpose != w.purpose:
		return refuse(destination.Rejected, "wrong_purpose", "the sync's purpose is not that of consent_purpose, by which people agree that Google gets their data")
	case c.Decision == "":
		return refuse(destination.Retry, "no_evidence", "no decision is known by which the person agreed")
	case w.leaves(ctx, m):
		return refuse(destination.Retry, "removal_unfinished", "Google has not finished a removal that has to come first")
	}
	m.consent = &datamanager.Consent{AdUserData: "CONSENT_GRANTED", AdPersonalization: "CONSENT_GRANTED"}
	col := slices.IndexFunc(w.batch.Columns, func(column destination.Column) bool { return column.Name == personalized })
	if col >= 0 && c.Values[col] != true { // NULL is no consent
		m.consent.AdPersonalization = "CONSENT_DENIED"
	}
	return m, refusal
}

// leaves reports whether an identifier of m is being taken out by a request that
// Google has not carried out yet, which could come after it was put in.
func (w *writing) leaves(ctx context.Context, m member) bool {
	for _, id := range m.identifiers {
		request, ok := w.removing[spell(id)]
		if !ok {
			continue
		}
		if w.busy[request] {
			return true
		}
		if s, settled, err := w.status(ctx, request); err != nil || !settled || s.Outcome == destination.Unknown {
			w.busy[request] = true
			return true
		}
		for name, of := range w.removing {
			if of == request {
				delete(w.removing, name)
			}
		}
	}
	return false
}

// send makes requests of members. One that Google refuses a request for is left
// out, and the others are sent without it.
func (w *writing) send(ctx context.Context, members []member, verb string) error {
	for part := range slices.Chunk(members, maxMembers) {
		if err := w.request(ctx, part, verb); err != nil {
			return err
		}
	}
	return nil
}

func (w *writing) request(ctx context.Context, members []member, verb string) error {
	for range maxRetries {
		r, err := w.call(ctx, http.MethodPost, "/v1/audienceMembers:"+verb, w.body(members, verb))
		if err != nil {
			return err
		}
		if r.Status == http.StatusOK {
			return w.accept(r, members, verb)
		}
		violations, err := judge(r)
		if err != nil {
			return err
		}
		left := w.refuse(members, violations)
		if len(left) == len(members) { // it is no member's fault
			return &fatalError{"the request is not valid (" + violations[0].code() + "): " + w.redact(violations[0].Description)}
		}
		if members = left; len(members) == 0 {
			return nil
		}
	}
	w.settle(rowsOf(members), destination.Result{Outcome: destination.Retry, Code: "not_sent", Message: "too many members beside it were refused, one request after the other"})
	return nil
}

// body is the request for members.
func (w *writing) body(members []member, verb string) any {
	out := make([]*datamanager.AudienceMember, len(members))
	for n, m := range members {
		out[n] = &datamanager.AudienceMember{UserData: &datamanager.UserData{UserIdentifiers: m.identifiers}, Consent: m.consent}
	}
	targets := []*datamanager.Destination{w.target}
	if verb == "remove" {
		return &datamanager.RemoveAudienceMembersRequest{Destinations: targets, AudienceMembers: out, Encoding: "HEX"}
	}
	return &datamanager.IngestAudienceMembersRequest{
		Destinations: targets, AudienceMembers: out, Encoding: "HEX",
		TermsOfService: &datamanager.TermsOfService{CustomerMatchTermsOfServiceStatus: "ACCEPTED"},
	}
}

// requestID is what an id may look like that goes into an address and the state.
var requestID = regexp.MustCompile(`^[\x21-\x7e]{1,400}$`)

// accept settles the rows of a request that Google has taken on.
func (w *writing) accept(r rest.Response, members []member, verb string) error {
	var got datamanager.IngestAudienceMembersResponse // the same as of a removal
	if !r.Read(&got) || !requestID.MatchString(got.RequestId) {
		return &rest.LostError{Code: "reply_invalid", Message: "Google's answer is not what it documents"}
	}
	for _, m := range members {
		receipt := strings.TrimSpace(w.replacing[m.row] + " " + got.RequestId)
		w.results[m.row] = destination.Result{Outcome: destination.Accepted, Receipt: receipt}
	}
	if verb == "remove" {
		for _, m := range members {
			for _, id := range m.identifiers {
				w.removing[spell(id)] = got.RequestId
			}
		}
	}
	return nil
}

// violation is what is wrong with a field of a request.
type violation struct{ Field, Description, Reason string }

var reasonWord = regexp.MustCompile(`^[A-Z][A-Z0-9_]{0,99}$`)

// code is the reason as a code.
func (v violation) code() string { return codeOf(v.Reason, "refused") }

// codeOf is one of Google's words as a code, if it looks like one.
func codeOf(word, otherwise string) string {
	if !reasonWord.MatchString(word) {
		return otherwise
	}
	word = strings.TrimPrefix(strings.TrimPrefix(word, "PROCESSING_ERROR_REASON_"), "PROCESSING_ERROR_")
	return strings.ToLower(word)
}

var memberField = regexp.MustCompile(`^audience_members(?:\.audience_members)?\[([0-9]{1,5})\]`)

// refuse settles the rows of members that violations are about, and returns the
// others.
func (w *writing) refuse(members []member, violations []violation) []member {
	bad := map[int]bool{}
	for _, v := range violations {
		m := memberField.FindStringSubmatch(v.Field)
		if m == nil {
			continue
		}
		if n, err := strconv.Atoi(m[1]); err == nil && n < len(members) {
			w.results[members[n].row] = destination.Result{Outcome: destination.Rejected, Code: v.code(), Message: "Google refuses the member: " + w.redact(v.Description)}
			bad[members[n].row] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(members), func(m member) bool { return bad[m.row] })
}

// fatalError says what a person has to mend, not in Google's words.
type fatalError struct{ what string }

func (e *fatalError) Error() string { return "Google refuses: " + e.what }

// waitError is an answer that says to come back later.
type waitError struct{ result destination.Result }

func (e *waitError) Error() string { return e.result.Message }

// apiError is an error as Google writes it, a google.rpc.Status.
type apiError struct {
	Error struct {
		Status  string
		Details []struct {
			Type            string `json:"@type"`
			Reason          string
			RetryDelay      string
			FieldViolations []violation
		}
	}
}

// reason is the reason that the error as a whole has.
func (e apiError) reason() string {
	for _, d := range e.Error.Details {
		if d.Type == "type.googleapis.com/google.rpc.ErrorInfo" {
			return d.Reason
		}
	}
	return e.Error.Status
}

// judge says what an answer means that is no success: what about the request is
// wrong, or that it is to be made later, or what a person must mend.
func judge(r rest.Response) ([]violation, error) {
	var body apiError
	if !r.Read(&body) {
		body = apiError{}
	}
	if r.Transient() {
		result := r.StatusResult()
		if r.Status == http.StatusTooManyRequests {
			result.Code, result.Message = "rate_limit", "Google's limit on requests is reached"
		}
		for _, d := range body.Error.Details {
			if delay, err := time.ParseDuration(d.RetryDelay); err == nil && delay > 0 {
				result.RetryAfter = max(result.RetryAfter, min(delay, 24*time.Hour))
			}
		}
		return nil, &waitError{result}
	}
	switch reason := body.reason(); {
	case r.Status == http.StatusUnauthorized:
		return nil, &fatalError{"the access token is not valid: see that the credentials count still"}
	case r.Status == http.StatusForbidden:
		return nil, &fatalError{"the credentials have no access: give them access to the account, as login_customer_id if that is a manager's, and enable the Data Manager API in their project"}
	case r.Status == http.StatusNotFound:
		return nil, &fatalError{"there is no such account or list: check customer_id and user_list_id"}
	case reason == "TERMS_AND_CONDITIONS_NOT_SIGNED":
		return nil, &fatalError{"the account has not accepted the terms of Customer Match: accept them in Google Ads"}
	}
	var all []violation
	for _, d := range body.Error.Details {
		all = append(all, d.FieldViolations...)
	}
	if r.Status != http.StatusBadRequest || len(all) == 0 {
		return nil, &fatalError{fmt.Sprintf("it answered %d (%s)", r.Status, codeOf(body.reason(), "without a reason"))}
	}
	return all, nil
}

// Poll implements [destination.Poller].
func (g *googleads) Poll(ctx context.Context, receipts []string) ([]destination.Settlement, error) {
	if g.client == nil {
		return nil, errors.New("the destination is not open")
	}
	var all []destination.Settlement
	for _, receipt := range receipts {
		s, settled, err := g.settled(ctx, receipt)
		if err != nil {
			return all, err
		}
		if settled {
			all = append(all, s)
		}
	}
	return all, nil
}

// settled asks about a receipt: of the request that took a row's change on, after
// that of one which took former identifiers out. Of the two the worse counts.
func (g *googleads) settled(ctx context.Context, receipt string) (worst destination.Settlement, settled bool, err error) {
	requests := strings.Fields(receipt)
	if len(requests) == 0 {
		requests = []string{receipt}
	}
	for _, request := range requests {
		s, done, err := g.status(ctx, request)
		if err != nil || !done {
			return s, false, err
		}
		if worst.Outcome == 0 || worst.Outcome == destination.Delivered && worst.FailedRows == 0 {
			worst = s
		}
	}
	worst.Receipt = receipt
	return worst, true, nil
}

// status asks what became of a request. It is not settled as long as Google
// works on it.
func (g *googleads) status(ctx context.Context, request string) (s destination.Settlement, settled bool, err error) {
	unknown := destination.Settlement{Receipt: request, Outcome: destination.Unknown, Code: "not_a_receipt", Message: "Google knows of no such request"}
	if !requestID.MatchString(request) {
		return unknown, true, nil
	}
	r, err := g.call(ctx, http.MethodGet, "/v1/requestStatus:retrieve?"+url.Values{"requestId": {request}}.Encode(), nil)
	if err != nil {
		return s, false, err
	}
	if r.Status != http.StatusOK {
		if r.Status == http.StatusNotFound {
			return unknown, true, nil
		}
		if _, err = judge(r); err == nil {
			return unknown, true, nil // it names the id as what is not valid
		}
		return s, false, err
	}
	var got datamanager.RetrieveRequestStatusResponse
	if !r.Read(&got) || len(got.RequestStatusPerDestination) != 1 {
		return s, false, &fatalError{"its answer about a request is not what it documents"}
	}
	s, settled = settlement(request, got.RequestStatusPerDestination[0])
	return s, settled, nil
}

// unfit are the reasons that the same members would meet again.
var unfit = []string{"DENIED_CONSENT", "NO_CONSENT", "UNKNOWN_CONSENT", "INVALID_FORMAT"}

func settlement(request string, status *datamanager.RequestStatusPerDestination) (destination.Settlement, bool) {
	s := destination.Settlement{Receipt: request, Outcome: destination.Delivered}
	var most *datamanager.ErrorCount
	if status.ErrorInfo != nil {
		for _, e := range status.ErrorInfo.ErrorCounts {
			s.FailedRows += int(e.RecordCount)
		}
		if counts := status.ErrorInfo.ErrorCounts; len(counts) > 0 {
			most = slices.MaxFunc(counts, func(a, b *datamanager.ErrorCount) int { return cmp.Compare(a.RecordCount, b.RecordCount) })
		}
	}
	switch status.RequestStatus {
	case "SUCCESS":
		return s, true
	case "PARTIAL_SUCCESS", "FAILED":
	default: // PROCESSING, or not known yet
		return s, false
	}
	s.Code, s.Message = "request_failed", "Google failed to carry out the request"
	if most != nil {
		s.Code = codeOf(most.Reason, s.Code)
		s.Message = fmt.Sprintf("Google did not take %d of the request's members, and does not say which; most for the reason %s", s.FailedRows, s.Code)
	}
	if status.RequestStatus == "FAILED" {
		s.Outcome = destination.Retry
		if slices.ContainsFunc(unfit, func(reason string) bool { return strings.EqualFold(reason, s.Code) }) {
			s.Outcome = destination.Rejected
		}
	}
	return s, true
}
