package syncer

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// planOutdated is a plan that was made before a rotation of pseudonyms.
const planOutdated planStatus = "outdated"

// KeyedByPseudonym lists the syncs whose rows at the destination are known by
// pseudonyms of a version of their key. A rotation would take these rows for other
// people's.
func KeyedByPseudonym(ctx context.Context, d warehouse.Driver, version int) ([]string, error) {
	there, err := hasTables(ctx, d)
	if err != nil || !there {
		return nil, err
	}
	prefix := len("em_") + len(strconv.Itoa(version))
	rows, err := warehouse.Collect(ctx, d, "SELECT DISTINCT sync FROM "+own("state")+" WHERE length(key) = ? AND key LIKE ? ESCAPE '#' ORDER BY sync",
		int64(prefix+32), fmt.Sprintf("__%d#_%%", version))
	if err != nil {
		return nil, fmt.Errorf("look for keys that are pseudonyms: %w", err)
	}
	var syncs []string
	for _, row := range rows {
		var name string
		if err := scan(row, &name); err != nil {
			return nil, err
		}
		syncs = append(syncs, name)
	}
	return syncs, nil
}

// Outdate makes plans that are not applied yet be made anew: what they hold of
// rows is of pseudonyms that are no more.
func Outdate(ctx context.Context, d warehouse.Driver) error {
	there, err := hasTables(ctx, d)
	if err != nil || !there {
		return err
	}
	for _, statement := range []string{
		"UPDATE " + own("plans") + " SET status = '" + string(planOutdated) + "' WHERE status <> '" + string(planApplied) + "'",
		"UPDATE " + own("plan_changes") + " SET payload = '' WHERE payload <> ''",
	} {
		if err := d.Exec(ctx, statement); err != nil {
			return fmt.Errorf("outdate plans: %w", err)
		}
	}
	return nil
}

// hasTables looks for the last made of those that are of use here: later versions
// have more, which an earlier one did not make.
func hasTables(ctx context.Context, d warehouse.Driver) (bool, error) {
	_, err := d.Columns(ctx, warehouse.SchemaSync, "plan_changes")
	if errors.Is(err, warehouse.ErrNoRelation) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for the tables of %s: %w", warehouse.SchemaSync, err)
	}
	return true, nil
}
