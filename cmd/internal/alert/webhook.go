package alert

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	signing "github.com/sluis-cdp/sluis/plugins/webhook"
)

// sendTime bounds one attempt to tell somebody.
const sendTime = 15 * time.Second

// identify names what is told: the same if it has to be sent again.
func identify(parts []string) string {
	digest := sha256.Sum256([]byte(strings.Join(parts, "\n")))
	return "alert_" + hex.EncodeToString(digest[:16])
}

// webhook posts alerts as Standard Webhooks says.
type webhook struct {
	workspace, url string
	secrets        [][]byte
	client         *http.Client
	now            func() time.Time
}

func newWebhook(workspace string, c workspace.AlertWebhook, now func() time.Time) (*webhook, error) {
	text, err := os.ReadFile(c.SecretFile)
	if err != nil {
		return nil, fmt.Errorf("read the secret of the alerts' webhook: %w", err)
	}
	secret, ok := signing.ParseSecret(strings.TrimSpace(string(text)))
	if !ok {
		return nil, fmt.Errorf("%s: a signing secret is whsec_ and base64 of 24 to 64 bytes", c.SecretFile)
	}
	return &webhook{workspace, c.URL, [][]byte{secret}, &http.Client{
		Timeout:       sendTime,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, now}, nil
}

// Name implements Channel.
func (*webhook) Name() string { return "webhook" }

// Send implements Channel.
func (h *webhook) Send(ctx context.Context, id string, notices []Notice) error {
	type data struct {
		Workspace string   `json:"workspace"`
		Alerts    []Notice `json:"alerts"`
	}
	at := h.now().UTC()
	body, err := json.Marshal(struct {
		Type      string    `json:"type"`
		Timestamp time.Time `json:"timestamp"`
		Data      data      `json:"data"`
	}{"sync.alerts", at, data{h.workspace, notices}})
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, bytes.NewReader(body))
	if err != nil {
		return errors.New("the URL of the alerts' webhook is none")
	}
	request.Header.Set("Content-Type", "application/json")
	signing.Sign(request.Header, h.secrets, id, at, body)
	response, err := h.client.Do(request)
	if err != nil {
		return fmt.Errorf("post alerts: %w", errors.Unwrap(err)) // without the URL, which may hold a secret
	}
	defer response.Body.Close()
	_, _ = io.CopyN(io.Discard, response.Body, 64<<10)
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("post alerts: the answer was %d", response.StatusCode)
	}
	return nil
}
