package seal

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"

	lru "github.com/hashicorp/golang-lru/v2"
)

// Pseudonym is the only form in which an identifier lands. The zero value
// stands for "none". It prints as a placeholder, so that it does not slip into
// logs; [Pseudonym.Token] gives the text that is stored.
type Pseudonym struct {
	token   string
	element string // encoded; empty for a random id's
}

// Token returns the text that is stored: the kind's two letters, the key
// version, and 128 bits in hexadecimal, such as "em1_6f0c…". Empty for none.
func (p Pseudonym) Token() string { return p.token }

// Element is the group element of which the token is a hash: by it the pseudonym
// can be carried over to another key without the identifier. It says as little
// of the identifier as the token does. nil for a random id, which needs none.
func (p Pseudonym) Element() []byte {
	if p.element == "" {
		return nil
	}
	return []byte(p.element)
}

// IsZero tells whether there is no pseudonym.
func (p Pseudonym) IsZero() bool { return p.token == "" }

// String and GoString hide the token.
func (p Pseudonym) String() string   { return "[pseudonym]" }
func (p Pseudonym) GoString() string { return "[pseudonym]" }

var prefixes = map[Kind]string{Email: "em", Phone: "ph", UserID: "us", AnonymousID: "an", GroupID: "gr"}

// Pseudonymizer makes pseudonyms. All its methods may be called concurrently.
//
// Identifiers that can be guessed go through the OPRF of RFC 9497 (ristretto255,
// SHA-512), up to the evaluated group element; the token is a hash of that element
// and not of RFC 9497's final output, which contains the input and could not be
// carried over to a new key.
//
// Who has the OPRF's key is the mode. The same pseudonym comes out of each.
//
//   - Local: this process. Whoever has only the warehouse cannot guess. Whoever
//     has this key can, at the price of a group operation for each guess.
//   - Remote: a service, which is asked with blinded elements and learns nothing.
//     Whoever has all keys of this process can guess only by asking the service,
//     as often as that allows.
//   - Split: this process and the service have a half each. As remote, and the
//     service's half alone is of no use either.
//
// Ids that a machine made at random hold nothing to guess, and need no service:
// their token is AES-128 of a block, under a key of this version, of 128 bits
// of an HMAC, under a key of all versions ([KeyIDs]). The HMAC is one-way, so
// that no key leads back to the id; the permutation can be exchanged for that of
// a new key without the id. Who has the old keys, and a random id, still cannot
// tell its token under a key that they do not have.
type Pseudonymizer struct {
	workspace string
	region    string
	version   int
	oprf      oprfKey
	ids       *keyedHash   // of ids made at random
	permute   cipher.Block // of ids, by version
	token     *keyedHash   // of values
	lookup    *keyedHash   // for the cache, so that it holds no identifiers; its key is of this process
	cache     *lru.Cache[[32]byte, Pseudonym]
	hits      atomic.Int64
	misses    atomic.Int64
}

// CacheStats tell how the cache of pseudonyms is doing.
type CacheStats struct {
	Hits, Misses int64 // since the start
	Entries      int
}

// Cache may be called at any time.
func (p *Pseudonymizer) Cache() CacheStats {
	return CacheStats{Hits: p.hits.Load(), Misses: p.misses.Load(), Entries: p.cache.Len()}
}

// cached bounds the memory of the cache to about 20 MiB.
const cached = 1 << 16

// Mode says who has the key of the OPRF.
type Mode string

// The modes; see [Pseudonymizer].
const (
	Local  Mode = "local"
	Remote Mode = "remote"
	Split  Mode = "split"
)

// Service says how to make pseudonyms with a service. The zero value is local
// mode.
type Service struct {
	Mode      Mode
	Evaluator Evaluator
	// PublicKey of the service, encoded. Each of its answers is then verified, for
	// about thrice the price; nil takes them as they are.
	PublicKey []byte
}

// NewPseudonymizer makes pseudonyms in local mode. It loads the newest version of
// its keys. Pseudonyms of different workspaces never match. region is where phone
// numbers without a country prefix belong; empty if unknown.
func NewPseudonymizer(ctx context.Context, keys Keyring, workspace, region string) (*Pseudonymizer, error) {
	return NewServedPseudonymizer(ctx, keys, workspace, region, Service{Mode: Local})
}

// NewServedPseudonymizer makes pseudonyms in any mode. It loads no key that the
// mode does not need: in remote mode the keyring should not have the OPRF's.
func NewServedPseudonymizer(ctx context.Context, keys Keyring, workspace, region string, service Service) (*Pseudonymizer, error) {
	versions, err := Versions(ctx, keys, KeyTokens)
	if err != nil {
		return nil, fmt.Errorf("loading the keys of pseudonyms: %w", err)
	}
	if len(versions) == 0 {
		versions = []int{1} // to be told where it was looked for
	}
	return pseudonymizerOf(ctx, keys, workspace, region, service, versions[len(versions)-1])
}

