package syncer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// sources is what a plan reads, as it was found in the warehouse.
type sources struct {
	dialect        dialect
	columns        []column // one per mapped field
	erasures       bool     // somebody may be being erased
	fingerprints   bool     // rows of the state that did not change are to get theirs first
	consentExpires bool     // a consent may have an end
}

// inspect finds what the plan of s reads, or tells all that is missing.
func inspect(ctx context.Context, d warehouse.Driver, s Sync) (sources, error) {
	needed := []string{s.Key, s.Profile}
	if s.Holdout.Share > 0 {
		needed = append(needed, s.Holdout.Column)
	}
	model, err := relation(ctx, d, s, warehouse.SchemaModels, s.Model, needed...)
	if err != nil {
		return sources{}, err
	}
	src, err := inspectConsent(ctx, d, s)
	if err != nil {
		return src, err
	}
	src.columns, err = mapped(s, model)
	return src, err
}

// inspectConsent finds what both plan and apply read: all but the model.
func inspectConsent(ctx context.Context, d warehouse.Driver, s Sync) (sources, error) {
	src := sources{dialect: dialect(d.Dialect())}
	consent, err := relation(ctx, d, s, warehouse.SchemaModels, "consent_profile",
		"profile_id", "purpose", "allowed", "decision_id", "policy_version", "decided_at")
	if err != nil {
		return src, err
	}
	_, src.consentExpires = find(consent, "expires_at")
	if s.Members.Model != "" {
		if _, err := relation(ctx, d, s, warehouse.SchemaModels, s.Members.Model, "account_id", "profile_id"); err != nil {
			return src, err
		}
	}
	if len(s.sealedFields()) > 0 {
		if _, err := relation(ctx, d, s, warehouse.SchemaModels, "profile_sealed",
			"profile_id", "field", "purpose", "pseudonym", "key_id", "ciphertext", "token", "decision_id", "received_at"); err != nil {
			return src, err
		}
		if _, err := relation(ctx, d, s, warehouse.SchemaLanding, "seal_keys",
			"key_id", "purpose", "recipient", "psk_id", "encapsulated_key"); err != nil {
			return src, err
		}
	}
	src.erasures = true // until somebody has looked; and for a run, since an erasure may begin while it goes on
	return src, nil
}

