package syncer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"time"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// Kind is what a plan does about a key.
type Kind string

// The kinds. kindForget is internal bookkeeping: a key that never reached the
// destination is no longer wanted there.
const (
	KindAdd     Kind = "add"
	KindUpdate  Kind = "update"
	KindRefresh Kind = "refresh"
	KindRemove  Kind = "remove"
	KindHold    Kind = "hold"
	kindForget  Kind = "forget"
)

// Reason is why.
type Reason string

// The reasons to add, update or refresh.
const (
	ReasonNew            Reason = "new"
	ReasonDataChanged    Reason = "data_changed"
	ReasonMappingChanged Reason = "mapping_changed"
	ReasonRetry          Reason = "retry"          // failed before; sent with its latest values
	ReasonResync         Reason = "resync"         // asked for, see [Syncer.Resync]
	ReasonUnacknowledged Reason = "unacknowledged" // sent before, but the answer was lost
	ReasonFull           Reason = "full"           // did not change; see [ModeFull]
	ReasonRefresh        Reason = "refresh"        // did not change, and the destination would forget it
	ReasonAbsent         Reason = "absent"         // did not change, was not there, and may be by now; see [ModeUpdate]
)

// The reasons to remove.
const (
	ReasonLeftModel        Reason = "left_model"
	ReasonConsentWithdrawn Reason = "consent_withdrawn"
	ReasonConsentMissing   Reason = "consent_missing" // nothing is known of the person's consent any more
	ReasonErased           Reason = "erased"
)

// The reasons to hold: a held key is neither sent nor removed.
const (
	ReasonKeyNull        Reason = "key_null"
	ReasonKeyDuplicate   Reason = "key_duplicate"
	ReasonFieldMissing   Reason = "field_missing"   // a required field has no value
	ReasonQuarantined    Reason = "quarantined"     // rejected for good, until its data or the mapping changes
	ReasonOutcomeUnknown Reason = "outcome_unknown" // may have been sent, to a destination that would do it twice
	ReasonMinSize        Reason = "min_size"        // an addition to what would have too few rows
	ReasonHoldout        Reason = "holdout"         // of the share that is held out; also removed for it, if it was sent before
	ReasonGuard          Reason = "guard"           // a removal that waits for approval; also removed for it, when it has that
)

func holdReasons() []string {
	return []string{
		string(ReasonKeyNull), string(ReasonKeyDuplicate), string(ReasonFieldMissing),
		string(ReasonQuarantined), string(ReasonOutcomeUnknown), string(ReasonMinSize), string(ReasonHoldout), string(ReasonGuard),
	}
}

// Counts is how many keys a plan treats in each way.
type Counts struct {
	Add       int64 `json:"add"`
	Update    int64 `json:"update"`
	Refresh   int64 `json:"refresh"`
	Remove    int64 `json:"remove"`
	Hold      int64 `json:"hold"`
	Unchanged int64 `json:"unchanged"`
}

// Change is one change of a plan. The key is a pseudonym; values are not shown.
type Change struct {
	Key    string `json:"key"`
	Op     Kind   `json:"op"`
	Reason Reason `json:"reason"`
}

// Plan is what a run of a sync would do. It is stored; this is its summary,
// which holds no personal data and may be shown.
type Plan struct {
	Sync    string           `json:"sync"`
	ID      string           `json:"plan_id"`
	Digest  string           `json:"digest"` // of every change, not only of those shown
	Created time.Time        `json:"created_at"`
	Counts  Counts           `json:"counts"`
	Reasons map[Reason]int64 `json:"reasons"`
	Changes []Change         `json:"changes"`           // the first of each kind
	Mapping *MappingChange   `json:"mapping,omitempty"` // if rows are sent again since it changed
	Held    *HeldError       `json:"held,omitempty"`    // if a guard holds removals back
}

// HeldError says that a guard holds removals back. All else of the plan is, or
// was, carried out. The program's exit code for it is 3.
type HeldError struct {
	Sync     string `json:"sync"`
	PlanID   string `json:"plan_id"`
	Model    string `json:"model"`
	Removals int64  `json:"removals"`          // how many are held
	Present  int64  `json:"present"`           // of how many at the destination
	Empty    bool   `json:"empty"`             // the model has no rows
	Holdout  bool   `json:"holdout,omitempty"` // the sync has a holdout, for which some may be removed
	Digest   string `json:"digest"`            // of the removals
}

