package seal

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudflare/circl/hpke"
	"github.com/cloudflare/circl/kem"
	lru "github.com/hashicorp/golang-lru/v2"
)

// Binding is what a sealed value belongs to. It is authenticated with the
// ciphertext, beside the workspace and the data key: moved to another person,
// purpose, field, decision or record, a value does not open.
type Binding struct {
	Purpose  string
	Field    string
	Subject  string // pseudonym token, or the id of what has none
	Decision string // id of the consent decision under which it was sealed
	Record   string // what else its row is known by; see [VaultRecord]
}

// VaultRecord is the Record of a value in the vault. A person has many rows of
// one field, and the latest counts: so a row's time is bound, or an old value
// could be made the latest, and its token, or the values of two rows could be
// exchanged. With the rest of the binding that is all that a reader goes by. Where
// the row came from in the spool is not bound: it is not known at sealing.
func VaultRecord(token string, receivedAt time.Time) string {
	return token + "@" + strconv.FormatInt(receivedAt.UnixMicro(), 10)
}

// Sealed is a sealed value. The zero value is "none". It prints as a
// placeholder.
type Sealed struct {
	KeyID      string
	Ciphertext []byte // 8 bytes counter, then AES-256-GCM ciphertext and tag
}

// String and GoString hide the content.
func (s Sealed) String() string   { return "[sealed]" }
func (s Sealed) GoString() string { return "[sealed]" }

// DataKey is the public record of a data key: with it and the purpose's
// private key the key can be recovered, and without it never again.
type DataKey struct {
	ID              string
	Purpose         string
	Recipient       string // id of the purpose's public key
	PSKID           string
	EncapsulatedKey []byte
	CreatedAt       time.Time
}

// One data key serves for this long, or for this many values, and is then
// forgotten. AES-GCM bears 2^32 values; fewer keep small what one key protects,
// at the price of an encapsulation for each million.
const (
	dataKeyLife = 5 * time.Minute
	dataKeyUses = 1 << 20
)

// suite is X-Wing (ML-KEM-768 and X25519), HKDF-SHA256, AES-256-GCM.
var suite = hpke.NewSuite(hpke.KEM_XWING, hpke.KDF_HKDF_SHA256, hpke.AEAD_AES256GCM)

// Sealer seals for purposes whose public keys it holds; it can open nothing.
// All its methods may be called concurrently.
//
// HPKE (RFC 9180) runs once per data key, in PSK mode, so that a holder of the
// public key alone cannot plant values; the data key is exported from that
// context and lives in memory only, no longer than it is used. Nonces are a
// counter under a key that no other process has, so they cannot repeat after a
// crash or restart either.
type Sealer struct {
	workspace  string
	psk        []byte
	pskID      string
	recipients map[string]recipient
	now        func() time.Time
	after      func(time.Duration, func()) // tests say when

	mu      sync.Mutex
	current map[string]*dataKey // by purpose
}

type recipient struct {
	id  string
	key kem.PublicKey
}

type dataKey struct {
	DataKey
	aead cipher.AEAD
	used atomic.Uint64
}

// NewSealer loads the latest public key of each purpose and the latest of the
// edge's pre-shared keys.
func NewSealer(ctx context.Context, keys Keyring, workspace string, purposes []string) (*Sealer, error) {
	psk, err := inUse(ctx, keys, KeyEdge)
	if err == nil {
		err = checkPSK(psk)
	}
	if err != nil {
		return nil, fmt.Errorf("loading the edge key: %w", err)
	}
	s := &Sealer{
		workspace: workspace, psk: psk, pskID: keyID(psk), now: time.Now,
		after:      func(d time.Duration, do func()) { time.AfterFunc(d, do) },
		recipients: make(map[string]recipient), current: make(map[string]*dataKey),
	}
	for _, purpose := range purposes {
		text, err := inUse(ctx, keys, KeyPublic(purpose))
		if err != nil {
			return nil, fmt.Errorf("loading the public key of purpose %s: %w", purpose, err)
		}
		key, err := hpke.KEM_XWING.Scheme().UnmarshalBinaryPublicKey(text)
		if err != nil {
			return nil, fmt.Errorf("loading the public key of purpose %s: %w", purpose, err)
		}
		s.recipients[purpose] = recipient{id: keyID(text), key: key}
	}
	return s, nil
}

