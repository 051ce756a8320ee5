package syncer

import (
	"fmt"
	"strconv"
	"strings"
)

// spans is a set of numbers as its runs, each from the first of them to the last.
type spans [][2]int64

// spansOf returns the numbers of rows, which are in order.
func spansOf(rows []*row) spans {
	var s spans
	for _, r := range rows {
		if n := len(s); n > 0 && s[n-1][1]+1 == r.seq {
			s[n-1][1] = r.seq
		} else {
			s = append(s, [2]int64{r.seq, r.seq})
		}
	}
	return s
}

// parseSpans reads what String writes.
func parseSpans(text string) (spans, error) {
	var s spans
	for part := range strings.SplitSeq(text, ",") {
		from, to, isRun := strings.Cut(part, "-")
		if !isRun {
			to = from
		}
		first, err := strconv.ParseInt(from, 10, 64)
		last, err2 := strconv.ParseInt(to, 10, 64)
		if err != nil || err2 != nil || first > last {
			return nil, fmt.Errorf("%.20q is no run of numbers", part)
		}
		s = append(s, [2]int64{first, last})
	}
	return s, nil
}

// String writes them as 1-3,7,9-12.
func (s spans) String() string {
	var b strings.Builder
	for i, run := range s {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.FormatInt(run[0], 10))
		if run[1] > run[0] {
			b.WriteByte('-')
			b.WriteString(strconv.FormatInt(run[1], 10))
		}
	}
	return b.String()
}

// shortRun is how many numbers in a row a warehouse looks up sooner than it compares
// with their bounds.
const shortRun = 16

// contain is the condition that a column is one of them, of which there is one at least.
func (s spans) contain(column string) string {
	var conditions, single []string
	for _, run := range s {
		if run[1]-run[0] >= shortRun {
			conditions = append(conditions, fmt.Sprintf("%s BETWEEN %d AND %d", column, run[0], run[1]))
			continue
		}
		for n := run[0]; n <= run[1]; n++ {
			single = append(single, strconv.FormatInt(n, 10))
		}
	}
	if len(single) > 0 {
		conditions = append(conditions, column+" IN ("+strings.Join(single, ", ")+")")
	}
	return "(" + strings.Join(conditions, " OR ") + ")"
}
