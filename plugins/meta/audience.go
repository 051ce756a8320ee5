package meta

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/plugins/destination/normalize"
)

const (
	maxUsers = 10_000 // of one request, as Meta documents
	// maxProbes is how many requests a batch may take to find its invalid rows.
	maxProbes = 40
	// ldu is the field of Limited Data Use.
	ldu = "LDU"
)

// audience is the destination for Custom Audiences. Open sets its fields.
type audience struct {
	account account
	id      string
	limited bool // Limited Data Use, unless a row says otherwise
	open    bool
}

// NewAudience returns the destination for Custom Audiences.
func NewAudience() destination.Destination { return &audience{} }

// Describe implements [destination.Destination].
func (*audience) Describe() destination.Description {
	return destination.Description{
		Name:        "meta-audience",
		Version:     "1.0.0",
		Ops:         []destination.Op{destination.Upsert, destination.Remove},
		Granularity: destination.PerSample,
		Idempotent:  true, // an audience is a set
		MaxRows:     maxUsers,
		Paced:       true, // what Meta takes depends on the account; its answers say when it is too much
		Config: append([]destination.Field{
			{Name: "audience_id", Required: true, Help: "the id of a Custom Audience made of a customer list"},
			{Name: "limited_data_use", Help: `"always" marks everybody for Limited Data Use (CCPA), "never" nobody, which is the default; a field LDU says it by row`},
		}, accountFields()...),
		EgressHosts: egress(),
		Target:      destination.Target{Closed: true, Fields: audienceFields()},
	}
}

func audienceFields() []destination.TargetField {
	f := func(name, form, help string) destination.TargetField {
		return destination.TargetField{Name: name, Form: form, Help: help}
	}
	return []destination.TargetField{
		f("EMAIL", "meta.email", "e-mail address"),
		f("PHONE", "meta.phone", "phone number with its country code"),
		f("FN", "meta.name", "first name"),
		f("LN", "meta.name", "last name"),
		f("FI", "meta.first_initial", "first letter of the first name"),
		f("GEN", "meta.gender", "f or m"),
		f("DOBY", "meta.birth_year", "year of birth, or date"),
		f("DOBM", "meta.birth_month", "month of birth, or date"),
		f("DOBD", "meta.birth_day", "day of birth, or date"),
		f("CT", "meta.city", "city"),
		f("ST", "meta.state", "state or province"),
		f("ZIP", "meta.zip", "postal code"),
		f("COUNTRY", "meta.country", "country's code of two letters"),
		f("MADID", "meta.madid", "advertising id of a mobile device"),
		{Name: ldu, Types: []destination.Type{destination.Bool}, Help: "whether Limited Data Use holds for the person"},
	}
}

// Validate implements [destination.Validator].
func (*audience) Validate(values map[string]string) error {
	_, err := parseAudience(values)
	return err
}

func parseAudience(values map[string]string) (*audience, error) {
	account, err := newAccount(values)
	if err != nil {
		return nil, err
	}
	a := &audience{account: account, id: values["audience_id"]}
	if !digits.MatchString(a.id) {
		return nil, &destination.ConfigError{Field: "audience_id", Problem: "want the audience's id, which is a number"}
	}
	switch values["limited_data_use"] {
	case "", "never":
	case "always":
		a.limited = true
	default:
		return nil, &destination.ConfigError{Field: "limited_data_use", Problem: `want "always" or "never"`}
	}
	return a, nil
}

// Open implements [destination.Destination]. It makes no request.
func (a *audience) Open(_ context.Context, values map[string]string) error {
	parsed, err := parseAudience(values)
	if err != nil {
		return err
	}
	*a = *parsed
	a.open = true
	return nil
}

