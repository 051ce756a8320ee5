package subject

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// pending is an erasure that is under way. It is a file, replaced whole after
// each step, so that an erasure that was killed goes on where it was; and it names
// the person, so that it is removed when there is a receipt.
type pending struct {
	Request    string    `json:"request"`
	At         time.Time `json:"at"`    // when the request was made: tombstones bear it
	Sweep      bool      `json:"sweep"` // of what arrived later; then there are tombstones already
	Pseudonyms []string  `json:"pseudonyms"`
	SyncIDs    []string  `json:"sync_ids"`
	Quarantine bool      `json:"quarantine"` // is looked through too
	// Closed is how many events in quarantine could not be opened.
	Closed int64            `json:"closed"`
	Passes map[string]*pass `json:"passes"`
	Done   []string         `json:"done"`
	// Holdings are the syncs that had something, before any of it was removed.
	Holdings     []syncHolding          `json:"holdings"`
	Destinations map[string]Destination `json:"destinations"`
	ByHand       []ByHand               `json:"by_hand"`
	Deleted      map[string]int64       `json:"deleted"`
	NotBuilt     []string               `json:"not_built"`

	path string
}

type syncHolding struct {
	Sync    string `json:"sync"`
	Present int64  `json:"present"`
}

// pass is one look at the landing tables, and what of them is to go.
type pass struct {
	Until      time.Time      `json:"until"` // events received later are for another pass
	Events     []string       `json:"events"`
	Quarantine []string       `json:"quarantine"`
	Ledger     []ledgerChange `json:"ledger"`
	Removed    bool           `json:"removed"`
	Told       bool           `json:"told"` // the ledger was
}

// ledgerChange moves events of one minute to "withheld, erased".
type ledgerChange struct {
	Source  string    `json:"source"`
	Minute  time.Time `json:"minute"`
	Outcome string    `json:"outcome"`
	Reason  string    `json:"reason"`
	N       int64     `json:"n"`
}

// ByHand is what a destination keeps until somebody removes it there. It names
// the person as the destination knows them, and so is in no receipt.
type ByHand struct {
	Sync        string   `json:"sync"`
	Destination string   `json:"destination"`
	Why         string   `json:"why"`
	Keys        []string `json:"keys"`
}

const pendingSuffix = ".pending.json"

// newRequest names a request: 64 random bits.
func newRequest() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

func (s *Subjects) newPending(sweep bool) *pending {
	request := newRequest()
	return &pending{
		Request: request, At: s.Now().UTC().Truncate(time.Microsecond), Sweep: sweep,
		Passes: make(map[string]*pass), Destinations: make(map[string]Destination), Deleted: make(map[string]int64),
		path: filepath.Join(s.Workspace.Erasures(), request+pendingSuffix),
	}
}

// save makes the file durable.
func (p *pending) save() error {
	content, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("keeping account of an erasure: %w", err)
	}
	return writeFile(p.path, content)
}

// writeFile replaces a file, durably and at once.
func writeFile(path string, content []byte) error {
	f, err := os.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := errors.Join(os.Rename(path+".tmp", path), syncDir(filepath.Dir(path))); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// unfinished reads the erasures that did not get to their end, oldest first.
func (s *Subjects) unfinished() ([]*pending, error) {
	paths, err := filepath.Glob(filepath.Join(s.Workspace.Erasures(), "*"+pendingSuffix))
	if err != nil {
		return nil, fmt.Errorf("looking for unfinished erasures: %w", err)
	}
	var all []*pending
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("looking for unfinished erasures: %w", err)
		}
		p := &pending{path: path}
		if err := json.Unmarshal(content, p); err != nil || p.Request+pendingSuffix != filepath.Base(path) {
			return nil, fmt.Errorf("%s is not as it was written; restore it, or ask for the erasure again and remove it", path)
		}
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *pending) int {
		if c := a.At.Compare(b.At); c != 0 {
			return c
		}
		return strings.Compare(a.Request, b.Request)
	})
	return all, nil
}

// alone keeps other erasures of this data folder out until leave is called. One
// that is under way is waited for, or is ErrBusy.
func (s *Subjects) alone(ctx context.Context, wait bool) (leave func() error, err error) {
	if err := os.MkdirAll(s.Workspace.Erasures(), 0o700); err != nil {
		return nil, fmt.Errorf("making the folder of erasures: %w", err)
	}
	lock := flock.New(filepath.Join(s.Workspace.Erasures(), "lock"), flock.SetPermissions(0o600))
	var free bool
	if wait {
		free, err = lock.TryLockContext(ctx, 100*time.Millisecond)
	} else {
		free, err = lock.TryLock()
	}
	if err != nil {
		return nil, fmt.Errorf("locking the folder of erasures: %w", err)
	}
	if !free {
		return nil, ErrBusy
	}
	return lock.Unlock, nil
}

// ErrBusy says that another process erases or sweeps.
var ErrBusy = errors.New("another erasure or sweep is under way on this workspace: wait for its end")

// remove deletes the file, durably.
func (p *pending) remove() error {
	if err := os.Remove(p.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the account of an erasure: %w", err)
	}
	return syncDir(filepath.Dir(p.path))
}
