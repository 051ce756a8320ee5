package workspace

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluis-cdp/sluis/consent/seal"
)

const servedPseudonyms = `
pseudonyms:
  mode: split
  service: https://pseudonyms.internal:8486
  ca: tls/ca.pem
  certificate: tls/shop.pem
  key: /etc/sluis/shop.key
  public_key: yAPizGsF/BUGRUm5WSBlnKSncrLKpvBLbzVwCTNHatQ=
  timeout: 500ms
`

func TestPseudonyms(t *testing.T) {
	const base = "workspace: shop\nsources: [{id: web, write_key: wk}]\n"
	dir := t.TempDir()
	w, err := openText(t, dir, base+servedPseudonyms)
	if err != nil {
		t.Fatal(err)
	}
	p := w.Pseudonyms
	if p.Mode != seal.Split || p.IsLocal() || len(p.Pinned()) != 32 || p.CA != filepath.Join(dir, "tls/ca.pem") || p.Key != "/etc/sluis/shop.key" {
		t.Errorf("read %+v", p)
	}
	const service = "pseudonyms: {mode: remote, ca: a, certificate: b, key: c, service: "
	for text, want := range map[string]string{
		"pseudonyms: {mode: local}":                       "",
		"pseudonyms: {}":                                  "",
		service + "'https://x:1'}":                        "",
		"pseudonyms:\n  mode: threshold":                  ":4: pseudonyms.mode: must be local",
		"pseudonyms: {service: 'https://x:1'}":            ":3: pseudonyms.mode: no service is asked in local mode",
		service + "'http://x:1'}":                         ":3: pseudonyms.service: must be where",
		"pseudonyms: {mode: split, service: 'https://x'}": ":3: pseudonyms.certificate: a file in PEM is needed",
		service + "'https://x:1', public_key: AAAA}":      ":3: pseudonyms.public_key: must be what",
		service + "'https://x:1', timeout: -1s}":          ":3: pseudonyms.timeout: must not be negative",
		"pseudonyms: {modus: local}":                      `:3: unknown key "modus"`,
	} {
		_, err := openText(t, t.TempDir(), base+text+"\n")
		switch {
		case want == "" && err != nil:
			t.Errorf("%q: %v", text, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), File+want)):
			t.Errorf("%q\n got %v\nwant %s", text, err, want)
		}
	}
}
