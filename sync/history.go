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
	err := e.query(ctx, `SELECT sync, run_id, plan_id, status, started_at, finished_at, added, updated, refreshed, removed, failed, skipped, held
		FROM `+own("runs")+` WHERE sync = ? ORDER BY fence DESC, started_at DESC LIMIT ?`, []any{name, n}, func(row []any) error {
		var r Run
		var finished time.Time
		err := scan(row, &r.Sync, &r.ID, &r.PlanID, (*string)(&r.Status), &r.Started, &finished,
			&r.Added, &r.Updated, &r.Refreshed, &r.Removed, &r.Failed, &r.Skipped, &r.Held)
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
	hash := "CASE WHEN row_hash IS NULL THEN NULL ELSE '' END"
	if r.sync.Mode == ModeAppend {
		hash = "row_hash"
	}
	err = d.Exec(ctx, `UPDATE `+own("state")+` SET row_hash = `+hash+`, fingerprint = NULL, pending_hash = NULL,
		resend = TRUE, status = CASE WHEN status = 'rejected' THEN 'failed' ELSE status END WHERE sync = ?`, r.sync.Name)
	if err != nil {
		return fmt.Errorf("sync %s: mark every row to be sent again: %w", r.sync.Name, err)
	}
	return nil
}

// Failures is how many rows of a sync the destination does not have as they should
// be, for one reason.
type Failures struct {
	Sync    string    `json:"sync"`
	Code    string    `json:"code"`
	Status  string    `json:"status"` // rejected: held until the row or the mapping changes; failed: tried again by each run
	Rows    int64     `json:"rows"`
	Since   time.Time `json:"since"`   // when the first of them failed first
	Key     string    `json:"key"`     // one of them
	Message string    `json:"message"` // what the destination said of that one, last
}

// Failures groups what is rejected or failed of a sync, the most rows first.
func (e *Syncer) Failures(ctx context.Context, name string) ([]Failures, error) {
	var failures []Failures
	err := e.query(ctx, `SELECT g.code, g.status, g.n, g.since, g.key, m.message FROM (
			SELECT COALESCE(last_error_code, '') AS code, status, COUNT(*) AS n, MIN(first_failed_at) AS since, MIN(key) AS key
			FROM `+own("state")+` WHERE sync = ? AND status IN ('rejected', 'failed') GROUP BY 1, 2
		) g LEFT JOIN (
			SELECT key, message, ROW_NUMBER() OVER (PARTITION BY key ORDER BY recorded_at DESC, fence DESC, seq DESC) AS newest
			FROM `+own("deliveries")+` WHERE sync = ? AND COALESCE(code, '') <> '' AND key IN (
				SELECT MIN(key) FROM `+own("state")+` WHERE sync = ? AND status IN ('rejected', 'failed') GROUP BY COALESCE(last_error_code, ''), status)
		) m ON m.key = g.key AND m.newest = 1
		ORDER BY g.n DESC, g.code, g.status`, []any{name, name, name}, func(row []any) error {
		f := Failures{Sync: name}
		err := scan(row, &f.Code, &f.Status, &f.Rows, &f.Since, &f.Key, &f.Message)
		failures = append(failures, f)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("failures of sync %s: %w", name, err)
	}
	return failures, nil
}

// Standing is how many rows of a sync are in which state.
type Standing struct {
	Present  int64 `json:"present"`  // at the destination, or may be
	Rejected int64 `json:"rejected"` // held, since the destination refused them for good
	Failed   int64 `json:"failed"`   // tried again by each run
}

// Standings tells it of all syncs, by name.
func (e *Syncer) Standings(ctx context.Context) (map[string]Standing, error) {
	standings := map[string]Standing{}
	err := e.query(ctx, `SELECT sync, COUNT(CASE WHEN present OR unsure THEN 1 END), COUNT(CASE WHEN status = 'rejected' THEN 1 END), COUNT(CASE WHEN status = 'failed' THEN 1 END)
		FROM `+own("state")+` GROUP BY sync`, nil, func(row []any) error {
		var name string
		var s Standing
		err := scan(row, &name, &s.Present, &s.Rejected, &s.Failed)
		standings[name] = s
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("count the rows of syncs: %w", err)
	}
	return standings, nil
}

// Retry makes rows due again that were rejected, or are held since their outcome is
// unknown: all with this code, or with any if it is empty. They are sent with
// their latest values. It says how many there are, and fails with a [*BusyError] while s runs.
func (e *Syncer) Retry(ctx context.Context, s Sync, code string) (int64, error) {
	r, err := e.begin(ctx, s)
	if err != nil {
		return 0, err
	}
	n, err := r.retry(ctx, code)
	return n, errors.Join(err, r.end(ctx))
}

func (r *run) retry(ctx context.Context, code string) (n int64, err error) {
	d, err := r.warehouse(ctx)
	if err != nil {
		return 0, err
	}
	if err := r.recover(ctx, d); err != nil {
		return 0, err
	}
	which := " WHERE sync = ? AND (status = 'rejected' OR unsure AND NOT resend) AND (? = '' OR last_error_code = ?)"
	rows, err := warehouse.Collect(ctx, d, "SELECT COUNT(*) FROM "+own("state")+which, r.sync.Name, code, code)
	if err == nil {
		err = scan(rows[0], &n)
	}
	if err == nil && n > 0 {
		err = d.Exec(ctx, "UPDATE "+own("state")+" SET resend = TRUE, status = CASE WHEN status = 'rejected' THEN 'failed' ELSE status END"+which, r.sync.Name, code, code)
	}
	if err != nil {
		return 0, fmt.Errorf("sync %s: mark rows to be sent again: %w", r.sync.Name, err)
	}
	return n, nil
}
