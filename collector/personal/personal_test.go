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

// BenchmarkFind is of 1 KB of text each: the figure per operation is that per KB.
func BenchmarkFind(b *testing.B) {
	prose := strings.Repeat("A plain sentence about blue running shoes, nothing else. ", 18)[:1024]
	numbers := strings.Repeat("Order 100045 of 2026-11-23 10:15: 3 pairs at EUR 1,299.00, id 0b7c1f6e-6a31-4f0e-9a55-5b1b7f2c9d10. ", 11)[:1024]
	json := strings.Repeat(`{"sku":"a-42","url":"https://shop.example/p/blue-shoes?ref=home","n":[1,2,3]} `, 14)[:1024]
	personal1 := prose[:960] + " jane@example.com, call +31612345678 please. 4111 1111 1111 1111"
	for _, test := range []struct{ name, text string }{
		{"prose", prose},
		{"numbers", numbers},
		{"json", json},
		{"personal", personal1},
		{"hostile numbers", strings.Repeat("0612345678 ", 94)[:1024]},
		{"hostile signs", strings.Repeat("a@b.c=d:e%f&#", 79)[:1024]},
	} {
		b.Run(test.name, func(b *testing.B) {
			d := personal.Detector{Region: "NL"}
			b.SetBytes(int64(len(test.text)))
			b.ReportAllocs()
			for b.Loop() {
				d.Find("", test.text)
			}
		})
	}
}
