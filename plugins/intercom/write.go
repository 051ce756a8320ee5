package intercom

import (
	"context"
	"errors"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/plugins/destination/rest"
)

// writing is the state of writing one batch.
type writing struct {
	*intercom
	batch   destination.Batch
	results []destination.Result
	redact  func(string) string
}

// Write implements [destination.Destination].
func (c *intercom) Write(ctx context.Context, batch destination.Batch) ([]destination.Result, error) {
	if c.client == nil {
		return nil, errors.New("the destination is not open")
	}
	w := &writing{
		intercom: c, batch: batch, results: make([]destination.Result, len(batch.Changes)),
		redact: destination.Redactor(batch),
	}
	for _, group := range w.groups() {
		if err := w.group(ctx, group); err != nil {
			return nil, err
		}
	}
	return w.results, nil
}

// groups cuts the batch such that none has a key or an address twice, since what
// is in one is under way at once.
func (w *writing) groups() [][]int {
	var groups [][]int
	taken := map[string]bool{}
	for i, c := range w.batch.Changes {
		names := []string{"k" + c.Key}
		for col, column := range w.batch.Columns {
			if v, ok := c.Values[col].(string); ok && v != "" && (column.Name == "email" || column.Name == "phone") {
				names = append(names, strings.ToLower(v))
			}
		}
		if len(groups) == 0 || slices.ContainsFunc(names, func(name string) bool { return taken[name] }) {
			groups, taken = append(groups, nil), map[string]bool{}
		}
		groups[len(groups)-1] = append(groups[len(groups)-1], i)
		for _, name := range names {
			taken[name] = true
		}
	}
	return groups
}

// group writes rows, some at once. It returns the first error that is no row's
// fault and not to pass.
func (w *writing) group(ctx context.Context, rows []int) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for _, i := range rows {
		g.Go(func() error { return w.row(ctx, i) })
	}
	return g.Wait()
}

// row writes one.
func (w *writing) row(ctx context.Context, i int) error {
	do := w.upsert
	if w.batch.Changes[i].Op == destination.Remove {
		do = w.remove
	}
	result, err := do(ctx, w.batch.Changes[i])
	if lost, ok := errors.AsType[*rest.LostError](err); ok {
		result, err = lost.Result(), nil
	} else if wait, ok := errors.AsType[*waitError](err); ok {
		result, err = wait.result, nil
	}
	w.results[i] = result
	return err
}

// usage reads how many requests are left until the limit is reset: none, after one too
// many, whatever else the answer says.
func usage(r rest.Response) (destination.Usage, bool) {
	if wait := untilReset(r); wait > 0 && r.Status == http.StatusTooManyRequests {
		return destination.Usage{Reset: wait}, true
	}
	return r.Remaining("X-RateLimit-Remaining", untilReset(r))
}

// untilReset is how long the limit lasts, as the answer says: until an instant in
// seconds since 1970. It makes no sense beyond some minutes.
func untilReset(r rest.Response) time.Duration {
	seconds, err := strconv.ParseInt(r.Header.Get("X-RateLimit-Reset"), 10, 64)
	if err != nil {
		return 0
	}
	return min(max(time.Unix(seconds, 0).Sub(r.At), 0), 10*time.Minute)
}

// contact is one, as far as the plugin looks at it.
type contact struct {
	ID  string
	Key string `json:"external_id"`
}

var contactID = regexp.MustCompile(`^[A-Za-z0-9]{1,64}$`)

// find returns the contact of a key; none has no id. It is there at once when it
// was made, unlike in a search.
func (w *writing) find(ctx context.Context, key string) (found contact, err error) {
	r, err := w.client.Do(ctx, http.MethodGet, "/contacts/find_by_external_id/"+url.PathEscape(key), nil)
	if err != nil || r.Status == http.StatusNotFound {
		return found, err
	}
	return found, w.read(r, &found)
}

