package collector

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluis-cdp/sluis/consent/seal"
)

// erasedReason is the ledger's reason for what is kept out, or was removed,
// because the person was erased.
const erasedReason = "erased"

// Tombstone keeps an erased identifier out.
type Tombstone struct {
	Token    string // of the suppression list, see [seal.Suppressor]
	ErasedAt time.Time
	// Readmitted is when the person asked to be known again; what happened before
	// stays out. Zero: never. Nothing that a client sends readmits anybody, since
	// both a time and a choice can be sent again, and made up.
	Readmitted time.Time
}

// suppressionHeader begins a file of tombstones.
const suppressionHeader = "# sluis suppression list v1: tokens of erased people, when they were erased, and since when they are known again. It holds no pseudonyms."

// SuppressionList is the file by which a collector and its loader know who was
// erased. It holds tokens that can be joined to nothing, so that it may be copied
// to every collector. Its methods may be called concurrently.
type SuppressionList struct {
	path    string
	tokens  func() (*seal.Suppressor, error)
	mu      sync.Mutex // of Reread
	stamp   stamp
	current atomic.Pointer[suppressed]
}

// suppressed is one reading of the list.
type suppressed struct {
	suppressor *seal.Suppressor
	stones     map[string]Tombstone // by token
}

// stamp tells one state of a file from another.
type stamp struct {
	size     int64
	modified time.Time
}

// OpenSuppressionList reads the list in a file; one that does not exist is empty.
// tokens loads the key of its tokens. It is called when the first is needed: a
// collector that nobody was erased from works without that key.
func OpenSuppressionList(path string, tokens func() (*seal.Suppressor, error)) (*SuppressionList, error) {
	l := &SuppressionList{path: path, tokens: tokens}
	l.current.Store(&suppressed{})
	_, err := l.Reread()
	return l, err
}

// Reread reads the file if it has changed, and tells whether it had. After an
// error the list is what it was.
func (l *SuppressionList) Reread() (changed bool, err error) {
	if l == nil {
		return false, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	info, err := os.Stat(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		changed = len(l.current.Load().stones) > 0
		l.current.Store(&suppressed{})
		l.stamp = stamp{}
		return changed, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading the suppression list: %w", err)
	}
	now := stamp{info.Size(), info.ModTime()}
	if now == l.stamp {
		return false, nil
	}
	stones, err := ReadTombstones(l.path)
	if err != nil {
		return false, err
	}
	next := &suppressed{stones: stones, suppressor: l.current.Load().suppressor}
	if len(stones) > 0 && next.suppressor == nil {
		if next.suppressor, err = l.tokens(); err != nil {
			return false, fmt.Errorf("%s names people who were erased: %w", l.path, err)
		}
	}
	l.current.Store(next)
	l.stamp = now
	return true, nil
}

// Len is how many tombstones there are.
func (l *SuppressionList) Len() int {
	if l == nil {
		return 0
	}
	return len(l.current.Load().stones)
}

// Holds tells whether what happened then, about the person with a pseudonym, is
// to be kept out. It costs one HMAC, and nothing while nobody was erased.
func (l *SuppressionList) Holds(pseudonym string, occurred time.Time) bool {
	if l == nil || pseudonym == "" {
		return false
	}
	now := l.current.Load()
	if len(now.stones) == 0 {
		return false
	}
	stone, ok := now.stones[now.suppressor.Token(pseudonym)]
	return ok && stone.holds(occurred)
}

func (t Tombstone) holds(occurred time.Time) bool {
	return t.Readmitted.IsZero() || occurred.Before(t.Readmitted)
}

// ReadTombstones reads a file of tombstones, by token; one that does not exist is
// empty.
func ReadTombstones(path string) (map[string]Tombstone, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]Tombstone{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the suppression list: %w", err)
	}
	stones := make(map[string]Tombstone)
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		stone, err := parseTombstone(line)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w: write the list anew with `sluis subject suppressed --out FILE`", path, n, err)
		}
		stones[stone.Token] = stone
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading the suppression list: %w", err)
	}
	return stones, nil
}

func parseTombstone(line string) (t Tombstone, err error) {
	fields := strings.Fields(line)
	if len(fields) < 2 || len(fields) > 3 || !strings.HasPrefix(fields[0], "su") {
		return t, errors.New("not a token and a time")
	}
	t.Token = fields[0]
	if t.ErasedAt, err = time.Parse(time.RFC3339, fields[1]); err != nil {
		return t, errors.New("not a time")
	}
	if len(fields) == 3 {
		if t.Readmitted, err = time.Parse(time.RFC3339, fields[2]); err != nil {
			return t, errors.New("not a time")
		}
	}
	return t, nil
}

