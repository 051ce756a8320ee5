package subject

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/consent"
	"github.com/sluis-cdp/sluis/consent/seal"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// The scopes of rows of erasures.
const (
	scopeAll        = "all"        // a tombstone
	scopeReadmitted = "readmitted" // ends the tombstones of its token for what happens after it
)

// fieldErasure is what a tombstone's sealed content is bound to, with the token
// for a subject.
const fieldErasure = "erasure"

// Carried is what a tombstone keeps sealed for the purpose necessary, to one end:
// that a rotation of pseudonyms can make the tombstone's next token.
type Carried struct {
	Pseudonym string `json:"pseudonym"`
	Element   string `json:"element,omitempty"` // of the OPRF's group, in base64, if there is one
}

// OpenCarried opens the content of a tombstone.
func OpenCarried(opener *seal.Opener, token string, sealed seal.Sealed, key seal.DataKey) (Carried, error) {
	content, err := opener.Open(sealed, key, erasureBinding(token))
	if err != nil {
		return Carried{}, err
	}
	var c Carried
	if err := json.Unmarshal([]byte(content), &c); err != nil {
		return Carried{}, errors.New("the content of a tombstone is not as it was written") // the error would quote it
	}
	return c, nil
}

// SealCarried seals the content of a tombstone.
func SealCarried(sealer *seal.Sealer, token string, c Carried) (seal.Sealed, seal.DataKey, error) {
	content, err := json.Marshal(c)
	if err != nil {
		return seal.Sealed{}, seal.DataKey{}, err
	}
	return sealer.Seal(erasureBinding(token), string(content))
}

func erasureBinding(token string) seal.Binding {
	return seal.Binding{Purpose: string(consent.Necessary), Field: fieldErasure, Subject: token}
}

// tombstones are the rows for some pseudonyms, with the keys they are sealed with.
func (s *Subjects) tombstones(ctx context.Context, d warehouse.Driver, p *pending) (rows []collector.ErasureRow, keys []collector.SealKeyRow, err error) {
	suppressor, err := seal.NewSuppressor(ctx, s.keys, s.Workspace.Workspace)
	if err != nil {
		return nil, nil, err
	}
	sealer, err := seal.NewSealer(ctx, s.keys, s.Workspace.Workspace, []string{string(consent.Necessary)})
	if err != nil {
		return nil, nil, err
	}
	elements, err := elementsOf(ctx, d, p.Pseudonyms)
	if err != nil {
		return nil, nil, err
	}
	known := make(map[string]bool)
	for _, pseudonym := range p.Pseudonyms {
		token := suppressor.Token(pseudonym)
		sealed, key, err := SealCarried(sealer, token, Carried{Pseudonym: pseudonym, Element: base64.StdEncoding.EncodeToString(elements[pseudonym])})
		if err != nil {
			return nil, nil, fmt.Errorf("sealing a tombstone: %w", err)
		}
		rows = append(rows, collector.ErasureRow{
			RequestID: p.Request, Token: token, ErasedAt: p.At, Scope: scopeAll, KeyID: sealed.KeyID, Ciphertext: sealed.Ciphertext,
		})
		if !known[key.ID] {
			known[key.ID] = true
			keys = append(keys, collector.SealKeyRow{
				KeyID: key.ID, Purpose: key.Purpose, Recipient: key.Recipient, PSKID: key.PSKID, EncapsulatedKey: key.EncapsulatedKey, CreatedAt: key.CreatedAt,
			})
		}
	}
	return rows, keys, nil
}

// elementsOf reads the group elements of pseudonyms, where they are kept.
func elementsOf(ctx context.Context, d warehouse.Driver, pseudonyms []string) (map[string][]byte, error) {
	elements := make(map[string][]byte)
	columns, err := d.Columns(ctx, warehouse.SchemaLanding, "elements")
	if errors.Is(err, warehouse.ErrNoRelation) || err == nil && !hasColumn(columns, "element") {
		return elements, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the elements of pseudonyms: %w", err)
	}
	rows, err := warehouse.Collect(ctx, d, "SELECT pseudonym, element FROM sluis.elements WHERE pseudonym IN ("+places(len(pseudonyms))+")", args(pseudonyms)...)
	if err != nil {
		return nil, fmt.Errorf("reading the elements of pseudonyms: %w", err)
	}
	for _, row := range rows {
		if element, ok := row[1].([]byte); ok {
			elements[text(row[0])] = element
		}
	}
	return elements, nil
}

