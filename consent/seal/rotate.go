package seal

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/cloudflare/circl/group"
)

// Rotation carries pseudonyms over from one version of their keys to another,
// without the identifiers. It needs both keys whole: whoever has a Rotation can
// tell which old pseudonym became which new one, as can whoever has both keys. So
// the old one is to be destroyed when it is done.
//
// The pseudonym of an evaluated identifier has an element E = k·H(x), and
// becomes that of (k'/k)·E = k'·H(x). That of a random id is unpermuted and
// permuted anew. Both are what the new keys give for the identifier itself.
//
// Its methods may be called concurrently, but for Reseal.
type Rotation struct {
	from, to      int
	workspace     string
	delta         group.Scalar
	before, after cipher.Block
	digests       *keyedHash
	next          *Pseudonymizer
	resealed      map[string]*dataKey // by the id of the old one
}

// NewRotation loads both versions of the keys.
func NewRotation(ctx context.Context, keys Keyring, workspace, region string, from, to int) (*Rotation, error) {
	r := &Rotation{from: from, to: to, workspace: workspace, resealed: make(map[string]*dataKey)}
	old, err := wholeKey(ctx, keys, from)
	if err != nil {
		return nil, err
	}
	if r.next, err = pseudonymizerOf(ctx, keys, workspace, region, Service{Mode: Local}, to); err != nil {
		return nil, err
	}
	r.delta = group.Ristretto255.NewScalar().Inv(old)
	r.delta.Mul(r.delta, r.next.oprf.scalar)
	seed, err := keys.Key(ctx, Version(KeyTokens, from))
	if err != nil {
		return nil, fmt.Errorf("loading the keys of pseudonyms: %w", err)
	}
	seedAfter, err := keys.Key(ctx, Version(KeyTokens, to))
	if err != nil {
		return nil, fmt.Errorf("loading the keys of pseudonyms: %w", err)
	}
	if r.before, err = permutation(seed); err != nil {
		return nil, err
	}
	r.after = r.next.permute
	// From both, so that it is the same if the rotation is interrupted, and lost with
	// the old one.
	r.digests, err = derive(append(append([]byte{}, seed...), seedAfter...), "sluis/rotated-digest/v1")
	return r, err
}

// Parsed is the text of a pseudonym, taken apart.
type Parsed struct {
	Prefix  string // of its kind
	Version int
	Sum     [16]byte
}

// ParseToken takes the text of a pseudonym apart; ok is false for any other text.
func ParseToken(token string) (p Parsed, ok bool) {
	head, digits, ok := strings.Cut(token, "_")
	if !ok || len(head) < 3 || len(digits) != 2*len(p.Sum) || strings.ToLower(digits) != digits {
		return p, false
	}
	version, err := strconv.Atoi(head[2:])
	if err != nil || version < 1 || head[2] == '0' || head[2] == '+' {
		return p, false
	}
	if _, err := hex.Decode(p.Sum[:], []byte(digits)); err != nil {
		return p, false
	}
	for _, prefix := range prefixes {
		if head[:2] == prefix {
			p.Prefix, p.Version = prefix, version
			return p, true
		}
	}
	return p, false
}

// String is the text again.
func (p Parsed) String() string {
	return p.Prefix + strconv.Itoa(p.Version) + "_" + hex.EncodeToString(p.Sum[:])
}

// IsAnonymousID tells whether it is of an anonymous id, which alone may be
// without an element.
func (p Parsed) IsAnonymousID() bool { return p.Prefix == prefixes[AnonymousID] }

// ErrElement is returned for an element that is not the pseudonym's: it was
// changed, or is of another version.
var ErrElement = errors.New("the element is not that of its pseudonym")

// Element is the next pseudonym of one with an element, and the next element.
func (r *Rotation) Element(p Parsed, element []byte) (Parsed, []byte, error) {
	kind := kindOf(p.Prefix)
	if p.Version != r.from || ofElement(kind, r.from, element).token != p.String() {
		return Parsed{}, nil, ErrElement
	}
	point, err := parseElement(element)
	if err != nil {
		return Parsed{}, nil, ErrElement
	}
	next, err := multiply(point, r.delta)
	if err != nil {
		return Parsed{}, nil, fmt.Errorf("rotating an element: %w", err)
	}
	parsed, _ := ParseToken(ofElement(kind, r.to, next).token)
	return parsed, next, nil
}

func kindOf(prefix string) Kind {
	for kind, p := range prefixes {
		if p == prefix {
			return kind
		}
	}
	return ""
}