func pseudonymizerOf(ctx context.Context, keys Keyring, workspace, region string, service Service, version int) (*Pseudonymizer, error) {
	p := &Pseudonymizer{workspace: workspace, region: region, version: version, lookup: newKeyedHash(randomKey())}
	var err error
	if p.oprf, err = newOPRFKey(ctx, keys, service, version); err != nil {
		return nil, err
	}
	ids, err := keys.Key(ctx, KeyIDs)
	if err != nil {
		return nil, fmt.Errorf("loading the keys of pseudonyms: %w", err)
	}
	seed, err := keys.Key(ctx, Version(KeyTokens, version))
	if err != nil {
		return nil, fmt.Errorf("loading the keys of pseudonyms: %w", err)
	}
	if len(seed) != 32 || len(ids) != 32 {
		return nil, fmt.Errorf("loading the keys of pseudonyms: %s and %s must have 32 bytes each", Version(KeyTokens, version), KeyIDs)
	}
	p.ids = newKeyedHash(ids)
	if p.permute, err = permutation(seed); err != nil {
		return nil, err
	}
	if p.token, err = derive(seed, "sluis/value-token/v1"); err != nil {
		return nil, err
	}
	p.cache, err = lru.New[[32]byte, Pseudonym](cached)
	return p, err
}

func newOPRFKey(ctx context.Context, keys Keyring, service Service, version int) (oprfKey, error) {
	k := oprfKey{service: service.Evaluator, version: version}
	var err error
	switch service.Mode {
	case Local, "":
		k.service = nil
		k.scalar, err = wholeKey(ctx, keys, version)
		return k, err
	case Remote:
	case Split:
		if k.scalar, err = half(ctx, keys, Version(KeyPseudonymEdge, version)); err != nil {
			return k, err
		}
	default:
		return k, fmt.Errorf("there is no mode %q of pseudonyms", service.Mode)
	}
	if k.service == nil {
		return k, fmt.Errorf("the mode %s of pseudonyms needs a service", service.Mode)
	}
	if service.PublicKey != nil {
		if k.public, err = parseElement(service.PublicKey); err != nil {
			return k, fmt.Errorf("reading the public key of the pseudonym service: %w", err)
		}
	}
	return k, nil
}

// permutation is the one of random ids under a version's seed.
func permutation(seed []byte) (cipher.Block, error) {
	key, err := hkdf.Key(sha256.New, seed, nil, "sluis/random-id/v1", 16)
	if err != nil {
		return nil, fmt.Errorf("deriving a key: %w", err)
	}
	return aes.NewCipher(key)
}

func derive(seed []byte, info string) (*keyedHash, error) {
	key, err := hkdf.Key(sha256.New, seed, nil, info, 32)
	if err != nil {
		return nil, fmt.Errorf("deriving a key: %w", err)
	}
	return newKeyedHash(key), nil
}

// IsLocal tells whether the key is at hand, so that nothing ever waits for a
// service.
func (p *Pseudonymizer) IsLocal() bool { return p.oprf.isLocal() }

// Version is the version of the keys in use.
func (p *Pseudonymizer) Version() int { return p.version }

// IsUUID tells whether an id has the form of a UUID (RFC 9562) with a version
// and variant, as the random ids that SDKs make for visitors and messages have.
func IsUUID(id string) bool {
	if len(id) != 36 || id[14] < '1' || id[14] > '8' || strings.IndexByte("89abAB", id[19]) < 0 {
		return false
	}
	for i := range len(id) {
		c := id[i]
		if dash := i == 8 || i == 13 || i == 18 || i == 23; dash {
			if c != '-' {
				return false
			}
			continue
		}
		if c |= 0x20; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// Pseudonym is a [Batch] of one. In remote and split mode it may wait for the
// service, as long as the Evaluator allows.
func (p *Pseudonymizer) Pseudonym(kind Kind, value string) (Pseudonym, error) {
	b := p.Batch()
	made, err := b.Pseudonym(kind, value)
	if err != nil || !b.Lacks() {
		return made, err
	}
	if err := b.Fetch(context.Background()); err != nil {
		return Pseudonym{}, err
	}
	return b.Pseudonym(kind, value)
}

// randomID is the pseudonym of an id that a machine made at random.
func (p *Pseudonymizer) randomID(kind Kind, value string) Pseudonym {
	sum := p.ids.sum("sluis/pid/v1", p.workspace, string(kind), normVersion, value)
	p.permute.Encrypt(sum[:aes.BlockSize], sum[:aes.BlockSize])
	return newPseudonym(kind, p.version, sum[:], nil)
}

// ofElement is the pseudonym of an identifier that was evaluated.
func ofElement(kind Kind, version int, element []byte) Pseudonym {
	sum := sha512.Sum512(join("sluis/pid/v1", string(kind), string(element)))
	return newPseudonym(kind, version, sum[:], element)
}

func newPseudonym(kind Kind, version int, sum, element []byte) Pseudonym {
	return Pseudonym{prefixes[kind] + strconv.Itoa(version) + "_" + hex.EncodeToString(sum[:16]), string(element)}
}

// Lookup is a keyed digest of several texts that only this process can repeat:
// the key of what it remembers of personal values.
func (p *Pseudonymizer) Lookup(parts ...string) [32]byte { return p.lookup.sum(parts...) }
