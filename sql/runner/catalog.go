package runner

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sluis-cdp/sluis/sql/runner/artifact"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// Catalog tells what the warehouse has of the project, as dbt's catalog.json
// does: columns with their types and, of tables, how many rows. What is not
// there yet is left out. Where bytes are billed, nothing is asked that would be.
func (p *Project) Catalog(ctx context.Context, d warehouse.Driver, of Invocation, now time.Time) (artifact.Catalog, error) {
	c := artifact.Catalog{
		Metadata: artifact.NewMetadata("catalog/v1", of.ID, of.Started, now),
		Nodes:    map[string]artifact.Table{}, Sources: map[string]artifact.Table{},
	}
	for _, name := range p.order {
		node := p.nodes[name]
		if node.Kind == Test || node.Materialized == Ephemeral {
			continue
		}
		table, err := tableIn(ctx, d, warehouse.SchemaModels, name)
		if errors.Is(err, warehouse.ErrNoRelation) {
			continue
		} else if err != nil {
			return c, err
		}
		table.UniqueID = p.uniqueID(node)
		c.Nodes[table.UniqueID] = table
	}
	for name, s := range p.sources {
		table, err := tableIn(ctx, d, s.schema, s.table)
		if errors.Is(err, warehouse.ErrNoRelation) {
			continue
		} else if err != nil {
			return c, err
		}
		table.UniqueID = p.sourceID(name)
		c.Sources[table.UniqueID] = table
	}
	return c, nil
}

func tableIn(ctx context.Context, d warehouse.Driver, schema, name string) (artifact.Table, error) {
	columns, err := d.Columns(ctx, schema, name)
	if err != nil {
		return artifact.Table{}, err
	}
	kind, err := kindOf(ctx, d, schema, name)
	if err != nil {
		return artifact.Table{}, err
	}
	t := artifact.Table{
		Metadata: artifact.TableMetadata{Type: kind, Schema: schema, Name: name},
		Columns:  map[string]artifact.TableColumn{}, Stats: map[string]artifact.Stat{},
	}
	for i, c := range columns {
		t.Columns[c.Name] = artifact.TableColumn{Type: c.Type.In(d.Dialect()), Index: i + 1, Name: c.Name}
	}
	if kind == "VIEW" && d.Dialect() == "bigquery" {
		return t, nil // counting a view's rows runs its query
	}
	rows, err := builder{ctx: ctx, d: discreet{d}}.number(fmt.Sprintf("select count(*) from %s.%s", schema, name))
	if err != nil {
		return t, fmt.Errorf("count the rows of %s.%s: %w", schema, name, err)
	}
	t.Stats[artifact.RowCount] = artifact.Stat{ID: artifact.RowCount, Label: "Row count", Value: rows, Include: true, Description: "How many rows there are"}
	return t, nil
}

// kindOf tells a table from a view, as the catalog of the warehouse names them.
func kindOf(ctx context.Context, d warehouse.Driver, schema, name string) (string, error) {
	catalog := catalogTable(d.Dialect(), schema, "tables")
	rows, err := warehouse.Collect(ctx, d, "select table_type from "+catalog+" where table_schema = ? and table_name = ?", schema, name)
	if err != nil {
		return "", fmt.Errorf("look up %s.%s: %w", schema, name, err)
	}
	if len(rows) == 0 {
		return "", warehouse.ErrNoRelation
	}
	kind, _ := rows[0][0].(string)
	return strings.TrimPrefix(kind, "BASE "), nil
}
