package host

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/sluis-cdp/sluis/plugins/destination"
	destinationv1 "github.com/sluis-cdp/sluis/plugins/proto/destination/v1"
)

// The casts between the enums of the SDK and the protocol rest on this.
func TestEnumsHaveTheProtocolsNumbers(t *testing.T) {
	check := func(kind string, names map[int32]string, name func(int) string) {
		t.Helper()
		for n, full := range names {
			if n == 0 {
				if !strings.HasSuffix(full, "_UNSPECIFIED") {
					t.Errorf("%s: zero is %s", kind, full)
				}
				continue
			}
			short := strings.ToLower(strings.TrimPrefix(full, kind+"_"))
			if got := name(int(n)); got != short {
				t.Errorf("%s: %d is %q in the SDK and %q in the protocol", kind, n, got, short)
			}
		}
		if got := name(len(names)); !strings.HasSuffix(got, fmt.Sprintf("(%d)", len(names))) {
			t.Errorf("%s: the protocol has no %q", kind, got)
		}
	}
	check("OPERATION", destinationv1.Operation_name, func(n int) string { return destination.Op(n).String() })
	check("OUTCOME", destinationv1.Outcome_name, func(n int) string { return destination.Outcome(n).String() })
	check("COLUMN_TYPE", destinationv1.ColumnType_name, func(n int) string { return destination.Type(n).String() })
	check("ROW_GRANULARITY", destinationv1.RowGranularity_name, func(n int) string { return destination.Granularity(n).String() })
}

// Whatever is in a batch: no message is larger than promised, no row is lost,
// doubled or out of order, no two parts have one id, and splitting again gives
// the same.
func TestSplit(t *testing.T) {
	// A batch without rows is sent for the run that it names.
	if parts := split(destination.Batch{ID: "b", Run: "r"}, 10, nil); len(parts) != 1 || parts[0].batch.ID != "b" || parts[0].batch.Run != "r" {
		t.Errorf("no row: %+v", parts)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		b := randomBatch(random)
		maxRows := random.IntN(300)
		results := make([]destination.Result, len(b.Changes))
		parts := split(b, maxRows, results)
		var rows []int
		ids := map[string]bool{}
		for _, part := range parts {
			if n := proto.Size(encodeBatch(part.batch, random.IntN(2) == 0)); n > maxBytes {
				t.Fatalf("a message of %d bytes", n)
			}
			if maxRows > 0 && len(part.rows) > maxRows {
				t.Fatalf("%d rows, at most %d are allowed", len(part.rows), maxRows)
			}
			if err := part.batch.Validate(); err != nil || ids[part.batch.ID] {
				t.Fatalf("part %q: %v", part.batch.ID, err)
			}
			ids[part.batch.ID] = true
			for i, row := range part.rows {
				if part.batch.Changes[i].ID != b.Changes[row].ID {
					t.Fatal("a row is in another's place")
				}
			}
			rows = append(rows, part.rows...)
		}
		for i := range b.Changes {
			refused := results[i].Outcome == destination.Rejected
			sent := len(rows) > 0 && rows[0] == i
			if sent {
				rows = rows[1:]
			}
			if sent == refused {
				t.Fatalf("row %d: sent %v, refused %v", i, sent, refused)
			}
		}
		again := split(b, maxRows, make([]destination.Result, len(b.Changes)))
		if diff := cmp.Diff(parts, again, cmp.AllowUnexported(part{})); diff != "" {
			t.Fatal(diff)
		}
	}
}

func randomBatch(random *rand.Rand) destination.Batch {
	b := destination.Batch{ID: strings.Repeat("b", 1+random.IntN(maxBatchID)), Sync: "s", Run: "r"}
	for i := range random.IntN(8) {
		b.Columns = append(b.Columns, destination.Column{
			Name: fmt.Sprintf("column%d", i), Type: destination.Type(1 + random.IntN(5)),
		})
	}
	huge := random.IntN(3) == 0
	for i := range random.IntN(2000) {
		c := destination.Change{
			ID: fmt.Sprint(i), Key: strings.Repeat("k", 1+random.IntN(40)), Op: destination.Op(1 + random.IntN(2)),
			Values: make([]any, len(b.Columns)),
		}
		if random.IntN(4) == 0 {
			c.PriorityReason = "consent_withdrawn"
		}
		for j, column := range b.Columns {
			if random.IntN(3) > 0 {
				c.Values[j] = randomValue(random, column.Type, huge)
			}
		}
		if random.IntN(5) == 0 {
			c.Decision = strings.Repeat("d", random.IntN(40))
			c.Former = [][]any{c.Values, make([]any, len(b.Columns))}
		}
		b.Changes = append(b.Changes, c)
	}
	return b
}

func randomValue(random *rand.Rand, t destination.Type, huge bool) any {
	switch t {
	case destination.String:
		if huge && random.IntN(500) == 0 {
			return strings.Repeat("x", random.IntN(5<<20))
		}
		return strings.Repeat("x", random.IntN(300))
	case destination.Int64:
		return random.Int64() - 1<<62
	case destination.Float64:
		return random.NormFloat64()
	case destination.Bool:
		return random.IntN(2) == 0
	case destination.Time:
		return time.UnixMicro(random.Int64() - 1<<62)
	}
	return nil
}