// Recipient is the id of the key that a purpose is sealed to; empty if there is
// none.
func (s *Sealer) Recipient(purpose string) string { return s.recipients[purpose].id }

// Same tells whether another sealer has the same keys.
func (s *Sealer) Same(other *Sealer) bool {
	return s.workspace == other.workspace && s.pskID == other.pskID &&
		maps.EqualFunc(s.recipients, other.recipients, func(a, b recipient) bool { return a.id == b.id })
}

func checkPSK(psk []byte) error {
	if len(psk) < 32 { // RFC 9180 §9.5
		return fmt.Errorf("it has %d bytes, want 32", len(psk))
	}
	return nil
}

// Seal seals a value. The DataKey must be stored no later than the value, or
// the value is lost; it is the same for many values, and storing it again does
// no harm.
func (s *Sealer) Seal(b Binding, value string) (Sealed, DataKey, error) {
	key, counter, err := s.next(b.Purpose)
	if err != nil {
		return Sealed{}, DataKey{}, fmt.Errorf("sealing for purpose %s: %w", b.Purpose, err)
	}
	return key.seal(s.workspace, counter, b, value), key.DataKey, nil
}

// seal seals with a counter that nothing else was, or will be, sealed with under
// the key.
func (k *dataKey) seal(workspace string, counter uint64, b Binding, value string) Sealed {
	text := make([]byte, 8, 8+len(value)+k.aead.Overhead())
	binary.BigEndian.PutUint64(text, counter)
	text = k.aead.Seal(text, nonce(counter), []byte(value), additionalData(workspace, k.ID, b))
	return Sealed{KeyID: k.ID, Ciphertext: text}
}

// next returns the purpose's data key and a counter that nobody else gets.
func (s *Sealer) next(purpose string) (*dataKey, uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := s.current[purpose]
	if key == nil || s.now().Sub(key.CreatedAt) >= dataKeyLife || key.used.Load() >= dataKeyUses {
		var err error
		if key, err = s.newDataKey(purpose); err != nil {
			return nil, 0, err
		}
		s.current[purpose] = key
		s.after(dataKeyLife, func() { s.forget(purpose, key) })
	}
	return key, key.used.Add(1), nil
}

// forget drops a data key that has served its time, also where nothing more is
// sealed for its purpose. What Go's garbage collector leaves of it in memory is
// not overwritten by this.
func (s *Sealer) forget(purpose string, key *dataKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current[purpose] == key {
		delete(s.current, purpose)
	}
}

func (s *Sealer) newDataKey(purpose string) (*dataKey, error) {
	to, ok := s.recipients[purpose]
	if !ok {
		return nil, ErrNoKey
	}
	sender, err := suite.NewSender(to.key, hpkeInfo(s.workspace, purpose, to.id))
	if err != nil {
		return nil, err
	}
	enc, hpkeContext, err := sender.SetupPSK(rand.Reader, s.psk, []byte(s.pskID))
	if err != nil {
		return nil, err
	}
	exported := hpkeContext.Export(exportContext, 32)
	aead, err := newAEAD(exported)
	clear(exported)
	if err != nil {
		return nil, err
	}
	return &dataKey{aead: aead, DataKey: DataKey{
		ID: keyID(enc), Purpose: purpose, Recipient: to.id, PSKID: s.pskID,
		EncapsulatedKey: enc, CreatedAt: s.now(),
	}}, nil
}

var exportContext = []byte("sluis/data-key/v1")

func hpkeInfo(workspace, purpose, recipient string) []byte {
	return join("sluis/seal/v1", workspace, purpose, recipient)
}

