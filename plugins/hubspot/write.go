package hubspot

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/plugins/destination/rest"
)

const contacts = "/crm/v3/objects/contacts/batch/"

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// writing is the state of writing one batch.
type writing struct {
	*hubspot
	batch   destination.Batch
	results []destination.Result
	redact  func(string) string
	email   int               // the column of e-mail addresses, or -1
	ids     map[string]string // of contacts, by key
	probes  int
}

// Write implements [destination.Destination].
func (h *hubspot) Write(ctx context.Context, batch destination.Batch) ([]destination.Result, error) {
	if h.properties == nil {
		return nil, errors.New("the destination is not open")
	}
	w := &writing{
		hubspot: h, batch: batch, results: make([]destination.Result, len(batch.Changes)), redact: destination.Redactor(batch),
		email: slices.IndexFunc(batch.Columns, func(c destination.Column) bool { return c.Name == "email" }), probes: maxProbes,
	}
	for _, c := range batch.Columns {
		p, ok := h.properties[c.Name]
		switch {
		case c.Name == h.key:
			return nil, fmt.Errorf("the property %s holds the key, and is written without a mapping: take it out of the mapping", c.Name)
		case !ok || p.Computed || p.Rules.ReadOnly:
			return nil, fmt.Errorf("contacts have no property %s, or it cannot be written: map to another, or make it in HubSpot", c.Name)
		}
	}
	for _, wave := range w.waves() {
		if err := w.wave(ctx, wave); err != nil {
			return nil, err
		}
	}
	return w.results, nil
}

// waves cuts the batch by operation, and such that none has a key or an e-mail address
// twice, since what is in a wave is under way at once; and each wave into groups at
// HubSpot's limit.
func (w *writing) waves() [][][]int {
	var waves [][][]int
	var op destination.Op
	var taken map[string]bool
	for i, c := range w.batch.Changes {
		key, address := "k"+c.Key, ""
		if v := w.address(c); v != "" {
			address = "e" + strings.ToLower(v)
		}
		if c.Op != op || taken[key] || address != "" && taken[address] {
			waves, op, taken = append(waves, [][]int{nil}), c.Op, map[string]bool{}
		}
		wave := &waves[len(waves)-1]
		if len((*wave)[len(*wave)-1]) == maxInputs {
			*wave = append(*wave, nil)
		}
		group := &(*wave)[len(*wave)-1]
		*group, taken[key], taken[address] = append(*group, i), true, true
	}
	return waves
}

// wave writes groups, some at once. It returns the first error that a person has to
// mend. What was lost of one group says nothing of another.
func (w *writing) wave(ctx context.Context, groups [][]int) error {
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(atOnce)
	for _, group := range groups {
		one := *w // with contacts and probes of its own, and the same results
		all.Go(func() error {
			err := one.group(ctx, group)
			if lost, ok := errors.AsType[*rest.LostError](err); ok {
				one.settle(one.open(group), lost.Result())
				return nil
			}
			return err
		})
	}
	return all.Wait()
}

func (w *writing) address(c destination.Change) string {
	if w.email < 0 {
		return ""
	}
	address, _ := c.Values[w.email].(string)
	return strings.TrimSpace(address)
}

// group does changes of one operation. Its error is a [*rest.LostError], or
// what a person has to mend.
func (w *writing) group(ctx context.Context, rows []int) error {
	found, err := w.find(ctx, rows)
	if err != nil || !found {
		return err
	}
	if w.batch.Changes[rows[0]].Op == destination.Remove {
		return w.remove(ctx, rows)
	}
	var known, fresh []int // by what HubSpot is to match them
	for _, i := range rows {
		c := w.batch.Changes[i]
		if _, ok := w.ids[c.Key]; ok || w.address(c) == "" {
			known = append(known, i)
		} else {
			fresh = append(fresh, i)
		}
	}
	if w.updateOnly {
		if err := w.findByAddress(ctx, fresh); err != nil {
			return err
		}
		known, fresh = w.there(known), w.there(fresh)
	}
	if err := w.upsert(ctx, known, w.key); err != nil {
		return err
	}
	if err := w.upsert(ctx, fresh, "email"); err != nil {
		return err
	}
	return w.enlist(ctx, w.open(rows))
}

