package collector

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
)

// Record is what one request appends to the spool: all of it or, if the append
// fails, nothing. So the ledger balances for every acknowledged request, and a
// sealed value never lands without the key it was sealed with.
type Record struct {
	ReceivedAt time.Time
	Rows
}

// recordVersion is the first byte of a record. Its rows follow, field by field
// in the order of code below: numbers and lengths as varints, times as
// microseconds. A change of the order or of a field needs a new version.
const recordVersion = 4

// AppendTo appends the record's encoding, for the spool.
func (r *Record) AppendTo(b []byte) []byte {
	c := coder{b: append(b, recordVersion)}
	r.code(&c)
	return c.b
}

// ParseRecord reads what AppendTo wrote. The record's texts are pieces of one
// copy of b. The error repeats nothing of b.
func ParseRecord(b []byte) (Record, error) {
	if len(b) == 0 || b[0] != recordVersion {
		return Record{}, fmt.Errorf("decoding a spool record: it is not of version %d, which this program reads", recordVersion)
	}
	var r Record
	c := coder{rest: string(b[1:]), reading: true}
	r.code(&c)
	if !c.failed && c.rest != "" {
		c.failed = true
	}
	if c.failed {
		return Record{}, errors.New("decoding a spool record: it is not as its version has it")
	}
	return r, nil
}

// code says once, for writing and for reading, what a record is made of.
func (r *Record) code(c *coder) {
	c.time(&r.ReceivedAt)
	list(c, &r.Events, (*EventRow).code)
	list(c, &r.Vault, (*VaultRow).code)
	list(c, &r.Consents, (*ConsentRow).code)
	list(c, &r.Quarantine, (*QuarantineRow).code)
	list(c, &r.Ledger, (*LedgerRow).code)
	list(c, &r.Counts, (*CountRow).code)
	list(c, &r.SealKeys, (*SealKeyRow).code)
	list(c, &r.Elements, (*ElementRow).code)
}

func (r *EventRow) code(c *coder) {
	c.texts(&r.EventID, &r.SourceID, &r.Type, &r.Event)
	c.time(&r.OccurredAt)
	c.time(&r.ReceivedAt)
	c.texts(&r.AnonymousID, &r.UserID, &r.GroupID)
	list(c, &r.Identifiers, (*IdentifierRow).code)
	list(c, &r.Purposes, codeText)
	list(c, &r.Denied, codeText)
	c.texts(&r.DecisionID, &r.PolicyVersion, &r.Region, &r.PageURL, &r.PagePath, &r.PageTitle, &r.ReferrerHost)
	c.texts(&r.UTMSource, &r.UTMMedium, &r.UTMCampaign, &r.UTMTerm, &r.UTMContent, &r.ClickIDKind, &r.DeviceClass)
	c.bool(&r.IsBot)
	c.texts(&r.BotReason, &r.Properties, &r.Traits, &r.Context, &r.PlanVersion)
	list(c, &r.Violations, codeText)
}

func (r *IdentifierRow) code(c *coder) { c.texts(&r.Kind, &r.Pseudonym) }

func codeText(s *string, c *coder) { c.text(s) }

func (r *VaultRow) code(c *coder) {
	c.texts(&r.Pseudonym, &r.Field, &r.Purpose, &r.KeyID)
	c.bytes(&r.Ciphertext)
	c.texts(&r.Token, &r.DecisionID)
	c.time(&r.ReceivedAt)
}

func (r *ConsentRow) code(c *coder) {
	c.texts(&r.DecisionID, &r.Pseudonym, &r.Purpose)
	c.bool(&r.Granted)
	c.texts(&r.Signal, &r.SignalDigest, &r.PolicyVersion, &r.Region, &r.SourceID)
	c.time(&r.DecidedAt)
	c.time(&r.ReceivedAt)
	c.text(&r.Notice)
	c.time(&r.ExpiresAt)
	c.text(&r.Chain)
	c.number(&r.Link)
	c.number(&r.LinkRow)
	c.number(&r.LinkRows)
	c.texts(&r.Previous, &r.Salt, &r.RowDigest, &r.KeyID, &r.Signature, &r.ErasureID, &r.ErasureSignature)
}

