package workspace

import (
	"encoding/base64"
	"net/url"
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
