package collector

import "time"

// The rows of the landing tables, column for column as warehouse.Landing has
// them. An empty string lands as NULL. They are all that the spool ever holds:
// a value in clear has no field to go to, except through [scrub].

// Origin says where in the spool a row came from.
type Origin struct {
	SpoolID     string `parquet:"spool_id,dict" json:"-"`
	SpoolOffset int64  `parquet:"spool_offset,delta" json:"-"`
}

// IdentifierRow is one pseudonym of an event.
type IdentifierRow struct {
	Kind      string `parquet:"kind,dict" json:"k"`
	Pseudonym string `parquet:"pseudonym" json:"p"`
}

// EventRow is a row of events.
type EventRow struct {
	EventID       string          `parquet:"event_id" json:"id"`
	SourceID      string          `parquet:"source_id,dict" json:"src"`
	Type          string          `parquet:"type,dict" json:"type"`
	Event         string          `parquet:"event,dict" json:"event"`
	OccurredAt    time.Time       `parquet:"occurred_at,timestamp(microsecond)" json:"at"`
	ReceivedAt    time.Time       `parquet:"received_at,timestamp(microsecond)" json:"rcv"`
	AnonymousID   string          `parquet:"anonymous_id,optional" json:"anon,omitempty"`
	UserID        string          `parquet:"user_id,optional" json:"user,omitempty"`
	GroupID       string          `parquet:"group_id,optional" json:"group,omitempty"`
	Identifiers   []IdentifierRow `parquet:"identifiers,list" json:"ids,omitempty"`
	Purposes      []string        `parquet:"purposes,list" json:"pur,omitempty"`
	Denied        []string        `parquet:"denied,list" json:"den,omitempty"`
	DecisionID    string          `parquet:"decision_id,dict" json:"dec"`
	PolicyVersion string          `parquet:"policy_version,dict" json:"pol"`
	Region        string          `parquet:"region,optional,dict" json:"reg,omitempty"`
	PageURL       string          `parquet:"page_url,optional,dict" json:"url,omitempty"`
	PagePath      string          `parquet:"page_path,optional,dict" json:"path,omitempty"`
	PageTitle     string          `parquet:"page_title,optional,dict" json:"title,omitempty"`
	ReferrerHost  string          `parquet:"referrer_host,optional,dict" json:"ref,omitempty"`
	UTMSource     string          `parquet:"utm_source,optional,dict" json:"us,omitempty"`
	UTMMedium     string          `parquet:"utm_medium,optional,dict" json:"um,omitempty"`
	UTMCampaign   string          `parquet:"utm_campaign,optional,dict" json:"uc,omitempty"`
	UTMTerm       string          `parquet:"utm_term,optional,dict" json:"ut,omitempty"`
	UTMContent    string          `parquet:"utm_content,optional,dict" json:"un,omitempty"`
	ClickIDKind   string          `parquet:"click_id_kind,optional,dict" json:"click,omitempty"`
	DeviceClass   string          `parquet:"device_class,optional,dict" json:"dev,omitempty"`
	IsBot         bool            `parquet:"is_bot" json:"bot,omitempty"`
	BotReason     string          `parquet:"bot_reason,optional,dict" json:"botwhy,omitempty"`
	Properties    string          `parquet:"properties,optional" json:"props,omitempty"`
	Traits        string          `parquet:"traits,optional" json:"traits,omitempty"`
	Context       string          `parquet:"context,optional,dict" json:"ctx,omitempty"`
	PlanVersion   string          `parquet:"plan_version,optional,dict" json:"plan,omitempty"`
	Violations    []string        `parquet:"violations,list" json:"bad,omitempty"`
	Origin
}

// VaultRow is a row of vault.
type VaultRow struct {
	Pseudonym  string    `parquet:"pseudonym" json:"p"`
	Field      string    `parquet:"field,dict" json:"f"`
	Purpose    string    `parquet:"purpose,dict" json:"pur"`
	KeyID      string    `parquet:"key_id,dict" json:"key"`
	Ciphertext []byte    `parquet:"ciphertext" json:"ct"`
	Token      string    `parquet:"token" json:"tok"`
	DecisionID string    `parquet:"decision_id,dict" json:"dec"`
	ReceivedAt time.Time `parquet:"received_at,timestamp(microsecond)" json:"rcv"`
	Origin
}