// bury lands tombstones, once, and lets every collector that shares the data
// folder know.
func (s *Subjects) bury(ctx context.Context, p *pending) error {
	if p.Sweep {
		return nil
	}
	return s.with(ctx, func(d warehouse.Driver) error {
		landed, err := warehouse.Collect(ctx, d, "SELECT COUNT(*) FROM sluis.erasures WHERE request_id = ?", p.Request)
		if err != nil {
			return fmt.Errorf("looking for tombstones: %w", err)
		}
		if n, _ := landed[0][0].(int64); n == 0 {
			rows, keys, err := s.tombstones(ctx, d, p)
			if err == nil {
				err = s.landTombstones(ctx, d, p.Request+"t", p.At, rows, keys)
			}
			if err != nil {
				return err
			}
		}
		if err := s.refresh(ctx, d, nil); err != nil {
			return err
		}
		return s.listed(ctx, p)
	})
}

// listed adds the tombstones of a request to the file: a warehouse that was opened
// before they landed does not show them.
func (s *Subjects) listed(ctx context.Context, p *pending) error {
	suppressor, err := seal.NewSuppressor(ctx, s.keys, s.Workspace.Workspace)
	if err != nil {
		return err
	}
	path := s.Workspace.Suppressed()
	stones, err := collector.ReadTombstones(path)
	if err != nil {
		return err
	}
	for _, pseudonym := range p.Pseudonyms {
		token := suppressor.Token(pseudonym)
		stones[token] = collector.Tombstone{Token: token, ErasedAt: p.At}
	}
	return collector.WriteTombstones(path, stones)
}

// landTombstones appends rows of erasures and the keys of what is sealed in them,
// which come first.
func (s *Subjects) landTombstones(ctx context.Context, d warehouse.Driver, name string, at time.Time, rows []collector.ErasureRow, keys []collector.SealKeyRow) (err error) {
	if sink, ok := s.embedded(); ok {
		leave, err := sink.Alone(ctx)
		if err != nil {
			return err
		}
		err = sink.Tombstones(name, at, rows, collector.Rows{SealKeys: keys})
		return errors.Join(err, leave())
	}
	if len(keys) > 0 {
		values := make([][]any, len(keys))
		for i, k := range keys {
			values[i] = []any{k.KeyID, k.Purpose, k.Recipient, k.PSKID, k.EncapsulatedKey, k.CreatedAt.UTC()}
		}
		if err := d.Append(ctx, warehouse.SchemaLanding, "seal_keys",
			[]string{"key_id", "purpose", "recipient", "psk_id", "encapsulated_key", "created_at"}, values); err != nil {
			return fmt.Errorf("landing the keys of tombstones: %w", err)
		}
	}
	values := make([][]any, len(rows))
	for i, r := range rows {
		values[i] = []any{r.RequestID, r.Token, r.ErasedAt.UTC(), r.Scope, orNull(r.KeyID), r.Ciphertext}
	}
	if err := d.Append(ctx, warehouse.SchemaLanding, "erasures",
		[]string{"request_id", "token", "erased_at", "scope", "key_id", "ciphertext"}, values); err != nil {
		return fmt.Errorf("landing tombstones: %w", err)
	}
	return nil
}

func orNull(text string) any {
	if text == "" {
		return nil
	}
	return text
}

// Tombstones are all that the warehouse has, by token.
func Tombstones(ctx context.Context, d warehouse.Driver) (map[string]collector.Tombstone, error) {
	stones := make(map[string]collector.Tombstone)
	rows, err := warehouse.Collect(ctx, d, "SELECT token, erased_at, scope FROM sluis.erasures WHERE token IS NOT NULL ORDER BY erased_at")
	if err != nil {
		return nil, fmt.Errorf("reading tombstones: %w", err)
	}
	for _, row := range rows {
		token := text(row[0])
		at, _ := row[1].(time.Time)
		stone, known := stones[token]
		switch {
		case text(row[2]) != scopeReadmitted:
			stone = collector.Tombstone{Token: token, ErasedAt: at}
		case known:
			stone.Readmitted = at
		default:
			continue
		}
		stones[token] = stone
	}
	return stones, nil
}

