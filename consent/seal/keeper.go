package seal

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// KeyRemovals is 32 bytes, the key of a [Keeper]. It is made when it is first
// needed, and stays inside.
const KeyRemovals = "removals"

// keptPrefix begins what a Keeper sealed, before the key's id.
const keptPrefix = "rm1:"

// Keeper seals what is needed to take somebody out of an outside system later,
// and for nothing else: purposes' keys do not open it, since they may be gone
// by then, and it opens nothing that is sealed for a purpose. It is AES-256-GCM
// with random nonces, of which a key is good for 2^32. Its methods may be called
// concurrently.
type Keeper struct {
	workspace string
	inUse     string
	keys      map[string]cipher.AEAD // by id
}

// NewKeeper loads [KeyRemovals], all versions: it seals with the latest.
func NewKeeper(ctx context.Context, keys Keyring, workspace string) (*Keeper, error) {
	every, err := Every(ctx, keys, KeyRemovals)
	if err != nil {
		return nil, fmt.Errorf("loading the key of removals: %w", err)
	}
	k := &Keeper{workspace: workspace, inUse: keyID(every[0]), keys: map[string]cipher.AEAD{}}
	for _, key := range every {
		if len(key) != 32 {
			return nil, fmt.Errorf("loading the key of removals: it has %d bytes, want 32", len(key))
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, fmt.Errorf("loading the key of removals: %w", err)
		}
		if k.keys[keyID(key)], err = cipher.NewGCMWithRandomNonce(block); err != nil {
			return nil, fmt.Errorf("loading the key of removals: %w", err)
		}
	}
	return k, nil
}

// Seal seals a value such that it opens for this workspace, sync and key alone.
func (k *Keeper) Seal(sync, key, value string) string {
	sealed := k.keys[k.inUse].Seal(nil, nil, []byte(value), k.binding(k.inUse, sync, key))
	return keptPrefix + k.inUse + ":" + base64.RawStdEncoding.EncodeToString(sealed)
}

// Open opens what Seal returned for the same sync and key.
func (k *Keeper) Open(sync, key, sealed string) (string, error) {
	rest, ok := strings.CutPrefix(sealed, keptPrefix)
	id, text, cut := strings.Cut(rest, ":")
	if !ok || !cut {
		return "", errors.New("open what a removal needs: it has no such form")
	}
	aead := k.keys[id]
	if aead == nil {
		return "", fmt.Errorf("open what a removal needs: the key %s with the id %s: %w", KeyRemovals, id, ErrNoKey)
	}
	ciphertext, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return "", errors.New("open what a removal needs: it has no such form")
	}
	value, err := aead.Open(nil, nil, ciphertext, k.binding(id, sync, key))
	if err != nil {
		return "", errors.New("open what a removal needs: it is damaged, or of another workspace, sync or key")
	}
	return string(value), nil
}

func (k *Keeper) binding(id, sync, key string) []byte {
	return join("sluis/removals/v1", k.workspace, id, sync, key)
}
