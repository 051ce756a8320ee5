package seal

import (
	"bytes"
	stdhpke "crypto/hpke"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/cloudflare/circl/hpke"
	"github.com/cloudflare/circl/kem"
)

// vector is one of testdata/hpke.json. Those of "rfc9180" are the RFC's, which
// its authors publish as test-vectors.json at github.com/cfrg/draft-irtf-cfrg-hpke
// (commit 5f503c5), without those that neither implementation has, and of each
// the first two encryptions. The one of "hpke-pq" is of X-Wing, from
// draft-ietf-hpke-pq.
type vector struct {
	Source  string                           `json:"source"`
	Mode    int                              `json:"mode"`
	KEM     uint16                           `json:"kem_id"`
	KDF     uint16                           `json:"kdf_id"`
	AEAD    uint16                           `json:"aead_id"`
	Info    hexBytes                         `json:"info"`
	IkmE    hexBytes                         `json:"ikmE"`
	SkR     hexBytes                         `json:"skRm"`
	PkR     hexBytes                         `json:"pkRm"`
	SkS     hexBytes                         `json:"skSm"`
	PkS     hexBytes                         `json:"pkSm"`
	PSK     hexBytes                         `json:"psk"`
	PSKID   hexBytes                         `json:"psk_id"`
	Enc     hexBytes                         `json:"enc"`
	Sealed  []struct{ AAD, Pt, Ct hexBytes } `json:"encryptions"`
	Exports []struct {
		Context hexBytes `json:"exporter_context"`
		L       int      `json:"L"`
		Value   hexBytes `json:"exported_value"`
	} `json:"exports"`
}

type hexBytes []byte

func (h *hexBytes) UnmarshalJSON(text []byte) error {
	var s string
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	b, err := hex.DecodeString(s)
	*h = b
	return err
}

func (v *vector) name() string {
	return fmt.Sprintf("%s mode %d kem %#x kdf %d aead %d", v.Source, v.Mode, v.KEM, v.KDF, v.AEAD)
}

