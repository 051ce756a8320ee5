package record

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/sluis-cdp/sluis/consent"
)

// Receipt is a consent receipt in the shape of ISO/IEC TS 27560:2023, in JSON-LD
// with the terms of the W3C's Data Privacy Vocabulary (its profile dpv-27560). It
// is of one choice, with what the record has of it. What the standard asks for and
// a collector cannot know (where data is kept, who receives it, how it is
// withdrawn) is the operator's notice to say, which is named by its version.
type Receipt struct {
	Context    map[string]string `json:"@context"`
	Type       string            `json:"@type"`
	ID         string            `json:"dct:identifier"`
	ConformsTo string            `json:"dct:conformsTo"`
	Created    time.Time         `json:"dct:created"`
	Publisher  Party             `json:"dct:publisher"`
	Recipient  string            `json:"schema:recipient"`
	Record     ReceiptRecord     `json:"dpv:hasRecordOfActivity"`
}

// ReceiptRecord is the consent record that a receipt copies.
type ReceiptRecord struct {
	Type         string           `json:"@type"`
	ID           string           `json:"dct:identifier"`
	ConformsTo   string           `json:"dct:conformsTo"`
	Subject      ReceiptSubject   `json:"dpv:hasDataSubject"`
	Controller   Party            `json:"dpv:hasDataController"`
	Jurisdiction []string         `json:"dpv:hasJurisdiction,omitempty"`
	Notice       *ReceiptNotice   `json:"dpv:hasNotice,omitempty"`
	Process      []ReceiptProcess `json:"dpv:hasProcess"`
}

// ReceiptSubject is the person, by pseudonyms.
type ReceiptSubject struct {
	Type string   `json:"@type"`
	IDs  []string `json:"dpv:hasIdentifier"`
}

// ReceiptNotice is the notice that the person was shown.
type ReceiptNotice struct {
	Type    string `json:"@type"`
	Version string `json:"dpv:hasIdentifier"`
}

// Party is who is responsible.
type Party struct {
	Type    string `json:"@type"`
	Name    string `json:"schema:name"`
	Contact string `json:"dpv:hasContact,omitempty"`
}

// ReceiptProcess is what was decided about one purpose.
type ReceiptProcess struct {
	Type         string          `json:"@type"`
	Purpose      ReceiptPurpose  `json:"dpv:hasPurpose"`
	PersonalData []string        `json:"dpv:hasPersonalData"`
	LegalBasis   string          `json:"dpv:hasLegalBasis,omitempty"`
	Status       string          `json:"dpv:hasConsentStatus"`
	Time         time.Time       `json:"dct:date"`
	ValidUntil   time.Time       `json:"dct:valid,omitzero"`
	Evidence     ReceiptEvidence `json:"sluis:evidence"`
}

// ReceiptPurpose is a purpose in the workspace's words, and the vocabulary's
// nearest term.
type ReceiptPurpose struct {
	Type        string `json:"@type"`
	Name        string `json:"skos:prefLabel"`
	Description string `json:"dct:description,omitempty"`
	Broader     string `json:"skos:broader,omitempty"`
}

// ReceiptEvidence is by what it was decided, and where that is recorded.
type ReceiptEvidence struct {
	Signal        string   `json:"sluis:signal"`
	SignalDigest  string   `json:"sluis:signalDigest,omitempty"`
	PolicyVersion string   `json:"sluis:policyVersion"`
	Source        string   `json:"sluis:source"`
	Rows          []string `json:"sluis:rows,omitempty"` // "<chain>:<link>:<row>"
}

// terms are those of the Data Privacy Vocabulary for the standard purposes.
var terms = map[consent.Purpose]string{
	consent.Necessary:       "dpv:ServiceProvision",
	consent.Identity:        "dpv:IdentifyCustomer",
	consent.Analytics:       "dpv:ServiceUsageAnalytics",
	consent.Personalization: "dpv:ServicePersonalisation",
	consent.Marketing:       "dpv:DirectMarketing",
	consent.Advertising:     "dpv:TargetedAdvertising",
	consent.Sale:            "dpv:SellDataToThirdParties",
}

// legalBases are the vocabulary's terms, as a purpose rests on them.
var legalBases = map[consent.Basis]string{
	consent.BasisConsent:            "dpv:Consent",
	consent.BasisContract:           "dpv:Contract",
	consent.BasisLegalObligation:    "dpv:LegalObligation",
	consent.BasisVitalInterest:      "dpv:VitalInterest",
	consent.BasisPublicTask:         "dpv:PublicInterest",
	consent.BasisLegitimateInterest: "dpv:LegitimateInterest",
}

const profile = "https://w3id.org/dpv/schema/dpv-27560#"

