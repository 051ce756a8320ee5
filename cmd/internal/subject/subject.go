// Package subject does what a person may ask of who keeps their data: to see it,
// to have it erased, and to hear why they were, or were not, in an audience or
// sent somewhere. It works on any warehouse through its driver, and inside: with
// the private keys.
//
// Who asks is not for it to find out: whoever runs it has made sure that the
// identifiers given are the requester's own.
package subject

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/sluis-cdp/sluis/cmd/internal/edge"
	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/consent/seal"
	"github.com/sluis-cdp/sluis/sql/warehouse"
	syncer "github.com/sluis-cdp/sluis/sync"
)

// Config is what a Subjects works with; all of it is needed but Rewrite, Progress
// and Now.
type Config struct {
	Workspace *workspace.Workspace
	// Open opens the warehouse. It is called again and again, and closed between.
	Open func(ctx context.Context) (warehouse.Driver, error)
	// Build brings the models up to date; those that grow and might not notice that
	// somebody is gone, from nothing if anew. Names are of models that were not built.
	Build func(ctx context.Context, d warehouse.Driver, anew bool) (failed []string, err error)
	// Rewrite makes the warehouse's file anew, if it has one.
	Rewrite   func(ctx context.Context) error
	Syncer    *syncer.Syncer
	Syncs     []syncer.Sync
	Audiences []Audience
	Logger    *slog.Logger
	// Progress hears of each step of an erasure.
	Progress func(step string)
	Now      func() time.Time
}

// Audience is what a model of an audience declares.
type Audience struct {
	Name    string
	Purpose string
	MinSize int
}

// Subjects answers requests. It is used by one goroutine.
type Subjects struct {
	Config
	keys seal.Keyring
}

