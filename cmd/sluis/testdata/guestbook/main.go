// guestbook is a destination of Sluis: it keeps a row for each key at a JSON
// interface, by PUT and DELETE of <url>/<key>.
package main

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/plugins/destination/rest"
)

func main() { destination.Serve(&service{}) }

const timeout = 30 * time.Second // of one request

type service struct{ client *rest.Client }

var (
	_ destination.Destination = (*service)(nil)
	_ destination.Validator   = (*service)(nil)
)

// Describe implements destination.Destination. Sluis shows it, and holds the
// program to it: it can connect to the hosts that are named here, and to no other.
func (s *service) Describe() destination.Description {
	return destination.Description{
		Name: "guestbook", Version: "0.1.0",
		Ops:         []destination.Op{destination.Upsert, destination.Remove},
		Granularity: destination.PerRow,
		Idempotent:  true, // a PUT or DELETE that comes again changes nothing
		Config: []destination.Field{
			{Name: "url", Required: true, Help: "the address below which rows are kept, such as https://api.example.org/people"},
			{Name: "token", Required: true, Secret: true, Help: "sent as a bearer token"},
		},
		EgressHosts: []string{"${url}"}, // the host of the URL in that field
		Paced:       true,               // requests wait for their turn, as those of rest.Client do; what the service allows goes into Limits
	}
}

// Validate implements destination.Validator. It does no I/O.
func (s *service) Validate(config map[string]string) error {
	if problem := rest.CheckURL(config["url"]); problem != "" {
		return &destination.ConfigError{Field: "url", Problem: problem}
	}
	return nil
}

// Open implements destination.Destination.
func (s *service) Open(_ context.Context, config map[string]string) error {
	if err := s.Validate(config); err != nil {
		return err
	}
	s.client = rest.New(config["url"], http.Header{"Authorization": {"Bearer " + config["token"]}}, timeout)
	return nil
}

// Write implements destination.Destination. What happens to one row is that row's
// result; an error would mean that nothing is known of any.
func (s *service) Write(ctx context.Context, batch destination.Batch) ([]destination.Result, error) {
	results := make([]destination.Result, len(batch.Changes))
	for i, change := range batch.Changes {
		results[i] = s.write(ctx, batch.Columns, change)
	}
	return results, nil
}

func (s *service) write(ctx context.Context, columns []destination.Column, change destination.Change) destination.Result {
	method, body := http.MethodDelete, any(nil)
	if change.Op == destination.Upsert {
		row := make(map[string]any, len(columns))
		for i, column := range columns {
			row[column.Name] = change.Values[i] // nil is NULL
		}
		method, body = http.MethodPut, row
	}
	answer, err := s.client.Do(ctx, method, "/"+url.PathEscape(change.Key), body)
	if lost, ok := errors.AsType[*rest.LostError](err); ok {
		return lost.Result()
	}
	switch {
	case err != nil:
		return destination.Result{Outcome: destination.Rejected, Code: "not_json", Message: "a value cannot be written as JSON"}
	case answer.Status/100 == 2, answer.Status == http.StatusNotFound && change.Op == destination.Remove:
		return destination.Result{Outcome: destination.Delivered}
	}
	return answer.StatusResult() // the status alone: the service's own words may quote values
}

// Close implements destination.Destination.
func (s *service) Close(context.Context) error {
	if s.client != nil {
		s.client.Close()
	}
	return nil
}
