package subject

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/sluis-cdp/sluis/cmd/internal/edge"
	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/collector/spool"
	"github.com/sluis-cdp/sluis/consent/record"
	"github.com/sluis-cdp/sluis/consent/seal"
	"github.com/sluis-cdp/sluis/sql/warehouse"
	syncer "github.com/sluis-cdp/sluis/sync"
)

// Erased is what became of a request.
type Erased struct {
	Receipt Receipt
	ByHand  []ByHand
	Seen    []Seen // identifiers that were left, see [Person]
	// NewKeys are keys that were made since an earlier version of this program had
	// not made them.
	NewKeys []string
}

// step is a part of an erasure. Each may be interrupted anywhere and done again.
type step struct {
	name string
	do   func(*Subjects, context.Context, *pending) error
}

// The order matters: first nothing new may arrive and nothing be sent, then what
// is there goes, and the account of whom it was goes last.
var steps = []step{
	{"keep out what arrives from now on", (*Subjects).bury},
	{"send nothing more", (*Subjects).hold},
	{"land what waits in the spool", (*Subjects).drain},
	{"delete what landed", (*Subjects).eraseLanded},
	{"delete and rebuild the models", (*Subjects).eraseModels},
	{"remove from destinations", (*Subjects).eraseDestinations},
	{"forget what was sent", (*Subjects).forget},
	{"delete what landed meanwhile", (*Subjects).eraseLate},
	{"rewrite the warehouse's file", (*Subjects).rewrite},
}

// Prepare makes the keys that erasures need and that a keyring made by an earlier
// version lacks.
func (s *Subjects) Prepare(ctx context.Context) (added []string, err error) {
	for _, name := range []string{seal.KeySuppress, seal.KeyRights} {
		fresh, err := s.Workspace.EnsureKey(ctx, name)
		if err != nil {
			return added, err
		}
		if fresh {
			added = append(added, name)
		}
	}
	return added, nil
}

// Find tells whom an erasure would be about. It changes nothing but the models,
// which it brings up to date.
func (s *Subjects) Find(ctx context.Context, g Given) (p Person, err error) {
	given, err := s.pseudonymsOf(ctx, g)
	if err != nil {
		return p, err
	}
	err = s.with(ctx, func(d warehouse.Driver) error {
		failed, err := s.Build(ctx, d, false)
		if err != nil {
			return err
		}
		if slices.Contains(failed, "identity_map") {
			return errors.New("the model identity_map could not be built, so that it is not known which identifiers belong together: mend it, or see `sluis models run`")
		}
		p, err = s.person(ctx, d, given)
		return err
	})
	return p, err
}

// Erase erases a person: from the landing tables, the models, the syncer's
// tables, the destinations, the spool and the files, and keeps them out from then
// on. It first ends what an earlier call left unfinished. After an error it can be
// called again, with anybody, and goes on; what it has done is done.
func (s *Subjects) Erase(ctx context.Context, g Given) (e Erased, err error) {
	leave, err := s.alone(ctx, true)
	if err != nil {
		return e, err
	}
	defer func() { err = errors.Join(err, leave()) }()
	if e.NewKeys, err = s.Prepare(ctx); err != nil {
		return e, err
	}
	given, err := s.pseudonymsOf(ctx, g)
	if err != nil {
		return e, err
	}
	if e, err = s.resume(ctx, given, e); err != nil || e.Receipt.Request != "" {
		return e, err
	}
	p, seen, err := s.begin(ctx, g)
	if err != nil {
		return e, err
	}
	finished, err := s.complete(ctx, p)
	finished.NewKeys, finished.Seen = e.NewKeys, seen
	return finished, err
}

// resume ends what is unfinished. If one of it is about those given, it has the
// receipt.
func (s *Subjects) resume(ctx context.Context, given []string, e Erased) (Erased, error) {
	all, err := s.unfinished()
	if err != nil {
		return e, err
	}
	for _, p := range all {
		finished, err := s.complete(ctx, p)
		if err != nil {
			return e, err
		}
		if !p.Sweep && containsAll(p.Pseudonyms, given) {
			e.Receipt, e.ByHand = finished.Receipt, finished.ByHand
		}
	}
	return e, nil
}

func containsAll(list, of []string) bool {
	return !slices.ContainsFunc(of, func(one string) bool { return !slices.Contains(list, one) })
}

