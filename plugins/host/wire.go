package host

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/sluis-cdp/sluis/plugins/destination"
	destinationv1 "github.com/sluis-cdp/sluis/plugins/proto/destination/v1"
)

// The host's side of the conversions: it writes batches and reads results.

// maxBytes bounds a message to a plugin, below the 4 MiB where a gRPC server
// refuses by default: not every plugin is built with our SDK.
const maxBytes = 3584 << 10

// maxSuffix is the longest that split adds to a batch's id.
const maxSuffix = len("-2147483647-2147483647")

// part is what goes into one message, and which rows of the batch it has.
type part struct {
	batch   destination.Batch
	rows    []int
	request encoded // the message, once it is made
}

// split cuts a batch by size and number of rows. What cannot be sent at all
// gets its result here.
func split(b destination.Batch, maxRows int, results []destination.Result) []part {
	if len(b.Changes) == 0 { // it is sent for what it names
		return []part{{batch: b}}
	}
	if maxRows <= 0 {
		maxRows = math.MaxInt
	}
	head := headBytes(b)
	rows, sizes := make([]int, 0, len(b.Changes)), make([]int, 0, len(b.Changes))
	for i := range b.Changes {
		change := &b.Changes[i] // large: copies of it took most of the time
		n := changeBytes(change)
		if refusal, refused := unsendable(b.Columns, change, head+n); refused {
			results[i] = refusal
			continue
		}
		rows, sizes = append(rows, i), append(sizes, n)
	}
	changes := b.Changes
	if len(rows) < len(changes) {
		changes = make([]destination.Change, len(rows))
		for n, i := range rows {
			changes[n] = b.Changes[i]
		}
	}
	var parts []part
	for first := 0; first < len(rows); {
		end, size := first, head
		for end < len(rows) && end-first < maxRows && (end == first || size+sizes[end] <= maxBytes) {
			size += sizes[end]
			end++
		}
		cut := b
		cut.Changes = changes[first:end]
		parts = append(parts, part{batch: cut, rows: rows[first:end]})
		first = end
	}
	if len(parts) > 1 {
		for i, p := range parts {
			// An id stands for contents, so a part's says which rows it has: the
			// plugin's limit, hence the cut, may change between two sendings.
			parts[i].batch.ID += fmt.Sprintf("-%d-%d", p.rows[0], len(p.rows))
		}
	}
	return parts
}

// unsendable is the result of a change that no message can carry. Sending it
// with the others would fail them all, again and again.
func unsendable(columns []destination.Column, c *destination.Change, size int) (destination.Result, bool) {
	refuse := func(code, message string) (destination.Result, bool) {
		return destination.Result{Outcome: destination.Rejected, Code: code, Message: message}, true
	}
	if size > maxBytes {
		return refuse("too_large", fmt.Sprintf("the row is larger than the %d bytes that a plugin is sent at once", maxBytes))
	}
	if !utf8.ValidString(c.ID) || !utf8.ValidString(c.Key) || !utf8.ValidString(c.PriorityReason) || !utf8.ValidString(c.Decision) {
		return refuse("invalid_utf8", "the key is not valid UTF-8; make it text in the model")
	}
	invalid := invalidText(c.Values)
	for _, values := range c.Former {
		invalid = max(invalid, invalidText(values))
	}
	if invalid >= 0 {
		return refuse("invalid_utf8", fmt.Sprintf("column %s is not valid UTF-8; make it text in the model", columns[invalid].Name))
	}
	return destination.Result{}, false
}

// invalidText is the index of a text that is not valid UTF-8, or -1.
func invalidText(values []any) int {
	for i, v := range values {
		if s, ok := v.(string); ok && !utf8.ValidString(s) {
			return i
		}
	}
	return -1
}

// A field takes up to 11 bytes beside its contents (tag and length, or a
// number of ten), a nested message the same again. Upper bounds are enough
// here: a test holds them against the encoded size.
const fieldBytes = 11

