package subject

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluis-cdp/sluis/consent/seal"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// Row is a row of a table by its columns. JSON is as it is, bytes are in base64.
type Row map[string]any

// Export is everything that is held about a person.
type Export struct {
	Workspace   string       `json:"workspace"`
	At          time.Time    `json:"at"`
	Identifiers []Identifier `json:"identifiers"`
	// Profiles are the ids under which models and syncs have the person.
	Profiles []string `json:"profiles"`
	// Sealed is what can be read of the sealed values, and what not, and why.
	Sealed     []SealedValue      `json:"sealed"`
	Events     []Row              `json:"events"`
	Quarantine []QuarantinedEvent `json:"quarantine"`
	// Consents is the record of their choices.
	Consents []Row `json:"consents"`
	// Models are the rows of all models about their profiles: profile, traits,
	// consent, audiences.
	Models map[string][]Row `json:"models"`
	// Audiences are those of the models that the person is a member of.
	Audiences []string `json:"audiences"`
	// Syncs is what destinations have, as far as is known, and Deliveries what was
	// sent to them, when, and under which decision of the person.
	Syncs      []Row     `json:"syncs"`
	Deliveries []Row     `json:"deliveries"`
	Seen       []Seen    `json:"seen_together"`
	Erasures   []Receipt `json:"erasures"`
	// Notes are what to know of this, in sentences.
	Notes []string `json:"notes"`
}

// Identifier is one of the person's.
type Identifier struct {
	Pseudonym string `json:"pseudonym"`
	Kind      string `json:"kind"`
	Given     bool   `json:"given"` // by who asks
	Erased    bool   `json:"erased"`
}

// SealedValue is a row of the vault, opened if it can be.
type SealedValue struct {
	Field      string    `json:"field"`
	Purpose    string    `json:"purpose"`
	Value      string    `json:"value,omitempty"`
	Unreadable string    `json:"unreadable,omitempty"` // why it is
	Decision   string    `json:"decision_id"`
	ReceivedAt time.Time `json:"received_at"`
}

// QuarantinedEvent is an event in quarantine, opened.
type QuarantinedEvent struct {
	ReceivedAt time.Time       `json:"received_at"`
	Source     string          `json:"source_id"`
	Reason     string          `json:"reason"`
	Message    json.RawMessage `json:"message"`
}

// Export gathers everything that is held about a person, with the models of now.
func (s *Subjects) Export(ctx context.Context, g Given) (e Export, err error) {
	given, err := s.pseudonymsOf(ctx, g)
	if err != nil {
		return e, err
	}
	e = Export{Workspace: s.Workspace.Workspace, At: s.Now().UTC().Truncate(time.Second), Models: make(map[string][]Row)}
	err = s.with(ctx, func(d warehouse.Driver) error {
		failed, err := s.Build(ctx, d, false)
		if err != nil {
			return err
		}
		if len(failed) > 0 {
			e.Notes = append(e.Notes, "These models could not be built, and are as they were before: "+strings.Join(failed, ", ")+".")
		}
		p, err := s.person(ctx, d, given)
		if err != nil {
			return err
		}
		e.Profiles, e.Seen = p.Profiles, p.Seen
		return errors.Join(
			s.exportLanded(ctx, d, &e, p),
			s.exportSealed(ctx, d, &e, p),
			s.exportModels(ctx, d, &e, p),
			s.exportSent(ctx, d, &e, p),
			s.exportErasures(ctx, d, &e, p, given),
		)
	})
	e.Notes = append(e.Notes,
		"Refused events are counted without an identifier: no count can be told to be about this person.",
		"Which destinations still have something is what they acknowledged; what they hold beyond that is for them to say.")
	return e, err
}

func (s *Subjects) exportLanded(ctx context.Context, d warehouse.Driver, e *Export, p Person) (err error) {
	condition, with := ofPerson(d, p.Pseudonyms)
	if e.Events, err = rowsOf(ctx, d, "SELECT * FROM sluis.events AS e WHERE "+condition+" ORDER BY e.occurred_at, e.event_id", with...); err != nil {
		return fmt.Errorf("reading the events: %w", err)
	}
	in := places(len(p.Pseudonyms))
	if e.Consents, err = rowsOf(ctx, d, "SELECT * FROM sluis.consents WHERE pseudonym IN ("+in+") ORDER BY decided_at, decision_id, purpose, pseudonym", args(p.Pseudonyms)...); err != nil {
		return fmt.Errorf("reading the record of consent: %w", err)
	}
	found, closed, err := s.quarantine(ctx, d, oneOf(p.Pseudonyms))
	if err != nil {
		return err
	}
	for _, q := range found {
		e.Quarantine = append(e.Quarantine, QuarantinedEvent{q.ReceivedAt, q.SourceID, reasonOf(q.Reason, q.Path), json.RawMessage(q.Message())})
	}
	if closed > 0 {
		e.Notes = append(e.Notes, fmt.Sprintf("%d events in quarantine could not be opened, so that nobody can tell whose they are.", closed))
	}
	return nil
}

