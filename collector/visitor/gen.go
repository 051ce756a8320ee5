//go:build ignore

// gen makes crawlers.tsv and testdata/bots.txt from crawler-user-agents.json,
// the file of the package of that name; see make crawlers.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os"
	"regexp"
	"slices"
	"strings"
)

type crawler struct {
	Pattern   string   `json:"pattern"`
	Instances []string `json:"instances"`
	Tags      []string `json:"tags"`
}

// People's own browsers have these in their user agents, or a network puts it
// in the place of theirs.
var humans = []string{
	`AP3A\.240617\.008`,   // the build of Android on phones of several makers
	`008\/`,               // ends of version numbers of Opera Mini
	`Butterfly`,           // a phone
	`Blackboard`,          // an app for students
	`Sogou`,               // a browser, too; its crawler says spider
	`Magellan`,            // a browser
	`Synapse`,             // a library of desktop programs
	`Fluid`,               // makes apps of websites
	`Code\/1\.`, `Trae\/`, // editors that show pages
	`okhttp`, `HttpUrlConnection`, `Pcore-HTTP`, // what apps on phones send with
	`Amazon CloudFront`, // the network, if it is not told to pass the browser's own on
	`GoPay`, `Jumio`,    // apps that show pages
	`ds9`, `Devin`, `Sonic`, `linko`, `Chirp|gotosocial`, // texts that are in other names as well
}

// What the list has under another kind, or not at all.
var agents = []string{
	"Amazonbot", "Applebot-Extended", "meta-externalfetcher", "NovaAct", "Timpibot", "YouBot", "PetalBot", "Diffbot", "omgili",
	"PanguBot", "cohere-training-data-crawler", "QuillBot", "GrokBot", "VelenPublicWebCrawler", "Webzio-Extended", "ICC-Crawler",
}

// kinds orders the tags that say more than that it crawls.
var kinds = []struct{ tag, kind string }{
	{"ai-crawler", "ai agent"},
	{"browser-automation", "headless browser"},
	{"http-library", "http library"},
	{"monitoring", "monitor"},
	{"social-preview", "link preview"},
	{"feed-reader", "feed reader"},
	{"scanner", "scanner"},
}

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("usage: gen crawler-user-agents.json VERSION")
	}
	text, err := os.ReadFile(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	var list []crawler
	if err := json.Unmarshal(text, &list); err != nil {
		log.Fatal(err)
	}
	rows, instances := rowsOf(list)
	head := "# Made by gen.go from crawler-user-agents " + os.Args[2] + " (MIT licence); make crawlers makes it anew. kind, name, pattern\n"
	if err := os.WriteFile("crawlers.tsv", []byte(head+strings.Join(rows, "\n")+"\n"), 0o644); err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile("testdata/bots.txt", []byte(strings.Join(instances, "\n")+"\n"), 0o644); err != nil {
		log.Fatal(err)
	}
}

// rowsOf is the table, and a user agent of each program in it.
func rowsOf(list []crawler) (rows, instances []string) {
	for _, c := range list {
		if slices.Contains(humans, c.Pattern) {
			continue
		}
		kind := "crawler"
		for _, k := range slices.Backward(kinds) {
			if slices.Contains(c.Tags, k.tag) {
				kind = k.kind
			}
		}
		for _, pattern := range alternatives(c.Pattern) {
			name := nameOf(pattern)
			if slices.ContainsFunc(agents, func(a string) bool { return strings.EqualFold(a, name) }) {
				continue
			}
			rows = append(rows, fmt.Sprintf("%s\t%s\t%s", kind, name, pattern))
		}
		if len(c.Instances) > 0 {
			instances = append(instances, strings.ReplaceAll(strings.TrimSpace(c.Instances[0]), "\n", " "))
		}
	}
	for _, a := range agents {
		rows = append(rows, fmt.Sprintf("ai agent\t%s\t%s", strings.ToLower(a), regexp.QuoteMeta(a)))
	}
	slices.Sort(rows)
	slices.Sort(instances)
	return slices.Compact(rows), slices.Compact(instances)
}

// alternatives splits a pattern that is nothing but a choice.
func alternatives(pattern string) []string {
	if strings.ContainsAny(pattern, "([") {
		return []string{pattern}
	}
	return strings.Split(pattern, "|")
}

var (
	choice = regexp.MustCompile(`\[(.)[^\]]*\]`) // [cC] is c
	noName = regexp.MustCompile(`[^a-z0-9]+`)
)

// nameOf makes a name of letters, digits and hyphens.
func nameOf(pattern string) string {
	pattern = strings.NewReplacer(`([^-]|$)`, "", `(^| )`, "", `[\s\S]*`, " ", `\d`, "", `\.`, "-", `\`, "").Replace(pattern)
	name := noName.ReplaceAllString(strings.ToLower(choice.ReplaceAllString(pattern, "$1")), "-")
	name = strings.Trim(name, "-")
	return name[:min(len(name), 40)]
}
