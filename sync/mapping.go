package syncer

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// MappingChange says why a plan sends rows again whose data may be as before.
type MappingChange struct {
	From string `json:"from"` // version of the mapping that most of these rows were sent with
	To   string `json:"to"`
	Rows int64  `json:"rows"` // sent again for it; their data may have changed as well
	// Fields tells what is different, such as "ltv: added, column ltv". It is
	// empty if that is not known any more.
	Fields []string `json:"fields"`
}

// mappingChange compares the mapping of a plan with the one that its rows were
// sent with; nil if no row is sent again for it.
func (r *run) mappingChange(ctx context.Context, d warehouse.Driver, p storedPlan) (*MappingChange, error) {
	n := p.Reasons[ReasonMappingChanged]
	if n == 0 {
		return nil, nil
	}
	change := &MappingChange{To: p.mappingVersion, Rows: n, Fields: []string{}}
	rows, err := warehouse.Collect(ctx, d, `SELECT mapping_version FROM `+own("state")+` WHERE sync = ? AND mapping_version <> ?
		GROUP BY mapping_version ORDER BY COUNT(*) DESC, mapping_version LIMIT 1`, p.Sync, p.mappingVersion)
	if err == nil && len(rows) > 0 {
		if err := scan(rows[0], &change.From); err != nil {
			return nil, err
		}
		rows, err = warehouse.Collect(ctx, d, "SELECT columns FROM "+own("plans")+" WHERE sync = ? AND mapping_version = ? ORDER BY created_at DESC LIMIT 1", p.Sync, change.From)
	}
	if err != nil {
		return nil, fmt.Errorf("sync %s: look for the mapping of before: %w", p.Sync, err)
	}
	if len(rows) == 0 {
		return change, nil
	}
	var text string
	if err := scan(rows[0], &text); err != nil {
		return nil, err
	}
	var before []column
	if err := json.Unmarshal([]byte(text), &before); err != nil {
		return nil, fmt.Errorf("sync %s: read the mapping of before: %w", p.Sync, err)
	}
	change.Fields = compareColumns(before, p.columns)
	return change, nil
}

// compareColumns tells the differences of two mappings.
func compareColumns(before, after []column) []string {
	fields := []string{}
	at := func(columns []column, name string) int {
		return slices.IndexFunc(columns, func(c column) bool { return c.Name == name })
	}
	for _, c := range after {
		i := at(before, c.Name)
		switch {
		case i < 0:
			fields = append(fields, fmt.Sprintf("%s: added, %s", c.Name, c.From))
		case before[i].Type != c.Type:
			fields = append(fields, fmt.Sprintf("%s: was %s, is %s", c.Name, before[i].Type, c.Type))
		case before[i].From != c.From:
			fields = append(fields, fmt.Sprintf("%s: was %s, is %s", c.Name, before[i].From, c.From))
		}
	}
	for _, c := range before {
		if at(after, c.Name) < 0 {
			fields = append(fields, c.Name+": removed")
		}
	}
	if len(fields) == 0 {
		fields = append(fields, "the order of the fields")
	}
	return fields
}
