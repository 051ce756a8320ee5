package syncer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// History returns the last n runs of a sync, the newest first. It may be
// called while the sync runs.
func (e *Syncer) History(ctx context.Context, name string, n int) ([]Run, error) {
	var runs []Run
	err := e.query(ctx, `SELECT sync, run_id, plan_id, status, started_at, finished_at, added, updated, removed, failed, skipped, held
		FROM `+own("runs")+` WHERE sync = ? ORDER BY fence DESC, started_at DESC LIMIT ?`, []any{name, n}, func(row []any) error {
		var r Run
		var finished time.Time
		err := scan(row, &r.Sync, &r.ID, &r.PlanID, (*string)(&r.Status), &r.Started, &finished,
			&r.Added, &r.Updated, &r.Removed, &r.Failed, &r.Skipped, &r.Held)
		if !finished.IsZero() {
			r.Seconds = finished.Sub(r.Started).Seconds()
		}
		runs = append(runs, r)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("history of sync %s: %w", name, err)
	}
	return runs, nil
}

// Delivery is the record of one row that was sent, or was not although the plan
// had it: the proof of what went where, why, and with whose consent.
type Delivery struct {
	RunID         string    `json:"run_id"`
	PlanID        string    `json:"plan_id"`
	Key           string    `json:"key"`
	ProfileID     string    `json:"profile_id"`
	Op            string    `json:"op"`
	Reason        Reason    `json:"reason"`
	Outcome       string    `json:"outcome"`
	Settled       string    `json:"settled,omitempty"` // what came of it, if it was accepted and that is known
	Code          string    `json:"code,omitempty"`
	Message       string    `json:"message,omitempty"`
	DecisionID    string    `json:"decision_id,omitempty"`
	PolicyVersion string    `json:"policy_version,omitempty"`
	At            time.Time `json:"at"`
}

// Deliveries returns the last n deliveries of a sync, the newest first; of one
// key, if key is not empty.
func (e *Syncer) Deliveries(ctx context.Context, name, key string, n int) ([]Delivery, error) {
	var deliveries []Delivery
	err := e.query(ctx, `SELECT d.run_id, d.plan_id, d.key, d.profile_id, d.op, d.reason, d.outcome, COALESCE(r.code, d.code), COALESCE(r.message, d.message),
			r.outcome, d.decision_id, d.policy_version, d.recorded_at
		FROM `+own("deliveries")+` d LEFT JOIN `+own("receipts")+` r
			ON r.sync = d.sync AND r.intent = d.intent AND r.receipt = d.receipt AND d.outcome = 'accepted'
		WHERE d.sync = ? AND (? = '' OR d.key = ?) ORDER BY d.recorded_at DESC, d.fence DESC, d.seq DESC LIMIT ?`, []any{name, key, key, n}, func(row []any) error {
		var d Delivery
		err := scan(row, &d.RunID, &d.PlanID, &d.Key, &d.ProfileID, &d.Op, (*string)(&d.Reason), &d.Outcome, &d.Code, &d.Message,
			&d.Settled, &d.DecisionID, &d.PolicyVersion, &d.At)
		deliveries = append(deliveries, d)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("deliveries of sync %s: %w", name, err)
	}
	return deliveries, nil
}

// query reads from the syncer's tables. That they do not exist yet is no error.
func (e *Syncer) query(ctx context.Context, query string, args []any, each func(row []any) error) (err error) {
	d, err := e.config.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if there, err := hasTables(ctx, d); err != nil || !there {
		return err
	}
	rows, err := warehouse.Collect(ctx, d, query, args...)
	if err != nil {
		return err
	}
	for _, row := range rows {
		if err := each(row); err != nil {
			return err
		}
	}
	return nil
}

// Resync makes the next plan send every row again; removals are found as ever,
// and nothing is emptied first. It fails with a [*BusyError] while s runs.
func (e *Syncer) Resync(ctx context.Context, s Sync) error {
	r, err := e.begin(ctx, s)
	if err != nil {
		return err
	}
	return errors.Join(r.resync(ctx), r.end(ctx))
}

func (r *run) resync(ctx context.Context) error {
	d, err := r.warehouse(ctx)
	if err != nil {
		return err
	}
	if err := r.recover(ctx, d); err != nil {
		return err
	}
	err = d.Exec(ctx, `UPDATE `+own("state")+` SET row_hash = CASE WHEN row_hash IS NULL THEN NULL ELSE '' END, pending_hash = NULL,
		resend = TRUE, status = CASE WHEN status = 'rejected' THEN 'failed' ELSE status END WHERE sync = ?`, r.sync.Name)
	if err != nil {
		return fmt.Errorf("sync %s: mark every row to be sent again: %w", r.sync.Name, err)
	}
	return nil
}
