// Package syncer is the reverse ETL: it compares what a model says with what a
// destination acknowledged, and delivers the difference.
//
// [Syncer.Plan] computes and stores what would change, each change with its
// reason. [Syncer.Apply] delivers exactly that plan, and asks for consent again
// at the moment of sending. [Syncer.Run] does both, for a scheduler.
// DESIGN.md beside this file has the tables and what survives a crash.
package syncer

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/sluis-cdp/sluis/plugins/destination"
)

// A Sync declares that the rows of a model be kept in a destination, for one
// purpose. It is one YAML file in the workspace's syncs folder; see [Load].
type Sync struct {
	Name        string   // the file's name without .yaml
	File        string   // where it was declared, for messages
	Model       string   // table or view in the schema of the models
	Key         string   // column that identifies a row; opaque, unique
	Profile     string   // column with the profile whose consent counts; of accounts the key
	Members     Members  // if the rows are accounts
	Purpose     string   // without it nothing is sent
	Destination string   // name of the destination plugin
	Config      Settings // for the destination
	Mapping     []Field  // in the order the destination sees them
	Mode        Mode
	ModeLine    int // in the file, for messages; 0 if it does not say
	Guards      Guards
	Holdout     Holdout
	// Refresh is after how long a row that did not change is sent again, since
	// the destination forgets it; 0 is never.
	Refresh   time.Duration
	Rate      Rate
	RateLine  int // in the file, for messages
	BatchRows int // the most rows of one batch; the destination may want fewer
	Schedule  Schedule
}

// Members says whose consent counts for a row that is an account, not a person.
// The zero value says that rows are of people.
type Members struct {
	Model      string // of account_id and profile_id: who belongs to which account
	Consenting int64  // how many of them have to agree to the purpose
}

// Mode says what becomes of rows that changed, and of those that left the model.
type Mode string

// The modes. In all of them, whoever withdrew consent or was erased is removed.
const (
	ModeMirror Mode = "mirror" // rows that changed are sent again, those that left the model are removed
	ModeUpsert Mode = "upsert" // rows that changed are sent again, those that left the model stay
	ModeUpdate Mode = "update" // rows that are there already are changed, none is made, those that left the model stay
	ModeCreate Mode = "create" // each row is sent once, and left alone from then on
	ModeAppend Mode = "append" // rows are events: each is sent once, also if everything is to be sent again
	ModeFull   Mode = "full"   // each run sends all rows, those that left the model are removed
)

func modes() []Mode {
	return []Mode{ModeMirror, ModeUpsert, ModeUpdate, ModeCreate, ModeAppend, ModeFull}
}

// keeps reports whether rows that left the model stay at the destination.
func (m Mode) keeps() bool { return m != ModeMirror && m != ModeFull }

// once reports whether a row that was acknowledged is left alone.
func (m Mode) once() bool { return m == ModeCreate || m == ModeAppend }

// compares reports whether a row that was acknowledged is sent again when it changes.
func (m Mode) compares() bool { return !m.once() && m != ModeFull }

// Fits reports, with file and line, whether a destination can do what the mode and the
// rate of s ask for.
func (s Sync) Fits(d destination.Description) error {
	if s.Rate != (Rate{}) && !d.Paced {
		return fmt.Errorf("%s:%d: rate: the destination %s does not make requests that wait for their turn: remove it", s.File, cmp.Or(s.RateLine, 1), d.Name)
	}
	if s.Mode != ModeUpdate || d.UpdateOnly {
		return nil
	}
	return fmt.Errorf("%s:%d: mode %s: the destination %s would make what is not there: choose mode %s, or a destination that can update alone (sluis destinations ls)",
		s.File, cmp.Or(s.ModeLine, 1), s.Mode, d.Name, ModeUpsert)
}

// Holdout keeps a share of a sync's rows from the destination, so that it can be
// measured what the sync changes. The zero value holds out nobody.
//
// Who is held out is a function of the seed and of what Column says alone: the
// same at any time, of all syncs with the same seed, and of a larger share too.
type Holdout struct {
	Share  float64 // from 0, and less than 1
	Seed   string
	Column string // of the model; rows with the same value share their lot
}

