package tcf

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sluis-cdp/sluis/consent/bits"
	"github.com/sluis-cdp/sluis/consent/bits/bitstest"
)

// start is a core up to its vendors: purposes 1 and 7 with consent.
func start(version int, made time.Time) *bitstest.Text {
	at := int(made.UnixMilli() / 100)
	return new(bitstest.Text).Uint(6, version).Uint(36, at).Uint(36, at).Uint(12, 10).Uint(12, 1).Uint(6, 1).
		Uint(6, 'E'-'A').Uint(6, 'N'-'A').Uint(12, 100).Uint(6, 5).Uint(2, 0b10).Uint(12, 0).Uint(24, 0b1000001<<17).Uint(24, 0).
		Uint(1, 0).Uint(6, 'N'-'A').Uint(6, 'L'-'A')
}

var before, after = DisclosureRequired.Add(-100 * time.Millisecond), DisclosureRequired

func none(t *bitstest.Text) *bitstest.Text { return t.Uint(16, 0).Uint(1, 0) }

// vendors is a set of one range.
func vendors(t *bitstest.Text, first, last int) *bitstest.Text {
	return t.Uint(16, last).Uint(1, 1).Uint(12, 1).Uint(1, 1).Uint(16, first).Uint(16, last)
}

// core is a whole one, with vendors 1 to 9.
func core(made time.Time) string { return none(vendors(start(2, made), 1, 9)).Uint(12, 0).String() }

func segment(kind int) *bitstest.Text { return new(bitstest.Text).Uint(3, kind) }

func TestVendorsAndDisclosure(t *testing.T) {
	disclosed := "." + vendors(segment(1), 3, 5).String()
	for _, c := range []struct {
		name     string
		text     string
		lacks    bool
		vendor4  bool
		vendor9  bool
		vendor10 bool
	}{
		{"before v2.3, nothing disclosed", core(before), false, true, true, false},
		{"before v2.3, some disclosed", core(before) + disclosed, false, true, false, false},
		{"from v2.3 on, nothing disclosed", core(after), true, false, false, false},
		{"from v2.3 on, some disclosed", core(after) + disclosed, false, true, false, false},
		{"from v2.3 on, allowed vendors alone", core(after) + "." + vendors(segment(2), 1, 9).String(), true, false, false, false},
		{"from v2.3 on, an empty segment", core(after) + "." + none(segment(1)).String(), false, false, false, false},
	} {
		s, err := Parse(c.text)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if s.LacksDisclosure() != c.lacks {
			t.Errorf("%s: LacksDisclosure is %t", c.name, !c.lacks)
		}
		for id, want := range map[int]bool{4: c.vendor4, 9: c.vendor9, 10: c.vendor10} {
			if s.VendorConsent(id) != want {
				t.Errorf("%s: consent for vendor %d is %t", c.name, id, !want)
			}
			if s.VendorLegitimateInterest(id) {
				t.Errorf("%s: legitimate interest for vendor %d", c.name, id)
			}
		}
		if !s.PurposeConsents.Has(1) || !s.PurposeConsents.Has(7) || s.PurposeConsents.Has(2) {
			t.Errorf("%s: purposes changed", c.name)
		}
	}
}

// TestLaterOfTwoTimesCounts since a string that was made before may have been
// changed after.
func TestLaterOfTwoTimesCounts(t *testing.T) {
	s, err := Parse(core(before))
	if err != nil {
		t.Fatal(err)
	}
	s.LastUpdated = after
	if !s.LacksDisclosure() {
		t.Error("changed since, and still vendors have consent")
	}
}