// match returns the user without a key that has an address, for a key that has
// no contact; none has no id. One that was just made may not be found yet.
func (w *writing) match(ctx context.Context, address any) (contact, error) {
	if address == nil {
		return contact{}, nil
	}
	equal := func(field string, value any) map[string]any {
		return map[string]any{"field": field, "operator": "=", "value": value}
	}
	r, err := w.client.Do(ctx, http.MethodPost, "/contacts/search", map[string]any{
		"query": map[string]any{"operator": "AND", "value": []any{equal("role", "user"), equal("email", address)}},
	})
	if err != nil {
		return contact{}, err
	}
	if r.Status != http.StatusOK {
		p, err := judge(r)
		if err == nil {
			err = &fatalError{"it does not search contacts (" + p.name() + ")"}
		}
		return contact{}, err
	}
	var got struct{ Data []contact }
	if !r.Read(&got) {
		return contact{}, &rest.LostError{Code: "reply_invalid", Message: "Intercom's answer is not what it documents"}
	}
	for _, found := range got.Data {
		if found.Key == "" && contactID.MatchString(found.ID) {
			return found, nil
		}
	}
	return contact{}, nil
}

// absent is the result of a row that only updates, and of which there is no
// contact.
var absent = destination.Result{Outcome: destination.Skipped, Code: "absent", Message: "no contact has this key, and none without a key has the address if there is one"}

// read takes the answer about a contact.
func (w *writing) read(r rest.Response, into *contact) error {
	if r.Status != http.StatusOK {
		p, err := judge(r)
		if err == nil {
			err = &fatalError{"it does not show a contact (" + p.name() + ")"}
		}
		return err
	}
	if !r.Read(into) || !contactID.MatchString(into.ID) {
		return &rest.LostError{Code: "reply_invalid", Message: "Intercom's answer is not what it documents"}
	}
	return nil
}

// upsert makes or changes the contact of a row, and tags it.
func (w *writing) upsert(ctx context.Context, c destination.Change) (destination.Result, error) {
	body, refusal := w.contactOf(c)
	if refusal.Outcome != 0 {
		return refusal, nil
	}
	found, err := w.find(ctx, c.Key)
	if err == nil && found.ID == "" && w.updates {
		found, err = w.match(ctx, body["email"])
	}
	if err != nil {
		return refusal, err
	}
	var r rest.Response
	switch {
	case found.ID == "" && w.updates:
		return absent, nil
	case found.ID == "":
		r, err = w.create(ctx, c.Key, body)
	default:
		r, err = w.client.Do(ctx, http.MethodPut, "/contacts/"+found.ID, body)
	}
	if err != nil {
		return refusal, err
	}
	if r.Status == http.StatusNotFound && w.updates {
		return absent, nil // since it was found
	}
	if r.Status != http.StatusOK {
		p, err := judge(r)
		return destination.Result{Outcome: destination.Rejected, Code: p.name(), Message: "Intercom refuses the contact: " + w.redact(p.Message)}, err
	}
	if err := w.read(r, &found); err != nil || w.tag == "" {
		return destination.Result{Outcome: destination.Delivered}, err
	}
	return w.done(w.client.Do(ctx, http.MethodPost, "/contacts/"+found.ID+"/tags", map[string]string{"id": w.tag}))
}

// Of a contact that is in the way Intercom tells the id in words alone.
var inTheWay = regexp.MustCompile(`(archived )?contact .*\bid=([A-Za-z0-9]{1,64})`)

