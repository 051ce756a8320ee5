package collector

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluis-cdp/sluis/consent/record"
)

// Recorder appends the rows of consents to the spool, as links of one signed chain;
// see package record. They are records of their own, written before the events
// that came with them, so that one link takes what many requests bring at once: a
// link names the one before it, and so no two can be on their way together.
//
// Its methods may be called concurrently.
type Recorder struct {
	spool  Spool
	state  string // the file with the head of the chain
	logger *slog.Logger
	late   bool // the file is written by Save alone

	mu      sync.Mutex
	waiting []*recording
	running bool

	chain *record.Chain // of the goroutine of run alone
}

// recording are rows that wait to be a part of a link, with the elements of their
// pseudonyms that have not landed yet.
type recording struct {
	rows     []ConsentRow
	elements []ElementRow
	received time.Time
	done     chan error // with one place
}

// maxLinkRows bounds a link, and so the record that it is written in.
const maxLinkRows = 2000

// OpenRecorder begins a chain that names the head of the one before, which is in
// the file state if this is not the first. The file is written with each link, and
// not synced: after a power cut the chain names an earlier link, which loses
// nothing but that the last ones before the cut are named by none.
func OpenRecorder(key record.Key, workspace, state string, spool Spool, logger *slog.Logger) (*Recorder, error) {
	text, err := os.ReadFile(state)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the head of the record of consent: %w", err)
	}
	head, err := record.ParseHead(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, fmt.Errorf("%s: %w; restore the file, or remove it to begin a chain that names none before it", state, err)
	}
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &Recorder{spool: spool, state: state, logger: logger, chain: record.NewChain(key, workspace, head)}, nil
}

// append returns when the rows are on disk. It does not end early with the
// request: whether they are has to be known.
func (r *Recorder) append(received time.Time, rows []ConsentRow, elements []ElementRow) error {
	var parts []*recording
	for part := range slices.Chunk(rows, maxLinkRows) {
		parts = append(parts, &recording{rows: part, elements: elements, received: received, done: make(chan error, 1)})
		elements = nil
	}
	r.mu.Lock()
	r.waiting = append(r.waiting, parts...)
	if !r.running && len(parts) > 0 {
		r.running = true
		go r.run()
	}
	r.mu.Unlock()
	var err error
	for _, part := range parts {
		err = errors.Join(err, <-part.done)
	}
	return err
}

// run writes links until nothing waits.
func (r *Recorder) run() {
	for {
		link := r.next()
		if len(link) == 0 {
			return
		}
		err := r.write(link)
		for _, part := range link {
			part.done <- err
		}
	}
}

// next takes what one link can hold of what waits, of one day: a record lands
// under the day that it was received on.
func (r *Recorder) next() []*recording {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, rows := 0, 0
	for _, part := range r.waiting {
		rows += len(part.rows)
		if n > 0 && (rows > maxLinkRows || !sameDay(part.received, r.waiting[0].received)) {
			break
		}
		n++
	}
	link := slices.Clone(r.waiting[:n])
	r.waiting = slices.Delete(r.waiting, 0, n)
	r.running = n > 0
	return link
}

func sameDay(a, b time.Time) bool {
	return a.UTC().Truncate(24 * time.Hour).Equal(b.UTC().Truncate(24 * time.Hour))
}

func (r *Recorder) write(link []*recording) error {
	rec := Record{ReceivedAt: link[0].received}
	for _, part := range link {
		rec.Consents = append(rec.Consents, part.rows...)
		rec.Elements = append(rec.Elements, part.elements...)
	}
	signLink(r.chain, rec.Consents)
	if _, err := r.spool.Append(context.Background(), rec.AppendTo(nil)); err != nil {
		r.chain.Lose() // it may be on disk all the same
		return fmt.Errorf("appending to the spool: %w", err)
	}
	r.chain.Keep()
	if r.late {
		return nil
	}
	if err := r.save(); err != nil {
		r.logger.Warn("the head of the record of consent was not written down; a chain that begins now names an earlier one", "error", err)
	}
	return nil
}

// signLink makes the rows the chain's next link.
func signLink(chain *record.Chain, rows []ConsentRow) {
	signed := make([]record.Row, len(rows))
	for i := range rows {
		signed[i] = rows[i].Entry()
	}
	chain.Sign(signed)
	for i, s := range signed {
		rows[i].place(s)
	}
}