// begin finds all that is to be erased by, and takes it down.
func (s *Subjects) begin(ctx context.Context, g Given) (*pending, []Seen, error) {
	person, err := s.Find(ctx, g)
	if err != nil {
		return nil, nil, err
	}
	p := s.newPending(false)
	p.Pseudonyms, p.SyncIDs, p.Quarantine = person.Pseudonyms, person.syncIDs(), true
	return p, person.Seen, p.save()
}

// complete does what is left of an erasure, and signs the receipt.
func (s *Subjects) complete(ctx context.Context, p *pending) (Erased, error) {
	for _, step := range steps {
		if slices.Contains(p.Done, step.name) {
			continue
		}
		s.Progress(step.name)
		if err := step.do(s, ctx, p); err != nil {
			return Erased{}, fmt.Errorf("erasing, request %s: %s: %w: what was done is done; run it again to go on", p.Request, step.name, err)
		}
		p.Done = append(p.Done, step.name)
		if err := p.save(); err != nil {
			return Erased{}, err
		}
	}
	if p.Sweep {
		return Erased{}, p.remove()
	}
	receipt, err := s.receipt(ctx, p)
	if err != nil {
		return Erased{}, err
	}
	return Erased{Receipt: receipt, ByHand: p.ByHand}, p.remove()
}

// hold has nobody send the person any more, and takes down where they are: who looks
// before that misses where they are sent meanwhile.
func (s *Subjects) hold(ctx context.Context, p *pending) error {
	if p.Sweep {
		return nil
	}
	if err := s.Syncer.Erasing(ctx, p.SyncIDs); err != nil {
		return err
	}
	if _, embedded := s.embedded(); !embedded {
		if err := s.Syncer.Announced(ctx); err != nil {
			return err
		}
	}
	holdings, err := s.Syncer.Holdings(ctx, p.SyncIDs)
	if err != nil {
		return err
	}
	p.Holdings = nil
	for _, h := range holdings {
		p.Holdings = append(p.Holdings, syncHolding{h.Sync, h.Present})
	}
	return nil
}

// drain lands what waits, unless a collector runs: that one does so itself.
func (s *Subjects) drain(ctx context.Context, p *pending) error {
	if p.Sweep {
		return nil
	}
	err := edge.LandNow(ctx, s.Workspace, s.Logger)
	if errors.Is(err, spool.ErrLocked) {
		return nil
	}
	return err
}

func (s *Subjects) eraseLanded(ctx context.Context, p *pending) error {
	return s.pass(ctx, p, "l", p.Quarantine)
}

func (s *Subjects) eraseLate(ctx context.Context, p *pending) error {
	if p.Sweep {
		return nil
	}
	return s.pass(ctx, p, "m", false)
}

// pass removes what is in the landing tables now. name is a letter that no other
// pass of the request has.
func (s *Subjects) pass(ctx context.Context, p *pending, name string, quarantine bool) (err error) {
	sink, embedded := s.embedded()
	if embedded {
		leave, err := sink.Alone(ctx) // nobody lands or merges
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, leave()) }()
	}
	return s.with(ctx, func(d warehouse.Driver) error { // and nobody reads, in the embedded warehouse
		if err := s.look(ctx, d, p, name, quarantine); err != nil {
			return err
		}
		now := p.Passes[name]
		if !now.Removed {
			removed, err := s.remove(ctx, d, p, now)
			if err != nil {
				return err
			}
			for table, n := range removed {
				p.Deleted[warehouse.SchemaLanding+"."+table] += n
			}
			now.Removed = true
			if err := p.save(); err != nil {
				return err
			}
		}
		if now.Told || len(now.Ledger) == 0 {
			return nil
		}
		if err := s.tell(ctx, d, p, name, now.Ledger); err != nil {
			return err
		}
		now.Told = true
		return p.save()
	})
}

