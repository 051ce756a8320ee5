package personal_test

import (
	"bufio"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/sluis-cdp/sluis/collector/personal"
)

// TestDetectors reads testdata/texts.txt: a text and what becomes of it.
func TestDetectors(t *testing.T) {
	file, err := os.Open("testdata/texts.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cases := 0
	for scanner := bufio.NewScanner(file); scanner.Scan(); {
		line := scanner.Text()
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		text, want, ok := strings.Cut(line, " | ")
		if !ok {
			t.Fatalf("%q: want two columns", line)
		}
		cases++
		text = strings.TrimSpace(text)
		if got, _ := (personal.Detector{}).Mask(text); got != strings.TrimSpace(want) {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
	if cases < 30 {
		t.Fatalf("only %d cases read", cases)
	}
}

func TestNationalPhonesNeedARegion(t *testing.T) {
	const text = "212 5550123 at noon"
	if got, _ := (personal.Detector{Region: "US"}).Mask(text); got != "[phone] at noon" {
		t.Errorf("with a region: %q", got)
	}
	if got, _ := (personal.Detector{}).Mask(text); got != text {
		t.Errorf("without: %q", got)
	}
}

func FuzzMask(f *testing.F) {
	f.Add("jane@example.com +31612345678 4111 1111 1111 1111")
	f.Add("%40@::eyJ(+")
	f.Add("%((A")
	d := personal.Detector{Region: "NL"}
	f.Fuzz(func(t *testing.T, text string) {
		once, kinds := d.Mask(text)
		if utf8.ValidString(text) && !utf8.ValidString(once) {
			t.Errorf("%q: masking made invalid UTF-8: %q", text, once)
		}
		if len(kinds) == 0 && once != text {
			t.Errorf("%q changed without a finding", text)
		}
	})
}

func BenchmarkMask(b *testing.B) {
	clean := strings.Repeat("A plain sentence about blue running shoes, nothing else. ", 18)
	dirty := clean[:900] + " jane@example.com +31612345678"
	d := personal.Detector{Region: "NL"}
	for name, text := range map[string]string{"clean": clean, "dirty": dirty} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				d.Mask(text)
			}
		})
	}
}