// TestHPKEVectors runs RFC 9180's vectors through the implementation that seals,
// and those of the base mode through Go's own as well.
func TestHPKEVectors(t *testing.T) {
	text, err := os.ReadFile("testdata/hpke.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []vector
	if err := json.Unmarshal(text, &vectors); err != nil {
		t.Fatal(err)
	}
	byCircl, byGo := 0, 0
	for _, v := range vectors {
		if hpke.AEAD(v.AEAD).IsValid() {
			byCircl++
			v.circl(t)
		}
		if v.Mode == 0 && v.KEM != uint16(hpke.KEM_X448_HKDF_SHA512) {
			byGo++
			v.standard(t)
		}
	}
	if byCircl != 97 || byGo != 25 {
		t.Errorf("circl ran %d vectors and Go %d of %d", byCircl, byGo, len(vectors))
	}
}

func (v *vector) circl(t *testing.T) {
	t.Helper()
	scheme := hpke.KEM(v.KEM).Scheme()
	suite := hpke.NewSuite(hpke.KEM(v.KEM), hpke.KDF(v.KDF), hpke.AEAD(v.AEAD))
	private, err := scheme.UnmarshalBinaryPrivateKey(v.SkR)
	if err != nil {
		t.Fatalf("%s: %v", v.name(), err)
	}
	receiver, err := suite.NewReceiver(private, v.Info)
	if err != nil {
		t.Fatalf("%s: %v", v.name(), err)
	}
	opener, err := v.receive(receiver, scheme)
	if err != nil {
		t.Fatalf("%s: %v", v.name(), err)
	}
	for i, e := range v.Sealed {
		if got, err := opener.Open(e.Ct, e.AAD); err != nil || !bytes.Equal(got, e.Pt) {
			t.Errorf("%s: encryption %d does not open: %v", v.name(), i, err)
		}
	}
	for i, e := range v.Exports {
		if got := opener.Export(e.Context, uint(e.L)); !bytes.Equal(got, e.Value) {
			t.Errorf("%s: export %d differs", v.name(), i)
		}
	}
	if v.Source != "rfc9180" {
		return // circl reads an ephemeral seed of X-Wing in another order
	}
	public, err := scheme.UnmarshalBinaryPublicKey(v.PkR)
	if err != nil {
		t.Fatalf("%s: %v", v.name(), err)
	}
	sender, err := suite.NewSender(public, v.Info)
	if err != nil {
		t.Fatalf("%s: %v", v.name(), err)
	}
	enc, sealer, err := v.send(sender, scheme)
	if err != nil || !bytes.Equal(enc, v.Enc) {
		t.Fatalf("%s: another encapsulated key: %v", v.name(), err)
	}
	for i, e := range v.Sealed {
		if got, err := sealer.Seal(e.Pt, e.AAD); err != nil || !bytes.Equal(got, e.Ct) {
			t.Errorf("%s: encryption %d differs: %v", v.name(), i, err)
		}
	}
}

func (v *vector) receive(r *hpke.Receiver, scheme kem.Scheme) (hpke.Opener, error) {
	switch v.Mode {
	case 0:
		return r.Setup(v.Enc)
	case 1:
		return r.SetupPSK(v.Enc, v.PSK, v.PSKID)
	}
	sender, err := scheme.UnmarshalBinaryPublicKey(v.PkS)
	if err != nil {
		return nil, err
	}
	if v.Mode == 2 {
		return r.SetupAuth(v.Enc, sender)
	}
	return r.SetupAuthPSK(v.Enc, v.PSK, v.PSKID, sender)
}

func (v *vector) send(s *hpke.Sender, scheme kem.Scheme) ([]byte, hpke.Sealer, error) {
	var seed io.Reader = bytes.NewReader(v.IkmE)
	switch v.Mode {
	case 0:
		return s.Setup(seed)
	case 1:
		return s.SetupPSK(seed, v.PSK, v.PSKID)
	}
	private, err := scheme.UnmarshalBinaryPrivateKey(v.SkS)
	if err != nil {
		return nil, nil, err
	}
	if v.Mode == 2 {
		return s.SetupAuth(seed, private)
	}
	return s.SetupAuthPSK(seed, private, v.PSK, v.PSKID)
}

func (v *vector) standard(t *testing.T) {
	t.Helper()
	kem, err := stdhpke.NewKEM(v.KEM)
	if err != nil {
		t.Fatalf("%s: %v", v.name(), err)
	}
	kdf, err := stdhpke.NewKDF(v.KDF)
	if err != nil {
		t.Fatalf("%s: %v", v.name(), err)
	}
	aead, err := stdhpke.NewAEAD(v.AEAD)
	if err != nil {
		t.Fatalf("%s: %v", v.name(), err)
	}
	private, err := kem.NewPrivateKey(v.SkR)
	if err != nil {
		t.Fatalf("%s: %v", v.name(), err)
	}
	r, err := stdhpke.NewRecipient(v.Enc, private, kdf, aead, v.Info)
	if err != nil {
		t.Fatalf("%s: %v", v.name(), err)
	}
	for i, e := range v.Sealed {
		if got, err := r.Open(e.AAD, e.Ct); err != nil || !bytes.Equal(got, e.Pt) {
			t.Errorf("%s: Go does not open encryption %d: %v", v.name(), i, err)
		}
	}
	for i, e := range v.Exports {
		if got, err := r.Export(string(e.Context), e.L); err != nil || !bytes.Equal(got, e.Value) {
			t.Errorf("%s: export %d differs with Go: %v", v.name(), i, err)
		}
	}
}

// TestXWingIsGos exchanges keys, ciphertexts and exports with Go's own X-Wing, in
// both directions. Go has the base mode only; what the PSK adds to it is in the
// vectors above, and does not depend on the KEM.
func TestXWingIsGos(t *testing.T) {
	info, aad, plain := []byte("info"), []byte("associated"), []byte("plain")
	for range 50 {
		public, private, err := hpke.KEM_XWING.Scheme().GenerateKeyPair()
		if err != nil {
			t.Fatal(err)
		}
		pub, _ := public.MarshalBinary()
		priv, _ := private.MarshalBinary()
		theirs, err := stdhpke.MLKEM768X25519().NewPrivateKey(priv)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(theirs.PublicKey().Bytes(), pub) {
			t.Fatal("one private key has two public ones")
		}

		// Sealed here, opened there.
		sender, _ := suite.NewSender(public, info)
		enc, sealer, err := sender.Setup(nil)
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := sealer.Seal(plain, aad)
		if err != nil {
			t.Fatal(err)
		}
		r, err := stdhpke.NewRecipient(enc, theirs, stdhpke.HKDFSHA256(), stdhpke.AES256GCM(), info)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := r.Open(aad, sealed); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("Go does not open what circl sealed: %v", err)
		}
		if exported, err := r.Export(string(exportContext), 32); err != nil || !bytes.Equal(exported, sealer.Export(exportContext, 32)) {
			t.Fatalf("the exported keys differ: %v", err)
		}

		// And the other way.
		enc, s, err := stdhpke.NewSender(theirs.PublicKey(), stdhpke.HKDFSHA256(), stdhpke.AES256GCM(), info)
		if err != nil {
			t.Fatal(err)
		}
		if sealed, err = s.Seal(aad, plain); err != nil {
			t.Fatal(err)
		}
		receiver, _ := suite.NewReceiver(private, info)
		opener, err := receiver.Setup(enc)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := opener.Open(sealed, aad); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("circl does not open what Go sealed: %v", err)
		}
	}
}
