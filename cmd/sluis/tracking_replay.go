package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sluis-cdp/sluis/cmd/internal/edge"
	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/consent"
	"github.com/sluis-cdp/sluis/consent/seal"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

func replayCommand() *cli.Command {
	return &cli.Command{
		Name:  "replay",
		Usage: "take the events in quarantine through the steps again, after the plan was mended",
		Description: "Each event is taken as if it came when it did, under the plan of today, for the purposes that\n" +
			"were granted then and that nobody has refused since; models of consent are built first. What still\n" +
			"departs from the plan stays in quarantine. It may be interrupted and repeated: each event lands once.\n" +
			"It needs the private key of the purpose necessary. Run one at a time for a warehouse.",
		Flags: []cli.Flag{
			jsonFlag(),
			&cli.StringFlag{Name: "source", Usage: "only the events of this source"},
		},
		Action: func(c *cli.Context) (err error) {
			w, err := openWorkspace(c)
			if err != nil {
				return err
			}
			counts, err := replay(c, w, c.String("source"))
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(c.App.Writer, counts)
			}
			lines := make([][]string, len(counts))
			for i, n := range counts {
				lines[i] = []string{n.Outcome, strconv.FormatInt(n.N, 10), n.Reason}
			}
			printTable(c.App.Writer, []string{"outcome", "events", "reason"}, lines)
			return nil
		},
	}
}

// replayCount is how many events came to the same end.
type replayCount struct {
	Outcome string `json:"outcome"` // "quarantined" for those that stay
	Reason  string `json:"reason,omitempty"`
	N       int64  `json:"n"`
}

// replay lands what was replayed before it returns, also with an error.
func replay(c *cli.Context, w *workspace.Workspace, source string) (counts []replayCount, err error) {
	ctx := c.Context
	opener, err := seal.NewOpener(ctx, w.Keyring(), w.Workspace, []string{string(consent.Necessary)})
	if err != nil {
		return nil, err
	}
	r, err := edge.OpenReplayer(ctx, w, newLogger(c))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Land(ctx)) }()
	if err := sweep(ctx, w, "sluis tracking replay", newLogger(c), c.App.ErrWriter); err != nil { // it brings the list of the erased up to date
		return nil, err
	}
	if _, err := r.Suppressed.Reread(); err != nil {
		return nil, err
	}
	db, err := openWarehouse(ctx, w, "sluis tracking replay", c.App.ErrWriter)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := buildConsent(c, w, db); err != nil {
		return nil, err
	}
	run := replayRun{db: db, replayer: r, opener: opener, counts: make(map[replayCount]int64)}
	err = run.all(ctx, source)
	return run.sorted(), err
}

// buildConsent brings up to date what the models say of consent.
func buildConsent(c *cli.Context, w *workspace.Workspace, db warehouse.Driver) error {
	project, err := loadProject(w, false, newLogger(c), nil)
	if err != nil {
		return err
	}
	results, err := project.Run(c.Context, db, "+consent_profile")
	if err != nil {
		return err
	}
	for _, result := range results {
		if !done(result) {
			return fmt.Errorf("nothing was replayed: the model %s was not built, and what people have refused since is not known: %s", result.Name, result.Message)
		}
	}
	return nil
}

type replayRun struct {
	db       warehouse.Driver
	replayer *edge.Replayer
	opener   *seal.Opener
	counts   map[replayCount]int64 // N is 0 in the keys
}

// atOnce is how many events are open at a time.
const atOnce = 200

// replayQuery gives the events that wait, of one source or, for "", of all, with
// the records of their keys.
const replayQuery = `
	select q.quarantine_id, q.source_id, q.type, q.event, q.reason, q.path, q.received_at, q.key_id, q.ciphertext,
		k.purpose, k.recipient, k.psk_id, k.encapsulated_key
	from sluis.quarantine as q
	left join (select key_id, any_value(purpose) as purpose, any_value(recipient) as recipient, any_value(psk_id) as psk_id,
		any_value(encapsulated_key) as encapsulated_key from sluis.seal_keys group by key_id) as k on k.key_id = q.key_id
	where ` + waiting + ` and (q.source_id = ? or ? = '')
	order by q.received_at, q.quarantine_id`