// RandomID is the next pseudonym of an id that a machine made at random.
func (r *Rotation) RandomID(p Parsed) Parsed {
	next := Parsed{Prefix: p.Prefix, Version: r.to}
	var id [aes.BlockSize]byte
	r.before.Decrypt(id[:], p.Sum[:])
	r.after.Encrypt(next.Sum[:], id[:])
	return next
}

// Digest is what takes the place of a digest, such as of a message id, that has no
// element: it can be compared with others of this rotation, and is no longer
// what anybody could guess with the old key. What comes later of the same text
// has another.
func (r *Rotation) Digest(old string) string {
	sum := r.digests.sum("sluis/rotated-digest/v1", r.workspace, old)
	return hex.EncodeToString(sum[:16])
}

// From and To are the versions.
func (r *Rotation) From() int { return r.from }

// To is the version that pseudonyms become.
func (r *Rotation) To() int { return r.to }

// ValueToken is the token of a value of the vault under the new keys, the same
// that a collector will make of the value when it comes again.
func (r *Rotation) ValueToken(subject Parsed, field, value string) (string, error) {
	kind := map[string]Kind{"email": Email, "phone": Phone}[field]
	return r.next.Batch().ValueToken(Pseudonym{token: subject.String()}, field, kind, value)
}

// Reseal seals a value again, for another binding. The data key is a new one,
// which is as old as the one before: it is destroyed when that would have been.
// It is for one goroutine.
func (r *Rotation) Reseal(sealer *Sealer, b Binding, value string, before DataKey) (Sealed, DataKey, error) {
	key := r.resealed[before.ID]
	if key == nil || key.used.Load() >= dataKeyUses {
		var err error
		if key, err = sealer.newDataKey(b.Purpose); err != nil {
			return Sealed{}, DataKey{}, fmt.Errorf("sealing for purpose %s: %w", b.Purpose, err)
		}
		key.CreatedAt = before.CreatedAt
		r.resealed[before.ID] = key
	}
	return key.seal(sealer.workspace, key.used.Add(1), b, value), key.DataKey, nil
}

// NextKeys adds the next version of the keys of pseudonyms, those that are
// missing of it. Where the service has its key, or its half, elsewhere, service
// is that keyring; else it is nil.
func NextKeys(ctx context.Context, own, service *Folder, from, to int) error {
	if service == nil {
		service = own
	}
	all := Overlay{own, service}
	_, err := all.Key(ctx, Version(KeyPseudonymEdge, from))
	_, wholeErr := all.Key(ctx, Version(KeyPseudonym, from))
	next := map[string]*Folder{KeyTokens: own, KeyPseudonym: service}
	if err == nil && errors.Is(wholeErr, ErrNoKey) { // split
		next = map[string]*Folder{KeyTokens: own, KeyPseudonymEdge: own, KeyPseudonymService: service}
	}
	for name, folder := range next {
		key := randomKey()
		if name == KeyPseudonymEdge || name == KeyPseudonymService {
			if key, err = randomFactor().MarshalBinary(); err != nil {
				return fmt.Errorf("making a half of a key: %w", err)
			}
		}
		if _, err := folder.Key(ctx, Version(name, to)); err == nil {
			continue // of a rotation that was interrupted
		}
		if err := folder.Add(ctx, Version(name, to), key); err != nil {
			return err
		}
	}
	return nil
}

// DestroyKeys removes a version of the keys of pseudonyms, wherever it is.
func DestroyKeys(ctx context.Context, version int, folders ...*Folder) error {
	for _, folder := range folders {
		for _, name := range []string{KeyPseudonym, KeyPseudonymEdge, KeyPseudonymService, KeyTokens} {
			if _, err := folder.read(Version(name, version)); errors.Is(err, ErrNoKey) {
				continue
			}
			if err := folder.Remove(Version(name, version)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Overlay is several keyrings as one; the first that has a key gives it.
type Overlay []Keyring

// Key implements Keyring.
func (o Overlay) Key(ctx context.Context, name string) (key []byte, err error) {
	for i, keys := range o {
		var one error
		if key, one = keys.Key(ctx, name); !errors.Is(one, ErrNoKey) {
			return key, one
		}
		if i == 0 {
			err = one
		}
	}
	return nil, err
}

// Names implements Keyring.
func (o Overlay) Names(ctx context.Context) ([]string, error) {
	var all []string
	for _, keys := range o {
		names, err := keys.Names(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, names...)
	}
	return all, nil
}