// Error tells what is held, and how to go on.
func (e *HeldError) Error() string {
	why := fmt.Sprintf("%d of %d rows at the destination would be removed because they left the model %s", e.Removals, e.Present, e.Model)
	if e.Holdout {
		why += " or are held out from now on"
	}
	if e.Empty {
		why = fmt.Sprintf("the model %s is empty, so all %d rows that it had at the destination would be removed", e.Model, e.Removals)
	}
	return fmt.Sprintf("sync %s: held by a guard: %s: check the model, and if this is right apply plan %s with --approve", e.Sync, why, e.PlanID)
}

// Plan computes what a run of s would do now, stores it, and returns it.
// Nothing is sent. It may be called at any time, but fails with a [*BusyError]
// while a run of s is under way.
func (e *Syncer) Plan(ctx context.Context, s Sync) (_ Plan, err error) {
	ctx, span := startSync(ctx, "sync plan", s)
	defer func() { endSpan(span, err) }()
	r, err := e.begin(ctx, s)
	if err != nil {
		return Plan{}, err
	}
	stored, err := r.planAndStore(ctx)
	return stored.Plan, errors.Join(err, r.end(ctx))
}

func (r *run) planAndStore(ctx context.Context) (storedPlan, error) {
	p, err := r.plan(ctx)
	if err != nil {
		return storedPlan{}, err
	}
	d, err := r.warehouse(ctx)
	if err != nil {
		return storedPlan{}, err
	}
	return p, r.storePlan(ctx, d, p)
}

// planPrefix begins the ids of plans that compare a model with the state. Those
// of removals alone begin otherwise.
const planPrefix = "p"

// storedPlan is a plan as the warehouse has it.
type storedPlan struct {
	Plan
	fence          int64
	status         planStatus
	definition     string
	mappingVersion string
	columns        []column
	forgotten      int64   // changes that send nothing, and are done for bookkeeping
	extent         *extent // nil until its changes were read
}

// extent is which changes of a plan are to be sent.
type extent struct {
	removals int64 // their sequence numbers go from 1 to this, with those that a guard holds
	last     int64 // the last sequence number to be sent

	sent, guarded, held int64 // how many: guarded are those that a guard holds, held all others that are held
}

func (x *extent) add(c storedChange) {
	switch c.Op {
	case KindRemove:
		x.removals, x.last = c.seq, c.seq
		x.sent++
	case KindAdd, KindUpdate, KindRefresh:
		x.last = c.seq
		x.sent++
	case KindHold:
		if !c.guarded() {
			x.held++
			return
		}
		x.removals, x.last = c.seq, c.seq
		x.guarded++
	case kindForget:
	}
}

type planStatus string

const (
	planReady    planStatus = "ready"
	planApplying planStatus = "applying" // some of it may be done
	planHeld     planStatus = "held"     // done, but for what a guard holds
	planApplied  planStatus = "applied"
)

// plan computes a plan and stores its changes, which do not count until there is
// the row in plans; see storePlan.
func (r *run) plan(ctx context.Context) (p storedPlan, err error) {
	ctx, span := startSpan(ctx, "plan")
	defer func() { endPlan(span, p.Plan, err) }()
	d, err := r.warehouse(ctx)
	if err != nil {
		return storedPlan{}, err
	}
	src, err := inspect(ctx, d, r.sync)
	if err != nil {
		return storedPlan{}, err
	}
	if err := r.recover(ctx, d); err != nil {
		return storedPlan{}, err
	}
	before, err := r.look(ctx, d)
	if err != nil {
		return storedPlan{}, err
	}
	src.erasures, src.fingerprints = before.erasures, before.lacksFingerprints()
	now := r.config.Now()
	p = storedPlan{
		Plan:           Plan{Sync: r.sync.Name, ID: newID(planPrefix, now), Created: now.UTC().Truncate(time.Microsecond)},
		fence:          r.fence,
		status:         planReady,
		definition:     r.sync.definition(src.columns),
		mappingVersion: r.sync.mappingVersion(src.columns),
		columns:        src.columns,
	}
	if err := r.compare(ctx, d, src, p.ID, now); err != nil {
		return storedPlan{}, err
	}
	if p.Held, err = r.guard(ctx, d, p.ID, before); err != nil {
		return storedPlan{}, err
	}
	if err := r.holdFew(ctx, d, p.ID, before); err != nil {
		return storedPlan{}, err
	}
	if err := r.summarize(ctx, d, &p, before.known); err != nil {
		return storedPlan{}, err
	}
	if p.Mapping, err = r.mappingChange(ctx, d, p); err != nil {
		return storedPlan{}, err
	}
	return p, nil
}