// look takes down what is to go, so that an interrupted removal leaves the ledger
// as right as one that was not.
func (s *Subjects) look(ctx context.Context, d warehouse.Driver, p *pending, name string, quarantine bool) error {
	if p.Passes[name] != nil {
		return nil
	}
	now := &pass{Until: s.Now().UTC().Truncate(time.Microsecond)}
	condition, with := ofPerson(d, p.Pseudonyms)
	rows, err := warehouse.Collect(ctx, d, "SELECT e.event_id, e.source_id, e.received_at FROM sluis.events AS e WHERE ("+condition+") AND e.received_at <= ?",
		append(with, now.Until)...)
	if err != nil {
		return fmt.Errorf("looking for events: %w", err)
	}
	moved := make(map[ledgerChange]int64)
	for _, row := range rows {
		now.Events = append(now.Events, text(row[0]))
		at, _ := row[2].(time.Time)
		moved[ledgerChange{Source: text(row[1]), Minute: at.Truncate(time.Minute), Outcome: string(collector.Landed)}]++
	}
	if quarantine {
		found, closed, err := s.quarantine(ctx, d, oneOf(p.Pseudonyms))
		if err != nil {
			return err
		}
		p.Closed = closed
		for _, q := range found {
			now.Quarantine = append(now.Quarantine, q.QuarantineID)
			moved[ledgerChange{
				Source: q.SourceID, Minute: q.ReceivedAt.Truncate(time.Minute), Outcome: string(collector.Quarantined), Reason: reasonOf(q.Reason, q.Path),
			}]++
		}
	}
	for change, n := range moved {
		change.N = n
		now.Ledger = append(now.Ledger, change)
	}
	slices.SortFunc(now.Ledger, func(a, b ledgerChange) int {
		return strings.Compare(a.Minute.Format(time.RFC3339)+a.Source+a.Outcome+a.Reason, b.Minute.Format(time.RFC3339)+b.Source+b.Outcome+b.Reason)
	})
	slices.Sort(now.Events)
	now.Events = slices.Compact(now.Events)
	p.Passes[name] = now
	return p.save()
}

// reasonOf is how the ledger writes why an event was quarantined.
func reasonOf(rule, path string) string {
	if path == "" {
		return rule
	}
	return rule + " at " + path
}

// remove deletes from all landing tables.
func (s *Subjects) remove(ctx context.Context, d warehouse.Driver, p *pending, now *pass) (map[string]int64, error) {
	rights, err := s.recordKey(ctx)
	if err != nil {
		return nil, err
	}
	if sink, ok := s.embedded(); ok {
		return sink.Erase(ctx, collector.Gone{
			Pseudonyms: setOf(p.Pseudonyms), Events: setOf(now.Events), Quarantine: setOf(now.Quarantine),
			Husk: func(row collector.ConsentRow) collector.ConsentRow {
				return row.Erase(rights, s.Workspace.Workspace, p.Request)
			},
		})
	}
	removed := make(map[string]int64)
	for _, table := range warehouse.Landing() {
		columns := table.Columns
		switch {
		case hasColumn(columns, "identifiers"):
			condition, with := ofPerson(d, p.Pseudonyms)
			condition = "(" + condition + ") AND e.received_at <= ?" // or the ledger would not have it
			if err := deleteRows(ctx, d, table.Name, condition, append(with, now.Until), removed); err != nil {
				return nil, err
			}
		case table.Name == "consents":
			if err := s.eraseChoices(ctx, d, p, rights, removed); err != nil {
				return nil, err
			}
		case hasColumn(columns, "pseudonym"):
			if err := deleteRows(ctx, d, table.Name, "e.pseudonym IN ("+places(len(p.Pseudonyms))+")", args(p.Pseudonyms), removed); err != nil {
				return nil, err
			}
		case table.Name == "quarantine" && len(now.Quarantine) > 0:
			for ids := range slices.Chunk(now.Quarantine, 1000) {
				if err := deleteRows(ctx, d, table.Name, "e.quarantine_id IN ("+places(len(ids))+")", args(ids), removed); err != nil {
					return nil, err
				}
			}
		}
	}
	return removed, nil
}

