// Package limit bounds what a client can make the collector spend: memory,
// time, connections and events. What is refused gets an answer on which an
// honest client tries again.
package limit

import (
	"math"
	"net/http"
	"strconv"
	"time"
)

// Refusal is an error that tells what to answer.
type Refusal struct {
	Status  int
	Code    string
	Message string
	// RetryAfter is when it may work again; zero if it will not.
	RetryAfter time.Duration
}

func (r *Refusal) Error() string { return r.Message }

// Seconds is RetryAfter as the header has it, empty for zero.
func (r *Refusal) Seconds() string {
	if r.RetryAfter <= 0 {
		return ""
	}
	return strconv.Itoa(int(math.Ceil(r.RetryAfter.Seconds())))
}

// Config bounds a server. The zero value of a field is its default.
type Config struct {
	// Requests are being worked on at once, once they are read. So many more would
	// wait for the same disk and processors, and longer than their clients do.
	Requests int
	// Bytes are held of bodies at once, of all requests, as sent and as
	// decompressed.
	Bytes int64
	// Connections are open at once; more wait to be accepted. Of one address there
	// are a quarter of them.
	Connections int
	// Time is what a client may take to send a request, and as long again to take
	// the answer.
	Time time.Duration
}

// The defaults. A page of one visitor sends some events a minute, and a server's
// SDK has a few connections.
const (
	DefaultRequests    = 1024
	DefaultBytes       = 64 << 20
	DefaultConnections = 8192
	DefaultTime        = 20 * time.Second
)

// maxHeader bounds the header of a request. Cookies of a whole site come along
// where the collector is under its name.
const maxHeader = 32 << 10

func (c Config) withDefaults() Config {
	if c.Requests == 0 {
		c.Requests = DefaultRequests
	}
	if c.Bytes == 0 {
		c.Bytes = DefaultBytes
	}
	if c.Connections == 0 {
		c.Connections = DefaultConnections
	}
	if c.Time == 0 {
		c.Time = DefaultTime
	}
	return c
}

// Apply bounds a server that does not run yet: its handler, of which all bodies
// must be read by [Read], header, and times.
func (c Config) Apply(server *http.Server) {
	c = c.withDefaults()
	server.Handler = (&gate{maxRequests: int64(c.Requests), maxBytes: c.Bytes}).handler(server.Handler)
	server.MaxHeaderBytes = maxHeader
	server.ReadHeaderTimeout = min(c.Time, 5*time.Second)
	server.ReadTimeout = c.Time
	server.WriteTimeout = 2 * c.Time
	server.IdleTimeout = 90 * time.Second
}
