package syncer

import (
	"context"
	"fmt"
	"slices"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// Nobody closes the destination for a run that is killed, and its rows are not sent
// again: they are acknowledged. What closing adds to them, such as the manifest that
// readers of files wait for, the next process has it add.

// interrupted lists the runs that were killed when they had delivered something. Of
// others nothing is left to do, which it records.
func (r *run) interrupted(ctx context.Context) ([]string, error) {
	d, err := r.warehouse(ctx)
	if err != nil {
		return nil, err
	}
	all, err := texts(ctx, d, "SELECT run_id FROM "+own("runs")+" WHERE sync = ? AND planned > 0 AND finished_at IS NULL ORDER BY run_id", r.sync.Name)
	var killed []string
	if err == nil && len(all) > 0 {
		killed, err = texts(ctx, d, "SELECT DISTINCT run_id FROM "+own("deliveries")+" WHERE run_id IN ("+literals(all)+") AND outcome IN "+acknowledged+" ORDER BY run_id")
	}
	if err != nil {
		return nil, fmt.Errorf("sync %s: look for runs that were killed: %w", r.sync.Name, err)
	}
	return killed, r.ended(ctx, slices.DeleteFunc(all, func(id string) bool { return slices.Contains(killed, id) }))
}

// complete names runs to a destination that is open, for it to do at its end what
// it would have done at theirs.
func (r *run) complete(ctx context.Context, target destination.Destination, runs []string) error {
	for _, id := range runs {
		writing, cancel := context.WithTimeout(ctx, r.config.WriteTimeout)
		_, err := target.Write(writing, destination.Batch{
			ID: digestOf("end/1", r.sync.Name, id)[:32], Sync: r.sync.Name, Run: id, Purpose: r.sync.Purpose, Columns: destinationColumns(r.blank()),
		})
		cancel()
		if err != nil {
			return fmt.Errorf("complete a run that was killed: %w", classify("write", err))
		}
	}
	return nil
}

// ended records that nothing is left to do for runs.
func (r *run) ended(ctx context.Context, runs []string) error {
	if len(runs) == 0 {
		return nil
	}
	d, err := r.warehouse(ctx)
	if err == nil {
		err = d.Exec(ctx, "UPDATE "+own("runs")+" SET finished_at = ? WHERE run_id IN ("+literals(runs)+")", r.config.Now().UTC())
	}
	if err != nil {
		return fmt.Errorf("sync %s: record the end of runs that were killed: %w", r.sync.Name, err)
	}
	return nil
}

// blank are the mapped fields where no value is sent, so that types do not matter.
func (r *run) blank() []column {
	columns := make([]column, len(r.sync.Mapping))
	for i, f := range r.sync.Mapping {
		columns[i] = column{Name: f.Field, Type: warehouse.String}
	}
	return columns
}
