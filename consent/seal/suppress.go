package seal

import (
	"context"
	"encoding/hex"
	"fmt"
)

// Suppressor makes the tokens by which an erased person is recognised and kept
// out. They are a namespace of their own, under [KeySuppress]: a list of them
// can be joined to nothing, so that it does not link again what was erased.
// Whoever has a pseudonym and the key can tell whether it is on the list; that
// is its purpose. Its methods may be called concurrently.
type Suppressor struct {
	workspace string
	hash      *keyedHash
}

// NewSuppressor loads [KeySuppress].
func NewSuppressor(ctx context.Context, keys Keyring, workspace string) (*Suppressor, error) {
	key, err := keys.Key(ctx, KeySuppress)
	if err != nil {
		return nil, fmt.Errorf("loading the key of the suppression list: %w", err)
	}
	if len(key) != 32 {
		return nil, fmt.Errorf("loading the key of the suppression list: it has %d bytes, want 32", len(key))
	}
	return &Suppressor{workspace: workspace, hash: newKeyedHash(key)}, nil
}

// Token is the suppression token of a pseudonym's token: "su1_" and 128 bits in
// hexadecimal.
func (s *Suppressor) Token(pseudonym string) string {
	sum := s.hash.sum("sluis/suppress/v1", s.workspace, pseudonym)
	return "su1_" + hex.EncodeToString(sum[:16])
}
