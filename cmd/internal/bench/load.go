package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// result is what one load of one server showed.
type result struct {
	perSecond   float64 // events answered with 200
	p50, p99    time.Duration
	cpuPerEvent time.Duration // of the server
	rss         int64         // of the server, at its highest, in bytes
}

func median(results []result, figure func(result) float64) float64 {
	figures := make([]float64, len(results))
	for i, r := range results {
		figures[i] = figure(r)
	}
	slices.Sort(figures)
	if len(figures) == 0 {
		return 0
	}
	return figures[len(figures)/2]
}

// usage is what a server has used so far.
type usage struct {
	cpu time.Duration
	rss int64
}

// warmUp is part of the load before anything is measured: the first segment is
// made, and memory grows to what the load needs.
const warmUp = 500 * time.Millisecond

// customers is how many people the events are about. All are known to the
// server before anything is measured: what a new one costs, mostly the
// pseudonyms of what can be guessed, is for `go test -bench` in consent/seal.
const customers = 2000

// introduce lets the server see every customer once.
func introduce(ctx context.Context, address string) error {
	l := load{1, 100}
	c, err := dial(ctx, address, l, 0xffff)
	if err != nil {
		return err
	}
	defer c.conn.Close() //nolint:errcheck // nothing was left to say
	for range customers / l.batch * personalEvery {
		if err := c.exchange(); err != nil {
			return err
		}
	}
	return nil
}

// generate sends from as many connections as the load has, each request after
// the answer to the one before, and measures after the warm-up.
func generate(ctx context.Context, address string, l load, duration time.Duration, used func() (usage, error)) (result, error) {
	ctx, cancel := context.WithTimeout(ctx, warmUp+duration)
	defer cancel()
	var measuring atomic.Bool
	latencies := make([][]time.Duration, l.connections)
	failures := make([]error, l.connections)
	var wg sync.WaitGroup
	for i := range l.connections {
		wg.Go(func() { latencies[i], failures[i] = send(ctx, address, l, i, &measuring) })
	}
	select {
	case <-ctx.Done():
	case <-time.After(warmUp):
	}
	before, err := used()
	if err != nil {
		return result{}, err
	}
	began := time.Now()
	measuring.Store(true)
	<-ctx.Done()
	took := time.Since(began)
	after, err := used()
	wg.Wait()
	if err := errors.Join(append(failures, err)...); err != nil {
		return result{}, err
	}
	all := slices.Concat(latencies...)
	slices.Sort(all)
	if len(all) == 0 {
		return result{}, errors.New("no request was answered")
	}
	events := len(all) * l.batch
	return result{
		perSecond: float64(events) / took.Seconds(), p50: all[len(all)/2], p99: all[len(all)*99/100],
		cpuPerEvent: (after.cpu - before.cpu) / time.Duration(events), rss: after.rss,
	}, nil
}

// send is one connection.
func send(ctx context.Context, address string, l load, number int, measuring *atomic.Bool) (latencies []time.Duration, err error) {
	c, err := dial(ctx, address, l, number)
	if err != nil {
		return nil, err
	}
	defer c.conn.Close() //nolint:errcheck // nothing was left to say
	for ctx.Err() == nil {
		began := time.Now()
		if err := c.exchange(); err != nil {
			return nil, err
		}
		if measuring.Load() {
			latencies = append(latencies, time.Since(began))
		}
	}
	return latencies, nil
}

// connection sends one request after the other.
type connection struct {
	conn     net.Conn
	answers  *bufio.Reader
	requests [2]*request // without personal data, and with some
	sent     int
}

func dial(ctx context.Context, address string, l load, number int) (*connection, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := &connection{conn: conn, answers: bufio.NewReader(conn)}
	for i := range c.requests {
		c.requests[i] = newRequest(l, 2*number+i, i)
	}
	return c, nil
}