func headBytes(b destination.Batch) int {
	n := len(b.ID) + len(b.Sync) + len(b.Run) + len(b.Purpose) + 8*fieldBytes + maxSuffix
	for _, c := range b.Columns {
		n += 2 * (len(c.Name) + 6*fieldBytes) // there may be former ones
	}
	return n
}

func changeBytes(c *destination.Change) int {
	n := len(c.ID) + len(c.Key) + len(c.PriorityReason) + len(c.Decision) + 7*fieldBytes + valuesBytes(c.Values)
	for _, values := range c.Former {
		n += valuesBytes(values)
	}
	return n
}

func valuesBytes(values []any) int {
	n := fieldBytes // the row that they belong to
	for _, v := range values {
		n += fieldBytes + 1 // 1: no less than its bit in nulls
		if s, ok := v.(string); ok {
			n += len(s)
		}
	}
	return n
}

// encodeBatch turns the rows of a valid batch into columns, with lists of strings
// joined if the plugin can read that.
func encodeBatch(b destination.Batch, joined bool) *destinationv1.WriteRequest {
	n := len(b.Changes)
	out := &destinationv1.WriteRequest{
		BatchId: b.ID, Sync: b.Sync, Run: b.Run, Purpose: b.Purpose,
		Operations: make([]destinationv1.Operation, n),
		Columns:    make([]*destinationv1.Column, len(b.Columns)),
	}
	out.Keys, out.JoinedKeys = encodeStrings(n, joined, func(i int) string { return b.Changes[i].Key })
	out.Ids, out.JoinedIds = encodeStrings(n, joined, func(i int) string { return b.Changes[i].ID })
	var former []destination.Change
	decided := false
	for i := range b.Changes {
		c := &b.Changes[i]
		out.Operations[i] = destinationv1.Operation(c.Op)
		decided = decided || c.Decision != ""
		for _, values := range c.Former {
			former = append(former, destination.Change{Values: values})
			out.FormerRows = append(out.FormerRows, uint32(i))
		}
		if c.PriorityReason != "" {
			if out.PriorityReasons == nil {
				out.PriorityReasons = map[uint32]string{}
			}
			out.PriorityReasons[uint32(i)] = c.PriorityReason
		}
	}
	if decided {
		out.DecisionIds, out.JoinedDecisionIds = encodeStrings(n, joined, func(i int) string { return b.Changes[i].Decision })
	}
	for i, column := range b.Columns {
		out.Columns[i] = encodeColumn(column, b.Changes, i, joined)
		if former != nil {
			out.Former = append(out.Former, encodeColumn(column, former, i, joined))
		}
	}
	return out
}

// encodeStrings has n strings in one of the two forms of a list.
func encodeStrings(n int, joined bool, at func(i int) string) ([]string, *destinationv1.Strings) {
	if !joined {
		list := make([]string, n)
		for i := range list {
			list[i] = at(i)
		}
		return list, nil
	}
	out := &destinationv1.Strings{Lengths: make([]uint32, n)}
	for i := range n {
		text := at(i)
		if i == 1 { // a guess at the size of all
			out.Joined = slices.Grow(out.Joined, n*(len(out.Joined)+len(text))/2)
		}
		out.Joined, out.Lengths[i] = append(out.Joined, text...), uint32(len(text))
	}
	return nil, out
}

func encodeColumn(column destination.Column, changes []destination.Change, c int, joined bool) *destinationv1.Column {
	out := &destinationv1.Column{Name: column.Name, Type: destinationv1.ColumnType(column.Type)}
	for i := range changes {
		if changes[i].Values[c] == nil {
			if out.Nulls == nil {
				out.Nulls = make([]byte, (len(changes)+7)/8)
			}
			out.Nulls[i/8] |= 1 << (i % 8)
		}
	}
	switch column.Type {
	case destination.String:
		out.Strings, out.JoinedStrings = encodeStrings(len(changes), joined, func(i int) string {
			text, _ := changes[i].Values[c].(string)
			return text
		})
	case destination.Int64:
		out.Int64S = values[int64](changes, c)
	case destination.Float64:
		out.Float64S = values[float64](changes, c)
	case destination.Bool:
		out.Bools = values[bool](changes, c)
	case destination.Time:
		out.Times = make([]int64, len(changes))
		for i := range changes {
			if t, ok := changes[i].Values[c].(time.Time); ok {
				out.Times[i] = t.UnixMicro()
			}
		}
	}
	return out
}

