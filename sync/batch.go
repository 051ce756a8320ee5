package syncer

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/sluis-cdp/sluis/plugins/destination"
)

// row is a change of the plan on its way to the destination.
type row struct {
	storedChange
	values []any
	former []identity // what the key was sent with before, where that identifies

	// What the state said of the key before this sending.
	present, unsure, resend bool
	changeBefore            string

	// What is known of consent now.
	asked, allowed, erased bool
	decisionNow, policyNow string

	skip    string // why it is not sent, as a code
	outcome destination.Outcome
	code    string
	message string
	receipt string
}

// Codes that the syncer itself gives to deliveries.
const (
	codeUnsealFailed   = "unseal_failed"   // the sealed value does not open, or is gone
	codeValueInvalid   = "value_invalid"   // a value does not fit its type
	codeOutcomeUnknown = "outcome_unknown" // sent before; a second time would not be harmless
	codeWriteFailed    = "write_failed"    // the destination answered with an error
	codeBadAnswer      = "bad_answer"      // the destination broke the protocol
	maxMessage         = 200               // bytes of a destination's message that are kept
	maxRefused         = 3                 // batches in a row of which nothing is taken end a run
)

// A window is some batches in a row whose rows are asked for consent, announced and
// recorded at once: each of these steps costs the warehouse much the same for one
// batch as for many.
const (
	maxWindow    = 100_000          // rows
	windowAge    = 10 * time.Second // no second batch of a window is sent this long after it was announced
	announceTime = 30 * time.Second // a window that takes longer to ask for, open and announce has rows enough
)

// window sends the changes first to last, or as many as the time is enough for, and
// again those that the destination could not take for now, as often as the
// configuration says. It returns the last change that it dealt with.
func (a *application) window(ctx context.Context, first, last int64) (_ int64, err error) {
	ctx, span := startWindow(ctx)
	defer func() { span.end(err) }()
	var again []*row // nil means all
	for attempt := 1; ; attempt++ {
		rows, stay, err := a.fetch(ctx, first, last, again)
		if err != nil {
			return 0, err
		}
		sent, tail, asked, err := a.sendRows(ctx, rows)
		if err != nil {
			return 0, err
		}
		if len(sent) < len(rows) {
			last = rows[len(sent)].seq - 1
			stay = slices.DeleteFunc(stay, func(r *row) bool { return r.seq > last })
			a.postpone(rows[len(sent):])
		}
		a.pace(len(sent), len(rows))
		span.sent(sent)
		if err := a.record(ctx, sent, stay); err != nil || len(sent) == 0 {
			return last, err
		}
		again = a.unsettled(tail)
		pause := max(asked, a.backoff(attempt))
		if len(again) == 0 || attempt == a.config.Attempts || pause > a.config.RetryMax {
			return last, a.leave(tail, again)
		}
		if err := a.release(); err != nil {
			return 0, err
		}
		span.waits(pause, asked > 0, len(again))
		if err := a.config.Wait(ctx, pause); err != nil {
			a.Failed += int64(len(again))
			return 0, fmt.Errorf("sync %s: stopped; plan %s can be applied again: %w", a.Sync, a.PlanID, err)
		}
	}
}

// postpone leaves announced rows for the next window. The state says of those that were
// absent that they may be there, as it must if this run ends here.
func (a *application) postpone(rows []*row) {
	if a.unsent == nil {
		a.unsent = map[int64]bool{}
	}
	for _, r := range rows {
		if r.absent() {
			a.unsent[r.seq] = true
		}
	}
}

// pace sets how many rows the next window has: twice as many as this one if that was
// done soon, as many as were sent if it was cut short. Where a change may not be sent
// twice, a window is one batch, since all of it is in doubt after a crash.
func (a *application) pace(sent, all int) {
	switch {
	case !a.description.Idempotent:
	case sent < all:
		a.windowRows = max(a.batchRows, int64(sent))
	case !a.slow && a.config.Now().Sub(a.announced) < windowAge/2:
		a.windowRows = max(a.batchRows, min(2*a.windowRows, maxWindow))
	}
}

