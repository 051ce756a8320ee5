package bigquery

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"cloud.google.com/go/bigquery"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// timeTravel is how long BigQuery itself keeps what was deleted, the shortest
// it offers: an erasure that can be undone for longer is a worse erasure.
const timeTravel = 48 * time.Hour

// layout is how a landing table is cut. All are cut by day.
type layout struct {
	by      string   // the column of the partitions' time
	cluster []string // at most four
}

// layouts are those of DESIGN.md where a table has the columns. Tables without
// them are clustered by what they are looked up by.
var layouts = map[string]layout{
	"events":     {"received_at", []string{"source_id", "type", "event"}},
	"vault":      {"received_at", []string{"pseudonym", "field", "purpose"}},
	"consents":   {"received_at", []string{"pseudonym", "purpose"}},
	"quarantine": {"received_at", []string{"source_id", "type"}},
	"ledger":     {"minute", []string{"source_id", "outcome"}},
	"counts":     {"hour", []string{"source_id", "type", "event"}},
	"seal_keys":  {"created_at", []string{"key_id"}},
	"erasures":   {"erased_at", []string{"token"}},
	"elements":   {"received_at", []string{"pseudonym"}},

	"profile_names": {"received_at", []string{"pseudonym"}},
}

// Setup creates the datasets and landing tables that are missing, and adds
// columns that a landing table lacks. It changes nothing else, and so can be
// repeated, also by several programs at once. To create something it needs
// roles/bigquery.user on the project, which makes it the owner of the datasets
// that it creates. Where nothing is missing it only looks, and the rights to
// read suffice: whoever works with the warehouse may call it.
func Setup(ctx context.Context, config Config) error {
	d, err := open(ctx, config)
	if err != nil {
		return fmt.Errorf("set up BigQuery: %w", err)
	}
	return errors.Join(d.setUp(ctx), d.Close())
}

func (d *db) setUp(ctx context.Context) error {
	ctx, cancel := d.bound(ctx)
	defer cancel()
	for _, schema := range []string{warehouse.SchemaLanding, warehouse.SchemaModels, warehouse.SchemaSync} {
		if err := d.ensureDataset(ctx, schema); err != nil {
			return fmt.Errorf("set up dataset %s: %w", schema, err)
		}
	}
	for _, table := range warehouse.Landing() {
		if err := d.ensureTable(ctx, table); err != nil {
			return fmt.Errorf("set up table %s.%s: %w", warehouse.SchemaLanding, table.Name, err)
		}
	}
	return nil
}

func (d *db) ensureDataset(ctx context.Context, name string) error {
	dataset := d.client.Dataset(name)
	metadata, err := dataset.Metadata(ctx)
	if isStatus(err, http.StatusNotFound) {
		err = dataset.Create(ctx, &bigquery.DatasetMetadata{Location: d.config.Location, MaxTimeTravel: timeTravel})
		if err == nil || isStatus(err, http.StatusConflict) {
			return nil
		}
	}
	if err != nil {
		return d.explain(ctx, err, "")
	}
	if !strings.EqualFold(metadata.Location, d.config.Location) {
		return fmt.Errorf("it is in %s, not in %s: a dataset cannot move, so configure its location, or use another project", metadata.Location, d.config.Location)
	}
	return nil
}

func (d *db) ensureTable(ctx context.Context, table warehouse.Table) error {
	existing, err := d.fields(ctx, warehouse.SchemaLanding, table.Name)
	if errors.Is(err, warehouse.ErrNoRelation) {
		err = d.client.Dataset(warehouse.SchemaLanding).Table(table.Name).Create(ctx, tableMetadata(table))
		if !isStatus(err, http.StatusConflict) {
			return d.explain(ctx, err, "")
		}
		// Another program was faster, and may be of another version.
		existing, err = d.fields(ctx, warehouse.SchemaLanding, table.Name)
	}
	if err != nil {
		return err
	}
	missing, err := missingColumns(existing, table.Columns)
	if err != nil || len(missing) == 0 {
		return err
	}
	// Unlike an update of the schema as a whole, this cannot undo what another
	// program adds at the same time.
	alter := fmt.Sprintf("ALTER TABLE %s.%s %s", warehouse.SchemaLanding, table.Name, strings.Join(missing, ", "))
	_, err = d.run(ctx, "setup", d.queryJob(statement{text: alter}))
	return err
}

func tableMetadata(table warehouse.Table) *bigquery.TableMetadata {
	metadata := &bigquery.TableMetadata{}
	for _, column := range table.Columns {
		metadata.Schema = append(metadata.Schema, fieldOf(column))
	}
	if layout, ok := layouts[table.Name]; ok {
		metadata.TimePartitioning = &bigquery.TimePartitioning{Type: bigquery.DayPartitioningType, Field: layout.by}
		metadata.Clustering = &bigquery.Clustering{Fields: layout.cluster}
	}
	return metadata
}

// missingColumns returns the clauses that add what a table lacks.
func missingColumns(schema bigquery.Schema, columns []warehouse.Column) ([]string, error) {
	existing := make(map[string]warehouse.Type, len(schema))
	for _, field := range schema {
		existing[strings.ToLower(field.Name)] = typeOf(field)
	}
	var missing []string
	for _, column := range columns {
		kind, ok := existing[column.Name]
		switch {
		case !ok:
			missing = append(missing, fmt.Sprintf("ADD COLUMN IF NOT EXISTS %s %s", column.Name, column.Type))
		case kind != column.Type:
			return nil, fmt.Errorf("the column %s is of type %s, not %s: move the table aside, for example by renaming it, and set up again", column.Name, kind, column.Type)
		}
	}
	return missing, nil
}
