package bigquery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"

	"cloud.google.com/go/bigquery"
	"google.golang.org/api/impersonate"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// cloudScope lets the credentials do what the roles of their holder allow.
const cloudScope = "https://www.googleapis.com/auth/cloud-platform"

func open(ctx context.Context, config Config) (*db, error) {
	if config.Project == "" {
		return nil, errors.New("no project: say which Google Cloud project to use")
	}
	if config.Location == "" {
		return nil, errors.New("no location: say where the data is to be, such as EU or europe-west4; it cannot be changed later")
	}
	d := &db{config: config, log: config.Logger}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	rest, storage, err := config.options(ctx)
	if err != nil {
		return nil, err
	}
	if d.client, err = newClient(ctx, config, rest); err != nil {
		return nil, err
	}
	if storage == nil {
		return d, nil
	}
	if d.storage, err = newClient(ctx, config, rest); err != nil {
		return nil, errors.Join(err, d.client.Close())
	}
	if err := d.storage.EnableStorageReadClient(ctx, storage...); err != nil {
		return nil, errors.Join(withRemedy(err), d.Close())
	}
	return d, nil
}

func newClient(ctx context.Context, config Config, options []option.ClientOption) (*bigquery.Client, error) {
	client, err := bigquery.NewClient(ctx, config.Project, options...)
	if err != nil {
		return nil, withRemedy(err)
	}
	client.Location = config.Location
	return client, nil
}

// withRemedy says what to do about credentials that cannot be found, for which
// the client's own message sends the reader to a web page.
func withRemedy(err error) error {
	if strings.Contains(err.Error(), "could not find default credentials") {
		return fmt.Errorf("%w: run `gcloud auth application-default login`, or name a credentials file", err)
	}
	return err
}

// options says how to reach the REST server and the storage server. The latter
// is nil if results cannot be read from it.
func (c Config) options(ctx context.Context) (rest, storage []option.ClientOption, err error) {
	if c.Endpoint != "" {
		rest = []option.ClientOption{option.WithEndpoint(withPath(c.Endpoint)), option.WithoutAuthentication()}
		if c.StorageEndpoint != "" {
			storage = []option.ClientOption{
				option.WithEndpoint(c.StorageEndpoint),
				option.WithoutAuthentication(),
				// Else the first call hangs until its deadline.
				option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
			}
		}
		return rest, storage, nil
	}
	if c.StorageEndpoint != "" {
		return nil, nil, errors.New("a storage endpoint without an endpoint: an emulator needs both")
	}
	all := []option.ClientOption{option.WithScopes(cloudScope)}
	if c.CredentialsFile != "" {
		credentials, err := credentialsOption(c.CredentialsFile)
		if err != nil {
			return nil, nil, err
		}
		all = append(all, credentials)
	}
	if c.Impersonate != "" {
		source, err := impersonate.CredentialsTokenSource(ctx,
			impersonate.CredentialsConfig{TargetPrincipal: c.Impersonate, Scopes: []string{cloudScope}}, all...)
		if err != nil {
			return nil, nil, fmt.Errorf("act as %s: %w", c.Impersonate, withRemedy(err))
		}
		all = []option.ClientOption{option.WithTokenSource(source)}
	}
	return all, all, nil
}

// withPath adds the API's path to the address of a server that has none. The
// client takes an endpoint to be complete.
func withPath(endpoint string) string {
	if u, err := url.Parse(endpoint); err == nil && strings.Trim(u.Path, "/") == "" {
		return u.JoinPath("bigquery/v2/").String()
	}
	return endpoint
}

// credentialsOption reads which kind of credentials a file holds; the client
// wants to be told.
func credentialsOption(path string) (option.ClientOption, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	var file struct{ Type string }
	if err := json.Unmarshal(content, &file); err != nil {
		return nil, fmt.Errorf("credentials %s: not a JSON file as Google issues them", path)
	}
	switch kind := option.CredentialsType(file.Type); kind { //nolint:exhaustive // those that Google issues for programs and people
	case option.ServiceAccount, option.AuthorizedUser, option.ImpersonatedServiceAccount, option.ExternalAccount:
		return option.WithAuthCredentialsFile(kind, path), nil
	}
	return nil, fmt.Errorf("credentials %s: the type %q is none of service_account, external_account, impersonated_service_account, authorized_user", path, file.Type)
}
