package consent_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluis-cdp/sluis/consent"
	"github.com/sluis-cdp/sluis/consent/bits/bitstest"
)

// casesNow is when the cases of testdata/cases.md are decided.
var casesNow = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

var casesKey = []byte(strings.Repeat("k", 32))

// casePolicies are the policies that testdata/cases.md describes.
func casePolicies(t testing.TB) map[string]*consent.Policy {
	t.Helper()
	us := consent.Rule{Regions: []string{"US"}, Mode: consent.OptOut, Law: "US state privacy laws", Purposes: []consent.Purpose{
		consent.Identity, consent.Analytics, consent.Personalization, consent.Advertising, consent.Sale,
	}}
	dnt := []consent.Purpose{consent.Analytics, consent.Advertising}
	interest := func(p consent.Purpose) []consent.Definition {
		return []consent.Definition{{Purpose: p, Basis: consent.BasisLegitimateInterest}}
	}
	words := func(w map[string][]consent.Purpose) consent.Mappings { return consent.Mappings{Categories: w} }
	analytics := []consent.Purpose{consent.Analytics}
	policies := make(map[string]*consent.Policy)
	for name, c := range map[string]consent.PolicyConfig{
		"strict": {},
		"us":     {Rules: []consent.Rule{us}},
		"us-kids": {Rules: []consent.Rule{
			{Regions: []string{"US"}, Sources: []string{"kids"}, Mode: consent.OptIn, Law: "COPPA"},
			{Regions: []string{"us"}, Mode: consent.OptOut},
		}},
		"us-dnt": {Rules: []consent.Rule{us}, DNTDenies: dnt},
		"world":  {Rules: []consent.Rule{{Regions: []string{"EEA"}, Mode: consent.OptIn, Law: "GDPR"}, {Regions: []string{"*"}, Mode: consent.OptOut}}},
		"exempt": {Rules: []consent.Rule{{
			Regions: []string{"FR"}, Sources: []string{"web"}, Mode: consent.None, Purposes: analytics,
			Law: "CNIL exemption for audience measurement",
		}}},
		"short":           {Purposes: []consent.Definition{{Purpose: consent.Analytics, Expiry: 30 * 24 * time.Hour}}},
		"interest":        {Purposes: interest(consent.Analytics)},
		"interest-in-ads": {Purposes: interest(consent.Advertising)},
		"vendor":          {Mappings: consent.Mappings{TCFVendor: 755}},
		"feature":         {Mappings: consent.Mappings{TCF: map[consent.Purpose][]string{consent.Analytics: {"8", "9", "sf1"}}}},
		"dnt":             {DNTDenies: dnt},
		"google":          {Mappings: consent.Mappings{ConsentModeGrants: true}},
		"categories": {Mappings: words(map[string][]consent.Purpose{
			"C7": {consent.Marketing}, "A1": analytics, "A2": analytics, "matomo": analytics,
		})},
		"services": {Mappings: consent.Mappings{Tools: map[consent.Kind]map[string][]consent.Purpose{
			consent.Usercentrics: {"HkocEodjb7": analytics},
		}}},
	} {
		c.Version = name
		p, err := consent.NewPolicy(c)
		if err != nil {
			t.Fatal(err)
		}
		policies[name] = p
	}
	return policies
}

// lawCase is a row of testdata/cases.md.
type lawCase struct {
	line                                                         int
	region, source, policy, heard, purpose, granted, reason, why string
}

func readCases(t testing.TB) []lawCase {
	t.Helper()
	text, err := os.ReadFile("testdata/cases.md")
	if err != nil {
		t.Fatal(err)
	}
	var cases []lawCase
	for i, line := range strings.Split(string(text), "\n") {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| where |") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		if len(cells) != 7 {
			t.Fatalf("cases.md:%d: %d columns, want 7", i+1, len(cells))
		}
		c := lawCase{line: i + 1, source: "web", policy: cells[1], heard: strings.Trim(cells[2], "`"), purpose: cells[3], granted: cells[4], reason: cells[5], why: cells[6]}
		c.region, c.source, _ = strings.Cut(cells[0], ", ")
		if c.source == "" {
			c.source = "web"
		}
		if c.region == "-" {
			c.region = ""
		}
		cases = append(cases, c)
	}
	return cases
}

func TestCases(t *testing.T) {
	policies, cases := casePolicies(t), readCases(t)
	if len(cases) < 150 {
		t.Fatalf("only %d cases", len(cases))
	}
	for _, c := range cases {
		policy := policies[c.policy]
		if policy == nil || c.why == "" {
			t.Errorf("cases.md:%d: no policy %q, or no reason why", c.line, c.policy)
			continue
		}
		at := consent.Situation{Region: c.region, Source: c.source, Now: casesNow}
		got := policy.Decide(at, hear(t, policy, c.heard)...).Explain(consent.Purpose(c.purpose))
		if want := c.granted == "yes"; got.Granted != want || got.Text != c.reason {
			t.Errorf("cases.md:%d: %s\n got %t, %s\nwant %t, %s", c.line, c.heard, got.Granted, got.Text, want, c.reason)
		}
	}
}

