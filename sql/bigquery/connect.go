package bigquery

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"strings"

	"cloud.google.com/go/bigquery"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sluis-cdp/sluis/sql/bigquery/identity"
)

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
	rest, storage, err := config.options()
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
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func newClient(ctx context.Context, config Config, options []option.ClientOption) (*bigquery.Client, error) {
	client, err := bigquery.NewClient(ctx, config.Project, options...)
	if err != nil {
		return nil, err
	}
	client.Location = config.Location
	return client, nil
}

// options says how to reach the REST server and the storage server. The latter
// is nil if results cannot be read from it.
func (c Config) options() (rest, storage []option.ClientOption, err error) {
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
	all, err := c.identity().Options()
	if err != nil {
		return nil, nil, err
	}
	return all, all, nil
}

func (c Config) identity() identity.Identity {
	return identity.Identity{CredentialsFile: c.CredentialsFile, Impersonate: c.Impersonate}
}

// withPath adds the API's path to the address of a server that has none. The
// client takes an endpoint to be complete.
func withPath(endpoint string) string {
	if u, err := url.Parse(endpoint); err == nil && strings.Trim(u.Path, "/") == "" {
		return u.JoinPath("bigquery/v2/").String()
	}
	return endpoint
}