// FormatTombstones is the content of a file of tombstones.
func FormatTombstones(stones map[string]Tombstone) []byte {
	var b bytes.Buffer
	b.WriteString(suppressionHeader + "\n")
	for _, token := range slices.Sorted(maps.Keys(stones)) {
		t := stones[token]
		fmt.Fprintf(&b, "%s %s", t.Token, t.ErasedAt.UTC().Format(time.RFC3339Nano))
		if !t.Readmitted.IsZero() {
			fmt.Fprintf(&b, " %s", t.Readmitted.UTC().Format(time.RFC3339Nano))
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// WriteTombstones replaces a file of tombstones, durably and at once. One process
// at a time calls it.
func WriteTombstones(path string, stones map[string]Tombstone) error {
	temporary := path + ".tmp"
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("writing the suppression list: %w", err)
	}
	_, err = f.Write(FormatTombstones(stones))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("writing the suppression list: %w", err)
	}
	if err := errors.Join(os.Rename(temporary, path), syncDir(filepath.Dir(path))); err != nil {
		return fmt.Errorf("writing the suppression list: %w", err)
	}
	return nil
}

// suppress ends the way of an event about somebody who was erased, before
// anything is kept of it: it stands before what quarantines.
func (c *Collector) suppress(e *Event) verdict {
	if c.isErased(e) {
		return verdict{Withheld, erasedReason}
	}
	return verdict{}
}

// isErased tells whether an identifier of the event is to be kept out: any that it
// has, since without consent to link them the one that lands says nothing of the
// others. Before gather, these are only its ids.
func (c *Collector) isErased(e *Event) bool {
	if c.Suppressed.Len() == 0 {
		return false
	}
	at := occurredAt(e)
	held := func(kind seal.Kind, value string) bool {
		if value == "" {
			return false
		}
		p, err := e.kept.batch.Pseudonym(kind, value)
		return err == nil && c.Suppressed.Holds(p.Token(), at)
	}
	if held(seal.AnonymousID, e.anonymous) || held(seal.UserID, e.user) || strings.Contains(e.user, "@") && held(seal.Email, e.user) {
		return true
	}
	if previous, _ := scalar(e.previousID); e.typ == "alias" && previous != "" && held(previousKind(previous), previous) {
		return true
	}
	return slices.ContainsFunc(e.personal, func(p personalValue) bool { return p.kind != "" && held(p.kind, p.value) })
}

// withoutErased is the batch less what it has of people who were erased: events,
// which the ledger then has as withheld, and sealed values. Choices stay, since
// only who holds the key for it may take one out of their chain.
func (b Batch) withoutErased(l *SuppressionList) Batch {
	if l.Len() == 0 {
		return b
	}
	b.Ledger = slices.Clone(b.Ledger)
	b.Events = slices.DeleteFunc(slices.Clone(b.Events), func(e EventRow) bool {
		if !e.heldBy(l) {
			return false
		}
		for outcome, n := range map[Outcome]int64{Landed: -1, Withheld: 1} {
			row := LedgerRow{SourceID: e.SourceID, Minute: e.ReceivedAt.Truncate(time.Minute), Outcome: string(outcome), N: n, Origin: e.Origin}
			if outcome == Withheld {
				row.Reason = erasedReason
			}
			b.Ledger = addUp(b.Ledger, row, (*LedgerRow).same, (*LedgerRow).add)
		}
		return true
	})
	b.Elements = slices.DeleteFunc(slices.Clone(b.Elements), func(e ElementRow) bool { return l.Holds(e.Pseudonym, e.ReceivedAt) })
	b.Vault = slices.DeleteFunc(slices.Clone(b.Vault), func(v VaultRow) bool { return l.Holds(v.Pseudonym, v.ReceivedAt) })
	return b
}

func (e *EventRow) heldBy(l *SuppressionList) bool {
	return l.Holds(e.AnonymousID, e.OccurredAt) || l.Holds(e.UserID, e.OccurredAt) ||
		slices.ContainsFunc(e.Identifiers, func(id IdentifierRow) bool { return l.Holds(id.Pseudonym, e.OccurredAt) })
}