// hear makes the signals that a case describes.
func hear(t testing.TB, p *consent.Policy, text string) []consent.Signal {
	t.Helper()
	var signals []consent.Signal
	header := make(http.Header)
	query := ""
	for one := range strings.SplitSeq(text, "; ") {
		word, rest, _ := strings.Cut(one, " ")
		place := ""
		if at, kind, ok := strings.Cut(word, "-"); ok && kind != "object" {
			place, word = at, kind
		}
		value, name, parameter := "", "", ""
		switch word {
		case "nothing":
			continue
		case "choice":
			s, err := p.FromChoice(verdicts(t, rest))
			if err != nil {
				t.Fatal(err)
			}
			s.DecidedAt = casesNow
			signals = append(signals, s)
			continue
		case "stored":
			header.Add("Cookie", consent.CookieName+"="+storedChoice(t, p, rest))
			continue
		case "cookie":
			header.Add("Cookie", rest)
			continue
		case "17": // cookies
			for range 17 {
				header.Add("Cookie", "CookieConsent=-1")
			}
			continue
		case "GPC":
			header.Add("Sec-GPC", rest)
			continue
		case "DNT":
			header.Add("DNT", rest)
			continue
		case "USP":
			header.Add("Cookie", "usprivacy="+rest)
			continue
		case "gcs", "gcd":
			query += "&" + word + "=" + url.QueryEscape(rest)
			continue
		case "Segment":
			signals = append(signals, p.FromConsentObject(map[string]any{"categoryPreferences": decode(t, rest)})...)
			continue
		case "consent-object":
			signals = append(signals, p.FromConsentObject(decode(t, rest))...)
			continue
		case "RudderStack":
			signals = append(signals, p.FromConsentManagement(decode(t, rest)))
			continue
		case "Didomi":
			header.Add("Cookie", "didomi_token="+didomi(t, rest))
			continue
		case "TCF":
			value, name, parameter = tcString(t, rest), "euconsent-v2", "gdpr_consent"
		case "GPP":
			value, name, parameter = gppString(t, rest), "__gpp", "gpp"
		default:
			t.Fatalf("%q: what is that?", one)
		}
		switch place {
		case "cookie":
			header.Add("Cookie", "other=1; "+name+"="+value)
		case "query":
			query += "&" + parameter + "=" + url.QueryEscape(value)
		case "body":
			signals = append(signals, p.FromConsentObject(map[string]any{strings.ToLower(word): value})...)
		default:
			if word == "TCF" {
				signals = append(signals, p.FromTCF(value))
			} else {
				signals = append(signals, p.FromGPP(value)...)
			}
		}
	}
	return append(signals, p.Read(consent.Gather(header, strings.TrimPrefix(query, "&")), casesKey)...)
}