func additionalData(workspace, keyID string, b Binding) []byte {
	return join("sluis/sealed/v2", workspace, b.Purpose, b.Field, b.Subject, b.Decision, b.Record, keyID)
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func nonce(counter uint64) []byte {
	return binary.BigEndian.AppendUint64(make([]byte, 4, 12), counter)
}

// ErrCannotOpen is returned for a value that does not open: sealed for another
// purpose, person, field, decision or record, changed, or forged. It does not say
// which.
var ErrCannotOpen = errors.New("the sealed value does not open with this key and binding")

// Opener opens values sealed for the purposes whose private keys it holds, in
// all their versions. All its methods may be called concurrently.
type Opener struct {
	workspace  string
	psks       map[string][]byte     // by id
	recipients map[string]privateKey // by id of the public key
	cache      *lru.Cache[string, cipher.AEAD]
}

type privateKey struct {
	purpose string
	key     kem.PrivateKey
}

// NewOpener loads the private keys of the purposes and the pre-shared keys of the
// edge, of each all versions that there are: what was sealed before a rotation
// opens until its key is destroyed.
func NewOpener(ctx context.Context, keys Keyring, workspace string, purposes []string) (*Opener, error) {
	o := &Opener{workspace: workspace, psks: make(map[string][]byte), recipients: make(map[string]privateKey)}
	psks, err := Every(ctx, keys, KeyEdge)
	if err != nil {
		return nil, fmt.Errorf("loading the edge key: %w", err)
	}
	for _, psk := range psks {
		if err := checkPSK(psk); err != nil {
			return nil, fmt.Errorf("loading the edge key: %w", err)
		}
		o.psks[keyID(psk)] = psk
	}
	for _, purpose := range purposes {
		every, err := Every(ctx, keys, KeyPrivate(purpose))
		if err != nil {
			return nil, fmt.Errorf("loading the private key of purpose %s: %w", purpose, err)
		}
		for _, text := range every {
			key, id, err := parsePrivate(purpose, text)
			if err != nil {
				return nil, err
			}
			o.recipients[id] = key
		}
	}
	o.cache, err = lru.New[string, cipher.AEAD](4096)
	return o, err
}

// parsePrivate reads a private key; id is that of its public half.
func parsePrivate(purpose string, text []byte) (parsed privateKey, id string, err error) {
	key, err := hpke.KEM_XWING.Scheme().UnmarshalBinaryPrivateKey(text)
	if err != nil {
		return privateKey{}, "", fmt.Errorf("loading the private key of purpose %s: %w", purpose, err)
	}
	public, err := key.Public().MarshalBinary()
	if err != nil {
		return privateKey{}, "", fmt.Errorf("loading the private key of purpose %s: %w", purpose, err)
	}
	return privateKey{purpose: purpose, key: key}, keyID(public), nil
}

// Open returns the value. k is the stored record of the key that s names.
func (o *Opener) Open(s Sealed, k DataKey, b Binding) (string, error) {
	aead, err := o.aead(k)
	if err != nil {
		return "", fmt.Errorf("opening a value sealed for purpose %s: %w", b.Purpose, err)
	}
	if k.ID != s.KeyID || k.Purpose != b.Purpose || len(s.Ciphertext) < 8 {
		return "", fmt.Errorf("opening a value sealed for purpose %s: %w", b.Purpose, ErrCannotOpen)
	}
	counter := binary.BigEndian.Uint64(s.Ciphertext)
	value, err := aead.Open(nil, nonce(counter), s.Ciphertext[8:], additionalData(o.workspace, s.KeyID, b))
	if err != nil {
		return "", fmt.Errorf("opening a value sealed for purpose %s: %w", b.Purpose, ErrCannotOpen)
	}
	return string(value), nil
}

// aead recovers the data key. The cache is keyed by the encapsulated key
// itself, not by the id that the row claims.
func (o *Opener) aead(k DataKey) (cipher.AEAD, error) {
	cacheKey := k.Recipient + string(k.EncapsulatedKey)
	if known, ok := o.cache.Get(cacheKey); ok {
		return known, nil
	}
	to, ok := o.recipients[k.Recipient]
	psk, shared := o.psks[k.PSKID]
	if !ok || !shared || to.purpose != k.Purpose || k.ID != keyID(k.EncapsulatedKey) {
		return nil, ErrNoKey
	}
	receiver, err := suite.NewReceiver(to.key, hpkeInfo(o.workspace, to.purpose, k.Recipient))
	if err != nil {
		return nil, err
	}
	hpkeContext, err := receiver.SetupPSK(k.EncapsulatedKey, psk, []byte(k.PSKID))
	if err != nil {
		return nil, ErrCannotOpen
	}
	exported := hpkeContext.Export(exportContext, 32)
	aead, err := newAEAD(exported)
	clear(exported)
	if err != nil {
		return nil, err
	}
	o.cache.Add(cacheKey, aead)
	return aead, nil
}

// Forget drops the data keys that were recovered. What their rows have to say is
// asked anew, so that after a deletion nothing in memory stands for them.
func (o *Opener) Forget() { o.cache.Purge() }