// refresh writes the file of tombstones as the warehouse has them, and others. What
// is in the file alone stays: another machine may have written it.
func (s *Subjects) refresh(ctx context.Context, d warehouse.Driver, more map[string]collector.Tombstone) error {
	stones, err := Tombstones(ctx, d)
	if err != nil {
		return err
	}
	path := s.Workspace.Suppressed()
	there, err := collector.ReadTombstones(path)
	if err != nil {
		return err
	}
	before := string(collector.FormatTombstones(there))
	for _, from := range []map[string]collector.Tombstone{more, stones} {
		for token, stone := range from {
			if known, ok := there[token]; !ok || newer(stone, known) {
				there[token] = stone
			}
		}
	}
	if len(there) == 0 || string(collector.FormatTombstones(there)) == before {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("writing the suppression list: %w", err)
	}
	return collector.WriteTombstones(path, there)
}

// newer tells whether more is known by a. A warehouse that was opened before a row
// landed does not show it.
func newer(a, b collector.Tombstone) bool {
	if a.ErasedAt.Equal(b.ErasedAt) {
		return a.Readmitted.After(b.Readmitted)
	}
	return a.ErasedAt.After(b.ErasedAt)
}

// Readmit lets a person be known again by identifiers that were erased, for what
// happens from now on. It is for who was asked to by the person, anew: nothing
// that a client sends does it. It tells how many of the identifiers were erased.
//
// Their profile gets another id than it had: who kept the old one, as in a copy of
// an audience, does not find the person again.
func (s *Subjects) Readmit(ctx context.Context, g Given) (readmitted int, err error) {
	given, err := s.pseudonymsOf(ctx, g)
	if err != nil {
		return 0, err
	}
	leave, err := s.alone(ctx, true)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, leave()) }()
	err = s.with(ctx, func(d warehouse.Driver) error {
		stones, err := Tombstones(ctx, d)
		if err != nil || len(stones) == 0 {
			return err
		}
		suppressor, err := seal.NewSuppressor(ctx, s.keys, s.Workspace.Workspace)
		if err != nil {
			return err
		}
		request, now := newRequest(), s.Now().UTC().Truncate(time.Microsecond)
		var rows []collector.ErasureRow
		var names []collector.ProfileNameRow
		for _, pseudonym := range given {
			token := suppressor.Token(pseudonym)
			if stone, ok := stones[token]; ok && stone.Readmitted.IsZero() {
				rows = append(rows, collector.ErasureRow{RequestID: request, Token: token, ErasedAt: now, Scope: scopeReadmitted})
				names = append(names, collector.ProfileNameRow{Pseudonym: pseudonym, ProfileID: newProfile(), ReceivedAt: now})
				stone.Readmitted = now
				stones[token] = stone
			}
		}
		if readmitted = len(rows); readmitted == 0 {
			return nil
		}
		if err := s.landNames(ctx, d, request, now, names); err != nil {
			return err
		}
		if err := s.landTombstones(ctx, d, request+"r", now, rows, nil); err != nil {
			return err
		}
		return s.refresh(ctx, d, stones)
	})
	return readmitted, err
}

// newProfile is an id of a profile that nothing can be told from.
func newProfile() string {
	var random [12]byte
	_, _ = rand.Read(random[:]) // it never fails
	return "pr_" + hex.EncodeToString(random[:])
}

// landNames lands what profiles are called, by the pseudonyms of their founders.
func (s *Subjects) landNames(ctx context.Context, d warehouse.Driver, request string, at time.Time, names []collector.ProfileNameRow) error {
	if sink, ok := s.embedded(); ok {
		leave, err := sink.Alone(ctx)
		if err != nil {
			return err
		}
		err = sink.ProfileNames(request, at, names)
		return errors.Join(err, leave())
	}
	values := make([][]any, len(names))
	for i, n := range names {
		values[i] = []any{n.Pseudonym, n.ProfileID, n.ReceivedAt}
	}
	return wrapped("landing the names of profiles", d.Append(ctx, warehouse.SchemaLanding, "profile_names", []string{"pseudonym", "profile_id", "received_at"}, values))
}
