package identity_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/bigquery"
	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/sql/bigquery/identity"
)

const (
	reader   = "reader@p.iam.gserviceaccount.com"
	appender = "appender@p.iam.gserviceaccount.com"
	scope    = "https://www.googleapis.com/auth/cloud-platform"
)

// google plays the servers of Google that a credential is exchanged at, and
// BigQuery, all under their own names. It issues a token to whom proves to be
// somebody, and remembers the way that the token of a call of BigQuery came.
type google struct {
	t   *testing.T
	key *rsa.PrivateKey

	mu      sync.Mutex
	tokens  map[string]string // token to who holds it
	callers []string          // of BigQuery
	refuse  string            // an answer in place of a token, if set
}

// newGoogle stands in for all of the network until the test ends: whatever is
// dialled, this server answers.
func newGoogle(t *testing.T) *google {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	g := &google{t: t, key: key, tokens: map[string]string{}}
	secure, plain := httptest.NewTLSServer(g), httptest.NewServer(g)
	trusted := secure.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	trusted.ServerName = "example.com" // the name in the certificate
	before := http.DefaultTransport
	http.DefaultTransport = &http.Transport{
		TLSClientConfig: trusted,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			server := secure
			if _, port, _ := net.SplitHostPort(address); port != "443" {
				server = plain
			}
			return new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
		},
	}
	t.Cleanup(func() {
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		http.DefaultTransport = before
		secure.Close()
		plain.Close()
	})
	t.Setenv("HOME", t.TempDir())
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", "")
	t.Setenv("GCE_METADATA_HOST", plain.Listener.Addr().String())
	return g
}

func (g *google) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	bearer := g.tokens[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
	account, impersonates := strings.CutPrefix(r.URL.Path, "/v1/projects/-/serviceAccounts/")
	switch {
	case g.refuse != "" && !strings.HasPrefix(r.Host, "bigquery"):
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, g.refuse)
	case r.Host == "oauth2.googleapis.com" && r.FormValue("grant_type") == "refresh_token" && r.FormValue("refresh_token") == "rt":
		g.issue(w, "a person")
	case r.Host == "oauth2.googleapis.com":
		g.issue(w, g.signer(r.FormValue("assertion")))
	case r.Host == "sts.googleapis.com" && r.FormValue("subject_token") == "a pod's token" && r.FormValue("scope") == scope:
		g.issue(w, "a pod")
	case r.Host == "iamcredentials.googleapis.com" && impersonates && bearer != "":
		g.issue(w, bearer+" as "+strings.TrimSuffix(account, ":generateAccessToken"))
	case strings.HasPrefix(r.URL.Path, "/computeMetadata/v1/instance/service-accounts/default/token"):
		g.issue(w, "a machine")
	case strings.HasPrefix(r.URL.Path, "/computeMetadata/v1/universe/universe-domain"):
		fmt.Fprint(w, "googleapis.com")
	case r.Host == "bigquery.googleapis.com":
		g.callers = append(g.callers, bearer)
		fmt.Fprint(w, `{}`)
	default:
		g.t.Errorf("unexpected: %s %s%s", r.Method, r.Host, r.URL.Path)
		w.WriteHeader(http.StatusNotFound)
	}
}

// issue answers in the forms of OAuth 2.0, of the token exchange (RFC 8693) and
// of generateAccessToken at once.
func (g *google) issue(w http.ResponseWriter, holder string) {
	token := rand.Text()
	g.tokens[token] = holder
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{
		"access_token": token, "token_type": "Bearer", "expires_in": 3600,
		"issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
		"accessToken":       token, "expireTime": time.Now().Add(time.Hour).Format(time.RFC3339),
	})
}

// signer returns whose assertion (RFC 7523) it is, having checked the signature.
func (g *google) signer(assertion string) string {
	end := max(strings.LastIndex(assertion, "."), 0)
	signed, signature := assertion[:end], strings.TrimPrefix(assertion[end:], ".")
	_, payload, _ := strings.Cut(signed, ".")
	digest := sha256.Sum256([]byte(signed))
	raw, err := base64.RawURLEncoding.DecodeString(signature)
	if err != nil || rsa.VerifyPKCS1v15(&g.key.PublicKey, crypto.SHA256, digest[:], raw) != nil {
		g.t.Error("the assertion has no valid signature")
	}
	var claims struct{ Iss, Scope, Aud string }
	text, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil || json.Unmarshal(text, &claims) != nil || claims.Scope != scope || claims.Aud != "https://oauth2.googleapis.com/token" {
		g.t.Errorf("the assertion claims %s", text)
	}
	return claims.Iss
}

// file writes a credentials file as gcloud or the console would.
func (g *google) file(kind string, more map[string]any) string {
	g.t.Helper()
	content := map[string]any{"type": kind}
	maps.Copy(content, more)
	text, err := json.Marshal(content)
	if err != nil {
		g.t.Fatal(err)
	}
	return g.write("credentials.json", text)
}

func (g *google) write(name string, text []byte) string {
	g.t.Helper()
	path := filepath.Join(g.t.TempDir(), name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		g.t.Fatal(err)
	}
	return path
}

func (g *google) serviceAccount() string {
	g.t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(g.key)
	if err != nil {
		g.t.Fatal(err)
	}
	return g.file("service_account", map[string]any{
		"client_email": reader, "private_key_id": "k", "token_uri": "https://oauth2.googleapis.com/token",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	})
}

var person = map[string]any{"client_id": "c", "client_secret": "s", "refresh_token": "rt"}

func (g *google) person() string { return g.file("authorized_user", person) }

