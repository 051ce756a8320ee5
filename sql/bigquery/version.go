package bigquery

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"cloud.google.com/go/bigquery"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// LandingVersion implements [warehouse.Versioner] by when each table last
// changed, which BigQuery keeps. Rows in a streaming buffer may not show in that
// time yet, so while a table has one nothing can be told.
func (d *db) LandingVersion(ctx context.Context) (string, error) {
	ctx, cancel := d.bound(ctx)
	defer cancel()
	version := sha256.New()
	for _, table := range warehouse.Landing() {
		metadata, err := d.client.Dataset(warehouse.SchemaLanding).Table(table.Name).Metadata(ctx, bigquery.WithMetadataView(bigquery.StorageStatsMetadataView))
		if err != nil {
			return "", fmt.Errorf("look at when the table %s changed: %w", table.Name, d.explain(ctx, err, ""))
		}
		if metadata.StreamingBuffer != nil || metadata.LastModifiedTime.UnixMilli() <= 0 {
			return "", nil
		}
		fmt.Fprintf(version, "%s %d\n", table.Name, metadata.LastModifiedTime.UnixMilli())
	}
	return hex.EncodeToString(version.Sum(nil)), nil
}
