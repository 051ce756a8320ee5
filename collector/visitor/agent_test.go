package visitor

import (
	"net/http"
	"os"
	"strings"
	"testing"
)

func newObserver(t testing.TB) *Observer {
	t.Helper()
	o, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// lines reads a file of user agents; testdata/README.md has what they are.
func lines(t testing.TB, name string) []string {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

// TestPeopleAreNoBots: not one browser or app of a person is flagged.
func TestPeopleAreNoBots(t *testing.T) {
	o := newObserver(t)
	list := lines(t, "browsers.txt")
	if len(list) < 2000 {
		t.Fatalf("only %d", len(list))
	}
	for _, agent := range list {
		if a := o.Agent(Visitor{}, agent); a.Bot != "" {
			t.Errorf("%s: %s", agent, a.Bot)
		}
	}
}

// TestBotsAreFound: all that are on the list, and most of those that are on
// another, most of which are long gone.
func TestBotsAreFound(t *testing.T) {
	o := newObserver(t)
	for file, atLeast := range map[string]float64{"bots.txt": 1, "others.txt": 0.65} {
		list, found, missed := lines(t, file), 0, []string{}
		for _, agent := range list {
			if o.Agent(Visitor{}, agent).Bot != "" {
				found++
			} else {
				missed = append(missed, agent)
			}
		}
		share := float64(found) / float64(len(list))
		t.Logf("%s: %d of %d", file, found, len(list))
		if share < atLeast {
			t.Errorf("%s: %.3f are found, want %v; not %s", file, share, atLeast, strings.Join(missed[:min(len(missed), 20)], "\n"))
		}
	}
}

// TestReasons: a reason names the kind and, where it is known, the program.
func TestReasons(t *testing.T) {
	o := newObserver(t)
	for agent, want := range map[string]string{
		"Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)":                                                 "crawler: googlebot",
		"Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)":                                                  "crawler: bingbot",
		"Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)":                   "ai agent: gptbot",
		"Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko); compatible; ChatGPT-User/1.0; +https://openai.com/bot":                "ai agent: chatgpt-user",
		"Mozilla/5.0 (compatible; OAI-SearchBot/1.0; +https://openai.com/searchbot)":                                               "ai agent: oai-searchbot",
		"Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; ClaudeBot/1.0; +claudebot@anthropic.com)":                  "ai agent: claudebot",
		"Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; Claude-User/1.0; +Claude-User@anthropic.com)":              "ai agent: claude-user",
		"Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; PerplexityBot/1.0; +https://perplexity.ai/perplexitybot)":  "ai agent: perplexitybot",
		"Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; Perplexity-User/1.0; +https://perplexity.ai/pu)":           "ai agent: perplexity-user",
		"Mozilla/5.0 (Linux; Android 5.0) AppleWebKit/537.36 (KHTML, like Gecko) Mobile Safari/537.36 (compatible; Bytespider; x)": "ai agent: bytespider",
		"CCBot/2.0 (https://commoncrawl.org/faq/)":                                                                                 "ai agent: ccbot",
		"meta-externalagent/1.1 (+https://developers.facebook.com/docs/sharing/webmasters/crawler)":                                "ai agent: meta-externalagent",
		"Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; Amazonbot/0.1; +https://developer.amazon.com/amazonbot)":   "ai agent: amazonbot",
		"Mozilla/5.0 (compatible; Google-Extended)":                                                                                "ai agent: google-extended",
		"Mozilla/5.0 (compatible; Applebot-Extended/0.1)":                                                                          "ai agent: applebot-extended",
		"DuckAssistBot/1.2; (+http://duckduckgo.com/duckassistbot.html)":                                                           "ai agent: duckassistbot",
		"Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; MistralAI-User/1.0; +https://docs.mistral.ai/robots)":      "ai agent: mistralai-user",
		"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/120.0.0.0 Safari/537.36":            "headless browser: headlesschrome",
		"python-requests/2.31.0": "http library: python-requests",
		"curl/8.5.0":             "http library: curl",
		"Java/17.0.2":            "http library: other",
		"SomeNewThing-Crawler/0.1 (john.doe@acme.com)": "crawler: other",
		"python-requests/2.31.0 GPTBot/1.2":            "ai agent: gptbot",
		"":                                             "",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/143.0.0.0 Safari/537.36": "",
	} {
		for range 2 { // looked at, and remembered
			if got := o.Agent(Visitor{}, agent).Bot; got != want {
				t.Errorf("%s: %q, want %q", agent, got, want)
			}
		}
	}
}

// TestLibraries: what a server sends with is no bot by itself.
func TestLibraries(t *testing.T) {
	o := newObserver(t)
	const chrome = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/143.0.0.0 Safari/537.36"
	for _, test := range []struct {
		name, request string
		headers       []string
		own, want     string
	}{
		{"SDK in Go", "Go-http-client/1.1", nil, "", ""},
		{"SDK in Python", "python-requests/2.31.0", nil, "", ""},
		{"SDK in Node", "analytics-node/6.2.0", nil, "", ""},
		{"by hand", "curl/8.5.0", nil, "", ""},
		{"SDK in Python tells of a visitor", "python-requests/2.31.0", nil, chrome, ""},
		{"SDK in Python tells of a crawler", "python-requests/2.31.0", nil, "Mozilla/5.0 (compatible; Googlebot/2.1)", "crawler: googlebot"},
		{"SDK in Go tells of a visitor with a library", "Go-http-client/1.1", nil, "python-requests/2.31.0", "http library: python-requests"},
		{"a library that says it is a page", "python-requests/2.31.0", []string{"Origin", "https://shop.example"}, "", "http library: python-requests"},
		{"a crawler's own request", "Mozilla/5.0 (compatible; GPTBot/1.2)", nil, "", "ai agent: gptbot"},
		{"a browser", chrome, []string{"Origin", "https://shop.example"}, "", ""},
		{"a browser behind a network that strips Accept-Language", chrome, []string{"Origin", "https://shop.example", "Sec-Fetch-Site", "cross-site"}, "", ""},
		{"prefetch", chrome, []string{"Sec-Purpose", "prefetch"}, "", "prefetch"},
		{"prerender", chrome, []string{"Sec-Purpose", "prefetch;prerender"}, "", "prerender"},
		{"prefetch of Firefox, once", chrome, []string{"X-Moz", "prefetch"}, "", "prefetch"},
		{"headless with a false user agent", chrome, []string{"Sec-Ch-Ua", `"HeadlessChrome";v="120"`}, chrome, "headless browser: headlesschrome"},
		{"a crawler that prefetches", "Googlebot/2.1", []string{"Sec-Purpose", "prefetch"}, "", "crawler: googlebot"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := &http.Request{Header: http.Header{"User-Agent": {test.request}}, RemoteAddr: "192.0.2.1:1"}
			for i := 0; i+1 < len(test.headers); i += 2 {
				r.Header.Set(test.headers[i], test.headers[i+1])
			}
			if got := o.Agent(o.Observe(r), test.own).Bot; got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

// TestReasonIsOurs: whatever a user agent says, nothing of it is in the reason.
func TestReasonIsOurs(t *testing.T) {
	o := newObserver(t)
	for _, agent := range append(lines(t, "bots.txt"), lines(t, "others.txt")...) {
		const canary = "emma.zeisig@example.com"
		reason := o.Agent(Visitor{}, canary+" "+agent+" "+canary).Bot
		if strings.Contains(reason, "zeisig") || len(reason) > 64 || strings.Trim(reason, "abcdefghijklmnopqrstuvwxyz0123456789-: ") != "" {
			t.Errorf("%q", reason)
		}
	}
}

// TestManyAgentsAreForgotten: memory is bounded whatever is sent.
func TestManyAgentsAreForgotten(t *testing.T) {
	o := newObserver(t)
	for i := range 2 * knownAgents {
		o.Agent(Visitor{}, strings.Repeat("x", i%5000)+"Googlebot/")
	}
	if n := o.agents.Len(); n > knownAgents {
		t.Errorf("%d are remembered", n)
	}
}

func TestDeviceClass(t *testing.T) {
	o := newObserver(t)
	for agent, want := range map[string]string{
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_7 like Mac OS X) Mobile/15E148":       "mobile",
		"Mozilla/5.0 (iPad; CPU OS 18_7 like Mac OS X)":                              "tablet",
		"Mozilla/5.0 (Linux; Android 15; Pixel 9) Chrome/143.0 Mobile Safari/537.36": "mobile",
		"Mozilla/5.0 (Linux; Android 15; SM-X910) Chrome/143.0 Safari/537.36":        "tablet",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64)":                                  "desktop",
		"analytics-node/6.2.0": "other",
		"":                     "other",
	} {
		if got := o.Agent(Visitor{}, agent).Device; got != want {
			t.Errorf("%s: %s, want %s", agent, got, want)
		}
	}
}

func BenchmarkAgent(b *testing.B) {
	o := newObserver(b)
	list := append(lines(b, "browsers.txt"), lines(b, "bots.txt")...)
	b.Run("new", func(b *testing.B) {
		for i := range b.N {
			o.crawlers.find(list[i%len(list)])
		}
	})
	b.Run("remembered", func(b *testing.B) {
		for i := range b.N {
			o.Agent(Visitor{}, list[i%len(list)])
		}
	})
	// What a client could have us spend at most.
	hostile := strings.Repeat("ogle ", maxAgent/5)
	b.Run("hostile", func(b *testing.B) {
		for range b.N {
			o.crawlers.find(hostile)
		}
	})
}
