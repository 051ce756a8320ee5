package subject

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sluis-cdp/sluis/consent/record"
	"github.com/sluis-cdp/sluis/consent/seal"
)

// receiptFormat is the only one that there is so far.
const receiptFormat = "sluis-erasure-receipt/1"

// receiptContext keeps a signature of a receipt from being one of anything else.
const receiptContext = "sluis/erasure-receipt/v1\x00"

// Receipt is the proof of an erasure, signed with the workspace's key of rights.
// It says nothing by which the person could be found.
type Receipt struct {
	Format      string    `json:"format"`
	Workspace   string    `json:"workspace"`
	Request     string    `json:"request_id"`
	RequestedAt time.Time `json:"requested_at"`
	CompletedAt time.Time `json:"completed_at"`
	Warehouse   string    `json:"warehouse"`
	// Identifiers is how many were erased, and are kept out from now on.
	Identifiers int `json:"identifiers"`
	// Deleted is how many rows there were, by table.
	Deleted map[string]int64 `json:"deleted"`
	// Destinations are those that had been sent something.
	Destinations []Destination `json:"destinations"`
	// IrrecoverableAt is from when on nobody can bring it back, and why then.
	IrrecoverableAt time.Time `json:"irrecoverable_at"`
	Because         string    `json:"irrecoverable_because"`
	// Remains is what this could not reach, in sentences.
	Remains   []string `json:"remains"`
	PublicKey []byte   `json:"public_key"` // Ed25519
	Signature []byte   `json:"signature"`
}

// Destination is what became of a person at one.
type Destination struct {
	Sync        string  `json:"sync"`
	Destination string  `json:"destination"`
	Outcome     Outcome `json:"outcome"`
	Removed     int64   `json:"removed"`
}

// Outcome is how it ended at a destination.
type Outcome string

// The outcomes.
const (
	OutcomeRemoved      Outcome = "removed"
	OutcomeNotThere     Outcome = "not_there"     // nothing of them was there any more
	OutcomeCannotRemove Outcome = "cannot_remove" // to be removed by hand
	OutcomeUndeclared   Outcome = "undeclared"    // the sync is no longer declared: to be removed by hand
)

// signed is what the signature is over.
func (r Receipt) signed() ([]byte, error) {
	r.Signature = nil
	content, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encoding the receipt: %w", err)
	}
	return append([]byte(receiptContext), content...), nil
}

func (s *Subjects) rightsKey(ctx context.Context) (ed25519.PrivateKey, error) {
	seed, err := s.keys.Key(ctx, seal.KeyRights)
	if err != nil {
		return nil, fmt.Errorf("loading the key that signs erasures: %w", err)
	}
	if len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("loading the key that signs erasures: it has %d bytes, want %d", len(seed), ed25519.SeedSize)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// recordKey is the same key, as it signs husks of choices.
func (s *Subjects) recordKey(ctx context.Context) (record.Key, error) {
	seed, err := s.keys.Key(ctx, seal.KeyRights)
	if err != nil {
		return record.Key{}, fmt.Errorf("loading the key that signs erasures: %w", err)
	}
	return record.NewKey(seed)
}

// sign completes a receipt and writes it down.
func (s *Subjects) sign(ctx context.Context, r Receipt) (Receipt, error) {
	key, err := s.rightsKey(ctx)
	if err != nil {
		return r, err
	}
	r.PublicKey = key.Public().(ed25519.PublicKey)
	content, err := r.signed()
	if err != nil {
		return r, err
	}
	r.Signature = ed25519.Sign(key, content)
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return r, fmt.Errorf("encoding the receipt: %w", err)
	}
	return r, writeFile(s.ReceiptPath(r.Request), append(text, '\n'))
}

// ReceiptPath is the file of a request's receipt.
func (s *Subjects) ReceiptPath(request string) string {
	return filepath.Join(s.Workspace.Erasures(), request+".receipt.json")
}

// ErrReceipt says that a receipt is not what was signed.
var ErrReceipt = errors.New("the receipt does not verify")

// PublicKey is the public half of the workspace's key of rights.
func (s *Subjects) PublicKey(ctx context.Context) (ed25519.PublicKey, error) {
	key, err := s.rightsKey(ctx)
	if err != nil {
		return nil, err
	}
	return key.Public().(ed25519.PublicKey), nil
}

// Verify reads a receipt and holds it against a public key. The error is an
// [ErrReceipt] if anything in it was changed, or another key signed it.
func Verify(text []byte, key ed25519.PublicKey) (Receipt, error) {
	var r Receipt
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&r); err != nil || decoder.More() {
		return Receipt{}, fmt.Errorf("%w: it is no receipt, or was added to", ErrReceipt)
	}
	content, err := r.signed()
	switch {
	case err != nil:
		return Receipt{}, err
	case r.Format != receiptFormat:
		return Receipt{}, fmt.Errorf("%w: it is not of the format %s", ErrReceipt, receiptFormat)
	case !bytes.Equal(r.PublicKey, key):
		return Receipt{}, fmt.Errorf("%w: another key signed it (%s)", ErrReceipt, base64.StdEncoding.EncodeToString(r.PublicKey))
	case !ed25519.Verify(key, content, r.Signature):
		return Receipt{}, fmt.Errorf("%w: it was changed after it was signed", ErrReceipt)
	}
	return r, nil
}

// receiptOf reads a receipt that is there; ok is false if there is none.
func (s *Subjects) receiptOf(request string) (r Receipt, ok bool) {
	text, err := os.ReadFile(s.ReceiptPath(request))
	if err != nil || json.Unmarshal(text, &r) != nil {
		return Receipt{}, false
	}
	return r, true
}
