package syncer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// sources is what a plan reads, as it was found in the warehouse.
type sources struct {
	dialect        dialect
	columns        []column // one per mapped field
	erasures       bool     // there is a table of erasures
	consentExpires bool     // a consent may have an end
}

// inspect finds what the plan of s reads, or tells all that is missing.
func inspect(ctx context.Context, d warehouse.Driver, s Sync) (sources, error) {
	model, err := relation(ctx, d, s, warehouse.SchemaModels, s.Model, s.Key, s.Profile)
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
	_, err = d.Columns(ctx, warehouse.SchemaLanding, "erasures")
	if err != nil && !errors.Is(err, warehouse.ErrNoRelation) {
		return src, fmt.Errorf("look for erasures: %w", err)
	}
	src.erasures = err == nil
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
		columns[i] = column{Name: f.Field, Type: warehouse.String}
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

// consent is a query for who may be sent for the purpose at a time: one row per
// profile that ever was asked. Were there several verdicts on one, each would
// have to allow it. only is a further condition, so that few rows are read.
func (src sources) consent(purpose string, now time.Time, only string) string {
	allowed := "allowed"
	if src.consentExpires {
		allowed = "allowed AND (expires_at IS NULL OR expires_at > " + src.instant(now) + ")"
	}
	return `SELECT profile_id, MIN(CASE WHEN ` + allowed + ` THEN 1 ELSE 0 END) = 1 AS allowed,
		MAX(decision_id) AS decision_id, MAX(policy_version) AS policy_version, MAX(decided_at) AS decided_at
		FROM ` + models("consent_profile") + ` WHERE purpose = ` + literal(purpose) + only + ` GROUP BY profile_id`
}

func (src sources) instant(t time.Time) string {
	return "CAST(" + literal(t.UTC().Format("2006-01-02 15:04:05.000000")+"+00") + " AS " + warehouse.Timestamp.In(string(src.dialect)) + ")"
}

// erased is a query for the pseudonyms that were erased, and when last.
func (src sources) erased() string {
	if !src.erasures {
		return "SELECT '' AS pseudonym, CAST(NULL AS " + warehouse.Timestamp.In(string(src.dialect)) + ") AS erased_at"
	}
	return "SELECT pseudonym, MAX(erased_at) AS erased_at FROM " + landing("erasures") + " GROUP BY pseudonym"
}

// verdict joins consent c and erasures e1, e2 to a row with key and profile_id,
// as expressions of the columns asked, allowed and erased. An erasure stands
// until a later decision.
const verdict = `c.profile_id IS NOT NULL AS asked, COALESCE(c.allowed, FALSE) AS allowed,
	(e1.erased_at IS NOT NULL AND (c.decided_at IS NULL OR e1.erased_at >= c.decided_at))
	OR (e2.erased_at IS NOT NULL AND (c.decided_at IS NULL OR e2.erased_at >= c.decided_at)) AS erased,
	c.decision_id AS c_decision_id, c.policy_version AS c_policy_version`

// diff is the statement that stores the changes of a plan: the model, with the
// consent that stands now, against the state, in one full outer join.
func (src sources) diff(s Sync, planID string, now time.Time) string {
	version := literal(s.mappingVersion(src.columns))
	left := "'left_model'"
	if s.Mode == ModeUpsert {
		// Whoever nobody answers for any more may not stay either.
		left = "CASE WHEN asked THEN 'unchanged' ELSE 'consent_missing' END"
	}
	return `INSERT INTO ` + own("plan_changes") + ` (plan_id, sync, seq, key, profile_id, kind, op, reason, row_hash, change_id, decision_id, policy_version, payload, known)
WITH consent AS (` + src.consent(s.Purpose, now, "") + `),
erased AS (` + src.erased() + `),
duplicate AS (` + src.duplicates(s) + `),
model AS (` + src.rows(s) + `),
state_rows AS (SELECT * FROM ` + own("state") + ` WHERE sync = ` + literal(s.Name) + `),
joined AS (
	SELECT COALESCE(m.key, k.key) AS key, COALESCE(m.profile_id, k.profile_id) AS profile_id,
		m.profile_id AS m_profile, m.payload, m.row_hash AS m_hash, m.incomplete,
		m.duplicate IS NOT NULL AS in_model, COALESCE(m.duplicate, FALSE) AS duplicate,
		k.key IS NOT NULL AS known, k.profile_id AS k_profile, k.row_hash, k.mapping_version, k.present, k.unsure, k.resend,
		k.status, k.op, k.pending_hash, k.change_id, k.decision_id, k.policy_version
	FROM model m FULL OUTER JOIN state_rows k ON m.key = k.key
),
judged AS (
	SELECT j.*, ` + verdict + `
	FROM joined j LEFT JOIN consent c ON c.profile_id = j.profile_id
	LEFT JOIN erased e1 ON e1.pseudonym = j.key LEFT JOIN erased e2 ON e2.pseudonym = j.profile_id
),
reasoned AS (
	SELECT *, CASE
		WHEN in_model AND COALESCE(key, '') = '' THEN 'key_null'
		WHEN erased AND known THEN 'erased'
		WHEN asked AND NOT allowed AND known THEN 'consent_withdrawn'
		WHEN duplicate THEN 'key_duplicate'
		WHEN in_model AND (erased OR NOT allowed) THEN CASE WHEN known THEN 'consent_missing' ELSE 'withheld' END
		WHEN NOT in_model THEN ` + left + `
		WHEN incomplete THEN 'field_missing'
		WHEN NOT known THEN 'new'
		WHEN unsure AND NOT resend AND pending_hash = m_hash THEN 'outcome_unknown'
		WHEN unsure THEN 'unacknowledged'
		WHEN row_hash = m_hash THEN 'unchanged'
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
		WHEN reason IN ('erased', 'consent_withdrawn', 'consent_missing', 'left_model') THEN CASE WHEN present THEN 'remove' ELSE 'forget' END
		WHEN reason IN (` + literals(holdReasons()) + `) THEN 'hold'
		WHEN row_hash IS NULL THEN 'add'
		ELSE 'update' END AS kind
	FROM reasoned WHERE reason NOT IN ('unchanged', 'withheld')
),
sequenced AS (
	SELECT *, CASE kind WHEN 'remove' THEN 'remove' ELSE 'upsert' END AS next_op,
		CASE kind WHEN 'remove' THEN 1 WHEN 'update' THEN 2 WHEN 'add' THEN 3 ELSE 4 END AS turn,
		CASE kind WHEN 'remove' THEN NULL ELSE m_hash END AS next_hash
	FROM classed
)
SELECT ` + literal(planID) + `, ` + literal(s.Name) + `, ROW_NUMBER() OVER (ORDER BY turn, key),
	key, profile_id, kind, next_op, reason, next_hash,
	CASE WHEN unsure AND op = next_op AND COALESCE(pending_hash, '') = COALESCE(next_hash, '') THEN change_id
		ELSE ` + src.dialect.md5(literal(planID)+` || '|' || next_op || '|' || COALESCE(next_hash, '') || '|' || key`) + ` END,
	CASE kind WHEN 'remove' THEN COALESCE(c_decision_id, decision_id) ELSE c_decision_id END,
	CASE kind WHEN 'remove' THEN COALESCE(c_policy_version, policy_version) ELSE c_policy_version END,
	CASE WHEN kind IN ('add', 'update') THEN payload END, known
FROM sequenced`
}

// duplicates is a query for the keys that several rows of the model have.
func (src sources) duplicates(s Sync) string {
	key := src.dialect.quote(s.Key)
	return `SELECT ` + src.dialect.text(key) + ` AS key FROM ` + models(src.dialect.quote(s.Model)) +
		` WHERE ` + key + ` IS NOT NULL GROUP BY 1 HAVING COUNT(*) > 1`
}

// rows is a query for the rows of the model with their payloads and hashes, and
// one row for each duplicate key.
func (src sources) rows(s Sync) string {
	d := src.dialect
	var encoded, entries, incomplete, joins []string
	for i, f := range s.Mapping {
		name := fmt.Sprintf("f%d", i)
		switch {
		case f.Column != "":
			encoded = append(encoded, d.encode("r."+d.quote(f.Column), src.columns[i].Type)+" AS "+name)
		case f.Sealed != "":
			alias := fmt.Sprintf("s%d", slices.Index(s.sealedFields(), f.Sealed))
			encoded = append(encoded, alias+".token AS "+name)
		default:
			continue
		}
		entries = append(entries, "COALESCE("+d.byteLength(name)+" || ':' || "+name+", '-')")
		if f.Required {
			incomplete = append(incomplete, name+" IS NULL")
		}
	}
	for i, field := range s.sealedFields() {
		joins = append(joins, fmt.Sprintf("LEFT JOIN (%s) s%d ON s%d.profile_id = %s", newestSealed(s.Purpose, field), i, i, d.text("r."+d.quote(s.Profile))))
	}
	entries = append(entries, "''")
	incomplete = append(incomplete, "FALSE")
	encoded = append([]string{d.text("r."+d.quote(s.Key)) + " AS key", d.text("r."+d.quote(s.Profile)) + " AS profile_id"}, encoded...)

	return `SELECT key, profile_id, payload, ` + d.md5(literal(s.mappingVersion(src.columns))+" || '|' || payload") + ` AS row_hash, incomplete, FALSE AS duplicate
	FROM (
		SELECT f.key, f.profile_id, ` + strings.Join(entries, " || ") + ` AS payload, ` + strings.Join(incomplete, " OR ") + ` AS incomplete
		FROM (SELECT ` + strings.Join(encoded, ", ") + ` FROM ` + models(d.quote(s.Model)) + ` r ` + strings.Join(joins, " ") + `) f
		LEFT JOIN duplicate ON duplicate.key = f.key WHERE duplicate.key IS NULL
	) p
	UNION ALL SELECT key, NULL, NULL, NULL, FALSE, TRUE FROM duplicate`
}

// newestSealed is a query for the token of a field of each profile. A person
// may have several, such as two e-mail addresses: the newest counts.
func newestSealed(purpose, field string) string {
	return `SELECT profile_id, token FROM (
		SELECT profile_id, token, ROW_NUMBER() OVER (PARTITION BY profile_id ORDER BY received_at DESC, pseudonym, token) AS nth
		FROM ` + models("profile_sealed") + ` WHERE purpose = ` + literal(purpose) + ` AND field = ` + literal(field) + `) WHERE nth = 1`
}
