// Package seal turns what identifies a person into forms that may be written
// down: a [Pseudonym], the keyed one-way token of an identifier, and a
// [Sealed] value, ciphertext that only the private key of one purpose opens.
//
// A raw value cannot be put where a Pseudonym or Sealed is expected, and both
// print as a placeholder. The rights follow the keys: the collector has the
// pseudonym key, the public purpose keys and a pre-shared key; opening needs
// the private purpose keys, which the collector never loads.
package seal

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cloudflare/circl/hpke"
)

// Keyring gives out key material by name. [Dir] keeps it on disk; a cloud KMS
// or secret manager can implement the same method.
//
// Key may be called concurrently and repeatedly, and returns the same bytes
// for a name each time. A name that is not there is [ErrNoKey].
type Keyring interface {
	Key(ctx context.Context, name string) ([]byte, error)
}

// ErrNoKey is returned for a name that the keyring does not have.
var ErrNoKey = errors.New("no such key")

// Names of the keys in a keyring.
const (
	KeyPseudonym = "pseudonym" // 32 bytes from which the OPRF key and the digest keys are derived
	KeyEdge      = "edge"      // 32 bytes, the HPKE pre-shared key of the collectors
	KeyCookie    = "cookie"    // 32 bytes, signs the consent cookie
	KeySuppress  = "suppress"  // 32 bytes, makes the tokens of erased people; collectors hold it
	KeyRights    = "rights"    // 32 bytes, the Ed25519 seed that signs erasures; only sluis holds it
)

// KeyPublic and KeyPrivate name the two halves of a purpose's key pair.
func KeyPublic(purpose string) string  { return "purpose-" + purpose + ".public" }
func KeyPrivate(purpose string) string { return "purpose-" + purpose + ".private" }

// Dir is a Keyring on disk: a folder with one file per key, mode 0600, each a
// line "sluis-key-v1 <name> <base64>".
type Dir string

const keyHeader = "sluis-key-v1"

// Key reads one key file.
func (d Dir) Key(_ context.Context, name string) ([]byte, error) {
	path := filepath.Join(string(d), name)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w: run `sluis init` for a new workspace, or restore the keys folder from its backup", path, ErrNoKey)
	}
	if err != nil {
		return nil, fmt.Errorf("reading a key: %w", err)
	}
	fields := strings.Fields(string(text))
	if len(fields) != 3 || fields[0] != keyHeader || fields[1] != name {
		return nil, fmt.Errorf("%s: not a key file for %q: want one line %q; restore it from its backup", path, name, keyHeader+" "+name+" <base64>")
	}
	key, err := base64.StdEncoding.DecodeString(fields[2])
	if err != nil {
		return nil, fmt.Errorf("%s: damaged key: restore it from its backup", path)
	}
	return key, nil
}

// Add stores a key under a new name. It never replaces one: a key that is lost
// takes with it everything it sealed.
func (d Dir) Add(name string, key []byte) error {
	path := filepath.Join(string(d), name)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("adding a key: %w", err)
	}
	_, err = fmt.Fprintf(f, "%s %s %s\n", keyHeader, name, base64.StdEncoding.EncodeToString(key))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("writing key %s: %w", path, err)
	}
	return nil
}

// Generate makes a new keyring in d, which must not exist or be empty: the
// secrets of the collector and a key pair for each purpose.
func Generate(d Dir, purposes []string) error {
	if entries, err := os.ReadDir(string(d)); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s: the keys folder is not empty; keys are never overwritten", d)
	}
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return fmt.Errorf("making the keys folder: %w", err)
	}
	for _, name := range []string{KeyPseudonym, KeyEdge, KeyCookie, KeySuppress, KeyRights} {
		if err := d.Add(name, randomKey()); err != nil {
			return err
		}
	}
	for _, purpose := range purposes {
		public, private, err := hpke.KEM_XWING.Scheme().GenerateKeyPair()
		if err != nil {
			return fmt.Errorf("making the key pair of purpose %s: %w", purpose, err)
		}
		pub, err := public.MarshalBinary()
		if err != nil {
			return fmt.Errorf("encoding the public key of purpose %s: %w", purpose, err)
		}
		priv, err := private.MarshalBinary()
		if err != nil {
			return fmt.Errorf("encoding the private key of purpose %s: %w", purpose, err)
		}
		if err := errors.Join(d.Add(KeyPublic(purpose), pub), d.Add(KeyPrivate(purpose), priv)); err != nil {
			return err
		}
	}
	return nil
}

// Ensure adds 32 random bytes under a name that the keyring does not have yet,
// as one made by an earlier version. It tells whether it did.
func (d Dir) Ensure(ctx context.Context, name string) (added bool, err error) {
	if _, err := d.Key(ctx, name); !errors.Is(err, ErrNoKey) {
		return false, err
	}
	return true, d.Add(name, randomKey())
}

// randomKey returns 32 random bytes; rand.Read never fails.
func randomKey() []byte {
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	return key
}

// join encodes a tuple of strings so that no two tuples share an encoding:
// each part is preceded by its length.
func join(parts ...string) []byte {
	size := 0
	for _, part := range parts {
		size += 4 + len(part)
	}
	return appendJoined(make([]byte, 0, size), parts...)
}

func appendJoined(b []byte, parts ...string) []byte {
	for _, part := range parts {
		b = binary.BigEndian.AppendUint32(b, uint32(len(part)))
		b = append(b, part...)
	}
	return b
}
