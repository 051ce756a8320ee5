package seal

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/cloudflare/circl/group"
	"github.com/cloudflare/circl/oprf"
	lru "github.com/hashicorp/golang-lru/v2"
)

// Pseudonym is the only form in which an identifier lands. The zero value
// stands for "none". It prints as a placeholder, so that it does not slip into
// logs; [Pseudonym.Token] gives the text that is stored.
type Pseudonym struct{ token string }

// Token returns the text that is stored: the kind's two letters, the key
// version, and 128 bits in hexadecimal, such as "em1_6f0c…". Empty for none.
func (p Pseudonym) Token() string { return p.token }

// IsZero tells whether there is no pseudonym.
func (p Pseudonym) IsZero() bool { return p.token == "" }

// String and GoString hide the token.
func (p Pseudonym) String() string   { return "[pseudonym]" }
func (p Pseudonym) GoString() string { return "[pseudonym]" }

const keyVersion = "1"

var prefixes = map[Kind]string{Email: "em", Phone: "ph", UserID: "us", AnonymousID: "an", GroupID: "gr"}

// Pseudonymizer makes pseudonyms with the key at hand (local mode). All its
// methods may be called concurrently.
//
// Identifiers that can be guessed go through the OPRF of RFC 9497 (ristretto255,
// SHA-512), up to the evaluated group element; the token is a hash of that element
// and not of RFC 9497's final output, which contains the input and could not be
// carried over to a new key. Ids that a machine made at random need no such
// protection and take a keyed hash.
//
// What local mode buys: whoever has only the warehouse cannot guess. Whoever
// has this key can, at the price of a group operation for each guess.
type Pseudonymizer struct {
	workspace string
	region    string
	oprf      group.Scalar
	random    *keyedHash                      // of identifiers made at random
	token     *keyedHash                      // of values
	lookup    *keyedHash                      // for the cache, so that it holds no identifiers; its key is of this process
	cache     *lru.Cache[[32]byte, Pseudonym] // none for a value that is not an identifier
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

// cached bounds the memory of the cache to about 16 MiB.
const cached = 1 << 16

// NewPseudonymizer loads [KeyPseudonym]. Pseudonyms of different workspaces
// never match. region is where phone numbers without a country prefix belong;
// empty if unknown.
func NewPseudonymizer(ctx context.Context, keys Keyring, workspace, region string) (*Pseudonymizer, error) {
	seed, err := keys.Key(ctx, KeyPseudonym)
	if err != nil {
		return nil, fmt.Errorf("loading the pseudonym key: %w", err)
	}
	if len(seed) != 32 {
		return nil, fmt.Errorf("loading the pseudonym key: it has %d bytes, want 32", len(seed))
	}
	private, err := oprf.DeriveKey(oprf.SuiteRistretto255, oprf.BaseMode, seed, []byte("sluis/pseudonym/v1"))
	if err != nil {
		return nil, fmt.Errorf("deriving the pseudonym key: %w", err)
	}
	text, err := private.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("deriving the pseudonym key: %w", err)
	}
	scalar := group.Ristretto255.NewScalar()
	if err := scalar.UnmarshalBinary(text); err != nil {
		return nil, fmt.Errorf("deriving the pseudonym key: %w", err)
	}
	p := &Pseudonymizer{workspace: workspace, region: region, oprf: scalar, lookup: newKeyedHash(randomKey())}
	if p.random, err = derive(seed, "sluis/random-id/v1"); err != nil {
		return nil, err
	}
	if p.token, err = derive(seed, "sluis/value-token/v1"); err != nil {
		return nil, err
	}
	p.cache, err = lru.New[[32]byte, Pseudonym](cached)
	return p, err
}

func derive(seed []byte, info string) (*keyedHash, error) {
	key, err := hkdf.Key(sha256.New, seed, nil, info, 32)
	if err != nil {
		return nil, fmt.Errorf("deriving a key: %w", err)
	}
	return newKeyedHash(key), nil
}

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

// Pseudonym normalises a value (see [Normalize]) and returns its pseudonym.
// Equal values of one kind give equal pseudonyms, in every process that has
// the key. The error is [ErrNotAnIdentifier].
func (p *Pseudonymizer) Pseudonym(kind Kind, value string) (Pseudonym, error) {
	if kind == AnonymousID && IsUUID(value) {
		sum := p.random.sum("sluis/pid/v1", p.workspace, string(kind), normVersion, value)
		return newPseudonym(kind, sum[:]), nil
	}
	// By the value as it came: to normalise a phone number takes longer than to hash it.
	key := p.lookup.sum(string(kind), value)
	known, ok := p.cache.Get(key)
	if ok {
		p.hits.Add(1)
	} else {
		p.misses.Add(1)
	}
	switch {
	case ok && known.IsZero():
		return Pseudonym{}, ErrNotAnIdentifier
	case ok:
		return known, nil
	}
	made, err := p.make(kind, value)
	if err == nil || errors.Is(err, ErrNotAnIdentifier) {
		p.cache.Add(key, made)
	}
	return made, err
}

func (p *Pseudonymizer) make(kind Kind, value string) (Pseudonym, error) {
	value, err := Normalize(kind, value, p.region)
	if err != nil {
		return Pseudonym{}, err
	}
	if kind == AnonymousID && IsUUID(value) { // now without space around it
		return p.Pseudonym(kind, value)
	}
	element, err := p.evaluate(join("sluis/pid/v1", p.workspace, string(kind), normVersion, value))
	if err != nil {
		return Pseudonym{}, err
	}
	sum := sha512.Sum512(join("sluis/pid/v1", string(kind), string(element)))
	return newPseudonym(kind, sum[:]), nil
}

func newPseudonym(kind Kind, sum []byte) Pseudonym {
	return Pseudonym{prefixes[kind] + keyVersion + "_" + hex.EncodeToString(sum[:16])}
}

// evaluate is the OPRF up to its group element: k·HashToGroup(input), encoded.
func (p *Pseudonymizer) evaluate(input []byte) ([]byte, error) {
	const dst = "HashToGroup-OPRFV1-\x00-ristretto255-SHA512" // RFC 9497 §4.1, mode 0
	point := group.Ristretto255.HashToElement(input, []byte(dst))
	if point.IsIdentity() { // RFC 9497 §3.3.1; cannot be made to happen
		return nil, errors.New("evaluating a pseudonym: the input hashes to the identity")
	}
	element, err := group.Ristretto255.NewElement().Mul(point, p.oprf).MarshalBinaryCompress()
	if err != nil {
		return nil, fmt.Errorf("evaluating a pseudonym: %w", err)
	}
	return element, nil
}

// ValueToken is a digest of a field's value that can be compared among the
// values of the same field of the same person, and with nothing else. 32
// hexadecimal characters.
func (p *Pseudonymizer) ValueToken(subject Pseudonym, field, value string) string {
	sum := p.token.sum("sluis/value/v1", p.workspace, subject.token, field, value)
	return hex.EncodeToString(sum[:16])
}

// Digest is a keyed digest of anything, for lookups within this workspace that
// must not be linked to pseudonyms, such as of a message id that holds
// personal data. 32 hexadecimal characters.
func (p *Pseudonymizer) Digest(domain, value string) string {
	sum := p.token.sum("sluis/digest/v1", p.workspace, domain, value)
	return hex.EncodeToString(sum[:16])
}

// Lookup is a keyed digest of several texts that only this process can repeat:
// the key of what it remembers of personal values.
func (p *Pseudonymizer) Lookup(parts ...string) [32]byte { return p.lookup.sum(parts...) }
