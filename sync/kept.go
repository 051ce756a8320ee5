package syncer

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// Some destinations know people by an address and cannot be told a key. What was
// sent of it is kept, sealed for this alone, from before it is sent until the key
// is gone from there or the address was replaced: consent may have ended by then,
// and nothing that is sealed for a purpose may be opened.

// identity is what somebody is known by at a destination: values by field.
type identity map[string]string

// identifies reports whether the destination knows people by a field.
func (a *application) identifies(field string) bool {
	return slices.ContainsFunc(a.description.Target.Fields, func(f destination.TargetField) bool { return f.Identifies && f.Name == field })
}

// keeps reports whether anything of the sync's rows has to be kept.
func (a *application) keeps() bool {
	return slices.ContainsFunc(a.description.Target.Fields, func(f destination.TargetField) bool { return f.Identifies })
}

// identity is what the row will be known by.
func (a *application) identity(r *row) identity {
	known := identity{}
	for i, c := range a.plan.columns {
		if r.values[i] != nil && a.identifies(c.Name) {
			known[c.Name] = asText(r.values[i])
		}
	}
	return known
}

// asText writes a value such that a form takes it as the value itself.
func asText(v any) string {
	if at, ok := v.(time.Time); ok {
		return at.Format(time.RFC3339Nano)
	}
	return fmt.Sprint(v)
}

// recall gives rows what their keys were sent with before, and keeps what they
// are to be sent with. A row of which that cannot be opened is not sent: it would
// seem to be removed, and would not be.
func (a *application) recall(ctx context.Context, d warehouse.Driver, rows []*row) error {
	if !a.keeps() || len(rows) == 0 {
		return nil
	}
	if a.config.Keep == nil || a.config.Recall == nil {
		return fmt.Errorf("sync %s: the destination %s needs what identifies people to be kept, and there is no key for that", a.Sync, a.sync.Destination)
	}
	kept, err := a.kept(ctx, d, rows)
	if err != nil {
		return err
	}
	now := a.config.Now().UTC()
	var records [][]any
	for _, r := range rows {
		if r.skip != "" {
			continue
		}
		if r.former, err = a.open(ctx, r.Key, kept[r.Key]); err != nil {
			a.log.WarnContext(ctx, "what a removal needs did not open", "run_id", a.ID, "key", r.Key, "error", err)
			r.skip = codeUnsealFailed
			continue
		}
		current := a.identity(r)
		if r.op == opRemove || len(current) == 0 {
			continue
		}
		if last := len(r.former) - 1; last < 0 || !maps.Equal(r.former[last], current) {
			sealed, err := a.seal(ctx, r.Key, current)
			if err != nil {
				return err
			}
			records = append(records, []any{a.Sync, r.Key, r.profile, sealed, now})
		}
		r.former = slices.DeleteFunc(r.former, func(known identity) bool { return maps.Equal(known, current) })
	}
	if len(records) == 0 {
		return nil
	}
	if err := d.Append(ctx, warehouse.SchemaSync, keptTable, []string{"sync", "key", "profile_id", "sealed", "kept_at"}, records); err != nil {
		return fmt.Errorf("sync %s: keep what a removal will need: %w", a.Sync, err)
	}
	return nil
}

// kept reads what is kept of rows, by key, the latest last.
func (a *application) kept(ctx context.Context, d warehouse.Driver, rows []*row) (map[string][]string, error) {
	found, err := warehouse.Collect(ctx, d, "SELECT key, sealed FROM "+own(keptTable)+" WHERE sync = ? AND key IN (SELECT key FROM "+own("plan_changes")+
		" WHERE plan_id = ? AND "+spansOf(rows).contain("seq")+") ORDER BY kept_at", a.Sync, a.PlanID)
	if err != nil {
		return nil, fmt.Errorf("sync %s: read what a removal needs: %w", a.Sync, err)
	}
	kept := map[string][]string{}
	for _, values := range found {
		var key, sealed string
		if err := scan(values, &key, &sealed); err != nil {
			return nil, err
		}
		kept[key] = append(kept[key], sealed)
	}
	return kept, nil
}

