package corpus

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"html"
	"math/rand/v2"
	"net/netip"
	"net/url"
	"strings"
	"unicode"

	"github.com/sluis-cdp/sluis/collector/personal"
)

// Generate makes n texts, the same for the same seed: in every second there is
// something personal, in the others something that looks like it.
func Generate(seed uint64, n int) []Case {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 0))}
	cases := make([]Case, 0, n)
	for i := range n {
		g.locale = locales[g.IntN(len(locales))]
		if i%2 == 0 {
			cases = append(cases, g.personal(makers[i/2%len(makers)]))
		} else {
			cases = append(cases, g.near(nearMisses[i/2%len(nearMisses)]))
		}
	}
	return cases
}

type generator struct {
	*rand.Rand
	locale locale
}

func pick[T any](g *generator, list []T) T { return list[g.IntN(len(list))] }

// fill writes a pattern of a locale.
func (g *generator) fill(pattern string) string {
	return strings.Map(func(r rune) rune {
		switch r {
		case '#':
			return '0' + rune(g.IntN(10))
		case 'N':
			return '2' + rune(g.IntN(8))
		case 'A':
			return 'A' + rune(g.IntN(26))
		case 'h':
			return rune("0123456789abcdef"[g.IntN(16)])
		}
		return r
	}, pattern)
}

func (g *generator) digits(n int) string { return g.fill(strings.Repeat("#", n)) }

func (g *generator) hex(n int) string { return g.fill(strings.Repeat("h", n)) }

// maker makes something personal. A maker with says needs a word beside it or a
// field of this name.
type maker struct {
	form string
	kind personal.Kind
	make func(*generator) string
	says []string // sentences to stand in; nil for any carrier
	key  string
	bare bool // stands as it is: not in a place that would encode it again
}

var makers = []maker{
	{form: "e-mail", kind: personal.Email, make: (*generator).email},
	{form: "e-mail", kind: personal.Email, make: (*generator).email},
	{form: "e-mail, percent-encoded", kind: personal.Email, make: func(g *generator) string { return strings.ReplaceAll(url.QueryEscape(g.email()), "%2B", "%2b") }, bare: true},
	{form: "e-mail, base64", kind: personal.Email, make: func(g *generator) string {
		return pick(g, []*base64.Encoding{base64.StdEncoding, base64.RawURLEncoding}).EncodeToString([]byte(g.email()))
	}, bare: true},
	{form: "e-mail, full-width sign", kind: personal.Email, make: func(g *generator) string { return strings.Replace(g.email(), "@", "＠", 1) }, bare: true},
	{form: "e-mail, escaped in HTML", kind: personal.Email, make: func(g *generator) string { return strings.Replace(html.EscapeString(g.email()), "@", "&#64;", 1) }, bare: true},
	{form: "phone, international", kind: personal.Phone, make: (*generator).international},
	{form: "phone, international", kind: personal.Phone, make: (*generator).international},
	{form: "phone, national", kind: personal.Phone, make: func(g *generator) string { return g.fill(pick(g, g.locale.phones)) }},
	{form: "phone, national, beside a word", kind: personal.Phone, make: func(g *generator) string { return g.fill(pick(g, g.locale.phones)) }, says: []string{"locale"}},
	{form: "phone, national, digits alone, beside a word", kind: personal.Phone, make: func(g *generator) string { return bare(g.fill(pick(g, g.locale.phones))) }, says: []string{"locale"}},
	{form: "card", kind: personal.Card, make: func(g *generator) string { return g.card() }},
	{form: "card, in groups", kind: personal.Card, make: func(g *generator) string { return grouped(g.card(), pick(g, []string{" ", "-"})) }},
	{form: "IBAN", kind: personal.IBAN, make: func(g *generator) string { return g.iban() }},
	{form: "IBAN, in groups", kind: personal.IBAN, make: func(g *generator) string { return grouped(g.iban(), " ") }},
	{form: "BSN, beside a word", kind: personal.BSN, make: (*generator).bsn, says: []string{"Mijn BSN is {}", "burgerservicenummer: {}", "bsn {} aub aanpassen"}},
	{form: "BSN, in a field of that name", kind: personal.BSN, make: (*generator).bsn, key: "klant_bsn"},
	{form: "BSN, nothing beside it", kind: personal.BSN, make: func(g *generator) string { return bare(g.bsn()) }},
	{form: "SSN, with dashes", kind: personal.SSN, make: func(g *generator) string { return g.ssn("-") }},
	{form: "SSN, beside a word", kind: personal.SSN, make: func(g *generator) string { return g.ssn(pick(g, []string{"", " ", "-"})) }, says: []string{"SSN: {}", "my social security number is {}", "ssn {}"}},
	{form: "SSN, nothing beside it", kind: personal.SSN, make: func(g *generator) string { return g.ssn("") }},
	{form: "IPv4", kind: personal.IP, make: (*generator).ipv4},
	{form: "IPv6", kind: personal.IP, make: (*generator).ipv6},
	{form: "JSON Web Token", kind: personal.Token, make: (*generator).jwt},
	{form: "secret in a query", kind: personal.Secret, make: (*generator).secret, says: []string{
		"see https://shop.example/reset?token={}", "GET /login?user=7&password={} 200", "https://api.shop.example/v1?api_key={}&page=2", "/#access_token={}&type=bearer", `{"password":"{}","remember":true}`,
	}},
}

