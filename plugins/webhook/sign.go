package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const secretPrefix = "whsec_"

// ParseSecret reads a signing secret as Standard Webhooks writes it: whsec_ and the
// base64 of 24 to 64 bytes. It reports whether the text is one.
func ParseSecret(text string) (secret []byte, ok bool) {
	encoded, ok := strings.CutPrefix(text, secretPrefix)
	secret, err := base64.StdEncoding.DecodeString(encoded)
	return secret, ok && err == nil && len(secret) >= 24 && len(secret) <= 64
}

// Sign sets the headers by which a receiver knows a message, its time and who sent
// it, as Standard Webhooks has them. The id is the same when a message is sent
// again; of several secrets, as while one replaces another, each signs.
func Sign(header http.Header, secrets [][]byte, id string, at time.Time, body []byte) {
	signatures := make([]string, len(secrets))
	for i, secret := range secrets {
		mac := hmac.New(sha256.New, secret)
		mac.Write(fmt.Appendf(nil, "%s.%d.", id, at.Unix())) // a hash's Write never fails
		mac.Write(body)
		signatures[i] = "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	header.Set("webhook-id", id)
	header.Set("webhook-timestamp", strconv.FormatInt(at.Unix(), 10))
	header.Set("webhook-signature", strings.Join(signatures, " "))
}