// values are those of one column, with zeros for NULL.
func values[T any](changes []destination.Change, c int) []T {
	out := make([]T, len(changes))
	for i := range changes {
		out[i], _ = changes[i].Values[c].(T)
	}
	return out
}

// decodeResults puts the results of n changes in order. That they are valid
// is judged by Batch.CheckResults.
func decodeResults(in *destinationv1.WriteResponse, n int) ([]destination.Result, error) {
	others := destination.Outcome(in.GetOthers())
	if len(in.GetResults()) != n && others == 0 {
		return nil, fmt.Errorf("%d results for %d changes", len(in.GetResults()), n)
	}
	out := make([]destination.Result, n)
	if others != 0 {
		for i := range out {
			out[i].Outcome = others
		}
	}
	seen := make([]bool, n)
	for _, r := range in.GetResults() {
		i := int(r.GetIndex())
		if i >= n || seen[i] {
			return nil, fmt.Errorf("the result of change %d is there twice, or there is no such change", i)
		}
		seen[i] = true
		after, err := milliseconds(r.GetRetryAfterMs())
		if err != nil {
			return nil, err
		}
		// A receipt is a token for the plugin: cut, it would be another.
		if len(r.GetReceipt()) > maxToken {
			return nil, fmt.Errorf("the receipt of change %d is longer than %d bytes", i, maxToken)
		}
		out[i] = destination.Result{
			Outcome:    destination.Outcome(r.GetOutcome()),
			Code:       shorten(r.GetCode(), maxWords),
			Message:    shorten(r.GetMessage(), maxWords),
			RetryAfter: after,
			Receipt:    r.GetReceipt(),
		}
	}
	return out, nil
}

func milliseconds(n int64) (time.Duration, error) {
	if n > math.MaxInt64/int64(time.Millisecond) || n < 0 {
		return 0, errors.New("a time to wait out of range")
	}
	return time.Duration(n) * time.Millisecond, nil
}

// decodeTarget takes what the plugin says; [destination.Target.Check] judges it.
func decodeTarget(in []*destinationv1.TargetField, closed bool) destination.Target {
	t := destination.Target{Closed: closed}
	for _, f := range in {
		field := destination.TargetField{Name: f.GetName(), Required: f.GetRequired(), Form: f.GetForm(), Help: shorten(f.GetHelp(), maxWords), Identifies: f.GetIdentifies()}
		for _, kind := range f.GetTypes() {
			field.Types = append(field.Types, destination.Type(kind))
		}
		t.Fields = append(t.Fields, field)
	}
	return t
}

// decodeSettlements refuses an answer about receipts that were not asked for.
func decodeSettlements(in []*destinationv1.Settlement, asked []string) ([]destination.Settlement, error) {
	known := make(map[string]bool, len(asked))
	for _, receipt := range asked {
		known[receipt] = true
	}
	out := make([]destination.Settlement, len(in))
	for i, s := range in {
		if !known[s.GetReceipt()] {
			return nil, errors.New("a settlement is there twice, or was not asked for")
		}
		known[s.GetReceipt()] = false
		outcome := destination.Outcome(s.GetOutcome())
		if !slices.Contains(settled, outcome) || s.GetFailedRows() < 0 || s.GetFailedRows() > math.MaxInt32 {
			return nil, fmt.Errorf("a settlement has the outcome %v and %d failed rows", outcome, s.GetFailedRows())
		}
		out[i] = destination.Settlement{
			Receipt:    s.GetReceipt(),
			Outcome:    outcome,
			Code:       shorten(s.GetCode(), maxWords),
			Message:    shorten(s.GetMessage(), maxWords),
			FailedRows: int(s.GetFailedRows()),
		}
	}
	return out, nil
}

var settled = []destination.Outcome{
	destination.Delivered, destination.Rejected, destination.Retry, destination.Skipped, destination.Unknown,
}
