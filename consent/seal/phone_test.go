package seal

import (
	"os"
	"strings"
	"testing"
)

// TestPhonesAreGoogles compares with google-libphonenumber, whose answers
// testdata/phones/generate.mjs has written down. The two may have learnt of a
// country's new numbers at different times; what both take for a number has one
// E.164 form.
func TestPhonesAreGoogles(t *testing.T) {
	text, err := os.ReadFile("testdata/phones/numbers.txt")
	if err != nil {
		t.Fatal(err)
	}
	same, refused, differ := 0, 0, 0
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		cells := strings.Split(strings.TrimSuffix(line, "\n"), " | ")
		region, input, want := cells[0], cells[1], cells[2]
		got, err := Normalize(Phone, input, region)
		switch {
		case err == nil && want != "!" && got != want:
			t.Errorf("%s in %s: %s, and Google's has %s", input, region, got, want)
		case (err == nil) != (want != "!"):
			differ++
			t.Logf("%s in %s: %q, and Google's has %s", input, region, got, want)
		case err == nil:
			same++
		default:
			refused++
		}
	}
	t.Logf("%d the same, %d refused by both, %d by one", same, refused, differ)
	if same+refused+differ != 2200 || same < 1200 || differ > 11 { // half a percent
		t.Errorf("%d the same, %d refused by both, %d by one", same, refused, differ)
	}
}