// eraseChoices replaces choices by their husks, which the record of consent needs
// to be whole; see package record. What is in no chain goes.
func (s *Subjects) eraseChoices(ctx context.Context, d warehouse.Driver, p *pending, rights record.Key, removed map[string]int64) error {
	mine := "e.pseudonym IN (" + places(len(p.Pseudonyms)) + ")"
	if err := deleteRows(ctx, d, "consents", mine+" AND e.chain IS NULL", args(p.Pseudonyms), removed); err != nil {
		return err
	}
	rows, err := warehouse.Collect(ctx, d, "SELECT DISTINCT e.chain, e.link, e.link_row, e.row_digest FROM sluis.consents AS e WHERE "+mine, args(p.Pseudonyms)...)
	if err != nil {
		return fmt.Errorf("reading the record of consent: %w", err)
	}
	var empty []string
	for _, column := range []string{
		"decision_id", "pseudonym", "purpose", "granted", "signal", "signal_digest", "policy_version", "region", "source_id", "decided_at",
		"notice", "expires_at", "salt",
	} {
		empty = append(empty, column+" = NULL")
	}
	const at = "CONCAT(e.chain, ':', CAST(e.link AS STRING), ':', CAST(e.link_row AS STRING))"
	for some := range slices.Chunk(rows, 200) {
		var cases, where strings.Builder
		var signatures, names []any
		for _, row := range some {
			place := record.Place{Chain: text(row[0])}
			place.Link, _ = row[1].(int64)
			place.LinkRow, _ = row[2].(int64)
			cases.WriteString(" WHEN ? THEN ?")
			signatures = append(signatures, place.String(), record.EraseSignature(rights, s.Workspace.Workspace, place, text(row[3]), p.Request))
			names = append(names, place.String())
		}
		where.WriteString(at + " IN (" + places(len(names)) + ")")
		statement := "UPDATE sluis.consents AS e SET " + strings.Join(empty, ", ") +
			", received_at = TIMESTAMP_TRUNC(received_at, DAY), erasure_id = ?, erasure_signature = CASE " + at + cases.String() + " END WHERE " + mine + " AND " + where.String()
		if err := d.Exec(ctx, statement, slices.Concat([]any{p.Request}, signatures, args(p.Pseudonyms), names)...); err != nil {
			return fmt.Errorf("erasing from the record of consent: %w", err)
		}
		removed["consents"] += int64(len(some))
	}
	return nil
}

// deleteRows deletes, and adds up how many there were.
func deleteRows(ctx context.Context, d warehouse.Driver, table, condition string, with []any, removed map[string]int64) error {
	rows, err := warehouse.Collect(ctx, d, "SELECT COUNT(*) FROM sluis."+table+" AS e WHERE "+condition, with...)
	if err != nil {
		return fmt.Errorf("counting what is to go from sluis.%s: %w", table, err)
	}
	n, _ := rows[0][0].(int64)
	if n == 0 {
		return nil
	}
	if err := d.Exec(ctx, "DELETE FROM sluis."+table+" AS e WHERE "+condition, with...); err != nil {
		return fmt.Errorf("deleting from sluis.%s: %w", table, err)
	}
	removed[table] += n
	return nil
}

func setOf(list []string) map[string]bool {
	set := make(map[string]bool, len(list))
	for _, one := range list {
		set[one] = true
	}
	return set
}

// tell lets the ledger follow: what had landed, or was quarantined, was withheld
// in the end.
func (s *Subjects) tell(ctx context.Context, d warehouse.Driver, p *pending, name string, changes []ledgerChange) error {
	var rows []collector.LedgerRow
	for _, c := range changes {
		rows = append(rows,
			collector.LedgerRow{SourceID: c.Source, Minute: c.Minute, Outcome: c.Outcome, Reason: c.Reason, N: -c.N},
			collector.LedgerRow{SourceID: c.Source, Minute: c.Minute, Outcome: string(collector.Withheld), Reason: "erased", N: c.N})
	}
	if sink, ok := s.embedded(); ok {
		return sink.Tombstones(p.Request+name, p.At, nil, collector.Rows{Ledger: rows})
	}
	origin := "e" + p.Request + name
	there, err := warehouse.Collect(ctx, d, "SELECT COUNT(*) FROM sluis.ledger WHERE spool_id = ?", origin)
	if err != nil {
		return fmt.Errorf("reading the ledger: %w", err)
	}
	if n, _ := there[0][0].(int64); n > 0 {
		return nil
	}
	values := make([][]any, len(rows))
	for i, r := range rows {
		values[i] = []any{r.SourceID, r.Minute.UTC(), r.Outcome, orNull(r.Reason), r.N, origin, int64(0)}
	}
	if err := d.Append(ctx, warehouse.SchemaLanding, "ledger", []string{"source_id", "minute", "outcome", "reason", "n", "spool_id", "spool_offset"}, values); err != nil {
		return fmt.Errorf("letting the ledger follow: %w", err)
	}
	return nil
}

