package subject

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/consent/seal"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// damaged counts the files of the spools that were set aside.
func (s *Subjects) damaged() (int, error) {
	n := 0
	for _, dir := range []string{s.Workspace.SpoolDir(), filepath.Join(s.Workspace.ReplayDir(), "spool")} {
		files, err := filepath.Glob(filepath.Join(dir, "damaged-*"))
		if err != nil {
			return 0, fmt.Errorf("looking for damaged files: %w", err)
		}
		n += len(files)
	}
	return n, nil
}

// swept is how far the last sweep came: of each spool, all up to that place. A
// spool lands in order, so that what lies behind is new.
type swept struct {
	Tombstones int              `json:"tombstones"`
	Newest     time.Time        `json:"newest"` // tombstone
	Spools     map[string]int64 `json:"spools"`
}

func (s *Subjects) sweptPath() string { return filepath.Join(s.Workspace.Erasures(), "swept.json") }

// Sweep removes what landed of erased people after their erasure: from a
// collector that did not know yet, or from a spool that was away. It looks at what
// is new since the last sweep, and at all of it if there are new tombstones. It
// costs one small query where nobody was erased. Models are built after it. It
// returns how many identifiers were found.
//
// Events that wait in quarantine are opened only if quarantine is asked for; they
// are sealed, and a replay lets none of an erased person through. Of people who
// were readmitted a sweep removes nothing: what is new of them may be theirs again.
func (s *Subjects) Sweep(ctx context.Context, quarantine bool) (found int, err error) {
	var stones map[string]collector.Tombstone
	err = s.with(ctx, func(d warehouse.Driver) error {
		stones, err = Tombstones(ctx, d)
		return err
	})
	if err != nil || len(stones) == 0 {
		return 0, err
	}
	leave, err := s.alone(ctx, false)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, leave()) }()
	unfinished, err := s.unfinished()
	if err != nil {
		return 0, err
	}
	for _, p := range unfinished {
		if p.Sweep { // an erasure is for who asked for it to end
			if _, err := s.complete(ctx, p); err != nil {
				return 0, err
			}
		}
	}
	var late []string
	var next swept
	err = s.with(ctx, func(d warehouse.Driver) error {
		if err := s.refresh(ctx, d, nil); err != nil {
			return err
		}
		if late, next, err = s.late(ctx, d, stones); err != nil || !quarantine {
			return err
		}
		sealed, err := s.lateSealed(ctx, d, stones)
		late = append(late, sealed...)
		return err
	})
	if err != nil {
		return 0, err
	}
	if len(late) > 0 {
		p := s.newPending(true)
		slices.Sort(late)
		p.Pseudonyms, p.Quarantine = slices.Compact(late), quarantine
		if err := p.save(); err != nil {
			return 0, err
		}
		if _, err := s.complete(ctx, p); err != nil {
			return 0, err
		}
	}
	content, err := json.Marshal(next)
	if err != nil {
		return 0, err
	}
	return len(late), writeFile(s.sweptPath(), content)
}

// lateSealed finds pseudonyms that are to be kept out, of events in quarantine.
func (s *Subjects) lateSealed(ctx context.Context, d warehouse.Driver, stones map[string]collector.Tombstone) (late []string, err error) {
	suppressor, err := seal.NewSuppressor(ctx, s.keys, s.Workspace.Workspace)
	if err != nil {
		return nil, err
	}
	_, _, err = s.quarantine(ctx, d, func(pseudonym string) bool {
		stone, ok := stones[suppressor.Token(pseudonym)]
		if ok = ok && stone.Readmitted.IsZero(); ok {
			late = append(late, pseudonym)
		}
		return ok
	})
	return late, err
}

// late finds pseudonyms that are to be kept out, in what landed since.
func (s *Subjects) late(ctx context.Context, d warehouse.Driver, stones map[string]collector.Tombstone) (late []string, next swept, err error) {
	next = swept{Tombstones: len(stones), Spools: make(map[string]int64)}
	for _, stone := range stones {
		if stone.ErasedAt.After(next.Newest) {
			next.Newest = stone.ErasedAt
		}
	}
	before := s.sweptBefore()
	if before.Tombstones != next.Tombstones || !before.Newest.Equal(next.Newest) {
		before.Spools = nil
	}
	rows, err := warehouse.Collect(ctx, d, `SELECT spool_id, MAX(spool_offset) FROM (SELECT spool_id, spool_offset FROM sluis.events
		UNION ALL SELECT spool_id, spool_offset FROM sluis.vault UNION ALL SELECT spool_id, spool_offset FROM sluis.consents) AS a
		WHERE spool_id IS NOT NULL GROUP BY spool_id`)
	if err != nil {
		return nil, next, fmt.Errorf("looking for what is new: %w", err)
	}
	for _, row := range rows {
		next.Spools[text(row[0])], _ = row[1].(int64)
	}
	fresh, with := newSince(before.Spools)
	suppressor, err := seal.NewSuppressor(ctx, s.keys, s.Workspace.Workspace)
	if err != nil {
		return nil, next, err
	}
	unnest := "UNNEST(e.identifiers) AS i"
	if d.Dialect() == "duckdb" {
		unnest = "UNNEST(e.identifiers) AS u(i)"
	}
	found, err := d.Query(ctx, `SELECT DISTINCT pseudonym FROM (
			SELECT i.pseudonym AS pseudonym FROM sluis.events AS e CROSS JOIN `+unnest+` WHERE `+fresh+`
			UNION ALL SELECT e.anonymous_id FROM sluis.events AS e WHERE `+fresh+`
			UNION ALL SELECT e.user_id FROM sluis.events AS e WHERE `+fresh+`
			UNION ALL SELECT e.pseudonym FROM sluis.vault AS e WHERE `+fresh+`
			UNION ALL SELECT e.pseudonym FROM sluis.consents AS e WHERE `+fresh+`
		) AS a WHERE pseudonym IS NOT NULL`, slices.Concat(with, with, with, with, with)...)
	if err != nil {
		return nil, next, fmt.Errorf("looking for erased people in what is new: %w", err)
	}
	defer found.Close() //nolint:errcheck // reading: Err has the verdict
	for found.Next() {
		pseudonym := text(found.Row()[0])
		if stone, ok := stones[suppressor.Token(pseudonym)]; ok && stone.Readmitted.IsZero() {
			late = append(late, pseudonym)
		}
	}
	slices.Sort(late)
	return late, next, wrapped("looking for erased people in what is new", found.Err())
}

func (s *Subjects) sweptBefore() (before swept) {
	content, err := os.ReadFile(s.sweptPath())
	if err != nil || json.Unmarshal(content, &before) != nil {
		return swept{} // then all is looked at
	}
	return before
}

// newSince is the condition that a row e lies behind those places.
func newSince(spools map[string]int64) (condition string, with []any) {
	if len(spools) == 0 {
		return "TRUE", nil
	}
	names := slices.Sorted(maps.Keys(spools))
	parts := []string{"e.spool_id IS NULL", "e.spool_id NOT IN (" + places(len(names)) + ")"}
	with = args(names)
	for _, name := range names {
		parts = append(parts, "(e.spool_id = ? AND e.spool_offset > ?)")
		with = append(with, name, spools[name])
	}
	return "(" + strings.Join(parts, " OR ") + ")", with
}
