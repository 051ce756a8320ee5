package main

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
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
		if !contains(s.Cannot, c.Call) {
			calls = append(calls, c)
		}
	}
	return calls
}

func contains(list []string, s string) bool {
	for _, element := range list {
		if element == s {
			return true
		}
	}
	return false
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
