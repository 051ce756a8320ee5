package alert

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
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
	secret         []byte
	client         *http.Client
	now            func() time.Time
}

func newWebhook(workspace string, c workspace.AlertWebhook, now func() time.Time) (*webhook, error) {
	text, err := os.ReadFile(c.SecretFile)
	if err != nil {
		return nil, fmt.Errorf("read the secret of the alerts' webhook: %w", err)
	}
	encoded, ok := strings.CutPrefix(strings.TrimSpace(string(text)), "whsec_")
	secret, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil || len(secret) < 24 || len(secret) > 64 {
		return nil, fmt.Errorf("%s: a signing secret is whsec_ and base64 of 24 to 64 bytes", c.SecretFile)
	}
	return &webhook{workspace, c.URL, secret, &http.Client{
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
	seconds := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, h.secret)
	mac.Write([]byte(id + "." + seconds + ".")) // a hash's Write never fails
	mac.Write(body)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("webhook-id", id)
	request.Header.Set("webhook-timestamp", seconds)
	request.Header.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
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
