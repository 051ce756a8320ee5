package consent_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sluis-cdp/sluis/consent"
)

// TestPagesAndCollectorReadAlike holds the tables of sluis.js, which reads the same
// signals in the page, to those here: a choice means the same wherever it is heard,
// and each name that the script sends is one that the collector knows.
func TestPagesAndCollectorReadAlike(t *testing.T) {
	script, err := os.ReadFile("../collector/snippet/src/sluis.js")
	if err != nil {
		t.Fatal(err)
	}
	mappings := consent.DefaultMappings()
	tcf := table(t, string(script), "tcfPurposes")
	if len(tcf) != len(mappings.TCF) {
		t.Errorf("the script knows %d purposes of the TCF, the collector %d", len(tcf), len(mappings.TCF))
	}
	for purpose, needs := range tcf {
		if !slices.Equal(needs, mappings.TCF[consent.Purpose(purpose)]) {
			t.Errorf("%s: the script needs %v of the TCF, the collector %v", purpose, needs, mappings.TCF[consent.Purpose(purpose)])
		}
	}
	here := make(map[string][]string) // by purpose, as the script has it
	for signal, purposes := range mappings.ConsentMode {
		for _, purpose := range purposes {
			here[string(purpose)] = append(here[string(purpose)], signal)
		}
	}
	google := table(t, string(script), "gcmPurposes")
	if len(google) != len(here) {
		t.Errorf("the script knows %d purposes of Google Consent Mode, the collector %d", len(google), len(here))
	}
	for purpose, signals := range google {
		slices.Sort(signals)
		slices.Sort(here[purpose])
		if !slices.Equal(signals, here[purpose]) {
			t.Errorf("%s: the script asks Google for %v, the collector for %v", purpose, signals, here[purpose])
		}
	}
}

// table is an object literal of the script: lists by purpose.
func table(t *testing.T, script, name string) map[string][]string {
	t.Helper()
	_, rest, ok := strings.Cut(script, "const "+name+" = {")
	if !ok {
		t.Fatalf("the script has no %s", name)
	}
	body, _, _ := strings.Cut(rest, "\n  }")
	if one, _, ok := strings.Cut(rest, "}\n"); ok && !strings.Contains(one, "\n") {
		body = one
	}
	lists := make(map[string][]string)
	for _, entry := range regexp.MustCompile(`(\w+): \[([^\]]*)\]`).FindAllStringSubmatch(body, -1) {
		for word := range strings.SplitSeq(entry[2], ",") {
			lists[entry[1]] = append(lists[entry[1]], strings.Trim(word, " '"))
		}
	}
	if len(lists) < 4 {
		t.Fatalf("%s is not read: %v", name, lists)
	}
	return lists
}