// open are the rows that have no result yet.
func (w *writing) open(rows []int) []int {
	return slices.DeleteFunc(slices.Clone(rows), func(i int) bool { return w.results[i].Outcome != 0 })
}

func (w *writing) settle(rows []int, r destination.Result) {
	for _, i := range rows {
		w.results[i] = r
	}
}

// fail settles rows with what an answer means. ok is whether it was a success.
func (w *writing) fail(rows []int, r rest.Response) (ok bool, err error) {
	if r.Status/100 == 2 {
		return true, nil
	}
	f := judge(r)
	if f.err != nil {
		return false, f.err
	}
	if f.badRequest {
		f.result.Message = "HubSpot refuses the request: " + w.redact(f.words)
	}
	w.settle(rows, f.result)
	return false, nil
}

type input struct {
	IDProperty string            `json:"idProperty,omitempty"`
	ID         string            `json:"id"`
	Trace      string            `json:"objectWriteTraceId,omitempty"`
	Properties map[string]string `json:"properties,omitempty"`
}

// answer is what HubSpot says of a batch.
type answer struct {
	Results []struct {
		ID         string             `json:"id"`
		Trace      string             `json:"objectWriteTraceId"`
		Properties map[string]*string `json:"properties"`
	} `json:"results"`
	Errors []problem `json:"errors"`
}

// find asks which contacts have the keys of some rows.
func (w *writing) find(ctx context.Context, rows []int) (ok bool, err error) {
	w.ids = map[string]string{}
	return w.lookUp(ctx, rows, w.key, func(c destination.Change) string { return c.Key })
}

// findByAddress asks which contacts have the addresses of some rows.
func (w *writing) findByAddress(ctx context.Context, rows []int) error {
	if len(rows) == 0 {
		return nil
	}
	_, err := w.lookUp(ctx, rows, "email", func(c destination.Change) string { return strings.ToLower(w.address(c)) })
	return err
}

// lookUp asks which contacts have what a property of some rows is, and notes
// their ids.
func (w *writing) lookUp(ctx context.Context, rows []int, property string, of func(destination.Change) string) (ok bool, err error) {
	inputs, keys := make([]input, len(rows)), map[string]string{}
	for n, i := range rows {
		inputs[n].ID = of(w.batch.Changes[i])
		keys[inputs[n].ID] = w.batch.Changes[i].Key
	}
	r, err := w.client.Do(ctx, http.MethodPost, contacts+"read", map[string]any{
		"idProperty": property, "inputs": inputs, "properties": []string{property},
	})
	if err != nil {
		return false, err
	}
	if ok, err := w.fail(rows, r); !ok {
		return false, err
	}
	var got answer
	if !r.Read(&got) {
		return false, &fatalError{"its answer is not what it documents"}
	}
	for _, contact := range got.Results {
		if value := contact.Properties[property]; value != nil {
			if key, ok := keys[*value]; ok {
				w.ids[key] = contact.ID
			}
		}
	}
	return true, nil
}

// absent is the result of a row that only updates, and of which there is no
// contact.
var absent = destination.Result{Outcome: destination.Skipped, Code: "absent", Message: "no contact has this key, nor the address if there is one"}

// there are the rows whose contacts were found. The others are left alone.
func (w *writing) there(rows []int) []int {
	var found []int
	for _, i := range w.open(rows) {
		if w.ids[w.batch.Changes[i].Key] == "" {
			w.results[i] = absent
		} else {
			found = append(found, i)
		}
	}
	return found
}

