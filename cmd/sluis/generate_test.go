package main

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

// made runs a command and reads the JSON that it prints.
func made(t *testing.T, into any, args ...string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), append([]string{"sluis"}, args...), &stdout, &stderr); code != exitDone {
		t.Fatalf("%s: exit code %d\n%s%s", strings.Join(args, " "), code, stdout.String(), stderr.String())
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal(stdout.Bytes(), into); err != nil {
		t.Fatal(err)
	}
}

// A new workspace with visitors made up is green, has something in each model, and
// joins what can be known to belong together and, without shared devices, nothing
// else. Sent to a running collector, the same people become the same profiles.
func TestGenerate(t *testing.T) {
	t.Parallel()
	people := []string{"--people", "250", "--days", "45", "--withdrawals", "0.15", "--shared", "0", "--roles", "0", "--bots", "0.1"}
	straight, sent := newWorkspace(t), newWorkspace(t)
	made(t, nil, append([]string{"generate", "--workspace", straight}, people...)...)
	edit(t, filepath.Join(sent, "sluis.yaml"), "every: 1s", "every: 1h") // the models are built below, once
	p := start(t, "up", "--workspace", sent, "--listen", "127.0.0.1:0")
	made(t, nil, append([]string{"generate", "--workspace", sent, "--to", p.url}, people...)...)
	p.terminate(t)

	var findings [2]generateFindings
	for i, dir := range []string{straight, sent} {
		made(t, nil, "models", "run", "--workspace", dir)
		made(t, nil, "models", "test", "--workspace", dir)
		made(t, nil, "ledger", "--workspace", dir)
		made(t, &findings[i], "generate", "check", "--workspace", dir, "--json", "--min-precision", "1", "--min-recall", "1")
	}
	a := findings[0].Identity
	if a.Missing+a.Strangers+a.Bots > 0 || a.Found < 100 || a.AllFound == a.All {
		t.Errorf("%+v", a)
	}
	if s := findings[0].Sessions; s.Exact != s.Sessions || s.Channels != s.Exact || s.Exact < s.Visits*9/10 {
		t.Errorf("%+v", s)
	}
	// When all was received is another matter, and so, by the time that a request takes,
	// are the clocks that are set right by it.
	if findings[0].Identity != findings[1].Identity || findings[0].Sessions.Sessions != findings[1].Sessions.Sessions {
		t.Errorf("landed straight: %+v\nsent: %+v", findings[0], findings[1])
	}
	for _, model := range []string{"conversions", "attribution_credits", "profile_traits", "accounts", "pricing_and_chat", "good_customers", "audience_events", "metrics_daily"} {
		if n := query(t, straight, "select count(*) as n from sluis_models."+model)[0]["n"]; n == 0.0 {
			t.Errorf("the model %s is empty", model)
		}
	}
}

// With one device of a hundred shared, limits keep people apart, and join what can be
// known to belong together.
func TestGenerateWithSharedDevices(t *testing.T) {
	t.Parallel()
	dir := newWorkspace(t)
	made(t, nil, "generate", "--workspace", dir, "--people", "2500", "--shared", "0.01")
	made(t, nil, "models", "run", "--workspace", dir, "--select", "+identity_map +sessions")
	var f generateFindings
	made(t, &f, "generate", "check", "--workspace", dir, "--json", "--min-precision", "0.999", "--min-recall", "0.99")
	if f.Identity.Shared.Identifiers < 20 || f.Identity.Shared.Wrong > 0 || f.Sessions.Exact != f.Sessions.Sessions {
		t.Errorf("%+v", f)
	}
}

// Whoever is made up to be erased is erased, by all that they are known by.
func TestGenerateErases(t *testing.T) {
	t.Parallel()
	dir := newWorkspace(t)
	made(t, nil, "generate", "--workspace", dir, "--people", "60", "--days", "20", "--erasures", "0.2")
	made(t, nil, "models", "run", "--workspace", dir)
	var f generateFindings
	made(t, &f, "generate", "check", "--workspace", dir, "--json")
	if f.Erased < 5 || f.Present != 0 || f.Identity.Missing+f.Identity.Strangers != 0 {
		t.Errorf("%+v", f)
	}
}

func TestGenerateRefuses(t *testing.T) {
	dir := newWorkspace(t)
	fails := func(code int, says string, args ...string) {
		t.Helper()
		var stdout, stderr bytes.Buffer
		got := run(t.Context(), append([]string{"sluis", "generate"}, append(args, "--workspace", dir)...), &stdout, &stderr)
		if got != code || !strings.Contains(stderr.String(), says) {
			t.Errorf("%s: exit code %d, expected %d with %q:\n%s", strings.Join(args, " "), got, code, says, stderr.String())
		}
	}
	fails(exitFailed, "sluis generate", "check") // there is no truth yet
	fails(exitUsage, "must be from 1", "--people", "0")
	fails(exitUsage, "not both", "--people", "5", "--events", "100")
	fails(exitUsage, "in the future", "--from", "2999-01-01")
	fails(exitUsage, "from 0 to 1", "--late", "2")
	fails(exitUsage, "no source", "--source", "nowhere")
	few := []string{"--people", "5", "--days", "3"}
	made(t, nil, append([]string{"generate", "--workspace", dir}, few...)...)
	fails(exitRefused, "--seed", few...)
	fails(exitFailed, "identity_map", "check") // the models are not built
	p := start(t, "up", "--workspace", dir, "--listen", "127.0.0.1:0")
	fails(exitFailed, "a collector is running", "--people", "5", "--seed", "2")
	p.terminate(t)
}
