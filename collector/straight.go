package collector

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// Straight is a [Spool] that is none: it lands what it is given, in batches as the
// loader makes them, and keeps nothing on disk before. It serves events that can
// be had again after a crash, such as those that are made up. Land must be called
// at the end.
type Straight struct {
	// SpoolID is what the rows have for the spool that they came from.
	SpoolID string
	loader  *Loader

	mu      sync.Mutex
	next    uint64 // the number of the next record
	batch   Batch
	ledger  map[LedgerRow]int64 // of the batch: a day has many minutes
	landing chan error          // of the batch that is landing, nil if none is
}

// straightRows bounds a batch: one is made while another lands.
const straightRows = 25_000

// NewStraight goes on behind what landed of this spool.
func NewStraight(ctx context.Context, id string, sink Sink, suppressed *SuppressionList) (*Straight, error) {
	next, _, err := sink.Position(ctx, id)
	if err != nil {
		return nil, err
	}
	return &Straight{SpoolID: id, loader: &Loader{Sink: sink, Suppressed: suppressed}, next: next}, nil
}

// Begun tells whether rows of this spool have landed.
func (s *Straight) Begun() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next > 0
}

// Append adds a record to the batch, and lands that when it is full or the record
// belongs to another day. An error may be that of a batch before.
func (s *Straight) Append(ctx context.Context, record []byte) (uint64, error) {
	rec, err := ParseRecord(record)
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	day := rec.ReceivedAt.UTC().Truncate(24 * time.Hour)
	full := s.batch.Last-s.batch.First >= maxBatchRecords || len(s.batch.Events) >= straightRows
	if s.batch.Last > 0 && (full || !day.Equal(s.batch.Day)) {
		if err := s.land(ctx); err != nil {
			return 0, err
		}
	}
	if s.batch.Last == 0 {
		s.batch = Batch{SpoolID: s.SpoolID, First: s.next, Day: day}
		s.ledger = make(map[LedgerRow]int64)
	}
	seq := s.next
	s.next++
	for _, row := range rec.Ledger {
		n := row.N
		row.N, row.Origin = 0, Origin{SpoolID: s.SpoolID, SpoolOffset: int64(s.batch.First)}
		s.ledger[row] += n
	}
	rec.Ledger = nil
	s.batch.append(rec.Rows, s.SpoolID, seq, s.batch.First)
	s.batch.Last = s.next
	return seq, nil
}

// Land lands the rest.
func (s *Straight) Land(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.batch.Last > 0 {
		if err := s.land(ctx); err != nil {
			return err
		}
	}
	return s.landed()
}

// land begins to land the batch, beside what comes next.
func (s *Straight) land(ctx context.Context) error {
	if err := s.landed(); err != nil {
		return err
	}
	for row, n := range s.ledger {
		row.N = n
		s.batch.Ledger = append(s.batch.Ledger, row)
	}
	slices.SortFunc(s.batch.Ledger, func(a, b LedgerRow) int {
		return cmp.Or(a.Minute.Compare(b.Minute), cmp.Compare(a.SourceID, b.SourceID), cmp.Compare(a.Outcome, b.Outcome), cmp.Compare(a.Reason, b.Reason))
	})
	batch, landing := s.batch, make(chan error, 1)
	s.batch, s.landing = Batch{}, landing
	go func() { landing <- s.loader.attempt(ctx, batch) }()
	return nil
}

// landed waits for the batch that is landing.
func (s *Straight) landed() error {
	if s.landing == nil {
		return nil
	}
	err := <-s.landing
	s.landing = nil
	return err
}
