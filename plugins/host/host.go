// Package host starts, verifies, limits and ends the processes of destination
// plugins.
//
// A plugin is another's code that is handed personal data, so it is given
// nothing else: not the host's environment, not its standard input, not its
// fate. What it is and says is checked: the digest of its executable, its
// description, the number and kind of its results, the size of its replies.
package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/plugins/destination/normalize"
	destinationv1 "github.com/sluis-cdp/sluis/plugins/proto/destination/v1"
)

// Config says which plugin to start and how.
type Config struct {
	// Name is used in errors and logs.
	Name string
	Path string
	Args []string // without the program's name
	// SHA256 is the digest of the file at Path, in hexadecimal. It is verified
	// at each start, and there is no way around it.
	SHA256 string
	// Env is the plugin's environment, as "NAME=value". None of the host's own
	// is added.
	Env []string
	// Confine is for programs of others: it keeps the process to what it is
	// given. Nil trusts the program as much as the host itself.
	Confine *Confinement
	// StartTimeout bounds the time to the first answer; 0 means ten seconds.
	StartTimeout time.Duration
	// TempDir is where the plugin's socket goes, in a directory of its own; ""
	// means the system's. What killed hosts left there is swept.
	TempDir string
	Logger  *slog.Logger // required
}

const (
	defaultStartTimeout = 10 * time.Second

	// maxReply bounds a reply: a plugin must not be able to fill the host's
	// memory. 1,000 results with long messages are a tenth of it.
	maxReply = 8 << 20

	// writeBuffer is about what a batch of 1,000 rows has; as the SDK reads it.
	writeBuffer = 256 << 10
)

// Start starts a plugin and asks it to describe itself. The process lives
// until Close or Kill; ctx and StartTimeout bound the start only. If Start
// fails, nothing is left behind.
//
// On Linux the bytes that were verified are the bytes that run: the file is
// copied into memory that is sealed against writing, hashed there and executed
// there, whatever becomes of the file. So it must be a program and not a script.
// On other systems the path is verified and then executed.
func Start(ctx context.Context, c Config) (*Plugin, error) {
	p, err := start(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("start plugin %s: %w", c.Name, err)
	}
	return p, nil
}

func start(ctx context.Context, c Config) (*Plugin, error) {
	if c.StartTimeout == 0 {
		c.StartTimeout = defaultStartTimeout
	}
	if c.Confine != nil && c.Confine.Memory == 0 {
		c.Confine = &Confinement{Egress: c.Confine.Egress, Memory: defaultMemory}
	}
	logger := c.Logger.With("plugin", c.Name)
	file, err := openVerified(c.Path, c.SHA256, c.Confine != nil)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // only read
	sockets, err := newSocketDir(c.TempDir, logger)
	if err != nil {
		return nil, err
	}

	p := &Plugin{name: c.Name, sockets: sockets, process: newProcess(file, c)}
	if c.Confine != nil {
		p.way = newEgress(c.Confine.Egress, logger)
		p.process.confined = &confined{scratch: sockets.path, memory: c.Confine.Memory, way: p.way}
	}
	p.client = newClient(c, sockets.path, p.process, logger)

	// Killing the process is what ends every wait in go-plugin, so it is also
	// how the start's bounds are kept.
	startCtx, cancel := context.WithTimeout(ctx, c.StartTimeout)
	defer cancel()
	stop := context.AfterFunc(startCtx, p.process.kill)
	err = p.connect(startCtx)
	if !stop() {
		err = fmt.Errorf("no answer in time: %w", startCtx.Err())
	}
	if err != nil {
		p.Kill()
		return nil, err
	}
	return p, nil
}

// newClient configures go-plugin. SecureConfig is not used: it hashes a path,
// and openVerified has hashed the file that runs.
func newClient(c Config, sockets string, process *process, logger *slog.Logger) *plugin.Client {
	return plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig: plugin.HandshakeConfig{
			MagicCookieKey:   destinationv1.HandshakeKey,
			MagicCookieValue: destinationv1.HandshakeValue,
		},
		VersionedPlugins: map[int]plugin.PluginSet{
			destinationv1.ProtocolVersion: {destinationv1.PluginName: &dispensed{}},
		},
		RunnerFunc: func(_ hclog.Logger, spec *exec.Cmd, _ string) (runner.Runner, error) {
			// With SkipHostEnv, this is what go-plugin itself has to say.
			process.cmd.Env = append(process.cmd.Env, spec.Env...)
			return process, nil
		},
		SkipHostEnv:      true,
		AutoMTLS:         true,
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		StartTimeout:     c.StartTimeout,
		UnixSocketConfig: &plugin.UnixSocketConfig{TempDir: sockets},
		GRPCDialOptions: []grpc.DialOption{
			grpc.WithWriteBufferSize(writeBuffer),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxReply)),
		},
		Logger: newLogger(logger),
	})
}

