package destination

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	destinationv1 "github.com/sluis-cdp/sluis/plugins/proto/destination/v1"
)

const (
	// maxMessage bounds a message from the host, which sends far smaller ones.
	// gRPC's own bound, 4 MiB, is too near to the host's.
	maxMessage = 16 << 20
	// readBuffer is about what a batch of 1,000 rows has: with gRPC's own, 32 KiB, host
	// and plugin take turns ten times for one.
	readBuffer = 256 << 10
)

// Serve offers d to the host that started this process. It is the whole of a
// plugin's main: it returns when the host asks the plugin to end, and ends the
// process at once when the host is gone. Nothing may be printed to standard
// output before; what is printed after is dropped. http.DefaultTransport takes
// the way out that the plugin has; see [EgressProxy].
func Serve(d Destination) {
	if transport, ok := http.DefaultTransport.(*http.Transport); ok {
		transport.Proxy = EgressProxy
	}
	collectSeldom()
	go endWithHost(os.Stdin)
	server := newServer(d)
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: plugin.HandshakeConfig{
			MagicCookieKey:   destinationv1.HandshakeKey,
			MagicCookieValue: destinationv1.HandshakeValue,
		},
		VersionedPlugins: map[int]plugin.PluginSet{
			destinationv1.ProtocolVersion: {destinationv1.PluginName: &served{server: server}},
		},
		GRPCServer: func(opts []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(opts, grpc.MaxRecvMsgSize(maxMessage), grpc.ReadBufferSize(readBuffer), grpc.ChainUnaryInterceptor(contain, server.paced))...)
		},
		Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: os.Stderr, JSONFormat: true}),
	})
}

// collectSeldom has the garbage collector run less often than it does by default, which
// for a process with little that lives and much that passes through takes a third of its
// time: until the heap is about to become too large for a plugin that is confined. What
// the environment says goes before.
func collectSeldom() {
	const usual, percent, heap = 100, 400, 640 << 20
	if said := debug.SetGCPercent(percent); said != usual {
		debug.SetGCPercent(said)
	} else if debug.SetMemoryLimit(-1) == math.MaxInt64 {
		debug.SetMemoryLimit(heap)
	}
}

// contain makes an error of a panic: where it was and of which type, and never
// what it said, since that may hold values and would be printed.
func contain(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (answer any, err error) {
	defer func() {
		if said := recover(); said != nil {
			err = status.Errorf(codes.Internal, "the destination panicked with a %T in %s", said, panicked())
		}
	}()
	return handler(ctx, request)
}

// panicked is the function and line that the panic under way began in.
func panicked() string {
	var callers [32]uintptr
	frames := runtime.CallersFrames(callers[:runtime.Callers(1, callers[:])])
	begun := false
	for {
		frame, more := frames.Next()
		if begun && !strings.HasPrefix(frame.Function, "runtime.") || !more {
			return fmt.Sprintf("%s, line %d", frame.Function, frame.Line)
		}
		begun = begun || frame.Function == "runtime.gopanic"
	}
}

// endWithHost ends the process at the end of its standard input. The host
// holds the other end of that pipe and never writes, so its end means that the
// host is gone, however it went. What a call is doing then is cut off: nobody
// is left to take its result, and the host's successor sends the batch again.
func endWithHost(stdin io.Reader) {
	_, _ = io.Copy(io.Discard, stdin)
	os.Exit(1) //nolint:forbidigo // there is no caller to return to, main is inside Serve
}

// served registers the server with go-plugin.
type served struct {
	plugin.NetRPCUnsupportedPlugin
	server destinationv1.DestinationServiceServer
}

func (p *served) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	destinationv1.RegisterDestinationServiceServer(s, p.server)
	return nil
}

func (p *served) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.New("a plugin is not a host")
}

// server turns calls over the wire into calls of a Destination, one at a time.
type server struct {
	destinationv1.UnimplementedDestinationServiceServer
	destination Destination
	turn        chan struct{} // holds a token while a call runs
	opened      bool          // guarded by turn
	pacer       atomic.Pointer[asking]
}

func newServer(d Destination) *server {
	return &server{destination: d, turn: make(chan struct{}, 1)}
}

// acquire waits for the call before to end. The host does not overlap calls,
// but one that ran into its deadline may still be finishing here.
func (s *server) acquire(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return status.Error(codes.DeadlineExceeded, "the call before this one has not ended yet")
	}
}

func (s *server) release() { <-s.turn }

// acquireOpen is acquire for calls that must follow Open.
func (s *server) acquireOpen(ctx context.Context) error {
	if err := s.acquire(ctx); err != nil {
		return err
	}
	if !s.opened {
		s.release()
		return status.Error(codes.FailedPrecondition, "the destination is not open")
	}
	return nil
}