// overview is the size of what a plan compares.
type overview struct {
	known, present  int64
	bare            int64 // without a fingerprint of this version of the engine; 0 where rows have none
	modelEmpty      bool
	consentsMissing bool
	erasures        bool // somebody is being erased
}

// lacksFingerprints reports whether so many rows have none that it pays to take them first.
func (o overview) lacksFingerprints() bool { return o.bare*100 > o.known }

// look asks for the sizes that the guards need, and refuses to take an empty
// table of consents for a withdrawal by everybody.
func (r *run) look(ctx context.Context, d warehouse.Driver) (overview, error) {
	in, bare := dialect(d.Dialect()), "0"
	if in.fingerprints() && r.sync.Mode.compares() {
		bare = "COUNT(CASE WHEN fingerprint_by IS DISTINCT FROM version() THEN 1 END)"
	}
	rows, err := warehouse.Collect(ctx, d, `SELECT COUNT(*), COUNT(CASE WHEN present THEN 1 END), `+bare+`,
		NOT EXISTS (SELECT 1 FROM `+models(in.quote(r.sync.Model))+`),
		NOT EXISTS (SELECT 1 FROM `+models("consent_profile")+` WHERE purpose = ?), EXISTS (SELECT 1 FROM `+own(erasedTable)+`)
		FROM `+own("state")+` WHERE sync = ?`, r.sync.Purpose, r.sync.Name)
	if err != nil {
		return overview{}, fmt.Errorf("sync %s: count what was sent: %w", r.sync.Name, err)
	}
	var o overview
	if err := scan(rows[0], &o.known, &o.present, &o.bare, &o.modelEmpty, &o.consentsMissing, &o.erasures); err != nil {
		return overview{}, err
	}
	if o.consentsMissing && o.known > 0 {
		return overview{}, r.noConsents(o.known)
	}
	return o, nil
}

func (r *run) noConsents(known int64) error {
	return fmt.Errorf("%s: %s has no row for the purpose %s, but %d rows were sent for it: that is a broken model rather than a withdrawal by everybody; build the models again, and correct the purpose if it was renamed",
		r.sync.File, models("consent_profile"), r.sync.Purpose, known)
}

// believeConsents refuses, as look does, what no withdrawal can be told from. It also
// tells whether somebody is being erased.
func (r *run) believeConsents(ctx context.Context, d warehouse.Driver) (erasures bool, err error) {
	rows, err := warehouse.Collect(ctx, d, `SELECT COUNT(*), NOT EXISTS (SELECT 1 FROM `+models("consent_profile")+` WHERE purpose = ?),
		EXISTS (SELECT 1 FROM `+own(erasedTable)+`) FROM `+own("state")+` WHERE sync = ?`, r.sync.Purpose, r.sync.Name)
	if err != nil {
		return false, fmt.Errorf("sync %s: count what was sent: %w", r.sync.Name, err)
	}
	var known int64
	var missing bool
	if err := scan(rows[0], &known, &missing, &erasures); err != nil {
		return false, err
	}
	if missing && known > 0 {
		return false, r.noConsents(known)
	}
	return erasures, nil
}

// guard holds back the removals of rows that left the model, or are held out from
// now on, if they are too many to be believed. Those that were approved do not count.
func (r *run) guard(ctx context.Context, d warehouse.Driver, planID string, before overview) (*HeldError, error) {
	const leaving = " WHERE plan_id = ? AND kind = 'remove' AND reason IN ('left_model', 'holdout')"
	if r.approved != "" {
		if err := d.Exec(ctx, "UPDATE "+own("plan_changes")+" SET reason = 'guard'"+leaving+" AND key IN (SELECT key FROM "+own("plan_changes")+
			" WHERE plan_id = ? AND kind = 'hold' AND reason = 'guard')", planID, r.approved); err != nil {
			return nil, fmt.Errorf("sync %s: find the removals that were approved: %w", r.sync.Name, err)
		}
	}
	rows, err := warehouse.Collect(ctx, d, "SELECT COUNT(*) FROM "+own("plan_changes")+leaving, planID)
	if err != nil {
		return nil, fmt.Errorf("sync %s: count removals: %w", r.sync.Name, err)
	}
	var removals int64
	if err := scan(rows[0], &removals); err != nil {
		return nil, err
	}
	limits := r.sync.Guards
	tooMany := removals >= limits.MinRemoved && float64(removals) > limits.MaxRemovedShare*float64(before.present)
	if removals == 0 || !tooMany && !before.modelEmpty {
		return nil, nil
	}
	if err := d.Exec(ctx, "UPDATE "+own("plan_changes")+" SET kind = 'hold', reason = 'guard'"+leaving, planID); err != nil {
		return nil, fmt.Errorf("sync %s: hold removals: %w", r.sync.Name, err)
	}
	return &HeldError{
		Sync: r.sync.Name, PlanID: planID, Model: r.sync.Model,
		Removals: removals, Present: before.present, Empty: before.modelEmpty, Holdout: r.sync.Holdout.Share > 0,
	}, nil
}

