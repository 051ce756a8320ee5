package klaviyo

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/plugins/destination/rest"
)

const (
	maxFilter  = 100  // keys that are asked for at once
	maxMembers = 1000 // of one change of a list
	maxRetries = 10   // of a job of which single profiles were refused
)

// writing is the state of writing one batch.
type writing struct {
	*klaviyo
	batch   destination.Batch
	results []destination.Result
	redact  func(string) string
	until   time.Time // how long to wait for jobs
	behind  string    // a job that has not ended: what follows must wait for it
}

// Write implements [destination.Destination].
func (k *klaviyo) Write(ctx context.Context, batch destination.Batch) ([]destination.Result, error) {
	if k.client == nil {
		return nil, errors.New("the destination is not open")
	}
	w := &writing{klaviyo: k, batch: batch, results: make([]destination.Result, len(batch.Changes)), redact: destination.Redactor(batch), until: time.Now().Add(k.wait)}
	for _, group := range w.groups() {
		if w.behind != "" { // or its changes could come before those that it has to follow
			w.settle(group, destination.Result{Outcome: destination.Retry, Code: "job_unfinished", Message: "an import that has to end first has not ended yet"})
			continue
		}
		var err error
		if batch.Changes[group[0]].Op == destination.Remove {
			err = w.remove(ctx, group)
		} else {
			err = w.upsert(ctx, group)
		}
		if err := w.excuse(group, err); err != nil {
			return nil, err
		}
	}
	return w.results, nil
}

// excuse settles the open rows of a group with an error that is to pass; it
// returns any other.
func (w *writing) excuse(group []int, err error) error {
	if lost, ok := errors.AsType[*rest.LostError](err); ok {
		w.settle(w.open(group), lost.Result())
		return nil
	}
	if wait, ok := errors.AsType[*waitError](err); ok {
		w.settle(w.open(group), wait.result)
		return nil
	}
	return err
}

