package bigquery

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sluis-cdp/sluis/collector"
)

// maxRequestBytes bounds the rows of a request. BigQuery takes less than 10 MB,
// framing and the first request's schema included.
const maxRequestBytes = 8 << 20

// landing is a begun batch as this process knows it: more than the state file
// says, and never less.
type landing struct {
	sink     *lane
	batch    *collector.Batch
	staged   map[int]bool        // events, by index, that are not landed but staged
	lines    []byte              // those events, as a file
	encoded  map[string][][]byte // by table: rows of the plan
	progress map[string]*progress
}

// progress is what became of the requests of a plan.
type progress struct {
	acked int // requests whose rows are in the stream
	// sent: requests below it may have been sent without an answer, by this
	// process or one that crashed. While acked < sent, one of them may still be on
	// its way and be written at any moment; only at its own offset, though.
	sent int
}

// certain tells that nothing is on its way that could still be written.
func (p *progress) certain() bool { return p.acked >= p.sent }

// landing goes on with the batch that was begun, or begins b.
func (n *lane) landing(b collector.Batch) (*landing, error) {
	if l := n.current; l != nil && l.batch.SpoolID == b.SpoolID && l.batch.First == b.First && l.batch.Last == b.Last {
		return l, nil
	}
	l := &landing{sink: n, batch: &b, progress: make(map[string]*progress)}
	begun := n.spool(b.SpoolID).Batch
	if begun == nil {
		if err := l.begin(); err != nil {
			return nil, err
		}
	} else if err := l.resume(begun); err != nil {
		return nil, err
	}
	n.current = l
	return l, nil
}

// begin makes durable what is going to be sent, before anything is.
func (l *landing) begin() error {
	if err := l.stage(l.sink.sources); err != nil {
		return err
	}
	var apart *staged
	if len(l.staged) > 0 {
		if err := l.sink.staging.full(); err != nil {
			return err
		}
		apart = &staged{Sources: l.sources(), Rows: len(l.staged)}
	}
	l.encoded = l.rows(nil)
	return l.sink.update(l.batch.SpoolID, func(spool *spoolState) {
		spool.Batch = &pending{First: l.batch.First, Last: l.batch.Last, Tables: make(map[string]*plan), Staged: apart}
		for table, rows := range l.encoded {
			spool.Batch.Tables[table] = &plan{Requests: l.sink.split(rows)}
			l.progress[table] = &progress{}
		}
	})
}

// resume takes up a batch that another process began: any of its requests may
// have been sent.
func (l *landing) resume(begun *pending) error {
	b := l.batch
	if begun.First != b.First || begun.Last != b.Last {
		return fmt.Errorf("records %d to %d have been begun and must be finished first", begun.First, begun.Last-1)
	}
	apart := begun.Staged
	if apart == nil {
		apart = &staged{}
	}
	if err := l.stage(apart.Sources); err != nil {
		return err
	}
	l.encoded = l.rows(begun.Refused)
	if n := len(l.staged); n != apart.Rows {
		return l.differs("load jobs", n, apart.Rows)
	}
	for _, t := range l.sink.tables {
		planned := 0
		if p := begun.Tables[t.name]; p != nil {
			planned = p.rows()
			l.progress[t.name] = &progress{sent: len(p.Requests)}
		}
		if n := len(l.encoded[t.name]); n != planned {
			return l.differs(t.name, n, planned)
		}
	}
	l.sink.logger.Info("going on with a batch that was begun before", "first", b.First, "last", b.Last-1)
	return nil
}

// differs is the error if records do not give the rows that they gave before.
func (l *landing) differs(where string, rows, before int) error {
	return fmt.Errorf("records %d to %d have %d rows for %s, but had %d when landing them was begun. Either another version of this program "+
		"began (let it finish), or the spool was damaged since (its log says so): then stop the collector and move %s away; "+
		"what the spool still holds lands again, and the models drop events that are there twice",
		l.batch.First, l.batch.Last-1, rows, where, before, l.sink.config.StateFile)
}

