package syncer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// Some destinations only take a batch on, and give a receipt for it. Until it
// is settled an upsert counts as acknowledged, so that it is not sent again, and
// a removal as under way, so that it is neither sent again nor forgotten. What
// the destination then says corrects the state.

const (
	codeNotPolled      = "not_polled"       // the destination never tells what became of a receipt
	codeReceiptExpired = "receipt_expired"  // it did not in time
	codeRowsFailed     = "some_rows_failed" // it says how many failed, and not which
	maxReceipts        = 100                // of one call
)

// receipt is what a destination gave for changes of one sending.
type receipt struct {
	intent, id string
	since      time.Time
}

// settle asks the destination what became of earlier runs' receipts, and has it
// complete those that were killed, before a plan is made from the state. That it
// does not answer is no reason to hold back withdrawals: then the next run tries.
func (r *run) settle(ctx context.Context) error {
	open, err := r.outstanding(ctx)
	if err != nil {
		return err
	}
	killed, err := r.interrupted(ctx)
	if err != nil || len(open) == 0 && len(killed) == 0 {
		return err
	}
	if err := r.release(); err != nil {
		return err
	}
	settlements, err := r.visit(ctx, open, killed)
	if err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("sync %s: stopped: %w", r.sync.Name, ctx.Err())
		}
		r.log.WarnContext(ctx, "earlier runs were not settled; the next run tries again", "receipts", len(open), "killed_runs", len(killed), "error", clip(err.Error()))
	} else if err := r.ended(ctx, killed); err != nil {
		return err
	}
	return r.recordSettlements(ctx, open, settlements)
}

// visit starts the destination for no more than to complete runs and to ask about
// receipts. An error may concern the former while settlements are good.
func (r *run) visit(ctx context.Context, open []receipt, killed []string) (settlements []destination.Settlement, err error) {
	target, err := r.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.config.WriteTimeout)
		defer cancel()
		err = errors.Join(err, target.Close(closing))
	}()
	if err := r.openTarget(ctx, target); err != nil {
		return nil, err
	}
	if len(open) > 0 {
		settlements, err = r.poll(ctx, target, open)
	}
	return settlements, errors.Join(err, r.complete(ctx, target, killed))
}

// settleNow asks about the receipts of this run while the destination is open
// still. Most are not settled so soon; a removal that is will be forgotten at once.
func (a *application) settleNow(ctx context.Context) error {
	if !a.accepted {
		return nil
	}
	open, err := a.outstanding(ctx)
	if err != nil || len(open) == 0 {
		return err
	}
	if err := a.release(); err != nil {
		return err
	}
	settlements, err := a.poll(ctx, a.target, open)
	if err != nil {
		a.log.WarnContext(ctx, "receipts were not settled; the next run asks again", "receipts", len(open), "error", clip(err.Error()))
	}
	return a.recordSettlements(ctx, open, settlements)
}

// outstanding lists the receipts of changes that nothing has overtaken since,
// after it has folded what an interrupted run recorded of others.
func (r *run) outstanding(ctx context.Context) ([]receipt, error) {
	d, err := r.warehouse(ctx)
	if err != nil {
		return nil, err
	}
	if err := r.recover(ctx, d); err != nil {
		return nil, err
	}
	accepted, err := r.countAccepted(ctx, d, "")
	if err != nil || accepted == 0 {
		return nil, err
	}
	if err := r.foldSettlements(ctx, d); err != nil {
		return nil, err
	}
	rows, err := warehouse.Collect(ctx, d, `SELECT d.intent, d.receipt, MIN(d.recorded_at)
		FROM `+own("state")+` t JOIN `+own("deliveries")+` d ON d.sync = t.sync AND d.key = t.key AND d.intent = t.intent
		WHERE t.sync = ? AND t.status = 'accepted' AND d.outcome = 'accepted' AND d.receipt <> ''
		GROUP BY d.intent, d.receipt ORDER BY d.intent, d.receipt`, r.sync.Name)
	if err != nil {
		return nil, fmt.Errorf("sync %s: look for receipts: %w", r.sync.Name, err)
	}
	open := make([]receipt, len(rows))
	for i, row := range rows {
		if err := scan(row, &open[i].intent, &open[i].id, &open[i].since); err != nil {
			return nil, err
		}
	}
	return open, nil
}

// countAccepted counts the rows of the state that wait for a receipt.
func (r *run) countAccepted(ctx context.Context, d warehouse.Driver, only string) (n int64, err error) {
	rows, err := warehouse.Collect(ctx, d, "SELECT COUNT(*) FROM "+own("state")+" WHERE sync = ? AND status = 'accepted'"+only, r.sync.Name)
	if err != nil {
		return 0, fmt.Errorf("sync %s: look for receipts: %w", r.sync.Name, err)
	}
	return n, scan(rows[0], &n)
}