// eraseModels deletes all rows of all tables that name the person anywhere, builds
// the models without them, and deletes again: a table that no model builds any
// more keeps nothing of them either.
func (s *Subjects) eraseModels(ctx context.Context, p *pending) error {
	return s.with(ctx, func(d warehouse.Driver) error {
		if err := s.deleteNamed(ctx, d, p); err != nil || p.Sweep {
			return err // of a sweep, the models are built next
		}
		failed, err := s.Build(ctx, d, true)
		if err != nil {
			return err
		}
		p.NotBuilt = failed
		return s.deleteNamed(ctx, d, p)
	})
}

// deleteNamed deletes the rows of the models that have one of the identifiers or
// profiles in any column.
func (s *Subjects) deleteNamed(ctx context.Context, d warehouse.Driver, p *pending) error {
	var words []string
	for _, name := range slices.Concat(p.Pseudonyms, p.SyncIDs) {
		words = append(words, regexp.QuoteMeta(name))
	}
	slices.Sort(words)
	pattern := strings.Join(slices.Compact(words), "|")
	tables, err := tablesOf(ctx, d, warehouse.SchemaModels)
	if err != nil {
		return err
	}
	for _, table := range tables {
		name := warehouse.SchemaModels + "." + quoted(d, table)
		condition := "REGEXP_CONTAINS(TO_JSON_STRING(of_models), ?)"
		if d.Dialect() == "duckdb" {
			condition = "regexp_matches(CAST(to_json(of_models) AS VARCHAR), ?)"
		}
		rows, err := warehouse.Collect(ctx, d, "SELECT COUNT(*) FROM "+name+" AS of_models WHERE "+condition, pattern)
		if err != nil {
			return fmt.Errorf("looking through %s.%s: %w", warehouse.SchemaModels, table, err)
		}
		n, _ := rows[0][0].(int64)
		if n == 0 {
			continue
		}
		statement := "DELETE FROM " + name + " AS of_models WHERE " + condition
		if d.Dialect() == "duckdb" {
			statement = "DELETE FROM " + name + " WHERE rowid IN (SELECT of_models.rowid FROM " + name + " AS of_models WHERE " + condition + ")"
		}
		if err := d.Exec(ctx, statement, pattern); err != nil {
			return fmt.Errorf("deleting from %s.%s: %w", warehouse.SchemaModels, table, err)
		}
		p.Deleted[warehouse.SchemaModels+"."+table] += n
	}
	return nil
}

// eraseDestinations removes the person wherever they were sent. One that is away
// does not keep the others from it.
func (s *Subjects) eraseDestinations(ctx context.Context, p *pending) error {
	var problems []error
	for _, h := range p.Holdings {
		if _, ok := p.Destinations[h.Sync]; ok {
			continue
		}
		outcome, err := s.eraseFrom(ctx, p, h)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		p.Destinations[h.Sync] = outcome
		if err := p.save(); err != nil {
			return err
		}
	}
	return errors.Join(problems...)
}

func (s *Subjects) eraseFrom(ctx context.Context, p *pending, h syncHolding) (Destination, error) {
	there := Destination{Sync: h.Sync, Outcome: OutcomeNotThere}
	i := slices.IndexFunc(s.Syncs, func(declared syncer.Sync) bool { return declared.Name == h.Sync })
	if i >= 0 {
		there.Destination = s.Syncs[i].Destination
	}
	if h.Present == 0 {
		return there, nil
	}
	if i < 0 {
		there.Outcome = OutcomeUndeclared
		return there, s.byHand(ctx, p, there, "the sync is no longer declared")
	}
	run, err := s.whenFree(ctx, s.Syncs[i])
	switch {
	case errors.Is(err, syncer.ErrCannotRemove):
		there.Outcome = OutcomeCannotRemove
		return there, s.byHand(ctx, p, there, "the destination cannot remove rows")
	case err != nil:
		return there, err
	case run.Failed > 0:
		return there, fmt.Errorf("sync %s: %d removals did not succeed; `sluis sync rows %[1]s` has the reasons", h.Sync, run.Failed)
	}
	// A run before this one, of the scheduler, may have removed some already.
	there.Outcome, there.Removed = OutcomeRemoved, max(run.Removed, h.Present)
	return there, nil
}

// whenFree waits for a run of the scheduler that is under way, or for its lease to
// end if it was killed.
func (s *Subjects) whenFree(ctx context.Context, sync syncer.Sync) (syncer.Run, error) {
	const pause = 200 * time.Millisecond
	for {
		run, err := s.Syncer.Erase(ctx, sync)
		busy, ok := errors.AsType[*syncer.BusyError](err)
		if !ok {
			return run, err
		}
		s.Logger.Info("waiting for a sync", "sync", sync.Name, "holder", busy.Holder)
		select {
		case <-ctx.Done():
			return run, errors.Join(err, ctx.Err())
		case <-time.After(pause):
		}
	}
}

