package remote

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

// How long certificates are valid.
const (
	authorityLife   = 10 * 365 * 24 * time.Hour
	certificateLife = 2 * 365 * 24 * time.Hour
)

// MakeCertificates makes what mutual TLS between collectors and the service needs
// in dir: an authority, ca.pem and ca.key, unless it is there already; a
// certificate of the service for its hosts, service.pem and service.key, if hosts
// are given; and one for each collector, NAME.pem and NAME.key. It overwrites
// nothing. Keys have mode 0600; ca.key makes further collectors, and is needed by
// neither side.
func MakeCertificates(dir string, hosts, collectors []string, now time.Time) (made []string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the folder of certificates: %w", err)
	}
	m := &maker{dir: dir, now: now}
	if err := m.authority(); err != nil {
		return m.made, err
	}
	if len(hosts) > 0 {
		if err := m.issue("service", hosts, x509.ExtKeyUsageServerAuth); err != nil {
			return m.made, err
		}
	}
	for _, name := range collectors {
		if name == "ca" || name == "service" || !collectorName.MatchString(name) {
			return m.made, fmt.Errorf("%q is no name for a collector: use lower case letters, digits, - and ., and neither ca nor service", name)
		}
		if err := m.issue(name, []string{name}, x509.ExtKeyUsageClientAuth); err != nil {
			return m.made, err
		}
	}
	return m.made, nil
}

var collectorName = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$`)

type maker struct {
	dir  string
	now  time.Time
	ca   *x509.Certificate
	key  *ecdsa.PrivateKey
	made []string
}

// authority loads the one that is there, or makes one.
func (m *maker) authority() error {
	certificate, err := os.ReadFile(filepath.Join(m.dir, "ca.pem"))
	if errors.Is(err, fs.ErrNotExist) {
		return m.makeAuthority()
	}
	if err != nil {
		return fmt.Errorf("reading the certificate authority: %w", err)
	}
	key, err := os.ReadFile(filepath.Join(m.dir, "ca.key"))
	if err != nil {
		return fmt.Errorf("reading the key of the certificate authority, without which it makes no certificates: %w", err)
	}
	certBlock, _ := pem.Decode(certificate)
	keyBlock, _ := pem.Decode(key)
	if certBlock == nil || keyBlock == nil {
		return fmt.Errorf("%s: ca.pem or ca.key is not PEM; restore them, or begin in another folder", m.dir)
	}
	var err1, err2 error
	m.ca, err1 = x509.ParseCertificate(certBlock.Bytes)
	m.key, err2 = x509.ParseECPrivateKey(keyBlock.Bytes)
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("reading the certificate authority: %w", err)
	}
	return nil
}

func (m *maker) makeAuthority() (err error) {
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "Sluis pseudonym service authority"}, NotAfter: m.now.Add(authorityLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if m.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return fmt.Errorf("making a certificate authority: %w", err)
	}
	m.ca = template
	return m.write("ca", template, m.key, &m.ca)
}

func (m *maker) issue(name string, hosts []string, usage x509.ExtKeyUsage) error {
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotAfter: m.now.Add(certificateLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage},
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
			continue
		}
		template.DNSNames = append(template.DNSNames, host)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("making the certificate of %s: %w", name, err)
	}
	return m.write(name, template, key, nil)
}

// write signs and writes a certificate and its key, the key first: without it
// nothing can be done with the other.
func (m *maker) write(name string, template *x509.Certificate, key *ecdsa.PrivateKey, into **x509.Certificate) error {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return fmt.Errorf("making the certificate of %s: %w", name, err)
	}
	template.SerialNumber, template.NotBefore = serial, m.now.Add(-5*time.Minute)
	der, err := x509.CreateCertificate(rand.Reader, template, m.ca, &key.PublicKey, m.key)
	if err != nil {
		return fmt.Errorf("making the certificate of %s: %w", name, err)
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return fmt.Errorf("making the certificate of %s: %w", name, err)
	}
	if into != nil {
		if *into, err = x509.ParseCertificate(der); err != nil {
			return fmt.Errorf("making the certificate of %s: %w", name, err)
		}
	}
	return errors.Join(m.file(name+".key", "EC PRIVATE KEY", secret, 0o600), m.file(name+".pem", "CERTIFICATE", der, 0o644))
}

func (m *maker) file(name, kind string, der []byte, mode fs.FileMode) error {
	file := filepath.Join(m.dir, name)
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("writing a certificate, none of which is overwritten: %w", err)
	}
	err = pem.Encode(f, &pem.Block{Type: kind, Bytes: der})
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	m.made = append(m.made, file)
	return nil
}
