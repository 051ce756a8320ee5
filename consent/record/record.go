// Package record makes the record of consent show what is done to it: rows of
// the landing table consents that were changed, removed, added or put in
// another order.
//
// # The chain
//
// A collector writes consent rows as links of a [Chain]: one link for the rows
// of one record of its spool. Each row has a digest over its content and a
// random salt. The link's digest is over the chain's id, the link's number,
// the digest of the link before, and the digests of its rows in order; it is
// signed with Ed25519. A chain is begun with each start of a collector, and
// after a write of which nobody knows whether it reached the disk; its first
// link names the last one that was certain before. Rows need no order in the
// table, since each has its place in the chain.
//
// # Erasure
//
// A row about a person who is to be forgotten is not removed. [Erase] makes a
// husk of it: its content and salt are gone, its place and digest stay, and a
// signature with the key of rights says on which request it was erased. The
// digest of a husk tells nothing: it is a commitment, and the salt that could
// test a guess is gone. So the chain still holds, and nobody who can only write
// to the warehouse can pass a removal off as an erasure.
//
// # What is proven
//
// [Verifier] proves that each row is as a holder of the collectors' key wrote
// it, and that between two rows of a chain, or between a chain and the one that
// names it, none is missing. It proves nothing about what was never signed. The
// last links of a chain can be cut off unseen until the next link, or the chain
// of the next start, names them; a whole warehouse can be set back to an
// earlier day. Against both helps an anchor: the [Head] of each chain, kept out
// of reach of who can write to the warehouse, and given to a later verification.
// Who holds the collectors' key can sign new rows that are not true, and with
// the warehouse also a chain that was never written; what an anchor has seen he
// can no longer change.
//
// The package imports no other part of the product but consent.
package record

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Row is a row of consents.
type Row struct {
	DecisionID    string
	Pseudonym     string
	Purpose       string
	Granted       bool
	Signal        string
	SignalDigest  string
	PolicyVersion string
	Region        string
	SourceID      string
	DecidedAt     time.Time // in microseconds, as all times here
	ReceivedAt    time.Time
	Notice        string    // version of the notice that the person was shown
	ExpiresAt     time.Time // of a grant; zero if it does not end

	Place
	LinkRows         int64 // that the link has
	Previous         string
	Salt             string
	Digest           string
	KeyID            string
	Signature        string
	ErasureID        string // of a husk: the request on which it was erased
	ErasureSignature string
}

// Place is where a row stands in the record. The zero Place is of a row that is
// in no chain.
type Place struct {
	Chain   string
	Link    int64 // from 1 on
	LinkRow int64 // from 0 on
}

// String is "<chain>:<link>:<row>".
func (p Place) String() string { return fmt.Sprintf("%s:%d:%d", p.Chain, p.Link, p.LinkRow) }

// Husk tells whether the row was erased.
func (r *Row) Husk() bool { return r.ErasureID != "" || r.ErasureSignature != "" }

// digest is over the content and the salt.
func (r *Row) digest() string {
	granted := "0"
	if r.Granted {
		granted = "1"
	}
	return hexSum("sluis/consent-row/v1", r.Salt, r.DecisionID, r.Pseudonym, r.Purpose, granted, r.Signal, r.SignalDigest,
		r.PolicyVersion, r.Region, r.SourceID, micros(r.DecidedAt), micros(r.ReceivedAt), r.Notice, micros(r.ExpiresAt))
}

func micros(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return strconv.FormatInt(t.UnixMicro(), 10)
}

// Head is the last link of a chain, or an earlier one. The zero Head is none.
type Head struct {
	Chain  string `json:"chain"`
	Link   int64  `json:"link"`
	Digest string `json:"digest"`
}

// String is "<chain>:<link>:<digest>", and empty for none.
func (h Head) String() string {
	if h == (Head{}) {
		return ""
	}
	return fmt.Sprintf("%s:%d:%s", h.Chain, h.Link, h.Digest)
}

// ParseHead reads what String wrote.
func ParseHead(text string) (Head, error) {
	if text == "" {
		return Head{}, nil
	}
	parts := strings.Split(text, ":")
	if len(parts) != 3 || parts[0] == "" || len(parts[2]) != 2*sha256.Size {
		return Head{}, fmt.Errorf("not the head of a chain: want <chain>:<link>:<digest>")
	}
	link, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil || link < 1 {
		return Head{}, fmt.Errorf("not the head of a chain: the number of the link is not one")
	}
	return Head{parts[0], link, parts[2]}, nil
}

// Key is a signing key, made of a seed of 32 bytes.
type Key struct {
	private ed25519.PrivateKey
	id      string
}

// NewKey makes the key of a seed.
func NewKey(seed []byte) (Key, error) {
	if len(seed) != ed25519.SeedSize {
		return Key{}, fmt.Errorf("a key that signs the record of consent has %d bytes, not %d", ed25519.SeedSize, len(seed))
	}
	private := ed25519.NewKeyFromSeed(seed)
	return Key{private, keyID(public(private))}, nil
}