func (s *server) Describe(context.Context, *destinationv1.DescribeRequest) (*destinationv1.DescribeResponse, error) {
	return encodeDescription(s.destination.Describe()), nil
}

func (s *server) Validate(ctx context.Context, in *destinationv1.ValidateRequest) (*destinationv1.ValidateResponse, error) {
	if err := s.acquire(ctx); err != nil {
		return nil, err
	}
	defer s.release()
	problem, err := configProblem(Validate(s.destination, in.GetConfig()))
	if err != nil {
		return nil, err
	}
	return &destinationv1.ValidateResponse{Problem: problem}, nil
}

func (s *server) Open(ctx context.Context, in *destinationv1.OpenRequest) (*destinationv1.OpenResponse, error) {
	if err := s.acquire(ctx); err != nil {
		return nil, err
	}
	defer s.release()
	if s.opened {
		return nil, status.Error(codes.FailedPrecondition, "the destination is open already")
	}
	err := s.destination.Describe().Validate(in.GetConfig())
	if err == nil {
		err = Open(ctx, s.destination, in.GetConfig(), in.GetUpdateOnly())
	}
	s.opened = err == nil
	problem, err := configProblem(err)
	if err != nil {
		return nil, err
	}
	return &destinationv1.OpenResponse{Problem: problem}, nil
}

func (s *server) Check(ctx context.Context, _ *destinationv1.CheckRequest) (*destinationv1.CheckResponse, error) {
	if err := s.acquireOpen(ctx); err != nil {
		return nil, err
	}
	defer s.release()
	if c, ok := s.destination.(Checker); ok {
		if err := c.Check(ctx); err != nil {
			return nil, status.Error(codes.Unknown, err.Error())
		}
	}
	return &destinationv1.CheckResponse{}, nil
}

func (s *server) DescribeTarget(ctx context.Context, _ *destinationv1.DescribeTargetRequest) (*destinationv1.DescribeTargetResponse, error) {
	describer, ok := s.destination.(TargetDescriber)
	if !ok {
		return nil, status.Error(codes.Unimplemented, "this destination's fields are those of its description")
	}
	if err := s.acquireOpen(ctx); err != nil {
		return nil, err
	}
	defer s.release()
	target, err := describer.DescribeTarget(ctx)
	if err != nil {
		return nil, status.Error(codes.Unknown, err.Error())
	}
	return &destinationv1.DescribeTargetResponse{Fields: encodeFields(target.Fields), Closed: target.Closed}, nil
}

func (s *server) Write(ctx context.Context, in *destinationv1.WriteRequest) (*destinationv1.WriteResponse, error) {
	if err := s.acquireOpen(ctx); err != nil {
		return nil, err
	}
	defer s.release()
	batch, err := decodeBatch(in)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	results, err := s.destination.Write(ctx, batch)
	if err != nil {
		return nil, status.Error(codes.Unknown, err.Error())
	}
	return encodeResults(in, results), nil
}

func (s *server) PollReceipts(ctx context.Context, in *destinationv1.PollReceiptsRequest) (*destinationv1.PollReceiptsResponse, error) {
	poller, ok := s.destination.(Poller)
	if !ok {
		return nil, status.Error(codes.Unimplemented, "this destination gives no receipts")
	}
	if err := s.acquireOpen(ctx); err != nil {
		return nil, err
	}
	defer s.release()
	settlements, err := poller.Poll(ctx, in.GetReceipts())
	if err != nil {
		return nil, status.Error(codes.Unknown, err.Error())
	}
	return &destinationv1.PollReceiptsResponse{Settlements: encodeSettlements(settlements)}, nil
}

func (s *server) Close(ctx context.Context, _ *destinationv1.CloseRequest) (*destinationv1.CloseResponse, error) {
	if err := s.acquire(ctx); err != nil {
		return nil, err
	}
	defer s.release()
	s.opened = false
	if err := s.destination.Close(ctx); err != nil {
		return nil, status.Error(codes.Unknown, err.Error())
	}
	return &destinationv1.CloseResponse{}, nil
}

// configProblem tells apart what the person who configures must mend, which
// is an answer, and any other error, which is a status.
func configProblem(err error) (*destinationv1.ConfigProblem, error) {
	if err == nil {
		return nil, nil
	}
	if problem, ok := errors.AsType[*ConfigError](err); ok {
		return &destinationv1.ConfigProblem{Field: problem.Field, Problem: problem.Problem}, nil
	}
	return nil, status.Error(codes.Unknown, err.Error())
}