// Receipts makes a receipt of each choice in the rows of one person, the oldest
// first. The husks among them are of somebody else, and left out.
func Receipts(rows []Row, controller Party, policy *consent.Policy, now time.Time) []Receipt {
	rows = slices.DeleteFunc(slices.Clone(rows), func(r Row) bool { return r.Husk() || r.Pseudonym == "" })
	slices.SortStableFunc(rows, func(a, b Row) int {
		return cmp.Or(a.DecidedAt.Compare(b.DecidedAt), cmp.Compare(a.DecisionID, b.DecisionID), cmp.Compare(a.Purpose, b.Purpose), cmp.Compare(a.Pseudonym, b.Pseudonym))
	})
	controller.Type = "dpv:DataController"
	receipts := []Receipt{}
	given := make(map[string]bool) // purposes that were, so that a refusal withdraws
	for len(rows) > 0 {
		n := 1
		for n < len(rows) && rows[n].DecisionID == rows[0].DecisionID && rows[n].DecidedAt.Equal(rows[0].DecidedAt) {
			n++
		}
		receipts = append(receipts, receipt(rows[:n], controller, policy, given, now))
		for _, r := range rows[:n] {
			given[r.Purpose] = r.Granted
		}
		rows = rows[n:]
	}
	return receipts
}

// receipt is that of the rows of one choice, which are sorted by purpose.
func receipt(rows []Row, controller Party, policy *consent.Policy, given map[string]bool, now time.Time) Receipt {
	first := rows[0]
	id := first.DecisionID + "-" + first.DecidedAt.UTC().Format("20060102T150405.000000Z")
	r := Receipt{
		Context: map[string]string{
			"dpv": "https://w3id.org/dpv#", "loc": "https://w3id.org/dpv/loc#", "dct": "http://purl.org/dc/terms/",
			"schema": "https://schema.org/", "skos": "http://www.w3.org/2004/02/skos/core#", "sluis": "urn:sluis:record:",
		},
		Type: "dpv:ConsentReceipt", ID: "receipt-" + id, ConformsTo: profile + "receipt-record",
		Created: now.UTC().Truncate(time.Second), Publisher: controller, Recipient: "dpv:DataSubject",
		Record: ReceiptRecord{
			Type: "dpv:ConsentRecord", ID: id, ConformsTo: profile + "record",
			Subject: ReceiptSubject{Type: "dpv:DataSubject"}, Controller: controller,
		},
	}
	if first.Region != "" {
		r.Record.Jurisdiction = []string{"loc:" + first.Region}
	}
	if first.Notice != "" {
		r.Record.Notice = &ReceiptNotice{"dpv:ConsentNotice", first.Notice}
	}
	for _, row := range rows {
		if !slices.Contains(r.Record.Subject.IDs, row.Pseudonym) {
			r.Record.Subject.IDs = append(r.Record.Subject.IDs, row.Pseudonym)
		}
		last := len(r.Record.Process) - 1
		if last < 0 || r.Record.Process[last].Purpose.Name != row.Purpose {
			r.Record.Process = append(r.Record.Process, process(row, policy, given[row.Purpose], now))
			last++
		}
		if row.Chain != "" {
			evidence := &r.Record.Process[last].Evidence
			evidence.Rows = append(evidence.Rows, row.Place.String())
		}
	}
	return r
}

func process(r Row, policy *consent.Policy, given bool, now time.Time) ReceiptProcess {
	purpose := consent.Purpose(r.Purpose)
	definition := policy.Definition(purpose)
	p := ReceiptProcess{
		Type:         "dpv:Process",
		Purpose:      ReceiptPurpose{"dpv:Purpose", r.Purpose, definition.Description, terms[purpose]},
		PersonalData: []string{"dpv:PseudonymisedData"},
		LegalBasis:   legalBases[definition.Basis],
		Status:       status(r, given, now),
		Time:         r.DecidedAt,
		Evidence:     ReceiptEvidence{Signal: r.Signal, SignalDigest: r.SignalDigest, PolicyVersion: r.PolicyVersion, Source: r.SourceID},
	}
	if r.Signal == string(consent.ByPolicy) {
		p.LegalBasis = "" // silence is none; the policy's version tells the rule
	}
	if r.Granted {
		p.ValidUntil = r.ExpiresAt
	}
	return p
}

// status is the vocabulary's term for what the choice was.
func status(r Row, given bool, now time.Time) string {
	switch {
	case r.Signal == string(consent.ByPolicy):
		return "dpv:ConsentUnknown" // nobody said anything
	case !r.Granted && given:
		return "dpv:ConsentWithdrawn"
	case !r.Granted:
		return "dpv:ConsentRefused"
	case !r.ExpiresAt.IsZero() && !now.Before(r.ExpiresAt):
		return "dpv:ConsentExpired"
	default:
		return "dpv:ConsentGiven"
	}
}

// Word is the status, in a word for people: given, refused, withdrawn,
// expired or unknown.
func (p ReceiptProcess) Word() string {
	return strings.ToLower(strings.TrimPrefix(p.Status, "dpv:Consent"))
}
