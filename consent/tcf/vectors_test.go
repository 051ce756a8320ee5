package tcf

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/consent/bits"
)

// vectors are what the IAB's own encoder wrote; `make consent-vectors` makes many
// more, anew.
var vectors = flag.String("tcf.vectors", "testdata/vectors.jsonl", "file of testdata/vectors/tcf.mjs")

type vector struct {
	String                     string
	Created, LastUpdated       time.Time
	CMPID                      int
	CMPVersion                 int
	ConsentScreen              int
	ConsentLanguage            string
	VendorListVersion          int
	PolicyVersion              int
	IsServiceSpecific          bool
	UseNonStandardTexts        bool
	PurposeOneTreatment        bool
	PublisherCountryCode       string
	SpecialFeatureOptins       []int
	PurposeConsents            []int
	PurposeLegitimateInterests []int
	VendorConsents             string
	VendorLegitimateInterests  string
	VendorsDisclosed           *string
	VendorsAllowed             *string
	Publisher                  *publisherVector
	Restrictions               map[string]string
}

type publisherVector struct {
	Consents, LegitimateInterests             []int
	Custom                                    int
	CustomConsents, CustomLegitimateInterests []int
}

// TestAgainstTheEncoderOfTheIAB compares every field.
func TestAgainstTheEncoderOfTheIAB(t *testing.T) {
	file, err := os.Open(*vectors)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	n := 0
	for lines.Scan() {
		var want vector
		if err := json.Unmarshal(lines.Bytes(), &want); err != nil {
			t.Fatal(err)
		}
		if want.String == "" {
			t.Logf("%s", lines.Bytes())
			continue
		}
		n++
		s, err := Parse(want.String)
		if err != nil {
			t.Errorf("string %d: %v", n, err)
			continue
		}
		if diff := cmp.Diff(want, describe(want.String, s)); diff != "" {
			t.Errorf("string %d (-want +got):\n%s", n, diff)
		}
		membersAgree(t, n, s)
	}
	if lines.Err() != nil || n == 0 {
		t.Fatalf("%d strings, %v", n, lines.Err())
	}
	t.Logf("%d strings: all fields are the same", n)
}

func describe(text string, s *String) vector {
	v := vector{
		String: text, Created: s.Created, LastUpdated: s.LastUpdated, CMPID: s.CMPID, CMPVersion: s.CMPVersion, ConsentScreen: s.ConsentScreen,
		ConsentLanguage: s.ConsentLanguage, VendorListVersion: s.VendorListVersion, PolicyVersion: s.PolicyVersion,
		IsServiceSpecific: s.IsServiceSpecific, UseNonStandardTexts: s.UseNonStandardTexts, PurposeOneTreatment: s.PurposeOneTreatment,
		PublisherCountryCode: s.PublisherCountryCode,
		SpecialFeatureOptins: list(s.SpecialFeatureOptIns), PurposeConsents: list(s.PurposeConsents), PurposeLegitimateInterests: list(s.PurposeLegitimateInterests),
		VendorConsents: *spans(&s.VendorConsents), VendorLegitimateInterests: *spans(&s.VendorLegitimateInterests),
		VendorsDisclosed: spans(s.DisclosedVendors), VendorsAllowed: spans(s.AllowedVendors),
		Restrictions: map[string]string{},
	}
	for r := range s.Restrictions.All() {
		v.Restrictions[fmt.Sprint(r.Purpose, " ", int(r.Type))] = *spans(&r.Vendors)
	}
	if p := s.Publisher; p != nil {
		v.Publisher = &publisherVector{list(p.Consents), list(p.LegitimateInterests), p.CustomPurposes, maskList(p.CustomConsents), maskList(p.CustomLegitimateInterests)}
	}
	return v
}

func list(ids IDs) []int {
	all := []int{}
	for id := range ids.All() {
		all = append(all, id)
	}
	return all
}

func maskList(m uint64) []int {
	all := []int{}
	for i := range 64 {
		if m>>i&1 == 1 {
			all = append(all, i+1)
		}
	}
	return all
}

func spans(v *Vendors) *string {
	if v == nil {
		return nil
	}
	var parts []string
	for first, last := range v.Spans() {
		if first == last {
			parts = append(parts, fmt.Sprint(first))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", first, last))
		}
	}
	text := strings.Join(parts, ",")
	return &text
}

// membersAgree holds the ways to look into a set to each other.
func membersAgree(t *testing.T, n int, s *String) {
	t.Helper()
	for _, set := range []Vendors{s.VendorConsents, s.VendorLegitimateInterests} {
		members := map[int]bool{}
		for id := range set.All() {
			members[id] = true
		}
		for _, id := range []int{-1, 0, 1, 2, set.Limit() - 1, set.Limit(), set.Limit() + 1, bits.MaxID, bits.MaxID + 1} {
			if set.Has(id) != members[id] {
				t.Errorf("string %d: Has(%d) is %t", n, id, set.Has(id))
			}
		}
		if set.Empty() != (len(members) == 0) {
			t.Errorf("string %d: Empty is %t of %d members", n, set.Empty(), len(members))
		}
	}
}
