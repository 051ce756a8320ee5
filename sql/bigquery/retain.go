package bigquery

import (
	"context"
	"fmt"
	"time"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

const (
	// defaultTimeTravel is that of a dataset that does not say.
	defaultTimeTravel = 7 * 24 * time.Hour
	// failSafe begins when time travel ends. It cannot be shortened, and only
	// Google's support can bring something back in it; see
	// https://cloud.google.com/bigquery/docs/time-travel#fail-safe.
	failSafe = 7 * 24 * time.Hour
)

// KeepsDeleted implements [warehouse.Retainer]: the longest time travel of our
// datasets, and the fail-safe period after it.
func (d *db) KeepsDeleted(ctx context.Context) (time.Duration, error) {
	ctx, cancel := d.bound(ctx)
	defer cancel()
	var longest time.Duration
	for _, schema := range []string{warehouse.SchemaLanding, warehouse.SchemaModels, warehouse.SchemaSync} {
		metadata, err := d.client.Dataset(schema).Metadata(ctx)
		if err != nil {
			return 0, fmt.Errorf("look at the time travel of dataset %s: %w", schema, d.explain(ctx, err, ""))
		}
		kept := metadata.MaxTimeTravel
		if kept <= 0 {
			kept = defaultTimeTravel
		}
		longest = max(longest, kept)
	}
	return longest + failSafe, nil
}
