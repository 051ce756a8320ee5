package workspace

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/sluis-cdp/sluis/consent/seal"
)

// Pseudonyms says who has the key of pseudonyms; see seal.Pseudonymizer.
type Pseudonyms struct {
	Mode seal.Mode `yaml:"mode"` // empty means local
	// Service is where the pseudonym service listens, with https.
	Service string `yaml:"service"`
	// CA signs the service's certificate; Certificate and Key are the collector's.
	// All are files in PEM.
	CA          string `yaml:"ca"`
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
	// PublicKey of the service, in base64; empty leaves its answers unverified.
	PublicKey string `yaml:"public_key"`
	// Timeout is for one try; zero is the default of the client.
	Timeout time.Duration `yaml:"timeout"`
}

// IsLocal tells whether no service is asked.
func (p Pseudonyms) IsLocal() bool { return p.Mode == "" || p.Mode == seal.Local }

// Pinned is PublicKey, decoded; nil if there is none.
func (p Pseudonyms) Pinned() []byte {
	key, err := base64.StdEncoding.DecodeString(p.PublicKey)
	if err != nil || len(key) == 0 {
		return nil
	}
	return key
}

// checkPseudonyms looks at what is said of pseudonyms, and resolves its files.
func (w *Workspace) checkPseudonyms(doc *document) {
	p := &w.Pseudonyms
	switch p.Mode {
	case "", seal.Local:
		if *p != (Pseudonyms{Mode: p.Mode}) {
			doc.report("pseudonyms.mode", "no service is asked in local mode: write remote or split, or remove the other keys of pseudonyms")
		}
		return
	case seal.Remote, seal.Split:
	default:
		doc.report("pseudonyms.mode", "must be local (the key is in the keyring), remote (a service has it) or split (each has a half)")
		return
	}
	if u, err := url.Parse(p.Service); err != nil || u.Scheme != "https" || u.Host == "" {
		doc.report("pseudonyms.service", "must be where `sluis pseudonym-service` listens, such as https://pseudonyms.internal:8486")
	}
	for _, file := range []struct {
		key  string
		path *string
	}{{"ca", &p.CA}, {"certificate", &p.Certificate}, {"key", &p.Key}} {
		if *file.path == "" {
			doc.report("pseudonyms."+file.key, "a file in PEM is needed; `sluis pseudonym-service certs` makes all three")
			continue
		}
		*file.path = w.Path(*file.path)
	}
	if p.PublicKey != "" && len(p.Pinned()) != seal.ElementSize {
		doc.report("pseudonyms.public_key", "must be what `sluis pseudonym-service public-key` prints, or empty to believe the service unverified")
	}
	if p.Timeout < 0 {
		doc.report("pseudonyms.timeout", "must not be negative; 0 is 3s")
	}
}

// Rotation is a rotation of pseudonyms that was begun. While its file is there
// the landed rows are of two versions, and nothing else may use the workspace.
type Rotation struct {
	From  int       `json:"from"`
	To    int       `json:"to"`
	Began time.Time `json:"began"`
}

func (w *Workspace) rotationFile() string { return filepath.Join(w.Path(w.Data), "rotation.json") }

// Rotation reads the one that was begun and is not done; nil if there is none.
func (w *Workspace) Rotation() (*Rotation, error) {
	text, err := os.ReadFile(w.rotationFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	r := new(Rotation)
	if err == nil {
		err = json.Unmarshal(text, r)
	}
	if err != nil {
		return nil, fmt.Errorf("reading what rotation of pseudonyms was begun, %s: %w", w.rotationFile(), err)
	}
	return r, nil
}

// BeginRotation writes it down, durably.
func (w *Workspace) BeginRotation(r Rotation) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(w.rotationFile()+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("beginning a rotation of pseudonyms: %w", err)
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("beginning a rotation of pseudonyms: %w", err)
	}
	if err := errors.Join(os.Rename(f.Name(), w.rotationFile()), syncDir(filepath.Dir(w.rotationFile()))); err != nil {
		return fmt.Errorf("beginning a rotation of pseudonyms: %w", err)
	}
	return nil
}

// EndRotation says that it is done.
func (w *Workspace) EndRotation() error {
	if err := errors.Join(os.Remove(w.rotationFile()), syncDir(filepath.Dir(w.rotationFile()))); err != nil {
		return fmt.Errorf("ending a rotation of pseudonyms: %w", err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// ErrRotating is returned for a workspace whose pseudonyms are being rotated, or
// were when that was interrupted.
var ErrRotating = errors.New("pseudonyms are being rotated, or that was interrupted: finish it with `sluis keys rotate pseudonym`")

// Usable is [ErrRotating] while a rotation is not done.
func (w *Workspace) Usable() error {
	r, err := w.Rotation()
	if err == nil && r != nil {
		err = ErrRotating
	}
	return err
}
