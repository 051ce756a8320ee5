// Package alert tells people about syncs that do not go as they should: too many
// rows that fail or are rejected, no run for too long, removals held by a guard.
//
// An alert is told when it begins, again at an interval while it goes on, and when
// it is over. What was told is in a file, so that a restart repeats nothing; what
// could not be told is tried again. Texts have names of syncs, counts and ids of
// plans, and nothing of a row.
package alert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/sluis-cdp/sluis/cmd/internal/tracing"
	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	syncer "github.com/sluis-cdp/sluis/sync"
)

// Seen is what is known of a sync after a turn of the scheduler.
type Seen struct {
	Sync     string
	Manual   bool       // it has no schedule to fall behind
	Run      syncer.Run // of this turn; without an id there was none
	Err      error      // why there was none, or what it ended with
	Done     time.Time  // when the last run that came to its end began
	Standing syncer.Standing
}

// Notice is one alert as it is told.
type Notice struct {
	Sync  string    `json:"sync"`
	Rule  Rule      `json:"rule"`
	State State     `json:"state"`
	Since time.Time `json:"since"`
	Text  string    `json:"text"`
}

// Rule is what an alert is about.
type Rule string

// The rules.
const (
	RuleFailed   Rule = "failed_share"
	RuleRejected Rule = "rejected_share"
	RuleStale    Rule = "stale_after"
	RuleHeld     Rule = "held"
)

// State is what is told of an alert.
type State string

// The states.
const (
	Begun   State = "begun"
	Ongoing State = "ongoing" // told before
	Over    State = "over"
)

// Channel is a way to tell people.
type Channel interface {
	Name() string
	// Send tells of all notices at once. The id is the same when they are sent again.
	Send(ctx context.Context, id string, notices []Notice) error
}

// Watch remembers what is wrong, and who was told. It is used by one goroutine.
type Watch struct {
	rules    workspace.Alerts
	file     string
	channels []Channel
	logger   *slog.Logger
	now      func() time.Time

	memory memory
}

// memory is the file.
type memory struct {
	Since  map[string]time.Time `json:"since"` // when a sync was seen first
	Alerts map[string]*alert    `json:"alerts"`
}

type alert struct {
	Notice
	Told map[string]time.Time `json:"told"` // when, by channel
}

// Open makes the watch that a workspace asks for; nil if it asks for none.
func Open(w *workspace.Workspace, logger *slog.Logger, now func() time.Time) (*Watch, error) {
	if w.Alerts == nil {
		return nil, nil
	}
	watch := &Watch{rules: *w.Alerts, file: w.Alerted(), logger: logger, now: now}
	if h := w.Alerts.Webhook; h != nil {
		channel, err := newWebhook(w.Workspace, *h, now)
		if err != nil {
			return nil, err
		}
		watch.channels = append(watch.channels, channel)
	}
	if e := w.Alerts.Email; e != nil {
		channel, err := newEmail(w.Workspace, *e, now)
		if err != nil {
			return nil, err
		}
		watch.channels = append(watch.channels, channel)
	}
	text, err := os.ReadFile(watch.file)
	if err == nil {
		err = json.Unmarshal(text, &watch.memory)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read who was told of alerts: %w: delete %s, and what goes on is told again", err, watch.file)
	}
	return watch, nil
}

// Look compares what was seen with the rules, and tells what is new. A nil Watch
// looks at nothing. What cannot be told is logged, and tried again by the next look.
func (w *Watch) Look(ctx context.Context, seen []Seen) {
	if w == nil {
		return
	}
	w.note(seen)
	for _, channel := range w.channels {
		if err := w.tell(ctx, channel); err != nil {
			w.logger.Error("an alert could not be told; it is tried again", "channel", channel.Name(), "error", err)
		}
	}
	for id, a := range w.memory.Alerts {
		if a.State == Over && len(a.Told) == 0 {
			delete(w.memory.Alerts, id)
		}
	}
	if err := w.save(); err != nil {
		w.logger.Error("it could not be noted who was told of alerts", "error", err)
	}
}

// note brings the alerts up to date. Those of syncs that are no more, and of rules
// that nobody asks for any more, end untold.
func (w *Watch) note(seen []Seen) {
	if w.memory.Alerts == nil {
		w.memory = memory{Since: map[string]time.Time{}, Alerts: map[string]*alert{}}
	}
	now := w.now().UTC()
	there, asked := map[string]bool{}, map[string]bool{} // by sync, and by alert
	for _, s := range seen {
		there[s.Sync] = true
		if _, ok := w.memory.Since[s.Sync]; !ok {
			w.memory.Since[s.Sync] = now
		}
		for _, rule := range w.asked(s) {
			asked[alertID(s.Sync, rule)] = true
		}
		for _, v := range w.judge(s) {
			w.apply(s.Sync, v, now)
		}
	}
	for name := range w.memory.Since {
		if !there[name] {
			delete(w.memory.Since, name)
		}
	}
	for id := range w.memory.Alerts {
		if !asked[id] {
			delete(w.memory.Alerts, id)
		}
	}
}

