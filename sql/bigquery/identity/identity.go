// Package identity says as whom BigQuery is used. All that talks to it, the
// collector and the warehouse's driver, takes its credentials from here, so that
// what works for one works for the other.
package identity

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"cloud.google.com/go/auth"
	"cloud.google.com/go/auth/credentials"
	"cloud.google.com/go/auth/credentials/impersonate"
	"google.golang.org/api/option"
)

// cloudScope lets the credentials do what the roles of their holder allow.
const cloudScope = "https://www.googleapis.com/auth/cloud-platform"

// Identity is whom to act as. The zero value is the application default
// credentials: the file that GOOGLE_APPLICATION_CREDENTIALS names, else the login
// of `gcloud auth application-default login`, else the machine's own account at
// Google.
type Identity struct {
	// CredentialsFile is the key of a service account, or the configuration of
	// workload identity federation (external_account) or of an impersonation; a
	// person's login will do, too.
	CredentialsFile string

	// Impersonate is the e-mail address of a service account to act as. The
	// credentials need roles/iam.serviceAccountTokenCreator on it.
	Impersonate string
}

// Options returns what a client of Google's, REST or gRPC, needs to act as i.
// It reads files and asks nobody: whether the credentials are any good, the
// first call tells, and [Remedy] says what to do then.
func (i Identity) Options() ([]option.ClientOption, error) {
	creds, err := i.credentials()
	if err != nil {
		return nil, err
	}
	return []option.ClientOption{option.WithAuthCredentials(creds)}, nil
}

func (i Identity) credentials() (*auth.Credentials, error) {
	base, err := i.base()
	if err != nil || i.Impersonate == "" {
		return base, err
	}
	creds, err := impersonate.NewCredentials(&impersonate.CredentialsOptions{
		Credentials: base, TargetPrincipal: i.Impersonate, Scopes: []string{cloudScope},
	})
	if err != nil {
		return nil, fmt.Errorf("act as %s: %w", i.Impersonate, err)
	}
	return creds, nil
}

// base is who acts, or impersonates another.
func (i Identity) base() (*auth.Credentials, error) {
	options := &credentials.DetectOptions{Scopes: []string{cloudScope}}
	if i.CredentialsFile == "" {
		creds, err := credentials.DetectDefault(options)
		if err != nil {
			return nil, explain("application default credentials", err)
		}
		return creds, nil
	}
	content, err := os.ReadFile(i.CredentialsFile)
	if err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	kind, err := kindOf(content)
	if err != nil {
		return nil, fmt.Errorf("credentials %s: %w", i.CredentialsFile, err)
	}
	creds, err := credentials.NewCredentialsFromJSON(kind, content, options)
	if err != nil {
		return nil, fmt.Errorf("credentials %s: %w", i.CredentialsFile, err)
	}
	return creds, nil
}

// kindOf reads which kind of credentials a file holds; the library wants to be
// told, lest a file of another kind makes it call addresses it should not.
func kindOf(content []byte) (credentials.CredType, error) {
	var file struct{ Type string }
	if err := json.Unmarshal(content, &file); err != nil {
		return "", errors.New("not a JSON file as Google issues them")
	}
	switch kind := credentials.CredType(file.Type); kind { //nolint:exhaustive // those that Google issues for programs and people
	case credentials.ServiceAccount, credentials.ExternalAccount, credentials.ImpersonatedServiceAccount,
		credentials.AuthorizedUser, credentials.ExternalAccountAuthorizedUser:
		return kind, nil
	}
	return "", fmt.Errorf("the type %q is none of service_account, external_account, impersonated_service_account, authorized_user, external_account_authorized_user", file.Type)
}

// You is the member that [Identity.Member] returns for a person's login: the
// file does not say whose it is, and gcloud, in all likelihood logged in as the
// same person, does.
const You = "user:$(gcloud config get account)"

// Member returns who i is in the words of IAM, such as
// serviceAccount:me@my-project.iam.gserviceaccount.com, to be put into a command
// of a shell. It is empty if the credentials do not tell.
func (i Identity) Member() string {
	if i.Impersonate != "" {
		return "serviceAccount:" + i.Impersonate
	}
	creds, err := i.base()
	if err != nil {
		return ""
	}
	var file struct {
		Type                           string
		ClientEmail                    string `json:"client_email"`
		ServiceAccountImpersonationURL string `json:"service_account_impersonation_url"`
	}
	if json.Unmarshal(creds.JSON(), &file) != nil {
		return "" // a machine at Google, which has no file
	}
	switch {
	case file.ClientEmail != "":
		return "serviceAccount:" + file.ClientEmail
	case file.ServiceAccountImpersonationURL != "":
		// …/serviceAccounts/me@my-project.iam.gserviceaccount.com:generateAccessToken
		account, _, _ := strings.Cut(path.Base(file.ServiceAccountImpersonationURL), ":")
		return "serviceAccount:" + account
	case file.Type == string(credentials.AuthorizedUser):
		return You
	}
	return ""
}

func explain(what string, err error) error {
	if remedy := Remedy(err); remedy != "" {
		return fmt.Errorf("%s: %w: %s", what, err, remedy)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// Remedy says what to do about an error that is about credentials, and not about
// what their holder may do. It is empty for others. It goes by the text, since
// that is all that gRPC leaves of an error of this kind.
func Remedy(err error) string {
	text := err.Error()
	switch {
	case strings.Contains(text, "could not find default credentials"):
		return "run `gcloud auth application-default login`, or name a credentials_file"
	case strings.Contains(text, "iam.serviceAccounts.getAccessToken"):
		return "see that the service account to act as exists, and grant who acts as it roles/iam.serviceAccountTokenCreator on it, with `gcloud iam service-accounts add-iam-policy-binding`"
	case strings.Contains(text, "invalid_grant"):
		return "the login or key does not count any more: run `gcloud auth application-default login` again; for a key, see that it exists still and that the clock is right"
	}
	return ""
}
