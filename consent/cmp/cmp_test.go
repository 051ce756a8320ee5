package cmp

import (
	"bufio"
	"encoding/base64"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/sluis-cdp/sluis/consent/bits/bitstest"
)

type row struct{ name, value, want string }

// rows reads the table.
func rows(t testing.TB) (all []row) {
	t.Helper()
	file, err := os.Open("testdata/cookies.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		line := lines.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		cells := strings.Split(line, "|")
		if len(cells) != 6 {
			t.Fatalf("%d cells: %s", len(cells), line)
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if inner, ok := strings.CutPrefix(cells[1], "<base64:"); ok {
			cells[1] = base64.StdEncoding.EncodeToString([]byte(strings.TrimSuffix(inner, ">")))
		}
		for _, i := range []int{3, 4} {
			words := strings.Fields(cells[i])
			slices.Sort(words)
			cells[i] = strings.Join(words, " ")
		}
		all = append(all, row{cells[0], cells[1], strings.Join(cells[2:], " | ")})
	}
	return all
}

func describe(c Choice) string {
	var granted, refused, more []string
	for category, ok := range c.Categories {
		if ok {
			granted = append(granted, category)
		} else {
			refused = append(refused, category)
		}
	}
	slices.Sort(granted)
	slices.Sort(refused)
	for name, ok := range map[string]bool{"only grants": c.OnlyGrants, "gpc": c.GPC, "unreadable": c.Unreadable} {
		if ok {
			more = append(more, name)
		}
	}
	cell := func(words []string) string {
		if len(words) == 0 {
			return "-"
		}
		return strings.Join(words, " ")
	}
	return fmt.Sprintf("%s | %s | %s | %s", c.Made, cell(granted), cell(refused), cell(more))
}

func TestCookies(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range rows(t) {
		c, known := Parse(r.name, r.value)
		if !known || c.Platform == "" {
			t.Errorf("%s is not known", r.name)
		}
		if got := describe(c); got != r.want {
			t.Errorf("%s: %s\n got %s\nwant %s", r.name, r.value, got, r.want)
		}
		seen[r.name] = true
	}
	for _, name := range Names() {
		if !seen[name] {
			t.Errorf("the table has no %s", name)
		}
	}
	if _, known := Parse("euconsent-v2", "C"); known {
		t.Error("knows a cookie that is of package tcf")
	}
}

// TestDamage cuts each value after each byte, and replaces each byte. What has
// brackets around it is unreadable without the last; nothing that is unreadable
// says anything more.
func TestDamage(t *testing.T) {
	for _, r := range rows(t) {
		whole, _ := Parse(r.name, r.value)
		for cut := range len(r.value) {
			for _, text := range []string{r.value[:cut], r.value[:cut] + "~" + r.value[cut+1:]} {
				c, _ := Parse(r.name, text)
				if c.Unreadable && (c.Categories != nil || c.Made != NoChoice || c.OnlyGrants || c.GPC) {
					t.Fatalf("%s: unreadable and still %+v", r.name, c)
				}
				framed := strings.HasPrefix(r.value, "{") || strings.HasPrefix(r.value, "%7B")
				if framed && !whole.Unreadable && text == r.value[:cut] && !c.Unreadable {
					t.Fatalf("%s: read after %d of %d bytes", r.name, cut, len(r.value))
				}
			}
		}
	}
}

func TestBounds(t *testing.T) {
	flags := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"s%d":true`, i)
		}
		return "{" + b.String()[1:] + "}"
	}
	if c, _ := Parse("klaro", flags(MaxCategories)); c.Unreadable || len(c.Categories) != MaxCategories {
		t.Errorf("%d categories are unreadable", MaxCategories)
	}
	if c, _ := Parse("klaro", flags(MaxCategories+1)); !c.Unreadable {
		t.Errorf("%d categories are read", MaxCategories+1)
	}
	if c, _ := Parse("klaro", `{"a":true}`+strings.Repeat(" ", MaxLength)); !c.Unreadable {
		t.Error("a value that is too long is read")
	}
	if c, _ := Parse("klaro", `{"":true}`); !c.Unreadable {
		t.Error("a category without a name is read")
	}
}

// hostile are values of 8 KiB, each with much of one thing.
func hostile() []row {
	fill := func(name, before, with, behind string) row {
		n := (MaxLength - len(before) - len(behind)) / len(with)
		return row{name: name, value: before + strings.Repeat(with, n) + behind}
	}
	long := `{"0":true`
	for i := range MaxCategories - 2 {
		long += fmt.Sprintf(`,"%010d":true`, i)
	}
	return []row{
		{"klaro", `{"a":` + strings.Repeat("[", maxValues-2), ""},
		{"klaro", strings.Repeat(`{"a":`, maxValues/2), ""},
		{"uc_settings", `{"services":[` + strings.Repeat("{},", maxValues/2-4) + "{}]}", ""},
		fill("klaro", long, " ", "}"),
		{"klaro", url.PathEscape(long[:4000]) + "%7D", ""},
		fill("klaro", "{", `"a":true,`, `"b":true}`),
		fill("klaro", `{"a":`, "[", ""),
		fill("klaro", `{"a":`, `{"a":`, ""),
		fill("klaro", `{"`, `\u0041`, `":true}`),
		fill("klaro", "%7B", "%20", "%7D"),
		fill("uc_settings", `{"services":[`, `{},`, `{}]}`),
		fill("uc_settings", `{"services":[{"id":"a","status":true,"history":[`, `0,`, `0]}]}`),
		fill("cc_cookie", `{"categories":[`, `"a",`, `"b"]}`),
		{"didomi_token", base64.StdEncoding.EncodeToString([]byte(`{"purposes":{"enabled":[` + strings.Repeat(`"a",`, 1500) + `"b"]}}`)), ""},
		fill("OptanonConsent", "interactionCount=1&groups=", "C1:1,", ""),
		fill("OptanonConsent", "groups=C1:1", "&", ""),
		fill("OptanonConsent", "groups=C1:1", "&a=%41", ""),
		fill("CookieConsent", "{necessary:true", ",a:1", "}"),
		fill("CookieConsent", "{necessary:true,a:", "'", "}"),
	}
}

// TestMemory is the bound of 64 KB for 8 KB of input, whatever is in it.
func TestMemory(t *testing.T) {
	for i, r := range hostile() {
		if n := allocated(func() { Parse(r.name, r.value) }); n > 64<<10 {
			t.Errorf("%d, %s: %d bytes allocated for %d", i, r.name, n, len(r.value))
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
	for i, r := range hostile() {
		b.Run(fmt.Sprintf("%d-%s", i, r.name), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(r.value)))
			for b.Loop() {
				Parse(r.name, r.value)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	names := Names()
	for _, r := range rows(f) {
		f.Add(uint8(slices.Index(names, r.name)), r.value)
	}
	f.Fuzz(func(t *testing.T, which uint8, value string) { check(t, which, value) })
}

// check parses a text, and holds what comes of it to what it must be.
func check(t *testing.T, which uint8, value string) {
	t.Helper()
	names := Names()
	c, known := Parse(names[int(which)%len(names)], value)
	switch {
	case !known || c.Platform == "" || c.Made > Explicit:
		t.Fatalf("%t, %+v", known, c)
	case c.Unreadable && (c.Categories != nil || c.Made != NoChoice || c.OnlyGrants || c.GPC):
		t.Fatalf("unreadable, and still %+v", c)
	case len(c.Categories) > MaxCategories || len(value) > MaxLength && !c.Unreadable:
		t.Fatalf("%d categories of %d bytes", len(c.Categories), len(value))
	}
	for category := range c.Categories {
		if category == "" {
			t.Fatal("a category without a name")
		}
	}
}

var damaged = flag.Int("cmp.damaged", 5000, "how many damaged texts to try")

// TestDamaged is FuzzParse without a guide, which is quicker by far: random damage
// to what the table has.
func TestDamaged(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d, %d texts", seed, *damaged)
	table, names := rows(t), Names()
	for range *damaged {
		r := table[random.IntN(len(table))]
		check(t, uint8(slices.Index(names, r.name)), bitstest.Damage(random, r.value, table[random.IntN(len(table))].value))
	}
}