// relation returns the columns of a table or view that must have the ones
// named.
func relation(ctx context.Context, d warehouse.Driver, s Sync, schema, name string, needed ...string) ([]warehouse.Column, error) {
	columns, err := d.Columns(ctx, schema, name)
	if errors.Is(err, warehouse.ErrNoRelation) {
		return nil, fmt.Errorf("%s: there is no %s.%s in the warehouse: correct the name, or build the models first with sluis models run: %w", s.File, schema, name, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: look at %s.%s: %w", s.File, schema, name, err)
	}
	var missing []string
	for _, column := range needed {
		if _, ok := find(columns, column); !ok {
			missing = append(missing, column)
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("%s: %s.%s lacks %s; it has %s: correct the sync or the model",
			s.File, schema, name, strings.Join(missing, ", "), strings.Join(namesOf(columns), ", "))
	}
	return columns, nil
}

// mapped finds the type of each mapped field.
func mapped(s Sync, model []warehouse.Column) ([]column, error) {
	columns := make([]column, len(s.Mapping))
	var problems []error
	for i, f := range s.Mapping {
		columns[i] = column{Name: f.Field, Type: warehouse.String, From: f.origin()}
		if f.Column == "" {
			continue
		}
		found, ok := find(model, f.Column)
		if !ok {
			problems = append(problems, fmt.Errorf("%s:%d: the model %s has no column %q; it has %s: correct the mapping or the model",
				s.File, f.Line, s.Model, f.Column, strings.Join(namesOf(model), ", ")))
		}
		columns[i].Type = found.Type
	}
	return columns, errors.Join(problems...)
}

func find(columns []warehouse.Column, name string) (warehouse.Column, bool) {
	i := slices.IndexFunc(columns, func(c warehouse.Column) bool { return strings.EqualFold(c.Name, name) })
	if i < 0 {
		return warehouse.Column{}, false
	}
	return columns[i], true
}

func namesOf(columns []warehouse.Column) []string {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.Name
	}
	return names
}

// consent is a query for who may be sent for the purpose of s at a time: one row per
// profile that ever was asked. Were there several verdicts on one, each would
// have to allow it. among names a table of the query with the only profiles that
// are asked about, so that few rows are read; there has to be one named erased.
//
// Of a sync of accounts it has a row per account with members that were asked: it
// may be sent if enough of them allow it, and one of their decisions stands for all.
// Whoever is being erased counts no more.
func (src sources) consent(s Sync, now time.Time, among string) string {
	if s.Members.Model == "" {
		return src.verdicts(s.Purpose, now, among)
	}
	members := "SELECT account_id, profile_id FROM " + models(src.dialect.quote(s.Members.Model)) + " WHERE profile_id NOT IN (SELECT id FROM erased)"
	if among != "" {
		members += " AND account_id IN (SELECT profile_id FROM " + among + ")"
	}
	return `SELECT m.account_id AS profile_id, COUNT(DISTINCT CASE WHEN v.allowed THEN v.profile_id END) >= ` + strconv.FormatInt(s.Members.Consenting, 10) + ` AS allowed,
		MAX(CASE WHEN v.allowed THEN v.decision_id END) AS decision_id, MAX(CASE WHEN v.allowed THEN v.policy_version END) AS policy_version,
		CAST(NULL AS ` + warehouse.Timestamp.In(string(src.dialect)) + `) AS decided_at
		FROM (` + members + `) m JOIN (` + src.verdicts(s.Purpose, now, "") + `) v ON v.profile_id = m.profile_id GROUP BY m.account_id`
}

// verdicts is that query for people.
func (src sources) verdicts(purpose string, now time.Time, among string) string {
	only := ""
	if among != "" {
		only = " AND profile_id IN (SELECT profile_id FROM " + among + ")"
	}
	return `SELECT profile_id, MIN(CASE WHEN ` + src.allowed(now) + ` THEN 1 ELSE 0 END) = 1 AS allowed,
		MAX(decision_id) AS decision_id, MAX(policy_version) AS policy_version, MAX(decided_at) AS decided_at
		FROM ` + models("consent_profile") + ` WHERE purpose = ` + literal(purpose) + only + ` GROUP BY profile_id`
}

// allowed is the condition under which a row of consent_profile allows.
func (src sources) allowed(now time.Time) string {
	if src.consentExpires {
		return "allowed AND (expires_at IS NULL OR expires_at > " + src.instant(now) + ")"
	}
	return "allowed"
}

func (src sources) instant(t time.Time) string {
	return "CAST(" + literal(t.UTC().Format("2006-01-02 15:04:05.000000")+"+00") + " AS " + warehouse.Timestamp.In(string(src.dialect)) + ")"
}

// erased is a query for those who are being erased, and since when.
const erased = "SELECT id, MAX(erased_at) AS erased_at FROM " + warehouse.SchemaSync + "." + erasedTable + " GROUP BY id"

// joinErased joins rows with the erasures e1 of their key and e2 of their profile.
func (src sources) joinErased(of string) string {
	if !src.erasures {
		return "" // it would be a sixth of a plan
	}
	return " LEFT JOIN erased e1 ON e1.id = " + of + ".key LEFT JOIN erased e2 ON e2.id = " + of + ".profile_id"
}

// erasedNow says, of a row joined with consent c and its erasures, whether it is
// erased. An erasure stands until a later decision.
func (src sources) erasedNow() string {
	if !src.erasures {
		return "FALSE"
	}
	return `(e1.erased_at IS NOT NULL AND (c.decided_at IS NULL OR e1.erased_at >= c.decided_at))
	OR (e2.erased_at IS NOT NULL AND (c.decided_at IS NULL OR e2.erased_at >= c.decided_at))`
}

// verdict is what is known of such a row: whether the person was ever asked,
// allows it, and was erased.
func (src sources) verdict() string {
	return `c.profile_id IS NOT NULL AS asked, COALESCE(c.allowed, FALSE) AS allowed, ` + src.erasedNow() + ` AS erased,
	c.decision_id AS c_decision_id, c.policy_version AS c_policy_version`
}

// terms are expressions in which modes differ.
type terms struct {
	left    string // the reason for a row that is known and not in the model any more
	differs string // whether a row of the model m differs from what k knows of it
	settled string // whether a row that is known is left alone whatever the model has
	same    string // the reason for a row that does not differ
	first   string // the kind of change of a row that was never acknowledged
	more    string // columns of the state that differs needs beside its usual ones
}

// absentAgain is when a row that was not there is tried again by a sync that only
// updates and has no refresh: by each run of one that runs daily, and not by each
// of one that runs all the time.
const absentAgain = 20 * time.Hour

func (src sources) terms(s Sync, now time.Time) terms {
	t := terms{left: "'left_model'", differs: "m.incomplete OR COALESCE(k.row_hash, '') <> m.row_hash", settled: "FALSE", same: "'unchanged'", first: "'add'"}
	if src.dialect.fingerprints() {
		t.differs = "m.incomplete OR k.fingerprint IS NULL OR k.fingerprint <> m.fingerprint"
	}
	if s.Mode.keeps() {
		// Whoever nobody answers for any more may not stay either.
		t.left = "CASE WHEN asked THEN 'unchanged' ELSE 'consent_missing' END"
	}
	switch {
	case s.Mode.once():
		t.differs, t.settled = "COALESCE(k.row_hash, '') = ''", "known AND NOT unsure AND COALESCE(row_hash, '') <> ''"
	case s.Mode == ModeFull:
		t.differs, t.same = "TRUE", "'full'"
	case s.Refresh > 0:
		expired := "acked_at <= " + src.instant(now.Add(-s.Refresh))
		t.differs, t.same = t.differs+" OR k."+expired, "CASE WHEN "+expired+" THEN 'refresh' ELSE 'unchanged' END"
	}
	if s.Mode == ModeUpdate {
		expired := "acked_at <= " + src.instant(now.Add(-cmp.Or(s.Refresh, absentAgain)))
		t.more, t.first = ", status = 'skipped' AS absent", "'update'"
		t.differs += " OR k.absent AND k." + expired
		t.same = "CASE WHEN status = 'skipped' AND " + expired + " THEN 'absent' ELSE " + t.same + " END"
	}
	return t
}

// compare stores the changes of a plan: with a sequence number each, removals first.
func (r *run) compare(ctx context.Context, d warehouse.Driver, src sources, planID string, now time.Time) error {
	err := r.keeping(ctx, d, func(ctx context.Context) error {
		var err error
		if src.fingerprints {
			err = d.Exec(ctx, src.takeFingerprints(r.sync))
		}
		if err == nil {
			err = d.Exec(ctx, src.diff(r.sync, planID, now))
		}
		if err == nil && src.dialect != bigquery {
			err = d.Exec(ctx, number, planID)
		}
		return err
	})
	if errors.Is(err, ErrLeaseLost) {
		return err
	}
	if err != nil {
		return fmt.Errorf("sync %s: compare the model %s with what was sent: %w", r.sync.Name, r.sync.Model, err)
	}
	return nil
}

// number gives the changes of a plan their sequence numbers in DuckDB, where a window
// over rows as wide as these, on top of the joins that find them, may need more memory
// than there is. Here nothing but keys is sorted, and the column is written in place.
var number = `UPDATE ` + own("plan_changes") + ` SET seq = n.seq FROM (
		SELECT id, ROW_NUMBER() OVER () AS seq FROM (SELECT rowid AS id FROM ` + own("plan_changes") + ` WHERE plan_id = ? ORDER BY ` + turn + `, key NULLS LAST)
	) n WHERE n.id = plan_changes.rowid`

// turn is when a change of plan_changes is sent: the least goes first.
const turn = "CASE kind WHEN 'remove' THEN 1 WHEN 'update' THEN 2 WHEN 'add' THEN 3 WHEN 'refresh' THEN 4 ELSE 5 END"

// takeFingerprints is the statement that gives the rows of the state that have none of
// this version of the engine the fingerprint of their row in the model, if that has their
// hash. What is not in the model, or has changed, has none until it is sent.
func (src sources) takeFingerprints(s Sync) string {
	return `UPDATE ` + own("state") + ` SET fingerprint = n.fingerprint, fingerprint_by = version() FROM (
	SELECT k.rowid AS id, CASE WHEN m.row_hash = k.row_hash THEN m.fingerprint END AS fingerprint
	FROM ` + own("state") + ` k LEFT JOIN (` + src.rows(s, "") + `) m ON m.key = k.key
	WHERE k.sync = ` + literal(s.Name) + ` AND k.fingerprint_by IS DISTINCT FROM version()
) n WHERE n.id = state.rowid`
}

// diff is the statement that stores the changes of a plan, in DuckDB without their
// numbers. One full outer join of the model and the state, with nothing in it but keys,
// hashes or fingerprints, and flags, finds the keys that there is anything to say about;
// only of those it reads the rest. The join may find a key that needs nothing, or one
// twice, such as where there are two verdicts on one profile; it may not miss one.
func (src sources) diff(s Sync, planID string, now time.Time) string {
	version, t := literal(s.mappingVersion(src.columns)), src.terms(s, now)
	seq := "0" // see number
	if src.dialect == bigquery {
		seq = "ROW_NUMBER() OVER (ORDER BY " + turn + ", key NULLS LAST)"
	}
	return `INSERT INTO ` + own("plan_changes") + ` (plan_id, sync, seq, key, profile_id, kind, op, reason, row_hash, change_id, decision_id, policy_version, payload, known, fingerprint, fingerprint_by)
WITH erased AS (` + erased + `),
touched AS (
	SELECT COALESCE(m.key, k.key) AS key, m.here
	FROM (
		SELECT p.key, TRUE AS here, p.incomplete, p.row_hash, p.fingerprint, p.held_out, COALESCE(allowed, FALSE) AND NOT (` + src.erasedNow() + `) AS wanted
		FROM (` + src.rows(s, "") + `) p LEFT JOIN (` + src.everyVerdict(s, now) + `) c ON c.profile_id = p.profile_id` + src.joinErased("p") + `
	) m
	FULL OUTER JOIN (SELECT key, row_hash, fingerprint, unsure, acked_at` + t.more + ` FROM ` + own("state") + ` WHERE sync = ` + literal(s.Name) + `) k ON m.key = k.key` + assigned(s) + `
	WHERE m.here IS NULL OR COALESCE(m.key, '') = '' OR CASE WHEN m.wanted AND NOT m.held_out
		THEN k.key IS NULL OR k.unsure OR ` + t.differs + `
		ELSE k.key IS NOT NULL OR m.wanted AND ` + unassigned(s) + ` END
),
keys AS (SELECT key FROM touched WHERE COALESCE(key, '') <> '' GROUP BY key),
model AS (
	SELECT key, COUNT(*) AS copies, MIN(profile_id) AS profile_id, MIN(payload) AS payload, MIN(row_hash) AS row_hash, MIN(fingerprint) AS fingerprint,
		MAX(CASE WHEN incomplete THEN 1 ELSE 0 END) = 1 AS incomplete, MAX(CASE WHEN held_out THEN 1 ELSE 0 END) = 1 AS held_out
	FROM (` + src.rows(s, "keys") + `) GROUP BY key
),
joined AS (
	SELECT t.key, COALESCE(m.profile_id, k.profile_id) AS profile_id, m.profile_id AS m_profile, m.payload, m.row_hash AS m_hash, m.fingerprint, m.incomplete,
		COALESCE(m.held_out, FALSE) AS held_out, m.key IS NOT NULL AS in_model, COALESCE(m.copies, 0) > 1 AS duplicate,
		k.key IS NOT NULL AS known, k.profile_id AS k_profile, k.row_hash, k.mapping_version, k.present, k.unsure, k.resend,
		k.status, k.op, k.pending_hash, k.change_id, k.decision_id, k.policy_version, k.acked_at
	FROM keys t LEFT JOIN model m ON m.key = t.key
	LEFT JOIN ` + own("state") + ` k ON k.sync = ` + literal(s.Name) + ` AND k.key = t.key
),
judged AS (
	SELECT j.*, ` + src.verdict() + `
	FROM joined j
	LEFT JOIN (` + src.consent(s, now, "joined") + `) c ON c.profile_id = j.profile_id` + src.joinErased("j") + `
),
reasoned AS (
	SELECT *, CASE
		WHEN status = 'accepted' AND op = 'remove' AND (NOT in_model OR erased OR NOT allowed OR held_out) THEN 'unchanged'
		WHEN erased AND known THEN 'erased'
		WHEN asked AND NOT allowed AND known THEN 'consent_withdrawn'
		WHEN duplicate THEN 'key_duplicate'
		WHEN in_model AND (erased OR NOT allowed) THEN CASE WHEN known THEN 'consent_missing' ELSE 'withheld' END
		WHEN NOT in_model THEN ` + t.left + `
		WHEN held_out THEN 'holdout'
		WHEN ` + t.settled + ` THEN 'unchanged'
		WHEN incomplete THEN 'field_missing'
		WHEN NOT known THEN 'new'
		WHEN unsure AND NOT resend AND pending_hash = m_hash THEN 'outcome_unknown'
		WHEN unsure THEN 'unacknowledged'
		WHEN row_hash = m_hash THEN ` + t.same + `
		WHEN status = 'rejected' AND pending_hash = m_hash THEN
			CASE WHEN m_profile = k_profile THEN 'quarantined' ELSE 'left_model' END
		WHEN status = 'failed' AND op = 'upsert' THEN 'retry'
		WHEN row_hash IS NULL THEN 'new'
		WHEN row_hash = '' THEN 'resync'
		WHEN mapping_version <> ` + version + ` THEN 'mapping_changed'
		ELSE 'data_changed' END AS reason
	FROM judged
),
classed AS (
	SELECT *, CASE
		WHEN reason IN ('erased', 'consent_withdrawn', 'consent_missing', 'left_model') OR reason = 'holdout' AND known
			THEN CASE WHEN present THEN 'remove' ELSE 'forget' END
		WHEN reason IN (` + literals(holdReasons()) + `) THEN 'hold'
		WHEN reason IN ('refresh', 'absent') THEN 'refresh'
		WHEN row_hash IS NULL THEN ` + t.first + `
		ELSE 'update' END AS kind
	FROM reasoned WHERE reason NOT IN ('unchanged', 'withheld')
),
sequenced AS (
	SELECT *, CASE kind WHEN 'remove' THEN 'remove' ELSE 'upsert' END AS next_op,
		CASE kind WHEN 'remove' THEN NULL ELSE m_hash END AS next_hash
	FROM classed
),
changes AS (
	SELECT key, profile_id, kind, next_op, reason, next_hash,
		COALESCE(CASE WHEN unsure AND op = next_op AND COALESCE(pending_hash, '') = COALESCE(next_hash, '') THEN change_id END,
			` + src.dialect.ofChange(planID, "next_op", "COALESCE(next_hash, '')", "key") + `) AS change_id,
		CASE kind WHEN 'remove' THEN COALESCE(c_decision_id, decision_id) ELSE c_decision_id END AS decision_id,
		CASE kind WHEN 'remove' THEN COALESCE(c_policy_version, policy_version) ELSE c_policy_version END AS policy_version,
		CASE WHEN kind IN ('add', 'update', 'refresh') THEN payload END AS payload, known, CASE kind WHEN 'remove' THEN NULL ELSE fingerprint END AS fingerprint
	FROM sequenced
	UNION ALL SELECT key, NULL, 'hold', 'upsert', 'key_null', NULL, NULL, NULL, NULL, NULL, FALSE, NULL FROM touched WHERE COALESCE(key, '') = ''
)
SELECT ` + literal(planID) + `, ` + literal(s.Name) + `, ` + seq + `,
	key, profile_id, kind, next_op, reason, next_hash, change_id, decision_id, policy_version, payload, known,
	fingerprint, ` + src.dialect.engine() + `
FROM changes`
}

// everyVerdict is a query for all verdicts, of which there may be several on one
// profile: to group those of everybody would cost more than the join.
func (src sources) everyVerdict(s Sync, now time.Time) string {
	if s.Members.Model != "" {
		return src.consent(s, now, "")
	}
	return `SELECT profile_id, ` + src.allowed(now) + ` AS allowed, decided_at FROM ` + models("consent_profile") + ` WHERE purpose = ` + literal(s.Purpose)
}

// rows is a query for the rows of the model with their payloads, hashes and fingerprints;
// of the keys in the table only, if one is named.
func (src sources) rows(s Sync, only string) string {
	d := src.dialect
	key, profile := d.text("r."+d.quote(s.Key)), d.text("r."+d.quote(s.Profile))
	from := " FROM " + models(d.quote(s.Model)) + " r"
	if only != "" {
		only = " WHERE " + key + " IN (SELECT key FROM " + only + ")"
	}
	encoded := []string{key + " AS key", profile + " AS profile_id", src.heldOut(s) + " AS held_out"}
	entries, incomplete, marks := []string{"''"}, []string{"FALSE"}, []string{literal(s.mappingVersion(src.columns))}
	var joins strings.Builder
	for i, field := range s.sealedFields() {
		few := ""
		if only != "" {
			few = " AND profile_id IN (SELECT " + profile + from + only + ")"
		}
		fmt.Fprintf(&joins, " LEFT JOIN (%s) s%d ON s%d.profile_id = %s", src.newestSealed(s.Purpose, field, few), i, i, profile)
	}
	for i, f := range s.Mapping {
		name := fmt.Sprintf("f%d", i)
		mark := name
		switch {
		case f.Column != "":
			column := "r." + d.quote(f.Column)
			encoded = append(encoded, d.encode(column, src.columns[i].Type)+" AS "+name)
			if plain := d.plain(fmt.Sprintf("v%d", i), src.columns[i].Type); plain != "" {
				encoded, mark = append(encoded, fmt.Sprintf("%s AS v%d", column, i)), plain
			}
		case f.Sealed != "":
			encoded = append(encoded, fmt.Sprintf("s%d.token AS %s", slices.Index(s.sealedFields(), f.Sealed), name))
		default:
			continue
		}
		entries, marks = append(entries, d.entry(name, src.columns[i].Type)), append(marks, mark)
		if f.Required {
			incomplete = append(incomplete, name+" IS NULL")
		}
	}
	payload := strings.Join(entries, ", ")
	return `SELECT key, profile_id, held_out, CONCAT(` + payload + `) AS payload,
		` + d.md5("CONCAT("+literal(s.mappingVersion(src.columns)+"|")+", "+payload+")") + ` AS row_hash, ` + d.fingerprint(marks) + ` AS fingerprint, ` + strings.Join(incomplete, " OR ") + ` AS incomplete
	FROM (SELECT ` + strings.Join(encoded, ", ") + from + joins.String() + only + `)`
}

// heldOut says of a row r of the model whether it is held out.
func (src sources) heldOut(s Sync) string {
	if s.Holdout.Share == 0 {
		return "FALSE"
	}
	d := src.dialect
	lot := d.md5("CONCAT(" + literal(s.Holdout.Seed+"|") + ", " + d.text("r."+d.quote(s.Holdout.Column)) + ")")
	return "COALESCE(SUBSTR(" + lot + ", 1, 8) < " + literal(s.Holdout.threshold()) + ", FALSE)"
}

// assigned joins the rows m of the model with what was noted of those held out.
func assigned(s Sync) string {
	if s.Holdout.Share == 0 {
		return ""
	}
	return " LEFT JOIN (SELECT key FROM " + own("holdouts") + " WHERE sync = " + literal(s.Name) + " AND held_out) h ON h.key = m.key"
}

// unassigned is the condition under which it is not noted yet that the row is
// held out.
func unassigned(s Sync) string {
	if s.Holdout.Share == 0 {
		return "FALSE"
	}
	return "h.key IS NULL"
}

// newestSealed is a query for the token of a field of each profile. A person
// may have several, such as two e-mail addresses: the newest counts, and of
// several as new always the same one.
func (src sources) newestSealed(purpose, field, only string) string {
	at := src.dialect.encode("received_at", warehouse.Timestamp)
	return `SELECT profile_id, SUBSTR(MAX(CONCAT(LPAD(` + at + `, 20, '0'), token)), 21) AS token
		FROM ` + models("profile_sealed") + ` WHERE purpose = ` + literal(purpose) + ` AND field = ` + literal(field) + only + ` GROUP BY profile_id`
}
