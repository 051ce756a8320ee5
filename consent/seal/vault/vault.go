// Package vault keeps a keyring in HashiCorp Vault, or OpenBao: in a secrets
// engine of kind KV, version 2. Who may read which key is a policy of Vault's, so
// that the machine at the edge reads what a collector needs and no private key.
package vault

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/sluis-cdp/sluis/consent/seal"
)

// Config says where the keys are.
type Config struct {
	Address   string // https://host:port; without TLS only on this machine
	Mount     string // of the secrets engine, such as "secret"
	Path      string // below which the keys are, one secret each, such as "sluis/shop"
	Namespace string // empty for none
	TokenFile string // read for each call, since an agent renews it
	CAFile    string // certificates to trust beside the system's; empty for none
}

// Keyring is a [seal.Keyring] in Vault. Each key is a secret with the field "key",
// in base64. It may be used concurrently.
type Keyring struct {
	config Config
	client *http.Client
}

var _ seal.Keyring = (*Keyring)(nil)

const (
	timeout   = 10 * time.Second // of a call
	maxAnswer = 1 << 20
)

// Open checks the configuration. It does not connect.
func Open(config Config) (*Keyring, error) {
	address, err := url.Parse(config.Address)
	if err != nil || address.Host == "" || address.Scheme != "https" && address.Scheme != "http" {
		return nil, fmt.Errorf("the keyring in Vault: %q is no address: want one such as https://vault.example:8200", config.Address)
	}
	if address.Scheme == "http" && !onThisMachine(address.Hostname()) {
		return nil, fmt.Errorf("the keyring in Vault: keys may not cross the network in clear: use https for %s", address.Host)
	}
	if config.Mount == "" || config.Path == "" || config.TokenFile == "" {
		return nil, errors.New("the keyring in Vault: a mount, a path and a token_file are needed")
	}
	trust := &tls.Config{MinVersion: tls.VersionTLS12}
	if config.CAFile != "" {
		pem, err := os.ReadFile(config.CAFile)
		if err != nil {
			return nil, fmt.Errorf("the keyring in Vault: %w", err)
		}
		if trust.RootCAs, err = x509.SystemCertPool(); err != nil {
			trust.RootCAs = x509.NewCertPool()
		}
		if !trust.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("the keyring in Vault: %s has no certificate", config.CAFile)
		}
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = trust
	return &Keyring{config: config, client: &http.Client{
		Transport: transport, Timeout: timeout,
		// A redirect would carry the token to wherever it points.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

func onThisMachine(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Key reads the latest version of a secret.
func (k *Keyring) Key(ctx context.Context, name string) ([]byte, error) {
	var answer struct {
		Data struct {
			Data struct {
				Key string `json:"key"`
			} `json:"data"`
		} `json:"data"`
	}
	if err := k.call(ctx, http.MethodGet, "data", name, nil, &answer); err != nil {
		return nil, fmt.Errorf("reading the key %s from Vault: %w", name, err)
	}
	key, err := base64.StdEncoding.DecodeString(answer.Data.Data.Key)
	if err != nil || len(key) == 0 {
		return nil, fmt.Errorf("reading the key %s from Vault: the secret has no field \"key\" in base64; put it there with `sluis keys push`", name)
	}
	return key, nil
}

// Names lists the secrets below the path.
func (k *Keyring) Names(ctx context.Context) ([]string, error) {
	var answer struct {
		Data struct {
			Keys []string `json:"keys"`
		} `json:"data"`
	}
	err := k.call(ctx, "LIST", "metadata", "", nil, &answer)
	if err != nil && !errors.Is(err, seal.ErrNoKey) {
		return nil, fmt.Errorf("listing the keys in Vault: %w", err)
	}
	var names []string
	for _, name := range answer.Data.Keys {
		if !strings.HasSuffix(name, "/") { // a folder
			names = append(names, name)
		}
	}
	return names, nil
}

// ErrExists is returned by Add for a name that is taken.
var ErrExists = errors.New("there is a key of this name, and keys are never overwritten")

// Add stores a key under a new name. It never replaces one, also not one that was
// deleted.
func (k *Keyring) Add(ctx context.Context, name string, key []byte) error {
	secret := map[string]any{
		"options": map[string]any{"cas": 0}, // only if there is none
		"data":    map[string]string{"key": base64.StdEncoding.EncodeToString(key)},
	}
	if err := k.call(ctx, http.MethodPost, "data", name, secret, nil); err != nil {
		return fmt.Errorf("adding the key %s to Vault: %w", name, err)
	}
	return nil
}

// call asks Vault. The error repeats nothing of the request.
func (k *Keyring) call(ctx context.Context, method, kind, name string, body, into any) error {
	token, err := os.ReadFile(k.config.TokenFile)
	if err != nil {
		return fmt.Errorf("reading the token: %w", err)
	}
	address, err := url.JoinPath(k.config.Address, "v1", k.config.Mount, kind, k.config.Path, name)
	if err != nil {
		return err
	}
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, address, content)
	if err != nil {
		return err
	}
	request.Header.Set("X-Vault-Token", strings.TrimSpace(string(token)))
	request.Header.Set("X-Vault-Request", "true")
	if k.config.Namespace != "" {
		request.Header.Set("X-Vault-Namespace", k.config.Namespace)
	}
	response, err := k.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return err
	}
	if err := refusal(response.StatusCode, text); err != nil {
		return err
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(text, into); err != nil {
		return errors.New("the answer is not Vault's")
	}
	return nil
}

// refusal is what an answer other than success means.
func refusal(status int, text []byte) error {
	switch status {
	case http.StatusOK, http.StatusNoContent:
		return nil
	case http.StatusNotFound:
		return seal.ErrNoKey
	case http.StatusForbidden:
		return errors.New("the token may not do this, or has expired: look at its policy, and at who renews the token's file")
	case http.StatusServiceUnavailable:
		return errors.New("Vault is sealed or in maintenance: unseal it") //nolint:staticcheck // a name
	}
	var said struct {
		Errors []string `json:"errors"`
	}
	_ = json.Unmarshal(text, &said) // else there is the status alone
	message := strings.Join(said.Errors, "; ")
	if strings.Contains(message, "check-and-set") {
		return ErrExists
	}
	return fmt.Errorf("it answered %d %s", status, message)
}
