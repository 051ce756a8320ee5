package collector

import (
	"encoding/json"
	"time"

	"github.com/sluis-cdp/sluis/collector/jsontree"
	"github.com/sluis-cdp/sluis/consent"
	"github.com/sluis-cdp/sluis/consent/seal"
)

// quarantined is what is sealed of an event: the message, and of its request what
// the steps need to take it through once more.
type quarantined struct {
	Type     string           `json:"type,omitempty"`
	Message  json.RawMessage  `json:"message"`
	Shared   json.RawMessage  `json:"context,omitempty"` // of its batch
	Received time.Time        `json:"received"`
	Sent     time.Time        `json:"sent,omitzero"`
	Signals  []consent.Signal `json:"signals,omitempty"` // of the request alone
	Granted  []string         `json:"granted"`           // under all signals, when it came
	Region   string           `json:"region,omitempty"`
	// UserAgent is there only if the message does not say it itself, and so is
	// AnonymousID, of the browser's cookie.
	UserAgent   string `json:"user_agent,omitempty"`
	AnonymousID string `json:"anonymous_id,omitempty"`
}

// maxQuarantined leaves room in a record of the spool.
const maxQuarantined = 1 << 20

// quarantineBinding is what a sealed event belongs to. All else that a replay
// goes by is in the seal, beside the message.
func quarantineBinding(id, source string) seal.Binding {
	return seal.Binding{Purpose: string(consent.Necessary), Field: "quarantine", Subject: id, Record: source}
}

// quarantine seals an event whole, to be looked at and replayed.
func (c *Collector) quarantine(e *Event, why departure) verdict {
	if len(e.body.Raw()) > maxQuarantined {
		return verdict{Withheld, "larger than 1 MB"}
	}
	q := quarantined{
		Type: e.typ, Message: json.RawMessage(e.body.Raw()), Shared: json.RawMessage(e.shared.Raw()),
		Received: e.req.received, Sent: e.req.sentAt, Signals: c.requestSignals(e.req), Granted: e.decision.granted, Region: e.region,
	}
	if e.userAgent.Kind() == jsontree.Missing {
		q.UserAgent = e.req.visitor.UserAgent
	}
	if sent, _ := scalar(e.anonymousID); sent == "" {
		q.AnonymousID = e.anonymous
	}
	body, err := json.Marshal(q)
	if err != nil {
		return verdict{Withheld, "cannot be encoded"}
	}
	id := newMessageID()
	s, key, err := c.Sealer.Seal(quarantineBinding(id, e.req.source.ID), string(body))
	if err != nil {
		c.Logger.Error("sealing an event for quarantine failed; it is withheld", "error", err)
		return verdict{Withheld, "cannot be sealed"}
	}
	e.addKey(c, key)
	row := QuarantineRow{
		QuarantineID: id, SourceID: e.req.source.ID, Type: e.typ, Reason: why.rule, Path: why.path,
		KeyID: s.KeyID, Ciphertext: s.Ciphertext, ReceivedAt: e.req.received,
	}
	if e.planned != nil { // a name that the plan does not have could be anything
		row.Event = e.planned.Name
	}
	e.rows.Quarantine = append(e.rows.Quarantine, row)
	return verdict{Quarantined, why.reason()}
}
