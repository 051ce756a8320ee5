// Command sdk makes the calls with one SDK: sdk SDK HOST WRITE_KEY CALLS.json
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	rudder "github.com/rudderlabs/analytics-go/v4"
	segment "github.com/segmentio/analytics-go/v3"
)

// call is one call of the script.
type call struct {
	Call string
	Send message
}

type message struct {
	AnonymousID, UserID, GroupID, PreviousID string
	Event, Name                              string
	Properties, Traits, Context              map[string]any
	Integrations                             map[string]any
	Timestamp                                time.Time
}

func main() {
	if err := run(os.Args[1], os.Args[2], os.Args[3], os.Args[4]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(sdk, host, writeKey, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var calls []call
	if err := json.Unmarshal(text, &calls); err != nil {
		return err
	}
	if sdk == "github.com/segmentio/analytics-go/v3" {
		return sendSegment(host, writeKey, calls)
	}
	return sendRudder(host, writeKey, calls)
}

// outcomes takes the news of each message. A client that is closed while it
// tries again gives up, so that all are awaited first.
type outcomes chan error

func (o outcomes) await(n int) (err error) {
	for range n {
		err = errors.Join(err, <-o)
	}
	return err
}

type segmentOutcomes struct{ outcomes }

func (o segmentOutcomes) Success(segment.Message)            { o.outcomes <- nil }
func (o segmentOutcomes) Failure(_ segment.Message, e error) { o.outcomes <- e }

func sendSegment(host, writeKey string, calls []call) error {
	out := make(outcomes, len(calls))
	client, err := segment.NewWithConfig(writeKey, segment.Config{Endpoint: host, Callback: segmentOutcomes{out}, BatchSize: len(calls)})
	if err != nil {
		return err
	}
	for _, c := range calls {
		m := c.Send
		context := &segment.Context{}
		if err := fill(context, m.Context, &context.Extra); err != nil {
			return err
		}
		var message segment.Message
		switch c.Call {
		case "track":
			message = segment.Track{AnonymousId: m.AnonymousID, UserId: m.UserID, Event: m.Event, Properties: m.Properties, Integrations: m.Integrations, Timestamp: m.Timestamp, Context: context}
		case "page":
			message = segment.Page{AnonymousId: m.AnonymousID, UserId: m.UserID, Name: m.Name, Properties: m.Properties, Timestamp: m.Timestamp, Context: context}
		case "screen":
			message = segment.Screen{AnonymousId: m.AnonymousID, UserId: m.UserID, Name: m.Name, Properties: m.Properties, Timestamp: m.Timestamp, Context: context}
		case "identify":
			message = segment.Identify{AnonymousId: m.AnonymousID, UserId: m.UserID, Traits: m.Traits, Timestamp: m.Timestamp, Context: context}
		case "group":
			message = segment.Group{AnonymousId: m.AnonymousID, UserId: m.UserID, GroupId: m.GroupID, Traits: m.Traits, Timestamp: m.Timestamp, Context: context}
		case "alias":
			message = segment.Alias{PreviousId: m.PreviousID, UserId: m.UserID, Timestamp: m.Timestamp, Context: context}
		}
		if err := client.Enqueue(message); err != nil {
			return err
		}
	}
	return errors.Join(out.await(len(calls)), client.Close())
}

type rudderOutcomes struct{ outcomes }

func (o rudderOutcomes) Success(rudder.Message)            { o.outcomes <- nil }
func (o rudderOutcomes) Failure(_ rudder.Message, e error) { o.outcomes <- e }

func sendRudder(host, writeKey string, calls []call) error {
	out := make(outcomes, len(calls))
	client, err := rudder.NewWithConfig(writeKey, rudder.Config{DataPlaneUrl: host, Callback: rudderOutcomes{out}, BatchSize: len(calls)})
	if err != nil {
		return err
	}
	for _, c := range calls {
		m := c.Send
		context := &rudder.Context{}
		if err := fill(context, m.Context, &context.Extra); err != nil {
			return err
		}
		var message rudder.Message
		switch c.Call {
		case "track":
			message = rudder.Track{AnonymousId: m.AnonymousID, UserId: m.UserID, Event: m.Event, Properties: m.Properties, Integrations: m.Integrations, OriginalTimestamp: m.Timestamp, Context: context}
		case "page":
			message = rudder.Page{AnonymousId: m.AnonymousID, UserId: m.UserID, Name: m.Name, Properties: m.Properties, OriginalTimestamp: m.Timestamp, Context: context}
		case "screen":
			message = rudder.Screen{AnonymousId: m.AnonymousID, UserId: m.UserID, Name: m.Name, Properties: m.Properties, OriginalTimestamp: m.Timestamp, Context: context}
		case "identify":
			message = rudder.Identify{AnonymousId: m.AnonymousID, UserId: m.UserID, Traits: m.Traits, OriginalTimestamp: m.Timestamp, Context: context}
		case "group":
			message = rudder.Group{AnonymousId: m.AnonymousID, UserId: m.UserID, GroupId: m.GroupID, Traits: m.Traits, OriginalTimestamp: m.Timestamp, Context: context}
		case "alias":
			message = rudder.Alias{PreviousId: m.PreviousID, UserId: m.UserID, OriginalTimestamp: m.Timestamp, Context: context}
		}
		if err := client.Enqueue(message); err != nil {
			return err
		}
	}
	return errors.Join(out.await(len(calls)), client.Close())
}

// fill fills an SDK's context, and its extra map with the consent, for which
// it has no field.
func fill(context any, values map[string]any, extra *map[string]any) error {
	text, err := json.Marshal(values)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, context); err != nil {
		return err
	}
	if consent, ok := values["consent"]; ok {
		*extra = map[string]any{"consent": consent}
	}
	return nil
}
