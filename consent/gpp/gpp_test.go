package gpp

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/sluis-cdp/sluis/consent/bits/bitstest"
)

// header is one for ids in the order given.
func header(ids ...int) string {
	t := new(bitstest.Text).Uint(6, 3).Uint(6, 1).Uint(12, len(ids))
	last := 0
	for _, id := range ids {
		t.Uint(1, 0).Fibonacci(id - last)
		last = id
	}
	return t.String()
}

// section is a core of zeros but for the fields given.
func section(id int, answers map[Field]Answer) string {
	ls := layouts[id]
	l := ls[len(ls)-1]
	t := new(bitstest.Text).Uint(6, l.version)
	for _, c := range l.core {
		for range c.n {
			t.Uint(2, int(answers[c.field]))
		}
	}
	return t.String()
}

// TestEachAnswerOfEachSection sets one field at a time, and finds it and no other.
func TestEachAnswerOfEachSection(t *testing.T) {
	for id, ls := range layouts {
		for _, c := range ls[len(ls)-1].core {
			s, err := Parse(header(id) + "~" + section(id, map[Field]Answer{c.field: Refused}))
			if err != nil {
				t.Errorf("section %d, %v: %v", id, c.field, err)
				continue
			}
			us, _ := s.Section(id)
			for f := range fields {
				if us.US.Refuses(f) != (f == c.field) {
					t.Errorf("section %d, %v: Refuses(%v) is %t", id, c.field, f, f != c.field)
				}
			}
			if n := len(us.US.Answers(c.field)); n != c.n || us.US.GPC != nil {
				t.Errorf("section %d, %v: %d answers, GPC %v", id, c.field, n, us.US.GPC)
			}
		}
	}
}

// TestEverySectionHasOptOuts holds the table to the fields that decide
// anything, so that a mistake in it does not go unseen.
func TestEverySectionHasOptOuts(t *testing.T) {
	for id, ls := range layouts {
		for _, l := range ls {
			has := func(f Field) bool {
				return slices.ContainsFunc(l.core, func(c column) bool { return c.field == f })
			}
			if !has(SaleOptOut) || !has(SaleOptOutNotice) {
				t.Errorf("section %d has no opt-out of sale", id)
			}
			if has(TargetedAdvertisingOptOut) == (l.name == "usca") {
				t.Errorf("section %d: opt-out of targeted advertising is %t", id, has(TargetedAdvertisingOptOut))
			}
			if has(SharingOptOut) != (l.name == "usca" || l.name == "usnat") {
				t.Errorf("section %d: opt-out of sharing is %t", id, has(SharingOptOut))
			}
		}
	}
}

// TestNationalSectionInThreeForms has the same opt-outs in each: version 1, what
// was written as version 1 with the fields of version 2, and version 2.
func TestNationalSectionInThreeForms(t *testing.T) {
	const refused, allowed, notices = 1, 2, 0
	text := func(version, sensitive, children int) string {
		return new(bitstest.Text).Uint(6, version).Uint(12, notices).Uint(2, refused).Uint(2, allowed).Uint(2, refused).
			Uint(sensitive*2-2, 0).Uint(2, refused).Uint(children*2, 0).Uint(2, allowed).Uint(2, 1).Uint(2, 2).Uint(2, 0).String()
	}
	for _, c := range []struct{ version, sensitive, children int }{{1, 12, 2}, {1, 16, 3}, {2, 16, 3}} {
		s, err := Parse(header(7) + "~" + text(c.version, c.sensitive, c.children))
		if err != nil {
			t.Errorf("%v: %v", c, err)
			continue
		}
		us := s.Sections[0].US
		if us.Version != c.version || !us.Refuses(SaleOptOut) || us.Refuses(SharingOptOut) || !us.Refuses(TargetedAdvertisingOptOut) {
			t.Errorf("%v: opt-outs differ", c)
		}
		sensitive := us.Answers(SensitiveData)
		if len(sensitive) != c.sensitive || sensitive[c.sensitive-1] != Refused || us.Answers(PersonalDataConsent)[0] != Allowed || us.Answers(MSPAOptOutOptionMode)[0] != No {
			t.Errorf("%v: %v", c, sensitive)
		}
	}
}