// place takes over the row's place in the record.
func (r *ConsentRow) place(s record.Row) {
	r.Chain, r.Link, r.LinkRow, r.LinkRows = s.Chain, s.Link, s.LinkRow, s.LinkRows
	r.Previous, r.Salt, r.RowDigest, r.KeyID, r.Signature = s.Previous, s.Salt, s.Digest, s.KeyID, s.Signature
}

// Resign signs the rows of the whole table anew after a rotation of pseudonyms, and
// the head that a chain of the next start will name, in the file state; see
// [record.Resign].
func Resign(key record.Key, workspace, state string, rows []ConsentRow) error {
	entries := make([]record.Row, len(rows))
	for i := range rows {
		entries[i] = rows[i].Entry()
	}
	heads := record.Resign(key, workspace, entries)
	for i, entry := range entries {
		rows[i].place(entry)
	}
	text, err := os.ReadFile(state)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the head of the record of consent: %w", err)
	}
	head, err := record.ParseHead(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("%s: %w", state, err)
	}
	return writeHead(state, heads(head))
}

// Entry is the row as package record has it.
func (r *ConsentRow) Entry() record.Row {
	return record.Row{
		DecisionID: r.DecisionID, Pseudonym: r.Pseudonym, Purpose: r.Purpose, Granted: r.Granted,
		Signal: r.Signal, SignalDigest: r.SignalDigest, PolicyVersion: r.PolicyVersion, Region: r.Region, SourceID: r.SourceID,
		DecidedAt: r.DecidedAt, ReceivedAt: r.ReceivedAt, Notice: r.Notice, ExpiresAt: r.ExpiresAt,
		Place: record.Place{Chain: r.Chain, Link: r.Link, LinkRow: r.LinkRow}, LinkRows: r.LinkRows,
		Previous: r.Previous, Salt: r.Salt, Digest: r.RowDigest, KeyID: r.KeyID, Signature: r.Signature,
		ErasureID: r.ErasureID, ErasureSignature: r.ErasureSignature,
	}
}

// SaveLate leaves the file with the head as it is until [Recorder.Save], for links
// that are made by the thousand in a second. It is called before anything is appended.
func (r *Recorder) SaveLate() { r.late = true }

// Save writes the head down. Nothing is being appended meanwhile.
func (r *Recorder) Save() error {
	if err := r.save(); err != nil {
		return fmt.Errorf("writing the head of the record of consent: %w", err)
	}
	return nil
}

// save writes the head down, aside, and renames it.
func (r *Recorder) save() error { return writeHead(r.state, r.chain.Head()) }

func writeHead(state string, head record.Head) error {
	aside := state + ".tmp"
	if err := os.WriteFile(aside, []byte(head.String()+"\n"), 0o600); err != nil {
		return err
	}
	return os.Rename(aside, state)
}

// record writes the consents among some rows, and takes them out. Without a
// Recorder they stay where they are.
func (c *Collector) record(received time.Time, rows *Rows) error {
	if c.Recorder == nil || len(rows.Consents) == 0 {
		return nil
	}
	consents, elements := rows.Consents, rows.Elements
	rows.Consents, rows.Elements = nil, nil
	return c.Recorder.append(received, consents, elements)
}

// recordChoice writes the record of a choice, which has nothing beside the consents
// that has to wait for them.
func (c *Collector) recordChoice(ctx context.Context, rec Record) error {
	if c.Recorder == nil {
		return c.write(ctx, rec)
	}
	return c.record(rec.ReceivedAt, &rec.Rows)
}

// Erase is what stays of the row when the person is erased on a request: see
// [record.Erase]. Where in the spool it came from stays too.
func (r *ConsentRow) Erase(rights record.Key, workspace, requestID string) ConsentRow {
	husk := record.Erase(rights, workspace, r.Entry(), requestID)
	return ConsentRow{
		ReceivedAt: husk.ReceivedAt, Chain: husk.Chain, Link: husk.Link, LinkRow: husk.LinkRow, LinkRows: husk.LinkRows,
		Previous: husk.Previous, RowDigest: husk.Digest, KeyID: husk.KeyID, Signature: husk.Signature,
		ErasureID: husk.ErasureID, ErasureSignature: husk.ErasureSignature, Origin: r.Origin,
	}
}