func (g *generator) personal(m maker) Case {
	value := m.make(g)
	var key, text string
	switch {
	case m.key != "":
		key, text = m.key, "{}"
	case len(m.says) == 1:
		text = pick(g, g.locale.says)
	case m.says != nil:
		text = pick(g, m.says)
	case m.bare:
		text = pick(g, bareCarriers)
	default:
		text = g.carrier()
	}
	start := strings.Index(text, "{}")
	if start < 0 { // in a place that encodes
		text = strings.Replace(text, "{%}", "{}", 1)
		start = strings.Index(text, "{}")
		value = url.QueryEscape(value)
	}
	return Case{
		Form: m.form, Region: g.locale.region, Key: key,
		Text:  text[:start] + value + text[start+2:],
		Truth: []personal.Finding{{Start: start, End: start + len(value), Kind: m.kind}},
	}
}

// carriers are what personal data, and what looks like it, turns up in. {%} is a
// place that is percent-encoded.
var carriers = []string{
	"{}", "{}", "Search results for {} - Shop", "Welcome back, {} | My account", "https://shop.example/search?q={%}&page=2", "/account/{%}/orders",
	"ref={%}", `{"note":"{}","step":3}`, "2026-11-23T10:15:30Z ERROR checkout: {} failed after 3 tries", "<b>{}</b>", "user,{},42,EUR", "[{}]", "Re: {}", "a\t{}\tb",
	"https://mail.example/u/0/#search/{%}", "({})", "“{}”", "id: {}; retry: 2",
}

// bareCarriers leave a value as it is.
var bareCarriers = []string{"{}", "q: {}", "https://shop.example/r/{}", "Answer to {} please", `{"u":"{}"}`, "x={}&page=2"}

func (g *generator) carrier() string {
	if g.IntN(3) == 0 {
		return pick(g, g.locale.tells)
	}
	return pick(g, carriers)
}

func (g *generator) email() string {
	first, last := ascii(pick(g, g.locale.first)), ascii(pick(g, g.locale.last))
	local := pick(g, []string{
		first + "." + last, first[:1] + last, last + g.digits(2), first + "_" + g.digits(4), first + "+shop", "x" + g.hex(6), first + "-" + last,
		strings.ToUpper(first), last + "." + first + "+news-" + g.digits(3), "o'" + last,
	})
	domain := pick(g, g.locale.mail)
	switch g.IntN(10) {
	case 0:
		domain = pick(g, []string{"mail.uni-" + last + ".edu", last + ".photography", "corp." + last + ".co.uk", last + ".amsterdam", "post.xn--" + "mller-kva.de", last + "-" + first + ".com.au", "müller-" + last + ".de", first + ".github.io"})
	case 1:
		domain = strings.ToUpper(domain)
	}
	return local + "@" + domain
}

// ascii is a name as in an address.
func ascii(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ' || r == '\'':
			return -1
		case r < unicode.MaxASCII:
			return unicode.ToLower(r)
		}
		return rune("aeiou"[r%5])
	}, name)
}