// stage takes out the events of some sources. One that JSON cannot hold is left:
// the stream tells whether BigQuery takes it.
func (l *landing) stage(sources []string) error {
	var lines []byte
	l.staged = make(map[int]bool)
	table := l.sink.table(events)
	for i := range l.batch.Events {
		event := l.batch.Events[i]
		if slices.Contains(sources, event.SourceID) {
			event.SpoolID = loadsOf(l.batch.SpoolID)
			lines, l.staged[i] = table.appendLine(lines, reflect.ValueOf(event))
		}
	}
	maps.DeleteFunc(l.staged, func(_ int, staged bool) bool { return !staged })
	var err error
	l.lines, err = compress(lines)
	return err
}

// sources returns those of the staged events.
func (l *landing) sources() []string {
	of := make(map[string]bool)
	for i := range l.staged {
		of[l.batch.Events[i].SourceID] = true
	}
	return slices.Sorted(maps.Keys(of))
}

// finish records that the batch has landed, once its staged events are on disk.
// They count from then on.
func (l *landing) finish() error {
	b := l.batch
	f := stagedFile{spool: b.SpoolID, first: b.First, last: b.Last}
	if len(l.staged) > 0 {
		if err := l.sink.staging.write(f, l.lines); err != nil {
			return fmt.Errorf("keeping events for a load job: %w", err)
		}
	}
	if err := l.sink.update(b.SpoolID, (*spoolState).finish); err != nil {
		return err
	}
	return l.sink.staging.publish(f)
}

// plan returns what goes to a table; nil for nothing.
func (l *landing) plan(t table) *plan {
	return l.sink.spool(l.batch.SpoolID).Batch.Tables[t.name]
}

// land brings all rows of a table into it.
func (l *landing) land(ctx context.Context, t table) error {
	const tries, streams = 2, 3 // without any progress, until the loader shall wait
	for failed, replaced := 0, 0; ; {
		p, before := l.plan(t), l.progress[t.name]
		if p == nil || before.acked == len(p.Requests) {
			return nil
		}
		acked := before.acked
		if err := l.ensureStream(ctx, t); err != nil {
			return err
		}
		err := l.push(ctx, t)
		if err == nil {
			return nil
		}
		l.sink.disconnect(t.name)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var refused *refusedError
		switch {
		case errors.As(err, &refused):
			err = l.refuse(ctx, t, refused)
		case errors.Is(err, errStreamLost):
			if replaced++; replaced < streams {
				l.sink.logger.Warn("a stream cannot be used any more and is replaced", "table", t.name, "error", err)
				err = l.replace(ctx, t)
			}
		case errors.Is(err, errTransient):
			if before.acked > acked {
				failed = 0
			}
			if failed++; failed < tries {
				err = nil
			}
		case errors.Is(err, errForeign):
			err = l.sink.halt(l.batch.SpoolID, err.Error())
		}
		if err != nil {
			return err
		}
	}
}

// advance records that landed more rows of the plan are in the table, and plans
// the rest: into the stream st, without the rows now refused.
func (l *landing) advance(t table, landed int, st stream, refused []refusal) error {
	spool := l.sink.spool(l.batch.SpoolID)
	all := append(slices.Clone(spool.Batch.Refused), refused...)
	encoded := l.rows(all)
	changed := []string{t.name} // nothing of them is on its way under the new plan
	err := l.sink.update(l.batch.SpoolID, func(spool *spoolState) {
		spool.Batch.Refused = all
		spool.Batch.Tables[t.name].Landed += landed
		spool.Streams[t.name] = st
		for name, rows := range encoded {
			p := spool.Batch.Tables[name]
			if p == nil { // the first row for quarantine, or for the ledger
				p = &plan{}
				spool.Batch.Tables[name] = p
			}
			if name == t.name || len(rows) != p.rows() {
				p.Requests = l.sink.split(rows[p.Landed:])
				changed = append(changed, name)
			}
		}
		if p := spool.Batch.Tables[t.name]; len(encoded[t.name]) == 0 {
			p.Requests = nil // all of them refused
		}
	})
	if err != nil {
		return err
	}
	l.encoded = encoded
	for _, name := range changed {
		l.progress[name] = &progress{}
	}
	return nil
}

