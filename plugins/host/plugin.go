package host

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluis-cdp/sluis/plugins/destination"
	destinationv1 "github.com/sluis-cdp/sluis/plugins/proto/destination/v1"
)

// ErrEnded is wrapped by the errors of calls that the plugin's process did not
// live through. Start the plugin again to go on.
var ErrEnded = errors.New("the plugin's process has ended")

const (
	// closeTimeout bounds a plugin's flush where the caller's context does not.
	closeTimeout = 30 * time.Second
	// endTimeout is how long a process may take to end once it is asked to.
	endTimeout = 3 * time.Second

	maxBatchID = 100 // leaves room for what split adds

	maxWords = 300 // in characters: codes, messages and errors of a plugin
	maxToken = 1000
)

// Plugin is a running plugin. It is a [destination.Destination], and also a
// Validator, a Checker, a Poller and an Updater whatever the plugin is; Poll
// returns [errors.ErrUnsupported] if it gives no receipts, and so does
// OpenToUpdate if its description does not say UpdateOnly.
//
// As with any Destination calls must not overlap, but Kill may come at any
// time, and Prepare beside a Write. Every call ends when its context does,
// however the plugin behaves: give each a deadline. If the plugin's description
// says Paced, its requests go out as the [destination.Pacer] of the call's
// context says.
type Plugin struct {
	name        string
	process     *process
	client      *plugin.Client
	sockets     *socketDir
	way         *egress // nil if the plugin is not confined
	rpc         destinationv1.DestinationServiceClient
	description destination.Description
	joined      bool // it reads lists of strings that are joined
	paces       paces
	ready       readyBatches
}

var (
	_ destination.Destination     = (*Plugin)(nil)
	_ destination.Checker         = (*Plugin)(nil)
	_ destination.Poller          = (*Plugin)(nil)
	_ destination.TargetDescriber = (*Plugin)(nil)
	_ destination.Updater         = (*Plugin)(nil)
	_ destination.Validator       = (*Plugin)(nil)
)

// Describe returns what the plugin said at its start.
func (p *Plugin) Describe() destination.Description { return p.description }

// Validate implements [destination.Validator]. It takes no context, as it does
// no I/O; the plugin has as long as it would have for its start.
func (p *Plugin) Validate(config map[string]string) error {
	if err := isText(config); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), defaultStartTimeout)
	defer cancel()
	answer, err := p.rpc.Validate(ctx, &destinationv1.ValidateRequest{Config: config})
	if err != nil {
		return p.callError("validate", err)
	}
	return configError(answer.GetProblem())
}

// Open implements [destination.Destination].
func (p *Plugin) Open(ctx context.Context, config map[string]string) error {
	return p.open(ctx, &destinationv1.OpenRequest{Config: config})
}

// OpenToUpdate implements [destination.Updater]. A plugin that does not know of
// it would make what is not there, so it is not asked.
func (p *Plugin) OpenToUpdate(ctx context.Context, config map[string]string) error {
	if !p.description.UpdateOnly {
		return fmt.Errorf("plugin %s: open to update: %w", p.name, errors.ErrUnsupported)
	}
	return p.open(ctx, &destinationv1.OpenRequest{Config: config, UpdateOnly: true})
}

func (p *Plugin) open(ctx context.Context, request *destinationv1.OpenRequest) error {
	config := request.GetConfig()
	if err := isText(config); err != nil {
		return err
	}
	if p.way != nil {
		p.way.configure(config)
	}
	defer p.paces.during(ctx)()
	answer, err := p.rpc.Open(ctx, request)
	if err != nil {
		return p.callError("open", err)
	}
	return configError(answer.GetProblem())
}

// Check implements [destination.Checker].
func (p *Plugin) Check(ctx context.Context) error {
	defer p.paces.during(ctx)()
	if _, err := p.rpc.Check(ctx, &destinationv1.CheckRequest{}); err != nil {
		return p.callError("check", err)
	}
	return nil
}

// DescribeTarget implements [destination.TargetDescriber]: the fields of the
// description, and those that the outside system itself tells of.
func (p *Plugin) DescribeTarget(ctx context.Context) (destination.Target, error) {
	defer p.paces.during(ctx)()
	answer, err := p.rpc.DescribeTarget(ctx, &destinationv1.DescribeTargetRequest{})
	if status.Code(err) == codes.Unimplemented {
		return p.description.Target, nil
	}
	if err != nil {
		return destination.Target{}, p.callError("describe target", err)
	}
	target := decodeTarget(answer.GetFields(), answer.GetClosed())
	if err := target.Check(); err != nil {
		return destination.Target{}, fmt.Errorf("plugin %s broke the protocol: %w", p.name, err)
	}
	return target, nil
}

// Write implements [destination.Destination]. It sends the batch in as many
// messages as its size and the plugin's limit ask for; split the same way each
// time, each has an id of its own made of the batch's.
//
// Values of fields for which the description names a form are brought into it
// first, so that the process never holds them in clear; see [normalize.Batch].
// The message of a row that was sent without one of them says so.
//
// A change that cannot be sent at all is Rejected by the host, with the code
// "invalid_utf8" or "too_large". If a batch was split and the plugin fails
// midway, the changes that it was busy with are Unknown, with the code
// "plugin_failed", those not yet sent are to be retried, with the code
// "not_sent", and the error is nil, since something is known.
func (p *Plugin) Write(ctx context.Context, batch destination.Batch) ([]destination.Result, error) {
	r := p.ready.take(batch)
	if r == nil {
		r = p.prepare(batch)
	}
	if r.err != nil {
		return nil, r.err
	}
	defer p.paces.during(ctx)()
	defer r.noteDropped()
	for i, part := range r.parts {
		err := p.writePart(ctx, part, r.results)
		if err == nil {
			continue
		}
		if i == 0 {
			return nil, err
		}
		giveUp(part, r.parts[i+1:], err, r.results)
		break
	}
	return r.results, nil
}