// exportSealed opens what the keys at hand open.
func (s *Subjects) exportSealed(ctx context.Context, d warehouse.Driver, e *Export, p Person) error {
	rows, err := warehouse.Collect(ctx, d, `SELECT v.pseudonym, v.field, v.purpose, v.key_id, v.ciphertext, v.token, v.decision_id, v.received_at,
			k.recipient, k.psk_id, k.encapsulated_key
		FROM sluis.vault AS v
		LEFT JOIN (SELECT key_id, MIN(recipient) AS recipient, MIN(psk_id) AS psk_id, ANY_VALUE(encapsulated_key) AS encapsulated_key
			FROM sluis.seal_keys GROUP BY key_id) AS k ON k.key_id = v.key_id
		WHERE v.pseudonym IN (`+places(len(p.Pseudonyms))+`) ORDER BY v.field, v.purpose, v.received_at`, args(p.Pseudonyms)...)
	if err != nil {
		return fmt.Errorf("reading the sealed values: %w", err)
	}
	openers := make(map[string]*seal.Opener)
	for _, row := range rows {
		v := SealedValue{Field: text(row[1]), Purpose: text(row[2]), Decision: text(row[6])}
		v.ReceivedAt, _ = row[7].(time.Time)
		opener, ok := openers[v.Purpose]
		if !ok {
			if opener, err = seal.NewOpener(ctx, s.keys, s.Workspace.Workspace, []string{v.Purpose}); err != nil {
				opener = nil
			}
			openers[v.Purpose] = opener
		}
		v.Value, v.Unreadable = open(opener, row, v)
		e.Sealed = append(e.Sealed, v)
	}
	return nil
}

func open(opener *seal.Opener, row []any, v SealedValue) (value, unreadable string) {
	encapsulated, _ := row[10].([]byte)
	ciphertext, _ := row[4].([]byte)
	switch {
	case opener == nil:
		return "", "the private key of the purpose is not in this keyring"
	case encapsulated == nil:
		return "", "its data key was destroyed"
	}
	value, err := opener.Open(
		seal.Sealed{KeyID: text(row[3]), Ciphertext: ciphertext},
		seal.DataKey{ID: text(row[3]), Purpose: v.Purpose, Recipient: text(row[8]), PSKID: text(row[9]), EncapsulatedKey: encapsulated},
		seal.Binding{
			Purpose: v.Purpose, Field: v.Field, Subject: text(row[0]), Decision: v.Decision,
			Record: seal.VaultRecord(text(row[5]), v.ReceivedAt),
		})
	if errors.Is(err, seal.ErrNoKey) {
		return "", "the private key that it was sealed for is gone"
	}
	if err != nil {
		return "", "it does not open: it was changed, or damaged"
	}
	return value, ""
}

// notExported are models that say again what is exported already.
var notExported = []string{"profile_events", "profile_sealed", "identity_map"}

// exportModels reads every table of the models that has profiles.
func (s *Subjects) exportModels(ctx context.Context, d warehouse.Driver, e *Export, p Person) error {
	if len(p.Profiles) == 0 {
		return nil
	}
	tables, err := tablesOf(ctx, d, warehouse.SchemaModels)
	if err != nil {
		return err
	}
	for _, table := range tables {
		columns, err := d.Columns(ctx, warehouse.SchemaModels, table)
		if err != nil {
			return fmt.Errorf("reading the models: %w", err)
		}
		if !hasColumn(columns, "profile_id") || slices.Contains(notExported, table) {
			continue
		}
		rows, err := rowsOf(ctx, d, "SELECT * FROM "+warehouse.SchemaModels+"."+quoted(d, table)+" WHERE profile_id IN ("+places(len(p.Profiles))+")", args(p.Profiles)...)
		if err != nil {
			return fmt.Errorf("reading the model %s: %w", table, err)
		}
		if len(rows) == 0 {
			continue
		}
		e.Models[table] = rows
		if slices.ContainsFunc(s.Audiences, func(a Audience) bool { return a.Name == table }) {
			e.Audiences = append(e.Audiences, table)
		}
	}
	return nil
}