// Check implements [destination.Checker].
func (a *audience) Check(ctx context.Context) error {
	if !a.open {
		return errors.New("the destination is not open")
	}
	var got struct {
		Subtype string `json:"subtype"`
		Status  struct {
			Code int `json:"code"`
		} `json:"operation_status"`
	}
	if err := a.account.get(ctx, a.id, "subtype,operation_status", &got); err != nil {
		return err
	}
	if got.Subtype != "CUSTOM" {
		return &fatalError{what: "the audience is not one of a customer list: make one with subtype CUSTOM"}
	}
	if got.Status.Code == 471 {
		return &fatalError{what: "the audience is flagged: see its restrictions in the Audience Manager"}
	}
	return nil
}

// Close implements [destination.Destination].
func (a *audience) Close(context.Context) error {
	if a.account.client != nil {
		a.account.client.Close()
	}
	return nil
}

// Write implements [destination.Destination].
func (a *audience) Write(ctx context.Context, batch destination.Batch) ([]destination.Result, error) {
	if !a.open {
		return nil, errors.New("the destination is not open")
	}
	if err := a.Describe().Target.CheckColumns(batch.Columns); err != nil {
		return nil, err
	}
	w := &upload{audience: a, batch: batch, results: make([]destination.Result, len(batch.Changes)), probes: maxProbes}
	for _, group := range w.groups() {
		if err := w.send(ctx, group); err != nil {
			return nil, err
		}
	}
	return w.results, nil
}

// upload is the state of writing one batch.
type upload struct {
	*audience
	batch   destination.Batch
	results []destination.Result
	probes  int // requests left to find invalid rows with
}

// groups are the rows that can be sent, cut by operation and at Meta's limit.
// Those that cannot get their results here.
func (w *upload) groups() [][]int {
	var groups [][]int
	var op destination.Op
	for i, c := range w.batch.Changes {
		if refusal, refused := w.refuses(c); refused {
			w.results[i] = refusal
			continue
		}
		last := len(groups) - 1
		if c.Op != op || len(groups[last]) == maxUsers {
			groups, op, last = append(groups, nil), c.Op, last+1
		}
		groups[last] = append(groups[last], i)
	}
	return groups
}

// refuses is the result of a change that Meta would not take, or that would
// tell it what it must not know.
func (w *upload) refuses(c destination.Change) (destination.Result, bool) {
	identified := false
	for col, column := range w.batch.Columns {
		value, ok := c.Values[col].(string)
		if !ok || value == "" {
			continue
		}
		identified = true
		if column.Name != "MADID" && !normalize.IsHash(value) {
			return destination.Result{Outcome: destination.Rejected, Code: "not_hashed", Message: "the column " + column.Name + " is not hashed, so it was not sent"}, true
		}
	}
	if c.Op == destination.Upsert && !identified {
		return destination.Result{Outcome: destination.Rejected, Code: "no_identifier", Message: "none of the mapped columns identifies the person"}, true
	}
	return destination.Result{}, false
}

// request is the body that adds or removes users.
type request struct {
	Session session `json:"session"`
	Payload payload `json:"payload"`
}

type session struct {
	ID        int64 `json:"session_id"`
	Sequence  int   `json:"batch_seq"`
	Last      bool  `json:"last_batch_flag"`
	Estimated int   `json:"estimated_num_total"`
}

type payload struct {
	Schema []string `json:"schema"`
	Data   [][]any  `json:"data"`
}