func decode(t testing.TB, text string) (v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

func verdicts(t testing.TB, text string) map[string]bool {
	t.Helper()
	all := make(map[string]bool)
	for pair := range strings.SplitSeq(text, ",") {
		purpose, said, ok := strings.Cut(pair, "=")
		if !ok || said != "yes" && said != "no" {
			t.Fatalf("%q: want purpose=yes or purpose=no", pair)
		}
		all[purpose] = said == "yes"
	}
	return all
}

func storedChoice(t testing.TB, p *consent.Policy, text string) string {
	t.Helper()
	key, made := casesKey, casesNow
	if rest, ok := strings.CutPrefix(text, "forged "); ok {
		key, text = []byte(strings.Repeat("x", 32)), rest
	}
	if choice, day, ok := strings.Cut(text, " made "); ok {
		text, made = choice, date(t, day)
	}
	s, err := p.FromChoice(verdicts(t, text))
	if err != nil {
		t.Fatal(err)
	}
	value, err := p.Store(key, s, made)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func date(t testing.TB, day string) time.Time {
	t.Helper()
	at, err := time.Parse(time.DateOnly, day)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func didomi(t testing.TB, text string) string {
	t.Helper()
	purposes := map[string][]string{"enabled": {}, "disabled": {}}
	list := ""
	for word := range strings.FieldsSeq(text) {
		if word == "enabled" || word == "disabled" {
			list = word
			continue
		}
		purposes[list] = append(purposes[list], word)
	}
	token, err := json.Marshal(map[string]any{"purposes": purposes, "updated": "2026-05-01T00:00:00.000Z"})
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(token)
}

// described reads "8 9 LI 7 vendors 755 disclosed 755 SF 1 made 2026-05-01".
func described(t testing.TB, text string) (numbers map[string][]int, made time.Time) {
	t.Helper()
	numbers, list := make(map[string][]int), ""
	made = date(t, "2026-05-01")
	for word := range strings.FieldsSeq(text) {
		n, err := strconv.Atoi(word)
		switch {
		case list == "made":
			made, list = date(t, word), ""
		case word == "none":
		case err == nil:
			numbers[list] = append(numbers[list], n)
		default:
			list = word
			numbers[list] = append(numbers[list], []int{}...)
		}
	}
	return numbers, made
}

func has(list []int, n int) int {
	if slices.Contains(list, n) {
		return 1
	}
	return 0
}

// field writes a bit for each number from 1 to n.
func field(b *bitstest.Text, list []int, n int) {
	for i := range n {
		b.Uint(1, has(list, i+1))
	}
}

// vendorField writes a set of vendors as a bitfield.
func vendorField(b *bitstest.Text, list []int) {
	most := 0
	for _, n := range list {
		most = max(most, n)
	}
	b.Uint(16, most).Uint(1, 0)
	field(b, list, most)
}

// tcString writes a TC string, version 2, by its specification.
func tcString(t testing.TB, text string) string {
	t.Helper()
	if text == "garbage" {
		return "CQAAAAAAAAAA~garbage"
	}
	n, made := described(t, text)
	ds := int(made.UnixMilli() / 100)
	b := new(bitstest.Text).Uint(6, 2).Uint(36, ds).Uint(36, ds).Uint(12, 300).Uint(12, 1).Uint(6, 1)
	b.Uint(6, 4).Uint(6, 13) // EN
	b.Uint(12, 100).Uint(6, 5).Uint(1, 1).Uint(1, 0)
	field(b, n["SF"], 12)
	field(b, n[""], 24)
	field(b, n["LI"], 24)
	b.Uint(1, 0).Uint(6, 13).Uint(6, 11) // NL
	vendorField(b, n["vendors"])
	vendorField(b, nil)
	b.Uint(12, 0)
	all := b.String()
	if disclosed, ok := n["disclosed"]; ok {
		segment := new(bitstest.Text).Uint(3, 1)
		vendorField(segment, disclosed)
		all += "." + segment.String()
	}
	return all
}

// gppString writes a GPP string with one section.
func gppString(t testing.TB, text string) string {
	t.Helper()
	name, rest, _ := strings.Cut(text, " ")
	header := func(id int) string {
		return new(bitstest.Text).Uint(6, 3).Uint(6, 1).Uint(12, 1).Uint(1, 0).Fibonacci(id).String()
	}
	switch name {
	case "garbage":
		return "DBAA~~"
	case "unknown":
		return header(60) + "~BAAA"
	case "tcfeuv2":
		return header(2) + "~" + tcString(t, rest)
	case "tcfcav1":
		return header(5) + "~" + canadaString(t, rest)
	}
	id, section := usSection(t, name, rest)
	return header(id) + "~" + section
}

// usSection writes a section by the layouts of ../gpp/sections.txt, as read from
// the specification there: "SaleOptOut=1 gpc".
func usSection(t testing.TB, name, text string) (id int, section string) {
	t.Helper()
	values, gpc := make(map[string]int), false
	for word := range strings.FieldsSeq(text) {
		if word == "gpc" {
			gpc = true
			continue
		}
		field, value, _ := strings.Cut(word, "=")
		n, err := strconv.Atoi(value)
		if err != nil {
			t.Fatalf("%q: want a field and a number", word)
		}
		values[field] = n
	}
	layouts, err := os.ReadFile("gpp/sections.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(layouts), "\n") {
		columns := strings.Split(line, "|")
		if len(columns) != 5 || strings.TrimSpace(columns[1]) != name || strings.TrimSpace(columns[2]) != "1" {
			continue
		}
		if id, err = strconv.Atoi(strings.TrimSpace(columns[0])); err != nil {
			t.Fatal(err)
		}
		b := new(bitstest.Text).Uint(6, 1)
		for field := range strings.FieldsSeq(columns[4]) {
			field, times, several := strings.Cut(field, "*")
			n := 1
			if several {
				if n, err = strconv.Atoi(times); err != nil {
					t.Fatal(err)
				}
			}
			for range n {
				b.Uint(2, values[field])
			}
			delete(values, field)
		}
		if len(values) > 0 {
			t.Fatalf("%s has no field %v", name, values)
		}
		section = b.String()
		if gpc {
			section += "." + new(bitstest.Text).Uint(2, 1).Uint(1, 1).String()
		}
		return id, section
	}
	t.Fatalf("no section %s", name)
	return 0, ""
}

// canadaString writes a section of the TCF for Canada.
func canadaString(t testing.TB, text string) string {
	t.Helper()
	n, made := described(t, text)
	ds := int(made.UnixMilli() / 100)
	b := new(bitstest.Text).Uint(6, 1).Uint(36, ds).Uint(36, ds).Uint(12, 300).Uint(12, 1).Uint(6, 1)
	b.Uint(6, 4).Uint(6, 13).Uint(12, 100).Uint(6, 2).Uint(1, 0)
	field(b, nil, 12)
	field(b, n[""], 24)
	field(b, n["implied"], 24)
	for range 2 {
		b.Uint(16, 0).Uint(1, 0)
	}
	b.Uint(12, 0)
	return b.String()
}

// TestCasesAreDistinct: nobody reads a case twice.
func TestCasesAreDistinct(t *testing.T) {
	seen := make(map[string]int)
	for _, c := range readCases(t) {
		key := fmt.Sprint(c.region, c.source, c.policy, c.heard, c.purpose)
		if seen[key] > 0 {
			t.Errorf("cases.md:%d: the same case is in line %d", c.line, seen[key])
		}
		seen[key] = c.line
	}
}