// all takes the waiting events in the order they came.
func (r *replayRun) all(ctx context.Context, source string) (err error) {
	rows, err := r.db.Query(ctx, replayQuery, source, source)
	if err != nil {
		return fmt.Errorf("reading the quarantine: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var some []*collector.Opened
	for rows.Next() {
		if o := r.open(ctx, sealedEvent(rows.Row())); o != nil {
			some = append(some, o)
		}
		if len(some) == atOnce {
			if err := r.some(ctx, some); err != nil {
				return err
			}
			some = nil
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("reading the quarantine: %w", err)
	}
	return r.some(ctx, some)
}

func sealedEvent(row []any) collector.Sealed {
	text := func(i int) string { s, _ := row[i].(string); return s } // NULL is empty
	bytes := func(i int) []byte { b, _ := row[i].([]byte); return b }
	s := collector.Sealed{QuarantineRow: collector.QuarantineRow{
		QuarantineID: text(0), SourceID: text(1), Type: text(2), Event: text(3), Reason: text(4), Path: text(5),
		KeyID: text(7), Ciphertext: bytes(8),
	}}
	s.ReceivedAt, _ = row[6].(time.Time)
	s.Key = seal.DataKey{ID: s.KeyID, Purpose: text(9), Recipient: text(10), PSKID: text(11), EncapsulatedKey: bytes(12)}
	return s
}

// open returns nil for an event that has to stay.
func (r *replayRun) open(ctx context.Context, s collector.Sealed) *collector.Opened {
	o, err := r.replayer.Open(ctx, r.opener, s)
	if err == nil {
		return o
	}
	reason := "it cannot be opened"
	for _, known := range []error{collector.ErrNoSource, collector.ErrNotWhole, seal.ErrNoKey, seal.ErrCannotOpen} {
		if errors.Is(err, known) {
			reason = "it cannot be opened: " + known.Error()
		}
	}
	r.counts[replayCount{Outcome: string(collector.Quarantined), Reason: reason}]++
	return nil
}

// some replays events that are open.
func (r *replayRun) some(ctx context.Context, events []*collector.Opened) error {
	if len(events) == 0 {
		return nil
	}
	known, err := r.known(ctx, events)
	if err != nil {
		return err
	}
	for _, o := range events {
		today := collector.Today{Landed: known.landed[o.EventID]}
		for _, pseudonym := range o.Pseudonyms {
			today.Erased = today.Erased || r.replayer.Suppressed.Holds(pseudonym, o.OccurredAt)
			today.Refused = append(today.Refused, known.refused[pseudonym]...)
		}
		outcome, reason, err := r.replayer.Replay(ctx, o, today)
		if err != nil {
			return err
		}
		r.counts[replayCount{Outcome: string(outcome), Reason: reason}]++
	}
	return nil
}

// knowledge is what the warehouse has on some events and pseudonyms.
type knowledge struct {
	landed  map[string]bool // by event id
	refused map[string][]consent.Purpose
}

// known asks the warehouse. A refusal counts whenever it was made, of the
// identifier itself or of any other of the same profile.
func (r *replayRun) known(ctx context.Context, events []*collector.Opened) (knowledge, error) {
	k := knowledge{make(map[string]bool), make(map[string][]consent.Purpose)}
	var ids, pseudonyms []any
	for _, o := range events {
		ids = append(ids, o.EventID)
		for _, p := range o.Pseudonyms {
			pseudonyms = append(pseudonyms, p)
		}
	}
	err := r.each(ctx, "select distinct event_id, '' from sluis.events where event_id in (%s)", ids, func(id, _ string) { k.landed[id] = true })
	refuse := func(p, purpose string) { k.refused[p] = append(k.refused[p], consent.Purpose(purpose)) }
	own := r.each(ctx, "select node_key, purpose from sluis_models.consent_node_effective where not granted and node_key in (%s)", pseudonyms, refuse)
	others := r.each(ctx, `select m.node_key, c.purpose from sluis_models.identity_map as m
		join sluis_models.consent_profile as c on c.profile_id = m.profile_id where not c.allowed and m.node_key in (%s)`, pseudonyms, refuse)
	return k, errors.Join(err, own, others)
}

// each asks about some keys, in a query that has a place for them.
func (r *replayRun) each(ctx context.Context, query string, keys []any, do func(key, value string)) error {
	if len(keys) == 0 {
		return nil
	}
	places := strings.TrimSuffix(strings.Repeat("?, ", len(keys)), ", ")
	rows, err := warehouse.Collect(ctx, r.db, fmt.Sprintf(query, places), keys...)
	if err != nil {
		return fmt.Errorf("asking what is known by now: %w", err)
	}
	for _, row := range rows {
		do(row[0].(string), row[1].(string))
	}
	return nil
}

func (r *replayRun) sorted() []replayCount {
	list := make([]replayCount, 0, len(r.counts))
	for key, n := range r.counts {
		key.N = n
		list = append(list, key)
	}
	slices.SortFunc(list, func(a, b replayCount) int {
		return cmp.Or(cmp.Compare(a.Outcome, b.Outcome), cmp.Compare(b.N, a.N), cmp.Compare(a.Reason, b.Reason))
	})
	return list
}