// ConsentRow is a row of consents.
type ConsentRow struct {
	DecisionID    string    `parquet:"decision_id,optional" json:"dec"`
	Pseudonym     string    `parquet:"pseudonym,optional" json:"p"`
	Purpose       string    `parquet:"purpose,optional,dict" json:"pur"`
	Granted       bool      `parquet:"granted" json:"ok"`
	Signal        string    `parquet:"signal,optional,dict" json:"sig"`
	SignalDigest  string    `parquet:"signal_digest,optional" json:"dig"`
	PolicyVersion string    `parquet:"policy_version,optional,dict" json:"pol"`
	Region        string    `parquet:"region,optional,dict" json:"reg,omitempty"`
	SourceID      string    `parquet:"source_id,optional,dict" json:"src"`
	DecidedAt     time.Time `parquet:"decided_at,optional,timestamp(microsecond)" json:"at"`
	ReceivedAt    time.Time `parquet:"received_at,timestamp(microsecond)" json:"rcv"`
	Notice        string    `parquet:"notice,optional,dict" json:"notice,omitempty"`
	ExpiresAt     time.Time `parquet:"expires_at,optional,timestamp(microsecond)" json:"until,omitzero"`
	// The row's place in the record of consent; see package record.
	Chain            string `parquet:"chain,optional,dict" json:"chain,omitempty"`
	Link             int64  `parquet:"link" json:"link,omitempty"`
	LinkRow          int64  `parquet:"link_row" json:"nth,omitempty"`
	LinkRows         int64  `parquet:"link_rows" json:"of,omitempty"`
	Previous         string `parquet:"previous,optional,dict" json:"prev,omitempty"`
	Salt             string `parquet:"salt,optional" json:"salt,omitempty"`
	RowDigest        string `parquet:"row_digest,optional" json:"rowdig,omitempty"`
	KeyID            string `parquet:"key_id,optional,dict" json:"key,omitempty"`
	Signature        string `parquet:"signature,optional,dict" json:"sign,omitempty"`
	ErasureID        string `parquet:"erasure_id,optional,dict" json:"gone,omitempty"`
	ErasureSignature string `parquet:"erasure_signature,optional" json:"gonesign,omitempty"`
	Origin
}

// QuarantineRow is a row of quarantine: an event that waits there or, with the
// same id and nothing sealed, what a replay made of it.
type QuarantineRow struct {
	QuarantineID string    `parquet:"quarantine_id" json:"id"`
	SourceID     string    `parquet:"source_id,dict" json:"src"`
	Type         string    `parquet:"type,optional,dict" json:"type,omitempty"`
	Event        string    `parquet:"event,optional,dict" json:"event,omitempty"`
	Reason       string    `parquet:"reason,dict" json:"why"`
	Path         string    `parquet:"path,optional,dict" json:"path,omitempty"`
	Outcome      string    `parquet:"outcome,optional,dict" json:"out,omitempty"`
	KeyID        string    `parquet:"key_id,dict" json:"key"`
	Ciphertext   []byte    `parquet:"ciphertext" json:"ct"`
	ReceivedAt   time.Time `parquet:"received_at,timestamp(microsecond)" json:"rcv"`
	Origin
}

// LedgerRow is a row of ledger.
type LedgerRow struct {
	SourceID string    `parquet:"source_id,dict" json:"src"`
	Minute   time.Time `parquet:"minute,timestamp(microsecond)" json:"min"`
	Outcome  string    `parquet:"outcome,dict" json:"out"`
	Reason   string    `parquet:"reason,optional,dict" json:"why,omitempty"`
	N        int64     `parquet:"n" json:"n"`
	Origin
}

// CountRow is a row of counts.
type CountRow struct {
	SourceID string    `parquet:"source_id,dict" json:"src"`
	Hour     time.Time `parquet:"hour,timestamp(microsecond)" json:"hour"`
	Type     string    `parquet:"type,dict" json:"type"`
	Event    string    `parquet:"event,optional,dict" json:"event,omitempty"`
	N        int64     `parquet:"n" json:"n"`
	// Page is a pattern of the tracking plan, never what was sent.
	Page        string `parquet:"page,optional,dict" json:"page,omitempty"`
	DeviceClass string `parquet:"device_class,optional,dict" json:"dev,omitempty"`
	Origin
}

