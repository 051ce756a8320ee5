package warehouse

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// byteUnits are powers of 1024, from the first.
var byteUnits = []string{"KiB", "MiB", "GiB", "TiB"}

var byteText = regexp.MustCompile(`^([0-9]+) ?([KMGT]iB)?$`)

// ParseBytes reads a number of bytes as configurations write it: a whole
// number, alone or with a unit, such as 100GiB.
func ParseBytes(text string) (int64, error) {
	match := byteText.FindStringSubmatch(text)
	if match == nil {
		return 0, fmt.Errorf("%q is not a number of bytes: write a whole number, alone or with one of %s", text, strings.Join(byteUnits, ", "))
	}
	n, err := strconv.ParseInt(match[1], 10, 64)
	shift := 10 * (slices.Index(byteUnits, match[2]) + 1)
	if err != nil || n > math.MaxInt64>>shift {
		return 0, fmt.Errorf("%q is more bytes than can be counted", text)
	}
	return n << shift, nil
}

// FormatBytes writes a number of bytes for people, to three digits.
func FormatBytes(n int64) string {
	value, unit := float64(n), "B"
	for _, larger := range byteUnits {
		if value < 1024 {
			break
		}
		value, unit = value/1024, larger
	}
	digits := 0
	if unit != "B" && value < 100 {
		digits = 1
	}
	if unit != "B" && value < 10 {
		digits = 2
	}
	text := strconv.FormatFloat(value, 'f', digits, 64)
	if digits > 0 {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text + " " + unit
}