func TestSectionsThatAreNotKnown(t *testing.T) {
	s, err := Parse(header(3, 8, 60) + "~anything at all~" + section(8, map[Field]Answer{SaleOptOut: Refused}) + "~.")
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Sections) != 3 || s.Sections[0].Known() || s.Sections[2].Known() || !s.Sections[1].US.Refuses(SaleOptOut) {
		t.Errorf("%+v", s.Sections)
	}
	if _, ok := s.Section(7); ok {
		t.Error("has a section that it has not")
	}
	if s, err := Parse(header()); err != nil || len(s.Sections) != 0 {
		t.Errorf("no sections: %v", err)
	}
}

func TestUSPrivacy(t *testing.T) {
	for text, want := range map[string]string{
		"1---": "[-] [-] [-]", "1YNN": "[refused] [allowed] [allowed]", "1NYY": "[allowed] [refused] [refused]", "1-Y-": "[-] [refused] [-]",
	} {
		u, err := ParseUSPrivacy(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := fmt.Sprintf("%v %v %v", u.Answers(SaleOptOutNotice), u.Answers(SaleOptOut), u.Answers(MSPACoveredTransaction)); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	for _, text := range []string{"", "1", "1YN", "1YNNN", "2YNN", "1ynn", "1Y N", "1YÿN", "0---"} {
		if u, err := ParseUSPrivacy(text); u != nil || !errors.Is(err, ErrUnreadable) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestWhatIsRefused(t *testing.T) {
	ca := section(8, nil)
	ranges := func(spans ...[2]int) string {
		t := new(bitstest.Text).Uint(6, 3).Uint(6, 1).Uint(12, len(spans))
		last := 0
		for _, s := range spans {
			t.Uint(1, 1).Fibonacci(s[0] - last).Fibonacci(s[1] - s[0])
			last = s[1]
		}
		return t.String()
	}
	for _, c := range []struct{ name, text string }{
		{"nothing", ""},
		{"a separator", "~"},
		{"a TC string", "CPXxRfAPXxRfAAfKABENB-CgAAAAAAAAAAYgAAAAAAAA"},
		{"another type", new(bitstest.Text).Uint(6, 2).Uint(6, 1).Uint(12, 0).String()},
		{"another version of the header", new(bitstest.Text).Uint(6, 3).Uint(6, 2).Uint(12, 0).String()},
		{"sections from 1 to 65535", ranges([2]int{1, 65535}) + "~" + ca},
		{"sections from 2 to 65535, each empty", ranges([2]int{2, 65535}) + strings.Repeat("~", 4000)},
		{"4095 ranges that are not there", new(bitstest.Text).Uint(6, 3).Uint(6, 1).Uint(12, 4095).String()},
		{"more than 64 sections", ranges([2]int{100, 199}) + strings.Repeat("~A", 100)},
		{"ids beyond 65535", header(65535, 65536) + "~A~A"},
		{"one section too few", header(8, 60) + "~" + ca},
		{"one section too many", header(8) + "~" + ca + "~" + ca},
		{"an empty section", header(8) + "~"},
		{"an empty section that is not known", header(60) + "~"},
		{"something behind the header's last id", header(8) + "B~" + ca},
		{"an answer that is not defined", header(8) + "~" + section(8, map[Field]Answer{SaleOptOut: undefined})},
		{"another version of a section", header(8) + "~C" + ca[1:]},
		{"a section cut off", header(8) + "~" + ca[:len(ca)-2]},
		{"something behind a section's last field", header(8) + "~" + ca + "B"},
		{"an empty second segment", header(8) + "~" + ca + "."},
		{"a second segment of type 0", header(8) + "~" + ca + ".A"},
		{"a second segment of type 2", header(8) + "~" + ca + ".g"},
		{"a third segment", header(8) + "~" + ca + ".YA.YA"},
		{"a second segment where there is none", header(9) + "~" + section(9, nil) + ".YA"},
		{"a TC string that cannot be read", header(2) + "~CAAA"},
		{"a section for Canada of version 2", header(5) + "~C" + strings.Repeat("A", 60)},
		{"a US Privacy string in lower case", header(6) + "~1ynn"},
		{"8193 bytes", header(60) + "~" + strings.Repeat("A", MaxLength)},
	} {
		s, err := Parse(c.text)
		if s != nil || !errors.Is(err, ErrUnreadable) {
			t.Errorf("%s: %v", c.name, err)
		} else if len(c.text) > 3 && strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: the error has the text", c.name)
		}
	}
}

// TestEachTruncation cuts strings of the IAB's encoder after each byte. What is
// left is refused, unless it lacks the last section's further segments or zeros.
func TestEachTruncation(t *testing.T) {
	for n, text := range encoded(t)[:30] {
		last := strings.LastIndexByte(text, '~')
		for cut := range len(text) {
			_, err := Parse(text[:cut])
			lost, _, _ := strings.Cut(text[cut:], ".")
			whole := cut > last+1 && (lost == "" || strings.Trim(lost, "A") == "" && text[cut-1] != '.')
			if err == nil && !whole {
				t.Fatalf("string %d: read after %d of %d bytes", n, cut, len(text))
			}
		}
	}
}

// TestCanadaAsOlderWritersHaveIt reads ids of 16 bits.
func TestCanadaAsOlderWritersHaveIt(t *testing.T) {
	core := func() *bitstest.Text {
		return new(bitstest.Text).Uint(6, 1).Uint(36, 17e9).Uint(36, 17e9).Uint(12, 50).Uint(12, 2).Uint(6, 1).Uint(6, 4).Uint(6, 13).
			Uint(12, 20).Uint(6, 2).Uint(1, 0).Uint(12, 0).Uint(24, 1<<23).Uint(24, 0)
	}
	vendors := func(t *bitstest.Text) *bitstest.Text {
		return t.Uint(16, 900).Uint(1, 1).Uint(12, 2).Uint(1, 1).Uint(16, 7).Uint(16, 70).Uint(1, 0).Uint(16, 900)
	}
	text := vendors(core()).Uint(16, 0).Uint(1, 0).Uint(12, 1).Uint(6, 3).Uint(2, 1).Uint(12, 1).Uint(1, 0).Uint(16, 70).String()
	text += "." + vendors(new(bitstest.Text).Uint(3, 1)).String()
	s, err := Parse(header(5) + "~" + text)
	if err != nil {
		t.Fatal(err)
	}
	c := s.Sections[0].Canada
	if spans(c.VendorsExpress) != "7-70,900" || spans(*c.DisclosedVendors) != "7-70,900" || !c.PurposesExpress.Has(1) || fmt.Sprint(restrictions(c.Restrictions)) != "[3 1 70]" {
		t.Errorf("%+v", c)
	}
}

func encoded(t testing.TB) (all []string) {
	t.Helper()
	file, err := os.Open("testdata/vectors.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var v struct{ String string }
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		if v.String != "" {
			all = append(all, v.String)
		}
	}
	return all
}

// largest are strings of 8 KiB, each with much of one thing.
func largest() map[string]string {
	fill := func(text, with string) string { return text + strings.Repeat(with, (MaxLength-len(text))/len(with)) }
	unknown := make([]int, MaxSections)
	for i := range unknown {
		unknown[i] = 100 + i
	}
	ids := sectionIDs()
	states := ""
	for _, id := range ids[3:] {
		states += "~" + section(id, nil)
	}
	vendors := new(bitstest.Text).Uint(6, 1).Uint(36, 0).Uint(36, 0).Uint(30, 0).Uint(12, 0).Uint(12, 0).Uint(6, 0).Uint(1, 0).Uint(12, 0).Uint(24, 0).Uint(24, 0)
	vendors.Uint(16, 65535).Uint(1, 1).Uint(12, 4095)
	for range 4095 {
		vendors.Uint(1, 0).Fibonacci(2)
	}
	return map[string]string{
		"unknown sections": header(unknown...) + fill("", "~"+strings.Repeat("A", MaxLength/MaxSections-2)),
		"all states":       header(ids[3:]...) + states,
		"Canada":           fill(header(5)+"~"+vendors.Uint(16, 0).Uint(1, 0).Uint(12, 0).String(), "A"),
		"header":           fill(header(), "A"),
		"zeros":            fill("D", "A"),
		"ones":             fill("D", "_"),
		"separators":       fill(header(8), "~"),
		"dots":             fill(header(8)+"~"+section(8, nil), "."),
	}
}

// TestMemory is the bound of 64 KB for 8 KB of input, whatever is in it.
func TestMemory(t *testing.T) {
	for name, text := range largest() {
		_, err := Parse(text)
		if wrong := slices.Contains([]string{"zeros", "ones", "separators", "dots"}, name); (err != nil) != wrong {
			t.Errorf("%s: %v", name, err)
		}
		if n := allocated(func() { _, _ = Parse(text) }); n > 32<<10 {
			t.Errorf("%s: %d bytes allocated for %d", name, n, len(text))
		}
	}
}

// allocated is how many bytes a function allocates.
func allocated(f func()) uint64 {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	least := ^uint64(0)
	for range 5 { // others may allocate meanwhile, but not always
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		least = min(least, after.TotalAlloc-before.TotalAlloc)
	}
	return least
}

func BenchmarkParse(b *testing.B) {
	inputs := largest()
	inputs["typical"] = header(7) + "~" + section(7, nil) + ".YA"
	for name, text := range inputs {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				_, _ = Parse(text)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range encoded(f) {
		if len(text) < 600 {
			f.Add(text)
		}
	}
	f.Add(header(7, 8) + "~" + section(7, nil) + ".YA~" + section(8, map[Field]Answer{SaleOptOut: Refused}))
	f.Add(header(6, 60) + "~1YNN~A")
	f.Fuzz(func(t *testing.T, text string) { check(t, text) })
}

// check parses a text, and holds what comes of it to what it must be.
func check(t *testing.T, text string) {
	t.Helper()
	s, err := Parse(text)
	if err != nil {
		if s != nil || !errors.Is(err, ErrUnreadable) {
			t.Fatalf("%v, %v", s, err)
		}
		return
	}
	last := 0
	for _, section := range s.Sections {
		if section.ID <= last || section.Name != SectionName(section.ID) {
			t.Fatalf("section %d behind %d", section.ID, last)
		}
		last = section.ID
		set := 0
		for _, there := range []bool{section.TCF != nil, section.Canada != nil, section.US != nil} {
			if there {
				set++
			}
		}
		if section.Known() != (set == 1) {
			t.Fatalf("section %d: %d contents", section.ID, set)
		}
		if section.US != nil {
			for f := range fields {
				if slices.Contains(section.US.Answers(f), undefined) {
					t.Fatalf("section %d: %v is not defined", section.ID, f)
				}
			}
		}
		if c := section.Canada; c != nil {
			last := 0
			for first, end := range c.VendorsExpress.Spans() {
				if first <= last || end < first || end > c.VendorsExpress.Limit() {
					t.Fatalf("%d-%d behind %d", first, end, last)
				}
				last = end
			}
			for r := range c.Restrictions.All() {
				if r.Purpose == 0 {
					t.Fatal("a restriction of no purpose")
				}
			}
		}
	}
}

var damaged = flag.Int("gpp.damaged", 5000, "how many damaged texts to try")

// TestDamaged is FuzzParse without a guide, which is quicker by far: random damage
// to what the IAB's encoder wrote.
func TestDamaged(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d, %d texts", seed, *damaged)
	texts := encoded(t)
	for _, id := range sectionIDs()[3:] {
		texts = append(texts, header(id)+"~"+section(id, map[Field]Answer{SaleOptOut: Refused}))
	}
	for range *damaged {
		check(t, bitstest.Damage(random, texts[random.IntN(len(texts))], texts[random.IntN(len(texts))]))
	}
}

func FuzzUSPrivacy(f *testing.F) {
	f.Add("1YNN")
	f.Add("1---")
	f.Fuzz(func(t *testing.T, text string) {
		u, err := ParseUSPrivacy(text)
		if (u == nil) == (err == nil) || u != nil && u.Refuses(SaleOptOut) != (text[2] == 'Y') {
			t.Fatalf("%v, %v", u, err)
		}
	})
}
