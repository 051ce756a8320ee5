package main

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/sluis-cdp/sluis/collector/snippet"
)

//go:embed demo/shop.html demo/shop.js
var demoFiles embed.FS

// receiver is the demo's destination: a webhook endpoint that verifies each
// signature and keeps, in memory, what a mailing tool would: who is a member.
type receiver struct {
	verify *standardwebhooks.Webhook

	mu      sync.Mutex
	members map[string]string // profile id → e-mail address
	log     []string
	refused int // messages whose signature was wrong
}

// delivery is the part of the webhook's body that the receiver reads.
type delivery struct {
	Data struct {
		Sync string
		Rows []struct {
			Op, Key, Reason string
			Fields          map[string]any
		}
	}
}

func newReceiver(secret string) (*receiver, error) {
	verify, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return nil, fmt.Errorf("reading the webhook's secret: %w", err)
	}
	return &receiver{verify: verify, members: make(map[string]string)}, nil
}

func (rc *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		rc.show(w)
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 10<<20))
	if err != nil {
		http.Error(w, "unreadable", http.StatusBadRequest)
		return
	}
	rc.mu.Lock()
	defer rc.mu.Unlock()
	if err := rc.verify.Verify(body, r.Header); err != nil {
		rc.refused++
		http.Error(w, "wrong signature", http.StatusUnauthorized)
		return
	}
	var d delivery
	if err := json.Unmarshal(body, &d); err != nil {
		http.Error(w, "not JSON", http.StatusBadRequest)
		return
	}
	for _, row := range d.Data.Rows {
		email, _ := row.Fields["email"].(string)
		line := fmt.Sprintf("%s  %s  %s", row.Op, row.Key, email)
		if row.Op == "remove" {
			line = fmt.Sprintf("remove  %s  (%s, %s)", row.Key, rc.members[row.Key], row.Reason)
			delete(rc.members, row.Key)
		} else {
			rc.members[row.Key] = email
		}
		rc.log = append(rc.log, line)
	}
}

// snapshot returns the members, the log and how many messages were refused.
func (rc *receiver) snapshot() (emails map[string]bool, log []string, refused int) {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	emails = make(map[string]bool)
	for _, email := range rc.members {
		emails[email] = true
	}
	return emails, append([]string(nil), rc.log...), rc.refused
}

var receiverPage = template.Must(template.New("").Parse(`<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="2">
<title>Receiver</title><style>body{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:3rem auto;padding:0 1rem}</style>
<h1>What the webhook received</h1><p>{{len .Members}} members of pricing_and_chat now. Each line came with a verified signature.</p>
<pre>{{range .Log}}{{.}}
{{end}}</pre>`))

func (rc *receiver) show(w http.ResponseWriter) {
	members, log, _ := rc.snapshot()
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if err := receiverPage.Execute(w, map[string]any{"Members": members, "Log": log}); err != nil {
		return // the reader is gone
	}
}

// shop serves the shop page, under every path. It asks for the snippet's tag when
// somebody looks, since the collector is told of the shop's origin before it starts.
func shop(tag func() (snippet.Tag, error), receiver string) http.Handler {
	page := template.Must(template.ParseFS(demoFiles, "demo/shop.html"))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) {
		t, err := tag()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		err = page.Execute(w, map[string]any{"Receiver": receiver, "Snippet": template.HTML(t.InlineStub() + "\n" + t.Script())})
		if err != nil {
			return // the visitor is gone
		}
	})
	mux.HandleFunc("GET /shop.js", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFileFS(w, r, demoFiles, "demo/shop.js")
	})
	return mux
}

// serve serves on a free port of this machine until stop is called.
func serve(ctx context.Context, handler http.Handler) (url string, stop func() error, err error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	return "http://" + listener.Addr().String(), func() error {
		err := server.Close()
		if e := <-ended; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, e)
		}
		return err
	}, nil
}
