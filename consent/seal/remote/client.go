package remote

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/sluis-cdp/sluis/consent/seal"
)

// ClientConfig is what a Client is made of. URL and TLS are required.
type ClientConfig struct {
	URL string // of the service, such as https://pseudonyms.internal:8486
	TLS *tls.Config
	// Timeout is for one try, of which there are two; zero is 3 seconds.
	Timeout time.Duration
	Now     func() time.Time
}

// Client is a seal.Evaluator that asks a Server. It may be used concurrently.
//
// A request that fails is tried once more. After several that failed in a row the
// service is given up for a while: what comes meanwhile fails at once, instead of
// waiting for a timeout each, and then one request finds out whether it is back.
type Client struct {
	url     string
	http    *http.Client
	timeout time.Duration
	now     func() time.Time
	circuit circuit
}

// NewClient makes a Client; it connects when it is first asked.
func NewClient(c ClientConfig) (*Client, error) {
	base, err := url.Parse(c.URL)
	if err != nil || base.Scheme != "https" || base.Host == "" || base.Path != "" && base.Path != "/" || base.RawQuery != "" {
		return nil, errors.New("the pseudonym service needs an address such as https://pseudonyms.internal:8486")
	}
	if c.Timeout <= 0 {
		c.Timeout = 3 * time.Second
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	transport := &http.Transport{
		TLSClientConfig: c.TLS, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 32, IdleConnTimeout: time.Minute,
		TLSHandshakeTimeout: c.Timeout,
	}
	base.Path = path
	return &Client{
		url: base.String(), timeout: c.Timeout, now: c.Now,
		http: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}, nil
}

// Close gives up idle connections. Requests that are being made end as they do.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Down tells since when the service cannot be reached; zero if it can, or if
// nobody has tried.
func (c *Client) Down() time.Time { return c.circuit.downSince() }

// errOpen is the answer while the service is given up.
var errOpen = errors.New("it did not answer, and is tried again later")

// Evaluate implements seal.Evaluator.
func (c *Client) Evaluate(ctx context.Context, version int, blinded [][]byte, proof bool) (seal.Evaluation, error) {
	if wait := c.circuit.wait(c.now()); wait > 0 {
		return seal.Evaluation{}, &seal.UnavailableError{RetryAfter: wait, Err: errOpen}
	}
	answer, err := c.try(ctx, version, blinded, proof)
	if err != nil && err.again && pause(ctx) {
		answer, err = c.try(ctx, version, blinded, proof)
	}
	switch {
	case err == nil:
		c.circuit.succeeded()
		return answer, nil
	case ctx.Err() != nil: // whoever asked has gone, which says nothing of the service
		c.circuit.abandoned()
		return seal.Evaluation{}, &seal.UnavailableError{RetryAfter: time.Second, Err: context.Cause(ctx)}
	case err.answered: // it is there, and does not want to
		c.circuit.succeeded()
	default:
		c.circuit.failed(c.now())
	}
	return seal.Evaluation{}, &seal.UnavailableError{RetryAfter: max(err.after, time.Second), Err: err}
}

// pause waits a little before the second try, not all at the same time; false if
// there is no use.
func pause(ctx context.Context) bool {
	timer := time.NewTimer(20*time.Millisecond + rand.N(60*time.Millisecond))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// failure is a try that came to nothing. Its text has nothing of the answer.
type failure struct {
	message  string
	cause    error
	again    bool          // another try may help
	answered bool          // the service is there
	after    time.Duration // when it says that it may help
}

func (f *failure) Error() string {
	if f.cause != nil {
		return f.message + ": " + f.cause.Error()
	}
	return f.message
}

func (f *failure) Unwrap() error { return f.cause }

func (c *Client) try(ctx context.Context, version int, blinded [][]byte, proof bool) (seal.Evaluation, *failure) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	target := c.url + "?version=" + strconv.Itoa(version)
	if proof {
		target += "&proof=1"
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(bytes.Join(blinded, nil)))
	if err != nil {
		return seal.Evaluation{}, &failure{message: "making a request", cause: err}
	}
	request.Header.Set("Content-Type", contentType)
	response, err := c.http.Do(request)
	if err != nil {
		return seal.Evaluation{}, &failure{message: "asking", cause: err, again: true}
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return seal.Evaluation{}, refusal(response, version)
	}
	return readAnswer(response.Body, len(blinded), proof)
}

func readAnswer(body io.Reader, n int, proof bool) (seal.Evaluation, *failure) {
	size, want := n*seal.ElementSize, n*seal.ElementSize
	if proof {
		want += seal.ProofSize
	}
	text := make([]byte, want)
	if _, err := io.ReadFull(body, text); err != nil {
		return seal.Evaluation{}, &failure{message: "its answer is cut off", cause: err, again: true}
	}
	answer := seal.Evaluation{Elements: split(text[:size])}
	if proof {
		answer.Proof = text[size:]
	}
	return answer, nil
}

// refusal is what a status means to those who run the collector.
func refusal(response *http.Response, version int) *failure {
	f := &failure{answered: true}
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil && seconds > 0 {
		f.after = time.Duration(seconds) * time.Second
	}
	switch status := response.StatusCode; status {
	case http.StatusTooManyRequests:
		f.message = "it limits how much this collector may ask; raise --rate, --burst or --quota of the service if that is right"
	case http.StatusForbidden:
		f.message, f.after = "it does not know this collector: name it with --collector of the service, or give it another certificate", time.Minute
	case http.StatusNotFound:
		f.message, f.after = fmt.Sprintf("it has no key of version %d: bring it the one of the collector's version", version), time.Minute
	case http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusGatewayTimeout:
		f.message, f.again, f.answered = fmt.Sprintf("it answers %d", status), true, false
	default:
		f.message, f.answered = fmt.Sprintf("it answers %d", status), false
	}
	return f
}

// circuit gives the service up for a while. The zero value is a service of which
// nothing is known.
type circuit struct {
	mu       sync.Mutex
	failures int // in a row
	since    time.Time
	until    time.Time // nobody asks before
	probing  bool      // one is asking after that
}

// How long the service is given up: after so many failures, for so long, and
// twice as long each time.
const (
	tolerated   = 3
	shortest    = time.Second
	longest     = 30 * time.Second
	maxDoubling = 5
)

// wait is how long nobody should ask; zero lets the caller ask, who then has to
// say what came of it.
func (c *circuit) wait(now time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.failures < tolerated:
		return 0
	case now.Before(c.until):
		return c.until.Sub(now)
	case c.probing:
		return shortest
	}
	c.probing = true
	return 0
}

func (c *circuit) succeeded() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failures, c.since, c.until, c.probing = 0, time.Time{}, time.Time{}, false
}

// abandoned is neither.
func (c *circuit) abandoned() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.probing = false
}

func (c *circuit) failed(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failures == 0 {
		c.since = now
	}
	c.failures++
	c.probing = false
	if over := c.failures - tolerated; over >= 0 {
		c.until = now.Add(min(shortest<<min(over, maxDoubling), longest))
	}
}

func (c *circuit) downSince() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failures < tolerated {
		return time.Time{}
	}
	return c.since
}