// create makes a contact. One that has its address and belongs to no key becomes
// that of this key; an archived one comes back.
func (w *writing) create(ctx context.Context, key string, body map[string]any) (rest.Response, error) {
	r, err := w.client.Do(ctx, http.MethodPost, "/contacts", body)
	if err != nil || r.Status != http.StatusConflict {
		return r, err
	}
	p, err := judge(r)
	if err != nil {
		return r, err
	}
	m := inTheWay.FindStringSubmatch(p.Message)
	if m == nil {
		return r, nil
	}
	if m[1] != "" {
		if back, err := w.client.Do(ctx, http.MethodPost, "/contacts/"+m[2]+"/unarchive", nil); err != nil || back.Status != http.StatusOK {
			return back, err
		}
	}
	other, err := w.client.Do(ctx, http.MethodGet, "/contacts/"+m[2], nil)
	if err != nil {
		return r, err
	}
	var known contact
	if err := w.read(other, &known); err != nil {
		return r, err
	}
	if known.Key != "" && known.Key != key {
		return r, nil // it is another's, and stays so
	}
	return w.client.Do(ctx, http.MethodPut, "/contacts/"+known.ID, body)
}

// contactOf makes the contact of a row. NULL clears, but does not take away what
// a person is known by, and leaves alone whether he gets e-mails.
func (w *writing) contactOf(c destination.Change) (map[string]any, destination.Result) {
	body := map[string]any{"role": "user", "external_id": c.Key}
	own := map[string]any{}
	known := fields()
	for col, column := range w.batch.Columns {
		v := c.Values[col]
		switch value := v.(type) {
		case float64:
			if math.IsNaN(value) || math.IsInf(value, 0) {
				return nil, destination.Result{Outcome: destination.Rejected, Code: "not_json", Message: "the column " + column.Name + " is infinite or not a number"}
			}
		case time.Time:
			v = value.Unix()
		}
		switch name := column.Name; {
		case !slices.ContainsFunc(known, func(f destination.TargetField) bool { return f.Name == name }):
			own[name] = v
		case v != nil || name != "email" && name != "phone" && name != "unsubscribed_from_emails":
			body[name] = v
		}
	}
	if len(own) > 0 {
		body["custom_attributes"] = own
	}
	return body, destination.Result{}
}

// remove takes the contact of a key out, as configured; one that is not there is
// out already.
func (w *writing) remove(ctx context.Context, c destination.Change) (destination.Result, error) {
	found, err := w.find(ctx, c.Key)
	if err != nil || found.ID == "" {
		return destination.Result{Outcome: destination.Delivered}, err
	}
	path := "/contacts/" + found.ID
	var r rest.Response
	if w.tag != "" && w.removes == removeClear {
		r, err = w.client.Do(ctx, http.MethodDelete, path+"/tags/"+w.tag, nil)
		if err != nil || r.Status/100 != 2 && r.Status != http.StatusNotFound {
			return w.done(r, err)
		}
	}
	switch w.removes {
	case removeTag:
		r, err = w.client.Do(ctx, http.MethodDelete, path+"/tags/"+w.tag, nil)
	case removeClear:
		empty, _ := w.contactOf(destination.Change{Key: c.Key, Values: make([]any, len(w.batch.Columns))})
		r, err = w.client.Do(ctx, http.MethodPut, path, empty)
	case removeArchive:
		r, err = w.client.Do(ctx, http.MethodPost, path+"/archive", nil)
	default:
		r, err = w.client.Do(ctx, http.MethodDelete, path, nil)
	}
	if err == nil && r.Status == http.StatusNotFound {
		return destination.Result{Outcome: destination.Delivered}, nil // since then it was taken out elsewhere
	}
	return w.done(r, err)
}

// done is what the answer to the last request of a row means.
func (w *writing) done(r rest.Response, err error) (destination.Result, error) {
	if err != nil || r.Status/100 == 2 {
		return destination.Result{Outcome: destination.Delivered}, err
	}
	p, err := judge(r)
	if err == nil && r.Status == http.StatusNotFound {
		err = &fatalError{"there is no such tag: check tag_id"}
	}
	return destination.Result{Outcome: destination.Rejected, Code: p.name(), Message: "Intercom refuses the change: " + w.redact(p.Message)}, err
}