// SealKeyRow is a row of seal_keys.
type SealKeyRow struct {
	KeyID           string    `parquet:"key_id" json:"id"`
	Purpose         string    `parquet:"purpose,dict" json:"pur"`
	Recipient       string    `parquet:"recipient,dict" json:"to"`
	PSKID           string    `parquet:"psk_id,dict" json:"psk"`
	EncapsulatedKey []byte    `parquet:"encapsulated_key" json:"enc"`
	CreatedAt       time.Time `parquet:"created_at,timestamp(microsecond)" json:"at"`
	Origin
}

// ElementRow is a row of elements: the group element of a pseudonym, landed with
// the first rows that have the pseudonym.
type ElementRow struct {
	Pseudonym  string    `parquet:"pseudonym" json:"p"`
	Element    []byte    `parquet:"element" json:"el"`
	KeyVersion int64     `parquet:"key_version" json:"ver"`
	ReceivedAt time.Time `parquet:"received_at,timestamp(microsecond)" json:"rcv"`
	Origin
}

// Rows is what one request, or one landed range of the spool, adds to the
// landing tables.
type Rows struct {
	Events     []EventRow      `json:"events,omitempty"`
	Vault      []VaultRow      `json:"vault,omitempty"`
	Consents   []ConsentRow    `json:"consents,omitempty"`
	Quarantine []QuarantineRow `json:"quarantine,omitempty"`
	Ledger     []LedgerRow     `json:"ledger,omitempty"`
	Counts     []CountRow      `json:"counts,omitempty"`
	SealKeys   []SealKeyRow    `json:"seal_keys,omitempty"`
	Elements   []ElementRow    `json:"elements,omitempty"`
}

// append adds the rows of one record, which had the sequence number seq in the
// spool. Counters of one key are added up, so that a landed range holds few
// rows of them, and their place is that of its first record: that of a request
// would tell which person's events came with what was only to be counted.
func (rows *Rows) append(r Rows, spoolID string, seq, first uint64) {
	origin := Origin{SpoolID: spoolID, SpoolOffset: int64(seq)}
	rows.Events = appendRows(rows.Events, r.Events, func(e *EventRow) { e.Origin = origin })
	rows.Vault = appendRows(rows.Vault, r.Vault, func(v *VaultRow) { v.Origin = origin })
	rows.Consents = appendRows(rows.Consents, r.Consents, func(c *ConsentRow) { c.Origin = origin })
	rows.Quarantine = appendRows(rows.Quarantine, r.Quarantine, func(q *QuarantineRow) { q.Origin = origin })
	rows.SealKeys = appendRows(rows.SealKeys, r.SealKeys, func(k *SealKeyRow) { k.Origin = origin })
	rows.Elements = appendRows(rows.Elements, r.Elements, func(e *ElementRow) { e.Origin = origin })
	counters := Origin{SpoolID: spoolID, SpoolOffset: int64(first)}
	for _, l := range r.Ledger {
		l.Origin = counters
		rows.Ledger = addUp(rows.Ledger, l, (*LedgerRow).same, (*LedgerRow).add)
	}
	for _, c := range r.Counts {
		c.Origin = counters
		rows.Counts = addUp(rows.Counts, c, (*CountRow).same, (*CountRow).add)
	}
}

// same tells whether two rows count the same.
func (l *LedgerRow) same(m *LedgerRow) bool {
	return l.SourceID == m.SourceID && l.Outcome == m.Outcome && l.Reason == m.Reason && l.Minute.Equal(m.Minute)
}

func (l *LedgerRow) add(m *LedgerRow) { l.N += m.N }

func (c *CountRow) same(d *CountRow) bool {
	return c.SourceID == d.SourceID && c.Type == d.Type && c.Event == d.Event && c.Page == d.Page && c.DeviceClass == d.DeviceClass && c.Hour.Equal(d.Hour)
}

func (c *CountRow) add(d *CountRow) { c.N += d.N }

func appendRows[T any](to, from []T, stamp func(*T)) []T {
	for _, row := range from {
		stamp(&row)
		to = append(to, row)
	}
	return to
}

func addUp[T any](to []T, row T, same func(a, b *T) bool, add func(into, n *T)) []T {
	for i := range to {
		if same(&to[i], &row) {
			add(&to[i], &row)
			return to
		}
	}
	return append(to, row)
}