// holdFew holds back additions while there would be fewer rows at the destination
// than the sync wants. Removals go on: they make nobody easier to be told apart
// from the rest than leaving them would.
func (r *run) holdFew(ctx context.Context, d warehouse.Driver, planID string, before overview) error {
	least := r.sync.Guards.MinSize
	if least == 0 {
		return nil
	}
	rows, err := warehouse.Collect(ctx, d, `SELECT COUNT(CASE WHEN c.kind = 'add' AND NOT COALESCE(k.present, FALSE) THEN 1 END), COUNT(CASE WHEN c.kind = 'remove' THEN 1 END)
		FROM `+own("plan_changes")+` c LEFT JOIN `+own("state")+` k ON k.sync = c.sync AND k.key = c.key WHERE c.plan_id = ?`, planID)
	if err != nil {
		return fmt.Errorf("sync %s: count additions: %w", r.sync.Name, err)
	}
	var added, removed int64
	if err := scan(rows[0], &added, &removed); err != nil {
		return err
	}
	if before.present+added-removed >= least {
		return nil
	}
	err = d.Exec(ctx, "UPDATE "+own("plan_changes")+" SET kind = 'hold', reason = 'min_size' WHERE plan_id = ? AND kind = 'add'", planID)
	if err != nil {
		return fmt.Errorf("sync %s: hold additions: %w", r.sync.Name, err)
	}
	return nil
}

// summarize reads the stored changes back, counts them and digests them.
func (r *run) summarize(ctx context.Context, d warehouse.Driver, p *storedPlan, known int64) error {
	digest, guarded := newPlanDigest(p.Sync, p.ID, p.definition), newPlanDigest(p.Sync, p.ID)
	shown := map[Kind]int{}
	p.Reasons = map[Reason]int64{}
	p.Changes = []Change{}
	touched := int64(0)
	p.extent = &extent{}
	err := eachStored(ctx, d, p.ID, func(c storedChange) {
		digest.add(c)
		if c.guarded() {
			guarded.add(c)
		}
		p.extent.add(c)
		if c.known {
			touched++
		}
		if c.Op == kindForget {
			p.forgotten++
			return
		}
		p.Reasons[c.Reason]++
		p.Counts.add(c.Op)
		if shown[c.Op]++; shown[c.Op] <= r.config.Samples {
			p.Changes = append(p.Changes, c.Change)
		}
	})
	if err != nil {
		return fmt.Errorf("sync %s: read plan %s: %w", p.Sync, p.ID, err)
	}
	p.Counts.Unchanged = known - touched
	p.Digest = digest.sum()
	if p.Held != nil {
		p.Held.Digest = guarded.sum()
	}
	return nil
}

func (c *Counts) add(k Kind) {
	switch k {
	case KindAdd:
		c.Add++
	case KindUpdate:
		c.Update++
	case KindRefresh:
		c.Refresh++
	case KindRemove:
		c.Remove++
	case KindHold:
		c.Hold++
	case kindForget:
	}
}

// storedChange is a row of plan_changes.
type storedChange struct {
	Change
	seq                     int64
	profile, op             string
	hash, id                string
	decision, policyVersion string
	payload                 string
	known                   bool
}

// guarded reports whether a guard holds the change: a removal, which is done once approved.
func (c storedChange) guarded() bool { return c.Op == KindHold && c.Reason == ReasonGuard }

// eachStored calls f for each change of a plan, in order.
func eachStored(ctx context.Context, d warehouse.Driver, planID string, f func(storedChange)) error {
	rows, err := d.Query(ctx, `SELECT seq, key, profile_id, kind, op, reason, row_hash, change_id, decision_id, policy_version, payload, known
		FROM `+own("plan_changes")+` WHERE plan_id = ? ORDER BY seq`, planID)
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // reading: Err has the verdict
	for rows.Next() {
		var c storedChange
		if err := scan(rows.Row(), &c.seq, &c.Key, &c.profile, (*string)(&c.Op), &c.op, (*string)(&c.Reason), &c.hash, &c.id,
			&c.decision, &c.policyVersion, &c.payload, &c.known); err != nil {
			return err
		}
		f(c)
	}
	return rows.Err()
}