// asked lists the rules that a sync is held to.
func (w *Watch) asked(s Seen) []Rule {
	var rules []Rule
	for rule, asked := range map[Rule]bool{
		RuleFailed: w.rules.FailedShare > 0, RuleRejected: w.rules.RejectedShare > 0, RuleStale: w.rules.StaleAfter > 0 && !s.Manual, RuleHeld: w.rules.Held,
	} {
		if asked {
			rules = append(rules, rule)
		}
	}
	return rules
}

// alertID names the alert of a rule about a sync.
func alertID(sync string, rule Rule) string { return sync + " " + string(rule) }

func (w *Watch) apply(sync string, v verdict, now time.Time) {
	id := alertID(sync, v.rule)
	a := w.memory.Alerts[id]
	switch {
	case v.broken && a == nil:
		w.memory.Alerts[id] = &alert{Notice{sync, v.rule, Begun, now, v.text}, map[string]time.Time{}}
	case v.broken:
		a.State, a.Text = Ongoing, v.text
	case a != nil && a.State != Over:
		a.State, a.Text = Over, v.text
	}
}

// verdict is what a rule says of a sync.
type verdict struct {
	rule   Rule
	broken bool
	text   string
}

// judge lists what is known now: a rule about runs says nothing without one.
func (w *Watch) judge(s Seen) []verdict {
	var verdicts []verdict
	r := s.Run
	attempted := r.Added + r.Updated + r.Refreshed + r.Removed + r.Failed + r.Skipped
	if limit := float64(w.rules.FailedShare); limit > 0 && r.ID != "" {
		verdicts = append(verdicts, verdict{
			RuleFailed, float64(r.Failed) > limit*float64(attempted),
			fmt.Sprintf("%d of %d rows of the last run failed", r.Failed, attempted),
		})
	}
	if limit := float64(w.rules.RejectedShare); limit > 0 {
		all := s.Standing.Present + s.Standing.Rejected
		verdicts = append(verdicts, verdict{
			RuleRejected, float64(s.Standing.Rejected) > limit*float64(all),
			fmt.Sprintf("%d of %d rows are rejected by the destination: `sluis sync errors %s` tells why", s.Standing.Rejected, all, s.Sync),
		})
	}
	if limit := w.rules.StaleAfter; limit > 0 && !s.Manual {
		since := s.Done
		if first := w.memory.Since[s.Sync]; since.IsZero() {
			since = first
		}
		verdicts = append(verdicts, verdict{
			RuleStale, w.now().Sub(since) > limit,
			fmt.Sprintf("the last run that came to its end began at %s", since.UTC().Format(time.RFC3339)),
		})
	}
	if w.rules.Held {
		held, ok := errors.AsType[*syncer.HeldError](s.Err)
		switch {
		case ok:
			verdicts = append(verdicts, verdict{RuleHeld, true, held.Error()})
		case syncer.Scheduled(r) && s.Err == nil:
			verdicts = append(verdicts, verdict{RuleHeld, false, "no removals are held any more"})
		}
	}
	return verdicts
}

// tell sends what the channel has not been told.
func (w *Watch) tell(ctx context.Context, channel Channel) error {
	now, name := w.now().UTC(), channel.Name()
	var due []*alert
	parts := []string{name}
	for _, a := range w.memory.Alerts {
		told, before := a.Told[name]
		if a.State == Over && before || a.State != Over && (!before || now.Sub(told) >= w.rules.Repeat) {
			due = append(due, a)
			parts = append(parts, fmt.Sprintf("%s %s %t %d %d", a.Sync, a.Rule, a.State == Over, a.Since.UnixNano(), told.UnixNano()))
		}
	}
	if len(due) == 0 {
		return nil
	}
	slices.SortFunc(due, func(a, b *alert) int {
		return strings.Compare(alertID(a.Sync, a.Rule), alertID(b.Sync, b.Rule))
	})
	slices.Sort(parts[1:])
	notices := make([]Notice, len(due))
	for i, a := range due {
		notices[i] = a.Notice
		if _, before := a.Told[name]; !before {
			notices[i].State = Begun
		}
	}
	if err := w.send(ctx, channel, identify(parts), notices); err != nil {
		return err
	}
	for _, a := range due {
		if a.State == Over {
			delete(a.Told, name)
		} else {
			a.Told[name] = now
		}
	}
	return nil
}

// send has a channel tell of notices, in a span.
func (w *Watch) send(ctx context.Context, channel Channel, id string, notices []Notice) error {
	ctx, span := tracing.Begin(ctx, "alert send", trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("sluis.alert.channel", channel.Name()), attribute.Int("sluis.alert.notices", len(notices))))
	class := ""
	err := channel.Send(ctx, id, notices)
	if err != nil {
		class = "not_told"
	}
	tracing.End(span, class)
	return err
}

// save replaces the file.
func (w *Watch) save() error {
	text, err := json.Marshal(w.memory)
	if err != nil {
		return err
	}
	aside := w.file + ".new"
	if err := os.WriteFile(aside, text, 0o600); err != nil {
		return err
	}
	return os.Rename(aside, w.file)
}
