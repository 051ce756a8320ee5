package vault

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluis-cdp/sluis/consent/seal"
)

func tokenFile(t *testing.T, token string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t *testing.T, address, token string) *Keyring {
	t.Helper()
	k, err := Open(Config{Address: address, Mount: "secret", Path: "sluis/shop", TokenFile: tokenFile(t, token)})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestOpenRefuses(t *testing.T) {
	good := Config{Address: "https://vault.example:8200", Mount: "secret", Path: "sluis", TokenFile: "token"}
	if _, err := Open(good); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*Config){
		"no address":           func(c *Config) { c.Address = "" },
		"no URL":               func(c *Config) { c.Address = "vault.example:8200" },
		"keys in clear":        func(c *Config) { c.Address = "http://vault.example:8200" },
		"no mount":             func(c *Config) { c.Mount = "" },
		"no path":              func(c *Config) { c.Path = "" },
		"no token":             func(c *Config) { c.TokenFile = "" },
		"no certificates":      func(c *Config) { c.CAFile = "vault.go" },
		"certificates missing": func(c *Config) { c.CAFile = "missing.pem" },
	} {
		c := good
		change(&c)
		if _, err := Open(c); err == nil {
			t.Errorf("%s: it was taken", what)
		}
	}
}

// TestAnswers says what becomes of answers that a Vault in good order never gives.
func TestAnswers(t *testing.T) {
	for _, test := range []struct {
		name   string
		status int
		body   string
		want   string
	}{
		{"sealed", http.StatusServiceUnavailable, `{"errors":["Vault is sealed"]}`, "unseal it"},
		{"forbidden", http.StatusForbidden, `{"errors":["1 error occurred: permission denied"]}`, "the token may not do this"},
		{"not JSON", http.StatusOK, `<html>`, "not Vault's"},
		{"no field", http.StatusOK, `{"data":{"data":{"value":"x"}}}`, `no field "key"`},
		{"no base64", http.StatusOK, `{"data":{"data":{"key":"%%%"}}}`, `no field "key"`},
		{"a redirect", http.StatusTemporaryRedirect, ``, "307"},
		{"an error", http.StatusInternalServerError, `{"errors":["disk"]}`, "500 disk"},
	} {
		t.Run(test.name, func(t *testing.T) {
			asked := 0
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked++
				if got := r.URL.Path + " " + r.Header.Get("X-Vault-Token"); got != "/v1/secret/data/sluis/shop/edge s.token" {
					t.Errorf("asked was %s", got)
				}
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, test.body)
			}))
			defer server.Close()
			_, err := open(t, server.URL, "s.token").Key(t.Context(), seal.KeyEdge)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "s.token") || asked != 1 {
				t.Errorf("%v, asked %d times", err, asked)
			}
		})
	}
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	if _, err := open(t, server.URL, "t").Key(t.Context(), seal.KeyEdge); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("missing: %v", err)
	}
	if names, err := open(t, server.URL, "t").Names(t.Context()); err != nil || len(names) != 0 {
		t.Errorf("no names: %v, %v", names, err)
	}
}

// server is a running Vault.
type server struct {
	Address string `json:"address"`
	Token   string `json:"token"`
}

// do calls Vault as root, to set it up.
func (s *server) do(t *testing.T, method, path, token string, body any) map[string]any {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, s.Address+"/v1/"+path, strings.NewReader(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Vault-Token", token)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode > 299 {
		t.Fatalf("%s %s: %d %s, %v", method, path, response.StatusCode, answer, err)
	}
	var parsed map[string]any
	_ = json.Unmarshal(answer, &parsed) // empty for some
	return parsed
}
