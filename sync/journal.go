package syncer

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

const (
	opUpsert = "upsert"
	opRemove = "remove"
)

// acknowledged lists the outcomes after which a change is done.
const acknowledged = "('delivered', 'accepted', 'skipped')"

// fetch reads the changes first to last, or those of them that are in again,
// asks for consent, opens what is sealed, and notes in the state that the rows
// are about to be sent: after a crash it is known that they may have arrived.
// Rows that may not be sent are recorded here and not returned.
func (a *application) fetch(ctx context.Context, first, last int64, again []int64) (_ []*row, err error) {
	ctx, span := startSpan(ctx, "announce")
	defer func() { endSpan(span, err) }()
	d, err := a.warehouse(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := a.read(ctx, d, first, last, again)
	if err != nil {
		return nil, fmt.Errorf("sync %s: read the next changes of plan %s: %w", a.Sync, a.PlanID, err)
	}
	if err := a.fill(ctx, d, first, last, rows); err != nil {
		return nil, err
	}
	if err := a.recall(ctx, d, rows); err != nil {
		return nil, err
	}
	var send, stay []*row
	for _, r := range rows {
		if r.skip == "" {
			send = append(send, r)
		} else {
			stay = append(stay, r)
		}
	}
	if err := a.recordUnsent(ctx, d, stay); err != nil {
		return nil, err
	}
	if len(send) > 0 {
		if err := a.announce(ctx, d, send); err != nil {
			return nil, err
		}
	}
	return send, a.release()
}

// read reads changes with what is known of them now.
func (a *application) read(ctx context.Context, d warehouse.Driver, first, last int64, again []int64) ([]*row, error) {
	which := fmt.Sprintf("plan_id = %s AND seq BETWEEN %d AND %d", literal(a.PlanID), first, last)
	if again != nil {
		which += " AND seq IN (" + numbers(again) + ")"
	} else if a.resumed {
		which += " AND seq NOT IN (SELECT seq FROM " + own("deliveries") + " WHERE plan_id = " + literal(a.PlanID) +
			" AND (outcome IN " + acknowledged + " OR outcome = 'rejected'))"
	}
	guarded := ""
	if a.options.Approve {
		guarded = " OR kind = 'hold' AND reason = 'guard'"
	}
	found, err := warehouse.Collect(ctx, d, `WITH part AS (SELECT * FROM `+own("plan_changes")+` WHERE `+which+` AND (kind IN ('add', 'update', 'refresh', 'remove')`+guarded+`)),
		erased AS (`+a.src.erased()+`),
		consent AS (`+a.src.consent(a.sync, a.config.Now(), "part")+`)
		SELECT seq, p.key, p.profile_id, kind, p.op, reason, p.row_hash, p.change_id, p.decision_id, p.policy_version, payload, known,
			present, unsure, resend, k.change_id, `+verdict+`
		FROM part p LEFT JOIN `+own("state")+` k ON k.sync = ? AND k.key = p.key
		LEFT JOIN consent c ON c.profile_id = p.profile_id
		LEFT JOIN erased e1 ON e1.id = p.key LEFT JOIN erased e2 ON e2.id = p.profile_id
		ORDER BY seq`, a.Sync)
	if err != nil {
		return nil, err
	}
	rows := make([]*row, len(found))
	for i, values := range found {
		r := &row{}
		if err := scan(values, &r.seq, &r.Key, &r.profile, (*string)(&r.Op), &r.op, (*string)(&r.Reason), &r.hash, &r.id,
			&r.decision, &r.policyVersion, &r.payload, &r.known,
			&r.present, &r.unsure, &r.resend, &r.changeBefore,
			&r.asked, &r.allowed, &r.erased, &r.decisionNow, &r.policyNow); err != nil {
			return nil, err
		}
		r.judge(a.description.Idempotent)
		rows[i] = r
	}
	return rows, nil
}

// judge decides whether the row may be sent now. A removal always may.
func (r *row) judge(idempotent bool) {
	switch {
	case r.op == opRemove:
	case r.erased:
		r.skip = string(ReasonErased)
	case r.asked && !r.allowed:
		r.skip = string(ReasonConsentWithdrawn)
	case !r.allowed:
		r.skip = string(ReasonConsentMissing)
	case r.unsure && !idempotent && !r.resend && r.changeBefore == r.id:
		r.skip = codeOutcomeUnknown
	default:
		r.decision, r.policyVersion = r.decisionNow, r.policyNow
	}
}

// fill gives the rows to be sent their values.
func (a *application) fill(ctx context.Context, d warehouse.Driver, first, last int64, rows []*row) error {
	sealed, err := a.sealed(ctx, d, first, last, rows)
	if err != nil {
		return fmt.Errorf("sync %s: read sealed values: %w", a.Sync, err)
	}
	for _, r := range rows {
		r.values = make([]any, len(a.sync.Mapping))
		if r.skip != "" || r.op == opRemove { // a removal needs no more than the key, and what recall adds
			continue
		}
		entries, err := split(r.payload)
		if err != nil {
			return fmt.Errorf("sync %s: plan %s: %w", a.Sync, a.PlanID, err)
		}
		for i, f := range a.sync.Mapping {
			if f.Value != nil {
				r.values[i] = *f.Value
				continue
			}
			if len(entries) == 0 {
				return fmt.Errorf("sync %s: plan %s: %w", a.Sync, a.PlanID, errPayload)
			}
			entry := entries[0]
			entries = entries[1:]
			if entry != nil && r.skip == "" {
				r.values[i], r.skip = a.value(ctx, r, i, *entry, sealed)
			}
		}
	}
	return nil
}

// value turns an entry of a payload into the value of the ith field, or says
// with a code why it cannot.
func (a *application) value(ctx context.Context, r *row, i int, entry string, sealed map[sealedRef]Sealed) (value any, code string) {
	field := a.sync.Mapping[i].Sealed
	if field == "" {
		value, err := decode(entry, a.plan.columns[i].Type)
		if err != nil {
			return nil, codeValueInvalid
		}
		return value, ""
	}
	found, ok := sealed[sealedRef{r.profile, field, entry}]
	if !ok {
		return nil, codeUnsealFailed
	}
	opened, err := a.config.Unseal(ctx, found)
	if err != nil {
		a.log.WarnContext(ctx, "a sealed value did not open", "run_id", a.ID, "key", r.Key, "field", field, "key_id", found.KeyID, "error", err)
		return nil, codeUnsealFailed
	}
	return opened, ""
}

// sealedRef is how a payload refers to a sealed value.
type sealedRef struct{ profile, field, token string }

// sealed reads the sealed values of the changes first to last: of the fields
// that the mapping names, for the purpose of the sync.
func (a *application) sealed(ctx context.Context, d warehouse.Driver, first, last int64, rows []*row) (map[sealedRef]Sealed, error) {
	fields := a.sync.sealedFields()
	if len(fields) == 0 || len(rows) == 0 || rows[0].op == opRemove {
		return nil, nil
	}
	found, err := d.Query(ctx, `SELECT v.profile_id, v.field, v.token, v.pseudonym, v.purpose, v.key_id, v.decision_id, v.received_at, v.ciphertext,
			k.recipient, k.psk_id, k.encapsulated_key
		FROM `+models("profile_sealed")+` v JOIN `+landing("seal_keys")+` k ON k.key_id = v.key_id AND k.purpose = v.purpose
		WHERE v.purpose = ? AND v.field IN (`+literals(fields)+`)
		AND v.profile_id IN (SELECT profile_id FROM `+own("plan_changes")+` WHERE plan_id = ? AND seq BETWEEN ? AND ?)
		ORDER BY v.received_at DESC, v.pseudonym`, a.sync.Purpose, a.PlanID, first, last)
	if err != nil {
		return nil, err
	}
	defer found.Close() //nolint:errcheck // reading: Err has the verdict
	sealed := map[sealedRef]Sealed{}
	for found.Next() {
		var ref sealedRef
		var s Sealed
		if err := scan(found.Row(), &ref.profile, &ref.field, &ref.token, &s.Pseudonym, &s.Purpose, &s.KeyID, &s.DecisionID, &s.ReceivedAt, &s.Ciphertext,
			&s.Recipient, &s.PSKID, &s.EncapsulatedKey); err != nil {
			return nil, err
		}
		s.Field, s.Token = ref.field, ref.token
		if _, ok := sealed[ref]; !ok {
			sealed[ref] = s
		}
	}
	return sealed, found.Err()
}

// announce notes in the state that rows are about to be sent.
func (a *application) announce(ctx context.Context, d warehouse.Driver, rows []*row) error {
	a.intents++
	seqs := make([]int64, len(rows))
	for i, r := range rows {
		seqs[i] = r.seq
	}
	err := d.Exec(ctx, `MERGE INTO `+own("state")+` t
		USING (SELECT key, profile_id, op, row_hash, change_id FROM `+own("plan_changes")+` WHERE plan_id = ? AND seq IN (`+numbers(seqs)+`)) n
		ON t.sync = ? AND t.key = n.key
		WHEN MATCHED THEN UPDATE SET status = 'sending', op = n.op, pending_hash = n.row_hash, change_id = n.change_id, intent = ?,
			present = TRUE, unsure = TRUE, resend = ?
		WHEN NOT MATCHED THEN INSERT (sync, key, profile_id, present, unsure, resend, status, op, pending_hash, change_id, intent, attempts)
			VALUES (?, n.key, n.profile_id, TRUE, TRUE, ?, 'sending', n.op, n.row_hash, n.change_id, ?, 0)`,
		a.PlanID, a.Sync, a.intent(), a.description.Idempotent, a.Sync, a.description.Idempotent, a.intent())
	if err != nil {
		return fmt.Errorf("sync %s: note what is about to be sent: %w", a.Sync, err)
	}
	return nil
}

// intent names one sending of a batch.
func (a *application) intent() string { return a.ID + "/" + strconv.Itoa(a.intents) }

// record makes the outcomes of rows durable: first as deliveries, then folded
// into the state. It does so even if ctx has ended.
func (a *application) record(ctx context.Context, rows []*row) (err error) {
	ctx, span := startSpan(context.WithoutCancel(ctx), "record")
	defer func() { endSpan(span, err) }()
	d, err := a.warehouse(ctx)
	if err != nil {
		return err
	}
	if err := a.journal(ctx, d, a.intent(), rows); err != nil {
		return err
	}
	return a.fold(ctx, d, "d.run_id = "+literal(a.ID)+" AND d.intent = "+literal(a.intent()))
}

// recordUnsent records rows that the plan has and that are not sent.
func (a *application) recordUnsent(ctx context.Context, d warehouse.Driver, rows []*row) error {
	if len(rows) == 0 {
		return nil
	}
	for _, r := range rows {
		r.code, r.outcome = r.skip, destination.Skipped
		switch r.skip {
		case codeUnsealFailed, codeValueInvalid:
			r.outcome = destination.Retry
			a.Failed++
		default:
			a.Skipped++
		}
	}
	return a.journal(ctx, d, nil, rows)
}

// journal appends deliveries. intent is nil for rows that were not sent.
func (a *application) journal(ctx context.Context, d warehouse.Driver, intent any, rows []*row) error {
	columns := []string{
		"sync", "run_id", "plan_id", "seq", "intent", "fence", "change_id", "key", "profile_id", "op", "reason", "outcome", "code", "message", "receipt",
		"row_hash", "mapping_version", "decision_id", "policy_version", "present", "unsure", "recorded_at",
	}
	now := a.config.Now().UTC()
	records := make([][]any, len(rows))
	for i, r := range rows {
		unknown := r.outcome == destination.Unknown
		records[i] = []any{
			a.Sync, a.ID, a.PlanID, r.seq, intent, a.fence, r.id, r.Key, r.profile, r.op, string(r.Reason), r.outcome.String(), r.code, r.message, r.receipt,
			orNull(r.hash), a.plan.mappingVersion, orNull(r.decision), orNull(r.policyVersion), r.present || unknown, r.unsure || unknown, now,
		}
	}
	if err := d.Append(ctx, warehouse.SchemaSync, "deliveries", columns, records); err != nil {
		return fmt.Errorf("sync %s: record deliveries: %w", a.Sync, err)
	}
	return nil
}

// fold brings the state up to date with deliveries. Only a row that is still
// as its intent left it changes, so folding again does nothing.
func (r *run) fold(ctx context.Context, d warehouse.Driver, which string) error {
	err := d.Exec(ctx, `MERGE INTO `+own("state")+` t
		USING (SELECT * FROM `+own("deliveries")+` d WHERE d.sync = ? AND `+which+`) d
		ON t.sync = d.sync AND t.key = d.key AND t.intent = d.intent AND t.status = 'sending'
		WHEN MATCHED AND d.op = 'remove' AND d.outcome = 'accepted' AND d.receipt <> '' THEN UPDATE SET row_hash = NULL, pending_hash = NULL,
			present = TRUE, unsure = FALSE, status = 'accepted', acked_at = d.recorded_at, attempts = 0, first_failed_at = NULL, last_error_code = NULL
		WHEN MATCHED AND d.op = 'remove' AND d.outcome IN `+acknowledged+` THEN DELETE
		WHEN MATCHED AND d.outcome IN `+acknowledged+` THEN UPDATE SET profile_id = d.profile_id, row_hash = d.row_hash, mapping_version = d.mapping_version,
			present = (d.outcome <> 'skipped' OR d.present), unsure = FALSE, status = d.outcome, decision_id = d.decision_id, policy_version = d.policy_version,
			acked_at = d.recorded_at, pending_hash = NULL, attempts = 0, first_failed_at = NULL, last_error_code = NULL
		WHEN MATCHED THEN UPDATE SET present = d.present, unsure = d.unsure,
			status = CASE WHEN d.outcome = 'rejected' AND d.op = 'upsert' THEN 'rejected' ELSE 'failed' END,
			attempts = t.attempts + 1, first_failed_at = COALESCE(t.first_failed_at, d.recorded_at), last_error_code = d.code`, r.sync.Name)
	if err != nil {
		return fmt.Errorf("sync %s: update the state: %w", r.sync.Name, err)
	}
	return nil
}

// recover folds deliveries that a run recorded but, since it was killed, did
// not fold. Rows that were announced and have no delivery stay unsure: they may
// have arrived.
func (r *run) recover(ctx context.Context, d warehouse.Driver) error {
	intents, err := texts(ctx, d, "SELECT DISTINCT intent FROM "+own("state")+" WHERE sync = ? AND status = 'sending'", r.sync.Name)
	if err != nil {
		return fmt.Errorf("sync %s: look for interrupted batches: %w", r.sync.Name, err)
	}
	if len(intents) == 0 {
		return nil
	}
	return r.fold(ctx, d, "d.intent IN ("+literals(intents)+")")
}

// doubt takes back the acknowledgement of all that this run sent. A destination
// that does a change once gets it again under its id; another would only be told
// that it has it, and gets a new one.
func (a *application) doubt(ctx context.Context, d warehouse.Driver) error {
	id := "d.change_id"
	if !a.description.Idempotent {
		id = dialect(d.Dialect()).nothing()
	}
	err := d.Exec(ctx, `MERGE INTO `+own("state")+` t
		USING (SELECT DISTINCT sync, key, profile_id, op, row_hash, change_id FROM `+own("deliveries")+` WHERE run_id = ? AND outcome IN ('delivered', 'accepted')) d
		ON t.sync = d.sync AND t.key = d.key
		WHEN MATCHED THEN UPDATE SET unsure = TRUE, present = TRUE, resend = TRUE, op = d.op, pending_hash = d.row_hash, change_id = `+id+`
		WHEN NOT MATCHED THEN INSERT (sync, key, profile_id, present, unsure, resend, status, op, pending_hash, change_id, attempts)
			VALUES (d.sync, d.key, d.profile_id, TRUE, TRUE, TRUE, 'failed', d.op, d.row_hash, `+id+`, 0)`, a.ID)
	if err != nil {
		return fmt.Errorf("sync %s: note that deliveries are in doubt: %w", a.Sync, err)
	}
	return nil
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func numbers(list []int64) string {
	texts := make([]string, len(list))
	for i, n := range list {
		texts[i] = strconv.FormatInt(n, 10)
	}
	return strings.Join(texts, ", ")
}