// planDigest is the digest of all that a plan would do.
type planDigest struct {
	hash.Hash
	buffer []byte
}

func newPlanDigest(parts ...string) *planDigest {
	d := &planDigest{Hash: sha256.New()}
	d.write(append([]string{"plan/1"}, parts...)...)
	return d
}

func (d *planDigest) write(parts ...string) {
	d.buffer = d.buffer[:0]
	for _, part := range parts {
		d.buffer = strconv.AppendInt(d.buffer, int64(len(part)), 10)
		d.buffer = append(d.buffer, ':')
		d.buffer = append(d.buffer, part...)
	}
	d.Hash.Write(d.buffer)
}

func (d *planDigest) add(c storedChange) {
	d.write(strconv.FormatInt(c.seq, 10), c.Key, c.profile, string(c.Op), c.op, string(c.Reason), c.hash, c.id, c.decision, c.policyVersion, c.payload)
}

func (d *planDigest) sum() string { return hex.EncodeToString(d.Hash.Sum(nil)) }

// planSummary is what is stored of a plan's numbers.
type planSummary struct {
	Counts  Counts           `json:"counts"`
	Reasons map[Reason]int64 `json:"reasons"`
	Mapping *MappingChange   `json:"mapping,omitempty"`
}

// storePlan makes the changes of a plan count.
func (r *run) storePlan(ctx context.Context, d warehouse.Driver, p storedPlan) error {
	columns, err := json.Marshal(p.columns)
	if err != nil {
		return fmt.Errorf("sync %s: store plan: %w", p.Sync, err)
	}
	counts, err := json.Marshal(planSummary{p.Counts, p.Reasons, p.Mapping})
	if err != nil {
		return fmt.Errorf("sync %s: store plan: %w", p.Sync, err)
	}
	guard := ""
	if p.Held != nil {
		held, err := json.Marshal(p.Held)
		if err != nil {
			return fmt.Errorf("sync %s: store plan: %w", p.Sync, err)
		}
		guard = string(held)
	}
	err = d.Append(ctx, warehouse.SchemaSync, "plans",
		[]string{"plan_id", "sync", "fence", "status", "digest", "definition", "mapping_version", "columns", "counts", "guard", "created_at"},
		[][]any{{p.ID, p.Sync, p.fence, string(p.status), p.Digest, p.definition, p.mappingVersion, string(columns), string(counts), guard, p.Created}})
	if err != nil {
		return fmt.Errorf("sync %s: store plan: %w", p.Sync, err)
	}
	return nil
}

// loadPlan reads a stored plan without its changes.
func (r *run) loadPlan(ctx context.Context, d warehouse.Driver, planID string) (storedPlan, error) {
	rows, err := warehouse.Collect(ctx, d, `SELECT plan_id, sync, fence, status, digest, definition, mapping_version, columns, counts, guard, created_at
		FROM `+own("plans")+` WHERE plan_id = ? AND sync = ?`, planID, r.sync.Name)
	if err != nil {
		return storedPlan{}, fmt.Errorf("sync %s: read plan %s: %w", r.sync.Name, planID, err)
	}
	if len(rows) == 0 {
		return storedPlan{}, fmt.Errorf("sync %s has no plan %q: make one with sluis sync plan %s", r.sync.Name, planID, r.sync.Name)
	}
	var p storedPlan
	var columns, counts, guard string
	err = scan(rows[0], &p.ID, &p.Sync, &p.fence, (*string)(&p.status), &p.Digest, &p.definition, &p.mappingVersion, &columns, &counts, &guard, &p.Created)
	if err != nil {
		return storedPlan{}, err
	}
	var summary planSummary
	err = errors.Join(json.Unmarshal([]byte(columns), &p.columns), json.Unmarshal([]byte(counts), &summary))
	p.Counts, p.Reasons, p.Mapping = summary.Counts, summary.Reasons, summary.Mapping
	if guard != "" {
		err = errors.Join(err, json.Unmarshal([]byte(guard), &p.Held))
	}
	if err != nil {
		return storedPlan{}, fmt.Errorf("sync %s: plan %s is damaged: make a new plan: %w", r.sync.Name, planID, err)
	}
	return p, nil
}