// upsert writes contacts that HubSpot matches by a property, or those that were
// found if they are only updated. Rows that it took keep no result yet if they
// still have to go into the list.
func (w *writing) upsert(ctx context.Context, rows []int, by string) error {
	var inputs []input
	var sent []int
	what := "upsert"
	for _, i := range rows {
		c := w.batch.Changes[i]
		in := input{IDProperty: by, ID: c.Key, Trace: strconv.Itoa(i), Properties: map[string]string{w.key: c.Key}}
		switch {
		case w.updateOnly:
			what, in.IDProperty, in.ID = "update", "", w.ids[c.Key]
		case by == "email":
			in.ID = w.address(c)
		}
		if refusal := w.fill(c, in.Properties); refusal.Outcome != 0 {
			w.results[i] = refusal
			continue
		}
		inputs, sent = append(inputs, in), append(sent, i)
	}
	if len(sent) == 0 {
		return nil
	}
	r, err := w.client.Do(ctx, http.MethodPost, contacts+what, map[string]any{"inputs": inputs})
	if err != nil {
		return err
	}
	if r.Status/100 != 2 {
		if f := judge(r); f.badRequest && len(sent) > 1 && w.probes >= 2 {
			w.probes -= 2 // one row failed all: find it
			if err := w.upsert(ctx, sent[:len(sent)/2], by); err != nil {
				return err
			}
			return w.upsert(ctx, sent[len(sent)/2:], by)
		}
		_, err := w.fail(sent, r)
		return err
	}
	var got answer
	if !r.Read(&got) {
		return &rest.LostError{Code: "reply_invalid", Message: "HubSpot's answer is not what it documents"}
	}
	w.take(sent, got)
	return nil
}

// take reads the answer to an upsert or an update.
func (w *writing) take(sent []int, got answer) {
	row := func(trace string) (int, bool) {
		i, err := strconv.Atoi(trace)
		return i, err == nil && slices.Contains(sent, i)
	}
	byID := func(id string) (int, bool) {
		n := slices.IndexFunc(sent, func(i int) bool { return w.ids[w.batch.Changes[i].Key] == id })
		if n < 0 {
			return 0, false
		}
		return sent[n], true
	}
	done := map[int]bool{}
	for _, contact := range got.Results {
		i, ok := row(contact.Trace)
		if !ok { // an update tells ids alone
			i, ok = byID(contact.ID)
		}
		if ok {
			w.ids[w.batch.Changes[i].Key], done[i] = contact.ID, true
		}
	}
	refuse := func(i int, p problem) {
		done[i] = true
		switch {
		case p.gone() && w.batch.Changes[i].Op == destination.Remove:
			w.results[i] = destination.Result{Outcome: destination.Delivered}
		case p.gone() && w.updateOnly:
			w.results[i] = absent
		default:
			w.results[i] = destination.Result{Outcome: destination.Rejected, Code: p.code(), Message: "HubSpot refuses the row: " + w.redact(p.words())}
		}
	}
	var untraced []problem
	for _, p := range got.Errors {
		traced := false
		for _, trace := range p.Context.Trace {
			if i, ok := row(trace); ok {
				refuse(i, p)
				traced = true
			}
		}
		for _, id := range p.Context.IDs {
			if i, ok := byID(id); ok {
				refuse(i, p)
				traced = true
			}
		}
		if !traced {
			untraced = append(untraced, p)
		}
	}
	for _, i := range sent {
		switch {
		case done[i]:
		case len(untraced) == 1 && len(sent)-len(done) == 1:
			refuse(i, untraced[0]) // it can only be this one
		default:
			w.results[i] = destination.Result{Outcome: destination.Unknown, Code: "no_result", Message: "HubSpot's answer does not say what became of the row"}
		}
	}
}

// fill adds the values of a row as HubSpot takes them: all are text, and the
// empty one clears a property.
func (w *writing) fill(c destination.Change, properties map[string]string) destination.Result {
	for col, column := range w.batch.Columns {
		text := ""
		switch v := c.Values[col].(type) {
		case string:
			text = v
		case int64:
			text = strconv.FormatInt(v, 10)
		case float64:
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return destination.Result{Outcome: destination.Rejected, Code: "not_a_number", Message: "the column " + column.Name + " is infinite or not a number"}
			}
			text = strconv.FormatFloat(v, 'f', -1, 64)
		case bool:
			text = strconv.FormatBool(v)
		case time.Time:
			text = v.Format("2006-01-02T15:04:05.000Z")
			if w.properties[column.Name].Type == "date" {
				text = v.Format(time.DateOnly)
			}
		}
		if col == w.email {
			if text = strings.TrimSpace(text); text == "" {
				continue // a contact is not left without its address
			}
		}
		properties[column.Name] = text
	}
	return destination.Result{}
}