// groups cuts the batch by operation, such that none has a key or an identifier
// twice: in what order a job imports them is nobody's business.
func (w *writing) groups() [][]int {
	var groups [][]int
	var op destination.Op
	var taken map[string]bool
	for i, c := range w.batch.Changes {
		names := []string{"k" + c.Key}
		for col, column := range w.batch.Columns {
			if v, ok := c.Values[col].(string); ok && v != "" && (column.Name == "email" || column.Name == "phone_number") {
				names = append(names, strings.ToLower(v))
			}
		}
		twice := slices.ContainsFunc(names, func(name string) bool { return taken[name] })
		if c.Op != op || twice {
			groups, op, taken = append(groups, nil), c.Op, map[string]bool{}
		}
		groups[len(groups)-1] = append(groups[len(groups)-1], i)
		for _, name := range names {
			taken[name] = true
		}
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

// profile is one, as the API takes it.
type profile struct {
	Type       string         `json:"type"`
	ID         string         `json:"id,omitempty"`
	Attributes map[string]any `json:"attributes"`
	Meta       *profileMeta   `json:"meta,omitempty"`
}

type profileMeta struct {
	Patch struct {
		Unset []string `json:"unset"`
	} `json:"patch_properties"`
}

// profileOf makes the profile of a row. NULL clears, but does not take away
// what a person is known by.
func (w *writing) profileOf(c destination.Change, id string) (profile, destination.Result) {
	p := profile{Type: "profile", ID: id, Attributes: map[string]any{"external_id": c.Key}}
	place, own := map[string]any{}, map[string]any{}
	var unset []string
	for col, column := range w.batch.Columns {
		v := c.Values[col]
		switch f := v.(type) {
		case float64:
			if math.IsNaN(f) || math.IsInf(f, 0) {
				return p, destination.Result{Outcome: destination.Rejected, Code: "not_json", Message: "the column " + column.Name + " is infinite or not a number"}
			}
		case time.Time:
			v = f.Format(time.RFC3339Nano)
		}
		switch name := column.Name; {
		case name == "email" || name == "phone_number":
			if v != nil && v != "" {
				p.Attributes[name] = v
			}
		case slices.Contains(attributes, name):
			p.Attributes[name] = v
		case slices.Contains(location, name):
			place[name] = v
		case v == nil:
			unset = append(unset, name)
		default:
			own[name] = v
		}
	}
	if len(place) > 0 {
		p.Attributes["location"] = place
	}
	if len(own) > 0 {
		p.Attributes["properties"] = own
	}
	if unset != nil {
		p.Meta = &profileMeta{}
		p.Meta.Patch.Unset = unset
	}
	return p, destination.Result{}
}

// entry is a row's profile as it is sent.
type entry struct {
	row  int
	text json.RawMessage
}

// upsert imports rows, in jobs of the size that Klaviyo takes.
func (w *writing) upsert(ctx context.Context, rows []int) error {
	if w.updates {
		return w.update(ctx, rows)
	}
	return w.importAll(ctx, rows, func(destination.Change) string { return "" }, w.list)
}

// update imports the rows that have a profile.
func (w *writing) update(ctx context.Context, rows []int) error {
	ids, err := w.find(ctx, rows)
	if err != nil {
		return err
	}
	var unknown []int // by key
	for _, i := range rows {
		if c := w.batch.Changes[i]; ids[c.Key] == "" && w.address(c) != "" {
			unknown = append(unknown, i)
		}
	}
	byAddress, err := w.lookUp(ctx, unknown, "email", w.address)
	if err != nil {
		return err
	}
	for _, i := range unknown {
		c := w.batch.Changes[i]
		ids[c.Key] = byAddress[w.address(c)]
	}
	var there []int
	for _, i := range rows {
		if ids[w.batch.Changes[i].Key] != "" {
			there = append(there, i)
			continue
		}
		w.results[i] = destination.Result{Outcome: destination.Skipped, Code: "absent", Message: "no profile has this key, nor the e-mail address if there is one"}
	}
	return w.importAll(ctx, there, func(c destination.Change) string { return ids[c.Key] }, w.list)
}

// address is a row's e-mail address as Klaviyo keeps it, "" if it has none.
func (w *writing) address(c destination.Change) string {
	for col, column := range w.batch.Columns {
		if v, ok := c.Values[col].(string); ok && column.Name == "email" {
			return strings.ToLower(v)
		}
	}
	return ""
}

func (w *writing) importAll(ctx context.Context, rows []int, idOf func(destination.Change) string, list string) error {
	var entries []entry
	size := 0
	flush := func() error {
		if len(entries) == 0 {
			return nil
		}
		err := w.importJob(ctx, entries, list)
		entries, size = nil, 0
		return err
	}
	for _, i := range rows {
		p, refusal := w.profileOf(w.batch.Changes[i], idOf(w.batch.Changes[i]))
		if refusal.Outcome != 0 {
			w.results[i] = refusal
			continue
		}
		text, err := json.Marshal(p)
		if err != nil {
			return errors.New("encode a profile")
		}
		if len(text) > maxProfileBytes {
			w.results[i] = destination.Result{Outcome: destination.Rejected, Code: "too_large", Message: "the profile is larger than the 100 kB that Klaviyo takes"}
			continue
		}
		if size+len(text) > maxJobBytes || len(entries) == maxProfiles {
			if err := flush(); err != nil {
				return err
			}
		}
		entries, size = append(entries, entry{i, text}), size+len(text)+1
	}
	return flush()
}

// jobBody is the request for an import.
func jobBody(entries []entry, list string) map[string]any {
	profiles := make([]json.RawMessage, len(entries))
	for n, e := range entries {
		profiles[n] = e.text
	}
	data := map[string]any{"type": "profile-bulk-import-job", "attributes": map[string]any{"profiles": map[string]any{"data": profiles}}}
	if list != "" {
		data["relationships"] = map[string]any{"lists": map[string]any{"data": []any{map[string]string{"type": "list", "id": list}}}}
	}
	return map[string]any{"data": data}
}

// importJob starts an import and follows it. A profile that has the whole job
// refused is left out, and the others are sent without it.
func (w *writing) importJob(ctx context.Context, entries []entry, list string) error {
	for range maxRetries {
		r, err := w.client.Under(imports).Do(ctx, http.MethodPost, "/api/profile-bulk-import-jobs", jobBody(entries, list))
		if err != nil {
			return err
		}
		if r.Status == http.StatusAccepted {
			var got struct {
				Data struct {
					ID string `json:"id"`
				} `json:"data"`
			}
			if !r.Read(&got) || !listID.MatchString(got.Data.ID) {
				return &rest.LostError{Code: "reply_invalid", Message: "Klaviyo's answer is not what it documents"}
			}
			return w.follow(ctx, got.Data.ID, entries)
		}
		problems, err := judge(r)
		if err != nil {
			return err
		}
		left := w.refuse(entries, problems)
		if len(left) == len(entries) { // it does not say whose fault it is
			w.settle(rowsOf(entries), destination.Result{
				Outcome: destination.Rejected, Code: problems[0].name(), Message: "Klaviyo refuses the import: " + w.redact(problems[0].Detail),
			})
			return nil
		}
		if entries = left; len(entries) == 0 {
			return nil
		}
	}
	w.settle(rowsOf(entries), destination.Result{Outcome: destination.Retry, Code: "not_imported", Message: "too many profiles beside it were refused, one request after the other"})
	return nil
}

func rowsOf(entries []entry) []int {
	rows := make([]int, len(entries))
	for n, e := range entries {
		rows[n] = e.row
	}
	return rows
}

var pointer = regexp.MustCompile(`^/data/attributes/profiles/data/([0-9]{1,5})(/|$)`)

// refuse settles the rows that problems point at, and returns the other ones.
func (w *writing) refuse(entries []entry, problems []problem) []entry {
	bad := map[int]bool{}
	for _, p := range problems {
		m := pointer.FindStringSubmatch(p.Source.Pointer)
		if m == nil {
			continue
		}
		if n, err := strconv.Atoi(m[1]); err == nil && n < len(entries) {
			w.results[entries[n].row] = destination.Result{Outcome: destination.Rejected, Code: p.name(), Message: "Klaviyo refuses the profile: " + w.redact(p.Detail)}
			bad[n] = true
		}
	}
	var left []entry
	for n, e := range entries {
		if !bad[n] {
			left = append(left, e)
		}
	}
	return left
}

// follow waits for an import and settles its rows.
func (w *writing) follow(ctx context.Context, id string, entries []entry) error {
	accepted := destination.Result{Outcome: destination.Accepted, Receipt: id}
	var state jobState
	for pause := w.pause; !state.ended(); pause = min(2*pause, maxPause) {
		if time.Now().Add(pause).After(w.until) || !rest.Sleep(ctx, pause) {
			w.settle(rowsOf(entries), accepted)
			w.behind = id
			return nil
		}
		var err error
		if state, err = w.job(ctx, id); err != nil {
			w.settle(rowsOf(entries), accepted) // it goes on without being asked
			w.behind = id
			return nil //nolint:nilerr // the rows are accepted, and polled
		}
	}
	if state.Status == "cancelled" {
		w.settle(rowsOf(entries), destination.Result{Outcome: destination.Retry, Code: "job_cancelled", Message: "Klaviyo cancelled the import"})
		return nil
	}
	left, failed := entries, 0
	if state.Failed > 0 {
		problems, err := w.importErrors(ctx, id)
		if err != nil {
			w.settle(rowsOf(entries), accepted)
			return nil //nolint:nilerr // the rows are accepted, and polled
		}
		left = w.refuse(entries, problems)
		failed = state.Failed - (len(entries) - len(left))
	}
	delivered := destination.Result{Outcome: destination.Delivered}
	if failed > 0 {
		delivered = destination.Result{Outcome: destination.Unknown, Code: "not_told_apart", Message: "Klaviyo failed to import some profiles, and does not say which"}
	}
	w.settle(rowsOf(left), delivered)
	return nil
}

// importErrors reads why profiles of a job were not imported, page by page.
func (w *writing) importErrors(ctx context.Context, id string) ([]problem, error) {
	path := "/api/profile-bulk-import-jobs/" + id + "/import-errors"
	var all []problem
	for page := path; page != ""; {
		var got struct {
			Data []struct {
				Attributes problem `json:"attributes"`
			} `json:"data"`
			Links struct {
				Next string `json:"next"`
			} `json:"links"`
		}
		if err := w.must(ctx, page, &got); err != nil {
			return nil, err
		}
		for _, e := range got.Data {
			all = append(all, e.Attributes)
		}
		page = ""
		if next, err := url.Parse(got.Links.Next); err == nil && next.RawQuery != "" && len(got.Data) > 0 && len(all) <= maxProfiles {
			page = path + "?" + next.RawQuery // of the same resource, whatever the link says
		}
	}
	return all, nil
}

// remove takes out the profiles of rows; those that have none are gone already.
func (w *writing) remove(ctx context.Context, rows []int) error {
	ids, err := w.find(ctx, rows)
	if err != nil {
		return err
	}
	var there []int
	for _, i := range rows {
		if ids[w.batch.Changes[i].Key] == "" {
			w.results[i] = destination.Result{Outcome: destination.Delivered}
		} else {
			there = append(there, i)
		}
	}
	if w.list != "" {
		if err := w.leave(ctx, there, ids); err != nil {
			return err
		}
		there = w.open(there)
	}
	if w.clears {
		cleared := w.batch
		w.batch.Changes = slices.Clone(cleared.Changes)
		defer func() { w.batch = cleared }()
		for _, i := range there {
			w.batch.Changes[i].Values = make([]any, len(cleared.Columns))
		}
		return w.importAll(ctx, there, func(c destination.Change) string { return ids[c.Key] }, "")
	}
	w.settle(there, destination.Result{Outcome: destination.Delivered})
	return nil
}

// leave takes the profiles of rows out of the list. Those that it cannot take out
// have a result then.
func (w *writing) leave(ctx context.Context, rows []int, ids map[string]string) error {
	for part := range slices.Chunk(rows, maxMembers) {
		members := make([]map[string]string, len(part))
		for n, i := range part {
			members[n] = map[string]string{"type": "profile", "id": ids[w.batch.Changes[i].Key]}
		}
		r, err := w.client.Do(ctx, http.MethodDelete, "/api/lists/"+w.list+"/relationships/profiles", map[string]any{"data": members})
		if err != nil {
			return err
		}
		if r.Status/100 == 2 {
			continue
		}
		problems, err := judge(r)
		if err != nil {
			return err
		}
		w.settle(part, destination.Result{Outcome: destination.Rejected, Code: problems[0].name(), Message: "Klaviyo refuses the removal: " + w.redact(problems[0].Detail)})
	}
	return nil
}

// find asks for the ids of profiles by the keys of rows.
func (w *writing) find(ctx context.Context, rows []int) (map[string]string, error) {
	return w.lookUp(ctx, rows, "external_id", func(c destination.Change) string { return c.Key })
}

// lookUp asks for the ids of profiles by what an attribute of rows is.
func (w *writing) lookUp(ctx context.Context, rows []int, attribute string, of func(destination.Change) string) (map[string]string, error) {
	ids := map[string]string{}
	for part := range slices.Chunk(rows, maxFilter) {
		quoted := make([]string, len(part))
		for n, i := range part {
			quoted[n] = quote(of(w.batch.Changes[i]))
		}
		query := url.Values{
			"filter":          {"any(" + attribute + ",[" + strings.Join(quoted, ",") + "])"},
			"fields[profile]": {attribute}, "page[size]": {strconv.Itoa(maxFilter)},
		}
		var got struct {
			Data []struct {
				ID         string         `json:"id"`
				Attributes map[string]any `json:"attributes"`
			} `json:"data"`
		}
		if err := w.must(ctx, "/api/profiles?"+query.Encode(), &got); err != nil {
			return nil, err
		}
		for _, p := range got.Data {
			if value, ok := p.Attributes[attribute].(string); ok {
				ids[value] = p.ID
			}
		}
	}
	return ids, nil
}

// quote writes a string as a filter takes it.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
