package workspace

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/term"

	"github.com/sluis-cdp/sluis/consent"
	"github.com/sluis-cdp/sluis/consent/seal"
	"github.com/sluis-cdp/sluis/consent/seal/vault"
)

// Keyring says how to get at the keys.
type Keyring struct {
	// PassphraseFile has the passphrase that the keys in the folder are encrypted
	// with. The environment wins over it; see [Workspace.Passphrase].
	PassphraseFile string `yaml:"passphrase_file"`
	// Vault is where the keys are read instead of the folder; nil for none.
	Vault *Vault `yaml:"vault"`
}

// Vault says where in HashiCorp Vault or OpenBao the keys are.
type Vault struct {
	Address   string `yaml:"address"`
	Mount     string `yaml:"mount"`
	Path      string `yaml:"path"`
	Namespace string `yaml:"namespace"`
	TokenFile string `yaml:"token_file"`
	CAFile    string `yaml:"ca_file"`
}

// Where a passphrase may come from, beside the configuration.
const (
	EnvPassphraseFile = "SLUIS_PASSPHRASE_FILE"
	EnvPassphrase     = "SLUIS_PASSPHRASE"
	// Credential is the name of systemd's credential: LoadCredential=sluis-passphrase:…
	Credential = "sluis-passphrase"
)

// Age is a length of time, written as a number of days, such as 400d, or as
// time.ParseDuration reads it.
type Age time.Duration

// ParseAge reads an Age.
func ParseAge(text string) (Age, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 0 || n > 36_500 {
			return 0, fmt.Errorf("%q is no age: want a number of days, such as 400d, or hours, such as 36h", text)
		}
		return Age(time.Duration(n) * 24 * time.Hour), nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is no age: want a number of days, such as 400d, or hours, such as 36h", text)
	}
	return Age(d), nil
}

// String writes whole days as such.
func (a Age) String() string {
	if d := time.Duration(a); d > 0 && d%(24*time.Hour) == 0 {
		return strconv.Itoa(int(d/(24*time.Hour))) + "d"
	}
	return time.Duration(a).String()
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (a *Age) UnmarshalYAML(node *yaml.Node) error {
	age, err := ParseAge(node.Value)
	if err != nil {
		return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: %v", node.Line, err)}}
	}
	*a = age
	return nil
}

// minRetention is more than any spool should need to be landed.
const minRetention = Age(24 * time.Hour)

// checkRetention looks at how long sealed data is kept.
func (w *Workspace) checkRetention(doc *document) {
	sealed := w.SealPurposes()
	for _, purpose := range slices.Sorted(maps.Keys(w.Consent.Retention)) {
		age, at := w.Consent.Retention[purpose], "consent.retention."+string(purpose)
		switch {
		case !slices.Contains(sealed, string(purpose)):
			doc.report(at, "nothing is sealed for this purpose; those that are: %s", strings.Join(sealed, ", "))
		case age < minRetention:
			doc.report(at, "must be at least 1d; `sluis keys shred` destroys by hand what is younger")
		}
	}
}

// SealAgain is after how long a value is sealed anew, so that it is not deleted
// while its person is still there: half the age at which it would be.
func (w *Workspace) SealAgain() map[consent.Purpose]time.Duration {
	again := make(map[consent.Purpose]time.Duration)
	for purpose, age := range w.Consent.Retention {
		again[purpose] = time.Duration(age) / 2
	}
	return again
}

// KeyFolder is the workspace's keyring on disk.
func (w *Workspace) KeyFolder() *seal.Folder {
	w.keysOnce.Do(func() { w.folder = seal.OpenFolder(seal.Dir(w.Path(w.Keys)), w.Passphrase) })
	return w.folder
}

// Keyring is where the workspace's keys are read.
func (w *Workspace) Keyring() seal.Keyring {
	if w.vault != nil {
		return w.vault
	}
	return w.KeyFolder()
}

// KeyVault is the keyring in Vault; nil if the configuration names none.
func (w *Workspace) KeyVault() *vault.Keyring { return w.vault }

// EnsureKey makes a secret that a keyring made by an earlier version lacks, and
// tells whether it did. In Vault it makes none.
func (w *Workspace) EnsureKey(ctx context.Context, name string) (added bool, err error) {
	if w.vault == nil {
		return w.KeyFolder().Ensure(ctx, name)
	}
	if _, err := w.vault.Key(ctx, name); err != nil {
		return false, fmt.Errorf("%w; make it with `sluis keys init --add %s` where the folder of keys is, and `sluis keys push` it", err, name)
	}
	return false, nil
}

// openVault looks at where the keys are, if that is not the folder.
func (w *Workspace) openVault(doc *document) {
	v := w.KeyringConfig.Vault
	if v == nil {
		return
	}
	config := vault.Config{
		Address: v.Address, Mount: cmp.Or(v.Mount, "secret"), Path: cmp.Or(v.Path, "sluis/"+w.Workspace),
		Namespace: v.Namespace, TokenFile: v.TokenFile, CAFile: v.CAFile,
	}
	for _, file := range []*string{&config.TokenFile, &config.CAFile} {
		if *file != "" {
			*file = w.Path(*file)
		}
	}
	var err error
	if w.vault, err = vault.Open(config); err != nil {
		doc.report("keyring.vault", "%v", err)
	}
}

// keys is the keyring, once it was opened: its passphrase is asked for once.
type keys struct {
	keysOnce sync.Once
	folder   *seal.Folder
	vault    *vault.Keyring
}

// Passphrase finds the passphrase of the keys: in the file that the environment
// names, in the environment itself, in systemd's credential, in the file that the
// configuration names, or typed at a terminal. It returns [seal.ErrLocked] if it is in none.
func (w *Workspace) Passphrase(context.Context) ([]byte, error) {
	if file := os.Getenv(EnvPassphraseFile); file != "" {
		return ReadPassphrase(file)
	}
	if phrase := os.Getenv(EnvPassphrase); phrase != "" {
		return []byte(phrase), nil
	}
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		phrase, err := ReadPassphrase(filepath.Join(dir, Credential))
		if !errors.Is(err, os.ErrNotExist) {
			return phrase, err
		}
	}
	if file := w.KeyringConfig.PassphraseFile; file != "" {
		return ReadPassphrase(w.Path(file))
	}
	return typed()
}

// ReadPassphrase reads a file with a passphrase, without the end of its line.
func ReadPassphrase(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the passphrase of the keys: %w", err)
	}
	phrase := bytes.TrimRight(text, "\r\n")
	if len(phrase) == 0 {
		return nil, fmt.Errorf("reading the passphrase of the keys: %s is empty", path)
	}
	return phrase, nil
}

// typed asks at the terminal, once for a process: a reload has nobody to ask.
var typed = sync.OnceValues(func() ([]byte, error) {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return nil, seal.ErrLocked
	}
	return AskPassphrase("Passphrase of the keys: ")
})

// AskPassphrase asks at the terminal, which does not show what is typed.
func AskPassphrase(prompt string) ([]byte, error) {
	_, _ = fmt.Fprint(os.Stderr, prompt) // a terminal
	phrase, err := term.ReadPassword(int(os.Stdin.Fd()))
	_, _ = fmt.Fprintln(os.Stderr)
	if err != nil {
		return nil, fmt.Errorf("reading the passphrase of the keys: %w", err)
	}
	return phrase, nil
}