// membership is HubSpot's answer to a change of a list. It does spell the first
// key so.
type membership struct {
	Added   []string `json:"recordsIdsAdded"`
	Missing []string `json:"recordIdsMissing"`
}

// enlist puts the contacts of rows into the list, and settles the rows.
func (w *writing) enlist(ctx context.Context, rows []int) error {
	delivered := destination.Result{Outcome: destination.Delivered}
	if w.list == "" || len(rows) == 0 {
		w.settle(rows, delivered)
		return nil
	}
	missing, ok, err := w.change(ctx, rows, "add")
	if err != nil || !ok {
		return err
	}
	for _, i := range rows {
		w.results[i] = delivered
		if slices.Contains(missing, w.ids[w.batch.Changes[i].Key]) {
			w.results[i] = destination.Result{Outcome: destination.Retry, Code: "not_in_list", Message: "the contact is written, but the list does not know it yet"}
		}
	}
	return nil
}

// change adds the contacts of rows to the list, or removes them from it.
func (w *writing) change(ctx context.Context, rows []int, what string) (missing []string, ok bool, err error) {
	ids := make([]string, len(rows))
	for n, i := range rows {
		ids[n] = w.ids[w.batch.Changes[i].Key]
	}
	r, err := w.client.Do(ctx, http.MethodPut, "/crm/v3/lists/"+w.list+"/memberships/"+what, ids)
	if err != nil {
		return nil, false, err
	}
	if ok, err := w.fail(rows, r); !ok {
		return nil, false, err
	}
	var got membership
	if !r.Read(&got) {
		return nil, false, &rest.LostError{Code: "reply_invalid", Message: "HubSpot's answer is not what it documents"}
	}
	return got.Missing, true, nil
}

// remove does what the configuration says to the contacts of rows; those that
// have none are gone already.
func (w *writing) remove(ctx context.Context, rows []int) error {
	var there []int
	for _, i := range rows {
		if _, ok := w.ids[w.batch.Changes[i].Key]; ok {
			there = append(there, i)
		} else {
			w.results[i] = destination.Result{Outcome: destination.Delivered}
		}
	}
	if len(there) == 0 {
		return nil
	}
	var err error
	if w.list != "" && w.removes != archives {
		_, _, err = w.change(ctx, there, "remove")
		there = w.open(there)
	}
	switch {
	case err != nil || len(there) == 0 || w.removes == fromList:
	case w.removes == archives:
		err = w.post(ctx, there, "archive", nil)
	default:
		empty := map[string]string{}
		for _, column := range w.batch.Columns {
			if column.Name != "email" {
				empty[column.Name] = ""
			}
		}
		if len(empty) > 0 {
			err = w.post(ctx, there, "update", empty)
		}
	}
	if err != nil {
		return err
	}
	w.settle(w.open(there), destination.Result{Outcome: destination.Delivered})
	return nil
}

// post does something to the contacts of rows by their ids.
func (w *writing) post(ctx context.Context, rows []int, what string, properties map[string]string) error {
	inputs := make([]input, len(rows))
	for n, i := range rows {
		inputs[n] = input{ID: w.ids[w.batch.Changes[i].Key], Properties: properties}
		if properties != nil {
			inputs[n].Trace = strconv.Itoa(i)
		}
	}
	r, err := w.client.Do(ctx, http.MethodPost, contacts+what, map[string]any{"inputs": inputs})
	if err != nil {
		return err
	}
	ok, err := w.fail(rows, r)
	if err != nil || !ok || properties == nil {
		return err
	}
	var got answer
	if !r.Read(&got) {
		return &rest.LostError{Code: "reply_invalid", Message: "HubSpot's answer is not what it documents"}
	}
	w.take(rows, got)
	return nil
}