// exportSent reads what syncs know and did.
func (s *Subjects) exportSent(ctx context.Context, d warehouse.Driver, e *Export, p Person) error {
	if _, err := d.Columns(ctx, warehouse.SchemaSync, "deliveries"); errors.Is(err, warehouse.ErrNoRelation) {
		return nil
	} else if err != nil {
		return fmt.Errorf("reading what was sent: %w", err)
	}
	ids := p.syncIDs()
	in, with := places(len(ids)), append(args(ids), args(ids)...)
	var err error
	if e.Syncs, err = rowsOf(ctx, d, `SELECT sync, key, profile_id, present, status, op, decision_id, policy_version, acked_at, last_error_code
		FROM sluis_sync.state WHERE key IN (`+in+`) OR profile_id IN (`+in+`) ORDER BY sync, key`, with...); err != nil {
		return fmt.Errorf("reading what destinations have: %w", err)
	}
	if e.Deliveries, err = rowsOf(ctx, d, `SELECT sync, key, profile_id, op, reason, outcome, code, decision_id, policy_version, recorded_at
		FROM sluis_sync.deliveries WHERE key IN (`+in+`) OR profile_id IN (`+in+`) ORDER BY recorded_at, sync, key`, with...); err != nil {
		return fmt.Errorf("reading what was sent: %w", err)
	}
	for _, row := range append(slices.Clone(e.Syncs), e.Deliveries...) {
		name, _ := row["sync"].(string)
		for _, sync := range s.Syncs {
			if sync.Name == name {
				row["destination"], row["purpose"] = sync.Destination, sync.Purpose
			}
		}
	}
	return nil
}

// exportErasures lists the identifiers, and the receipts of their erasures.
func (s *Subjects) exportErasures(ctx context.Context, d warehouse.Driver, e *Export, p Person, given []string) error {
	rows, err := warehouse.Collect(ctx, d, "SELECT token, request_id, scope FROM sluis.erasures WHERE token IS NOT NULL ORDER BY erased_at")
	if err != nil {
		return fmt.Errorf("reading tombstones: %w", err)
	}
	requests, stands := make(map[string][]string), make(map[string]bool)
	for _, row := range rows {
		token := text(row[0])
		if stands[token] = text(row[2]) != scopeReadmitted; stands[token] {
			requests[token] = append(requests[token], text(row[1]))
		}
	}
	var suppressor *seal.Suppressor
	if len(rows) > 0 {
		if suppressor, err = seal.NewSuppressor(ctx, s.keys, s.Workspace.Workspace); err != nil {
			return err
		}
	}
	for _, pseudonym := range p.Pseudonyms {
		id := Identifier{Pseudonym: pseudonym, Kind: kindOf(pseudonym), Given: slices.Contains(given, pseudonym)}
		if suppressor != nil {
			token := suppressor.Token(pseudonym)
			id.Erased = stands[token]
			s.addReceipts(e, requests[token])
		}
		e.Identifiers = append(e.Identifiers, id)
	}
	return nil
}

func (s *Subjects) addReceipts(e *Export, requests []string) {
	for _, request := range requests {
		if slices.ContainsFunc(e.Erasures, func(r Receipt) bool { return r.Request == request }) {
			continue
		}
		r, ok := s.receiptOf(request)
		if !ok {
			r = Receipt{Request: request} // it is kept elsewhere
		}
		e.Erasures = append(e.Erasures, r)
	}
}

// Holds tells whether there is anything about the person but that they were erased.
func (e Export) Holds() bool {
	return len(e.Events)+len(e.Sealed)+len(e.Quarantine)+len(e.Consents)+len(e.Models)+len(e.Syncs)+len(e.Deliveries) > 0
}

// hidden are columns that say where a row was kept, and nothing of the person.
var hidden = []string{"spool_id", "spool_offset"}

// rowsOf reads rows by their columns; NULL is left out.
func rowsOf(ctx context.Context, d warehouse.Driver, query string, with ...any) ([]Row, error) {
	rows, err := d.Query(ctx, query, with...)
	if err != nil {
		return nil, err
	}
	columns := rows.Columns()
	values, err := warehouse.All(rows, nil)
	if err != nil {
		return nil, err
	}
	list := make([]Row, len(values))
	for i, row := range values {
		list[i] = make(Row)
		for j, name := range columns {
			if value := shown(name, row[j]); value != nil && !slices.Contains(hidden, name) {
				list[i][name] = value
			}
		}
	}
	return list, nil
}

// jsonColumns hold JSON as text.
var jsonColumns = []string{"properties", "traits", "context"}

func shown(column string, value any) any {
	switch v := value.(type) {
	case []byte:
		return base64.StdEncoding.EncodeToString(v)
	case string:
		if slices.Contains(jsonColumns, column) && json.Valid([]byte(v)) {
			return json.RawMessage(v)
		}
	case []any:
		if len(v) == 0 {
			return nil
		}
	}
	return value
}
