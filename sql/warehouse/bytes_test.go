package warehouse_test

import (
	"math"
	"strings"
	"testing"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

func TestParseBytes(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "1": 1, "107374182400": 100 << 30, "9223372036854775807": math.MaxInt64,
		"1KiB": 1 << 10, "3MiB": 3 << 20, "100GiB": 100 << 30, "1 TiB": 1 << 40, "0TiB": 0, "8388607TiB": 8388607 << 40,
	} {
		if got, err := warehouse.ParseBytes(text); got != want || err != nil {
			t.Errorf("ParseBytes(%q) = %d, %v, want %d", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"": "whole number", "-1": "whole number", "1.5GiB": "whole number", "1e9": "whole number", "100GB": "whole number",
		"GiB": "whole number", "1gib": "whole number", "1KiB ": "whole number", "true": "whole number", "1B": "whole number",
		"9223372036854775808": "more bytes", "8388608TiB": "more bytes",
	} {
		if got, err := warehouse.ParseBytes(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseBytes(%q) = %d, %v, want an error with %q", text, got, err, want)
		}
	}
}

func TestFormatBytes(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1: "1 B", 1023: "1023 B", 1 << 10: "1 KiB", 1536: "1.5 KiB", 10_500_000: "10 MiB", 123 << 20: "123 MiB",
		100 << 30: "100 GiB", 5<<39 + 1<<37: "2.62 TiB", 4096 << 40: "4096 TiB",
	} {
		if got := warehouse.FormatBytes(n); got != want {
			t.Errorf("FormatBytes(%d) = %q, want %q", n, got, want)
		}
	}
}
