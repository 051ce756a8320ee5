package gpp

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/consent/tcf"
)

// vectors are what the IAB's own encoder wrote; `make consent-vectors` makes many
// more, anew.
var vectors = flag.String("gpp.vectors", "testdata/vectors.jsonl", "file of testdata/vectors/gpp.mjs")

type vector struct {
	String   string
	Sections map[string]map[string]any
}

// TestAgainstTheEncoderOfTheIAB compares every field of every section.
func TestAgainstTheEncoderOfTheIAB(t *testing.T) {
	file, err := os.Open(*vectors)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	n, seen := 0, map[string]int{}
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
		got := map[string]map[string]any{}
		for _, section := range s.Sections {
			got[section.Name] = describe(section)
			seen[section.Name]++
		}
		if diff := cmp.Diff(want.Sections, got); diff != "" {
			t.Errorf("string %d (-want +got):\n%s", n, diff)
		}
	}
	if lines.Err() != nil || n == 0 {
		t.Fatalf("%d strings, %v", n, lines.Err())
	}
	for _, id := range sectionIDs() {
		if seen[SectionName(id)] == 0 {
			t.Errorf("no string has section %d", id)
		}
	}
	t.Logf("%d strings: all fields are the same; sections: %v", n, seen)
}

// sectionIDs are all that are known.
func sectionIDs() []int {
	ids := []int{SectionTCFEU, SectionTCFCA, SectionUSP}
	for id := range layouts {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// describe has a section in the words and types of the IAB's library.
func describe(s Section) map[string]any {
	switch {
	case s.TCF != nil:
		return describeTCF(s.TCF)
	case s.Canada != nil:
		return describeCanada(s.Canada)
	case s.ID == SectionUSP:
		letter := func(f Field) any { return map[Answer]string{NotApplicable: "-", Yes: "Y", No: "N"}[s.US.Answers(f)[0]] }
		return map[string]any{"Notice": letter(SaleOptOutNotice), "OptOutSale": letter(SaleOptOut), "LspaCovered": letter(MSPACoveredTransaction)}
	}
	d := map[string]any{}
	for f := range fields {
		answers := s.US.Answers(f)
		if len(answers) == 0 {
			continue
		}
		name := f.String()
		if f == SensitiveDataOptOutNotice && s.Name != "usia" {
			name = "SensitiveDataProcessingOptOutNotice" // what the IAB calls it elsewhere
		}
		values := []any{}
		for _, a := range answers {
			values = append(values, float64(a))
		}
		if d[name] = any(values); len(values) == 1 {
			d[name] = values[0]
		}
	}
	if s.US.GPC != nil {
		d["Gpc"] = *s.US.GPC
	}
	if s.Name == "usnat" && s.US.Version == 1 {
		d["Version"] = float64(1)
	}
	return d
}

func describeTCF(s *tcf.String) map[string]any {
	return map[string]any{
		"CmpId": float64(s.CMPID), "CmpVersion": float64(s.CMPVersion), "ConsentScreen": float64(s.ConsentScreen), "ConsentLanguage": s.ConsentLanguage,
		"VendorListVersion": float64(s.VendorListVersion), "PolicyVersion": float64(s.PolicyVersion), "UseNonStandardStacks": s.UseNonStandardTexts,
		"IsServiceSpecific": s.IsServiceSpecific, "PurposeOneTreatment": s.PurposeOneTreatment, "PublisherCountryCode": s.PublisherCountryCode,
		"SpecialFeatureOptins": list(s.SpecialFeatureOptIns), "PurposeConsents": list(s.PurposeConsents), "PurposeLegitimateInterests": list(s.PurposeLegitimateInterests),
		"VendorConsents": spans(s.VendorConsents), "VendorLegitimateInterests": spans(s.VendorLegitimateInterests), "VendorsDisclosed": spans(*s.DisclosedVendors),
		"PublisherConsents": list(s.Publisher.Consents), "PublisherLegitimateInterests": list(s.Publisher.LegitimateInterests),
		"NumCustomPurposes":       float64(s.Publisher.CustomPurposes),
		"PublisherCustomConsents": maskList(s.Publisher.CustomConsents), "PublisherCustomLegitimateInterests": maskList(s.Publisher.CustomLegitimateInterests),
		"restrictions": restrictions(s.Restrictions), "LastUpdated": day(s.LastUpdated),
	}
}

func describeCanada(c *Canada) map[string]any {
	d := map[string]any{
		"CmpId": float64(c.CMPID), "CmpVersion": float64(c.CMPVersion), "ConsentScreen": float64(c.ConsentScreen), "ConsentLanguage": c.ConsentLanguage,
		"VendorListVersion": float64(c.VendorListVersion), "TcfPolicyVersion": float64(c.PolicyVersion), "UseNonStandardStacks": c.UseNonStandardStacks,
		"SpecialFeatureExpressConsent": list(c.SpecialFeatures), "PurposesExpressConsent": list(c.PurposesExpress), "PurposesImpliedConsent": list(c.PurposesImplied),
		"VendorExpressConsent": spans(c.VendorsExpress), "VendorImpliedConsent": spans(c.VendorsImplied),
		"PubPurposesExpressConsent": list(c.Publisher.Consents), "PubPurposesImpliedConsent": list(c.Publisher.LegitimateInterests),
		"NumCustomPurposes":            float64(c.Publisher.CustomPurposes),
		"CustomPurposesExpressConsent": maskList(c.Publisher.CustomConsents), "CustomPurposesImpliedConsent": maskList(c.Publisher.CustomLegitimateInterests),
		"restrictions": restrictions(c.Restrictions), "LastUpdated": day(c.LastUpdated), "DisclosedVendors": "",
	}
	if c.DisclosedVendors != nil {
		d["DisclosedVendors"] = spans(*c.DisclosedVendors)
	}
	return d
}

func day(t time.Time) string { return t.Format("2006-01-02T15:04:05.000Z") }

func list(ids tcf.IDs) []any {
	all := []any{}
	for id := range ids.All() {
		all = append(all, float64(id))
	}
	return all
}

func maskList(m uint64) []any {
	all := []any{}
	for i := range 64 {
		if m>>i&1 == 1 {
			all = append(all, float64(i+1))
		}
	}
	return all
}

func restrictions(list tcf.Restrictions) []any {
	all := []any{}
	for r := range list.All() {
		all = append(all, fmt.Sprintf("%d %d %s", r.Purpose, int(r.Type), spans(r.Vendors)))
	}
	return all
}

func spans(v tcf.Vendors) string {
	var parts []string
	for first, last := range v.Spans() {
		if first == last {
			parts = append(parts, fmt.Sprint(first))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", first, last))
		}
	}
	return strings.Join(parts, ",")
}
