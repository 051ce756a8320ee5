package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// The compatibility matrix: testdata/sdk/calls.yaml is what each SDK is made to
// do and what has to come of it, testdata/sdk/sdks.yaml are the SDKs. The runs
// are in sdk_test.go, behind the build tag sdk.

// sdkCall is a call of the script.
type sdkCall struct {
	About    string
	Call     string
	Send     map[string]any
	Outcome  string
	Lands    map[string]any    // columns of sluis.events
	Vault    map[string]string // "purpose field": value
	Consents []string          // "kind id agrees to purpose", or "refuses purpose"
}

// event names the call among those of an SDK: its type, with the name of a
// track.
func (c sdkCall) event() string {
	if c.Call == "track" {
		return c.Send["event"].(string)
	}
	return c.Call
}

// sdk is an SDK of the matrix, in one of its modes.
type sdk struct {
	SDK, Mode, Runs string
	Library         struct{ Name, Version string } // what it calls itself
	Site            bool                           // sends to a path of the page's own site
	Retries         string                         // "no" if it gives an event up that it could not deliver
	Clock           string                         // "its own" if it cannot be told when something happened
	Cannot          []string
	Lands           map[string]map[string]any // by event, "*" for all
}

func (s sdk) String() string { return strings.TrimSpace(s.SDK + " " + s.Mode) }

// calls are those that the SDK can make.
func (s sdk) calls(all []sdkCall) []sdkCall {
	var calls []sdkCall
	for _, c := range all {
		if !slices.Contains(s.Cannot, c.Call) {
			calls = append(calls, c)
		}
	}
	return calls
}

func readMatrix(t *testing.T) (calls []sdkCall, sdks []sdk) {
	t.Helper()
	for file, into := range map[string]any{"calls.yaml": &calls, "sdks.yaml": &sdks} {
		text, err := os.ReadFile("testdata/sdk/" + file)
		if err != nil {
			t.Fatal(err)
		}
		decoder := yaml.NewDecoder(bytes.NewReader(text))
		decoder.KnownFields(true)
		if err := decoder.Decode(into); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	return calls, sdks
}

// TestREADMEShowsTheMatrix holds the README to the SDKs that are run, and to the
// versions that are pinned.
func TestREADMEShowsTheMatrix(t *testing.T) {
	text, err := os.ReadFile("../../collector/README.md")
	if err != nil {
		t.Fatal(err)
	}
	calls, sdks := readMatrix(t)
	if table := matrixTable(t, calls, sdks); !strings.Contains(string(text), table) {
		t.Errorf("collector/README.md does not show the matrix as it is run:\n%s", table)
	}
}

// matrixTable has a row for each SDK, and its modes in it.
func matrixTable(t *testing.T, calls []sdkCall, sdks []sdk) string {
	t.Helper()
	runs := map[string]string{"node": "Node.js", "go": "Go", "python": "Python", "chromium": "Chromium"}
	var table strings.Builder
	table.WriteString("| SDK | version | in | calls compared | after a 503 |\n|---|---|---|---|---|\n")
	for i := 0; i < len(sdks); {
		s, modes, retries := sdks[i], "", ""
		for ; i < len(sdks) && sdks[i].SDK == s.SDK; i++ {
			if sdks[i].Mode != "" {
				modes += ", also " + sdks[i].Mode
			}
			if sdks[i].Site {
				modes += " and below a path of the site"
			}
			switch {
			case sdks[i].Retries != "no" && retries == "":
				retries = "tries again"
			case sdks[i].Retries == "no" && retries == "":
				retries = "gives up"
			case sdks[i].Retries == "no" && retries == "tries again":
				retries += ", not by " + sdks[i].Mode
			}
		}
		kinds := "all"
		if len(s.Cannot) > 0 {
			kinds = "all but " + strings.Join(s.Cannot, ", ")
		}
		fmt.Fprintf(&table, "| `%s`%s | %s | %s | %s | %s |\n", s.SDK, modes, s.version(t), runs[s.Runs], kinds, retries)
	}
	return table.String()
}

// TestCallsAreWhole: the script has every call and every outcome that events
// can have at once, and each row says what is to land.
func TestCallsAreWhole(t *testing.T) {
	calls, _ := readMatrix(t)
	seen := map[string]bool{}
	for _, c := range calls {
		seen[c.Call], seen[c.Outcome] = true, true
		if c.About == "" || (c.Outcome == "landed") != (c.Lands != nil) || c.Send["timestamp"] == nil || c.Send["context"] == nil {
			t.Errorf("the call %q is not whole", c.About)
		}
	}
	for _, what := range []string{"identify", "track", "page", "screen", "group", "alias", "landed", "counted", "quarantined"} {
		if !seen[what] {
			t.Errorf("no call is %s", what)
		}
	}
}

// version is the SDK's in the file that pins it.
func (s sdk) version(t *testing.T) string {
	t.Helper()
	read := func(file string) string {
		text, err := os.ReadFile("testdata/sdk/" + file)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	var pattern, text string
	switch s.Runs {
	case "go":
		text, pattern = read("go/go.mod"), `(?m)^\s+`+regexp.QuoteMeta(s.SDK)+` v(\S+)$`
	case "python":
		text, pattern = read("python/requirements.txt"), `(?m)^`+regexp.QuoteMeta(s.SDK)+`==(\S+)$`
	default:
		var lock struct {
			Packages map[string]struct{ Version string }
		}
		if err := json.Unmarshal([]byte(read("node/package-lock.json")), &lock); err != nil {
			t.Fatal(err)
		}
		text, pattern = lock.Packages["node_modules/"+s.SDK].Version, `^(\S+)$`
	}
	match := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if match == nil {
		t.Fatalf("no version of %s is pinned", s.SDK)
	}
	return match[1]
}
