package syncer

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// join is what the warehouse does.
func join(entries []*string) string {
	payload := ""
	for _, entry := range entries {
		if entry == nil {
			payload += "-"
		} else {
			payload += fmt.Sprintf("%d:%s", len(*entry), *entry)
		}
	}
	return payload
}

// FuzzSplit: whatever is read is what was written, and nothing else is read.
func FuzzSplit(f *testing.F) {
	for _, seed := range []string{"", "-", "0:", "3:a:b-", "-1:x2:yz", "01:x", "9:x", "x", "-5:", "1", "99999999999999999999:x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, payload string) {
		entries, err := split(payload)
		if err == nil && join(entries) != payload {
			t.Errorf("%q was read as %q", payload, join(entries))
		}
	})
}

func TestSplit(t *testing.T) {
	empty, text := "", "a-1:ü"
	want := []*string{nil, &empty, &text, nil}
	got, err := split(join(want))
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
}
