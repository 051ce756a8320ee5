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
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Keyring gives out key material by name. [Folder] keeps it on disk; a secret
// manager can implement the same two methods.
//
// Both may be called concurrently and repeatedly. Key returns the same bytes for
// a name each time, or [ErrNoKey]; the caller does not change them. Names lists
// all that Key knows, in any order.
type Keyring interface {
	Key(ctx context.Context, name string) ([]byte, error)
	Names(ctx context.Context) ([]string, error)
}

// ErrNoKey is returned for a name that the keyring does not have.
var ErrNoKey = errors.New("no such key")

// Names of the keys in a keyring, in their first version; see [Version].
const (
	KeyEdge     = "edge"     // 32 bytes, the HPKE pre-shared key of the collectors
	KeyCookie   = "cookie"   // 32 bytes, signs the cookies of consent and identity
	KeySuppress = "suppress" // 32 bytes, makes the tokens of erased people
	KeyRights   = "rights"   // 32 bytes, the Ed25519 seed that signs erasures
	KeyRecord   = "record"   // 32 bytes, the Ed25519 seed that signs the record of consent

	// The keys of pseudonyms; see [Pseudonymizer].
	KeyPseudonym        = "pseudonym"         // 32 bytes, from which the OPRF key is derived
	KeyPseudonymEdge    = "pseudonym.edge"    // the collector's half of a split OPRF key: a scalar
	KeyPseudonymService = "pseudonym.service" // the service's half; their product is the key
	KeyTokens           = "pseudonym-tokens"  // 32 bytes, the collector's own in every mode; nothing can be guessed with it
	KeyIDs              = "pseudonym-ids"     // 32 bytes, of random ids; there is but one version of it
)

// secrets are the keys of 32 random bytes that every keyring has, and who needs
// them. One that is not listed stays inside.
var secrets = []secret{
	{KeyPseudonym, HeldByCollector},
	{KeyTokens, HeldByCollector},
	{KeyIDs, HeldByCollector},
	{KeyEdge, HeldByBoth},
	{KeyCookie, HeldByCollector},
	{KeySuppress, HeldByBoth},
	{KeyRights, HeldInside},
	{KeyRecord, HeldByBoth}, // inside to verify
}

type secret struct {
	name    string
	holders Holders
}

// holdersOf tells who needs a key, by its name without the version.
func holdersOf(key string) Holders {
	if _, public := purposeOf(key, keyPublic); public {
		return HeldByCollector
	}
	if key == KeyPseudonymEdge {
		return HeldByCollector
	}
	for _, s := range secrets {
		if s.name == key {
			return s.holders
		}
	}
	return HeldInside
}

// KeyPublic and KeyPrivate name the two halves of a purpose's key pair.
func KeyPublic(purpose string) string  { return keyPurpose + purpose + keyPublic }
func KeyPrivate(purpose string) string { return keyPurpose + purpose + keyPrivate }

const (
	keyPurpose = "purpose-"
	keyPublic  = ".public"
	keyPrivate = ".private"
)

// Version names a version of a key: the first has the key's own name, later ones
// that and their number, such as "cookie-2". The highest that a keyring has is
// in use; earlier ones open and verify what was made with them.
func Version(name string, version int) string {
	if version <= 1 {
		return name
	}
	return name + "-" + strconv.Itoa(version)
}

var versionedName = regexp.MustCompile(`^(.+)-([2-9]|[1-9][0-9]{1,5})$`)

// SplitVersion takes the name of a version apart.
func SplitVersion(name string) (key string, version int) {
	parts := versionedName.FindStringSubmatch(name)
	if parts == nil {
		return name, 1
	}
	version, _ = strconv.Atoi(parts[2]) // at most six digits
	return parts[1], version
}

// Versions lists the versions of a key that a keyring has, in ascending order.
func Versions(ctx context.Context, keys Keyring, name string) ([]int, error) {
	all, err := keys.Names(ctx)
	if err != nil {
		return nil, err
	}
	var versions []int
	for _, one := range all {
		if key, version := SplitVersion(one); key == name {
			versions = append(versions, version)
		}
	}
	slices.Sort(versions)
	return versions, nil
}

// Every gives all versions of a key, the one in use first. There is at least one,
// or the error is [ErrNoKey].
func Every(ctx context.Context, keys Keyring, name string) ([][]byte, error) {
	versions, err := Versions(ctx, keys, name)
	if err != nil {
		return nil, err
	}
	if len(versions) == 0 {
		_, err := keys.Key(ctx, name) // says where it was looked for, and what to do
		return nil, cmp.Or(err, ErrNoKey)
	}
	var every [][]byte
	for _, version := range slices.Backward(versions) {
		key, err := keys.Key(ctx, Version(name, version))
		if err != nil {
			return nil, err
		}
		every = append(every, key)
	}
	return every, nil
}

// inUse is the latest version of a key.
func inUse(ctx context.Context, keys Keyring, name string) ([]byte, error) {
	versions, err := Versions(ctx, keys, name)
	if err != nil {
		return nil, err
	}
	if len(versions) > 0 {
		name = Version(name, versions[len(versions)-1])
	}
	return keys.Key(ctx, name)
}

// keyID names a key by a digest of it.
func keyID(key []byte) string {
	sum := sha256.Sum256(append([]byte("sluis/key-id/v1"), key...))
	return hex.EncodeToString(sum[:8])
}

// identify is the id of a key as rows and listings have it. Both halves of a key
// pair have that of the public one.
func identify(name string, key []byte) (string, error) {
	if purpose, private := purposeOf(name, keyPrivate); private {
		_, id, err := parsePrivate(purpose, key)
		return id, err
	}
	return keyID(key), nil
}

// purposeOf is the purpose that a key with such an ending belongs to.
func purposeOf(name, ending string) (purpose string, ok bool) {
	name, _ = SplitVersion(name)
	name, ok = strings.CutPrefix(name, keyPurpose)
	if !ok {
		return "", false
	}
	return strings.CutSuffix(name, ending)
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