func (g *google) pod(more map[string]any) string {
	content := map[string]any{
		"audience":           "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/provider",
		"subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "token_url": "https://sts.googleapis.com/v1/token",
		"credential_source": map[string]any{"file": g.write("token", []byte("a pod's token"))},
	}
	maps.Copy(content, more)
	return g.file("external_account", content)
}

func impersonationOf(account string) string {
	return "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/" + account + ":generateAccessToken"
}

// call makes one call of BigQuery.
func call(t *testing.T, i identity.Identity) error {
	t.Helper()
	options, err := i.Options()
	if err != nil {
		return err
	}
	client, err := bigquery.NewClient(t.Context(), "p", options...)
	if err != nil {
		return err
	}
	defer client.Close()
	_, err = client.Dataset("sluis").Metadata(t.Context())
	return err
}

// TestWhoCallsBigQuery: every kind of credentials, alone and acting as another,
// reaches BigQuery as who it should, and says so in the words of IAM.
func TestWhoCallsBigQuery(t *testing.T) {
	for name, test := range map[string]struct {
		identity       func(*google) identity.Identity
		caller, member string
	}{
		"service account": {
			func(g *google) identity.Identity { return identity.Identity{CredentialsFile: g.serviceAccount()} },
			reader, "serviceAccount:" + reader,
		},
		"service account that impersonates": {
			func(g *google) identity.Identity {
				return identity.Identity{CredentialsFile: g.serviceAccount(), Impersonate: appender}
			},
			reader + " as " + appender, "serviceAccount:" + appender,
		},
		"workload identity": {
			func(g *google) identity.Identity { return identity.Identity{CredentialsFile: g.pod(nil)} },
			"a pod", "",
		},
		"workload identity through a service account": {
			func(g *google) identity.Identity {
				return identity.Identity{CredentialsFile: g.pod(map[string]any{"service_account_impersonation_url": impersonationOf(appender)})}
			},
			"a pod as " + appender, "serviceAccount:" + appender,
		},
		"workload identity that impersonates": {
			func(g *google) identity.Identity {
				return identity.Identity{CredentialsFile: g.pod(nil), Impersonate: appender}
			},
			"a pod as " + appender, "serviceAccount:" + appender,
		},
		"a person": {
			func(g *google) identity.Identity { return identity.Identity{CredentialsFile: g.person()} },
			"a person", identity.You,
		},
		"a file that impersonates": {
			func(g *google) identity.Identity {
				source := map[string]any{"type": "authorized_user"}
				maps.Copy(source, person)
				return identity.Identity{CredentialsFile: g.file("impersonated_service_account", map[string]any{
					"service_account_impersonation_url": impersonationOf(appender), "source_credentials": source,
				})}
			},
			"a person as " + appender, "serviceAccount:" + appender,
		},
		"the login of gcloud": {
			func(g *google) identity.Identity {
				g.t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", g.person())
				return identity.Identity{}
			},
			"a person", identity.You,
		},
		"the login of gcloud that impersonates": {
			func(g *google) identity.Identity {
				g.t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", g.person())
				return identity.Identity{Impersonate: appender}
			},
			"a person as " + appender, "serviceAccount:" + appender,
		},
		"a machine at Google": {
			func(*google) identity.Identity { return identity.Identity{} },
			"a machine", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGoogle(t)
			i := test.identity(g)
			if err := call(t, i); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{test.caller}, g.callers); diff != "" {
				t.Errorf("who called (-want +got):\n%s", diff)
			}
			if got := i.Member(); got != test.member {
				t.Errorf("Member() = %q, want %q", got, test.member)
			}
		})
	}
}

// TestUselessFiles: a file is told from its error, and nobody is asked.
func TestUselessFiles(t *testing.T) {
	g := newGoogle(t)
	for name, test := range map[string]struct{ path, want string }{
		"none":        {filepath.Join(t.TempDir(), "none.json"), "no such file"},
		"no JSON":     {g.write("c.json", []byte("AIza")), "not a JSON file as Google issues them"},
		"other kind":  {g.file("gdch_service_account", nil), `the type "gdch_service_account" is none of service_account, external_account`},
		"without key": {g.file("service_account", map[string]any{"client_email": reader}), "credentials.json"},
	} {
		_, err := identity.Identity{CredentialsFile: test.path}.Options()
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %s", name, err, test.want)
		}
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/c.json")
	if _, err := (identity.Identity{}).Options(); err == nil || !strings.Contains(err.Error(), "application default credentials: open /nowhere/c.json") {
		t.Errorf("%v, want the file that the environment names", err)
	}
}

// TestRemedies: what Google answers to credentials that do not count has a
// remedy; other errors are left to those who know more of them.
func TestRemedies(t *testing.T) {
	for name, test := range map[string]struct{ answer, want string }{
		"expired":       {`{"error":"invalid_grant","error_description":"Bad Request"}`, "gcloud auth application-default login"},
		"no delegation": {`{"error":{"code":403,"message":"Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist)."}}`, "roles/iam.serviceAccountTokenCreator"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGoogle(t)
			g.refuse = test.answer
			err := call(t, identity.Identity{CredentialsFile: g.serviceAccount(), Impersonate: appender})
			if err == nil || !strings.Contains(identity.Remedy(err), test.want) {
				t.Errorf("%v\nremedy %q, want %s", err, identity.Remedy(err), test.want)
			}
		})
	}
	if got := identity.Remedy(errors.New("credentials: could not find default credentials. See …")); !strings.Contains(got, "credentials_file") {
		t.Errorf("no credentials: %q", got)
	}
	if got := identity.Remedy(errors.New("Access Denied: Table p:sluis.events")); got != "" {
		t.Errorf("a matter of roles: %q", got)
	}
}
