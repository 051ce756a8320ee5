package collector

import (
	"bufio"
	"os"
	"strings"
	"testing"
	"unicode/utf8"
)

// TestDetectors reads testdata/detect.txt: a text and what becomes of it.
func TestDetectors(t *testing.T) {
	file, err := os.Open("testdata/detect.txt")
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
		if got, _ := (detector{}).mask(text); got != strings.TrimSpace(want) {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
	if cases < 30 {
		t.Fatalf("only %d cases read", cases)
	}
}

func TestNationalPhonesNeedARegion(t *testing.T) {
	const text = "call 2125550123"
	if got, _ := (detector{region: "US"}).mask(text); got != "call [phone]" {
		t.Errorf("with a region: %q", got)
	}
	if got, _ := (detector{}).mask(text); got != text {
		t.Errorf("without: %q", got)
	}
}

func FuzzMask(f *testing.F) {
	f.Add("jane@example.com +31612345678 4111 1111 1111 1111")
	f.Add("%40@::eyJ(+")
	f.Add("%((A")
	d := detector{region: "NL"}
	f.Fuzz(func(t *testing.T, text string) {
		once, kinds := d.mask(text)
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
	d := detector{region: "NL"}
	for name, text := range map[string]string{"clean": clean, "dirty": dirty} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				d.mask(text)
			}
		})
	}
}
