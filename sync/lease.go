package syncer

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// BusyError says that a sync is being planned or applied elsewhere.
type BusyError struct {
	Sync   string
	Holder string
	Until  time.Time // when the sync is free if the holder is dead
}

// Error tells who holds the sync.
func (e *BusyError) Error() string {
	return fmt.Sprintf("sync %s is held by %s: wait for it to end; if it is dead, the sync is free again at %s",
		e.Sync, e.Holder, e.Until.UTC().Format(time.RFC3339))
}

// ErrLeaseLost means that a run was stopped because another process took the
// sync over: this one had not renewed its lease in time.
var ErrLeaseLost = errors.New("another process has taken the sync over, since this one made no progress for too long")

// lease is the right to work on a sync. It is a row in the warehouse; whoever
// finds it expired may take it.
type lease struct {
	token string    // proves that the lease is ours; empty while it is not
	fence int64     // grows with each holder
	until time.Time // when it ends unless renewed; of the clock on the wall, which goes on while a machine sleeps
}

// take makes this process the holder of the sync's lease.
func (r *run) take(ctx context.Context, d warehouse.Driver) error {
	now := r.config.Now().UTC()
	token, until := rand.Text(), now.Add(r.config.LeaseTTL)
	err := d.Exec(ctx, `MERGE INTO `+own("leases")+` t
		USING (SELECT ? AS sync, ? AS holder, ? AS token, ? AS now, ? AS until) n ON t.sync = n.sync
		WHEN MATCHED AND t.expires_at <= n.now THEN UPDATE SET holder = n.holder, token = n.token, fence = t.fence + 1, expires_at = n.until
		WHEN NOT MATCHED THEN INSERT (sync, holder, token, fence, expires_at) VALUES (n.sync, n.holder, n.token, 1, n.until)`,
		r.sync.Name, r.config.Holder, token, now, until)
	if err != nil {
		return fmt.Errorf("sync %s: take the lease: %w", r.sync.Name, err)
	}
	rows, err := warehouse.Collect(ctx, d, "SELECT holder, token, fence, expires_at FROM "+own("leases")+" WHERE sync = ?", r.sync.Name)
	if err != nil {
		return fmt.Errorf("sync %s: take the lease: %w", r.sync.Name, err)
	}
	busy := &BusyError{Sync: r.sync.Name, Until: until} // whoever holds it ended just now
	for _, row := range rows {
		var holder, current string
		var fence int64
		var expires time.Time
		if err := scan(row, &holder, &current, &fence, &expires); err != nil {
			return err
		}
		if current == token && len(rows) == 1 {
			r.lease = lease{token: token, fence: fence, until: until.Round(0)}
			return nil
		}
		if current != token {
			busy.Holder, busy.Until = holder, expires
		}
	}
	if len(rows) > 1 {
		return errors.Join(r.yield(ctx, d, token), busy)
	}
	return busy
}

// yield takes back a lease that was taken while another process took it too.
// Where there was no lease yet, BigQuery lets two statements that run at the
// same time both insert one. Then nobody holds the sync who sees the other:
// at most the one who looked first, and saw none, goes on.
func (r *run) yield(ctx context.Context, d warehouse.Driver, token string) error {
	if err := d.Exec(ctx, "DELETE FROM "+own("leases")+" WHERE sync = ? AND token = ?", r.sync.Name, token); err != nil {
		return fmt.Errorf("sync %s: yield the lease: %w", r.sync.Name, err)
	}
	return nil
}

// renew keeps the lease, or fails with ErrLeaseLost.
func (r *run) renew(ctx context.Context, d warehouse.Driver) error {
	until := r.config.Now().UTC().Add(r.config.LeaseTTL)
	err := d.Exec(ctx, "UPDATE "+own("leases")+" SET expires_at = ? WHERE sync = ? AND token = ?", until, r.sync.Name, r.token)
	if err != nil {
		return fmt.Errorf("sync %s: renew the lease: %w", r.sync.Name, err)
	}
	rows, err := warehouse.Collect(ctx, d, "SELECT 1 FROM "+own("leases")+" WHERE sync = ? AND token = ?", r.sync.Name, r.token)
	if err != nil {
		return fmt.Errorf("sync %s: renew the lease: %w", r.sync.Name, err)
	}
	if len(rows) == 0 {
		return fmt.Errorf("sync %s: %w", r.sync.Name, ErrLeaseLost)
	}
	r.until = until.Round(0)
	return nil
}

// keeping keeps the lease while do works on a statement that may take longer than it
// lasts. The context of do ends if the lease is lost all the same.
func (r *run) keeping(ctx context.Context, d warehouse.Driver, do func(context.Context) error) error {
	ctx, end := context.WithCancel(ctx)
	lost := make(chan error)
	go func() {
		defer close(lost)
		every := time.NewTicker(r.config.LeaseTTL / 3)
		defer every.Stop()
		for {
			select {
			case <-every.C:
			case <-ctx.Done():
				return
			}
			// Another error may be gone by the next time.
			if err := r.renew(ctx, d); errors.Is(err, ErrLeaseLost) {
				end()
				lost <- err
				return
			}
		}
	}()
	err := do(ctx)
	end()
	if gone := <-lost; gone != nil {
		return gone
	}
	return err
}

// giveBack ends the lease, if it is still ours.
func (r *run) giveBack(ctx context.Context, d warehouse.Driver) error {
	err := d.Exec(ctx, "UPDATE "+own("leases")+" SET holder = '', token = '', expires_at = ? WHERE sync = ? AND token = ?",
		r.config.Now().UTC(), r.sync.Name, r.token)
	if err != nil {
		return fmt.Errorf("sync %s: give the lease back: %w", r.sync.Name, err)
	}
	return nil
}

// leases tells until when each sync is held that is held now.
func (e *Syncer) leases(ctx context.Context) (map[string]time.Time, error) {
	held := make(map[string]time.Time)
	err := e.query(ctx, "SELECT sync, expires_at FROM "+own("leases")+" WHERE expires_at > ?", []any{e.config.Now().UTC()}, func(row []any) error {
		var sync string
		var until time.Time
		err := scan(row, &sync, &until)
		held[sync] = until
		return err
	})
	return held, err
}