func (r *QuarantineRow) code(c *coder) {
	c.texts(&r.QuarantineID, &r.SourceID, &r.Type, &r.Event, &r.Reason, &r.Path, &r.Outcome, &r.KeyID)
	c.bytes(&r.Ciphertext)
	c.time(&r.ReceivedAt)
}

func (r *LedgerRow) code(c *coder) {
	c.text(&r.SourceID)
	c.time(&r.Minute)
	c.texts(&r.Outcome, &r.Reason)
	c.number(&r.N)
}

func (r *CountRow) code(c *coder) {
	c.text(&r.SourceID)
	c.time(&r.Hour)
	c.texts(&r.Type, &r.Event)
	c.number(&r.N)
	c.texts(&r.Page, &r.DeviceClass)
}

func (r *SealKeyRow) code(c *coder) {
	c.texts(&r.KeyID, &r.Purpose, &r.Recipient, &r.PSKID)
	c.bytes(&r.EncapsulatedKey)
	c.time(&r.CreatedAt)
}

func (r *ElementRow) code(c *coder) {
	c.text(&r.Pseudonym)
	c.bytes(&r.Element)
	c.number(&r.KeyVersion)
	c.time(&r.ReceivedAt)
}

// coder appends values to b, or reads them from rest. After a failure to read
// it gives zeros.
type coder struct {
	b       []byte
	rest    string
	reading bool
	failed  bool
}

func (c *coder) number(n *int64) {
	if !c.reading {
		c.b = binary.AppendVarint(c.b, *n)
		return
	}
	var size int
	*n, size = varint(c.rest)
	if size <= 0 {
		*n, c.rest, c.failed = 0, "", true
		return
	}
	c.rest = c.rest[size:]
}

// varint is binary.Varint for a string.
func varint(s string) (n int64, size int) {
	var u uint64
	for i := range min(len(s), binary.MaxVarintLen64) {
		u |= uint64(s[i]&0x7f) << (7 * i)
		if s[i] < 0x80 {
			return int64(u>>1) ^ -int64(u&1), i + 1
		}
	}
	return 0, 0
}

// length is a number that cannot be more than the bytes that are left.
func (c *coder) length(n int) int {
	wide := int64(n)
	c.number(&wide)
	if c.reading && (wide < 0 || wide > int64(len(c.rest))) {
		c.rest, c.failed = "", true
		return 0
	}
	return int(wide)
}

func (c *coder) text(s *string) {
	n := c.length(len(*s))
	if !c.reading {
		c.b = append(c.b, *s...)
		return
	}
	*s, c.rest = c.rest[:n], c.rest[n:]
}

func (c *coder) texts(list ...*string) {
	for _, s := range list {
		c.text(s)
	}
}

func (c *coder) bytes(b *[]byte) {
	n := c.length(len(*b))
	if !c.reading {
		c.b = append(c.b, *b...)
		return
	}
	*b, c.rest = []byte(c.rest[:n]), c.rest[n:]
}

func (c *coder) bool(v *bool) {
	n := int64(0)
	if *v {
		n = 1
	}
	c.number(&n)
	*v = n != 0
}

func (c *coder) time(t *time.Time) {
	n := t.UnixMicro()
	if t.IsZero() {
		n = math.MinInt64
	}
	c.number(&n)
	if c.reading {
		if *t = time.UnixMicro(n).UTC(); n == math.MinInt64 {
			*t = time.Time{}
		}
	}
}

// list codes each element. Memory grows with what is read, not with what the
// length says.
func list[T any](c *coder, rows *[]T, code func(*T, *coder)) {
	n := c.length(len(*rows))
	if !c.reading {
		for i := range *rows {
			code(&(*rows)[i], c)
		}
		return
	}
	if n > 0 {
		*rows = make([]T, 0, min(n, 128))
	}
	for range n {
		var row T
		if code(&row, c); c.failed {
			return
		}
		*rows = append(*rows, row)
	}
}