func public(private ed25519.PrivateKey) ed25519.PublicKey {
	return private.Public().(ed25519.PublicKey)
}

// ID names the key in rows: 16 hexadecimal characters of a digest of its public
// half.
func (k Key) ID() string { return k.id }

func keyID(public ed25519.PublicKey) string {
	return hexSum("sluis/record-key/v1", string(public))[:16]
}

// sign is the signature of a digest, as base64.
func (k Key) sign(digest string) string {
	return base64.RawStdEncoding.EncodeToString(ed25519.Sign(k.private, []byte(digest)))
}

// Keys are the keys that may have signed, by their ids.
type Keys map[string]ed25519.PublicKey

// KeysOf are the keys of some seeds, such as of all versions of one key.
func KeysOf(seeds ...[]byte) (Keys, error) {
	keys := make(Keys)
	for _, seed := range seeds {
		key, err := NewKey(seed)
		if err != nil {
			return nil, err
		}
		keys[key.id] = public(key.private)
	}
	return keys, nil
}

func (k Keys) verify(id, digest, signature string) error {
	key, ok := k[id]
	if !ok {
		return fmt.Errorf("signed with a key that the keyring does not have")
	}
	raw, err := base64.RawStdEncoding.DecodeString(signature)
	if err != nil || !ed25519.Verify(key, []byte(digest), raw) {
		return fmt.Errorf("the signature is wrong")
	}
	return nil
}

// Chain signs links. It may be used by one goroutine at a time: a link names the
// one before it.
type Chain struct {
	key       Key
	workspace string
	last      Head // that is certain to be on disk, of this chain or the one before
	id        string
	link      int64 // the next number
	signed    Head  // and not said to be kept or lost
}

// NewChain begins a chain that names another one's head, or none.
func NewChain(key Key, workspace string, after Head) *Chain {
	c := &Chain{key: key, workspace: workspace, last: after}
	c.begin()
	return c
}

func (c *Chain) begin() { c.id, c.link, c.signed = randomHex(), 1, Head{} }

// Sign makes some rows the next link. It is not one until [Chain.Keep]: the next
// call then signs the next number; after [Chain.Lose] it begins another chain.
func (c *Chain) Sign(rows []Row) {
	previous := c.last.String()
	if c.link > 1 {
		previous = c.last.Digest
	}
	digests := make([]string, len(rows))
	for i := range rows {
		r := &rows[i]
		r.Place = Place{c.id, c.link, int64(i)}
		r.LinkRows, r.Previous, r.KeyID = int64(len(rows)), previous, c.key.id
		r.Salt = randomHex()
		r.Digest = r.digest()
		digests[i] = r.Digest
	}
	digest := linkDigest(c.workspace, c.id, c.link, previous, digests)
	signature := c.key.sign(digest)
	for i := range rows {
		rows[i].Signature = signature
	}
	c.signed = Head{c.id, c.link, digest}
}

// Keep says that the link that was signed last is on disk.
func (c *Chain) Keep() { c.last, c.link, c.signed = c.signed, c.link+1, Head{} }

// Lose says that the link that was signed last is not on disk, or may not be.
func (c *Chain) Lose() { c.begin() }

// Head is the last link that is on disk.
func (c *Chain) Head() Head { return c.last }

func linkDigest(workspace, chain string, link int64, previous string, rows []string) string {
	parts := append([]string{"sluis/consent-link/v1", workspace, chain, strconv.FormatInt(link, 10), previous}, rows...)
	return hexSum(parts...)
}

// Erase is the husk of a row: what stays of it when the person that it is about
// is erased on a request.
func Erase(rights Key, workspace string, r Row, requestID string) Row {
	return Row{
		ReceivedAt: r.ReceivedAt.UTC().Truncate(24 * time.Hour), // the table is cut by its days
		Place:      r.Place, LinkRows: r.LinkRows, Previous: r.Previous, Digest: r.Digest, KeyID: r.KeyID, Signature: r.Signature,
		ErasureID: requestID, ErasureSignature: EraseSignature(rights, workspace, r.Place, r.Digest, requestID),
	}
}

// EraseSignature is the signature of a husk, for who makes husks by SQL.
func EraseSignature(rights Key, workspace string, at Place, rowDigest, requestID string) string {
	return rights.id + ":" + rights.sign(erasureDigest(workspace, at, rowDigest, requestID))
}

func erasureDigest(workspace string, at Place, rowDigest, requestID string) string {
	return hexSum("sluis/consent-erasure/v1", workspace, at.Chain, strconv.FormatInt(at.Link, 10), strconv.FormatInt(at.LinkRow, 10), rowDigest, requestID)
}

// hexSum is the SHA-256 of some texts, each preceded by its length, so that no two
// lists share one.
func hexSum(parts ...string) string {
	h := sha256.New()
	var length [8]byte
	for _, part := range parts {
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		h.Write(length[:])
		h.Write([]byte(part))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// randomHex is 128 random bits.
func randomHex() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