// New returns a Subjects.
func New(c Config) *Subjects {
	if c.Progress == nil {
		c.Progress = func(string) {}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Subjects{Config: c, keys: c.Workspace.Keyring()}
}

// Given are the identifiers by which somebody asks, as they write them.
type Given struct {
	Emails, Phones, UserIDs, AnonymousIDs []string
	// Pseudonyms are as they land, such as of a list of what was seen together.
	Pseudonyms []string
}

// Errors for what was given.
var (
	ErrNothingGiven = errors.New("no identifier was given")
	ErrNotValid     = errors.New("is not valid")
)

// kinds are the identifiers by what their pseudonyms begin with.
var kinds = map[string]string{"em": "email", "ph": "phone", "us": "user_id", "an": "anonymous_id", "gr": "group_id"}

// kindOf is the kind of identifier that a pseudonym stands for.
func kindOf(pseudonym string) string {
	if len(pseudonym) < 2 {
		return ""
	}
	return kinds[pseudonym[:2]]
}

// pseudonymsOf makes the pseudonyms of what was given. An error repeats no value.
func (s *Subjects) pseudonymsOf(ctx context.Context, g Given) ([]string, error) {
	w := s.Workspace
	p, client, err := edge.NewPseudonymizer(ctx, w, s.keys)
	if err != nil {
		return nil, err
	}
	if client != nil {
		defer client.Close()
	}
	var all []string
	for _, of := range []struct {
		kind   seal.Kind
		values []string
	}{{seal.Email, g.Emails}, {seal.Phone, g.Phones}, {seal.UserID, g.UserIDs}, {seal.AnonymousID, g.AnonymousIDs}} {
		for _, value := range of.values {
			made, err := p.Pseudonym(of.kind, value)
			if errors.Is(err, seal.ErrNotAnIdentifier) {
				return nil, fmt.Errorf("what was given as %s %w", of.kind, ErrNotValid)
			}
			if err != nil {
				return nil, err
			}
			all = append(all, made.Token())
		}
	}
	for _, pseudonym := range g.Pseudonyms {
		if kindOf(pseudonym) == "" || !strings.Contains(pseudonym, "_") {
			return nil, fmt.Errorf("what was given as pseudonym %w: it looks like em1_ and 32 hexadecimal digits", ErrNotValid)
		}
		all = append(all, pseudonym)
	}
	if len(all) == 0 {
		return nil, ErrNothingGiven
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// Person is whom a request is about: the identifiers that belong together.
type Person struct {
	// Pseudonyms are those given, and all that the models put into one cluster with
	// them: seen together, with consent to be recognised that still stands.
	Pseudonyms []string
	// Profiles are the ids of the profiles of these clusters.
	Profiles []string
	// Seen are other identifiers of the same events, which consent does not link, or
	// no longer: they may be somebody else's, such as of a device that two share. To
	// take one along is for who runs this to decide.
	Seen []Seen
}

// Seen is an identifier that is not of the person's cluster.
type Seen struct {
	Pseudonym string `json:"pseudonym"`
	Kind      string `json:"kind"`
	Events    int64  `json:"events"` // that it shares with the person
}

// person finds what belongs together, in models that are up to date.
func (s *Subjects) person(ctx context.Context, d warehouse.Driver, given []string) (Person, error) {
	p := Person{Pseudonyms: slices.Clone(given)}
	if _, err := d.Columns(ctx, warehouse.SchemaModels, "identity_map"); err == nil {
		in := places(len(given))
		rows, err := warehouse.Collect(ctx, d, `SELECT DISTINCT node_key, profile_id FROM sluis_models.identity_map
			WHERE profile_id IN (SELECT profile_id FROM sluis_models.identity_map WHERE node_key IN (`+in+`))`, args(given)...)
		if err != nil {
			return p, fmt.Errorf("finding what belongs together: %w", err)
		}
		for _, row := range rows {
			p.Pseudonyms, p.Profiles = append(p.Pseudonyms, text(row[0])), append(p.Profiles, text(row[1]))
		}
	} else if !errors.Is(err, warehouse.ErrNoRelation) {
		return p, fmt.Errorf("finding what belongs together: %w", err)
	}
	slices.Sort(p.Pseudonyms)
	p.Pseudonyms = slices.Compact(p.Pseudonyms)
	// Before a rotation of pseudonyms, profiles were named after other ones.
	names, err := warehouse.Collect(ctx, d, "SELECT profile_id FROM sluis.profile_names WHERE pseudonym IN ("+places(len(p.Pseudonyms))+")", args(p.Pseudonyms)...)
	if err != nil {
		return p, fmt.Errorf("finding what profiles were called: %w", err)
	}
	for _, row := range names {
		p.Profiles = append(p.Profiles, text(row[0]))
	}
	slices.Sort(p.Profiles)
	p.Profiles = slices.Compact(p.Profiles)
	return p, s.seen(ctx, d, &p)
}

// seen finds identifiers of the person's events that are not of the cluster.
func (s *Subjects) seen(ctx context.Context, d warehouse.Driver, p *Person) error {
	carries, with := carries(d, p.Pseudonyms)
	unnest := "UNNEST(e.identifiers) AS i"
	if d.Dialect() == "duckdb" {
		unnest = "UNNEST(e.identifiers) AS u(i)"
	}
	rows, err := warehouse.Collect(ctx, d, `SELECT i.pseudonym, COUNT(DISTINCT e.event_id) FROM sluis.events AS e CROSS JOIN `+unnest+`
		WHERE (`+carries+`) AND i.pseudonym NOT IN (`+places(len(p.Pseudonyms))+`) GROUP BY i.pseudonym ORDER BY 2 DESC, 1`, append(with, args(p.Pseudonyms)...)...)
	if err != nil {
		return fmt.Errorf("finding what was seen together: %w", err)
	}
	for _, row := range rows {
		n, _ := row[1].(int64)
		p.Seen = append(p.Seen, Seen{text(row[0]), kindOf(text(row[0])), n})
	}
	return nil
}

// syncIDs are what syncs may know the person by: the profiles of now, and those
// of the time when another of the identifiers was the first of the cluster.
func (p Person) syncIDs() []string {
	ids := slices.Clone(p.Profiles)
	for _, pseudonym := range p.Pseudonyms {
		ids = append(ids, pseudonym, profileOf(pseudonym))
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// profileOf names the profile of a founder as the model identity_map does.
func profileOf(founder string) string {
	sum := sha256.Sum256([]byte(founder))
	return "pr_" + hex.EncodeToString(sum[:])[:24]
}

// with opens the warehouse for something.
func (s *Subjects) with(ctx context.Context, do func(warehouse.Driver) error) error {
	d, err := s.Open(ctx)
	if err != nil {
		return err
	}
	return errors.Join(do(d), d.Close())
}

// embedded is the landing folder, unless the warehouse is BigQuery.
func (s *Subjects) embedded() (collector.ParquetSink, bool) {
	return collector.ParquetSink{Dir: s.Workspace.Landing()}, s.Workspace.Warehouse.BigQuery == nil
}

// places are n placeholders; none is a list that nothing is in.
func places(n int) string {
	if n == 0 {
		return "NULL"
	}
	return strings.TrimSuffix(strings.Repeat("?, ", n), ", ")
}

func args(list []string) []any {
	all := make([]any, len(list))
	for i, text := range list {
		all[i] = text
	}
	return all
}

func text(value any) string { t, _ := value.(string); return t } // NULL is empty

// carries is the condition that a row e of events carries one of the pseudonyms.
func carries(d warehouse.Driver, pseudonyms []string) (condition string, with []any) {
	in := places(len(pseudonyms))
	listed := "EXISTS (SELECT 1 FROM UNNEST(e.identifiers) AS carried WHERE carried.pseudonym IN (" + in + "))"
	if d.Dialect() == "duckdb" {
		listed = "COALESCE(list_has_any(list_transform(e.identifiers, carried -> carried.pseudonym), [" + in + "]), FALSE)"
	}
	condition = "COALESCE(e.anonymous_id IN (" + in + "), FALSE) OR COALESCE(e.user_id IN (" + in + "), FALSE) OR " + listed
	one := args(pseudonyms)
	return condition, slices.Concat(one, one, one)
}

// ofPerson is the condition for all copies of the events that carry one.
func ofPerson(d warehouse.Driver, pseudonyms []string) (condition string, with []any) {
	carried, one := carries(d, pseudonyms)
	condition = carried + " OR e.event_id IN (SELECT e.event_id FROM sluis.events AS e WHERE e.event_id IS NOT NULL AND (" + carried + "))"
	return condition, slices.Concat(one, one)
}

// quarantined are the events in quarantine that are the person's, opened.
type quarantined struct {
	*collector.Opened
	collector.Sealed
}

// quarantine opens all events that wait there, and returns those with a pseudonym
// that is wanted. It tells how many it could not open: whose they are nobody can
// know.
func (s *Subjects) quarantine(ctx context.Context, d warehouse.Driver, wanted func(pseudonym string) bool) (found []quarantined, closed int64, err error) {
	rows, err := warehouse.Collect(ctx, d, `SELECT q.quarantine_id, q.source_id, q.type, q.event, q.reason, q.path, q.received_at, q.key_id, q.ciphertext,
			k.purpose, k.recipient, k.psk_id, k.encapsulated_key
		FROM sluis.quarantine AS q
		LEFT JOIN (SELECT key_id, MIN(purpose) AS purpose, MIN(recipient) AS recipient, MIN(psk_id) AS psk_id,
			ANY_VALUE(encapsulated_key) AS encapsulated_key FROM sluis.seal_keys GROUP BY key_id) AS k ON k.key_id = q.key_id
		WHERE q.outcome IS NULL AND q.ciphertext IS NOT NULL ORDER BY q.received_at, q.quarantine_id`)
	if err != nil || len(rows) == 0 {
		return nil, 0, wrapped("reading the quarantine", err)
	}
	opener, err := seal.NewOpener(ctx, s.keys, s.Workspace.Workspace, []string{"necessary"})
	if err != nil {
		return nil, 0, err
	}
	reader, err := edge.NewReader(ctx, s.Workspace, s.Logger)
	if err != nil {
		return nil, 0, err
	}
	for _, row := range rows {
		sealed := sealedEvent(row)
		opened, err := reader.Open(ctx, opener, sealed)
		if _, away := errors.AsType[*seal.UnavailableError](err); away {
			return nil, 0, err // whose it is cannot be told at the moment
		}
		if err != nil {
			closed++
			continue
		}
		if slices.ContainsFunc(opened.Pseudonyms, wanted) {
			found = append(found, quarantined{opened, sealed})
		}
	}
	return found, closed, nil
}

// oneOf tells whether a text is one of a list.
func oneOf(list []string) func(string) bool {
	set := setOf(list)
	return func(text string) bool { return set[text] }
}

func sealedEvent(row []any) collector.Sealed {
	bytes := func(i int) []byte { b, _ := row[i].([]byte); return b }
	s := collector.Sealed{QuarantineRow: collector.QuarantineRow{
		QuarantineID: text(row[0]), SourceID: text(row[1]), Type: text(row[2]), Event: text(row[3]), Reason: text(row[4]), Path: text(row[5]),
		KeyID: text(row[7]), Ciphertext: bytes(8),
	}}
	s.ReceivedAt, _ = row[6].(time.Time)
	s.Key = seal.DataKey{ID: s.KeyID, Purpose: text(row[9]), Recipient: text(row[10]), PSKID: text(row[11]), EncapsulatedKey: bytes(12)}
	return s
}

func wrapped(doing string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}

// hasColumn tells whether a table has a column.
func hasColumn(columns []warehouse.Column, name string) bool {
	return slices.ContainsFunc(columns, func(c warehouse.Column) bool { return strings.EqualFold(c.Name, name) })
}

// tablesOf lists the tables of a schema, without views.
func tablesOf(ctx context.Context, d warehouse.Driver, schema string) ([]string, error) {
	catalog := "information_schema.tables"
	if d.Dialect() == "bigquery" {
		catalog = schema + ".INFORMATION_SCHEMA.TABLES"
	}
	rows, err := warehouse.Collect(ctx, d, "SELECT table_name FROM "+catalog+" WHERE table_schema = ? AND table_type = 'BASE TABLE' ORDER BY table_name", schema)
	if err != nil {
		return nil, fmt.Errorf("listing the tables of %s: %w", schema, err)
	}
	names := make([]string, len(rows))
	for i, row := range rows {
		names[i] = text(row[0])
	}
	return names, nil
}

// quoted writes the name of a table or column.
func quoted(d warehouse.Driver, name string) string {
	if d.Dialect() == "bigquery" {
		return "`" + name + "`"
	}
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}
