package destination

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
	"unicode/utf8"

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
		JoinedStrings:  true,
		Paced:          d.Paced,
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
			Name: f.Name, Required: f.Required, Secret: f.Secret, Help: f.Help, Account: f.Account,
		})
	}
	for _, l := range d.Limits {
		out.Limits = append(out.Limits, &destinationv1.Limit{
			Name: l.Name, Requests: uint32(min(max(l.Requests, 0), math.MaxInt32)), PerMs: l.Per.Milliseconds(), Rows: uint64(max(l.Rows, 0)),
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

// encodeResults says what became of the rows of a request. Of those that were simply
// delivered, which are most, one word is said, if the host knows that word.
func encodeResults(request *destinationv1.WriteRequest, results []Result) *destinationv1.WriteResponse {
	out := &destinationv1.WriteResponse{}
	plain := Result{Outcome: Delivered}
	if request.GetJoinedIds() != nil && slices.Contains(results, plain) {
		out.Others = destinationv1.Outcome(plain.Outcome)
	}
	told := 0
	for _, r := range results {
		if out.GetOthers() == 0 || r != plain {
			told++
		}
	}
	all := make([]destinationv1.Result, told) // one allocation
	out.Results = make([]*destinationv1.Result, 0, told)
	for i, r := range results {
		if out.GetOthers() != 0 && r == plain {
			continue
		}
		one := &all[len(out.GetResults())]
		one.Index = uint32(i)
		one.Outcome = destinationv1.Outcome(r.Outcome)
		one.Code = r.Code
		one.Message = r.Message
		one.RetryAfterMs = r.RetryAfter.Milliseconds()
		one.Receipt = r.Receipt
		out.Results = append(out.Results, one)
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
	b := Batch{
		ID: in.GetBatchId(), Sync: in.GetSync(), Run: in.GetRun(), Purpose: in.GetPurpose(),
		Columns: make([]Column, len(in.GetColumns())),
	}
	columns, err := arrays(in.GetColumns(), len(in.GetOperations()))
	if err == nil {
		b.Changes, err = decodeChanges(in, columns)
	}
	if err != nil {
		return Batch{}, fmt.Errorf("batch %s: %w", b.ID, err)
	}
	for c, column := range in.GetColumns() {
		b.Columns[c] = Column{Name: column.GetName(), Type: Type(column.GetType())}
	}
	if err := decodeFormer(in, b); err != nil {
		return Batch{}, fmt.Errorf("batch %s: former values: %w", b.ID, err)
	}
	return b, b.validateNames() // that values are of their columns' types is seen to
}

// decodeChanges has everything of the changes but former values.
func decodeChanges(in *destinationv1.WriteRequest, columns []array) ([]Change, error) {
	keys, err := stringsOf(in.GetKeys(), in.GetJoinedKeys())
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	ids, err := stringsOf(in.GetIds(), in.GetJoinedIds())
	if err != nil {
		return nil, fmt.Errorf("ids: %w", err)
	}
	decisions, err := stringsOf(in.GetDecisionIds(), in.GetJoinedDecisionIds())
	if err != nil {
		return nil, fmt.Errorf("decisions: %w", err)
	}
	n := len(in.GetOperations())
	if len(ids) != n || len(keys) != n || len(decisions) != n && len(decisions) != 0 {
		return nil, fmt.Errorf("%d operations, %d keys, %d ids, %d decisions", n, len(keys), len(ids), len(decisions))
	}
	changes := make([]Change, n)
	width := len(columns)
	values := make([]any, n*width) // one allocation for all rows
	for i := range changes {
		changes[i] = Change{
			ID: ids[i], Key: keys[i], Op: Op(in.GetOperations()[i]),
			Values:         values[i*width : (i+1)*width : (i+1)*width],
			PriorityReason: in.GetPriorityReasons()[uint32(i)],
		}
		if len(decisions) > 0 {
			changes[i].Decision = decisions[i]
		}
		row(columns, i, changes[i].Values)
	}
	return changes, nil
}

// stringsOf are those of a list, in whichever of its two forms it came.
func stringsOf(list []string, joined *destinationv1.Strings) ([]string, error) {
	if joined == nil {
		return list, nil
	}
	if len(list) > 0 {
		return nil, errors.New("there as a list and joined")
	}
	rest := string(joined.GetJoined()) // the strings share this copy
	if !utf8.ValidString(rest) {
		return nil, errors.New("not valid UTF-8")
	}
	out := make([]string, len(joined.GetLengths()))
	for i, length := range joined.GetLengths() {
		if uint64(length) > uint64(len(rest)) || int(length) < len(rest) && !utf8.RuneStart(rest[length]) {
			return nil, fmt.Errorf("the length of string %d is not that of a string", i)
		}
		out[i], rest = rest[:length], rest[length:]
	}
	if rest != "" {
		return nil, fmt.Errorf("%d bytes belong to no string", len(rest))
	}
	return out, nil
}

// decodeFormer gives changes the values that their keys were sent with before.
func decodeFormer(in *destinationv1.WriteRequest, b Batch) error {
	n, width := len(in.GetFormerRows()), len(b.Columns)
	if n > 0 && len(in.GetFormer()) != width {
		return fmt.Errorf("%d columns, want %d", len(in.GetFormer()), width)
	}
	for c, column := range in.GetFormer() {
		if c < width && Type(column.GetType()) != b.Columns[c].Type {
			return fmt.Errorf("column %q is of the type %v, want %v", column.GetName(), Type(column.GetType()), b.Columns[c].Type)
		}
	}
	columns, err := arrays(in.GetFormer(), n)
	if err != nil {
		return err
	}
	for i, of := range in.GetFormerRows() {
		if int(of) >= len(b.Changes) {
			return fmt.Errorf("of change %d, and there is no such change", of)
		}
		values := make([]any, width)
		row(columns, i, values)
		b.Changes[of].Former = append(b.Changes[of].Former, values)
	}
	return nil
}

// array is a column as it came, with one entry per row.
type array struct {
	*destinationv1.Column
	texts []string
}

// arrays checks columns of n rows, which come for the columns of a batch.
func arrays(columns []*destinationv1.Column, n int) ([]array, error) {
	out := make([]array, len(columns))
	for c, in := range columns {
		texts, err := stringsOf(in.GetStrings(), in.GetJoinedStrings())
		if err == nil {
			out[c] = array{in, texts}
			err = out[c].check(n)
		}
		if err != nil {
			return nil, fmt.Errorf("column %q: %w", in.GetName(), err)
		}
	}
	return out, nil
}

func (a array) check(n int) error {
	if len(a.GetNulls()) != 0 && len(a.GetNulls()) != (n+7)/8 {
		return fmt.Errorf("%d bytes of null flags for %d rows", len(a.GetNulls()), n)
	}
	var values int
	switch Type(a.GetType()) {
	case String:
		values = len(a.texts)
	case Int64:
		values = len(a.GetInt64S())
	case Float64:
		values = len(a.GetFloat64S())
	case Bool:
		values = len(a.GetBools())
	case Time:
		values = len(a.GetTimes())
	default:
		return fmt.Errorf("invalid type %d", int(a.GetType()))
	}
	if values != n {
		return fmt.Errorf("%d values for %d rows", values, n)
	}
	return nil
}

// row puts the values of row i into values, which has a nil for each column.
func row(columns []array, i int, values []any) {
	for c := range columns {
		a := &columns[c]
		if len(a.Nulls) != 0 && a.Nulls[i/8]&(1<<(i%8)) != 0 {
			continue
		}
		switch Type(a.Type) {
		case String:
			values[c] = a.texts[i]
		case Int64:
			values[c] = a.Int64S[i]
		case Float64:
			values[c] = a.Float64S[i]
		case Bool:
			values[c] = a.Bools[i]
		case Time:
			values[c] = time.UnixMicro(a.Times[i]).UTC()
		}
	}
}