// sendRows sends rows, batch by batch, until one of them is not settled, or time is
// up; while one is sent, the next is made ready. It returns those that were sent, the last
// batch of them, and how long the destination wants to be left alone. It fails if not even
// one batch may be sent.
func (a *application) sendRows(ctx context.Context, rows []*row) (sent, tail []*row, asked time.Duration, err error) {
	next := a.ready(rows)
	defer func() { <-next }()
	for len(sent) < len(rows) {
		if a.overtaken() && len(sent) == 0 {
			return nil, nil, 0, fmt.Errorf("sync %s: %w", a.Sync, ErrLeaseLost)
		}
		if len(sent) > 0 && a.expired(ctx) {
			break
		}
		this := <-next
		sent = rows[:len(sent)+len(this.rows)]
		next = a.ready(rows[len(sent):])
		tail, asked = this.rows, a.send(ctx, this)
		if slices.ContainsFunc(tail, (*row).open) {
			break
		}
	}
	return sent, tail, asked, nil
}

// outgoing is a batch that is ready to be sent.
type outgoing struct {
	rows  []*row
	batch destination.Batch
}

// preparer is a destination, such as a plugin's process, that can do part of a Write
// while another is under way; the Write of the same batch then finds it done.
type preparer interface {
	Prepare(batch destination.Batch)
}

// ready makes the first batch of rows ready, if there are any, and closes the channel.
// It reads them beside this goroutine, which changes no row before it was sent.
func (a *application) ready(rows []*row) <-chan outgoing {
	out := make(chan outgoing, 1)
	rows = rows[:min(int(a.batchRows), len(rows))]
	if len(rows) == 0 {
		close(out)
		return out
	}
	go func() {
		defer close(out)
		batch := a.compose(rows)
		if target, ok := a.target.(preparer); ok {
			target.Prepare(batch)
		}
		out <- outgoing{rows, batch}
	}()
	return out
}

// overtaken reports whether the lease is lost, or will be before the destination
// answers.
func (a *application) overtaken() bool {
	return a.config.Now().Add(a.config.WriteTimeout).After(a.until)
}

// expired reports whether the rest of a window has to be left.
func (a *application) expired(ctx context.Context) bool {
	return a.overtaken() || ctx.Err() != nil || a.config.Now().Sub(a.announced) > windowAge
}

// open reports whether another attempt may change what became of the row.
func (r *row) open() bool {
	return r.outcome == destination.Retry || r.outcome == destination.Unknown
}

// leave counts the rows that stay for the next run, and ends this one if the
// destination takes nothing at all.
func (a *application) leave(rows, again []*row) error {
	a.Failed += int64(len(again))
	if slices.ContainsFunc(rows, func(r *row) bool { return !r.open() }) {
		a.refused = 0
		return nil
	}
	if a.refused++; a.refused < maxRefused {
		return nil
	}
	last := rows[len(rows)-1]
	return classify("refused", fmt.Errorf("sync %s: the destination %s took nothing of %d batches in a row (last: %s %s): stopped; the next run goes on where this one ended",
		a.Sync, a.sync.Destination, maxRefused, last.code, last.message))
}

// backoff is a random pause of up to twice as much with each attempt, so that
// those who wait for one destination do not come back together.
func (r *run) backoff(attempt int) time.Duration {
	most := r.config.RetryMax
	if shift := attempt - 1; shift < 30 {
		most = min(most, r.config.RetryBase<<shift)
	}
	return most/2 + rand.N(most/2+1)
}

// unsettled lists the rows worth another attempt.
func (a *application) unsettled(rows []*row) []*row {
	var again []*row
	for _, r := range rows {
		switch r.outcome {
		case destination.Retry:
			again = append(again, r)
		case destination.Unknown:
			if a.repeatable(r) {
				again = append(again, r)
			} else {
				a.Failed++
			}
		case destination.Delivered, destination.Accepted, destination.Rejected, destination.Skipped:
		}
	}
	return again
}

// repeatable reports whether a change may be sent when it may have arrived.
func (a *application) repeatable(r *row) bool {
	return a.description.Idempotent || r.op == opRemove
}