// refuse puts the rows that BigQuery does not take into quarantine, and plans
// the others anew.
func (l *landing) refuse(ctx context.Context, t table, e *refusedError) error {
	if !l.progress[t.name].certain() {
		// Later requests will have other offsets. One that is still on its way might
		// then fit and be written a second time, so the stream is closed first; the
		// new one refuses the rows again.
		return l.replace(ctx, t)
	}
	spool := l.sink.spool(l.batch.SpoolID)
	kept := l.kept(t, spool.Batch.Refused)
	var refused []refusal
	for row, reason := range e.rows {
		if t.name == ledger || row >= len(kept) {
			return fmt.Errorf("BigQuery refuses a row that Sluis itself made for %s (%s): the table is not as it should be; "+
				"repair it with 'sluis doctor --fix'. The rows stay in the spool", t.name, reason)
		}
		refused = append(refused, refusal{Table: t.name, Row: kept[row], Reason: clip(reason)})
	}
	slices.SortFunc(refused, func(a, b refusal) int { return a.Row - b.Row })
	for _, r := range refused {
		if err := l.sink.keepRefused(l.batch, t, r); err != nil {
			return fmt.Errorf("keeping a refused row: %w", err)
		}
	}
	p, st := l.plan(t), spool.Streams[t.name]
	landed := sum(p.Requests[:l.progress[t.name].acked])
	st.Offset += int64(landed)
	if err := l.advance(t, landed, st, refused); err != nil {
		return err
	}
	l.sink.logger.Warn("BigQuery refused rows; they are in quarantine, and kept in a folder", "table", t.name, "rows", len(refused), "folder", l.sink.refusedDir())
	return nil
}

// kept returns the indexes of a table's rows in the batch, without the refused
// and the staged.
func (l *landing) kept(t table, refused []refusal) []int {
	out := make(map[int]bool)
	for _, r := range refused {
		if r.Table == t.name {
			out[r.Row] = true
		}
	}
	var kept []int
	for i := range t.in(&l.batch.Rows).Len() {
		if !out[i] && (t.name != events || !l.staged[i]) {
			kept = append(kept, i)
		}
	}
	return kept
}

// rows encodes what the batch adds to each table: its rows without the refused;
// for each refused one a row of quarantine; and, if that was an event, two of
// the ledger, which had already counted it as landed. The order never changes,
// so what has landed of it is always a beginning.
func (l *landing) rows(refused []refusal) map[string][][]byte {
	encoded := make(map[string][][]byte)
	add := func(t *table, row any) { encoded[t.name] = append(encoded[t.name], t.encode(reflect.ValueOf(row))) }
	for _, t := range l.sink.tables {
		rows := t.in(&l.batch.Rows)
		for _, i := range l.kept(t, refused) {
			encoded[t.name] = append(encoded[t.name], t.encode(rows.Index(i)))
		}
		for _, r := range refused {
			from := l.sink.table(r.Table)
			row := from.in(&l.batch.Rows).Index(r.Row)
			switch {
			case t.name == quarantine:
				add(&t, quarantineRow(l.batch, from, row, r))
			case t.name == ledger && r.Table == events:
				event := l.batch.Events[r.Row]
				correction := collector.LedgerRow{
					SourceID: event.SourceID, Minute: event.ReceivedAt.Truncate(time.Minute),
					Outcome: string(collector.Landed), N: -1,
					Origin: collector.Origin{SpoolID: l.batch.SpoolID, SpoolOffset: event.SpoolOffset},
				}
				add(&t, correction)
				correction.Outcome, correction.Reason, correction.N = string(collector.Quarantined), "refused_by_bigquery", 1
				add(&t, correction)
			}
		}
	}
	return encoded
}

