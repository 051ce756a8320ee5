package subject

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/sluis-cdp/sluis/sql/warehouse"
	syncer "github.com/sluis-cdp/sluis/sync"
)

// Explanation says why a person is, or is not, in an audience or at a
// destination.
type Explanation struct {
	Audience    string   `json:"audience,omitempty"`
	Sync        string   `json:"sync,omitempty"`
	Destination string   `json:"destination,omitempty"`
	Purpose     string   `json:"purpose"`
	Profiles    []string `json:"profiles"`
	// Member tells whether the person is in the model; Size is how many are, and
	// MinSize how many have to be, if it is an audience.
	Member  bool  `json:"member"`
	Size    int64 `json:"size"`
	MinSize int   `json:"min_size,omitempty"`
	Erased  bool  `json:"erased"`
	// Consent is the verdict on the purpose, and Records what it rests on, the
	// newest first.
	Consent *Verdict `json:"consent"`
	Records []Row    `json:"records"`
	// Events are the person's by name: how many, and how many of them were collected
	// with the purpose granted, which alone are used for it.
	Events []UsedEvents `json:"events"`
	// State is what the destination has; Deliveries what was sent last; Held what the
	// last plan did not do, and why.
	State      []Row `json:"state"`
	Deliveries []Row `json:"deliveries"`
	Held       []Row `json:"held"`
	// Sentences say it for people.
	Sentences []string `json:"sentences"`
}

// Verdict is what the models say of a purpose.
type Verdict struct {
	Allowed       bool      `json:"allowed"`
	DecidedAt     time.Time `json:"decided_at"`
	Decision      string    `json:"decision_id"`
	PolicyVersion string    `json:"policy_version"`
}

// UsedEvents are events of one name.
type UsedEvents struct {
	Type  string    `json:"type"`
	Event string    `json:"event"`
	All   int64     `json:"all"`
	Used  int64     `json:"used"`
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
}

// ErrUnknown says that there is no such audience or sync.
var ErrUnknown = errors.New("there is no")

// Explain explains an audience, or a sync if the name of one is given.
func (s *Subjects) Explain(ctx context.Context, g Given, audience, sync string) (e Explanation, err error) {
	given, err := s.pseudonymsOf(ctx, g)
	if err != nil {
		return e, err
	}
	model := audience
	if sync != "" {
		i := slices.IndexFunc(s.Syncs, func(declared syncer.Sync) bool { return declared.Name == sync })
		if i < 0 {
			return e, fmt.Errorf("%w sync %s: `sluis sync ls` lists them", ErrUnknown, sync)
		}
		model = s.Syncs[i].Model
		e.Sync, e.Destination, e.Purpose = sync, s.Syncs[i].Destination, s.Syncs[i].Purpose
	}
	if i := slices.IndexFunc(s.Audiences, func(a Audience) bool { return a.Name == model }); i >= 0 {
		e.Audience, e.MinSize = model, s.Audiences[i].MinSize
		if e.Purpose == "" {
			e.Purpose = s.Audiences[i].Purpose
		}
	} else if sync == "" {
		return e, fmt.Errorf("%w audience %s: `sluis models ls` lists the models", ErrUnknown, audience)
	}
	err = s.with(ctx, func(d warehouse.Driver) error {
		p, err := s.person(ctx, d, given)
		if err != nil {
			return err
		}
		e.Profiles = p.Profiles
		var export Export
		if err := s.exportErasures(ctx, d, &export, p, given); err != nil {
			return err
		}
		e.Erased = slices.ContainsFunc(export.Identifiers, func(id Identifier) bool { return id.Erased })
		return errors.Join(s.explainModel(ctx, d, &e, model, p), s.explainConsent(ctx, d, &e, p), s.explainEvents(ctx, d, &e, p), s.explainSync(ctx, d, &e, p))
	})
	if err == nil {
		e.Sentences = e.say(model)
	}
	return e, err
}

func (s *Subjects) explainModel(ctx context.Context, d warehouse.Driver, e *Explanation, model string, p Person) error {
	if _, err := d.Columns(ctx, warehouse.SchemaModels, model); errors.Is(err, warehouse.ErrNoRelation) {
		return fmt.Errorf("%w table of the model %s: build it first, with `sluis models run`", ErrUnknown, model)
	} else if err != nil {
		return fmt.Errorf("reading the model %s: %w", model, err)
	}
	rows, err := warehouse.Collect(ctx, d, "SELECT COUNT(*), COUNT(CASE WHEN profile_id IN ("+places(len(p.Profiles))+") THEN 1 END) FROM "+
		warehouse.SchemaModels+"."+quoted(d, model), args(p.Profiles)...)
	if err != nil {
		return fmt.Errorf("reading the model %s: %w", model, err)
	}
	e.Size, _ = rows[0][0].(int64)
	n, _ := rows[0][1].(int64)
	e.Member = n > 0
	return nil
}

