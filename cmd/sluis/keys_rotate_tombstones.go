package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/sluis-cdp/sluis/cmd/internal/subject"
	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/consent/seal"
)

// tombstoneRotation carries tombstones over. Their tokens are of pseudonyms that
// are nowhere else any more but in them, sealed, with their elements.
type tombstoneRotation struct {
	opener     *seal.Opener
	sealer     *seal.Sealer
	rotator    *collector.Rotator
	suppressor *seal.Suppressor
	next       map[string]nextTombstone // by the old token
}

type nextTombstone struct {
	token   string
	content subject.Carried
}

func newTombstoneRotation(ctx context.Context, keys seal.Keyring, workspace string, rotator *collector.Rotator) (*tombstoneRotation, error) {
	t := &tombstoneRotation{opener: rotator.Opener, sealer: rotator.Sealer, rotator: rotator, next: make(map[string]nextTombstone)}
	var err error
	t.suppressor, err = seal.NewSuppressor(ctx, keys, workspace)
	if errors.Is(err, seal.ErrNoKey) {
		return t, nil // nobody can have been erased without it
	}
	if err != nil {
		return nil, err
	}
	rotator.Tombstones, rotator.Tombstone = t.read, t.carry
	return t, nil
}

// read finds the next token of each tombstone. One that does not open cannot be
// carried over, and would let an erased person in again: that is an error.
func (t *tombstoneRotation) read(rows []collector.ErasureRow, keys map[string]seal.DataKey) error {
	for _, row := range rows {
		if len(row.Ciphertext) == 0 {
			continue
		}
		content, err := subject.OpenCarried(t.opener, row.Token, seal.Sealed{KeyID: row.KeyID, Ciphertext: row.Ciphertext}, keys[row.KeyID])
		if err != nil {
			return fmt.Errorf("a tombstone of request %s: %w", row.RequestID, err)
		}
		p, ok := seal.ParseToken(content.Pseudonym)
		if !ok || p.Version == t.rotator.Rotation.To() {
			continue
		}
		next, err := t.carryContent(p, content)
		if err != nil {
			return fmt.Errorf("a tombstone of request %s: %w", row.RequestID, err)
		}
		t.next[row.Token] = nextTombstone{t.suppressor.Token(next.Pseudonym), next}
	}
	return nil
}

func (t *tombstoneRotation) carryContent(p seal.Parsed, content subject.Carried) (subject.Carried, error) {
	element, err := base64.StdEncoding.DecodeString(content.Element)
	if err != nil {
		return subject.Carried{}, errors.New("its content is not as it was written")
	}
	if len(element) == 0 {
		if !p.IsAnonymousID() {
			return subject.Carried{}, seal.ErrElement
		}
		return subject.Carried{Pseudonym: t.rotator.Rotation.RandomID(p).String()}, nil
	}
	next, nextElement, err := t.rotator.Rotation.Element(p, element)
	if err != nil {
		return subject.Carried{}, err
	}
	return subject.Carried{Pseudonym: next.String(), Element: base64.StdEncoding.EncodeToString(nextElement)}, nil
}

// carry carries one row over. A row without anything sealed, which ends a
// tombstone, goes by the token that they share.
func (t *tombstoneRotation) carry(row *collector.ErasureRow) (changed bool, key *seal.DataKey, err error) {
	next, ok := t.next[row.Token]
	if !ok {
		return false, nil, nil
	}
	row.Token = next.token
	if len(row.Ciphertext) == 0 {
		return true, nil, nil
	}
	sealed, dataKey, err := subject.SealCarried(t.sealer, next.token, next.content)
	if err != nil {
		return false, nil, fmt.Errorf("sealing a tombstone: %w", err)
	}
	row.KeyID, row.Ciphertext = sealed.KeyID, sealed.Ciphertext
	return true, &dataKey, nil
}

// list adds the next tokens to the suppression list, before any row is changed,
// and takes the old ones out of it when all are.
func (t *tombstoneRotation) list(path string, done bool) error {
	if len(t.next) == 0 {
		return nil
	}
	stones, err := collector.ReadTombstones(path)
	if err != nil {
		return err
	}
	for old, next := range t.next {
		stone, ok := stones[old]
		if ok {
			stone.Token = next.token
			stones[next.token] = stone
		}
		if done {
			delete(stones, old)
		}
	}
	return collector.WriteTombstones(path, stones)
}
