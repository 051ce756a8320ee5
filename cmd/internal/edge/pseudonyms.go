package edge

import (
	"context"
	"fmt"
	"time"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/consent/seal"
	"github.com/sluis-cdp/sluis/consent/seal/remote"
)

// NewPseudonymizer makes pseudonyms as the workspace says. The client, by which
// it asks the service, is nil in local mode. Nothing is asked yet.
func NewPseudonymizer(ctx context.Context, w *workspace.Workspace, keys seal.Keyring) (*seal.Pseudonymizer, *remote.Client, error) {
	p := w.Pseudonyms
	if p.IsLocal() {
		made, err := seal.NewPseudonymizer(ctx, keys, w.Workspace, w.PhoneRegion)
		return made, nil, err
	}
	tls, err := remote.Files{CA: p.CA, Certificate: p.Certificate, Key: p.Key}.ClientTLS()
	if err != nil {
		return nil, nil, err
	}
	client, err := remote.NewClient(remote.ClientConfig{URL: p.Service, TLS: tls, Timeout: p.Timeout})
	if err != nil {
		return nil, nil, err
	}
	made, err := seal.NewServedPseudonymizer(ctx, keys, w.Workspace, w.PhoneRegion, seal.Service{
		Mode: p.Mode, Evaluator: client, PublicKey: p.Pinned(),
	})
	return made, client, err
}

// serviceAway is a check of the readiness: other collectors may reach the service.
func (h *health) serviceAway(context.Context) string {
	client := h.service()
	if client == nil {
		return ""
	}
	if since := client.Down(); !since.IsZero() {
		return fmt.Sprintf("the pseudonym service has not answered since %s; it is tried again as events come", since.UTC().Format(time.RFC3339))
	}
	return ""
}