// exchange sends the next request and waits for its answer.
func (c *connection) exchange() error {
	r := c.requests[0]
	if c.sent++; c.sent%personalEvery == 0 || len(r.ids) > 1 {
		r = c.requests[1]
	}
	if _, err := c.conn.Write(r.next()); err != nil {
		return err
	}
	answer, err := http.ReadResponse(c.answers, nil) //nolint:bodyclose // it is read to its end, which is all that closing does
	if err != nil {
		return err
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK || bytes.Contains(body, []byte("notLanded")) {
		return fmt.Errorf("answered %s: %s", answer.Status, body)
	}
	return nil
}

// writeKey is that of the source that everything is sent to.
const writeKey = "wk_bench"

// personalEvery: one in so many events brings an address and a phone number.
const personalEvery = 5

// An event is of about 1 KB. All is agreed to, so that no step is passed over.
const (
	eventTemplate = `{"type":"track","event":"Product Viewed","messageId":"00000000-0000-4000-8000-############","anonymousId":"0~~~~~~~-6a31-4f0e-9a55-0b7c1f6e6a31",` +
		`"userId":"customer-~~~~~~~","timestamp":"2026-03-01T12:00:00.000Z","properties":{"sku":"S-1042","name":"Lamp, brass","category":"Lighting",` +
		`"price":129.90,"quantity":1,"tags":["new","brass","lamp"],"text":"A lamp of brass that gives a warm light, for the table beside the bed or for the desk."},` +
		`"context":{%s"consent":{"categoryPreferences":{"identity":true,"analytics":true,"personalization":true,"marketing":true,"advertising":true,"sale":false}},` +
		`"page":{"url":"https://shop.example/lamps/brass?utm_source=news&utm_medium=email","path":"/lamps/brass","title":"Lamp, brass","referrer":"https://search.example/"},` +
		`"library":{"name":"analytics.js","version":"2.1.0"},"locale":"en-GB","timezone":"Europe/Amsterdam","screen":{"width":1920,"height":1080},` +
		`"userAgent":"Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"}}`
	personalTemplate = `"traits":{"email":"v~~~~~~~@example.com","phone":"+3161~~~~~~~"},`
)

// request is the bytes of a request whose ids are made anew for each sending.
type request struct {
	bytes     []byte
	ids       []int   // where the message ids are, by event
	customers [][]int // where the customer's number is, by event
	number    int
	sent      int
}

// newRequest makes a request of which every fifth event, beginning with the
// first, has personal data; with personal 0 and a single event it has none.
func newRequest(l load, number, personal int) *request {
	r := &request{number: number}
	events := make([]string, l.batch)
	for i := range events {
		traits := ""
		if i%personalEvery == 0 && personal > 0 {
			traits = personalTemplate
		}
		events[i] = fmt.Sprintf(eventTemplate, traits)
	}
	path, body := "/v1/track", events[0]
	if l.batch > 1 {
		path, body = "/v1/batch", `{"batch":[`+strings.Join(events, ",")+`]}`
	}
	head := "POST " + path + " HTTP/1.1\r\nHost: collector\r\nContent-Type: application/json\r\nX-Write-Key: " + writeKey + "\r\nContent-Length: "
	r.bytes = []byte(head + strconv.Itoa(len(body)) + "\r\n\r\n" + body)
	for at := range r.bytes {
		switch {
		case bytes.HasPrefix(r.bytes[at:], []byte("############")):
			r.ids = append(r.ids, at)
			r.customers = append(r.customers, nil)
		case bytes.HasPrefix(r.bytes[at:], []byte("~~~~~~~")):
			last := len(r.customers) - 1
			r.customers[last] = append(r.customers[last], at)
		}
	}
	return r
}

// next is the request with message ids that no other request has, about other
// customers than the last.
func (r *request) next() []byte {
	for i, at := range r.ids {
		r.sent++
		copy(r.bytes[at:], fmt.Sprintf("%05x%07x", r.number, r.sent))
		customer := fmt.Appendf(nil, "%07d", (r.number*7919+r.sent/personalEvery)%customers)
		for _, at := range r.customers[i] {
			copy(r.bytes[at:], customer)
		}
	}
	return r.bytes
}
