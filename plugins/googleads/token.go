package googleads

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"time"

	"cloud.google.com/go/auth"
	"cloud.google.com/go/auth/credentials"

	"github.com/sluis-cdp/sluis/plugins/destination/rest"
)

const scope = "https://www.googleapis.com/auth/datamanager"

// tokens gives out access tokens, and gets new ones before they expire.
type tokens struct{ credentials *auth.Credentials }

// newTokens reads credentials: the key of a service account, or a login with a
// refresh token. Other kinds name files and addresses of their own, which a
// configuration must not make the plugin read. problem says what is wrong, and
// repeats nothing of them.
func newTokens(text, tokenURL string) (t tokens, problem string) {
	var file struct {
		Type     string
		TokenURI string `json:"token_uri"`
	}
	if json.Unmarshal([]byte(text), &file) != nil {
		return t, "want the JSON that Google issues, whole"
	}
	kind := credentials.CredType(file.Type)
	if kind != credentials.ServiceAccount && kind != credentials.AuthorizedUser {
		return t, "want the key of a service account (service_account) or a login (authorized_user)"
	}
	if file.TokenURI != "" && rest.CheckURL(file.TokenURI) != "" {
		return t, "its token_uri " + rest.CheckURL(file.TokenURI)
	}
	creds, err := credentials.NewCredentialsFromJSON(kind, []byte(text), &credentials.DetectOptions{
		Scopes: []string{scope}, TokenURL: tokenURL, DisableAsyncRefresh: true,
		Client: &http.Client{
			Timeout:       30 * time.Second,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	})
	if err != nil { // its text may repeat the key
		return t, "is not complete: want the JSON that Google issues, whole"
	}
	return tokens{creds}, ""
}

// token returns one that is good for some minutes.
func (t tokens) token(ctx context.Context) (string, error) {
	token, err := t.credentials.Token(ctx)
	if err == nil {
		return token.Value, nil
	}
	if _, ok := errors.AsType[*url.Error](err); ok {
		return "", &rest.LostError{Code: "token_network", Message: "Google's server of tokens could not be reached"}
	}
	refused, ok := errors.AsType[*auth.Error](err)
	switch {
	case !ok || refused.Response == nil:
		return "", &fatalError{"no token can be asked for with the credentials' key: take the JSON as Google issued it"}
	case refused.Response.StatusCode/100 == 5 || refused.Response.StatusCode == http.StatusTooManyRequests:
		return "", &rest.LostError{Code: "token_unavailable", Message: "Google's server of tokens is busy"}
	}
	var said struct{ Error string }
	if json.Unmarshal(refused.Body, &said) == nil && said.Error == "invalid_grant" {
		return "", &fatalError{"the key or login does not count any more: see that it exists still and that the clock is right, or make another"}
	}
	return "", &fatalError{"it gives no token for the credentials: see that they may use the Data Manager API"}
}