func (s *Subjects) explainConsent(ctx context.Context, d warehouse.Driver, e *Explanation, p Person) (err error) {
	if len(p.Profiles) > 0 {
		rows, err := warehouse.Collect(ctx, d, `SELECT allowed, decided_at, decision_id, policy_version FROM sluis_models.consent_profile
			WHERE purpose = ? AND profile_id IN (`+places(len(p.Profiles))+`) ORDER BY CASE WHEN allowed THEN 1 ELSE 0 END, decided_at DESC`,
			append([]any{e.Purpose}, args(p.Profiles)...)...)
		if err != nil {
			return fmt.Errorf("reading consent_profile: %w", err)
		}
		if len(rows) > 0 { // a refusal of any of them is first
			e.Consent = &Verdict{Decision: text(rows[0][2]), PolicyVersion: text(rows[0][3])}
			e.Consent.Allowed, _ = rows[0][0].(bool)
			e.Consent.DecidedAt, _ = rows[0][1].(time.Time)
		}
	}
	in := places(len(p.Pseudonyms))
	e.Records, err = rowsOf(ctx, d, `SELECT decided_at, pseudonym, purpose, granted, signal, signal_digest, policy_version, region, source_id, decision_id
		FROM sluis.consents WHERE purpose = ? AND pseudonym IN (`+in+`) ORDER BY decided_at DESC, decision_id LIMIT 20`,
		append([]any{e.Purpose}, args(p.Pseudonyms)...)...)
	return wrapped("reading the record of consent", err)
}

func (s *Subjects) explainEvents(ctx context.Context, d warehouse.Driver, e *Explanation, p Person) error {
	if _, err := d.Columns(ctx, warehouse.SchemaModels, "stg_events"); errors.Is(err, warehouse.ErrNoRelation) {
		return nil
	}
	granted := "? IN UNNEST(e.purposes)"
	if d.Dialect() == "duckdb" {
		granted = "COALESCE(list_contains(e.purposes, ?), FALSE)"
	}
	condition, with := carries(d, p.Pseudonyms)
	rows, err := warehouse.Collect(ctx, d, `SELECT e.type, e.event, COUNT(*), COUNT(CASE WHEN `+granted+` THEN 1 END), MIN(e.occurred_at), MAX(e.occurred_at)
		FROM sluis_models.stg_events AS e WHERE `+condition+` GROUP BY e.type, e.event ORDER BY 3 DESC, 1, 2`, append([]any{e.Purpose}, with...)...)
	if err != nil {
		return fmt.Errorf("reading the events: %w", err)
	}
	for _, row := range rows {
		u := UsedEvents{Type: text(row[0]), Event: text(row[1])}
		u.All, _ = row[2].(int64)
		u.Used, _ = row[3].(int64)
		u.First, _ = row[4].(time.Time)
		u.Last, _ = row[5].(time.Time)
		e.Events = append(e.Events, u)
	}
	return nil
}

func (s *Subjects) explainSync(ctx context.Context, d warehouse.Driver, e *Explanation, p Person) (err error) {
	if e.Sync == "" {
		return nil
	}
	if _, err := d.Columns(ctx, warehouse.SchemaSync, "deliveries"); errors.Is(err, warehouse.ErrNoRelation) {
		return nil
	}
	ids := p.syncIDs()
	mine := "sync = ? AND (key IN (" + places(len(ids)) + ") OR profile_id IN (" + places(len(ids)) + "))"
	with := slices.Concat([]any{e.Sync}, args(ids), args(ids))
	e.State, err = rowsOf(ctx, d, "SELECT key, present, unsure, status, op, decision_id, policy_version, acked_at, attempts, last_error_code FROM sluis_sync.state WHERE "+mine, with...)
	if err != nil {
		return fmt.Errorf("reading what the destination has: %w", err)
	}
	e.Deliveries, err = rowsOf(ctx, d, `SELECT recorded_at, run_id, plan_id, key, op, reason, outcome, code, message, decision_id, policy_version
		FROM sluis_sync.deliveries WHERE `+mine+` ORDER BY recorded_at DESC, seq DESC LIMIT 10`, with...)
	if err != nil {
		return fmt.Errorf("reading what was sent: %w", err)
	}
	e.Held, err = rowsOf(ctx, d, "SELECT plan_id, key, reason FROM sluis_sync.plan_changes WHERE kind = 'hold' AND "+mine+" ORDER BY plan_id DESC LIMIT 10", with...)
	return wrapped("reading the plan", err)
}