func (a *application) seal(ctx context.Context, key string, known identity) (string, error) {
	text, err := json.Marshal(known)
	if err != nil {
		return "", fmt.Errorf("sync %s: keep what a removal will need: %T", a.Sync, err) // its text may have values
	}
	sealed, err := a.config.Keep(ctx, a.Sync, key, string(text))
	if err != nil {
		return "", fmt.Errorf("sync %s: keep what a removal will need: %w", a.Sync, err)
	}
	return sealed, nil
}

func (a *application) open(ctx context.Context, key string, sealed []string) ([]identity, error) {
	var all []identity
	for _, s := range sealed {
		text, err := a.config.Recall(ctx, a.Sync, key, s)
		if err != nil {
			return nil, err
		}
		var known identity
		if err := json.Unmarshal([]byte(text), &known); err != nil {
			return nil, fmt.Errorf("read what a removal needs: %T", err)
		}
		all = append(all, known)
	}
	return all, nil
}

// identify has a batch say what its keys were known by before. Fields that
// identify are texts in it, and those that are mapped no more have columns still.
func (a *application) identify(batch *destination.Batch, rows []*row) {
	if !a.keeps() {
		return
	}
	columns := map[string]int{}
	for i, c := range batch.Columns {
		columns[c.Name] = i
		if a.identifies(c.Name) {
			batch.Columns[i].Type = destination.String
		}
	}
	for _, r := range rows {
		for _, known := range r.former {
			for _, field := range slices.Sorted(maps.Keys(known)) {
				if _, ok := columns[field]; !ok && a.identifies(field) {
					columns[field] = len(batch.Columns)
					batch.Columns = append(batch.Columns, destination.Column{Name: field, Type: destination.String})
				}
			}
		}
	}
	for i, r := range rows {
		values := make([]any, len(batch.Columns))
		copy(values, r.values)
		for name, text := range a.identity(r) {
			values[columns[name]] = text
		}
		batch.Changes[i].Values = values
		for _, known := range r.former {
			former := make([]any, len(batch.Columns))
			for name, text := range known {
				if at, ok := columns[name]; ok {
					former[at] = text
				}
			}
			batch.Changes[i].Former = append(batch.Changes[i].Former, former)
		}
	}
}

const keptTable = "kept"

// destroyKept deletes what no removal will need: of keys that are gone from the
// destination, and of addresses that others have replaced there.
func (r *run) destroyKept(ctx context.Context, d warehouse.Driver) error {
	rows, err := warehouse.Collect(ctx, d, "SELECT COUNT(*) FROM "+own(keptTable)+" WHERE sync = ?", r.sync.Name)
	if err != nil {
		return fmt.Errorf("sync %s: look for what removals needed: %w", r.sync.Name, err)
	}
	var n int64
	if err := scan(rows[0], &n); err != nil || n == 0 {
		return err
	}
	err = d.Exec(ctx, "DELETE FROM "+own(keptTable)+" WHERE sync = ? AND key NOT IN (SELECT key FROM "+own("state")+" WHERE sync = ?)", r.sync.Name, r.sync.Name)
	if err == nil {
		err = d.Exec(ctx, `MERGE INTO `+own(keptTable)+` t
			USING (SELECT key, MAX(kept_at) AS latest FROM `+own(keptTable)+` WHERE sync = ? AND key IN (
				SELECT key FROM `+own("state")+` WHERE sync = ? AND status = 'delivered' AND op = 'upsert' AND NOT unsure) GROUP BY key) n
			ON t.sync = ? AND t.key = n.key AND t.kept_at < n.latest
			WHEN MATCHED THEN DELETE`, r.sync.Name, r.sync.Name, r.sync.Name)
	}
	if err != nil {
		return fmt.Errorf("sync %s: destroy what removals needed: %w", r.sync.Name, err)
	}
	return nil
}