func TestDecodeResults(t *testing.T) {
	ok := destinationv1.Outcome_OUTCOME_DELIVERED
	tests := map[string][]*destinationv1.Result{
		"twice":        {{Index: 0, Outcome: ok}, {Index: 0, Outcome: ok}},
		"out of range": {{Index: 0, Outcome: ok}, {Index: 2, Outcome: ok}},
		"too few":      {{Index: 0, Outcome: ok}},
		"too many":     {{Index: 0, Outcome: ok}, {Index: 1, Outcome: ok}, {Index: 1, Outcome: ok}},
		"endless wait": {{Index: 0, Outcome: ok}, {Index: 1, Outcome: ok, RetryAfterMs: 1 << 62}},
		"past wait":    {{Index: 0, Outcome: ok}, {Index: 1, Outcome: ok, RetryAfterMs: -1}},
		"long receipt": {{Index: 0, Outcome: ok}, {Index: 1, Outcome: ok, Receipt: strings.Repeat("r", maxToken+1)}},
	}
	for name, in := range tests {
		if out, err := decodeResults(&destinationv1.WriteResponse{Results: in}, 2); err == nil {
			t.Errorf("%s: %v, and no error", name, out)
		}
		if out, err := decodeResults(&destinationv1.WriteResponse{Results: in, Others: ok}, 2); err == nil && name != "too few" {
			t.Errorf("%s, and the others: %v, and no error", name, out)
		}
	}
	retry := &destinationv1.Result{Index: 0, Outcome: destinationv1.Outcome_OUTCOME_RETRY, Message: "line\nline" + strings.Repeat("x", 1000), RetryAfterMs: 1500}
	got, err := decodeResults(&destinationv1.WriteResponse{Results: []*destinationv1.Result{{Index: 1, Outcome: ok}, retry}}, 2)
	if err != nil {
		t.Fatal(err)
	}
	want := []destination.Result{
		{Outcome: destination.Retry, Message: "line line" + strings.Repeat("x", maxWords-9) + "…", RetryAfter: 1500 * time.Millisecond},
		{Outcome: destination.Delivered},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	got, err = decodeResults(&destinationv1.WriteResponse{Results: []*destinationv1.Result{retry}, Others: ok}, 2)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("the others told of at once: %v\n%s", err, diff)
	}
}

// A list of strings has two forms that say the same.
func TestJoinedStrings(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 60 {
		b := randomBatch(random)
		list, joined := encodeBatch(b, false), encodeBatch(b, true)
		for _, r := range []struct {
			list   *[]string
			joined **destinationv1.Strings
		}{{&joined.Keys, &joined.JoinedKeys}, {&joined.Ids, &joined.JoinedIds}, {&joined.DecisionIds, &joined.JoinedDecisionIds}} {
			*r.list, *r.joined = apart(t, *r.list, *r.joined), nil
		}
		for _, column := range slices.Concat(joined.GetColumns(), joined.GetFormer()) {
			column.Strings, column.JoinedStrings = apart(t, column.GetStrings(), column.GetJoinedStrings()), nil
		}
		if !proto.Equal(list, joined) {
			t.Fatalf("%v\nis joined\n%v", list, joined)
		}
	}
}

// apart has joined strings as a list.
func apart(t *testing.T, list []string, joined *destinationv1.Strings) (out []string) {
	t.Helper()
	if len(list) > 0 {
		t.Fatal("a list that is not joined")
	}
	rest := joined.GetJoined()
	for _, length := range joined.GetLengths() {
		out, rest = append(out, string(rest[:length])), rest[length:]
	}
	return out
}

func TestDecodeSettlements(t *testing.T) {
	settlement := func(receipt string, outcome destinationv1.Outcome, failed int64) *destinationv1.Settlement {
		return &destinationv1.Settlement{Receipt: receipt, Outcome: outcome, FailedRows: failed}
	}
	ok := destinationv1.Outcome_OUTCOME_DELIVERED
	for name, in := range map[string][]*destinationv1.Settlement{
		"not asked":   {settlement("c", ok, 0)},
		"twice":       {settlement("a", ok, 0), settlement("a", ok, 0)},
		"accepted":    {settlement("a", destinationv1.Outcome_OUTCOME_ACCEPTED, 0)},
		"unspecified": {settlement("a", 0, 0)},
		"negative":    {settlement("a", ok, -1)},
	} {
		if out, err := decodeSettlements(in, []string{"a", "b"}); err == nil {
			t.Errorf("%s: %v, and no error", name, out)
		}
	}
	if out, err := decodeSettlements([]*destinationv1.Settlement{settlement("b", ok, 3)}, []string{"a", "b"}); err != nil || len(out) != 1 {
		t.Errorf("%v, %v", out, err)
	}
}
