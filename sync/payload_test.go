package syncer

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSplit(t *testing.T) {
	empty, text, number := "", "a;=-:ü", "-5"
	for payload, want := range map[string][]*string{
		"":                             nil,
		"-:":                           {nil},
		"=;":                           {nil},
		"0:":                           {&empty},
		"-:0:7:a;=-:ü=-5;=;-:":         {nil, &empty, &text, &number, nil, nil},
		"7:a;=-:ü7:a;=-:ü0:=-5;=-5;-:": {&text, &text, &empty, &number, &number, nil},
	} {
		got, err := split(payload)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%q: %v, -want +got:\n%s", payload, err, diff)
		}
	}
	for _, payload := range []string{"-", "=", "=1", "x", "1", "2:a", "01:a", "-1:a", "+1:a", "99999999999999999999:x", ":", "--:"} {
		if got, err := split(payload); err == nil {
			t.Errorf("%q was read as %d entries", payload, len(got))
		}
	}
}

// FuzzSplit: no two payloads are read as the same row, but for the kind of an
// entry, which the mapping version fixes.
func FuzzSplit(f *testing.F) {
	for _, seed := range []string{"", "-:", "=;", "3:a:b-:", "=1;2:yz", "01:x", "9:x", "x", "=", "1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, payload string) {
		entries, err := split(payload)
		if err != nil {
			return
		}
		rest := payload
		for _, entry := range entries {
			plain := len(rest) > 0 && rest[0] == '='
			written := "-:"
			switch {
			case plain && entry == nil:
				written = "=;"
			case plain:
				written = "=" + *entry + ";"
			case entry != nil:
				written = fmt.Sprintf("%d:%s", len(*entry), *entry)
			}
			var ok bool
			if rest, ok = strings.CutPrefix(rest, written); !ok {
				t.Fatalf("%q: the entry %q is not what was written", payload, written)
			}
		}
		if rest != "" {
			t.Errorf("%q: %q was not read", payload, rest)
		}
	})
}
