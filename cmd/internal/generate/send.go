package generate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// senders is how many requests are on their way at once. A person's are sent one
// after the other, or a choice could overtake what came before it.
const senders = 32

// patience is how often a request is tried that the collector has no room for.
const patience = 60

// SendTo sends everything to a running collector at a URL. Its devices' clocks are
// wrong by as much as they are, and events say when they happened; but what they
// bring is received now.
func (w *World) SendTo(ctx context.Context, url string, way Way) (Total, error) {
	way.Now = time.Now
	group, ctx := errgroup.WithContext(ctx)
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: senders}}
	defer client.CloseIdleConnections()
	lanes := make([]chan Request, senders)
	for i := range lanes {
		lane := make(chan Request, 16)
		lanes[i] = lane
		group.Go(func() error {
			for r := range lane {
				if err := post(ctx, client, strings.TrimSuffix(url, "/"), r); err != nil {
					return err
				}
			}
			return nil
		})
	}
	total, err := w.Send(ctx, way, func(r Request) error {
		r.Body = bytes.Clone(r.Body)
		select {
		case lanes[r.Person%senders] <- r:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	for _, lane := range lanes {
		close(lane)
	}
	if failed := group.Wait(); failed != nil {
		err = failed // that ended the rest
	}
	return total, err
}

// post sends a request until the collector has taken it.
func post(ctx context.Context, client *http.Client, url string, r Request) error {
	for range patience {
		wait, err := try(ctx, client, url, r)
		if err != nil || wait == 0 {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return errors.New("the collector has had no room for a request for a long time; see its log")
}

// try sends a request once. wait is how long the collector wants to be left alone
// before it is sent again; 0 if it has it.
func try(ctx context.Context, client *http.Client, url string, r Request) (wait time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+r.Path, bytes.NewReader(r.Body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("User-Agent", r.Agent)
	response, err := client.Do(req)
	if err != nil {
		return 0, fmt.Errorf("sending to the collector: %w", err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, 1<<16))
	if err != nil {
		return 0, fmt.Errorf("sending to the collector: %w", err)
	}
	switch response.StatusCode {
	case http.StatusOK:
		return 0, nil
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		seconds, _ := strconv.Atoi(response.Header.Get("Retry-After"))
		return time.Duration(max(1, seconds)) * time.Second, nil
	default:
		return 0, fmt.Errorf("the collector answered %d: %s", response.StatusCode, bytes.TrimSpace(answer))
	}
}
