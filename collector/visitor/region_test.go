package visitor

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
)

// writeRegions writes a file in the form of GeoLite2 (of cities where a code
// has a part after its hyphen).
func writeRegions(t testing.TB, file string, networks map[string]string) {
	t.Helper()
	tree, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: "Test-City", IncludeReservedNetworks: true})
	if err != nil {
		t.Fatal(err)
	}
	for text, code := range networks {
		_, network, err := net.ParseCIDR(text)
		if err != nil {
			t.Fatal(err)
		}
		country, part, _ := strings.Cut(code, "-")
		record := mmdbtype.Map{"country": mmdbtype.Map{"iso_code": mmdbtype.String(country)}}
		if code == "" {
			record = mmdbtype.Map{"autonomous_system_number": mmdbtype.Uint32(1)}
		}
		if part != "" {
			record["subdivisions"] = mmdbtype.Slice{mmdbtype.Map{"iso_code": mmdbtype.String(part)}, mmdbtype.Map{"iso_code": mmdbtype.String("ZZ")}}
		}
		if err := tree.Insert(network, record); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tree.WriteTo(f); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestRegions(t *testing.T) {
	file := filepath.Join(t.TempDir(), "regions.mmdb")
	writeRegions(t, file, map[string]string{
		"203.0.113.0/24": "NL", "198.51.100.0/24": "US-CA", "192.0.2.0/24": "GB-ENG", "2001:db8::/32": "DE", "100.64.0.0/24": "xx-??",
	})
	regions, err := OpenRegions(file)
	if err != nil {
		t.Fatal(err)
	}
	o, err := New(Config{Proxies: proxies(t, "", "10.0.0.0/8"), RegionHeader: "CF-IPCountry", Regions: regions})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, peer, forwarded, header, want string }{
		{"a country", "203.0.113.50:1", "", "", "NL"},
		{"a part of it", "198.51.100.7:1", "", "", "US-CA"},
		{"a part of three letters", "192.0.2.7:1", "", "", "GB-ENG"},
		{"IPv6", "[2001:db8::7]:1", "", "", "DE"},
		{"behind a proxy", "10.0.0.1:1", "198.51.100.7", "", "US-CA"},
		{"the proxy's word", "10.0.0.1:1", "198.51.100.7", "fr", "FR"},
		{"a proxy that does not know", "10.0.0.1:1", "198.51.100.7", "XX", "US-CA"},
		{"a proxy that says rubbish", "10.0.0.1:1", "198.51.100.7", "emma@example.com", "US-CA"},
		{"a client's word", "203.0.113.50:1", "", "US-CA", "NL"},
		{"a code that is none", "100.64.0.1:1", "", "", ""},
		{"an address that the file does not have", "8.8.8.8:1", "", "", ""},
		{"no address", "@", "", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := &http.Request{RemoteAddr: test.peer, Header: http.Header{}}
			if test.forwarded != "" {
				r.Header.Set("X-Forwarded-For", test.forwarded)
			}
			if test.header != "" {
				r.Header.Set("CF-IPCountry", test.header)
			}
			if got := o.Observe(r).Region; got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
	for address, want := range map[string]string{"198.51.100.7": "US-CA", "::ffff:203.0.113.9": "NL", "0.0.0.0": "", "::": "", "": "", "emma": ""} {
		if got := o.Place(address); got != want {
			t.Errorf("Place(%q) is %q, want %q", address, got, want)
		}
	}
	if got := newObserver(t).Place("198.51.100.7"); got != "" {
		t.Errorf("without a file the region is %q", got)
	}
}

// TestBadRegions: a file that is damaged, gone, or of something else is told.
func TestBadRegions(t *testing.T) {
	file := filepath.Join(t.TempDir(), "regions.mmdb")
	writeRegions(t, file, map[string]string{"203.0.113.0/24": "NL"})
	truncate(t, file)
	if _, err := OpenRegions(file); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("damaged: %v", err)
	}
	writeRegions(t, file, map[string]string{"203.0.113.0/24": ""})
	if _, err := OpenRegions(file); err == nil || !strings.Contains(err.Error(), "does not tell of countries") {
		t.Errorf("of something else: %v", err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenRegions(file); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("gone: %v", err)
	}
}

func truncate(t *testing.T, file string) {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, info.Size()/2); err != nil {
		t.Fatal(err)
	}
}