func TestRestrictionsTakeAway(t *testing.T) {
	restrict := func(purpose int, kind RestrictionType) string {
		text := none(vendors(start(2, before), 1, 9)).Uint(12, 1).Uint(6, purpose).Uint(2, int(kind)).Uint(12, 1).Uint(1, 0).Uint(16, 4)
		return text.String()
	}
	for _, c := range []struct {
		name         string
		text         string
		four, others bool
	}{
		{"none", core(before), true, true},
		{"not allowed", restrict(7, NotAllowed), false, true},
		{"consent demanded", restrict(7, RequireConsent), true, true},
		{"legitimate interest demanded", restrict(7, RequireLegitimateInterest), false, true},
		{"another purpose", restrict(1, NotAllowed), true, true},
	} {
		s, err := Parse(c.text)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if s.MayVendor(4, 7) != c.four || s.MayVendor(5, 7) != c.others {
			t.Errorf("%s: vendor 4 %t, vendor 5 %t", c.name, s.MayVendor(4, 7), s.MayVendor(5, 7))
		}
		if s.MayVendor(4, 2) || s.MayVendor(10, 7) {
			t.Errorf("%s: may without consent to purpose or vendor", c.name)
		}
	}
}

func TestWhatIsRefused(t *testing.T) {
	good := core(before)
	withRestriction := func(purpose, kind int) string {
		return none(none(start(2, before))).Uint(12, 1).Uint(6, purpose).Uint(2, kind).Uint(12, 0).String()
	}
	for _, c := range []struct{ name, text string }{
		{"nothing", ""},
		{"a dot", "."},
		{"no core", ".YAAAAAAA"},
		{"version 1", none(none(start(1, before))).Uint(12, 0).String()},
		{"version 3", none(none(start(3, before))).Uint(12, 0).String()},
		{"version 63", none(none(start(63, before))).Uint(12, 0).String()},
		{"blanks around", " " + good + " "},
		{"a NUL behind", good + "\x00"},
		{"standard base64", strings.Replace(good, "A", "+", 1)},
		{"an empty segment", good + "."},
		{"an empty segment in between", good + ".." + none(segment(1)).String()},
		{"a segment of type 0", good + "." + good},
		{"a segment of type 4", good + "." + none(segment(4)).String()},
		{"a segment of type 7", good + "._"},
		{"a segment twice", good + "." + none(segment(1)).String() + "." + none(segment(1)).String()},
		{"a segment cut off in its type's character", good + ".I"},
		{"something behind the core's last field", good + "B"},
		{"something behind a segment", good + "." + none(segment(1)).Ones(1).String()},
		{"vendors up to 65535 in a bitfield that is not there", start(2, before).Uint(16, 65535).Uint(1, 0).String()},
		{"a range up to 65535 beyond the largest vendor", start(2, before).Uint(16, 9).Uint(1, 1).Uint(12, 1).Uint(1, 1).Uint(16, 1).Uint(16, 65535).String()},
		{"4095 ranges that are not there", start(2, before).Uint(16, 65535).Uint(1, 1).Uint(12, 4095).String()},
		{"4095 restrictions that are not there", none(none(start(2, before))).Uint(12, 4095).String()},
		{"a restriction of purpose 0", withRestriction(0, 1)},
		{"a restriction of undefined type", withRestriction(1, 3)},
		{"a publisher's 63 purposes that are not there", good + "." + segment(3).Uint(24, 0).Uint(24, 0).Uint(6, 63).Uint(6, 0).String()},
		{"a language of other than letters", new(bitstest.Text).Uint(6, 2).Uint(36, 0).Uint(36, 0).Uint(12, 1).Uint(12, 1).Uint(6, 1).Uint(6, 63).Uint(36, 0).Uint(36, 0).Uint(36, 0).Uint(36, 0).String()},
		{"8193 bytes", good + strings.Repeat("A", MaxLength+1-len(good))},
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
// left is refused, unless it lacks whole segments or zeros at the end of one.
func TestEachTruncation(t *testing.T) {
	for n, text := range encoded(t)[:20] {
		for cut := range len(text) {
			_, err := Parse(text[:cut])
			lost, _, _ := strings.Cut(text[cut:], ".")
			whole := lost == "" || strings.Trim(lost, "A") == "" && cut > 0 && text[cut-1] != '.'
			switch {
			case err == nil && !whole:
				t.Fatalf("string %d: read after %d of %d bytes", n, cut, len(text))
			case err != nil && lost == "":
				t.Fatalf("string %d: refused without its last segments, at %d: %v", n, cut, err)
			}
		}
	}
}

// encoded are the strings of the committed vectors.
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

// largest are valid strings that fill the 8 KiB, each with one thing.
func largest() map[string]string {
	const all = MaxLength * 6
	field := start(2, before)
	n := all - field.Len() - 17 - 17 - 12 - 6
	field.Uint(16, n).Uint(1, 0).Ones(n)
	ranges := start(2, before)
	n = (all - ranges.Len() - 29 - 17 - 12 - 6) / 17
	ranges.Uint(16, 65535).Uint(1, 1).Uint(12, n)
	for i := range n {
		ranges.Uint(1, 0).Uint(16, 1+2*i)
	}
	restrictions := none(none(start(2, before)))
	n = (all - restrictions.Len() - 12 - 6) / 20
	restrictions.Uint(12, n)
	for i := range n {
		restrictions.Uint(6, 1+i%24).Uint(2, i%3).Uint(12, 0)
	}
	filled := core(before)
	return map[string]string{
		"bitfield":     none(field).Uint(12, 0).String(),
		"ranges":       none(ranges).Uint(12, 0).String(),
		"restrictions": restrictions.String(),
		"zeros":        filled + strings.Repeat("A", MaxLength-len(filled)),
		"dots":         filled + strings.Repeat(".", MaxLength-len(filled)),
		"ones":         strings.Repeat("_", MaxLength),
	}
}

// TestMemory is the bound of 64 KB for 8 KB of input, whatever is in it.
func TestMemory(t *testing.T) {
	for name, text := range largest() {
		if len(text) > MaxLength || len(text) < MaxLength-12 {
			t.Errorf("%s: %d bytes", name, len(text))
		}
		_, err := Parse(text)
		if wrong := name == "dots" || name == "ones"; (err != nil) != wrong {
			t.Errorf("%s: %v", name, err)
		}
		if n := allocated(func() { _, _ = Parse(text) }); n > 4<<10 {
			t.Errorf("%s: %d bytes allocated", name, n)
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
	inputs["typical"] = encoded(b)[0]
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
	f.Add(core(before))
	f.Add(core(after) + "." + vendors(segment(1), 3, 5).String())
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
	sets := []Vendors{s.VendorConsents, s.VendorLegitimateInterests}
	for _, set := range []*Vendors{s.DisclosedVendors, s.AllowedVendors} {
		if set != nil {
			sets = append(sets, *set)
		}
	}
	n := 0
	for r := range s.Restrictions.All() {
		if r.Purpose < 1 || r.Purpose > 63 || r.Type > RequireLegitimateInterest {
			t.Fatalf("restriction of purpose %d, type %d", r.Purpose, r.Type)
		}
		if n++; n < 8 {
			sets = append(sets, r.Vendors)
		}
	}
	for _, set := range sets {
		last := 0
		for first, end := range set.Spans() {
			if first <= last || end < first || end > set.Limit() || end > bits.MaxID {
				t.Fatalf("%d-%d behind %d, limit %d", first, end, last, set.Limit())
			}
			last = end
		}
		if last > 0 && !set.Has(last) || set.Has(0) || set.Has(last+1) {
			t.Fatalf("last id is %d, and Has does not know", last)
		}
	}
	for first := range s.VendorConsents.Spans() {
		if s.VendorConsent(first) && (s.LacksDisclosure() || s.DisclosedVendors != nil && !s.DisclosedVendors.Has(first)) {
			t.Fatalf("consent for vendor %d, who was not disclosed", first)
		}
		break
	}
}

var damaged = flag.Int("tcf.damaged", 5000, "how many damaged texts to try")

// TestDamaged is FuzzParse without a guide, which is quicker by far: random damage
// to what the IAB's encoder wrote.
func TestDamaged(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d, %d texts", seed, *damaged)
	texts := encoded(t)
	for _, text := range texts {
		text = text[:min(len(text), 400)] // so that more damage is near what matters
		texts = append(texts, text)
	}
	for range *damaged {
		check(t, bitstest.Damage(random, texts[random.IntN(len(texts))], texts[random.IntN(len(texts))]))
	}
}
