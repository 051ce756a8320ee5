package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sluis-cdp/sluis/sql/runner/artifact"
)

// block is a fenced block of a text in Markdown.
var block = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")

// TestFirstHour does what sql/README.md has a newcomer do, step by step, and
// looks whether each does what it is said to.
func TestFirstHour(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../sql/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(readme), "\n### The first hour\n")
	section, _, _ = strings.Cut(section, "\n### ")
	dir := t.TempDir()
	shop := filepath.Join(dir, "shop")
	said := map[string]string{}
	for _, m := range block.FindAllStringSubmatch(section, -1) {
		switch language, text := m[1], m[2]; language {
		case "sh":
			for line := range strings.Lines(text) {
				at := shop
				if _, err := os.Stat(shop); err != nil {
					at = dir
				}
				said[strings.TrimSpace(line)] = shell(t, at, line)
			}
		case "diff":
			applyDiff(t, shop, text)
		default: // a file, named in its first line
			name, _, _ := strings.Cut(text, "\n")
			writeText(t, filepath.Join(shop, strings.TrimLeft(name, "-# ")), text)
		}
	}
	for command, want := range map[string]string{
		"sluis models build":                            `\d+ built, \d+ passed in`,
		"sluis models show lapsed_customers":            `(?s)profile_id +entered_at.*pr_`,
		"sluis models build --select lapsed_customers+": `built +lapsed_customers`,
		"sluis models show bag_lovers":                  `(?s)profile_id +entered_at.*pr_`,
		"sluis models build --select +bag_lovers":       `(?s)built +bag_lovers.*passed +unique_bag_lovers_profile_id`,
		`sluis models show --inline "select count(*) as members from {{ ref('bag_lovers') }}"`: `(?s)members.*[1-9]`,
		"sluis models docs": `The page is .*index.html`,
	} {
		if got, ok := said[command]; !ok || !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%s: (it is there: %v) said\n%s\nwant %s", command, ok, got, want)
		}
	}
	if strings.Contains(said["sluis models build --select lapsed_customers+"], " profiles ") {
		t.Error("more was built than what is made of the model")
	}
	// What the runs left, and that none of it has who the people are.
	results, err := artifact.Read[artifact.RunResults](filepath.Join(shop, "data", "target"), artifact.RunResultsFile)
	if err != nil || len(results.Results) == 0 || results.Args.Which != "build" {
		t.Errorf("run_results.json: %d results of %q, %v", len(results.Results), results.Args.Which, err)
	}
	page, err := os.ReadFile(filepath.Join(shop, "data", "target", "index.html"))
	if err != nil || !strings.Contains(string(page), "bag_lovers") || regexp.MustCompile(`pr_[0-9a-f]{24}`).Match(page) {
		t.Errorf("the page (%d bytes): %v", len(page), err)
	}
}

// shell runs a line as a user would type it.
func shell(t *testing.T, dir, line string) string {
	t.Helper()
	bin := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	writeText(t, filepath.Join(bin, "sluis"), "#!/bin/sh\nSLUIS_TEST_AS_PROGRAM=1 exec '"+self+"' \"$@\"\n")
	if err := os.Chmod(filepath.Join(bin, "sluis"), 0o700); err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), "sh", "-c", line)
	command.Dir, command.Env = dir, append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return string(out)
}

func writeText(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// applyDiff replaces a line of a file, as a diff has it.
func applyDiff(t *testing.T, dir, diff string) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(diff, "\n"), "\n")
	file := filepath.Join(dir, strings.TrimPrefix(lines[0], "--- "))
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, after := strings.TrimPrefix(lines[1], "-"), strings.TrimPrefix(lines[2], "+")
	if !strings.Contains(string(text), before+"\n") {
		t.Fatalf("%s has no line %q", file, before)
	}
	writeText(t, file, strings.Replace(string(text), before+"\n", after+"\n", 1))
}

// TestDocsAreServed asks `models docs --serve` for its page, and for more.
func TestDocsAreServed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "shop")
	if _, err := initWorkspace(dir, initOptions{Name: "shop"}); err != nil {
		t.Fatal(err)
	}
	reader, writer := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		ended <- run(t.Context(), []string{"sluis", "models", "docs", "--serve", "127.0.0.1:0", "-w", dir}, writer, io.Discard)
		writer.Close()
	}()
	line := make([]byte, 200)
	n, err := reader.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	url := regexp.MustCompile(`http://\S+`).FindString(string(line[:n]))
	for path, want := range map[string]int{"": http.StatusOK, "run_results.json": http.StatusNotFound, "../../keys": http.StatusNotFound} {
		response, err := client.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != want || want == http.StatusOK && !strings.Contains(string(body), "good_customers") {
			t.Errorf("GET /%s: %d, %d bytes, %v", path, response.StatusCode, len(body), err)
		}
	}
}

// TestProgressOnATerminal looks at what is written over and over on one line.
func TestProgressOnATerminal(t *testing.T) {
	var out strings.Builder
	p := &progress{out: &out, width: 60}
	p.w = nil
	p.of, p.running, p.done = 4, []string{"profiles", "sessions_with_quite_a_long_name", "more_of_them"}, 2
	p.draw()
	p.clear()
	got := out.String()
	if want := "\r\x1b[K  ━━━━━━━━━━────────── 2 of 4: profiles, sessions_with_qui…\r\x1b[K"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if p := (&progress{}); p.width == 0 {
		p.draw() // on no terminal: nothing is written
	}
}

// TestArtifactsHaveAllKeys holds what is written against the keys that tools
// for dbt look up.
func TestArtifactsHaveAllKeys(t *testing.T) {
	text, err := json.Marshal(artifact.Result{})
	if err != nil {
		t.Fatal(err)
	}
	var keys map[string]any
	if err := json.Unmarshal(text, &keys); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"status", "timing", "thread_id", "execution_time", "adapter_response", "message", "failures", "unique_id", "compiled", "compiled_code", "relation_name", "batch_results"} {
		if _, ok := keys[key]; !ok {
			t.Errorf("a result has no %s", key)
		}
	}
}