func (s *Sink) table(name string) *table {
	for i := range s.tables {
		if s.tables[i].name == name {
			return &s.tables[i]
		}
	}
	return nil
}

// split cuts rows into requests, where records end: a request is written whole
// or not at all, so whoever reads the table sees all of a spool's last record or
// nothing of it. Only a record that is larger than a request is cut itself.
func (s *Sink) split(rows [][]byte) []int {
	var requests []int
	start, size := 0, 0
	for i := 0; i < len(rows); i++ {
		length := len(rows[i]) + 8 // its tag and length
		if i > start && size+length > s.requestSize {
			if first := firstOfRecord(rows, i); first > start {
				i = first
			}
			requests = append(requests, i-start)
			start, size = i, 0
			length = len(rows[i]) + 8
		}
		size += length
	}
	if start < len(rows) {
		requests = append(requests, len(rows)-start)
	}
	return requests
}

// firstOfRecord finds the first row of the spool record that a row is of.
func firstOfRecord(rows [][]byte, i int) int {
	for i > 0 && bytes.Equal(lastField(rows[i-1]), lastField(rows[i])) {
		i--
	}
	return i
}

// lastField returns the last field of an encoded row, which is spool_offset.
func lastField(row []byte) []byte {
	for {
		_, _, n := protowire.ConsumeField(row)
		if n < 0 || n == len(row) {
			return row
		}
		row = row[n:]
	}
}

// quarantineRow stands for a refused row. It has no payload: the row is no
// sealed value, and the collector cannot seal what is already pseudonymous. The
// file of the same name has it.
func quarantineRow(b *collector.Batch, t *table, row reflect.Value, r refusal) collector.QuarantineRow {
	q := collector.QuarantineRow{
		QuarantineID: refusedName(b, r), Reason: "bigquery: " + r.Reason, Path: t.name, ReceivedAt: b.Day,
		Origin: collector.Origin{SpoolID: b.SpoolID},
	}
	q.SourceID, _ = t.value(row, "source_id").(string)
	q.Type, _ = t.value(row, "type").(string)
	q.SpoolOffset, _ = t.value(row, "spool_offset").(int64)
	if at, ok := t.value(row, "received_at").(time.Time); ok {
		q.ReceivedAt = at
	}
	return q
}

func refusedName(b *collector.Batch, r refusal) string {
	return fmt.Sprintf("%s-%020d-%s-%d", b.SpoolID, b.First, r.Table, r.Row)
}

// clip bounds a message of BigQuery, which becomes a column's value.
func clip(reason string) string {
	const most = 300
	runes := []rune(reason)
	if len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return reason
}

// keepRefused keeps a row that BigQuery does not take, with its columns' names.
func (s *Sink) keepRefused(b *collector.Batch, t table, r refusal) error {
	row := t.in(&b.Rows).Index(r.Row)
	values := make(map[string]any)
	for _, c := range t.columns {
		values[c.Name] = row.FieldByIndex(c.field).Interface()
	}
	data, err := json.MarshalIndent(map[string]any{"table": t.name, "reason": r.Reason, "row": values}, "", "  ")
	if err != nil {
		return err
	}
	return s.keep(refusedName(b, r)+".json", append(data, '\n'))
}

// keepUnreadable keeps records that this version cannot decode, as they are.
func (s *Sink) keepUnreadable(b collector.Batch) error {
	for _, u := range b.Unreadable {
		if err := s.keep(fmt.Sprintf("%s-%020d-unreadable", b.SpoolID, u.Seq), u.Data); err != nil {
			return err
		}
	}
	return nil
}

func (s *Sink) keep(name string, data []byte) error {
	if err := os.MkdirAll(s.refusedDir(), 0o700); err != nil {
		return err
	}
	return s.save(filepath.Join(s.refusedDir(), name), data)
}