// poll asks a destination that is open what became of receipts. Settlements
// that come with an error are good.
func (r *run) poll(ctx context.Context, target destination.Destination, open []receipt) (settlements []destination.Settlement, err error) {
	ctx, span := startSpan(ctx, "receipts", trace.WithAttributes(attribute.Int("sluis.receipts.open", len(open))))
	defer func() {
		span.SetAttributes(attribute.Int("sluis.receipts.settled", len(settlements)))
		endSpan(span, err)
	}()
	ids := make([]string, len(open))
	for i, receipt := range open {
		ids[i] = receipt.id
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	poller, ok := target.(destination.Poller)
	if !ok {
		return unpolled(ids), nil
	}
	for some := range slices.Chunk(ids, maxReceipts) {
		asking, cancel := context.WithTimeout(ctx, r.config.WriteTimeout)
		found, err := poller.Poll(asking, some)
		cancel()
		if errors.Is(err, errors.ErrUnsupported) {
			return unpolled(ids), nil
		}
		for _, s := range found {
			if !slices.Contains(some, s.Receipt) || s.Outcome == destination.Accepted || s.Outcome < destination.Delivered || s.Outcome > destination.Unknown {
				return settlements, fmt.Errorf("the destination %s settled a receipt that it was not asked about, or without an outcome", r.sync.Destination)
			}
			settlements = append(settlements, s)
		}
		if err != nil {
			return settlements, fmt.Errorf("ask the destination %s about receipts: %w", r.sync.Destination, classify("poll", err))
		}
	}
	return settlements, nil
}

// unpolled settles receipts of a destination that says no more than that it
// took a change on.
func unpolled(ids []string) []destination.Settlement {
	settlements := make([]destination.Settlement, len(ids))
	for i, id := range ids {
		settlements[i] = destination.Settlement{Receipt: id, Outcome: destination.Delivered, Code: codeNotPolled}
	}
	return settlements
}

// recordSettlements makes durable what is known of receipts, and folds it into
// the state. Who waits for an answer for too long has none.
func (r *run) recordSettlements(ctx context.Context, open []receipt, settlements []destination.Settlement) error {
	ctx = context.WithoutCancel(ctx)
	now := r.config.Now().UTC()
	known := make(map[string]destination.Settlement, len(settlements))
	for _, s := range settlements {
		known[s.Receipt] = s
	}
	var records [][]any
	for _, receipt := range open {
		s, ok := known[receipt.id]
		switch {
		case ok:
		case now.Sub(receipt.since) > r.config.ReceiptTTL:
			s = destination.Settlement{Outcome: destination.Unknown, Code: codeReceiptExpired}
		default:
			continue
		}
		code := clip(s.Code)
		if s.FailedRows > 0 && code == "" {
			code = codeRowsFailed
		}
		records = append(records, []any{r.sync.Name, receipt.intent, receipt.id, s.Outcome.String(), code, clip(s.Message), int64(s.FailedRows), now})
		if s.Outcome != destination.Delivered && s.Outcome != destination.Skipped || s.FailedRows > 0 {
			r.log.WarnContext(ctx, "the destination did not do all that it had accepted", "receipt", receipt.id, "outcome", s.Outcome.String(), "code", code, "failed_rows", s.FailedRows)
		}
	}
	if len(records) == 0 {
		return nil
	}
	d, err := r.warehouse(ctx)
	if err != nil {
		return err
	}
	err = d.Append(ctx, warehouse.SchemaSync, "receipts", []string{"sync", "intent", "receipt", "outcome", "code", "message", "failed_rows", "settled_at"}, records)
	if err != nil {
		return fmt.Errorf("sync %s: record what became of receipts: %w", r.sync.Name, err)
	}
	if err := r.foldSettlements(ctx, d); err != nil {
		return err
	}
	return r.destroyKept(ctx, d)
}

// foldSettlements brings the state up to date with settled receipts. Only a row
// that is still as the accepted sending left it changes, so folding again does
// nothing. An upsert that failed leaves the destination with what it had before,
// and a removal that failed, or of which some rows did, leaves the row there.
func (r *run) foldSettlements(ctx context.Context, d warehouse.Driver) error {
	err := d.Exec(ctx, `MERGE INTO `+own("state")+` t
		USING (
			SELECT d.sync, d.key, d.intent, d.op, d.present, d.row_hash, s.outcome, s.code, s.failed_rows, s.settled_at
			FROM `+own("deliveries")+` d JOIN `+own("receipts")+` s ON s.sync = d.sync AND s.intent = d.intent AND s.receipt = d.receipt
			WHERE d.sync = ? AND d.outcome = 'accepted' AND d.intent IN (SELECT intent FROM `+own("state")+` WHERE sync = ? AND status = 'accepted')
		) d
		ON t.sync = d.sync AND t.key = d.key AND t.intent = d.intent AND t.status = 'accepted'
		WHEN MATCHED AND d.op = 'remove' AND d.outcome IN ('delivered', 'skipped') AND d.failed_rows = 0 THEN DELETE
		WHEN MATCHED AND d.op = 'remove' THEN UPDATE SET status = 'failed', present = TRUE, unsure = (d.outcome = 'unknown'),
			attempts = t.attempts + 1, first_failed_at = COALESCE(t.first_failed_at, d.settled_at), last_error_code = d.code
		WHEN MATCHED AND d.outcome IN ('delivered', 'skipped') THEN UPDATE SET status = d.outcome,
			present = (d.outcome <> 'skipped' OR d.present), last_error_code = CASE WHEN d.failed_rows > 0 THEN d.code END
		WHEN MATCHED THEN UPDATE SET present = (d.present OR d.outcome = 'unknown'), unsure = (d.outcome = 'unknown'),
			row_hash = CASE WHEN d.present THEN '' END, fingerprint = NULL, pending_hash = d.row_hash,
			status = CASE WHEN d.outcome = 'rejected' THEN 'rejected' ELSE 'failed' END,
			attempts = t.attempts + 1, first_failed_at = COALESCE(t.first_failed_at, d.settled_at), last_error_code = d.code`, r.sync.Name, r.sync.Name)
	if err != nil {
		return fmt.Errorf("sync %s: update the state from receipts: %w", r.sync.Name, err)
	}
	return nil
}
