package host

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/sluis-cdp/sluis/plugins/destination"
	destinationv1 "github.com/sluis-cdp/sluis/plugins/proto/destination/v1"
)

// maxAsks is how many requests of a plugin may wait for their turns at once. What is
// more is refused: a plugin must not be able to fill the host's memory.
const maxAsks = 1000

// paces relays what a plugin asks before its requests to the [destination.Pacer] of the
// call that is under way. Without one requests go out at once; without a call, such as
// of one that nobody waits for any more, none does.
type paces struct {
	end     func()     // ends the stream; nil if the plugin does not ask
	sending sync.Mutex // held for as long as the plugin does not read, and so by nothing else

	mu    sync.Mutex // guards what follows
	call  context.Context
	pacer destination.Pacer // of the latest call, for what is heard when it is over
}

// pace begins to answer the plugin. It returns once the plugin asks.
func (p *Plugin) pace(ctx context.Context) error {
	lasting, end := context.WithCancel(context.Background())
	stop := context.AfterFunc(ctx, end)
	stream, err := p.rpc.Pace(lasting)
	if err == nil {
		_, err = stream.Recv() // it says nothing
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		end()
		return p.callError("pace", err)
	}
	p.paces.end = end
	go p.paces.answer(stream)
	return nil
}

// during notes that a call has begun, by whose pacer requests go out until the function
// that it returns is called.
func (p *paces) during(ctx context.Context) func() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.call, p.pacer = ctx, destination.PacerOf(ctx)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.call = nil
	}
}

// under returns the context of the call that is under way, or one that has ended, and
// the pacer of the latest call.
func (p *paces) under() (context.Context, destination.Pacer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.call == nil {
		ended, end := context.WithCancel(context.Background())
		end()
		return ended, p.pacer
	}
	return p.call, p.pacer
}

// answer ends when the stream does.
func (p *paces) answer(stream grpc.BidiStreamingClient[destinationv1.PaceRequest, destinationv1.PaceResponse]) {
	asks := make(chan struct{}, maxAsks)
	for {
		said, err := stream.Recv()
		if err != nil {
			return
		}
		ctx, pacer := p.under()
		if u := said.GetUsage(); u != nil && pacer != nil {
			pacer.Observe(said.GetLimit(), destination.Usage{Remaining: int(min(u.GetRemaining(), math.MaxInt32)), Reset: duration(u.GetResetMs())})
		}
		if said.GetAsk() == 0 {
			continue
		}
		reply := func(err error) {
			p.sending.Lock()
			defer p.sending.Unlock()
			_ = stream.Send(verdict(said.GetAsk(), err)) // if it fails Recv does, too
		}
		select {
		case asks <- struct{}{}:
			go func() {
				reply(errors.Join(ctx.Err(), destination.Await(ctx, said.GetLimit())))
				<-asks
			}()
		default:
			reply(&destination.LimitError{RetryAfter: time.Second})
		}
	}
}

func verdict(ask uint64, err error) *destinationv1.PaceRequest {
	answer := &destinationv1.PaceRequest{Ask: ask, Refused: err != nil}
	if limit, ok := errors.AsType[*destination.LimitError](err); ok {
		answer.RetryAfterMs = (limit.RetryAfter + time.Millisecond - 1).Milliseconds()
	}
	return answer
}

// duration is a number of milliseconds that a plugin said, within bounds.
func duration(ms int64) time.Duration {
	const most = 31 * 24 * time.Hour
	return time.Duration(min(max(ms, 0), most.Milliseconds())) * time.Millisecond
}