// send writes a batch to the destination and notes what became of each row. It
// returns how long the destination wants to be left alone. Once it has begun it
// is not stopped by ctx, since the outcome would be lost.
func (a *application) send(ctx context.Context, out outgoing) time.Duration {
	rows := out.rows
	results, code, err := a.write(ctx, out.batch)
	if err != nil {
		a.settle(rows, code, err)
		return 0
	}
	var pause time.Duration
	for i, result := range results {
		r := rows[i]
		r.outcome, r.code, r.message, r.receipt = result.Outcome, clip(result.Code), scrub(result.Message, rows[i:i+1]), result.Receipt
		a.count(r)
		if result.Outcome == destination.Retry {
			pause = max(pause, result.RetryAfter)
		}
	}
	return pause
}

// settle notes that nothing is known of any row.
func (a *application) settle(rows []*row, code string, err error) {
	message := scrub(err.Error(), rows)
	a.log.Warn("a batch has an unknown outcome", "run_id", a.ID, "rows", len(rows), "code", code, "error", message)
	for _, r := range rows {
		r.outcome, r.code, r.message = destination.Unknown, code, message
	}
}

// write calls the destination. An error has a code.
func (a *application) write(ctx context.Context, batch destination.Batch) (results []destination.Result, code string, err error) {
	ctx, span := startSpan(context.WithoutCancel(ctx), "write", trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attribute.Int("sluis.batch.rows", len(batch.Changes))))
	defer func() { endSpanAs(span, code) }()
	ctx, cancel := context.WithTimeout(ctx, a.config.WriteTimeout)
	defer cancel()
	if results, err = a.target.Write(ctx, batch); err != nil {
		return nil, codeWriteFailed, err
	}
	if err = batch.CheckResults(results); err != nil {
		return nil, codeBadAnswer, err
	}
	return results, "", nil
}

func (a *application) compose(rows []*row) destination.Batch {
	urgent := []Reason{ReasonConsentWithdrawn, ReasonConsentMissing, ReasonErased}
	batch := destination.Batch{
		Sync: a.Sync, Run: a.ID, Purpose: a.sync.Purpose,
		Columns: destinationColumns(a.plan.columns),
		Changes: make([]destination.Change, len(rows)),
	}
	ids := []string{"batch/1", a.Sync}
	for i, r := range rows {
		change := destination.Change{ID: r.id, Key: r.Key, Op: destination.Upsert, Values: r.values}
		if r.op == opRemove {
			change.Op = destination.Remove
		} else {
			change.Decision = r.decision
		}
		if slices.Contains(urgent, r.Reason) {
			change.PriorityReason = string(r.Reason)
		}
		batch.Changes[i] = change
		ids = append(ids, r.id)
	}
	batch.ID = digestOf(ids...)[:32]
	a.identify(&batch, rows)
	return batch
}

func (a *application) count(r *row) {
	a.accepted = a.accepted || r.outcome == destination.Accepted && r.receipt != ""
	switch r.outcome {
	case destination.Delivered, destination.Accepted:
		switch {
		case r.op == opRemove:
			a.Removed++
		case r.Op == KindUpdate:
			a.Updated++
		case r.Op == KindRefresh:
			a.Refreshed++
		default:
			a.Added++
		}
	case destination.Rejected:
		a.Failed++
	case destination.Skipped:
		a.Skipped++
	case destination.Retry, destination.Unknown: // counted when given up
	}
}

// scrub takes the values of rows out of a message of a destination, which is
// supposed to hold none, and bounds it.
func scrub(message string, rows []*row) string {
	for _, r := range rows {
		for _, value := range r.values {
			if text, ok := value.(string); ok && len(text) >= 3 {
				message = strings.ReplaceAll(message, text, hidden)
			}
		}
		for _, known := range r.former {
			for _, text := range known {
				if len(text) >= 3 {
					message = strings.ReplaceAll(message, text, hidden)
				}
			}
		}
	}
	return clip(message)
}

func clip(s string) string {
	if len(s) > maxMessage {
		s = s[:maxMessage]
	}
	return strings.ToValidUTF8(s, "")
}
