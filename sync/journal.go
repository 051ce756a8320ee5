package syncer

import (
	"context"
	"fmt"
	"slices"
	"strconv"

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
// asks for consent, and opens what is sealed. Those to be sent it announces: after a
// crash it is known that they may have arrived. The others stay.
func (a *application) fetch(ctx context.Context, first, last int64, again []*row) (send, stay []*row, err error) {
	ctx, span := startSpan(ctx, "announce")
	defer func() { endSpan(span, err) }()
	d, err := a.warehouse(ctx)
	if err != nil {
		return nil, nil, err
	}
	began := a.config.Now()
	rows, err := a.read(ctx, d, first, last, again)
	if err != nil {
		return nil, nil, fmt.Errorf("sync %s: read the next changes of plan %s: %w", a.Sync, a.PlanID, err)
	}
	if err := a.fill(ctx, d, first, last, rows); err != nil {
		return nil, nil, err
	}
	if err := a.recall(ctx, d, rows); err != nil {
		return nil, nil, err
	}
	for _, r := range rows {
		if r.skip == "" {
			send = append(send, r)
		} else {
			stay = append(stay, r)
		}
	}
	if len(send) > 0 {
		if err := a.announce(ctx, d, send); err != nil {
			return nil, nil, err
		}
	}
	a.announced = a.config.Now()
	a.slow = a.announced.Sub(began) > announceTime
	if a.announced.Add(windowAge + a.config.WriteTimeout).After(a.until) { // that took long, and sending is to have its time
		if err := a.renew(ctx, d); err != nil {
			return nil, nil, err
		}
	}
	return send, stay, a.release()
}

// read reads changes with what is known of them now.
func (a *application) read(ctx context.Context, d warehouse.Driver, first, last int64, again []*row) ([]*row, error) {
	which := fmt.Sprintf("plan_id = %s AND seq BETWEEN %d AND %d", literal(a.PlanID), first, last)
	if again != nil {
		which += " AND " + spansOf(again).contain("seq")
	} else if a.resumed {
		which += " AND seq NOT IN (SELECT seq FROM " + own("deliveries") + " WHERE plan_id = " + literal(a.PlanID) +
			" AND (outcome IN " + acknowledged + " OR outcome = 'rejected'))"
	}
	guarded := ""
	if a.options.Approve {
		guarded = " OR kind = 'hold' AND reason = 'guard'"
	}
	found, err := d.Query(ctx, `WITH part AS (SELECT * FROM `+own("plan_changes")+` WHERE `+which+` AND (kind IN ('add', 'update', 'refresh', 'remove')`+guarded+`)),
		erased AS (`+erased+`),
		consent AS (`+a.src.consent(a.sync, a.config.Now(), "part")+`)
		SELECT seq, p.key, p.profile_id, kind, p.op, reason, p.row_hash, `+a.src.dialect.changeID(a.PlanID, "p")+`, p.decision_id, p.policy_version, payload, known,
			present, unsure, resend, k.change_id, `+a.src.verdict()+`
		FROM part p LEFT JOIN `+own("state")+` k ON k.sync = ? AND k.key = p.key
		LEFT JOIN consent c ON c.profile_id = p.profile_id`+a.src.joinErased("p")+`
		ORDER BY seq`, a.Sync)
	if err != nil {
		return nil, err
	}
	defer found.Close() //nolint:errcheck // reading: Err has the verdict
	var rows []*row
	for found.Next() {
		r := &row{}
		if err := scan(found.Row(), &r.seq, &r.Key, &r.profile, (*string)(&r.Op), &r.op, (*string)(&r.Reason), &r.hash, &r.id,
			&r.decision, &r.policyVersion, &r.payload, &r.known,
			&r.present, &r.unsure, &r.resend, &r.changeBefore,
			&r.asked, &r.allowed, &r.erased, &r.decisionNow, &r.policyNow); err != nil {
			return nil, err
		}
		if a.unsent[r.seq] { // announced by this run, and then left
			r.present, r.unsure = false, false
			delete(a.unsent, r.seq)
		}
		r.judge(a.description.Idempotent)
		rows = append(rows, r)
	}
	return rows, found.Err()
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

// announce notes that rows are about to be sent: in the state of those that are not at
// the destination, so that it always has whoever may be there, and for the others in
// intents, which tells what is in doubt if nothing follows.
func (a *application) announce(ctx context.Context, d warehouse.Driver, rows []*row) error {
	a.intents++
	window := spansOf(rows)
	if slices.ContainsFunc(rows, (*row).absent) {
		if err := a.suspect(ctx, d, suspicion{planID: a.PlanID, changes: window, resend: a.description.Idempotent, absent: true}); err != nil {
			return err
		}
	}
	err := d.Append(ctx, warehouse.SchemaSync, "intents", []string{"sync", "intent", "fence", "n", "plan_id", "seqs", "resend", "announced_at"},
		[][]any{{a.Sync, a.intent(), a.fence, a.intents, a.PlanID, window.String(), a.description.Idempotent, a.config.Now().UTC()}})
	if err != nil {
		return fmt.Errorf("sync %s: note what is about to be sent: %w", a.Sync, err)
	}
	return nil
}

// absent reports whether the row is not at the destination, as far as is known.
func (r *row) absent() bool { return !r.present && !r.unsure }

// intent names one sending of rows.
func (a *application) intent() string { return a.ID + "/" + strconv.FormatInt(a.intents, 10) }

// record makes durable what became of rows: first as deliveries, those that stay
// among them, then folded into the state. It does so even if ctx has ended.
func (a *application) record(ctx context.Context, sent, stay []*row) (err error) {
	if len(sent)+len(stay) == 0 {
		return nil
	}
	ctx, span := startSpan(context.WithoutCancel(ctx), "record")
	defer func() { endSpan(span, err) }()
	d, err := a.warehouse(ctx)
	if err != nil {
		return err
	}
	a.keepBack(stay)
	if err := a.journal(ctx, d, sent, stay); err != nil || len(sent) == 0 {
		return err
	}
	return a.fold(ctx, d, a.intent(), a.description.Idempotent)
}

// keepBack gives rows that the plan has and that are not sent their outcome.
func (a *application) keepBack(rows []*row) {
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
}

// journal appends deliveries. Those of rows that stay have no intent.
func (a *application) journal(ctx context.Context, d warehouse.Driver, sent, stay []*row) error {
	columns := []string{
		"sync", "run_id", "plan_id", "seq", "intent", "fence", "change_id", "key", "profile_id", "op", "reason", "outcome", "code", "message", "receipt",
		"row_hash", "mapping_version", "decision_id", "policy_version", "present", "unsure", "recorded_at",
	}
	now := a.config.Now().UTC()
	records := make([][]any, 0, len(sent)+len(stay))
	add := func(rows []*row, intent any) {
		for _, r := range rows {
			unknown := r.outcome == destination.Unknown
			records = append(records, []any{
				a.Sync, a.ID, a.PlanID, r.seq, intent, a.fence, r.id, r.Key, r.profile, r.op, string(r.Reason), r.outcome.String(), r.code, r.message, r.receipt,
				orNull(r.hash), a.plan.mappingVersion, orNull(r.decision), orNull(r.policyVersion), r.present || unknown, r.unsure || unknown, now,
			})
		}
	}
	add(sent, a.intent())
	add(stay, nil)
	if err := d.Append(ctx, warehouse.SchemaSync, "deliveries", columns, records); err != nil {
		return fmt.Errorf("sync %s: record deliveries: %w", a.Sync, err)
	}
	return nil
}

// fold brings the state up to date with the deliveries of an intent, the latest of
// the sync. A row that has it already does not change, so folding again does nothing.
// resend is whether the destination does a change once however often it is sent.
//
// What a row is after an acknowledged change is all in its delivery. So it is inserted
// anew, and the former one deleted: to update this many columns of rows all over a table
// costs DuckDB ten times as much. In between a key has two rows, and is never without.
// One statement inserts them all, and is the first to bring the intent into the state: if
// it is there, none is missing.
func (r *run) fold(ctx context.Context, d warehouse.Driver, intent string, resend bool) error {
	const again = "COALESCE(t.intent, '') = d.intent"
	in := dialect(d.Dialect())
	fingerprint, planned := in.fingerprint(nil)+", "+in.engine(), "" // none
	if in.fingerprints() {
		fingerprint, planned = "c.fingerprint, c.fingerprint_by", " LEFT JOIN "+own("plan_changes")+" c ON c.plan_id = d.plan_id AND c.seq = d.seq"
	}
	err := d.Exec(ctx, `INSERT INTO `+own("state")+` (sync, key, profile_id, row_hash, mapping_version, present, unsure, resend, status, op, change_id, intent,
			decision_id, policy_version, acked_at, attempts, fingerprint, fingerprint_by)
		SELECT d.sync, d.key, d.profile_id, d.row_hash, d.mapping_version, d.outcome <> 'skipped' OR d.present, FALSE, ?, d.outcome, d.op, d.change_id, d.intent,
			d.decision_id, d.policy_version, d.recorded_at, 0, `+fingerprint+`
		FROM `+own("deliveries")+` d`+planned+`
		WHERE d.sync = ? AND d.intent = ? AND d.op <> 'remove' AND d.outcome IN `+acknowledged+`
		AND NOT EXISTS (SELECT 1 FROM `+own("state")+` WHERE sync = ? AND intent = ?)`, resend, r.sync.Name, intent, r.sync.Name, intent)
	if err == nil {
		err = d.Exec(ctx, `MERGE INTO `+own("state")+` t
			USING (SELECT key, op, row_hash, change_id, intent, outcome, code, present, unsure, recorded_at,
				outcome IN `+acknowledged+` AS done, op = 'remove' AND outcome = 'accepted' AND receipt <> '' AS waits
				FROM `+own("deliveries")+` WHERE sync = ? AND intent = ?) d
			ON t.sync = ? AND t.key = d.key
			WHEN MATCHED AND NOT `+again+` AND d.waits THEN UPDATE SET row_hash = NULL, fingerprint = NULL, pending_hash = NULL, op = d.op, change_id = d.change_id, intent = d.intent, resend = ?,
				present = TRUE, unsure = FALSE, status = 'accepted', acked_at = d.recorded_at, attempts = 0, first_failed_at = NULL, last_error_code = NULL
			WHEN MATCHED AND NOT `+again+` AND d.done THEN DELETE
			WHEN MATCHED AND NOT `+again+` THEN UPDATE SET op = d.op, pending_hash = d.row_hash, change_id = d.change_id, intent = d.intent, resend = ?,
				present = d.present, unsure = d.unsure, status = CASE WHEN d.outcome = 'rejected' AND d.op = 'upsert' THEN 'rejected' ELSE 'failed' END,
				attempts = t.attempts + 1, first_failed_at = COALESCE(t.first_failed_at, d.recorded_at), last_error_code = d.code`,
			r.sync.Name, intent, r.sync.Name, resend, resend)
	}
	if err != nil {
		return fmt.Errorf("sync %s: update the state: %w", r.sync.Name, err)
	}
	return nil
}

// recover brings the state up to date with what a run announced that was killed
// before it had. What it recorded is folded. Rows that were announced and have no
// delivery may have arrived: they become unsure.
//
// Whoever changes the state under a lease calls it first. Only the latest intent can
// be open: those before it were folded before it was announced.
func (r *run) recover(ctx context.Context, d warehouse.Driver) error {
	found, err := warehouse.Collect(ctx, d, "SELECT intent, plan_id, seqs, resend FROM "+own("intents")+" WHERE sync = ? ORDER BY fence DESC, n DESC LIMIT 1", r.sync.Name)
	if err != nil {
		return fmt.Errorf("sync %s: look for an interrupted run: %w", r.sync.Name, err)
	}
	if len(found) == 0 {
		return nil
	}
	var intent, planID, seqs string
	var resend bool
	if err := scan(found[0], &intent, &planID, &seqs, &resend); err != nil {
		return err
	}
	recorded, err := warehouse.Collect(ctx, d, "SELECT 1 FROM "+own("deliveries")+" WHERE sync = ? AND intent = ? LIMIT 1", r.sync.Name, intent)
	if err != nil {
		return fmt.Errorf("sync %s: look for what an interrupted run recorded: %w", r.sync.Name, err)
	}
	if len(recorded) > 0 {
		err = r.fold(ctx, d, intent, resend)
	} else {
		err = r.reopen(ctx, d, planID, seqs, resend)
	}
	if err != nil {
		return err
	}
	return r.forgetIntents(ctx, d)
}

// reopen makes all rows of an intent unsure.
func (r *run) reopen(ctx context.Context, d warehouse.Driver, planID, seqs string, resend bool) error {
	changes, err := parseSpans(seqs)
	if err != nil {
		return fmt.Errorf("sync %s: read what was about to be sent: %w", r.sync.Name, err)
	}
	return r.suspect(ctx, d, suspicion{planID: planID, changes: changes, resend: resend})
}

// suspicion is that changes of a plan may have been sent.
type suspicion struct {
	planID  string
	changes spans
	resend  bool // the destination does a change once however often it is sent
	absent  bool // of keys alone that are not at the destination
}

// suspect notes it in the state.
func (r *run) suspect(ctx context.Context, d warehouse.Driver, s suspicion) error {
	which := ""
	if s.absent {
		which = "AND NOT t.present AND NOT t.unsure "
	}
	err := d.Exec(ctx, `MERGE INTO `+own("state")+` t
		USING (SELECT key, profile_id, op, row_hash, `+dialect(d.Dialect()).changeID(s.planID, "p")+` AS change_id FROM `+own("plan_changes")+` p WHERE plan_id = ? AND `+s.changes.contain("seq")+`) n
		ON t.sync = ? AND t.key = n.key
		WHEN MATCHED `+which+`THEN UPDATE SET status = 'sending', op = n.op, pending_hash = n.row_hash, change_id = n.change_id, intent = NULL,
			present = TRUE, unsure = TRUE, resend = ?
		WHEN NOT MATCHED THEN INSERT (sync, key, profile_id, present, unsure, resend, status, op, pending_hash, change_id, attempts)
			VALUES (?, n.key, n.profile_id, TRUE, TRUE, ?, 'sending', n.op, n.row_hash, n.change_id, 0)`,
		s.planID, r.sync.Name, s.resend, r.sync.Name, s.resend)
	if err != nil {
		return fmt.Errorf("sync %s: note what may be sent: %w", r.sync.Name, err)
	}
	return nil
}

// forgetIntents deletes the intents of a sync, of which all is in the state.
func (r *run) forgetIntents(ctx context.Context, d warehouse.Driver) error {
	if err := d.Exec(ctx, "DELETE FROM "+own("intents")+" WHERE sync = ?", r.sync.Name); err != nil {
		return fmt.Errorf("sync %s: forget what was sent: %w", r.sync.Name, err)
	}
	return nil
}

// doubt takes back the acknowledgement of all that this run sent. A destination
// that does a change once gets it again under its id; another would only be told
// that it has it, and gets a new one.
func (a *application) doubt(ctx context.Context, d warehouse.Driver) error {
	if err := a.recover(ctx, d); err != nil {
		return err
	}
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