// say says it for people: the answer first, and then each reason.
func (e Explanation) say(model string) []string {
	var all []string
	add := func(format string, values ...any) { all = append(all, fmt.Sprintf(format, values...)) }
	switch {
	case e.Erased:
		add("This person was erased, and is kept out of everything.")
	case len(e.Profiles) == 0:
		add("Nothing is known of this person: the models have no profile with such an identifier.")
	case e.Member:
		add("This person is in %s, for the purpose %s.", model, e.Purpose)
	default:
		add("This person is not in %s, which is for the purpose %s.", model, e.Purpose)
	}
	e.sayConsent(add)
	e.sayEvents(add)
	if e.Audience != "" && e.Size == 0 && e.MinSize > 1 {
		add("The audience publishes nobody: it is empty, or has fewer members than its least size of %d.", e.MinSize)
	}
	if !e.Member && e.Consent != nil && e.Consent.Allowed && e.Size > 0 {
		add("Consent is not what is in the way: the person does not meet the conditions of the model %s with the events that may be used.", model)
	}
	if e.Sync != "" {
		e.saySync(add)
	}
	return all
}

func (e Explanation) sayConsent(add func(string, ...any)) {
	switch c := e.Consent; {
	case c == nil:
		add("No choice about %s is known, which means no.", e.Purpose)
	case c.Allowed:
		add("They agree to %s now: decision %s of %s, under version %s of the policy.", e.Purpose, c.Decision, c.DecidedAt.Format(time.RFC3339), c.PolicyVersion)
	default:
		add("They refuse %s now: decision %s of %s, under version %s of the policy.", e.Purpose, c.Decision, c.DecidedAt.Format(time.RFC3339), c.PolicyVersion)
	}
	for _, r := range e.Records {
		verb := "refused"
		if granted, _ := r["granted"].(bool); granted {
			verb = "granted"
		}
		add("On record: %s %s at %s by the signal %s, decision %s, policy version %s.", e.Purpose, verb, written(r["decided_at"]), written(r["signal"]), written(r["decision_id"]), written(r["policy_version"]))
	}
}

func (e Explanation) sayEvents(add func(string, ...any)) {
	var all, used int64
	var names []string
	for _, u := range e.Events {
		all, used = all+u.All, used+u.Used
		name := u.Event
		if name == "" {
			name = u.Type
		}
		names = append(names, fmt.Sprintf("%d of %d %s", u.Used, u.All, name))
	}
	if all == 0 {
		add("There are no events of theirs.")
		return
	}
	add("Of their %d events %d were collected with %s granted, and may be used for it: %s.", all, used, e.Purpose, strings.Join(names, ", "))
}

func (e Explanation) saySync(add func(string, ...any)) {
	if len(e.State) == 0 {
		add("As far as is known, the destination %s of sync %s has nothing of them.", e.Destination, e.Sync)
	}
	for _, r := range e.State {
		if present, _ := r["present"].(bool); present {
			add("The destination %s has them since %s, under decision %s (%s).", e.Destination, written(r["acked_at"]), written(r["decision_id"]), written(r["status"]))
		} else {
			add("The destination %s does not have them; the last word is %s %s.", e.Destination, written(r["status"]), written(r["last_error_code"]))
		}
	}
	for _, r := range e.Deliveries {
		add("At %s: %s, because of %s: %s, under decision %s.", written(r["recorded_at"]), written(r["op"]), written(r["reason"]), strings.TrimSpace(written(r["outcome"])+" "+code(r)), written(r["decision_id"]))
	}
	for _, r := range e.Held {
		add("Plan %s holds them back: %s.", written(r["plan_id"]), written(r["reason"]))
	}
}

func code(r Row) string {
	if c, ok := r["code"].(string); ok && c != "" {
		return "(" + c + ")"
	}
	return ""
}

// WritePage writes the explanation for people to read.
func (e Explanation) WritePage(w io.Writer) error {
	p := &page{w: w}
	for _, sentence := range e.Sentences {
		p.line("%s", sentence)
	}
	return p.err
}
