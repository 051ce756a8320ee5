package workspace

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluis-cdp/sluis/consent"
	"github.com/sluis-cdp/sluis/consent/seal"
)

func TestParseAge(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{"400d": 400 * day, "1d": day, "0d": 0, "36h": 36 * time.Hour, "90m": 90 * time.Minute} {
		got, err := ParseAge(text)
		if err != nil || time.Duration(got) != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
		if again, err := ParseAge(got.String()); err != nil || again != got {
			t.Errorf("%s, written as %s: %v, %v", text, got, again, err)
		}
	}
	for _, text := range []string{"", "d", "-1d", "1.5d", "400", "1y", "-5h", "99999999d", "1d2h"} {
		if got, err := ParseAge(text); err == nil {
			t.Errorf("%q was read as %v", text, got)
		}
	}
}

// TestSealAgain is half of what is kept.
func TestSealAgain(t *testing.T) {
	w := &Workspace{}
	w.Consent.Retention = map[consent.Purpose]Age{consent.Marketing: Age(400 * 24 * time.Hour)}
	if got := w.SealAgain(); len(got) != 1 || got[consent.Marketing] != 200*24*time.Hour {
		t.Errorf("got %v", got)
	}
}

// TestPassphrase finds it in each place, the first that has one.
func TestPassphrase(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	w := &Workspace{Dir: dir}
	for _, name := range []string{EnvPassphraseFile, EnvPassphrase, "CREDENTIALS_DIRECTORY"} {
		t.Setenv(name, "")
	}
	find := func(want string) {
		t.Helper()
		if got, err := w.Passphrase(t.Context()); err != nil || string(got) != want {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	}
	file("configured", "of the configuration\r\n")
	w.KeyringConfig.PassphraseFile = "configured"
	find("of the configuration")
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	find("of the configuration") // systemd gives another credential
	file(Credential, "of systemd\n")
	find("of systemd")
	t.Setenv(EnvPassphrase, "of the environment")
	find("of the environment")
	t.Setenv(EnvPassphraseFile, file("given", "of the file\n"))
	find("of the file")
	t.Setenv(EnvPassphraseFile, file("empty", "\n"))
	if _, err := w.Passphrase(t.Context()); err == nil {
		t.Error("an empty file was taken")
	}
	t.Setenv(EnvPassphraseFile, filepath.Join(dir, "missing"))
	if _, err := w.Passphrase(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

// TestKeyringInVault reads keys from Vault where the configuration names one.
func TestKeyringInVault(t *testing.T) {
	dir := t.TempDir()
	config := "workspace: shop\nsources: [{id: web, write_key: wk}]\nkeyring: {vault: {address: '%', token_file: token}}\n"
	open := func(address string) (*Workspace, error) {
		t.Helper()
		text := strings.Replace(config, "%", address, 1)
		if err := os.WriteFile(filepath.Join(dir, File), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return Open(dir)
	}
	w, err := open("https://vault.example:8200")
	if err != nil {
		t.Fatal(err)
	}
	if _, inFolder := w.Keyring().(*seal.Folder); inFolder || w.KeyVault() == nil {
		t.Error("the keys are read from the folder")
	}
	if _, err := open("http://vault.example:8200"); err == nil {
		t.Error("keys cross the network in clear")
	}
}