// connect starts the process, shakes hands and asks for the description.
func (p *Plugin) connect(ctx context.Context) error {
	protocol, err := p.client.Client()
	if err != nil {
		return err
	}
	raw, err := protocol.Dispense(destinationv1.PluginName)
	if err != nil {
		return err
	}
	rpc, ok := raw.(destinationv1.DestinationServiceClient)
	if !ok {
		return fmt.Errorf("go-plugin dispensed a %T", raw)
	}
	p.rpc = rpc
	answer, err := rpc.Describe(ctx, &destinationv1.DescribeRequest{})
	if err != nil {
		return p.callError("describe", err)
	}
	p.description, p.joined = decodeDescription(answer), answer.GetJoinedStrings()
	for _, f := range p.description.Target.Fields {
		if f.Form != "" && !normalize.Known(f.Form) {
			return fmt.Errorf("it wants the field %s in the form %q, which this version of Sluis does not have: upgrade Sluis", f.Name, shorten(f.Form, maxWords))
		}
	}
	if err := p.description.Check(); err != nil || !p.description.Paced {
		return err
	}
	return p.pace(ctx)
}

// dispensed makes the client of a connection for go-plugin.
type dispensed struct {
	plugin.NetRPCUnsupportedPlugin
}

func (*dispensed) GRPCServer(*plugin.GRPCBroker, *grpc.Server) error {
	return errors.New("a host is not a plugin")
}

func (*dispensed) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return destinationv1.NewDestinationServiceClient(conn), nil
}

// decodeDescription takes what the plugin says; Description.Check judges it.
func decodeDescription(in *destinationv1.DescribeResponse) destination.Description {
	d := destination.Description{
		Name:        in.GetName(),
		Version:     in.GetVersion(),
		Granularity: destination.Granularity(in.GetRowGranularity()),
		Idempotent:  in.GetIdempotent(),
		UpdateOnly:  in.GetUpdateOnly(),
		MaxRows:     int(min(in.GetMaxRows(), math.MaxInt32)),
		EgressHosts: in.GetEgressHosts(),
		Target:      decodeTarget(in.GetFields(), in.GetClosed()),
		Paced:       in.GetPaced(),
	}
	for _, op := range in.GetOperations() {
		d.Ops = append(d.Ops, destination.Op(op))
	}
	for _, f := range in.GetConfigFields() {
		d.Config = append(d.Config, destination.Field{
			Name: f.GetName(), Required: f.GetRequired(), Secret: f.GetSecret(), Help: f.GetHelp(), Account: f.GetAccount(),
		})
	}
	for _, l := range in.GetLimits() {
		d.Limits = append(d.Limits, destination.Limit{
			Name: l.GetName(), Requests: int(min(l.GetRequests(), math.MaxInt32)), Rows: int(min(l.GetRows(), math.MaxInt32)),
			Per: time.Duration(min(max(l.GetPerMs(), 0), math.MaxInt64/int64(time.Millisecond))) * time.Millisecond,
		})
	}
	return d
}

// shorten makes what a plugin says fit for a log or a table: one line, and not
// a long one.
func shorten(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	if len(s) <= limit {
		return s
	}
	if runes := []rune(s); len(runes) > limit {
		return string(runes[:limit]) + "…"
	}
	return s
}

// Self returns the running program's path and digest, for plugins that are
// built in: the same program, started again with arguments.
//
// On Linux the path stands for the running file even after an upgrade has
// replaced it on disk, so host and plugin are always of one build.
func Self() (path, sha256 string, err error) {
	path, err = selfPath()
	if err != nil {
		return "", "", fmt.Errorf("find the running program: %w", err)
	}
	file, err := os.Open(path)
	if err != nil {
		return "", "", fmt.Errorf("open the running program: %w", err)
	}
	defer file.Close() //nolint:errcheck // only read
	sha256, err = digest(file)
	return path, sha256, err
}