func (g *generator) international() string {
	l := g.locale
	national := g.fill(pick(g, l.phones))
	if l.region == "US" {
		national = strings.TrimPrefix(national, "1-")
	}
	rest := strings.TrimLeft(strings.TrimPrefix(strings.TrimPrefix(national, "("), l.trunk), " ")
	rest = strings.Replace(rest, ")", "", 1)
	switch g.IntN(6) {
	case 0, 1:
		return "+" + l.code + bare(rest)
	case 2:
		return "00" + l.code + bare(rest)
	case 3:
		if l.trunk == "" {
			return "+" + l.code + "-" + strings.ReplaceAll(rest, " ", "-")
		}
		return "+" + l.code + " (" + l.trunk + ")" + rest
	default:
		return "+" + l.code + " " + rest
	}
}

// bare are the digits alone.
func bare(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsDigit(r) || unicode.IsLetter(r) {
			return r
		}
		return -1
	}, text)
}

func grouped(text, separator string) string {
	var groups []string
	for len(text) > 4 {
		groups, text = append(groups, text[:4]), text[4:]
	}
	return strings.Join(append(groups, text), separator)
}

func (g *generator) card() string {
	number := g.fill(pick(g, []string{
		"4##############", "4##############", "51#############", "55#############", "2221###########", "2699###########", "34############", "37############",
		"6011###########", "65#############", "3528###########", "3589###########", "36###########", "62#############", "6759###########",
	}))
	sum := 0
	for i := range len(number) { // from the right, the check digit is yet to come
		d := int(number[len(number)-1-i] - '0')
		if i%2 == 0 {
			d = d*2/10 + d*2%10
		}
		sum += d
	}
	return number + string(rune('0'+(10-sum%10)%10))
}

func (g *generator) iban() string {
	l := g.locale
	for l.iban == "" {
		l = pick(g, locales)
	}
	country, account := l.region, g.fill(l.iban)
	rest := 0
	for _, r := range account + country + "00" {
		if unicode.IsDigit(r) {
			rest = (rest*10 + int(r-'0')) % 97
		} else {
			rest = (rest*100 + int(r-'A') + 10) % 97
		}
	}
	return fmt.Sprintf("%s%02d%s", country, 98-rest, account)
}

func (g *generator) bsn() string {
	for {
		text, sum := g.digits(9), 0
		for i, r := range text[:8] {
			sum += (9 - i) * int(r-'0')
		}
		if last := int(text[8] - '0'); sum%11 == last && text[0] != '0' {
			return pick(g, []string{text, text[:4] + "." + text[4:6] + "." + text[6:]})
		}
	}
}

func (g *generator) ssn(separator string) string {
	area := 1 + g.IntN(898)
	if area >= 666 {
		area++
	}
	return fmt.Sprintf("%03d%s%02d%s%04d", area, separator, 1+g.IntN(99), separator, 1+g.IntN(9999))
}

func (g *generator) ipv4() string {
	return fmt.Sprintf("%d.%d.%d.%d", pick(g, []int{31, 77, 84, 145, 192, 203, 62, 8, 10}), g.IntN(256), g.IntN(256), 1+g.IntN(254))
}

func (g *generator) ipv6() string {
	var b [16]byte
	for i := range b {
		b[i] = byte(g.IntN(256))
	}
	b[0], b[1] = 0x2a, pick(g, []byte{0x00, 0x01, 0x02, 0x10})
	if g.IntN(2) == 0 {
		clear(b[4:12])
	}
	address := netip.AddrFrom16(b)
	if g.IntN(4) == 0 {
		return strings.ToUpper(address.StringExpanded())
	}
	return address.String()
}

