//go:build vault

package vault

import (
	"bytes"
	"encoding/json"
	"errors"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/consent/seal"
)

// startVault builds and starts a real Vault; see vaulttest.
func startVault(t *testing.T) *server {
	t.Helper()
	program := filepath.Join(t.TempDir(), "vaulttest")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".")
	build.Dir = "vaulttest"
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building Vault: %v\n%s", err, out)
	}
	child := exec.Command(program)
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = stdin.Close(), child.Wait() })
	s := new(server)
	if err := json.NewDecoder(out).Decode(s); err != nil {
		t.Fatal(err)
	}
	s.do(t, "POST", "sys/mounts/secret", s.Token, map[string]any{"type": "kv", "options": map[string]string{"version": "2"}})
	return s
}

// token makes a policy of what may be done below the path, and a token with it.
func (s *server) token(t *testing.T, name, policy string) string {
	t.Helper()
	s.do(t, "PUT", "sys/policies/acl/"+name, s.Token, map[string]string{"policy": policy})
	made := s.do(t, "POST", "auth/token/create", s.Token, map[string]any{"policies": []string{name}})
	return made["auth"].(map[string]any)["client_token"].(string)
}

// TestRealVault keeps a keyring in a real Vault: a collector with a policy that
// lets it read what it needs seals, what is inside opens, and the collector reads
// no private key.
func TestRealVault(t *testing.T) {
	ctx := t.Context()
	s := startVault(t)
	root := open(t, s.Address, s.Token)
	for tries := 0; ; tries++ { // a new engine is upgraded for a moment
		names, err := root.Names(ctx)
		if err == nil && len(names) == 0 {
			break
		}
		if tries == 100 {
			t.Fatalf("an empty keyring: %v, %v", names, err)
		}
		<-time.After(50 * time.Millisecond)
	}
	dir := seal.Dir(filepath.Join(t.TempDir(), "keys"))
	if err := seal.Generate(dir, []string{"marketing"}); err != nil {
		t.Fatal(err)
	}
	folder := seal.OpenFolder(dir, nil)
	if _, err := folder.RotatePurpose(ctx, "marketing"); err != nil {
		t.Fatal(err)
	}
	names, err := dir.Names(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		key, err := dir.Key(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		if err := root.Add(ctx, name, key); err != nil {
			t.Fatal(err)
		}
		if err := root.Add(ctx, name, []byte("another")); !errors.Is(err, ErrExists) {
			t.Errorf("%s was overwritten: %v", name, err)
		}
		if got, err := root.Key(ctx, name); err != nil || !bytes.Equal(got, key) {
			t.Errorf("%s: another key came back: %v", name, err)
		}
	}
	got, err := root.Names(ctx)
	slices.Sort(got)
	if diff := cmp.Diff(names, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	if _, err := root.Key(ctx, "missing"); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("missing: %v", err)
	}

	collector := open(t, s.Address, s.token(t, "collector", `
		path "secret/metadata/sluis/shop/" { capabilities = ["list"] }
		path "secret/data/sluis/shop/edge" { capabilities = ["read"] }
		path "secret/data/sluis/shop/purpose-marketing.public*" { capabilities = ["read"] }`))
	sealer, err := seal.NewSealer(ctx, collector, "shop", []string{"marketing"})
	if err != nil {
		t.Fatal(err)
	}
	value, key, err := sealer.Seal(seal.Binding{Purpose: "marketing"}, "x")
	if err != nil {
		t.Fatal(err)
	}
	opener, err := seal.NewOpener(ctx, root, "shop", []string{"marketing"})
	if err != nil {
		t.Fatal(err)
	}
	if text, err := opener.Open(value, key, seal.Binding{Purpose: "marketing"}); err != nil || text != "x" {
		t.Errorf("what the collector sealed: %v", err)
	}
	if _, err := seal.NewOpener(ctx, collector, "shop", []string{"marketing"}); err == nil || !strings.Contains(err.Error(), "the token may not do this") {
		t.Errorf("the collector opens: %v", err)
	}
	if err := collector.Add(ctx, "new", []byte("x")); err == nil {
		t.Error("the collector writes keys")
	}

	// A destroyed key is none, and its name is not used again.
	s.do(t, "PUT", "secret/destroy/sluis/shop/purpose-marketing.private", s.Token, map[string]any{"versions": []int{1}})
	if _, err := root.Key(ctx, "purpose-marketing.private"); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("destroyed: %v", err)
	}
	if err := root.Add(ctx, "purpose-marketing.private", []byte("x")); !errors.Is(err, ErrExists) {
		t.Errorf("made anew: %v", err)
	}
	if _, err := seal.NewOpener(ctx, root, "shop", []string{"marketing"}); err != nil {
		t.Errorf("with a version that was destroyed: %v", err)
	}
}
