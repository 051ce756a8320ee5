package destination

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	destinationv1 "github.com/sluis-cdp/sluis/plugins/proto/destination/v1"
)

// Limit is how many requests an outside system takes from an account.
type Limit struct {
	// Name is which requests it is for: those that [Await] it by this name. There
	// may be several of one name, which all hold. Those without a name are for all
	// requests whose name has none.
	Name     string
	Requests int           // so many in any span of Per
	Per      time.Duration // whole milliseconds
	// Rows is about how many rows so many requests write, so that a plan can tell
	// how long it takes; 0 if rows are written by others.
	Rows int
}

// Usage is how far a limit is used up, as an answer of the outside system says: it
// takes no more than Remaining further requests before Reset is over. Where it says to
// come back later, Remaining is 0.
type Usage struct {
	Remaining int
	Reset     time.Duration
}

// LimitError says that a request was not made, since its turn would have come too late.
type LimitError struct {
	RetryAfter time.Duration
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("the limit on requests is reached for %v", e.RetryAfter)
}

// Pacer says when requests go out. Its methods may be called concurrently.
type Pacer interface {
	// Await returns when a request may go out under a limit. The error is a
	// [*LimitError], or of ctx; then it may not.
	Await(ctx context.Context, limit string) error
	// Observe takes what an answer said of a limit.
	Observe(limit string, usage Usage)
}

// Await returns when a request to the outside system may go out. The host knows, as
// others may use the same account: it gives the contexts of calls a [Pacer]. Without
// one a request may go out at once.
//
// A destination whose requests all wait here says Paced in its [Description]. The
// client of the package rest does so by itself.
func Await(ctx context.Context, limit string) error {
	if p := PacerOf(ctx); p != nil {
		return p.Await(ctx, limit)
	}
	return nil
}

// Observe tells the [Pacer] of ctx what an answer said of a limit.
func Observe(ctx context.Context, limit string, usage Usage) {
	if p := PacerOf(ctx); p != nil {
		p.Observe(limit, usage)
	}
}

type pacerKey struct{}

// WithPacer returns a context under which requests go out when p says so; p may be nil.
func WithPacer(ctx context.Context, p Pacer) context.Context {
	return context.WithValue(ctx, pacerKey{}, p)
}

// PacerOf is the pacer of a context, or nil.
func PacerOf(ctx context.Context) Pacer {
	p, _ := ctx.Value(pacerKey{}).(Pacer)
	return p
}

// asking is the pacer of a plugin's process: it asks the host over the wire.
type asking struct {
	stream  grpc.BidiStreamingServer[destinationv1.PaceRequest, destinationv1.PaceResponse]
	ended   chan struct{}
	sending sync.Mutex // not held by who reads, or both sides could wait for each other

	mu      sync.Mutex // guards what follows
	last    uint64
	waiting map[uint64]chan *destinationv1.PaceRequest
}

// Pace implements the protocol's call of that name.
func (s *server) Pace(stream grpc.BidiStreamingServer[destinationv1.PaceRequest, destinationv1.PaceResponse]) error {
	a := &asking{stream: stream, ended: make(chan struct{}), waiting: map[uint64]chan *destinationv1.PaceRequest{}}
	defer close(a.ended)
	if !s.pacer.CompareAndSwap(nil, a) {
		return status.Error(codes.FailedPrecondition, "the host answers already")
	}
	if err := stream.Send(&destinationv1.PaceResponse{}); err != nil {
		return err
	}
	for {
		answer, err := stream.Recv()
		if err != nil {
			return err
		}
		a.mu.Lock()
		if waiting, ok := a.waiting[answer.GetAsk()]; ok {
			delete(a.waiting, answer.GetAsk())
			waiting <- answer // has room for it
		}
		a.mu.Unlock()
	}
}

// Await implements [Pacer].
func (a *asking) Await(ctx context.Context, limit string) error {
	answer, err := a.ask(ctx, limit)
	if err != nil {
		return err
	}
	if answer.GetRefused() {
		return &LimitError{RetryAfter: time.Duration(min(max(answer.GetRetryAfterMs(), 0), math.MaxInt32)) * time.Millisecond}
	}
	return nil
}

func (a *asking) ask(ctx context.Context, limit string) (*destinationv1.PaceRequest, error) {
	answered := make(chan *destinationv1.PaceRequest, 1)
	a.mu.Lock()
	a.last++
	ask := a.last
	a.waiting[ask] = answered
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		delete(a.waiting, ask)
		a.mu.Unlock()
	}()
	if err := a.send(&destinationv1.PaceResponse{Ask: ask, Limit: limit}); err != nil {
		return nil, fmt.Errorf("ask when a request may go out: %w", err)
	}
	select {
	case answer := <-answered:
		return answer, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-a.ended:
		return nil, fmt.Errorf("ask when a request may go out: %w", context.Canceled)
	}
}

func (a *asking) send(m *destinationv1.PaceResponse) error {
	a.sending.Lock()
	defer a.sending.Unlock()
	return a.stream.Send(m)
}

// Observe implements [Pacer]. What cannot be told is lost with the host.
func (a *asking) Observe(limit string, usage Usage) {
	_ = a.send(&destinationv1.PaceResponse{Limit: limit, Usage: &destinationv1.Usage{
		Remaining: uint32(min(max(usage.Remaining, 0), math.MaxInt32)), ResetMs: usage.Reset.Milliseconds(),
	}})
}

// paced gives the context of a call a way to ask the host, if the host answers.
func (s *server) paced(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if a := s.pacer.Load(); a != nil {
		ctx = WithPacer(ctx, a)
	}
	return handler(ctx, request)
}
