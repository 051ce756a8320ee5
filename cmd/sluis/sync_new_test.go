package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A new sync is one command: its file is a good one, has the audience's purpose,
// and no secret.
func TestSyncNew(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "shop")
	if _, err := initWorkspace(dir, initOptions{Name: "shop", WriteKey: "wk"}); err != nil {
		t.Fatal(err)
	}
	sluis := func(code int, args ...string) string {
		t.Helper()
		var out bytes.Buffer
		if got := run(bounded(t), append([]string{"sluis", "--workspace", dir, "sync"}, args...), &out, &out); got != code {
			t.Fatalf("%v: exit code %d, want %d:\n%s", args, got, code, out.String())
		}
		return out.String()
	}
	out := sluis(0, "new", "--audience", "pricing_and_chat", "--destination", "webhook", "--set", "url=https://example.org/hook",
		"--set", "secret=file:keys/webhook.secret", "--field", "id=profile_id", "--field", "email=sealed:email", "--min-size", "50", "chatters")
	if !strings.Contains(out, "sluis sync plan chatters") {
		t.Errorf("it does not say what is next:\n%s", out)
	}
	text, err := os.ReadFile(filepath.Join(dir, "syncs/chatters.yaml"))
	want := `model: pricing_and_chat
key: profile_id
purpose: marketing
destination: webhook
config:
  url: https://example.org/hook
  secret: {file: keys/webhook.secret}
mapping:
  - field: id
    column: profile_id
  - field: email
    sealed: email
mode: mirror
guards:
  min_size: 50
`
	if err != nil || string(text) != want {
		t.Errorf("%v: the file is\n%s", err, text)
	}
	if out := sluis(0, "ls"); !strings.Contains(out, "chatters") {
		t.Errorf("ls:\n%s", out)
	}
	if out := sluis(0, "new", "--print", "--audience", "pricing_and_chat", "--destination", "meta-audience", "--set", "audience_id=1", "--set", "access_token=env:META", "ads"); !strings.Contains(out, "field: EMAIL\n    sealed: email") {
		t.Errorf("an ad platform gets\n%s", out)
	}
	// An audience of accounts is sent as long as that many of their members agree.
	edit(t, filepath.Join(dir, "sql", "dbt_project.yml"), "audiences: [", "audiences: [active_accounts, ")
	if out := sluis(0, "new", "--print", "--audience", "active_accounts", "--destination", "file", "--set", "directory=data/out", "companies"); !strings.HasPrefix(out, `entity: account
members:
  consenting: 2
model: active_accounts
key: account_id
`) {
		t.Errorf("an audience of accounts gets\n%s", out)
	}
	if out := sluis(0, "new", "--print", "--audience", "pricing_and_chat", "--destination", "webhook", "--set", "url=https://example.org", "--set", "secret=env:S", "--mode", "update", "crm"); !strings.Contains(out, "mode: update") {
		t.Errorf("a sync that only updates is\n%s", out)
	}
	if err := os.WriteFile(filepath.Join(dir, "syncs/only.yaml"), []byte(`model: profiles
key: profile_id
purpose: marketing
destination: slack
mapping: [{field: id, column: profile_id}]
mode: update
`), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := sluis(1, "plan", "only"); !strings.Contains(out, "only.yaml:6: mode update: the destination slack would make what is not there") {
		t.Errorf("plan:\n%s", out)
	}
	if _, err := os.Stat(filepath.Join(dir, "syncs/ads.yaml")); err == nil {
		t.Error("--print wrote a file")
	}
	for _, wrong := range []struct {
		want string
		args []string
	}{
		{"is there already", []string{"--audience", "pricing_and_chat", "--destination", "webhook", "--set", "url=https://example.org", "--set", "secret=env:S", "chatters"}},
		{"there is no audience \"nobody\"", []string{"--audience", "nobody", "--destination", "webhook", "x"}},
		{"there is no destination \"fax\"", []string{"--audience", "pricing_and_chat", "--destination", "fax", "x"}},
		{"is for marketing", []string{"--audience", "pricing_and_chat", "--purpose", "sale", "--destination", "webhook", "x"}},
		{"this is a secret", []string{"--audience", "pricing_and_chat", "--destination", "webhook", "--set", "url=https://example.org", "--set", "secret=whsec_1", "x"}},
		{"--set url=… is missing", []string{"--audience", "pricing_and_chat", "--destination", "webhook", "--set", "secret=env:S", "x"}},
		{"has no such setting", []string{"--audience", "pricing_and_chat", "--destination", "webhook", "--set", "url=https://example.org", "--set", "secret=env:S", "--set", "colour=red", "x"}},
		{"action_source", []string{"--model", "conversions", "--purpose", "advertising", "--destination", "meta-conversions", "--set", "dataset_id=1", "--set", "access_token=env:S", "x"}},
		{"x.yaml:10: mode update: the destination file would make what is not there: choose mode upsert", []string{"--model", "profiles", "--purpose", "marketing", "--destination", "file", "--set", "directory=data/out", "--mode", "update", "x"}},
		{"the file's name is the sync's name", []string{"--audience", "pricing_and_chat", "--destination", "file", "--set", "directory=data/out", "../x"}},
		{"say what for", []string{"--model", "profiles", "--destination", "file", "--set", "directory=data/out", "x"}},
	} {
		if out := sluis(2, append([]string{"new"}, wrong.args...)...); !strings.Contains(out, wrong.want) {
			t.Errorf("%v: want %q in\n%s", wrong.args, wrong.want, out)
		}
	}
}
