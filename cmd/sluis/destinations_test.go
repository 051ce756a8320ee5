package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluis-cdp/sluis/plugins/meta/metatest"
)

// An address goes from a sync's mapping through the plugin's process to Meta,
// and gets there as the hash that Meta publishes. A mapping that it would not
// take is refused with file and line.
func TestDestinations(t *testing.T) {
	const audience = "23842587999990123"
	meta := metatest.New(audience, "1")
	defer meta.Close()
	dir := newWorkspace(t)
	path := filepath.Join(dir, "syncs", "ads.yaml")
	file := fmt.Sprintf(`model: pricing_and_chat
key: profile_id
purpose: advertising
destination: meta-audience
config: {access_token: {env: SLUIS_TEST_TOKEN}, audience_id: "%s", host: "%s"}
mapping:
  - {field: EMAIL, sealed: email}
  - {field: phone, sealed: phone}
`, audience, meta.URL)
	if err := os.WriteFile(path, []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SLUIS_TEST_TOKEN", meta.Token)
	sluis := func(want int, arguments ...string) string {
		t.Helper()
		var out bytes.Buffer
		if code := run(context.Background(), append([]string{"sluis", "--workspace", dir, "destinations"}, arguments...), &out, &out); code != want {
			t.Errorf("%v: exit %d, want %d: %s", arguments, code, want, out.String())
		}
		if strings.Contains(out.String(), meta.Token) || strings.Contains(out.String(), "John_Smith") {
			t.Errorf("%v: a secret or a value in %s", arguments, out.String())
		}
		return out.String()
	}

	if out := sluis(1, "check"); !strings.Contains(out, "ads.yaml:8: mapping: phone: there is no such field; there are EMAIL") {
		t.Errorf("the mapping's mistake is not told: %s", out)
	}
	sluis(1, "test", "ads", "EMAIL=John_Smith@gmail.com")
	if len(meta.Bodies()) > 0 {
		t.Error("with that mistake something was sent")
	}
	edit(t, path, "field: phone", "field: PHONE")
	sluis(0, "check", "ads")
	sluis(0, "test", "ads", "EMAIL=John_Smith@gmail.com", "PHONE=(650)555-1212")
	if n := len(meta.Users(audience)); n != 0 {
		t.Errorf("the test left %d members", n)
	}
	if out := sluis(0, "test", "--keep", "ads", "EMAIL=John_Smith@gmail.com", "PHONE=(650)555-1212"); !strings.Contains(out, "PHONE is not a phone number") {
		t.Errorf("nobody says that the number was left out: %s", out)
	}
	users := meta.Users(audience)
	if len(users) != 1 || users[0]["EMAIL"] != "62a14e44f765419d10fea99367361a727c12365e2520f32218d505ed9aa0f62f" || users[0]["PHONE"] != "" {
		t.Errorf("the audience has %v", users)
	}
	sluis(2, "test", "ads", "SHOE=43")
	sluis(2, "check", "nothing")
	sluis(2, "ls", "nothing")
	if out := sluis(0, "ls"); !strings.Contains(out, "postgres") {
		t.Errorf("ls: %s", out)
	}

	edit(t, path, "audience_id: \""+audience, "audience_id: \"42")
	if out := sluis(1, "check", "ads"); !strings.Contains(out, "there is nothing with the configured id") {
		t.Errorf("check: %s", out)
	}
}
