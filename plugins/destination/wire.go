package destination

import (
	"fmt"
	"math"
	"time"

	destinationv1 "github.com/sluis-cdp/sluis/plugins/proto/destination/v1"
)

// The plugin's side of the conversions: it reads batches and writes results.
// The enums have the protocol's numbers, so converting one is a cast; the
// host's round trip test holds them to it.

func encodeDescription(d Description) *destinationv1.DescribeResponse {
	out := &destinationv1.DescribeResponse{
		Name:           d.Name,
		Version:        d.Version,
		RowGranularity: destinationv1.RowGranularity(d.Granularity),
		Idempotent:     d.Idempotent,
		UpdateOnly:     d.UpdateOnly,
		MaxRows:        uint32(min(max(d.MaxRows, 0), math.MaxInt32)),
		EgressHosts:    d.EgressHosts,
		Fields:         encodeFields(d.Target.Fields),
		Closed:         d.Target.Closed,
	}
	for _, op := range d.Ops {
		out.Operations = append(out.Operations, destinationv1.Operation(op))
	}
	for _, f := range d.Config {
		out.ConfigFields = append(out.ConfigFields, &destinationv1.ConfigField{
			Name: f.Name, Required: f.Required, Secret: f.Secret, Help: f.Help,
		})
	}
	return out
}

func encodeFields(fields []TargetField) []*destinationv1.TargetField {
	out := make([]*destinationv1.TargetField, len(fields))
	for i, f := range fields {
		out[i] = &destinationv1.TargetField{Name: f.Name, Required: f.Required, Form: f.Form, Help: f.Help, Identifies: f.Identifies}
		for _, t := range f.Types {
			out[i].Types = append(out[i].Types, destinationv1.ColumnType(t))
		}
	}
	return out
}

func encodeResults(results []Result) []*destinationv1.Result {
	out := make([]*destinationv1.Result, len(results))
	all := make([]destinationv1.Result, len(results)) // one allocation
	for i, r := range results {
		out[i] = &all[i]
		out[i].Index = uint32(i)
		out[i].Outcome = destinationv1.Outcome(r.Outcome)
		out[i].Code = r.Code
		out[i].Message = r.Message
		out[i].RetryAfterMs = r.RetryAfter.Milliseconds()
		out[i].Receipt = r.Receipt
	}
	return out
}

func encodeSettlements(settlements []Settlement) []*destinationv1.Settlement {
	out := make([]*destinationv1.Settlement, len(settlements))
	for i, s := range settlements {
		out[i] = &destinationv1.Settlement{
			Receipt:    s.Receipt,
			Outcome:    destinationv1.Outcome(s.Outcome),
			Code:       s.Code,
			Message:    s.Message,
			FailedRows: int64(s.FailedRows),
		}
	}
	return out
}

// decodeBatch turns columns into rows. Its error names what is inconsistent.
func decodeBatch(in *destinationv1.WriteRequest) (Batch, error) {
	n := len(in.GetKeys())
	if len(in.GetIds()) != n || len(in.GetOperations()) != n || len(in.GetDecisionIds()) != n && len(in.GetDecisionIds()) != 0 {
		return Batch{}, fmt.Errorf("batch %s: %d keys, %d ids, %d operations, %d decisions",
			in.GetBatchId(), n, len(in.GetIds()), len(in.GetOperations()), len(in.GetDecisionIds()))
	}
	b := Batch{
		ID: in.GetBatchId(), Sync: in.GetSync(), Run: in.GetRun(), Purpose: in.GetPurpose(),
		Columns: make([]Column, len(in.GetColumns())),
		Changes: make([]Change, n),
	}
	width := len(b.Columns)
	values := make([]any, n*width) // one allocation for all rows
	for i := range b.Changes {
		b.Changes[i] = Change{
			ID: in.GetIds()[i], Key: in.GetKeys()[i], Op: Op(in.GetOperations()[i]),
			Values:         values[i*width : (i+1)*width : (i+1)*width],
			PriorityReason: in.GetPriorityReasons()[uint32(i)],
		}
		if len(in.GetDecisionIds()) > 0 {
			b.Changes[i].Decision = in.GetDecisionIds()[i]
		}
	}
	for c, column := range in.GetColumns() {
		b.Columns[c] = Column{Name: column.GetName(), Type: Type(column.GetType())}
		if err := decodeColumn(column, b.Changes, c); err != nil {
			return Batch{}, fmt.Errorf("batch %s: column %q: %w", b.ID, column.GetName(), err)
		}
	}
	if err := decodeFormer(in, b); err != nil {
		return Batch{}, fmt.Errorf("batch %s: former values: %w", b.ID, err)
	}
	return b, b.Validate()
}

// decodeFormer gives changes the values that their keys were sent with before.
func decodeFormer(in *destinationv1.WriteRequest, b Batch) error {
	n, width := len(in.GetFormerRows()), len(b.Columns)
	if n > 0 && len(in.GetFormer()) != width {
		return fmt.Errorf("%d columns, want %d", len(in.GetFormer()), width)
	}
	sets := make([]Change, n)
	for i := range sets {
		sets[i].Values = make([]any, width)
	}
	for c, column := range in.GetFormer() {
		if err := decodeColumn(column, sets, c); err != nil {
			return err
		}
	}
	for i, row := range in.GetFormerRows() {
		if int(row) >= len(b.Changes) {
			return fmt.Errorf("of change %d, and there is no such change", row)
		}
		b.Changes[row].Former = append(b.Changes[row].Former, sets[i].Values)
	}
	return nil
}

func decodeColumn(in *destinationv1.Column, changes []Change, c int) error {
	if len(in.GetNulls()) != 0 && len(in.GetNulls()) != (len(changes)+7)/8 {
		return fmt.Errorf("%d bytes of null flags for %d rows", len(in.GetNulls()), len(changes))
	}
	switch Type(in.GetType()) {
	case String:
		return fill(in.GetStrings(), in.GetNulls(), changes, c, func(s string) any { return s })
	case Int64:
		return fill(in.GetInt64S(), in.GetNulls(), changes, c, func(n int64) any { return n })
	case Float64:
		return fill(in.GetFloat64S(), in.GetNulls(), changes, c, func(f float64) any { return f })
	case Bool:
		return fill(in.GetBools(), in.GetNulls(), changes, c, func(v bool) any { return v })
	case Time:
		return fill(in.GetTimes(), in.GetNulls(), changes, c, func(us int64) any { return time.UnixMicro(us).UTC() })
	}
	return fmt.Errorf("invalid type %d", int(in.GetType()))
}

func fill[T any](values []T, nulls []byte, changes []Change, c int, value func(T) any) error {
	if len(values) != len(changes) {
		return fmt.Errorf("%d values for %d rows", len(values), len(changes))
	}
	for i, v := range values {
		if len(nulls) != 0 && nulls[i/8]&(1<<(i%8)) != 0 {
			continue
		}
		changes[i].Values[c] = value(v)
	}
	return nil
}