func (g *generator) jwt() string {
	part := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	header := pick(g, []string{`{"alg":"HS256","typ":"JWT"}`, `{"alg":"RS256","kid":"` + g.hex(8) + `"}`, `{"typ":"JWT","alg":"ES256"}`})
	signature, _ := hex.DecodeString(g.hex(64))
	return part(header) + "." + part(`{"sub":"`+g.digits(8)+`","iat":17`+g.digits(8)+`}`) + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func (g *generator) secret() string {
	return pick(g, []string{g.hex(32), "hunter" + g.digits(2), base64.RawURLEncoding.EncodeToString([]byte(g.hex(18))), "Zomer" + g.digits(4) + "!", g.digits(6)})
}

// nearMiss makes what looks personal and is not.
type nearMiss struct {
	form string
	make func(*generator) string
	as   []string // what it stands in; nil for any carrier
}

var nearMisses = []nearMiss{
	{"order number", func(g *generator) string {
		return pick(g, []string{"1000" + g.digits(5), "ORD-" + g.digits(8), "#" + g.digits(6), g.fill("3#######-N"), "SO" + g.digits(7), g.digits(10), g.digits(12), g.digits(16)})
	}, []string{"Order {} has shipped", "bestelling {} is onderweg", "{}", "Ihre Bestellung {}", "https://shop.example/orders/{}", "commande {}"}},
	{"order number of a marketplace", func(g *generator) string { return g.fill("30#-#######-#######") }, nil},
	{"padded number", func(g *generator) string {
		return pick(g, []string{"0000" + g.digits(6), "00" + g.digits(8), "000" + g.digits(8), "00000" + g.digits(4)})
	}, nil},
	{"Unix time", func(g *generator) string { return pick(g, []string{"17", "16"}) + g.digits(pick(g, []int{8, 11, 14})) }, nil},
	{"date and time", func(g *generator) string {
		y, m, d := 2000+g.IntN(27), 1+g.IntN(12), 1+g.IntN(28)
		h, mi := g.IntN(24), g.IntN(60)
		return fmt.Sprintf(pick(g, []string{
			"%04d-%02d-%02dT%02d:%02d:00Z", "%04d-%02d-%02d %02d:%02d", "%04d/%02d/%02d %02d.%02d", "%04d%02d%02d%02d%02d", "%04d.%02d.%02d, %02d:%02d",
		}), y, m, d, h, mi)
	}, nil},
	{"date, day first", func(g *generator) string {
		return fmt.Sprintf(pick(g, []string{"%02d-%02d-%d", "%02d.%02d.%d", "%d/%d/%d"}), 1+g.IntN(28), 1+g.IntN(12), 1990+g.IntN(40))
	}, nil},
	{"UUID", func(g *generator) string { return g.fill("hhhhhhhh-hhhh-4hhh-8hhh-hhhhhhhhhhhh") }, nil},
	{"UUID of digits", func(g *generator) string { return g.fill("########-####-4###-8###-############") }, nil},
	{"price", func(g *generator) string {
		return pick(g, []string{"€ " + g.digits(2) + ",95", "1.2" + g.digits(2) + "," + g.digits(2) + " EUR", "$1," + g.digits(3) + ".00", g.fill("6## ### zł"), "CHF 1'" + g.digits(3) + ".50", g.fill("6## ### ### kr"), "£" + g.fill("##.##")})
	}, nil},
	{"version", func(g *generator) string {
		return pick(g, []string{"v" + g.fill("#.#.#"), g.fill("1#.0.19###.2###"), "Chrome/13" + g.digits(1) + ".0.0.0", "version 4." + g.fill("#.#.#"), g.fill("2026.1.#-rc#"), "Safari/605.1.15", "build " + g.fill("10.#.1##.##")})
	}, nil},
	{"section number", func(g *generator) string { return fmt.Sprintf("%d.%d.%d", 1+g.IntN(9), 1+g.IntN(9), 1+g.IntN(9)) }, []string{"see {} of the terms", "§ {}", "{}"}},
	{"hash", func(g *generator) string { return g.hex(pick(g, []int{7, 32, 40, 64})) }, nil},
	{"digest in base64", func(g *generator) string {
		sum, _ := hex.DecodeString(g.hex(64))
		return base64.StdEncoding.EncodeToString(sum)
	}, bareCarriers},
	{"click id", func(g *generator) string {
		sum, _ := hex.DecodeString(g.hex(80))
		return "Cj0KCQ" + base64.RawURLEncoding.EncodeToString(sum)
	}, nil},
	{"hex colour", func(g *generator) string { return "#" + g.hex(6) }, nil},
	{"coordinates", func(g *generator) string { return g.fill("5#.3######, 4.8######") }, nil},
	{"size", func(g *generator) string {
		return pick(g, []string{"1920x1080", "2560 × 1440", g.fill("4#-#.#"), "10-20 cm", "EU 4" + g.digits(1)})
	}, nil},
	{"EAN", func(g *generator) string { return pick(g, []string{"40", "87", "50", "978"}) + g.digits(11) }, []string{"EAN {}", "/p/{}", "{}", "product {} sold out"}},
	{"ISBN", func(g *generator) string { return g.fill("978-3-16-######-#") }, nil},
	{"parcel", func(g *generator) string {
		return pick(g, []string{g.fill("1Z999AA1##########"), g.fill("3SABCD#########"), g.fill("JJD0################"), g.fill("00340################")})
	}, []string{"Track your parcel {}", "{}", "https://parcel.example/track/{}"}},
	{"card, wrong check digit", func(g *generator) string {
		card := g.card()
		return grouped(card[:len(card)-1]+string(rune('0'+(card[len(card)-1]-'0'+1)%10)), " ")
	}, nil},
	{"IBAN, wrong check digits", func(g *generator) string { iban := g.iban(); return iban[:2] + "00" + iban[4:] }, nil},
	{"VAT number", func(g *generator) string {
		return pick(g, []string{g.fill("NL#########B01"), g.fill("DE#########"), g.fill("FR###########"), g.fill("ATU########")})
	}, nil},
	{"nine digits", func(g *generator) string { return g.fill("N########") }, []string{"{}", "klantnummer {}", "invoice {}", "/account/{}", "{} items"}},
	{"postal code", func(g *generator) string {
		return pick(g, []string{g.fill("9####-####"), g.fill("1### AA"), g.fill("7####"), "SW1A 1AA"})
	}, nil},
	{"thousands", func(g *generator) string {
		return pick(g, []string{g.fill("N# ### ###"), g.fill("N.###.###"), g.fill("N,###,###,###")})
	}, []string{"{} units sold", "{} views", "total {} EUR", "{} kr"}},
	{"handle", func(g *generator) string { return "@" + ascii(pick(g, g.locale.first)) + g.digits(2) }, nil},
	{"package", func(g *generator) string {
		return pick(g, []string{"react@18.2.0", "@scope/pkg@1.2.3", "pkg@latest", "git@github.com:org/repo.git", "go1.26@v2"})
	}, nil},
	{"file name with an at sign", func(g *generator) string {
		return pick(g, []string{"logo@2x.png", "icon-" + g.digits(2) + "@3x.webp", "hero@1x.jpg"})
	}, nil},
	{"analytics id", func(g *generator) string { return g.fill("GA1.2.1########.17########") }, nil},
	{"product id of a shop", func(g *generator) string {
		return pick(g, []string{"gid://shopify/Product/" + g.digits(13), g.fill("7############"), g.fill("N#############")})
	}, nil},
	{"slug", func(g *generator) string {
		return pick(g, []string{"running-shoes-waterproof-blue", "internationalisation", "Donaudampfschifffahrtsgesellschaft", "frequently/asked/questions"})
	}, nil},
	{"code", func(g *generator) string {
		return pick(g, []string{"std::vector<int>", "face::bad", "a ? b : c", "10:30:45", "aspect 16:9", "00:1A:2B:3C:4D:5E", "x = y == z"})
	}, nil},
	{"scores", func(g *generator) string { return pick(g, []string{"6-4 6-3 7-5", "3:2 (1:1)", "2019-2026", "24/7"}) }, nil},
	{"parameter of a shop", func(g *generator) string {
		return pick(g, []string{"code=SAVE" + g.digits(2), "mobile=true", "size=42&color=" + g.hex(6), "sort=price", "page=" + g.digits(2), "utm_source=newsletter", "variant=" + g.digits(14), "q=name tags"})
	}, []string{"https://shop.example/p?{}", "{}", "clicked {}"}},
	{"serial number", func(g *generator) string {
		return pick(g, []string{g.fill("S/N 0##A###"), g.fill("06-####"), g.fill("A-###-##-####"), g.fill("##-###-##")})
	}, nil},
	{"sentence", func(g *generator) string {
		return pick(g, []string{"Mail us any time at the usual place", "call 112 in an emergency", "100% cotton, 50 %20off", "See you at 10 @ the office", "tokens: 3 = none", "phone cases from 9.95"})
	}, []string{"{}"}},
}

func (g *generator) near(m nearMiss) Case {
	text := g.carrier()
	if m.as != nil {
		text = pick(g, m.as)
	}
	value := m.make(g)
	text = strings.Replace(text, "{%}", url.QueryEscape(value), 1)
	return Case{Form: m.form, Region: g.locale.region, Text: strings.Replace(text, "{}", value, 1)}
}
