package syncer

import (
	"context"
	"fmt"
	"time"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// scan copies a row of a query into variables. NULL is the zero value.
func scan(row []any, into ...any) error {
	if len(row) != len(into) {
		return fmt.Errorf("read a row: %d values for %d variables", len(row), len(into))
	}
	for i, target := range into {
		if row[i] == nil {
			continue
		}
		var ok bool
		switch t := target.(type) {
		case *string:
			*t, ok = row[i].(string)
		case *int64:
			*t, ok = row[i].(int64)
		case *bool:
			*t, ok = row[i].(bool)
		case *[]byte:
			*t, ok = row[i].([]byte)
		case *time.Time:
			*t, ok = row[i].(time.Time)
		}
		if !ok {
			return fmt.Errorf("read a row: value %d is a %T, not what a %T points to", i, row[i], target)
		}
	}
	return nil
}

// texts collects the only column of a query.
func texts(ctx context.Context, d warehouse.Driver, query string, args ...any) ([]string, error) {
	rows, err := warehouse.Collect(ctx, d, query, args...)
	if err != nil {
		return nil, err
	}
	all := make([]string, len(rows))
	for i, row := range rows {
		if err := scan(row, &all[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}