// writePart sends one message and puts the results where the rows came from.
func (p *Plugin) writePart(ctx context.Context, part part, results []destination.Result) error {
	if err := p.encode(&part); err != nil {
		return err
	}
	answer, err := p.rpc.Write(ctx, nil, grpc.ForceCodecV2(part.request))
	if err != nil {
		return fmt.Errorf("batch %s, nothing is known of its changes: %w", part.batch.ID, p.callError("write", err))
	}
	decoded, err := decodeResults(answer, len(part.batch.Changes))
	if err == nil {
		err = part.batch.CheckResults(decoded)
	}
	if err != nil {
		return fmt.Errorf("plugin %s broke the protocol, nothing is known of its changes: %w", p.name, err)
	}
	for i, r := range decoded {
		results[part.rows[i]] = r
	}
	return nil
}

// giveUp fills in the results of a batch whose part failed.
func giveUp(failed part, unsent []part, err error, results []destination.Result) {
	for _, row := range failed.rows {
		results[row] = destination.Result{
			Outcome: destination.Unknown, Code: "plugin_failed", Message: shorten(err.Error(), maxWords),
		}
	}
	for _, part := range unsent {
		for _, row := range part.rows {
			results[row] = destination.Result{
				Outcome: destination.Retry, Code: "not_sent", Message: "the plugin failed before this change was sent",
			}
		}
	}
}

// Poll implements [destination.Poller].
func (p *Plugin) Poll(ctx context.Context, receipts []string) ([]destination.Settlement, error) {
	defer p.paces.during(ctx)()
	answer, err := p.rpc.PollReceipts(ctx, &destinationv1.PollReceiptsRequest{Receipts: receipts})
	if err != nil {
		return nil, p.callError("poll receipts", err)
	}
	settlements, err := decodeSettlements(answer.GetSettlements(), receipts)
	if err != nil {
		return nil, fmt.Errorf("plugin %s broke the protocol: %w", p.name, err)
	}
	return settlements, nil
}

// Close asks the plugin to flush, then ends the process. An error means that
// what Write reported delivered may not be durable; the process has ended all
// the same.
func (p *Plugin) Close(ctx context.Context) error {
	defer p.Kill()
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	defer p.paces.during(ctx)()
	if _, err := p.rpc.Close(ctx, &destinationv1.CloseRequest{}); err != nil {
		return p.callError("close", err)
	}
	if p.paces.end != nil {
		p.paces.end()
	}
	timer := time.AfterFunc(endTimeout, p.process.kill)
	defer timer.Stop()
	p.client.Kill() // asks first
	return nil
}

// Kill ends the process, which loses what the plugin has buffered, and removes
// its socket. It may be called at any time, also again.
func (p *Plugin) Kill() {
	// go-plugin would first ask the plugin to end, and wait for its answer
	// without a bound. So it finds a process that is dead already.
	p.process.kill()
	if p.paces.end != nil {
		p.paces.end()
	}
	p.client.Kill()
	if p.way != nil {
		p.way.close()
	}
	p.sockets.remove()
}

// callError says what a failed call means. The words of a plugin are kept
// short.
func (p *Plugin) callError(call string, err error) error {
	prefix := fmt.Sprintf("plugin %s: %s", p.name, call)
	words := shorten(status.Convert(err).Message(), maxWords)
	switch status.Code(err) { //nolint:exhaustive // the rest are the plugin's own words
	case codes.DeadlineExceeded:
		return fmt.Errorf("%s: no answer in time: %w", prefix, context.DeadlineExceeded)
	case codes.Canceled:
		if how, ended := p.process.ended(0); ended {
			return fmt.Errorf("%s: %w (%s)", prefix, ErrEnded, how)
		}
		return fmt.Errorf("%s: %w", prefix, context.Canceled)
	case codes.Unimplemented:
		return fmt.Errorf("%s: %w", prefix, errors.ErrUnsupported)
	case codes.Unavailable:
		// The connection broke. The process is a moment behind it.
		if how, ended := p.process.ended(endTimeout); ended {
			return fmt.Errorf("%s: %w (%s); its last words are in the log", prefix, ErrEnded, how)
		}
	}
	return fmt.Errorf("%s: %s", prefix, words)
}

// isText refuses a configuration that no message can carry.
func isText(config map[string]string) error {
	for name, value := range config {
		if !utf8.ValidString(name) || !utf8.ValidString(value) {
			return &destination.ConfigError{Field: strings.ToValidUTF8(name, "\uFFFD"), Problem: "is not valid UTF-8"}
		}
	}
	return nil
}

func configError(problem *destinationv1.ConfigProblem) error {
	if problem == nil {
		return nil
	}
	return &destination.ConfigError{
		Field:   shorten(problem.GetField(), maxWords),
		Problem: shorten(problem.GetProblem(), maxWords),
	}
}