// body makes the request of some rows. Each is a session of its own, whose id is
// the same when the rows come again.
func (w *upload) body(rows []int) request {
	digest := sha256.New()
	for _, i := range rows {
		digest.Write([]byte(w.batch.Changes[i].ID + "\n")) // a hash's Write never fails
	}
	id := int64(binary.BigEndian.Uint64(digest.Sum(nil)) >> 12) // exact also where numbers are floating
	r := request{
		Session: session{ID: id + 1, Sequence: 1, Last: true, Estimated: len(rows)},
		Payload: payload{Schema: []string{"EXTERN_ID"}, Data: make([][]any, len(rows))},
	}
	adding := w.batch.Changes[rows[0]].Op == destination.Upsert
	var columns []int
	limited, has := -1, filled(w.batch, rows)
	for c, column := range w.batch.Columns {
		if column.Name == ldu {
			limited = c
		} else if has[c] {
			columns = append(columns, c)
			r.Payload.Schema = append(r.Payload.Schema, column.Name)
		}
	}
	options := adding && (w.limited || limited >= 0)
	if options {
		r.Payload.Schema = append(r.Payload.Schema, "DATA_PROCESSING_OPTIONS")
	}
	for n, i := range rows {
		change := w.batch.Changes[i]
		row := []any{opaque(w.id, change.Key)}
		for _, c := range columns {
			value, _ := change.Values[c].(string)
			row = append(row, value)
		}
		if options {
			row = append(row, w.options(change, limited))
		}
		r.Payload.Data[n] = row
	}
	return r
}

// options are a row's data processing options: an empty list says that none hold.
func (w *upload) options(c destination.Change, column int) []string {
	limited := w.limited
	if column >= 0 {
		if v, ok := c.Values[column].(bool); ok {
			limited = v
		}
	}
	if limited {
		return []string{"LDU"}
	}
	return []string{}
}

// reply is the answer to such a request.
type reply struct {
	Received *int `json:"num_received"`
	Invalid  int  `json:"num_invalid_entries"`
}

// send makes the request of some rows of one operation, and if some of them are
// invalid, those of its halves.
func (w *upload) send(ctx context.Context, rows []int) error {
	method := http.MethodPost
	if w.batch.Changes[rows[0]].Op == destination.Remove {
		method = http.MethodDelete
	}
	answer, err := w.account.client.Do(ctx, method, w.account.path([]string{w.id, "users"}, nil), w.body(rows))
	if err != nil {
		result, err := lost(err)
		w.settle(rows, result)
		return err
	}
	if answer.Status != http.StatusOK {
		result, badRequest, err := judge(answer)
		if err != nil {
			return err
		}
		if badRequest {
			return w.halve(ctx, rows, len(rows), result)
		}
		w.settle(rows, result)
		return nil
	}
	var got reply
	if !answer.Read(&got) || got.Received == nil || *got.Received > len(rows) {
		w.settle(rows, destination.Result{Outcome: destination.Unknown, Code: "reply_invalid", Message: "Meta's answer is not what it documents"})
		return nil
	}
	invalid := max(got.Invalid, len(rows)-*got.Received)
	if invalid == 0 {
		w.settle(rows, destination.Result{Outcome: destination.Delivered})
		return nil
	}
	return w.halve(ctx, rows, invalid, destination.Result{Outcome: destination.Rejected, Code: "invalid_entry", Message: "Meta counts the row as invalid"})
}

// halve looks for the rows of a request that Meta refuses, of which there are at
// least one and at most invalid. To send the others again does no harm.
func (w *upload) halve(ctx context.Context, rows []int, invalid int, refusal destination.Result) error {
	if len(rows) == 1 || refusal.Code == "invalid_entry" && invalid >= len(rows) {
		w.settle(rows, refusal)
		return nil
	}
	if w.probes < 2 {
		result := destination.Result{Outcome: destination.Delivered, Message: fmt.Sprintf("of %d rows sent together Meta counts %d as invalid, and does not say which", len(rows), invalid)}
		if refusal.Code != "invalid_entry" { // then it took none of them
			result = destination.Result{Outcome: destination.Retry, Code: refusal.Code, Message: "Meta refused the request for one of its rows, which was not found yet"}
		}
		w.settle(rows, result)
		return nil
	}
	w.probes -= 2
	half := len(rows) / 2
	if err := w.send(ctx, rows[:half]); err != nil {
		return err
	}
	return w.send(ctx, rows[half:])
}

func (w *upload) settle(rows []int, r destination.Result) {
	for _, i := range rows {
		w.results[i] = r
	}
}