// threshold is what the first eight hexadecimal digits of a digest are less than
// if it is of a row that is held out.
func (h Holdout) threshold() string { return fmt.Sprintf("%08x", uint64(h.Share*(1<<32))) }

// Field is one field of the destination. It comes from exactly one of Column,
// Sealed and Value.
type Field struct {
	Field    string  // name at the destination
	Column   string  // a column of the model
	Sealed   string  // a field of the person's sealed data
	Value    *string // the same for every row
	Required bool    // a row without a value is held; otherwise NULL is sent
	Line     int     // in the file, for messages
}

// Guards hold back removals that look like a mistake in a model, and additions
// to what is too small. They never hold back a withdrawal or an erasure.
type Guards struct {
	MaxRemovedShare float64 // of the rows at the destination
	MinRemoved      int64   // fewer removals than this are never held, unless the model is empty
	// MinSize is the least number of rows that a destination is to have: while
	// there would be fewer, none is added. A few people are easily told apart.
	MinSize int64
}

// Settings are a destination's configuration. They may hold secrets, so they
// print, log and marshal as names only.
type Settings map[string]string

const hidden = "…"

func (s Settings) names() map[string]string {
	names := make(map[string]string, len(s))
	for name := range s {
		names[name] = hidden
	}
	return names
}

// String hides the values.
func (s Settings) String() string { return fmt.Sprint(s.names()) }

// GoString hides the values.
func (s Settings) GoString() string { return s.String() }

// LogValue hides the values.
func (s Settings) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalJSON hides the values.
func (s Settings) MarshalJSON() ([]byte, error) { return json.Marshal(s.names()) }

// Sealed is one sealed value with all that opening it needs: the row of the
// vault and the row of the data key that sealed it.
type Sealed struct {
	Pseudonym       string
	Field           string
	Purpose         string
	KeyID           string
	DecisionID      string
	Token           string
	ReceivedAt      time.Time
	Ciphertext      []byte
	Recipient       string
	PSKID           string
	EncapsulatedKey []byte
}

// String hides the content.
func (Sealed) String() string { return "[sealed]" }

// GoString hides the content.
func (Sealed) GoString() string { return "[sealed]" }

// sealedFields lists the sealed fields that the mapping asks for, each once.
func (s Sync) sealedFields() []string {
	var fields []string
	for _, f := range s.Mapping {
		if f.Sealed != "" && !slices.Contains(fields, f.Sealed) {
			fields = append(fields, f.Sealed)
		}
	}
	return fields
}

// definition digests all that decides which changes a plan has. A stored plan
// is only applied under the definition that it was made with.
func (s Sync) definition(columns []column) string {
	return digestOf("definition/2", s.Name, s.Model, s.Key, s.Profile, s.Purpose, s.Destination, string(s.Mode), s.Refresh.String(),
		s.Members.Model, strconv.FormatInt(s.Members.Consenting, 10),
		s.Holdout.threshold(), s.Holdout.Seed, s.Holdout.Column, s.mappingVersion(columns))
}

// mappingVersion digests what turns a row into values. It is part of the row
// hash, so a change of the mapping sends every row again.
func (s Sync) mappingVersion(columns []column) string {
	parts := []string{"mapping/1"}
	for i, f := range s.Mapping {
		source, from := f.source()
		parts = append(parts, f.Field, source, from, string(columns[i].Type))
	}
	return digestOf(parts...)[:16]
}

// source says where the field comes from.
func (f Field) source() (kind, from string) {
	switch {
	case f.Sealed != "":
		return "sealed", f.Sealed
	case f.Value != nil:
		return "value", *f.Value
	}
	return "column", f.Column
}

// origin is that as text, without a constant itself.
func (f Field) origin() string {
	kind, from := f.source()
	if f.Value != nil {
		from = digestOf(from)[:8]
	}
	return kind + " " + from
}

// digestOf is a digest of a list, in which no two lists are alike.
func digestOf(parts ...string) string {
	h := sha256.New()
	for _, part := range parts {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(h.Sum(nil))
}