// byHand takes down by what keys the destination knows the person.
func (s *Subjects) byHand(ctx context.Context, p *pending, there Destination, why string) error {
	return s.with(ctx, func(d warehouse.Driver) error {
		in := places(len(p.SyncIDs))
		rows, err := warehouse.Collect(ctx, d, "SELECT DISTINCT key FROM sluis_sync.state WHERE sync = ? AND (key IN ("+in+") OR profile_id IN ("+in+")) ORDER BY key",
			slices.Concat([]any{there.Sync}, args(p.SyncIDs), args(p.SyncIDs))...)
		if err != nil {
			return fmt.Errorf("reading what %s has: %w", there.Sync, err)
		}
		left := ByHand{Sync: there.Sync, Destination: there.Destination, Why: why}
		for _, row := range rows {
			left.Keys = append(left.Keys, text(row[0]))
		}
		p.ByHand = append(slices.DeleteFunc(p.ByHand, func(b ByHand) bool { return b.Sync == there.Sync }), left)
		return nil
	})
}

func (s *Subjects) forget(ctx context.Context, p *pending) error {
	if p.Sweep {
		return nil
	}
	forgotten, err := s.Syncer.Forget(ctx, p.SyncIDs)
	for table, n := range forgotten {
		p.Deleted[warehouse.SchemaSync+"."+table] += n
	}
	return err
}

func (s *Subjects) rewrite(ctx context.Context, p *pending) error {
	if s.Rewrite == nil || p.Sweep {
		return nil
	}
	return s.Rewrite(ctx)
}

// receipt says what was done.
func (s *Subjects) receipt(ctx context.Context, p *pending) (Receipt, error) {
	r := Receipt{
		Format: receiptFormat, Workspace: s.Workspace.Workspace, Request: p.Request, RequestedAt: p.At,
		CompletedAt: s.Now().UTC().Truncate(time.Second), Identifiers: len(p.Pseudonyms), Deleted: p.Deleted,
		Destinations: []Destination{}, Remains: []string{}, Warehouse: "duckdb",
	}
	for _, name := range slices.Sorted(maps.Keys(p.Destinations)) {
		there := p.Destinations[name]
		r.Destinations = append(r.Destinations, there)
		if there.Outcome == OutcomeCannotRemove || there.Outcome == OutcomeUndeclared {
			r.Remains = append(r.Remains, fmt.Sprintf("What sync %s sent has to be removed at the destination by hand.", there.Sync))
		}
	}
	if err := s.horizon(ctx, &r); err != nil {
		return r, err
	}
	if p.Closed > 0 {
		r.Remains = append(r.Remains, fmt.Sprintf("%d events in quarantine could not be opened, so that nobody can tell whose they are.", p.Closed))
	}
	if len(p.NotBuilt) > 0 {
		r.Remains = append(r.Remains, "Models that could not be built anew, of which rows with the person were deleted: "+strings.Join(p.NotBuilt, ", ")+".")
	}
	damaged, err := s.damaged()
	if err != nil {
		return r, err
	}
	if damaged > 0 {
		r.Remains = append(r.Remains, fmt.Sprintf("%d damaged files of the spool were set aside and not looked through.", damaged))
	}
	r.Remains = append(r.Remains, "Backups and snapshots of disks that others keep, and what was copied out of the warehouse, are not reached from here.")
	return s.sign(ctx, r)
}

// horizon finds out from when on nobody can bring it back.
func (s *Subjects) horizon(ctx context.Context, r *Receipt) error {
	return s.with(ctx, func(d warehouse.Driver) error {
		r.Warehouse = d.Dialect()
		r.IrrecoverableAt, r.Because = r.CompletedAt, "the files that held it were rewritten"
		keeper, ok := d.(warehouse.Retainer)
		if !ok {
			return nil
		}
		kept, err := keeper.KeepsDeleted(ctx)
		if err != nil {
			return err
		}
		r.IrrecoverableAt = r.CompletedAt.Add(kept)
		r.Because = fmt.Sprintf("BigQuery keeps what is deleted for %d days: time travel, and seven days of fail-safe after it", int(kept.Hours()/24))
		return nil
	})
}
