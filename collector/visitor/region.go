package visitor

import (
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/oschwald/maxminddb-golang/v2"
)

// Regions finds regions in a file of MaxMind's format, such as those of
// GeoLite2, DB-IP or IPinfo. A nil one knows none. All its methods may be
// called concurrently.
type Regions struct{ reader *maxminddb.Reader }

// OpenRegions reads a file, and looks whether it tells of countries. A change of
// the file counts once it is opened again.
//
// The whole file is read into memory (a file of countries has some 10 MB, one
// of cities 60): a mapped one that somebody copied another over would end the
// program.
func OpenRegions(file string) (*Regions, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the file of regions: %w", err)
	}
	reader, err := maxminddb.OpenBytes(content)
	if err != nil {
		return nil, fmt.Errorf("reading the file of regions %s: %w", file, err)
	}
	if !tellsCountries(reader) {
		return nil, fmt.Errorf("reading the file of regions %s: it does not tell of countries; a file such as GeoLite2-Country.mmdb is needed", file)
	}
	return &Regions{reader}, nil
}

// tellsCountries looks whether one of the first networks has a country.
func tellsCountries(reader *maxminddb.Reader) bool {
	const enough = 1000
	n := 0
	for result := range reader.Networks() {
		if n++; n > enough {
			return false
		}
		var p place
		if result.Decode(&p) == nil && p.region() != "" {
			return true
		}
	}
	return false
}

// place is what such a file says of a network, in the form of MaxMind's files.
type place struct {
	Country struct {
		Code string `maxminddb:"iso_code"`
	} `maxminddb:"country"`
	// Subdivisions go from the largest to the smallest.
	Subdivisions []struct {
		Code string `maxminddb:"iso_code"`
	} `maxminddb:"subdivisions"`
}

func (p place) region() string {
	if p.Country.Code == "" {
		return ""
	}
	if len(p.Subdivisions) > 0 {
		if code := region(p.Country.Code + "-" + p.Subdivisions[0].Code); code != "" {
			return code
		}
	}
	return region(p.Country.Code)
}

// of is the region of a network, "" if it is not known.
func (r *Regions) of(n netip.Prefix) string {
	if r == nil || !n.IsValid() {
		return ""
	}
	var p place
	if err := r.reader.Lookup(n.Addr()).Decode(&p); err != nil {
		return "" // no such file has it for all, and a damaged record is one more
	}
	return p.region()
}

// region accepts the codes of ISO 3166-1 (two letters) and 3166-2 (with the
// part of the country), in upper case, and nothing else.
func region(code string) string {
	code = strings.ToUpper(strings.TrimSpace(code))
	country, part, divided := strings.Cut(code, "-")
	const letters, digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"
	switch {
	case len(country) != 2 || strings.Trim(country, letters) != "" || country == "XX": // what some write for unknown
		return ""
	case divided && (len(part) < 1 || len(part) > 3 || strings.Trim(part, letters+digits) != ""):
		return ""
	default:
		return code
	}
}
